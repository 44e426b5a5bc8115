//! The thread that owns the connection: takes what waits, writes it as one transaction, answers.
//!
//! What enters: requests through the door. What leaves: answers, once what they promise is on the
//! disk. A sync of the disk costs the same for one change as for many, so all that wait share it;
//! each has a savepoint, so that one that fails does not take the others along.

use super::fault::Fault;
use super::health::Health;
use super::place::{FileId, Place, gone};
use super::request::{Door, Entry, Read, Request, Write, write};
use super::{meta, schema};
use crate::base::error::{Error, Result};
use crossbeam_channel::{Receiver, RecvTimeoutError};
use rusqlite::Connection;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Changes in one transaction, at most: bounds what a lost one has to repeat, and how long the first
/// of them waits.
const MAX_GROUP: usize = 128;
/// How often the thread looks after the place, and tries a failed journal again.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What the thread works with.
pub(super) struct Worker {
    // Closed before the lock on the folder is given back.
    db: Connection,
    place: Place,
    file: FileId,
    identity: String,
    wants_reopening: bool,
    looked: Instant,
    health: Arc<Health>,
    commits: Arc<AtomicU64>,
}

/// Shuts the door when the thread ends, however it ends: nobody waits for an answer of nobody.
struct Porter(Arc<Door>);

impl Drop for Porter {
    fn drop(&mut self) {
        self.0.shut();
    }
}

/// The result of each change of a group, in its order.
type Results = Vec<Option<Error>>;

/// A transaction of which nothing is in the database.
struct Lost {
    error: Error,
    /// Whether it failed for what was in it, and not before.
    begun: bool,
}

impl Worker {
    /// The worker on a database that was opened at `place`.
    pub(super) fn new(
        db: Connection,
        place: Place,
        health: Arc<Health>,
        commits: Arc<AtomicU64>,
    ) -> Result<Self> {
        let file = place.database_id()?;
        let identity = meta::identity(&db).map_err(|fault| fault.told(place.database()))?;
        let looked = Instant::now();
        Ok(Self { db, place, file, identity, wants_reopening: false, looked, health, commits })
    }

    /// Works until the door is shut and all that came before is done; then closes the database.
    pub(super) fn run(mut self, requests: Receiver<Entry>, door: Arc<Door>) {
        let _porter = Porter(door);
        loop {
            match requests.recv_timeout(LOOK_EVERY) {
                Ok(first) => self.serve(first, &requests),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.look_after();
        }
        self.close();
    }

    /// Serves what waits. The writes come first: what a caller asked for before he looks, he sees.
    fn serve(&mut self, first: Entry, requests: &Receiver<Entry>) {
        let mut writes: Vec<Box<dyn Write>> = Vec::new();
        let mut reads: Vec<Box<dyn Read>> = Vec::new();
        for entry in std::iter::once(first).chain(requests.try_iter()).take(MAX_GROUP) {
            match entry.request {
                Request::Write(task) => writes.push(task),
                Request::Read(task) => reads.push(task),
            }
        }
        self.write(writes);
        for task in reads {
            self.wants_reopening |= task.run(&self.db, self.place.database());
        }
    }

    fn write(&mut self, group: Vec<Box<dyn Write>>) {
        if group.is_empty() {
            return;
        }
        self.health.begins();
        match self.ready() {
            Ok(()) => self.write_now(group),
            Err(e) => answer(group, std::iter::repeat(Some(e))),
        }
        self.health.ends();
    }

    fn write_now(&mut self, mut group: Vec<Box<dyn Write>>) {
        match self.transaction(&mut group) {
            Ok(results) => answer(group, results),
            // One of them, or the sum of them, was too much: each for itself.
            Err(lost) if lost.begun && group.len() > 1 => self.write_each(group),
            Err(lost) => answer(group, std::iter::repeat(Some(lost.error))),
        }
    }

    fn write_each(&mut self, group: Vec<Box<dyn Write>>) {
        let mut closed_to_all = None;
        for task in group {
            let mut alone = vec![task];
            let result = match &closed_to_all {
                Some(error) => Some(Error::clone(error)),
                None => match self.transaction(&mut alone) {
                    Ok(results) => results.into_iter().flatten().next(),
                    Err(lost) => {
                        // None of the others would get in either, and each try may take seconds.
                        closed_to_all = (!lost.begun).then(|| lost.error.clone());
                        Some(lost.error)
                    }
                },
            };
            answer(alone, [result]);
        }
    }

    /// One transaction for the group. On an error nothing of it is in the database.
    fn transaction(&mut self, group: &mut [Box<dyn Write>]) -> Result<Results, Lost> {
        let before = self.db.total_changes();
        if let Err(e) = self.db.execute_batch("BEGIN IMMEDIATE") {
            return Err(Lost { error: self.failed(e.into()), begun: false });
        }
        let faults = match self.try_transaction(group) {
            Ok(faults) => faults,
            Err(fault) => {
                if !self.db.is_autocommit() && self.db.execute_batch("ROLLBACK").is_err() {
                    self.wants_reopening = true;
                }
                return Err(Lost { error: self.failed(fault), begun: true });
            }
        };
        // A transaction without changes has not asked the disk, so it says nothing about it.
        if self.db.total_changes() != before {
            self.commits.fetch_add(1, Ordering::Relaxed);
            self.health.works();
        }
        Ok(faults.into_iter().map(|fault| fault.map(|fault| self.failed(fault))).collect())
    }

    fn try_transaction(&self, group: &mut [Box<dyn Write>]) -> Result<Vec<Option<Fault>>, Fault> {
        let mut faults = Vec::with_capacity(group.len());
        for task in group {
            match self.savepoint(task.as_mut()) {
                // SQLite has given up the whole transaction, those before included.
                Err(fault) if self.db.is_autocommit() => return Err(fault),
                outcome => faults.push(outcome.err()),
            }
        }
        self.db.execute_batch("COMMIT")?;
        Ok(faults)
    }

    fn savepoint(&self, task: &mut dyn Write) -> Result<(), Fault> {
        self.db.execute_batch("SAVEPOINT one")?;
        let outcome = task.run(&self.db);
        if outcome.is_ok() {
            self.db.execute_batch("RELEASE one")?;
        } else if !self.db.is_autocommit() {
            self.db.execute_batch("ROLLBACK TO one; RELEASE one")?;
        }
        outcome
    }

    /// Notes what a fault says about the journal.
    fn failed(&mut self, fault: Fault) -> Error {
        let of_the_database = fault.is_of_the_database();
        self.wants_reopening |= fault.wants_reopening();
        let error = fault.told(self.place.database());
        if of_the_database {
            self.health.fails(&error);
        }
        error
    }

    /// Sees to it that what is written can be found again: a connection that works, to the file that
    /// lies at the path.
    fn ready(&mut self) -> Result<()> {
        if !self.wants_reopening && !self.place.has_moved(self.file) {
            return Ok(());
        }
        self.reopen().inspect_err(|e| self.health.fails(e))
    }

    /// A new connection to the same database. Until there is one, the old one serves those who read.
    fn reopen(&mut self) -> Result<()> {
        self.place.retake()?;
        let db = schema::open(self.place.database(), false)?;
        let identity = meta::identity(&db).map_err(|fault| fault.told(self.place.database()))?;
        if identity != self.identity {
            return Err(gone(self.place.database(), "another journal lies there"));
        }
        self.file = self.place.database_id()?;
        self.db = db;
        self.wants_reopening = false;
        tracing::info!(journal = %self.place.database().display(), "opened the journal again");
        Ok(())
    }

    /// Tries a small write when the last one failed or the file has gone, so that the journal is
    /// known to work again though nobody dares to use it.
    fn look_after(&mut self) {
        if self.looked.elapsed() < LOOK_EVERY {
            return;
        }
        self.looked = Instant::now();
        if self.health.has_failed() || self.place.has_moved(self.file) {
            let Request::Write(probe) = write(meta::probe, |_| {}) else { return };
            self.write(vec![probe]);
        }
    }

    fn close(self) {
        let checkpoint = self.db.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
        let closed = checkpoint.and_then(|()| self.db.close().map_err(|(_, e)| e));
        if let Err(e) = closed {
            // Nothing is lost: the log is read at the next start.
            tracing::warn!(journal = %self.place.database().display(), "closing the journal: {e}");
        }
    }
}

fn answer(group: Vec<Box<dyn Write>>, results: impl IntoIterator<Item = Option<Error>>) {
    for (task, failure) in group.into_iter().zip(results) {
        task.answer(failure);
    }
}
