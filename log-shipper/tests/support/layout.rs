//! A node's log folders as kubelet and Docker lay them out, shipped to standard output by the program as its users start it.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

pub const TIME: &str = "2026-11-22T10:00:00.5Z";
pub const POD: &str = "space_pod_0d0b2b1e/main";

/// A node with kubelet's and Docker's folders.
pub struct Node {
    pub folder: TempDir,
    pub roots: Vec<PathBuf>,
}

/// The result of a run.
pub struct Run {
    pub code: Option<i32>,
    pub events: Vec<Value>,
    pub log: String,
}

impl Node {
    pub fn new(roots: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["pods", "docker", "state"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        let roots = roots.iter().map(|root| folder.path().join(root)).collect();
        Self { folder, roots }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Appends a line to a pod's log, or a file beside it.
    pub fn pod(&self, name: &str, text: &str) -> PathBuf {
        append(&self.path("pods").join(POD).join(name), &format!("{TIME} stdout F {text}\n"))
    }

    /// Appends a line to a Docker container's log, or a file beside it.
    pub fn docker(&self, id: &str, rotated: &str, text: &str) -> PathBuf {
        let path = self.path("docker").join(id).join(format!("{id}-json.log{rotated}"));
        append(&path, &format!("{{\"log\":\"{text}\\n\",\"stream\":\"stdout\",\"time\":\"{TIME}\"}}\n"))
    }

    pub fn run(&self) -> Run {
        self.run_with(&[], &[])
    }

    /// Ships what is there; `wrapped` is the command that starts the program.
    pub fn run_with(&self, wrapped: &[&str], settings: &[(&str, &str)]) -> Run {
        let program =
            [wrapped, &[env!("CARGO_BIN_EXE_log-shipper"), "run", "--until-idle", "--give-up-after=10m"]].concat();
        let roots: Vec<_> = self.roots.iter().map(|root| root.display().to_string()).collect();
        let output = Command::new(program[0])
            .args(&program[1..])
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("LOG_PATHS", roots.join(","))
            .env("STATE_DIR", self.path("state"))
            .env("ADMIN_ADDR", "127.0.0.1:0")
            .envs(settings.iter().copied())
            .output()
            .unwrap();
        let events = String::from_utf8(output.stdout).unwrap();
        Run {
            code: output.status.code(),
            events: events.lines().map(|line| serde_json::from_str(line).unwrap()).collect(),
            log: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Run {
    pub fn messages(&self) -> Vec<&str> {
        self.events.iter().map(|event| event["message"].as_str().unwrap()).collect()
    }
}

pub fn append(path: &Path, text: &str) -> PathBuf {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    File::options().create(true).append(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
    path.to_owned()
}

pub fn gzip(path: &Path) {
    assert!(Command::new("gzip").arg(path).status().unwrap().success());
}

pub fn id(digit: &str) -> String {
    digit.repeat(64)
}
