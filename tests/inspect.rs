//! What `media::inspect` finds, against what the clips were made to be and what `ffprobe` reads in them.

mod support;

use sprocket::av::log::RunLog;
use sprocket::base::cancel::Cancel;
use sprocket::base::error::{ErrorKind, Result};
use sprocket::base::time::Rational;
use sprocket::media::inspect;
use sprocket::model::source::{AudioFacts, SourceFacts, VideoFacts};
use std::fs;
use std::path::Path;
use std::time::Duration;
use support::clips::{Clip, Video, audio, h264, video};
use support::{damage, probe};

/// Above this a file is not read through.
const LARGE_BYTES: u64 = 32 << 20;
const ONE_MS: Rational = Rational::new(1, 1000);
const ONE_TICK: Rational = Rational::TB_90K;

fn look(path: &Path) -> Result<SourceFacts> {
    inspect::inspect(path, &Cancel::new(), &RunLog::new(), Duration::from_secs(15))
}

#[track_caller]
fn facts(path: &Path) -> SourceFacts {
    look(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

#[track_caller]
fn picture(facts: &SourceFacts) -> &VideoFacts {
    facts.video.as_ref().expect("a picture")
}

#[track_caller]
fn sound(facts: &SourceFacts) -> &AudioFacts {
    facts.audio.as_ref().expect("sound")
}

fn whole(n: i64) -> Rational {
    Rational::from_int(n)
}

#[track_caller]
fn near(a: Rational, b: Rational, slack: Rational) {
    assert!((a - b).abs() <= slack, "{a} is not {b} ({:.6} and {:.6})", a.to_f64(), b.to_f64());
}

/// When the first packet of a stream begins, in seconds, by `ffprobe`. What the clip was asked to be
/// says it less well: some muxers delay by a frame or by some milliseconds of their own.
#[track_caller]
fn first_pts(path: &Path, select: &str, time_base: Rational) -> Rational {
    let first = probe::packets(path, select).iter().map(|p| p.pts).min().expect("packets");
    whole(first) * time_base
}

/// When the last packet of a stream begins, in seconds, by `ffprobe`.
#[track_caller]
fn last_pts(path: &Path, select: &str, time_base: Rational) -> Rational {
    let last = probe::packets(path, select).iter().map(|p| p.pts).max().expect("packets");
    whole(last) * time_base
}

#[test]
fn each_standard_rate_is_exact_in_each_container() {
    for (num, den) in
        [(24_000, 1001), (24, 1), (25, 1), (30_000, 1001), (30, 1), (50, 1), (60_000, 1001), (60, 1)]
    {
        let rate = Rational::new(i64::from(num), i64::from(den));
        for name in ["rate.mp4", "rate.mkv", "rate.ts"] {
            let picture_track = h264().rate(num, den).frames(240).bframes(2);
            let Some(path) = Clip::new().video(picture_track).start_ms(1000).make(name) else { return };
            let found = facts(&path);
            let video = picture(&found);
            assert_eq!((video.frame_rate, video.constant_rate), (rate, true), "{name} at {rate}");
            assert_eq!(video.end - video.start, whole(240) / rate, "{name} at {rate}");
            assert_eq!(video.start, first_pts(&path, "v:0", video.time_base), "{name} at {rate}");
            near(video.start, whole(1), whole(2) / rate);
            assert_eq!((found.origin, found.duration), (video.start, whole(240) / rate));
            assert_eq!(found.warnings, Vec::<String>::new());
        }
    }
}

#[test]
fn a_few_frames_are_enough_where_the_container_tells_the_rate() {
    for name in ["short.mp4", "short.mkv", "short.ts"] {
        let Some(path) = Clip::new().video(h264().rate(24_000, 1001).frames(9)).make(name) else { return };
        let found = facts(&path);
        assert_eq!(picture(&found).frame_rate, Rational::new(24_000, 1001), "{name}");
        assert_eq!(found.duration, Rational::new(9 * 1001, 24_000), "{name}");
    }
}

#[test]
fn a_variable_rate_is_variable_and_ends_with_its_last_frame() {
    let lengths = [33, 33, 34, 100, 33, 250, 33, 34].repeat(20);
    let total: i64 = lengths.iter().sum();
    for name in ["variable.mp4", "variable.mkv"] {
        let Some(path) = Clip::new().video(h264().lengths_ms(&lengths)).make(name) else { return };
        let found = facts(&path);
        let video = picture(&found);
        assert!(!video.constant_rate, "{name}");
        near(video.frame_rate, whole(30), Rational::new(1, 2));
        near(found.duration, Rational::new(total, 1000), Rational::new(2, 1000));
    }
}

#[test]
fn picture_and_sound_keep_their_own_starts_and_ends() {
    for name in ["both.mp4", "both.mkv", "both.ts"] {
        // Whole packets, so that the last one is full.
        let tone = audio("aac").samples(281 * 1024);
        let clip = Clip::new().video(h264().frames(200)).audio(tone).start_ms(2500);
        let Some(path) = clip.make(name) else { return };
        let found = facts(&path);
        let (video, sound) = (picture(&found), sound(&found));
        assert_eq!(video.start, first_pts(&path, "v:0", video.time_base), "{name}");
        assert_eq!(video.end - video.start, whole(8), "{name}");
        // From FFmpeg 8 on the MP4 demuxer also gives the packet of encoder delay, which nobody hears.
        let first = first_pts(&path, "a:0", sound.time_base);
        let delay = if sound.start - first > ONE_MS { Rational::new(1024, 48_000) } else { Rational::ZERO };
        near(sound.start, first + delay, ONE_MS);
        near(sound.start, Rational::new(5, 2), Rational::new(1, 40));
        let last = last_pts(&path, "a:0", sound.time_base);
        near(sound.end, last + Rational::new(1024, 48_000), ONE_MS);
        assert_eq!((found.origin, found.duration), (video.start, whole(8)), "{name}");
        assert_eq!((sound.channels, sound.sample_rate, sound.codec.as_str()), (2, 48_000, "aac"));
    }
}

#[test]
fn sound_that_lasts_longer_makes_the_title_longer() {
    let clip = Clip::new().video(h264().frames(100)).audio(audio("ac3").seconds(6.0));
    let Some(path) = clip.make("long-sound.mkv") else { return };
    let found = facts(&path);
    assert_eq!(picture(&found).end - picture(&found).start, whole(4));
    near(found.duration, sound(&found).end - found.origin, Rational::ZERO);
    near(found.duration, whole(6), Rational::new(1536, 48_000));
}

#[test]
fn sound_alone_is_a_title_too() {
    for (encoder, name) in
        [("aac", "tone.m4a"), ("flac", "tone.flac"), ("pcm_s16le", "tone.wav"), ("aac", "tone.aac")]
    {
        let Some(path) = Clip::new().audio(audio(encoder).seconds(3.0)).make(name) else { continue };
        let found = facts(&path);
        assert!(found.video.is_none(), "{name}");
        assert_eq!(found.origin, sound(&found).start, "{name}");
        // Bare AAC cannot tell its priming and its padding from sound.
        let slack = if name == "tone.aac" { Rational::new(2 * 1024, 48_000) } else { Rational::ZERO };
        near(found.duration, whole(3), slack);
    }
}

#[test]
fn a_bare_stream_has_a_length() {
    let Some(path) = Clip::new().video(h264().frames(75)).make("bare.h264") else { return };
    let found = facts(&path);
    assert_eq!((picture(&found).frame_rate, found.origin, found.duration), (whole(25), whole(0), whole(3)));
}

#[test]
fn avi_has_decode_times_alone() {
    let Some(path) = Clip::new().video(video("mpeg4").rate(30_000, 1001).frames(90)).make("old.avi") else {
        return;
    };
    let found = facts(&path);
    assert_eq!(picture(&found).frame_rate, Rational::new(30_000, 1001));
    assert_eq!((picture(&found).constant_rate, found.duration), (true, Rational::new(3003, 1000)));
}

#[test]
fn the_index_counts_frames_and_key_frames() {
    for (name, frames) in [("index.mp4", Some(200)), ("index.mkv", None), ("index.ts", None)] {
        let Some(path) = Clip::new().video(h264().frames(200).gop(50)).make(name) else { return };
        let found = facts(&path);
        assert_eq!(picture(&found).frame_count, frames, "{name}");
        assert_eq!(picture(&found).key_frames, (name != "index.ts").then_some(4), "{name}");
    }
}

#[test]
fn what_is_not_handled_is_said() {
    let hdr =
        ["color_primaries", "color_trc", "colorspace"].into_iter().zip(["bt2020", "smpte2084", "bt2020nc"]);
    let hdr = hdr.fold(h264().frames(10), |v, (key, value)| v.option(key, value));
    let Some(path) = Clip::new().video(hdr).make("hdr.mkv") else { return };
    let found = facts(&path);
    assert_eq!((picture(&found).dynamic_range, picture(&found).colour.transfer), ("pq", 16));
    assert_eq!(found.warnings, ["HDR is not tone-mapped yet: colours will look washed out on an SDR screen"]);
}

#[test]
fn a_picture_to_be_turned_is_told() {
    let Some(good) = Clip::new().video(h264().frames(10)).make("upright.mp4") else { return };
    let mut bytes = fs::read(&good).expect("a clip");
    // The matrix of the track (ISO/IEC 14496-12, 8.3.2), in 16.16 and 2.30: a quarter turn clockwise.
    let words = |matrix: [u32; 9]| matrix.map(u32::to_be_bytes).concat();
    let upright = words([0x1_0000, 0, 0, 0, 0x1_0000, 0, 0, 0, 0x4000_0000]);
    let turned = words([0, 0x1_0000, 0, 0xFFFF_0000, 0, 0, 0, 0, 0x4000_0000]);
    let track = damage::find(&bytes, b"tkhd").expect("a track header");
    let matrix = track + damage::find(&bytes[track..], &upright).expect("its matrix");
    bytes[matrix..matrix + turned.len()].copy_from_slice(&turned);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("turned.mp4");
    fs::write(&path, bytes).expect("a small file");
    let found = facts(&path);
    assert_eq!((picture(&found).rotation_degrees, picture(&found).width), (90, 160));
    let told = "the picture is not rotated yet: it should be turned by 90 degrees and will not be";
    assert_eq!(found.warnings, [told]);
}

#[test]
fn a_file_that_was_cut_off_ends_where_its_data_ends() {
    let film = || Clip::new().video(h264().size(320, 180).frames(500)).audio(audio("aac").seconds(20.0));
    for name in ["cut.mkv", "cut.mp4", "cut.flv"] {
        let Some(good) = film().mux_option("movflags", "+faststart").make(name) else { return };
        let bad = damage::cut(&good, &format!("bad-{name}"), 60);
        let found = facts(&bad);
        let video = picture(&found);
        near(video.end, last_pts(&bad, "v:0", video.time_base) + Rational::new(1, 25), ONE_MS);
        assert!(found.duration < whole(16) && found.duration > whole(8), "{name}: {}", found.duration);
        let warning = found.warnings.first().expect("a warning");
        assert!(warning.starts_with("the file ends early: its header says 0:00:20."), "{warning}");
    }
}

#[test]
fn what_holds_no_film_is_refused_or_told() {
    let Some(song) = Clip::new().audio(audio("aac").seconds(1.0)).make("song.m4a") else { return };
    let found = facts(&damage::with_cover_m4a(&song, "song-cover.m4a"));
    assert!(found.video.is_none() && found.audio.is_some());
    assert!(found.streams.iter().any(|s| s.kind == "cover" && s.codec == "png"));
    let Some(good) = Clip::new().video(h264().frames(30)).make("good.mkv") else { return };
    let unknown = facts(&damage::with_unknown_codec(&good, "nobody.mkv"));
    assert_eq!(picture(&unknown).width, 160);
    assert!(!unknown.streams[0].decodable && unknown.warnings[0].contains("cannot decode"));
}

#[test]
fn subtitles_alone_are_no_film() {
    let Some(path) = damage::subtitles_only() else { return };
    let refused = look(&path).expect_err("nothing to show or to hear");
    assert_eq!((refused.kind(), refused.code()), (ErrorKind::BadSource, "no_streams"));
}

#[test]
fn a_cancel_ends_it() {
    let Some(path) = Clip::new().video(h264().frames(30)).make("cancel.mkv") else { return };
    let cancel = Cancel::new();
    cancel.cancel();
    let answer = inspect::inspect(&path, &cancel, &RunLog::new(), Duration::from_secs(15));
    assert_eq!(answer.expect_err("cancelled").kind(), ErrorKind::Cancelled);
}

// ---- large files: only their ends are read ----------------------------------------------------------

/// 71 s of uncompressed pictures, 36 MB.
fn large_picture() -> Video {
    video("rawvideo").rate(24_000, 1001).frames(1700)
}

#[track_caller]
fn assert_large(path: &Path) {
    let size = fs::metadata(path).expect("a clip").len();
    assert!(size > LARGE_BYTES, "{size} bytes are read through");
}

#[test]
fn a_large_matroska_file_with_and_without_an_index() {
    for (name, live) in [("large.mkv", "0"), ("large-live.mkv", "1")] {
        let clip = Clip::new().video(large_picture()).mux_option("live", live);
        let Some(path) = clip.make(name) else { return };
        assert_large(&path);
        let found = facts(&path);
        assert_eq!(picture(&found).frame_rate, Rational::new(24_000, 1001));
        assert_eq!(found.duration, Rational::new(1700 * 1001, 24_000), "{name}");
        assert_eq!(picture(&found).key_frames.is_some(), live == "0");
        assert_eq!(found.warnings, Vec::<String>::new());
        let cut = damage::cut(&path, &format!("cut-{name}"), 95);
        assert_large(&cut);
        let found = facts(&cut);
        let last = last_pts(&cut, "v:0", ONE_MS);
        near(picture(&found).end, last + Rational::new(1001, 24_000), ONE_MS);
        assert_eq!(found.warnings.len(), usize::from(live == "0"), "{:?}", found.warnings);
    }
}

#[test]
fn a_large_transport_stream() {
    let clip = Clip::new().video(h264().frames(500).rate(30_000, 1001)).audio(audio("aac").seconds(16.0));
    // Null packets make it large.
    let Some(path) = clip.mux_option("muxrate", "24000000").start_ms(90_000).make("large.ts") else { return };
    assert_large(&path);
    let found = facts(&path);
    assert_eq!(found.duration, Rational::new(500 * 1001, 30_000));
    assert_eq!(found.origin, first_pts(&path, "v:0", ONE_TICK));
    near(found.origin, whole(90), Rational::new(1, 50));
    let sound = sound(&found);
    near(sound.end, last_pts(&path, "a:0", ONE_TICK) + Rational::new(1024, 48_000), ONE_TICK);
}

#[test]
fn a_large_mov_and_its_first_half() {
    let clip = Clip::new().audio(audio("pcm_s16le").seconds(400.0)).mux_option("movflags", "+faststart");
    let Some(path) = clip.make("large.mov") else { return };
    assert_large(&path);
    let found = facts(&path);
    assert_eq!((found.origin, found.duration), (whole(0), whole(400)));
    let cut = damage::cut(&path, "half.mov", 50);
    assert_large(&cut);
    let found = facts(&cut);
    near(found.duration, whole(200), Rational::new(1, 4));
    assert_eq!(found.warnings.len(), 1, "{:?}", found.warnings);
}
