//! The one timeline: which frames and audio packets segment N holds, and when they stand.
//!
//! What enters: the frame rate of the output, the wished segment length, how long the source is.
//! What leaves: frame numbers, packet numbers, instants. Key-frame forcing, muxer cuts, playlists,
//! progress and windows all ask here and nowhere else, so a whole job and a single segment made on
//! demand agree on every cut. Integers and rationals only; no running state, no floating point, no
//! libav.
//!
//! ```text
//!   title time 0
//!   | frame 0 | frame 1 | ... | frame F-1 || frame F | ...            the frame grid
//!   |<------------ segment 0 ------------>||<--- segment 1 ...        whole frames each
//! |p0|p1|p2|p3| ...                     |pk||pk+1| ...                the audio grid
//!    packet p starts at p*S - priming samples; it belongs to the segment in which it starts,
//!    and what starts before title time 0 (encoder delay) belongs to segment 0
//! ```

use crate::base::time::{Rational, Rounding, rescale};
use std::ops::Range;

mod rates;
pub use rates::{MAX_GRID_RATE, grid_rate, snap_rate};

/// A tail shorter than this (half a second) is not worth a segment of its own: players stumble over
/// segments with a frame or two, and such a tail may start no audio packet at all.
const MIN_TAIL: Rational = Rational::new(1, 2);

/// The cuts of a title. See the module's header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeline {
    frame_rate: Rational,
    total_frames: u64,
    cuts: Cuts,
}

/// Where segments begin.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Cuts {
    /// Every so many frames: everything that we encode.
    Every(u64),
    /// At these frames, rising, the first one 0: irregular but on the grid.
    At(Vec<u64>),
}

/// The grid of an encoded audio track: packet `p` starts at sample `p * packet − priming`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AudioGrid {
    /// Samples each second.
    pub sample_rate: u32,
    /// Samples in each packet.
    pub packet_samples: u32,
    /// Encoder delay: samples that decode before title time 0.
    pub priming_samples: u32,
}

/// What part of a title a run makes: whole segments, `first..end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// First segment.
    pub first: u64,
    /// One past the last segment; `None` runs to where the data ends.
    pub end: Option<u64>,
}

impl Window {
    /// The whole title, to where its data ends.
    pub const ALL: Self = Self { first: 0, end: None };

    /// Segments `range`.
    pub fn segments(range: Range<u64>) -> Self {
        Self { first: range.start, end: Some(range.end) }
    }
}

impl Timeline {
    /// The timeline of an encode: `total` seconds on a grid of `frame_rate`, cut every
    /// `segment_seconds` rounded to whole frames (at least one). The title has at least one frame.
    pub fn new(frame_rate: Rational, total: Rational, segment_seconds: Rational) -> Self {
        let per_segment = (segment_seconds * frame_rate).round(Rounding::Nearest).max(1);
        let total_frames = (total * frame_rate).round(Rounding::Nearest).max(1);
        Self { frame_rate, total_frames: total_frames as u64, cuts: Cuts::Every(per_segment as u64) }
    }

    /// A timeline whose segments begin at the given frames: those of a source that is copied and
    /// has its own key frames. Frames that do not rise, or lie beyond the end, are left out.
    pub fn with_cuts(frame_rate: Rational, total_frames: u64, starts: impl IntoIterator<Item = u64>) -> Self {
        let mut cuts = vec![0];
        for start in starts {
            if start > *cuts.last().unwrap_or(&0) && start < total_frames {
                cuts.push(start);
            }
        }
        Self { frame_rate, total_frames: total_frames.max(1), cuts: Cuts::At(cuts) }
    }

    /// A timeline cut at a source's key frames (grid positions, in any order), merged towards
    /// `target`: a segment ends at the key frame that brings it nearest to the target length.
    pub fn merging(
        frame_rate: Rational,
        total: u64,
        keys: impl IntoIterator<Item = u64>,
        target: u64,
    ) -> Self {
        let mut keys: Vec<u64> = keys.into_iter().filter(|k| *k > 0 && *k < total).collect();
        keys.sort_unstable();
        let (mut starts, mut start) = (Vec::new(), 0);
        for (i, key) in keys.iter().enumerate() {
            let length = key - start;
            let next = keys.get(i + 1).copied().unwrap_or(total) - start;
            if length >= target || next.abs_diff(target) > length.abs_diff(target) {
                starts.push(*key);
                start = *key;
            }
        }
        // A tail that would make no sense as a segment joins its neighbour here as well.
        let short = Rational::from_int(clamp_i64(total - start)) / frame_rate < MIN_TAIL;
        if short {
            starts.pop();
        }
        Self::with_cuts(frame_rate, total, starts)
    }

    /// The same cuts for a title of another length: a source may end before its header says.
    #[must_use]
    pub fn with_total_frames(&self, total_frames: u64) -> Self {
        Self { total_frames: total_frames.max(1), ..self.clone() }
    }

    /// Where segment `n` begins in a title that may go on beyond its planned end: a run learns the end
    /// only when it is there. On a regular grid the cuts go on behind the planned ones.
    pub fn open_start(&self, n: u64) -> u64 {
        let count = self.segment_count();
        match &self.cuts {
            Cuts::Every(per) if n >= count => {
                self.total_frames.div_ceil(*per).saturating_add(n - count).saturating_mul(*per)
            }
            _ => self.segment_start(n),
        }
    }

    /// Whether a segment begins with frame `n` of such a title: [`Timeline::open_start`] the other way round.
    pub fn begins_segment(&self, n: u64) -> bool {
        match &self.cuts {
            Cuts::Every(per) if n >= self.total_frames => n.is_multiple_of(*per),
            _ => self.starts_segment(n),
        }
    }

    /// The cuts that a run makes which planned this timeline and found the title's end at `end`: a tail
    /// that turns out short has a segment of its own by then.
    #[must_use]
    pub fn ending_at(&self, end: u64) -> Self {
        let end = end.max(1);
        let regular = self.with_total_frames(end);
        if matches!(self.cuts, Cuts::At(_)) {
            return regular;
        }
        let starts: Vec<u64> = (0..).map(|n| self.open_start(n)).take_while(|start| *start < end).collect();
        let is_regular = starts.len() as u64 == regular.segment_count()
            && (0..).zip(&starts).all(|(n, start)| regular.segment_start(n) == *start);
        if is_regular { regular } else { Self::with_cuts(self.frame_rate, end, starts) }
    }

    /// Frames each second.
    pub fn frame_rate(&self) -> Rational {
        self.frame_rate
    }

    /// Seconds each frame; the time base of frame numbers.
    pub fn frame_duration(&self) -> Rational {
        self.frame_rate.recip()
    }

    /// Frames in the title.
    pub fn total_frames(&self) -> u64 {
        self.total_frames
    }

    /// Seconds in the title, exact.
    pub fn duration(&self) -> Rational {
        self.frame_time(self.total_frames)
    }

    /// When frame `n` is shown, in seconds.
    pub fn frame_time(&self, n: u64) -> Rational {
        Rational::from_int(clamp_i64(n)) * self.frame_duration()
    }

    /// The frame slot nearest to an instant. Negative before title time 0.
    pub fn slot_at(&self, ticks: i64, time_base: Rational) -> i64 {
        rescale(ticks, time_base, self.frame_duration(), Rounding::Nearest)
    }

    /// The frame slot nearest to a title time in seconds. Negative before title time 0.
    pub fn slot_at_time(&self, time: Rational) -> i64 {
        (time * self.frame_rate).round(Rounding::Nearest)
    }

    /// The most frames that a segment holds, but for a tail that joins the last one.
    pub fn frames_per_segment(&self) -> u64 {
        match &self.cuts {
            Cuts::Every(n) => *n,
            Cuts::At(cuts) => {
                let ends = cuts.iter().skip(1).chain(std::iter::once(&self.total_frames));
                cuts.iter().zip(ends).map(|(a, b)| b.saturating_sub(*a)).max().unwrap_or(1).max(1)
            }
        }
    }

    /// How many segments the title has; at least one.
    pub fn segment_count(&self) -> u64 {
        match &self.cuts {
            Cuts::Every(n) => {
                let whole = self.total_frames / n;
                let tail = self.total_frames % n;
                let tail_counts = tail > 0 && self.frame_time(tail) >= MIN_TAIL.min(self.frame_time(*n));
                (whole + u64::from(tail_counts)).max(1)
            }
            Cuts::At(cuts) => cuts.partition_point(|&c| c < self.total_frames).max(1) as u64,
        }
    }

    /// The first frame of segment `n`; for `n` at or past the end, the number of frames.
    pub fn segment_start(&self, n: u64) -> u64 {
        if n >= self.segment_count() {
            return self.total_frames;
        }
        match &self.cuts {
            Cuts::Every(per) => n * per,
            Cuts::At(cuts) => cuts.get(n as usize).copied().unwrap_or(self.total_frames),
        }
    }

    /// The frames of segment `n`. The last segment also takes a tail too short for one of its own.
    pub fn frames(&self, n: u64) -> Range<u64> {
        self.segment_start(n)..self.segment_start(n + 1)
    }

    /// Whether a segment begins with frame `n`: there the encoder has to make an IDR picture.
    pub fn starts_segment(&self, frame: u64) -> bool {
        self.segment_start(self.segment_of(frame)) == frame && frame < self.total_frames
    }

    /// The segment that holds frame `n`; frames past the end count to the last one.
    pub fn segment_of(&self, frame: u64) -> u64 {
        let index = match &self.cuts {
            Cuts::Every(per) => frame / per,
            Cuts::At(cuts) => cuts.partition_point(|&c| c <= frame).saturating_sub(1) as u64,
        };
        index.min(self.segment_count() - 1)
    }

    /// When segment `n` begins, in seconds.
    pub fn segment_time(&self, n: u64) -> Rational {
        self.frame_time(self.segment_start(n))
    }

    /// How long segment `n` is, in seconds.
    pub fn segment_duration(&self, n: u64) -> Rational {
        self.segment_time(n + 1) - self.segment_time(n)
    }

    /// The window's segments with its end made definite.
    pub fn segments_of(&self, window: Window) -> Range<u64> {
        let count = self.segment_count();
        let end = window.end.unwrap_or(count).min(count);
        window.first.min(end)..end
    }

    /// The audio packets of segment `n`. Every packet of the title is in exactly one segment.
    pub fn packets(&self, grid: &AudioGrid, n: u64) -> Range<u64> {
        let last = n + 1 >= self.segment_count();
        let first = if n == 0 { 0 } else { grid.first_packet_at(self.segment_time(n)) };
        let end = if last {
            grid.packet_count(self.duration())
        } else {
            grid.first_packet_at(self.segment_time(n + 1))
        };
        first.min(end)..end
    }
}

impl AudioGrid {
    /// The sample at which packet `p` starts, counted from title time 0; negative for priming.
    pub fn packet_pts(&self, p: u64) -> i64 {
        clamp_i64(p.saturating_mul(u64::from(self.packet_samples))) - i64::from(self.priming_samples)
    }

    /// The first packet that starts at or after `time`.
    pub fn first_packet_at(&self, time: Rational) -> u64 {
        let sample = (time * self.rate()).round(Rounding::Ceil) + i64::from(self.priming_samples);
        let size = i64::from(self.packet_samples.max(1));
        Rational::new(sample.max(0), size).round(Rounding::Ceil).max(0) as u64
    }

    /// How many samples a title of `duration` has.
    pub fn sample_count(&self, duration: Rational) -> u64 {
        (duration * self.rate()).round(Rounding::Nearest).max(0) as u64
    }

    /// How many packets it takes for a decoder to put out every sample of a title of `duration`:
    /// the encoder delay comes on top.
    pub fn packet_count(&self, duration: Rational) -> u64 {
        let samples = self.sample_count(duration) + u64::from(self.priming_samples);
        samples.div_ceil(u64::from(self.packet_samples.max(1)))
    }

    /// Seconds each sample.
    pub fn time_base(&self) -> Rational {
        self.rate().recip()
    }

    fn rate(&self) -> Rational {
        Rational::from_int(i64::from(self.sample_rate.max(1)))
    }
}

fn clamp_i64(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
