//! Records every version of every `NodeImages` during the rollouts.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Stdio};

use serde_json::Value;
use testbed::cluster::Kubectl;
use testbed::wait::{LIMIT, patiently};

/// Every version of every `NodeImages`, as `kubectl get --watch` sees them.
pub(super) struct Record {
    child: Child,
    file: PathBuf,
    _folder: tempfile::TempDir,
}

impl Record {
    pub(super) fn start(kubectl: &Kubectl) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("versions");
        // The API server serves a kind a moment after it has accepted its definition.
        let list = ["-n", "labhands-node", "get", "nodeimages", "-o", "name"];
        patiently(LIMIT, || kubectl.run(&list).ok()).expect("the kind is served");
        let mut command = kubectl.command();
        command.args(["-n", "labhands-node", "get", "nodeimages", "--watch", "-o", "json"]);
        let child = command.stdout(File::create(&file).unwrap()).stderr(Stdio::null()).spawn().unwrap();
        Self { child, file, _folder: folder }
    }

    /// While an image was on no node, at most one node pulled it without having failed.
    pub(super) fn one_canary_at_a_time(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        let text = fs::read_to_string(&self.file).unwrap();
        let mut latest: BTreeMap<String, Value> = BTreeMap::new();
        let mut versions = 0;
        for object in serde_json::Deserializer::from_str(&text).into_iter::<Value>().map_while(Result::ok) {
            versions += 1;
            latest.insert(object["metadata"]["name"].as_str().unwrap().to_owned(), object.clone());
            for order in object["spec"]["orders"].as_array().unwrap() {
                let same = |one: &Value| one["image"] == order["image"] && one["digest"] == order["digest"];
                let report = |object: &Value| {
                    object["status"]["images"].as_array().into_iter().flatten().find(|one| same(one)).cloned()
                };
                let ordered = |object: &&Value| object["spec"]["orders"].as_array().unwrap().iter().any(same);
                let holds = latest.values().filter_map(report).any(|report| report["state"] == "Present");
                // A node without a runtime pulls nothing, whatever its orders are.
                let can_pull = |object: &&Value| object["status"]["conditions"][0]["type"] != "RuntimeUnavailable";
                let pulls = latest
                    .values()
                    .filter(ordered)
                    .filter(can_pull)
                    .filter(|object| report(object).is_none_or(|report| report["failures"] == 0));
                let pulls = pulls.count();
                assert!(holds || pulls <= 1, "{} pulled by {pulls} nodes at once: {latest:#?}", order["image"]);
            }
        }
        assert!(versions > 20, "only {versions} versions were seen");
    }
}
