//! Starts one pull: how much is missing, and whether the disk guard admits it.

use std::time::{Duration, Instant};

use lab_images::runtime::disk::Reservation;
use lab_images::runtime::{FileSystem, Phase};
use sidecar::schedule::random;

use super::Puller;
use super::pulling::{self, Pulling};
use super::schedule::State;

impl Puller {
    /// Starts the pull of a job, or records why it does not start.
    pub(super) async fn start(&mut self, job: usize) {
        let mut order = self.report.borrow().jobs[job].order.clone();
        if let Some(registry) = self.registry.as_ref().filter(|_| order.size.is_none() && order.layers.is_empty()) {
            pulling::ask_size(registry, &mut order).await;
        }
        let missing = pulling::missing_bytes(&*self.runtime, &order).await;
        let disk = self.runtime.file_system().await;
        let now = Instant::now();
        let was_refused = matches!(self.report.borrow().jobs[job].state, State::Refused { .. });
        let state = match (missing, disk) {
            (Ok(_), Ok(disk)) if was_refused && self.guard.overrun(&disk).is_some() => {
                // The pull may have downloaded everything before it was stopped; unpacking would still fill the disk.
                let error = self.guard.overrun(&disk).map(|overrun| overrun.to_string()).unwrap_or_default();
                self.retries.refused(error, false, now)
            }
            (Ok(missing), Ok(disk)) => match self.admit(&disk, missing) {
                Ok(reservation) => {
                    let bytes = missing.map_or_else(|| "unknown".to_owned(), |missing| missing.to_string());
                    tracing::info!(image = %order.image, bytes, "pull begins");
                    let (runtime, credentials) = (self.runtime.clone(), self.credentials.clone());
                    let limits = self.settings.limits;
                    self.running.push(Pulling::start(
                        &mut self.pulls,
                        runtime,
                        credentials,
                        order,
                        limits,
                        reservation,
                        missing.is_some(),
                    ));
                    State::Pulling { phase: Phase::Waiting, idle: Duration::ZERO }
                }
                Err((refusal, fits_alone)) => {
                    tracing::warn!(image = %order.image, refusal, "pull not started");
                    // Running pulls reserve more than they use in the end, so there may be room later.
                    let room_may_come = fits_alone && !self.running.is_empty();
                    self.report.send_modify(|report| report.done.refused += 1);
                    self.retries.refused(refusal, room_may_come, now)
                }
            },
            // The runtime became unavailable since the last look, and the next look reports it.
            (Err(_), _) | (_, Err(_)) if !self.look().await => State::Waiting,
            (Err(error), _) | (_, Err(error)) => {
                self.report.send_modify(|report| report.jobs[job].failures += 1);
                let failures = self.report.borrow().jobs[job].failures;
                self.retries.failed(failures, error.to_string(), now, random())
            }
        };
        self.report.send_modify(|report| report.jobs[job].enter(state));
    }

    /// Asks the guard. A refusal gives the reason, and whether the pull would fit if no other pull were running.
    fn admit(&mut self, disk: &FileSystem, missing: Option<u64>) -> Result<Reservation, (String, bool)> {
        match missing {
            Some(missing) => {
                self.guard.admit(disk, missing).map_err(|refusal| (refusal.to_string(), refusal.fits_alone()))
            }
            None => {
                let fits_alone = self.guard.overrun(disk).is_none();
                self.guard
                    .admit_unknown(disk)
                    .map_err(|overrun| (format!("its size is unknown, and {overrun}"), fits_alone))
            }
        }
    }
}
