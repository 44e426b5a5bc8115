//! Events that wait for the orchestrator.
//!
//! What enters: an event's body, with the change that it tells of. What leaves: of each job the event
//! that is next, so that a job's events go out in their order and no job waits for another. No sending.

use super::Event;
use super::fault::Fault;
use super::sequence::Sequence;
use crate::base::error::Result;
use jiff::Timestamp;
use rusqlite::{Connection, params};

/// Puts an event behind the others, in the transaction that is open.
pub(super) fn add(db: &Connection, sequence: &Sequence, job: &str, body: &str) -> Result<(), Fault> {
    let number = as_stored(sequence.draw(db)?);
    let sql = "INSERT INTO outbox (sequence, job, body) VALUES (?1, ?2, ?3)";
    db.prepare_cached(sql)?.execute(params![number, job, body])?;
    Ok(())
}

/// Of each job the oldest event that is due, by number; and the numbers of those among them that can
/// no longer be read.
pub(super) fn due(db: &Connection, limit: usize) -> Result<(Vec<Event>, Vec<u64>), Fault> {
    let sql = "SELECT sequence, job, body FROM outbox WHERE sequence IN \
               (SELECT min(sequence) FROM outbox WHERE set_aside_ms IS NULL GROUP BY job ORDER BY 1 LIMIT ?1) \
               ORDER BY sequence";
    let mut find = db.prepare_cached(sql)?;
    let mut rows = find.query([i64::try_from(limit).unwrap_or(i64::MAX)])?;
    let (mut events, mut unreadable) = (Vec::new(), Vec::new());
    while let Some(row) = rows.next()? {
        let sequence = u64::try_from(row.get::<_, i64>(0)?).unwrap_or(0);
        let job = row.get_ref(1)?.as_str().unwrap_or_default().to_owned();
        let body = row.get_ref(2)?.as_str().ok().and_then(|body| serde_json::from_str(body).ok());
        match body {
            Some(body) => events.push(Event { sequence, job, body }),
            None => unreadable.push(sequence),
        }
    }
    Ok((events, unreadable))
}

/// Removes an event. One that is not there was removed before: the word may come twice.
pub(super) fn remove(db: &Connection, sequence: u64) -> Result<(), Fault> {
    db.prepare_cached("DELETE FROM outbox WHERE sequence = ?1")?.execute([as_stored(sequence)])?;
    Ok(())
}

/// Keeps an event, and takes it out of its job's way.
pub(super) fn set_aside(db: &Connection, sequence: u64, why: &str, now: Timestamp) -> Result<(), Fault> {
    let sql = "UPDATE outbox SET set_aside_ms = ?2, why = ?3 WHERE sequence = ?1 AND set_aside_ms IS NULL";
    db.prepare_cached(sql)?.execute(params![as_stored(sequence), now.as_millisecond(), why])?;
    Ok(())
}

/// Removes up to `limit` events that were set aside before. Returns how many.
pub(super) fn forget(db: &Connection, before: Timestamp, limit: i64) -> Result<u64, Fault> {
    let sql = "DELETE FROM outbox WHERE sequence IN \
               (SELECT sequence FROM outbox WHERE set_aside_ms < ?1 LIMIT ?2)";
    Ok(db.prepare_cached(sql)?.execute(params![before.as_millisecond(), limit])? as u64)
}

fn as_stored(sequence: u64) -> i64 {
    i64::try_from(sequence).unwrap_or(i64::MAX)
}
