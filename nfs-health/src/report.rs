//! The custom resource `NfsReport` (`nfsreports.labhands.dev`), one object per node, named like the node: the NFS state
//! that the node's agent sees. Only that agent writes it, and the judge reads it.

use std::time::Duration;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::probe::verdict::{Kind, Verdict};
use crate::server::Server;

/// The field manager of a node's agent.
pub const AGENT: &str = "nfs-health";

/// The most exports of a report; those with trouble come first.
const MOST_EXPORTS: usize = 128;

/// The longest text in a report, in characters.
const MOST_CHARACTERS: usize = 400;

/// The NFS report of a node's agent.
#[derive(CustomResource, Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[kube(
    group = "labhands.dev",
    version = "v1alpha1",
    kind = "NfsReport",
    plural = "nfsreports",
    singular = "nfsreport",
    namespaced,
    doc = "The state of NFS servers and mounts, as seen from the node of the same name",
    printcolumn = r#"{"name":"Exports","type":"integer","jsonPath":".spec.seen"}"#,
    printcolumn = r#"{"name":"Troubled","type":"integer","jsonPath":".spec.troubled"}"#,
    printcolumn = r#"{"name":"Problem","type":"string","jsonPath":".spec.problem"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct NfsReportSpec {
    /// Increases with every report (heartbeat).
    pub number: u64,
    /// Maximum number of seconds until the next report.
    pub next_seconds: u32,
    /// Number of exports that the node checks.
    pub seen: u32,
    /// Number of unhealthy exports.
    pub troubled: u32,
    /// Human-readable text of the first of these problems.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 400))]
    pub problem: Option<String>,
    /// The exports. If there are too many, healthy ones are left out first.
    #[serde(default)]
    #[schemars(length(max = 128))]
    pub exports: Vec<ExportReport>,
}

/// One export, as seen from a node.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ExportReport {
    /// Server and export, as in `10.96.0.9/home`.
    #[schemars(length(max = 400))]
    pub export: String,
    /// The server's name, if the mount uses a name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 400))]
    pub alias: Option<String>,
    /// Number of its mounts on the node.
    pub mounts: u32,
    /// The verdict, in one word.
    pub verdict: Kind,
    /// The phase that led to the verdict.
    #[schemars(length(max = 400))]
    pub phase: String,
    /// Human-readable explanation.
    #[schemars(length(max = 400))]
    pub sentence: String,
}

impl ExportReport {
    /// The report on an export that is mounted `mounts` times here, possibly under another name.
    pub fn new(server: &Server, alias: Option<&str>, mounts: usize, verdict: &Verdict) -> Self {
        Self {
            export: cut(&server.to_string()),
            alias: alias.map(cut),
            mounts: u32::try_from(mounts).unwrap_or(u32::MAX),
            verdict: verdict.kind,
            phase: verdict.phase.to_owned(),
            sentence: cut(&verdict.sentence),
        }
    }
}

impl NfsReportSpec {
    /// The report on these exports.
    pub fn new(number: u64, next: Duration, mut exports: Vec<ExportReport>) -> Self {
        exports.sort_by_key(|export| export.verdict.is_healthy());
        let troubled = exports.iter().filter(|export| !export.verdict.is_healthy()).count();
        let problem = exports.first().filter(|_| troubled > 0).map(|export| cut(&export.to_string()));
        let seen = exports.len();
        exports.truncate(MOST_EXPORTS);
        Self {
            number,
            next_seconds: u32::try_from(next.as_secs()).unwrap_or(u32::MAX),
            seen: u32::try_from(seen).unwrap_or(u32::MAX),
            troubled: u32::try_from(troubled).unwrap_or(u32::MAX),
            problem,
            exports,
        }
    }

    /// Whether `other` means the same, possibly in other words: a mount that hangs for longer is not a change.
    pub fn is_same_as(&self, other: &Self) -> bool {
        let gist = |report: &Self| -> Vec<_> {
            let exports = report.exports.iter();
            exports.map(|export| (export.export.clone(), export.verdict, export.phase.clone(), export.mounts)).collect()
        };
        (self.seen, self.troubled) == (other.seen, other.troubled) && gist(self) == gist(other)
    }
}

impl std::fmt::Display for ExportReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {} ({}): {}", self.export, self.verdict.name(), self.phase, self.sentence)
    }
}

fn cut(text: &str) -> String {
    text.chars().take(MOST_CHARACTERS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exports(kinds: impl IntoIterator<Item = Kind>) -> Vec<ExportReport> {
        let export = |(number, kind): (usize, Kind)| {
            let verdict = Verdict { kind, phase: "stat", sentence: "é".repeat(900) };
            ExportReport::new(&format!("10.0.0.9/{number:03}").parse().unwrap(), None, 1, &verdict)
        };
        kinds.into_iter().enumerate().map(export).collect()
    }

    #[test]
    fn trouble_comes_first_and_is_never_left_out_for_healthy_exports() {
        let mut kinds = vec![Kind::Ok; 200];
        kinds[199] = Kind::ClientStuck;
        let report = NfsReportSpec::new(7, Duration::from_secs(120), exports(kinds));
        assert_eq!((report.number, report.next_seconds, report.seen, report.troubled), (7, 120, 200, 1));
        assert_eq!((report.exports.len(), report.exports[0].export.as_str()), (MOST_EXPORTS, "10.0.0.9/199"));
        assert!(report.problem.as_deref().unwrap().starts_with("10.0.0.9/199: client_stuck (stat): é"));
        assert_eq!(report.exports[0].sentence.chars().count(), MOST_CHARACTERS);
        assert!(serde_json::to_string(&report).unwrap().len() < 200_000);
    }

    #[test]
    fn another_wording_is_no_change_but_another_verdict_is() {
        let report = |kind| NfsReportSpec::new(1, Duration::from_secs(1), exports([kind]));
        let mut later = NfsReportSpec { number: 2, ..report(Kind::ClientStuck) };
        later.exports[0].sentence = "the mount has not answered for 20 s".into();
        assert!(later.is_same_as(&report(Kind::ClientStuck)));
        assert!(!later.is_same_as(&report(Kind::Ok)));
        assert_eq!(report(Kind::Grace).problem, None);
    }
}
