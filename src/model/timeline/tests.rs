use super::*;
use proptest::prelude::*;

fn rates() -> impl Strategy<Value = Rational> {
    prop_oneof![
        Just(Rational::new(24_000, 1001)),
        Just(Rational::from_int(24)),
        Just(Rational::from_int(25)),
        Just(Rational::new(30_000, 1001)),
        Just(Rational::from_int(30)),
        Just(Rational::from_int(50)),
        Just(Rational::new(60_000, 1001)),
        Just(Rational::from_int(60)),
        Just(Rational::new(25, 2)),
        (1i64..60_000, 1i64..1001).prop_filter_map("at most 60", |(n, d)| {
            let r = Rational::new(n, d);
            (r <= Rational::from_int(60) && r >= Rational::new(1, 2)).then_some(r)
        }),
    ]
}

prop_compose! {
    fn timelines()(rate in rates(), total_ms in 1i64..8_000_000, segment_ms in 500i64..12_000) -> Timeline {
        Timeline::new(rate, Rational::new(total_ms, 1000), Rational::new(segment_ms, 1000))
    }
}

fn grids() -> impl Strategy<Value = AudioGrid> {
    let rate = prop_oneof![Just(48_000u32), Just(44_100), Just(32_000), Just(22_050)];
    let size = prop_oneof![Just((1024u32, 1024u32)), Just((1536, 256)), Just((960, 312)), Just((1024, 2112))];
    (rate, size).prop_map(|(sample_rate, (packet_samples, priming_samples))| AudioGrid {
        sample_rate,
        packet_samples,
        priming_samples,
    })
}

proptest! {
    #[test]
    fn segments_tile_the_frames(t in timelines()) {
        let mut next = 0;
        for n in 0..t.segment_count() {
            let frames = t.frames(n);
            prop_assert_eq!(frames.start, next);
            prop_assert!(frames.end > frames.start);
            prop_assert!(t.starts_segment(frames.start));
            prop_assert!(frames.end - frames.start < 2 || !t.starts_segment(frames.start + 1));
            prop_assert_eq!(t.segment_of(frames.start), n);
            prop_assert_eq!(t.segment_of(frames.end - 1), n);
            next = frames.end;
        }
        prop_assert_eq!(next, t.total_frames());
    }

    #[test]
    fn every_packet_is_in_one_segment_and_starts_there(t in timelines(), grid in grids()) {
        let mut next = 0;
        for n in 0..t.segment_count() {
            let packets = t.packets(&grid, n);
            prop_assert_eq!(packets.start, next);
            let first = Rational::from_int(grid.packet_pts(packets.start)) * grid.time_base();
            if n > 0 && !packets.is_empty() {
                prop_assert!(first >= t.segment_time(n), "{:?} starts before its segment", first);
                prop_assert!(first < t.segment_time(n + 1));
            }
            next = packets.end;
        }
        prop_assert_eq!(next, grid.packet_count(t.duration()));
        let decoded = next * u64::from(grid.packet_samples) - u64::from(grid.priming_samples);
        let wanted = grid.sample_count(t.duration());
        prop_assert!(decoded >= wanted && decoded - wanted < u64::from(grid.packet_samples));
    }

    #[test]
    fn every_segment_of_half_a_second_has_audio(t in timelines(), grid in grids()) {
        prop_assume!(t.duration() > Rational::new(1, 2) && t.segment_duration(0) >= Rational::new(1, 2));
        for n in 0..t.segment_count() {
            prop_assert!(!t.packets(&grid, n).is_empty());
        }
    }

    #[test]
    fn durations_add_up_without_drift(t in timelines()) {
        let sum = (0..t.segment_count()).fold(Rational::ZERO, |sum, n| sum + t.segment_duration(n));
        prop_assert_eq!(sum, t.duration());
    }

    #[test]
    fn the_length_is_that_of_the_source_within_half_a_frame(rate in rates(), total_ms in 1000i64..8_000_000) {
        let total = Rational::new(total_ms, 1000);
        let t = Timeline::new(rate, total, Rational::from_int(4));
        prop_assert!(t.total_frames() == 1 || (t.duration() - total).abs() * rate <= Rational::new(1, 2));
    }

    #[test]
    fn timestamps_rounded_to_milliseconds_find_their_slot(rate in rates(), n in 0i64..500_000) {
        let t = Timeline::new(rate, Rational::from_int(7200), Rational::from_int(4));
        let ms = (Rational::from_int(n) * t.frame_duration()).to_ms();
        prop_assert_eq!(t.slot_at(ms, Rational::new(1, 1000)), n);
        let ticks = rescale(n, t.frame_duration(), Rational::TB_90K, Rounding::Nearest);
        prop_assert_eq!(t.slot_at(ticks, Rational::TB_90K), n);
    }

    #[test]
    fn a_window_is_made_of_whole_segments(t in timelines(), a in 0u64..40, len in 0u64..40) {
        let range = t.segments_of(Window::segments(a..a + len));
        prop_assert!(range.end <= t.segment_count() && range.start <= range.end);
        prop_assert_eq!(t.segments_of(Window::ALL), 0..t.segment_count());
    }

    #[test]
    fn irregular_cuts_tile_too(rate in rates(), gaps in prop::collection::vec(0u64..300, 0..40), extra in 1u64..400) {
        let starts: Vec<u64> = gaps.iter().scan(0, |at, g| { *at += g; Some(*at) }).collect();
        let total = starts.last().copied().unwrap_or(0) + extra;
        let t = Timeline::with_cuts(rate, total, starts);
        let mut next = 0;
        for n in 0..t.segment_count() {
            let frames = t.frames(n);
            prop_assert!(frames.start == next && frames.end > frames.start);
            prop_assert_eq!(t.segment_of(frames.end - 1), n);
            prop_assert!(frames.end - frames.start <= t.frames_per_segment());
            next = frames.end;
        }
        prop_assert_eq!(next, total);
    }

    #[test]
    fn a_grid_keeps_source_frames_and_never_exceeds_its_limit(n in 1i64..240_000, d in 1i64..1001, constant: bool) {
        let measured = Rational::new(n, d);
        let grid = grid_rate(measured, constant, MAX_GRID_RATE);
        prop_assert!(grid <= MAX_GRID_RATE && grid.is_positive());
        prop_assert!(grid.den() <= 1001);
    }
}

#[test]
fn rounded_rates_become_the_true_ones() {
    let snap = |n, d| snap_rate(Rational::new(n, d));
    assert_eq!(snap(23_976, 1000), Rational::new(24_000, 1001));
    assert_eq!(snap(2_997, 100), Rational::new(30_000, 1001));
    assert_eq!(snap(5_994, 100), Rational::new(60_000, 1001));
    assert_eq!(snap(10_000_000, 416_667), Rational::from_int(24));
    assert_eq!(snap(25, 1), Rational::from_int(25));
    assert_eq!(snap(25, 2), Rational::new(25, 2));
    assert_eq!(snap(47, 2), Rational::new(47, 2));
}

#[test]
fn fast_sources_are_thinned_to_whole_frames() {
    let grid = |n, d, constant| grid_rate(Rational::new(n, d), constant, MAX_GRID_RATE);
    assert_eq!(grid(120_000, 1001, true), Rational::new(60_000, 1001));
    assert_eq!(grid(100, 1, true), Rational::from_int(50));
    assert_eq!(grid(240, 1, true), Rational::from_int(60));
    assert_eq!(grid(2983, 100, false), Rational::new(30_000, 1001));
    assert_eq!(grid_rate(Rational::from_int(60), true, Rational::from_int(30)), Rational::from_int(30));
    assert_eq!(grid(0, 1, true), Rational::from_int(25));
}

#[test]
fn two_hours_at_23_976_have_their_frames() {
    let t = Timeline::new(Rational::new(24_000, 1001), Rational::from_int(7200), Rational::from_int(6));
    assert_eq!(t.total_frames(), 172_627);
    assert_eq!(t.frames_per_segment(), 144);
    assert_eq!(t.segment_count(), 1199);
    assert_eq!(t.segment_time(1000), Rational::new(144_000 * 1001, 24_000));
}

#[test]
fn a_short_tail_joins_its_neighbour_and_a_long_one_stands_alone() {
    let with_tail =
        |frames| Timeline::new(Rational::from_int(25), Rational::new(frames, 25), Rational::from_int(4));
    assert_eq!(with_tail(200).segment_count(), 2);
    assert_eq!(with_tail(212).segment_count(), 2);
    assert_eq!(with_tail(212).frames(1), 100..212);
    assert!(!with_tail(212).starts_segment(200));
    assert_eq!(with_tail(213).segment_count(), 3);
    assert_eq!(with_tail(213).frames(2), 200..213);
    assert_eq!(with_tail(3).frames(0), 0..3);
}

#[test]
fn priming_belongs_to_the_first_segment() {
    let t = Timeline::new(Rational::from_int(25), Rational::from_int(10), Rational::from_int(4));
    let grid = AudioGrid { sample_rate: 48_000, packet_samples: 1024, priming_samples: 1024 };
    assert_eq!(grid.packet_pts(0), -1024);
    // 4 s are 192,000 samples; packet 189 starts at 192,512 and is the first at or past the cut.
    assert_eq!(t.packets(&grid, 0), 0..189);
    assert_eq!(t.packets(&grid, 1).start, 189);
}

#[test]
fn an_end_elsewhere_than_planned_keeps_the_cuts_that_were_made() {
    let planned =
        |frames: i64| Timeline::new(Rational::from_int(25), Rational::new(frames, 25), Rational::from_int(4));
    let starts = |t: &Timeline| (0..t.segment_count()).map(|n| t.segment_start(n)).collect::<Vec<_>>();
    // Ten pictures of a planned third segment are there: it was begun before anybody knew.
    assert_eq!(starts(&planned(500).ending_at(210)), [0, 100, 200]);
    assert_eq!(planned(500).ending_at(210).total_frames(), 210);
    // A planned tail joined the last segment, and then the data went on.
    assert_eq!(starts(&planned(210).ending_at(230)), [0, 100]);
    assert_eq!(starts(&planned(210).ending_at(305)), [0, 100, 300]);
    assert_eq!(starts(&planned(200).ending_at(205)), [0, 100, 200]);
    // The rule for the run and the sum agree with the pictures that begin segments.
    for (total, end) in [(500, 210), (210, 230), (210, 305), (200, 205), (250, 450), (90, 90), (3, 700)] {
        let (plan, made) = (planned(total), planned(total).ending_at(end as u64));
        let begun: Vec<u64> = (0..end as u64)
            .filter(|&n| match n < plan.total_frames() {
                true => plan.starts_segment(n),
                false => plan.with_total_frames(n.saturating_mul(2)).starts_segment(n),
            })
            .collect();
        assert_eq!(starts(&made), begun, "{total} planned, {end} there");
        assert_eq!((0..end as u64).filter(|&n| plan.begins_segment(n)).collect::<Vec<_>>(), begun);
    }
    assert_eq!(planned(250).ending_at(450), planned(450), "where nothing differs, the grid stays regular");
}
