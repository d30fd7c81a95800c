//! Identifies the container of a log file from its path alone.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;
use xxhash_rust::xxh3::xxh3_128;

/// A container, or one run of it, whose log is in a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// Its pod, if known.
    pub pod: Option<Pod>,
    /// Its Docker configuration, if the log is Docker's own.
    pub docker: Option<Box<Docker>>,
    /// How many times kubelet had restarted it, from the file's name. Empty for Docker.
    pub restart: Arc<str>,
}

/// A container's pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub name: String,
    /// The pod's UID; for a static pod, the hash of its configuration.
    pub uid: String,
    /// The container's name within the pod.
    pub container: String,
}

impl Pod {
    /// The name of the pod's folder of logs, as kubelet forms it.
    pub fn folder_name(&self) -> String {
        format!("{}_{}_{}", self.namespace, self.name, self.uid)
    }
}

/// A Docker container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Docker {
    /// The container's id: 64 hexadecimal digits.
    pub id: String,
    /// The name that Docker gave it.
    pub name: Option<String>,
    /// The image it was made from.
    pub image: Option<String>,
}

impl Container {
    /// The container of a folder `<namespace>_<pod>_<uid>/<container>` below `/var/log/pods`.
    pub fn of_pod_folder(folder: &Path, restart: impl Into<Arc<str>>) -> Option<Self> {
        let container = folder.file_name()?.to_str()?;
        let mut parts = folder.parent()?.file_name()?.to_str()?.split('_');
        let (namespace, name, uid) = (parts.next()?, parts.next()?, parts.next()?);
        // Neither namespaces nor pod names may contain an underscore.
        if parts.next().is_some() || [namespace, name, uid, container].contains(&"") {
            return None;
        }
        let pod = Pod { namespace: namespace.into(), name: name.into(), uid: uid.into(), container: container.into() };
        Some(Self { pod: Some(pod), docker: None, restart: restart.into() })
    }

    /// Whether this path has the form of a pod's folder below `/var/log/pods`.
    pub fn is_pod_folder(path: &Path) -> bool {
        Self::of_pod_folder(&path.join("container"), "0").is_some()
    }

    /// Whether a log with this base belongs to the container. Docker names it after the id.
    pub fn has_log(&self, base: &str) -> bool {
        self.docker.as_ref().is_none_or(|docker| base.strip_suffix("-json") == Some(&docker.id))
    }

    /// The container of Docker's folder `<id>`; `config` is the content of its `config.v2.json`, if it could be read.
    pub fn of_docker_folder(folder: &Path, config: Option<&[u8]>) -> Option<Self> {
        let id = folder.file_name()?.to_str()?;
        if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let config: DockerConfig = config.and_then(|bytes| serde_json::from_slice(bytes).ok()).unwrap_or_default();
        let label = |name: &str| config.config.labels.get(&format!("io.kubernetes.{name}")).cloned();
        let pod = || {
            Some(Pod {
                namespace: label("pod.namespace")?,
                name: label("pod.name")?,
                uid: label("pod.uid")?,
                container: label("container.name")?,
            })
        };
        let name = Some(config.name.trim_start_matches('/').to_owned()).filter(|name| !name.is_empty());
        let image = Some(config.config.image.clone()).filter(|image| !image.is_empty());
        let docker = Docker { id: id.into(), name, image };
        Some(Self { pod: pod(), docker: Some(docker.into()), restart: "".into() })
    }

    /// The labels in Docker's `config.v2.json`.
    pub fn docker_labels(config: &[u8]) -> BTreeMap<String, String> {
        serde_json::from_slice::<DockerConfig>(config).map(|config| config.config.labels).unwrap_or_default()
    }

    /// Identifies a file of this container, independent of names and inodes: a hash of the container's UID (or Docker
    /// id), its name and restart, and the file's first whole line.
    pub fn file_id(&self, first_line: &[u8]) -> u128 {
        let (uid, name) = match (&self.docker, &self.pod) {
            (Some(docker), _) => (docker.id.as_str(), ""),
            (None, Some(pod)) => (pod.uid.as_str(), pod.container.as_str()),
            (None, None) => ("", ""),
        };
        let mut key = Vec::with_capacity(uid.len() + name.len() + first_line.len() + 16);
        for part in [uid, name, &self.restart] {
            key.extend_from_slice(part.as_bytes());
            key.push(0);
        }
        key.extend_from_slice(first_line);
        xxh3_128(&key)
    }
}

impl fmt::Display for Container {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.pod, &self.docker) {
            (Some(pod), _) => write!(f, "{}/{}/{}", pod.namespace, pod.name, pod.container),
            (None, Some(docker)) => f.write_str(docker.name.as_deref().unwrap_or(&docker.id)),
            (None, None) => f.write_str("unknown container"),
        }
    }
}

/// The fields of Docker's `config.v2.json` that are used.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct DockerConfig {
    name: String,
    config: DockerContainerConfig,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct DockerContainerConfig {
    image: String,
    labels: BTreeMap<String, String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pods_folder_names_the_container() {
        let folder = Path::new("/var/log/pods/jhub_jupyter-ann_8c1f/notebook");
        let container = Container::of_pod_folder(folder, "3").unwrap();
        let pod = container.pod.unwrap();
        assert_eq!((pod.namespace.as_str(), pod.name.as_str(), pod.uid.as_str()), ("jhub", "jupyter-ann", "8c1f"));
        assert_eq!((pod.container.as_str(), &*container.restart), ("notebook", "3"));
    }

    #[test]
    fn other_folders_name_none() {
        for folder in ["/a/b", "/a_b/c", "/a_b_c_d/e", "/_b_c/d", "c"] {
            assert_eq!(Container::of_pod_folder(Path::new(folder), "0"), None, "{folder}");
        }
        assert_eq!(Container::of_docker_folder(Path::new("/x/not-hex"), None), None);
    }

    #[test]
    fn dockers_labels_name_the_pod() {
        let config = br#"{"Name":"/k8s_x","Config":{"Image":"img","Labels":{"io.kubernetes.pod.name":"p",
            "io.kubernetes.pod.namespace":"n","io.kubernetes.pod.uid":"u","io.kubernetes.container.name":"c"}}}"#;
        let container = Container::of_docker_folder(Path::new("/x/abc"), Some(config)).unwrap();
        assert_eq!(container.to_string(), "n/p/c");
        assert_eq!(container.docker.unwrap().image.as_deref(), Some("img"));
        assert!(Container::of_docker_folder(Path::new("/x/abc"), Some(b"{")).unwrap().pod.is_none());
    }

    #[test]
    fn a_file_id_depends_on_each_part() {
        let folder = |uid: &str| Container::of_pod_folder(Path::new(&format!("/p/n_p_{uid}/c")), "0").unwrap();
        let id = folder("u").file_id(b"x");
        assert_eq!(id, folder("u").file_id(b"x"));
        assert_ne!(id, folder("v").file_id(b"x"));
        assert_ne!(id, folder("u").file_id(b"y"));
        assert_ne!(id, Container { restart: "1".into(), ..folder("u") }.file_id(b"x"));
    }
}
