//! The table of jobs.
//!
//! What enters: jobs, as the record that HTTP shows too. What leaves: the same. The columns beside
//! the record are what the queries need; the record is the truth. Each function works in the
//! transaction that is open.

use super::fault::{Fault, STAGE, internal};
use super::{Accepted, Live, Page};
use crate::base::error::{Error, ErrorKind, Result};
use crate::model::record::{Job, JobState, Outputs};
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, params};

/// A job as it is written: made by the caller, so that the thread of the journal need not.
pub(super) struct Stored {
    id: String,
    state: JobState,
    priority: i64,
    created_ms: i64,
    ended_ms: Option<i64>,
    has_output: bool,
    /// Of its last change.
    number: u64,
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
            has_output: job.outputs != Outputs::default(),
            number: job.last_change().number,
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
    let sql = "INSERT INTO jobs (id, state, priority, created_ms, ended_ms, has_output, record) \
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    db.prepare_cached(sql)?.execute(params![
        job.id,
        job.state.as_str(),
        job.priority,
        job.created_ms,
        job.ended_ms,
        job.has_output,
        job.record
    ])?;
    Ok(())
}

/// Both as they come out of the database: a number with many digits may lose the last one on its
/// way through text.
fn same_document(old: &Job, new: &Stored) -> bool {
    serde_json::from_str::<Job>(&new.record).is_ok_and(|new| new.document == old.document)
}

/// Replaces the record of a job. Returns whether that is news, or the journal had the same change
/// before: then its event was put into the outbox with it.
///
/// # Errors
/// `job_gone` for a job that is not there; `internal` for a move that its state may not make. To write a
/// job again in the state that it has is no move.
pub(super) fn change(db: &Connection, job: &Stored) -> Result<bool, Fault> {
    let (before, number) = standing(db, job)?.ok_or_else(|| gone(&job.id))?;
    let known = JobState::from_word(&before);
    if !known.is_some_and(|before| before == job.state || before.may_become(job.state)) {
        return Err(internal(format!("job {} cannot go from {before} to {}", job.id, job.state)).into());
    }
    let sql = "UPDATE jobs SET state = ?2, priority = ?3, ended_ms = ?4, has_output = ?5, record = ?6 \
               WHERE id = ?1";
    let values = params![job.id, job.state.as_str(), job.priority, job.ended_ms, job.has_output, job.record];
    db.prepare_cached(sql)?.execute(values)?;
    Ok(number != Some(job.number))
}

/// The word for the state of the job of that id, and when that is the same state, the number of the
/// change that brought it there.
fn standing(db: &Connection, job: &Stored) -> Result<Option<(String, Option<u64>)>, Fault> {
    let mut find = db.prepare_cached("SELECT id, record, state FROM jobs WHERE id = ?1")?;
    let look = |row: &Row<'_>| {
        let state: String = row.get(2)?;
        // Most changes are moves: for those the record need not be read.
        let same = (state == job.state.as_str()).then(|| readable(row)).flatten();
        Ok((state, same.map(|same| same.last_change().number)))
    };
    Ok(find.query_row([&job.id], look).optional()?)
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

/// Ended jobs that ended before and have an output, the oldest end first; those behind the job `after`,
/// if that is there.
pub(super) fn outputs_ended_before(
    db: &Connection,
    before: Timestamp,
    after: Option<&str>,
    limit: usize,
) -> Result<Vec<Job>, Fault> {
    let seen = after.map_or(Ok(None), |id| end_of(db, id))?;
    let (ended_ms, number) = seen.unwrap_or((i64::MIN, i64::MIN));
    let mut find = db.prepare_cached(OUTPUTS_ENDED_BEFORE)?;
    let rows = find.query_map(params![before.as_millisecond(), ended_ms, number], |row| Ok(readable(row)))?;
    collect(rows, limit)
}

/// By an index alone, up to the records that are returned: most ended jobs of a node have no output any
/// more, or one that is not due.
pub(super) const OUTPUTS_ENDED_BEFORE: &str = "SELECT id, record FROM jobs \
    WHERE has_output = 1 AND ended_ms < ?1 AND (ended_ms, number) > (?2, ?3) ORDER BY ended_ms, number";

/// When the job of that id ended, and its place among those that ended then.
fn end_of(db: &Connection, id: &str) -> Result<Option<(i64, i64)>, Fault> {
    let sql = "SELECT ended_ms, number FROM jobs WHERE id = ?1 AND ended_ms IS NOT NULL";
    let mut find = db.prepare_cached(sql)?;
    Ok(find.query_row([id], |row| Ok((row.get(0)?, row.get(1)?))).optional()?)
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
        return Err(gone(id).into());
    }
    Ok(())
}

/// Removes up to `limit` jobs that ended before and have nothing left to tell, with the small facts
/// about them (named `WORD.ID`). With `keep_outputs`, only those without an output. Returns how many.
pub(super) fn forget(
    db: &Connection,
    before: Timestamp,
    keep_outputs: bool,
    limit: i64,
) -> Result<u64, Fault> {
    let sql = if keep_outputs { FORGET_WITHOUT_OUTPUT } else { FORGET };
    let mut remove = db.prepare_cached(sql)?;
    let gone = remove.query_map(params![before.as_millisecond(), limit], |row| row.get::<_, String>(0))?;
    let gone = gone.collect::<rusqlite::Result<Vec<_>>>()?;
    for id in &gone {
        super::meta::forget_job(db, id)?;
    }
    Ok(gone.len() as u64)
}

pub(super) const FORGET: &str = "DELETE FROM jobs WHERE number IN (SELECT number FROM jobs WHERE ended_ms < ?1 \
    AND NOT EXISTS (SELECT 1 FROM outbox WHERE outbox.job = jobs.id AND outbox.set_aside_ms IS NULL) \
    LIMIT ?2) RETURNING id";
/// Of its own, so that the jobs that stay for their outputs, which only grow in number, are not looked at.
pub(super) const FORGET_WITHOUT_OUTPUT: &str = "DELETE FROM jobs WHERE number IN (SELECT number FROM jobs \
    WHERE has_output = 0 AND ended_ms < ?1 \
    AND NOT EXISTS (SELECT 1 FROM outbox WHERE outbox.job = jobs.id AND outbox.set_aside_ms IS NULL) \
    LIMIT ?2) RETURNING id";

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

fn gone(id: &str) -> Error {
    let message = format!("job {id} is not in the journal: it ended long ago and has been forgotten");
    Error::new(ErrorKind::NotFound, "job_gone", STAGE, message)
        .hint("submit it again if it is still wanted; limits.history says how long ended jobs stay")
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
