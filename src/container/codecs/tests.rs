//! Configurations as encoders gave them, against strings and records that others made of them.

use super::*;
use mp4_atom::Encode;

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn video(codec: VideoCodec, config: &str) -> VideoTrack {
    VideoTrack {
        codec,
        width: 320,
        height: 180,
        sample_aspect_ratio: Rational::from_int(1),
        frame_rate: Rational::from_int(25),
        time_base: Rational::new(1, 25),
        reorder_frames: 0,
        bit_depth: 8,
        colour: crate::model::track::Colour { primaries: 2, transfer: 2, matrix: 2, full_range: false },
        config: bytes(config),
        profile: -99,
        level: -99,
    }
}

fn audio(codec: AudioCodec, config: &str) -> AudioTrack {
    AudioTrack {
        codec,
        sample_rate: 48_000,
        channels: 2,
        time_base: Rational::new(1, 48_000),
        packet_samples: 1024,
        priming_samples: 0,
        config: bytes(config),
        bitrate: 0,
    }
}

fn video_string(codec: VideoCodec, config: &str) -> String {
    video_codec_string(&video(codec, config)).unwrap()
}

#[test]
fn h264_strings_repeat_three_bytes_of_the_sps() {
    let avcc_high = "0164000cffe1001a6764000cacd941419f9f0110000003001000000303\
                     20f14299600100066\
                     8ebe3cb22c0fdf8f800";
    let annex_b_main = "00000001674d400ceca0a0cfcf8088000003000800000301907\
                        8a14cb00000000168ebe3cb20";
    let avcc_baseline = "0142c01fffe100196742c01fd9005005bb0110000003001000000303c0f183248001000568cb83cb20";
    let avcc_high_10 =
        "016e000cffe1001a676e000ca6cd941419f9f011000003000100000300320f14299601000668ebe3cb22c0fdfafa00";
    assert_eq!(video_string(VideoCodec::H264, avcc_high), "avc1.64000c");
    assert_eq!(video_string(VideoCodec::H264, annex_b_main), "avc1.4d400c");
    assert_eq!(video_string(VideoCodec::H264, avcc_baseline), "avc1.42c01f");
    assert_eq!(video_string(VideoCodec::H264, avcc_high_10), "avc1.6e000c");
}

#[test]
fn hevc_strings_reverse_the_compatibility_flags() {
    let main = "0101600000009000000000005df000fcfdf8f800000f03200001001840010c01ffff01600000030090000003000003005d\
                959809210001002b42010101600000030090000003000003005da00280802d165959a4932bc05a0200000300020000\
                03003c1022000100074401c172b46240";
    let high_tier = "01216000000090000000000096f000fcfdf8f800000f03200001001840010c01ffff21600000030090000003000003\
                     0096959809210001002a420101216000000300900000030000030096a00502016965959a4932bc05a02000000300\
                     2000000303c122000100074401c172b46240";
    let rext_444_12 = "0104080000009808000000003ff000fcfffcfc00000f03200001001740010c01ffff0408000003009808000003\
                       00003f959809210001002b4201010408000003009808000003000\
                       03f9000a0402d2294b2b349265780b404000003000400000300782022000100084401c172860c4624";
    assert_eq!(video_string(VideoCodec::Hevc, main), "hvc1.1.6.L93.90");
    assert_eq!(video_string(VideoCodec::Hevc, high_tier), "hvc1.1.6.H150.90");
    assert_eq!(video_string(VideoCodec::Hevc, rext_444_12), "hvc1.4.10.L63.98.8");
}

#[test]
fn hevc_strings_of_the_standard_examples() {
    let main_l93 = HevcSpsInfo {
        general_profile_space: 0,
        tier_flag: false,
        profile_idc: 1,
        compatibility_flags: 0x6000_0000,
        constraint_bytes: [0xB0, 0, 0, 0, 0, 0],
        level_idc: 93,
        chroma_format_idc: 1,
        bit_depth_luma: 8,
        bit_depth_chroma: 8,
        max_sub_layers: 1,
        temporal_id_nested: true,
        width: 1280,
        height: 720,
    };
    assert_eq!(hevc_string_of(&main_l93), "hvc1.1.6.L93.B0");
    let main10_l153 =
        HevcSpsInfo { profile_idc: 2, compatibility_flags: 0x2000_0000, level_idc: 153, ..main_l93 };
    assert_eq!(hevc_string_of(&main10_l153), "hvc1.2.4.L153.B0");
    let odd = HevcSpsInfo {
        general_profile_space: 1,
        tier_flag: true,
        constraint_bytes: [0, 0, 0x23, 0, 0, 0],
        ..main_l93
    };
    assert_eq!(hevc_string_of(&odd), "hvc1.A1.6.H93.0.0.23");
    let bare = HevcSpsInfo { constraint_bytes: [0; 6], ..main_l93 };
    assert_eq!(hevc_string_of(&bare), "hvc1.1.6.L93");
}

/// `av1C` records that libavformat made of the encoders' output; behind the fourth byte stand the
/// OBUs it made them of.
const AV1_RECORDS: [(&str, &str); 8] = [
    ("81000c000a0b000000043cfecc02f80040", "av01.0.00M.08"),
    ("81094c000a0b0000004aabbfc3700be101", "av01.0.09M.10"),
    ("812000000a0a200000043cfeccdaf902", "av01.1.00M.08"),
    ("814048000a0b400000043cfeccdaf94080", "av01.2.00M.10"),
    ("81001c000a0a000000043cfeccdaf92a", "av01.0.00M.08"),
    ("81406c000a0b400000043cfeccdaf96308", "av01.2.00M.12"),
    ("812000000a0d200000043cfeccdaf92021a004", "av01.1.00M.08"),
    ("81000c000a1e040000000400000065780000000a530000035f915f90bc3cfeccdaf90040", "av01.0.00M.08"),
];

#[test]
fn av1_records_and_sequence_headers_say_the_same() {
    for (record, string) in AV1_RECORDS {
        let delimiter_and_header = format!("1200{}", &record[8..]);
        for config in [record, &record[8..], &delimiter_and_header] {
            assert_eq!(video_string(VideoCodec::Av1, config), string, "{config}");
            let mut encoded = Vec::new();
            av1::configuration(&bytes(config)).unwrap().encode(&mut encoded).unwrap();
            assert_eq!(encoded[8..], bytes(record), "{config}");
        }
    }
}

#[test]
fn av1_high_tier_and_level() {
    // Level index 13 (5.1) has a tier bit.
    assert_eq!(video_string(VideoCodec::Av1, "810dcc00"), "av01.0.13H.10");
}

#[test]
fn vp9_levels_hold_size_rate_and_side() {
    let track = |width, height, rate| VideoTrack {
        width,
        height,
        frame_rate: rate,
        profile: 0,
        ..video(VideoCodec::Vp9, "")
    };
    let string = |track: &VideoTrack| video_codec_string(track).unwrap();
    let ntsc = Rational::new(30_000, 1001);
    assert_eq!(string(&track(256, 144, Rational::from_int(15))), "vp09.00.10.08");
    assert_eq!(string(&track(1280, 720, ntsc)), "vp09.00.31.08");
    assert_eq!(string(&track(1920, 1080, Rational::from_int(24))), "vp09.00.40.08");
    assert_eq!(string(&track(1920, 1080, Rational::from_int(60))), "vp09.00.41.08");
    assert_eq!(string(&track(3840, 2160, Rational::from_int(60))), "vp09.00.51.08");
    // As many samples as level 1 has, but a longer side.
    assert_eq!(string(&track(640, 36, Rational::from_int(10))), "vp09.00.11.08");
    let ten_bit = VideoTrack { profile: 2, bit_depth: 10, level: 51, ..track(1280, 720, ntsc) };
    assert_eq!(string(&ten_bit), "vp09.02.51.10");
}

#[test]
fn vp9_without_profile_or_level_is_refused() {
    let no_profile = video(VideoCodec::Vp9, "");
    assert_eq!(video_codec_string(&no_profile), Err(CodecStringError::Vp9Profile(-99)));
    for (width, height, rate) in [(0, 1080, 24), (1920, 1080, 0), (20_000, 20_000, 24)] {
        let frame_rate = Rational::from_int(rate);
        let track = VideoTrack { width, height, frame_rate, profile: 0, ..no_profile.clone() };
        let expected = CodecStringError::Vp9Level { width, height, frame_rate };
        assert_eq!(video_codec_string(&track), Err(expected));
    }
}

#[test]
fn audio_strings() {
    let string = |codec, config| audio_codec_string(&audio(codec, config)).unwrap();
    assert_eq!(string(AudioCodec::Aac, "121056e500"), "mp4a.40.2");
    // HE-AAC and HE-AAC v2 with explicit signalling.
    assert_eq!(string(AudioCodec::Aac, "2b920800"), "mp4a.40.5");
    assert_eq!(string(AudioCodec::Aac, "eb8a0800"), "mp4a.40.29");
    // The escape: 31, then 10 for USAC (42).
    assert_eq!(string(AudioCodec::Aac, "f9468000"), "mp4a.40.42");
    assert_eq!(string(AudioCodec::Ac3, ""), "ac-3");
    assert_eq!(string(AudioCodec::Eac3, ""), "ec-3");
    assert_eq!(string(AudioCodec::Opus, ""), "Opus");
    assert_eq!(string(AudioCodec::Mp3, ""), "mp4a.40.34");
}

#[test]
fn missing_and_damaged_configurations_are_refused() {
    let aac = |config| audio_codec_string(&audio(AudioCodec::Aac, config));
    assert_eq!(aac(""), Err(CodecStringError::Missing("AAC")));
    assert_eq!(aac("12"), Err(CodecStringError::Damaged("AudioSpecificConfig")));
    assert_eq!(aac("0210"), Err(CodecStringError::Damaged("AudioSpecificConfig")));
    let string = |codec, config| video_codec_string(&video(codec, config));
    assert_eq!(string(VideoCodec::H264, ""), Err(NalError::Empty.into()));
    assert_eq!(string(VideoCodec::Hevc, "000000014001"), Err(NalError::NoSps.into()));
    let short = string(VideoCodec::H264, "00000001674d");
    assert_eq!(short, Err(CodecStringError::Damaged("H.264 sequence parameter set")));
    assert_eq!(string(VideoCodec::Av1, ""), Err(CodecStringError::Missing("AV1")));
    assert_eq!(string(VideoCodec::Av1, "8100"), Err(CodecStringError::Damaged("av1C record")));
}

#[test]
fn av1_headers_cut_anywhere_are_errors_and_never_panic() {
    for (record, _) in AV1_RECORDS {
        let obu = bytes(&record[8..]);
        let payload = &obu[2..];
        for length in 0..payload.len() {
            // The size field tells the truth, the header ends early.
            let mut cut = vec![obu[0], length as u8];
            cut.extend_from_slice(&payload[..length]);
            let _ = av1::configuration(&cut);
            assert!(av1::configuration(&obu[..length]).is_err(), "size field beyond the end");
        }
        let mut early = vec![obu[0], 4];
        early.extend_from_slice(&payload[..4]);
        assert_eq!(av1::configuration(&early), Err(CodecStringError::Damaged("AV1 sequence header")));
    }
}
