//! A job's log: whose an unfinished output is, and that somebody is working on it.
//!
//! What enters: the path of the log, inside a job's hidden folder or beside its hidden file. What
//! leaves: the log, locked for as long as the value lives, however the process ends; its head, and
//! the place of the lines that follow it. What they say of segments is not known here.
//!
//! The lock is on the log and not on the media file: on SMB a lock keeps even its owner's other
//! descriptors from writing, and libav opens the file by itself.

use super::place::{io, remove_any};
use crate::base::error::{Error, ErrorKind, Result, Stage};
use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The log's name inside a folder. It goes after the folder got its name.
pub(super) const LOG: &str = ".done";
/// What is read of a log: half a million segments. What comes after is made again.
const MAX_BYTES: u64 = 64 << 20;
/// Tries to get hold of a log that others remove meanwhile.
const MAX_TRIES: usize = 100;

/// The first line.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Head {
    /// What decides over the bytes.
    pub fingerprint: u64,
    /// The job.
    #[serde(default)]
    pub job: String,
    /// How many folders above the target, counted from it upwards, were made for it.
    #[serde(default)]
    pub made_levels: usize,
}

/// An open log that nobody else works with.
#[derive(Debug)]
pub(super) struct JobLog {
    file: File,
    path: PathBuf,
}

impl JobLog {
    /// Opens the log at `path`, which is made where it is missing, and locks it. `None` when the folder
    /// that it is to lie in is not there. What is not a regular file is no log, and is removed.
    ///
    /// # Errors
    /// `output_in_use` when somebody else holds it; refusals of the file system.
    pub(super) fn take(path: PathBuf) -> Result<Option<Self>> {
        for _ in 0..MAX_TRIES {
            let file = match open(&path) {
                Ok(file) => file,
                Err(Errno::NOENT) => return Ok(None),
                Err(Errno::LOOP | Errno::ISDIR | Errno::NXIO) => {
                    remove_any(&path)?;
                    continue;
                }
                Err(e) => return Err(io("open", &path, &e.into())),
            };
            let facts = file.metadata().map_err(|e| io("look at", &path, &e))?;
            if !facts.is_file() {
                remove_any(&path)?;
                continue;
            }
            lock(&path, || flock(&file, FlockOperation::NonBlockingLockExclusive))?;
            // Whoever held it until now may have removed it: then it is not the one that others find.
            let found = fs::symlink_metadata(&path);
            if found.is_ok_and(|found| (found.dev(), found.ino()) == (facts.dev(), facts.ino())) {
                return Ok(Some(Self { file, path }));
            }
        }
        Err(in_use(&path))
    }

    /// The first line, if it is one.
    pub(super) fn head(&self) -> Option<Head> {
        let mut line = Vec::new();
        self.reader().ok()?.read_until(b'\n', &mut line).ok()?;
        serde_json::from_slice(&line).ok()
    }

    /// Whether anybody has begun it.
    pub(super) fn is_new(&self) -> bool {
        self.file.metadata().is_ok_and(|facts| facts.len() == 0)
    }

    /// Begins it anew.
    ///
    /// # Errors
    /// Refusals of the file system.
    pub(super) fn start(&self, head: &Head) -> Result<()> {
        let line = serde_json::to_string(head).map_err(|e| Error::internal(Stage::Publish, e.to_string()))?;
        self.cut(0)?;
        self.append(&(line + "\n"))
    }

    /// Calls `take` with each whole line after the head until it refuses one. Says how many bytes the
    /// head and the lines taken have: what follows is torn, or of no use.
    pub(super) fn read_lines(&self, mut take: impl FnMut(&[u8]) -> bool) -> std::io::Result<u64> {
        let (mut reader, mut line, mut bytes) = (self.reader()?, Vec::new(), 0);
        while reader.read_until(b'\n', &mut line)? > 0 {
            if !line.ends_with(b"\n") || (bytes > 0 && !take(&line)) {
                break;
            }
            bytes += line.len() as u64;
            line.clear();
        }
        Ok(bytes)
    }

    /// Drops what comes after `bytes` bytes.
    ///
    /// # Errors
    /// Refusals of the file system.
    pub(super) fn cut(&self, bytes: u64) -> Result<()> {
        self.file.set_len(bytes).map_err(|e| io("shorten", &self.path, &e))
    }

    /// Adds a line and has it on the disk.
    ///
    /// # Errors
    /// Refusals of the file system.
    pub(super) fn append(&self, line: &str) -> Result<()> {
        let written = (&self.file).write_all(line.as_bytes()).and_then(|()| self.file.sync_all());
        written.map_err(|e| io("write", &self.path, &e))
    }

    /// Another descriptor to append through, as long as the log lives.
    ///
    /// # Errors
    /// Too many open files.
    pub(super) fn writer(&self) -> Result<File> {
        self.file.try_clone().map_err(|e| io("open again", &self.path, &e))
    }

    /// Removes it, at `path` where its folder has another name by now. It is closed thereafter, since a
    /// network file system keeps removed open files in the folder under other names.
    ///
    /// # Errors
    /// Refusals of the file system. What is not there is no error.
    pub(super) fn remove_at(self, path: &Path) -> Result<()> {
        remove_any(path).map(|_| ())
    }

    fn reader(&self) -> std::io::Result<impl BufRead + '_> {
        (&self.file).seek(SeekFrom::Start(0))?;
        Ok(BufReader::new((&self.file).take(MAX_BYTES)))
    }
}

impl Drop for JobLog {
    fn drop(&mut self) {
        // Closing alone would leave it locked for as long as a program that is being started at this
        // moment, by whomever, has its copies of our descriptors.
        let _ = flock(&self.file, FlockOperation::NonBlockingUnlock);
    }
}

/// Neither follows a link nor waits for the other end of a pipe.
fn open(path: &Path) -> Result<File, Errno> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::APPEND | OFlags::CLOEXEC;
    let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    rustix::fs::open(path, flags, Mode::from_raw_mode(0o666)).map(File::from)
}

/// Judges what `take` says of the lock. A file system without locks is gone on with: it does not refuse
/// a second process, but that is an accident, and refusing every job would not be.
fn lock(path: &Path, mut take: impl FnMut() -> Result<(), Errno>) -> Result<()> {
    loop {
        return match take() {
            Ok(()) => Ok(()),
            Err(Errno::INTR) => continue,
            // SMB says that access is refused.
            Err(Errno::WOULDBLOCK | Errno::ACCESS) => Err(in_use(path)),
            Err(Errno::NOLCK | Errno::OPNOTSUPP | Errno::NOSYS) => {
                tracing::debug!("{}: this file system knows no locks", path.display());
                Ok(())
            }
            Err(e) => Err(io("lock", path, &e.into())),
        };
    }
}

/// Somebody else makes the same output for the same job at this moment.
fn in_use(path: &Path) -> Error {
    let message = format!("another process works on this job's output: {} is locked", path.display());
    Error::new(ErrorKind::Conflict, "output_in_use", Stage::Publish, message).hint(
        "wait until it has ended or stop it; two nodes must not have the same job, nor one state folder",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    fn head() -> Head {
        Head { fingerprint: u64::MAX, job: "film-1".into(), made_levels: 2 }
    }

    fn take(path: &Path) -> JobLog {
        JobLog::take(path.to_owned()).unwrap().unwrap()
    }

    #[test]
    fn what_was_written_is_read_and_a_torn_end_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(LOG);
        let log = take(&path);
        assert!(log.is_new() && log.head().is_none());
        log.start(&head()).unwrap();
        log.append("one\n").unwrap();
        log.append("two\nthr").unwrap();
        assert!(!log.is_new());
        let mut lines = Vec::new();
        let bytes = log.read_lines(|line| {
            lines.push(String::from_utf8(line.to_vec()).unwrap());
            true
        });
        assert_eq!((log.head(), lines), (Some(head()), vec!["one\n".to_owned(), "two\n".to_owned()]));
        log.cut(bytes.unwrap()).unwrap();
        log.append("three\n").unwrap();
        assert!(fs::read_to_string(&path).unwrap().ends_with("}\none\ntwo\nthree\n"));
        let first = log.read_lines(|line| line == b"one\n").unwrap();
        assert_eq!(first as usize, fs::read_to_string(&path).unwrap().find("two").unwrap());
        log.start(&Head::default()).unwrap();
        assert_eq!(
            log.read_lines(|_| panic!("nothing follows")).unwrap(),
            fs::metadata(&path).unwrap().len()
        );
    }

    #[test]
    fn a_head_of_an_earlier_version_is_one() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(LOG), "{\"fingerprint\":7}\n").unwrap();
        let expected = Head { fingerprint: 7, ..Head::default() };
        assert_eq!(take(&dir.path().join(LOG)).head(), Some(expected));
    }

    #[test]
    fn no_more_is_read_than_the_bound() {
        let dir = tempfile::tempdir().unwrap();
        let log = take(&dir.path().join(LOG));
        log.start(&head()).unwrap();
        log.append("one\n").unwrap();
        // A hole: no space is taken, and no line ever ends.
        log.cut(1 << 40).unwrap();
        let mut lines = 0;
        let bytes = log.read_lines(|_| {
            lines += 1;
            true
        });
        let whole = serde_json::to_string(&head()).unwrap().len() as u64 + 5;
        assert_eq!((lines, bytes.unwrap()), (1, whole));
    }

    #[test]
    fn it_is_somebodys_until_they_close_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(LOG);
        let log = take(&path);
        let e = JobLog::take(path.clone()).unwrap_err();
        assert_eq!((e.kind(), e.code()), (ErrorKind::Conflict, "output_in_use"));
        assert!(e.hint_text().is_some() && e.message().contains(LOG), "{e}");
        // A copy of the descriptor, as a program has that is being started.
        let copy = log.writer().unwrap();
        drop(log);
        let log = take(&path);
        drop(copy);
        assert_eq!(JobLog::take(path.clone()).unwrap_err().code(), "output_in_use");
        log.remove_at(&path).unwrap();
        assert!(!path.exists());
        assert!(JobLog::take(dir.path().join("gone").join(LOG)).unwrap().is_none());
    }

    #[test]
    fn a_log_that_was_removed_while_it_was_waited_for_is_not_taken() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(LOG);
        let (one, two) = (take(&path), path.clone());
        let waiting = std::thread::spawn(move || {
            let until = Instant::now() + Duration::from_secs(10);
            loop {
                match JobLog::take(two.clone()) {
                    Err(_) if Instant::now() < until => {}
                    other => return other.unwrap().unwrap(),
                }
            }
        });
        one.remove_at(&path).unwrap();
        let got = waiting.join().unwrap().file.metadata().unwrap().ino();
        assert_eq!(fs::metadata(&path).unwrap().ino(), got);
    }

    #[test]
    fn links_pipes_and_folders_are_no_logs() {
        let dir = tempfile::tempdir().unwrap();
        let (path, other) = (dir.path().join(LOG), dir.path().join("other"));
        fs::write(&other, b"mine").unwrap();
        std::os::unix::fs::symlink(&other, &path).unwrap();
        take(&path).start(&head()).unwrap();
        assert_eq!(fs::read(&other).unwrap(), b"mine");
        fs::remove_file(&path).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, Mode::from_raw_mode(0o600)).unwrap();
        take(&path).start(&head()).unwrap();
        fs::remove_file(&path).unwrap();
        fs::create_dir_all(path.join("below")).unwrap();
        take(&path).start(&head()).unwrap();
        assert_eq!(take(&path).head(), Some(head()));
    }

    #[test]
    fn where_there_are_no_locks_it_goes_on_without() {
        let judge = |answer: Result<(), Errno>| lock(Path::new("log"), || answer).map_err(|e| e.code());
        assert_eq!(judge(Ok(())), Ok(()));
        for none in [Errno::NOLCK, Errno::OPNOTSUPP, Errno::NOSYS] {
            assert_eq!(judge(Err(none)), Ok(()));
        }
        for theirs in [Errno::WOULDBLOCK, Errno::ACCESS] {
            assert_eq!(judge(Err(theirs)), Err("output_in_use"));
        }
        assert_eq!(judge(Err(Errno::IO)), Err("io"));
        let mut interrupted = [Err(Errno::INTR), Ok(())].into_iter();
        assert_eq!(lock(Path::new("log"), || interrupted.next().unwrap()), Ok(()));
    }
}
