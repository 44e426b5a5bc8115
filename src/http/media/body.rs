//! A file, or a part of one, or pieces of memory, on their way to a socket.
//!
//! ```text
//!   local disk: stand-in ---------------------------------------> hyper --> connection --sendfile--> socket
//!   elsewhere:  page cache --preadv2(NOWAIT)--> buffer (pooled) --> hyper --> socket
//!               disk ------> reader thread ---> buffer --------------^
//! ```
//!
//! What enters: an open file and the bytes wanted of it. What leaves: those bytes, one buffer at a time,
//! the next one only when the one before is written: a slow reader costs one buffer at most, whatever the file's
//! size. More than one chunk of what lies on a local disk goes by the connection's `passage`, and is never copied by
//! this process (less is: the way around costs more than copying). Of the rest, what the kernel has in memory is
//! copied on the spot, which takes microseconds; what it would have to fetch is read on a thread, since a disk may
//! take long, or never answer. A file that turns out to be shorter than was promised ends the connection: the client
//! sees that something is missing.

use super::disk::{Reading, read_cached, read_on_thread};
use super::passage::{Passage, fetch};
use crate::base::pieces::Pieces;
use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use std::convert::Infallible;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

/// What is read at once of what lies in memory: few enough that it is still in the processor's cache when the
/// socket takes it, and that hundreds of slow readers do not hold much.
const CHUNK_BYTES: usize = 64 * 1024;
/// Buffers that are kept for the next reader.
const MAX_SPARE: usize = 32;
/// Buffers that nobody uses.
static SPARE: Mutex<Vec<Box<[u8]>>> = Mutex::new(Vec::new());

/// The bytes of a file from one place up to another.
pub(super) struct FileBody {
    file: Arc<File>,
    at: u64,
    end: u64,
    /// The connection's, where that sends the bytes by itself.
    passage: Option<Passage>,
    /// A read that waits for a disk.
    reading: Option<Reading>,
}

impl FileBody {
    /// The bytes from `first` up to, and without, `end`; by the passage, if there is one and they are worth it.
    pub(super) fn new(file: Arc<File>, first: u64, end: u64, passage: Option<Passage>) -> Self {
        // What is one chunk is sooner copied than passed on.
        let passage = passage.filter(|_| end.saturating_sub(first) > CHUNK_BYTES as u64);
        Self { file, at: first, end, passage, reading: None }
    }

    fn left(&self) -> u64 {
        self.end.saturating_sub(self.at)
    }

    /// The next bytes, or what stands for them, if they are in memory; else a thread is on its way to them.
    fn read(&mut self) -> Option<io::Result<Bytes>> {
        if let Some(passage) = &self.passage {
            self.reading = fetch(&self.file, self.at, self.left());
            return self.reading.is_none().then(|| Ok(passage.enter(&self.file, self.at, self.left())));
        }
        let left = usize::try_from(self.left()).unwrap_or(usize::MAX);
        let now = Buffer::fill(left.min(CHUNK_BYTES), |into| read_cached(&self.file, into, self.at));
        match now {
            Err(e) if e.kind() == ErrorKind::WouldBlock => {
                self.reading = Some(read_on_thread(&self.file, self.at, left));
                None
            }
            done => Some(done),
        }
    }
}

impl Body for FileBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = &mut *self;
        if this.left() == 0 {
            return Poll::Ready(None);
        }
        let at_once = if this.reading.is_none() { this.read() } else { None };
        let read = match (at_once, &mut this.reading) {
            (Some(read), _) => read,
            (None, Some(reading)) => {
                let read = ready!(reading.as_mut().poll(context));
                this.reading = None;
                match &this.passage {
                    Some(passage) => read.map(|_| passage.enter(&this.file, this.at, this.left())),
                    None => read,
                }
            }
            // Either there are bytes or they are on the way.
            (None, None) => Err(ErrorKind::Other.into()),
        };
        Poll::Ready(Some(read.and_then(|bytes| {
            if bytes.is_empty() {
                return Err(io::Error::new(ErrorKind::UnexpectedEof, "the file has become shorter"));
            }
            this.at = this.at.saturating_add(bytes.len() as u64);
            Ok(Frame::data(bytes))
        })))
    }

    fn is_end_stream(&self) -> bool {
        self.left() == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left())
    }
}

/// Bytes that are in memory.
pub(super) struct PiecesBody {
    rest: std::vec::IntoIter<Bytes>,
    left: u64,
}

impl PiecesBody {
    /// All of them.
    pub(super) fn new(pieces: Pieces) -> Self {
        Self { left: pieces.len() as u64, rest: pieces.into_iter() }
    }
}

impl Body for PiecesBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let piece = self.rest.next();
        self.left -= piece.as_ref().map_or(0, |piece| piece.len() as u64);
        Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

/// Bytes that were read, in a buffer that goes back to the others afterwards: to make one anew means to
/// fill it with zeros first.
struct Buffer {
    bytes: Box<[u8]>,
    len: usize,
}

impl Buffer {
    fn fill(wanted: usize, read: impl FnOnce(&mut [u8]) -> io::Result<usize>) -> io::Result<Bytes> {
        let spare = SPARE.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let bytes = spare.unwrap_or_else(|| vec![0; CHUNK_BYTES].into_boxed_slice());
        let mut this = Self { bytes, len: 0 };
        let into = this.bytes.get_mut(..wanted).unwrap_or_default();
        this.len = read(into)?;
        Ok(Bytes::from_owner(this))
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut spare = SPARE.lock().unwrap_or_else(PoisonError::into_inner);
        if spare.len() < MAX_SPARE {
            spare.push(std::mem::take(&mut self.bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn file(bytes: &[u8]) -> (tempfile::NamedTempFile, Arc<File>) {
        let named = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(named.path(), bytes).unwrap();
        let open = Arc::new(File::open(named.path()).unwrap());
        (named, open)
    }

    fn noise(len: usize) -> Vec<u8> {
        (0..len).map(|n| (n * 31 / 7) as u8).collect()
    }

    /// Every frame, to the end or to an error.
    async fn frames(mut body: FileBody) -> io::Result<Vec<Bytes>> {
        let mut all = Vec::new();
        loop {
            let hint = body.size_hint().exact();
            let next = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await;
            let Some(frame) = next else { return Ok(all) };
            let bytes = frame?.into_data().map_err(|_| io::Error::other("no data"))?;
            assert_eq!(body.size_hint().exact(), hint.map(|left| left - bytes.len() as u64));
            all.push(bytes);
        }
    }

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn exactly_the_bytes_that_were_asked_for(len in 0usize..3 * CHUNK_BYTES, a in 0.0..1.0, b in 0.0..1.0) {
            let whole = noise(len);
            let (_named, file) = file(&whole);
            let place = |part: f64| (part * len as f64) as usize;
            let (first, end) = (place(a).min(place(b)), place(a).max(place(b)));
            let got = runtime().block_on(frames(FileBody::new(file, first as u64, end as u64, None))).unwrap();
            prop_assert!(got.iter().all(|frame| !frame.is_empty() && frame.len() <= crate::http::media::disk::CHUNK_BYTES));
            prop_assert_eq!(got.concat(), &whole[first..end]);
        }
    }

    #[test]
    fn a_file_that_became_shorter_is_an_error_and_never_filled_up() {
        let (_named, file) = file(&noise(1000));
        let err = runtime().block_on(frames(FileBody::new(file, 500, 2000, None))).unwrap_err();
        assert_eq!(err.kind(), ErrorKind::UnexpectedEof);
    }

    #[test]
    fn what_a_disk_cannot_give_at_once_comes_from_a_thread() {
        // /proc knows nothing of NOWAIT.
        let file = Arc::new(File::open("/proc/self/status").unwrap());
        let got = runtime().block_on(frames(FileBody::new(file, 0, 5, None))).unwrap();
        assert_eq!(got.concat(), b"Name:");
    }
}
