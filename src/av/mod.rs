//! The one unsafe island: libav as safe, owned Rust values.
//!
//! What enters: paths, options, pictures and packets. What leaves: the same as values that free
//! themselves, and errors that say what to do next. This room (with `ffi/`) is the only one that
//! says `unsafe` or names ffmpeg-next. It knows nothing of renditions, segments or jobs, and it
//! must not: policy lives in `media`.
//!
//! Every owned pointer is created in one constructor and freed in one `Drop`. Types that move
//! between threads say why they may beside their `unsafe impl Send`.
#![allow(unsafe_code)]
// The integer types of libav's constants differ between the versions that we build on.
#![allow(clippy::unnecessary_cast)]

pub mod crash;
pub mod decoder;
pub mod device;
pub mod encoder;
pub mod error;
pub mod frame;
pub mod graph;
pub mod input;
pub mod log;
mod options;
pub mod output;
pub mod packet;
pub mod params;
pub mod reader;
pub mod registry;
mod sys;

pub use error::{AvError, Received};
pub use frame::Frame;
pub use packet::Packet;
pub use params::Parameters;
