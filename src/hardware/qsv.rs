//! Intel's Quick Sync, through oneVPL or the Media SDK.

use super::backend::{Ask, Backend, Rate, Speed, Takes, Words, below_peak, on_scale_of_51, semi_planar};
use crate::model::track::VideoCodec;
use std::path::PathBuf;

/// See the module.
#[derive(Debug)]
pub struct Qsv;

impl Backend for Qsv {
    fn device_type(&self) -> Option<&'static str> {
        Some("qsv")
    }

    fn node_groups(&self) -> Vec<Vec<PathBuf>> {
        vec![vec!["/dev/dri/renderD128".into(), "/dev/dri/renderD129".into(), "/dev/dri/renderD130".into()]]
    }

    fn absent_hint(&self) -> &'static str {
        "is there an Intel GPU, and its kernel driver (i915, xe) loaded? a container needs --device /dev/dri"
    }

    fn encoder(&self, codec: VideoCodec) -> Option<&'static str> {
        Some(match codec {
            VideoCodec::H264 => "h264_qsv",
            VideoCodec::Hevc => "hevc_qsv",
            VideoCodec::Av1 => "av1_qsv",
            VideoCodec::Vp9 => "vp9_qsv",
        })
    }

    fn takes(&self) -> Takes {
        Takes::Either
    }

    fn memory_format(&self, bit_depth: u8) -> &'static str {
        semi_planar(bit_depth)
    }

    fn upload(&self) -> Option<&'static str> {
        // Its pools do not grow.
        Some("hwupload=extra_hw_frames=24")
    }

    fn scale(&self, (width, height): (u32, u32), memory_format: &str) -> Option<String> {
        Some(format!("scale_qsv=w={width}:h={height}:format={memory_format}"))
    }

    fn deinterlace(&self) -> Option<&'static str> {
        Some("deinterlace_qsv")
    }

    fn tone_map(&self) -> Option<&'static str> {
        Some("vpp_qsv=tonemap=1")
    }

    fn words(&self, ask: &Ask) -> Words {
        let preset = match ask.speed {
            Speed::Fastest => "veryfast",
            Speed::Fast => "faster",
            Speed::Medium => "medium",
            Speed::Slow => "slower",
        };
        let words = Words::default().with("preset", preset).with("forced_idr", 1);
        match ask.rate() {
            Rate::Average(bitrate) => words.average(bitrate),
            Rate::Capped { peak, .. } => words.average(below_peak(peak)).peak(peak),
            Rate::Quality(crf) => words.with("global_quality", quality(ask.codec, crf)),
        }
    }
}

/// The quality of ICQ, 1 to 51.
fn quality(codec: VideoCodec, crf: f32) -> f32 {
    (on_scale_of_51(codec, crf) + 1.0).clamp(1.0, 51.0).round()
}
