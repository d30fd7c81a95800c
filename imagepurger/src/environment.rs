//! What a purger depends on besides the runtime: the catalogue's source, the node's pods, and where Events go.

use k8s_openapi::api::core::v1::ObjectReference;
use sidecar::kubernetes::{ClientError, EventRecorder, EventType};

use crate::catalogue::CatalogueSource;
use crate::files::Files;
use crate::pods::NodePods;
use crate::settings::{Cluster, Mode};

/// The sources of the catalogue and of the pods, and the recorder of Events.
pub struct PurgerEnvironment {
    /// The source of the catalogue.
    pub catalogue: CatalogueSource,
    /// The node's pods, if the node is part of a cluster.
    pub pods: Option<NodePods>,
    /// Records Events, if this process runs in a pod.
    pub(crate) events: Option<PodEvents>,
}

/// Records Events about the daemon's own pod.
pub(crate) struct PodEvents {
    pub(crate) recorder: EventRecorder,
    pod: ObjectReference,
}

impl PurgerEnvironment {
    /// Builds the environment from the settings. Sends nothing to the API server yet.
    ///
    /// # Errors
    ///
    /// If the cluster's client cannot be configured.
    pub async fn of(mode: &Mode) -> Result<Self, ClientError> {
        let file = |path: &std::path::PathBuf| CatalogueSource::File { path: path.clone(), files: Files::new() };
        let (cluster, catalogue_file) = match mode {
            Mode::Host { catalogue_file } => {
                return Ok(Self { catalogue: file(catalogue_file), pods: None, events: None });
            }
            Mode::Node { cluster, catalogue_file } => (cluster, catalogue_file),
        };
        let client = sidecar::kubernetes::client().await?;
        let catalogue = match catalogue_file {
            Some(path) => file(path),
            None => CatalogueSource::in_cluster(&client, &cluster.catalogue_namespace),
        };
        let pods = Some(NodePods::new(&client, &cluster.node));
        Ok(Self { catalogue, pods, events: PodEvents::new(&client, cluster) })
    }
}

impl PodEvents {
    fn new(client: &kube::Client, cluster: &Cluster) -> Option<Self> {
        let (namespace, name) = cluster.pod.clone()?;
        let pod = ObjectReference {
            api_version: Some("v1".into()),
            kind: Some("Pod".into()),
            namespace: Some(namespace),
            name: Some(name),
            uid: cluster.pod_uid.clone(),
            ..ObjectReference::default()
        };
        Some(Self { recorder: EventRecorder::new(client.clone(), NAME, &cluster.node), pod })
    }

    pub(crate) fn raise(&self, type_: EventType, reason: &str, note: &str) {
        self.recorder.raise(&self.pod, type_, reason, "Purge", note);
    }
}

const NAME: &str = env!("CARGO_PKG_NAME");
