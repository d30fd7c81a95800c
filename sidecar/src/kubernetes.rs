//! Kubernetes: a client for this process's cluster whose calls all have time limits, and a recorder of Events.

mod events;
mod explain;
mod limits;

use std::time::Duration;

use thiserror::Error;

use limits::Limits;

pub use events::{EventRecorder, EventType, Trouble, node_reference};
pub use explain::{explain, explain_about, is_refused, is_unknown_kind};
pub use limits::{ANSWER_LIMIT, BODY_LIMIT, WATCH_SILENCE};

/// How long connecting to the API server may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// Why the client could not be built.
#[derive(Debug, Error)]
pub enum ClientError {
    /// Neither a kubeconfig nor a pod's service account was found, or it is broken.
    #[error(
        "no configuration for the Kubernetes API: {0}; set KUBECONFIG, or run in a pod with a service account token"
    )]
    NoConfiguration(#[from] kube::config::InferConfigError),
    /// The configuration is invalid.
    #[error("the configuration for the Kubernetes API can't be used: {0}")]
    Unusable(#[from] kube::Error),
}

/// A client configured by kubeconfig (`KUBECONFIG`, `~/.kube/config`) or by the pod's service account.
///
/// Each of its calls has time limits: an answer begins within [`ANSWER_LIMIT`] and ends within another [`BODY_LIMIT`],
/// and a watch that is silent for [`WATCH_SILENCE`] ends. Callers need no limits of their own.
///
/// # Errors
///
/// [`ClientError`]. No request is sent to the API server.
pub async fn client() -> Result<kube::Client, ClientError> {
    Ok(client_of(kube::Config::infer().await?, Limits::default())?)
}

fn client_of(mut config: kube::Config, limits: Limits) -> kube::Result<kube::Client> {
    config.connect_timeout = Some(CONNECT_LIMIT.min(limits.answer));
    Ok(kube::client::ClientBuilder::try_from(config)?.with_layer(&limits).build())
}

/// The namespace of this pod, or of the kubeconfig's current context.
///
/// # Errors
///
/// [`ClientError::NoConfiguration`].
pub async fn own_namespace() -> Result<String, ClientError> {
    Ok(kube::Config::infer().await?.default_namespace)
}
