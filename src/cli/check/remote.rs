//! A stream behind HTTP.
//!
//! What enters: requests. What leaves: answers as they came: no redirect is followed, nothing is
//! decompressed, and a body that ends early is told as such. A server that stands still is left.

use crate::base::cancel::Cancel;
use crate::base::error::{Error, ErrorKind, Result, Stage};
use crate::check::{Answer, Method, Request, Source, Trouble};
use crate::node::orchestrator::describe;
use reqwest::{Client, Version, redirect};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio::time::{MissedTickBehavior, interval};

/// Until a connection stands.
const CONNECT: Duration = Duration::from_secs(10);
/// Between two pieces of an answer, the first included: three times what row H14 allows.
const SILENCE: Duration = Duration::from_secs(30);
/// How often cancellation is looked for.
const LOOK: Duration = Duration::from_millis(50);
/// What a page in a browser would send along.
const ORIGIN: &str = "http://player.invalid";

/// Fetches over HTTP/1.1.
#[derive(Debug)]
pub(super) struct Remote {
    client: Client,
    runtime: Runtime,
    cancel: Cancel,
}

impl Remote {
    pub(super) fn new(cancel: Cancel) -> Result<Self> {
        // Fails when there is one already, which does as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let unavailable =
            |what: String| Error::new(ErrorKind::Unavailable, "tls_unavailable", Stage::Plan, what);
        let client = Client::builder()
            .user_agent(concat!("sprocket-check/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .connect_timeout(CONNECT)
            .read_timeout(SILENCE)
            .build()
            .map_err(|e| unavailable(format!("cannot make an HTTP client: {e}")))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|e| unavailable(format!("cannot make a runtime: {e}")))?;
        Ok(Self { client, runtime, cancel })
    }
}

impl Source for Remote {
    fn fetch(&mut self, request: &Request) -> Result<Answer, Trouble> {
        if !matches!(request.url.scheme(), "http" | "https") {
            return Err(Trouble::Failed(format!("the scheme {:?} is not HTTP", request.url.scheme())));
        }
        self.runtime.block_on(async {
            tokio::select! {
                answer = send(&self.client, request) => answer.map_err(|e| Trouble::Failed(describe(e))),
                error = cancelled(&self.cancel) => Err(Trouble::Stop(error)),
            }
        })
    }

    fn is_http(&self) -> bool {
        true
    }
}

async fn cancelled(cancel: &Cancel) -> Error {
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        if let Err(error) = cancel.check(Stage::Verify) {
            return error;
        }
    }
}

async fn send(client: &Client, request: &Request) -> Result<Answer, reqwest::Error> {
    let method = match request.method {
        Method::Get => reqwest::Method::GET,
        Method::Head => reqwest::Method::HEAD,
        Method::Options => reqwest::Method::OPTIONS,
    };
    let mut asked = client.request(method, request.url.clone()).header("origin", ORIGIN);
    for (name, value) in &request.headers {
        asked = asked.header(*name, value);
    }
    let begun = Instant::now();
    let mut response = asked.send().await?;
    let headers = response.headers().iter();
    let headers = headers
        .map(|(name, value)| {
            (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
        })
        .collect();
    let (status, http_1_1) = (response.status().as_u16(), response.version() >= Version::HTTP_11);
    let max = usize::try_from(request.max_bytes).unwrap_or(usize::MAX);
    let mut answer = Answer { status, headers, http_1_1, first_byte: begun.elapsed(), ..Answer::default() };
    let mut any = false;
    while let Some(piece) = response.chunk().await? {
        if !any {
            answer.first_byte = begun.elapsed();
            any = true;
        }
        let room = max - answer.body.len();
        answer.truncated = piece.len() > room;
        answer.body.extend_from_slice(piece.get(..room.min(piece.len())).unwrap_or_default());
        if answer.truncated {
            break;
        }
    }
    Ok(answer)
}
