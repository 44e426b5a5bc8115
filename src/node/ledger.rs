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
        let journal = self.clone();
        // Now and then a number costs a write to the disk.
        let drawn = tokio::task::spawn_blocking(move || Journal::next_sequence(&journal)).await;
        drawn.unwrap_or_else(|e| {
            Err(Error::internal(Stage::Publish, format!("drawing a sequence number broke off: {e}")))
        })
    }
}
