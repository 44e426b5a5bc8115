//! A file of an output, opened. Blocks, for ever if the disk does.
//!
//! What enters: the output folder, what a job has published or is making, a path in it. What leaves: an
//! open file with its validators, or why there is none. Every part of the path below the output is opened
//! from the one above it, and none of them may be a link: nothing leads out, and nothing can be exchanged
//! between the look and the opening.

use super::super::media::Content;
use super::super::media::disk::can_tell;
use super::super::media::passage::Passage;
use crate::config::confine::confine;
use crate::store::claim::identity;
use crate::store::hls_dir::is_part;
use crate::work::board::PublishedOutput;
use bytes::Bytes;
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path};
use std::sync::Arc;
use std::time::SystemTime;

/// The longest playlist. A day of two-second segments has 2 MB.
const MAX_TEXT_BYTES: u64 = 16 << 20;

/// Why there is none.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// There is nothing of that name, or nothing that is served.
    Missing,
    /// Something else lies there than what the job has published, or nothing.
    Replaced,
    /// The system does not let us.
    Denied,
    /// The disk says so, or nothing.
    Silent(String),
    /// There was no thread for it.
    NoThread(String),
    /// A bug.
    Broken,
}

/// What is in it.
#[derive(Clone, Debug)]
pub(super) enum Inside {
    /// Text is read at once.
    Text(Bytes),
    /// Media is read while it is sent.
    Media {
        file: Arc<File>,
        len: u64,
        /// Whether it lies on a local disk.
        local: bool,
    },
}

impl Inside {
    /// It for the connection with this passage.
    pub(super) fn content(self, passage: &Passage) -> Content {
        match self {
            Self::Text(bytes) => Content::Bytes(bytes),
            Self::Media { file, len, local } => {
                Content::File { file, len, passage: local.then(|| passage.clone()) }
            }
        }
    }
}

/// A file that can be sent.
#[derive(Clone, Debug)]
pub(super) struct Opened {
    pub(super) content: Inside,
    pub(super) etag: String,
    pub(super) modified: Option<SystemTime>,
}

/// A file of what a job has published, if that still lies there. `text`: it is read at once.
pub(super) fn published(
    root: &Path,
    output: &PublishedOutput,
    path: &str,
    text: bool,
) -> Result<Opened, Trouble> {
    let PublishedOutput { target, identity: expected, single } = output;
    let is_named = if *single { target.file_name().is_some_and(|name| name == path) } else { is_part(path) };
    if !is_named {
        return Err(Trouble::Missing);
    }
    let real = confine(target, root).map_err(|e| match e.code() {
        "path_escapes" => Trouble::Replaced,
        // The whole output may be on a disk that is not mounted.
        _ => Trouble::Silent(e.message().to_owned()),
    })?;
    if identity(&real).as_ref() != Some(expected) {
        return Err(lost(root));
    }
    let (folder, below) = match single {
        // The place itself may be a link, which `confine` has followed.
        true => (real.parent(), real.file_name().map(Path::new)),
        false => (Some(real.as_path()), Some(Path::new(path))),
    };
    let (Some(folder), Some(below)) = (folder, below) else { return Err(Trouble::Missing) };
    opened(beneath(folder, below)?, text)
}

/// A file of `bytes` in a folder that is being made below the output.
pub(super) fn growing(root: &Path, file: &Path, bytes: u64) -> Result<Opened, Trouble> {
    // A rendition's folder in that of the output, which is hidden as long as it is being made.
    let folder = file.parent().and_then(Path::parent).ok_or(Trouble::Missing)?;
    let real = confine(folder, root).map_err(|_| Trouble::Missing)?;
    let below = file.strip_prefix(folder).map_err(|_| Trouble::Missing)?;
    let opened = opened(beneath(&real, below)?, false)?;
    match &opened.content {
        Inside::Media { len, .. } if *len != bytes => Err(Trouble::Missing),
        _ => Ok(opened),
    }
}

/// Whether the output is gone, or the disk that it was on.
fn lost(root: &Path) -> Trouble {
    match root.metadata() {
        Ok(facts) if facts.is_dir() => Trouble::Replaced,
        Ok(_) => Trouble::Silent("the output folder is no folder".into()),
        Err(e) => Trouble::Silent(format!("the output folder: {e}")),
    }
}

/// Opens a file below a folder, one part after the other, following no link.
fn beneath(folder: &Path, below: &Path) -> Result<File, Trouble> {
    let inner = OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let place = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut here: OwnedFd = openat(CWD, folder, place, Mode::empty()).map_err(trouble)?;
    let mut parts = below.components().peekable();
    while let Some(part) = parts.next() {
        let Component::Normal(name) = part else { return Err(Trouble::Missing) };
        if name.as_encoded_bytes().starts_with(b".") {
            return Err(Trouble::Missing);
        }
        // A pipe without a writer would hold whoever opens it.
        let flags = match parts.peek() {
            Some(_) => OFlags::PATH | OFlags::DIRECTORY | inner,
            None => OFlags::RDONLY | OFlags::NONBLOCK | inner,
        };
        here = openat(&here, name, flags, Mode::empty()).map_err(trouble)?;
    }
    Ok(File::from(here))
}

fn trouble(error: Errno) -> Trouble {
    let error = io::Error::from(error);
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => Trouble::Missing,
        ErrorKind::PermissionDenied => Trouble::Denied,
        _ => match error.raw_os_error() {
            // Links, names that are longer than any can be, sockets.
            Some(libc::ELOOP | libc::ENAMETOOLONG | libc::ENXIO) => Trouble::Missing,
            _ => Trouble::Silent(error.to_string()),
        },
    }
}

fn opened(mut file: File, text: bool) -> Result<Opened, Trouble> {
    let silent = |e: io::Error| Trouble::Silent(e.to_string());
    let facts = file.metadata().map_err(silent)?;
    if !facts.is_file() {
        return Err(Trouble::Missing);
    }
    let (len, inode) = (facts.len(), facts.ino());
    let etag = format!("\"{len:x}-{:x}.{:x}-{inode:x}\"", facts.mtime(), facts.mtime_nsec());
    let content = if text && len <= MAX_TEXT_BYTES {
        let mut text = Vec::new();
        (&mut file).take(len).read_to_end(&mut text).map_err(silent)?;
        Inside::Text(text.into())
    } else {
        let local = can_tell(&file);
        Inside::Media { file: Arc::new(file), len, local }
    };
    Ok(Opened { content, etag, modified: facts.modified().ok() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    /// An output folder with a published film, a single file, and things that nobody may have.
    fn tree() -> (tempfile::TempDir, PublishedOutput, PublishedOutput) {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("out");
        let film = root.join("film");
        fs::create_dir_all(film.join("720p")).unwrap();
        fs::create_dir_all(dir.path().join("elsewhere")).unwrap();
        for (name, text) in
            [("master.m3u8", "#EXTM3U\n"), ("720p/index.m3u8", "#EXTM3U\n"), ("720p/0.ts", "media")]
        {
            fs::write(film.join(name), text).unwrap();
        }
        fs::write(film.join(".done"), "log").unwrap();
        fs::write(root.join("film.mp4"), "file").unwrap();
        fs::write(dir.path().join("elsewhere/1.ts"), "secret").unwrap();
        symlink(dir.path().join("elsewhere/1.ts"), film.join("720p/1.ts")).unwrap();
        symlink("0.ts", film.join("720p/2.ts")).unwrap();
        symlink(dir.path().join("elsewhere"), film.join("480p")).unwrap();
        fs::create_dir(film.join("720p/3.ts")).unwrap();
        rustix::fs::mknodat(CWD, film.join("720p/4.ts"), rustix::fs::FileType::Fifo, Mode::RUSR, 0).unwrap();
        let output = |target: std::path::PathBuf, single| {
            let identity = identity(&target).unwrap();
            PublishedOutput { target, identity, single }
        };
        (dir, output(film, false), output(root.join("film.mp4"), true))
    }

    fn text_of(opened: Opened) -> String {
        match opened.content {
            Inside::Text(bytes) => String::from_utf8(bytes.to_vec()).unwrap(),
            Inside::Media { mut file, len, .. } => {
                let mut text = String::new();
                file.read_to_string(&mut text).unwrap();
                assert_eq!(text.len() as u64, len);
                text
            }
        }
    }

    #[test]
    fn what_was_published_is_opened_and_no_link_is_followed() {
        let (dir, film, file) = tree();
        let root = dir.path().join("out");
        assert_eq!(text_of(published(&root, &film, "master.m3u8", true).unwrap()), "#EXTM3U\n");
        assert_eq!(text_of(published(&root, &film, "720p/0.ts", false).unwrap()), "media");
        assert_eq!(text_of(published(&root, &file, "film.mp4", false).unwrap()), "file");
        for nothing in [
            "720p/1.ts",
            "720p/2.ts",
            "720p/3.ts",
            "720p/4.ts",
            "720p/5.ts",
            "480p/1.ts",
            ".done",
            "../film.mp4",
        ] {
            let told = published(&root, &film, nothing, false).map(|_| ());
            assert_eq!(told, Err(Trouble::Missing), "{nothing}");
        }
        assert_eq!(published(&root, &file, "film", false).map(|_| ()), Err(Trouble::Missing));
    }

    #[test]
    fn what_lies_there_instead_is_not_the_jobs() {
        let (dir, film, file) = tree();
        let root = dir.path().join("out");
        fs::write(film.target.join("master.m3u8"), "another").unwrap();
        fs::remove_file(&file.target).unwrap();
        let told = |output, path| published(&root, output, path, false).map(|_| ());
        assert_eq!(told(&film, "720p/0.ts"), Err(Trouble::Replaced));
        assert_eq!(told(&file, "film.mp4"), Err(Trouble::Replaced));
        // A link out in the place of the output.
        symlink(dir.path().join("elsewhere"), &file.target).unwrap();
        assert_eq!(told(&file, "film.mp4"), Err(Trouble::Replaced));
        // The disk is not there.
        fs::rename(&root, dir.path().join("away")).unwrap();
        assert!(matches!(told(&film, "720p/0.ts"), Err(Trouble::Silent(_))));
    }

    #[test]
    fn a_growing_file_is_as_long_as_was_said_and_its_tag_is_its_own() {
        let (dir, ..) = tree();
        let root = dir.path().join("out");
        fs::rename(root.join("film"), root.join(".hidden")).unwrap();
        let at = |name: &str| root.join(".hidden/720p").join(name);
        let first = growing(&root, &at("0.ts"), 5).unwrap();
        assert_eq!(first.etag, growing(&root, &at("0.ts"), 5).unwrap().etag);
        assert_eq!(growing(&root, &at("0.ts"), 6).map(|_| ()), Err(Trouble::Missing));
        assert_eq!(growing(&root, &at("1.ts"), 6).map(|_| ()), Err(Trouble::Missing), "a link");
        fs::remove_file(at("0.ts")).unwrap();
        fs::write(at("0.ts"), "other").unwrap();
        assert_ne!(first.etag, growing(&root, &at("0.ts"), 5).unwrap().etag);
    }
}
