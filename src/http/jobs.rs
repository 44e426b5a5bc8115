//! Jobs: taking, showing, cancelling, removing what they published.
//!
//! What enters: requests whose head is in order. What leaves: jobs as JSON, or the problem. Every
//! decision is the board's; here its answers get their HTTP status.

use super::Room;
use super::extract::{JobId, JsonBytes, Values};
use super::problem::{Answer, Problem};
use crate::base::error::{Error, ErrorKind};
use crate::model::document::{self, JobDocument, Refusal};
use crate::model::record::{Job, JobState};
use crate::work::board::{Cancelled, NotTaken, Removal, Submitted};
use crate::work::journal;
use axum::Json;
use axum::extract::State;
use axum::http::header::LOCATION;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::Serialize;
use std::sync::Arc;
use tokio::task::spawn_blocking;
use utoipa::ToSchema;

/// To check a larger document may take longer than others should wait on this thread.
const QUICK_BYTES: usize = 16 * 1024;

/// A page of jobs.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct JobList {
    /// Newest first.
    jobs: Vec<Job>,
    /// `after` for the next page; null on the last one.
    next: Option<String>,
}

/// Takes a job.
///
/// It is on the disk when this answers 202. The same `id` with the same document again answers 200 with
/// the job as it stands, so that a request may be repeated when its answer was lost.
#[utoipa::path(
    post, path = "/jobs", tag = "jobs", operation_id = "submitJob",
    request_body(
        content = JobDocument, content_type = "application/json",
        example = json!({"id": "movie-42", "input": "nas://media/movies/bbb.mkv", "output": "nas://transcoded/movie-42"}),
    ),
    responses(
        (status = 202, description = "It is accepted", body = Job,
            headers(("Location" = String, description = "Where the job is")),
            links(
                ("job" = (operation_id = "getJob", parameters(("id" = "$response.body#/id")))),
                ("events" = (operation_id = "followJob", parameters(("id" = "$response.body#/id")))),
                ("cancel" = (operation_id = "cancelJob", parameters(("id" = "$response.body#/id")))),
                ("output" = (operation_id = "removeOutput", parameters(("id" = "$response.body#/id")))),
            )),
        (status = 200, description = "There is this very job already", body = Job),
        (status = 409, description = "`id_conflict`: another job has this id; `output_in_use`: a live job \
            writes there; `output_exists`: without `overwrite`; `output_not_ours`"),
        (status = 422, description = "`bad_job`: `faults` lists everything that is wrong with it"),
        (status = 429, description = "`queue_full`"),
        (status = 503, description = "`maintenance`, `node_error`, `disk_low`, `stopping`, `journal_failed`, \
            `no_space`, `timeout`"),
    )
)]
pub(super) async fn submit(State(room): State<Arc<Room>>, JsonBytes(body): JsonBytes) -> Answer<Response> {
    let document = parse(body).await?;
    match room.board.submit(document).await.map_err(refused)? {
        Submitted::New(job) => {
            let place = [(LOCATION, format!("/jobs/{}", job.id()))];
            Ok((StatusCode::ACCEPTED, place, Json(*job)).into_response())
        }
        Submitted::Same(job) => Ok(Json(*job).into_response()),
    }
}

async fn parse(body: Bytes) -> Answer<JobDocument> {
    let parsed = if body.len() <= QUICK_BYTES {
        document::parse(&body)
    } else {
        let checked = spawn_blocking(move || document::parse(&body)).await;
        checked.map_err(|e| Problem::internal(&format!("a job document cannot be checked: {e}")))?
    };
    parsed.map_err(|refusal| match refusal {
        Refusal::NotJson { message } => Problem::bad_request("not_json", message),
        Refusal::Faults(faults) => Problem::faulty("bad_job", "the job", faults),
    })
}

fn refused(why: NotTaken) -> Problem {
    match why {
        NotTaken::Faults(faults) => Problem::faulty("bad_job", "the job", faults),
        NotTaken::Conflict { code, message } => Problem::conflict(code, message),
        NotTaken::Refused(refusal) => {
            let status = StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
            Problem::new(status, refusal.code, refusal.message).retry_after(refusal.retry_after_s)
        }
        NotTaken::Failed(error) => Problem::of(&error),
    }
}

/// Jobs, the newest first, in pages.
#[utoipa::path(
    get, path = "/jobs", tag = "jobs", operation_id = "listJobs",
    params(
        ("state" = JobState, Query, description = "Only jobs in this state"),
        ("limit" = u32, Query, description = "At most so many jobs; 50 without it", minimum = 1, maximum = 200),
        ("after" = String, Query, description = "What `next` said", min_length = 1, max_length = 64,
            pattern = "^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}$"),
    ),
    responses(
        (status = 200, description = "A page", body = JobList),
        (status = 400, description = "`bad_query`: a value out of its range, twice, or unknown"),
        (status = 404, description = "`after_not_found`: the job that the page before ended with is forgotten"),
        (status = 503, description = "`journal_failed`, `timeout`"),
    )
)]
pub(super) async fn list(State(room): State<Arc<Room>>, uri: Uri) -> Answer<Json<JobList>> {
    let mut values = Values::of(&uri, &["state", "limit", "after"]);
    let expected = JobState::ALL.map(JobState::as_str).join(", ");
    let state = values.take("state", &format!("one of {expected}"), JobState::from_word);
    let page = values.page();
    values.finish()?;
    let limit = page.limit;
    // One more than is shown tells whether there are more.
    let asked = journal::Page { state, limit: limit + 1, after: page.after };
    let mut jobs = room.board.list(asked).await.map_err(|e| forgotten(&e))?;
    let more = jobs.len() > limit;
    jobs.truncate(limit);
    let next = jobs.last().filter(|_| more).map(|job| job.id().to_owned());
    Ok(Json(JobList { jobs, next }))
}

fn forgotten(error: &Error) -> Problem {
    if error.kind() != ErrorKind::NotFound {
        return Problem::of(error);
    }
    Problem::not_found("after_not_found", "there is no job `after`; begin again without it")
}

/// A job.
#[utoipa::path(
    get, path = "/jobs/{id}", tag = "jobs", operation_id = "getJob",
    params(("id" = String, Path, description = "The job's id", min_length = 1, max_length = 64,
        pattern = "^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}$")),
    responses(
        (status = 200, description = "The job, with its newest progress", body = Job),
        (status = 404, description = "`job_not_found`"),
        (status = 503, description = "`journal_failed`, `timeout`"),
    )
)]
pub(super) async fn show(State(room): State<Arc<Room>>, JobId(id): JobId) -> Answer<Json<Job>> {
    let job = room.board.job(&id).await.map_err(|e| Problem::of(&e))?;
    job.map(Json).ok_or_else(|| Problem::no_such_job(&id))
}

/// Cancels a job.
///
/// A job that had ended stays as it is: this answers 200 then, and 202 where there was something to cancel.
#[utoipa::path(
    delete, path = "/jobs/{id}", tag = "jobs", operation_id = "cancelJob",
    params(("id" = String, Path, description = "The job's id", min_length = 1, max_length = 64,
        pattern = "^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}$")),
    responses(
        (status = 202, description = "It was queued or running, and is cancelled", body = Job),
        (status = 200, description = "It had ended", body = Job),
        (status = 404, description = "`job_not_found`"),
        (status = 503, description = "`journal_failed`, `no_space`, `timeout`"),
    )
)]
pub(super) async fn cancel(State(room): State<Arc<Room>>, JobId(id): JobId) -> Answer<Response> {
    let cancelled = room.board.cancel(&id).await.map_err(|e| Problem::of(&e))?;
    let Cancelled { job, was_live } = cancelled.ok_or_else(|| Problem::no_such_job(&id))?;
    let status = if was_live { StatusCode::ACCEPTED } else { StatusCode::OK };
    Ok((status, Json(job)).into_response())
}

/// Removes what an ended job published.
#[utoipa::path(
    delete, path = "/jobs/{id}/output", tag = "jobs", operation_id = "removeOutput",
    params(("id" = String, Path, description = "The job's id", min_length = 1, max_length = 64,
        pattern = "^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}$")),
    responses(
        (status = 204, description = "It is gone, or there was none"),
        (status = 404, description = "`job_not_found`"),
        (status = 409, description = "`job_live`: cancel it first; `output_not_ours`: something else lies there now"),
        (status = 503, description = "`journal_failed`, `io`, `no_space`, `timeout`"),
    )
)]
pub(super) async fn remove_output(State(room): State<Arc<Room>>, JobId(id): JobId) -> Answer<StatusCode> {
    let removal = room.board.remove_output(&id).await.map_err(|e| Problem::of(&e))?;
    match removal.ok_or_else(|| Problem::no_such_job(&id))? {
        Removal::Removed => Ok(StatusCode::NO_CONTENT),
        Removal::Live(state) => {
            let detail = format!("job {id} is {state}: cancel it before its output is removed");
            Err(Problem::conflict("job_live", detail))
        }
    }
}
