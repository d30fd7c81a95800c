//! The log-shipper daemon and its commands.

use std::process::ExitCode;

use log_shipper::arguments::Command;
use log_shipper::{check, run, settings, status};
use sidecar::settings::{Environment, parse};

fn main() -> ExitCode {
    sidecar::tls::install_crypto_provider();
    sidecar::program::run(env!("CARGO_PKG_NAME"), async {
        let mut environment = Environment::of_process();
        let warnings = settings::take_over(&mut environment);
        match parse(&environment, std::env::args_os())? {
            Command::Run(arguments) => {
                let in_cluster = environment.get("KUBERNETES_SERVICE_HOST").is_some();
                run::run(arguments.settings(in_cluster)?, &warnings).await
            }
            Command::Status(arguments) => {
                let (logs, log) = arguments.settings()?;
                sidecar::log::init(log);
                status::run(&logs)
            }
            Command::Check(arguments) => check::run(arguments.settings()?, !arguments.no_publish).await,
        }
    })
}
