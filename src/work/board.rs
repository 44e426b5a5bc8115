//! The board: every live job of this node, and what may be done with it.
//!
//! ```text
//!   submit --> admission --> journal --> queue --> next() --> runner --> journal
//!   cancel --> queue or abort flag            |                  |
//!   follow <----- history, changes, progress -+------------------+
//! ```
//!
//! What enters: job documents, wishes to cancel, facts about the node. What leaves: jobs as they stand.
//! A job is answered for only when it is on the disk, and leaves the board only when its end is. The
//! lock is held for moments and never over I/O. Which job is next is [`state`]'s; how one runs is the
//! runner's; nothing here knows HTTP.

mod entry;
mod follow;
mod housekeeping;
mod places;
mod restore;
mod state;
mod submit;

pub use entry::{Cause, Entry};
pub use follow::{Follow, Happening};
pub use state::Sums;
pub use submit::{NotTaken, Submitted};

/// Names and notes that a run shares with the start that finds them again.
pub(super) mod notes {
    pub(in crate::work) use super::places::target;
    pub(in crate::work) use super::restore::{Published, cancelled, no_hardware, published, tidy};
}

use super::cores::Cores;
use super::journal::{Journal, Page};
use super::runner;
use crate::base::error::{Error, ErrorKind, Result, Stage};
use crate::config::paths::{PathMap, RootId};
use crate::config::settings::Limits;
use crate::model::node::NodeFacts;
use crate::model::record::{Job, JobProgress, JobState, Outputs};
use crate::store::claim::{identity, remove_output};
use jiff::Timestamp;
use serde_json::{Value, json};
use state::State;
use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

/// How long a cancel waits for the job's end before it answers: compute stops within a second.
const CANCEL_WAIT: Duration = Duration::from_secs(1);

/// What the board wants to know of the node around it, and tells it.
pub trait Surroundings: Send + Sync {
    /// The facts that the node's state follows from.
    fn facts(&self) -> NodeFacts;
    /// So many slots are in use.
    fn load(&self, used: u32);
    /// A run stood still whose source lies in `root`.
    fn stalled(&self, root: Option<RootId>);
    /// A run met a full disk.
    fn disk_full(&self);
}

/// What a board is made of.
pub struct Setup {
    /// Where jobs are kept.
    pub journal: Journal,
    /// What names on the network mean.
    pub paths: Arc<PathMap>,
    /// How much is taken on.
    pub limits: Limits,
    /// The node around it.
    pub surroundings: Arc<dyn Surroundings>,
    /// Woken for each event; `None`: there is nobody to tell, and no event is kept.
    pub outbox: Option<Arc<Notify>>,
}

/// Handle on the board. Clones share it.
#[derive(Clone)]
pub struct Board(Arc<Shared>);

struct Shared {
    setup: Setup,
    cores: Cores,
    state: Mutex<State>,
    /// A job was written down, or was not: for whoever waits with the same id.
    entered: Notify,
    /// How many jobs run.
    running: watch::Sender<usize>,
}

/// What became of a wish to cancel.
#[derive(Clone, Debug, PartialEq)]
pub struct Cancelled {
    /// The job as it stands.
    pub job: Job,
    /// Whether it was queued or running.
    pub was_live: bool,
}

/// What became of a wish to remove an output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// It is not there (any more).
    Removed,
    /// The job is in this state, and its output its own.
    Live(JobState),
}

/// Counts, for whoever measures.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Totals {
    /// Sums since the process started.
    pub sums: Sums,
    /// Running jobs and how fast they are, in title seconds each second.
    pub speeds: Vec<(String, f64)>,
    /// Encoders at work, and for how many renditions.
    pub encoders: Vec<(String, u64)>,
    /// Jobs that wait.
    pub queued: usize,
    /// Jobs that run.
    pub running: usize,
    /// Jobs that may run at once.
    pub slots: u32,
}

impl Board {
    /// An empty board. [`Board::restore`] brings back what earlier processes had accepted.
    pub fn new(setup: Setup) -> Self {
        let cores = Cores::allowed(setup.limits.max_cpu_cores);
        let state = Mutex::new(State::new());
        Self(Arc::new(Shared { setup, cores, state, entered: Notify::new(), running: watch::Sender::new(0) }))
    }

    /// The job of that id; a live one with its newest progress.
    ///
    /// # Errors
    /// Those of the journal.
    pub async fn job(&self, id: &str) -> Result<Option<Job>> {
        let live = self.state().live(id).cloned();
        match live {
            Some(entry) => Ok(Some(entry.now())),
            None => self.journal().get(id).await,
        }
    }

    /// A page of jobs, newest first.
    ///
    /// # Errors
    /// Those of [`Journal::list`].
    pub async fn list(&self, page: Page) -> Result<Vec<Job>> {
        let mut jobs = self.journal().list(page).await?;
        let state = self.state();
        for job in &mut jobs {
            if let Some(entry) = state.live(job.id()) {
                *job = entry.now();
            }
        }
        Ok(jobs)
    }

    /// Cancels a job. A running one has usually ended when this returns; it is certain to.
    ///
    /// # Errors
    /// Those of the journal: the job goes on, or may go on after a restart.
    pub async fn cancel(&self, id: &str) -> Result<Option<Cancelled>> {
        let waiting = self.state().take_waiting(id);
        if let Some(waiting) = waiting {
            let mut job = waiting.item.record();
            job.enter(JobState::Cancelled, Timestamp::now());
            // In a task of its own: whoever asked may go away in the middle.
            let board = self.clone();
            let work = tokio::spawn(async move {
                let written = board.write(&job).await;
                match &written {
                    Ok(()) => {
                        board.left(&waiting.item, job.clone(), None);
                        // An earlier process may have begun it.
                        tokio::task::spawn_blocking(move || {
                            notes::tidy(waiting.item.id(), waiting.item.target())
                        });
                    }
                    Err(_) => board.state().put_back(waiting),
                }
                written.map(|()| Cancelled { job, was_live: true })
            });
            return work.await.map_err(broke_off)?.map(Some);
        }
        let live = self.state().live(id).cloned();
        match live {
            Some(entry) => self.cancel_running(&entry).await.map(Some),
            None => Ok(self.journal().get(id).await?.map(|job| Cancelled { job, was_live: false })),
        }
    }

    async fn cancel_running(&self, entry: &Arc<Entry>) -> Result<Cancelled> {
        let mut changes = entry.changes();
        let before = *changes.borrow_and_update();
        entry.stop(Cause::Cancelled);
        // Should the process die before the end is written: the promise outlives it.
        self.journal().set_meta(&restore::cancelled(entry.id()), Some("1")).await?;
        let ended = changes.wait_for(|number| *number > before);
        let _ = timeout(CANCEL_WAIT, ended).await;
        Ok(Cancelled { job: entry.now(), was_live: true })
    }

    /// Removes what an ended job had published, if it is still that.
    ///
    /// # Errors
    /// Those of the journal; `output_not_ours`, and refusals of the file system.
    pub async fn remove_output(&self, id: &str) -> Result<Option<Removal>> {
        let live = self.state().live(id).map(|entry| entry.record().state);
        if let Some(state) = live {
            return Ok(Some(Removal::Live(state)));
        }
        let Some(job) = self.journal().get(id).await? else { return Ok(None) };
        if !job.state.has_ended() {
            return Ok(Some(Removal::Live(job.state)));
        }
        let board = self.clone();
        // To the end, even when whoever asked has gone.
        tokio::spawn(async move { board.remove_published(job).await }).await.map_err(broke_off)??;
        Ok(Some(Removal::Removed))
    }

    async fn remove_published(&self, mut job: Job) -> Result<()> {
        if job.outputs == Outputs::default() {
            return Ok(());
        }
        let (journal, key) = (self.journal().clone(), restore::published(job.id()));
        let (paths, target) = (self.paths().clone(), places::target(self.paths(), &job.document)?);
        let removed = tokio::task::spawn_blocking(move || {
            let target = places::confined(&paths, &target)?;
            let ours = journal.meta_blocking(&key)?.and_then(|text| restore::Published::read(&text));
            // Another job may have replaced it meanwhile: then it is not this job's to remove.
            let there = identity(&target).map(|(_, inode)| inode);
            match (ours, there) {
                (Some(ours), Some(there)) if ours.inode == there => remove_output(&target),
                _ => Ok(()),
            }
        });
        removed.await.map_err(broke_off)??;
        tracing::info!(job = job.id(), "the output of job {} is removed", job.id());
        job.outputs = Outputs::default();
        self.journal().change(job.clone(), None).await?;
        self.journal().set_meta(&restore::published(job.id()), None).await
    }

    /// What happens to a job from now on, after the change numbered `after`.
    ///
    /// # Errors
    /// Those of the journal.
    pub async fn follow(&self, id: &str, after: Option<u64>) -> Result<Option<Follow>> {
        let live = self.state().live(id).cloned();
        if let Some(entry) = live {
            return Ok(Some(Follow::live(entry, after)));
        }
        Ok(self.journal().get(id).await?.map(|job| Follow::ended(job, after)))
    }

    /// Counts.
    pub fn totals(&self) -> Totals {
        let state = self.state();
        let speeds = state.running().filter_map(|e| Some((e.id().to_owned(), e.running()?.speed)));
        Totals {
            speeds: speeds.collect(),
            encoders: state.encoders().into_iter().collect(),
            queued: state.waiting(),
            running: state.running().count(),
            slots: self.limits().max_concurrent_jobs,
            sums: state.sums,
        }
    }

    /// The running jobs and how far they are. A job whose end is about to be written is not among them.
    pub fn running(&self) -> Vec<(String, JobProgress)> {
        self.state().running().filter_map(|e| Some((e.id().to_owned(), e.running()?))).collect()
    }

    /// Roots that do not answer: what reads from them waits in the queue.
    pub fn set_silent_roots(&self, silent: HashSet<RootId>) {
        self.state().set_silent_roots(silent);
    }

    /// Starts what may start now. To be called whenever something has changed that could let a job
    /// start: one entered or ended, the node can work again.
    pub fn start_some(&self) {
        let facts = self.surroundings().facts();
        if facts.draining || !facts.faults.is_empty() {
            return;
        }
        loop {
            let (next, running) = {
                let mut state = self.state();
                let next = state.next(self.limits().max_concurrent_jobs);
                (next, self.tell_load(&state))
            };
            let Some(entry) = next else { return };
            if let Err(e) = runner::start(self, entry.clone(), running) {
                tracing::error!(job = entry.id(), "job {} cannot start and waits: {e}", entry.id());
                self.gave_up_slot(&entry);
                return;
            }
        }
    }

    /// Stops every running job, so that it goes on in the next process, and takes no new one. Returns
    /// when all have stopped, or after `limit`: whether all have.
    pub async fn stop(&self, limit: Duration) -> bool {
        {
            let mut state = self.state();
            state.stopping = true;
            state.running().for_each(|entry| entry.stop(Cause::Stopping));
        }
        let mut running = self.0.running.subscribe();
        timeout(limit, running.wait_for(|running| *running == 0)).await.is_ok()
    }

    // ---- for the runner -----------------------------------------------------------------------------

    pub(super) fn journal(&self) -> &Journal {
        &self.0.setup.journal
    }

    pub(super) fn paths(&self) -> &Arc<PathMap> {
        &self.0.setup.paths
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.0.setup.limits
    }

    pub(super) fn cores(&self) -> &Cores {
        &self.0.cores
    }

    pub(super) fn surroundings(&self) -> &dyn Surroundings {
        self.0.setup.surroundings.as_ref()
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.state().stopping
    }

    /// Writes a job's new state down, with the event that tells of it.
    pub(super) async fn write(&self, job: &Job) -> Result<()> {
        self.journal().change(job.clone(), self.event(job)).await?;
        self.wake_outbox();
        Ok(())
    }

    /// [`Board::write`] for a thread outside the runtime.
    pub(super) fn write_blocking(&self, job: &Job) -> Result<()> {
        self.journal().change_blocking(job.clone(), self.event(job))?;
        self.wake_outbox();
        Ok(())
    }

    /// A job has ended, or is to go on in another process, and that is on the disk.
    pub(super) fn left(&self, entry: &Entry, job: Job, took_ms: Option<f64>) {
        {
            let mut state = self.state();
            count(&mut state.sums, &job);
            state.leave(entry.id(), took_ms);
            self.tell_load(&state);
        }
        entry.came_into(job);
        self.start_some();
    }

    /// A job could not start: it waits again.
    pub(super) fn gave_up_slot(&self, entry: &Entry) {
        let mut state = self.state();
        state.give_up_slot(entry.id());
        self.tell_load(&state);
    }

    /// A run stood still: until its root is trusted again nothing that reads from it starts.
    pub(super) fn stalled(&self, entry: &Entry) {
        self.surroundings().stalled(entry.root());
        if let Some(root) = entry.root() {
            self.state().add_silent_root(root);
        }
    }

    /// A run did not come back when it was stopped.
    pub(super) fn hangs(&self, entry: &Arc<Entry>) {
        self.state().hangs(entry.clone());
    }

    /// It has come back after all.
    pub(super) fn came_back(&self, entry: &Entry) {
        self.state().came_back(entry.id());
        self.start_some();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells how many jobs run. Under the lock, so that the newest figure is the last one told.
    fn tell_load(&self, state: &State) -> usize {
        let running = state.running().count();
        let told = self.0.running.send_replace(running);
        if told != running {
            self.surroundings().load(u32::try_from(running).unwrap_or(u32::MAX));
        }
        running
    }

    fn wake_outbox(&self) {
        if let Some(outbox) = &self.0.setup.outbox {
            outbox.notify_one();
        }
    }

    /// What the orchestrator is told of the job's newest state.
    fn event(&self, job: &Job) -> Option<Value> {
        self.0.setup.outbox.as_ref()?;
        let change = job.last_change();
        Some(json!({
            "type": "state",
            "job": job.id(),
            "number": change.number,
            "state": change.state,
            "at": change.at,
            "record": job,
        }))
    }
}

fn count(sums: &mut Sums, job: &Job) {
    match job.state {
        JobState::Succeeded => {
            sums.succeeded += 1;
            sums.media_ms_done += u64::try_from(job.progress.duration_ms).unwrap_or(0);
        }
        JobState::Failed => sums.failed += 1,
        JobState::Cancelled => sums.cancelled += 1,
        JobState::Queued | JobState::Running => {}
    }
}

fn broke_off(e: tokio::task::JoinError) -> Error {
    Error::new(ErrorKind::Internal, "internal", Stage::Plan, format!("a task broke off: {e}"))
}
