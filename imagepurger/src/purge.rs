//! `imagepurger purge`: one round and then exit, for cron jobs and operators.

use std::process::ExitCode;
use std::time::Duration;

use jiff::SignedDuration;
use lab_images::runtime::open;
use sidecar::human::bytes;
use sidecar::shutdown::Shutdown;
use sidecar::stdio;
use tokio::time::sleep;

use crate::environment::PurgerEnvironment;
use crate::files::Files;
use crate::memory::Memory;
use crate::report::images;
use crate::round::{Failed, Purger, Round};
use crate::settings::PurgeSettings;
use crate::verdict::age;
use lab_images::runtime::RuntimeError;

/// If the grace ends within this time, the command waits for it, because such a short grace means none.
const SHORT_WAIT: SignedDuration = SignedDuration::from_secs(2);

/// Removes images in one round and prints what it did. The exit code is 0 if everything that was to be removed is gone
/// (images in use are not to be removed). It is 1 if nothing may be removed, a removal failed, or the history could not
/// be saved.
///
/// # Errors
///
/// If the runtime or the cluster cannot be reached, if several runtimes answer and none is configured, or if printing
/// fails.
pub async fn run(settings: PurgeSettings) -> anyhow::Result<ExitCode> {
    sidecar::log::init(settings.log);
    let shutdown = Shutdown::listen()?;
    let (node, limits) = (settings.node, settings.limits);
    let (grace, dry_run) = (node.rules.grace, limits.dry_run);
    let PurgerEnvironment { catalogue, pods, .. } = PurgerEnvironment::of(&node.mode).await?;
    let (endpoint, runtime) = open(node.endpoint.as_ref()).await?;
    tracing::info!(%endpoint, "the container runtime answers");
    let memory = Memory::new(node.history_file, Files::new());
    let mut purger = Purger::new(runtime, catalogue, pods, node.rules, (node.watermarks, limits), memory);
    purger.memory.load(&purger.clock).await;
    let is_new = purger.memory.is_new();
    let token = shutdown.token();
    let mut round = purger.round(&token).await?;
    if let Some(left) = round.next.filter(|left| *left <= SHORT_WAIT && round.removed.is_empty() && round.to_go == 0) {
        sleep(Duration::try_from(left).unwrap_or_default()).await;
        round = purger.round(&token).await?;
    }
    let mut text = report(&round, dry_run);
    if is_new && round.next.is_some() {
        text += &format!(
            "There was no history before this purge ({}): a later purge removes an image once PURGE_GRACE ({}) has passed since it was first seen.\n",
            purger.memory.file().display(),
            age(grace)
        );
    }
    stdio::print(&text)?;
    Ok(if is_clean(&round) && !token.is_cancelled() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn is_clean(round: &Round) -> bool {
    let failed = |failed: &Failed| !matches!(failed.error, RuntimeError::InUse { .. });
    round.hold.is_none()
        && !round.failed.iter().any(failed)
        && round.lost.is_empty()
        && round.unsaved.is_none()
        && round.broken.is_none()
}

fn report(round: &Round, dry_run: bool) -> String {
    let mut text = String::new();
    let mut line = |what: &str, image: &str| text += &format!("{what}  {image}\n");
    for image in &round.removed {
        line(if dry_run { "would remove" } else { "removed" }, image);
    }
    round.restored.iter().for_each(|image| line("restored, because something needs it again", image));
    round.lost.iter().for_each(|image| line("removed while a container was starting to use it", image));
    for Failed { image, error, .. } in &round.failed {
        line("not removed", &format!("{image}: {error}"));
    }
    if let Some(hold) = &round.hold {
        text += &format!("Nothing is removed: {hold}\n");
    }
    if let Some(error) = &round.broken {
        text += &format!("The round ended early: {error}\n");
    }
    if let Some(error) = &round.unsaved {
        text += &format!("Cannot save the history of images: {error}\n");
    }
    let count = images(round.removed.len());
    text += &match dry_run {
        true => format!("{count} would be removed, {} in all\n", images(round.images)),
        false => format!("{count} removed, {} freed, {} left\n", bytes(round.freed), round.images),
    };
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::Hold;

    #[test]
    fn only_prevented_removals_make_the_exit_code_1() {
        let failed = |error| Failed { image: "lab:1".into(), error, again: false };
        let in_use = RuntimeError::InUse { image: "lab:1".into(), message: "in use".into() };
        let removed = Round { removed: vec!["lab:1".into()], freed: 2_000_000, images: 3, ..Round::default() };
        assert!(is_clean(&removed));
        assert_eq!(report(&removed, false), "removed  lab:1\n1 image removed, 1.91 MiB freed, 3 left\n");
        assert_eq!(report(&removed, true), "would remove  lab:1\n1 image would be removed, 3 images in all\n");
        assert!(is_clean(&Round { failed: vec![failed(in_use)], ..Round::default() }));
        let broken = [
            Round { failed: vec![failed(RuntimeError::StillListed { image: "lab:1".into() })], ..Round::default() },
            Round { hold: Some(Hold::CatalogueEmpty), ..Round::default() },
            Round { lost: vec!["lab:1".into()], ..Round::default() },
        ];
        for round in broken {
            assert!(!is_clean(&round) && !report(&round, false).is_empty(), "{round:?}");
        }
    }
}
