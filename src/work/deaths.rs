//! What killed the process before this one, and what follows from it for the jobs that it ran.
//!
//! What enters: the state folder, with the crumb of a fatal signal (`media::crash` leaves it) and the
//! note of the process before about itself ([`Watch`]); what the kernel tells of its out-of-memory
//! kills; the jobs that the journal has. What leaves: a [`Death`], and a [`Sentence`] for each job. What
//! must not live here: the journal's writing, libav, anything that changes what is read.
//!
//! The order at the start of a node, before anything runs: open the journal, which keeps other nodes
//! out; [`read`]; [`judge`]; note the sentences in the journal and put the jobs that ran back into the
//! queue; only then clear the crumb (`media::crash::install` on [`crumb_path`]) and [`Watch::begin`]. A
//! process that ends in between leaves the same death to the next, which then finds nobody running.
//!
//! A death without a crumb and without the kernel's word is nobody's: an operator's kill, a power cut.

mod crumb;
mod kernel;
mod policy;
mod watch;

pub use policy::{Sentence, judge, poison};
pub use watch::Watch;

use kernel::Kernel;
use std::path::{Path, PathBuf};

/// How the process before this one ended, as far as it is the jobs' affair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Death {
    /// In order, or by nobody here: an operator's kill, a power cut, a fault outside the codecs.
    None,
    /// By a fatal signal in codec work.
    Codec {
        /// Its number.
        signal: i32,
        /// The job whose thread it was, where that is known.
        certain: Option<String>,
        /// Every run that went on, the certain one among them. Names that no job can have stand for
        /// runs that are not jobs'.
        suspects: Vec<String>,
    },
    /// By the kernel, because memory ran out. The journal knows what ran.
    OutOfMemory,
}

/// Where the crumb lies.
pub fn crumb_path(state_dir: &Path) -> PathBuf {
    state_dir.join("crumb")
}

/// What killed the process that used the state folder before this one. Changes nothing, so that it says
/// the same until the crumb is cleared and the next [`Watch`] begins. What cannot be read is logged and
/// held against nobody.
pub fn read(state_dir: &Path) -> Death {
    read_with(state_dir, &Kernel::of_this_machine())
}

fn read_with(state_dir: &Path, kernel: &Kernel) -> Death {
    match crumb::read(&crumb_path(state_dir)) {
        Some(crumb) => crumb.death(),
        None if watch::was_killed_for_memory(state_dir, kernel) => {
            tracing::error!("the process before was killed by the kernel because memory ran out");
            Death::OutOfMemory
        }
        None => Death::None,
    }
}

#[cfg(test)]
mod tests;
