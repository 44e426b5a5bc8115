//! Access units in the byte stream format as a transport stream wants them (ISO/IEC 13818-1, 2.14 and
//! 2.17): delimiter first, parameter sets in front of key pictures.
//!
//! What enters: one coded picture in either framing. What leaves: the same NAL units behind start
//! codes of four bytes.

use super::VideoStream;
use crate::container::nal::{self, ParameterSets};
use crate::model::track::{Sample, VideoCodec};

/// `primary_pic_type` 7: any kind of slice may follow.
const AUD_H264: [u8; 2] = [0x09, 0xF0];
/// `pic_type` 2: any kind of slice may follow. The temporal layer is filled in later.
const AUD_HEVC: [u8; 3] = [0x46, 0x01, 0x50];
/// `user_data_unregistered`: the encoder's banner.
const SEI_USER_DATA: u8 = 5;
const HEVC_SEI_SUFFIX: u8 = 40;

/// The parameter sets of a track in the byte stream format. SEI units of the configuration come along
/// (colour volume and light level stand nowhere else), but for the encoder's banner.
pub(super) fn headers(codec: VideoCodec, sets: &ParameterSets) -> Vec<u8> {
    let sei = sets.sei.iter().filter(|unit| is_worth_repeating(codec, unit));
    let units = sets.vps.iter().chain(&sets.sps).chain(&sets.pps).chain(sei);
    let mut out = Vec::new();
    nal::to_annex_b(units.map(Vec::as_slice), &mut out);
    out
}

fn is_worth_repeating(codec: VideoCodec, sei: &[u8]) -> bool {
    let header_bytes = if codec == VideoCodec::Hevc { 2 } else { 1 };
    let is_suffix = codec == VideoCodec::Hevc && nal::nal_type(codec, sei) == HEVC_SEI_SUFFIX;
    !is_suffix && sei.get(header_bytes).is_some_and(|&payload_type| payload_type != SEI_USER_DATA)
}

/// Appends a coded picture. Returns whether there was any NAL unit in it.
pub(super) fn put(stream: &VideoStream, sample: &Sample, out: &mut Vec<u8>) -> bool {
    let codec = stream.codec;
    let delimiter: &[u8] = if codec == VideoCodec::Hevc { &AUD_HEVC } else { &AUD_H264 };
    nal::to_annex_b([delimiter], out);
    let delimiter_end = out.len();
    if sample.key && !has_own_sps(stream, sample) {
        out.extend_from_slice(&stream.headers);
    }
    let mut any = false;
    let mut layer_known = codec != VideoCodec::Hevc;
    for unit in nal::nal_units(&sample.data, stream.format).filter(|unit| !nal::is_aud(codec, unit)) {
        if !layer_known && is_slice(codec, unit) {
            copy_temporal_layer(unit, delimiter_end, out);
            layer_known = true;
        }
        nal::to_annex_b([unit], out);
        any = true;
    }
    any
}

/// Looks in front of the first slice, where parameter sets must be. Only asked for key pictures, as
/// the search for the end of that slice is done twice by it.
fn has_own_sps(stream: &VideoStream, sample: &Sample) -> bool {
    let codec = stream.codec;
    nal::nal_units(&sample.data, stream.format)
        .take_while(|unit| !is_slice(codec, unit))
        .any(|unit| nal::is_sps(codec, unit))
}

fn is_slice(codec: VideoCodec, unit: &[u8]) -> bool {
    match codec {
        VideoCodec::H264 => (1..=5).contains(&nal::nal_type(codec, unit)),
        _ => nal::nal_type(codec, unit) < 32,
    }
}

/// An HEVC delimiter belongs to the temporal layer of its picture (ISO/IEC 23008-2, 7.4.2.2).
fn copy_temporal_layer(slice: &[u8], delimiter_end: usize, out: &mut [u8]) {
    let header = delimiter_end.checked_sub(2).and_then(|at| out.get_mut(at));
    if let (Some(header), Some(slice_header)) = (header, slice.get(1)) {
        *header = slice_header & 7;
    }
}
