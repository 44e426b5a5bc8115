//! Where viewers stand, where they have left, and who is several of them.
//!
//! A peer is one viewer with one place until it shows otherwise: two viewers who look like one go on, again
//! and again, exactly where they seemed to have left. Somebody who seeks about does that by chance and for
//! moments, and comes near such a place far more often without hitting it; so it takes a few times, some while
//! apart, and none of the other kind between them.

use super::{Action, Demand, DemandId, Floor, Lane, NEAR, Peer, Refusal};
use std::time::{Duration, Instant};

/// So often a peer has to come back to be several viewers...
const COMEBACKS: u32 = 3;
/// ...so long after one another, at least...
const APART: Duration = Duration::from_secs(1);
/// ...and at most.
const TOGETHER: Duration = Duration::from_secs(10);
/// Places of one peer in one lane that are remembered.
const MAX_CURSORS: usize = 64;

/// A viewer's place in a lane.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor {
    pub peer: Peer,
    /// What was asked for last.
    pub at: u64,
    pub seen: Instant,
    /// The viewer has asked for another place since, or has closed its connection.
    pub left: bool,
    /// The viewer has got something here.
    pub served: bool,
    /// The first segment that is missing before a viewer who plays on from what is there.
    pub missing: Option<u64>,
    id: u64,
}

/// What is known of a peer.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Known {
    /// The cursor that it moved last.
    last: u64,
    comebacks: u32,
    counted: Option<Instant>,
}

/// How a viewer came to a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Came {
    ForTheFirstTime,
    /// It asks for what comes next there, or once more for the same.
    ToGoOn,
    Near,
}

impl Known {
    fn moved(&mut self, now: Instant, cursor: u64, came: Came) {
        let is_same = self.last == cursor;
        self.last = cursor;
        if is_same || came == Came::ForTheFirstTime {
            return;
        }
        if came == Came::Near && !self.is_crowd() {
            self.comebacks = 0;
            return;
        }
        let ago = self.counted.map(|at| now.saturating_duration_since(at));
        if ago.is_none_or(|ago| ago >= APART) {
            let goes_on = self.is_crowd() || ago.is_some_and(|ago| ago <= TOGETHER);
            self.comebacks = if goes_on { self.comebacks.saturating_add(1) } else { 1 };
            self.counted = Some(now);
        }
    }

    fn is_crowd(&self) -> bool {
        self.comebacks >= COMEBACKS
    }
}

impl Floor {
    /// Whether a peer has shown to be several viewers.
    pub(super) fn is_crowd(&self, peer: Peer) -> bool {
        self.peers.get(&peer).is_some_and(Known::is_crowd)
    }

    /// The viewer stands at `index` now. `got`: it has that, and the first one that is missing behind.
    /// Another place of the same source is left, and what was waited for in the same lane given up.
    pub(super) fn touch(
        &mut self,
        now: Instant,
        lane: Lane,
        peer: Peer,
        index: u64,
        got: Option<Option<u64>>,
    ) -> Vec<Action> {
        let new_id = self.next_id();
        let watched = self.lane(lane);
        watched.seen = Some(now);
        let near = |c: &&mut Cursor| c.peer == peer && c.at.abs_diff(index) <= NEAR;
        let found = watched.cursors.iter_mut().filter(near).min_by_key(|c| (c.at.abs_diff(index), c.left));
        let came = match found.as_ref().map(|c| index.checked_sub(c.at)) {
            None => Came::ForTheFirstTime,
            Some(Some(0 | 1)) => Came::ToGoOn,
            Some(_) => Came::Near,
        };
        let missing = got.flatten();
        let id = if let Some(cursor) = found {
            (cursor.at, cursor.seen, cursor.left, cursor.missing) = (index, now, false, missing);
            cursor.served |= got.is_some();
            cursor.id
        } else {
            let served = got.is_some();
            watched.cursors.push(Cursor {
                peer,
                at: index,
                seen: now,
                left: false,
                served,
                missing,
                id: new_id,
            });
            new_id
        };
        self.keep_few_cursors(lane, peer);
        let known = self.peers.entry(peer).or_default();
        known.moved(now, id, came);
        if known.is_crowd() {
            return Vec::new();
        }
        let same_source = self.lanes.iter_mut().filter(|(other, _)| other.content == lane.content);
        let others = same_source.flat_map(|(_, watched)| &mut watched.cursors);
        others.filter(|c| c.peer == peer && c.id != id).for_each(|c| c.left = true);
        let elsewhere = |d: &Demand| (d.lane, d.peer) == (lane, peer) && d.index.abs_diff(index) > NEAR;
        self.refuse(Refusal::Superseded, elsewhere)
    }

    /// Those who have stood still for the longest time go first.
    fn keep_few_cursors(&mut self, lane: Lane, peer: Peer) {
        let cursors = &mut self.lane(lane).cursors;
        let own = |c: &&Cursor| c.peer == peer;
        if cursors.iter().filter(own).count() > MAX_CURSORS
            && let Some(oldest) = cursors.iter().filter(own).min_by_key(|c| (c.seen, c.id)).map(|c| c.id)
        {
            cursors.retain(|c| c.id != oldest);
        }
    }

    /// Refuses the demands that fit.
    pub(super) fn refuse(&mut self, why: Refusal, fits: impl Fn(&Demand) -> bool) -> Vec<Action> {
        let refused = self.take_demands(fits);
        refused.iter().for_each(|(_, demand)| self.forget_unserved(demand));
        let refuse = |(demand, _): (DemandId, Demand)| Action::Refuse { demand, why };
        refused.into_iter().map(refuse).collect()
    }

    /// Who waited has got it.
    pub(super) fn got(&mut self, now: Instant, demand: &Demand) {
        let cursors = &mut self.lane(demand.lane).cursors;
        let near = |c: &&mut Cursor| c.peer == demand.peer && c.at.abs_diff(demand.index) <= NEAR;
        if let Some(cursor) = cursors.iter_mut().filter(near).min_by_key(|c| c.at.abs_diff(demand.index)) {
            (cursor.served, cursor.seen) = (true, now);
        }
    }

    /// A place where nobody waits any more and nobody got anything was never anybody's.
    pub(super) fn forget_unserved(&mut self, demand: &Demand) {
        if !self.others_wait_like(demand) {
            let Demand { lane, peer, index, .. } = *demand;
            self.lane(lane).cursors.retain(|c| (c.peer, c.at) != (peer, index) || c.served || c.left);
        }
    }

    /// A connection that waited has closed. With the last one at that place its viewer has left, unless
    /// another viewer's is the same.
    pub(super) fn left_by(&mut self, demand: &Demand) {
        self.forget_unserved(demand);
        if !self.others_wait_like(demand) && !self.is_crowd(demand.peer) {
            let here = |c: &&mut Cursor| (c.peer, c.at) == (demand.peer, demand.index);
            self.lane(demand.lane).cursors.iter_mut().filter(here).for_each(|c| c.left = true);
        }
    }

    fn others_wait_like(&self, demand: &Demand) -> bool {
        let same = |d: &Demand| (d.lane, d.peer, d.index) == (demand.lane, demand.peer, demand.index);
        self.demands.values().any(same)
    }

    /// Who has asked for nothing for long has gone, unless it waits.
    pub(super) fn forget_gone(&mut self, now: Instant) {
        for demand in self.demands.values() {
            let Some(watched) = self.lanes.get_mut(&demand.lane) else { continue };
            let waits = |c: &&mut Cursor| c.peer == demand.peer && c.at.abs_diff(demand.index) <= NEAR;
            watched.cursors.iter_mut().filter(waits).for_each(|c| c.seen = now);
        }
        let idle = self.rules.idle;
        for watched in self.lanes.values_mut() {
            watched.cursors.retain(|c| now.saturating_duration_since(c.seen) < idle);
        }
        let lanes = &self.lanes;
        let is_here = |peer: &Peer| lanes.values().any(|w| w.cursors.iter().any(|c| c.peer == *peer));
        let fresh = |known: &Known| known.counted.is_some_and(|at| now.saturating_duration_since(at) < idle);
        self.peers.retain(|peer, known| {
            if !fresh(known) {
                known.comebacks = 0;
            }
            is_here(peer)
        });
        self.forget_lanes();
    }

    /// What lanes cost is remembered for a while.
    fn forget_lanes(&mut self) {
        if self.lanes.len() <= super::MAX_REMEMBERED {
            return;
        }
        let used = |lane: &Lane| {
            self.demands.values().any(|d| d.lane == *lane) || self.runs.values().any(|r| r.lane == *lane)
        };
        let unused = self.lanes.iter().filter(|(lane, w)| w.cursors.is_empty() && !used(lane));
        if let Some(oldest) = unused.min_by_key(|(_, w)| w.seen).map(|(lane, _)| *lane) {
            self.lanes.remove(&oldest);
        }
    }
}
