//! One pipeline: what a source is, what each stage does, and the stages.
//!
//! Imports `av`, `model`, `container`, `base`. Writes finished segments to `model::segment::SegmentSink`
//! and never knows where they go; no async, no HTTP.

pub mod audio;
pub mod both_sets;
mod bundle;
pub mod codecs;
pub mod copy;
pub mod decode;
pub mod demux;
pub mod describe;
pub mod encode;
pub mod engine;
pub mod filter;
pub mod index;
pub mod inspect;
pub mod items;
pub mod mux;
mod pace;
pub mod pipeline;
pub mod plan;
pub mod progress;
pub mod retime;
mod tracks;
pub mod verify;
pub mod warm;

// What a caller hands to a run or says about it, so that the rooms above need not know `av`.
pub use crate::av::crash;
pub use crate::av::encoder::VideoSettings;
pub use crate::av::log::RunLog;
pub use crate::av::registry::{libav_version, release_free_memory};

use crate::av::registry::libav_build;
use std::hash::Hash;

/// Raised with each change to the bytes that one plan comes to: what lies in a cache, or was made of a job before, is
/// not taken for them.
const BYTES_REVISION: u32 = 2;

/// What makes the bytes: the same source, by the same plan, and by the same of these gives the same.
pub fn made_by() -> impl Hash {
    (env!("CARGO_PKG_VERSION"), BYTES_REVISION, libav_build())
}
