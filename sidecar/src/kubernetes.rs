//! Kubernetes: a client for the cluster that this process belongs to, and Events that do not repeat themselves.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use thiserror::Error;

/// Why there is no client.
#[derive(Debug, Error)]
pub enum ClientError {
    /// Neither a kubeconfig nor a pod's service account was found, or it is broken.
    #[error("no way to the Kubernetes API: {0}; set KUBECONFIG, or run in a pod with a service account token")]
    NoConfiguration(#[from] kube::config::InferConfigError),
    /// The configuration can't be used.
    #[error("the configuration for the Kubernetes API can't be used: {0}")]
    Unusable(#[from] kube::Error),
}

/// A client by kubeconfig (`KUBECONFIG`, `~/.kube/config`) or by the pod's service account.
///
/// # Errors
///
/// [`ClientError`], without a word sent to the API server.
pub async fn client() -> Result<kube::Client, ClientError> {
    Ok(kube::Client::try_from(kube::Config::infer().await?)?)
}

/// The namespace of this pod, or of the kubeconfig's current context.
///
/// # Errors
///
/// [`ClientError::NoConfiguration`].
pub async fn own_namespace() -> Result<String, ClientError> {
    Ok(kube::Config::infer().await?.default_namespace)
}

/// Raises Events through `events.k8s.io`; the same one again within minutes adds to its count.
#[derive(Clone)]
pub struct Events(Recorder);

/// How grave an Event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gravity {
    /// Good to know.
    Normal,
    /// Somebody should look.
    Warning,
}

impl Events {
    /// Events reported by `controller` (the Deployment's or DaemonSet's name) on `instance` (the pod or node).
    pub fn new(client: kube::Client, controller: &str, instance: &str) -> Self {
        let reporter = Reporter { controller: controller.to_owned(), instance: Some(instance.to_owned()) };
        Self(Recorder::new(client, reporter))
    }

    /// Raises an Event about `regarding`. An Event that can't be raised is logged: it never stops the work that it tells of.
    pub async fn raise(&self, regarding: &ObjectReference, gravity: Gravity, reason: &str, action: &str, note: &str) {
        // The API takes 1,024 bytes of note.
        let note = note[..note.floor_char_boundary(1024)].to_owned();
        let event = Event {
            type_: match gravity {
                Gravity::Normal => EventType::Normal,
                Gravity::Warning => EventType::Warning,
            },
            reason: reason.to_owned(),
            note: Some(note),
            action: action.to_owned(),
            secondary: None,
        };
        if let Err(error) = self.0.publish(&event, regarding).await {
            tracing::warn!(%error, reason, "an Event could not be raised");
        }
    }
}

/// What Events about a node refer to. Its uid is its name, as kubelet has it, so that `kubectl describe node` finds them.
pub fn node_reference(name: &str) -> ObjectReference {
    ObjectReference {
        kind: Some("Node".to_owned()),
        name: Some(name.to_owned()),
        uid: Some(name.to_owned()),
        ..ObjectReference::default()
    }
}
