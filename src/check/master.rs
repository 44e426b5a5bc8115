//! The rules of multivariant playlists: rows V1 to V13, and with [`codecs`] C1 to C7.
//!
//! What enters: the playlist, and what was found in each of its media playlists. What leaves: findings.

use super::codecs;
use super::m3u8::{Attributes, Playlist, VariantLine};
use super::media::{Config, Family};
use super::report::{Findings, Row};
use std::collections::BTreeSet;

/// What was found in one media playlist.
#[derive(Clone, Debug, Default)]
pub(super) struct Found {
    pub(super) uri: String,
    pub(super) video: Option<Config>,
    pub(super) audio: Option<Config>,
    pub(super) measured_rate: Option<f64>,
    pub(super) rates: Rates,
    pub(super) has_segments: bool,
}

/// Bit rates as RFC 8216, 4.3.4.2 defines them, and as they were measured.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Rates {
    /// Of the heaviest run of segments of 0.5 to 1.5 target durations.
    pub(super) peak_bps: Option<f64>,
    pub(super) average_bps: Option<f64>,
    /// Every segment was measured.
    pub(super) whole: bool,
}

/// Bytes of each segment (`None`: not read) with its length.
pub(super) fn rates(segments: &[(Option<u64>, i64)], target_s: u64) -> Rates {
    let target_us = target_s as f64 * 1e6;
    let bps = |bytes: u64, us: i64| bytes as f64 * 8e6 / us.max(1) as f64;
    let mut peak: Option<f64> = None;
    for first in 0..segments.len() {
        let (mut bytes, mut us) = (0, 0);
        for (size, length) in segments.iter().skip(first) {
            let Some(size) = size else { break };
            bytes += size;
            us += length;
            if us as f64 > 1.5 * target_us {
                break;
            }
            if us as f64 >= 0.5 * target_us {
                peak = Some(peak.unwrap_or(0.0).max(bps(bytes, us)));
            }
        }
    }
    let read = segments.iter().filter_map(|(size, length)| size.map(|size| (size, length)));
    let (bytes, us) = read.fold((0, 0), |(bytes, us), (size, length)| (bytes + size, us + length));
    let whole = segments.iter().all(|(size, _)| size.is_some());
    let average_bps = (us > 0).then(|| bps(bytes, us));
    // A title of less than half a target duration has no run; its whole is what there is.
    let peak_bps = peak.or(average_bps.filter(|_| whole));
    Rates { peak_bps, average_bps, whole }
}

/// A variant with the media playlists that belong to it: its own first, then those of its groups.
pub(super) struct Variant<'a> {
    pub(super) line: &'a VariantLine,
    pub(super) own: &'a Found,
    pub(super) groups: Vec<&'a Found>,
}

impl Variant<'_> {
    pub(super) fn place(&self) -> String {
        format!("{} (line {} of the multivariant playlist)", self.own.uri, self.line.line)
    }

    pub(super) fn configs(&self) -> impl Iterator<Item = &Config> {
        [self.own].into_iter().chain(self.groups.iter().copied()).flat_map(|f| [&f.video, &f.audio]).flatten()
    }

    pub(super) fn attributes(&self) -> &Attributes {
        &self.line.attributes
    }

    /// Has pictures, by what was found or by what is said.
    fn has_video(&self) -> bool {
        self.own.video.is_some() || self.attributes().get("RESOLUTION").is_some()
    }
}

/// Judges everything. `is_made` says that all segments lie there as files.
pub(super) fn judge(
    playlist: &Playlist,
    uri: &str,
    variants: &[Variant<'_>],
    is_made: bool,
    findings: &mut Findings,
) {
    for variant in variants {
        attributes(variant, findings);
        codecs::judge(variant, findings);
        bit_rates(variant, is_made, findings);
        picture(variant, findings);
    }
    ranges(variants, findings);
    shapes(variants, findings);
    groups(playlist, uri, findings);
    surround(playlist, uri, variants, findings);
    captions(variants, uri, findings);
    sound_alone(variants, findings);
    first(variants, findings);
}

/// V1.
fn attributes(variant: &Variant<'_>, findings: &mut Findings) {
    let (place, attributes) = (variant.place(), variant.attributes());
    for name in ["BANDWIDTH", "AVERAGE-BANDWIDTH"] {
        let kept = attributes.number(name).is_some_and(|value| value > 0);
        findings.check(Row::V1, kept, &place, || {
            format!("{name} is {:?}", attributes.get(name).unwrap_or("missing"))
        });
    }
    findings.check(Row::V1, !attributes.codecs().is_empty(), &place, || "CODECS is missing".into());
    if !variant.has_video() {
        return;
    }
    findings.check(Row::V1, attributes.resolution().is_some(), &place, || "RESOLUTION is missing".into());
    let text = attributes.get("FRAME-RATE").unwrap_or_default();
    let decimals = text.split_once('.').map_or(0, |(_, fraction)| fraction.len());
    findings.check(Row::V1, attributes.frame_rate().is_some() && decimals == 3, &place, || {
        format!("FRAME-RATE {text:?} has to be a number with three decimals")
    });
    if let (Some(said), Some(measured)) = (attributes.frame_rate(), variant.own.measured_rate) {
        findings.check(Row::V1, (said / measured - 1.0).abs() <= 0.01, &place, || {
            format!("FRAME-RATE is {said}, but the pictures come at {measured:.3}")
        });
    }
}

/// V3 and V4.
fn bit_rates(variant: &Variant<'_>, is_made: bool, findings: &mut Findings) {
    let place = variant.place();
    let all = || [variant.own].into_iter().chain(variant.groups.iter().copied()).map(|found| found.rates);
    let sum = |pick: fn(Rates) -> Option<f64>| all().map(pick).try_fold(0.0, |sum, rate| Some(sum + rate?));
    let (peak, average) = (sum(|rates| rates.peak_bps), sum(|rates| rates.average_bps));
    let said = variant.attributes().number("BANDWIDTH").map(|bps| bps as f64);
    if let (Some(peak), Some(said)) = (peak, said) {
        findings.check(Row::V4, peak <= said + 1.0, &place, || {
            let hard = if peak > 1.25 * said { ", more than 125 %, where players give up" } else { "" };
            format!("segments need up to {peak:.0} bit/s, BANDWIDTH says {said:.0}{hard}")
        });
    }
    if all().any(|rates| !rates.whole) {
        return findings.not_applicable(Row::V3, "not every segment was read");
    }
    let said_average = variant.attributes().number("AVERAGE-BANDWIDTH").map(|bps| bps as f64);
    for (name, said, real) in [("BANDWIDTH", said, peak), ("AVERAGE-BANDWIDTH", said_average, average)] {
        let (Some(said), Some(real)) = (said, real) else { continue };
        if (said / real - 1.0).abs() <= 0.1 {
            findings.judged(Row::V3);
            continue;
        }
        let what = format!("{name} says {said:.0} bit/s, measured are {real:.0}");
        match is_made {
            true => findings.broken(Row::V3, &place, what),
            false => findings.advice(Row::V3, &place, what + " (a promise for what is made on demand)"),
        }
    }
    if let (Some(peak), Some(average)) = (peak, average)
        && peak > 2.0 * average
    {
        findings.advice(
            Row::V3,
            &place,
            format!("the peak {peak:.0} bit/s is more than twice the average {average:.0}"),
        );
    }
}

/// V6 for one variant, F8, F9, C6.
fn picture(variant: &Variant<'_>, findings: &mut Findings) {
    let place = variant.place();
    let Some(config) = &variant.own.video else { return };
    if let (Some(said), Some(real)) = (variant.attributes().resolution(), config.shown) {
        // A pixel for each rounding.
        let kept = said.0.abs_diff(real.0) <= 2 && said.1.abs_diff(real.1) <= 2;
        findings.check(Row::V6, kept, &place, || {
            format!("RESOLUTION {said:?}, but the picture is {real:?} as shown")
        });
    }
    let supplemental = variant.attributes().get("SUPPLEMENTAL-CODECS");
    if config.dolby_vision || supplemental.is_some() {
        let said = variant.attributes().codecs();
        let base =
            config.entry.as_ref() == Some(b"dvh1") || !said.iter().any(|codec| codec.starts_with("dv"));
        let kept = base
            && (config.entry.as_ref() == Some(b"dvh1")
                || supplemental.is_some_and(|codec| codec.starts_with("dv")));
        findings.check(Row::C6, kept, &place, || {
            format!("CODECS {said:?}, SUPPLEMENTAL-CODECS {supplemental:?}")
        });
    }
}

/// F8 and F9, which need no multivariant playlist.
pub(super) fn tags(config: &Config, uri: &str, findings: &mut Findings) {
    if config.family == Family::Hevc
        && let Some(entry) = &config.entry
    {
        findings.check(Row::F8, matches!(entry, b"hvc1" | b"dvh1"), uri, || {
            format!("the sample entry is {}", super::mp4::name(entry))
        });
    }
    let bitstream = config.sps.as_ref().and_then(|sps| sps.colour);
    if let (Some(container), Some(bitstream)) = (config.colr, bitstream) {
        findings.check(Row::F9, container == bitstream, uri, || {
            format!("colr says {container:?}, the bitstream {bitstream:?} (primaries, transfer, matrix)")
        });
    }
    /// SMPTE ST 2084.
    const PQ: u8 = 16;
    if config.entry.is_some() && config.transfer() == Some(PQ) {
        findings.check(Row::F9, config.has_light, uri, || {
            "neither mastering display nor content light level, in boxes or parameter sets".into()
        });
    }
}

/// V5.
fn ranges(variants: &[Variant<'_>], findings: &mut Findings) {
    let range = |variant: &Variant<'_>| match variant.own.video.as_ref()?.transfer() {
        Some(16) => Some("PQ"),
        Some(18) => Some("HLG"),
        // 2 is "unspecified": every player takes it for SDR.
        None | Some(1 | 2 | 4..=8 | 11..=15) => Some("SDR"),
        _ => None,
    };
    let real: Vec<Option<&str>> = variants.iter().map(range).collect();
    let any_hdr = real.iter().flatten().any(|range| *range != "SDR");
    for (variant, real) in variants.iter().zip(&real) {
        let Some(real) = real else { continue };
        let said = variant.attributes().get("VIDEO-RANGE");
        let kept = said.map_or(!any_hdr, |said| said == *real);
        findings.check(Row::V5, kept, &variant.place(), || {
            format!("VIDEO-RANGE is {}, the picture is {real}", said.unwrap_or("missing"))
        });
    }
    if any_hdr
        && !real.contains(&Some("SDR"))
        && let Some(variant) = variants.first()
    {
        findings.broken(
            Row::V5,
            &variant.place(),
            "no variant is SDR: sets without HDR have nothing to play",
        );
    }
}

/// V6 over all variants.
fn shapes(variants: &[Variant<'_>], findings: &mut Findings) {
    let sizes = variants.iter().filter_map(|variant| Some((variant, variant.attributes().resolution()?)));
    let ratio = |(width, height): (u32, u32)| f64::from(width) / f64::from(height);
    let mut sizes = sizes;
    let Some((_, largest)) =
        sizes.clone().max_by_key(|(_, (width, height))| u64::from(*width) * u64::from(*height))
    else {
        return;
    };
    sizes.by_ref().for_each(|(variant, size)| {
        // Both sides are rounded to even numbers.
        let slack = 2.0 * (1.0 + ratio(largest)) / f64::from(size.1);
        findings.check(Row::V6, (ratio(size) - ratio(largest)).abs() <= slack, &variant.place(), || {
            format!("{size:?} has another shape than {largest:?}")
        });
    });
}

/// V7, V8.
fn groups(playlist: &Playlist, uri: &str, findings: &mut Findings) {
    let text = |rendition: &Attributes, name: &str| rendition.get(name).unwrap_or_default().to_owned();
    for (attribute, kind) in [("AUDIO", "AUDIO"), ("SUBTITLES", "SUBTITLES"), ("VIDEO", "VIDEO")] {
        for variant in &playlist.variants {
            let Some(group) = variant.attributes.get(attribute) else { continue };
            let exists = playlist
                .renditions
                .iter()
                .any(|r| r.get("TYPE") == Some(kind) && r.get("GROUP-ID") == Some(group));
            findings
                .check(Row::V7, exists, uri, || format!("line {}: no {kind} group {group:?}", variant.line));
        }
    }
    let mut names = BTreeSet::new();
    let mut defaults = BTreeSet::new();
    for rendition in &playlist.renditions {
        let (kind, group) = (text(rendition, "TYPE"), text(rendition, "GROUP-ID"));
        let name = text(rendition, "NAME");
        let what = format!("{kind} {name:?} in group {group:?}");
        let mut check =
            |kept: bool, why: &str| findings.check(Row::V7, kept, uri, || format!("{what}: {why}"));
        check(
            !kind.is_empty() && !group.is_empty() && !name.is_empty(),
            "TYPE, GROUP-ID and NAME are needed",
        );
        check(names.insert((kind.clone(), group.clone(), name)), "the name is there twice");
        if rendition.is_yes("DEFAULT") {
            check(defaults.insert((kind.clone(), group)), "a second default in its group");
            check(
                matches!(rendition.get("AUTOSELECT"), None | Some("YES")),
                "a default that may not be chosen by itself",
            );
        }
        if kind == "AUDIO" || kind == "SUBTITLES" {
            check(rendition.get("LANGUAGE").is_some(), "LANGUAGE is missing");
        }
        if kind == "AUDIO" {
            check(rendition.get("CHANNELS").is_some(), "CHANNELS is missing");
        }
    }
    same_members(playlist, uri, findings);
}

/// V8.
fn same_members(playlist: &Playlist, uri: &str, findings: &mut Findings) {
    const OWN: [&str; 7] =
        ["URI", "CHANNELS", "BIT-DEPTH", "SAMPLE-RATE", "GROUP-ID", "STABLE-RENDITION-ID", "INSTREAM-ID"];
    let mut kinds = std::collections::BTreeMap::<_, std::collections::BTreeMap<_, BTreeSet<_>>>::new();
    for rendition in &playlist.renditions {
        let key = |name: &str| rendition.get(name).unwrap_or_default().to_owned();
        let groups = kinds.entry(key("TYPE")).or_default();
        groups.entry(key("GROUP-ID")).or_default().insert(rendition.without(&OWN));
    }
    for (kind, groups) in kinds.iter().filter(|(_, groups)| groups.len() > 1) {
        let first = groups.values().next();
        for (group, members) in groups {
            findings.check(Row::V8, Some(members) == first, uri, || {
                format!("{kind} group {group:?} has other members than the first group")
            });
        }
    }
}

/// V9.
fn surround(playlist: &Playlist, uri: &str, variants: &[Variant<'_>], findings: &mut Findings) {
    let inside: Vec<&Config> = variants.iter().filter_map(|variant| variant.own.audio.as_ref()).collect();
    let grouped: Vec<&Config> =
        variants.iter().flat_map(|v| v.groups.iter().filter_map(|f| f.audio.as_ref())).collect();
    let channels = |rendition: &Attributes| rendition.get("CHANNELS")?.split('/').next()?.parse::<u32>().ok();
    let languages: BTreeSet<&str> = playlist
        .renditions
        .iter()
        .filter(|rendition| rendition.get("TYPE") == Some("AUDIO"))
        .filter_map(|rendition| rendition.get("LANGUAGE"))
        .collect();
    let surround_apart = playlist.renditions.iter().filter_map(channels).any(|channels| channels > 2);
    let all = || inside.iter().chain(&grouped);
    if all().next().is_none() {
        return;
    }
    for variant in variants {
        let Some(audio) = &variant.own.audio else { continue };
        findings.check(Row::V9, audio.channels <= 2, &variant.place(), || {
            format!("{} channels of sound within the segments: surround sound belongs into a rendition of its own", audio.channels)
        });
    }
    let stereo_aac = |config: &&&Config| config.family == Family::Aac && config.channels <= 2;
    let kept = all().any(|config| stereo_aac(&config));
    findings.check(Row::V9, kept, uri, || {
        "no stereo AAC, which is the one kind of sound that every set plays".into()
    });
    let has = |family: Family| all().any(|config| config.family == family);
    if (surround_apart || languages.len() > 1) && has(Family::Eac3) {
        findings.check(Row::V9, has(Family::Ac3), uri, || {
            "E-AC-3 without AC-3 for sets that know only that".into()
        });
    }
}

/// V11.
fn captions(variants: &[Variant<'_>], uri: &str, findings: &mut Findings) {
    let none = |variant: &Variant<'_>| variant.attributes().get("CLOSED-CAPTIONS") == Some("NONE");
    let count = variants.iter().filter(|variant| none(variant)).count();
    findings.check(Row::V11, count == 0 || count == variants.len(), uri, || {
        format!("CLOSED-CAPTIONS=NONE on {count} of {} variants", variants.len())
    });
}

/// V12.
fn sound_alone(variants: &[Variant<'_>], findings: &mut Findings) {
    let any_video = variants.iter().any(Variant::has_video);
    for variant in variants.iter().filter(|variant| !variant.has_video()) {
        let place = variant.place();
        findings.check(Row::V12, !any_video, &place, || "sound alone beside variants with a picture".into());
        let codecs = variant.attributes().codecs();
        findings.check(Row::V12, codecs.len() == 1, &place, || {
            format!("CODECS {codecs:?} has to be exactly one")
        });
    }
    if variants.iter().all(Variant::has_video) {
        findings.judged(Row::V12);
    }
}

/// V13.
fn first(variants: &[Variant<'_>], findings: &mut Findings) {
    /// Apple 1.32.
    const START_BPS: u64 = 2_000_000;
    let with_video: Vec<&Variant<'_>> = variants.iter().filter(|variant| variant.has_video()).collect();
    if with_video.len() < 2 {
        return;
    }
    findings.judged(Row::V13);
    let bandwidth = |variant: &&Variant<'_>| variant.attributes().number("BANDWIDTH").unwrap_or(u64::MAX);
    let from_below = with_video.iter().map(bandwidth).filter(|bps| *bps <= START_BPS).max();
    let best = from_below.or_else(|| with_video.iter().map(bandwidth).min());
    if let Some(first) = variants.first().filter(|first| Some(bandwidth(first)) != best) {
        let what = format!(
            "it comes first with {} bit/s; unless the user chose it, {} would start quickly",
            bandwidth(&first),
            best.unwrap_or(0)
        );
        findings.advice(Row::V13, &first.place(), what);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_is_that_of_the_heaviest_run() {
        let found =
            rates(&[(Some(500_000), 4_000_000), (Some(1_000_000), 4_000_000), (Some(400_000), 500_000)], 4);
        // The short last one counts together with its neighbour only.
        assert_eq!(found.peak_bps.map(f64::round), Some((1_400_000.0 * 8.0 / 4.5f64).round()));
        assert_eq!(found.average_bps.map(f64::round), Some((1_900_000.0 * 8.0 / 8.5f64).round()));
        assert!(found.whole);
        let sampled = rates(&[(Some(1), 1_000_000), (None, 4_000_000)], 4);
        assert_eq!((sampled.peak_bps, sampled.whole), (None, false));
        assert_eq!(rates(&[], 4), Rates { peak_bps: None, average_bps: None, whole: true });
    }
}
