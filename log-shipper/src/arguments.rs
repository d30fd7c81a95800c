//! The flags and variables, as strings with help. `settings.rs` parses them.

use clap::{Args, Parser};
use sidecar::admin::AdminArguments;
use sidecar::log::LogArguments;

/// Ships every container's log to RabbitMQ, each line at least once.
#[derive(Debug, Parser)]
#[command(name = "log-shipper", version)]
pub enum Command {
    /// Read the logs of this node's containers and ship them
    Run(Box<RunArguments>),
    /// Show up to which line each log file was shipped
    Status(Box<StatusArguments>),
    /// Test the connection to the broker step by step, as run opens it; exit code 0 if everything works, 1 if not
    Check(Box<CheckArguments>),
}

/// `log-shipper run`.
#[derive(Args, Clone, Debug)]
pub struct RunArguments {
    /// Ship the lines that exist now and exit; exit code 0 once the broker has confirmed all of them
    #[arg(long)]
    pub until_idle: bool,
    /// With --until-idle: exit with code 1 if nothing was read or confirmed for this long; the next run ships what was
    /// not confirmed
    #[arg(long, value_name = "TIME", default_value = "2m", requires = "until_idle")]
    pub give_up_after: String,
    #[command(flatten)]
    pub(crate) logs: LogsArguments,
    #[command(flatten)]
    pub(crate) lines: LinesArguments,
    #[command(flatten)]
    pub(crate) events: EventArguments,
    #[command(flatten)]
    pub(crate) broker: BrokerArguments,
    #[command(flatten)]
    pub(crate) admin: AdminArguments,
    #[command(flatten)]
    pub(crate) log: LogArguments,
}

/// `log-shipper status`.
#[derive(Args, Clone, Debug)]
pub struct StatusArguments {
    #[command(flatten)]
    pub(crate) logs: LogsArguments,
    #[command(flatten)]
    pub(crate) log: LogArguments,
}

/// `log-shipper check`.
#[derive(Args, Clone, Debug)]
pub struct CheckArguments {
    /// Skip the last two steps, which publish a test message
    #[arg(long)]
    pub no_publish: bool,
    #[command(flatten)]
    pub(crate) broker: BrokerArguments,
    #[command(flatten)]
    pub(crate) log: LogArguments,
}

/// Which logs are followed, and where the checkpoint is.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Logs")]
pub struct LogsArguments {
    /// Folders with logs, comma-separated [default: /var/log/pods and, if it exists, /var/lib/docker/containers]
    #[arg(long, env = "LOG_PATHS", value_name = "FOLDERS")]
    pub log_paths: Option<String>,
    /// Folder of the checkpoint; it must survive restarts
    #[arg(long, env = "STATE_DIR", value_name = "FOLDER", default_value = "/var/lib/log-shipper")]
    pub state_dir: String,
    /// Where to start reading without a checkpoint: beginning or end
    #[arg(long, env = "READ_FROM", value_name = "PLACE", default_value = "beginning")]
    pub read_from: String,
    /// Follow only these Kubernetes namespaces, comma-separated
    #[arg(long, env = "LOG_NAMESPACES", value_name = "NAMES")]
    pub log_namespaces: Option<String>,
    /// Never follow these Kubernetes namespaces, comma-separated
    #[arg(long, env = "LOG_NAMESPACES_EXCLUDED", value_name = "NAMES")]
    pub log_namespaces_excluded: Option<String>,
    /// Skip pods with the annotation labhands.dev/logs: "off"; the log of a new pod then waits up to 10 s for its annotations
    #[arg(long, env = "LOG_OPT_OUT", value_name = "SWITCH", default_value = "false")]
    pub log_opt_out: String,
    /// Follow only pods and Docker containers with these labels, such as app=web,tier in (a,b),!debug
    #[arg(long, env = "LOG_LABELS", value_name = "SELECTOR")]
    pub log_labels: Option<String>,
    /// Never follow pods and Docker containers with these labels
    #[arg(long, env = "LOG_LABELS_EXCLUDED", value_name = "SELECTOR")]
    pub log_labels_excluded: Option<String>,
    /// Disk space that deleted log files may occupy until they are read
    #[arg(long, env = "PINNED_BYTES_MAX", value_name = "SIZE", default_value = "2GiB")]
    pub pinned_bytes_max: String,
    /// Number of threads that read, parse and encode
    #[arg(long, env = "READER_THREADS", value_name = "COUNT", default_value = "1")]
    pub reader_threads: String,
}

/// How lines are processed.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Lines")]
pub struct LinesArguments {
    /// Drop lines that match one of these regular expressions; separate them by newlines, or by commas outside brackets
    #[arg(long, env = "EXCLUDE_LINES", value_name = "REGEXES")]
    pub exclude_lines: Option<String>,
    /// Parse lines that are JSON objects into fields below the key json (in the legacy schema json.fields): on or off
    #[arg(long, env = "JSON_LINES", value_name = "SWITCH", default_value = "off")]
    pub json_lines: String,
    /// Maximum lines per second per container; lines beyond it are dropped and counted; or off
    #[arg(long, env = "LINES_PER_SECOND", value_name = "COUNT", default_value = "off")]
    pub lines_per_second: String,
    /// Join each stack trace into one event, for these languages: java, python, go, comma-separated; or off
    #[arg(long, env = "MULTILINE", value_name = "LANGUAGES", default_value = "off")]
    pub multiline: String,
    /// Maximum length of a line; longer lines are cut and marked
    #[arg(long, env = "MAX_LINE", value_name = "SIZE", default_value = "1MiB")]
    pub max_line: String,
    /// Memory limit for incomplete lines; above it, they are dropped from memory and read again from the file later
    #[arg(long, env = "PARTIAL_BYTES_MAX", value_name = "SIZE", default_value = "8MiB")]
    pub partial_bytes_max: String,
}

/// The format of events.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Events")]
pub struct EventArguments {
    /// ecs (Elastic Common Schema) or legacy (Filebeat 5 through Logstash 5)
    #[arg(long, env = "EVENT_SCHEMA", value_name = "SCHEMA", default_value = "ecs")]
    pub event_schema: String,
    /// Name of this shipper in events [default: NODE_NAME, or else the host name]
    #[arg(long, env = "SHIPPER_NAME", value_name = "NAME")]
    pub shipper_name: Option<String>,
    /// Name of the Kubernetes node, for events; in a cluster log-shipper also watches the node's pods for their labels
    #[arg(long, env = "NODE_NAME", value_name = "NAME")]
    pub node_name: Option<String>,
    /// UID of the pod that log-shipper runs in; its own log is not shipped [default: found from its mounts and cgroup]
    #[arg(long, env = "POD_UID", value_name = "UID")]
    pub pod_uid: Option<String>,
    /// Maximum number of events in one message, as a JSON array; off sends one event per message
    #[arg(long, env = "BATCH", value_name = "COUNT", default_value = "off")]
    pub batch: String,
    /// amqp, stdout (JSON lines), or null, which confirms everything [default: amqp, and stdout outside a cluster without
    /// AMQP_URL]
    #[arg(long, env = "OUTPUT", value_name = "OUTPUT")]
    pub output: Option<String>,
}

/// The destination of events.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "RabbitMQ")]
pub struct BrokerArguments {
    /// Brokers: amqps://HOST[:PORT][,HOST[:PORT]…][/VHOST]; amqp:// without TLS
    #[arg(long, env = "AMQP_URL", value_name = "URL", hide_env_values = true)]
    pub amqp_url: Option<String>,
    /// User name for the broker
    #[arg(long, env = "AMQP_USERNAME", value_name = "NAME")]
    pub amqp_username: Option<String>,
    /// Password of the user
    #[arg(long, env = "AMQP_PASSWORD", value_name = "PASSWORD", hide_env_values = true)]
    pub amqp_password: Option<String>,
    /// File with the password of the user; it is read again for each connection
    #[arg(long, env = "AMQP_PASSWORD_FILE", value_name = "FILE")]
    pub amqp_password_file: Option<String>,
    /// Client certificate (PEM); without AMQP_USERNAME it also authenticates the client (SASL EXTERNAL)
    #[arg(long, env = "AMQP_CERT_FILE", value_name = "FILE")]
    pub amqp_cert_file: Option<String>,
    /// Private key of the client certificate (PEM)
    #[arg(long, env = "AMQP_KEY_FILE", value_name = "FILE")]
    pub amqp_key_file: Option<String>,
    /// Host name that the broker's certificate must be valid for, if it is not the host in AMQP_URL
    #[arg(long, env = "AMQP_TLS_SERVER_NAME", value_name = "NAME")]
    pub amqp_tls_server_name: Option<String>,
    /// Name of the exchange, which must exist; "default" is the default exchange, where the routing key is the name of a queue
    #[arg(long, env = "AMQP_EXCHANGE", value_name = "NAME", default_value = "logstash-exchange")]
    pub amqp_exchange: String,
    /// Routing key of every message; it may contain {namespace}, {pod} and {container}, for example
    /// logs.{namespace}.{container}
    #[arg(long, env = "AMQP_ROUTING_KEY", value_name = "KEY", default_value = "logstash")]
    pub amqp_routing_key: String,
    /// Exchange for messages that are too large or that the broker refused or returned five times; it must exist
    /// [default: retry them forever, and cut those that are too large]
    #[arg(long, env = "AMQP_DEAD_LETTER_EXCHANGE", value_name = "NAME")]
    pub amqp_dead_letter_exchange: Option<String>,
    /// Maximum number of messages that wait for a confirm
    #[arg(long, env = "AMQP_WINDOW", value_name = "COUNT", default_value = "500")]
    pub amqp_window: String,
    /// Maximum number of bytes of events that are read but not confirmed yet
    #[arg(long, env = "AMQP_WINDOW_BYTES", value_name = "SIZE", default_value = "2MiB")]
    pub amqp_window_bytes: String,
    /// Close the connection when a confirm takes longer than this
    #[arg(long, env = "AMQP_CONFIRM_TIMEOUT", value_name = "TIME", default_value = "60s")]
    pub amqp_confirm_timeout: String,
    /// AMQP heartbeat interval
    #[arg(long, env = "AMQP_HEARTBEAT", value_name = "TIME", default_value = "30s")]
    pub amqp_heartbeat: String,
}
