//! A job's events as the node streams them (`text/event-stream`), read by the rules of the standard.

use super::{LIMIT, runtime};
use serde_json::Value;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;
use tokio::task::JoinHandle;

/// One event.
#[derive(Clone, Debug)]
pub struct Event {
    /// Its type: `state` or `progress`.
    pub kind: String,
    /// The id to resume behind.
    pub id: Option<String>,
    /// What it says.
    pub data: Value,
}

/// A stream that is being followed. Dropping it closes the connection.
pub struct Follow {
    /// HTTP status; there are events only with 200.
    pub status: u16,
    /// The type of the answer.
    pub content_type: String,
    events: Receiver<Event>,
    reader: JoinHandle<()>,
}

impl Follow {
    /// Asks, and goes on reading in the background.
    #[track_caller]
    pub(super) fn start(request: Option<reqwest::RequestBuilder>) -> Self {
        let request = request.expect("a request without a body").header("accept", "text/event-stream");
        // Inside the runtime: a request's own limit is a timer of it.
        let response = runtime().block_on(async { request.send().await }).expect("an answer");
        let content_type = response.headers().get("content-type").and_then(|v| v.to_str().ok());
        let (status, content_type) = (response.status().as_u16(), content_type.unwrap_or("").to_owned());
        let (tell, events) = channel();
        let reader = runtime().spawn(read(response, tell));
        Self { status, content_type, events, reader }
    }

    /// The next event; `None` when the node has ended the stream.
    #[track_caller]
    pub fn next(&mut self) -> Option<Event> {
        match self.events.recv_timeout(LIMIT) {
            Ok(event) => Some(event),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("no event and no end within {LIMIT:?}"),
        }
    }

    /// Everything up to the end of the stream.
    #[track_caller]
    pub fn rest(mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.next()).collect()
    }

    /// Whether anything comes within this time.
    pub fn is_quiet_for(&mut self, time: Duration) -> bool {
        matches!(self.events.recv_timeout(time), Err(RecvTimeoutError::Timeout))
    }
}

impl Drop for Follow {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

async fn read(mut response: reqwest::Response, tell: Sender<Event>) {
    let mut text = Vec::new();
    while let Ok(Some(bytes)) = response.chunk().await {
        text.extend_from_slice(&bytes);
        while let Some(end) = text.windows(2).position(|pair| pair == b"\n\n") {
            let block: Vec<u8> = text.drain(..end + 2).collect();
            if let Some(event) = parse(&String::from_utf8_lossy(&block))
                && tell.send(event).is_err()
            {
                return;
            }
        }
    }
}

/// One block of lines; `None` for comments alone.
fn parse(block: &str) -> Option<Event> {
    let mut event = Event { kind: "message".into(), id: None, data: Value::Null };
    let mut data = Vec::new();
    for line in block.lines() {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => event.kind = value.to_owned(),
            "id" => event.id = Some(value.to_owned()),
            "data" => data.push(value),
            _ => {}
        }
    }
    event.data = serde_json::from_str(&data.join("\n")).ok()?;
    Some(event)
}
