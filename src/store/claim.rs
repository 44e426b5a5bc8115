//! Whose an unfinished output is: so that what a killed process left can be found, continued, or
//! removed, and nothing else is ever touched.
//!
//! What enters: a job and the place of its output. What leaves: the hidden names beside that place, a
//! hidden folder or log that is this process's alone, and what a killed process left mended: an output
//! that had stepped aside is back under its name, or gone. Removing a published output: `removal.rs`.

use super::log::{Head, JobLog, LOG};
use super::place::{self, Found, Parents, io, remove_any};
use crate::base::error::{Error, ErrorKind, Result, Stage};
use crate::base::fs::{TEMP_PREFIX, sync_folder_of};
use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::io::ErrorKind as IoKind;
use std::path::{Path, PathBuf};

mod removal;
#[cfg(test)]
mod tests;

pub use removal::{Gone, Identity, identity, remove_output};

/// Extensions of single files.
const FILES: [&str; 3] = ["mp4", "mkv", "ts"];
/// Tries to make a folder in one that others remove meanwhile.
const MAX_TRIES: usize = 100;

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

    /// The log of a job that makes a single file; a folder has its log inside.
    pub(super) fn log_beside(job: &str, target: &Path) -> PathBuf {
        let mut name = Self::temp_beside(job, target).into_os_string();
        name.push(LOG);
        name.into()
    }

    /// The name under which the job puts the output aside that it replaces.
    pub(super) fn aside_beside(job: &str, target: &Path) -> PathBuf {
        target.with_file_name(format!("{TEMP_PREFIX}old-{job}~"))
    }

    pub(super) fn head(&self, made_levels: usize) -> Head {
        Head { fingerprint: self.fingerprint, job: self.job.clone(), made_levels }
    }
}

/// The hidden folder of an HLS output, for a job with its log. Removed on drop unless it stays.
#[derive(Debug)]
pub(super) struct Hidden {
    pub(super) folder: PathBuf,
    pub(super) log: Option<JobLog>,
    pub(super) stays: bool,
}

impl Hidden {
    /// A new folder without a log.
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder, log: None, stays: false }
    }

    /// The job's folder, locked. One that was there stays until it is taken over. `None` when the folder
    /// above it went away.
    fn of_job(job: &str, target: &Path) -> Result<Option<Self>> {
        let folder = Claim::temp_beside(job, target);
        for _ in 0..MAX_TRIES {
            let made = match fs::create_dir(&folder) {
                Ok(()) => true,
                Err(e) if e.kind() == IoKind::AlreadyExists => false,
                Err(e) if e.kind() == IoKind::NotFound => return Ok(None),
                Err(e) => return Err(io("make the folder", &folder, &e)),
            };
            if !made && !is_folder(&folder) {
                remove_any(&folder)?;
                continue;
            }
            match JobLog::take(folder.join(LOG)) {
                Ok(Some(log)) => return Ok(Some(Self { folder, log: Some(log), stays: !made })),
                // Somebody has removed the folder at this moment.
                Ok(None) => {}
                Err(e) => {
                    if made && e.kind() != ErrorKind::Conflict {
                        let _ = remove_folder(&folder, None);
                    }
                    return Err(e);
                }
            }
        }
        Ok(None)
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        if self.stays {
            return;
        }
        if let Err(e) = remove_folder(&self.folder, self.log.take()) {
            tracing::warn!("{e}");
        }
    }
}

/// The log of a job that makes a single file. Removed on drop unless it stays.
#[derive(Debug)]
pub(super) struct FileLog {
    log: Option<JobLog>,
    path: PathBuf,
    /// It was there before, and was not taken over yet.
    stays: bool,
}

impl FileLog {
    fn of_job(job: &str, target: &Path) -> Result<Option<Self>> {
        let path = Claim::log_beside(job, target);
        let Some(log) = JobLog::take(path.clone())? else { return Ok(None) };
        Ok(Some(Self { stays: !log.is_new(), log: Some(log), path }))
    }

    /// Takes over what an earlier process has left: its folders; its file is removed.
    pub(super) fn take_over(&mut self, claim: &Claim, target: &Path, parents: &mut Parents) -> Result<()> {
        let Some(log) = &self.log else { return Ok(()) };
        remove_any(&Claim::temp_beside(&claim.job, target))?;
        parents.adopt(target, log.head().map_or(0, |head| head.made_levels));
        self.stays = false;
        log.start(&claim.head(parents.levels(target)))
    }
}

impl Drop for FileLog {
    fn drop(&mut self) {
        let log = self.log.take().filter(|_| !self.stays);
        if let Some(Err(e)) = log.map(|log| log.remove_at(&self.path)) {
            tracing::warn!("{e}");
        }
    }
}

/// Makes the folders above `target` and the job's hidden folder in them.
///
/// # Errors
/// `output_in_use`; refusals of the file system. Nothing that was made is left then.
pub(super) fn claim_folder(job: &str, target: &Path) -> Result<(Parents, Hidden)> {
    within_parents(target, || Hidden::of_job(job, target))
}

/// The same with the log of a single file.
///
/// # Errors
/// As [`claim_folder`].
pub(super) fn claim_file(job: &str, target: &Path) -> Result<(Parents, FileLog)> {
    within_parents(target, || FileLog::of_job(job, target))
}

/// Another job may remove a folder above that it has made and finds empty, just before ours is in it.
fn within_parents<T>(target: &Path, make: impl Fn() -> Result<Option<T>>) -> Result<(Parents, T)> {
    for _ in 0..MAX_TRIES {
        let parents = Parents::of(target)?;
        if let Some(made) = make()? {
            return Ok((parents, made));
        }
    }
    let message = format!("the folder of {} is removed again and again", target.display());
    Err(Error::new(ErrorKind::Io, "io", Stage::Publish, message).hint("see what removes it"))
}

/// Mends what a process left that was killed while it replaced or removed `target`: the earlier output
/// gets its name back, or goes if the new one has the name, or if its removal was decided. Says whether
/// there was anything.
///
/// # Errors
/// Refusals of the file system.
pub(super) fn recover(job: &str, target: &Path) -> Result<bool> {
    let removed = remove_any(&gone_beside(target))?;
    // What stepped aside did so after the other was parked, so the name is its own.
    let replaced = recover_replaced(job, target)?;
    Ok(removal::put_back(target)? || replaced || removed)
}

fn recover_replaced(job: &str, target: &Path) -> Result<bool> {
    let aside = Claim::aside_beside(job, target);
    match fs::remove_dir(&aside) {
        // It held the name only.
        Ok(()) => return Ok(true),
        Err(e) if e.kind() == IoKind::NotFound => return Ok(false),
        Err(_) => {}
    }
    if !matches!(place::look(target)?, Found::Nothing | Found::EmptyFolder) {
        return remove_at_once(&aside, target).map(|()| true);
    }
    fs::rename(&aside, target).map_err(|e| io("bring back", &aside, &e))?;
    tracing::info!("{} is again what it was before it was to be replaced", target.display());
    sync_folder_of(target).map(|()| true)
}

/// Removes what a job that will not go on has left beside its target; what it was about to replace is
/// as it was. Says whether there was anything. To be called as well when the output turns out to be
/// published: what the killed process did not get to remove goes, the output stays.
///
/// # Errors
/// `output_in_use` when a process works on it; refusals of the file system.
pub fn discard(job: &str, target: &Path) -> Result<bool> {
    let target = place::resolve(target)?;
    let temp = Claim::temp_beside(job, &target);
    if is_folder(&temp) {
        return discard_folder(job, &target, &temp);
    }
    // First of all: it says whether somebody is publishing at this moment.
    let published = forget_log(job, &target)?;
    let any = exists(&temp) || exists(&Claim::log_beside(job, &target));
    if any {
        discard_file(job, &target)?;
    }
    let mended = mend(job, &target)?;
    Ok(any || mended || published)
}

/// As [`recover`], and what comes back has no log.
fn mend(job: &str, target: &Path) -> Result<bool> {
    let recovered = recover(job, target)?;
    Ok(forget_log(job, target)? || recovered)
}

fn discard_folder(job: &str, target: &Path, temp: &Path) -> Result<bool> {
    let log = match JobLog::take(temp.join(LOG)) {
        // Removing needs no room, so it must not fail for want of it.
        Err(e) if e.kind() == ErrorKind::NoSpace => None,
        log => log?,
    };
    mend(job, target)?;
    let _above = left_above(target, log.as_ref());
    remove_folder(temp, log).map(|()| true)
}

fn discard_file(job: &str, target: &Path) -> Result<()> {
    let path = Claim::log_beside(job, target);
    let log = match JobLog::take(path.clone()) {
        Err(e) if e.kind() == ErrorKind::NoSpace => None,
        log => log?,
    };
    let _above = left_above(target, log.as_ref());
    remove_any(&Claim::temp_beside(job, target))?;
    log.map_or(Ok(()), |log| log.remove_at(&path))
}

/// The folders above that the job had made: they go when this is dropped, if they are empty by then.
fn left_above(target: &Path, log: Option<&JobLog>) -> Parents {
    let mut parents = Parents::default();
    parents.adopt(target, log.and_then(JobLog::head).map_or(0, |head| head.made_levels));
    parents
}

/// Removes the log from a published folder, if it is this job's.
fn forget_log(job: &str, target: &Path) -> Result<bool> {
    let path = target.join(LOG);
    if !fs::symlink_metadata(&path).is_ok_and(|facts| facts.is_file()) {
        return Ok(false);
    }
    match JobLog::take(path.clone())? {
        Some(log) if log.head().is_some_and(|head| head.job == job) => log.remove_at(&path).map(|()| true),
        _ => Ok(false),
    }
}

/// Where what is to be removed lies until it is: whoever comes next removes the rest of it.
fn gone_beside(target: &Path) -> PathBuf {
    target.with_file_name(format!("{TEMP_PREFIX}gone-{:016x}~", place_hash(target)))
}

/// Stands for a name of any length.
fn place_hash(target: &Path) -> u64 {
    let mut hasher = DefaultHasher::new();
    target.file_name().hash(&mut hasher);
    hasher.finish()
}

/// Removes a folder so that no part of it is ever under its name without the rest.
pub(super) fn remove_at_once(folder: &Path, target: &Path) -> Result<()> {
    let gone = gone_beside(target);
    remove_any(&gone)?;
    fs::rename(folder, &gone).map_err(|e| io("remove", folder, &e))?;
    remove_any(&gone).map(|_| ())
}

/// Removes all that is in a job's folder but the log.
pub(super) fn empty(folder: &Path) -> Result<()> {
    let unreadable = |e: &std::io::Error| io("read the folder", folder, e);
    for entry in fs::read_dir(folder).map_err(|e| unreadable(&e))? {
        let entry = entry.map_err(|e| unreadable(&e))?;
        if entry.file_name() != LOG {
            remove_any(&entry.path())?;
        }
    }
    Ok(())
}

/// Removes a hidden folder; its log last, so that it is locked until nothing but it is there. What
/// somebody else then begins in the folder is theirs.
fn remove_folder(folder: &Path, log: Option<JobLog>) -> Result<()> {
    if !exists(folder) {
        return Ok(());
    }
    empty(folder)?;
    // Closed before the folder goes.
    let path = folder.join(LOG);
    log.map_or_else(|| remove_any(&path).map(|_| ()), |log| log.remove_at(&path))?;
    match fs::remove_dir(folder) {
        Err(e) if !matches!(e.kind(), IoKind::NotFound | IoKind::DirectoryNotEmpty) => {
            Err(io("remove", folder, &e))
        }
        _ => Ok(()),
    }
}

fn is_folder(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|facts| facts.is_dir())
}

fn exists(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}
