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
use axum::extract::Query;
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, AUTHORIZATION, CACHE_CONTROL, ORIGIN, VARY,
};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse, Response};

/// Whether a path belongs to media. All others are the control API's.
pub(in crate::http) fn is_media(path: &str) -> bool {
    ["/stream", "/vod"].iter().any(|top| {
        let rest = path.strip_prefix(top);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    })
}

/// `Cache-Control` of what never changes, where only who shows the token may have it: no proxy keeps it.
const PRIVATE: HeaderValue = HeaderValue::from_static("private, max-age=31536000, immutable");

/// What a page may send, and may read of the answer, without being asked for each (Fetch standard, 3.2).
const SENT: HeaderValue = HeaderValue::from_static(
    "range,content-type,accept-encoding,authorization,if-none-match,if-modified-since,if-range",
);
const READ: HeaderValue =
    HeaderValue::from_static("content-length,content-range,accept-ranges,etag,date,retry-after");
/// For how many seconds a browser may remember what it was allowed.
const REMEMBERED_S: HeaderValue = HeaderValue::from_static("3600");

/// CORS: which pages may read media. It stands on every answer, refusals included.
pub(in crate::http) struct CrossOrigin {
    /// `None`: all of them.
    pages: Option<Vec<HeaderValue>>,
}

impl CrossOrigin {
    pub(in crate::http) fn new(origins: &[String]) -> Self {
        let listed = || origins.iter().filter_map(|origin| HeaderValue::try_from(origin).ok()).collect();
        Self { pages: (!origins.iter().any(|origin| origin == "*")).then(listed) }
    }

    /// The answer to a page that asks for leave: nothing but the headers.
    pub(in crate::http) fn preflight(&self, asked: &HeaderMap) -> Response {
        let mut response = StatusCode::NO_CONTENT.into_response();
        let headers = response.headers_mut();
        self.allow(asked, headers);
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET,HEAD"));
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, SENT);
        headers.insert(ACCESS_CONTROL_MAX_AGE, REMEMBERED_S);
        response
    }

    /// What every other answer says.
    pub(in crate::http) fn mark(&self, asked: &HeaderMap, headers: &mut HeaderMap) {
        self.allow(asked, headers);
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, READ);
    }

    fn allow(&self, asked: &HeaderMap, headers: &mut HeaderMap) {
        let policy = HeaderName::from_static("cross-origin-resource-policy");
        headers.insert(policy, HeaderValue::from_static("cross-origin"));
        match &self.pages {
            None => {
                headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
            }
            Some(pages) => {
                // With one answer for everybody nothing depends on who asks; here it does.
                headers.append(VARY, HeaderValue::from(ORIGIN));
                if let Some(page) = asked.get(ORIGIN).filter(|page| pages.contains(page)) {
                    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, page.clone());
                }
            }
        }
    }
}

/// Whether a request is let in. `Some`: the token that came in the query and is right, for [`super::with_token`];
/// `None` where the node wants none, or it came in the header: a player that can set headers sets them each time.
pub(in crate::http) fn admit(room: &Room, head: &Parts) -> Answer<Option<String>> {
    guard::size(head)?;
    room.settings.http.stream_token.as_ref().map_or(Ok(None), |token| shown(token, head))
}

/// With a token no proxy keeps what it was shown for.
pub(in crate::http) fn keep_private(room: &Room, headers: &mut HeaderMap) {
    if room.settings.http.stream_token.is_some() && headers.get(CACHE_CONTROL) == Some(&IMMUTABLE) {
        headers.insert(CACHE_CONTROL, PRIVATE);
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
pub(in crate::http) fn nothing(uri: &Uri) -> Problem {
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
