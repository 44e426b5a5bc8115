//! Devices that decode, scale and encode outside the processor, and pictures that lie on them.
//!
//! A [`Device`] is opened by libav's name of its type; pictures get to it through a filter graph that has
//! it (`Graph::video_on`) and back through one too, or by [`Frame::download`]. Every call may end in a driver, and so may hang or end the process: who
//! cannot bear that makes it in another thread or process (`hardware`).

use super::error::AvError;
use super::frame::Frame;
use super::log::RunLog;
use super::sys;
use std::ffi::{CStr, CString};
use std::ptr;

/// An open device. [`Device::share`] gives a second hold on it.
#[derive(Debug)]
pub struct Device {
    context: Reference,
    kind: String,
}

/// A counted reference of libav's.
#[derive(Debug)]
struct Reference(*mut sys::AVBufferRef);

// SAFETY: the count is atomic, and libav's device and frames contexts may be used from any thread.
unsafe impl Send for Reference {}
// SAFETY: shared references only take further references.
unsafe impl Sync for Reference {}

impl Reference {
    fn share(&self) -> Result<Self, AvError> {
        self.give().map(Self)
    }

    /// A new reference for a context of libav's, which frees it.
    fn give(&self) -> Result<*mut sys::AVBufferRef, AvError> {
        // SAFETY: valid as long as self is; null is handled.
        let other = unsafe { sys::av_buffer_ref(self.0) };
        if other.is_null() { Err(AvError::NO_MEMORY) } else { Ok(other) }
    }
}

impl Drop for Reference {
    fn drop(&mut self) {
        // SAFETY: ours, released once; null is fine.
        unsafe { sys::av_buffer_unref(&mut self.0) }
    }
}

impl Device {
    /// Opens a device of the type that libav calls `kind` (`vaapi`, `cuda`, `vulkan` and so on); `node` says
    /// which, in that type's words, and the first without it. What libav says meanwhile goes to `log`.
    ///
    /// # Errors
    /// libav's code. `ENOSYS` when it does not know the type.
    pub fn open(kind: &str, node: Option<&str>, log: &RunLog) -> Result<Self, AvError> {
        let invalid = |_| AvError(sys::AVERROR(libc::EINVAL));
        let name = CString::new(kind).map_err(invalid)?;
        let node = node.map(CString::new).transpose().map_err(invalid)?;
        log.enter_thread();
        let mut context = Reference(ptr::null_mut());
        // SAFETY: terminated strings; null for "the first"; the reference is ours whatever comes back.
        unsafe {
            let kind = sys::av_hwdevice_find_type_by_name(name.as_ptr());
            if kind == sys::AVHWDeviceType::AV_HWDEVICE_TYPE_NONE {
                return Err(AvError(sys::AVERROR(libc::ENOSYS)));
            }
            let node = node.as_ref().map_or(ptr::null(), |node| node.as_ptr());
            AvError::check(sys::av_hwdevice_ctx_create(&mut context.0, kind, node, ptr::null_mut(), 0))?;
        }
        Ok(Self { context, kind: kind.to_owned() })
    }

    /// A second hold on it.
    ///
    /// # Errors
    /// Out of memory.
    pub fn share(&self) -> Result<Self, AvError> {
        Ok(Self { context: self.context.share()?, kind: self.kind.clone() })
    }

    pub(super) fn give(&self) -> Result<*mut sys::AVBufferRef, AvError> {
        self.context.give()
    }

    pub(super) fn type_number(&self) -> sys::AVHWDeviceType {
        CString::new(self.kind.as_str()).map_or(sys::AVHWDeviceType::AV_HWDEVICE_TYPE_NONE, |name| {
            // SAFETY: a look-up by a terminated string.
            unsafe { sys::av_hwdevice_find_type_by_name(name.as_ptr()) }
        })
    }
}

impl Frame {
    /// Whether it lies on a device.
    pub fn is_on_device(&self) -> bool {
        !self.get().hw_frames_ctx.is_null()
    }

    /// The picture in memory, in the format that the device gives first, with the same times and properties.
    ///
    /// # Errors
    /// libav's code: it lies in memory already, or the device is gone.
    pub fn download(&self) -> Result<Self, AvError> {
        let mut frame = Self::new()?;
        // SAFETY: valid frames; the new one is empty, so that libav chooses format and buffers.
        unsafe {
            AvError::check(sys::av_hwframe_transfer_data(frame.as_mut_ptr(), self.as_ptr(), 0))?;
            AvError::check(sys::av_frame_copy_props(frame.as_mut_ptr(), self.as_ptr()))?;
        }
        Ok(frame)
    }

    /// Which room on a device it lies in; 0 for memory.
    pub(super) fn surfaces_id(&self) -> usize {
        let frames = self.get().hw_frames_ctx;
        // SAFETY: a valid reference when it is not null; only the address is looked at.
        if frames.is_null() { 0 } else { unsafe { (*frames).data.addr() } }
    }
}

/// The types of devices that the linked libav knows, by its names. None of them need be there.
pub fn kinds() -> Vec<String> {
    let mut kinds = Vec::new();
    let mut kind = sys::AVHWDeviceType::AV_HWDEVICE_TYPE_NONE;
    loop {
        // SAFETY: iterates over static data; the names are static and terminated.
        let name = unsafe {
            kind = sys::av_hwdevice_iterate_types(kind);
            if kind == sys::AVHWDeviceType::AV_HWDEVICE_TYPE_NONE {
                return kinds;
            }
            sys::av_hwdevice_get_type_name(kind)
        };
        if !name.is_null() {
            // SAFETY: as above.
            kinds.push(unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_that_there_is_not_is_refused_and_not_guessed() {
        let log = RunLog::new();
        assert_eq!(Device::open("abacus", None, &log).unwrap_err(), AvError(sys::AVERROR(libc::ENOSYS)));
        assert!(Device::open("va\0api", None, &log).is_err());
        assert!(!kinds().iter().any(|kind| kind == "abacus"));
    }
}
