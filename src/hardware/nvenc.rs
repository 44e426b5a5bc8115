//! NVIDIA: CUDA surfaces, NVDEC, NVENC, `scale_cuda`.

use super::backend::{Ask, Backend, Rate, Speed, Takes, Words, on_scale_of_51, semi_planar};
use crate::model::track::VideoCodec;
use std::path::PathBuf;

/// See the module.
#[derive(Debug)]
pub struct Nvenc;

impl Backend for Nvenc {
    fn device_type(&self) -> Option<&'static str> {
        Some("cuda")
    }

    fn node_groups(&self) -> Vec<Vec<PathBuf>> {
        // WSL has the one, everything else the others.
        vec![vec!["/dev/nvidiactl".into(), "/dev/dxg".into()]]
    }

    fn absent_hint(&self) -> &'static str {
        "is there an NVIDIA card, and its driver loaded (nvidia-smi)? a container needs --gpus all"
    }

    fn encoder(&self, codec: VideoCodec) -> Option<&'static str> {
        match codec {
            VideoCodec::H264 => Some("h264_nvenc"),
            VideoCodec::Hevc => Some("hevc_nvenc"),
            VideoCodec::Av1 => Some("av1_nvenc"),
            VideoCodec::Vp9 => None,
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

    fn scale(&self, (width, height): (u32, u32), memory_format: &str) -> Option<String> {
        Some(format!("scale_cuda={width}:{height}:format={memory_format}:interp_algo=bicubic"))
    }

    fn deinterlace(&self) -> Option<&'static str> {
        Some("yadif_cuda")
    }

    fn tone_map(&self) -> Option<&'static str> {
        None
    }

    fn words(&self, ask: &Ask) -> Words {
        let preset = match ask.speed {
            Speed::Fastest => "p1",
            Speed::Fast => "p3",
            Speed::Medium => "p4",
            Speed::Slow => "p6",
        };
        // Without `forced-idr` a picture asked for as key becomes an I picture, with which no segment can
        // begin; with scene cuts the grid would not be the only place for key pictures.
        let words = Words::default()
            .with("preset", preset)
            .with("forced-idr", 1)
            .with("no-scenecut", 1)
            .with("rc", "vbr");
        let quality = |crf| words.clone().with("cq", constant_quality(ask.codec, crf));
        match ask.rate() {
            Rate::Average(bitrate) => words.average(bitrate),
            Rate::Capped { crf, peak } => quality(crf).peak(peak),
            Rate::Quality(crf) => quality(crf),
        }
    }
}

/// `cq` counts as H.264's quantiser does, 1 to 51.
fn constant_quality(codec: VideoCodec, crf: f32) -> f32 {
    (on_scale_of_51(codec, crf) + 2.0).clamp(1.0, 51.0).round()
}
