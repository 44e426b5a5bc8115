//! Sequence parameter sets: the fields that containers and codec strings repeat.
//!
//! What enters: one SPS unit with its NAL header. What leaves: its numbers. Nothing else of the
//! parameter set is kept, and nothing here knows how units are framed.

use super::NalError;

const SPS: &str = "sequence parameter set";

/// What containers need of an H.264 SPS (ISO/IEC 14496-10, 7.3.2.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct H264SpsInfo {
    /// 66 Baseline, 77 Main, 100 High, 110 High 10, ...
    pub profile_idc: u8,
    /// `constraint_set0_flag` (highest bit) to `constraint_set5_flag` and two zero bits.
    pub constraint_flags: u8,
    /// Ten times the level.
    pub level_idc: u8,
    /// 0 monochrome, 1 4:2:0, 2 4:2:2, 3 4:4:4.
    pub chroma_format_idc: u8,
    /// Bits of a luma sample.
    pub bit_depth_luma: u8,
    /// Bits of a chroma sample.
    pub bit_depth_chroma: u8,
    /// How many frames may stand before a frame in decoding order and behind it in output order;
    /// `None` when the SPS does not say.
    pub max_num_reorder_frames: Option<u32>,
    /// Luma samples across, after cropping.
    pub width: u32,
    /// Luma samples down, after cropping.
    pub height: u32,
}

/// What containers need of an HEVC SPS (ISO/IEC 23008-2, 7.3.2.2.1 and 7.3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HevcSpsInfo {
    /// `general_profile_space`, 0 to 3.
    pub general_profile_space: u8,
    /// `general_tier_flag`: high tier.
    pub tier_flag: bool,
    /// `general_profile_idc`: 1 Main, 2 Main 10, 3 Main Still Picture, ...
    pub profile_idc: u8,
    /// `general_profile_compatibility_flag[0]` in the highest bit.
    pub compatibility_flags: u32,
    /// The six bytes from `general_progressive_source_flag` on.
    pub constraint_bytes: [u8; 6],
    /// Thirty times the level.
    pub level_idc: u8,
    /// 0 monochrome, 1 4:2:0, 2 4:2:2, 3 4:4:4.
    pub chroma_format_idc: u8,
    /// Bits of a luma sample.
    pub bit_depth_luma: u8,
    /// Bits of a chroma sample.
    pub bit_depth_chroma: u8,
    /// Number of temporal sub-layers, 1 to 7.
    pub max_sub_layers: u8,
    /// `sps_temporal_id_nesting_flag`.
    pub temporal_id_nested: bool,
    /// Luma samples across, after the conformance window.
    pub width: u32,
    /// Luma samples down, after the conformance window.
    pub height: u32,
}

/// A NAL unit without its emulation prevention bytes (7.3.1): `00 00 03` becomes `00 00`.
pub fn unescape(unit: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(unit.len());
    let mut zeros = 0;
    for &byte in unit {
        if zeros >= 2 && byte == 3 {
            zeros = 0;
            continue;
        }
        zeros = if byte == 0 { zeros + 1 } else { 0 };
        out.push(byte);
    }
    out
}

impl H264SpsInfo {
    /// Reads an SPS unit (with NAL header, with emulation prevention bytes).
    ///
    /// # Errors
    /// When it ends early or a size lies outside of the standard.
    pub fn parse(unit: &[u8]) -> Result<Self, NalError> {
        let payload = unescape(unit);
        let mut bits = Bits::new(&payload);
        bits.skip(8)?;
        let [profile_idc, constraint_flags, level_idc] = [bits.u8(8)?, bits.u8(8)?, bits.u8(8)?];
        bits.ue()?;
        let (chroma_format_idc, bit_depth_luma, bit_depth_chroma) =
            if h264_has_chroma_format(profile_idc) { h264_chroma_format(&mut bits)? } else { (1, 8, 8) };
        h264_skip_order_count(&mut bits)?;
        let (width, height) = h264_size(&mut bits, chroma_format_idc)?;
        // The picture size is what must be there; usability information is often broken and optional.
        let max_num_reorder_frames = h264_reorder_frames(&mut bits).ok().flatten();
        Ok(Self {
            profile_idc,
            constraint_flags,
            level_idc,
            chroma_format_idc,
            bit_depth_luma,
            bit_depth_chroma,
            max_num_reorder_frames,
            width,
            height,
        })
    }
}

fn h264_has_chroma_format(profile_idc: u8) -> bool {
    matches!(profile_idc, 100 | 110 | 122 | 244 | 44 | 83 | 86 | 118 | 128 | 138 | 139 | 134 | 135)
}

/// `chroma_format_idc` and both bit depths, then past the scaling matrices.
fn h264_chroma_format(bits: &mut Bits<'_>) -> Result<(u8, u8, u8), NalError> {
    let chroma = bits.ue_max(3, "chroma_format_idc")? as u8;
    if chroma == 3 {
        bits.skip(1)?;
    }
    let luma_depth = 8 + bits.ue_max(6, "bit_depth_luma_minus8")? as u8;
    let chroma_depth = 8 + bits.ue_max(6, "bit_depth_chroma_minus8")? as u8;
    bits.skip(1)?;
    if bits.flag()? {
        for list in 0..if chroma == 3 { 12 } else { 8 } {
            if bits.flag()? {
                h264_skip_scaling_list(bits, if list < 6 { 16 } else { 64 })?;
            }
        }
    }
    Ok((chroma, luma_depth, chroma_depth))
}

fn h264_skip_scaling_list(bits: &mut Bits<'_>, size: usize) -> Result<(), NalError> {
    let mut last = 8i64;
    for _ in 0..size {
        // A list ends where the next scale comes out as 0 (7.3.2.1.1.1).
        last = (last + bits.se()? + 256).rem_euclid(256);
        if last == 0 {
            break;
        }
    }
    Ok(())
}

fn h264_skip_order_count(bits: &mut Bits<'_>) -> Result<(), NalError> {
    bits.ue()?;
    match bits.ue_max(2, "pic_order_cnt_type")? {
        0 => {
            bits.ue()?;
        }
        1 => {
            bits.skip(1)?;
            bits.se()?;
            bits.se()?;
            for _ in 0..bits.ue_max(255, "num_ref_frames_in_pic_order_cnt_cycle")? {
                bits.se()?;
            }
        }
        _ => {}
    }
    bits.ue()?;
    bits.skip(1)
}

fn h264_size(bits: &mut Bits<'_>, chroma_format_idc: u8) -> Result<(u32, u32), NalError> {
    let width = 16 * (1 + bits.ue_max(MAX_MACROBLOCKS, "pic_width_in_mbs_minus1")?);
    let height_units = 1 + bits.ue_max(MAX_MACROBLOCKS, "pic_height_in_map_units_minus1")?;
    let frame_mbs_only = bits.flag()?;
    let fields = if frame_mbs_only { 1 } else { 2 };
    if !frame_mbs_only {
        bits.skip(1)?;
    }
    bits.skip(1)?;
    let (unit_x, unit_y) = chroma_units(chroma_format_idc);
    cropped(bits, (width, 16 * fields * height_units), (unit_x, unit_y * fields))
}

/// Sizes above this are nonsense in both codecs, and below it no product overflows.
const MAX_MACROBLOCKS: u32 = 4096;

/// `SubWidthC` and `SubHeightC` (6.2); 1 and 1 for monochrome and 4:4:4.
fn chroma_units(chroma_format_idc: u8) -> (u32, u32) {
    match chroma_format_idc {
        1 => (2, 2),
        2 => (2, 1),
        _ => (1, 1),
    }
}

/// Applies the cropping rectangle or conformance window that follows, which counts in `unit`s.
fn cropped(bits: &mut Bits<'_>, size: (u32, u32), unit: (u32, u32)) -> Result<(u32, u32), NalError> {
    if !bits.flag()? {
        return Ok(size);
    }
    let mut offset = || bits.ue_max(u32::from(u16::MAX), "cropping offset");
    let (left, right, top, bottom) = (offset()?, offset()?, offset()?, offset()?);
    let width = size.0.checked_sub(unit.0 * (left + right)).filter(|&w| w > 0);
    let height = size.1.checked_sub(unit.1 * (top + bottom)).filter(|&h| h > 0);
    width.zip(height).ok_or(NalError::Invalid { what: SPS, field: "cropping offset" })
}

/// From `vui_parameters_present_flag` on (E.1.1).
fn h264_reorder_frames(bits: &mut Bits<'_>) -> Result<Option<u32>, NalError> {
    if !bits.flag()? {
        return Ok(None);
    }
    const EXTENDED_SAR: u32 = 255;
    if bits.flag()? && bits.read(8)? == EXTENDED_SAR {
        bits.skip(32)?;
    }
    if bits.flag()? {
        bits.skip(1)?;
    }
    if bits.flag()? {
        bits.skip(4)?;
        if bits.flag()? {
            bits.skip(24)?;
        }
    }
    if bits.flag()? {
        bits.ue()?;
        bits.ue()?;
    }
    if bits.flag()? {
        bits.skip(65)?;
    }
    h264_skip_hrd_pair(bits)?;
    bits.skip(1)?;
    if !bits.flag()? {
        return Ok(None);
    }
    bits.skip(1)?;
    for _ in 0..4 {
        bits.ue()?;
    }
    bits.ue_max(16, "max_num_reorder_frames").map(Some)
}

/// NAL and VCL HRD parameters (E.1.2) and, if there is one of them, `low_delay_hrd_flag`.
fn h264_skip_hrd_pair(bits: &mut Bits<'_>) -> Result<(), NalError> {
    let mut any = false;
    for _ in 0..2 {
        if bits.flag()? {
            any = true;
            let count = 1 + bits.ue_max(31, "cpb_cnt_minus1")?;
            bits.skip(8)?;
            for _ in 0..count {
                bits.ue()?;
                bits.ue()?;
                bits.skip(1)?;
            }
            bits.skip(20)?;
        }
    }
    bits.skip(usize::from(any))
}

impl HevcSpsInfo {
    /// Reads an SPS unit (with NAL header, with emulation prevention bytes).
    ///
    /// # Errors
    /// When it ends early or a size lies outside of the standard.
    pub fn parse(unit: &[u8]) -> Result<Self, NalError> {
        let payload = unescape(unit);
        let mut bits = Bits::new(&payload);
        bits.skip(16 + 4)?;
        let max_sub_layers = 1 + bits.u8(3)?;
        let temporal_id_nested = bits.flag()?;
        let general_profile_space = bits.u8(2)?;
        let tier_flag = bits.flag()?;
        let profile_idc = bits.u8(5)?;
        let compatibility_flags = bits.read(32)?;
        let mut constraint_bytes = [0; 6];
        for byte in &mut constraint_bytes {
            *byte = bits.u8(8)?;
        }
        let level_idc = bits.u8(8)?;
        hevc_skip_sub_layers(&mut bits, max_sub_layers - 1)?;
        bits.ue()?;
        let chroma_format_idc = bits.ue_max(3, "chroma_format_idc")? as u8;
        let (width, height) = hevc_size(&mut bits, chroma_format_idc)?;
        let bit_depth_luma = 8 + bits.ue_max(8, "bit_depth_luma_minus8")? as u8;
        let bit_depth_chroma = 8 + bits.ue_max(8, "bit_depth_chroma_minus8")? as u8;
        Ok(Self {
            general_profile_space,
            tier_flag,
            profile_idc,
            compatibility_flags,
            constraint_bytes,
            level_idc,
            chroma_format_idc,
            bit_depth_luma,
            bit_depth_chroma,
            max_sub_layers,
            temporal_id_nested,
            width,
            height,
        })
    }
}

/// The sub-layer part of `profile_tier_level` (7.3.3).
fn hevc_skip_sub_layers(bits: &mut Bits<'_>, count: u8) -> Result<(), NalError> {
    if count == 0 {
        return Ok(());
    }
    let mut skip_bits = 0;
    for _ in 0..count {
        skip_bits += if bits.flag()? { 88 } else { 0 };
        skip_bits += if bits.flag()? { 8 } else { 0 };
    }
    // The flags are padded to eight pairs.
    bits.skip(2 * usize::from(8u8.saturating_sub(count)))?;
    bits.skip(skip_bits)
}

fn hevc_size(bits: &mut Bits<'_>, chroma_format_idc: u8) -> Result<(u32, u32), NalError> {
    if chroma_format_idc == 3 {
        bits.skip(1)?;
    }
    let width = bits.ue_max(16 * MAX_MACROBLOCKS, "pic_width_in_luma_samples")?;
    let height = bits.ue_max(16 * MAX_MACROBLOCKS, "pic_height_in_luma_samples")?;
    if width == 0 || height == 0 {
        return Err(NalError::Invalid { what: SPS, field: "picture size" });
    }
    cropped(bits, (width, height), chroma_units(chroma_format_idc))
}

/// Reads bits from the highest down; every read can fail.
struct Bits<'a> {
    data: &'a [u8],
    at_bit: usize,
}

impl<'a> Bits<'a> {
    fn new(data: &'a [u8]) -> Self {
        Self { data, at_bit: 0 }
    }

    fn flag(&mut self) -> Result<bool, NalError> {
        let byte = self.data.get(self.at_bit / 8).ok_or(NalError::Truncated(SPS))?;
        let bit = byte >> (7 - self.at_bit % 8) & 1;
        self.at_bit += 1;
        Ok(bit == 1)
    }

    /// The next `count` ≤ 32 bits as a number.
    fn read(&mut self, count: u32) -> Result<u32, NalError> {
        (0..count).try_fold(0, |value, _| Ok(value << 1 | u32::from(self.flag()?)))
    }

    /// The next `count` ≤ 8 bits as a number.
    fn u8(&mut self, count: u32) -> Result<u8, NalError> {
        Ok(self.read(count)? as u8)
    }

    fn skip(&mut self, count: usize) -> Result<(), NalError> {
        self.at_bit += count;
        if self.at_bit <= 8 * self.data.len() { Ok(()) } else { Err(NalError::Truncated(SPS)) }
    }

    /// Unsigned Exp-Golomb code (9.1).
    fn ue(&mut self) -> Result<u32, NalError> {
        let mut zeros = 0;
        while !self.flag()? {
            zeros += 1;
            if zeros > 31 {
                return Err(NalError::Invalid { what: SPS, field: "Exp-Golomb code" });
            }
        }
        // 2^zeros − 1 + suffix is at most 2^32 − 2.
        Ok(((1u64 << zeros) - 1) as u32 + self.read(zeros)?)
    }

    fn ue_max(&mut self, max: u32, field: &'static str) -> Result<u32, NalError> {
        let value = self.ue()?;
        if value <= max { Ok(value) } else { Err(NalError::Invalid { what: SPS, field }) }
    }

    /// Signed Exp-Golomb code (9.1.1): 0, 1, −1, 2, −2, ...
    fn se(&mut self) -> Result<i64, NalError> {
        let code = i64::from(self.ue()?);
        Ok(if code % 2 == 0 { -code / 2 } else { (code + 1) / 2 })
    }
}
