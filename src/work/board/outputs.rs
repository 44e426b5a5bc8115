//! What jobs have published, and what they have left: removed, on a disk that may hang.
//!
//! What enters: wishes to remove an output, notes of leftovers. What leaves: free space. Nothing is removed
//! that is not known to be the job's own.

use super::{Board, Removal, broke_off, notes, places};
use crate::base::error::Result;
use crate::model::record::{Job, Outputs};
use crate::store::claim::{Gone, remove_output};
use std::path::Path;
use std::time::Duration;
use tokio::time::timeout;

/// How long a removal may take: a long film on a slow network disk has thousands of files.
const REMOVAL_LIMIT: Duration = Duration::from_secs(600);

impl Board {
    /// Removes what an ended job had published, if it is still that.
    ///
    /// # Errors
    /// Those of the journal; `output_not_ours` when something else lies there now; `output_not_answering`,
    /// and refusals of the file system.
    pub async fn remove_output(&self, id: &str) -> Result<Option<Removal>> {
        let live = self.state().live(id).map(|entry| entry.record().state);
        if let Some(state) = live {
            return Ok(Some(Removal::Live(state)));
        }
        let Some(job) = self.journal().get(id).await? else { return Ok(None) };
        if !job.state.has_ended() {
            return Ok(Some(Removal::Live(job.state)));
        }
        let board = self.clone();
        // To the end, even when whoever asked has gone.
        let gone =
            tokio::spawn(async move { board.remove_published(job).await }).await.map_err(broke_off)??;
        match gone {
            Gone::Removed | Gone::Nothing => Ok(Some(Removal::Removed)),
            Gone::Another => Err(places::replaced(id)),
        }
    }

    /// Removes an output and forgets it. What another job has put in its place stays.
    pub(super) async fn remove_published(&self, mut job: Job) -> Result<Gone> {
        if job.outputs == Outputs::default() {
            return Ok(Gone::Nothing);
        }
        let (journal, key) = (self.journal().clone(), notes::published(job.id()));
        let (paths, document) = (self.paths().clone(), job.document.clone());
        let gone = self
            .on_disk(REMOVAL_LIMIT, move || {
                let target = places::published_target(&paths, &document)?;
                match journal.meta_blocking(&key)?.and_then(|text| notes::Published::read(&text)) {
                    Some(ours) => remove_output(&target, &ours.identity),
                    None => Ok(Gone::Another),
                }
            })
            .await?;
        if gone == Gone::Another {
            return Ok(gone);
        }
        tracing::info!(job = job.id(), "the output of job {} is removed", job.id());
        self.forget_output(&mut job).await?;
        Ok(gone)
    }

    pub(super) async fn forget_output(&self, job: &mut Job) -> Result<()> {
        job.outputs = Outputs::default();
        let notes = vec![(notes::published(job.id()), None)];
        let forgotten = self.journal().change_noting(job.clone(), None, notes).await;
        self.outputs_change();
        forgotten
    }

    /// Works through the notes of what lies beside targets of jobs that do not go on.
    pub(super) async fn tidy_up(&self) {
        let (journal, board) = (self.journal().clone(), self.clone());
        let tidied = self.on_disk(REMOVAL_LIMIT, move || {
            let mut done: Vec<String> = Vec::new();
            for (note, target) in board.journal().notes_blocking(notes::TIDY)? {
                let id = note.strip_prefix(notes::TIDY).unwrap_or_default().to_owned();
                // A new job of that id takes over what lies there, or removes it.
                let is_live = board.state().live(&id).is_some();
                if !is_live && notes::tidy(&id, Path::new(&target)) {
                    done.push(note);
                }
            }
            Ok(done)
        });
        match tidied.await {
            Ok(done) => {
                for note in done {
                    if let Err(e) = journal.set_meta(&note, None).await {
                        tracing::debug!("a note of what was tidied stays: {e}");
                    }
                }
            }
            Err(e) => tracing::debug!("leftovers stay until the next round: {e}"),
        }
    }

    /// Does something with the output's disk, which may hang: few at once, and not for long.
    pub(super) async fn on_disk<T: Send + 'static>(
        &self,
        limit: Duration,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let permits = self.0.disk_threads.clone();
        let done = async move {
            let permit = permits.acquire_owned().await.map_err(|_| places::silent())?;
            // The permit goes with the thread: one that hangs keeps it.
            let thread = tokio::task::spawn_blocking(move || {
                let done = work();
                drop(permit);
                done
            });
            thread.await.map_err(broke_off)?
        };
        timeout(limit, done).await.map_err(|_| places::silent())?
    }
}
