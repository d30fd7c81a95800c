//! `imagepurger`: parse, log, run, exit code.

use std::io::Write;
use std::process::ExitCode;

use imagepurger::settings::{Arguments, CommandArguments};
use imagepurger::{files, purge, report, run};
use sidecar::settings::{Environment, Problems, arguments};
use sidecar::shutdown::Shutdown;

fn main() -> ExitCode {
    if files::is_child() {
        return files::serve();
    }
    sidecar::tls::install_crypto_provider();
    let arguments: Arguments = match arguments(&Environment::of_process(), std::env::args_os()) {
        Ok(arguments) => arguments,
        Err(code) => return code,
    };
    match act(arguments) {
        Ok(Ok(code)) => code,
        Ok(Err(problems)) => problems.report(),
        Err(error) => {
            // Without stderr there is nobody left to tell.
            let _ = writeln!(std::io::stderr(), "imagepurger: {}", sidecar::causes::said(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn act(arguments: Arguments) -> anyhow::Result<Result<ExitCode, Problems>> {
    match arguments.command {
        CommandArguments::Run(arguments) => match arguments.settings(&arguments.kubelet().await) {
            Ok(settings) => Ok(run::run(settings, Shutdown::listen()?).await?.map(|()| ExitCode::SUCCESS)),
            Err(problems) => Ok(Err(problems)),
        },
        CommandArguments::Purge(arguments) => match arguments.settings(&arguments.kubelet().await) {
            Ok(settings) => purge::run(settings, Shutdown::listen()?).await,
            Err(problems) => Ok(Err(problems)),
        },
        CommandArguments::Plan(arguments) => match arguments.settings(&arguments.kubelet().await) {
            Ok(settings) => Ok(report::run(settings).await?.map(|()| ExitCode::SUCCESS)),
            Err(problems) => Ok(Err(problems)),
        },
    }
}
