//! Where a decoded piece of sound belongs, to the sample. Pure.
//!
//! Containers round timestamps (Matroska to milliseconds), and a run may begin anywhere, so a
//! piece's place must not depend on the pieces before it: it is snapped to the grid that packets of
//! a fixed size make from the first one on. Only what lies off that grid (after real gaps) is taken
//! as the timestamp says, and small jitter there is smoothed.

use crate::base::time::{Rational, Rounding};

/// Turns timestamps into sample positions counted from title time 0.
#[derive(Clone, Copy, Debug)]
pub struct SourceClock {
    /// Samples each second of the source.
    pub sample_rate: u32,
    /// Seconds each tick.
    pub time_base: Rational,
    /// Title time 0 on the container's clock.
    pub origin: Rational,
    /// The first sample of the stream on the container's clock.
    pub start: Rational,
    /// Samples in each packet; 0 when they vary.
    pub packet_samples: u32,
}

impl SourceClock {
    /// The position of the first sample of a piece with this timestamp.
    pub fn position(&self, ticks: i64) -> i64 {
        let rate = Rational::from_int(i64::from(self.sample_rate));
        let told =
            ((Rational::from_int(ticks) * self.time_base - self.origin) * rate).round(Rounding::Nearest);
        if self.packet_samples == 0 {
            return told;
        }
        let size = i64::from(self.packet_samples);
        let anchor = ((self.start - self.origin) * rate).round(Rounding::Nearest);
        let packets = Rational::new(told - anchor, size).round(Rounding::Nearest);
        let on_grid = anchor + packets * size;
        if (told - on_grid).abs() <= self.tolerance() { on_grid } else { told }
    }

    /// Two ticks' worth of samples: the anchor and the timestamp may each be off by a tick.
    fn tolerance(&self) -> i64 {
        (self.time_base * Rational::from_int(2 * i64::from(self.sample_rate))).round(Rounding::Ceil).max(2)
    }
}

/// What to do with a piece of sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Samples of silence to put in front.
    pub silence: u64,
    /// Samples of the piece to leave out at its beginning.
    pub skip: usize,
}

/// Makes one unbroken line of samples from placed pieces.
#[derive(Clone, Copy, Debug)]
pub struct Splice {
    next: i64,
    begun: bool,
    jitter: i64,
}

impl Splice {
    /// The line begins with sample `start`; steps of less than 3 ms after that are jitter.
    pub fn new(start: i64, sample_rate: u32) -> Self {
        Self { next: start, begun: false, jitter: i64::from(sample_rate) * 3 / 1000 }
    }

    /// The position of the next sample of the line.
    pub fn next_position(&self) -> i64 {
        self.next
    }

    /// Places a piece of `samples` at `position`.
    pub fn place(&mut self, position: i64, samples: usize) -> Placement {
        let length = i64::try_from(samples).unwrap_or(i64::MAX);
        let step = position.saturating_sub(self.next);
        let placement = if self.begun && step.abs() <= self.jitter {
            Placement { silence: 0, skip: 0 }
        } else if step >= 0 {
            Placement { silence: step.unsigned_abs(), skip: 0 }
        } else {
            let skip = (-step).min(length);
            Placement { silence: 0, skip: usize::try_from(skip).unwrap_or(samples) }
        };
        let used = samples - placement.skip;
        self.begun |= used > 0;
        self.next += i64::try_from(placement.silence).unwrap_or(0) + i64::try_from(used).unwrap_or(0);
        placement
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn clock(time_base: Rational, rate: u32, size: u32, start_ticks: i64) -> SourceClock {
        SourceClock {
            sample_rate: rate,
            time_base,
            origin: Rational::ZERO,
            start: Rational::from_int(start_ticks) * time_base,
            packet_samples: size,
        }
    }

    proptest! {
        /// Whatever the container rounds to, packet k stands exactly k packets after the first.
        #[test]
        fn rounded_timestamps_come_back_to_the_grid(
            k in 0i64..400_000,
            offset in 0i64..5_000,
            rate in prop_oneof![Just(48_000u32), Just(44_100), Just(32_000)],
            size in prop_oneof![Just(1024u32), Just(1536), Just(1152), Just(960)],
            tb in prop_oneof![Just(Rational::new(1, 1000)), Just(Rational::TB_90K)],
        ) {
            let seconds = |sample: i64| Rational::new(sample, i64::from(rate));
            let round = |time: Rational| (time / tb).round(Rounding::Nearest);
            let clock = clock(tb, rate, size, round(seconds(offset)));
            let first = clock.position(round(seconds(offset)));
            let kth = clock.position(round(seconds(offset + k * i64::from(size))));
            prop_assert_eq!(kth - first, k * i64::from(size));
        }

        #[test]
        fn the_line_is_unbroken(pieces in prop::collection::vec((-500i64..3000, 1usize..2000), 1..40), start in -2000i64..2000) {
            let mut splice = Splice::new(start, 48_000);
            let (mut at, mut made) = (0i64, start);
            for (step, samples) in pieces {
                at += step;
                let p = splice.place(at, samples);
                prop_assert!(p.skip <= samples);
                made += p.silence as i64 + (samples - p.skip) as i64;
                prop_assert_eq!(splice.next_position(), made);
            }
        }
    }

    #[test]
    fn gaps_are_filled_overlaps_cut_and_jitter_ignored() {
        let mut s = Splice::new(0, 48_000);
        assert_eq!(s.place(-1024, 1024), Placement { silence: 0, skip: 1024 });
        assert_eq!(s.place(-24, 1024), Placement { silence: 0, skip: 24 });
        assert_eq!(s.place(1020, 1024), Placement { silence: 0, skip: 0 }); // 20 samples late: jitter
        assert_eq!(s.place(5000, 1024), Placement { silence: 2976, skip: 0 });
        assert_eq!(s.place(4000, 1024), Placement { silence: 0, skip: 1024 });
    }
}
