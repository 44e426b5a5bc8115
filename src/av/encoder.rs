//! An encoder for pictures or sound.

use super::error::{AvError, Received};
use super::frame::Frame;
use super::log::RunLog;
use super::options::Dictionary;
use super::packet::Packet;
use super::params::Parameters;
use super::registry::{self, pixel_format};
use super::sys;
use crate::base::time::Rational;
use crate::model::track::Colour;
use std::ptr;

/// Everything a picture encoder is opened with.
#[derive(Clone, Debug, PartialEq)]
pub struct VideoSettings {
    /// Libav's name of the encoder.
    pub encoder: String,
    /// Width in luma samples.
    pub width: u32,
    /// Height in luma samples.
    pub height: u32,
    /// Pixel format by libav's name.
    pub pixel_format: String,
    /// Frames each second; the time base is its inverse.
    pub frame_rate: Rational,
    /// Most frames from one key frame to the next.
    pub gop_frames: u64,
    /// Average rate; 0 for constant quality.
    pub bitrate_bps: u64,
    /// Peak rate and buffer; 0 for none.
    pub max_rate_bps: u64,
    /// Size of the rate buffer in bits; 0 for none.
    pub buffer_bits: u64,
    /// Threads; 0 lets the encoder choose.
    pub threads: u32,
    /// Colour description to write into the stream.
    pub colour: Colour,
    /// The encoder's own options, in order.
    pub options: Vec<(String, String)>,
}

/// Everything a sound encoder is opened with. Input is planar float.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AudioSettings {
    /// Libav's name of the encoder.
    pub encoder: String,
    /// Samples each second.
    pub sample_rate: u32,
    /// Channels, in libav's default layout for that number.
    pub channels: u32,
    /// Average rate.
    pub bitrate_bps: u64,
    /// The encoder's own options, in order.
    pub options: Vec<(String, String)>,
}

/// Packets after which libav's AAC encoder has forgotten how it began: two leave an audible difference,
/// eight none up to FFmpeg 7.1. The encoder of the majors since looks back much further: on 9.0 a join
/// after 64 packets is 10 dB worse than the rest, after 96 it is not.
pub const SETTLING_PACKETS: u64 = if sys::LIBAVCODEC_VERSION_MAJOR >= 62 { 96 } else { 8 };

/// An open encoder. Dropping it ends its threads without encoding what they still hold.
#[derive(Debug)]
pub struct Encoder(*mut sys::AVCodecContext);

// SAFETY: used by one thread at a time (`&mut self`).
unsafe impl Send for Encoder {}

/// Why an encoder did not open.
#[derive(Debug)]
pub enum OpenError {
    /// The linked libav does not have it.
    Missing,
    /// The encoder does not know this option.
    UnknownOption(String),
    /// Libav refused.
    Av(AvError),
}

/// Bits of each sample of a pixel format that encoders of ours are given, by its name.
pub fn bit_depth_of(pixel_format: &str) -> u8 {
    if pixel_format.contains("10") { 10 } else { 8 }
}

impl From<AvError> for OpenError {
    fn from(e: AvError) -> Self {
        Self::Av(e)
    }
}

impl Encoder {
    /// Opens a picture encoder. Parameter sets go to the extradata, never into the packets, as far as the
    /// encoder has a say in it.
    pub fn open_video(s: &VideoSettings, log: &RunLog) -> Result<Self, OpenError> {
        Self::open_for(s, None, log)
    }

    /// The same for an encoder on a device that takes pictures which lie there, like this one.
    pub fn open_on_device(s: &VideoSettings, like: &Frame, log: &RunLog) -> Result<Self, OpenError> {
        Self::open_for(s, Some(like), log)
    }

    fn open_for(s: &VideoSettings, on_device: Option<&Frame>, log: &RunLog) -> Result<Self, OpenError> {
        let (encoder, codec) = Self::alloc(&s.encoder, log)?;
        let pixel_format =
            pixel_format(&s.pixel_format).ok_or(OpenError::Av(AvError(sys::AVERROR(libc::EINVAL))))?;
        // SAFETY: the context is valid and not open yet: the time to set fields.
        let context = unsafe { &mut *encoder.0 };
        context.width = clamp(u64::from(s.width));
        context.height = clamp(u64::from(s.height));
        context.pix_fmt = pixel_format;
        context.framerate = sys::av_rational(s.frame_rate);
        context.time_base = sys::av_rational(s.frame_rate.recip());
        context.sample_aspect_ratio = sys::AVRational { num: 1, den: 1 };
        context.gop_size = clamp(s.gop_frames);
        context.bit_rate = i64::try_from(s.bitrate_bps).unwrap_or(i64::MAX);
        context.rc_max_rate = i64::try_from(s.max_rate_bps).unwrap_or(i64::MAX);
        context.rc_buffer_size = clamp(s.buffer_bits);
        context.thread_count = clamp(u64::from(s.threads));
        set_colour(context, s.colour);
        if let Some(like) = on_device {
            set_surfaces(context, like)?;
        }
        encoder.finish_open(codec, &s.options)
    }

    /// Opens a sound encoder.
    pub fn open_audio(s: &AudioSettings, log: &RunLog) -> Result<Self, OpenError> {
        let (encoder, codec) = Self::alloc(&s.encoder, log)?;
        // SAFETY: as above.
        let context = unsafe { &mut *encoder.0 };
        context.sample_rate = clamp(u64::from(s.sample_rate));
        context.time_base = sys::AVRational { num: 1, den: context.sample_rate };
        context.sample_fmt = sample_format(codec);
        context.bit_rate = i64::try_from(s.bitrate_bps).unwrap_or(i64::MAX);
        // SAFETY: initialises the layout in place.
        unsafe { sys::av_channel_layout_default(&mut context.ch_layout, clamp(u64::from(s.channels))) };
        encoder.finish_open(codec, &s.options)
    }

    fn alloc(name: &str, log: &RunLog) -> Result<(Self, *const sys::AVCodec), OpenError> {
        let codec = registry::find_encoder(name).ok_or(OpenError::Missing)?;
        // SAFETY: `codec` is static; null is handled.
        let encoder = Self(unsafe { sys::avcodec_alloc_context3(codec) });
        if encoder.0.is_null() {
            return Err(AvError::NO_MEMORY.into());
        }
        // SAFETY: valid, not open yet.
        unsafe {
            (*encoder.0).opaque = log.opaque();
            (*encoder.0).flags |= sys::AV_CODEC_FLAG_GLOBAL_HEADER as i32;
        }
        Ok((encoder, codec))
    }

    fn finish_open(
        self,
        codec: *const sys::AVCodec,
        options: &[(String, String)],
    ) -> Result<Self, OpenError> {
        let mut dictionary = Dictionary::new();
        for (key, value) in options {
            dictionary.set(key, value);
        }
        // SAFETY: valid context and codec; the dictionary keeps what was not taken.
        AvError::check(unsafe { sys::avcodec_open2(self.0, codec, dictionary.as_mut_ptr()) })?;
        dictionary.left_over().map_or(Ok(self), |option| Err(OpenError::UnknownOption(option)))
    }

    fn get(&self) -> &sys::AVCodecContext {
        // SAFETY: never null after `alloc`.
        unsafe { &*self.0 }
    }

    /// Gives a frame to the encoder; `None` asks for what it still holds.
    /// `NeedsInput` as an answer means that output has to be taken first.
    pub fn send(&mut self, frame: Option<&Frame>) -> Result<Received, AvError> {
        let frame = frame.map_or(ptr::null(), Frame::as_ptr);
        // SAFETY: open context; null is the documented end mark.
        AvError::received(unsafe { sys::avcodec_send_frame(self.0, frame) })
    }

    /// Takes a packet.
    pub fn receive(&mut self, packet: &mut Packet) -> Result<Received, AvError> {
        // SAFETY: open context, valid packet.
        AvError::received(unsafe { sys::avcodec_receive_packet(self.0, packet.as_mut_ptr()) })
    }

    /// The parameters of what comes out, for a muxer.
    pub fn parameters(&self) -> Result<Parameters, AvError> {
        let mut params = Parameters::new()?;
        // SAFETY: both valid.
        AvError::check(unsafe { sys::avcodec_parameters_from_context(params.as_mut_ptr(), self.0) })?;
        Ok(params)
    }

    /// How many frames a decoder of this stream reorders by.
    pub fn reorder_frames(&self) -> u32 {
        u32::try_from(self.get().has_b_frames).unwrap_or(0)
    }

    /// Samples that each frame of sound has to have.
    pub fn frame_samples(&self) -> u32 {
        u32::try_from(self.get().frame_size).unwrap_or(0)
    }

    /// Samples that decode before the first one that was given.
    pub fn priming_samples(&self) -> u32 {
        u32::try_from(self.get().initial_padding).unwrap_or(0)
    }

    /// Name of the sample format that `send` wants.
    pub fn sample_format_name(&self) -> String {
        // SAFETY: libav returns a static string or null for unknown numbers.
        let name = unsafe { sys::av_get_sample_fmt_name(self.get().sample_fmt) };
        // SAFETY: static and terminated when not null.
        if name.is_null() {
            String::new()
        } else {
            // SAFETY: static and terminated.
            unsafe { std::ffi::CStr::from_ptr(name) }.to_string_lossy().into_owned()
        }
    }
}

impl Drop for Encoder {
    fn drop(&mut self) {
        // SAFETY: allocated in `alloc`, freed once; null is fine.
        unsafe { sys::avcodec_free_context(&mut self.0) }
    }
}

/// The first of `wanted` (names, best first) that the encoder takes.
pub fn choose_pixel_format<'a>(encoder: &str, wanted: &[&'a str]) -> Option<&'a str> {
    let codec = registry::find_encoder(encoder)?;
    let mut list = [0i32; 64];
    // SAFETY: the codec is static, the room is told.
    let count = unsafe {
        sys::shim::sprocket_encoder_pixel_formats(codec.cast(), list.as_mut_ptr(), list.len() as i32)
    };
    let list = list.get(..usize::try_from(count).unwrap_or(0).min(list.len())).unwrap_or(&[]);
    wanted.iter().copied().find(|name| {
        pixel_format(name).is_some_and(|format| list.is_empty() || list.contains(&(format as i32)))
    })
}

/// The sample rate nearest to `wanted` that the encoder takes, not below it where possible.
pub fn choose_sample_rate(encoder: &str, wanted: u32) -> Option<u32> {
    let codec = registry::find_encoder(encoder)?;
    let mut list = [0i32; 64];
    // SAFETY: the codec is static, the room is told.
    let count = unsafe {
        sys::shim::sprocket_encoder_sample_rates(codec.cast(), list.as_mut_ptr(), list.len() as i32)
    };
    let list = list.get(..usize::try_from(count).unwrap_or(0).min(list.len())).unwrap_or(&[]);
    let mut rates: Vec<u32> = list.iter().filter_map(|r| u32::try_from(*r).ok()).collect();
    rates.sort_unstable();
    if rates.is_empty() {
        return Some(wanted);
    }
    rates.iter().copied().find(|r| *r >= wanted).or(rates.last().copied())
}

/// The encoder's input lies where this picture does.
fn set_surfaces(context: &mut sys::AVCodecContext, like: &Frame) -> Result<(), AvError> {
    let invalid = AvError(sys::AVERROR(libc::EINVAL));
    let frames = like.get().hw_frames_ctx;
    if frames.is_null() {
        return Err(invalid);
    }
    // SAFETY: a valid reference; the new one is freed with the context. Its description is read only.
    unsafe {
        context.hw_frames_ctx = sys::av_buffer_ref(frames);
        if context.hw_frames_ctx.is_null() {
            return Err(AvError::NO_MEMORY);
        }
        context.pix_fmt = (*(*frames).data.cast::<sys::AVHWFramesContext>()).format;
    }
    Ok(())
}

/// The number of the 4:2:0 format with so many bits.
pub(super) fn planar_420(bit_depth: u8) -> i32 {
    let name = if bit_depth > 8 { "yuv420p10le" } else { "yuv420p" };
    pixel_format(name).map_or(-1, |format| format as i32)
}

/// Planar float where the encoder takes it, else its first choice.
fn sample_format(codec: *const sys::AVCodec) -> sys::AVSampleFormat {
    let mut list = [0i32; 16];
    // SAFETY: the codec is static, the room is told.
    let count = unsafe {
        sys::shim::sprocket_encoder_sample_formats(codec.cast(), list.as_mut_ptr(), list.len() as i32)
    };
    let list = list.get(..usize::try_from(count).unwrap_or(0).min(list.len())).unwrap_or(&[]);
    let planar = sys::AVSampleFormat::AV_SAMPLE_FMT_FLTP;
    match list.first() {
        Some(first) if !list.contains(&(planar as i32)) => {
            // SAFETY: the number came from the encoder's own list of sample formats.
            unsafe { std::mem::transmute::<i32, sys::AVSampleFormat>(*first) }
        }
        _ => planar,
    }
}

type ColourPoints =
    (sys::AVColorPrimaries, sys::AVColorTransferCharacteristic, sys::AVColorSpace, sys::AVColorRange);

fn colour_points(colour: Colour) -> ColourPoints {
    let range = if colour.full_range {
        sys::AVColorRange::AVCOL_RANGE_JPEG
    } else {
        sys::AVColorRange::AVCOL_RANGE_MPEG
    };
    // SAFETY: code points that this libav does not know are replaced by "unspecified" (2) first,
    // so each number is one of the enum's.
    unsafe {
        (
            std::mem::transmute::<u32, sys::AVColorPrimaries>(known_point(colour.primaries, 12)),
            std::mem::transmute::<u32, sys::AVColorTransferCharacteristic>(known_point(colour.transfer, 18)),
            std::mem::transmute::<u32, sys::AVColorSpace>(known_point(colour.matrix, 14)),
            range,
        )
    }
}

fn set_colour(context: &mut sys::AVCodecContext, colour: Colour) {
    (context.color_primaries, context.color_trc, context.colorspace, context.color_range) =
        colour_points(colour);
}

pub(super) fn set_parameters_colour(params: &mut sys::AVCodecParameters, colour: Colour) {
    (params.color_primaries, params.color_trc, params.color_space, params.color_range) =
        colour_points(colour);
}

/// Code points that every libav since 5.1 has; 3 is reserved and the rest unspecified.
fn known_point(point: u8, last: u8) -> u32 {
    if point == 3 || point > last { 2 } else { u32::from(point) }
}

fn clamp(n: u64) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}
