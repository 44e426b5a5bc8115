//! Where a job's input and output lie on this machine.
//!
//! What enters: a document and the path map. What leaves: paths, or what is wrong with the names in
//! the document. Only [`look`] and [`confined`] touch the disk, and are called where that may take long.

use crate::base::error::{Error, ErrorKind, Result, Stage};
use crate::config::confine::confine;
use crate::config::paths::{Area, Located, PathMap, RootId};
use crate::model::document::{DocumentFault, JobDocument, OutputFormat};
use std::fs;
use std::io::ErrorKind as IoKind;
use std::path::{Path, PathBuf};

/// Where a job reads and writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Places {
    /// The root that the input lies in; `None` for an earlier output.
    pub(super) root: Option<RootId>,
    /// Where the output goes.
    pub(super) target: PathBuf,
}

/// Maps the names of a document whose id is set: every fault at once.
pub(super) fn of(paths: &PathMap, document: &JobDocument) -> Result<Places, Vec<DocumentFault>> {
    let input = paths.to_local(&document.input).map_err(|e| fault("/input", &e));
    let target = target(paths, document).map_err(|e| fault("/output", &e));
    match (input, target) {
        (Ok(input), Ok(target)) => Ok(Places { root: root_of(&input), target }),
        (input, target) => Err([input.err(), target.err()].into_iter().flatten().collect()),
    }
}

/// The root that a mapped file lies in.
pub(super) fn root_of(located: &Located) -> Option<RootId> {
    match located.area {
        Area::Root(root) => Some(root),
        Area::Output => None,
    }
}

/// Where the output goes: where the document says, else under the job's id.
pub(in crate::work) fn target(paths: &PathMap, document: &JobDocument) -> Result<PathBuf> {
    let folder = paths.folder(Area::Output).unwrap_or(Path::new(""));
    let Some(uri) = &document.output else {
        let id = document.id.as_deref().unwrap_or_default();
        return Ok(folder.join(format!("{id}{}", extension(document.format))));
    };
    let target = paths.to_output(uri)?;
    let inside = target.strip_prefix(folder).unwrap_or(Path::new(""));
    if inside.as_os_str().is_empty() {
        return Err(refuse(uri, "is the output folder itself", "name a place inside it"));
    }
    // Hidden names are those of outputs in the making, and are not served.
    if inside.iter().any(|part| part.as_encoded_bytes().starts_with(b".")) {
        return Err(refuse(uri, "has a part that begins with a dot", "name it without"));
    }
    Ok(target)
}

/// Where an ended job's output lies, with its links resolved. May hang with the disk.
pub(super) fn published_target(paths: &PathMap, document: &JobDocument) -> Result<PathBuf> {
    let target = target(paths, document).map_err(|e| {
        let message = format!("the job's output lies outside of what this node has now: {}", e.message());
        Error::new(ErrorKind::Conflict, "output_not_ours", Stage::Publish, message)
            .hint("remove it by hand, or give the node its earlier paths.output again")
    })?;
    confined(paths, &target).map_err(|e| match e.kind() {
        ErrorKind::NotFound => silent(),
        _ => e,
    })
}

/// Something else lies in the place of a job's output.
pub(super) fn replaced(id: &str) -> Error {
    let message = format!("what lies in the place of the output of job {id} is not what the job published");
    Error::new(ErrorKind::Conflict, "output_not_ours", Stage::Publish, message)
        .hint("another job has replaced it, or somebody has changed it; remove it by hand if you mean it")
}

/// The file system of the output does not answer.
pub(super) fn silent() -> Error {
    let message = "the file system that outputs go to does not answer";
    Error::new(ErrorKind::Unavailable, "output_not_answering", Stage::Publish, message)
        .hint("check the disk or network mount of paths.output")
}

fn refuse(uri: &str, why: &str, hint: &str) -> Error {
    let message = format!("{} {why}", uri.escape_debug());
    Error::new(ErrorKind::Usage, "bad_output", Stage::Plan, message).hint(hint)
}

fn extension(format: OutputFormat) -> &'static str {
    match format {
        OutputFormat::Hls => "",
        OutputFormat::Mp4 => ".mp4",
        OutputFormat::Mkv => ".mkv",
        OutputFormat::Ts => ".ts",
    }
}

fn fault(pointer: &str, e: &Error) -> DocumentFault {
    let hint = e.hint_text().map(|hint| format!(" ({hint})")).unwrap_or_default();
    DocumentFault { pointer: pointer.into(), message: format!("{}{hint}", e.message()) }
}

/// Whether something lies at the target, once its links are resolved. May hang with the disk.
pub(super) fn look(paths: &PathMap, target: &Path) -> Result<bool> {
    let real = confined(paths, target)?;
    Ok(match fs::symlink_metadata(&real) {
        Ok(facts) if facts.is_dir() => {
            let mut entries =
                fs::read_dir(&real).map_err(|e| Error::io(Stage::Plan, "read the folder", &real, &e))?;
            entries.next().is_some()
        }
        Ok(_) => true,
        Err(e) if e.kind() == IoKind::NotFound => false,
        Err(e) => return Err(Error::io(Stage::Plan, "look at", &real, &e)),
    })
}

/// A path under the output with its links resolved. May hang with the disk.
pub(super) fn confined(paths: &PathMap, target: &Path) -> Result<PathBuf> {
    confine(target, paths.folder(Area::Output).unwrap_or(Path::new("")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::settings;
    use crate::model::document::parse;

    fn map() -> PathMap {
        let root = settings::Root { name: "m".into(), uri: "nas://media".into(), local: "/mnt/m".into() };
        let output = settings::Output { uri: "nas://out".into(), local: "/srv/out".into() };
        PathMap::new(&settings::Paths { roots: vec![root], output, state: "/srv/state".into() }).unwrap()
    }

    fn places(text: &str) -> Result<Places, Vec<DocumentFault>> {
        of(&map(), &parse(text.as_bytes()).unwrap())
    }

    #[test]
    fn the_output_is_where_the_document_says_or_under_the_id() {
        let target = |text| places(text).unwrap().target;
        let named = r#"{"id": "a", "input": "nas://media/f.mkv", "output": "nas://out/films/f"}"#;
        assert_eq!(target(named), Path::new("/srv/out/films/f"));
        assert_eq!(target(r#"{"id": "a", "input": "nas://media/f"}"#), Path::new("/srv/out/a"));
        let single = r#"{"id": "a", "input": "nas://media/f", "format": "mp4"}"#;
        assert_eq!(target(single), Path::new("/srv/out/a.mp4"));
        assert_eq!(places(single).unwrap().root, Some(RootId(0)));
        assert_eq!(places(r#"{"id": "a", "input": "nas://out/f"}"#).unwrap().root, None);
    }

    #[test]
    fn every_wrong_name_is_told_with_its_place() {
        let faults = places(r#"{"id": "a", "input": "nas://x/f", "output": "nas://media/f"}"#).unwrap_err();
        let pointers: Vec<_> = faults.iter().map(|fault| fault.pointer.as_str()).collect();
        assert_eq!(pointers, ["/input", "/output"]);
        for output in ["nas://out", "nas://out/", "nas://out/.hidden", "nas://out/a/.b/c", "nas://out/../x"] {
            let text = format!(r#"{{"id": "a", "input": "nas://media/f", "output": "{output}"}}"#);
            assert_eq!(places(&text).unwrap_err().len(), 1, "{output}");
        }
    }
}
