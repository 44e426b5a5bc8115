//! The rules for segments, one test each, on made-up samples; the reader in `parser` is the judge.

mod parser;

use self::parser::{
    Pes, TsPacket, assert_clock, continuity_errors, parse, payload_packets, pes_packets, program,
};
use super::*;
use crate::model::track::Colour;
use bytes::Bytes;
use proptest::prelude::*;

const SPS: [u8; 6] = [0x67, 0x64, 0x00, 0x15, 0xAC, 0xD9];
const PPS: [u8; 4] = [0x68, 0xEB, 0xE3, 0xCB];

fn annex_b(units: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    nal::to_annex_b(units.iter().copied(), &mut out);
    out
}

fn video_track(codec: VideoCodec, frame_rate: Rational) -> VideoTrack {
    let config = match codec {
        VideoCodec::H264 => annex_b(&[&SPS, &PPS]),
        // With the banner that x265 puts there, a light level and a suffix SEI.
        _ => annex_b(&[
            &[0x40, 1, 1],
            &[0x42, 1, 2],
            &[0x44, 1, 3],
            &[0x4E, 1, 5, 0x80],
            &[0x4E, 1, 144, 4, 1, 2, 3, 4, 0x80],
            &[0x50, 1, 132, 0x80],
        ]),
    };
    VideoTrack {
        codec,
        width: 426,
        height: 240,
        sample_aspect_ratio: Rational::from_int(1),
        frame_rate,
        time_base: frame_rate.recip(),
        reorder_frames: 2,
        bit_depth: 8,
        colour: Colour { primaries: 1, transfer: 1, matrix: 1, full_range: false },
        config,
        profile: 100,
        level: 21,
    }
}

fn audio_track(codec: AudioCodec) -> AudioTrack {
    let (packet_samples, config) = match codec {
        AudioCodec::Aac => (1024, vec![0x11, 0x90]),
        AudioCodec::Mp3 => (1152, vec![]),
        _ => (1536, vec![]),
    };
    AudioTrack {
        codec,
        sample_rate: 48_000,
        channels: 2,
        time_base: Rational::new(1, 48_000),
        packet_samples,
        priming_samples: 0,
        config,
        bitrate: 128_000,
    }
}

fn muxer(video: Option<VideoTrack>, audio: Option<AudioTrack>) -> TsMuxer {
    TsMuxer::new(&Tracks { video, audio }).unwrap()
}

/// H.264 at this rate, and AAC.
fn usual(frame_rate: Rational) -> TsMuxer {
    muxer(Some(video_track(VideoCodec::H264, frame_rate)), Some(audio_track(AudioCodec::Aac)))
}

/// Bytes without any zero.
fn filler(bytes: usize, seed: i64) -> Vec<u8> {
    (0..bytes as i64).map(|i| ((i + 7 * seed).rem_euclid(255) + 1) as u8).collect()
}

/// One picture for each tick; its one NAL unit has `bytes` bytes. DTS runs two before PTS.
fn picture(pts: i64, key: bool, bytes: usize) -> Sample {
    let mut unit = filler(bytes, pts);
    unit[0] = if key { 0x65 } else { 0x41 };
    Sample { pts, dts: pts - 2, duration: 1, key, data: annex_b(&[&unit]).into() }
}

fn pictures(from: i64, count: i64, bytes: usize) -> Vec<Sample> {
    (from..from + count).map(|n| picture(n, n == from, bytes)).collect()
}

/// Frames `from` to `to`, of 1024 ticks each.
fn frames(from: i64, to: i64, bytes: usize) -> Vec<Sample> {
    let data = |n| Bytes::from(filler(bytes, n));
    (from..to)
        .map(|n| Sample { pts: 1024 * n, dts: 1024 * n, duration: 1024, key: true, data: data(n) })
        .collect()
}

/// Frame `n` of a track with 1536 ticks for each.
fn ac3_frame(n: i64, bytes: usize) -> Sample {
    Sample { pts: 1536 * n, dts: 1536 * n, duration: 1536, key: true, data: filler(bytes, n).into() }
}

/// A segment of `seconds` seconds with 25 pictures each second.
fn second_segments(muxer: &TsMuxer, index: i64, seconds: i64, bytes: (usize, usize)) -> Vec<u8> {
    let video = pictures(index * 25 * seconds, 25 * seconds, bytes.0);
    let frame = |s: i64| (s * 48_000).div_euclid(1024);
    let audio = frames(frame(index * seconds), frame((index + 1) * seconds), bytes.1);
    muxer.segment(index as u64, &video, &audio).unwrap()
}

fn of_pid(pes: &[Pes], pid: u16) -> Vec<&Pes> {
    pes.iter().filter(|p| p.pid == pid).collect()
}

const FPS_25: Rational = Rational::new(25, 1);

#[test]
fn tables_come_first_and_once() {
    let muxer = usual(FPS_25).with_language("Deu");
    let packets = parse(&second_segments(&muxer, 19, 2, (3000, 300)));
    let wanted = parser::Program {
        pmt_pid: 0x1000,
        pcr_pid: 0x100,
        streams: vec![(0x1B, 0x100, vec![]), (0x0F, 0x101, b"\x0A\x04deu\0".to_vec())],
    };
    assert_eq!(program(&packets), wanted);
    assert_eq!((packets[0].counter, packets[1].counter), (3, 3), "19 modulo 16");
    assert!(packets[2..].iter().all(|p| p.pid == 0x100 || p.pid == 0x101), "no other table, no repetition");
}

#[test]
fn stream_types_and_descriptors() {
    let language = b"\x0A\x04und\0";
    let cases: [(AudioCodec, u8, &[u8]); 4] = [
        (AudioCodec::Aac, 0x0F, b""),
        (AudioCodec::Mp3, 0x03, b""),
        (AudioCodec::Ac3, 0x81, b"\x05\x04AC-3"),
        (AudioCodec::Eac3, 0x87, b"\x05\x04EAC3"),
    ];
    for (codec, stream_type, registration) in cases {
        let muxer = muxer(Some(video_track(VideoCodec::Hevc, FPS_25)), Some(audio_track(codec)));
        let streams = program(&parse(&muxer.segment(0, &[], &[]).unwrap())).streams;
        assert_eq!(streams[0], (0x24, 0x100, b"\x05\x04HEVC".to_vec()));
        assert_eq!(streams[1], (stream_type, 0x101, [registration, language].concat()));
    }
    let sound_only = muxer(None, Some(audio_track(AudioCodec::Aac)));
    let program = program(&parse(&sound_only.segment(0, &[], &[]).unwrap()));
    assert_eq!((program.pcr_pid, program.streams.len()), (0x101, 1));
}

#[test]
fn a_language_that_is_none_counts_as_undetermined() {
    assert_eq!(
        ["eng", "ENG", "en", "d€", "e1g", ""].map(psi::language_code),
        [*b"eng", *b"eng", *b"und", *b"und", *b"und", *b"und"]
    );
}

#[test]
fn key_pictures_have_delimiter_parameter_sets_and_random_access() {
    let pes = pes_packets(&parse(&usual(FPS_25).segment(0, &pictures(0, 3, 500), &[]).unwrap()));
    let unit = |n: usize| picture(n as i64, n == 0, 500).data.to_vec();
    assert_eq!(pes[0].payload, [annex_b(&[&[0x09, 0xF0], &SPS, &PPS]), unit(0)].concat());
    assert_eq!(pes[1].payload, [annex_b(&[&[0x09, 0xF0]]), unit(1)].concat());
    assert_eq!(pes.iter().map(|p| p.random_access).collect::<Vec<_>>(), [true, false, false]);
}

#[test]
fn delimiters_and_parameter_sets_are_not_doubled() {
    let own: [&[u8]; 5] = [&[0x09, 0x10], &[0x67, 1, 2], &[0x68, 3], &[0x06, 4], &[0x65, 5]];
    let sample = Sample { data: annex_b(&own).into(), ..picture(0, true, 1) };
    let pes = pes_packets(&parse(&usual(FPS_25).segment(0, &[sample], &[]).unwrap()));
    assert_eq!(pes[0].payload, annex_b(&[&[0x09, 0xF0], own[1], own[2], own[3], own[4]]));
}

#[test]
fn both_framings_give_the_same_segment() {
    let mut track = video_track(VideoCodec::H264, FPS_25);
    let by_start_code = muxer(Some(track.clone()), None);
    track.config = [&[1, 0x64, 0, 0x15, 0xFF, 0xE1, 0, 6][..], &SPS, &[1, 0, 4], &PPS].concat();
    let by_length = muxer(Some(track), None);
    let video = pictures(0, 50, 700);
    let prefixed = video.iter().map(|s| {
        let mut data = Vec::new();
        nal::to_length_prefixed(&s.data, NalFormat::AnnexB, &mut data);
        Sample { data: data.into(), ..s.clone() }
    });
    let prefixed: Vec<Sample> = prefixed.collect();
    assert_eq!(by_start_code.segment(4, &video, &[]), by_length.segment(4, &prefixed, &[]));
}

#[test]
fn hevc_brings_its_light_level_and_its_temporal_layer() {
    let muxer = muxer(Some(video_track(VideoCodec::Hevc, FPS_25)), None);
    let key = Sample { data: annex_b(&[&[0x26, 1, 9]]).into(), ..picture(0, true, 1) };
    // A slice of temporal layer 2 (nuh_temporal_id_plus1 is 3) behind an SEI.
    let other = Sample { data: annex_b(&[&[0x4E, 1, 1], &[0x00, 3, 9]]).into(), ..picture(1, false, 1) };
    let pes = pes_packets(&parse(&muxer.segment(0, &[key, other], &[]).unwrap()));
    let light: [u8; 9] = [0x4E, 1, 144, 4, 1, 2, 3, 4, 0x80];
    let wanted: [&[u8]; 6] =
        [&[0x46, 1, 0x50], &[0x40, 1, 1], &[0x42, 1, 2], &[0x44, 1, 3], &light, &[0x26, 1, 9]];
    assert_eq!(pes[0].payload, annex_b(&wanted));
    assert_eq!(pes[1].payload, annex_b(&[&[0x46, 3, 0x50], &[0x4E, 1, 1], &[0x00, 3, 9]]));
}

#[test]
fn the_clock_runs_within_40_ms_at_each_frame_rate_and_over_joints() {
    let rates = [(24_000, 1001), (25, 1), (25, 2), (30_000, 1001), (60, 1), (1, 1), (120, 1), (10, 3)];
    for (num, den) in rates {
        for bytes in [5, 400, 40_000] {
            let packets = parse(&three_segments(Rational::new(num, den), bytes));
            assert_clock(&packets, 0x100, 3_600);
            assert_eq!(continuity_errors(&packets), Vec::<String>::new());
        }
    }
}

/// Three segments of about six seconds with pictures of `bytes` bytes.
fn three_segments(rate: Rational, bytes: usize) -> Vec<u8> {
    let muxer = usual(rate);
    let count = (rate * Rational::from_int(6)).round(Rounding::Floor);
    // The first audio frame that begins at or behind the cut.
    let frame_at =
        |cut: i64| (Rational::from_int(cut) / rate * Rational::new(48_000, 1024)).round(Rounding::Ceil);
    let mut title = Vec::new();
    for (index, from) in [0, count, 2 * count].into_iter().enumerate() {
        let mut video = pictures(from, count, bytes);
        if rate < Rational::from_int(5) {
            // Two pictures ahead would be more than the second that the clock may be ahead.
            video.iter_mut().for_each(|s| s.dts = s.pts);
        }
        let audio = frames(frame_at(from), frame_at(from + count), 200);
        title.extend(muxer.segment(index as u64, &video, &audio).unwrap());
    }
    title
}

#[test]
fn clock_values_in_between_cost_no_packets_when_there_is_room() {
    let muxer = muxer(Some(video_track(VideoCodec::H264, Rational::new(24, 1))), None);
    let packets = parse(&muxer.segment(0, &pictures(0, 48, 4_000), &[]).unwrap());
    assert_eq!(packets.iter().filter(|p| p.payload.is_none()).count(), 0);
    let clocks: Vec<usize> = (0..packets.len()).filter(|&at| packets[at].pcr.is_some()).collect();
    assert_eq!(clocks.len(), 2 * 48);
    let starts: Vec<usize> = pes_packets(&packets).iter().map(|p| p.at).collect();
    assert_eq!(clocks[2], starts[1]);
    assert_eq!(clocks[3], (starts[1] + starts[2]) / 2, "half of the time stands in half of the packets");
}

#[test]
fn a_wrong_prediction_does_not_set_the_clock_back() {
    let muxer = usual(FPS_25);
    let mut out = Vec::new();
    let mut writer = Packetizer::new(&muxer, 0, true, &mut out);
    writer.video(&picture(0, true, 9_000), 12, false, &mut out).unwrap();
    writer.video(&picture(1, false, 9_000), 1, true, &mut out).unwrap();
    writer.finish(&mut out);
    assert_clock(&parse(&out), 0x100, 3_600);
}

#[test]
fn the_clock_is_half_a_second_before_the_decoding_time() {
    let packets = parse(&usual(FPS_25).segment(7, &pictures(175, 25, 900), &[]).unwrap());
    for pes in pes_packets(&packets) {
        assert_eq!(packets[pes.at].pcr, Some((pes.decode_time() - 45_000) * 300));
    }
}

#[test]
fn without_pictures_in_the_segment_the_clock_goes_by_the_sound() {
    let packets = parse(&usual(FPS_25).segment(2, &[], &frames(200, 300, 300)).unwrap());
    assert_clock(&packets, 0x100, 3_600);
    assert_eq!(payload_packets(&packets, 0x100), 0);
    assert!(packets.iter().all(|p| p.pid != 0x100 || p.counter == 15), "as the segment before left it");
}

#[test]
fn without_a_picture_track_the_sound_carries_the_clock() {
    let muxer = muxer(None, Some(audio_track(AudioCodec::Aac)));
    let segment = |n: i64| muxer.segment(n as u64, &[], &frames(100 * n, 100 * (n + 1), 300)).unwrap();
    let packets = parse(&[segment(0), segment(1), segment(2)].concat());
    assert_clock(&packets, 0x101, 3_600);
    assert_eq!(continuity_errors(&packets), Vec::<String>::new());
}

#[test]
fn times_stand_on_one_clock_for_the_whole_title() {
    let muxer = usual(Rational::new(30_000, 1001));
    let times = |index: i64| {
        let video = pictures(index * 60, 60, 100);
        let pes = pes_packets(&parse(&muxer.segment(index as u64, &video, &[]).unwrap()));
        pes.iter().map(|p| (p.pts, p.dts)).collect::<Vec<_>>()
    };
    assert_eq!(times(0)[0], (900_000, Some(900_000 - 6006)), "title time 0 stands at 10 s");
    let (before, after) = (times(5), times(6));
    assert_eq!(after[0].1.unwrap() - before[59].1.unwrap(), 3003, "one frame over the joint");
    assert_eq!(after[0].0, 900_000 + 360 * 3003);
}

#[test]
fn sound_times_come_from_absolute_ticks() {
    let mut track = audio_track(AudioCodec::Aac);
    track.sample_rate = 44_100;
    track.time_base = Rational::new(1, 44_100);
    track.config = vec![0x12, 0x10];
    let pes = pes_packets(&parse(&muxer(None, Some(track)).segment(0, &[], &frames(-1, 4000, 10)).unwrap()));
    let mut frame = -1;
    for p in &pes {
        assert_eq!(p.pts, 900_000 + (frame * 1024 * 90_000 * 2 + 44_100_i64).div_euclid(2 * 44_100));
        assert_eq!(p.payload.len() % 17, 0);
        frame += (p.payload.len() / 17) as i64;
    }
    assert_eq!(frame, 4000);
}

#[test]
fn times_are_cut_to_33_bits() {
    let wrap = (1i64 << 33) / 3600;
    let packets = parse(&usual(FPS_25).segment(0, &pictures(wrap, 2, 100), &[]).unwrap());
    let pes = pes_packets(&packets);
    let wanted = wrap * 3600 + 900_000 - (1 << 33);
    assert_eq!((pes[0].pts, pes[0].dts), (wanted, Some(wanted - 7200)));
    assert_eq!(packets[2].pcr, Some((wanted - 7200 - 45_000) * 300));
}

#[test]
fn counters_run_on_over_segments_made_alone() {
    let muxer = usual(FPS_25);
    for bytes in [(2, 1), (170, 6), (5_000, 300)] {
        // Made in another order than played.
        let made = [6, 3, 5, 4].map(|index| (index, second_segments(&muxer, index, 2, bytes)));
        let by_index = |wanted| &made.iter().find(|(index, _)| *index == wanted).unwrap().1[..];
        let packets = parse(&[by_index(3), by_index(4), by_index(5), by_index(6)].concat());
        assert_eq!(continuity_errors(&packets), Vec::<String>::new());
        assert_eq!((payload_packets(&packets, 0x100) % 16, payload_packets(&packets, 0x101) % 16), (0, 0));
    }
}

#[test]
fn the_last_packets_are_spread_evenly_and_headers_stay_whole() {
    let muxer = usual(FPS_25);
    for bytes in [40, 200, 1000, 3000, 30_000] {
        let packets =
            parse(&muxer.segment(0, &pictures(0, 1, bytes), &frames(0, 1, bytes.min(2000))).unwrap());
        assert!(pes_packets(&packets).iter().all(|p| p.header_whole));
        let sizes: Vec<usize> = packets[2..]
            .iter()
            .filter(|p| p.pid == 0x100)
            .map(|p| p.payload.as_ref().unwrap().len())
            .collect();
        let (min, max) = (sizes[1..].iter().min().unwrap(), sizes[1..].iter().max().unwrap());
        assert!(max - min <= 1, "{sizes:?}");
    }
}

/// By decoding time, sound at most 70 ms behind.
#[track_caller]
fn check_interleaved(pes: &[Pes]) {
    for (n, one) in pes.iter().enumerate() {
        let earlier = pes[n + 1..].iter().find(|later| later.decode_time() < one.decode_time());
        let Some(later) = earlier else { continue };
        assert!((one.pid, later.pid) == (0x100, 0x101), "{n}: out of order within a track");
        let behind = one.decode_time() - later.decode_time();
        assert!(behind <= 6_300, "{n}: sound comes {behind} ticks behind a picture");
    }
}

#[test]
fn packets_are_interleaved_by_decoding_time() {
    let packets = parse(&second_segments(&usual(FPS_25), 3, 2, (2000, 300)));
    let pes = pes_packets(&packets);
    check_interleaved(&pes);
    for (n, sound) in pes.iter().enumerate().filter(|(_, one)| one.pid == 0x101) {
        let too_late = |p: &&Pes| p.pid == 0x100 && p.decode_time() <= sound.decode_time() + 6_300;
        assert!(!pes[n + 1..].iter().any(|p| too_late(&p)), "{n}: sound is written behind its pictures");
    }
    assert_eq!(pes[0].pid, 0x100, "the picture brings the clock");
    assert!(packets[2].pcr.is_some());
}

#[test]
fn headers_of_pictures_and_of_sound() {
    let same_time = Sample { dts: 9, ..picture(9, false, 100) };
    let segment =
        usual(FPS_25).segment(0, &[picture(8, true, 100), same_time], &frames(30, 38, 300)).unwrap();
    let pes = pes_packets(&parse(&segment));
    let (video, audio) = (of_pid(&pes, 0x100), of_pid(&pes, 0x101));
    assert!(pes.iter().all(|p| p.aligned));
    assert_eq!(
        video.iter().map(|p| (p.stream_id, p.stated_bytes)).collect::<Vec<_>>(),
        [(0xE0, 0), (0xE0, 0)]
    );
    assert_eq!((video[0].dts.is_some(), video[1].dts), (true, None), "DTS only when it differs");
    assert_eq!(
        audio.iter().map(|p| (p.stream_id, p.payload.len())).collect::<Vec<_>>(),
        [(0xC0, 4 * 307), (0xC0, 4 * 307)]
    );
    assert_eq!(audio[1].pts - audio[0].pts, 4 * 1920);
    assert_eq!(audio[0].payload[..7], [0xFF, 0xF1, 0x4C, 0x80, 0x26, 0x7F, 0xFC]);
    assert_eq!(audio[0].payload[7..307], frames(30, 31, 300)[0].data);
}

#[test]
fn a_last_frame_does_not_stay_alone() {
    let muxer = muxer(None, Some(audio_track(AudioCodec::Aac)));
    let lengths = |count: i64| {
        let pes = pes_packets(&parse(&muxer.segment(0, &[], &frames(0, count, 13)).unwrap()));
        pes.iter().map(|p| p.payload.len() / 20).collect::<Vec<_>>()
    };
    assert_eq!([1, 5, 6, 9].map(lengths), [vec![1], vec![5], vec![4, 2], vec![4, 5]]);
}

#[test]
fn ac3_goes_into_private_stream_1() {
    let segment =
        muxer(None, Some(audio_track(AudioCodec::Ac3))).segment(0, &[], &frames(0, 1, 300)).unwrap();
    let pes = pes_packets(&parse(&segment));
    assert_eq!((pes[0].stream_id, &pes[0].payload[..]), (0xBD, &frames(0, 1, 300)[0].data[..]));
}

#[test]
fn sound_after_a_hole_gets_its_own_time() {
    let mut audio = frames(0, 6, 300);
    audio[2..].iter_mut().for_each(|f| f.pts += 960);
    let pes = pes_packets(&parse(
        &muxer(None, Some(audio_track(AudioCodec::Aac))).segment(0, &[], &audio).unwrap(),
    ));
    assert_eq!(pes.iter().map(|p| p.pts - 900_000).collect::<Vec<_>>(), [0, 2 * 1920 + 1800]);
}

#[test]
fn what_does_not_belong_into_a_transport_stream_is_refused() {
    let refused = |video: Option<VideoTrack>, audio| TsMuxer::new(&Tracks { video, audio }).unwrap_err();
    for codec in [VideoCodec::Av1, VideoCodec::Vp9] {
        let track = VideoTrack { codec, ..video_track(VideoCodec::H264, FPS_25) };
        assert_eq!(refused(Some(track), None), TsError::VideoCodec(codec));
    }
    assert_eq!(refused(None, Some(audio_track(AudioCodec::Opus))), TsError::AudioCodec(AudioCodec::Opus));
    assert_eq!(refused(None, None), TsError::NoTracks);
    let no_config = VideoTrack { config: vec![], ..video_track(VideoCodec::H264, FPS_25) };
    assert_eq!(refused(Some(no_config), None), TsError::VideoConfig(NalError::Empty));
    let no_config = AudioTrack { config: vec![], ..audio_track(AudioCodec::Aac) };
    assert_eq!(refused(None, Some(no_config)), TsError::AudioConfig(AdtsError::Truncated));
    let no_time = AudioTrack { time_base: Rational::ZERO, ..audio_track(AudioCodec::Aac) };
    assert_eq!(refused(None, Some(no_time)), TsError::TimeBase("audio"));
}

#[test]
fn samples_that_cannot_be_written_are_refused() {
    let both = usual(FPS_25);
    let empty = |sample: Sample| Sample { data: Bytes::new(), ..sample };
    let long = frames(5, 6, 8185);
    assert_eq!(both.segment(0, &[empty(picture(2, true, 1))], &[]), Err(TsError::NoNalUnits { dts: 0 }));
    assert_eq!(
        both.segment(0, &[], &[empty(frames(5, 6, 1)[0].clone())]),
        Err(TsError::FrameLength { pts: 5120, bytes: 0 })
    );
    assert_eq!(both.segment(0, &[], &long), Err(TsError::FrameLength { pts: 5120, bytes: 8185 }));
    assert_eq!(
        both.segment(0, &[picture(4, true, 1), picture(3, false, 1)], &[]),
        Err(TsError::Order { track: "video", dts: 1 })
    );
    let early = Sample { pts: 1, ..picture(4, true, 1) };
    assert_eq!(both.segment(0, &[early], &[]), Err(TsError::Order { track: "video", dts: 2 }));
    let mixed: Vec<Sample> = frames(5, 7, 9).into_iter().rev().collect();
    assert_eq!(both.segment(0, &[], &mixed), Err(TsError::Order { track: "audio", dts: 5120 }));
    let sound = muxer(None, Some(audio_track(AudioCodec::Mp3)));
    assert_eq!(sound.segment(0, &[picture(4, true, 1)], &[]), Err(TsError::NoSuchTrack("video")));
    let silent = muxer(Some(video_track(VideoCodec::H264, FPS_25)), None);
    assert_eq!(silent.segment(0, &[], &frames(0, 1, 9)), Err(TsError::NoSuchTrack("audio")));
}

#[test]
fn times_out_of_any_range_do_not_panic() {
    let muxer = usual(FPS_25);
    for ticks in [i64::MIN, i64::MIN / 4000, -1, 0, i64::MAX / 4000, i64::MAX] {
        for other in [i64::MIN, 0, i64::MAX] {
            let video = |pts: i64| Sample { pts, dts: pts, duration: other, ..picture(0, true, 9) };
            let audio = |pts: i64| Sample { pts, dts: pts, duration: other, ..frames(0, 1, 9)[0].clone() };
            let _ = muxer.segment(u64::MAX, &[video(ticks), video(other)], &[audio(ticks), audio(other)]);
            let _ = muxer.segment(u64::MAX, &[], &[audio(ticks), audio(other)]);
        }
    }
}

/// The whole payload of a PID.
fn stream(packets: &[TsPacket], pid: u16) -> Vec<u8> {
    of_pid(&pes_packets(packets), pid).iter().flat_map(|p| p.payload.clone()).collect()
}

proptest! {
    #[test]
    fn what_goes_in_comes_out(
        video_bytes in proptest::collection::vec(prop_oneof![1usize..40, 1usize..20_000], 1..20),
        audio_bytes in proptest::collection::vec(prop_oneof![1usize..40, 1usize..20_000], 0..40),
        rate in prop_oneof![Just(24i64), Just(25), Just(7), Just(60)],
        index in any::<u64>(),
        shift in 0i64..40,
    ) {
        let rate = Rational::from_int(rate);
        let muxer = muxer(Some(video_track(VideoCodec::H264, rate)), Some(audio_track(AudioCodec::Ac3)));
        let video = (0i64..).zip(&video_bytes).map(|(n, &bytes)| picture(n, n % 12 == 0, bytes));
        let video: Vec<Sample> = video.collect();
        let audio: Vec<Sample> = (shift..).zip(&audio_bytes).map(|(n, &bytes)| ac3_frame(n, bytes)).collect();
        let segment = muxer.segment(index, &video, &audio).unwrap();
        let packets = parse(&segment);
        program(&packets);
        prop_assert_eq!(continuity_errors(&packets), Vec::<String>::new());
        prop_assert_eq!(u64::from(packets[0].counter), index % 16);
        for pid in [0x100, 0x101] {
            prop_assert_eq!(payload_packets(&packets, pid) % 16, 0);
            let first = packets.iter().find(|p| p.pid == pid && p.payload.is_some());
            prop_assert_eq!(first.map_or(0, |p| p.counter), 0);
        }
        let pictures = video.iter().flat_map(|s| {
            let sets: &[&[u8]] = if s.key { &[&[0x09, 0xF0], &SPS, &PPS] } else { &[&[0x09, 0xF0]] };
            [annex_b(sets), s.data.to_vec()].concat()
        });
        prop_assert_eq!(stream(&packets, 0x100), pictures.collect::<Vec<u8>>());
        let sound = audio.iter().flat_map(|s| s.data.to_vec());
        prop_assert_eq!(stream(&packets, 0x101), sound.collect::<Vec<u8>>());
        check_interleaved(&pes_packets(&packets));
        prop_assert!(segment.capacity() < 2 * segment.len() + 20_000, "the estimate is not wild");
    }
}
