//! Codec parameters of a stream, detached from the container that told them.

use super::error::AvError;
use super::sys;
use crate::base::time::Rational;
use crate::model::track::{AudioCodec, AudioTrack, Colour, VideoCodec, VideoTrack};
use std::ffi::CStr;

/// A copy of a stream's `AVCodecParameters`.
#[derive(Debug)]
pub struct Parameters(*mut sys::AVCodecParameters);

// SAFETY: plain data owned by self.
unsafe impl Send for Parameters {}
// SAFETY: shared references only read.
unsafe impl Sync for Parameters {}

impl Parameters {
    /// Empty parameters.
    pub(super) fn new() -> Result<Self, AvError> {
        // SAFETY: plain allocation; null is handled.
        let p = unsafe { sys::avcodec_parameters_alloc() };
        if p.is_null() { Err(AvError::NO_MEMORY) } else { Ok(Self(p)) }
    }

    /// A copy.
    pub fn share(&self) -> Result<Self, AvError> {
        let copy = Self::new()?;
        // SAFETY: both valid.
        AvError::check(unsafe { sys::avcodec_parameters_copy(copy.0, self.0) })?;
        Ok(copy)
    }

    /// The parameters that a libav muxer needs for a video track of ours.
    pub fn for_video(track: &VideoTrack) -> Result<Self, AvError> {
        let id = match track.codec {
            VideoCodec::H264 => sys::AVCodecID::AV_CODEC_ID_H264,
            VideoCodec::Hevc => sys::AVCodecID::AV_CODEC_ID_HEVC,
            VideoCodec::Av1 => sys::AVCodecID::AV_CODEC_ID_AV1,
            VideoCodec::Vp9 => sys::AVCodecID::AV_CODEC_ID_VP9,
        };
        let mut params = Self::new()?;
        let p = params.get_mut();
        p.codec_type = sys::AVMediaType::AVMEDIA_TYPE_VIDEO;
        p.codec_id = id;
        p.width = i32::try_from(track.width).unwrap_or(0);
        p.height = i32::try_from(track.height).unwrap_or(0);
        p.sample_aspect_ratio = sys::av_rational(track.sample_aspect_ratio);
        p.profile = track.profile;
        p.level = track.level;
        p.video_delay = i32::try_from(track.reorder_frames).unwrap_or(0);
        // VP9's configuration box is written from this.
        p.format = super::encoder::planar_420(track.bit_depth);
        super::encoder::set_parameters_colour(p, track.colour);
        params.set_extradata(&track.config)?;
        Ok(params)
    }

    /// The parameters that a libav muxer needs for an audio track of ours.
    pub fn for_audio(track: &AudioTrack) -> Result<Self, AvError> {
        let id = match track.codec {
            AudioCodec::Aac => sys::AVCodecID::AV_CODEC_ID_AAC,
            AudioCodec::Ac3 => sys::AVCodecID::AV_CODEC_ID_AC3,
            AudioCodec::Eac3 => sys::AVCodecID::AV_CODEC_ID_EAC3,
            AudioCodec::Opus => sys::AVCodecID::AV_CODEC_ID_OPUS,
            AudioCodec::Mp3 => sys::AVCodecID::AV_CODEC_ID_MP3,
        };
        let clamp = |n: u32| i32::try_from(n).unwrap_or(0);
        let mut params = Self::new()?;
        let p = params.get_mut();
        p.codec_type = sys::AVMediaType::AVMEDIA_TYPE_AUDIO;
        p.codec_id = id;
        p.sample_rate = clamp(track.sample_rate);
        p.frame_size = clamp(track.packet_samples);
        p.initial_padding = clamp(track.priming_samples);
        p.bit_rate = i64::try_from(track.bitrate).unwrap_or(0);
        // SAFETY: initialises the layout in place.
        unsafe { sys::av_channel_layout_default(&mut p.ch_layout, clamp(track.channels)) };
        params.set_extradata(&track.config)?;
        Ok(params)
    }

    fn get_mut(&mut self) -> &mut sys::AVCodecParameters {
        // SAFETY: never null, owned by self alone.
        unsafe { &mut *self.0 }
    }

    fn set_extradata(&mut self, data: &[u8]) -> Result<(), AvError> {
        if data.is_empty() {
            return Ok(());
        }
        let padding = sys::AV_INPUT_BUFFER_PADDING_SIZE as usize;
        let size = i32::try_from(data.len()).map_err(|_| AvError::NO_MEMORY)?;
        // SAFETY: a zeroed block with the padding that libav asks for, owned by the parameters,
        // which free it.
        unsafe {
            let block = sys::av_mallocz(data.len() + padding).cast::<u8>();
            if block.is_null() {
                return Err(AvError::NO_MEMORY);
            }
            std::ptr::copy_nonoverlapping(data.as_ptr(), block, data.len());
            (*self.0).extradata = block;
            (*self.0).extradata_size = size;
        }
        Ok(())
    }

    /// A copy of what `source` points to.
    ///
    /// # Safety
    /// `source` has to be valid.
    pub(super) unsafe fn copy_of(source: *const sys::AVCodecParameters) -> Result<Self, AvError> {
        let p = Self::new()?;
        // SAFETY: both are valid.
        AvError::check(unsafe { sys::avcodec_parameters_copy(p.0, source) })?;
        Ok(p)
    }

    pub(super) fn as_ptr(&self) -> *const sys::AVCodecParameters {
        self.0
    }

    pub(super) fn as_mut_ptr(&mut self) -> *mut sys::AVCodecParameters {
        self.0
    }

    pub(super) fn get(&self) -> &sys::AVCodecParameters {
        // SAFETY: never null, owned by self.
        unsafe { &*self.0 }
    }

    /// Codec name as libav calls it.
    pub fn codec_name(&self) -> String {
        // SAFETY: always a static string.
        unsafe { CStr::from_ptr(sys::avcodec_get_name(self.get().codec_id)) }.to_string_lossy().into_owned()
    }

    /// Whether the linked libav can decode it.
    pub fn is_decodable(&self) -> bool {
        // SAFETY: a look-up.
        unsafe { !sys::avcodec_find_decoder(self.get().codec_id).is_null() }
    }

    /// Codec configuration.
    pub fn extradata(&self) -> &[u8] {
        let p = self.get();
        match usize::try_from(p.extradata_size) {
            // SAFETY: libav keeps that many bytes there.
            Ok(n) if n > 0 && !p.extradata.is_null() => unsafe { std::slice::from_raw_parts(p.extradata, n) },
            _ => &[],
        }
    }

    /// Coded width; 0 for sound.
    pub fn width(&self) -> u32 {
        u32::try_from(self.get().width).unwrap_or(0)
    }

    /// Coded height; 0 for sound.
    pub fn height(&self) -> u32 {
        u32::try_from(self.get().height).unwrap_or(0)
    }

    /// Sample aspect ratio; `None` when unknown.
    pub fn sample_aspect_ratio(&self) -> Option<Rational> {
        sys::rational(self.get().sample_aspect_ratio).filter(|r| r.is_positive())
    }

    /// Samples each second; 0 for pictures.
    pub fn sample_rate(&self) -> u32 {
        u32::try_from(self.get().sample_rate).unwrap_or(0)
    }

    /// Channels; 0 for pictures.
    pub fn channels(&self) -> u32 {
        u32::try_from(self.get().ch_layout.nb_channels).unwrap_or(0)
    }

    /// Samples in each packet where the codec fixes it; 0 otherwise.
    pub fn frame_samples(&self) -> u32 {
        u32::try_from(self.get().frame_size).unwrap_or(0)
    }

    /// Encoder delay in samples.
    pub fn priming_samples(&self) -> u32 {
        u32::try_from(self.get().initial_padding).unwrap_or(0)
    }

    /// Average bit rate where the container says.
    pub fn bitrate_bps(&self) -> Option<u64> {
        u64::try_from(self.get().bit_rate).ok().filter(|b| *b > 0)
    }

    /// Profile number, −99 when unknown.
    pub fn profile(&self) -> i32 {
        self.get().profile
    }

    /// Level number, −99 when unknown.
    pub fn level(&self) -> i32 {
        self.get().level
    }

    /// How many frames the decoder reorders by, as the container or bitstream says.
    pub fn reorder_frames(&self) -> u32 {
        u32::try_from(self.get().video_delay).unwrap_or(0)
    }

    /// Whether the container or bitstream says interlaced.
    pub fn is_interlaced(&self) -> bool {
        use sys::AVFieldOrder::{AV_FIELD_BB, AV_FIELD_BT, AV_FIELD_TB, AV_FIELD_TT};
        matches!(self.get().field_order, AV_FIELD_TT | AV_FIELD_BB | AV_FIELD_TB | AV_FIELD_BT)
    }

    /// Colour description.
    pub fn colour(&self) -> Colour {
        let p = self.get();
        Colour {
            primaries: u8::try_from(p.color_primaries as u32).unwrap_or(2),
            transfer: u8::try_from(p.color_trc as u32).unwrap_or(2),
            matrix: u8::try_from(p.color_space as u32).unwrap_or(2),
            full_range: p.color_range == sys::AVColorRange::AVCOL_RANGE_JPEG,
        }
    }

    /// Pixel format name and bits for each sample; `None` for sound or when unknown.
    pub fn pixel_format(&self) -> Option<(String, u8)> {
        let p = self.get();
        if p.codec_type != sys::AVMediaType::AVMEDIA_TYPE_VIDEO || p.format < 0 {
            return None;
        }
        // SAFETY: the number came from libav for a video stream, so it is one of its pixel formats.
        unsafe {
            let format = std::mem::transmute::<i32, sys::AVPixelFormat>(p.format);
            let descriptor = sys::av_pix_fmt_desc_get(format);
            if descriptor.is_null() {
                return None;
            }
            let name = CStr::from_ptr((*descriptor).name).to_string_lossy().into_owned();
            Some((name, u8::try_from((*descriptor).comp[0].depth).unwrap_or(8)))
        }
    }

    /// Removes the container's codec tag, so that another container can choose its own.
    pub(super) fn clear_tag(&mut self) {
        // SAFETY: valid and owned.
        unsafe { (*self.0).codec_tag = 0 }
    }

    /// Sets the codec tag from four characters.
    pub(super) fn set_tag(&mut self, tag: [u8; 4]) {
        // SAFETY: valid and owned.
        unsafe { (*self.0).codec_tag = u32::from_le_bytes(tag) }
    }
}

impl Drop for Parameters {
    fn drop(&mut self) {
        // SAFETY: allocated by `new`, freed once.
        unsafe { sys::avcodec_parameters_free(&mut self.0) }
    }
}
