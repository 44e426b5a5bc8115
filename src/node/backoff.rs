//! How long to wait before trying again: exponential, with full jitter.
//!
//! What enters: nothing but how often it was asked. What leaves: a random time between nothing and a
//! ceiling that doubles. Full jitter, because the nodes of a fleet lose their orchestrator in the
//! same second and must not come back to it in the same second. No clock, no waiting.

use std::time::Duration;

/// The first ceiling.
pub const FIRST: Duration = Duration::from_millis(500);
/// The last ceiling.
pub const LAST: Duration = Duration::from_secs(30);

/// The state of one series of attempts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Backoff {
    attempts: u32,
}

impl Backoff {
    /// Attempts that have failed so far.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Another attempt has failed: how long to wait before the next one.
    pub fn failed(&mut self) -> Duration {
        let most = ceiling(self.attempts);
        self.attempts = self.attempts.saturating_add(1);
        let most_us = u64::try_from(most.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(fastrand::u64(0..=most_us))
    }
}

/// The longest wait after `attempts` failures before this one.
fn ceiling(attempts: u32) -> Duration {
    FIRST.saturating_mul(2u32.saturating_pow(attempts)).min(LAST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ceiling_doubles_from_half_a_second_to_thirty() {
        let seconds: Vec<f64> = (0..8).map(|n| ceiling(n).as_secs_f64()).collect();
        assert_eq!(seconds, [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]);
        assert_eq!(ceiling(u32::MAX), LAST);
    }

    #[test]
    fn waits_fill_the_range_below_the_ceiling() {
        let waits: Vec<Duration> = (0..2000).map(|_| Backoff { attempts: 3 }.failed()).collect();
        assert!(waits.iter().all(|wait| *wait <= Duration::from_secs(4)));
        assert!(waits.iter().any(|wait| *wait < Duration::from_secs(1)));
        assert!(waits.iter().any(|wait| *wait > Duration::from_secs(3)));
    }

    #[test]
    fn attempts_are_counted() {
        let mut backoff = Backoff::default();
        for _ in 0..5 {
            backoff.failed();
        }
        assert_eq!(backoff.attempts(), 5);
    }
}
