//! `AVDictionary`, owned.

use super::sys;
use std::ffi::{CStr, CString};
use std::ptr;

/// Options on their way into libav.
#[derive(Debug)]
pub(super) struct Dictionary(*mut sys::AVDictionary);

impl Dictionary {
    pub(super) fn new() -> Self {
        Self(ptr::null_mut())
    }

    /// Sets one option. Keys and values with a NUL inside cannot be options and are left out.
    pub(super) fn set(&mut self, key: &str, value: &str) {
        if let (Ok(key), Ok(value)) = (CString::new(key), CString::new(value)) {
            // SAFETY: both strings are terminated and copied by libav.
            unsafe { sys::av_dict_set(&mut self.0, key.as_ptr(), value.as_ptr(), 0) };
        }
    }

    /// For libav calls that take options and leave what they did not know.
    pub(super) fn as_mut_ptr(&mut self) -> *mut *mut sys::AVDictionary {
        &mut self.0
    }

    /// The first option that libav did not take.
    pub(super) fn left_over(&self) -> Option<String> {
        // SAFETY: an empty key with IGNORE_SUFFIX walks the dictionary; null means empty.
        unsafe {
            let entry =
                sys::av_dict_get(self.0, c"".as_ptr(), ptr::null(), sys::AV_DICT_IGNORE_SUFFIX as i32);
            (!entry.is_null()).then(|| CStr::from_ptr((*entry).key).to_string_lossy().into_owned())
        }
    }
}

impl Drop for Dictionary {
    fn drop(&mut self) {
        // SAFETY: ours, freed once.
        unsafe { sys::av_dict_free(&mut self.0) }
    }
}

/// # Safety
/// `dict` has to be null or valid.
pub(super) unsafe fn get(dict: *const sys::AVDictionary, key: &CStr) -> Option<String> {
    // SAFETY: the caller's promise; null is an empty dictionary to libav.
    unsafe {
        let entry = sys::av_dict_get(dict, key.as_ptr(), ptr::null(), 0);
        (!entry.is_null()).then(|| CStr::from_ptr((*entry).value).to_string_lossy().into_owned())
    }
}
