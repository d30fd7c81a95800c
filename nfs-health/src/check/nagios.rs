//! The output for Nagios, Icinga and others that run its plugins (Monitoring Plugins Development Guidelines): a line
//! with perfdata after a bar, one more line for each export, and the exit code.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use super::{Checked, State, left};
use crate::targets::LeftOut;

/// The exit code if nothing could be checked.
pub(super) const UNKNOWN: u8 = 3;

/// The exit code.
pub(super) fn code(state: State) -> u8 {
    match state {
        State::Well => 0,
        State::Warning => 1,
        State::Critical => 2,
    }
}

/// The line if nothing could be checked.
pub(super) fn unknown(why: &str) -> String {
    format!("NFS UNKNOWN - {}\n", plain(why))
}

pub(super) fn lines(
    checked: &[Checked],
    left_out: &BTreeMap<LeftOut, usize>,
    warn: Option<Duration>,
    critical: Option<Duration>,
) -> String {
    let worst = checked.iter().map(|checked| checked.state).max().unwrap_or(State::Well);
    let bad: Vec<&Checked> = checked.iter().filter(|checked| checked.state > State::Well).collect();
    let word = |state: State| state.name().to_uppercase();
    let head = match (&bad[..], checked) {
        ([], [only]) => describe(only),
        ([], _) => format!("{} exports are healthy", checked.len()),
        ([one], [_]) => describe(one),
        (bad, _) => {
            let first =
                bad.iter().max_by_key(|checked| checked.state).map_or_else(String::new, |first| describe(first));
            format!("{} of {} exports are not healthy: {first}", bad.len(), checked.len())
        }
    };
    let limit = |limit: Option<Duration>| limit.map_or(String::new(), |limit| format!("{}", limit.as_secs_f64()));
    let limits = format!("{};{};0", limit(warn), limit(critical));
    let perfdata: Vec<String> = checked
        .iter()
        .map(|checked| {
            // A label ends at a quote or an equals sign.
            let label = plain(&checked.export).replace(['\'', '='], "_");
            format!("'{label}'={:.6}s;{limits}", checked.round.time().as_secs_f64())
        })
        .collect();
    let mut text = format!("NFS {} - {head} | {}\n", word(worst), perfdata.join(" "));
    if checked.len() > 1 {
        for checked in checked {
            // Writing to a String does not fail.
            let _ = writeln!(text, "{}: {}", word(checked.state), describe(checked));
        }
    }
    for phrase in left(left_out) {
        let _ = writeln!(text, "{}", plain(&phrase));
    }
    text
}

fn describe(checked: &Checked) -> String {
    let time = format!("{:.1} ms", checked.round.time().as_secs_f64() * 1000.0);
    plain(&format!("{}: {} in {time}", checked.export, checked.round.verdict))
}

/// Text that is safe for Nagios: no bar, on one line.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c == '|' || c.is_control() { '/' } else { c }).collect()
}
