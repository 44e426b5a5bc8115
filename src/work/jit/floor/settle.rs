//! What follows from how things stand: who makes what, who stops, who starts, how far each may go.

use super::viewers::Cursor;
use super::{Action, Demand, DemandId, Floor, Lane, MAX_OF_ONE, NEAR, Peer, Refusal, Run, RunId};
use std::time::{Duration, Instant};

/// A viewer who asked within so many segments' time plays; else it has paused, and costs nothing.
const PLAYING: u32 = 3;

/// Whether there is room for a run.
enum Place {
    Free,
    /// As soon as one that is on its way out has gone.
    Soon,
    None,
}

impl Floor {
    /// Makes everything right.
    pub(super) fn settle(&mut self, now: Instant) -> Vec<Action> {
        self.forget_gone(now);
        self.assign();
        let mut actions = self.stop_unwanted();
        actions.extend(self.start_wanted(now));
        actions.extend(self.start_missing());
        actions.extend(self.set_goals());
        actions
    }

    /// Requests join the run that reaches them soonest, where that is sooner than a new one.
    fn assign(&mut self) {
        let free: Vec<DemandId> =
            self.demands.iter().filter(|(_, d)| d.run.is_none()).map(|(id, _)| *id).collect();
        for id in free {
            let Some(demand) = self.demands.get(&id) else { continue };
            let reaches = self.runs.iter().filter(|(id, run)| self.will_reach(**id, run, demand));
            let best = reaches.max_by_key(|(_, run)| run.next).map(|(id, _)| *id);
            self.demands.entry(id).and_modify(|d| d.run = best);
        }
    }

    fn will_reach(&self, id: RunId, run: &Run, demand: &Demand) -> bool {
        if run.stopping || run.lane != demand.lane || run.next > demand.index {
            return false;
        }
        let before = demand.index - run.next;
        let pace = self.lanes.get(&demand.lane).map(|watched| watched.pace).unwrap_or_default();
        // Who fetches several at once has them from one run, which makes the others anyway.
        let fetches_several =
            || before <= NEAR && self.demands.values().any(|d| d.run == Some(id) && d.peer == demand.peer);
        pace.is_worth_waiting(before) || fetches_several()
    }

    fn stop_unwanted(&mut self) -> Vec<Action> {
        let is_unwanted = |(id, run): &(&RunId, &Run)| !run.stopping && !self.is_wanted(**id, run);
        let unwanted: Vec<RunId> = self.runs.iter().filter(is_unwanted).map(|(id, _)| *id).collect();
        unwanted.into_iter().filter_map(|id| self.stop(id)).collect()
    }

    pub(super) fn stop(&mut self, id: RunId) -> Option<Action> {
        let run = self.runs.get_mut(&id).filter(|run| !run.stopping)?;
        run.stopping = true;
        Some(Action::Stop { run: id })
    }

    fn is_wanted(&self, id: RunId, run: &Run) -> bool {
        let at_the_end = run.next >= self.end_of(run.lane);
        self.is_waited_for(id) || (!at_the_end && self.viewers(run).next().is_some())
    }

    fn end_of(&self, lane: Lane) -> u64 {
        self.lanes.get(&lane).map_or(u64::MAX, |watched| watched.end())
    }

    /// Whether a viewer at `at` is served by a run: it began within the read-ahead, and is not so far ahead
    /// that another will have to begin in between.
    fn serves(&self, run: &Run, at: u64) -> bool {
        let ahead = 1 + self.rules.read_ahead;
        run.first <= at.saturating_add(ahead)
            && at <= run.next
            && run.next <= at.saturating_add(ahead.saturating_mul(2) + NEAR)
    }

    /// The places that a run serves.
    fn viewers<'a>(&'a self, run: &'a Run) -> impl Iterator<Item = &'a Cursor> {
        let cursors = self.lanes.get(&run.lane).map(|watched| &watched.cursors[..]).unwrap_or_default();
        cursors.iter().filter(|c| !c.left && self.serves(run, c.at))
    }

    /// Whether nobody but `peer` has anything of a run.
    fn is_only_for(&self, id: RunId, run: &Run, peer: Peer) -> bool {
        self.viewers(run).all(|c| c.peer == peer)
            && self.demands.values().filter(|d| d.run == Some(id)).all(|d| d.peer == peer)
    }

    /// Starts runs for the requests that no run will reach.
    fn start_wanted(&mut self, now: Instant) -> Vec<Action> {
        let mut actions = Vec::new();
        let waiting: Vec<DemandId> =
            self.demands.iter().filter(|(_, d)| d.run.is_none()).map(|(id, _)| *id).collect();
        for id in waiting {
            let (id, demand) = match self.demands.get(&id) {
                Some(demand) if demand.run.is_none() => self.first_of_fetch(id, *demand),
                _ => continue,
            };
            if let Some(run) = self.started_for(&demand) {
                self.demands.entry(id).and_modify(|d| d.run = Some(run));
                continue;
            }
            actions.extend(self.absorb(&demand));
            match self.place_for(now, id, &demand, &mut actions) {
                Place::Free => {
                    let (run, action) = self.begin(demand.lane, demand.peer, demand.index, demand.index);
                    self.demands.entry(id).and_modify(|d| d.run = Some(run));
                    actions.push(action);
                }
                Place::Soon => {}
                Place::None => {
                    self.demands.remove(&id);
                    self.forget_unserved(&demand);
                    actions.push(Action::Refuse { demand: id, why: Refusal::Full });
                }
            }
        }
        self.assign();
        actions
    }

    /// The first of the segments that a viewer fetches at once and that no run makes yet.
    fn first_of_fetch(&self, id: DemandId, demand: Demand) -> (DemandId, Demand) {
        let same = |d: &Demand| {
            let before = demand.index.checked_sub(d.index);
            d.run.is_none()
                && (d.lane, d.peer) == (demand.lane, demand.peer)
                && before.is_some_and(|n| n <= NEAR)
        };
        let first = self.demands.iter().filter(|(_, d)| same(d)).min_by_key(|(_, d)| d.index);
        first.map_or((id, demand), |(id, demand)| (*id, *demand))
    }

    /// A run that was just started and will reach it.
    fn started_for(&self, demand: &Demand) -> Option<RunId> {
        self.runs.iter().find(|(id, run)| self.will_reach(**id, run, demand)).map(|(id, _)| *id)
    }

    /// Who fetches several segments at once may ask for the first one last: a run that was begun for a later
    /// one of them, and has made nothing yet, gives way to one that makes them all.
    fn absorb(&mut self, demand: &Demand) -> Vec<Action> {
        let gives_way = |(id, run): &(&RunId, &Run)| {
            let is_next = run.first > demand.index && run.first - demand.index <= NEAR;
            let is_new = !run.stopping && run.lane == demand.lane && run.next == run.first;
            is_new && is_next && self.is_only_for(**id, run, demand.peer)
        };
        let runs: Vec<RunId> = self.runs.iter().filter(gives_way).map(|(id, _)| *id).collect();
        for demand in self.demands.values_mut().filter(|d| d.run.is_some_and(|run| runs.contains(&run))) {
            demand.run = None;
        }
        runs.into_iter().filter_map(|run| self.stop(run)).collect()
    }

    /// Whether a request may have another run. Where all are taken, one that only this viewer has makes
    /// room: what it asks for now is what it wants.
    fn place_for(&mut self, now: Instant, id: DemandId, demand: &Demand, actions: &mut Vec<Action>) -> Place {
        let peer = demand.peer;
        if self.asks_too_much(now, demand) {
            return Place::None;
        }
        if !self.is_crowd(peer) && self.of_one(peer, demand.lane).count() >= MAX_OF_ONE {
            let stops = self.of_one(peer, demand.lane).any(|run| run.stopping);
            if !stops {
                self.give_up_one(peer, id, Some(demand.lane.content), actions);
            }
            return Place::Soon;
        }
        if self.sessions() >= self.rules.max_runs && !self.give_up_one(peer, id, None, actions) {
            return Place::None;
        }
        if self.alive() > self.rules.max_runs { Place::Soon } else { Place::Free }
    }

    /// The runs of a source that are alive for one viewer.
    fn of_one(&self, peer: Peer, lane: Lane) -> impl Iterator<Item = &Run> {
        let own = move |(id, run): &(&RunId, &Run)| {
            let is_own = run.owner == peer && run.lane.content == lane.content;
            is_own && (run.stopping || self.is_only_for(**id, run, peer))
        };
        self.runs.iter().filter(own).map(|(_, run)| run)
    }

    /// Stops the run (of `content` only, if given) that only `peer` has and that was wanted least lately: by
    /// nobody now, else by the oldest requests, which are refused. Never one that requests later than
    /// `newest` wait for; and where `peer` is several viewers, none that any request waits for.
    fn give_up_one(
        &mut self,
        peer: Peer,
        newest: DemandId,
        content: Option<u64>,
        actions: &mut Vec<Action>,
    ) -> bool {
        let is_crowd = self.is_crowd(peer);
        let waited = |id: RunId| {
            self.demands.iter().filter(|(_, d)| d.run == Some(id)).map(|(demand, _)| *demand).max()
        };
        let fits = |run: &Run| !run.stopping && content.is_none_or(|content| run.lane.content == content);
        let own = self.runs.iter().filter(|(id, run)| fits(run) && self.is_only_for(**id, run, peer));
        let oldest = own
            .map(|(id, _)| (waited(*id), *id))
            .filter(|(waited, _)| waited.is_none() || !is_crowd && *waited < Some(newest))
            .min();
        let Some((_, run)) = oldest else { return false };
        actions.extend(self.refuse(Refusal::Superseded, |d| d.run == Some(run)));
        actions.extend(self.stop(run));
        true
    }

    /// Whether a new viewer would make the runs fall behind real time. Who watches already is not refused,
    /// nor who is alone; and a lane that was not measured yet counts nothing.
    fn asks_too_much(&self, now: Instant, demand: &Demand) -> bool {
        let Demand { lane, peer, .. } = *demand;
        let crowd = self.is_crowd(peer);
        let watches = self.lanes.iter().any(|(other, watched)| {
            let counts = !crowd || other.content == lane.content;
            counts && watched.cursors.iter().any(|c| c.peer == peer && c.served)
        });
        if watches {
            return false;
        }
        let plays = |(id, run): &(&RunId, &Run)| {
            !run.stopping && !self.is_only_for(**id, run, peer) && self.is_played(now, **id, run)
        };
        let others: Vec<f64> =
            self.runs.iter().filter(plays).map(|(_, run)| self.load_of(run.lane)).collect();
        !others.is_empty() && self.clock.is_too_much(others.iter().sum::<f64>() + self.load_of(lane))
    }

    /// Seconds of work for a second of media, as far as is known.
    fn load_of(&self, lane: Lane) -> f64 {
        let load = || {
            let watched = self.lanes.get(&lane)?;
            watched.pace.load(watched.about?.segment_duration)
        };
        load().unwrap_or_default()
    }

    /// Whether a run works, or has a viewer who goes on.
    fn is_played(&self, now: Instant, id: RunId, run: &Run) -> bool {
        let about = self.lanes.get(&run.lane).and_then(|watched| watched.about);
        let lately = about.map_or(Duration::MAX, |about| about.segment_duration.saturating_mul(PLAYING));
        let plays = |c: &Cursor| now.saturating_duration_since(c.seen) <= lately;
        !run.rests() || self.is_waited_for(id) || self.viewers(run).any(plays)
    }

    /// Goes on before viewers who play from what is there, where a run costs nobody anything.
    fn start_missing(&mut self) -> Vec<Action> {
        let missing: Vec<(Lane, Cursor, u64)> = self
            .lanes
            .iter()
            .flat_map(|(lane, watched)| watched.cursors.iter().map(|c| (*lane, watched.end(), *c)))
            .filter_map(|(lane, end, c)| Some((lane, c, c.missing.filter(|m| !c.left && *m < end)?)))
            .collect();
        let mut actions = Vec::new();
        for (lane, cursor, index) in missing {
            let makes = |run: &Run| {
                let reaches = index < run.goal || self.serves(run, cursor.at);
                !run.stopping && run.lane == lane && run.first <= index && reaches
            };
            let made = self.runs.values().any(makes);
            let free = self.sessions() < self.rules.max_runs && self.alive() <= self.rules.max_runs;
            let few = self.is_crowd(cursor.peer) || self.of_one(cursor.peer, lane).count() < MAX_OF_ONE;
            if !made && free && few {
                actions.push(self.begin(lane, cursor.peer, index, cursor.at).1);
            }
        }
        actions
    }

    /// A new run for a viewer who stands at `at`.
    fn begin(&mut self, lane: Lane, owner: Peer, first: u64, at: u64) -> (RunId, Action) {
        let run = RunId(self.next_id());
        let ahead = at.saturating_add(1 + self.rules.read_ahead);
        let goal = ahead.max(first.saturating_add(1)).min(self.end_of(lane));
        self.runs.insert(run, Run { lane, owner, first, next: first, goal, stopping: false, since: None });
        (run, Action::Start { run, lane, first, goal })
    }

    /// As far as the read-ahead of the viewer who is furthest, and never further.
    fn set_goals(&mut self) -> Vec<Action> {
        let ahead = 1 + self.rules.read_ahead;
        let wanted = |(id, run): (&RunId, &Run)| {
            let waited = self.demands.values().filter(|d| d.run == Some(*id)).map(|d| d.index);
            let furthest = self.viewers(run).map(|c| c.at).chain(waited).max()?;
            let goal = furthest.saturating_add(ahead).min(self.end_of(run.lane)).max(run.next);
            (!run.stopping && goal != run.goal).then_some((*id, goal))
        };
        let goals: Vec<(RunId, u64)> = self.runs.iter().filter_map(wanted).collect();
        let set = |(id, goal): (RunId, u64)| {
            if let Some(run) = self.runs.get_mut(&id) {
                run.goal = goal;
                run.since = run.since.filter(|_| !run.rests());
            }
            Action::Goal { run: id, goal }
        };
        goals.into_iter().map(set).collect()
    }
}
