//! A real containerd with CRI, with a separate root, state and socket; several may run at the same time.
//!
//! `release` finds or builds its programs, `configuration` writes its file; a cluster's nodes use both.

mod configuration;
mod release;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

pub(crate) use configuration::Configuration;
pub(crate) use release::Installed;
pub use release::Release;

use crate::enclosure::Enclosure;
use crate::folder::{Folder, mount_in_memory};
use crate::process::Process;
use crate::registry::Registry;
use crate::{Result, command, cri};

/// The options of a containerd.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Which containerd.
    pub release: Release,
    /// Registries (`host:port`) to reach over plain HTTP.
    pub plain_registries: Vec<String>,
    /// The sandbox image; needed only to run pods. They use the machine's network: there is no CNI plugin.
    pub sandbox_image: Option<String>,
    /// Put the root on a file system of this many bytes, in memory.
    pub root_size: Option<u64>,
    /// Concurrent downloads of one image's layers; containerd's default (3) if `None`.
    pub max_concurrent_downloads: Option<u32>,
    /// Discard compressed layers once they are unpacked, as Amazon's nodes do.
    pub discard_unpacked_layers: bool,
    /// The delay of each layer before it is unpacked, as on a slow disk; [`Containerd::delay_unpacking`] may change it.
    pub unpack_delay: Option<Duration>,
}

/// A running containerd.
#[derive(Debug)]
pub struct Containerd {
    process: Option<Process>,
    installed: Installed,
    configuration: PathBuf,
    socket: PathBuf,
    root: PathBuf,
    enclosure: Enclosure,
    folder: Folder,
}

impl Containerd {
    /// A containerd that pulls from this registry over plain HTTP.
    pub fn start(registry: &Registry) -> Result<Containerd> {
        Containerd::with(&Options { plain_registries: vec![registry.host()], ..Options::default() })
    }

    /// A containerd with these options.
    pub fn with(options: &Options) -> Result<Containerd> {
        let mut installed = options.release.find_or_build()?;
        let folder = Folder::new("containerd")?;
        if let Some(delay) = options.unpack_delay {
            installed.delay_unpacking(&folder, delay)?;
        }
        let root = folder.folder("root")?;
        if options.root_size.is_some() {
            mount_in_memory(&root, options.root_size)?;
        }
        for registry in &options.plain_registries {
            plain_registry(&folder, registry, registry)?;
        }
        let socket = folder.join("containerd.sock");
        let configuration = Configuration {
            release: options.release,
            root: &root,
            socket: &socket,
            registries: &folder.join("certs.d"),
            networks: &folder.join("net.d"),
            sandbox_image: options.sandbox_image.as_deref(),
            max_concurrent_downloads: options.max_concurrent_downloads,
            discard_unpacked_layers: options.discard_unpacked_layers,
        };
        let configuration = folder.write("containerd.toml", configuration.text())?;
        let enclosure = Enclosure::start(&folder)?;
        let mut containerd = Containerd { process: None, installed, configuration, socket, root, enclosure, folder };
        containerd.launch()?;
        Ok(containerd)
    }

    /// Its unix socket (CRI, and containerd's own services).
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// `unix:///…`, as `RUNTIME_ENDPOINT` has it.
    pub fn endpoint(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    /// The folder of its images and snapshots.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Its folder: log, configuration, socket, root.
    pub fn folder(&self) -> &Folder {
        &self.folder
    }

    /// Stops it normally (SIGTERM); containers continue.
    pub fn stop(&mut self) {
        self.process = None;
    }

    /// Kills it (SIGKILL); containers continue.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
    }

    /// Its process, if it is running, for example to pause it.
    pub fn process(&mut self) -> Option<&mut Process> {
        self.process.as_mut()
    }

    /// Starts it again, with its data, after [`Containerd::stop`] or [`Containerd::kill`]. Stops it first if it is
    /// still running.
    pub fn restart(&mut self) -> Result<()> {
        self.stop();
        self.launch()
    }

    /// Runs its own `ctr` in the namespace of Kubernetes (`k8s.io`) and returns its output.
    pub fn ctr(&self, arguments: &[&str]) -> Result<String> {
        let mut ctr = self.installed.command(&self.enclosure, "ctr")?;
        command::run(ctr.arg("--address").arg(&self.socket).args(["--namespace", "k8s.io"]).args(arguments))
    }

    /// Pulls an image with `ctr`, from a registry on plain HTTP.
    pub fn pull(&self, reference: &str) -> Result<()> {
        self.ctr(&["images", "pull", "--plain-http", reference]).map(drop)
    }

    /// Delays each layer by this time before it is unpacked, if [`Options::unpack_delay`] was set.
    pub fn delay_unpacking(&self, delay: Duration) -> Result<()> {
        self.folder.write("unpack-delay", delay.as_secs_f64().to_string()).map(drop)
    }

    /// A command in the namespaces of its containers.
    pub fn command(&self, program: &str) -> Command {
        self.enclosure.command(program)
    }

    fn launch(&mut self) -> Result<()> {
        let log = self.folder.join("containerd.log");
        let _ = std::fs::remove_file(&self.socket); // the socket of a killed containerd would look ready
        let mut command = self.installed.command(&self.enclosure, "containerd")?;
        command.arg("--config").arg(&self.configuration);
        let mut process = self.enclosure.process("containerd", &command, &log)?;
        let socket = &self.socket;
        process.ready("answer", || (socket.exists() && cri::answers(socket)).then_some(()))?;
        self.process = Some(process);
        Ok(())
    }
}

/// Makes images of the registry `name` come from `server` over plain HTTP (both `host:port`), for a containerd whose
/// `config_path` is the folder's `certs.d`.
pub(crate) fn plain_registry(folder: &Folder, name: &str, server: &str) -> Result<()> {
    let text = format!("[host.\"http://{server}\"]\ncapabilities = [\"pull\", \"resolve\"]\n");
    folder.write(&format!("certs.d/{name}/hosts.toml"), text).map(drop)
}
