//! An output that is a folder of HLS: playlists and segments, there whole or not at all.
//!
//! ```text
//! DIR/master.m3u8
//! DIR/{rendition}/index.m3u8
//! DIR/{rendition}/init.mp4            fMP4 only
//! DIR/{rendition}/{n}.ts or {n}.m4s
//! ```
//!
//! What enters: finished segments of the renditions, from their mux threads, and at the end what the
//! playlists say of each rendition. What leaves: the folder under its name. Until then everything
//! lies in a hidden folder beside it ([`HlsDir::folder`]), which [`HlsDir::publish`] renames and
//! dropping removes, unless it is kept for a later process ([`HlsDir::keep`], `resume.rs`). What is
//! synced when: `docs/DURABILITY.md`.

use super::claim::{Claim, Hidden, claim_folder, recover};
use super::log::JobLog;
use super::place::{self, Parents, io};
use super::sync::Syncer;
use crate::base::error::{Error, ErrorKind, Result, Stage};
use crate::base::fs::TEMP_PREFIX;
use crate::base::time::Rational;
use crate::model::job::SegmentType;
use crate::model::playlist::VideoRange;
use crate::model::segment::{Segment, SegmentSink};
use bytes::Bytes;
use std::fs::{self, File};
use std::io::{ErrorKind as IoKind, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};

mod growing;
#[cfg(test)]
mod growing_tests;
#[cfg(test)]
mod job_tests;
mod playlists;
mod publish;
mod resume;
#[cfg(test)]
mod tests;

pub use growing::{Growing, Outlook, Piece};
pub(super) use publish::check_ours;
pub use publish::is_part;
pub use resume::Done;

/// File name of the multivariant playlist.
pub const MASTER: &str = "master.m3u8";
/// File name of a media playlist.
pub const INDEX: &str = "index.m3u8";
/// File name of an initialisation segment.
pub const INIT: &str = "init.mp4";

/// Names to try before giving up: others are taken by what killed runs have left.
const MAX_NAMES: u32 = 1000;
/// Bytes of the target's name that the temporary one repeats: names are limited to 255.
const MAX_REPEATED_CHARS: usize = 40;

/// What the multivariant playlist says of a rendition beyond what its segments tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VariantFacts {
    /// RFC 6381 strings of its tracks.
    pub codecs: Vec<String>,
    /// Display size in square pixels; `None` for sound alone.
    pub resolution: Option<(u32, u32)>,
    /// Frames each second; `None` for sound alone.
    pub frame_rate: Option<Rational>,
    /// Dynamic range, where known.
    pub video_range: Option<VideoRange>,
}

/// A folder in the making. Dropping it removes what there is of it.
#[derive(Debug)]
pub struct HlsDir {
    shared: Arc<Shared>,
    // Goes before the folders that it lies in. It stays when published, or kept for a later process.
    hidden: Hidden,
    parents: Parents,
    target: PathBuf,
    overwrite: bool,
    /// The job that it is made for; `None` for the command line.
    claim: Option<Claim>,
    /// What an earlier process had made.
    resumed: Vec<Done>,
    /// Segments of each rendition that an earlier process had made.
    first_segment: u64,
}

/// What the mux threads write through.
#[derive(Debug)]
struct Shared {
    folder: PathBuf,
    segment_type: SegmentType,
    renditions: Vec<Mutex<Written>>,
    names: Vec<String>,
    syncer: Syncer,
    /// The folder has its name by now.
    published: AtomicBool,
}

/// What is there of one rendition.
#[derive(Debug, Default)]
struct Written {
    init_bytes: Option<u64>,
    /// Of its tracks; empty until this process has made a segment.
    codecs: Vec<String>,
    segments: Vec<WrittenSegment>,
}

#[derive(Clone, Debug)]
struct WrittenSegment {
    index: u64,
    start: Rational,
    end: Rational,
    bytes: u64,
    frames: u64,
    audio_packets: u64,
}

impl HlsDir {
    /// Checks the place and makes the temporary folder with one folder for each of `names` in it,
    /// and the folders above `target` where they are missing. `names` are those of the plan's
    /// renditions in the plan's order, safe as folder names.
    ///
    /// # Errors
    /// `output_exists` for a folder with something in it without `overwrite`; with it,
    /// `output_not_ours` when that is not an earlier output of this program; `output_not_ours` for
    /// what is not a folder; `bad_output` for a mount point; refusals of the file system.
    pub fn create(
        target: &Path,
        overwrite: bool,
        segment_type: SegmentType,
        names: Vec<String>,
    ) -> Result<Self> {
        let target = place::resolve(target)?;
        publish::check(&target, overwrite)?;
        let parents = Parents::of(&target)?;
        let hidden = Hidden::new(make_beside(&target, "")?);
        let written = names.iter().map(|_| Written::default()).collect();
        Self::with(parents, hidden, (target, overwrite), (segment_type, names, written))
    }

    /// As [`HlsDir::create`] for a job: what an earlier process has made for the same claim is gone on
    /// with ([`HlsDir::first_segment`] says from where); what it has made otherwise is removed, and an
    /// output that it was about to replace gets its name back. `at_most` segments of each rendition are
    /// kept, so that there is something left to do. Until it ends, no other process gets this place.
    ///
    /// # Errors
    /// As [`HlsDir::create`]; `output_in_use` when another process makes the same for the same job.
    pub fn create_for(
        claim: &Claim,
        target: &Path,
        overwrite: bool,
        segment_type: SegmentType,
        names: Vec<String>,
        at_most: u64,
    ) -> Result<Self> {
        let target = place::resolve(target)?;
        let (mut parents, mut hidden) = claim_folder(&claim.job, &target)?;
        recover(&claim.job, &target)?;
        publish::check(&target, overwrite)?;
        let wanted = resume::Wanted { claim, names: &names, extension: extension(segment_type), at_most };
        let written = resume::take_over(&mut hidden, &wanted, &target, &mut parents)?;
        let mut this = Self::with(parents, hidden, (target, overwrite), (segment_type, names, written))?;
        (this.first_segment, this.resumed) = this.shared.common();
        this.claim = Some(claim.clone());
        Ok(this)
    }

    // In this order, so that after a failure the folder goes before those that it lies in.
    fn with(
        parents: Parents,
        hidden: Hidden,
        (target, overwrite): (PathBuf, bool),
        (segment_type, names, written): (SegmentType, Vec<String>, Vec<Written>),
    ) -> Result<Self> {
        for folder in names.iter().map(|name| hidden.folder.join(name)) {
            match fs::create_dir(&folder) {
                Err(e) if e.kind() != IoKind::AlreadyExists => {
                    return Err(io("make the folder", &folder, &e));
                }
                _ => {}
            }
        }
        let log = hidden.log.as_ref().map(JobLog::writer).transpose()?;
        let folder = hidden.folder.clone();
        let renditions = written.into_iter().map(Mutex::new).collect();
        let (syncer, published) = (Syncer::start(log)?, AtomicBool::new(false));
        let shared = Shared { folder, segment_type, renditions, names, syncer, published };
        let (shared, resumed) = (Arc::new(shared), Vec::new());
        Ok(Self { shared, hidden, parents, target, overwrite, claim: None, resumed, first_segment: 0 })
    }

    /// The first segment that is still to be made.
    pub fn first_segment(&self) -> u64 {
        self.first_segment
    }

    /// What an earlier process had made of each rendition before [`HlsDir::first_segment`]; empty when
    /// nothing.
    pub fn resumed(&self) -> &[Done] {
        &self.resumed
    }

    /// What was made so far stays, whoever made it: another run goes on behind the last segment that all
    /// renditions have. What a rendition has beyond that is kept too, and not taken a second time. Says whether
    /// there is any segment.
    ///
    /// # Errors
    /// `io` when an init segment cannot be removed to which there is no segment yet.
    pub fn go_on(&mut self) -> Result<bool> {
        self.shared.forget_lonely_inits()?;
        (self.first_segment, self.resumed) = self.shared.common();
        Ok(self.shared.has_any())
    }

    /// Leaves the folder for a later process to go on with. What is not on the disk yet is synced.
    pub fn keep(mut self) {
        if let Err(e) = self.shared.syncer.finish() {
            tracing::warn!("{} is kept, but not all of it is on the disk: {e}", self.folder().display());
        }
        self.hidden.stays = true;
        if let Err(e) = self.parents.keep() {
            tracing::warn!("the folder above {}: {e}", self.folder().display());
        }
    }

    /// The temporary folder, laid out as the final one.
    pub fn folder(&self) -> &Path {
        &self.shared.folder
    }

    /// Where segments go. It may outlive the folder: what comes then is refused.
    pub fn sink(&self) -> Arc<dyn SegmentSink> {
        self.shared.clone()
    }

    /// Bytes written so far, playlists not counted.
    pub fn bytes_written(&self) -> u64 {
        let all = self.shared.renditions.iter().map(|r| {
            let written = r.lock().unwrap_or_else(PoisonError::into_inner);
            written.init_bytes.unwrap_or(0) + written.segments.iter().map(|s| s.bytes).sum::<u64>()
        });
        all.sum()
    }

    /// All segments are there: checks their sizes on the disk, writes the playlists, and waits until
    /// every file is synced. `variants` are the renditions' facts in the plan's order. The caller may
    /// then look at the whole before it publishes.
    ///
    /// # Errors
    /// `verify_failed` for a file that is not as long as what was written, `internal` for segments
    /// that do not follow each other, `no_space`, `io`.
    pub fn finish(&self, variants: &[VariantFacts]) -> Result<()> {
        self.shared.check_sizes()?;
        self.shared.write_playlists(variants)?;
        self.shared.syncer.finish()
    }
}

impl Drop for HlsDir {
    fn drop(&mut self) {
        // Closes the files before their folder goes: a network file system keeps removed open files
        // under other names. And nobody writes to the log once the next process may have it.
        let _ = self.shared.syncer.finish();
    }
}

impl SegmentSink for Shared {
    fn init(&self, rendition: usize, codecs: &[String], data: &[u8]) -> Result<()> {
        self.written(rendition)?.lock().unwrap_or_else(PoisonError::into_inner).codecs = codecs.to_vec();
        if data.is_empty() {
            return Ok(());
        }
        let path = self.rendition_folder(rendition)?.join(INIT);
        if self.written(rendition)?.lock().unwrap_or_else(PoisonError::into_inner).init_bytes.is_some() {
            return same_init(&path, data);
        }
        self.write(&path, [data], None)?;
        self.written(rendition)?.lock().unwrap_or_else(PoisonError::into_inner).init_bytes =
            Some(data.len() as u64);
        Ok(())
    }

    /// A segment appears whole or not at all.
    fn part(&self, _: usize, _: u64, _: Bytes) -> Result<()> {
        Ok(())
    }

    fn segment(&self, segment: Segment) -> Result<()> {
        let Segment { rendition, index, start, end, frames, audio_packets, data } = segment;
        let there = self.written(rendition)?.lock().unwrap_or_else(PoisonError::into_inner).segments.len();
        if index < there as u64 {
            // A run before this one had come further with this rendition than with another.
            return Ok(());
        }
        let bytes = data.len() as u64;
        let segment = WrittenSegment { index, start, end, bytes, frames, audio_packets };
        let path = self.rendition_folder(rendition)?.join(self.segment_name(index));
        let line = resume::Line::of(rendition, &segment).render();
        self.write(&path, data.iter().map(|piece| &piece[..]), Some(line))?;
        self.written(rendition)?.lock().unwrap_or_else(PoisonError::into_inner).segments.push(segment);
        Ok(())
    }
}

impl Shared {
    fn written(&self, rendition: usize) -> Result<&Mutex<Written>> {
        let unknown = || Error::internal(Stage::Publish, format!("there is no rendition {rendition}"));
        self.renditions.get(rendition).ok_or_else(unknown)
    }

    fn rendition_folder(&self, rendition: usize) -> Result<PathBuf> {
        self.written(rendition)?;
        Ok(self.folder.join(self.names.get(rendition).map_or("", String::as_str)))
    }

    fn segment_name(&self, index: u64) -> String {
        format!("{index}.{}", extension(self.segment_type))
    }

    /// Writes a whole file and has it synced; `line` goes to the log of what is on the disk then.
    fn write<'a>(
        &self,
        path: &Path,
        data: impl IntoIterator<Item = &'a [u8]>,
        line: Option<String>,
    ) -> Result<()> {
        let fill = |mut file: File| data.into_iter().try_for_each(|part| file.write_all(part)).map(|()| file);
        let written = File::create_new(path).and_then(fill);
        let file = written.map_err(|e| io("write", path, &e))?;
        if path.file_name().is_some_and(|name| name == MASTER) {
            // By it the output is known later.
            place::fix_time(&file);
        }
        self.syncer.sync(file, path.to_owned(), line)
    }

    fn check_sizes(&self) -> Result<()> {
        for (rendition, written) in self.renditions.iter().enumerate() {
            let folder = self.rendition_folder(rendition)?;
            let written = written.lock().unwrap_or_else(PoisonError::into_inner);
            let segments = written.segments.iter().map(|s| (self.segment_name(s.index), s.bytes));
            let init = written.init_bytes.map(|bytes| (INIT.to_owned(), bytes));
            segments.chain(init).try_for_each(|(name, bytes)| check_size(&folder.join(name), bytes))?;
        }
        Ok(())
    }
}

/// The segments of an earlier process play only with the init segment that they were made with.
fn same_init(path: &Path, data: &[u8]) -> Result<()> {
    let there = fs::read(path).map_err(|e| io("read", path, &e))?;
    if there == data {
        return Ok(());
    }
    let message =
        format!("{}: an earlier process made another init segment for the same job", path.display());
    Err(Error::new(ErrorKind::Internal, "init_differs", Stage::Publish, message))
}

fn check_size(path: &Path, expected: u64) -> Result<()> {
    let found = fs::metadata(path).map_err(|e| io("look at", path, &e))?.len();
    if found == expected {
        return Ok(());
    }
    let message = format!("{}: {expected} bytes were written, but it has {found}", path.display());
    Err(Error::new(ErrorKind::Internal, "verify_failed", Stage::Verify, message))
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let read = fs::read_dir(folder).and_then(|list| list.map(|entry| entry.map(|e| e.path())).collect());
    read.map_err(|e| io("read the folder", folder, &e))
}

fn extension(segment_type: SegmentType) -> &'static str {
    if segment_type == SegmentType::Ts { "ts" } else { "m4s" }
}

/// Makes a hidden folder beside `target` whose name nobody else has.
fn make_beside(target: &Path, mark: &str) -> Result<PathBuf> {
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    let name: String = name.chars().take(MAX_REPEATED_CHARS).collect();
    for n in 0..MAX_NAMES {
        let folder = target.with_file_name(format!("{TEMP_PREFIX}{}-{n}-{mark}{name}", std::process::id()));
        match fs::create_dir(&folder) {
            Ok(()) => return Ok(folder),
            Err(e) if e.kind() == IoKind::AlreadyExists => {}
            Err(e) => return Err(io("make the folder", &folder, &e)),
        }
    }
    let message = format!("{MAX_NAMES} temporary folders lie beside {}", target.display());
    Err(Error::new(ErrorKind::Conflict, "too_many_leftovers", Stage::Publish, message)
        .hint(format!("remove the folders {TEMP_PREFIX}* there")))
}
