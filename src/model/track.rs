//! Encoded tracks and samples, as data: what a muxer needs to know and nothing about libav.
//!
//! What enters: what an encoder (or a demuxer, when a stream is copied) says of its output.
//! What leaves: values that the muxers, the playlists and the codec strings are made from.

use crate::base::time::Rational;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// The video codecs that we put into our outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VideoCodec {
    /// H.264 / AVC, ISO/IEC 14496-10.
    H264,
    /// H.265 / HEVC, ISO/IEC 23008-2.
    Hevc,
    /// AV1.
    Av1,
    /// VP9.
    Vp9,
}

/// The audio codecs that we put into our outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AudioCodec {
    /// AAC (raw access units, with an AudioSpecificConfig as configuration).
    Aac,
    /// AC-3, ETSI TS 102 366.
    Ac3,
    /// Enhanced AC-3, ETSI TS 102 366 annex E.
    Eac3,
    /// Opus, RFC 6716, with an `OpusHead` as configuration.
    Opus,
    /// MPEG-1/2 layer III; only ever copied.
    Mp3,
}

/// Colour as code points of ISO/IEC 23091-2 (2 = unspecified).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Colour {
    /// `colour_primaries`.
    pub primaries: u8,
    /// `transfer_characteristics`: 16 is PQ, 18 is HLG.
    pub transfer: u8,
    /// `matrix_coefficients`.
    pub matrix: u8,
    /// Full range (as JPEG) rather than limited (as television).
    pub full_range: bool,
}

/// A video track as it comes out of an encoder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VideoTrack {
    /// Codec.
    pub codec: VideoCodec,
    /// Coded width in luma samples (after cropping).
    pub width: u32,
    /// Coded height in luma samples (after cropping).
    pub height: u32,
    /// Sample aspect ratio; 1/1 in all that we encode.
    pub sample_aspect_ratio: Rational,
    /// Frames each second.
    pub frame_rate: Rational,
    /// Seconds each tick of the samples' timestamps.
    pub time_base: Rational,
    /// How many frames a decoder holds back for reordering: DTS = decode index − this.
    pub reorder_frames: u32,
    /// Bits for each colour sample.
    pub bit_depth: u8,
    /// Colour description.
    pub colour: Colour,
    /// Codec configuration as libav's `extradata` gives it: Annex B parameter sets or
    /// `avcC`/`hvcC` for H.264 and HEVC, `av1C` or a sequence header OBU for AV1, empty for VP9.
    pub config: Vec<u8>,
    /// Codec profile number as libav counts it (VP9 needs it for its codec string); −99 if unknown.
    pub profile: i32,
    /// Codec level number as libav counts it; −99 if unknown.
    pub level: i32,
}

/// An audio track as it comes out of an encoder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AudioTrack {
    /// Codec.
    pub codec: AudioCodec,
    /// Samples each second.
    pub sample_rate: u32,
    /// Number of channels.
    pub channels: u32,
    /// Seconds each tick of the samples' timestamps.
    pub time_base: Rational,
    /// Audio samples in each packet.
    pub packet_samples: u32,
    /// Samples that a decoder puts out before title time 0 (encoder delay).
    pub priming_samples: u32,
    /// Codec configuration as libav's `extradata` gives it: AudioSpecificConfig for AAC,
    /// `OpusHead` for Opus, empty for AC-3 and E-AC-3.
    pub config: Vec<u8>,
    /// Average bit rate that was asked for, in bits each second; 0 if unknown.
    pub bitrate: u64,
}

/// What one rendition is made of. At least one of the two is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tracks {
    /// The picture.
    pub video: Option<VideoTrack>,
    /// The sound.
    pub audio: Option<AudioTrack>,
}

/// One coded picture or one audio packet.
///
/// Times count from title time 0 in ticks of the track's time base. They are absolute: the same
/// picture carries the same times whichever run made it. DTS lies up to `reorder_frames` frames and more before PTS,
/// never behind it: see [`VideoTrack::reorder_frames`] and the muxers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Presentation time, ticks of the track.
    pub pts: i64,
    /// Decode time, ticks of the track; ≤ `pts`, negative at the start of the title when frames are reordered.
    pub dts: i64,
    /// Length in ticks of the track.
    pub duration: i64,
    /// A decoder can start here (IDR for H.264 and HEVC). Always true for audio.
    pub key: bool,
    /// The payload as the encoder gives it: Annex B or length-prefixed as the track's `config` says.
    pub data: Bytes,
}
