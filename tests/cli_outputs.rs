//! Single files: MP4, Matroska and MPEG-TS, with every codec that they are promised to hold.

mod support;

use std::path::Path;
use support::clips::{Clip, audio, h264};
use support::hls::{TS_ORIGIN_90K, samples_from};
use support::run::{Outcome, transcode};
use support::{damage, h264_encoder, ordinary, probe, quick_for_ts, usable};

/// The encoder that the program would take for a codec, where it may.
fn encoder_for(codec: &str) -> Option<&'static str> {
    let one = |name: &'static str| usable(name).then_some(name);
    match codec {
        "h264" => h264_encoder(),
        "hevc" => one("libx265"),
        "av1" => one("libsvtav1"),
        "vp9" => one("libvpx-vp9"),
        "opus" => one("libopus"),
        "aac" => one("aac"),
        "ac3" => one("ac3"),
        "eac3" => one("eac3"),
        other => panic!("add {other} here"),
    }
}

#[track_caller]
fn holds(extension: &str, picture: &str, sound: &str) {
    let clip = Clip::new().video(h264().frames(75).bframes(2)).audio(audio("flac").seconds(3.0));
    let Some(source) = clip.make("three-seconds.mkv") else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let out = folder.path().join(format!("out.{extension}"));
    let quick: &[&str] = match encoder_for(picture) {
        Some("libx264" | "libx265") => &["--preset", "superfast"],
        _ => &[],
    };
    let asked = ["--video-codec", picture, "--audio-codec", sound, "--rendition", "t:90"];
    let outcome = transcode(&source, &out, &[&asked[..], quick].concat());
    for codec in [picture, sound] {
        if encoder_for(codec).is_none() {
            outcome.failed(1, "no_encoder", codec);
            assert!(!out.exists());
            return;
        }
    }
    outcome.ok();
    is_right(&out, picture, sound);
}

#[track_caller]
fn is_right(out: &Path, picture: &str, sound: &str) {
    let shown = out.display();
    assert_eq!(probe::stream(out, "video")["codec_name"], picture, "{shown}");
    assert_eq!(probe::stream(out, "audio")["codec_name"], sound, "{shown}");
    assert_eq!(probe::frame_count(out), 75, "{shown}");
    assert_eq!(probe::complaints(out), "", "{shown}");
    let ts = out.extension().is_some_and(|e| e == "ts");
    let origin = if ts { TS_ORIGIN_90K } else { 0 };
    let packets = probe::packets(out, "v:0");
    assert!(packets[0].key, "{shown} begins with a key frame");
    assert_eq!(packets.iter().map(|p| p.pts).min(), Some(origin), "{shown}: the first picture");
    let samples = samples_from(out, origin);
    // The longest codec frame: 1536 samples of AC-3.
    assert!((samples - 144_000).abs() <= 1536, "{shown}: {samples} samples of 144000");
    let bytes = std::fs::read(out).expect("the output");
    if ts {
        assert_eq!(probe::ts_continuity_errors(&bytes), Vec::<String>::new());
    }
    if out.extension().is_some_and(|e| e == "mp4") {
        let at = |kind| damage::top_box(&bytes, kind).expect("a box").0;
        assert!(at(b"moov") < at(b"mdat"), "{shown}: the index comes first");
    }
}

macro_rules! holds {
    ($($name:ident: $extension:literal, $picture:literal, $sound:literal;)*) => { $(
        #[test]
        fn $name() {
            holds($extension, $picture, $sound);
        }
    )* };
}

holds! {
    mp4_holds_h264_and_aac: "mp4", "h264", "aac";
    mp4_holds_hevc_and_ac3: "mp4", "hevc", "ac3";
    mp4_holds_av1_and_opus: "mp4", "av1", "opus";
    mp4_holds_vp9_and_aac: "mp4", "vp9", "aac";
    mp4_holds_h264_and_eac3: "mp4", "h264", "eac3";
    mkv_holds_h264_and_eac3: "mkv", "h264", "eac3";
    mkv_holds_hevc_and_aac: "mkv", "hevc", "aac";
    mkv_holds_av1_and_ac3: "mkv", "av1", "ac3";
    mkv_holds_vp9_and_opus: "mkv", "vp9", "opus";
    ts_holds_h264_and_aac: "ts", "h264", "aac";
    ts_holds_hevc_and_ac3: "ts", "hevc", "ac3";
    ts_holds_h264_and_eac3: "ts", "h264", "eac3";
}

#[test]
fn hevc_in_mp4_has_the_tag_that_apple_plays() {
    let Some(source) = ordinary("hvc1.mkv") else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let out = folder.path().join("out.mp4");
    let outcome =
        transcode(&source, &out, &["--video-codec", "hevc", "--preset", "superfast", "--rendition", "t:90"]);
    if encoder_for("hevc").is_none() {
        return outcome.failed(1, "no_encoder", "hevc");
    }
    outcome.ok();
    assert_eq!(probe::stream(&out, "video")["codec_tag_string"], "hvc1");
}

#[track_caller]
fn refused(out: &str, options: &[&str], names: &str) {
    let Some(source) = ordinary("refused.mkv") else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let out = folder.path().join(out);
    transcode(&source, &out, options).failed(2, "bad_request", names);
    assert!(!out.exists(), "nothing is left");
}

#[test]
fn vp9_in_mpeg_ts_is_refused() {
    refused("out.ts", &["--video-codec", "vp9"], "MPEG-TS");
    refused("out", &["--format", "hls", "--segment-type", "ts", "--video-codec", "vp9"], "MPEG-TS");
}

#[test]
fn av1_in_mpeg_ts_is_refused() {
    refused("out.ts", &["--video-codec", "av1"], "MPEG-TS");
}

#[test]
fn opus_in_mpeg_ts_is_refused() {
    refused("out.ts", &["--audio-codec", "opus"], "Opus");
}

#[test]
fn two_renditions_in_one_file_are_refused() {
    refused("out.mp4", &["--rendition", "a:90", "--rendition", "b:60"], "one rendition");
}

#[test]
fn a_rendition_of_a_copied_picture_is_refused() {
    refused("out.mp4", &["--video-codec", "copy", "--rendition", "a:60"], "copied");
}

#[test]
fn a_rendition_name_cannot_leave_the_output() {
    refused("out", &["--format", "hls", "--rendition", "../evil:90"], "evil");
}

#[test]
fn words_that_are_no_option_are_bad_usage() {
    for words in [&["transcode", "--no-such-option"][..], &["no-such-command"], &["transcode", "in.mkv"]] {
        assert_eq!(support::run::sprocket(words).code, Some(2), "{words:?}");
    }
}

/// A single file with the quickest picture encode.
#[track_caller]
fn quick(source: &Path, out: &Path, more: &[&str]) -> Option<Outcome> {
    Some(transcode(source, out, &[quick_for_ts()?, more].concat()))
}

#[test]
fn the_height_of_the_source_stays_without_a_wish() {
    let Some(source) = ordinary("height.mkv") else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let out = folder.path().join("out.mp4");
    let Some(outcome) = quick(&source, &out, &[]) else { return };
    outcome.ok();
    let video = probe::stream(&out, "video");
    assert_eq!((video["width"].as_u64(), video["height"].as_u64()), (Some(160), Some(90)));
}

#[test]
fn a_part_of_the_source_is_cut_to_the_frame() {
    let clip = Clip::new().video(h264().bframes(2).flashing()).audio(audio("flac"));
    let Some(source) = clip.make("part.mkv") else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let out = folder.path().join("out.mp4");
    let Some(outcome) = quick(&source, &out, &["--start", "2.2", "--end", "5.2"]) else { return };
    outcome.ok();
    assert_eq!(probe::frame_count(&out), 75);
    let bright = probe::brightness(&out);
    let flashes: Vec<usize> = (0..bright.len()).filter(|n| bright[*n] > 128).collect();
    assert_eq!(flashes, [20, 45, 70], "the frames 75, 100 and 125 of the source");
    let samples = samples_from(&out, 0);
    assert!((samples - 144_000).abs() <= 1024, "{samples} samples of 144000");
}

#[test]
fn no_sound_is_no_sound() {
    let Some(source) = ordinary("mute.mkv") else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let out = folder.path().join("out.mp4");
    let Some(outcome) = quick(&source, &out, &["--audio-codec", "none"]) else { return };
    outcome.ok();
    assert!(!probe::has(&out, "audio"));
    assert_eq!(probe::frame_count(&out), 200);
}

#[test]
fn an_encoder_that_is_not_there_is_named_with_the_command_that_installs_it() {
    let Some(source) = ordinary("no-encoder.mkv") else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let out = folder.path().join("out.mp4");
    let mut command = support::run::program();
    command.env("SPROCKET_MASK_ENCODERS", "libx264,libx265,libopenh264");
    command.arg("transcode").arg(&source).arg("-o").arg(&out).args(["--video-codec", "h264"]);
    let outcome = support::run::finish(command);
    outcome.failed(1, "no_encoder", "h264");
    let line = outcome.error_line();
    assert!(line.contains("install"), "the command that installs the full build is missing in: {line}");
    assert!(!out.exists());
}

#[test]
fn what_is_masked_is_not_used() {
    let Some(source) = ordinary("masked.mkv") else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let out = folder.path().join("out.mp4");
    let mut command = support::run::program();
    command.env("SPROCKET_MASK_ENCODERS", "libx264,libx265");
    command.arg("transcode").arg(&source).arg("-o").arg(&out).args(["--video-codec", "h264"]);
    let outcome = support::run::finish(command);
    if !support::clips::has_encoder("libopenh264") {
        return outcome.failed(1, "no_encoder", "h264");
    }
    outcome.ok();
    assert_eq!(probe::frame_count(&out), 200);
    let bytes = std::fs::read(&out).expect("the output");
    assert!(damage::find(&bytes, b"x264 - core").is_none(), "x264 made this");
}
