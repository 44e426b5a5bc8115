//! One transcode from source to published output: what the command line and a job both do.
//!
//! The order is the documentation: inspect, plan, claim the place, run, verify, publish. What enters:
//! an [`Order`] and the run's handles. What leaves: a published output, or an error and nothing on the
//! disk, unless a job is to go on later.

use crate::base::cancel::Cancel;
use crate::base::error::{Error, ErrorKind, Result, Stage};
use crate::base::time::Rational;
use crate::hardware::inventory::{Inventory, Lease};
use crate::media::codecs::level_of;
use crate::media::inspect::inspect;
use crate::media::mux::MadeRendition;
use crate::media::pipeline::{self, Outcome, Target};
use crate::media::plan::{Machine, Plan};
use crate::media::progress::Progress;
use crate::media::verify::{verify_file, verify_hls};
use crate::media::{RunLog, VideoSettings, made_by};
use crate::model::document::HardwareUse;
use crate::model::job::{Format, SegmentType, Wish};
use crate::model::ladder;
use crate::model::playlist::VideoRange;
use crate::model::source::{SourceFacts, VideoFacts};
use crate::model::timeline::Window;
use crate::store::claim::{Claim, Identity, identity};
use crate::store::hls_dir::{Growing, HlsDir, Outlook, VariantFacts};
use crate::store::output::OutputFile;
use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// What is to be made of what.
pub struct Order<'a> {
    /// The source.
    pub input: &'a Path,
    /// The folder or file to make.
    pub output: &'a Path,
    /// Replace what is there.
    pub overwrite: bool,
    /// What is wanted, which may depend on what the source is.
    pub wish: &'a dyn Fn(&SourceFacts) -> Wish,
    /// What the run may use.
    pub machine: Machine,
    /// How long opening the source may take.
    pub open_limit: Duration,
    /// The id of the job that this is for; `None` for the command line.
    pub job: Option<&'a str>,
    /// The devices, and how they may be used.
    pub devices: Devices<'a>,
}

/// The devices of a run, and how they may be used.
#[derive(Clone, Copy, Debug)]
pub struct Devices<'a> {
    /// What is known of them.
    pub inventory: &'a Inventory,
    /// Whether they may be used, or must.
    pub wish: HardwareUse,
    /// Software stands in for a device that fails.
    pub may_fall_back: bool,
}

/// The run's handles.
pub struct Handles<'a> {
    /// The abort flag.
    pub cancel: &'a Cancel,
    /// How far it is.
    pub progress: &'a Arc<Progress>,
    /// libav's lines.
    pub log: &'a RunLog,
}

/// Who follows a transcode.
pub trait Follower {
    /// The plan is made; nothing was written yet.
    fn planned(&self, plan: &Plan);

    /// From now on others can play what is made, while it is made.
    fn grows(&self, _growing: Growing) {}

    /// A device has failed, and software goes on with this plan, behind what the device has made if `behind`.
    fn fell_back(&self, _plan: &Plan, _because: &Error, _behind: bool) {}

    /// Everything is encoded. What follows (syncing, checking, renaming) may be silent for long.
    fn finishing(&self) {}

    /// Asked just before the output gets its name: from then on it cannot be taken back.
    ///
    /// # Errors
    /// Ends the run: nothing is published.
    fn may_publish(&self) -> Result<()> {
        Ok(())
    }

    /// The output is whole and is about to get its name; `identity` is the file's or folder's, which
    /// the rename keeps.
    ///
    /// # Errors
    /// Ends the run: nothing is published.
    fn publishing(&self, identity: Option<Identity>) -> Result<()>;

    /// What an earlier process has made is gone on with, at this segment.
    fn goes_on_at(&self, _segment: u64) {}

    /// Whether what there is of the output is to be kept for a later process when the run is
    /// cancelled.
    fn goes_on_later(&self) -> bool;
}

/// What was made.
#[derive(Debug)]
pub struct Made {
    /// The timeline and the renditions.
    pub outcome: Outcome,
    /// Bytes of the output.
    pub bytes: u64,
}

/// Does it.
///
/// # Errors
/// Whatever ended it.
pub fn transcode(order: &Order, handles: &Handles, follower: &dyn Follower) -> Result<Made> {
    Run { order, handles, follower }.make()
}

struct Run<'a> {
    order: &'a Order<'a>,
    handles: &'a Handles<'a>,
    follower: &'a dyn Follower,
}

impl Run<'_> {
    fn make(&self) -> Result<Made> {
        let (order, handles) = (self.order, self.handles);
        let facts = inspect(order.input, handles.cancel, handles.log, order.open_limit)?;
        let wish = (order.wish)(&facts);
        let plan = Plan::new(order.input.to_owned(), facts, &wish, order.machine, handles.cancel)?;
        let plain = plan.clone();
        let (plan, lease) = choose_device(plan, &order.devices, handles.log)?;
        self.follower.planned(&plan);
        refuse_own_source(order.input, order.output)?;
        let made = match plan.format {
            Format::Hls(kind) => self.make_folder(&plan, &plain, kind, lease),
            Format::Mp4 | Format::Mkv | Format::Ts => self.make_file(&plan, lease),
        }?;
        handles.progress.published();
        Ok(made)
    }

    /// One run of the pipeline; where its device fails, what `again` makes of the plan without it.
    fn run(
        &self,
        plan: &Plan,
        window: Window,
        target: Target,
        lease: Option<Lease>,
        again: impl FnOnce(Error, Plan) -> Result<Outcome>,
    ) -> Result<Outcome> {
        let Handles { cancel, progress, log } = *self.handles;
        // A device that fails ends its run, not the job.
        let run = if plan.device.is_some() { cancel.child() } else { cancel.clone() };
        let ended = pipeline::run(plan, window, target, &run, progress, log);
        drop(lease);
        let Some(on) = &plan.device else { return ended };
        let devices = &self.order.devices;
        match ended {
            // Who cancels while a device hangs wants to hear of the cancel.
            Err(e) if cancel.is_cancelled() => Err(Error::cancelled(e.stage())),
            Err(e) if pipeline::blame_device(devices.inventory, plan, &e) => {
                if !devices.may_fall_back || devices.wish == HardwareUse::Require {
                    return Err(e);
                }
                again(e, plan.in_software())
            }
            ended => {
                if ended.is_ok() {
                    devices.inventory.worked(on.kind);
                }
                ended
            }
        }
    }

    /// `plain` is the plan for the processor alone.
    fn make_folder(
        &self,
        plan: &Plan,
        plain: &Plan,
        kind: SegmentType,
        lease: Option<Lease>,
    ) -> Result<Made> {
        // In MPEG-TS it does not matter who made the segments before. In fragmented MP4 it does.
        let decides = if kind == SegmentType::Ts { plain } else { plan };
        let mut output = self.claim_folder(decides, kind)?;
        self.follower.grows(output.growing(outlooks(plan), longest_segment(plan)));
        match self.fill_folder(plan, &mut output, lease) {
            Ok(made) => output.publish(&|| self.follower.may_publish()).map(|()| made),
            Err(e) if e.is_cancelled() && self.follower.goes_on_later() => {
                output.keep();
                Err(e)
            }
            Err(e) => Err(e),
        }
    }

    fn claim_folder(&self, plan: &Plan, kind: SegmentType) -> Result<HlsDir> {
        let names = plan.renditions.iter().map(|r| r.name.clone()).collect();
        let Order { output, overwrite, job, .. } = *self.order;
        let Some(job) = job else { return HlsDir::create(output, overwrite, kind, names) };
        let claim = Claim { job: job.to_owned(), fingerprint: fingerprint(plan)? };
        // The last segment is always made anew: a run without one would not know the tracks.
        let at_most = plan.timeline.segment_count().saturating_sub(1);
        HlsDir::create_for(&claim, output, overwrite, kind, names, at_most)
    }

    fn fill_folder(&self, plan: &Plan, output: &mut HlsDir, lease: Option<Lease>) -> Result<Made> {
        let Handles { cancel, progress, log } = *self.handles;
        let first = output.first_segment();
        if first > 0 {
            self.follower.goes_on_at(first);
            self.continue_progress(plan, output);
            tracing::info!("goes on at segment {first}, {} s", plan.timeline.segment_time(first).to_f64());
        }
        let (window, target) = (Window { first, end: None }, Target::Segments(output.sink()));
        let mut used = plan.clone();
        let mut outcome = self.run(plan, window, target, lease, |e, mut plan| {
            let made = output.go_on()?;
            let next = output.first_segment();
            if made && !plan.can_go_on() {
                return Err(cannot_go_on(&e));
            }
            if !made {
                plan.begin_anew();
            }
            self.continue_progress(&plan, output);
            tracing::warn!("software goes on at segment {next}: {e}");
            self.follower.fell_back(&plan, &e, next > first);
            let (window, target) = (Window { first: next, end: None }, Target::Segments(output.sink()));
            used = plan;
            pipeline::run(&used, window, target, cancel, progress, log)
        })?;
        let plan = &used;
        for (rendition, done) in output.resumed().iter().enumerate() {
            // Without a picture a segment's frames are its packets of sound.
            let frames = if plan.video.is_some() { done.frames } else { 0 };
            outcome.count_earlier(rendition, frames, done.audio_packets);
        }
        self.follower.finishing();
        let variants: Vec<_> = outcome.renditions.iter().map(variant).collect();
        output.finish(&variants)?;
        verify_hls(output.folder(), plan, &outcome, cancel, log)?;
        cancel.check(Stage::Publish)?;
        self.follower.publishing(identity(output.folder()))?;
        Ok(Made { outcome, bytes: output.bytes_written() })
    }

    /// What there is of the output counts as done.
    fn continue_progress(&self, plan: &Plan, output: &HlsDir) {
        let frames = output.resumed().first().map_or(0, |done| done.frames);
        self.handles.progress.continues_at(plan.timeline.segment_time(output.first_segment()), frames);
    }

    fn make_file(&self, plan: &Plan, lease: Option<Lease>) -> Result<Made> {
        let Handles { cancel, progress, log } = *self.handles;
        let output = match self.order.job {
            None => OutputFile::create(self.order.output, self.order.overwrite)?,
            Some(job) => {
                let claim = Claim { job: job.to_owned(), fingerprint: 0 };
                OutputFile::create_for(&claim, self.order.output, self.order.overwrite)?
            }
        };
        let target = || Target::File(output.path().to_owned());
        let mut used = plan.clone();
        let outcome = self.run(plan, Window::ALL, target(), lease, |e, plan| {
            // A file is one piece.
            tracing::warn!("software makes the file from its beginning: {e}");
            self.follower.fell_back(&plan, &e, false);
            progress.continues_at(Rational::ZERO, 0);
            used = plan;
            pipeline::run(&used, Window::ALL, target(), cancel, progress, log)
        })?;
        let plan = &used;
        self.follower.finishing();
        verify_file(output.path(), plan, &outcome, cancel, log)?;
        let bytes = fs::metadata(output.path()).map_or(0, |facts| facts.len());
        cancel.check(Stage::Publish)?;
        output.finish()?;
        self.follower.publishing(identity(output.path()))?;
        output.publish(&|| self.follower.may_publish())?;
        Ok(Made { outcome, bytes })
    }
}

/// The plan with what a device does of it, and the encoders that are set aside for that.
fn choose_device(plan: Plan, devices: &Devices, log: &RunLog) -> Result<(Plan, Option<Lease>)> {
    if devices.wish == HardwareUse::Forbid {
        return Ok((plan, None));
    }
    let inventory = devices.inventory;
    let leased = plan.leased(inventory, &inventory.usable(), &|settings| level_of(settings, log));
    match leased {
        Some((on, lease)) if devices.wish != HardwareUse::Require || on.device_encoders() > 0 => {
            Ok((on, Some(lease)))
        }
        _ if devices.wish == HardwareUse::Require => Err(no_hardware()),
        _ => Ok((plan, None)),
    }
}

/// A job that wants what is not there.
fn no_hardware() -> Error {
    let message = "hardware is required, and no device here can encode this now";
    Error::new(ErrorKind::Unavailable, "no_hardware", Stage::Plan, message)
        .hint("sprocket probe says why; give the job to another node, or set hardware to auto")
}

/// Fragmented MP4 has one init segment, and a device's says other things than software's.
fn cannot_go_on(e: &Error) -> Error {
    let message = format!("{e}; what was made of this fragmented MP4 cannot be gone on with in software");
    Error::new(ErrorKind::Unavailable, "device_failed_midway", e.stage(), message)
        .hint("try again: the device rests now, and software makes it from its beginning; or use MPEG-TS")
}

/// Everything that decides over the bytes: the plan with the source's facts, which file it is, and
/// what makes it.
fn fingerprint(plan: &Plan) -> Result<u64> {
    let facts = fs::metadata(&plan.input).map_err(|e| Error::io(Stage::Open, "look at", &plan.input, &e))?;
    let mut hasher = DefaultHasher::new();
    (facts.len(), facts.mtime(), facts.mtime_nsec(), facts.ino()).hash(&mut hasher);
    (format!("{:?}", plan.without_threads()), made_by()).hash(&mut hasher);
    Ok(hasher.finish())
}

/// Replacing the source by its transcode would leave neither if somebody had second thoughts.
fn refuse_own_source(input: &Path, output: &Path) -> Result<()> {
    let (Ok(source), Ok(target)) = (fs::canonicalize(input), fs::canonicalize(output)) else { return Ok(()) };
    if !source.starts_with(&target) {
        return Ok(());
    }
    let message = format!("{} is where the source is", output.display());
    Err(Error::new(ErrorKind::Conflict, "output_is_input", Stage::Publish, message)
        .hint("choose another output"))
}

/// No segment is longer, whatever the source turns out to hold.
fn longest_segment(plan: &Plan) -> Rational {
    let lengths = (0..plan.timeline.segment_count()).map(|n| plan.timeline.segment_duration(n));
    lengths.max().unwrap_or(Rational::ZERO)
}

/// What the multivariant playlist says of the renditions while they are made.
fn outlooks(plan: &Plan) -> Vec<Outlook> {
    let audio_bps = plan.audio.as_ref().and_then(|audio| audio.encode.as_ref()).map_or(0, |a| a.bitrate_bps);
    let encoded = |settings: &VideoSettings| {
        let video_bps = settings.max_rate_bps.max(settings.bitrate_bps);
        Outlook {
            resolution: Some((settings.width, settings.height)),
            frame_rate: Some(settings.frame_rate),
            video_range: VideoRange::from_transfer(settings.colour.transfer),
            // Without a cap nobody knows.
            peak_bps: if video_bps == 0 { 0 } else { with_container(video_bps.saturating_add(audio_bps)) },
        }
    };
    let source = plan.video.as_ref().and(plan.facts.video.as_ref());
    let copied = |facts: &VideoFacts| Outlook {
        resolution: Some(ladder::display_size(facts.width, facts.height, facts.sample_aspect_ratio)),
        frame_rate: Some(facts.frame_rate),
        video_range: VideoRange::from_transfer(facts.colour.transfer),
        peak_bps: 0,
    };
    let sound = || Outlook { resolution: None, frame_rate: None, video_range: None, peak_bps: 0 };
    let of = |encode: &Option<VideoSettings>| match (encode, source) {
        (Some(settings), _) => encoded(settings),
        (None, Some(facts)) => copied(facts),
        (None, None) => sound(),
    };
    plan.renditions.iter().map(|rendition| of(&rendition.encode)).collect()
}

/// A tenth more: MPEG-TS needs up to that.
fn with_container(bps: u64) -> u64 {
    bps.saturating_add(bps / 10)
}

/// What the multivariant playlist says of a rendition.
fn variant(made: &MadeRendition) -> VariantFacts {
    let video = made.video.as_ref();
    VariantFacts {
        codecs: made.codecs.clone(),
        resolution: video.map(|v| ladder::display_size(v.width, v.height, v.sample_aspect_ratio)),
        frame_rate: video.map(|v| v.frame_rate),
        video_range: video.and_then(|v| VideoRange::from_transfer(v.colour.transfer)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_source_is_never_the_output_nor_inside_it() {
        let dir = tempfile::tempdir().unwrap();
        let source = dir.path().join("film/720p/0.ts");
        fs::create_dir_all(source.parent().unwrap()).unwrap();
        fs::write(&source, b"x").unwrap();
        for output in [source.clone(), dir.path().join("film"), dir.path().join("film/../film/720p")] {
            assert_eq!(refuse_own_source(&source, &output).unwrap_err().code(), "output_is_input");
        }
        for output in ["other", "film/480p", "film/720p/1.ts"] {
            assert_eq!(refuse_own_source(&source, &dir.path().join(output)), Ok(()));
        }
    }
}
