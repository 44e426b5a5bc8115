//! Events of jobs, delivered: kept on the disk until the orchestrator has answered.
//!
//! What enters: the events in the journal's outbox, oldest first for each job. What leaves: POSTs,
//! several jobs at once, one at a time and in order for each job, and a note in the journal of what
//! became of each. An event may arrive twice (the answer was lost, the process died before the note
//! was on the disk) but always with the same sequence number. Nothing is made up here: an event's
//! words come from whoever changed the job.
//!
//! Two kinds of failure are told apart. A *request* that fails while others succeed makes only its
//! own job wait. An *orchestrator* that is away, or fails at everything, gets one probe at a time,
//! each for another job, so that no single event can keep the door shut.

use super::backoff::Backoff;
use super::ledger::Ledger;
use super::link::Reach;
use super::orchestrator::{Answer, Call, Post, Scope};
use crate::base::error::{Error, Result};
use crate::work::journal::Event;
use serde_json::{Map, Value};
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

/// Requests at once.
const MAX_IN_FLIGHT: usize = 8;
/// So many jobs whose requests fail, with no success in between, mean that the orchestrator as a
/// whole fails.
const MAX_FAILING_JOBS: usize = 8;
/// Events asked for at once, beyond those of jobs that are known to wait.
const WINDOW: usize = 64;
/// Events asked for at once, in all.
const MAX_WINDOW: usize = 4096;
/// How long the outbox trusts that somebody will wake it.
const LOOK_AGAIN: Duration = Duration::from_secs(10);
/// How long requests under way may hold up the end of the process.
const LAST_ANSWERS_LIMIT: Duration = Duration::from_secs(1);

/// Delivers events until `shutdown`, then lets requests under way end, for a second at most.
/// `notify` (`notify_one`) says that an event has come.
pub async fn run<P: Post, L: Ledger>(post: P, ledger: L, notify: Arc<Notify>, shutdown: CancellationToken) {
    let reach = post.link().subscribe();
    let mut outbox = Outbox {
        post,
        ledger,
        ready: VecDeque::new(),
        flying: JoinSet::new(),
        jobs_flying: HashMap::new(),
        waiting: HashMap::new(),
        outage: Outage::default(),
        journal: Backoff::default(),
        journal_until: None,
    };
    tokio::select! {
        biased;
        () = shutdown.cancelled() => {}
        () = outbox.keep_delivering(&notify, reach) => {}
    }
    if timeout(LAST_ANSWERS_LIMIT, outbox.land()).await.is_err() {
        tracing::debug!("events under way are sent again after the next start");
    }
}

struct Outbox<P, L> {
    post: P,
    ledger: L,
    /// Events that may be sent now, at most one for each job.
    ready: VecDeque<Event>,
    flying: JoinSet<Flight>,
    jobs_flying: HashMap<Id, String>,
    /// Jobs whose oldest event has failed so far.
    waiting: HashMap<String, Waiting>,
    outage: Outage,
    journal: Backoff,
    /// When to ask the journal again after it failed.
    journal_until: Option<Instant>,
}

#[derive(Default)]
struct Waiting {
    backoff: Backoff,
    attempts: u32,
    not_before: Option<Instant>,
}

/// How the orchestrator as a whole is doing.
#[derive(Default)]
struct Outage {
    /// Jobs whose requests have failed since the last success.
    failing: HashSet<String>,
    /// Grows from probe to probe; zero attempts: there is no outage.
    backoff: Backoff,
    /// When the next probe may go.
    until: Option<Instant>,
    /// The orchestrator named the time itself, so news of it do not shorten it.
    asked: bool,
    /// Which probe this is. Answers to what was sent before it say nothing about it.
    round: u64,
}

/// A request that has ended.
struct Flight {
    job: String,
    sequence: u64,
    round: u64,
    answer: Answer,
}

impl<P: Post, L: Ledger> Outbox<P, L> {
    async fn keep_delivering(&mut self, notify: &Notify, mut reach: watch::Receiver<Reach>) {
        loop {
            let look_again = self.start_some().await;
            // Over means: look again.
            let _ = timeout_at(look_again, self.wait(notify, &mut reach)).await;
        }
    }

    /// Until something has happened.
    async fn wait(&mut self, notify: &Notify, reach: &mut watch::Receiver<Reach>) {
        tokio::select! {
            Some(ended) = self.flying.join_next_with_id() => self.ended(ended),
            () = notify.notified() => {}
            Ok(()) = reach.changed() => {
                if reach.borrow_and_update().reachable {
                    self.outage.somebody_got_through();
                }
            }
        }
    }

    /// Sends what may be sent now. Returns when to look again at the latest.
    async fn start_some(&mut self) -> Instant {
        let now = Instant::now();
        if let Some(until) = self.outage.until.max(self.journal_until).filter(|until| *until > now) {
            return until;
        }
        let most = if self.outage.is_on() { 1 } else { MAX_IN_FLIGHT };
        if self.ready.is_empty()
            && self.flying.len() < most
            && let Err(e) = self.look(now).await
        {
            return self.journal_failed(&e);
        }
        while self.flying.len() < most
            && let Some(event) = self.ready.pop_front()
        {
            self.start(event);
        }
        let retries = self.waiting.values().filter_map(|waiting| waiting.not_before);
        retries.filter(|at| *at > now).fold(now + LOOK_AGAIN, Instant::min)
    }

    fn journal_failed(&mut self, error: &Error) -> Instant {
        if self.journal.attempts() == 0 {
            tracing::error!("events cannot be read from the journal, so none is sent: {error}");
        }
        let until = Instant::now() + self.journal.failed();
        self.journal_until = Some(until);
        until
    }

    /// Fills `ready`: events that were tried least come first, so that a probe is never for the same
    /// job twice while there is another.
    async fn look(&mut self, now: Instant) -> Result<()> {
        let window = WINDOW.saturating_add(self.waiting.len()).min(MAX_WINDOW);
        let mut due = self.ledger.due_events(window).await?;
        self.journal = Backoff::default();
        if due.len() < window {
            // All that there is: what else is known of belongs to events that have gone.
            let jobs: HashSet<&str> = due.iter().map(|event| event.job.as_str()).collect();
            self.waiting.retain(|job, _| jobs.contains(job.as_str()));
        }
        let flying: HashSet<&str> = self.jobs_flying.values().map(String::as_str).collect();
        let not_yet = |job: &str| self.waiting.get(job).and_then(|w| w.not_before).is_some_and(|at| at > now);
        due.retain(|event| !flying.contains(event.job.as_str()) && !not_yet(&event.job));
        let attempts = |event: &Event| self.waiting.get(&event.job).map_or(0, |w| w.attempts);
        due.sort_by_key(|event| (attempts(event), event.sequence));
        self.ready = due.into();
        Ok(())
    }

    fn start(&mut self, event: Event) {
        let job = event.job.clone();
        let flight = deliver(self.post.clone(), self.ledger.clone(), event, self.outage.round);
        let id = self.flying.spawn(flight).id();
        self.jobs_flying.insert(id, job);
    }

    fn ended(&mut self, ended: Result<(Id, Flight), JoinError>) {
        let flight = match ended {
            Ok((id, flight)) => {
                self.jobs_flying.remove(&id);
                flight
            }
            Err(e) => {
                tracing::error!("sending an event broke off: {e}");
                let Some(job) = self.jobs_flying.remove(&e.id()) else { return };
                return self.failed(&job, None);
            }
        };
        match flight.answer {
            Answer::Delivered | Answer::Refused { .. } => {
                self.waiting.remove(&flight.job);
                self.outage = Outage { round: self.outage.round, ..Outage::default() };
            }
            Answer::Later { why, after, scope } => {
                self.post.link().counters().events_retried.add_one();
                self.log(&flight.job, flight.sequence, &why);
                self.outage.failing.insert(flight.job.clone());
                let all = scope == Scope::Orchestrator || self.outage.failing.len() >= MAX_FAILING_JOBS;
                if !all {
                    return self.failed(&flight.job, after);
                }
                self.waiting.entry(flight.job).or_default().attempts += 1;
                if flight.round == self.outage.round {
                    self.outage.pause(after);
                    self.ready.clear();
                }
            }
        }
    }

    /// Loudly the first time that an event fails while the orchestrator is there: its silence is
    /// logged by the link.
    fn log(&self, job: &str, sequence: u64, why: &str) {
        if self.post.link().reach().reachable && !self.waiting.contains_key(job) {
            tracing::warn!(job, sequence, "an event was not delivered and will be sent again: {why}");
        } else {
            tracing::debug!(job, sequence, "an event was not delivered: {why}");
        }
    }

    /// Another try for that job alone, later.
    fn failed(&mut self, job: &str, after: Option<Duration>) {
        let waiting = self.waiting.entry(job.into()).or_default();
        waiting.attempts += 1;
        let wait = waiting.backoff.failed().max(after.unwrap_or_default());
        waiting.not_before = Some(Instant::now() + wait);
    }

    async fn land(&mut self) {
        while let Some(ended) = self.flying.join_next_with_id().await {
            self.ended(ended);
        }
    }
}

impl Outage {
    fn is_on(&self) -> bool {
        self.backoff.attempts() > 0
    }

    fn pause(&mut self, after: Option<Duration>) {
        let wait = self.backoff.failed().max(after.unwrap_or_default());
        self.until = Some(Instant::now() + wait);
        self.asked = after.is_some();
        self.round += 1;
    }

    /// Another message has found the orchestrator: no use in waiting out the pause.
    fn somebody_got_through(&mut self) {
        if !self.asked {
            self.until = None;
        }
    }
}

/// Sends one event, and makes sure that the journal knows what became of it: until it does, the job's
/// next event is not due, and the same one would be sent again.
async fn deliver<P: Post, L: Ledger>(post: P, ledger: L, event: Event, round: u64) -> Flight {
    let Event { sequence, job, body } = event;
    let answer = post.post(Call::Events(&job), sequence, object(body)).await;
    let counters = post.link().counters();
    match &answer {
        Answer::Delivered => {
            counters.events_delivered.add_one();
            note(|| ledger.delivered(sequence)).await;
        }
        Answer::Refused { status } => {
            counters.events_set_aside.add_one();
            tracing::error!(
                job,
                sequence,
                "the orchestrator refused an event with {status}: it is set aside and not sent again"
            );
            let why = format!("the orchestrator answered {status}");
            note(|| ledger.set_aside(sequence, &why)).await;
        }
        Answer::Later { .. } => {}
    }
    Flight { job, sequence, round, answer }
}

async fn note<F: Future<Output = Result<()>>>(write: impl Fn() -> F) {
    let mut backoff = Backoff::default();
    while let Err(e) = write().await {
        if backoff.attempts() == 0 {
            tracing::error!("the journal cannot note that an event was sent: {e}");
        }
        let wait = backoff.failed();
        // invariant: a disk that works again does not say so
        tokio::time::sleep(wait).await;
    }
}

fn object(body: Value) -> Map<String, Value> {
    match body {
        Value::Object(body) => body,
        Value::Null => Map::new(),
        other => Map::from_iter([("event".to_string(), other)]),
    }
}

#[cfg(test)]
mod tests;
