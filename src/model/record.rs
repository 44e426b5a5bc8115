//! A job as the node keeps it and as `GET /jobs/{id}` shows it.
//!
//! What enters: the document that was accepted, and what becomes of it. What leaves: one value that
//! the journal stores as JSON and HTTP returns as it is (contract, section 3). States move only by
//! [`JobState::may_become`].

use super::document::JobDocument;
use crate::base::error::Error;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt;
use utoipa::ToSchema;

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum JobState {
    /// Accepted, on the disk, waits for a slot.
    Queued,
    /// Has a slot.
    Running,
    /// Its output is whole, checked and in place.
    Succeeded,
    /// Ended by the error that the job names; no output.
    Failed,
    /// Ended because somebody asked for it; no output.
    Cancelled,
}

impl JobState {
    /// Every state, in the order of a job's life.
    pub const ALL: [Self; 5] = [Self::Queued, Self::Running, Self::Succeeded, Self::Failed, Self::Cancelled];

    /// Whether the job is over.
    pub const fn has_ended(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }

    /// The legal moves. A running job goes back to the queue when the node stops or dies under it.
    pub const fn may_become(self, next: Self) -> bool {
        match self {
            Self::Queued => matches!(next, Self::Running | Self::Failed | Self::Cancelled),
            Self::Running => !matches!(next, Self::Running),
            Self::Succeeded | Self::Failed | Self::Cancelled => false,
        }
    }

    /// The word of the contract.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// The state of that name.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == word)
    }
}

impl fmt::Display for JobState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How far a job is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct JobProgress {
    /// Never falls; 100 only when published; null where the duration is unknown.
    pub percent: Option<f64>,
    /// Title time decoded up to.
    pub position_ms: i64,
    /// Length of the title; 0 until the source was opened.
    pub duration_ms: i64,
    /// Pictures decoded.
    pub frames: u64,
    /// Pictures each second of wall time.
    pub fps: f64,
    /// Title seconds made each second of wall time.
    pub speed: f64,
    /// Estimate of the time left.
    pub eta_ms: Option<i64>,
}

impl JobProgress {
    /// To thousandths: sixteen digits would say that they are known.
    pub fn rounded(self) -> Self {
        let round = |x: f64| (x * 1000.0).round() / 1000.0;
        Self { percent: self.percent.map(round), fps: round(self.fps), speed: round(self.speed), ..self }
    }
}

/// Which encoder makes a rendition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RenditionEncoder {
    /// The rendition's name.
    pub rendition: String,
    /// libav's name of the encoder, or `copy`.
    pub encoder: String,
}

/// A state that a job has come into.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StateChange {
    /// Counts the job's changes, from 1.
    #[schema(minimum = 1)]
    pub number: u64,
    /// The state.
    pub state: JobState,
    /// Since when.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
}

/// Where an output is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Output {
    /// As the network names it.
    pub uri: String,
    /// As this node serves it: a URL path.
    pub path: String,
}

/// What a job published.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Outputs {
    /// The multivariant playlist of an HLS output.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub master: Option<Output>,
    /// The single file of the other formats.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<Output>,
}

/// Why a job failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JobError {
    /// Stable code, `docs/ERRORS.md`.
    pub code: String,
    /// What failed, on what, why, and what to do.
    pub message: String,
    /// Where in the work.
    pub stage: String,
    /// Whether the same job may succeed later without anybody changing it.
    pub retryable: bool,
    /// libav's last log lines for the run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub log: Vec<String>,
}

impl From<&Error> for JobError {
    fn from(e: &Error) -> Self {
        let hint = e.hint_text().map(|hint| format!(" ({hint})")).unwrap_or_default();
        Self {
            code: e.code().into(),
            message: format!("{}{hint}", e.message()),
            stage: e.stage().to_string(),
            retryable: e.kind().retryable(),
            log: e.libav_log().to_vec(),
        }
    }
}

/// A job: what was asked for, and what became of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Job {
    /// What was asked for, its `id` and defaults filled in.
    #[serde(flatten)]
    #[schema(schema_with = super::document::schema_as_returned)]
    pub document: JobDocument,
    /// Where it stands.
    pub state: JobState,
    /// When it was accepted.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When it first had a slot.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub started_at: Option<Timestamp>,
    /// When it was over.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub ended_at: Option<Timestamp>,
    /// How far it is.
    pub progress: JobProgress,
    /// How often it has had a slot.
    pub attempts: u32,
    /// Which encoder makes each rendition; empty until the plan is made.
    pub video_encoder: Vec<RenditionEncoder>,
    /// Whether the picture was encoded by hardware.
    pub hardware_used: bool,
    /// Why not, where hardware was wanted.
    pub fallback_reason: Option<String>,
    /// What was published.
    pub outputs: Outputs,
    /// Why it failed.
    pub error: Option<JobError>,
    /// What whoever asked should know, though the job went on.
    pub warnings: Vec<String>,
    /// Every state that it has been in, the newest last.
    #[serde(default)]
    pub history: Vec<StateChange>,
}

impl Job {
    /// A job that was just accepted. `document.id` is set.
    pub fn accepted(document: JobDocument, now: Timestamp) -> Self {
        Self {
            document,
            state: JobState::Queued,
            created_at: now,
            started_at: None,
            ended_at: None,
            progress: JobProgress::default(),
            attempts: 0,
            video_encoder: Vec::new(),
            hardware_used: false,
            fallback_reason: None,
            outputs: Outputs::default(),
            error: None,
            warnings: Vec::new(),
            history: vec![StateChange { number: 1, state: JobState::Queued, at: now }],
        }
    }

    /// Goes into another state, which [`JobState::may_become`] has to allow, and keeps the times.
    pub fn enter(&mut self, state: JobState, now: Timestamp) {
        debug_assert!(self.state.may_become(state), "{} to {state}", self.state);
        self.state = state;
        if state == JobState::Running {
            self.attempts = self.attempts.saturating_add(1);
            self.started_at.get_or_insert(now);
        }
        self.ended_at = state.has_ended().then_some(now);
        let number = self.history.last().map_or(1, |last| last.number + 1);
        self.history.push(StateChange { number, state, at: now });
    }

    /// The change that brought it where it stands.
    pub fn last_change(&self) -> StateChange {
        let first = StateChange { number: 1, state: self.state, at: self.created_at };
        self.history.last().cloned().unwrap_or(first)
    }

    /// Its name.
    pub fn id(&self) -> &str {
        self.document.id.as_deref().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The document's own schema refuses fields that it does not know; the job's has to let them in.
    #[test]
    fn a_job_as_returned_keeps_the_schema_that_the_api_promises() {
        use utoipa::{PartialSchema, ToSchema};
        let document =
            super::super::document::parse(br#"{"id": "a", "input": "nas://media/a.mkv"}"#).unwrap();
        let job = Job::accepted(document, Timestamp::UNIX_EPOCH);
        let mut components = Vec::new();
        Job::schemas(&mut components);
        JobDocument::schemas(&mut components);
        components.push((JobDocument::name().into_owned(), JobDocument::schema()));
        let components: serde_json::Map<_, _> = components
            .into_iter()
            .map(|(name, schema)| (name, serde_json::to_value(schema).unwrap()))
            .collect();
        let mut root = serde_json::to_value(Job::schema()).unwrap();
        root["components"] = serde_json::json!({ "schemas": components });
        let validator = jsonschema::validator_for(&root).unwrap();
        let mut returned = serde_json::to_value(&job).unwrap();
        let faults: Vec<_> = validator.iter_errors(&returned).map(|e| e.to_string()).collect();
        assert_eq!(faults, Vec::<String>::new());
        returned["state"] = "sleeping".into();
        assert!(!validator.is_valid(&returned), "a state that there is not");
    }

    #[test]
    fn a_job_keeps_count_of_its_states_and_times() {
        let document = super::super::document::parse(br#"{"id": "a", "input": "/a.mkv"}"#).unwrap();
        let at = |second| Timestamp::from_second(second).unwrap();
        let mut job = Job::accepted(document, at(1));
        for (state, second) in
            [(JobState::Running, 2), (JobState::Queued, 3), (JobState::Running, 4), (JobState::Succeeded, 5)]
        {
            job.enter(state, at(second));
        }
        assert_eq!((job.attempts, job.started_at, job.ended_at), (2, Some(at(2)), Some(at(5))));
        let numbers: Vec<_> = job.history.iter().map(|c| (c.number, c.state, c.at.as_second())).collect();
        assert_eq!(numbers.first(), Some(&(1, JobState::Queued, 1)));
        assert_eq!(numbers.last(), Some(&(5, JobState::Succeeded, 5)));
        assert_eq!(job.last_change().number, 5);
    }

    #[test]
    fn the_legal_moves_are_these_and_no_others() {
        use JobState::{Cancelled, Failed, Queued, Running, Succeeded};
        let legal = [
            (Queued, Running),
            (Queued, Failed),
            (Queued, Cancelled),
            (Running, Queued),
            (Running, Succeeded),
            (Running, Failed),
            (Running, Cancelled),
        ];
        for from in JobState::ALL {
            for to in JobState::ALL {
                assert_eq!(from.may_become(to), legal.contains(&(from, to)), "{from} to {to}");
            }
            assert_eq!(JobState::from_word(from.as_str()), Some(from));
        }
    }
}
