//! What an output has to hold, and the comparison with what was found in it.
//!
//! What enters: the timeline as it came out, a made rendition, and what a reader found. What leaves:
//! the first difference, in words.

use crate::base::time::{Rational, Rounding, rescale};
use crate::media::mux::MadeRendition;
use crate::media::plan::Plan;
use crate::model::timeline::{AudioGrid, Timeline};
use crate::model::track::AudioCodec;
use std::ops::Range;

/// Where title time 0 stands in MPEG-TS on the 90 kHz clock (issue and field notes T7: 10 s).
pub(super) const TS_ORIGIN_90K: i64 = 900_000;

/// What a reader found in a segment or file. Times are ticks from title time 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    pub video: Option<FoundVideo>,
    pub audio: Option<FoundAudio>,
}

/// The pictures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FoundVideo {
    /// Seconds each tick.
    pub time_base: Rational,
    /// Presentation times in coded order.
    pub pts: Vec<i64>,
    /// The first one in coded order is marked as a point to start from.
    pub starts_with_key: bool,
}

/// The sound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FoundAudio {
    /// Seconds each tick.
    pub time_base: Rational,
    /// When the first packet starts.
    pub first_pts: i64,
    /// Packets; `None` where the reader cannot tell them apart.
    pub packets: Option<u64>,
}

/// What one rendition has to hold.
#[derive(Debug)]
pub(super) struct Expect<'a> {
    timeline: &'a Timeline,
    rendition: &'a MadeRendition,
    /// Pictures stand on the timeline's grid: they were encoded, not copied.
    video_on_grid: bool,
    /// The grid of the sound, when it was encoded.
    audio_grid: Option<AudioGrid>,
}

impl<'a> Expect<'a> {
    pub(super) fn new(plan: &Plan, timeline: &'a Timeline, rendition: &'a MadeRendition) -> Self {
        let encoded = plan.audio.as_ref().is_some_and(|a| a.encode.is_some());
        let audio_grid = rendition.audio.as_ref().filter(|_| encoded).map(|track| AudioGrid {
            sample_rate: track.sample_rate,
            packet_samples: track.packet_samples,
            priming_samples: track.priming_samples,
        });
        Self { timeline, rendition, video_on_grid: !plan.copies_video(), audio_grid }
    }

    pub(super) fn rendition(&self) -> &'a MadeRendition {
        self.rendition
    }

    /// When segment `n` begins, on the 90 kHz clock of MPEG-TS.
    pub(super) fn start_90k(&self, n: u64) -> i64 {
        let ticks = (self.timeline.segment_time(n) / Rational::TB_90K).round(Rounding::Nearest);
        ticks.saturating_add(TS_ORIGIN_90K)
    }

    /// A count over all segments.
    pub(super) fn totals(&self) -> Totals<'a> {
        Totals { rendition: self.rendition, video_on_grid: self.video_on_grid, frames: 0, packets: Some(0) }
    }

    /// Compares segment `n`.
    pub(super) fn check_segment(&self, n: u64, found: &Found) -> Result<(), String> {
        let exact = Rational::ZERO;
        self.check_video(found, self.timeline.frames(n), exact)?;
        match &self.audio_grid {
            Some(grid) => self.check_audio(found, grid, self.timeline.packets(grid, n), exact),
            None => Ok(()),
        }
    }

    /// Compares a whole file. Containers that round times (Matroska: to 1 ms) are right within a tick.
    pub(super) fn check_title(&self, found: &Found) -> Result<(), String> {
        let one_tick = Rational::from_int(1);
        self.check_video(found, 0..self.timeline.total_frames(), one_tick)?;
        if let Some(grid) = &self.audio_grid {
            let is_opus = self.rendition.audio.as_ref().is_some_and(|a| a.codec == AudioCodec::Opus);
            let delay = Rational::from_int(i64::from(grid.priming_samples)) * grid.time_base();
            // Versions of libav disagree, by the encoder's delay, on what Matroska's CodecDelay means.
            let delay_ticks =
                found.audio.as_ref().filter(|_| is_opus).map_or(Rational::ZERO, |a| delay / a.time_base);
            self.check_audio(found, grid, 0..u64::MAX, one_tick + delay_ticks)?;
        }
        let mut totals = self.totals();
        totals.add(found);
        totals.check()
    }

    fn check_video(&self, found: &Found, frames: Range<u64>, ticks_off: Rational) -> Result<(), String> {
        let Some(video) = found.video.as_ref().filter(|v| !v.pts.is_empty()) else {
            return if self.rendition.video.is_none() { Ok(()) } else { Err("it has no pictures".into()) };
        };
        if !video.starts_with_key {
            return Err("its first picture is not a key picture".into());
        }
        if !self.video_on_grid {
            return Ok(());
        }
        let count = frames.end - frames.start;
        if video.pts.len() as u64 != count {
            return Err(format!("it has {} pictures instead of {count}", video.pts.len()));
        }
        let mut pts = video.pts.clone();
        pts.sort_unstable();
        for (at, frame) in pts.into_iter().zip(frames) {
            check_time("picture", frame, at, self.timeline.frame_time(frame) / video.time_base, ticks_off)?;
        }
        Ok(())
    }

    /// `packets` are those of the timeline; the sound may end before the picture does.
    fn check_audio(
        &self,
        found: &Found,
        grid: &AudioGrid,
        packets: Range<u64>,
        ticks_off: Rational,
    ) -> Result<(), String> {
        let end = packets.end.min(self.rendition.audio_packets);
        let expected = packets.start.min(end)..end;
        let count = expected.end - expected.start;
        let Some(audio) = &found.audio else {
            return if count == 0 {
                Ok(())
            } else {
                Err(format!("it has no sound instead of {count} packets"))
            };
        };
        if let Some(packets) = audio.packets.filter(|p| *p != count) {
            return Err(format!("it has {packets} packets of sound instead of {count}"));
        }
        if count == 0 {
            return Err("it has sound behind the end of the sound".into());
        }
        let start = Rational::from_int(grid.packet_pts(expected.start)) * grid.time_base();
        check_time("packet of sound", expected.start, audio.first_pts, start / audio.time_base, ticks_off)
    }
}

/// `at` has to be `exact` rounded to the nearest tick, or near it.
fn check_time(what: &str, number: u64, at: i64, exact: Rational, ticks_off: Rational) -> Result<(), String> {
    let nearest = exact.round(Rounding::Nearest);
    let off = Rational::from_int(at.saturating_sub(nearest)).abs();
    if off <= ticks_off {
        return Ok(());
    }
    Err(format!("{what} {number} of the title stands at {at} ticks from title time 0 instead of {nearest}"))
}

/// What all segments hold together, against what the pipeline says that it wrote.
#[derive(Debug)]
pub(super) struct Totals<'a> {
    rendition: &'a MadeRendition,
    video_on_grid: bool,
    frames: u64,
    /// `None` once a reader could not tell.
    packets: Option<u64>,
}

impl Totals<'_> {
    pub(super) fn add(&mut self, found: &Found) {
        self.frames += found.video.as_ref().map_or(0, |v| v.pts.len() as u64);
        let more = found.audio.as_ref().map_or(Some(0), |a| a.packets);
        self.packets = self.packets.zip(more).map(|(a, b)| a + b);
    }

    pub(super) fn check(&self) -> Result<(), String> {
        let made = self.rendition;
        if self.frames != made.frames {
            let what = if self.video_on_grid { "encoded" } else { "copied" };
            return Err(format!("it has {} pictures in all, but {} were {what}", self.frames, made.frames));
        }
        match self.packets {
            Some(packets) if packets != made.audio_packets => {
                Err(format!("it has {packets} packets of sound in all, but {} were made", made.audio_packets))
            }
            _ => Ok(()),
        }
    }
}

/// The value of a 33-bit counter that lies nearest to `near`.
pub(super) fn unwrap_33(raw: i64, near: i64) -> i64 {
    const WRAP: i64 = 1 << 33;
    let ahead = raw.wrapping_sub(near).rem_euclid(WRAP);
    near + if ahead >= WRAP / 2 { ahead - WRAP } else { ahead }
}

/// Ticks of one time base as ticks of another, to the nearest.
pub(super) fn to_ticks(ticks: i64, from: Rational, to: Rational) -> i64 {
    rescale(ticks, from, to, Rounding::Nearest)
}
