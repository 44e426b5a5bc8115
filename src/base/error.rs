//! The one error of the crate: a kind, a stable code, the stage, and what to do next.
//!
//! What enters: the facts of a failure, where it happened. What leaves: one value that the command
//! line turns into an exit code and, later, the HTTP side into a status. A message is for the
//! person who has to act: what failed, on what, why; the hint says what to do. No libav here: its
//! numbers are translated in `av`.

use std::fmt;
use std::path::Path;

/// What sort of failure it is. Decides exit code, HTTP status and whether trying again can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The request itself makes no sense: options that contradict each other, bad values.
    Usage,
    /// The input or a path to it does not exist.
    NotFound,
    /// The operating system refused access.
    PermissionDenied,
    /// The source is not media, is damaged beyond use, or breaks a limit.
    BadSource,
    /// The request is clear, but the linked libav or this version cannot do it.
    Unsupported,
    /// The output is already there, or in use.
    Conflict,
    /// The disk (or quota) is full.
    NoSpace,
    /// Reading or writing failed for another reason.
    Io,
    /// Something did not answer in time.
    Timeout,
    /// What the work needs is not there now, and may be later: a device, a node that stops.
    Unavailable,
    /// The run was cancelled.
    Cancelled,
    /// We broke a promise of our own: a bug, or a codec that does not do as it says.
    Internal,
}

impl ErrorKind {
    /// The exit code of the command line (contract, section 1).
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Usage => 2,
            Self::Cancelled => 130,
            _ => 1,
        }
    }

    /// Whether the same work may succeed later without anybody changing the request.
    pub const fn retryable(self) -> bool {
        matches!(self, Self::NoSpace | Self::Io | Self::Timeout | Self::Unavailable)
    }
}

/// Where in the run it happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Reading the request and planning what each stage does.
    Plan,
    /// Opening the source and looking at its streams.
    Open,
    /// Reading packets.
    Demux,
    /// Decoding.
    Decode,
    /// Scaling, converting, resampling.
    Filter,
    /// Encoding.
    Encode,
    /// Putting samples into segments or a file.
    Mux,
    /// Writing, syncing and renaming what was made.
    Publish,
    /// Looking at the finished output.
    Verify,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plan => "plan",
            Self::Open => "open",
            Self::Demux => "demux",
            Self::Decode => "decode",
            Self::Filter => "filter",
            Self::Encode => "encode",
            Self::Mux => "mux",
            Self::Publish => "publish",
            Self::Verify => "verify",
        })
    }
}

/// A failure, with all that its reader needs. Cheap to move (one pointer).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error(Box<Inner>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Inner {
    kind: ErrorKind,
    code: &'static str,
    stage: Stage,
    message: String,
    hint: Option<String>,
    libav_log: Vec<String>,
}

/// Shorthand for results with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of `kind` at `stage`. `code` is stable, in `snake_case`, and documented in
    /// `docs/ERRORS.md`.
    pub fn new(kind: ErrorKind, code: &'static str, stage: Stage, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            code,
            stage,
            message: message.into(),
            hint: None,
            libav_log: Vec::new(),
        }))
    }

    /// The run was cancelled; `stage` noticed.
    pub fn cancelled(stage: Stage) -> Self {
        Self::new(ErrorKind::Cancelled, "cancelled", stage, "the run was cancelled")
    }

    /// A promise inside this program was broken.
    pub fn internal(stage: Stage, message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, "internal", stage, message)
    }

    /// An operating system error while doing `what` on `path`.
    pub fn io(stage: Stage, what: &str, path: &Path, err: &std::io::Error) -> Self {
        use std::io::ErrorKind as K;
        let (kind, code, hint) = match err.kind() {
            K::NotFound => (ErrorKind::NotFound, "not_found", "check the path"),
            K::PermissionDenied => (
                ErrorKind::PermissionDenied,
                "permission_denied",
                "check the owner and mode of the file and its folders",
            ),
            K::StorageFull | K::QuotaExceeded => {
                (ErrorKind::NoSpace, "no_space", "free some space or choose another output")
            }
            K::AlreadyExists => {
                (ErrorKind::Conflict, "output_exists", "choose another output or pass --overwrite")
            }
            K::ReadOnlyFilesystem => {
                (ErrorKind::PermissionDenied, "permission_denied", "the file system is mounted read-only")
            }
            K::TimedOut => (ErrorKind::Timeout, "timeout", "check the disk or network mount"),
            _ => (ErrorKind::Io, "io", "check the disk or network mount"),
        };
        Self::new(kind, code, stage, format!("cannot {what} {}: {err}", path.display())).hint(hint)
    }

    /// Says what to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// Puts the last lines that libav logged for this run beside the error.
    #[must_use]
    pub fn with_libav_log(mut self, lines: Vec<String>) -> Self {
        if self.0.libav_log.is_empty() {
            self.0.libav_log = lines;
        }
        self
    }

    /// What sort of failure it is.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The stable code.
    pub fn code(&self) -> &'static str {
        self.0.code
    }

    /// Where it happened.
    pub fn stage(&self) -> Stage {
        self.0.stage
    }

    /// What failed, on what, why.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// What to do next, where that is known.
    pub fn hint_text(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    /// Libav's last log lines for the run.
    pub fn libav_log(&self) -> &[String] {
        &self.0.libav_log
    }

    /// Whether this is a cancellation rather than a failure.
    pub fn is_cancelled(&self) -> bool {
        self.0.kind == ErrorKind::Cancelled
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.message)?;
        if let Some(hint) = &self.0.hint {
            write!(f, " ({hint})")?;
        }
        write!(f, " [{} at {}]", self.0.code, self.0.stage)
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_map_to_the_exit_codes_of_the_contract() {
        assert_eq!(ErrorKind::Usage.exit_code(), 2);
        assert_eq!(ErrorKind::Cancelled.exit_code(), 130);
        assert_eq!(ErrorKind::BadSource.exit_code(), 1);
    }

    #[test]
    fn a_full_disk_keeps_its_meaning() {
        let err = std::io::Error::from_raw_os_error(libc::ENOSPC);
        let err = Error::io(Stage::Publish, "write", Path::new("/out/1.ts"), &err);
        assert_eq!((err.kind(), err.code()), (ErrorKind::NoSpace, "no_space"));
        assert!(err.to_string().contains("/out/1.ts"));
    }

    #[test]
    fn the_first_log_stays() {
        let e = Error::internal(Stage::Mux, "x")
            .with_libav_log(vec!["a".into()])
            .with_libav_log(vec!["b".into()]);
        assert_eq!(e.libav_log(), ["a"]);
    }
}
