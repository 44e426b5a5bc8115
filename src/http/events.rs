//! What happens to one job, as server-sent events.
//!
//! What enters: a job's id, and the last event that the client has seen. What leaves: a stream that ends
//! with the job, or when the node stops; then the client asks again with `Last-Event-ID` and misses
//! nothing. Once all is told the answer is 204, at which an `EventSource` stops asking.

use super::Room;
use super::extract::JobId;
use super::problem::{Answer, Problem};
use crate::model::record::{Job, JobProgress, StateChange};
use crate::work::board::{Follow, Happening};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::unfold;
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;
use utoipa::ToSchema;

/// Between two signs of life: below what proxies allow a silent connection.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// When to ask again where there are too many streams.
const STREAMS_RETRY_S: u64 = 5;

/// `data` of an event named `state`. Its `id` is `number`.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct StateEvent {
    /// Which change, and when.
    #[serde(flatten)]
    change: StateChange,
    /// The job's id.
    job: String,
    /// The job as it stands, which may be further on.
    record: Job,
}

/// `data` of an event named `progress`. It has no `id`.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ProgressEvent {
    /// How far it is.
    #[serde(flatten)]
    progress: JobProgress,
    /// The job's id.
    job: String,
}

/// Follows a job.
///
/// A `text/event-stream` of two kinds of event. `state`: a `StateEvent`, once for each change, in order,
/// from the first or from behind `Last-Event-ID`. `progress`: a `ProgressEvent`, now and then. A comment
/// each 15 seconds keeps the connection alive. The stream ends with the job.
#[utoipa::path(
    get, path = "/jobs/{id}/events", tag = "jobs", operation_id = "followJob",
    params(
        ("id" = String, Path, description = "The job's id", min_length = 1, max_length = 64,
            pattern = "^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}$"),
        ("Last-Event-ID" = String, Header, description = "`id` of the last `state` event that was seen; what \
            is no number counts as none"),
    ),
    responses(
        (status = 200, description = "The events", body = String, content_type = "text/event-stream"),
        (status = 204, description = "The job has ended and all was told: ask no more"),
        (status = 404, description = "`job_not_found`"),
        (status = 503, description = "`too_many_streams`, `journal_failed`, `timeout`"),
    )
)]
pub(super) async fn follow(
    State(room): State<Arc<Room>>,
    JobId(id): JobId,
    headers: HeaderMap,
) -> Answer<Response> {
    let permit = room.streams.clone().try_acquire_owned().map_err(|_| {
        let detail = "too many event streams are open; ask for the job itself, or again later";
        Problem::unavailable("too_many_streams", detail, STREAMS_RETRY_S)
    })?;
    let follow = room.board.follow(&id, last_seen(&headers)).await.map_err(|e| Problem::of(&e))?;
    let follow = follow.ok_or_else(|| Problem::no_such_job(&id))?;
    if follow.is_over() {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let line = Line { follow, shutdown: room.shutdown.clone(), _permit: permit };
    let events = unfold(line, |mut line| async move { Some((line.next().await?, line)) });
    let unbuffered = (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    Ok(([unbuffered], Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE))).into_response())
}

/// The number of the last change that was seen.
fn last_seen(headers: &HeaderMap) -> Option<u64> {
    headers.get("last-event-id")?.to_str().ok()?.trim().parse().ok()
}

struct Line {
    follow: Follow,
    shutdown: CancellationToken,
    _permit: OwnedSemaphorePermit,
}

impl Line {
    async fn next(&mut self) -> Option<Result<Event, axum::Error>> {
        let happening = tokio::select! {
            happening = self.follow.next() => happening?,
            () = self.shutdown.cancelled() => return None,
        };
        Some(event(happening))
    }
}

fn event(happening: Happening) -> Result<Event, axum::Error> {
    match happening {
        Happening::State { change, job } => {
            let number = change.number.to_string();
            let data = StateEvent { change, job: job.id().to_owned(), record: *job };
            Event::default().event("state").id(number).json_data(data)
        }
        Happening::Progress { job, progress } => {
            Event::default().event("progress").json_data(ProgressEvent { progress, job })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::document;
    use jiff::Timestamp;
    use serde_json::Value;

    #[test]
    fn nonsense_in_last_event_id_counts_as_none() {
        let seen = |value: &'static [u8]| {
            let mut headers = HeaderMap::new();
            headers.insert("last-event-id", HeaderValue::from_bytes(value).unwrap());
            last_seen(&headers)
        };
        assert_eq!((seen(b"3"), seen(b" 12 "), seen(b"0")), (Some(3), Some(12), Some(0)));
        for nonsense in ["", "x", "-1", "1.5", "99999999999999999999", "3;drop", "\u{e9}"] {
            assert_eq!(seen(nonsense.as_bytes()), None, "{nonsense:?}");
        }
        assert_eq!(last_seen(&HeaderMap::new()), None);
    }

    async fn text(happening: Happening) -> String {
        let events = unfold(Some(happening), |next| async { Some((event(next?), None)) });
        let body = Sse::new(events).into_response().into_body();
        String::from_utf8(axum::body::to_bytes(body, 1 << 20).await.unwrap().to_vec()).unwrap()
    }

    #[tokio::test]
    async fn events_have_the_fields_that_the_api_promises() {
        let document = document::parse(br#"{"id": "a", "input": "nas://m/a.mkv"}"#).unwrap();
        let job = Job::accepted(document, Timestamp::UNIX_EPOCH);
        let change = job.last_change();
        let told = text(Happening::State { change, job: Box::new(job) }).await;
        let lines: Vec<&str> = told.trim_end().lines().collect();
        assert_eq!((lines.len(), lines[0], lines[1]), (3, "event: state", "id: 1"));
        let data: Value = serde_json::from_str(lines[2].strip_prefix("data: ").unwrap()).unwrap();
        assert_eq!((&data["number"], &data["state"]), (&1.into(), &"queued".into()));
        assert_eq!((&data["job"], &data["record"]["id"]), (&"a".into(), &"a".into()));
        assert_eq!(data["at"], "1970-01-01T00:00:00Z");

        let progress = JobProgress { percent: Some(12.5), ..JobProgress::default() };
        let told = text(Happening::Progress { job: "a".into(), progress }).await;
        let data = told.strip_prefix("event: progress\ndata: ").unwrap();
        let data: Value = serde_json::from_str(data).unwrap();
        assert_eq!(
            (&data["percent"], &data["job"], &data["eta_ms"]),
            (&12.5.into(), &"a".into(), &Value::Null)
        );
    }
}
