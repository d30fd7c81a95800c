//! One round of imagepurger on a node with many images and containers: on Docker in turns with docuum, which checks the same
//! images and removes the same ones; on containerd alone.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use testbed::containerd::{self, Containerd};
use testbed::cri::Pod;
use testbed::docker::Docker;
use testbed::folder::Folder;
use testbed::images::{Image, Layer};
use testbed::registry::Registry;

use crate::Size;
use crate::measure::{Subject, Taken, command, cpu_of, program};
use crate::table::{Table, median, median_seconds};

/// How many images are to be removed, in cases with any.
const OLD: usize = 10;

/// How many containers a pod has on containerd.
const PER_POD: usize = 50;

/// docuum forks for its work, and imagepurger for its files. A child with a shorter life may be missed.
const LOOK: Duration = Duration::from_millis(10);

const LIMIT: Duration = Duration::from_secs(600);

pub(crate) fn run(size: Size) -> Result<()> {
    let (images, containers, runs) = (size.choose(500, 60), size.choose(200, 20), size.choose(5, 2));
    let docuum = build_docuum()?;
    let columns = ["one round", "s", "CPU s", "CPU s of the engine", "peak MiB", "peak MiB with its children"];
    let mut table = Table::new(&columns);
    on_docker(&mut table, &docuum, (images, containers), runs)?;
    on_containerd(&mut table, (images, containers), runs)?;
    println!("{table}\nMedian of {runs}, in turns, from the start of the program. Goal: memory below 16 MiB.");
    Ok(())
}

/// The measurement of one round.
#[derive(Clone, Copy, Debug)]
struct Seen {
    own: Taken,
    engine: Duration,
    with_children: u64,
}

fn on_docker(table: &mut Table, docuum: &Path, (images, containers): (usize, usize), runs: usize) -> Result<()> {
    let mut docker = Docker::start()?;
    let folder = Folder::new("purger")?;
    let keep = images - OLD;
    in_parallel(keep, |number| import(&docker, number, "new"))?;
    in_parallel(containers, |number| {
        Ok(docker.docker(&["create", "--network", "none", &name(number, "new"), "/none"]).map(drop)?)
    })?;
    write_catalogue(&folder, (0..keep).map(|number| name(number, "new")))?;
    let engine = docker.process().context("the engine runs")?.id();
    let (endpoint, host) = (docker.endpoint(), format!("unix://{}", docker.socket().display()));
    let state = folder.path().display().to_string();
    let environment = [("DOCKER_HOST", host.as_str()), ("HOME", &state), ("PATH", "/usr/bin:/bin")];
    let docuum = |threshold: &str| command(docuum, &["--threshold", threshold, "--keep", "^labs/new:"], &environment);
    let here = || -> Result<usize> { Ok(docker.docker(&["image", "ls", "--quiet"])?.lines().count()) };
    let restore = || in_parallel(OLD, |number| import(&docker, images + number, "old"));
    let (mut idle, mut removing) = (Pairs::default(), Pairs::default());
    for _ in 0..runs {
        restore()?;
        // It removes an image only in a round after the one in which it first saw the image.
        idle.ours.push(round(imagepurger(&endpoint, &folder, &[])?, engine, &folder, "round done")?);
        idle.theirs.push(round(docuum("1 TB"), engine, &folder, "Listening for Docker events")?);
        removing.ours.push(round(imagepurger(&endpoint, &folder, &[])?, engine, &folder, "round done")?);
        expect(here()?, keep)?;
        restore()?;
        removing.theirs.push(round(docuum("1 B"), engine, &folder, "Listening for Docker events")?);
        expect(here()?, keep)?;
    }
    let there = format!("Docker, {images} images, {containers} containers");
    row(table, &format!("imagepurger: {there}, none to remove"), &idle.ours);
    row(table, &format!("docuum: {there}, none to remove"), &idle.theirs);
    row(table, &format!("imagepurger: the same, {OLD} to remove"), &removing.ours);
    row(table, &format!("docuum: the same, {OLD} to remove"), &removing.theirs);
    Ok(())
}

#[derive(Debug, Default)]
struct Pairs {
    ours: Vec<Seen>,
    theirs: Vec<Seen>,
}

fn on_containerd(table: &mut Table, (images, containers): (usize, usize), runs: usize) -> Result<()> {
    let registry = Registry::start()?;
    let mut containerd = Containerd::with(&containerd::Options {
        plain_registries: vec![registry.host()],
        sandbox_image: Some(Image::pause()?.push(&registry, "pause", "1")?.reference),
        ..containerd::Options::default()
    })?;
    let (engine, folder) = (containerd.process().context("containerd runs")?.id(), Folder::new("purger")?);
    let reference = |number: usize| format!("{}/labs:{number}", registry.host());
    let pull = |number: usize| -> Result<()> {
        Image::busybox()?.label("number", &number.to_string()).push(&registry, "labs", &number.to_string())?;
        Ok(containerd.pull(&reference(number))?)
    };
    in_parallel(images, pull)?;
    for first in (0..containers).step_by(PER_POD) {
        let pod = Pod::start(containerd.socket(), &format!("pod{first}"))?;
        for number in first..(first + PER_POD).min(containers) {
            pod.create(&format!("c{number}"), &reference(number), &["sleep", "1000"])?;
        }
    }
    let keep = images - OLD;
    write_catalogue(&folder, (0..keep).map(&reference))?;
    let (endpoint, mut idle, mut removing) = (containerd.endpoint(), Vec::new(), Vec::new());
    for _ in 0..runs {
        in_parallel(OLD, |number| pull(keep + number))?;
        idle.push(round(imagepurger(&endpoint, &folder, &[])?, engine, &folder, "round done")?);
        removing.push(round(imagepurger(&endpoint, &folder, &[])?, engine, &folder, "round done")?);
        let listed = containerd.ctr(&["images", "list", "--quiet"])?;
        expect(listed.lines().filter(|name| name.contains("/labs:")).count(), keep)?;
    }
    row(table, &format!("imagepurger: containerd, {images} images, {containers} containers, none to remove"), &idle);
    row(table, &format!("imagepurger: the same, {OLD} to remove"), &removing);
    Ok(())
}

fn row(table: &mut Table, what: &str, seen: &[Seen]) {
    let mebibytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    table.row([
        what.to_owned(),
        format!("{:.2}", median_seconds(seen.iter().map(|seen| seen.own.time))),
        format!("{:.2}", median_seconds(seen.iter().map(|seen| seen.own.cpu))),
        format!("{:.2}", median_seconds(seen.iter().map(|seen| seen.engine))),
        format!("{:.1}", median(seen.iter().map(|seen| mebibytes(seen.own.peak)))),
        format!("{:.1}", median(seen.iter().map(|seen| mebibytes(seen.with_children)))),
    ]);
}

/// The daemon with one immediate round.
fn imagepurger(endpoint: &str, folder: &Folder, arguments: &[&str]) -> Result<Command> {
    let (state, catalogue) = (folder.path().display().to_string(), folder.join("catalogue.json").display().to_string());
    let settings = [
        ("RUNTIME_ENDPOINT", endpoint),
        ("CATALOGUE_FILE", &catalogue),
        ("STATE_DIR", &state),
        ("PURGE_GRACE", "1ms"),
        ("LOG_FORMAT", "json"),
    ];
    Ok(command(program("imagepurger")?, &[&["run"], arguments].concat(), &settings))
}

/// Runs a program until its log shows the end of the round.
fn round(command: Command, engine: i32, folder: &Folder, over: &str) -> Result<Seen> {
    let log = folder.join("log");
    let _ = fs::remove_file(&log); // from the round before
    let (before, deadline) = (cpu_of(engine).unwrap_or_default(), Instant::now() + LIMIT);
    let mut subject = Subject::start("purger", &command, &log)?;
    let mut with_children = 0;
    loop {
        let own = subject.taken();
        with_children = with_children.max(resident_with_children(subject.process().id()));
        if fs::read_to_string(&log).is_ok_and(|text| text.contains(over)) {
            let engine = cpu_of(engine).unwrap_or_default().saturating_sub(before);
            return Ok(Seen { own, engine, with_children: with_children.max(own.peak) });
        }
        if !subject.process().is_running() || Instant::now() > deadline {
            bail!("no {over:?} in its log:\n{}", subject.log_end());
        }
        std::thread::sleep(LOOK);
    }
}

fn resident_with_children(id: i32) -> u64 {
    let read = |path: String| fs::read_to_string(path).unwrap_or_default();
    let resident = |id: i32| {
        let status = read(format!("/proc/{id}/status"));
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok()).unwrap_or(0) * 1024
    };
    let children = read(format!("/proc/{id}/task/{id}/children"));
    resident(id) + children.split_whitespace().filter_map(|child| child.parse().ok()).map(resident).sum::<u64>()
}

/// Creates an image with unique content, without a registry.
fn import(docker: &Docker, number: usize, kind: &str) -> Result<()> {
    let layer = Layer::random(number as u64, 20_000).blob()?;
    Ok(docker.docker(&["import", &layer.path.to_string_lossy(), &name(number, kind)]).map(drop)?)
}

fn name(number: usize, kind: &str) -> String {
    format!("labs/{kind}:{number}")
}

/// A catalogue that wants these images and lists the repository of the old ones.
fn write_catalogue(folder: &Folder, wanted: impl Iterator<Item = String>) -> Result<()> {
    let now = jiff::Timestamp::now();
    let mut images = String::new();
    for (name, wanted) in wanted.map(|name| (name, true)).chain([("labs/old:none".into(), false)]) {
        let (repository, tag) = name.rsplit_once(':').context("a name has a tag")?;
        let _ = write!(
            images,
            r#"{}{{"reference": "{name}", "repository": "{repository}", "tag": "{tag}", "class": "weekly", "name": "{tag}",
            "digest": null, "size": null, "wanted": {wanted}, "why": "bench"}}"#,
            if images.is_empty() { "" } else { "," }
        );
    }
    folder.write(
        "catalogue.json",
        format!(r#"{{"version": 1, "generated": "{now}", "complete": true, "images": [{images}]}}"#),
    )?;
    Ok(())
}

fn expect(here: usize, wanted: usize) -> Result<()> {
    if here == wanted { Ok(()) } else { bail!("{here} images are left, not {wanted}") }
}

fn in_parallel(count: usize, work: impl Fn(usize) -> Result<()> + Sync) -> Result<()> {
    const THREADS: usize = 4;
    std::thread::scope(|scope| {
        let share = |first: usize| (first..count).step_by(THREADS).try_for_each(&work);
        let threads: Vec<_> = (0..THREADS).map(|first| scope.spawn(move || share(first))).collect();
        threads.into_iter().try_for_each(|thread| thread.join().ok().context("a thread broke")?)
    })
}

/// docuum from crates.io, built once into a cache folder.
fn build_docuum() -> Result<PathBuf> {
    const VERSION: &str = "0.27.3";
    let folder = testbed::folder::cache()?.join(format!("peers/docuum-{VERSION}"));
    let program = folder.join("bin/docuum");
    if !program.exists() {
        let mut cargo = Command::new("cargo");
        cargo.args(["install", "--quiet", "--locked", "--version", VERSION, "--root"]).arg(&folder).arg("docuum");
        if !cargo.status().context("start cargo")?.success() {
            bail!("docuum {VERSION} does not build");
        }
    }
    Ok(program)
}
