//! Whether an image waits for its successor, depending on the images on the node, the catalogue and the history.

use super::*;
use crate::history::WantedAs;
use jiff::Timestamp;

const LAB: &str = "registry.example.org/owner/lab";

/// Builds a catalogue. `!tag` is listed and not wanted; `tag=alias` has an alias; `other/tag` is in another repository.
fn catalogue(entries: &[&str]) -> Catalogue {
    let images = entries.iter().map(|entry| {
        let (wanted, entry) = entry.strip_prefix('!').map_or((true, *entry), |entry| (false, entry));
        let (name, alias) = entry.split_once('=').unzip();
        let name = name.unwrap_or(entry);
        let (repository, tag) =
            name.split_once('/').map_or((LAB.to_owned(), name), |(of, tag)| (format!("{LAB}-{of}"), tag));
        let json = serde_json::json!({
            "reference": format!("{repository}:{tag}"), "repository": repository, "tag": tag,
            "class": TagScheme::Rubin.parse(tag).class, "name": tag, "digest": format!("sha256:{:0>64}", digits(tag)),
            "kind": "lab", "platforms": [], "size": null, "aliases": Vec::from_iter(alias), "wanted": wanted, "why": "test",
        });
        serde_json::from_value(json).unwrap()
    });
    Catalogue::new(Timestamp::UNIX_EPOCH, true, images.collect())
}

fn digits(tag: &str) -> String {
    tag.chars().filter(char::is_ascii_digit).collect()
}

/// `tag`, `other/tag`, `@tag` for the digest that the catalogue gives that tag, `-tag` for an image without a name that
/// was wanted as that tag.
fn node(names: &[&str]) -> (Vec<Image>, History) {
    let mut history = History::default();
    let images = names.iter().enumerate().map(|(number, name)| {
        let id = format!("sha256:{number:064}");
        let tag = |name: &str| match name.split_once('/') {
            Some((of, tag)) => format!("{LAB}-{of}:{tag}"),
            None => format!("{LAB}:{name}"),
        };
        let (tags, digests) = match name.split_at(1) {
            ("@", name) => (vec![], vec![format!("{LAB}@sha256:{:0>64}", digits(name))]),
            ("-", _) => (vec![], vec![]),
            _ => (vec![tag(name)], vec![]),
        };
        let mut record = Record::new(Timestamp::UNIX_EPOCH);
        if let Some(name) = name.strip_prefix('-') {
            let class = TagScheme::Rubin.parse(name).class;
            record.wanted_as = Some(WantedAs { reference: tag(name).parse().unwrap(), class });
        }
        history.images.insert(id.clone(), record);
        Image { id, tags, digests, size: 1, pinned: false }
    });
    (images.collect(), history)
}

#[test]
fn the_newest_of_a_class_waits_for_its_successor() {
    // The catalogue, the images on the node, and what the first of them waits for.
    type Case = (&'static [&'static str], &'static [&'static str], Option<&'static str>);
    let table: [Case; 24] = [
        // The successor is not here: the newest stays, and older ones need not stay.
        (&["w_2026_53"], &["w_2026_52"], Some("w_2026_53")),
        (&["w_2026_53", "!w_2026_52"], &["w_2026_52"], Some("w_2026_53")),
        (&["w_2026_53"], &["w_2026_51", "w_2026_52"], None),
        (&["w_2026_53"], &["w_2026_52", "w_2026_51"], Some("w_2026_53")),
        (&["w_2026_53", "w_2026_52"], &["w_2026_51"], Some("w_2026_53")),
        // The successor is here, by its tag, its digest or an alias; or a newer wanted image is.
        (&["w_2026_53"], &["w_2026_52", "w_2026_53"], None),
        (&["w_2026_53"], &["w_2026_52", "@w_2026_53"], None),
        (&["w_2026_53=latest_weekly"], &["w_2026_52", "latest_weekly"], None),
        (&["w_2026_53", "w_2026_52"], &["w_2026_51", "w_2026_52"], None),
        // Each class and each repository is separate.
        (&["w_2026_53", "d_2026_11_02"], &["w_2026_52", "d_2026_11_02"], Some("w_2026_53")),
        (&["w_2026_53", "r30_0_0"], &["r29_0_0", "w_2026_53"], Some("r30_0_0")),
        (&["w_2026_53", "b/w_2026_53"], &["w_2026_52", "b/w_2026_53"], Some("w_2026_53")),
        (&["w_2026_53", "b/w_2026_53"], &["b/w_2026_52", "w_2026_53"], Some("b/w_2026_53")),
        // No image of the class is wanted now, so nothing waits.
        (&["w_2026_53"], &["d_2026_11_01"], None),
        (&["w_2026_53"], &["exp_a"], None),
        (&["w_2026_53"], &["b/w_2026_52"], None),
        (&["!w_2026_53"], &["w_2026_52"], None),
        // A release was withdrawn: the previous one has to be here.
        (&["r29_0_0"], &["r30_0_0"], Some("r29_0_0")),
        (&["r29_0_0"], &["r30_0_0", "r29_0_0"], None),
        // Tags that no scheme orders: the catalogue's order counts.
        (&["sha-1", "!sha-9"], &["sha-9"], Some("sha-1")),
        (&["sha-1", "!sha-9"], &["sha-9", "sha-1"], None),
        // An image without a tag is identified by its digest, or by the tag that last wanted it.
        (&["w_2026_53", "!w_2026_52"], &["@w_2026_52"], Some("w_2026_53")),
        (&["w_2026_53"], &["-w_2026_52"], Some("w_2026_53")),
        (&["w_2026_53"], &["-w_2026_52", "w_2026_53"], None),
    ];
    for (entries, here, awaited) in table {
        let (catalogue, (images, history)) = (catalogue(entries), node(here));
        let succession = Succession::new(Some(&catalogue), &images, &history, &TagScheme::Rubin);
        let name = succession.awaited_by(&images[0]).map(|(_, name)| name);
        let tag =
            name.as_deref().map(|name| name.trim_start_matches(LAB).trim_start_matches([':', '-']).replace(':', "/"));
        assert_eq!(tag.as_deref(), awaited, "{entries:?} {here:?}");
    }
}

#[test]
fn without_a_catalogue_nothing_is_awaited() {
    let (images, history) = node(&["w_2026_52"]);
    assert_eq!(Succession::new(None, &images, &history, &TagScheme::Rubin).awaited_by(&images[0]), None);
}

#[test]
fn other_schemes_order_other_tags() {
    let (images, history) = node(&["4.10.0", "4.9.0"]);
    let catalogue = catalogue(&["5.0.0"]);
    let mut catalogue = catalogue;
    catalogue.images[0].class = TagScheme::Semver.parse("5.0.0").class;
    let succession = Succession::new(Some(&catalogue), &images, &history, &TagScheme::Semver);
    let waits = |number: usize| succession.awaited_by(&images[number]).is_some();
    assert_eq!((waits(0), waits(1)), (true, false));
}
