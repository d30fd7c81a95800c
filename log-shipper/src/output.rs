//! Sends events to their destination: a broker, standard output as JSON lines, or nowhere.

use std::io::{self, Write};
use std::time::Duration;

use anyhow::Context;
use sidecar::readiness::Latch;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;
use crate::outgoing::{Batch, Budget};
use crate::settings::Output;
use crate::ship::{Shipping, confirm, ship};

/// How long shipping may continue after the readers ended. The rest of the drain time is for the checkpoint.
const SHIP_LIMIT: Duration = Duration::from_secs(7);

/// Receives all events.
#[derive(Debug)]
pub struct Sink {
    /// The destination.
    pub output: Output,
    /// The budget to which confirmed bytes are returned.
    pub budget: Budget,
    /// The metrics.
    pub metrics: Metrics,
    /// Readiness of the destination.
    pub latch: Latch,
    /// Whether the process ends when everything is confirmed.
    pub until_idle: bool,
}

impl Sink {
    /// Handles events until the readers have ended, or for a limited time after `stop`.
    ///
    /// # Errors
    ///
    /// If standard output no longer has a reader.
    pub async fn run(self, batches: &mut UnboundedReceiver<Batch>, stop: &CancellationToken) -> anyhow::Result<()> {
        let Self { output, budget, metrics, latch, until_idle } = self;
        let limit = async {
            stop.cancelled().await;
            tokio::time::sleep(SHIP_LIMIT).await;
        };
        match output {
            Output::Amqp(broker) => {
                let shipping = Shipping { broker: *broker, budget, metrics, latch, until_idle };
                tokio::select! {
                    () = ship(&shipping, batches, stop) => (),
                    () = limit => tracing::warn!("some events were not confirmed in time; the next run reads them again"),
                }
                Ok(())
            }
            Output::Null => {
                latch.ready();
                tokio::select! {
                    () = drop_all(batches, &budget, &metrics) => (),
                    () = limit => (),
                }
                Ok(())
            }
            Output::Stdout => {
                latch.ready();
                let (_, empty) = unbounded_channel();
                let mut batches = std::mem::replace(batches, empty);
                let (done, written) = oneshot::channel();
                let writing = std::thread::Builder::new().name("output".to_owned()).spawn(move || {
                    let mut out = io::BufWriter::with_capacity(64 * 1024, io::stdout().lock());
                    let written = write_lines(&mut out, &mut batches, &budget, &metrics);
                    // Without a receiver the run has ended.
                    let _ = done.send(written);
                });
                writing.context("cannot start the output thread")?;
                tokio::select! {
                    written = written => {
                        written.context("the output thread panicked; see the lines before this one")?
                            .context("cannot write to standard output")
                    }
                    () = limit => {
                        tracing::warn!("standard output did not accept all lines in time; the next run writes the rest");
                        Ok(())
                    }
                }
            }
        }
    }
}

/// Writes each message as a line until the readers have ended. A line is confirmed once it was written.
fn write_lines(
    out: &mut impl Write,
    batches: &mut UnboundedReceiver<Batch>,
    budget: &Budget,
    metrics: &Metrics,
) -> io::Result<()> {
    while let Some(batch) = batches.blocking_recv() {
        for index in 0..batch.messages.len() {
            out.write_all(batch.body(index))?;
            out.write_all(b"\n")?;
        }
        out.flush()?;
        confirm(batch, budget, metrics);
    }
    Ok(())
}

/// Confirms everything, to measure the cost of reading alone.
async fn drop_all(batches: &mut UnboundedReceiver<Batch>, budget: &Budget, metrics: &Metrics) {
    while let Some(batch) = batches.recv().await {
        confirm(batch, budget, metrics);
    }
}
