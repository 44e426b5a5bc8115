//! VA-API: Intel and AMD on Linux, through a render node.

use super::backend::{Ask, Backend, Rate, Speed, Takes, Words, below_peak, semi_planar};
use crate::model::track::VideoCodec;
use std::path::PathBuf;

/// See the module.
#[derive(Debug)]
pub struct Vaapi;

impl Backend for Vaapi {
    fn device_type(&self) -> Option<&'static str> {
        Some("vaapi")
    }

    fn node_groups(&self) -> Vec<Vec<PathBuf>> {
        // The one that is configured: the prober knows.
        Vec::new()
    }

    fn absent_hint(&self) -> &'static str {
        "is there a GPU, and its kernel driver loaded (ls /dev/dri)? a container needs --device /dev/dri; \
         with several GPUs set hardware.vaapi_device"
    }

    fn encoder(&self, codec: VideoCodec) -> Option<&'static str> {
        Some(match codec {
            VideoCodec::H264 => "h264_vaapi",
            VideoCodec::Hevc => "hevc_vaapi",
            VideoCodec::Av1 => "av1_vaapi",
            VideoCodec::Vp9 => "vp9_vaapi",
        })
    }

    fn takes(&self) -> Takes {
        Takes::Surfaces
    }

    fn memory_format(&self, bit_depth: u8) -> &'static str {
        semi_planar(bit_depth)
    }

    fn upload(&self) -> Option<&'static str> {
        Some("hwupload")
    }

    fn scale(&self, (width, height): (u32, u32), memory_format: &str) -> Option<String> {
        Some(format!("scale_vaapi=w={width}:h={height}:format={memory_format}:mode=hq"))
    }

    fn deinterlace(&self) -> Option<&'static str> {
        Some("deinterlace_vaapi")
    }

    fn tone_map(&self) -> Option<&'static str> {
        Some("tonemap_vaapi")
    }

    fn words(&self, ask: &Ask) -> Words {
        // How much time to take is a number whose meaning is the driver's: 0 is the driver's own choice.
        let level = match ask.speed {
            Speed::Fastest => 7,
            Speed::Fast => 5,
            Speed::Medium => 4,
            Speed::Slow => 1,
        };
        let words = Words::default().with("compression_level", level);
        match ask.rate() {
            Rate::Average(bitrate) => words.with("rc_mode", "VBR").average(bitrate).peak(bitrate),
            // Quality with a peak (QVBR) is what few drivers have.
            Rate::Capped { peak, .. } => words.with("rc_mode", "VBR").average(below_peak(peak)).peak(peak),
            Rate::Quality(crf) => {
                words.with("rc_mode", "CQP").with("global_quality", quantiser(ask.codec, crf))
            }
        }
    }
}

/// The quantiser, on each format's own scale: 0 to 51 for H.264 and HEVC, 0 to 255 for the others.
fn quantiser(codec: VideoCodec, crf: f32) -> f32 {
    match codec {
        VideoCodec::H264 | VideoCodec::Hevc => crf.clamp(1.0, 51.0).round(),
        VideoCodec::Av1 | VideoCodec::Vp9 => (crf * 255.0 / 63.0).clamp(1.0, 255.0).round(),
    }
}
