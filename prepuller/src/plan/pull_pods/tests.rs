use super::*;
use lab_images::catalogue::Kind;
use lab_images::tag::Class;

fn image(tag: &str) -> CatalogueImage {
    CatalogueImage {
        reference: format!("registry.example.org/lab:{tag}").parse().unwrap(),
        repository: "registry.example.org/lab".parse().unwrap(),
        tag: tag.to_owned(),
        class: Class::Weekly,
        kind: Kind::Lab,
        name: tag.to_owned(),
        digest: None,
        platforms: Vec::new(),
        size: None,
        aliases: Vec::new(),
        wanted: true,
        why: String::new(),
    }
}

fn key(image: &CatalogueImage) -> Key {
    Key::new(&image.reference.to_string(), None)
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// A node, simulated by what happens to its pods.
struct SimulatedNode {
    images: Vec<CatalogueImage>,
    reported: Vec<(Key, Reported)>,
    pods: Vec<(Arc<str>, SeenPull)>,
}

impl SimulatedNode {
    fn step(&mut self, now: i64) -> PodActions {
        let node = Arc::from("node1");
        let reported =
            |key: Key| self.reported.iter().find(|(reported, _)| *reported == key).map(|(_, reported)| reported);
        let images = self.images.iter().map(|image| (image, key(image), reported(key(image)))).collect();
        let ordered = Ordered { node: &node, generation: 1, uid: "u", eligible: true, images };
        let pods: Vec<_> = self.pods.iter().map(|(name, pull)| (name, pull)).collect();
        let turn = turn(&ordered, &pods, at(now));
        if let Some(status) = &turn.write {
            let reported = |report: &ImageReport| {
                let reported = Reported {
                    state: report.state,
                    done: 0,
                    total: 0,
                    rate: None,
                    eta_seconds: None,
                    failures: report.failures,
                    error: report.error.clone().map(String::into_boxed_str),
                    since: report.since,
                };
                (Key::new(&report.image.to_string(), None), reported)
            };
            self.reported = status.images.iter().map(reported).collect();
        }
        self.pods.retain(|(name, _)| !turn.remove.contains(name));
        if let Some(pod) = &turn.make {
            let pull =
                SeenPull { node: "node1".into(), key: Key::new(&pod.image, None), made: Some(at(now)), ended: None };
            self.pods.push((pod.name.as_str().into(), pull));
        }
        turn
    }

    fn end(&mut self, ended: Result<(), String>) {
        self.pods[0].1.ended = Some(ended);
    }

    fn states(&self) -> Vec<PullState> {
        self.reported.iter().map(|(_, reported)| reported.state).collect()
    }
}

#[test]
fn one_image_after_the_other_and_failures_again_after_a_while() {
    use PullState::{Downloading, Failed, Present, Waiting};
    let mut node = SimulatedNode { images: vec![image("a"), image("b")], reported: Vec::new(), pods: Vec::new() };
    assert_eq!(node.step(0).make.unwrap().image, "registry.example.org/lab:a");
    assert!(node.step(1).make.is_none());
    assert_eq!(node.states(), [Downloading, Waiting]);
    assert!(node.step(2).write.is_none());
    node.end(Err("manifest unknown".to_owned()));
    assert_eq!(node.step(3).make.unwrap().image, "registry.example.org/lab:b");
    assert_eq!(node.states(), [Failed, Waiting]);
    node.step(4);
    node.end(Ok(()));
    let turn = node.step(5);
    assert_eq!(turn.write.unwrap().problem.as_deref(), Some("a: manifest unknown"));
    assert!(turn.make.is_none() && turn.remove.len() == 1);
    assert_eq!(node.states(), [Failed, Present]);
    assert!(node.step(20).make.is_none());
    assert!(node.step(33).make.is_some());
    node.end(Ok(()));
    node.step(40);
    assert_eq!(node.states(), [Present, Present]);
    assert_eq!(node.reported[0].1.failures, 1);
    let turn = node.step(50);
    assert!(turn.make.is_none() && turn.write.is_none());
}

#[test]
fn a_pod_for_an_image_that_is_not_ordered_is_removed() {
    let mut node = SimulatedNode { images: vec![image("a")], reported: Vec::new(), pods: Vec::new() };
    node.step(0);
    node.images = vec![image("b")];
    let turn = node.step(1);
    assert_eq!(turn.remove.len(), 1);
    assert_eq!(turn.make.unwrap().image, "registry.example.org/lab:b");
}

#[test]
fn kubelets_errors_of_an_image_are_read() {
    let pull = |status: serde_json::Value| {
        let object = json!({
            "metadata": {"name": "p", "annotations": {IMAGE: "lab:1"}}, "spec": {"nodeName": "node1"}, "status": status,
        });
        SeenPull::new(serde_json::from_value(object).unwrap()).unwrap().ended
    };
    assert_eq!(pull(json!({"phase": "Pending"})), None);
    assert_eq!(pull(json!({"phase": "Succeeded"})), Some(Ok(())));
    let waiting = json!({"phase": "Pending", "containerStatuses": [{"name": "image", "state": {"waiting": {"reason": "ErrImagePull", "message": "not found"}}}]});
    assert_eq!(pull(waiting), Some(Err("not found".to_owned())));
    let late = json!({"phase": "Failed", "reason": "DeadlineExceeded", "message": "Pod was active on the node longer than the specified deadline"});
    assert!(pull(late).is_some_and(|ended| ended.is_err_and(|error| error.contains("deadline"))));
}
