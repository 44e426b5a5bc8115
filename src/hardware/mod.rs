//! Devices outside the processor: which there are, what each was seen to do, and how each is spoken to.
//!
//! ```text
//!   prober --(a child of this binary for each trial)--> trial --> av
//!      |
//!      +--> report: every codec on every device, proven or refused with the reason
//! ```
//! What enters: the configuration's wish, what libav links. What leaves: a [`report::Report`] that was seen
//! and not believed, and for each kind of device its words: filters, encoders, options ([`backend`]). What
//! must not live here: jobs, renditions, timelines, and the choice between devices (`media::plan`).

pub mod backend;
pub mod child;
pub mod codec;
pub mod fake;
pub mod guard;
pub mod inventory;
mod listing;
pub mod nodes;
mod nvenc;
mod picture;
pub mod prober;
mod qsv;
mod reasons;
pub mod report;
pub mod shelf;
pub mod trial;
mod v4l2m2m;
mod vaapi;
mod videotoolbox;
mod vulkan;

pub use backend::{Backend, Kind};
