//! Whether a job is taken now, and when to ask again if not.
//!
//! What enters: facts about the node, as they stand. What leaves: yes, or a refusal as HTTP will say it.
//! Pure: nothing here looks at a clock, a disk or a queue, so that the rule can be read and tested whole.

use crate::model::node::{Fault, NodeState};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// When to ask again where a person has to act first.
const MAINTENANCE_RETRY_S: u64 = 60;
/// When to ask again where something is wrong that may right itself.
const FAULT_RETRY_S: u64 = 30;
/// When to ask again where the node is about to be replaced by a new process.
const STOPPING_RETRY_S: u64 = 5;
/// When to ask again where nothing is known about how long jobs take.
const UNKNOWN_WAIT_RETRY_S: u64 = 30;
/// Nobody should wait longer without having looked.
const MAX_RETRY_S: u64 = 3600;

/// The code of the fault that the disk is below its limit.
const DISK_LOW: &str = "disk_low";

/// What a decision follows from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The node's state.
    pub state: NodeState,
    /// What keeps it from working; a disk below its limit has the code `disk_low`.
    pub faults: Vec<Fault>,
    /// Jobs that it may run at once.
    pub slots: u32,
    /// Slots in use.
    pub running: u32,
    /// Jobs that were accepted and wait.
    pub queued: usize,
    /// Jobs that may wait while every slot is in use; 0 refuses as soon as that is so.
    pub max_queued: usize,
    /// The process is about to end.
    pub stopping: bool,
    /// When a slot will be free, as far as anybody knows: see [`expected_wait_ms`].
    pub expected_wait_ms: Option<u64>,
}

/// The decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The job is taken.
    Accept,
    /// It is not, for now.
    Refuse(Refusal),
}

/// Why a job is not taken, as HTTP says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// 429: too much work; 503: no work at all.
    pub status: u16,
    /// `queue_full`, `maintenance`, `node_error`, `disk_low` or `stopping`.
    pub code: &'static str,
    /// Why, and what would help.
    pub message: String,
    /// Seconds after which asking again may help: 1 to 3600.
    pub retry_after_s: u64,
}

/// Decides about one more job. What the node cannot do at all is told before what it is too busy for.
pub fn decide(facts: &Facts) -> Verdict {
    match refusal(facts) {
        Some(refusal) => Verdict::Refuse(refusal),
        None => Verdict::Accept,
    }
}

fn refusal(facts: &Facts) -> Option<Refusal> {
    if facts.stopping {
        let message = "the node is stopping and takes no job".to_owned();
        return Some(Refusal { status: 503, code: "stopping", message, retry_after_s: STOPPING_RETRY_S });
    }
    if facts.state == NodeState::Maintenance {
        let message = "the node is in MAINTENANCE and takes no job until it is set to IDLE".to_owned();
        return Some(Refusal {
            status: 503,
            code: "maintenance",
            message,
            retry_after_s: MAINTENANCE_RETRY_S,
        });
    }
    if facts.state == NodeState::Error || !facts.faults.is_empty() {
        return Some(broken(&facts.faults));
    }
    full(facts)
}

fn broken(faults: &[Fault]) -> Refusal {
    let only_disk = !faults.is_empty() && faults.iter().all(|fault| fault.code == DISK_LOW);
    let code = if only_disk { DISK_LOW } else { "node_error" };
    let reasons: Vec<&str> = faults.iter().map(|fault| fault.message.as_str()).collect();
    let message = match reasons.is_empty() {
        true => "the node cannot work and takes no job".to_owned(),
        false => format!("the node cannot work and takes no job: {}", reasons.join("; ")),
    };
    Refusal { status: 503, code, message, retry_after_s: FAULT_RETRY_S }
}

/// Jobs that were accepted and are about to get a free slot do not count as waiting.
fn full(facts: &Facts) -> Option<Refusal> {
    let free = usize::try_from(facts.slots.saturating_sub(facts.running)).unwrap_or(usize::MAX);
    if facts.queued < free.saturating_add(facts.max_queued) {
        return None;
    }
    let Facts { slots, running, queued, max_queued, .. } = facts;
    let message =
        format!("{running} of {slots} slots are in use and {queued} jobs wait, of at most {max_queued}");
    let retry_after_s = facts.expected_wait_ms.map_or(UNKNOWN_WAIT_RETRY_S, |ms| ms.div_ceil(1000));
    Some(Refusal {
        status: 429,
        code: "queue_full",
        message,
        retry_after_s: retry_after_s.clamp(1, MAX_RETRY_S),
    })
}

/// Milliseconds until a job behind `queued` others gets a slot, when each slot takes the next job as
/// soon as its own has ended. With `queued` 0 that is when the next slot is free, and so when a full
/// queue takes one more.
///
/// `running` has the estimate of each running job, `None` where there is none; `typical_ms` is how long
/// a job takes, and stands in for estimates that are missing. `None` when that is not known either
/// and would be needed.
pub fn expected_wait_ms(
    running: &[Option<u64>],
    queued: usize,
    slots: u32,
    typical_ms: Option<u64>,
) -> Option<u64> {
    let in_use = running.len();
    let free = usize::try_from(slots).unwrap_or(usize::MAX).saturating_sub(in_use);
    if queued < free {
        return Some(0);
    }
    let ends = running.iter().filter_map(|eta_ms| eta_ms.or(typical_ms)).map(Reverse);
    let mut ends: BinaryHeap<Reverse<u64>> = ends.chain(std::iter::repeat_n(Reverse(0), free)).collect();
    for _ in 0..queued {
        let Reverse(begins_ms) = ends.pop()?;
        // Without knowing how long it takes, nothing starts behind it.
        ends.extend(typical_ms.map(|ms| Reverse(begins_ms.saturating_add(ms))));
    }
    ends.peek().map(|Reverse(ms)| *ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn idle() -> Facts {
        Facts {
            state: NodeState::Idle,
            faults: Vec::new(),
            slots: 2,
            running: 0,
            queued: 0,
            max_queued: 3,
            stopping: false,
            expected_wait_ms: None,
        }
    }

    fn told(facts: &Facts) -> Option<(u16, &'static str, u64)> {
        match decide(facts) {
            Verdict::Accept => None,
            Verdict::Refuse(r) => Some((r.status, r.code, r.retry_after_s)),
        }
    }

    fn fault(code: &str) -> Fault {
        Fault { code: code.into(), message: format!("{code} it is") }
    }

    #[test]
    fn a_place_in_the_queue_decides() {
        let with = |running, queued, max_queued| {
            told(&Facts { running, queued, max_queued, state: NodeState::Busy, ..idle() })
        };
        let full = Some((429, "queue_full", 30));
        assert_eq!((with(2, 2, 3), with(2, 3, 3)), (None, full));
        assert_eq!((with(0, 4, 3), with(0, 5, 3)), (None, full), "two of them are about to start");
        assert_eq!((with(1, 0, 0), with(2, 0, 0)), (None, full), "0 refuses as soon as every slot is in use");
        assert_eq!(with(1, 1, 0), full, "the last slot is promised already");
        assert_eq!((with(9, 2, 3), with(9, 3, 3)), (None, full), "more than there are slots");
        assert_eq!(told(&Facts { slots: 0, max_queued: 0, ..idle() }), full);
    }

    #[test]
    fn the_wait_is_told_in_whole_seconds_and_within_bounds() {
        let wait = |expected_wait_ms| {
            told(&Facts { running: 2, queued: 3, expected_wait_ms, ..idle() }).map(|(_, _, seconds)| seconds)
        };
        for (ms, seconds) in
            [(0, 1), (999, 1), (1000, 1), (1001, 2), (90_000, 90), (3_600_001, 3600), (u64::MAX, 3600)]
        {
            assert_eq!(wait(Some(ms)), Some(seconds), "{ms} ms");
        }
        assert_eq!(wait(None), Some(30));
    }

    #[test]
    fn what_the_node_cannot_do_at_all_comes_first() {
        let mut facts = Facts { running: 2, queued: 3, state: NodeState::Error, ..idle() };
        assert_eq!(told(&facts), Some((503, "node_error", 30)));
        facts.faults = vec![fault("disk_low")];
        assert_eq!(told(&facts), Some((503, "disk_low", 30)));
        facts.state = NodeState::Idle;
        assert_eq!(told(&facts), Some((503, "disk_low", 30)), "a fault counts before the state has followed");
        facts.faults.push(fault("no_encoder"));
        assert_eq!(told(&facts), Some((503, "node_error", 30)));
        let Verdict::Refuse(refusal) = decide(&facts) else { panic!("accepted") };
        assert!(refusal.message.ends_with(": disk_low it is; no_encoder it is"), "{}", refusal.message);
        facts.state = NodeState::Maintenance;
        assert_eq!(told(&facts), Some((503, "maintenance", 60)));
        facts.stopping = true;
        assert_eq!(told(&facts), Some((503, "stopping", 5)));
    }

    #[test]
    fn the_wait_follows_from_who_ends_when() {
        let some = |etas: &[u64]| etas.iter().copied().map(Some).collect::<Vec<_>>();
        assert_eq!(expected_wait_ms(&some(&[500, 200]), 0, 2, None), Some(200));
        assert_eq!(expected_wait_ms(&some(&[500, 200]), 1, 2, None), Some(500));
        assert_eq!(expected_wait_ms(&some(&[500, 200]), 2, 2, None), None, "nobody knows");
        assert_eq!(
            expected_wait_ms(&some(&[500, 200]), 2, 2, Some(100)),
            Some(400),
            "300, then 400, then 500"
        );
        assert_eq!(expected_wait_ms(&some(&[500, 200]), 3, 2, Some(1000)), Some(1500));
        assert_eq!(expected_wait_ms(&some(&[500]), 0, 2, None), Some(0), "a slot is free");
        assert_eq!(expected_wait_ms(&some(&[500]), 1, 2, None), Some(500));
        assert_eq!(
            expected_wait_ms(&some(&[500]), 1, 2, Some(50)),
            Some(50),
            "behind the one that starts now"
        );
        assert_eq!(expected_wait_ms(&[None, Some(900)], 0, 2, None), Some(900));
        assert_eq!(expected_wait_ms(&[None, Some(900)], 0, 2, Some(700)), Some(700));
        assert_eq!(expected_wait_ms(&[None], 0, 1, None), None);
        assert_eq!(expected_wait_ms(&[], 0, 0, Some(1)), None);
        assert_eq!(expected_wait_ms(&some(&[u64::MAX]), 1, 1, Some(1)), Some(u64::MAX));
    }
}
