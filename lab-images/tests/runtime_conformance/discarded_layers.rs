//! Layers that are discarded after they are unpacked.

use std::time::Duration;

use lab_images::runtime::{PullLimits, PullRequest, connect};
use testbed::containerd::{self, Containerd, Release};
use testbed::images::{Image, Layer};
use testbed::registry::Registry;

use crate::bed::{MB, layers, pulled, run};

/// A containerd that discards layers after unpacking, as on Amazon's nodes, with an image whose layers the next ones share.
/// Both containerds drop unpacked layers; neither downloads them again, and the report does not count them.
#[tokio::test(flavor = "multi_thread")]
async fn unpacked_layers_that_are_not_kept_are_not_waited_for() {
    for release in [Release::Current, Release::Debian] {
        let registry = Registry::start().unwrap();
        let options = containerd::Options {
            release,
            plain_registries: vec![registry.host()],
            discard_unpacked_layers: true,
            unpack_delay: Some(Duration::from_millis(300)),
            ..Default::default()
        };
        let containerd = Containerd::with(&options).unwrap();
        let runtime = connect(&containerd.endpoint().parse().unwrap()).await.unwrap();
        let push = |tag: &str, seeds: &[u64]| {
            let made = seeds.iter().map(|&seed| Layer::random(seed, 2 * MB));
            let pushed = Image::new(made).push(&registry, "lab", tag).unwrap();
            PullRequest {
                reference: pushed.reference.parse().unwrap(),
                expected: Some(pushed.digest.parse().unwrap()),
                layers: layers(&pushed),
                credentials: None,
            }
        };
        let (base, same, slow) = (push("w_1", &[71, 72, 73]), push("w_2", &[71, 72, 74]), push("w_3", &[71, 75]));
        assert_eq!(pulled(&*runtime, &base).await.downloaded, Some(base.layers.iter().map(|layer| layer.size).sum()));
        // Without the lease nothing holds the layers.
        containerd.ctr(&["leases", "create", "--id", "collect"]).unwrap();
        containerd.ctr(&["leases", "delete", "--sync", "collect"]).unwrap();
        let kept = containerd.ctr(&["content", "list", "-q"]).unwrap();
        assert!(base.layers.iter().all(|layer| !kept.contains(layer.digest.as_str())), "{kept}");

        let present = runtime.present_layers(&same.layers).await.unwrap().unwrap();
        assert!(present.contains(&same.layers[0].digest) && present.contains(&same.layers[1].digest), "{present:?}");
        assert_eq!(present.len(), 2);
        assert_eq!(pulled(&*runtime, &same).await.downloaded, Some(same.layers[2].size));
        // A layer over other ones is another snapshot.
        let other = push("w_4", &[72, 71]);
        assert!(runtime.present_layers(&other.layers).await.unwrap().unwrap().is_empty());

        containerd.delay_unpacking(Duration::from_secs(20)).unwrap();
        let limits = PullLimits { stall: Duration::from_secs(15), ..PullLimits::default() };
        let (result, progress) = run(&*runtime, &slow, limits).await;
        let slow_image = result.unwrap();
        assert!(slow_image.elapsed > limits.stall, "{slow_image:?}");
        assert_eq!(slow_image.downloaded, Some(slow.layers[1].size), "{progress:?}");
        // Nothing is left to download: it is the same image under another name.
        containerd.delay_unpacking(Duration::ZERO).unwrap();
        let again =
            PullRequest { reference: slow.reference.to_string().replace("w_3", "w_1").parse().unwrap(), ..base };
        assert_eq!(pulled(&*runtime, &again).await.downloaded.unwrap_or(0), 0);
    }
}
