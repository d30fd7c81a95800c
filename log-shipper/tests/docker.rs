//! Docker's own folder of containers, as a real Docker engine writes it.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod support;

use serde_json::Value;
use support::consumer::Consumer;
use support::exchange;
use testbed::docker::Docker;
use testbed::folder::Folder;
use testbed::images::Image;
use testbed::rabbitmq::RabbitMq;
use testbed::registry::Registry;
use testbed::wait::{self, LIMIT};

/// Runs a container that writes a line to each stream and a long line, which Docker splits. Returns its id.
fn run(docker: &Docker, image: &str, name: &str) -> String {
    let script = "echo out; echo err >&2; head -c 40000 /dev/zero | tr '\\0' x; echo; exec sleep 1000";
    let id = docker.docker(&["run", "-d", "--name", name, "--network", "none", image, "sh", "-c", script]).unwrap();
    id.trim().to_owned()
}

#[test]
fn a_docker_containers_lines_come_with_its_id_name_image_and_stream() {
    let registry = Registry::start().unwrap();
    let image = Image::busybox().unwrap().push(&registry, "owner/name", "one").unwrap().reference;
    let (docker, broker) = (Docker::start().unwrap(), RabbitMq::start().unwrap());
    exchange::declare(broker.address(), &[]);
    let consumer = Consumer::of_everything(broker.address());
    let first = run(&docker, &image, "before");
    let folder = Folder::new("node").unwrap();
    let shipper =
        support::start(&support::settings(&docker.root().join("containers"), &folder.join("state"), broker.address()));
    shipper.until("/output", LIMIT, |status, _| status == 200).unwrap();
    let second = run(&docker, &image, "meanwhile");
    wait::until(LIMIT, || (consumer.seen().events.len() >= 6).then_some(()));
    let seen = consumer.seen();
    assert_eq!(seen.events.len(), 6, "{:#?}", seen.events);
    let long = "x".repeat(40_000);
    for (id, name) in [(first, "before"), (second, "meanwhile")] {
        for (message, stream) in [("out", "stdout"), ("err", "stderr"), (&long, "stdout")] {
            let fits = |event: &&Value| event["container"]["id"] == *id && event["message"] == *message;
            let event = seen.events.iter().find(fits).unwrap_or_else(|| panic!("{name} {message}: {:#?}", seen.events));
            assert_eq!(event["container"]["name"], name);
            assert_eq!(event["container"]["image"]["name"], *image);
            assert_eq!(event["container"]["runtime"], "docker");
            assert_eq!(event["stream"], stream);
        }
    }
}
