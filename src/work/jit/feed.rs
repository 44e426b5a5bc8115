//! A segment while it is being made, for those who take it as it grows.
//!
//! What enters: its bytes, piece by piece, and then its end. What leaves: the same bytes, to any number of
//! readers, each from the beginning and at its own pace: whatever has come since it last looked, together.
//! Once the segment is whole the readers go on with the copy that the cache holds. Nothing here waits for a
//! reader.

use bytes::{Bytes, BytesMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

/// More at once a slow reader would hold for itself.
const MOST_BYTES: usize = 256 * 1024;
/// Less than that is given out together with what follows it, where that is there already.
const FEW_BYTES: usize = 32 * 1024;
/// A reader who has just got a piece and waits for the next is woken so much later: a copied segment comes in
/// hundreds of pieces within some ten milliseconds, and to wake somebody for each costs more than the copying.
const PAUSE: Duration = Duration::from_millis(2);

/// The segment.
#[derive(Debug)]
pub struct Feed {
    state: Mutex<State>,
    changed: Notify,
    ended: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// What readers have been given.
    pieces: Vec<Bytes>,
    /// What has come since.
    fresh: BytesMut,
    end: Option<End>,
}

#[derive(Clone, Debug)]
enum End {
    Whole(Bytes),
    /// It will not be made: by this run, at least.
    BrokenOff,
}

impl State {
    /// Lays bytes in, never more than [`MOST_BYTES`] in one piece.
    fn add(&mut self, bytes: &[u8]) {
        for part in bytes.chunks(MOST_BYTES) {
            if self.fresh.capacity() - self.fresh.len() < part.len() {
                self.cut();
                self.fresh = BytesMut::with_capacity(MOST_BYTES);
            }
            self.fresh.extend_from_slice(part);
        }
    }

    /// What has come is a piece; what comes goes into the same memory behind it.
    fn cut(&mut self) {
        if !self.fresh.is_empty() {
            self.pieces.push(self.fresh.split().freeze());
        }
    }

    /// What comes from this piece on: the piece itself, or, where it is small, with those behind it. Says how
    /// many pieces that is.
    fn piece_at(&mut self, first: usize) -> Option<(Bytes, usize)> {
        if first >= self.pieces.len() {
            self.cut();
        }
        let rest = self.pieces.get(first..)?;
        let piece = rest.first()?;
        if piece.len() >= FEW_BYTES || rest.len() == 1 {
            return Some((piece.clone(), 1));
        }
        let mut together = BytesMut::with_capacity(MOST_BYTES);
        let mut count = 0;
        for piece in rest {
            if together.len() + piece.len() > MOST_BYTES {
                break;
            }
            together.extend_from_slice(piece);
            count += 1;
        }
        Some((together.freeze(), count))
    }
}

/// What a reader gets next.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// More bytes.
    Piece(Bytes),
    /// There are no more: the segment is whole.
    End,
    /// The run that made it has ended without it.
    BrokenOff,
}

/// One reader's place.
#[derive(Debug)]
pub struct Reader {
    feed: Arc<Feed>,
    pieces_read: usize,
    bytes_read: usize,
    /// When it got its last piece.
    since: Option<Instant>,
}

impl Feed {
    /// A segment of which nothing is there yet.
    pub fn new() -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), changed: Notify::new(), ended: Notify::new() })
    }

    /// Adds bytes.
    pub fn push(&self, piece: &[u8]) {
        self.lock().add(piece);
        self.changed.notify_waiters();
    }

    /// The segment is whole; `all` are its bytes from the beginning.
    pub fn finish(&self, all: Bytes) {
        self.end(End::Whole(all));
    }

    /// The segment will not be made. Nothing if it is whole.
    pub fn break_off(&self) {
        if self.lock().end.is_none() {
            self.end(End::BrokenOff);
        }
    }

    /// A reader at the beginning.
    pub fn reader(self: &Arc<Self>) -> Reader {
        Reader { feed: self.clone(), pieces_read: 0, bytes_read: 0, since: None }
    }

    fn end(&self, end: End) {
        let mut state = self.lock();
        state.end = Some(end);
        // Who has not read them yet reads on in the whole.
        (state.pieces, state.fresh) = (Vec::new(), BytesMut::new());
        drop(state);
        self.changed.notify_waiters();
        self.ended.notify_waiters();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reader {
    /// The next bytes, as soon as there are some (or two milliseconds after the last ones).
    pub async fn next(&mut self) -> Next {
        let feed = self.feed.clone();
        loop {
            let mut changed = std::pin::pin!(feed.changed.notified());
            // Before the look, so that no change falls between the two.
            changed.as_mut().enable();
            if let Some(next) = self.look() {
                self.since = Some(Instant::now());
                return next;
            }
            changed.await;
            self.pause().await;
        }
    }

    /// Until [`PAUSE`] has gone by since the last piece, or nothing more will come.
    async fn pause(&self) {
        let mut ended = std::pin::pin!(self.feed.ended.notified());
        ended.as_mut().enable();
        let Some(since) = self.since.filter(|_| self.feed.lock().end.is_none()) else { return };
        // Either will do.
        let _ = timeout_at(since + PAUSE, ended).await;
    }

    fn look(&mut self) -> Option<Next> {
        let mut state = self.feed.lock();
        let piece = match &state.end {
            Some(End::BrokenOff) => return Some(Next::BrokenOff),
            Some(End::Whole(all)) if self.bytes_read >= all.len() => return Some(Next::End),
            Some(End::Whole(all)) => all.slice(self.bytes_read..),
            None => {
                let (piece, count) = state.piece_at(self.pieces_read)?;
                self.pieces_read += count;
                piece
            }
        };
        drop(state);
        self.bytes_read += piece.len();
        Some(Next::Piece(piece))
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.break_off();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    async fn all(mut reader: Reader) -> Result<Vec<u8>, Vec<u8>> {
        let mut got = Vec::new();
        loop {
            match reader.next().await {
                Next::Piece(piece) => got.extend_from_slice(&piece),
                Next::End => return Ok(got),
                Next::BrokenOff => return Err(got),
            }
        }
    }

    #[tokio::test]
    async fn readers_who_wait_get_each_piece_and_the_end() {
        let feed = Feed::new();
        let early = tokio::spawn(all(feed.reader()));
        tokio::task::yield_now().await;
        feed.push(b"ab");
        tokio::task::yield_now().await;
        feed.push(b"cd");
        let late = tokio::spawn(all(feed.reader()));
        tokio::task::yield_now().await;
        feed.finish(Bytes::from_static(b"abcdef"));
        assert_eq!(early.await.unwrap(), Ok(b"abcdef".to_vec()));
        assert_eq!(late.await.unwrap(), Ok(b"abcdef".to_vec()));
        assert_eq!(all(feed.reader()).await, Ok(b"abcdef".to_vec()), "after the end");
    }

    #[tokio::test]
    async fn a_segment_that_is_not_made_is_told_at_once() {
        let feed = Feed::new();
        let waiting = tokio::spawn(all(feed.reader()));
        tokio::task::yield_now().await;
        feed.break_off();
        assert_eq!(waiting.await.unwrap(), Err(Vec::new()));
        let whole = Feed::new();
        whole.finish(Bytes::from_static(b"x"));
        whole.break_off();
        assert_eq!(all(whole.reader()).await, Ok(b"x".to_vec()), "what is whole stays whole");
    }

    #[tokio::test]
    async fn what_has_come_meanwhile_comes_together_but_never_too_much() {
        let feed = Feed::new();
        let mut reader = feed.reader();
        feed.push(b"a");
        assert_eq!(reader.next().await, Next::Piece(Bytes::from_static(b"a")));
        feed.push(b"b");
        feed.push(b"c");
        assert_eq!(reader.next().await, Next::Piece(Bytes::from_static(b"bc")));
        feed.push(&vec![8; 3 * MOST_BYTES]);
        let Next::Piece(piece) = reader.next().await else { panic!("there is more") };
        assert_eq!(piece.len(), MOST_BYTES, "no reader holds it all");
    }

    #[tokio::test]
    async fn a_late_reader_gets_small_pieces_together_and_large_ones_as_they_are() {
        let feed = Feed::new();
        let mut early = feed.reader();
        for size in [1, 2, FEW_BYTES, 3] {
            feed.push(&vec![7; size]);
            assert!(matches!(early.next().await, Next::Piece(piece) if piece.len() == size));
        }
        let mut late = feed.reader();
        assert!(matches!(late.next().await, Next::Piece(piece) if piece.len() == FEW_BYTES + 6));
        feed.push(&vec![8; MOST_BYTES]);
        assert!(matches!(late.next().await, Next::Piece(piece) if piece.len() == MOST_BYTES));
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_behind_a_piece_is_woken_a_little_later_and_by_the_end_at_once() {
        let feed = Feed::new();
        let mut reader = feed.reader();
        feed.push(b"a");
        assert_eq!(reader.next().await, Next::Piece(Bytes::from_static(b"a")));
        let (pushes, begin) = (feed.clone(), Instant::now());
        tokio::spawn(async move {
            pushes.push(b"b");
            tokio::task::yield_now().await;
            pushes.push(b"c");
        });
        assert_eq!(reader.next().await, Next::Piece(Bytes::from_static(b"bc")), "woken once for both");
        assert!(begin.elapsed() >= PAUSE && begin.elapsed() < 2 * PAUSE);
        let (ends, begin) = (feed.clone(), Instant::now());
        tokio::spawn(async move {
            ends.push(b"d");
            tokio::task::yield_now().await;
            ends.finish(Bytes::from_static(b"abcd"));
        });
        assert_eq!(reader.next().await, Next::Piece(Bytes::from_static(b"d")));
        assert_eq!(reader.next().await, Next::End);
        assert_eq!(begin.elapsed(), Duration::ZERO);
    }

    proptest! {
        #[test]
        fn wherever_a_reader_stands_at_the_end_it_has_read_the_whole(
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..9), 0..8),
            read_before in 0usize..10,
            rest in prop::collection::vec(any::<u8>(), 0..9),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            runtime.block_on(async {
                let feed = Feed::new();
                let mut whole = pieces.concat();
                pieces.iter().for_each(|piece| feed.push(piece));
                let (mut reader, mut got) = (feed.reader(), Vec::new());
                while got.len() < read_before.min(whole.len()) {
                    let Next::Piece(piece) = reader.next().await else { panic!("a piece is there") };
                    got.extend_from_slice(&piece);
                }
                whole.extend_from_slice(&rest);
                feed.finish(Bytes::from(whole.clone()));
                got.extend(all(reader).await.unwrap());
                assert_eq!(got, whole);
            });
        }
    }
}
