//! `prepuller`: parse, log, run, exit code.

use std::io::Write;
use std::process::ExitCode;

use lab_images::settings::unclear_runtime;
use prepuller::settings::{Arguments, CommandArguments};
use prepuller::{node, old_names, plan, pull, scan, status, tags, wait};
use sidecar::settings::{Environment, Problems, arguments};
use sidecar::shutdown::Shutdown;

fn main() -> ExitCode {
    sidecar::tls::install_crypto_provider();
    let mut environment = Environment::of_process();
    if std::env::var_os("LAB_ALIASES").is_some_and(|aliases| aliases.is_empty()) {
        // Elsewhere an empty value counts as unset. Here it says that there are none: a list of nothing.
        environment.default_to("LAB_ALIASES", ",");
    }
    let warnings = old_names::take_over(&mut environment);
    let arguments: Arguments = match arguments(&environment, std::env::args_os()) {
        Ok(arguments) => arguments,
        Err(code) => return code,
    };
    match run(arguments, &warnings) {
        Ok(Ok(code)) => code,
        Ok(Err(problems)) => problems.report(),
        Err(error) => {
            if let Some(problems) = error.downcast_ref().and_then(unclear_runtime) {
                return problems.report();
            }
            // Without stderr there is nobody left to tell.
            let _ = writeln!(std::io::stderr(), "prepuller: {}", sidecar::causes::said(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn run(arguments: Arguments, warnings: &[String]) -> anyhow::Result<Result<ExitCode, Problems>> {
    Ok(match arguments.command {
        CommandArguments::Tags(arguments) => match arguments.settings() {
            Ok(settings) => Ok(tags::run(&settings).map(|()| ExitCode::SUCCESS)?),
            Err(problems) => Err(problems),
        },
        CommandArguments::Scan(arguments) => match arguments.settings() {
            Ok(settings) => Ok(scan::run(settings, warnings).await?),
            Err(problems) => Err(problems),
        },
        CommandArguments::Pull(arguments) => match arguments.settings() {
            Ok(settings) => Ok(pull::run(settings, warnings).await?),
            Err(problems) => Err(problems),
        },
        CommandArguments::Node(arguments) => match arguments.settings() {
            Ok(settings) => Ok(node::run(settings, warnings).await?),
            Err(problems) => Err(problems),
        },
        CommandArguments::Bring { to } => Ok(plan::pull_pods::bring(&to).map(|()| ExitCode::SUCCESS)?),
        CommandArguments::Plan(arguments) => match arguments.settings() {
            Ok(settings) => Ok(plan::run(settings, warnings, Shutdown::listen()?).await.map(|()| ExitCode::SUCCESS)?),
            Err(problems) => Err(problems),
        },
        CommandArguments::Status(arguments) => match arguments.settings() {
            Ok(settings) => Ok(status::run(settings).await.map(|()| ExitCode::SUCCESS)?),
            Err(problems) => Err(problems),
        },
        CommandArguments::Wait(arguments) => match arguments.settings() {
            Ok(settings) => Ok(wait::run(settings).await?),
            Err(problems) => Err(problems),
        },
    })
}
