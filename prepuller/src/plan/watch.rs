//! Watches nodes, `NodeImages` and pods, as one stream of events. Lists are read page by page.

use std::collections::HashSet;
use std::fmt::{self, Debug};
use std::sync::Arc;

use futures_util::stream::{BoxStream, StreamExt, select_all};
use kube::core::ApiResource;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use serde::Deserialize;
use sidecar::kubernetes::explain_about;

use super::pull_pods::{LABEL, PullPodObject, SeenPull};
use super::seen::{self, NodeObject, OrdersObject, PodObject, SeenNode, SeenOrders, SeenPod};
use crate::overview::Mode;

/// Objects in one page of a list, which is parsed at once.
const PAGE: u32 = 200;

/// An event of a watch.
#[derive(Debug)]
pub(super) enum Seen {
    /// A node, or its deletion.
    Node(Arc<str>, Option<SeenNode>),
    /// A `NodeImages`, or its deletion.
    Orders(Arc<str>, Option<Box<SeenOrders>>),
    /// A pod that waits or runs on a node, or its end.
    Pod(Arc<str>, Option<SeenPod>),
    /// A pull pod, or its end.
    Pull(Arc<str>, Option<SeenPull>),
    /// A list is complete: objects that are not in it are gone.
    Listed(Kind, HashSet<Arc<str>>),
    /// A watch was interrupted, and starts again.
    Broken(Kind, String),
}

/// A kind of watched objects.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(super) enum Kind {
    Nodes,
    NodeImages,
    Pods,
    PullPods,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nodes => "Nodes",
            Self::NodeImages => "NodeImages",
            Self::Pods => "Pods",
            Self::PullPods => "Pull pods",
        })
    }
}

/// All watches, and their kinds: pods only if `LAB_NAMESPACE` is set, pull pods only in that mode.
pub(super) fn all(
    client: &Client,
    agents: &str,
    labs: Option<&str>,
    mode: Mode,
) -> (BoxStream<'static, Seen>, HashSet<Kind>) {
    let nodes: Api<NodeObject> = Api::all_with(client.clone(), &seen::nodes());
    let orders: Api<OrdersObject> = Api::namespaced_with(client.clone(), agents, &seen::node_images());
    let mut kinds = HashSet::from([Kind::Nodes, Kind::NodeImages]);
    let mut streams = vec![
        watch(nodes, seen::nodes(), watcher::Config::default(), Kind::Nodes, |name, node| {
            Seen::Node(name, node.map(SeenNode::new))
        }),
        watch(orders, seen::node_images(), watcher::Config::default(), Kind::NodeImages, |name, orders| {
            Seen::Orders(name, orders.map(|orders| Box::new(SeenOrders::new(orders))))
        }),
    ];
    if let Some(namespace) = labs {
        let pods: Api<PodObject> = Api::namespaced_with(client.clone(), namespace, &seen::pods());
        // This includes running pods: a watch of waiting pods alone would not show when they start.
        let alive = watcher::Config::default().fields("status.phase!=Succeeded,status.phase!=Failed");
        let pod = |name, pod: Option<PodObject>| Seen::Pod(name, pod.and_then(SeenPod::new));
        streams.push(watch(pods, seen::pods(), alive, Kind::Pods, pod));
        kinds.insert(Kind::Pods);
    }
    if mode == Mode::Pods {
        let pulls: Api<PullPodObject> = Api::namespaced_with(client.clone(), agents, &seen::pods());
        let labeled = watcher::Config::default().labels(LABEL);
        let pull = |name, pull: Option<PullPodObject>| Seen::Pull(name, pull.and_then(SeenPull::new));
        streams.push(watch(pulls, seen::pods(), labeled, Kind::PullPods, pull));
        kinds.insert(Kind::PullPods);
    }
    (select_all(streams).boxed(), kinds)
}

fn watch<K>(
    api: Api<K>,
    resource: ApiResource,
    config: watcher::Config,
    kind: Kind,
    seen: fn(Arc<str>, Option<K>) -> Seen,
) -> BoxStream<'static, Seen>
where
    K: Resource<DynamicType = ApiResource> + Clone + Debug + for<'de> Deserialize<'de> + Send + 'static,
{
    let mut listed = HashSet::new();
    let name = |object: &K| Arc::<str>::from(object.name_any());
    let take = move |event: Result<Event<K>, watcher::Error>| match event {
        Ok(Event::Init) => {
            listed.clear();
            None
        }
        Ok(Event::InitApply(object)) => {
            let name = name(&object);
            listed.insert(name.clone());
            Some(seen(name, Some(object)))
        }
        Ok(Event::InitDone) => Some(Seen::Listed(kind, std::mem::take(&mut listed))),
        Ok(Event::Apply(object)) => Some(seen(name(&object), Some(object))),
        Ok(Event::Delete(object)) => Some(seen(name(&object), None)),
        Err(error) => Some(Seen::Broken(kind, explain_about::<K>(&resource, &error))),
    };
    let config = config.page_size(PAGE);
    watcher(api, config).default_backoff().map(take).filter_map(|seen| async { seen }).boxed()
}
