//! What a scan over framing and a parameter set must give, and that nothing panics.
//!
//! The parameter sets are what x264 and x265 wrote for pictures whose properties are known; the
//! expected numbers are those that were asked of the encoder.

use super::*;
use proptest::prelude::*;

/// High, 8 bit 4:2:0, 426x240, two reordered frames.
const AVCC: &str = "01640015ffe1 001a 67640015acd941b1fe4f01100000030010000003 0320f162d960
    01 0006 68ebe3cb22c0 fdf8f800";
/// High 4:2:2, 10 bit, interlaced, with HRD parameters, 426x242.
const AVCC_INTERLACED: &str = "017a0015ffe1 0029 677a0015b6cd941b10f244602d40404090000003002000
    0003032604000f424001e84a4b280f8a14cb 01 0006 68fba3cb22c0 fefafa00";
/// Main 10, level 2, 426x240; the SEI is cut short.
const HVCC: &str = "0102200000009000000000003cf000fcfdfafa00000f 04
    a0 0001 0018 40010c01ffff02200000030090000003000003003c959809
    a1 0001 002b 42010102200000030090000003000003003ca00d880f1c9b65959a4932bc05a02000000300200000030321
    a2 0001 0007 4401c172b46240
    27 0001 0005 4e01050180";

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u32> = hex.chars().filter_map(|c| c.to_digit(16)).collect();
    digits.chunks(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect()
}

fn units(data: &[u8], format: NalFormat) -> Vec<Vec<u8>> {
    nal_units(data, format).map(<[u8]>::to_vec).collect()
}

const FOUR: NalFormat = NalFormat::LengthPrefixed { length_bytes: 4 };

/// The definition of the byte stream format (B.1), byte by byte and slow.
fn units_by_definition(data: &[u8]) -> Vec<Vec<u8>> {
    let codes: Vec<usize> =
        (0..data.len().saturating_sub(2)).filter(|&i| data[i..i + 3] == [0, 0, 1]).collect();
    let ends = codes.iter().skip(1).copied().chain([data.len()]);
    let mut units: Vec<Vec<u8>> = codes.iter().zip(ends).map(|(&c, end)| data[c + 3..end].to_vec()).collect();
    units.iter_mut().for_each(|u| {
        while u.last() == Some(&0) {
            u.pop();
        }
    });
    units.retain(|u| !u.is_empty());
    units
}

/// Emulation prevention (7.4.1) over `payload`, behind a slice header byte; the last byte is not 0.
fn escape(payload: &[u8]) -> Vec<u8> {
    let (mut out, mut zeros) = (vec![0x65], 0);
    for &byte in payload.iter().chain(&[0x80]) {
        if zeros >= 2 && byte <= 3 {
            out.push(3);
            zeros = 0;
        }
        zeros = if byte == 0 { zeros + 1 } else { 0 };
        out.push(byte);
    }
    out
}

/// Bytes in which zeros, ones and threes are common.
fn payload() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![4 => Just(0u8), 2 => Just(1u8), 1 => Just(3u8), 4 => any::<u8>()];
    proptest::collection::vec(byte, 0..200)
}

fn payloads() -> impl Strategy<Value = Vec<Vec<u8>>> {
    proptest::collection::vec(payload(), 1..6)
}

/// Each configuration above with its codec.
const CONFIGS: [(VideoCodec, &str); 3] =
    [(VideoCodec::H264, AVCC), (VideoCodec::H264, AVCC_INTERLACED), (VideoCodec::Hevc, HVCC)];

proptest! {
    #[test]
    fn framings_turn_into_each_other(payloads in payloads(), long in any::<bool>()) {
        let escaped: Vec<Vec<u8>> = payloads.iter().map(|p| escape(p)).collect();
        let mut annex_b = Vec::new();
        if long {
            to_annex_b(escaped.iter().map(Vec::as_slice), &mut annex_b);
        } else {
            escaped.iter().for_each(|u| annex_b.extend([0u8, 0, 1].iter().chain(u)));
        }
        prop_assert_eq!(&units(&annex_b, NalFormat::AnnexB), &escaped);
        let mut prefixed = Vec::new();
        to_length_prefixed(&annex_b, NalFormat::AnnexB, &mut prefixed);
        prop_assert_eq!(prefixed.len(), escaped.iter().map(|u| 4 + u.len()).sum::<usize>());
        prop_assert_eq!(&units(&prefixed, FOUR), &escaped);
        for (unit, payload) in escaped.iter().zip(&payloads) {
            let plain = unescape(unit);
            prop_assert_eq!(&plain[1..plain.len() - 1], payload.as_slice());
        }
    }

    #[test]
    fn the_fast_scan_finds_what_the_definition_says(data in payload(), shift in 0usize..40) {
        let data = [vec![7; shift], data].concat();
        prop_assert_eq!(units(&data, NalFormat::AnnexB), units_by_definition(&data));
    }

    #[test]
    fn nothing_panics(data in payload(), length_bytes in any::<u8>(), hevc in any::<bool>()) {
        let codec = if hevc { VideoCodec::Hevc } else { VideoCodec::H264 };
        let _ = units(&data, NalFormat::LengthPrefixed { length_bytes });
        let _ = (parse_config(codec, &data), H264SpsInfo::parse(&data), HevcSpsInfo::parse(&data));
    }

    #[test]
    fn damaged_parameter_sets_do_not_panic(at in 0usize..200, value in any::<u8>(), cut in 0usize..200) {
        for (codec, config) in CONFIGS {
            let mut config = bytes(config);
            let length = config.len();
            config[at % length] = value;
            config.truncate(cut.max(1));
            for unit in parse_config(codec, &config).iter().flat_map(|sets| &sets.sps) {
                let _ = (H264SpsInfo::parse(unit), HevcSpsInfo::parse(unit));
            }
        }
    }
}

#[test]
fn start_codes_of_both_lengths_and_trailing_zeros() {
    let data = [9, 9, 0, 0, 0, 1, 0x67, 1, 0, 0, 0, 0, 1, 0x68, 0, 0, 1, 0, 0, 1, 0x65, 0, 0, 3, 0, 0];
    assert_eq!(
        units(&data, NalFormat::AnnexB),
        [vec![0x67, 1], vec![0x68], vec![0x65, 0, 0, 3]],
        "what stands before the first start code, empty units and trailing zeros are left out"
    );
}

#[test]
fn a_length_over_the_end_ends_the_iteration() {
    let two = NalFormat::LengthPrefixed { length_bytes: 2 };
    assert_eq!(units(&[0, 1, 7, 0, 0, 0, 2, 8, 8, 0, 9, 1], two), [vec![7], vec![8, 8]]);
    assert_eq!(units(&[255, 255, 255, 255, 1], FOUR), Vec::<Vec<u8>>::new());
    assert_eq!(units(&[1], NalFormat::LengthPrefixed { length_bytes: 0 }), Vec::<Vec<u8>>::new());
}

#[test]
fn avcc_and_annex_b_hold_the_same_sets() {
    let sets = parse_config(VideoCodec::H264, &bytes(AVCC)).unwrap();
    assert_eq!(sets.format, FOUR);
    assert_eq!((sets.sps[0].len(), sets.pps.clone()), (26, vec![bytes("68ebe3cb22c0")]));
    let mut annex_b = Vec::new();
    let sei = [6u8, 5, 1, 0xAA, 0x80];
    to_annex_b([&sei[..], &sets.sps[0], &sets.pps[0]], &mut annex_b);
    let again = parse_config(VideoCodec::H264, &annex_b).unwrap();
    let wanted = ParameterSets { sei: vec![sei.to_vec()], format: NalFormat::AnnexB, ..sets };
    assert_eq!(again, wanted);
}

#[test]
fn hvcc_holds_all_four_kinds() {
    let sets = parse_config(VideoCodec::Hevc, &bytes(HVCC)).unwrap();
    let first_bytes = [&sets.vps, &sets.sps, &sets.pps, &sets.sei].map(|list| (list.len(), list[0][0]));
    assert_eq!(first_bytes, [(1, 0x40), (1, 0x42), (1, 0x44), (1, 0x4E)]);
    assert_eq!(sets.format, FOUR);
}

#[test]
fn configurations_that_say_nothing_are_refused() {
    let errors = [
        parse_config(VideoCodec::Av1, &[1]),
        parse_config(VideoCodec::H264, &[]),
        parse_config(VideoCodec::H264, &[0, 0, 1, 0x68, 1]),
        parse_config(VideoCodec::H264, &bytes(AVCC)[..20]),
        parse_config(VideoCodec::H264, &[2, 0, 0, 0, 0xFF, 0xE0, 0]),
        parse_config(VideoCodec::H264, &[1, 0, 0, 0, 0xFE, 0xE0, 0]),
    ];
    let avcc = "AVCDecoderConfigurationRecord";
    let wanted = [
        NalError::Codec(VideoCodec::Av1),
        NalError::Empty,
        NalError::NoSps,
        NalError::Truncated(avcc),
        NalError::Invalid { what: avcc, field: "configurationVersion" },
        NalError::Invalid { what: avcc, field: "lengthSizeMinusOne" },
    ];
    assert_eq!(errors.map(Result::unwrap_err), wanted);
}

#[test]
fn sps_of_h264() {
    let sets = parse_config(VideoCodec::H264, &bytes(AVCC)).unwrap();
    let wanted = H264SpsInfo {
        profile_idc: 100,
        constraint_flags: 0,
        level_idc: 21,
        chroma_format_idc: 1,
        bit_depth_luma: 8,
        bit_depth_chroma: 8,
        max_num_reorder_frames: Some(2),
        width: 426,
        height: 240,
    };
    assert_eq!(H264SpsInfo::parse(&sets.sps[0]), Ok(wanted));
    assert_eq!(H264SpsInfo::parse(&sets.sps[0][..8]), Err(NalError::Truncated("sequence parameter set")));
}

#[test]
fn sps_of_interlaced_high_422() {
    let sets = parse_config(VideoCodec::H264, &bytes(AVCC_INTERLACED)).unwrap();
    let info = H264SpsInfo::parse(&sets.sps[0]).unwrap();
    assert_eq!((info.profile_idc, info.chroma_format_idc), (122, 2));
    assert_eq!((info.bit_depth_luma, info.bit_depth_chroma), (10, 10));
    assert_eq!((info.width, info.height), (426, 242));
    assert_eq!(info.max_num_reorder_frames, Some(2), "behind the HRD parameters");
}

#[test]
fn sps_of_hevc() {
    let sets = parse_config(VideoCodec::Hevc, &bytes(HVCC)).unwrap();
    let wanted = HevcSpsInfo {
        general_profile_space: 0,
        tier_flag: false,
        profile_idc: 2,
        compatibility_flags: 0x2000_0000,
        constraint_bytes: [0x90, 0, 0, 0, 0, 0],
        level_idc: 60,
        chroma_format_idc: 1,
        bit_depth_luma: 10,
        bit_depth_chroma: 10,
        max_sub_layers: 1,
        temporal_id_nested: true,
        width: 426,
        height: 240,
    };
    assert_eq!(HevcSpsInfo::parse(&sets.sps[0]), Ok(wanted));
}

#[test]
fn kinds_of_units() {
    let h264 = |header: u8| {
        let (c, u) = (VideoCodec::H264, [header]);
        (nal_type(c, &u), is_parameter_set(c, &u), is_aud(c, &u), is_idr(c, &u), is_irap(c, &u))
    };
    assert_eq!(h264(0x67), (7, true, false, false, false));
    assert_eq!(h264(0x68), (8, true, false, false, false));
    assert_eq!(h264(0x09), (9, false, true, false, false));
    assert_eq!(h264(0x65), (5, false, false, true, true));
    assert_eq!(h264(0x41), (1, false, false, false, false));
    let hevc = |kind: u8| {
        let (c, u) = (VideoCodec::Hevc, [kind << 1, 1]);
        (nal_type(c, &u), is_parameter_set(c, &u), is_aud(c, &u), is_idr(c, &u), is_irap(c, &u))
    };
    assert_eq!([32, 33, 34].map(hevc), [32, 33, 34].map(|k| (k, true, false, false, false)));
    assert_eq!(hevc(35), (35, false, true, false, false));
    assert_eq!([19, 20].map(hevc), [19, 20].map(|k| (k, false, false, true, true)));
    assert_eq!([16, 21].map(hevc), [16, 21].map(|k| (k, false, false, false, true)));
    assert_eq!(hevc(1), (1, false, false, false, false));
    assert_eq!(nal_type(VideoCodec::H264, &[]), NAL_TYPE_NONE);
    assert!(!is_irap(VideoCodec::Vp9, &[0x65]));
}

#[test]
fn a_picture_is_disposable_only_if_none_of_its_slices_is_referred_to() {
    let judge = |data: &[u8]| is_disposable(VideoCodec::H264, NalFormat::AnnexB, data);
    let (aud, sei, pps) = ([0, 0, 1, 0x09, 0xF0], [0, 0, 1, 0x06, 5], [0, 0, 1, 0x68, 0xCE]);
    let (kept, dropped) = ([0, 0, 1, 0x41, 0x9A], [0, 0, 1, 0x01, 0x9E]);
    assert!(judge(&dropped));
    assert!(judge(&[&aud[..], &sei, &dropped, &dropped].concat()));
    assert!(!judge(&kept));
    assert!(!judge(&[&dropped[..], &kept].concat()), "a second field that is referred to");
    assert!(!judge(&[&pps[..], &dropped].concat()), "later pictures need the parameter set");
    assert!(!judge(&[&aud[..], &sei].concat()), "no picture at all");
    assert!(!judge(&[]));
    let prefixed = NalFormat::LengthPrefixed { length_bytes: 4 };
    assert!(is_disposable(VideoCodec::H264, prefixed, &[0, 0, 0, 2, 0x01, 0x9E]));
    assert!(!is_disposable(VideoCodec::H264, prefixed, &[0, 0, 0, 2, 0x21, 0x9E]));
    // Higher layers may refer to what this one calls a non-reference picture.
    assert!(!is_disposable(VideoCodec::Hevc, NalFormat::AnnexB, &[0, 0, 1, 0, 1, 0x80]));
}
