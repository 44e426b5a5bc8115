//! Sample entries: the box of a track that tells a decoder what the samples are (ISO/IEC 14496-12,
//! 8.5.2, 14496-14, 14496-15 and the bindings of the codecs).
//!
//! What enters: a track. What leaves: its entry. Where codec strings need the same facts, the
//! parsers of [`crate::container::codecs`] are used.

use super::{Fmp4Error, TrackKind, ac3};
use crate::container::codecs::{self, av1};
use crate::container::nal::{self, H264SpsInfo, HevcSpsInfo, NalError};
use crate::model::track::{AudioCodec, AudioTrack, Colour, VideoCodec, VideoTrack};
use mp4_atom::{
    Ac3, Audio, Av01, Avc1, Avcc, AvccExt, Codec, Colr, Dops, Eac3, Esds, Hvc1, HvcCArray, Hvcc, Mp4a, Opus,
    OpusChannelMapping, Pasp, Visual, Vp09, VpcC,
    esds::{DecoderConfig, DecoderSpecific, EsDescriptor, SLConfig},
};

/// `nal_unit_type` of HEVC parameter sets and supplemental information.
const HEVC_VPS: u8 = 32;
const HEVC_SPS: u8 = 33;
const HEVC_PPS: u8 = 34;
const HEVC_PREFIX_SEI: u8 = 39;
/// Payload types of HEVC SEI that hold for the whole stream (ISO/IEC 23008-2 annex D): mastering
/// display colour volume, content light level, alternative transfer characteristics.
const DECLARATIVE_SEI: [u8; 3] = [137, 144, 147];

/// Object types of ISO/IEC 14496-1, table 5.
const OBJECT_TYPE_AAC: u8 = 0x40;
const OBJECT_TYPE_MPEG2_AUDIO: u8 = 0x69;
const OBJECT_TYPE_MPEG1_AUDIO: u8 = 0x6B;
const STREAM_TYPE_AUDIO: u8 = 5;

/// The entry of a video track.
///
/// # Errors
/// When its configuration is missing or damaged, or a number has no room.
pub(super) fn video_entry(track: &VideoTrack) -> Result<Codec, Fmp4Error> {
    let (visual, colr, pasp) = (visual(track)?, colr(track.colour), pasp(track)?);
    Ok(match track.codec {
        VideoCodec::H264 => Avc1 { visual, avcc: avcc(track)?, colr, pasp, ..Avc1::default() }.into(),
        VideoCodec::Hevc => Hvc1 { visual, hvcc: hvcc(track)?, colr, pasp, ..Hvc1::default() }.into(),
        VideoCodec::Av1 => {
            let av1c = av1::configuration(&track.config)?;
            Av01 { visual, av1c, colr, pasp, ..Av01::default() }.into()
        }
        VideoCodec::Vp9 => Vp09 { visual, vpcc: vpcc(track)?, colr, pasp, ..Vp09::default() }.into(),
    })
}

fn visual(track: &VideoTrack) -> Result<Visual, Fmp4Error> {
    let size = |value: u32, field| {
        u16::try_from(value).map_err(|_| Fmp4Error::Range { track: TrackKind::Video, field })
    };
    let (width, height) = (size(track.width, "width")?, size(track.height, "height")?);
    // 1 is the only data reference of the file; the crate's default of 0 would point at none.
    Ok(Visual { data_reference_index: 1, width, height, ..Visual::default() })
}

/// `colr` (12.1.5), when anything is known of the colour.
fn colr(colour: Colour) -> Option<Colr> {
    const UNSPECIFIED: u8 = 2;
    let Colour { primaries, transfer, matrix, full_range } = colour;
    [primaries, transfer, matrix].iter().any(|&code| code != UNSPECIFIED).then(|| Colr::Nclx {
        colour_primaries: primaries.into(),
        transfer_characteristics: transfer.into(),
        matrix_coefficients: matrix.into(),
        full_range_flag: full_range,
    })
}

/// `pasp` (12.1.4), when the ratio is known and the samples are not square.
fn pasp(track: &VideoTrack) -> Result<Option<Pasp>, Fmp4Error> {
    let ratio = track.sample_aspect_ratio;
    if !ratio.is_positive() || ratio.num() == ratio.den() {
        return Ok(None);
    }
    let term = |value: i64| {
        let field = "sample aspect ratio";
        u32::try_from(value).map_err(|_| Fmp4Error::Range { track: TrackKind::Video, field })
    };
    Ok(Some(Pasp { h_spacing: term(ratio.num())?, v_spacing: term(ratio.den())? }))
}

/// `AVCDecoderConfigurationRecord` (ISO/IEC 14496-15, 5.3.3.1), for lengths of four bytes.
fn avcc(track: &VideoTrack) -> Result<Avcc, Fmp4Error> {
    let sets = nal::parse_config(VideoCodec::H264, &track.config)?;
    let sps = H264SpsInfo::parse(sets.sps.first().ok_or(NalError::NoSps)?)?;
    check_sets(&[(&sets.sps, 31), (&sets.pps, 255)])?;
    Ok(Avcc {
        configuration_version: 1,
        avc_profile_indication: sps.profile_idc,
        profile_compatibility: sps.constraint_flags,
        avc_level_indication: sps.level_idc,
        length_size: 4,
        sequence_parameter_sets: sets.sps,
        picture_parameter_sets: sets.pps,
        ext: avcc_ext(&sps),
    })
}

/// The record names the sample format from High profile on.
fn avcc_ext(sps: &H264SpsInfo) -> Option<AvccExt> {
    (!matches!(sps.profile_idc, 66 | 77 | 88)).then(|| AvccExt {
        chroma_format: sps.chroma_format_idc,
        bit_depth_luma: sps.bit_depth_luma,
        bit_depth_chroma: sps.bit_depth_chroma,
        sequence_parameter_sets_ext: Vec::new(),
    })
}

/// Counts and lengths have fixed fields, which `mp4-atom` would silently cut.
fn check_sets(lists: &[(&[Vec<u8>], usize)]) -> Result<(), Fmp4Error> {
    let fits = |(list, most): &(&[Vec<u8>], usize)| {
        list.len() <= *most && list.iter().all(|set| set.len() <= usize::from(u16::MAX))
    };
    let range = Fmp4Error::Range { track: TrackKind::Video, field: "parameter sets" };
    lists.iter().all(fits).then_some(()).ok_or(range)
}

/// `HEVCDecoderConfigurationRecord` (ISO/IEC 14496-15, 8.3.3.1), for lengths of four bytes.
fn hvcc(track: &VideoTrack) -> Result<Hvcc, Fmp4Error> {
    let sets = nal::parse_config(VideoCodec::Hevc, &track.config)?;
    let sps = HevcSpsInfo::parse(sets.sps.first().ok_or(NalError::NoSps)?)?;
    let most = usize::from(u16::MAX);
    check_sets(&[(&sets.vps, most), (&sets.sps, most), (&sets.pps, most), (&sets.sei, most)])?;
    let sei = sets.sei.into_iter().filter(|unit| is_declarative(unit)).collect();
    // `hvc1` promises all parameter sets and no supplemental information to be here (8.4.1.1.1).
    let arrays = [
        (HEVC_VPS, true, sets.vps),
        (HEVC_SPS, true, sets.sps),
        (HEVC_PPS, true, sets.pps),
        (HEVC_PREFIX_SEI, false, sei),
    ];
    let array = |(nal_unit_type, completeness, nalus)| HvcCArray { completeness, nal_unit_type, nalus };
    let arrays = arrays.into_iter().map(array).filter(|array| !array.nalus.is_empty()).collect();
    Ok(Hvcc { arrays, ..hvcc_head(&sps) })
}

fn hvcc_head(sps: &HevcSpsInfo) -> Hvcc {
    Hvcc {
        general_profile_space: sps.general_profile_space,
        general_tier_flag: sps.tier_flag,
        general_profile_idc: sps.profile_idc,
        general_profile_compatibility_flags: sps.compatibility_flags.to_be_bytes(),
        general_constraint_indicator_flags: sps.constraint_bytes,
        general_level_idc: sps.level_idc,
        chroma_format_idc: sps.chroma_format_idc,
        bit_depth_luma_minus8: sps.bit_depth_luma.saturating_sub(8),
        bit_depth_chroma_minus8: sps.bit_depth_chroma.saturating_sub(8),
        num_temporal_layers: sps.max_sub_layers,
        temporal_id_nested: sps.temporal_id_nested,
        length_size_minus_one: 3,
        ..Hvcc::new()
    }
}

/// HDR metadata belongs into the record, an encoder's banner does not.
fn is_declarative(unit: &[u8]) -> bool {
    nal::nal_type(VideoCodec::Hevc, unit) == HEVC_PREFIX_SEI
        && unit.get(2).is_some_and(|payload_type| DECLARATIVE_SEI.contains(payload_type))
}

/// `VPCodecConfigurationRecord` (VP codec ISO BMFF binding).
fn vpcc(track: &VideoTrack) -> Result<VpcC, Fmp4Error> {
    /// 4:2:0 with chroma on the luma samples: what the short codec string means by its silence.
    const CHROMA_420_COLOCATED: u8 = 1;
    let profile = codecs::vp9_profile(track)?;
    if profile & 1 != 0 {
        return Err(Fmp4Error::Vp9Chroma(profile));
    }
    Ok(VpcC {
        profile,
        level: codecs::vp9_level(track)?,
        bit_depth: track.bit_depth,
        chroma_subsampling: CHROMA_420_COLOCATED,
        video_full_range_flag: track.colour.full_range,
        color_primaries: track.colour.primaries,
        transfer_characteristics: track.colour.transfer,
        matrix_coefficients: track.colour.matrix,
        codec_initialization_data: Vec::new(),
    })
}

/// The entry of an audio track, with a packet of it for codecs without configuration.
///
/// # Errors
/// When configuration or packet is missing or damaged, or a number has no room.
pub(super) fn audio_entry(track: &AudioTrack, packet: Option<&[u8]>) -> Result<Codec, Fmp4Error> {
    let audio = audio(track)?;
    let packet = packet.ok_or(Fmp4Error::NoFirstAudio(track.codec));
    Ok(match track.codec {
        AudioCodec::Aac => {
            codecs::audio_object_type(&track.config)?;
            mp4a(audio, track, OBJECT_TYPE_AAC, Some(track.config.clone())).into()
        }
        AudioCodec::Mp3 => mp4a(audio, track, mp3_object_type(track.sample_rate), None).into(),
        AudioCodec::Ac3 => Ac3 { audio, dac3: ac3::dac3(packet?)? }.into(),
        AudioCodec::Eac3 => Eac3 { audio, dec3: ac3::dec3(packet?, track.bitrate)? }.into(),
        AudioCodec::Opus => Opus { audio, dops: dops(&track.config)?, btrt: None }.into(),
    })
}

fn audio(track: &AudioTrack) -> Result<Audio, Fmp4Error> {
    let range = Fmp4Error::Range { track: TrackKind::Audio, field: "channel count" };
    let channel_count = u16::try_from(track.channels).map_err(|_| range)?;
    // Opus always decodes at 48 kHz. A rate above the field's range is left to the codec
    // configuration, as 0.
    let rate = if track.codec == AudioCodec::Opus { 48_000 } else { track.sample_rate };
    let sample_rate = u16::try_from(rate).unwrap_or(0).into();
    Ok(Audio { data_reference_index: 1, channel_count, sample_size: 16, sample_rate })
}

/// MPEG-2 added the sampling rates below 32 kHz.
fn mp3_object_type(sample_rate: u32) -> u8 {
    if sample_rate < 32_000 { OBJECT_TYPE_MPEG2_AUDIO } else { OBJECT_TYPE_MPEG1_AUDIO }
}

/// `mp4a` with `esds` (ISO/IEC 14496-14, 5.6).
fn mp4a(audio: Audio, track: &AudioTrack, object_type_indication: u8, config: Option<Vec<u8>>) -> Mp4a {
    let bitrate = u32::try_from(track.bitrate).unwrap_or(0);
    let dec_config = DecoderConfig {
        object_type_indication,
        stream_type: STREAM_TYPE_AUDIO,
        max_bitrate: bitrate,
        avg_bitrate: bitrate,
        dec_specific: config.map(|raw| DecoderSpecific { raw, ..DecoderSpecific::default() }),
        ..DecoderConfig::default()
    };
    let es_desc = EsDescriptor { dec_config, sl_config: SLConfig {}, ..EsDescriptor::default() };
    Mp4a { audio, esds: Esds { es_desc }, btrt: None, taic: None }
}

/// `dOps` (Opus ISO BMFF binding, 4.3.2) from `OpusHead` (RFC 7845, 5.1), which is little endian.
fn dops(config: &[u8]) -> Result<Dops, Fmp4Error> {
    let error = |reason| Fmp4Error::AudioConfig { codec: AudioCodec::Opus, reason };
    let head = config.strip_prefix(b"OpusHead").ok_or(error("it is no OpusHead"))?;
    let (fixed, table) = head.split_first_chunk::<11>().ok_or(error("the OpusHead is truncated"))?;
    let [version, channels, skip0, skip1, rate0, rate1, rate2, rate3, gain0, gain1, family] = *fixed;
    if version >> 4 != 0 {
        return Err(error("the version of the OpusHead is unknown"));
    }
    let channel_mapping = match family {
        0 => None,
        _ => Some(channel_mapping(family, channels, table).ok_or(error("its channel mapping is truncated"))?),
    };
    Ok(Dops {
        output_channel_count: channels,
        pre_skip: u16::from_le_bytes([skip0, skip1]),
        input_sample_rate: u32::from_le_bytes([rate0, rate1, rate2, rate3]),
        output_gain: i16::from_le_bytes([gain0, gain1]),
        channel_mapping,
    })
}

fn channel_mapping(family: u8, channels: u8, table: &[u8]) -> Option<OpusChannelMapping> {
    let (&[stream_count, coupled_count], rest) = table.split_first_chunk::<2>()?;
    let channel_mapping = rest.get(..usize::from(channels))?.to_vec();
    Some(OpusChannelMapping { family, stream_count, coupled_count, channel_mapping })
}
