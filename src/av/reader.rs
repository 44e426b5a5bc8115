//! Reading a file that may hang: a thread of its own reads ahead, libav waits on something that wakes.
//!
//! A `read` on a dead network mount sleeps in the kernel and nothing can interrupt it, libav's own
//! interrupt callback included. So the blocking calls (open, stat, read) happen on a reader thread;
//! the caller waits on channels together with the run's abort flag. A reader that does not come
//! back is abandoned: it ends by itself when the mount answers. Abandoned readers are counted and
//! capped, so that a dead NAS cannot eat the process thread by thread.

use crate::base::cancel::Cancel;
use crate::base::error::{Error, ErrorKind, Result, Stage};
use crossbeam_channel::{Receiver, Sender, after, bounded, select};
use rustix::buffer::spare_capacity;
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, ErrorKind as IoKind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How much is read ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ahead {
    /// Bytes in a chunk: what one read of the file asks for.
    pub chunk_bytes: usize,
    /// Chunks that wait, besides one in the reader's hand.
    pub chunks: usize,
}

impl Ahead {
    /// For reading on and on: 1 MiB waits at most for each source.
    pub const MUCH: Self = Self { chunk_bytes: 256 * 1024, chunks: 3 };
    /// For a look here and there.
    pub const LITTLE: Self = Self { chunk_bytes: 32 * 1024, chunks: 0 };
}

/// What is read first after a jump: many a jump is for a header or a table, and what follows is not wanted.
const FIRST_CHUNK_BYTES: usize = 64 * 1024;
/// Readers that may hang at once before new sources are refused.
const MAX_ABANDONED: usize = 32;
/// A reader that has not answered for so long when its run was stopped is nothing for the next run: it may hang at one
/// bad place, and a new one reads on elsewhere.
const PATIENCE: Duration = Duration::from_millis(100);
/// How long a closing source waits for its reader before it counts as abandoned.
const CLOSE_GRACE: Duration = Duration::from_millis(50);

static ABANDONED: AtomicUsize = AtomicUsize::new(0);

/// How many readers hang in the kernel now.
pub fn abandoned_readers() -> usize {
    ABANDONED.load(Ordering::Relaxed)
}

/// A file being read ahead.
#[derive(Debug)]
pub struct ReadAhead {
    /// Dropping it ends the reader.
    jumps: Option<Sender<Jump>>,
    chunks: Receiver<Chunk>,
    finished: Receiver<()>,
    cancel: Cancel,
    size: u64,
    position: u64,
    generation: u64,
    current: Chunk,
    /// The last wait for a chunk was given up, and had been long.
    hangs: bool,
}

/// "Go on reading from there."
#[derive(Clone, Copy, Debug)]
struct Jump {
    generation: u64,
    offset: u64,
}

#[derive(Debug)]
struct Chunk {
    generation: u64,
    offset: u64,
    data: io::Result<Vec<u8>>,
}

impl ReadAhead {
    /// Opens `path`, which has to be a regular file, waiting at most `limit`.
    pub fn open(path: &Path, cancel: &Cancel, limit: Duration) -> Result<Self> {
        Self::open_with(path, cancel, limit, Ahead::MUCH)
    }

    /// The same for somebody who reads in another way than on and on.
    pub fn open_with(path: &Path, cancel: &Cancel, limit: Duration, ahead: Ahead) -> Result<Self> {
        if abandoned_readers() >= MAX_ABANDONED {
            let message = format!("{MAX_ABANDONED} reads hang on file systems that do not answer");
            return Err(Error::new(ErrorKind::Io, "storage_hangs", Stage::Open, message)
                .hint("check the network mounts; the node recovers when they answer"));
        }
        let (jump_tx, jumps) = bounded(4);
        let (chunk_tx, chunks) = bounded(ahead.chunks);
        let (opened_tx, opened) = bounded(1);
        let (finished_tx, finished) = bounded::<()>(0);
        let reader_path = path.to_owned();
        let spawned = thread::Builder::new().name("read-ahead".into()).spawn(move || {
            let _finished = finished_tx;
            reader(&reader_path, ahead.chunk_bytes, &opened_tx, &jumps, &chunk_tx);
        });
        spawned.map_err(|e| Error::internal(Stage::Open, format!("cannot start a reader thread: {e}")))?;
        let size = wait_for_open(path, &opened, cancel, limit).inspect_err(|_| abandon(&finished))?;
        let current = Chunk { generation: 0, offset: 0, data: Ok(Vec::new()) };
        let cancel = cancel.clone();
        Ok(Self {
            jumps: Some(jump_tx),
            chunks,
            finished,
            cancel,
            size,
            position: 0,
            generation: 0,
            current,
            hangs: false,
        })
    }

    /// From now on another run's abort flag ends the waiting.
    pub fn rebind(&mut self, cancel: &Cancel) {
        self.cancel = cancel.clone();
    }

    /// Whether the disk did not answer when the run that read here was stopped.
    pub fn hangs(&self) -> bool {
        self.hangs
    }

    /// How many bytes can be read without waiting.
    pub fn bytes_at_hand(&self) -> usize {
        self.rest().len()
    }

    /// What of the current chunk lies from the position on.
    fn rest(&self) -> &[u8] {
        let data = match &self.current.data {
            Ok(data) if self.current.generation == self.generation => data,
            _ => return &[],
        };
        let start = usize::try_from(self.position.saturating_sub(self.current.offset)).unwrap_or(usize::MAX);
        data.get(start..).unwrap_or_default()
    }

    /// Size of the file when it was opened.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Where the next read begins.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Reads some bytes; 0 at the end. `Interrupted` when the run is cancelled.
    pub fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some(n) = self.take_from_current(out)? {
                // Whoever reads gets on, be it demuxing, looking at a source, or checking an output.
                self.cancel.goes_on();
                return Ok(n);
            }
            if self.position >= self.size {
                return Ok(0);
            }
            self.current = self.next_chunk()?;
        }
    }

    /// Moves to `offset`. Costs nothing when what is read already covers it.
    pub fn seek(&mut self, offset: u64) -> io::Result<u64> {
        let covered = self.current.generation == self.generation
            && self.current.data.as_ref().is_ok_and(|d| {
                offset >= self.current.offset && offset <= self.current.offset + d.len() as u64
            });
        if !covered {
            let jump = Jump { generation: self.generation + 1, offset };
            if let Some(jumps) = &self.jumps {
                select! {
                    send(jumps, jump) -> sent => sent.map_err(|_| io::Error::from(IoKind::BrokenPipe))?,
                    recv(self.cancel.closed()) -> _ => return Err(IoKind::Interrupted.into()),
                }
            }
            // Not before: whoever takes over from a run that was cancelled here would wait for a jump that
            // the reader never heard of, or read on from a place where libav does not believe to be.
            self.generation = jump.generation;
        }
        self.position = offset;
        Ok(offset)
    }

    fn take_from_current(&mut self, out: &mut [u8]) -> io::Result<Option<usize>> {
        if self.current.generation != self.generation {
            return Ok(None);
        }
        if let Err(e) = &self.current.data {
            return Err(io::Error::new(e.kind(), e.to_string()));
        }
        let rest = self.rest();
        if rest.is_empty() {
            return Ok(None);
        }
        let n = rest.len().min(out.len());
        out[..n].copy_from_slice(&rest[..n]);
        self.position += n as u64;
        Ok(Some(n))
    }

    fn next_chunk(&mut self) -> io::Result<Chunk> {
        let begin = Instant::now();
        loop {
            let chunk = select! {
                recv(self.chunks) -> chunk => chunk.map_err(|_| io::Error::from(IoKind::BrokenPipe))?,
                recv(self.cancel.closed()) -> _ => {
                    self.hangs = begin.elapsed() > PATIENCE;
                    return Err(IoKind::Interrupted.into());
                }
            };
            self.hangs = false;
            if chunk.generation == self.generation {
                // A file that shrank while we read it ends here.
                if chunk.data.as_ref().is_ok_and(Vec::is_empty) {
                    self.size = self.position;
                }
                return Ok(chunk);
            }
        }
    }
}

impl Drop for ReadAhead {
    fn drop(&mut self) {
        self.jumps.take();
        // Room for a chunk that the reader may be trying to hand over.
        while self.chunks.try_recv().is_ok() {}
        abandon(&self.finished);
    }
}

/// Lets a reader end, or counts it as hanging.
fn abandon(finished: &Receiver<()>) {
    select! {
        recv(finished) -> _ => {}
        recv(after(CLOSE_GRACE)) -> _ => watch_abandoned(finished.clone()),
    }
}

fn wait_for_open(
    path: &Path,
    opened: &Receiver<io::Result<u64>>,
    cancel: &Cancel,
    limit: Duration,
) -> Result<u64> {
    select! {
        recv(opened) -> answer => match answer {
            Ok(size) => size.map_err(|e| refuse(path, &e)),
            Err(_) => Err(Error::internal(Stage::Open, "the reader thread ended without an answer")),
        },
        recv(cancel.closed()) -> _ => Err(Error::cancelled(Stage::Open)),
        recv(after(limit)) -> _ => {
            let message = format!("{} did not open within {limit:?}", path.display());
            Err(Error::new(ErrorKind::Timeout, "open_timeout", Stage::Open, message)
                .hint("check the disk or network mount"))
        }
    }
}

fn refuse(path: &Path, err: &io::Error) -> Error {
    match err.kind() {
        IoKind::IsADirectory => {
            let message = format!("{} is a directory", path.display());
            Error::new(ErrorKind::BadSource, "is_a_directory", Stage::Open, message).hint("name a media file")
        }
        IoKind::InvalidInput => {
            let message = format!("{} is not a regular file", path.display());
            Error::new(ErrorKind::BadSource, "not_a_file", Stage::Open, message).hint("name a media file")
        }
        _ => Error::io(Stage::Open, "open", path, err),
    }
}

/// Counts a reader that hangs until it comes back. The watcher only sleeps; it is as small as a
/// thread gets, and the count caps how many there are.
fn watch_abandoned(finished: Receiver<()>) {
    ABANDONED.fetch_add(1, Ordering::Relaxed);
    let watch = move || {
        let _ = finished.recv();
        ABANDONED.fetch_sub(1, Ordering::Relaxed);
    };
    if thread::Builder::new().name("reader-watch".into()).spawn(watch).is_err() {
        tracing::warn!("cannot watch an abandoned reader: it stays counted");
    }
}

/// The reader thread: opens, then reads ahead from wherever it is sent.
fn reader(
    path: &PathBuf,
    chunk_bytes: usize,
    opened: &Sender<io::Result<u64>>,
    jumps: &Receiver<Jump>,
    chunks: &Sender<Chunk>,
) {
    let file = match open_regular(path) {
        Ok((file, size)) => {
            let _ = opened.send(Ok(size));
            file
        }
        Err(e) => {
            let _ = opened.send(Err(e));
            return;
        }
    };
    let mut at = Jump { generation: 0, offset: 0 };
    let first = chunk_bytes.min(FIRST_CHUNK_BYTES);
    let mut bytes = first;
    loop {
        while let Ok(jump) = jumps.try_recv() {
            (at, bytes) = (jump, first);
        }
        let data = read_chunk(&file, at.offset, bytes);
        bytes = (bytes * 2).min(chunk_bytes);
        let stop_here = !matches!(&data, Ok(d) if !d.is_empty());
        let chunk = Chunk { generation: at.generation, offset: at.offset, data };
        at.offset += chunk.data.as_ref().map_or(0, |d| d.len() as u64);
        select! {
            send(chunks, chunk) -> sent => if sent.is_err() { return },
            recv(jumps) -> jump => match jump {
                Ok(jump) => { (at, bytes) = (jump, first); continue }
                Err(_) => return,
            },
        }
        if stop_here {
            match jumps.recv() {
                Ok(jump) => (at, bytes) = (jump, first),
                Err(_) => return,
            }
        }
    }
}

fn open_regular(path: &PathBuf) -> io::Result<(File, u64)> {
    let facts = std::fs::metadata(path)?;
    if facts.is_dir() {
        return Err(IoKind::IsADirectory.into());
    }
    // Opening a pipe would wait for its writer, and a device is not a film.
    if !facts.is_file() {
        return Err(IoKind::InvalidInput.into());
    }
    Ok((File::open(path)?, facts.len()))
}

/// Into memory that nobody has filled with zeros before: that would cost as much as reading from the cache.
fn read_chunk(file: &File, offset: u64, bytes: usize) -> io::Result<Vec<u8>> {
    let mut data = Vec::with_capacity(bytes);
    loop {
        match rustix::io::pread(file, spare_capacity(&mut data), offset) {
            Ok(_) => return Ok(data),
            Err(Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn file_of(bytes: usize) -> (tempfile::NamedTempFile, Vec<u8>) {
        let data: Vec<u8> = (0..bytes).map(|i| (i * 31 + i / 251) as u8).collect();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &data).unwrap();
        (file, data)
    }

    fn open(path: &Path) -> Result<ReadAhead> {
        ReadAhead::open(path, &Cancel::new(), Duration::from_secs(5))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn reads_after_any_seeks_are_the_files_bytes(jumps in prop::collection::vec((0usize..1_400_000, 1usize..400_000), 1..12)) {
            let (file, data) = file_of(1_300_000);
            let mut reader = open(file.path()).unwrap();
            for (offset, len) in jumps {
                reader.seek(offset as u64).unwrap();
                let (mut got, mut buffer) = (Vec::new(), vec![0; 32_768]);
                while got.len() < len {
                    let want = buffer.len().min(len - got.len());
                    match reader.read(&mut buffer[..want]).unwrap() {
                        0 => break,
                        n => got.extend_from_slice(&buffer[..n]),
                    }
                }
                let end = (offset + len).min(data.len());
                prop_assert_eq!(&got[..], data.get(offset..end).unwrap_or(&[]));
            }
        }
    }

    #[test]
    fn a_waiting_read_wakes_on_cancel_and_refusals_are_clear() {
        let (file, _) = file_of(1000);
        let cancel = Cancel::new();
        let mut reader = ReadAhead::open(file.path(), &cancel, Duration::from_secs(5)).unwrap();
        reader.seek(500).unwrap();
        cancel.cancel();
        reader.generation += 1; // nothing will come for this generation: the read has to wait
        assert_eq!(reader.read(&mut [0; 10]).unwrap_err().kind(), IoKind::Interrupted);
        assert!(!reader.hangs(), "nobody has waited for long");
        let cancel = Cancel::new();
        reader.rebind(&cancel);
        let stop = thread::spawn(move || {
            Cancel::new().wait_timeout(2 * PATIENCE);
            cancel.cancel();
        });
        assert_eq!(reader.read(&mut [0; 10]).unwrap_err().kind(), IoKind::Interrupted);
        assert!(reader.hangs());
        stop.join().unwrap();
        assert_eq!(open(Path::new("/")).unwrap_err().code(), "is_a_directory");
        assert_eq!(open(Path::new("/dev/null")).unwrap_err().code(), "not_a_file");
        assert_eq!(open(Path::new("/no/such/file")).unwrap_err().code(), "not_found");
    }
}
