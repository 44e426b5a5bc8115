//! EBML (RFC 8794), as much of it as Matroska's tables need: elements in memory and their numbers.
//!
//! Hostile input: lengths are held against what is there, and a walk ends where they make no sense.

/// An element: its ID with the length marker, and its body.
pub(super) type Element<'a> = (u32, &'a [u8]);

/// The head of an element: ID, length of the body (`None`: unknown, RFC 8794, 6.2), bytes of the head.
pub(super) fn head(bytes: &[u8]) -> Option<(u32, Option<u64>, usize)> {
    let first = *bytes.first()?;
    let id_bytes = first.leading_zeros() as usize + 1;
    if id_bytes > 4 {
        return None;
    }
    let id = bytes.get(..id_bytes)?.iter().fold(0u32, |id, byte| id << 8 | u32::from(*byte));
    let marker = *bytes.get(id_bytes)?;
    let size_bytes = marker.leading_zeros() as usize + 1;
    if size_bytes > 8 {
        return None;
    }
    let raw = number(bytes.get(id_bytes..id_bytes + size_bytes)?);
    let bits = 7 * size_bytes as u32;
    let size = raw & ((1u64 << bits) - 1);
    let known = size != (1u64 << bits) - 1;
    Some((id, known.then_some(size), id_bytes + size_bytes))
}

/// The elements in `parent`.
pub(super) fn elements(parent: &[u8]) -> impl Iterator<Item = Element<'_>> {
    let mut rest = parent;
    std::iter::from_fn(move || {
        let (id, size, head_bytes) = head(rest)?;
        let end = head_bytes.checked_add(usize::try_from(size?).ok()?)?;
        let body = rest.get(head_bytes..end)?;
        rest = rest.get(end..)?;
        Some((id, body))
    })
}

/// The first element with this ID.
pub(super) fn find(parent: &[u8], id: u32) -> Option<&[u8]> {
    elements(parent).find(|(found, _)| *found == id).map(|(_, body)| body)
}

/// An unsigned number of up to eight bytes.
pub(super) fn number(body: &[u8]) -> u64 {
    body.iter().take(8).fold(0, |n, byte| n << 8 | u64::from(*byte))
}

/// The number in the first element with this ID.
pub(super) fn number_of(parent: &[u8], id: u32) -> Option<u64> {
    find(parent, id).map(number)
}
