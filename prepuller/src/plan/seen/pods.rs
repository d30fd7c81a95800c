//! Pods that wait for an image on a node.

use serde::Deserialize;

use super::{Key, PodObject};

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::plan) struct PodSpec {
    #[serde(default)]
    node_name: Option<Box<str>>,
    #[serde(default)]
    containers: Vec<Container>,
    #[serde(default)]
    init_containers: Vec<Container>,
}

#[derive(Clone, Debug, Deserialize)]
struct Container {
    #[serde(default)]
    image: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub(in crate::plan) struct PodStatus {
    #[serde(default)]
    phase: Option<Box<str>>,
}

/// A pod that waits on a node.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::plan) struct SeenPod {
    /// The node.
    pub node: Box<str>,
    /// The images that it names, by name alone.
    pub images: Vec<Key>,
}

impl SeenPod {
    /// `None` for a pod that does not wait, or not on a node.
    pub(in crate::plan) fn new(object: PodObject) -> Option<Self> {
        let waits = object.status.and_then(|status| status.phase).is_none_or(|phase| &*phase == "Pending");
        let node = object.spec.node_name.filter(|node| waits && !node.is_empty())?;
        let containers = object.spec.containers.into_iter().chain(object.spec.init_containers);
        let images = containers.filter_map(|container| Some(Key::of_name(&container.image.parse().ok()?)));
        Some(Self { node, images: images.collect() })
    }
}
