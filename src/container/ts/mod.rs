//! MPEG transport stream segments (ISO/IEC 13818-1), as HLS wants them (RFC 8216, 3.2).
//!
//! What enters: the tracks of a rendition, the number of a segment and its samples. What leaves: the
//! bytes of that segment, a pure function of the three. There is no state from one segment to the
//! next, so segments can be made in any order, twice, and by different machines, and yet play as one
//! stream:
//!
//! * **Time.** Every timestamp comes from the sample's absolute ticks; title time 0 is [`START_90K`].
//! * **Continuity counters** (2.4.3.3) must run on over the joint between two segments. Each PID of
//!   a track starts each segment at 0, and its last PES packet is spread over as many packets more as
//!   make their number a multiple of 16. PAT and PMT stand in a segment exactly once, at its start,
//!   so that their counter is the segment's number modulo 16; repeating them inside would make the
//!   counter depend on how many there were in all the segments before. A segment is short enough
//!   (a few seconds) for a decoder that tunes in to wait for the next.
//! * **Clock** (PCR, 2.4.2.2). Derived from the DTS, [`PCR_LEAD_90K`] before it.
//!
//! Nothing about playlists, cuts or codecs' inner workings lives here.

mod access_unit;
mod adts;
mod audio_groups;
mod growing;
mod packet;
mod packetizer;
mod pes;
mod psi;
#[cfg(test)]
mod tests;

pub use adts::AdtsError;
pub use growing::Growing;
pub use packetizer::Packetizer;

use self::adts::AdtsConfig;
use self::audio_groups::FrameSpan;
use self::packet::PACKET_BYTES;
use super::nal::{self, NalError, NalFormat};
use crate::base::time::{Rational, Rounding, rescale};
use crate::model::track::{AudioCodec, AudioTrack, Sample, Tracks, VideoCodec, VideoTrack};

/// Where title time 0 stands on the 90 kHz clock: at 10 s, which leaves room for the negative times
/// of reordered pictures and of audio priming.
pub const START_90K: i64 = 900_000;

/// How far the clock reference runs before the DTS of the access unit that carries it, in ticks of
/// 90 kHz: half a second.
pub const PCR_LEAD_90K: i64 = 45_000;

/// PID of the picture.
pub const VIDEO_PID: u16 = 0x100;
/// PID of the sound.
pub const AUDIO_PID: u16 = 0x101;
/// PID of the program map table.
pub const PMT_PID: u16 = 0x1000;

/// Why a rendition or a sample cannot be put into a transport stream.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TsError {
    /// No stream type for it that players know.
    #[error("MPEG-TS segments carry H.264 and HEVC, not {0:?}: use fMP4 for this rendition")]
    VideoCodec(VideoCodec),
    /// No stream type for it that players know.
    #[error("MPEG-TS segments carry AAC, MP3, AC-3 and E-AC-3, not {0:?}: use fMP4 for this rendition")]
    AudioCodec(AudioCodec),
    /// Neither picture nor sound.
    #[error("a rendition needs a video or an audio track")]
    NoTracks,
    /// Samples of a track that was not announced.
    #[error("there are {0} samples but the rendition has no {0} track")]
    NoSuchTrack(&'static str),
    /// Ticks of zero or negative length.
    #[error("the {0} track has a time base that is not positive")]
    TimeBase(&'static str),
    /// The parameter sets cannot be read.
    #[error("video track: {0}")]
    VideoConfig(#[from] NalError),
    /// The AudioSpecificConfig cannot be said in an ADTS header.
    #[error("audio track: {0}")]
    AudioConfig(#[from] AdtsError),
    /// A coded picture without content.
    #[error("the video sample with DTS {dts} (ticks of the track) holds no NAL unit")]
    NoNalUnits {
        /// Decode time of the sample.
        dts: i64,
    },
    /// An audio packet without content, or longer than its header can say.
    #[error(
        "the audio sample with PTS {pts} (ticks of the track) has {bytes} bytes, which no frame can have"
    )]
    FrameLength {
        /// Presentation time of the sample.
        pts: i64,
        /// Its length.
        bytes: usize,
    },
    /// Times that no decoder can follow.
    #[error(
        "the {track} sample with DTS {dts} (ticks of the track) is out of order: its PTS is below its DTS, \
         or the sample before it has a higher DTS"
    )]
    Order {
        /// Which track.
        track: &'static str,
        /// Decode time of the sample.
        dts: i64,
    },
}

/// Ticks of a track as the 33-bit clock of the transport stream counts them, before they are cut to
/// 33 bits: [`START_90K`] plus the nearest tick of 90 kHz.
pub fn to_90k(ticks: i64, time_base: Rational) -> i64 {
    START_90K.saturating_add(rescale(ticks, time_base, Rational::TB_90K, Rounding::Nearest))
}

/// What the writer has to know of a video track.
#[derive(Clone, Debug)]
struct VideoStream {
    codec: VideoCodec,
    time_base: Rational,
    /// Framing of the samples.
    format: NalFormat,
    /// Parameter sets in the byte stream format, to go in front of key pictures.
    headers: Vec<u8>,
}

impl VideoStream {
    fn new(track: &VideoTrack) -> Result<Self, TsError> {
        match track.codec {
            VideoCodec::H264 | VideoCodec::Hevc => {}
            other => return Err(TsError::VideoCodec(other)),
        }
        if !track.time_base.is_positive() {
            return Err(TsError::TimeBase("video"));
        }
        let sets = nal::parse_config(track.codec, &track.config)?;
        let headers = access_unit::headers(track.codec, &sets);
        Ok(Self { codec: track.codec, time_base: track.time_base, format: sets.format, headers })
    }
}

/// What the writer has to know of an audio track.
#[derive(Clone, Debug)]
struct AudioStream {
    codec: AudioCodec,
    time_base: Rational,
    /// The header that goes in front of each AAC frame; the other codecs bring their own.
    adts: Option<AdtsConfig>,
    /// Length of a frame as a decoder counts it; `None` when the track does not say.
    frame: Option<FrameSpan>,
}

impl AudioStream {
    fn new(track: &AudioTrack) -> Result<Self, TsError> {
        let adts = match track.codec {
            AudioCodec::Aac => Some(AdtsConfig::parse(&track.config)?),
            AudioCodec::Ac3 | AudioCodec::Eac3 | AudioCodec::Mp3 => None,
            AudioCodec::Opus => return Err(TsError::AudioCodec(track.codec)),
        };
        if !track.time_base.is_positive() {
            return Err(TsError::TimeBase("audio"));
        }
        let frame = FrameSpan::new(track.packet_samples, track.sample_rate);
        Ok(Self { codec: track.codec, time_base: track.time_base, adts, frame })
    }
}

/// Writes the segments of one rendition. Holds what is the same in all of them.
#[derive(Clone, Debug)]
pub struct TsMuxer {
    video: Option<VideoStream>,
    audio: Option<AudioStream>,
    tables: psi::Tables,
}

impl TsMuxer {
    /// Takes in the tracks of a rendition; the language of the sound is undetermined ("und").
    ///
    /// # Errors
    /// For codecs that have no place in a transport stream, for configurations that cannot be read,
    /// and when there is no track.
    pub fn new(tracks: &Tracks) -> Result<Self, TsError> {
        let video = tracks.video.as_ref().map(VideoStream::new).transpose()?;
        let audio = tracks.audio.as_ref().map(AudioStream::new).transpose()?;
        if video.is_none() && audio.is_none() {
            return Err(TsError::NoTracks);
        }
        let mut muxer = Self { video, audio, tables: psi::Tables::default() };
        muxer.make_tables("und");
        Ok(muxer)
    }

    /// Says the language of the sound: a code of three letters (ISO 639-2). Anything else counts as
    /// undetermined.
    #[must_use]
    pub fn with_language(mut self, language: &str) -> Self {
        self.make_tables(language);
        self
    }

    fn make_tables(&mut self, language: &str) {
        let video = self.video.as_ref().map(|v| v.codec);
        let audio = self.audio.as_ref().map(|a| a.codec);
        self.tables = psi::Tables::new(video, audio, psi::language_code(language));
    }

    /// PID that carries the clock: the picture's, and the sound's in a rendition without picture.
    fn pcr_pid(&self) -> u16 {
        if self.video.is_some() { VIDEO_PID } else { AUDIO_PID }
    }

    /// The bytes of segment number `index`. Both lists are in decoding order, and hold all samples of
    /// the segment and no others.
    ///
    /// Packets of both PIDs are interleaved by DTS, sound 70 ms behind: the pictures at the front come first.
    ///
    /// # Errors
    /// When a sample cannot be written: empty, too long, or out of order.
    pub fn segment(&self, index: u64, video: &[Sample], audio: &[Sample]) -> Result<Vec<u8>, TsError> {
        let mut growing = Growing::new(self, index, !video.is_empty(), estimate_bytes(video, audio));
        video.iter().cloned().for_each(|sample| growing.push_video(sample));
        audio.iter().cloned().for_each(|sample| growing.push_audio(sample));
        growing.finish()
    }

    /// Segment number `index`, to be written while its samples come. `has_video` says whether pictures
    /// will be among them.
    pub fn begin(&self, index: u64, has_video: bool) -> Growing<'_> {
        Growing::new(self, index, has_video, 0)
    }
}

/// About how long a segment gets; a bit too long rather than too short, so that nothing moves.
fn estimate_bytes(video: &[Sample], audio: &[Sample]) -> usize {
    let payload: usize = video.iter().chain(audio).map(|s| s.data.len()).sum();
    // A packet for the headers and the rest of each PES packet, tables and padding of two PIDs.
    let packets = payload / 184 + video.len() + audio.len() / 2 + 2 + 2 * 16;
    (packets + packets / 64) * PACKET_BYTES
}
