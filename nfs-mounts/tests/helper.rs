//! The helper against file systems that answer, block killably, and block beyond SIGKILL. This program is its own child, so it
//! has its own main.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use nfs_mounts::Phase;
use nfs_mounts::child::{self, Heartbeat};
use nfs_mounts::failure::Failure;
use nfs_mounts::helper::{Helper, HelperError, Outcome};
use testbed::silent_file_system::{Silence, SilentFileSystem};
use testbed::wait;

/// For what hangs.
const SHORT: Duration = Duration::from_millis(300);

/// For what answers.
const LONG: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some(child::SUBCOMMAND) {
        return child::run(touch);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        a_file_system_that_answers().await;
        a_child_that_dies_is_not_a_hang().await;
        a_killable_hang_ends_the_child_and_the_next_round_starts_another().await;
        beyond_sigkill_no_second_child_is_started_until_the_first_has_ended().await;
    });
    println!("4 passed, 0 failed");
    ExitCode::SUCCESS
}

fn touch(path: PathBuf, heartbeat: &mut Heartbeat) -> Result<u64, Failure> {
    if path == Path::new("die") {
        panic!("asked to");
    }
    let blocks = heartbeat.phase(Phase::Stat, || rustix::fs::statfs(&path))?.f_blocks;
    heartbeat.phase(Phase::Read, || std::fs::read_dir(&path).map(drop)).map_err(|error| Failure::of(&error))?;
    Ok(blocks)
}

async fn ask(helper: &mut Helper, path: &Path) -> Outcome<Result<u64, Failure>> {
    helper.run(&path).await.unwrap()
}

/// Asks until the outcome is wanted: on a busy machine a child may not even begin within a short limit, or take a while to end.
async fn until(
    helper: &mut Helper,
    path: &Path,
    wanted: impl Fn(&Outcome<Result<u64, Failure>>) -> bool,
) -> Outcome<Result<u64, Failure>> {
    let deadline = Instant::now() + wait::LIMIT;
    loop {
        let outcome = ask(helper, path).await;
        if wanted(&outcome) {
            return outcome;
        }
        assert!(Instant::now() < deadline, "{outcome:?}");
    }
}

async fn until_no_child_is_stuck(helper: &mut Helper) {
    let deadline = Instant::now() + wait::LIMIT;
    while helper.is_stuck() {
        assert!(Instant::now() < deadline, "the child did not end when its file system did");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn children() -> usize {
    let task = std::fs::read_to_string(format!("/proc/self/task/{}/children", std::process::id())).unwrap();
    task.split_whitespace().count()
}

async fn a_file_system_that_answers() {
    let mut helper = Helper::new(LONG);
    let Outcome::Answered { answer, phases } = ask(&mut helper, Path::new("/")).await else { panic!("no answer") };
    assert!(answer.unwrap() > 0);
    assert_eq!(phases.iter().map(|(phase, _)| *phase).collect::<Vec<_>>(), [Phase::Stat, Phase::Read]);
    let Outcome::Answered { answer, .. } = ask(&mut helper, Path::new("/nonexistent")).await else { panic!() };
    assert_eq!(answer, Err(Failure::NotFound));
    until_no_child_is_stuck(&mut helper).await;
    assert_eq!(children(), 0);
}

async fn a_child_that_dies_is_not_a_hang() {
    let mut helper = Helper::new(LONG);
    let died: Result<Outcome<()>, _> = helper.run(&Path::new("die")).await;
    assert!(matches!(died, Err(HelperError::NoAnswer { .. })), "{died:?}");
    assert!(!helper.is_stuck());
}

async fn a_killable_hang_ends_the_child_and_the_next_round_starts_another() {
    let silent = SilentFileSystem::mount(Silence::Killable).unwrap();
    let mut helper = Helper::new(SHORT);
    for _ in 0..3 {
        let hangs = |outcome: &_| matches!(outcome, Outcome::Hung { phase: Some(Phase::Stat), .. });
        until(&mut helper, silent.path(), hangs).await;
        assert_eq!(children(), 0);
    }
}

async fn beyond_sigkill_no_second_child_is_started_until_the_first_has_ended() {
    let silent = SilentFileSystem::mount(Silence::BeyondSigkill).unwrap();
    let path = silent.path().to_owned();
    let mut helper = Helper::new(SHORT);
    let is_stuck = |outcome: &_| matches!(outcome, Outcome::Stuck { phase: Some(Phase::Stat), .. });
    let Outcome::Stuck { pid, .. } = until(&mut helper, &path, is_stuck).await else { panic!("not stuck") };
    for _ in 0..50 {
        let outcome = ask(&mut helper, &path).await;
        assert!(matches!(outcome, Outcome::Stuck { pid: same, .. } if same == pid), "{outcome:?}");
        assert_eq!(children(), 1);
    }
    drop(silent);
    until_no_child_is_stuck(&mut helper).await;
    until(&mut helper, Path::new("/"), |outcome| matches!(outcome, Outcome::Answered { answer: Ok(_), .. })).await;
    until_no_child_is_stuck(&mut helper).await;
    assert_eq!(children(), 0);
}
