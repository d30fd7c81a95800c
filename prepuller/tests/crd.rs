//! The CustomResourceDefinition in `manifests/` is the one that the code declares.

use kube::CustomResourceExt as _;
use prepuller::node_images::NodeImages;

#[test]
fn the_manifest_is_up_to_date() {
    let definition = serde_json::to_value(NodeImages::crd()).unwrap();
    testbed::definition::up_to_date("components/prepuller/crd.yaml", &definition, "prepuller").unwrap();
}
