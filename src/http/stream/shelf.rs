//! Files that were opened a moment ago, kept open for the next request.
//!
//! What enters: files of published outputs as they are opened. What leaves: the same to whoever asks
//! within the next two seconds: a player that reads a film range by range, several viewers of one segment.
//! Each asks for nothing then but the bytes. Nobody gets what is gone: an output that this node removes or
//! replaces empties the shelf at once, and what others do to the disk is noticed after that time. Each file
//! leaves by itself, so that none is held that nobody reads: removed, it would keep its room on the disk.

use super::{Found, Room};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::time::timeout;

/// How long a file is kept.
const KEPT: Duration = Duration::from_secs(2);
/// Files at once.
const MAX_FILES: usize = 128;

/// A job and a path in its output.
type Name = (String, String);

#[derive(Clone)]
struct Kept {
    found: Found,
    epoch: u64,
    since: Instant,
}

/// The open files.
#[derive(Default)]
pub(in crate::http) struct Shelf(Mutex<HashMap<Name, Kept>>);

impl Shelf {
    /// The file, if it was opened a moment ago and no output has come or gone since `epoch`.
    pub(super) fn file(&self, job: &str, path: &str, epoch: u64) -> Option<Found> {
        let name = (job.to_owned(), path.to_owned());
        let kept = self.lock().get(&name).cloned()?;
        (kept.epoch == epoch && kept.since.elapsed() < KEPT).then_some(kept.found)
    }

    /// Keeps a file that was looked for since `epoch`, until its time is over or the node stops.
    pub(super) fn keep(&self, room: &Arc<Room>, (job, path): (&str, &str), epoch: u64, found: &Found) {
        let name = (job.to_owned(), path.to_owned());
        let since = Instant::now();
        if !self.put(name.clone(), Kept { found: found.clone(), epoch, since }) {
            return;
        }
        let (room, shutdown) = (room.clone(), room.shutdown.clone());
        tokio::spawn(async move {
            let _ = timeout(KEPT, shutdown.cancelled()).await;
            room.shelf.drop_if(&name, since);
        });
    }

    /// Whether there was room for it.
    fn put(&self, name: Name, kept: Kept) -> bool {
        let mut files = self.lock();
        let fits = files.len() < MAX_FILES || files.contains_key(&name);
        if fits {
            files.insert(name, kept);
        }
        fits
    }

    /// Lets the file go, unless it was put there again meanwhile.
    fn drop_if(&self, name: &Name, since: Instant) {
        let mut files = self.lock();
        if files.get(name).is_some_and(|kept| kept.since == since) {
            files.remove(name);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Name, Kept>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(epoch: u64, since: Instant) -> Kept {
        Kept { found: Found::Growing("x".into()), epoch, since }
    }

    fn name(n: usize) -> Name {
        ("a".into(), n.to_string())
    }

    #[test]
    fn a_file_is_there_for_its_time_and_its_epoch() {
        let (shelf, now) = (Shelf::default(), Instant::now());
        assert!(shelf.put(name(0), kept(7, now)));
        assert!(shelf.file("a", "0", 7).is_some());
        assert!(shelf.file("a", "0", 8).is_none() && shelf.file("a", "1", 7).is_none());
        let Some(old) = now.checked_sub(KEPT) else { return };
        assert!(shelf.put(name(0), kept(7, old)));
        assert!(shelf.file("a", "0", 7).is_none(), "its time is over");
        shelf.drop_if(&name(0), now);
        assert_eq!(shelf.lock().len(), 1, "it was put there again");
        shelf.drop_if(&name(0), old);
        assert_eq!(shelf.lock().len(), 0);
    }

    #[test]
    fn a_full_shelf_takes_no_more_and_drops_nothing() {
        let (shelf, now) = (Shelf::default(), Instant::now());
        assert!((0..MAX_FILES).all(|n| shelf.put(name(n), kept(0, now))));
        assert!(!shelf.put(name(MAX_FILES), kept(0, now)));
        assert!(shelf.put(name(0), kept(1, now)));
        assert_eq!(shelf.lock().len(), MAX_FILES);
    }
}
