//! A repository like the Rubin Observatory's lab images: every class of tag, aliases, cycles and architectures.

use super::{Image, Layer, Pushed, push_index, tag};
use crate::Result;
use crate::registry::Registry;

/// The image sizes of a Rubin-like repository. All builds share their first layers and differ in the last one.
#[derive(Clone, Debug)]
pub struct RubinSet {
    /// Size of each shared layer, in bytes.
    pub shared: Vec<u64>,
    /// Size of each build's own layer, in bytes.
    pub own: u64,
}

impl Default for RubinSet {
    fn default() -> Self {
        RubinSet { shared: vec![8 << 20, 4 << 20, 2 << 20], own: 1 << 20 }
    }
}

/// Builds: the first tag of each line is pushed, the others are further tags of the same digest.
const BUILDS: &[&[&str]] = &[
    &["r170"],
    &["r28_0_2", "r28_0_2_rsp19"],
    &["r29_0_0"],
    &["r29_1_1", "recommended", "latest_release", "r29_1_1_rsp102"],
    &["r29_2_0_rc1"],
    &["r29_2_0_rc2"],
    &["r29_2_0_rc10"],
    &["w_2026_43"],
    &["w_2026_44", "w_2026_44_c0052.003"],
    &["w_2026_45"],
    &["w_2026_46", "w_2026_46_rsp19_c0053.001"],
    &["d_2026_11_16"],
    &["d_2026_11_17"],
    &["d_2026_11_18"],
    &["d_2026_11_19"],
    &["d_2026_11_20"],
    &["d_2026_11_21"],
    &["d_2026_11_22", "latest_daily"],
    &["exp_w_2026_46_nosudo"],
    &["exp_my-branch"],
    &["sha-0f3a9c1"],
];

/// The newest weekly: an index of two platforms, each of which has its own tag.
const NEWEST_WEEKLY: &str = "w_2026_47";

/// Publishes about thirty tags. Returns one [`Pushed`] for each digest with a tag.
pub fn publish_rubin(registry: &Registry, repository: &str, set: &RubinSet) -> Result<Vec<Pushed>> {
    let shared: Vec<Layer> = set.shared.iter().zip(1..).map(|(&size, seed)| Layer::compressible(seed, size)).collect();
    let image = |seed: u64| Image::new(shared.clone()).layer(Layer::compressible(seed, set.own));
    let mut published = Vec::new();
    for (tags, seed) in BUILDS.iter().zip(100..) {
        let pushed = image(seed).label("version", tags[0]).push(registry, repository, tags[0])?;
        tag(registry, &pushed, &tags[1..])?;
        published.push(pushed);
    }
    let mut platforms = Vec::new();
    for (architecture, seed) in [("amd64", 200), ("arm64", 201)] {
        let name = format!("{NEWEST_WEEKLY}-{architecture}");
        platforms.push(
            image(seed).architecture(architecture).label("version", NEWEST_WEEKLY).push(registry, repository, &name)?,
        );
    }
    let index = push_index(registry, repository, NEWEST_WEEKLY, &platforms)?;
    tag(registry, &index, &["latest_weekly", "latest"])?;
    published.extend(platforms);
    published.push(index);
    Ok(published)
}
