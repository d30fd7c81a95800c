//! Random kills, outages, cuts, stalls, refusals and truncations, and a check that every line is accounted for.

#![allow(unreachable_pub, reason = "one test program of several files")]
#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod node;
mod run;
mod shipper_logs;
#[path = "../support/mod.rs"]
mod support;

#[test]
fn thirty_faults_lose_nothing_unreported() {
    run::run(30, seed(7), false);
}

#[test]
#[ignore = "takes twenty minutes: cargo test -p log-shipper --test faults -- --ignored --nocapture"]
fn a_thousand_faults_lose_nothing_unreported() {
    run::run(1000, seed(std::process::id().into()), true);
}

/// `FAULTS_SEED`, to repeat a run, or this default.
fn seed(default: u64) -> u64 {
    std::env::var_os("FAULTS_SEED").and_then(|seed| seed.to_str()?.parse().ok()).unwrap_or(default)
}
