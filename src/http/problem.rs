//! A refusal: RFC 9457 `application/problem+json`, with a stable code for programs.
//!
//! What enters: what went wrong. What leaves: a response. Every answer of the API from 400 on is made
//! here, but for requests that are not HTTP at all: those get a bare status from the parser. What a
//! fault of ours says stays in the log: whoever asks gets the code `internal` and no details.

use crate::base::error::{Error, ErrorKind};
use crate::model::document::DocumentFault;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use std::any::Any;
use utoipa::ToSchema;

/// The media type of a problem.
pub(super) const PROBLEM_TYPE: &str = "application/problem+json";

/// When to ask again where the cause may be gone by then: a disk, a mount.
const DISK_RETRY_S: u64 = 10;
/// When to ask again where the node is about to be replaced by a new process.
const STOPPING_RETRY_S: u64 = 5;

/// What a problem looks like (RFC 9457).
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub(super) struct ProblemBody<'a> {
    /// Always `about:blank`: programs go by `code`.
    #[serde(rename = "type")]
    #[schema(pattern = "^about:blank$")]
    kind: &'static str,
    /// The words of the HTTP status.
    title: &'static str,
    /// The HTTP status once more.
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
    /// What is wrong and what would be right, for a person.
    detail: &'a str,
    /// What is wrong, for a program: stable, and listed in `docs/ERRORS.md`.
    #[schema(pattern = "^[a-z][a-z0-9_]*$")]
    code: &'a str,
    /// Everything that is wrong with the body, where that is what is wrong.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    #[schema(value_type = Vec<DocumentFault>, required = false)]
    faults: &'a [DocumentFault],
}

/// A refusal in the making.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    code: &'static str,
    detail: String,
    faults: Vec<DocumentFault>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

/// What a handler returns.
pub(super) type Answer<T> = Result<T, Problem>;

impl Problem {
    pub(super) fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self { status, code, detail: detail.into(), faults: Vec::new(), headers: Vec::new() }
    }

    /// 400.
    pub(super) fn bad_request(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, detail)
    }

    /// 404.
    pub(super) fn not_found(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, code, detail)
    }

    /// 404 for a job that nobody knows.
    pub(super) fn no_such_job(id: &str) -> Self {
        let detail = format!(
            "this node knows no job {}; ended jobs are forgotten after limits.history",
            id.escape_debug()
        );
        Self::not_found("job_not_found", detail)
    }

    /// 409.
    pub(super) fn conflict(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, code, detail)
    }

    /// 422 with everything that is wrong.
    pub(super) fn faulty(code: &'static str, what: &str, faults: Vec<DocumentFault>) -> Self {
        let first = faults.first().map_or_else(String::new, |fault| {
            let place = if fault.pointer.is_empty() { "the whole" } else { &fault.pointer };
            format!(": {place}: {}", fault.message)
        });
        let detail = match faults.len() {
            0 | 1 => format!("{what} cannot be taken{first}"),
            many => format!("{what} cannot be taken; {many} faults are listed, the first{first}"),
        };
        let mut problem = Self::new(StatusCode::UNPROCESSABLE_ENTITY, code, detail);
        problem.faults = faults;
        problem
    }

    /// 503, to be asked again.
    pub(super) fn unavailable(code: &'static str, detail: impl Into<String>, retry_s: u64) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code, detail).retry_after(retry_s)
    }

    /// What an error of the board or the desk means here.
    pub(super) fn of(error: &Error) -> Self {
        use ErrorKind as K;
        let hint = error.hint_text().map(|hint| format!("; {hint}")).unwrap_or_default();
        let detail = format!("{}{hint}", error.message());
        let (status, retry_s) = match error.kind() {
            K::Usage | K::BadSource | K::Unsupported => (StatusCode::UNPROCESSABLE_ENTITY, None),
            K::NotFound => (StatusCode::NOT_FOUND, None),
            K::Conflict => (StatusCode::CONFLICT, None),
            K::NoSpace | K::Io | K::Timeout | K::Unavailable => {
                (StatusCode::SERVICE_UNAVAILABLE, Some(DISK_RETRY_S))
            }
            K::Cancelled => (StatusCode::SERVICE_UNAVAILABLE, Some(STOPPING_RETRY_S)),
            // Of this process, not of the caller: 403 would send people to look for tokens.
            K::PermissionDenied => (StatusCode::INTERNAL_SERVER_ERROR, None),
            K::Internal => return Self::internal(&error.to_string()),
        };
        if status.is_server_error() {
            tracing::warn!("a request cannot be answered: {error}");
        }
        let problem = Self::new(status, error.code(), detail);
        match retry_s {
            Some(seconds) => problem.retry_after(seconds),
            None => problem,
        }
    }

    /// 500. `why` goes to the log and nowhere else.
    pub(super) fn internal(why: &str) -> Self {
        tracing::error!("a request met a fault of this program, please report it: {why}");
        let detail = "a fault of this program; its log says more";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail)
    }

    /// Says when to ask again: at once makes no sense, so at least a second.
    pub(super) fn retry_after(self, seconds: u64) -> Self {
        self.header(RETRY_AFTER, HeaderValue::from(seconds.max(1)))
    }

    pub(super) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    #[cfg(test)]
    pub(super) fn told(&self) -> (u16, &'static str) {
        (self.status.as_u16(), self.code)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = ProblemBody {
            kind: "about:blank",
            title: self.status.canonical_reason().unwrap_or("Error"),
            status: self.status.as_u16(),
            detail: &self.detail,
            code: self.code,
            faults: &self.faults,
        };
        // Strings and numbers can always be written.
        let text = serde_json::to_vec(&body).unwrap_or_default();
        let mut response = (self.status, text).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_TYPE));
        headers.extend(self.headers);
        response
    }
}

/// The answer where no call has this path.
pub(super) async fn no_such_path(uri: Uri) -> Problem {
    let detail = format!("there is nothing at {}; /openapi.json lists what there is", uri.path());
    Problem::not_found("no_such_path", detail)
}

/// The answer where the path has other methods; the router adds `Allow`.
pub(super) async fn no_such_method(method: Method, uri: Uri) -> Problem {
    method_not_allowed(&method, &uri)
}

/// What is said of it; the header `Allow` has to be there too.
pub(super) fn method_not_allowed(method: &Method, uri: &Uri) -> Problem {
    let detail = format!("{} does not take {method}; Allow says what it takes", uri.path());
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail)
}

/// The answer where a handler panicked.
pub(super) fn panicked(cause: Box<dyn Any + Send + 'static>) -> Response {
    let words = cause.downcast_ref::<String>().map(String::as_str);
    let words = words.or_else(|| cause.downcast_ref::<&str>().copied()).unwrap_or("without a message");
    Problem::internal(&format!("a handler panicked: {words}")).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::error::Stage;
    use serde_json::{Value, json};

    fn parts(problem: Problem) -> (u16, Option<String>, Value) {
        let response = problem.into_response();
        assert_eq!(response.headers()[CONTENT_TYPE], PROBLEM_TYPE);
        let retry = response.headers().get(RETRY_AFTER).map(|v| v.to_str().unwrap().to_owned());
        let status = response.status().as_u16();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let bytes = runtime.block_on(axum::body::to_bytes(response.into_body(), 1 << 20)).unwrap();
        (status, retry, serde_json::from_slice(&bytes).unwrap())
    }

    #[test]
    fn a_problem_says_what_rfc_9457_wants_and_the_code() {
        let (status, retry, body) = parts(Problem::unavailable("stopping", "soon", 0));
        assert_eq!((status, retry.as_deref()), (503, Some("1")));
        assert_eq!(
            body,
            json!({"type": "about:blank", "title": "Service Unavailable", "status": 503,
                   "detail": "soon", "code": "stopping"})
        );
    }

    #[test]
    fn faults_are_all_listed_and_the_first_is_told() {
        let fault = |pointer: &str| DocumentFault { pointer: pointer.into(), message: "is needed".into() };
        let (status, _, body) =
            parts(Problem::faulty("bad_job", "the job", vec![fault("/input"), fault("")]));
        assert_eq!(status, 422);
        assert_eq!(
            body["faults"],
            json!([{"pointer": "/input", "message": "is needed"}, {"pointer": "", "message": "is needed"}])
        );
        assert_eq!(
            body["detail"],
            "the job cannot be taken; 2 faults are listed, the first: /input: is needed"
        );
        let (_, _, body) = parts(Problem::faulty("bad_job", "the job", vec![fault("")]));
        assert_eq!(body["detail"], "the job cannot be taken: the whole: is needed");
    }

    #[test]
    fn every_kind_of_error_has_its_status() {
        let told = |kind| {
            let (status, retry, body) =
                parts(Problem::of(&Error::new(kind, "some_code", Stage::Plan, "x").hint("y")));
            (status, retry, body["code"].as_str().unwrap().to_owned(), body["detail"].clone())
        };
        let plain = |status| (status, None, "some_code".to_owned(), json!("x; y"));
        let again = |s: &str| (503, Some(s.to_owned()), "some_code".to_owned(), json!("x; y"));
        assert_eq!(told(ErrorKind::Usage), plain(422));
        assert_eq!(told(ErrorKind::NotFound), plain(404));
        assert_eq!(told(ErrorKind::Conflict), plain(409));
        assert_eq!(told(ErrorKind::PermissionDenied), plain(500));
        assert_eq!(told(ErrorKind::NoSpace), again("10"));
        assert_eq!(told(ErrorKind::Io), again("10"));
        assert_eq!(told(ErrorKind::Timeout), again("10"));
        assert_eq!(told(ErrorKind::Unavailable), again("10"));
        assert_eq!(told(ErrorKind::Cancelled), again("5"));
        let (status, retry, code, detail) = told(ErrorKind::Internal);
        assert_eq!((status, retry, code.as_str()), (500, None, "internal"));
        assert_eq!(detail, "a fault of this program; its log says more");
    }

    #[test]
    fn a_panic_leaks_nothing() {
        let response = panicked(Box::new("the secret is 42".to_owned()));
        assert_eq!(response.status(), 500);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let bytes = runtime.block_on(axum::body::to_bytes(response.into_body(), 1 << 20)).unwrap();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        assert!(text.contains("\"internal\"") && !text.contains("42"), "{text}");
    }
}
