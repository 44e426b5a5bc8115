//! How callers reach the thread of the journal, and how it answers.
//!
//! What enters: what is to be done with the database, as a closure. What leaves: its outcome, to the
//! one who asked, if he still waits. What must not live here: SQL, transactions.

use super::fault::{Fault, closed, internal};
use crate::base::error::{Error, Result};
use crossbeam_channel::{Receiver, Sender, bounded};
use rusqlite::Connection;
use std::future::Future;
use std::path::Path;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Requests that may wait at the door; who comes then waits for room. Each is a job of a few KiB.
const ROOM: usize = 256;

/// One thing to be done by the thread.
pub(super) enum Request {
    /// Something that changes the database. Answered when it is on the disk.
    Write(Box<dyn Write>),
    /// Something that only looks.
    Read(Box<dyn Read>),
}

/// A change, to be made inside a transaction that others share.
pub(super) trait Write: Send {
    /// Makes the change in the transaction that is open. Called again when that transaction was lost.
    fn run(&mut self, db: &Connection) -> Result<(), Fault>;
    /// Tells the caller what became of it: what `run` found, or the failure.
    fn answer(self: Box<Self>, failure: Option<Error>);
}

/// A look.
pub(super) trait Read: Send {
    /// Looks and tells the caller. Returns whether the connection had better be made anew.
    fn run(self: Box<Self>, db: &Connection, database: &Path) -> bool;
}

struct WriteTask<W, T, A> {
    work: W,
    found: Option<T>,
    tell: A,
}

impl<W, T, A> Write for WriteTask<W, T, A>
where
    W: FnMut(&Connection) -> Result<T, Fault> + Send,
    T: Send,
    A: FnOnce(Result<T>) + Send,
{
    fn run(&mut self, db: &Connection) -> Result<(), Fault> {
        self.found = None;
        self.found = Some((self.work)(db)?);
        Ok(())
    }

    fn answer(self: Box<Self>, failure: Option<Error>) {
        let outcome = match (failure, self.found) {
            (Some(failure), _) => Err(failure),
            (None, Some(found)) => Ok(found),
            (None, None) => Err(internal("a write to the journal was answered before it was made")),
        };
        (self.tell)(outcome);
    }
}

struct ReadTask<W, A> {
    work: W,
    tell: A,
}

impl<W, T, A> Read for ReadTask<W, A>
where
    W: FnOnce(&Connection) -> Result<T, Fault> + Send,
    A: FnOnce(Result<T>) + Send,
{
    fn run(self: Box<Self>, db: &Connection, database: &Path) -> bool {
        let outcome = (self.work)(db);
        let reopen = outcome.as_ref().err().is_some_and(Fault::wants_reopening);
        (self.tell)(outcome.map_err(|fault| fault.told(database)));
        reopen
    }
}

/// A write that `tell` hears of.
pub(super) fn write<T: Send + 'static>(
    work: impl FnMut(&Connection) -> Result<T, Fault> + Send + 'static,
    tell: impl FnOnce(Result<T>) + Send + 'static,
) -> Request {
    Request::Write(Box::new(WriteTask { work, found: None, tell }))
}

/// A read that `tell` hears of.
pub(super) fn read<T: Send + 'static>(
    work: impl FnOnce(&Connection) -> Result<T, Fault> + Send + 'static,
    tell: impl FnOnce(Result<T>) + Send + 'static,
) -> Request {
    Request::Read(Box::new(ReadTask { work, tell }))
}

/// A request on its way, with its place in the room, which is free again when the thread takes it.
pub(super) struct Entry {
    pub(super) request: Request,
    _place: OwnedSemaphorePermit,
}

/// The way in. Shut once and for all: what came before is done, what comes later is refused.
pub(super) struct Door {
    way: Mutex<Option<Sender<Entry>>>,
    room: Arc<Semaphore>,
}

impl Door {
    /// The door, and the thread's side of it.
    pub(super) fn new() -> (Arc<Self>, Receiver<Entry>) {
        let (way, requests) = bounded(ROOM);
        let door = Self { way: Mutex::new(Some(way)), room: Arc::new(Semaphore::new(ROOM)) };
        (Arc::new(door), requests)
    }

    /// Waits for room and hands the request in. From then on it is done whether or not the caller
    /// still waits.
    pub(super) async fn enter(&self, request: Request) -> Result<()> {
        let place = self.room.clone().acquire_owned().await.map_err(|_| closed())?;
        self.hand_in(request, place)
    }

    /// Hands the request in if there is room at once.
    pub(super) fn try_enter(&self, request: Request) -> Result<()> {
        let place = self.room.clone().try_acquire_owned().map_err(|_| closed())?;
        self.hand_in(request, place)
    }

    fn hand_in(&self, request: Request, place: OwnedSemaphorePermit) -> Result<()> {
        let way = self.way.lock().unwrap_or_else(PoisonError::into_inner);
        // There is a slot for each place in the room, so this fails only when the door is shut.
        let sent = way.as_ref().map(|way| way.try_send(Entry { request, _place: place }));
        sent.and_then(Result::ok).ok_or_else(closed)
    }

    /// Lets nothing more in.
    pub(super) fn shut(&self) {
        self.room.close();
        self.way.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// How many requests wait for the thread.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.way.lock().unwrap().as_ref().map_or(0, Sender::len)
    }

    /// Whether nothing more is let in.
    pub(super) fn is_shut(&self) -> bool {
        self.room.is_closed()
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits for a future of this module on a thread of its own. Unlike a runtime's, this wait is allowed
/// anywhere; on a runtime's worker it only costs that worker its time.
pub(super) fn wait<F: Future>(future: F) -> F::Output {
    // Without this, a task that has used up its turn would be told "not yet" for ever.
    let mut future = pin!(tokio::task::unconstrained(future));
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::oneshot;

    fn nothing() -> Request {
        read(|_| Ok(()), |_| {})
    }

    #[test]
    fn who_finds_no_room_waits_and_is_let_in_when_there_is_some() {
        let (door, requests) = Door::new();
        for _ in 0..ROOM {
            door.try_enter(nothing()).unwrap();
        }
        assert_eq!(door.try_enter(nothing()).unwrap_err().code(), "journal_closed");
        let late = std::thread::spawn({
            let door = door.clone();
            move || wait(door.enter(nothing()))
        });
        drop(requests.recv().unwrap());
        late.join().unwrap().unwrap();
        assert_eq!(requests.len(), ROOM);
    }

    #[test]
    fn a_shut_door_refuses_who_waits_and_who_comes_and_keeps_what_came() {
        let (door, requests) = Door::new();
        for _ in 0..ROOM {
            door.try_enter(nothing()).unwrap();
        }
        let late = std::thread::spawn({
            let door = door.clone();
            move || wait(door.enter(nothing()))
        });
        door.shut();
        assert_eq!(late.join().unwrap().unwrap_err().code(), "journal_closed");
        assert_eq!(wait(door.enter(nothing())).unwrap_err().code(), "journal_closed");
        assert_eq!(requests.iter().count(), ROOM);
    }

    #[tokio::test]
    async fn a_blocking_wait_inside_a_task_that_used_up_its_turn_ends() {
        let (answer, told) = oneshot::channel();
        let helper = std::thread::spawn(move || answer.send(7).unwrap());
        let outcome = tokio::spawn(async move {
            while tokio::task::coop::has_budget_remaining() {
                tokio::task::coop::consume_budget().await;
            }
            wait(told)
        });
        assert_eq!(outcome.await.unwrap(), Ok(7));
        helper.join().unwrap();
    }
}
