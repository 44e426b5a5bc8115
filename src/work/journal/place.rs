//! The state folder: made when it is missing, locked against a second node, watched.
//!
//! What enters: the path of the folder. What leaves: the path of the database in it, and the word
//! whether it is still the same file. What must not live here: SQL, or anything inside the database.

use super::fault::STAGE;
use crate::base::error::{Error, ErrorKind, Result};
use crate::base::fs::sync_folder_of;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

const DATABASE: &str = "journal.db";
const LOCK: &str = "lock";

/// Which file it is, whatever its name: device and inode.
pub(super) type FileId = (u64, u64);

/// The folder, locked for as long as this value lives.
#[derive(Debug)]
pub(super) struct Place {
    folder: PathBuf,
    database: PathBuf,
    lock: Lock,
}

#[derive(Debug)]
struct Lock {
    // Closing it gives the lock back, and so does the end of the process, however it ends.
    _file: File,
    id: FileId,
}

impl Place {
    /// Makes the folder where it is missing and locks it.
    ///
    /// # Errors
    /// `state_in_use` when another node holds it; what the file system refuses.
    pub(super) fn take(folder: &Path) -> Result<Self> {
        make(folder)?;
        Ok(Self { folder: folder.into(), database: folder.join(DATABASE), lock: Lock::take(folder)? })
    }

    /// The path of the database, whether it exists or not.
    pub(super) fn database(&self) -> &Path {
        &self.database
    }

    /// Which file the database is at present.
    ///
    /// # Errors
    /// `journal_failed` when it is not there.
    pub(super) fn database_id(&self) -> Result<FileId> {
        id_at(&self.database).map_err(|e| gone(&self.database, &e.to_string()))
    }

    /// Whether the database or the lock is no longer the file that was opened: the folder was removed,
    /// renamed, unmounted. What is then written goes to a file that nobody will find again.
    pub(super) fn has_moved(&self, database: FileId) -> bool {
        let is_still = |path: &Path, id: FileId| id_at(path).is_ok_and(|found| found == id);
        !is_still(&self.database, database) || !is_still(&self.folder.join(LOCK), self.lock.id)
    }

    /// Takes the lock anew where its file was replaced. Makes no folder: an empty mount point is not
    /// the state folder.
    ///
    /// # Errors
    /// `journal_failed` when the database is not there, `state_in_use`.
    pub(super) fn retake(&mut self) -> Result<()> {
        self.database_id()?;
        if id_at(&self.folder.join(LOCK)).ok() != Some(self.lock.id) {
            self.lock = Lock::take(&self.folder)?;
        }
        Ok(())
    }
}

impl Lock {
    fn take(folder: &Path) -> Result<Self> {
        let path = folder.join(LOCK);
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
        let file = file.map_err(|e| Error::io(STAGE, "open", &path, &e))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Err(in_use(folder)),
            Err(e) => return Err(Error::io(STAGE, "lock", &path, &e.into())),
        }
        let id = file.metadata().map(|m| (m.dev(), m.ino()));
        let id = id.map_err(|e| Error::io(STAGE, "look at", &path, &e))?;
        Ok(Self { _file: file, id })
    }
}

/// The journal that was open is no longer at its place.
pub(super) fn gone(database: &Path, why: &str) -> Error {
    let message = format!("the journal {} is not there any more: {why}", database.display());
    Error::new(ErrorKind::Io, "journal_failed", STAGE, message).hint(
        "bring the state folder back as it was, and the node goes on by itself; \
         or restart the node to begin with what lies there now",
    )
}

fn in_use(folder: &Path) -> Error {
    let message = format!("another node works on the state folder {}", folder.display());
    Error::new(ErrorKind::Conflict, "state_in_use", STAGE, message)
        .hint("stop that node first, or give this one a folder of its own with paths.state")
}

fn id_at(path: &Path) -> std::io::Result<FileId> {
    fs::metadata(path).map(|m| (m.dev(), m.ino()))
}

/// Makes the folder and those above it, so that they survive a power cut. One that exists keeps its
/// mode: whoever made it has decided.
fn make(folder: &Path) -> Result<()> {
    if folder.exists() && !folder.is_dir() {
        let message = format!("the state folder {} is not a folder", folder.display());
        let error = Error::new(ErrorKind::Usage, "journal_failed", STAGE, message);
        return Err(error.hint("name a folder with paths.state"));
    }
    let missing = |path: &&Path| !path.as_os_str().is_empty() && !path.exists();
    let missing: Vec<&Path> = folder.ancestors().take_while(missing).collect();
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|e| Error::io(STAGE, "make the state folder", folder, &e))?;
    missing.into_iter().try_for_each(sync_folder_of)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_missing_folder_is_made_for_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("a/b");
        let place = Place::take(&folder).unwrap();
        assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(place.database(), folder.join("journal.db"));
    }

    #[test]
    fn a_folder_that_exists_keeps_its_mode() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o750)).unwrap();
        Place::take(dir.path()).unwrap();
        assert_eq!(fs::metadata(dir.path()).unwrap().permissions().mode() & 0o777, 0o750);
    }

    #[test]
    fn the_second_is_refused_until_the_first_has_gone() {
        let dir = tempfile::tempdir().unwrap();
        let first = Place::take(dir.path()).unwrap();
        let e = Place::take(dir.path()).unwrap_err();
        assert_eq!((e.kind(), e.code()), (ErrorKind::Conflict, "state_in_use"));
        assert!(e.message().contains(&*dir.path().to_string_lossy()), "{e}");
        drop(first);
        Place::take(dir.path()).unwrap();
    }

    #[test]
    fn a_file_in_place_of_the_folder_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        fs::write(&path, b"").unwrap();
        let e = Place::take(&path).unwrap_err();
        assert_eq!((e.kind(), e.code()), (ErrorKind::Usage, "journal_failed"));
        assert!(e.message().contains(&*path.to_string_lossy()), "{e}");
    }

    #[test]
    fn a_replaced_database_or_lock_is_noticed_and_the_lock_is_taken_anew() {
        let dir = tempfile::tempdir().unwrap();
        let mut place = Place::take(dir.path()).unwrap();
        fs::write(place.database(), b"1").unwrap();
        let id = place.database_id().unwrap();
        assert!(!place.has_moved(id));
        fs::remove_file(dir.path().join(LOCK)).unwrap();
        assert!(place.has_moved(id));
        place.retake().unwrap();
        assert!(!place.has_moved(id));
        fs::rename(place.database(), dir.path().join("elsewhere")).unwrap();
        assert!(place.has_moved(id));
        assert_eq!(place.retake().unwrap_err().code(), "journal_failed");
    }
}
