//! The file server, `nfs-health volumes` and fs-keepalive in a real cluster, from the shipped manifests: claims come from the Service,
//! homes are on the server, and a Service made anew takes nothing away.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use testbed::cluster::{Cluster, Install, Kubectl};
use testbed::command;
use testbed::folder::Folder;
use testbed::http::Client;
use testbed::images::Image;
use testbed::qemu::{BOOT_LIMIT, Qemu};

const LIMIT: Duration = Duration::from_secs(120);
const PROGRAM: &str = env!("CARGO_BIN_EXE_nfs-health");
const SERVER: &str = "labhands-fileserver";

/// The disk under the server's claim: this cluster makes none by itself.
const DISK: &str = "
apiVersion: v1
kind: PersistentVolume
metadata: {name: disk}
spec:
  capacity: {storage: 100Gi}
  accessModes: [ReadWriteOnce]
  storageClassName: ''
  claimRef: {namespace: labhands-fileserver, name: fileserver}
  hostPath: {path: FOLDER}
";

/// The namespace of the server's Service.
const SERVER_IS_HERE: &str = "patches:
- target: {labelSelector: app.kubernetes.io/component=volumes-service}
  patch: '[{\"op\": \"replace\", \"path\": \"/metadata/namespace\", \"value\": \"labhands-fileserver\"}]'
";

/// A lab with its home on the claim, beside what else uses the server, on another node than that.
const LAB: &str = "
apiVersion: v1
kind: Pod
metadata: {name: lab, namespace: jupyter}
spec:
  nodeName: node2
  terminationGracePeriodSeconds: 0
  containers:
  - name: lab
    image: IMAGE
    command: [sh, -c, 'echo from the lab >/home/ann/notes; exec sleep 3600']
    volumeMounts: [{name: homes, mountPath: /home/ann, subPath: ann}]
  volumes: [{name: homes, persistentVolumeClaim: {claimName: homes}}]
";

/// The operator's Service, made anew with an address.
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

#[test]
fn volumes_come_from_the_service_and_stay_when_it_is_made_anew() {
    let site = Site::start();
    site.claims_are_bound_and_lead_to_the_server();
    site.a_home_is_on_the_server();
    site.a_kernel_writes_and_reads_in_both_versions();
    site.a_second_run_changes_nothing();
    site.the_server_ends_in_order_and_is_the_same_after_it();
    let old = site.address("fileserver").unwrap();
    let new = site.service_made_anew_and_its_old_address_kept(&old);
    site.address_taken_by_a_stranger(&old, &new);
    site.another_service_takes_nothing_over();
    site.volumes_by_name_for_the_csi_driver();
    site.its_token_changes_what_it_made_only();
    site.once_as_a_job();
    site.homes_stay_when_the_site_is_removed();
}

#[test]
fn bad_settings_of_the_server_are_each_named_before_it_starts() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../images/fileserver/fileserver");
    let bad = [
        ("FILESERVER_EXPORT", "home"),
        ("FILESERVER_PATH", "/a; }"),
        ("FILESERVER_STATE", "/.."),
        ("FILESERVER_MODE", "rwxrwxrwt"),
        ("FILESERVER_VERSIONS", "3,5"),
        ("FILESERVER_SQUASH", "some"),
        ("FILESERVER_READ_ONLY", "perhaps"),
        ("FILESERVER_CLIENTS", "*; }"),
        ("FILESERVER_GRACE", "soon"),
        ("FILESERVER_LEASE", "0"),
        ("FILESERVER_NAME", "a b"),
        ("FILESERVER_LOG", "LOUD"),
    ];
    let output = Command::new("sh").arg(script).envs(bad).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(64), "{said}");
    for (name, _) in bad {
        assert!(said.contains(&format!("{name}: ")), "{name}: {said}");
    }
}

struct Site {
    cluster: Cluster,
    kubectl: Kubectl,
    disk: Folder,
}

impl Site {
    fn start() -> Self {
        let cluster = Cluster::start(2).unwrap();
        let kubectl = cluster.kubectl();
        let disk = Folder::new("disk").unwrap();
        Image::busybox().unwrap().push(cluster.registry(), "busybox", "1").unwrap();
        kubectl.run(&["create", "namespace", "jupyter"]).unwrap();
        kubectl.apply(&DISK.replace("FOLDER", &disk.path().to_string_lossy())).unwrap();
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

    fn get(&self, namespace: &str, what: &str, path: &str) -> String {
        self.kubectl.run(&["-n", namespace, "get", what, "-o", &format!("jsonpath={path}")]).unwrap_or_default()
    }

    #[track_caller]
    fn until(&self, namespace: &str, what: &str, path: &str, wanted: impl Fn(&str) -> bool) -> String {
        let path = format!("jsonpath={path}");
        self.kubectl.wait(&["-n", namespace, "get", what, "-o", &path], LIMIT, wanted).unwrap()
    }

    fn address(&self, service: &str) -> Option<String> {
        Some(self.get(SERVER, &format!("service/{service}"), "{.spec.clusterIP}")).filter(|address| !address.is_empty())
    }

    fn make_service(&self, namespace: &str, name: &str, address: &str, app: &str) {
        let service = SERVICE.replace("NAMESPACE", namespace).replace("NAME", name).replace("ADDRESS", address);
        self.kubectl.apply(&service.replace("APP", app)).unwrap();
    }

    /// The file, as a client in user space reads it through kube-proxy.
    fn read(&self, address: &str, path: &str) -> Option<String> {
        let url = format!("nfs://{address}/home/{path}?version=3&nfsport=2049&mountport=20048");
        command::run(Command::new("timeout").args(["10", "nfs-cat", &url])).ok()
    }

    #[track_caller]
    fn until_read(&self, address: &str, path: &str, content: &str) {
        let read = testbed::wait::patiently(LIMIT, || self.read(address, path).filter(|read| read.contains(content)));
        assert!(read.is_some(), "{address}: {path} has no {content:?}");
    }

    fn claims_are_bound_and_lead_to_the_server(&self) {
        self.until(SERVER, "statefulset/fileserver", "{.status.readyReplicas}", |ready| ready == "1");
        self.until("labhands", "deployment/nfs-volumes", "{.status.readyReplicas}", |ready| ready == "1");
        let address = self.address("fileserver").unwrap();
        for (namespace, volume) in [
            ("jupyter", "labhands-fileserver-fileserver-home"),
            ("labhands", "labhands-fileserver-fileserver-home-labhands"),
        ] {
            let bound = format!("Bound {volume}");
            self.until(namespace, "pvc/homes", "{.status.phase} {.spec.volumeName}", |claim| claim == bound);
            let spec =
                "{.spec.nfs.server} {.spec.nfs.path} {.spec.persistentVolumeReclaimPolicy} {.spec.capacity.storage}";
            assert_eq!(self.get("", &format!("pv/{volume}"), spec), format!("{address} /home Retain 10Gi"));
        }
        self.until("labhands", "deployment/fs-keepalive", "{.status.readyReplicas}", |ready| ready == "1");
        let pod = self.get(
            "labhands",
            "pods",
            "{.items[?(@.metadata.labels.app\\.kubernetes\\.io/name=='fs-keepalive')].metadata.name}",
        );
        let node = self.get("labhands", &format!("pod/{pod}"), "{.spec.nodeName}");
        self.until_read(&address, &format!(".keepalive.d/{node}_{pod}"), &pod);
    }

    fn a_home_is_on_the_server(&self) {
        let address = self.address("fileserver").unwrap();
        let image = format!("{}/busybox:1", self.cluster.registry_host());
        self.kubectl.apply(&LAB.replace("IMAGE", &image)).unwrap();
        self.until("jupyter", "pod/lab", "{.status.phase}", |phase| phase == "Running");
        self.until_read(&address, "ann/notes", "from the lab");
        // What kubelet asked for.
        let asked = self.cluster.nodes()[1].nfs_mounts();
        let options = "nfsvers=4.2,proto=tcp,retrans=2,timeo=600";
        let has = |line: &str| {
            let all = options.split(',').chain(["hard", "noresvport"]).all(|option| line.contains(option));
            line.starts_with(&format!("{address}:/home ")) && all
        };
        assert!(asked.lines().any(has), "{asked}");
    }

    /// The kernel's own client, in a virtual machine: this machine's kernel may have none. Each version reads what the other wrote.
    fn a_kernel_writes_and_reads_in_both_versions(&self) {
        let address = self.address("fileserver").unwrap();
        let script = format!(
            "mkdir /mnt/v3 /mnt/v4 && common=hard,proto=tcp,addr={address},port=2049\n\
             mount -t nfs -o vers=3,nolock,$common,mountport=20048,mountproto=tcp {address}:/home /mnt/v3 &&\n\
             mount -t nfs4 -o vers=4.1,$common,clientaddr=10.0.2.15 {address}:/home /mnt/v4 &&\n\
             echo written by v3 >/mnt/v3/of-v3 && echo written by v4 >/mnt/v4/of-v4 && sync &&\n\
             cat /mnt/v4/of-v3 /mnt/v3/of-v4 && flock /mnt/v4/of-v4 echo held a lock &&\n\
             umount /mnt/v3 && umount /mnt/v4 && echo all is well\n"
        );
        let mut machine = Qemu::start(&[Path::new("/usr/bin/flock")], &script).unwrap();
        let ended = machine.process().wait(BOOT_LIMIT);
        let console = machine.console();
        for said in ["written by v3", "written by v4", "held a lock", "all is well"] {
            assert!(console.contains(said), "no {said:?}: {ended:?}\n{console}");
        }
        self.until_read(&address, "of-v4", "written by v4");
    }

    fn the_server_ends_in_order_and_is_the_same_after_it(&self) {
        self.kubectl.run(&["-n", SERVER, "exec", "fileserver-0", "--", "sh", "-c", "kill -TERM 1"]).unwrap();
        let ended = "{.status.containerStatuses[0].lastState.terminated.exitCode}";
        assert_eq!(self.until(SERVER, "pod/fileserver-0", ended, |code| !code.is_empty()), "0");
        self.until(SERVER, "statefulset/fileserver", "{.status.readyReplicas}", |ready| ready == "1");
        self.until_read(&self.address("fileserver").unwrap(), "ann/notes", "from the lab");
    }

    /// By hand, as a Job does: it ends, and every object is as it was.
    fn a_second_run_changes_nothing(&self) {
        let versions = || {
            let (namespaces, path) = (["jupyter", "labhands"], "{.items[*].metadata.resourceVersion}");
            let claims = namespaces.map(|namespace| self.get(namespace, "pvc", path));
            (claims, self.get("", "pv", path), self.get(SERVER, "service", path))
        };
        let before = versions();
        let output = self.volumes(&[("VOLUME_CLAIM", "jupyter/homes,labhands/homes")]);
        assert!(output.contains("the claim is bound"), "{output}");
        assert_eq!(versions(), before, "{output}");
    }

    /// Runs `nfs-health volumes` once on this machine; gives back what it logged.
    fn volumes(&self, settings: &[(&str, &str)]) -> String {
        let (all_is_bound, said) = self.try_volumes(settings);
        assert!(all_is_bound, "{said}");
        said
    }

    fn try_volumes(&self, settings: &[(&str, &str)]) -> (bool, String) {
        let mut program = Command::new(PROGRAM);
        program.arg("volumes").env_clear().env("KUBECONFIG", self.cluster.kubeconfig());
        program.env("NFS_SERVICE", "labhands-fileserver/fileserver").envs(settings.iter().copied());
        let output = program.output().unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        (output.status.success(), said)
    }

    /// The volume of the claim remembers which Service it was made for.
    fn another_service_takes_nothing_over(&self) {
        let before = self.get(SERVER, "services", "{.items[*].metadata.name}");
        self.make_service(SERVER, "other", &sibling(&self.address("fileserver").unwrap()), "web");
        let (all_is_bound, said) =
            self.try_volumes(&[("NFS_SERVICE", "labhands-fileserver/other"), ("VOLUME_CLAIM", "jupyter/homes")]);
        assert!(!all_is_bound && said.contains("it was made for Service labhands-fileserver/fileserver"), "{said}");
        self.kubectl.run(&["-n", SERVER, "delete", "service", "other"]).unwrap();
        assert_eq!(self.get(SERVER, "services", "{.items[*].metadata.name}"), before);
        assert_eq!(self.get("jupyter", "pvc/homes", "{.status.phase}"), "Bound");
    }

    /// What RBAC allows and the policies don't.
    fn its_token_changes_what_it_made_only(&self) {
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

    /// Neither the claim with the homes nor its namespace goes with the file server.
    fn homes_stay_when_the_site_is_removed(&self) {
        let overlay = concat!(env!("CARGO_MANIFEST_DIR"), "/../manifests/overlays/fileserver");
        self.kubectl.run(&["delete", "-k", overlay, "--ignore-not-found", "--wait=false"]).unwrap();
        self.until(SERVER, "pods", "{.items[*].metadata.name}", str::is_empty);
        let claim = "{.status.phase}{.metadata.deletionTimestamp}";
        assert_eq!(self.get(SERVER, "pvc/fileserver", claim), "Bound");
        assert_eq!(self.get("", &format!("namespace/{SERVER}"), claim), "Active");
        assert_eq!(std::fs::read_to_string(self.disk.join("home/ann/notes")).unwrap(), "from the lab\n");
    }

    /// Gives back the Service's new address.
    fn service_made_anew_and_its_old_address_kept(&self, old: &str) -> String {
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

    fn address_taken_by_a_stranger(&self, old: &str, new: &str) {
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
        let said = self.kubectl.wait(&events, LIMIT, |said| said.contains("VolumeAddressLost")).unwrap();
        assert!(said.contains("Service default/stranger has it now") && said.contains(old), "{said}");
        assert!(said.contains("kubectl -n jupyter delete pvc homes"), "{said}");
        assert_eq!(self.get("jupyter", "pvc/homes", "{.status.phase}"), "Bound");
        // … and it is enough to do that: for one claim,
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

    fn once_as_a_job(&self) {
        let settings = [("NFS_SERVICE", "labhands-fileserver/fileserver"), ("VOLUME_CLAIM", "jupyter/once")];
        let job =
            Install { overlay: "nfs-volumes-once", programs: &[PROGRAM], settings: &settings, ..Install::default() };
        self.cluster.install(&Install { more: SERVER_IS_HERE, ..job }).unwrap();
        self.until("labhands", "job/nfs-volumes", "{.status.succeeded}", |succeeded| succeeded == "1");
        assert_eq!(self.get("jupyter", "pvc/once", "{.status.phase}"), "Bound");
    }

    fn volumes_by_name_for_the_csi_driver(&self) {
        self.volumes(&[("VOLUME_CLAIM", "jupyter/by-name"), ("VOLUME_DRIVER", "csi")]);
        let volume = self.get("jupyter", "pvc/by-name", "{.spec.volumeName}");
        let csi = "{.spec.csi.driver} {.spec.csi.volumeAttributes.server} {.spec.csi.volumeAttributes.share}";
        let expected = "nfs.csi.k8s.io fileserver.labhands-fileserver.svc.cluster.local /home";
        assert_eq!(self.get("", &format!("pv/{volume}"), csi), expected);
    }
}

/// Another address of the same range, far from those that are given out at once.
fn sibling(address: &str) -> String {
    let (network, host) = address.rsplit_once('.').unwrap();
    format!("{network}.{}", if host == "77" { 78 } else { 77 })
}

/// The other daemon's program: tests of the whole workspace have built it already.
fn fs_keepalive() -> PathBuf {
    let program = Path::new(PROGRAM).with_file_name("fs-keepalive");
    if !program.exists() {
        command::run(Command::new(env!("CARGO")).args(["build", "--quiet", "--package", "fs-keepalive"])).unwrap();
    }
    program
}
