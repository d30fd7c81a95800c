//! What is left of our objects after they were deleted.

use std::collections::BTreeSet;

use testbed::cluster::Kubectl;
use testbed::wait::LIMIT;

/// The kinds that are gone after everything is deleted.
pub(crate) const KINDS: [&str; 13] = [
    "deployments",
    "daemonsets",
    "statefulsets",
    "services",
    "secrets",
    "configmaps",
    "networkpolicies",
    "serviceaccounts",
    "clusterroles",
    "clusterrolebindings",
    "roles",
    "priorityclasses",
    "validatingadmissionpolicies",
];

/// Waits until only these objects of ours of this kind are left: some are deleted a moment after the answer.
pub(crate) fn are_left(kubectl: &Kubectl, kind: &str, wanted: BTreeSet<String>) {
    let are = || (names(kubectl, kind) == wanted).then_some(());
    let seen = testbed::wait::patiently(LIMIT, are);
    seen.unwrap_or_else(|| panic!("of the {kind} these are left: {:?}", names(kubectl, kind)));
}

/// The names of all objects of ours of this kind.
pub(crate) fn names(kubectl: &Kubectl, kind: &str) -> BTreeSet<String> {
    let selector = "app.kubernetes.io/part-of=labhands";
    let printed =
        kubectl.run(&["get", kind, "-A", "-l", selector, "-o", "jsonpath={.items[*].metadata.name}"]).unwrap();
    printed.split_whitespace().map(str::to_owned).collect()
}
