//! Segments that were made on demand: in memory first, then on disk, and never more bytes than allowed.
//!
//! What enters: finished segments, and whoever wants one again. What leaves: their bytes, for as long as
//! they are kept. Both places have a hard cap; what was not wanted for the longest time goes first, from
//! memory to the disk and from there for good. What is being served counts and stays: where nothing else
//! is left, who puts one in waits. Bytes on disk count from before the file is made until after it is
//! removed. Nothing here outlives the process: [`Cache::open`] removes what an earlier one has left, and
//! nothing else. What must not live here: who wants what, and why.

use crate::base::cancel::Cancel;
use crate::base::error::{Error, Result, Stage};
use crate::base::pieces::Pieces;
use bytes::Bytes;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

mod shelves;
#[cfg(test)]
mod tests;

use shelves::{Gone, Hold, Moved, Shelves, SlotId, Victim};

/// How soon a producer that waits for room sees that it is not wanted any more.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// What every file in the folder is called: nothing else is ever removed.
const EXTENSION: &str = "seg";

/// Which segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// Stands for the source as it was then and for everything that decides over the bytes.
    pub content: u64,
    /// Which rendition of it.
    pub rendition: u32,
    /// Which segment of that.
    pub index: u64,
}

impl Key {
    /// No two files of one process have the same name, so that one on its way out is never taken for one
    /// that was just written.
    fn file_name(self, slot: SlotId) -> String {
        format!("{:016x}-{}-{}-{}.{EXTENSION}", self.content, self.rendition, self.index, slot.0)
    }

    /// Whether a file's name is one of ours, to the letter.
    fn is_file_name(name: &str) -> bool {
        let parse = || {
            let mut parts = name.strip_suffix(EXTENSION)?.strip_suffix('.')?.split('-');
            let content = u64::from_str_radix(parts.next()?, 16).ok()?;
            let (rendition, index) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
            let slot = SlotId(parts.next()?.parse().ok()?);
            Some(Self { content, rendition, index }.file_name(slot))
        };
        parse().is_some_and(|ours| ours == name)
    }
}

/// How many bytes may be kept where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caps {
    /// In memory.
    pub memory_bytes: u64,
    /// On disk.
    pub disk_bytes: u64,
}

/// Where a segment was found.
#[derive(Debug)]
pub enum Found {
    /// Its bytes.
    Memory(Pieces),
    /// It lies on disk.
    Disk(OnDisk),
}

/// A segment on disk, which stays there for as long as this is held.
#[derive(Debug)]
pub struct OnDisk {
    path: PathBuf,
    bytes: u64,
    lease: Lease,
}

impl OnDisk {
    /// How long it is.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Opens it, to be sent piece by piece: the way for slow readers, since nothing of it is in memory. Blocks.
    ///
    /// # Errors
    /// `io`, and the like: somebody has removed the file, or the disk is broken.
    pub fn open(self) -> Result<OpenSegment> {
        let file = File::open(&self.path).map_err(|e| Error::io(Stage::Publish, "open", &self.path, &e))?;
        Ok(OpenSegment { file, _lease: self.lease })
    }

    /// Its bytes, which count as being served, in memory too, until the last clone of them is dropped. It
    /// does not wait for room there: producers do. Blocks.
    ///
    /// # Errors
    /// `io`, and the like: somebody has removed the file, or the disk is broken.
    pub fn read(mut self) -> Result<Pieces> {
        self.lease.count_in_memory(self.bytes);
        let data = fs::read(&self.path).map_err(|e| Error::io(Stage::Publish, "read", &self.path, &e))?;
        if data.len() as u64 != self.bytes {
            let short =
                io::Error::new(io::ErrorKind::UnexpectedEof, "it has another length than was written");
            return Err(Error::io(Stage::Publish, "read", &self.path, &short));
        }
        Ok(leased(&data.into(), self.lease))
    }
}

/// A segment on disk that is open: it stays there until this is dropped.
#[derive(Debug)]
pub struct OpenSegment {
    file: File,
    _lease: Lease,
}

impl OpenSegment {
    /// The file, open for reading.
    pub fn file(&self) -> &File {
        &self.file
    }
}

/// Bytes that are being served.
struct Leased {
    data: Bytes,
    _lease: Arc<Lease>,
}

/// The same bytes, which hold the segment as long as there is a clone of a part of them. (Of one without bytes,
/// which nobody makes, there is nothing to hold.)
fn leased(data: &Pieces, lease: Lease) -> Pieces {
    let lease = Arc::new(lease);
    data.map(|piece| Bytes::from_owner(Leased { data: piece.clone(), _lease: lease.clone() }))
}

impl AsRef<[u8]> for Leased {
    fn as_ref(&self) -> &[u8] {
        &self.data
    }
}

/// Holds a segment where it is.
#[derive(Debug)]
struct Lease {
    cache: Arc<Inner>,
    slot: SlotId,
    /// What was read from the disk for this holder.
    read_bytes: u64,
}

impl Lease {
    fn count_in_memory(&mut self, bytes: u64) {
        self.cache.lock().add_read(bytes);
        self.read_bytes = bytes;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut shelves = self.cache.lock();
        shelves.remove_read(self.read_bytes);
        shelves.release(self.slot);
        drop(shelves);
        self.cache.room.notify_all();
    }
}

/// The cache. Clones share it.
#[derive(Clone, Debug)]
pub struct Cache(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    folder: PathBuf,
    shelves: Mutex<Shelves>,
    /// Something was released, or has gone.
    room: Condvar,
    /// The last segment could not be written: said once, not for each one.
    write_fails: AtomicBool,
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, Shelves> {
        self.shelves.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How full the cache is. What is being written to or removed from the disk counts there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fill {
    /// Bytes in memory, those that were read from the disk to be served included.
    pub memory_bytes: u64,
    /// Bytes on disk.
    pub disk_bytes: u64,
    /// Segments in both.
    pub segments: usize,
}

impl Cache {
    /// An empty cache that writes to `folder`, which is made if need be and belongs to this process alone.
    ///
    /// # Errors
    /// The folder cannot be made or looked at, or what an earlier process has left cannot be removed.
    pub fn open(folder: PathBuf, caps: Caps) -> Result<Self> {
        fs::create_dir_all(&folder).map_err(|e| Error::io(Stage::Publish, "make the folder", &folder, &e))?;
        let removed = remove_left(&folder)?;
        if removed > 0 {
            tracing::info!("{removed} segments that an earlier process had made on demand are removed");
        }
        let shelves = Mutex::new(Shelves::new(caps));
        let (room, write_fails) = (Condvar::new(), AtomicBool::new(false));
        Ok(Self(Arc::new(Inner { folder, shelves, room, write_fails })))
    }

    /// A segment, if it is there. Never blocks on a disk.
    pub fn get(&self, key: Key) -> Option<Found> {
        let hold = self.0.lock().take_hold(key)?;
        Some(self.found(key, hold))
    }

    fn found(&self, key: Key, Hold { slot, bytes, data }: Hold) -> Found {
        let lease = Lease { cache: self.0.clone(), slot, read_bytes: 0 };
        match data {
            Some(data) => Found::Memory(leased(&data, lease)),
            None => Found::Disk(OnDisk { path: self.path(key, slot), bytes, lease }),
        }
    }

    /// Whether a segment is there. Does not count as wanting it.
    pub fn has(&self, key: Key) -> bool {
        self.0.lock().has(key)
    }

    /// What tells this making of a segment from any other: made again, its bytes may differ.
    pub fn tag(&self, key: Key) -> Option<u64> {
        self.0.lock().tag(key)
    }

    /// How full it is.
    pub fn fill(&self) -> Fill {
        self.0.lock().fill()
    }

    /// Keeps a segment. Waits while everything that would have to go for it is being served. Blocks on
    /// the disk, where the segments that were not wanted for the longest time go.
    ///
    /// # Errors
    /// `cancelled`: `cancel` was set meanwhile.
    pub fn put(&self, key: Key, data: impl Into<Pieces>, cancel: &Cancel) -> Result<()> {
        self.place(key, data.into(), cancel).map(drop)
    }

    /// Like [`Cache::put`], and hands it out in the same moment: whoever waited for it has it for certain,
    /// however small the cache is.
    ///
    /// # Errors
    /// As with [`Cache::put`].
    pub fn put_and_get(&self, key: Key, data: impl Into<Pieces>, cancel: &Cancel) -> Result<Found> {
        let hold = self.place(key, data.into(), cancel)?.take_hold(key);
        let gone = || Error::internal(Stage::Publish, "a segment has gone under the cache's own lock");
        Ok(self.found(key, hold.ok_or_else(gone)?))
    }

    /// Puts a segment in its place, and gives back the lock under which it is there.
    fn place(&self, key: Key, data: Pieces, cancel: &Cancel) -> Result<MutexGuard<'_, Shelves>> {
        let bytes = data.len() as u64;
        self.remove_gone();
        let mut shelves = self.0.lock();
        loop {
            if cancel.is_cancelled() {
                return Err(Error::cancelled(Stage::Publish));
            }
            if shelves.has(key) {
                return Ok(shelves);
            }
            if shelves.has_room_in_memory(bytes) {
                shelves.insert(key, Arc::new(data));
                return Ok(shelves);
            }
            shelves = match shelves.begin_to_move() {
                Some(victim) => {
                    drop(shelves);
                    self.move_out(&victim);
                    self.0.room.notify_all();
                    self.0.lock()
                }
                None => {
                    // Whoever waits here is not stuck, but kept waiting by viewers.
                    cancel.goes_on();
                    let waited = self.0.room.wait_timeout(shelves, LOOK_EVERY);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    /// Forgets every segment of a source as it was. What is being served of it counts until it was.
    /// Blocks on the disk.
    pub fn forget(&self, content: u64) {
        self.0.lock().forget(content);
        self.remove_gone();
        self.0.room.notify_all();
    }

    fn path(&self, key: Key, slot: SlotId) -> PathBuf {
        self.0.folder.join(key.file_name(slot))
    }

    /// Removes the files of segments that have gone, and then counts them no more.
    fn remove_gone(&self) {
        loop {
            let gone = self.0.lock().take_gone();
            let Some(Gone { key, slot, bytes }) = gone else { return };
            remove(&self.path(key, slot));
            self.0.lock().removed(bytes);
            self.0.room.notify_all();
        }
    }

    /// From memory to the disk, or away where there is no room.
    fn move_out(&self, victim: &Victim) {
        if !self.reserve_disk(victim.data.len() as u64) {
            return self.0.lock().moved(victim.slot, Moved::NoRoom);
        }
        let path = self.path(victim.key, victim.slot);
        let written = write_new(&path, &victim.data);
        self.say_whether_written(&path, written.as_ref());
        let moved = if written.is_ok() { Moved::Written } else { Moved::NotWritten };
        self.0.lock().moved(victim.slot, moved);
        self.remove_gone();
    }

    /// Makes room for `bytes` on disk and takes it; `false` where what lies there may not go.
    fn reserve_disk(&self, bytes: u64) -> bool {
        loop {
            let mut shelves = self.0.lock();
            if shelves.reserve_disk(bytes) {
                return true;
            }
            if !shelves.make_room_on_disk(bytes) {
                return false;
            }
            drop(shelves);
            self.remove_gone();
            let shelves = self.0.lock();
            if !shelves.has_room_on_disk(bytes) {
                // Another thread is removing the files that make the room.
                drop(self.0.room.wait_timeout(shelves, LOOK_EVERY));
            }
        }
    }

    /// A disk that fails does so for every segment: the log has the first and the end of it.
    fn say_whether_written(&self, path: &Path, written: std::result::Result<&(), &io::Error>) {
        let failed_before = self.0.write_fails.swap(written.is_err(), Ordering::Relaxed);
        match written {
            Err(e) if !failed_before => tracing::warn!(
                "segments made on demand are kept in memory only while {} cannot be written: {e}",
                path.display()
            ),
            Ok(()) if failed_before => tracing::info!("segments made on demand are kept on disk again"),
            _ => {}
        }
    }
}

/// Writes a file that is not there yet, and through no link. What could not be written in full is removed.
fn write_new(path: &Path, data: &Pieces) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    let written = data.iter().try_for_each(|piece| file.write_all(piece));
    if written.is_err() {
        remove(path);
    }
    written
}

fn remove(path: &Path) {
    if let Err(e) = fs::remove_file(path)
        && e.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!("cannot remove {}: {e}", path.display());
    }
}

/// Removes the plain files that have our names. Folders and links of such names are not ours.
fn remove_left(folder: &Path) -> Result<usize> {
    let cannot = |what: &str, path: &Path, e: &io::Error| Error::io(Stage::Publish, what, path, e);
    let mut removed = 0;
    for entry in fs::read_dir(folder).map_err(|e| cannot("list", folder, &e))? {
        let entry = entry.map_err(|e| cannot("list", folder, &e))?;
        let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
        if is_file && entry.file_name().to_str().is_some_and(Key::is_file_name) {
            fs::remove_file(entry.path()).map_err(|e| cannot("remove", &entry.path(), &e))?;
            removed += 1;
        }
    }
    Ok(removed)
}
