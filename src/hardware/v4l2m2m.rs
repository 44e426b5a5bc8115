//! Codecs of small boards behind Linux' V4L2. They are looked at, so that an operator sees why they do
//! nothing, and never chosen: libav's wrapper forwards no forced key pictures.

use super::backend::{Ask, Backend, Takes, Words};
use crate::model::track::VideoCodec;
use std::path::PathBuf;

/// See the module.
#[derive(Debug)]
pub struct V4l2m2m;

/// Such nodes as boards have.
const NODES: std::ops::Range<u32> = 0..32;

impl Backend for V4l2m2m {
    fn device_type(&self) -> Option<&'static str> {
        None
    }

    fn node_groups(&self) -> Vec<Vec<PathBuf>> {
        vec![NODES.map(|n| format!("/dev/video{n}").into()).collect()]
    }

    fn absent_hint(&self) -> &'static str {
        "this machine has no codec behind V4L2: boards such as the Raspberry Pi do"
    }

    fn encoder(&self, codec: VideoCodec) -> Option<&'static str> {
        match codec {
            VideoCodec::H264 => Some("h264_v4l2m2m"),
            VideoCodec::Hevc => Some("hevc_v4l2m2m"),
            VideoCodec::Av1 | VideoCodec::Vp9 => None,
        }
    }

    fn takes(&self) -> Takes {
        Takes::Memory
    }

    fn memory_format(&self, _: u8) -> &'static str {
        "yuv420p"
    }

    fn upload(&self) -> Option<&'static str> {
        None
    }

    fn scale(&self, _: (u32, u32), _: &str) -> Option<String> {
        None
    }

    fn deinterlace(&self) -> Option<&'static str> {
        None
    }

    fn tone_map(&self) -> Option<&'static str> {
        None
    }

    fn words(&self, ask: &Ask) -> Words {
        // It knows rates only.
        Words::default().average(ask.rate.bitrate_bps.unwrap_or(3_000_000))
    }
}
