//! The mux stage of one rendition: samples in, finished segments or a file out.
//!
//! The picture decides the cuts: a segment begins with the sample that says so, and sound belongs to
//! the segment in which it starts. One queue brings both, so picture and sound can never wait for
//! each other; what waits here is coded and small.

use super::items::MuxItem;
use crate::base::cancel::QueueRx;
use crate::base::error::{Error, Result, Stage};
use crate::base::time::Rational;
use crate::container::codecs;
use crate::model::track::{AudioTrack, Tracks, VideoTrack};

mod file;
mod segments;

pub use file::{AppendSink, FileMux};
pub use segments::{Packaging, SegmentMux};

/// What came out of one rendition.
#[derive(Clone, Debug)]
pub struct MadeRendition {
    /// Name, as in the plan.
    pub name: String,
    /// RFC 6381 codec strings, picture first.
    pub codecs: Vec<String>,
    /// The picture's track.
    pub video: Option<VideoTrack>,
    /// The sound's track.
    pub audio: Option<AudioTrack>,
    /// Pictures written.
    pub frames: u64,
    /// Packets of sound written.
    pub audio_packets: u64,
    /// One past the last grid position of the title (or window).
    pub end: u64,
}

/// Which tracks a rendition will have; they are described by the first items.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Awaits {
    /// There will be a picture.
    pub video: bool,
    /// There will be sound.
    pub audio: bool,
}

/// Receives an item or says that its sender broke off.
fn next(input: &QueueRx<MuxItem>) -> Result<MuxItem> {
    input.recv()?.ok_or_else(|| Error::internal(Stage::Mux, "an encoder ended without a word"))
}

/// The codec strings of a rendition, from its bitstreams.
pub(super) fn codec_strings(tracks: &Tracks) -> Result<Vec<String>> {
    let mut strings = Vec::new();
    if let Some(video) = &tracks.video {
        strings
            .push(codecs::video_codec_string(video).map_err(|e| Error::internal(Stage::Mux, e.to_string()))?);
    }
    if let Some(audio) = &tracks.audio {
        strings
            .push(codecs::audio_codec_string(audio).map_err(|e| Error::internal(Stage::Mux, e.to_string()))?);
    }
    Ok(strings)
}

/// When a sample begins, in seconds of title time.
fn seconds(ticks: i64, time_base: Rational) -> Rational {
    Rational::from_int(ticks) * time_base
}
