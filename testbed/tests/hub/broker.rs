//! The messages that arrive at the broker, printed by a separate program.

use std::fs;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use testbed::folder::Folder;
use testbed::process::Process;
use testbed::rabbitmq::{PASSWORD, RabbitMq, USER};
use testbed::wait::patiently;

const EXCHANGE: &str = "logstash-exchange";

/// The lines that the shipper has sent.
pub(crate) struct Lines {
    _consumer: Process,
    folder: Folder,
}

impl Lines {
    /// The lines that arrive from now on.
    pub(crate) fn of(broker: &RabbitMq) -> Lines {
        let folder = Folder::new("lines").unwrap();
        let queue = "lines";
        let definitions = json!({
            "exchanges": [{"name": EXCHANGE, "vhost": "/", "type": "direct", "durable": true, "auto_delete": false,
                "internal": false, "arguments": {}}],
            "queues": [{"name": queue, "vhost": "/", "durable": true, "auto_delete": false, "arguments": {}}],
            "bindings": [{"source": EXCHANGE, "vhost": "/", "destination": queue, "destination_type": "queue",
                "routing_key": "logstash", "arguments": {}}],
        });
        let file = folder.write("definitions.json", definitions.to_string()).unwrap();
        broker.control(&["import_definitions", &file.to_string_lossy()]).unwrap();
        let mut consume = Command::new("amqp-consume");
        let address = broker.address();
        consume.args(["--server", &address.ip().to_string(), "--port", &address.port().to_string()]);
        consume.args(["--username", USER, "--password", PASSWORD, "--queue", queue, "--prefetch-count", "100"]);
        // A script, because the consumer would parse the command's options as its own.
        consume.arg("sh").arg(folder.write("print", "cat; echo").unwrap());
        let consumer = Process::start("amqp-consume", &consume, &folder.join("log")).unwrap();
        Lines { _consumer: consumer, folder }
    }

    /// Waits for a line of this pod's container.
    pub(crate) fn wait_for(&self, limit: Duration, pod: &str, container: &str) -> Value {
        let of_pod = |line: &Value| {
            line["kubernetes"]["pod"]["name"] == pod && line["kubernetes"]["container"]["name"] == container
        };
        let arrived = || {
            let text = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
            text.lines().filter_map(|line| serde_json::from_str(line).ok()).find(of_pod)
        };
        patiently(limit, arrived).unwrap_or_else(|| panic!("no line of {pod} has arrived"))
    }
}
