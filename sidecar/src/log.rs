//! Logs: one line per event on stderr (stdout is for a command's output), as readable text or as JSON.

use std::io::IsTerminal;

use clap::Args;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{fmt, registry};

use crate::settings::{Problems, values};

/// Flags and variables of the log.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Log")]
pub struct LogArguments {
    /// Log level, or a filter such as info,lab_images=debug
    #[arg(long, env = "LOG", value_name = "FILTER", default_value = "info")]
    pub log: String,
    /// text or json; unset: text on a terminal, else json
    #[arg(long, env = "LOG_FORMAT", value_name = "FORMAT")]
    pub log_format: Option<String>,
}

/// The level and format of the log.
#[derive(Clone, Debug)]
pub struct LogSettings {
    filter: Targets,
    format: LogFormat,
    warnings: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LogFormat {
    Text,
    Json,
}

impl LogArguments {
    /// The settings, or `None` with the problems recorded.
    pub fn settings(&self, problems: &mut Problems) -> Option<LogSettings> {
        let filter = problems.parse("LOG", &self.log, "info", filter);
        let format = problems.parse_optional("LOG_FORMAT", self.log_format.as_deref(), "json", |text| match text {
            "text" => Ok(LogFormat::Text),
            "json" => Ok(LogFormat::Json),
            _ => Err(format!("{text:?} is neither text nor json")),
        });
        let by_itself = || if std::io::stderr().is_terminal() { LogFormat::Text } else { LogFormat::Json };
        Some(LogSettings { filter: filter?, format: format?.unwrap_or_else(by_itself), warnings: Vec::new() })
    }
}

/// A level, or modules with their levels.
fn filter(text: &str) -> Result<Targets, String> {
    let parts: Vec<&str> = values::list(text).collect();
    if parts.is_empty() {
        return Err("it names no level".to_owned());
    }
    parts.iter().try_for_each(|part| check(part))?;
    parts.join(",").parse().map_err(|error| format!("{text:?} is not a log filter: {error}"))
}

/// Rejects what the parser would read as the name of a module that does not exist, which hides the messages of all.
fn check(part: &str) -> Result<(), String> {
    match part.split_once('=') {
        None if part.parse::<LevelFilter>().is_err() => Err(format!(
            "{part:?} is none of off, error, warn, info, debug or trace; for one module write MODULE=LEVEL"
        )),
        Some((module, _)) if !is_module(module) => {
            Err(format!("{part:?} does not begin with a module such as log_shipper or kube::client"))
        }
        _ => Ok(()),
    }
}

fn is_module(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_:".contains(&byte))
}

impl LogSettings {
    /// Adds warnings from before the log was started; [`init`] writes them first.
    #[must_use]
    pub fn with_warnings(self, warnings: &[String]) -> Self {
        Self { warnings: warnings.to_vec(), ..self }
    }
}

/// Starts logging for the whole process. A second call has no effect.
pub fn init(settings: LogSettings) {
    let (filtered, lines) = (registry().with(settings.filter), fmt::layer().with_writer(std::io::stderr));
    let started = match settings.format {
        LogFormat::Text => filtered.with(lines.with_ansi(std::io::stderr().is_terminal())).try_init(),
        LogFormat::Json => filtered.with(lines.json().flatten_event(true)).try_init(),
    };
    drop(started);
    for warning in settings.warnings {
        tracing::warn!("{warning}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(log: &str, format: Option<&str>) -> Result<LogSettings, Problems> {
        let mut problems = Problems::default();
        let arguments = LogArguments { log: log.to_owned(), log_format: format.map(str::to_owned) };
        let settings = arguments.settings(&mut problems);
        problems.finish(settings)
    }

    #[test]
    fn filters_and_formats() {
        assert_eq!(settings("info,kube=warn", Some("text")).unwrap().format, LogFormat::Text);
        assert_eq!(settings("debug", Some("json")).unwrap().format, LogFormat::Json);
    }

    #[test]
    fn a_filter_never_hides_everything_by_mistake() {
        for good in ["WARN", "debug,", "info, kube=off", "3", "off", "kube::client=trace,warn"] {
            assert!(settings(good, None).is_ok(), "{good}");
        }
        for bad in
            ["warning", "verbose", "information", "info;kube=debug", "log-shipper=debug", "log_shipper", ",", "="]
        {
            let problems = settings(bad, None).err().unwrap_or_else(|| panic!("{bad} is accepted")).to_string();
            assert!(problems.contains("LOG: "), "{problems}");
        }
    }

    #[test]
    fn both_problems_are_named() {
        let problems = settings("info=x=y", Some("xml")).unwrap_err().to_string();
        assert!(problems.contains("LOG: ") && problems.contains("LOG_FORMAT: \"xml\""), "{problems}");
    }
}
