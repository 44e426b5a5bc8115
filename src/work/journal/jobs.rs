//! The table of jobs.
//!
//! What enters: jobs, as the record that HTTP shows too. What leaves: the same. The columns beside
//! the record are what the queries need; the record is the truth. Each function works in the
//! transaction that is open.

use super::fault::{Fault, STAGE, internal};
use super::{Accepted, Live, Page};
use crate::base::error::{Error, ErrorKind, Result};
use crate::model::record::{Job, JobState};
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, params};

/// A job as it is written: made by the caller, so that the thread of the journal need not.
pub(super) struct Stored {
    id: String,
    state: JobState,
    priority: i64,
    created_ms: i64,
    ended_ms: Option<i64>,
    record: String,
}

impl Stored {
    /// The job's columns.
    ///
    /// # Errors
    /// `internal` for a job without an id.
    pub(super) fn of(job: &Job) -> Result<Self> {
        let refuse = |e: serde_json::Error| internal(format!("job {} cannot be written: {e}", job.id()));
        if job.id().is_empty() {
            return Err(internal("a job without an id cannot be kept"));
        }
        let record = serde_json::to_value(job).map_err(refuse)?;
        let ended = job.state.has_ended().then(|| job.ended_at.unwrap_or_else(Timestamp::now));
        Ok(Self {
            id: job.id().into(),
            state: job.state,
            priority: record.get("priority").and_then(serde_json::Value::as_i64).unwrap_or(0),
            created_ms: job.created_at.as_millisecond(),
            ended_ms: ended.map(Timestamp::as_millisecond),
            record: serde_json::to_string(&record).map_err(refuse)?,
        })
    }

    /// The job's name.
    pub(super) fn id(&self) -> &str {
        &self.id
    }
}

/// Adds the job, unless there is one of that id.
pub(super) fn accept(db: &Connection, new: &Stored) -> Result<Accepted, Fault> {
    let mut find = db.prepare_cached("SELECT id, record FROM jobs WHERE id = ?1")?;
    // The inner option: there is one, and it cannot be read.
    let found = find.query_row([&new.id], |row| Ok(readable(row))).optional()?;
    match found {
        None => insert(db, new).map(|()| Accepted::New),
        Some(Some(old)) if same_document(&old, new) => Ok(Accepted::Same(Box::new(old))),
        Some(_) => Ok(Accepted::Different),
    }
}

fn insert(db: &Connection, job: &Stored) -> Result<(), Fault> {
    let sql = "INSERT INTO jobs (id, state, priority, created_ms, ended_ms, record) \
               VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    let values = params![job.id, job.state.as_str(), job.priority, job.created_ms, job.ended_ms, job.record];
    db.prepare_cached(sql)?.execute(values)?;
    Ok(())
}

/// Both as they come out of the database: a number with many digits may lose the last one on its
/// way through text.
fn same_document(old: &Job, new: &Stored) -> bool {
    serde_json::from_str::<Job>(&new.record).is_ok_and(|new| new.document == old.document)
}

/// Replaces the record of a job.
///
/// # Errors
/// `internal` for a job that is not there and for a move that its state may not make. To write a job
/// again in the state that it has is no move.
pub(super) fn change(db: &Connection, job: &Stored) -> Result<(), Fault> {
    let mut find = db.prepare_cached("SELECT state FROM jobs WHERE id = ?1")?;
    let before: Option<String> = find.query_row([&job.id], |row| row.get(0)).optional()?;
    let before = before.ok_or_else(|| unknown(&job.id))?;
    let known = JobState::from_word(&before);
    if !known.is_some_and(|before| before == job.state || before.may_become(job.state)) {
        return Err(internal(format!("job {} cannot go from {before} to {}", job.id, job.state)).into());
    }
    let sql = "UPDATE jobs SET state = ?2, priority = ?3, ended_ms = ?4, record = ?5 WHERE id = ?1";
    let values = params![job.id, job.state.as_str(), job.priority, job.ended_ms, job.record];
    db.prepare_cached(sql)?.execute(values)?;
    Ok(())
}

/// The job of that id.
///
/// # Errors
/// `journal_damaged` when its record cannot be read.
pub(super) fn get(db: &Connection, id: &str) -> Result<Option<Job>, Fault> {
    let mut find = db.prepare_cached("SELECT id, record FROM jobs WHERE id = ?1")?;
    match find.query_row([id], |row| Ok(readable(row))).optional()? {
        None => Ok(None),
        Some(Some(job)) => Ok(Some(job)),
        Some(None) => Err(unreadable(id).into()),
    }
}

/// A page, newest first. Records that cannot be read are left out and the page is filled up.
pub(super) fn list(db: &Connection, page: &Page) -> Result<Vec<Job>, Fault> {
    let before = match &page.after {
        None => i64::MAX,
        Some(id) => number(db, id)?.ok_or_else(|| no_such_page(id))?,
    };
    let sql = match page.state {
        None => "SELECT id, record FROM jobs WHERE number < ?1 AND ?2 = '' ORDER BY number DESC",
        Some(_) => "SELECT id, record FROM jobs WHERE number < ?1 AND state = ?2 ORDER BY number DESC",
    };
    let mut find = db.prepare_cached(sql)?;
    let rows =
        find.query_map(params![before, page.state.map_or("", JobState::as_str)], |row| Ok(readable(row)))?;
    collect(rows, page.limit)
}

/// Ended jobs that ended before and have an output, the oldest end first.
pub(super) fn outputs_ended_before(
    db: &Connection,
    before: Timestamp,
    limit: usize,
) -> Result<Vec<Job>, Fault> {
    let sql = "SELECT id, record FROM jobs WHERE ended_ms < ?1 AND json_valid(record) \
               AND json_extract(record, '$.outputs') <> '{}' ORDER BY ended_ms, number";
    let mut find = db.prepare_cached(sql)?;
    let rows = find.query_map([before.as_millisecond()], |row| Ok(readable(row)))?;
    collect(rows, limit)
}

/// The first `limit` that can be read.
fn collect(
    rows: impl Iterator<Item = rusqlite::Result<Option<Job>>>,
    limit: usize,
) -> Result<Vec<Job>, Fault> {
    Ok(rows.filter_map(Result::transpose).take(limit).collect::<rusqlite::Result<_>>()?)
}

/// Jobs that wait or run, in the order in which they were accepted.
pub(super) fn live(db: &Connection) -> Result<Vec<Live>, Fault> {
    let sql =
        "SELECT id, record, deaths, suspect FROM jobs WHERE state IN ('queued', 'running') ORDER BY number";
    let mut find = db.prepare_cached(sql)?;
    let mut rows = find.query([])?;
    let mut live = Vec::new();
    while let Some(row) = rows.next()? {
        let deaths = u32::try_from(row.get::<_, i64>(2)?).unwrap_or(u32::MAX);
        let suspect = row.get(3)?;
        live.extend(readable(row).map(|job| Live { job, deaths, suspect }));
    }
    Ok(live)
}

/// Notes how often the process died of a job, and whether it is suspected of the last time.
pub(super) fn blame(db: &Connection, id: &str, deaths: u32, suspect: bool) -> Result<(), Fault> {
    let mut update = db.prepare_cached("UPDATE jobs SET deaths = ?2, suspect = ?3 WHERE id = ?1")?;
    if update.execute(params![id, deaths, suspect])? == 0 {
        return Err(unknown(id).into());
    }
    Ok(())
}

/// Removes up to `limit` jobs that ended before and have nothing left to tell, with the small facts
/// about them (named `WORD.ID`). Returns how many.
pub(super) fn forget(db: &Connection, before: Timestamp, limit: i64) -> Result<u64, Fault> {
    let sql = "DELETE FROM jobs WHERE number IN (SELECT number FROM jobs WHERE ended_ms < ?1 AND NOT EXISTS \
               (SELECT 1 FROM outbox WHERE outbox.job = jobs.id AND outbox.set_aside_ms IS NULL) LIMIT ?2) \
               RETURNING id";
    let mut remove = db.prepare_cached(sql)?;
    let gone = remove.query_map(params![before.as_millisecond(), limit], |row| row.get::<_, String>(0))?;
    let gone = gone.collect::<rusqlite::Result<Vec<_>>>()?;
    for id in &gone {
        super::meta::forget_job(db, id)?;
    }
    Ok(gone.len() as u64)
}

fn number(db: &Connection, id: &str) -> Result<Option<i64>, Fault> {
    let mut find = db.prepare_cached("SELECT number FROM jobs WHERE id = ?1")?;
    Ok(find.query_row([id], |row| row.get(0)).optional()?)
}

/// The job of a row that begins with `id, record`. One that cannot be read is logged and left where
/// it is: it may be of use to whoever mends it, and the others must not suffer from it.
fn readable(row: &Row<'_>) -> Option<Job> {
    let text = |column: usize| row.get_ref(column).ok().and_then(|value| value.as_str().ok());
    let id = text(0).unwrap_or("?");
    let why = match serde_json::from_str::<Job>(text(1).unwrap_or_default()) {
        Ok(job) if job.id() == id => return Some(job),
        Ok(job) => format!("it is the record of job {}", job.id()),
        Err(e) => e.to_string(),
    };
    tracing::error!(job = id, "the record of job {id} in the journal cannot be read and is left out: {why}");
    None
}

fn unknown(id: &str) -> Error {
    internal(format!("job {id} is not in the journal"))
}

fn unreadable(id: &str) -> Error {
    let message = format!("the record of job {id} in the journal cannot be read");
    Error::new(ErrorKind::Io, "journal_damaged", STAGE, message)
        .hint("the log says why; a program of another version may have written it")
}

fn no_such_page(id: &str) -> Error {
    let message = format!("there is no job {id} for the list to go on after");
    Error::new(ErrorKind::NotFound, "not_found", STAGE, message)
        .hint("list from the beginning again, without `after`")
}
