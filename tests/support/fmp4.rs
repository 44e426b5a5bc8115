//! When the pictures of a fragmented MP4 are shown, read from its boxes (ISO/IEC 14496-12).
//!
//! `ffprobe` cannot be the judge of any file here: for composition offsets below zero, which others write, libav
//! shifts all times of what it happens to read. It stays the judge for what its own players make of that.

use super::damage::top_boxes;
use super::probe::Packet;

/// The video track of an init segment.
struct Track {
    id: u32,
    timescale: i64,
    /// Ticks that the edit list cuts off the front.
    media_time: i64,
    default_duration: i64,
    default_flags: u32,
}

/// The pictures of `bytes`, an init segment and any number of fragments, in decode order, and the length
/// of a tick in seconds as a fraction.
#[track_caller]
pub fn pictures(bytes: &[u8]) -> (Vec<Packet>, (i64, i64)) {
    let track = video_track(child(bytes, b"moov").expect("a moov"));
    let fragments = children(bytes, b"moof").into_iter().flat_map(|moof| children(moof, b"traf"));
    let pictures = fragments.filter(|traf| tfhd(traf).0 == track.id).flat_map(|traf| samples(traf, &track));
    (pictures.collect(), (1, track.timescale))
}

fn video_track(moov: &[u8]) -> Track {
    let is_video = |trak: &&[u8]| path(trak, &[b"mdia", b"hdlr"]).is_some_and(|hdlr| &hdlr[8..12] == b"vide");
    let trak = children(moov, b"trak").into_iter().find(is_video).expect("a video track");
    let tkhd = child(trak, b"tkhd").expect("a tkhd");
    let id = word(tkhd, if tkhd[0] == 1 { 20 } else { 12 });
    let mdhd = path(trak, &[b"mdia", b"mdhd"]).expect("an mdhd");
    let timescale = i64::from(word(mdhd, if mdhd[0] == 1 { 20 } else { 12 }));
    let media_time = path(trak, &[b"edts", b"elst"]).map_or(0, |elst| match elst[0] {
        1 => long(elst, 16),
        _ => i64::from(word(elst, 12) as i32),
    });
    let mvex = child(moov, b"mvex").expect("an mvex");
    let trex = children(mvex, b"trex").into_iter().find(|trex| word(trex, 4) == id).expect("a trex");
    let (default_duration, default_flags) = (i64::from(word(trex, 12)), word(trex, 20));
    Track { id, timescale, media_time: media_time.max(0), default_duration, default_flags }
}

/// Track, default duration, default flags (8.8.7).
fn tfhd(traf: &[u8]) -> (u32, Option<i64>, Option<u32>) {
    let tfhd = child(traf, b"tfhd").expect("a tfhd");
    let flags = word(tfhd, 0) & 0xff_ffff;
    let mut at = 8;
    let mut field = |bit: u32, size: usize| {
        let here = at;
        let there = flags & bit != 0;
        at += if there { size } else { 0 };
        there.then_some(here)
    };
    field(0x1, 8);
    field(0x2, 4);
    let duration = field(0x8, 4);
    field(0x10, 4);
    let sample_flags = field(0x20, 4);
    (word(tfhd, 4), duration.map(|at| i64::from(word(tfhd, at))), sample_flags.map(|at| word(tfhd, at)))
}

fn samples(traf: &[u8], track: &Track) -> Vec<Packet> {
    let (_, duration, flags) = tfhd(traf);
    let (duration, flags) =
        (duration.unwrap_or(track.default_duration), flags.unwrap_or(track.default_flags));
    let tfdt = child(traf, b"tfdt").expect("a tfdt");
    let mut dts = if tfdt[0] == 1 { long(tfdt, 4) } else { i64::from(word(tfdt, 4)) } - track.media_time;
    let mut found = Vec::new();
    for trun in children(traf, b"trun") {
        let present = word(trun, 0) & 0xff_ffff;
        let has = |bit: u32| present & bit != 0;
        let mut at = 8 + if has(0x1) { 4 } else { 0 };
        let first_flags = has(0x4).then(|| word(trun, at));
        at += if has(0x4) { 4 } else { 0 };
        for n in 0..word(trun, 4) {
            let mut next = |bit: u32| {
                let value = has(bit).then(|| word(trun, at));
                at += if has(bit) { 4 } else { 0 };
                value
            };
            let length = next(0x100).map_or(duration, i64::from);
            let size = u64::from(next(0x200).unwrap_or(0));
            let own_flags = next(0x400).or(first_flags.filter(|_| n == 0)).unwrap_or(flags);
            let offset = next(0x800).map_or(0, |offset| i64::from(offset as i32));
            // sample_is_non_sync_sample (8.8.3.1)
            found.push(Packet { pts: dts + offset, dts, key: own_flags & 0x1_0000 == 0, size });
            dts += length;
        }
    }
    found
}

/// The payloads of all boxes of a kind.
fn children<'a>(bytes: &'a [u8], kind: &[u8; 4]) -> Vec<&'a [u8]> {
    let of_kind = top_boxes(bytes).into_iter().filter(|(found, ..)| found == kind);
    of_kind.map(|(_, start, size)| &bytes[start + 8..start + size]).collect()
}

fn child<'a>(bytes: &'a [u8], kind: &[u8; 4]) -> Option<&'a [u8]> {
    children(bytes, kind).into_iter().next()
}

fn path<'a>(bytes: &'a [u8], kinds: &[&[u8; 4]]) -> Option<&'a [u8]> {
    kinds.iter().try_fold(bytes, |inside, kind| child(inside, kind))
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(std::array::from_fn(|i| bytes[at + i]))
}

fn long(bytes: &[u8], at: usize) -> i64 {
    i64::from_be_bytes(std::array::from_fn(|i| bytes[at + i]))
}
