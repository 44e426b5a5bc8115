//! Threads for disks that may not answer: each look has one of its own, and a deadline.
//!
//! What enters: work on a root or on the output. What leaves: its result, or that the disk is silent. A
//! folder may lie on a server that is dead, and then looking at it never returns: so few of these may hang
//! that other places stay readable, and none of them is the runtime's.

use crate::config::paths::{Area, RootId};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::timeout_at;

/// Threads that may hang at once.
const MAX_THREADS: usize = 16;
/// Of these, for one place: a dead one leaves the others theirs.
const MAX_THREADS_OF_ONE: usize = 4;
/// Looking at files needs little.
const STACK_BYTES: usize = 256 * 1024;

/// Why there is no result.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Stuck {
    /// There is no such place.
    NoPlace,
    /// It is not there in time.
    Silent,
    /// The system grants no thread.
    NoThread(String),
    /// A bug.
    Broken,
}

/// Who may have a thread.
pub(super) struct Threads {
    all: Arc<Semaphore>,
    output: Arc<Semaphore>,
    roots: Vec<Arc<Semaphore>>,
}

impl Threads {
    pub(super) fn new(roots: usize) -> Self {
        let one = || Arc::new(Semaphore::new(MAX_THREADS_OF_ONE));
        Self {
            all: Arc::new(Semaphore::new(MAX_THREADS)),
            output: one(),
            roots: (0..roots).map(|_| one()).collect(),
        }
    }

    /// Does `work` on a thread of its own, and gives it up after `limit`; the work is told until when it
    /// is waited for.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        area: Area,
        limit: Duration,
        work: impl FnOnce(Instant) -> T + Send + 'static,
    ) -> Result<T, Stuck> {
        let deadline = Instant::now() + limit;
        let entered = timeout_at(deadline.into(), self.enter(area)).await.map_err(|_| Stuck::Silent)?;
        let permits = entered.ok_or(Stuck::NoPlace)?;
        let (answer, told) = oneshot::channel();
        let body = move || {
            let _permits = permits;
            // Whoever asked may have been told that it does not answer.
            let _ = answer.send(work(deadline));
        };
        let started = thread::Builder::new().name("look".into()).stack_size(STACK_BYTES).spawn(body);
        started.map_err(|e| Stuck::NoThread(e.to_string()))?;
        match timeout_at(deadline.into(), told).await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(_)) => Err(Stuck::Broken),
            Err(_) => Err(Stuck::Silent),
        }
    }

    /// Leave to start a thread. First that of the place, so that who waits for a dead one holds nothing
    /// that others need.
    async fn enter(&self, area: Area) -> Option<(OwnedSemaphorePermit, OwnedSemaphorePermit)> {
        let of_one = match area {
            Area::Root(RootId(root)) => self.roots.get(root)?,
            Area::Output => &self.output,
        };
        let one = of_one.clone().acquire_owned().await.ok()?;
        Some((one, self.all.clone().acquire_owned().await.ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(id: usize) -> Area {
        Area::Root(RootId(id))
    }

    #[tokio::test(start_paused = true)]
    async fn a_dead_root_leaves_the_others_their_threads() {
        let threads = Threads::new(5);
        let mut held = Vec::new();
        for _ in 0..MAX_THREADS_OF_ONE {
            held.push(threads.enter(root(0)).await.unwrap());
        }
        let limit = Duration::from_secs(2);
        assert!(tokio::time::timeout(limit, threads.enter(root(0))).await.is_err(), "its share is used up");
        for area in [root(1), root(2), Area::Output] {
            for _ in 0..MAX_THREADS_OF_ONE {
                held.push(threads.enter(area).await.unwrap());
            }
        }
        assert_eq!(held.len(), MAX_THREADS);
        assert!(tokio::time::timeout(limit, threads.enter(root(4))).await.is_err(), "all are used up");
        held.pop();
        assert!(threads.enter(root(4)).await.is_some());
        assert!(threads.enter(root(5)).await.is_none(), "there is no such root");
    }

    #[tokio::test]
    async fn work_is_done_or_given_up() {
        let (threads, long) = (Threads::new(1), Duration::from_secs(60));
        assert_eq!(threads.run(root(0), long, |_| 7).await, Ok(7));
        assert_eq!(threads.run(root(1), long, |_| 7).await, Err(Stuck::NoPlace));
        let panics = threads.run(Area::Output, long, |_| -> u8 { panic!("on purpose") }).await;
        assert_eq!(panics, Err(Stuck::Broken));
        let (tell, told) = std::sync::mpsc::channel::<()>();
        let short = Duration::from_millis(20);
        let hangs = threads
            .run(Area::Output, short, move |_| {
                let _ = told.recv();
            })
            .await;
        assert_eq!(hangs, Err(Stuck::Silent));
        drop(tell);
    }
}
