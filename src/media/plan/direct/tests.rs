use super::*;
use crate::media::index::{Key, Origin};
use crate::media::plan::tests::film;

/// The parameter sets that x264 writes for High at level 4.0, as `avcC`.
const CONFIG: &[u8] = &[
    1, 0x64, 0, 0x28, 0xFF, 0xE1, 0, 0x1A, 0x67, 0x64, 0, 0x28, 0xAC, 0xD9, 0x40, 0x78, 0x02, 0x27, 0xE5,
    0x84, 0, 0, 3, 0, 4, 0, 0, 3, 0, 0xC8, 0x3C, 0x60, 0xC6, 0x58, 1, 0, 6, 0x68, 0xEB, 0xE3, 0xCB, 0x22,
    0xC0, 0xFD, 0xF8, 0xF8, 0,
];

/// A key frame every `seconds` for 100 s, each with `bytes` up to the next.
fn index(seconds: i64, bytes: u64) -> SourceIndex {
    let key = |n: i64| Key {
        pts: 1000 + n * seconds * 1000,
        offset: None,
        is_idr: Some(true),
        video: Amount { packets: 24 * seconds as u64, bytes },
        audio: Amount { packets: 32 * seconds as u64, bytes: 1000 },
    };
    SourceIndex {
        keys: (0..100 / seconds).map(key).collect(),
        origin: Origin::Tables,
        config: CONFIG.to_vec(),
    }
}

fn six() -> Rational {
    Rational::from_int(6)
}

fn why_not(facts: &SourceFacts, index: &SourceIndex, kind: SegmentType) -> String {
    direct(facts, index, kind, six()).expect_err("a reason")
}

#[test]
fn a_film_that_can_be_played_has_its_cuts_and_rates() {
    for kind in [SegmentType::Ts, SegmentType::Fmp4] {
        let found = direct(&film(), &index(2, 500_000), kind, six()).expect("it plays");
        assert_eq!(found.timeline.segment_count(), 17);
        assert_eq!(found.segment_bytes.len(), 17);
        // 3 x 501 000 bytes in 6 s.
        assert!(found.peak_bps >= 2_004_000 && found.peak_bps < 2_300_000, "{}", found.peak_bps);
        assert!(found.average_bps <= found.peak_bps && found.average_bps > 2_000_000);
    }
}

/// Neither player nor libav.
fn sound_nobody_has(facts: &mut SourceFacts) {
    let audio = facts.audio.as_mut().unwrap();
    audio.codec = "truehd".into();
    let stream = audio.stream;
    facts.streams.iter_mut().filter(|s| s.index == stream).for_each(|s| s.decodable = false);
}

#[test]
fn sound_that_not_every_player_has_is_encoded() {
    let sound = |codec: &str, container: &str| {
        let mut facts = film();
        facts.audio.as_mut().unwrap().codec = codec.into();
        facts.container = container.into();
        let found = direct(&facts, &index(2, 500_000), SegmentType::Ts, six()).expect("it plays");
        (found.sound, found.peak_bps)
    };
    let (copied, peak_of_copied) = sound("aac", "mov,mp4,m4a,3gp,3g2,mj2");
    assert_eq!(copied, Sound::Copied);
    for (codec, container) in [("flac", "matroska,webm"), ("dts", "matroska,webm"), ("aac", "mpegts")] {
        let (sound, peak) = sound(codec, container);
        assert_eq!(sound, Sound::Encoded, "{codec} in {container}");
        assert!(peak > peak_of_copied + 100_000, "{peak}: its own bytes count, not those of the source");
    }
    let mut silent = film();
    silent.audio = None;
    let found = direct(&silent, &index(2, 500_000), SegmentType::Ts, six()).expect("it plays");
    assert_eq!(found.sound, Sound::None);
}

#[test]
fn what_cannot_be_played_has_its_reason() {
    type Change = fn(&mut SourceFacts, &mut SourceIndex);
    let cases: &[(Change, &str)] = &[
        (|f, _| f.video.as_mut().unwrap().codec = "vc1".into(), "codec, vc1"),
        (|f, _| f.video.as_mut().unwrap().codec = "hevc".into(), "fMP4 segments only"),
        (|f, _| f.video.as_mut().unwrap().pixel_format = "yuv420p10le".into(), "format, yuv420p10le"),
        (|f, _| f.video.as_mut().unwrap().interlaced = true, "interlaced"),
        (|f, _| f.video.as_mut().unwrap().rotation_degrees = 90, "turned by 90"),
        (|f, _| sound_nobody_has(f), "codec, truehd"),
        (|f, _| f.video = None, "no picture"),
        (|_, i| i.config[11] = 52, "level, 52"),
        (|_, i| i.config.clear(), "parameter sets"),
        (|_, i| i.keys[3].is_idr = Some(false), "6.000 s"),
        (|_, i| i.keys.iter_mut().for_each(|k| k.is_idr = None), "nobody can tell"),
        (|_, i| i.keys[5].video.bytes = 20_000_000, "above 17000000"),
        (|_, i| i.keys.truncate(2), "apart, more than 15"),
    ];
    for (change, reason) in cases {
        let (mut facts, mut index) = (film(), index(2, 500_000));
        change(&mut facts, &mut index);
        let told = why_not(&facts, &index, SegmentType::Ts);
        assert!(told.contains(reason), "{told} is not about {reason}");
    }
}

#[test]
fn key_frames_that_begin_no_segment_may_be_open() {
    let mut index = index(2, 500_000);
    index.keys[1].is_idr = Some(false);
    assert!(direct(&film(), &index, SegmentType::Ts, six()).is_ok());
}

#[test]
fn the_first_cuts_the_last_and_some_between_are_looked_at() {
    let chosen = direct_cuts(&film(), &index(1, 1000), Rational::from_int(1));
    assert_eq!(chosen.get(..16), Some(&(0..16).collect::<Vec<_>>()[..]));
    assert!(chosen.len() <= 16 + 34 && chosen.contains(&99), "{chosen:?}");
}
