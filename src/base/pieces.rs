//! Bytes that lie in several pieces of memory and count as one.
//!
//! What enters: pieces, one behind the other. What leaves: the same bytes, whole or a part of them, shared
//! and not copied. So a segment can be sent while it is being made, kept, written and served out of the
//! memory that it was made in.

use bytes::{Bytes, BytesMut};
use std::ops::Range;

/// Pieces that are smaller are put together by [`Pieces::gathered`].
const SMALL_BYTES: usize = 32 * 1024;
/// And get so large by that.
const GATHERED_BYTES: usize = 256 * 1024;

/// The bytes. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Pieces {
    /// None of them is empty.
    pieces: Vec<Bytes>,
    len: usize,
}

impl Pieces {
    /// How many bytes there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Puts a piece at the end.
    pub fn push(&mut self, piece: Bytes) {
        if !piece.is_empty() {
            self.len += piece.len();
            self.pieces.push(piece);
        }
    }

    /// Puts more of them at the end.
    pub fn extend(&mut self, more: Self) {
        more.into_iter().for_each(|piece| self.push(piece));
    }

    /// The pieces, in their order; none is empty.
    pub fn iter(&self) -> std::slice::Iter<'_, Bytes> {
        self.pieces.iter()
    }

    /// What lies from byte `at` on, as far as it lies in one piece; `None` at the end.
    pub fn piece_at(&self, at: usize) -> Option<Bytes> {
        let mut before = 0;
        let piece = self.pieces.iter().find(|piece| {
            before += piece.len();
            before > at
        })?;
        Some(piece.slice(piece.len() - (before - at)..))
    }

    /// The bytes of a range, as far as they are there.
    #[must_use]
    pub fn slice(&self, range: Range<usize>) -> Self {
        let (mut part, mut before) = (Self::default(), 0);
        for piece in &self.pieces {
            let within = |at: usize| at.saturating_sub(before).min(piece.len());
            let (first, end) = (within(range.start), within(range.end));
            part.push(piece.slice(first..end.max(first)));
            before += piece.len();
        }
        part
    }

    /// The same bytes with each piece as `change` gives it back: longer-lived, counted, whatever is to go with
    /// them, but of the same length.
    #[must_use]
    pub fn map(&self, change: impl FnMut(&Bytes) -> Bytes) -> Self {
        Self { pieces: self.pieces.iter().map(change).collect(), len: self.len }
    }

    /// The same bytes with few pieces: small ones that lie side by side are copied into one. Large ones stay
    /// where they are.
    #[must_use]
    pub fn gathered(self) -> Self {
        let (mut all, mut small) = (Self::default(), Vec::new());
        for piece in self.pieces {
            if piece.len() >= SMALL_BYTES || bytes_in(&small) + piece.len() > GATHERED_BYTES {
                all.push(joined(&mut small));
            }
            if piece.len() >= SMALL_BYTES { all.push(piece) } else { small.push(piece) }
        }
        all.push(joined(&mut small));
        all
    }

    /// All bytes in one piece of memory, copied unless they are already.
    pub fn joined(self) -> Bytes {
        let mut pieces = self.pieces;
        joined(&mut pieces)
    }
}

fn bytes_in(pieces: &[Bytes]) -> usize {
    pieces.iter().map(Bytes::len).sum()
}

/// Takes the pieces and makes one of them.
fn joined(pieces: &mut Vec<Bytes>) -> Bytes {
    if pieces.len() > 1 {
        let mut together = BytesMut::with_capacity(bytes_in(pieces));
        pieces.drain(..).for_each(|piece| together.extend_from_slice(&piece));
        return together.freeze();
    }
    pieces.pop().unwrap_or_default()
}

impl From<Bytes> for Pieces {
    fn from(bytes: Bytes) -> Self {
        let mut this = Self::default();
        this.push(bytes);
        this
    }
}

impl From<Vec<u8>> for Pieces {
    /// What the vector holds in reserve is given back: it would be memory that nobody counts.
    fn from(mut bytes: Vec<u8>) -> Self {
        bytes.shrink_to_fit();
        Bytes::from(bytes).into()
    }
}

impl IntoIterator for Pieces {
    type Item = Bytes;
    type IntoIter = std::vec::IntoIter<Bytes>;

    fn into_iter(self) -> Self::IntoIter {
        self.pieces.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(sizes: &[usize]) -> (Pieces, Vec<u8>) {
        let (mut pieces, mut plain) = (Pieces::default(), Vec::new());
        for &size in sizes {
            let piece: Vec<u8> = (plain.len()..plain.len() + size).map(|n| (n * 31 / 7) as u8).collect();
            plain.extend_from_slice(&piece);
            pieces.push(piece.into());
        }
        (pieces, plain)
    }

    proptest! {
        #[test]
        fn they_are_the_bytes_that_they_are_made_of(
            sizes in prop::collection::vec(prop_oneof![0usize..5, SMALL_BYTES - 2..SMALL_BYTES + 2], 0..24),
            a in 0.0..1.2,
            b in 0.0..1.2,
        ) {
            let (pieces, plain) = of(&sizes);
            let place = |part: f64| (part * plain.len() as f64) as usize;
            let (first, end) = (place(a).min(place(b)), place(a).max(place(b)));
            let within = |at: usize| at.min(plain.len());
            prop_assert_eq!(pieces.len(), plain.len());
            prop_assert_eq!(pieces.slice(first..end).joined(), &plain[within(first)..within(end)]);
            match pieces.piece_at(first) {
                Some(piece) => prop_assert!(!piece.is_empty() && plain[first..].starts_with(&piece)),
                None => prop_assert!(first >= plain.len()),
            }
            let gathered = pieces.clone().gathered();
            prop_assert!(gathered.iter().all(|piece| !piece.is_empty() && piece.len() <= GATHERED_BYTES));
            let lone = |two: &[Bytes]| two.iter().all(|piece| piece.len() < SMALL_BYTES);
            prop_assert!(!gathered.pieces.windows(2).any(lone), "small ones side by side");
            prop_assert_eq!(gathered.joined(), &plain[..]);
            prop_assert_eq!(pieces.joined(), plain);
        }
    }

    #[test]
    fn large_pieces_are_not_copied() {
        let (pieces, _) = of(&[SMALL_BYTES, 3, 4, GATHERED_BYTES + 1]);
        let places: Vec<_> = pieces.iter().map(|piece| piece.as_ptr()).collect();
        let gathered = pieces.gathered();
        assert_eq!(gathered.iter().map(Bytes::len).collect::<Vec<_>>(), [SMALL_BYTES, 7, GATHERED_BYTES + 1]);
        assert_eq!((gathered.pieces[0].as_ptr(), gathered.pieces[2].as_ptr()), (places[0], places[3]));
    }

    #[test]
    fn what_a_vector_holds_in_reserve_is_not_kept() {
        let mut data = Vec::with_capacity(1 << 20);
        data.push(1);
        let bytes = Pieces::from(data).joined();
        assert!(bytes.try_into_mut().unwrap().capacity() < 1024);
    }
}
