//! `prepuller pull` against `ctr images pull`: one large image, cold for both, and a second image that shares all layers but one.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use testbed::containerd::{self, Containerd};
use testbed::folder::Folder;
use testbed::images::{Image, Layer, Pushed};
use testbed::proxy::TcpProxy;
use testbed::registry::Registry;

use crate::Size;
use crate::measure::{Subject, Taken, command, program};
use crate::table::{Table, median_seconds};

const MB: u64 = 1_000_000;

const LIMIT: Duration = Duration::from_secs(300);

pub(crate) fn run(size: Size) -> Result<()> {
    let (layer, runs) = (size.choose(125 * MB, 12 * MB), size.choose(5, 2));
    let registry = Registry::start()?;
    let mut layers: Vec<Layer> = (0..8).map(|seed| Layer::random(900 + seed, layer)).collect();
    let image = Image::new(layers.clone()).push(&registry, "lab", "w_2026_46")?;
    layers[7] = Layer::random(990, layer);
    let sibling = Image::new(layers).push(&registry, "lab", "w_2026_47")?;
    let node = Node::start(&registry.host())?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for turn in 0..2 * runs {
        node.forget_all()?;
        if turn % 2 == 0 {
            theirs.push(node.ctr_pull(&image)?);
        } else {
            ours.push(node.prepuller_pull(&[&image], 1)?.0);
        }
    }
    let (own, ctr) = (median_seconds(ours.iter().map(|taken| taken.time)), median_seconds(theirs));
    let cpu = median_seconds(ours.iter().map(|taken| taken.cpu));
    let mut table = Table::new(&["pull", "s", "ratio"]);
    table.row(["ctr images pull".into(), format!("{ctr:.2}"), "1.00".into()]);
    table.row(["prepuller pull".into(), format!("{own:.2}"), format!("{:.2}", own / ctr)]);
    println!(
        "{table}\n{} MB in 8 layers, median of {runs}, in turns, each with nothing there. Goal: ratio at most 1.05.",
        image.size() / MB
    );
    println!("prepuller's own CPU: {cpu:.2} s.\n");
    shared_layers(&registry, &image, &sibling)
}

/// Pulls on a file system that is too small for the whole second image; slowly, so that its progress is seen.
fn shared_layers(registry: &Registry, image: &Pushed, sibling: &Pushed) -> Result<()> {
    let proxy = TcpProxy::start(([127, 0, 0, 1], registry.port()).into())?;
    // The first image twice (compressed and unpacked), and half of that again: room for a layer, not for an image.
    let room = image.size() * 3;
    let node = Node::with(&proxy.host(), Some(room))?;
    node.ctr_pull(image)?;
    proxy.limit_rate(Some(sibling.layer_sizes[7] / 2));
    let (_, log) = node.prepuller_pull(&[sibling], 1)?;
    let shown = log.lines().rev().find_map(|line| line.split(": downloading ").nth(1));
    println!(
        "A second image with 7 of the 8 layers, where {} of {} MB are used and the whole image would need {} MB: admitted. \
         Its own layer is {} MB; shown: {}",
        2 * image.size() / MB,
        room / MB,
        image.size() * 7 / 2 / MB,
        sibling.layer_sizes[7] / MB,
        shown.context("no progress was shown")?
    );
    Ok(())
}

/// One machine with a containerd, whose images come from `registry`.
pub(crate) struct Node {
    containerd: Containerd,
    registry: String,
    folder: Folder,
}

impl Node {
    pub(crate) fn start(registry: &str) -> Result<Self> {
        Self::with(registry, None)
    }

    /// With its images on a file system of this many bytes, in memory.
    fn with(registry: &str, root_size: Option<u64>) -> Result<Self> {
        let plain_registries = vec![registry.to_owned()];
        let options = containerd::Options { plain_registries, root_size, ..containerd::Options::default() };
        let (containerd, folder) = (Containerd::with(&options)?, Folder::new("pull")?);
        Ok(Self { containerd, registry: registry.to_owned(), folder })
    }

    fn named(&self, image: &Pushed) -> String {
        format!("{}/{}:{}", self.registry, image.repository, image.tag)
    }

    /// Removes all images, waits until their content and snapshots are gone, and syncs the disk.
    pub(crate) fn forget_all(&self) -> Result<()> {
        for name in self.containerd.ctr(&["images", "list", "-q"])?.lines() {
            self.containerd.ctr(&["images", "remove", "--sync", name])?;
        }
        let nothing_left = || {
            let listed = |what: &[&str]| self.containerd.ctr(what).is_ok_and(|list| list.trim().is_empty());
            let snapshots =
                || self.containerd.ctr(&["snapshots", "list"]).is_ok_and(|list| list.trim().lines().count() <= 1);
            (listed(&["content", "list", "-q"]) && snapshots()).then_some(())
        };
        testbed::wait::patiently(Duration::from_secs(30), nothing_left)
            .context("containerd keeps content of removed images")?;
        let _ = std::fs::remove_file(self.state().join("unpack-factor"));
        rustix::fs::sync();
        Ok(())
    }

    /// Pulls with `ctr`.
    pub(crate) fn ctr_pull(&self, image: &Pushed) -> Result<Duration> {
        let started = Instant::now();
        self.containerd.pull(&self.named(image))?;
        Ok(started.elapsed())
    }

    /// Pulls with `prepuller pull`; also returns its output.
    pub(crate) fn prepuller_pull(&self, images: &[&Pushed], parallel: usize) -> Result<(Taken, String)> {
        let names: Vec<String> = images.iter().map(|image| self.named(image)).collect();
        let log = self.folder.join("log");
        let _ = std::fs::remove_file(&log);
        let settings = [
            ("LAB_CONTAINER_NAMES", names.join(",")),
            ("LAB_INSECURE_REGISTRIES", self.registry.clone()),
            ("RUNTIME_ENDPOINT", self.containerd.endpoint()),
            ("STATE_DIR", self.state().display().to_string()),
            ("PREPULLER_PARALLEL_IMAGES", parallel.to_string()),
            ("DISK_HIGH", "95%".to_owned()),
        ];
        let settings: Vec<_> = settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let pull = command(program("prepuller")?, &["pull"], &settings);
        let taken = Subject::start("prepuller", &pull, &log)?.until_end(LIMIT)?;
        let log = std::fs::read_to_string(&log)?;
        for image in images {
            if !self.containerd.ctr(&["images", "list", "-q"])?.lines().any(|name| name == self.named(image)) {
                bail!("{} is not there; prepuller said:\n{log}", image.reference);
            }
        }
        Ok((taken, log))
    }

    fn state(&self) -> PathBuf {
        self.folder.join("state")
    }
}
