//! Codec strings (RFC 6381 and the codecs' own bindings), read from the bitstream and never guessed.
//!
//! What enters: a track with its codec configuration. What leaves: the string that playlists put
//! into `CODECS`, or an error that says what the configuration lacks. The sample entries of
//! [`super::fmp4`] are made from the same parsers, so that string and file cannot disagree.

// The paths are spelled out so that this file can also be compiled on its own.
#[path = "codecs/av1.rs"]
pub(crate) mod av1;
#[path = "codecs/bits.rs"]
pub(crate) mod bits;
#[cfg(test)]
#[path = "codecs/tests.rs"]
mod tests;

use super::nal::{self, HevcSpsInfo, NalError};
use crate::base::time::Rational;
use crate::model::track::{AudioCodec, AudioTrack, VideoCodec, VideoTrack};
use bits::BitReader;

/// What a configuration lacks to derive the codec string from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecStringError {
    /// H.264 or HEVC parameter sets that cannot be read.
    #[error("the codec string cannot be derived: {0}")]
    Nal(#[from] NalError),
    /// The encoder gave no global header, or the demuxer found none.
    #[error("the {0} track has no codec configuration: open the encoder with a global header")]
    Missing(&'static str),
    /// Ends early, or holds forbidden values.
    #[error("the {0} is damaged or truncated")]
    Damaged(&'static str),
    /// VP9 keeps its profile in the frames; the track has to name it.
    #[error("VP9 profile {0} is not one of 0 to 3: the encoder or demuxer has to name the profile")]
    Vp9Profile(i32),
    /// Larger or faster than level 6.2 allows, or without size or rate.
    #[error("no VP9 level holds {width}x{height} at {frame_rate} frames each second")]
    Vp9Level {
        /// Luma samples across.
        width: u32,
        /// Luma samples down.
        height: u32,
        /// Frames each second.
        frame_rate: Rational,
    },
}

/// The codec string of a video track.
///
/// `avc1.PPCCLL` (RFC 6381, 3.3), `hvc1.…` (ISO/IEC 14496-15 annex E), `av01.P.LLT.DD` (AV1 ISO
/// BMFF binding, section 5) or `vp09.PP.LL.DD` (VP codec ISO BMFF binding). Always the form with
/// parameter sets in the sample entry only (`avc1`, `hvc1`).
///
/// # Errors
/// When the configuration is missing or damaged, or (VP9) the track names no profile.
pub fn video_codec_string(track: &VideoTrack) -> Result<String, CodecStringError> {
    match track.codec {
        VideoCodec::H264 => h264_string(&track.config),
        VideoCodec::Hevc => hevc_string(&track.config),
        VideoCodec::Av1 => av1_string(&track.config),
        VideoCodec::Vp9 => {
            let (profile, level) = (vp9_profile(track)?, vp9_level(track)?);
            Ok(format!("vp09.{profile:02}.{level:02}.{:02}", track.bit_depth))
        }
    }
}

/// The codec string of an audio track.
///
/// `mp4a.40.N` with the audio object type of the `AudioSpecificConfig` (ISO/IEC 14496-3, 1.6.2.1),
/// 34 for MP3 as HLS clients expect it; else the name of the sample entry.
///
/// # Errors
/// For AAC, when its configuration is missing or damaged.
pub fn audio_codec_string(track: &AudioTrack) -> Result<String, CodecStringError> {
    Ok(match track.codec {
        AudioCodec::Aac => format!("mp4a.40.{}", audio_object_type(&track.config)?),
        AudioCodec::Ac3 => "ac-3".to_owned(),
        AudioCodec::Eac3 => "ec-3".to_owned(),
        AudioCodec::Opus => "Opus".to_owned(),
        AudioCodec::Mp3 => "mp4a.40.34".to_owned(),
    })
}

fn h264_string(config: &[u8]) -> Result<String, CodecStringError> {
    let sets = nal::parse_config(VideoCodec::H264, config)?;
    match sets.sps.first().map(Vec::as_slice) {
        Some([_, profile, constraints, level, ..]) => {
            Ok(format!("avc1.{profile:02x}{constraints:02x}{level:02x}"))
        }
        _ => Err(CodecStringError::Damaged("H.264 sequence parameter set")),
    }
}

fn hevc_string(config: &[u8]) -> Result<String, CodecStringError> {
    let sets = nal::parse_config(VideoCodec::Hevc, config)?;
    let sps = sets.sps.first().ok_or(NalError::NoSps)?;
    Ok(hevc_string_of(&HevcSpsInfo::parse(sps)?))
}

fn hevc_string_of(sps: &HevcSpsInfo) -> String {
    let space = ["", "A", "B", "C"].get(usize::from(sps.general_profile_space)).copied().unwrap_or_default();
    let tier = if sps.tier_flag { 'H' } else { 'L' };
    // The string counts flag 0 as the lowest bit, the bitstream sends it first.
    let compatibility = sps.compatibility_flags.reverse_bits();
    let mut out = format!("hvc1.{space}{}.{compatibility:X}.{tier}{}", sps.profile_idc, sps.level_idc);
    let used = sps.constraint_bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    for byte in sps.constraint_bytes.iter().take(used) {
        out.push_str(&format!(".{byte:X}"));
    }
    out
}

fn av1_string(config: &[u8]) -> Result<String, CodecStringError> {
    let record = av1::configuration(config)?;
    let tier = if record.seq_tier_0 { 'H' } else { 'M' };
    let depth = match (record.high_bitdepth, record.twelve_bit) {
        (false, _) => 8,
        (true, false) => 10,
        (true, true) => 12,
    };
    Ok(format!("av01.{}.{:02}{tier}.{depth:02}", record.seq_profile, record.seq_level_idx_0))
}

/// The audio object type of an `AudioSpecificConfig`: 2 AAC LC, 5 HE-AAC, 29 HE-AAC v2, ...
/// (ISO/IEC 14496-3, `GetAudioObjectType()`: five bits, 31 announces six more).
pub(crate) fn audio_object_type(config: &[u8]) -> Result<u32, CodecStringError> {
    if config.is_empty() {
        return Err(CodecStringError::Missing("AAC"));
    }
    let mut bits = BitReader::new(config);
    let object_type = match bits.bits(5) {
        Some(31) => bits.bits(6).map(|extension| 32 + extension),
        short => short,
    };
    // Type 0 is "null". The sampling frequency index follows in any valid configuration.
    object_type
        .filter(|&kind| kind != 0 && bits.bits(4).is_some())
        .ok_or(CodecStringError::Damaged("AudioSpecificConfig"))
}

/// The VP9 profile that the track names, 0 to 3.
pub(crate) fn vp9_profile(track: &VideoTrack) -> Result<u8, CodecStringError> {
    u8::try_from(track.profile)
        .ok()
        .filter(|&profile| profile <= 3)
        .ok_or(CodecStringError::Vp9Profile(track.profile))
}

/// VP9 levels (VP9 Levels and Decoder Performance, table 1): level x 10, luma samples each second,
/// luma samples of a picture, samples of the longer side.
const VP9_LEVELS: [(u8, i64, i64, u32); 14] = [
    (10, 829_440, 36_864, 512),
    (11, 2_764_800, 73_728, 768),
    (20, 4_608_000, 122_880, 960),
    (21, 9_216_000, 245_760, 1344),
    (30, 20_736_000, 552_960, 2048),
    (31, 36_864_000, 983_040, 2752),
    (40, 83_558_400, 2_228_224, 4160),
    (41, 160_432_128, 2_228_224, 4160),
    (50, 311_951_360, 8_912_896, 8384),
    (51, 588_251_136, 8_912_896, 8384),
    (52, 1_176_502_272, 8_912_896, 8384),
    (60, 1_176_502_272, 35_651_584, 16_832),
    (61, 2_353_004_544, 35_651_584, 16_832),
    (62, 4_706_009_088, 35_651_584, 16_832),
];

/// The VP9 level times ten: what the track names if it is a level, else the lowest one that holds
/// picture size and rate.
pub(crate) fn vp9_level(track: &VideoTrack) -> Result<u8, CodecStringError> {
    if let Some((level, ..)) = VP9_LEVELS.iter().find(|(level, ..)| i32::from(*level) == track.level) {
        return Ok(*level);
    }
    let (width, height, frame_rate) = (track.width, track.height, track.frame_rate);
    let picture = i64::from(width) * i64::from(height);
    let rate = Rational::from_int(picture) * frame_rate;
    let fits = |&&(_, each_second, size, side): &&(u8, i64, i64, u32)| {
        rate <= Rational::from_int(each_second) && picture <= size && width.max(height) <= side
    };
    let found = VP9_LEVELS.iter().find(fits).filter(|_| picture > 0 && frame_rate.is_positive());
    found.map(|row| row.0).ok_or(CodecStringError::Vp9Level { width, height, frame_rate })
}
