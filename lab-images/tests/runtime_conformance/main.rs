//! The behavior of every adapter of `Runtime`, tested by one list of cases on three real runtimes: containerd 2.4, Debian's
//! containerd 1.6 and the Docker engine. A case notes where they must differ. Each runtime is started once, behind a proxy that
//! can be slow or stall, and each case has a separate repository.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod bed;
mod discarded_layers;
mod images;
mod pulls;

use std::time::Duration;

use lab_images::runtime::{Runtime, RuntimeError};
use testbed::containerd::Release;
use tokio::time::{Instant, sleep};

use self::bed::{Bed, DEADLINE, Engine};

#[tokio::test(flavor = "multi_thread")]
async fn containerd_2_4_behaves_as_a_runtime() {
    all(Bed::start(Some(Release::Current))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn containerd_1_6_behaves_as_a_runtime() {
    all(Bed::start(Some(Release::Debian))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_behaves_as_a_runtime() {
    all(Bed::start(None)).await;
}

async fn all(mut bed: Bed) {
    let runtime = bed.open().await;
    images::removal_takes_every_name_of_one_image_and_leaves_the_others(&bed, &*runtime).await;
    images::the_file_system_is_the_one_of_the_runtimes_folder(&bed, &*runtime).await;
    images::the_error_for_the_other_protocol_names_the_scheme_to_write(&bed).await;
    pulls::a_pull_shows_its_bytes_and_shared_layers_are_not_fetched_again(&bed, &*runtime).await;
    pulls::a_digest_decides_whatever_happened_to_the_tag(&bed, &*runtime).await;
    pulls::a_moved_tag_is_reported_and_a_missing_one_is_an_error(&bed, &*runtime).await;
    pulls::a_failure_in_the_middle_of_a_pull_is_an_error(&bed, &*runtime).await;
    pulls::a_stalled_pull_ends_and_containerd_resumes_it(&bed, &*runtime).await;
    pulls::a_dropped_pull_stops_in_the_runtime(&bed, &*runtime).await;
    images::what_containers_use_is_listed_in_every_state(&bed, &*runtime).await;
    a_runtime_that_was_restarted_is_found_again(&mut bed, &*runtime).await;
}

async fn a_runtime_that_was_restarted_is_found_again(bed: &mut Bed, runtime: &dyn Runtime) {
    let pushed = bed.push("restarted", "w_1", &[51]);
    bed.fetch(runtime, &pushed.reference).await;
    let held = runtime.images().await.unwrap().len();
    for _ in 0..2 {
        match &mut bed.engine {
            Engine::Containerd(containerd) => containerd.stop(),
            Engine::Docker(docker) => docker.stop(),
        }
        let error = runtime.images().await.unwrap_err();
        assert!(matches!(error, RuntimeError::Socket { .. }), "{error}");
        bed.restart();
        let deadline = Instant::now() + DEADLINE;
        let images = loop {
            match runtime.images().await {
                Ok(images) => break images,
                Err(error) => assert!(Instant::now() < deadline, "{error}"),
            }
            sleep(Duration::from_millis(50)).await;
        };
        assert_eq!(images.len(), held);
        // The runtime is killed.
        match &mut bed.engine {
            Engine::Containerd(containerd) => containerd.kill(),
            Engine::Docker(docker) => docker.kill(),
        }
        bed.restart();
    }
}
