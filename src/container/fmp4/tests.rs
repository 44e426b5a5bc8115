//! What is written, read back with `mp4-atom`, and what has to be refused.

use super::*;
use crate::model::track::{Colour, VideoCodec};
use bytes::Bytes;
use mp4_atom::{Atom, Codec, Decode, Encode, Moof, Moov, TrunEntry};

/// Main profile, level 1.2, 320x180, from x264.
const SPS_PPS: &str = "00000001674d400ceca0a0cfcf80880000030008000003019078a14cb00000000168ebe3cb20";
/// Heads of three packets of one AC-3 stream at 44.1 kHz (the frame size alternates), 192 kbit/s.
const AC3_44K: [&str; 3] =
    ["0b77c2ea544043e106f575f0", "0b77bf48554043e106f575f0", "0b77c1db554043e106f575f0"];
/// Heads of three packets of one E-AC-3 stream, 5.1, 384 kbit/s.
const EAC3_51: [&str; 3] =
    ["0b7702ff3f87c00020802000", "0b7702ff3f87c00020400000", "0b7702ff3f87c00020380000"];

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn h264() -> VideoTrack {
    VideoTrack {
        codec: VideoCodec::H264,
        width: 320,
        height: 180,
        sample_aspect_ratio: Rational::from_int(1),
        frame_rate: Rational::new(24_000, 1001),
        time_base: Rational::new(1, 24_000),
        reorder_frames: 2,
        bit_depth: 8,
        colour: Colour { primaries: 1, transfer: 1, matrix: 1, full_range: false },
        config: bytes(SPS_PPS),
        profile: 77,
        level: 12,
    }
}

fn audio(codec: AudioCodec) -> AudioTrack {
    AudioTrack {
        codec,
        sample_rate: 48_000,
        channels: 2,
        time_base: Rational::new(1, 48_000),
        packet_samples: 1024,
        priming_samples: 1024,
        config: if codec == AudioCodec::Aac { bytes("1190") } else { Vec::new() },
        bitrate: 384_000,
    }
}

fn both() -> Tracks {
    Tracks { video: Some(h264()), audio: Some(audio(AudioCodec::Aac)) }
}

fn muxer() -> Fmp4Muxer {
    Fmp4Muxer::new(&both(), None).unwrap()
}

/// Four frames in decoding order I P B B with a depth of two, from frame `first` on.
fn pictures(first: i64) -> Vec<Sample> {
    let order = [0, 3, 1, 2];
    let picture = |(decoded, &shown): (usize, &i64)| Sample {
        pts: (first + shown) * 1001,
        dts: (first + decoded as i64 - 2) * 1001,
        duration: 1001,
        key: decoded == 0,
        data: annex_b(decoded == 0, shown as u8),
    };
    order.iter().enumerate().map(picture).collect()
}

/// Delimiter, on key frames the parameter sets, then one slice of three bytes.
fn annex_b(key: bool, mark: u8) -> Bytes {
    let mut data = vec![0, 0, 0, 1, 9, 0x10];
    if key {
        data.extend(bytes(SPS_PPS));
    }
    data.extend([0, 0, 1, if key { 0x65 } else { 0x41 }, 0x80 | mark, 0x11]);
    data.into()
}

fn packets(first: i64, count: i64) -> Vec<Sample> {
    let packet = |n: i64| Sample {
        pts: n * 1024 - 1024,
        dts: n * 1024 - 1024,
        duration: 1024,
        key: true,
        data: vec![n as u8; 5].into(),
    };
    (first..first + count).map(packet).collect()
}

fn moof(segment: &[u8]) -> Moof {
    Moof::decode(&mut &*segment).unwrap()
}

fn moov(init: &[u8]) -> Moov {
    let ftyp_bytes = u32::from_be_bytes(init[..4].try_into().unwrap()) as usize;
    Moov::decode(&mut &init[ftyp_bytes..]).unwrap()
}

fn entries(moof: &Moof, track: usize) -> Vec<TrunEntry> {
    assert_eq!(moof.traf[track].trun.len(), 1);
    moof.traf[track].trun[0].samples.iter().collect()
}

fn tfdt(moof: &Moof, track: usize) -> u64 {
    moof.traf[track].tfdt.as_ref().unwrap().base_media_decode_time
}

#[test]
fn a_title_starts_at_decode_time_nought_and_no_picture_is_shown_before_it_is_decoded() {
    let moof = moof(&muxer().segment(0, &pictures(0), &packets(0, 3)).unwrap());
    assert_eq!(moof.mfhd.sequence_number, 1);
    assert_eq!((tfdt(&moof, 0), tfdt(&moof, 1)), (0, 0));
    assert_eq!((moof.traf[0].tfhd.track_id, moof.traf[1].tfhd.track_id), (1, 2));
    assert!(moof.traf.iter().all(|traf| traf.tfhd.default_base_is_moof));
    let video = entries(&moof, 0);
    let offsets: Vec<_> = video.iter().map(|entry| entry.cts.unwrap()).collect();
    assert_eq!(offsets, [2 * 1001, 4 * 1001, 1001, 1001]);
    let flags: Vec<_> = video.iter().map(|entry| entry.flags.unwrap()).collect();
    assert_eq!(flags, [0x0200_0000, 0x0101_0000, 0x0101_0000, 0x0101_0000]);
    assert!(video.iter().all(|entry| entry.duration == Some(1001)));
    let audio = entries(&moof, 1);
    assert!(
        audio
            .iter()
            .all(|entry| *entry == TrunEntry { duration: Some(1024), size: Some(5), ..<_>::default() })
    );
}

#[test]
fn the_next_decode_time_is_this_one_and_all_durations() {
    let muxer = muxer();
    for index in 0..50u64 {
        let at = |index: u64| {
            let first = index as i64;
            moof(&muxer.segment(index, &pictures(first * 4), &packets(first * 3, 3)).unwrap())
        };
        let (this, next) = (at(index), at(index + 1));
        assert_eq!(next.mfhd.sequence_number, this.mfhd.sequence_number + 1);
        for track in 0..2 {
            let sum: u64 = entries(&this, track).iter().map(|entry| u64::from(entry.duration.unwrap())).sum();
            assert_eq!(tfdt(&next, track), tfdt(&this, track) + sum);
        }
    }
}

#[test]
fn payloads_stand_where_the_offsets_say_without_delimiters_and_known_sets() {
    let segment = muxer().segment(7, &pictures(28), &packets(21, 2)).unwrap();
    let moof = moof(&segment);
    let run = |track: usize| {
        let mut at = moof.traf[track].trun[0].data_offset.unwrap() as usize;
        let sizes = entries(&moof, track).into_iter().map(|entry| entry.size.unwrap() as usize);
        let cut = |size: usize| {
            at += size;
            segment[at - size..at].to_vec()
        };
        (sizes.map(cut).collect::<Vec<_>>(), at)
    };
    let (video, video_end) = run(0);
    let slice = |first: u8, mark: u8| vec![0, 0, 0, 3, first, 0x80 | mark, 0x11];
    assert_eq!(video, [slice(0x65, 0), slice(0x41, 3), slice(0x41, 1), slice(0x41, 2)]);
    let (audio, audio_end) = run(1);
    assert_eq!(audio, [vec![21; 5], vec![22; 5]]);
    let mdat = moof.traf[0].trun[0].data_offset.unwrap() as usize - 8;
    assert_eq!(&segment[mdat + 4..mdat + 8], b"mdat");
    assert_eq!(
        u32::from_be_bytes(segment[mdat..mdat + 4].try_into().unwrap()) as usize,
        segment.len() - mdat
    );
    assert_eq!(moof.traf[1].trun[0].data_offset.unwrap() as usize, video_end);
    assert_eq!(audio_end, segment.len());
    assert!(segment.capacity() >= segment.len());
}

#[test]
fn parameter_sets_that_differ_from_the_entry_stay_in_the_sample() {
    let other_pps = [0x68, 0xEB, 0xE3, 0xCB, 0x24];
    let mut samples = pictures(0);
    let mut data = vec![0, 0, 0, 1];
    data.extend(other_pps);
    data.extend_from_slice(&samples[0].data);
    samples[0].data = data.into();
    let segment = muxer().segment(0, &samples, &[]).unwrap();
    assert_eq!(entries(&moof(&segment), 0)[0].size, Some(4 + 5 + 7));
    assert!(segment.windows(5).any(|window| window == other_pps));
}

#[test]
fn samples_last_until_the_next_one_is_decoded() {
    let mut samples = packets(0, 3);
    samples[2].pts += 500;
    let moof = moof(&muxer().segment(0, &[], &samples).unwrap());
    let durations: Vec<_> = entries(&moof, 0).iter().map(|entry| entry.duration.unwrap()).collect();
    assert_eq!(durations, [1024, 1524, 1024]);
    assert_eq!(moof.traf[0].tfhd.track_id, 2);
}

#[test]
fn the_movie_names_sizes_rates_and_no_sample() {
    let init = muxer().init();
    assert_eq!(&init[..16], b"\0\0\0\x20ftypiso6\0\0\0\0");
    assert_eq!(&init[16..32], b"iso6cmfcmp41hlsf");
    let moov = moov(&init);
    assert_eq!((moov.mvhd.rate, moov.mvhd.duration, moov.mvhd.next_track_id), (1.into(), 0, 3));
    let [video, audio] = &moov.trak[..] else { panic!("two tracks") };
    assert_eq!((video.tkhd.width, video.tkhd.height), (320.into(), 180.into()));
    assert_eq!((video.mdia.mdhd.timescale, audio.mdia.mdhd.timescale), (24_000, 48_000));
    assert_eq!(video.mdia.mdhd.language, "und");
    for (track, delay) in [(video, 2 * 1001), (audio, 1024)] {
        let edit = &track.edts.as_ref().unwrap().elst.as_ref().unwrap().entries;
        assert_eq!((edit.len(), edit[0].segment_duration, edit[0].media_time), (1, 0, Some(delay)));
        assert_eq!(edit[0].media_rate, 1.into());
    }
    assert!(moov.trak.iter().all(|trak| trak.mdia.minf.stbl.stts.entries.is_empty()));
    let trex = &moov.mvex.as_ref().unwrap().trex;
    assert_eq!(trex.iter().map(|trex| trex.track_id).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(trex[0].default_sample_flags, 0x0101_0000);
    let Codec::Avc1(avc1) = &video.mdia.minf.stbl.stsd.codecs[0] else { panic!("avc1") };
    assert_eq!(avc1.visual.data_reference_index, 1);
    assert_eq!((avc1.avcc.length_size, avc1.avcc.avc_profile_indication, &avc1.avcc.ext), (4, 77, &None));
    assert!(avc1.pasp.is_none() && avc1.colr.is_some());
}

#[test]
fn hevc_records_hold_all_sets_and_only_declarative_information() {
    // Main 10 with mastering display and light level; before them an encoder's banner (type 5).
    let record = "0102200000009000000000003ff000fcfdfafa00000f04200001001840010c01ffff022000000300900000030000030\
                  03f959809210001002e42010102200000030090000003000003003fa005020169365959a4932bc05a848804820000\
                  030002000003003c1022000100074401c172b46240\
                  27000300044e01050500094e01900403e8019080001e4e01891833c286c41d4c0bb884d03e803d1340420098968000\
                  0003003280";
    let track = VideoTrack { codec: VideoCodec::Hevc, config: bytes(record), ..h264() };
    let init = Fmp4Muxer::new(&Tracks { video: Some(track), audio: None }, None).unwrap().init();
    let moov = moov(&init);
    let Codec::Hvc1(hvc1) = &moov.trak[0].mdia.minf.stbl.stsd.codecs[0] else { panic!("hvc1") };
    let arrays = hvc1.hvcc.arrays.iter().map(|a| (a.nal_unit_type, a.completeness, a.nalus.len()));
    assert_eq!(arrays.collect::<Vec<_>>(), [(32, true, 1), (33, true, 1), (34, true, 1), (39, false, 2)]);
    // Everything before the arrays is what libavformat wrote, save the segmentation and rate hints.
    let mut written = Vec::new();
    hvc1.hvcc.encode_body(&mut written).unwrap();
    assert_eq!(written[..21], bytes(record)[..21]);
    assert_eq!(written[21], 0x0F);
}

#[test]
fn anamorphic_pictures_have_their_ratio_and_display_size() {
    let track = VideoTrack { sample_aspect_ratio: Rational::new(64, 45), ..h264() };
    let init = Fmp4Muxer::new(&Tracks { video: Some(track), audio: None }, None).unwrap().init();
    let moov = moov(&init);
    let Codec::Avc1(avc1) = &moov.trak[0].mdia.minf.stbl.stsd.codecs[0] else { panic!("avc1") };
    assert_eq!(avc1.pasp, Some(mp4_atom::Pasp { h_spacing: 64, v_spacing: 45 }));
    // 320 x 64 / 45 = 455.111…, in 65536ths.
    assert_eq!(moov.trak[0].tkhd.width, mp4_atom::FixedPoint::new(455, 7282));
}

#[test]
fn any_packet_describes_an_ac3_stream() {
    for (codec, heads, expected) in
        [(AudioCodec::Ac3, AC3_44K, "64616333501140"), (AudioCodec::Eac3, EAC3_51, "646563330c00200f00")]
    {
        let tracks = Tracks { video: None, audio: Some(audio(codec)) };
        let inits = heads.map(|head| Fmp4Muxer::new(&tracks, Some(&bytes(head))).unwrap().init());
        assert!(inits[0] == inits[1] && inits[1] == inits[2]);
        // What libavformat writes for the same streams.
        let expected = bytes(expected);
        assert!(inits[0].windows(expected.len()).any(|window| window == expected), "{codec:?}");
        assert_eq!(moov(&inits[0]).trak[0].tkhd.track_id, 1);
    }
}

#[test]
fn dependent_substreams_name_their_channels() {
    // 7.1: an independent 5.1 substream of 8 bytes and a dependent one (chanmap 0x0200, Lrs/Rrs).
    let independent = [0x0B, 0x77, 0x00, 0x03, 0x3F, 0x87, 0xC0, 0x00];
    // strmtyp 1; size 5 words; acmod 2, no LFE, bsid 16, dialnorm 31, no compr, chanmape, chanmap.
    let dependent = [0x0B, 0x77, 0x40, 0x04, 0x34, 0x87, 0xD0, 0x20, 0x00, 0x00];
    let packet = [&independent[..], &dependent, &independent, &dependent].concat();
    let dec3 = ac3::dec3(&packet, 768_000).unwrap();
    assert_eq!((dec3.data_rate, dec3.substreams.len()), (768, 1));
    let substream = &dec3.substreams[0];
    assert_eq!((substream.acmod, substream.lfeon, substream.num_dep_sub), (7, true, 1));
    assert_eq!(substream.chan_loc, Some(0b10));
    assert!(matches!(ac3::dec3(&dependent, 0), Err(Fmp4Error::FirstAudio { codec: AudioCodec::Eac3, .. })));
}

#[test]
fn packets_that_describe_nothing_are_refused() {
    for (codec, good) in [(AudioCodec::Ac3, AC3_44K[0]), (AudioCodec::Eac3, EAC3_51[0])] {
        let tracks = Tracks { video: None, audio: Some(audio(codec)) };
        let good = bytes(good);
        assert!(matches!(Fmp4Muxer::new(&tracks, None), Err(Fmp4Error::NoFirstAudio(c)) if c == codec));
        for length in 0..6 {
            let cut = Fmp4Muxer::new(&tracks, Some(&good[..length]));
            assert!(matches!(cut, Err(Fmp4Error::FirstAudio { codec: c, .. }) if c == codec));
        }
    }
    // One codec's packet is not the other's.
    assert!(ac3::dac3(&bytes(EAC3_51[0])).is_err());
    assert!(ac3::dec3(&bytes(AC3_44K[0]), 0).is_err());
}

#[test]
fn opus_heads_are_turned_to_big_endian() {
    let config = bytes("4f707573486561640106380180bb0000feff0104020004010203 05".replace(' ', "").as_str());
    let track = AudioTrack { config, channels: 6, priming_samples: 312, ..audio(AudioCodec::Opus) };
    let init = Fmp4Muxer::new(&Tracks { video: None, audio: Some(track.clone()) }, None).unwrap().init();
    let moov = moov(&init);
    let Codec::Opus(opus) = &moov.trak[0].mdia.minf.stbl.stsd.codecs[0] else { panic!("Opus") };
    let mut dops = Vec::new();
    opus.dops.encode_body(&mut dops).unwrap();
    assert_eq!(dops, bytes("000601380000bb80fffe01040200040102030 5".replace(' ', "").as_str()));
    for length in 0..track.config.len() {
        let config = track.config[..length].to_vec();
        let cut = Tracks { video: None, audio: Some(AudioTrack { config, ..track.clone() }) };
        let refused = Fmp4Muxer::new(&cut, None);
        assert!(matches!(refused, Err(Fmp4Error::AudioConfig { codec: AudioCodec::Opus, .. })), "{length}");
    }
}

#[test]
fn mp3_has_the_object_type_of_its_standard() {
    for (rate, object_type) in [(44_100, 0x6B), (22_050, 0x69)] {
        let track = AudioTrack { sample_rate: rate, ..audio(AudioCodec::Mp3) };
        let init = Fmp4Muxer::new(&Tracks { video: None, audio: Some(track) }, None).unwrap().init();
        let moov = moov(&init);
        let Codec::Mp4a(mp4a) = &moov.trak[0].mdia.minf.stbl.stsd.codecs[0] else { panic!("mp4a") };
        assert_eq!(mp4a.esds.es_desc.dec_config.object_type_indication, object_type);
        assert_eq!(mp4a.esds.es_desc.dec_config.dec_specific, None);
    }
}

#[test]
fn tracks_that_cannot_be_written_are_refused() {
    let new = |video: Option<VideoTrack>, audio: Option<AudioTrack>| {
        Fmp4Muxer::new(&Tracks { video, audio }, None).unwrap_err()
    };
    assert!(matches!(new(None, None), Fmp4Error::NoTracks));
    let time_base = Rational::new(1001, 24_000);
    let video = |change: fn(&mut VideoTrack)| {
        let mut track = h264();
        change(&mut track);
        new(Some(track), None)
    };
    let found = video(|track| track.time_base = Rational::new(1001, 24_000));
    assert!(
        matches!(found, Fmp4Error::TimeBase { track: TrackKind::Video, time_base: tb } if tb == time_base)
    );
    assert!(matches!(video(|track| track.config.clear()), Fmp4Error::ParameterSets(NalError::Empty)));
    assert!(matches!(video(|track| track.width = 70_000), Fmp4Error::Range { field: "width", .. }));
    assert!(matches!(video(|track| track.frame_rate = Rational::ZERO), Fmp4Error::Rate(TrackKind::Video)));
    let vp9 = video(|track| (track.codec, track.profile) = (VideoCodec::Vp9, 1));
    assert!(matches!(vp9, Fmp4Error::Vp9Chroma(1)));
    let zero = AudioTrack { time_base: Rational::ZERO, ..audio(AudioCodec::Aac) };
    assert!(matches!(new(None, Some(zero)), Fmp4Error::TimeBase { track: TrackKind::Audio, .. }));
    let bare = AudioTrack { config: Vec::new(), ..audio(AudioCodec::Aac) };
    assert!(matches!(new(None, Some(bare)), Fmp4Error::Config(CodecStringError::Missing("AAC"))));
}

#[test]
fn samples_that_cannot_be_written_are_refused() {
    let muxer = muxer();
    let video = |change: fn(&mut [Sample])| {
        let mut samples = pictures(4);
        change(&mut samples);
        muxer.segment(5, &samples, &[]).unwrap_err()
    };
    assert!(matches!(muxer.segment(5, &[], &[]), Err(Fmp4Error::Empty(5))));
    assert!(matches!(video(|s| s[0].key = false), Fmp4Error::NotAKeyFrame(5)));
    let early = video(|s| s[0].dts = -2 * 1001 - 1);
    assert!(matches!(early, Fmp4Error::NegativeDecodeTime { index: 5, track: TrackKind::Video, ticks: -1 }));
    assert!(matches!(video(|s| s[2].dts = s[1].dts), Fmp4Error::Order { sample: 2, .. }));
    assert!(matches!(video(|s| s[2].dts = s[0].dts), Fmp4Error::Order { sample: 2, .. }));
    assert!(matches!(video(|s| s[3].duration = -1), Fmp4Error::Range { field: "sample duration", .. }));
    assert!(matches!(video(|s| s[3].pts = i64::MAX), Fmp4Error::Range { field: "composition offset", .. }));
    assert!(matches!(video(|s| s[1].data = Bytes::new()), Fmp4Error::Payload { sample: 1, .. }));
    // Length-prefixed units where the configuration promises start codes.
    let framing = video(|s| s[1].data = Bytes::from_static(&[0, 0, 0, 2, 0x41, 0x80]));
    assert!(matches!(framing, Fmp4Error::Payload { index: 5, track: TrackKind::Video, sample: 1 }));
    assert!(matches!(muxer.segment(u64::from(u32::MAX), &pictures(0), &[]), Err(Fmp4Error::TooLarge)));
    let silent = Fmp4Muxer::new(&Tracks { audio: None, ..both() }, None).unwrap();
    let refused = silent.segment(1, &pictures(0), &packets(0, 1));
    assert!(matches!(refused, Err(Fmp4Error::NoSuchTrack { index: 1, track: TrackKind::Audio })));
}

#[test]
fn delays_off_the_tick_grid_never_make_a_time_negative() {
    // 2 frames at 23.976 Hz are 7507.5 ticks of 90 kHz; the caller may have rounded either way.
    let track = VideoTrack { time_base: Rational::TB_90K, ..h264() };
    let muxer = Fmp4Muxer::new(&Tracks { video: Some(track), audio: None }, None).unwrap();
    for (dts, expected) in [(-7508, 0), (-7507, 1)] {
        let sample = Sample { dts, pts: 0, duration: 3754, ..pictures(0).remove(0) };
        let moof = moof(&muxer.segment(0, &[sample], &[]).unwrap());
        let cts = entries(&moof, 0)[0].cts.unwrap();
        assert_eq!((tfdt(&moof, 0), tfdt(&moof, 0) as i64 + cts), (expected, 7508));
    }
}

#[test]
fn av1_units_lose_their_delimiter_and_padding_only() {
    let config = bytes("0a0b000000043cfecc02f80040");
    let track = VideoTrack { codec: VideoCodec::Av1, config, reorder_frames: 0, ..h264() };
    let muxer = Fmp4Muxer::new(&Tracks { video: Some(track), audio: None }, None).unwrap();
    let sample =
        |data: &'static [u8]| Sample { dts: 0, data: Bytes::from_static(data), ..pictures(0).remove(0) };
    // Delimiter, sequence header with two bytes, padding, frame without size field.
    let unit = sample(&[0x12, 0, 0x0A, 2, 7, 7, 0x7A, 1, 0x80, 0x30, 5, 6]);
    let segment = muxer.segment(0, &[unit], &[]).unwrap();
    assert_eq!(segment[segment.len() - 7..], [0x0A, 2, 7, 7, 0x30, 5, 6]);
    assert_eq!(entries(&moof(&segment), 0)[0].size, Some(7));
    for broken in [&[0x12, 0, 0x0A, 9, 7][..], &[0x80], &[0x12, 0], &[0x0A, 0xFF]] {
        assert!(matches!(muxer.segment(0, &[sample(broken)], &[]), Err(Fmp4Error::Payload { .. })));
    }
}

#[test]
fn boxes_of_the_movie_stand_in_the_customary_order() {
    let init = muxer().init();
    let at = |kind: &[u8; 4]| init.windows(4).position(|window| window == kind).unwrap();
    let order = [
        b"mvhd", b"trak", b"tkhd", b"mdia", b"mdhd", b"hdlr", b"minf", b"vmhd", b"dinf", b"stbl", b"smhd",
        b"mvex",
    ];
    assert!(order.windows(2).all(|pair| at(pair[0]) < at(pair[1])));
    assert!(at(b"edts") < at(b"vmhd") && at(b"edts") > at(b"tkhd"));
    let mut again = Vec::new();
    moov(&init).encode(&mut again).unwrap();
    assert_eq!(again.len() + 32, init.len(), "the same boxes as the crate writes");
}
