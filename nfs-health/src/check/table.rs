//! The human-readable output: a line for each step and mount, and one for the verdict of each export.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use super::{Checked, left};
use crate::probe::mount::MountSeen;
use crate::probe::result::ProbeStep;
use crate::probe::verdict::Verdict;
use crate::targets::LeftOut;

pub(super) fn table(checked: &[Checked], left_out: &BTreeMap<LeftOut, usize>) -> String {
    let width = checked.iter().map(|checked| checked.export.chars().count()).max().unwrap_or(0);
    let mut text: String = left(left_out).map(|phrase| phrase + "\n").collect();
    let mut line = |name: &str, what: &str, result: &str, time: Option<Duration>, detail: &str| {
        let time = time.map_or(String::new(), |time| format!("{:.1} ms", time.as_secs_f64() * 1000.0));
        let written = format!("{name:width$}  {what:19} {result:7} {time:>10}  {detail}");
        // A path may have a newline.
        let written = written.replace(|c: char| c.is_control(), "?");
        // Writing to a String does not fail.
        let _ = writeln!(text, "{}", written.trim_end());
    };
    for Checked { export: name, round, automounts, state } in checked {
        let vantages = [("", Some(&round.front)), ("behind: ", round.behind.as_ref())];
        for (prefix, seen) in vantages {
            for ProbeStep { name: step, time, result, .. } in seen.iter().flat_map(|seen| &seen.steps) {
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
                    line(name, "mount", "ok", Some(*time), &format!("{path}: {}", look.space));
                }
                MountSeen::Failed(failure) => line(name, "mount", "failed", None, &format!("{path}: {failure}")),
                MountSeen::Hung { after } => line(name, "mount", "hangs", Some(*after), &path.to_string()),
                MountSeen::Stuck { after, pid } => {
                    line(name, "mount", "stuck", Some(*after), &format!("{path}: process {pid} can't be killed"));
                }
                MountSeen::Unknown(why) => line(name, "mount", "unknown", None, &format!("{path}: {why}")),
            }
        }
        for path in automounts {
            line(
                name,
                "mount",
                "left",
                None,
                &format!("{}: an automount; checking it would keep it from expiring", path.display()),
            );
        }
        if *state > super::state(round, None, None) {
            line(name, "time", state.name(), Some(round.time()), "longer than --warn or --critical");
        }
        let Verdict { kind, phase, sentence } = &round.verdict;
        line(name, "verdict", kind.name(), None, &format!("{phase}: {sentence}"));
    }
    text
}
