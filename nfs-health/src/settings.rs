//! Settings of nfs-health.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use sidecar::admin::AdminArguments;
use sidecar::log::{LogArguments, LogSettings};
use sidecar::settings::{Problems, values};

use crate::probe::{Probing, Version};
use crate::server::Server;
use crate::targets::TargetSettings;
use crate::volumes::settings::{VolumesArguments, VolumesSettings};

mod check;
mod servers;

pub use self::check::{Check, Output};

use self::check::CheckArguments;
use self::servers::servers_of;

/// Watches NFS servers over the network and NFS mounts on their nodes, and reports what is wrong.
#[derive(Parser, Clone, Debug)]
#[command(name = "nfs-health", version)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Clone, Debug)]
enum Command {
    /// Check once and print a line for each step and a verdict; exit code 0 if all exports are healthy, 1 if not (Nagios: 0, 1, 2 or 3)
    Check(Box<CheckArguments>),
    /// Probe continuously and export metrics; on a node of a cluster, also write an NfsReport for `judge`
    Run(Box<RunArguments>),
    /// Compare the NfsReports of all nodes of a cluster, set node conditions and record Events
    Judge(Box<JudgeArguments>),
    /// Create a volume and a claim for each namespace that uses the server, from the server's Service; safe to run again
    Volumes(Box<VolumesArguments>),
}

#[derive(Args, Clone, Debug)]
struct RunArguments {
    #[command(flatten)]
    servers: ServerArguments,
    #[command(flatten)]
    mounts: MountArguments,
    #[command(flatten)]
    watch: WatchArguments,
    #[command(flatten)]
    reports: ReportArguments,
    #[command(flatten)]
    admin: AdminArguments,
    #[command(flatten)]
    log: LogArguments,
}

#[derive(Args, Clone, Debug)]
struct JudgeArguments {
    #[command(flatten)]
    servers: ServerArguments,
    #[command(flatten)]
    watch: WatchArguments,
    #[command(flatten)]
    reports: ReportArguments,
    /// Whether to taint nodes that are at fault themselves (labhands.dev/nfs:NoSchedule) until they recover
    #[arg(long, env = "NFS_TAINT", value_name = "BOOL", default_value = "false", help_heading = "Watch")]
    nfs_taint: String,
    #[command(flatten)]
    admin: AdminArguments,
    #[command(flatten)]
    log: LogArguments,
}

#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "What to check")]
struct ServerArguments {
    /// Servers with their exports; without an export, only the server itself is probed. Put a backslash before a comma or a space
    /// in an export
    #[arg(long, env = "NFS_SERVERS", value_name = "HOST[:PORT]/EXPORT,…")]
    nfs_servers: Option<String>,
    /// Address of the server behind an address of NFS_SERVERS (a Service or a load balancer), to distinguish a server that is down from
    /// a broken network path
    #[arg(long, env = "NFS_BACKENDS", value_name = "HOST[:PORT]=HOST[:PORT],…")]
    nfs_backends: Option<String>,
    /// NFS version to probe: 3, 4.0, 4.1, 4.2, or auto for the highest that the server supports
    #[arg(long, env = "NFS_VERSION", value_name = "VERSION", default_value = "auto")]
    nfs_version: String,
    /// Port of mountd, for version 3 [default: ask the portmapper]
    #[arg(long, env = "NFS_MOUNT_PORT", value_name = "PORT")]
    nfs_mount_port: Option<String>,
    /// Time limit for one round of a server or a mount
    #[arg(long, env = "NFS_TIMEOUT", value_name = "DURATION", default_value = "10s")]
    nfs_timeout: String,
    /// Name of this node, by which servers know it [default: the host name]
    #[arg(long, env = "NODE_NAME", value_name = "NAME")]
    node_name: Option<String>,
}

#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "What to check")]
struct MountArguments {
    /// Whether to check the NFS mounts of this node as well
    #[arg(long, env = "NFS_MOUNTS", value_name = "BOOL", default_value = "true")]
    nfs_mounts: String,
    /// File that lists the mounts; /proc/1/mountinfo lists those of the node if its processes are visible
    #[arg(long, env = "NFS_MOUNTINFO", value_name = "FILE", default_value = "/proc/self/mountinfo")]
    nfs_mountinfo: String,
    /// Mounts to ignore, with all mounts below them; `*` matches any characters
    #[arg(long, env = "NFS_MOUNTS_EXCLUDED", value_name = "PATH,…")]
    nfs_mounts_excluded: Option<String>,
}

#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Watch")]
struct WatchArguments {
    /// Time between two rounds of a server
    #[arg(long, env = "NFS_INTERVAL", value_name = "DURATION", default_value = "30s")]
    nfs_interval: String,
    /// Number of consecutive rounds that must agree before the verdict changes
    #[arg(long, env = "NFS_ROUNDS", value_name = "COUNT", default_value = "2")]
    nfs_rounds: String,
}

#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Watch")]
struct ReportArguments {
    /// Namespace of the NfsReports; if unset, `run` writes none and `judge` reads those of its own namespace
    #[arg(long, env = "NFS_REPORT_NAMESPACE", value_name = "NAMESPACE")]
    nfs_report_namespace: Option<String>,
}

/// The settings of one command.
#[derive(Debug)]
pub enum Settings {
    /// Check once.
    Check(Check),
    /// Check continuously.
    Run(Box<RunSettings>),
    /// Compare all nodes.
    Judge(Box<JudgeSettings>),
    /// Create volumes and claims.
    Volumes(Box<VolumesSettings>),
}

/// Settings of `run`.
#[derive(Debug)]
pub struct RunSettings {
    /// What to check.
    pub target_settings: TargetSettings,
    /// Time between two rounds.
    pub interval: Duration,
    /// How many rounds must agree.
    pub rounds: u32,
    /// The node's report.
    pub report: Option<ReportPlace>,
    /// The address of the admin server.
    pub admin: SocketAddr,
    /// How to log.
    pub log: LogSettings,
}

/// The place of a node's report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportPlace {
    /// The namespace.
    pub namespace: String,
    /// The node, which is also the report's name.
    pub node: String,
}

/// Settings of `judge`.
#[derive(Debug)]
pub struct JudgeSettings {
    /// Servers to check, in addition to those of PersistentVolumes.
    pub target_settings: TargetSettings,
    /// Time between two rounds of a server.
    pub interval: Duration,
    /// How many rounds, and judgments, must agree.
    pub rounds: u32,
    /// The namespace of the reports; the own namespace if unset.
    pub namespace: Option<String>,
    /// Whether to taint nodes.
    pub taint: bool,
    /// The address of the admin server.
    pub admin: SocketAddr,
    /// How to log.
    pub log: LogSettings,
}

impl Settings {
    /// Parses all settings of the command.
    ///
    /// # Errors
    ///
    /// All invalid settings.
    pub fn parse(arguments: &Arguments) -> Result<Self, Problems> {
        let mut problems = Problems::default();
        let settings = match &arguments.command {
            Command::Check(check) => check.settings(&mut problems).map(Self::Check),
            Command::Run(run) => run.settings(&mut problems).map(Box::new).map(Self::Run),
            Command::Judge(judge) => judge.settings(&mut problems).map(Box::new).map(Self::Judge),
            Command::Volumes(volumes) => volumes.settings(&mut problems).map(Box::new).map(Self::Volumes),
        };
        problems.finish(settings)
    }
}

impl RunArguments {
    fn settings(&self, problems: &mut Problems) -> Option<RunSettings> {
        let target_settings = target_settings(&self.servers, &self.mounts, problems, "labhands-nfs-health");
        let watch = self.watch.settings(problems);
        let report = match (&self.reports.nfs_report_namespace, &self.servers.node_name) {
            (None, _) => None,
            (Some(namespace), Some(node)) => Some(ReportPlace { namespace: namespace.clone(), node: node.clone() }),
            (Some(_), None) => {
                problems.add("NODE_NAME", "must be set for a report to be written (NFS_REPORT_NAMESPACE)", "node-1");
                None
            }
        };
        let (admin, log) = (self.admin.settings(problems), self.log.settings(problems));
        let (interval, rounds) = watch?;
        Some(RunSettings { target_settings: target_settings?, interval, rounds, report, admin: admin?, log: log? })
    }
}

impl JudgeArguments {
    fn settings(&self, problems: &mut Problems) -> Option<JudgeSettings> {
        let target_settings = self.servers.settings(problems, "labhands-nfs-health-judge");
        let watch = self.watch.settings(problems);
        let taint = problems.parse("NFS_TAINT", &self.nfs_taint, "true", values::switch);
        let namespace = self.reports.nfs_report_namespace.clone();
        let (admin, log) = (self.admin.settings(problems), self.log.settings(problems));
        let (interval, rounds) = watch?;
        Some(JudgeSettings {
            target_settings: target_settings?,
            interval,
            rounds,
            namespace,
            taint: taint?,
            admin: admin?,
            log: log?,
        })
    }
}

impl WatchArguments {
    /// The interval and the rounds.
    fn settings(&self, problems: &mut Problems) -> Option<(Duration, u32)> {
        let (least, most) = (Duration::from_secs(1), Duration::from_secs(24 * 60 * 60));
        let interval = problems
            .parse("NFS_INTERVAL", &self.nfs_interval, "30s", |text| values::duration_within(text, least, most));
        let rounds = problems.parse("NFS_ROUNDS", &self.nfs_rounds, "2", |text| values::count(text, 1, 100));
        Some((interval?, rounds?))
    }
}

fn target_settings(
    servers: &ServerArguments,
    mounts: &MountArguments,
    problems: &mut Problems,
    owner: &str,
) -> Option<TargetSettings> {
    let target_settings = servers.settings(problems, owner);
    let wanted = problems.parse("NFS_MOUNTS", &mounts.nfs_mounts, "true", values::switch)?;
    let target_settings = target_settings?;
    if target_settings.servers.is_empty() && !wanted {
        problems.add(
            "NFS_SERVERS",
            "no server is configured and NFS_MOUNTS is off, so there is nothing to check",
            "10.0.0.9/home",
        );
    }
    let excluded = mounts.nfs_mounts_excluded.as_deref().unwrap_or_default();
    let excluded = problems.parse("NFS_MOUNTS_EXCLUDED", excluded, "/net,/mnt/backup*", |text| {
        let path = |item: &str| match item.starts_with(['/', '*']) {
            true => Ok(item.to_owned()),
            false => Err(format!("{item:?} is not an absolute path")),
        };
        values::list(text).map(path).collect::<Result<Vec<String>, String>>()
    })?;
    Some(TargetSettings {
        mountinfo: wanted.then(|| PathBuf::from(&mounts.nfs_mountinfo)),
        excluded,
        ..target_settings
    })
}

impl ServerArguments {
    fn settings(&self, problems: &mut Problems, owner: &str) -> Option<TargetSettings> {
        let servers = self.nfs_servers.as_deref().unwrap_or_default();
        let servers = problems.parse("NFS_SERVERS", servers, "10.0.0.9/home", servers_of);
        let known = servers.clone().unwrap_or_default();
        let backends = self.nfs_backends.as_deref().unwrap_or_default();
        let backends =
            problems.parse("NFS_BACKENDS", backends, "10.96.0.9=10.244.1.7", |text| backends_of(text, &known));
        let version = problems.parse("NFS_VERSION", &self.nfs_version, "4.1", version);
        let mount_port = problems.parse_optional("NFS_MOUNT_PORT", self.nfs_mount_port.as_deref(), "20048", |text| {
            match text.parse() {
                Ok(port) if port > 0 => Ok(port),
                _ => Err(format!("{text:?} is not a port from 1 to 65535")),
            }
        });
        let (least, most) = (Duration::from_millis(100), Duration::from_secs(60 * 60));
        let limit =
            problems.parse("NFS_TIMEOUT", &self.nfs_timeout, "10s", |text| values::duration_within(text, least, most));
        let host = rustix::system::uname();
        let node = self.node_name.clone().unwrap_or_else(|| host.nodename().to_string_lossy().into_owned());
        // The name shows in a server's list of clients; this length is accepted by every server.
        let owner = format!("{owner}/{}", node.chars().take(200).collect::<String>());
        let (mount_address, reserved_port) = (None, false);
        let (version, limit, mount_port) = (version?, limit?, mount_port?);
        let probing = Probing { version, limit, mount_port, mount_address, reserved_port, owner };
        Some(TargetSettings { servers: servers?, backends: backends?, mountinfo: None, excluded: Vec::new(), probing })
    }
}

fn backends_of(text: &str, servers: &[Server]) -> Result<Vec<(Server, Server)>, String> {
    values::list(text)
        .map(|item| {
            let (front, behind) =
                item.split_once('=').ok_or_else(|| format!("{item:?} is not HOST[:PORT]=HOST[:PORT]"))?;
            let parse = |text: &str| {
                let server: Server = text.parse().map_err(|error: crate::server::ServerError| error.to_string())?;
                if server.export.is_some() {
                    Err(format!("{text:?} has an export; name the host alone"))
                } else {
                    Ok(server)
                }
            };
            let (front, behind) = (parse(front)?, parse(behind)?);
            if !servers.iter().any(|server| (&server.host, server.port) == (&front.host, front.port)) {
                return Err(format!("{front} is not in NFS_SERVERS"));
            }
            Ok((front, behind))
        })
        .collect()
}

fn version(text: &str) -> Result<Option<Version>, String> {
    match text {
        "auto" => Ok(None),
        "3" => Ok(Some(Version::V3)),
        "4.0" => Ok(Some(Version::V4(0))),
        "4.1" => Ok(Some(Version::V4(1))),
        "4.2" => Ok(Some(Version::V4(2))),
        _ => Err(format!("{text:?} is none of auto, 3, 4.0, 4.1 and 4.2")),
    }
}

#[cfg(test)]
mod tests;
