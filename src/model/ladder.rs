//! The automatic ladder: which sizes and bit rates to offer for a source nobody gave orders for.
//!
//! What enters: the source's display size, frame rate, bit rate and the codec to write. What leaves:
//! the renditions, largest first, and the size arithmetic that explicit renditions share.
//! Must not live here: what an encoder is called, what a person asked for, and any probing.
//!
//! A rung is a 16:9 box (9:16 for an upright picture). The picture is scaled to fit inside it, so
//! 1920x800 and 1440x1080 are both "1080p": that is what people call them, and what the number of
//! pixels that a decoder has to handle follows.

use crate::base::time::{Rational, Rounding};
use crate::model::track::VideoCodec;
use serde::Serialize;

/// The most renditions that [`automatic`] gives. Each is a full encode; a seventh helps no viewer.
pub const MAX_RUNGS: usize = 6;
/// Longest side that any size here has, in pixels: twice 8K, the limit of H.264 and HEVC levels.
pub const MAX_SIDE: u32 = 16_384;

/// Long and short side of each box. 480 and 240 have no exact 16:9 partner; these are the usual ones.
const BOXES: [(u32, u32); 7] =
    [(3840, 2160), (2560, 1440), (1920, 1080), (1280, 720), (854, 480), (640, 360), (426, 240)];

/// Pixels and what H.264 needs at most for them, in bits each second, at up to 30 frames a second.
const H264_RATES: [(u64, u64); 8] = [
    (0, 0),
    (426 * 240, 400_000),
    (640 * 360, 800_000),
    (854 * 480, 1_400_000),
    (1280 * 720, 3_000_000),
    (1920 * 1080, 6_000_000),
    (2560 * 1440, 10_000_000),
    (3840 * 2160, 20_000_000),
];

/// Below this a cap starves the encoder whatever the picture, and a source that claims less is
/// mislabelled more often than it is that small.
const FLOOR_BPS: u64 = 64_000;
/// Shortest side that any but the top rung may have: below it some encoders refuse to open.
const MIN_LOWER_SIDE: u32 = 64;

/// What tells an encoder how many bits to spend.
///
/// `bitrate_bps` alone is the average; `crf` alone is constant quality; both together are quality
/// with `bitrate_bps` as the most it may need.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct RateControl {
    /// Constant rate factor on the codec's own scale (0 to 51, or 0 to 63 for AV1 and VP9); lower is better.
    pub crf: Option<f32>,
    /// Bits each second of the video alone.
    pub bitrate_bps: Option<u64>,
}

/// One rendition of the ladder.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Rung {
    /// `1080p` and so on, by the height of the 16:9 box around it; unique in a ladder.
    pub name: String,
    /// Width in square pixels, even.
    pub width: u32,
    /// Height in square pixels, even.
    pub height: u32,
    /// Quality with a cap.
    pub video: RateControl,
}

/// What the ladder is made from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LadderSource {
    /// Width as shown, in square pixels, after rotation: see [`display_size`].
    pub display_width: u32,
    /// Height as shown, in square pixels, after rotation.
    pub display_height: u32,
    /// Frames each second of the output. Nought or less is read as an ordinary rate.
    pub frame_rate: Rational,
    /// Bits each second of the source's video, where it is known.
    pub video_bitrate_bps: Option<u64>,
    /// What those bits are coded with; `None` for a codec we do not write (read as H.264).
    pub source_codec: Option<VideoCodec>,
    /// The codec of the output.
    pub codec: VideoCodec,
}

/// The ladder for `source`, largest first: 1 to [`MAX_RUNGS`] rungs.
///
/// The top rung is the source's own size, made even by cutting off a pixel, and at most 2160p; it is
/// never larger than the source. Below it stand the usual sizes, each with at most two thirds of the
/// pixels of the one above: bit rates go about with the pixels, and steps of less than 1.5x make
/// players switch for a difference that nobody sees (HLS Authoring Specification 1.28 and its
/// tables: 1.5x to 2x). Where there are too many, the lowest go.
///
/// The caps fall with the rungs. If the source is known to have fewer bits than the top cap, with
/// a quarter of head-room for coding it a second time and after the codecs' efficiency, all caps
/// shrink in proportion; rungs that would fall below 64 kbit/s are left out.
pub fn automatic(source: &LadderSource) -> Vec<Rung> {
    let sizes = rung_sizes(even_floor(source.display_width), even_floor(source.display_height));
    let wanted = |size: &Size| wanted_bps(size.pixels(), source.frame_rate, source.codec);
    let top_wanted = sizes.first().map_or(FLOOR_BPS, wanted).max(1);
    let top_bps = source_ceiling_bps(source).map_or(top_wanted, |ceiling| top_wanted.min(ceiling));
    let rung = |(index, size): (usize, &Size)| {
        let scaled = u128::from(wanted(size)) * u128::from(top_bps) / u128::from(top_wanted);
        let bps = u64::try_from(scaled).unwrap_or(u64::MAX) / 1000 * 1000;
        let keep = index == 0 || bps >= FLOOR_BPS;
        keep.then(|| size.rung(source.codec, bps.max(FLOOR_BPS)))
    };
    sizes.iter().enumerate().filter_map(rung).take(MAX_RUNGS).collect()
}

/// The even size with about `height` that keeps the shape of `source_w` x `source_h`.
///
/// An odd `height` loses a line. Enlarges when `height` is above the source's: whether that is
/// wanted is the caller's decision. Never 0 and never above [`MAX_SIDE`], whatever comes in.
pub fn scaled_width(source_w: u32, source_h: u32, height: u32) -> (u32, u32) {
    let height = even_floor(height);
    let (w, h) = (i64::from(source_w.max(1)), i64::from(source_h.max(1)));
    (nearest_even(Rational::new(i64::from(height) * w, h)), height)
}

/// The size in square pixels of a picture that is stored as `coded_w` x `coded_h` samples, each `sar`
/// wide for 1 high (ISO/IEC 14496-10 §E.2.1).
///
/// The height stays and the width follows, so that no line is ever resampled for it. Both are even;
/// odd ones lose a pixel. A `sar` of nought or less means "unknown" and is read as 1:1. Never 0 and
/// never above [`MAX_SIDE`], whatever comes in.
pub fn display_size(coded_w: u32, coded_h: u32, sar: Rational) -> (u32, u32) {
    let sar = if sar.is_positive() { sar } else { Rational::from_int(1) };
    let width = nearest_even(Rational::from_int(i64::from(coded_w)) * sar);
    (width, even_floor(coded_h))
}

/// The constant rate factor that [`automatic`] uses: about the same look for each codec.
pub fn default_crf(codec: VideoCodec) -> f32 {
    match codec {
        VideoCodec::H264 => 22.0,
        VideoCodec::Hevc => 25.0,
        VideoCodec::Av1 => 32.0,
        VideoCodec::Vp9 => 32.0,
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Size {
    name: String,
    width: u32,
    height: u32,
}

impl Size {
    fn pixels(&self) -> u64 {
        u64::from(self.width) * u64::from(self.height)
    }

    fn shorter_side(&self) -> u32 {
        self.width.min(self.height)
    }

    fn is_a_step_below(&self, above: &Self) -> bool {
        let smaller = self.width < above.width && self.height < above.height;
        smaller && self.pixels() * 3 <= above.pixels() * 2 && self.shorter_side() >= MIN_LOWER_SIDE
    }

    fn rung(&self, codec: VideoCodec, bps: u64) -> Rung {
        let video = RateControl { crf: Some(default_crf(codec)), bitrate_bps: Some(bps) };
        Rung { name: self.name.clone(), width: self.width, height: self.height, video }
    }
}

fn rung_sizes(width: u32, height: u32) -> Vec<Size> {
    let class = class_height(width, height);
    let mut sizes = Vec::new();
    if class <= Rational::from_int(2160) {
        sizes.push(Size { name: class_name(class), width, height });
    }
    for (long, short) in BOXES {
        if Rational::from_int(i64::from(short)) >= class {
            continue;
        }
        let (width, height) = fit(width, height, long, short);
        let size = Size { name: format!("{short}p"), width, height };
        if sizes.last().is_none_or(|above| size.is_a_step_below(above)) {
            sizes.push(size);
        }
    }
    sizes
}

/// Height of the smallest 16:9 (or, upright, width of the smallest 9:16) box around the picture.
fn class_height(width: u32, height: u32) -> Rational {
    let (long, short) = (width.max(height), width.min(height));
    Rational::from_int(i64::from(short)).max(Rational::new(i64::from(long) * 9, 16))
}

/// A source a few lines off a rung (1920x1088, 1916x796) goes by that rung's name.
fn class_name(class: Rational) -> String {
    let close = |short: i64| (class - Rational::from_int(short)).abs() * Rational::from_int(20);
    let named = BOXES.iter().map(|b| i64::from(b.1)).find(|s| close(*s) <= Rational::from_int(*s));
    format!("{}p", named.unwrap_or_else(|| class.round(Rounding::Nearest)))
}

/// The even size of the picture's shape that fills the box in one direction.
fn fit(width: u32, height: u32, long: u32, short: u32) -> (u32, u32) {
    let (box_w, box_h) = if height > width { (short, long) } else { (long, short) };
    let (w, h) = (i64::from(width), i64::from(height));
    let (bw, bh) = (i64::from(box_w), i64::from(box_h));
    if w * bh >= h * bw {
        (box_w, nearest_even(Rational::new(bw * h, w.max(1))))
    } else {
        (nearest_even(Rational::new(bh * w, h.max(1))), box_h)
    }
}

fn wanted_bps(pixels: u64, frame_rate: Rational, codec: VideoCodec) -> u64 {
    // Twice the frames need less than twice the bits: they differ less from each other.
    let rate_percent = match frame_rate {
        rate if rate > Rational::from_int(60) => 200,
        rate if rate > Rational::from_int(30) => 140,
        _ => 100,
    };
    h264_bps(pixels) * rate_percent * bits_percent(codec) / 10_000
}

/// Straight lines between the points of [`H264_RATES`], and on along the last.
fn h264_bps(pixels: u64) -> u64 {
    let last = H264_RATES.len() - 2;
    let above = H264_RATES.iter().skip(1).position(|(at, _)| pixels <= *at).unwrap_or(last);
    match H264_RATES.get(above..above + 2) {
        Some(&[(p0, b0), (p1, b1)]) => b0 + (pixels - p0) * (b1 - b0) / (p1 - p0),
        _ => FLOOR_BPS,
    }
}

/// Bits that a codec needs for the look of 100 bits of H.264.
fn bits_percent(codec: VideoCodec) -> u64 {
    match codec {
        VideoCodec::H264 => 100,
        VideoCodec::Hevc | VideoCodec::Vp9 => 60,
        VideoCodec::Av1 => 50,
    }
}

/// The most that the source's own bits are worth in the output's codec; `None` if not known.
fn source_ceiling_bps(source: &LadderSource) -> Option<u64> {
    let bps = source.video_bitrate_bps.filter(|bps| *bps > 0)?;
    let from = bits_percent(source.source_codec.unwrap_or(VideoCodec::H264));
    let worth = u128::from(bps) * u128::from(bits_percent(source.codec)) * 5 / (u128::from(from) * 4);
    Some(u64::try_from(worth).unwrap_or(u64::MAX).max(FLOOR_BPS))
}

/// The even number at or below, from 2 to [`MAX_SIDE`].
fn even_floor(side: u32) -> u32 {
    (side & !1).clamp(2, MAX_SIDE)
}

/// The nearest even number, the lower of two that are equally near, from 2 to [`MAX_SIDE`].
fn nearest_even(side: Rational) -> u32 {
    let half = ((side - Rational::from_int(1)) * Rational::new(1, 2)).round(Rounding::Ceil);
    let even = half.clamp(1, i64::from(MAX_SIDE / 2)) * 2;
    u32::try_from(even).unwrap_or(MAX_SIDE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn source(display_width: u32, display_height: u32) -> LadderSource {
        LadderSource {
            display_width,
            display_height,
            frame_rate: Rational::new(30_000, 1001),
            video_bitrate_bps: None,
            source_codec: None,
            codec: VideoCodec::H264,
        }
    }

    /// One line for each rung: name, size, kbit/s.
    fn table(source: &LadderSource) -> Vec<String> {
        let line = |r: Rung| {
            let bps = r.video.bitrate_bps.unwrap();
            assert_eq!(bps % 1000, 0);
            format!("{} {}x{} {}", r.name, r.width, r.height, bps / 1000)
        };
        automatic(source).into_iter().map(line).collect()
    }

    #[test]
    fn widescreen_sources() {
        let below_720 = ["480p 854x480 1400", "360p 640x360 800", "240p 426x240 400"];
        assert_eq!(table(&source(1280, 720)), [&["720p 1280x720 3000"], &below_720[..]].concat());
        let from_1080 = ["1080p 1920x1080 6000", "720p 1280x720 3000"];
        assert_eq!(table(&source(1920, 1080)), [&from_1080[..], &below_720].concat());
        let from_2160 = ["2160p 3840x2160 20000", "1440p 2560x1440 10000"];
        // Seven would fit; the lowest goes.
        assert_eq!(table(&source(3840, 2160)), [&from_2160[..], &from_1080, &below_720[..2]].concat());
        assert_eq!(table(&source(7680, 4320)), table(&source(3840, 2160)));
    }

    #[test]
    fn cinemascope_goes_by_its_width() {
        assert_eq!(
            table(&source(1920, 800)),
            [
                "1080p 1920x800 4600",
                "720p 1280x534 2255",
                "480p 854x356 1046",
                "360p 640x266 612",
                "240p 426x178 296"
            ]
        );
        assert_eq!(table(&source(640, 272)), ["360p 640x272 624", "240p 426x182 303"]);
    }

    #[test]
    fn upright_goes_by_its_width_too() {
        assert_eq!(
            table(&source(1080, 1920)),
            [
                "1080p 1080x1920 6000",
                "720p 720x1280 3000",
                "480p 480x854 1400",
                "360p 360x640 800",
                "240p 240x426 400"
            ]
        );
    }

    #[test]
    fn sizes_between_and_below_the_rungs() {
        assert_eq!(table(&source(960, 540)), ["540p 960x540 1739", "360p 640x360 800", "240p 426x240 400"]);
        assert_eq!(table(&source(320, 180)), ["180p 320x180 225"]);
        assert_eq!(table(&source(161, 121)), ["120p 160x120 75"]);
        assert_eq!(table(&source(16, 16)), ["16p 16x16 64"]);
        assert_eq!(table(&source(0, 0)), ["2p 2x2 64"]);
        let names = |w, h| automatic(&source(w, h)).into_iter().map(|r| r.name).collect::<Vec<_>>();
        assert_eq!(names(1920, 1088), ["1080p", "720p", "480p", "360p", "240p"]);
        assert_eq!(names(1024, 576), ["576p", "360p", "240p"]); // 480p has more than two thirds of it
        assert_eq!(names(1440, 1080), ["1080p", "720p", "480p", "360p", "240p"]);
    }

    #[test]
    fn a_strip_keeps_only_rungs_that_encoders_accept() {
        assert_eq!(table(&source(16_384, 16)), ["2160p 3840x4 64"]);
        assert_eq!(
            table(&source(1920, 160)),
            ["1080p 1920x160 1056", "720p 1280x106 504", "480p 854x72 240"]
        );
    }

    #[test]
    fn frame_rate_and_codec_change_the_caps() {
        let top = |frame_rate, codec| {
            let rung = automatic(&LadderSource { frame_rate, codec, ..source(1920, 1080) }).remove(0);
            (rung.video.bitrate_bps.unwrap(), rung.video.crf.unwrap())
        };
        let (slow, fast) = (Rational::from_int(30), Rational::from_int(50));
        assert_eq!(top(slow, VideoCodec::H264), (6_000_000, 22.0));
        assert_eq!(top(fast, VideoCodec::H264), (8_400_000, 22.0));
        assert_eq!(top(Rational::from_int(120), VideoCodec::H264), (12_000_000, 22.0));
        assert_eq!(top(slow, VideoCodec::Hevc), (3_600_000, 25.0));
        assert_eq!(top(slow, VideoCodec::Vp9), (3_600_000, 32.0));
        assert_eq!(top(fast, VideoCodec::Av1), (4_200_000, 32.0));
        assert_eq!(top(Rational::ZERO, VideoCodec::H264), (6_000_000, 22.0));
    }

    #[test]
    fn a_thin_source_bounds_all_caps() {
        let thin = |bps, source_codec| LadderSource {
            video_bitrate_bps: Some(bps),
            source_codec,
            ..source(1920, 1080)
        };
        // 2.4 Mbit/s + a quarter = 3: half of the usual 6.
        assert_eq!(
            table(&thin(2_400_000, None)),
            [
                "1080p 1920x1080 3000",
                "720p 1280x720 1500",
                "480p 854x480 700",
                "360p 640x360 400",
                "240p 426x240 200"
            ]
        );
        // HEVC at 1.2 is worth 2 of H.264, and 2.5 with head-room.
        assert_eq!(table(&thin(1_200_000, Some(VideoCodec::Hevc)))[0], "1080p 1920x1080 2500");
        // 120 kbit/s + a quarter: at 1/40 only 720p stays above the floor.
        assert_eq!(table(&thin(120_000, None)), ["1080p 1920x1080 150", "720p 1280x720 75"]);
        assert_eq!(table(&thin(1, None)), ["1080p 1920x1080 64"]);
        assert_eq!(table(&thin(0, None)), table(&source(1920, 1080)));
        assert_eq!(table(&thin(u64::MAX, None)), table(&source(1920, 1080)));
    }

    #[test]
    fn anamorphic_sources_keep_their_lines() {
        let r = Rational::new;
        assert_eq!(display_size(720, 576, r(64, 45)), (1024, 576));
        assert_eq!(display_size(720, 576, r(16, 15)), (768, 576));
        assert_eq!(display_size(720, 480, r(32, 27)), (854, 480));
        assert_eq!(display_size(720, 480, r(8, 9)), (640, 480));
        assert_eq!(display_size(1440, 1080, r(4, 3)), (1920, 1080));
        assert_eq!(display_size(161, 121, r(1, 1)), (160, 120));
        assert_eq!(display_size(0, 0, r(0, 1)), (2, 2));
        assert_eq!(display_size(720, 576, r(-1, 1)), (720, 576));
        assert_eq!(display_size(u32::MAX, u32::MAX, r(i64::MAX, 1)), (16_384, 16_384));
        assert_eq!(display_size(1920, 1080, r(1, i64::MAX)), (2, 1080));
    }

    #[test]
    fn explicit_heights() {
        assert_eq!(scaled_width(1920, 1080, 480), (854, 480));
        assert_eq!(scaled_width(1920, 800, 720), (1728, 720));
        assert_eq!(scaled_width(640, 360, 1080), (1920, 1080));
        assert_eq!(scaled_width(1920, 1080, 361), (640, 360));
        assert_eq!(scaled_width(0, 0, 0), (2, 2));
        assert_eq!(scaled_width(u32::MAX, 1, u32::MAX), (16_384, 16_384));
    }

    fn any_source() -> impl Strategy<Value = LadderSource> {
        let codecs = [VideoCodec::H264, VideoCodec::Hevc, VideoCodec::Av1, VideoCodec::Vp9];
        let codec = || prop::sample::select(codecs.to_vec());
        let side = || prop_oneof![0u32..20_000, 100u32..2200, any::<u32>()];
        let bps = prop::option::of(prop_oneof![any::<u64>(), 0u64..30_000_000]);
        let rate = (-1i64..300_000, prop::sample::select(vec![1i64, 1000, 1001]));
        (side(), side(), rate, bps, prop::option::of(codec()), codec()).prop_map(
            |(w, h, (num, den), video_bitrate_bps, source_codec, codec)| LadderSource {
                frame_rate: Rational::new(num, den),
                video_bitrate_bps,
                source_codec,
                codec,
                ..source(w, h)
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]

        #[test]
        fn ladders_fall_and_never_enlarge(source in any_source()) {
            let rungs = automatic(&source);
            prop_assert!((1..=MAX_RUNGS).contains(&rungs.len()));
            for rung in &rungs {
                prop_assert!(rung.width % 2 == 0 && rung.height % 2 == 0);
                prop_assert!((2..=3840).contains(&rung.width.max(rung.height)));
                prop_assert!(rung.width.min(rung.height) >= 2);
                prop_assert!(rung.width <= source.display_width.max(2), "{rung:?}");
                prop_assert!(rung.height <= source.display_height.max(2), "{rung:?}");
            }
            for pair in rungs.windows(2) {
                prop_assert!(pair[1].height < pair[0].height && pair[1].width < pair[0].width);
                prop_assert!(pair[1].video.bitrate_bps < pair[0].video.bitrate_bps);
                prop_assert!(pair[1].name != pair[0].name);
            }
        }

        #[test]
        fn shapes_are_kept(source in any_source()) {
            let side = |s: u32| f64::from(s.clamp(2, MAX_SIDE));
            let (w, h) = (side(source.display_width), side(source.display_height));
            for rung in automatic(&source) {
                let (rw, rh) = (f64::from(rung.width), f64::from(rung.height));
                let error = (rw / rh / (w / h) - 1.0).abs();
                let off = (rh - rw * h / w).abs().min((rw - rh * w / h).abs());
                prop_assert!(error < 0.015 || off <= 2.0, "{rung:?}: {error} {off}");
            }
        }

        #[test]
        fn caps_stay_below_what_the_source_is_worth(source in any_source()) {
            let percent = |codec| match codec {
                VideoCodec::H264 => 1.0,
                VideoCodec::Hevc | VideoCodec::Vp9 => 0.6,
                VideoCodec::Av1 => 0.5,
            };
            if let Some(bps) = source.video_bitrate_bps.filter(|bps| *bps > 0) {
                let from = percent(source.source_codec.unwrap_or(VideoCodec::H264));
                let most = (bps as f64 * 1.25 * percent(source.codec) / from).max(64_000.0);
                for rung in automatic(&source) {
                    prop_assert!(rung.video.bitrate_bps.unwrap() as f64 <= most * (1.0 + 1e-9));
                }
            }
        }

        #[test]
        fn sizes_are_even_and_bounded(w in any::<u32>(), h in any::<u32>(), x in any::<u32>(), n in any::<i64>(), d in 1..i64::MAX) {
            for (a, b) in [scaled_width(w, h, x), display_size(w, h, Rational::new(n.max(-i64::MAX), d))] {
                prop_assert!(a % 2 == 0 && b % 2 == 0 && (2..=MAX_SIDE).contains(&a) && (2..=MAX_SIDE).contains(&b));
            }
        }
    }
}
