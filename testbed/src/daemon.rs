//! One of our own daemons, started as its users start it: its binary, with settings as environment variables.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::folder::Folder;
use crate::process::Process;
use crate::{Result, wait};

/// How long a daemon may take to listen, and to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// A running daemon with an admin server on a free port.
#[derive(Debug)]
pub struct Daemon {
    process: Process,
    admin: SocketAddr,
    _folder: Folder,
}

impl Daemon {
    /// Starts `binary` with `arguments` and only `settings` in its environment, and waits for its admin server.
    pub fn start(binary: &str, arguments: &[&str], settings: &[(&str, &str)]) -> Result<Daemon> {
        let folder = Folder::new("daemon")?;
        let mut command = Command::new("env");
        command.arg("-i").args(settings.iter().map(|(name, value)| format!("{name}={value}")));
        command.arg("LOG_FORMAT=json").arg(binary).args(arguments);
        let log = folder.join("log");
        let name = Path::new(binary).file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut process = Process::start(&name, &command, &log)?;
        let admin = process.ready("listen", || listens_on(&log))?;
        Ok(Daemon { process, admin, _folder: folder })
    }

    /// Where its admin server listens.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// The process, to signal it or see its end.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// The status and body of an admin page; `None` if there is no answer.
    pub fn get(&self, path: &str) -> Option<(u16, String)> {
        get(self.admin, path)
    }

    /// Waits until `/readyz` satisfies `wanted`, and returns the answer.
    ///
    /// # Errors
    /// The last answer, if the time limit is exceeded.
    pub fn until_ready(
        &self,
        limit: Duration,
        wanted: impl Fn(u16, &str) -> bool,
    ) -> std::result::Result<String, String> {
        self.until("/readyz", limit, wanted)
    }

    /// Waits until an admin page satisfies `wanted`, and returns the answer.
    ///
    /// # Errors
    /// The last answer, if the time limit is exceeded.
    pub fn until(
        &self,
        page: &str,
        limit: Duration,
        wanted: impl Fn(u16, &str) -> bool,
    ) -> std::result::Result<String, String> {
        let mut last = String::from("no answer");
        wait::until(limit, || {
            let (status, body) = self.get(page)?;
            last.clone_from(&body);
            wanted(status, &body).then_some(body)
        })
        .ok_or(last)
    }

    /// Everything that it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.process.log()).unwrap_or_default()
    }

    /// The value of a metric by the beginning of its line, with its labels.
    pub fn metric(&self, beginning: &str) -> Option<f64> {
        let (_, text) = self.get("/metrics")?;
        text.lines().find(|line| line.starts_with(beginning))?.rsplit(' ').next()?.parse().ok()
    }

    /// Its resident memory, in bytes.
    pub fn resident(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kibibytes| kibibytes * 1024)
    }
}

fn listens_on(log: &Path) -> Option<SocketAddr> {
    let text = std::fs::read_to_string(log).ok()?;
    let line = text.lines().find(|line| line.contains("admin server listens"))?;
    line.split("\"address\":\"").nth(1)?.split('"').next()?.parse().ok()
}

/// The status and body of a page of any admin server; `None` if there is no answer.
pub fn get(address: SocketAddr, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&address, ANSWER_LIMIT).ok()?;
    stream.set_read_timeout(Some(ANSWER_LIMIT)).ok()?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
}
