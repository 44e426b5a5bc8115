//! What happens to a job, for one who follows it.
//!
//! What enters: a live job, or the record of one that has ended. What leaves: every change of its state
//! once, in order, and between them how far it is; then the end. Slow followers miss progress, never
//! a state.

use super::entry::Entry;
use crate::model::record::{Job, JobProgress, StateChange};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
// invariant: progress does not announce itself, so a follower looks at it now and then
use tokio::time::{Instant, sleep_until};

/// Between two messages about progress.
const PROGRESS_EVERY: Duration = Duration::from_millis(500);

/// Something that happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Happening {
    /// It came into a state.
    State {
        /// Which, and when.
        change: StateChange,
        /// The job as it stands, which may be further on.
        job: Box<Job>,
    },
    /// It got further.
    Progress {
        /// The job's id.
        job: String,
        /// How far.
        progress: JobProgress,
    },
}

/// One follower's view.
pub struct Follow {
    /// `None` for a job that had ended before.
    live: Option<(Arc<Entry>, watch::Receiver<u64>)>,
    /// The newest record that was looked at.
    job: Job,
    /// Changes that are still to be told.
    untold: VecDeque<StateChange>,
    /// The last change that was told, or need not be.
    told: u64,
    progress: Option<JobProgress>,
    next_progress: Instant,
}

impl Follow {
    pub(super) fn live(entry: Arc<Entry>, after: Option<u64>) -> Self {
        let changes = entry.changes();
        let job = entry.now();
        Self::new(Some((entry, changes)), job, after)
    }

    pub(super) fn ended(job: Job, after: Option<u64>) -> Self {
        Self::new(None, job, after)
    }

    fn new(live: Option<(Arc<Entry>, watch::Receiver<u64>)>, job: Job, after: Option<u64>) -> Self {
        let told = after.unwrap_or(0);
        let mut this =
            Self { live, job, untold: VecDeque::new(), told, progress: None, next_progress: Instant::now() };
        this.collect();
        this
    }

    /// Whether nothing more will ever come.
    pub fn is_over(&self) -> bool {
        self.untold.is_empty() && self.job.state.has_ended()
    }

    /// The next thing that happens; `None` when the job has ended and all is told, or the job is to go
    /// on in another process.
    pub async fn next(&mut self) -> Option<Happening> {
        loop {
            if let Some(change) = self.untold.pop_front() {
                self.told = change.number;
                return Some(Happening::State { change, job: Box::new(self.job.clone()) });
            }
            if self.job.state.has_ended() {
                return None;
            }
            let (entry, changes) = self.live.as_mut()?;
            tokio::select! {
                biased;
                changed = changes.changed() => {
                    changed.ok()?;
                    self.job = entry.now();
                    self.collect();
                }
                // invariant: see the import
                () = sleep_until(self.next_progress) => {
                    self.next_progress = Instant::now() + PROGRESS_EVERY;
                    let now = entry.running().filter(|now| self.progress.as_ref() != Some(now));
                    if let Some(progress) = now {
                        self.progress = Some(progress.clone());
                        return Some(Happening::Progress { job: entry.id().to_owned(), progress });
                    }
                }
            }
        }
    }

    fn collect(&mut self) {
        let seen = self.untold.back().map_or(self.told, |last| last.number);
        self.untold.extend(self.job.history.iter().filter(|change| change.number > seen).cloned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::document::parse;
    use crate::model::record::JobState;
    use jiff::Timestamp;

    fn job() -> Job {
        Job::accepted(parse(br#"{"id": "a", "input": "/a"}"#).unwrap(), Timestamp::UNIX_EPOCH)
    }

    fn state(happening: Option<Happening>) -> Option<(u64, JobState)> {
        match happening? {
            Happening::State { change, .. } => Some((change.number, change.state)),
            Happening::Progress { .. } => panic!("it does not run"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn every_state_is_told_once_in_order_and_then_it_is_over() {
        let entry = Arc::new(Entry::new(job(), "/out/a".into(), None, false));
        let mut follow = Follow::live(entry.clone(), None);
        assert_eq!(state(follow.next().await), Some((1, JobState::Queued)));
        let mut job = entry.record();
        for to in [JobState::Running, JobState::Queued, JobState::Running, JobState::Failed] {
            job.enter(to, Timestamp::UNIX_EPOCH);
            entry.came_into(job.clone());
        }
        assert!(!follow.is_over());
        for expected in [(2, JobState::Running), (3, JobState::Queued), (4, JobState::Running)] {
            assert_eq!(state(follow.next().await), Some(expected));
        }
        assert_eq!(state(follow.next().await), Some((5, JobState::Failed)));
        assert!(follow.is_over());
        assert_eq!(follow.next().await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn who_comes_back_hears_only_what_is_new() {
        let mut ended = job();
        ended.enter(JobState::Cancelled, Timestamp::UNIX_EPOCH);
        let mut follow = Follow::ended(ended.clone(), Some(1));
        assert_eq!(state(follow.next().await), Some((2, JobState::Cancelled)));
        assert!(follow.is_over());
        assert!(Follow::ended(ended, Some(2)).is_over());
    }
}
