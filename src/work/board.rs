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
//! lock is held for moments and never over I/O. Which job is next is `state`'s; how one runs is the
//! runner's; nothing here knows HTTP.

mod entry;
mod follow;
mod housekeeping;
mod outputs;
mod places;
mod restore;
mod state;
mod streams;
mod submit;

pub use entry::{Cause, Entry, Phase};
pub use follow::{Follow, Happening};
pub use state::{MAX_HANGING, Sums};
pub use streams::{PublishedOutput, Stream};
pub use submit::{NotTaken, Submitted};

/// Names and notes that a run shares with the start that finds them again.
pub(super) mod notes {
    pub(in crate::work) use super::places::target;
    pub(in crate::work) use super::restore::{
        Published, TIDY, cancelled, published, tidy, to_tidy, was_published,
    };
}

use super::cores::Cores;
use super::journal::{Journal, Page};
use super::transcode::Devices;
use super::{queue, runner};
use crate::base::error::{Error, ErrorKind, Result, Stage};
use crate::config::paths::{PathMap, RootId};
use crate::config::settings::Limits;
use crate::hardware::inventory::Inventory;
use crate::model::document::HardwareUse;
use crate::model::node::NodeFacts;
use crate::model::record::{Job, JobProgress, JobState};
use jiff::Timestamp;
use serde_json::{Value, json};
use state::State;
use std::collections::HashSet;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::timeout;

/// How long a cancel waits for the job's end before it answers: compute stops within a second.
const CANCEL_WAIT: Duration = Duration::from_secs(1);
/// Threads that may ask the output's disk at once. Each may hang with it, and the runtime has only so many.
const DISK_THREADS: usize = 8;

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
    /// So many runs hang in the system; nothing starts when there are too many.
    fn hanging(&self, runs: usize);
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
    /// The devices.
    pub inventory: Inventory,
    /// Software stands in for a device that fails.
    pub may_fall_back: bool,
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
    /// Threads that may look at the output's disk at once.
    disk_threads: Arc<Semaphore>,
    /// How many jobs run.
    running: watch::Sender<usize>,
    /// How often an output has come or gone.
    outputs_changed: AtomicU64,
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
        let disk_threads = Arc::new(Semaphore::new(DISK_THREADS));
        let running = watch::Sender::new(0);
        Self(Arc::new(Shared {
            setup,
            cores,
            state,
            entered: Notify::new(),
            disk_threads,
            running,
            outputs_changed: AtomicU64::new(0),
        }))
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
            // In a task of its own: whoever asked may go away in the middle.
            let board = self.clone();
            let work = tokio::spawn(async move { board.cancel_waiting(waiting).await });
            return work.await.map_err(broke_off)?.map(Some);
        }
        let live = self.state().live(id).cloned();
        if let Some(entry) = live {
            return self.cancel_running(&entry).await.map(Some);
        }
        let Some(job) = self.journal().get(id).await? else { return Ok(None) };
        if job.state.has_ended() || !self.adopt(&job) {
            return Ok(Some(Cancelled { job, was_live: false }));
        }
        Box::pin(self.cancel(id)).await
    }

    async fn cancel_waiting(&self, waiting: queue::Entry<Arc<Entry>>) -> Result<Cancelled> {
        let entry = waiting.item.clone();
        let mut job = entry.record();
        job.enter(JobState::Cancelled, Timestamp::now());
        // An earlier process may have begun it.
        let begun = job.attempts > 0;
        let notes = begun.then(|| notes::to_tidy(&entry)).into_iter().collect();
        if let Err(e) = self.journal().change_noting(job.clone(), self.event(&job), notes).await {
            self.state().put_back(waiting);
            return Err(e);
        }
        self.wake_outbox();
        self.left(&entry, job.clone(), None, false);
        if begun {
            self.tidy_up().await;
        }
        Ok(Cancelled { job, was_live: true })
    }

    async fn cancel_running(&self, entry: &Arc<Entry>) -> Result<Cancelled> {
        let mut changes = entry.changes();
        entry.stop(Cause::Cancelled);
        // Should the process die before the end is written: the promise outlives it.
        self.journal().set_meta(&notes::cancelled(entry.id()), Some("1")).await?;
        let ended = async {
            while entry.record().state == JobState::Running || entry.record().state == JobState::Queued {
                if changes.changed().await.is_err() {
                    break;
                }
            }
        };
        let _ = timeout(CANCEL_WAIT, ended).await;
        Ok(Cancelled { job: entry.now(), was_live: true })
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

    pub(super) fn devices(&self, wish: HardwareUse) -> Devices<'_> {
        let Setup { inventory, may_fall_back, .. } = &self.0.setup;
        Devices { inventory, wish, may_fall_back: *may_fall_back }
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

    /// Writes a job's new state down, with the event that tells of it. Blocks.
    pub(super) fn write_blocking(&self, job: &Job) -> Result<()> {
        self.journal().change_blocking(job.clone(), self.event(job))?;
        self.wake_outbox();
        Ok(())
    }

    /// [`Board::write_blocking`] for the end of a run, with what is to be noted.
    pub(super) fn write_end(&self, job: &Job, notes: Vec<(String, Option<String>)>) -> Result<()> {
        self.journal().change_noting_blocking(job.clone(), self.event(job), notes)?;
        self.wake_outbox();
        Ok(())
    }

    /// A job has ended, or is to go on in another process, and that is on the disk.
    /// `hangs`: its run has not come back, so that its place stays taken.
    pub(super) fn left(&self, entry: &Arc<Entry>, job: Job, took_ms: Option<f64>, hangs: bool) {
        {
            let mut state = self.state();
            count(&mut state.sums, &job);
            state.leave(entry.id(), took_ms);
            if hangs {
                state.hangs(entry.clone());
                self.surroundings().hanging(state.hanging());
            }
            self.tell_load(&state);
        }
        self.outputs_change();
        entry.came_into(job);
        self.start_some();
    }

    /// A job that is not what the queue took it for leaves without a word.
    pub(super) fn drop_entry(&self, entry: &Entry) {
        let mut state = self.state();
        state.leave(entry.id(), None);
        self.tell_load(&state);
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

    /// It has come back after all.
    pub(super) fn came_back(&self, entry: &Entry) {
        {
            let mut state = self.state();
            state.came_back(entry.id());
            self.surroundings().hanging(state.hanging());
        }
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
