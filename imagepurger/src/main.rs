//! `imagepurger`: parse, log, run, exit code.

use std::io::Write;
use std::process::ExitCode;

use imagepurger::settings::{Arguments, CommandArguments};
use imagepurger::{report, run};
use sidecar::settings::{Environment, Problems, arguments};
use sidecar::shutdown::Shutdown;

fn main() -> ExitCode {
    sidecar::tls::install_crypto_provider();
    let arguments: Arguments = match arguments(&Environment::of_process(), std::env::args_os()) {
        Ok(arguments) => arguments,
        Err(code) => return code,
    };
    match act(arguments) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(problems)) => problems.report(),
        Err(error) => {
            // Without stderr there is nobody left to tell.
            let _ = writeln!(std::io::stderr(), "imagepurger: {}", sidecar::causes::said(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn act(arguments: Arguments) -> anyhow::Result<Result<(), Problems>> {
    Ok(match arguments.command {
        CommandArguments::Run(arguments) => match arguments.settings() {
            Ok(settings) => Ok(run::run(settings, Shutdown::listen()?).await?),
            Err(problems) => Err(problems),
        },
        CommandArguments::Plan(arguments) => match arguments.settings() {
            Ok(settings) => Ok(report::run(settings).await?),
            Err(problems) => Err(problems),
        },
    })
}
