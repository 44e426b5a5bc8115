//! Fragmented MP4 (ISO/IEC 14496-12, in the shape of CMAF, ISO/IEC 23000-19) for HLS.
//!
//! What enters: tracks, and the samples of one segment. What leaves: the initialisation segment
//! (`ftyp` + `moov`) and media segments (`moof` + `mdat`). A media segment is a function of the
//! tracks, its number and its samples alone, and the initialisation segment one of the tracks alone:
//! no state passes from one segment to the next, so any of them can be made first, again, or on
//! another machine, with the same bytes. Never in here: files, libav, playlists.
//!
//! # Time
//!
//! - Both tracks have an edit list of one entry where they have a delay, whose `media_time` is the delay
//!   (ISO/IEC 14496-12, 8.6.6): the reorder delay of the encoder
//!   ([`VideoTrack::reorder_frames`](crate::model::track::VideoTrack::reorder_frames)), the priming of the sound.
//!   The browsers' Media Source Extensions, libav and GStreamer subtract it, which puts the first picture, and the
//!   first sample after the priming, at title time 0.
//! - **Video**: decode time in the file = `dts` + delay, so the title begins at `tfdt` 0; composition offset =
//!   `pts` - `dts`, which is not negative, since callers give no `dts` beyond the `pts`. Negative ones, and no edit
//!   list, would be as good by the standard, but libav's demuxer (FFmpeg 5.1) takes the most negative offset that it
//!   has read so far for the delay of all pictures, and GStreamer 1.22 that of each fragment: pictures are then shown
//!   late against their sound, and where segments differ in how far their B-frames reorder, one comes twice.
//! - **Audio**: decode times in the file are `pts` + delay and hence never negative, which `tfdt` could not express:
//!   the first packets of a title decode to samples before its beginning.
//! - Neither `styp` nor `sidx` is written: some television players refuse segments that have them.
//!
//! # Sample entries
//!
//! Parameter sets stand in the sample entry only (`avc1`, `hvc1`); the copies that encoders put in
//! front of key frames are taken out of the samples.

mod ac3;
mod boxes;
mod entry;
mod init;
mod segment;
#[cfg(test)]
mod tests;

use super::codecs::CodecStringError;
use super::nal::NalError;
use crate::base::time::{Rational, Rounding};
use crate::model::track::{AudioCodec, AudioTrack, Sample, Tracks, VideoTrack};
use segment::{Lane, Payload};
use std::fmt;

/// Which of the two tracks an error speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrackKind {
    /// The picture.
    Video,
    /// The sound.
    Audio,
}

impl fmt::Display for TrackKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Video => "video",
            Self::Audio => "audio",
        })
    }
}

/// Why tracks or samples cannot be put into fragmented MP4.
#[derive(Debug, thiserror::Error)]
pub enum Fmp4Error {
    /// A rendition of nothing.
    #[error("neither a video nor an audio track to write")]
    NoTracks,
    /// AC-3 and E-AC-3 describe themselves in their frames only.
    #[error("{0:?} needs a packet of the stream to describe it in the initialisation segment")]
    NoFirstAudio(AudioCodec),
    /// A packet that was to describe the stream does not.
    #[error("the {codec:?} packet that has to describe the stream is unusable: {reason}")]
    FirstAudio {
        /// Codec of the track.
        codec: AudioCodec,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The codec configuration is missing or damaged.
    #[error(transparent)]
    Config(#[from] CodecStringError),
    /// The parameter sets are missing or damaged.
    #[error(transparent)]
    ParameterSets(#[from] NalError),
    /// A codec configuration that only this container needs is missing or damaged.
    #[error("the {codec:?} configuration cannot be used: {reason}")]
    AudioConfig {
        /// Codec of the track.
        codec: AudioCodec,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// VP9 keeps the chroma format of profiles 1 and 3 in its frames.
    #[error("VP9 profile {0} does not tell its chroma format; only profiles 0 and 2 can be written")]
    Vp9Chroma(u8),
    /// A file counts whole ticks each second.
    #[error("the {track} time base {time_base} is not one over a whole number of 32 bits")]
    TimeBase {
        /// The track.
        track: TrackKind,
        /// Its time base in seconds each tick.
        time_base: Rational,
    },
    /// A delay in frames or samples has no length without a rate.
    #[error("the {0} track has a decoding delay but no positive rate")]
    Rate(TrackKind),
    /// A field of the file has too few bits.
    #[error("the {track} track's {field} does not fit into the file's field")]
    Range {
        /// The track.
        track: TrackKind,
        /// The value.
        field: &'static str,
    },
    /// A box could not be encoded.
    #[error("a box cannot be written: {0}")]
    Box(#[from] mp4_atom::Error),
    /// A segment of nothing.
    #[error("segment {0} has no samples")]
    Empty(u64),
    /// Samples of a track that the initialisation segment does not have.
    #[error("segment {index} has {track} samples, but the rendition has no {track} track")]
    NoSuchTrack {
        /// Number of the segment.
        index: u64,
        /// The track.
        track: TrackKind,
    },
    /// Decoding could not start at this segment.
    #[error("segment {0} does not begin with a key frame")]
    NotAKeyFrame(u64),
    /// A sample before the beginning of decoding.
    #[error("segment {index} would start at {track} decode time {ticks}, before the title begins")]
    NegativeDecodeTime {
        /// Number of the segment.
        index: u64,
        /// The track.
        track: TrackKind,
        /// The decode time in ticks of the track.
        ticks: i64,
    },
    /// Decode times must rise from sample to sample.
    #[error("segment {index}: {track} sample {sample} is not decoded after the one before it")]
    Order {
        /// Number of the segment.
        index: u64,
        /// The track.
        track: TrackKind,
        /// Position in the segment, from 0.
        sample: usize,
    },
    /// Nothing was left of a sample, or its framing is broken.
    #[error("segment {index}: {track} sample {sample} is empty or damaged")]
    Payload {
        /// Number of the segment.
        index: u64,
        /// The track.
        track: TrackKind,
        /// Position in the segment, from 0.
        sample: usize,
    },
    /// Segment numbers and sizes have 32 bits in a file.
    #[error("a segment number or box size exceeds 32 bits")]
    TooLarge,
}

/// Writes one rendition. Cheap to use from several threads: nothing changes after [`Self::new`].
#[derive(Debug)]
pub struct Fmp4Muxer {
    video: Option<Lane>,
    audio: Option<Lane>,
    init: Vec<u8>,
}

impl Fmp4Muxer {
    /// Prepares to write `tracks`. Video becomes track 1 and audio track 2; audio alone is track 1.
    ///
    /// `first_audio` is any packet of the audio stream; only AC-3 and E-AC-3 need one, because they
    /// have no configuration of their own. Whichever packet it is, the result is the same.
    ///
    /// # Errors
    /// When a configuration is missing or damaged, a time base is not `1/n`, or a value has no room
    /// in the file's fields.
    pub fn new(tracks: &Tracks, first_audio: Option<&[u8]>) -> Result<Self, Fmp4Error> {
        let video = tracks.video.as_ref().map(|track| video_lane(track, 1)).transpose()?;
        let audio_id = if video.is_some() { 2 } else { 1 };
        let audio = tracks.audio.as_ref().map(|track| audio_lane(track, audio_id)).transpose()?;
        let mut described = Vec::with_capacity(2);
        if let (Some(track), Some(lane)) = (&tracks.video, &video) {
            described.push(init::describe_video(track, lane)?);
        }
        if let (Some(track), Some(lane)) = (&tracks.audio, &audio) {
            described.push(init::describe_audio(track, lane, first_audio)?);
        }
        if described.is_empty() {
            return Err(Fmp4Error::NoTracks);
        }
        let init = init::write(described)?;
        Ok(Self { video, audio, init })
    }

    /// The initialisation segment: `ftyp` and `moov`, without samples (ISO/IEC 14496-12, 8.8).
    pub fn init(&self) -> Vec<u8> {
        self.init.clone()
    }

    /// Media segment number `index` (from 0) of the rendition: `moof` and `mdat`, with video before
    /// audio. Samples stand in decoding order and carry absolute times.
    ///
    /// In the file a sample lasts until the next one is decoded, the last one of the segment as long
    /// as its `duration` says. So the decode time of the next segment follows from this one exactly
    /// when that `duration` reaches to its first sample. A track may have no sample in a segment, for
    /// example the shorter one at the end of a title.
    ///
    /// # Errors
    /// When there are no samples at all, the video does not begin with a key frame, decode times do
    /// not rise or begin below 0, a payload is empty or broken, or a number exceeds its field.
    pub fn segment(&self, index: u64, video: &[Sample], audio: &[Sample]) -> Result<Vec<u8>, Fmp4Error> {
        let video_run = self.run(index, TrackKind::Video, video)?;
        let audio_run = self.run(index, TrackKind::Audio, audio)?;
        let mut runs: Vec<_> = video_run.into_iter().chain(audio_run).collect();
        segment::write(index, &mut runs)
    }

    fn run<'a>(
        &'a self,
        index: u64,
        track: TrackKind,
        samples: &'a [Sample],
    ) -> Result<Option<segment::Run<'a>>, Fmp4Error> {
        let lane = match track {
            TrackKind::Video => &self.video,
            TrackKind::Audio => &self.audio,
        };
        match lane {
            _ if samples.is_empty() => Ok(None),
            Some(lane) => segment::Run::new(lane, index, samples).map(Some),
            None => Err(Fmp4Error::NoSuchTrack { index, track }),
        }
    }
}

fn video_lane(track: &VideoTrack, track_id: u32) -> Result<Lane, Fmp4Error> {
    let timescale = timescale(TrackKind::Video, track.time_base)?;
    let shift_ticks = delay_ticks(TrackKind::Video, track.reorder_frames, track.frame_rate, track.time_base)?;
    let payload = Payload::of(track)?;
    Ok(Lane { kind: TrackKind::Video, track_id, timescale, shift_ticks, payload })
}

fn audio_lane(track: &AudioTrack, track_id: u32) -> Result<Lane, Fmp4Error> {
    let timescale = timescale(TrackKind::Audio, track.time_base)?;
    let rate = Rational::from_int(i64::from(track.sample_rate));
    let shift_ticks = delay_ticks(TrackKind::Audio, track.priming_samples, rate, track.time_base)?;
    Ok(Lane { kind: TrackKind::Audio, track_id, timescale, shift_ticks, payload: Payload::Whole })
}

/// Ticks each second.
fn timescale(track: TrackKind, time_base: Rational) -> Result<u32, Fmp4Error> {
    let whole = u32::try_from(time_base.den()).ok().filter(|_| time_base.num() == 1);
    whole.ok_or(Fmp4Error::TimeBase { track, time_base })
}

/// `count` frames or samples in ticks. Rounded up, so that a delay that was rounded either way when
/// it was taken off the decode times never leaves a negative one. The choice moves no picture and no
/// sound: offsets and edit list count from the same value.
fn delay_ticks(track: TrackKind, count: u32, rate: Rational, time_base: Rational) -> Result<i64, Fmp4Error> {
    match count {
        0 => Ok(0),
        _ if !rate.is_positive() => Err(Fmp4Error::Rate(track)),
        _ => Ok((Rational::from_int(i64::from(count)) / rate / time_base).round(Rounding::Ceil)),
    }
}
