//! One round of one export, from every available place: at the address that clients use, behind it, and at the mounts
//! on this node.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use futures_util::future::{OptionFuture, join_all};
use nfs_mounts::mountinfo::Device;

use crate::probe::grace::GraceTimer;
use crate::probe::mount::{DeviceLook, MountSeen};
use crate::probe::result::ProbeResult;
use crate::probe::verdict::{Observations, Verdict};
use crate::probe::{self, Probing};
use crate::server::Server;
use crate::targets::Target;

/// An export that is checked.
#[derive(Debug)]
pub struct CheckedExport {
    /// The server at the address that clients use.
    pub front: Server,
    probing: Probing,
    devices: BTreeMap<Device, DeviceLook>,
    /// Whether the server requires a port below 1024, according to the last round.
    reserved_port: bool,
    grace: GraceTimer,
}

/// The results of one round, and the verdict.
#[derive(Clone, Debug)]
pub struct Round {
    /// At the address that clients use.
    pub front: ProbeResult,
    /// At the server itself.
    pub behind: Option<ProbeResult>,
    /// At the mounts.
    pub mounts: Vec<(PathBuf, MountSeen)>,
    /// The verdict on all results.
    pub verdict: Verdict,
}

impl CheckedExport {
    /// An export before its first round. `probing.owner` must differ from that of other processes.
    pub fn new(front: Server, mut probing: Probing) -> Self {
        // Two concurrent rounds must be two clients of the server, or one would end the other's session.
        probing.owner = format!("{}/{front}", probing.owner);
        Self { front, probing, devices: BTreeMap::new(), reserved_port: false, grace: GraceTimer::default() }
    }

    /// Checks once. Ends within the time limit and 2 s, whatever servers and mounts do.
    pub async fn round(&mut self, target: &Target) -> Round {
        let mut probing = self.probing.clone();
        probing.version = probing.version.or(target.version);
        probing.mount_port = probing.mount_port.or(target.mount_port);
        probing.mount_address = target.mount_address;
        probing.reserved_port = self.reserved_port;
        let behind_probing = Probing { owner: format!("{}/behind", probing.owner), ..probing.clone() };
        let behind = target.behind.as_ref().map(|server| probe::round(server, &behind_probing));
        // A stuck child is kept until it ends, even if its mount is gone.
        self.devices.retain(|device, look| target.mounts.contains_key(device) || look.is_stuck());
        for device in target.mounts.keys() {
            self.devices.entry(*device).or_insert_with(|| DeviceLook::new(probing.limit));
        }
        let looks = self.devices.iter_mut().filter_map(|(device, look)| {
            let paths = target.mounts.get(device)?;
            Some(look.look(*device, paths))
        });
        let (front, behind, mounts) =
            tokio::join!(probe::round(&self.front, &probing), OptionFuture::from(behind), join_all(looks));
        let observations = Observations {
            front: &front,
            behind: behind.as_ref(),
            mounts: mounts.iter().map(|(path, seen)| (path.display().to_string(), seen)).collect(),
            only_mounts: target.only_mounts,
            kerberos: target.kerberos,
        };
        self.reserved_port |= front.from_reserved_port && front.failed().is_none();
        let verdict = self.grace.check(observations.verdict(), front.lease, Instant::now());
        Round { front, behind, mounts, verdict }
    }
}

impl Round {
    /// The duration of the round: the longest at the server or at one of the mounts.
    pub fn time(&self) -> Duration {
        let wire = self.front.steps.iter().map(|step| step.time).sum();
        let mounts = self.mounts.iter().map(|(_, seen)| match seen {
            MountSeen::Answers { time, .. } => *time,
            MountSeen::Hung { after } | MountSeen::Stuck { after, .. } => *after,
            MountSeen::Failed(_) | MountSeen::Unknown(_) => Duration::ZERO,
        });
        mounts.fold(wire, Duration::max)
    }

    /// How long the longest hang among the mounts has lasted, if one hangs that cannot be killed.
    pub fn stuck_for(&self) -> Option<Duration> {
        let stuck = |seen: &MountSeen| match seen {
            MountSeen::Stuck { after, .. } => Some(*after),
            _ => None,
        };
        self.mounts.iter().filter_map(|(_, seen)| stuck(seen)).max()
    }
}
