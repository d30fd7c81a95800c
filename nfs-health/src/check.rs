//! `nfs-health check`: one round, for operators, exec probes and Nagios-compatible monitoring.

mod json;
mod nagios;
mod table;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use futures_util::future::join_all;
use nfs_mounts::mountinfo::Mounts;
use sidecar::settings::EXIT_USAGE;
use sidecar::stdio::{complain, print};

use crate::agent::round::{CheckedExport, Round};
use crate::probe::mount_list::MountList;
use crate::settings::{Check, Output};
use crate::targets::{Found, LeftOut, targets};

/// The result for one export.
#[derive(Clone, Debug)]
struct Checked {
    export: String,
    round: Round,
    automounts: Vec<PathBuf>,
    state: State,
}

/// The state of an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    Well,
    /// It works, but is slow or in its grace period.
    Warning,
    /// It does not work, or is too slow.
    Critical,
}

const NOTHING: &str =
    "NFS_SERVERS: no server is named, and there is no NFS mount here (example: NFS_SERVERS=10.0.0.9/home)";

/// Checks everything once and prints the result. The exit code is 0 if everything is healthy, 1 if not, and 64 if there
/// is nothing to check, because a probe that checks nothing must not report success. With Nagios' output it is 0, 1, 2
/// or 3, as for its plugins.
///
/// # Errors
///
/// If the mounts cannot be listed, or printing fails.
pub async fn check(settings: &Check) -> anyhow::Result<ExitCode> {
    let Check { target_settings, output, warn, critical } = settings;
    let mounts = match target_settings.mountinfo.clone().map(MountList::new) {
        Some(mut list) => list.read().await.map(|(mounts, _)| mounts),
        None => Ok(Mounts::default()),
    };
    let mounts = match mounts.map_err(|error| std::io::Error::other(format!("cannot read {error}"))) {
        Err(error) if *output == Output::Nagios => {
            return printed(&nagios::unknown(&error.to_string()), nagios::UNKNOWN);
        }
        mounts => mounts?,
    };
    let Found { targets, left_out } = targets(target_settings, &mounts);
    if targets.is_empty() {
        let nothing = [NOTHING.to_owned()].into_iter().chain(left(&left_out)).collect::<Vec<_>>().join("; ");
        if *output == Output::Nagios {
            return printed(&nagios::unknown(&nothing), nagios::UNKNOWN);
        }
        complain(&nothing);
        return Ok(ExitCode::from(EXIT_USAGE));
    }
    let rounds = targets.into_iter().map(|(server, target)| async move {
        let mut export = CheckedExport::new(server.clone(), target_settings.probing.clone());
        let round = export.round(&target).await;
        let state = state(&round, *warn, *critical);
        Checked { export: server.to_string(), round, automounts: target.automounts, state }
    });
    let checked = join_all(rounds).await;
    let worst = checked.iter().map(|checked| checked.state).max().unwrap_or(State::Well);
    let code = if worst == State::Critical { 1 } else { 0 };
    match output {
        Output::Table => printed(&table::table(&checked, &left_out), code),
        Output::Json => printed(&json::json(&checked, &left_out), code),
        Output::Nagios => printed(&nagios::lines(&checked, &left_out, *warn, *critical), nagios::code(worst)),
    }
}

/// How many mounts are not checked, a phrase for each reason. The export's own lines name its automounts.
fn left(left_out: &BTreeMap<LeftOut, usize>) -> impl Iterator<Item = String> {
    let others = left_out.iter().filter(|(why, _)| **why != LeftOut::Automount);
    others.map(|(why, count)| format!("mounts that are not checked: {count}, {}", why.reason()))
}

fn printed(text: &str, code: u8) -> anyhow::Result<ExitCode> {
    print(text)?;
    Ok(ExitCode::from(code))
}

fn state(round: &Round, warn: Option<Duration>, critical: Option<Duration>) -> State {
    let (time, kind) = (round.time(), round.verdict.kind);
    let beyond = |limit: Option<Duration>| limit.is_some_and(|limit| time >= limit);
    if !kind.is_healthy() || beyond(critical) {
        State::Critical
    } else if kind != crate::probe::verdict::Kind::Ok || beyond(warn) {
        State::Warning
    } else {
        State::Well
    }
}

impl State {
    /// The state in one word.
    fn name(self) -> &'static str {
        match self {
            Self::Well => "ok",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

#[cfg(test)]
mod tests;
