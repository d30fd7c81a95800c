//! `log-shipper check` against a real RabbitMQ: its output if everything works, and for each kind of failure.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod support;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Command;

use lapin::options::{BasicGetOptions, QueuePurgeOptions};
use lapin::types::FieldTable;
use support::exchange::{self, EXCHANGE, QUEUE, ROUTING_KEY};
use testbed::rabbitmq::{PASSWORD, RabbitMq, USER};

/// Exit code, and what it printed.
fn check(settings: &[(&str, &str)], arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_log-shipper"));
    command.arg("check").args(arguments).env_clear();
    command.env("AMQP_USERNAME", USER).env("AMQP_PASSWORD", PASSWORD);
    let output = command.envs(settings.iter().copied()).output().unwrap();
    let printed = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.code(), printed)
}

#[test]
fn each_step_is_printed_and_the_first_failure_with_advice() {
    let broker = RabbitMq::start().unwrap();
    exchange::declare(broker.address(), &[]);
    let [authority, certificate, key] = broker.client_files().map(|path| path.display().to_string());
    let plain = format!("amqp://{}/%2f", broker.address());
    let tls = format!("amqps://localhost:{}/%2f", broker.tls_address().port());
    let wrong_way = [format!("amqps://{}/%2f", broker.address()), format!("amqp://{}/%2f", broker.tls_address())];
    let other_host = format!("amqp://{}/elsewhere", broker.address());
    let http = format!("amqp://{}/%2f", answers(b"HTTP/1.1 400 Bad Request\r\n\r\n"));

    let all = ["name", "address", "login", "virtual host", "exchange", "routing", "confirm"];
    let (code, output) = check(&[("AMQP_URL", &plain)], &[]);
    assert_eq!(code, Some(0), "{output}");
    let steps: Vec<_> = output.lines().filter(|line| line.starts_with("    ok  ")).collect();
    assert!(steps.len() == 7 && steps.iter().zip(all).all(|(line, step)| line[8..].starts_with(step)), "{output}");
    assert!(steps.iter().all(|line| line.ends_with(" ms)")), "{output}");
    exchange::with_channel(broker.address(), async |channel| {
        let message = channel.basic_get(QUEUE.into(), BasicGetOptions { no_ack: true }).await?.unwrap();
        let event: serde_json::Value = serde_json::from_slice(&message.data).unwrap();
        assert_eq!(event["log"]["flags"], serde_json::json!(["check"]));
        let headers = message.properties.headers().clone().unwrap();
        assert_eq!(headers.inner().len(), 3);
        Ok(())
    });
    let (code, output) = check(&[("AMQP_URL", &plain)], &["--no-publish"]);
    assert!(code == Some(0) && output.contains("routing and confirms were not checked"), "{output}");
    assert_eq!(exchange::queued(broker.address()), 0);
    // The default exchange, and TLS with another name than the host's.
    let by_default = [("AMQP_URL", plain.as_str()), ("AMQP_EXCHANGE", "default"), ("AMQP_ROUTING_KEY", QUEUE)];
    assert_eq!(check(&by_default, &[]).0, Some(0));
    let by_address = tls.replace("localhost", "127.0.0.1");
    let by_name =
        [("AMQP_URL", by_address.as_str()), ("SSL_CERT_FILE", &authority), ("AMQP_TLS_SERVER_NAME", "localhost")];
    let (code, output) = check(&by_name, &[]);
    assert!(code == Some(0) && output.contains("ok  TLS           localhost, TLSv1"), "{output}");

    let other_name =
        [("AMQP_URL", tls.as_str()), ("SSL_CERT_FILE", &authority), ("AMQP_TLS_SERVER_NAME", "other.example")];
    let with_files = |certificate: &str, key: &str| {
        let [certificate, key] = [certificate, key].map(str::to_owned);
        let (url, authority) = (tls.clone(), authority.clone());
        [("AMQP_URL", url), ("SSL_CERT_FILE", authority), ("AMQP_CERT_FILE", certificate), ("AMQP_KEY_FILE", key)]
    };
    for (certificate, key, with) in [
        (authority.as_str(), key.as_str(), "does not belong to the certificate"),
        (&key, &key, "contains no certificate"),
        (&certificate, &certificate, "contains no private key"),
        ("/nonexistent", &key, "/nonexistent"),
    ] {
        let settings = with_files(certificate, key);
        let settings = settings.each_ref().map(|(name, value)| (*name, value.as_str()));
        let (code, output) = check(&settings, &[]);
        assert!(code == Some(1) && output.contains(with) && output.contains("Check the files in"), "{output}");
    }
    for (settings, failed, with) in [
        (&[("AMQP_URL", plain.as_str()), ("AMQP_PASSWORD", "no-such-secret")][..], "login", "ACCESS_REFUSED"),
        (&[("AMQP_URL", &other_host)], "virtual host", "(user shipper, virtual host elsewhere)"),
        (&[("AMQP_URL", &plain), ("AMQP_EXCHANGE", "absent")], "exchange", "no exchange 'absent'"),
        (&[("AMQP_URL", &plain), ("AMQP_ROUTING_KEY", "absent")], "routing", "no queue is bound"),
        (&[("AMQP_URL", &plain), ("AMQP_EXCHANGE", "default")], "routing", "no queue is bound"),
        (&[("AMQP_URL", &wrong_way[0]), ("SSL_CERT_FILE", &authority)], "TLS", "does not speak TLS"),
        (&[("AMQP_URL", &wrong_way[1])], "login", "the port speaks TLS: use amqps://"),
        (&[("AMQP_URL", &http)], "login", "the port speaks HTTP"),
        (&[("AMQP_URL", &tls)], "TLS", "UnknownIssuer"),
        (&other_name, "TLS", "not valid for name"),
        (&[("AMQP_URL", "amqp://127.0.0.1:1")], "address", "refused"),
        (&[("AMQP_URL", "amqp://no-such-host.invalid")], "name", "no-such-host.invalid"),
    ] {
        let (code, output) = check(settings, &[]);
        assert_eq!(code, Some(1), "{output}");
        let line = output.lines().find(|line| line.starts_with("FAILED")).unwrap_or_else(|| panic!("{output}"));
        assert!(line[8..].starts_with(failed) && line.contains(with), "{settings:?}: {output}");
        assert!(!output.contains("no-such-secret"), "{output}");
    }
    // If one of two hosts can't be used, the check fails, but still tries the other one.
    let two = format!("amqp://127.0.0.1:1,{}/%2f", broker.address());
    let (code, output) = check(&[("AMQP_URL", &two)], &["--no-publish"]);
    assert!(code == Some(1) && output.contains("1 of 2 brokers") && output.contains("ok  exchange"), "{output}");
    assert_eq!(check(&[("AMQP_URL", "rabbit")], &[]).0, Some(64));
    exchange::with_channel(broker.address(), async |channel| {
        channel.queue_purge(QUEUE.into(), QueuePurgeOptions::default()).await?;
        channel.queue_unbind(QUEUE.into(), EXCHANGE.into(), ROUTING_KEY.into(), FieldTable::default()).await
    });
    assert_eq!(check(&[("AMQP_URL", &plain)], &[]).0, Some(1));
    broker.control(&["set_permissions", USER, ".*", "", ""]).unwrap();
    let (code, output) = check(&[("AMQP_URL", &plain)], &[]);
    assert!(code == Some(1) && output.contains("FAILED  confirm       403"), "{output}");
    assert!(output.contains("needs write permission on the exchange"), "{output}");
}

/// Answers every connection with these bytes.
fn answers(bytes: &'static [u8]) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            // Only the shipper's end of the connection is tested.
            let _ = client.read(&mut [0; 8]);
            let _ = client.write_all(bytes);
        }
    });
    address
}
