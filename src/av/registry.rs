//! What the linked libav has: versions, encoders, filters.

use super::sys;
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
