use std::ffi::OsString;

use super::*;
use crate::amqp::Auth;
use crate::arguments::Command;

fn run(variables: &[(&str, &str)], in_cluster: bool) -> Result<RunSettings, String> {
    let mut environment: Environment = variables.iter().copied().collect();
    take_over(&mut environment);
    let words = ["log-shipper", "run"].map(OsString::from);
    let Command::Run(run) = sidecar::settings::parse(&environment, words).unwrap() else { panic!("another command") };
    run.settings(in_cluster).map_err(|problems| problems.to_string())
}

fn broker(variables: &[(&str, &str)]) -> BrokerSettings {
    match run(variables, true).unwrap().output {
        Output::Amqp(broker) => *broker,
        other => panic!("{other:?}"),
    }
}

#[test]
fn without_a_broker_events_go_to_stdout_and_in_a_cluster_one_must_be_named() {
    assert!(matches!(run(&[], false).unwrap().output, Output::Stdout));
    assert!(run(&[], true).unwrap_err().starts_with("AMQP_URL: "));
    assert!(matches!(run(&[("OUTPUT", "stdout")], true).unwrap().output, Output::Stdout));
}

#[test]
fn the_predecessors_names_are_accepted() {
    let broker = broker(&[
        ("RABBITMQ_TARGET_HOST", "rabbit.example.org"),
        ("RABBITMQ_TARGET_VHOST", "/logs"),
        ("RABBITMQ_PAN_PASSWORD", "x"),
    ]);
    assert_eq!(broker.addresses[0].host, "rabbit.example.org");
    assert_eq!(broker.endpoint.virtual_host, "/logs");
    assert!(matches!(broker.endpoint.auth, Auth::Password { user, .. } if user == "pan"));
}

#[test]
fn an_old_name_is_used_only_if_the_new_one_is_unset() {
    let warned = |variables: &[(&str, &str)]| take_over(&mut variables.iter().copied().collect()).join("\n");
    assert!(warned(&[("RABBITMQ_TARGET_HOST", "h")]).contains("read as AMQP_URL"));
    let both = warned(&[("RABBITMQ_TARGET_HOST", "h"), ("AMQP_URL", "amqps://x")]);
    assert!(both.contains("ignored because AMQP_URL is set") && !both.contains("taken"), "{both}");
}

#[test]
fn wrong_credentials_are_refused_and_never_shown() {
    for (variables, expected) in [
        (&[("AMQP_URL", "amqp://:secret@h")][..], "AMQP_URL: there is no user before the @"),
        (&[("AMQP_URL", "amqp://nl@h")], "AMQP_PASSWORD: there is a user name"),
        (&[("AMQP_URL", "amqp://h/v?heartbeat=5")], "AMQP_URL: it has a query"),
        (&[("AMQP_URL", "rabbit.example.org")], "AMQP_URL: it has no scheme"),
        (&[("AMQP_URL", "amqp://u:12#secret@h")], "AMQP_URL: an @ comes after"),
        (&[("AMQP_URL", "amqp://h"), ("AMQP_TLS_SERVER_NAME", "x")], "AMQP_TLS_SERVER_NAME: "),
        (&[("AMQP_URL", "amqp://h"), ("AMQP_ROUTING_KEY", "{x}")], "AMQP_ROUTING_KEY: {x} is none of"),
    ] {
        let error = run(variables, true).unwrap_err();
        assert!(error.contains(expected) && !error.contains("secret"), "{error}");
    }
}

#[test]
fn a_newline_at_the_end_of_a_value_is_not_part_of_it() {
    let broker = broker(&[
        ("AMQP_URL", "amqp://h/v\n"),
        ("AMQP_USERNAME", "u\r\n"),
        ("AMQP_PASSWORD", "secret\n"),
        ("AMQP_EXCHANGE", "logs\n"),
        ("AMQP_ROUTING_KEY", "key\n"),
    ]);
    let Auth::Password { user, password } = &broker.endpoint.auth else { panic!("no password") };
    assert_eq!((user.as_str(), password.read().unwrap().expose()), ("u", "secret"));
    assert_eq!((broker.endpoint.virtual_host.as_str(), broker.endpoint.exchange.as_str()), ("v", "logs"));
    assert_eq!(broker.endpoint.routing_key, crate::amqp::RoutingKey::parse("key").unwrap());
    // Otherwise its own log would not be recognized.
    let settings = run(&[("POD_UID", "8c1f\n"), ("NODE_NAME", "node-1\n"), ("STATE_DIR", "/state\n")], false).unwrap();
    assert_eq!((settings.pod_uid.as_deref(), settings.node_name.as_deref()), (Some("8c1f"), Some("node-1")));
    assert_eq!(settings.logs.state_dir, Path::new("/state"));
}

#[test]
fn the_default_exchange_has_a_name_in_settings() {
    assert_eq!(broker(&[("AMQP_URL", "amqp://h"), ("AMQP_EXCHANGE", "default")]).endpoint.exchange, "");
    assert_eq!(broker(&[("AMQP_URL", "amqp://h")]).endpoint.exchange, "logstash-exchange");
}

#[test]
fn a_certificate_alone_authenticates() {
    let certificate = [("AMQP_URL", "amqps://h"), ("AMQP_CERT_FILE", "/c"), ("AMQP_KEY_FILE", "/k")];
    assert!(matches!(broker(&certificate).endpoint.auth, Auth::Certificate));
    let problems =
        run(&[("AMQP_URL", "amqp://h"), ("AMQP_CERT_FILE", "/c"), ("AMQP_KEY_FILE", "/k")], true).unwrap_err();
    assert!(problems.contains("needs TLS"), "{problems}");
}

#[test]
fn every_problem_is_named() {
    let problems = run(
        &[
            ("LOG_PATHS", "logs"),
            ("EVENT_SCHEMA", "xml"),
            ("EXCLUDE_LINES", "("),
            ("MULTILINE", "cobol"),
            ("MAX_LINE", "9GiB"),
            ("JSON_LINES", "maybe"),
            ("LINES_PER_SECOND", "0"),
            ("LOG_LABELS", "tier in front"),
            ("LOG_LABELS_EXCLUDED", "=x"),
            ("BATCH", "some"),
            ("AMQP_URL", "http://h"),
            ("AMQP_WINDOW", "0"),
        ],
        false,
    )
    .unwrap_err();
    for name in ["JSON_LINES", "LINES_PER_SECOND", "LOG_LABELS", "LOG_LABELS_EXCLUDED"] {
        assert!(problems.contains(&format!("{name}: ")), "{name} in {problems}");
    }
    for name in
        ["LOG_PATHS", "EVENT_SCHEMA", "EXCLUDE_LINES", "MULTILINE", "MAX_LINE", "BATCH", "AMQP_URL", "AMQP_WINDOW"]
    {
        assert!(problems.contains(&format!("{name}: ")), "{name} in {problems}");
    }
}

#[test]
fn a_list_of_folders_has_at_least_one() {
    for paths in [",", " ", " , "] {
        let problems = run(&[("LOG_PATHS", paths)], false).unwrap_err();
        assert!(problems.contains("LOG_PATHS: it names no folder"), "{problems}");
    }
}

#[test]
fn a_namespace_is_a_name_and_not_a_pattern() {
    for setting in ["LOG_NAMESPACES", "LOG_NAMESPACES_EXCLUDED"] {
        for names in ["prod-*", "a,B", "a b", "a;b", "/", "a_b", "!a"] {
            let problems = run(&[(setting, names)], false).unwrap_err();
            assert!(problems.contains(&format!("{setting}: ")), "{problems}");
        }
        assert!(run(&[(setting, "a, kube-system,1")], false).is_ok());
    }
}

#[test]
fn a_password_is_never_shown() {
    let settings = run(&[("AMQP_URL", "amqp://u:hunter2@h")], true).unwrap();
    assert!(!format!("{settings:?}").contains("hunter2"));
}
