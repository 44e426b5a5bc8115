//! Any ordinary source: containers, codecs, odd sizes, late starts, tracks of unequal length, damage.

mod support;

use std::path::{Path, PathBuf};
use support::clips::{Audio, Clip, Video, audio, h264, video};
use support::hls::Hls;
use support::run::{Outcome, transcode};
use support::{Segments, damage, h264_encoder, probe};
use tempfile::TempDir;

/// One small rendition as HLS, in MPEG-TS where the picture can go there.
#[track_caller]
fn to_hls(source: &Path) -> Option<(Outcome, Hls, TempDir)> {
    let segments = if h264_encoder().is_some() { Segments::Ts } else { Segments::Fmp4 };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let out = folder.path().join("out");
    let outcome =
        transcode(source, &out, &[&segments.options()?[..], &["--rendition", "t:90"]].concat()).ok();
    Some((outcome, Hls::open(&out), folder))
}

/// The picture is complete (`frames` of it, at most one more where the sound runs on), the sound fills
/// the title, and no decoder complains.
#[track_caller]
fn goes_through(source: &Path, rate: (i64, i64), frames: u64, with_sound: bool) {
    let Some((_, output, _folder)) = to_hls(source) else { return };
    let rendition = output.only();
    let found = rendition.check_all(rate);
    assert!((frames..=frames + 1).contains(&found), "{found} frames of {frames} of {}", source.display());
    assert_eq!(probe::has(&rendition.whole(), "audio"), with_sound);
    if with_sound {
        let stream = probe::stream(&rendition.whole(), "audio");
        let hertz: f64 = stream["sample_rate"].as_str().and_then(|r| r.parse().ok()).expect("a sample rate");
        let (samples, title) = (rendition.sound_samples(), (rendition.seconds() * hertz).round() as i64);
        assert!((samples - title).abs() <= 1024, "{samples} samples in a title of {title}");
        assert_eq!(stream["channels"], 2, "stereo by default");
    }
}

fn short(picture: Video) -> Video {
    picture.frames(100)
}

fn sound(encoder: &'static str) -> Audio {
    audio(encoder).seconds(4.0)
}

macro_rules! source {
    ($($name:ident: $file:literal, $picture:expr, $sound:expr;)*) => { $(
        #[test]
        fn $name() {
            let Some(path) = Clip::new().video($picture).audio($sound).make($file) else { return };
            goes_through(&path, (25, 1), 100, true);
        }
    )* };
}

source! {
    h264_and_aac_in_mp4: "s.mp4", short(h264().bframes(2)), sound("aac");
    h264_and_ac3_in_mkv: "s.mkv", short(h264().bframes(2)), sound("ac3");
    h264_and_aac_in_ts: "s.ts", short(h264().bframes(2)), sound("aac");
    h264_and_pcm_in_mov: "s.mov", short(h264()), sound("pcm_s16le");
    h264_of_10_bits_and_flac_in_mkv: "s.mkv", short(h264().pixel_format("yuv420p10le")), sound("flac");
    h264_of_4_4_4_in_mkv: "s.mkv", short(h264().pixel_format("yuv444p")), sound("aac");
    hevc_and_eac3_in_mp4: "s.mp4", short(video("libx265").bframes(2)), sound("eac3");
    hevc_of_10_bits_and_aac_in_mkv: "s.mkv", short(video("libx265").pixel_format("yuv420p10le")), sound("aac");
    vp9_and_opus_in_webm: "s.webm", short(video("libvpx-vp9")), sound("libopus");
    av1_and_opus_in_mkv: "s.mkv", short(video("libsvtav1")), sound("libopus");
    av1_and_aac_in_mp4: "s.mp4", short(video("libsvtav1")), sound("aac");
    mpeg2_and_mp3_in_ts: "s.ts", short(video("mpeg2video").bframes(2)), sound("libmp3lame");
    mpeg2_and_ac3_in_mkv: "s.mkv", short(video("mpeg2video").bframes(2)), sound("ac3");
    mpeg4_and_mp3_in_avi: "s.avi", short(video("mpeg4")), sound("libmp3lame");
    mpeg4_and_pcm_in_avi: "s.avi", short(video("mpeg4")), sound("pcm_s16le");
    an_odd_size_in_mkv: "s.mkv", short(video("mpeg4").size(321, 181)), sound("aac");
    an_odd_size_in_webm: "s.webm", short(video("libvpx-vp9").size(321, 181)), sound("libopus");
    six_channels: "s.mkv", short(h264()), sound("ac3").layout("5.1");
    one_channel: "s.mp4", short(h264()), sound("aac").layout("mono");
    sound_of_32_khz: "s.mkv", short(h264()), sound("flac").rate(32_000);
    sound_of_22_05_khz: "s.mkv", short(h264()), sound("flac").rate(22_050);
    one_key_frame_in_all: "s.mkv", short(h264().bframes(3).gop(250)), sound("aac");
    open_gops: "s.mkv", short(h264().bframes(3).gop(30).open_gop()), sound("aac");
}

#[test]
fn a_start_that_is_not_nought_is_title_time_nought() {
    for (name, start_ms) in [("late.ts", 1400), ("later.ts", 3_600_000), ("late.mkv", 5000)] {
        let clip = Clip::new().video(short(h264().bframes(2))).audio(sound("aac")).start_ms(start_ms);
        let Some(path) = clip.make(name) else { return };
        goes_through(&path, (25, 1), 100, true);
    }
}

#[test]
fn sound_that_runs_on_keeps_its_end() {
    let Some(path) =
        Clip::new().video(short(h264())).audio(audio("flac").seconds(5.0)).make("long-sound.mkv")
    else {
        return;
    };
    goes_through(&path, (25, 1), 125, true);
}

#[test]
fn sound_that_ends_early_does_not_shorten_the_picture() {
    let Some(path) =
        Clip::new().video(short(h264())).audio(audio("flac").seconds(3.0)).make("short-sound.mkv")
    else {
        return;
    };
    let Some((_, output, _folder)) = to_hls(&path) else { return };
    assert_eq!(output.only().check_all((25, 1)), 100);
    assert!(output.only().sound_samples() >= 144_000 - 1024);
}

#[test]
fn a_picture_without_sound() {
    let Some(path) = Clip::new().video(short(h264().bframes(2))).make("silent.mkv") else { return };
    goes_through(&path, (25, 1), 100, false);
}

#[test]
fn a_source_above_60_frames_keeps_every_second_one() {
    let Some(path) = Clip::new().video(h264().rate(120, 1).frames(480)).audio(sound("flac")).make("fast.mkv")
    else {
        return;
    };
    goes_through(&path, (60, 1), 240, true);
}

#[test]
fn a_picture_is_not_stretched() {
    let Some(path) = Clip::new().video(short(video("mpeg4").size(321, 181))).make("shape.mkv") else {
        return;
    };
    let Some((_, output, _folder)) = to_hls(&path) else { return };
    let size = output.variants[0].resolution.expect("RESOLUTION");
    assert_eq!((size.width, size.height), (160, 90));
}

// ---- damage -----------------------------------------------------------------------------------------

#[track_caller]
fn eight_seconds(name: &str) -> Option<PathBuf> {
    support::ordinary(name)
}

#[track_caller]
fn noise_is_bridged(name: &str) {
    let Some(good) = eight_seconds(name) else { return };
    let noisy = damage::noise_in_the_middle(&good, &format!("noisy-{name}"));
    let Some((outcome, output, _folder)) = to_hls(&noisy) else { return };
    assert!(!outcome.warnings().is_empty(), "damage is reported\n{}", outcome.stderr);
    assert!(outcome.stderr.chars().any(|c| c.is_ascii_digit()), "with a count\n{}", outcome.stderr);
    output.only().check_all((25, 1));
    assert!((output.only().seconds() - 8.0).abs() <= 0.04, "{} s of 8 s", output.only().seconds());
}

#[test]
fn noise_in_the_middle_of_mpeg_ts_is_bridged_and_counted() {
    noise_is_bridged("good.ts");
}

#[test]
fn noise_in_the_middle_of_matroska_is_bridged_and_counted() {
    noise_is_bridged("good.mkv");
}

#[test]
fn noise_in_the_middle_of_mp4_is_bridged_and_counted() {
    noise_is_bridged("good.mp4");
}

#[track_caller]
fn ends_where_its_data_ends(good: Option<PathBuf>, name: &str) {
    let Some(good) = good else { return };
    let cut = damage::cut(&good, name, 50);
    let Some((outcome, output, _folder)) = to_hls(&cut) else { return };
    let early = outcome.warnings().iter().any(|line| line.contains("ends early"));
    assert!(early, "that it ends early is said\n{}", outcome.stderr);
    let frames = output.only().check_all((25, 1));
    let there = probe::packets(&cut, "v:0").len() as u64;
    assert!(frames.abs_diff(there) <= 3, "{frames} frames of {there}");
}

#[test]
fn a_matroska_file_that_is_cut_off_ends_where_its_data_ends() {
    ends_where_its_data_ends(eight_seconds("whole.mkv"), "cut.mkv");
}

#[test]
fn an_mp4_that_is_cut_off_behind_its_index_ends_where_its_data_ends() {
    let clip = Clip::new().video(h264().bframes(2)).audio(audio("aac")).mux_option("movflags", "faststart");
    ends_where_its_data_ends(clip.make("whole.mp4"), "cut.mp4");
}

#[test]
fn a_transport_stream_that_is_cut_off_is_whole_as_far_as_it_goes() {
    let Some(good) = eight_seconds("whole.ts") else { return };
    let cut = damage::cut(&good, "cut.ts", 50);
    let Some((_, output, _folder)) = to_hls(&cut) else { return };
    let frames = output.only().check_all((25, 1));
    let there = probe::packets(&cut, "v:0").len() as u64;
    assert!(frames.abs_diff(there) <= 3, "{frames} frames of {there}");
}
