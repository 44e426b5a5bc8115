//! Where the key frames of a source are and how much lies between them: what copied streams are cut by.
//!
//! What enters: a file and which of its streams are meant. What leaves: a [`SourceIndex`], the same for
//! the same file whoever asks, so that a job and a stream made just in time agree on every cut. It costs
//! milliseconds where the container has tables: MP4's sample tables, put together with what libav made of
//! the edit lists (`tables`), or Matroska's Cues (`cues`), which may name only some of the key frames: then
//! only those are ever cut at. All other files are read through once, and what was found is kept on a
//! [`Shelf`] if there is one.
//!
//! Nothing is decoded, and nothing is decided here about segments.

use crate::av::input::Input;
use crate::av::log::RunLog;
use crate::base::cancel::Cancel;
use crate::base::error::{Error, ErrorKind, Result, Stage};
use crate::base::time::{Rational, Rounding, rescale};
use crate::container::nal::{self, NalFormat};
use crate::media::inspect::Container;
use crate::media::warm::Pool;
use crate::model::source::SourceFacts;
use crate::model::track::VideoCodec;
use std::path::Path;

mod bytes;
mod cues;
mod ebml;
mod mp4;
mod packets;
mod shelf;
mod tables;
#[cfg(test)]
mod tests;

pub use shelf::Shelf;

/// Bytes at the beginning of a sample in which its first slice is looked for: behind parameter sets and
/// the banner that x264 writes.
const LOOK_BYTES: usize = 4096;

/// What the index was made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The sample tables of an MP4.
    Tables,
    /// The Cues of a Matroska file: not every key frame may be there, and amounts are upper estimates.
    Cues,
    /// Every packet of the file.
    Packets,
}

/// The key frames of a source's picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceIndex {
    /// Rising by time, at most one for each time.
    pub keys: Vec<Key>,
    /// What it was made from.
    pub origin: Origin,
    /// The codec configuration of the picture, as libav's `extradata` has it.
    pub config: Vec<u8>,
}

/// A key frame and what comes up to the next one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Key {
    /// When it is shown, in ticks of the picture's stream, as a packet says it.
    pub pts: i64,
    /// Where its data begins in the file, where tables tell.
    pub offset: Option<u64>,
    /// Whether it is an IDR picture; `None` where nobody has looked.
    pub is_idr: Option<bool>,
    /// From this key frame to the next, in decode order.
    pub video: Amount,
    /// The sound that begins between the two key frames.
    pub audio: Amount,
}

/// So much data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// Packets.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Amount {
    fn add(&mut self, bytes: u64) {
        self.packets += 1;
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self { packets: self.packets + other.packets, bytes: self.bytes.saturating_add(other.bytes) }
    }
}

/// Which file, and which of its streams.
#[derive(Clone, Copy, Debug)]
pub struct Sought<'a> {
    /// The file.
    pub path: &'a Path,
    /// Its facts: the picture, the sound.
    pub facts: &'a SourceFacts,
    /// Ends the search.
    pub cancel: &'a Cancel,
}

/// Finds the index of a file that has a picture.
///
/// # Errors
/// What opening says, `cancelled`, a failing disk; `source_changed` where the streams are not those of the
/// facts.
pub fn find(sought: &Sought<'_>, pool: &Pool, shelf: Option<&Shelf>) -> Result<SourceIndex> {
    let log = RunLog::new();
    let mut lent = pool.take(sought.path, sought.cancel, &log)?;
    let streams = Streams::of(sought, lent.get())?;
    let Some(input) = lent.get_mut() else { return Err(changed(sought)) };
    let kinds = Container::of(&sought.facts.container);
    let config = streams.config.clone();
    let found = if kinds.mov {
        tables::find(sought, input, &streams)?.map(|keys| (keys, Origin::Tables))
    } else if kinds.matroska {
        cues::find(sought, input, &streams)?.map(|keys| (keys, Origin::Cues))
    } else {
        None
    };
    if let Some(keys) = found.or_else(|| shelf?.get(sought).map(|keys| (keys, Origin::Packets))) {
        return Ok(SourceIndex { keys: keys.0, origin: keys.1, config });
    }
    if !input.is_untouched() {
        lent.give_up();
        lent.replace(Input::open(sought.path, sought.cancel, &log, super::demux::OPEN_LIMIT)?);
    }
    let Some(input) = lent.get_mut() else { return Err(changed(sought)) };
    let keys = packets::scan(sought, input, &streams)?;
    if let Some(shelf) = shelf {
        shelf.put(sought, &keys);
    }
    Ok(SourceIndex { keys, origin: Origin::Packets, config })
}

fn changed(sought: &Sought<'_>) -> Error {
    let message = format!("{} is not the file that was inspected any more", sought.path.display());
    Error::new(ErrorKind::Conflict, "source_changed", Stage::Plan, message).hint("try again")
}

/// What has to be known of the streams.
#[derive(Clone, Debug)]
struct Streams {
    video: usize,
    video_id: i32,
    video_base: Rational,
    audio: Option<(usize, Rational)>,
    /// How its pictures are framed, if they are made of NAL units.
    framing: Option<(VideoCodec, NalFormat)>,
    config: Vec<u8>,
}

impl Streams {
    fn of(sought: &Sought<'_>, input: Option<&Input>) -> Result<Self> {
        let streams = input.map(Input::streams).unwrap_or_default();
        let facts = sought.facts.video.as_ref().ok_or_else(|| changed(sought))?;
        let video = streams.get(facts.stream).ok_or_else(|| changed(sought))?;
        let audio = sought.facts.audio.as_ref().and_then(|a| streams.get(a.stream));
        Ok(Self {
            video: video.index,
            video_id: video.id,
            video_base: video.time_base,
            audio: audio.map(|a| (a.index, a.time_base)),
            framing: framing(&video.params.codec_name(), video.params.extradata()),
            config: video.params.extradata().to_vec(),
        })
    }
}

/// How the pictures of a stream are framed; without a configuration that tells, as in MPEG-TS.
pub(super) fn framing(codec: &str, config: &[u8]) -> Option<(VideoCodec, NalFormat)> {
    let codec = match codec {
        "h264" => VideoCodec::H264,
        "hevc" => VideoCodec::Hevc,
        _ => return None,
    };
    Some((codec, nal::parse_config(codec, config).map_or(NalFormat::AnnexB, |sets| sets.format)))
}

/// The packets of a file, to be put between its key frames.
#[derive(Debug, Default)]
struct Gathered {
    keys: Vec<Key>,
    /// Times in ticks of the sound's stream, and bytes.
    audio: Vec<(i64, u64)>,
}

impl Gathered {
    fn key(&mut self, pts: i64, offset: Option<u64>, is_idr: Option<bool>) {
        self.keys.push(Key { pts, offset, is_idr, ..Key::default() });
    }

    /// Counts a packet of the picture to the latest key frame.
    fn picture(&mut self, bytes: u64) {
        if let Some(key) = self.keys.last_mut() {
            key.video.add(bytes);
        }
    }

    fn into_keys(mut self, streams: &Streams) -> Vec<Key> {
        self.keys.sort_by_key(|k| k.pts);
        self.keys.dedup_by(|later, first| {
            let same = later.pts == first.pts;
            if same {
                first.video = first.video.plus(later.video);
            }
            same
        });
        if let Some((_, base)) = streams.audio {
            self.audio.sort_unstable();
            let mut rest = self.audio.iter().peekable();
            for i in 0..self.keys.len() {
                // Sound before the first key frame counts to it: it may be heard.
                let next = self
                    .keys
                    .get(i + 1)
                    .map_or(i64::MAX, |next| rescale(next.pts, streams.video_base, base, Rounding::Ceil));
                let Some(key) = self.keys.get_mut(i) else { break };
                while let Some((_, bytes)) = rest.next_if(|(at, _)| *at < next) {
                    key.audio.add(*bytes);
                }
            }
        }
        self.keys
    }
}

/// Looks at the beginnings of these key frames whether they are IDR pictures, and writes it to the index.
///
/// # Errors
/// `cancelled`, a failing disk.
pub fn look_for_idr(
    index: &mut SourceIndex,
    which: &[usize],
    sought: &Sought<'_>,
    pool: &Pool,
) -> Result<()> {
    let Some(video) = &sought.facts.video else { return Ok(()) };
    let Some((codec, format)) = framing(&video.codec, &index.config) else { return Ok(()) };
    if index.origin != Origin::Tables {
        return look_by_seeking(index, which, sought, pool);
    }
    let mut bytes = bytes::Bytes::open(sought.path, sought.cancel, super::demux::OPEN_LIMIT)?;
    for i in which {
        let Some(key) = index.keys.get_mut(*i).filter(|k| k.is_idr.is_none()) else { continue };
        let Some(offset) = key.offset else { continue };
        let size = usize::try_from(key.video.bytes).unwrap_or(LOOK_BYTES).min(LOOK_BYTES);
        key.is_idr = nal::starts_with_idr(codec, format, &bytes.at_most(offset, size)?);
    }
    Ok(())
}

fn look_by_seeking(index: &mut SourceIndex, which: &[usize], sought: &Sought<'_>, pool: &Pool) -> Result<()> {
    if which.iter().filter_map(|i| index.keys.get(*i)).all(|key| key.is_idr.is_some()) {
        return Ok(());
    }
    let log = RunLog::new();
    let mut lent = pool.take(sought.path, sought.cancel, &log)?;
    let streams = Streams::of(sought, lent.get())?;
    let Some(input) = lent.get_mut() else { return Err(changed(sought)) };
    input.keep_only(&[streams.video]);
    for i in which {
        let Some(key) = index.keys.get_mut(*i).filter(|k| k.is_idr.is_none()) else { continue };
        key.is_idr = cues::key_frame_at(input, &streams, key.pts)?.flatten();
    }
    Ok(())
}
