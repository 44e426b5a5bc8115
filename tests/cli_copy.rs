//! Streams taken over as they are: the same bytes, cut at key frames that the source has.

mod support;

use std::path::{Path, PathBuf};
use support::clips::{Clip, Video, audio, h264, video};
use support::hls::Hls;
use support::run::transcode;
use support::{ordinary, probe};

const COPY: [&str; 4] = ["--video-codec", "copy", "--audio-codec", "copy"];

#[track_caller]
fn same_streams(source: &Path, out: &Path) {
    assert_eq!(probe::picture_sums(out), probe::picture_sums(source), "pictures of {}", out.display());
    assert_eq!(probe::sound_packet_sums(out), probe::sound_packet_sums(source), "sound of {}", out.display());
    assert_eq!(probe::complaints(out), "", "{}", out.display());
}

#[track_caller]
fn copied_to_a_file(source: Option<PathBuf>, out: &str) {
    let Some(source) = source else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let out = folder.path().join(out);
    transcode(&source, &out, &COPY).ok();
    same_streams(&source, &out);
}

#[test]
fn mkv_to_mp4() {
    copied_to_a_file(ordinary("c.mkv"), "out.mp4");
}

#[test]
fn mp4_to_mkv() {
    copied_to_a_file(ordinary("c.mp4"), "out.mkv");
}

#[test]
fn mp4_to_ts() {
    copied_to_a_file(ordinary("c.mp4"), "out.ts");
}

#[test]
fn ts_to_mp4() {
    copied_to_a_file(ordinary("c.ts"), "out.mp4");
}

#[test]
fn mkv_with_ac3_to_ts() {
    copied_to_a_file(Clip::new().video(h264().bframes(2)).audio(audio("ac3")).make("ac3.mkv"), "out.ts");
}

#[test]
fn hevc_to_mp4() {
    copied_to_a_file(
        Clip::new().video(video("libx265").bframes(2)).audio(audio("eac3")).make("hevc.mkv"),
        "out.mp4",
    );
}

#[test]
fn webm_to_mkv() {
    copied_to_a_file(
        Clip::new().video(video("libvpx-vp9")).audio(audio("libopus")).make("c.webm"),
        "out.mkv",
    );
}

#[track_caller]
fn copied_to_hls(picture: Video, frames: u64, segment_type: &str, segments_us: &[i64]) {
    let seconds = frames as f64 / 25.0;
    let clip = Clip::new().video(picture.frames(frames as u32)).audio(audio("aac").seconds(seconds));
    for name in ["copy.mkv", "copy.mp4"] {
        let Some(source) = clip.make(name) else { return };
        let folder = tempfile::tempdir().expect("a temporary folder");
        let out = folder.path().join("out");
        let asked = ["--format", "hls", "--segment-type", segment_type, "--segment-duration", "4"];
        transcode(&source, &out, &[&asked[..], &COPY].concat()).ok();
        let output = Hls::open(&out);
        let rendition = output.only();
        rendition.check_grid((25, 1), frames);
        let lengths: Vec<i64> = rendition.segments.iter().map(|s| s.extinf_us).collect();
        assert_eq!(lengths, segments_us, "{name}");
        same_streams(&source, &rendition.whole());
        assert_eq!(probe::complaints(&rendition.playlist), "");
        assert_eq!(probe::frame_count(&rendition.playlist), frames);
    }
}

#[test]
fn short_gops_are_merged_towards_the_wished_length_in_mpeg_ts() {
    copied_to_hls(h264().bframes(2).gop(25), 300, "ts", &[4_000_000; 3]);
}

#[test]
fn short_gops_are_merged_towards_the_wished_length_in_fmp4() {
    copied_to_hls(h264().bframes(2).gop(25), 300, "fmp4", &[4_000_000; 3]);
}

#[test]
fn gops_of_ten_seconds_stay_whole_in_mpeg_ts() {
    copied_to_hls(h264().bframes(2).gop(250), 600, "ts", &[10_000_000, 10_000_000, 4_000_000]);
}

#[test]
fn gops_of_ten_seconds_stay_whole_in_fmp4() {
    copied_to_hls(h264().bframes(2).gop(250), 600, "fmp4", &[10_000_000, 10_000_000, 4_000_000]);
}

/// Where pictures lead a key frame, they are in its segment: what counts is that nothing is lost, that
/// each segment begins with a key frame and that the playlist is as long as the title.
#[test]
fn open_gops_are_cut_at_their_key_frames_and_lose_nothing() {
    if !support::clips::has_encoder("libx264") {
        return support::run::skip("only x264 is known to make open GOPs here");
    }
    let clip =
        Clip::new().video(h264().bframes(3).gop(50).open_gop().frames(300)).audio(audio("aac").seconds(12.0));
    let Some(source) = clip.make("open.mkv") else { return };
    for segment_type in ["ts", "fmp4"] {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let out = folder.path().join("out");
        let asked = ["--format", "hls", "--segment-type", segment_type, "--segment-duration", "4"];
        transcode(&source, &out, &[&asked[..], &COPY].concat()).ok();
        let output = Hls::open(&out);
        let rendition = output.only();
        same_streams(&source, &rendition.whole());
        assert!(rendition.segments.len() > 1);
        assert!((rendition.seconds() - 12.0).abs() <= 0.04, "{} s", rendition.seconds());
        for segment in &rendition.segments {
            assert!(rendition.pictures(segment).0[0].key, "{}", segment.path.display());
        }
    }
}

#[test]
fn a_copied_picture_may_have_its_sound_encoded() {
    let Some(source) = ordinary("half.mkv") else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let out = folder.path().join("out");
    transcode(&source, &out, &["--format", "hls", "--video-codec", "copy", "--audio-codec", "ac3"]).ok();
    let output = Hls::open(&out);
    assert_eq!(output.only().check_all((25, 1)), 200);
    assert_eq!(probe::picture_sums(&output.only().whole()), probe::picture_sums(&source));
    assert_eq!(probe::stream(&output.only().whole(), "audio")["codec_name"], "ac3");
    assert!(output.variants[0].codecs.as_deref().unwrap_or("").ends_with("ac-3"), "{}", output.master_text);
}

#[test]
fn a_codec_that_the_container_cannot_hold_is_not_copied() {
    let clip = Clip::new().video(video("libvpx-vp9")).audio(audio("libopus"));
    let Some(source) = clip.make("no-ts.webm") else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let out = folder.path().join("out.ts");
    let outcome = transcode(&source, &out, &COPY);
    assert!(matches!(outcome.code, Some(1 | 2)), "{}", outcome.stderr);
    assert!(outcome.error_line().contains("cannot_copy"), "{}", outcome.stderr);
    assert!(!out.exists());
}
