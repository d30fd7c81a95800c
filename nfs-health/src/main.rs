//! The nfs-health daemon and command.

use std::process::ExitCode;

use nfs_health::agent::run;
use nfs_health::probe::mount;
use nfs_health::settings::{Arguments, Settings};
use nfs_health::{check, judge, volumes};
use sidecar::settings::{Environment, arguments};
use sidecar::shutdown::Shutdown;

/// Only name lookups use these threads; a resolver that hangs holds no more of them.
const MOST_LOOKUPS: usize = 8;

fn main() -> anyhow::Result<ExitCode> {
    if std::env::args_os().nth(1).is_some_and(|argument| argument == nfs_mounts::child::SUBCOMMAND) {
        return Ok(nfs_mounts::child::run(mount::touch));
    }
    sidecar::tls::install_crypto_provider();
    let environment = Environment::of_process();
    let arguments: Arguments = match arguments(&environment, std::env::args_os()) {
        Ok(arguments) => arguments,
        Err(code) => return Ok(code),
    };
    let settings = match Settings::parse(&arguments) {
        Ok(settings) => settings,
        Err(problems) => return Ok(problems.report()),
    };
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(MOST_LOOKUPS).build()?;
    let done = runtime.block_on(async {
        match settings {
            Settings::Check(look) => Ok(check::check(&look).await?),
            Settings::Run(settings) => run::run(*settings, Shutdown::listen()?).await.map(|()| ExitCode::SUCCESS),
            Settings::Judge(settings) => judge::run(*settings, Shutdown::listen()?).await.map(|()| ExitCode::SUCCESS),
            Settings::Volumes(settings) => Ok(volumes::run::run(*settings, Shutdown::listen()?).await?),
        }
    });
    // A lookup that still hangs is not waited for.
    runtime.shutdown_background();
    done
}
