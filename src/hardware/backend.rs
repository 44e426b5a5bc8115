//! What the kinds of devices have in common, as one trait without defaults: who adds a kind answers every
//! question, and "it has none" is an answer.

use super::{fake, nvenc, qsv, v4l2m2m, vaapi, videotoolbox, vulkan};
use crate::config::settings::Device as Word;
use crate::model::job::RateWish;
use crate::model::ladder;
use crate::model::track::VideoCodec;
use serde::{Deserialize, Serialize};
use std::fmt::{self, Debug};
use std::path::PathBuf;

/// A kind of device. The order is that of `auto`: the first that can do a job does it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// NVIDIA's: CUDA with NVDEC and NVENC.
    Nvenc,
    /// Intel's Quick Sync through oneVPL or the Media SDK.
    Qsv,
    /// Linux' VA-API: Intel, AMD.
    Vaapi,
    /// Apple's.
    Videotoolbox,
    /// Vulkan, with Vulkan Video where the driver has it.
    Vulkan,
    /// Codecs of small boards behind Linux' V4L2. Looked at, never chosen: they take no forced key pictures.
    V4l2m2m,
    /// None: what tests take for one (`fake`).
    Fake,
}

impl Kind {
    /// All that there may be, in the order of `auto`.
    pub const ALL: [Self; 6] =
        [Self::Nvenc, Self::Qsv, Self::Vaapi, Self::Videotoolbox, Self::Vulkan, Self::V4l2m2m];

    /// How to speak to it.
    pub fn backend(self) -> &'static dyn Backend {
        match self {
            Self::Nvenc => &nvenc::Nvenc,
            Self::Qsv => &qsv::Qsv,
            Self::Vaapi => &vaapi::Vaapi,
            Self::Videotoolbox => &videotoolbox::Videotoolbox,
            Self::Vulkan => &vulkan::Vulkan,
            Self::V4l2m2m => &v4l2m2m::V4l2m2m,
            Self::Fake => &fake::Fake,
        }
    }
}

impl From<Word> for Kind {
    fn from(word: Word) -> Self {
        match word {
            Word::Vaapi => Self::Vaapi,
            Word::Nvenc => Self::Nvenc,
            Word::Videotoolbox => Self::Videotoolbox,
            Word::Qsv => Self::Qsv,
            Word::Vulkan => Self::Vulkan,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nvenc => "nvenc",
            Self::Qsv => "qsv",
            Self::Vaapi => "vaapi",
            Self::Videotoolbox => "videotoolbox",
            Self::Vulkan => "vulkan",
            Self::V4l2m2m => "v4l2m2m",
            Self::Fake => "fake",
        })
    }
}

/// Where an encoder's pictures have to lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// On the device.
    Surfaces,
    /// In memory or on the device.
    Either,
    /// In memory.
    Memory,
}

/// How much time an encoder may take, in words that all encoders have something for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speed {
    /// The least work.
    Fastest,
    /// Little work.
    Fast,
    /// The encoder's own middle.
    Medium,
    /// The most work.
    Slow,
}

impl Speed {
    /// What a preset of a software encoder asks for; `None` for a word that none of them has. Numbers are
    /// SVT-AV1's and libvpx', where more is faster.
    pub fn of_preset(word: &str) -> Option<Self> {
        Some(match word {
            "ultrafast" | "superfast" => Self::Fastest,
            "veryfast" | "faster" | "fast" => Self::Fast,
            "medium" => Self::Medium,
            "slow" | "slower" | "veryslow" | "placebo" => Self::Slow,
            number => match number.parse::<u8>().ok()? {
                0..=3 => Self::Slow,
                4..=5 => Self::Medium,
                6..=8 => Self::Fast,
                9..=13 => Self::Fastest,
                _ => return None,
            },
        })
    }
}

/// What an encoder on a device is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Ask {
    /// The format.
    pub codec: VideoCodec,
    /// Quality and rate, `crf` on the scale of the software encoder of that format.
    pub rate: RateWish,
    /// Time.
    pub speed: Speed,
}

/// What a wish for quality and rate comes to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Rate {
    /// So many bits each second on average.
    Average(u64),
    /// This quality, and no more bits each second than that.
    Capped {
        /// On the scale of the encoder in software.
        crf: f32,
        /// Bits each second.
        peak: u64,
    },
    /// This quality, whatever it takes.
    Quality(f32),
}

impl Ask {
    /// The contract's meaning of the two figures, with the default quality where none is asked for.
    pub(super) fn rate(&self) -> Rate {
        let crf = self.rate.crf.unwrap_or(ladder::default_crf(self.codec));
        match (self.rate.crf, self.rate.bitrate_bps) {
            (None, Some(bitrate)) => Rate::Average(bitrate),
            (_, Some(peak)) => Rate::Capped { crf, peak },
            (_, None) => Rate::Quality(crf),
        }
    }
}

/// Settings of an encoder in libav's words, besides size, format and group of pictures.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Words {
    /// Average, bits each second; 0 for none.
    pub bitrate_bps: u64,
    /// Peak; 0 for none.
    pub max_rate_bps: u64,
    /// Options by name.
    pub options: Vec<(String, String)>,
}

impl Words {
    /// An option more.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl fmt::Display) -> Self {
        self.options.push((key.into(), value.to_string()));
        self
    }

    /// An average.
    #[must_use]
    pub fn average(mut self, bitrate_bps: u64) -> Self {
        self.bitrate_bps = bitrate_bps;
        self
    }

    /// A peak.
    #[must_use]
    pub fn peak(mut self, max_rate_bps: u64) -> Self {
        self.max_rate_bps = max_rate_bps;
        self
    }
}

/// A kind of device: how it is opened, what its filters and encoders are called and how they are asked.
pub trait Backend: Debug + Sync {
    /// libav's name of its type; `None` where encoders find the device themselves.
    fn device_type(&self) -> Option<&'static str>;

    /// The files that have to be there for the first device to work, any one of each group; empty where there
    /// are no such files.
    fn node_groups(&self) -> Vec<Vec<PathBuf>>;

    /// What a person does who has none of these files.
    fn absent_hint(&self) -> &'static str;

    /// The encoder of a format, whether or not it is linked or works.
    fn encoder(&self, codec: VideoCodec) -> Option<&'static str>;

    /// Where its encoders want their pictures.
    fn takes(&self) -> Takes;

    /// The format of pictures in memory that go to it and come from it.
    fn memory_format(&self, bit_depth: u8) -> &'static str;

    /// The filter that brings pictures there.
    fn upload(&self) -> Option<&'static str>;

    /// The filter that scales there, to this size and format.
    fn scale(&self, size: (u32, u32), memory_format: &str) -> Option<String>;

    /// The filter that makes whole pictures of fields there.
    fn deinterlace(&self) -> Option<&'static str>;

    /// The filter that maps high dynamic range to standard there.
    fn tone_map(&self) -> Option<&'static str>;

    /// Quality, rate, speed, and that a picture asked for as key becomes an IDR picture.
    fn words(&self, ask: &Ask) -> Words;
}

/// Pictures in memory as most devices take them.
pub(super) fn semi_planar(bit_depth: u8) -> &'static str {
    if bit_depth > 8 { "p010le" } else { "nv12" }
}

/// A quality on H.264's scale of 51; that of AV1 and VP9 goes to 63.
pub(super) fn on_scale_of_51(codec: VideoCodec, crf: f32) -> f32 {
    match codec {
        VideoCodec::H264 | VideoCodec::Hevc => crf,
        VideoCodec::Av1 | VideoCodec::Vp9 => crf * 51.0 / 63.0,
    }
}

/// Three quarters of a peak: the average that is asked of encoders that know no quality with a peak.
pub(super) fn below_peak(peak_bps: u64) -> u64 {
    peak_bps / 4 * 3
}

#[cfg(test)]
mod tests {
    use super::*;

    const CODECS: [VideoCodec; 4] = [VideoCodec::H264, VideoCodec::Hevc, VideoCodec::Av1, VideoCodec::Vp9];
    const RATES: [RateWish; 4] = [
        RateWish { crf: Some(23.0), bitrate_bps: None },
        RateWish { crf: None, bitrate_bps: Some(3_000_000) },
        RateWish { crf: Some(23.0), bitrate_bps: Some(3_000_000) },
        RateWish { crf: None, bitrate_bps: None },
    ];

    #[test]
    fn presets_of_every_software_encoder_have_a_speed_and_unknown_words_none() {
        for word in ["ultrafast", "veryfast", "medium", "placebo", "0", "8", "13"] {
            assert!(Speed::of_preset(word).is_some(), "{word}");
        }
        for word in ["", "quick", "p4", "14", "-1", "Fast"] {
            assert_eq!(Speed::of_preset(word), None, "{word}");
        }
    }

    #[test]
    fn a_rate_is_never_passed_and_a_quality_never_lost() {
        for kind in Kind::ALL {
            for codec in CODECS.into_iter().filter(|c| kind.backend().encoder(*c).is_some()) {
                for rate in RATES {
                    let words = kind.backend().words(&Ask { codec, rate, speed: Speed::Fast });
                    let place = format!("{kind} {codec:?} {rate:?}: {words:?}");
                    let most = rate.bitrate_bps.unwrap_or(u64::MAX);
                    assert!(words.bitrate_bps <= most && words.max_rate_bps <= most, "{place}");
                    match (rate.crf, rate.bitrate_bps) {
                        (_, Some(_)) => assert!(words.bitrate_bps + words.max_rate_bps > 0, "{place}"),
                        (Some(_), None) if kind != Kind::V4l2m2m => {
                            assert_eq!((words.bitrate_bps, words.max_rate_bps), (0, 0), "{place}");
                            assert!(!words.options.is_empty(), "{place}");
                        }
                        _ => {}
                    }
                }
            }
        }
    }

    #[test]
    fn every_kind_names_its_encoders_after_itself() {
        for kind in Kind::ALL {
            for name in CODECS.into_iter().filter_map(|codec| kind.backend().encoder(codec)) {
                assert!(name.ends_with(&kind.to_string()), "{name} of {kind}");
            }
        }
    }
}
