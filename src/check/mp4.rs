//! A reader of initialisation segments of fragmented MP4 (ISO/IEC 14496-12).
//!
//! What enters: the bytes of an init segment. What leaves: its tracks, and what breaks row F1. Boxes
//! are taken apart here and not by a library, so that what is odd about them stays visible.

use super::audio::aac_config;
use super::bytes::Bytes;
use super::media::{Config, Family, shown_size};
use super::sps;

/// A box: its kind, where its header begins, and its payload.
#[derive(Clone, Copy, Debug)]
pub(super) struct Atom<'a> {
    pub(super) kind: [u8; 4],
    pub(super) start: usize,
    pub(super) payload: &'a [u8],
    /// Bytes of the header: 8 or 16.
    pub(super) header: usize,
}

impl Atom<'_> {
    pub(super) fn end(&self) -> usize {
        self.start + self.header + self.payload.len()
    }
}

/// The boxes of `data` one after the other (4.2), and whether they fill it.
pub(super) fn atoms(data: &[u8]) -> (Vec<Atom<'_>>, bool) {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(rest) = data.get(at..).filter(|rest| !rest.is_empty()) {
        let Some(atom) = atom(rest, at) else { return (found, false) };
        at = atom.end();
        found.push(atom);
    }
    (found, true)
}

fn atom(data: &[u8], start: usize) -> Option<Atom<'_>> {
    let mut bytes = Bytes(data);
    let short = bytes.u32()?;
    let kind = bytes.fourcc()?;
    let (header, size) = match short {
        0 => (8, data.len()),
        1 => (16, usize::try_from(bytes.u64()?).ok()?),
        size => (8, size as usize),
    };
    let payload = data.get(header..size)?;
    Some(Atom { kind, start, payload, header })
}

/// The first box of a kind inside.
pub(super) fn child<'a>(data: &'a [u8], kind: &[u8; 4]) -> Option<&'a [u8]> {
    atoms(data).0.into_iter().find(|atom| &atom.kind == kind).map(|atom| atom.payload)
}

fn path<'a>(data: &'a [u8], kinds: &[&[u8; 4]]) -> Option<&'a [u8]> {
    kinds.iter().try_fold(data, |inside, kind| child(inside, kind))
}

/// A track of an init segment.
#[derive(Clone, Debug)]
pub(super) struct Track {
    pub(super) id: u32,
    pub(super) is_video: bool,
    pub(super) timescale: i64,
    /// Where the only edit begins in the media; 0 without one.
    pub(super) media_time: i64,
    pub(super) config: Config,
    /// Bytes of the length in front of each NAL unit; 0 for codecs without.
    pub(super) nal_length_bytes: usize,
    /// `trex`: duration, size, flags.
    pub(super) defaults: (u32, u32, u32),
}

/// An init segment.
#[derive(Clone, Debug, Default)]
pub(super) struct Init {
    pub(super) tracks: Vec<Track>,
    /// What breaks F1.
    pub(super) faults: Vec<String>,
}

/// Reads it.
pub(super) fn read(data: &[u8]) -> Init {
    let mut init = Init::default();
    let (boxes, whole) = atoms(data);
    if !whole {
        init.faults.push("it ends within a box".into());
    }
    if boxes.first().is_none_or(|first| &first.kind != b"ftyp") {
        init.faults.push("it does not begin with ftyp".into());
    }
    for kind in [b"moof", b"mdat"] {
        if boxes.iter().any(|atom| &atom.kind == kind) {
            init.faults.push(format!("it holds {}: no media belongs here", name(kind)));
        }
    }
    let Some(moov) = child(data, b"moov") else {
        init.faults.push("it has no moov".into());
        return init;
    };
    let mvex = child(moov, b"mvex").unwrap_or_default();
    if mvex.is_empty() {
        init.faults.push("its moov has no mvex: players take it for a file without samples".into());
    }
    for trak in atoms(moov).0.into_iter().filter(|atom| &atom.kind == b"trak") {
        match track(trak.payload, mvex, &mut init.faults) {
            Some(track) => init.tracks.push(track),
            None => init.faults.push("a track of it cannot be read".into()),
        }
    }
    if init.tracks.is_empty() {
        init.faults.push("it has no track".into());
    }
    init
}

/// Four letters for people.
pub(super) fn name(kind: &[u8; 4]) -> String {
    kind.iter().map(|c| if c.is_ascii_graphic() { char::from(*c) } else { '?' }).collect()
}

fn track(trak: &[u8], mvex: &[u8], faults: &mut Vec<String>) -> Option<Track> {
    let (id, rotated) = tkhd(child(trak, b"tkhd")?)?;
    let mut mdhd = Bytes(path(trak, &[b"mdia", b"mdhd"])?);
    let version = mdhd.u32()? >> 24;
    mdhd.take(if version == 1 { 16 } else { 8 })?;
    let timescale = i64::from(mdhd.u32()?);
    let handler: [u8; 4] = path(trak, &[b"mdia", b"hdlr"])?.get(8..12)?.try_into().ok()?;
    let stbl = path(trak, &[b"mdia", b"minf", b"stbl"])?;
    for table in [b"stts", b"stsz", b"stco", b"stsc"] {
        let at = if table == b"stsz" { 8 } else { 4 };
        let count = child(stbl, table).and_then(|payload| Bytes(payload.get(at..)?).u32());
        if count.is_some_and(|count| count > 0) {
            faults.push(format!("track {id}: {} names samples, which belong into segments", name(table)));
        }
    }
    let stsd = child(stbl, b"stsd")?;
    let entry = atoms(stsd.get(8..)?).0.into_iter().next()?;
    let (config, nal_length_bytes) = sample_entry(&entry, rotated)?;
    let media_time = child(trak, b"edts").and_then(|edts| child(edts, b"elst")).map_or(0, |elst| {
        edit(elst).unwrap_or_else(|what| {
            faults.push(format!("track {id}: {what}"));
            0
        })
    });
    let defaults = trex(mvex, id).unwrap_or_else(|| {
        faults.push(format!("track {id} has no trex"));
        (0, 0, 0)
    });
    let is_video = &handler == b"vide";
    if timescale == 0 {
        faults.push(format!("track {id} has a timescale of 0"));
        return None;
    }
    Some(Track { id, is_video, timescale, media_time, config, nal_length_bytes, defaults })
}

/// Track number, and whether the matrix turns it by a quarter.
fn tkhd(payload: &[u8]) -> Option<(u32, bool)> {
    let mut bytes = Bytes(payload);
    let version = bytes.u32()? >> 24;
    bytes.take(if version == 1 { 16 } else { 8 })?;
    let id = bytes.u32()?;
    bytes.take(if version == 1 { 12 } else { 8 } + 16)?;
    Some((id, bytes.u32()? == 0))
}

/// The media time of an edit list (8.6.6) that shifts nothing but the beginning.
fn edit(elst: &[u8]) -> Result<i64, String> {
    let read = || {
        let mut bytes = Bytes(elst);
        let long = bytes.u32()? >> 24 == 1;
        let count = bytes.u32()?;
        let mut edits = Vec::new();
        for _ in 0..count.min(8) {
            let length = bytes.uint(if long { 8 } else { 4 })?;
            let time = if long { bytes.u64()? as i64 } else { i64::from(bytes.u32()? as i32) };
            edits.push((length, time, bytes.u32()?));
        }
        Some(edits)
    };
    match read().as_deref() {
        Some([]) => Ok(0),
        Some([(_, time, 0x0001_0000)]) if *time >= 0 => Ok(*time),
        Some([(_, time, _)]) if *time < 0 => {
            Err("its edit list is one empty edit, which shows nothing".into())
        }
        Some([(length, time, _), ..]) if *time < 0 && *length > 0 => {
            Err("its edit list begins with an empty edit, which only some players obey".into())
        }
        // An empty edit of no length shifts nothing.
        Some([(0, -1, _), (_, time, 0x0001_0000)]) if *time >= 0 => Ok(*time),
        Some(edits) => Err(format!("its edit list has {} edits or an odd rate", edits.len())),
        None => Err("its edit list cannot be read".into()),
    }
}

fn trex(mvex: &[u8], id: u32) -> Option<(u32, u32, u32)> {
    let read = |payload: &[u8]| {
        let mut bytes = Bytes(payload);
        bytes.u32()?;
        let track = bytes.u32()?;
        bytes.u32()?;
        Some((track, (bytes.u32()?, bytes.u32()?, bytes.u32()?)))
    };
    let all = atoms(mvex).0.into_iter().filter(|atom| &atom.kind == b"trex");
    all.filter_map(|atom| read(atom.payload)).find(|(track, _)| *track == id).map(|(_, defaults)| defaults)
}

/// The sample entry (ISO/IEC 14496-12, 12.1.3 and 12.2.3) with its codec's configuration.
fn sample_entry(entry: &Atom<'_>, rotated: bool) -> Option<(Config, usize)> {
    let family = match &entry.kind {
        b"avc1" | b"avc3" => Family::H264,
        b"hvc1" | b"hev1" | b"dvh1" | b"dvhe" => Family::Hevc,
        b"av01" => Family::Av1,
        b"vp09" => Family::Vp9,
        b"mp4a" => Family::Aac,
        b"ac-3" => Family::Ac3,
        b"ec-3" => Family::Eac3,
        b".mp3" => Family::Mp3,
        _ => Family::Other,
    };
    let is_picture = matches!(family, Family::H264 | Family::Hevc | Family::Av1 | Family::Vp9);
    let mut config = Config { entry: Some(entry.kind), ..Config::new(family) };
    if is_picture {
        let nal_length_bytes = picture_entry(entry.payload, rotated, &mut config)?;
        return Some((config, nal_length_bytes));
    }
    let mut bytes = Bytes(entry.payload);
    bytes.take(16)?;
    config.channels = u32::from(bytes.u16()?);
    bytes.take(6)?;
    config.sample_rate = bytes.u32()? >> 16;
    match family {
        Family::Aac => esds(child(bytes.0, b"esds")?, &mut config)?,
        Family::Ac3 => config.codec = Some("ac-3".into()),
        Family::Eac3 => config.codec = Some("ec-3".into()),
        Family::Mp3 => config.codec = Some("mp4a.40.34".into()),
        _ if &entry.kind == b"Opus" => config.codec = Some("Opus".into()),
        _ if &entry.kind == b"fLaC" => config.codec = Some("fLaC".into()),
        _ => {}
    }
    Some((config, 0))
}

fn picture_entry(payload: &[u8], rotated: bool, config: &mut Config) -> Option<usize> {
    let mut bytes = Bytes(payload);
    bytes.take(24)?;
    let size = (u32::from(bytes.u16()?), u32::from(bytes.u16()?));
    bytes.take(50)?;
    let inside = bytes.0;
    let mut aspect = child(inside, b"pasp").and_then(|pasp| {
        let mut pasp = Bytes(pasp);
        Some((pasp.u32()?, pasp.u32()?))
    });
    config.colr = child(inside, b"colr").and_then(nclx);
    config.has_light = child(inside, b"mdcv").or_else(|| child(inside, b"clli")).is_some();
    config.dolby_vision = [b"dvcC", b"dvvC", b"dvwC"].iter().any(|kind| child(inside, kind).is_some());
    let nal_length_bytes = match config.family {
        Family::H264 => avcc(child(inside, b"avcC")?, config)?,
        Family::Hevc => hvcc(child(inside, b"hvcC")?, config)?,
        Family::Av1 => {
            config.codec = Some(av1c(child(inside, b"av1C")?)?);
            0
        }
        _ => {
            config.codec = Some(vpcc(child(inside, b"vpcC")?)?);
            0
        }
    };
    let mut shown = size;
    if let Some(sps) = &config.sps {
        shown = sps.cropped;
        aspect = aspect.or(Some(sps.sample_aspect));
    }
    config.shown = Some(shown_size(shown, aspect.unwrap_or((1, 1)), rotated));
    Some(nal_length_bytes)
}

fn nclx(colr: &[u8]) -> Option<(u8, u8, u8)> {
    let mut bytes = Bytes(colr);
    let kind = bytes.fourcc()?;
    let mut code = || Some(bytes.u16()? as u8);
    (&kind == b"nclx").then_some((code()?, code()?, code()?))
}

/// ISO/IEC 14496-15, 5.3.3.1.
fn avcc(payload: &[u8], config: &mut Config) -> Option<usize> {
    let mut bytes = Bytes(payload);
    bytes.take(4)?;
    let length_bytes = usize::from(bytes.u8()? & 3) + 1;
    for _ in 0..bytes.u8()? & 0x1F {
        let length = usize::from(bytes.u16()?);
        let sps = sps::h264(bytes.take(length)?);
        config.sps = config.sps.take().or(sps);
    }
    config.codec = config.sps.as_ref().map(|sps| sps.codec.clone());
    Some(length_bytes)
}

/// ISO/IEC 14496-15, 8.3.3.1.
fn hvcc(payload: &[u8], config: &mut Config) -> Option<usize> {
    /// `nal_unit_type` of an SPS and of SEI in front.
    const SPS: u8 = 33;
    const SEI: u8 = 39;
    let mut bytes = Bytes(payload);
    bytes.take(21)?;
    let length_bytes = usize::from(bytes.u8()? & 3) + 1;
    for _ in 0..bytes.u8()? {
        let kind = bytes.u8()? & 0x3F;
        for _ in 0..bytes.u16()? {
            let length = usize::from(bytes.u16()?);
            let unit = bytes.take(length)?;
            if kind == SPS {
                let sps = sps::hevc(unit);
                config.sps = config.sps.take().or(sps);
            }
            config.has_light |= kind == SEI && hevc_sei_tells_light(unit);
        }
    }
    config.codec = config.sps.as_ref().map(|sps| sps.codec.clone());
    Some(length_bytes)
}

/// Whether the first message is mastering display colour volume (137) or content light level (144).
pub(super) fn hevc_sei_tells_light(unit: &[u8]) -> bool {
    matches!(unit.get(2), Some(137 | 144))
}

/// AV1 in ISO BMFF, 2.3.3, and its codec string, section 5.
fn av1c(payload: &[u8]) -> Option<String> {
    let mut bytes = Bytes(payload);
    bytes.u8()?;
    let (profile_level, flags) = (bytes.u8()?, bytes.u8()?);
    let tier = if flags & 0x80 != 0 { 'H' } else { 'M' };
    let depth = match (flags & 0x40 != 0, flags & 0x20 != 0) {
        (false, _) => 8,
        (true, false) => 10,
        (true, true) => 12,
    };
    Some(format!("av01.{}.{:02}{tier}.{depth:02}", profile_level >> 5, profile_level & 0x1F))
}

/// VP codec ISO BMFF binding.
fn vpcc(payload: &[u8]) -> Option<String> {
    let mut bytes = Bytes(payload);
    bytes.u32()?;
    let (profile, level, depth) = (bytes.u8()?, bytes.u8()?, bytes.u8()? >> 4);
    Some(format!("vp09.{profile:02}.{level:02}.{depth:02}"))
}

/// ISO/IEC 14496-14, 5.6, with the descriptors of ISO/IEC 14496-1, 7.2.6.
fn esds(payload: &[u8], config: &mut Config) -> Option<()> {
    let mut bytes = Bytes(payload.get(4..)?);
    let mut es = Bytes(descriptor(&mut bytes, 3)?);
    es.u16()?;
    let flags = es.u8()?;
    es.take(if flags & 0x80 != 0 { 2 } else { 0 })?;
    if flags & 0x40 != 0 {
        let length = es.u8()?;
        es.take(usize::from(length))?;
    }
    es.take(if flags & 0x20 != 0 { 2 } else { 0 })?;
    let mut decoder = Bytes(descriptor(&mut es, 4)?);
    let object_type = decoder.u8()?;
    if matches!(object_type, 0x69 | 0x6B) {
        config.family = Family::Mp3;
        config.codec = Some("mp4a.40.34".into());
        return Some(());
    }
    decoder.take(12)?;
    let aac = aac_config(descriptor(&mut decoder, 5)?)?;
    config.codec = Some(format!("mp4a.40.{}", aac.object_type));
    config.sample_rate = aac.sample_rate;
    config.channels = if aac.channels > 0 { aac.channels } else { config.channels };
    Some(())
}

/// The body of the next descriptor, which has to have this tag; the length has seven bits a byte.
fn descriptor<'a>(bytes: &mut Bytes<'a>, tag: u8) -> Option<&'a [u8]> {
    if bytes.u8()? != tag {
        return None;
    }
    let mut length = 0usize;
    for _ in 0..4 {
        let byte = bytes.u8()?;
        length = length << 7 | usize::from(byte & 0x7F);
        if byte & 0x80 == 0 {
            break;
        }
    }
    bytes.take(length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn edits_that_shift_and_those_that_do_not() {
        let elst = |edits: &[(u32, i32)]| {
            let mut payload = vec![0; 4];
            payload.extend((edits.len() as u32).to_be_bytes());
            for (length, time) in edits {
                payload.extend(length.to_be_bytes());
                payload.extend(time.to_be_bytes());
                payload.extend([0, 1, 0, 0]);
            }
            payload
        };
        assert_eq!(edit(&elst(&[(0, 1024)])), Ok(1024));
        assert_eq!(edit(&elst(&[])), Ok(0));
        assert_eq!(edit(&elst(&[(0, -1), (0, 512)])), Ok(512));
        assert!(edit(&elst(&[(500, -1), (0, 0)])).is_err());
        assert!(edit(&elst(&[(0, 0), (5, 7)])).is_err());
        assert!(edit(&[0; 5]).is_err());
    }

    #[test]
    fn an_aac_descriptor() {
        let esds = [
            &[0, 0, 0, 0, 3, 0x80, 0x80, 0x80, 0x22, 0, 1, 0, 4, 0x80, 0x80, 0x80, 0x14, 0x40, 0x15][..],
            &[0; 11],
            &[5, 0x80, 0x80, 0x80, 2, 0x11, 0x90, 6, 0x80, 0x80, 0x80, 1, 2],
        ]
        .concat();
        let mut config = Config::new(Family::Aac);
        assert_eq!(super::esds(&esds, &mut config), Some(()));
        assert_eq!((config.codec.as_deref(), config.channels), (Some("mp4a.40.2"), 2));
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(data in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = (read(&data), edit(&data), av1c(&data), vpcc(&data));
            let mut config = Config::new(Family::Hevc);
            let _ = (avcc(&data, &mut config), hvcc(&data, &mut config), esds(&data, &mut config));
        }
    }
}
