//! Apple's VideoToolbox. Compiled everywhere: libav's names are; elsewhere than on a Mac it is refused.

use super::backend::{Ask, Backend, Rate, Speed, Takes, Words, below_peak, semi_planar};
use crate::model::track::VideoCodec;
use std::path::PathBuf;

/// See the module.
#[derive(Debug)]
pub struct Videotoolbox;

impl Backend for Videotoolbox {
    fn device_type(&self) -> Option<&'static str> {
        Some("videotoolbox")
    }

    fn node_groups(&self) -> Vec<Vec<PathBuf>> {
        Vec::new()
    }

    fn absent_hint(&self) -> &'static str {
        "VideoToolbox is a part of macOS"
    }

    fn encoder(&self, codec: VideoCodec) -> Option<&'static str> {
        match codec {
            VideoCodec::H264 => Some("h264_videotoolbox"),
            VideoCodec::Hevc => Some("hevc_videotoolbox"),
            VideoCodec::Av1 | VideoCodec::Vp9 => None,
        }
    }

    fn takes(&self) -> Takes {
        Takes::Either
    }

    fn memory_format(&self, bit_depth: u8) -> &'static str {
        semi_planar(bit_depth)
    }

    fn upload(&self) -> Option<&'static str> {
        Some("hwupload")
    }

    fn scale(&self, (width, height): (u32, u32), _: &str) -> Option<String> {
        Some(format!("scale_vt=w={width}:h={height}"))
    }

    fn deinterlace(&self) -> Option<&'static str> {
        Some("yadif_videotoolbox")
    }

    fn tone_map(&self) -> Option<&'static str> {
        None
    }

    fn words(&self, ask: &Ask) -> Words {
        let hurry = matches!(ask.speed, Speed::Fastest | Speed::Fast);
        // Apple's own software encoder would be slower than ours.
        let words = Words::default().with("allow_sw", 0).with("prio_speed", u8::from(hurry));
        match ask.rate() {
            Rate::Average(bitrate) => words.average(bitrate),
            Rate::Capped { peak, .. } => words.average(below_peak(peak)).peak(peak),
            Rate::Quality(crf) => words.with("flags", "+qscale").with("global_quality", quality(crf)),
        }
    }
}

/// 1 to 100 in units of libav's lambda (118), more being better; 60 is about what x264 calls 23.
fn quality(crf: f32) -> f32 {
    (110.0 - crf * 2.2).clamp(1.0, 100.0).round() * 118.0
}
