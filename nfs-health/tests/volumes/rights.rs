//! What the account of `nfs-health volumes` may do.

use testbed::http::Client;

use super::SERVER;
use super::site::Site;

impl Site {
    /// Requests that RBAC allows and the policies reject.
    pub(crate) fn its_token_changes_what_it_made_only(&self) {
        let token = self.kubectl.run(&["-n", "labhands", "create", "token", "nfs-volumes"]).unwrap();
        let authority = std::fs::read_to_string(self.cluster.folder().join("ca.crt")).unwrap();
        let client = Client::new(Some(&authority), Some(format!("Bearer {}", token.trim()))).unwrap();
        let view = ["config", "view", "--minify", "-o", "jsonpath={.clusters[0].cluster.server}"];
        let server = self.kubectl.run(&view).unwrap();
        let (volume, volumes) = (self.get("jupyter", "pvc/homes", "{.spec.volumeName}"), "/api/v1/persistentvolumes");
        let refused = |method: &str, path: &str, body: &str| {
            let kind = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
            let url = format!("{server}{path}");
            let answer = client.send(method, &url, &[("Content-Type", kind)], body.as_bytes()).unwrap();
            assert!(
                answer.text().contains("ValidatingAdmissionPolicy 'nfs-volumes-"),
                "{path}: {body}: {}",
                answer.text()
            );
        };
        let label = r#""labels":{"app.kubernetes.io/managed-by":"nfs-health"}"#;
        let size = r#""capacity":{"storage":"1Gi"},"accessModes":["ReadWriteMany"]"#;
        for spec in [
            r#""hostPath":{"path":"/"},"persistentVolumeReclaimPolicy":"Retain""#,
            r#""nfs":{"server":"10.0.0.9","path":"/"},"persistentVolumeReclaimPolicy":"Delete""#,
        ] {
            refused("POST", volumes, &format!(r#"{{"metadata":{{"name":"a",{label}}},"spec":{{{size},{spec}}}}}"#));
        }
        let plain = r#""nfs":{"server":"10.0.0.9","path":"/"},"persistentVolumeReclaimPolicy":"Retain""#;
        refused("POST", volumes, &format!(r#"{{"metadata":{{"name":"a"}},"spec":{{{size},{plain}}}}}"#));
        for (name, body) in [
            ("disk", r#"{"spec":{"persistentVolumeReclaimPolicy":"Delete"}}"#),
            ("disk", &*format!(r#"{{"metadata":{{{label}}}}}"#)),
            (&*volume, r#"{"spec":{"persistentVolumeReclaimPolicy":"Delete"}}"#),
            (&*volume, r#"{"metadata":{"finalizers":null}}"#),
            (&*volume, r#"{"metadata":{"labels":null}}"#),
        ] {
            refused("PATCH", &format!("{volumes}/{name}"), body);
        }
        refused("DELETE", &format!("{volumes}/{volume}"), "");
        refused("DELETE", &format!("{volumes}/disk"), "");
        let claim = concat!(
            r#"{"metadata":{"name":"a"},"spec":{"accessModes":["ReadWriteMany"],"volumeName":"disk","#,
            r#""resources":{"requests":{"storage":"1Gi"}},"storageClassName":""}}"#
        );
        refused("POST", "/api/v1/namespaces/jupyter/persistentvolumeclaims", claim);
        let services = format!("/api/v1/namespaces/{SERVER}/services");
        for body in [
            r#"{"metadata":{"name":"a"},"spec":{"ports":[{"port":1}]}}"#,
            &*format!(r#"{{"metadata":{{"name":"a",{label}}},"spec":{{"type":"NodePort","ports":[{{"port":1}}]}}}}"#),
        ] {
            refused("POST", &services, body);
        }
        let own = self.kubectl.run(&["-n", SERVER, "get", "service", "fileserver", "-o", "json"]).unwrap();
        refused("PUT", &format!("{services}/fileserver"), &own.replace(r#""port": 111"#, r#""port": 112"#));
    }
}
