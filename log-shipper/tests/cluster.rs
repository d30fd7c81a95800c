//! The DaemonSet of the manifests on a real cluster: every pod's lines arrive at an external RabbitMQ, with the pod's metadata. All
//! of it shares one cluster, because a cluster takes a while to start.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod support;

use serde_json::{Value, json};
use support::consumer::Consumer;
use support::exchange;
use testbed::cluster::{Cluster, Install, Kubectl};
use testbed::images::Image;
use testbed::rabbitmq::{PASSWORD, RabbitMq, USER};
use testbed::wait::{self, LIMIT};

const SHIPPER: [&str; 4] = ["-n", "labhands-node", "-l", "app.kubernetes.io/name=log-shipper"];

struct Bed {
    consumer: Consumer,
    kubectl: Kubectl,
    image: String,
    cluster: Cluster,
    _broker: RabbitMq,
}

#[test]
fn every_pods_lines_arrive_with_their_metadata() {
    let mut bed = Bed::start();
    a_pods_lines_have_its_kubernetes_metadata(&bed);
    a_crash_looping_containers_last_lines_arrive(&bed);
    a_deleted_pods_last_lines_arrive(&bed);
    the_last_line_of_a_job_arrives_without_a_newline(&bed);
    let public = a_pod_may_opt_out_and_opt_in_again(&bed);
    a_new_shipper_sends_no_line_again(&bed, &public);
    lines_continue_without_the_api_server(&mut bed);
    the_shippers_own_log_is_not_shipped(&bed);
}

fn a_pods_lines_have_its_kubernetes_metadata(bed: &Bed) {
    bed.run(
        "talker",
        "echo hello; while :; do sleep 1; date +tick-%s; done",
        &json!({"hub.jupyter.org/username": "ann"}),
    );
    bed.event("talker", "hello");
    // Metadata that Kubernetes learns after the first lines is in later ones.
    let event = bed.wait("a line with all that is known", |event| {
        let known = !event["kubernetes"]["pod"]["ip"].is_null() && !event["container"]["id"].is_null();
        (pod(event) == "talker" && known).then(|| event.clone())
    });
    let get = |path: &str| bed.kubectl.run(&["get", "pod", "talker", "-o", &format!("jsonpath={path}")]).unwrap();
    let kubernetes = &event["kubernetes"];
    assert_eq!(kubernetes["namespace"], "default");
    assert_eq!(kubernetes["pod"]["uid"], get("{.metadata.uid}"));
    assert_eq!(kubernetes["pod"]["ip"], get("{.status.podIP}"));
    assert_eq!(kubernetes["node"]["name"], get("{.spec.nodeName}"));
    assert_eq!(kubernetes["container"]["name"], "main");
    assert_eq!(kubernetes["labels"]["example_org/app"], "talker");
    assert_eq!(kubernetes["annotations"]["hub_jupyter_org/username"], "ann");
    assert_eq!(event["container"]["image"]["name"], bed.image);
    assert_eq!(
        format!("containerd://{}", event["container"]["id"].as_str().unwrap()),
        get("{.status.containerStatuses[0].containerID}")
    );
    assert_eq!(event["stream"], "stdout");
}

fn a_crash_looping_containers_last_lines_arrive(bed: &Bed) {
    bed.run("crasher", "echo started; echo the end of $(cat /proc/sys/kernel/random/uuid); exit 1", &json!({}));
    let restart = |number: u32| {
        let file = format!("/main/{number}.log");
        bed.wait("the last line of a restart", |event| {
            let path = event["log"]["file"]["path"].as_str()?;
            (pod(event) == "crasher" && message(event).starts_with("the end of") && path.ends_with(&file)).then_some(())
        });
    };
    restart(0);
    restart(1);
}

fn a_deleted_pods_last_lines_arrive(bed: &Bed) {
    let script = "trap 'echo goodbye; exit' TERM; echo here; while :; do sleep 1 & wait $!; done";
    bed.run("leaver", script, &json!({}));
    bed.event("leaver", "here");
    bed.kubectl.run(&["delete", "pod", "leaver"]).unwrap();
    bed.event("leaver", "goodbye");
}

fn the_last_line_of_a_job_arrives_without_a_newline(bed: &Bed) {
    let script = "echo working; printf 'panic: out of luck' >&2; exit 1";
    let container = json!({"name": "main", "image": bed.image, "command": ["/bin/sh", "-c", script]});
    let object = json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "loser"},
        "spec": {"backoffLimit": 0, "template": {"spec": {"restartPolicy": "Never", "containers": [container]}}},
    });
    bed.kubectl.apply(&object.to_string()).unwrap();
    let event = bed.wait("the last line of a job", |event| {
        (event["kubernetes"]["job"]["name"] == "loser" && message(event) == "panic: out of luck").then(|| event.clone())
    });
    assert_eq!((&event["log"]["flags"], &event["stream"]), (&json!(["unfinished"]), &json!("stderr")));
}

/// Returns the first line of the pod that came.
fn a_pod_may_opt_out_and_opt_in_again(bed: &Bed) -> String {
    // The shipper learns some time later that the pod opted in again, and passes over lines until then.
    let script =
        "echo secret; while [ ! -e /tmp/more ]; do sleep 0.2; done; while :; do date +public-%s; sleep 1; done";
    bed.run("private", script, &json!({"labhands.dev/logs": "off"}));
    let checkpoints = || bed.metric("labhands_log_shipper_checkpoints_total");
    wait::patiently(LIMIT, || bed.kubectl.run(&["logs", "private"]).ok().filter(|log| log.contains("secret"))).unwrap();
    // The log is followed again after a scan of all folders (5 s) and the rest of a quiet log.
    let before = wait::patiently(LIMIT, checkpoints).unwrap();
    wait::patiently(LIMIT, || checkpoints().filter(|now| *now > before + 15.0)).unwrap();
    bed.kubectl.run(&["annotate", "pod", "private", "labhands.dev/logs-"]).unwrap();
    bed.kubectl.run(&["exec", "private", "--", "touch", "/tmp/more"]).unwrap();
    let public = bed.wait("a public line", |event| {
        (pod(event) == "private" && message(event).starts_with("public")).then(|| message(event).to_owned())
    });
    assert_eq!(bed.count("private", "secret"), 0);
    public
}

fn a_new_shipper_sends_no_line_again(bed: &Bed, public: &str) {
    let old = bed.shipper();
    bed.kubectl.run(&["-n", "labhands-node", "delete", "pod", &old]).unwrap();
    bed.is_ready();
    bed.run("newcomer", "echo after the restart; sleep 1000", &json!({}));
    bed.event("newcomer", "after the restart");
    for (pod, message) in [("talker", "hello"), ("leaver", "goodbye"), ("private", public)] {
        assert_eq!(bed.count(pod, message), 1, "{pod}: {message}");
    }
}

fn lines_continue_without_the_api_server(bed: &mut Bed) {
    let ticks =
        |bed: &Bed| bed.consumer.seen().events.iter().filter(|event| message(event).starts_with("tick-")).count();
    bed.cluster.stop_api_server();
    let before = ticks(bed);
    wait::patiently(LIMIT, || (ticks(bed) > before + 3).then_some(())).unwrap();
    bed.cluster.start_api_server().unwrap();
}

fn the_shippers_own_log_is_not_shipped(bed: &Bed) {
    let seen = bed.consumer.seen();
    // Lines of an earlier shipper may come once; that is no loop.
    let own = bed.shipper();
    assert!(seen.events.iter().all(|event| pod(event) != own));
    // They have the node's name, whichever pod shipped them.
    let named = |event: &Value| event["agent"]["name"] == event["kubernetes"]["node"]["name"];
    assert!(seen.events.iter().all(named));
}

fn pod(event: &Value) -> &str {
    event["kubernetes"]["pod"]["name"].as_str().unwrap_or_default()
}

fn message(event: &Value) -> &str {
    event["message"].as_str().unwrap_or_default()
}

impl Bed {
    fn start() -> Self {
        let broker = RabbitMq::start().unwrap();
        exchange::declare(broker.address(), &[]);
        let consumer = Consumer::of_everything(broker.address());
        let mut cluster = Cluster::start(1).unwrap();
        let image = Image::busybox().unwrap().push(cluster.registry(), "busybox", "1").unwrap();
        let image = format!("{}/{}:{}", cluster.registry_host(), image.repository, image.tag);
        let url = format!("amqp://{}/%2f", cluster.expose(broker.address()).unwrap());
        let settings = [
            ("AMQP_URL", url.as_str()),
            ("AMQP_USERNAME", USER),
            ("AMQP_PASSWORD_FILE", "/etc/labhands/amqp/password"),
            ("LOG_OPT_OUT", "true"),
        ];
        let secret = format!(
            "secretGenerator:\n- {{name: amqp, namespace: labhands-node, literals: [\"password={PASSWORD}\"], \
             options: {{disableNameSuffixHash: true}}}}\n"
        );
        let programs = [env!("CARGO_BIN_EXE_log-shipper")];
        let install = Install {
            overlay: "log-shipper",
            programs: &programs,
            settings: &settings,
            more: &secret,
            ..Install::default()
        };
        cluster.install(&install).unwrap();
        let bed = Self { consumer, kubectl: cluster.kubectl(), image, cluster, _broker: broker };
        bed.is_ready();
        bed
    }

    fn is_ready(&self) {
        let ready = ["-n", "labhands-node", "rollout", "status", "daemonset/log-shipper", "--timeout=300s"];
        if let Err(error) = self.kubectl.run(&ready) {
            let asked = [["describe", "pods"], ["logs", "--tail=30"]];
            let logs = asked.map(|ask| self.kubectl.run(&[&ask[..], &SHIPPER].concat()).unwrap_or_default());
            panic!("{error}\n{}", logs.join("\n"));
        }
    }

    fn run(&self, name: &str, script: &str, annotations: &Value) {
        let object = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "labels": {"example.org/app": name}, "annotations": annotations},
            "spec": {"terminationGracePeriodSeconds": 5,
                "containers": [{"name": "main", "image": self.image, "command": ["/bin/sh", "-c", script]}]},
        });
        self.kubectl.apply(&object.to_string()).unwrap();
    }

    fn shipper(&self) -> String {
        let name = ["get", "pods", "-o", "jsonpath={.items[0].metadata.name}"];
        self.kubectl.run(&[&name[..], &SHIPPER].concat()).unwrap()
    }

    fn metric(&self, name: &str) -> Option<f64> {
        let path = format!("/api/v1/namespaces/labhands-node/pods/{}:8080/proxy/metrics", self.shipper());
        let text = self.kubectl.run(&["get", "--raw", &path]).ok()?;
        text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
    }

    fn wait<T>(&self, what: &str, find: impl Fn(&Value) -> Option<T>) -> T {
        let found = wait::patiently(LIMIT, || self.consumer.seen().events.iter().find_map(&find));
        found.unwrap_or_else(|| {
            let log = self.kubectl.run(&[&["logs", "--tail=30"][..], &SHIPPER].concat()).unwrap_or_default();
            panic!("{what} did not come\n{}\n{log}", self.kubectl.run(&["get", "pods", "-A"]).unwrap_or_default());
        })
    }

    fn event(&self, of: &str, text: &str) -> Value {
        self.wait(&format!("{of}'s {text:?}"), |event| {
            (pod(event) == of && message(event) == text).then(|| event.clone())
        })
    }

    fn count(&self, of: &str, text: &str) -> usize {
        self.consumer.seen().events.iter().filter(|event| pod(event) == of && message(event) == text).count()
    }
}
