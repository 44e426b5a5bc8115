//! What segments of a lane cost, as far as was seen, and how much of that the machine can do.
//!
//! Runs slow each other down, so what one costs is not the time that it took: it is its share of that. The
//! work clock goes by the share that each working run has of the machine, and a segment costs what the
//! clock has gone on while it was made.

use super::{Run, RunId};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Before anything was measured.
const UNKNOWN_START: Duration = Duration::from_millis(400);
const UNKNOWN_SEGMENT: Duration = Duration::from_millis(600);
/// So much of the machine is given away: what runs then stays faster than real time.
const HEADROOM: f64 = 0.9;

/// Measured costs.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pace {
    /// From the start of a run to its first segment.
    first: Option<Duration>,
    /// From one segment to the next.
    segment: Option<Duration>,
    /// A segment's share of the machine.
    work: Option<Duration>,
}

impl Pace {
    /// Takes a measurement in: newer ones count for a third.
    pub fn learn(&mut self, first: bool, took: Duration) {
        let known = if first { &mut self.first } else { &mut self.segment };
        *known = Some(known.map_or(took, |known| (known * 2 + took) / 3));
    }

    /// Takes in what the machine did for a segment that a run made without a rest before it.
    pub(super) fn learn_work(&mut self, work: Duration) {
        self.work = Some(self.work.map_or(work, |known| (known * 2 + work) / 3));
    }

    /// Seconds of work for each second of media; `None` before anything was measured.
    pub(super) fn load(&self, segment_duration: Duration) -> Option<f64> {
        let media_s = Some(segment_duration.as_secs_f64()).filter(|s| *s > 0.0)?;
        Some(self.work?.as_secs_f64() / media_s)
    }

    /// Whether a run that has `segments` to make before the wanted one has that sooner than a new run.
    pub fn is_worth_waiting(&self, segments: u64) -> bool {
        let segment = self.segment.or(self.first).unwrap_or(UNKNOWN_SEGMENT);
        let first = self.first.unwrap_or(segment + UNKNOWN_START);
        // The wanted segment itself is made in either case.
        let run = segment.as_secs_f64() * (segments as f64 + 1.0);
        segments == 0 || run <= first.as_secs_f64()
    }
}

/// Goes by what each working run gets of the machine.
#[derive(Clone, Copy, Debug)]
pub(super) struct WorkClock {
    at: Option<Instant>,
    done: Duration,
    /// Runs that the machine makes at full speed at the same time.
    capacity: f64,
}

impl Default for WorkClock {
    fn default() -> Self {
        Self { at: None, done: Duration::ZERO, capacity: 1.0 }
    }
}

impl WorkClock {
    pub fn set_capacity(&mut self, runs: f64) {
        // A machine that makes less than one run at a time still makes that one.
        self.capacity = if runs.is_finite() { runs.max(1.0) } else { 1.0 };
    }

    pub fn advance(&mut self, now: Instant, runs: &BTreeMap<RunId, Run>) {
        let passed = self.at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        self.at = Some(self.at.map_or(now, |at| at.max(now)));
        let working = runs.values().filter(|run| !run.rests()).count();
        if working > 0 {
            self.done += passed.mul_f64((self.capacity / working as f64).min(1.0));
        }
    }

    /// The work that was done for each run that worked all the time.
    pub fn done(&self) -> Duration {
        self.done
    }

    /// Whether runs of such a load together fall behind.
    pub fn is_too_much(&self, load: f64) -> bool {
        load > self.capacity * HEADROOM
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn the_next_segment_is_always_waited_for_and_far_ones_never() {
        assert!(Pace::default().is_worth_waiting(0));
        assert!(!Pace::default().is_worth_waiting(1));
        let mut pace = Pace::default();
        pace.learn(true, 1000 * MS);
        pace.learn(false, 200 * MS);
        assert!(pace.is_worth_waiting(4));
        assert!(!pace.is_worth_waiting(5));
    }

    #[test]
    fn newer_measurements_count_for_a_third() {
        let mut pace = Pace::default();
        pace.learn(false, 300 * MS);
        pace.learn(false, 600 * MS);
        assert_eq!(pace.segment, Some(400 * MS));
    }
}
