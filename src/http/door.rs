//! Requests for media, from the head to the answer.
//!
//! ```text
//!   head --> CORS (a preflight is answered) --> size, stream token --> path --> stream | vod --> answer
//! ```
//!
//! What enters: a request for a path below `/stream` or `/vod`. What leaves: media, or the problem with it; always
//! with CORS, noted, and without a panic. This is a function where the control API has a router and layers: they
//! cost several times what the answer with a part of a file costs. What must not live here: what lies at a path.

use super::Room;
use super::media::access;
use super::media::passage::Passage;
use super::observe::Seen;
use super::problem::{self, Answer, Problem};
use super::server::PeerAddress;
use super::{stream, vod};
use axum::body::{Body, HttpBody};
use axum::http::header::{ALLOW, CONTENT_LENGTH};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use percent_encoding::percent_decode_str;
use std::borrow::Cow;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

/// Who asks, and how answers get to them.
#[derive(Clone)]
pub(super) struct Caller {
    pub(super) address: PeerAddress,
    pub(super) passage: Passage,
}

/// What lies at a path, in its encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place<'a> {
    Output { job: &'a str, path: &'a str },
    Source { root: &'a str, path: &'a str },
}

impl<'a> Place<'a> {
    fn of(path: &'a str) -> Option<Self> {
        let (top, rest) = path.strip_prefix('/')?.split_once('/')?;
        let (first, path) =
            rest.split_once('/').filter(|(first, path)| !first.is_empty() && !path.is_empty())?;
        match top {
            "stream" => Some(Self::Output { job: first, path }),
            "vod" => Some(Self::Source { root: first, path }),
            _ => None,
        }
    }

    /// As the table of the API has it.
    fn route(self) -> &'static str {
        match self {
            Self::Output { .. } => stream::ROUTE,
            Self::Source { .. } => vod::ROUTE,
        }
    }
}

/// The answer to a request whose path is of media.
pub(super) async fn answer(room: Arc<Room>, caller: Caller, head: Parts) -> Response {
    let place = Place::of(head.uri.path());
    let seen = Seen::of(&head, place.map(|place| Cow::Borrowed(place.route())));
    seen.noted(&room, with_cors(&room, &caller, &head, place)).await
}

async fn with_cors(room: &Arc<Room>, caller: &Caller, head: &Parts, place: Option<Place<'_>>) -> Response {
    if head.method == Method::OPTIONS {
        return room.cross_origin.preflight(&head.headers);
    }
    let answered = AssertUnwindSafe(admitted(room, caller, head, place)).catch_unwind().await;
    let mut response = match answered {
        Ok(answer) => answer.unwrap_or_else(IntoResponse::into_response),
        Err(cause) => problem::panicked(cause),
    };
    room.cross_origin.mark(&head.headers, response.headers_mut());
    if head.method == Method::HEAD { without_body(response) } else { response }
}

async fn admitted(
    room: &Arc<Room>,
    caller: &Caller,
    head: &Parts,
    place: Option<Place<'_>>,
) -> Answer<Response> {
    let token = access::admit(room, head)?;
    let place = place.ok_or_else(|| access::nothing(&head.uri))?;
    if ![Method::GET, Method::HEAD].contains(&head.method) {
        let refused = problem::method_not_allowed(&head.method, &head.uri);
        return Err(refused.header(ALLOW, HeaderValue::from_static("GET,HEAD")));
    }
    let mut response = found(room, caller, head, token.as_deref(), place).await?;
    access::keep_private(room, response.headers_mut());
    Ok(response)
}

async fn found(
    room: &Arc<Room>,
    caller: &Caller,
    head: &Parts,
    token: Option<&str>,
    place: Place<'_>,
) -> Answer<Response> {
    match place {
        Place::Output { job, path } => {
            // A job whose id is no text is as unknown as any other.
            let (job, path) = decoded(job, path).unwrap_or_default();
            stream::file(room, &caller.passage, head, token, (&job, &path)).await
        }
        Place::Source { root, path } => {
            let (root, path) = decoded(root, path).ok_or_else(|| {
                Problem::not_found("not_found", "the path is not UTF-8: nothing here has such a name")
            })?;
            vod::get(room, caller.address, head, token, (&root, &path)).await
        }
    }
}

/// Decoded once: what is encoded twice stays encoded once.
fn decoded<'a>(first: &'a str, path: &'a str) -> Option<(Cow<'a, str>, Cow<'a, str>)> {
    let decode = |part: &'a str| percent_decode_str(part).decode_utf8().ok();
    Some((decode(first)?, decode(path)?))
}

/// The answer to `HEAD`: the length is told of what is not sent. That of a 304 would be the representation's
/// (RFC 9110, section 8.6), and is left out.
fn without_body(mut response: Response) -> Response {
    let has_body = response.status() != StatusCode::NOT_MODIFIED;
    let len = response.body().size_hint().exact().filter(|_| has_body);
    let headers = response.headers_mut();
    if let Some(len) = len.filter(|_| !headers.contains_key(CONTENT_LENGTH)) {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(len));
    }
    *response.body_mut() = Body::empty();
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_a_top_a_name_and_something_below() {
        let output = |job, path| Some(Place::Output { job, path });
        assert_eq!(Place::of("/stream/a/b.ts"), output("a", "b.ts"));
        assert_eq!(Place::of("/stream/a/b/c//d%2Fe.ts"), output("a", "b/c//d%2Fe.ts"));
        let source = Some(Place::Source { root: "media", path: "a b/f.mkv/master.m3u8" });
        assert_eq!(Place::of("/vod/media/a b/f.mkv/master.m3u8"), source);
        for nothing in
            ["/stream", "/stream/", "/stream/a", "/stream/a/", "/stream//b", "/vod/media", "/a/b/c", ""]
        {
            assert_eq!(Place::of(nothing), None, "{nothing}");
        }
    }

    #[test]
    fn names_are_decoded_once_and_have_to_be_text() {
        let pair = decoded("a%20b", "c%252F/%C3%A9.ts").unwrap();
        assert_eq!((&*pair.0, &*pair.1), ("a b", "c%2F/é.ts"));
        assert!(decoded("%FF", "x").is_none() && decoded("x", "%C3").is_none());
    }
}
