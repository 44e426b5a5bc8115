//! The cores that jobs may use, and their place behind everything else.
//!
//! What enters: `limits.max_cpu_cores`. What leaves: threads that are bound to so many cores and stand
//! behind those that answer requests. To be entered before codecs open: the threads that they start
//! inherit both.

#[cfg(target_os = "linux")]
use rustix::thread::CpuSet;

/// How far behind the threads that answer requests (0) and before what a desktop calls idle (19).
#[cfg(target_os = "linux")]
const NICE: i32 = 15;

/// Somebody watches what these threads make: before jobs, and behind the threads that answer requests.
#[cfg(target_os = "linux")]
const NICE_FOR_VIEWERS: i32 = 5;

/// A set of cores.
#[derive(Clone, Debug)]
pub struct Cores {
    count: u32,
    /// `None`: all that the process may use anyway.
    #[cfg(target_os = "linux")]
    set: Option<CpuSet>,
}

impl Cores {
    /// The first `max` of those that this process may use; all of them where `max` is 0 or more than
    /// there are. Elsewhere than on Linux threads cannot be bound: then `max` only limits how many
    /// threads are planned.
    pub fn allowed(max: u32) -> Self {
        let there = std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(1));
        let count = if max == 0 { there } else { max.min(there) };
        Self {
            count,
            #[cfg(target_os = "linux")]
            set: (count < there).then(|| first(count)).flatten(),
        }
    }

    /// How many.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Binds the calling thread to them and puts it behind the others. What the system refuses is left:
    /// the work matters more. Elsewhere than on Linux nothing is bound.
    pub fn enter(&self) {
        #[cfg(target_os = "linux")]
        self.enter_at(NICE);
    }

    /// The same for a thread on whose work somebody waits who watches.
    pub fn enter_for_viewers(&self) {
        #[cfg(target_os = "linux")]
        self.enter_at(NICE_FOR_VIEWERS);
    }

    #[cfg(target_os = "linux")]
    fn enter_at(&self, nice: i32) {
        if let Some(set) = &self.set
            && let Err(e) = rustix::thread::sched_setaffinity(None, set)
        {
            tracing::warn!("cannot keep a job to {} cores: {e}", self.count);
        }
        let me = rustix::thread::gettid();
        if let Err(e) = rustix::process::setpriority_process(Some(me), nice) {
            tracing::debug!("cannot lower the priority of a job's threads: {e}");
        }
    }
}

#[cfg(target_os = "linux")]
fn first(count: u32) -> Option<CpuSet> {
    let mine = rustix::thread::sched_getaffinity(None).ok()?;
    let mut set = CpuSet::new();
    let allowed = (0..CpuSet::MAX_CPU).filter(|core| mine.is_set(*core));
    allowed.take(usize::try_from(count).unwrap_or(usize::MAX)).for_each(|core| set.set(core));
    Some(set)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn threads_that_a_bound_thread_starts_are_bound_and_behind() {
        let cores = Cores::allowed(1);
        assert_eq!(cores.count(), 1);
        let seen = std::thread::spawn(move || {
            cores.enter();
            std::thread::spawn(|| {
                let me = rustix::thread::gettid();
                let cores = rustix::thread::sched_getaffinity(None).unwrap().count();
                (cores, rustix::process::getpriority_process(Some(me)).unwrap())
            })
            .join()
            .unwrap()
        });
        assert_eq!(seen.join().unwrap(), (1, NICE));
        let me = rustix::thread::gettid();
        assert!(rustix::process::getpriority_process(Some(me)).unwrap() < NICE, "only those are behind");
        assert!(Cores::allowed(0).count() >= 1);
    }
}
