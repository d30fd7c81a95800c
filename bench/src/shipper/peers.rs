//! log-shipper and its peers: how each is started on the same files, broker and exchange, one persistent message per line.
//!
//! None of the peers waits for the broker's confirms. How they are built: `bench/peers/build`.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::broker::{EXCHANGE, PASSWORD, ROUTING_KEY, Tls, USER};
use super::by_lapin;
use crate::measure::{command, program};

/// A program that ships lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shipper {
    /// Ours: `ecs` events, every one confirmed.
    Own,
    /// Ours with `BATCH=on`.
    OwnBatch,
    /// Ours over TLS.
    OwnTls,
    /// A publisher on lapin with confirms, and nothing else.
    Lapin,
    /// rsyslog over TLS.
    RsyslogTls,
    /// rsyslog's imfile and omrabbitmq: the CRI fields and the file's name as JSON.
    Rsyslog,
    /// syslog-ng's wildcard-file and amqp: the same.
    SyslogNg,
    /// Telegraf's tail and amqp: the same, with batches of one, which is its only way to send a message per line.
    Telegraf,
    /// `amqp-publish -l` reads lines from a pipe and publishes them as they are: a C client alone.
    AmqpPublish,
}

pub(super) const ALL: [Shipper; 9] = [
    Shipper::Own,
    Shipper::Lapin,
    Shipper::Rsyslog,
    Shipper::SyslogNg,
    Shipper::Telegraf,
    Shipper::AmqpPublish,
    Shipper::OwnBatch,
    Shipper::OwnTls,
    Shipper::RsyslogTls,
];

/// The source and the destination, the same for all.
#[derive(Clone, Debug)]
pub(super) struct Task {
    /// The folder of log files.
    pub(super) logs: PathBuf,
    /// The broker, or a proxy in front of it.
    pub(super) broker: SocketAddr,
    /// The broker over TLS.
    pub(super) tls: Tls,
    /// The folder with the built peers.
    pub(super) peers: PathBuf,
}

/// Builds the peers unless they are built; the first time takes minutes.
pub(super) fn build() -> Result<PathBuf> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/build");
    let output = Command::new(&script).stderr(std::process::Stdio::inherit()).output().context("start peers/build")?;
    if !output.status.success() {
        bail!("peers/build ended with {}", output.status);
    }
    Ok(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()))
}

impl Shipper {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Own => "log-shipper",
            Self::OwnBatch => "log-shipper, BATCH=on",
            Self::OwnTls => "log-shipper, TLS",
            Self::Lapin => "a publisher on lapin alone, 500 in flight",
            Self::RsyslogTls => "rsyslog 8.2302, TLS",
            Self::Rsyslog => "rsyslog 8.2302 built with omrabbitmq",
            Self::SyslogNg => "syslog-ng 3.38",
            Self::Telegraf => "Telegraf 1.37",
            Self::AmqpPublish => "amqp-publish -l, fed by cat",
        }
    }

    /// Whether it waits for confirms.
    pub(super) fn confirms(self) -> bool {
        matches!(self, Self::Own | Self::OwnBatch | Self::OwnTls | Self::Lapin)
    }

    /// Whether it ends once all lines are shipped.
    pub(super) fn ends(self) -> bool {
        self.confirms() || self == Self::AmqpPublish
    }

    /// The command, with its configuration and state in `state`; `ends` says whether it ends once all lines are shipped.
    pub(super) fn command(self, task: &Task, state: &Path, ends: bool) -> Result<Command> {
        fs::create_dir_all(state)?;
        let in_state = |name: &str| state.join(name).display().to_string();
        let write = |name: &str, text: String| fs::write(state.join(name), text).map(|()| in_state(name));
        let (logs, port, peers) = (task.logs.display(), task.broker.port(), task.peers.display());
        Ok(match self {
            Self::Own | Self::OwnBatch | Self::OwnTls => {
                let url = match self {
                    Self::OwnTls => format!("amqps://localhost:{}/%2f", task.tls.port),
                    _ => format!("amqp://{}/%2f", task.broker),
                };
                let (state, authority) = (state.display().to_string(), task.tls.authority.display().to_string());
                let settings = [
                    ("SSL_CERT_FILE", authority),
                    ("LOG_PATHS", logs.to_string()),
                    ("STATE_DIR", state),
                    ("AMQP_URL", url),
                    ("AMQP_USERNAME", USER.into()),
                    ("AMQP_PASSWORD", PASSWORD.into()),
                    ("SHIPPER_NAME", "bench".into()),
                    ("BATCH", if self == Self::OwnBatch { "on" } else { "off" }.into()),
                ];
                let settings: Vec<_> = settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
                let words: &[&str] = if ends { &["run", "--until-idle"] } else { &["run"] };
                command(program("log-shipper")?, words, &settings)
            }
            Self::Lapin => {
                let (logs, broker) = (logs.to_string(), task.broker.to_string());
                command(std::env::current_exe()?, &[by_lapin::COMMAND, &logs, &broker], &[])
            }
            Self::Rsyslog | Self::RsyslogTls => {
                fs::create_dir_all(state.join("work"))?;
                let modules = format!("{peers}/rsyslog/lib/rsyslog");
                let (port, tls) = match self {
                    Self::RsyslogTls => {
                        let authority = task.tls.authority.display();
                        (task.tls.port, format!(r#"ssl="on" verify_peer="on" ca_cert="{authority}""#))
                    }
                    _ => (port, String::new()),
                };
                let configuration =
                    write("rsyslog.conf", rsyslog(&logs.to_string(), port, &in_state("work"), &modules, &tls))?;
                let mut command = Command::new(task.peers.join("rsyslog/sbin/rsyslogd"));
                command.args(["-n", "-f", &configuration, "-M", &modules, "-i", &in_state("pid")]);
                command
            }
            Self::SyslogNg => {
                let configuration = write("syslog-ng.conf", syslog_ng(&logs.to_string(), port))?;
                let mut command = Command::new("/usr/sbin/syslog-ng");
                command.args(["-F", "--no-caps", "-f", &configuration, "--persist-file", &in_state("persist")]);
                command.args(["--control", &in_state("control"), "--pidfile", &in_state("pid")]);
                command
            }
            Self::Telegraf => {
                let configuration = write("telegraf.toml", telegraf(&logs.to_string(), port, &in_state("state.json")))?;
                let mut command = Command::new(task.peers.join("telegraf"));
                command.args(["--config", &configuration]);
                command
            }
            Self::AmqpPublish => {
                let mut command = Command::new("sh");
                let script = "cat \"$1\"/*/*/*.log | amqp-publish --server=127.0.0.1 --port=\"$2\" --username=\"$3\" \
                              --password=\"$4\" --exchange=\"$5\" --routing-key=\"$6\" --persistent --line-buffered";
                command.args([
                    "-c",
                    script,
                    "sh",
                    &logs.to_string(),
                    &port.to_string(),
                    USER,
                    PASSWORD,
                    EXCHANGE,
                    ROUTING_KEY,
                ]);
                command
            }
        })
    }
}

fn rsyslog(logs: &str, port: u16, work: &str, modules: &str, tls: &str) -> String {
    format!(
        r#"global(workDirectory="{work}" maxMessageSize="64k")
main_queue(queue.type="LinkedList" queue.size="100000" queue.dequeueBatchSize="1024" queue.workerThreads="1")
module(load="{modules}/imfile.so" mode="inotify")
module(load="{modules}/omrabbitmq.so")
input(type="imfile" File="{logs}/*/*/*.log" Tag="cri" ruleset="ship" addMetadata="on" freshStartTail="off" persistStateInterval="10000"
  PersistStateAfterSubmission="on" reopenOnTruncate="on")
template(name="body" type="list") {{
  constant(value="{{\"time\":\"") property(name="msg" field.number="1" field.delimiter="32")
  constant(value="\",\"stream\":\"") property(name="msg" field.number="2" field.delimiter="32")
  constant(value="\",\"file\":\"") property(name="$!metadata!filename" format="json")
  constant(value="\",\"message\":\"") property(name="msg" position.from="41" format="json") constant(value="\"}}")
}}
ruleset(name="ship" queue.type="Direct") {{
  action(type="omrabbitmq" host="127.0.0.1" port="{port}" virtual_host="/" user="{USER}" password="{PASSWORD}" exchange="{EXCHANGE}"
    routing_key="{ROUTING_KEY}" body_template="body" content_type="application/json" delivery_mode="2" heartbeat_interval="60"
    action.resumeRetryCount="-1" action.resumeInterval="2" {tls})
}}
"#
    )
}

fn syslog_ng(logs: &str, port: u16) -> String {
    format!(
        r#"@version: 3.38
options {{ threaded(yes); stats-freq(0); keep-hostname(yes); use-dns(no); log-msg-size(65536); time-reopen(2); }};
source s_pods {{
  wildcard-file(base-dir("{logs}") filename-pattern("*.log") recursive(yes) flags(no-parse) max-files(100) follow-freq(1)
    log-iw-size(100000) log-fetch-limit(1000));
}};
parser p_cri {{ csv-parser(columns(".cri.time", ".cri.stream", ".cri.flag", ".cri.msg") delimiters(" ") flags(greedy)); }};
destination d_amqp {{
  amqp(host("127.0.0.1") port({port}) vhost("/") username("{USER}") password("{PASSWORD}") exchange("{EXCHANGE}")
    exchange-type("direct") exchange-declare(no) routing-key("{ROUTING_KEY}") persistent(yes) frame-size(131072) max-channel(1)
    body("$(format-json time=${{.cri.time}} stream=${{.cri.stream}} file=${{FILE_NAME}} message=${{.cri.msg}})")
    value-pairs(scope(none)) log-fifo-size(200000));
}};
log {{ source(s_pods); parser(p_cri); destination(d_amqp); flags(flow-control); }};
"#
    )
}

fn telegraf(logs: &str, port: u16, state: &str) -> String {
    format!(
        r#"[agent]
  interval = "10s"
  flush_interval = "1s"
  flush_jitter = "0s"
  metric_batch_size = 1
  metric_buffer_limit = 100000
  omit_hostname = true
  skip_processors_after_aggregators = true
  statefile = "{state}"
[[inputs.tail]]
  files = ["{logs}/*/*/*.log"]
  initial_read_offset = "saved-or-beginning"
  max_undelivered_lines = 100000
  data_format = "grok"
  grok_patterns = ['%{{TIMESTAMP_ISO8601:time:ts-rfc3339}} %{{WORD:stream:tag}} %{{WORD:flag:tag}} %{{GREEDYDATA:message}}']
[[outputs.amqp]]
  brokers = ["amqp://127.0.0.1:{port}/"]
  username = "{USER}"
  password = "{PASSWORD}"
  exchange = "{EXCHANGE}"
  exchange_type = "direct"
  exchange_durability = "durable"
  routing_key = "{ROUTING_KEY}"
  delivery_mode = "persistent"
  data_format = "json"
"#
    )
}
