//! Sequence parameter sets of H.264 (ISO/IEC 14496-10) and HEVC (ISO/IEC 23008-2), as far as the
//! rules ask: codec string, level, size as shown, colour, how many pictures the decoder has to hold.
//!
//! What enters: one unit with its NAL header. What leaves: its numbers, or `None` when it is damaged.
//! Written for the check alone: the writers in `container` have their own reader.

use super::bytes::{Bits, unescaped};

/// What a parameter set says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sps {
    /// RFC 6381, with `avc1` or `hvc1` in front.
    pub(super) codec: String,
    /// H.264: ten times the level; HEVC: thirty times.
    pub(super) level: u8,
    /// `profile_idc`.
    pub(super) profile: u8,
    /// H.264: constraint_set3_flag, which with level 11 means 1b in three profiles.
    pub(super) constraint_3: bool,
    /// HEVC: high tier.
    pub(super) high_tier: bool,
    /// Coded samples across and down.
    pub(super) coded: (u32, u32),
    /// After cropping.
    pub(super) cropped: (u32, u32),
    /// Width to height of a sample; (1, 1) when it is not told.
    pub(super) sample_aspect: (u32, u32),
    /// Primaries, transfer, matrix (ISO/IEC 23091-2).
    pub(super) colour: Option<(u8, u8, u8)>,
    /// Frames that the decoder has to hold.
    pub(super) dpb_frames: u32,
}

const MOST: u32 = 1 << 16;

/// Reads an H.264 SPS (7.3.2.1.1).
pub(super) fn h264(unit: &[u8]) -> Option<Sps> {
    let payload = unescaped(unit);
    let mut bits = Bits::new(&payload);
    bits.skip(8)?;
    let [profile, constraints, level] = [bits.uint(8)? as u8, bits.uint(8)? as u8, bits.uint(8)? as u8];
    bits.ue()?;
    let chroma = h264_chroma(&mut bits, profile)?;
    h264_order_count(&mut bits)?;
    let references = bits.ue_to(16)?;
    bits.skip(1)?;
    let width = 16 * (1 + bits.ue_to(MOST / 16)?);
    let units = 1 + bits.ue_to(MOST / 16)?;
    let fields = if bits.flag()? { 1 } else { 2 };
    bits.skip(fields as usize)?;
    let coded = (width, 16 * units * fields);
    let step = match chroma {
        1 => (2, 2 * fields),
        2 => (2, fields),
        _ => (1, fields),
    };
    let cropped = cropped(&mut bits, coded, step)?;
    let vui = if bits.flag()? { h264_vui(&mut bits).unwrap_or_default() } else { Vui::default() };
    Some(Sps {
        codec: format!("avc1.{profile:02x}{constraints:02x}{level:02x}"),
        level,
        profile,
        constraint_3: constraints & 0x10 != 0,
        high_tier: false,
        coded,
        cropped,
        sample_aspect: vui.sample_aspect.unwrap_or((1, 1)),
        colour: vui.colour,
        dpb_frames: vui.dpb_frames.unwrap_or(references).max(references),
    })
}

fn h264_chroma(bits: &mut Bits<'_>, profile: u8) -> Option<u32> {
    if !matches!(profile, 100 | 110 | 122 | 244 | 44 | 83 | 86 | 118 | 128 | 138 | 139 | 134 | 135) {
        return Some(1);
    }
    let chroma = bits.ue_to(3)?;
    bits.skip(usize::from(chroma == 3))?;
    bits.ue_to(6)?;
    bits.ue_to(6)?;
    bits.skip(1)?;
    if bits.flag()? {
        for list in 0..if chroma == 3 { 12 } else { 8 } {
            if bits.flag()? {
                h264_scaling_list(bits, if list < 6 { 16 } else { 64 })?;
            }
        }
    }
    Some(chroma)
}

fn h264_scaling_list(bits: &mut Bits<'_>, size: usize) -> Option<()> {
    let mut last = 8i64;
    for _ in 0..size {
        last = (last + bits.se()?).rem_euclid(256);
        if last == 0 {
            break;
        }
    }
    Some(())
}

fn h264_order_count(bits: &mut Bits<'_>) -> Option<()> {
    bits.ue()?;
    match bits.ue_to(2)? {
        0 => bits.ue().map(drop),
        1 => {
            bits.skip(1)?;
            bits.se()?;
            bits.se()?;
            for _ in 0..bits.ue_to(255)? {
                bits.se()?;
            }
            Some(())
        }
        _ => Some(()),
    }
}

/// The cropping rectangle or conformance window, in steps of `step`.
fn cropped(bits: &mut Bits<'_>, coded: (u32, u32), step: (u32, u32)) -> Option<(u32, u32)> {
    if !bits.flag()? {
        return Some(coded);
    }
    let mut offset = || bits.ue_to(MOST);
    let (left, right, top, bottom) = (offset()?, offset()?, offset()?, offset()?);
    let width = coded.0.checked_sub(step.0 * (left + right))?;
    let height = coded.1.checked_sub(step.1 * (top + bottom))?;
    (width > 0 && height > 0).then_some((width, height))
}

#[derive(Clone, Copy, Debug, Default)]
struct Vui {
    sample_aspect: Option<(u32, u32)>,
    colour: Option<(u8, u8, u8)>,
    dpb_frames: Option<u32>,
}

/// `aspect_ratio_idc` 1 to 16 (table E-1).
const ASPECTS: [(u32, u32); 16] = [
    (1, 1),
    (12, 11),
    (10, 11),
    (16, 11),
    (40, 33),
    (24, 11),
    (20, 11),
    (32, 11),
    (80, 33),
    (18, 11),
    (15, 11),
    (64, 33),
    (160, 99),
    (4, 3),
    (3, 2),
    (2, 1),
];

/// What both codecs' usability information begins with (E.1.1, E.2.1).
fn vui_head(bits: &mut Bits<'_>) -> Option<Vui> {
    let mut vui = Vui::default();
    if bits.flag()? {
        vui.sample_aspect = match bits.uint(8)? {
            255 => Some((bits.uint(16)?, bits.uint(16)?)).filter(|(w, h)| *w > 0 && *h > 0),
            index => (index as usize).checked_sub(1).and_then(|at| ASPECTS.get(at)).copied(),
        };
    }
    if bits.flag()? {
        bits.skip(1)?;
    }
    if bits.flag()? {
        bits.skip(4)?;
        if bits.flag()? {
            vui.colour = Some((bits.uint(8)? as u8, bits.uint(8)? as u8, bits.uint(8)? as u8));
        }
    }
    if bits.flag()? {
        bits.ue()?;
        bits.ue()?;
    }
    Some(vui)
}

fn h264_vui(bits: &mut Bits<'_>) -> Option<Vui> {
    let vui = vui_head(bits)?;
    Some(Vui { dpb_frames: h264_dpb_frames(bits), ..vui })
}

/// From the timing on to `max_dec_frame_buffering`, where it is told.
fn h264_dpb_frames(bits: &mut Bits<'_>) -> Option<u32> {
    if bits.flag()? {
        bits.skip(65)?;
    }
    let mut hrd = false;
    for _ in 0..2 {
        if bits.flag()? {
            hrd = true;
            h264_hrd(bits)?;
        }
    }
    bits.skip(usize::from(hrd) + 1)?;
    if !bits.flag()? {
        return None;
    }
    bits.skip(1)?;
    for _ in 0..5 {
        bits.ue()?;
    }
    bits.ue_to(16)
}

fn h264_hrd(bits: &mut Bits<'_>) -> Option<()> {
    let count = 1 + bits.ue_to(31)?;
    bits.skip(8)?;
    for _ in 0..count {
        bits.ue()?;
        bits.ue()?;
        bits.skip(1)?;
    }
    bits.skip(20)
}

/// Reads an HEVC SPS (7.3.2.2.1).
pub(super) fn hevc(unit: &[u8]) -> Option<Sps> {
    let payload = unescaped(unit);
    let mut bits = Bits::new(&payload);
    bits.skip(16 + 4)?;
    let sub_layers = bits.uint(3)?;
    bits.skip(1)?;
    let general = hevc_profile(&mut bits, sub_layers)?;
    bits.ue()?;
    let chroma = bits.ue_to(3)?;
    bits.skip(usize::from(chroma == 3))?;
    let coded = (bits.ue_to(MOST)?, bits.ue_to(MOST)?);
    let step = match chroma {
        1 => (2, 2),
        2 => (2, 1),
        _ => (1, 1),
    };
    let cropped = cropped(&mut bits, coded, step)?;
    let (dpb_frames, order_count_bits) = hevc_buffering(&mut bits, sub_layers)?;
    let vui = hevc_vui(&mut bits, order_count_bits).unwrap_or_default();
    Some(Sps {
        codec: general.codec,
        level: general.level,
        profile: general.profile,
        constraint_3: false,
        high_tier: general.high_tier,
        coded,
        cropped,
        sample_aspect: vui.sample_aspect.unwrap_or((1, 1)),
        colour: vui.colour,
        dpb_frames,
    })
}

struct HevcProfile {
    codec: String,
    profile: u8,
    level: u8,
    high_tier: bool,
}

/// `profile_tier_level()` (7.3.3) and the string of ISO/IEC 14496-15, annex E.
fn hevc_profile(bits: &mut Bits<'_>, sub_layers: u32) -> Option<HevcProfile> {
    let space = bits.uint(2)?;
    let high_tier = bits.flag()?;
    let profile = bits.uint(5)? as u8;
    let compatibility = bits.uint(32)?.reverse_bits();
    let mut constraints = Vec::new();
    for _ in 0..6 {
        constraints.push(bits.uint(8)?);
    }
    let level = bits.uint(8)? as u8;
    let mut skipped = 0;
    for _ in 0..sub_layers {
        skipped += if bits.flag()? { 88 } else { 0 };
        skipped += if bits.flag()? { 8 } else { 0 };
    }
    if sub_layers > 0 {
        bits.skip(2 * (8 - sub_layers.min(8)) as usize)?;
    }
    bits.skip(skipped)?;
    while constraints.last() == Some(&0) {
        constraints.pop();
    }
    let space = ["", "A", "B", "C"].get(space as usize).copied().unwrap_or_default();
    let tier = if high_tier { 'H' } else { 'L' };
    let mut codec = format!("hvc1.{space}{profile}.{compatibility:X}.{tier}{level}");
    for byte in constraints {
        codec.push_str(&format!(".{byte:X}"));
    }
    Some(HevcProfile { codec, profile, level, high_tier })
}

/// Bit depths and `sps_max_dec_pic_buffering` of the highest sub-layer; and the bits of an order count.
fn hevc_buffering(bits: &mut Bits<'_>, sub_layers: u32) -> Option<(u32, u32)> {
    bits.ue_to(8)?;
    bits.ue_to(8)?;
    let order_count_bits = 4 + bits.ue_to(12)?;
    let first = if bits.flag()? { 0 } else { sub_layers };
    let mut held = 0;
    for _ in first..=sub_layers {
        held = 1 + bits.ue_to(16)?;
        bits.ue()?;
        bits.ue()?;
    }
    Some((held, order_count_bits))
}

/// From the block sizes to the colour description.
fn hevc_vui(bits: &mut Bits<'_>, order_count_bits: u32) -> Option<Vui> {
    for _ in 0..6 {
        bits.ue()?;
    }
    if bits.flag()? && bits.flag()? {
        hevc_scaling_lists(bits)?;
    }
    bits.skip(2)?;
    if bits.flag()? {
        bits.skip(8)?;
        bits.ue()?;
        bits.ue()?;
        bits.skip(1)?;
    }
    let sets = bits.ue_to(64)?;
    let mut pictures = 0;
    for index in 0..sets {
        pictures = hevc_reference_set(bits, index, pictures)?;
    }
    if bits.flag()? {
        for _ in 0..bits.ue_to(32)? {
            bits.skip(order_count_bits as usize + 1)?;
        }
    }
    bits.skip(2)?;
    if bits.flag()? { vui_head(bits) } else { Some(Vui::default()) }
}

/// `scaling_list_data()` (7.3.4).
fn hevc_scaling_lists(bits: &mut Bits<'_>) -> Option<()> {
    for size in 0..4u32 {
        for _ in 0..if size == 3 { 2 } else { 6 } {
            if !bits.flag()? {
                bits.ue()?;
                continue;
            }
            if size > 1 {
                bits.se()?;
            }
            for _ in 0..64.min(1 << (4 + 2 * size)) {
                bits.se()?;
            }
        }
    }
    Some(())
}

/// `st_ref_pic_set()` (7.3.7); how many pictures it has, which the next one may count on.
fn hevc_reference_set(bits: &mut Bits<'_>, index: u32, before: u32) -> Option<u32> {
    if index > 0 && bits.flag()? {
        bits.skip(1)?;
        bits.ue()?;
        let mut pictures = 0;
        for _ in 0..=before {
            let used = bits.flag()?;
            pictures += u32::from(used || bits.flag()?);
        }
        return Some(pictures);
    }
    let pictures = bits.ue_to(16)? + bits.ue_to(16)?;
    for _ in 0..pictures {
        bits.ue()?;
        bits.skip(1)?;
    }
    Some(pictures)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// x264, 1280x720 at 25, High, level 3.1, with usability information.
    const H264: [u8; 28] = [
        0x67, 0x64, 0x00, 0x1f, 0xac, 0xd9, 0x40, 0x50, 0x05, 0xbb, 0x01, 0x10, 0x00, 0x00, 0x03, 0x00, 0x10,
        0x00, 0x00, 0x03, 0x03, 0x20, 0xf1, 0x83, 0x19, 0x60, 0x00, 0x00,
    ];

    #[test]
    fn an_h264_set_of_x264() {
        let sps = h264(&H264).unwrap();
        assert_eq!((sps.codec.as_str(), sps.level, sps.cropped), ("avc1.64001f", 31, (1280, 720)));
        assert_eq!(sps.sample_aspect, (1, 1));
        assert!((1..=16).contains(&sps.dpb_frames), "{}", sps.dpb_frames);
    }

    #[test]
    fn a_cut_set_is_none() {
        assert!(h264(&H264[..8]).is_none());
        assert!(h264(&[]).is_none());
        assert!(hevc(&[0x42, 1]).is_none());
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(data in prop::collection::vec(any::<u8>(), 0..120)) {
            let _ = (h264(&data), hevc(&data));
        }
    }
}
