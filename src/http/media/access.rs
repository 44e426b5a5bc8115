//! Who may have media, and from which page.
//!
//! What enters: the head of a request for media. What leaves: yes, or the problem with it. Media is for
//! players on TVs and in other people's pages, so none of the control API's rules about `Host` and
//! `Origin` hold here: CORS says which pages may read what they get, and where the node has a stream token
//! every request has to show it, in the header or, where a player can set none, in the query.

use super::super::Room;
use super::super::guard;
use super::super::problem::{Answer, Problem};
use super::IMMUTABLE;
use crate::config::settings::Secret;
use axum::extract::{FromRequestParts, Query, Request, State};
use axum::http::header::{
    ACCEPT_ENCODING, ACCEPT_RANGES, AUTHORIZATION, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE,
    CONTENT_TYPE, DATE, ETAG, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, ORIGIN, RANGE, RETRY_AFTER,
};
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tower_http::cors::{AllowOrigin, CorsLayer};

/// Whether a path belongs to media. All others are the control API's.
pub(in crate::http) fn is_media(path: &str) -> bool {
    ["/stream", "/vod"].iter().any(|top| {
        let rest = path.strip_prefix(top);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    })
}

/// For how long a browser may remember what it was allowed.
const PREFLIGHT_AGE: Duration = Duration::from_secs(3600);
/// `Cache-Control` of what never changes, where only who shows the token may have it: no proxy keeps it.
const PRIVATE: HeaderValue = HeaderValue::from_static("private, max-age=31536000, immutable");

/// The outermost layer but for the log: CORS on every answer, refusals included.
pub(in crate::http) fn cross_origin(origins: &[String]) -> CorsLayer {
    let open = origins.iter().any(|origin| origin == "*");
    let allowed = if open {
        AllowOrigin::any()
    } else {
        AllowOrigin::list(origins.iter().filter_map(|origin| HeaderValue::try_from(origin).ok()))
    };
    // With one answer for everybody nothing depends on who asks.
    let varies: &[HeaderName] = if open { &[] } else { &[ORIGIN] };
    CorsLayer::new()
        .allow_origin(allowed)
        .allow_methods([Method::GET, Method::HEAD])
        .allow_headers([
            RANGE,
            CONTENT_TYPE,
            ACCEPT_ENCODING,
            AUTHORIZATION,
            IF_NONE_MATCH,
            IF_MODIFIED_SINCE,
            IF_RANGE,
        ])
        .expose_headers([CONTENT_LENGTH, CONTENT_RANGE, ACCEPT_RANGES, ETAG, DATE, RETRY_AFTER])
        .max_age(PREFLIGHT_AGE)
        .vary(varies.to_vec())
}

/// What all media answers have, around CORS: a preflight has no body, and says so.
pub(in crate::http) async fn finish(request: Request, next: Next) -> Response {
    let preflight = request.method() == Method::OPTIONS;
    let mut response = next.run(request).await;
    if preflight && response.status() == StatusCode::OK {
        *response.status_mut() = StatusCode::NO_CONTENT;
    }
    let policy = HeaderName::from_static("cross-origin-resource-policy");
    response.headers_mut().insert(policy, HeaderValue::from_static("cross-origin"));
    response
}

/// The layer that lets a request in.
pub(in crate::http) async fn admit(State(room): State<Arc<Room>>, request: Request, next: Next) -> Response {
    let (mut head, body) = request.into_parts();
    let token = room.settings.http.stream_token.as_ref();
    let shown = match guard::size(&head).and_then(|()| token.map_or(Ok(None), |token| shown(token, &head))) {
        Ok(shown) => shown,
        Err(problem) => return problem.into_response(),
    };
    head.extensions.insert(StreamToken(shown));
    let mut response = next.run(Request::from_parts(head, body)).await;
    let headers = response.headers_mut();
    if token.is_some() && headers.get(CACHE_CONTROL) == Some(&IMMUTABLE) {
        headers.insert(CACHE_CONTROL, PRIVATE);
    }
    response
}

/// The token that came in the query and is right, for [`super::with_token`]. `None` where the node wants
/// none, or it came in the header: a player that can set headers sets them each time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::http) struct StreamToken(pub(in crate::http) Option<String>);

impl<S: Send + Sync> FromRequestParts<S> for StreamToken {
    type Rejection = Infallible;

    async fn from_request_parts(head: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(head.extensions.get::<Self>().cloned().unwrap_or_default())
    }
}

/// Where the token was shown: what the query had, if it was there.
fn shown(token: &Secret, head: &Parts) -> Answer<Option<String>> {
    if guard::bearer_token(&head.headers).is_some_and(|given| token.matches(given)) {
        return Ok(None);
    }
    match in_query(&head.uri) {
        Some(given) if token.matches(given.as_bytes()) => Ok(Some(given)),
        given => {
            let wrong = given.is_some() || head.headers.contains_key(AUTHORIZATION);
            Err(guard::unauthorized(
                wrong,
                "send Authorization: Bearer TOKEN, or ?token=TOKEN, with the node's stream token",
            ))
        }
    }
}

/// The one `token` of a query.
fn in_query(uri: &Uri) -> Option<String> {
    let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(uri).ok()?;
    let mut tokens = pairs.into_iter().filter(|(name, _)| name == "token").map(|(_, value)| value);
    tokens.next().filter(|_| tokens.next().is_none())
}

/// The answer where no call has this path.
pub(in crate::http) async fn nothing(uri: Uri) -> Problem {
    let detail = format!("no media lies at {}; /openapi.json lists what there is", uri.path());
    Problem::not_found("no_such_path", detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(target: &str, authorization: Option<&str>) -> Result<Option<String>, (u16, &'static str)> {
        let mut request = axum::http::Request::builder().uri(target);
        if let Some(value) = authorization {
            request = request.header(AUTHORIZATION, value);
        }
        let head = request.body(()).unwrap().into_parts().0;
        shown(&Secret::new("s/& t"), &head).map_err(|problem| problem.told())
    }

    #[test]
    fn the_token_is_taken_from_header_or_query_and_only_the_query_is_passed_on() {
        let in_query = Ok(Some("s/& t".to_owned()));
        assert_eq!(told("/stream/a/b.ts", Some("Bearer s/& t")), Ok(None));
        assert_eq!(told("/stream/a/b.ts?token=s%2F%26%20t", None), in_query);
        assert_eq!(told("/stream/a/b.ts?x=1&token=s%2F%26+t&y", Some("Bearer wrong")), in_query);
        assert_eq!(told("/stream/a/b.ts?token=wrong", Some("Bearer s/& t")), Ok(None));
        let refused = Err((401, "unauthorized"));
        for target in
            ["", "?token=", "?token=wrong", "?token=s%2F%26%20t&token=s%2F%26%20t", "?TOKEN=s%2F%26%20t"]
        {
            assert_eq!(told(&format!("/stream/a/b.ts{target}"), None), refused, "{target}");
        }
        assert_eq!(told("/stream/a/b.ts", Some("Basic s/& t")), refused);
    }

    #[test]
    fn media_has_its_own_paths() {
        for media in ["/stream", "/stream/", "/stream/a/b", "/vod", "/vod/m/film.mkv/master.m3u8"] {
            assert!(is_media(media), "{media}");
        }
        for control in ["/", "/streams", "/stream.ts", "/vodka", "/jobs/stream/", "/%73tream/a", "//stream/a"]
        {
            assert!(!is_media(control), "{control}");
        }
    }
}
