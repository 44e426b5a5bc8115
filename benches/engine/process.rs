//! Processes and what they cost, as the kernel counted it.
//!
//! The one place with `unsafe`: std can wait for a child but throws away its resource usage.

#![allow(unsafe_code)]

use crate::Result;
use std::fs::{self, File};
use std::io;
use std::mem::MaybeUninit;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Instant;

/// Bytes in the unit of `ru_maxrss`.
const MAXRSS_UNIT_BYTES: u64 = if cfg!(target_os = "macos") { 1 } else { 1024 };
/// Lines of a failed command's stderr that are shown.
const SHOWN_LINES: usize = 12;

/// What one side's processes cost together.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    /// From the start of the first to the end of the last, in seconds.
    pub wall_s: f64,
    /// User and system time of all, in seconds.
    pub cpu_s: f64,
    /// Sum of the largest resident sets, in bytes.
    pub peak_bytes: u64,
    /// Share of the machine's processor time that went to other processes meanwhile, 0 to 1.
    pub others: f64,
}

/// Starts all commands at once and waits for all. Their stderr goes to files in `logs`, and the end
/// of it into the error when one of them fails.
pub fn run_together(commands: Vec<Command>, logs: &Path) -> Result<Cost> {
    fs::create_dir_all(logs)?;
    let (started, before) = (Instant::now(), Ticks::now());
    let mut children = Vec::new();
    for (i, mut command) in commands.into_iter().enumerate() {
        let log = logs.join(format!("{i}.log"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&log)?);
        match command.spawn() {
            Ok(child) => children.push((child, command, log)),
            Err(e) => {
                stop(children);
                return Err(cannot_start(&command, &e));
            }
        }
    }
    let mut cost = Cost::default();
    let mut failure = None;
    for (child, command, log) in children {
        let (status, usage) = reap(&child)?;
        cost.cpu_s += seconds(usage.ru_utime) + seconds(usage.ru_stime);
        cost.peak_bytes += u64::try_from(usage.ru_maxrss).unwrap_or(0) * MAXRSS_UNIT_BYTES;
        if !status.success() {
            failure = Some(failed(&command, status, &fs::read_to_string(log).unwrap_or_default()));
        }
    }
    cost.wall_s = started.elapsed().as_secs_f64();
    cost.others = before.zip(Ticks::now()).map_or(0.0, |(before, after)| after.others_since(&before, &cost));
    failure.map_or(Ok(cost), Err)
}

/// What Linux counts for all processes together, in ticks since the start of the machine.
struct Ticks {
    busy: u64,
    total: u64,
    cores: usize,
}

impl Ticks {
    /// `None` where there is no such count.
    fn now() -> Option<Self> {
        let text = fs::read_to_string("/proc/stat").ok()?;
        let cores = text.lines().filter(|line| line.starts_with("cpu")).count().checked_sub(1)?;
        // user, nice, system, idle, iowait, irq, softirq, steal; guests are part of user.
        let fields = text.lines().next()?.split_whitespace().skip(1).take(8).map(str::parse);
        let fields: Vec<u64> = fields.collect::<std::result::Result<_, _>>().ok()?;
        let total = fields.iter().sum();
        let idle: u64 = fields.iter().skip(3).take(2).sum();
        Some(Self { busy: total - idle, total, cores })
    }

    fn others_since(&self, before: &Self, own: &Cost) -> f64 {
        let busy = self.busy.saturating_sub(before.busy) as f64;
        let total = self.total.saturating_sub(before.total).max(1) as f64;
        (busy / total - own.cpu_s / (own.wall_s * self.cores as f64)).max(0.0)
    }
}

/// Waits for a child and takes its resource usage. The child must not be waited for in another way.
fn reap(child: &Child) -> io::Result<(ExitStatus, libc::rusage)> {
    let pid = libc::pid_t::try_from(child.id()).map_err(io::Error::other)?;
    let (mut status, mut usage) = (0, MaybeUninit::<libc::rusage>::zeroed());
    loop {
        // SAFETY: both pointers are valid for writing, and `pid` is a child of ours not reaped yet.
        let found = unsafe { libc::wait4(pid, &mut status, 0, usage.as_mut_ptr()) };
        if found == pid {
            // SAFETY: all zeroes is a valid `rusage`, and the kernel has filled it in since.
            return Ok((ExitStatus::from_raw(status), unsafe { usage.assume_init() }));
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

fn stop(children: Vec<(Child, Command, PathBuf)>) {
    for (mut child, ..) in children {
        // It may have ended by itself: nothing to do about it then.
        let _ = child.kill();
        let _ = child.wait();
    }
}

fn seconds(time: libc::timeval) -> f64 {
    time.tv_sec as f64 + time.tv_usec as f64 / 1e6
}

/// Whether this process was itself so large that a child's peak says nothing: until a child runs its
/// own program, Linux counts its parent's pages as its own.
pub fn too_small_to_tell(peak_bytes: u64) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let own_kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0);
    peak_bytes <= own_kib * 1024
}

/// The `ffmpeg` command, told to ask nothing and to say nothing but errors.
pub fn ffmpeg() -> Command {
    let mut command = Command::new("ffmpeg");
    command.args(["-nostdin", "-hide_banner", "-nostats", "-loglevel", "error", "-y"]);
    command
}

/// The stdout of a command that has to succeed.
pub fn bytes_of(command: &mut Command) -> Result<Vec<u8>> {
    let output = command.stdin(Stdio::null()).output().map_err(|e| cannot_start(command, &e))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    Err(failed(command, output.status, &String::from_utf8_lossy(&output.stderr)))
}

/// The stdout of a command that has to succeed, as text.
pub fn text_of(command: &mut Command) -> Result<String> {
    Ok(String::from_utf8_lossy(&bytes_of(command)?).into_owned())
}

/// The stderr of a command that has to succeed, as text.
pub fn messages_of(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().map_err(|e| cannot_start(command, &e))?;
    let messages = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() { Ok(messages) } else { Err(failed(command, output.status, &messages)) }
}

/// Reads a file once, so that the first run finds it in memory like all later ones.
pub fn warm(file: &Path) -> Result<()> {
    io::copy(&mut File::open(file)?, &mut io::sink())?;
    Ok(())
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn cannot_start(command: &Command, error: &io::Error) -> Failure {
    let name = command.get_program().to_string_lossy();
    format!("cannot start {name}: {error} (the ffmpeg and ffprobe commands come with `make setup`)").into()
}

fn failed(command: &Command, status: ExitStatus, messages: &str) -> Failure {
    let lines: Vec<&str> = messages.lines().collect();
    let shown = lines.get(lines.len().saturating_sub(SHOWN_LINES)..).unwrap_or_default().join("\n  ");
    format!("{status}: {command:?}\n  {shown}").into()
}
