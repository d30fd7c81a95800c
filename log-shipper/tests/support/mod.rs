//! A node's log folder as kubelet keeps it, a consumer that counts by number, and the shipper between them.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part")]
#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

pub mod consumer;
pub mod exchange;
pub mod kubelet;
pub mod layout;
pub mod wire_recorder;

use std::net::SocketAddr;
use std::path::Path;

use testbed::rabbitmq::{PASSWORD, USER};

/// The shipper's settings for a broker over plain TCP.
pub fn settings(root: &Path, state: &Path, broker: SocketAddr) -> Vec<(String, String)> {
    let pairs = [
        ("LOG_PATHS", root.display().to_string()),
        ("STATE_DIR", state.display().to_string()),
        ("AMQP_URL", format!("amqp://{broker}/%2f")),
        ("AMQP_USERNAME", USER.to_owned()),
        ("AMQP_PASSWORD", PASSWORD.to_owned()),
        ("SHIPPER_NAME", "test".to_owned()),
    ];
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// The tested shipper: the one that was built with the test, or the one in `LOG_SHIPPER`, such as a release build.
pub fn program() -> String {
    std::env::var_os("LOG_SHIPPER")
        .and_then(|program| program.into_string().ok())
        .unwrap_or_else(|| env!("CARGO_BIN_EXE_log-shipper").to_owned())
}

/// Starts the shipper.
pub fn start(settings: &[(String, String)]) -> testbed::daemon::Daemon {
    let settings: Vec<_> = settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    testbed::daemon::Daemon::start(&program(), &["run"], &settings).unwrap()
}

/// Runs it until everything is shipped. Returns its exit code and its log.
pub fn until_idle(settings: &[(String, String)]) -> (Option<i32>, String) {
    until_idle_with(settings, &[])
}

/// The same with more arguments.
pub fn until_idle_with(settings: &[(String, String)], arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = std::process::Command::new(program());
    command
        .args(["run", "--until-idle"])
        .args(arguments)
        .env_clear()
        .envs(settings.iter().map(|(name, value)| (name, value)));
    let output = command.output().unwrap();
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), log)
}
