use super::*;
use crate::probe::fault::Fault;
use crate::probe::result::{Phase, ProbeResult, ProbeStep};
use crate::probe::verdict::{Kind, Verdict};

fn checked(export: &str, kind: Kind, milliseconds: u64, warn: u64, critical: u64) -> Checked {
    let limit = |milliseconds: u64| (milliseconds > 0).then(|| Duration::from_millis(milliseconds));
    let time = Duration::from_millis(milliseconds);
    let result = if kind.is_healthy() { Ok(String::new()) } else { Err(Fault::Refused) };
    let front = ProbeResult {
        steps: vec![ProbeStep { phase: Phase::Connect, name: "connect", time, result }],
        ..ProbeResult::default()
    };
    let verdict = Verdict { kind, phase: "connect", sentence: "a|b".into() };
    let round = Round { front, behind: None, mounts: Vec::new(), verdict };
    let state = state(&round, limit(warn), limit(critical));
    Checked { export: export.into(), round, automounts: Vec::new(), state }
}

#[test]
fn thresholds_and_verdicts_determine_the_state() {
    for (kind, time, warn, critical, expected) in [
        (Kind::Ok, 5, 0, 0, State::Well),
        (Kind::Ok, 5, 6, 9, State::Well),
        (Kind::Ok, 6, 6, 9, State::Warning),
        (Kind::Ok, 9, 6, 9, State::Critical),
        (Kind::Ok, 9, 0, 9, State::Critical),
        (Kind::Grace, 1, 6, 9, State::Warning),
        (Kind::ServerDown, 1, 6, 9, State::Critical),
    ] {
        assert_eq!(checked("a/b", kind, time, warn, critical).state, expected, "{kind:?} {time}");
    }
}

#[test]
fn nagios_output_has_a_line_perfdata_and_an_exit_code() {
    let (warn, critical) = (Some(Duration::from_millis(500)), Some(Duration::from_secs(2)));
    let well = checked("10.0.0.9/home", Kind::Ok, 12, 500, 2000);
    let down = checked("nas/o'x=y", Kind::ServerDown, 700, 500, 2000);
    assert_eq!(
        nagios::lines(std::slice::from_ref(&well), &BTreeMap::new(), warn, critical),
        "NFS OK - 10.0.0.9/home: ok in 12.0 ms | '10.0.0.9/home'=0.012000s;0.5;2;0\n"
    );
    let both = nagios::lines(&[well, down], &BTreeMap::new(), warn, None);
    let mut lines = both.lines();
    assert_eq!(
        lines.next().unwrap(),
        "NFS CRITICAL - 1 of 2 exports are not healthy: nas/o'x=y: server_down (connect): a/b in 700.0 ms | \
         '10.0.0.9/home'=0.012000s;0.5;;0 'nas/o_x_y'=0.700000s;0.5;;0"
    );
    assert_eq!(lines.count(), 2);
    assert_eq!([State::Well, State::Warning, State::Critical].map(nagios::code), [0, 1, 2]);
}

#[test]
fn json_has_everything_that_was_seen() {
    let text = json::json(&[checked("a/b", Kind::ServerDown, 5, 0, 0)], &BTreeMap::new());
    let document: serde_json::Value = serde_json::from_str(&text).unwrap();
    let export = &document["exports"][0];
    assert_eq!((&export["verdict"], &export["healthy"]), (&"server_down".into(), &false.into()));
    assert_eq!(
        (&export["steps"][0]["ok"], &export["steps"][0]["detail"]),
        (&false.into(), &"the connection is refused".into())
    );
}

#[test]
fn a_table_names_what_was_too_slow() {
    let text = table::table(&[checked("a/b", Kind::Ok, 9, 6, 0)], &BTreeMap::new());
    assert!(text.contains("time") && text.contains("warning"), "{text}");
    assert!(text.lines().last().unwrap().contains("verdict"), "{text}");
}
