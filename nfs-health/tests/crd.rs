//! The CustomResourceDefinition in `manifests/` is the one that the code declares.

use kube::CustomResourceExt as _;
use nfs_health::report::NfsReport;

#[test]
fn the_manifest_is_up_to_date() {
    let definition = serde_json::to_value(NfsReport::crd()).unwrap();
    testbed::definition::up_to_date("components/nfs-health/crd.yaml", &definition, "nfs-health").unwrap();
}
