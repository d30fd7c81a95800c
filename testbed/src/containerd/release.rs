//! Which containerd runs: one that is built from its Go module, or Debian's.

use std::env;
use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::enclosure::Enclosure;
use crate::folder::Folder;
use crate::go::Programs;
use crate::packages::{self, Part};
use crate::{Error, Result};

/// The version that is built.
const VERSION: &str = "v2.4.2";

const MODULE: &str = "github.com/containerd/containerd/v2/cmd";

const PROGRAMS: [&str; 3] = ["containerd", "containerd-shim-runc-v2", "ctr"];

/// Which containerd.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Release {
    /// 2.4, built from its Go module (about two minutes, once).
    #[default]
    Current,
    /// Debian 12's own, 1.6.
    Debian,
}

impl Release {
    /// Its programs, installed or built now if needed.
    pub(crate) fn find_or_build(self) -> Result<Installed> {
        match self {
            Release::Debian => {
                packages::require(Part::Containerd)?;
                Ok(Installed { folder: None, delay: None })
            }
            Release::Current => {
                packages::require(Part::Runc)?;
                let programs =
                    Programs { name: "containerd", version: VERSION, programs: &PROGRAMS, duration: "about 2 minutes" };
                let folder = programs.find_or_build(|folder| {
                    let mut build = Command::new("go");
                    build.args(["install", "-trimpath", "-ldflags", "-s -w"]);
                    build.args(PROGRAMS.map(|program| format!("{MODULE}/{program}@{VERSION}")));
                    // It may require a newer Go than the machine has, which Go then downloads.
                    build.env("GOTOOLCHAIN", "auto").env("CGO_ENABLED", "0").env("GOFLAGS", "").env("GOBIN", folder);
                    build.current_dir("/");
                    build
                })?;
                Ok(Installed { folder: Some(folder), delay: None })
            }
        }
    }
}

/// A containerd's programs.
#[derive(Clone, Debug)]
pub(crate) struct Installed {
    /// Their folder, unless they are installed on the machine.
    folder: Option<PathBuf>,
    /// The folder of the program that unpacks slowly.
    delay: Option<PathBuf>,
}

impl Installed {
    /// A command inside an enclosure that finds this containerd's programs before all others, such as its shim.
    pub(crate) fn command(&self, enclosure: &Enclosure, program: &str) -> Result<Command> {
        let path = env::var_os("PATH").unwrap_or_default();
        let own = self.delay.iter().chain(&self.folder).cloned();
        let path = env::join_paths(own.chain(env::split_paths(&path)));
        let path = path.map_err(|error| Error::Missing(format!("PATH cannot be used: {error}")))?;
        let mut assignment = OsString::from("PATH=");
        assignment.push(path);
        let mut command = enclosure.command("env");
        command.arg(assignment).arg(program);
        Ok(command)
    }

    /// Makes this containerd, from its next start on, wait this long before it unpacks a layer. It unpacks with
    /// `unpigz` if there is one, so this one is a slow replacement.
    pub(crate) fn delay_unpacking(&mut self, folder: &Folder, delay: Duration) -> Result<()> {
        let delays = folder.write("unpack-delay", delay.as_secs_f64().to_string())?;
        let script = format!("#!/bin/sh\nsleep \"$(cat {})\"\nexec gzip -d -c\n", delays.display());
        let program = folder.write("slow/unpigz", script)?;
        fs::set_permissions(&program, Permissions::from_mode(0o755))
            .map_err(Error::io(format!("make {} a program", program.display())))?;
        self.delay = Some(folder.join("slow"));
        Ok(())
    }
}
