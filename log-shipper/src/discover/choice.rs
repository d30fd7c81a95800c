//! Decides which containers are followed.

use std::collections::{BTreeMap, BTreeSet};

use crate::container::Container;
use crate::labels::LabelChoice;
use crate::own::Own;

/// Which containers are followed.
#[derive(Clone, Debug, Default)]
pub struct Choice {
    /// If not empty, only these namespaces are followed.
    pub namespaces: BTreeSet<String>,
    /// Namespaces that are never followed.
    pub excluded_namespaces: BTreeSet<String>,
    /// The labels, for containers that are not looked up in Kubernetes.
    pub labels: LabelChoice,
    /// Whether pods are looked up in Kubernetes, which provides their labels later.
    pub asks_pods: bool,
    /// The container of this process, which is never followed.
    pub own: Own,
}

impl Choice {
    /// Whether this container is followed; `labels` are Docker's.
    pub(super) fn takes(&self, container: &Container, labels: &BTreeMap<String, String>) -> bool {
        let asked = self.asks_pods && container.pod.is_some();
        if !asked && !self.labels.takes(labels) {
            return false;
        }
        let chosen = container.pod.as_ref().is_none_or(|pod| {
            let wanted = self.namespaces.is_empty() || self.namespaces.contains(&pod.namespace);
            wanted && !self.excluded_namespaces.contains(&pod.namespace)
        });
        chosen && !self.own.is(container)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn container(namespace: &str, uid: &str) -> Container {
        Container::of_pod_folder(Path::new(&format!("/p/{namespace}_pod_{uid}/c")), "0").unwrap()
    }

    #[test]
    fn namespaces_are_chosen() {
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let choice = Choice { namespaces: set(&["a", "b"]), excluded_namespaces: set(&["b"]), ..Choice::default() };
        assert!(choice.takes(&container("a", "x"), &BTreeMap::new()));
        assert!(!choice.takes(&container("b", "x"), &BTreeMap::new()));
        assert!(!choice.takes(&container("c", "x"), &BTreeMap::new()));
        assert!(Choice::default().takes(&container("c", "x"), &BTreeMap::new()));
    }

    #[test]
    fn labels_are_selected_at_once_if_kubernetes_is_not_used() {
        let labels: BTreeMap<_, _> = [("tier".to_owned(), "front".to_owned())].into();
        let excluded = LabelChoice { wanted: None, excluded: crate::labels::selector("tier=front").ok() };
        let mut choice = Choice { labels: excluded, ..Choice::default() };
        let docker = Container::of_docker_folder(Path::new("abc"), None).unwrap();
        assert!(!choice.takes(&docker, &labels));
        assert!(choice.takes(&docker, &BTreeMap::new()));
        choice.asks_pods = true;
        assert!(choice.takes(&container("a", "x"), &labels));
        assert!(!choice.takes(&docker, &labels));
    }

    #[test]
    fn our_own_log_is_left_out_and_one_with_the_same_name_is_not() {
        let id = "0123456789abcdef".repeat(4);
        let own = Own { pod: Some("uid".into()), containers: vec![id.clone()] };
        let choice = Choice { own, ..Choice::default() };
        assert!(!choice.takes(&container("a", "uid"), &BTreeMap::new()));
        assert!(choice.takes(&container("a", "uid2"), &BTreeMap::new()));
        let docker = |id: &str| Container::of_docker_folder(Path::new(id), None).unwrap();
        assert!(!choice.takes(&docker(&id), &BTreeMap::new()));
        assert!(choice.takes(&docker(&format!("{}0", &id[..63])), &BTreeMap::new()));
    }
}
