//! The Service's address: kept when the Service is recreated, and never taken from another one.

use super::SERVER;
use super::site::Site;
use testbed::wait::LIMIT;

impl Site {
    /// Returns the Service's new address.
    pub(crate) fn service_recreated_and_its_old_address_kept(&self, old: &str) -> String {
        let new = sibling(old);
        self.kubectl.run(&["-n", SERVER, "delete", "service", "fileserver"]).unwrap();
        self.make_service(SERVER, "fileserver", &new, "fileserver");
        let kept = self.until(SERVER, "service/fileserver-kept", "{.spec.clusterIP}", |address| address == old);
        assert_eq!(self.address("fileserver").unwrap(), new, "the operator's Service has changed");
        let port = r#"[{"op": "add", "path": "/spec/ports/-", "value": {"name": "portmapper", "port": 111}}]"#;
        self.kubectl.run(&["-n", SERVER, "patch", "service", "fileserver", "--type=json", "-p", port]).unwrap();
        self.until(SERVER, "service/fileserver-kept", "{.spec.ports[*].port}", |ports| ports == "2049 20048 111");
        for address in [&kept, &new] {
            self.until_read(address, "ann/notes", "from the lab");
        }
        self.until("labhands", "deployment/nfs-volumes", "{.status.readyReplicas}", |ready| ready == "1");
        assert_eq!(self.get("jupyter", "pvc/homes", "{.status.phase}"), "Bound");
        new
    }

    pub(crate) fn address_taken_by_another_service(&self, old: &str, new: &str) {
        self.kubectl.run(&["-n", SERVER, "delete", "service", "fileserver", "fileserver-kept"]).unwrap();
        self.make_service("default", "stranger", old, "web");
        self.make_service(SERVER, "fileserver", new, "fileserver");
        // An Event says what to do …
        let events = [
            "-n",
            "jupyter",
            "get",
            "events.events.k8s.io",
            "-o",
            "jsonpath={range .items[*]}{.reason}: {.note}{\"\\n\"}{end}",
        ];
        let printed = self.kubectl.wait(&events, LIMIT, |printed| printed.contains("VolumeAddressLost")).unwrap();
        assert!(printed.contains("Service default/stranger has it now") && printed.contains(old), "{printed}");
        assert!(printed.contains("kubectl -n jupyter delete pvc homes"), "{printed}");
        assert_eq!(self.get("jupyter", "pvc/homes", "{.status.phase}"), "Bound");
        // … and following it is enough: for one claim,
        self.kubectl.run(&["-n", "jupyter", "delete", "pod", "lab"]).unwrap();
        self.kubectl.run(&["-n", "jupyter", "delete", "pvc", "homes"]).unwrap();
        self.until("jupyter", "pvc/homes", "{.status.phase}", |phase| phase == "Bound");
        let volume = self.get("jupyter", "pvc/homes", "{.spec.volumeName}");
        assert_eq!(self.get("", &format!("pv/{volume}"), "{.spec.nfs.server}"), new);
        self.until_read(new, "ann/notes", "from the lab");
        // or to free the address, for the other.
        let path = "jsonpath={.spec.nfs.server}";
        let other = ["get", "pv", "labhands-fileserver-fileserver-home-labhands", "-o", path];
        assert_eq!(self.kubectl.run(&other).unwrap(), old);
        self.kubectl.run(&["-n", "default", "delete", "service", "stranger"]).unwrap();
        self.until(SERVER, "service/fileserver-kept", "{.spec.clusterIP}", |address| address == old);
        self.until("labhands", "deployment/nfs-volumes", "{.status.readyReplicas}", |ready| ready == "1");
    }

    /// The volume of the claim records the Service for which it was created.
    pub(crate) fn another_service_takes_nothing_over(&self) {
        let before = self.get(SERVER, "services", "{.items[*].metadata.name}");
        self.make_service(SERVER, "other", &sibling(&self.address("fileserver").unwrap()), "web");
        let (all_is_bound, printed) =
            self.try_volumes(&[("NFS_SERVICE", "labhands-fileserver/other"), ("VOLUME_CLAIM", "jupyter/homes")]);
        assert!(
            !all_is_bound && printed.contains("it was made for Service labhands-fileserver/fileserver"),
            "{printed}"
        );
        self.kubectl.run(&["-n", SERVER, "delete", "service", "other"]).unwrap();
        assert_eq!(self.get(SERVER, "services", "{.items[*].metadata.name}"), before);
        assert_eq!(self.get("jupyter", "pvc/homes", "{.status.phase}"), "Bound");
    }
}

/// Another address of the same range, far from those that are allocated first.
fn sibling(address: &str) -> String {
    let (network, host) = address.rsplit_once('.').unwrap();
    format!("{network}.{}", if host == "77" { 78 } else { 77 })
}
