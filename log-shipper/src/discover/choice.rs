//! Which containers are followed.

use std::collections::BTreeSet;

use crate::container::Container;

/// Which containers are followed.
#[derive(Clone, Debug, Default)]
pub struct Choice {
    /// If there are any, only these namespaces.
    pub namespaces: BTreeSet<String>,
    /// Never these.
    pub excluded_namespaces: BTreeSet<String>,
    /// The host name of this process: in a container, its pod's name or the beginning of its Docker id. Its own log is not
    /// shipped, or each line about shipping would make another.
    pub own_name: String,
}

impl Choice {
    /// Whether this one is.
    pub(super) fn takes(&self, container: &Container) -> bool {
        let own = !self.own_name.is_empty();
        if container.docker.as_ref().is_some_and(|docker| own && docker.id.starts_with(&self.own_name)) {
            return false;
        }
        container.pod.as_ref().is_none_or(|pod| {
            let wanted = self.namespaces.is_empty() || self.namespaces.contains(&pod.namespace);
            wanted && !self.excluded_namespaces.contains(&pod.namespace) && pod.name != self.own_name
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn container(namespace: &str, pod: &str) -> Container {
        Container::of_pod_folder(Path::new(&format!("/p/{namespace}_{pod}_u/c")), "0").unwrap()
    }

    #[test]
    fn namespaces_are_chosen() {
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let choice = Choice { namespaces: set(&["a", "b"]), excluded_namespaces: set(&["b"]), own_name: "me".into() };
        assert!(choice.takes(&container("a", "x")));
        assert!(!choice.takes(&container("b", "x")));
        assert!(!choice.takes(&container("c", "x")));
        assert!(Choice::default().takes(&container("c", "x")));
    }

    #[test]
    fn our_own_log_is_left_out_and_our_namespace_is_not() {
        let choice = Choice { own_name: "0123456789ab".into(), ..Choice::default() };
        assert!(!choice.takes(&container("a", "0123456789ab")));
        assert!(choice.takes(&container("a", "other")));
        let docker = |id: &str| Container::of_docker_folder(Path::new(id), None).unwrap();
        assert!(!choice.takes(&docker("0123456789abcdef")));
        assert!(choice.takes(&docker("123456789abcdef0")));
    }
}
