//! A transport stream segment as tracks, and the rules that show in one segment alone.
//!
//! What enters: what [`super::ts`] has read, and about when the segment begins. What leaves: its tracks
//! with unwrapped times, and breaches of rows T3, T4, T8, T9.

use super::audio::{self, Coding};
use super::bytes::annex_b;
use super::fragment::is_random_access;
use super::media::{Config, Family, Lane, Media, Unit, shown_size};
use super::mp4::hevc_sei_tells_light;
use super::report::Row;
use super::sps;
use super::ts::{PACKET_BYTES, Pes, Program, Segment, Stream};

const WRAP: i64 = 1 << 33;
const CLOCK_HZ: i64 = 90_000;
/// ISO/IEC 13818-1, 2.7.2.
const MAX_PCR_GAP: i64 = CLOCK_HZ / 10;
/// Furthest that a decode time may be ahead of the clock.
const MAX_PCR_LEAD: i64 = CLOCK_HZ;
/// "The first few packets".
const FIRST_PCR_PACKETS: usize = 8;
/// Apple 1.13; advice.
const MAX_KEY_GAP: i64 = 2 * CLOCK_HZ;

/// The value of a 33-bit counter that lies nearest to `near`.
pub(super) fn unwrap(raw: i64, near: i64) -> i64 {
    let ahead = raw.wrapping_sub(near).rem_euclid(WRAP);
    near + if ahead >= WRAP / 2 { ahead - WRAP } else { ahead }
}

/// Reads the tracks. `near` is about where the segment begins on the 90 kHz clock.
pub(super) fn media(segment: Segment, near: Option<i64>) -> Media {
    let mut media = Media { faults: segment.faults, ..Media::default() };
    media.judged.extend([Row::T1, Row::T2, Row::T6]);
    let Some(program) = segment.program else { return media };
    media.judged.extend([Row::T4, Row::T8]);
    let first = segment.pes.values().flatten().find_map(|pes| pes.dts);
    let near = near.or(first).unwrap_or(0);
    for stream in &program.streams {
        let pes = segment.pes.get(&stream.pid).map(Vec::as_slice).unwrap_or_default();
        stream_type(stream, &mut media);
        let Some(kind) = kind(stream) else { continue };
        if pes.is_empty() {
            continue;
        }
        let lane = match kind {
            Kind::Video(family) => video(stream, family, pes, near, &mut media),
            Kind::Audio(family, coding) => audio(stream, (family, coding), pes, near, &mut media),
        };
        media.lanes.extend(lane);
    }
    clock(&program, &segment.pcrs, &segment.pes, segment.packets, near, &mut media);
    media
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Video(Family),
    Audio(Family, Coding),
}

fn kind(stream: &Stream) -> Option<Kind> {
    Some(match stream.stream_type {
        0x1B => Kind::Video(Family::H264),
        0x24 => Kind::Video(Family::Hevc),
        0x03 | 0x04 => Kind::Audio(Family::Mp3, Coding::Mpeg),
        0x0F => Kind::Audio(Family::Aac, Coding::Adts),
        0x81 => Kind::Audio(Family::Ac3, Coding::Ac3),
        0x87 => Kind::Audio(Family::Eac3, Coding::Eac3),
        _ => return None,
    })
}

fn stream_type(stream: &Stream, media: &mut Media) {
    /// Timed metadata is no picture and no sound.
    const METADATA: u8 = 0x15;
    let is_audio = matches!(kind(stream), Some(Kind::Audio(..)));
    if is_audio && !stream.has_language {
        media.faults.push((Row::T8, format!("PID {} has no language descriptor", stream.pid)));
    }
    if kind(stream).is_none() && stream.stream_type != METADATA {
        let what = format!(
            "stream type {:#04x} on PID {} is not one that players know",
            stream.stream_type, stream.pid
        );
        media.faults.push((Row::T8, what));
    }
}

/// The times of PES packets, each unwrapped near the one before.
fn times(pid: u16, pes: &[Pes], near: i64, media: &mut Media) -> Vec<Unit> {
    let mut units = Vec::new();
    let mut near = near;
    for pes in pes {
        let (Some(pts), Some(dts)) = (pes.pts, pes.dts) else {
            media
                .faults
                .push((Row::T5, format!("packet {}: a PES packet of PID {pid} has no PTS", pes.packet)));
            continue;
        };
        let dts = unwrap(dts, near);
        let pts = unwrap(pts, dts);
        if pts < dts {
            media.faults.push((Row::T5, format!("PID {pid}: PTS {pts} is before DTS {dts}")));
        }
        units.push(Unit { dts, pts });
        near = dts;
    }
    if let Some(pair) = units.windows(2).find(|pair| matches!(pair, [a, b] if b.dts <= a.dts)) {
        let at: Vec<String> = pair.iter().map(|unit| unit.dts.to_string()).collect();
        media.faults.push((Row::T5, format!("PID {pid}: DTS do not rise: {}", at.join(", "))));
    }
    units
}

fn video(stream: &Stream, family: Family, pes: &[Pes], near: i64, media: &mut Media) -> Option<Lane> {
    media.judged.push(Row::T3);
    let units = times(stream.pid, pes, near, media);
    let mut config = Config::new(family);
    let mut keys = Vec::new();
    for (at, pes) in pes.iter().enumerate() {
        let nals = annex_b(&pes.data);
        let is_key = nals.iter().any(|unit| is_random_access(family, unit));
        if is_key {
            keys.push(at);
        }
        if at == 0 {
            first_picture(stream.pid, family, pes, &nals, media);
        }
        if at == 0 || is_key {
            configure(&mut config, family, &nals);
        }
    }
    key_distance(&units, &keys, media);
    let frames = units.len() as u64;
    Some(Lane {
        id: u32::from(stream.pid),
        is_video: true,
        config,
        timescale: CLOCK_HZ,
        units,
        frames,
        frame_ticks: 0,
        end_dts: None,
        base_dts: None,
        keys,
    })
}

/// `nal_unit_type` of delimiter, SPS and PPS, and in HEVC of the VPS.
fn nal_types(family: Family) -> &'static [(u8, &'static str)] {
    match family {
        Family::H264 => &[(9, "access unit delimiter"), (7, "SPS"), (8, "PPS")],
        _ => &[(35, "access unit delimiter"), (32, "VPS"), (33, "SPS"), (34, "PPS")],
    }
}

fn nal_type(family: Family, unit: &[u8]) -> u8 {
    let head = unit.first().copied().unwrap_or(0);
    if family == Family::H264 { head & 0x1F } else { head >> 1 & 0x3F }
}

fn first_picture(pid: u16, family: Family, pes: &Pes, nals: &[&[u8]], media: &mut Media) {
    let mut fault = |what: String| media.faults.push((Row::T3, what));
    if !pes.random_access {
        fault(format!("the first picture of PID {pid} has no random_access_indicator"));
    }
    let slice = nals.iter().position(|unit| match family {
        Family::H264 => (1..=5).contains(&nal_type(family, unit)),
        _ => nal_type(family, unit) < 32,
    });
    let Some(slice) = slice else {
        return fault(format!("the first PES packet of PID {pid} holds no picture"));
    };
    if !nals.get(slice).is_some_and(|unit| is_random_access(family, unit)) {
        fault(format!("the first picture of PID {pid} is not an IDR"));
    }
    let before = nals.get(..slice).unwrap_or_default();
    for (kind, name) in nal_types(family) {
        if before.iter().all(|unit| nal_type(family, unit) != *kind) {
            fault(format!("no {name} stands in front of the first picture of PID {pid}"));
        }
    }
    let delimiter = nal_types(family).first().map(|(kind, _)| *kind);
    if before.iter().any(|unit| Some(nal_type(family, unit)) == delimiter)
        && before.first().map(|unit| nal_type(family, unit)) != delimiter
    {
        fault(format!("the access unit delimiter of PID {pid} does not come first"));
    }
}

fn configure(config: &mut Config, family: Family, nals: &[&[u8]]) {
    let (sps_type, sei_type) = if family == Family::H264 { (7, 6) } else { (33, 39) };
    for unit in nals {
        let kind = nal_type(family, unit);
        if kind == sps_type && config.sps.is_none() {
            config.sps = if family == Family::H264 { sps::h264(unit) } else { sps::hevc(unit) };
        }
        config.has_light |= family == Family::Hevc && kind == sei_type && hevc_sei_tells_light(unit);
    }
    if let Some(sps) = &config.sps {
        config.codec = Some(sps.codec.clone());
        config.shown = Some(shown_size(sps.cropped, sps.sample_aspect, false));
    }
}

fn key_distance(units: &[Unit], keys: &[usize], media: &mut Media) {
    let times: Vec<i64> = keys.iter().filter_map(|at| units.get(*at)).map(|unit| unit.pts).collect();
    let end = units.iter().map(|unit| unit.pts).max();
    let gaps = times.iter().zip(times.iter().skip(1).copied().chain(end)).map(|(a, b)| b - a);
    if let Some(longest) = gaps.max().filter(|gap| *gap > MAX_KEY_GAP) {
        let seconds = longest as f64 / CLOCK_HZ as f64;
        media.advice.push((
            Row::T3,
            format!("{seconds:.1} s without an IDR; one every 2 s makes seeking and switching quick"),
        ));
    }
}

fn audio(stream: &Stream, kind: (Family, Coding), pes: &[Pes], near: i64, media: &mut Media) -> Option<Lane> {
    let (family, coding) = kind;
    let pid = stream.pid;
    media.judged.push(Row::T9);
    let units = times(pid, pes, near, media);
    let mut starts = Vec::new();
    let mut data = Vec::new();
    for pes in pes {
        starts.push(data.len());
        data.extend_from_slice(&pes.data);
    }
    let (frames, stopped) = audio::frames(coding, &data);
    if let Some(at) = stopped {
        media.faults.push((Row::T9, format!("PID {pid}: byte {at} of {} begins no whole frame", data.len())));
    }
    let (_, head) = frames.first()?;
    let samples: i64 = frames.iter().map(|(_, frame)| i64::from(frame.samples)).sum();
    let ticks = |samples: i64| samples * CLOCK_HZ / i64::from(head.sample_rate.max(1));
    holes(pid, &units, &starts, &frames, media);
    let last_start = starts.last().copied().unwrap_or(0);
    let in_last =
        frames.iter().filter(|(at, _)| *at >= last_start).map(|(_, frame)| i64::from(frame.samples)).sum();
    let mut config = Config::new(family);
    config.channels = head.channels;
    config.sample_rate = head.sample_rate;
    config.codec = Some(match family {
        Family::Aac => format!("mp4a.40.{}", head.object_type),
        Family::Mp3 => "mp4a.40.34".into(),
        Family::Ac3 => "ac-3".into(),
        _ => "ec-3".into(),
    });
    let end_dts = units.last().map(|unit| unit.dts + ticks(in_last));
    Some(Lane {
        id: u32::from(pid),
        is_video: false,
        config,
        timescale: CLOCK_HZ,
        frames: (samples / i64::from(head.samples.max(1))) as u64,
        units,
        frame_ticks: ticks(i64::from(head.samples)),
        end_dts,
        base_dts: None,
        keys: Vec::new(),
    })
}

/// Each PES packet has to begin where the frames before it end.
fn holes(pid: u16, units: &[Unit], starts: &[usize], frames: &[(usize, audio::Frame)], media: &mut Media) {
    let Some((first, (_, head))) = units.first().zip(frames.first()) else { return };
    if units.len() != starts.len() {
        return;
    }
    let mut samples = 0;
    let mut frames = frames.iter().peekable();
    for (unit, start) in units.iter().zip(starts) {
        while let Some((_, frame)) = frames.next_if(|(at, _)| at < start) {
            samples += i64::from(frame.samples);
        }
        let expected = first.pts + samples * CLOCK_HZ / i64::from(head.sample_rate.max(1));
        let off = unit.pts - expected;
        // Less than half a frame is a muxer's rounding, and none is lost.
        if 2 * off.abs() > i64::from(head.samples) * CLOCK_HZ / i64::from(head.sample_rate.max(1)) {
            let what = format!(
                "PID {pid}: sound at PTS {} should stand at {expected}: {off} ticks of hole or overlap",
                unit.pts
            );
            media.faults.push((Row::T9, what));
            return;
        }
    }
}

fn clock(
    program: &Program,
    pcrs: &[super::ts::Pcr],
    pes: &std::collections::BTreeMap<u16, Vec<Pes>>,
    packets: usize,
    near: i64,
    media: &mut Media,
) {
    let mut fault = |what: String| media.faults.push((Row::T4, what));
    if program.streams.iter().all(|stream| stream.pid != program.pcr_pid) {
        fault(format!("the clock's PID {} is none of the program's streams", program.pcr_pid));
    }
    let Some(first) = pcrs.first() else {
        return fault(format!("no clock reference on PID {}", program.pcr_pid));
    };
    if first.packet > FIRST_PCR_PACKETS {
        fault(format!("the first clock reference comes in packet {} of {packets}", first.packet));
    }
    let values: Vec<(usize, i64)> = pcrs.iter().map(|pcr| (pcr.packet, unwrap(pcr.base, near))).collect();
    for pair in values.windows(2) {
        let [(_, a), (packet, b)] = pair else { continue };
        if !(0..=MAX_PCR_GAP).contains(&(b - a)) {
            let ms = (b - a) as f64 / 90.0;
            fault(format!("packet {packet}: {ms:.1} ms from one clock reference to the next (at most 100)"));
            break;
        }
    }
    for (pid, all) in pes {
        for pes in all {
            let Some(dts) = pes.dts.map(|dts| unwrap(dts, near)) else { continue };
            let Some((_, pcr)) = values.iter().rev().find(|(packet, _)| *packet <= pes.packet) else {
                continue;
            };
            let lead = dts - pcr;
            if !(0..=MAX_PCR_LEAD).contains(&lead) {
                let (at, ms) = (pes.packet * PACKET_BYTES, lead as f64 / 90.0);
                fault(format!(
                    "byte {at}: DTS {dts} of PID {pid} is {ms:.1} ms ahead of the clock (0 to 1000)"
                ));
                break;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_unwrapped_to_the_nearest() {
        assert_eq!(unwrap(5, WRAP - 10), WRAP + 5);
        assert_eq!(unwrap(WRAP - 10, 5), -10);
        assert_eq!(unwrap(900_000, 0), 900_000);
        assert_eq!(unwrap(7, 3 * WRAP), 3 * WRAP + 7);
    }
}
