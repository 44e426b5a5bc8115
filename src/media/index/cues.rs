//! The index of a Matroska file from its Cues (RFC 9559, 5.1.5).
//!
//! A cue has the time of a block as the block itself says it, so it is exact; how much lies between two
//! is told by where their Clusters begin, all tracks and the container's own bytes included. Cues may
//! leave key frames out, but not so many that a segment gets long: then, where they end early, and where
//! the demuxer finds something else at a cue than a key frame of that time, they are not used.

use super::bytes::Bytes;
use super::ebml::{elements, find as find_element, head, number, number_of};
use super::{Amount, Key, Sought, Streams};
use crate::av::input::{Input, StreamKind};
use crate::av::{Packet, Received};
use crate::base::error::{Error, Result, Stage};
use crate::base::time::{Rational, Rounding};
use crate::container::nal;
use crate::media::demux::OPEN_LIMIT;

const EBML: u32 = 0x1A45_DFA3;
const SEGMENT: u32 = 0x1853_8067;
const SEEK_HEAD: u32 = 0x114D_9B74;
const SEEK: u32 = 0x4DBB;
const SEEK_ID: u32 = 0x53AB;
const SEEK_POSITION: u32 = 0x53AC;
const INFO: u32 = 0x1549_A966;
const TIMESTAMP_SCALE: u32 = 0x2A_D7B1;
const TRACKS: u32 = 0x1654_AE6B;
const TRACK_ENTRY: u32 = 0xAE;
const TRACK_NUMBER: u32 = 0xD7;
const TRACK_TYPE: u32 = 0x83;
const CLUSTER: u32 = 0x1F43_B675;
const CUES: u32 = 0x1C53_BB6B;
const CUE_POINT: u32 = 0xBB;
const CUE_TIME: u32 = 0xB3;
const CUE_TRACK_POSITIONS: u32 = 0xB7;
const CUE_TRACK: u32 = 0xF7;
const CUE_CLUSTER_POSITION: u32 = 0xF1;

/// Elements of the Segment that are looked at before its first Cluster.
const MAX_ELEMENTS: usize = 64;
/// Longest table that is read: the Cues of a day have some megabytes.
const MAX_TABLE_BYTES: u64 = 64 << 20;
/// The longest head of an element.
const HEAD_BYTES: usize = 12;
/// Seconds between two cues, or after the last one, beyond which a scan is worth while.
const MAX_GAP: Rational = Rational::from_int(20);
/// Packets that are read to find a cue's.
const MAX_READ: usize = 500;

pub(super) fn find(sought: &Sought<'_>, input: &mut Input, streams: &Streams) -> Result<Option<Vec<Key>>> {
    // Tracks are numbered as their writer liked; with one picture there is no doubt which is meant.
    if input.streams().iter().filter(|s| s.kind == StreamKind::Video).count() != 1 {
        return Ok(None);
    }
    let mut bytes = Bytes::open(sought.path, sought.cancel, OPEN_LIMIT)?;
    let Some(tables) = Tables::read(&mut bytes)? else { return Ok(None) };
    let base = Rational::checked_new(i64::try_from(tables.scale_ns).unwrap_or(0), 1_000_000_000);
    let Some(cues) = tables.cues_of_picture().filter(|_| base == Some(streams.video_base)) else {
        return Ok(None);
    };
    if !covers(&cues, streams.video_base, sought) || !are_key_frames(input, streams, &cues)? {
        return Ok(None);
    }
    let end = tables.segment_start.saturating_add(tables.segment_bytes).min(bytes.size());
    Ok(Some(keys(&cues, end.saturating_sub(tables.segment_start), sought, streams)))
}

/// A time in ticks, and where the Cluster begins, counted from the Segment's body.
type Cue = (i64, u64);

/// What was read of the file.
struct Tables {
    segment_start: u64,
    segment_bytes: u64,
    scale_ns: u64,
    tracks: Vec<u8>,
    cues: Vec<u8>,
}

impl Tables {
    fn read(bytes: &mut Bytes) -> Result<Option<Self>> {
        let Some((EBML, Some(size), head_bytes)) = head_at(bytes, 0)? else { return Ok(None) };
        let Some(segment) = (head_bytes as u64).checked_add(size) else { return Ok(None) };
        let Some((SEGMENT, segment_size, head_bytes)) = head_at(bytes, segment)? else { return Ok(None) };
        let start = segment.saturating_add(head_bytes as u64);
        let mut tables = Self {
            segment_start: start,
            segment_bytes: segment_size.unwrap_or(u64::MAX),
            scale_ns: 1_000_000,
            tracks: Vec::new(),
            cues: Vec::new(),
        };
        let (mut at, mut cues_at) = (start, None);
        for _ in 0..MAX_ELEMENTS {
            let Some((id, Some(size), head_bytes)) = head_at(bytes, at)? else { break };
            let body = at.saturating_add(head_bytes as u64);
            match id {
                CLUSTER => break,
                SEEK_HEAD => {
                    let seeks = body_at(bytes, body, size)?.unwrap_or_default();
                    cues_at = cues_at.or(position_of(&seeks, CUES).and_then(|p| start.checked_add(p)));
                }
                INFO => {
                    let info = body_at(bytes, body, size)?.unwrap_or_default();
                    tables.scale_ns = number_of(&info, TIMESTAMP_SCALE).unwrap_or(tables.scale_ns);
                }
                TRACKS => tables.tracks = body_at(bytes, body, size)?.unwrap_or_default(),
                CUES => cues_at = Some(at),
                _ => {}
            }
            let Some(next) = body.checked_add(size) else { break };
            at = next;
        }
        let Some(cues_at) = cues_at else { return Ok(None) };
        let Some((CUES, Some(size), head_bytes)) = head_at(bytes, cues_at)? else { return Ok(None) };
        tables.cues = body_at(bytes, cues_at.saturating_add(head_bytes as u64), size)?.unwrap_or_default();
        Ok(Some(tables))
    }

    /// The cues of the one picture, rising; `None` without any.
    fn cues_of_picture(&self) -> Option<Vec<Cue>> {
        const PICTURE: u64 = 1;
        let mut entries = elements(&self.tracks).filter(|(id, _)| *id == TRACK_ENTRY).map(|(_, body)| body);
        let track = number_of(entries.find(|e| number_of(e, TRACK_TYPE) == Some(PICTURE))?, TRACK_NUMBER)?;
        let points = elements(&self.cues).filter(|(id, _)| *id == CUE_POINT).map(|(_, body)| body);
        let mut cues: Vec<Cue> = points.filter_map(|point| cue(point, track)).collect();
        cues.sort_unstable();
        cues.dedup_by_key(|c| c.0);
        (!cues.is_empty()).then_some(cues)
    }
}

fn cue(point: &[u8], track: u64) -> Option<Cue> {
    let time = i64::try_from(number_of(point, CUE_TIME)?).ok()?;
    let places = elements(point).filter(|(id, _)| *id == CUE_TRACK_POSITIONS).map(|(_, body)| body);
    let mut of_track = places.filter(|place| number_of(place, CUE_TRACK) == Some(track));
    Some((time, number_of(of_track.next()?, CUE_CLUSTER_POSITION)?))
}

/// Where the SeekHead says that an element is, counted from the Segment's body.
fn position_of(seek_head: &[u8], wanted: u32) -> Option<u64> {
    let mut seeks = elements(seek_head).filter(|(id, _)| *id == SEEK).map(|(_, body)| body);
    let seek = seeks.find(|s| find_element(s, SEEK_ID).is_some_and(|id| number(id) == u64::from(wanted)))?;
    number_of(seek, SEEK_POSITION)
}

fn head_at(bytes: &mut Bytes, at: u64) -> Result<Option<(u32, Option<u64>, usize)>> {
    Ok(head(&bytes.at_most(at, HEAD_BYTES)?))
}

fn body_at(bytes: &mut Bytes, at: u64, size: u64) -> Result<Option<Vec<u8>>> {
    if size > MAX_TABLE_BYTES {
        return Ok(None);
    }
    bytes.exactly(at, usize::try_from(size).unwrap_or(usize::MAX))
}

fn covers(cues: &[Cue], base: Rational, sought: &Sought<'_>) -> bool {
    let Some(video) = &sought.facts.video else { return false };
    let (start, end) =
        ((video.start / base).round(Rounding::Floor), (video.end / base).round(Rounding::Ceil));
    let stops: Vec<i64> = std::iter::once(start).chain(cues.iter().map(|c| c.0)).chain([end]).collect();
    let most = (MAX_GAP / base).round(Rounding::Ceil);
    stops.iter().zip(stops.iter().skip(1)).all(|(a, b)| b.saturating_sub(*a) <= most)
}

/// Whether the demuxer finds a key frame of just that time at the first, the middle and the last cue.
fn are_key_frames(input: &mut Input, streams: &Streams, cues: &[Cue]) -> Result<bool> {
    input.keep_only(&[streams.video]);
    for cue in [cues.first(), cues.get(cues.len() / 2), cues.last()].into_iter().flatten() {
        if key_frame_at(input, streams, cue.0)?.is_none() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Goes to a time and looks whether a key frame of just that time comes; if so, whether it is an IDR
/// picture, where that can be told.
pub(super) fn key_frame_at(input: &mut Input, streams: &Streams, pts: i64) -> Result<Option<Option<bool>>> {
    match input.seek(streams.video, pts) {
        Err(e) if e.is_cancelled() => return Err(e),
        Err(_) => return Ok(None),
        Ok(()) => {}
    }
    let mut packet = Packet::new().map_err(|e| e.at(Stage::Plan, "cannot look at packets"))?;
    for _ in 0..MAX_READ {
        match input.read(&mut packet) {
            Ok(Received::Item) if packet.stream() == streams.video && packet.pts() == Some(pts) => {
                let told = || {
                    let (codec, format) = streams.framing?;
                    nal::starts_with_idr(codec, format, packet.data())
                };
                return Ok(packet.is_key().then(told));
            }
            Ok(Received::Item | Received::NeedsInput) => {}
            Ok(Received::End) => break,
            Err(e) => return if is_of_data(&e) { Ok(None) } else { Err(e) },
        }
    }
    Ok(None)
}

fn is_of_data(error: &Error) -> bool {
    error.kind() == crate::base::error::ErrorKind::BadSource
}

/// The cues as key frames. A Cluster is counted whole to everything that begins in it: rather too much.
fn keys(cues: &[Cue], end: u64, sought: &Sought<'_>, streams: &Streams) -> Vec<Key> {
    let per_second = |rate: Rational, ticks: i64| {
        let length = Rational::from_int(ticks.max(0)) * streams.video_base;
        u64::try_from((length * rate).round(Rounding::Ceil)).unwrap_or(0) + 1
    };
    let frames = sought.facts.video.as_ref().map_or(Rational::from_int(60), |v| v.frame_rate);
    let packets = sought.facts.audio.as_ref().map(|a| {
        Rational::checked_new(i64::from(a.sample_rate), i64::from(a.frame_samples.max(128)))
            .unwrap_or(Rational::from_int(400))
    });
    let title_end =
        sought.facts.video.as_ref().map_or(0, |v| (v.end / streams.video_base).round(Rounding::Ceil));
    let key = |i: usize, (pts, cluster): Cue| {
        let next_pts = cues.get(i + 1).map_or(title_end, |c| c.0);
        let next_cluster = cues.iter().skip(i + 1).map(|c| c.1).find(|c| *c > cluster).unwrap_or(end);
        let length = next_pts.saturating_sub(pts);
        let video =
            Amount { packets: per_second(frames, length), bytes: next_cluster.saturating_sub(cluster) };
        let audio = Amount { packets: packets.map_or(0, |rate| per_second(rate, length)), bytes: 0 };
        Key { pts, offset: None, is_idr: None, video, audio }
    };
    cues.iter().enumerate().map(|(i, cue)| key(i, *cue)).collect()
}
