//! Just-in-time streaming: segments made when somebody asks for them.
//!
//! ```text
//!   http::vod --> titles: what the file is, its playlists       (nothing is encoded)
//!       |
//!       +--> Studio::segment --> cache? --> there: served
//!                 |                           missing: floor: join a run, or start one
//!                 |                                       |
//!                 +<-- feed (as it grows), or whole <-- run: media::pipeline, window n.. --> cache
//! ```
//!
//! What enters: requests for segments, each with who asks. What leaves: their bytes, or at once the
//! reason why not. Who gets what is decided by [`floor`], which knows no clock and no threads; this module
//! carries its decisions out, and is the only one that does. The lock of the desk is held for moments and
//! never over I/O. Must not live here: HTTP, libav, and how a segment is made.

pub mod feed;
pub mod floor;
mod goal;
mod promise;
mod run;
pub mod title;
pub mod titles;

use super::cores::Cores;
use crate::base::error::{Error, ErrorKind, Result, Stage};
use crate::hardware::inventory::Inventory;
use crate::media::release_free_memory;
use crate::store::cache::{Cache, Fill, Found, Key};
use feed::{Feed, Reader};
use floor::{About, Action, DemandId, Floor, Lane, Peer, Refusal, Rules, RunId};
use run::Run;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};
use title::Title;
use tokio::sync::oneshot;

/// How often somebody has to call [`Studio::tick`].
pub const TICK: Duration = Duration::from_millis(250);
/// A run that goes on because somebody has just got a segment that was there begins so much later: those bytes
/// are on their way over the same cores.
const HEAD_START: Duration = Duration::from_millis(15);
/// So long after runs have ended their memory is given back. Not at once: a seek ends one run and starts another,
/// which would ask the system for the same 100 MiB again.
const MEMORY_KEPT: Duration = Duration::from_secs(2);

/// What a studio is made of.
#[derive(Debug)]
pub struct Setup {
    /// Where made segments are kept.
    pub cache: Cache,
    /// How much is made at once, and how far ahead.
    pub rules: Rules,
    /// Without progress for so long a run has failed.
    pub stall_timeout: Duration,
    /// The cores that runs may use.
    pub max_cpu_cores: u32,
    /// The devices.
    pub inventory: Inventory,
    /// Software stands in for a device that fails.
    pub may_fall_back: bool,
}

/// Handle on the studio. Clones share it.
#[derive(Clone)]
pub struct Studio(Arc<Shared>);

struct Shared {
    cache: Cache,
    cores: Cores,
    read_ahead: u64,
    stall_timeout: Duration,
    inventory: Inventory,
    may_fall_back: bool,
    desk: Mutex<Desk>,
}

/// Who waits, and what is being made.
struct Desk {
    floor: Floor,
    titles: HashMap<Lane, Arc<Title>>,
    waiting: HashMap<DemandId, Waiting>,
    runs: HashMap<RunId, Arc<Run>>,
    /// Runs that could not start. They end with the next tick and not at once: whoever the floor lets start
    /// in their place cannot start either.
    stillborn: Vec<(RunId, Error)>,
    /// When a run ended last, as long as its memory is kept.
    ended: Option<Instant>,
    /// The most runs at once since memory was given back.
    most_runs: usize,
    /// The node stops: nothing starts any more.
    closed: bool,
}

struct Waiting {
    key: Key,
    /// Would take it as it grows.
    growing: bool,
    answer: oneshot::Sender<Result<Served>>,
}

/// What somebody wants.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// Which rendition of the title.
    pub rendition: u32,
    /// Which segment of that.
    pub index: u64,
    /// Who asks.
    pub peer: Peer,
    /// Takes the segment as it grows, without knowing how long it will be.
    pub growing: bool,
}

/// What there is of a segment.
#[derive(Debug)]
pub enum Served {
    /// All of it.
    Whole(Found),
    /// It is being made.
    Growing(Growth),
}

/// A segment that is being made, for one who takes it as it grows. As long as this is held the run that
/// makes it is wanted.
#[derive(Debug)]
pub struct Growth {
    /// Its bytes.
    pub reader: Reader,
    _demand: Option<DemandGuard>,
}

/// What goes on, in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Runs that are alive.
    pub runs: usize,
    /// Those of them that rest, far enough ahead of their viewers.
    pub resting: usize,
    /// Runs that may be.
    pub max_runs: usize,
    /// Requests that wait.
    pub waiting: usize,
    /// How full the cache is.
    pub fill: Fill,
}

impl Studio {
    /// Nobody watches yet.
    pub fn new(setup: Setup) -> Self {
        let Setup { cache, rules, stall_timeout, max_cpu_cores, inventory, may_fall_back } = setup;
        let desk = Desk {
            floor: Floor::new(rules),
            titles: HashMap::new(),
            waiting: HashMap::new(),
            runs: HashMap::new(),
            stillborn: Vec::new(),
            ended: None,
            most_runs: 0,
            closed: false,
        };
        Self(Arc::new(Shared {
            cache,
            cores: Cores::allowed(max_cpu_cores),
            read_ahead: rules.read_ahead,
            stall_timeout,
            inventory,
            may_fall_back,
            desk: Mutex::new(desk),
        }))
    }

    /// A segment: at once if it is there, else as soon as it is made (or has begun to be, for those who
    /// take it as it grows).
    ///
    /// # Errors
    /// `streams_full`, `superseded`, `not_made`, or what the run that was to make it failed of.
    pub async fn segment(&self, title: &Arc<Title>, wanted: Wanted) -> Result<Served> {
        let key = Key { content: title.content, rendition: wanted.rendition, index: wanted.index };
        if let Some(found) = self.0.cache.get(key) {
            self.note_hit(title, &wanted);
            return Ok(Served::Whole(found));
        }
        let (answer, mut answered) = oneshot::channel();
        let guard = match self.ask(title, &wanted, key, answer) {
            Some(demand) => DemandGuard { studio: self.clone(), demand },
            None => return Err(stopping()),
        };
        let served = (&mut answered).await.unwrap_or_else(|_| Err(stopping()));
        Ok(match served? {
            Served::Growing(growth) => {
                Served::Growing(Growth { reader: growth.reader, _demand: Some(guard) })
            }
            whole => whole,
        })
    }

    /// What tells this making of a segment from any other.
    pub fn tag(&self, key: Key) -> Option<u64> {
        self.0.cache.tag(key)
    }

    /// Time passes: whoever watches nothing any more is forgotten, and runs that stand still are ended.
    pub fn tick(&self) {
        let now = Instant::now();
        let limit = self.0.stall_timeout;
        let stalled: Vec<Arc<Run>> = {
            let desk = self.desk();
            desk.runs.values().filter(|run| run.stands_still(now, limit)).cloned().collect()
        };
        for run in stalled {
            let message =
                format!("nothing has come of {} for {} s", run.title.plan.input.display(), limit.as_secs());
            let error = Error::new(ErrorKind::Timeout, "stalled", Stage::Demux, message)
                .hint("check the disk or network mount of the source");
            tracing::error!("a stream is given up: {error}");
            run.stop();
            self.run_ended(run.id, Err(error));
            // Its thread may hang, and would tell nobody.
            run.break_off();
        }
        let mut desk = self.desk();
        for (run, error) in std::mem::take(&mut desk.stillborn) {
            let actions = self.ended(&mut desk, run, Err(error));
            self.carry_out(&mut desk, actions);
        }
        let actions = desk.floor.tick(now);
        self.carry_out(&mut desk, actions);
        let Desk { titles, floor, .. } = &mut *desk;
        titles.retain(|lane, _| floor.knows(*lane));
        desk.give_memory_back(now);
    }

    /// Ends every run; nothing starts any more.
    pub fn close(&self) {
        let mut desk = self.desk();
        desk.closed = true;
        desk.waiting.clear();
        desk.runs.values().for_each(|run| run.stop());
    }

    /// What goes on.
    pub fn load(&self) -> Load {
        let desk = self.desk();
        let resting = desk.runs.values().filter(|run| run.rests()).count();
        Load {
            runs: desk.runs.len(),
            resting,
            max_runs: desk.floor.max_runs(),
            waiting: desk.waiting.len(),
            fill: self.0.cache.fill(),
        }
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.0.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note_hit(&self, title: &Arc<Title>, wanted: &Wanted) {
        let lane = Lane { content: title.content, rendition: wanted.rendition };
        let last = title.segment_count().min(wanted.index.saturating_add(1 + self.0.read_ahead));
        let missing = (wanted.index + 1..last).find(|index| {
            !self.0.cache.has(Key { content: lane.content, rendition: lane.rendition, index: *index })
        });
        let mut desk = self.desk();
        desk.knows(lane, title);
        let actions = desk.floor.hit(Instant::now(), lane, wanted.peer, wanted.index, missing);
        self.carry_out_after(HEAD_START, &mut desk, actions);
    }

    /// `None` when the node stops.
    fn ask(
        &self,
        title: &Arc<Title>,
        wanted: &Wanted,
        key: Key,
        answer: oneshot::Sender<Result<Served>>,
    ) -> Option<DemandId> {
        let lane = Lane { content: key.content, rendition: key.rendition };
        let mut desk = self.desk();
        if desk.closed {
            return None;
        }
        desk.knows(lane, title);
        let (demand, actions) = desk.floor.ask(Instant::now(), lane, wanted.peer, key.index);
        desk.waiting.insert(demand, Waiting { key, growing: wanted.growing, answer });
        self.carry_out(&mut desk, actions);
        if let Some(run) = desk.floor.run_of(demand).and_then(|run| desk.runs.get(&run)) {
            run.goal.hurry();
        }
        // Made between the look into the cache and now.
        if let Some(found) = self.0.cache.get(key) {
            if let Some(waiting) = desk.waiting.remove(&demand) {
                let _ = waiting.answer.send(Ok(Served::Whole(found)));
            }
            let actions = desk.floor.dropped(Instant::now(), demand);
            self.carry_out(&mut desk, actions);
        } else if let Some(feed) = wanted.growing.then(|| desk.feed(demand, key)).flatten() {
            desk.serve_growing(demand, &feed);
        }
        Some(demand)
    }

    fn carry_out(&self, desk: &mut Desk, actions: Vec<Action>) {
        self.carry_out_after(Duration::ZERO, desk, actions);
    }

    /// The same; runs that rest go on after a pause.
    fn carry_out_after(&self, pause: Duration, desk: &mut Desk, actions: Vec<Action>) {
        if desk.closed {
            return;
        }
        for action in actions {
            match action {
                Action::Start { run, lane, first, goal } => {
                    if let Err(e) = self.start(desk, run, lane, (first, goal)) {
                        tracing::error!("a stream cannot start: {e}");
                        desk.stillborn.push((run, e));
                    }
                }
                Action::Goal { run: id, goal } => {
                    if let Some(run) = desk.runs.get(&id) {
                        let waited_for = desk.floor.is_waited_for(id);
                        run.goal.set(goal, if waited_for { Duration::ZERO } else { pause });
                    }
                }
                Action::Stop { run } => {
                    if let Some(run) = desk.runs.get(&run) {
                        run.stop();
                    }
                }
                Action::Refuse { demand, why } => desk.answer(demand, Err(refusal(why))),
            }
        }
    }

    fn start(&self, desk: &mut Desk, id: RunId, lane: Lane, (first, goal): (u64, u64)) -> Result<()> {
        let title = desk.titles.get(&lane).cloned();
        let title =
            title.ok_or_else(|| Error::internal(Stage::Plan, "a run of a title that nobody knows"))?;
        let run = Arc::new(Run::new(id, lane, title, first, goal));
        run::start(self.clone(), run.clone(), &self.0.cores)?;
        desk.runs.insert(id, run);
        desk.most_runs = desk.most_runs.max(desk.runs.len());
        Ok(())
    }

    /// A run has begun a segment: whoever takes it as it grows has it from now on.
    fn run_begins(&self, run: RunId, key: Key, feed: &Arc<Feed>) {
        let mut desk = self.desk();
        // Another run may be on its way out with the same segment in hand.
        let takes = |(id, waiting): &(&DemandId, &Waiting)| {
            waiting.key == key && waiting.growing && desk.floor.run_of(**id) == Some(run)
        };
        let takers: Vec<DemandId> = desk.waiting.iter().filter(takes).map(|(id, _)| *id).collect();
        takers.into_iter().for_each(|demand| desk.serve_growing(demand, feed));
    }

    /// A run has made a segment, which is in the cache.
    fn run_made(&self, run: &Run, index: u64, took: Duration) {
        let now = Instant::now();
        let mut desk = self.desk();
        desk.floor.timed(run.lane, index == run.first, took);
        let (served, actions) = desk.floor.made(now, run.id, index);
        for demand in served {
            // There for certain: the run holds it.
            let key = desk.waiting.get(&demand).map(|waiting| waiting.key);
            if let Some(found) = key.and_then(|key| self.0.cache.get(key)) {
                desk.answer(demand, Ok(Served::Whole(found)));
            }
        }
        self.carry_out(&mut desk, actions);
    }

    /// What a run would make next is there: an earlier run's work goes on from here.
    fn run_met(&self, run: RunId, index: u64) {
        let mut desk = self.desk();
        let actions = desk.floor.met(Instant::now(), run, index);
        self.carry_out(&mut desk, actions);
    }

    fn run_ended(&self, run: RunId, result: Result<()>) {
        let mut desk = self.desk();
        let actions = self.ended(&mut desk, run, result);
        self.carry_out(&mut desk, actions);
    }

    fn ended(&self, desk: &mut Desk, run: RunId, result: Result<()>) -> Vec<Action> {
        desk.runs.remove(&run);
        desk.ended = Some(Instant::now());
        let failed = result.as_ref().is_err_and(|e| !e.is_cancelled());
        let (waiting, actions) = desk.floor.ended(Instant::now(), run, failed);
        if let Err(e) = result {
            waiting.into_iter().for_each(|demand| desk.answer(demand, Err(e.clone())));
        }
        actions
    }

    fn dropped(&self, demand: DemandId) {
        let mut desk = self.desk();
        desk.waiting.remove(&demand);
        let actions = desk.floor.dropped(Instant::now(), demand);
        self.carry_out(&mut desk, actions);
    }
}

impl Desk {
    fn knows(&mut self, lane: Lane, title: &Arc<Title>) {
        self.titles.entry(lane).or_insert_with(|| title.clone());
        let about = About { segments: title.segment_count(), segment_duration: title.segment_duration() };
        self.floor.describe(lane, about);
    }

    fn give_memory_back(&mut self, now: Instant) {
        let is_due = |ended: &mut Instant| now.saturating_duration_since(*ended) >= MEMORY_KEPT;
        // What one run had is kept for the next one, and nobody who works is held up.
        let has_spare = self.runs.is_empty() || self.runs.len() + 1 < self.most_runs;
        if has_spare && self.runs.values().all(|run| run.rests()) && self.ended.take_if(is_due).is_some() {
            self.most_runs = self.runs.len();
            // It takes a while.
            let started = thread::Builder::new().name("memory".into()).spawn(release_free_memory);
            if let Err(e) = started {
                tracing::debug!("free memory is not given back now: {e}");
            }
        }
    }

    fn answer(&mut self, demand: DemandId, served: Result<Served>) {
        if let Some(waiting) = self.waiting.remove(&demand) {
            // Whoever waited may have gone.
            let _ = waiting.answer.send(served);
        }
    }

    fn serve_growing(&mut self, demand: DemandId, feed: &Arc<Feed>) {
        self.answer(demand, Ok(Served::Growing(Growth { reader: feed.reader(), _demand: None })));
    }

    /// The segment that a request waits for, if its run makes it now.
    fn feed(&self, demand: DemandId, key: Key) -> Option<Arc<Feed>> {
        self.runs.get(&self.floor.run_of(demand)?)?.feed_of(key)
    }
}

/// Tells the floor when whoever waited has gone; nothing if they were answered.
struct DemandGuard {
    studio: Studio,
    demand: DemandId,
}

impl std::fmt::Debug for DemandGuard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("DemandGuard").field(&self.demand).finish()
    }
}

impl Drop for DemandGuard {
    fn drop(&mut self) {
        self.studio.dropped(self.demand);
    }
}

fn stopping() -> Error {
    Error::new(ErrorKind::Unavailable, "stopping", Stage::Plan, "the node stops")
}

fn refusal(why: Refusal) -> Error {
    match why {
        Refusal::Full => Error::new(
            ErrorKind::Unavailable,
            "streams_full",
            Stage::Plan,
            "as many streams are being made as this node can make in real time",
        )
        .hint("ask again later, or raise stream.max_sessions where the machine has more to give"),
        Refusal::Superseded => Error::new(
            ErrorKind::Unavailable,
            "superseded",
            Stage::Plan,
            "the same player has asked for another place of this rendition since",
        ),
        Refusal::NotMade => Error::new(
            ErrorKind::Internal,
            "not_made",
            Stage::Plan,
            "the run that was to make this segment ended without it, twice",
        ),
    }
}
