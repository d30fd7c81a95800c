//! What a look at all folders found, and what of it can't be read: said, counted, and a reason not to be ready.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde::Deserialize;
use sidecar::readiness::Latch;
use sidecar::sync::lock;

use super::listing;

/// How often the same is said.
const COMPLAIN: Duration = Duration::from_secs(60);

/// So many of one kind are named.
const MOST_NAMED: usize = 3;

/// What is wrong with a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// A folder of `LOG_PATHS` can't be read.
    Root,
    /// A folder of `LOG_PATHS` holds something else.
    NoContainers,
    /// A pod's or a container's folder can't be read.
    Folder,
    /// A log file can't be opened.
    File,
    /// A log file is open and can't be read.
    Content,
    /// A log is a link that can't be followed.
    Link,
    /// A container's log is kept in a format that can't be read.
    Format,
    /// A file can't be told to be a log's.
    Unplaced,
}

impl Kind {
    fn said(self) -> &'static str {
        match self {
            Self::Root => "folders of LOG_PATHS can't be read",
            Self::NoContainers => "folders of LOG_PATHS hold no pods' or containers' folders",
            Self::Folder => "folders of pods or containers can't be read",
            Self::File => "log files can't be opened; they are tried again",
            Self::Content => "log files can't be read; they are tried again",
            Self::Link => "links to log files can't be followed",
            Self::Format => "containers keep their logs in a way that can't be read",
            Self::Unplaced => "files beside logs are not read: their names do not say when they were rotated",
        }
    }

    /// Whether lines that are on disk, and that are to be shipped, are out of reach.
    fn is_failure(self) -> bool {
        !matches!(self, Self::Format | Self::Unplaced)
    }
}

/// Something that can't be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) kind: Kind,
    /// Where, and why.
    pub(super) what: String,
}

impl Problem {
    pub(super) fn new(kind: Kind, path: &Path, why: impl std::fmt::Display) -> Self {
        Self { kind, what: format!("{}: {why}", path.display()) }
    }

    /// A file or folder that the system does not let us read.
    pub(super) fn of_error(kind: Kind, path: &Path, error: &io::Error) -> Self {
        Self::new(kind, path, format_args!("{error}{}", listing::too_many(error)))
    }

    /// A link that can't be followed.
    pub(super) fn link(path: &Path, error: &io::Error) -> Self {
        let target = fs::read_link(path).unwrap_or_default();
        Self::new(
            Kind::Link,
            path,
            format_args!("it leads to {}: {error}; is that folder mounted here, too?", target.display()),
        )
    }

    /// A folder of `LOG_PATHS` without a single folder of a pod or container.
    pub(super) fn no_containers(root: &Path) -> Self {
        let below = ["pods", "containers"].map(|name| root.join(name));
        let has_links = fs::read_dir(root).is_ok_and(|entries| {
            entries.flatten().any(|entry| entry.file_name().as_encoded_bytes().ends_with(b".log"))
        });
        let hint = match below.iter().find(|path| path.is_dir()) {
            Some(path) => format!("use {}", path.display()),
            None if has_links => {
                "log files or links to them are not followed here: use /var/log/pods, which holds a folder for each \
                                  pod"
                .to_owned()
            }
            None => "use /var/log/pods, or Docker's containers folder".to_owned(),
        };
        Self::new(Kind::NoContainers, root, hint)
    }

    /// Why a container's folder, named by its id, holds no log; `None` if it may come yet.
    pub(super) fn of_format(folder: &Path) -> Option<Self> {
        if folder.join("userdata/ctr.log").exists() {
            let why = "podman's log ctr.log is not read; only those of kubelet's folders and Docker's json-file are";
            return Some(Self::new(Kind::Format, folder, why));
        }
        let config = listing::read_config(&folder.join("hostconfig.json"))?;
        let driver = serde_json::from_slice::<HostConfig>(&config).ok()?.log_config.kind;
        // Who turned logs off wants none.
        if ["", "json-file", "none"].contains(&driver.as_str()) {
            return None;
        }
        let why = format_args!("Docker's log driver {driver} keeps no file that can be read; json-file does");
        Some(Self::new(Kind::Format, folder, why))
    }
}

/// The part of Docker's `hostconfig.json` that is used.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct HostConfig {
    log_config: LogConfig,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct LogConfig {
    #[serde(rename = "Type")]
    kind: String,
}

/// What the last look found: shared with whoever decides how the process ends.
#[derive(Clone, Debug, Default)]
pub struct Findings(Arc<Mutex<Option<String>>>);

impl Findings {
    /// Why some logs can't be read, if that is so.
    pub fn failure(&self) -> Option<String> {
        lock(&self.0).clone()
    }

    fn set(&self, failure: Option<String>) {
        *lock(&self.0) = failure;
    }
}

/// Says what looks find.
#[derive(Debug)]
pub(super) struct Survey {
    latch: Latch,
    findings: Findings,
    /// What was said last of each kind, and when.
    said: BTreeMap<Kind, (Instant, Vec<String>)>,
    first: bool,
}

impl Survey {
    pub(super) fn new(latch: Latch, findings: Findings) -> Self {
        Self { latch, findings, said: BTreeMap::new(), first: true }
    }

    /// A look at all folders ended: this was found.
    pub(super) fn report(&mut self, roots: &[Arc<Path>], containers: usize, files: usize, problems: &[Problem]) {
        let mut kinds: BTreeMap<Kind, Vec<&str>> = BTreeMap::new();
        for problem in problems {
            kinds.entry(problem.kind).or_default().push(&problem.what);
        }
        if std::mem::take(&mut self.first) {
            let roots: Vec<_> = roots.iter().map(|root| root.display().to_string()).collect();
            tracing::info!(
                containers,
                files,
                unreadable = problems.len(),
                "found {containers} containers with {files} log files in {}",
                roots.join(", ")
            );
        }
        self.say(&kinds);
        let failed = |kind: &Kind| kind.is_failure() || files == 0;
        let failures: Vec<_> = kinds.iter().filter(|(kind, _)| failed(kind)).map(describe).collect();
        let failure = Some(failures.join("; ")).filter(|text| !text.is_empty());
        match &failure {
            Some(why) => self.latch.not_ready(why),
            None => self.latch.ready(),
        }
        self.findings.set(failure);
    }

    /// Says each kind when it changes, at most once a minute: there may be thousands.
    fn say(&mut self, kinds: &BTreeMap<Kind, Vec<&str>>) {
        self.said.retain(|kind, _| kinds.contains_key(kind));
        for (kind, paths) in kinds {
            if let Some((when, before)) = self.said.get(kind)
                && (before == paths || when.elapsed() < COMPLAIN)
            {
                continue;
            }
            let (which, more) = named(paths);
            if kind.is_failure() {
                tracing::error!(count = paths.len(), which, more, "{}", kind.said());
            } else {
                tracing::warn!(count = paths.len(), which, more, "{}", kind.said());
            }
            self.said.insert(*kind, (Instant::now(), paths.iter().map(|path| (*path).to_owned()).collect()));
        }
    }
}

fn describe((kind, paths): (&Kind, &Vec<&str>)) -> String {
    let (which, more) = named(paths);
    let more = if more == 0 { String::new() } else { format!(", and {more} more") };
    format!("{}: {which}{more}", kind.said())
}

/// Some of the paths, and how many more there are.
fn named(paths: &[&str]) -> (String, usize) {
    let some = &paths[..paths.len().min(MOST_NAMED)];
    (some.join(", "), paths.len() - some.len())
}

#[cfg(test)]
mod tests {
    use sidecar::readiness::Health;

    use super::*;

    #[test]
    fn what_is_out_of_reach_is_a_failure_until_it_is_not_and_an_odd_file_only_where_nothing_else_is() {
        let (health, findings) = (Health::default(), Findings::default());
        let mut survey = Survey::new(health.latch("logs"), findings.clone());
        let problem = |kind| [Problem::new(kind, Path::new("/x"), "why")];
        let failed = [Kind::Root, Kind::NoContainers, Kind::Folder, Kind::File, Kind::Content, Kind::Link];
        for kind in failed {
            survey.report(&[], 1, 1, &problem(kind));
            assert!(findings.failure().unwrap().contains("/x: why"), "{kind:?}");
            assert!(!health.not_ready().is_empty(), "{kind:?}");
            survey.report(&[], 1, 1, &[]);
            assert_eq!((findings.failure(), health.not_ready()), (None, vec![]), "{kind:?}");
        }
        for kind in [Kind::Format, Kind::Unplaced] {
            survey.report(&[], 1, 1, &problem(kind));
            assert_eq!(findings.failure(), None, "{kind:?}");
            survey.report(&[], 0, 0, &problem(kind));
            assert!(findings.failure().is_some(), "{kind:?}");
        }
        survey.report(&[], 0, 0, &[]);
        assert_eq!(findings.failure(), None);
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
