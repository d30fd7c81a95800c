//! An NFS client for nodes whose kernel has none. kubelet's part is real, and so is the request to the server; the
//! files come from a bind mount.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::{Cluster, Node};
use crate::packages::{self, Part};
use crate::{Error, Result, command};

/// Called instead of mount.nfs.
const MOUNT: &str = include_str!("mount-nfs.sh");

impl Cluster {
    /// Lets kubelet mount NFS volumes on all current nodes. `folder` is the folder of the server's export `export` on
    /// this machine.
    pub fn mount_nfs(&self, export: &str, folder: &Path) -> Result<()> {
        packages::require(Part::Ganesha)?;
        self.nodes().iter().try_for_each(|node| node.mount_nfs(export, folder))
    }
}

impl Node {
    fn mount_nfs(&self, export: &str, folder: &Path) -> Result<()> {
        let client = self.nfs_client();
        let programs = client.join("programs");
        let failed = || Error::io(format!("write below {}", client.display()));
        if !programs.exists() {
            let work = client.join("work");
            for folder in [&programs, &work] {
                fs::create_dir_all(folder).map_err(failed())?;
            }
            let program = programs.join("mount.nfs");
            fs::write(&program, MOUNT.replace("CLIENT", &client.display().to_string())).map_err(failed())?;
            fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).map_err(failed())?;
            let options = format!("lowerdir=/usr/sbin,upperdir={},workdir={}", programs.display(), work.display());
            command::run(self.command("mount").args(["-t", "overlay", "overlay", "-o", &options, "/usr/sbin"]))?;
        }
        let mut exports = OpenOptions::new().append(true).create(true).open(client.join("exports")).map_err(failed())?;
        writeln!(exports, "{export} {}", folder.display()).map_err(failed())
    }

    /// What kubelet requested from [`Cluster::mount_nfs`]'s client: one line per mount, `SERVER:EXPORT FOLDER -o
    /// OPTIONS`.
    pub fn nfs_mounts(&self) -> String {
        fs::read_to_string(self.nfs_client().join("mounts")).unwrap_or_default()
    }

    fn nfs_client(&self) -> PathBuf {
        self.folder().join("nfs")
    }
}
