use serde_json::json;

use super::*;
use crate::plan::seen::OrdersObject;

const MINUTE: Duration = Duration::from_secs(60);

fn object(status: serde_json::Value) -> SeenOrders {
    let mut object = json!({"metadata": {"name": "node1"}, "spec": {"orders": []}});
    if !status.is_null() {
        object["status"] = status;
    }
    SeenOrders::new(serde_json::from_value::<OrdersObject>(object).unwrap())
}

#[test]
fn an_agent_is_missing_silent_or_without_a_runtime() {
    let reported = "2026-11-29T01:00:00Z";
    let away = json!([{"type": "RuntimeUnavailable", "status": "True", "message": "nobody listens"}]);
    let of = |status, minutes: u32| AgentState::of(Some(&object(status)), minutes * MINUTE, 5 * MINUTE);
    for (status, minutes, expected) in [
        (json!(null), 4, AgentState::Awaited),
        (json!(null), 5, AgentState::Missing),
        (json!({"reported": reported}), 10, AgentState::Fine),
        (json!({"reported": reported}), 11, AgentState::Silent(11 * MINUTE)),
        (json!({"reported": reported, "conditions": away}), 1, AgentState::NoRuntime("nobody listens".to_owned())),
        (json!({"reported": reported, "conditions": away}), 20, AgentState::Silent(20 * MINUTE)),
        // An older agent reports only changes.
        (json!({}), 1000, AgentState::Fine),
        (json!({"conditions": away}), 1000, AgentState::NoRuntime("nobody listens".to_owned())),
    ] {
        assert_eq!(of(status.clone(), minutes), expected, "{status} {minutes}");
    }
    assert_eq!(AgentState::of(None, Duration::MAX, 5 * MINUTE), AgentState::Awaited);
}

#[test]
fn what_is_seen_for_the_first_time_may_be_old() {
    let (time, now): (Timestamp, _) = ("2026-11-29T01:00:00Z".parse().unwrap(), Instant::now() + 100 * MINUTE);
    let at = |created: &str, status| {
        let created = Some(created.parse().unwrap());
        heard(&SeenOrders { created, ..object(status) }, (time, now))
    };
    let old = "2026-11-28T01:00:00Z";
    assert_eq!(at(old, json!({"reported": "2026-11-29T00:40:00Z"})), now - 20 * MINUTE);
    // The node's clock is ahead.
    assert_eq!(at(old, json!({"reported": "2026-11-29T02:00:00Z"})), now);
    assert_eq!(at("2026-11-29T02:00:00Z", json!(null)), now);
    // A restarted planner finds a node that has had orders for a while, and no report.
    assert_eq!(at("2026-11-29T00:50:00Z", json!(null)), now - 10 * MINUTE);
    // An older agent does not record when it reports.
    assert_eq!(at(old, json!({})), now);
}
