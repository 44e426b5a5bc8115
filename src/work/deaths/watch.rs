//! The note that a process keeps about itself, so that the next can tell whether the kernel killed it
//! for memory: that leaves no crumb.
//!
//! What enters: the kernel's counts at the start, and again whenever they change. What leaves: the file
//! `alive` in the state folder, gone after an end in order. Keeping the counts up to date narrows the
//! time in which a kill of somebody else could be taken for ours to a few seconds before our end and
//! the time until the next start. Counts of another boot say nothing: that was a power cut.

use super::kernel::{Group, Kernel, LogSays};
use crate::base::cancel::Cancel;
use crate::base::error::{Error, ErrorKind, Result, Stage};
use crate::base::fs::publish_bytes;
use crossbeam_channel::{Receiver, bounded};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// How often the counts are looked at.
const EVERY: Duration = Duration::from_secs(10);
/// How long an end in order waits for the disk.
const END_LIMIT: Duration = Duration::from_millis(500);
/// More than the note of a process in control groups nested as deep as they come.
const MOST_BYTES: u64 = 1 << 20;

/// A process about itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    boot: String,
    pid: u32,
    /// The last record of the kernel's log at its start, where that may be read.
    log_end: Option<u64>,
    /// Kills on the whole machine.
    kills: Option<u64>,
    /// Its own control group first.
    groups: Vec<Group>,
}

impl Note {
    /// `None` where the system does not tell of its boots: not Linux.
    fn take(kernel: &Kernel) -> Option<Self> {
        Some(Self {
            boot: kernel.boot()?,
            pid: std::process::id(),
            log_end: kernel.log_end(),
            kills: kernel.kills(),
            groups: kernel.own_groups(),
        })
    }

    /// The same with the counts of now.
    fn renewed(&self, kernel: &Kernel) -> Self {
        Self { kills: kernel.kills(), groups: kernel.own_groups(), ..self.clone() }
    }

    fn write(&self, file: &Path) -> Result<()> {
        let cannot =
            |e| Error::internal(Stage::Plan, format!("cannot put the note {self:?} into words: {e}"));
        publish_bytes(file, &serde_json::to_vec(self).map_err(cannot)?)
    }

    /// Whether the kernel has killed the process that wrote it.
    fn tells_of_kill(&self, kernel: &Kernel) -> bool {
        if kernel.boot().as_ref() != Some(&self.boot) {
            return false;
        }
        match self.log_end.map(|end| kernel.log_on(self.pid, end)) {
            Some(LogSays::Killed) => true,
            Some(LogSays::NotKilled) => false,
            Some(LogSays::Nothing) | None => self.counts_tell_of_kill(kernel),
        }
    }

    /// By the nearest group that is still the same. A service manager makes the service's own anew, and
    /// so does a container's runtime, which leaves none to be seen from inside: then the machine's count
    /// has to do.
    fn counts_tell_of_kill(&self, kernel: &Kernel) -> bool {
        let machine = self.kills.zip(kernel.kills()).map(|(then, now)| now > then);
        if machine == Some(false) {
            return false;
        }
        let same = |then: &Group| kernel.group(&then.folder).filter(|now| now.id == then.id);
        let nearest = self.groups.iter().find_map(|then| same(then).map(|now| now.kills > then.kills));
        nearest.or(machine).unwrap_or(false)
    }
}

fn note_path(state_dir: &Path) -> PathBuf {
    state_dir.join("alive")
}

/// Whether the process that left its note in the folder was killed for memory.
pub(super) fn was_killed_for_memory(state_dir: &Path, kernel: &Kernel) -> bool {
    let path = note_path(state_dir);
    let mut bytes = Vec::new();
    match File::open(&path).and_then(|file| file.take(MOST_BYTES).read_to_end(&mut bytes)) {
        Ok(_) => {}
        Err(e) if e.kind() == io::ErrorKind::NotFound => return false,
        Err(e) => {
            tracing::warn!("cannot read {}: {e}", path.display());
            return false;
        }
    }
    match serde_json::from_slice::<Note>(&bytes) {
        Ok(note) => note.tells_of_kill(kernel),
        Err(e) => {
            tracing::warn!("{} makes no sense: {e}", path.display());
            false
        }
    }
}

/// Keeps this process's note. When it is dropped without [`Watch::end`], the note stays, as after a
/// death.
#[derive(Debug)]
pub struct Watch {
    stop: Cancel,
    in_order: Arc<AtomicBool>,
    /// Closed by the thread when it has ended. Carries nothing.
    over: Receiver<()>,
}

impl Watch {
    /// Replaces the note of the process before, which has to have been read, by this one's, and starts
    /// the thread that keeps it up to date.
    ///
    /// # Errors
    /// What the file system refuses, `no_space` among it; `no_threads`.
    pub fn begin(state_dir: &Path) -> Result<Self> {
        Self::begin_with(state_dir, Kernel::of_this_machine(), EVERY)
    }

    pub(super) fn begin_with(state_dir: &Path, kernel: Kernel, every: Duration) -> Result<Self> {
        let file = note_path(state_dir);
        let note = Note::take(&kernel);
        match &note {
            Some(note) => note.write(&file)?,
            None => remove(&file)?,
        }
        let (stop, in_order) = (Cancel::new(), Arc::new(AtomicBool::new(false)));
        let (ends, over) = bounded(0);
        let (stopped, removes) = (stop.clone(), in_order.clone());
        let body = move || {
            keep(&file, note, &kernel, &stopped, every);
            if removes.load(Ordering::Acquire) {
                remove(&file).unwrap_or_else(|e| tracing::warn!("{e}"));
            }
            drop(ends);
        };
        thread::Builder::new().name("oom-watch".into()).spawn(body).map_err(|e| no_threads(&e))?;
        Ok(Self { stop, in_order, over })
    }

    /// An end in order: removes the note. Waits half a second at most for a disk that hangs; a note that
    /// stays does no harm when no job was left running.
    pub fn end(self) {
        self.in_order.store(true, Ordering::Release);
        self.stop.cancel();
        // It never sends: what comes is the end of the thread, or of our patience.
        let _ = self.over.recv_timeout(END_LIMIT);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Writes the note again only when it has changed: the disk may be a memory card.
fn keep(file: &Path, note: Option<Note>, kernel: &Kernel, stop: &Cancel, every: Duration) {
    let Some(mut note) = note else { return };
    while !stop.wait_timeout(every) {
        let now = note.renewed(kernel);
        if now == note {
            continue;
        }
        match now.write(file) {
            Ok(()) => note = now,
            Err(e) => tracing::debug!("the note for the next start is old: {e}"),
        }
    }
}

fn no_threads(e: &io::Error) -> Error {
    let message = format!("cannot start the thread that watches for out-of-memory kills: {e}");
    Error::new(ErrorKind::Io, "no_threads", Stage::Plan, message)
        .hint("raise the limit on threads of the service")
}

fn remove(file: &Path) -> Result<()> {
    match fs::remove_file(file) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::io(Stage::Plan, "remove", file, &e)),
        _ => Ok(()),
    }
}
