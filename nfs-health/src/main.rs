//! The nfs-health daemon and command.

use std::process::ExitCode;

use nfs_health::agent::run;
use nfs_health::probe::mount;
use nfs_health::settings::{Arguments, Settings};
use nfs_health::{check, judge, volumes};
use sidecar::settings::{Environment, parse};

fn main() -> ExitCode {
    if nfs_mounts::child::is_child() {
        return nfs_mounts::child::run(mount::serve);
    }
    sidecar::tls::install_crypto_provider();
    sidecar::program::run(env!("CARGO_PKG_NAME"), async {
        let arguments: Arguments = parse(&Environment::of_process(), std::env::args_os())?;
        match Settings::parse(&arguments)? {
            Settings::Check(settings) => check::check(&settings).await,
            Settings::Run(settings) => run::run(*settings).await,
            Settings::Judge(settings) => judge::run(*settings).await,
            Settings::Volumes(settings) => volumes::run::run(*settings).await,
        }
    })
}
