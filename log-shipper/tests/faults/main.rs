//! Kills, outages, cuts, stalls, refusals, truncations at random, and an account of every line.

#![allow(unreachable_pub, reason = "one test program of several files")]
#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod judge;
mod node;
mod run;
#[path = "../support/mod.rs"]
mod support;

#[test]
fn thirty_faults_lose_nothing_unseen() {
    run::run(30, seed(7), false);
}

#[test]
#[ignore = "takes twenty minutes: cargo test -p log-shipper --test faults -- --ignored --nocapture"]
fn a_thousand_faults_lose_nothing_unseen() {
    run::run(1000, seed(std::process::id().into()), true);
}

/// `FAULTS_SEED`, to repeat a run, or this one.
fn seed(default: u64) -> u64 {
    std::env::var_os("FAULTS_SEED").and_then(|seed| seed.to_str()?.parse().ok()).unwrap_or(default)
}
