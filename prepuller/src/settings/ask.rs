//! The settings of `prepuller status` and `prepuller wait`: the planner's address, and the request.

use std::time::Duration;

use clap::Args;
use sidecar::settings::Problems;
use sidecar::settings::values::{count, duration_within};
use url::Url;

use crate::page::query::{Query, Show};

/// `prepuller status`
#[derive(Args, Debug)]
pub struct StatusArguments {
    #[command(flatten)]
    planner: PlannerArguments,
    /// Output format
    #[arg(long, value_name = "FORMAT", default_value = "table", value_parser = ["table", "json"])]
    output: String,
    /// Show only these nodes: all, problems, pulling, waiting, complete, or not-eligible
    #[arg(long, value_name = "WHICH", default_value = "all")]
    show: String,
    /// Show only nodes whose name contains this
    #[arg(long, value_name = "TEXT", default_value = "")]
    node: String,
    /// Show only nodes that lack this image
    #[arg(long, value_name = "IMAGE", default_value = "")]
    missing: String,
    /// Number of the page of nodes
    #[arg(long, value_name = "NUMBER", default_value = "1")]
    page: String,
}

/// `prepuller wait`
#[derive(Args, Debug)]
pub struct WaitArguments {
    #[command(flatten)]
    planner: PlannerArguments,
    /// Give up with exit code 1 after this time
    #[arg(long, env = "WAIT_TIMEOUT", value_name = "DURATION", default_value = "30m")]
    wait_timeout: String,
    /// Minimum number of eligible nodes; the command waits until there are that many. 0 if a cluster may have none
    #[arg(long, env = "WAIT_MIN_NODES", visible_alias = "min-nodes", value_name = "NUMBER", default_value = "1")]
    wait_min_nodes: String,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Planner")]
struct PlannerArguments {
    /// Address of the planner's page
    #[arg(long, env = "PREPULLER_URL", value_name = "URL", default_value = "http://127.0.0.1:8080")]
    prepuller_url: String,
}

/// The output format of `prepuller status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusOutput {
    /// Human-readable.
    Table,
    /// The planner's own answer.
    Json,
}

/// The settings of `prepuller status`.
#[derive(Debug)]
pub struct StatusSettings {
    /// The planner's address.
    pub planner: Url,
    /// The output format.
    pub output: StatusOutput,
    /// Which nodes to show.
    pub query: Query,
}

/// The settings of `prepuller wait`.
#[derive(Debug)]
pub struct WaitSettings {
    /// The planner's address.
    pub planner: Url,
    /// When to give up.
    pub timeout: Duration,
    /// The minimum number of eligible nodes.
    pub min_nodes: usize,
}

impl StatusArguments {
    /// # Errors
    ///
    /// All problems at once.
    pub fn settings(&self) -> Result<StatusSettings, Problems> {
        let mut problems = Problems::default();
        let planner = self.planner.settings(&mut problems);
        let output = if self.output == "json" { StatusOutput::Json } else { StatusOutput::Table };
        let show = problems.parse("--show", &self.show, "problems", |text| {
            let choices = Show::ALL.map(Show::as_str).join(", ");
            let known = Show::ALL.into_iter().find(|show| show.as_str() == text);
            known.ok_or_else(|| format!("{text:?} is none of {choices}"))
        });
        let page = problems.parse("--page", &self.page, "2", |text| count(text, 1, u32::MAX));
        let (node, missing) = (self.node.clone(), self.missing.clone());
        let query = (|| Some(Query { show: show?, node, missing, page: page? as usize }))();
        problems.finish((|| Some(StatusSettings { planner: planner?, output, query: query? }))())
    }
}

impl WaitArguments {
    /// # Errors
    ///
    /// All problems at once.
    pub fn settings(&self) -> Result<WaitSettings, Problems> {
        let mut problems = Problems::default();
        let planner = self.planner.settings(&mut problems);
        let timeout = problems.parse("WAIT_TIMEOUT", &self.wait_timeout, "30m", |text| {
            duration_within(text, Duration::from_secs(1), Duration::from_secs(7 * 86_400))
        });
        let least = problems.parse("WAIT_MIN_NODES", &self.wait_min_nodes, "1", |text| count(text, 0, 100_000));
        problems.finish((|| Some(WaitSettings { planner: planner?, timeout: timeout?, min_nodes: least? as usize }))())
    }
}

impl PlannerArguments {
    fn settings(&self, problems: &mut Problems) -> Option<Url> {
        problems.parse("PREPULLER_URL", &self.prepuller_url, "http://prepuller.labhands", |text| {
            match text.parse::<Url>() {
                Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Ok(url),
                _ => Err(format!("{text:?} is not an address that starts with http:// or https://")),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::cli::Command;

    fn parse(arguments: &[&str], environment: &[(&str, &str)]) -> Command {
        let environment = environment.iter().copied().collect();
        let arguments = std::iter::once("prepuller").chain(arguments.iter().copied()).map(Into::into);
        sidecar::settings::parse(&environment, arguments).unwrap()
    }

    #[test]
    fn status_requests_what_its_flags_select() {
        let given = ["status", "--show=not-eligible", "--node=gpu", "--page=2"];
        let Command::Status(arguments) = parse(&given, &[("PREPULLER_URL", "https://x/labs")]) else {
            panic!("another command")
        };
        let settings = arguments.settings().unwrap();
        assert_eq!(settings.planner.as_str(), "https://x/labs");
        assert_eq!(settings.query.to_string(), "?show=not-eligible&node=gpu&page=2");
    }

    #[test]
    fn all_problems_are_named() {
        let Command::Status(arguments) =
            parse(&["status", "--show=some", "--page=0"], &[("PREPULLER_URL", "planner:8080")])
        else {
            panic!("another command")
        };
        let problems = arguments.settings().unwrap_err().to_string();
        for name in ["PREPULLER_URL: ", "--show: ", "--page: "] {
            assert!(problems.contains(name), "{problems}");
        }
        let Command::Wait(arguments) = parse(&["wait"], &[("WAIT_TIMEOUT", "soon")]) else { panic!("another command") };
        assert!(arguments.settings().unwrap_err().to_string().starts_with("WAIT_TIMEOUT: "));
        for (given, environment, least) in
            [(&["wait"][..], None, 1), (&["wait", "--min-nodes=0"], None, 0), (&["wait"], Some("7"), 7)]
        {
            let environment: Vec<_> = environment.map(|value| ("WAIT_MIN_NODES", value)).into_iter().collect();
            let Command::Wait(arguments) = parse(given, &environment) else { panic!("another command") };
            assert_eq!(arguments.settings().unwrap().min_nodes, least);
        }
    }
}
