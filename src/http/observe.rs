//! What is noted of each request, and how long a handler may think.
//!
//! What enters: a request on its way in, its response on its way out. What leaves: one debug line, one
//! measurement, and headers that all answers share unless a layer within says otherwise. What stands in a body or in a
//! header of a request is never noted: tokens are there.

use super::Room;
use super::problem::Problem;
use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{CACHE_CONTROL, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::timeout;
use tracing::Instrument;

/// A handler that waits longer than this waits for a disk that does not answer. Longer than a body may
/// take, and a cancelled job to end.
const HANDLER_TIME: Duration = Duration::from_secs(20);
/// When to ask again after that.
const HANDLER_RETRY_S: u64 = 10;

/// The outermost layer.
pub(super) async fn each(State(room): State<Arc<Room>>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let span = tracing::debug_span!("request", %method, path);
    let mut response = next.run(request).instrument(span).await;
    harden(&mut response);
    let took = began.elapsed();
    let status = response.status();
    room.requests.note(&method, route.as_ref().map(MatchedPath::as_str), status, took);
    let ms = took.as_secs_f64() * 1e3;
    tracing::debug!(%method, path, status = status.as_u16(), ms, "{method} {path} {status} in {ms:.1} ms");
    response
}

/// What is true this second must not be kept, and no page may take a part of it for something else.
fn harden(response: &mut Response) {
    let headers = response.headers_mut();
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    let policy = HeaderName::from_static("cross-origin-resource-policy");
    headers.entry(policy).or_insert(HeaderValue::from_static("same-origin"));
}

/// The innermost layer: an answer comes, whatever a disk does. An event stream has begun by then, and
/// goes on for as long as it likes.
pub(super) async fn deadline(request: Request, next: Next) -> Response {
    match timeout(HANDLER_TIME, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            let detail = "the node's disk did not answer in time; what was asked may still be done: look, or ask the same again";
            Problem::unavailable("timeout", detail, HANDLER_RETRY_S).into_response()
        }
    }
}
