//! Bringing back what earlier processes had accepted.
//!
//! What enters: the live jobs of the journal, and what is known of the death of the process before.
//! What leaves: a board with each of them where it was, or ended where that is what the journal says.
//! Runs before anything is accepted or started, and asks no disk but the journal's: that of the outputs
//! may hang. Whether an output had got its name is looked at when its job runs again
//! ([`was_published`]); what lies beside targets is noted, and tidied later.

use super::entry::{Cause, Entry};
use super::{Board, places};
use crate::base::error::{Error, Result};
use crate::config::paths::PathMap;
use crate::model::record::{Job, JobError, JobProgress, JobState};
use crate::store::claim::{Identity, discard, identity};
use crate::work::deaths::{Death, Sentence, judge, poison};
use crate::work::journal::Live;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::sync::Arc;

/// How the names of notes begin that tell what lies beside a target and belongs to nobody any more.
pub(in crate::work) const TIDY: &str = "tidy.";

/// The name in the journal of the promise that a job is cancelled.
pub(in crate::work) fn cancelled(id: &str) -> String {
    format!("cancelled.{id}")
}

/// The name in the journal of what a job is about to publish, or has.
pub(in crate::work) fn published(id: &str) -> String {
    format!("published.{id}")
}

/// The note that a job that does not go on may have left something beside its target.
pub(in crate::work) fn to_tidy(entry: &Entry) -> (String, Option<String>) {
    (format!("{TIDY}{}", entry.id()), Some(entry.target().display().to_string()))
}

/// What a job is about to publish, or has: written before the output gets its name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(in crate::work) struct Published {
    /// Which output.
    pub(in crate::work) identity: Identity,
    /// The job as it will be when that has succeeded.
    pub(in crate::work) job: Job,
}

impl Published {
    pub(in crate::work) fn read(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }
}

/// A live job as the board keeps it.
pub(super) fn entry(paths: &PathMap, live: Live) -> Result<Entry> {
    let target = places::target(paths, &live.job.document)?;
    let input = paths.to_local(&live.job.document.input)?;
    Ok(Entry::new(live.job, target, places::root_of(&input), live.suspect))
}

/// The record of a job that has succeeded without having come to say so: an earlier process died between
/// the rename of its output and the note of it. May hang with the disk.
///
/// # Errors
/// Those of the journal.
pub(in crate::work) fn was_published(board: &Board, entry: &Entry) -> Result<Option<Job>> {
    let noted = board.journal().meta_blocking(&published(entry.id()))?;
    let noted = noted.and_then(|text| Published::read(&text));
    let there = noted.as_ref().and_then(|_| identity(entry.target()));
    Ok(noted.filter(|noted| there.as_ref() == Some(&noted.identity)).map(|noted| noted.job))
}

impl Board {
    /// Brings back the jobs of the journal. Blocks. `death` is how the process before ended.
    ///
    /// # Errors
    /// When the journal cannot be read. Where it cannot be written (a full disk), jobs wait all the same.
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
        let is_cancelled = self.journal().meta_blocking(&cancelled(&id))?.is_some();
        let may_be_whole = self.journal().meta_blocking(&published(&id))?.is_some();
        let was_running = live.job.state == JobState::Running;
        if was_running {
            live.job.enter(JobState::Queued, Timestamp::now());
        }
        let written = match sentence {
            Sentence::Poison { deaths } => {
                let e = poison(deaths, death);
                return self.end(live.job, JobState::Failed, Some(&e), Some(deaths));
            }
            _ if is_cancelled && !may_be_whole => {
                return self.end(live.job, JobState::Cancelled, None, None);
            }
            Sentence::Suspect { deaths } => {
                tracing::warn!(job = id, "job {id} may have killed the process ({deaths}): it runs alone");
                live.suspect = true;
                let event = was_running.then(|| self.event(&live.job)).flatten();
                self.journal().sentence_blocking(live.job.clone(), event, deaths, true)
            }
            Sentence::Innocent if was_running => self.write_blocking(&live.job),
            Sentence::Innocent => Ok(()),
        };
        if let Err(e) = written {
            tracing::error!(job = id, "job {id} waits, though that cannot be written down: {e}");
        }
        self.wait_again(live, is_cancelled)
    }

    /// The configuration may have changed since the job was accepted.
    fn wait_again(&self, live: Live, is_cancelled: bool) -> Result<()> {
        match entry(self.paths(), live.clone()) {
            Ok(entry) => {
                // It ends as soon as it is known that its output has not got its name.
                if is_cancelled {
                    entry.stop(Cause::Cancelled);
                }
                self.state().enter(Arc::new(entry));
                Ok(())
            }
            Err(e) => self.end(live.job, JobState::Failed, Some(&e), None),
        }
    }

    /// Ends a job that does not go on. `deaths`: those that it is condemned for.
    fn end(&self, mut job: Job, state: JobState, error: Option<&Error>, deaths: Option<u32>) -> Result<()> {
        let id = job.id().to_owned();
        job.enter(state, Timestamp::now());
        job.error = error.map(JobError::from);
        job.progress = JobProgress { eta_ms: None, ..job.progress };
        if let Some(error) = error {
            tracing::error!(job = id, "job {id} has failed: {error}");
        }
        if let Ok(target) = places::target(self.paths(), &job.document) {
            let note = format!("{TIDY}{id}");
            self.journal().set_meta_blocking(&note, Some(&target.display().to_string()))?;
        }
        let event = self.event(&job);
        match deaths {
            Some(deaths) => self.journal().sentence_blocking(job, event, deaths, true)?,
            None => {
                let notes = vec![(cancelled(&id), None)];
                self.journal().change_noting_blocking(job, event, notes)?;
            }
        }
        self.wake_outbox();
        Ok(())
    }
}

/// Removes what a job that does not go on has left beside its target; whether that is done. May hang with
/// the disk.
pub(in crate::work) fn tidy(id: &str, target: &Path) -> bool {
    match discard(id, target) {
        Ok(_) => true,
        // Its run is still there, and tidies by itself when it ends.
        Err(e) if e.code() == "output_in_use" => false,
        Err(e) => {
            tracing::warn!(job = id, "what job {id} has left beside {} stays: {e}", target.display());
            false
        }
    }
}
