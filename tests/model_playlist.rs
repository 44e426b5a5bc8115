//! Playlists read back by a parser that is not ours, and the promises that hold for every grid.

use m3u8_rs::{MediaPlaylistType, parse_master_playlist_res, parse_media_playlist_res};
use proptest::prelude::*;
use sprocket::base::time::Rational;
use sprocket::model::playlist::*;

fn r(num: i64, den: i64) -> Rational {
    Rational::new(num, den)
}

/// Segments of `frames` frames each (the last may be short) at `rate` frames a second.
fn grid(rate: Rational, frames: i64, total: i64) -> Vec<SegmentEntry> {
    let at = |frame: i64| Rational::from_int(frame) / rate;
    let count = (total + frames - 1) / frames;
    let entry = |n: i64| SegmentEntry {
        uri: format!("{n}.ts"),
        start: at(n * frames),
        end: at(((n + 1) * frames).min(total)),
    };
    (0..count).map(entry).collect()
}

fn vod(segments: Vec<SegmentEntry>) -> MediaPlaylist {
    MediaPlaylist {
        kind: PlaylistKind::Vod,
        init_uri: None,
        segments,
        independent_segments: false,
        target_duration_at_least: None,
    }
}

/// `EXTINF` values in microseconds, read from the text digit by digit.
fn extinf_micros(text: &str) -> Vec<i64> {
    let values = text.lines().filter_map(|line| line.strip_prefix("#EXTINF:")?.strip_suffix(','));
    values
        .map(|value| {
            let (whole, fraction) = value.split_once('.').expect("a decimal point");
            assert_eq!(fraction.len(), 6, "{value}");
            whole.parse::<i64>().unwrap() * 1_000_000 + fraction.parse::<i64>().unwrap()
        })
        .collect()
}

fn target_duration(text: &str) -> i64 {
    let line = text.lines().find_map(|line| line.strip_prefix("#EXT-X-TARGETDURATION:"));
    line.and_then(|value| value.parse().ok()).expect("a target duration")
}

fn broadcast_rates() -> impl Strategy<Value = Rational> {
    prop::sample::select(vec![
        r(24_000, 1001),
        r(30_000, 1001),
        r(60_000, 1001),
        r(25, 1),
        r(2997, 125), // 23.976 taken literally
    ])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_run_of_two_hours_sums_to_the_exact_time(
        rate in broadcast_rates(), frames in 20i64..400, tail in 1i64..400, i in any::<prop::sample::Index>(), j in any::<prop::sample::Index>(),
    ) {
        let two_hours = (Rational::from_int(7200) * rate).round(sprocket::base::time::Rounding::Floor);
        let segments = grid(rate, frames, two_hours + tail);
        let lengths = extinf_micros(&vod(segments.clone()).render().unwrap());
        prop_assert_eq!(lengths.len(), segments.len());
        let (i, j) = (i.index(segments.len()), j.index(segments.len()));
        let (i, j) = (i.min(j), i.max(j));
        let sum = r(lengths[i..=j].iter().sum(), 1_000_000);
        let exact = segments[j].end - segments[i].start;
        prop_assert!((sum - exact).abs() <= r(1, 1_000_000), "{sum} for {exact}");
        let all = r(lengths.iter().sum(), 1_000_000);
        prop_assert!((all - segments.last().unwrap().end).abs() <= r(1, 2_000_000));
    }

    #[test]
    fn no_segment_exceeds_the_target_duration_and_it_is_no_longer_than_needed(
        rate in broadcast_rates(), frames in 1i64..800, total in 1i64..5000, least in prop::option::of(1u64..20),
    ) {
        let playlist = MediaPlaylist { target_duration_at_least: least, ..vod(grid(rate, frames, total)) };
        let text = playlist.render().unwrap();
        let longest = extinf_micros(&text).into_iter().max().unwrap();
        let target = target_duration(&text);
        prop_assert_eq!(target as u64, playlist.target_duration());
        prop_assert!(longest <= target * 1_000_000);
        prop_assert!(target == least.unwrap_or(1) as i64 || longest > (target - 1) * 1_000_000);
    }

    #[test]
    fn the_peak_covers_each_full_segment_and_the_average(
        sizes in prop::collection::vec((0u64..5_000_000, 1i64..240), 1..40),
    ) {
        let segments: Vec<_> = sizes.iter().map(|(bytes, frames)| (*bytes, r(frames * 1001, 24_000))).collect();
        let got = Bandwidth::measure(segments.iter().copied());
        prop_assert!(got.average_bps <= got.peak_bps);
        let target = segments.iter().map(|s| s.1.to_f64()).fold(1.0, f64::max).ceil();
        for (bytes, seconds) in segments.iter().filter(|s| s.1.to_f64() >= target / 2.0) {
            prop_assert!(got.peak_bps as f64 >= 8.0 * *bytes as f64 / seconds.to_f64() * (1.0 - 1e-12));
        }
        let (bytes, seconds) = segments.iter().fold((0.0, 0.0), |a, s| (a.0 + s.0 as f64, a.1 + s.1.to_f64()));
        prop_assert!((got.average_bps as f64 - 8.0 * bytes / seconds).abs() <= 1.001);
    }
}

#[test]
fn a_media_playlist_reads_back() {
    let mut playlist = vod(grid(r(30_000, 1001), 180, 1000));
    playlist.init_uri = Some("init.mp4".into());
    playlist.independent_segments = true;
    let text = playlist.render().unwrap();
    let read = parse_media_playlist_res(text.as_bytes()).expect("parses");
    assert_eq!(read.version, Some(7));
    assert_eq!((read.target_duration, read.media_sequence), (7, 0));
    assert_eq!(read.playlist_type, Some(MediaPlaylistType::Vod));
    assert!(read.end_list && read.independent_segments && !read.i_frames_only);
    assert!(read.unknown_tags.is_empty() && read.start.is_none());
    let uris: Vec<_> = read.segments.iter().map(|s| s.uri.as_str()).collect();
    assert_eq!(uris, ["0.ts", "1.ts", "2.ts", "3.ts", "4.ts", "5.ts"]);
    assert_eq!(read.segments[0].map.as_ref().map(|m| m.uri.as_str()), Some("init.mp4"));
    assert!(read.segments.iter().all(|s| !s.discontinuity && s.unknown_tags.is_empty()));
    let lengths: Vec<_> = read.segments.iter().map(|s| s.duration).collect();
    assert_eq!(lengths, [6.006, 6.006, 6.006, 6.006, 6.006, 3.336667]);
}

#[test]
fn a_growing_playlist_only_adds_lines() {
    let all = grid(r(25, 1), 100, 950);
    let at = |count: usize, ended| {
        let kind = PlaylistKind::Event { ended };
        let segments = all[..count].to_vec();
        MediaPlaylist { kind, target_duration_at_least: Some(4), ..vod(segments) }.render().unwrap()
    };
    for count in 0..all.len() {
        let (earlier, later) = (at(count, false), at(count + 1, false));
        assert!(later.starts_with(&earlier), "{earlier} then {later}");
        let read = parse_media_playlist_res(later.as_bytes()).expect("parses");
        assert_eq!((read.segments.len(), read.end_list), (count + 1, false));
        assert_eq!(read.playlist_type, Some(MediaPlaylistType::Event));
    }
    assert_eq!(at(all.len(), true), at(all.len(), false) + "#EXT-X-ENDLIST\n");
}

#[test]
fn a_multivariant_playlist_reads_back() {
    let variant = |height: u32, bandwidth_bps| {
        variant(&format!("{height}p/index.m3u8"), Some((height * 16 / 9, height)), bandwidth_bps)
    };
    let mut playlist = master(vec![variant(360, 900_000), variant(1080, 6_000_000), variant(720, 1_900_000)]);
    playlist.put_start_variant_first();
    let text = playlist.render().unwrap();
    let read = parse_master_playlist_res(text.as_bytes()).expect("parses");
    assert_eq!((read.version, read.independent_segments), (Some(3), true));
    let rows: Vec<_> =
        read.variants.iter().map(|v| (v.uri.as_str(), v.bandwidth, v.average_bandwidth)).collect();
    assert_eq!(
        rows,
        [
            ("720p/index.m3u8", 1_900_000, Some(1_425_000)),
            ("1080p/index.m3u8", 6_000_000, Some(4_500_000)),
            ("360p/index.m3u8", 900_000, Some(675_000)),
        ]
    );
    let top = &read.variants[1];
    assert_eq!(top.codecs.as_deref(), Some("avc1.640028,mp4a.40.2"));
    assert_eq!(top.resolution.map(|r| (r.width, r.height)), Some((1920, 1080)));
    assert_eq!(top.frame_rate, Some(59.94));
    assert!(text.contains(",VIDEO-RANGE=HLG\n") && read.unknown_tags.is_empty());
}

#[test]
fn a_short_tail_counts_with_its_neighbour() {
    // Target 4: 0.1 s at 8 Mbit/s alone is no run (< 2 s); with its neighbour it is
    // 8 * 600_000 bits in 4.1 s = 1_170_731.7.
    let got = Bandwidth::measure([(400_000, r(4, 1)), (500_000, r(4, 1)), (100_000, r(1, 10))]);
    assert_eq!(got, Bandwidth { peak_bps: 1_170_732, average_bps: 987_655 });
}

#[test]
fn runs_are_bounded_on_both_sides_inclusively() {
    // Target 4. Exactly 2 s is a run; exactly 6 s is one too, so the light one cannot hide.
    let half = Bandwidth::measure([(1_000, r(4, 1)), (9_000, r(2, 1))]);
    assert_eq!(half.peak_bps, 36_000);
    let under = Bandwidth::measure([(1_000, r(4, 1)), (9_000, r(1_999, 1_000))]);
    assert_eq!(under.peak_bps, 13_336); // 80_000 / 5.999, rounded up
    // 1 + 4 + 1 is exactly 1.5 targets: both heavy ones count, and half a millisecond more is too long.
    let two_heavy = |heavy| {
        let (light, heavy) = ((0, r(4, 1)), (9_000, heavy));
        Bandwidth::measure([light, heavy, light, heavy, light]).peak_bps
    };
    assert_eq!(two_heavy(r(1, 1)), 24_000); // 144_000 / 6
    assert_eq!(two_heavy(r(2_001, 2_000)), 14_399); // 72_000 / 5.0005
    // 1 s alone is no run for a target of 4; with one neighbour it is, and a third makes it lighter.
    let heavy_middle = [(0, r(5, 2)), (9_000, r(1, 1)), (0, r(5, 2))];
    assert_eq!(Bandwidth::measure_at_target(heavy_middle, Some(4)).peak_bps, 20_572); // 72_000 / 3.5
}

#[test]
fn the_peak_is_never_below_the_average_and_nothing_divides_by_nought() {
    // Runs of at most 6 s see one heavy end at most; the whole of 7.8 s has both.
    let ends = [(19_000, r(19, 10)), (0, r(4, 1)), (19_000, r(19, 10))];
    assert_eq!(Bandwidth::measure(ends), Bandwidth { peak_bps: 38_975, average_bps: 38_975 });
    let short = Bandwidth::measure([(1_000, r(1, 25))]);
    assert_eq!(short, Bandwidth { peak_bps: 200_000, average_bps: 200_000 });
    let zeros = Bandwidth { peak_bps: 0, average_bps: 0 };
    assert_eq!(Bandwidth::measure([]), zeros);
    assert_eq!(Bandwidth::measure([(7, Rational::ZERO), (7, r(-4, 1))]), zeros);
    let huge = Bandwidth::measure([(u64::MAX, r(1, i64::MAX)), (u64::MAX, r(1, 3))]);
    assert_eq!(huge.average_bps, u64::MAX);
}

fn master(variants: Vec<Variant>) -> MasterPlaylist {
    MasterPlaylist { variants, independent_segments: true, version: VERSION_TS }
}

fn variant(uri: &str, resolution: Option<(u32, u32)>, bandwidth_bps: u64) -> Variant {
    Variant {
        uri: uri.into(),
        bandwidth_bps,
        average_bandwidth_bps: bandwidth_bps * 3 / 4,
        codecs: vec!["avc1.640028".into(), "mp4a.40.2".into(), "mp4a.40.2".into()],
        resolution,
        frame_rate: Some(r(60_000, 1001)),
        video_range: Some(VideoRange::Hlg),
    }
}

#[test]
fn start_variant() {
    let order = |rates: &[u64], sound: Option<u64>| {
        let mut all: Vec<_> = rates.iter().map(|b| variant("v", Some((1280, 720)), *b)).collect();
        all.extend(sound.map(|b| variant("a", None, b)));
        let mut playlist = master(all);
        playlist.put_start_variant_first();
        playlist.variants.iter().map(|v| v.bandwidth_bps).collect::<Vec<_>>()
    };
    assert_eq!(
        order(&[900_000, 6_000_000, 1_700_000, 3_000_000], None),
        [1_700_000, 6_000_000, 3_000_000, 900_000]
    );
    assert_eq!(order(&[2_000_000, 2_000_001], None), [2_000_000, 2_000_001]);
    assert_eq!(order(&[5_000_000, 4_000_000], Some(64_000)), [4_000_000, 5_000_000, 64_000]);
    assert_eq!(order(&[], Some(64_000)), [64_000]);
    assert_eq!(order(&[2_000_000, 900_000], None), [2_000_000, 900_000]);
    assert_eq!(order(&[], None), [0_u64; 0]);
}

#[test]
fn video_range_by_transfer_code() {
    let codes: Vec<_> = (0..=20).filter(|c| VideoRange::from_transfer(*c).is_some()).collect();
    assert_eq!(codes, [1, 6, 13, 14, 15, 16, 18]);
    assert_eq!(VideoRange::from_transfer(16), Some(VideoRange::Pq));
    assert_eq!(VideoRange::from_transfer(18), Some(VideoRange::Hlg));
}

#[test]
fn bad_variants_are_refused() {
    let with = |change: fn(&mut Variant)| {
        let mut v = variant("v", None, 100);
        change(&mut v);
        master(vec![v]).render().unwrap_err()
    };
    let uri = || "v".to_owned();
    assert_eq!(master(vec![]).render(), Err(PlaylistError::NoVariants));
    assert_eq!(with(|v| v.codecs.clear()), PlaylistError::NoCodecs { uri: uri() });
    let codec = "a\",X=\"".to_owned();
    assert_eq!(with(|v| v.codecs[0] = "a\",X=\"".into()), PlaylistError::BadCodec { uri: uri(), codec });
    let bad = |peak_bps, average_bps| PlaylistError::BadBandwidth { uri: uri(), peak_bps, average_bps };
    assert_eq!(with(|v| v.average_bandwidth_bps = 101), bad(100, 101));
    assert_eq!(with(|v| v.average_bandwidth_bps = 0), bad(100, 0));
}
