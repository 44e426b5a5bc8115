//! One running job: its worker thread, the watch over it, and the note of how it ended.
//!
//! ```text
//!   board.next() --> supervisor ("job"): note "running" --> wait, watch --> note the end --> slot free
//!                          \--> worker ("av-..."): perform --> codecs, which inherit its core and rank
//! ```
//!
//! What enters: an entry that has a slot. What leaves: the entry ended (or queued, when the process
//! stops), on the disk first. A worker that does not come back when it is stopped (a write on a dead
//! network disk cannot be interrupted) is left behind: its job ends, its slot is free, its place is
//! taken until it comes back.

mod perform;
mod watchdog;

use super::board::{Board, Cause, Entry, Phase};
use crate::base::error::{Error, ErrorKind, Result, Stage};
use crate::model::record::{Job, JobError, JobProgress, JobState};
use crossbeam_channel::{Receiver, after, bounded, select};
use jiff::Timestamp;
use perform::Performance;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};
use watchdog::Watchdog;

/// How often the watchdog looks.
const TICK: Duration = Duration::from_millis(250);
/// How long a stopped run may take to come back. Its codecs end within a quarter of a second; what
/// takes longer hangs in the kernel.
const COME_BACK: Duration = Duration::from_secs(2);
/// How long a rename may take that has been begun.
const PUBLISH_LIMIT: Duration = Duration::from_secs(30);
/// Between two tries to write an end down.
const WRITE_AGAIN: Duration = Duration::from_secs(1);

/// Starts a job that has a slot. `running` jobs share the cores, this one counted.
///
/// # Errors
/// `no_threads`: it has not started.
pub(super) fn start(board: &Board, entry: Arc<Entry>, running: usize) -> Result<()> {
    let supervisor = Supervisor { board: board.clone(), entry, running };
    let body = move || {
        let span = tracing::info_span!("job", id = supervisor.entry.id());
        span.in_scope(|| supervisor.run());
    };
    thread::Builder::new().name("job".into()).spawn(body).map(|_| ()).map_err(no_threads)
}

/// How a run ended.
type Ended = Result<()>;

struct Supervisor {
    board: Board,
    entry: Arc<Entry>,
    running: usize,
}

impl Supervisor {
    fn run(&self) {
        let mut job = self.entry.record();
        job.enter(JobState::Running, Timestamp::now());
        if let Err(e) = self.board.write_blocking(&job) {
            return self.cannot_start(&e);
        }
        self.entry.came_into(job);
        tracing::info!("runs, attempt {}", self.entry.record().attempts);
        let began = Instant::now();
        match self.work() {
            Ok(ended) => {
                let come = self.watch(&ended);
                let is_back = come.is_some();
                self.conclude(come, began);
                if !is_back {
                    self.leave_behind(&ended);
                }
            }
            Err(e) => self.conclude(Some(Err(e)), began),
        }
    }

    fn cannot_start(&self, e: &Error) {
        // The journal knows better: the job has ended, or there is none.
        if matches!(e.kind(), ErrorKind::Internal | ErrorKind::NotFound) {
            tracing::error!("the job is dropped, since it is not as the queue has it: {e}");
            return self.board.drop_entry(&self.entry);
        }
        tracing::error!("the job waits on, since its start cannot be written down: {e}");
        self.board.gave_up_slot(&self.entry);
    }

    /// Starts the worker; what it comes back with arrives on the channel.
    fn work(&self) -> Result<Receiver<Ended>> {
        let (tell, told) = bounded(1);
        let performance = Performance::new(&self.board, &self.entry, self.running);
        let name = performance.thread_name();
        let span = tracing::Span::current();
        let body = move || {
            let ended = span.in_scope(|| catch_unwind(AssertUnwindSafe(|| performance.give())));
            drop(performance);
            let panicked = |_| Err(Error::internal(Stage::Plan, "the job's thread panicked"));
            let _ = tell.send(ended.unwrap_or_else(panicked));
        };
        thread::Builder::new().name(name).spawn(body).map_err(no_threads)?;
        Ok(told)
    }

    /// Waits for the run; `None` when it was stopped and does not come back.
    fn watch(&self, ended: &Receiver<Ended>) -> Option<Ended> {
        let limits = self.board.limits();
        let cancel = self.entry.cancel();
        let mut watchdog = Watchdog::new(limits.open_timeout, limits.stall_timeout, Instant::now());
        while !cancel.is_cancelled() {
            select! {
                recv(ended) -> ended => return ended.ok(),
                recv(cancel.closed()) -> _ => {}
                recv(after(TICK)) -> _ => {
                    let phase = self.entry.phase();
                    if let Some(stalled) = watchdog.look(cancel.looks(), phase, Instant::now()) {
                        tracing::error!("{stalled}");
                        self.entry.stop(Cause::Stalled(stalled));
                    }
                }
            }
        }
        if let Ok(ended) = ended.recv_timeout(COME_BACK) {
            return Some(ended);
        }
        if self.entry.give_up() {
            return None;
        }
        // It is giving its output the name just now: what it says of that counts.
        ended.recv_timeout(PUBLISH_LIMIT).ok()
    }

    /// Writes the end down, as often as it takes, and gives the slot back.
    fn conclude(&self, ended: Option<Ended>, began: Instant) {
        self.entry.is_about_to_end();
        let cause = self.entry.cause();
        self.tell_surroundings(ended.as_ref(), cause.as_ref());
        let hangs = ended.is_none();
        let job = self.last_word(ended, cause);
        match &job.error {
            Some(e) => tracing::error!("has failed: {} [{} at {}]", e.message, e.code, e.stage),
            None => tracing::info!("is {} after {:.1} s", job.state, began.elapsed().as_secs_f64()),
        }
        let mut tries = 0u32;
        while let Err(e) = self.board.write_end(&job, perform::last_notes(&self.entry, &job, hangs)) {
            if tries == 0 {
                tracing::error!("that cannot be written down, and is tried again: {e}");
            }
            tries += 1;
            // A bug does not go away by waiting; and the next process finds out what this one knew.
            let is_final = matches!(e.kind(), ErrorKind::Internal | ErrorKind::NotFound);
            if is_final || self.board.is_stopping() && tries > 1 {
                break;
            }
            let _ = crossbeam_channel::never::<()>().recv_timeout(WRITE_AGAIN);
        }
        let took = (job.state == JobState::Succeeded).then(|| began.elapsed().as_secs_f64() * 1000.0);
        self.board.left(&self.entry, job, took, hangs);
    }

    fn tell_surroundings(&self, ended: Option<&Ended>, cause: Option<&Cause>) {
        let code = ended.and_then(|ended| ended.as_ref().err()).map(Error::code);
        // What hangs when everything is encoded is the output's disk, not the source's.
        let stalled = matches!(cause, Some(Cause::Stalled(_))) && self.entry.phase() != Phase::Finishing;
        if stalled || code == Some("open_timeout") {
            self.board.stalled(&self.entry);
        }
        if code == Some("no_space") {
            self.board.surroundings().disk_full();
        }
    }

    /// The job as it is from now on.
    fn last_word(&self, ended: Option<Ended>, cause: Option<Cause>) -> Job {
        let mut job = self.entry.record();
        job.progress = self.entry.progress_over(&job.progress);
        for warning in self.entry.warnings() {
            if !job.warnings.contains(&warning) {
                job.warnings.push(warning);
            }
        }
        match ended {
            Some(Ok(_)) => perform::succeeded(&self.board, &mut job, Timestamp::now()),
            Some(Err(e)) if !e.is_cancelled() => fail(&mut job, &e),
            Some(Err(_)) | None => match cause {
                Some(Cause::Cancelled) => job.enter(JobState::Cancelled, Timestamp::now()),
                Some(Cause::Stopping) => job.enter(JobState::Queued, Timestamp::now()),
                Some(Cause::Stalled(e)) => fail(&mut job, &e),
                None => fail(&mut job, &Error::internal(Stage::Plan, "the run broke off without a reason")),
            },
        }
        if job.state != JobState::Succeeded {
            job.progress = JobProgress { eta_ms: None, ..job.progress };
        }
        job
    }

    /// Waits for a run that hangs, so that its place is free again when it has come back.
    fn leave_behind(&self, ended: &Receiver<Ended>) {
        tracing::error!("the run hangs in the system and is left behind; its place stays taken meanwhile");
        let _ = ended.recv();
        tracing::info!("the run that hung has come back");
        self.board.came_back(&self.entry);
    }
}

fn fail(job: &mut Job, e: &Error) {
    job.enter(JobState::Failed, Timestamp::now());
    job.error = Some(JobError::from(e));
}

fn no_threads(e: std::io::Error) -> Error {
    Error::new(ErrorKind::Io, "no_threads", Stage::Plan, format!("cannot start a thread: {e}"))
        .hint("raise the limit on threads of this user or container")
}
