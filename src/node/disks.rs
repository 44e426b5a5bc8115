//! File systems: how much room there is, whether the output takes files, and whether they answer.
//!
//! What enters: the roots and the output. What leaves: the newest known figures of each, at any time,
//! without waiting. Asking a network file system whose server is dead can hang for ever, in a way
//! that nothing can interrupt: so each place has one thread for life, and a place whose thread has
//! not come back within the deadline is shown as not answering, since when it was asked. It shows as
//! answering again when the same thread comes back. What follows from the figures is decided elsewhere.

use crate::base::error::{Error, ErrorKind, Result, Stage};
use crate::base::fs::TEMP_PREFIX;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use jiff::Timestamp;
use serde::Serialize;
use std::fmt::Display;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};
use utoipa::ToSchema;

/// The threads do next to nothing, and there is one for each root.
const STACK_BYTES: usize = 256 * 1024;
/// Names for the proof of writing: nodes that share the disk may be proving at the same moment. Numbers
/// of processes would not do: in containers they are all alike, and what dead ones have left could only
/// be found by listing the output, which may be large and far away.
const PROOF_NAMES: usize = 16;
/// A proof takes seconds: what is older was left by a process that was killed.
const PROOF_LEFT: Duration = Duration::from_secs(600);

/// A place to watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// How it is shown: the root's name, or `output`.
    pub name: String,
    /// The folder.
    pub path: PathBuf,
    /// Whether it must take files, which is proven by making one.
    pub written: bool,
}

/// How a place stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Disk {
    /// The root's name, or `output`.
    pub name: String,
    /// The folder.
    #[schema(value_type = String)]
    pub path: PathBuf,
    /// Size of the file system; null until it was known once.
    pub total_bytes: Option<u64>,
    /// What may still be written; null until it was known once.
    pub free_bytes: Option<u64>,
    /// Whether it takes files; null where nothing is written, and until it was tried once.
    pub writable: Option<bool>,
    /// Whether the file system answers. The figures are of the last time that it did.
    pub answering: bool,
    /// Since when it does not.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub silent_since: Option<Timestamp>,
    /// What it answers instead of figures, or instead of taking a file.
    pub error: Option<String>,
}

/// What one look at a place has found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Size of the file system.
    pub total_bytes: u64,
    /// What may still be written.
    pub free_bytes: u64,
    /// Why no file can be written, where that was tried.
    pub written: Option<Result<(), String>>,
}

/// Looks at one place. May hang: that is what the threads are for.
pub trait Probe: Send + Sync + 'static {
    /// The figures of `place`. Without `try_writing` no file is made.
    ///
    /// # Errors
    /// What the file system says instead.
    fn look(&self, place: &Place, try_writing: bool) -> Result<Figures, String>;
}

/// How often and how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Between two looks.
    pub every: Duration,
    /// A look that takes longer means that the place does not answer.
    pub deadline: Duration,
    /// Between two proofs of writing while they succeed: each one wakes a disk that sleeps.
    pub write_every: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            every: Duration::from_secs(5),
            deadline: Duration::from_secs(5),
            write_every: Duration::from_secs(30),
        }
    }
}

/// The watched places. Their threads end when this is dropped, except those that hang.
#[derive(Debug)]
pub struct Disks {
    watched: Vec<Watched>,
    deadline: Duration,
    /// Closed when each place was looked at once.
    first: Receiver<()>,
}

#[derive(Debug)]
struct Watched {
    place: Place,
    held: Arc<Mutex<Held>>,
    /// A message asks for a look now; closing it ends the thread.
    wake: Sender<()>,
}

#[derive(Debug, Default)]
struct Held {
    /// When the look began that is under way.
    asked: Option<(Instant, Timestamp)>,
    figures: Option<(u64, u64)>,
    writable: Option<bool>,
    error: Option<String>,
}

impl Disks {
    /// Watches `places` on the real file systems. The first figures are there a moment later.
    ///
    /// # Errors
    /// `no_threads` when the system grants no thread.
    pub fn start(places: Vec<Place>, pace: Pace) -> Result<Self> {
        Self::with_probe(places, pace, Arc::new(FileSystem))
    }

    /// [`Disks::start`] with another way to look.
    ///
    /// # Errors
    /// The same.
    pub fn with_probe(places: Vec<Place>, pace: Pace, probe: Arc<dyn Probe>) -> Result<Self> {
        let (looked, first) = bounded(0);
        let start = |place| Watched::start(place, pace, probe.clone(), looked.clone());
        let watched = places.into_iter().map(start).collect::<Result<_>>()?;
        Ok(Self { watched, deadline: pace.deadline, first })
    }

    /// Waits until each place was looked at once, for `limit` at most; says whether all were. Blocks.
    pub fn wait_for_first(&self, limit: Duration) -> bool {
        matches!(self.first.recv_timeout(limit), Err(RecvTimeoutError::Disconnected))
    }

    /// How each place stands, in the order in which they were given. Never waits.
    pub fn latest(&self) -> Vec<Disk> {
        self.watched.iter().map(|watched| watched.show(self.deadline)).collect()
    }

    /// Asks for new figures soon, for instance because a write met a full disk.
    pub fn refresh(&self) {
        for watched in &self.watched {
            // One that waits already does as well.
            let _ = watched.wake.try_send(());
        }
    }
}

impl Watched {
    fn start(place: Place, pace: Pace, probe: Arc<dyn Probe>, looked: Sender<()>) -> Result<Self> {
        let held = Arc::new(Mutex::new(Held::default()));
        let (wake, woken) = bounded(1);
        let watcher = Watcher { place: place.clone(), held: held.clone(), pace, probe };
        let builder = thread::Builder::new().name("disk".into()).stack_size(STACK_BYTES);
        builder.spawn(move || watcher.run(&woken, looked)).map_err(|e| {
            let message = format!("cannot start a thread that watches {}: {e}", place.path.display());
            Error::new(ErrorKind::Io, "no_threads", Stage::Plan, message)
                .hint("raise the limit on threads of this user or container")
        })?;
        Ok(Self { place, held, wake })
    }

    fn show(&self, deadline: Duration) -> Disk {
        let held = lock(&self.held);
        let silent_since = held.asked.filter(|(at, _)| at.elapsed() >= deadline).map(|(_, since)| since);
        Disk {
            name: self.place.name.clone(),
            path: self.place.path.clone(),
            total_bytes: held.figures.map(|(total, _)| total),
            free_bytes: held.figures.map(|(_, free)| free),
            writable: held.writable,
            answering: silent_since.is_none(),
            silent_since,
            error: held.error.clone(),
        }
    }
}

struct Watcher {
    place: Place,
    held: Arc<Mutex<Held>>,
    pace: Pace,
    probe: Arc<dyn Probe>,
}

impl Watcher {
    fn run(&self, woken: &Receiver<()>, looked: Sender<()>) {
        let mut looked = Some(looked);
        let mut proven: Option<Instant> = None;
        let mut asked_for = false;
        loop {
            let fresh = proven.is_some_and(|at| at.elapsed() < self.pace.write_every);
            let try_writing = self.place.written && (asked_for || !fresh);
            let began = Instant::now();
            if self.look(try_writing) && try_writing {
                proven = Some(began);
            }
            if lock(&self.held).writable == Some(false) {
                proven = None;
            }
            looked.take();
            asked_for = match woken.recv_timeout(self.pace.every) {
                Ok(()) => true,
                Err(RecvTimeoutError::Timeout) => false,
                Err(RecvTimeoutError::Disconnected) => break,
            };
        }
    }

    /// Whether all went well.
    fn look(&self, try_writing: bool) -> bool {
        lock(&self.held).asked = Some((Instant::now(), Timestamp::now()));
        let found = self.probe.look(&self.place, try_writing);
        let mut held = lock(&self.held);
        held.asked = None;
        match found {
            Ok(figures) => {
                held.figures = Some((figures.total_bytes, figures.free_bytes));
                if let Some(written) = figures.written {
                    held.writable = Some(written.is_ok());
                    held.error = written.err();
                } else if held.writable != Some(false) {
                    held.error = None;
                }
            }
            Err(why) => {
                // Figures of a place that is not there would be somebody else's.
                held.figures = None;
                held.writable = self.place.written.then_some(false);
                held.error = Some(why);
            }
        }
        held.error.is_none()
    }
}

fn lock(held: &Mutex<Held>) -> MutexGuard<'_, Held> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The real file systems.
#[derive(Clone, Copy, Debug, Default)]
pub struct FileSystem;

impl Probe for FileSystem {
    fn look(&self, place: &Place, try_writing: bool) -> Result<Figures, String> {
        let path = &place.path;
        // A server can answer the one and not the other.
        list(path).map_err(|e| format!("cannot read the folder {}: {e}", path.display()))?;
        let fs = rustix::fs::statvfs(path)
            .map_err(|e| format!("cannot ask for the free space of {}: {e}", path.display()))?;
        Ok(Figures {
            total_bytes: fs.f_blocks.saturating_mul(fs.f_frsize),
            // Without what is kept for root.
            free_bytes: fs.f_bavail.saturating_mul(fs.f_frsize),
            written: try_writing.then(|| prove_writing(path)),
        })
    }
}

fn list(folder: &Path) -> io::Result<()> {
    fs::read_dir(folder)?.next().transpose().map(drop)
}

/// Makes a small file and writes to the disk with it. It has lost its name by then where the file system
/// lets an open file go, so that nothing stays, however the process ends.
fn prove_writing(folder: &Path) -> Result<(), String> {
    let say = |what: &str, e: &dyn Display| format!("cannot {what} a file in {}: {e}", folder.display());
    let names = (0..PROOF_NAMES).map(|n| folder.join(format!("{TEMP_PREFIX}proof-{n}")));
    names.clone().for_each(|name| remove_left(&name));
    for name in names {
        match File::create_new(&name) {
            Ok(file) => {
                let removed = fs::remove_file(&name).or_else(gone);
                // A full disk makes the file, but takes no byte, or tells it only when it has to.
                let written = (&file).write_all(b"sprocket").and_then(|()| file.sync_all());
                drop(file);
                let removed = removed.or_else(|_| fs::remove_file(&name).or_else(gone));
                return written.map_err(|e| say("write", &e)).and(removed.map_err(|e| say("remove", &e)));
            }
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(say("create", &e)),
        }
    }
    Err(say("create", &format!("every name is taken; remove old files named {TEMP_PREFIX}proof-*")))
}

/// Removes what a killed process has left of its proof, on this machine or another.
fn remove_left(name: &Path) {
    let written = fs::symlink_metadata(name).and_then(|facts| facts.modified());
    let age = written.ok().and_then(|at| SystemTime::now().duration_since(at).ok());
    if age.is_some_and(|age| age > PROOF_LEFT) {
        // If it stays, another name will do.
        let _ = fs::remove_file(name);
    }
}

/// Another node that shares the disk and whose clock is ahead may have taken it for left.
fn gone(e: io::Error) -> io::Result<()> {
    if e.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(e) }
}

#[cfg(test)]
mod tests;
