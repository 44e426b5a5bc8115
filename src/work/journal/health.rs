//! Whether the journal works, as its last write shows.
//!
//! What enters: the beginning and the outcome of each transaction. What leaves: nothing, or the error
//! that the node shows as its state. No database here.

use super::fault::STAGE;
use crate::base::error::{Error, ErrorKind, Result};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A transaction that takes longer than this stands on a disk that does not answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Shared by the thread, which writes it, and the handles, which read it.
pub(super) struct Health {
    database: PathBuf,
    now: Mutex<Now>,
}

#[derive(Default)]
struct Now {
    failure: Option<Error>,
    busy_since: Option<Instant>,
}

impl Health {
    /// Nothing has failed yet.
    pub(super) fn new(database: &Path) -> Self {
        Self { database: database.into(), now: Mutex::default() }
    }

    /// The disk is being asked.
    pub(super) fn begins(&self) {
        self.now().busy_since = Some(Instant::now());
    }

    /// The disk has answered.
    pub(super) fn ends(&self) {
        self.now().busy_since = None;
    }

    /// A write reached the disk.
    pub(super) fn works(&self) {
        if self.now().failure.take().is_some() {
            tracing::info!(journal = %self.database.display(), "the journal works again");
        }
    }

    /// A write did not.
    pub(super) fn fails(&self, error: &Error) {
        let before = self.now().failure.replace(error.clone());
        if before.as_ref().map(Error::code) != Some(error.code()) {
            tracing::error!(code = error.code(), "{error}");
        }
    }

    /// Whether the last write failed.
    pub(super) fn has_failed(&self) -> bool {
        self.now().failure.is_some()
    }

    /// The failure of the last write, or that it takes too long.
    pub(super) fn check(&self) -> Result<()> {
        self.check_at(Instant::now())
    }

    fn check_at(&self, at: Instant) -> Result<()> {
        let now = self.now();
        let busy = now.busy_since.map(|since| at.saturating_duration_since(since));
        match (&now.failure, busy) {
            (Some(failure), _) => Err(failure.clone()),
            (None, Some(busy)) if busy > PATIENCE => Err(self.no_answer(busy)),
            _ => Ok(()),
        }
    }

    fn no_answer(&self, busy: Duration) -> Error {
        let path = self.database.display();
        let message =
            format!("the disk has not answered a write to the journal {path} for {} s", busy.as_secs());
        Error::new(ErrorKind::Timeout, "journal_failed", STAGE, message)
            .hint("check the disk that holds the state folder")
    }

    fn now(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_stays_until_a_write_works() {
        let health = Health::new(Path::new("/state/journal.db"));
        assert_eq!(health.check(), Ok(()));
        let failure = Error::new(ErrorKind::NoSpace, "no_space", STAGE, "full");
        health.fails(&failure);
        health.begins();
        health.ends();
        assert_eq!(health.check(), Err(failure));
        health.works();
        assert_eq!(health.check(), Ok(()));
    }

    #[test]
    fn a_disk_that_does_not_answer_shows() {
        let health = Health::new(Path::new("/state/journal.db"));
        health.begins();
        let begun = Instant::now();
        assert_eq!(health.check_at(begun + Duration::from_secs(5)), Ok(()));
        let e = health.check_at(begun + Duration::from_secs(15)).unwrap_err();
        assert_eq!((e.kind(), e.code()), (ErrorKind::Timeout, "journal_failed"));
        health.ends();
        assert_eq!(health.check_at(begun + Duration::from_secs(15)), Ok(()));
    }
}
