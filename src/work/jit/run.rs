//! One run: a thread that makes the segments of a rendition, one after another, from a place on.
//!
//! What enters: a title, a place, a goal that moves. What leaves: segments in the cache, each shown as it
//! grows; and in the end the word how it ended. A run rests at its goal with everything open, ends at the
//! title's end or before a segment that is there already, and at once when it is stopped. A thread that
//! hangs in a dead disk is left behind: the floor has forgotten it by then.

use super::Studio;
use super::feed::Feed;
use super::floor::{Lane, RunId};
use super::goal::Goal;
use super::title::Title;
use crate::base::cancel::Cancel;
use crate::base::error::{Error, ErrorKind, Result, Stage};
use crate::hardware::inventory::Lease;
use crate::hardware::report::Direction;
use crate::media::pipeline::{self, LeadIn, Start, Target};
use crate::media::plan::{Machine, Plan};
use crate::media::progress::Progress;
use crate::media::{RunLog, crash};
use crate::model::job::SegmentType;
use crate::model::segment::{Segment, SegmentSink};
use crate::model::timeline::Window;
use crate::store::cache::{Found, Key};
use crate::work::cores::Cores;
use bytes::Bytes;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// A run, as the studio knows it.
#[derive(Debug)]
pub(super) struct Run {
    pub id: RunId,
    pub lane: Lane,
    pub title: Arc<Title>,
    pub first: u64,
    pub goal: Goal,
    cancel: Cancel,
    /// The segment that is being made.
    feed: Mutex<Option<(Key, Arc<Feed>)>>,
    watch: Mutex<Watch>,
}

/// When the run was last seen to move.
#[derive(Debug)]
struct Watch {
    looks: u64,
    since: Instant,
}

impl Run {
    pub fn new(id: RunId, lane: Lane, title: Arc<Title>, first: u64, goal: u64) -> Self {
        Self {
            id,
            lane,
            title,
            first,
            goal: Goal::new(goal),
            cancel: Cancel::new(),
            feed: Mutex::default(),
            watch: Mutex::new(Watch { looks: 0, since: Instant::now() }),
        }
    }

    /// Ends it at once. What it has in hand it may finish where that takes no time.
    pub fn stop(&self) {
        self.cancel.cancel();
        self.goal.wake();
    }

    /// Tells whoever takes a segment as it grows that it will not be made.
    pub fn break_off(&self) {
        if let Some((_, feed)) = lock(&self.feed).take() {
            feed.break_off();
        }
    }

    /// Whether it is far enough ahead.
    pub fn rests(&self) -> bool {
        self.goal.rests()
    }

    /// The segment, if it is the one that is being made.
    pub fn feed_of(&self, key: Key) -> Option<Arc<Feed>> {
        lock(&self.feed).as_ref().filter(|(at, _)| *at == key).map(|(_, feed)| feed.clone())
    }

    /// Whether none of its stages has moved for `limit`.
    pub fn stands_still(&self, now: Instant, limit: Duration) -> bool {
        let looks = self.cancel.looks();
        let mut watch = lock(&self.watch);
        if looks != watch.looks || self.goal.rests() {
            *watch = Watch { looks, since: now };
        }
        now.saturating_duration_since(watch.since) > limit
    }

    fn key(&self, index: u64) -> Key {
        Key { content: self.lane.content, rendition: self.lane.rendition, index }
    }
}

/// Starts a run's thread.
///
/// # Errors
/// `no_threads`.
pub(super) fn start(studio: Studio, run: Arc<Run>, cores: &Cores) -> Result<()> {
    // A name that no job can have.
    let listed = crash::register(&format!("~vod-{}", run.id.0));
    let name = crash::thread_name(Some(listed.tag()), "stream");
    let cores = cores.clone();
    let span = tracing::info_span!("stream", run = run.id.0, title = %run.title.plan.input.display());
    let body = move || {
        let _inside = span.enter();
        cores.enter_for_viewers();
        let log = RunLog::tagged(listed.tag());
        let made = catch_unwind(AssertUnwindSafe(|| make(&studio, &run, &cores, &log)));
        let result = made.unwrap_or_else(|_| Err(Error::internal(Stage::Plan, "a stream's thread panicked")));
        drop(listed);
        match &result {
            Err(e) if !e.is_cancelled() => tracing::error!("the stream has failed: {e}"),
            _ => tracing::debug!("the stream has ended"),
        }
        run.break_off();
        studio.run_ended(run.id, result);
    };
    thread::Builder::new().name(name).spawn(body).map(|_| ()).map_err(|e| {
        Error::new(ErrorKind::Io, "no_threads", Stage::Plan, format!("cannot start a thread: {e}"))
            .hint("raise the limit on threads of this user or container")
    })
}

fn make(studio: &Studio, run: &Arc<Run>, cores: &Cores, log: &RunLog) -> Result<()> {
    let title = &run.title;
    let plan = title.plan.only(run.lane.rendition as usize, Machine { cores: cores.count() });
    let plan = plan.ok_or_else(|| Error::internal(Stage::Plan, "a run of a rendition that there is not"))?;
    let sink = Arc::new(Sink {
        studio: studio.clone(),
        run: run.clone(),
        last: Mutex::new(Instant::now()),
        next: AtomicU64::new(run.first),
        holds_back: AtomicBool::new(false),
    });
    let Some((on, lease)) = with_device(studio, run, &plan) else { return produce(&plan, &sink, log) };
    sink.holds_back.store(true, Ordering::Relaxed);
    let ended = produce(&on, &sink, log);
    drop(lease);
    let Some(plan) = after_device(studio, run, &on, &ended) else {
        // Who leaves while a device hangs has left.
        return if run.cancel.is_cancelled() { Err(Error::cancelled(Stage::Encode)) } else { ended };
    };
    // Nothing of the segment has been sent: whoever waits for it does not see who makes it.
    sink.holds_back.store(false, Ordering::Relaxed);
    produce(&plan, &sink, log)
}

/// Makes what is missing, to the end that was promised, wherever the data ends.
fn produce(plan: &Plan, sink: &Arc<Sink>, log: &RunLog) -> Result<()> {
    let run = &sink.run;
    let (first, end) = (sink.next.load(Ordering::Relaxed), run.title.segment_count());
    if first >= end {
        return Ok(());
    }
    tracing::debug!("starts at segment {first}{}", plan.device.as_ref().map_or("", |_| ", with a device"));
    let start = Start { pool: &run.title.pool, lead_in: LeadIn::Short };
    let (cancel, progress) = (run.cancel.child(), Arc::new(Progress::new()));
    let (window, target) = (Window::segments(first..end), Target::Segments(sink.clone()));
    pipeline::run_from(start, plan, window, target, &cancel, &progress, log).map(|_| ())
}

/// The plan with what a device does of it. In fragmented MP4 the init segment was promised, and it is that of
/// the encoder in software: there a device only decodes and scales.
fn with_device(studio: &Studio, run: &Run, plan: &Plan) -> Option<(Plan, Lease)> {
    let inventory = &studio.0.inventory;
    let mut devices = inventory.usable();
    let level = run.title.promised_level(run.lane.rendition);
    if run.title.segment_type() == SegmentType::Fmp4 || level.is_none() {
        for usable in &mut devices {
            usable.device.codecs.retain(|codec| codec.direction == Direction::Decode);
        }
    }
    plan.leased(inventory, &devices, &|_| level)
}

/// What is to be done when a run with a device has ended: the plan without it, if it has failed and software
/// may stand in.
fn after_device(studio: &Studio, run: &Run, on: &Plan, ended: &Result<()>) -> Option<Plan> {
    let (inventory, device) = (&studio.0.inventory, on.device.as_ref()?);
    match ended {
        Err(e) if !run.cancel.is_cancelled() && pipeline::blame_device(inventory, on, e) => {
            studio.0.may_fall_back.then(|| on.in_software())
        }
        Ok(()) => {
            inventory.worked(device.kind);
            None
        }
        Err(_) => None,
    }
}

struct Sink {
    studio: Studio,
    run: Arc<Run>,
    /// When the run began with what it is making now.
    last: Mutex<Instant>,
    /// The first segment that is not kept yet.
    next: AtomicU64,
    /// Segments are shown whole only: a device may fail in the middle of one, and another has to make it anew.
    holds_back: AtomicBool,
}

impl Sink {
    /// The feed of a segment; a new one if it is the first word of it.
    fn feed(&self, key: Key) -> Arc<Feed> {
        let mut held = lock(&self.run.feed);
        if let Some((_, feed)) = held.as_ref().filter(|(at, _)| *at == key) {
            return feed.clone();
        }
        let feed = Feed::new();
        *held = Some((key, feed.clone()));
        drop(held);
        self.studio.run_begins(self.run.id, key, &feed);
        feed
    }
}

impl SegmentSink for Sink {
    fn init(&self, _: usize, codecs: &[String], data: &[u8]) -> Result<()> {
        self.run.title.agree(self.run.lane.rendition, codecs, data)
    }

    fn part(&self, _: usize, index: u64, data: Bytes) -> Result<()> {
        if self.holds_back.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.feed(self.run.key(index)).push(data);
        Ok(())
    }

    fn segment(&self, segment: Segment) -> Result<()> {
        let (run, key) = (&self.run, self.run.key(segment.index));
        let (feed, next) = (self.feed(key), segment.index + 1);
        // Held until whoever waited has it: a small cache may let it go right after.
        let found = self.studio.0.cache.put_and_get(key, segment.data, &run.cancel)?;
        let took = std::mem::replace(&mut *lock(&self.last), Instant::now()).elapsed();
        // The floor first: whoever reads the segment as it grows asks for the next one the moment it is whole, and
        // must find that this run is about to make it.
        self.next.store(next, Ordering::Relaxed);
        self.studio.run_made(run, segment.index, took);
        feed.finish(match found {
            Found::Memory(data) => data,
            Found::Disk(found) => found.read()?,
        });
        *lock(&run.feed) = None;
        if next >= run.title.segment_count() {
            return Ok(());
        }
        if self.studio.0.cache.has(run.key(next)) {
            self.studio.run_met(run.id, next);
        }
        run.goal.wait_for(next, &run.cancel)?;
        *lock(&self.last) = Instant::now();
        Ok(())
    }
}

fn lock<T>(held: &Mutex<T>) -> MutexGuard<'_, T> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}
