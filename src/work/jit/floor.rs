//! Who watches what, which runs make it, and what has to change: the decisions of just-in-time streaming.
//!
//! What enters: a segment that somebody asks for and that is not there, a segment that is, what the runs
//! have made, who has gone, and the time. What leaves: [`Action`]s. No clock of its own, no threads, no
//! I/O; so that days of viewers can be played through in a test.
//!
//! - A **lane** is one rendition of one source. A **run** makes segments of a lane, one after another,
//!   and rests when it is far enough ahead of its viewers. A **cursor** is a viewer's place in a lane; a
//!   **demand** is a request that waits.
//! - A demand joins the run that will reach it sooner than a new one would start, else a new run begins.
//! - A run that nobody waits for, and before which no viewer stands, is stopped; so is one at the title's end.
//! - Who asks for another place of the same source has left the earlier one, and with another place of the
//!   same rendition gives up what is waited for there. Where that turns out wrong, since several viewers
//!   look like one (behind a proxy, say), it is not assumed any more (`viewers.rs`).
//! - A viewer who is new is refused where the runs would not all keep up with real time (`pace.rs`).
//!
//! What is decided after each event stands in `settle.rs`, top to bottom.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

mod pace;
mod settle;
#[cfg(test)]
mod tests;
mod viewers;

pub use pace::Pace;

use pace::WorkClock;
use viewers::{Cursor, Known};

/// One rendition of one source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Lane {
    /// As in `store::cache::Key`.
    pub content: u64,
    /// As in `store::cache::Key`.
    pub rendition: u32,
}

/// Whoever asks, as far as one can be told from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Peer(pub u64);

/// A run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RunId(pub u64);

/// A request that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DemandId(pub u64);

/// What has to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Start a run that makes segment `first` and goes on until it has made those before `goal`.
    Start {
        /// Its name from now on.
        run: RunId,
        /// What of.
        lane: Lane,
        /// Its first segment.
        first: u64,
        /// Where it rests: the first segment that is not to be made yet.
        goal: u64,
    },
    /// A run may go so far now, and no further: less far than before where a viewer has left. The segment
    /// that it has in hand it may finish.
    Goal {
        /// Which.
        run: RunId,
        /// Where it rests.
        goal: u64,
    },
    /// Stop a run, at once.
    Stop {
        /// Which.
        run: RunId,
    },
    /// Answer a request with a refusal.
    Refuse {
        /// Which.
        demand: DemandId,
        /// Why.
        why: Refusal,
    },
}

/// Why a request is not answered with media.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// As many streams as the node can make are being made.
    Full,
    /// The same viewer has asked for another place since.
    Superseded,
    /// The run that was to make it ended without it, twice.
    NotMade,
}

/// How much is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Runs at once; at least 1. One more may be on its way out.
    pub max_runs: usize,
    /// Segments made ahead of a viewer.
    pub read_ahead: u64,
    /// A viewer who asks for nothing for so long has gone.
    pub idle: Duration,
}

/// What is known of a lane beforehand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct About {
    /// How many segments it has.
    pub segments: u64,
    /// How long one of them plays.
    pub segment_duration: Duration,
}

/// How far from its last place a viewer may ask and still be the one who plays on: players fetch a few
/// segments at once, in any order, and again what they lost.
const NEAR: u64 = 3;
/// Runs of one source that one viewer may have alive, those on their way out counted.
const MAX_OF_ONE: usize = 2;
/// So often a request may see its run end without its segment.
const MAX_TRIES: u32 = 2;
/// Lanes that nobody watches and whose measurements are remembered.
const MAX_REMEMBERED: usize = 256;

#[derive(Clone, Copy, Debug)]
struct Run {
    lane: Lane,
    /// Who it was started for.
    owner: Peer,
    first: u64,
    /// The segment that it makes now, or will when it goes on.
    next: u64,
    goal: u64,
    stopping: bool,
    /// The work clock when it began with `next`, if it came to it without a rest.
    since: Option<Duration>,
}

impl Run {
    fn rests(&self) -> bool {
        self.next >= self.goal
    }
}

#[derive(Clone, Copy, Debug)]
struct Demand {
    lane: Lane,
    peer: Peer,
    index: u64,
    /// Who will make it.
    run: Option<RunId>,
    tries: u32,
}

#[derive(Debug, Default)]
struct Watched {
    cursors: Vec<Cursor>,
    pace: Pace,
    about: Option<About>,
    /// When something last happened here.
    seen: Option<Instant>,
}

impl Watched {
    /// The first segment that does not exist.
    fn end(&self) -> u64 {
        self.about.map_or(u64::MAX, |about| about.segments)
    }
}

/// The floor: all viewers and runs.
#[derive(Debug)]
pub struct Floor {
    rules: Rules,
    clock: WorkClock,
    lanes: BTreeMap<Lane, Watched>,
    runs: BTreeMap<RunId, Run>,
    demands: BTreeMap<DemandId, Demand>,
    peers: HashMap<Peer, Known>,
    last_id: u64,
}

impl Floor {
    /// Nobody watches yet.
    pub fn new(rules: Rules) -> Self {
        Self {
            rules,
            clock: WorkClock::default(),
            lanes: BTreeMap::new(),
            runs: BTreeMap::new(),
            demands: BTreeMap::new(),
            peers: HashMap::new(),
            last_id: 0,
        }
    }

    /// How many runs the machine makes at once before each gets slower for the others: 1 (at first)
    /// where a run uses all cores, more where a run has its own number of threads.
    pub fn set_capacity(&mut self, runs: f64) {
        self.clock.set_capacity(runs);
    }

    /// What is known of a lane. To be said before the first request for it, and again at will: a lane that
    /// nobody has watched for long is forgotten. Without it a lane has no end, and no viewer is refused for
    /// what the lane costs.
    pub fn describe(&mut self, lane: Lane, about: About) {
        self.lane(lane).about = Some(about);
    }

    /// `peer` asks for a segment that is not there. The caller has looked for it since the last
    /// [`Floor::made`], or it may be made twice.
    pub fn ask(&mut self, now: Instant, lane: Lane, peer: Peer, index: u64) -> (DemandId, Vec<Action>) {
        self.clock.advance(now, &self.runs);
        let id = DemandId(self.next_id());
        if index >= self.lane(lane).end() {
            return (id, vec![Action::Refuse { demand: id, why: Refusal::NotMade }]);
        }
        let mut actions = self.touch(now, lane, peer, index, None);
        self.demands.insert(id, Demand { lane, peer, index, run: None, tries: 0 });
        actions.extend(self.settle(now));
        (id, actions)
    }

    /// `peer` has got a segment that was there. `missing`: the first one of those that come next which is
    /// not, if within the read-ahead.
    pub fn hit(
        &mut self,
        now: Instant,
        lane: Lane,
        peer: Peer,
        index: u64,
        missing: Option<u64>,
    ) -> Vec<Action> {
        self.clock.advance(now, &self.runs);
        let mut actions = self.touch(now, lane, peer, index, Some(missing));
        actions.extend(self.settle(now));
        actions
    }

    /// A run has made segment `index`. Says which requests have it now.
    pub fn made(&mut self, now: Instant, run: RunId, index: u64) -> (Vec<DemandId>, Vec<Action>) {
        self.clock.advance(now, &self.runs);
        let Some(run) = self.runs.get_mut(&run) else { return (Vec::new(), Vec::new()) };
        let lane = run.lane;
        run.next = run.next.max(index.saturating_add(1));
        let worked = run.since.take().map(|since| self.clock.done() - since);
        run.since = (!run.rests()).then_some(self.clock.done());
        let watched = self.lanes.entry(lane).or_default();
        worked.into_iter().for_each(|worked| watched.pace.learn_work(worked));
        let not_missing = |c: &&mut Cursor| c.missing == Some(index);
        watched.cursors.iter_mut().filter(not_missing).for_each(|c| c.missing = None);
        let fits = |d: &Demand| d.lane == lane && d.index == index;
        let served = self.take_demands(fits);
        for (_, demand) in &served {
            self.got(now, demand);
        }
        (served.into_iter().map(|(id, _)| id).collect(), self.settle(now))
    }

    /// The segment that a run would make next is there already: what lies before it was made by another.
    /// Its viewers play on from there; only what somebody waits for behind it is worth going on for.
    pub fn met(&mut self, now: Instant, run: RunId, index: u64) -> Vec<Action> {
        self.clock.advance(now, &self.runs);
        let waited_for = self.is_waited_for(run);
        let mut actions = Vec::new();
        if let Some(run) = self.runs.get_mut(&run) {
            run.next = run.next.max(index);
        }
        if !waited_for {
            actions.extend(self.stop(run));
        }
        actions.extend(self.settle(now));
        actions
    }

    /// What a run's segments cost: `first` is the time from its start to its first segment.
    pub fn timed(&mut self, lane: Lane, first: bool, took: Duration) {
        self.lane(lane).pace.learn(first, took);
    }

    /// A run has ended, whatever the reason. Says which requests waited for it: with `failed` they are
    /// forgotten, since the caller answers them; else they wait for another.
    pub fn ended(&mut self, now: Instant, run: RunId, failed: bool) -> (Vec<DemandId>, Vec<Action>) {
        self.clock.advance(now, &self.runs);
        if let Some(Run { lane, .. }) = self.runs.remove(&run).filter(|_| failed) {
            // What failed is tried again when somebody asks, not for those who do not.
            self.lane(lane).cursors.iter_mut().for_each(|c| c.missing = None);
        }
        for demand in self.demands.values_mut().filter(|d| d.run == Some(run)) {
            demand.tries += 1;
        }
        let over = |d: &Demand| d.run == Some(run) && (failed || d.tries >= MAX_TRIES);
        let over = self.take_demands(over);
        for demand in self.demands.values_mut().filter(|d| d.run == Some(run)) {
            demand.run = None;
        }
        over.iter().for_each(|(_, demand)| self.forget_unserved(demand));
        let ids: Vec<DemandId> = over.into_iter().map(|(id, _)| id).collect();
        let (failed, mut actions) = if failed {
            (ids, Vec::new())
        } else {
            let refuse = |demand| Action::Refuse { demand, why: Refusal::NotMade };
            (Vec::new(), ids.into_iter().map(refuse).collect())
        };
        actions.extend(self.settle(now));
        (failed, actions)
    }

    /// Whoever waited has gone.
    pub fn dropped(&mut self, now: Instant, demand: DemandId) -> Vec<Action> {
        self.clock.advance(now, &self.runs);
        let Some(demand) = self.demands.remove(&demand) else { return Vec::new() };
        self.left_by(&demand);
        self.settle(now)
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Instant) -> Vec<Action> {
        self.clock.advance(now, &self.runs);
        self.settle(now)
    }

    /// Runs that are alive, those on their way out counted.
    pub fn alive(&self) -> usize {
        self.runs.len()
    }

    /// Runs that are not on their way out.
    pub fn sessions(&self) -> usize {
        self.runs.values().filter(|run| !run.stopping).count()
    }

    /// Whether anybody watches a lane, or anything makes it.
    pub fn knows(&self, lane: Lane) -> bool {
        self.lanes.contains_key(&lane)
    }

    /// Runs that may be at once.
    pub fn max_runs(&self) -> usize {
        self.rules.max_runs
    }

    /// The run that will make what a request waits for.
    pub fn run_of(&self, demand: DemandId) -> Option<RunId> {
        self.demands.get(&demand)?.run
    }

    /// Whether somebody waits.
    pub fn is_waited_for(&self, run: RunId) -> bool {
        self.demands.values().any(|demand| demand.run == Some(run))
    }

    fn lane(&mut self, lane: Lane) -> &mut Watched {
        self.lanes.entry(lane).or_default()
    }

    fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    fn take_demands(&mut self, fits: impl Fn(&Demand) -> bool) -> Vec<(DemandId, Demand)> {
        let taken: Vec<_> = self.demands.iter().filter(|(_, d)| fits(d)).map(|(id, d)| (*id, *d)).collect();
        taken.iter().for_each(|(id, _)| {
            self.demands.remove(id);
        });
        taken
    }
}
