//! Bytes on the wire: what segments, initialisation segments and codec strings are made of.
//!
//! Everything here is pure: tracks and samples enter, bytes or an error leave. This room imports
//! `base` and `model` only. Never in here: libav, files, sockets, clocks, async.

pub mod codecs;
pub mod fmp4;
pub mod nal;
pub mod ts;
