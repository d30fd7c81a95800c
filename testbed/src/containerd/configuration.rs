//! containerd's configuration file, in the version that each release reads.

use std::fmt::Write as _;
use std::path::Path;

use super::Release;

/// The values of a configuration.
pub(crate) struct Configuration<'a> {
    pub(crate) release: Release,
    /// The folder of its images and snapshots.
    pub(crate) root: &'a Path,
    /// Its unix socket.
    pub(crate) socket: &'a Path,
    /// The folder of `HOST/hosts.toml` files.
    pub(crate) registries: &'a Path,
    /// The folder of CNI configurations.
    pub(crate) networks: &'a Path,
    /// The sandbox image, if pods are run.
    pub(crate) sandbox_image: Option<&'a str>,
    /// Concurrent downloads of one image's layers; the default (3) if `None`.
    pub(crate) max_concurrent_downloads: Option<u32>,
    /// Whether compressed layers are discarded after unpacking.
    pub(crate) discard_unpacked_layers: bool,
}

impl Configuration<'_> {
    /// The file's text.
    pub(crate) fn text(&self) -> String {
        match self.release {
            Release::Current => self.version_3(),
            Release::Debian => self.version_2(),
        }
    }

    fn server(&self, version: u8) -> String {
        let (root, socket) = (self.root.display(), self.socket.display());
        // Its folder for programs would otherwise be created below /opt.
        format!(
            "version = {version}\nroot = \"{root}\"\nstate = \"/run/containerd\"\n[grpc]\naddress = \"{socket}\"\n\
             [plugins.\"io.containerd.internal.v1.opt\"]\npath = \"{root}/opt\"\n"
        )
    }

    /// Since 2.0, <https://github.com/containerd/containerd/blob/main/docs/cri/config.md>.
    fn version_3(&self) -> String {
        let mut text = self.server(3);
        if let Some(downloads) = self.max_concurrent_downloads {
            // CRI's option of the same name would make it pull as before, without the transfer service.
            let transfer = "[plugins.\"io.containerd.transfer.v1.local\"]";
            let _ = writeln!(text, "{transfer}\nmax_concurrent_downloads = {downloads}");
        }
        let images = "plugins.\"io.containerd.cri.v1.images\"";
        let _ = writeln!(text, "[{images}]\ndiscard_unpacked_layers = {}", self.discard_unpacked_layers);
        let _ = writeln!(text, "[{images}.registry]\nconfig_path = \"{}\"", self.registries.display());
        if let Some(image) = self.sandbox_image {
            let _ = writeln!(text, "[{images}.pinned_images]\nsandbox = \"{image}\"");
        }
        let runtime = "plugins.\"io.containerd.cri.v1.runtime\"";
        let _ = writeln!(text, "[{runtime}]\n{OUT_OF_MEMORY}");
        let _ = writeln!(
            text,
            "[{runtime}.cni]\nbin_dirs = [\"{CNI_PROGRAMS}\"]\nconf_dir = \"{}\"",
            self.networks.display()
        );
        let _ = writeln!(text, "[{runtime}.containerd.runtimes.runc]\n{RUNC}");
        text
    }

    /// For 1.x.
    fn version_2(&self) -> String {
        let mut text = self.server(2);
        let cri = "plugins.\"io.containerd.grpc.v1.cri\"";
        let _ = writeln!(text, "[{cri}]\n{OUT_OF_MEMORY}");
        if let Some(image) = self.sandbox_image {
            let _ = writeln!(text, "sandbox_image = \"{image}\"");
        }
        if let Some(downloads) = self.max_concurrent_downloads {
            let _ = writeln!(text, "max_concurrent_downloads = {downloads}");
        }
        let _ = writeln!(text, "[{cri}.registry]\nconfig_path = \"{}\"", self.registries.display());
        let _ = writeln!(text, "[{cri}.cni]\nbin_dir = \"{CNI_PROGRAMS}\"\nconf_dir = \"{}\"", self.networks.display());
        let _ = writeln!(text, "[{cri}.containerd]\ndiscard_unpacked_layers = {}", self.discard_unpacked_layers);
        let _ = writeln!(text, "[{cri}.containerd.runtimes.runc]\n{RUNC}");
        text
    }
}

/// Without CAP_SYS_RESOURCE runc cannot lower the out-of-memory score, and every sandbox would fail.
const OUT_OF_MEMORY: &str = "restrict_oom_score_adj = true";

/// Where Debian has CNI's programs.
const CNI_PROGRAMS: &str = "/usr/lib/cni";

const RUNC: &str = "runtime_type = \"io.containerd.runc.v2\"";
