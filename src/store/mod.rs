//! Where outputs go: a folder of HLS or one file, there whole or not at all.
//!
//! What enters: finished segments ([`hls_dir`]) or the path of a finished file ([`output`]), and
//! whether something that is there may be replaced. What leaves: the output under its final name,
//! synced as `docs/DURABILITY.md` says, or nothing. Imports `model` and `base`; knows nothing of
//! codecs, containers or how what it stores was made.

pub mod cache;
pub mod claim;
pub mod hls_dir;
mod log;
pub mod output;
mod place;
mod sync;
