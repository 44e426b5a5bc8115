//! A stream that lies in a folder.
//!
//! What enters: the folder or a playlist in it; `file` addresses. What leaves: the bytes of files, or
//! parts of them. Only regular files are opened: nothing that a playlist names can make this wait.

use crate::base::cancel::Cancel;
use crate::base::error::{Error, ErrorKind, Result, Stage};
use crate::check::{Answer, Request, Source, Trouble, Url};
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The playlist to begin with: `path` itself, or in a folder `master.m3u8`, `index.m3u8`, or the only one.
pub(super) fn entry(path: &Path) -> Result<Url> {
    let meta = fs::metadata(path).map_err(|e| Error::io(Stage::Open, "open", path, &e))?;
    let playlist = if meta.is_dir() { in_folder(path)? } else { path.to_owned() };
    let whole = fs::canonicalize(&playlist).map_err(|e| Error::io(Stage::Open, "open", &playlist, &e))?;
    Url::from_file_path(&whole)
        .map_err(|()| Error::internal(Stage::Open, format!("{} makes no address", whole.display())))
}

fn in_folder(folder: &Path) -> Result<PathBuf> {
    for name in ["master.m3u8", "index.m3u8"] {
        let path = folder.join(name);
        if path.is_file() {
            return Ok(path);
        }
    }
    let entries = fs::read_dir(folder).map_err(|e| Error::io(Stage::Open, "read", folder, &e))?;
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let mut found: Vec<PathBuf> =
        paths.filter(|path| path.extension().is_some_and(|e| e == "m3u8")).collect();
    match (found.pop(), found.len()) {
        (Some(only), 0) => Ok(only),
        (None, _) => Err(no_playlist(folder, "it holds no .m3u8 file")),
        (Some(_), others) => {
            Err(no_playlist(folder, &format!("it holds {} playlists and no master.m3u8", others + 1)))
        }
    }
}

fn no_playlist(folder: &Path, why: &str) -> Error {
    let message = format!("no playlist in {}: {why}", folder.display());
    Error::new(ErrorKind::BadSource, "no_playlist", Stage::Open, message).hint("name the playlist itself")
}

/// Reads files.
#[derive(Debug)]
pub(super) struct Folder {
    cancel: Cancel,
}

impl Folder {
    pub(super) fn new(cancel: Cancel) -> Self {
        Self { cancel }
    }
}

impl Source for Folder {
    fn fetch(&mut self, request: &Request) -> Result<Answer, Trouble> {
        self.cancel.check(Stage::Verify).map_err(Trouble::Stop)?;
        if request.url.scheme() != "file" {
            return Err(Trouble::Failed("it leads away from the folder: check the stream over HTTP".into()));
        }
        let path = request.url.to_file_path();
        let path = path.map_err(|()| Trouble::Failed("its path makes no sense here".into()))?;
        match read(&path, request) {
            Ok(answer) => Ok(answer),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Answer { status: 404, ..Answer::default() }),
            Err(e) => Err(Trouble::Failed(format!("cannot be read: {e}"))),
        }
    }

    fn is_http(&self) -> bool {
        false
    }
}

fn read(path: &Path, request: &Request) -> io::Result<Answer> {
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let mut file = File::open(path)?;
    let slice =
        request.headers.iter().find(|(name, _)| *name == "range").and_then(|(_, range)| bounds(range));
    let (status, most) = match slice {
        Some((first, last)) => {
            file.seek(SeekFrom::Start(first))?;
            (206, (last - first).saturating_add(1))
        }
        None => (200, request.max_bytes.saturating_add(1)),
    };
    let mut body = Vec::new();
    file.take(most.min(request.max_bytes.saturating_add(1))).read_to_end(&mut body)?;
    let max = usize::try_from(request.max_bytes).unwrap_or(usize::MAX);
    let truncated = body.len() > max;
    body.truncate(max);
    Ok(Answer { status, body, truncated, first_byte: Duration::ZERO, http_1_1: true, headers: Vec::new() })
}

/// `bytes=first-last`, the one form in which parts of files are asked for.
fn bounds(range: &str) -> Option<(u64, u64)> {
    let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
    Some((first.parse().ok()?, last.parse().ok()?)).filter(|(first, last)| first <= last)
}
