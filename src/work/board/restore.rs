//! Bringing back what earlier processes had accepted.
//!
//! What enters: the live jobs of the journal, and what is known of the death of the process before.
//! What leaves: a board with each of them where it was, or ended where that is what the journal and
//! the disk say. Runs before anything is accepted or started.

use super::entry::Entry;
use super::{Board, places};
use crate::base::error::{Error, ErrorKind, Result, Stage};
use crate::config::paths::PathMap;
use crate::model::record::{Job, JobError, JobProgress, JobState};
use crate::store::claim::{discard, identity};
use crate::work::deaths::{Death, Sentence, judge, poison};
use crate::work::journal::Live;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::sync::Arc;

/// The name in the journal of the promise that a job is cancelled.
pub(in crate::work) fn cancelled(id: &str) -> String {
    format!("cancelled.{id}")
}

/// The name in the journal of what a job is about to publish, or has.
pub(in crate::work) fn published(id: &str) -> String {
    format!("published.{id}")
}

/// What a job is about to publish, or has: written before the output gets its name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(in crate::work) struct Published {
    /// The output's inode, which its rename keeps. (The device's number may change with each mount.)
    pub(in crate::work) inode: u64,
    /// The job as it will be when that has succeeded.
    pub(in crate::work) job: Job,
}

impl Published {
    pub(super) fn read(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }
}

/// A live job as the board keeps it.
pub(super) fn entry(paths: &PathMap, live: Live) -> Result<Entry> {
    let target = places::target(paths, &live.job.document)?;
    let input = paths.to_local(&live.job.document.input)?;
    Ok(Entry::new(live.job, target, places::root_of(&input), live.suspect))
}

impl Board {
    /// Brings back the jobs of the journal. Blocks. `death` is how the process before ended.
    ///
    /// # Errors
    /// Those of the journal.
    pub fn restore(&self, death: &Death) -> Result<()> {
        let live = self.journal().live_blocking()?;
        let sentences = judge(&live, death);
        let waiting = live.len();
        for (live, sentence) in live.into_iter().zip(sentences) {
            self.bring_back(live, sentence, death)?;
        }
        if waiting > 0 {
            tracing::info!("{waiting} jobs of an earlier process are taken up again");
        }
        Ok(())
    }

    fn bring_back(&self, mut live: Live, sentence: Sentence, death: &Death) -> Result<()> {
        let id = live.job.id().to_owned();
        if let Some(job) = self.was_published(&live.job)? {
            tracing::info!(job = id, "job {id} had published its output: it has succeeded");
            self.tidy_beside(&live.job);
            return self.write_blocking(&job);
        }
        if self.journal().meta_blocking(&cancelled(&id))?.is_some() {
            self.end(live.job, JobState::Cancelled, None)?;
            return self.journal().set_meta_blocking(&cancelled(&id), None);
        }
        match sentence {
            Sentence::Innocent => {}
            Sentence::Suspect { deaths } => {
                tracing::warn!(job = id, "job {id} may have killed the process ({deaths}): it runs alone");
                self.journal().blame_blocking(&id, deaths, true)?;
                live.suspect = true;
            }
            Sentence::Poison { deaths } => {
                self.journal().blame_blocking(&id, deaths, true)?;
                return self.end(live.job, JobState::Failed, Some(&poison(deaths, death)));
            }
        }
        if live.job.state == JobState::Running {
            live.job.enter(JobState::Queued, Timestamp::now());
            self.write_blocking(&live.job)?;
        }
        self.wait_again(live)
    }

    /// The configuration may have changed since the job was accepted.
    fn wait_again(&self, live: Live) -> Result<()> {
        match entry(self.paths(), live.clone()) {
            Ok(entry) => {
                self.state().enter(Arc::new(entry));
                Ok(())
            }
            Err(e) => self.end(live.job, JobState::Failed, Some(&e)),
        }
    }

    /// The job as succeeded, when its output has got its name and only the note of it is missing.
    fn was_published(&self, job: &Job) -> Result<Option<Job>> {
        let noted = self.journal().meta_blocking(&published(job.id()))?;
        let Some(noted) = noted.and_then(|text| Published::read(&text)) else { return Ok(None) };
        let target = places::target(self.paths(), &job.document).ok();
        let there = target.and_then(|target| identity(&target)).map(|(_, inode)| inode);
        if job.state != JobState::Running || there != Some(noted.inode) {
            return Ok(None);
        }
        Ok(Some(noted.job))
    }

    /// Removes what a job that does not go on has left beside its target.
    fn tidy_beside(&self, job: &Job) {
        if let Ok(target) = places::target(self.paths(), &job.document) {
            tidy(job.id(), &target);
        }
    }

    /// Ends a job that does not go on, and removes what there is of its output.
    fn end(&self, mut job: Job, state: JobState, error: Option<&Error>) -> Result<()> {
        self.tidy_beside(&job);
        job.enter(state, Timestamp::now());
        job.error = error.map(JobError::from);
        job.progress = JobProgress { eta_ms: None, ..job.progress };
        if let Some(error) = error {
            tracing::error!(job = job.id(), "job {} has failed: {error}", job.id());
        }
        self.write_blocking(&job)
    }
}

/// Removes what a job that does not go on has left beside its target. May hang with the disk.
pub(in crate::work) fn tidy(id: &str, target: &Path) {
    if let Err(e) = discard(id, target) {
        tracing::warn!(job = id, "what job {id} has left beside {} stays: {e}", target.display());
    }
}

/// A job that wants what is not there.
pub(in crate::work) fn no_hardware() -> Error {
    let message = "the job requires hardware, and this node has none that it can use";
    Error::new(ErrorKind::Unavailable, "no_hardware", Stage::Plan, message)
        .hint("give the job to another node, or set hardware to auto")
}
