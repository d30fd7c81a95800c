//! containerd and Docker as tests use them: several at once, restarted, killed, and gone after that.
use testbed::containerd::Containerd;
use testbed::docker::Docker;
use testbed::registry::Registry;

#[test]
fn two_of_each_runtime_run_side_by_side_and_leave_nothing() {
    let registry = Registry::start().unwrap();
    let containerds = [Containerd::start(&registry).unwrap(), Containerd::start(&registry).unwrap()];
    let dockers = [Docker::start().unwrap(), Docker::start().unwrap()];
    let mut folders = Vec::new();
    for containerd in &containerds {
        assert!(containerd.ctr(&["version"]).unwrap().contains("Server"));
        folders.push(containerd.folder().path().to_owned());
    }
    for docker in &dockers {
        assert!(docker.docker(&["info"]).unwrap().contains("overlay2"));
        folders.push(docker.socket().parent().unwrap().to_owned());
    }
    drop((containerds, dockers));
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
    for folder in folders {
        let name = folder.file_name().unwrap().to_str().unwrap();
        assert!(!folder.exists() && !mounts.contains(name), "{name} is still there");
        assert!(!std::path::Path::new("/sys/fs/cgroup/memory").join(name).exists(), "the cgroup {name} is still there");
    }
}
