//! Giving a finished folder its name, and what may be replaced by it.
//!
//! What enters: a folder that is complete, and the place that it is for. What leaves: the folder under
//! its name. At every moment either what was there before is there whole, or what is new is, or a
//! later process of the same job puts it there (`claim.rs`): so the log goes last of all.

use super::{HlsDir, INDEX, INIT, MASTER, entries, make_beside};
use crate::base::error::Result;
use crate::base::fs::{sync_folder, sync_folder_of};
use crate::store::claim::{Claim, remove_at_once};
use crate::store::log::LOG;
use crate::store::place::{self, Found, io, remove_any};
use std::fs;
use std::io::ErrorKind as IoKind;
use std::path::{Path, PathBuf};

impl HlsDir {
    /// Syncs the folders, gives the whole its name, in one step where nothing is replaced, and syncs
    /// the folder above.
    ///
    /// # Errors
    /// As [`HlsDir::create`], for what has come to lie there meanwhile. What was there before is
    /// there again then.
    pub fn publish(mut self) -> Result<()> {
        self.shared.syncer.finish()?;
        for name in &self.shared.names {
            sync_folder(&self.folder().join(name))?;
        }
        sync_folder(self.folder())?;
        let aside = match check(&self.target, self.overwrite)? {
            Found::Folder => Some(self.swap()?),
            _ => self.rename_to_target().map(|()| None)?,
        };
        self.forget_log();
        sync_folder_of(&self.target)?;
        if let Some(Err(e)) = aside.map(|aside| remove_at_once(&aside, &self.target)) {
            tracing::warn!("the output is there, but not all of the one that it replaced is removed: {e}");
        }
        self.parents.keep()
    }

    fn rename_to_target(&mut self) -> Result<()> {
        let renamed = match fs::rename(self.folder(), &self.target) {
            // Over SMB no folder is renamed in which a file is open, and the log is one.
            Err(e) if refused_while_open(&e) && self.hidden.log.take().is_some() => {
                fs::rename(self.folder(), &self.target)
            }
            renamed => renamed,
        };
        renamed.map_err(|e| match e.kind() {
            IoKind::DirectoryNotEmpty | IoKind::NotADirectory => place::exists(&self.target),
            _ => io("rename to", &self.target, &e),
        })?;
        self.hidden.stays = true;
        Ok(())
    }

    /// Puts the new folder in the place of the old one, and says where the old one is then. A rename
    /// cannot replace a folder that has something in it, so the old one steps aside first, and back if
    /// the new one cannot come.
    fn swap(&mut self) -> Result<PathBuf> {
        let aside = match &self.claim {
            Some(claim) => make_again(Claim::aside_beside(&claim.job, &self.target))?,
            None => make_beside(&self.target, "old-")?,
        };
        // Over the empty folder that reserved the name.
        if let Err(e) = fs::rename(&self.target, &aside) {
            let _ = fs::remove_dir(&aside);
            return Err(io("move aside", &self.target, &e));
        }
        if let Err(e) = self.rename_to_target() {
            if let Err(back) = fs::rename(&aside, &self.target) {
                tracing::error!(
                    "the earlier output is now {}: it cannot be moved back: {back}",
                    aside.display()
                );
            }
            return Err(e);
        }
        Ok(aside)
    }

    /// The output is there, whatever becomes of the log: one that stays is known by `check_ours`.
    fn forget_log(&mut self) {
        if self.claim.is_none() {
            return;
        }
        let path = self.target.join(LOG);
        let removed = match self.hidden.log.take() {
            Some(log) => log.remove_at(&path),
            None => remove_any(&path).map(|_| ()),
        };
        if let Err(e) = removed.and_then(|()| sync_folder(&self.target)) {
            tracing::warn!("the output is there, but its log may be too: {e}");
        }
    }
}

fn refused_while_open(e: &std::io::Error) -> bool {
    matches!(e.kind(), IoKind::PermissionDenied | IoKind::ResourceBusy)
}

/// An empty folder of that name, whatever an earlier process of the same job has left there.
fn make_again(folder: PathBuf) -> Result<PathBuf> {
    remove_any(&folder)?;
    fs::create_dir(&folder).map_err(|e| io("make the folder", &folder, &e))?;
    Ok(folder)
}

/// Refuses what may not be replaced, and says what lies there.
pub(super) fn check(target: &Path, overwrite: bool) -> Result<Found> {
    let found = place::look(target)?;
    match found {
        Found::Nothing => {}
        Found::EmptyFolder => place::refuse_mount_point(target)?,
        Found::Folder if !overwrite => return Err(place::exists(target)),
        Found::Folder => {
            place::refuse_mount_point(target)?;
            check_ours(target)?;
        }
        Found::File | Found::Special => {
            let message = format!("{} is not a folder, but HLS output is one", target.display());
            return Err(place::not_ours(message));
        }
    }
    Ok(found)
}

/// Refuses a folder in which anything else lies than an earlier output: replacing removes it all.
pub(in crate::store) fn check_ours(folder: &Path) -> Result<()> {
    for entry in entries(folder)? {
        // A process that was killed between the rename and the end of its log leaves that too.
        let name = entry.file_name().unwrap_or_default();
        let known = is_file(&entry) && (name == MASTER || (name == LOG && is_file(&folder.join(MASTER))));
        if !known && !is_rendition(&entry)? {
            let message =
                format!("{} is not part of an earlier output, so it is not overwritten", entry.display());
            return Err(place::not_ours(message));
        }
    }
    Ok(())
}

fn is_rendition(folder: &Path) -> Result<bool> {
    // A link to a folder is somebody else's doing.
    if !fs::symlink_metadata(folder).is_ok_and(|facts| facts.is_dir()) {
        return Ok(false);
    }
    let entries = entries(folder)?;
    let has_index = entries.iter().any(|e| e.file_name().is_some_and(|name| name == INDEX));
    Ok(has_index && entries.iter().all(|e| is_file(e) && is_our_name(e)))
}

/// A playlist, an initialisation segment, or a number with a segment's extension.
fn is_our_name(path: &Path) -> bool {
    let name = path.file_name().map(|n| n.to_string_lossy()).unwrap_or_default();
    let digits = |stem: &str| !stem.is_empty() && stem.bytes().all(|b| b.is_ascii_digit());
    let stem = name.strip_suffix(".ts").or_else(|| name.strip_suffix(".m4s"));
    name == INDEX || name == INIT || stem.is_some_and(digits)
}

fn is_file(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|facts| facts.is_file())
}
