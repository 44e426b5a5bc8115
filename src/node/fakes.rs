//! Stand-ins for the tests of this room: a journal that can fail, an orchestrator on a clock of its
//! own, and an orchestrator on a real socket that can refuse, stall, die and come back.

use super::ledger::Ledger;
use super::link::Link;
use super::orchestrator::{Answer, Call, Post, Scope};
use crate::base::error::{Error, ErrorKind, Result, Stage};
use crate::work::journal::Event;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value};
use std::collections::HashSet;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::Instant;

/// Lets time pass.
pub async fn pass(time: Duration) {
    // invariant: the clock of a test is what is tested
    tokio::time::sleep(time).await;
}

/// Waits in real time until `what` holds, for ten seconds at most.
#[track_caller]
pub fn until(what: impl Fn() -> bool) -> impl Future<Output = ()> {
    let place = std::panic::Location::caller();
    async move {
        for _ in 0..2000 {
            if what() {
                return;
            }
            pass(Duration::from_millis(5)).await;
        }
        panic!("it did not happen in ten seconds: {place}");
    }
}

// ---- the journal ------------------------------------------------------------------------------------

/// An outbox in memory.
#[derive(Clone, Default)]
pub struct FakeLedger(Arc<Mutex<Held>>);

#[derive(Default)]
struct Held {
    last: u64,
    events: Vec<Event>,
    aside: Vec<(u64, String)>,
    /// So many calls will fail.
    failing: u32,
    looks: usize,
}

impl FakeLedger {
    pub fn push(&self, job: &str, body: Value) -> u64 {
        let mut held = self.0.lock().unwrap();
        held.last += 1;
        let sequence = held.last;
        held.events.push(Event { sequence, job: job.into(), body });
        sequence
    }

    pub fn fail(&self, calls: u32) {
        self.0.lock().unwrap().failing = calls;
    }

    /// Events that are still to be delivered.
    pub fn left(&self) -> usize {
        self.0.lock().unwrap().events.len()
    }

    pub fn aside(&self) -> Vec<(u64, String)> {
        self.0.lock().unwrap().aside.clone()
    }

    /// How often it was asked for events.
    pub fn looks(&self) -> usize {
        self.0.lock().unwrap().looks
    }

    fn call<T>(&self, body: impl FnOnce(&mut Held) -> T) -> Result<T> {
        let mut held = self.0.lock().unwrap();
        if held.failing > 0 {
            held.failing -= 1;
            return Err(Error::new(ErrorKind::NoSpace, "no_space", Stage::Publish, "the disk is full"));
        }
        Ok(body(&mut held))
    }
}

impl Ledger for FakeLedger {
    async fn due_events(&self, limit: usize) -> Result<Vec<Event>> {
        self.0.lock().unwrap().looks += 1;
        self.call(|held| {
            let mut jobs = HashSet::new();
            let oldest = held.events.iter().filter(|event| jobs.insert(event.job.clone()));
            oldest
                .take(limit)
                .map(|e| Event { sequence: e.sequence, job: e.job.clone(), body: e.body.clone() })
                .collect()
        })
    }

    async fn delivered(&self, sequence: u64) -> Result<()> {
        self.call(|held| held.events.retain(|event| event.sequence != sequence))
    }

    async fn set_aside(&self, sequence: u64, why: &str) -> Result<()> {
        self.call(|held| {
            held.events.retain(|event| event.sequence != sequence);
            held.aside.push((sequence, why.into()));
        })
    }

    async fn next_sequence(&self) -> Result<u64> {
        self.call(|held| {
            held.last += 1;
            held.last
        })
    }
}

// ---- an orchestrator on the test's own clock ----------------------------------------------------------

/// A request as it was sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Sent {
    /// Milliseconds since the fake was made.
    pub at_ms: u64,
    /// `heartbeat`, `progress JOB` or `events JOB`.
    pub call: String,
    pub sequence: u64,
    pub body: Map<String, Value>,
}

type Script = dyn Fn(&Sent) -> (Duration, Answer) + Send + Sync;

/// An orchestrator that answers by a script: after how long, and what.
#[derive(Clone)]
pub struct FakePost(Arc<Fake>);

struct Fake {
    link: Link,
    began: Instant,
    script: Mutex<Box<Script>>,
    log: Mutex<Vec<Sent>>,
    flying: Mutex<(usize, usize)>,
}

impl FakePost {
    pub fn new(script: impl Fn(&Sent) -> (Duration, Answer) + Send + Sync + 'static) -> Self {
        Self(Arc::new(Fake {
            link: Link::new("http://fake"),
            began: Instant::now(),
            script: Mutex::new(Box::new(script)),
            log: Mutex::default(),
            flying: Mutex::default(),
        }))
    }

    /// Delivers at once.
    pub fn good() -> Self {
        Self::new(|_| (Duration::ZERO, Answer::Delivered))
    }

    pub fn answer(&self, script: impl Fn(&Sent) -> (Duration, Answer) + Send + Sync + 'static) {
        *self.0.script.lock().unwrap() = Box::new(script);
    }

    pub fn log(&self) -> Vec<Sent> {
        self.0.log.lock().unwrap().clone()
    }

    /// When each request was sent, in seconds, rounded down.
    pub fn seconds(&self) -> Vec<u64> {
        self.log().iter().map(|sent| sent.at_ms / 1000).collect()
    }

    /// The most requests that were under way at once.
    pub fn most_flying(&self) -> usize {
        self.0.flying.lock().unwrap().1
    }
}

/// A request that is dropped is no longer under way.
struct Flying<'a>(&'a Fake);

impl<'a> Flying<'a> {
    fn up(fake: &'a Fake) -> Self {
        let mut flying = fake.flying.lock().unwrap();
        flying.0 += 1;
        flying.1 = flying.1.max(flying.0);
        Self(fake)
    }
}

impl Drop for Flying<'_> {
    fn drop(&mut self) {
        self.0.flying.lock().unwrap().0 -= 1;
    }
}

impl Post for FakePost {
    async fn post(&self, call: Call<'_>, sequence: u64, body: Map<String, Value>) -> Answer {
        let fake = &*self.0;
        let call = match call {
            Call::Heartbeat => "heartbeat".to_string(),
            Call::Progress(job) => format!("progress {job}"),
            Call::Events(job) => format!("events {job}"),
        };
        let at_ms = fake.began.elapsed().as_millis() as u64;
        let sent = Sent { at_ms, call, sequence, body };
        let _flying = Flying::up(fake);
        fake.log.lock().unwrap().push(sent.clone());
        let (delay, answer) = (fake.script.lock().unwrap())(&sent);
        pass(delay).await;
        match &answer {
            Answer::Later { scope: Scope::Orchestrator, after: None, why } => fake.link.silent(why),
            _ => fake.link.answered(),
        }
        answer
    }

    fn link(&self) -> &Link {
        &self.0.link
    }
}

/// The orchestrator is not there.
pub fn away() -> Answer {
    Answer::Later { why: "connection refused".into(), after: None, scope: Scope::Orchestrator }
}

/// It answered 500.
pub fn error_500() -> Answer {
    Answer::Later { why: "it answered 500".into(), after: None, scope: Scope::Request }
}

// ---- an orchestrator on a real socket -----------------------------------------------------------------

/// A request as it arrived.
#[derive(Clone, Debug)]
pub struct Seen {
    pub path: String,
    pub headers: HeaderMap,
    pub body: Value,
}

impl Seen {
    pub fn sequence(&self) -> u64 {
        self.body["sequence"].as_u64().expect("a sequence")
    }
}

/// What the server does with a request.
pub enum Reply {
    Now(Response),
    /// Nothing, with the connection open.
    Stall,
}

impl Reply {
    pub fn status(status: u16) -> Self {
        Self::Now(axum::http::StatusCode::from_u16(status).unwrap().into_response())
    }
}

type Answering = dyn Fn(&Seen) -> Reply + Send + Sync;

/// A server of its own runtime, so that dropping it closes every connection at once.
pub struct Server {
    runtime: Option<tokio::runtime::Runtime>,
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    seen: Mutex<Vec<Seen>>,
    answering: Box<Answering>,
}

impl Server {
    pub fn start(answering: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        Self::at("127.0.0.1:0".parse().unwrap(), answering)
    }

    /// At an address that another one had.
    pub fn at(address: SocketAddr, answering: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        let shared = Arc::new(Shared { seen: Mutex::default(), answering: Box::new(answering) });
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let router = Router::new().fallback(receive).with_state(shared.clone());
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            axum::serve(listener, router).await.unwrap();
        });
        Self { runtime: Some(runtime), address, shared }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn receive(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    let seen = Seen {
        path: parts.uri.path().into(),
        headers: parts.headers,
        body: serde_json::from_slice(&body).unwrap_or_default(),
    };
    shared.seen.lock().unwrap().push(seen.clone());
    match (shared.answering)(&seen) {
        Reply::Now(response) => response,
        Reply::Stall => std::future::pending().await,
    }
}
