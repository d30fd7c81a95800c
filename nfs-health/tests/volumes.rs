//! The file server, `nfs-health volumes` and fs-keepalive in a real cluster, from the shipped manifests: claims come from the Service,
//! homes are on the server, and a recreated Service removes nothing.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "volumes/address.rs"]
mod address;
#[path = "volumes/rights.rs"]
mod rights;
#[path = "volumes/site.rs"]
mod site;

use std::path::Path;
use std::process::Command;

use site::Site;
use testbed::cluster::Install;
use testbed::qemu::Qemu;
use testbed::wait::LIMIT;

const PROGRAM: &str = env!("CARGO_BIN_EXE_nfs-health");
const SERVER: &str = "labhands-fileserver";

/// The namespace of the server's Service.
const SERVER_IS_HERE: &str = "patches:
- target: {labelSelector: app.kubernetes.io/component=volumes-service}
  patch: '[{\"op\": \"replace\", \"path\": \"/metadata/namespace\", \"value\": \"labhands-fileserver\"}]'
";

/// A lab with its home on the claim, next to the server's other users, on another node than the server.
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

#[test]
fn volumes_come_from_the_service_and_stay_when_it_is_recreated() {
    let site = Site::start();
    site.claims_are_bound_and_lead_to_the_server();
    site.a_home_is_on_the_server();
    site.a_kernel_writes_and_reads_in_both_versions();
    site.a_second_run_changes_nothing();
    site.the_servers_own_probe_leaves_no_line_in_its_log();
    site.the_server_ends_in_order_and_is_the_same_after_it();
    let old = site.address("fileserver").unwrap();
    let new = site.service_recreated_and_its_old_address_kept(&old);
    site.address_taken_by_another_service(&old, &new);
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
    // nfs-ganesha would read these in another way.
    let misread = [
        ("FILESERVER_EXPORT", "/a/./b"),
        ("FILESERVER_PATH", "/a//b"),
        ("FILESERVER_CLIENTS", " , "),
        ("FILESERVER_LEASE", "020"),
    ];
    for bad in [&bad[..], &misread[..]] {
        let output = Command::new("sh").arg(script).envs(bad.iter().copied()).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(64), "{stderr}");
        for (name, _) in bad {
            assert!(stderr.contains(&format!("{name}: ")), "{name}: {stderr}");
        }
    }
}

impl Site {
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
        // The options that kubelet requested.
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
        let ended = machine.process().wait(LIMIT);
        let console = machine.console();
        for expected in ["written by v3", "written by v4", "held a lock", "all is well"] {
            assert!(console.contains(expected), "no {expected:?}: {ended:?}\n{console}");
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

    /// Run by hand, as in a Job: it ends, and no object has changed.
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

    /// Deleting the file server deletes neither the claim with the homes nor its namespace.
    fn homes_stay_when_the_site_is_removed(&self) {
        let overlay = concat!(env!("CARGO_MANIFEST_DIR"), "/../manifests/overlays/fileserver");
        self.kubectl.run(&["delete", "-k", overlay, "--ignore-not-found", "--wait=false"]).unwrap();
        self.until(SERVER, "pods", "{.items[*].metadata.name}", str::is_empty);
        let claim = "{.status.phase}{.metadata.deletionTimestamp}";
        assert_eq!(self.get(SERVER, "pvc/fileserver", claim), "Bound");
        assert_eq!(self.get("", &format!("namespace/{SERVER}"), claim), "Active");
        assert_eq!(std::fs::read_to_string(self.disk.join("home/ann/notes")).unwrap(), "from the lab\n");
    }

    /// And once more, with other settings, after Kubernetes has removed the first Job.
    fn once_as_a_job(&self) {
        for claim in ["once", "again"] {
            self.until("labhands", "jobs", "{.items[*].metadata.name}", str::is_empty);
            let claim_setting = format!("jupyter/{claim}");
            let settings = [("NFS_SERVICE", "labhands-fileserver/fileserver"), ("VOLUME_CLAIM", &*claim_setting)];
            let programs = &[PROGRAM];
            let job = Install { overlay: "nfs-volumes-once", programs, settings: &settings, ..Install::default() };
            self.cluster.install(&Install { more: SERVER_IS_HERE, ..job }).unwrap();
            self.until("labhands", "job/nfs-volumes", "{.status.succeeded}", |succeeded| succeeded == "1");
            assert_eq!(self.get("jupyter", &format!("pvc/{claim}"), "{.status.phase}"), "Bound");
        }
    }

    fn the_servers_own_probe_leaves_no_line_in_its_log(&self) {
        let log = || self.kubectl.run(&["-n", SERVER, "logs", "fileserver-0"]).unwrap();
        let path = "{.spec.containers[0].readinessProbe.exec.command[2]}";
        let probe = self.get(SERVER, "pod/fileserver-0", path);
        assert!(probe.contains("nfs-health check"), "{probe}");
        let before = log();
        for _ in 0..3 {
            self.kubectl.run(&["-n", SERVER, "exec", "fileserver-0", "--", "sh", "-c", &probe]).unwrap();
        }
        assert_eq!(log(), before);
    }

    fn volumes_by_name_for_the_csi_driver(&self) {
        self.volumes(&[("VOLUME_CLAIM", "jupyter/by-name"), ("VOLUME_DRIVER", "csi")]);
        let volume = self.get("jupyter", "pvc/by-name", "{.spec.volumeName}");
        let csi = "{.spec.csi.driver} {.spec.csi.volumeAttributes.server} {.spec.csi.volumeAttributes.share}";
        let expected = "nfs.csi.k8s.io fileserver.labhands-fileserver.svc.cluster.local /home";
        assert_eq!(self.get("", &format!("pv/{volume}"), csi), expected);
    }
}
