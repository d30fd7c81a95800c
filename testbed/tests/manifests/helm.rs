//! The chart on a real API server, installed by a real Helm.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};
use testbed::cluster::Cluster;
use testbed::command;
use testbed::folder::Folder;

/// An installed chart with its current values.
pub(crate) struct Release<'a> {
    cluster: &'a Cluster,
    helm: PathBuf,
    folder: Folder,
    values: Value,
}

impl<'a> Release<'a> {
    /// Installs all parts that need no controller and no operator.
    pub(crate) fn install(cluster: &'a Cluster) -> Self {
        let on = [
            "log-shipper",
            "fileserver-claim",
            "fileserver",
            "nfs-volumes",
            "fs-keepalive",
            "nfs-health",
            "nfs-health-taint",
            "hub",
            "nginx",
        ];
        let components: BTreeMap<&str, bool> = on.into_iter().map(|name| (name, true)).collect();
        let values = json!({
            "imagePrefix": format!("{}/labhands", cluster.registry_host()),
            "components": components,
            "settings": {"LAB_REPOSITORIES": "ghcr.io/university/lab", "SITE_HOST": "hub.university.edu"},
        });
        let helm = testbed::go::helm().unwrap();
        let release = Self { cluster, helm, folder: Folder::new("helm").unwrap(), values };
        release.upgrade().unwrap();
        release
    }

    /// Changes a value, such as `settings` and `DISK_HIGH`, and upgrades; a rejected change is reverted.
    pub(crate) fn change(&mut self, section: &str, name: &str, value: Value) -> testbed::Result<String> {
        let before = self.values.clone();
        self.values[section][name] = value;
        self.upgrade().inspect_err(|_| self.values = before)
    }

    pub(crate) fn upgrade(&self) -> testbed::Result<String> {
        let values = self.folder.join("values.json");
        fs::write(&values, self.values.to_string()).unwrap();
        let chart = super::repository().join("manifests/chart").display().to_string();
        self.helm(&["upgrade", "--install", "labhands", &chart, "--values", &values.display().to_string()])
    }

    pub(crate) fn uninstall(&self) {
        self.helm(&["uninstall", "labhands", "--wait", "--timeout=300s"]).unwrap();
    }

    fn helm(&self, arguments: &[&str]) -> testbed::Result<String> {
        let mut helm = Command::new(&self.helm);
        helm.envs(self.cluster.environment());
        // Helm's files on this machine are deleted with the test.
        for name in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
            helm.env(name, self.folder.join(name));
        }
        command::run(helm.args(arguments))
    }

    /// How often the pods of each workload have changed.
    pub(crate) fn generations(&self) -> BTreeMap<String, String> {
        let path = r#"jsonpath={range .items[*]}{.kind}/{.metadata.name} {.metadata.generation}{"\n"}{end}"#;
        let kinds = "deployments,daemonsets,statefulsets";
        let printed = self
            .cluster
            .kubectl()
            .run(&["get", kinds, "-A", "-l", "app.kubernetes.io/part-of=labhands", "-o", path])
            .unwrap();
        printed
            .lines()
            .filter_map(|line| line.split_once(' '))
            .map(|(name, number)| (name.to_owned(), number.to_owned()))
            .collect()
    }
}

/// The names of workloads that differ.
pub(crate) fn changed(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) -> BTreeSet<String> {
    before.keys().chain(after.keys()).filter(|name| before.get(*name) != after.get(*name)).cloned().collect()
}
