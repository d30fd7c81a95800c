//! The planner with its agents, as the manifests install them, on a real cluster. All steps share one cluster, because it takes a
//! while to start, and a planner runs for a long time.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod access;
mod bed;
mod catalogue;
mod nodes;
mod record;
mod spawns;
mod troubles;
mod waves;

use self::bed::Bed;
use self::record::Record;

#[test]
fn a_planner_gets_images_to_nodes_whatever_happens() {
    let mut bed = Bed::start();
    let record = Record::start(&bed.kubectl);

    bed.step("catalogue");
    catalogue::a_catalogue_is_published_and_every_node_gets_the_wanted_images(&bed);
    catalogue::a_catalogue_that_was_changed_is_written_again(&bed);
    bed.step("restart");
    waves::a_restarted_planner_continues_the_wave(&bed);
    bed.step("moved tag");
    catalogue::a_moved_tag_is_pulled_again(&bed);
    bed.step("stopped wave");
    waves::a_failing_canary_stops_the_wave(&bed);
    bed.step("a canary's runtime ends");
    waves::another_canary_follows_one_whose_runtime_ends(&mut bed);
    bed.step("orders refused");
    troubles::orders_that_cannot_be_written_are_reported(&bed);
    bed.step("no registry");
    catalogue::without_a_registry_the_last_good_catalogue_is_kept(&mut bed);
    bed.step("taints");
    nodes::taints_of_user_nodes_are_tolerated_and_others_are_not(&bed);
    bed.step("new node");
    nodes::a_new_node_is_closed_until_it_has_its_images(&mut bed);
    nodes::the_orders_of_a_node_are_deleted_with_it(&mut bed);
    bed.step("one of two registries");
    let then = ["GATE_TIMEOUT=1s", "PREPULLER_AGENT_MISSING_AFTER=5s"];
    catalogue::of_two_registries_one_may_be_down(&mut bed, &then);
    bed.step("waiting users");
    nodes::waiting_users_come_first_and_no_gate_waits_forever(&bed);
    record.one_canary_at_a_time();
    bed.step("no agent");
    troubles::a_node_without_an_agent_is_reported(&bed);
    bed.step("spawns");
    spawns::labs_that_start_are_counted_once_over_a_restart(&bed);
    bed.step("token");
    access::the_planners_token_removes_the_gates_taint_and_nothing_else(&bed);
    bed.step("pull pods");
    access::pods_pull_where_agents_may_not(&bed);
    bed.step("end");
}
