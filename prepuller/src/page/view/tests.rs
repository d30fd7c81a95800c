use super::*;
use crate::page::sample::{self, downloading, failed, fleet, node, of_nodes};
use crate::plan::overview::{ImageOnNode, Overview, Wave};

fn view(overview: &Overview, query: &str) -> View {
    View::new(overview, &Query::parse(query))
}

fn names(view: &View) -> Vec<&str> {
    view.nodes.iter().map(|node| node.name.as_str()).collect()
}

#[test]
fn what_needs_attention_comes_first() {
    let mut troubled = node("d", 6);
    troubled.images[1] = failed(1, "no");
    troubled.images[2] = downloading(10);
    let mut pulling = node("c", 6);
    pulling.images[0] = downloading(50);
    let mut waiting = node("e", 6);
    waiting.images[0] = ImageOnNode::NotOrdered;
    let mut off = node("a", 6);
    off.not_eligible = Some("cordoned".to_owned());
    let overview = of_nodes(vec![off, node("b", 6), pulling, troubled, waiting]);
    let all = view(&overview, "");
    assert_eq!(names(&all), ["d", "c", "e", "b", "a"]);
    assert_eq!(all.counts, Counts { all: 5, problems: 1, pulling: 1, waiting: 1, complete: 1, not_eligible: 1 });
    assert_eq!((all.totals.wanted, all.totals.present), (24, 20));
    assert!(!all.complete);
    for (show, expected) in
        [("problems", "d"), ("pulling", "c"), ("waiting", "e"), ("complete", "b"), ("not-eligible", "a")]
    {
        assert_eq!(names(&view(&overview, &format!("show={show}"))), [expected]);
    }
}

#[test]
fn a_part_of_a_name_and_a_missing_image_narrow_the_choice() {
    let overview = fleet(300);
    assert_eq!(view(&overview, "node=0005").matching, 1);
    let missing = view(&overview, "missing=registry.example.org/rubin/lab:d_2026_11_24");
    assert_eq!(missing.matching, 3 * 9);
    assert_eq!(view(&overview, "missing=registry.example.org/rubin/lab:d_2026_11_24&show=problems").matching, 6);
    assert_eq!(view(&overview, "missing=no/such:image").matching, 0);
}

#[test]
fn thousands_of_nodes_come_in_pages() {
    let overview = fleet(5000);
    let first = view(&overview, "");
    assert_eq!((first.nodes.len(), first.pages, first.matching), (PER_PAGE, 100, 5000));
    assert!(first.nodes.iter().all(|node| node.standing == Standing::Problem));
    let last = view(&overview, "page=100");
    assert_eq!(last.nodes.len(), PER_PAGE);
    assert!(last.nodes.iter().all(|node| node.standing == Standing::NotEligible));
    assert_eq!(view(&overview, "page=999").query.page, 100);
    let json = serde_json::to_vec(&first).unwrap();
    assert!(json.len() < 64 * 1024, "{}", json.len());
    assert_eq!(serde_json::from_slice::<View>(&json).unwrap(), first);
}

#[test]
fn time_left_is_what_is_missing_by_how_fast_it_comes() {
    let mut pulling = node("a", 6);
    pulling.images[0] = downloading(50);
    let mut waiting = node("b", 6);
    waiting.images[0] = ImageOnNode::Ordered;
    let totals = view(&of_nodes(vec![pulling, waiting]), "").totals;
    let gibibyte = 1 << 30;
    assert!(totals.bytes_left.abs_diff(12 * gibibyte) < 1000, "{totals:?}");
    assert_eq!((totals.rate, totals.eta_seconds), (120 << 20, Some(102)));
}

#[test]
fn nothing_known_yet_is_not_complete() {
    let view = view(&sample::nothing(), "page=7");
    assert!(!view.complete && view.nodes.is_empty());
    assert_eq!((view.pages, view.query.page), (1, 1));
}

#[test]
fn a_stopped_wave_and_a_bad_scan_are_problems() {
    let mut overview = fleet(10);
    overview.scan.problem = Some("registry.example.org is unreachable".to_owned());
    overview.images[4].wave = Wave::Stopped { node: "n1".into(), error: "no space".to_owned() };
    let problems = view(&overview, "").problems;
    assert_eq!(problems.len(), 2);
    assert!(problems[0].contains("registry.example.org is unreachable"), "{problems:?}");
    assert!(problems[1].contains("n1") && problems[1].contains("no space"), "{problems:?}");
}
