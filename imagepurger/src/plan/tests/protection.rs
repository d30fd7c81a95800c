//! Reasons that protect one image.

use super::*;

#[test]
fn any_use_of_an_image_keeps_it() {
    let digest = format!("{LAB}@{}", hex('d'));
    let by_tag = format!("{LAB}:w_1");
    let names = [hex('a'), "a".repeat(64), "a".repeat(12), by_tag, digest.clone(), format!("other/name@{}", hex('d'))];
    for name in names {
        let (mut seen, history) = world(vec![Image { digests: vec![digest.clone()], ..image('a', &["w_1"]) }]);
        assert_eq!(plan(&seen, &history, &rules()).to_remove().count(), 1);
        seen.containers = vec![uses_of("0123456789abcdef", &[&name])];
        assert_eq!(reason(&seen, &history, &rules()), "in use by container 0123456789ab", "{name}");
        seen.containers.clear();
        let pods = vec![PodImages { pod: "hub/jupyter-someone".into(), images: vec![name.clone()] }];
        seen.pods = Pods::Seen { at: seen.now, pods };
        assert_eq!(reason(&seen, &history, &rules()), "in use by pod hub/jupyter-someone", "{name}");
    }
}

#[test]
fn the_sandbox_image_stays_if_the_runtime_reports_it_and_by_its_name() {
    let all = Rules { scope: Scope::All, ..rules() };
    let (mut seen, history) = world(vec![image('a', &["w_1"])]);
    seen.freeing = true;
    seen.containers = vec![uses_of("sandbox", &[&hex('a')])];
    assert_eq!(reason(&seen, &history, &all), "in use by the runtime, as its sandbox image");
    for name in ["registry.k8s.io/pause:3.9", "rancher/mirrored-pause:3.6", "k8s.gcr.io/pause-amd64:3.1"] {
        let (mut seen, history) = world(vec![Image { tags: vec![name.into()], ..image('a', &[]) }]);
        seen.freeing = true;
        assert_eq!(reason(&seen, &history, &all), "in use by the runtime, as its sandbox image", "{name}");
    }
}

#[test]
fn a_wanted_tag_digest_or_alias_keeps_the_whole_image() {
    let (seen, history) = world(vec![image('a', &["w_1", "w_9"])]);
    assert_eq!(reason(&seen, &history, &rules()), format!("wanted by the catalogue ({LAB}:w_9)"));

    let digest = vec![format!("{LAB}@{}", hex('d'))];
    let (mut seen, history) = world(vec![Image { digests: digest, ..image('a', &["w_1"]) }]);
    seen.catalogue.as_mut().unwrap().catalogue.images[0].digest = Some(hex('d').parse().unwrap());
    assert_eq!(reason(&seen, &history, &rules()), format!("wanted by the catalogue ({LAB}:w_9)"));

    let (mut seen, history) = world(vec![image('a', &["recommended"])]);
    assert_eq!(plan(&seen, &history, &rules()).to_remove().count(), 1);
    seen.catalogue.as_mut().unwrap().catalogue.images[0].aliases = vec!["recommended".into()];
    assert_eq!(reason(&seen, &history, &rules()), format!("wanted by the catalogue ({LAB}:w_9)"));
}

#[test]
fn pins_allowances_and_our_own_images_stay() {
    let (seen, history) = world(vec![Image { pinned: true, ..image('a', &["w_1"]) }]);
    assert_eq!(reason(&seen, &history, &rules()), "pinned in the runtime");

    let (seen, history) = world(vec![image('a', &["w_1"])]);
    let pinned_tag = Rules { pinned_tags: ["w_1".to_owned()].into(), ..rules() };
    assert_eq!(reason(&seen, &history, &pinned_tag), "pinned by a setting (w_1)");
    let pinned_image = Rules { pinned_images: vec![format!("{LAB}:w_1").parse().unwrap()], ..rules() };
    assert_eq!(reason(&seen, &history, &pinned_image), format!("pinned by a setting ({LAB}:w_1)"));
    let deny = vec![format!("{LAB}:w_1").parse().unwrap()];
    let allowed = Rules { allow: vec!["*:w_*".parse().unwrap()], deny, ..rules() };
    assert_eq!(reason(&seen, &history, &allowed), "allowed by PURGE_ALLOW (*:w_*)");

    let names = [
        ("ghcr.io/someone/labhands-prepuller:1", true),
        ("labhands/nfs-health:0.1.0", true),
        ("harbor.example.org/mirror/labhands/fileserver:1", true),
        ("localhost/imagepurger:2", true),
        // A project of the same name, and names that other projects use too.
        ("harbor.example.org/labhands/lab:w_1", false),
        ("harbor.example.org/labhands/prepuller/lab:w_1", false),
        ("ghcr.io/someone/fileserver:1", false),
        ("ghcr.io/someone/labhands-lab:1", false),
    ];
    for (name, is_ours) in names {
        let (mut seen, history) = world(vec![Image { tags: vec![name.into()], ..image('a', &[]) }]);
        seen.freeing = true;
        let all = Rules { scope: Scope::All, deny: vec!["*:*".parse().unwrap()], ..rules() };
        assert_eq!(reason(&seen, &history, &all) == "an image of Labhands itself", is_ours, "{name}");
    }
}

#[test]
fn the_newest_of_a_class_stays_until_its_successor_is_here_even_while_the_disk_is_full() {
    let (mut seen, history) = world(vec![image('a', &["w_2"]), image('b', &["w_1"])]);
    seen.freeing = true;
    let successor = seen.images.pop().unwrap();
    let words = format!(
        "no longer wanted by the catalogue, but the newest weekly of its repository here; it stays until {LAB}:w_9 is on this node"
    );
    // The tags are listed, so they have a class and an order.
    let entries = &mut seen.catalogue.as_mut().unwrap().catalogue.images;
    entries.insert(1, listed("w_2", false));
    assert_eq!(reason(&seen, &history, &rules()), words);
    let going = |seen: &Seen, rules: &Rules| -> Vec<String> {
        plan(seen, &history, rules).to_remove().map(|(image, _)| image.tags[0].clone()).collect()
    };
    assert_eq!(going(&seen, &rules()), [format!("{LAB}:w_1")]);
    // PURGE_DENY wins.
    let deny = Rules { deny: vec!["*:w_2".parse().unwrap()], ..rules() };
    assert_eq!(going(&seen, &deny).len(), 2);
    seen.images.push(successor);
    assert_eq!(going(&seen, &rules()).len(), 2);
}
