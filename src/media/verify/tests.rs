//! A right output passes, and each way to be wrong is told: made with our muxers from real AAC and
//! made-up slices behind real parameter sets.

use super::expected::unwrap_33;
use super::*;
use crate::av::encoder::{AudioSettings, Encoder};
use crate::av::{Frame, Packet, Received};
use crate::base::time::Rational;
use crate::container::fmp4::Fmp4Muxer;
use crate::container::ts::TsMuxer;
use crate::media::mux::MadeRendition;
use crate::media::plan::{AudioPlan, Rendition, VideoPlan};
use crate::model::source::SourceFacts;
use crate::model::timeline::{AudioGrid, Timeline};
use crate::model::track::{AudioCodec, AudioTrack, Colour, Sample, Tracks, VideoCodec, VideoTrack};
use std::fs;

/// Main profile, level 1.2, 320x180, from x264.
const SPS: &[u8] = &[
    0x67, 0x4d, 0x40, 0x0c, 0xec, 0xa0, 0xa0, 0xcf, 0xcf, 0x80, 0x88, 0x00, 0x00, 0x03, 0x00, 0x08, 0x00,
    0x00, 0x03, 0x01, 0x90, 0x78, 0xa1, 0x4c, 0xb0,
];
const PPS: &[u8] = &[0x68, 0xeb, 0xe3, 0xcb, 0x20];

/// A title of three segments, in memory; each test spoils a part of it.
struct Title {
    kind: SegmentType,
    timeline: Timeline,
    tracks: Tracks,
    /// For each segment.
    video: Vec<Vec<Sample>>,
    audio: Vec<Vec<Sample>>,
    /// The number that each segment is muxed with.
    numbers: Vec<u64>,
}

fn settings() -> AudioSettings {
    AudioSettings {
        encoder: "aac".into(),
        sample_rate: 48_000,
        channels: 2,
        bitrate_bps: 96_000,
        options: Vec::new(),
    }
}

fn video_track() -> VideoTrack {
    let config = [&[0, 0, 0, 1], SPS, &[0, 0, 0, 1], PPS].concat();
    VideoTrack {
        codec: VideoCodec::H264,
        width: 320,
        height: 180,
        sample_aspect_ratio: Rational::from_int(1),
        frame_rate: Rational::from_int(25),
        time_base: Rational::new(1, 25),
        reorder_frames: 1,
        bit_depth: 8,
        colour: Colour { primaries: 1, transfer: 1, matrix: 1, full_range: false },
        config,
        profile: 77,
        level: 12,
    }
}

/// Frames of a segment in coded order: the first, then pairs the wrong way round.
fn pictures(frames: std::ops::Range<u64>) -> Vec<Sample> {
    let mut order: Vec<u64> = frames.clone().collect();
    order.get_mut(1..).unwrap().chunks_exact_mut(2).for_each(<[u64]>::reverse);
    let picture = |(i, n): (usize, u64)| {
        let key = n == frames.start;
        let data = [0, 0, 0, 1, if key { 0x65 } else { 0x41 }, 0x88, 0x84, 1 + n as u8 % 200, 0x21, 0x55];
        Sample {
            pts: n as i64,
            dts: (frames.start + i as u64) as i64 - 1,
            duration: 1,
            key,
            data: data.to_vec().into(),
        }
    };
    order.into_iter().enumerate().map(picture).collect()
}

/// A tone, encoded, and the track that it makes.
fn sound(seconds: usize) -> (AudioTrack, Vec<Sample>) {
    let mut encoder = Encoder::open_audio(&settings(), &RunLog::new()).unwrap();
    let config = encoder.parameters().unwrap().extradata().to_vec();
    let priming = i64::from(encoder.priming_samples());
    let (mut packet, mut samples) = (Packet::new().unwrap(), Vec::new());
    let count = (seconds * 48_000).div_ceil(1024);
    for n in 0..=count {
        let mut frame = Frame::planar_float(48_000, 2, 1024).unwrap();
        frame.set_pts(n as i64 * 1024);
        frame
            .plane_f32_mut(0)
            .iter_mut()
            .enumerate()
            .for_each(|(i, s)| *s = ((n * 1024 + i) as f32 * 0.06).sin() * 0.3);
        encoder.send((n < count).then_some(&frame)).unwrap();
        while encoder.receive(&mut packet).unwrap() == Received::Item {
            let pts = samples.len() as i64 * 1024 - priming;
            samples.push(Sample {
                pts,
                dts: pts,
                duration: 1024,
                key: true,
                data: packet.data().to_vec().into(),
            });
        }
    }
    let track = AudioTrack {
        codec: AudioCodec::Aac,
        sample_rate: 48_000,
        channels: 2,
        time_base: Rational::new(1, 48_000),
        packet_samples: 1024,
        priming_samples: priming as u32,
        config,
        bitrate: 96_000,
    };
    (track, samples)
}

impl Title {
    /// 10 s at 25/s in segments of 4 s, 4 s and 2 s.
    fn new(kind: SegmentType) -> Self {
        let timeline = Timeline::new(Rational::from_int(25), Rational::from_int(10), Rational::from_int(4));
        let (track, samples) = sound(10);
        let grid =
            AudioGrid { sample_rate: 48_000, packet_samples: 1024, priming_samples: track.priming_samples };
        let count = timeline.segment_count();
        let audio = |n| timeline.packets(&grid, n).map(|p| samples[p as usize].clone()).collect();
        Self {
            kind,
            video: (0..count).map(|n| pictures(timeline.frames(n))).collect(),
            audio: (0..count).map(audio).collect(),
            numbers: (0..count).collect(),
            tracks: Tracks { video: Some(video_track()), audio: Some(track) },
            timeline,
        }
    }

    fn plan(&self) -> Plan {
        let facts = SourceFacts {
            container: "mov".into(),
            size_bytes: 1,
            origin: Rational::ZERO,
            duration: Rational::from_int(10),
            video: None,
            audio: None,
            streams: Vec::new(),
            warnings: Vec::new(),
        };
        Plan {
            input: "film.mp4".into(),
            facts,
            timeline: self.timeline.clone(),
            title_origin: Rational::ZERO,
            fixed_end: false,
            idr_cuts: false,
            video: self.tracks.video.as_ref().map(|_| VideoPlan {
                stream: 0,
                copy: false,
                decoder_threads: 1,
            }),
            audio: self.tracks.audio.as_ref().map(|_| AudioPlan { stream: 1, encode: Some(settings()) }),
            format: Format::Hls(self.kind),
            device: None,
            renditions: vec![Rendition { name: "180p".into(), ..Rendition::default() }],
            warnings: Vec::new(),
        }
    }

    /// What the pipeline would say of the whole, unspoilt title.
    fn outcome(&self) -> Outcome {
        let priming = self.tracks.audio.as_ref().map_or(0, |a| u64::from(a.priming_samples));
        let made = MadeRendition {
            name: "180p".into(),
            codecs: Vec::new(),
            video: self.tracks.video.clone(),
            audio: self.tracks.audio.clone(),
            frames: if self.tracks.video.is_some() { 250 } else { 0 },
            audio_packets: if self.tracks.audio.is_some() { (480_000 + priming).div_ceil(1024) } else { 0 },
            end: 250,
        };
        Outcome { timeline: self.timeline.clone(), renditions: vec![made] }
    }

    fn write(&self, dir: &Path) {
        let folder = dir.join("180p");
        fs::create_dir_all(&folder).unwrap();
        fs::write(dir.join("master.m3u8"), "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n180p/index.m3u8\n")
            .unwrap();
        let (extension, map) = match self.kind {
            SegmentType::Ts => ("ts", ""),
            SegmentType::Fmp4 => ("m4s", "#EXT-X-MAP:URI=\"init.mp4\"\n"),
        };
        let mut playlist = format!("#EXTM3U\n#EXT-X-TARGETDURATION:4\n{map}");
        for (n, length) in [4, 4, 2].into_iter().enumerate() {
            playlist += &format!("#EXTINF:{length}.000000,\n{n}.{extension}\n");
            fs::write(folder.join(format!("{n}.{extension}")), self.segment(n)).unwrap();
        }
        fs::write(folder.join("index.m3u8"), playlist + "#EXT-X-ENDLIST\n").unwrap();
        if self.kind == SegmentType::Fmp4 {
            fs::write(folder.join("init.mp4"), Fmp4Muxer::new(&self.tracks, None).unwrap().init()).unwrap();
        }
    }

    fn segment(&self, n: usize) -> Vec<u8> {
        let (number, video, audio) = (self.numbers[n], &self.video[n], &self.audio[n]);
        match self.kind {
            SegmentType::Ts => TsMuxer::new(&self.tracks).unwrap().segment(number, video, audio).unwrap(),
            SegmentType::Fmp4 => {
                Fmp4Muxer::new(&self.tracks, None).unwrap().segment(number, video, audio).unwrap()
            }
        }
    }

    fn verify(&self, dir: &Path) -> Result<()> {
        verify_hls(dir, &self.plan(), &self.outcome(), &Cancel::new(), &RunLog::new())
    }
}

/// What is said of a title with samples spoilt.
fn told(kind: SegmentType, spoil: impl Fn(&mut Title)) -> String {
    let mut title = Title::new(kind);
    spoil(&mut title);
    let dir = tempfile::tempdir().unwrap();
    title.write(dir.path());
    refusal(title.verify(dir.path()))
}

/// What is said when a file of a right output changes afterwards.
fn told_of_file(kind: SegmentType, name: &str, change: impl Fn(&mut Vec<u8>)) -> String {
    let title = Title::new(kind);
    let dir = tempfile::tempdir().unwrap();
    title.write(dir.path());
    let path = dir.path().join("180p").join(name);
    let mut data = fs::read(&path).unwrap();
    change(&mut data);
    fs::write(&path, data).unwrap();
    let what = refusal(title.verify(dir.path()));
    assert!(what.contains(name), "{what}");
    what
}

#[track_caller]
fn refusal(verdict: Result<()>) -> String {
    let err = verdict.expect_err("it has to be found");
    assert_eq!(
        (err.kind(), err.code(), err.stage()),
        (ErrorKind::Internal, "verify_failed", Stage::Verify),
        "{err}"
    );
    err.message().to_owned()
}

#[track_caller]
fn assert_says(what: &str, parts: &[&str]) {
    assert!(parts.iter().all(|part| what.contains(part)), "{what}");
}

const KINDS: [SegmentType; 2] = [SegmentType::Ts, SegmentType::Fmp4];

#[test]
fn a_right_output_passes_with_and_without_sound_and_picture() {
    for kind in KINDS {
        for (video, audio) in [(true, true), (true, false), (false, true)] {
            let mut title = Title::new(kind);
            if !video {
                title.tracks.video = None;
                title.video.iter_mut().for_each(Vec::clear);
            }
            if !audio {
                title.tracks.audio = None;
                title.audio.iter_mut().for_each(Vec::clear);
            }
            let dir = tempfile::tempdir().unwrap();
            title.write(dir.path());
            title.verify(dir.path()).unwrap();
            let left = fs::read_dir(dir.path().join("180p")).unwrap().count();
            assert_eq!(left, 4 + usize::from(kind == SegmentType::Fmp4), "the look leaves nothing behind");
        }
    }
}

#[test]
fn sound_may_end_before_the_picture() {
    for kind in KINDS {
        let mut title = Title::new(kind);
        title.audio[2].clear();
        let mut outcome = title.outcome();
        outcome.renditions[0].audio_packets = (title.audio[0].len() + title.audio[1].len()) as u64;
        let dir = tempfile::tempdir().unwrap();
        title.write(dir.path());
        verify_hls(dir.path(), &title.plan(), &outcome, &Cancel::new(), &RunLog::new()).unwrap();
        assert_says(&refusal(title.verify(dir.path())), &["180p/2.", "no sound instead of"]);
    }
}

#[test]
fn a_picture_too_few_and_one_at_the_wrong_time_are_told() {
    for kind in KINDS {
        let what = told(kind, |title| drop(title.video[1].pop()));
        assert_says(&what, &["180p/1.", "99 pictures instead of 100"]);
        let what = told(kind, |title| title.video[2].last_mut().unwrap().pts += 1);
        assert_says(&what, &["180p/2.", "picture 249 of the title stands at", "instead of"]);
    }
}

#[test]
fn a_segment_that_does_not_start_with_a_key_picture_is_told() {
    // The writer of fMP4 refuses that by itself.
    let what = told(SegmentType::Ts, |title| title.video[1][0].key = false);
    assert_says(&what, &["180p/1.ts", "its first picture is not a key picture"]);
}

#[test]
fn sound_too_little_and_sound_at_the_wrong_time_are_told() {
    for kind in KINDS {
        let what = told(kind, |title| drop(title.audio[1].remove(50)));
        assert_says(&what, &["180p/1.", "packets of sound instead of"]);
        let what = told(kind, |title| {
            let moved = title.audio[1].remove(0);
            title.audio[0].push(moved);
        });
        assert_says(&what, &["180p/0.", "packets of sound instead of"]);
        let what = told(kind, |title| title.audio[1].iter_mut().for_each(|s| s.pts += 3));
        assert_says(&what, &["180p/1.", "packet of sound 189 of the title"]);
    }
}

#[test]
fn what_the_pipeline_counted_has_to_be_there() {
    for kind in KINDS {
        let title = Title::new(kind);
        let dir = tempfile::tempdir().unwrap();
        title.write(dir.path());
        let mut outcome = title.outcome();
        outcome.renditions[0].frames += 1;
        let verdict = verify_hls(dir.path(), &title.plan(), &outcome, &Cancel::new(), &RunLog::new());
        assert_says(&refusal(verdict), &["250 pictures in all, but 251 were encoded"]);
        let mut outcome = title.outcome();
        outcome.renditions[0].video.as_mut().unwrap().height = 200;
        let verdict = verify_hls(dir.path(), &title.plan(), &outcome, &Cancel::new(), &RunLog::new());
        assert_says(&refusal(verdict), &["libav sees the picture as", "(320, 180)", "(320, 200)"]);
    }
}

#[test]
fn damage_to_a_transport_stream_is_told() {
    let ts = |name: &str, change: &dyn Fn(&mut Vec<u8>)| told_of_file(SegmentType::Ts, name, change);
    assert_says(&ts("1.ts", &|d| d.truncate(d.len() - 5)), &["183 bytes behind the last whole packet"]);
    assert_says(&ts("1.ts", &|d| d[10 * 188] = 0), &["transport packet 10", "0x00 instead of 0x47"]);
    assert_says(&ts("1.ts", &|d| drop(d.drain(20 * 188..21 * 188))), &["the continuity counter of PID"]);
    assert_says(&ts("0.ts", &|d| drop(d.drain(..188))), &["transport packet 0", "association table"]);
    // Which of the two tracks misses something first depends on the encoder.
    ts("0.ts", &|d| d.truncate(188 * 20));
    assert_says(&ts("2.ts", &|d| d.clear()), &["2.ts", "it has no pictures"]);
}

#[test]
fn continuity_is_checked_over_the_joints() {
    // Made with another number: alone it is in order.
    let what = told(SegmentType::Ts, |title| title.numbers[1] = 5);
    assert_says(
        &what,
        &["180p/1.ts", "transport packet 0", "the continuity counter of PID 0 is 5 instead of 1"],
    );
}

#[test]
fn damage_to_fragmented_mp4_is_told() {
    let mp4 = |name: &str, change: &dyn Fn(&mut Vec<u8>)| told_of_file(SegmentType::Fmp4, name, change);
    assert_says(&mp4("1.m4s", &|d| d.truncate(d.len() - 5)), &["its mdat has"]);
    assert_says(&mp4("1.m4s", &|d| d.push(0)), &["its mdat has"]);
    assert_says(&mp4("1.m4s", &|d| d[4] = b'x'), &["where", "moof"]);
    assert_says(&mp4("1.m4s", &|d| d.truncate(100)), &["its moof is cut off"]);
    assert_says(&mp4("2.m4s", &|d| d.clear()), &["it is empty"]);
    assert_says(&mp4("init.mp4", &|d| d.truncate(d.len() - 1)), &["moov"]);
    assert_says(&mp4("init.mp4", &|d| d.push(0)), &["1 bytes behind its moov"]);
    let what = told(SegmentType::Fmp4, |title| title.numbers[1] = 5);
    assert_says(&what, &["180p/1.m4s", "sequence number is 6 instead of 2"]);
}

#[test]
fn a_missing_segment_is_an_error_of_reading() {
    for kind in KINDS {
        let title = Title::new(kind);
        let dir = tempfile::tempdir().unwrap();
        title.write(dir.path());
        let name = if kind == SegmentType::Ts { "1.ts" } else { "1.m4s" };
        fs::remove_file(dir.path().join("180p").join(name)).unwrap();
        let err = title.verify(dir.path()).unwrap_err();
        assert_eq!((err.code(), err.stage()), ("not_found", Stage::Verify));
        assert!(err.message().contains(name), "{err}");
    }
}

#[test]
fn a_cancel_ends_the_look() {
    for kind in KINDS {
        let title = Title::new(kind);
        let dir = tempfile::tempdir().unwrap();
        title.write(dir.path());
        let cancel = Cancel::new();
        cancel.cancel();
        let verdict = verify_hls(dir.path(), &title.plan(), &title.outcome(), &cancel, &RunLog::new());
        assert!(verdict.unwrap_err().is_cancelled());
    }
}

#[test]
fn a_single_transport_stream_is_the_segments_in_a_row() {
    let title = Title::new(SegmentType::Ts);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("film.ts");
    let mut data: Vec<u8> = (0..3).flat_map(|n| title.segment(n)).collect();
    fs::write(&path, &data).unwrap();
    let plan = Plan { format: Format::Ts, ..title.plan() };
    let verify = || verify_file(&path, &plan, &title.outcome(), &Cancel::new(), &RunLog::new());
    verify().unwrap();
    data.truncate(data.len() - title.segment(2).len());
    fs::write(&path, &data).unwrap();
    assert_says(&refusal(verify()), &["film.ts", "200 pictures instead of 250"]);
}

#[test]
fn the_33_bit_clock_is_followed_round() {
    const WRAP: i64 = 1 << 33;
    for near in [0, 900_000, WRAP - 5, WRAP, 3 * WRAP + 17] {
        for off in [-1_000_000, -1, 0, 1, 7_000_000] {
            assert_eq!(unwrap_33((near + off).rem_euclid(WRAP), near), near + off, "{near} {off}");
        }
    }
}
