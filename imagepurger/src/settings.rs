//! What the environment and the flags say, parsed once into types.

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use jiff::SignedDuration;
use lab_images::runtime::RuntimeEndpoint;
use lab_images::settings::{DiskArguments, RuntimeArguments};
use sidecar::admin::AdminArguments;
use sidecar::log::{LogArguments, LogSettings};
use sidecar::settings::Problems;
use sidecar::settings::values::{count, duration, list, percent, switch};

use crate::kubelet::Thresholds;
use crate::plan::{Rules, Scope};
use crate::round::{Limits, Watermarks};

/// The file in `STATE_DIR`.
const HISTORY: &str = "history.json";

/// Names, strings and help.
#[derive(Debug, Parser)]
#[command(
    name = "imagepurger",
    version,
    about = "Removes lab images that nobody wants and nobody uses, before the disk fills",
    after_help = "Every setting is an environment variable and a flag of the same name; the flag wins."
)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: CommandArguments,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum CommandArguments {
    /// Remove, by the clock and when the disk is full, what is no longer wanted
    Run(Box<RunArguments>),
    /// Print for each image whether it is kept or to go, and why; remove nothing
    Plan(Box<PlanArguments>),
}

/// `imagepurger run`
#[derive(Args, Debug)]
pub struct RunArguments {
    #[command(flatten)]
    node: NodeArguments,
    #[command(flatten)]
    rounds: RoundArguments,
    #[command(flatten)]
    admin: AdminArguments,
    #[command(flatten)]
    log: LogArguments,
}

/// `imagepurger plan`
#[derive(Args, Debug)]
pub struct PlanArguments {
    /// What to print
    #[arg(long, value_name = "FORMAT", default_value = "table", value_parser = ["table", "json"])]
    output: String,
    #[command(flatten)]
    node: NodeArguments,
    #[command(flatten)]
    log: LogArguments,
}

#[derive(Args, Debug)]
struct NodeArguments {
    #[command(flatten)]
    purge: PurgeArguments,
    #[command(flatten)]
    place: PlaceArguments,
    #[command(flatten)]
    runtime: RuntimeArguments,
    #[command(flatten)]
    disk: DiskArguments,
    /// Where early removal ends
    #[arg(long, env = "DISK_LOW", value_name = "PERCENT", default_value = "65%", help_heading = "Disk")]
    disk_low: String,
    /// kubelet's configuration, whose thresholds both limits stay below (85 % and 80 % where there is none)
    #[arg(
        long,
        env = "KUBELET_CONFIG_FILE",
        value_name = "FILE",
        default_value = "/var/lib/kubelet/config.yaml",
        help_heading = "Disk"
    )]
    kubelet_config_file: PathBuf,
    /// Where is kept when each image was first seen and last used
    #[arg(long, env = "STATE_DIR", value_name = "FOLDER", default_value = "/var/lib/labhands/imagepurger")]
    state_dir: PathBuf,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "What is removed")]
struct PurgeArguments {
    /// catalogue: what the catalogue's repositories no longer want; all: while the disk is full, any unused image besides
    #[arg(long, env = "PURGE_SCOPE", value_name = "SCOPE", default_value = "catalogue")]
    purge_scope: String,
    /// How long an image stays after it was last used or first seen; while the disk is full, an hour at most
    #[arg(long, env = "PURGE_GRACE", value_name = "DURATION", default_value = "24h")]
    purge_grace: String,
    /// Names that are never removed: whole, a repository, or with * for any text
    #[arg(long, env = "PURGE_ALLOW", value_name = "PATTERN,…")]
    purge_allow: Option<String>,
    /// Names that go though no catalogue lists them; never what is in use, wanted or pinned
    #[arg(long, env = "PURGE_DENY", value_name = "PATTERN,…")]
    purge_deny: Option<String>,
    /// Believe a catalogue that wants less than half of what it wanted before
    #[arg(long, env = "PURGE_FORCE_SHRINK", value_name = "SWITCH", default_value = "false")]
    purge_force_shrink: String,
    /// Tags that are always kept
    #[arg(long, env = "LAB_PINNED", value_name = "TAG,…")]
    lab_pinned: Option<String>,
    /// Images that are always kept
    #[arg(long, env = "LAB_INFRASTRUCTURE_IMAGES", value_name = "IMAGE,…")]
    lab_infrastructure_images: Option<String>,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Catalogue and cluster")]
struct PlaceArguments {
    /// The catalogue as a file, instead of the ConfigMap lab-images
    #[arg(long, env = "CATALOGUE_FILE", value_name = "FILE")]
    catalogue_file: Option<PathBuf>,
    /// Where the ConfigMap and the Lease lab-images are
    #[arg(long, env = "CATALOGUE_NAMESPACE", value_name = "NAMESPACE", default_value = "labhands")]
    catalogue_namespace: String,
    /// Nothing is removed when nobody vouched for the catalogue for this long
    #[arg(long, env = "CATALOGUE_MAX_AGE", value_name = "DURATION", default_value = "6h")]
    catalogue_max_age: String,
    /// This node's name in its cluster; unset outside of one
    #[arg(long, env = "NODE_NAME", value_name = "NAME")]
    node_name: Option<String>,
    /// This pod's name, for Events
    #[arg(long, env = "POD_NAME", value_name = "NAME")]
    pod_name: Option<String>,
    /// This pod's namespace, for Events
    #[arg(long, env = "POD_NAMESPACE", value_name = "NAMESPACE")]
    pod_namespace: Option<String>,
    /// This pod's uid, by which kubectl describe finds its Events
    #[arg(long, env = "POD_UID", value_name = "UID")]
    pod_uid: Option<String>,
    /// Kubernetes sets it in every pod
    #[arg(long, env = "KUBERNETES_SERVICE_HOST", hide = true)]
    kubernetes_service_host: Option<String>,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Rounds")]
struct RoundArguments {
    /// Time between two rounds, a tenth more or less; a full disk begins one sooner
    #[arg(long, env = "PURGE_INTERVAL", value_name = "DURATION", default_value = "15m")]
    purge_interval: String,
    /// How many images one round removes at most
    #[arg(long, env = "PURGE_MAX_PER_ROUND", value_name = "NUMBER", default_value = "20")]
    purge_max_per_round: String,
    /// Say what would go and remove nothing
    #[arg(
        long = "dry-run",
        visible_alias = "purge-dry-run",
        env = "PURGE_DRY_RUN",
        value_name = "SWITCH",
        num_args = 0..=1,
        default_value = "false",
        default_missing_value = "true"
    )]
    purge_dry_run: String,
}

/// What `imagepurger run` does.
#[derive(Debug)]
pub struct RunSettings {
    /// What is decided by.
    pub node: NodeSettings,
    /// `PURGE_INTERVAL`
    pub interval: Duration,
    /// What a round may do.
    pub limits: Limits,
    /// Where the admin server listens.
    pub admin: SocketAddr,
    /// How to log.
    pub log: LogSettings,
}

/// What `imagepurger plan` does.
#[derive(Debug)]
pub struct PlanSettings {
    /// What to print.
    pub output: Output,
    /// What is decided by.
    pub node: NodeSettings,
    /// How to log.
    pub log: LogSettings,
}

/// How a plan is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// For people.
    Table,
    /// For programs.
    Json,
}

/// What is seen and decided by on this node.
#[derive(Debug)]
pub struct NodeSettings {
    /// What goes and what stays.
    pub rules: Rules,
    /// Where early removal begins and ends.
    pub watermarks: Watermarks,
    /// Where the catalogue and the pods are seen.
    pub place: Place,
    /// The runtime, found by itself where unset.
    pub endpoint: Option<RuntimeEndpoint>,
    /// Where the history is kept.
    pub history_file: PathBuf,
}

/// What this machine is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A machine by itself.
    Host {
        /// `CATALOGUE_FILE`
        catalogue_file: PathBuf,
    },
    /// A node of a cluster.
    Node {
        /// The cluster.
        cluster: Cluster,
        /// `CATALOGUE_FILE`, instead of the ConfigMap.
        catalogue_file: Option<PathBuf>,
    },
}

/// This node's place in its cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// The node's name.
    pub node: String,
    /// Where the ConfigMap and the Lease are.
    pub catalogue_namespace: String,
    /// Namespace and name of this pod, if it is one.
    pub pod: Option<(String, String)>,
    /// The pod's uid, if it is told.
    pub pod_uid: Option<String>,
}

impl RunArguments {
    /// # Errors
    ///
    /// All problems at once.
    pub fn settings(&self) -> Result<RunSettings, Problems> {
        let mut problems = Problems::default();
        let node = self.node.settings(&mut problems);
        let rounds = &self.rounds;
        let interval = problems.parse("PURGE_INTERVAL", &rounds.purge_interval, "15m", duration);
        let most =
            problems.parse("PURGE_MAX_PER_ROUND", &rounds.purge_max_per_round, "20", |text| count(text, 1, 10_000));
        let dry_run = problems.parse("PURGE_DRY_RUN", &rounds.purge_dry_run, "true", switch);
        let (admin, log) = (self.admin.settings(&mut problems), self.log.settings(&mut problems));
        problems.finish((|| {
            let limits = Limits { most: most? as usize, dry_run: dry_run? };
            Some(RunSettings { node: node?, interval: interval?, limits, admin: admin?, log: log? })
        })())
    }
}

impl PlanArguments {
    /// # Errors
    ///
    /// All problems at once.
    pub fn settings(&self) -> Result<PlanSettings, Problems> {
        let mut problems = Problems::default();
        let output = if self.output == "json" { Output::Json } else { Output::Table };
        let (node, log) = (self.node.settings(&mut problems), self.log.settings(&mut problems));
        problems.finish((|| Some(PlanSettings { output, node: node?, log: log? }))())
    }
}

impl NodeArguments {
    fn settings(&self, problems: &mut Problems) -> Option<NodeSettings> {
        let max_age = &self.place.catalogue_max_age;
        let catalogue_max_age = problems.parse("CATALOGUE_MAX_AGE", max_age, "6h", signed_duration);
        let rules = self.purge.settings(problems);
        let place = self.place.settings(problems);
        let endpoint = self.runtime.settings(problems);
        let high = self.disk.settings(problems);
        let low = problems.parse("DISK_LOW", &self.disk_low, "65%", percent);
        let thresholds = Thresholds::of_file(&self.kubelet_config_file);
        let watermarks = high.zip(low).and_then(|(high, low)| watermarks(high, low, thresholds, problems));
        Some(NodeSettings {
            rules: Rules { catalogue_max_age: catalogue_max_age?, ..rules? },
            watermarks: watermarks?,
            place: place?,
            endpoint: endpoint?,
            history_file: self.state_dir.join(HISTORY),
        })
    }
}

/// Both limits below both of kubelet's thresholds, so that its garbage collection never begins.
fn watermarks(high: u8, low: u8, kubelet: Thresholds, problems: &mut Problems) -> Option<Watermarks> {
    let mut fine = true;
    let limit = kubelet.high.min(kubelet.low);
    for (setting, percent, example) in [("DISK_HIGH", high, "75%"), ("DISK_LOW", low, "65%")] {
        if percent >= limit {
            let Thresholds { high, low } = kubelet;
            let reason = format!(
                "{percent} % is not below kubelet's own thresholds ({high} % and {low} %), which would remove whatever is oldest"
            );
            problems.add(setting, reason, example);
            fine = false;
        }
    }
    if low >= high {
        problems.add("DISK_LOW", format!("{low} % is not below DISK_HIGH ({high} %)"), "65%");
        fine = false;
    }
    fine.then_some(Watermarks { high, low })
}

impl PurgeArguments {
    /// The rules, with the age of the catalogue still to be filled in.
    fn settings(&self, problems: &mut Problems) -> Option<Rules> {
        let scope = problems.parse("PURGE_SCOPE", &self.purge_scope, "catalogue", |text| match text {
            "catalogue" => Ok(Scope::Catalogue),
            "all" => Ok(Scope::All),
            _ => Err(format!("{text:?} is neither catalogue nor all")),
        });
        let grace = problems.parse("PURGE_GRACE", &self.purge_grace, "24h", signed_duration);
        let allow = all(problems, "PURGE_ALLOW", self.purge_allow.as_deref(), "registry.example.org/owner/*");
        let deny = all(problems, "PURGE_DENY", self.purge_deny.as_deref(), "*:exp_*");
        let force_shrink = problems.parse("PURGE_FORCE_SHRINK", &self.purge_force_shrink, "true", switch);
        let images = self.lab_infrastructure_images.as_deref();
        let pinned_images = all(problems, "LAB_INFRASTRUCTURE_IMAGES", images, "registry.example.org/owner/hub:1.0");
        let pinned_tags: BTreeSet<String> =
            list(self.lab_pinned.as_deref().unwrap_or_default()).map(str::to_owned).collect();
        Some(Rules {
            scope: scope?,
            grace: grace?,
            catalogue_max_age: SignedDuration::ZERO,
            force_shrink: force_shrink?,
            pinned_tags,
            pinned_images: pinned_images?,
            allow: allow?,
            deny: deny?,
        })
    }
}

impl PlaceArguments {
    fn settings(&self, problems: &mut Problems) -> Option<Place> {
        let Some(node) = self.node_name.clone() else {
            if self.kubernetes_service_host.is_some() {
                let reason = "must be set in a cluster, or pods that wait on this node would not be seen";
                problems.add("NODE_NAME", reason, "node-1");
                return None;
            }
            let Some(catalogue_file) = self.catalogue_file.clone() else {
                let reason = "must be set outside of a cluster (inside of one, NODE_NAME)";
                problems.add("CATALOGUE_FILE", reason, "/var/lib/labhands/catalogue.json");
                return None;
            };
            return Some(Place::Host { catalogue_file });
        };
        // Both go into the API server's paths and selectors.
        for (setting, name, example) in
            [("NODE_NAME", &node, "node-1"), ("CATALOGUE_NAMESPACE", &self.catalogue_namespace, "labhands")]
        {
            let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
            if !name.chars().all(fits) {
                problems.add(setting, format!("{name:?} is not a name of letters, digits, hyphens and dots"), example);
                return None;
            }
        }
        let cluster = Cluster {
            node,
            catalogue_namespace: self.catalogue_namespace.clone(),
            pod: self.pod_namespace.clone().zip(self.pod_name.clone()),
            pod_uid: self.pod_uid.clone(),
        };
        Some(Place::Node { cluster, catalogue_file: self.catalogue_file.clone() })
    }
}

fn all<T: std::str::FromStr<Err: fmt::Display>>(
    problems: &mut Problems,
    setting: &'static str,
    text: Option<&str>,
    example: &'static str,
) -> Option<Vec<T>> {
    problems
        .parse(setting, text.unwrap_or_default(), example, |text| list(text).map(str::parse).collect::<Result<_, _>>())
}

fn signed_duration(text: &str) -> Result<SignedDuration, String> {
    let duration = duration(text).map_err(|error| error.to_string())?;
    SignedDuration::try_from(duration).map_err(|_| format!("{text:?} is too long"))
}

/// Where the history is kept in a folder.
pub fn history_in(folder: &Path) -> PathBuf {
    folder.join(HISTORY)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sidecar::settings::{Environment, parse};
    use std::ffi::OsString;

    fn run(environment: &[(&str, &str)], flags: &[&str]) -> Result<RunSettings, String> {
        let folder = [("KUBELET_CONFIG_FILE", "/not/there")];
        let environment: Environment = folder.iter().chain(environment).copied().collect();
        let arguments = ["imagepurger", "run"].iter().chain(flags).map(OsString::from);
        let arguments: Arguments = parse(&environment, arguments).unwrap();
        let CommandArguments::Run(run) = arguments.command else { panic!("not run") };
        run.settings().map_err(|problems| problems.to_string())
    }

    const FILE: (&str, &str) = ("CATALOGUE_FILE", "/c.json");

    #[test]
    fn a_catalogue_file_is_enough_on_a_machine_by_itself() {
        let settings = run(&[FILE], &[]).unwrap();
        assert_eq!(settings.node.place, Place::Host { catalogue_file: "/c.json".into() });
        assert_eq!(settings.node.watermarks, Watermarks { high: 75, low: 65 });
        assert_eq!(settings.node.rules.grace, SignedDuration::from_hours(24));
        assert_eq!(settings.node.rules.catalogue_max_age, SignedDuration::from_hours(6));
        assert_eq!((settings.limits.most, settings.limits.dry_run), (20, false));
        assert_eq!(settings.node.history_file, history_in(Path::new("/var/lib/labhands/imagepurger")));
    }

    #[test]
    fn dry_run_is_a_bare_flag_and_a_variable() {
        assert!(run(&[FILE], &["--dry-run"]).unwrap().limits.dry_run);
        assert!(run(&[FILE], &["--purge-dry-run=yes"]).unwrap().limits.dry_run);
        assert!(run(&[FILE, ("PURGE_DRY_RUN", "true")], &[]).unwrap().limits.dry_run);
    }

    #[test]
    fn a_node_needs_its_name() {
        let cluster = ("KUBERNETES_SERVICE_HOST", "10.0.0.1");
        let said = run(&[FILE, cluster], &[]).unwrap_err();
        assert!(said.starts_with("NODE_NAME: must be set in a cluster"), "{said}");
        assert!(run(&[], &[]).unwrap_err().starts_with("CATALOGUE_FILE: must be set"));
        assert!(run(&[("NODE_NAME", "a,b")], &[]).unwrap_err().starts_with("NODE_NAME: "));
        let pod = [("NODE_NAME", "n1"), cluster, ("POD_NAME", "p"), ("POD_NAMESPACE", "ns")];
        let cluster = Cluster {
            node: "n1".into(),
            catalogue_namespace: "labhands".into(),
            pod: Some(("ns".into(), "p".into())),
            pod_uid: None,
        };
        assert_eq!(run(&pod, &[]).unwrap().node.place, Place::Node { cluster, catalogue_file: None });
    }

    #[test]
    fn both_watermarks_stay_below_both_of_kubelets() {
        let table = [
            ("75", "65", ""),
            ("79", "78", ""),
            ("80", "65", "DISK_HIGH"),
            ("95", "85", "DISK_HIGH"),
            ("85", "80", "DISK_LOW"),
        ];
        for (high, low, named) in table {
            let said = run(&[FILE, ("DISK_HIGH", high), ("DISK_LOW", low)], &[]).map(drop).err().unwrap_or_default();
            assert_eq!(said.is_empty(), named.is_empty(), "{high} {low}: {said}");
            assert!(
                named.is_empty()
                    || said.contains(&format!("{named}: {}", if named == "DISK_LOW" { low } else { high })),
                "{said}"
            );
        }
        let said = run(&[FILE, ("DISK_LOW", "75")], &[]).unwrap_err();
        assert!(said.contains("75 % is not below DISK_HIGH (75 %)"), "{said}");

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.yaml");
        std::fs::write(&path, "imageGCHighThresholdPercent: 70\nimageGCLowThresholdPercent: 60\n").unwrap();
        let said = run(&[FILE, ("KUBELET_CONFIG_FILE", path.to_str().unwrap())], &[]).unwrap_err();
        assert!(said.contains("DISK_HIGH: 75 %") && said.contains("(70 % and 60 %)"), "{said}");
    }

    #[test]
    fn every_problem_is_named() {
        let bad = [
            ("PURGE_SCOPE", "some"),
            ("PURGE_GRACE", "0s"),
            ("PURGE_ALLOW", "*"),
            ("PURGE_DENY", "UPPER"),
            ("PURGE_FORCE_SHRINK", "perhaps"),
            ("LAB_INFRASTRUCTURE_IMAGES", "a b"),
            ("CATALOGUE_MAX_AGE", "x"),
            ("PURGE_INTERVAL", "x"),
            ("PURGE_MAX_PER_ROUND", "0"),
            ("PURGE_DRY_RUN", "perhaps"),
            ("DISK_LOW", "0"),
            ("RUNTIME_ENDPOINT", "tcp://x"),
            ("ADMIN_ADDR", "x"),
        ];
        let said = run(&bad, &[]).unwrap_err();
        for (name, _) in bad {
            assert!(said.contains(&format!("{name}: ")), "{name} in {said}");
        }
    }
}
