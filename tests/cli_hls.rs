//! HLS outputs of `sprocket transcode`: exact grids, true playlists, sound without a hole.

mod support;

use support::clips::{Clip, audio, h264};
use support::hls::{Hls, TS_ORIGIN_90K};
use support::run::transcode;
use support::{Segments, clips, damage, ordinary, probe};
use tempfile::TempDir;

/// Transcodes to HLS with the quickest encoder; `None` where there is none that may be used.
#[track_caller]
fn hls(source: &std::path::Path, segments: Segments, more: &[&str]) -> Option<(Hls, TempDir)> {
    let options = segments.options()?;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let out = folder.path().join("out");
    transcode(source, &out, &[&options[..], more].concat()).ok();
    Some((Hls::open(&out), folder))
}

/// At every rate: as many frames as the source has, each at its exact time; `EXTINF` true to a
/// millisecond; segments that run on; a playlist as long as the source.
#[track_caller]
fn is_exact_at(rate: (i32, i32), frames: u32, segments: Segments) {
    let samples = u64::from(frames) * 48_000 * rate.1 as u64 / rate.0 as u64;
    let picture = h264().rate(rate.0, rate.1).frames(frames).bframes(2);
    let clip = Clip::new().video(picture).audio(audio("flac").samples(samples));
    let Some(source) = clip.make("rate.mkv") else { return };
    let more = ["--rendition", "t:90", "--segment-duration", "2"];
    let Some((output, _folder)) = hls(&source, segments, &more) else { return };
    let rate = (i64::from(rate.0), i64::from(rate.1));
    let rendition = output.only();
    assert_eq!(rendition.check_all(rate), u64::from(frames));
    let seconds = f64::from(frames) * rate.1 as f64 / rate.0 as f64;
    assert!((rendition.seconds() - seconds).abs() < 0.001, "{} s of {seconds} s", rendition.seconds());
    let declared = output.variants[0].frame_rate.expect("FRAME-RATE");
    assert!((declared - rate.0 as f64 / rate.1 as f64).abs() < 0.001, "FRAME-RATE={declared}");
}

macro_rules! exact_at {
    ($($name:ident: $num:literal / $den:literal, $frames:literal;)*) => { $(mod $name {
        use super::*;

        #[test]
        fn in_mpeg_ts() {
            is_exact_at(($num, $den), $frames, Segments::Ts);
        }

        #[test]
        fn in_fmp4() {
            is_exact_at(($num, $den), $frames, Segments::Fmp4);
        }
    })* };
}

exact_at! {
    exact_at_23_976: 24_000 / 1001, 211;
    exact_at_24: 24 / 1, 211;
    exact_at_25: 25 / 1, 221;
    exact_at_29_97: 30_000 / 1001, 263;
    exact_at_30: 30 / 1, 263;
    exact_at_50: 50 / 1, 437;
    exact_at_59_94: 60_000 / 1001, 521;
    exact_at_60: 60 / 1, 521;
}

#[test]
fn a_variable_rate_goes_onto_a_grid_of_at_most_60() {
    let lengths: Vec<i64> = (0..240).map(|n| [33, 33, 34, 50][n % 4]).collect();
    let total_s = lengths.iter().sum::<i64>() as f64 / 1000.0;
    for segments in [Segments::Ts, Segments::Fmp4] {
        let clip =
            Clip::new().video(h264().rate(30, 1).lengths_ms(&lengths)).audio(audio("flac").seconds(total_s));
        let Some(source) = clip.make("vfr.mkv") else { return };
        let Some((output, _folder)) = hls(&source, segments, &["--rendition", "t:90"]) else { continue };
        let rate = grid_of(&output);
        assert!(rate.0 <= 60 * rate.1, "{rate:?}");
        output.only().check_all(rate);
        let frame_s = rate.1 as f64 / rate.0 as f64;
        assert!(
            (output.only().seconds() - total_s).abs() <= frame_s,
            "{} s of {total_s} s",
            output.only().seconds()
        );
    }
}

/// The rate that the master playlist declares, exact.
fn grid_of(output: &Hls) -> (i64, i64) {
    let declared = output.variants[0].frame_rate.expect("FRAME-RATE");
    let whole = declared.round();
    if (declared - whole).abs() < 1e-9 { (whole as i64, 1) } else { (whole as i64 * 1000, 1001) }
}

#[test]
fn a_long_tail_gets_its_own_segment_and_a_short_one_does_not() {
    for (frames, segments) in [(125, 3), (105, 2)] {
        let clip =
            Clip::new().video(h264().frames(frames)).audio(audio("flac").samples(u64::from(frames) * 1920));
        let Some(source) = clip.make("tail.mkv") else { return };
        let more = ["--rendition", "t:90", "--segment-duration", "2"];
        let Some((output, _folder)) = hls(&source, Segments::Ts, &more) else { return };
        assert_eq!(output.only().segments.len(), segments, "{frames} frames");
    }
}

#[test]
fn the_master_playlist_tells_the_truth() {
    for segments in [Segments::Ts, Segments::Fmp4] {
        let Some(source) = ordinary("master.mkv") else { return };
        let more = ["--rendition", "big:90", "--rendition", "small:46", "--segment-duration", "2"];
        let Some((output, _folder)) = hls(&source, segments, &more) else { continue };
        assert!(output.master_text.contains("#EXT-X-INDEPENDENT-SEGMENTS"), "{}", output.master_text);
        let names: Vec<&str> = output.renditions.iter().map(|r| r.name.as_str()).collect();
        assert_eq!(names, ["big", "small"]);
        for (variant, rendition) in output.variants.iter().zip(&output.renditions) {
            assert_eq!(variant.uri, format!("{}/index.m3u8", rendition.name));
            tells_the_truth(variant, rendition);
        }
    }
}

#[track_caller]
fn tells_the_truth(variant: &m3u8_rs::VariantStream, rendition: &support::hls::Rendition) {
    let video = probe::stream(&rendition.whole(), "video");
    let size = variant.resolution.expect("RESOLUTION");
    assert_eq!((Some(size.width), Some(size.height)), (video["width"].as_u64(), video["height"].as_u64()));
    assert!(size.width.is_multiple_of(2) && size.height.is_multiple_of(2));
    let codecs = variant.codecs.as_deref().expect("CODECS");
    let (picture, sound) = codecs.split_once(',').expect("two codecs");
    if video["codec_name"] == "h264" {
        // Hexadecimal digits may be of either case (RFC 6381, 3.3).
        assert_eq!(picture.to_uppercase(), probe::avc_codec_string(&rendition.whole()).to_uppercase());
    } else {
        assert!(picture.starts_with("vp09.00."), "{codecs}");
    }
    assert_eq!(sound.trim(), "mp4a.40.2");
    let sizes: Vec<f64> =
        rendition.segments.iter().map(|s| s.path.metadata().expect("a file").len() as f64 * 8.0).collect();
    let average = sizes.iter().sum::<f64>() / rendition.seconds();
    let declared = variant.average_bandwidth.expect("AVERAGE-BANDWIDTH") as f64;
    assert!((declared / average - 1.0).abs() <= 0.01, "AVERAGE-BANDWIDTH={declared}, measured {average}");
    for (segment, bits) in rendition.segments.iter().zip(sizes) {
        let rate = bits * 1e6 / segment.extinf_us as f64;
        assert!(
            variant.bandwidth as f64 >= rate.floor(),
            "BANDWIDTH={} but {segment:?} has {rate}",
            variant.bandwidth
        );
    }
}

#[test]
fn all_renditions_are_cut_at_the_same_times() {
    let Some(source) = ordinary("ladder.mkv") else { return };
    let more =
        ["--rendition", "a:90", "--rendition", "b:60", "--rendition", "c:36", "--segment-duration", "2"];
    let Some((output, _folder)) = hls(&source, Segments::Ts, &more) else { return };
    let cuts = |n: usize| output.renditions[n].segments.iter().map(|s| s.extinf_us).collect::<Vec<_>>();
    assert_eq!(cuts(0), [2_000_000; 4]);
    assert_eq!((cuts(1), cuts(2)), (cuts(0), cuts(0)));
    for rendition in &output.renditions {
        assert_eq!(rendition.check_all((25, 1)), 200);
    }
}

#[test]
fn the_automatic_ladder_never_enlarges() {
    let clip = Clip::new().video(h264().size(640, 360).frames(75)).audio(audio("aac").seconds(3.0));
    let Some(source) = clip.make("sd.mp4") else { return };
    let Some((output, _folder)) = hls(&source, Segments::Ts, &[]) else { return };
    let heights: Vec<u64> = output.variants.iter().filter_map(|v| v.resolution.map(|r| r.height)).collect();
    assert_eq!(heights[0], 360, "{heights:?}");
    assert!(heights.len() > 1 && heights.windows(2).all(|w| w[1] < w[0]), "{heights:?}");
    assert_eq!(output.renditions[0].name, "360p");
}

#[test]
fn the_first_picture_stands_at_ten_seconds_in_mpeg_ts_and_at_nought_in_fmp4() {
    for start_ms in [0, 1400, 3_600_000] {
        let clip = Clip::new()
            .video(h264().frames(75).bframes(2))
            .audio(audio("aac").seconds(3.0))
            .start_ms(start_ms);
        let Some(source) = clip.make("origin.ts") else { return };
        for (segments, origin) in [(Segments::Ts, TS_ORIGIN_90K), (Segments::Fmp4, 0)] {
            let Some((output, _folder)) = hls(&source, segments, &["--rendition", "t:90"]) else { continue };
            let rendition = output.only();
            let first = rendition.pictures(&rendition.segments[0]).0.iter().map(|p| p.pts).min();
            assert_eq!(first, Some(origin), "{segments:?} from a source that starts at {start_ms} ms");
        }
    }
}

#[test]
fn readers_built_on_libav_keep_picture_and_sound_in_step() {
    let Some(source) = ordinary("step.mkv") else { return };
    for segments in [Segments::Ts, Segments::Fmp4] {
        let Some((output, _folder)) = hls(&source, segments, &["--rendition", "t:90"]) else { continue };
        let whole = output.only().whole();
        let stream = probe::stream(&whole, "video");
        let (num, den) = probe::fraction(&stream["time_base"]);
        let first = probe::packets(&whole, "v:0").iter().map(|p| p.pts).min().expect("a picture");
        let start_s = (first * num) as f64 / den as f64;
        let origin_s = if segments == Segments::Ts { 10.0 } else { 0.0 };
        assert!(
            (start_s - origin_s).abs() < 0.001,
            "{segments:?}: libav shows the first picture at {start_s} s"
        );
    }
}

#[test]
fn an_init_segment_holds_no_pictures_and_the_segments_no_headers() {
    let Some(source) = ordinary("boxes.mkv") else { return };
    let Some((output, _folder)) = hls(&source, Segments::Fmp4, &["--rendition", "t:90"]) else { return };
    let kinds = |path: &std::path::Path| -> Vec<String> {
        let bytes = std::fs::read(path).expect("a file");
        damage::top_boxes(&bytes)
            .iter()
            .map(|(kind, ..)| String::from_utf8_lossy(kind).into_owned())
            .collect()
    };
    assert_eq!(kinds(&output.only().playlist.with_file_name("init.mp4")), ["ftyp", "moov"]);
    for segment in &output.only().segments {
        let found = kinds(&segment.path);
        let body: Vec<&str> = found.iter().map(String::as_str).filter(|k| *k != "styp").collect();
        assert!(body.chunks(2).all(|pair| pair == ["moof", "mdat"]), "{found:?}");
    }
}

/// Samples from title time 0 on: those of the source, within one codec frame.
#[track_caller]
fn sound_is_complete(rate: u32, segments: Segments) {
    let clip = Clip::new().video(h264()).audio(audio("pcm_s16le").rate(rate));
    let Some(source) = clip.make("sound.mov") else { return };
    let more = ["--rendition", "t:90", "--segment-duration", "2"];
    let Some((output, _folder)) = hls(&source, segments, &more) else { return };
    let stream = probe::stream(&output.only().whole(), "audio");
    assert_eq!(stream["sample_rate"], rate.to_string(), "the rate of the source stays");
    let (samples, expected) = (output.only().sound_samples(), i64::from(rate) * 8);
    assert!((samples - expected).abs() <= 1024, "{samples} of {expected} samples");
}

#[test]
fn sound_of_48_khz_is_complete_and_without_a_hole_in_mpeg_ts() {
    sound_is_complete(48_000, Segments::Ts);
}

#[test]
fn sound_of_44_1_khz_is_complete_and_without_a_hole_in_mpeg_ts() {
    sound_is_complete(44_100, Segments::Ts);
}

#[test]
fn sound_of_48_khz_is_complete_and_without_a_hole_in_fmp4() {
    sound_is_complete(48_000, Segments::Fmp4);
}

#[test]
fn sound_of_44_1_khz_is_complete_and_without_a_hole_in_fmp4() {
    sound_is_complete(44_100, Segments::Fmp4);
}

/// The decoded sine against the ideal one. The encoder's own error is that of a shift by one or two
/// samples; a shift by four (0.08 ms) or a click at a join would be seen.
#[test]
fn sound_stays_in_step_with_the_source_through_every_join() {
    let clip = Clip::new().video(h264()).audio(audio("pcm_s16le"));
    let Some(source) = clip.make("step.mov") else { return };
    let more = ["--rendition", "t:90", "--segment-duration", "2", "--audio-bitrate", "192000"];
    let Some((output, _folder)) = hls(&source, Segments::Ts, &more) else { return };
    let left = output.only().left_channel();
    let ideal = |n: usize| 0.4 * (std::f64::consts::TAU * 440.0 * n as f64 / 48_000.0).sin();
    let error = |start: usize, lag: usize| {
        let square = |n: usize| (left[n + lag] - ideal(n + 8)).powi(2);
        ((start..start + 1024).map(square).sum::<f64>() / 1024.0).sqrt()
    };
    let blocks = || (2048..380_000).step_by(1024);
    let mean = |lag: usize| blocks().map(|start| error(start, lag)).sum::<f64>();
    let best = (0..=16).min_by(|a, b| mean(*a).total_cmp(&mean(*b)));
    assert!(best.is_some_and(|lag| lag.abs_diff(8) <= 1), "the sound is {best:?} - 8 samples late");
    let worst =
        blocks().map(|start| (error(start, 8), start)).max_by(|a, b| a.0.total_cmp(&b.0)).expect("blocks");
    assert!(worst.0 < 0.06, "error {} at {} s", worst.0, worst.1 as f64 / 48_000.0);
}

/// White pictures and tones begin together at each second of the source: where are they in the output?
#[test]
fn each_picture_and_each_tone_keep_their_place() {
    let clip =
        Clip::new().video(h264().bframes(2).flashing()).audio(audio("pcm_s16le").beeping().frequency(1000));
    for (name, start_ms) in [("flash.mkv", 0), ("flash.mkv", 5000), ("flash.mov", 0)] {
        let Some(source) = clip.clone().start_ms(start_ms).make(name) else { return };
        let more = ["--rendition", "t:90", "--segment-duration", "2"];
        for segments in [Segments::Fmp4, Segments::Ts] {
            let Some((output, _folder)) = hls(&source, segments, &more) else { continue };
            let bright = probe::brightness(&output.only().whole());
            let flashes: Vec<usize> = (0..bright.len()).filter(|n| bright[*n] > 128).collect();
            assert_eq!(flashes, [0, 25, 50, 75, 100, 125, 150, 175], "{name} {segments:?}");
            if segments == Segments::Ts {
                beeps_each_second(&output.only().left_channel());
            }
        }
    }
}

#[track_caller]
fn beeps_each_second(left: &[f64]) {
    for second in 1..8 {
        let around = second * 48_000 - 2400;
        let onset = (0..4800).find(|n| left[around + n].abs() > 0.2).expect("a tone") as i64 - 2400;
        // Transform coding smears an onset by up to a quarter of a block of 1024 samples.
        assert!(onset.abs() <= 256, "the tone of second {second} is {onset} samples late");
    }
}

#[test]
fn sound_alone_becomes_a_stream_of_its_own() {
    let Some(m4a) = Clip::new().audio(audio("aac")).make("alone.m4a") else { return };
    let covered = damage::with_cover_m4a(&m4a, "alone-cover.m4a");
    for source in [m4a, covered] {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let out = folder.path().join("out");
        transcode(&source, &out, &["--format", "hls"]).ok();
        let output = Hls::open(&out);
        assert!(!probe::has(&output.only().whole(), "video"), "cover art is not a video");
        assert!((output.only().seconds() - 8.0).abs() <= 1024.0 / 48_000.0, "{} s", output.only().seconds());
        let samples = output.only().sound_samples();
        assert!((samples - 384_000).abs() <= 1024, "{samples} samples");
        assert_eq!(output.variants[0].codecs.as_deref(), Some("mp4a.40.2"));
        assert!(output.variants[0].resolution.is_none() && output.variants[0].frame_rate.is_none());
        assert_eq!(probe::complaints(&output.only().playlist), "");
    }
}

#[test]
fn a_picture_alone_has_no_sound_in_its_codecs() {
    let Some(source) = Clip::new().video(h264()).make("silent.mp4") else { return };
    for segments in [Segments::Ts, Segments::Fmp4] {
        let Some((output, _folder)) = hls(&source, segments, &["--rendition", "t:90"]) else { continue };
        assert_eq!(output.only().check_all((25, 1)), 200);
        assert!(!probe::has(&output.only().whole(), "audio"));
        assert!(!output.variants[0].codecs.as_deref().unwrap_or("").contains(','));
    }
}

#[test]
fn codecs_beyond_h264_go_out_as_fmp4() {
    let table = [("hevc", "libx265", "hvc1."), ("av1", "libsvtav1", "av01."), ("vp9", "libvpx-vp9", "vp09.")];
    let Some(source) =
        Clip::new().video(h264().frames(75)).audio(audio("aac").seconds(3.0)).make("beyond.mkv")
    else {
        return;
    };
    for (codec, encoder, fourcc) in table {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let out = folder.path().join("out");
        let quick = if codec == "hevc" { &["--preset", "superfast"][..] } else { &[] };
        let asked =
            ["--format", "hls", "--segment-type", "fmp4", "--video-codec", codec, "--rendition", "t:90"];
        let outcome = transcode(&source, &out, &[&asked[..], quick].concat());
        if !support::usable(encoder) {
            outcome.failed(1, "no_encoder", codec);
            continue;
        }
        outcome.ok();
        let output = Hls::open(&out);
        assert_eq!(output.only().check_all((25, 1)), 75, "{codec}");
        assert_eq!(probe::stream(&output.only().whole(), "video")["codec_name"], codec);
        assert!(
            output.variants[0].codecs.as_deref().unwrap_or("").starts_with(fourcc),
            "{}",
            output.master_text
        );
        let tag = probe::stream(&output.only().whole(), "video")["codec_tag_string"].clone();
        assert_eq!(tag, fourcc.trim_end_matches('.'));
    }
}

#[test]
fn the_clips_of_this_file_can_be_made() {
    assert!(clips::has_encoder("flac") && clips::has_encoder("pcm_s16le"));
}
