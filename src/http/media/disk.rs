//! Bytes of files: at once where the kernel has them in memory, else on a thread.
//!
//! What enters: an open file, a place in it. What leaves: the bytes there, or that the disk does not answer.
//! What must not live here: what becomes of the bytes.

use bytes::Bytes;
use rustix::buffer::spare_capacity;
use rustix::io::{Errno, ReadWriteFlags, pread, preadv2};
use std::fs::File;
use std::io::{self, ErrorKind, IoSliceMut};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

/// What a thread reads at once.
pub(super) const CHUNK_BYTES: usize = 256 * 1024;
/// How long a disk may take for one read.
const READ_TIME: Duration = Duration::from_secs(20);
/// Threads that may wait for disks at once. Each hangs with a disk that does not answer, and others need
/// theirs.
static READERS: Semaphore = Semaphore::const_new(24);

/// A read that waits for a disk.
pub(super) type Reading = Pin<Box<dyn Future<Output = io::Result<Bytes>> + Send>>;

/// Reads what the kernel has in memory; `WouldBlock` where that is nothing, or cannot be known.
pub(super) fn read_cached(file: &File, into: &mut [u8], at: u64) -> io::Result<usize> {
    match preadv2(file, &mut [IoSliceMut::new(into)], at, ReadWriteFlags::NOWAIT) {
        // Network file systems, and FUSE, cannot tell.
        Err(Errno::AGAIN | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL | Errno::INTR) => {
            Err(ErrorKind::WouldBlock.into())
        }
        read => read.map_err(Into::into),
    }
}

/// Whether its file system can tell what is in memory: those of local disks can.
pub(in crate::http) fn can_tell(file: &File) -> bool {
    let read = preadv2(file, &mut [IoSliceMut::new(&mut [0])], 0, ReadWriteFlags::NOWAIT);
    matches!(read, Ok(_) | Err(Errno::AGAIN))
}

/// At most [`CHUNK_BYTES`] of the `left` bytes from a place on, read by a thread.
pub(super) fn read_on_thread(file: &Arc<File>, at: u64, left: usize) -> Reading {
    let file = file.clone();
    Box::pin(on_thread(move || read_disk(&file, left.min(CHUNK_BYTES), at)))
}

fn read_disk(file: &File, wanted: usize, at: u64) -> io::Result<Bytes> {
    let mut data = Vec::with_capacity(wanted);
    loop {
        match pread(file, spare_capacity(&mut data), at) {
            Err(Errno::INTR) => {}
            Err(e) => return Err(e.into()),
            Ok(_) => return Ok(data.into()),
        }
    }
}

/// Does it on a thread that may be left behind.
async fn on_thread<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let silent = |_| io::Error::new(ErrorKind::TimedOut, "the disk does not answer");
    let done = async {
        let permit = READERS.acquire().await.map_err(io::Error::other)?;
        // The permit goes with the thread: one that hangs keeps it.
        let thread = spawn_blocking(move || {
            let done = work();
            drop(permit);
            done
        });
        thread.await.map_err(io::Error::other)?
    };
    timeout(READ_TIME, done).await.map_err(silent)?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_file_systems_cannot_tell() {
        // /proc knows nothing of NOWAIT.
        let file = File::open("/proc/self/status").unwrap();
        assert!(!can_tell(&file));
        assert_eq!(read_cached(&file, &mut [0; 4], 0).unwrap_err().kind(), ErrorKind::WouldBlock);
    }

    #[tokio::test(start_paused = true)]
    async fn a_disk_that_does_not_answer_ends_the_answer() {
        let (tell, told) = std::sync::mpsc::channel::<()>();
        let hangs = move || told.recv().map_err(io::Error::other);
        let waiting = tokio::spawn(on_thread(hangs));
        tokio::task::yield_now().await;
        // A thread at work keeps the paused clock from going by itself.
        tokio::time::advance(READ_TIME * 2).await;
        let err = waiting.await.unwrap().unwrap_err();
        assert_eq!(err.kind(), ErrorKind::TimedOut);
        drop(tell);
    }
}
