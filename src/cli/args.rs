//! The words of `sprocket transcode` and what each of them may look like.
//!
//! What enters: arguments as text. What leaves: [`TranscodeArgs`], and from it and the source's facts
//! a [`Wish`]. Defaults that depend on other words (format, segment type) are applied here; those that
//! depend on the source's size or the machine are the planner's.

use crate::base::error::{Error, ErrorKind, Result, Stage};
use crate::base::time::Rational;
use crate::model::document::HardwareUse;
use crate::model::job::{AudioChoice, Format, RateWish, RenditionWish, SegmentType, VideoChoice, Wish};
use crate::model::source::SourceFacts;
use crate::model::track::{AudioCodec, VideoCodec};
use clap::{Args, ValueEnum};
use std::path::PathBuf;

mod numbers;
#[cfg(test)]
mod tests;

pub use numbers::{bitrate, rendition, seconds};

/// `sprocket transcode INPUT -o OUT [options]`.
#[derive(Args, Debug)]
pub struct TranscodeArgs {
    /// The media file to read
    pub input: PathBuf,
    /// The folder (HLS) or file to make
    #[arg(short, long, value_name = "OUT")]
    pub output: PathBuf,
    /// Shape of the output [default: by OUT's extension, else hls]
    #[arg(long, value_enum)]
    pub format: Option<FormatWord>,
    /// Container of HLS segments [default: ts; fmp4 for what TS cannot carry or players want there]
    #[arg(long, value_enum)]
    pub segment_type: Option<SegmentWord>,
    /// Length of HLS segments, rounded to whole frames
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "4")]
    pub segment_duration: Rational,
    /// A size to make; repeat for several [default: a ladder for HLS, else the source's own size]
    #[arg(long = "rendition", value_name = "NAME:HEIGHT[:BITRATE]", value_parser = rendition)]
    pub renditions: Vec<RenditionWish>,
    /// Codec of the picture, or copy
    #[arg(long, value_enum, default_value = "h264")]
    pub video_codec: VideoWord,
    /// Constant quality, on the encoder's own scale; with --bitrate that is the most it may need
    #[arg(long)]
    pub crf: Option<f32>,
    /// Bits each second of picture, such as 3000000, 3M or 800k
    #[arg(long, value_parser = bitrate)]
    pub bitrate: Option<u64>,
    /// Speed against quality, in the encoder's own words
    #[arg(long)]
    pub preset: Option<String>,
    /// Codec of the sound, or copy, or none
    #[arg(long, value_enum, default_value = "aac")]
    pub audio_codec: AudioWord,
    /// Bits each second of sound
    #[arg(long, value_name = "BITRATE", value_parser = bitrate)]
    pub audio_bitrate: Option<u64>,
    /// Channels of sound
    #[arg(long, default_value = "2")]
    pub channels: u32,
    /// Whether to use hardware encoders
    #[arg(long, value_enum, default_value = "auto")]
    pub hardware: HardwareWord,
    /// Where in the source to begin: seconds, mm:ss or h:mm:ss
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    pub start: Option<Rational>,
    /// Where in the source to end
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    pub end: Option<Rational>,
    /// How to show progress: a bar on a terminal, JSON lines on stdout, or not at all
    #[arg(long, value_enum, default_value = "auto")]
    pub progress: ProgressWord,
    /// Replace an output that is there
    #[arg(long)]
    pub overwrite: bool,
}

/// `--format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FormatWord {
    /// Playlists and segments in a folder
    Hls,
    /// One MP4 file
    Mp4,
    /// One Matroska file
    Mkv,
    /// One MPEG-TS file
    Ts,
}

/// `--segment-type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SegmentWord {
    /// MPEG-TS
    Ts,
    /// Fragmented MP4
    Fmp4,
}

/// `--video-codec`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum VideoWord {
    /// H.264
    H264,
    /// H.265
    Hevc,
    /// AV1
    Av1,
    /// VP9
    Vp9,
    /// The source's packets as they are
    Copy,
}

/// `--audio-codec`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AudioWord {
    /// AAC-LC
    Aac,
    /// Dolby Digital
    Ac3,
    /// Dolby Digital Plus
    Eac3,
    /// Opus
    Opus,
    /// The source's packets as they are
    Copy,
    /// No sound
    None,
}

/// `--hardware`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum HardwareWord {
    /// What is proven to work
    Auto,
    /// Software only
    Forbid,
    /// Fail rather than use software
    Require,
}

/// `--progress`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ProgressWord {
    /// A bar when stderr is a terminal
    Auto,
    /// JSON lines on stdout
    Json,
    /// Nothing
    None,
}

impl TranscodeArgs {
    /// Refuses what can be refused before the source is opened.
    ///
    /// # Errors
    /// `bad_request` for words that contradict each other.
    pub fn check(&self) -> Result<()> {
        let format = self.format_word();
        if format != FormatWord::Hls && self.segment_type.is_some() {
            return Err(bad_request("--segment-type goes with HLS only"));
        }
        if format == FormatWord::Hls && self.extension().is_some_and(|e| e == "m3u8") {
            return Err(bad_request("HLS output is a folder with playlists and segments: name the folder"));
        }
        Ok(())
    }

    /// Whether devices may be used.
    pub fn hardware(&self) -> HardwareUse {
        match self.hardware {
            HardwareWord::Auto => HardwareUse::Auto,
            HardwareWord::Forbid => HardwareUse::Forbid,
            HardwareWord::Require => HardwareUse::Require,
        }
    }

    /// What is asked for, of a source with these facts.
    pub fn wish(&self, facts: &SourceFacts) -> Wish {
        Wish {
            format: self.format(facts),
            segment_seconds: self.segment_duration,
            renditions: self.renditions.clone(),
            video: self.video(),
            rate: RateWish { crf: self.crf, bitrate_bps: self.bitrate },
            preset: self.preset.clone(),
            max_fps: None,
            audio: self.audio(),
            audio_bitrate_bps: self.audio_bitrate,
            channels: self.channels,
            start: self.start.unwrap_or(Rational::ZERO),
            end: self.end,
        }
    }

    fn format(&self, facts: &SourceFacts) -> Format {
        match self.format_word() {
            FormatWord::Mp4 => Format::Mp4,
            FormatWord::Mkv => Format::Mkv,
            FormatWord::Ts => Format::Ts,
            FormatWord::Hls => Format::Hls(match self.segment_type {
                Some(SegmentWord::Ts) => SegmentType::Ts,
                Some(SegmentWord::Fmp4) => SegmentType::Fmp4,
                None => self.default_segment_type(facts),
            }),
        }
    }

    fn format_word(&self) -> FormatWord {
        let by_extension = || match self.extension().as_deref() {
            Some("mp4" | "m4v" | "mov") => FormatWord::Mp4,
            Some("mkv" | "webm") => FormatWord::Mkv,
            Some("ts") => FormatWord::Ts,
            _ => FormatWord::Hls,
        };
        self.format.unwrap_or_else(by_extension)
    }

    fn extension(&self) -> Option<String> {
        self.output.extension().map(|e| e.to_string_lossy().to_ascii_lowercase())
    }

    /// TS for every TV, but fMP4 for AV1, VP9 and Opus, which TS cannot carry, and for HEVC, which
    /// Apple's players take in fMP4 only.
    fn default_segment_type(&self, facts: &SourceFacts) -> SegmentType {
        let video = facts.video.as_ref().map_or("", |v| v.codec.as_str());
        let audio = facts.audio.as_ref().map_or("", |a| a.codec.as_str());
        let wants_fmp4 = match self.video_codec {
            VideoWord::H264 => false,
            VideoWord::Hevc | VideoWord::Av1 | VideoWord::Vp9 => true,
            VideoWord::Copy => matches!(video, "hevc" | "av1" | "vp9"),
        } || match self.audio_codec {
            AudioWord::Opus => true,
            AudioWord::Copy => audio == "opus",
            AudioWord::Aac | AudioWord::Ac3 | AudioWord::Eac3 | AudioWord::None => false,
        };
        if wants_fmp4 { SegmentType::Fmp4 } else { SegmentType::Ts }
    }

    fn video(&self) -> VideoChoice {
        match self.video_codec {
            VideoWord::H264 => VideoChoice::Encode(VideoCodec::H264),
            VideoWord::Hevc => VideoChoice::Encode(VideoCodec::Hevc),
            VideoWord::Av1 => VideoChoice::Encode(VideoCodec::Av1),
            VideoWord::Vp9 => VideoChoice::Encode(VideoCodec::Vp9),
            VideoWord::Copy => VideoChoice::Copy,
        }
    }

    fn audio(&self) -> AudioChoice {
        match self.audio_codec {
            AudioWord::Aac => AudioChoice::Encode(AudioCodec::Aac),
            AudioWord::Ac3 => AudioChoice::Encode(AudioCodec::Ac3),
            AudioWord::Eac3 => AudioChoice::Encode(AudioCodec::Eac3),
            AudioWord::Opus => AudioChoice::Encode(AudioCodec::Opus),
            AudioWord::Copy => AudioChoice::Copy,
            AudioWord::None => AudioChoice::None,
        }
    }
}

fn bad_request(message: &str) -> Error {
    Error::new(ErrorKind::Usage, "bad_request", Stage::Plan, message)
}
