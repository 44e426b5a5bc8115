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
use std::sync::{Mutex, PoisonError};

/// Open inputs of one title. Each holds a file descriptor, a sleeping thread, about 1 MiB of what was
/// read ahead, and the container's tables.
#[derive(Debug, Default)]
pub struct Pool {
    idle: Mutex<Vec<Input>>,
    most: usize,
}

impl Pool {
    /// A pool that keeps at most so many inputs while nobody reads them.
    pub fn keeping(most: usize) -> Self {
        Self { idle: Mutex::default(), most }
    }

    /// A pool that keeps nothing: for runs that are alone with their source.
    pub const fn none() -> Self {
        Self { idle: Mutex::new(Vec::new()), most: 0 }
    }

    /// How many inputs wait.
    pub fn idle(&self) -> usize {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Lays an input in: one that was opened to look at the title may serve its first run.
    pub fn keep(&self, input: Input) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < self.most {
            idle.push(input);
        }
    }

    /// An input for a run with this abort flag and log: a waiting one, else a new one.
    ///
    /// # Errors
    /// What [`Input::open`] says.
    pub fn take(&self, path: &Path, cancel: &Cancel, log: &RunLog) -> Result<Lent<'_>> {
        let waiting = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let input = match waiting {
            Some(mut input) => {
                input.rebind(cancel, log);
                input
            }
            None => Input::open(path, cancel, log, OPEN_LIMIT)?,
        };
        Ok(Lent { pool: self, input: Some(input) })
    }
}

/// An input on loan. It goes back to its pool when it is dropped, unless it was found to be spoilt.
#[derive(Debug)]
pub struct Lent<'p> {
    pool: &'p Pool,
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
        if let Some(input) = self.input.take() {
            self.pool.keep(input);
        }
    }
}
