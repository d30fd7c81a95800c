//! The container runtime on this machine, and the limit of its disk.

use clap::Args;
use sidecar::settings::Problems;
use sidecar::settings::values::percent;

use crate::runtime::{RuntimeEndpoint, RuntimeError};

/// Flags and variables of the container runtime.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Container runtime")]
pub struct RuntimeArguments {
    /// Socket of the container runtime: unix:///… for CRI, docker:///… for Docker. Unset: the usual sockets are tried
    #[arg(long, env = "RUNTIME_ENDPOINT", value_name = "SOCKET")]
    pub runtime_endpoint: Option<String>,
}

impl RuntimeArguments {
    /// The endpoint, if it is set, or `None` with the problem recorded.
    pub fn settings(&self, problems: &mut Problems) -> Option<Option<RuntimeEndpoint>> {
        let example = "unix:///run/containerd/containerd.sock";
        problems.parse_optional("RUNTIME_ENDPOINT", self.runtime_endpoint.as_deref(), example, str::parse)
    }
}

/// The problem with the setting if several runtimes were found; `None` for other errors.
pub fn unclear_runtime(error: &RuntimeError) -> Option<Problems> {
    let RuntimeError::SeveralFound { found } = error else { return None };
    let found: Vec<String> = found.iter().map(ToString::to_string).collect();
    let mut problems = Problems::default();
    let reason = format!("must be set, because more than one container runtime answers here: {}", found.join(" and "));
    problems.add("RUNTIME_ENDPOINT", reason, "unix:///run/containerd/containerd.sock");
    Some(problems)
}

/// Flags and variables of the disk limit.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Disk")]
pub struct DiskArguments {
    /// Maximum used share of the file system that holds images; pulls that would exceed it are refused, and early removal of images
    /// starts above it
    #[arg(long, env = "DISK_HIGH", value_name = "PERCENT", default_value = "75%")]
    pub disk_high: String,
}

impl DiskArguments {
    /// The limit in percent, or `None` with the problem recorded.
    pub fn settings(&self, problems: &mut Problems) -> Option<u8> {
        problems.parse("DISK_HIGH", &self.disk_high, "75%", percent)
    }
}
