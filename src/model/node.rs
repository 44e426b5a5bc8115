//! What the node is and how it stands, as data; how its state follows from facts.
//!
//! What enters: facts that others have found out (slots, drain requests, disks, folders, encoders).
//! What leaves: the one state that the contract names, with the reasons. Nothing here looks at a
//! clock, a disk or a thread.

use serde::{Deserialize, Serialize};
use std::fmt;
use utoipa::ToSchema;

/// The node's state (contract, section 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum NodeState {
    /// Has a free slot.
    Idle,
    /// Every slot is in use, though the queue may still take work.
    Busy,
    /// Cannot work, for the reasons given.
    Error,
    /// Drains: starts nothing from the queue, takes nothing, and stays so through a restart.
    Maintenance,
}

impl fmt::Display for NodeState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Idle => "IDLE",
            Self::Busy => "BUSY",
            Self::Error => "ERROR",
            Self::Maintenance => "MAINTENANCE",
        })
    }
}

/// Something that keeps the node from working. It goes away when the fact does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Fault {
    /// Stable: `output_not_writable`, `disk_low`, `state_gone`, `no_encoder`, `journal_failed`,
    /// `storage_hangs`.
    pub code: String,
    /// What is wrong, on what, and what to do.
    pub message: String,
}

/// The facts that the state follows from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeFacts {
    /// Somebody asked for maintenance, or the node is stopping.
    pub draining: bool,
    /// What keeps it from working.
    pub faults: Vec<Fault>,
    /// Jobs that it may run at once.
    pub slots: u32,
    /// Slots in use.
    pub used: u32,
    /// Viewers have every run that there may be for them.
    pub viewers_full: bool,
}

impl NodeFacts {
    /// The state. A drain that somebody asked for shows even when something is wrong too: it is the
    /// stronger promise (nothing starts, whatever else happens).
    pub fn state(&self) -> NodeState {
        if self.draining {
            NodeState::Maintenance
        } else if !self.faults.is_empty() {
            NodeState::Error
        } else if self.used >= self.slots || self.viewers_full {
            NodeState::Busy
        } else {
            NodeState::Idle
        }
    }

    /// Whether a job may leave the queue. Viewers do not keep it there: its threads stand behind theirs.
    pub fn may_start(&self) -> bool {
        !self.draining && self.faults.is_empty() && self.used < self.slots
    }
}

/// What a move of the state means, for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Move {
    /// Nothing changed.
    None,
    /// Work came or went.
    Load,
    /// Somebody asked.
    Operator,
    /// Something broke.
    Broke,
    /// Something works again.
    Recovered,
}

/// The legal moves in one place: every pair is possible, since facts are what they are, but each
/// means something else.
pub fn classify(from: NodeState, to: NodeState) -> Move {
    use NodeState::{Busy, Error, Idle, Maintenance};
    match (from, to) {
        (a, b) if a == b => Move::None,
        (Idle, Busy) | (Busy, Idle) => Move::Load,
        (_, Maintenance) | (Maintenance, Idle | Busy) => Move::Operator,
        (_, Error) => Move::Broke,
        (Error, _) => Move::Recovered,
        _ => Move::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(draining: bool, faults: usize, used: u32) -> NodeFacts {
        let fault = Fault { code: "disk_low".into(), message: "1 MiB left".into() };
        NodeFacts { draining, faults: vec![fault; faults], slots: 2, used, viewers_full: false }
    }

    #[test]
    fn the_state_follows_from_facts_and_recovers_with_them() {
        assert_eq!(facts(false, 0, 0).state(), NodeState::Idle);
        assert_eq!(facts(false, 0, 1).state(), NodeState::Idle);
        assert_eq!(facts(false, 0, 2).state(), NodeState::Busy);
        assert_eq!(facts(false, 1, 2).state(), NodeState::Error);
        assert_eq!(facts(true, 1, 2).state(), NodeState::Maintenance);
        assert!(facts(false, 0, 1).may_start());
        assert!(!facts(false, 0, 2).may_start() && !facts(false, 1, 0).may_start());
        assert!(!facts(true, 0, 0).may_start());
    }

    #[test]
    fn every_move_has_a_meaning() {
        use NodeState::{Busy, Error, Idle, Maintenance};
        assert_eq!(classify(Idle, Busy), Move::Load);
        assert_eq!(classify(Busy, Idle), Move::Load);
        assert_eq!(classify(Busy, Maintenance), Move::Operator);
        assert_eq!(classify(Maintenance, Idle), Move::Operator);
        assert_eq!(classify(Maintenance, Error), Move::Broke);
        assert_eq!(classify(Idle, Error), Move::Broke);
        assert_eq!(classify(Error, Busy), Move::Recovered);
        let all = [Idle, Busy, Error, Maintenance];
        for from in all {
            for to in all {
                assert_eq!(classify(from, to) == Move::None, from == to, "{from} to {to}");
            }
        }
    }
}
