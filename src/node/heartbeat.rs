//! The heartbeat: at the start, each interval, at once when the state changes, and once at the end.
//!
//! What enters: a source of facts, the watch on the state, an interval. What leaves: one POST at a
//! time with the body of the contract (section 5). Ticks keep to their grid: a slow orchestrator
//! makes beats fewer, never late and never a burst. Nothing here waits for a fact: what has to be
//! found out is found out elsewhere, and the newest known is sent.

use super::disks::Disk;
use super::ledger::Ledger;
use super::orchestrator::{Answer, Call, Post};
use super::state::Status;
use super::telemetry::{Cpu, Memory};
use crate::model::node::{Fault, NodeState};
use serde::Serialize;
use serde_json::{Map, Value};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use utoipa::ToSchema;

/// How long the last beat may hold up the end of the process.
const LAST_BEAT_LIMIT: Duration = Duration::from_secs(1);
/// No setting makes beats come faster than this.
const MIN_INTERVAL: Duration = Duration::from_millis(100);

/// What one beat says, besides who says it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Beat {
    /// The state.
    pub state: NodeState,
    /// What is wrong; empty when nothing is.
    pub reasons: Vec<Fault>,
    /// The processor.
    pub cpu: Cpu,
    /// Main memory.
    pub memory: Memory,
    /// Each root and the output.
    pub disk: Vec<Disk>,
    /// Work, in numbers.
    pub transcodes: Transcodes,
    /// Room for more.
    pub capacity: Capacity,
    /// The running jobs.
    pub jobs: Vec<JobLine>,
    /// What this machine can do. Sent with the first beat, when it changes, and again after the
    /// orchestrator was away: it may have forgotten.
    #[serde(skip)]
    pub capabilities: Value,
    /// Seconds since the process started.
    pub uptime_s: u64,
    /// Version of this program.
    pub version: String,
}

/// Work, in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Transcodes {
    /// Jobs that have a slot.
    pub running: u32,
    /// Jobs that wait for one.
    pub queued: u32,
    /// Viewers' runs.
    pub sessions: u32,
    /// Threads of libav that are alive.
    pub threads: u32,
}

/// Room for more work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Capacity {
    /// Jobs that may run at once.
    pub slots: u32,
    /// Slots that are not in use.
    pub free: u32,
}

/// A running job, in one line.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct JobLine {
    /// The job.
    pub id: String,
    /// How far it is; null where the duration is unknown.
    pub percent: Option<f64>,
    /// Title seconds made each second of wall time.
    pub speed: f64,
}

/// Where a beat's facts come from.
pub trait BeatSource: Send + Sync {
    /// The newest known facts. Called on the async runtime: must not wait for a disk, a device or a
    /// lock that others hold for long.
    fn beat(&self) -> Beat;
}

/// Beats until `shutdown`, then once more, for a second at most.
pub async fn run<P: Post, L: Ledger>(
    post: P,
    ledger: L,
    source: Arc<dyn BeatSource>,
    states: watch::Receiver<Status>,
    every: Duration,
    shutdown: CancellationToken,
) {
    let mut heart =
        Heart { post, ledger, source, told: None, last_sequence: 0, trouble: None, quiet_until: None };
    tokio::select! {
        biased;
        // A beat that is under way is given up: the last one says more.
        () = shutdown.cancelled() => {}
        () = heart.keep_beating(states, every.max(MIN_INTERVAL)) => {}
    }
    if timeout(LAST_BEAT_LIMIT, heart.beat()).await.is_err() {
        tracing::debug!("the orchestrator did not take the last heartbeat in time");
    }
}

struct Heart<P, L> {
    post: P,
    ledger: L,
    source: Arc<dyn BeatSource>,
    /// The capabilities that the orchestrator has, and how often it had been away then.
    told: Option<(u64, Value)>,
    last_sequence: u64,
    /// What was logged last, until a beat is taken.
    trouble: Option<String>,
    /// Until when the orchestrator asked for quiet.
    quiet_until: Option<Instant>,
}

impl<P: Post, L: Ledger> Heart<P, L> {
    async fn keep_beating(&mut self, mut states: watch::Receiver<Status>, every: Duration) {
        let mut ticks = interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut watched = true;
        // The first beat tells the state as it is now.
        states.mark_unchanged();
        loop {
            tokio::select! {
                now = ticks.tick() => if self.quiet_until.is_some_and(|until| now < until) { continue },
                changed = states.changed(), if watched => {
                    watched = changed.is_ok();
                    if !watched { continue }
                }
            }
            // What came while the beat before was under way is told by this one.
            states.mark_unchanged();
            self.beat().await;
        }
    }

    async fn beat(&mut self) {
        let sequence = self.sequence().await;
        let outages = self.post.link().reach().outages;
        let beat = self.source.beat();
        let knows =
            self.told.as_ref().is_some_and(|(then, what)| *then == outages && *what == beat.capabilities);
        let Some(body) = body(&beat, !knows) else { return };
        let answer = self.post.post(Call::Heartbeat, sequence, body).await;
        if answer == Answer::Delivered && !knows {
            self.told = Some((outages, beat.capabilities));
        }
        self.note(answer);
    }

    /// Without a number from the journal the last one is repeated: a node whose disk is gone must
    /// still be able to say so, and no other message may lose its number to it.
    async fn sequence(&mut self) -> u64 {
        match self.ledger.next_sequence().await {
            Ok(sequence) => self.last_sequence = sequence,
            Err(e) => tracing::debug!("the heartbeat repeats its sequence number: {e}"),
        }
        self.last_sequence
    }

    fn note(&mut self, answer: Answer) {
        let link = self.post.link();
        match answer {
            Answer::Delivered => link.counters().beats_delivered.add_one(),
            _ => link.counters().beats_failed.add_one(),
        }
        let trouble = match answer {
            Answer::Delivered => None,
            Answer::Refused { status } => Some(refusal(status)),
            Answer::Later { why, after, .. } => {
                self.quiet_until = after.map(|after| Instant::now() + after);
                // Silence is logged by the link.
                if link.reach().reachable {
                    Some(format!("it does not take heartbeats: {why}"))
                } else {
                    return;
                }
            }
        };
        self.log(trouble);
    }

    /// Once for each kind of trouble, not for each beat.
    fn log(&mut self, trouble: Option<String>) {
        match &trouble {
            Some(what) if self.trouble != trouble => tracing::error!("the orchestrator is there, but {what}"),
            None if self.trouble.is_some() => tracing::info!("the orchestrator takes heartbeats again"),
            _ => {}
        }
        self.trouble = trouble;
    }
}

fn refusal(status: u16) -> String {
    let setting = if matches!(status, 401 | 403) { "token" } else { "url" };
    format!("it refuses heartbeats with {status}: check orchestrator.{setting}")
}

fn body(beat: &Beat, with_capabilities: bool) -> Option<Map<String, Value>> {
    match serde_json::to_value(beat) {
        Ok(Value::Object(mut body)) => {
            if with_capabilities {
                body.insert("capabilities".into(), beat.capabilities.clone());
            }
            Some(body)
        }
        // Plain data with text keys always becomes an object.
        other => {
            tracing::error!("a heartbeat could not be written down: {other:?}");
            None
        }
    }
}

#[cfg(test)]
mod tests;
