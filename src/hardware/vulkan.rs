//! Vulkan: filters on every device, Vulkan Video where driver and libav have it.

use super::backend::{Ask, Backend, Rate, Takes, Words, below_peak, semi_planar};
use crate::model::track::VideoCodec;
use std::path::PathBuf;

/// See the module.
#[derive(Debug)]
pub struct Vulkan;

impl Backend for Vulkan {
    fn device_type(&self) -> Option<&'static str> {
        Some("vulkan")
    }

    fn node_groups(&self) -> Vec<Vec<PathBuf>> {
        // Drivers that need none exist.
        Vec::new()
    }

    fn absent_hint(&self) -> &'static str {
        "install a Vulkan driver (Debian: mesa-vulkan-drivers) and look at vulkaninfo; a container needs \
         --device /dev/dri or --gpus all"
    }

    fn encoder(&self, codec: VideoCodec) -> Option<&'static str> {
        match codec {
            VideoCodec::H264 => Some("h264_vulkan"),
            VideoCodec::Hevc => Some("hevc_vulkan"),
            VideoCodec::Av1 => Some("av1_vulkan"),
            VideoCodec::Vp9 => None,
        }
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

    fn scale(&self, (width, height): (u32, u32), _: &str) -> Option<String> {
        Some(format!("scale_vulkan=w={width}:h={height}:scaler=bilinear"))
    }

    fn deinterlace(&self) -> Option<&'static str> {
        Some("bwdif_vulkan")
    }

    fn tone_map(&self) -> Option<&'static str> {
        None
    }

    fn words(&self, ask: &Ask) -> Words {
        let words = Words::default();
        match ask.rate() {
            Rate::Average(bitrate) => words.with("rc_mode", "vbr").average(bitrate).peak(bitrate),
            Rate::Capped { peak, .. } => words.with("rc_mode", "vbr").average(below_peak(peak)).peak(peak),
            Rate::Quality(crf) => words.with("rc_mode", "cqp").with("qp", crf.clamp(1.0, 51.0).round()),
        }
    }
}
