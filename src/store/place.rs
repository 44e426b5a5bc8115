//! The place of an output: what lies there now, and the folders above it.
//!
//! What enters: the path that somebody asked for. What leaves: the path without links, refusals, and
//! folders that go away again when nothing is published into them. No media, no writing of content.

use crate::base::error::{Error, ErrorKind, Result, Stage};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use std::fs::{self, File};
use std::io::ErrorKind as IoKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What lies where an output is to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Nothing.
    Nothing,
    /// A folder with nothing in it.
    EmptyFolder,
    /// A folder with something in it.
    Folder,
    /// A regular file.
    File,
    /// A device, a pipe, a socket: nothing that a rename may replace.
    Special,
}

/// Looks, following links.
pub(super) fn look(path: &Path) -> Result<Found> {
    let facts = match fs::metadata(path) {
        Ok(facts) => facts,
        Err(e) if e.kind() == IoKind::NotFound => return Ok(Found::Nothing),
        Err(e) => return Err(io("look at", path, &e)),
    };
    if facts.is_file() {
        return Ok(Found::File);
    }
    if !facts.is_dir() {
        return Ok(Found::Special);
    }
    match fs::read_dir(path) {
        Ok(mut entries) => Ok(if entries.next().is_none() { Found::EmptyFolder } else { Found::Folder }),
        // It has just gone.
        Err(e) if e.kind() == IoKind::NotFound => Ok(Found::Nothing),
        Err(e) => Err(io("read the folder", path, &e)),
    }
}

/// The path that a rename has to go to: a link, `.` or `..` stands for what it leads to, since
/// replacing the link itself would leave the old output elsewhere.
pub(super) fn resolve(path: &Path) -> Result<PathBuf> {
    let is_link = fs::symlink_metadata(path).is_ok_and(|facts| facts.is_symlink());
    if is_link || path.file_name().is_none() {
        return fs::canonicalize(path).or_else(|e| leads_nowhere(path).ok_or_else(|| io("follow", path, &e)));
    }
    Ok(path.to_owned())
}

/// Where a link leads whose end is missing: it may have been put aside while it was being replaced.
fn leads_nowhere(link: &Path) -> Option<PathBuf> {
    let end = link.parent()?.join(fs::read_link(link).ok()?);
    let name = end.file_name()?;
    let missing = fs::symlink_metadata(&end).is_err_and(|e| e.kind() == IoKind::NotFound);
    missing.then(|| Some(fs::canonicalize(end.parent()?).ok()?.join(name)))?
}

/// Removes whatever has that name, without following it. Says whether there was anything.
pub(super) fn remove_any(path: &Path) -> Result<bool> {
    let removed = match fs::symlink_metadata(path) {
        Ok(facts) if facts.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(e) => Err(e),
    };
    match removed {
        Ok(()) => Ok(true),
        // Or somebody else has just done it.
        Err(e) if e.kind() == IoKind::NotFound => Ok(false),
        Err(e) => Err(io("remove", path, &e)),
    }
}

/// Renames to a name that nobody has; `AlreadyExists` when somebody has. Where the file system cannot
/// refuse by itself, it is looked for just before.
pub(super) fn rename_new(from: &Path, to: &Path) -> std::io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => rename_if_free(from, to),
        done => done.map_err(Into::into),
    }
}

fn rename_if_free(from: &Path, to: &Path) -> std::io::Result<()> {
    if fs::symlink_metadata(to).is_ok() {
        return Err(IoKind::AlreadyExists.into());
    }
    fs::rename(from, to)
}

/// Gives a finished file a time that every server can keep and nobody changes any more. Left to
/// themselves, some set one when the file is closed, and tell another until then. Where that is not
/// allowed, the file keeps the time that it has.
pub(super) fn fix_time(file: &File) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = UNIX_EPOCH + Duration::from_micros(u64::try_from(now.as_micros()).unwrap_or(0));
    if let Err(e) = file.set_modified(now) {
        tracing::debug!("the time of a finished file cannot be set: {e}");
    }
}

/// The output has its name: what fails after that is told, and changes nothing. Says whether it went well.
pub(super) fn only_warn(after: Result<()>, target: &Path) -> bool {
    if let Err(e) = &after {
        tracing::warn!("{} is published, but not all that comes after that went well: {e}", target.display());
    }
    after.is_ok()
}

/// Refuses a folder on which another file system is mounted: it cannot be replaced by a rename.
pub(super) fn refuse_mount_point(folder: &Path) -> Result<()> {
    let device = |path: &Path| fs::metadata(path).map(|facts| facts.dev());
    let above = fs::canonicalize(folder).ok().and_then(|real| real.parent().map(Path::to_owned));
    let Some(above) = above else {
        return Err(bad_output(format!("{} is the root of a file system", folder.display())));
    };
    let here = device(folder).map_err(|e| io("look at", folder, &e))?;
    let there = device(&above).map_err(|e| io("look at", &above, &e))?;
    if here == there {
        return Ok(());
    }
    Err(bad_output(format!("another file system is mounted on {}", folder.display())))
}

fn bad_output(message: String) -> Error {
    Error::new(ErrorKind::Usage, "bad_output", Stage::Publish, message)
        .hint("name a folder inside it that does not exist yet")
}

/// The folders above an output that were missing. Removed on drop unless kept.
#[derive(Debug, Default)]
pub(super) struct Parents {
    /// From the top down.
    made: Vec<PathBuf>,
    kept: bool,
}

impl Parents {
    /// Makes the missing folders above `path`.
    pub(super) fn of(path: &Path) -> Result<Self> {
        let mut parents = Self::default();
        let missing: Vec<&Path> = path.ancestors().skip(1).take_while(|p| is_missing(p)).collect();
        for folder in missing.into_iter().rev() {
            match fs::create_dir(folder) {
                Ok(()) => parents.made.push(folder.to_owned()),
                // Somebody else has just made it: theirs to keep.
                Err(e) if e.kind() == IoKind::AlreadyExists && folder.is_dir() => {}
                Err(e) => return Err(io("make the folder", folder, &e)),
            }
        }
        Ok(parents)
    }

    /// How many there are, counted from `path` upwards without a gap.
    pub(super) fn levels(&self, path: &Path) -> usize {
        let pairs = path.ancestors().skip(1).zip(self.made.iter().rev());
        pairs.take_while(|(above, made)| above == made).count()
    }

    /// Takes over the `levels` folders above `path` that an earlier process of the same job has made.
    pub(super) fn adopt(&mut self, path: &Path, levels: usize) {
        let above = path.ancestors().skip(1).take(levels).filter(|p| p.file_name().is_some());
        let mut above: Vec<_> = above.map(Path::to_owned).collect();
        above.reverse();
        if above.len() > self.made.len() {
            self.made = above;
        }
    }

    /// Keeps them, and has their names survive a power cut.
    pub(super) fn keep(&mut self) -> Result<()> {
        self.kept = true;
        self.made.iter().try_for_each(|folder| crate::base::fs::sync_folder_of(folder))
    }
}

impl Drop for Parents {
    fn drop(&mut self) {
        // Only empty folders go: what another run has put there in the meantime stays.
        for folder in self.made.iter().rev().filter(|_| !self.kept) {
            let _ = fs::remove_dir(folder);
        }
    }
}

/// The empty path is the current folder, which is there.
fn is_missing(path: &Path) -> bool {
    !path.as_os_str().is_empty() && fs::symlink_metadata(path).is_err_and(|e| e.kind() == IoKind::NotFound)
}

/// What came of a system call on an output.
pub(super) fn io(what: &str, path: &Path, err: &std::io::Error) -> Error {
    Error::io(Stage::Publish, what, path, err)
}

/// Something is there that nobody allowed us to replace.
pub(super) fn exists(path: &Path) -> Error {
    let message = format!("{} exists already", path.display());
    Error::new(ErrorKind::Conflict, "output_exists", Stage::Publish, message)
        .hint("choose another output or pass --overwrite")
}

/// Something is there that we replace for nobody.
pub(super) fn not_ours(message: String) -> Error {
    Error::new(ErrorKind::Conflict, "output_not_ours", Stage::Publish, message)
        .hint("choose another output, or remove it yourself")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rename_to_a_new_name_replaces_nothing_whatever_the_file_system_can_do() {
        for rename in [rename_new, rename_if_free] {
            let dir = tempfile::tempdir().unwrap();
            let [one, two, folder] = ["one", "two", "folder"].map(|name| dir.path().join(name));
            fs::write(&one, b"1").unwrap();
            rename(&one, &two).unwrap();
            fs::write(&one, b"2").unwrap();
            fs::create_dir(&folder).unwrap();
            for taken in [&two, &folder] {
                assert_eq!(rename(&one, taken).unwrap_err().kind(), IoKind::AlreadyExists);
                assert_eq!(rename(&folder, &two).unwrap_err().kind(), IoKind::AlreadyExists);
            }
            let missing = dir.path().join("missing");
            assert_eq!(rename(&missing, &dir.path().join("x")).unwrap_err().kind(), IoKind::NotFound);
            assert_eq!((fs::read(&one).unwrap(), fs::read(&two).unwrap()), (b"2".into(), b"1".into()));
        }
    }
}
