//! The judge's requests, counted at a scripted API server: it reads the cluster with one list and one watch of each
//! kind, however many rounds it makes and however many servers there are.

use serde_json::json;
use testbed::daemon::Daemon;
use testbed::ganesha::{Ganesha, Setup};
use testbed::scripted_api::ScriptedApi;
use testbed::wait::{self, LIMIT};

/// The number of rounds of each server to wait for; the judge evaluates the cluster as often.
const ROUNDS: f64 = 6.0;

const VOLUMES: &str = "/api/v1/persistentvolumes";
const SERVICES: &str = "/api/v1/services";
const SLICES: &str = "/apis/discovery.k8s.io/v1/endpointslices";

/// The address of the Services, at which nothing listens.
const PORT: u16 = 2051;

/// A Service that leads to a pod, and a volume on its address.
fn put_server(api: &ScriptedApi, name: &str, address: &str, pod: &str) {
    let metadata = json!({"namespace": "labs"});
    let spec = json!({"clusterIP": address, "clusterIPs": [address], "ports": [{"name": "nfs", "port": PORT}]});
    api.put(&format!("{SERVICES}/{name}"), json!({"metadata": metadata, "spec": spec}));
    let metadata = json!({"namespace": "labs", "labels": {"kubernetes.io/service-name": name}});
    let (endpoints, ports) = (json!([{"addresses": [pod]}]), json!([{"name": "nfs", "port": 2049}]));
    let slice = json!({"metadata": metadata, "addressType": "IPv4", "ports": ports, "endpoints": endpoints});
    api.put(&format!("{SLICES}/{name}"), slice);
    let spec = json!({"nfs": {"server": address, "path": "/home"}, "mountOptions": [format!("port={PORT}")]});
    api.put(&format!("{VOLUMES}/{name}"), json!({"spec": spec}));
}

#[test]
fn rounds_of_the_judge_list_nothing_again() {
    let ganesha = Ganesha::start(Setup::default()).unwrap();
    let api = ScriptedApi::start().unwrap();
    let addresses = ganesha.more_addresses(3).unwrap();
    for (number, address) in addresses.iter().enumerate() {
        put_server(&api, &format!("files-{number}"), &address.to_string(), &ganesha.address().to_string());
    }
    let kubeconfig = api.kubeconfig().display().to_string();
    let settings =
        [("KUBECONFIG", kubeconfig.as_str()), ("NFS_INTERVAL", "1s"), ("NFS_REPORT_NAMESPACE", "labhands-node")];
    let judge = Daemon::start(env!("CARGO_BIN_EXE_nfs-health"), &["judge"], &settings).unwrap();
    for address in addresses {
        let broken = format!(
            "labhands_nfs_health_rounds_total{{export=\"[{address}]:{PORT}/home\",verdict=\"service_path_broken\"}}"
        );
        let rounds = || judge.metric(&broken).filter(|rounds| *rounds >= ROUNDS);
        wait::patiently(LIMIT, rounds).unwrap_or_else(|| panic!("{address}\n{}", judge.log()));
    }
    for kind in [VOLUMES, SERVICES, SLICES, "/apis/labhands.dev/v1alpha1/namespaces/labhands-node/nfsreports"] {
        let requests = ["GET", "WATCH"].map(|method| api.answered(&format!("{method} {kind}")));
        assert_eq!(requests, [1, 1], "{kind}");
    }
}
