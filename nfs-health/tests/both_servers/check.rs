//! One run of `nfs-health check` against one export.

use std::process::Command;
use std::time::{Duration, Instant};

/// The output of a check: verdict and phase, and the sentence.
pub(crate) struct CheckResult {
    pub(crate) verdict: String,
    pub(crate) sentence: String,
    pub(crate) time: Duration,
}

/// How a check runs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum As {
    /// As the shipped agent on a node, or at least with a port below 1024.
    Root,
    /// Without a port below 1024.
    Nobody,
}

pub(crate) fn check(server: &str, version: &str, limit: &str, who: As) -> CheckResult {
    let mut command = match who {
        As::Root => Command::new(env!("CARGO_BIN_EXE_nfs-health")),
        As::Nobody => {
            let mut command = Command::new("setpriv");
            command.args(["--bounding-set=-net_bind_service", "--inh-caps=-net_bind_service"]);
            command.arg(env!("CARGO_BIN_EXE_nfs-health"));
            command
        }
    };
    command.arg("check").env("NFS_SERVERS", server).env("NFS_VERSION", version).env("NFS_TIMEOUT", limit);
    let start = Instant::now();
    let output = command.env("NFS_MOUNTS", "no").output().unwrap();
    let time = start.elapsed();
    let text = String::from_utf8(output.stdout).unwrap();
    let line = text.lines().last().unwrap_or_else(|| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    let line = line.split_whitespace().skip(2).collect::<Vec<_>>().join(" ");
    let (verdict, sentence) = line.split_once(": ").unwrap();
    CheckResult { verdict: verdict.to_owned(), sentence: format!("{sentence}\n{text}"), time }
}
