//! `testbed up NAME…` starts real parts and keeps them until Ctrl-C or `testbed down`. For manual use, and for `./demo`.

use std::any::Any;
use std::io::Write as _;
use std::process::ExitCode;

use testbed::cluster::Cluster;
use testbed::containerd::{self, Containerd};
use testbed::docker::Docker;
use testbed::ganesha::{Ganesha, Setup};
use testbed::images::{Image, Layer, RubinSet, publish_rubin};
use testbed::registry::Registry;
use testbed::{Error, Result, up};

const USAGE: &str = "\
usage: testbed up NAME…     start parts, print where they are, keep them until Ctrl-C or `testbed down`
       testbed down         end what any `testbed up` on this machine started
       testbed push HOST:PORT/REPOSITORY:TAG [MIB]
                            push an image of this many MiB (default 4) to an open registry, a different one for each tag

parts: registry      an open registry on plain HTTP
       rubin         the same, with a repository like the Rubin Observatory's lab images
       containerd    containerd with CRI, which pulls from the registry
       docker        a Docker engine
       nfs           an NFS server in user space, with an export /home
       kubernetes    a cluster of two nodes with its own registry
";

/// Bad arguments, as <sysexits.h> has it.
const EX_USAGE: u8 = 64;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match arguments.as_slice() {
        ["up", names @ ..] if !names.is_empty() && names.iter().all(|name| PARTS.contains(name)) => {
            up::keep(|| bring_up(names), || print("ready"))
        }
        ["push", reference] => push(reference, "4"),
        ["push", reference, size] => push(reference, size),
        ["down"] => up::down().map(|ended| println!("{ended} ended")),
        ["--help" | "-h" | "help"] => {
            print!("{USAGE}");
            Ok(())
        }
        _ => {
            eprint!("{USAGE}");
            return ExitCode::from(EX_USAGE);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Error::Usage(problem)) => {
            eprint!("testbed: {problem}\n\n{USAGE}");
            ExitCode::from(EX_USAGE)
        }
        Err(error) => {
            eprintln!("testbed: {error}");
            ExitCode::FAILURE
        }
    }
}

const PARTS: [&str; 6] = ["registry", "rubin", "containerd", "docker", "nfs", "kubernetes"];

/// Prints a line `NAME=value` for each address, in a shell's format.
fn bring_up(names: &[&str]) -> Result<Vec<Box<dyn Any>>> {
    let mut parts: Vec<Box<dyn Any>> = Vec::new();
    // All parts are guards, so if one does not start, nothing of the others is left behind.
    if names.iter().any(|name| ["registry", "rubin", "containerd"].contains(name)) {
        let registry = Registry::start()?;
        print(&format!("REGISTRY={}", registry.host()))?;
        if names.contains(&"rubin") {
            publish_rubin(&registry, RUBIN, &RubinSet::default())?;
            print(&format!("LAB_REPOSITORIES={}/{RUBIN}", registry.host()))?;
        }
        if names.contains(&"containerd") {
            Image::pause()?.push(&registry, "pause", "1")?;
            let containerd = Containerd::with(&containerd::Options {
                plain_registries: vec![registry.host()],
                sandbox_image: Some(format!("{}/pause:1", registry.host())),
                ..containerd::Options::default()
            })?;
            print(&format!("CONTAINERD={}", containerd.endpoint()))?;
            parts.push(Box::new(containerd));
        }
        parts.push(Box::new(registry));
    }
    if names.contains(&"docker") {
        let docker = Docker::start()?;
        print(&format!("DOCKER={}", docker.endpoint()))?;
        parts.push(Box::new(docker));
    }
    if names.contains(&"nfs") {
        let server = Ganesha::start(Setup::default())?;
        print(&format!("NFS={}:/home", server.address()))?;
        parts.push(Box::new(server));
    }
    if names.contains(&"kubernetes") {
        let cluster = Cluster::start(2)?;
        print(&format!("KUBECONFIG={}", cluster.kubeconfig().display()))?;
        print(&format!("KUBECTL={}", cluster.kubectl().program().display()))?;
        print(&format!("CLUSTER_REGISTRY={}", cluster.registry_host()))?;
        parts.push(Box::new(cluster));
    }
    Ok(parts)
}

fn push(reference: &str, size: &str) -> Result<()> {
    let usage = |problem: &str| Error::Usage(format!("{reference} {size}: {problem}"));
    let (host, rest) = reference.split_once('/').ok_or_else(|| usage("a reference is HOST:PORT/REPOSITORY:TAG"))?;
    let (repository, tag) = rest.rsplit_once(':').ok_or_else(|| usage("a reference is HOST:PORT/REPOSITORY:TAG"))?;
    let size: u64 = size.parse().ok().filter(|mib| (1..=8192).contains(mib)).ok_or_else(|| usage("1 to 8192 MiB"))?;
    // Another tag gets other content.
    let seed = tag.bytes().fold(size, |seed, byte| seed.wrapping_mul(31).wrapping_add(byte.into()));
    let pushed = Image::new([Layer::compressible(seed, size << 20)]).push_plain(host, repository, tag)?;
    print(&format!("{} {}", pushed.reference, pushed.digest))
}

const RUBIN: &str = "lsst/sciplat-lab";

fn print(line: &str) -> Result<()> {
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{line}").and_then(|()| stdout.flush()).map_err(Error::io("write to standard output"))
}
