//! Who may ask: the rules for every request, before any handler sees it.
//!
//! What enters: the head of a request. What leaves: yes, or the problem with it. A person's browser can
//! reach a node on the loopback interface, so that any web page could drive it; three rules keep pages
//! out, and nothing here sends a CORS header:
//!
//! - A request that carries an `Origin` other than the node's own is refused (403). Browsers send it
//!   with everything that changes something.
//! - Without a token, `Host` has to name this machine: a loopback address, `localhost`, the address that
//!   the node listens on, its id or its host name (403). A page whose own name was made to point here
//!   (DNS rebinding) asks with that name. With a token any `Host` will do: no page knows the token, and
//!   names given by proxies and containers cannot be known here.
//! - Bodies have to be `application/json` (`extract`), which a form cannot send.
//!
//! With a token every call but `/healthz` and `/readyz` wants it, paths that do not exist included. The page
//! at `/` does not: it holds nothing, and asks for the token.

use super::Room;
use super::page;
use super::problem::{Answer, Problem};
use crate::config::settings::{Secret, Settings};
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, HOST, ORIGIN, WWW_AUTHENTICATE};
use axum::http::request::Parts;
use axum::http::uri::{Authority, Uri};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::net::IpAddr;
use std::sync::Arc;

/// Calls that need no token: what container platforms ask.
pub(super) const OPEN: [&str; 2] = ["/healthz", "/readyz"];

/// The longest request target. The parser behind it takes a little more, so that this can be told.
const MAX_TARGET_BYTES: usize = 8 * 1024;
/// The most that all header lines may hold together.
const MAX_HEADER_BYTES: usize = 24 * 1024;

/// The rules with this node's names and token.
pub(super) struct Guard {
    token: Option<Secret>,
    listen: IpAddr,
    /// In lower case.
    names: Vec<String>,
}

/// The layer.
pub(super) async fn check(State(room): State<Arc<Room>>, request: Request, next: Next) -> Response {
    let (head, body) = request.into_parts();
    match room.guard.judge(&head) {
        Ok(()) => next.run(Request::from_parts(head, body)).await,
        Err(problem) => problem.into_response(),
    }
}

impl Guard {
    pub(super) fn new(settings: &Settings) -> Self {
        let host_name = rustix::system::uname().nodename().to_string_lossy().to_lowercase();
        let names = ["localhost".into(), settings.node.id.to_lowercase(), host_name];
        Self {
            token: settings.http.control_token.clone(),
            listen: settings.http.listen.ip(),
            names: names.into_iter().filter(|name| !name.is_empty()).collect(),
        }
    }

    fn judge(&self, head: &Parts) -> Answer<()> {
        size(head)?;
        let host = host(head)?;
        if self.token.is_none() && !self.is_ours(&host) {
            let detail = format!("this node is not called {host}; use localhost, its address or its id");
            return Err(Problem::new(StatusCode::FORBIDDEN, "foreign_host", detail));
        }
        if !is_own_origin(&head.headers, &host) {
            let detail = "web pages of others may not drive this node: the request carries their Origin";
            return Err(Problem::new(StatusCode::FORBIDDEN, "foreign_origin", detail));
        }
        match &self.token {
            Some(token) if !is_open(head.uri.path()) => shown(token, &head.headers),
            _ => Ok(()),
        }
    }

    fn is_ours(&self, host: &Authority) -> bool {
        let name = host.host();
        let bare = name.strip_prefix('[').and_then(|n| n.strip_suffix(']')).unwrap_or(name);
        match bare.parse::<IpAddr>() {
            Ok(address) => address.to_canonical().is_loopback() || address == self.listen,
            Err(_) => {
                let name = name.strip_suffix('.').unwrap_or(name).to_lowercase();
                self.names.contains(&name)
            }
        }
    }
}

fn is_open(path: &str) -> bool {
    OPEN.contains(&path) || page::is_part(path)
}

/// Whether target and header lines are within their limits.
pub(super) fn size(head: &Parts) -> Answer<()> {
    let target = head.uri.path_and_query().map_or(0, |target| target.as_str().len());
    if target > MAX_TARGET_BYTES {
        let detail = format!("the path and query have {target} bytes, of at most {MAX_TARGET_BYTES}");
        return Err(Problem::new(StatusCode::URI_TOO_LONG, "uri_too_long", detail));
    }
    let headers: usize = head.headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    if headers > MAX_HEADER_BYTES {
        let detail = format!("the header lines have {headers} bytes, of at most {MAX_HEADER_BYTES}");
        let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        return Err(Problem::new(status, "headers_too_large", detail));
    }
    Ok(())
}

/// The one value of a header; `None` where there is not exactly one.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())
}

/// What the request calls this node. An absolute request target is as good as `Host`, and beats it
/// (RFC 9112, section 3.2.2).
fn host(head: &Parts) -> Answer<Authority> {
    let in_header = only(&head.headers, &HOST).and_then(|value| value.to_str().ok()?.parse().ok());
    let named: Option<Authority> = match (head.uri.authority(), head.headers.contains_key(HOST)) {
        (Some(in_target), false) => Some(in_target.clone()),
        (Some(in_target), true) => in_header.map(|_| in_target.clone()),
        (None, _) => in_header,
    };
    named
        .filter(is_sound)
        .ok_or_else(|| Problem::bad_request("bad_host", "the request needs one Host header with a name"))
}

/// A name and perhaps a port: no user, and no port that is none, which the parser lets through.
fn is_sound(host: &Authority) -> bool {
    let name = host.host();
    match host.as_str().strip_prefix(name).filter(|_| !name.is_empty()) {
        None => false,
        Some("" | ":") => true,
        Some(port) => port.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok()),
    }
}

/// Whether there is no `Origin`, or one that is the very place that was asked.
fn is_own_origin(headers: &HeaderMap, host: &Authority) -> bool {
    if !headers.contains_key(ORIGIN) {
        return true;
    }
    let origin = only(headers, &ORIGIN).and_then(|value| value.to_str().ok()?.parse::<Uri>().ok());
    let Some(origin) = origin else { return false };
    let default_port = match origin.scheme_str() {
        Some("http") => 80,
        Some("https") => 443,
        _ => return false,
    };
    origin.authority().is_some_and(|theirs| {
        theirs.host().eq_ignore_ascii_case(host.host())
            && theirs.port_u16().unwrap_or(default_port) == host.port_u16().unwrap_or(default_port)
    })
}

fn shown(token: &Secret, headers: &HeaderMap) -> Answer<()> {
    if bearer_token(headers).is_some_and(|given| token.matches(given)) {
        return Ok(());
    }
    let what = "send the header Authorization: Bearer TOKEN with the node's control token";
    Err(unauthorized(headers.contains_key(AUTHORIZATION), what))
}

/// 401. `wrong`: a token was there, but not the right one; else `what` says what to do.
pub(super) fn unauthorized(wrong: bool, what: &str) -> Problem {
    let (detail, challenge) = match wrong {
        true => ("the token is not that of this node", "Bearer error=\"invalid_token\""),
        false => (what, "Bearer"),
    };
    let problem = Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", detail);
    problem.header(WWW_AUTHENTICATE, HeaderValue::from_static(challenge))
}

/// The bearer token of the one `Authorization` header.
pub(super) fn bearer_token(headers: &HeaderMap) -> Option<&[u8]> {
    only(headers, &AUTHORIZATION).and_then(|value| bearer(value.as_bytes()))
}

/// The token of `Bearer TOKEN`. The scheme's case does not matter (RFC 9110, section 11.1).
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = value.split_at_checked("Bearer".len())?;
    let token = rest.trim_ascii();
    (scheme.eq_ignore_ascii_case(b"Bearer") && rest.starts_with(b" ") && !token.is_empty()).then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(token: &str) -> Guard {
        Guard {
            token: (!token.is_empty()).then(|| Secret::new(token)),
            listen: "192.0.2.7".parse().unwrap(),
            names: vec!["localhost".into(), "living-room".into()],
        }
    }

    fn head(target: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = axum::http::Request::builder().uri(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn told(guard: &Guard, target: &str, headers: &[(&str, &str)]) -> Option<(u16, &'static str)> {
        guard.judge(&head(target, headers)).err().map(|problem| problem.told())
    }

    #[test]
    fn without_a_token_only_this_machines_names_will_do() {
        let guard = guard("");
        for ours in [
            "localhost",
            "LocalHost:8080",
            "localhost.",
            "127.0.0.1:8080",
            "127.9.9.9",
            "[::1]:80",
            "[::ffff:127.0.0.1]",
            "192.0.2.7:8080",
            "living-room:1",
            "LIVING-ROOM",
        ] {
            assert_eq!(told(&guard, "/jobs", &[("host", ours)]), None, "{ours}");
        }
        for theirs in [
            "evil.example",
            "localhost.evil.example",
            "evil.localhost",
            "127.0.0.1.evil.example:8080",
            "0.0.0.0:8080",
            "192.0.2.8",
            "[::2]",
            "living-room.evil",
            "2130706433",
        ] {
            assert_eq!(told(&guard, "/jobs", &[("host", theirs)]), Some((403, "foreign_host")), "{theirs}");
        }
    }

    #[test]
    fn one_host_is_needed_and_an_absolute_target_counts() {
        let guard = guard("");
        let bad = Some((400, "bad_host"));
        assert_eq!(told(&guard, "/jobs", &[]), bad);
        assert_eq!(told(&guard, "/jobs", &[("host", "localhost"), ("host", "localhost")]), bad);
        for nonsense in ["", "a b", "user@localhost", "localhost:80x", "localhost:99999", ":80"] {
            assert_eq!(told(&guard, "/jobs", &[("host", nonsense)]), bad, "{nonsense:?}");
        }
        let absolute = "http://evil.example/jobs";
        assert_eq!(told(&guard, absolute, &[("host", "localhost")]), Some((403, "foreign_host")));
        assert_eq!(told(&guard, "http://localhost/jobs", &[]), None);
    }

    #[test]
    fn a_foreign_origin_is_refused_whatever_else_is_right() {
        let refused = Some((403, "foreign_origin"));
        for (host, origin, expected) in [
            ("localhost:8080", "http://localhost:8080", None),
            ("localhost:8080", "http://LOCALHOST:8080", None),
            ("localhost", "http://localhost", None),
            ("localhost", "http://localhost:80", None),
            ("localhost", "https://localhost", None),
            ("localhost:8080", "http://localhost:8081", refused),
            ("localhost:8080", "http://localhost", refused),
            ("localhost:8080", "http://127.0.0.1:8080", refused),
            ("localhost:8080", "https://evil.example", refused),
            ("localhost:8080", "null", refused),
            ("localhost:8080", "", refused),
            ("localhost:8080", "ftp://localhost:8080", refused),
            ("localhost:8080", "http://localhost:8080 http://evil.example", refused),
        ] {
            let headers = [("host", host), ("origin", origin), ("authorization", "Bearer t")];
            for guard in [guard(""), guard("t")] {
                assert_eq!(told(&guard, "/healthz", &headers), expected, "{host} from {origin:?}");
            }
        }
        let two = [("host", "localhost"), ("origin", "http://localhost"), ("origin", "http://evil.example")];
        assert_eq!(told(&guard(""), "/jobs", &two), refused);
    }

    #[test]
    fn a_token_is_wanted_everywhere_but_at_the_open_calls_and_the_page() {
        let guard = guard("s3cret");
        let host = ("host", "node.example");
        let refused = Some((401, "unauthorized"));
        for path in
            ["/jobs", "/metrics", "/openapi.json", "/nothing", "/healthz/", "/healthz/x", "/assets/", "//"]
        {
            assert_eq!(told(&guard, path, &[host]), refused, "{path}");
        }
        for path in OPEN.into_iter().chain(["/", "/assets/page.js"]) {
            assert_eq!(told(&guard, path, &[host]), None, "{path}");
        }
        for right in ["Bearer s3cret", "bearer s3cret", "BEARER   s3cret "] {
            assert_eq!(told(&guard, "/jobs", &[host, ("authorization", right)]), None, "{right}");
        }
        for wrong in ["Bearer s3creT", "Bearer", "Bearer ", "Bearers3cret", "Basic s3cret", "s3cret", ""] {
            assert_eq!(told(&guard, "/jobs", &[host, ("authorization", wrong)]), refused, "{wrong:?}");
        }
        let twice = [host, ("authorization", "Bearer s3cret"), ("authorization", "Bearer s3cret")];
        assert_eq!(told(&guard, "/jobs", &twice), refused);
    }

    #[test]
    fn oversized_heads_are_told_so() {
        let guard = guard("");
        let long = format!("/{}", "a".repeat(MAX_TARGET_BYTES));
        assert_eq!(told(&guard, &long, &[("host", "localhost")]), Some((414, "uri_too_long")));
        let fits = format!("/{}", "a".repeat(MAX_TARGET_BYTES - 1));
        assert_eq!(told(&guard, &fits, &[("host", "localhost")]), None);
        let heavy = "a".repeat(MAX_HEADER_BYTES);
        let headers = [("host", "localhost"), ("x", heavy.as_str())];
        assert_eq!(told(&guard, "/jobs", &headers), Some((431, "headers_too_large")));
    }
}
