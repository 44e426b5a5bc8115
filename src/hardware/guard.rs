//! What lives behind a driver, kept in a thread that may be given up.
//!
//! What enters: how to make it, then calls. What leaves: their results, or the word that it hangs. A call that
//! a driver does not return from costs a thread, and whoever waited goes on after [`LIMIT`].

use crossbeam_channel::{Sender, bounded};
use std::fmt;
use std::thread;
use std::time::Duration;

/// How long a driver may take for one call. A viewer waits for as long, and for a start in software.
pub const LIMIT: Duration = Duration::from_secs(2);

type Call<T> = Box<dyn FnOnce(&mut T) + Send>;

/// Something behind a driver.
pub struct Guard<T> {
    calls: Sender<Call<T>>,
    limit: Duration,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// It does not come back.
    Hangs,
    /// Its thread has gone: it could not be started, or broke down.
    Gone,
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hangs => write!(f, "the device has not answered for {} s", LIMIT.as_secs()),
            Self::Gone => f.write_str("the device's thread has ended"),
        }
    }
}

impl<T: Send + 'static> Guard<T> {
    /// Makes it in a thread of that name.
    ///
    /// # Errors
    /// What `make` says; or it hangs.
    pub fn start<E: Send + 'static>(
        name: String,
        make: impl FnOnce() -> Result<T, E> + Send + 'static,
    ) -> Result<Result<Self, E>, Lost> {
        Self::start_within(LIMIT, name, make)
    }

    fn start_within<E: Send + 'static>(
        limit: Duration,
        name: String,
        make: impl FnOnce() -> Result<T, E> + Send + 'static,
    ) -> Result<Result<Self, E>, Lost> {
        let (calls, to_do) = bounded::<Call<T>>(0);
        let (made_tx, made) = bounded(1);
        let body = move || {
            let mut inner = match make() {
                Ok(inner) => inner,
                Err(e) => return drop(made_tx.send(Err(e))),
            };
            let _ = made_tx.send(Ok(()));
            while let Ok(call) = to_do.recv() {
                call(&mut inner);
            }
        };
        thread::Builder::new().name(name).spawn(body).map_err(|_| Lost::Gone)?;
        let made: Result<(), E> = made.recv_timeout(limit).map_err(lost)?;
        Ok(made.map(|()| Self { calls, limit }))
    }

    /// Does it there and waits for the result.
    ///
    /// # Errors
    /// It hangs, or hung before.
    pub fn call<R: Send + 'static>(
        &self,
        work: impl FnOnce(&mut T) -> R + Send + 'static,
    ) -> Result<R, Lost> {
        let (done_tx, done) = bounded(1);
        let call: Call<T> = Box::new(move |inner| drop(done_tx.send(work(inner))));
        // Who is still busy with an earlier call does not take this one.
        self.calls
            .send_timeout(call, self.limit)
            .map_err(|e| if e.is_timeout() { Lost::Hangs } else { Lost::Gone })?;
        done.recv_timeout(self.limit).map_err(lost)
    }
}

impl<T> fmt::Debug for Guard<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard").field("limit", &self.limit).finish_non_exhaustive()
    }
}

fn lost(e: crossbeam_channel::RecvTimeoutError) -> Lost {
    if e.is_timeout() { Lost::Hangs } else { Lost::Gone }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crossbeam_channel::never;

    fn guard(limit: Duration) -> Guard<u64> {
        Guard::start_within(limit, "guard".into(), || Ok::<_, ()>(1)).unwrap().unwrap()
    }

    #[test]
    fn calls_are_answered_in_turn() {
        let guard = guard(Duration::from_secs(20));
        for n in 0..100 {
            assert_eq!(
                guard.call(move |sum| {
                    *sum += n;
                    *sum
                }),
                Ok(1 + n * (n + 1) / 2)
            );
        }
    }

    #[test]
    fn what_hangs_is_given_up_and_stays_given_up() {
        let guard = guard(Duration::from_millis(50));
        let hangs = guard.call(|_| never::<()>().recv().is_ok());
        assert_eq!(hangs, Err(Lost::Hangs));
        assert_eq!(guard.call(|n| *n), Err(Lost::Hangs));
    }

    #[test]
    fn what_breaks_down_or_cannot_be_made_says_so() {
        let guard = guard(Duration::from_secs(20));
        // invariant: the panic is the subject of this test.
        assert_eq!(guard.call(|_| -> () { panic!("a driver's fault") }), Err(Lost::Gone));
        let refused = Guard::<u64>::start("guard".into(), || Err("no such device")).unwrap();
        assert_eq!(refused.unwrap_err(), "no such device");
        let limit = Duration::from_millis(50);
        let hangs = Guard::<u64>::start_within(limit, "guard".into(), || {
            let _ = never::<()>().recv();
            Err(())
        });
        assert_eq!(hangs.unwrap_err(), Lost::Hangs);
    }
}
