//! What the board knows, under its lock: pure operations, no waiting, no disk.
//!
//! What enters: jobs that were accepted, start, end. What leaves: which one starts next, which place
//! is taken, what admission has to know.

use super::entry::Entry;
use crate::config::paths::RootId;
use crate::config::settings::Limits;
use crate::model::node::NodeFacts;
use crate::work::admission::{self, expected_wait_ms};
use crate::work::queue::{self, Queue};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Runs that did not come back when they were stopped, beyond which no other is started: each holds
/// threads and memory.
pub const MAX_HANGING: usize = 16;
/// Weight of the newest job in how long a job typically takes.
const NEWEST: f64 = 0.3;

/// Sums since the process started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// Jobs accepted.
    pub accepted: u64,
    /// Jobs refused by admission.
    pub refused: u64,
    /// Jobs that ended well.
    pub succeeded: u64,
    /// Jobs that failed.
    pub failed: u64,
    /// Jobs that were cancelled.
    pub cancelled: u64,
    /// Title time of those that ended well.
    pub media_ms_done: u64,
}

/// All of it.
pub struct State {
    waiting: Queue<Arc<Entry>>,
    live: HashMap<String, Arc<Entry>>,
    /// With their places in the queue, should they have to go back.
    running: BTreeMap<String, queue::Entry<Arc<Entry>>>,
    /// Stopped long ago, and still not back.
    hanging: HashMap<String, Arc<Entry>>,
    /// Being written to the journal: id and place.
    entering: HashMap<String, PathBuf>,
    silent_roots: HashSet<RootId>,
    typical_ms: Option<f64>,
    /// The process is about to end.
    pub stopping: bool,
    /// Counted for whoever measures.
    pub sums: Sums,
}

impl State {
    pub(super) fn new() -> Self {
        Self {
            waiting: Queue::new(usize::MAX),
            live: HashMap::new(),
            running: BTreeMap::new(),
            hanging: HashMap::new(),
            entering: HashMap::new(),
            silent_roots: HashSet::new(),
            typical_ms: None,
            stopping: false,
            sums: Sums::default(),
        }
    }

    /// The live job of that id.
    pub fn live(&self, id: &str) -> Option<&Arc<Entry>> {
        self.live.get(id)
    }

    /// Whether a job of that id is being written down just now.
    pub fn is_entering(&self, id: &str) -> bool {
        self.entering.contains_key(id)
    }

    /// Reserves id and place while the job is written down.
    pub fn reserve(&mut self, id: &str, target: &Path) {
        self.entering.insert(id.into(), target.into());
    }

    /// The job was not written down after all.
    pub fn release(&mut self, id: &str) {
        self.entering.remove(id);
    }

    /// A job that is on the disk as queued waits from now on.
    pub fn enter(&mut self, entry: Arc<Entry>) {
        self.entering.remove(entry.id());
        self.live.insert(entry.id().into(), entry.clone());
        // Refused only when it waits already, and then nothing is missing.
        let _ = self.waiting.restore(entry.id(), entry.priority(), entry.clone());
    }

    /// As [`State::enter`], unless the job is live already.
    pub fn enter_if_new(&mut self, entry: Arc<Entry>) {
        if !self.live.contains_key(entry.id()) && !self.entering.contains_key(entry.id()) {
            self.enter(entry);
        }
    }

    /// Takes the job that starts next, into a slot.
    pub fn next(&mut self, slots: u32) -> Option<Arc<Entry>> {
        let full = self.running.len() >= usize::try_from(slots).unwrap_or(usize::MAX);
        let alone = self.running().any(|entry| entry.is_suspect());
        if self.stopping || full || alone || self.hanging.len() >= MAX_HANGING {
            return None;
        }
        let startable = |entry: &Entry| entry.root().is_none_or(|root| !self.silent_roots.contains(&root));
        let next = self.waiting.iter().find(|waiting| startable(&waiting.item))?;
        if next.item.is_suspect() && !self.running.is_empty() {
            return None;
        }
        let id = next.id.clone();
        let taken = self.waiting.remove(&id)?;
        let entry = taken.item.clone();
        self.running.insert(id, taken);
        Some(entry)
    }

    /// Takes a job out of the queue; `None` when it does not wait.
    pub fn take_waiting(&mut self, id: &str) -> Option<queue::Entry<Arc<Entry>>> {
        self.waiting.remove(id)
    }

    /// A job that was taken out waits again, in its place.
    pub fn put_back(&mut self, taken: queue::Entry<Arc<Entry>>) {
        let _ = self.waiting.requeue_front(taken);
    }

    /// A job that could not start waits again, in its place.
    pub fn give_up_slot(&mut self, id: &str) {
        if let Some(taken) = self.running.remove(id) {
            self.put_back(taken);
        }
    }

    /// A job has ended, or is to go on in another process: it is not live any more. `took_ms`: how long
    /// it ran, where that says something about others.
    pub fn leave(&mut self, id: &str, took_ms: Option<f64>) {
        self.running.remove(id);
        self.live.remove(id);
        if let Some(took_ms) = took_ms {
            let before = self.typical_ms.unwrap_or(took_ms);
            self.typical_ms = Some(before + (took_ms - before) * NEWEST);
        }
    }

    /// A run did not come back when it was stopped: its slot is free, its place is not.
    pub fn hangs(&mut self, entry: Arc<Entry>) {
        self.hanging.insert(entry.id().into(), entry);
    }

    /// A run that hung has come back.
    pub fn came_back(&mut self, id: &str) {
        self.hanging.remove(id);
    }

    /// Runs that hang.
    pub fn hanging(&self) -> usize {
        self.hanging.len()
    }

    /// Whether a root answers. Jobs that read from one that does not stay in the queue.
    pub fn set_silent_roots(&mut self, silent: HashSet<RootId>) {
        self.silent_roots = silent;
    }

    /// Another root that does not answer, until the next [`State::set_silent_roots`].
    pub fn add_silent_root(&mut self, root: RootId) {
        self.silent_roots.insert(root);
    }

    /// The job that writes to `target`, into it, or into a folder that holds it.
    pub fn writes_to(&self, target: &Path) -> Option<String> {
        let live = self.live.values().chain(self.hanging.values()).map(|e| (e.id(), e.target()));
        let entering = self.entering.iter().map(|(id, target)| (id.as_str(), target));
        let mut all = live.chain(entering);
        let found = all.find(|(_, other)| other.starts_with(target) || target.starts_with(other));
        found.map(|(id, _)| id.to_owned())
    }

    /// The jobs in slots.
    pub fn running(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.running.values().map(|taken| &taken.item)
    }

    /// The jobs that wait.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// The encoders at work, and for how many renditions.
    pub fn encoders(&self) -> BTreeMap<String, u64> {
        let mut encoders = BTreeMap::new();
        for entry in self.running() {
            for used in entry.record().video_encoder {
                *encoders.entry(used.encoder).or_default() += 1;
            }
        }
        encoders
    }

    /// What admission decides by.
    pub fn facts(&self, limits: &Limits, node: NodeFacts) -> admission::Facts {
        let queued = self.waiting.len() + self.entering.len();
        let running = self.running.len();
        let etas: Vec<Option<u64>> = self.running().map(|entry| eta_ms(entry)).collect();
        let slots = limits.max_concurrent_jobs;
        let typical = self.typical_ms.map(|ms| ms as u64);
        admission::Facts {
            state: node.state(),
            faults: node.faults,
            slots,
            running: u32::try_from(running).unwrap_or(u32::MAX),
            queued,
            max_queued: usize::try_from(limits.max_queued_jobs).unwrap_or(usize::MAX),
            stopping: self.stopping,
            expected_wait_ms: expected_wait_ms(&etas, self.waiting.len(), slots, typical),
        }
    }
}

fn eta_ms(entry: &Entry) -> Option<u64> {
    u64::try_from(entry.running()?.eta_ms?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::document::parse;
    use crate::model::record::Job;
    use jiff::Timestamp;

    fn entry(id: &str, priority: u8, root: Option<usize>, suspect: bool) -> Arc<Entry> {
        let text = format!(r#"{{"id": "{id}", "input": "/a", "priority": {priority}}}"#);
        let job = Job::accepted(parse(text.as_bytes()).unwrap(), Timestamp::UNIX_EPOCH);
        Arc::new(Entry::new(job, format!("/out/{id}").into(), root.map(RootId), suspect))
    }

    fn with(entries: impl IntoIterator<Item = Arc<Entry>>) -> State {
        let mut state = State::new();
        entries.into_iter().for_each(|entry| state.enter(entry));
        state
    }

    fn started(state: &mut State, slots: u32) -> Vec<String> {
        std::iter::from_fn(|| state.next(slots)).map(|entry| entry.id().to_owned()).collect()
    }

    #[test]
    fn as_many_start_as_there_are_slots_in_the_order_of_the_queue() {
        let mut state =
            with([entry("a", 5, None, false), entry("b", 9, None, false), entry("c", 5, None, false)]);
        assert_eq!(started(&mut state, 2), ["b", "a"]);
        state.leave("b", Some(1000.0));
        assert_eq!(started(&mut state, 2), ["c"]);
        assert!(state.live("b").is_none() && state.live("c").is_some());
        state.stopping = true;
        state.leave("a", None);
        assert_eq!(started(&mut state, 9), [""; 0]);
    }

    #[test]
    fn a_suspect_waits_until_it_is_alone_and_holds_the_others_up_so_that_it_comes_to_that() {
        let mut state =
            with([entry("a", 9, None, false), entry("s", 5, None, true), entry("b", 1, None, false)]);
        assert_eq!(started(&mut state, 4), ["a"]);
        state.leave("a", None);
        assert_eq!(started(&mut state, 4), ["s"]);
        state.leave("s", None);
        assert_eq!(started(&mut state, 4), ["b"]);
    }

    #[test]
    fn jobs_of_a_silent_root_let_others_go_first() {
        let mut state = with([entry("a", 5, Some(0), false), entry("b", 5, Some(1), false)]);
        state.set_silent_roots(HashSet::from([RootId(0)]));
        assert_eq!(started(&mut state, 4), ["b"]);
        state.set_silent_roots(HashSet::new());
        assert_eq!(started(&mut state, 4), ["a"]);
    }

    #[test]
    fn a_place_is_taken_by_whoever_is_live_enters_or_hangs_and_by_folders_around_and_inside() {
        let mut state = with([entry("a", 5, None, false)]);
        let taken = |state: &State, path: &str| state.writes_to(Path::new(path));
        for path in ["/out/a", "/out", "/out/a/720p"] {
            assert_eq!(taken(&state, path).as_deref(), Some("a"), "{path}");
        }
        assert_eq!(taken(&state, "/out/ab"), None);
        let hangs = state.next(1).unwrap();
        state.hangs(hangs);
        state.leave("a", None);
        assert_eq!(taken(&state, "/out/a").as_deref(), Some("a"));
        state.came_back("a");
        assert_eq!(taken(&state, "/out/a"), None);
        state.reserve("b", Path::new("/out/a"));
        assert_eq!(taken(&state, "/out/a").as_deref(), Some("b"));
        state.release("b");
        assert_eq!(taken(&state, "/out/a"), None);
    }

    #[test]
    fn a_job_that_could_not_start_stands_in_the_queue_again() {
        let mut state = with([entry("a", 5, None, false), entry("b", 5, None, false)]);
        assert!(state.next(1).is_some());
        state.give_up_slot("a");
        assert_eq!((state.waiting(), state.running().count()), (2, 0));
        let taken = state.take_waiting("a").unwrap();
        assert!(state.take_waiting("a").is_none());
        state.put_back(taken);
        assert_eq!(started(&mut state, 2), ["a", "b"]);
    }
}
