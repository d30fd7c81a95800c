//! What pulls and holds images on this machine, and how full its disk may be.

use clap::Args;
use sidecar::settings::Problems;
use sidecar::settings::values::percent;

use crate::runtime::RuntimeEndpoint;

/// Flags and variables of the container runtime.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Container runtime")]
pub struct RuntimeArguments {
    /// Its socket, unix:///… for CRI or docker:///… for Docker; found by itself where unset
    #[arg(long, env = "RUNTIME_ENDPOINT", value_name = "SOCKET")]
    pub runtime_endpoint: Option<String>,
}

impl RuntimeArguments {
    /// The endpoint, if one is set, or `None` with the problem noted.
    pub fn settings(&self, problems: &mut Problems) -> Option<Option<RuntimeEndpoint>> {
        let example = "unix:///run/containerd/containerd.sock";
        problems.parse_optional("RUNTIME_ENDPOINT", self.runtime_endpoint.as_deref(), example, str::parse)
    }
}

/// Flags and variables of the disk limit.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Disk")]
pub struct DiskArguments {
    /// How full pulls may make the file system of images, and where early removal begins
    #[arg(long, env = "DISK_HIGH", value_name = "PERCENT", default_value = "75%")]
    pub disk_high: String,
}

impl DiskArguments {
    /// The limit in percent, or `None` with the problem noted.
    pub fn settings(&self, problems: &mut Problems) -> Option<u8> {
        problems.parse("DISK_HIGH", &self.disk_high, "75%", percent)
    }
}
