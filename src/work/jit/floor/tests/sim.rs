//! A simulated node: producers that take simulated time, viewers who play by a script, and the floor between
//! them. Time goes on in steps; whatever the floor orders is carried out, and what it has promised is
//! checked after each step.

use super::*;
use std::collections::BTreeSet;

pub const STEP: Duration = Duration::from_millis(10);
pub const SEGMENT: Duration = Duration::from_secs(4);
/// A request that waits for longer is a lost wake-up: no script of ours makes an honest wait so long.
const HANGS: Duration = Duration::from_secs(40);

#[derive(Clone, Copy, Debug)]
pub struct Cost {
    pub start: Duration,
    pub segment: Duration,
    /// From the order to stop to the end.
    pub stop: Duration,
    /// One in so many segments makes its run fail; 0: none.
    pub fails: u32,
    /// One in so many segments is gone from the cache a second later; 0: none.
    pub evicts: u32,
}

pub const FAST: Cost = Cost {
    start: Duration::from_millis(400),
    segment: Duration::from_millis(500),
    stop: Duration::from_millis(150),
    fails: 0,
    evicts: 0,
};

#[derive(Clone, Copy, Debug)]
struct Producer {
    lane: Lane,
    next: u64,
    goal: u64,
    /// Work that is left for the segment in hand; none: it rests.
    left: Option<Duration>,
    first: bool,
    began: Instant,
    ends: Option<Instant>,
}

/// What a viewer does, one after another.
#[derive(Clone, Copy, Debug)]
pub enum Act {
    Play(Duration),
    Pause(Duration),
    Seek(u64),
    Switch(u32),
    /// Closes its connection and asks for nothing for so long.
    Away(Duration),
}

#[derive(Debug)]
pub struct Viewer {
    pub peer: Peer,
    pub lane: Lane,
    /// The next segment to fetch.
    pub next: u64,
    /// What is fetched and not played yet.
    pub buffer: Duration,
    pub script: Vec<Act>,
    pub until: Option<Instant>,
    pub waits: Option<(DemandId, Instant)>,
    pub retry_at: Option<Instant>,
    pub stalled: Duration,
    pub served: u64,
    pub refusals: Vec<Refusal>,
    started: bool,
}

#[derive(Debug)]
pub struct Sim {
    pub floor: Floor,
    pub rules: Rules,
    pub now: Instant,
    pub segments: u64,
    pub cache: BTreeSet<(Lane, u64)>,
    pub made: BTreeMap<(Lane, u64), u32>,
    pub viewers: Vec<Viewer>,
    /// Every action, in order.
    pub log: Vec<Action>,
    pub most_alive: usize,
    pub furthest_lead: u64,
    /// How many producers work at full speed together.
    pub parallel: f64,
    producers: BTreeMap<RunId, Producer>,
    cost: Cost,
    rng: fastrand::Rng,
    ticked: Instant,
}

impl Sim {
    pub fn new(rules: Rules, cost: Cost, segments: u64, seed: u64) -> Self {
        let now = Instant::now();
        Self {
            floor: Floor::new(rules),
            rules,
            now,
            segments,
            cache: BTreeSet::new(),
            made: BTreeMap::new(),
            viewers: Vec::new(),
            log: Vec::new(),
            most_alive: 0,
            furthest_lead: 0,
            parallel: 1000.0,
            producers: BTreeMap::new(),
            cost,
            rng: fastrand::Rng::with_seed(seed),
            ticked: now,
        }
    }

    pub fn viewer(&mut self, peer: u64, lane: Lane, at: u64, script: &[Act]) -> usize {
        self.floor.describe(lane, About { segments: self.segments, segment_duration: SEGMENT });
        self.viewers.push(Viewer {
            peer: Peer(peer),
            lane,
            next: at,
            buffer: Duration::ZERO,
            script: script.iter().rev().copied().collect(),
            until: None,
            waits: None,
            retry_at: None,
            stalled: Duration::ZERO,
            served: 0,
            refusals: Vec::new(),
            started: false,
        });
        self.viewers.len() - 1
    }

    pub fn starts(&self) -> Vec<u64> {
        let first = |action: &Action| match action {
            Action::Start { first, .. } => Some(*first),
            _ => None,
        };
        self.log.iter().filter_map(first).collect()
    }

    pub fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.step();
        }
    }

    /// Until every script is at its end and nobody waits.
    pub fn run_out(&mut self) {
        while self.viewers.iter().any(|v| !v.script.is_empty() || v.until.is_some() || v.waits.is_some()) {
            self.step();
        }
    }

    pub fn step(&mut self) {
        self.now += STEP;
        if self.now - self.ticked >= Duration::from_secs(1) {
            self.ticked = self.now;
            let actions = self.floor.tick(self.now);
            self.apply(actions);
            self.evict();
        }
        for id in self.producers.keys().copied().collect::<Vec<_>>() {
            self.work(id);
        }
        for viewer in 0..self.viewers.len() {
            self.watch(viewer);
        }
        self.check();
    }

    fn check(&mut self) {
        assert_eq!(self.floor.alive(), self.producers.len());
        self.most_alive = self.most_alive.max(self.floor.alive());
        assert!(self.floor.alive() <= self.rules.max_runs + 1, "{} runs", self.floor.alive());
        assert!(self.floor.sessions() <= self.rules.max_runs, "{} sessions", self.floor.sessions());
        for (id, producer) in &self.producers {
            let waited = self.floor.is_waited_for(*id) && producer.ends.is_none();
            assert!(!waited || producer.left.is_some(), "{id:?} rests and is waited for: {producer:?}");
        }
        for viewer in &self.viewers {
            let waits = viewer.waits.map_or(Duration::ZERO, |(_, since)| self.now - since);
            assert!(waits < HANGS, "it hangs: {viewer:?}\n{:?}\n{:?}", self.floor, self.producers);
        }
        let places = |lane| self.viewers.iter().filter(move |v| v.lane == lane).map(|v| v.next);
        for producer in self.producers.values().filter(|p| p.ends.is_none()) {
            let reached = places(producer.lane).filter(|next| *next <= producer.next);
            let lead = reached.max().map_or(0, |next| producer.next - next);
            self.furthest_lead = self.furthest_lead.max(lead);
        }
    }

    fn evict(&mut self) {
        if self.cost.evicts > 0 {
            let (rng, one_in) = (&mut self.rng, self.cost.evicts);
            self.cache.retain(|_| rng.u32(0..one_in) != 0);
        }
    }

    // ---- producers --------------------------------------------------------------------------------

    fn work(&mut self, id: RunId) {
        let working = self.producers.values().filter(|p| p.left.is_some()).count().max(1);
        let share = STEP.mul_f64((self.parallel / working as f64).min(1.0));
        let Some(producer) = self.producers.get_mut(&id) else { return };
        if let Some(ends) = producer.ends {
            if self.now >= ends {
                self.end(id, false);
            }
            return;
        }
        let Some(left) = &mut producer.left else { return };
        *left = left.saturating_sub(share);
        if left.is_zero() {
            if self.cost.fails > 0 && self.rng.u32(0..self.cost.fails) == 0 {
                return self.end(id, true);
            }
            self.finish_segment(id);
        }
    }

    fn finish_segment(&mut self, id: RunId) {
        let now = self.now;
        let producer = self.producers.get_mut(&id).unwrap();
        let (lane, index) = (producer.lane, producer.next);
        assert!(index < producer.goal, "it made {index}, and its goal was {}", producer.goal);
        self.floor.timed(lane, producer.first, now - producer.began);
        (producer.next, producer.first, producer.began) = (index + 1, false, now);
        producer.left = None;
        *self.made.entry((lane, index)).or_default() += 1;
        self.cache.insert((lane, index));
        let (served, actions) = self.floor.made(now, id, index);
        for demand in served {
            let viewer = self.viewers.iter().position(|v| v.waits.is_some_and(|(d, _)| d == demand));
            self.deliver(viewer.expect("who was served had waited"));
        }
        self.apply(actions);
        if self.producers.get(&id).is_some_and(|p| p.next >= self.segments) {
            return self.end(id, false);
        }
        self.go_on(id);
    }

    /// Begins with the next segment, if the goal lets it.
    fn go_on(&mut self, id: RunId) {
        let Some(producer) = self.producers.get(&id).copied() else { return };
        if producer.ends.is_some() || producer.left.is_some() || producer.next >= producer.goal {
            return;
        }
        if self.cache.contains(&(producer.lane, producer.next)) {
            let actions = self.floor.met(self.now, id, producer.next);
            self.apply(actions);
        }
        if let Some(producer) = self.producers.get_mut(&id).filter(|p| p.ends.is_none()) {
            (producer.left, producer.began) = (Some(self.cost.segment), self.now);
        }
    }

    fn end(&mut self, id: RunId, failed: bool) {
        self.producers.remove(&id);
        let (answered, actions) = self.floor.ended(self.now, id, failed);
        for demand in answered {
            self.refuse(demand, Refusal::NotMade);
        }
        self.apply(actions);
    }

    pub fn apply(&mut self, actions: Vec<Action>) {
        self.log.extend(actions.iter().copied());
        for action in actions {
            match action {
                Action::Start { run, lane, first, goal } => {
                    assert!(first < goal && goal <= self.segments, "{action:?}");
                    let left = Some(self.cost.start + self.cost.segment);
                    let began = self.now;
                    let new = Producer { lane, next: first, goal, left, first: true, began, ends: None };
                    assert!(self.producers.insert(run, new).is_none());
                }
                Action::Goal { run, goal } => {
                    assert!(goal <= self.segments, "{action:?}");
                    if let Some(producer) = self.producers.get_mut(&run) {
                        producer.goal = goal.max(producer.next + u64::from(producer.left.is_some()));
                    }
                    self.go_on(run);
                }
                Action::Stop { run } => {
                    let ends = self.now + self.cost.stop.mul_f64(self.rng.f64());
                    if let Some(producer) = self.producers.get_mut(&run) {
                        (producer.ends, producer.left) = (Some(ends), None);
                    }
                }
                Action::Refuse { demand, why } => self.refuse(demand, why),
            }
        }
    }

    // ---- viewers ----------------------------------------------------------------------------------

    fn deliver(&mut self, viewer: usize) {
        let viewer = &mut self.viewers[viewer];
        (viewer.waits, viewer.retry_at) = (None, None);
        viewer.buffer += SEGMENT;
        viewer.next += 1;
        viewer.served += 1;
        viewer.started = true;
    }

    fn refuse(&mut self, demand: DemandId, why: Refusal) {
        let waited = |v: &&mut Viewer| v.waits.is_some_and(|(d, _)| d == demand);
        if let Some(viewer) = self.viewers.iter_mut().find(waited) {
            viewer.waits = None;
            viewer.retry_at = Some(self.now + Duration::from_secs(1));
            viewer.refusals.push(why);
        }
    }

    fn watch(&mut self, viewer: usize) {
        let paused = self.next_act(viewer);
        let v = &mut self.viewers[viewer];
        if !paused && v.until.is_some() && v.next < self.segments {
            let played = v.buffer.min(STEP);
            v.buffer -= played;
            v.stalled += if v.started { STEP - played } else { Duration::ZERO };
        } else if !paused {
            v.buffer = v.buffer.saturating_sub(STEP);
        }
        let away = matches!(v.script.last(), Some(Act::Away(_)));
        let may =
            v.until.is_some() && !away && v.waits.is_none() && v.retry_at.is_none_or(|at| self.now >= at);
        if may && v.next < self.segments && v.buffer < SEGMENT * 3 {
            self.request(viewer);
        }
    }

    /// Goes on in the script; says whether the picture stands still.
    fn next_act(&mut self, viewer: usize) -> bool {
        let now = self.now;
        let v = &mut self.viewers[viewer];
        if v.until.is_some_and(|until| now >= until) {
            v.until = None;
            v.script.pop();
        }
        match v.script.last().copied() {
            Some(Act::Play(time)) => {
                v.until.get_or_insert(now + time);
                false
            }
            Some(Act::Pause(time)) => {
                v.until.get_or_insert(now + time);
                true
            }
            Some(Act::Away(time)) => {
                if v.until.is_none() {
                    v.until = Some(now + time);
                    self.drop_wait(viewer);
                }
                true
            }
            Some(Act::Seek(to)) => {
                v.script.pop();
                (v.next, v.buffer, v.started, v.retry_at) = (to, Duration::ZERO, false, None);
                // The player asks for the new place first, and closes the old connection then.
                let old = v.waits.take();
                self.request(viewer);
                self.close(old);
                false
            }
            Some(Act::Switch(rendition)) => {
                v.script.pop();
                v.lane.rendition = rendition;
                v.retry_at = None;
                let lane = v.lane;
                self.floor.describe(lane, About { segments: self.segments, segment_duration: SEGMENT });
                let old = self.viewers[viewer].waits.take();
                self.request(viewer);
                self.close(old);
                false
            }
            None => true,
        }
    }

    fn drop_wait(&mut self, viewer: usize) {
        let old = self.viewers[viewer].waits.take();
        self.close(old);
    }

    fn close(&mut self, wait: Option<(DemandId, Instant)>) {
        if let Some((demand, _)) = wait {
            let actions = self.floor.dropped(self.now, demand);
            self.apply(actions);
        }
    }

    pub fn request(&mut self, viewer: usize) {
        let Viewer { lane, peer, next: index, .. } = self.viewers[viewer];
        if self.cache.contains(&(lane, index)) {
            let behind = index + 1..(index + 1 + self.rules.read_ahead).min(self.segments);
            let missing = behind.into_iter().find(|i| !self.cache.contains(&(lane, *i)));
            self.deliver(viewer);
            let actions = self.floor.hit(self.now, lane, peer, index, missing);
            self.apply(actions);
        } else {
            let (id, actions) = self.floor.ask(self.now, lane, peer, index);
            self.viewers[viewer].waits = Some((id, self.now));
            self.apply(actions);
        }
    }
}
