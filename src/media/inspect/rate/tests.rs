//! The estimate against timestamps made from rates that are known.

use super::{RateEstimate, Told, times};
use crate::base::time::{Rational, Rounding};
use crate::media::inspect::scan::Seen;
use proptest::prelude::*;

const MS: Rational = Rational::new(1, 1000);
const STANDARD: [(i64, i64); 12] = [
    (12, 1),
    (15, 1),
    (24_000, 1001),
    (24, 1),
    (25, 1),
    (30_000, 1001),
    (30, 1),
    (48, 1),
    (50, 1),
    (60_000, 1001),
    (60, 1),
    (120, 1),
];

fn r(num: i64, den: i64) -> Rational {
    Rational::new(num, den)
}

/// Frame `n` of `rate` in ticks of `time_base`, rounded as a muxer would.
fn ticks(n: i64, rate: Rational, time_base: Rational, rounding: Rounding) -> i64 {
    (Rational::from_int(n) / rate / time_base).round(rounding)
}

fn frames(count: i64, rate: Rational, time_base: Rational) -> Vec<i64> {
    (0..count).map(|n| ticks(n, rate, time_base, Rounding::Nearest)).collect()
}

fn estimate(times: &[i64], time_base: Rational, average: Option<Rational>) -> RateEstimate {
    super::estimate(times, time_base, Told { average, finest: None })
}

fn is(rate: Rational, constant: bool) -> RateEstimate {
    RateEstimate { rate, constant }
}

fn seen(pts: Option<i64>, dts: Option<i64>, duration: i64) -> Seen {
    Seen { pts, dts, duration, key: false }
}

proptest! {
    #[test]
    fn a_standard_rate_survives_any_rounding(
        (num, den) in prop::sample::select(STANDARD.to_vec()),
        time_base in prop::sample::select(vec![MS, Rational::TB_90K, r(1, 48_000), r(1, 12_800), r(1, 1_000_000)]),
        rounding in prop::sample::select(vec![Rounding::Floor, Rounding::Ceil, Rounding::Nearest]),
        start in -1_000_000i64..1_000_000_000,
        seconds in 4i64..12,
    ) {
        let rate = r(num, den);
        let count = seconds * num / den;
        let times: Vec<i64> = (0..count).map(|n| start + ticks(n, rate, time_base, rounding)).collect();
        prop_assert_eq!(estimate(&times, time_base, None), is(rate, true));
    }

    #[test]
    fn a_few_frames_are_enough_with_the_containers_word(
        (num, den) in prop::sample::select(STANDARD.to_vec()), count in 12i64..60,
    ) {
        let rate = r(num, den);
        prop_assert_eq!(estimate(&frames(count, rate, MS), MS, Some(rate)), is(rate, true));
    }

    #[test]
    fn milliseconds_that_were_rewritten_in_fine_ticks_are_still_constant(
        (num, den) in prop::sample::select(STANDARD.to_vec()),
    ) {
        let rate = r(num, den);
        let fine: Vec<i64> = frames(600, rate, MS).into_iter().map(|t| t * 90).collect();
        prop_assert_eq!(estimate(&fine, Rational::TB_90K, None), is(rate, true));
    }

    #[test]
    fn one_dropped_frame_in_two_hundred_changes_nothing(
        (num, den) in prop::sample::select(STANDARD.to_vec()), dropped in 1usize..233,
    ) {
        let rate = r(num, den);
        let mut times = frames(234, rate, MS);
        times.remove(dropped);
        prop_assert_eq!(estimate(&times, MS, Some(rate)), is(rate, true));
    }

    #[test]
    fn jitter_is_variable(
        (num, den) in prop::sample::select(STANDARD.to_vec()),
        jitter in prop::collection::vec(prop::sample::select(vec![-20i64, -15, -12, 12, 15, 20]), 200),
    ) {
        let frame = r(den * 100, num);
        let mut now = Rational::ZERO;
        let times: Vec<i64> = jitter.iter().map(|percent| {
            now = now + frame * r(100 + percent, 10_000);
            (now / Rational::TB_90K).round(Rounding::Nearest)
        }).collect();
        prop_assert!(num > 60 * den || !estimate(&times, Rational::TB_90K, None).constant);
    }

    #[test]
    fn the_order_of_the_file_does_not_matter(count in 100usize..250, whole in any::<bool>()) {
        // I P B B P B B ...: what is read last is not what is shown last.
        let mut shown: Vec<i64> = (0..count as i64).map(|n| n * 40).collect();
        for group in shown.get_mut(1..).unwrap().chunks_mut(3) {
            group.rotate_right(1);
        }
        let seen: Vec<Seen> = shown.iter().map(|t| seen(Some(*t), None, 40)).collect();
        prop_assert_eq!(estimate(&times(&seen, false, whole), MS, None), is(Rational::from_int(25), true));
    }

    #[test]
    fn nothing_panics_and_every_rate_is_usable(
        mut times in prop::collection::vec(any::<i64>(), 0..40),
        num in 1..i64::MAX, den in 1..i64::MAX, c in any::<i64>(), d in 1..i64::MAX,
    ) {
        times.sort_unstable();
        let container = Some(r(c.max(-i64::MAX), d));
        let rate = estimate(&times, r(num, den), container).rate;
        prop_assert!(rate.is_positive() && rate <= r(1001, 1), "{rate:?}");
    }
}

#[test]
fn the_container_is_believed_within_two_in_a_thousand_and_not_beyond() {
    // 20 frames in milliseconds cannot tell 24 from 24000/1001; what the container says decides.
    let film = r(24_000, 1001);
    assert_eq!(
        estimate(&frames(20, film, MS), MS, Some(Rational::from_int(24))),
        is(Rational::from_int(24), true)
    );
    assert_eq!(estimate(&frames(20, film, MS), MS, Some(film)), is(film, true));
    // 240 frames can.
    assert_eq!(estimate(&frames(240, film, MS), MS, Some(Rational::from_int(24))), is(film, true));
    // A header with a rate of no standard gives way, whatever 240 frames are exactly on.
    let twenty_five = Rational::from_int(25);
    assert_eq!(estimate(&frames(240, twenty_five, MS), MS, Some(r(499, 20))), is(twenty_five, true));
    // AVI counts fields: 50 is told, 25 is there.
    assert_eq!(
        estimate(&[0, 2, 4, 6, 8, 10], r(1, 50), Some(Rational::from_int(50))),
        is(Rational::from_int(25), true)
    );
    // An odd rate keeps the container's tidy fraction.
    assert_eq!(estimate(&frames(240, r(29, 2), MS), MS, Some(r(29, 2))), is(r(29, 2), true));
}

#[test]
fn a_variable_rate_is_the_commonest_or_the_average_if_that_is_higher() {
    let shown = |lengths: &[i64]| -> Vec<i64> {
        let add = |now: &mut i64, l: &i64| {
            *now += l;
            Some(*now)
        };
        lengths.iter().scan(0, add).collect()
    };
    let mixed: Vec<i64> = [33, 33, 33, 100, 33, 200, 33, 33].repeat(20);
    assert_eq!(estimate(&shown(&mixed), MS, Some(Rational::from_int(12))), is(r(1000, 33), false));
    let slow_start: Vec<i64> = [500, 500, 500, 500, 300, 700].repeat(20);
    assert_eq!(
        estimate(&shown(&slow_start), MS, Some(Rational::from_int(30))),
        is(Rational::from_int(30), false)
    );
    // From 24 to 25 frames each second: every distance is near the middle one, the rate is not.
    let drifting: Vec<i64> = (0..200).map(|n| 4167 - n * 167 / 200).collect();
    assert!(!estimate(&shown(&drifting), r(1, 100_000), None).constant);
}

#[test]
fn fields_avi_and_bare_streams_have_times_too() {
    let fields: Vec<Seen> =
        (0..100).map(|n| seen((n % 2 == 0).then_some(n * 1800), Some(n * 1800), 1800)).collect();
    let twenty_five = is(Rational::from_int(25), true);
    assert_eq!(
        estimate(&times(&fields, true, true), Rational::TB_90K, Some(Rational::from_int(25))),
        twenty_five
    );
    let avi: Vec<Seen> = (0..100).map(|n| seen((n % 3 == 1).then_some(n), Some(n), 1)).collect();
    assert_eq!(estimate(&times(&avi, false, true), r(1, 25), None), twenty_five);
    let bare = [seen(None, None, 48_000); 100];
    assert_eq!(estimate(&times(&bare, false, true), r(1, 1_200_000), None), twenty_five);
}

#[test]
fn what_tells_nothing_is_the_containers_word_or_25() {
    let thirty = Rational::from_int(30);
    assert_eq!(estimate(&[], MS, Some(thirty)), is(thirty, true));
    assert_eq!(estimate(&[5, 5, 5], MS, Some(thirty)), is(thirty, true));
    assert_eq!(estimate(&[7], MS, None), is(Rational::from_int(25), true));
    assert_eq!(super::estimate(&[7], MS, Told { average: None, finest: Some(thirty) }), is(thirty, true));
    let every_tick: Vec<i64> = (0..100).collect();
    assert_eq!(estimate(&every_tick, Rational::TB_90K, Some(thirty)), is(thirty, true));
    let three = [0, 33, 133];
    let finest = Some(Rational::from_int(60));
    assert_eq!(
        super::estimate(&three, MS, Told { average: None, finest }),
        is(Rational::new(1000, 33), false)
    );
    assert_eq!(estimate(&[], MS, Some(Rational::from_int(90_000))), is(Rational::from_int(25), true));
}
