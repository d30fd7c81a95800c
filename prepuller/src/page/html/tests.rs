use super::*;
use crate::overview::{NextTry, Overview, Wave};
use crate::page::tests::sample::{self, failed, fleet, node, of_nodes};

fn shown(overview: &Overview, query: &str) -> String {
    page(&View::new(overview, &Query::parse(query))).into_string()
}

#[test]
fn nothing_that_comes_from_outside_becomes_html() {
    let evil = "<script>alert('x')</script>\"><img src=x onerror=alert(1)>&amp;";
    let mut troubled = node(evil, 6);
    troubled.images[0] = failed(2, evil);
    let mut off = node("off", 6);
    off.not_eligible = Some(evil.to_owned());
    let mut overview = of_nodes(vec![troubled, off]);
    overview.scan.problem = Some(evil.to_owned());
    for image in &mut overview.images {
        image.name = evil.to_owned();
        image.why = evil.to_owned();
        image.wave =
            Wave::Stopped { node: evil.into(), error: evil.to_owned(), next: NextTry::Now { node: evil.into() } };
    }
    let query: String = url::form_urlencoded::byte_serialize(evil.as_bytes()).collect();
    for query in [String::new(), format!("missing={query}"), format!("node={query}")] {
        let html = shown(&overview, &query);
        assert!(!html.contains("<img") && !html.contains("alert('x')</script>"), "{html}");
        assert_eq!(html.matches("<script").count(), 1, "only the page's own script");
        assert!(html.contains("&lt;script&gt;"), "{html}");
    }
}

#[test]
fn nothing_comes_from_elsewhere_and_no_style_is_inline() {
    let html = shown(&fleet(100), "");
    assert!(!html.contains("http://") && !html.contains("https://") && !html.contains("src=\"//"), "{html}");
    assert!(!html.contains("style=") && !html.contains("<style"), "{html}");
}

#[test]
fn before_the_first_scan_the_page_shows_that() {
    let html = shown(&sample::nothing(), "");
    assert!(html.contains("The first scan is under way"), "{html}");
    assert!(html.contains("Last good scan: none yet."), "{html}");
    assert!(html.contains("No such node."), "{html}");
}

#[test]
fn thousands_of_nodes_make_no_large_page() {
    let html = shown(&fleet(5000), "");
    assert!(html.len() < 128 * 1024, "{} bytes", html.len());
    assert!(html.contains("Page 1 of 100, 5,000 nodes"), "{html}");
    assert!(html.contains("href=\"?show=problems\"") && html.contains("href=\"?page=2\""), "{html}");
}

#[test]
fn a_pull_shows_how_far_it_is_and_a_failure_why() {
    let html = shown(&fleet(20), "");
    assert!(html.contains("downloading 43 %, 3.44 GiB of 8.00 GiB, 120.00 MiB/s, 38 seconds left"), "{html}");
    assert!(html.contains("failed 3 times: registry.example.org answered 503 Service Unavailable"), "{html}");
    assert!(html.contains("2 users wait here"), "{html}");
    assert!(html.contains("refused: the disk would be 81 % full") && html.contains("cordoned"), "{html}");
}

#[test]
fn an_error_is_one_sentence_with_the_runtimes_message_behind_a_click() {
    let words = "failed to pull and unpack image \"registry.example.org/rubin/lab:w_2026_47\": failed to copy: httpReadSeeker: \
                 failed open: content at https://registry.example.org/v2/rubin/lab/blobs/sha256:b69fe344 not found: not found";
    let mut troubled = node("a", 6);
    troubled.images[1] = failed(1, words);
    let html = shown(&of_nodes(vec![troubled]), "");
    assert!(html.contains("failed: a part of it is missing in the registry</p><details>"), "{html}");
    assert_eq!(html.matches("httpReadSeeker").count(), 1, "{html}");
}

#[test]
fn a_page_is_quiet_without_problems() {
    let quiet = shown(&of_nodes(vec![node("a", 6), node("b", 6)]), "");
    for gone in ["on every node<", "<form", "Page 1", "<details", "<progress"] {
        assert!(!quiet.contains(gone), "{gone}: {quiet}");
    }
    // Complete images are folded while others are not complete.
    let busy = shown(&fleet(20), "");
    assert!(busy.contains("<form") && !busy.contains("Page 1"), "{busy}");
    let mut pulling = node("a", 6);
    pulling.images[5] = sample::downloading(10);
    let html = shown(&of_nodes(vec![pulling]), "");
    assert!(html.contains("<summary>4 images on every node</summary>"), "{html}");
    assert!(html.find("d_2026_11_23") < html.find("w_2026_47"), "{html}");
}
