//! The sample tables of an MP4 (ISO/IEC 14496-12, 8.6 to 8.7): where each sample lies, and how much later
//! than it is decoded it is shown.
//!
//! What enters: a reader over the file and a track's ID. What leaves: those two for every sample, or
//! `None` where the tables are not all there, do not agree with each other, or are larger than any film's.
//! The tables are hostile: every count is bounded by the bytes that are really there and by
//! [`MAX_SAMPLES`]. Decode times, key frames and edit lists are libav's affair, which has read the same
//! tables; the caller puts the two together.

use super::bytes::Bytes;
use crate::base::error::Result;
use mp4_atom::{Atom, Co64, Ctts, Stco, Stsc, Stsz, StszSamples, Tkhd};

/// A `moov` longer than this is not read: the tables of a day of film have 100 MB.
const MAX_MOOV_BYTES: u64 = 256 << 20;
/// More samples than a track of a day has, sound included.
const MAX_SAMPLES: usize = 8 << 20;
/// Boxes at the top level that are looked at before the `moov` counts as missing: a fragmented file has
/// one pair for each fragment, and no tables.
const MAX_TOP_BOXES: usize = 64;

/// One sample of a track.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sample {
    /// Where it begins in the file.
    pub offset: u64,
    /// `sample_offset` of its composition time, as libav reads it: 32 bits with a sign in every version.
    pub shown_later: i32,
}

/// The samples of a track in the order of their offsets; `None` where they cannot be had from tables.
pub(super) fn samples(bytes: &mut Bytes, track_id: u32) -> Result<Option<Vec<Sample>>> {
    let Some(moov) = read_moov(bytes)? else { return Ok(None) };
    Ok(samples_in(&moov, track_id))
}

fn read_moov(bytes: &mut Bytes) -> Result<Option<Vec<u8>>> {
    let mut at = 0u64;
    for _ in 0..MAX_TOP_BOXES {
        let Some(head) = bytes.exactly(at, 8)? else { return Ok(None) };
        let (mut size, kind, mut head_bytes) = (be32(&head, 0), fourcc(&head, 4), 8);
        if size == 1 {
            let Some(long) = bytes.exactly(at + 8, 8)? else { return Ok(None) };
            (size, head_bytes) = (be64(&long, 0), 16);
        } else if size == 0 {
            size = bytes.size().saturating_sub(at);
        }
        let Some(body) = size.checked_sub(head_bytes) else { return Ok(None) };
        if kind == *b"moov" {
            return if body <= MAX_MOOV_BYTES {
                bytes.exactly(at + head_bytes, body as usize)
            } else {
                Ok(None)
            };
        }
        let Some(next) = at.checked_add(size) else { return Ok(None) };
        at = next;
    }
    Ok(None)
}

fn samples_in(moov: &[u8], track_id: u32) -> Option<Vec<Sample>> {
    // With fragments the tables are not the whole film.
    if child(moov, b"mvex").is_some() {
        return None;
    }
    let is_wanted = |trak: &&[u8]| {
        let id =
            child(trak, b"tkhd").and_then(|body| Tkhd::decode_body(&mut &*body).ok()).map(|t| t.track_id);
        id == Some(track_id)
    };
    let trak = children(moov).filter(|(kind, _)| kind == b"trak").map(|(_, body)| body).find(is_wanted)?;
    let table = child(child(child(trak, b"mdia")?, b"minf")?, b"stbl")?;
    let sizes = sizes(Stsz::decode_body(&mut child(table, b"stsz")?).ok()?)?;
    let mut samples = place(&sizes, &chunks(table)?, &Stsc::decode_body(&mut child(table, b"stsc")?).ok()?)?;
    if let Some(body) = child(table, b"ctts") {
        show_later(&mut samples, &Ctts::decode_body(&mut &*body).ok()?)?;
    }
    samples.sort_unstable_by_key(|s| s.offset);
    // Two samples in one place could not be told apart.
    samples.is_sorted_by(|a, b| a.offset < b.offset).then_some(samples)
}

fn sizes(table: Stsz) -> Option<Vec<u32>> {
    match table.samples {
        StszSamples::Identical { count, size } => {
            let count = usize::try_from(count).ok().filter(|n| *n <= MAX_SAMPLES)?;
            Some(vec![size; count])
        }
        StszSamples::Different { sizes } => (sizes.len() <= MAX_SAMPLES).then_some(sizes),
    }
}

fn chunks(table: &[u8]) -> Option<Vec<u64>> {
    if let Some(body) = child(table, b"co64") {
        return Some(Co64::decode_body(&mut &*body).ok()?.entries);
    }
    let narrow = Stco::decode_body(&mut child(table, b"stco")?).ok()?.entries;
    Some(narrow.into_iter().map(u64::from).collect())
}

/// Lays the samples into their chunks (8.7.4).
fn place(sizes: &[u32], chunks: &[u64], runs: &Stsc) -> Option<Vec<Sample>> {
    let mut samples = Vec::with_capacity(sizes.len());
    let mut rest = sizes.iter();
    for (i, run) in runs.entries.iter().enumerate() {
        let first = usize::try_from(run.first_chunk).ok()?.checked_sub(1)?;
        let next = runs
            .entries
            .get(i + 1)
            .map_or(Some(chunks.len()), |n| usize::try_from(n.first_chunk).ok()?.checked_sub(1))?;
        for start in chunks.get(first..next)? {
            let mut offset = *start;
            for size in rest.by_ref().take(usize::try_from(run.samples_per_chunk).ok()?) {
                samples.push(Sample { offset, shown_later: 0 });
                offset = offset.checked_add(u64::from(*size))?;
            }
        }
    }
    (samples.len() == sizes.len()).then_some(samples)
}

/// Writes the composition offsets to the samples; `None` where there are not as many as samples, since
/// libav then reads the rest in a way of its own.
fn show_later(samples: &mut [Sample], table: &Ctts) -> Option<()> {
    let mut rest = samples.iter_mut();
    for run in &table.entries {
        // Bit 31 of an unsigned offset is a sign to libav.
        let shown_later = run.sample_offset as i32;
        for _ in 0..run.sample_count {
            let Some(sample) = rest.next() else { return Some(()) };
            sample.shown_later = shown_later;
        }
    }
    rest.next().is_none().then_some(())
}

/// The boxes in `parent`, as (kind, body); ends where the sizes make no sense.
fn children(parent: &[u8]) -> impl Iterator<Item = ([u8; 4], &[u8])> {
    let mut rest = parent;
    std::iter::from_fn(move || {
        let head = rest.get(..8)?;
        let kind = fourcc(head, 4);
        let (size, head_bytes) = match be32(head, 0) {
            0 => (rest.len() as u64, 8),
            1 => (be64(rest.get(8..16)?, 0), 16),
            size => (size, 8),
        };
        let size = usize::try_from(size).ok()?;
        let body = rest.get(head_bytes..size)?;
        rest = rest.get(size..)?;
        Some((kind, body))
    })
}

fn child<'a>(parent: &'a [u8], kind: &[u8; 4]) -> Option<&'a [u8]> {
    children(parent).find(|(name, _)| name == kind).map(|(_, body)| body)
}

fn fourcc(bytes: &[u8], at: usize) -> [u8; 4] {
    bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).unwrap_or_default()
}

fn be32(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32::from_be_bytes(fourcc(bytes, at)))
}

fn be64(bytes: &[u8], at: usize) -> u64 {
    be32(bytes, at) << 32 | be32(bytes, at + 4)
}

#[cfg(test)]
#[path = "mp4/tests.rs"]
mod tests;
