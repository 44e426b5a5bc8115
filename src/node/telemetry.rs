//! Processor, memory and threads: measured once a second by a thread of its own.
//!
//! What enters: the operating system's figures. What leaves: a small snapshot that anybody may copy
//! at any time without waiting. No file systems here: those can hang (see `disks`).

use crate::base::cancel::Cancel;
use crate::base::error::{Error, ErrorKind, Result, Stage};
use serde::Serialize;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use std::{fs, thread};
use sysinfo::{Pid, Process, ProcessRefreshKind, ProcessesToUpdate, System};
use utoipa::ToSchema;

/// How often it measures.
const EVERY: Duration = Duration::from_secs(1);
/// The first load needs two looks; they need not be a second apart.
const FIRST: Duration = Duration::from_millis(250);
/// How the names of threads begin that run code of libav. Threads that a codec library starts inherit
/// the name of the thread that opened the codec.
const AV_THREAD: &[u8] = b"av";

/// The processor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, ToSchema)]
pub struct Cpu {
    /// Load of the whole machine over the last second: 0 to 100.
    pub load_percent: f64,
    /// Cores that this process may use.
    pub cores: u32,
}

/// Main memory, as far as this process may use it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, ToSchema)]
pub struct Memory {
    /// What there is: the machine's, or the limit of the control group where that is lower.
    pub total_bytes: u64,
    /// What is not available.
    pub used_bytes: u64,
    /// What can be had without swapping; caches that can be given up count.
    pub available_bytes: u64,
    /// The share in use, in per cent of the total: 0 to 100.
    pub pressure_percent: f64,
}

/// This process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct ProcessFigures {
    /// Memory in main memory.
    pub rss_bytes: u64,
    /// Descriptors open.
    pub open_fds: u64,
    /// Threads alive.
    pub threads: u32,
    /// Those of them that run code of libav; 0 on systems that do not tell.
    pub av_threads: u32,
}

/// One look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, ToSchema)]
pub struct Snapshot {
    /// The processor.
    pub cpu: Cpu,
    /// Main memory.
    pub memory: Memory,
    /// This process.
    pub process: ProcessFigures,
}

/// The measuring thread. It ends when this is dropped.
#[derive(Debug)]
pub struct Telemetry {
    latest: Arc<Mutex<Snapshot>>,
    stop: Cancel,
}

impl Telemetry {
    /// Looks once, then starts the thread. The load is 0 until a quarter of a second later.
    ///
    /// # Errors
    /// `telemetry_unavailable` when the system tells nothing or grants no thread.
    pub fn start() -> Result<Self> {
        let refuse = |why: String| {
            let message = format!("cannot measure load and memory: {why}");
            Error::new(ErrorKind::Unsupported, "telemetry_unavailable", Stage::Plan, message)
                .hint("is /proc mounted and readable, and does the limit on threads leave room?")
        };
        let mut gauge = Gauge::new().map_err(refuse)?;
        let latest = Arc::new(Mutex::new(gauge.look()));
        let stop = Cancel::new();
        let (shared, stopped) = (latest.clone(), stop.clone());
        let body = move || measure(&mut gauge, &shared, &stopped);
        let spawned = thread::Builder::new().name("telemetry".into()).spawn(body);
        spawned.map_err(|e| refuse(e.to_string()))?;
        Ok(Self { latest, stop })
    }

    /// The newest figures, at most a second old. Never waits: the lock is held only to copy them.
    pub fn latest(&self) -> Snapshot {
        *self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn measure(gauge: &mut Gauge, latest: &Mutex<Snapshot>, stop: &Cancel) {
    let mut wait = FIRST;
    while !stop.wait_timeout(wait) {
        let snapshot = gauge.look();
        *latest.lock().unwrap_or_else(PoisonError::into_inner) = snapshot;
        wait = EVERY;
    }
}

struct Gauge {
    system: System,
    pid: Pid,
    cores: u32,
}

impl Gauge {
    fn new() -> Result<Self, String> {
        let system = System::new().map_err(|e| format!("{e:?}"))?;
        let pid = sysinfo::get_current_pid().map_err(|e| format!("{e:?}"))?;
        // Honours affinity and the quota of a control group.
        let cores = thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(u32::MAX));
        Ok(Self { system, pid, cores })
    }

    fn look(&mut self) -> Snapshot {
        self.system.refresh_memory();
        self.system.refresh_cpu_usage();
        let what = ProcessRefreshKind::nothing().with_memory().without_tasks();
        self.system.refresh_processes_specifics(ProcessesToUpdate::Some(&[self.pid]), false, what);
        let process = self.system.process(self.pid);
        let (threads, av_threads) = threads();
        Snapshot {
            cpu: Cpu { load_percent: percent(f64::from(self.system.global_cpu_usage())), cores: self.cores },
            memory: self.memory(process),
            process: ProcessFigures {
                rss_bytes: process.map_or(0, Process::memory),
                open_fds: open_fds(),
                threads,
                av_threads,
            },
        }
    }

    fn memory(&self, process: Option<&Process>) -> Memory {
        let machine = (self.system.total_memory(), self.system.available_memory());
        let group = process.and_then(Process::cgroup_limits);
        let group = group.map(|limits| (limits.total_memory, limits.free_memory, limits.rss));
        memory(machine, group)
    }
}

/// `machine`: total and available. `group`: limit, free and anonymous memory of the control group.
/// What the kernel calls free in a group lacks the page cache, which a transcoder fills up within
/// minutes and which is given up when something needs the room: it counts as available here, as it
/// does in the machine's own figure.
fn memory((total, available): (u64, u64), group: Option<(u64, u64, u64)>) -> Memory {
    let (total_bytes, available_bytes) = match group {
        Some((limit, free, anonymous)) if limit < total => {
            (limit, limit.saturating_sub(anonymous).max(free).min(available))
        }
        _ => (total, available.min(total)),
    };
    let used_bytes = total_bytes.saturating_sub(available_bytes);
    let pressure_percent =
        if total_bytes == 0 { 0.0 } else { percent(used_bytes as f64 * 100.0 / total_bytes as f64) };
    Memory { total_bytes, used_bytes, available_bytes, pressure_percent }
}

/// In range and with one digit: the others say nothing.
fn percent(value: f64) -> f64 {
    if value.is_finite() { (value.clamp(0.0, 100.0) * 10.0).round() / 10.0 } else { 0.0 }
}

fn open_fds() -> u64 {
    let folder = if cfg!(target_os = "linux") { "/proc/self/fd" } else { "/dev/fd" };
    // The folder that is being read is open itself.
    fs::read_dir(folder).map_or(0, |entries| entries.count().saturating_sub(1) as u64)
}

/// Threads of this process, and how many of them run code of libav.
#[cfg(target_os = "linux")]
pub fn threads() -> (u32, u32) {
    let Ok(tasks) = fs::read_dir("/proc/self/task") else { return (0, 0) };
    let (mut all, mut av) = (0u32, 0u32);
    for task in tasks.flatten() {
        all = all.saturating_add(1);
        av = av.saturating_add(u32::from(is_av(&task.path())));
    }
    (all, av)
}

/// Threads of this process, and how many of them run code of libav: this system does not tell.
#[cfg(not(target_os = "linux"))]
pub fn threads() -> (u32, u32) {
    (0, 0)
}

/// A thread that has ended meanwhile has no name, and is not alive.
fn is_av(task: &Path) -> bool {
    fs::read(task.join("comm")).is_ok_and(|name| name.starts_with(AV_THREAD))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    const GIB: u64 = 1 << 30;

    #[test]
    fn a_lower_limit_of_the_group_is_the_total() {
        let m = memory((16 * GIB, 10 * GIB), Some((4 * GIB, GIB / 2, GIB)));
        assert_eq!((m.total_bytes, m.used_bytes, m.available_bytes), (4 * GIB, GIB, 3 * GIB));
        assert_eq!(m.pressure_percent, 25.0);
    }

    #[test]
    fn a_full_machine_leaves_a_group_no_more_than_it_has() {
        let m = memory((16 * GIB, GIB), Some((4 * GIB, 3 * GIB, GIB / 2)));
        assert_eq!((m.total_bytes, m.available_bytes, m.pressure_percent), (4 * GIB, GIB, 75.0));
    }

    #[test]
    fn without_a_lower_limit_the_machine_counts() {
        for group in [None, Some((16 * GIB, 0, 9 * GIB)), Some((u64::MAX, 0, 0))] {
            let m = memory((16 * GIB, 12 * GIB), group);
            assert_eq!((m.total_bytes, m.used_bytes, m.pressure_percent), (16 * GIB, 4 * GIB, 25.0));
        }
    }

    #[test]
    fn odd_figures_stay_in_range() {
        assert_eq!(memory((0, 0), None).pressure_percent, 0.0);
        assert_eq!(memory((1, 5), None).used_bytes, 0);
        assert_eq!(
            (percent(f64::NAN), percent(-1.0), percent(250.0), percent(33.36)),
            (0.0, 0.0, 100.0, 33.4)
        );
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn threads_of_libav_are_counted_by_name_and_only_while_alive() {
        let (before, av_before) = threads();
        let (ready, readies) = mpsc::channel();
        let (end, ends) = mpsc::channel::<()>();
        let ends = Arc::new(Mutex::new(ends));
        let started: Vec<_> = ["av:enc", "avdec", "demux", "xav"]
            .into_iter()
            .map(|name| {
                let (ready, ends) = (ready.clone(), ends.clone());
                let body = move || {
                    ready.send(()).unwrap();
                    let _ = ends.lock().unwrap().recv();
                };
                thread::Builder::new().name(name.into()).spawn(body).unwrap()
            })
            .collect();
        started.iter().for_each(|_| readies.recv().unwrap());
        let (during, av_during) = threads();
        assert_eq!(av_during - av_before, 2);
        assert!(during >= before.min(4) + 2, "{before} threads, then {during}");
        drop(end);
        started.into_iter().for_each(|thread| thread.join().unwrap());
        // The kernel takes a joined thread off its list a moment after the join.
        let gone = || threads().1 == av_before;
        assert!((0..1000).any(|_| gone() || Cancel::new().wait_timeout(Duration::from_millis(1))));
    }

    #[test]
    fn the_figures_are_there_at_once_and_the_thread_ends_with_its_owner() {
        let telemetry = Telemetry::start().unwrap();
        let now = telemetry.latest();
        assert!(now.cpu.cores >= 1 && now.memory.total_bytes > 64 << 20);
        assert_eq!(now.memory.total_bytes, now.memory.used_bytes + now.memory.available_bytes);
        assert!(now.process.rss_bytes > 1 << 20, "{now:?}");
        #[cfg(target_os = "linux")]
        assert!(now.process.open_fds >= 3 && now.process.threads >= 2, "{now:?}");
        let latest = Arc::downgrade(&telemetry.latest);
        drop(telemetry);
        let gone = || latest.upgrade().is_none();
        assert!((0..2000).any(|_| gone() || Cancel::new().wait_timeout(Duration::from_millis(1))));
    }
}
