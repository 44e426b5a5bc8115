//! AV1: open bitstream units and the sequence header (AV1 Bitstream & Decoding Process
//! Specification, 5.3 and 5.5), and the configuration record of the ISO BMFF binding.
//!
//! What enters: `extradata` or a temporal unit in the low-overhead format. What leaves: single OBUs
//! and the `av1C` record. Frames are never looked into.

use super::CodecStringError;
use super::bits::BitReader;
use mp4_atom::{Atom, Av1c};

/// `obu_type` of a sequence header.
const OBU_SEQUENCE_HEADER: u8 = 1;
/// First byte of `AV1CodecConfigurationRecord`: marker 1, version 1. As an OBU header it would have
/// the forbidden bit set, so the two forms of extradata cannot be mistaken for each other.
const AV1C_MARKER_VERSION: u8 = 0x81;

/// One open bitstream unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Obu<'a> {
    /// `obu_type`.
    pub(crate) kind: u8,
    /// Header, size field and payload.
    pub(crate) whole: &'a [u8],
    /// The payload alone.
    pub(crate) payload: &'a [u8],
}

/// Splits the first OBU off `data` and returns it with what follows; `None` if `data` does not begin
/// with a whole OBU. A unit without size field reaches to the end.
pub(crate) fn split_obu(data: &[u8]) -> Option<(Obu<'_>, &[u8])> {
    let header = *data.first()?;
    if header & 0x80 != 0 {
        return None;
    }
    let header_bytes = if header & 0x04 != 0 { 2 } else { 1 };
    let after_header = data.get(header_bytes..)?;
    let (size_bytes, payload_bytes) =
        if header & 0x02 != 0 { leb128(after_header)? } else { (0, after_header.len()) };
    let payload = after_header.get(size_bytes..)?.get(..payload_bytes)?;
    let (whole, rest) = data.split_at_checked(header_bytes + size_bytes + payload_bytes)?;
    Some((Obu { kind: header >> 3 & 0x0F, whole, payload }, rest))
}

/// A number in LEB128 (4.10.5): how many bytes it takes, and its value.
fn leb128(data: &[u8]) -> Option<(usize, usize)> {
    let mut value = 0u64;
    for (index, &byte) in data.iter().take(8).enumerate() {
        value |= u64::from(byte & 0x7F) << (index * 7);
        if byte & 0x80 == 0 {
            return Some((index + 1, usize::try_from(value).ok()?));
        }
    }
    None
}

/// The configuration record (`av1C`) of a track, from extradata in either of libav's forms: the
/// record itself (from a demuxer) or OBUs with a sequence header (from an encoder).
///
/// # Errors
/// When the extradata is empty, damaged or without a sequence header.
pub(crate) fn configuration(config: &[u8]) -> Result<Av1c, CodecStringError> {
    match config.first() {
        None => Err(CodecStringError::Missing("AV1")),
        Some(&AV1C_MARKER_VERSION) => {
            Av1c::decode_body(&mut &*config).map_err(|_| CodecStringError::Damaged("av1C record"))
        }
        Some(_) => from_obus(config),
    }
}

fn from_obus(mut data: &[u8]) -> Result<Av1c, CodecStringError> {
    while let Some((obu, rest)) = split_obu(data) {
        if obu.kind == OBU_SEQUENCE_HEADER {
            let record = sequence_header(obu.payload);
            return record
                .map(|record| Av1c { config_obus: obu.whole.to_vec(), ..record })
                .ok_or(CodecStringError::Damaged("AV1 sequence header"));
        }
        data = rest;
    }
    Err(CodecStringError::Damaged("AV1 extradata (it has no sequence header)"))
}

/// `sequence_header_obu()` up to `chroma_sample_position` (5.5.1), without `config_obus`.
fn sequence_header(payload: &[u8]) -> Option<Av1c> {
    let mut bits = BitReader::new(payload);
    let seq_profile = bits.byte(3)?;
    bits.skip(1)?;
    let reduced = bits.flag()?;
    let (seq_level_idx_0, seq_tier_0) =
        if reduced { (bits.byte(5)?, false) } else { first_operating_point(&mut bits)? };
    skip_frame_size(&mut bits, reduced)?;
    skip_tools(&mut bits, reduced)?;
    let colour = color_config(&mut bits, seq_profile)?;
    Some(Av1c { seq_profile, seq_level_idx_0, seq_tier_0, ..colour })
}

/// Timing and operating points; returns level index and tier of operating point 0.
fn first_operating_point(bits: &mut BitReader<'_>) -> Option<(u8, bool)> {
    let decoder_delay_bits = if bits.flag()? { timing_info(bits)? } else { None };
    let initial_display_delay = bits.flag()?;
    let mut first = None;
    for _ in 0..=bits.bits(5)? {
        bits.skip(12)?;
        let level = bits.byte(5)?;
        let tier = level > 7 && bits.flag()?;
        if let Some(delay_bits) = decoder_delay_bits
            && bits.flag()?
        {
            bits.skip(2 * delay_bits + 1)?;
        }
        if initial_display_delay && bits.flag()? {
            bits.skip(4)?;
        }
        first.get_or_insert((level, tier));
    }
    first
}

/// `timing_info()` and `decoder_model_info()`; returns how long the delays of an operating point
/// are, in bits, if they are there.
fn timing_info(bits: &mut BitReader<'_>) -> Option<Option<usize>> {
    bits.skip(64)?;
    if bits.flag()? {
        skip_uvlc(bits)?;
    }
    if !bits.flag()? {
        return Some(None);
    }
    let delay_bits = usize::from(bits.byte(5)?) + 1;
    bits.skip(32 + 5 + 5)?;
    Some(Some(delay_bits))
}

fn skip_uvlc(bits: &mut BitReader<'_>) -> Option<()> {
    let mut zeros = 0;
    while !bits.flag()? {
        zeros += 1;
    }
    if zeros < 32 { bits.skip(zeros) } else { Some(()) }
}

fn skip_frame_size(bits: &mut BitReader<'_>, reduced: bool) -> Option<()> {
    let (width_bits, height_bits) = (bits.bits(4)? + 1, bits.bits(4)? + 1);
    bits.skip((width_bits + height_bits) as usize)?;
    if !reduced && bits.flag()? {
        bits.skip(4 + 3)?;
    }
    Some(())
}

/// The flags between frame size and colour: coding tools that do not matter here.
fn skip_tools(bits: &mut BitReader<'_>, reduced: bool) -> Option<()> {
    bits.skip(3)?;
    if !reduced {
        bits.skip(4)?;
        let order_hint = bits.flag()?;
        bits.skip(if order_hint { 2 } else { 0 })?;
        let choose_screen_content_tools = bits.flag()?;
        // Screen content tools chosen frame by frame, or forced on: then the integer vectors follow.
        if (choose_screen_content_tools || bits.flag()?) && !bits.flag()? {
            bits.skip(1)?;
        }
        bits.skip(if order_hint { 3 } else { 0 })?;
    }
    bits.skip(3)
}

/// `color_config()` (5.5.2).
fn color_config(bits: &mut BitReader<'_>, seq_profile: u8) -> Option<Av1c> {
    let high_bitdepth = bits.flag()?;
    let twelve_bit = seq_profile == 2 && high_bitdepth && bits.flag()?;
    let monochrome = seq_profile != 1 && bits.flag()?;
    let description = if bits.flag()? { bits.bits(24)? } else { 0x02_02_02 };
    let mut out = Av1c { high_bitdepth, twelve_bit, monochrome, ..Av1c::default() };
    // BT.709 primaries, sRGB transfer, identity matrix: 4:4:4 by definition, and no range flag.
    const SRGB: u32 = 0x01_0D_00;
    if description == SRGB && !monochrome {
        return Some(out);
    }
    bits.skip(1)?;
    (out.chroma_subsampling_x, out.chroma_subsampling_y) = match (monochrome, seq_profile, twelve_bit) {
        (true, ..) | (false, 0, _) => (true, true),
        (false, 1, _) => (false, false),
        (false, _, false) => (true, false),
        (false, _, true) => {
            let x = bits.flag()?;
            (x, x && bits.flag()?)
        }
    };
    if !monochrome && out.chroma_subsampling_x && out.chroma_subsampling_y {
        out.chroma_sample_position = bits.byte(2)?;
    }
    Some(out)
}
