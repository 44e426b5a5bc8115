//! What the black-box tests share: clips made in-process, damage done to them, the program under test,
//! and the system's own `ffprobe` and `ffmpeg` as judges.
//!
//! The judges know nothing of this crate: a test asks the program for a file and them what is in it.

// Every test binary compiles all of this and uses a part.
#![allow(dead_code)]

pub mod clips;
pub mod conformance;
pub mod damage;
pub mod fmp4;
pub mod hls;
pub mod node;
pub mod probe;
pub mod run;

use run::skip;
use std::path::PathBuf;

/// An H.264 encoder that the program may use: it is linked and `SPROCKET_MASK_ENCODERS` leaves it.
pub fn h264_encoder() -> Option<&'static str> {
    ["libx264", "libopenh264"].into_iter().find(|name| usable(name))
}

/// Whether an encoder is linked and not masked for the program.
pub fn usable(encoder: &str) -> bool {
    let mask = std::env::var("SPROCKET_MASK_ENCODERS").unwrap_or_default();
    clips::has_encoder(encoder) && !mask.split(',').any(|masked| masked.trim() == encoder)
}

/// Options for a quick picture encode that MPEG-TS can carry: H.264. `None` (and a line that says so)
/// where no encoder may be used; that case has tests of its own.
pub fn quick_for_ts() -> Option<&'static [&'static str]> {
    match h264_encoder() {
        // The quickest preset that still makes B-frames.
        Some("libx264") => Some(&["--video-codec", "h264", "--preset", "superfast"]),
        Some(_) => Some(&["--video-codec", "h264"]),
        None => {
            skip("no H.264 encoder to be used here, and MPEG-TS carries nothing else that is left");
            None
        }
    }
}

/// Options for a quick picture encode for fragmented MP4: H.264, else VP9.
pub fn quick_for_fmp4() -> Option<&'static [&'static str]> {
    if h264_encoder().is_some() {
        return quick_for_ts();
    }
    if usable("libvpx-vp9") {
        return Some(&["--video-codec", "vp9"]);
    }
    skip("neither H.264 nor VP9 can be encoded here");
    None
}

/// The segment container of an HLS output, and how to ask for it quickly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Segments {
    /// MPEG-TS.
    Ts,
    /// Fragmented MP4.
    Fmp4,
}

impl Segments {
    /// Command line options: the container, and the quickest encode for it.
    pub fn options(self) -> Option<Vec<&'static str>> {
        let (name, quick) = match self {
            Self::Ts => ("ts", quick_for_ts()?),
            Self::Fmp4 => ("fmp4", quick_for_fmp4()?),
        };
        Some([&["--format", "hls", "--segment-type", name], quick].concat())
    }
}

/// The usual source: 8 s of 160x90 at 25 with B-frames and a key frame every 2 s, AAC in stereo.
pub fn ordinary(name: &str) -> Option<PathBuf> {
    clips::Clip::new().video(clips::h264().bframes(2)).audio(clips::audio("aac")).make(name)
}
