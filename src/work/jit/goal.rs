//! How far a run may go, and its rest when it is there.
//!
//! What enters: the first segment that is not to be made yet. What leaves: the run's thread, once it may go
//! on. It is held, not ended: its codecs stay as they are, and it wakes the moment it is needed.

use crate::base::cancel::Cancel;
use crate::base::error::{Result, Stage};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A run that rests is alive, and sees within this time that another of its stages has failed.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A run's goal.
#[derive(Debug)]
pub struct Goal {
    at: Mutex<At>,
    changed: Condvar,
}

#[derive(Clone, Copy, Debug)]
struct At {
    goal: u64,
    /// A run that rests goes on then, and not before.
    from: Instant,
    rests: bool,
}

impl At {
    /// How long the run has to wait before it makes segment `index`; `None` if it may now.
    fn wait(&self, index: u64) -> Option<Duration> {
        if index >= self.goal {
            return Some(LOOK_EVERY);
        }
        let left = self.from.saturating_duration_since(Instant::now());
        (!left.is_zero()).then(|| left.min(LOOK_EVERY))
    }
}

impl Goal {
    /// A run may make the segments before `goal`.
    pub fn new(goal: u64) -> Self {
        Self { at: Mutex::new(At { goal, from: Instant::now(), rests: false }), changed: Condvar::new() }
    }

    /// It may go so far. If it rests it begins with that after a pause.
    pub fn set(&self, goal: u64, pause: Duration) {
        let mut at = self.lock();
        at.goal = goal;
        if at.rests {
            at.from = Instant::now() + pause;
        }
        drop(at);
        self.changed.notify_all();
    }

    /// Somebody waits: no pause.
    pub fn hurry(&self) {
        self.lock().from = Instant::now();
        self.changed.notify_all();
    }

    /// Wakes the run to look at its abort flag.
    pub fn wake(&self) {
        // Taken and let go, so that a run between its look and its sleep is asleep by now.
        drop(self.lock());
        self.changed.notify_all();
    }

    /// Whether the run rests.
    pub fn rests(&self) -> bool {
        self.lock().rests
    }

    /// Holds the run until it may make segment `index`.
    ///
    /// # Errors
    /// `cancelled`, when it is not wanted any more.
    pub fn wait_for(&self, index: u64, cancel: &Cancel) -> Result<()> {
        let mut at = self.lock();
        while let Some(wait) = at.wait(index).filter(|_| !cancel.is_cancelled()) {
            at.rests = true;
            // It stands still because nobody wants more: not a stall.
            cancel.goes_on();
            at = self.changed.wait_timeout(at, wait).unwrap_or_else(PoisonError::into_inner).0;
        }
        at.rests = false;
        drop(at);
        cancel.check(Stage::Publish)
    }

    fn lock(&self) -> MutexGuard<'_, At> {
        self.at.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::thread;

    #[test]
    fn a_run_rests_at_its_goal_and_wakes_when_it_moves() {
        let (goal, cancel) = (Arc::new(Goal::new(2)), Cancel::new());
        goal.wait_for(1, &cancel).unwrap();
        let (its_goal, its_cancel) = (goal.clone(), cancel.clone());
        let run = thread::spawn(move || {
            its_goal.wait_for(2, &its_cancel)?;
            its_goal.wait_for(7, &its_cancel)
        });
        while !goal.rests() {
            thread::yield_now();
        }
        goal.set(3, Duration::ZERO);
        // It rests again, before segment 7, which only the flag ends.
        while !goal.rests() {
            thread::yield_now();
        }
        cancel.cancel();
        goal.wake();
        assert!(run.join().unwrap().unwrap_err().is_cancelled());
        assert!(!goal.rests());
    }

    #[test]
    fn it_goes_on_after_a_pause_or_when_somebody_waits() {
        let (goal, cancel) = (Arc::new(Goal::new(1)), Cancel::new());
        let (its_goal, its_cancel) = (goal.clone(), cancel.clone());
        // Who works is not held up.
        goal.set(1, Duration::from_secs(3600));
        let run = thread::spawn(move || (0..3).try_for_each(|index| its_goal.wait_for(index, &its_cancel)));
        let rested = || {
            while !goal.rests() {
                thread::yield_now();
            }
        };
        rested();
        goal.set(2, Duration::from_secs(3600));
        thread::yield_now();
        assert!(goal.rests() && !run.is_finished());
        goal.hurry();
        rested();
        goal.set(3, Duration::from_millis(1));
        run.join().unwrap().unwrap();
    }
}
