//! Words in, wishes out.

use super::*;
use clap::Parser;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: TranscodeArgs,
}

fn parse(words: &str) -> TranscodeArgs {
    let words = std::iter::once("transcode").chain(words.split(' '));
    Line::try_parse_from(words).unwrap_or_else(|e| panic!("{e}")).args
}

fn facts() -> SourceFacts {
    SourceFacts {
        container: "mov".into(),
        size_bytes: 1,
        origin: Rational::ZERO,
        duration: Rational::from_int(60),
        video: None,
        audio: None,
        streams: Vec::new(),
        warnings: Vec::new(),
    }
}

#[test]
fn bit_rates_as_people_write_them() {
    for (text, bits) in [
        ("3000000", 3_000_000),
        ("3M", 3_000_000),
        ("800k", 800_000),
        ("2.5M", 2_500_000),
        ("1.5K", 1500),
        ("64k", 64_000),
    ] {
        assert_eq!(bitrate(text), Ok(bits), "{text}");
    }
    for bad in ["", "M", "0", "-1", "3 M", "3MB", "1e6", "0.5", "3.M", ".5M", "9999999999999", "0x10", "١"] {
        assert!(bitrate(bad).unwrap_err().contains("3000000, 3M or 800k"), "{bad}");
    }
}

#[test]
fn times_are_exact_in_every_spelling() {
    for (text, num, den) in [
        ("0", 0, 1),
        ("12.5", 25, 2),
        ("0.001", 1, 1000),
        ("90", 90, 1),
        ("1:30", 90, 1),
        ("90:00", 5400, 1),
        ("1:02:03.25", 14_893, 4),
        ("23.976023976", 23_976_023_976, 1_000_000_000),
    ] {
        assert_eq!(seconds(text), Ok(Rational::new(num, den)), "{text}");
    }
    for bad in
        ["", ":", "-1", "1:60", "1:60:00", "1:2:3:4", "1.5:00", "x", "1s", "1.", "NaN", "inf", "1.0000000001"]
    {
        assert!(seconds(bad).is_err(), "{bad}");
    }
}

#[test]
fn renditions_have_a_name_a_height_and_maybe_a_bit_rate() {
    let wish = |name: &str, height, bitrate_bps| RenditionWish {
        rate: RateWish { crf: None, bitrate_bps },
        ..RenditionWish::new(name, height)
    };
    assert_eq!(rendition("hd:720:3M"), Ok(wish("hd", 720, Some(3_000_000))));
    assert_eq!(rendition("480p:480"), Ok(wish("480p", 480, None)));
    for (bad, told) in [
        ("720p", "NAME:HEIGHT"),
        ("a:b", "\"b\" is not a height"),
        ("a:1:x", "a bit rate is"),
        ("a:-1", "height"),
    ] {
        let what = rendition(bad).unwrap_err();
        assert!(what.contains(told), "{what}");
    }
}

#[test]
fn the_extension_says_the_format_unless_a_word_does() {
    for (words, format) in [
        ("a -o film", Format::Hls(SegmentType::Ts)),
        ("a -o film.d", Format::Hls(SegmentType::Ts)),
        ("a -o x/film.MP4", Format::Mp4),
        ("a -o film.m4v", Format::Mp4),
        ("a -o film.mov", Format::Mp4),
        ("a -o film.mkv", Format::Mkv),
        ("a -o film.webm", Format::Mkv),
        ("a -o film.ts", Format::Ts),
        ("a -o film.ts --format mp4", Format::Mp4),
        ("a -o film.mp4 --format hls", Format::Hls(SegmentType::Ts)),
        ("a -o film --segment-type fmp4", Format::Hls(SegmentType::Fmp4)),
    ] {
        let args = parse(words);
        assert_eq!(args.check(), Ok(()), "{words}");
        assert_eq!(args.wish(&facts()).format, format, "{words}");
    }
}

#[test]
fn segments_are_ts_unless_a_codec_wants_fmp4() {
    let kind = |words: &str, video: Option<&str>| {
        let mut facts = facts();
        facts.video = video.map(picture);
        parse(&format!("a -o film {words}")).wish(&facts).format
    };
    let (ts, fmp4) = (Format::Hls(SegmentType::Ts), Format::Hls(SegmentType::Fmp4));
    assert_eq!(kind("--video-codec hevc", None), fmp4);
    assert_eq!(kind("--video-codec av1", None), fmp4);
    assert_eq!(kind("--video-codec vp9", None), fmp4);
    assert_eq!(kind("--audio-codec opus", None), fmp4);
    assert_eq!(kind("--audio-codec eac3", Some("hevc")), ts, "it is encoded to H.264");
    assert_eq!(kind("--video-codec copy", Some("h264")), ts);
    assert_eq!(kind("--video-codec copy", Some("hevc")), fmp4);
    assert_eq!(kind("--video-codec hevc --segment-type ts", None), ts, "as asked");
}

fn picture(codec: &str) -> crate::model::source::VideoFacts {
    let one = Rational::from_int(1);
    crate::model::source::VideoFacts {
        stream: 0,
        codec: codec.into(),
        width: 16,
        height: 16,
        sample_aspect_ratio: one,
        frame_rate: one,
        constant_rate: true,
        pixel_format: "yuv420p".into(),
        bit_depth: 8,
        colour: crate::model::track::Colour { primaries: 1, transfer: 1, matrix: 1, full_range: false },
        dynamic_range: "sdr",
        interlaced: false,
        rotation_degrees: 0,
        time_base: one,
        start: Rational::ZERO,
        end: one,
        frame_count: None,
        key_frames: None,
        bitrate_bps: None,
    }
}

#[test]
fn every_word_of_the_contract_reaches_the_wish() {
    let args = parse(
        "in.mkv -o out --format hls --segment-type fmp4 --segment-duration 2.002 --rendition a:720:3M --rendition b:360 \
         --video-codec hevc --crf 21.5 --bitrate 2M --preset fast --audio-codec ac3 --audio-bitrate 192k --channels 6 \
         --hardware forbid --start 1:00 --end 90.5 --progress json --overwrite",
    );
    let rate = |bitrate_bps| RateWish { crf: None, bitrate_bps };
    let expected = Wish {
        format: Format::Hls(SegmentType::Fmp4),
        segment_seconds: Rational::new(1001, 500),
        renditions: vec![
            RenditionWish { rate: rate(Some(3_000_000)), ..RenditionWish::new("a", 720) },
            RenditionWish::new("b", 360),
        ],
        video: VideoChoice::Encode(VideoCodec::Hevc),
        rate: RateWish { crf: Some(21.5), bitrate_bps: Some(2_000_000) },
        preset: Some("fast".into()),
        max_fps: None,
        audio: AudioChoice::Encode(AudioCodec::Ac3),
        audio_bitrate_bps: Some(192_000),
        channels: 6,
        start: Rational::from_int(60),
        end: Some(Rational::new(181, 2)),
    };
    assert_eq!(args.wish(&facts()), expected);
    assert!(args.overwrite && args.progress == ProgressWord::Json);
    assert_eq!(parse("a -o b").wish(&facts()), Wish::default(), "without words it is the default");
}

#[test]
fn words_that_contradict_each_other_are_refused_at_once() {
    for words in ["a -o b.mp4 --segment-type ts", "a -o film/master.m3u8"] {
        assert_eq!(parse(words).check().unwrap_err().kind(), ErrorKind::Usage, "{words}");
    }
}
