//! The fs-keepalive daemon.

use std::process::ExitCode;

use fs_keepalive::settings::{Arguments, Settings};
use fs_keepalive::{run, touch};
use sidecar::settings::{Environment, parse};

fn main() -> ExitCode {
    if nfs_mounts::child::is_child() {
        return nfs_mounts::child::run(touch::touch);
    }
    sidecar::program::run(env!("CARGO_PKG_NAME"), async {
        let arguments: Arguments = parse(&Environment::of_process(), std::env::args_os())?;
        run::run(Settings::parse(&arguments)?).await
    })
}
