//! Which audio frames share a PES packet.
//!
//! What enters: the audio samples of a segment. What leaves: runs of them. A PES packet costs a header and half a transport packet of stuffing, which a frame of 200
//! bytes alone would not be worth; on the other hand a receiver waits for the whole of it.

use super::{AudioStream, adts, pes, to_90k};
use crate::base::time::{Rational, Rounding};
use crate::model::track::Sample;

const MAX_FRAMES: usize = 6;
/// A tenth of a second.
const MAX_SPAN_90K: i64 = 9_000;
/// Only the first frame of a PES packet has a PTS; the receiver counts on from it. A frame that stands
/// elsewhere than there gets its own. Two roundings to whole milliseconds are let through.
const MAX_DRIFT_90K: u64 = 180;

/// Exact length of a frame on the 90 kHz clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct FrameSpan(Rational);

impl FrameSpan {
    /// `None` when one of the two is not known.
    pub(super) fn new(packet_samples: u32, sample_rate: u32) -> Option<Self> {
        let seconds = Rational::checked_new(i64::from(packet_samples), i64::from(sample_rate))?;
        seconds.is_positive().then(|| Self(seconds * Rational::from_int(90_000)))
    }

    /// Length of `frames` of them.
    fn times(self, frames: usize) -> i64 {
        (self.0 * Rational::from_int(frames as i64)).round(Rounding::Nearest)
    }
}

/// The frames of one PES packet.
#[derive(Clone, Copy, Debug)]
pub(super) struct AudioGroup<'a> {
    pub frames: &'a [Sample],
    /// No frame follows in this segment.
    pub last: bool,
}

/// Iterator over the groups of a segment.
pub(super) struct AudioGroups<'a> {
    stream: Option<&'a AudioStream>,
    rest: &'a [Sample],
}

impl<'a> AudioGroups<'a> {
    /// Without a track each sample is its own group, for the writer to refuse.
    pub(super) fn new(stream: Option<&'a AudioStream>, samples: &'a [Sample]) -> Self {
        Self { stream, rest: samples }
    }

    /// How many of the frames at the front go together.
    fn length(&self) -> usize {
        let Some((stream, frame)) = self.stream.and_then(|s| s.frame.map(|f| (s, f))) else { return 1 };
        let joins = |n: usize| self.follows_on(stream, frame, n);
        let fits = |n: usize| n < MAX_FRAMES && frame.times(n + 1) <= MAX_SPAN_90K;
        let n = (1..self.rest.len()).take_while(|&n| fits(n) && joins(n)).count() + 1;
        // A last frame that would stay alone joins: alone it may be too short to be spread over the
        // packets that the end of a segment takes.
        if n + 1 == self.rest.len() && joins(n) { n + 1 } else { n }
    }

    /// Whether frame `n` stands where a receiver expects it that counts on from frame 0, and has room.
    fn follows_on(&self, stream: &AudioStream, frame: FrameSpan, n: usize) -> bool {
        let (Some(first), Some(next)) = (self.rest.first(), self.rest.get(n)) else { return false };
        let expected = to_90k(first.pts, stream.time_base).saturating_add(frame.times(n));
        let drift = to_90k(next.pts, stream.time_base).saturating_sub(expected);
        let run = self.rest.get(..=n).unwrap_or_default();
        let bytes: usize = run.iter().map(|s| s.data.len() + adts::HEADER_BYTES).sum();
        drift.unsigned_abs() <= MAX_DRIFT_90K && bytes <= pes::MAX_STATED_BYTES
    }
}

impl<'a> Iterator for AudioGroups<'a> {
    type Item = AudioGroup<'a>;

    fn next(&mut self) -> Option<AudioGroup<'a>> {
        self.rest.first()?;
        let (frames, rest) = self.rest.split_at_checked(self.length())?;
        self.rest = rest;
        Some(AudioGroup { frames, last: rest.is_empty() })
    }
}
