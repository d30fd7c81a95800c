//! `./demo`: the daemons on this machine, in `machine.rs`. `./demo kubernetes` is in `kubernetes.rs`.

mod kubernetes;
mod machine;
mod page;
mod platform;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use testbed::{Error, Result, up};

/// The definitions of the exchange and the queue, as in a site's broker.
pub(crate) const DEFINITIONS: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../manifests/components/logs-receiver/definitions.json");

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let shown = match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["kubernetes"] => kubernetes::in_the_background(),
        [kubernetes::KEEP] => up::keep(kubernetes::show, kubernetes::print_shown).map(|()| true),
        ["down"] => up::down().map(|ended| {
            println!("{ended} ended");
            true
        }),
        _ => machine::show(),
    };
    match shown {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("demo: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Writing may fail if the terminal is gone; then the demo shuts down normally.
fn print(text: &str) -> Result<()> {
    let mut stdout = std::io::stdout();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(Error::io("write to standard output"))
}

fn print_heading(what: &str) -> Result<()> {
    print(&format!("\n== {what}\n"))
}

/// Another binary of the same build.
fn beside_this(name: &str) -> PathBuf {
    std::env::current_exe().map_or_else(|_| PathBuf::from(name), |this| this.with_file_name(name))
}
