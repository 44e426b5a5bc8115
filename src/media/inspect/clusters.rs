//! Finding a place near the end of a Matroska file at which libav can go on reading.
//!
//! A file that was cut off, or written as it was broadcast, has no index; libav then reads it through
//! for one seek by time. A byte offset does as well, if a Cluster begins there: its four-byte ID is
//! rare enough to look for, and what follows it is checked.

use super::Source;
use crate::av::reader::ReadAhead;
use crate::base::error::{Error, Result, Stage};
use std::io::ErrorKind as IoKind;

/// The ID of a Cluster (RFC 9559, §5.1.3).
const CLUSTER: [u8; 4] = [0x1F, 0x43, 0xB6, 0x75];
/// What a Cluster begins with: its Timestamp, or a CRC-32 of the rest.
const FIRST_CHILDREN: [u8; 2] = [0xE7, 0xBF];
/// ID, the longest length, and the first byte of the first child.
const LOOK_BYTES: usize = 4 + 8 + 1;
const PIECE_BYTES: usize = 256 * 1024;

/// The offset of the first Cluster that begins at or after `from`.
pub(super) fn first_at(source: &Source<'_>, from: u64) -> Result<Option<u64>> {
    let mut reader = ReadAhead::open(source.path, source.cancel, source.open_limit)?;
    reader.seek(from).map_err(|e| failure(source, &e))?;
    let (mut window, mut start) = (Vec::new(), from);
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let n = reader.read(&mut piece).map_err(|e| failure(source, &e))?;
        window.extend_from_slice(piece.get(..n).unwrap_or(&[]));
        if let Some(at) = find(&window) {
            return Ok(start.checked_add(at as u64));
        }
        if n == 0 {
            return Ok(None);
        }
        // What might be the beginning of a match stays for the next round.
        let done = window.len().saturating_sub(LOOK_BYTES - 1);
        window.drain(..done);
        start += done as u64;
    }
}

fn failure(source: &Source<'_>, err: &std::io::Error) -> Error {
    if err.kind() == IoKind::Interrupted {
        return Error::cancelled(Stage::Demux);
    }
    Error::io(Stage::Demux, "read", source.path, err)
}

fn find(window: &[u8]) -> Option<usize> {
    window.windows(LOOK_BYTES).position(is_cluster)
}

/// An ID, a length of one to eight bytes whose first byte says how many (RFC 8794, §4), and a child.
fn is_cluster(bytes: &[u8]) -> bool {
    let Some((&length_start, rest)) = bytes.strip_prefix(&CLUSTER).and_then(|b| b.split_first()) else {
        return false;
    };
    let more = length_start.leading_zeros() as usize;
    rest.get(more).is_some_and(|child| FIRST_CHILDREN.contains(child))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::cancel::Cancel;
    use std::time::Duration;

    const SHORT: [u8; 6] = [0x1F, 0x43, 0xB6, 0x75, 0x9A, 0xE7];
    const LONG: [u8; 13] = [0x1F, 0x43, 0xB6, 0x75, 1, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xE7];

    fn first(bytes: &[u8], from: u64) -> Option<u64> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        let (cancel, open_limit) = (Cancel::new(), Duration::from_secs(5));
        first_at(&Source { path: file.path(), cancel: &cancel, open_limit }, from).unwrap()
    }

    #[test]
    fn clusters_are_found_wherever_the_pieces_meet() {
        for at in (PIECE_BYTES - 20..PIECE_BYTES + 3).chain([0, 5, 700_000]) {
            let mut bytes = vec![0; 800_000];
            bytes[at..at + LONG.len()].copy_from_slice(&LONG);
            assert_eq!(first(&bytes, 0), Some(at as u64));
            assert_eq!(first(&bytes, at as u64), Some(at as u64));
            assert_eq!(first(&bytes, at as u64 + 1), None);
        }
    }

    #[test]
    fn the_id_alone_is_no_cluster() {
        let mut bytes = vec![0x55; 100];
        bytes[10..14].copy_from_slice(&CLUSTER);
        assert_eq!(first(&bytes, 0), None);
        bytes[50..56].copy_from_slice(&SHORT);
        assert_eq!(first(&bytes, 0), Some(50));
        assert_eq!(first(&[], 0), None);
    }
}
