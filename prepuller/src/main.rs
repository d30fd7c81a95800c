//! The prepuller: planner, node agent, and commands.

use std::process::ExitCode;

use lab_images::settings::unclear_runtime;
use prepuller::cli::Command;
use prepuller::{node, old_names, plan, pull, scan, status, tags, wait};
use sidecar::settings::{Environment, parse};

fn main() -> ExitCode {
    sidecar::tls::install_crypto_provider();
    sidecar::program::run(env!("CARGO_PKG_NAME"), async {
        let mut environment = Environment::of_process();
        if std::env::var_os("LAB_ALIASES").is_some_and(|aliases| aliases.is_empty()) {
            // Elsewhere an empty value counts as unset. Here it means an empty list.
            environment.default_to("LAB_ALIASES", ",");
        }
        let warnings = old_names::take_over(&mut environment);
        let command = parse(&environment, std::env::args_os())?;
        run_command(command, &warnings).await.map_err(|error| match error.downcast_ref().and_then(unclear_runtime) {
            Some(problems) => problems.into(),
            None => error,
        })
    })
}

async fn run_command(command: Command, warnings: &[String]) -> anyhow::Result<ExitCode> {
    match command {
        Command::Tags(arguments) => tags::run(&arguments.settings()?),
        Command::Scan(arguments) => scan::run(arguments.settings()?, warnings).await,
        Command::Pull(arguments) => pull::run(arguments.settings()?, warnings).await,
        Command::Node(arguments) => node::run(arguments.settings()?, warnings).await,
        Command::Bring { to } => Ok(plan::pull_pods::bring(&to)?),
        Command::Plan(arguments) => plan::run(arguments.settings()?, warnings).await,
        Command::Status(arguments) => status::run(arguments.settings()?).await,
        Command::Wait(arguments) => wait::run(arguments.settings()?).await,
    }
}
