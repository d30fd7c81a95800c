//! `prepuller wait`: waits until every eligible node has all wanted images, for a deploy hook.
//!
//! The wanted images are those of a scan that began after this command, so an image that was pushed just before is
//! included.

use std::process::ExitCode;
use std::time::Duration;

use jiff::Timestamp;
use sidecar::shutdown::Shutdown;
use sidecar::stdio;
use tokio::time::{Instant, sleep, timeout_at};

use crate::page::query::Query;
use crate::page::summary;
use crate::page::view::{NodeRow, Standing, View};
use crate::planner_client::{ClientError, PlannerClient};
use crate::settings::WaitSettings;
use crate::status::notes;

/// How often the planner is asked.
const PAUSE: Duration = Duration::from_secs(2);

/// The most nodes that are named as missing images.
const MOST_NAMED: usize = 5;

/// Whether there is something to wait for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    Done(String),
    Waiting(String),
}

/// Waits. The exit code is 0 once everything is present, 1 after the timeout.
///
/// # Errors
///
/// If the planner cannot be asked at all.
pub async fn run(settings: WaitSettings) -> anyhow::Result<ExitCode> {
    let shutdown = Shutdown::listen()?;
    let planner = PlannerClient::at(settings.planner)?;
    let mut reported = String::new();
    let waited =
        timeout_at(Instant::now() + settings.timeout, all_is_there(&planner, settings.min_nodes, &mut reported));
    match shutdown.token().run_until_cancelled(waited).await {
        Some(Ok(done)) => {
            stdio::print(&format!("{done}\n"))?;
            Ok(ExitCode::SUCCESS)
        }
        Some(Err(_)) => {
            let limit = humantime::format_duration(settings.timeout);
            stdio::complain(&format!("gave up after WAIT_TIMEOUT ({limit}): {reported}"));
            Ok(ExitCode::FAILURE)
        }
        None => {
            stdio::complain(&format!("interrupted: {reported}"));
            Ok(ExitCode::FAILURE)
        }
    }
}

/// Returns once everything is present. Until then `reported` holds what is waited for, and is printed each time it changes.
async fn all_is_there(planner: &PlannerClient, min_nodes: usize, reported: &mut String) -> String {
    let mut report = |words: String| {
        let words: String = words.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        if *reported != words {
            stdio::complain(&format!("waiting: {words}"));
            *reported = words;
        }
    };
    let mut since = None;
    loop {
        match look(planner, min_nodes, &mut since).await {
            Ok(Verdict::Done(words)) => return words,
            Ok(Verdict::Waiting(words)) => report(words),
            Err(error) => report(error.to_string()),
        }
        sleep(PAUSE).await;
    }
}

/// Asks once. The first successful request also asks for a scan and records the time, by the planner's clock.
async fn look(
    planner: &PlannerClient,
    min_nodes: usize,
    since: &mut Option<Timestamp>,
) -> Result<Verdict, ClientError> {
    let view = planner.view(&Query::default()).await?;
    let since = match *since {
        Some(since) => since,
        None => {
            planner.scan().await?;
            *since.insert(view.now)
        }
    };
    Ok(verdict(&view, since, min_nodes))
}

fn verdict(view: &View, since: Timestamp, min_nodes: usize) -> Verdict {
    // A catalogue from a file may be old, whenever it was read.
    if view.scan.last_good_began.or(view.scan.generated).is_none_or(|began| began < since) {
        let problem = view.scan.problem.as_ref().map(|problem| format!("; the last one failed: {problem}"));
        return Verdict::Waiting(format!("waiting for a registry scan{}", problem.unwrap_or_default()));
    }
    let eligible = view.counts.all.saturating_sub(view.counts.not_eligible);
    if eligible < min_nodes {
        return Verdict::Waiting(few_nodes(eligible, view.counts.all, min_nodes));
    }
    let (_, headline) = summary::headline(view);
    if view.complete {
        return Verdict::Done(headline);
    }
    if view.images.is_empty() {
        // If nothing is wanted, no node lacks an image.
        return Verdict::Waiting(headline);
    }
    let behind = view.nodes.iter().filter(|node| node.standing < Standing::Complete);
    let named: Vec<String> = behind.take(MOST_NAMED).map(|node| name(view, node)).collect();
    let mut words = headline;
    for part in [view.problems.join("; "), named.join(", ")] {
        if !part.is_empty() {
            words = format!("{words}; {part}");
        }
    }
    Verdict::Waiting(words)
}

/// The message if too few nodes should have lab images. Success would hide a wrong selector.
fn few_nodes(eligible: usize, all: usize, min_nodes: usize) -> String {
    let nodes = if all == 1 { "the only node is" } else { "nodes are" };
    let eligible = match (eligible, all) {
        (0, 1) => "the only node is not eligible".to_owned(),
        (0, _) => format!("none of {all} nodes is eligible"),
        (eligible, all) => format!("{eligible} of {all} {nodes} eligible"),
    };
    format!(
        "{eligible}, and at least {min_nodes} must be (WAIT_MIN_NODES); see LAB_NODE_SELECTOR and LAB_TOLERATIONS of the planner"
    )
}

/// A node's name, with its error if there is one.
fn name(view: &View, node: &NodeRow) -> String {
    match notes(view, node).last().filter(|_| node.standing == Standing::Problem) {
        Some(note) => format!("{} ({note})", node.name),
        None => node.name.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use axum::http::StatusCode;
    use axum::routing::post;
    use jiff::SignedDuration;
    use lab_images::catalogue::Catalogue;
    use tokio_util::sync::CancellationToken;

    use crate::overview::{Overview, OverviewSource};
    use crate::page;
    use crate::page::tests::sample::{self, fleet, node, nothing, of_nodes};

    fn look(overview: &Overview, scan_began: SignedDuration) -> Verdict {
        verdict(&View::new(overview, &Query::default()), sample::catalogue().generated - scan_began, 1)
    }

    const BEFORE: SignedDuration = SignedDuration::from_secs(1);
    const AFTER: SignedDuration = SignedDuration::from_secs(-1);

    #[test]
    fn only_a_scan_that_began_afterwards_counts() {
        let complete = of_nodes(vec![node("a", 6)]);
        assert_eq!(look(&complete, BEFORE), Verdict::Done("5 images on the node".to_owned()));
        assert_eq!(look(&complete, AFTER), Verdict::Waiting("waiting for a registry scan".to_owned()));
        let mut failing = nothing();
        failing.scan.problem = Some("registry.example.org does not answer".to_owned());
        let Verdict::Waiting(words) = look(&failing, BEFORE) else { panic!("there is no catalogue") };
        assert!(words.contains("registry.example.org does not answer"), "{words}");
    }

    #[tokio::test]
    async fn it_requests_a_scan_and_ends_once_everything_is_present() {
        sidecar::tls::install_crypto_provider();
        let scanned = Arc::new(AtomicBool::new(false));
        let (seen, asked) = (scanned.clone(), scanned);
        let look = move || {
            let mut overview = of_nodes(vec![node("a", 6)]);
            overview.scan.last_good_began = seen.load(Ordering::SeqCst).then_some(overview.now);
            // As from a file, which is older than the scan.
            let generated = overview.now - SignedDuration::from_hours(1000);
            overview.catalogue = Some(Arc::new(Catalogue { generated, ..sample::catalogue() }));
            overview
        };
        let (_changes, changes) = tokio::sync::watch::channel(0);
        let routes = page::routes(OverviewSource::new(look, changes), sample::config(), CancellationToken::new());
        let scan = post(async move || {
            asked.store(true, Ordering::SeqCst);
            StatusCode::ACCEPTED
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let server = tokio::spawn(async move { axum::serve(listener, routes.route("/scan", scan)).await.unwrap() });

        let planner = PlannerClient::at(address.parse().unwrap()).unwrap();
        let mut reported = String::new();
        assert_eq!(all_is_there(&planner, 1, &mut reported).await, "5 images on the node");
        assert_eq!(reported, "waiting for a registry scan");
        server.abort();
    }

    #[test]
    fn it_prints_what_it_waits_for() {
        let Verdict::Waiting(words) = look(&fleet(20), BEFORE) else { panic!("images are missing") };
        assert!(
            words.starts_with(
                "Images are missing on 9 of 19 nodes, 2 with problems; pool-users-0006 (d_2026_11_24: failed 3 times: "
            ),
            "{words}"
        );
        assert!(words.ends_with("pool-users-0004, pool-users-0005, pool-users-0009"), "{words}");
    }

    #[test]
    fn too_few_nodes_and_no_image_are_waited_for() {
        let began = sample::catalogue().generated - BEFORE;
        let least = |nodes, min_nodes| verdict(&View::new(&of_nodes(nodes), &Query::default()), began, min_nodes);
        assert_eq!(least(Vec::new(), 0), Verdict::Done("No node is eligible".to_owned()));
        let Verdict::Waiting(words) = least(Vec::new(), 1) else { panic!("no node passes silently") };
        assert!(words.contains("none of 0 nodes is eligible, and at least 1 must be (WAIT_MIN_NODES)"), "{words}");
        let Verdict::Waiting(words) = least(vec![node("a", 6), node("b", 6)], 3) else { panic!("two are not three") };
        assert!(words.starts_with("2 of 2 nodes are eligible, and at least 3 must be"), "{words}");
        assert!(matches!(least(vec![node("a", 6), node("b", 6)], 2), Verdict::Done(_)));
        let mut unwanted = of_nodes(vec![node("a", 6)]);
        unwanted.images.clear();
        assert_eq!(look(&unwanted, BEFORE), Verdict::Waiting("No image is wanted".to_owned()));
    }
}
