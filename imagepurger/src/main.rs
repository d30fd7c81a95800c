//! The imagepurger daemon and its commands.

use std::process::ExitCode;

use imagepurger::settings::Command;
use imagepurger::{files, purge, report, run};
use lab_images::settings::unclear_runtime;
use sidecar::settings::{Environment, parse};

fn main() -> ExitCode {
    if nfs_mounts::child::is_child() {
        return files::serve();
    }
    sidecar::tls::install_crypto_provider();
    sidecar::program::run(env!("CARGO_PKG_NAME"), async {
        let command = parse(&Environment::of_process(), std::env::args_os())?;
        run_command(command).await.map_err(|error| match error.downcast_ref().and_then(unclear_runtime) {
            Some(problems) => problems.into(),
            None => error,
        })
    })
}

async fn run_command(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Run(arguments) => run::run(arguments.settings(&arguments.kubelet().await)?).await,
        Command::Purge(arguments) => purge::run(arguments.settings(&arguments.kubelet().await)?).await,
        Command::Plan(arguments) => report::run(arguments.settings(&arguments.kubelet().await)?).await,
    }
}
