//! Whose an unfinished output is: so that what a killed process left can be found, continued, or
//! removed, and nothing else is ever touched.

use crate::base::error::Result;
use crate::base::fs::TEMP_PREFIX;
use crate::store::place::io;
use std::fs;
use std::io::ErrorKind as IoKind;
use std::path::{Path, PathBuf};

/// Extensions of single files.
const FILES: [&str; 3] = ["mp4", "mkv", "ts"];

/// The job that an output is made for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The job's id: safe as part of a file name.
    pub job: String,
    /// Everything that decides over the bytes, boiled down: source, plan, versions. What another
    /// plan has made is thrown away, not continued.
    pub fingerprint: u64,
}

impl Claim {
    /// The hidden name beside `target` under which the job's output is made. Ids hold no `~`, so no two
    /// jobs share a name. A single file's extension is kept, since libav chooses by it.
    pub(super) fn temp_beside(job: &str, target: &Path) -> PathBuf {
        let extension = target.extension().map(|e| e.to_string_lossy()).unwrap_or_default();
        let extension = if FILES.contains(&&*extension) { format!(".{extension}") } else { String::new() };
        target.with_file_name(format!("{TEMP_PREFIX}job-{job}~{extension}"))
    }

    /// The name under which the job puts the output aside that it replaces.
    pub(super) fn aside_beside(job: &str, target: &Path) -> PathBuf {
        target.with_file_name(format!("{TEMP_PREFIX}old-{job}~"))
    }
}

/// Removes what a job that will not go on has left beside its target. Says whether there was anything.
///
/// # Errors
/// Refusals of the file system.
pub fn discard(job: &str, target: &Path) -> Result<bool> {
    let target = super::place::resolve(target)?;
    let temp = Claim::temp_beside(job, &target);
    let removed = match fs::symlink_metadata(&temp) {
        Ok(facts) if facts.is_dir() => fs::remove_dir_all(&temp),
        Ok(_) => fs::remove_file(&temp),
        Err(e) if e.kind() == IoKind::NotFound => return Ok(false),
        Err(e) => Err(e),
    };
    removed.map_err(|e| io("remove", &temp, &e))?;
    Ok(true)
}

/// Removes a published output: a folder that is one of ours, or a single file.
///
/// # Errors
/// `output_not_ours` for a folder in which anything else lies; refusals of the file system. What is
/// not there is no error.
pub fn remove_output(target: &Path) -> Result<()> {
    let target = super::place::resolve(target)?;
    match super::place::look(&target)? {
        super::place::Found::Nothing => Ok(()),
        super::place::Found::File => fs::remove_file(&target).map_err(|e| io("remove", &target, &e)),
        super::place::Found::EmptyFolder | super::place::Found::Folder => {
            super::hls_dir::check_ours(&target)?;
            fs::remove_dir_all(&target).map_err(|e| io("remove", &target, &e))
        }
        super::place::Found::Special => {
            Err(super::place::not_ours(format!("{} is not an output", target.display())))
        }
    }?;
    crate::base::fs::sync_folder_of(&target)
}

/// Which file or folder lies there: what a rename keeps. `None` when nothing does.
pub fn identity(path: &Path) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    fs::metadata(path).ok().map(|facts| (facts.dev(), facts.ino()))
}
