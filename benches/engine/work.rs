//! What is asked of both sides, as data: no commands here, so that neither side can get an easier job.

use crate::clip::Clip;
use std::path::Path;

/// Length of a segment that is asked for.
pub const SEGMENT_SECONDS: u64 = 4;
/// Preset of x264.
pub const PRESET: &str = "veryfast";
/// Constant rate factor of x264.
pub const CRF: u32 = 23;
/// Average rate of the sound.
pub const AUDIO_BPS: u32 = 128_000;
/// Channels of the sound.
pub const CHANNELS: u32 = 2;

/// Heights and caps of the ladder; a single rendition is the first of them.
const LADDER: [(&str, u32, u64); 3] =
    [("720p", 720, 1_500_000), ("480p", 480, 800_000), ("360p", 360, 500_000)];

/// One picture size to make.
#[derive(Clone, Debug)]
pub struct Rendition {
    /// Name: the folder that its playlist and segments lie in, on both sides.
    pub name: &'static str,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// The most bits each second it may need, over a buffer of one second.
    pub cap_bps: Option<u64>,
}

/// One transcode to HLS in MPEG-TS segments.
#[derive(Clone, Debug)]
pub struct Work<'a> {
    /// What is read.
    pub clip: &'a Clip,
    /// What is made of it, all from one reading.
    pub renditions: Vec<Rendition>,
}

impl<'a> Work<'a> {
    /// 720p alone.
    pub fn single(clip: &'a Clip) -> Self {
        Self::first(clip, 1, false)
    }

    /// 720p, 480p and 360p.
    pub fn ladder(clip: &'a Clip, capped: bool) -> Self {
        Self::first(clip, LADDER.len(), capped)
    }

    fn first(clip: &'a Clip, count: usize, capped: bool) -> Self {
        let rendition = |&(name, height, cap): &(&'static str, u32, u64)| Rendition {
            name,
            width: nearest_even(u64::from(clip.width) * u64::from(height), u64::from(clip.height)),
            height,
            cap_bps: capped.then_some(cap),
        };
        Self { clip, renditions: LADDER.iter().take(count).map(rendition).collect() }
    }

    /// Frames in a segment, which is also the longest group of pictures.
    pub fn segment_frames(&self) -> u64 {
        let (num, den) = self.clip.rate;
        ((2 * SEGMENT_SECONDS * num + den) / (2 * den)).max(1)
    }

    /// True length of a segment in microseconds, rounded down so that the key frame at its end is
    /// never too early for a muxer that waits for it.
    pub fn segment_us(&self) -> u64 {
        let (num, den) = self.clip.rate;
        self.segment_frames() * den * 1_000_000 / num
    }
}

/// The even number nearest to `num / den`.
fn nearest_even(num: u64, den: u64) -> u32 {
    let pairs = (num + den) / (2 * den.max(1));
    u32::try_from(2 * pairs).unwrap_or(u32::MAX)
}

/// The folder of one rendition below a side's output.
pub fn folder_of(output: &Path, rendition: &Rendition) -> std::path::PathBuf {
    output.join(rendition.name)
}
