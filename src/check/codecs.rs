//! What `CODECS` says against what the bytes say: rows C1 to C5, C7, V2.
//!
//! What enters: a variant with what was found in its media playlists. What leaves: findings.

use super::levels;
use super::master::Variant;
use super::media::{Config, Family};
use super::report::{Findings, Row};
use super::sps::Sps;
use std::collections::BTreeSet;

/// Judges one variant.
pub(super) fn judge(variant: &Variant<'_>, findings: &mut Findings) {
    codecs(variant, findings);
    level(variant, findings);
}

fn row_of(family: Family) -> Row {
    match family {
        Family::H264 => Row::C1,
        Family::Hevc => Row::C2,
        Family::Aac => Row::C3,
        _ => Row::C4,
    }
}

fn family_of(codec: &str) -> Option<Family> {
    let kind = codec.split('.').next().unwrap_or_default();
    Some(match kind {
        "avc1" | "avc3" => Family::H264,
        "hvc1" | "hev1" | "dvh1" | "dvhe" => Family::Hevc,
        "av01" => Family::Av1,
        "vp09" => Family::Vp9,
        "mp4a" if codec.starts_with("mp4a.40.34") || codec.starts_with("mp4a.6") => Family::Mp3,
        "mp4a" => Family::Aac,
        "ac-3" => Family::Ac3,
        "ec-3" => Family::Eac3,
        _ => return None,
    })
}

fn is_video(family: Family) -> bool {
    matches!(family, Family::H264 | Family::Hevc | Family::Av1 | Family::Vp9)
}

/// C1 to C4, C7, V2.
fn codecs(variant: &Variant<'_>, findings: &mut Findings) {
    let place = variant.place();
    let said = variant.attributes().codecs();
    if said.is_empty() {
        return;
    }
    let mut matched = BTreeSet::new();
    for config in variant.configs() {
        let Some(real) = &config.codec else {
            findings.broken(row_of(config.family), &place, "the bytes have no readable codec configuration");
            continue;
        };
        let at = said.iter().position(|codec| is_same(codec, real, config));
        matched.extend(at);
        if at.is_some() {
            findings.judged(row_of(config.family));
            findings.judged(Row::V2);
            continue;
        }
        let near = said.iter().position(|codec| family_of(codec) == Some(config.family));
        let near =
            near.or_else(|| said.iter().position(|codec| codec.split('.').next() == real.split('.').next()));
        matched.extend(near);
        match near.and_then(|at| said.get(at)) {
            Some(codec) => {
                findings.broken(
                    row_of(config.family),
                    &place,
                    format!("CODECS says {codec}, the bytes say {real}"),
                );
            }
            None => findings.broken(Row::V2, &place, format!("CODECS lacks {real}, which the bytes have")),
        }
    }
    if variant.own.has_segments {
        for (_, codec) in
            said.iter().enumerate().filter(|(at, codec)| !matched.contains(at) && !is_text(codec))
        {
            findings.broken(Row::V2, &place, format!("CODECS lists {codec}, which is nowhere in the bytes"));
        }
    }
    let count = |video: bool| {
        let families: BTreeSet<&str> = said
            .iter()
            .filter(|codec| !is_text(codec) && family_of(codec).is_some_and(is_video) == video)
            .map(|codec| codec.split('.').next().unwrap_or_default())
            .collect();
        families.len()
    };
    let (videos, audios) = (count(true), count(false));
    findings.check(Row::C7, videos <= 1 && audios <= 1, &place, || {
        format!("{videos} video and {audios} audio codecs: players first fetch a segment to find out")
    });
}

fn is_text(codec: &str) -> bool {
    codec.starts_with("wvtt") || codec.starts_with("stpp")
}

/// Whether `CODECS` says what the bytes say. Hexadecimal digits have no case, and ADTS cannot say that
/// SBR follows (ISO/IEC 14496-3, 1.6.6.2), so HE-AAC may be told there where the stream says LC.
fn is_same(said: &str, real: &str, config: &Config) -> bool {
    let implicit_sbr = config.entry.is_none() && config.family == Family::Aac && config.sample_rate <= 24_000;
    said.eq_ignore_ascii_case(real) && said.split('.').next() == real.split('.').next()
        || implicit_sbr && real == "mp4a.40.2" && matches!(said, "mp4a.40.5" | "mp4a.40.29")
        || is_dolby_vision_of(said, config)
}

/// `dvh1` in `CODECS` is allowed where nothing but Dolby Vision can be shown.
fn is_dolby_vision_of(said: &str, config: &Config) -> bool {
    config.dolby_vision && config.entry.as_ref() == Some(b"dvh1") && said.starts_with("dvh1")
}

/// C5.
fn level(variant: &Variant<'_>, findings: &mut Findings) {
    let Some(config) = &variant.own.video else { return };
    let Some(sps) = &config.sps else { return };
    let rate =
        variant.attributes().frame_rate().into_iter().chain(variant.own.measured_rate).fold(0.0, f64::max);
    let rate = if rate > 0.0 { rate } else { 60.0 };
    let bandwidth = variant.attributes().number("BANDWIDTH").unwrap_or(0) as f64;
    let bits = bandwidth.max(variant.own.rates.peak_bps.unwrap_or(0.0));
    let needed = |bits: f64| match config.family {
        Family::H264 => levels::h264(sps, rate, bits),
        _ => levels::hevc(sps, rate, bits),
    };
    let place = variant.place();
    let Some(least) = needed(bits) else {
        return findings.broken(Row::C5, &place, "no level holds this picture");
    };
    // An encoder counts with the cap that it was given, which the stream does not tell; a picture that
    // is easy to code stays far below it.
    const CAP_OVER_NEED: f64 = 4.0;
    let most = needed(CAP_OVER_NEED * bits).unwrap_or(u8::MAX);
    let (said, scale) =
        (said_level(config.family, sps), if config.family == Family::H264 { 10.0 } else { 30.0 });
    let what = || {
        let (width, height) = sps.cropped;
        let (said, least) = (f64::from(said) / scale, f64::from(least) / scale);
        format!(
            "level {said}, but {width}x{height} at {rate:.3} with {} held frames needs {least}",
            sps.dpb_frames
        )
    };
    findings.check(Row::C5, said <= most, &place, what);
    if said > least && said <= most {
        findings.advice(Row::C5, &place, what() + ", unless the encoder was given a higher cap");
    }
}

/// `level_idc`; 1b, written as 11 with a flag or as 9 (A.3.1, A.3.2), counts as 1.
fn said_level(family: Family, sps: &Sps) -> u8 {
    let is_1b = sps.level == 9 || sps.constraint_3 && sps.level == 11 && matches!(sps.profile, 66 | 77 | 88);
    if family == Family::H264 && is_1b { 10 } else { sps.level }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_that_say_the_same() {
        let adts = Config { sample_rate: 22_050, ..Config::new(Family::Aac) };
        assert!(is_same("mp4a.40.5", "mp4a.40.2", &adts));
        let fast = Config { sample_rate: 48_000, ..Config::new(Family::Aac) };
        assert!(!is_same("mp4a.40.5", "mp4a.40.2", &fast));
        assert!(is_same("avc1.64001F", "avc1.64001f", &Config::new(Family::H264)));
        assert!(!is_same("avc1.64002a", "avc1.64001f", &Config::new(Family::H264)));
        assert!(!is_same("avc1.100.31", "avc1.64001f", &Config::new(Family::H264)));
    }
}
