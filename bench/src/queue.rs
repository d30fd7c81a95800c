//! Five images through a slow network: `prepuller pull` with two pulls in flight against five `ctr images pull` one after the other.

use std::time::Duration;

use anyhow::{Context, Result};
use testbed::images::{Image, Layer, Pushed};
use testbed::proxy::TcpProxy;
use testbed::registry::Registry;

use crate::Size;
use crate::pull::Node;
use crate::table::{Table, median, median_seconds};

const MB: u64 = 1_000_000;

/// The bandwidth from the registry, in bytes per second.
const RATE: u64 = 50 * MB;

pub(crate) fn run(size: Size) -> Result<()> {
    let (layer, runs) = (size.choose(50 * MB, 10 * MB), size.choose(3, 1));
    let registry = Registry::start()?;
    let proxy = TcpProxy::start(([127, 0, 0, 1], registry.port()).into())?;
    let images = (0..5)
        .map(|number| {
            // Twice as large unpacked.
            let layers = (0..4).map(|seed| Layer::compressible(1000 + 10 * number + seed, 2 * layer));
            Image::new(layers).push(&registry, "lab", &format!("w_2026_{:02}", 50 - number))
        })
        .collect::<testbed::Result<Vec<_>>>()?;
    let wanted: Vec<&Pushed> = images.iter().collect();
    let node = Node::start(&proxy.host())?;
    proxy.limit_rate(Some(RATE));
    let (mut ours, mut theirs, mut first, mut alone) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..runs {
        node.forget_all()?;
        let each = wanted.iter().map(|image| node.ctr_pull(image)).collect::<Result<Vec<_>>>()?;
        theirs.push(each.iter().sum::<Duration>());
        node.forget_all()?;
        let (taken, log) = node.prepuller_pull(&wanted, 2)?;
        ours.push(taken.time);
        first.push(first_pulled(&log, images[0].tag.as_str())?);
        node.forget_all()?;
        alone.push(first_pulled(&node.prepuller_pull(&wanted[..1], 2)?.1, images[0].tag.as_str())?);
    }
    let (own, ctr) = (median_seconds(ours), median_seconds(theirs));
    let (first, alone) = (median(first), median(alone));
    let mut table = Table::new(&["five images", "s", "ratio"]);
    table.row(["ctr images pull, one after the other".into(), format!("{ctr:.2}"), "1.00".into()]);
    table.row(["prepuller pull, two in flight".into(), format!("{own:.2}"), format!("{:.2}", own / ctr)]);
    table.row(["the first of them, alone".into(), format!("{alone:.2}"), "1.00".into()]);
    table.row([
        "the first of them, with four behind it".into(),
        format!("{first:.2}"),
        format!("{:.2}", first / alone),
    ]);
    println!(
        "{table}\nFive images of {} MB (twice that unpacked) from a registry held to {} MB/s, median of {runs}, in turns.",
        images[0].size() / MB,
        RATE / MB
    );
    let least = images.iter().map(Pushed::size).sum::<u64>() as f64 / RATE as f64;
    println!("The bytes alone take {least:.1} s. Goals: at most 0.80 for all, at most 1.10 for the first.");
    Ok(())
}

/// The duration of the pull of the image with this tag, in seconds, from the log.
fn first_pulled(log: &str, tag: &str) -> Result<f64> {
    let line = log.lines().find(|line| line.contains("\"pulled\"") && line.contains(tag));
    let seconds = line.and_then(|line| line.split("\"seconds\":").nth(1)?.split([',', '}']).next()?.parse().ok());
    seconds.with_context(|| format!("the log does not say how long {tag} took:\n{log}"))
}
