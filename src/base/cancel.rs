//! The abort flag of a run, and bounded queues that wake on it.
//!
//! One [`Cancel`] belongs to one run. Every stage looks at it; every blocking wait of ours selects
//! on it. Setting it is atomic, cheap, callable from a signal handler's thread, and final.
//!
//! The wake-up is the closing of a channel that never carries a message: a closed channel is
//! "ready" for all that wait on it, now and later, so no wake-up can be lost.

use super::error::{Error, Result, Stage};
use crossbeam_channel::{Receiver, Sender, after, bounded, never, select};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

/// Handle on the abort flag of a run. Clones share the flag.
#[derive(Clone, Debug)]
pub struct Cancel {
    shared: Arc<Shared>,
    closed: Receiver<()>,
}

#[derive(Debug)]
struct Shared {
    flag: AtomicBool,
    /// A child counts for its parent.
    looks: Arc<AtomicU64>,
    /// Dropped to wake the waiters.
    guard: Mutex<Option<Sender<()>>>,
    children: Mutex<Vec<Weak<Shared>>>,
}

impl Shared {
    fn new(looks: Arc<AtomicU64>) -> (Arc<Self>, Receiver<()>) {
        let (guard, closed) = bounded(0);
        let (flag, children) = (AtomicBool::new(false), Mutex::default());
        (Arc::new(Self { flag, looks, guard: Mutex::new(Some(guard)), children }), closed)
    }

    fn cancel(&self) {
        self.flag.store(true, Ordering::SeqCst);
        lock(&self.guard).take();
        let children = std::mem::take(&mut *lock(&self.children));
        children.iter().filter_map(Weak::upgrade).for_each(|child| child.cancel());
    }
}

fn lock<T>(held: &Mutex<T>) -> MutexGuard<'_, T> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Default for Cancel {
    fn default() -> Self {
        Self::new()
    }
}

impl Cancel {
    /// A flag that is not set.
    pub fn new() -> Self {
        let (shared, closed) = Shared::new(Arc::default());
        Self { shared, closed }
    }

    /// A flag of its own that is set when this one is, but not the other way round: a run that fails sets
    /// its own flag, and whoever ordered it may try again. Its looks count here too.
    pub fn child(&self) -> Self {
        let (shared, closed) = Shared::new(self.shared.looks.clone());
        lock(&self.shared.children).push(Arc::downgrade(&shared));
        // Set just before the child was known: nobody else tells it.
        if self.shared.flag.load(Ordering::SeqCst) {
            shared.cancel();
        }
        Self { shared, closed }
    }

    /// Sets the flag and wakes everything that waits with it.
    pub fn cancel(&self) {
        self.shared.cancel();
    }

    /// Whether the flag is set.
    pub fn is_cancelled(&self) -> bool {
        self.shared.flag.load(Ordering::Relaxed)
    }

    /// An error when the flag is set, so that a loop can say `cancel.check(stage)?`. The look is
    /// counted ([`Cancel::looks`]).
    pub fn check(&self, stage: Stage) -> Result<()> {
        self.goes_on();
        if self.is_cancelled() { Err(Error::cancelled(stage)) } else { Ok(()) }
    }

    /// Counts a look where the flag is not looked at, but work goes on.
    pub fn goes_on(&self) {
        self.shared.looks.fetch_add(1, Ordering::Relaxed);
    }

    /// How often the run's stages have looked. They look with every item that they pass on, so a run
    /// whose count stands still is stuck: in a read that hangs, a codec that does not come back.
    pub fn looks(&self) -> u64 {
        self.shared.looks.load(Ordering::Relaxed)
    }

    /// A channel that is closed when the flag is set, for `select!`.
    pub fn closed(&self) -> &Receiver<()> {
        &self.closed
    }

    /// Waits until the flag is set or the time is over; says whether it is set.
    pub fn wait_timeout(&self, limit: Duration) -> bool {
        select! {
            recv(self.closed) -> _ => true,
            recv(after(limit)) -> _ => self.is_cancelled(),
        }
    }
}

/// A bounded queue between two stages. `capacity` items wait at most; the producer blocks beyond.
pub fn queue<T>(capacity: usize, cancel: &Cancel, stage: Stage) -> (QueueTx<T>, QueueRx<T>) {
    let (tx, rx) = bounded(capacity);
    (QueueTx { tx, cancel: cancel.clone(), stage }, QueueRx { rx, cancel: cancel.clone(), stage })
}

/// The producer's end of a [`queue`].
#[derive(Debug)]
pub struct QueueTx<T> {
    tx: Sender<T>,
    cancel: Cancel,
    stage: Stage,
}

/// What became of an item that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// It is in the queue.
    Queued,
    /// The consumer has gone: it wants no more. Not an error: it ended first, with its own result.
    ConsumerGone,
}

impl<T> Clone for QueueTx<T> {
    fn clone(&self) -> Self {
        Self { tx: self.tx.clone(), cancel: self.cancel.clone(), stage: self.stage }
    }
}

impl<T> QueueTx<T> {
    /// Puts an item into the queue, waiting for room. Fails when the run is cancelled.
    pub fn send(&self, item: T) -> Result<Sent> {
        self.cancel.check(self.stage)?;
        select! {
            send(self.tx, item) -> sent => Ok(if sent.is_ok() { Sent::Queued } else { Sent::ConsumerGone }),
            recv(self.cancel.closed()) -> _ => Err(Error::cancelled(self.stage)),
        }
    }
}

/// What ended a wait for an item or a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Woken<T> {
    /// The next item.
    Item(T),
    /// The producer has gone and the queue is empty.
    Closed,
    /// A word on the other channel.
    Signal,
    /// Whoever could say something on the other channel has gone.
    SignalGone,
}

/// The consumer's end of a [`queue`].
#[derive(Debug)]
pub struct QueueRx<T> {
    rx: Receiver<T>,
    cancel: Cancel,
    stage: Stage,
}

impl<T> QueueRx<T> {
    /// The next item; `None` when the producer has gone and the queue is empty. Fails when the run
    /// is cancelled, even if items wait.
    pub fn recv(&self) -> Result<Option<T>> {
        self.cancel.check(self.stage)?;
        select! {
            recv(self.rx) -> item => match item {
                Ok(item) => Ok(Some(item)),
                // A producer that broke off because of the cancel closes the queue at the same moment.
                Err(_) => self.cancel.check(self.stage).map(|()| None),
            },
            recv(self.cancel.closed()) -> _ => Err(Error::cancelled(self.stage)),
        }
    }

    /// The next item, or a word on another channel, whichever comes first. Fails when the run is cancelled, even
    /// if items wait.
    pub fn recv_or(&self, signal: &Receiver<()>) -> Result<Woken<T>> {
        self.cancel.check(self.stage)?;
        select! {
            recv(self.rx) -> item => match item {
                Ok(item) => Ok(Woken::Item(item)),
                Err(_) => self.cancel.check(self.stage).map(|()| Woken::Closed),
            },
            recv(signal) -> word => Ok(if word.is_ok() { Woken::Signal } else { Woken::SignalGone }),
            recv(self.cancel.closed()) -> _ => Err(Error::cancelled(self.stage)),
        }
    }

    /// Whether an item would have to be waited for.
    pub fn is_empty(&self) -> bool {
        self.rx.is_empty()
    }

    /// A queue that never has an item, for a stage that lacks this input.
    pub fn never(cancel: &Cancel, stage: Stage) -> Self {
        Self { rx: never(), cancel: cancel.clone(), stage }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn a_blocked_producer_and_a_blocked_consumer_wake() {
        let cancel = Cancel::new();
        let (tx, _rx) = queue::<u8>(1, &cancel, Stage::Decode);
        let (_tx2, rx2) = queue::<u8>(1, &cancel, Stage::Encode);
        assert_eq!(tx.send(1), Ok(Sent::Queued));
        let blocked =
            [thread::spawn(move || tx.send(2).map(|_| ())), thread::spawn(move || rx2.recv().map(|_| ()))];
        cancel.cancel();
        for thread in blocked {
            assert!(thread.join().unwrap().unwrap_err().is_cancelled());
        }
    }

    #[test]
    fn a_child_follows_its_parent_and_not_the_other_way_round() {
        let parent = Cancel::new();
        let (failed, runs) = (parent.child(), parent.child());
        failed.cancel();
        assert!(!parent.is_cancelled() && !runs.is_cancelled());
        runs.check(Stage::Decode).unwrap();
        assert_eq!(parent.looks(), 1);
        parent.cancel();
        assert!(runs.wait_timeout(Duration::ZERO) && runs.child().is_cancelled());
        assert!(parent.child().is_cancelled(), "born after the end");
    }

    #[test]
    fn items_in_the_queue_do_not_outlive_a_cancel() {
        let cancel = Cancel::new();
        let (tx, rx) = queue::<u8>(4, &cancel, Stage::Decode);
        tx.send(1).unwrap();
        cancel.cancel();
        assert!(rx.recv().unwrap_err().is_cancelled());
        assert!(tx.send(2).unwrap_err().is_cancelled());
    }

    #[test]
    fn the_end_is_seen_from_both_sides() {
        let cancel = Cancel::new();
        let (tx, rx) = queue::<u8>(4, &cancel, Stage::Decode);
        tx.send(7).unwrap();
        drop(tx);
        assert_eq!(rx.recv(), Ok(Some(7)));
        assert_eq!(rx.recv(), Ok(None));
        let (tx, rx) = queue::<u8>(4, &cancel, Stage::Decode);
        drop(rx);
        assert_eq!(tx.send(1), Ok(Sent::ConsumerGone));
    }
}
