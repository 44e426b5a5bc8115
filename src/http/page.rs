//! The page at `/`: for people with a browser.
//!
//! What enters: a request for the page or one of the files that it consists of. What leaves: these bytes,
//! which lie in the program. Nothing in them is secret, so they want no token; the page asks for it and
//! sends it with what it asks of the API. What must not live here: anything about the node. The page says
//! nothing that a call of the API does not.
//!
//! The browser is told to take scripts from here only, none from inside the page, and to send nothing
//! elsewhere: names of files come from whoever could write them.

use super::Room;
use axum::Router;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

/// hls.js makes its workers of blobs, and shows what it has made of segments as one.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
    img-src data:; media-src 'self' blob:; worker-src blob:; base-uri 'none'; form-action 'none'; \
    frame-ancestors 'none'";

struct File {
    path: &'static str,
    content_type: &'static str,
    body: &'static [u8],
    /// Its path changes with its bytes.
    immutable: bool,
}

static FILES: [File; 4] = [
    File {
        path: "/",
        content_type: "text/html; charset=utf-8",
        body: include_bytes!("page/index.html"),
        immutable: false,
    },
    File {
        path: "/assets/page.js",
        content_type: "text/javascript; charset=utf-8",
        body: include_bytes!("page/page.js"),
        immutable: false,
    },
    File {
        path: "/assets/page.css",
        content_type: "text/css; charset=utf-8",
        body: include_bytes!("page/page.css"),
        immutable: false,
    },
    // The version in the path is the one in vendor/README.md, and stands in index.html too.
    File {
        path: "/assets/hls-1.7.4.js",
        content_type: "text/javascript; charset=utf-8",
        body: include_bytes!("../../vendor/hls.js/hls.light.min.js"),
        immutable: true,
    },
];

/// Whether something is part of the page.
pub(super) fn is_part(path: &str) -> bool {
    FILES.iter().any(|file| file.path == path)
}

/// The page. It is not part of the API, so the OpenAPI document does not have it.
pub(super) fn routes() -> Router<Arc<Room>> {
    FILES.iter().fold(Router::new(), |router, file| {
        router.route(file.path, get(move |headers: HeaderMap| async move { answer(file, &headers) }))
    })
}

fn answer(file: &File, request: &HeaderMap) -> Response {
    let cache = if file.immutable { "public, max-age=31536000, immutable" } else { "no-cache" };
    let tag = tag(file.body);
    let fixed = |text| HeaderValue::from_static(text);
    let mut headers = HeaderMap::from_iter([
        (CONTENT_TYPE, fixed(file.content_type)),
        (CACHE_CONTROL, fixed(cache)),
        (CONTENT_SECURITY_POLICY, fixed(POLICY)),
        (X_CONTENT_TYPE_OPTIONS, fixed("nosniff")),
        (X_FRAME_OPTIONS, fixed("DENY")),
        (REFERRER_POLICY, fixed("no-referrer")),
        (HeaderName::from_static("cross-origin-opener-policy"), fixed("same-origin")),
        (HeaderName::from_static("cross-origin-resource-policy"), fixed("same-origin")),
    ]);
    let known = request.get(IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    let is_known =
        known.is_some_and(|tags| tags.split(',').any(|t| t.trim().trim_start_matches("W/") == tag));
    headers.extend(HeaderValue::from_str(&tag).ok().map(|tag| (ETAG, tag)));
    if is_known {
        headers.remove(CONTENT_TYPE);
        return (StatusCode::NOT_MODIFIED, headers).into_response();
    }
    (headers, file.body).into_response()
}

fn tag(body: &[u8]) -> String {
    let mut hasher = DefaultHasher::new();
    body.hash(&mut hasher);
    format!("\"{:016x}\"", hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(path: &str) -> &'static str {
        let file = FILES.iter().find(|file| file.path == path).unwrap();
        std::str::from_utf8(file.body).unwrap()
    }

    #[test]
    fn the_page_names_only_files_that_there_are() {
        let named: Vec<_> = text("/").split('"').filter(|part| part.starts_with("/assets/")).collect();
        assert_eq!(named.len(), 3);
        assert!(named.iter().all(|path| is_part(path)), "{named:?}");
        assert!(!is_part("/jobs") && !is_part("/assets") && !is_part("/assets/"));
    }

    #[test]
    fn the_player_is_the_version_that_its_path_and_the_list_say() {
        let file = FILES.iter().find(|file| file.immutable).unwrap();
        let version = file.path.trim_start_matches("/assets/hls-").trim_end_matches(".js");
        assert!(text(file.path).contains(&format!("\"{version}\"")));
        let list = concat!(env!("CARGO_MANIFEST_DIR"), "/vendor/README.md");
        assert!(std::fs::read_to_string(list).unwrap().contains(&format!("hls.js | {version}")));
    }

    #[test]
    fn nothing_on_the_page_needs_a_policy_that_is_less_strict() {
        let (html, script) = (text("/"), text("/assets/page.js"));
        for inline in ["onclick=", "onload=", "style=", "javascript:", "<style"] {
            assert!(!html.contains(inline), "{inline}");
        }
        assert_eq!(html.matches("<script").count(), html.matches("<script type=\"module\" src=").count());
        for unsafe_sink in
            ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"]
        {
            assert!(!script.contains(unsafe_sink), "{unsafe_sink}");
        }
    }
}
