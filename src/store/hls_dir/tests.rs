//! Layout, atomicity, what may be replaced, playlists: on made-up segments.

use super::*;
use std::collections::BTreeSet;

pub(super) fn facts(height: u32) -> VariantFacts {
    VariantFacts {
        codecs: vec!["avc1.64001f".into(), "mp4a.40.2".into()],
        resolution: Some((height * 16 / 9, height)),
        frame_rate: Some(Rational::new(24_000, 1001)),
        video_range: Some(VideoRange::Sdr),
    }
}

pub(super) fn segment(rendition: usize, index: u64, bytes: usize) -> Segment {
    // 96 frames at 24000/1001: 4.004 s.
    let cut = |n: u64| Rational::new(n as i64 * 96 * 1001, 24_000);
    Segment {
        rendition,
        index,
        start: cut(index),
        end: cut(index + 1),
        frames: 96,
        audio_packets: 188,
        data: vec![7; bytes].into(),
    }
}

fn create(target: &Path, overwrite: bool, kind: SegmentType) -> Result<HlsDir> {
    HlsDir::create(target, overwrite, kind, vec!["720p".into(), "480p".into()])
}

/// Two renditions of three segments, 720p twice the size of 480p.
pub(super) fn fill(output: &HlsDir, kind: SegmentType) {
    let sink = output.sink();
    for rendition in 0..2 {
        let init: &[u8] = if kind == SegmentType::Ts { b"" } else { b"init" };
        sink.init(rendition, &[], init).unwrap();
        for index in 0..3 {
            sink.segment(segment(rendition, index, 1_000_000 / (rendition + 1))).unwrap();
        }
    }
}

fn make(target: &Path, overwrite: bool) -> Result<()> {
    let output = create(target, overwrite, SegmentType::Ts)?;
    fill(&output, SegmentType::Ts);
    output.finish(&[facts(720), facts(480)])?;
    output.publish(&|| Ok(()))
}

pub(super) fn tree(folder: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for path in entries(folder).unwrap() {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            found.extend(tree(&path).into_iter().map(|below| format!("{name}/{below}")));
            found.insert(format!("{name}/"));
        } else {
            found.insert(name);
        }
    }
    found
}

pub(super) fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|n| (*n).to_owned()).collect()
}

const MASTER_TEXT: &str = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-INDEPENDENT-SEGMENTS\n\
    #EXT-X-STREAM-INF:BANDWIDTH=999001,AVERAGE-BANDWIDTH=999001,CODECS=\"avc1.64001f,mp4a.40.2\",RESOLUTION=853x480,FRAME-RATE=23.976\n\
    480p/index.m3u8\n\
    #EXT-X-STREAM-INF:BANDWIDTH=1998002,AVERAGE-BANDWIDTH=1998002,CODECS=\"avc1.64001f,mp4a.40.2\",RESOLUTION=1280x720,FRAME-RATE=23.976\n\
    720p/index.m3u8\n";

#[test]
fn a_published_folder_has_this_layout_and_these_playlists() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("up/there/film");
    make(&target, false).unwrap();
    let rendition = ["index.m3u8", "0.ts", "1.ts", "2.ts", ""];
    let mut expected = set(&["master.m3u8"]);
    expected.extend(["720p", "480p"].iter().flat_map(|r| rendition.iter().map(move |n| format!("{r}/{n}"))));
    assert_eq!(tree(&target), expected);
    assert_eq!(tree(&dir.path().join("up")).len(), expected.len() + 2, "nothing beside it");
    assert_eq!(
        fs::read_to_string(target.join("480p/index.m3u8")).unwrap(),
        "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:5\n#EXT-X-MEDIA-SEQUENCE:0\n#EXT-X-PLAYLIST-TYPE:VOD\n\
         #EXTINF:4.004000,\n0.ts\n#EXTINF:4.004000,\n1.ts\n#EXTINF:4.004000,\n2.ts\n#EXT-X-ENDLIST\n"
    );
    let master = fs::read_to_string(target.join(MASTER)).unwrap();
    let lines: BTreeSet<_> = master.lines().collect();
    assert_eq!(lines, MASTER_TEXT.lines().collect());
    let at = |uri: &str| master.find(uri).unwrap();
    assert!(at("\n720p/") < at("\n480p/"), "1998002 is the nearest to 2 Mbit/s from below: it comes first");
}

#[test]
fn fmp4_has_init_segments_and_all_playlists_share_one_target_duration() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("film");
    let output = create(&target, false, SegmentType::Fmp4).unwrap();
    fill(&output, SegmentType::Fmp4);
    // A longer segment in one rendition only.
    output.sink().segment(Segment { end: Rational::new(20_512, 1000), ..segment(1, 3, 10) }).unwrap();
    output.finish(&[facts(720), facts(480)]).unwrap();
    output.publish(&|| Ok(())).unwrap();
    for name in ["720p", "480p"] {
        let text = fs::read_to_string(target.join(name).join(INDEX)).unwrap();
        assert!(text.contains("#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:9\n"), "{text}");
        assert!(text.contains("#EXT-X-MAP:URI=\"init.mp4\"\n#EXTINF:4.004000,\n0.m4s\n"), "{text}");
        assert_eq!(fs::read(target.join(name).join(INIT)).unwrap(), b"init");
    }
}

#[test]
fn sound_alone_has_no_resolution() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("song");
    let output = HlsDir::create(&target, false, SegmentType::Ts, vec!["audio".into()]).unwrap();
    output.sink().segment(segment(0, 0, 64_000)).unwrap();
    let sound = VariantFacts {
        codecs: vec!["mp4a.40.2".into()],
        resolution: None,
        frame_rate: None,
        video_range: None,
    };
    output.finish(&[sound]).unwrap();
    output.publish(&|| Ok(())).unwrap();
    let master = fs::read_to_string(target.join(MASTER)).unwrap();
    assert!(
        master.contains("BANDWIDTH=127873,AVERAGE-BANDWIDTH=127873,CODECS=\"mp4a.40.2\"\naudio/index.m3u8\n"),
        "{master}"
    );
}

#[test]
fn without_publishing_nothing_is_left_whenever_it_ends() {
    for stop_after in 0..3 {
        let dir = tempfile::tempdir().unwrap();
        let output = create(&dir.path().join("a/b/film"), false, SegmentType::Ts).unwrap();
        let sink = output.sink();
        assert!(tree(dir.path()).iter().any(|n| n.contains(TEMP_PREFIX)));
        if stop_after > 0 {
            fill(&output, SegmentType::Ts);
        }
        if stop_after > 1 {
            output.finish(&[facts(720), facts(480)]).unwrap();
        }
        drop(output);
        assert_eq!(tree(dir.path()), set(&[]), "stopped after {stop_after}");
        assert!(sink.segment(segment(0, 3, 10)).is_err(), "a late writer is refused");
        assert_eq!(tree(dir.path()), set(&[]));
    }
}

#[test]
fn an_empty_folder_is_filled_and_a_full_one_is_not_touched_unasked() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("film");
    fs::create_dir(&target).unwrap();
    make(&target, false).unwrap();
    let before = tree(dir.path());
    let err = make(&target, false).unwrap_err();
    assert_eq!((err.kind(), err.code()), (ErrorKind::Conflict, "output_exists"));
    assert_eq!(tree(dir.path()), before);
}

#[test]
fn an_earlier_output_is_replaced_whole() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("film");
    let old = HlsDir::create(&target, false, SegmentType::Ts, vec!["old".into()]).unwrap();
    old.sink().segment(segment(0, 0, 10)).unwrap();
    old.finish(&[facts(240)]).unwrap();
    old.publish(&|| Ok(())).unwrap();
    let output = create(&target, true, SegmentType::Ts).unwrap();
    fill(&output, SegmentType::Ts);
    output.finish(&[facts(720), facts(480)]).unwrap();
    assert!(target.join("old/0.ts").exists(), "until the end the old one is there");
    output.publish(&|| Ok(())).unwrap();
    assert!(!target.join("old").exists() && target.join("720p/2.ts").exists());
    assert_eq!(tree(dir.path()).iter().filter(|n| n.starts_with(TEMP_PREFIX)).count(), 0);
}

#[test]
fn what_is_not_an_earlier_output_is_never_replaced() {
    for (path, is_folder) in [
        ("holiday.jpg", false),
        ("720p/notes.txt", false),
        ("720p/more", true),
        ("empty", true),
        ("720p/x1.ts", false),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("film");
        make(&target, false).unwrap();
        let foreign = target.join(path);
        if is_folder {
            fs::create_dir(&foreign).unwrap()
        } else {
            fs::write(&foreign, b"mine").unwrap()
        }
        let before = tree(dir.path());
        let err = make(&target, true).unwrap_err();
        assert_eq!((err.kind(), err.code()), (ErrorKind::Conflict, "output_not_ours"));
        assert!(err.message().contains(path.split('/').next().unwrap()), "{err}");
        assert_eq!(tree(dir.path()), before);
    }
}

#[test]
fn what_comes_in_between_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("film");
    let output = create(&target, true, SegmentType::Ts).unwrap();
    fill(&output, SegmentType::Ts);
    output.finish(&[facts(720), facts(480)]).unwrap();
    fs::create_dir(&target).unwrap();
    fs::write(target.join("theirs"), b"x").unwrap();
    assert_eq!(output.publish(&|| Ok(())).unwrap_err().code(), "output_not_ours");
    assert_eq!(tree(dir.path()), set(&["film/", "film/theirs"]));
}

#[test]
fn a_file_and_a_mount_point_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("film");
    fs::write(&file, b"x").unwrap();
    for overwrite in [false, true] {
        assert_eq!(create(&file, overwrite, SegmentType::Ts).unwrap_err().code(), "output_not_ours");
    }
    assert_eq!(place::refuse_mount_point(Path::new("/proc")).unwrap_err().code(), "bad_output");
    assert_eq!(place::refuse_mount_point(Path::new("/")).unwrap_err().code(), "bad_output");
}

#[test]
fn a_segment_that_is_shorter_on_the_disk_than_it_was_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let output = create(&dir.path().join("film"), false, SegmentType::Ts).unwrap();
    fill(&output, SegmentType::Ts);
    File::options().write(true).open(output.folder().join("480p/1.ts")).unwrap().set_len(99).unwrap();
    let err = output.finish(&[facts(720), facts(480)]).unwrap_err();
    assert_eq!((err.code(), err.stage()), ("verify_failed", Stage::Verify));
    assert!(err.message().contains("480p/1.ts") && err.message().contains("has 99"), "{err}");
}

#[test]
fn gaps_and_missing_renditions_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let output = create(&dir.path().join("film"), false, SegmentType::Ts).unwrap();
    let sink = output.sink();
    sink.segment(segment(0, 0, 10)).unwrap();
    sink.segment(segment(0, 2, 10)).unwrap();
    assert!(sink.segment(segment(2, 0, 10)).unwrap_err().message().contains("rendition 2"));
    let err = output.finish(&[facts(720), facts(480)]).unwrap_err();
    assert!(err.message().contains("720p") && err.message().contains("missing"), "{err}");
}

#[test]
fn two_at_once_for_the_same_target_do_not_meet_before_publishing() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("film");
    let (a, b) =
        (create(&target, false, SegmentType::Ts).unwrap(), create(&target, false, SegmentType::Ts).unwrap());
    assert_ne!(a.folder(), b.folder());
    for output in [&a, &b] {
        fill(output, SegmentType::Ts);
        output.finish(&[facts(720), facts(480)]).unwrap();
    }
    a.publish(&|| Ok(())).unwrap();
    assert_eq!(b.publish(&|| Ok(())).unwrap_err().code(), "output_exists");
    assert_eq!(entries(dir.path()).unwrap().len(), 1);
}
