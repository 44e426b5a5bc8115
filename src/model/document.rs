//! The job document: what `POST /jobs` takes (contract, section 3).
//!
//! What enters: the bytes of a request. What leaves: a [`JobDocument`] with every default filled in, or
//! a [`Refusal`] with every fault at once, each with its JSON pointer; and from a document the [`Wish`]
//! that the planner plans by. The types below are the schema: `utoipa` makes it from them for
//! `/openapi.json`, and the same schema checks what comes in. Nothing here looks at a path, a source or
//! the machine.
//!
//! [`Wish`]: super::job::Wish

use super::job::SegmentType;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

mod convert;
mod faults;
#[cfg(test)]
mod properties;
mod read;
mod schema;
#[cfg(test)]
mod tests;

pub use schema::as_returned as schema_as_returned;

/// The most faults that one refusal names. A body can hold more mistakes than anybody reads.
pub const MAX_FAULTS: usize = 100;

/// What is to be made of what.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct JobDocument {
    /// Name of the job: 1 to 64 of `A-Z a-z 0-9 . _ -`, not a dot first. Without one the node makes a
    /// UUID (version 7). The same id with the same document is the same job.
    #[serde(default)]
    #[schema(pattern = "^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}$", max_length = 64)]
    pub id: Option<String>,
    /// The source: a URI or path below one of the node's roots, as the network names it.
    #[schema(min_length = 1, max_length = 4096)]
    pub input: String,
    /// Where the output goes: a URI or path below the node's output. Without one the node chooses.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 4096)]
    pub output: Option<String>,
    /// Shape of the output.
    #[serde(default)]
    #[schema(default = "hls")]
    pub format: OutputFormat,
    /// How HLS is cut.
    #[serde(default)]
    pub hls: HlsOptions,
    /// Pictures to make. Empty asks for the automatic ladder (HLS), or the source's own size.
    #[serde(default)]
    #[schema(max_items = 16, default = json!([]))]
    pub renditions: Vec<RenditionOptions>,
    /// Sound.
    #[serde(default)]
    pub audio: AudioOptions,
    /// Subtitles.
    #[serde(default)]
    pub subtitles: SubtitleOptions,
    /// Whether hardware encodes.
    #[serde(default)]
    #[schema(default = "auto")]
    pub hardware: HardwareUse,
    /// Replace an output that is there.
    #[serde(default)]
    #[schema(default = false)]
    pub overwrite: bool,
    /// 10 goes first, 0 last; within one priority, whoever came first.
    #[serde(default = "default_priority")]
    #[schema(minimum = 0, maximum = 10, default = 5)]
    pub priority: u8,
    /// Where in the source to begin, seconds from its start.
    #[serde(default)]
    #[schema(minimum = 0, maximum = 10_000_000, default = 0.0)]
    pub start: f64,
    /// Where in the source to end, seconds from its start; null is its end.
    #[serde(default)]
    #[schema(minimum = 0, maximum = 10_000_000)]
    pub end: Option<f64>,
    /// Words of whoever asks, kept and given back: at most 32, keys of 1 to 64 and values of at most 256
    /// characters.
    #[serde(default)]
    #[schema(schema_with = schema::labels)]
    pub labels: BTreeMap<String, String>,
}

fn default_priority() -> u8 {
    5
}

/// Shape of an output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum OutputFormat {
    /// Playlists and segments in a folder.
    #[default]
    Hls,
    /// One MP4 file.
    Mp4,
    /// One Matroska file.
    Mkv,
    /// One MPEG-TS file.
    Ts,
}

/// How HLS is cut.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HlsOptions {
    /// Container of the segments.
    pub segment_type: SegmentType,
    /// Length of a segment in seconds, rounded to whole frames. In a single file, the longest distance
    /// of key frames.
    #[schema(minimum = 0.5, maximum = 60)]
    pub segment_duration: f64,
}

impl Default for HlsOptions {
    fn default() -> Self {
        Self { segment_type: SegmentType::Ts, segment_duration: 4.0 }
    }
}

/// One picture size.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RenditionOptions {
    /// Its name, and its folder in HLS outputs: 1 to 32 of `A-Z a-z 0-9 . _ -`, not a dot first.
    #[schema(pattern = "^[A-Za-z0-9_-][A-Za-z0-9._-]{0,31}$", max_length = 32)]
    pub name: String,
    /// Height in pixels; the width follows. Needed unless the picture is copied.
    #[serde(default)]
    #[schema(minimum = 16, maximum = 8192)]
    pub height: Option<u32>,
    /// Codec, or copy.
    #[serde(default)]
    #[schema(default = "h264")]
    pub video_codec: VideoCodecChoice,
    /// Bits each second: alone the average; with `crf` the most that the quality may need.
    #[serde(default)]
    #[schema(minimum = 10_000, maximum = 1_000_000_000)]
    pub bitrate: Option<u64>,
    /// Constant quality on the encoder's own scale: to 51 for H.264 and HEVC, to 63 for AV1 and VP9.
    #[serde(default)]
    #[schema(minimum = 0, maximum = 63)]
    pub crf: Option<f64>,
    /// Speed against quality, in the encoder's own words, such as `veryfast`.
    #[serde(default)]
    #[schema(pattern = "^[A-Za-z0-9_-]{1,32}$", max_length = 32)]
    pub preset: Option<String>,
    /// The most frames each second. All renditions share one grid of frames, so it is the same in all.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 1000)]
    pub max_fps: Option<f64>,
}

/// What becomes of the picture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum VideoCodecChoice {
    /// H.264.
    #[default]
    H264,
    /// H.265.
    Hevc,
    /// AV1.
    Av1,
    /// VP9.
    Vp9,
    /// The source's packets as they are.
    Copy,
}

/// What becomes of the sound.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AudioOptions {
    /// Codec, copy, or none.
    pub codec: AudioCodecChoice,
    /// Bits each second; null takes what codec and channels need.
    #[schema(minimum = 6_000, maximum = 1_024_000)]
    pub bitrate: Option<u64>,
    /// Channels, at most: none are made up.
    #[schema(minimum = 1, maximum = 8)]
    pub channels: u32,
    /// Which of several sound tracks.
    pub tracks: AudioTracks,
}

impl Default for AudioOptions {
    fn default() -> Self {
        Self { codec: AudioCodecChoice::Aac, bitrate: None, channels: 2, tracks: AudioTracks::All }
    }
}

/// Codec of the sound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum AudioCodecChoice {
    /// AAC-LC.
    #[default]
    Aac,
    /// Dolby Digital.
    Ac3,
    /// Dolby Digital Plus.
    Eac3,
    /// Opus.
    Opus,
    /// The source's packets as they are.
    Copy,
    /// No sound.
    None,
}

/// Which sound tracks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum AudioTracks {
    /// Every one that can be taken.
    #[default]
    All,
    /// One: the default track, else the first.
    First,
}

/// What becomes of subtitles.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SubtitleOptions {
    /// How they go out.
    pub mode: SubtitleMode,
    /// Stream index of a track to draw into the picture; null draws none.
    #[schema(maximum = 65535)]
    pub burn: Option<u32>,
}

/// How subtitles go out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum SubtitleMode {
    /// As WebVTT beside the picture.
    #[default]
    Webvtt,
    /// Left out.
    None,
}

/// Whether hardware encodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum HardwareUse {
    /// What is proven to work, else software.
    #[default]
    Auto,
    /// Software only.
    Forbid,
    /// Fail rather than use software.
    Require,
}

/// Why a body is not a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It is not JSON (HTTP 400).
    NotJson {
        /// What is wrong, with line and column.
        message: String,
    },
    /// It is JSON, but not a job that can be done (HTTP 422): at least one fault, and at most
    /// [`MAX_FAULTS`], of which the last then says that there are more.
    Faults(Vec<DocumentFault>),
}

/// One thing that is wrong with a document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DocumentFault {
    /// Where: a JSON pointer (RFC 6901). For a missing field, to where it should be.
    pub pointer: String,
    /// What is wrong and what would be right.
    pub message: String,
}

impl DocumentFault {
    fn new(pointer: impl Into<String>, message: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), message: message.into() }
    }
}

/// Reads a request's body. Its size is the caller's to limit; its depth is limited here (128 levels).
///
/// # Errors
/// [`Refusal::NotJson`] for what is not one JSON value in UTF-8 or nests too deeply;
/// [`Refusal::Faults`] with all that is wrong with it.
pub fn parse(body: &[u8]) -> Result<JobDocument, Refusal> {
    let read::Body { value, repeated } =
        read::body(body).map_err(|e| Refusal::NotJson { message: format!("the body is not JSON: {e}") })?;
    let mut found = repeated;
    found.extend(schema::faults(&value));
    let document = schema::salvage(value, &mut found);
    found.extend(document.iter().flat_map(faults::of));
    match document {
        Some(document) if found.is_empty() => Ok(document),
        _ => Err(Refusal::Faults(bounded(found))),
    }
}

/// In the order of their places, and not so many that nobody would read them.
fn bounded(mut found: Vec<DocumentFault>) -> Vec<DocumentFault> {
    found.sort_by(|a, b| a.pointer.cmp(&b.pointer));
    let more = (found.len() + 1).saturating_sub(MAX_FAULTS);
    if more > 1 {
        found.truncate(MAX_FAULTS - 1);
        found.push(DocumentFault::new("", format!("and {more} more faults")));
    }
    found
}
