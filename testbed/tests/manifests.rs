//! `manifests/` on a real API server: every overlay and the whole page are accepted, `site/check` sees what the cluster lacks and
//! what is not ready, and objects with data are kept. The same for the Helm chart, and what each account may do.
#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

#[path = "manifests/helm.rs"]
mod helm;
#[path = "manifests/left.rs"]
mod left;
#[path = "manifests/rights.rs"]
mod rights;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use testbed::certificates::Authority;
use testbed::cluster::Cluster;
use testbed::folder::Folder;
use testbed::images::Image;
use testbed::wait::LIMIT;

use left::{KINDS, are_left, names};

/// The host name that users see.
const HOST: &str = "hub.university.edu";

/// The values that a site fills in.
const OWN: [(&str, &str); 4] = [
    ("labs.example.org", HOST),
    ("ghcr.io/example/lab", "ghcr.io/university/lab"),
    ("GITHUB_ORGANIZATIONS=example", "GITHUB_ORGANIZATIONS=university"),
    ("rabbitmq.example.org", "rabbitmq.university.edu"),
];

/// Namespaces that overlays expect.
const NAMESPACES: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: storage}
";

/// The repository's folder.
fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// A copy of the manifests whose page is filled in, with images of the cluster's own registry.
fn site(cluster: &Cluster) -> Folder {
    let folder = Folder::new("page").unwrap();
    let copied = Command::new("cp").arg("-r").arg(repository().join("manifests")).arg(folder.path()).status().unwrap();
    assert!(copied.success());
    let page = page(&folder);
    let mut text = fs::read_to_string(&page).unwrap().replace("registry.example.org", &cluster.registry_host());
    for (example, own) in OWN {
        text = text.replace(example, own);
    }
    fs::write(&page, text).unwrap();
    let random = |digit: &str| digit.repeat(64);
    let certificate = Authority::new("labhands test").unwrap().issue("hub", None, &[HOST]).unwrap();
    for (name, text) in [
        (
            "hub/hub.env",
            format!("proxy-token={}\ncrypt-key={}\ncookie-secret={}\n", random("a"), random("b"), random("c")),
        ),
        ("hub/login.env", "GITHUB_CLIENT_ID=x\nGITHUB_CLIENT_SECRET=y\n".to_owned()),
        ("log-shipper/amqp.env", "password=x\n".to_owned()),
        ("nginx/tls.crt", certificate.certificate.clone()),
        ("nginx/tls.key", certificate.key.clone()),
        ("nginx/root_chain.pem", String::new()),
        ("ingress/tls.crt", certificate.certificate),
        ("ingress/tls.key", certificate.key),
        ("firefly/firefly.env", format!("admin-password={}\n", random("d"))),
    ] {
        folder.write(&format!("manifests/site/secrets/{name}"), text).unwrap();
    }
    folder
}

fn page(site: &Folder) -> PathBuf {
    site.path().join("manifests/site/kustomization.yaml")
}

/// Changes the page.
fn change(site: &Folder, old: &str, new: &str) {
    let text = fs::read_to_string(page(site)).unwrap();
    assert!(text.contains(old), "{old}");
    fs::write(page(site), text.replace(old, new)).unwrap();
}

/// Runs `kubectl apply -k` with these arguments; returns standard output and error, and whether it succeeded.
fn apply(cluster: &Cluster, folder: &Path, arguments: &[&str]) -> (bool, String, String) {
    let run = cluster.kubectl().command().args(["apply", "-k"]).arg(folder).args(arguments).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (run.status.success(), text(&run.stdout), text(&run.stderr))
}

/// The output of `site/check` for this cluster.
fn check(cluster: &Cluster, site: &Folder, arguments: &[&str]) -> (bool, String) {
    let kubectl = cluster.kubectl();
    let program = kubectl.program().parent().unwrap().display().to_string();
    let path = std::env::var_os("PATH").unwrap().into_string().unwrap();
    let run = Command::new(site.path().join("manifests/site/check"))
        .args(arguments)
        .env("PATH", format!("{program}:{path}"))
        .envs(cluster.environment())
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&run.stdout).into_owned() + &String::from_utf8_lossy(&run.stderr);
    (run.status.success(), printed)
}

/// The messages of Pod Security for pods that `restricted` rejects.
fn violations(printed: &str) -> Vec<&str> {
    printed.lines().filter(|line| line.contains("would violate PodSecurity")).collect()
}

#[test]
fn the_manifests_are_accepted_and_the_page_is_checked() {
    let cluster = Cluster::start(1).unwrap();
    let kubectl = cluster.kubectl();
    let site = site(&cluster);
    let folder = site.path().join("manifests/site");

    // Before anything is applied, it lists what the cluster lacks, such as a StorageClass.
    let (right, printed) = check(&cluster, &site, &[]);
    assert!(!right, "{printed}");
    for claim in ["fileserver", "hub-database"] {
        let wanted = format!("wrong    {claim}: the claim has no storage class");
        assert!(printed.contains(&wanted), "{printed}");
    }
    assert_eq!(printed.matches("wrong ").count(), 2, "{printed}");
    kubectl.apply(STORAGE).unwrap();
    let (right, printed) = check(&cluster, &site, &[]);
    assert!(right, "{printed}");

    every_overlay_is_accepted(&cluster, &site);
    a_server_of_the_sites_own_is_accepted(&cluster);
    the_other_ways_in_are_accepted(&cluster, &site);

    // Applied in two parts, and twice: the second time nothing changes.
    let (applied, first, error) = apply(&cluster, &folder, &[]);
    assert!(applied && violations(&error).is_empty(), "{error}");
    assert!(first.contains("deployment.apps/nginx created"), "{first}");
    let (applied, _, error) = apply(&cluster, &folder, &[]);
    assert!(applied, "{error}");
    // kubectl prints "configured" if the API server only normalizes a value, so this asks for real differences.
    let difference = kubectl.command().args(["diff", "-k"]).arg(&folder).output().unwrap();
    assert!(difference.status.success(), "{}", String::from_utf8_lossy(&difference.stdout));

    what_is_not_ready_is_reported(&cluster, &site);
    objects_with_data_are_kept(&cluster, &folder);
}

/// A default StorageClass, and a volume for each claim.
const STORAGE: &str = "
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: test, annotations: {storageclass.kubernetes.io/is-default-class: 'true'}}
provisioner: example.org/nobody
---
apiVersion: v1
kind: PersistentVolume
metadata: {name: one}
spec: {capacity: {storage: 200Gi}, accessModes: [ReadWriteOnce], storageClassName: test, hostPath: {path: /var/lib/one}}
";

/// With the Service that the documents give for a server outside of the cluster.
fn a_server_of_the_sites_own_is_accepted(cluster: &Cluster) {
    let (kubectl, site) = (cluster.kubectl(), site(cluster));
    for part in ["fileserver-claim #", "fileserver\n"] {
        change(&site, &format!("  - ../components/{part}"), &format!("  # - ../components/{part}"));
    }
    change(&site, "NFS_SERVICE=labhands-fileserver/fileserver", "NFS_SERVICE=storage/nas");
    let (right, printed) = check(cluster, &site, &[]);
    assert!(!right && printed.contains("NFS_SERVICE: the cluster has no Service storage/nas"), "{printed}");
    let document = fs::read_to_string(repository().join("docs/fileserver.md")).unwrap();
    let service = document.split("```yaml\n").nth(1).unwrap().split("```").next().unwrap();
    kubectl.apply(service).unwrap();
    let (right, printed) = check(cluster, &site, &[]);
    assert!(right, "{printed}");
    change(&site, "NFS_SERVICE=storage/nas", "NFS_SERVICE=nowhere/nas");
    let (_, printed) = check(cluster, &site, &[]);
    assert!(printed.contains("namespaces \"nowhere\" not found"), "{printed}");
}

fn every_overlay_is_accepted(cluster: &Cluster, site: &Folder) {
    let kubectl = cluster.kubectl();
    // Objects are tried in existing namespaces.
    let overlays = site.path().join("manifests/overlays");
    let mut namespaces = NAMESPACES.to_owned();
    let names: BTreeSet<PathBuf> = fs::read_dir(&overlays).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(names.len() > 8);
    for overlay in &names {
        let built = kubectl.run(&["kustomize", &overlay.display().to_string()]).unwrap();
        for document in built.split("\n---\n").filter(|text| text.contains("kind: Namespace\n")) {
            namespaces += &format!("\n---\n{document}");
        }
    }
    kubectl.apply(&namespaces).unwrap();
    for overlay in &names {
        let (accepted, _, error) = apply(cluster, overlay, &["--dry-run=server"]);
        assert!(accepted && violations(&error).is_empty(), "{}: {error}", overlay.display());
    }
}

/// Ingress, Gateway and HTTPRoutes with their real schemas, Firefly, and the objects of the Prometheus operator.
fn the_other_ways_in_are_accepted(cluster: &Cluster, site: &Folder) {
    let kubectl = cluster.kubectl();
    let folder = site.path().join("manifests/site");
    change(
        site,
        "  - wiring #",
        "  - ../components/gateway\n  - ../components/httproute\n  - ../components/monitoring-operator\n  - secrets/ingress\n  - wiring #",
    );
    change(site, "    literals:\n", "    literals:\n      - GATEWAY_CLASS=example\n");
    let (right, printed) = check(cluster, site, &[]);
    assert!(!right && printed.contains("the cluster does not know httproutes.gateway.networking.k8s.io"), "{printed}");
    assert!(printed.contains("the cluster does not know podmonitors.monitoring.coreos.com"), "{printed}");

    for (module, version, crds) in [
        ("sigs.k8s.io/gateway-api", "v1.6.3", "config/crd/standard"),
        ("github.com/prometheus-operator/prometheus-operator", "v0.85.0", "example/prometheus-operator-crd"),
    ] {
        let crds = testbed::go::module(module, version).unwrap().join(crds);
        kubectl.run(&["apply", "--server-side", "-f", &crds.display().to_string()]).unwrap();
    }
    // The API server serves a kind a moment after it has accepted its definition.
    kubectl.run(&["wait", "--for=condition=Established", "--timeout=300s", "crd", "--all"]).unwrap();
    let kinds = kubectl.run(&["get", "crd", "-o", "jsonpath={.items[*].metadata.name}"]).unwrap();
    for kind in kinds.split_whitespace() {
        kubectl.wait(&["get", kind, "-A", "-o", "name"], LIMIT, |printed| printed.is_empty()).unwrap();
    }
    let more = "ingress firefly firefly-shared ingress-firefly httproute-firefly fileserver-node-network dashboards logs-receiver nfs-health-taint";
    let lines: String = more.split(' ').map(|name| format!("  - ../components/{name}\n")).collect();
    change(site, "  - wiring #", &format!("{lines}  - secrets/firefly\n  - wiring #"));
    let before = fs::read_to_string(page(site)).unwrap();
    kubectl.apply("{apiVersion: v1, kind: Namespace, metadata: {name: firefly, labels: {pod-security.kubernetes.io/warn: restricted}}}").unwrap();
    let (accepted, printed, error) = apply(cluster, &folder, &["--dry-run=server"]);
    assert!(accepted && violations(&error).is_empty(), "{error}");
    for object in [
        "gateway.gateway.networking.k8s.io/labhands",
        "httproute.gateway.networking.k8s.io/jupyterhub-redirect",
        "httproute.gateway.networking.k8s.io/firefly",
        "ingress.networking.k8s.io/jupyterhub",
        "ingress.networking.k8s.io/firefly",
        "podmonitor.monitoring.coreos.com/labhands",
        "prometheusrule.monitoring.coreos.com/labhands",
    ] {
        assert!(printed.contains(object), "{object}: {printed}");
    }
    // The schemas reject wrong objects.
    fs::write(page(site), before.replace("GATEWAY_CLASS=example", "GATEWAY_CLASS=")).unwrap();
    let (accepted, _, error) = apply(cluster, &folder, &["--dry-run=server"]);
    assert!(!accepted && error.contains("gatewayClassName"), "{error}");
    // Restores the page.
    let text = before.replace(&lines, "").replace("  - secrets/firefly\n  - wiring", "  - wiring");
    let text = text.replace(
        "  - ../components/gateway\n  - ../components/httproute\n  - ../components/monitoring-operator\n  - secrets/ingress\n  - wiring",
        "  - wiring",
    );
    fs::write(page(site), text.replace("      - GATEWAY_CLASS=example\n", "")).unwrap();
}

/// A container that ends like a daemon with invalid settings, and one that answers like a daemon that is not ready.
const WRONG_SETTINGS: &str = "patches:
  - target: { kind: DaemonSet, name: imagepurger }
    patch: |
      - { op: add, path: /spec/template/spec/containers/0/command, value: [sh, -c, 'echo PURGE_GRACE: is wrong >&2; exit 64'] }
  - target: { kind: DaemonSet, name: nfs-health }
    patch: |
      - op: add
        path: /spec/template/spec/containers/0/command
        value:
          - sh
          - -c
          - while true; do printf 'HTTP/1.1 503 Away\\r\\nConnection:close\\r\\nContent-Type:text/plain\\r\\n\\r\\nnodes:\\n\"one\" is away' | nc -l -p 8080 -w 1; done
";

/// imagepurger has invalid settings, nfs-health is not ready, fs-keepalive's claim does not exist, and the others' images are missing.
fn what_is_not_ready_is_reported(cluster: &Cluster, site: &Folder) {
    change(site, "patches: []\n", WRONG_SETTINGS);
    let (applied, _, error) = apply(cluster, &site.path().join("manifests/site"), &[]);
    assert!(applied, "{error}");
    for name in ["imagepurger", "nfs-health"] {
        let repository = format!("labhands/{name}");
        Image::busybox().unwrap().push(cluster.registry(), &repository, env!("CARGO_PKG_VERSION")).unwrap();
    }
    let mut last = String::new();
    let reported = testbed::wait::patiently(LIMIT, || {
        let (right, printed) = check(cluster, site, &["--after"]);
        last = printed;
        let all = [
            "labhands-node/imagepurger: 0 of 1 pods are ready",
            "it ended with exit code 64, which means wrong settings",
            "PURGE_GRACE: is wrong",
            "it runs but is not ready: nodes:\n         \"one\" is away",
            "labhands/prepuller-plan: 0 of 1 pods are ready",
            "its image ",
            "can't be pulled: ",
            "labhands/fs-keepalive: 0 of 1 pods are ready",
            "persistentvolumeclaim \"homes\" not found",
            "DNS: the load balancer has no address yet",
        ];
        (!right && all.iter().all(|words| last.contains(words))).then_some(())
    });
    assert!(reported.is_some() && !last.contains("No pod can be created"), "{last}");
}

/// `kubectl delete -k` removes everything except users' files, and says so each time.
fn objects_with_data_are_kept(cluster: &Cluster, folder: &Path) {
    let kubectl = cluster.kubectl();
    let path = folder.display().to_string();
    for _ in 0..3 {
        let delete = ["delete", "-k", &path, "--ignore-not-found", "--timeout=300s"];
        let refused = kubectl.run(&delete).unwrap_err().to_string();
        for name in ["labhands-fileserver", "jupyter", "fileserver", "hub-database"] {
            assert!(refused.contains(&format!("{name} holds data of users and stays")), "{refused}");
        }
        assert_eq!(names(&kubectl, "persistentvolumeclaims"), DISKS.map(str::to_owned).into());
    }
    for kind in KINDS.into_iter().chain(["customresourcedefinitions"]) {
        let lock = (kind == "validatingadmissionpolicies").then(|| LOCK.to_owned());
        are_left(&kubectl, kind, lock.into_iter().collect());
    }
    // It can be applied again once the deleted objects are gone: after a refusal kubectl does not wait for them.
    for namespace in ["namespace/labhands", "namespace/labhands-node"] {
        kubectl.run(&["wait", "--for=delete", namespace, "--timeout=300s"]).unwrap();
    }
    kubectl.run(&["apply", "-k", &path]).unwrap();
    // With the annotation it is deleted.
    kubectl.run(&["annotate", "namespace/labhands-fileserver", "labhands.dev/delete-data=true"]).unwrap();
    kubectl.run(&["delete", "namespace", "labhands-fileserver", "--wait=false"]).unwrap();
    // So is the policy that protects it, without its finalizers.
    let lock = ["validatingadmissionpolicy", "validatingadmissionpolicybinding"].map(|kind| format!("{kind}/{LOCK}"));
    let free = r#"{"metadata": {"finalizers": null}}"#;
    kubectl.run(&["patch", &lock[0], &lock[1], "--type=merge", "--patch", free]).unwrap();
    kubectl.run(&["delete", &lock[0], &lock[1], "--ignore-not-found", "--timeout=300s"]).unwrap();
}

/// The policy that protects them.
const LOCK: &str = "labhands-keep-data";

/// The claims that hold users' files.
const DISKS: [&str; 2] = ["fileserver", "hub-database"];

#[test]
fn the_chart_is_installed_changed_and_removed() {
    let cluster = Cluster::start(0).unwrap();
    let kubectl = cluster.kubectl();
    let mut release = helm::Release::install(&cluster);
    let first = release.generations();
    assert!(first.len() > 10, "{first:?}");
    release.upgrade().unwrap();
    assert_eq!(release.generations(), first, "the same again changes nothing");

    rights::are_what_each_account_needs(&cluster);

    let refused = release.change("settings", "PURGE_GRACES", "48h".into()).unwrap_err().to_string();
    assert!(refused.contains("PURGE_GRACES"), "{refused}");
    release.change("settings", "PURGE_GRACE", "48h".into()).unwrap();
    let second = release.generations();
    assert_eq!(helm::changed(&first, &second), BTreeSet::from(["DaemonSet/imagepurger".to_owned()]));
    release.change("components", "log-shipper", false.into()).unwrap();
    let third = release.generations();
    assert_eq!(helm::changed(&second, &third), BTreeSet::from(["DaemonSet/log-shipper".to_owned()]));

    release.uninstall();
    assert_eq!(names(&kubectl, "persistentvolumeclaims"), DISKS.map(str::to_owned).into());
    for kind in KINDS {
        are_left(&kubectl, kind, BTreeSet::new());
    }
    are_left(&kubectl, "namespaces", ["jupyter", "labhands-fileserver"].map(str::to_owned).into());
    for resource in ["nodeimages", "nfsreports"] {
        kubectl.run(&["get", "crd", &format!("{resource}.labhands.dev")]).unwrap();
    }
    // Applied again, it uses its old volumes.
    release.upgrade().unwrap();
}
