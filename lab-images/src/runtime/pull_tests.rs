//! Tests with a runtime that does what a real one does not do on demand. The time is tokio's paused clock.

use std::collections::HashSet;
use std::future::pending;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::BoxFuture;

use super::*;
use crate::runtime::{ContainerImages, Layer, LayerProgress, Removed, RuntimeVersion};

const DIGEST: &str = "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
const OTHER: &str = "sha256:cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc";

/// One step of a scripted pull: after this many seconds, this many bytes of 1000.
type Step = (u64, u64);

/// What follows the last step.
#[derive(Clone, Copy, Debug)]
enum End {
    Success,
    Failure,
    Never,
}

#[derive(Debug)]
struct Scripted {
    steps: Vec<Step>,
    end: End,
    cancelled: AtomicBool,
    arrives: Mutex<Option<Image>>,
}

/// Sets the flag unless the pull reached its end.
struct CancelFlag<'a>(&'a AtomicBool);

impl Drop for CancelFlag<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

impl Runtime for Scripted {
    fn version(&self) -> BoxFuture<'_, Result<RuntimeVersion, RuntimeError>> {
        Box::pin(async { Ok(RuntimeVersion { name: "scripted".into(), version: "1".into() }) })
    }

    fn images(&self) -> BoxFuture<'_, Result<Vec<Image>, RuntimeError>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn image<'a>(&'a self, _name: &'a str) -> BoxFuture<'a, Result<Option<Image>, RuntimeError>> {
        Box::pin(async { Ok(self.arrives.lock().unwrap().clone()) })
    }

    fn containers(&self) -> BoxFuture<'_, Result<Vec<ContainerImages>, RuntimeError>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn file_system(&self) -> BoxFuture<'_, Result<FileSystem, RuntimeError>> {
        // It fails, because the machine's real disk and the real time of a measurement have no part in these tests.
        Box::pin(async {
            let (path, operation, limit) = ("/not/there".into(), "ImageFsInfo", Duration::ZERO);
            Err(RuntimeError::NoAnswer { path, operation, limit })
        })
    }

    fn present_layers<'a>(
        &'a self,
        _layers: &'a [Layer],
    ) -> BoxFuture<'a, Result<Option<HashSet<Digest>>, RuntimeError>> {
        Box::pin(async { Ok(None) })
    }

    fn pull<'a>(
        &'a self,
        _request: &'a PullRequest,
        transfer: &'a watch::Sender<Transfer>,
    ) -> BoxFuture<'a, Result<(), RuntimeError>> {
        Box::pin(async move {
            let cancelled = CancelFlag(&self.cancelled);
            for &(after, done) in &self.steps {
                tokio::time::sleep(Duration::from_secs(after)).await;
                let layer = LayerProgress { layer: "one".into(), done, total: Some(1000), unpacked: 0 };
                transfer.send_replace(Transfer::Layers { layers: vec![layer], fetching: true });
            }
            match self.end {
                End::Never => pending().await,
                End::Success => {
                    std::mem::forget(cancelled);
                    Ok(())
                }
                End::Failure => {
                    std::mem::forget(cancelled);
                    Err(RuntimeError::Pull { reference: "lab".into(), message: "no space left on device".into() })
                }
            }
        })
    }

    fn remove<'a>(&'a self, _image: &'a Image) -> BoxFuture<'a, Result<Removed, RuntimeError>> {
        Box::pin(async { Ok(Removed::default()) })
    }
}

fn image() -> Image {
    Image {
        id: "sha256:aa".into(),
        tags: vec!["registry.example/lab:w_1".into()],
        digests: vec![format!("registry.example/lab@{DIGEST}")],
        size: 1,
        pinned: false,
    }
}

fn scripted(steps: &[Step], end: End) -> Scripted {
    Scripted { steps: steps.to_vec(), end, cancelled: AtomicBool::new(false), arrives: Mutex::new(Some(image())) }
}

fn request(expected: Option<&str>) -> PullRequest {
    PullRequest {
        reference: "registry.example/lab:w_1".parse().unwrap(),
        expected: expected.map(|digest| digest.parse().unwrap()),
        layers: Vec::new(),
        credentials: None,
    }
}

async fn run(runtime: &Scripted, expected: Option<&str>) -> (Result<Pulled, PullError>, Progress, Duration) {
    let (progress, _) = watch::channel(Progress::default());
    let started = Instant::now();
    let result = pull(runtime, &request(expected), PullLimits::default(), &progress).await;
    let last = progress.borrow().clone();
    (result, last, started.elapsed())
}

fn near(elapsed: Duration, seconds: u64) -> bool {
    elapsed.as_secs().abs_diff(seconds) <= 1
}

#[tokio::test(start_paused = true)]
async fn a_pull_that_never_moves_a_byte_stalls_and_is_cancelled() {
    for steps in [&[][..], &[(0, 0)]] {
        let runtime = scripted(steps, End::Never);
        let (result, progress, elapsed) = run(&runtime, None).await;
        let error = result.unwrap_err();
        assert!(matches!(error, PullError::Stalled { done: 0, .. }), "{error}");
        assert!(
            error.to_string().contains("registry.example/lab:w_1") && error.to_string().contains("PULL_STALL_TIMEOUT")
        );
        assert!(near(elapsed, 300), "{elapsed:?}");
        assert_eq!(progress.phase, Phase::Waiting);
        assert!(runtime.cancelled.load(Ordering::SeqCst));
    }
}

#[tokio::test(start_paused = true)]
async fn a_pull_that_stops_in_the_middle_stalls_with_its_bytes() {
    let runtime = scripted(&[(100, 300), (290, 600)], End::Never);
    let (result, _, elapsed) = run(&runtime, None).await;
    assert!(matches!(result.unwrap_err(), PullError::Stalled { done: 600, total: Some(1000), .. }));
    assert!(near(elapsed, 690), "{elapsed:?}");
}

#[tokio::test(start_paused = true)]
async fn a_pull_that_never_unpacks_ends() {
    let runtime = scripted(&[(10, 500), (10, 1000)], End::Never);
    let (result, progress, elapsed) = run(&runtime, None).await;
    let error = result.unwrap_err();
    assert!(matches!(error, PullError::UnpackStuck { .. }) && error.to_string().contains("UNPACK_TIMEOUT"), "{error}");
    assert!(near(elapsed, 1820), "{elapsed:?}");
    assert_eq!(progress.phase, Phase::Unpacking);
    assert!(runtime.cancelled.load(Ordering::SeqCst));
}

#[tokio::test(start_paused = true)]
async fn a_pull_of_hours_with_progress_is_not_ended() {
    let steps: Vec<Step> = (1..=100).map(|step| (290, step * 10)).collect();
    let (result, progress, elapsed) = run(&scripted(&steps, End::Success), Some(DIGEST)).await;
    let pulled = result.unwrap();
    assert_eq!((pulled.digest, pulled.downloaded), (ArrivedDigest::Expected, Some(1000)));
    assert!(near(elapsed, 29_000), "{elapsed:?}");
    assert_eq!((progress.phase, progress.done, progress.total), (Phase::Done, 1000, Some(1000)));
}

#[tokio::test(start_paused = true)]
async fn progress_has_phase_rate_and_time_left() {
    let steps: Vec<Step> = (1..=10).map(|step| (1, step * 100)).chain([(5, 1000)]).collect();
    let runtime = scripted(&steps, End::Success);
    let (progress, mut seen) = watch::channel(Progress::default());
    let request = request(None);
    let watching = async {
        let mut all = vec![Progress::default()];
        while all.last().is_some_and(|last| last.phase != Phase::Done) && seen.changed().await.is_ok() {
            all.push(seen.borrow_and_update().clone());
        }
        all
    };
    let (result, all) = tokio::join!(pull(&runtime, &request, PullLimits::default(), &progress), watching);
    result.unwrap();
    let mut phases: Vec<_> = all.iter().map(|progress| progress.phase).collect();
    phases.dedup();
    assert_eq!(phases, [Phase::Waiting, Phase::Downloading, Phase::Unpacking, Phase::Done]);
    let middle = all.iter().rfind(|progress| progress.done == 800).unwrap();
    let (rate, left) = (middle.rate.unwrap(), middle.time_left.unwrap());
    assert!((80..=130).contains(&rate) && (1..=4).contains(&left.as_secs()), "{rate} {left:?}");
}

#[tokio::test(start_paused = true)]
async fn a_digest_other_than_expected_is_reported() {
    let (result, ..) = run(&scripted(&[(1, 1000)], End::Success), Some(OTHER)).await;
    let expected = ArrivedDigest::Other { expected: OTHER.parse().unwrap(), arrived: image().digests };
    assert_eq!(result.unwrap().digest, expected);
    let (result, ..) = run(&scripted(&[(1, 1000)], End::Success), None).await;
    assert_eq!(result.unwrap().digest, ArrivedDigest::NotAsked);
}

#[tokio::test(start_paused = true)]
async fn the_runtimes_error_is_passed_on() {
    let (result, ..) = run(&scripted(&[(1, 500)], End::Failure), None).await;
    assert!(result.unwrap_err().to_string().contains("no space left on device"));
}

#[tokio::test(start_paused = true)]
async fn an_image_that_is_not_there_after_its_pull_is_an_error() {
    let runtime = scripted(&[(1, 1000)], End::Success);
    *runtime.arrives.lock().unwrap() = None;
    let (result, ..) = run(&runtime, None).await;
    assert!(matches!(result.unwrap_err(), PullError::Runtime(RuntimeError::Vanished { .. })));
}

#[test]
fn a_digest_in_a_reference_decides() {
    let name = |text: &str| PullRequest { reference: text.parse().unwrap(), ..request(None) }.name();
    assert_eq!(name("registry.example/lab:w_1"), "registry.example/lab:w_1");
    assert_eq!(name(&format!("registry.example/lab:w_1@{DIGEST}")), format!("registry.example/lab@{DIGEST}"));
    assert_eq!(name(&format!("registry.example/lab@{DIGEST}")), format!("registry.example/lab@{DIGEST}"));
}

#[tokio::test(start_paused = true)]
async fn the_digest_of_the_reference_is_expected_before_any_other() {
    let (progress, _) = watch::channel(Progress::default());
    for (digest, matches) in [(DIGEST, true), (OTHER, false)] {
        let reference = format!("registry.example/lab:w_1@{digest}").parse().unwrap();
        // The current image of the tag does not matter.
        let request = PullRequest { reference, ..request(Some(if matches { OTHER } else { DIGEST })) };
        let runtime = scripted(&[(1, 1000)], End::Success);
        let pulled = pull(&runtime, &request, PullLimits::default(), &progress).await.unwrap();
        assert_eq!(pulled.digest == ArrivedDigest::Expected, matches);
    }
}
