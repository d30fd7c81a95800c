//! `./demo`: a real registry with a Rubin-like repository, a real containerd and a real Docker engine; `prepuller` scans the
//! one and fills the others. Everything ends with it. `./demo kubernetes` is in `kubernetes.rs`.

mod kubernetes;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use testbed::containerd::Containerd;
use testbed::docker::Docker;
use testbed::images::{RubinSet, publish_rubin};
use testbed::registry::Registry;
use testbed::{Error, Result, up};

const REPOSITORY: &str = "lsstsqre/sciplat-lab";

/// Large enough to see bytes arrive, small enough for a demo.
const SET: ([u64; 3], u64) = ([96 << 20, 48 << 20, 16 << 20], 24 << 20);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let shown = match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["kubernetes"] => kubernetes::in_the_background(),
        [kubernetes::KEEP] => up::keep(kubernetes::show, kubernetes::say_shown).map(|()| true),
        ["down"] => up::down().map(|ended| {
            println!("{ended} ended");
            true
        }),
        _ => demo(),
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

fn demo() -> Result<bool> {
    say("a registry with a Rubin-like repository; the first run makes the images, later ones find them")?;
    let registry = Registry::start()?;
    let (shared, own) = SET;
    publish_rubin(&registry, REPOSITORY, &RubinSet { shared: shared.to_vec(), own })?;
    let repository = format!("{}/{REPOSITORY}", registry.host());
    print(&format!("{repository}\n"))?;

    say("prepuller scan: what is wanted, and why")?;
    let mut fine = prepuller(&["scan"], &registry, &repository, None);

    say("prepuller pull, into containerd")?;
    let containerd = Containerd::start(&registry)?;
    fine &= prepuller(&["pull"], &registry, &repository, Some((&containerd.endpoint(), containerd.root())));
    say("what containerd holds now")?;
    print(&containerd.ctr(&["images", "list"])?)?;

    say("prepuller pull again: everything is there")?;
    fine &= prepuller(&["pull"], &registry, &repository, Some((&containerd.endpoint(), containerd.root())));

    say("prepuller pull, into Docker")?;
    let docker = Docker::start()?;
    fine &= prepuller(&["pull"], &registry, &repository, Some((&docker.endpoint(), docker.root())));
    say("what Docker holds now")?;
    print(&docker.docker(&["image", "ls"])?)?;

    say("registry, containerd and Docker end now")?;
    Ok(fine)
}

/// The terminal may be gone, which ends it in order.
fn print(text: &str) -> Result<()> {
    let mut stdout = std::io::stdout();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(Error::io("write to standard output"))
}

fn say(what: &str) -> Result<()> {
    print(&format!("\n== {what}\n"))
}

/// Runs `prepuller` as an operator does, in this terminal.
fn prepuller(arguments: &[&str], registry: &Registry, repository: &str, runtime: Option<(&str, &Path)>) -> bool {
    let mut prepuller = Command::new(beside_this("prepuller"));
    prepuller.args(arguments).env("LAB_REPOSITORIES", repository).env("LAB_INSECURE_REGISTRIES", registry.host());
    println!("$ LAB_REPOSITORIES={repository} LAB_INSECURE_REGISTRIES={} \\", registry.host());
    if let Some((endpoint, root)) = runtime {
        prepuller.env("RUNTIME_ENDPOINT", endpoint).env("STATE_DIR", root.join("labhands"));
        println!("  RUNTIME_ENDPOINT={endpoint} \\");
    }
    println!("  prepuller {}", arguments.join(" "));
    // A demo machine may be fuller than a node should be; the guard itself has its tests.
    prepuller.env("DISK_HIGH", "95%").env("LOG", "warn");
    prepuller.status().is_ok_and(|status| status.success())
}

/// A binary of the same build.
fn beside_this(name: &str) -> PathBuf {
    std::env::current_exe().map_or_else(|_| PathBuf::from(name), |this| this.with_file_name(name))
}
