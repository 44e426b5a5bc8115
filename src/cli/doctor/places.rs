//! Folders: those that are read, those that are written, and the one that a single node may have.
//!
//! What enters: the paths of the settings. What leaves: whether they can be used by this user, now. The
//! proof of writing is a file that has lost its name before the first byte goes into it, so that nothing
//! is left wherever it ends. The lock of the state folder is only looked up.

use super::mounts::{Mount, Sort, lock_holder, mount_of};
use super::{Check, Finding, size};
use crate::base::fs::{TempFile, sync_folder};
use crate::config::settings::{Root, Settings};
use rustix::fs::{Access, access, major, minor, statvfs};
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Entries of a root that are tried.
const MAX_TRIED: usize = 64;
/// What the proof of writing writes: more than fits beside an inode, so that a block is needed.
const PROOF_BYTES: usize = 64 * 1024;
/// What is made by whoever formats a disk, for root alone.
const LOST: &str = "lost+found";
/// The journal needs little; with less a node takes no job.
const MIN_STATE_BYTES: u64 = 64 << 20;
/// Files of the state folder that a node must be able to write.
const STATE_FILES: [&str; 4] = ["lock", "journal.db", "journal.db-wal", "journal.db-shm"];

/// The checks of all folders.
pub(super) fn checks(settings: &Settings) -> Vec<Check> {
    let paths = &settings.paths;
    let mut all: Vec<Check> = paths.roots.iter().map(root).collect();
    if all.is_empty() {
        let mend = "name the folders that may be read under paths.roots";
        all.push(Check::new("roots", move || Finding::warn("there are none: no job can be taken", mend)));
    }
    let (output, state) = (paths.output.local.clone(), paths.state.clone());
    let least = settings.limits.min_free_disk_bytes;
    all.push(written("output", &output, Some(&state)));
    all.push(room("output", &output, least));
    all.push(written("state", &state, None));
    all.push(room("state", &state, least.min(MIN_STATE_BYTES)));
    let (place, files, lock) = (state.clone(), state.clone(), state);
    all.push(Check::new("state, file system", move || file_system(&place)));
    all.push(Check::new("state, files", move || state_files(&files)));
    all.push(Check::new("state, lock", move || locked(&lock)));
    all
}

/// Whether tokens in the configuration file can be read by everybody.
pub(super) fn secrets(file: &Path, effective: &str) -> Check {
    let origin = format!("\"***\"  # {}", file.display());
    let (file, holds_one) = (file.to_owned(), effective.lines().any(|line| line.contains(&origin)));
    Check::new("tokens", move || match fs::metadata(&file) {
        Ok(meta) if holds_one && meta.mode() & 0o004 != 0 => Finding::warn(
            format!("{} holds a token and can be read by every user", file.display()),
            "chmod o-r it, or keep tokens in files of their own (control_token_file and the like)",
        ),
        Ok(_) if holds_one => Finding::ok(format!("{} is not for everybody", file.display())),
        Ok(_) => Finding::ok(format!("none in {}", file.display())),
        Err(e) => {
            Finding::warn(format!("cannot look at {}: {e}", file.display()), "was it removed just now?")
        }
    })
}

// ---- what is read ---------------------------------------------------------------------------------

fn root(root: &Root) -> Check {
    let (what, path) = (format!("root {}", root.name), root.local.clone());
    Check::new(what, move || read(&path).unwrap_or_else(|e| unreadable(&path, &e)))
}

fn read(path: &Path) -> io::Result<Finding> {
    let shown = path.display();
    let names = fs::read_dir(path)?.take(MAX_TRIED).collect::<io::Result<Vec<_>>>()?;
    let hidden = |name: &[u8]| name.starts_with(b".") || name == LOST.as_bytes();
    let seen: Vec<PathBuf> = names
        .iter()
        .filter(|entry| !hidden(entry.file_name().as_encoded_bytes()))
        .map(fs::DirEntry::path)
        .collect();
    if seen.is_empty() {
        let mend = "is what belongs there mounted? an empty mount point looks like this";
        return Ok(Finding::warn(format!("{shown} is empty"), mend));
    }
    let denied: Vec<&PathBuf> = seen.iter().filter(|path| is_denied(path)).collect();
    let kind = mount_at(path).map_or_else(String::new, |mount| format!(" ({})", mount.kind));
    Ok(match denied.first() {
        None => Finding::ok(format!("{shown} can be read{kind}")),
        Some(first) => Finding::warn(
            format!(
                "{} of {} in {shown} cannot be read, such as {}",
                denied.len(),
                seen.len(),
                first.display()
            ),
            "let this user read them (group, chmod g+rX, or the user that the NAS maps this machine to)",
        ),
    })
}

/// Whether this user may not read a file or list a folder. Nothing else is opened: a FIFO would wait.
fn is_denied(path: &Path) -> bool {
    let opened = match fs::metadata(path) {
        Ok(meta) if meta.is_dir() => fs::read_dir(path).map(drop),
        Ok(meta) if meta.is_file() => File::open(path).map(drop),
        Ok(_) => Ok(()),
        Err(e) => Err(e),
    };
    opened.is_err_and(|e| e.kind() == ErrorKind::PermissionDenied)
}

fn unreadable(path: &Path, e: &io::Error) -> Finding {
    let mend = match e.kind() {
        ErrorKind::NotFound => "mount it, or mend `local` of this root under paths.roots",
        ErrorKind::PermissionDenied => "let this user read it, and enter every folder above it",
        ErrorKind::NotADirectory => "a root is a folder: mend its `local` under paths.roots",
        _ => "look at the disk or network mount",
    };
    Finding::fail(format!("cannot read {}: {e}", path.display()), mend)
}

// ---- what is written ------------------------------------------------------------------------------

/// `first`: a folder that is made before this one, with all that is missing above it. Of this one only the
/// last part is made then, since the rest may be a disk that is not mounted.
fn written(what: &str, path: &Path, first: Option<&Path>) -> Check {
    let (key, path, first) = (format!("paths.{what}"), path.to_owned(), first.map(Path::to_owned));
    Check::new(what, move || {
        let orphan = first.and_then(|first| missing_above(&path, &first));
        if let Some(above) = orphan {
            return not_mounted(&path, &above, &key);
        }
        if path.symlink_metadata().is_err() {
            return to_be_made(&path, &key);
        }
        match prove(&path) {
            Ok(()) => Finding::ok(format!("{}: a file was written, synced, removed", path.display())),
            Err((doing, e)) => unwritable(&path, doing, &e, &key),
        }
    })
}

fn missing_above(path: &Path, made_first: &Path) -> Option<PathBuf> {
    let above = path.parent().filter(|above| !made_first.starts_with(above))?;
    above.symlink_metadata().is_err().then(|| above.to_owned())
}

fn not_mounted(path: &Path, above: &Path, key: &str) -> Finding {
    Finding::fail(
        format!("{} is not there, nor is {}", path.display(), above.display()),
        format!("mount the disk that it should be on, or make {} yourself, or mend {key}", above.display()),
    )
}

/// A node makes these folders when it starts: this only asks whether it could.
fn to_be_made(path: &Path, key: &str) -> Finding {
    let above = there(path);
    match access(above, Access::WRITE_OK | Access::EXEC_OK) {
        Ok(()) if above.is_dir() => {
            Finding::ok(format!("{} is not there yet and can be made in {}", path.display(), above.display()))
        }
        _ => Finding::fail(
            format!("{} is not there, and this user cannot make it in {}", path.display(), above.display()),
            format!(
                "make it and give it to this user (install -d -o USER {}), or mend {key}",
                path.display()
            ),
        ),
    }
}

/// The nearest folder above that exists.
fn there(path: &Path) -> &Path {
    path.ancestors().find(|path| path.symlink_metadata().is_ok()).unwrap_or(Path::new("/"))
}

/// Writes, syncs, removes. What went wrong while doing what.
fn prove(folder: &Path) -> Result<(), (&'static str, io::Error)> {
    let temp = TempFile::beside(&folder.join("doctor"));
    let temp = temp.map_err(|e| ("name", io::Error::other(e.message().to_owned())))?;
    let mut file = match File::create_new(temp.path()) {
        Ok(file) => file,
        Err(e) => {
            // What lies there is not ours to remove, so its guard must not run.
            std::mem::forget(temp);
            return Err(("create", e));
        }
    };
    fs::remove_file(temp.path()).map_err(|e| ("remove", e))?;
    file.write_all(&[0x5a; PROOF_BYTES]).map_err(|e| ("write", e))?;
    file.sync_all().map_err(|e| ("sync", e))?;
    sync_folder(folder).map_err(|e| ("sync the folder of", io::Error::other(e.message().to_owned())))
}

fn unwritable(path: &Path, doing: &str, e: &io::Error, key: &str) -> Finding {
    let mend = match e.kind() {
        ErrorKind::PermissionDenied => {
            "give the folder to this user (chown), or to a group of theirs (chmod g+rwx)"
        }
        ErrorKind::ReadOnlyFilesystem => {
            "it is mounted read-only; a service with ProtectSystem=strict needs it in ReadWritePaths="
        }
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "free some space there, or raise the quota",
        ErrorKind::NotADirectory => "it must be a folder",
        _ => "look at the disk or network mount",
    };
    let what = format!("cannot {doing} a file in {}: {e}", path.display());
    Finding::fail(what, format!("{mend}; or choose another place with {key}"))
}

fn room(what: &str, path: &Path, wanted_bytes: u64) -> Check {
    let path = path.to_owned();
    Check::new(format!("{what}, free space"), move || {
        let fs = match statvfs(there(&path)) {
            Ok(fs) => fs,
            Err(e) => return unwritable(&path, "ask for the space of", &e.into(), "paths"),
        };
        // Without what is kept for root.
        judge_room(fs.f_bavail.saturating_mul(fs.f_frsize), wanted_bytes, fs.f_files, fs.f_favail)
    })
}

fn judge_room(free_bytes: u64, wanted_bytes: u64, files: u64, free_files: u64) -> Finding {
    let (free, wanted) = (size(free_bytes), size(wanted_bytes));
    if free_bytes < wanted_bytes {
        return Finding::fail(
            format!("{free}, less than limits.min_free_disk ({wanted}): the node takes no job"),
            "remove outputs that nobody needs (DELETE /jobs/ID/output, limits.output_ttl), or lower limits.min_free_disk",
        );
    }
    // File systems without a fixed number of files say 0 of 0.
    if files > 0 && free_files == 0 {
        return Finding::fail(
            format!("{free}, but no file can be made: no inodes"),
            "remove small files there",
        );
    }
    Finding::ok(format!("{free}, at least {wanted} wanted"))
}

// ---- the state folder -----------------------------------------------------------------------------

fn mount_at(path: &Path) -> Option<Mount> {
    let path = fs::canonicalize(there(path)).ok()?;
    mount_of(&fs::read_to_string("/proc/self/mountinfo").ok()?, &path)
}

fn file_system(state: &Path) -> Finding {
    let Some(mount) = mount_at(state) else { return Finding::ok("cannot be told on this system") };
    let shown = format!("{} at {}", mount.kind, mount.point.display());
    match mount.sort() {
        Sort::Local => Finding::ok(shown),
        Sort::Shared => Finding::fail(
            format!("{shown} is a network or shared file system, which can damage the journal"),
            "put paths.state on a disk of this machine",
        ),
        Sort::Passing => Finding::warn(
            format!("{shown} is lost with the container or at the next boot, and every job with it"),
            "put paths.state on a disk (in a container: on a volume)",
        ),
    }
}

/// Files that another user has made there: a first start as root is enough.
fn state_files(state: &Path) -> Finding {
    let there = STATE_FILES.iter().map(|name| state.join(name)).filter(|path| path.exists());
    let closed: Vec<PathBuf> =
        there.filter(|path| access(path, Access::READ_OK | Access::WRITE_OK).is_err()).collect();
    let open_to_all = fs::metadata(state).is_ok_and(|meta| meta.mode() & 0o002 != 0);
    match closed.first() {
        Some(first) => Finding::fail(
            format!("{} belongs to another user", first.display()),
            format!("chown -R USER: {}, with the user that the node runs as", state.display()),
        ),
        None if open_to_all => {
            Finding::warn(format!("{} can be changed by every user", state.display()), "chmod o-w it")
        }
        None => Finding::ok("nothing stands in the way"),
    }
}

fn locked(state: &Path) -> Finding {
    let lock = state.join("lock");
    let Ok(meta) = fs::metadata(&lock) else { return Finding::ok("no node has worked here yet") };
    let Ok(locks) = fs::read_to_string("/proc/locks") else {
        return Finding::ok("cannot be told on this system; a second node is refused when it starts");
    };
    // Some file systems (btrfs) tell programs another device than they tell the lock table.
    let mut devices = vec![(major(meta.dev()), minor(meta.dev()))];
    devices.extend(mount_at(&lock).map(|mount| mount.device));
    match lock_holder(&locks, &devices, meta.ino()) {
        Some(pid) => Finding::warn(
            format!("a node works on {} (process {pid})", state.display()),
            "that is well if it is the node that you ask about; a second one on this folder will be refused",
        ),
        None => Finding::ok("no node of this machine works here"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Level::{self, Fail, Ok as Well, Warn};
    use super::*;
    use rustix::fs::{FlockOperation, flock, symlink};
    use std::os::unix::fs::PermissionsExt;

    fn look(check: Check) -> Finding {
        (check.look)()
    }

    fn level_of_root(path: &Path) -> Level {
        look(root(&Root { name: "tv".into(), uri: "nas://tv".into(), local: path.to_owned() })).level
    }

    #[test]
    fn a_root_is_there_readable_and_not_empty() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path();
        assert_eq!(level_of_root(path), Warn, "empty");
        fs::write(path.join(".hidden"), b"").unwrap();
        fs::create_dir(path.join(LOST)).unwrap();
        assert_eq!(level_of_root(path), Warn, "nothing for anybody");
        fs::write(path.join("film.mkv"), b"").unwrap();
        assert_eq!(level_of_root(path), Well);
        assert_eq!(level_of_root(&path.join("gone")), Fail);
        assert_eq!(level_of_root(&path.join("film.mkv")), Fail, "not a folder");
    }

    #[test]
    fn a_root_with_a_pipe_and_a_dead_link_does_not_hang() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        symlink("/nowhere", dir.path().join("link")).unwrap();
        assert_eq!(level_of_root(dir.path()), Well);
    }

    #[test]
    fn writing_is_proven_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let written = |path: &Path| written("output", path, Some(&dir.path().join("a/state")));
        let found = look(written(dir.path()));
        assert_eq!(found.level, Well, "{found:?}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        let missing = dir.path().join("a/b");
        assert_eq!(look(written(&missing)).level, Well, "it can be made, for the state makes what is above");
        assert_eq!(look(written(&dir.path().join("b/c"))).level, Fail, "a disk that is not mounted");
        assert_eq!(look(written(&dir.path().join("c"))).level, Well, "the last part alone");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "but it was not");
        let file = dir.path().join("file");
        fs::write(&file, b"theirs").unwrap();
        for bad in [file.clone(), file.join("below"), "/proc".into()] {
            let found = look(written(&bad));
            assert!(found.level == Fail && found.mend.is_some(), "{bad:?}: {found:?}");
        }
        assert_eq!(fs::read(&file).unwrap(), b"theirs");
    }

    #[test]
    fn room_is_judged_by_the_limit_and_by_inodes() {
        assert_eq!(judge_room(10, 10, 0, 0).level, Well);
        assert_eq!(judge_room(9, 10, 0, 0).level, Fail);
        assert_eq!(judge_room(10, 10, 5, 0).level, Fail);
        assert_eq!(judge_room(10, 10, 5, 1).level, Well);
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(look(room("output", &dir.path().join("a/b"), 1)).level, Well, "asked of the folder above");
        assert_eq!(look(room("output", dir.path(), u64::MAX)).level, Fail);
    }

    #[test]
    fn the_lock_is_seen_and_not_touched() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(locked(dir.path()).result, "no node has worked here yet");
        let file = File::create(dir.path().join("lock")).unwrap();
        if fs::read_to_string("/proc/locks").is_err() {
            return;
        }
        assert_eq!(locked(dir.path()).level, Well);
        flock(&file, FlockOperation::LockExclusive).unwrap();
        let found = locked(dir.path());
        assert_eq!(found.level, Warn, "{found:?}");
        assert!(found.result.ends_with(&format!("(process {})", std::process::id())), "{found:?}");
        flock(&file, FlockOperation::Unlock).unwrap();
        assert_eq!(locked(dir.path()).level, Well);
    }

    #[test]
    fn a_state_folder_for_everybody_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let level = |mode| {
            fs::set_permissions(dir.path(), fs::Permissions::from_mode(mode)).unwrap();
            state_files(dir.path()).level
        };
        assert_eq!((level(0o700), level(0o755), level(0o777)), (Well, Well, Warn));
        assert_eq!(state_files(Path::new("/nowhere")).level, Well);
    }

    #[test]
    fn a_token_in_a_file_for_everybody_is_told_without_the_token() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("s.yaml");
        fs::write(&file, b"secret").unwrap();
        let level = |mode, effective: &str| {
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
            look(secrets(&file, effective)).level
        };
        let inside = format!("http:\n  control_token: \"***\"  # {}:7\n", file.display());
        assert_eq!((level(0o644, &inside), level(0o640, &inside)), (Warn, Well));
        assert_eq!(level(0o644, "http:\n  control_token: \"***\"  # SPROCKET_HTTP__CONTROL_TOKEN\n"), Well);
    }
}
