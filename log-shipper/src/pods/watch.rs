//! Watches the pods on this node, and keeps only the metadata that events contain.

use futures_util::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client};
use sidecar::kubernetes::explain;

use super::Pods;
use super::info::{PodInfo, folder_uid};
use crate::metrics::Metrics;

/// Keeps `pods` up to date, forever. A broken watch is retried; meanwhile the known metadata stays.
pub async fn watch(client: Client, node: &str, pods: &Pods, metrics: &Metrics) {
    let config = watcher::Config::default().fields(&format!("spec.nodeName={node}"));
    let mut events = watcher(Api::<Pod>::all(client), config).default_backoff().boxed();
    let mut listed = Vec::new();
    let mut broken = false;
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => {
                // The watcher begins again with this event before it asks the API server.
                if !matches!(event, Event::Init) && std::mem::take(&mut broken) {
                    tracing::info!("watching the pods of this node again");
                }
                take(event, &mut listed, pods);
            }
            Err(error) => {
                metrics.pod_watch_errors.inc();
                if !std::mem::replace(&mut broken, true) {
                    tracing::warn!(
                        error = explain(&error),
                        "the pods of this node can't be watched; events are shipped without pod labels"
                    );
                }
            }
        }
    }
}

fn take(event: Event<Pod>, listed: &mut Vec<String>, pods: &Pods) {
    match event {
        Event::Init => listed.clear(),
        Event::InitApply(pod) => {
            listed.extend(folder_uid(&pod));
            apply(&pod, pods);
        }
        Event::InitDone => pods.keep_only(&std::mem::take(listed)),
        Event::Apply(pod) => apply(&pod, pods),
        Event::Delete(pod) => {
            if let Some(uid) = folder_uid(&pod) {
                pods.delete(uid);
            }
        }
    }
}

fn apply(pod: &Pod, pods: &Pods) {
    if let Some(uid) = folder_uid(pod) {
        pods.apply(uid, PodInfo::of(pod, pods.labels()));
    }
}
