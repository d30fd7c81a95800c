//! The definitions and accounts of `manifests/components/logs-receiver`, on a real broker.
#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use testbed::folder::Folder;
use testbed::rabbitmq::RabbitMq;

/// What one account does through `amqp-tools`; the message is what it publishes.
fn amqp(broker: &RabbitMq, account: [&str; 2], tool: &str, arguments: &[&str], message: &str) -> Output {
    let [name, password] = account;
    let mut run = Command::new(tool);
    run.args(["--server", "127.0.0.1", "--port", &broker.address().port().to_string()]);
    run.args(["--username", name, "--password", password]).args(arguments);
    let mut child = run.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(message.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn one_account_writes_to_one_exchange_and_another_reads() {
    let broker = RabbitMq::start().unwrap();
    let files = Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests/components/logs-receiver");
    let definitions = files.join("definitions.json");
    let folder = Folder::new("receiver").unwrap();
    let secret = |name: &str, text: &str| folder.write(name, text).unwrap();
    let (ours, theirs) = (secret("shipper", "one\r\n"), secret("logstash", "two"));
    let accounts = || {
        let mut run = Command::new("sh");
        run.arg(files.join("accounts.sh")).args([&ours, &theirs]);
        let done = run.env("RABBITMQCTL", broker.control_program().unwrap()).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    };
    // Twice, because it must be safe to repeat.
    for _ in 0..2 {
        broker.control(&["import_definitions", definitions.to_str().unwrap()]).unwrap();
        accounts();
    }
    let (shipper, logstash) = (["log-shipper", "one"], ["logstash", "two"]);

    let publish = |exchange: &str, key: &str| {
        let to = ["--exchange", exchange, "--routing-key", key];
        // A message with this property is persistent.
        amqp(&broker, shipper, "amqp-publish", &[&to[..], &["--persistent"]].concat(), "a line").status.success()
    };
    assert!(publish("logstash-exchange", "logstash"));
    assert!(publish("logstash-exchange", "logs.jupyter.notebook"));
    let counts = || broker.control(&["list_queues", "name", "messages_ready", "type"]).unwrap();
    testbed::wait::patiently(testbed::wait::LIMIT, || counts().contains("logstash\t2\tquorum").then_some(()))
        .unwrap_or_else(|| panic!("{}", counts()));

    // The account may not write elsewhere, read or declare anything.
    publish("logstash-dead", "");
    assert!(!amqp(&broker, shipper, "amqp-get", &["--queue", "logstash"], "").status.success());
    assert!(!amqp(&broker, shipper, "amqp-declare-queue", &["--queue", "mine"], "").status.success());
    assert!(!amqp(&broker, ["log-shipper", "two"], "amqp-get", &["--queue", "logstash"], "").status.success());
    assert!(counts().contains("logstash-dead\t0"), "{}", counts());

    let read = amqp(&broker, logstash, "amqp-get", &["--queue", "logstash"], "");
    assert_eq!(String::from_utf8_lossy(&read.stdout), "a line");
    assert!(!amqp(&broker, logstash, "amqp-declare-queue", &["--queue", "mine"], "").status.success());
}
