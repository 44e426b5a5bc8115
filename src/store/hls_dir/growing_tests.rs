//! What others see of a folder while it is made: on made-up segments.

use super::tests::{facts, fill, segment};
use super::*;

fn outlooks(peak_bps: u64) -> Vec<Outlook> {
    let of = |facts: VariantFacts| Outlook {
        resolution: facts.resolution,
        frame_rate: facts.frame_rate,
        video_range: facts.video_range,
        peak_bps,
    };
    vec![of(facts(720)), of(facts(480))]
}

fn begin(target: &Path, kind: SegmentType) -> (HlsDir, Growing) {
    let output = HlsDir::create(target, false, kind, vec!["720p".into(), "480p".into()]).unwrap();
    // Longer than any that comes: the last one of a title is often shorter.
    let growing = output.growing(outlooks(3_000_000), Rational::new(5005, 1001));
    (output, growing)
}

fn text(growing: &Growing, path: &str) -> String {
    match growing.piece(path) {
        Some(Piece::Playlist(text)) => text,
        other => panic!("{path}: {other:?}"),
    }
}

#[test]
fn playlists_grow_with_their_segments_and_keep_their_target_duration() {
    let dir = tempfile::tempdir().unwrap();
    let (output, growing) = begin(&dir.path().join("film"), SegmentType::Ts);
    let sink = output.sink();
    let codecs = facts(720).codecs;
    assert_eq!(growing.piece("master.m3u8"), None, "nothing to play yet");
    assert_eq!(growing.piece("720p/index.m3u8"), None);
    sink.init(0, &codecs, b"").unwrap();
    sink.segment(segment(0, 0, 1000)).unwrap();
    let head = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:5\n#EXT-X-MEDIA-SEQUENCE:0\n\
        #EXT-X-PLAYLIST-TYPE:EVENT\n";
    assert_eq!(text(&growing, "720p/index.m3u8"), format!("{head}#EXTINF:4.004000,\n0.ts\n"));
    assert_eq!(growing.piece("master.m3u8"), None, "480p has nothing yet");
    sink.init(1, &codecs, b"").unwrap();
    sink.segment(segment(1, 0, 1000)).unwrap();
    sink.segment(segment(0, 1, 1000)).unwrap();
    assert_eq!(
        text(&growing, "720p/index.m3u8"),
        format!("{head}#EXTINF:4.004000,\n0.ts\n#EXTINF:4.004000,\n1.ts\n")
    );
    let master = text(&growing, "master.m3u8");
    assert!(
        master.contains(
            "BANDWIDTH=3000000,AVERAGE-BANDWIDTH=1999,CODECS=\"avc1.64001f,mp4a.40.2\",RESOLUTION=1280x720"
        ),
        "{master}"
    );
    assert!(!output.folder().join("720p/index.m3u8").exists(), "none of it is on the disk");
}

#[test]
fn only_what_is_named_and_whole_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let (output, growing) = begin(&dir.path().join("film"), SegmentType::Fmp4);
    fill(&output, SegmentType::Fmp4);
    let at = |path: &str, bytes| Some(Piece::File { path: output.folder().join(path), bytes });
    assert_eq!(growing.piece("720p/0.m4s"), at("720p/0.m4s", 1_000_000));
    assert_eq!(growing.piece("480p/2.m4s"), at("480p/2.m4s", 500_000));
    assert_eq!(growing.piece("480p/init.mp4"), at("480p/init.mp4", 4));
    // A file that is being written has its name already.
    fs::write(output.folder().join("720p/3.m4s"), b"half").unwrap();
    fs::write(output.folder().join("720p/notes.txt"), b"x").unwrap();
    for nothing in [
        "",
        "/",
        "720p",
        "720p/",
        "720p/3.m4s",
        "720p/00.m4s",
        "720p/+1.m4s",
        "720p/0.ts",
        "720p/0.m4s/",
        "720p/notes.txt",
        "720p/../720p/0.m4s",
        "./720p/0.m4s",
        "/720p/0.m4s",
        ".done",
        "1080p/0.m4s",
        "720p/18446744073709551616.m4s",
    ] {
        assert_eq!(growing.piece(nothing), None, "{nothing:?}");
    }
}

#[test]
fn files_are_found_under_the_name_that_their_folder_gets() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("film");
    let (output, growing) = begin(&target, SegmentType::Ts);
    fill(&output, SegmentType::Ts);
    output.finish(&[facts(720), facts(480)]).unwrap();
    output.publish(&|| Ok(())).unwrap();
    let Some(Piece::File { path, bytes }) = growing.piece("720p/1.ts") else { panic!("it is there") };
    assert_eq!((path.clone(), bytes), (target.join("720p/1.ts"), 1_000_000));
    assert_eq!(fs::metadata(path).unwrap().len(), bytes);
}

#[test]
fn what_an_earlier_process_has_made_is_there_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("film");
    let claim = Claim { job: "a".into(), fingerprint: 1 };
    let names = || vec!["720p".to_owned(), "480p".to_owned()];
    let create = || HlsDir::create_for(&claim, &target, false, SegmentType::Ts, names(), 10).unwrap();
    let first = create();
    fill(&first, SegmentType::Ts);
    first.keep();
    let second = create();
    let growing = second.growing(outlooks(0), Rational::from_int(5));
    // The last of each is made anew.
    assert!(text(&growing, "720p/index.m3u8").ends_with("0.ts\n#EXTINF:4.004000,\n1.ts\n"));
    assert!(matches!(growing.piece("480p/1.ts"), Some(Piece::File { bytes: 500_000, .. })));
    assert_eq!(growing.piece("480p/2.ts"), None);
}

#[test]
fn of_a_published_folder_only_what_players_ask_for_is_a_part() {
    for part in ["master.m3u8", "720p/index.m3u8", "720p/init.mp4", "720p/0.ts", "a b/17.m4s"] {
        assert!(is_part(part), "{part}");
    }
    for other in [
        "",
        "index.m3u8",
        "0.ts",
        ".done",
        "720p",
        "720p/",
        "720p/master.m3u8",
        "720p/.0.ts",
        "720p/x.ts",
        "720p/0.mp4",
        "720p/0.ts/",
        "720p//0.ts",
        "/720p/0.ts",
        "./0.ts",
        "../0.ts",
        ".hidden/0.ts",
        "720p/../0.ts",
        "a/720p/0.ts",
        "/master.m3u8",
    ] {
        assert!(!is_part(other), "{other:?}");
    }
}
