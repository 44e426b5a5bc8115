//! One page of one folder, read from the disk. Blocks, for ever if the disk does.
//!
//! What enters: a root, a path in it as [`PathMap::inside`] gives it, a page. What leaves: entries by
//! name, links followed, nothing hidden and nothing from outside. A folder of a million names is read
//! without holding more than a page of them.
//!
//! [`PathMap::inside`]: crate::config::paths::PathMap::inside

use super::super::extract::Page;
use super::{Entry, EntryKind};
use crate::config::confine::{confine, is_hidden};
use jiff::Timestamp;
use std::collections::BTreeSet;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// A page.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) entries: Vec<Entry>,
    /// Where the next page begins; `None` on the last one.
    pub(super) next: Option<String>,
    /// Names that are not UTF-8.
    pub(super) skipped: u64,
}

/// Why there is none.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// There is nothing of that name, or it is hidden.
    Missing,
    /// A link leads out of the root.
    Escapes,
    /// It is something else.
    NotAFolder,
    /// The system does not let us.
    Denied,
    /// The disk says so, or nothing.
    Silent(String),
    /// There was no thread for it.
    NoThread(String),
    /// A bug.
    Broken,
}

/// Reads a page. Stops at the deadline if the disk is only slow.
pub(super) fn read(root: &Path, local: &Path, page: &Page, deadline: Instant) -> Result<Found, Trouble> {
    let real_root = root.canonicalize().map_err(|e| Trouble::Silent(format!("its folder: {e}")))?;
    let named = local.strip_prefix(root).map_err(|_| Trouble::Escapes)?;
    if is_hidden(named) {
        return Err(Trouble::Missing);
    }
    let real = resolve(local, root)?;
    if real.strip_prefix(&real_root).is_ok_and(is_hidden) {
        return Err(Trouble::Missing);
    }
    let folder = Folder { root, real_root: &real_root, real: &real, deadline };
    folder.page(page)
}

/// Where it really is. What lies outside is refused before anything is told of it, even whether it exists.
fn resolve(local: &Path, root: &Path) -> Result<PathBuf, Trouble> {
    let escapes = |path: &Path| confine(path, root).is_err_and(|e| e.code() == "path_escapes");
    if local.ancestors().take_while(|path| path.starts_with(root)).any(escapes) {
        return Err(Trouble::Escapes);
    }
    // `confine` takes what does not exist yet, and does not tell other refusals apart.
    local.canonicalize().map_err(|e| trouble(&e))?;
    confine(local, root).map_err(|_| Trouble::Escapes)
}

fn trouble(error: &io::Error) -> Trouble {
    match error.kind() {
        ErrorKind::NotFound => Trouble::Missing,
        ErrorKind::NotADirectory => Trouble::NotAFolder,
        ErrorKind::PermissionDenied => Trouble::Denied,
        _ => match error.raw_os_error() {
            // Links in a circle, and names that are longer than any can be.
            Some(libc::ELOOP | libc::ENAMETOOLONG) => Trouble::Missing,
            _ => Trouble::Silent(error.to_string()),
        },
    }
}

struct Folder<'a> {
    root: &'a Path,
    real_root: &'a Path,
    real: &'a Path,
    deadline: Instant,
}

impl Folder<'_> {
    fn page(&self, page: &Page) -> Result<Found, Trouble> {
        let mut found = Found::default();
        let mut after = page.after.clone();
        // One more than is shown tells whether there are more.
        let wanted = page.limit + 1;
        loop {
            let (names, skipped) = self.names(after.as_deref(), wanted)?;
            found.skipped = skipped;
            let last_round = names.len() < wanted;
            after = names.last().cloned();
            for name in names {
                self.check_time()?;
                found.entries.extend(self.entry(name));
            }
            // Where many are left out, what follows them moves up.
            if last_round || found.entries.len() >= wanted {
                break;
            }
        }
        if found.entries.len() > page.limit {
            found.entries.truncate(page.limit);
            found.next = found.entries.last().map(|entry| entry.name.clone());
        }
        Ok(found)
    }

    /// The first `wanted` names behind `after`, and how many in the folder are not UTF-8.
    fn names(&self, after: Option<&str>, wanted: usize) -> Result<(BTreeSet<String>, u64), Trouble> {
        let mut names = BTreeSet::new();
        let mut skipped = 0;
        for entry in fs::read_dir(self.real).map_err(|e| trouble(&e))? {
            self.check_time()?;
            let name = entry.map_err(|e| Trouble::Silent(e.to_string()))?.file_name();
            if name.as_encoded_bytes().starts_with(b".") {
                continue;
            }
            match name.into_string() {
                Err(_) => skipped += 1,
                Ok(name) if after.is_some_and(|after| name.as_str() <= after) => {}
                Ok(name) => {
                    names.insert(name);
                    if names.len() > wanted {
                        names.pop_last();
                    }
                }
            }
        }
        Ok((names, skipped))
    }

    /// `None` for what is left out, what has gone meanwhile included.
    fn entry(&self, name: String) -> Option<Entry> {
        let path = self.real.join(&name);
        let mut facts = path.symlink_metadata().ok()?;
        if facts.is_symlink() {
            let target = confine(&path, self.real_root).ok()?;
            if is_hidden(target.strip_prefix(self.real_root).ok()?) {
                return None;
            }
            facts = target.symlink_metadata().ok()?;
        }
        let (kind, size_bytes) = match (facts.is_file(), facts.is_dir()) {
            (true, _) => (EntryKind::File, Some(facts.len())),
            (_, true) => (EntryKind::Folder, None),
            _ => return None,
        };
        let mtime = facts.modified().ok().and_then(|time| Timestamp::try_from(time).ok());
        Some(Entry { name, kind, size_bytes, mtime })
    }

    fn check_time(&self) -> Result<(), Trouble> {
        if Instant::now() < self.deadline {
            return Ok(());
        }
        Err(Trouble::Silent(format!("{} takes too long", self.root.display())))
    }
}

#[cfg(test)]
mod tests;
