//! The little that box structure needs beside `mp4-atom`: boxes around boxes, and numbers that are
//! only known after what follows them has been written.
//!
//! `mp4-atom` writes the children of a container by kind (required, optional, repeated), which puts
//! `edts` behind `mdia`, `vmhd` behind `stbl` and `mvex` before the tracks. ISO/IEC 14496-12 permits
//! that, but recommends the customary order, and set-top demuxers are written against it; hence the
//! containers are made here and only their leaves come from the crate.

use super::Fmp4Error;

/// Appends a box of `kind` whose body is what `fill` appends (ISO/IEC 14496-12, 4.2).
///
/// # Errors
/// Those of `fill`, and a body of 4 GiB or more.
pub(super) fn boxed(
    out: &mut Vec<u8>,
    kind: &[u8; 4],
    fill: impl FnOnce(&mut Vec<u8>) -> Result<(), Fmp4Error>,
) -> Result<(), Fmp4Error> {
    let start = begin(out, kind);
    fill(out)?;
    end(out, start)
}

/// Appends a full box: version in the highest byte of `version_flags`, flags below.
///
/// # Errors
/// As [`boxed`].
pub(super) fn full_boxed(
    out: &mut Vec<u8>,
    kind: &[u8; 4],
    version_flags: u32,
    fill: impl FnOnce(&mut Vec<u8>) -> Result<(), Fmp4Error>,
) -> Result<(), Fmp4Error> {
    boxed(out, kind, |out| {
        put_u32(out, version_flags);
        fill(out)
    })
}

/// Appends a box header without size and returns where the box begins.
pub(super) fn begin(out: &mut Vec<u8>, kind: &[u8; 4]) -> usize {
    let start = out.len();
    put_u32(out, 0);
    out.extend_from_slice(kind);
    start
}

/// Writes the size of the box that began at `start` and ends here.
///
/// # Errors
/// When it is 4 GiB or more.
pub(super) fn end(out: &mut [u8], start: usize) -> Result<(), Fmp4Error> {
    let size_bytes = u32::try_from(out.len() - start).map_err(|_| Fmp4Error::TooLarge)?;
    patch_u32(out, start, size_bytes);
    Ok(())
}

/// Appends a number, big endian.
pub(super) fn put_u32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_be_bytes());
}

/// Overwrites the four bytes at `at`, which have been written before.
pub(super) fn patch_u32(out: &mut [u8], at: usize, value: u32) {
    if let Some(place) = out.get_mut(at..at + 4) {
        place.copy_from_slice(&value.to_be_bytes());
    }
}
