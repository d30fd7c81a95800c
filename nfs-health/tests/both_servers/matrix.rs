//! The verdict of each state of each server in each version, and its table in docs/nfs.md.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use super::asked;
use super::check::{As, check};

const VERSIONS: [&str; 4] = ["3", "4.0", "4.1", "4.2"];

/// One state of one server, and the expected result for each version.
pub(crate) struct State {
    name: &'static str,
    server: &'static str,
    /// Verdict and phase by version, in the order of [`VERSIONS`].
    seen: Vec<String>,
    waits: bool,
}

#[derive(Default)]
pub(crate) struct Matrix(Vec<State>);

impl Matrix {
    /// Checks all versions in a state, and records the results; each must be one of `expected`.
    pub(crate) fn note(&mut self, name: &'static str, server: &'static str, place: &str, expected: &[&str]) {
        self.note_as(name, server, place, expected, As::Root, &mut || ());
    }

    pub(crate) fn note_as(
        &mut self,
        name: &'static str,
        server: &'static str,
        place: &str,
        expected: &[&str],
        who: As,
        before: &mut dyn FnMut(),
    ) {
        // Checks that must time out get little time; those that are answered get enough for a busy machine.
        let waits = expected.iter().any(|expected| expected.starts_with("unreachable")) || name.starts_with("stopped");
        let limit = if waits { "10s" } else { "60s" };
        let results = if waits {
            // The checks run concurrently, because each waits for its whole time limit.
            std::thread::scope(|scope| {
                let checks = VERSIONS.map(|version| scope.spawn(move || check(place, version, limit, who)));
                checks.map(|check| check.join().unwrap())
            })
        } else {
            VERSIONS.map(|version| {
                before();
                check(place, version, limit, who)
            })
        };
        for (version, result) in VERSIONS.iter().zip(&results) {
            assert!(
                expected.contains(&result.verdict.as_str()),
                "{server}, {name}, version {version}: {} and none of {expected:?}: {}",
                result.verdict,
                result.sentence
            );
            assert!(
                !waits || result.time >= Duration::from_secs(10),
                "{server}, {name}: {:?} of patience",
                result.time
            );
        }
        let seen = results.map(|result| result.verdict);
        self.0.push(State { name, server, seen: seen.into(), waits });
    }

    /// The table, with states in the order in which they were first recorded.
    pub(crate) fn table(&self) -> String {
        let mut names: Vec<&str> = Vec::new();
        for state in &self.0 {
            if !names.contains(&state.name) {
                names.push(state.name);
            }
        }
        let mut table = String::from("| state | nfs-ganesha | Linux (knfsd) | when |\n|---|---|---|---|\n");
        for name in names {
            let of = |server: &str| self.0.iter().find(|state| (state.name, state.server) == (name, server));
            let cell = |server| of(server).map_or_else(|| "–".to_owned(), |state| state.cell());
            let waits = ["ganesha", "knfsd"].iter().any(|server| of(server).is_some_and(|state| state.waits));
            let when = if waits { "after `NFS_TIMEOUT`" } else { "at once" };
            table += &format!("| {name} | {} | {} | {when} |\n", cell("ganesha"), cell("knfsd"));
        }
        table
    }
}

impl State {
    /// Each verdict with its versions, which are omitted if all have it.
    fn cell(&self) -> String {
        let mut versions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (version, seen) in VERSIONS.iter().zip(&self.seen) {
            versions.entry(seen).or_default().push(version);
        }
        let written = |seen: &str| {
            let (verdict, phase) = seen.split_once(' ').unwrap_or((seen, ""));
            format!("`{verdict}` {phase}")
        };
        if let [(seen, _)] = &versions.iter().collect::<Vec<_>>()[..] {
            return written(seen);
        }
        let mut cells: Vec<(&str, String)> = versions
            .iter()
            .map(|(seen, versions)| (versions[0], format!("{}: {}", versions.join(", "), written(seen))))
            .collect();
        cells.sort_unstable();
        cells.into_iter().map(|(_, cell)| cell).collect::<Vec<_>>().join("; ")
    }
}

pub(crate) const ABOVE: &str = "<!-- the matrix: written by nfs-health/tests/both_servers.rs -->\n";
pub(crate) const BELOW: &str = "<!-- end of the matrix -->\n";

/// Compares the table with that in the documents, or writes it there.
pub(crate) fn keep(table: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/nfs.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once(ABOVE).unwrap();
    let (written, after) = rest.split_once(BELOW).unwrap();
    if asked("NFS_MATRIX").as_deref() == Some("write") {
        std::fs::write(&path, format!("{before}{ABOVE}{table}{BELOW}{after}")).unwrap();
    } else {
        assert_eq!(written, table, "docs/nfs.md is out of date: run this test with NFS_MATRIX=write");
    }
}
