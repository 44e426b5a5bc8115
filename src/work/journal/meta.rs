//! Small facts that outlive the process, by name.
//!
//! What enters: a name and a text. What leaves: the text. Names that begin with `journal.` are the
//! journal's own.

use super::fault::{Fault, internal};
use crate::base::error::Result;
use rusqlite::{Connection, OptionalExtension, params};

/// How the journal's own names begin.
const OURS: &str = "journal.";
/// Told to a database when it is made: tells it from another one that lies in its place later.
const IDENTITY: &str = "journal.identity";
/// Written to see whether writing works.
const PROBE: &str = "journal.probe";

/// The text of that name.
pub(super) fn get(db: &Connection, key: &str) -> Result<Option<String>, Fault> {
    let mut find = db.prepare_cached("SELECT value FROM meta WHERE key = ?1")?;
    Ok(find.query_row([key], |row| row.get(0)).optional()?)
}

/// All whose name begins so, by name.
pub(super) fn beginning_with(db: &Connection, prefix: &str) -> Result<Vec<(String, String)>, Fault> {
    // No pattern: a name may hold what a pattern takes for a wildcard.
    let mut find = db.prepare_cached("SELECT key, value FROM meta WHERE key >= ?1 ORDER BY key")?;
    let mut rows = find.query([prefix])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let key: String = row.get(0)?;
        if !key.starts_with(prefix) {
            break;
        }
        found.push((key, row.get(1)?));
    }
    Ok(found)
}

/// Sets the text of that name, or removes it.
pub(super) fn set(db: &Connection, key: &str, value: Option<&str>) -> Result<(), Fault> {
    match value {
        Some(value) => {
            let sql = "INSERT INTO meta (key, value) VALUES (?1, ?2) \
                       ON CONFLICT (key) DO UPDATE SET value = excluded.value";
            db.prepare_cached(sql)?.execute(params![key, value])?;
        }
        None => {
            db.prepare_cached("DELETE FROM meta WHERE key = ?1")?.execute([key])?;
        }
    }
    Ok(())
}

/// What the rooms above note about a job, as `WORD.ID`, and what means nothing without it. Not among them
/// is `tidy.ID`: what it names still lies on a disk when the job has been forgotten.
const OF_JOBS: [&str; 2] = ["published", "cancelled"];

/// Removes the facts about a job.
pub(super) fn forget_job(db: &Connection, id: &str) -> Result<(), Fault> {
    OF_JOBS.iter().try_for_each(|word| set(db, &format!("{word}.{id}"), None))
}

/// Refuses the names that the journal keeps for itself.
pub(super) fn check_name(key: &str) -> Result<()> {
    if key.starts_with(OURS) {
        return Err(internal(format!("the name {key} belongs to the journal itself")));
    }
    Ok(())
}

/// What tells this database from every other.
pub(super) fn identity(db: &Connection) -> Result<String, Fault> {
    get(db, IDENTITY)?.ok_or_else(|| internal("the journal has no identity").into())
}

/// A write that changes nothing of meaning.
pub(super) fn probe(db: &Connection) -> Result<(), Fault> {
    set(db, PROBE, Some(&jiff::Timestamp::now().to_string()))
}
