//! A real NFS server (nfs-ganesha) with its own portmapper, in a separate network (see [`Site`]).

use std::fs::Permissions;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::XattrFlags;
use rustix::process::Signal;

use crate::folder::Folder;
use crate::packages::{self, Part};
use crate::process::Process;
pub use crate::site::Firewall;
use crate::site::Site;
use crate::{Error, Result, rpc};

/// rpcbind changes its user, so the kernel does not end it with this process. It ends with the first process of its namespace.
const PORTMAPPER: &str = "trap exit TERM; rpcbind -f -w & wait";

/// How the server is set up.
#[derive(Clone, Debug)]
pub struct Setup {
    /// NFS versions: `3`, `4`, or both.
    pub versions: &'static str,
    /// Minor versions of version 4.
    pub minor_versions: &'static str,
    /// The NFS port; mountd uses the next one.
    pub port: u16,
    /// Whether the export may be written to.
    pub writable: bool,
    /// The `Squash` option of the export.
    pub squash: &'static str,
    /// The `SecType` option of the export.
    pub security: &'static str,
    /// Whether clients must have a port below 1024.
    pub privileged: bool,
    /// Whether there is an export at all.
    pub exported: bool,
    /// The size of the exported file system, in tmpfs's format (`4m`); unset means the machine's own disk.
    pub size: Option<&'static str>,
    /// The grace period in seconds after a start (if any client may have something to reclaim), and the lease time.
    pub grace: u32,
}

impl Default for Setup {
    fn default() -> Self {
        let (versions, minor_versions) = ("3, 4", "0, 1, 2");
        let (squash, security, privileged) = ("No_Root_Squash", "sys, none", false);
        let (port, writable, exported, size, grace) = (2049, true, true, None, 5);
        Self { versions, minor_versions, port, writable, squash, security, privileged, exported, size, grace }
    }
}

/// The running server. It exports `/home`, which version 3 also knows as `homes`.
#[derive(Debug)]
pub struct Ganesha {
    server: Option<Process>,
    _portmapper: Process,
    site: Site,
    setup: Setup,
    folder: Folder,
}

impl Ganesha {
    /// Starts a server and waits until a client can mount in each of its versions.
    pub fn start(setup: Setup) -> Result<Ganesha> {
        packages::require(Part::Ganesha)?;
        let folder = Folder::new("ganesha")?;
        let export = folder.folder("home")?;
        folder.folder("recovery")?;
        let site = Site::start(&folder)?;
        if let Some(size) = setup.size {
            let options = format!("size={size}");
            site.inside(&["mount", "-t", "tmpfs", "-o", &options, "tmpfs", &export.to_string_lossy()])?;
        }
        let mut portmapper = Command::new("nsenter");
        portmapper.args(site.enter()).args(["unshare", "--pid", "--fork", "--kill-child=KILL", "sh", "-c", PORTMAPPER]);
        let mut portmapper = Process::start_wrapped("rpcbind", &portmapper, &folder.join("rpcbind.log"))?;
        let host = IpAddr::from(site.address());
        portmapper.ready("answer", || rpc::portmapper_answers(host))?;
        let mut this = Self { server: None, _portmapper: portmapper, site, setup, folder };
        this.start_server()?;
        Ok(this)
    }

    /// The server's IPv4 address.
    pub fn address(&self) -> Ipv4Addr {
        self.site.address()
    }

    /// The server's IPv6 address.
    pub fn address_v6(&self) -> Ipv6Addr {
        self.site.address_v6()
    }

    /// The interface of this machine that leads to the server.
    pub fn interface(&self) -> String {
        self.site.interface()
    }

    /// Gives the server more IPv6 addresses, which look like more servers.
    pub fn more_addresses(&self, count: u16) -> Result<Vec<Ipv6Addr>> {
        self.site.more_addresses(count)
    }

    /// The exported folder on this machine (not if it has its own size).
    pub fn export(&self) -> PathBuf {
        self.folder.join("home")
    }

    /// Makes two folders of the export, and returns a script for a [`Qemu`](crate::qemu::Qemu) that mounts them at `/mnt/v3` and
    /// `/mnt/v4`, with these versions.
    pub fn mount_both_versions(&self) -> Result<String> {
        for version in ["v3", "v4"] {
            let folder = self.export().join(version);
            std::fs::create_dir(&folder).map_err(Error::io(format!("create {}", folder.display())))?;
        }
        let address = self.address();
        Ok(format!(
            "mkdir /mnt/v3 /mnt/v4\n\
             mount -t nfs4 -o vers=4.1,hard,proto=tcp,addr={address},clientaddr=10.0.2.15 {address}:/home/v4 /mnt/v4 || echo failed to mount\n\
             mount -t nfs -o vers=3,nolock,hard,proto=tcp,addr={address},port=2049,mountport=2050,mountproto=tcp {address}:/home/v3 /mnt/v3 || echo failed to mount\n"
        ))
    }

    /// Makes a folder of the export that refers clients of version 4 to another server: `HOST:/PATH`.
    pub fn refer(&self, folder: &str, to: &str) -> Result<()> {
        let path = self.export().join(folder);
        let failed = || Error::io(format!("make the referral {}", path.display()));
        std::fs::create_dir(&path).map_err(failed())?;
        let written = rustix::fs::setxattr(&path, "user.fs_location", to.as_bytes(), XattrFlags::empty());
        written.map_err(|error| failed()(error.into()))?;
        // The server treats a folder as a referral if it is sticky and has no other permissions.
        std::fs::set_permissions(&path, Permissions::from_mode(0o1000)).map_err(failed())
    }

    /// Pauses the server: it still accepts connections, and never answers.
    pub fn pause(&mut self) {
        if let Some(server) = &mut self.server {
            server.pause();
        }
    }

    /// Resumes the server.
    pub fn resume(&mut self) {
        if let Some(server) = &mut self.server {
            server.resume();
        }
    }

    /// Kills the server.
    pub fn kill(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.kill();
        }
    }

    /// Starts the server again, with another setup if `change` modifies it.
    pub fn restart(&mut self, change: impl FnOnce(&mut Setup)) -> Result<()> {
        self.kill();
        change(&mut self.setup);
        self.start_server()
    }

    /// Makes the running server read a changed setup of its export.
    pub fn reload(&mut self, change: impl FnOnce(&mut Setup)) -> Result<()> {
        change(&mut self.setup);
        self.configure()?;
        if let Some(server) = &mut self.server {
            server.signal(Signal::HUP);
        }
        Ok(())
    }

    /// Changes the firewall for the server's port.
    pub fn firewall(&self, firewall: Firewall) -> Result<()> {
        self.site.firewall("INPUT", self.setup.port, firewall)
    }

    /// Runs a command in the server's network.
    pub fn inside(&self, arguments: &[&str]) -> Result<String> {
        self.site.inside(arguments)
    }

    /// The server's own log.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("ganesha.log")).unwrap_or_default()
    }

    fn configure(&self) -> Result<PathBuf> {
        let Setup { versions, minor_versions, port, writable, squash, security, privileged, exported, grace, .. } =
            &self.setup;
        let (recovery, home) = (self.folder.join("recovery"), self.export());
        let access = if *writable { "RW" } else { "RO" };
        let mut text = format!(
            "NFS_CORE_PARAM {{ NFS_Port = {port}; MNT_Port = {}; Enable_NLM = false; Enable_RQUOTA = false; \
             Enable_UDP = false; Protocols = {versions}; mount_path_pseudo = true; }}\n\
             NFSv4 {{ Grace_Period = {grace}; Lease_Lifetime = {grace}; Minor_Versions = {minor_versions}; \
             RecoveryBackend = fs; RecoveryRoot = {}; }}\n\
             LOG {{ Default_Log_Level = EVENT; }}\n",
            port + 1,
            recovery.display()
        );
        if *exported {
            text += &format!(
                "EXPORT {{ Export_Id = 1; Tag = homes; Path = {}; Pseudo = /home; Access_Type = {access}; \
                 Squash = {squash}; SecType = {security}; PrivilegedPort = {privileged}; FSAL {{ Name = VFS; }} }}\n",
                home.display()
            );
        }
        self.folder.write("ganesha.conf", text)
    }

    fn start_server(&mut self) -> Result<()> {
        let configuration = self.configure()?;
        let mut server = Command::new("nsenter");
        server.args(self.site.enter()).args(["ganesha.nfsd", "-F", "-f"]).arg(configuration);
        server.arg("-L").arg(self.folder.join("ganesha.log")).arg("-p").arg(self.folder.join("ganesha.pid"));
        let mut server = Process::start("ganesha", &server, &self.folder.join("ganesha.out"))?;
        let (host, port, versions) = (IpAddr::from(self.address()), self.setup.port, self.setup.versions);
        let serves = || {
            if versions.contains('4') {
                rpc::version_4_answers(host, port)?;
            }
            if versions.contains('3') { rpc::version_3_answers(host, port) } else { Some(()) }
        };
        server
            .ready("serve each of its versions", serves)
            .map_err(|error| Error::Missing(format!("{error}\n{}", last_lines(&self.folder.join("ganesha.log")))))?;
        self.server = Some(server);
        Ok(())
    }
}

fn last_lines(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command;

    #[test]
    fn files_come_through_version_3_and_4_and_the_network_goes_with_the_server() {
        let ganesha = Ganesha::start(Setup::default()).unwrap();
        std::fs::write(ganesha.export().join("hello"), "there").unwrap();
        for version in [3, 4] {
            let url = format!("nfs://{}/home?version={version}", ganesha.address());
            let listed = command::run_args("nfs-ls", &[&url]).unwrap();
            assert!(listed.contains("hello"), "version {version}: {listed}");
        }
        let link = PathBuf::from(format!("/sys/class/net/{}", ganesha.site.interface()));
        assert!(link.exists());
        drop(ganesha);
        assert!(crate::wait::until(crate::wait::LIMIT, || (!link.exists()).then_some(())).is_some());
    }
}
