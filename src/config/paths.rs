//! Which file on this machine a name on the network means, and back.
//!
//! What enters: the roots and the output of the settings, then names from job documents and local
//! paths. What leaves: local paths that lie inside what they were mapped by, with the place that they
//! belong to. Pure: links are followed by [`super::confine`], before a file is opened.
//!
//! The longest matching name wins, on whole components. A plain local path under a root is taken too,
//! but only where no root is called so by the network. `to_uri` gives only names that `to_local` maps
//! back to the same file: a folder that another root's name hides has none.

use super::name::{Name, Refusal};
use super::settings::{self, Root};
use crate::base::error::{Error, ErrorKind, Result, Stage};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

/// A root, by its place in the settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RootId(pub usize);

/// What a path belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Area {
    /// A root: may be read.
    Root(RootId),
    /// The output: may be written.
    Output,
}

/// A name, mapped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    /// What it belongs to.
    pub area: Area,
    /// Where it lies on this machine. Links are not looked at yet.
    pub local: PathBuf,
}

/// The map. Cheap to share, never changes.
#[derive(Clone, Debug)]
pub struct PathMap {
    places: Vec<Place>,
}

#[derive(Clone, Debug)]
struct Place {
    area: Area,
    /// As the URL calls it; empty for the output.
    title: String,
    name: Name,
    uri: String,
    local: PathBuf,
}

impl PathMap {
    /// The map of these places.
    ///
    /// # Errors
    /// `bad_config` for a URI that is none; settings that were loaded have no such.
    pub fn new(paths: &settings::Paths) -> Result<Self> {
        let output = Place::new(Area::Output, "", &paths.output.uri, &paths.output.local)?;
        let root = |(place, root): (usize, &Root)| {
            Place::new(Area::Root(RootId(place)), &root.name, &root.uri, &root.local)
        };
        let roots = paths.roots.iter().enumerate().map(root);
        Ok(Self { places: std::iter::once(Ok(output)).chain(roots).collect::<Result<_>>()? })
    }

    /// The file that `uri` means: by the name of a root or the output, or by a local path inside one.
    ///
    /// # Errors
    /// `path_not_mapped` when it begins with none of the known names; `path_escapes` when it holds
    /// `..`, a NUL, or a separator hidden by its encoding.
    pub fn to_local(&self, uri: &str) -> Result<Located> {
        let name = match Name::parse(uri) {
            Ok(name) => name,
            Err(Refusal::NoName) => return Err(self.not_mapped(uri)),
            Err(Refusal::Escapes(why)) => return Err(escapes(uri, why)),
        };
        self.by_name(&name).or_else(|| self.by_local(&name)).ok_or_else(|| self.not_mapped(uri))
    }

    /// The file under the output that `uri` means.
    ///
    /// # Errors
    /// Those of [`Self::to_local`], and `path_not_mapped` for what lies in a root: those are read only.
    pub fn to_output(&self, uri: &str) -> Result<PathBuf> {
        let located = self.to_local(uri)?;
        if located.area == Area::Output {
            return Ok(located.local);
        }
        let output = self.place(Area::Output).map_or("", |place| place.uri.as_str());
        let message = format!("{} lies in a root, and outputs go under {output}", uri.escape_debug());
        Err(Error::new(ErrorKind::Usage, "path_not_mapped", Stage::Plan, message)
            .hint("name a place under paths.output.uri, or leave the output out"))
    }

    /// How the network calls the file at `local`; `None` where it has no name.
    pub fn to_uri(&self, local: &Path) -> Option<String> {
        let mut places: Vec<_> = self.places.iter().filter(|place| local.starts_with(&place.local)).collect();
        places.sort_by_key(|place| std::cmp::Reverse(place.local.components().count()));
        places.into_iter().find_map(|place| {
            let uri = place.name.write(normal_parts(local.strip_prefix(&place.local).ok()?)?)?;
            let back = self.to_local(&uri).ok()?;
            (back.local == local).then_some(uri)
        })
    }

    /// The root that URLs call `title`.
    pub fn root(&self, title: &str) -> Option<RootId> {
        self.places.iter().find_map(|place| match place.area {
            Area::Root(id) if place.title == title => Some(id),
            _ => None,
        })
    }

    /// The folder on this machine that must not be left; what [`super::confine::confine`] wants.
    pub fn folder(&self, area: Area) -> Option<&Path> {
        self.place(area).map(|place| place.local.as_path())
    }

    /// The file at `relative`, decoded already, inside a root or the output.
    ///
    /// # Errors
    /// `path_escapes` for `..` and NUL; `path_not_mapped` for a root that there is not.
    pub fn inside(&self, area: Area, relative: &str) -> Result<PathBuf> {
        let folder = self.folder(area).ok_or_else(|| self.not_mapped(relative))?;
        let mut local = folder.to_owned();
        for part in relative.split('/').filter(|part| !part.is_empty() && *part != ".") {
            match part {
                ".." => return Err(escapes(relative, "leads upwards with `..`")),
                _ if part.contains('\0') => return Err(escapes(relative, "holds a NUL")),
                _ => local.push(part),
            }
        }
        Ok(local)
    }

    fn place(&self, area: Area) -> Option<&Place> {
        self.places.iter().find(|place| place.area == area)
    }

    /// The output stands first, so that it wins where a root has the same name.
    fn by_name(&self, name: &Name) -> Option<Located> {
        let found = self.places.iter().filter_map(|place| Some((place, place.name.rest_of(name)?)));
        let (place, rest) = longest(found, |place| place.name.parts().len())?;
        Some(place.located(rest))
    }

    fn by_local(&self, name: &Name) -> Option<Located> {
        let path = plain_path(name)?;
        let found =
            self.places.iter().filter(|place| path.starts_with(&place.local)).map(|place| (place, ()));
        let (place, ()) = longest(found, |place| place.local.components().count())?;
        Some(Located { area: place.area, local: path })
    }

    fn not_mapped(&self, uri: &str) -> Error {
        let known: Vec<_> = self.places.iter().map(|place| place.uri.as_str()).collect();
        let message =
            format!("{} begins with no name that this node knows: {}", uri.escape_debug(), known.join(", "));
        Error::new(ErrorKind::Usage, "path_not_mapped", Stage::Plan, message)
            .hint("use one of these names, or add a root to paths.roots in the configuration")
    }
}

impl Place {
    fn new(area: Area, title: &str, uri: &str, local: &Path) -> Result<Self> {
        let name = Name::parse(uri).map_err(|_| {
            let message = format!("{} is no name that a network gives to a folder", uri.escape_debug());
            Error::new(ErrorKind::Usage, "bad_config", Stage::Plan, message)
                .hint("begin it with a scheme such as nas://, with \\\\host\\share, or with /")
        })?;
        // So that paths made of components compare equal to it.
        let local = local.components().filter(|part| *part != Component::CurDir).collect();
        Ok(Self { area, title: title.into(), name, uri: uri.into(), local })
    }

    fn located(&self, rest: &[OsString]) -> Located {
        let mut local = self.local.clone();
        // A part may not be absolute, or `push` would leave the folder: `Name` lets no slash through.
        local.extend(rest);
        Located { area: self.area, local }
    }
}

/// The first of those with the greatest length.
fn longest<'a, T>(
    found: impl Iterator<Item = (&'a Place, T)>,
    length: impl Fn(&Place) -> usize,
) -> Option<(&'a Place, T)> {
    found.reduce(|best, next| if length(next.0) > length(best.0) { next } else { best })
}

fn plain_path(name: &Name) -> Option<PathBuf> {
    let mut path = PathBuf::from("/");
    path.extend(name.parts());
    name.is_plain().then_some(path)
}

/// The components of a relative path; `None` where it is not that plain.
fn normal_parts(path: &Path) -> Option<Vec<&OsStr>> {
    let parts = path.components().map(|part| match part {
        Component::Normal(part) if !part.as_bytes().contains(&0) => Some(part),
        _ => None,
    });
    parts.collect()
}

fn escapes(uri: &str, why: &str) -> Error {
    let message = format!("{} {why}", uri.escape_debug());
    Error::new(ErrorKind::Usage, "path_escapes", Stage::Plan, message)
        .hint("name the file by its own path, without detours and without encoded separators")
}

#[cfg(test)]
mod tests;
