//! What the messages to the orchestrator need of the journal, and no more of it.
//!
//! What enters: the journal. What leaves: four calls that never block a worker of the runtime. It is
//! a trait so that a test can lose a disk in the middle of a delivery.

use crate::base::error::{Error, Result, Stage};
use crate::work::journal::{Event, Journal};
use std::future::Future;

/// The outbox on the disk, and the numbers that every message carries.
pub trait Ledger: Clone + Send + Sync + 'static {
    /// Of each job the oldest event that is still to be delivered, ordered by sequence; at most
    /// `limit`.
    fn due_events(&self, limit: usize) -> impl Future<Output = Result<Vec<Event>>> + Send;

    /// That event was delivered: it leaves the outbox.
    fn delivered(&self, sequence: u64) -> impl Future<Output = Result<()>> + Send;

    /// That event was refused for good: it stays readable, is never sent again, blocks nothing.
    fn set_aside(&self, sequence: u64, why: &str) -> impl Future<Output = Result<()>> + Send;

    /// A number above every one before it, through restarts.
    fn next_sequence(&self) -> impl Future<Output = Result<u64>> + Send;
}

impl Ledger for Journal {
    async fn due_events(&self, limit: usize) -> Result<Vec<Event>> {
        Journal::due_events(self, limit).await
    }

    async fn delivered(&self, sequence: u64) -> Result<()> {
        Journal::delivered(self, sequence).await
    }

    async fn set_aside(&self, sequence: u64, why: &str) -> Result<()> {
        Journal::set_aside(self, sequence, why).await
    }

    async fn next_sequence(&self) -> Result<u64> {
        // Heartbeats and progress go on while other calls hold all blocking threads on a dead disk.
        if let Some(number) = self.take_sequence() {
            return Ok(number);
        }
        let journal = self.clone();
        // Now and then a number costs a write to the disk.
        let drawn = tokio::task::spawn_blocking(move || Journal::next_sequence(&journal)).await;
        drawn.unwrap_or_else(|e| {
            Err(Error::internal(Stage::Publish, format!("drawing a sequence number broke off: {e}")))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::time::Duration;
    use tokio::task::spawn_blocking;
    use tokio::time::timeout;

    #[test]
    fn a_number_is_had_while_every_blocking_thread_hangs() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(folder.path()).unwrap();
        let before = Journal::next_sequence(&journal).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .max_blocking_threads(1)
            .enable_time()
            .build()
            .unwrap();
        let (release, held) = mpsc::channel::<()>();
        let numbers = runtime.block_on(async {
            // The one thread, and one more that waits for it.
            drop([spawn_blocking(move || held.recv().is_ok()), spawn_blocking(|| false)]);
            let draw =
                async { [Ledger::next_sequence(&journal).await, Ledger::next_sequence(&journal).await] };
            timeout(Duration::from_secs(20), draw).await
        });
        drop(release);
        assert_eq!(numbers, Ok([Ok(before + 1), Ok(before + 2)]));
    }
}
