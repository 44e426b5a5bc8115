//! A live job: what is known of it, how to stop it, who follows it.
//!
//! What enters: the job as it was accepted, what its run reports, the wish to stop it. What leaves: the
//! job as it stands at this moment. The record in here is what the journal has, or is about to have;
//! writing it is the caller's.

use crate::base::cancel::Cancel;
use crate::base::error::{Error, Result, Stage};
use crate::config::paths::RootId;
use crate::media::progress::Progress;
use crate::model::record::{Job, JobProgress, JobState};
use crate::store::hls_dir::Growing;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// Why a run was stopped. The first cause counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Somebody cancelled the job.
    Cancelled,
    /// The process ends: the job goes on in the next one.
    Stopping,
    /// It stands still, for this reason.
    Stalled(Error),
}

/// Where a run is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// The source is looked for and its headers are read.
    #[default]
    Opening,
    /// It is transcoded.
    Working,
    /// Everything is encoded; what is left (syncing, checking, renaming) may be silent for long.
    Finishing,
}

/// Who has the last word on the output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Word {
    /// Nobody yet.
    #[default]
    Open,
    /// The run: it is about to publish.
    Run,
    /// The supervisor: it has given the run up.
    Supervisor,
}

/// A live job.
#[derive(Debug)]
pub struct Entry {
    id: String,
    priority: u8,
    target: PathBuf,
    root: Option<RootId>,
    suspect: bool,
    cancel: Cancel,
    cause: Mutex<Option<Cause>>,
    job: Mutex<Job>,
    /// Of the run; `None` before it begins.
    progress: Mutex<Option<Arc<Progress>>>,
    /// What can be played of the output meanwhile.
    growing: Mutex<Option<Growing>>,
    phase: Mutex<Phase>,
    /// Who has the last word on the output: see [`Entry::may_publish`].
    word: Mutex<Word>,
    /// Its end is about to be written.
    ending: AtomicBool,
    /// How many changes of state it has had.
    changes: watch::Sender<u64>,
}

impl Entry {
    /// `target`: where its output goes on this machine. `root`: where its input lies, if in a root.
    pub fn new(job: Job, target: PathBuf, root: Option<RootId>, suspect: bool) -> Self {
        Self {
            id: job.id().to_owned(),
            priority: job.document.priority,
            target,
            root,
            suspect,
            cancel: Cancel::new(),
            cause: Mutex::default(),
            changes: watch::Sender::new(job.last_change().number),
            job: Mutex::new(job),
            progress: Mutex::default(),
            growing: Mutex::default(),
            phase: Mutex::default(),
            word: Mutex::default(),
            ending: AtomicBool::new(false),
        }
    }

    /// Its name.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Higher goes first.
    pub fn priority(&self) -> u8 {
        self.priority
    }

    /// Where its output goes on this machine.
    pub fn target(&self) -> &PathBuf {
        &self.target
    }

    /// Where its input lies.
    pub fn root(&self) -> Option<RootId> {
        self.root
    }

    /// Whether it may have killed the process before, and so has to run alone.
    pub fn is_suspect(&self) -> bool {
        self.suspect
    }

    /// The abort flag of its run.
    pub fn cancel(&self) -> &Cancel {
        &self.cancel
    }

    /// Stops its run.
    pub fn stop(&self, cause: Cause) {
        lock(&self.cause).get_or_insert(cause);
        self.cancel.cancel();
    }

    /// Why its run was stopped.
    pub fn cause(&self) -> Option<Cause> {
        lock(&self.cause).clone()
    }

    /// The job as it is written down, without the progress of its run.
    pub fn record(&self) -> Job {
        lock(&self.job).clone()
    }

    /// Notes something about the job that is no change of state.
    pub fn note(&self, change: impl FnOnce(&mut Job)) {
        change(&mut lock(&self.job));
    }

    /// The job has come into another state, and that is on the disk.
    pub fn came_into(&self, job: Job) {
        let number = job.last_change().number;
        *lock(&self.job) = job;
        self.changes.send_replace(number);
    }

    /// Its run has begun.
    pub fn runs(&self, progress: Arc<Progress>) {
        *lock(&self.progress) = Some(progress);
        self.reaches(Phase::Opening);
    }

    /// Its output can be played while it is made.
    pub fn grows(&self, growing: Growing) {
        *lock(&self.growing) = Some(growing);
    }

    /// What can be played of its output, if it is a folder and its run has got that far.
    pub fn growing(&self) -> Option<Growing> {
        lock(&self.growing).clone()
    }

    /// Its run has come so far.
    pub fn reaches(&self, phase: Phase) {
        *lock(&self.phase) = phase;
    }

    /// Where its run is.
    pub fn phase(&self) -> Phase {
        *lock(&self.phase)
    }

    /// Asked by the run just before its output gets its name. A job that was cancelled, or that its
    /// supervisor has given up, publishes nothing.
    ///
    /// # Errors
    /// `cancelled`.
    pub fn may_publish(&self) -> Result<()> {
        self.cancel.check(Stage::Publish)?;
        let mut word = lock(&self.word);
        if *word == Word::Supervisor {
            return Err(Error::cancelled(Stage::Publish));
        }
        *word = Word::Run;
        Ok(())
    }

    /// The supervisor wants to end the job without waiting for its run any longer; not granted when the
    /// run is just publishing.
    pub fn give_up(&self) -> bool {
        let mut word = lock(&self.word);
        if *word == Word::Open {
            *word = Word::Supervisor;
        }
        *word == Word::Supervisor
    }

    /// What the run wants whoever asked to know.
    pub fn warnings(&self) -> Vec<String> {
        lock(&self.progress).as_ref().map(|progress| progress.warnings()).unwrap_or_default()
    }

    /// Its end is about to be written: from now on it is not told as running.
    pub fn is_about_to_end(&self) {
        self.ending.store(true, Ordering::SeqCst);
    }

    /// The job at this moment.
    pub fn now(&self) -> Job {
        let mut job = self.record();
        if job.state == JobState::Running {
            job.progress = self.progress_over(&job.progress);
            // Only what is published, and known to be, is 100 %.
            job.progress.percent = job.progress.percent.map(|percent| percent.min(99.0));
        }
        job
    }

    /// How far its run is; `None` when it does not run, or not any more.
    pub fn running(&self) -> Option<JobProgress> {
        let runs = lock(&self.job).state == JobState::Running && !self.ending.load(Ordering::SeqCst);
        runs.then(|| self.now().progress)
    }

    /// Who follows it: the number of its newest change.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// The run's progress. What an earlier process had reached is the least: nobody sees it fall.
    pub fn progress_over(&self, floor: &JobProgress) -> JobProgress {
        let Some(now) = lock(&self.progress).as_ref().map(|p| p.snapshot().progress.rounded()) else {
            return floor.clone();
        };
        let percent = now.percent.map(|percent| percent.max(floor.percent.unwrap_or(0.0)));
        JobProgress {
            percent: percent.or(floor.percent),
            position_ms: now.position_ms.max(floor.position_ms),
            duration_ms: if now.duration_ms == 0 { floor.duration_ms } else { now.duration_ms },
            frames: now.frames.max(floor.frames),
            ..now
        }
    }
}

fn lock<T>(held: &Mutex<T>) -> MutexGuard<'_, T> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::time::Rational;
    use crate::model::document::parse;
    use jiff::Timestamp;

    fn entry() -> Entry {
        let job = Job::accepted(parse(br#"{"id": "a", "input": "/a"}"#).unwrap(), Timestamp::UNIX_EPOCH);
        Entry::new(job, "/out/a".into(), None, false)
    }

    #[test]
    fn the_first_cause_counts_and_sets_the_flag() {
        let entry = entry();
        assert!(!entry.cancel().is_cancelled());
        entry.stop(Cause::Cancelled);
        entry.stop(Cause::Stopping);
        assert_eq!(entry.cause(), Some(Cause::Cancelled));
        assert!(entry.cancel().is_cancelled());
    }

    #[test]
    fn either_the_run_publishes_or_the_supervisor_gives_it_up() {
        let publishes = entry();
        publishes.may_publish().unwrap();
        assert!(!publishes.give_up());
        publishes.may_publish().unwrap();
        let given_up = entry();
        assert!(given_up.give_up() && given_up.give_up());
        assert!(given_up.may_publish().unwrap_err().is_cancelled());
        let cancelled = entry();
        cancelled.stop(Cause::Cancelled);
        assert!(cancelled.may_publish().unwrap_err().is_cancelled());
    }

    #[test]
    fn progress_never_falls_below_what_an_earlier_process_had_reached() {
        let entry = entry();
        let mut job = entry.record();
        job.progress = JobProgress { percent: Some(40.0), position_ms: 4000, ..JobProgress::default() };
        job.enter(JobState::Running, Timestamp::UNIX_EPOCH);
        entry.came_into(job);
        let progress = Arc::new(Progress::new());
        entry.runs(progress.clone());
        assert_eq!((entry.now().progress.percent, entry.now().progress.position_ms), (Some(40.0), 4000));
        progress.set_span(Rational::ZERO, Rational::from_int(10));
        progress.decoded(Rational::from_int(5), 125);
        assert_eq!((entry.now().progress.percent, entry.now().progress.position_ms), (Some(49.5), 5000));
        progress.published();
        assert_eq!(entry.now().progress.percent, Some(99.0), "not before it is written down");
        entry.is_about_to_end();
        assert_eq!(entry.running(), None);
        assert_eq!(*entry.changes().borrow(), 2);
    }
}
