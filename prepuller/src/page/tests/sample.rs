//! Overviews for tests.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use lab_images::catalogue::{Catalogue, CatalogueImage, Kind};
use lab_images::policy::{Choice, Policy};
use lab_images::settings::Source;
use lab_images::tag::Class;

use crate::node_images::{Disk, PullState};
use crate::overview::{
    AgentState, ImageOnNode, ImageOverview, Mode, NodeOverview, Overview, Reported, ScanState, Wave,
};
use crate::page::nublado::Config;

const GIBIBYTE: u64 = 1 << 30;

/// The time of all samples.
pub(crate) fn now() -> Timestamp {
    "2026-11-25T02:25:00Z".parse().unwrap()
}

/// Nothing is known yet.
pub(crate) fn nothing() -> Overview {
    Overview {
        now: now(),
        mode: Mode::Agents,
        catalogue: None,
        scan: ScanState::default(),
        decided: true,
        cluster: Vec::new(),
        images: Vec::new(),
        nodes: Vec::new(),
        spawns: None,
    }
}

fn catalogue_image(class: Class, tag: &str, name: &str, digest: Option<u8>, aliases: &[&str]) -> CatalogueImage {
    let digest = digest.map(|number| format!("sha256:{}", format!("{number:02x}").repeat(32)).parse().unwrap());
    CatalogueImage {
        reference: format!("registry.example.org/rubin/lab:{tag}").parse().unwrap(),
        repository: "registry.example.org/rubin/lab".parse().unwrap(),
        tag: tag.to_owned(),
        class,
        kind: Kind::Lab,
        name: name.to_owned(),
        wanted: digest.is_some(),
        why: if digest.is_some() { format!("newest {name}") } else { "not among the newest".to_owned() },
        digest,
        platforms: vec!["linux/amd64".parse().unwrap()],
        size: Some(8 * GIBIBYTE),
        aliases: aliases.iter().map(|alias| (*alias).to_owned()).collect(),
    }
}

/// Six wanted images, two of them the same, and an old one.
pub(crate) fn catalogue() -> Catalogue {
    let images = vec![
        catalogue_image(Class::Alias, "recommended", "Recommended (Weekly 2026_47)", Some(1), &[]),
        catalogue_image(Class::Release, "r29_0_0", "Release r29.0.0", Some(2), &[]),
        catalogue_image(Class::Weekly, "w_2026_47", "Weekly 2026_47", Some(1), &["recommended"]),
        catalogue_image(Class::Weekly, "w_2026_46", "Weekly 2026_46", Some(3), &[]),
        catalogue_image(Class::Daily, "d_2026_11_24", "Daily 2026_11_24", Some(4), &[]),
        catalogue_image(Class::Daily, "d_2026_11_23", "Daily 2026_11_23", Some(5), &[]),
        catalogue_image(Class::Weekly, "w_2026_40", "Weekly 2026_40", None, &[]),
    ];
    Catalogue::new(now() - SignedDuration::from_mins(3), true, images)
}

/// Settings for [`catalogue`].
pub(crate) fn config() -> Config {
    let source = Source {
        repositories: vec!["registry.example.org/rubin/lab".parse().unwrap()],
        fixed: Vec::new(),
        infrastructure: Vec::new(),
    };
    let policy = Policy {
        scheme: "rubin".parse().unwrap(),
        keep: "release=1,weekly=2,daily=3".parse().unwrap(),
        pinned: Vec::new(),
        aliases: vec!["recommended".to_owned(), "latest_weekly".to_owned()],
        choice: Choice::default(),
    };
    Config::new(&source, &policy)
}

/// A node's report.
pub(crate) fn reported(state: PullState) -> Reported {
    Reported { state, done: 0, total: 0, rate: None, eta_seconds: None, failures: 0, error: None, since: now() }
}

pub(crate) fn state(state: PullState) -> ImageOnNode {
    ImageOnNode::Reported(reported(state))
}

/// A running pull.
pub(crate) fn downloading(percent: u64) -> ImageOnNode {
    ImageOnNode::Reported(Reported {
        done: 8 * GIBIBYTE * percent / 100 + 1,
        total: 8 * GIBIBYTE,
        rate: Some(120 << 20),
        eta_seconds: Some(8 * 1024 * (100 - percent) / 100 / 120),
        ..reported(PullState::Downloading)
    })
}

/// A failed pull.
pub(crate) fn failed(failures: u32, error: &str) -> ImageOnNode {
    ImageOnNode::Reported(Reported { failures, error: Some(error.into()), ..reported(PullState::Failed) })
}

/// A node that has everything.
pub(crate) fn node(name: &str, images: usize) -> NodeOverview {
    NodeOverview {
        name: name.into(),
        not_eligible: None,
        gated: false,
        new: false,
        waiting_pods: 0,
        agent: AgentState::Fine,
        unwritten: None,
        disk: Some(Disk { total: 500 * GIBIBYTE, used: 305 * GIBIBYTE, high: 75 }),
        images: vec![state(PullState::Present); images],
    }
}

/// The overview of these nodes, each of which has one entry for each wanted image of [`catalogue`].
pub(crate) fn of_nodes(nodes: Vec<NodeOverview>) -> Overview {
    let catalogue = catalogue();
    let images = catalogue.wanted().enumerate().map(|(index, image)| {
        let of_node = |node: &NodeOverview, wanted: fn(&ImageOnNode) -> bool| {
            node.not_eligible.is_none() && wanted(&node.images[index])
        };
        let count = |wanted: fn(&ImageOnNode) -> bool| nodes.iter().filter(|node| of_node(node, wanted)).count();
        let present = count(ImageOnNode::is_present);
        let eligible = count(|image| *image != ImageOnNode::NotWanted);
        ImageOverview {
            reference: image.reference.clone(),
            digest: image.digest.clone(),
            name: image.name.clone(),
            size: image.size,
            why: image.why.clone(),
            present,
            eligible,
            wave: if present == eligible { Wave::Done } else { Wave::Rolling },
        }
    });
    let images = images.collect();
    let began = Some(catalogue.generated);
    let scan = ScanState { last: began, last_good: began, last_good_began: began, problem: None };
    Overview { catalogue: Some(Arc::new(catalogue)), scan, images, nodes, ..nothing() }
}

/// A busy fleet: one new image is being rolled out, some nodes have trouble, most are complete.
pub(crate) fn fleet(size: usize) -> Overview {
    let nodes = (0..size).map(|number| {
        let mut node = node(&format!("pool-users-{:04}", number + 1), 6);
        match number % 100 {
            3 => node.images[4] = downloading(43),
            4 => {
                node.images[4] = downloading(87);
                node.images[5] = state(PullState::Unpacking);
                node.waiting_pods = 2;
            }
            5 => node.images[4] = failed(3, "registry.example.org answered 503 Service Unavailable"),
            6 => {
                let error = "the disk would be 81 % full, which is above DISK_HIGH (75 %)";
                let refused = Reported { error: Some(error.into()), ..reported(PullState::Refused) };
                node.images[4] = ImageOnNode::Reported(refused);
            }
            7 => {
                node.not_eligible = Some("cordoned".to_owned());
                node.images = vec![ImageOnNode::NotWanted; 6];
            }
            8 => {
                node.gated = true;
                node.images = vec![ImageOnNode::Ordered; 6];
            }
            9..=12 => node.images[4] = ImageOnNode::NotOrdered,
            _ => {}
        }
        node
    });
    of_nodes(nodes.collect())
}
