//! The look at a finished output before anybody calls it finished.
//!
//! What enters: the folder or file, still under its temporary name, and what it has to hold: the plan
//! and the pipeline's [`Outcome`]. What leaves: nothing, or an error that names the file and what is
//! wrong with it. The output is read by means that had no part in writing it: libav's demuxers, a
//! transport stream reader and an MP4 box reader that share no code with our muxers, and the timeline.
//!
//! libav needs to decode pictures before it knows a stream, which costs too much to do for every
//! segment. So all segments go through our own readers (every packet's counter, every picture's time)
//! and the first, a middle and the last one through libav too. Reading back 33 MB of 720p, two minutes,
//! takes about 50 ms of CPU time, where encoding them takes 45 s.

use super::pipeline::Outcome;
use super::plan::Plan;
use crate::av::log::RunLog;
use crate::base::cancel::Cancel;
use crate::base::error::{Error, ErrorKind, Result, Stage};
use crate::model::job::{Format, SegmentType};
use expected::Expect;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

mod expected;
mod fmp4;
mod libav;
mod playlist;
#[cfg(test)]
mod tests;
mod ts;

/// Bytes read at once from what is checked.
const BUFFER_BYTES: usize = 256 * 1024;

/// Checks a folder of HLS: playlists against the timeline, every segment's counters, times, pictures
/// and packets of sound, and a sample of segments through libav.
///
/// # Errors
/// `verify_failed` with the file and the difference; `cancelled`; `io` when it cannot be read.
pub fn verify_hls(dir: &Path, plan: &Plan, outcome: &Outcome, cancel: &Cancel, log: &RunLog) -> Result<()> {
    let Format::Hls(kind) = plan.format else {
        return Err(Error::internal(Stage::Verify, "the plan is for a single file, but a folder is checked"));
    };
    let names: Vec<&str> = outcome.renditions.iter().map(|r| r.name.as_str()).collect();
    playlist::check_master(&dir.join("master.m3u8"), &names)?;
    for rendition in &outcome.renditions {
        let folder = dir.join(&rendition.name);
        let expect = Expect::new(plan, &outcome.timeline, rendition);
        let listed = playlist::check_media(&folder.join("index.m3u8"), kind, &outcome.timeline)?;
        match kind {
            SegmentType::Ts => check_ts_segments(&folder, &listed, &expect, cancel, log)?,
            SegmentType::Fmp4 => check_fmp4_segments(&folder, &listed, &expect, cancel, log)?,
        }
    }
    Ok(())
}

/// Checks a single file: the streams are those that were made, and each picture and packet is there
/// at its time.
///
/// # Errors
/// As [`verify_hls`].
pub fn verify_file(path: &Path, plan: &Plan, outcome: &Outcome, cancel: &Cancel, log: &RunLog) -> Result<()> {
    let [rendition] = outcome.renditions.as_slice() else {
        let message = format!("a single file holds one rendition, not {}", outcome.renditions.len());
        return Err(Error::internal(Stage::Verify, message));
    };
    let expect = Expect::new(plan, &outcome.timeline, rendition);
    let is_ts = plan.format == Format::Ts;
    let read = libav::read(path, !is_ts, cancel, log)?;
    libav::check_streams(&read, rendition).map_err(|what| failed(path, what))?;
    if !is_ts {
        return expect.check_title(&read.found()).map_err(|what| failed(path, what));
    }
    // Our segments one behind the other: the reader for segments reads them all as one.
    let found = ts::Walker::default().walk(&mut open(path)?, cancel, 0).map_err(|e| e.at(path))?;
    expect.check_title(&found).map_err(|what| failed(path, what))
}

fn check_ts_segments(
    folder: &Path,
    listed: &[String],
    expect: &Expect,
    cancel: &Cancel,
    log: &RunLog,
) -> Result<()> {
    // One for all segments: continuity counters run on over their joints.
    let mut walker = ts::Walker::default();
    let mut totals = expect.totals();
    for (n, name) in (0..).zip(listed) {
        let path = folder.join(name);
        let found = walker.walk(&mut open(&path)?, cancel, expect.start_90k(n)).map_err(|e| e.at(&path))?;
        totals.add(&found);
        expect.check_segment(n, &found).map_err(|what| failed(&path, what))?;
        if is_sampled(n, listed.len()) {
            let read = libav::read(&path, true, cancel, log)?;
            libav::check_streams(&read, expect.rendition()).map_err(|what| failed(&path, what))?;
            expect
                .check_segment(n, &read.found_in_ts(expect.start_90k(n)))
                .map_err(|what| failed(&path, what))?;
        }
    }
    totals.check().map_err(|what| failed(folder, what))
}

fn check_fmp4_segments(
    folder: &Path,
    listed: &[String],
    expect: &Expect,
    cancel: &Cancel,
    log: &RunLog,
) -> Result<()> {
    let init_path = folder.join("init.mp4");
    let init = std::fs::read(&init_path).map_err(|e| Error::io(Stage::Verify, "read", &init_path, &e))?;
    let tracks = fmp4::Tracks::read(&init).map_err(|what| failed(&init_path, what))?;
    let mut totals = expect.totals();
    for (n, name) in (0..).zip(listed) {
        cancel.check(Stage::Verify)?;
        let path = folder.join(name);
        let found = tracks.segment(n, &mut open(&path)?).map_err(|e| e.at(&path))?;
        totals.add(&found);
        expect.check_segment(n, &found).map_err(|what| failed(&path, what))?;
        if is_sampled(n, listed.len()) {
            let read = libav::read_behind_init(&init_path, &path, cancel, log)?;
            libav::check_streams(&read, expect.rendition()).map_err(|what| failed(&path, what))?;
            expect.check_segment(n, &read.found()).map_err(|what| failed(&path, what))?;
        }
    }
    totals.check().map_err(|what| failed(folder, what))
}

/// The first, a middle and the last one.
fn is_sampled(n: u64, count: usize) -> bool {
    let count = count as u64;
    n == 0 || n == count / 2 || n + 1 == count
}

fn open(path: &Path) -> Result<BufReader<File>> {
    let file = File::open(path).map_err(|e| Error::io(Stage::Verify, "open", path, &e))?;
    Ok(BufReader::with_capacity(BUFFER_BYTES, file))
}

/// Reads until `buffer` is full or the data ends; says how much there was.
fn fill(reader: &mut impl Read, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match reader.read(rest) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(filled)
}

/// Why a reader of ours stopped.
#[derive(Debug)]
enum Stop {
    /// The content is not what it has to be.
    Wrong(String),
    /// It could not be read.
    Io(std::io::Error),
    /// The run was cancelled.
    Cancelled,
}

impl Stop {
    fn at(self, path: &Path) -> Error {
        match self {
            Self::Wrong(what) => failed(path, what),
            Self::Io(e) => Error::io(Stage::Verify, "read", path, &e),
            Self::Cancelled => Error::cancelled(Stage::Verify),
        }
    }
}

impl From<std::io::Error> for Stop {
    fn from(e: std::io::Error) -> Self {
        Self::Io(e)
    }
}

impl From<String> for Stop {
    fn from(what: String) -> Self {
        Self::Wrong(what)
    }
}

/// The output is not what was meant to be made: a fault of this program, or of a codec in it.
fn failed(path: &Path, what: impl std::fmt::Display) -> Error {
    let message =
        format!("the finished output is not right, so it is not published: {}: {what}", path.display());
    Error::new(ErrorKind::Internal, "verify_failed", Stage::Verify, message)
        .hint("this is a fault of sprocket or of a codec library: please report it with the source's `sprocket inspect`")
}
