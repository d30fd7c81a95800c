//! The agent's page: every order with its progress, more recent than the cluster's status. Plain HTML that reloads
//! itself.

use axum::Router;
use axum::response::Html;
use axum::routing::get;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use tokio::sync::watch;

use super::status::{self, state};
use crate::page::text;
use crate::puller::{Job, Report};

const STYLE: &str = "body{font:16px/1.4 system-ui,sans-serif;margin:1rem}table{border-collapse:collapse}\
    th,td{text-align:left;padding:.2rem .8rem .2rem 0;border-bottom:1px solid #8884;overflow-wrap:anywhere}\
    .problem{color:light-dark(#b00020,#ff8a95)}:root{color-scheme:light dark}";

/// `/`, for this node.
pub(super) fn routes(node: &str, disk_high: u8, reports: watch::Receiver<Report>) -> Router {
    let node = node.to_owned();
    Router::new().route("/", get(async move || Html(page(&node, disk_high, &reports.borrow()).into_string())))
}

fn page(node: &str, disk_high: u8, report: &Report) -> Markup {
    let status = status::of(report, disk_high);
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="refresh" content="2";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "Images of " (node) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1 { "Images of " (node) }
                p { (status.present) " of " (status.wanted) " present. " (status.runtime) }
                @if let Some(disk) = &status.disk {
                    p { "Disk: " (text::bytes(disk.used)) " of " (text::bytes(disk.total)) " used; pulls stop at " (disk.high) " %." }
                }
                @if let Some(problem) = &status.problem { p.problem { (problem) } }
                table {
                    thead { tr { th { "Image" } th { "State" } th { "Progress" } th { "Problem" } } }
                    tbody { @for job in &report.jobs { (row(job)) } }
                }
            }
        }
    }
}

fn row(job: &Job) -> Markup {
    let progress = &job.progress;
    html! {
        tr {
            td { (job.order.image.to_string()) }
            td { (format!("{:?}", state(&job.state))) }
            td {
                @if let Some(total) = progress.total.filter(|total| *total > 0) {
                    progress max=(total) value=(progress.done) {} " "
                    (text::bytes(progress.done)) " of " (text::bytes(total))
                }
                @if let Some(rate) = progress.rate { ", " (text::bytes(rate)) "/s" }
                @if let Some(left) = progress.time_left { ", " (text::duration(left.as_secs())) " left" }
            }
            td.problem { (job.state.problem().unwrap_or_default()) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_is_escaped() {
        let report = Report::default();
        let report = {
            let mut report = report;
            report.runtime_is_away("<script>alert(1)</script> & x".into());
            report
        };
        let html = page("node1", 75, &report).into_string();
        assert!(html.contains("&lt;script&gt;alert(1)&lt;/script&gt; &amp; x") && !html.contains("<script"), "{html}");
    }
}
