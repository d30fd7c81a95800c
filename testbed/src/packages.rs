//! The Debian packages that each part needs: one list, installed when something is missing.

use std::fs::File;
use std::process::{Command, Stdio};

use crate::{Error, Result, command, folder};

/// A part that needs packages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// `docker-registry` (CNCF distribution).
    Registry,
    /// Images that can be run.
    RunnableImages,
    /// Debian's containerd, and runc.
    Containerd,
    /// The runtime for a containerd that is not Debian's.
    Runc,
    /// The Docker engine.
    Docker,
    /// RabbitMQ, its tools, and AMQP command line clients.
    RabbitMq,
    /// The NFS server in user space, and a client to examine it.
    Ganesha,
    /// A virtual machine with a kernel NFS client.
    Qemu,
    /// The user space parts of the kernel's own NFS server, quotas, and automounts.
    Knfsd,
    /// What Kubernetes needs in addition to its own programs.
    Cluster,
    /// What `./bld` builds images with, if there is nothing else.
    Buildah,
    /// A headless browser, and fonts.
    Chromium,
    /// What images of JupyterHub and JupyterLab are built with.
    Jupyter,
    /// The web server with TLS in front of the Hub.
    Nginx,
}

impl Part {
    /// Its packages, as Debian 12 names them.
    pub fn packages(self) -> &'static [&'static str] {
        match self {
            Part::Registry => &["docker-registry"],
            Part::RunnableImages => &["busybox-static"],
            Part::Containerd => &["containerd", "runc"],
            Part::Runc => &["runc"],
            Part::Docker => &["docker.io", "iptables"],
            Part::RabbitMq => &["rabbitmq-server", "amqp-tools"],
            Part::Ganesha => &["nfs-ganesha", "nfs-ganesha-vfs", "rpcbind", "libnfs-utils", "iproute2", "iptables"],
            Part::Qemu => &["qemu-system-x86", "busybox-static", "kmod", "cpio"],
            Part::Knfsd => &["nfs-kernel-server", "rpcbind", "xfsprogs", "autofs", "iproute2", "iptables"],
            Part::Cluster => &[
                "containerd",
                "runc",
                "containernetworking-plugins",
                "etcd-server",
                "iptables",
                "conntrack",
                "iproute2",
                "busybox-static",
                "python3-venv",
            ],
            Part::Buildah => &["buildah", "skopeo"],
            Part::Chromium => &["chromium-headless-shell", "fonts-dejavu-core", "libnss3-tools"],
            Part::Jupyter => &["mmdebstrap"],
            Part::Nginx => &["nginx-light"],
        }
    }
}

/// Makes sure that a part's packages are installed: one process at a time, with `apt-get`, only missing ones.
pub fn require(part: Part) -> Result<()> {
    if missing(part.packages())?.is_empty() {
        return Ok(());
    }
    let path = folder::cache()?.join("packages.lock");
    let lock = File::create(&path).map_err(Error::io(format!("create {}", path.display())))?;
    lock.lock().map_err(Error::io("wait for another installation of packages"))?;
    let missing = missing(part.packages())?; // another process may have installed them
    if missing.is_empty() {
        return Ok(());
    }
    if !rustix::process::geteuid().is_root() {
        return Err(explain(&missing, "this is not root"));
    }
    // The package lists may exist already. They are downloaded only if the installation fails without them.
    install(&missing)
        .or_else(|_| {
            command::run(Command::new("apt-get").args(["update", "-qq"])).map_err(|error| error.to_string())?;
            install(&missing)
        })
        .map_err(|reason| explain(&missing, &reason))
}

fn missing(packages: &'static [&'static str]) -> Result<Vec<&'static str>> {
    let query = Command::new("dpkg-query")
        .args(["-W", "-f", "${Package} ${db:Status-Status}\n"])
        .args(packages)
        .stderr(Stdio::null())
        .output()
        .map_err(|_| explain(packages, "dpkg-query is missing: the real parts come from Debian 12 packages"))?;
    let known = String::from_utf8_lossy(&query.stdout);
    let installed = |package: &str| known.lines().any(|line| line == format!("{package} installed"));
    Ok(packages.iter().copied().filter(|package| !installed(package)).collect())
}

fn install(packages: &[&str]) -> std::result::Result<(), String> {
    let mut apt = Command::new("apt-get");
    apt.args(["install", "-y", "-qq", "--no-install-recommends"])
        .args(packages)
        .env("DEBIAN_FRONTEND", "noninteractive");
    command::run(&mut apt).map(drop).map_err(|error| error.to_string())
}

fn explain(packages: &[&str], reason: &str) -> Error {
    let packages = packages.join(" ");
    Error::Missing(format!("Debian packages are missing: run `apt-get install {packages}` as root ({reason})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_package_is_missing_and_an_essential_one_is_not() {
        assert_eq!(missing(&["no-such-package-anywhere", "dpkg"]).unwrap(), ["no-such-package-anywhere"]);
    }

    #[test]
    fn missing_packages_are_named_with_the_command_to_run() {
        let printed = explain(&["containerd", "runc"], "this is not root").to_string();
        assert!(printed.contains("apt-get install containerd runc"), "{printed}");
    }
}
