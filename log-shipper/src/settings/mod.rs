//! Parses the settings from strings to types, and reports all problems together.

mod broker;
mod lines;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sidecar::log::LogSettings;
use sidecar::settings::{Environment, Now, OldName, Problems, values};

pub use self::broker::{BrokerSettings, DEAD_LETTER_AFTER};
pub use self::lines::LinesSettings;
use crate::arguments::{CheckArguments, EventArguments, LogsArguments, RunArguments, StatusArguments};
use crate::encode::Schema;
use crate::labels::{self, LabelChoice};
use crate::outgoing::Batching;

/// The settings of `log-shipper run`.
#[derive(Debug)]
pub struct RunSettings {
    /// Exit when everything is shipped, or after this long without progress.
    pub until_idle: Option<Duration>,
    /// Which logs are followed.
    pub logs: LogsSettings,
    /// How lines are processed.
    pub lines: LinesSettings,
    /// The schema of events.
    pub schema: Schema,
    /// `SHIPPER_NAME`.
    pub shipper_name: Option<String>,
    /// `NODE_NAME`.
    pub node_name: Option<String>,
    /// `POD_UID`.
    pub pod_uid: Option<String>,
    /// Whether to watch this node's pods.
    pub watch_pods: bool,
    /// `BATCH`.
    pub batching: Option<Batching>,
    /// The destination of events.
    pub output: Output,
    /// How many bytes may be read and not confirmed.
    pub window_bytes: usize,
    /// The address of the admin server.
    pub admin: SocketAddr,
    /// How to log.
    pub log: LogSettings,
}

/// Which logs are followed, and where the checkpoint is.
#[derive(Debug)]
pub struct LogsSettings {
    /// The folders with logs.
    pub paths: Vec<PathBuf>,
    /// The folder of the checkpoint.
    pub state_dir: PathBuf,
    /// Whether to start at the end of existing logs if there is no checkpoint.
    pub at_end: bool,
    /// Only these namespaces, if there are any.
    pub namespaces: BTreeSet<String>,
    /// Never these.
    pub excluded_namespaces: BTreeSet<String>,
    /// Only pods and Docker containers with these labels.
    pub labels: LabelChoice,
    /// Whether pods may opt out.
    pub opt_out: bool,
    /// `PINNED_BYTES_MAX`, in bytes.
    pub pinned_bytes_max: u64,
    /// How many threads read logs.
    pub reader_threads: u32,
}

/// The destination of events.
#[derive(Debug)]
pub enum Output {
    /// To a broker.
    Amqp(Box<BrokerSettings>),
    /// Standard output, one line each.
    Stdout,
    /// Nowhere.
    Null,
}

/// The variables of Filebeat and Logstash in LSST's Jupyter Lab Demo.
const OLD_NAMES: &[OldName] = &[
    OldName { name: "RABBITMQ_PAN_PASSWORD", now: Now::Setting("AMQP_PASSWORD") },
    OldName { name: "LOGSTASH_HOST", now: Now::Gone("events go to RabbitMQ without Logstash: set AMQP_URL") },
    OldName { name: "LOGSTASH_PORT", now: Now::Gone("events go to RabbitMQ without Logstash: set AMQP_URL") },
];

/// Translates the variables of LSST's Jupyter Lab Demo. Returns warnings.
pub fn take_over(environment: &mut Environment) -> Vec<String> {
    let mut warnings = Vec::new();
    let old_password = environment.get("RABBITMQ_PAN_PASSWORD").is_some();
    if let Some(host) = environment.get("RABBITMQ_TARGET_HOST").map(str::to_owned) {
        let vhost = environment.get("RABBITMQ_TARGET_VHOST").unwrap_or("/").replace('%', "%25").replace('/', "%2f");
        let used = environment.get("AMQP_URL").is_none();
        environment.default_to("AMQP_URL", &format!("amqp://{host}/{vhost}"));
        warnings.push(if used {
            "RABBITMQ_TARGET_HOST and RABBITMQ_TARGET_VHOST are old names and are read as AMQP_URL".to_owned()
        } else {
            "RABBITMQ_TARGET_HOST and RABBITMQ_TARGET_VHOST are ignored because AMQP_URL is set".to_owned()
        });
    }
    if old_password {
        environment.default_to("AMQP_USERNAME", "pan");
    }
    warnings.extend(environment.take_over(OLD_NAMES));
    warnings
}

impl RunArguments {
    /// Parses the settings; `in_cluster` is whether this process runs in a Kubernetes pod.
    ///
    /// # Errors
    ///
    /// All problems.
    pub fn settings(&self, in_cluster: bool) -> Result<RunSettings, Problems> {
        let mut problems = Problems::default();
        let logs = self.logs.settings(&mut problems);
        let lines = self.lines.settings(&mut problems);
        let events = self.events.settings(&mut problems);
        let output = self.output(in_cluster, &mut problems);
        let window_bytes = size(&mut problems, "AMQP_WINDOW_BYTES", &self.broker.amqp_window_bytes, 64 << 10, 1 << 30);
        let patience = problems.parse("--give-up-after", &self.give_up_after, "2m", values::duration);
        let (admin, log) = (self.admin.settings(&mut problems), self.log.settings(&mut problems));
        let watch_pods = in_cluster && self.events.node_name.is_some();
        if logs.as_ref().is_some_and(|logs| logs.opt_out) && !watch_pods {
            problems.add("LOG_OPT_OUT", "annotations are known only in a cluster where NODE_NAME is set", "false");
        }
        let settings = (|| {
            let (schema, batching) = events?;
            Some(RunSettings {
                until_idle: Some(patience?).filter(|_| self.until_idle),
                logs: logs?,
                lines: lines?,
                schema,
                shipper_name: self.events.shipper_name.clone(),
                node_name: self.events.node_name.clone(),
                pod_uid: self.events.pod_uid.clone().filter(|uid| !uid.is_empty()),
                watch_pods,
                batching,
                output: output?,
                window_bytes: window_bytes?,
                admin: admin?,
                log: log?,
            })
        })();
        problems.finish(settings)
    }

    fn output(&self, in_cluster: bool, problems: &mut Problems) -> Option<Output> {
        match self.events.output.as_deref().map(str::trim) {
            Some("stdout") => Some(Output::Stdout),
            Some("null") => Some(Output::Null),
            Some("amqp") => self.broker.required(problems).map(|broker| Output::Amqp(Box::new(broker))),
            Some(other) => {
                problems.add("OUTPUT", format!("{other:?} is neither amqp, stdout nor null"), "amqp");
                None
            }
            None if self.broker.amqp_url.is_some() || in_cluster => {
                self.broker.required(problems).map(|broker| Output::Amqp(Box::new(broker)))
            }
            None => Some(Output::Stdout),
        }
    }
}

impl CheckArguments {
    /// Parses the settings of the broker.
    ///
    /// # Errors
    ///
    /// All problems.
    pub fn settings(&self) -> Result<(BrokerSettings, LogSettings), Problems> {
        let mut problems = Problems::default();
        let (broker, log) = (self.broker.required(&mut problems), self.log.settings(&mut problems));
        problems.finish(broker.zip(log))
    }
}

impl StatusArguments {
    /// Parses the settings.
    ///
    /// # Errors
    ///
    /// All problems.
    pub fn settings(&self) -> Result<(LogsSettings, LogSettings), Problems> {
        let mut problems = Problems::default();
        let (logs, log) = (self.logs.settings(&mut problems), self.log.settings(&mut problems));
        problems.finish(logs.zip(log))
    }
}

impl LogsArguments {
    fn settings(&self, problems: &mut Problems) -> Option<LogsSettings> {
        let paths = match &self.log_paths {
            Some(paths) => {
                let paths: Vec<PathBuf> = values::list(paths).map(PathBuf::from).collect();
                if paths.is_empty() {
                    problems.add("LOG_PATHS", "it names no folder", "/var/log/pods");
                }
                if let Some(relative) = paths.iter().find(|path| !path.is_absolute()) {
                    problems.add(
                        "LOG_PATHS",
                        format!("{} is not an absolute path", relative.display()),
                        "/var/log/pods",
                    );
                }
                paths
            }
            None => {
                let (pods, docker) = (Path::new("/var/log/pods"), Path::new("/var/lib/docker/containers"));
                let found: Vec<_> =
                    [pods, docker].into_iter().filter(|path| path.is_dir()).map(Path::to_owned).collect();
                if found.is_empty() { vec![pods.to_owned()] } else { found }
            }
        };
        let at_end = problems.parse("READ_FROM", &self.read_from, "beginning", |text| match text {
            "beginning" => Ok(false),
            "end" => Ok(true),
            other => Err(format!("{other:?} is neither beginning nor end")),
        });
        let mut names = |setting, text: &Option<String>| {
            let names = text.as_deref().unwrap_or("");
            problems.parse(setting, names, "jhub,monitoring", |names| values::list(names).map(namespace).collect())
        };
        let wanted_namespaces = names("LOG_NAMESPACES", &self.log_namespaces);
        let excluded_namespaces = names("LOG_NAMESPACES_EXCLUDED", &self.log_namespaces_excluded);
        let mut selector = |setting, text: &Option<String>| match text.as_deref().filter(|text| !text.is_empty()) {
            Some(text) => problems.parse(setting, text, "app=web,tier in (a,b),!debug", labels::selector).map(Some),
            None => Some(None),
        };
        let wanted = selector("LOG_LABELS", &self.log_labels);
        let excluded = selector("LOG_LABELS_EXCLUDED", &self.log_labels_excluded);
        let pinned = problems.parse("PINNED_BYTES_MAX", &self.pinned_bytes_max, "2GiB", values::bytes);
        let opt_out = problems.parse("LOG_OPT_OUT", &self.log_opt_out, "true", values::switch);
        let threads = problems.parse("READER_THREADS", &self.reader_threads, "1", |text| values::count(text, 1, 16));
        Some(LogsSettings {
            paths,
            state_dir: PathBuf::from(&self.state_dir),
            at_end: at_end?,
            namespaces: wanted_namespaces?,
            excluded_namespaces: excluded_namespaces?,
            labels: LabelChoice { wanted: wanted?, excluded: excluded? },
            opt_out: opt_out?,
            pinned_bytes_max: pinned?,
            reader_threads: threads?,
        })
    }
}

/// The name of a namespace (RFC 1123, a DNS label, as Kubernetes requires). A pattern would match none.
fn namespace(name: &str) -> Result<String, String> {
    let fits = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    if fits {
        Ok(name.to_owned())
    } else {
        Err(format!("{name:?} is not the name of a namespace; patterns are not supported"))
    }
}

impl EventArguments {
    fn settings(&self, problems: &mut Problems) -> Option<(Schema, Option<Batching>)> {
        let schema = problems.parse("EVENT_SCHEMA", &self.event_schema, "ecs", |text| match text {
            "ecs" => Ok(Schema::Ecs),
            "legacy" => Ok(Schema::Legacy),
            other => Err(format!("{other:?} is neither ecs nor legacy")),
        });
        let batching = problems.parse("BATCH", &self.batch, "500", |text| match text {
            "off" | "false" | "no" | "0" | "1" => Ok(None),
            "on" | "true" | "yes" => Ok(Some(BATCH_EVENTS)),
            count => values::count(count, 2, 100_000).map(Some).map_err(|error| format!("{error}, or off")),
        });
        Some((schema?, batching?.map(|events| Batching { events, bytes: BATCH_BYTES })))
    }
}

/// The number of events with `BATCH=on`.
const BATCH_EVENTS: u32 = 500;

/// A message is closed at this size.
const BATCH_BYTES: usize = 256 * 1024;

fn size(problems: &mut Problems, setting: &'static str, text: &str, least: u64, most: u64) -> Option<usize> {
    problems.parse(setting, text, "1MiB", |text| {
        let bytes = values::bytes(text).map_err(|error| error.to_string())?;
        if (least..=most).contains(&bytes) {
            Ok(bytes as usize)
        } else {
            Err(format!("{text:?} is not from {least} to {most} bytes"))
        }
    })
}

#[cfg(test)]
mod tests;
