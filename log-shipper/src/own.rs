//! Finds the container that this process runs in. Its log is not shipped, because each line about shipping would cause
//! another one.
//!
//! The host name is not enough: with `hostNetwork` or `network_mode: host` it is the machine's, and any container may
//! have the machine's name. What identifies a container is what its runtime mounted into it.

use std::path::Path;

use crate::container::Container;

/// Files that runtimes mount into every container from the container's own folder.
const MOUNTED: [&str; 4] = ["/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/dev/termination-log"];

/// The number of hexadecimal digits of a container's id.
const ID_LENGTH: usize = 64;

/// What is known about the container that this process runs in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Own {
    /// The UID of its pod.
    pub pod: Option<String>,
    /// Ids of its container, or of another container of its pod.
    pub containers: Vec<String>,
}

impl Own {
    /// Reads the kernel's files; `pod` is the pod's UID, if it is set.
    pub fn of_process(pod: Option<&str>) -> Self {
        let read = |name: &str| std::fs::read_to_string(Path::new("/proc/self").join(name)).unwrap_or_default();
        Self::parse(pod, &read("mountinfo"), &read("cgroup"))
    }

    /// From `/proc/self/mountinfo` (proc_pid_mountinfo(5)) and `/proc/self/cgroup` (cgroups(7)).
    fn parse(pod: Option<&str>, mounts: &str, cgroups: &str) -> Self {
        let mut own = Self { pod: pod.map(str::to_owned), containers: Vec::new() };
        for line in mounts.lines() {
            let mut fields = line.split(' ').skip(3);
            if let (Some(root), Some(target)) = (fields.next(), fields.next())
                && MOUNTED.contains(&target)
            {
                own.learn(root);
            }
        }
        for line in cgroups.lines() {
            // hierarchy:controllers:path
            if let Some(path) = line.splitn(3, ':').nth(2) {
                own.learn(path);
            }
        }
        own
    }

    fn learn(&mut self, path: &str) {
        let mut before = "";
        for part in path.split('/') {
            // kubelet's folder of a pod, or its cgroup: pod<uid>, kubepods-burstable-pod<uid with underscores>.slice
            let uid = if before == "pods" {
                Some(part.to_owned())
            } else {
                let name = part.strip_suffix(".slice").unwrap_or(part);
                name.rfind("pod").map(|at| name[at + 3..].replace('_', "-"))
            };
            if let Some(uid) = uid.filter(|uid| is_uid(uid)) {
                self.pod.get_or_insert(uid);
            }
            // docker-<id>.scope, cri-containerd-<id>.scope, libpod-<id>.scope, or the id alone
            let name = part.strip_suffix(".scope").unwrap_or(part);
            let id = name.rsplit(['-', ':']).next().unwrap_or(name);
            if is_id(id) && !self.containers.iter().any(|known| known == id) {
                self.containers.push(id.to_owned());
            }
            before = part;
        }
    }

    /// Whether this is a container of this process's pod, or its own container.
    pub fn is(&self, container: &Container) -> bool {
        let pod = container.pod.as_ref().is_some_and(|pod| self.pod.as_ref() == Some(&pod.uid));
        let docker = container.docker.as_ref().is_some_and(|docker| self.containers.contains(&docker.id));
        pod || docker
    }
}

fn is_id(text: &str) -> bool {
    text.len() == ID_LENGTH && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Whether this is a UID (RFC 9562, section 4), or the hash that replaces it for a static pod.
fn is_uid(text: &str) -> bool {
    let hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
    match text.len() {
        36 => text.split('-').map(str::len).eq([8, 4, 4, 4, 12]) && text.split('-').all(hex),
        32 => hex(text),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UID: &str = "4b8a2f60-5e0c-4f2e-9a51-0f3f3b0a1d2c";

    fn id(digit: &str) -> String {
        digit.repeat(ID_LENGTH)
    }

    #[test]
    fn a_container_knows_itself_by_what_its_runtime_mounted_or_by_its_cgroup() {
        let docker =
            format!("512 490 8:1 /var/lib/docker/containers/{}/hostname /etc/hostname rw - ext4 /dev/sda1 rw", id("a"));
        assert_eq!(Own::parse(None, &docker, "0::/\n").containers, [id("a")]);
        let podman =
            format!("9 8 0:5 /containers/overlay-containers/{}/userdata/hosts /etc/hosts rw - tmpfs t rw", id("b"));
        assert_eq!(Own::parse(None, &podman, "").containers, [id("b")]);
        let kubelet = format!("9 8 8:1 /var/lib/kubelet/pods/{UID}/etc-hosts /etc/hosts rw - ext4 /dev/sda1 rw");
        assert_eq!(Own::parse(None, &kubelet, "").pod.as_deref(), Some(UID));
        let version_one = format!("12:cpu:/kubepods/burstable/pod{UID}/{}\n", id("c"));
        let own = Own::parse(None, "", &version_one);
        assert_eq!((own.pod.as_deref(), &own.containers[..]), (Some(UID), &[id("c")][..]));
        let systemd = format!(
            "0::/kubepods.slice/kubepods-pod{}.slice/cri-containerd-{}.scope\n",
            UID.replace('-', "_"),
            id("d")
        );
        assert_eq!(Own::parse(None, "", &systemd), Own { pod: Some(UID.into()), containers: vec![id("d")] });
        let scope = format!("0::/system.slice/docker-{}.scope\n", id("e"));
        assert_eq!(Own::parse(None, "", &scope).containers, [id("e")]);
    }

    #[test]
    fn on_a_host_the_mounts_of_others_mean_nothing() {
        let mounts = format!(
            "40 28 0:50 / /var/lib/docker/overlay2/{0}/merged rw - overlay overlay rw\n\
             41 28 0:51 / /var/lib/docker/containers/{0}/mounts/shm rw - tmpfs shm rw\n\
             42 28 0:52 / /var/lib/kubelet/pods/{UID}/volumes/x rw - tmpfs tmpfs rw\n",
            id("a")
        );
        assert_eq!(Own::parse(None, &mounts, "0::/system.slice/log-shipper.service\n"), Own::default());
    }

    #[test]
    fn the_setting_takes_precedence_over_the_kernel() {
        let kubelet = format!("9 8 8:1 /var/lib/kubelet/pods/{UID}/etc-hosts /etc/hosts rw - ext4 /dev/sda1 rw");
        assert_eq!(Own::parse(Some("set"), &kubelet, "").pod.as_deref(), Some("set"));
    }
}
