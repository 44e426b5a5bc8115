//! Progress of the running jobs, at most once a second for each, and only what is new.
//!
//! What enters: a source that knows the running jobs and how far they are. What leaves: the newest
//! value of each that has moved. Nothing is queued: what could not be delivered is out of date and
//! is dropped, and while the orchestrator is away one request at a time finds out whether it is
//! back. Ends of jobs are events, not progress: see `outbox`.

use super::backoff::Backoff;
use super::ledger::Ledger;
use super::orchestrator::{Answer, Call, Post, Scope};
use crate::model::record::JobProgress;
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval};
use tokio_util::sync::CancellationToken;

/// The least time between two messages about one job.
const GAP: Duration = Duration::from_secs(1);
/// Requests at once.
const MAX_IN_FLIGHT: usize = 8;

/// Where progress comes from.
pub trait ProgressSource: Send + Sync {
    /// The jobs that have a slot and have not ended, and how far each is. Called on the async
    /// runtime: must not wait for anything.
    fn running(&self) -> Vec<(String, JobProgress)>;
}

/// Sends progress until `shutdown`. What is under way then is given up.
pub async fn run<P: Post, L: Ledger>(
    post: P,
    ledger: L,
    source: Arc<dyn ProgressSource>,
    shutdown: CancellationToken,
) {
    let mut reporter = Reporter {
        post,
        ledger,
        source,
        told: HashMap::new(),
        backoff: Backoff::default(),
        quiet_until: Instant::now(),
        asked: false,
    };
    tokio::select! {
        biased;
        () = shutdown.cancelled() => {}
        () = reporter.keep_telling() => {}
    }
}

/// What must differ for a message to be worth sending. Speeds and estimates change with every look
/// at the clock, also while the job stands still.
#[derive(Clone, Debug, PartialEq)]
struct Mark {
    percent: Option<f64>,
    position_ms: i64,
    duration_ms: i64,
    frames: u64,
}

impl From<&JobProgress> for Mark {
    fn from(p: &JobProgress) -> Self {
        Self { percent: p.percent, position_ms: p.position_ms, duration_ms: p.duration_ms, frames: p.frames }
    }
}

struct Reporter<P, L> {
    post: P,
    ledger: L,
    source: Arc<dyn ProgressSource>,
    /// What the orchestrator knows of each running job.
    told: HashMap<String, Mark>,
    backoff: Backoff,
    quiet_until: Instant,
    /// Quiet was the orchestrator's own wish.
    asked: bool,
}

/// A message that has its number.
struct Message {
    sequence: u64,
    job: String,
    progress: JobProgress,
}

impl<P: Post, L: Ledger> Reporter<P, L> {
    async fn keep_telling(&mut self) {
        let mut ticks = interval(GAP);
        loop {
            ticks.tick().await;
            self.round().await;
            // From the end of the round, so that the gap holds for a job that was told last in it.
            ticks.reset();
        }
    }

    async fn round(&mut self) {
        let running = self.source.running();
        self.told.retain(|job, _| running.iter().any(|(id, _)| id == job));
        let mut news = running.iter().filter(|(id, p)| self.is_news(id, p)).count();
        if news == 0 || self.is_quiet() {
            return self.post.link().counters().progress_dropped.add(news as u64);
        }
        if self.backoff.attempts() > 0 {
            news = 1;
        }
        let messages = self.numbered(news).await;
        self.send(messages).await;
    }

    fn is_news(&self, job: &str, progress: &JobProgress) -> bool {
        self.told.get(job) != Some(&Mark::from(progress))
    }

    /// Whether the orchestrator is better left alone: it was away and nobody has reached it since, or
    /// it asked for quiet.
    fn is_quiet(&self) -> bool {
        Instant::now() < self.quiet_until && (self.asked || !self.post.link().reach().reachable)
    }

    /// The news, at most `count` of them. Numbers are drawn before the source is asked: so whatever
    /// ends a job that is still running here has a higher number, and a receiver that goes by the
    /// numbers never sees a job move after its end.
    async fn numbered(&self, count: usize) -> Vec<Message> {
        let mut numbers = Vec::with_capacity(count);
        while numbers.len() < count {
            match self.ledger.next_sequence().await {
                Ok(sequence) => numbers.push(sequence),
                Err(e) => {
                    tracing::debug!("progress is not sent: {e}");
                    break;
                }
            }
        }
        let news = self.source.running().into_iter().filter(|(id, p)| self.is_news(id, p));
        numbers
            .into_iter()
            .zip(news)
            .map(|(sequence, (job, progress))| Message { sequence, job, progress })
            .collect()
    }

    async fn send(&mut self, messages: Vec<Message>) {
        let mut flying = JoinSet::new();
        let mut waiting = messages.into_iter();
        loop {
            while flying.len() < MAX_IN_FLIGHT
                && !self.is_quiet()
                && let Some(message) = waiting.next()
            {
                flying.spawn(send_one(self.post.clone(), message));
            }
            match flying.join_next().await {
                Some(Ok((message, answer))) => self.note(message, answer),
                Some(Err(e)) => tracing::error!("a progress message broke off: {e}"),
                None => break,
            }
        }
        self.post.link().counters().progress_dropped.add(waiting.count() as u64);
    }

    fn note(&mut self, message: Message, answer: Answer) {
        let counters = self.post.link().counters();
        match answer {
            Answer::Delivered => {
                counters.progress_delivered.add_one();
                self.backoff = Backoff::default();
                self.told.insert(message.job, Mark::from(&message.progress));
            }
            // It wants to hear nothing of this job, or not this: only the next value is worth a try.
            Answer::Refused { .. } => {
                counters.progress_dropped.add_one();
                self.backoff = Backoff::default();
                self.told.insert(message.job, Mark::from(&message.progress));
            }
            Answer::Later { after, scope, .. } => {
                counters.progress_dropped.add_one();
                if scope == Scope::Orchestrator && !self.is_quiet() {
                    let wait = self.backoff.failed().max(after.unwrap_or_default());
                    self.quiet_until = Instant::now() + wait;
                    self.asked = after.is_some() || self.post.link().reach().reachable;
                }
            }
        }
    }
}

async fn send_one<P: Post>(post: P, message: Message) -> (Message, Answer) {
    let body = body(&message);
    let answer = post.post(Call::Progress(&message.job), message.sequence, body).await;
    (message, answer)
}

fn body(message: &Message) -> Map<String, Value> {
    let mut body = match serde_json::to_value(&message.progress) {
        Ok(Value::Object(body)) => body,
        _ => Map::new(),
    };
    body.insert("job".into(), message.job.as_str().into());
    body
}

#[cfg(test)]
mod tests;
