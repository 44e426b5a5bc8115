//! The facts of a source, as data: what `inspect` found and what the planner plans by.

use super::track::Colour;
use crate::base::time::Rational;
use serde::Serialize;

/// What a source is. Times are exact seconds on the container's own clock unless they say otherwise.
#[derive(Clone, Debug, Serialize)]
pub struct SourceFacts {
    /// The demuxer's name, such as `mov,mp4,m4a,3gp,3g2,mj2`.
    pub container: String,
    /// Size of the file.
    pub size_bytes: u64,
    /// Where title time 0 stands on the container's clock.
    pub origin: Rational,
    /// How long the title is: from the origin to the end of the longer of picture and sound.
    pub duration: Rational,
    /// The picture that we take.
    pub video: Option<VideoFacts>,
    /// The sound that we take.
    pub audio: Option<AudioFacts>,
    /// Every stream of the file.
    pub streams: Vec<StreamFacts>,
    /// What this source has that is not handled yet, in words for a person.
    pub warnings: Vec<String>,
}

/// One line about a stream.
#[derive(Clone, Debug, Serialize)]
pub struct StreamFacts {
    /// Index in the container.
    pub index: usize,
    /// `video`, `audio`, `subtitle`, `data`, `attachment` or `cover`.
    pub kind: &'static str,
    /// Codec name as libav calls it.
    pub codec: String,
    /// Language tag, where there is one.
    pub language: Option<String>,
    /// Whether the linked libav has a decoder.
    pub decodable: bool,
}

/// The facts of the picture.
#[derive(Clone, Debug, Serialize)]
pub struct VideoFacts {
    /// Index in the container.
    pub stream: usize,
    /// Codec name as libav calls it.
    pub codec: String,
    /// Coded size in luma samples.
    pub width: u32,
    /// Coded size in luma samples.
    pub height: u32,
    /// Sample aspect ratio; 1 when unknown.
    pub sample_aspect_ratio: Rational,
    /// Frames each second: snapped to a standard rate when constant, the commonest when variable.
    pub frame_rate: Rational,
    /// Whether the distances of frames are equal (within rounding of the container).
    pub constant_rate: bool,
    /// Pixel format name.
    pub pixel_format: String,
    /// Bits for each colour sample.
    pub bit_depth: u8,
    /// Colour description.
    #[serde(skip)]
    pub colour: Colour,
    /// `sdr`, `pq` or `hlg`.
    pub dynamic_range: &'static str,
    /// Interlaced content was flagged.
    pub interlaced: bool,
    /// Clockwise rotation in degrees that a player should apply.
    pub rotation_degrees: i32,
    /// Seconds each tick of the stream.
    pub time_base: Rational,
    /// When the first frame is shown.
    pub start: Rational,
    /// When the last frame ends.
    pub end: Rational,
    /// Frames by the container's index, where it has one.
    pub frame_count: Option<u64>,
    /// How many key frames the container's index lists; `None` without an index.
    pub key_frames: Option<u64>,
    /// Average bit rate, where known.
    pub bitrate_bps: Option<u64>,
}

/// The facts of the sound.
#[derive(Clone, Debug, Serialize)]
pub struct AudioFacts {
    /// Index in the container.
    pub stream: usize,
    /// Codec name as libav calls it.
    pub codec: String,
    /// Samples each second.
    pub sample_rate: u32,
    /// Channels.
    pub channels: u32,
    /// Samples in each packet where the codec fixes it; 0 otherwise.
    pub frame_samples: u32,
    /// Seconds each tick of the stream.
    pub time_base: Rational,
    /// When the first sample is heard.
    pub start: Rational,
    /// When the last sample ends.
    pub end: Rational,
    /// Average bit rate, where known.
    pub bitrate_bps: Option<u64>,
}
