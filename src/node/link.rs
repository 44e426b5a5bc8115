//! Whether the orchestrator is there, and what was sent to it so far.
//!
//! What enters: the outcome of every request, whoever made it. What leaves: one shared view of the
//! orchestrator (so that an outage is one line in the log, not one for each message), and the
//! counters of the metrics. No requests are made here.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// An orchestrator that comes and goes faster than this is not logged each time.
const LOG_GAP: Duration = Duration::from_secs(60);

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// One more.
    pub fn add_one(&self) {
        self.add(1);
    }

    /// That many more.
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Relaxed);
    }

    /// How many so far.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// What was sent since the start of the process.
#[derive(Debug, Default)]
pub struct Counters {
    /// Heartbeats that were answered 2xx.
    pub beats_delivered: Counter,
    /// Heartbeats that were refused or not answered.
    pub beats_failed: Counter,
    /// Progress messages that were answered 2xx.
    pub progress_delivered: Counter,
    /// Progress messages that were not: the value is out of date, so they are never sent again.
    pub progress_dropped: Counter,
    /// Events that were answered 2xx.
    pub events_delivered: Counter,
    /// Attempts to deliver an event that will be repeated.
    pub events_retried: Counter,
    /// Events that were refused for good.
    pub events_set_aside: Counter,
}

/// Whether the orchestrator is there, as far as the last request knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reach {
    /// The last request had an answer of the orchestrator's own.
    pub reachable: bool,
    /// How often it went away since the start. Who remembers this number knows whether the
    /// orchestrator may have been restarted since.
    pub outages: u64,
    since: Instant,
    /// When an outage was last logged, and whether this one was.
    logged: Option<Instant>,
    loud: bool,
}

/// The shared view of one orchestrator.
#[derive(Debug)]
pub struct Link {
    url: String,
    reach: watch::Sender<Reach>,
    counters: Counters,
}

impl Link {
    /// An orchestrator that is presumed to be there. `url` is for the log.
    pub fn new(url: impl Into<String>) -> Self {
        let reach = Reach { reachable: true, outages: 0, since: Instant::now(), logged: None, loud: false };
        Self { url: url.into(), reach: watch::Sender::new(reach), counters: Counters::default() }
    }

    /// The counters.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// How it stands now.
    pub fn reach(&self) -> Reach {
        *self.reach.borrow()
    }

    /// A view that tells when it changes.
    pub fn subscribe(&self) -> watch::Receiver<Reach> {
        self.reach.subscribe()
    }

    /// A request had an answer.
    pub fn answered(&self) {
        let mut ended = None;
        self.reach.send_if_modified(|reach| {
            if !reach.reachable {
                ended = Some((reach.since.elapsed(), reach.loud));
                *reach = Reach { reachable: true, since: Instant::now(), ..*reach };
            }
            ended.is_some()
        });
        if let Some((outage, true)) = ended {
            tracing::info!(after_s = outage.as_secs(), "the orchestrator at {} answers again", self.url);
        }
    }

    /// A request had none, because of `why`.
    pub fn silent(&self, why: &str) {
        let mut loud = false;
        self.reach.send_if_modified(|reach| {
            let went = reach.reachable;
            if went {
                let now = Instant::now();
                loud = reach.logged.is_none_or(|at| now.duration_since(at) >= LOG_GAP);
                let logged = if loud { Some(now) } else { reach.logged };
                *reach = Reach { reachable: false, outages: reach.outages + 1, since: now, logged, loud };
            }
            went
        });
        if loud {
            tracing::warn!(
                "the orchestrator at {} does not answer: {why}; jobs go on, events are kept until it does",
                self.url
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_is_counted_once_and_seen_by_all() {
        let link = Link::new("http://o");
        let mut view = link.subscribe();
        link.answered();
        assert!(!view.has_changed().unwrap(), "nothing new");
        link.silent("refused");
        link.silent("refused");
        let seen = *view.borrow_and_update();
        assert_eq!((seen.reachable, seen.outages), (false, 1));
        link.answered();
        link.answered();
        assert_eq!((link.reach().reachable, link.reach().outages), (true, 1));
        link.silent("refused");
        assert_eq!(link.reach().outages, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_flaps_is_logged_once_a_minute() {
        let link = Link::new("http://o");
        let mut loud = Vec::new();
        for _ in 0..13 {
            link.silent("refused");
            loud.push(link.reach().loud);
            link.answered();
            tokio::time::advance(Duration::from_secs(10)).await;
        }
        let expected: Vec<bool> = (0..13).map(|n| n % 6 == 0).collect();
        assert_eq!(loud, expected);
    }
}
