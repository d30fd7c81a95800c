//! The fs-keepalive daemon.

use std::process::ExitCode;

use fs_keepalive::settings::{Arguments, Settings};
use fs_keepalive::{run, touch};
use sidecar::settings::{Environment, arguments};
use sidecar::shutdown::Shutdown;

fn main() -> anyhow::Result<ExitCode> {
    if std::env::args_os().nth(1).is_some_and(|argument| argument == nfs_mounts::child::SUBCOMMAND) {
        return Ok(nfs_mounts::child::run(touch::touch));
    }
    let environment = Environment::of_process();
    let arguments: Arguments = match arguments(&environment, std::env::args_os()) {
        Ok(arguments) => arguments,
        Err(code) => return Ok(code),
    };
    let settings = match Settings::parse(&arguments) {
        Ok(settings) => settings,
        Err(problems) => return Ok(problems.report()),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let shutdown = Shutdown::listen()?;
        run::run(settings, shutdown).await?;
        Ok(ExitCode::SUCCESS)
    })
}
