//! Sources that stay open between runs: the next one begins with a seek, not with an opening.
//!
//! What enters: inputs that a run is done with. What leaves: the same inputs, bound to the next run's
//! abort flag and log. A pool belongs to one title: whoever keeps it drops it when the file is replaced.
//! Which run may have an input, and for how long a pool lives, is not decided here.

use super::demux::OPEN_LIMIT;
use crate::av::input::Input;
use crate::av::log::RunLog;
use crate::base::cancel::Cancel;
use crate::base::error::Result;
use std::path::Path;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long the input of a run that was stopped is waited for: its stages wake at once, and opening the file
/// again costs as much on a local disk and far more on a network one.
const HANDOVER_LIMIT: Duration = Duration::from_millis(30);
/// No loan has this number.
const NO_LOAN: u64 = 0;

/// Open inputs of one title. Each holds a file descriptor, a sleeping thread, about 1 MiB of what was
/// read ahead, and the container's tables.
#[derive(Debug, Default)]
pub struct Pool {
    state: Mutex<State>,
    back: Condvar,
    most: usize,
    handover_limit: Duration,
}

#[derive(Debug, Default)]
struct State {
    idle: Vec<Input>,
    /// The abort flags of the runs that have an input now, by loan.
    out: Vec<(u64, Cancel)>,
    last_loan: u64,
}

impl State {
    /// Whether an input is on its way back.
    fn expects_one(&self) -> bool {
        self.out.iter().any(|(_, cancel)| cancel.is_cancelled())
    }
}

impl Pool {
    /// A pool that keeps at most so many inputs while nobody reads them.
    pub fn keeping(most: usize) -> Self {
        Self { most, handover_limit: HANDOVER_LIMIT, ..Self::default() }
    }

    /// The same pool, which waits so long for the input of a run that was stopped.
    pub fn handing_over_within(self, limit: Duration) -> Self {
        Self { handover_limit: limit, ..self }
    }

    /// A pool that keeps nothing: for runs that are alone with their source.
    pub fn none() -> Self {
        Self::default()
    }

    /// How many inputs wait.
    pub fn idle(&self) -> usize {
        self.state().idle.len()
    }

    /// Lays an input in: one that was opened to look at the title may serve its first run.
    pub fn keep(&self, input: Input) {
        self.give_back(NO_LOAN, Some(input));
    }

    /// An input for a run with this abort flag and log: a waiting one, or that of a run that has just been
    /// stopped, else a new one.
    ///
    /// # Errors
    /// What [`Input::open`] says.
    pub fn take(&self, path: &Path, cancel: &Cancel, log: &RunLog) -> Result<Lent<'_>> {
        let input = match self.waiting_or_returning(cancel) {
            Some(mut input) => {
                input.rebind(cancel, log);
                input
            }
            None => Input::open(path, cancel, log, OPEN_LIMIT)?,
        };
        let mut state = self.state();
        state.last_loan += 1;
        let loan = state.last_loan;
        state.out.push((loan, cancel.clone()));
        Ok(Lent { pool: self, loan, input: Some(input) })
    }

    fn waiting_or_returning(&self, cancel: &Cancel) -> Option<Input> {
        let begin = Instant::now();
        let mut state = self.state();
        loop {
            if let Some(input) = state.idle.pop() {
                return Some(input);
            }
            let left = self.handover_limit.checked_sub(begin.elapsed()).filter(|left| !left.is_zero())?;
            if self.most == 0 || !state.expects_one() || cancel.is_cancelled() {
                return None;
            }
            state = self.back.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Ends a loan; without an input it was given up, and whoever waits for it waits in vain.
    fn give_back(&self, loan: u64, input: Option<Input>) {
        let mut state = self.state();
        state.out.retain(|(of, _)| *of != loan);
        let has_room = state.idle.len() < self.most;
        let (kept, refused) = if has_room { (input, None) } else { (None, input) };
        state.idle.extend(kept);
        drop(state);
        self.back.notify_all();
        // Closing may take a while.
        drop(refused);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An input on loan. It goes back to its pool when it is dropped, unless it was found to be spoilt.
#[derive(Debug)]
pub struct Lent<'p> {
    pool: &'p Pool,
    loan: u64,
    input: Option<Input>,
}

impl Lent<'_> {
    /// The input; `None` once it was given up.
    pub fn get(&self) -> Option<&Input> {
        self.input.as_ref()
    }

    /// The input, to be read.
    pub fn get_mut(&mut self) -> Option<&mut Input> {
        self.input.as_mut()
    }

    /// Closes the input and takes another one in its place.
    pub fn replace(&mut self, input: Input) {
        self.input = Some(input);
    }

    /// Closes the input: reading it failed, so nobody knows in which state it is.
    pub fn give_up(&mut self) {
        self.input = None;
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        let fit = self.input.as_ref().is_some_and(|input| !input.hangs());
        self.pool.give_back(self.loan, self.input.take_if(|_| fit));
        // Whatever is left of it is closed, after the others know that they need not wait.
    }
}
