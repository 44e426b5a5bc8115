//! NAL units of H.264 (ISO/IEC 14496-10) and HEVC (ISO/IEC 23008-2): framing, kinds, parameter sets.
//!
//! What enters: coded samples and codec configurations, as an encoder or a demuxer gives them. What
//! leaves: the single units, the same units in the other framing, and the few numbers of a sequence
//! parameter set that containers and codec strings repeat. Everything here may come from a damaged
//! file: nothing panics, and a scan over broken framing ends early.
//!
//! Nothing about a container's boxes or packets lives here.

// The path is spelled out so that this file can also be compiled on its own.
#[path = "nal/sps.rs"]
mod sps;
#[cfg(test)]
#[path = "nal/tests.rs"]
mod tests;

pub use sps::{H264SpsInfo, HevcSpsInfo, unescape};

use crate::model::track::VideoCodec;
use std::ops::RangeInclusive;

/// H.264 `nal_unit_type` of a coded slice of an IDR picture (table 7-1).
const H264_IDR: u8 = 5;
const H264_SEI: u8 = 6;
const H264_SPS: u8 = 7;
const H264_PPS: u8 = 8;
const H264_AUD: u8 = 9;
/// HEVC `nal_unit_type` values (table 7-1): IRAP pictures are 16..=23, of which these two are IDR.
const HEVC_IDR_W_RADL: u8 = 19;
const HEVC_IDR_N_LP: u8 = 20;
const HEVC_VPS: u8 = 32;
const HEVC_SPS: u8 = 33;
const HEVC_PPS: u8 = 34;
const HEVC_AUD: u8 = 35;
const HEVC_SEI_PREFIX: u8 = 39;
const HEVC_SEI_SUFFIX: u8 = 40;

/// What [`nal_type`] answers when there is no type: an empty unit, or a codec without NAL units.
/// No unit of either codec can have this type, it has more than 6 bits.
pub const NAL_TYPE_NONE: u8 = u8::MAX;

/// How NAL units follow each other in a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NalFormat {
    /// Byte stream format (annex B): each unit behind a start code `00 00 01`.
    AnnexB,
    /// Each unit behind its length in bytes (ISO/IEC 14496-15), big endian.
    LengthPrefixed {
        /// Bytes of the length field: 1, 2 or 4.
        length_bytes: u8,
    },
}

/// What is wrong with a codec configuration or a parameter set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NalError {
    /// Only H.264 and HEVC are made of NAL units.
    #[error("{0:?} has no NAL units; only H.264 and HEVC have")]
    Codec(VideoCodec),
    /// The encoder gave no global header, or the demuxer found none.
    #[error("the codec configuration is empty: open the encoder with a global header")]
    Empty,
    /// Ends inside of a field.
    #[error("the {0} is truncated")]
    Truncated(&'static str),
    /// A field has a value that the standard forbids.
    #[error("the {what} has an invalid {field}")]
    Invalid {
        /// The structure.
        what: &'static str,
        /// The field in the standard's spelling.
        field: &'static str,
    },
    /// Nothing tells how large the picture is.
    #[error("the codec configuration holds no sequence parameter set")]
    NoSps,
}

/// The parameter sets of a track, each a NAL unit with its header and without any framing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParameterSets {
    /// Video parameter sets; always empty for H.264.
    pub vps: Vec<Vec<u8>>,
    /// Sequence parameter sets; at least one.
    pub sps: Vec<Vec<u8>>,
    /// Picture parameter sets.
    pub pps: Vec<Vec<u8>>,
    /// Supplemental enhancement information that stands with them (encoder banner, HDR metadata).
    pub sei: Vec<Vec<u8>>,
    /// How the NAL units of the track's samples are framed.
    pub format: NalFormat,
}

impl ParameterSets {
    fn new(format: NalFormat) -> Self {
        Self { vps: Vec::new(), sps: Vec::new(), pps: Vec::new(), sei: Vec::new(), format }
    }

    /// Puts a unit where its type belongs; units of other types do not matter to a container.
    fn add(&mut self, codec: VideoCodec, unit: &[u8]) {
        let list = match (codec, nal_type(codec, unit)) {
            (VideoCodec::H264, H264_SPS) | (VideoCodec::Hevc, HEVC_SPS) => &mut self.sps,
            (VideoCodec::H264, H264_PPS) | (VideoCodec::Hevc, HEVC_PPS) => &mut self.pps,
            (VideoCodec::Hevc, HEVC_VPS) => &mut self.vps,
            (VideoCodec::H264, H264_SEI) | (VideoCodec::Hevc, HEVC_SEI_PREFIX | HEVC_SEI_SUFFIX) => {
                &mut self.sei
            }
            _ => return,
        };
        list.push(unit.to_vec());
    }
}

/// Reads a codec configuration as libav's `extradata` gives it: Annex B parameter sets,
/// `AVCDecoderConfigurationRecord` (ISO/IEC 14496-15 5.3.3.1) or `HEVCDecoderConfigurationRecord`
/// (8.3.3.1). SEI units that stand among them end up in [`ParameterSets::sei`].
///
/// # Errors
/// For another codec, an empty or damaged configuration, and one without an SPS.
pub fn parse_config(codec: VideoCodec, config: &[u8]) -> Result<ParameterSets, NalError> {
    let sets = match codec {
        VideoCodec::Av1 | VideoCodec::Vp9 => return Err(NalError::Codec(codec)),
        _ if config.is_empty() => return Err(NalError::Empty),
        _ if starts_with_start_code(config) => parse_annex_b(codec, config),
        VideoCodec::H264 => parse_avcc(config)?,
        VideoCodec::Hevc => parse_hvcc(config)?,
    };
    if sets.sps.is_empty() { Err(NalError::NoSps) } else { Ok(sets) }
}

fn starts_with_start_code(config: &[u8]) -> bool {
    config.starts_with(&[0, 0, 1]) || config.starts_with(&[0, 0, 0, 1])
}

fn parse_annex_b(codec: VideoCodec, config: &[u8]) -> ParameterSets {
    let mut sets = ParameterSets::new(NalFormat::AnnexB);
    nal_units(config, NalFormat::AnnexB).for_each(|unit| sets.add(codec, unit));
    sets
}

fn parse_avcc(config: &[u8]) -> Result<ParameterSets, NalError> {
    const WHAT: &str = "AVCDecoderConfigurationRecord";
    let mut bytes = Bytes { rest: config, what: WHAT };
    check_version(bytes.u8()?, 1..=1, WHAT)?;
    bytes.take(3)?;
    let mut sets = ParameterSets::new(length_format(bytes.u8()?, WHAT)?);
    // First the SPS, 5 bits of count, then the PPS, 8 bits of count.
    for mask in [0x1F, 0xFF] {
        for _ in 0..bytes.u8()? & mask {
            let length = bytes.u16()?;
            sets.add(VideoCodec::H264, bytes.take(usize::from(length))?);
        }
    }
    Ok(sets)
}

fn parse_hvcc(config: &[u8]) -> Result<ParameterSets, NalError> {
    const WHAT: &str = "HEVCDecoderConfigurationRecord";
    let mut bytes = Bytes { rest: config, what: WHAT };
    // Files from before the record was frozen say 0; their layout is the same.
    check_version(bytes.u8()?, 0..=1, WHAT)?;
    bytes.take(20)?;
    let mut sets = ParameterSets::new(length_format(bytes.u8()?, WHAT)?);
    for _ in 0..bytes.u8()? {
        bytes.u8()?;
        for _ in 0..bytes.u16()? {
            let length = bytes.u16()?;
            sets.add(VideoCodec::Hevc, bytes.take(usize::from(length))?);
        }
    }
    Ok(sets)
}

fn check_version(found: u8, known: RangeInclusive<u8>, what: &'static str) -> Result<(), NalError> {
    if known.contains(&found) {
        Ok(())
    } else {
        Err(NalError::Invalid { what, field: "configurationVersion" })
    }
}

/// From the byte whose lowest two bits are `lengthSizeMinusOne`.
fn length_format(byte: u8, what: &'static str) -> Result<NalFormat, NalError> {
    match byte & 3 {
        2 => Err(NalError::Invalid { what, field: "lengthSizeMinusOne" }),
        n => Ok(NalFormat::LengthPrefixed { length_bytes: n + 1 }),
    }
}

/// A reader that can only fail, never run over.
struct Bytes<'a> {
    rest: &'a [u8],
    what: &'static str,
}

impl<'a> Bytes<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8], NalError> {
        let (head, tail) = self.rest.split_at_checked(n).ok_or(NalError::Truncated(self.what))?;
        self.rest = tail;
        Ok(head)
    }

    fn u8(&mut self) -> Result<u8, NalError> {
        Ok(self.take(1)?[0])
    }

    fn u16(&mut self) -> Result<u16, NalError> {
        let b = self.take(2)?;
        Ok(u16::from_be_bytes([b[0], b[1]]))
    }
}

/// The NAL units of a sample in order, each without its framing.
///
/// Annex B: what stands before the first start code is left out, zero bytes behind a unit
/// (`trailing_zero_8bits`, B.1) belong to no unit. Length-prefixed: a length that reaches over the
/// end ends the iteration. Empty units are left out.
pub fn nal_units(data: &[u8], format: NalFormat) -> NalUnits<'_> {
    let rest = match format {
        NalFormat::AnnexB => skip_to_first_unit(data),
        NalFormat::LengthPrefixed { .. } => data,
    };
    NalUnits { rest, format }
}

fn skip_to_first_unit(data: &[u8]) -> &[u8] {
    find_start_code(data).and_then(|at| data.get(at + 3..)).unwrap_or_default()
}

/// Iterator of [`nal_units`].
#[derive(Clone, Debug)]
pub struct NalUnits<'a> {
    /// Annex B: begins with a unit's first byte. Length-prefixed: begins with a length.
    rest: &'a [u8],
    format: NalFormat,
}

impl<'a> NalUnits<'a> {
    fn next_annex_b(&mut self) -> &'a [u8] {
        let end = find_start_code(self.rest).unwrap_or(self.rest.len());
        let unit = self.rest.get(..end).unwrap_or_default();
        self.rest = self.rest.get(end + 3..).unwrap_or_default();
        strip_trailing_zeros(unit)
    }

    fn next_length_prefixed(&mut self, length_bytes: u8) -> Option<&'a [u8]> {
        // Anything else than 1 to 4 bytes is no framing at all.
        let valid = (1..=4).contains(&length_bytes);
        let (head, tail) = self.rest.split_at_checked(usize::from(length_bytes)).filter(|_| valid)?;
        let length = head.iter().fold(0usize, |sum, &byte| sum << 8 | usize::from(byte));
        let (unit, rest) = tail.split_at_checked(length)?;
        self.rest = rest;
        Some(unit)
    }
}

impl<'a> Iterator for NalUnits<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        while !self.rest.is_empty() {
            let unit = match self.format {
                NalFormat::AnnexB => self.next_annex_b(),
                NalFormat::LengthPrefixed { length_bytes } => match self.next_length_prefixed(length_bytes) {
                    Some(unit) => unit,
                    None => {
                        self.rest = &[];
                        return None;
                    }
                },
            };
            if !unit.is_empty() {
                return Some(unit);
            }
        }
        None
    }
}

fn strip_trailing_zeros(mut unit: &[u8]) -> &[u8] {
    while let [head @ .., 0] = unit {
        unit = head;
    }
    unit
}

/// Bytes that one step of the search looks at together.
const BLOCK: usize = 32;

/// Index of the next `00 00 01`.
///
/// Entropy-coded data holds hardly any pair of zero bytes, so whole blocks are asked for such a pair
/// first, in a loop that the compiler turns into vector instructions.
fn find_start_code(data: &[u8]) -> Option<usize> {
    let mut at = 0;
    while let Some(block) = data.get(at..at + BLOCK + 1) {
        let pairs = block.iter().zip(&block[1..]);
        if pairs.fold(0u8, |found, (a, b)| found | u8::from(a | b == 0)) != 0 {
            // Two bytes more than the block, so that a code over its border is seen.
            let window = data.get(at..data.len().min(at + BLOCK + 2)).unwrap_or_default();
            if let Some(found) = find_start_code_slowly(window) {
                return Some(at + found);
            }
        }
        at += BLOCK;
    }
    find_start_code_slowly(data.get(at..)?).map(|found| at + found)
}

fn find_start_code_slowly(data: &[u8]) -> Option<usize> {
    data.windows(3).position(|w| w == [0, 0, 1])
}

/// Appends `units` to `out` in the byte stream format, each behind a start code of four bytes.
pub fn to_annex_b<'a>(units: impl IntoIterator<Item = &'a [u8]>, out: &mut Vec<u8>) {
    for unit in units {
        out.extend_from_slice(&[0, 0, 0, 1]);
        out.extend_from_slice(unit);
    }
}

/// Appends the NAL units of `data` to `out`, each behind a length of four bytes.
pub fn to_length_prefixed(data: &[u8], format: NalFormat, out: &mut Vec<u8>) {
    for unit in nal_units(data, format) {
        // A sample of 4 GiB does not exist; were there one, its unit would be left out rather than lie.
        if let Ok(length) = u32::try_from(unit.len()) {
            out.extend_from_slice(&length.to_be_bytes());
            out.extend_from_slice(unit);
        }
    }
}

/// `nal_unit_type` of a unit; [`NAL_TYPE_NONE`] for an empty unit and for codecs without NAL units.
pub fn nal_type(codec: VideoCodec, unit: &[u8]) -> u8 {
    match (codec, unit.first()) {
        (VideoCodec::H264, Some(header)) => header & 0x1F,
        (VideoCodec::Hevc, Some(header)) => header >> 1 & 0x3F,
        _ => NAL_TYPE_NONE,
    }
}

/// Whether the unit is a VPS, SPS or PPS.
pub fn is_parameter_set(codec: VideoCodec, unit: &[u8]) -> bool {
    match codec {
        VideoCodec::H264 => matches!(nal_type(codec, unit), H264_SPS | H264_PPS),
        _ => matches!(nal_type(codec, unit), HEVC_VPS | HEVC_SPS | HEVC_PPS),
    }
}

/// Whether the unit is a sequence parameter set.
pub fn is_sps(codec: VideoCodec, unit: &[u8]) -> bool {
    nal_type(codec, unit) == if codec == VideoCodec::H264 { H264_SPS } else { HEVC_SPS }
}

/// Whether the unit is an access unit delimiter.
pub fn is_aud(codec: VideoCodec, unit: &[u8]) -> bool {
    nal_type(codec, unit) == if codec == VideoCodec::H264 { H264_AUD } else { HEVC_AUD }
}

/// Whether the unit is a slice of an IDR picture.
pub fn is_idr(codec: VideoCodec, unit: &[u8]) -> bool {
    match codec {
        VideoCodec::H264 => nal_type(codec, unit) == H264_IDR,
        _ => matches!(nal_type(codec, unit), HEVC_IDR_W_RADL | HEVC_IDR_N_LP),
    }
}

/// Whether the first slice in `beginning`, the first bytes of a coded picture, is one of an IDR picture;
/// `None` where no slice begins there.
pub fn starts_with_idr(codec: VideoCodec, format: NalFormat, beginning: &[u8]) -> Option<bool> {
    let judge = |unit: &[u8]| is_slice(codec, unit).then(|| is_idr(codec, unit));
    let NalFormat::LengthPrefixed { length_bytes } = format else {
        return nal_units(beginning, format).find_map(judge);
    };
    let mut rest = beginning;
    while let Some((head, tail)) =
        rest.split_at_checked(usize::from(length_bytes)).filter(|(h, _)| !h.is_empty())
    {
        let length = head.iter().fold(0usize, |sum, &byte| sum << 8 | usize::from(byte));
        // The unit may go on behind what is there: its first byte tells.
        if let Some(told) = tail.get(..length.min(1)).and_then(judge) {
            return Some(told);
        }
        rest = tail.get(length..)?;
    }
    None
}

/// Whether no other picture refers to the coded picture `data`, for certain. Only H.264 tells
/// (`nal_ref_idc`, 7.4.1); what carries parameter sets for later pictures counts as referred to.
pub fn is_disposable(codec: VideoCodec, format: NalFormat, data: &[u8]) -> bool {
    if codec != VideoCodec::H264 {
        return false;
    }
    let mut slices = 0;
    for unit in nal_units(data, format) {
        let referred_to = unit.first().is_some_and(|header| header & 0x60 != 0);
        if is_parameter_set(codec, unit) || is_slice(codec, unit) && referred_to {
            return false;
        }
        slices += u32::from(is_slice(codec, unit));
    }
    slices > 0
}

/// Whether the unit is a slice of a picture.
fn is_slice(codec: VideoCodec, unit: &[u8]) -> bool {
    match codec {
        VideoCodec::H264 => (1..=5).contains(&nal_type(codec, unit)),
        _ => nal_type(codec, unit) < 32,
    }
}

/// Whether the unit is a slice of a picture at which decoding can start: IDR for H.264, any IRAP
/// picture (BLA, IDR, CRA; types 16 to 23) for HEVC.
pub fn is_irap(codec: VideoCodec, unit: &[u8]) -> bool {
    match codec {
        VideoCodec::H264 => is_idr(codec, unit),
        _ => (16..=23).contains(&nal_type(codec, unit)),
    }
}
