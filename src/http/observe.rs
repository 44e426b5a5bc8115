//! What is noted of each request, and how long a handler may think.
//!
//! What enters: a request on its way in, its response on its way out. What leaves: one debug line, one
//! measurement, and headers that all answers share unless what is within says otherwise. What stands in a body or in a
//! header of a request is never noted: tokens are there.

use super::Room;
use super::problem::Problem;
use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{CACHE_CONTROL, X_CONTENT_TYPE_OPTIONS};
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, Method, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::timeout;
use tracing::Instrument;

/// A handler that waits longer than this waits for a disk that does not answer. Longer than a body may
/// take, and a cancelled job to end.
const HANDLER_TIME: Duration = Duration::from_secs(20);
/// When to ask again after that.
const HANDLER_RETRY_S: u64 = 10;

/// The outermost layer of the control API.
pub(super) async fn each(State(room): State<Arc<Room>>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map(|route| Cow::Owned(route.as_str().to_owned()));
    let (head, body) = request.into_parts();
    let seen = Seen::of(&head, route);
    seen.noted(&room, next.run(Request::from_parts(head, body))).await
}

/// What is noted of a request before it is answered.
pub(super) struct Seen {
    began: Instant,
    method: Method,
    uri: Uri,
    /// As it stands in the table.
    route: Option<Cow<'static, str>>,
}

impl Seen {
    /// `route` is `None` for a path that there is not.
    pub(super) fn of(head: &Parts, route: Option<Cow<'static, str>>) -> Self {
        Self { began: Instant::now(), method: head.method.clone(), uri: head.uri.clone(), route }
    }

    /// The answer, with what all answers have; noted once it begins.
    pub(super) async fn noted(self, room: &Room, answer: impl Future<Output = Response>) -> Response {
        let Self { began, method, uri, route } = self;
        let path = uri.path();
        let span = tracing::debug_span!("request", %method, path);
        let mut response = answer.instrument(span).await;
        harden(&mut response);
        let took = began.elapsed();
        let status = response.status();
        room.requests.note(&method, route, status, took);
        let ms = took.as_secs_f64() * 1e3;
        tracing::debug!(%method, path, status = status.as_u16(), ms, "{method} {path} {status} in {ms:.1} ms");
        response
    }
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
