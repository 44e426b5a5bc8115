//! The node's one state: held, recomputed from facts, published when it moves.
//!
//! What enters: facts, from whoever finds them out. What leaves: the state with its reasons on a
//! watch channel, and a log line for each move. The rules themselves (which facts make which state,
//! what a move means) are in `model::node`. Nothing here looks for facts.

use crate::model::node::{Fault, Move, NodeFacts, NodeState, classify};
use jiff::Timestamp;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// How the node stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The state.
    pub state: NodeState,
    /// What is wrong, also while the node drains.
    pub reasons: Vec<Fault>,
    /// Since when it is in this state.
    pub since: Timestamp,
}

/// Holder of the facts. Shared by all who find some out.
#[derive(Debug)]
pub struct Watch {
    facts: Mutex<NodeFacts>,
    status: watch::Sender<Status>,
}

impl Watch {
    /// Begins with `facts`.
    pub fn new(facts: NodeFacts) -> Self {
        let status = Status { state: facts.state(), reasons: facts.faults.clone(), since: Timestamp::now() };
        Self { facts: Mutex::new(facts), status: watch::Sender::new(status) }
    }

    /// Changes facts, and publishes what follows from them.
    pub fn update(&self, change: impl FnOnce(&mut NodeFacts)) {
        let mut facts = self.lock();
        change(&mut facts);
        // Under the lock, so that two updates publish in the order in which they happened.
        self.publish(&facts);
    }

    /// Says what is wrong under `code`, or with `None` that nothing is any more. Calling it with
    /// what is known already is cheap and tells nobody.
    pub fn set_fault(&self, code: &str, message: Option<String>) {
        self.update(|facts| {
            let Some(message) = message else { return facts.faults.retain(|fault| fault.code != code) };
            match facts.faults.iter_mut().find(|fault| fault.code == code) {
                Some(fault) => fault.message = message,
                None => facts.faults.push(Fault { code: code.into(), message }),
            }
        });
    }

    /// The facts as they are.
    pub fn facts(&self) -> NodeFacts {
        self.lock().clone()
    }

    /// How the node stands now.
    pub fn status(&self) -> Status {
        self.status.borrow().clone()
    }

    /// A view that tells when the state moves, or when other things are wrong than before.
    pub fn subscribe(&self) -> watch::Receiver<Status> {
        self.status.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, NodeFacts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(&self, facts: &NodeFacts) {
        let mut before = None;
        self.status.send_if_modified(|status| {
            let (state, from) = (facts.state(), status.state);
            let moved = state != from;
            // A message may hold a figure that changes every second ("1.3 GiB are left").
            let other_faults = !codes(&status.reasons).eq(codes(&facts.faults));
            status.state = state;
            status.reasons.clone_from(&facts.faults);
            if moved {
                status.since = Timestamp::now();
            }
            before = (moved || other_faults).then_some(from);
            moved || other_faults
        });
        if let Some(before) = before {
            log(before, facts);
        }
    }
}

fn codes(faults: &[Fault]) -> impl Iterator<Item = &str> {
    faults.iter().map(|fault| fault.code.as_str())
}

fn log(from: NodeState, facts: &NodeFacts) {
    let to = facts.state();
    let reasons: Vec<String> = facts.faults.iter().map(|f| format!("{}: {}", f.code, f.message)).collect();
    let reasons = reasons.join("; ");
    match classify(from, to) {
        Move::None if reasons.is_empty() => tracing::info!("the node is {to}; nothing is wrong any more"),
        Move::None => tracing::warn!("the node is {to}; what is wrong has changed: {reasons}"),
        Move::Load => tracing::info!("the node went from {from} to {to}: work came or went"),
        Move::Operator => tracing::info!("the node went from {from} to {to}: a drain began or ended"),
        Move::Broke => tracing::error!("the node went from {from} to {to}: {reasons}"),
        Move::Recovered => tracing::info!("the node went from {from} to {to}: it works again"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch() -> Watch {
        Watch::new(NodeFacts { slots: 2, ..NodeFacts::default() })
    }

    #[test]
    fn moves_are_published_and_nothing_else_is() {
        let watch = watch();
        let mut view = watch.subscribe();
        watch.update(|facts| facts.used = 1);
        assert!(!view.has_changed().unwrap(), "one slot is still free");
        watch.update(|facts| facts.used = 2);
        assert!(view.has_changed().unwrap());
        assert_eq!(view.borrow_and_update().state, NodeState::Busy);
        watch.update(|facts| facts.draining = true);
        assert_eq!(view.borrow_and_update().state, NodeState::Maintenance);
        watch.update(|facts| facts.used = 0);
        assert!(!view.has_changed().unwrap());
        watch.update(|facts| facts.draining = false);
        assert_eq!(view.borrow_and_update().state, NodeState::Idle);
    }

    #[test]
    fn a_fault_comes_stays_quiet_and_goes() {
        let watch = watch();
        let mut view = watch.subscribe();
        watch.set_fault("disk_low", Some("1.3 GiB are left".into()));
        let seen = view.borrow_and_update().clone();
        assert_eq!((seen.state, seen.reasons.len()), (NodeState::Error, 1));
        watch.set_fault("disk_low", Some("1.2 GiB are left".into()));
        assert!(!view.has_changed().unwrap(), "a new figure is no news");
        assert_eq!(watch.status().reasons[0].message, "1.2 GiB are left", "but whoever looks sees it");
        assert_eq!(watch.status().since, seen.since);
        watch.set_fault("state_gone", Some("the folder is gone".into()));
        assert!(view.has_changed().unwrap(), "another fault is news");
        assert_eq!(view.borrow_and_update().state, NodeState::Error);
        watch.set_fault("disk_low", None);
        assert_eq!(view.borrow_and_update().reasons[0].code, "state_gone");
        watch.set_fault("state_gone", None);
        watch.set_fault("state_gone", None);
        let end = view.borrow_and_update().clone();
        assert_eq!((end.state, end.reasons), (NodeState::Idle, vec![]));
        assert_eq!(watch.facts(), NodeFacts { slots: 2, ..NodeFacts::default() });
    }

    #[test]
    fn reasons_show_through_a_drain() {
        let watch = watch();
        watch.update(|facts| facts.draining = true);
        watch.set_fault("disk_low", Some("none is left".into()));
        let status = watch.status();
        assert_eq!((status.state, status.reasons.len()), (NodeState::Maintenance, 1));
    }
}
