//! `./demo`: the five daemons on this machine, without Kubernetes. Each does its job on real parts, and everything ends
//! with the demo.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use testbed::containerd::Containerd;
use testbed::docker::Docker;
use testbed::folder::Folder;
use testbed::ganesha::{Ganesha, Setup};
use testbed::images::{RubinSet, publish_rubin};
use testbed::process::Process;
use testbed::rabbitmq::{PASSWORD, RabbitMq, USER};
use testbed::registry::Registry;
use testbed::{Error, Result, wait};

use crate::{DEFINITIONS, beside_this, print, print_heading};

const REPOSITORY: &str = "lsstsqre/sciplat-lab";

/// Large enough to show progress, and small enough for a demo.
const SET: ([u64; 3], u64) = ([96 << 20, 48 << 20, 16 << 20], 24 << 20);

const LINES: usize = 20_000;
const LIMIT: Duration = wait::LIMIT;

/// Shows all daemons. Returns whether each did its job.
pub(crate) fn show() -> Result<bool> {
    let images = images()?;
    let logs = logs()?;
    let homes = homes()?;
    print_heading("stopping all parts")?;
    Ok(images && logs && homes)
}

/// prepuller fills a machine with lab images, and imagepurger removes the old ones.
fn images() -> Result<bool> {
    print_heading(
        "1. prepuller. A registry with a repository like Rubin's; the first run creates the images, later runs reuse them",
    )?;
    let registry = Registry::start()?;
    let (shared, own) = SET;
    publish_rubin(&registry, REPOSITORY, &RubinSet { shared: shared.to_vec(), own })?;
    let repository = format!("{}/{REPOSITORY}", registry.host());
    let host = registry.host();
    let scanned = [("LAB_REPOSITORIES", repository.as_str()), ("LAB_INSECURE_REGISTRIES", &host)];

    print_heading(
        "Which images are wanted, and why: the newest release, two weeklies, three dailies, and the targets of aliases",
    )?;
    let mut fine = run("prepuller", &["scan"], &scanned)? == Some(0);

    print_heading("This machine's containerd pulls all of them, with progress, and a second run finds nothing to do")?;
    let containerd = Containerd::start(&registry)?;
    let state = Folder::new("state")?;
    let (endpoint, kept) = (containerd.endpoint(), state.join("prepuller").display().to_string());
    let pull = [&scanned[..], &[("RUNTIME_ENDPOINT", &endpoint), ("STATE_DIR", &kept)]].concat();
    for _ in 0..2 {
        fine &= run("prepuller", &["pull"], &pull)? == Some(0);
    }

    print_heading("The same into a Docker engine")?;
    let docker = Docker::start()?;
    let (endpoint, kept) = (docker.endpoint(), docker.root().join("labhands").display().to_string());
    let pull = [&scanned[..], &[("RUNTIME_ENDPOINT", &endpoint), ("STATE_DIR", &kept)]].concat();
    fine &= run("prepuller", &["pull"], &pull)? == Some(0);
    print(&docker.docker(&["image", "ls"])?)?;

    print_heading(
        "2. imagepurger. The site now keeps one weekly and one daily: which images are removed from containerd, and why",
    )?;
    let catalogue = state.join("catalogue.json");
    let mut scan = command("prepuller", &scanned);
    scan.args(["scan", "--output=json"]).env("LAB_KEEP", "release=1,weekly=1,daily=1");
    fs::write(&catalogue, testbed::command::run(&mut scan)?).map_err(Error::io("write the catalogue"))?;
    let (catalogue, kept) = (catalogue.display().to_string(), state.join("imagepurger").display().to_string());
    // There is no kubelet here that removes images.
    let kubelet = "imageGCHighThresholdPercent: 100\nimageGCLowThresholdPercent: 99\n";
    let kubelet = state.write("kubelet.yaml", kubelet)?.display().to_string();
    let endpoint = containerd.endpoint();
    let purge = [
        ("CATALOGUE_FILE", catalogue.as_str()),
        ("RUNTIME_ENDPOINT", &endpoint),
        ("STATE_DIR", &kept),
        ("KUBELET_CONFIG_FILE", &kubelet),
        ("PURGE_GRACE", "1ms"), // a site keeps an image for a day after its last use
    ];
    for command in ["plan", "purge"] {
        fine &= run("imagepurger", &[command], &purge)? == Some(0);
    }
    print_heading("The images that containerd has now")?;
    print(&containerd.ctr(&["images", "list", "-q"])?)?;
    Ok(fine)
}

/// log-shipper ships lines to a broker.
fn logs() -> Result<bool> {
    print_heading("3. log-shipper. A RabbitMQ with a site's queue, and a pod's log as kubelet writes it")?;
    let broker = RabbitMq::start()?;
    broker.control(&["import_definitions", DEFINITIONS])?;
    let folder = Folder::new("logs")?;
    let pods = folder.join("pods");
    let pod = pods.join("jupyter_jupyter-ada_6f0c1e4e-0000-4000-8000-000000000001/notebook");
    fs::create_dir_all(&pod).map_err(Error::io("create a pod's folder"))?;
    let mut text = String::new();
    for line in 1..=LINES {
        let _ = writeln!(text, "2026-11-29T06:00:00.{line:09}Z stdout F cell {line} was run");
    }
    fs::write(pod.join("0.log"), text).map_err(Error::io("write a pod's log"))?;
    let (url, paths) = (format!("amqp://{}/%2f", broker.address()), pods.display().to_string());
    let kept = folder.join("state").display().to_string();
    let settings = [
        ("AMQP_URL", url.as_str()),
        ("AMQP_USERNAME", USER),
        ("AMQP_PASSWORD", PASSWORD),
        ("LOG_PATHS", &paths),
        ("STATE_DIR", &kept),
    ];
    print_heading("The connection to the broker, step by step")?;
    let mut fine = run("log-shipper", &["check", "--no-publish"], &settings)? == Some(0);
    print_heading(&format!("It ships {LINES} lines, and exits once the broker has confirmed each"))?;
    fine &= run("log-shipper", &["run", "--until-idle"], &settings)? == Some(0);
    print_heading("The content of the broker's queues, and how far the file was shipped")?;
    // A quorum queue updates its numbers every few seconds.
    let queues = || broker.control(&["list_queues", "name", "messages"]);
    let all = format!("logstash\t{LINES}\n");
    fine &= wait::patiently(LIMIT, || queues().ok().filter(|queues| queues.contains(&all))).is_some();
    print(&queues()?)?;
    fine &= run("log-shipper", &["status"], &settings)? == Some(0);
    Ok(fine)
}

/// nfs-health watches a file server that hangs, and fs-keepalive writes to it.
fn homes() -> Result<bool> {
    print_heading("4. nfs-health. A file server, nfs-ganesha, with homes on it")?;
    let mut server = Ganesha::start(Setup::default())?;
    let export = format!("{}/home", server.address());
    let settings = [("NFS_SERVERS", export.as_str()), ("NFS_MOUNTS", "false"), ("NFS_TIMEOUT", "5s")];
    let mut fine = run("nfs-health", &["check"], &settings)? == Some(0);
    print_heading(
        "The server hangs: it accepts connections but does not answer. A monitor that only connects would report it as healthy",
    )?;
    server.pause();
    fine &= run("nfs-health", &["check"], &settings)? == Some(1);
    server.resume();

    print_heading("5. fs-keepalive. A record each second, read back from the file system; a site has one a minute")?;
    let home = server.export();
    fine &= keepalive(&home)?;
    Ok(fine)
}

/// Runs until it is ready, which it is after its first record.
fn keepalive(home: &Path) -> Result<bool> {
    let folder = Folder::new("keepalive")?;
    let path = home.display().to_string();
    let settings = [("KEEPALIVE_PATHS", path.as_str()), ("KEEPALIVE_INTERVAL", "1s"), ("KEEPALIVE_PLAIN_FILE", "true")];
    print_command("fs-keepalive", &["run"], &settings)?;
    // It writes only to mounts. This one is in memory and in a separate mount namespace, because not every kernel here
    // has an NFS client.
    let mut daemon = Command::new("unshare");
    daemon.args(["--mount", "sh", "-c", "mount -t tmpfs tmpfs \"$0\" && exec \"$@\""]).arg(home);
    daemon.arg(beside_this("fs-keepalive")).arg("run").envs(settings).env("LOG_FORMAT", "text");
    let log = folder.join("log");
    let mut daemon = Process::start("fs-keepalive", &daemon, &log)?;
    let mounted = Path::new("/proc").join(daemon.id().to_string()).join("root").join(path.trim_start_matches('/'));
    let plain = mounted.join(".keepalive");
    let mut records = BTreeSet::new();
    daemon.ready("write three records", || {
        records.extend(fs::read_to_string(&plain).ok().filter(|line| !line.is_empty()));
        (records.len() >= 3).then_some(())
    })?;
    let list = mounted.display().to_string();
    let written =
        testbed::command::run_args("find", &[&format!("{list}/"), "-type", "f", "-printf", "%P  %s bytes\n"])?;
    daemon.signal(rustix::process::Signal::TERM);
    let ended = daemon.wait(LIMIT)?;
    print(&fs::read_to_string(&log).unwrap_or_default())?;
    print(&written)?;
    Ok(ended.success())
}

/// Runs a daemon as an operator does, in this terminal. Returns its exit code.
fn run(name: &str, arguments: &[&str], settings: &[(&str, &str)]) -> Result<Option<i32>> {
    print_command(name, arguments, settings)?;
    let mut run = command(name, settings);
    run.args(arguments).stdin(Stdio::null());
    Ok(run.status().map_err(Error::io(format!("run {name}")))?.code())
}

/// Prints a command as one would type it.
fn print_command(name: &str, arguments: &[&str], settings: &[(&str, &str)]) -> Result<()> {
    let mut text = String::from("$");
    for (setting, value) in settings {
        let value = if *setting == "AMQP_PASSWORD" { "…" } else { value };
        let _ = write!(text, " {setting}={value} \\\n ");
    }
    print(&format!("{text} {name} {}\n", arguments.join(" ")))
}

fn command(name: &str, settings: &[(&str, &str)]) -> Command {
    let mut command = Command::new(beside_this(name));
    // A demo machine may be fuller than a node should be; the disk guard has its own tests.
    command.env("DISK_HIGH", "95%").env("LOG", "warn").envs(settings.iter().copied());
    command
}
