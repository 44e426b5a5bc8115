//! The facts about this machine that the node's state follows from.
//!
//! What enters: figures of the file systems, the journal's health, what the board reports, wishes for
//! maintenance. What leaves: faults on the state's watch, and which roots do not answer. Never waits
//! for a disk: the newest known figures are taken.

use super::disks::{Disk, Disks, Place};
use super::state::{Status, Watch};
use crate::base::error::Error;
use crate::config::paths::RootId;
use crate::config::settings::Settings;
use crate::model::node::{Fault, NodeFacts};
use crate::work::board::{MAX_HANGING, Surroundings};
use crate::work::journal::Journal;
use indicatif::HumanBytes;
use jiff::Timestamp;
use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// How the output and the state folder are shown among the disks.
pub const OUTPUT: &str = "output";
/// See [`OUTPUT`].
pub const STATE: &str = "state";
/// A root on which a job stood still counts as silent until it has answered for so long.
const TRUST_AGAIN: Duration = Duration::from_secs(7);
/// So long after a write met a full disk the figures show whether it is.
const FIGURES_FOLLOW: Duration = Duration::from_secs(3);
/// The journal needs little, but without that little nothing can be promised.
const MIN_STATE_BYTES: u64 = 64 << 20;

/// The folders to watch: the roots in their order, the output, the state.
pub fn places(settings: &Settings) -> Vec<Place> {
    let place =
        |name: &str, path: &std::path::Path, written| Place { name: name.into(), path: path.into(), written };
    let paths = &settings.paths;
    let roots = paths.roots.iter().map(|root| place(&root.name, &root.local, false));
    roots.chain([place(OUTPUT, &paths.output.local, true), place(STATE, &paths.state, false)]).collect()
}

/// The conditions under which the node works.
#[derive(Debug)]
pub struct Conditions {
    watch: Watch,
    disks: Disks,
    journal: Journal,
    /// How many of the disks are roots: the first ones.
    roots: usize,
    min_free_bytes: u64,
    /// Roots on which a job stood still.
    stalled: Mutex<HashMap<RootId, Stall>>,
    /// When a job last met a full disk.
    full: Mutex<Option<Instant>>,
}

/// A root on which a job stood still.
#[derive(Clone, Copy, Debug)]
struct Stall {
    since: Timestamp,
    /// Since when it has answered again.
    answers_since: Instant,
}

impl Conditions {
    /// `disks` watch [`places`]. `lasting`: what is wrong and will be for the life of the process.
    pub fn new(settings: &Settings, disks: Disks, journal: Journal, lasting: Vec<Fault>) -> Self {
        let facts = NodeFacts {
            draining: false,
            faults: lasting,
            slots: settings.limits.max_concurrent_jobs,
            used: 0,
            viewers_full: false,
        };
        Self {
            watch: Watch::new(facts),
            disks,
            journal,
            roots: settings.paths.roots.len(),
            min_free_bytes: settings.limits.min_free_disk_bytes,
            stalled: Mutex::default(),
            full: Mutex::default(),
        }
    }

    /// Waits until each folder was looked at once, and takes that in. Blocks, for `limit` at most: what
    /// does not answer by then is told as silent when its own deadline is over.
    pub fn wait_for_first(&self, limit: Duration) {
        self.disks.wait_for_first(limit);
        self.look();
    }

    /// Whether viewers have every run that there may be for them.
    pub fn set_viewers_full(&self, full: bool) {
        self.watch.update(|facts| facts.viewers_full = full);
    }

    /// Takes the newest figures in. To be called every second or so.
    pub fn look(&self) {
        let disks = self.disks.latest();
        let (output, state) = (disks.get(self.roots), disks.get(self.roots + 1));
        self.watch.set_fault("output_not_writable", output.and_then(not_writable));
        let output_low = output.and_then(|disk| low(disk, self.min_free_bytes));
        let state_low = state.and_then(|disk| low(disk, self.min_free_bytes.min(MIN_STATE_BYTES)));
        self.watch.set_fault("disk_low", output_low.or(state_low).or_else(|| self.was_full()));
        let gone = state
            .and_then(|disk| disk.error.as_ref())
            .map(|why| format!("the state folder is gone: {why} (bring it back, or stop the node)"));
        self.watch.set_fault("state_gone", gone);
        self.watch.set_fault("journal_failed", self.journal.is_healthy().err().map(|e| in_words(&e)));
        self.trust_again(&disks);
    }

    /// The roots that do not answer.
    pub fn silent_roots(&self) -> HashSet<RootId> {
        let silent = self.disks.latest().into_iter().take(self.roots).enumerate();
        let silent = silent.filter(|(_, disk)| !disk.answering).map(|(root, _)| RootId(root));
        silent.chain(self.stalled().keys().copied()).collect()
    }

    /// How each root and the output stand. A root on which a job stood still is shown as not answering.
    pub fn disks(&self) -> Vec<Disk> {
        let mut disks = self.disks.latest();
        disks.truncate(self.roots + 1);
        let stalled = self.stalled();
        for (root, stall) in stalled.iter() {
            if let Some(disk) = disks.get_mut(root.0) {
                disk.answering = false;
                disk.silent_since = disk.silent_since.or(Some(stall.since));
            }
        }
        disks
    }

    /// How the node stands.
    pub fn status(&self) -> Status {
        self.watch.status()
    }

    /// A view that tells when that changes.
    pub fn subscribe(&self) -> watch::Receiver<Status> {
        self.watch.subscribe()
    }

    /// Drains, or does not any more.
    pub fn set_draining(&self, draining: bool) {
        self.watch.update(|facts| facts.draining = draining);
    }

    /// What a job has just met counts until the figures have had time to show it.
    fn was_full(&self) -> Option<String> {
        let at = (*lock(&self.full))?;
        let recent = at.elapsed() < FIGURES_FOLLOW;
        recent.then(|| "a job has just met a full disk (free some space)".into())
    }

    /// A disk that has answered for a while since a job stood still on it is trusted again.
    fn trust_again(&self, disks: &[Disk]) {
        let now = Instant::now();
        self.stalled().retain(|root, stall| {
            if disks.get(root.0).is_none_or(|disk| !disk.answering) {
                stall.answers_since = now;
            }
            let trusted = now.saturating_duration_since(stall.answers_since) >= TRUST_AGAIN;
            if trusted {
                tracing::info!("root {} answers again", disks.get(root.0).map_or("", |disk| &disk.name));
            }
            !trusted
        });
    }

    fn stalled(&self) -> MutexGuard<'_, HashMap<RootId, Stall>> {
        lock(&self.stalled)
    }
}

fn lock<T>(held: &Mutex<T>) -> MutexGuard<'_, T> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Surroundings for Conditions {
    fn facts(&self) -> NodeFacts {
        self.watch.facts()
    }

    fn load(&self, used: u32) {
        self.watch.update(|facts| facts.used = used);
    }

    fn stalled(&self, root: Option<RootId>) {
        self.disks.refresh();
        if let Some(root) = root {
            let stall = Stall { since: Timestamp::now(), answers_since: Instant::now() };
            Conditions::stalled(self).insert(root, stall);
        }
    }

    fn hanging(&self, runs: usize) {
        let message = (runs >= MAX_HANGING).then(|| {
            format!("{runs} jobs hang in the system and do not end (look for disks that do not answer)")
        });
        self.watch.set_fault("storage_hangs", message);
    }

    fn disk_full(&self) {
        self.disks.refresh();
        *lock(&self.full) = Some(Instant::now());
        self.look();
    }
}

fn not_writable(disk: &Disk) -> Option<String> {
    let path = disk.path.display();
    if !disk.answering {
        return Some(format!(
            "the file system of {path}, where outputs go, does not answer (check the mount)"
        ));
    }
    let why = disk.error.as_ref().filter(|_| disk.writable == Some(false))?;
    Some(format!("no output can be written: {why} (check owner, mode and mount of {path})"))
}

fn low(disk: &Disk, least: u64) -> Option<String> {
    let free = disk.free_bytes.filter(|free| *free < least)?;
    Some(format!(
        "{} are free at {}, {} are needed (free some space, or lower limits.min_free_disk)",
        HumanBytes(free),
        disk.path.display(),
        HumanBytes(least)
    ))
}

fn in_words(e: &Error) -> String {
    let hint = e.hint_text().map(|hint| format!(" ({hint})")).unwrap_or_default();
    format!("{}{hint}", e.message())
}

#[cfg(test)]
mod tests;
