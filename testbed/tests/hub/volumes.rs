//! Homes on a volume whose driver applies `fsGroup`, and on a file server that is away.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::Path;

use testbed::chromium::Page;
use testbed::wait::LIMIT;

use super::bed::Bed;

/// A disk of the first node, the claim of all homes on it, and a pod that asks for a group as charts do by default.
const LOCAL_HOMES: &str = "
apiVersion: v1
kind: PersistentVolume
metadata: {name: local-homes}
spec:
  capacity: {storage: 1Gi}
  accessModes: [ReadWriteOnce]
  storageClassName: ''
  claimRef: {namespace: jupyter, name: local-homes}
  local: {path: FOLDER}
  nodeAffinity:
    required:
      nodeSelectorTerms:
      - matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: [NODE]}]
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: local-homes, namespace: jupyter}
spec:
  accessModes: [ReadWriteOnce]
  storageClassName: ''
  resources: {requests: {storage: 1Gi}}
";

const POD_WITH_GROUP: &str = "
apiVersion: v1
kind: Pod
metadata: {name: with-group, namespace: jupyter}
spec:
  restartPolicy: Never
  automountServiceAccountToken: false
  securityContext: {runAsUser: 58009, runAsNonRoot: true, fsGroup: 100, seccompProfile: {type: RuntimeDefault}}
  tolerations: [{operator: Exists}]
  volumes: [{name: homes, persistentVolumeClaim: {claimName: local-homes}}]
  containers:
  - name: look
    image: IMAGE
    command: [sh, -c, 'true']
    securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
    volumeMounts: [{name: homes, mountPath: /homes}]
";

/// Owner, group and mode.
pub(crate) type Owner = (u32, u32, u32);

pub(crate) fn owner(path: &Path) -> Owner {
    let facts = fs::metadata(path).unwrap();
    (facts.uid(), facts.gid(), facts.mode() & 0o7777)
}

/// An old file of another user, outside of every lab's home.
pub(crate) fn old_file(share: &Path) {
    let folder = share.join("old");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("notes"), "from years ago").unwrap();
    for (path, mode) in [(folder.join("notes"), 0o640), (folder, 0o750)] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        chown(&path, Some(4242), Some(4343)).unwrap();
    }
}

/// All owners on a share, except those of the folders in homes.
pub(crate) fn owners(share: &Path) -> Vec<Owner> {
    ["", "old", "old/notes"].map(|name| owner(&share.join(name))).to_vec()
}

/// The labs of two users leave all owners unchanged. A pod with a group makes kubelet change all of them.
pub(crate) fn no_group_is_applied(
    bed: &Bed,
    start: impl Fn(&mut Page),
    stop: impl Fn(&mut Page, &str),
    users: &mut [(&str, u32, &mut Page)],
) {
    let share = bed.empty_folder("local-homes");
    fs::set_permissions(&share, fs::Permissions::from_mode(0o1777)).unwrap();
    old_file(&share);
    let before = owners(&share);
    let node = bed.cluster.nodes()[0].name();
    bed.kubectl.apply(&LOCAL_HOMES.replace("FOLDER", &share.to_string_lossy()).replace("NODE", node)).unwrap();
    bed.configure("HOME_CLAIM=local-homes");
    for (_, _, page) in &mut *users {
        start(page);
    }
    assert_eq!(owners(&share), before);
    for (name, uid, _) in &*users {
        assert_eq!(owner(&share.join(name)), (*uid, *uid, 0o700), "{name}");
    }

    // kubelet applies a group when no other pod of the node has the volume.
    for (name, _, page) in users {
        stop(page, name);
    }
    let image = format!("{}/lab:w_2026_47", bed.cluster.registry_host());
    bed.kubectl.apply(&POD_WITH_GROUP.replace("IMAGE", &image)).unwrap();
    let ended =
        ["-n", "jupyter", "wait", "pod/with-group", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=300s"];
    bed.kubectl.run(&ended).unwrap_or_else(|error| panic!("{error}\n{}", bed.state()));
    assert!(
        owners(&share).iter().all(|&(_, group, _)| group == 100),
        "this driver applies no group: {:?}",
        owners(&share)
    );
}

/// The user sees the reason, and does not wait for the time limit of a start.
pub(crate) fn a_server_that_is_away_is_named(bed: &Bed, start: impl Fn(&mut Page), user: &mut Page) {
    bed.configure("HOME_CLAIM=homes");
    let stop = ["-n", "labhands-fileserver", "scale", "statefulset/fileserver", "--replicas=0"];
    bed.kubectl.run(&stop).unwrap();
    let servers = ["-n", "labhands-fileserver", "get", "pods", "-o", "name"];
    bed.kubectl.wait(&servers, LIMIT, |pods| !pods.contains("fileserver")).unwrap();
    start(user);
    user.wait(LIMIT, r#"document.body.innerText.includes("can't connect the lab's volumes or network")"#)
        .unwrap_or_else(|error| panic!("{error}\n{}", bed.state()));
    bed.picture(user, "server-away");
}
