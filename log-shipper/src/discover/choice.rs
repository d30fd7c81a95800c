//! Which containers are followed.

use std::collections::BTreeSet;

use crate::container::Container;
use crate::own::Own;

/// Which containers are followed.
#[derive(Clone, Debug, Default)]
pub struct Choice {
    /// If there are any, only these namespaces.
    pub namespaces: BTreeSet<String>,
    /// Never these.
    pub excluded_namespaces: BTreeSet<String>,
    /// The container of this process, which is never followed.
    pub own: Own,
}

impl Choice {
    /// Whether this one is.
    pub(super) fn takes(&self, container: &Container) -> bool {
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
        let choice = Choice { namespaces: set(&["a", "b"]), excluded_namespaces: set(&["b"]), own: Own::default() };
        assert!(choice.takes(&container("a", "x")));
        assert!(!choice.takes(&container("b", "x")));
        assert!(!choice.takes(&container("c", "x")));
        assert!(Choice::default().takes(&container("c", "x")));
    }

    #[test]
    fn our_own_log_is_left_out_and_one_that_is_called_alike_is_not() {
        let id = "0123456789abcdef".repeat(4);
        let own = Own { pod: Some("uid".into()), containers: vec![id.clone()] };
        let choice = Choice { own, ..Choice::default() };
        assert!(!choice.takes(&container("a", "uid")));
        assert!(choice.takes(&container("a", "uid2")));
        let docker = |id: &str| Container::of_docker_folder(Path::new(id), None).unwrap();
        assert!(!choice.takes(&docker(&id)));
        assert!(choice.takes(&docker(&format!("{}0", &id[..63]))));
    }
}
