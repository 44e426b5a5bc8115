//! The journal: what the node has promised, on the disk before it is promised.
//!
//! What enters: jobs as they are accepted and change, the events that tell of it, a few small facts.
//! What leaves: the same after any end of the process. One SQLite database in the state folder, one
//! thread that owns the connection (`journal::thread`), any number of handles. What must not live here:
//! which job runs next, whether an event is worth sending, anything about media.
//!
//! A change and its event are one transaction. An answer comes when it is on the disk, so a
//! caller that goes away undoes nothing: what it asked for is done all the same, and it alone does not
//! hear of it.

mod fault;
mod health;
mod jobs;
mod meta;
mod outbox;
mod place;
mod request;
mod schema;
mod sequence;
mod thread;

use crate::base::error::Result;
use crate::base::fs::sync_folder;
use crate::model::record::{Job, JobState};
use crossbeam_channel::{Receiver, RecvTimeoutError, bounded};
use fault::{Fault, closed, internal};
use health::Health;
use jiff::Timestamp;
use jobs::Stored;
use place::Place;
use request::{Door, wait};
use rusqlite::Connection;
use sequence::Sequence;
use serde_json::Value;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use thread::Worker;
use tokio::sync::oneshot;

/// Rows that one transaction removes: others wait no longer than that takes.
const FORGET_AT_ONCE: i64 = 500;
/// How long dropping the last handle waits for a disk that does not answer. Nothing that was answered is
/// lost by giving up.
const CLOSE_LIMIT: Duration = Duration::from_secs(3);

/// Handle on the journal. Clones share it; the last one closes it.
#[derive(Clone)]
pub struct Journal(Arc<Shared>);

struct Shared {
    door: Arc<Door>,
    sequence: Arc<Sequence>,
    health: Arc<Health>,
    commits: Arc<AtomicU64>,
    /// Closed by the thread when it has ended. Carries nothing.
    over: Receiver<()>,
    /// Somebody waited for that in vain.
    gave_up: AtomicBool,
}

/// A job that waits or runs, as the journal has it at the start of the process.
#[derive(Clone, Debug, PartialEq)]
pub struct Live {
    /// The job.
    pub job: Job,
    /// How often the process died while it ran, as [`Journal::blame_blocking`] noted.
    pub deaths: u32,
    /// Whether it is suspected of the last of these.
    pub suspect: bool,
}

/// What became of a job that was to be accepted.
#[derive(Clone, Debug, PartialEq)]
pub enum Accepted {
    /// It is on the disk.
    New,
    /// There is one of that id and document: this one, as it stands.
    Same(Box<Job>),
    /// There is one of that id and another document.
    Different,
}

/// An event that waits for the orchestrator.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Its number, of the counter that [`Journal::next_sequence`] draws from.
    pub sequence: u64,
    /// The job that it tells of.
    pub job: String,
    /// What it says.
    pub body: Value,
}

/// Which jobs [`Journal::list`] returns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Only those in this state.
    pub state: Option<JobState>,
    /// That many at most.
    pub limit: usize,
    /// The id of the last job of the page before.
    pub after: Option<String>,
}

impl Journal {
    /// Opens the journal in the state folder, which is made when it is missing, and locks the folder.
    ///
    /// # Errors
    /// `state_in_use` when another node has it, `journal_newer`, `journal_damaged`, `no_space`,
    /// `journal_failed`, `permission_denied`. None of them changes what is there.
    pub fn open(state_dir: &Path) -> Result<Self> {
        let place = Place::take(state_dir)?;
        let db = schema::open(place.database(), true)?;
        sync_folder(state_dir)?;
        let sequence = Sequence::stored(&db).map_err(|fault| fault.told(place.database()))?;
        let health = Arc::new(Health::new(place.database()));
        let commits = Arc::new(AtomicU64::new(0));
        let worker = Worker::new(db, place, health.clone(), commits.clone())?;
        let (door, over) = start(worker)?;
        let (sequence, gave_up) = (Arc::new(sequence), AtomicBool::new(false));
        let journal = Self(Arc::new(Shared { door, sequence, health, commits, over, gave_up }));
        journal.reserve_ahead();
        Ok(journal)
    }

    /// Keeps a job that is queued, with the event that tells of it. It is on the disk when this returns
    /// [`Accepted::New`]. Whoever drops the future may leave a job that is kept and that nobody has
    /// heard of: let a task of its own wait for it.
    ///
    /// # Errors
    /// `no_space`, `journal_failed`, `journal_closed`: the job is not kept. After a `journal_failed`
    /// of a dying disk it may all the same be there at the next start. `internal` for a job without an
    /// id or not queued.
    pub async fn accept(&self, job: Job, event: Option<Value>) -> Result<Accepted> {
        if job.state != JobState::Queued {
            return Err(internal(format!(
                "job {} is {}: only a queued one is accepted",
                job.id(),
                job.state
            )));
        }
        let (job, event) = (Stored::of(&job)?, event.map(|body| body.to_string()));
        let sequence = self.0.sequence.clone();
        let work = move |db: &Connection| {
            let accepted = jobs::accept(db, &job)?;
            if let (Accepted::New, Some(body)) = (&accepted, &event) {
                outbox::add(db, &sequence, job.id(), body)?;
            }
            Ok(accepted)
        };
        self.write(work).await
    }

    /// Replaces the job of that id, and puts the event into the outbox in the same transaction. Where the
    /// journal has it in the same state with the same [`Job::last_change`] already, the event is there
    /// or was delivered, and no second one is put in: what was reported as failed may be written again.
    ///
    /// # Errors
    /// `job_gone` for a job that is not there (any more); `internal` for an illegal move of its state (to
    /// write it again in the state that it has is none); `no_space`, `journal_failed`, `journal_closed`.
    pub async fn change(&self, job: Job, event: Option<Value>) -> Result<()> {
        self.change_noting(job, event, Vec::new()).await
    }

    /// [`Journal::change`] that sets these facts, or removes them, in the same transaction.
    ///
    /// # Errors
    /// As [`Journal::change`] and [`Journal::set_meta`]: then neither is done.
    pub async fn change_noting(
        &self,
        job: Job,
        event: Option<Value>,
        notes: Vec<(String, Option<String>)>,
    ) -> Result<()> {
        notes.iter().try_for_each(|(name, _)| meta::check_name(name))?;
        let also = move |db: &Connection, _: &str| {
            notes.iter().try_for_each(|(name, value)| meta::set(db, name, value.as_deref()))
        };
        self.change_and(job, event, also).await
    }

    /// [`Journal::change_noting`] for a thread outside the runtime.
    ///
    /// # Errors
    /// As [`Journal::change_noting`].
    pub fn change_noting_blocking(
        &self,
        job: Job,
        event: Option<Value>,
        notes: Vec<(String, Option<String>)>,
    ) -> Result<()> {
        wait(self.change_noting(job, event, notes))
    }

    /// [`Journal::change`] for a thread outside the runtime.
    ///
    /// # Errors
    /// As [`Journal::change`].
    pub fn change_blocking(&self, job: Job, event: Option<Value>) -> Result<()> {
        wait(self.change(job, event))
    }

    /// The job of that id.
    ///
    /// # Errors
    /// `journal_damaged` when it is there and cannot be read; `journal_failed`, `journal_closed`.
    pub async fn get(&self, id: &str) -> Result<Option<Job>> {
        let id = id.to_owned();
        self.read(move |db| jobs::get(db, &id)).await
    }

    /// A page of jobs, newest first. Records that cannot be read are logged and left out.
    ///
    /// # Errors
    /// `not_found` when there is no job `after`; `journal_failed`, `journal_closed`.
    pub async fn list(&self, page: Page) -> Result<Vec<Job>> {
        self.read(move |db| jobs::list(db, &page)).await
    }

    /// The jobs that wait or run, in the order in which they were accepted. Records that cannot be read
    /// are logged and left out, so that they do not keep the node from starting.
    ///
    /// # Errors
    /// `journal_failed`, `journal_closed`.
    pub fn live_blocking(&self) -> Result<Vec<Live>> {
        wait(self.read(jobs::live))
    }

    /// Notes how often the process died while that job ran, and whether it is suspected of it.
    ///
    /// # Errors
    /// `job_gone` for a job that is not there; `no_space`, `journal_failed`, `journal_closed`.
    pub fn blame_blocking(&self, id: &str, deaths: u32, suspect: bool) -> Result<()> {
        let id = id.to_owned();
        wait(self.write(move |db| jobs::blame(db, &id, deaths, suspect)))
    }

    /// [`Journal::blame_blocking`] and [`Journal::change`] in one transaction: were the process killed
    /// between the two, the next start would count the same death again.
    ///
    /// # Errors
    /// As [`Journal::change`]: then nothing is noted either.
    pub fn sentence_blocking(
        &self,
        job: Job,
        event: Option<Value>,
        deaths: u32,
        suspect: bool,
    ) -> Result<()> {
        let also = move |db: &Connection, id: &str| jobs::blame(db, id, deaths, suspect);
        wait(self.change_and(job, event, also))
    }

    /// Of each job the oldest event that is neither delivered nor set aside, by number, `limit` at most.
    /// One whose body cannot be read is set aside and logged, so that it blocks nothing.
    ///
    /// # Errors
    /// `no_space`, `journal_failed`, `journal_closed`.
    pub async fn due_events(&self, limit: usize) -> Result<Vec<Event>> {
        loop {
            let (events, unreadable) = self.read(move |db| outbox::due(db, limit)).await?;
            if unreadable.is_empty() {
                return Ok(events);
            }
            for sequence in unreadable {
                tracing::error!(sequence, "event {sequence} in the journal cannot be read and is set aside");
                self.set_aside(sequence, "it cannot be read").await?;
            }
        }
    }

    /// Removes an event. One that is not there was removed before.
    ///
    /// # Errors
    /// `no_space`, `journal_failed`, `journal_closed`: it may be sent again.
    pub async fn delivered(&self, sequence: u64) -> Result<()> {
        self.write(move |db| outbox::remove(db, sequence)).await
    }

    /// Keeps an event until [`Journal::forget`], but never returns it again, so that the events
    /// behind it go on.
    ///
    /// # Errors
    /// `no_space`, `journal_failed`, `journal_closed`.
    pub async fn set_aside(&self, sequence: u64, why: &str) -> Result<()> {
        let why = why.to_owned();
        let now = Timestamp::now();
        self.write(move |db| outbox::set_aside(db, sequence, &why, now)).await
    }

    /// Jobs that ended before and whose output is still there, the oldest end first, `limit` at most. To
    /// the millisecond. `after` is the id of the last one seen, so that outputs that cannot be removed do
    /// not keep the others from their turn; where that job has left the journal, it is the oldest again.
    ///
    /// # Errors
    /// `journal_failed`, `journal_closed`.
    pub async fn outputs_ended_before(
        &self,
        before: Timestamp,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Job>> {
        let after = after.map(str::to_owned);
        self.read(move |db| jobs::outputs_ended_before(db, before, after.as_deref(), limit)).await
    }

    /// Removes the jobs that ended before and have no event that waits, and the events that were set
    /// aside before. With `keep_outputs` a job stays as long as it has an output. Returns how many jobs.
    ///
    /// The facts `published.ID` and `cancelled.ID` leave with their job. `tidy.ID` stays: it names what
    /// is still to be removed.
    ///
    /// # Errors
    /// `no_space`, `journal_failed`, `journal_closed`: some may be removed.
    pub async fn forget(&self, before: Timestamp, keep_outputs: bool) -> Result<u64> {
        let part = FORGET_AT_ONCE as u64;
        while self.write(move |db| outbox::forget(db, before, FORGET_AT_ONCE)).await? == part {}
        let mut forgotten = 0;
        loop {
            let gone = self.write(move |db| jobs::forget(db, before, keep_outputs, FORGET_AT_ONCE)).await?;
            forgotten += gone;
            if gone < part {
                return Ok(forgotten);
            }
        }
    }

    /// A number greater than all before, in this process and those before it. Seldom writes, and then
    /// waits for the disk.
    ///
    /// # Errors
    /// `no_space`, `journal_failed`, `journal_closed` when a block of numbers had to be reserved.
    pub fn next_sequence(&self) -> Result<u64> {
        loop {
            if self.0.door.is_shut() {
                return Err(closed());
            }
            if let Some(number) = self.0.sequence.take() {
                self.reserve_ahead();
                return Ok(number);
            }
            let sequence = self.0.sequence.clone();
            let ceiling = wait(self.write(move |db| sequence.reserve(db)))?;
            self.0.sequence.answered(Some(ceiling));
        }
    }

    /// [`Journal::next_sequence`] without ever waiting: the next number, if one is reserved already.
    pub fn take_sequence(&self) -> Option<u64> {
        if self.0.door.is_shut() {
            return None;
        }
        let number = self.0.sequence.take();
        self.reserve_ahead();
        number
    }

    /// Keeps a small fact under a name, or removes it.
    ///
    /// # Errors
    /// `internal` for a name that begins with `journal.`; `no_space`, `journal_failed`,
    /// `journal_closed`.
    pub async fn set_meta(&self, key: &str, value: Option<&str>) -> Result<()> {
        meta::check_name(key)?;
        let (key, value) = (key.to_owned(), value.map(str::to_owned));
        self.write(move |db| meta::set(db, &key, value.as_deref())).await
    }

    /// [`Journal::set_meta`] for a thread outside the runtime.
    ///
    /// # Errors
    /// As [`Journal::set_meta`].
    pub fn set_meta_blocking(&self, key: &str, value: Option<&str>) -> Result<()> {
        wait(self.set_meta(key, value))
    }

    /// The fact of that name.
    ///
    /// # Errors
    /// `journal_failed`, `journal_closed`.
    pub fn meta_blocking(&self, key: &str) -> Result<Option<String>> {
        let key = key.to_owned();
        wait(self.read(move |db| meta::get(db, &key)))
    }

    /// All facts whose name begins with `prefix`, the journal's own included, by name.
    ///
    /// # Errors
    /// `journal_failed`, `journal_closed`.
    pub fn notes_blocking(&self, prefix: &str) -> Result<Vec<(String, String)>> {
        let prefix = prefix.to_owned();
        wait(self.read(move |db| meta::beginning_with(db, &prefix)))
    }

    /// Whether the journal works. Does not wait: a failed one is tried again each second.
    ///
    /// # Errors
    /// Why the last write failed (disk full, state folder gone), until one works; `journal_failed` of
    /// kind `Timeout` when the disk does not answer; `journal_closed`.
    pub fn is_healthy(&self) -> Result<()> {
        if self.0.door.is_shut() {
            return Err(closed());
        }
        self.0.health.check()
    }

    /// Transactions that changed something, since the journal was opened.
    pub fn commits(&self) -> u64 {
        self.0.commits.load(Ordering::Relaxed)
    }

    /// Finishes what waits, closes the database and gives the folder back. Waits for it until `limit`,
    /// and when that was in vain nobody waits again, nor does whoever drops the last handle. All later
    /// calls, of any handle, fail with `journal_closed`.
    pub fn close(&self, limit: Duration) {
        self.0.close(limit);
    }

    /// A change, its event, and what else belongs to it: in one transaction.
    async fn change_and(
        &self,
        job: Job,
        event: Option<Value>,
        mut also: impl FnMut(&Connection, &str) -> Result<(), Fault> + Send + 'static,
    ) -> Result<()> {
        let (job, event) = (Stored::of(&job)?, event.map(|body| body.to_string()));
        let sequence = self.0.sequence.clone();
        let work = move |db: &Connection| {
            let is_news = jobs::change(db, &job)?;
            if let Some(body) = event.as_ref().filter(|_| is_news) {
                outbox::add(db, &sequence, job.id(), body)?;
            }
            also(db, job.id())
        };
        self.write(work).await
    }

    async fn write<T: Send + 'static>(
        &self,
        work: impl FnMut(&Connection) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T> {
        let (answer, told) = oneshot::channel();
        // Who no longer waits has been told that this may happen.
        self.0.door.enter(request::write(work, move |outcome| drop(answer.send(outcome)))).await?;
        told.await.unwrap_or_else(|_| Err(closed()))
    }

    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T> {
        let (answer, told) = oneshot::channel();
        self.0.door.enter(request::read(work, move |outcome| drop(answer.send(outcome)))).await?;
        told.await.unwrap_or_else(|_| Err(closed()))
    }

    /// Asks for the next block of numbers before this one is used up, and does not wait for it.
    fn reserve_ahead(&self) {
        if !self.0.sequence.runs_low() {
            return;
        }
        let (reserving, told) = (self.0.sequence.clone(), self.0.sequence.clone());
        let request = request::write(
            move |db| reserving.reserve(db),
            move |ceiling: Result<u64>| told.answered(ceiling.ok()),
        );
        if self.0.door.try_enter(request).is_err() {
            self.0.sequence.answered(None);
        }
    }
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Journal").field("commits", &self.commits()).finish_non_exhaustive()
    }
}

impl Shared {
    fn close(&self, limit: Duration) {
        self.door.shut();
        if self.gave_up.load(Ordering::SeqCst) {
            return;
        }
        if self.over.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
            self.gave_up.store(true, Ordering::SeqCst);
            tracing::error!("the journal is not closed after {limit:?}: its disk does not answer");
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.close(CLOSE_LIMIT);
    }
}

/// Starts the thread. What it returns last is closed when the thread has ended.
fn start(worker: Worker) -> Result<(Arc<Door>, Receiver<()>)> {
    let (door, requests) = Door::new();
    let (ends, over) = bounded(0);
    let inside = door.clone();
    let run = move || {
        worker.run(requests, inside);
        drop(ends);
    };
    let started = std::thread::Builder::new().name("journal".into()).spawn(run);
    started.map_err(|e| internal(format!("cannot start the thread of the journal: {e}")))?;
    Ok((door, over))
}

#[cfg(test)]
mod change_tests;
#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod fault_tests;
#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod output_tests;
#[cfg(test)]
mod tests;
