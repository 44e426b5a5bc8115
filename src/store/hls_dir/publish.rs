//! Giving a finished folder its name, and what may be replaced by it.
//!
//! What enters: a folder that is complete, the place that it is for, and who has the last word. What
//! leaves: the folder under its name. At every moment either what was there before is there whole, or what is new is, or a
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
use std::sync::atomic::Ordering;

/// Looks at a place from which others remove things at the same time, and to which they put them back.
const MAX_TRIES: usize = 3;

/// An empty hidden folder that holds the name for the output that is replaced.
struct Aside(PathBuf);

impl Drop for Aside {
    fn drop(&mut self) {
        // What has something in it stays.
        let _ = fs::remove_dir(&self.0);
    }
}

impl HlsDir {
    /// Syncs the folders, asks `may` as the last thing before anybody can see anything, gives the whole
    /// its name, in one step where nothing is replaced, and syncs the folder above. Once the output has
    /// its name nothing is an error any more: what goes wrong then is in the log.
    ///
    /// # Errors
    /// That of `may`; as [`HlsDir::create`], for what has come to lie there meanwhile. Nothing is
    /// published then, and what was there before is there again.
    pub fn publish(mut self, may: &dyn Fn() -> Result<()>) -> Result<()> {
        self.shared.syncer.finish()?;
        for name in &self.shared.names {
            sync_folder(&self.folder().join(name))?;
        }
        sync_folder(self.folder())?;
        let aside = self.reserve()?;
        may()?;
        let aside = self.take_place(aside)?;
        self.clean_up(aside);
        Ok(())
    }

    /// A name for what is to be replaced, where anything is.
    fn reserve(&self) -> Result<Option<Aside>> {
        if check(&self.target, self.overwrite)? != Found::Folder {
            return Ok(None);
        }
        let aside = match &self.claim {
            Some(claim) => make_again(Claim::aside_beside(&claim.job, &self.target))?,
            None => make_beside(&self.target, "old-")?,
        };
        Ok(Some(Aside(aside)))
    }

    fn take_place(&mut self, mut aside: Option<Aside>) -> Result<Option<Aside>> {
        for _ in 1..MAX_TRIES {
            match self.try_to_take_place(aside.as_ref()) {
                // What others were to remove from there, they have put back.
                Err(e) if self.overwrite && e.code() == "output_exists" => {
                    drop(aside);
                    aside = self.reserve()?;
                }
                done => return done.map(|()| aside),
            }
        }
        self.try_to_take_place(aside.as_ref()).map(|()| aside)
    }

    /// A rename cannot replace a folder that has something in it, so the old one steps aside first, and
    /// back if the new one cannot come.
    fn try_to_take_place(&mut self, aside: Option<&Aside>) -> Result<()> {
        let Some(Aside(aside)) = aside else { return self.rename_to_target() };
        // Over the empty folder that reserved the name.
        match fs::rename(&self.target, aside) {
            Ok(()) => {}
            // It was removed meanwhile.
            Err(e) if e.kind() == IoKind::NotFound => return self.rename_to_target(),
            Err(e) => return Err(io("move aside", &self.target, &e)),
        }
        self.rename_to_target().inspect_err(|_| {
            if let Err(back) = fs::rename(aside, &self.target) {
                let aside = aside.display();
                tracing::error!("the earlier output is now {aside}: it cannot be moved back: {back}");
            }
        })
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
            IoKind::DirectoryNotEmpty | IoKind::NotADirectory | IoKind::AlreadyExists => {
                place::exists(&self.target)
            }
            _ => io("rename to", &self.target, &e),
        })?;
        self.hidden.stays = true;
        self.shared.published.store(true, Ordering::SeqCst);
        Ok(())
    }

    /// The output has its name.
    fn clean_up(&mut self, aside: Option<Aside>) {
        let kept = place::only_warn(sync_folder_of(&self.target), &self.target);
        self.forget_log();
        // What is replaced goes only when a power cut would not bring it back.
        if let Some(Aside(aside)) = aside.as_ref().filter(|_| kept) {
            place::only_warn(remove_at_once(aside, &self.target), &self.target);
        }
        place::only_warn(self.parents.keep(), &self.target);
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
    for _ in 1..MAX_TRIES {
        match try_to_check(target, overwrite) {
            // Somebody removes it at this moment.
            Err(e) if e.code() == "not_found" => {}
            done => return done,
        }
    }
    try_to_check(target, overwrite)
}

fn try_to_check(target: &Path, overwrite: bool) -> Result<Found> {
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
/// `not_found` when anything of it goes away meanwhile.
pub(in crate::store) fn check_ours(folder: &Path) -> Result<()> {
    for entry in entries(folder)? {
        let name = entry.file_name().unwrap_or_default();
        let known = match facts(&entry)? {
            facts if facts.is_file() => name == MASTER || (name == LOG && has_master(folder)),
            // A link to a folder is somebody else's doing.
            facts => facts.is_dir() && is_rendition(&entry)?,
        };
        if !known {
            let message =
                format!("{} is not part of an earlier output, so it is not overwritten", entry.display());
            return Err(place::not_ours(message));
        }
    }
    Ok(())
}

/// A process that was killed between the rename and the end of its log leaves that too.
fn has_master(folder: &Path) -> bool {
    facts(&folder.join(MASTER)).is_ok_and(|facts| facts.is_file())
}

fn is_rendition(folder: &Path) -> Result<bool> {
    let entries = entries(folder)?;
    for entry in &entries {
        if !is_our_name(entry) || !facts(entry)?.is_file() {
            return Ok(false);
        }
    }
    Ok(entries.iter().any(|entry| entry.file_name().is_some_and(|name| name == INDEX)))
}

/// Whether a path, without a slash in front, is that of something in a published folder: the multivariant
/// playlist, or a playlist, init segment or segment of a rendition. Nothing else in it is a player's.
pub fn is_part(path: &str) -> bool {
    let of_rendition = |(name, file): (&str, &str)| {
        !name.is_empty() && !name.starts_with('.') && !file.contains('/') && is_our_name(Path::new(file))
    };
    path == MASTER || path.split_once('/').is_some_and(of_rendition)
}

/// A playlist, an initialisation segment, or a number with a segment's extension.
fn is_our_name(path: &Path) -> bool {
    let name = path.file_name().map(|n| n.to_string_lossy()).unwrap_or_default();
    let digits = |stem: &str| !stem.is_empty() && stem.bytes().all(|b| b.is_ascii_digit());
    let stem = name.strip_suffix(".ts").or_else(|| name.strip_suffix(".m4s"));
    name == INDEX || name == INIT || stem.is_some_and(digits)
}

fn facts(path: &Path) -> Result<fs::Metadata> {
    fs::symlink_metadata(path).map_err(|e| io("look at", path, &e))
}
