//! An output that is one file.
//!
//! What enters: the wished path, and what libav's muxer has written to [`OutputFile::path`]. What
//! leaves: the file under its name, on the disk, or nothing at all.

use super::claim::{Claim, FileLog, claim_file, recover};
use super::place::{self, Found, Parents, rename_new};
use crate::base::error::{Error, ErrorKind, Result, Stage};
use crate::base::fs::{TempFile, sync_folder_of};
use std::fs::{self, File};
use std::io::ErrorKind as IoKind;
use std::path::{Path, PathBuf};

/// Names to try before giving up: others are taken by what killed runs have left.
const MAX_NAMES: usize = 1000;

/// A file in the making. Dropping it removes what there is of it.
#[derive(Debug)]
pub struct OutputFile {
    // Goes before the folders that it lies in.
    temp: TempFile,
    /// For a job: keeps others away.
    log: Option<FileLog>,
    parents: Parents,
    target: PathBuf,
    overwrite: bool,
}

impl OutputFile {
    /// Checks the place and creates an empty file under a temporary name beside `target`, making
    /// the folders above it where they are missing.
    ///
    /// # Errors
    /// `output_exists` without `overwrite`, `output_not_ours` for a folder or a device,
    /// `permission_denied`, `no_space`, and other refusals of the file system.
    pub fn create(target: &Path, overwrite: bool) -> Result<Self> {
        let target = place::resolve(target)?;
        check(&target, overwrite)?;
        let parents = Parents::of(&target)?;
        let temp = reserve(&target)?;
        Ok(Self { temp, log: None, parents, target, overwrite })
    }

    /// As [`OutputFile::create`] for a job, under the job's own temporary name: what a killed process
    /// of the same job has left there is replaced. Single files are always made from their beginning.
    /// Until it ends, no other process gets this place.
    ///
    /// # Errors
    /// As [`OutputFile::create`]; `output_in_use` when another process makes the same for the same job.
    pub fn create_for(claim: &Claim, target: &Path, overwrite: bool) -> Result<Self> {
        let target = place::resolve(target)?;
        let (mut parents, mut log) = claim_file(&claim.job, &target)?;
        recover(&claim.job, &target)?;
        check(&target, overwrite)?;
        log.take_over(claim, &target, &mut parents)?;
        let temp = TempFile::named(Claim::temp_beside(&claim.job, &target), &target);
        File::create_new(temp.path()).map_err(|e| place::io("create", temp.path(), &e))?;
        Ok(Self { temp, log: Some(log), parents, target, overwrite })
    }

    /// The temporary path to write to. It keeps the extension.
    pub fn path(&self) -> &Path {
        self.temp.path()
    }

    /// The file is complete: gives it the time by which it is known later ([`identity`]) and syncs it.
    /// The caller may then look at it before it publishes.
    ///
    /// # Errors
    /// `no_space` and `io` from bytes that the system had not written yet.
    ///
    /// [`identity`]: super::claim::identity
    pub fn finish(&self) -> Result<()> {
        let file = File::open(self.path()).map_err(|e| place::io("open", self.path(), &e))?;
        place::fix_time(&file);
        sync(&file, self.path())
    }

    /// Syncs the file, asks `may` as the last thing before anybody can see it, gives it its name, syncs
    /// the folder. Once the file has its name nothing is an error any more: what goes wrong then is in
    /// the log.
    ///
    /// # Errors
    /// That of `may`; `output_exists` when something has come to lie there meanwhile; `no_space` and
    /// `io` from bytes that the system had not written yet. Nothing is published then.
    pub fn publish(self, may: &dyn Fn() -> Result<()>) -> Result<()> {
        check(&self.target, self.overwrite)?;
        // Whether or not it was finished: what is on the disk already costs next to nothing.
        let file = File::open(self.path()).map_err(|e| place::io("open", self.path(), &e))?;
        sync(&file, self.path())?;
        drop(file);
        may()?;
        let rename = if self.overwrite { |from: &Path, to: &Path| fs::rename(from, to) } else { rename_new };
        rename(self.path(), &self.target).map_err(|e| match e.kind() {
            IoKind::AlreadyExists => place::exists(&self.target),
            _ => place::io("rename to", &self.target, &e),
        })?;
        let Self { temp, log, mut parents, target, .. } = self;
        place::only_warn(sync_folder_of(&target), &target);
        // Looks for its file in vain; while the log still keeps others from having one of that name.
        drop(temp);
        if let Some(log) = log {
            drop(log);
            place::only_warn(sync_folder_of(&target), &target);
        }
        place::only_warn(parents.keep(), &target);
        Ok(())
    }
}

fn sync(file: &File, path: &Path) -> Result<()> {
    file.sync_all().map_err(|e| place::io("sync", path, &e))
}

fn check(target: &Path, overwrite: bool) -> Result<()> {
    let refuse = |what: &str| Err(place::not_ours(format!("{} is {what}", target.display())));
    match place::look(target)? {
        Found::Nothing => Ok(()),
        Found::File if overwrite => Ok(()),
        Found::File => Err(place::exists(target)),
        Found::EmptyFolder | Found::Folder => refuse("a folder, but the output is a single file"),
        Found::Special => refuse("not a regular file"),
    }
}

/// Creates the temporary file exclusively: a process with the same number in another container may
/// use the same names on a shared disk.
fn reserve(target: &Path) -> Result<TempFile> {
    for _ in 0..MAX_NAMES {
        let temp = TempFile::beside(target)?;
        match File::create_new(temp.path()) {
            Ok(_) => return Ok(temp),
            // Not ours to remove, so its guard must not run.
            Err(e) if e.kind() == IoKind::AlreadyExists => std::mem::forget(temp),
            Err(e) => return Err(place::io("create", temp.path(), &e)),
        }
    }
    let message = format!("{MAX_NAMES} temporary files lie beside {}", target.display());
    Err(Error::new(ErrorKind::Conflict, "too_many_leftovers", Stage::Publish, message)
        .hint(format!("remove the files {}* there", crate::base::fs::TEMP_PREFIX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|e| e.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn published_it_is_there_and_dropped_it_never_was() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("a/b/film.mp4");
        let output = OutputFile::create(&target, false).unwrap();
        assert_eq!(output.path().extension().unwrap(), "mp4");
        assert_eq!(names(&dir.path().join("a/b")).len(), 1, "the temporary file is there");
        drop(output);
        assert_eq!(names(dir.path()), Vec::<String>::new(), "the folders went with it");
        let output = OutputFile::create(&target, false).unwrap();
        fs::write(output.path(), b"film").unwrap();
        output.publish(&|| Ok(())).unwrap();
        assert_eq!(
            (names(&dir.path().join("a/b")), fs::read(&target).unwrap()),
            (vec!["film.mp4".into()], b"film".into())
        );
    }

    #[test]
    fn a_folder_that_somebody_uses_meanwhile_stays() {
        let dir = tempfile::tempdir().unwrap();
        let output = OutputFile::create(&dir.path().join("a/b/film.mp4"), false).unwrap();
        fs::write(dir.path().join("a/other"), b"").unwrap();
        drop(output);
        assert_eq!(
            (names(dir.path()), names(&dir.path().join("a"))),
            (vec!["a".into()], vec!["other".into()])
        );
    }

    #[test]
    fn what_is_there_is_replaced_only_on_request_and_only_if_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("film.mkv");
        fs::write(&target, b"old").unwrap();
        let err = OutputFile::create(&target, false).unwrap_err();
        assert_eq!((err.kind(), err.code()), (ErrorKind::Conflict, "output_exists"));
        let output = OutputFile::create(&target, true).unwrap();
        fs::write(output.path(), b"new").unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"old", "until the end");
        output.publish(&|| Ok(())).unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"new");
        assert_eq!(OutputFile::create(dir.path(), true).unwrap_err().code(), "output_not_ours");
        assert_eq!(OutputFile::create(Path::new("/dev/null"), true).unwrap_err().code(), "output_not_ours");
    }

    #[test]
    fn a_file_that_came_in_between_is_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("film.mkv");
        let output = OutputFile::create(&target, false).unwrap();
        fs::write(&target, b"theirs").unwrap();
        assert_eq!(output.publish(&|| Ok(())).unwrap_err().code(), "output_exists");
        assert_eq!((fs::read(&target).unwrap(), names(dir.path()).len()), (b"theirs".into(), 1));
    }

    #[test]
    fn whoever_has_the_last_word_is_asked_once_and_a_no_publishes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        for (before, overwrite) in [(None, false), (Some(b"old"), true)] {
            let target = dir.path().join("a/film.mkv");
            if let Some(bytes) = before {
                fs::create_dir(dir.path().join("a")).unwrap();
                fs::write(&target, bytes).unwrap();
            }
            let (asked, no) = (std::cell::Cell::new(0), Error::internal(Stage::Publish, "no"));
            let output = OutputFile::create(&target, overwrite).unwrap();
            fs::write(output.path(), b"new").unwrap();
            let temp = output.path().to_owned();
            let said = output.publish(&|| {
                asked.set(asked.get() + 1);
                assert!(temp.exists() && fs::read(&target).ok() == before.map(|bytes| bytes.to_vec()));
                Err(no.clone())
            });
            assert_eq!((said, asked.get()), (Err(no.clone()), 1));
            assert_eq!(fs::read(&target).ok(), before.map(|bytes| bytes.to_vec()));
            let left = if before.is_some() { names(&dir.path().join("a")) } else { names(dir.path()) };
            assert_eq!(left, before.map_or(vec![], |_| vec!["film.mkv".to_owned()]));
        }
    }

    #[test]
    fn a_file_that_came_while_somebody_had_the_last_word_is_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("film.mkv");
        let output = OutputFile::create(&target, false).unwrap();
        let said = output.publish(&|| {
            fs::write(&target, b"theirs").unwrap();
            Ok(())
        });
        assert_eq!(said.unwrap_err().code(), "output_exists");
        assert_eq!((fs::read(&target).unwrap(), names(dir.path()).len()), (b"theirs".into(), 1));
    }

    #[test]
    fn a_link_is_followed() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("real")).unwrap();
        fs::write(dir.path().join("real/film.ts"), b"old").unwrap();
        let link = dir.path().join("link.ts");
        std::os::unix::fs::symlink("real/film.ts", &link).unwrap();
        let output = OutputFile::create(&link, true).unwrap();
        fs::write(output.path(), b"new").unwrap();
        output.publish(&|| Ok(())).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read(dir.path().join("real/film.ts")).unwrap(), b"new");
    }

    #[test]
    fn a_leftover_with_our_next_name_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("film.ts");
        // Whatever other tests take in the meantime, some of these are next.
        let next = TempFile::beside(&target).unwrap();
        let name = next.path().file_name().unwrap().to_string_lossy().into_owned();
        let number: u64 = name.split('-').nth(3).unwrap().parse().unwrap();
        let taken = |n: u64| dir.path().join(name.replace(&format!("-{number}-"), &format!("-{n}-")));
        (number..number + 200).for_each(|n| fs::write(taken(n), b"theirs").unwrap());
        let output = OutputFile::create(&target, false).unwrap();
        assert_eq!(names(dir.path()).len(), 201);
        drop(output);
        assert_eq!(names(dir.path()).len(), 200);
        assert!((number..number + 200).all(|n| fs::read(taken(n)).unwrap() == b"theirs"));
    }

    #[test]
    fn a_folder_that_nobody_may_make_is_named() {
        let err = OutputFile::create(Path::new("/proc/none/film.mp4"), false).unwrap_err();
        assert!(err.message().contains("/proc/none"), "{err}");
    }
}
