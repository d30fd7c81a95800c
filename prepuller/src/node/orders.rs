//! Where orders come from: the node's own object, and a file with the last orders for when the API server is down.

use std::path::{Path, PathBuf};
use std::pin::pin;

use futures_util::StreamExt;
use kube::Api;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::watch_object;
use sidecar::kubernetes::explain_about;
use sidecar::readiness::{Health, Latch};
use tokio::sync::watch;

use super::metrics::Counters;
use crate::node_images::NodeImages;
use crate::puller::Orders;

/// The fields of the object that reports need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Object {
    /// The UID. Another object of the same name has another UID.
    pub(super) uid: String,
    /// The generation of its orders.
    pub(super) generation: i64,
}

/// The saved orders, if there are any.
pub(super) fn kept(file: &Path) -> Option<Orders> {
    let text = match std::fs::read(file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
        Err(error) => {
            tracing::warn!(file = %file.display(), %error, "cannot read the last orders");
            return None;
        }
    };
    let orders = serde_json::from_slice(&text);
    orders
        .inspect_err(|error| tracing::warn!(file = %file.display(), %error, "the file with the last orders is damaged"))
        .ok()
}

/// Receives orders from the API server.
pub(super) struct OrderWatcher {
    latch: Latch,
    /// Whether any orders are known, received or saved.
    has_orders: bool,
    counters: Counters,
    file: PathBuf,
}

impl OrderWatcher {
    /// Ready at once if orders are saved, because they can be carried out without the API server.
    pub(super) fn new(health: &Health, counters: Counters, file: PathBuf, has_orders: bool) -> Self {
        let latch = health.latch("orders");
        if has_orders {
            latch.ready();
        } else {
            latch.not_ready("no answer from the API server yet, and no saved orders");
        }
        Self { latch, has_orders, counters, file }
    }

    /// Watches the object named like the node, forever.
    pub(super) async fn follow(
        self,
        api: Api<NodeImages>,
        node: &str,
        orders: &watch::Sender<Orders>,
        object: &watch::Sender<Option<Object>>,
    ) {
        let mut seen = pin!(watch_object(api, node).default_backoff());
        let mut has_orders = self.has_orders;
        while let Some(seen) = seen.next().await {
            match seen {
                Ok(found) => {
                    self.latch.ready();
                    has_orders = true;
                    self.take(found, orders, object);
                }
                Err(error) => {
                    self.counters.api_failed("watch");
                    let error = explain_about::<NodeImages>(&(), &error);
                    if !has_orders {
                        self.latch.not_ready(format!(
                            "no orders are known, and the API server does not provide them: {error}"
                        ));
                    }
                    tracing::warn!(
                        error,
                        "cannot read orders from the API server; continuing with the last known orders"
                    );
                }
            }
        }
    }

    fn take(&self, found: Option<NodeImages>, orders: &watch::Sender<Orders>, object: &watch::Sender<Option<Object>>) {
        let (now, ordered) = found.map_or((None, Orders::default()), |found| {
            let generation = found.metadata.generation.unwrap_or(0);
            let uid = found.metadata.uid.unwrap_or_default();
            (Some(Object { uid, generation }), Orders { generation, orders: found.spec.orders })
        });
        // The status that this agent writes comes back here too.
        let changed = orders.send_if_modified(|orders| {
            let changed = *orders != ordered;
            orders.clone_from(&ordered);
            changed
        });
        if changed {
            tracing::info!(generation = ordered.generation, images = ordered.orders.len(), "received new orders");
            self.keep(&ordered);
        }
        object.send_if_modified(|object| std::mem::replace(object, now.clone()) != now);
    }

    fn keep(&self, orders: &Orders) {
        let written = serde_json::to_vec(orders).map_err(std::io::Error::from).and_then(|text| {
            std::fs::create_dir_all(self.file.parent().unwrap_or(Path::new(".")))?;
            sidecar::files::replace(&self.file, &text)
        });
        if let Err(error) = written {
            self.counters.orders_not_kept();
            tracing::warn!(file = %self.file.display(), %error, "cannot save the orders; set STATE_DIR to a writable folder");
        }
    }
}

#[cfg(test)]
mod tests {
    use kube::core::ObjectMeta;

    use super::*;
    use crate::node_images::{NodeImagesSpec, Order};

    fn object(uid: &str, generation: i64, images: &[&str]) -> NodeImages {
        let orders = images.iter().zip(0..).map(|(image, priority)| Order {
            image: image.parse().unwrap(),
            digest: None,
            size: None,
            layers: Vec::new(),
            priority,
            gate: false,
        });
        let metadata = ObjectMeta { uid: Some(uid.into()), generation: Some(generation), ..ObjectMeta::default() };
        NodeImages {
            metadata,
            spec: NodeImagesSpec { orders: orders.collect(), ..NodeImagesSpec::default() },
            status: None,
        }
    }

    #[test]
    fn orders_are_adopted_once_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("deep/orders.json");
        assert_eq!(kept(&file), None);
        let following = OrderWatcher::new(&Health::default(), Counters::default(), file.clone(), false);
        let (orders, mut ordered) = watch::channel(Orders::default());
        let (known, mut objects) = watch::channel(None);
        let mut take = |found: Option<NodeImages>| {
            following.take(found, &orders, &known);
            let changed = (ordered.has_changed().unwrap(), objects.has_changed().unwrap());
            ordered.mark_unchanged();
            objects.mark_unchanged();
            changed
        };
        assert_eq!(take(Some(object("a", 1, &["r.example.org/lab:w_1"]))), (true, true));
        // The agent's own status comes back.
        assert_eq!(take(Some(object("a", 1, &["r.example.org/lab:w_1"]))), (false, false));
        assert_eq!(take(Some(object("a", 2, &["r.example.org/lab:w_2"]))), (true, true));
        // Deleted and recreated: the same generation, other orders.
        assert_eq!(take(Some(object("b", 2, &["r.example.org/lab:w_3"]))), (true, true));
        assert_eq!(kept(&file).map(|kept| kept.orders), Some(orders.borrow().orders.clone()));
        assert_eq!(take(None), (true, true));
        assert_eq!(kept(&file), Some(Orders::default()));
    }

    #[test]
    fn damaged_orders_are_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("orders.json");
        std::fs::write(&file, "{\"generation\": 1").unwrap();
        assert_eq!(kept(&file), None);
    }
}
