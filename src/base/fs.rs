//! Atomic publishing: write under a temporary name on the same file system, sync, rename.
//!
//! What enters: bytes or a finished temporary file, and the name it is to have. What leaves: a file
//! that is whole or not there. Temporary names start with [`TEMP_PREFIX`], so that a later start
//! can tell our leftovers from other people's files. See `docs/DURABILITY.md` for what is synced.

use super::error::{Error, Result, Stage};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// How the temporary names that we make begin.
pub const TEMP_PREFIX: &str = ".sprocket-tmp-";

static SEQUENCE: AtomicU64 = AtomicU64::new(0);

/// A file under a temporary name beside its final one. Removed on drop unless published.
#[derive(Debug)]
pub struct TempFile {
    path: PathBuf,
    target: PathBuf,
    published: bool,
}

impl TempFile {
    /// Reserves a temporary name in the folder of `target` (nothing is created yet). The target's
    /// extension is kept, since libav chooses by it.
    pub fn beside(target: &Path) -> Result<Self> {
        let name = target.file_name().ok_or_else(|| {
            let message = format!("{} is not a file name", target.display());
            Error::new(super::error::ErrorKind::Usage, "bad_output", Stage::Publish, message)
        })?;
        let n = SEQUENCE.fetch_add(1, Ordering::Relaxed);
        let temp = format!("{TEMP_PREFIX}{}-{n}-{}", std::process::id(), name.to_string_lossy());
        Ok(Self { path: target.with_file_name(temp), target: target.to_owned(), published: false })
    }

    /// The same under a temporary name of the caller's choice, in the folder of `target`.
    pub fn named(path: PathBuf, target: &Path) -> Self {
        Self { path, target: target.to_owned(), published: false }
    }

    /// The temporary path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Syncs the file's bytes, gives it its final name and syncs the folder, so that the name
    /// survives a power cut too.
    pub fn publish(mut self) -> Result<()> {
        let file = File::open(&self.path).map_err(|e| self.io("open", &e))?;
        file.sync_all().map_err(|e| self.io("sync", &e))?;
        drop(file);
        fs::rename(&self.path, &self.target)
            .map_err(|e| Error::io(Stage::Publish, "rename to", &self.target, &e))?;
        self.published = true;
        sync_folder_of(&self.target)
    }

    fn io(&self, what: &str, err: &std::io::Error) -> Error {
        Error::io(Stage::Publish, what, &self.path, err)
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        if !self.published {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Writes `bytes` to `target` atomically: the file is whole or not there.
pub fn publish_bytes(target: &Path, bytes: &[u8]) -> Result<()> {
    let temp = TempFile::beside(target)?;
    let written = File::create(temp.path()).and_then(|mut f| f.write_all(bytes));
    written.map_err(|e| Error::io(Stage::Publish, "write", target, &e))?;
    temp.publish()
}

/// Syncs the folder that holds `path`.
pub fn sync_folder_of(path: &Path) -> Result<()> {
    let folder = match path.parent() {
        Some(p) if !p.as_os_str().is_empty() => p,
        _ => Path::new("."),
    };
    sync_folder(folder)
}

/// Syncs a folder: the names in it survive a power cut.
pub fn sync_folder(folder: &Path) -> Result<()> {
    File::open(folder)
        .and_then(|f| f.sync_all())
        .map_err(|e| Error::io(Stage::Publish, "sync the folder", folder, &e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_published_file_is_whole_and_leaves_nothing_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("a.m3u8");
        publish_bytes(&target, b"one").unwrap();
        publish_bytes(&target, b"two").unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"two");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn an_unpublished_file_goes_away() {
        let dir = tempfile::tempdir().unwrap();
        let temp = TempFile::beside(&dir.path().join("x.mp4")).unwrap();
        assert_eq!(temp.path().extension().unwrap(), "mp4");
        fs::write(temp.path(), b"half").unwrap();
        drop(temp);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_missing_folder_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let err = publish_bytes(&dir.path().join("no/such/a.ts"), b"x").unwrap_err();
        assert_eq!(err.code(), "not_found");
    }
}
