//! Whether a run stands still.
//!
//! What enters: how often the run's stages have looked at the abort flag (they do with every item that
//! they pass on), and the time. What leaves: an error when that count has stood still for too long.
//! No clock of its own.

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

impl Watchdog {
    /// `open_limit` is for what comes before the first look of a stage: finding the files.
    pub(super) fn new(open_limit: Duration, stall_limit: Duration, now: Instant) -> Self {
        Self { open_limit, stall_limit, looks: 0, since: now, last: now }
    }

    /// The run's count at this moment; an error when it stands still.
    pub(super) fn look(&mut self, looks: u64, now: Instant) -> Option<Error> {
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
        if looks == 0 {
            // The engine has the same limit for opening the source, and says more: let it.
            return (still > self.open_limit + GAP).then(|| never_began(still));
        }
        (still > self.stall_limit).then(|| stalled(still))
    }
}

fn stalled(still: Duration) -> Error {
    let message = format!("no stage of the job has got any further for {} s", still.as_secs());
    Error::new(ErrorKind::Timeout, "stalled", Stage::Demux, message).hint(
        "look whether the disks of the source and of the output answer; limits.stall_timeout sets how long is too long",
    )
}

fn never_began(still: Duration) -> Error {
    let message = format!("the source was not found within {} s", still.as_secs());
    Error::new(ErrorKind::Timeout, "open_timeout", Stage::Open, message)
        .hint("check the disk or network mount")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn codes(looks: impl Iterator<Item = (u64, u64)>) -> Vec<&'static str> {
        let start = Instant::now();
        let mut dog = Watchdog::new(2 * SECOND, 10 * SECOND, start);
        looks
            .filter_map(|(at, looks)| dog.look(looks, start + at as u32 * SECOND))
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
    fn before_the_first_look_the_limit_is_that_of_opening() {
        assert_eq!(codes((0..=8).map(|at| (at, 0))), ["open_timeout"]);
    }

    #[test]
    fn time_in_which_nobody_looked_does_not_count() {
        assert_eq!(codes([(0, 7), (1, 7), (600, 7), (605, 7)].into_iter()), [""; 0]);
        assert_eq!(codes([(0, 7), (1, 7), (600, 7), (605, 7), (609, 7), (611, 7)].into_iter()), ["stalled"]);
    }
}
