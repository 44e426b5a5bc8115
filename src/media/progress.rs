//! How far a run is: written by the stages, read by whoever shows it.
//!
//! Atomics only: the readers (a progress bar, later HTTP) never make a stage wait.

use crate::base::time::Rational;
use crate::model::record::JobProgress;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The shared state of a run's progress.
#[derive(Debug)]
pub struct Progress {
    started: Instant,
    duration_ms: AtomicI64,
    first_ms: AtomicI64,
    /// What an earlier process had made.
    earlier_ms: AtomicI64,
    earlier_frames: AtomicU64,
    position_ms: AtomicI64,
    frames: AtomicU64,
    damaged: AtomicU64,
    published: AtomicBool,
    warnings: Mutex<Vec<String>>,
}

/// One look at the progress.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Snapshot {
    /// What a job's record shows too.
    #[serde(flatten)]
    pub progress: JobProgress,
    /// Damaged places seen in the source so far.
    pub damaged: u64,
}

impl Default for Progress {
    fn default() -> Self {
        Self::new()
    }
}

impl Progress {
    /// Nothing done yet; the clock starts now.
    pub fn new() -> Self {
        Self {
            started: Instant::now(),
            duration_ms: AtomicI64::new(0),
            first_ms: AtomicI64::new(0),
            earlier_ms: AtomicI64::new(0),
            earlier_frames: AtomicU64::new(0),
            position_ms: AtomicI64::new(0),
            frames: AtomicU64::new(0),
            damaged: AtomicU64::new(0),
            published: AtomicBool::new(false),
            warnings: Mutex::default(),
        }
    }

    /// So much of the title was made by an earlier process, or an earlier run of this one: it counts as done from
    /// the start, and what this one has decoded so far counts no more.
    pub fn continues_at(&self, time: Rational, frames: u64) {
        self.position_ms.store(0, Relaxed);
        self.frames.store(0, Relaxed);
        self.earlier_ms.store(time.to_ms(), Relaxed);
        self.earlier_frames.store(frames, Relaxed);
    }

    /// What the run will make: from `first` to `end`, in title time.
    pub fn set_span(&self, first: Rational, end: Rational) {
        self.first_ms.store(first.to_ms(), Relaxed);
        self.duration_ms.store((end - first).to_ms(), Relaxed);
    }

    /// A picture (or, without pictures, a piece of sound) was decoded up to `end`, in title time.
    pub fn decoded(&self, end: Rational, frames: u64) {
        self.frames.fetch_add(frames, Relaxed);
        self.position_ms.fetch_max(end.to_ms() - self.first_ms.load(Relaxed), Relaxed);
    }

    /// A damaged place in the source was passed.
    pub fn damaged(&self) {
        self.damaged.fetch_add(1, Relaxed);
    }

    /// Something that the person who asked should know, though the run goes on.
    pub fn warn(&self, warning: impl Into<String>) {
        let warning = warning.into();
        tracing::warn!("{warning}");
        let mut warnings = self.warnings.lock().unwrap_or_else(PoisonError::into_inner);
        if !warnings.contains(&warning) {
            warnings.push(warning);
        }
    }

    /// All warnings so far.
    pub fn warnings(&self) -> Vec<String> {
        self.warnings.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The output is whole, checked and in place: only now 100 %.
    pub fn published(&self) {
        self.published.store(true, Relaxed);
    }

    /// How it stands.
    pub fn snapshot(&self) -> Snapshot {
        self.snapshot_after(self.started.elapsed())
    }

    fn snapshot_after(&self, elapsed: Duration) -> Snapshot {
        let earlier_ms = self.earlier_ms.load(Relaxed);
        let duration_ms = self.duration_ms.load(Relaxed);
        let made_ms = self.position_ms.load(Relaxed).clamp(0, duration_ms.max(0));
        let published = self.published.load(Relaxed);
        let (position_ms, duration_ms) = match duration_ms {
            0 => (0, 0),
            _ => (made_ms + earlier_ms, duration_ms + earlier_ms),
        };
        let frames = self.frames.load(Relaxed);
        let seconds = elapsed.as_secs_f64().max(1e-3);
        let speed = made_ms as f64 / 1000.0 / seconds;
        // What follows decoding (encoders' delay, publishing, the check) is the last per cent.
        let percent = (duration_ms > 0).then(|| (position_ms as f64 * 99.0 / duration_ms as f64).min(99.0));
        let eta_ms =
            (speed > 0.0 && duration_ms > 0).then(|| ((duration_ms - position_ms) as f64 / speed) as i64);
        let progress = JobProgress {
            percent: if published { Some(100.0) } else { percent },
            position_ms: if published { duration_ms } else { position_ms },
            duration_ms,
            frames: frames + self.earlier_frames.load(Relaxed),
            fps: frames as f64 / seconds,
            speed,
            eta_ms: if published { Some(0) } else { eta_ms },
        };
        Snapshot { progress, damaged: self.damaged.load(Relaxed) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_never_falls_and_reaches_100_only_when_published() {
        let p = Progress::new();
        assert_eq!(p.snapshot().progress.percent, None);
        p.set_span(Rational::from_int(10), Rational::from_int(20));
        let mut last = 0.0;
        for at in [11, 13, 12, 15, 25, 14] {
            p.decoded(Rational::from_int(at), 25);
            let now = p.snapshot_after(Duration::from_secs(2)).progress.percent.unwrap();
            assert!(now >= last && now < 100.0);
            last = now;
        }
        assert_eq!(p.snapshot().progress.frames, 150);
        let resumed = Progress::new();
        resumed.continues_at(Rational::from_int(30), 750);
        resumed.set_span(Rational::from_int(30), Rational::from_int(40));
        resumed.decoded(Rational::from_int(31), 25);
        let now = resumed.snapshot_after(Duration::from_secs(1)).progress;
        assert_eq!((now.position_ms, now.duration_ms, now.speed), (31_000, 40_000, 1.0));
        assert_eq!((now.frames, now.fps), (775, 25.0));
        p.published();
        assert_eq!((p.snapshot().progress.percent, p.snapshot().progress.position_ms), (Some(100.0), 10_000));
    }
}
