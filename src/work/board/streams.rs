//! Where a job's output can be played from.
//!
//! What enters: a job's id. What leaves: what it has to show at this moment. Whether that is still what
//! lies there is for whoever opens it to find out: nothing here asks a disk but the journal's.

use super::{Board, broke_off, notes};
use crate::base::error::Result;
use crate::model::document::OutputFormat;
use crate::model::record::{JobState, Outputs};
use crate::store::claim::Identity;
use crate::store::hls_dir::Growing;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use tokio::task::spawn_blocking;

/// What a job has to show.
#[derive(Clone, Debug)]
pub enum Stream {
    /// Nothing yet.
    NotYet(JobState),
    /// What it has made so far.
    Growing(Growing),
    /// What it has published.
    Published(PublishedOutput),
    /// Nothing, and nothing will come: it has ended without, or its output was removed.
    Gone(JobState),
}

/// What a job has published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishedOutput {
    /// Where, links not looked at.
    pub target: PathBuf,
    /// By what it is known: something else may lie there by now.
    pub identity: Identity,
    /// A single file rather than a folder.
    pub single: bool,
}

impl Board {
    /// What the job has to show; `None` for a job that there is not.
    ///
    /// # Errors
    /// Those of the journal.
    pub async fn stream(&self, id: &str) -> Result<Option<Stream>> {
        let live = self.state().live(id).cloned();
        if let Some(entry) = live {
            let nothing = || Stream::NotYet(entry.record().state);
            return Ok(Some(entry.growing().map_or_else(nothing, Stream::Growing)));
        }
        let Some(job) = self.journal().get(id).await? else { return Ok(None) };
        if !job.state.has_ended() {
            return Ok(Some(Stream::NotYet(job.state)));
        }
        if job.outputs == Outputs::default() {
            return Ok(Some(Stream::Gone(job.state)));
        }
        let (journal, key) = (self.journal().clone(), notes::published(id));
        let noted = spawn_blocking(move || journal.meta_blocking(&key)).await.map_err(broke_off)??;
        let noted = noted.and_then(|text| notes::Published::read(&text));
        // It may lie outside of what the node has now.
        let target = notes::target(self.paths(), &job.document).ok();
        let single = job.document.format != OutputFormat::Hls;
        Ok(Some(match (noted, target) {
            (Some(noted), Some(target)) => {
                Stream::Published(PublishedOutput { target, identity: noted.identity, single })
            }
            _ => Stream::Gone(job.state),
        }))
    }

    /// How often an output has come or gone: while this stays, so does what [`Board::stream`] says of jobs
    /// that have ended.
    pub fn outputs_changed(&self) -> u64 {
        self.0.outputs_changed.load(Ordering::SeqCst)
    }

    pub(super) fn outputs_change(&self) {
        self.0.outputs_changed.fetch_add(1, Ordering::SeqCst);
    }
}
