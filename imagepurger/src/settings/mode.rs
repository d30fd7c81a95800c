//! Parses where the catalogue and the pods come from.

use std::path::PathBuf;

use clap::Args;
use sidecar::settings::Problems;

#[derive(Args, Debug)]
#[command(next_help_heading = "Catalogue and cluster")]
pub(super) struct ModeArguments {
    /// Read the catalogue from this file instead of the ConfigMap lab-images
    #[arg(long, env = "CATALOGUE_FILE", value_name = "FILE")]
    catalogue_file: Option<PathBuf>,
    /// Namespace of the ConfigMap and the Lease lab-images
    #[arg(long, env = "CATALOGUE_NAMESPACE", value_name = "NAMESPACE", default_value = "labhands")]
    catalogue_namespace: String,
    /// Remove nothing if the catalogue's Lease or file is older than this
    #[arg(long, env = "CATALOGUE_MAX_AGE", value_name = "DURATION", default_value = "6h")]
    pub(super) catalogue_max_age: String,
    /// This node's name in its cluster; leave it unset outside of a cluster
    #[arg(long, env = "NODE_NAME", value_name = "NAME")]
    node_name: Option<String>,
    /// This pod's name, for Events
    #[arg(long, env = "POD_NAME", value_name = "NAME")]
    pod_name: Option<String>,
    /// This pod's namespace, for Events
    #[arg(long, env = "POD_NAMESPACE", value_name = "NAMESPACE")]
    pod_namespace: Option<String>,
    /// This pod's UID, so that kubectl describe shows its Events
    #[arg(long, env = "POD_UID", value_name = "UID")]
    pod_uid: Option<String>,
    /// Kubernetes sets it in every pod
    #[arg(long, env = "KUBERNETES_SERVICE_HOST", hide = true)]
    kubernetes_service_host: Option<String>,
}

/// The kind of machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// A machine outside of a cluster.
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

/// This node and its cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// The node's name.
    pub node: String,
    /// The namespace of the ConfigMap and the Lease.
    pub catalogue_namespace: String,
    /// Namespace and name of this pod, if it is one.
    pub pod: Option<(String, String)>,
    /// The pod's UID, if it is set.
    pub pod_uid: Option<String>,
}

impl ModeArguments {
    pub(super) fn settings(&self, problems: &mut Problems) -> Option<Mode> {
        let Some(node) = self.node_name.clone() else {
            if self.kubernetes_service_host.is_some() {
                let reason = "must be set in a cluster, so that pods that wait on this node are seen";
                problems.add("NODE_NAME", reason, "node-1");
                return None;
            }
            let Some(catalogue_file) = self.catalogue_file.clone() else {
                let reason = "must be set outside of a cluster (inside of one, NODE_NAME)";
                problems.add("CATALOGUE_FILE", reason, "/var/lib/labhands/catalogue.json");
                return None;
            };
            return Some(Mode::Host { catalogue_file });
        };
        // Both become part of the API server's paths and selectors.
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
        Some(Mode::Node { cluster, catalogue_file: self.catalogue_file.clone() })
    }
}
