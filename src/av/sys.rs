//! The raw bindings in one place: ffmpeg-next's for libav, bindgen's for our shim.

pub use ffmpeg_next::ffi::*;

/// `ffi/shim.h`.
#[allow(non_camel_case_types, dead_code, missing_docs, clippy::all, clippy::undocumented_unsafe_blocks)]
pub mod shim {
    include!(concat!(env!("OUT_DIR"), "/shim.rs"));
}

use crate::base::time::Rational;

/// Ours to libav's. Time bases and rates fit into 32 bits; what does not is given up to 1/90000.
pub fn av_rational(r: Rational) -> AVRational {
    match (i32::try_from(r.num()), i32::try_from(r.den())) {
        (Ok(num), Ok(den)) => AVRational { num, den },
        _ => AVRational { num: 1, den: 90_000 },
    }
}

/// Libav's to ours; `None` for x/0, which libav uses for "unknown".
pub fn rational(r: AVRational) -> Option<Rational> {
    Rational::checked_new(i64::from(r.num), i64::from(r.den))
}
