//! Going on where a killed process stopped.
//!
//! While a job's folder is made, its log names each segment that is on the disk: the line is written
//! after the segment's own sync. What enters: such a folder. What leaves: the same folder with the
//! segments that every rendition has from the first on, and nothing else; or an empty one.
//!
//! The log is never written anew for a process that goes on, so that no moment is without it: a line
//! says how many segments of each rendition count from there on.

use super::{INIT, Shared, Written, WrittenSegment};
use crate::base::error::{Error, Result, Stage};
use crate::base::time::Rational;
use crate::store::claim::{Claim, Hidden, empty};
use crate::store::log::{JobLog, LOG};
use crate::store::place::{Parents, remove_any};
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// What an earlier process has made of one rendition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Pictures in the kept segments.
    pub frames: u64,
    /// Packets of sound in them.
    pub audio_packets: u64,
}

/// What an earlier process has to have made for it to be of use.
pub(super) struct Wanted<'a> {
    pub claim: &'a Claim,
    pub names: &'a [String],
    pub extension: &'a str,
    pub at_most: u64,
}

/// What there is of it, and how much of the log says so.
struct Kept {
    written: Vec<Written>,
    log_bytes: u64,
}

/// What a line of the log says.
#[derive(Deserialize)]
#[serde(untagged)]
enum Entry {
    Segment(Line),
    GoesOn(GoesOn),
}

/// A process went on with so many segments of each rendition: later ones that are named above were
/// made again.
#[derive(Serialize, Deserialize)]
struct GoesOn {
    kept: usize,
}

/// A segment is on the disk.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Line {
    rendition: usize,
    index: u64,
    start: (i64, i64),
    end: (i64, i64),
    bytes: u64,
    frames: u64,
    audio_packets: u64,
}

impl Line {
    pub(super) fn of(rendition: usize, segment: &WrittenSegment) -> Self {
        let parts = |time: Rational| (time.num(), time.den());
        Self {
            rendition,
            index: segment.index,
            start: parts(segment.start),
            end: parts(segment.end),
            bytes: segment.bytes,
            frames: segment.frames,
            audio_packets: segment.audio_packets,
        }
    }

    pub(super) fn render(&self) -> String {
        serde_json::to_string(self).map(|line| line + "\n").unwrap_or_default()
    }

    fn segment(&self) -> Option<WrittenSegment> {
        let time = |(num, den): (i64, i64)| (den > 0).then(|| Rational::new(num, den));
        Some(WrittenSegment {
            index: self.index,
            start: time(self.start)?,
            end: time(self.end)?,
            bytes: self.bytes,
            frames: self.frames,
            audio_packets: self.audio_packets,
        })
    }
}

/// Makes the folder this process's own: what is of use is kept, all else goes, and the log says so
/// before anything is added. If that fails, nothing of it stays.
pub(super) fn take_over(
    hidden: &mut Hidden,
    wanted: &Wanted,
    target: &Path,
    parents: &mut Parents,
) -> Result<Vec<Written>> {
    hidden.stays = false;
    let Some(log) = &hidden.log else {
        return Err(Error::internal(Stage::Publish, "a job's folder without a log"));
    };
    let head = log.head();
    parents.adopt(target, head.as_ref().map_or(0, |head| head.made_levels));
    let same = head.is_some_and(|head| head.fingerprint == wanted.claim.fingerprint);
    let kept = if same { read(log, &hidden.folder, wanted) } else { None };
    if let Some(kept) = kept
        && go_on(log, &hidden.folder, wanted, &kept).is_ok()
    {
        return Ok(kept.written);
    }
    empty(&hidden.folder)?;
    log.start(&wanted.claim.head(parents.levels(target)))?;
    Ok(wanted.names.iter().map(|_| Written::default()).collect())
}

fn go_on(log: &JobLog, folder: &Path, wanted: &Wanted, kept: &Kept) -> Result<()> {
    let from = GoesOn { kept: kept.written.first().map_or(0, |written| written.segments.len()) };
    let line = serde_json::to_string(&from).map_err(|e| Error::internal(Stage::Publish, e.to_string()))?;
    log.cut(kept.log_bytes)?;
    log.append(&(line + "\n"))?;
    clean(folder, wanted, &kept.written)
}

/// The renditions' segments, equally many of each. `None` when there is nothing to go on from.
fn read(log: &JobLog, folder: &Path, wanted: &Wanted) -> Option<Kept> {
    let is_folder = |name: &String| fs::symlink_metadata(folder.join(name)).is_ok_and(|facts| facts.is_dir());
    if !wanted.names.iter().all(is_folder) {
        return None;
    }
    let mut noted = Noted { found: wanted.names.iter().map(|_| Vec::new()).collect(), kept_before: 0 };
    let log_bytes = log.read_lines(|line| note(line, folder, wanted, &mut noted).is_some()).ok()?;
    let common = noted.found.iter().map(Vec::len).min().unwrap_or(0);
    // The last one may be the title's last, which is shorter than planned where the data ended early:
    // it is made anew, so that the run finds the end. What was kept before had one behind it.
    let kept = common.saturating_sub(1).max(noted.kept_before.min(common));
    let kept = kept.min(usize::try_from(wanted.at_most).unwrap_or(usize::MAX));
    let with_init = |(mut segments, name): (Vec<WrittenSegment>, &String)| {
        segments.truncate(kept);
        Written { init_bytes: file_bytes(&folder.join(name).join(INIT)), codecs: Vec::new(), segments }
    };
    let written = noted.found.into_iter().zip(wanted.names).map(with_init).collect();
    (kept > 0).then_some(Kept { written, log_bytes })
}

/// What the log has said so far.
struct Noted {
    /// Of each rendition, from the first on without a gap.
    found: Vec<Vec<WrittenSegment>>,
    /// How many of each were kept when a process last went on.
    kept_before: usize,
}

/// Adds what a line says. `None` for a line that says nothing: what follows it is not known to be on
/// the disk.
fn note(line: &[u8], folder: &Path, wanted: &Wanted, noted: &mut Noted) -> Option<()> {
    let line = match serde_json::from_slice(line).ok()? {
        Entry::Segment(line) => line,
        Entry::GoesOn(GoesOn { kept }) => {
            noted.found.iter_mut().for_each(|segments| segments.truncate(kept));
            noted.kept_before = kept;
            return Some(());
        }
    };
    let segments = noted.found.get_mut(line.rendition)?;
    let name = wanted.names.get(line.rendition)?;
    let file = folder.join(name).join(format!("{}.{}", line.index, wanted.extension));
    if line.index == segments.len() as u64 && file_bytes(&file) == Some(line.bytes) {
        segments.push(line.segment()?);
    }
    Some(())
}

/// The size of what is a file and not a link to one.
fn file_bytes(path: &Path) -> Option<u64> {
    fs::symlink_metadata(path).ok().filter(fs::Metadata::is_file).map(|facts| facts.len())
}

/// Removes everything from the folder that is not kept.
fn clean(folder: &Path, wanted: &Wanted, kept: &[Written]) -> Result<()> {
    let extension = wanted.extension;
    for (name, written) in wanted.names.iter().zip(kept) {
        for entry in super::entries(&folder.join(name))? {
            let file = entry.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
            let keeps = index_of(&file, extension).is_some_and(|n| n < written.segments.len())
                || (file == INIT && written.init_bytes.is_some());
            if !keeps {
                remove_any(&entry)?;
            }
        }
    }
    for entry in super::entries(folder)? {
        let name = entry.file_name().unwrap_or_default();
        if name != LOG && wanted.names.iter().all(|rendition| name != rendition.as_str()) {
            remove_any(&entry)?;
        }
    }
    Ok(())
}

/// The number of a segment's file, where it is the very name that the segment has.
fn index_of(file: &str, extension: &str) -> Option<usize> {
    let index: usize = file.strip_suffix(extension)?.strip_suffix('.')?.parse().ok()?;
    (file == format!("{index}.{extension}")).then_some(index)
}

impl Shared {
    /// What all renditions have: segments of each, and the sums over them.
    pub(super) fn common(&self) -> (u64, Vec<Done>) {
        let lock = |written: &Mutex<Written>| -> Vec<WrittenSegment> {
            written.lock().unwrap_or_else(PoisonError::into_inner).segments.clone()
        };
        let all: Vec<_> = self.renditions.iter().map(lock).collect();
        let common = all.iter().map(Vec::len).min().unwrap_or(0);
        let sum = |segments: &Vec<WrittenSegment>| Done {
            frames: segments.iter().take(common).map(|s| s.frames).sum(),
            audio_packets: segments.iter().take(common).map(|s| s.audio_packets).sum(),
        };
        (common as u64, all.iter().map(sum).collect())
    }

    /// Whether any rendition has a segment.
    pub(super) fn has_any(&self) -> bool {
        let is_there = |written: &Mutex<Written>| {
            !written.lock().unwrap_or_else(PoisonError::into_inner).segments.is_empty()
        };
        self.renditions.iter().any(is_there)
    }

    /// An init segment to which nothing was made binds nobody.
    pub(super) fn forget_lonely_inits(&self) -> Result<()> {
        let lock =
            |written: &Mutex<Written>| written.lock().unwrap_or_else(PoisonError::into_inner).segments.len();
        for (n, written) in self.renditions.iter().enumerate().filter(|(_, written)| lock(written) == 0) {
            let mut written = written.lock().unwrap_or_else(PoisonError::into_inner);
            if written.init_bytes.take().is_some() {
                remove_any(&self.rendition_folder(n)?.join(INIT))?;
            }
        }
        Ok(())
    }
}
