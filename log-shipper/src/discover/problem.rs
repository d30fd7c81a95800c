//! Logs that cannot be read, and what to do about it.

use std::fs;
use std::io;
use std::path::Path;

use rustix::io::Errno;

use super::docker_config;

/// File extensions of compression formats other than gzip that logrotate's users choose.
const OTHER_COMPRESSIONS: [&str; 8] = ["Z", "bz2", "lz4", "lzma", "lzo", "xz", "zip", "zst"];

/// The kind of problem with a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// A folder of `LOG_PATHS` cannot be read.
    Root,
    /// A folder of `LOG_PATHS` has no folders of pods or containers.
    NoContainers,
    /// A pod's or a container's folder cannot be read.
    Folder,
    /// A log file cannot be opened.
    File,
    /// An open log file cannot be read.
    Content,
    /// A log is a link that cannot be followed.
    Link,
    /// A container's log has a format that cannot be read.
    Format,
    /// A file that cannot be identified as part of a log.
    Unplaced,
}

impl Kind {
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Root => "folders of LOG_PATHS can't be read",
            Self::NoContainers => "folders of LOG_PATHS hold no pods' or containers' folders",
            Self::Folder => "folders of pods or containers can't be read",
            Self::File => "log files can't be opened; they are tried again",
            Self::Content => "log files can't be read; they are tried again",
            Self::Link => "links to log files can't be followed",
            Self::Format => "containers keep their logs in a format that can't be read",
            Self::Unplaced => "some files next to logs are not read",
        }
    }

    /// Whether lines that should be shipped cannot be read.
    pub(super) fn is_failure(self) -> bool {
        !matches!(self, Self::Format | Self::Unplaced)
    }
}

/// Something that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) kind: Kind,
    /// The path, and the reason.
    pub(super) what: String,
}

impl Problem {
    pub(super) fn new(kind: Kind, path: &Path, why: impl std::fmt::Display) -> Self {
        Self { kind, what: format!("{}: {why}", path.display()) }
    }

    /// A file or folder that the system does not allow us to read.
    pub(super) fn of_error(kind: Kind, path: &Path, error: &io::Error) -> Self {
        Self::new(kind, path, format_args!("{error}{}", too_many(error)))
    }

    /// A folder of `LOG_PATHS` that cannot be listed.
    pub(super) fn root(path: &Path, error: &io::Error) -> Self {
        let pattern = path.as_os_str().as_encoded_bytes().contains(&b'*');
        let hint = if pattern { "; LOG_PATHS takes folders, not patterns: use /var/log/pods" } else { "" };
        Self::new(Kind::Root, path, format_args!("{error}{}{hint}", too_many(error)))
    }

    /// A file with a log's name that cannot be identified as part of it.
    pub(super) fn unplaced(path: &Path) -> Self {
        let compressed = path.extension().is_some_and(|ending| OTHER_COMPRESSIONS.iter().any(|other| ending == *other));
        let why = if compressed {
            "log-shipper decompresses gzip files only"
        } else {
            "the name does not say when the file was rotated"
        };
        Self::new(Kind::Unplaced, path, why)
    }

    /// A link that cannot be followed.
    pub(super) fn link(path: &Path, error: &io::Error) -> Self {
        let target = fs::read_link(path).unwrap_or_default();
        Self::new(
            Kind::Link,
            path,
            format_args!("it points to {}: {error}; is that folder mounted here, too?", target.display()),
        )
    }

    /// A folder of `LOG_PATHS` without any folder of a pod or container.
    pub(super) fn no_containers(root: &Path) -> Self {
        let below = ["pods", "containers"].map(|name| root.join(name));
        let has_links = fs::read_dir(root).is_ok_and(|entries| {
            entries.flatten().any(|entry| entry.file_name().as_encoded_bytes().ends_with(b".log"))
        });
        let hint = match below.iter().find(|path| path.is_dir()) {
            Some(path) => format!("use {}", path.display()),
            None if has_links => {
                "log files or links to them are not followed here: use /var/log/pods, which contains a folder for each \
                                  pod"
                .to_owned()
            }
            None => "use /var/log/pods, or Docker's containers folder".to_owned(),
        };
        Self::new(Kind::NoContainers, root, hint)
    }

    /// Why a container's folder, named by its id, contains no log; `None` if a log may still appear.
    pub(super) fn of_format(folder: &Path) -> Option<Self> {
        if folder.join("userdata/ctr.log").exists() {
            let why = "podman's log ctr.log is not read; only those of kubelet's folders and Docker's json-file are";
            return Some(Self::new(Kind::Format, folder, why));
        }
        let driver = docker_config::log_driver(folder)?;
        // With these drivers there is a file, or logs were turned off.
        if ["", "json-file", "none"].contains(&driver.as_str()) {
            return None;
        }
        let why = format_args!("Docker's log driver {driver} writes no file that log-shipper can read; use json-file");
        Some(Self::new(Kind::Format, folder, why))
    }
}

/// Advice, if the error is about too many open files.
fn too_many(error: &io::Error) -> &'static str {
    let limit = Errno::from_io_error(error) == Some(Errno::MFILE);
    if limit { "; raise the limit of open files (ulimit -n)" } else { "" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_not_read_has_its_reason() {
        for (name, expected) in
            [("0.log.1.xz", "gzip"), ("0.log-20261123.zst", "gzip"), ("0.log.2.Z", "gzip"), ("0.log.old", "rotated")]
        {
            assert!(Problem::unplaced(Path::new(name)).what.contains(expected), "{name}");
        }
    }

    #[test]
    fn a_log_driver_without_a_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let driver = |name: &str| {
            let config = format!("{{\"LogConfig\":{{\"Type\":\"{name}\",\"Config\":{{}}}}}}");
            fs::write(folder.path().join("hostconfig.json"), config).unwrap();
            Problem::of_format(folder.path()).map(|problem| problem.what)
        };
        assert_eq!(driver("json-file"), None);
        assert_eq!(driver("none"), None);
        for name in ["local", "journald", "syslog"] {
            assert!(driver(name).unwrap().contains(&format!("driver {name} ")));
        }
        fs::create_dir(folder.path().join("userdata")).unwrap();
        fs::write(folder.path().join("userdata/ctr.log"), "").unwrap();
        assert!(driver("json-file").unwrap().contains("podman"));
    }
}
