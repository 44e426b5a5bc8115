//! The conformance check: good streams pass, and every fault that is planted is found in its row.
//!
//! The good streams are ours and those of the `ffmpeg` command line, so that the judge cannot be right
//! about one muxer alone. What a fault is, is in `check/faults.rs` and `check/server.rs`.

mod support;

#[path = "check/faults.rs"]
mod faults;
#[path = "check/foreign.rs"]
mod foreign;
#[path = "check/server.rs"]
mod server;
#[path = "check/stream.rs"]
mod stream;

use faults::Fault;
use foreign::{FMP4, HIGH, LOW, Rendition, SILENT, TS, X264};
use server::{Server, Wrong};
use sprocket::check::{Row, Verdict};
use std::path::Path;
use stream::{Stream, places, with};
use support::clips::{Clip, audio, h264, video};
use support::conformance::{assert_kept, assert_kept_but, broken, checked, verdict};
use support::run::{sprocket, transcode};
use support::{Segments, ordinary, usable};

const X265: &[&str] = &[
    "-c:v",
    "libx265",
    "-preset",
    "ultrafast",
    "-tag:v",
    "hvc1",
    "-color_primaries",
    "bt709",
    "-color_trc",
    "bt709",
    "-colorspace",
    "bt709",
    "-x265-params",
    "log-level=error:scenecut=0:open-gop=0:colorprim=bt709:transfer=bt709:colormatrix=bt709",
];

#[track_caller]
fn kept_in_memory(stream: &Stream) {
    let report = stream.report();
    let found = with(&report, Verdict::Broken);
    let first = report.broken().flat_map(|row| &row.places).next();
    assert!(found.is_empty(), "{found:?}: {first:?}");
}

/// Plants each fault in a copy of a good stream.
#[track_caller]
fn each_is_found(good: &Stream, tables: &[&[Fault]]) {
    kept_in_memory(good);
    let mut missed = Vec::new();
    for (name, row, damage) in tables.iter().flat_map(|table| table.iter()) {
        let mut damaged = good.clone();
        damage(&mut damaged);
        let report = damaged.report();
        let found = with(&report, Verdict::Broken);
        if !found.contains(&row.id()) || places(&report, *row).is_empty() {
            missed.push(format!("{name}: {} is not among {found:?}", row.id()));
        }
    }
    assert!(missed.is_empty(), "{missed:#?}");
}

fn foreign(renditions: &[Rendition], video: &[&str], container: &[&str]) -> Option<Stream> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    foreign::make(folder.path(), renditions, video, container)
}

/// What `sprocket transcode` makes, in memory.
#[track_caller]
fn own(source: &Path, options: &[&str]) -> Stream {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let out = folder.path().join("out");
    transcode(source, &out, options).ok();
    Stream::load(&out, "master.m3u8")
}

// ---- in the bytes ---------------------------------------------------------------------------------

#[test]
fn faults_in_a_foreign_transport_stream() {
    let Some(good) = foreign(&[HIGH], X264, TS) else { return };
    each_is_found(&good, &[faults::TEXT, faults::TS]);
}

#[test]
fn faults_in_a_foreign_ladder() {
    let Some(good) = foreign(&[HIGH, LOW], X264, TS) else { return };
    each_is_found(&good, &[faults::LADDER]);
}

#[test]
fn faults_in_foreign_fragmented_mp4() {
    let Some(good) = foreign(&[SILENT], X264, FMP4) else { return };
    each_is_found(&good, &[faults::FMP4]);
}

#[test]
fn faults_in_foreign_hevc() {
    let Some(good) = foreign(&[Rendition { codecs: "hvc1.1.6.L60.90", ..SILENT }], X265, FMP4) else {
        return;
    };
    each_is_found(&good, &[faults::HEVC]);
}

#[test]
fn faults_in_our_own_transport_stream() {
    let Some(source) = ordinary("c.mkv") else { return };
    let Some(options) = Segments::Ts.options() else { return };
    let good = own(&source, &[&options[..], &["--segment-duration", "2", "--rendition", "a:90"]].concat());
    each_is_found(&good, &[faults::TEXT, faults::TS]);
}

#[test]
fn faults_in_our_own_fragmented_mp4() {
    let Some(source) = ordinary("c.mkv") else { return };
    let Some(options) = Segments::Fmp4.options().filter(|options| options.contains(&"h264")) else { return };
    let good = own(&source, &[&options[..], &["--segment-duration", "2", "--rendition", "a:90"]].concat());
    each_is_found(&good, &[faults::TEXT, faults::FMP4]);
}

#[test]
fn advice_is_no_breach() {
    let Some(good) = foreign(&[HIGH, LOW], X264, TS) else { return };
    let advised = |damage: fn(&mut Stream)| {
        let mut stream = good.clone();
        damage(&mut stream);
        let report = stream.report();
        assert_eq!(with(&report, Verdict::Broken), [""; 0]);
        with(&report, Verdict::Advice)
    };
    assert_eq!(advised(|_| ()), [""; 0]);
    // The lower variant first, though the line is thought to take the higher one.
    assert_eq!(advised(|s| s.rewrite_one("master.m3u8", faults::variants_turned)), ["V13"]);
    let sound = good.report();
    assert_eq!(sound.row(Row::J3).map(|row| row.verdict), Some(Verdict::NotApplicable));
    let Some(fmp4) = foreign(&[SILENT], X264, FMP4) else { return };
    let mut turned = fmp4.clone();
    turned.each_segment(|_, bytes| faults::rename_box(bytes, b"styp", b"abcd"));
    let report = turned.report();
    assert_eq!(with(&report, Verdict::Broken), [""; 0], "{}", places(&report, Row::F3));
    assert!(with(&report, Verdict::Advice).contains(&"F3"));
}

// ---- what we make ---------------------------------------------------------------------------------

#[track_caller]
fn own_is_kept(source: Option<std::path::PathBuf>, options: &[&str], rows: &[&str]) {
    let Some(source) = source else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let out = folder.path().join("out");
    transcode(&source, &out, options).ok();
    assert_kept_but(&out.to_string_lossy(), rows);
}

#[test]
fn a_ladder_of_ours_keeps_the_rules() {
    for container in [Segments::Ts, Segments::Fmp4] {
        let Some(options) = container.options() else { continue };
        let ladder = ["--rendition", "a:90", "--rendition", "b:46"];
        own_is_kept(ordinary("c.mkv"), &[&options[..], &ladder].concat(), &[]);
    }
}

#[test]
fn an_odd_rate_and_short_segments_keep_the_rules() {
    let picture = h264().rate(30_000, 1001).bframes(2).seconds(7.3);
    let clip = Clip::new().video(picture).audio(audio("aac").rate(44_100).seconds(7.3));
    for container in [Segments::Ts, Segments::Fmp4] {
        let Some(options) = container.options() else { continue };
        own_is_kept(clip.make("ntsc.mkv"), &[&options[..], &["--segment-duration", "1.7"]].concat(), &[]);
    }
}

#[test]
fn copied_streams_keep_the_rules() {
    const COPY: [&str; 4] = ["--video-codec", "copy", "--audio-codec", "copy"];
    for segment_type in ["ts", "fmp4"] {
        for name in ["c.mkv", "c.mp4"] {
            let options = [&["--format", "hls", "--segment-type", segment_type][..], &COPY].concat();
            own_is_kept(ordinary(name), &options, &[]);
        }
    }
}

#[test]
fn sound_alone_keeps_the_rules() {
    let clip = Clip::new().audio(audio("flac").seconds(9.5));
    for segment_type in ["ts", "fmp4"] {
        own_is_kept(clip.make("sound.mkv"), &["--format", "hls", "--segment-type", segment_type], &[]);
    }
}

#[test]
fn pictures_alone_keep_the_rules() {
    for container in [Segments::Ts, Segments::Fmp4] {
        let Some(options) = container.options() else { continue };
        own_is_kept(Clip::new().video(h264()).make("silent.mkv"), &options, &[]);
    }
}

#[test]
fn hevc_keeps_the_rules() {
    if !usable("libx265") {
        return;
    }
    own_is_kept(
        ordinary("c.mkv"),
        &["--format", "hls", "--video-codec", "hevc", "--preset", "ultrafast"],
        &[],
    );
    // Pictures that lead a key picture of an open group are the source's, not ours.
    let closed = video("libx265").bframes(2).option("x265-params", "open-gop=0:log-level=error");
    let copied = Clip::new().video(closed).audio(audio("aac"));
    let copy = ["--format", "hls", "--video-codec", "copy", "--audio-codec", "copy"];
    own_is_kept(copied.make("hevc.mkv"), &copy, &[]);
}

#[test]
fn sound_that_not_every_set_plays_is_told() {
    let Some(options) = Segments::Ts.options() else { return };
    // V9 asks for stereo AAC beside it, which whoever asks for AC-3 alone has refused.
    own_is_kept(ordinary("c.mkv"), &[&options[..], &["--audio-codec", "ac3"]].concat(), &["V9"]);
}

// ---- over HTTP ------------------------------------------------------------------------------------

fn served(good: &Stream, wrong: Wrong) -> Server {
    Server::start(good.clone(), wrong)
}

#[test]
fn a_server_that_does_it_right_keeps_the_rules() {
    let Some(good) = foreign(&[SILENT], X264, FMP4) else { return };
    for right in [Wrong::Nothing, Wrong::GzipPlaylists, Wrong::ChunkedWhole] {
        let server = served(&good, right);
        let report = assert_kept(&server.url("master.m3u8?token=a.b"));
        for row in [
            "H1", "H2", "H3", "H4", "H5", "H6", "H7", "H8", "H9", "H10", "H11", "H12", "H13", "H14", "J1",
            "F2",
        ] {
            assert_eq!(verdict(&report, row), "kept", "{row} with {right:?}");
        }
        assert!(!report.to_string().contains("token"), "a token has no place in a report");
    }
    let Some(good) = foreign(&[HIGH], X264, TS) else { return };
    assert_kept(&served(&good, Wrong::Nothing).url("master.m3u8"));
    assert_kept(&served(&good, Wrong::Nothing).url("high/index.m3u8"));
}

#[test]
fn what_a_server_does_wrong_is_found() {
    let Some(good) = foreign(&[SILENT], X264, FMP4) else { return };
    let table = [
        (Wrong::Type, "H1"),
        (Wrong::NoLengthOfPlaylist, "H7"),
        (Wrong::NoLengthWithRange, "H7"),
        (Wrong::RangeIgnored, "H4"),
        (Wrong::RangeTooLong, "H4"),
        (Wrong::RangeTotal, "H4"),
        (Wrong::PlaylistTotal, "H3"),
        (Wrong::NothingBeyond, "H5"),
        (Wrong::BeyondWithoutLength, "H5"),
        (Wrong::Multipart, "H5"),
        (Wrong::NoTag, "H6"),
        (Wrong::WeakTag, "H6"),
        (Wrong::TagChanges, "H6"),
        (Wrong::IfRangeIgnored, "H6"),
        (Wrong::NeverModified, "H6"),
        (Wrong::HeadWithoutLength, "H8"),
        (Wrong::HeadRefused, "H8"),
        (Wrong::GzipUnasked, "H9"),
        (Wrong::GzipWithRange, "H9"),
        (Wrong::GzipWithoutVary, "H9"),
        (Wrong::GzipSegments, "H10"),
        (Wrong::NoCors, "H11"),
        (Wrong::NoCorsOnErrors, "H11"),
        (Wrong::NothingExposed, "H11"),
        (Wrong::NoOptions, "H11"),
        (Wrong::Closes, "H12"),
        (Wrong::SegmentsNeverKept, "H13"),
        (Wrong::Redirects, "P15"),
        (Wrong::PlaylistChanges, "P8"),
        (Wrong::SegmentChanges, "J1"),
        (Wrong::InitChanges, "F2"),
    ];
    let mut missed = Vec::new();
    for (wrong, row) in table {
        let server = served(&good, wrong);
        let (outcome, report) = checked(&server.url("master.m3u8"));
        if !broken(&report).contains(&row) || outcome.code != Some(1) {
            missed.push(format!("{wrong:?}: {row} is not among {:?}", broken(&report)));
        }
    }
    assert!(missed.is_empty(), "{missed:#?}");
}

#[test]
fn a_segment_may_be_coded_anew_but_not_hold_something_else() {
    let Some(good) = foreign(&[SILENT], X264, FMP4) else { return };
    let report = assert_kept(&served(&good, Wrong::SegmentPadded).url("master.m3u8"));
    assert_eq!(verdict(&report, "J1"), "advice");
}

#[test]
fn a_growing_playlist_may_not_be_kept_by_caches() {
    let Some(mut good) = foreign(&[SILENT], X264, FMP4) else { return };
    good.replace("#EXT-X-ENDLIST\n", "");
    good.replace("PLAYLIST-TYPE:VOD", "PLAYLIST-TYPE:EVENT");
    assert_kept(&served(&good, Wrong::Nothing).url("high/index.m3u8"));
    let (_, report) = checked(&served(&good, Wrong::GrowingKept).url("high/index.m3u8"));
    assert_eq!(broken(&report), ["H13"]);
}

#[test]
fn a_body_that_ends_early_is_a_finding_and_no_failure() {
    let Some(good) = foreign(&[SILENT], X264, FMP4) else { return };
    let server = served(&good, Wrong::ShortBody);
    let outcome = sprocket(&["check", &server.url("master.m3u8")]);
    outcome.failed(1, "no_playlist", "master.m3u8");
}

#[test]
fn file_names_in_the_clear_are_advice() {
    let Some(good) = foreign(&[SILENT], X264, FMP4) else { return };
    let moved =
        good.files.iter().map(|(name, bytes)| (format!("vod/films/A Film.mkv/{name}"), bytes.clone()));
    // The server does not decode paths: the address is asked for as it is written.
    let files = moved.map(|(name, bytes)| (name.replace(' ', "%20"), bytes)).collect();
    let server = Server::start(Stream { files, entry: String::new() }, Wrong::Nothing);
    let report = assert_kept(&server.url("vod/films/A%20Film.mkv/master.m3u8"));
    assert_eq!(verdict(&report, "H15"), "advice");
}

// ---- the command ----------------------------------------------------------------------------------

#[test]
fn exit_codes_and_what_people_read() {
    let Some(good) = foreign(&[HIGH], X264, TS) else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let write = |stream: &Stream| {
        for (name, bytes) in &stream.files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("room for a folder");
            std::fs::write(path, bytes).expect("room for a file");
        }
    };
    write(&good);
    let place = folder.path().to_string_lossy().into_owned();
    let outcome = sprocket(&["check", &place]);
    assert_eq!(outcome.code, Some(0), "{}\n{}", outcome.text(), outcome.stderr);
    let text = outcome.text();
    assert!(text.lines().count() >= 2 + Row::ALL.len(), "{text}");
    assert!(text.contains("kept    T6 ") && text.contains("n/a     H1 "), "{text}");
    let sampled = sprocket(&["check", &place, "--sample", "2"]).ok().text();
    assert!(sampled.contains("2 of 3 segments") || sampled.contains("3 of 3 segments"), "{sampled}");

    let mut bad = good;
    for packet in bad.segment(1).chunks_mut(stream::PACKET) {
        packet[3] ^= 8;
    }
    write(&bad);
    let outcome = sprocket(&["check", &place]);
    outcome.failed(1, "rules_broken", "rules are broken");
    let text = outcome.text();
    assert!(text.contains("BROKEN  T6 ") && text.contains("high/1.ts: packet 0: the counter"), "{text}");

    sprocket(&["check", "ftp://127.0.0.1/master.m3u8"]).failed(2, "bad_request", "ftp");
    sprocket(&["check", "http://127.0.0.1:1/master.m3u8"]).failed(1, "no_playlist", "127.0.0.1");
    sprocket(&["check", &format!("{place}/nowhere")]).failed(1, "not_found", "nowhere");
    assert_eq!(sprocket(&["check"]).code, Some(2));
    assert_eq!(sprocket(&["check", &place, "--sample", "1"]).code, Some(2));
    let empty = tempfile::tempdir().expect("a temporary folder");
    sprocket(&["check", &empty.path().to_string_lossy()]).failed(1, "no_playlist", "no .m3u8");
}
