//! What a failure of the database means to the person who has to act.
//!
//! What enters: errors of SQLite and of our own rules, and the path of the database. What leaves: the
//! one error of the crate, and whether the connection should be made anew. No SQL here.

use crate::base::error::{Error, ErrorKind, Stage};
use rusqlite::ErrorCode;
use std::path::Path;

/// The journal is about keeping what was said on the disk.
pub(super) const STAGE: Stage = Stage::Publish;
/// With less than this free to us, an I/O error is taken for a full disk: SQLite does not tell a file
/// that cannot grow from one that cannot be written.
const FULL_BYTES: u64 = 64 * 1024;

/// Why something in the database was not done.
#[derive(Debug)]
pub(super) enum Fault {
    /// SQLite or the disk under it failed.
    Database(rusqlite::Error),
    /// One of our own rules refused. Nothing is wrong with the journal.
    Refused(Error),
}

impl From<rusqlite::Error> for Fault {
    fn from(e: rusqlite::Error) -> Self {
        Self::Database(e)
    }
}

impl From<Error> for Fault {
    fn from(e: Error) -> Self {
        Self::Refused(e)
    }
}

impl Fault {
    /// Whether the node should say that its journal does not work.
    pub(super) fn is_of_the_database(&self) -> bool {
        matches!(self, Self::Database(_))
    }

    /// Whether a new connection may work where this one does not. A full disk or a lock that somebody
    /// holds says nothing against the connection.
    pub(super) fn wants_reopening(&self) -> bool {
        use ErrorCode::{CannotOpen, DatabaseCorrupt, NotADatabase, ReadOnly, SystemIoFailure};
        let Self::Database(e) = self else { return false };
        matches!(
            e.sqlite_error_code(),
            Some(SystemIoFailure | CannotOpen | DatabaseCorrupt | NotADatabase | ReadOnly)
        )
    }

    /// As the crate's error: what failed, on what, why, what to do.
    pub(super) fn told(self, database: &Path) -> Error {
        match self {
            Self::Database(e) => told(database, &e),
            Self::Refused(e) => e,
        }
    }
}

fn told(database: &Path, e: &rusqlite::Error) -> Error {
    match e.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => no_space(database, e),
        Some(ErrorCode::SystemIoFailure | ErrorCode::CannotOpen) if is_full(database) => {
            no_space(database, e)
        }
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => damaged(database, &e.to_string()),
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
            failed(ErrorKind::PermissionDenied, database, e, "check the owner and mode of the state folder")
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            failed(ErrorKind::Io, database, e, "another program has the journal open for writing: close it")
        }
        _ => failed(ErrorKind::Io, database, e, "check the disk that holds the state folder"),
    }
}

fn no_space(database: &Path, e: &rusqlite::Error) -> Error {
    let message = format!("no space to write to the journal {}: {e}", database.display());
    Error::new(ErrorKind::NoSpace, "no_space", STAGE, message)
        .hint("free some space on that file system; the node goes on by itself")
}

fn failed(kind: ErrorKind, database: &Path, e: &rusqlite::Error, hint: &str) -> Error {
    let message = format!("cannot use the journal {}: {e}", database.display());
    Error::new(kind, "journal_failed", STAGE, message).hint(hint)
}

/// The file is there and is not, or is no longer, a journal that can be relied on.
pub(super) fn damaged(database: &Path, why: &str) -> Error {
    let name = database.file_name().unwrap_or_default().to_string_lossy();
    let folder = database.parent().unwrap_or(database);
    let message = format!("the journal {} is damaged: {why}", database.display());
    Error::new(ErrorKind::Io, "journal_damaged", STAGE, message).hint(format!(
        "stop the node, move {name}, {name}-wal and {name}-shm out of {} and start it again: it begins with an \
         empty journal, and the jobs of the old one have to be sent again",
        folder.display()
    ))
}

/// Asked after [`super::Journal::close`].
pub(super) fn closed() -> Error {
    Error::new(ErrorKind::Io, "journal_closed", STAGE, "the journal is closed: the node is stopping")
        .hint("ask again when the node is back")
}

/// We asked the journal for something that makes no sense.
pub(super) fn internal(message: impl Into<String>) -> Error {
    Error::internal(STAGE, message)
}

fn is_full(database: &Path) -> bool {
    let folder = database.parent().unwrap_or(database);
    rustix::fs::statvfs(folder).is_ok_and(|s| s.f_bavail.saturating_mul(s.f_frsize) < FULL_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rusqlite::ffi;

    fn told_of(code: i32) -> Error {
        let e = rusqlite::Error::SqliteFailure(ffi::Error::new(code), None);
        Fault::from(e).told(Path::new("/state/journal.db"))
    }

    #[test]
    fn each_failure_has_the_kind_and_code_that_its_reader_needs() {
        for (code, kind, word) in [
            (ffi::SQLITE_FULL, ErrorKind::NoSpace, "no_space"),
            (ffi::SQLITE_IOERR_FSYNC, ErrorKind::Io, "journal_failed"),
            (ffi::SQLITE_BUSY, ErrorKind::Io, "journal_failed"),
            (ffi::SQLITE_READONLY, ErrorKind::PermissionDenied, "journal_failed"),
            (ffi::SQLITE_CORRUPT, ErrorKind::Io, "journal_damaged"),
            (ffi::SQLITE_NOTADB, ErrorKind::Io, "journal_damaged"),
        ] {
            let e = told_of(code);
            assert_eq!((e.kind(), e.code()), (kind, word), "{code}");
            assert!(e.message().contains("/state/journal.db") && e.hint_text().is_some(), "{e}");
        }
    }

    #[test]
    fn a_full_disk_and_a_refusal_leave_the_connection_alone() {
        let fault = |code: i32| Fault::from(rusqlite::Error::SqliteFailure(ffi::Error::new(code), None));
        assert!(!fault(ffi::SQLITE_FULL).wants_reopening());
        assert!(!fault(ffi::SQLITE_BUSY).wants_reopening());
        assert!(fault(ffi::SQLITE_IOERR_WRITE).wants_reopening());
        let refused = Fault::from(internal("no"));
        assert!(!refused.wants_reopening() && !refused.is_of_the_database());
    }
}
