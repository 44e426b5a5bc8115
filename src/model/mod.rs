//! The vocabulary: sources, tracks, the timeline, the ladder, playlists. Data and pure functions.
//!
//! Imports `base` only. No I/O, no async, no libav.

pub mod document;
pub mod job;
pub mod ladder;
pub mod node;
pub mod playlist;
pub mod record;
pub mod segment;
pub mod source;
pub mod timeline;
pub mod track;
