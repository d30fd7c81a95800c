//! `log-shipper`: parse, log, run, exit code.

use std::io::Write;
use std::process::ExitCode;

use log_shipper::arguments::{Arguments, CommandArguments};
use log_shipper::{check, run, settings, status};
use sidecar::settings::{Environment, Problems, arguments};

fn main() -> ExitCode {
    sidecar::tls::install_crypto_provider();
    let mut environment = Environment::of_process();
    let warnings = settings::take_over(&mut environment);
    let arguments: Arguments = match arguments(&environment, std::env::args_os()) {
        Ok(arguments) => arguments,
        Err(code) => return code,
    };
    let done = runtime().and_then(|runtime| {
        let done = runtime.block_on(act(arguments, &environment, &warnings));
        // A thread that hangs, say in a write to a pipe that nobody reads, is not waited for.
        runtime.shutdown_background();
        done
    });
    match done {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(problems)) => problems.report(),
        Err(error) => {
            // Without stderr there is nobody left to tell.
            let _ = writeln!(std::io::stderr(), "log-shipper: {}", sidecar::causes::said(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

async fn act(
    arguments: Arguments,
    environment: &Environment,
    warnings: &[String],
) -> anyhow::Result<Result<(), Problems>> {
    let settings = match arguments.command {
        CommandArguments::Run(arguments) => arguments.settings(environment.get("KUBERNETES_SERVICE_HOST").is_some()),
        CommandArguments::Status(arguments) => {
            let (logs, _) = match arguments.settings() {
                Ok(settings) => settings,
                Err(problems) => return Ok(Err(problems)),
            };
            let (text, failed) = status::tables(&logs.state_dir);
            std::io::stdout().write_all(text.as_bytes())?;
            return failed.map_or(Ok(Ok(())), |error| Err(error.into()));
        }
        CommandArguments::Check(arguments) => {
            let (broker, log) = match arguments.settings() {
                Ok(settings) => settings,
                Err(problems) => return Ok(Err(problems)),
            };
            sidecar::log::init(log);
            check::run(&broker, !arguments.no_publish).await?;
            return Ok(Ok(()));
        }
    };
    let mut settings = match settings {
        Ok(settings) => settings,
        Err(problems) => return Ok(Err(problems)),
    };
    if let Some(log) = settings.log.take() {
        sidecar::log::init(log);
    }
    let uname = rustix::system::uname();
    let hostname = uname.nodename().to_string_lossy().into_owned();
    run::run(settings, hostname, warnings).await?;
    Ok(Ok(()))
}
