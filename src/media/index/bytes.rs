//! A few bytes here and there of a file that may hang: tables, and the beginnings of samples.

use crate::av::reader::{Ahead, ReadAhead};
use crate::base::cancel::Cancel;
use crate::base::error::{Error, Result, Stage};
use std::io::ErrorKind as IoKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Reads by offset, with little read that is not asked for.
pub(super) struct Bytes {
    reader: ReadAhead,
    path: PathBuf,
}

impl Bytes {
    /// Opens `path`, waiting at most `limit`.
    pub fn open(path: &Path, cancel: &Cancel, limit: Duration) -> Result<Self> {
        let reader = ReadAhead::open_with(path, cancel, limit, Ahead::LITTLE)?;
        Ok(Self { reader, path: path.to_owned() })
    }

    /// Size of the file.
    pub fn size(&self) -> u64 {
        self.reader.size()
    }

    /// `count` bytes from `offset` on; `None` where the file has fewer.
    pub fn exactly(&mut self, offset: u64, count: usize) -> Result<Option<Vec<u8>>> {
        let fits = offset.checked_add(count as u64).is_some_and(|end| end <= self.size());
        if !fits {
            return Ok(None);
        }
        let read = self.at_most(offset, count)?;
        Ok((read.len() == count).then_some(read))
    }

    /// Up to `count` bytes from `offset` on.
    pub fn at_most(&mut self, offset: u64, count: usize) -> Result<Vec<u8>> {
        self.reader.seek(offset).map_err(|e| self.failure(&e))?;
        let mut read = vec![0; count];
        let mut filled = 0;
        while let Some(room) = read.get_mut(filled..).filter(|room| !room.is_empty()) {
            match self.reader.read(room).map_err(|e| self.failure(&e))? {
                0 => break,
                n => filled += n,
            }
        }
        read.truncate(filled);
        Ok(read)
    }

    fn failure(&self, err: &std::io::Error) -> Error {
        if err.kind() == IoKind::Interrupted {
            return Error::cancelled(Stage::Plan);
        }
        Error::io(Stage::Plan, "read", &self.path, err)
    }
}
