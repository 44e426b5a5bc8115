//! The counter that never repeats, through restarts and crashes.
//!
//! What enters: nothing but the wish for a number. What leaves: numbers that only grow. The database
//! says below which number all may have been given out; a process takes the numbers of a block that
//! it has reserved there before, so that most numbers cost no write. A crash loses the rest of a
//! block, which is no harm: there are gaps, and no repeats.

use super::fault::Fault;
use super::meta;
use crate::base::error::Result;
use rusqlite::Connection;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Numbers reserved at once. With ten a second that is one write in some twenty minutes, and readers
/// that know integers up to 2^53 only are content for half a billion restarts.
pub(super) const BLOCK: u64 = 16 * 1024;

const RESERVED: &str = "journal.sequence";

/// The counter, shared by all handles and the thread.
pub(super) struct Sequence {
    /// The next number to give.
    next: AtomicU64,
    /// The first number that is not reserved on the disk.
    ceiling: AtomicU64,
    /// Whether a new block is on its way.
    asked: AtomicBool,
}

impl Sequence {
    /// The counter as the database has it. Nothing is reserved yet.
    pub(super) fn stored(db: &Connection) -> Result<Self, Fault> {
        let events: Option<i64> = db.query_row("SELECT max(sequence) FROM outbox", [], |row| row.get(0))?;
        let events = events.and_then(|last| u64::try_from(last).ok()).unwrap_or(0);
        let first = reserved(db)?.max(events.saturating_add(1));
        Ok(Self {
            next: AtomicU64::new(first),
            ceiling: AtomicU64::new(first),
            asked: AtomicBool::new(false),
        })
    }

    /// The next number, unless the block is used up.
    pub(super) fn take(&self) -> Option<u64> {
        let ceiling = self.ceiling.load(Ordering::SeqCst);
        let next = |next: u64| (next < ceiling).then_some(next + 1);
        self.next.fetch_update(Ordering::SeqCst, Ordering::SeqCst, next).ok()
    }

    /// Whether it is time to ask for the next block, and nobody has yet: true once.
    pub(super) fn runs_low(&self) -> bool {
        let left = self.ceiling.load(Ordering::SeqCst).saturating_sub(self.next.load(Ordering::SeqCst));
        left < BLOCK / 2 && !self.asked.swap(true, Ordering::SeqCst)
    }

    /// The block that somebody asked for is there, or could not be had.
    pub(super) fn answered(&self, ceiling: Option<u64>) {
        if let Some(ceiling) = ceiling {
            self.ceiling.fetch_max(ceiling, Ordering::SeqCst);
        }
        self.asked.store(false, Ordering::SeqCst);
    }

    /// Reserves a block in the transaction that is open. The result may be used once that is on the
    /// disk: [`Sequence::answered`].
    pub(super) fn reserve(&self, db: &Connection) -> Result<u64, Fault> {
        let ceiling = reserved(db)?.max(self.next.load(Ordering::SeqCst)).saturating_add(BLOCK);
        store(db, ceiling)?;
        Ok(ceiling)
    }

    /// A number for something that is written in the same transaction. Only the thread may ask.
    pub(super) fn draw(&self, db: &Connection) -> Result<u64, Fault> {
        let number = self.next.fetch_add(1, Ordering::SeqCst);
        if number >= self.ceiling.load(Ordering::SeqCst) {
            // The number and its reservation reach the disk together, or neither does.
            store(db, reserved(db)?.max(number.saturating_add(1)))?;
        }
        Ok(number)
    }
}

/// The first number that nobody can have been given. 1 in a new database.
fn reserved(db: &Connection) -> Result<u64, Fault> {
    let stored = meta::get(db, RESERVED)?;
    let number = stored.map(|text| text.parse::<u64>());
    match number {
        None => Ok(1),
        Some(Ok(number)) => Ok(number.max(1)),
        Some(Err(_)) => Err(super::fault::internal("the counter in the journal is no number").into()),
    }
}

fn store(db: &Connection, ceiling: u64) -> Result<(), Fault> {
    meta::set(db, RESERVED, Some(&ceiling.to_string()))
}

#[cfg(test)]
mod tests {
    use super::super::schema::STEPS;
    use super::*;

    fn database() -> Connection {
        let db = Connection::open_in_memory().unwrap();
        db.execute_batch(STEPS[0]).unwrap();
        db
    }

    #[test]
    fn a_block_is_reserved_before_its_numbers_are_given() {
        let db = database();
        let sequence = Sequence::stored(&db).unwrap();
        assert_eq!(sequence.take(), None);
        let ceiling = sequence.reserve(&db).unwrap();
        assert_eq!((ceiling, sequence.take()), (1 + BLOCK, None), "not before it is on the disk");
        sequence.answered(Some(ceiling));
        assert_eq!((sequence.take(), sequence.take()), (Some(1), Some(2)));
        let after_a_crash = Sequence::stored(&db).unwrap();
        after_a_crash.answered(Some(after_a_crash.reserve(&db).unwrap()));
        assert_eq!(after_a_crash.take(), Some(1 + BLOCK));
    }

    #[test]
    fn a_block_ends_where_it_ends_and_the_next_is_asked_for_once() {
        let db = database();
        let sequence = Sequence::stored(&db).unwrap();
        sequence.answered(Some(sequence.reserve(&db).unwrap()));
        let half = (0..).take_while(|_| sequence.take().is_some() && !sequence.runs_low()).count() as u64;
        assert_eq!(half, BLOCK / 2);
        assert!(!sequence.runs_low(), "it was asked for");
        let rest = std::iter::from_fn(|| sequence.take()).last();
        assert_eq!((rest, sequence.take()), (Some(BLOCK), None));
        sequence.answered(None);
        assert!(sequence.runs_low(), "it could not be had: ask again");
    }

    #[test]
    fn a_drawn_number_is_safe_without_a_block_and_inside_one() {
        let db = database();
        let sequence = Sequence::stored(&db).unwrap();
        assert_eq!((sequence.draw(&db).unwrap(), sequence.draw(&db).unwrap()), (1, 2));
        let restarted = Sequence::stored(&db).unwrap();
        assert_eq!(restarted.draw(&db).unwrap(), 3);
        restarted.answered(Some(restarted.reserve(&db).unwrap()));
        assert_eq!((restarted.take(), restarted.draw(&db).unwrap(), restarted.take()), (Some(4), 5, Some(6)));
        assert_eq!(Sequence::stored(&db).unwrap().draw(&db).unwrap(), 4 + BLOCK);
    }

    #[test]
    fn events_that_wait_are_never_numbered_again() {
        let db = database();
        db.execute_batch("INSERT INTO outbox (sequence, job, body) VALUES (41, 'a', '{}')").unwrap();
        assert_eq!(Sequence::stored(&db).unwrap().draw(&db).unwrap(), 42);
    }

    #[test]
    fn a_counter_that_is_no_number_is_refused() {
        let db = database();
        meta::set(&db, RESERVED, Some("many")).unwrap();
        assert!(Sequence::stored(&db).is_err());
    }
}
