//! Syncing written files behind the writers' backs.
//!
//! A sync waits for the disk, and a mux thread that waits makes its encoder wait. So files go to one
//! thread that syncs them while the next ones are made; whoever publishes waits for the rest.
//! What enters: open files that are complete. What leaves: the word that they are on the disk; with a
//! log, also as a line in it, written after the sync. Everybody who asks after a failure is told the
//! first one: what the disk said, not what came of it.

use super::place::io;
use crate::base::error::{Error, Result, Stage};
use crossbeam_channel::{Sender, bounded};
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::thread::{self, JoinHandle};

/// Files that may wait: bounds the open descriptors. A disk that cannot keep up slows the run down.
const WAITING_FILES: usize = 16;

/// A file, its path for messages, and its line in the log.
type Waiting = (File, PathBuf, Option<String>);

/// The thread, and the way to it.
#[derive(Debug)]
pub(super) struct Syncer(Mutex<State>);

#[derive(Debug)]
enum State {
    /// Takes files.
    Running { files: Sender<Waiting>, thread: JoinHandle<Result<()>> },
    /// Takes none any more, and this is how it went.
    Ended(Result<()>),
}

impl Syncer {
    /// Starts the thread.
    pub(super) fn start(mut log: Option<File>) -> Result<Self> {
        let (files, waiting) = bounded::<Waiting>(WAITING_FILES);
        let work = move || {
            waiting.into_iter().try_for_each(|(file, path, line)| {
                file.sync_all().map_err(|e| io("sync", &path, &e))?;
                match (&mut log, line) {
                    (Some(log), Some(line)) => {
                        log.write_all(line.as_bytes()).map_err(|e| io("log the sync of", &path, &e))
                    }
                    _ => Ok(()),
                }
            })
        };
        let thread = thread::Builder::new().name("sync".into()).spawn(work);
        let thread = thread
            .map_err(|e| Error::internal(Stage::Publish, format!("cannot start a sync thread: {e}")))?;
        Ok(Self(Mutex::new(State::Running { files, thread })))
    }

    /// Has a complete file synced. Fails with what went wrong with an earlier one.
    pub(super) fn sync(&self, file: File, path: PathBuf, line: Option<String>) -> Result<()> {
        let files = match &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            State::Running { files, .. } => files.clone(),
            State::Ended(how) => return how.clone().and_then(|()| Err(ended())),
        };
        // Without the lock: with a full queue this waits for the disk.
        match files.send((file, path, line)) {
            Ok(()) => Ok(()),
            Err(_) => self.finish().and_then(|()| Err(ended())),
        }
    }

    /// Waits until all files are on the disk, and ends the thread. Says the same when asked again.
    pub(super) fn finish(&self) -> Result<()> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Who asks meanwhile waits at the lock for the answer.
        let how = match std::mem::replace(&mut *state, State::Ended(Err(ended()))) {
            State::Ended(how) => how,
            State::Running { files, thread } => {
                drop(files);
                let panicked = |_| Err(Error::internal(Stage::Publish, "the sync thread panicked"));
                thread.join().unwrap_or_else(panicked)
            }
        };
        *state = State::Ended(how.clone());
        how
    }
}

impl Drop for Syncer {
    fn drop(&mut self) {
        // What is about to be thrown away need not be on the disk, but its files have to be closed.
        let _ = self.finish();
    }
}

fn ended() -> Error {
    Error::internal(Stage::Publish, "a file came after the output was closed")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::error::ErrorKind;

    /// What cannot be synced: a device says that it makes no sense.
    fn unsyncable() -> (File, PathBuf) {
        (File::open("/dev/null").unwrap(), "0.ts".into())
    }

    #[test]
    fn the_disks_own_error_is_told_to_everybody() {
        let syncer = Syncer::start(None).unwrap();
        let first = (0..1000).find_map(|_| {
            let (file, path) = unsyncable();
            syncer.sync(file, path, None).err()
        });
        let first = first.expect("somebody is told");
        assert_eq!((first.kind(), first.code()), (ErrorKind::Io, "io"));
        assert!(first.message().starts_with("cannot sync 0.ts"), "{first}");
        for _ in 0..3 {
            let (file, path) = unsyncable();
            assert_eq!(syncer.sync(file, path, None), Err(first.clone()));
            assert_eq!(syncer.finish(), Err(first.clone()));
        }
    }

    #[test]
    fn all_threads_that_write_at_once_are_told_the_same() {
        for _ in 0..100 {
            let syncer = Syncer::start(None).unwrap();
            let told = |_: usize| loop {
                let (file, path) = unsyncable();
                if let Err(e) = syncer.sync(file, path, None) {
                    return e.code();
                }
            };
            let all: Vec<_> = std::thread::scope(|scope| {
                let threads: Vec<_> = (0..4).map(|n| scope.spawn(move || told(n))).collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            assert_eq!(all, ["io"; 4]);
        }
    }

    #[test]
    fn a_full_disk_under_the_log_is_one() {
        let log = File::options().write(true).open("/dev/full").unwrap();
        let syncer = Syncer::start(Some(log)).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let file = File::create(dir.path().join("0.ts")).unwrap();
        syncer.sync(file, "0.ts".into(), Some("line\n".into())).unwrap();
        let e = syncer.finish().unwrap_err();
        assert_eq!((e.kind(), e.code()), (ErrorKind::NoSpace, "no_space"));
        assert_eq!(syncer.finish(), Err(e));
    }

    #[test]
    fn a_late_file_is_refused() {
        let syncer = Syncer::start(None).unwrap();
        syncer.finish().unwrap();
        let (file, path) = unsyncable();
        assert_eq!(syncer.sync(file, path, None), Err(ended()));
        assert_eq!(syncer.finish(), Ok(()));
    }
}
