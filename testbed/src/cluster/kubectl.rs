//! `kubectl` for a cluster of the testbed, or for any.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::{Error, Result, command, wait};

/// The variable for the folder of the cache.
pub(super) const CACHE: &str = "KUBECACHEDIR";

/// How many events an error has.
const LAST_EVENTS: usize = 20;

/// `kubectl` for one cluster.
#[derive(Clone, Debug)]
pub struct Kubectl {
    pub(super) program: PathBuf,
    pub(super) kubeconfig: PathBuf,
    /// The cache of the cluster's kinds; the user's own if `None`.
    pub(super) cache: Option<PathBuf>,
}

/// `kubectl` for the cluster of `KUBECONFIG`; `None` if that is unset. For tests that run on any cluster.
pub fn attach() -> Option<Kubectl> {
    let kubeconfig = std::env::var_os("KUBECONFIG").filter(|path| !path.is_empty())?;
    Some(Kubectl { program: "kubectl".into(), kubeconfig: kubeconfig.into(), cache: None })
}

impl Kubectl {
    /// Runs `kubectl` and returns its standard output.
    pub fn run(&self, arguments: &[&str]) -> Result<String> {
        command::run(self.command().args(arguments))
    }

    /// Applies YAML documents.
    pub fn apply(&self, yaml: &str) -> Result<String> {
        let failed = || Error::io("run kubectl apply");
        let mut kubectl = self.command();
        kubectl.args(["apply", "-f", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = kubectl.spawn().map_err(failed())?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(yaml.as_bytes()).map_err(failed())?;
        }
        let output = child.wait_with_output().map_err(failed())?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() {
            return Ok(text(&output.stdout));
        }
        let (command, status) = ("kubectl apply -f -".into(), output.status.to_string());
        Err(Error::Command { command, status, output: text(&output.stdout) + &text(&output.stderr) })
    }

    /// Creates a namespace, and waits for the account without which no pod is admitted there: a controller creates it.
    pub fn create_namespace(&self, name: &str) -> Result<()> {
        self.run(&["create", "namespace", name])?;
        self.run(&["-n", name, "wait", "serviceaccount/default", "--for=create", "--timeout=300s"]).map(drop)
    }

    /// Repeats a command until its output satisfies `wanted`, and returns the output. An error has the state of all pods
    /// and the last events of the cluster.
    pub fn wait(&self, arguments: &[&str], limit: Duration, wanted: impl Fn(&str) -> bool) -> Result<String> {
        let mut last = String::new();
        let seen = wait::patiently(limit, || {
            last = self.run(arguments).unwrap_or_else(|error| error.to_string());
            wanted(&last).then(|| last.clone())
        });
        seen.ok_or_else(|| {
            let command = format!("kubectl {}", arguments.join(" "));
            let output = format!("{last}\n{}", self.circumstances());
            Error::Command { command, status: format!("not as wanted within {limit:?}"), output }
        })
    }

    /// Nodes, pods and the last events of all namespaces.
    fn circumstances(&self) -> String {
        let list = |arguments: &[&str]| self.run(arguments).unwrap_or_else(|error| error.to_string());
        let nodes_and_pods = list(&["get", "nodes,pods", "--all-namespaces"]);
        let events = list(&["get", "events", "--all-namespaces", "--sort-by=.lastTimestamp"]);
        let lines: Vec<&str> = events.lines().collect();
        format!("{nodes_and_pods}\n{}", lines[lines.len().saturating_sub(LAST_EVENTS)..].join("\n"))
    }

    /// The program's path.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// A `kubectl` command to run, for example with `get --watch`.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--kubeconfig").arg(&self.kubeconfig).envs(self.cache.iter().map(|cache| (CACHE, cache)));
        command
    }
}
