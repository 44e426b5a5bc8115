//! One request to the orchestrator, and what its answer means.
//!
//! What enters: which call, a sequence number, a JSON body. What leaves: one of three answers:
//! delivered, refused for good, or try later. Nothing that the other side does makes a request last
//! longer than its limit or cost more than a little memory, and no answer's body is looked at. When
//! and how often to try is the business of those who call.

use super::link::Link;
use crate::base::error::{Error, ErrorKind, Result, Stage};
use jiff::Timestamp;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Response, StatusCode, Url, redirect};
use serde_json::{Map, Value};
use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// How much of an answer is read before its connection is given up.
const MAX_ANSWER_BYTES: usize = 64 * 1024;
/// How long the rest of an answer may take whose status is known.
const MAX_DRAIN: Duration = Duration::from_secs(1);
/// The longest wait that an orchestrator can ask for.
pub const MAX_RETRY_AFTER: Duration = Duration::from_secs(60);
/// Connections kept open between requests.
const MAX_IDLE_CONNECTIONS: usize = 8;
/// Shorter than what servers commonly keep, so that we seldom write to one that is being closed.
const IDLE_CONNECTION_LIMIT: Duration = Duration::from_secs(20);

/// Which call of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call<'a> {
    /// `POST {url}/nodes/{id}/heartbeat`
    Heartbeat,
    /// `POST {url}/jobs/{job}/progress`
    Progress(&'a str),
    /// `POST {url}/jobs/{job}/events`
    Events(&'a str),
}

/// What an answer that says "later" is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// This request: another one may well succeed.
    Request,
    /// The orchestrator: it is away, or wants less of everything.
    Orchestrator,
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// 2xx.
    Delivered,
    /// 4xx other than 408 and 429: sending the same again cannot help.
    Refused {
        /// The status.
        status: u16,
    },
    /// Everything else.
    Later {
        /// What happened.
        why: String,
        /// How long the orchestrator asked us to wait, at most [`MAX_RETRY_AFTER`].
        after: Option<Duration>,
        /// What else is better not sent now.
        scope: Scope,
    },
}

/// Who can send to the orchestrator. A trait so that the loops can be tested on a clock of their own.
pub trait Post: Clone + Send + Sync + 'static {
    /// Sends `body` with the node's id and `sequence` put into it. Always ends, within seconds.
    fn post(
        &self,
        call: Call<'_>,
        sequence: u64,
        body: Map<String, Value>,
    ) -> impl Future<Output = Answer> + Send;

    /// The view of the orchestrator that all senders share.
    fn link(&self) -> &Link;
}

/// How long a request may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// To connect, names looked up and TLS included.
    pub connect: Duration,
    /// From the beginning to the end of the answer.
    pub whole: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connect: Duration::from_secs(5), whole: Duration::from_secs(10) }
    }
}

/// The orchestrator over HTTP. Clones share connections.
#[derive(Clone, Debug)]
pub struct Client(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    http: reqwest::Client,
    base: Url,
    node_id: String,
    link: Arc<Link>,
}

impl Client {
    /// A client for the orchestrator at `url`. `token` is sent as a bearer token unless empty.
    ///
    /// # Errors
    /// `bad_orchestrator_url`, `bad_orchestrator_token`, `bad_node_id`; `tls_unavailable` when this
    /// machine has no certificates to check an `https` orchestrator by.
    pub fn new(url: &str, token: &str, node_id: &str) -> Result<Self> {
        Self::with_limits(url, token, node_id, Limits::default())
    }

    /// [`Client::new`] with other limits.
    ///
    /// # Errors
    /// The same.
    pub fn with_limits(url: &str, token: &str, node_id: &str, limits: Limits) -> Result<Self> {
        let base = parse_base(url)?;
        check_node_id(node_id)?;
        if base.scheme() == "http" && !token.is_empty() && !is_loopback(&base) {
            tracing::warn!("orchestrator.token goes to {base} unencrypted; https would keep it secret");
        }
        let http = http_client(&base, token, limits)?;
        let link = Arc::new(Link::new(base.as_str()));
        Ok(Self(Arc::new(Inner { http, base, node_id: node_id.into(), link })))
    }

    /// The view of the orchestrator, for whoever shows it.
    pub fn shared_link(&self) -> Arc<Link> {
        self.0.link.clone()
    }

    fn address(&self, call: Call<'_>) -> Url {
        let mut url = self.0.base.clone();
        // It can be a base: that was checked when it was parsed.
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty();
            match call {
                Call::Heartbeat => path.extend(["nodes", &self.0.node_id, "heartbeat"]),
                Call::Progress(job) => path.extend(["jobs", job, "progress"]),
                Call::Events(job) => path.extend(["jobs", job, "events"]),
            };
        }
        url
    }

    async fn send(&self, call: Call<'_>, sequence: u64, mut body: Map<String, Value>) -> Answer {
        body.insert("node_id".into(), self.0.node_id.as_str().into());
        body.insert("sequence".into(), sequence.into());
        match self.0.http.post(self.address(call)).json(&body).send().await {
            Ok(response) => {
                let answer = judge(response.status(), response.headers());
                self.note(response.status(), &answer);
                drain(response).await;
                answer
            }
            Err(e) => {
                let why = describe(e);
                self.0.link.silent(&why);
                Answer::Later { why, after: None, scope: Scope::Orchestrator }
            }
        }
    }

    /// Whether an orchestrator is behind that answer, or only a gateway that looks for one.
    fn note(&self, status: StatusCode, answer: &Answer) {
        match answer {
            Answer::Later { why, after: None, .. } if matches!(status.as_u16(), 502..=504) => {
                self.0.link.silent(why);
            }
            _ => self.0.link.answered(),
        }
    }
}

impl Post for Client {
    async fn post(&self, call: Call<'_>, sequence: u64, body: Map<String, Value>) -> Answer {
        self.send(call, sequence, body).await
    }

    fn link(&self) -> &Link {
        &self.0.link
    }
}

fn parse_base(url: &str) -> Result<Url> {
    let refuse = |why: &str| {
        let message = format!("orchestrator.url {why}");
        Error::new(ErrorKind::Usage, "bad_orchestrator_url", Stage::Plan, message)
            .hint("set it to something like https://orchestrator.example:8443/api")
    };
    let base = Url::parse(url.trim()).map_err(|e| refuse(&format!("is not a URL: {e}")))?;
    // The URL itself is not repeated here: it may hold a password.
    if !matches!(base.scheme(), "http" | "https") {
        return Err(refuse(&format!("begins with {}:, not with http: or https:", base.scheme())));
    }
    if !base.username().is_empty() || base.password().is_some() {
        return Err(refuse("holds a user name or password; use orchestrator.token"));
    }
    if base.query().is_some() || base.fragment().is_some() {
        return Err(refuse("has a ? or # in it, but paths are appended to it"));
    }
    Ok(base)
}

/// A path cannot hold these, in whatever encoding: they would name another place.
fn check_node_id(node_id: &str) -> Result<()> {
    if !matches!(node_id, "" | "." | "..") {
        return Ok(());
    }
    let message = format!("node.id {node_id:?} cannot be part of a URL");
    Err(Error::new(ErrorKind::Usage, "bad_node_id", Stage::Plan, message).hint("give the node a name"))
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address: Option<IpAddr> = host.trim_start_matches('[').trim_end_matches(']').parse().ok();
    host == "localhost" || address.is_some_and(|address| address.is_loopback())
}

fn http_client(base: &Url, token: &str, limits: Limits) -> Result<reqwest::Client> {
    // Fails when there is one already, which does as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("sprocket/", env!("CARGO_PKG_VERSION")))
        .default_headers(authorization(token)?)
        // The token is for this orchestrator, not for whomever it points to.
        .redirect(redirect::Policy::none())
        .referer(false)
        .connect_timeout(limits.connect)
        .timeout(limits.whole)
        .pool_max_idle_per_host(MAX_IDLE_CONNECTIONS)
        .pool_idle_timeout(IDLE_CONNECTION_LIMIT);
    if is_loopback(base) {
        builder = builder.no_proxy();
    }
    if base.scheme() == "http" {
        // A small container may have no certificates at all, and needs none.
        builder = builder.tls_certs_only([]);
    }
    builder.build().map_err(|e| {
        let message = format!("cannot prepare requests to the orchestrator at {base}: {}", describe(e));
        Error::new(ErrorKind::Unsupported, "tls_unavailable", Stage::Plan, message)
            .hint("install the system's CA certificates (package ca-certificates)")
    })
}

fn authorization(token: &str) -> Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    if !token.is_empty() {
        let mut value = HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| {
            let message = "orchestrator.token holds characters that an HTTP header cannot carry";
            Error::new(ErrorKind::Usage, "bad_orchestrator_token", Stage::Plan, message)
                .hint("look for a line break or a control character in it")
        })?;
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
    }
    Ok(headers)
}

fn judge(status: StatusCode, headers: &HeaderMap) -> Answer {
    if status.is_success() {
        return Answer::Delivered;
    }
    let scope = match status.as_u16() {
        // Too much, or a gateway whose backend is away.
        429 | 502 | 503 | 504 => Scope::Orchestrator,
        408 => Scope::Request,
        400..=499 => return Answer::Refused { status: status.as_u16() },
        _ => Scope::Request,
    };
    let what = if status.is_redirection() { " (redirects are not followed)" } else { "" };
    let after = headers.get(RETRY_AFTER).and_then(|value| retry_after(value, Timestamp::now()));
    Answer::Later { why: format!("it answered {status}{what}"), after, scope }
}

/// Seconds or a date (RFC 9110, section 10.2.3); nonsense is no wish at all.
fn retry_after(value: &HeaderValue, now: Timestamp) -> Option<Duration> {
    let text = value.to_str().ok()?.trim();
    let wait = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let date = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
            Duration::try_from(date.duration_since(now)).unwrap_or_default()
        }
    };
    Some(wait.min(MAX_RETRY_AFTER))
}

/// Reads the rest of an answer, so that its connection can be used again.
async fn drain(mut response: Response) {
    let read = async {
        let mut left = MAX_ANSWER_BYTES;
        while let Ok(Some(chunk)) = response.chunk().await {
            let Some(rest) = left.checked_sub(chunk.len()) else { break };
            left = rest;
        }
    };
    // The status is known: what is wrong with the rest changes nothing.
    let _ = timeout(MAX_DRAIN, read).await;
}

/// The whole chain of causes, without the address, which the reader knows and which may hold a token.
pub fn describe(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests;
