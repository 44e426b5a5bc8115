//! Puts pictures that come at any times onto the constant grid. Pure.
//!
//! What enters: pictures with the slot nearest to their time, in display order. What leaves: which
//! picture stands in which slots. A picture stands until the next one; of several for one slot the
//! last wins; the first one also fills slots before it. Which picture a slot shows depends only on
//! the source's times, never on where a run began.

use std::ops::Range;

/// The state: one picture is held until its successor tells how long it stands.
#[derive(Debug)]
pub struct Retimer<T> {
    next: u64,
    held: Option<T>,
}

impl<T> Retimer<T> {
    /// Starts with slot `first`; pictures of earlier slots only matter as the one that still stands.
    pub fn new(first: u64) -> Self {
        Self { next: first, held: None }
    }

    /// The next slot to be filled.
    pub fn next_slot(&self) -> u64 {
        self.next
    }

    /// Takes a picture at `slot` (negative: before title time 0). Returns the picture before it with
    /// the slots that it fills, if any.
    pub fn push(&mut self, slot: i64, picture: T) -> Option<(T, Range<u64>)> {
        let slot = u64::try_from(slot).unwrap_or(0);
        let before = self.held.replace(picture)?;
        if slot <= self.next {
            return None;
        }
        let range = self.next..slot;
        self.next = slot;
        Some((before, range))
    }

    /// The end of the pictures: the last one fills the slots up to `end`.
    pub fn finish(&mut self, end: u64) -> Option<(T, Range<u64>)> {
        let last = self.held.take()?;
        let range = self.next..end;
        self.next = self.next.max(end);
        (!range.is_empty()).then_some((last, range))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fill(first: u64, slots: &[i64], end: u64) -> Vec<i64> {
        let mut retimer = Retimer::new(first);
        let mut out = Vec::new();
        let mut put = |shown: Option<(i64, Range<u64>)>| {
            if let Some((picture, range)) = shown {
                assert_eq!(range.start, first + out.len() as u64, "slots are filled in order, each once");
                out.extend(range.map(|_| picture));
            }
        };
        for slot in slots {
            put(retimer.push(*slot, *slot));
        }
        put(retimer.finish(end));
        out
    }

    proptest! {
        #[test]
        fn every_slot_shows_the_latest_picture_due(gaps in prop::collection::vec(0i64..5, 1..60), first in 0u64..20, tail in 1u64..10) {
            let slots: Vec<i64> = gaps.iter().scan(-3, |at, g| { *at += g; Some(*at) }).collect();
            let end = slots.last().copied().unwrap().max(first as i64) as u64 + tail;
            let got = fill(first, &slots, end);
            prop_assert_eq!(got.len() as u64, end - first);
            for (i, picture) in got.iter().enumerate() {
                let slot = first as i64 + i as i64;
                let due = slots.iter().copied().filter(|s| *s <= slot).max();
                prop_assert_eq!(*picture, due.unwrap_or(slots[0]));
            }
        }

        #[test]
        fn a_run_from_the_middle_shows_the_same(gaps in prop::collection::vec(0i64..4, 20..60), first in 3u64..15) {
            let slots: Vec<i64> = gaps.iter().scan(0, |at, g| { *at += g; Some(*at) }).collect();
            prop_assume!(*slots.last().unwrap() > 20);
            let end = *slots.last().unwrap() as u64 + 3;
            let whole = fill(0, &slots, end);
            // As after a seek: from the last picture due at `first`.
            let from = slots.iter().rposition(|s| *s <= first as i64);
            if let Some(from) = from {
                prop_assert_eq!(&fill(first, &slots[from..], end)[..], &whole[first as usize..]);
            }
        }
    }

    #[test]
    fn thirty_on_a_grid_of_twenty_four_drops_and_twelve_repeats() {
        assert_eq!(fill(0, &[0, 1, 2, 2, 3], 5), [0, 1, 2, 3, 3]);
        assert_eq!(fill(0, &[0, 2, 4], 6), [0, 0, 2, 2, 4, 4]);
        assert_eq!(fill(0, &[3, 4], 5), [3, 3, 3, 3, 4]);
    }
}
