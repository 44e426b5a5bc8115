//! The index of an MP4 from its tables.
//!
//! libav's own index has what edit lists make of the decode times, the key frames and the sizes; the
//! tables have how much later each sample is shown. The two meet at the sample's place in the file. What
//! libav adds to all presentation times alike is learnt from packets that it delivers, and where one of
//! them contradicts, the tables are not used at all: the index is exact or it is made in another way.

use super::bytes::Bytes;
use super::mp4::{self, Sample};
use super::{Gathered, Key, Sought, Streams};
use crate::av::input::{IndexEntry, Input};
use crate::av::{Packet, Received};
use crate::base::error::{Result, Stage};
use crate::media::demux::OPEN_LIMIT;

/// Packets of the picture that are compared at the beginning of the film.
const COMPARED: usize = 12;
/// Packets that are read for them: other streams come between.
const MAX_READ: usize = 2000;

pub(super) fn find(sought: &Sought<'_>, input: &mut Input, streams: &Streams) -> Result<Option<Vec<Key>>> {
    let Ok(track_id) = u32::try_from(streams.video_id) else { return Ok(None) };
    let mut bytes = Bytes::open(sought.path, sought.cancel, OPEN_LIMIT)?;
    let Some(samples) = mp4::samples(&mut bytes, track_id)? else { return Ok(None) };
    let entries = input.index(streams.video);
    if entries.is_empty() {
        return Ok(None);
    }
    let Some(shift) = common_shift(input, streams, &entries, &samples)? else { return Ok(None) };
    let mut gathered = Gathered::default();
    for entry in &entries {
        if entry.key {
            let Some(later) = shown_later(&samples, entry.offset) else { return Ok(None) };
            let pts = entry.dts.saturating_add(later).saturating_add(shift);
            gathered.key(pts, Some(entry.offset), None);
        }
        gathered.picture(entry.bytes);
    }
    if let Some((audio, _)) = streams.audio {
        gathered.audio = input.index(audio).into_iter().map(|e| (e.dts, e.bytes)).collect();
    }
    Ok(Some(gathered.into_keys(streams)))
}

fn shown_later(samples: &[Sample], offset: u64) -> Option<i64> {
    let at = samples.binary_search_by_key(&offset, |s| s.offset).ok()?;
    samples.get(at).map(|s| i64::from(s.shown_later))
}

/// What is to be added to decode time and offset for the presentation time that packets have; `None` where
/// they do not agree on it.
fn common_shift(
    input: &mut Input,
    streams: &Streams,
    entries: &[IndexEntry],
    samples: &[Sample],
) -> Result<Option<i64>> {
    input.keep_only(&[streams.video]);
    let keys: Vec<i64> = entries.iter().filter(|e| e.key).map(|e| e.dts).collect();
    let mut shift = None;
    let mut places = vec![(entries.first().map(|e| e.dts), COMPARED)];
    places.extend([keys.get(keys.len() / 2), keys.last()].map(|dts| (dts.copied(), 2)));
    for (dts, count) in places {
        let Some(dts) = dts else { continue };
        if input.seek(streams.video, dts).is_err_and(|e| e.is_cancelled()) {
            return Err(crate::base::error::Error::cancelled(Stage::Plan));
        }
        for (offset, pts) in read_some(input, streams.video, count)? {
            let Some(entry) = entries.iter().find(|e| e.offset == offset) else { return Ok(None) };
            let Some(later) = shown_later(samples, offset) else { return Ok(None) };
            let seen = pts.saturating_sub(entry.dts).saturating_sub(later);
            if *shift.get_or_insert(seen) != seen {
                return Ok(None);
            }
        }
    }
    Ok(shift)
}

/// Places and presentation times of the next packets of a stream.
fn read_some(input: &mut Input, stream: usize, count: usize) -> Result<Vec<(u64, i64)>> {
    let mut packet = Packet::new().map_err(|e| e.at(Stage::Plan, "cannot look at packets"))?;
    let mut found = Vec::new();
    for _ in 0..MAX_READ {
        match input.read(&mut packet)? {
            Received::Item if packet.stream() == stream => {
                if let (Some(offset), Some(pts)) = (packet.position(), packet.pts()) {
                    found.push((offset, pts));
                }
            }
            Received::Item | Received::NeedsInput => {}
            Received::End => break,
        }
        if found.len() >= count {
            break;
        }
    }
    Ok(found)
}
