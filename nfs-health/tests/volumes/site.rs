//! The cluster with the file server, `nfs-health volumes` and fs-keepalive, and its messages.

use std::path::{Path, PathBuf};
use std::process::Command;

use testbed::cluster::{Cluster, Install, Kubectl};
use testbed::command;
use testbed::folder::Folder;
use testbed::images::Image;
use testbed::wait::LIMIT;

use super::{PROGRAM, SERVER};

/// The operator's Service, recreated with an address.
const SERVICE: &str = "
apiVersion: v1
kind: Service
metadata: {name: NAME, namespace: NAMESPACE}
spec:
  clusterIP: ADDRESS
  selector: {app.kubernetes.io/name: APP}
  ports:
  - {name: nfs, port: 2049, targetPort: nfs}
  - {name: mountd, port: 20048, targetPort: mountd}
";

pub(crate) struct Site {
    pub(crate) cluster: Cluster,
    pub(crate) kubectl: Kubectl,
    pub(crate) disk: Folder,
}

impl Site {
    pub(crate) fn start() -> Self {
        let cluster = Cluster::start(2).unwrap();
        let kubectl = cluster.kubectl();
        let disk = Folder::new("disk").unwrap();
        Image::busybox().unwrap().push(cluster.registry(), "busybox", "1").unwrap();
        kubectl.run(&["create", "namespace", "jupyter"]).unwrap();
        cluster.add_disk("disk", SERVER, "fileserver", disk.path()).unwrap();
        cluster.mount_nfs("/home", &disk.join("home")).unwrap();
        let keepalive = fs_keepalive();
        cluster
            .install(&Install {
                overlay: "fileserver",
                images: &["fileserver"],
                binaries: Path::new(PROGRAM).parent(),
                programs: &[PROGRAM, keepalive.to_str().unwrap()],
                settings: &[("VOLUME_SIZE", "10Gi"), ("KEEPALIVE_INTERVAL", "5s")],
                ..Install::default()
            })
            .unwrap();
        Self { cluster, kubectl, disk }
    }

    pub(crate) fn get(&self, namespace: &str, what: &str, path: &str) -> String {
        self.kubectl.run(&["-n", namespace, "get", what, "-o", &format!("jsonpath={path}")]).unwrap_or_default()
    }

    #[track_caller]
    pub(crate) fn until(&self, namespace: &str, what: &str, path: &str, wanted: impl Fn(&str) -> bool) -> String {
        let path = format!("jsonpath={path}");
        self.kubectl.wait(&["-n", namespace, "get", what, "-o", &path], LIMIT, wanted).unwrap()
    }

    pub(crate) fn address(&self, service: &str) -> Option<String> {
        Some(self.get(SERVER, &format!("service/{service}"), "{.spec.clusterIP}")).filter(|address| !address.is_empty())
    }

    pub(crate) fn make_service(&self, namespace: &str, name: &str, address: &str, app: &str) {
        let service = SERVICE.replace("NAMESPACE", namespace).replace("NAME", name).replace("ADDRESS", address);
        self.kubectl.apply(&service.replace("APP", app)).unwrap();
    }

    /// The file, as a client in user space reads it through kube-proxy.
    pub(crate) fn read(&self, address: &str, path: &str) -> Option<String> {
        let url = format!("nfs://{address}/home/{path}?version=3&nfsport=2049&mountport=20048");
        command::run(Command::new("timeout").args(["10", "nfs-cat", &url])).ok()
    }

    #[track_caller]
    pub(crate) fn until_read(&self, address: &str, path: &str, content: &str) {
        let read = testbed::wait::patiently(LIMIT, || self.read(address, path).filter(|read| read.contains(content)));
        assert!(read.is_some(), "{address}: {path} has no {content:?}");
    }

    /// Runs `nfs-health volumes` once on this machine; returns its log.
    pub(crate) fn volumes(&self, settings: &[(&str, &str)]) -> String {
        let (all_is_bound, printed) = self.try_volumes(settings);
        assert!(all_is_bound, "{printed}");
        printed
    }

    pub(crate) fn try_volumes(&self, settings: &[(&str, &str)]) -> (bool, String) {
        let mut program = Command::new(PROGRAM);
        program.arg("volumes").env_clear().env("KUBECONFIG", self.cluster.kubeconfig());
        program.env("NFS_SERVICE", "labhands-fileserver/fileserver").envs(settings.iter().copied());
        let output = program.output().unwrap();
        let printed = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        (output.status.success(), printed)
    }
}

/// The other daemon's program: tests of the whole workspace have built it already.
fn fs_keepalive() -> PathBuf {
    let program = Path::new(PROGRAM).with_file_name("fs-keepalive");
    if !program.exists() {
        command::run(Command::new(env!("CARGO")).args(["build", "--quiet", "--package", "fs-keepalive"])).unwrap();
    }
    program
}
