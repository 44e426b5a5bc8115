//! Libav's return codes as values: "not yet", "no more" and failure are three different things.

use super::sys;
use crate::base::error::{Error, ErrorKind, Stage};
use std::ffi::CStr;
use std::fmt;

/// A failure that libav reported: its number, kept so that callers can tell what to do.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct AvError(pub i32);

/// What a codec, graph or demuxer answered when asked for output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// The value was filled in.
    Item,
    /// It needs more input first.
    NeedsInput,
    /// It has put out everything.
    End,
}

impl AvError {
    /// Out of memory.
    pub const NO_MEMORY: Self = Self(sys::AVERROR(libc::ENOMEM));
    /// Our own interrupt or AVIO said stop.
    pub const EXIT: Self = Self(sys::AVERROR_EXIT);

    /// A device is not there, or not any more.
    pub const GONE: Self = Self(sys::AVERROR(libc::ENODEV));

    /// `Ok` with the code when it is not negative.
    pub fn check(code: i32) -> Result<i32, Self> {
        if code < 0 { Err(Self(code)) } else { Ok(code) }
    }

    /// Sorts the answer to a receive call.
    pub fn received(code: i32) -> Result<Received, Self> {
        match code {
            c if c >= 0 => Ok(Received::Item),
            c if c == sys::AVERROR(libc::EAGAIN) => Ok(Received::NeedsInput),
            c if c == sys::AVERROR_EOF => Ok(Received::End),
            c => Err(Self(c)),
        }
    }

    /// Whether the failure is in the data, so that going on with the next packet makes sense.
    pub fn is_bad_data(self) -> bool {
        let Self(code) = self;
        code == sys::AVERROR_INVALIDDATA
            || code == sys::AVERROR(libc::EINVAL)
            || code == sys::AVERROR_PATCHWELCOME
    }

    /// Whether the device is full.
    pub fn is_no_space(self) -> bool {
        self.0 == sys::AVERROR(libc::ENOSPC) || self.0 == sys::AVERROR(libc::EDQUOT)
    }

    /// This as an error of ours: `what` failed at `stage`.
    pub fn at(self, stage: Stage, what: impl fmt::Display) -> Error {
        let (kind, code) = match self {
            Self::EXIT => return Error::cancelled(stage),
            e if e.is_no_space() => (ErrorKind::NoSpace, "no_space"),
            Self::NO_MEMORY => (ErrorKind::Internal, "no_memory"),
            e if e.is_bad_data() && stage != Stage::Encode => (ErrorKind::BadSource, "bad_data"),
            e if e.0 == sys::AVERROR(libc::EIO) => (ErrorKind::Io, "io"),
            _ => (ErrorKind::Internal, "libav"),
        };
        Error::new(kind, code, stage, format!("{what}: {self}"))
    }
}

impl fmt::Display for AvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0 as libc::c_char; 128];
        // SAFETY: the buffer is ours and its true length is passed; libav always terminates it.
        let text = unsafe {
            sys::av_strerror(self.0, text.as_mut_ptr(), text.len());
            CStr::from_ptr(text.as_ptr())
        };
        write!(f, "{}", text.to_string_lossy())
    }
}

impl fmt::Debug for AvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AvError({}: {self})", self.0)
    }
}

impl std::error::Error for AvError {}
