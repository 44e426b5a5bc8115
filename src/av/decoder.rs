//! A decoder, in memory or on a device.

use super::device::Device;
use super::error::{AvError, Received};
use super::frame::Frame;
use super::log::RunLog;
use super::options::Dictionary;
use super::packet::Packet;
use super::params::Parameters;
use super::registry;
use super::sys;
use crate::base::time::Rational;
use std::ptr;

/// Decoded pictures that the stages behind the decoder hold at once: the queues and what is being scaled. Devices
/// make them all before the first, and NVDEC makes 32 at most, of which a stream may need 23 itself.
const HELD_SURFACES: i32 = 8;

/// An open decoder. Dropping it ends its threads without decoding what they still hold.
#[derive(Debug)]
pub struct Decoder(*mut sys::AVCodecContext);

// SAFETY: used by one thread at a time (`&mut self`).
unsafe impl Send for Decoder {}

impl Decoder {
    /// Opens the decoder that libav prefers for `params`. `threads` is for pictures; 0 lets libav
    /// choose. `None` when this libav has no such decoder.
    pub fn open(
        params: &Parameters,
        time_base: Rational,
        threads: u32,
        log: &RunLog,
    ) -> Result<Option<Self>, AvError> {
        // SAFETY: a look-up by number.
        let codec = unsafe { sys::avcodec_find_decoder(params.get().codec_id) };
        Self::open_as(codec, params, time_base, (threads, None), log)
    }

    /// Opens a decoder that decodes on `device`. Its pictures lie there, or in memory where the device turns
    /// out not to know this kind of stream: [`Frame::is_on_device`] tells. `None` when this libav has none.
    pub fn open_on(
        device: &Device,
        params: &Parameters,
        time_base: Rational,
        log: &RunLog,
    ) -> Result<Option<Self>, AvError> {
        let codec = registry::decoder_on(params.get().codec_id, device.type_number());
        // One thread: the device does the work, and each more would hold surfaces.
        Self::open_as(codec.unwrap_or(ptr::null()), params, time_base, (1, Some(device)), log)
    }

    fn open_as(
        codec: *const sys::AVCodec,
        params: &Parameters,
        time_base: Rational,
        (threads, device): (u32, Option<&Device>),
        log: &RunLog,
    ) -> Result<Option<Self>, AvError> {
        if codec.is_null() {
            return Ok(None);
        }
        // SAFETY: the context is owned by `decoder` from its allocation on, so every early return
        // frees it; `params` is valid, and the codec one of libav's.
        unsafe {
            let decoder = Self(sys::avcodec_alloc_context3(codec));
            if decoder.0.is_null() {
                return Err(AvError::NO_MEMORY);
            }
            AvError::check(sys::avcodec_parameters_to_context(decoder.0, params.as_ptr()))?;
            let context = &mut *decoder.0;
            context.opaque = log.opaque();
            context.pkt_timebase = sys::av_rational(time_base);
            context.max_pixels = super::input::MAX_PIXELS;
            context.thread_count = i32::try_from(threads).unwrap_or(0);
            if let Some(device) = device {
                context.hw_device_ctx = device.give()?;
                context.extra_hw_frames = HELD_SURFACES;
            }
            let mut options = Dictionary::new();
            AvError::check(sys::avcodec_open2(decoder.0, codec, options.as_mut_ptr()))?;
            Ok(Some(decoder))
        }
    }

    /// Gives a packet to the decoder; `None` asks for what it still holds.
    /// `NeedsInput` as an answer means that output has to be taken first.
    pub fn send(&mut self, packet: Option<&Packet>) -> Result<Received, AvError> {
        let packet = packet.map_or(ptr::null(), Packet::as_ptr);
        // SAFETY: open context; null is the documented end mark.
        AvError::received(unsafe { sys::avcodec_send_packet(self.0, packet) })
    }

    /// Takes a frame.
    pub fn receive(&mut self, frame: &mut Frame) -> Result<Received, AvError> {
        // SAFETY: open context, valid frame.
        AvError::received(unsafe { sys::avcodec_receive_frame(self.0, frame.as_mut_ptr()) })
    }

    /// Whether the packets from now on are decoded only as far as others refer to them. Nothing for codecs
    /// whose packets do not tell that for certain: a sub-layer non-reference picture of HEVC (7.4.2.2) may
    /// be referred to by pictures of higher layers.
    pub fn skip_unreferenced(&mut self, skip: bool) {
        // SAFETY: open context.
        let context = unsafe { &mut *self.0 };
        let tells = matches!(
            context.codec_id,
            sys::AVCodecID::AV_CODEC_ID_H264
                | sys::AVCodecID::AV_CODEC_ID_MPEG2VIDEO
                | sys::AVCodecID::AV_CODEC_ID_MPEG4
        );
        let discard =
            if skip && tells { sys::AVDiscard::AVDISCARD_NONREF } else { sys::AVDiscard::AVDISCARD_DEFAULT };
        // Read for each packet that is sent.
        context.skip_frame = discard;
    }
}

impl Drop for Decoder {
    fn drop(&mut self) {
        // SAFETY: allocated in `open`, freed once; null is fine.
        unsafe { sys::avcodec_free_context(&mut self.0) }
    }
}
