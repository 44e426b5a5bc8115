//! What the linked libav has: versions, encoders, filters.

use super::sys;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::ffi::{CStr, CString};
use std::sync::OnceLock;

/// Names of encoders to act as if they were not linked, comma-separated: so that the choice made on
/// Fedora's stock libav can be tested anywhere.
const MASK_VARIABLE: &str = "SPROCKET_MASK_ENCODERS";

fn masked() -> &'static HashSet<String> {
    static MASK: OnceLock<HashSet<String>> = OnceLock::new();
    MASK.get_or_init(|| {
        let list = std::env::var(MASK_VARIABLE).unwrap_or_default();
        list.split(',').map(str::trim).filter(|n| !n.is_empty()).map(str::to_owned).collect()
    })
}

/// Whether the linked libav has this encoder (and it is not masked).
pub fn has_encoder(name: &str) -> bool {
    find_encoder(name).is_some()
}

pub(super) fn find_encoder(name: &str) -> Option<*const sys::AVCodec> {
    if masked().contains(name) {
        return None;
    }
    let name = CString::new(name).ok()?;
    // SAFETY: a look-up by a terminated string.
    let codec = unsafe { sys::avcodec_find_encoder_by_name(name.as_ptr()) };
    (!codec.is_null()).then_some(codec)
}

/// libav's number of a pixel format, by its name.
pub(super) fn pixel_format(name: &str) -> Option<sys::AVPixelFormat> {
    let name = CString::new(name).ok()?;
    // SAFETY: a look-up by a terminated string.
    let format = unsafe { sys::av_get_pix_fmt(name.as_ptr()) };
    (format != sys::AVPixelFormat::AV_PIX_FMT_NONE).then_some(format)
}

/// A codec of pictures that is linked in, as libav describes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Linked {
    /// Its own name: `h264_vaapi`.
    pub name: String,
    /// The format: `h264`.
    pub codec: String,
    /// It encodes; else it decodes.
    pub encodes: bool,
    /// The types of devices that it can decode on, by libav's names.
    pub devices: Vec<String>,
}

/// Every codec of pictures that is linked in (and not masked). That one is linked says nothing of whether
/// it works here.
pub fn linked_codecs() -> Vec<Linked> {
    let mut found = Vec::new();
    let mut at = std::ptr::null_mut();
    loop {
        // SAFETY: iterates over static data.
        let codec = unsafe { sys::av_codec_iterate(&mut at) };
        if codec.is_null() {
            return found;
        }
        // SAFETY: static data with terminated strings.
        let linked = unsafe { describe(codec) };
        found.extend(linked.filter(|linked| !masked().contains(&linked.name)));
    }
}

/// # Safety
/// `codec` has to be one of libav's.
unsafe fn describe(codec: *const sys::AVCodec) -> Option<Linked> {
    // SAFETY: the caller's promise; names are static and terminated.
    unsafe {
        if (*codec).type_ != sys::AVMediaType::AVMEDIA_TYPE_VIDEO {
            return None;
        }
        let name = CStr::from_ptr((*codec).name).to_string_lossy().into_owned();
        let format = CStr::from_ptr(sys::avcodec_get_name((*codec).id)).to_string_lossy().into_owned();
        let encodes = sys::av_codec_is_encoder(codec) != 0;
        Some(Linked { name, codec: format, encodes, devices: devices_of(codec) })
    }
}

/// The devices that a decoder can be given.
///
/// # Safety
/// `codec` has to be one of libav's.
unsafe fn devices_of(codec: *const sys::AVCodec) -> Vec<String> {
    // SAFETY: the caller's promise; names are static and terminated, or null.
    let name = |kind| unsafe {
        let name = sys::av_hwdevice_get_type_name(kind);
        (!name.is_null()).then(|| CStr::from_ptr(name).to_string_lossy().into_owned())
    };
    // SAFETY: the caller's promise.
    unsafe { device_types(codec) }.filter_map(name).collect()
}

/// # Safety
/// `codec` has to be one of libav's.
unsafe fn device_types(codec: *const sys::AVCodec) -> impl Iterator<Item = sys::AVHWDeviceType> {
    // SAFETY: the caller's promise; null ends the list, and what it points to is static.
    let configs = (0..).map_while(move |index| unsafe { sys::avcodec_get_hw_config(codec, index).as_ref() });
    configs.filter(|config| config.methods & METHOD_DEVICE != 0).map(|config| config.device_type)
}

/// The decoder of that format that can decode on a device of that type.
pub(super) fn decoder_on(
    codec_id: sys::AVCodecID,
    device: sys::AVHWDeviceType,
) -> Option<*const sys::AVCodec> {
    let mut at = std::ptr::null_mut();
    loop {
        // SAFETY: iterates over static data.
        unsafe {
            let codec = sys::av_codec_iterate(&mut at);
            if codec.is_null() {
                return None;
            }
            let decodes = (*codec).id == codec_id && sys::av_codec_is_decoder(codec) != 0;
            if decodes && device_types(codec).any(|kind| kind == device) {
                return Some(codec);
            }
        }
    }
}

/// The decoder is given the device and does the rest itself.
const METHOD_DEVICE: i32 = sys::AV_CODEC_HW_CONFIG_METHOD_HW_DEVICE_CTX as i32;

/// Whether the linked libav has this filter.
pub fn has_filter(name: &str) -> bool {
    let Ok(name) = CString::new(name) else { return false };
    // SAFETY: a look-up by a terminated string.
    unsafe { !sys::avfilter_get_by_name(name.as_ptr()).is_null() }
}

/// Libav's versions and licence, for people: `libavcodec 59.37.100 (GPL version 2 or later)`.
pub fn libav_version() -> String {
    // SAFETY: both calls return constants.
    let (version, licence) = unsafe { (sys::avcodec_version(), CStr::from_ptr(sys::avcodec_license())) };
    let (major, minor, micro) = (version >> 16, version >> 8 & 0xff, version & 0xff);
    format!("libavcodec {major}.{minor}.{micro} ({})", licence.to_string_lossy())
}

/// Which build of libav is linked, as far as it tells: every library's version, and how it was configured.
/// Another build may make other bytes of the same source.
pub fn libav_build() -> String {
    // SAFETY: all calls return constants.
    let (versions, configuration) = unsafe {
        let versions =
            [sys::avutil_version(), sys::avcodec_version(), sys::avformat_version(), sys::avfilter_version()];
        (versions, CStr::from_ptr(sys::avcodec_configuration()))
    };
    format!("{versions:?} {}", configuration.to_string_lossy())
}

/// Keeps glibc from giving every codec thread a heap of its own: with a dozen threads that costs some
/// 10 MiB, and frames, the large blocks, are pooled by libav anyway. Call once, before threads start.
pub fn settle_allocator() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: sets a limit inside the allocator; no memory is touched.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 2);
    }
}

/// Hands the memory that glibc keeps for later back to the system: a run frees some 100 MiB of
/// pictures, and between runs a node should not look as if it still used them.
pub fn release_free_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: only unused pages of the heap are given back.
    unsafe {
        libc::malloc_trim(0);
    }
}
