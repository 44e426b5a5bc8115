//! The machine and the user: identity, clock, libav, limits.
//!
//! What enters: what the system tells about itself. What leaves: whether a node can work there.

use super::{Check, Finding};
use crate::av::registry::has_encoder;
use crate::config::settings::Settings;
use crate::media::libav_version;
use jiff::Timestamp;
use rustix::process::{Resource, Rlimit, getegid, geteuid, getgroups, getrlimit};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Before this program was first released: 2026-01-01.
const EARLIEST_S: i64 = 1_767_225_600;
/// After anybody will use it: 2100-01-01.
const LATEST_S: i64 = 4_102_444_800;
/// A file's time may be written in another time zone.
const FILE_TIME_SLACK: Duration = Duration::from_secs(86_400);

/// Files that a node opens at once: connections, sources, segments.
const FILES_LEAST: u64 = 256;
const FILES_WISHED: u64 = 1024;
/// Threads: of the node itself, and of one job with its ladder.
const NODE_THREADS: u64 = 64;
const JOB_THREADS: u64 = 64;

/// The checks of the machine.
pub(super) fn checks(settings: &Settings) -> Vec<Check> {
    let jobs = settings.limits.max_concurrent_jobs;
    vec![
        Check::new("user", user),
        Check::new("clock", || clock(SystemTime::now(), program_made())),
        Check::new("libav", || Finding::ok(libav_version())),
        Check::new("encoders", || encoders(&has_encoder)),
        super::hardware::check(settings),
        Check::new("open files", || open_files(getrlimit(Resource::Nofile))),
        Check::new("threads", move || threads(thread_limit(), jobs)),
    ]
}

// ---- who and when ---------------------------------------------------------------------------------

fn user() -> Finding {
    let groups: Vec<String> = getgroups().unwrap_or_default().iter().map(|gid| format!(" {gid}")).collect();
    let groups = if groups.is_empty() { " none".into() } else { groups.concat() };
    let who = format!("uid {}, gid {}, further groups{groups}", geteuid(), getegid());
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    identity(&who, geteuid().is_root(), umask(&status))
}

fn umask(status: &str) -> Option<u32> {
    let line = status.lines().find_map(|line| line.strip_prefix("Umask:"))?;
    u32::from_str_radix(line.trim(), 8).ok()
}

fn identity(who: &str, root: bool, umask: Option<u32>) -> Finding {
    let shown = umask.map_or_else(|| who.to_string(), |mask| format!("{who}, umask {mask:04o}"));
    match umask {
        Some(mask) if mask & 0o700 != 0 => Finding::fail(
            format!("{shown}: the node could not use the files that it makes"),
            "set the umask to 0022 (UMask= of the service)",
        ),
        Some(mask) if mask & 0o002 == 0 => Finding::warn(
            format!("{shown}: every user could change the outputs"),
            "set the umask to 0022, or 0007 for a group alone (UMask= of the service)",
        ),
        _ if root => Finding::warn(
            format!("{shown}: root is not needed"),
            "run the node as a user of its own; ask as that user too, since root may do what it may not",
        ),
        _ => Finding::ok(shown),
    }
}

fn program_made() -> Option<SystemTime> {
    fs::metadata(std::env::current_exe().ok()?).ok()?.modified().ok()
}

/// Whether the clock can be right. A small board without a battery starts in the past.
fn clock(now: SystemTime, program_made: Option<SystemTime>) -> Finding {
    let mend = "set it, or let NTP do so (timedatectl set-ntp true), and start the node after that";
    let Ok(time) = Timestamp::try_from(now) else { return Finding::fail("far out of range", mend) };
    let shown = time.strftime("%Y-%m-%d %H:%M:%S UTC");
    let before_program = program_made.is_some_and(|made| now + FILE_TIME_SLACK < made);
    if time.as_second() < EARLIEST_S || before_program {
        return Finding::fail(format!("{shown} is before this program was made"), mend);
    }
    if time.as_second() > LATEST_S {
        return Finding::fail(format!("{shown} is in a later century"), mend);
    }
    Finding::ok(shown.to_string())
}

// ---- libav ----------------------------------------------------------------------------------------

/// What jobs can ask for, and the encoders that make it, the best first.
const CODECS: [(&str, &[&str]); 8] = [
    ("H.264", &["libx264", "libopenh264"]),
    ("AAC", &["aac"]),
    ("HEVC", &["libx265"]),
    ("AV1", &["libsvtav1"]),
    ("VP9", &["libvpx-vp9"]),
    ("AC-3", &["ac3"]),
    ("E-AC-3", &["eac3"]),
    ("Opus", &["libopus"]),
];
/// Without these a node cannot do what it is there for.
const NEEDED: [&str; 2] = ["H.264", "AAC"];

fn encoders(has: &dyn Fn(&str) -> bool) -> Finding {
    let found = CODECS.map(|(codec, names)| (codec, names.iter().find(|name| has(name))));
    let made: Vec<String> =
        found.iter().filter_map(|(codec, name)| Some(format!("{codec} by {}", name.as_ref()?))).collect();
    let missing: Vec<&str> =
        found.iter().filter(|(_, name)| name.is_none()).map(|(codec, _)| *codec).collect();
    let (made, lacks) = (made.join(", "), missing.join(", "));
    if missing.iter().any(|codec| NEEDED.contains(codec)) {
        let mend = "install an FFmpeg that has them: libx264 or libopenh264 for H.264";
        return Finding::fail(format!("none for {lacks}; {made}"), mend);
    }
    if !missing.is_empty() {
        let mend = "jobs that ask for those are refused (no_encoder); a fuller FFmpeg has them";
        return Finding::warn(format!("{made}; none for {lacks}"), mend);
    }
    Finding::ok(made)
}

// ---- limits ---------------------------------------------------------------------------------------

fn open_files(limit: Rlimit) -> Finding {
    let Some(limit) = limit.current else { return Finding::ok("no limit") };
    let mend = "raise it: LimitNOFILE=65536 of the service, or ulimit -n";
    match limit {
        0..FILES_LEAST => Finding::fail(format!("{limit} at most, at least {FILES_LEAST} are needed"), mend),
        FILES_LEAST..FILES_WISHED => {
            Finding::warn(format!("{limit} at most, which is few beside many connections"), mend)
        }
        _ => Finding::ok(format!("{limit} at most")),
    }
}

/// The smallest limit on threads that holds for this process.
fn thread_limit() -> Option<u64> {
    // The kernel does not hold root to it.
    let own = getrlimit(Resource::Nproc).current.filter(|_| !geteuid().is_root());
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let files = pids_files(&groups);
    let of_groups = files.iter().filter_map(|file| fs::read_to_string(file).ok()?.trim().parse().ok());
    own.into_iter().chain(of_groups).min()
}

/// Where the limits of this process's control group and of those above it stand.
fn pids_files(cgroup: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in cgroup.lines() {
        // `0::/system.slice/x.service` in version 2, `8:pids:/x` in version 1.
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(kinds), Some(group)) = (fields.next(), fields.next()) else { continue };
        let base = match kinds {
            "" => "/sys/fs/cgroup",
            kinds if kinds.split(',').any(|kind| kind == "pids") => "/sys/fs/cgroup/pids",
            _ => continue,
        };
        let folder = Path::new(group.trim_start_matches('/'));
        files.extend(folder.ancestors().map(|folder| Path::new(base).join(folder).join("pids.max")));
    }
    files
}

fn threads(limit: Option<u64>, jobs: u32) -> Finding {
    let Some(limit) = limit else { return Finding::ok("no limit") };
    let wished = NODE_THREADS + JOB_THREADS * u64::from(jobs);
    let mend = "raise it: TasksMax= of the service, --pids-limit of the container, ulimit -u of the user";
    match limit {
        limit if limit < NODE_THREADS + JOB_THREADS => {
            Finding::fail(format!("{limit} at most, too few for one job"), mend)
        }
        limit if limit < wished => {
            Finding::warn(format!("{limit} at most, {jobs} jobs at once can need {wished}"), mend)
        }
        limit => Finding::ok(format!("{limit} at most")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Level::{self, Fail, Ok as Well, Warn};
    use super::*;

    #[test]
    fn the_umask_must_leave_the_owner_in_and_the_others_out() {
        assert_eq!(umask("Name:\tx\nUmask:\t0027\n"), Some(0o027));
        assert_eq!(umask("Name:\tx\n"), None);
        let level = |root, umask| identity("uid 7", root, umask).level;
        for (mask, wanted) in
            [(0o022, Well), (0o007, Well), (0o002, Well), (0, Warn), (0o020, Warn), (0o777, Fail)]
        {
            assert_eq!(level(false, Some(mask)), wanted, "{mask:o}");
        }
        assert_eq!((level(true, Some(0o022)), level(false, None)), (Warn, Well));
        assert_eq!(identity("uid 7", false, Some(0o22)).result, "uid 7, umask 0022");
    }

    #[test]
    fn a_clock_that_cannot_be_right_is_told() {
        let at = |seconds: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let now = 1_800_000_000;
        let level = |now, made: Option<u64>| clock(at(now), made.map(at)).level;
        assert_eq!(level(0, None), Fail, "a board without a battery");
        assert_eq!(level(now, None), Well);
        assert_eq!(level(now, Some(1)), Well, "a build whose times were set to nothing");
        assert_eq!(level(now, Some(now + 3600)), Well, "a time zone");
        assert_eq!(level(now, Some(now + 90_000)), Fail);
        assert_eq!(level(5_000_000_000, None), Fail);
        assert_eq!(clock(at(now), None).result, "2027-01-15 08:00:00 UTC");
        assert_eq!(clock(SystemTime::now(), program_made()).level, Well, "here");
    }

    #[test]
    fn a_node_needs_one_encoder_for_h264_and_one_for_aac() {
        let with = |names: &'static [&'static str]| encoders(&|name: &str| names.contains(&name));
        let all: &[&str] =
            &["libx264", "aac", "libx265", "libsvtav1", "libvpx-vp9", "ac3", "eac3", "libopus"];
        assert_eq!(with(all).level, Well);
        let free = with(&["libopenh264", "aac", "libopus"]);
        assert_eq!(
            (free.level, free.result.as_str()),
            (
                Warn,
                "H.264 by libopenh264, AAC by aac, Opus by libopus; none for HEVC, AV1, VP9, AC-3, E-AC-3"
            )
        );
        assert_eq!(with(&["libx264"]).level, Fail);
        let bare = with(&["aac", "libx265"]);
        assert_eq!(bare.level, Fail);
        assert!(bare.result.starts_with("none for H.264, AV1, "), "{}", bare.result);
    }

    #[test]
    fn limits_have_a_floor_and_a_wish() {
        let files = |current| open_files(Rlimit { current, maximum: None }).level;
        let levels: [Level; 5] = [Some(255), Some(256), Some(1023), Some(1024), None].map(files);
        assert_eq!(levels, [Fail, Warn, Warn, Well, Well]);
        let level = |limit, jobs| threads(limit, jobs).level;
        assert_eq!(
            [level(Some(127), 1), level(Some(128), 1), level(Some(128), 2), level(None, 9)],
            [Fail, Well, Warn, Well]
        );
    }

    #[test]
    fn the_limits_of_every_control_group_above_count() {
        let paths = |text: &str| -> Vec<String> {
            pids_files(text).iter().map(|path| path.display().to_string()).collect()
        };
        assert_eq!(
            paths("0::/system.slice/sprocket.service\n"),
            [
                "/sys/fs/cgroup/system.slice/sprocket.service/pids.max",
                "/sys/fs/cgroup/system.slice/pids.max",
                "/sys/fs/cgroup/pids.max",
            ]
        );
        assert_eq!(
            paths("9:name=systemd:/a\n8:cpu,pids:/a\n7:cpu:/b\nx\n"),
            ["/sys/fs/cgroup/pids/a/pids.max", "/sys/fs/cgroup/pids/pids.max",]
        );
    }
}
