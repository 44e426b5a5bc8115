//! The frame rate, from the times of frames: pure arithmetic.
//!
//! What enters: ticks as they stand in a file, rounded, out of order, with holes. What leaves: the
//! rate that was meant, and whether it is constant.

use super::scan::{Seen, from_first_key};
use super::span::MS_SLACK;
use crate::base::time::{Rational, Rounding};
use crate::model::timeline::snap_rate;

/// Frames at the end of a sample that may still lack some that are shown before them: H.264 and HEVC
/// reorder by 16 at most (ITU-T H.264 §A.3.1, `MaxDpbFrames`).
const MAX_REORDER: usize = 16;
/// One distance in this many may be odd (a dropped frame, a splice) at a constant rate.
const ODD_ONE_IN: usize = 50;
/// How well the container's average has to agree with the sample to be preferred: 0.2 %.
const AGREEMENT: Rational = Rational::new(2, 1000);
/// A sample this exact tells 24 from 24000/1001 by itself: 0.03 %.
const PRECISE: Rational = Rational::new(3, 10_000);
/// Parts into which a sample is divided to see whether its rate drifts.
const PARTS: usize = 4;
/// Rates beyond this are a container's time base, not its frame rate.
const MAX_RATE: Rational = Rational::from_int(1000);
/// What a video that tells nothing is taken for.
const USUAL_RATE: Rational = Rational::from_int(25);

/// A frame rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RateEstimate {
    /// Frames each second.
    pub rate: Rational,
    /// All frames last equally long, but for rounding.
    pub constant: bool,
}

/// What the container tells of the rate.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Told {
    /// Frames each second on average.
    pub average: Option<Rational>,
    /// The slowest rate at which every frame stands on a tick. Of a variable rate that is some large
    /// common multiple, so it counts only where there are no times to go by.
    pub finest: Option<Rational>,
}

/// The times of the frames of a sample, rising, fit for [`estimate`].
///
/// Presentation times where every packet has one. Else one for each pair, if these are pairs of fields
/// of interlaced pictures; else decode times (AVI has nothing else); else running sums of lengths.
/// `whole`: the sample is all that the file has.
pub(super) fn times(seen: &[Seen], interlaced: bool, whole: bool) -> Vec<i64> {
    let seen = from_first_key(seen);
    let all = |get: fn(&Seen) -> Option<i64>| seen.iter().map(get).collect::<Option<Vec<i64>>>();
    let mut times = if let Some(pts) = all(|s| s.pts) {
        without_unfinished(pts, whole)
    } else if interlaced && is_field_pairs(seen) {
        without_unfinished(seen.iter().filter_map(|s| s.pts).collect(), whole)
    } else if let Some(dts) = all(|s| s.dts) {
        dts
    } else if seen.iter().all(|s| s.duration > 0) {
        running_sums(seen)
    } else {
        seen.iter().filter_map(|s| s.pts.or(s.dts)).collect()
    };
    times.sort_unstable();
    times
}

fn without_unfinished(mut times: Vec<i64>, whole: bool) -> Vec<i64> {
    times.sort_unstable();
    if !whole && times.len() > 4 * MAX_REORDER {
        times.truncate(times.len() - MAX_REORDER);
    }
    times
}

/// The second field of a picture has no presentation time of its own in many transport streams.
fn is_field_pairs(seen: &[Seen]) -> bool {
    let without = seen.iter().filter(|s| s.pts.is_none()).count();
    let never_two = seen.windows(2).all(|pair| pair.iter().any(|s| s.pts.is_some()));
    never_two && without * 5 >= seen.len() * 2
}

fn running_sums(seen: &[Seen]) -> Vec<i64> {
    let mut now = 0i64;
    let step = |s: &Seen| {
        now = now.saturating_add(s.duration);
        now
    };
    seen.iter().map(step).collect()
}

/// The rate of frames at `times` (rising ticks of `time_base`), with what the container tells.
///
/// Constant, if all but a few distances are one frame within the container's rounding and the rate
/// does not drift: then the container's average where the sample agrees with it, else the sample's,
/// and in both cases the standard rate that this must be. Variable otherwise: the commonest distance,
/// or the container's average if that is higher.
pub(super) fn estimate(times: &[i64], time_base: Rational, told: Told) -> RateEstimate {
    let sane = |rate: Option<Rational>| rate.filter(|r| r.is_positive() && *r <= MAX_RATE);
    let container = sane(told.average);
    let distances = distances(times);
    let Some(sample) = Sample::of(&distances, time_base).filter(|s| s.rate <= MAX_RATE) else {
        let rate = container.or(sane(told.finest)).map_or(USUAL_RATE, snap_rate);
        return RateEstimate { rate, constant: true };
    };
    if sample.is_constant(&distances) {
        return RateEstimate { rate: sample.constant_rate(container), constant: true };
    }
    let commonest = commonest_rate(&distances, time_base).unwrap_or(sample.rate);
    let rate = container.map_or(commonest, |c| c.max(commonest));
    RateEstimate { rate: snap_rate(rate.min(MAX_RATE)), constant: false }
}

/// Distances between frames, in ticks; two packets with one time are one frame.
fn distances(times: &[i64]) -> Vec<i64> {
    let pairs = times.iter().zip(times.iter().skip(1));
    pairs.map(|(a, b)| b.saturating_sub(*a)).filter(|d| *d > 0).collect()
}

/// The ordinary distances of a sample, those near the middle one.
#[derive(Clone, Copy, Debug)]
struct Sample {
    time_base: Rational,
    /// Frames each second over the ordinary distances.
    rate: Rational,
    /// How far a distance may lie from a frame's length, in seconds.
    slack: Rational,
    /// Seconds that the ordinary distances cover.
    span: Rational,
}

impl Sample {
    fn of(distances: &[i64], time_base: Rational) -> Option<Self> {
        let mut sorted = distances.to_vec();
        sorted.sort_unstable();
        let middle = Rational::from_int(*sorted.get(sorted.len() / 2)?) * time_base;
        let slack = time_base.max(MS_SLACK).min(middle * Rational::new(1, 4));
        let (rate, span) = average(distances, middle, slack, time_base)?;
        Some(Self { time_base, rate, slack, span })
    }

    fn is_constant(&self, distances: &[i64]) -> bool {
        let Some(frame) = self.rate.checked_recip() else { return false };
        let odd = distances.iter().filter(|d| !near(**d, frame, self.slack, self.time_base)).count();
        odd * ODD_ONE_IN <= distances.len() && !self.drifts(distances, frame)
    }

    /// Whether some part of the sample has another rate than the whole, beyond what rounding makes.
    fn drifts(&self, distances: &[i64], frame: Rational) -> bool {
        let part = distances.len() / PARTS;
        part > 1
            && distances.chunks(part).filter(|c| c.len() == part).any(|chunk| {
                average(chunk, frame, self.slack, self.time_base).is_some_and(|(rate, span)| {
                    let off = (rate / self.rate - Rational::from_int(1)).abs();
                    off > AGREEMENT + self.slack * Rational::from_int(2) / span
                })
            })
    }

    fn constant_rate(&self, container: Option<Rational>) -> Rational {
        let own = snap_rate(self.rate);
        let Some(container) = container else { return own };
        let inexact = self.slack / self.span;
        let agrees = (container / self.rate - Rational::from_int(1)).abs() <= AGREEMENT + inexact;
        // A long sample that hits a standard rate outweighs a header that says its neighbour.
        let own_is_sure = is_standard(own) && inexact < PRECISE;
        let told = snap_rate(container);
        if agrees && (told == own || !own_is_sure) { told } else { own }
    }
}

/// Whether rates that are a trifle off are taken for this one.
fn is_standard(rate: Rational) -> bool {
    snap_rate(rate * Rational::new(10_001, 10_000)) == rate
}

fn near(distance: i64, frame: Rational, slack: Rational, time_base: Rational) -> bool {
    (Rational::from_int(distance) * time_base - frame).abs() <= slack
}

/// Frames each second, and seconds, over the distances that are near `frame`.
fn average(
    distances: &[i64],
    frame: Rational,
    slack: Rational,
    time_base: Rational,
) -> Option<(Rational, Rational)> {
    let ordinary = distances.iter().filter(|d| near(**d, frame, slack, time_base));
    let (count, ticks) = ordinary.fold((0i64, 0i64), |(n, sum), d| (n + 1, sum.saturating_add(*d)));
    let span = Rational::from_int(ticks) * time_base;
    let rate = Rational::from_int(count) * span.checked_recip()?;
    (rate.is_positive() && span.is_positive()).then_some((rate, span))
}

/// The rate at the commonest distance, distances that are the same millisecond being the same.
fn commonest_rate(distances: &[i64], time_base: Rational) -> Option<Rational> {
    let to_ms =
        |d: i64| (Rational::from_int(d) * time_base * Rational::from_int(1000)).round(Rounding::Nearest);
    let mut sorted: Vec<(i64, i64)> = distances.iter().map(|d| (to_ms(*d), *d)).collect();
    sorted.sort_unstable();
    // The shortest of equally common ones: no frame is lost to the faster grid.
    let most = sorted.chunk_by(|a, b| a.0 == b.0).rev().max_by_key(|same| same.len())?;
    let ticks = most.iter().fold(0i64, |sum, d| sum.saturating_add(d.1));
    let span = Rational::from_int(ticks) * time_base;
    span.checked_recip().map(|per_second| Rational::from_int(most.len() as i64) * per_second)
}

#[cfg(test)]
mod tests;
