//! Whether a run stands still.
//!
//! What enters: how often the run's stages have looked at the abort flag (they do with every item that
//! they pass on, and a source with every read of it), where the run is, and the time. What leaves: an
//! error when that count has stood still for too long. No clock of its own.

use super::super::board::Phase;
use crate::base::error::{Error, ErrorKind, Stage};
use std::time::{Duration, Instant};

/// The watch over one run.
#[derive(Debug)]
pub(super) struct Watchdog {
    open_limit: Duration,
    stall_limit: Duration,
    looks: u64,
    since: Instant,
    /// When somebody last looked at the run.
    last: Instant,
}

/// Two looks of the watchdog that lie further apart were not the run's fault: the machine slept, or had
/// no time for us.
const GAP: Duration = Duration::from_secs(5);

/// The engine has the same limit for opening a file, and says more than this one can: it goes first.
const ENGINE_FIRST: Duration = Duration::from_secs(1);

/// A film's bytes may all still be in memory when it is encoded; a slow disk takes minutes to take them,
/// in one call that tells nothing meanwhile.
const FINISHING: u32 = 10;

impl Watchdog {
    /// `open_limit` is for finding the source and reading its headers.
    pub(super) fn new(open_limit: Duration, stall_limit: Duration, now: Instant) -> Self {
        Self { open_limit, stall_limit, looks: 0, since: now, last: now }
    }

    /// The run's count at this moment; an error when it stands still.
    pub(super) fn look(&mut self, looks: u64, phase: Phase, now: Instant) -> Option<Error> {
        let missed = now.saturating_duration_since(self.last);
        self.last = now;
        if missed > GAP {
            self.since += missed;
        }
        if looks != self.looks {
            (self.looks, self.since) = (looks, now);
            return None;
        }
        let still = now.saturating_duration_since(self.since);
        let limit = match phase {
            Phase::Opening => self.open_limit + ENGINE_FIRST,
            Phase::Working => self.stall_limit,
            Phase::Finishing => self.stall_limit * FINISHING,
        };
        (still > limit).then(|| stands_still(phase, still))
    }
}

fn stands_still(phase: Phase, still: Duration) -> Error {
    let stage = match phase {
        Phase::Opening => return never_opened(still),
        Phase::Working => Stage::Demux,
        Phase::Finishing => Stage::Publish,
    };
    let message = format!("no stage of the job has got any further for {} s", still.as_secs());
    Error::new(ErrorKind::Timeout, "stalled", stage, message).hint(
        "look whether the disks of the source and of the output answer; limits.stall_timeout sets how long is too long",
    )
}

fn never_opened(still: Duration) -> Error {
    let message = format!("nothing has come of the source for {} s while it was opened", still.as_secs());
    Error::new(ErrorKind::Timeout, "open_timeout", Stage::Open, message)
        .hint("check the disk or network mount; limits.open_timeout sets how long is too long")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn codes(looks: impl Iterator<Item = (u64, u64)>) -> Vec<&'static str> {
        codes_while(Phase::Working, looks)
    }

    fn codes_while(phase: Phase, looks: impl Iterator<Item = (u64, u64)>) -> Vec<&'static str> {
        let start = Instant::now();
        let mut dog = Watchdog::new(2 * SECOND, 10 * SECOND, start);
        looks
            .filter_map(|(at, looks)| dog.look(looks, phase, start + at as u32 * SECOND))
            .map(|e| e.code())
            .collect()
    }

    #[test]
    fn a_run_that_moves_is_left_alone() {
        assert_eq!(codes((0..100).map(|at| (at, 1 + at / 9))), [""; 0]);
    }

    #[test]
    fn a_run_that_stands_still_is_told_after_the_limit() {
        assert_eq!(codes((0..=11).map(|at| (at, 7))), ["stalled"], "ten seconds after the look at 0");
        assert_eq!(codes((0..=10).map(|at| (at, 7))), [""; 0]);
    }

    #[test]
    fn while_the_source_is_opened_the_limit_is_that_of_opening() {
        for looks in [0, 7] {
            let seen = codes_while(Phase::Opening, (0..=4).map(|at| (at, looks)));
            assert_eq!(seen, ["open_timeout"], "{looks} looks");
        }
        let slow = codes_while(Phase::Opening, (0..100).map(|at| (at, 1 + at / 3)));
        assert_eq!(slow, [""; 0], "a source that is slow, but answers");
    }

    #[test]
    fn syncing_may_take_longer_but_not_for_ever() {
        let start = Instant::now();
        let mut dog = Watchdog::new(2 * SECOND, 10 * SECOND, start);
        let mut look = |at| dog.look(7, Phase::Finishing, start + at * SECOND).map(|e| (e.code(), e.stage()));
        assert!((0..=100).all(|at| look(at).is_none()));
        assert_eq!(look(101), Some(("stalled", Stage::Publish)));
    }

    #[test]
    fn time_in_which_nobody_looked_does_not_count() {
        assert_eq!(codes([(0, 7), (1, 7), (600, 7), (605, 7)].into_iter()), [""; 0]);
        assert_eq!(codes([(0, 7), (1, 7), (600, 7), (605, 7), (609, 7), (611, 7)].into_iter()), ["stalled"]);
    }
}
