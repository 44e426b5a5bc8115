//! A segment while it is being made, for those who take it as it grows.
//!
//! What enters: its bytes, piece by piece, and then its end. What leaves: the same bytes, to any number of
//! readers, each from the beginning and at its own pace, none of them copied.
//! Once the segment is whole the readers go on with the copy that the cache holds. Nothing here waits for a
//! reader.

use crate::base::pieces::Pieces;
use bytes::Bytes;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// The segment.
#[derive(Debug)]
pub struct Feed {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug)]
enum State {
    /// What has come of it.
    Growing(Pieces),
    /// All of it.
    Whole(Pieces),
    /// It will not be made: by this run, at least.
    BrokenOff,
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
    bytes_read: usize,
}

impl Feed {
    /// A segment of which nothing is there yet.
    pub fn new() -> Arc<Self> {
        Arc::new(Self { state: Mutex::new(State::Growing(Pieces::default())), changed: Notify::new() })
    }

    /// Adds bytes. Nothing if the segment has ended.
    pub fn push(&self, piece: Bytes) {
        if let State::Growing(pieces) = &mut *self.lock() {
            pieces.push(piece);
        }
        self.changed.notify_waiters();
    }

    /// The segment is whole; `all` are its bytes from the beginning.
    pub fn finish(&self, all: Pieces) {
        // Who has not read them yet reads on in the whole.
        *self.lock() = State::Whole(all);
        self.changed.notify_waiters();
    }

    /// The segment will not be made. Nothing if it is whole.
    pub fn break_off(&self) {
        let mut state = self.lock();
        if matches!(*state, State::Growing(_)) {
            *state = State::BrokenOff;
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// A reader at the beginning.
    pub fn reader(self: &Arc<Self>) -> Reader {
        Reader { feed: self.clone(), bytes_read: 0 }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reader {
    /// The next bytes, as soon as there are some.
    pub async fn next(&mut self) -> Next {
        let feed = self.feed.clone();
        loop {
            let mut changed = std::pin::pin!(feed.changed.notified());
            // Before the look, so that no change falls between the two.
            changed.as_mut().enable();
            if let Some(next) = self.look() {
                return next;
            }
            changed.await;
        }
    }

    fn look(&mut self) -> Option<Next> {
        let state = self.feed.lock();
        let piece = match &*state {
            State::BrokenOff => return Some(Next::BrokenOff),
            State::Growing(pieces) => pieces.piece_at(self.bytes_read)?,
            State::Whole(all) => match all.piece_at(self.bytes_read) {
                Some(piece) => piece,
                None => return Some(Next::End),
            },
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
        feed.push(Bytes::from_static(b"ab"));
        tokio::task::yield_now().await;
        feed.push(Bytes::from_static(b"cd"));
        let late = tokio::spawn(all(feed.reader()));
        tokio::task::yield_now().await;
        feed.finish(Bytes::from_static(b"abcdef").into());
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
        whole.finish(Bytes::from_static(b"x").into());
        whole.break_off();
        assert_eq!(all(whole.reader()).await, Ok(b"x".to_vec()), "what is whole stays whole");
    }

    proptest! {
        #[test]
        fn wherever_a_reader_stands_at_the_end_it_has_read_the_whole(
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..9), 0..8),
            read_before in 0usize..10,
            rest in prop::collection::vec(any::<u8>(), 0..9),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                let feed = Feed::new();
                let mut whole = pieces.concat();
                pieces.iter().for_each(|piece| feed.push(piece.clone().into()));
                let (mut reader, mut got) = (feed.reader(), Vec::new());
                while got.len() < read_before.min(whole.len()) {
                    let Next::Piece(piece) = reader.next().await else { panic!("a piece is there") };
                    got.extend_from_slice(&piece);
                }
                whole.extend_from_slice(&rest);
                feed.finish(whole.clone().into());
                got.extend(all(reader).await.unwrap());
                assert_eq!(got, whole);
            });
        }
    }
}
