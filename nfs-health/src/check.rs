//! `nfs-health check`: one round, for people and for exec probes.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use futures_util::future::join_all;
use nfs_mounts::mountinfo::Mounts;
use sidecar::settings::EXIT_USAGE;

use crate::mount::MountSeen;
use crate::probe::Step;
use crate::settings::Look;
use crate::targets::targets;
use crate::verdict::Verdict;
use crate::volume::{Round, Volume};

/// Looks once at everything and prints it. The exit code is 0 when all is well, 1 when not, and 64 when there is nothing to look
/// at: a probe that looks at nothing must not say that all is well.
///
/// # Errors
///
/// What the system said when the mounts can't be listed, or stdout is gone.
pub async fn check(look: &Look) -> std::io::Result<ExitCode> {
    let mounts = look.mountinfo.as_deref().map_or(Ok(Mounts::default()), read)?;
    let targets = targets(look, &mounts);
    if targets.is_empty() {
        eprintln!(
            "NFS_SERVERS: no server is named, and there is no NFS mount here (example: NFS_SERVERS=10.0.0.9/home)"
        );
        return Ok(ExitCode::from(EXIT_USAGE));
    }
    let rounds = targets.into_iter().map(|(server, target)| async move {
        let mut volume = Volume::new(server.clone(), look.probing.clone());
        (server.to_string(), volume.round(&target).await)
    });
    let rounds = join_all(rounds).await;
    std::io::stdout().write_all(table(&rounds).as_bytes())?;
    let well = rounds.iter().all(|(_, round)| round.verdict.kind.is_healthy());
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn read(path: &Path) -> std::io::Result<Mounts> {
    Mounts::read(path).map_err(|error| std::io::Error::other(format!("cannot read {}: {error}", path.display())))
}

/// A line for each step and mount, and one for the verdict of each export.
fn table(rounds: &[(String, Round)]) -> String {
    let width = rounds.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    let mut line = |name: &str, what: &str, result: &str, time: Option<Duration>, detail: &str| {
        let time = time.map_or(String::new(), |time| format!("{:.1} ms", time.as_secs_f64() * 1000.0));
        let written = format!("{name:width$}  {what:19} {result:7} {time:>10}  {detail}");
        // Writing to a String does not fail.
        let _ = writeln!(text, "{}", written.trim_end());
    };
    for (name, round) in rounds {
        let vantages = [("", Some(&round.front)), ("behind: ", round.behind.as_ref())];
        for (prefix, seen) in vantages {
            for Step { name: step, time, result, .. } in seen.iter().flat_map(|seen| &seen.steps) {
                let what = format!("{prefix}{step}");
                match result {
                    Ok(detail) => line(name, &what, "ok", Some(*time), detail),
                    Err(fault) => line(name, &what, "failed", Some(*time), &fault.to_string()),
                }
            }
        }
        for (path, seen) in &round.mounts {
            let path = path.display();
            match seen {
                MountSeen::Answers { look, time } => {
                    let room = format!("{path}: {} of {} MiB left", look.space.available >> 20, look.space.total >> 20);
                    line(name, "mount", "ok", Some(*time), &room);
                }
                MountSeen::Failed(failure) => line(name, "mount", "failed", None, &format!("{path}: {failure}")),
                MountSeen::Hung { after } => line(name, "mount", "hangs", Some(*after), &path.to_string()),
                MountSeen::Stuck { after, pid } => {
                    line(name, "mount", "stuck", Some(*after), &format!("{path}: process {pid} can't be killed"));
                }
                MountSeen::Unknown(why) => line(name, "mount", "unknown", None, &format!("{path}: {why}")),
            }
        }
        let Verdict { kind, phase, sentence } = &round.verdict;
        line(name, "verdict", kind.name(), None, &format!("{phase}: {sentence}"));
    }
    text
}
