//! What every other room stands on: exact time, the error, the abort flag, bytes in pieces, publishing of files.
//!
//! Imports nothing of ours. Knows nothing about media, libav or HTTP.

pub mod cancel;
pub mod error;
pub mod fs;
pub mod pieces;
pub mod priority;
pub mod time;
