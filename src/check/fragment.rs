//! A reader of segments of fragmented MP4 (ISO/IEC 14496-12, 8.8) that tells what breaks the rules.
//!
//! What enters: the bytes of a segment and the init segment in front of it. What leaves: its tracks, and
//! the breaches that show in one segment alone: rows F3, F4, F6, F7.

use super::bytes::{Bytes, length_prefixed};
use super::media::{Family, Lane, Media, Unit};
use super::mp4::{Atom, Init, Track, atoms, child, name};
use super::report::Row;

/// `sample_is_non_sync_sample` (8.8.3.1).
const NON_SYNC: u32 = 0x0001_0000;

/// One sample of a run.
#[derive(Clone, Copy, Debug)]
struct Sample {
    duration: u32,
    size: u32,
    flags: u32,
    offset: i64,
}

/// Reads a segment.
pub(super) fn read(data: &[u8], init: &Init) -> Media {
    let mut media = Media::default();
    media.judged.extend([Row::F3, Row::F4, Row::F7]);
    let (boxes, whole) = atoms(data);
    if !whole {
        media.faults.push((Row::F4, "the segment ends within a box".into()));
    }
    order(&boxes, &mut media);
    for atom in &boxes {
        if &atom.kind == b"sidx" {
            sidx(atom, &boxes, &mut media);
        } else if &atom.kind == b"moof" && fragment(data, atom, init, &mut media).is_none() {
            media.faults.push((Row::F4, format!("the moof at byte {} cannot be read", atom.start)));
        }
    }
    if media.lanes.is_empty() {
        media.faults.push((Row::F4, "the segment has no fragment with samples".into()));
    }
    if media.lanes.len() > 1 {
        let what = format!("{} tracks in one segment: one each is better for new work", media.lanes.len());
        media.advice.push((Row::F3, what));
    }
    media
}

fn order(boxes: &[Atom<'_>], media: &mut Media) {
    let mut kinds: Vec<[u8; 4]> = boxes.iter().map(|atom| atom.kind).collect();
    kinds.retain(|kind| !matches!(kind, b"sidx" | b"emsg" | b"prft" | b"free" | b"skip"));
    let media_kinds = kinds.strip_prefix(&[*b"styp"]).unwrap_or(&kinds);
    let in_order = media_kinds.chunks(2).all(|pair| pair == [*b"moof", *b"mdat"]);
    if !in_order {
        let names: Vec<String> = kinds.iter().map(name).collect();
        media
            .advice
            .push((Row::F3, format!("the boxes are {}: styp, moof, mdat is usual", names.join(", "))));
    }
}

fn fragment(data: &[u8], moof: &Atom<'_>, init: &Init, media: &mut Media) -> Option<()> {
    let sequence = Bytes(child(moof.payload, b"mfhd")?.get(4..)?).u32()?;
    media.sequence.push(sequence);
    for traf in atoms(moof.payload).0.into_iter().filter(|atom| &atom.kind == b"traf") {
        track_fragment(data, moof, traf.payload, init, media)?;
    }
    Some(())
}

/// `tfhd` (8.8.7).
struct Header {
    track: u32,
    absolute: bool,
    duration: Option<u32>,
    size: Option<u32>,
    flags: Option<u32>,
}

fn tfhd(payload: &[u8]) -> Option<Header> {
    let mut bytes = Bytes(payload);
    let present = bytes.u32()?;
    let track = bytes.u32()?;
    let mut field = |bit: u32, length: usize| {
        if present & bit == 0 { Some(None) } else { bytes.uint(length).map(Some) }
    };
    let absolute = field(0x1, 8)?.is_some();
    field(0x2, 4)?;
    let mut small = |bit| Some(field(bit, 4)?.map(|value| value as u32));
    Some(Header { track, absolute, duration: small(0x8)?, size: small(0x10)?, flags: small(0x20)? })
}

fn track_fragment(data: &[u8], moof: &Atom<'_>, traf: &[u8], init: &Init, media: &mut Media) -> Option<()> {
    let header = tfhd(child(traf, b"tfhd")?)?;
    let Some(track) = init.tracks.iter().find(|track| track.id == header.track) else {
        media.faults.push((Row::F4, format!("track {} is not in the init segment", header.track)));
        return Some(());
    };
    if header.absolute {
        let what =
            format!("track {}: offsets into a file (base-data-offset), which a segment is not", track.id);
        media.faults.push((Row::F4, what));
    }
    let Some(mut dts) = child(traf, b"tfdt").and_then(decode_time) else {
        media.faults.push((Row::F4, format!("track {} has no tfdt", track.id)));
        return Some(());
    };
    let mut lane = lane(track, dts);
    let mut next_byte = moof.start;
    for trun in atoms(traf).0.into_iter().filter(|atom| &atom.kind == b"trun") {
        let (offset, samples) = run(trun.payload, &header, track)?;
        let mut at =
            offset.map_or(Some(next_byte), |offset| moof.start.checked_add_signed(offset as isize))?;
        for sample in samples {
            let bytes = data.get(at..at.checked_add(sample.size as usize)?);
            let Some(bytes) = bytes else {
                let what = format!("track {}: a sample lies beyond the end of the segment", track.id);
                media.faults.push((Row::F4, what));
                return Some(());
            };
            take_sample(&mut lane, track, sample, dts, bytes, media);
            dts = dts.saturating_add(i64::from(sample.duration));
            at += sample.size as usize;
        }
        next_byte = at;
    }
    lane.end_dts = Some(dts);
    merge(lane, media);
    Some(())
}

fn lane(track: &Track, dts: i64) -> Lane {
    Lane {
        id: track.id,
        is_video: track.is_video,
        config: track.config.clone(),
        timescale: track.timescale,
        units: Vec::new(),
        frames: 0,
        frame_ticks: 0,
        end_dts: None,
        base_dts: Some(dts),
        keys: Vec::new(),
    }
}

/// A segment may have several fragments: each has to go on where the one before ended.
fn merge(lane: Lane, media: &mut Media) {
    let Some(before) = media.lanes.iter_mut().find(|before| before.id == lane.id) else {
        media.lanes.push(lane);
        return;
    };
    if before.end_dts != lane.base_dts {
        let what = format!(
            "track {}: a fragment begins at {} but the one before it ends at {}",
            lane.id,
            lane.base_dts.unwrap_or(0),
            before.end_dts.unwrap_or(0)
        );
        media.faults.push((Row::F4, what));
    }
    let earlier = before.units.len();
    before.keys.extend(lane.keys.iter().map(|at| at + earlier));
    before.units.extend(lane.units);
    before.frames += lane.frames;
    before.end_dts = lane.end_dts;
}

fn decode_time(tfdt: &[u8]) -> Option<i64> {
    let mut bytes = Bytes(tfdt);
    let time = if bytes.u32()? >> 24 == 1 { bytes.u64()? } else { u64::from(bytes.u32()?) };
    i64::try_from(time).ok()
}

/// `trun` (8.8.8): data offset and samples.
fn run(payload: &[u8], header: &Header, track: &Track) -> Option<(Option<i32>, Vec<Sample>)> {
    let mut bytes = Bytes(payload);
    let head = bytes.u32()?;
    let (signed, present) = (head >> 24 > 0, head & 0x00FF_FFFF);
    let count = bytes.u32()?;
    let offset = if present & 0x1 != 0 { Some(bytes.u32()? as i32) } else { None };
    let mut first_flags = if present & 0x4 != 0 { Some(bytes.u32()?) } else { None };
    let (duration, size, flags) = track.defaults;
    let usual =
        (header.duration.unwrap_or(duration), header.size.unwrap_or(size), header.flags.unwrap_or(flags));
    let mut samples = Vec::new();
    for _ in 0..count {
        let mut field = |bit: u32, usual: u32| if present & bit != 0 { bytes.u32() } else { Some(usual) };
        let duration = field(0x100, usual.0)?;
        let size = field(0x200, usual.1)?;
        let flags = field(0x400, first_flags.take().unwrap_or(usual.2))?;
        let raw = field(0x800, 0)?;
        let offset = if signed { i64::from(raw as i32) } else { i64::from(raw) };
        samples.push(Sample { duration, size, flags, offset });
        // A run of nothing but defaults of no size could be of any length.
        if present & 0xF00 == 0 && samples.len() > 1 << 16 {
            return None;
        }
    }
    Some((offset, samples))
}

fn take_sample(lane: &mut Lane, track: &Track, sample: Sample, dts: i64, bytes: &[u8], media: &mut Media) {
    let at = lane.units.len();
    let dts = dts.saturating_sub(track.media_time);
    lane.units.push(Unit { dts, pts: dts.saturating_add(sample.offset) });
    lane.frames += 1;
    if !track.is_video {
        lane.frame_ticks = lane.frame_ticks.max(i64::from(sample.duration));
    }
    if sample.duration == 0 {
        media.faults.push((Row::F4, format!("track {}: sample {at} has no duration", track.id)));
    }
    let is_sync = sample.flags & NON_SYNC == 0;
    if is_sync {
        lane.keys.push(at);
    }
    if !track.is_video {
        return;
    }
    media.judged.push(Row::F6);
    if at == 0 && !is_sync {
        media.faults.push((Row::F6, "the first picture is not marked as a sync sample".into()));
    }
    if track.nal_length_bytes > 0 {
        let Some(units) = length_prefixed(bytes, track.nal_length_bytes) else {
            media.faults.push((Row::F6, format!("sample {at}: its NAL units do not fill it")));
            return;
        };
        let is_key = units.iter().any(|unit| is_random_access(track.config.family, unit));
        if is_key != is_sync {
            let (says, is) = if is_sync { ("a", "not one") } else { ("no", "one") };
            media.faults.push((Row::F6, format!("sample {at} is marked as {says} sync sample and is {is}")));
        }
    }
}

/// A slice of an IDR picture, in HEVC of any IRAP picture.
pub(super) fn is_random_access(family: Family, unit: &[u8]) -> bool {
    match (family, unit.first()) {
        (Family::H264, Some(head)) => head & 0x1F == 5,
        (Family::Hevc, Some(head)) => (16..=23).contains(&(head >> 1 & 0x3F)),
        _ => false,
    }
}

/// 8.16.3: the references have to be as long as what they refer to.
fn sidx(sidx: &Atom<'_>, boxes: &[Atom<'_>], media: &mut Media) {
    let read = || {
        let mut bytes = Bytes(sidx.payload);
        let long = bytes.u32()? >> 24 > 0;
        bytes.take(8)?;
        bytes.uint(if long { 8 } else { 4 })?;
        let offset = bytes.uint(if long { 8 } else { 4 })?;
        bytes.u16()?;
        let mut sizes = Vec::new();
        for _ in 0..bytes.u16()? {
            let (size, _, _) = (bytes.u32()?, bytes.u32()?, bytes.u32()?);
            sizes.push(u64::from(size & 0x7FFF_FFFF));
        }
        Some((offset, sizes))
    };
    let Some((offset, sizes)) = read() else {
        media.faults.push((Row::F7, "a sidx cannot be read".into()));
        return;
    };
    let begin = sidx.end() as u64 + offset;
    let end = begin + sizes.iter().sum::<u64>();
    let ends = boxes.last().map_or(0, |last| last.end()) as u64;
    let starts_at_box = boxes.iter().any(|atom| atom.start as u64 == begin);
    if !starts_at_box || end > ends || boxes.iter().all(|atom| atom.end() as u64 != end) {
        let what = format!("a sidx refers to bytes {begin} to {end} of {ends}, where no fragment is");
        media.faults.push((Row::F7, what));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn fields_of_a_run() {
        let track = Track {
            id: 1,
            is_video: true,
            timescale: 90_000,
            media_time: 0,
            config: super::super::media::Config::new(Family::H264),
            nal_length_bytes: 0,
            defaults: (10, 20, NON_SYNC),
        };
        let header = Header { track: 1, absolute: false, duration: None, size: Some(30), flags: None };
        let mut payload = vec![1, 0, 8, 5];
        for word in [2u32, 100, 0, 0xFFFF_FFFF, 5] {
            payload.extend(word.to_be_bytes());
        }
        let (offset, samples) = run(&payload, &header, &track).unwrap();
        assert_eq!(offset, Some(100));
        let found: Vec<_> = samples.iter().map(|s| (s.duration, s.size, s.flags, s.offset)).collect();
        assert_eq!(found, [(10, 30, 0, -1), (10, 30, NON_SYNC, 5)]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(data in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = read(&data, &Init::default());
            let mut moof = ((data.len() + 8) as u32).to_be_bytes().to_vec();
            moof.extend(b"moof");
            moof.extend(&data);
            let _ = read(&moof, &Init::default());
        }
    }
}
