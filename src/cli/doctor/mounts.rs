//! Which file system a path lies on, and who holds a lock on a file: from the kernel's own tables.
//!
//! What enters: the text of `/proc/self/mountinfo` and of `/proc/locks`. What leaves: the mount of a path,
//! the process that holds a lock. Reading these tables touches no disk and no lock.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// A mount, as the kernel lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mount {
    /// Major and minor number of the file system, as the lock table has them too.
    pub device: (u32, u32),
    /// Where it is mounted.
    pub point: PathBuf,
    /// What sort of file system: `ext4`, `nfs4`, `fuse.sshfs`.
    pub kind: String,
}

/// What a sort of file system means for whoever writes to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    /// A disk of this machine.
    Local,
    /// Another machine's, or a program's: locks and syncing may not mean what they say.
    Shared,
    /// In memory, or in the top layer of a container: gone with it.
    Passing,
}

impl Mount {
    /// What its kind means. Unknown kinds count as local: there are many, and most are.
    pub(super) fn sort(&self) -> Sort {
        const SHARED: [&str; 13] = [
            "nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "virtiofs", "ceph", "afs", "lustre", "beegfs",
            "gfs2", "ocfs2",
        ];
        match self.kind.as_str() {
            // A program of this machine on top of a local disk (ntfs-3g) has a device of its own.
            "fuseblk" => Sort::Local,
            kind if kind == "fuse" || kind.starts_with("fuse.") || SHARED.contains(&kind) => Sort::Shared,
            "tmpfs" | "ramfs" | "overlay" | "aufs" => Sort::Passing,
            _ => Sort::Local,
        }
    }
}

/// The mount that `path` (absolute, links followed) lies on. A later mount hides an earlier one.
pub(super) fn mount_of(mountinfo: &str, path: &Path) -> Option<Mount> {
    let over = mountinfo.lines().filter_map(mount).filter(|mount| path.starts_with(&mount.point));
    over.max_by_key(|mount| mount.point.components().count())
}

/// One line: `36 35 98:0 /root /mount/point rw,noatime shared:1 - ext3 /dev/root rw`, where the number
/// of fields before the dash varies.
fn mount(line: &str) -> Option<Mount> {
    let (first, last) = line.split_once(" - ")?;
    let mut fields = first.split(' ').skip(2);
    let (major, minor) = fields.next()?.split_once(':')?;
    let point = fields.nth(1)?;
    let kind = last.split(' ').next()?;
    Some(Mount {
        device: (major.parse().ok()?, minor.parse().ok()?),
        point: unescape(point).into(),
        kind: kind.into(),
    })
}

/// Blanks and the like stand in the table as a backslash and three octal digits.
fn unescape(text: &str) -> OsString {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let code = after.get(..3).filter(|_| first == b'\\').and_then(octal);
        bytes.push(code.unwrap_or(first));
        rest = if code.is_some() { after.get(3..).unwrap_or_default() } else { after };
    }
    OsString::from_vec(bytes)
}

fn octal(digits: &[u8]) -> Option<u8> {
    u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok()
}

/// The process that holds a lock on the whole of a file, in `/proc/locks`. Locks of processes that this
/// one may not see (other containers) are not listed there.
pub(super) fn lock_holder(locks: &str, devices: &[(u32, u32)], inode: u64) -> Option<u32> {
    locks.lines().find_map(|line| {
        // `1: FLOCK  ADVISORY  WRITE 9620 fe:00:2162998 0 EOF`; one that waits has `->` second.
        let mut fields = line.split_whitespace().skip(1);
        let (kind, pid, file) = (fields.next()?, fields.nth(2)?, fields.next()?);
        let mut file = file.split(':');
        let mut number = || u32::from_str_radix(file.next()?, 16).ok();
        let device = (number()?, number()?);
        let same = devices.contains(&device) && file.next()?.parse() == Ok(inode);
        (kind == "FLOCK" && same).then_some(pid.parse().ok()?)
    })
}
