//! What the kernel tells of its out-of-memory kills.
//!
//! What enters: `/proc`, `/sys` and the kernel's log, under paths that tests replace. What leaves:
//! numbers to compare with those of another moment. On systems other than Linux none of it is there,
//! and nothing is found. What must not live here: what they mean (`watch`).

use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};

/// No file of the kernel that is read here is longer, its log apart.
const MOST_BYTES: u64 = 256 << 10;
/// The most that is read of the kernel's log, which is seldom longer than a tenth of it.
const MOST_LOG_BYTES: usize = 16 << 20;
/// Records of the log are at most 8 KiB; a read into less than a record's length is refused.
const LOG_READ_BYTES: usize = 16 << 10;
/// Overwritten records that are skipped before the reader gives up keeping pace.
const MOST_LOST: u32 = 1000;
/// The name of the machine's own space of process numbers: the log counts in that.
const FIRST_PID_SPACE: &str = "pid:[4026531836]";

/// Where the kernel tells of itself.
#[derive(Clone, Debug)]
pub(super) struct Kernel {
    pub(super) proc: PathBuf,
    pub(super) sys: PathBuf,
    pub(super) log: PathBuf,
}

/// A control group and how many of its processes the kernel has killed for memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Group {
    pub(super) folder: PathBuf,
    /// Which one of that name: a group that is made anew has another, and its count begins anew.
    pub(super) id: u64,
    pub(super) kills: u64,
}

/// What the log says of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LogSays {
    /// That it was killed for memory.
    Killed,
    /// Nothing, and it would have.
    NotKilled,
    /// Nothing; it may have been overwritten, or not readable, or counts processes otherwise.
    Nothing,
}

impl Kernel {
    pub(super) fn of_this_machine() -> Self {
        Self { proc: "/proc".into(), sys: "/sys".into(), log: "/dev/kmsg".into() }
    }

    /// Which boot of the machine this is.
    pub(super) fn boot(&self) -> Option<String> {
        let id = text(&self.proc.join("sys/kernel/random/boot_id"))?;
        Some(id.trim().to_owned()).filter(|id| !id.is_empty())
    }

    /// Processes killed for memory on the whole machine since it booted, those in control groups
    /// included.
    pub(super) fn kills(&self) -> Option<u64> {
        number_after(&text(&self.proc.join("vmstat"))?, "oom_kill")
    }

    /// The control groups whose counts include this process, its own first.
    pub(super) fn own_groups(&self) -> Vec<Group> {
        let Some(memberships) = text(&self.proc.join("self/cgroup")) else { return Vec::new() };
        let mount = self.sys.join("fs/cgroup");
        if mount.join("cgroup.controllers").exists() {
            let own = memberships.lines().find_map(|line| line.strip_prefix("0::"));
            return own.map(|own| self.chain(&mount, own)).unwrap_or_default();
        }
        // Version 1: a group counts its own processes alone, so those above say nothing.
        let own = memberships.lines().find_map(|line| {
            let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
            controllers.split(',').any(|controller| controller == "memory").then_some(path)
        });
        own.and_then(|own| self.chain(&mount.join("memory"), own).into_iter().next()).into_iter().collect()
    }

    /// The group and those above it, as far as they are there: in a container the mount begins with the
    /// container's own group, whatever its name outside.
    fn chain(&self, mount: &Path, own: &str) -> Vec<Group> {
        let own = Path::new(own.trim_start_matches('/'));
        if own.components().any(|part| !matches!(part, Component::Normal(_))) {
            return Vec::new();
        }
        own.ancestors().filter_map(|part| self.group(&mount.join(part))).collect()
    }

    /// The group in that folder, if it counts.
    pub(super) fn group(&self, folder: &Path) -> Option<Group> {
        let of = |file: &str| number_after(&text(&folder.join(file))?, "oom_kill");
        let kills = of("memory.events").or_else(|| of("memory.oom_control"))?;
        Some(Group { folder: folder.to_owned(), id: fs::metadata(folder).ok()?.ino(), kills })
    }

    /// The number of the log's last record, where it may be read.
    pub(super) fn log_end(&self) -> Option<u64> {
        self.records()?.iter().map(|record| record.number).max()
    }

    /// What the log says, behind the record `after`, of the end of a process that ran here.
    pub(super) fn log_on(&self, pid: u32, after: u64) -> LogSays {
        let Some(records) = self.records() else { return LogSays::Nothing };
        if records.iter().any(|record| record.number > after && record.tells_of_kill(pid)) {
            return LogSays::Killed;
        }
        let space = fs::read_link(self.proc.join("self/ns/pid"));
        let same_numbers = space.is_ok_and(|name| name == Path::new(FIRST_PID_SPACE));
        // Numbers have gaps only where records were overwritten, and those are the oldest.
        let whole = records.iter().map(|record| record.number).min().is_some_and(|first| first <= after);
        if same_numbers && whole { LogSays::NotKilled } else { LogSays::Nothing }
    }

    fn records(&self) -> Option<Vec<Record>> {
        let bytes = read_log(&self.log)?;
        Some(String::from_utf8_lossy(&bytes).lines().filter_map(Record::parse).collect())
    }
}

/// A record of the log: `6,339,5140900,-;text`.
#[derive(Debug)]
struct Record {
    number: u64,
    text: String,
}

impl Record {
    fn parse(line: &str) -> Option<Self> {
        let (head, text) = line.split_once(';')?;
        let mut fields = head.split(',');
        let _priority: u32 = fields.next()?.parse().ok()?;
        Some(Self { number: fields.next()?.parse().ok()?, text: text.to_owned() })
    }

    /// `oom-kill:constraint=...,task=NAME,pid=77,uid=0` and `... Killed process 77 (NAME) ...`, which
    /// older kernels write alone. A task's name may hold anything, so what stands before it counts not.
    fn tells_of_kill(&self, pid: u32) -> bool {
        let summary = self.text.strip_prefix("oom-kill:").and_then(|text| text.rsplit_once(",pid="));
        let named = summary.is_some_and(|(_, rest)| rest.split(',').next() == Some(&*pid.to_string()));
        let killed = self.text.split_once("Killed process ");
        let plain = killed.is_some_and(|(before, rest)| {
            (before.is_empty() || before.ends_with("ut of memory: "))
                && rest.split(|c: char| !c.is_ascii_digit()).next() == Some(&*pid.to_string())
        });
        named || plain
    }
}

/// All records that there are. `None` when the log may not be read. Never waits for more.
fn read_log(path: &Path) -> Option<Vec<u8>> {
    let no_wait = libc::O_NONBLOCK | libc::O_NOCTTY;
    let mut log = OpenOptions::new().read(true).custom_flags(no_wait).open(path).ok()?;
    let (mut all, mut part, mut lost) = (Vec::new(), vec![0; LOG_READ_BYTES], 0);
    while all.len() < MOST_LOG_BYTES && lost < MOST_LOST {
        match log.read(&mut part) {
            Ok(0) => break,
            Ok(length) => all.extend_from_slice(part.get(..length)?),
            Err(e) if e.kind() == ErrorKind::WouldBlock => break,
            // Overwritten meanwhile: the next read goes on behind the gap.
            Err(e) if matches!(e.kind(), ErrorKind::BrokenPipe | ErrorKind::Interrupted) => lost += 1,
            Err(_) => return None,
        }
    }
    Some(all)
}

fn text(path: &Path) -> Option<String> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(MOST_BYTES).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// The number on the line that begins with `name` and a space.
fn number_after(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}
