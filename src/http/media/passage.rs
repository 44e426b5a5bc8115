//! From a file to the socket, past this process: `sendfile` under hyper.
//!
//! ```text
//!   body --stand-in (len bytes of nothing)--> hyper --stand-in--> Direct --sendfile--> socket
//!     \--file, place, len--> Passage ------------------------------^
//! ```
//!
//! hyper takes an answer's bytes out of memory only. So the body of a file hands it stand-ins: slices of one
//! static array that are as long as what they stand for, which hyper counts and passes on without looking at
//! them. The connection knows them by their address, takes the parts of files out of the passage in the same
//! order, and has the kernel send those. It never writes a stand-in itself.
//!
//! What enters: parts of open files on local disks (`disk::can_tell`). What leaves: their bytes. Whether the kernel
//! has a part in memory is asked before, at its end and every 16 KiB; what it has not is fetched on a thread first.
//! What was pushed out of memory between those places makes the kernel read a local disk while a thread of the runtime
//! waits: to ask for every page would cost as much as to copy it.

use super::super::socket::Fetches;
use super::disk::{CHUNK_BYTES, Reading, read_cached, read_on_thread};
use bytes::Bytes;
use rustix::fs::sendfile;
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{SendAncillaryBuffer, SendFlags, sendmsg};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

/// Nothing, as long as a part may be. It lies in the program's file, and since nobody reads it never in memory.
static STAND_IN: [u8; CHUNK_BYTES] = [0; CHUNK_BYTES];
/// How far apart it is asked whether a part is in memory.
const PROBE_BYTES: usize = 16 * 1024;
/// What is copied at once where the kernel cannot send.
const COPY_BYTES: usize = 64 * 1024;

/// A part of a file on its way through hyper.
#[derive(Debug)]
struct Part {
    file: Arc<File>,
    at: u64,
    left: usize,
    /// It was in memory a moment ago.
    fresh: bool,
}

/// The parts of files that a connection has still to send.
#[derive(Clone, Debug, Default)]
pub(in crate::http) struct Passage(Arc<Mutex<VecDeque<Part>>>);

impl Passage {
    /// The next part of an answer, of at most `left` bytes, which is in memory; and what hyper gets in its place.
    pub(super) fn enter(&self, file: &Arc<File>, at: u64, left: u64) -> Bytes {
        let left = part_of(left);
        self.parts().push_back(Part { file: file.clone(), at, left, fresh: true });
        Bytes::from_static(STAND_IN.get(..left).unwrap_or_default())
    }

    /// What comes next.
    fn front(&self) -> io::Result<Part> {
        let mut parts = self.parts();
        let part = parts.front_mut().ok_or_else(|| io::Error::other("a stand-in stands for nothing"))?;
        let fresh = std::mem::take(&mut part.fresh);
        Ok(Part { file: part.file.clone(), at: part.at, left: part.left, fresh })
    }

    /// So many bytes of it were sent.
    fn advance(&self, sent: usize) {
        let mut parts = self.parts();
        let Some(part) = parts.front_mut() else { return };
        part.at = part.at.saturating_add(sent as u64);
        part.left = part.left.saturating_sub(sent);
        if part.left == 0 {
            parts.pop_front();
        }
    }

    fn parts(&self) -> MutexGuard<'_, VecDeque<Part>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What of so many bytes one part has.
fn part_of(left: u64) -> usize {
    usize::try_from(left).unwrap_or(usize::MAX).min(CHUNK_BYTES)
}

/// The read that brings the next part into memory, where it is not.
pub(super) fn fetch(file: &Arc<File>, at: u64, left: u64) -> Option<Reading> {
    let left = part_of(left);
    (!in_memory(file, at, left)).then(|| read_on_thread(file, at, left))
}

fn stands_in(bytes: &[u8]) -> bool {
    !bytes.is_empty() && STAND_IN.as_ptr_range().contains(&bytes.as_ptr())
}

/// A connection that sends parts of files by itself.
pub(in crate::http) struct Direct {
    stream: TcpStream,
    passage: Passage,
    /// A part that is being fetched from the disk.
    fetching: Option<Reading>,
}

impl Direct {
    /// `passage` is what the answers on this connection put their parts into.
    pub(in crate::http) fn new(stream: TcpStream, passage: Passage) -> Self {
        Self { stream, passage, fetching: None }
    }

    /// Sends of the next part what the socket takes, and at most `most`.
    fn poll_part(&mut self, cx: &mut Context<'_>, most: usize) -> Poll<io::Result<usize>> {
        let Part { file, at, left, fresh } = self.passage.front()?;
        let left = left.min(most);
        let mut fetched = fresh;
        loop {
            if let Some(fetching) = &mut self.fetching {
                let done = ready!(fetching.as_mut().poll(cx));
                self.fetching = None;
                done?;
                fetched = true;
            }
            ready!(self.stream.poll_write_ready(cx))?;
            if !fetched && !in_memory(&file, at, left) {
                self.fetching = Some(read_on_thread(&file, at, left));
                continue;
            }
            match self.stream.try_io(Interest::WRITABLE, || send(&self.stream, &file, at, left)) {
                // It took less than it had promised; it is asked for more when it has room.
                Err(e) if e.kind() == ErrorKind::WouldBlock => {}
                Ok(0) => return Poll::Ready(Err(ended())),
                Ok(sent) => {
                    self.passage.advance(sent);
                    return Poll::Ready(Ok(sent));
                }
                Err(e) => return Poll::Ready(Err(e)),
            }
        }
    }

    /// Writes what comes before a part, and tells the socket that more follows at once.
    fn poll_before_part(&self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.stream.poll_write_ready(cx))?;
            let write = || {
                let flags = SendFlags::MORE | SendFlags::NOSIGNAL;
                let send = || sendmsg(&self.stream, slices, &mut SendAncillaryBuffer::default(), flags);
                retry_on_intr(send).map_err(Into::into)
            };
            match self.stream.try_io(Interest::WRITABLE, write) {
                Err(e) if e.kind() == ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
        }
    }
}

fn ended() -> io::Error {
    io::Error::new(ErrorKind::UnexpectedEof, "the file has become shorter")
}

/// Whether all of it is in memory, as far as samples tell.
fn in_memory(file: &File, at: u64, len: usize) -> bool {
    let last = len.saturating_sub(1);
    let mut probes = (0..last).step_by(PROBE_BYTES).chain([last]);
    probes.all(|place| !is_far(file, at.saturating_add(place as u64)))
}

fn is_far(file: &File, at: u64) -> bool {
    read_cached(file, &mut [0], at).is_err_and(|e| e.kind() == ErrorKind::WouldBlock)
}

fn send(stream: &TcpStream, file: &File, at: u64, len: usize) -> io::Result<usize> {
    match retry_on_intr(|| sendfile(stream, file, Some(&mut { at }), len)) {
        // A file system that cannot.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => copy(stream, file, at, len),
        sent => sent.map_err(Into::into),
    }
}

fn copy(stream: &TcpStream, file: &File, at: u64, len: usize) -> io::Result<usize> {
    let mut bytes = vec![0; len.min(COPY_BYTES)];
    let read = rustix::io::pread(file, &mut bytes[..], at)?;
    match bytes.get(..read) {
        None | Some([]) => Ok(0),
        Some(bytes) => rustix::net::send(stream, bytes, SendFlags::NOSIGNAL).map_err(Into::into),
    }
}

impl Fetches for Direct {
    fn is_fetching(&self) -> bool {
        self.fetching.is_some()
    }
}

impl AsyncRead for Direct {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Direct {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        match slices.iter().position(|slice| stands_in(slice)) {
            None => Pin::new(&mut this.stream).poll_write_vectored(cx, slices),
            Some(place) => match (slices.get(..place), slices.get(place)) {
                (Some(before), _) if before.iter().any(|slice| !slice.is_empty()) => {
                    this.poll_before_part(cx, before)
                }
                (_, part) => this.poll_part(cx, part.map_or(0, |part| part.len())),
            },
        }
    }

    /// Or hyper would copy what stands for a file.
    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
