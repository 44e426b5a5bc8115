//! What handlers get: bodies, ids and query values that are sound, or the problem with them.
//!
//! What enters: a request. What leaves: bytes of JSON that are within their limits, names that can be
//! asked for, values in their range. Nothing here knows what a job is, apart from how its id looks.

use super::problem::{Answer, Problem};
use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, Query, RawPathParams, Request};
use axum::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, EXPECT};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, Uri};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use std::time::Duration;
use tokio::time::timeout;

/// The largest body.
pub(super) const MAX_BODY_BYTES: usize = 1 << 20;
/// So much of a larger body is read and thrown away: a client that is cut off while it still sends may
/// never see the answer.
const MAX_DRAINED_BYTES: usize = 4 << 20;
/// A body has to be here within this time.
const BODY_TIME: Duration = Duration::from_secs(10);

/// The length of a page where nobody says.
pub(super) const DEFAULT_LIMIT: usize = 50;
/// The longest page.
pub(super) const MAX_LIMIT: usize = 200;
/// The longest `after`, in characters. A file's name has 255 bytes at most.
const MAX_AFTER_CHARS: usize = 255;

/// A body of `application/json`. Whether it is JSON is for its reader to find out.
pub(super) struct JsonBytes(pub(super) Bytes);

impl<S: Send + Sync> FromRequest<S> for JsonBytes {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Answer<Self> {
        let (head, body) = request.into_parts();
        is_json(&head.headers)?;
        let announced = head.headers.get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<usize>().ok());
        if head.headers.contains_key(EXPECT) && announced.is_some_and(|bytes| bytes > MAX_BODY_BYTES) {
            // It waits for a sign to go on, which it gets as soon as anybody reads.
            return Err(too_large());
        }
        match timeout(BODY_TIME, read(body)).await {
            Ok(read) => read.map(Self),
            Err(_) => {
                let detail = format!("the body was not here within {} s", BODY_TIME.as_secs());
                Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "body_timeout", detail))
            }
        }
    }
}

async fn read(body: Body) -> Answer<Bytes> {
    let mut stream = body.into_data_stream();
    let mut kept = BytesMut::new();
    let mut total = 0_usize;
    while let Some(part) = stream.next().await {
        let part = part.map_err(|e| Problem::bad_request("bad_body", format!("the body broke off: {e}")))?;
        total = total.saturating_add(part.len());
        if total <= MAX_BODY_BYTES {
            kept.extend_from_slice(&part);
        } else if total > MAX_DRAINED_BYTES {
            break;
        }
    }
    if total > MAX_BODY_BYTES { Err(too_large()) } else { Ok(kept.freeze()) }
}

fn too_large() -> Problem {
    let detail = format!("the body has more than {MAX_BODY_BYTES} bytes");
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", detail)
}

/// Refuses what a form or a plain script of another page can send, and what cannot be read.
fn is_json(headers: &HeaderMap) -> Answer<()> {
    let mut kinds = headers.get_all(CONTENT_TYPE).iter();
    let kind = kinds.next().filter(|_| kinds.next().is_none()).and_then(|kind| kind.to_str().ok());
    let unsupported = |detail: &str| {
        Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", detail))
    };
    if !kind.is_some_and(is_json_type) {
        return unsupported("the body has to be Content-Type: application/json, in UTF-8");
    }
    match headers.get(CONTENT_ENCODING) {
        Some(encoding) if !encoding.as_bytes().eq_ignore_ascii_case(b"identity") => {
            unsupported("the body has to be sent as it is, without Content-Encoding")
        }
        _ => Ok(()),
    }
}

fn is_json_type(kind: &str) -> bool {
    let mut parts = kind.split(';').map(str::trim);
    let essence = parts.next().unwrap_or_default();
    // JSON is UTF-8 (RFC 8259), and parameters other than a charset mean nothing.
    let utf8 = parts.all(|parameter| match parameter.split_once('=') {
        Some((name, value)) if name.eq_ignore_ascii_case("charset") => {
            value.trim_matches('"').eq_ignore_ascii_case("utf-8")
        }
        _ => true,
    });
    essence.eq_ignore_ascii_case("application/json") && utf8
}

/// The values of the path's parameters, decoded once. `None` where they are not UTF-8.
async fn parameters<S: Send + Sync>(head: &mut Parts, state: &S) -> Option<RawPathParams> {
    RawPathParams::from_request_parts(head, state).await.ok()
}

fn value<'a>(parameters: Option<&'a RawPathParams>, name: &str) -> Option<&'a str> {
    parameters?.iter().find(|(key, _)| *key == name).map(|(_, value)| value)
}

/// The id of a job, from the path. One that no job can have is as unknown as any other.
pub(super) struct JobId(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for JobId {
    type Rejection = Problem;

    async fn from_request_parts(head: &mut Parts, state: &S) -> Answer<Self> {
        let parameters = parameters(head, state).await;
        let id = value(parameters.as_ref(), "id").unwrap_or_default();
        if is_job_id(id) { Ok(Self(id.to_owned())) } else { Err(Problem::no_such_job(id)) }
    }
}

/// What [`crate::model::document::JobDocument::id`] allows.
pub(super) fn is_job_id(id: &str) -> bool {
    let ok = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    (1..=64).contains(&id.len()) && !id.starts_with('.') && id.chars().all(ok)
}

/// A root and a path in it, decoded; the path is empty for the root itself.
pub(super) struct Folder {
    pub(super) root: String,
    pub(super) path: String,
}

impl<S: Send + Sync> FromRequestParts<S> for Folder {
    type Rejection = Problem;

    async fn from_request_parts(head: &mut Parts, state: &S) -> Answer<Self> {
        let parameters = parameters(head, state).await.ok_or_else(|| {
            Problem::not_found("not_found", "the path is not UTF-8: nothing here has such a name")
        })?;
        let owned = |name| value(Some(&parameters), name).unwrap_or_default().to_owned();
        Ok(Self { root: owned("root"), path: owned("path") })
    }
}

/// Which part of a list.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Page {
    /// At most so many: 1 to [`MAX_LIMIT`].
    pub(super) limit: usize,
    /// What the page before ended with.
    pub(super) after: Option<String>,
}

/// The values of a query. Each name may be there once, and none that `known` does not list.
pub(super) struct Values {
    pairs: Vec<(String, String)>,
    faults: Vec<String>,
}

impl Values {
    pub(super) fn of(uri: &Uri, known: &[&str]) -> Self {
        let pairs = Query::<Vec<(String, String)>>::try_from_uri(uri);
        let (pairs, mut faults) = match pairs {
            Ok(Query(pairs)) => (pairs, Vec::new()),
            Err(e) => (Vec::new(), vec![e.body_text()]),
        };
        for (place, (name, _)) in pairs.iter().enumerate() {
            let shown = name.escape_debug();
            if !known.contains(&name.as_str()) {
                faults.push(format!("{shown} is unknown, there are: {}", known.join(", ")));
            } else if pairs.iter().take(place).any(|(earlier, _)| earlier == name) {
                faults.push(format!("{shown} is there twice"));
            }
        }
        Self { pairs, faults }
    }

    /// A value, if it is there and `read` makes something of it. `expected` says what would be right.
    pub(super) fn take<T>(
        &mut self,
        name: &str,
        expected: &str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let (_, text) = self.pairs.iter().find(|(key, _)| key == name)?;
        let value = read(text);
        if value.is_none() {
            self.faults.push(format!("{name} has to be {expected}"));
        }
        value
    }

    /// `limit` and `after`.
    pub(super) fn page(&mut self) -> Page {
        let expected = format!("a whole number from 1 to {MAX_LIMIT}");
        let limit = self.take("limit", &expected, whole).unwrap_or(DEFAULT_LIMIT);
        let expected = format!("what `next` said, 1 to {MAX_AFTER_CHARS} characters");
        let fits =
            |text: &str| (1..=MAX_AFTER_CHARS).contains(&text.chars().count()).then(|| text.to_owned());
        Page { limit, after: self.take("after", &expected, fits) }
    }

    /// All that is wrong, at once.
    pub(super) fn finish(self) -> Answer<()> {
        if self.faults.is_empty() {
            return Ok(());
        }
        Err(Problem::bad_request("bad_query", format!("in the query, {}", self.faults.join("; "))))
    }
}

/// Digits and nothing else: no sign, no fraction.
fn whole(text: &str) -> Option<usize> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|number| digits && (1..=MAX_LIMIT).contains(number))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn page(query: &str) -> Result<Page, String> {
        let uri: Uri = format!("/jobs{query}").parse().unwrap();
        let mut values = Values::of(&uri, &["limit", "after"]);
        let page = values.page();
        values.finish().map(|()| page).map_err(|problem| {
            assert_eq!(problem.told(), (400, "bad_query"));
            format!("{problem:?}")
        })
    }

    #[test]
    fn a_page_has_its_limits() {
        let of = |limit, after: Option<&str>| Page { limit, after: after.map(str::to_owned) };
        assert_eq!(page(""), Ok(of(50, None)));
        assert_eq!(page("?"), Ok(of(50, None)));
        assert_eq!(page("?limit=1&after=a%20b%2Bc+d"), Ok(of(1, Some("a b+c d"))));
        assert_eq!(page("?limit=200"), Ok(of(200, None)));
        assert_eq!(page("?limit=007"), Ok(of(7, None)));
        for bad in ["0", "201", "-1", "%2B1", "1.0", "", "x", "99999999999999999999999", "%201", "\u{0661}"] {
            let told = page(&format!("?limit={}", bad.replace('\u{0661}', "%D9%A1"))).unwrap_err();
            assert!(told.contains("limit has to be a whole number from 1 to 200"), "{bad}: {told}");
        }
        assert!(page("?after=").is_err());
        assert!(page(&format!("?after={}", "a".repeat(255))).is_ok());
        assert!(page(&format!("?after={}", "a".repeat(256))).is_err());
    }

    #[test]
    fn every_fault_of_a_query_is_told_at_once() {
        let told = page("?limit=0&limit=1&size=3&after=").unwrap_err();
        for part in ["limit is there twice", "size is unknown, there are: limit, after", "after has to be"] {
            assert!(told.contains(part), "{part} is missing in {told}");
        }
    }

    #[test]
    fn ids_are_those_of_the_document() {
        for good in ["a", "movie-42", "A.b_c-9", "-", "_", &"x".repeat(64)] {
            assert!(is_job_id(good), "{good}");
        }
        for bad in ["", ".", "..", ".a", "a/b", "a b", "ä", "a\0", &"x".repeat(65)] {
            assert!(!is_job_id(bad), "{bad:?}");
        }
    }

    #[test]
    fn only_json_in_utf_8_will_do() {
        let judge = |headers: &[(&'static str, &'static str)]| {
            let mut map = HeaderMap::new();
            headers.iter().for_each(|(name, value)| {
                map.append(*name, HeaderValue::from_static(value));
            });
            is_json(&map).map_err(|problem| problem.told())
        };
        let refused = Err((415, "unsupported_media_type"));
        for good in [
            "application/json",
            "Application/JSON",
            "application/json; charset=utf-8",
            "application/json;charset=\"UTF-8\"",
            "application/json; x=y",
        ] {
            assert_eq!(judge(&[("content-type", good)]), Ok(()), "{good}");
        }
        for bad in [
            "text/plain",
            "application/json, text/plain",
            "application/x-www-form-urlencoded",
            "text/plain; application/json",
            "application/jsonp",
            "application/merge-patch+json",
            "application/json; charset=latin1",
            "",
        ] {
            assert_eq!(judge(&[("content-type", bad)]), refused, "{bad}");
        }
        assert_eq!(judge(&[]), refused);
        assert_eq!(judge(&[("content-type", "application/json"), ("content-type", "text/plain")]), refused);
        assert_eq!(judge(&[("content-type", "application/json"), ("content-encoding", "gzip")]), refused);
    }
}
