//! The output for programs.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::Checked;
use crate::probe::mount::MountSeen;
use crate::probe::result::{ProbeResult, ProbeStep};
use crate::targets::LeftOut;

/// `{"exports": […], "left_out": {…}}`, with all results, and how many mounts are not checked, by reason; times are in seconds.
pub(super) fn json(checked: &[Checked], left_out: &BTreeMap<LeftOut, usize>) -> String {
    let exports: Vec<Value> = checked.iter().map(export).collect();
    let left_out: BTreeMap<&str, usize> = left_out.iter().map(|(why, count)| (why.name(), *count)).collect();
    format!("{:#}\n", json!({ "exports": exports, "left_out": left_out }))
}

fn export(checked: &Checked) -> Value {
    let Checked { export, round, automounts, state } = checked;
    let steps = steps("front", Some(&round.front)).chain(steps("behind", round.behind.as_ref()));
    json!({
        "export": export,
        "verdict": round.verdict.kind.name(),
        "healthy": round.verdict.kind.is_healthy(),
        "state": state.name(),
        "phase": round.verdict.phase,
        "sentence": round.verdict.sentence,
        "seconds": seconds(round.time()),
        "versions": round.front.versions.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "lease_seconds": round.front.lease.map(seconds),
        "available_bytes": round.front.space.map(|space| space.available),
        "size_bytes": round.front.space.map(|space| space.total),
        "steps": steps.collect::<Vec<_>>(),
        "mounts": round.mounts.iter().map(|(path, seen)| mount(&path.to_string_lossy(), seen)).collect::<Vec<_>>(),
        "automounts": automounts.iter().map(|path| path.to_string_lossy()).collect::<Vec<_>>(),
    })
}

fn steps<'a>(vantage: &'a str, seen: Option<&'a ProbeResult>) -> impl Iterator<Item = Value> + 'a {
    seen.into_iter().flat_map(|seen| &seen.steps).map(move |ProbeStep { phase, name, time, result }| {
        let detail = match result {
            Ok(detail) => detail.clone(),
            Err(fault) => fault.to_string(),
        };
        json!({
            "vantage": vantage,
            "phase": phase.name(),
            "name": name,
            "seconds": seconds(*time),
            "ok": result.is_ok(),
            "detail": detail,
        })
    })
}

fn mount(path: &str, seen: &MountSeen) -> Value {
    let (time, detail) = match seen {
        MountSeen::Answers { time, .. } => (Some(*time), String::new()),
        MountSeen::Hung { after } => (Some(*after), "it does not answer".to_owned()),
        MountSeen::Stuck { after, pid } => (Some(*after), format!("process {pid} can't be killed")),
        MountSeen::Failed(failure) => (None, failure.to_string()),
        MountSeen::Unknown(why) => (None, why.clone()),
    };
    let space = match seen {
        MountSeen::Answers { look, .. } => Some(look.space),
        _ => None,
    };
    json!({
        "path": path,
        "state": seen.name(),
        "seconds": time.map(seconds),
        "detail": detail,
        "available_bytes": space.map(|space| space.available),
        "size_bytes": space.map(|space| space.total),
    })
}

fn seconds(time: Duration) -> f64 {
    time.as_secs_f64()
}
