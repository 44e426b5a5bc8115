//! What somebody wants made: the words of the job document and of the command line, validated.
//!
//! What enters: values that the command line or the job document parsed. What leaves: a
//! [`Wish`] that `media::plan` turns into stages. No defaults are applied here that depend on the
//! source; those are the planner's.

use super::track::{AudioCodec, VideoCodec};
use crate::base::error::{Error, ErrorKind, Result, Stage};
use crate::base::time::Rational;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The shape of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Playlists and segments in a folder.
    Hls(SegmentType),
    /// One MP4 file with its index in front.
    Mp4,
    /// One Matroska file.
    Mkv,
    /// One MPEG-TS file.
    Ts,
}

/// The container of HLS segments; in documents and configuration `ts` or `fmp4`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum SegmentType {
    /// MPEG-TS, for every TV.
    #[default]
    Ts,
    /// Fragmented MP4: AV1, VP9 and Opus need it, and Apple's players want it for HEVC.
    Fmp4,
}

/// What to do with the picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VideoChoice {
    /// Encode with this codec.
    Encode(VideoCodec),
    /// Take the source's packets as they are.
    Copy,
}

/// What to do with the sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AudioChoice {
    /// Encode with this codec.
    Encode(AudioCodec),
    /// Take the source's packets as they are.
    Copy,
    /// No sound.
    None,
}

/// How the encoder spends bits. The contract fixes the meaning: `bitrate` alone is the average,
/// `crf` alone is constant quality, both together are quality with `bitrate` as the most it may need.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RateWish {
    /// Constant rate factor on the encoder's own scale.
    pub crf: Option<f32>,
    /// Bits each second.
    pub bitrate_bps: Option<u64>,
}

/// One picture size that was asked for by name.
#[derive(Clone, Debug, PartialEq)]
pub struct RenditionWish {
    /// Name: folder in HLS outputs.
    pub name: String,
    /// Height in pixels; 0 for a copied picture, which keeps its own.
    pub height: u32,
    /// Codec, or copy; `None` takes the job's.
    pub video: Option<VideoChoice>,
    /// Rate control; empty takes the job's.
    pub rate: RateWish,
    /// Encoder preset in the encoder's own words; `None` takes the job's where the codec is the job's
    /// too, else our default.
    pub preset: Option<String>,
}

impl RenditionWish {
    /// A rendition of that height; everything else as the job says.
    pub fn new(name: impl Into<String>, height: u32) -> Self {
        Self { name: name.into(), height, video: None, rate: RateWish::default(), preset: None }
    }
}

/// Everything about one transcode but its paths.
#[derive(Clone, Debug, PartialEq)]
pub struct Wish {
    /// The shape of the output.
    pub format: Format,
    /// Wished segment length in seconds; also the longest distance of key frames in single files.
    pub segment_seconds: Rational,
    /// Sizes by name; empty asks for the automatic ladder (HLS) or the source's own height.
    pub renditions: Vec<RenditionWish>,
    /// Picture of renditions without their own codec.
    pub video: VideoChoice,
    /// Rate control for renditions without their own.
    pub rate: RateWish,
    /// Encoder preset in the encoder's own words; `None` takes our default.
    pub preset: Option<String>,
    /// The most frames each second of the grid that all renditions share; `None` leaves the limit to
    /// the planner.
    pub max_fps: Option<Rational>,
    /// Sound.
    pub audio: AudioChoice,
    /// Bits each second of sound; `None` takes the default for codec and channels.
    pub audio_bitrate_bps: Option<u64>,
    /// Channels of encoded sound.
    pub channels: u32,
    /// Where in the source to begin, seconds from its start.
    pub start: Rational,
    /// Where in the source to end, seconds from its start; `None` is its end.
    pub end: Option<Rational>,
}

impl Default for Wish {
    fn default() -> Self {
        Self {
            format: Format::Hls(SegmentType::Ts),
            segment_seconds: Rational::from_int(4),
            renditions: Vec::new(),
            video: VideoChoice::Encode(VideoCodec::H264),
            rate: RateWish::default(),
            preset: None,
            max_fps: None,
            audio: AudioChoice::Encode(AudioCodec::Aac),
            audio_bitrate_bps: None,
            channels: 2,
            start: Rational::ZERO,
            end: None,
        }
    }
}

impl Wish {
    /// Refuses what cannot be meant, whatever the source: every fault in one message.
    pub fn validate(&self) -> Result<()> {
        let mut faults = Vec::new();
        self.check_codecs(&mut faults);
        self.check_numbers(&mut faults);
        self.check_renditions(&mut faults);
        if faults.is_empty() {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Usage, "bad_request", Stage::Plan, faults.join("; ")))
    }

    /// Whether the picture's packets are to be taken as they are. After [`Wish::validate`] a copied
    /// picture is the only rendition.
    pub fn copies_video(&self) -> bool {
        let first = self.renditions.first().and_then(|r| r.video);
        first.unwrap_or(self.video) == VideoChoice::Copy
    }

    fn check_codecs(&self, faults: &mut Vec<String>) {
        let ts = self.format.is_ts();
        let own = self.renditions.iter().map(|r| r.video.unwrap_or(self.video));
        let job = self.renditions.is_empty().then_some(self.video);
        let mut told = Vec::new();
        for choice in own.chain(job) {
            let VideoChoice::Encode(codec @ (VideoCodec::Vp9 | VideoCodec::Av1)) = choice else { continue };
            if ts && !told.contains(&codec) {
                told.push(codec);
                faults.push(format!(
                    "MPEG-TS cannot carry {codec:?}: use --segment-type fmp4, --format mp4 or mkv"
                ));
            }
        }
        if ts && self.audio == AudioChoice::Encode(AudioCodec::Opus) {
            faults.push(
                "Opus in MPEG-TS is played by no TV: use --segment-type fmp4, --format mp4 or mkv".into(),
            );
        }
        if self.audio == AudioChoice::Encode(AudioCodec::Mp3) {
            faults.push("MP3 can be copied but not encoded: use aac".into());
        }
        self.check_copy(faults);
    }

    /// A copied picture keeps its size and is alone: a ladder with it in would have cuts in other places.
    fn check_copy(&self, faults: &mut Vec<String>) {
        if self.video == VideoChoice::Copy && self.renditions.iter().any(|r| r.video.is_none()) {
            faults.push(
                "a copied picture keeps its size: leave out --rendition or choose a --video-codec".into(),
            );
        }
        for r in self.renditions.iter().filter(|r| r.video == Some(VideoChoice::Copy)) {
            if self.renditions.len() > 1 {
                faults.push(format!("rendition {}: a copied picture has to be the only one", r.name));
            }
            if r.height != 0 || r.rate != RateWish::default() || r.preset.is_some() {
                faults.push(format!(
                    "rendition {}: a copied picture keeps its size and its bits: leave out height, bit rate, crf and preset",
                    r.name
                ));
            }
        }
    }

    fn check_numbers(&self, faults: &mut Vec<String>) {
        let half = Rational::new(1, 2);
        if self.segment_seconds < half || self.segment_seconds > Rational::from_int(60) {
            faults.push("--segment-duration has to be between 0.5 and 60 seconds".into());
        }
        if self.start < Rational::ZERO {
            faults.push("--start cannot be negative".into());
        }
        if self.end.is_some_and(|end| end <= self.start) {
            faults.push("--end has to lie after --start".into());
        }
        if !(1..=8).contains(&self.channels) {
            faults.push("--channels has to be between 1 and 8".into());
        }
        for rate in self.renditions.iter().map(|r| r.rate).chain([self.rate]) {
            if rate.bitrate_bps.is_some_and(|b| !(10_000..=1_000_000_000).contains(&b)) {
                faults
                    .push("a video bit rate has to be between 10000 and 1000000000 bits each second".into());
            }
            if rate.crf.is_some_and(|crf| !(0.0..=63.0).contains(&crf)) {
                faults.push("--crf has to be between 0 and 63".into());
            }
        }
        if self.max_fps.is_some_and(|fps| !fps.is_positive()) {
            faults.push("the limit of the frame rate has to be above 0".into());
        }
        if self.audio_bitrate_bps.is_some_and(|b| !(6_000..=1_024_000).contains(&b)) {
            faults.push("--audio-bitrate has to be between 6000 and 1024000 bits each second".into());
        }
    }

    fn check_renditions(&self, faults: &mut Vec<String>) {
        if self.renditions.len() > 16 {
            faults.push("at most 16 renditions".into());
        }
        if !matches!(self.format, Format::Hls(_)) && self.renditions.len() > 1 {
            faults.push("a single file holds one rendition: use --format hls for several".into());
        }
        for (i, r) in self.renditions.iter().enumerate() {
            if !name_is_safe(&r.name) {
                faults.push(format!(
                    "rendition name {:?}: use 1 to 32 of A-Z a-z 0-9 . _ -, not a dot first",
                    r.name
                ));
            }
            let copied = r.video == Some(VideoChoice::Copy);
            if !copied && !(16..=8192).contains(&r.height) {
                faults.push(format!("rendition {}: the height has to be between 16 and 8192", r.name));
            }
            if self.renditions.iter().take(i).any(|earlier| earlier.name == r.name) {
                faults.push(format!("rendition name {} is there twice", r.name));
            }
        }
    }
}

impl Format {
    /// Whether the samples travel in MPEG-TS, which cannot carry every codec.
    pub fn is_ts(self) -> bool {
        matches!(self, Self::Ts | Self::Hls(SegmentType::Ts))
    }
}

/// Whether a rendition's name can be a folder and part of a URL as it is.
fn name_is_safe(name: &str) -> bool {
    let ok = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    (1..=32).contains(&name.len()) && !name.starts_with('.') && name.chars().all(ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_is_named_at_once() {
        let twin = |name: &str| RenditionWish::new(name, 720);
        let wish = Wish {
            video: VideoChoice::Encode(VideoCodec::Vp9),
            renditions: vec![twin("a"), twin("a"), twin("../b")],
            segment_seconds: Rational::ZERO,
            ..Wish::default()
        };
        let err = wish.validate().unwrap_err();
        assert_eq!(err.kind(), ErrorKind::Usage);
        for part in ["MPEG-TS cannot carry", "twice", "\"../b\"", "--segment-duration"] {
            assert!(err.message().contains(part), "{part} is missing in {err}");
        }
        assert_eq!(Wish::default().validate(), Ok(()));
    }

    #[test]
    fn each_rendition_may_have_a_codec_but_a_copied_picture_is_alone_and_bare() {
        let rendition = |video| RenditionWish { video: Some(video), ..RenditionWish::new("a", 720) };
        let faults = |renditions: Vec<RenditionWish>| {
            let wish = Wish { renditions, ..Wish::default() };
            wish.validate().err().map(|e| e.message().to_owned())
        };
        let copy = RenditionWish { height: 0, ..rendition(VideoChoice::Copy) };
        assert_eq!(faults(vec![rendition(VideoChoice::Encode(VideoCodec::Hevc))]), None);
        let vp9 = faults(vec![rendition(VideoChoice::Encode(VideoCodec::Vp9))]).unwrap();
        assert!(vp9.starts_with("MPEG-TS cannot carry Vp9"), "{vp9}");
        assert_eq!(faults(vec![copy.clone()]), None);
        assert!(Wish { renditions: vec![copy.clone()], ..Wish::default() }.copies_video());
        let two = faults(vec![copy.clone(), RenditionWish::new("b", 360)]).unwrap();
        assert_eq!(two, "rendition a: a copied picture has to be the only one");
        for dressed in [
            RenditionWish { height: 720, ..copy.clone() },
            RenditionWish { preset: Some("fast".into()), ..copy.clone() },
            RenditionWish { rate: RateWish { crf: Some(20.0), bitrate_bps: None }, ..copy },
        ] {
            let told = faults(vec![dressed]).unwrap();
            assert!(told.starts_with("rendition a: a copied picture keeps its size and its bits"), "{told}");
        }
        let job = Wish { video: VideoChoice::Copy, ..Wish::default() };
        assert!(job.copies_video() && job.validate().is_ok());
        let scaled = Wish { renditions: vec![RenditionWish::new("a", 720)], ..job };
        assert!(
            scaled
                .validate()
                .unwrap_err()
                .message()
                .starts_with("a copied picture keeps its size: leave out")
        );
        assert!(Wish { max_fps: Some(Rational::ZERO), ..Wish::default() }.validate().is_err());
    }
}
