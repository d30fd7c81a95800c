//! When to look again: something happened to the Service, its neighbors, a volume or a claim, or enough time has passed.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::select_all;
use futures_util::{Stream, StreamExt};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Service};
use kube::core::PartialObjectMeta;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Config, watcher};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use sidecar::kubernetes::explain;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::objects::MANAGED_BY;
use super::wanted::Wanted;

/// Watches until it is dropped. Many changes at once count as one.
#[derive(Debug)]
pub struct Changes {
    happened: Arc<Notify>,
    watching: JoinHandle<()>,
}

type Happened = Pin<Box<dyn Stream<Item = Result<(), watcher::Error>> + Send>>;

impl Changes {
    /// Watches everything that concerns `wanted`.
    pub fn watch(client: &Client, wanted: &[Wanted]) -> Self {
        let (label, value) = MANAGED_BY;
        let ours = Config::default().labels(&format!("{label}={value}"));
        let volumes: Api<PartialObjectMeta<PersistentVolume>> = Api::all(client.clone());
        let mut streams: Vec<Happened> = vec![watch(volumes, ours)];
        if let Some(wanted) = wanted.first() {
            let services: Api<PartialObjectMeta<Service>> = Api::namespaced(client.clone(), &wanted.service.namespace);
            streams.push(watch(services, Config::default()));
        }
        for Wanted { claim, .. } in wanted {
            let claims = Api::namespaced(client.clone(), &claim.namespace);
            streams.push(watch::<PersistentVolumeClaim>(
                claims,
                Config::default().fields(&format!("metadata.name={}", claim.name)),
            ));
        }
        let happened = Arc::new(Notify::new());
        let changed = happened.clone();
        let watching = tokio::spawn(async move {
            let mut streams = select_all(streams);
            while let Some(change) = streams.next().await {
                match change {
                    Ok(()) => changed.notify_one(),
                    Err(error) => tracing::warn!(error = explain(&error), "a watch ended; starting it again"),
                }
            }
        });
        Self { happened, watching }
    }

    /// Waits for a change since the last call, and no longer than `longest`.
    pub async fn next(&self, longest: Duration) {
        // Either way it is time to look.
        let _ = tokio::time::timeout(longest, self.happened.notified()).await;
    }
}

impl Drop for Changes {
    fn drop(&mut self) {
        self.watching.abort();
    }
}

/// Fetches only metadata: it is enough to know that something changed.
fn watch<K>(api: Api<PartialObjectMeta<K>>, config: Config) -> Happened
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug + Send + 'static,
{
    watcher(api, config).default_backoff().map(|event| event.map(drop)).boxed()
}
