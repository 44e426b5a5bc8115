//! A job document becomes a job that is kept, or a refusal.
//!
//! The order is the contract's: a document that names no known place is wrong whatever the load; one
//! that was taken before is answered as it stands, even by a full node; then admission; only then is
//! the disk asked whether the output's place is free.

use super::entry::Entry;
use super::places::{self, Places};
use super::state::State;
use super::{Board, broke_off, restore};
use crate::base::error::{Error, ErrorKind, Result};
use crate::model::document::{DocumentFault, JobDocument};
use crate::model::record::{Job, JobState};
use crate::work::admission::{Refusal, Verdict, decide};
use crate::work::journal::{Accepted, Live};
use jiff::Timestamp;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// How long the output's file system may take to say what lies in a place.
const LOOK_LIMIT: Duration = Duration::from_secs(2);

/// A document that was taken.
#[derive(Clone, Debug, PartialEq)]
pub enum Submitted {
    /// The job is new, and on the disk.
    New(Box<Job>),
    /// It was taken before: as it stands.
    Same(Box<Job>),
}

/// Why a document was not taken.
#[derive(Clone, Debug, PartialEq)]
pub enum NotTaken {
    /// It names places that there are not.
    Faults(Vec<DocumentFault>),
    /// Another job or output is in the way.
    Conflict {
        /// `id_conflict`, `output_in_use` or `output_exists`.
        code: &'static str,
        /// What is in the way, and what to do.
        message: String,
    },
    /// Not now.
    Refused(Refusal),
    /// It could not be kept.
    Failed(Error),
}

impl From<Error> for NotTaken {
    fn from(e: Error) -> Self {
        Self::Failed(e)
    }
}

/// What is known of an id.
enum Known {
    Job(Box<Job>),
    Nothing,
}

impl Board {
    /// Takes a document, or says why not. What is taken is on the disk, also when whoever asked does not
    /// wait for the answer.
    ///
    /// # Errors
    /// [`NotTaken`].
    pub async fn submit(&self, mut document: JobDocument) -> Result<Submitted, NotTaken> {
        let named = document.id.is_some();
        let id = document.id.get_or_insert_with(|| Uuid::now_v7().to_string()).clone();
        let places = places::of(self.paths(), &document).map_err(NotTaken::Faults)?;
        if named && let Known::Job(job) = self.known(&id).await? {
            return self.again(*job, &document);
        }
        match self.take_new(&id, places, document.clone()).await {
            // It may have come twice at the same moment, and the other was faster.
            Err(refused) if named => match self.known(&id).await? {
                Known::Job(job) => self.again(*job, &document),
                Known::Nothing => Err(refused),
            },
            taken => taken,
        }
    }

    async fn take_new(&self, id: &str, places: Places, document: JobDocument) -> Result<Submitted, NotTaken> {
        self.admit(|_| Ok(()))?;
        self.check_place(&places.target, document.overwrite).await?;
        self.admit(|state| reserve(state, id, &places.target))?;
        // In a task of its own: whoever asked may go away in the middle.
        let board = self.clone();
        tokio::spawn(async move { board.keep(document, places).await }).await.map_err(broke_off)?
    }

    /// The job of that id; waits for one that is being written down.
    async fn known(&self, id: &str) -> Result<Known> {
        loop {
            let entered = self.0.entered.notified();
            tokio::pin!(entered);
            entered.as_mut().enable();
            let (live, entering) = {
                let state = self.state();
                (state.live(id).cloned(), state.is_entering(id))
            };
            match live {
                Some(entry) => return Ok(Known::Job(Box::new(entry.now()))),
                None if entering => entered.await,
                None => break,
            }
        }
        Ok(self.journal().get(id).await?.map_or(Known::Nothing, |job| Known::Job(Box::new(job))))
    }

    /// A document whose id there is already.
    fn again(&self, job: Job, document: &JobDocument) -> Result<Submitted, NotTaken> {
        if !same(&job.document, document) {
            return Err(id_conflict(job.id()));
        }
        // Kept, but unknown to the queue: the disk failed just when it was written down.
        if job.state == JobState::Queued && self.state().live(job.id()).is_none() {
            self.adopt(&job);
        }
        Ok(Submitted::Same(Box::new(job)))
    }

    /// Lets a job wait that is kept and that nobody knows of; whether it does now.
    pub(super) fn adopt(&self, job: &Job) -> bool {
        let adopted = restore::entry(self.paths(), Live { job: job.clone(), deaths: 0, suspect: false });
        let adopted = adopted.map(|entry| self.state().enter_if_new(Arc::new(entry)));
        if let Err(e) = &adopted {
            tracing::error!(job = job.id(), "job {} cannot wait: {e}", job.id());
        }
        self.start_some();
        adopted.is_ok()
    }

    /// Decides, and does `then` under the same lock, so that nobody comes between.
    fn admit(&self, then: impl FnOnce(&mut State) -> Result<(), NotTaken>) -> Result<(), NotTaken> {
        let node = self.surroundings().facts();
        let mut state = self.state();
        match decide(&state.facts(self.limits(), node)) {
            Verdict::Accept => then(&mut state),
            Verdict::Refuse(refusal) => {
                state.sums.refused += 1;
                Err(NotTaken::Refused(refusal))
            }
        }
    }

    /// Asks the disk whether the place is free.
    async fn check_place(&self, target: &Path, overwrite: bool) -> Result<(), NotTaken> {
        let (paths, place) = (self.paths().clone(), target.to_owned());
        let looked = self.on_disk(LOOK_LIMIT, move || places::look(&paths, &place)).await;
        let taken = looked.map_err(|e| match e.kind() {
            ErrorKind::Usage => {
                let message = e.message().to_owned();
                NotTaken::Faults(vec![DocumentFault { pointer: "/output".into(), message }])
            }
            _ => e.into(),
        })?;
        if !taken || overwrite {
            return Ok(());
        }
        let there = self.paths().to_uri(target).unwrap_or_else(|| target.display().to_string());
        let message = format!("{there} exists already (choose another output, or set overwrite)");
        Err(NotTaken::Conflict { code: "output_exists", message })
    }

    /// Writes the job down and lets it wait.
    async fn keep(&self, document: JobDocument, places: Places) -> Result<Submitted, NotTaken> {
        let mut job = Job::accepted(document, Timestamp::now());
        job.warnings = job.document.notes();
        let id = job.id().to_owned();
        let kept = self.journal().accept(job.clone(), self.event(&job)).await;
        let result = match kept {
            Ok(Accepted::New) => {
                self.enter(&job, places);
                Ok(Submitted::New(Box::new(job)))
            }
            Ok(Accepted::Same(job)) => Ok(Submitted::Same(job)),
            Ok(Accepted::Different) => Err(id_conflict(&id)),
            Err(e) => Err(e.into()),
        };
        // Whoever entered has been released by that.
        self.state().release(&id);
        self.0.entered.notify_waiters();
        self.wake_outbox();
        self.start_some();
        result
    }

    fn enter(&self, job: &Job, places: Places) {
        tracing::info!(job = job.id(), "job {} is accepted: {}", job.id(), job.document.input);
        let entry = Arc::new(Entry::new(job.clone(), places.target, places.root, false));
        let mut state = self.state();
        state.sums.accepted += 1;
        state.enter(entry);
    }
}

/// Numbers are compared as they come out of the journal, which keeps them as text.
fn same(old: &JobDocument, new: &JobDocument) -> bool {
    let through_text = |document: &JobDocument| {
        serde_json::to_string(document).ok().and_then(|text| serde_json::from_str::<JobDocument>(&text).ok())
    };
    old == new || through_text(old) == through_text(new)
}

fn id_conflict(id: &str) -> NotTaken {
    let message = format!("there is a job {id} with another document (choose another id, or leave it out)");
    NotTaken::Conflict { code: "id_conflict", message }
}

/// From now on id and place are this job's.
fn reserve(state: &mut State, id: &str, target: &Path) -> Result<(), NotTaken> {
    if state.is_entering(id) || state.live(id).is_some() {
        return Err(id_conflict(id));
    }
    if let Some(other) = state.writes_to(target) {
        let message = format!("job {other} writes to the same place (choose another output, or wait)");
        return Err(NotTaken::Conflict { code: "output_in_use", message });
    }
    state.reserve(id, target);
    Ok(())
}
