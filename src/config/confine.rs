//! Links that lead out: the one part of path mapping that looks at the disk.
//!
//! What enters: a path that the map has given, and the folder that it must stay in. What leaves: the
//! path with every link resolved, or a refusal. The answer is true of the moment: who can write into
//! a root can put a link there afterwards, so roots belong to people who are trusted not to.

use crate::base::error::{Error, ErrorKind, Result, Stage};
use std::ffi::OsString;
use std::io::ErrorKind as IoKind;
use std::path::{Component, Path, PathBuf};

/// `local` with every link resolved. What does not exist yet, such as an output, is resolved as far
/// as it does.
///
/// # Errors
/// `path_escapes` when that lies outside `root`, or ends in a link to nothing; `not_found` when there
/// is no `root`; `permission_denied` and `io` when a folder on the way cannot be looked at.
pub fn confine(local: &Path, root: &Path) -> Result<PathBuf> {
    let real_root = root.canonicalize().map_err(|e| Error::io(Stage::Open, "resolve the root", root, &e))?;
    if local.components().any(|part| part == Component::ParentDir) {
        return Err(escapes(local, root, "it leads upwards with `..`"));
    }
    let real = resolve(local, root)?;
    if real.starts_with(&real_root) {
        Ok(real)
    } else {
        Err(escapes(local, root, &format!("a link leads it to {}", real.display())))
    }
}

fn resolve(local: &Path, root: &Path) -> Result<PathBuf> {
    let mut here = local;
    let mut missing: Vec<OsString> = Vec::new();
    loop {
        match here.canonicalize() {
            Ok(real) => return Ok(missing.into_iter().rev().fold(real, |path, name| path.join(name))),
            Err(e) if e.kind() != IoKind::NotFound => {
                return Err(Error::io(Stage::Open, "resolve", here, &e));
            }
            // Writing to it would make the file that it points to, wherever that is.
            Err(_) if here.symlink_metadata().is_ok() => {
                return Err(escapes(local, root, &format!("{} is a link to nothing", here.display())));
            }
            Err(e) => match (here.parent(), here.file_name()) {
                (Some(parent), Some(name)) => {
                    missing.push(name.to_owned());
                    here = parent;
                }
                _ => return Err(Error::io(Stage::Open, "resolve", local, &e)),
            },
        }
    }
}

/// Whether a component begins with a dot: such files are neither listed nor played.
pub fn is_hidden(path: &Path) -> bool {
    path.components().any(|part| match part {
        Component::Normal(name) => name.as_encoded_bytes().starts_with(b"."),
        _ => false,
    })
}

fn escapes(local: &Path, root: &Path, why: &str) -> Error {
    let message = format!("{} is not inside {}: {why}", local.display(), root.display());
    Error::new(ErrorKind::Usage, "path_escapes", Stage::Open, message)
        .hint("name a file inside the root, or add the folder that the link leads to as a root of its own")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    /// A root with a file and a folder, something outside it, and links.
    fn tree() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().canonicalize().unwrap();
        let root = base.join("root");
        fs::create_dir_all(root.join("sub")).unwrap();
        fs::create_dir_all(base.join("root2")).unwrap();
        fs::write(root.join("film.mkv"), b"x").unwrap();
        fs::write(base.join("secret"), b"x").unwrap();
        symlink("film.mkv", root.join("inside")).unwrap();
        symlink("../secret", root.join("outside")).unwrap();
        symlink("../root2", root.join("sibling")).unwrap();
        symlink("/nowhere/at/all", root.join("dangling")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        (dir, root)
    }

    #[test]
    fn what_lies_inside_stays_with_its_links_resolved() {
        let (_dir, root) = tree();
        for (name, expected) in [
            ("film.mkv", "film.mkv"),
            ("inside", "film.mkv"),
            ("sub/new/film", "sub/new/film"),
            ("new", "new"),
            ("", ""),
        ] {
            assert_eq!(confine(&root.join(name), &root).unwrap(), root.join(expected), "{name}");
        }
    }

    #[test]
    fn what_leads_out_is_refused() {
        let (_dir, root) = tree();
        for name in ["outside", "sibling", "sibling/new/film", "dangling", "dangling/x", "sub/../film.mkv"] {
            let err = confine(&root.join(name), &root).unwrap_err();
            assert_eq!((err.code(), err.kind()), ("path_escapes", ErrorKind::Usage), "{name}: {err}");
        }
        assert_eq!(confine(&root.with_file_name("root2"), &root).unwrap_err().code(), "path_escapes");
        assert_eq!(confine(Path::new("/etc/passwd"), &root).unwrap_err().code(), "path_escapes");
    }

    #[test]
    fn a_root_that_is_a_link_is_a_root() {
        let (_dir, root) = tree();
        let link = root.with_file_name("link");
        symlink(&root, &link).unwrap();
        assert_eq!(confine(&link.join("film.mkv"), &link).unwrap(), root.join("film.mkv"));
    }

    #[test]
    fn what_cannot_be_looked_at_is_an_error_of_its_own() {
        let (_dir, root) = tree();
        assert_eq!(confine(&root.join("film.mkv"), &root.join("none")).unwrap_err().code(), "not_found");
        assert_eq!(confine(&root.join("film.mkv/x"), &root).unwrap_err().code(), "io");
        assert_eq!(confine(&root.join("loop"), &root).unwrap_err().code(), "io");
    }
}
