//! Installs what the repository ships into a cluster: images with `bld`, manifests with `kubectl apply -k`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Cluster;
use crate::folder::Folder;
use crate::images::Image;
use crate::{Result, command, packages};

/// The overlays with our file server.
const OVER_A_DISK: [&str; 2] = ["fileserver", "hub"];

/// What to install.
#[derive(Clone, Copy, Debug, Default)]
pub struct Install<'a> {
    /// The overlay's folder below `manifests/overlays`.
    pub overlay: &'a str,
    /// Components of `manifests/components` in addition to those of the overlay.
    pub components: &'a [&'a str],
    /// The components whose images it needs.
    pub images: &'a [&'a str],
    /// A folder of programs that `cargo test` has built, to put into these images.
    pub binaries: Option<&'a Path>,
    /// Paths of daemons' programs that `cargo test` has built, to use instead of such images:
    /// `env!("CARGO_BIN_EXE_NAME")`.
    pub programs: &'a [&'a str],
    /// Other images in the manifests, and their replacements: `NAME:TAG` without a registry, of the cluster's own
    /// registry.
    pub replaced: &'a [(&'a str, &'a str)],
    /// Settings for the ConfigMap `labhands`, in addition to the cluster's registry over plain HTTP.
    pub settings: &'a [(&'a str, &'a str)],
    /// Names and contents of files beside the overlay's `kustomization.yaml`.
    pub files: &'a [(&'a str, &'a str)],
    /// More lines for that file, such as `patches:`. They follow a list of ConfigMaps.
    pub more: &'a str,
}

impl Cluster {
    /// Builds the images, pushes them to the cluster's registry, and applies the overlay.
    pub fn install(&self, install: &Install) -> Result<()> {
        self.build(install.images, install.binaries)?;
        for program in install.programs {
            let repository = format!("labhands/{}", name_of(program));
            Image::program(Path::new(program))?.push(self.registry(), &repository, env!("CARGO_PKG_VERSION"))?;
        }
        if OVER_A_DISK.contains(&install.overlay) {
            self.make_disk()?;
        }
        let site = self.site(install)?;
        self.kubectl().run(&["apply", "-k", &site.path().to_string_lossy()]).map(drop)
    }

    /// Builds images and pushes them to the cluster's registry as `labhands/NAME`. Builds their programs for release,
    /// unless a folder has them.
    pub fn build(&self, images: &[&str], binaries: Option<&Path>) -> Result<()> {
        if images.is_empty() {
            return Ok(());
        }
        packages::require(packages::Part::Buildah)?;
        // Separate storage, so that nothing is left behind.
        let folder = Folder::new("images")?;
        let path = folder.path().display();
        let storage = format!("[storage]\ndriver = \"vfs\"\ngraphroot = \"{path}/graph\"\nrunroot = \"{path}/run\"\n");
        let storage = folder.write("storage.conf", storage)?;
        let push = format!("--push={}", self.registry().host());
        let mut bld = Command::new(repository().join("images/bld"));
        // A run by hand should build quickly; `./test` uses release builds.
        if std::env::var_os("PROFILE").is_none() {
            bld.env("PROFILE", "dev");
        }
        bld.args(images).arg(push).env("CONTAINERS_STORAGE_CONF", storage).env("BUILDER", "buildah");
        if let Some(binaries) = binaries {
            bld.env("BINARIES", binaries);
        }
        command::run(bld.env_remove("IMAGE_PREFIX")).map(drop)
    }

    /// Creates the claim of the file server's disk, which is a separate overlay and comes first; without a storage
    /// class, because this cluster has no provisioner.
    fn make_disk(&self) -> Result<()> {
        let folder = Folder::new("site")?;
        let patch = r#"[{"op": "add", "path": "/spec/storageClassName", "value": ""}]"#;
        let site = format!(
            "resources: [{}/overlays/fileserver-claim]\npatches:\n- target: {{kind: PersistentVolumeClaim}}\n  patch: '{patch}'\n",
            manifests(&folder)
        );
        folder.write("kustomization.yaml", site)?;
        self.kubectl().run(&["apply", "-k", &folder.path().to_string_lossy()]).map(drop)
    }

    /// The folder of an overlay over an overlay, as a site has it.
    fn site(&self, install: &Install) -> Result<Folder> {
        let folder = Folder::new("site")?;
        let registry = self.registry_host();
        let manifests = manifests(&folder);
        let mut text = format!("resources: [{manifests}/overlays/{}]\n", install.overlay);
        let components: Vec<String> =
            install.components.iter().map(|name| format!("{manifests}/components/{name}")).collect();
        let _ = writeln!(text, "components: [{}]", components.join(", "));
        let _ = writeln!(text, "images:");
        let programs = install.programs.iter().map(|program| name_of(program));
        for name in install.images.iter().copied().chain(programs) {
            let _ = writeln!(text, "- {{name: labhands/{name}, newName: {registry}/labhands/{name}}}");
        }
        for (name, image) in install.replaced {
            let (image, tag) = image.rsplit_once(':').unwrap_or((image, "latest"));
            let _ = writeln!(text, "- {{name: {name}, newName: {registry}/{image}, newTag: '{tag}'}}");
        }
        let _ = writeln!(text, "configMapGenerator:");
        for namespace in ["labhands", "labhands-node"] {
            let _ = writeln!(text, "- {{name: labhands, namespace: {namespace}, behavior: merge, envs: [site.env]}}");
        }
        text.push_str(install.more);
        folder.write("kustomization.yaml", text)?;
        for (name, content) in install.files {
            folder.write(name, content)?;
        }
        let mut settings = format!("LAB_INSECURE_REGISTRIES={registry}\n");
        for (name, value) in install.settings {
            let _ = writeln!(settings, "{name}={value}");
        }
        folder.write("site.env", settings)?;
        Ok(folder)
    }
}

/// The repository's `manifests`, as a path relative to a folder elsewhere, because kustomize requires relative paths.
fn manifests(folder: &Folder) -> String {
    let up = "../".repeat(folder.path().components().count() - 1);
    format!("{up}{}/manifests", repository().display().to_string().trim_start_matches('/'))
}

/// The file's name alone.
fn name_of(program: &str) -> &str {
    program.rsplit('/').next().unwrap_or(program)
}

/// The repository's folder.
fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(PathBuf::new, Path::to_owned)
}
