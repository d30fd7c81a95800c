use super::*;
use crate::overview::{AgentState, ImageOnNode, NextTry, Overview, Wave};
use crate::page::tests::sample::{self, downloading, failed, fleet, node, of_nodes};
use crate::page::{summary, text};

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
    assert_eq!((all.totals.wanted, all.totals.present), (20, 16));
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
fn time_left_is_the_missing_bytes_divided_by_the_rate() {
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
    overview.images[4].wave = Wave::Stopped { node: "n1".into(), error: "no space".to_owned(), next: NextTry::NoOther };
    let problems = view(&overview, "").problems;
    assert_eq!(problems.len(), 2);
    assert!(problems[0].contains("registry.example.org is unreachable"), "{problems:?}");
    assert!(problems[1].contains("n1") && problems[1].contains("no space"), "{problems:?}");
}

#[test]
fn an_unknown_size_is_not_zero() {
    let mut pulling = node("a", 6);
    pulling.images[0] = downloading(50);
    pulling.images[1] = ImageOnNode::Ordered;
    let mut overview = of_nodes(vec![pulling]);
    overview.images[1].size = None;
    let view = view(&overview, "");
    assert_eq!((view.totals.unknown, view.totals.eta_seconds), (1, None));
    let words = summary::progress(&view);
    assert!(words.contains("at most 4.00 GiB and 1 of unknown size missing"), "{words}");
    let mut only = node("a", 6);
    only.images[1] = ImageOnNode::Ordered;
    let mut overview = of_nodes(vec![only]);
    overview.images[1].size = None;
    assert_eq!(summary::progress(&self::view(&overview, "")), "4 of 5 copies are present, 1 of unknown size missing");
}

/// The overall state of an overview, as a sentence and a color.
fn headline(overview: &Overview) -> (Standing, String) {
    summary::headline(&view(overview, ""))
}

#[test]
fn the_headline_never_contradicts_what_is_below_it() {
    let complete = || of_nodes(vec![node("a", 6), node("b", 6)]);
    assert_eq!(headline(&complete()), (Standing::Complete, "5 images on both nodes".to_owned()));

    // After a restart the catalogue is there, but no scan of this planner yet.
    let mut restarted = complete();
    restarted.scan = Default::default();
    assert_eq!(headline(&restarted).1, "5 images on both nodes");
    assert_eq!(summary::scan(&view(&restarted, "")), "2026-11-25 02:22 UTC, by an earlier planner");
    restarted.decided = false;
    restarted.images.clear();
    assert_eq!(headline(&restarted), (Standing::Waiting, "The nodes have not been checked yet".to_owned()));

    let mut never = of_nodes(vec![node("a", 6), node("b", 6)]);
    (never.catalogue, never.scan.last_good) = (None, None);
    never.images.clear();
    never.nodes.iter_mut().for_each(|node| node.images.clear());
    never.scan.problem = Some("registry.example.org is unreachable".to_owned());
    assert_eq!(headline(&never), (Standing::Problem, "No scan has succeeded yet".to_owned()));
    let view = view(&never, "");
    assert!(
        view.problems[0].starts_with("The wanted images are not known, because no scan has succeeded so far: regis")
    );
    assert!(view.nodes.iter().all(|node| node.standing == Standing::Waiting), "no node is complete with nothing");

    let mut failing = complete();
    failing.scan.last = Some(failing.now);
    failing.scan.problem = Some("registry.example.org is unreachable".to_owned());
    assert_eq!(headline(&failing), (Standing::Problem, "5 images on both nodes; there is a problem".to_owned()));
    assert!(self::view(&failing, "").problems[0].starts_with("The last scan failed; the list of wanted images"));
    failing.scan.last_good = failing.scan.last;
    assert!(self::view(&failing, "").problems[0].starts_with("The last scan was incomplete; what it found is used"));
}

#[test]
fn a_node_that_cannot_do_its_part_is_a_problem() {
    let complete = || of_nodes(vec![node("a", 6), node("b", 6), node("c", 6)]);
    type Change = fn(&mut crate::overview::NodeOverview);
    let changes: [(Change, &str, &str); 4] = [
        (|node| node.agent = AgentState::Missing, "No agent has reported from b", "no agent has reported"),
        (
            |node| node.agent = AgentState::Silent(std::time::Duration::from_secs(14 * 60)),
            "stopped reporting on b",
            "its agent has not reported for 14 minutes",
        ),
        (
            |node| node.agent = AgentState::NoRuntime("nobody listens".to_owned()),
            "container runtime can't be used on b",
            "nobody listens",
        ),
        (
            |node| node.unwritten = Some("forbidden (403)".to_owned()),
            "Orders can't be written for b",
            "forbidden (403)",
        ),
    ];
    for (change, problem, remark) in changes {
        let mut overview = complete();
        change(&mut overview.nodes[1]);
        let view = view(&overview, "");
        assert!(view.problems.len() == 1 && view.problems[0].contains(problem), "{:?}", view.problems);
        assert!(view.nodes[0].name == "b" && view.nodes[0].standing == Standing::Problem, "{:?}", view.nodes[0]);
        assert!(view.nodes[0].remarks[0].contains(remark), "{:?}", view.nodes[0].remarks);
        let (standing, words) = summary::headline(&view);
        assert_eq!((standing, words.as_str()), (Standing::Problem, "5 images on all 3 nodes; there is a problem"));
        // A node that should have no images needs no agent.
        overview.nodes[1].not_eligible = Some("cordoned".to_owned());
        assert!(self::view(&overview, "").problems.is_empty());
    }
}

#[test]
fn the_next_step_of_a_held_up_image_is_shown() {
    let mut overview = of_nodes(vec![node("a", 6)]);
    let eight = std::time::Duration::from_secs(480);
    overview.images[1].wave =
        Wave::Stopped { node: "a".into(), error: "no space".to_owned(), next: NextTry::In(eight) };
    overview.images[3].wave =
        Wave::Held { node: "a".into(), why: "it is not ready".to_owned(), next: NextTry::NoOther };
    overview.images[4].wave =
        Wave::Stopped { node: "a".into(), error: "x".to_owned(), next: NextTry::Now { node: "b".into() } };
    let view = view(&overview, "");
    assert_eq!(view.images[0].wave, "stopped: a could not pull it; another node tries it in 8 minutes");
    assert_eq!(view.images[1].wave, "stopped: a could not pull it; b tries it now");
    assert_eq!(view.images[2].wave, "held up by a: it is not ready; no other node can try it, so it waits for a");
    assert!(view.problems[0].ends_with("no space; another node tries it in 8 minutes"), "{:?}", view.problems);
}

#[test]
fn repositories_are_shown_with_what_no_scheme_could_read() {
    let mut overview = of_nodes(vec![node("a", 6)]);
    let mut catalogue = sample::catalogue();
    catalogue.repositories = serde_json::from_value(serde_json::json!([
        {"name": "registry.example.org/rubin/lab", "complete": true, "scanned": sample::now(), "tags": 212, "unread": 3},
        {"name": "other.example.org/lab", "complete": false, "scanned": "2026-11-24T00:00:00Z", "problem": "down"},
        {"name": "new.example.org/lab", "complete": false, "problem": "down"},
    ]))
    .unwrap();
    overview.catalogue = Some(std::sync::Arc::new(catalogue));
    let view = view(&overview, "");
    let words: Vec<String> = view.repositories.iter().map(|row| summary::repository(&view, row)).collect();
    assert_eq!(
        words,
        [
            "212 tags, 3 of them not read by LAB_TAG_SCHEME, scanned just now",
            "its images are those of 2026-11-24 00:00 UTC",
            "never scanned completely"
        ]
    );
}

#[test]
fn names_of_one_image_are_folded_and_moving_ones_come_first() {
    let mut pulling = node("a", 6);
    pulling.images[0] = ImageOnNode::NotOrdered; // an alias of the third
    pulling.images[5] = downloading(10);
    let view = view(&of_nodes(vec![pulling, node("b", 6)]), "");
    let tags: Vec<&str> = view.images.iter().map(|image| text::tag(&image.reference)).collect();
    assert_eq!(tags, ["d_2026_11_23", "w_2026_47", "r29_0_0", "w_2026_46", "d_2026_11_24"]);
    assert_eq!((view.images[1].also.as_slice(), view.images[1].present), (&["recommended".to_owned()][..], 1));
    let states: Vec<CellState> = view.nodes[0].images.iter().map(|cell| cell.state).collect();
    assert_eq!(states[..3], [CellState::Downloading, CellState::NotOrdered, CellState::Present]);
    assert_eq!((view.nodes[0].present, view.nodes[0].wanted, view.totals.wanted), (3, 5, 10));
    let lacking = self::view(&of_nodes(vec![node("b", 6)]), "missing=registry.example.org/rubin/lab:recommended");
    assert_eq!(lacking.matching, 0);
}
