//! Removing a published output, and only that one.
//!
//! ```text
//!           is it the one?         still?
//!   TARGET ---------------> parked -------> gone --> removed
//!      ^                      |
//!      +------- no, or killed +
//! ```
//!
//! What enters: a place, and which output is to go from there. What leaves: that output gone, in one
//! step for whoever looks, or nothing changed. Another job may publish to the same place at any moment,
//! and no file system renames only what one means: so what lies there is taken out first, looked at
//! where nobody else replaces it, and put back if it is another.
//!
//! What a killed process has parked is put back, since nothing was decided; what is gone is removed.
//! `discard` and the next job at that place do that, and the same call again completes it.

use super::{exists, gone_beside, is_folder, place_hash};
use crate::base::error::{Error, ErrorKind, Result, Stage};
use crate::base::fs::{TEMP_PREFIX, sync_folder_of};
use crate::store::hls_dir::{MASTER, check_ours};
use crate::store::place::{self, Found, io, remove_any, rename_new};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::ErrorKind as IoKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

#[cfg(test)]
mod tests;

/// Looks at a place where others move things at the same time.
const MAX_TRIES: usize = 100;

/// Which output it is: what a rename and another mount keep, and what a later output does not have.
///
/// Not the inode: file systems give a removed one to the next that comes, and FUSE, SMB without the
/// server's numbers and overlays give the same file another one after each mount.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// When the file, or the folder's multivariant playlist, was finished: nanoseconds since 1970.
    pub mtime_ns: i64,
    /// How long that file is.
    pub size_bytes: u64,
}

/// What came of a removal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gone {
    /// The output was there, and is removed.
    Removed,
    /// Nothing lies there.
    Nothing,
    /// Something else lies there, and stays.
    Another,
}

/// Which output lies there. `None` when nothing does, or nothing that can be an output. It is final after
/// [`HlsDir::finish`] and [`OutputFile::finish`].
///
/// [`HlsDir::finish`]: crate::store::hls_dir::HlsDir::finish
/// [`OutputFile::finish`]: crate::store::output::OutputFile::finish
pub fn identity(path: &Path) -> Option<Identity> {
    let facts = fs::metadata(path).ok()?;
    // A folder's own time changes with each entry; the playlist is the last that is written.
    let facts = if facts.is_dir() { fs::symlink_metadata(path.join(MASTER)).ok()? } else { facts };
    let mtime_ns = facts.mtime().saturating_mul(1_000_000_000).saturating_add(facts.mtime_nsec());
    facts.is_file().then_some(Identity { mtime_ns, size_bytes: facts.len() })
}

/// Removes a published output, if `expected` is what lies there: a folder or a single file.
///
/// # Errors
/// `output_not_ours` for a folder in which anything else lies than an output; `output_busy` when others
/// move it all the time; refusals of the file system. After any of them, and after a kill, the same
/// call goes on.
pub fn remove_output(target: &Path, expected: &Identity) -> Result<Gone> {
    let target = place::resolve(target)?;
    remove_any(&gone_beside(&target))?;
    for _ in 0..MAX_TRIES {
        if let Some(gone) = try_to_remove(&target, expected)? {
            return Ok(gone);
        }
    }
    let message = format!("others move {} again and again", target.display());
    Err(Error::new(ErrorKind::Conflict, "output_busy", Stage::Publish, message).hint("try again later"))
}

/// `None` when it is to be looked at again.
fn try_to_remove(target: &Path, expected: &Identity) -> Result<Option<Gone>> {
    let parked = parked_beside(target);
    // What a killed process has parked is looked at as if this one had done it.
    if !exists(&parked) {
        if place::look(target)? == Found::Nothing {
            return Ok(Some(Gone::Nothing));
        }
        if identity(target).as_ref() != Some(expected) {
            return Ok(Some(Gone::Another));
        }
        match check_all_ours(target) {
            Ok(()) => {}
            Err(e) if e.code() == "not_found" => return Ok(None),
            Err(e) => return Err(e),
        }
        match rename_new(target, &parked) {
            Ok(()) => {}
            Err(e) if matches!(e.kind(), IoKind::NotFound | IoKind::AlreadyExists) => return Ok(None),
            Err(e) => return Err(io("remove", target, &e)),
        }
    }
    if identity(&parked).as_ref() == Some(expected) && check_all_ours(&parked).is_ok() {
        return remove_parked(&parked, target);
    }
    // If it is the one, what is wrong with it is told of it under its own name.
    if !put_back(target)? {
        keep(&parked, target)?;
    }
    Ok(None)
}

/// From the rename on it is decided.
fn remove_parked(parked: &Path, target: &Path) -> Result<Option<Gone>> {
    let gone = gone_beside(target);
    match fs::rename(parked, &gone) {
        Ok(()) => {}
        // Another process has put it back.
        Err(e) if e.kind() == IoKind::NotFound => return Ok(None),
        // Another process has just moved something else there to be removed.
        Err(e) if is_taken(&e) => return remove_any(&gone).map(|_| None),
        Err(e) => return Err(io("remove", target, &e)),
    }
    // Before its content goes: no power cut may bring half of it back.
    sync_folder_of(target)?;
    remove_any(&gone)?;
    sync_folder_of(target).map(|()| Some(Gone::Removed))
}

/// Puts back what a process had parked here. Where another output has come meanwhile it stays parked:
/// only the removal knows whether it is to go. Says whether anything was put back.
///
/// # Errors
/// Refusals of the file system.
pub(super) fn put_back(target: &Path) -> Result<bool> {
    let parked = parked_beside(target);
    if !exists(&parked) {
        return Ok(false);
    }
    // A folder replaces no folder but an empty one; a file would replace a file.
    let back = if is_folder(&parked) { fs::rename(&parked, target) } else { rename_new(&parked, target) };
    match back {
        Ok(()) => {
            tracing::info!("{} is again what it was before it was to be removed", target.display());
            sync_folder_of(target).map(|()| true)
        }
        // Somebody else did.
        Err(e) if e.kind() == IoKind::NotFound => Ok(false),
        Err(e) if is_taken(&e) => {
            let (parked, target) = (parked.display(), target.display());
            tracing::warn!("{parked} was to be removed from {target}, where another output is by now");
            Ok(false)
        }
        Err(e) => Err(io("bring back", &parked, &e)),
    }
}

/// Another process has parked what is not to be removed, and its place is taken: it is kept under a name
/// of its own, since nobody knows whose it is.
fn keep(parked: &Path, target: &Path) -> Result<()> {
    for n in 0..MAX_TRIES {
        let kept = target.with_file_name(format!("{TEMP_PREFIX}kept-{n}-{:016x}~", place_hash(target)));
        match rename_new(parked, &kept) {
            Ok(()) => {
                let (kept, target) = (kept.display(), target.display());
                tracing::error!(
                    "{target} was replaced while it was looked at: the earlier one is now {kept}"
                );
                return Ok(());
            }
            Err(e) if e.kind() == IoKind::NotFound => return Ok(()),
            Err(e) if e.kind() == IoKind::AlreadyExists => {}
            Err(e) => return Err(io("keep", parked, &e)),
        }
    }
    let message = format!("{MAX_TRIES} outputs that were replaced lie beside {}", target.display());
    Err(Error::new(ErrorKind::Conflict, "too_many_leftovers", Stage::Publish, message)
        .hint(format!("look at {TEMP_PREFIX}kept-* there, and remove them")))
}

/// Whether nothing in it is anybody else's.
fn check_all_ours(output: &Path) -> Result<()> {
    if is_folder(output) { check_ours(output) } else { Ok(()) }
}

fn is_taken(e: &std::io::Error) -> bool {
    use IoKind::{AlreadyExists, DirectoryNotEmpty, IsADirectory, NotADirectory};
    matches!(e.kind(), AlreadyExists | DirectoryNotEmpty | IsADirectory | NotADirectory)
}

/// Where an output lies while it is looked at.
pub(super) fn parked_beside(target: &Path) -> PathBuf {
    target.with_file_name(format!("{TEMP_PREFIX}parked-{:016x}~", place_hash(target)))
}
