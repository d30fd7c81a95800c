//! Outputs without a broker: JSON lines on standard output, or nothing at all.

use std::io::{self, Write};

use tokio::sync::mpsc::UnboundedReceiver;

use crate::metrics::Metrics;
use crate::outgoing::{Batch, Budget};
use crate::ship::confirm;

/// Writes each message as a line, until the readers have ended. A line is confirmed once it was written.
///
/// # Errors
///
/// When nobody reads any more.
pub fn write_lines(
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

/// Confirms everything: for measuring what reading alone costs.
pub async fn drop_all(batches: &mut UnboundedReceiver<Batch>, budget: &Budget, metrics: &Metrics) {
    while let Some(batch) = batches.recv().await {
        confirm(batch, budget, metrics);
    }
}
