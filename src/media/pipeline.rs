//! The one pipeline, assembled top to bottom in [`run`].
//!
//! ```text
//!          8            3            2             64
//! demux --+--> decode --+--> filter ----> encode --+--> mux --> sink      once for each rendition
//!         |             +--> filter ----> encode --|--> mux --> sink
//!         |  8                                     |
//!         +--> audio ------------------------------+  (one packet, shared by all)
//! ```
//! A stream that is copied goes from the demux stage to the muxers with nothing in between. Where somebody watches
//! the queue to the muxer is shorter.
//!
//! Each box is an OS thread, each arrow a bounded queue that wakes on the run's abort flag; the
//! numbers are capacities in items (`items.rs`). The window says which segments to make; whole jobs
//! and single segments differ in nothing else, but for [`LeadIn::Short`]. The first stage that fails sets the flag, and its
//! error is the run's.

use super::audio::copy::{CopyAudio, PacketTicks};
use super::audio::{self, Audio, PacketWindow, SourceClock, grid_of};
use super::bundle::Bundle;
use super::codecs::{Codecs, Works, stand_behind_what_follows};
use super::copy::{self, CopyVideo};
use super::decode::{Codec, Decode};
use super::demux::{Demux, Outlets};
use super::encode::{Beside, Encode, Opening, Waiting};
use super::filter::{Filter, Scaling};
use super::index::framing;
use super::items::{CODED_QUEUE, Coded, MUX_QUEUE, MuxItem, RAW_QUEUE, SCALED_QUEUE, SHORT_MUX_QUEUE};
use super::mux::{AppendSink, Awaits, FileMux, MadeRendition, SegmentMux};
use super::pace::{Follower, Leader, Paced, pace};
use super::plan::Plan;
use super::progress::Progress;
use super::tracks;
use super::warm::{Lent, Pool};
use crate::av::decoder::Decoder;
use crate::av::encoder::Encoder;
use crate::av::log::RunLog;
use crate::av::output::FileFormat;
use crate::av::registry;
use crate::base::cancel::{Cancel, QueueRx, QueueTx, queue};
use crate::base::error::{Error, ErrorKind, Result, Stage};
use crate::base::time::Rational;
use crate::hardware::inventory::Inventory;
use crate::hardware::report::Reason;
use crate::model::job::{Format, SegmentType};
use crate::model::segment::SegmentSink;
use crate::model::timeline::{Timeline, Window};
use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, Scope, ScopedJoinHandle};

/// The most pictures that are encoded before a window and dropped, and the fewest. An encoder's decisions
/// follow from what it saw, and without them the first picture of a window is up to 2 dB worse than in a
/// continuous run. The segment before the window, from its key picture on, leaves hardly a difference.
/// Beyond the window's end the encoder is fed until the window is complete, since it looks ahead; one that makes the
/// first segment alone is flushed there.
const PRE_ROLL_FRAMES: RangeInclusive<u64> = 25..=250;

/// Pictures that are encoded before a window where somebody waits for its first: none. The segment's first
/// pictures are then a little worse, by less than a viewer sees, and there a second sooner.
const SHORT_PRE_ROLL_FRAMES: u64 = 0;

/// How a run comes to its first picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeadIn {
    /// As one continuous encode would: a join to what another run made is not seen.
    Full,
    /// Without a run-up, since somebody waits for it. The first segment may have an encoder of its own that answers
    /// sooner, and the sound waits for its picture.
    Short,
}

impl LeadIn {
    fn frames(self, timeline: &Timeline) -> u64 {
        match self {
            Self::Full => {
                timeline.frames_per_segment().clamp(*PRE_ROLL_FRAMES.start(), *PRE_ROLL_FRAMES.end())
            }
            Self::Short => SHORT_PRE_ROLL_FRAMES,
        }
    }
}

/// Where the output goes.
pub enum Target {
    /// Segments, as each is finished.
    Segments(Arc<dyn SegmentSink>),
    /// One file, under this (temporary) name; it is complete and closed when the run ends.
    File(PathBuf),
}

/// What came out.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The plan's timeline, or one of another length if the data ended elsewhere.
    pub timeline: Timeline,
    /// The renditions, in the plan's order.
    pub renditions: Vec<MadeRendition>,
}

impl Outcome {
    /// Counts in what an earlier run had made of a rendition before this run's window.
    pub fn count_earlier(&mut self, rendition: usize, frames: u64, audio_packets: u64) {
        if let Some(made) = self.renditions.get_mut(rendition) {
            made.frames += frames;
            made.audio_packets += audio_packets;
        }
    }
}

/// Makes the window's segments (or the whole file). Returns when every thread has ended.
///
/// `cancel` belongs to this run alone: a failing stage sets it too.
pub fn run(
    plan: &Plan,
    window: Window,
    target: Target,
    cancel: &Cancel,
    progress: &Arc<Progress>,
    log: &RunLog,
) -> Result<Outcome> {
    run_from(
        Start { pool: &Pool::none(), lead_in: LeadIn::Full },
        plan,
        window,
        target,
        cancel,
        progress,
        log,
    )
}

/// What a run begins with.
#[derive(Clone, Copy, Debug)]
pub struct Start<'a> {
    /// Inputs of the plan's source that are open. The one that is taken goes back there as soon as it is
    /// read, before the last segment is made.
    pub pool: &'a Pool,
    /// How it comes to its first picture.
    pub lead_in: LeadIn,
}

/// Whether a failed run may have failed because of its device, so that software may do it. A device whose fault it
/// is for certain is noted.
pub fn blame_device(inventory: &Inventory, plan: &Plan, e: &Error) -> bool {
    let Some(device) = plan.device.as_ref().filter(|_| device_may_be_to_blame(e)) else { return false };
    if device_is_to_blame(e) {
        inventory.failed(device.kind, Reason::new(e.code(), e.message()));
    }
    true
}

/// Whether a failure is a device's for certain.
fn device_is_to_blame(e: &Error) -> bool {
    matches!(e.code(), "device_failed" | "encoder_ignored_key" | "encoder_lost_frames" | "init_differs")
}

/// Whether it may be: software then does the work, or fails in its turn of what is wrong with the source or the
/// wish. What a device makes of a picture can be wrong in every stage behind it, up to the codec strings that were
/// promised.
fn device_may_be_to_blame(e: &Error) -> bool {
    let elsewhere = matches!(e.kind(), ErrorKind::Cancelled | ErrorKind::NoSpace | ErrorKind::Io);
    let before = matches!(e.stage(), Stage::Open | Stage::Demux) && e.code() != "device_failed";
    !elsewhere && !before
}

/// The same with a word on how it begins.
pub fn run_from(
    start: Start<'_>,
    plan: &Plan,
    window: Window,
    target: Target,
    cancel: &Cancel,
    progress: &Arc<Progress>,
    log: &RunLog,
) -> Result<Outcome> {
    let span = Span::of(plan, window, start.lead_in);
    progress.set_span(span.start_time(plan), span.end_time(plan));
    let input = start.pool.take(&plan.input, cancel, log)?;
    let codecs = Codecs::open(plan, &input, start.lead_in == LeadIn::Short, log)?;
    let target = OpenTarget::new(plan, target)?;
    let results = thread::scope(|scope| {
        let short = plan.copies_all() || start.lead_in == LeadIn::Short;
        let mux_queue = if short { SHORT_MUX_QUEUE } else { MUX_QUEUE };
        let crew = Crew {
            scope,
            plan,
            cancel,
            progress,
            log,
            span: &span,
            target: &target,
            mux_queue,
            lead_in: start.lead_in,
        };
        crew.start(codecs, input).map(Stages::join)
    });
    // Without pictures there is next to nothing to give back. Whoever is in a hurry gives it back when nothing
    // more is to be done.
    if !plan.copies_video() && start.lead_in == LeadIn::Full {
        registry::release_free_memory();
    }
    let renditions = settle(results, cancel).map_err(|e| with_log(e, log))?;
    finish(plan, &span, renditions, progress)
}

/// The part of the title that a run makes, in segments and in grid positions.
#[derive(Clone, Debug)]
struct Span {
    segments: Range<u64>,
    first: u64,
    /// `None` runs to where the data ends.
    end: Option<u64>,
    /// Pictures that are encoded before the first.
    lead_in: u64,
}

impl Span {
    fn of(plan: &Plan, window: Window, lead_in: LeadIn) -> Self {
        let segments = plan.timeline.segments_of(window);
        let open = window.end.is_none() && !plan.fixed_end;
        let end = (!open).then(|| plan.timeline.segment_start(segments.end));
        let first = plan.timeline.segment_start(segments.start);
        Self { first, segments, end, lead_in: lead_in.frames(&plan.timeline) }
    }

    /// The slots of the pictures that are decoded and encoded: the window with its run-up and run-out.
    fn pictures(&self, plan: &Plan) -> (u64, Option<u64>) {
        if plan.copies_video() {
            return (self.first, self.end);
        }
        let total = plan.timeline.total_frames();
        let end = self
            .end
            .map(|end| if end < total { total.min(end + plan.timeline.frames_per_segment()) } else { end });
        (self.first.saturating_sub(self.lead_in), end)
    }

    /// Where the first segment ends.
    fn first_ends(&self, plan: &Plan) -> u64 {
        plan.timeline.segment_start(self.segments.start + 1)
    }

    fn start_time(&self, plan: &Plan) -> Rational {
        plan.timeline.frame_time(self.first)
    }

    fn end_time(&self, plan: &Plan) -> Rational {
        self.end.map_or(plan.timeline.duration(), |end| plan.timeline.frame_time(end))
    }
}

/// The target with its files open.
enum OpenTarget {
    Segments(SegmentType, Arc<dyn SegmentSink>),
    File(FileFormat, PathBuf),
}

impl OpenTarget {
    fn new(plan: &Plan, target: Target) -> Result<Self> {
        Ok(match (plan.format, target) {
            (Format::Hls(kind), Target::Segments(sink)) => Self::Segments(kind, sink),
            (Format::Ts, Target::File(path)) => {
                Self::Segments(SegmentType::Ts, Arc::new(AppendSink::create(&path)?))
            }
            (Format::Mp4, Target::File(path)) => Self::File(FileFormat::Mp4, path),
            (Format::Mkv, Target::File(path)) => Self::File(FileFormat::Mkv, path),
            _ => return Err(Error::internal(Stage::Plan, "the target does not fit the format")),
        })
    }
}

/// What every stage of a run shares while its threads start.
#[derive(Clone, Copy)]
struct Crew<'scope, 'env> {
    scope: &'scope Scope<'scope, 'env>,
    plan: &'env Plan,
    cancel: &'env Cancel,
    progress: &'env Progress,
    log: &'env RunLog,
    span: &'env Span,
    target: &'env OpenTarget,
    /// Capacity of the queues to the muxers.
    mux_queue: usize,
    lead_in: LeadIn,
}

type Handle<'scope, T> = ScopedJoinHandle<'scope, Result<T>>;

/// The threads of a run.
struct Stages<'scope> {
    workers: Vec<Handle<'scope, ()>>,
    muxers: Vec<Handle<'scope, MadeRendition>>,
}

impl<'scope, 'env> Crew<'scope, 'env> {
    /// Starts every stage, top to bottom.
    fn start(self, codecs: Codecs, source_input: Lent<'env>) -> Result<Stages<'scope>> {
        let mut stages = Stages { workers: Vec::new(), muxers: Vec::new() };
        let Codecs { video_decoder, video_encoders, audio, source } = codecs;
        let (mux_inlets, mux_outlets): (Vec<_>, Vec<_>) = self
            .plan
            .renditions
            .iter()
            .map(|_| queue::<MuxItem>(self.mux_queue, self.cancel, Stage::Mux))
            .unzip();

        let (leader, follower) = self.pace().unzip();
        let mut outlets = Outlets::default();
        if self.plan.video.is_some() {
            outlets.video = Some(match (video_decoder, source.video) {
                (Some(codec), _) => {
                    let (tx, rx) = self.coded();
                    self.encode_video(&mut stages, codec, (video_encoders, leader), rx, &mux_inlets)?;
                    Box::new(tx)
                }
                (None, Some(track)) => Box::new(self.copy_video(track, &mux_inlets)?),
                (None, None) => {
                    return Err(Error::internal(Stage::Plan, "a picture without a decoder or a track"));
                }
            });
        }
        if self.plan.audio.is_some() {
            outlets.audio = Some(match (audio, source.audio, source.audio_clock) {
                (Some(codecs), _, Some(clock)) => {
                    let (tx, rx) = self.coded();
                    stages.workers.push(self.encode_audio(
                        codecs,
                        clock,
                        Paced::new(rx, clock, follower),
                        mux_inlets,
                    )?);
                    Box::new(tx)
                }
                (None, Some(track), Some(clock)) => Box::new(self.copy_audio((track, clock), mux_inlets)),
                _ => return Err(Error::internal(Stage::Plan, "sound without a decoder or a track")),
            });
        } else {
            drop(mux_inlets);
        }
        stages.workers.push(self.demux(outlets, source_input)?);
        for (i, input) in mux_outlets.into_iter().enumerate() {
            stages.muxers.push(self.mux(i, input)?);
        }
        Ok(stages)
    }

    /// Somebody who waits for a segment waits for its picture first.
    fn pace(self) -> Option<(Leader, Follower)> {
        (self.lead_in == LeadIn::Short).then(|| pace(self.span.start_time(self.plan)))
    }

    fn coded(self) -> (QueueTx<Coded>, QueueRx<Coded>) {
        queue(CODED_QUEUE, self.cancel, Stage::Demux)
    }

    /// Starts a stage's thread. A stage that fails or panics sets the run's flag, so that all end.
    /// `name` has 8 bytes at most, so that the system keeps it whole behind the run's tag.
    fn spawn<T: Send + 'scope>(
        self,
        name: &str,
        stage: impl FnOnce() -> Result<T> + Send + 'scope,
    ) -> Result<Handle<'scope, T>> {
        let (cancel, log) = (self.cancel, self.log);
        let body = move || {
            log.enter_thread();
            let guard = CancelOnDrop(Some(cancel));
            let result = stage();
            if result.is_ok() {
                guard.disarm();
            }
            result
        };
        let started = thread::Builder::new().name(log.thread_name(name)).spawn_scoped(self.scope, body);
        started.map_err(|e| {
            self.cancel.cancel();
            Error::internal(Stage::Plan, format!("cannot start a thread: {e}"))
        })
    }

    fn demux(self, outlets: Outlets<'env>, input: Lent<'env>) -> Result<Handle<'scope, ()>> {
        let from = (self.span.pictures(self.plan).0, self.span.start_time(self.plan));
        self.spawn("demux", move || {
            Demux::new(self.plan, from, outlets, input, self.cancel, self.log, self.progress).run()
        })
    }

    fn encode_video(
        self,
        stages: &mut Stages<'scope>,
        codec: Codec,
        (encoders, mut leader): (Vec<Works>, Option<Leader>),
        input: QueueRx<Coded>,
        outputs: &[QueueTx<MuxItem>],
    ) -> Result<()> {
        let mut outlets = Vec::new();
        for ((i, encoder), output) in encoders.into_iter().enumerate().zip(outputs) {
            let (raw_tx, raw_rx) = queue(RAW_QUEUE, self.cancel, Stage::Decode);
            outlets.push(raw_tx);
            self.rendition(stages, i, (encoder, leader.take()), raw_rx, output.clone())?;
        }
        let slots = self.span.pictures(self.plan);
        stages.workers.push(self.spawn("decode", move || {
            stand_behind_what_follows();
            Decode::new(self.plan, slots, codec, input, outlets, self.progress).run()
        })?);
        Ok(())
    }

    fn rendition(
        self,
        stages: &mut Stages<'scope>,
        i: usize,
        (works, leader): (Works, Option<Leader>),
        input: QueueRx<super::items::Raw>,
        output: QueueTx<MuxItem>,
    ) -> Result<()> {
        let rendition = self.plan.renditions.get(i);
        let both_sets = rendition.and_then(|r| r.both_sets.clone());
        let settings = rendition.and_then(|r| r.encode.as_ref());
        let settings =
            settings.ok_or_else(|| Error::internal(Stage::Plan, "a rendition without settings"))?;
        let codec = tracks::codec_of(&settings.encoder);
        let window = (self.span.first, self.span.end);
        let until = self.span.first_ends(self.plan);
        let opening = works.for_first_segment.then_some(Opening { until, log: self.log });
        let waiting = Waiting { opening, leader };
        let (scaled_tx, scaled_rx) = queue(SCALED_QUEUE, self.cancel, Stage::Filter);
        let scaling = Scaling {
            width: settings.width,
            height: settings.height,
            pixel_format: settings.pixel_format.clone(),
        };
        let frame_duration = self.plan.timeline.frame_duration();
        let sar = self.plan.facts.video.as_ref().map_or(Rational::from_int(1), |v| v.sample_aspect_ratio);
        stages.workers.push(self.spawn(&format!("scale-{i}"), move || {
            Filter::new(scaling, frame_duration, sar, works.filter, input, scaled_tx).run()
        })?);
        stages.workers.push(self.spawn(&format!("enc-{i}"), move || {
            let beside = Beside { least_reorder: works.least_reorder, both_sets, sets: works.stand_in_sets };
            Encode::new(settings, codec, window, (works.encoder, waiting, beside), scaled_rx, output).run()
        })?);
        Ok(())
    }

    fn copy_video(
        self,
        track: crate::model::track::VideoTrack,
        outputs: &[QueueTx<MuxItem>],
    ) -> Result<CopyVideo<'env>> {
        let output = outputs.first().cloned().ok_or_else(|| Error::internal(Stage::Plan, "no rendition"))?;
        let name = self.plan.facts.video.as_ref().map_or("", |v| v.codec.as_str());
        Ok(CopyVideo {
            plan: self.plan,
            framing: framing(name, &track.config),
            first: self.span.first,
            end: self.span.end,
            output: Bundle::new(vec![output], MuxItem::VideoTrack(Box::new(track.clone()))),
            track,
            progress: self.progress,
            state: copy::State::default(),
        })
    }

    fn encode_audio(
        self,
        codecs: (Decoder, Encoder),
        clock: SourceClock,
        input: Paced,
        outlets: Vec<QueueTx<MuxItem>>,
    ) -> Result<Handle<'scope, ()>> {
        let settings = self.plan.audio.as_ref().and_then(|a| a.encode.as_ref());
        let settings = settings.ok_or_else(|| Error::internal(Stage::Plan, "sound without settings"))?;
        let grid = grid_of(&codecs.1, settings);
        let first = self.plan.timeline.packets(&grid, self.span.segments.start).start;
        let last = self.span.segments.end.saturating_sub(1);
        let end = self.span.end.map(|_| self.plan.timeline.packets(&grid, last).end);
        let window = PacketWindow { first, end };
        let codec = tracks::audio_codec_of(&settings.encoder);
        self.spawn("audio", move || {
            stand_behind_what_follows();
            Audio::new(self.plan, settings, codec, codecs, clock, window, input, outlets, self.progress).run()
        })
    }

    fn copy_audio(
        self,
        (track, clock): (crate::model::track::AudioTrack, SourceClock),
        outlets: Vec<QueueTx<MuxItem>>,
    ) -> CopyAudio<'env> {
        let ticks = |time: Rational| (time / track.time_base).round(crate::base::time::Rounding::Ceil);
        let window = PacketTicks {
            first: (self.span.segments.start > 0).then(|| ticks(self.span.start_time(self.plan))),
            end: self.span.end.map(|_| ticks(self.span.end_time(self.plan))),
        };
        let (plan, progress, state) = (self.plan, self.progress, audio::copy::State::default());
        let output = Bundle::new(outlets, MuxItem::AudioTrack(Box::new(track.clone())));
        CopyAudio { plan, track, clock, window, output, progress, state }
    }

    fn mux(self, rendition: usize, input: QueueRx<MuxItem>) -> Result<Handle<'scope, MadeRendition>> {
        let awaits = Awaits { video: self.plan.video.is_some(), audio: self.plan.audio.is_some() };
        let name = self.plan.renditions.get(rendition).map_or_else(String::new, |r| r.name.clone());
        self.spawn(&format!("mux-{rendition}"), move || match self.target {
            OpenTarget::Segments(kind, sink) => {
                let (timeline, first_segment) = (&self.plan.timeline, self.span.segments.start);
                SegmentMux {
                    rendition,
                    name,
                    timeline,
                    first_segment,
                    awaits,
                    kind: *kind,
                    sink: sink.as_ref(),
                }
                .run(&input)
            }
            OpenTarget::File(format, path) => FileMux {
                name,
                path: Path::new(path),
                format: *format,
                awaits,
                log: self.log,
                cancel: self.cancel,
            }
            .run(&input),
        })
    }
}

struct CancelOnDrop<'a>(Option<&'a Cancel>);

impl CancelOnDrop<'_> {
    fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for CancelOnDrop<'_> {
    fn drop(&mut self) {
        if let Some(cancel) = self.0 {
            cancel.cancel();
        }
    }
}

type Joined = (Vec<Result<()>>, Vec<Result<MadeRendition>>);

impl Stages<'_> {
    /// Waits for every thread.
    fn join(self) -> Joined {
        let workers = self.workers.into_iter().map(joined).collect();
        let muxers = self.muxers.into_iter().map(joined).collect();
        (workers, muxers)
    }
}

fn joined<T>(handle: Handle<T>) -> Result<T> {
    handle.join().unwrap_or_else(|_| Err(Error::internal(Stage::Plan, "a stage panicked")))
}

/// The renditions, or the error that ended the run: the first that is not only an echo of the flag.
fn settle(results: Result<Joined>, cancel: &Cancel) -> Result<Vec<MadeRendition>> {
    let (workers, muxers) = results?;
    let mut errors: Vec<Error> = workers.into_iter().filter_map(Result::err).collect();
    let mut made = Vec::new();
    for muxer in muxers {
        match muxer {
            Ok(rendition) => made.push(rendition),
            Err(e) => errors.push(e),
        }
    }
    if let Some(real) = errors.iter().position(|e| !e.is_cancelled()) {
        return Err(errors.swap_remove(real));
    }
    match errors.pop() {
        Some(e) => Err(e),
        None => cancel.check(Stage::Mux).map(|()| made),
    }
}

fn with_log(error: Error, log: &RunLog) -> Error {
    if error.is_cancelled() { error } else { error.with_libav_log(log.last_lines()) }
}

fn finish(plan: &Plan, span: &Span, renditions: Vec<MadeRendition>, progress: &Progress) -> Result<Outcome> {
    let end = renditions.iter().map(|r| r.end).max().unwrap_or(0);
    let timeline = if span.end.is_some() { plan.timeline.clone() } else { plan.timeline.ending_at(end) };
    if span.end.is_none() && plan.ends_early(end) {
        progress.warn(format!(
            "the source ends early: {:.3} s were promised, its data ends at {:.3} s",
            plan.timeline.duration().to_f64(),
            timeline.duration().to_f64()
        ));
    }
    Ok(Outcome { timeline, renditions })
}
