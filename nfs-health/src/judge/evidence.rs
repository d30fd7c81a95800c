//! Collects the results from many places as evidence for each export. Pure.

use std::collections::BTreeMap;

use crate::judge::rule::{NodeVerdict, severity};
use crate::probe::verdict::Verdict;
use crate::report::{ExportReport, NfsReportSpec};
use crate::server::{Host, Server};

/// All that is known about one export.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// The verdict of the judge's own probe.
    pub probe: Option<Verdict>,
    /// The nodes' verdicts.
    pub verdicts: Vec<NodeVerdict>,
    /// Whether the server is a tunnel on its only node, so that no other place sees it.
    pub is_tunnel: bool,
}

/// The evidence of all exports: those that are probed, and those that only nodes know. A node's verdict on a folder counts for the
/// export that contains it; of several folders, the worst verdict counts. `locations` has the actual location of a probed export,
/// if that is different (through symbolic links, or on another server), because nodes see that one.
pub fn evidence(
    probes: &BTreeMap<Server, Option<Verdict>>,
    locations: &BTreeMap<Server, Server>,
    reports: &BTreeMap<String, Option<NfsReportSpec>>,
) -> BTreeMap<Server, Evidence> {
    let of_probe = |(server, verdict): (&Server, &Option<Verdict>)| {
        (server.clone(), Evidence { probe: verdict.clone(), ..Evidence::default() })
    };
    let mut evidence: BTreeMap<Server, Evidence> = probes.iter().map(of_probe).collect();
    for (node, report) in reports {
        // Each export with its worst verdict, and whether it is a tunnel.
        let mut seen: BTreeMap<Server, (&ExportReport, bool)> = BTreeMap::new();
        for export in report.iter().flat_map(|report| &report.exports) {
            let Ok(server) = export.export.parse::<Server>() else { continue };
            let is_loopback = server.is_loopback();
            let server = of_node(server, node);
            let holds = |known: &Server| *known == server || known.holds(&server, export.alias.as_deref());
            let holder = probes.keys().find(|known| holds(known) || locations.get(known).is_some_and(holds));
            // A server that is known by its name is seen from all nodes, each through its own tunnel.
            let is_tunnel = is_loopback && holder.is_none();
            let (worst, _) = seen.entry(holder.cloned().unwrap_or(server)).or_insert((export, is_tunnel));
            if severity(export.verdict) > severity(worst.verdict) {
                *worst = export;
            }
        }
        for (server, (export, is_tunnel)) in seen {
            let evidence = evidence.entry(server).or_default();
            evidence.is_tunnel |= is_tunnel;
            evidence.verdicts.push(NodeVerdict {
                node: node.clone(),
                kind: export.verdict,
                phase: export.phase.clone(),
                sentence: export.sentence.clone(),
            });
        }
    }
    evidence
}

/// A server on a node's loopback interface belongs to that node alone, whatever other nodes have there.
fn of_node(server: Server, node: &str) -> Server {
    if !server.is_loopback() {
        return server;
    }
    let address = match &server.host {
        Host::Address(address) => address.to_string(),
        Host::LinkLocal(address, _) => address.to_string(),
        Host::Name(name) => name.clone(),
    };
    Server { host: Host::Name(format!("{address} of {node}")), ..server }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::verdict::Kind;

    fn export(export: &str, alias: Option<&str>, verdict: Kind) -> ExportReport {
        let (export, alias) = (export.to_owned(), alias.map(str::to_owned));
        ExportReport { export, alias, mounts: 1, verdict, phase: "stat".into(), sentence: "so".into() }
    }

    fn report(exports: Vec<ExportReport>) -> Option<NfsReportSpec> {
        Some(NfsReportSpec { exports, ..NfsReportSpec::default() })
    }

    #[test]
    fn nodes_name_the_same_export_by_folder_name_and_address() {
        let probes = ["nfs.labs.svc/home", "10.0.0.9/data"].map(|text| (text.parse().unwrap(), None));
        let by_name = Some("nfs.labs.svc");
        let reports = BTreeMap::from([
            ("a".to_owned(), report(vec![export("10.96.0.9/home", by_name, Kind::Ok)])),
            (
                "b".to_owned(),
                report(vec![
                    export("10.96.0.9/home/ann", by_name, Kind::Ok),
                    export("10.96.0.9/home/bob", by_name, Kind::Stale),
                    export("10.96.0.9/home/eve", by_name, Kind::Full),
                    export("10.0.0.7/other", None, Kind::Ok),
                    export("]]not a server[[", None, Kind::Ok),
                ]),
            ),
            ("c".to_owned(), None),
        ]);
        let evidence = evidence(&probes.into(), &BTreeMap::new(), &reports);
        let seen: Vec<_> = evidence
            .iter()
            .map(|(server, of_probe)| {
                let verdicts: Vec<_> =
                    of_probe.verdicts.iter().map(|verdict| (verdict.node.as_str(), verdict.kind)).collect();
                (server.to_string(), verdicts)
            })
            .collect();
        assert_eq!(
            seen,
            [
                ("10.0.0.7/other".to_owned(), vec![("b", Kind::Ok)]),
                ("10.0.0.9/data".to_owned(), vec![]),
                ("nfs.labs.svc/home".to_owned(), vec![("a", Kind::Ok), ("b", Kind::Stale)]),
            ]
        );
    }

    #[test]
    fn a_server_that_is_probed_is_no_tunnel() {
        let probes = BTreeMap::from([("nas:20127/".parse().unwrap(), None)]);
        let seen = |node: &str| (node.to_owned(), report(vec![export("127.0.0.1:20127/", Some("nas"), Kind::Ok)]));
        let evidence = evidence(&probes, &BTreeMap::new(), &["a", "b"].map(seen).into());
        let seen: Vec<_> = evidence.values().map(|seen| (seen.verdicts.len(), seen.is_tunnel)).collect();
        assert_eq!(seen, [(2, false)]);
    }

    #[test]
    fn a_volume_behind_a_link_or_a_referral_matches_what_nodes_see() {
        let server = |text: &str| text.parse::<Server>().unwrap();
        let probes = BTreeMap::from([(server("nas/home/link"), None), (server("nas/away"), None)]);
        let locations = BTreeMap::from([
            (server("nas/home/link"), server("nas/home/real")),
            (server("nas/away"), server("10.0.0.7/home")),
        ]);
        let seen =
            vec![export("nas/home/real/sub", None, Kind::Stale), export("10.0.0.7/home", None, Kind::ClientStuck)];
        let evidence = evidence(&probes, &locations, &BTreeMap::from([("a".to_owned(), report(seen))]));
        let kinds: Vec<_> =
            evidence.iter().map(|(server, of_probe)| (server.to_string(), of_probe.verdicts[0].kind)).collect();
        assert_eq!(kinds, [("nas/away".to_owned(), Kind::ClientStuck), ("nas/home/link".to_owned(), Kind::Stale)]);
    }

    #[test]
    fn what_is_behind_loopback_is_never_compared_between_nodes() {
        let reports = BTreeMap::from([
            ("a".to_owned(), report(vec![export("127.0.0.1:20127/", None, Kind::Ok)])),
            ("b".to_owned(), report(vec![export("127.0.0.1:20127/", None, Kind::ClientStuck)])),
            ("c".to_owned(), report(vec![export("[::1]/x", None, Kind::Ok)])),
        ]);
        let evidence = evidence(&BTreeMap::new(), &BTreeMap::new(), &reports);
        let names: Vec<_> = evidence.keys().map(ToString::to_string).collect();
        assert_eq!(names, ["127.0.0.1 of a:20127/", "127.0.0.1 of b:20127/", "::1 of c/x"]);
        assert!(evidence.values().all(|of_probe| of_probe.verdicts.len() == 1 && of_probe.is_tunnel));
    }
}
