//! A document as the wish that the planner plans by.
//!
//! What enters: a document that was checked. What leaves: a [`Wish`], and words about what in the
//! document has no effect.

use super::{AudioCodecChoice, AudioTracks, JobDocument, OutputFormat, RenditionOptions, VideoCodecChoice};
use crate::base::time::Rational;
use crate::model::job::{AudioChoice, Format, RateWish, RenditionWish, SegmentType, VideoChoice, Wish};
use crate::model::timeline::{MAX_GRID_RATE, snap_rate};
use crate::model::track::{AudioCodec, VideoCodec};

impl JobDocument {
    /// What is asked for. Of a document that [`parse`](super::parse) gave, it validates.
    pub fn wish(&self) -> Wish {
        let instant = |seconds: f64| Rational::from_f64(seconds).unwrap_or(Rational::ZERO);
        let renditions: Vec<RenditionWish> = self.renditions.iter().map(rendition).collect();
        let unnamed = Wish::default();
        Wish {
            format: self.shape(),
            segment_seconds: Rational::from_f64(self.hls.segment_duration).unwrap_or(unnamed.segment_seconds),
            renditions,
            max_fps: self.renditions.iter().find_map(|r| r.max_fps).and_then(rate),
            audio: sound(self.audio.codec),
            audio_bitrate_bps: self.audio.bitrate,
            channels: self.audio.channels,
            start: instant(self.start),
            end: self.end.map(instant),
            ..unnamed
        }
    }

    /// What in the document has no effect, in words for whoever wrote it. What depends on the source is
    /// the planner's to say, and what hardware does is the runner's.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if self.format != OutputFormat::Hls && self.hls.segment_type != SegmentType::Ts {
            notes.push("hls.segment_type has no effect: the output is a single file".into());
        }
        let untouched = match self.audio.codec {
            AudioCodecChoice::Copy => "copied",
            AudioCodecChoice::None => "left out",
            _ => return notes,
        };
        if self.audio.bitrate.is_some() {
            notes.push(format!("audio.bitrate has no effect: the sound is {untouched}"));
        }
        if self.audio.codec == AudioCodecChoice::None && self.audio.tracks == AudioTracks::First {
            notes.push(format!("audio.tracks has no effect: the sound is {untouched}"));
        }
        notes
    }

    fn shape(&self) -> Format {
        match (self.format, self.hls.segment_type) {
            (OutputFormat::Hls, kind) => Format::Hls(kind),
            (OutputFormat::Mp4, _) => Format::Mp4,
            (OutputFormat::Mkv, _) => Format::Mkv,
            (OutputFormat::Ts, _) => Format::Ts,
        }
    }
}

/// The limit of the grid for a rendition that is encoded; without a word of its own the usual one.
pub(super) fn max_fps(r: &RenditionOptions) -> Rational {
    r.max_fps.and_then(rate).map_or(MAX_GRID_RATE, |fps| fps.min(MAX_GRID_RATE))
}

/// 29.97 is short for 30000/1001, which it would otherwise keep out.
fn rate(fps: f64) -> Option<Rational> {
    Rational::from_f64(fps).filter(|fps| fps.is_positive()).map(snap_rate)
}

fn rendition(r: &RenditionOptions) -> RenditionWish {
    RenditionWish {
        video: Some(picture(r.video_codec)),
        rate: RateWish { crf: r.crf.map(|crf| crf as f32), bitrate_bps: r.bitrate },
        preset: r.preset.clone(),
        ..RenditionWish::new(r.name.as_str(), r.height.unwrap_or(0))
    }
}

fn picture(codec: VideoCodecChoice) -> VideoChoice {
    match codec {
        VideoCodecChoice::H264 => VideoChoice::Encode(VideoCodec::H264),
        VideoCodecChoice::Hevc => VideoChoice::Encode(VideoCodec::Hevc),
        VideoCodecChoice::Av1 => VideoChoice::Encode(VideoCodec::Av1),
        VideoCodecChoice::Vp9 => VideoChoice::Encode(VideoCodec::Vp9),
        VideoCodecChoice::Copy => VideoChoice::Copy,
    }
}

fn sound(codec: AudioCodecChoice) -> AudioChoice {
    match codec {
        AudioCodecChoice::Aac => AudioChoice::Encode(AudioCodec::Aac),
        AudioCodecChoice::Ac3 => AudioChoice::Encode(AudioCodec::Ac3),
        AudioCodecChoice::Eac3 => AudioChoice::Encode(AudioCodec::Eac3),
        AudioCodecChoice::Opus => AudioChoice::Encode(AudioCodec::Opus),
        AudioCodecChoice::Copy => AudioChoice::Copy,
        AudioCodecChoice::None => AudioChoice::None,
    }
}
