//! Codecs of pictures, in memory or on a device, as the stages use them.
//!
//! What enters: pictures, packets. What leaves: the same the other way round, and errors that say who is to
//! blame: a device (`device_failed`), the data, or the encoder. Must not live here: which of them is used.

use crate::av::decoder::Decoder;
use crate::av::encoder::{Encoder, bit_depth_of};
use crate::av::{AvError, Frame, Packet, Parameters, Received};
use crate::base::error::{Result, Stage};
use crate::hardware::backend::Takes;
use crate::hardware::codec::{StationDecoder, StationEncoder, StationGraphs};
use crate::media::filter::Scaling;
use crate::media::plan::OnDevice;

/// A decoder of pictures.
pub enum PictureDecoder {
    /// In memory.
    Here(Decoder),
    /// On a device.
    There(StationDecoder),
}

impl PictureDecoder {
    /// Gives a packet; `None` asks for what is still held. The outer error ends the run, the inner one is damage.
    ///
    /// # Errors
    /// `device_failed`.
    pub fn send(&mut self, packet: Option<&Packet>) -> Result<Result<Received, AvError>> {
        match self {
            Self::Here(decoder) => Ok(decoder.send(packet)),
            Self::There(decoder) => decoder.send(packet),
        }
    }

    /// Takes a picture.
    ///
    /// # Errors
    /// As [`PictureDecoder::send`].
    pub fn receive(&mut self, frame: &mut Frame) -> Result<Result<Received, AvError>> {
        match self {
            Self::Here(decoder) => Ok(decoder.receive(frame)),
            Self::There(decoder) => decoder.receive(frame),
        }
    }

    /// As [`Decoder::skip_unreferenced`].
    ///
    /// # Errors
    /// `device_failed`.
    pub fn skip_unreferenced(&mut self, skip: bool) -> Result<()> {
        match self {
            Self::Here(decoder) => {
                decoder.skip_unreferenced(skip);
                Ok(())
            }
            Self::There(decoder) => decoder.skip_unreferenced(skip),
        }
    }
}

/// An encoder of pictures.
#[derive(Debug)]
pub enum PictureEncoder {
    /// In memory, with its name.
    Here(Encoder, String),
    /// On a device.
    There(StationEncoder),
}

impl PictureEncoder {
    /// Gives a picture; `None` asks for what is still held.
    ///
    /// # Errors
    /// `device_failed`; what the encoder says.
    pub fn send(&mut self, frame: Option<&Frame>) -> Result<Received> {
        match self {
            Self::Here(encoder, name) => encoder.send(frame).map_err(|e| failed(name, e)),
            Self::There(encoder) => encoder.send(frame),
        }
    }

    /// Takes a packet.
    ///
    /// # Errors
    /// As [`PictureEncoder::send`].
    pub fn receive(&mut self, packet: &mut Packet) -> Result<Received> {
        match self {
            Self::Here(encoder, name) => encoder.receive(packet).map_err(|e| failed(name, e)),
            Self::There(encoder) => encoder.receive(packet),
        }
    }

    /// Pictures that it may hold back to reorder them, as it said when it was opened; 0 on a device, where only its
    /// packets tell.
    pub fn reorder_frames(&self) -> u32 {
        match self {
            Self::Here(encoder, _) => encoder.reorder_frames(),
            Self::There(_) => 0,
        }
    }

    /// What a muxer has to know.
    ///
    /// # Errors
    /// As [`PictureEncoder::send`].
    pub fn parameters(&self) -> Result<Parameters> {
        match self {
            Self::Here(encoder, name) => encoder.parameters().map_err(|e| failed(name, e)),
            Self::There(encoder) => encoder.parameters(),
        }
    }
}

fn failed(name: &str, e: AvError) -> crate::base::error::Error {
    e.at(Stage::Encode, format_args!("{name} failed"))
}

/// Filters on a device.
#[derive(Debug)]
pub struct DeviceFilter {
    /// Runs them.
    pub graphs: StationGraphs,
    /// What the device does.
    pub on: OnDevice,
}

/// What comes down from a device, whatever its depth.
const MEMORY_FORMATS: &str = "format=nv12|p010le|yuv420p|yuv420p10le";

impl DeviceFilter {
    /// What has to be done to a picture so that the encoder can take it; `None` where nothing of it concerns the
    /// device.
    pub fn description(&self, on_device: bool, scaling: &Scaling) -> Option<String> {
        description(&self.on, on_device, scaling)
    }
}

fn description(on: &OnDevice, on_device: bool, scaling: &Scaling) -> Option<String> {
    let backend = on.kind.backend();
    let Scaling { width, height, pixel_format } = scaling;
    let memory = backend.memory_format(bit_depth_of(pixel_format));
    let takes = if on.encodes { backend.takes() } else { Takes::Memory };
    let upload = backend.upload().unwrap_or("hwupload");
    let mut steps = Vec::new();
    let mut there = on_device;
    let mut scaled = false;
    if on.scales
        && let Some(scale) = backend.scale((*width, *height), memory)
    {
        if !there {
            steps.extend([format!("format={memory}"), upload.into()]);
        }
        steps.push(scale);
        (there, scaled) = (true, true);
    }
    if there && (!scaled || takes == Takes::Memory) {
        steps.extend(["hwdownload".into(), MEMORY_FORMATS.into()]);
        there = false;
    }
    let has_work = !steps.is_empty() || takes == Takes::Surfaces;
    if has_work && !there {
        if !scaled {
            steps.push(format!("scale={width}:{height}:flags=bicubic"));
        }
        steps.push(format!("format={pixel_format}"));
        if takes == Takes::Surfaces {
            steps.push(upload.into());
        }
    }
    (!steps.is_empty()).then(|| steps.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hardware::Kind;

    fn steps(kind: Kind, (decodes, scales, encodes): (bool, bool, bool), format: &str) -> Option<String> {
        let on = OnDevice { kind, node: None, decodes, scales, encodes };
        description(&on, decodes, &Scaling { width: 640, height: 360, pixel_format: format.into() })
    }

    #[test]
    fn pictures_stay_on_the_device_from_decoder_to_encoder() {
        let vaapi = steps(Kind::Vaapi, (true, true, true), "nv12");
        assert_eq!(vaapi.as_deref(), Some("scale_vaapi=w=640:h=360:format=nv12:mode=hq"));
        let nvenc = steps(Kind::Nvenc, (true, true, true), "p010le").unwrap();
        assert!(!nvenc.contains("hw") && nvenc.contains("format=p010le"), "{nvenc}");
    }

    #[test]
    fn they_go_up_or_down_once_where_the_device_does_a_part() {
        let down = steps(Kind::Nvenc, (true, true, false), "yuv420p").unwrap();
        let wanted = format!(
            "scale_cuda=640:360:format=nv12:interp_algo=bicubic,hwdownload,{MEMORY_FORMATS},format=yuv420p"
        );
        assert_eq!(down, wanted);
        let up = steps(Kind::Vaapi, (false, true, true), "nv12").unwrap();
        assert_eq!(up, "format=nv12,hwupload,scale_vaapi=w=640:h=360:format=nv12:mode=hq");
        let scaled_here = steps(Kind::Vaapi, (false, false, true), "nv12").unwrap();
        assert_eq!(scaled_here, "scale=640:360:flags=bicubic,format=nv12,hwupload");
        let there_and_back = steps(Kind::Vulkan, (false, true, false), "yuv420p").unwrap();
        assert!(there_and_back.starts_with("format=nv12,hwupload,scale_vulkan="), "{there_and_back}");
        assert!(there_and_back.ends_with("format=yuv420p") && there_and_back.contains("hwdownload"));
    }

    #[test]
    fn what_lies_in_memory_and_stays_there_is_no_business_of_the_device() {
        assert_eq!(steps(Kind::Nvenc, (false, false, true), "nv12"), None);
        assert_eq!(steps(Kind::Fake, (false, false, true), "yuv420p"), None);
    }
}
