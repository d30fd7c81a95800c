//! Pulls that succeed, get a different image, fail, stall, or are abandoned.

use std::time::Duration;

use lab_images::runtime::{
    ArrivedDigest, Phase, Progress, PullError, PullLimits, PullRequest, Runtime, RuntimeError, pull,
};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use crate::bed::{Bed, DEADLINE, MB, OTHER, clear, layers, pulled, run};

pub(super) async fn a_pull_shows_its_bytes_and_shared_layers_are_not_fetched_again(bed: &Bed, runtime: &dyn Runtime) {
    let [first, second] = [bed.push("shared", "w_1", &[1, 2, 3, 4]), bed.push("shared", "w_2", &[1, 2, 3, 5])];
    let request = bed.request(&first);
    let (progress, mut seen) = watch::channel(Progress::default());
    // A minute, unless it is seen before.
    bed.proxy.limit_rate(Some(MB / 4));
    let (result, ()) = tokio::join!(pull(runtime, &request, PullLimits::default(), &progress), async {
        let middle = |now: &Progress| now.done > 0 && now.done < first.size() && now.total == Some(first.size());
        timeout(DEADLINE, seen.wait_for(middle)).await.unwrap().unwrap();
        bed.proxy.limit_rate(None);
    });
    let image = result.unwrap();
    assert_eq!((image.digest, image.downloaded), (ArrivedDigest::Expected, Some(first.size())));
    assert!(image.image.tags.contains(&request.name()), "{:?}", image.image);
    assert_eq!(progress.borrow().phase, Phase::Done);

    let request = bed.request(&second);
    let present = runtime.present_layers(&request.layers).await.unwrap();
    // Docker cannot tell in advance, but it fetches one layer, too.
    assert_eq!(present.map(|present| present.len()), bed.containerd().map(|_| 3));
    assert_eq!(pulled(runtime, &request).await.downloaded, Some(second.layer_sizes[3]));
    // Again, with everything present.
    assert_eq!(pulled(runtime, &request).await.downloaded.unwrap_or(0), 0);
    clear(bed, runtime).await;
}

pub(super) async fn a_digest_decides_whatever_happened_to_the_tag(bed: &Bed, runtime: &dyn Runtime) {
    let old = bed.push("pinned", "w_1", &[11]);
    let new = bed.push("pinned", "w_1", &[12]);
    // The tag has moved, has stayed, or never existed.
    for (image, tag) in [(&old, "w_1"), (&new, "w_1"), (&old, "w_2020_01")] {
        let request = bed.pinned(image, tag);
        // The catalogue's entry for the tag does not count.
        let request = PullRequest { expected: Some(OTHER.parse().unwrap()), ..request };
        let arrived = pulled(runtime, &request).await;
        assert_eq!(arrived.digest, ArrivedDigest::Expected, "{}", request.reference);
        // The image is found by the requested name.
        let held = runtime.image(&request.name()).await.unwrap().unwrap();
        assert!(held.digests.contains(&request.name()) && held.tags.is_empty(), "{held:?}");
        clear(bed, runtime).await;
    }
}

pub(super) async fn a_moved_tag_is_reported_and_a_missing_one_is_an_error(bed: &Bed, runtime: &dyn Runtime) {
    let pushed = bed.push("moved", "w_1", &[1]);
    let moved = PullRequest { expected: Some(OTHER.parse().unwrap()), ..bed.request(&pushed) };
    let ArrivedDigest::Other { arrived, .. } = pulled(runtime, &moved).await.digest else {
        panic!("the digest differs")
    };
    assert!(arrived.iter().any(|name| name.ends_with(&pushed.digest)), "{arrived:?}");

    let reference = format!("{}/moved:w_404", bed.proxy.host());
    let missing = PullRequest { reference: reference.parse().unwrap(), ..bed.request(&pushed) };
    let error = run(runtime, &missing, PullLimits::default()).await.0.unwrap_err();
    assert!(matches!(&error, PullError::Runtime(RuntimeError::Pull { .. })), "{error}");
    assert!(error.to_string().contains(&reference), "{error}");
    clear(bed, runtime).await;
}

pub(super) async fn a_failure_in_the_middle_of_a_pull_is_an_error(bed: &Bed, runtime: &dyn Runtime) {
    let pushed = bed.push("broken", "w_1", &[21, 22]);
    // The registry has the manifest but lost a layer: Docker reports that inside a stream that began with 200.
    let layer = &layers(&pushed)[1].digest;
    let blob = format!("{}/v2/broken/blobs/{layer}", bed.registry.url());
    let client = bed.registry.client("broken").unwrap();
    client.send("DELETE", &blob, &[], b"").unwrap().expect(202, &blob).unwrap();
    let error = run(runtime, &bed.request(&pushed), PullLimits::default()).await.0.unwrap_err();
    assert!(matches!(&error, PullError::Runtime(RuntimeError::Pull { .. })), "{error}");
    assert!(runtime.images().await.unwrap().is_empty());
}

pub(super) async fn a_stalled_pull_ends_and_containerd_resumes_it(bed: &Bed, runtime: &dyn Runtime) {
    let pushed = bed.push("stalled", "w_1", &[31, 32, 33, 34, 35, 36]);
    let limits = PullLimits { stall: Duration::from_secs(15), ..PullLimits::default() };
    let request = bed.request(&pushed);
    bed.proxy.limit_rate(Some(5 * MB));
    let (progress, mut seen) = watch::channel(Progress::default());
    let (result, ()) = tokio::join!(timeout(DEADLINE, pull(runtime, &request, limits, &progress)), async {
        let far = |now: &Progress| now.done > 10 * MB;
        timeout(DEADLINE, seen.wait_for(far)).await.unwrap().unwrap();
        bed.proxy.stall();
    });
    let error = result.expect("the pull ends").unwrap_err();
    assert!(matches!(error, PullError::Stalled { done, .. } if done > 10 * MB), "{error}");

    if let Some(containerd) = bed.containerd() {
        // The synchronous end of any lease collects garbage: unreferenced content is gone before the next try.
        containerd.ctr(&["leases", "create", "--id", "collect"]).unwrap();
        containerd.ctr(&["leases", "delete", "--sync", "collect"]).unwrap();
    }
    bed.proxy.cut();
    bed.proxy.resume();
    bed.proxy.limit_rate(None);
    let before = bed.proxy.delivered();
    assert_eq!(pulled(runtime, &request).await.digest, ArrivedDigest::Expected);
    let fetched = bed.proxy.delivered() - before;
    if let Some(containerd) = bed.containerd() {
        assert!(fetched < pushed.size() - 8 * MB, "{fetched} of {}", pushed.size());
        let leases = containerd.ctr(&["leases", "list"]).unwrap();
        assert!(!leases.contains(&request.name()), "leases end with the pull: {leases}");
    }
    clear(bed, runtime).await;
}

pub(super) async fn a_dropped_pull_stops_in_the_runtime(bed: &Bed, runtime: &dyn Runtime) {
    let pushed = bed.push("dropped", "w_1", &[41, 42, 43, 44, 45, 46]);
    bed.proxy.limit_rate(Some(MB / 2));
    let before = bed.proxy.delivered();
    let (progress, mut seen) = watch::channel(Progress::default());
    let request = bed.request(&pushed);
    let moving = seen.wait_for(|now| now.phase == Phase::Downloading && now.done > 0);
    tokio::select! {
        result = pull(runtime, &request, PullLimits::default(), &progress) => panic!("{result:?}"),
        moves = timeout(DEADLINE, moving) => drop(moves.unwrap().unwrap()),
    }
    // The proxy stops long before all bytes have passed.
    let (mut last, deadline) = (0, Instant::now() + DEADLINE);
    while last != bed.proxy.delivered() && Instant::now() < deadline {
        last = bed.proxy.delivered();
        sleep(Duration::from_millis(500)).await;
    }
    assert!(last - before < pushed.size(), "{} of {}", last - before, pushed.size());
    assert!(runtime.image(&request.name()).await.unwrap().is_none());
    bed.proxy.limit_rate(None);
}
