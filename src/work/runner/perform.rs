//! What a job's worker thread does: find the files, order the transcode, say what it publishes.
//!
//! What enters: an entry that runs. What leaves: a published output or an error. Everything here may
//! hang with a disk: the supervisor watches.

use super::super::board::notes::{self, Published};
use super::super::board::{Board, Cause, Entry, Phase};
use super::super::transcode::{Follower, Handles, Order, transcode};
use super::Ended;
use crate::base::error::{Error, ErrorKind, Result, Stage};
use crate::config::confine::confine;
use crate::config::paths::Area;
use crate::media::plan::{Machine, Plan};
use crate::media::progress::Progress;
use crate::media::{RunLog, crash};
use crate::model::document::OutputFormat;
use crate::model::record::{Job, JobProgress, JobState, Output, Outputs, RenditionEncoder};
use crate::store::claim::Identity;
use crate::store::hls_dir::Growing;
use jiff::Timestamp;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What a URL's path carries as it is (RFC 3986, section 2.3).
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// One run of a job.
pub(super) struct Performance {
    board: Board,
    entry: Arc<Entry>,
    /// So many jobs share the cores.
    running: usize,
    resumed: AtomicBool,
    /// By this a crumb names the job, should its codecs end the process.
    listed: crash::Registration,
}

impl Performance {
    pub(super) fn new(board: &Board, entry: &Arc<Entry>, running: usize) -> Self {
        Self {
            board: board.clone(),
            entry: entry.clone(),
            running,
            resumed: AtomicBool::new(false),
            listed: crash::register(entry.id()),
        }
    }

    pub(super) fn thread_name(&self) -> String {
        crash::thread_name(Some(self.listed.tag()), "job")
    }

    /// Runs it.
    pub(super) fn give(&self) -> Ended {
        self.board.cores().enter();
        let ended = match self.once() {
            // What an earlier process has left may be what is wrong: without it, then.
            Err(e) if self.resumed.load(Ordering::Relaxed) && is_worth_a_fresh_start(e.kind()) => {
                tracing::warn!("could not be gone on with, and is made from its beginning: {e}");
                let so_far = self.entry.progress_over(&self.entry.record().progress);
                self.entry.note(|job| job.progress = so_far);
                self.once()
            }
            ended => ended,
        };
        // A run that ends before it has claimed its place leaves there what an earlier process has made.
        if ended.is_err() && !self.goes_on_later() {
            notes::tidy(self.entry.id(), self.entry.target());
        }
        ended
    }

    fn once(&self) -> Ended {
        if let Some(done) = notes::was_published(&self.board, &self.entry)? {
            tracing::info!("had published its output before the process ended");
            self.entry.note(|job| {
                (job.progress, job.video_encoder, job.warnings) =
                    (done.progress, done.video_encoder, done.warnings);
            });
            return Ok(());
        }
        if self.entry.cancel().is_cancelled() {
            return Err(Error::cancelled(Stage::Plan));
        }
        let job = self.entry.record();
        let input = self.input(&job)?;
        let folder = self.board.paths().folder(Area::Output).unwrap_or(Path::new(""));
        let output = confine(self.entry.target(), folder)?;
        let order = Order {
            input: &input,
            output: &output,
            overwrite: job.document.overwrite,
            wish: &|_| job.document.wish(),
            machine: self.machine(),
            open_limit: self.board.limits().open_timeout,
            job: Some(self.entry.id()),
            devices: self.board.devices(job.document.hardware),
        };
        let log = RunLog::tagged(self.listed.tag());
        // Each attempt has its own: a run that fails sets its flag.
        let (cancel, progress) = (self.entry.cancel().child(), Arc::new(Progress::new()));
        self.entry.runs(progress.clone());
        let handles = Handles { cancel: &cancel, progress: &progress, log: &log };
        transcode(&order, &handles, self).map(|_| ())
    }

    /// Who encodes what.
    fn note_encoders(&self, plan: &Plan) {
        let encoder = |made: &crate::media::plan::Rendition| RenditionEncoder {
            rendition: made.name.clone(),
            encoder: made.encode.as_ref().map_or_else(|| "copy".into(), |settings| settings.encoder.clone()),
        };
        let encoders =
            if plan.video.is_some() { plan.renditions.iter().map(encoder).collect() } else { Vec::new() };
        self.entry.note(|job| {
            job.video_encoder = encoders;
            job.hardware_used = plan.device_encoders() > 0;
            let new: Vec<_> = plan.warnings.iter().filter(|w| !job.warnings.contains(w)).cloned().collect();
            job.warnings.extend(new);
        });
    }

    fn input(&self, job: &Job) -> Result<PathBuf> {
        let located = self.board.paths().to_local(&job.document.input)?;
        let folder = self.board.paths().folder(located.area).unwrap_or(Path::new(""));
        confine(&located.local, folder)
    }

    /// Jobs that run at once share the cores: each with the threads for all of them would only stand
    /// in the others' way.
    fn machine(&self) -> Machine {
        let running = u32::try_from(self.running.max(1)).unwrap_or(u32::MAX);
        Machine { cores: self.board.cores().count().div_ceil(running) }
    }
}

fn is_worth_a_fresh_start(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::BadSource | ErrorKind::Internal | ErrorKind::Unsupported)
}

impl Follower for Performance {
    fn planned(&self, plan: &Plan) {
        self.entry.reaches(Phase::Working);
        self.note_encoders(plan);
    }

    fn fell_back(&self, plan: &Plan, because: &Error, behind: bool) {
        self.note_encoders(plan);
        let because = because.message().to_owned();
        self.entry.note(move |job| {
            // What the device has made stays.
            job.hardware_used = behind;
            job.fallback_reason = Some(because);
        });
    }

    fn goes_on_at(&self, _segment: u64) {
        self.resumed.store(true, Ordering::Relaxed);
    }
    fn grows(&self, growing: Growing) {
        self.entry.grows(growing);
    }

    fn finishing(&self) {
        self.entry.reaches(Phase::Finishing);
    }

    fn may_publish(&self) -> Result<()> {
        self.entry.may_publish()
    }

    fn publishing(&self, identity: Option<Identity>) -> Result<()> {
        let identity = identity.ok_or_else(|| {
            Error::internal(Stage::Publish, "the output that is to be published is not there")
        })?;
        let mut job = self.entry.record();
        job.progress = self.entry.progress_over(&job.progress);
        succeeded(&self.board, &mut job, Timestamp::now());
        let noted = serde_json::to_string(&Published { identity, job }).unwrap_or_default();
        self.board.journal().set_meta_blocking(&notes::published(self.entry.id()), Some(&noted))
    }

    fn goes_on_later(&self) -> bool {
        self.entry.cause() == Some(Cause::Stopping)
    }
}

/// The job whose output has its name.
pub(super) fn succeeded(board: &Board, job: &mut Job, now: Timestamp) {
    job.enter(JobState::Succeeded, now);
    let progress = &job.progress;
    job.progress = JobProgress {
        percent: Some(100.0),
        position_ms: progress.duration_ms,
        eta_ms: Some(0),
        ..progress.clone()
    };
    job.outputs = outputs(board, job);
}

fn outputs(board: &Board, job: &Job) -> Outputs {
    let id = utf8_percent_encode(job.id(), UNRESERVED);
    let target = notes::target(board.paths(), &job.document).unwrap_or_default();
    let output = |local: PathBuf| {
        let name = local.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let uri = board.paths().to_uri(&local).unwrap_or_else(|| local.display().to_string());
        Output { uri, path: format!("/stream/{id}/{}", utf8_percent_encode(&name, UNRESERVED)) }
    };
    match job.document.format {
        OutputFormat::Hls => {
            Outputs { master: Some(output(target.join(crate::store::hls_dir::MASTER))), file: None }
        }
        OutputFormat::Mp4 | OutputFormat::Mkv | OutputFormat::Ts => {
            Outputs { master: None, file: Some(output(target)) }
        }
    }
}

/// What is to be noted with a job's end: that a promise to cancel was kept; what may lie beside its target
/// when the run that hangs never comes back; that nothing is about to be published any more.
pub(super) fn last_notes(entry: &Entry, job: &Job, hangs: bool) -> Vec<(String, Option<String>)> {
    let mut all = Vec::new();
    if entry.cause() == Some(Cause::Cancelled) {
        all.push((notes::cancelled(entry.id()), None));
    }
    if hangs && job.state.has_ended() {
        all.push(notes::to_tidy(entry));
    }
    if matches!(job.state, JobState::Failed | JobState::Cancelled) {
        all.push((notes::published(entry.id()), None));
    }
    all
}
