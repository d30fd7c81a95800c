//! Settings of fs-keepalive.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use nfs_mounts::mountinfo::is_plain_absolute;
use sidecar::admin::AdminArguments;
use sidecar::log::{LogArguments, LogSettings};
use sidecar::settings::{Problems, values};

use crate::record::LONGEST_NAME;

/// Keeps shared file systems awake, and detects when they hang.
#[derive(Parser, Clone, Debug)]
#[command(name = "fs-keepalive", version)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Clone, Debug)]
enum Command {
    /// Write a record to each volume at a regular interval, and read it back from the server
    Run(Box<RunArguments>),
}

#[derive(Args, Clone, Debug)]
struct RunArguments {
    #[command(flatten)]
    keepalive: KeepaliveArguments,
    #[command(flatten)]
    admin: AdminArguments,
    #[command(flatten)]
    log: LogArguments,
}

#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Keepalive")]
struct KeepaliveArguments {
    /// Paths of the mounted volumes
    #[arg(long, env = "KEEPALIVE_PATHS", value_name = "PATH,…", default_value = "/home")]
    keepalive_paths: String,
    /// Time between two records; must be below 5 min, because an NFS client closes a connection that is idle for 5 min
    #[arg(long, env = "KEEPALIVE_INTERVAL", value_name = "DURATION", default_value = "60s")]
    keepalive_interval: String,
    /// Time limit for one step (open, write, fsync, read …); a volume that exceeds it counts as hung
    #[arg(long, env = "KEEPALIVE_TIMEOUT", value_name = "DURATION", default_value = "10s")]
    keepalive_timeout: String,
    /// Also write one line with the date to this file in each volume; true means .keepalive
    #[arg(long, env = "KEEPALIVE_PLAIN_FILE", value_name = "NAME")]
    keepalive_plain_file: Option<String>,
    /// This node's name; the default is the host name
    #[arg(long, env = "NODE_NAME", value_name = "NAME")]
    node_name: Option<String>,
    /// This pod's name; each writer on a node needs a different name
    #[arg(long, env = "POD_NAME", value_name = "NAME", default_value = "host")]
    pod_name: String,
}

/// The settings.
#[derive(Debug)]
pub struct Settings {
    /// What is written, and where.
    pub keepalive: Keepalive,
    /// The address of the admin server.
    pub admin: SocketAddr,
    /// How to log.
    pub log: LogSettings,
}

/// What is written, where and how often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// The volumes: absolute paths, each once.
    pub paths: Vec<PathBuf>,
    /// Time between two records.
    pub interval: Duration,
    /// Time limit for one phase.
    pub timeout: Duration,
    /// Name of the file with the date, in the top folder of each volume.
    pub plain_file: Option<String>,
    /// The node's name.
    pub node: String,
    /// The pod's name.
    pub pod: String,
}

impl Settings {
    /// Parses all settings.
    ///
    /// # Errors
    ///
    /// All invalid settings.
    pub fn parse(arguments: &Arguments) -> Result<Self, Problems> {
        let Command::Run(arguments) = &arguments.command;
        let mut problems = Problems::default();
        let (keepalive, admin, log) = (
            arguments.keepalive.settings(&mut problems),
            arguments.admin.settings(&mut problems),
            arguments.log.settings(&mut problems),
        );
        problems.finish((|| Some(Self { keepalive: keepalive?, admin: admin?, log: log? }))())
    }
}

impl KeepaliveArguments {
    fn settings(&self, problems: &mut Problems) -> Option<Keepalive> {
        let paths = problems.parse("KEEPALIVE_PATHS", &self.keepalive_paths, "/home,/project", paths);
        let interval = problems.parse("KEEPALIVE_INTERVAL", &self.keepalive_interval, "60s", interval);
        let timeout = problems.parse("KEEPALIVE_TIMEOUT", &self.keepalive_timeout, "10s", |text| {
            values::duration_within(text, SHORTEST, LONGEST_TIMEOUT)
        });
        let known = paths.clone().unwrap_or_default();
        let plain_file = self.keepalive_plain_file.as_deref();
        let plain_file =
            problems.parse_optional("KEEPALIVE_PLAIN_FILE", plain_file, ".keepalive", |text| plain_name(text, &known));
        let host = host_name();
        let node = self.node_name.as_deref().unwrap_or(&host);
        let node = problems.parse("NODE_NAME", node, "node-1", writer_name);
        let pod = problems.parse("POD_NAME", &self.pod_name, "fs-keepalive-x2b7k", writer_name);
        Some(Keepalive {
            paths: paths?,
            interval: interval?,
            timeout: timeout?,
            plain_file: plain_file?.flatten(),
            node: node?,
            pod: pod?,
        })
    }
}

fn paths(text: &str) -> Result<Vec<PathBuf>, String> {
    let mut paths = Vec::new();
    for item in values::list(text) {
        // Built from its components, so that a trailing slash does not make a second path.
        let path: PathBuf = Path::new(item).components().collect();
        if !is_plain_absolute(&path) {
            return Err(format!("{item:?} is not an absolute path without . and .. in it"));
        }
        if path == Path::new("/") {
            return Err("/ is the root file system, not a volume".to_owned());
        }
        if !paths.contains(&path) {
            paths.push(path);
        }
    }
    if paths.is_empty() { Err("at least one path is required".to_owned()) } else { Ok(paths) }
}

/// Shorter intervals and limits would only keep the machine busy.
const SHORTEST: Duration = Duration::from_millis(100);

const LONGEST_TIMEOUT: Duration = Duration::from_secs(60 * 60);

/// The Linux NFS client closes a connection that has been idle for 300 s. With its jitter, this interval stays below
/// that.
const LONGEST_INTERVAL: Duration = Duration::from_secs(270);

fn interval(text: &str) -> Result<Duration, String> {
    let interval = values::duration(text).map_err(|error| error.to_string())?;
    if interval < SHORTEST {
        return Err(format!("{text:?} is shorter than 100ms"));
    }
    if interval > LONGEST_INTERVAL {
        let most = LONGEST_INTERVAL.as_secs();
        return Err(format!(
            "{text:?} is longer than {most}s; an NFS client closes a connection that is idle for 5 min"
        ));
    }
    Ok(interval)
}

/// Parses a switch, a file name, or the absolute path of a file directly in one of the volumes.
fn plain_name(text: &str, paths: &[PathBuf]) -> Result<Option<String>, String> {
    if let Ok(on) = values::switch(text) {
        return Ok(on.then(|| ".keepalive".to_owned()));
    }
    let path = Path::new(text);
    let name = match path.parent() {
        Some(folder) if folder == Path::new("") || paths.iter().any(|volume| volume == folder) => path.file_name(),
        _ => None,
    };
    match name.and_then(|name| name.to_str()) {
        Some(name) if name != ".keepalive.d" => Ok(Some(name.to_owned())),
        _ => Err(format!("{text:?} is neither true, nor false, nor the name of a file directly in the volume")),
    }
}

/// Accepts Kubernetes' names. Rejects characters that would change the file's path or the record's fields. Cuts long
/// names and appends a checksum to keep them unique.
fn writer_name(text: &str) -> Result<String, String> {
    if text.is_empty() || text.starts_with('.') || !text.chars().all(is_of_a_name) {
        return Err(format!("{text:?} is not a name of letters, digits, hyphens and dots"));
    }
    if text.len() <= LONGEST_NAME {
        return Ok(text.to_owned());
    }
    Ok(format!("{}-{:08x}", &text[..LONGEST_NAME - 9], crc32fast::hash(text.as_bytes())))
}

/// The host name as the default writer name. Characters that do not fit into a file name or a record are replaced.
fn host_name() -> String {
    fitting(&rustix::system::uname().nodename().to_string_lossy())
}

fn fitting(name: &str) -> String {
    let fitted: String = name.chars().map(|c| if is_of_a_name(c) { c } else { '-' }).collect();
    match fitted.trim_start_matches('.') {
        "" => "host".to_owned(),
        name => name.to_owned(),
    }
}

fn is_of_a_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '.')
}

#[cfg(test)]
mod tests {
    use super::*;
    use sidecar::settings::{Environment, parse};
    use std::ffi::OsString;

    fn settings(environment: &[(&str, &str)]) -> Result<Keepalive, String> {
        let environment: Environment = environment.iter().copied().collect();
        let arguments = parse(&environment, ["fs-keepalive", "run"].map(OsString::from)).unwrap();
        Settings::parse(&arguments).map(|settings| settings.keepalive).map_err(|problems| problems.to_string())
    }

    #[test]
    fn the_default_is_home_once_a_minute() {
        let keepalive = settings(&[("NODE_NAME", "n1")]).unwrap();
        assert_eq!(keepalive.paths, [PathBuf::from("/home")]);
        assert_eq!((keepalive.interval.as_secs(), keepalive.timeout.as_secs()), (60, 10));
        assert_eq!((keepalive.plain_file, keepalive.node, keepalive.pod), (None, "n1".into(), "host".into()));
    }

    #[test]
    fn several_paths_each_once() {
        let keepalive = settings(&[("KEEPALIVE_PATHS", "/home/, /data,/home,")]).unwrap();
        assert_eq!(keepalive.paths, [PathBuf::from("/home"), PathBuf::from("/data")]);
    }

    #[test]
    fn the_plain_file_is_named_in_three_ways() {
        for (text, name) in [
            ("true", Some(".keepalive")),
            ("false", None),
            ("awake", Some("awake")),
            ("/home/.keepalive", Some(".keepalive")),
        ] {
            assert_eq!(settings(&[("KEEPALIVE_PLAIN_FILE", text)]).unwrap().plain_file.as_deref(), name, "{text}");
        }
        for text in ["/etc/passwd", "a/b", "..", "/home/..", "/", ".keepalive.d"] {
            let problem = settings(&[("KEEPALIVE_PLAIN_FILE", text)]).unwrap_err();
            assert!(problem.starts_with("KEEPALIVE_PLAIN_FILE: "), "{text}: {problem}");
        }
    }

    #[test]
    fn every_problem_is_named() {
        let problem = settings(&[
            ("KEEPALIVE_PATHS", "home"),
            ("KEEPALIVE_INTERVAL", "5m"),
            ("KEEPALIVE_TIMEOUT", "soon"),
            ("NODE_NAME", "a/b"),
            ("POD_NAME", "a_b"),
        ])
        .unwrap_err();
        for name in ["KEEPALIVE_PATHS", "KEEPALIVE_INTERVAL", "KEEPALIVE_TIMEOUT", "NODE_NAME", "POD_NAME"] {
            assert!(problem.contains(&format!("{name}: ")), "{problem}");
        }
        for (name, value) in [
            ("KEEPALIVE_INTERVAL", "1ms"),
            ("KEEPALIVE_INTERVAL", "271s"),
            ("KEEPALIVE_TIMEOUT", "1ms"),
            ("KEEPALIVE_TIMEOUT", "100000000000y"),
        ] {
            assert!(settings(&[(name, value)]).unwrap_err().starts_with(&format!("{name}: ")), "{value}");
        }
        assert!(settings(&[("KEEPALIVE_PATHS", "/")]).unwrap_err().contains("root file system"));
        assert!(settings(&[("KEEPALIVE_PATHS", "/home/../etc")]).is_err());
    }

    #[test]
    fn any_host_name_becomes_a_valid_name() {
        let table = [
            ("lab_node_7", "lab-node-7"),
            ("nöde", "n-de"),
            ("..x", "x"),
            ("", "host"),
            ("_", "-"),
            ("a b/c", "a-b-c"),
        ];
        for (host, name) in table {
            assert_eq!(fitting(host), name);
            assert_eq!(writer_name(&fitting(host)).as_deref(), Ok(name));
        }
    }

    #[test]
    fn long_names_are_cut_and_stay_different() {
        let (a, b) = (writer_name(&"x".repeat(253)).unwrap(), writer_name(&("x".repeat(252) + "y")).unwrap());
        assert!(a.len() == LONGEST_NAME && b.len() == LONGEST_NAME && a != b);
    }
}
