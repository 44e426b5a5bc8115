//! The lowest level that a picture needs (ISO/IEC 14496-10 table A-1, ISO/IEC 23008-2 tables A.8, A.9).
//!
//! What enters: a parameter set, frames and bits each second. What leaves: the level in the bitstream's
//! own counting. Bit rate and held frames count: an encoder that was told of a high `maxrate` or of many
//! references says a higher level rightly.

use super::sps::Sps;

/// `level_idc`, and where it is 11: whether 1b is meant.
struct H264Level {
    idc: u8,
    macroblocks_per_s: f64,
    frame_macroblocks: u32,
    dpb_macroblocks: u32,
    bits_per_s: f64,
}

const fn h264_level(idc: u8, mbps: u32, fs: u32, dpb: u32, kbps: u32) -> H264Level {
    let (macroblocks_per_s, bits_per_s) = (mbps as f64, kbps as f64 * 1000.0);
    H264Level { idc, macroblocks_per_s, frame_macroblocks: fs, dpb_macroblocks: dpb, bits_per_s }
}

/// Table A-1. 1b is left out: what needs it may say 1.1.
const H264: [H264Level; 19] = [
    h264_level(10, 1_485, 99, 396, 64),
    h264_level(11, 3_000, 396, 900, 192),
    h264_level(12, 6_000, 396, 2_376, 384),
    h264_level(13, 11_880, 396, 2_376, 768),
    h264_level(20, 11_880, 396, 2_376, 2_000),
    h264_level(21, 19_800, 792, 4_752, 4_000),
    h264_level(22, 20_250, 1_620, 8_100, 4_000),
    h264_level(30, 40_500, 1_620, 8_100, 10_000),
    h264_level(31, 108_000, 3_600, 18_000, 14_000),
    h264_level(32, 216_000, 5_120, 20_480, 20_000),
    h264_level(40, 245_760, 8_192, 32_768, 20_000),
    h264_level(41, 245_760, 8_192, 32_768, 50_000),
    h264_level(42, 522_240, 8_704, 34_816, 50_000),
    h264_level(50, 589_824, 22_080, 110_400, 135_000),
    h264_level(51, 983_040, 36_864, 184_320, 240_000),
    h264_level(52, 2_073_600, 36_864, 184_320, 240_000),
    h264_level(60, 4_177_920, 139_264, 696_320, 240_000),
    h264_level(61, 8_355_840, 139_264, 696_320, 480_000),
    h264_level(62, 16_711_680, 139_264, 696_320, 800_000),
];

/// Level times thirty, luma samples of a picture and each second, kbit/s of the main and the high tier.
const HEVC: [(u8, u32, f64, f64, f64); 13] = [
    (30, 36_864, 552_960.0, 128.0, 128.0),
    (60, 122_880, 3_686_400.0, 1_500.0, 1_500.0),
    (63, 245_760, 7_372_800.0, 3_000.0, 3_000.0),
    (90, 552_960, 16_588_800.0, 6_000.0, 6_000.0),
    (93, 983_040, 33_177_600.0, 10_000.0, 10_000.0),
    (120, 2_228_224, 66_846_720.0, 12_000.0, 30_000.0),
    (123, 2_228_224, 133_693_440.0, 20_000.0, 50_000.0),
    (150, 8_912_896, 267_386_880.0, 25_000.0, 100_000.0),
    (153, 8_912_896, 534_773_760.0, 40_000.0, 160_000.0),
    (156, 8_912_896, 1_069_547_520.0, 60_000.0, 240_000.0),
    (180, 35_651_584, 1_069_547_520.0, 60_000.0, 240_000.0),
    (183, 35_651_584, 2_139_095_040.0, 120_000.0, 480_000.0),
    (186, 35_651_584, 4_278_190_080.0, 240_000.0, 800_000.0),
];

/// The lowest `level_idc` that holds an H.264 stream; `None` when none does.
pub(super) fn h264(sps: &Sps, frames_per_s: f64, bits_per_s: f64) -> Option<u8> {
    let (across, down) = (sps.coded.0.div_ceil(16), sps.coded.1.div_ceil(16));
    let macroblocks = across * down;
    // cpbBrVclFactor (table A-2), for the profiles that HLS knows.
    let factor = match sps.profile {
        100 => 1.25,
        110 => 3.0,
        122 | 244 | 44 => 4.0,
        _ => 1.0,
    };
    let fits = |level: &&H264Level| {
        let longest_side = f64::from(level.frame_macroblocks * 8).sqrt();
        macroblocks <= level.frame_macroblocks
            && f64::from(across.max(down)) <= longest_side
            && f64::from(macroblocks) * frames_per_s <= level.macroblocks_per_s
            && macroblocks.saturating_mul(sps.dpb_frames) <= level.dpb_macroblocks
            && bits_per_s <= level.bits_per_s * factor
    };
    H264.iter().find(fits).map(|level| level.idc)
}

/// The lowest `general_level_idc` that holds an HEVC stream; `None` when none does.
pub(super) fn hevc(sps: &Sps, frames_per_s: f64, bits_per_s: f64) -> Option<u8> {
    let samples = sps.coded.0.saturating_mul(sps.coded.1);
    let fits = |level: &&(u8, u32, f64, f64, f64)| {
        let (_, picture, each_second, main_kbps, high_kbps) = **level;
        // A.4.2: the smaller the picture, the more of them fit.
        let held = match f64::from(samples) / f64::from(picture) {
            share if share <= 0.25 => 16,
            share if share <= 0.5 => 12,
            share if share <= 0.75 => 8,
            _ => 6,
        };
        let kbps = if sps.high_tier { high_kbps } else { main_kbps };
        samples <= picture
            && f64::from(sps.coded.0.max(sps.coded.1)) <= f64::from(picture * 8).sqrt()
            && f64::from(samples) * frames_per_s <= each_second
            && sps.dpb_frames <= held
            && bits_per_s <= kbps * 1000.0
    };
    HEVC.iter().find(fits).map(|level| level.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sps(width: u32, height: u32, profile: u8, dpb_frames: u32) -> Sps {
        Sps {
            codec: String::new(),
            level: 0,
            profile,
            constraint_3: false,
            high_tier: false,
            coded: (width, height),
            cropped: (width, height),
            sample_aspect: (1, 1),
            colour: None,
            dpb_frames,
        }
    }

    #[test]
    fn the_usual_sizes() {
        assert_eq!(h264(&sps(1920, 1088, 100, 4), 25.0, 6e6), Some(40));
        assert_eq!(h264(&sps(1920, 1088, 100, 4), 60.0, 6e6), Some(42));
        assert_eq!(h264(&sps(1280, 720, 100, 4), 30.0, 3e6), Some(31));
        assert_eq!(h264(&sps(1280, 720, 77, 4), 30.0, 15e6), Some(32), "the bit rate");
        assert_eq!(h264(&sps(1280, 720, 100, 16), 30.0, 3e6), Some(50), "the references");
        assert_eq!(h264(&sps(16384, 16384, 100, 1), 60.0, 1e6), None);
        assert_eq!(hevc(&sps(1920, 1080, 1, 5), 30.0, 5e6), Some(120));
        assert_eq!(hevc(&sps(3840, 2160, 2, 5), 60.0, 20e6), Some(153));
    }
}
