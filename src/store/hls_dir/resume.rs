//! Going on where a killed process stopped.
//!
//! While a job's folder is made, a log in it names each segment that is on the disk: the line is
//! written after the segment's own sync. What enters: such a folder. What leaves: the same folder
//! with the segments that every rendition has from the first on, and nothing else.

use super::{INIT, Shared, Written, WrittenSegment};
use crate::base::error::{Error, Result, Stage};
use crate::base::time::Rational;
use crate::store::claim::Claim;
use crate::store::place::io;
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// The log's name inside the folder; it goes before the folder is published.
pub(super) const LOG: &str = ".done";

/// What an earlier process has made of one rendition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Pictures in the kept segments.
    pub frames: u64,
    /// Packets of sound in them.
    pub audio_packets: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Head {
    fingerprint: u64,
}

/// A line of the log.
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

/// Starts a log, with what is kept in it already.
pub(super) fn start_log(folder: &Path, claim: &Claim, kept: &[Mutex<Written>]) -> Result<File> {
    let path = folder.join(LOG);
    let fresh = folder.join(format!("{LOG}-new"));
    let mut text = serde_json::to_string(&Head { fingerprint: claim.fingerprint })
        .map_err(|e| Error::internal(Stage::Publish, e.to_string()))?;
    text.push('\n');
    for (rendition, written) in kept.iter().enumerate() {
        let written = written.lock().unwrap_or_else(PoisonError::into_inner);
        written.segments.iter().for_each(|s| text.push_str(&Line::of(rendition, s).render()));
    }
    let write = || {
        let mut file = File::create(&fresh)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&fresh, &path)?;
        OpenOptions::new().append(true).open(&path)
    };
    write().map_err(|e| io("write", &path, &e))
}

/// What the folder of an earlier process holds for the same work: the renditions' segments, equally
/// many of each, at most `at_most`. `None` when there is nothing to go on from.
pub(super) fn read(
    folder: &Path,
    claim: &Claim,
    names: &[String],
    extension: &str,
    at_most: u64,
) -> Option<Vec<Written>> {
    let text = fs::read_to_string(folder.join(LOG)).ok()?;
    let mut lines = text.lines();
    let head: Head = serde_json::from_str(lines.next()?).ok()?;
    if head.fingerprint != claim.fingerprint {
        return None;
    }
    let mut found: Vec<Vec<WrittenSegment>> = names.iter().map(|_| Vec::new()).collect();
    // A torn last line ends the reading: what follows it is not known to be on the disk.
    for line in lines.map_while(|line| serde_json::from_str::<Line>(line).ok()) {
        let name = names.get(line.rendition)?;
        let segments = found.get_mut(line.rendition)?;
        let file = folder.join(name).join(format!("{}.{extension}", line.index));
        let whole = fs::metadata(&file).is_ok_and(|facts| facts.is_file() && facts.len() == line.bytes);
        if line.index == segments.len() as u64 && whole {
            segments.push(line.segment()?);
        }
    }
    let common = found.iter().map(Vec::len).min().unwrap_or(0);
    // The last one may be the title's last, which is shorter than planned where the data ended early:
    // it is made anew, so that the run finds the end.
    let kept = common.saturating_sub(1).min(usize::try_from(at_most).unwrap_or(usize::MAX));
    let with_init = |(mut segments, name): (Vec<WrittenSegment>, &String)| {
        segments.truncate(kept);
        let init = fs::metadata(folder.join(name).join(INIT)).ok().map(|facts| facts.len());
        Written { init_bytes: init.filter(|_| kept > 0), segments }
    };
    (kept > 0).then(|| found.into_iter().zip(names).map(with_init).collect())
}

/// Removes everything from the folder that is not kept.
pub(super) fn clean(folder: &Path, names: &[String], kept: &[Written], extension: &str) -> Result<()> {
    for (name, written) in names.iter().zip(kept) {
        let rendition = folder.join(name);
        for entry in super::entries(&rendition)? {
            let file = entry.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
            let keeps = written.segments.iter().any(|s| file == format!("{}.{extension}", s.index))
                || (file == INIT && written.init_bytes.is_some());
            if !keeps {
                fs::remove_file(&entry).map_err(|e| io("remove", &entry, &e))?;
            }
        }
    }
    for entry in super::entries(folder)? {
        let is_rendition = names.iter().any(|name| entry.file_name().is_some_and(|n| n == name.as_str()));
        if !is_rendition && entry.file_name().is_some_and(|n| n != LOG) {
            let removed = if entry.is_dir() { fs::remove_dir_all(&entry) } else { fs::remove_file(&entry) };
            removed.map_err(|e| io("remove", &entry, &e))?;
        }
    }
    Ok(())
}

impl Shared {
    /// The sums over what an earlier process has made, for each rendition.
    pub(super) fn sums(&self) -> Vec<Done> {
        let sum = |written: &Mutex<Written>| {
            let written = written.lock().unwrap_or_else(PoisonError::into_inner);
            Done {
                frames: written.segments.iter().map(|s| s.frames).sum(),
                audio_packets: written.segments.iter().map(|s| s.audio_packets).sum(),
            }
        };
        self.renditions.iter().map(sum).collect()
    }
}
