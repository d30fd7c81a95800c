//! The agent's page: every order with its progress, fresher than the cluster's status. Plain HTML that loads itself again.

use std::fmt::Write as _;

use axum::Router;
use axum::response::Html;
use axum::routing::get;
use indicatif::HumanBytes;
use tokio::sync::watch;

use super::status::{self, state};
use crate::puller::{Job, Report};

const STYLE: &str = "body{font:16px/1.4 system-ui,sans-serif;margin:1rem}table{border-collapse:collapse}\
    th,td{text-align:left;padding:.2rem .8rem .2rem 0;border-bottom:1px solid #8884;overflow-wrap:anywhere}\
    .problem{color:#b00020}progress{width:8rem}:root{color-scheme:light dark}";

/// `/`, for this node.
pub(super) fn routes(node: &str, disk_high: u8, reports: watch::Receiver<Report>) -> Router {
    let node = node.to_owned();
    Router::new().route("/", get(async move || Html(page(&node, disk_high, &reports.borrow()))))
}

fn page(node: &str, disk_high: u8, report: &Report) -> String {
    let status = status::of(report, disk_high);
    let node = escaped(node);
    let mut html = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta http-equiv=\"refresh\" content=\"2\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>Images of {node}</title><style>{STYLE}</style></head>\
         <body><h1>Images of {node}</h1><p>{} of {} present. {}</p>",
        status.present,
        status.wanted,
        escaped(&status.runtime)
    );
    if let Some(disk) = status.disk {
        html += &format!(
            "<p>Disk: {} of {} used, pulls stop at {} %.</p>",
            HumanBytes(disk.used),
            HumanBytes(disk.total),
            disk.high
        );
    }
    if let Some(problem) = &status.problem {
        html += &format!("<p class=\"problem\">{}</p>", escaped(problem));
    }
    html += "<table><thead><tr><th>Image<th>State<th>Progress<th>Problem</tr></thead><tbody>";
    for job in &report.jobs {
        row(&mut html, job);
    }
    html + "</tbody></table></body></html>"
}

fn row(html: &mut String, job: &Job) {
    let (image, problem) = (escaped(&job.order.image.to_string()), escaped(job.state.problem().unwrap_or_default()));
    let mut progress = String::new();
    if let Some(total) = job.progress.total.filter(|total| *total > 0) {
        let done = job.progress.done;
        progress = format!(
            "<progress max=\"{total}\" value=\"{done}\"></progress> {} of {}",
            HumanBytes(done),
            HumanBytes(total)
        );
    }
    if let Some(rate) = job.progress.rate {
        progress += &format!(", {}/s", HumanBytes(rate));
    }
    if let Some(left) = job.progress.time_left {
        progress += &format!(", {} s left", left.as_secs());
    }
    // Writing to a String does not fail.
    let _ =
        write!(html, "<tr><td>{image}<td>{:?}<td>{progress}<td class=\"problem\">{problem}</tr>", state(&job.state));
}

/// Text that means nothing to a browser, in an element or a quoted attribute.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => safe += "&amp;",
            '<' => safe += "&lt;",
            '>' => safe += "&gt;",
            '"' => safe += "&quot;",
            '\'' => safe += "&#39;",
            other => safe.push(other),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_wrote_is_text() {
        let report = Report { runtime_problem: Some("<script>alert(1)</script> & \"x\"".into()), ..Report::default() };
        let html = page("node1", 75, &report);
        assert!(html.contains("&lt;script&gt;alert(1)&lt;/script&gt; &amp; &quot;x&quot;"), "{html}");
        assert!(!html.contains("<script"), "{html}");
    }
}
