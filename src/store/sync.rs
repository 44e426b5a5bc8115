//! Syncing written files behind the writers' backs.
//!
//! A sync waits for the disk, and a mux thread that waits makes its encoder wait. So files go to one
//! thread that syncs them while the next ones are made; whoever publishes waits for the rest.
//! What enters: open files that are complete. What leaves: the word that they are on the disk; with a
//! log, also as a line in it, written after the sync.

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
pub(super) struct Syncer(Mutex<Option<Running>>);

#[derive(Debug)]
struct Running {
    files: Sender<Waiting>,
    thread: JoinHandle<Result<()>>,
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
        Ok(Self(Mutex::new(Some(Running { files, thread }))))
    }

    /// Has a complete file synced. Fails with what went wrong with an earlier one.
    pub(super) fn sync(&self, file: File, path: PathBuf, line: Option<String>) -> Result<()> {
        let running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let files = running.as_ref().map(|running| running.files.clone());
        drop(running);
        match files {
            Some(files) if files.send((file, path, line)).is_ok() => Ok(()),
            // The thread has met an error, which the first to ask gets.
            Some(_) => self.finish().and_then(|()| Err(ended())),
            None => Err(ended()),
        }
    }

    /// Waits until all files are on the disk, and ends the thread.
    pub(super) fn finish(&self) -> Result<()> {
        let running = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(Running { files, thread }) = running else { return Ok(()) };
        drop(files);
        thread.join().unwrap_or_else(|_| Err(Error::internal(Stage::Publish, "the sync thread panicked")))
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
