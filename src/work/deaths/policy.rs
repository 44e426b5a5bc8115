//! Who is held to account for a death, and how: pure.
//!
//! What enters: the jobs as the journal has them, and the death. What leaves: a sentence for each. One
//! death makes its suspects run alone from then on; only who was alone when the process died again is
//! condemned. So a job that ran beside the culprit never is, nor one whose thread died of memory that
//! another had ruined.

use super::Death;
use crate::base::error::{Error, ErrorKind, Stage};
use crate::model::record::JobState;
use crate::work::journal::Live;
use std::borrow::Cow;

/// Deaths that condemn a job.
const CONDEMNING: u32 = 2;

/// What is to be noted of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sentence {
    /// Nothing is held against it.
    Innocent,
    /// It has to run alone.
    Suspect {
        /// Deaths at which it was suspected, this one included.
        deaths: u32,
    },
    /// It has to end as failed, with [`poison`].
    Poison {
        /// Deaths that it is held to account for.
        deaths: u32,
    },
}

/// The sentence for each of `live`, in its order. Only jobs that the journal has as running can be to
/// blame: put those back into the queue once their sentence is noted, and a death that is judged twice
/// counts once. A job that was under suspicion stays so, whatever this death was.
pub fn judge(live: &[Live], death: &Death) -> Vec<Sentence> {
    let running = live.iter().filter(|live| live.job.state == JobState::Running).count();
    let sentence = |live: &Live| {
        let deaths = live.deaths.saturating_add(1);
        match part_in(death, live, running) {
            Part::None if live.suspect => Sentence::Suspect { deaths: live.deaths },
            Part::None => Sentence::Innocent,
            Part::Alone if deaths >= CONDEMNING => Sentence::Poison { deaths },
            Part::Alone | Part::OneOfSeveral => Sentence::Suspect { deaths },
        }
    };
    live.iter().map(sentence).collect()
}

/// What part a job had in a death.
enum Part {
    None,
    OneOfSeveral,
    /// Nothing else went on.
    Alone,
}

fn part_in(death: &Death, live: &Live, running: usize) -> Part {
    // One that was to blame and is queued again was judged before, by a process that did not get so far
    // as to clear the crumb.
    if live.job.state != JobState::Running {
        return Part::None;
    }
    let id = live.job.id();
    let (blamed, alone) = match death {
        Death::None => (false, false),
        Death::Codec { certain: Some(job), suspects, .. } => (job == id, suspects.iter().all(|s| s == id)),
        Death::Codec { certain: None, suspects, .. } => {
            (suspects.iter().any(|s| s == id), suspects.iter().all(|s| s == id))
        }
        Death::OutOfMemory => (true, running == 1),
    };
    match (blamed, alone) {
        (false, _) => Part::None,
        (true, false) => Part::OneOfSeveral,
        (true, true) => Part::Alone,
    }
}

/// The error of a job that is set aside: `poison_input`. `death` is the last of its deaths.
pub fn poison(deaths: u32, death: &Death) -> Error {
    let (last, hint) = match death {
        Death::Codec { signal, .. } => (
            format!("by {} in a codec library, while nothing else ran", signal_name(*signal)),
            "do not submit it again as it is: the source is damaged in a way that a codec library does not \
             survive, or the library has a fault; copy the streams into a new file first, ask for another \
             codec, or update FFmpeg, and report it with the core dump",
        ),
        Death::OutOfMemory => (
            "by the kernel because memory ran out, while nothing else ran".to_owned(),
            "do not submit it again as it is: give the node more memory or raise the limit of its service, \
             or ask for fewer or smaller renditions",
        ),
        Death::None => ("for a reason unknown".to_owned(), "look at the logs of those times"),
    };
    let message = format!("the job ended the whole node {deaths} times, last {last}; it is set aside");
    Error::new(ErrorKind::BadSource, "poison_input", Stage::Decode, message).hint(hint)
}

/// The name of a signal, with what it means.
pub(super) fn signal_name(signal: i32) -> Cow<'static, str> {
    Cow::Borrowed(match signal {
        libc::SIGSEGV => "SIGSEGV (access to memory that is not its own)",
        libc::SIGBUS => "SIGBUS (access to memory that is not there)",
        libc::SIGILL => "SIGILL (an instruction that this processor does not have)",
        libc::SIGFPE => "SIGFPE (a division by zero or the like)",
        libc::SIGABRT => "SIGABRT (a failed assertion)",
        libc::SIGSYS => "SIGSYS (a system call that is forbidden)",
        libc::SIGTRAP => "SIGTRAP (a trap)",
        other => return Cow::Owned(format!("signal {other}")),
    })
}
