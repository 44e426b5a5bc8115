//! What the source's streams are to the stages: clocks for what is decoded, tracks for what is copied.

use super::audio::SourceClock;
use super::plan::Plan;
use super::plan::{copied_audio_codec, copied_video_codec};
use crate::av::input::{Input, Stream};
use crate::base::error::{Error, ErrorKind, Result, Stage};
use crate::base::time::Rational;
use crate::model::track::{AudioCodec, AudioTrack, VideoCodec, VideoTrack};

/// The streams of the source as the stages need them.
pub struct SourceTracks {
    /// Seconds each tick of the picture.
    pub video_time_base: Rational,
    /// The picture, when it is copied.
    pub video: Option<VideoTrack>,
    /// The sound, when it is copied.
    pub audio: Option<AudioTrack>,
    /// Where packets of sound belong, and pieces of it when it is decoded.
    pub audio_clock: Option<SourceClock>,
}

/// Reads them off the open source.
pub fn describe(plan: &Plan, input: &Input) -> Result<SourceTracks> {
    let stream = |index: usize| input.streams().get(index).ok_or_else(|| changed(plan));
    let mut tracks =
        SourceTracks { video_time_base: Rational::TB_90K, video: None, audio: None, audio_clock: None };
    if let Some(video) = &plan.video {
        let stream = stream(video.stream)?;
        tracks.video_time_base = stream.time_base;
        if video.copy {
            tracks.video = Some(copied_video(plan, stream)?);
        }
    }
    if let Some(audio) = &plan.audio {
        let stream = stream(audio.stream)?;
        tracks.audio_clock = Some(clock(plan, stream));
        if audio.encode.is_none() {
            tracks.audio = Some(copied_audio(plan, stream)?);
        }
    }
    Ok(tracks)
}

/// The file was replaced since it was inspected.
pub(super) fn changed(plan: &Plan) -> Error {
    let message = format!("{} is not the file that was inspected any more", plan.input.display());
    Error::new(ErrorKind::Conflict, "source_changed", Stage::Open, message).hint("try again")
}

fn clock(plan: &Plan, stream: &Stream) -> SourceClock {
    let facts = plan.facts.audio.as_ref();
    SourceClock {
        sample_rate: stream.params.sample_rate().max(1),
        time_base: stream.time_base,
        origin: plan.title_origin,
        start: facts.map_or(plan.title_origin, |a| a.start),
        packet_samples: stream.params.frame_samples(),
    }
}

fn copied_video(plan: &Plan, stream: &Stream) -> Result<VideoTrack> {
    let facts = plan.facts.video.as_ref().ok_or_else(|| changed(plan))?;
    let params = &stream.params;
    Ok(VideoTrack {
        codec: copied_video_codec(facts, plan.format)?,
        width: params.width(),
        height: params.height(),
        sample_aspect_ratio: facts.sample_aspect_ratio,
        frame_rate: facts.frame_rate,
        time_base: stream.time_base,
        reorder_frames: params.reorder_frames(),
        bit_depth: facts.bit_depth,
        colour: facts.colour,
        config: params.extradata().to_vec(),
        profile: params.profile(),
        level: params.level(),
    })
}

fn copied_audio(plan: &Plan, stream: &Stream) -> Result<AudioTrack> {
    let facts = plan.facts.audio.as_ref().ok_or_else(|| changed(plan))?;
    let params = &stream.params;
    let codec = copied_audio_codec(&facts.codec, plan.format)?;
    let packet_samples = match params.frame_samples() {
        0 => super::plan::packet_samples(codec),
        n => n,
    };
    Ok(AudioTrack {
        codec,
        sample_rate: params.sample_rate(),
        channels: params.channels(),
        // Containers round times; to the sample they are what the clock makes of them.
        time_base: Rational::new(1, i64::from(params.sample_rate().max(1))),
        packet_samples,
        // The packets' own times say what lies before title time 0; room for one packet of it.
        priming_samples: packet_samples,
        config: params.extradata().to_vec(),
        bitrate: params.bitrate_bps().unwrap_or(0),
    })
}

/// The codec that an encoder of ours makes.
pub fn codec_of(encoder: &str) -> VideoCodec {
    match encoder {
        "libx265" => VideoCodec::Hevc,
        "libsvtav1" => VideoCodec::Av1,
        "libvpx-vp9" => VideoCodec::Vp9,
        // Those of devices are called after the format: `hevc_vaapi`.
        name if name.starts_with("hevc_") => VideoCodec::Hevc,
        name if name.starts_with("av1_") => VideoCodec::Av1,
        name if name.starts_with("vp9_") => VideoCodec::Vp9,
        _ => VideoCodec::H264,
    }
}

/// The codec that a sound encoder of ours makes.
pub fn audio_codec_of(encoder: &str) -> AudioCodec {
    match encoder {
        "ac3" => AudioCodec::Ac3,
        "eac3" => AudioCodec::Eac3,
        "libopus" => AudioCodec::Opus,
        _ => AudioCodec::Aac,
    }
}
