//! The picture when its packets are taken as they are: times move to title time, nothing else. Part of the demux
//! stage's thread.

use super::bundle::Bundle;
use super::demux::title_ticks;
use super::items::{Coded, MuxItem, Packets};
use super::plan::Plan;
use super::progress::Progress;
use crate::av::Packet;
use crate::base::cancel::Sent;
use crate::base::error::{Error, ErrorKind, Result, Stage};
use crate::base::time::{Rational, Rounding};
use crate::container::nal::{self, NalFormat};
use crate::model::track::{Sample, VideoCodec, VideoTrack};

/// Takes the packets. The timeline's grid is the stream's own time base.
pub struct CopyVideo<'a> {
    /// The plan.
    pub plan: &'a Plan,
    /// What the packets are.
    pub track: VideoTrack,
    /// How its pictures are framed, where they are made of NAL units.
    pub framing: Option<(VideoCodec, NalFormat)>,
    /// First grid position of the window.
    pub first: u64,
    /// One past the last grid position; `None` runs to where the data ends.
    pub end: Option<u64>,
    /// To the muxer, which knows the track.
    pub output: Bundle,
    /// Progress.
    pub progress: &'a Progress,
    /// How far it is.
    pub state: State,
}

/// How far a copy is.
#[derive(Debug, Default)]
pub struct State {
    /// The window's first key frame has come.
    begun: bool,
    last_dts: Option<i64>,
}

impl Packets for CopyVideo<'_> {
    fn take(&mut self, coded: Coded) -> Result<Sent> {
        match coded {
            Coded::Packet(packet) | Coded::Passing(packet) => self.packet(packet),
            Coded::End(data) => {
                let end = self.end.unwrap_or_else(|| self.plan.end_of_title(data.end));
                self.output.finish(MuxItem::VideoEnd { end })
            }
        }
    }

    fn flush(&mut self) -> Result<Sent> {
        self.output.flush()
    }
}

impl CopyVideo<'_> {
    fn packet(&mut self, packet: Packet) -> Result<Sent> {
        let boundary = self.boundary(&packet);
        if let (Some(at), Some(end)) = (boundary, self.end)
            && at >= end
        {
            return self.output.finish(MuxItem::VideoEnd { end });
        }
        if boundary.is_some() {
            self.check_cut(&packet)?;
            self.state.begun = true;
        }
        // What comes before the first key frame nobody could decode.
        if !self.state.begun {
            return Ok(Sent::Queued);
        }
        let sample = self.sample(packet);
        self.progress.decoded(Rational::from_int(sample.pts + sample.duration) * self.track.time_base, 1);
        self.output.send(MuxItem::Video { sample, segment_start: boundary })
    }

    /// The grid position of the segment that begins with this packet, if one does.
    fn boundary(&self, packet: &Packet) -> Option<u64> {
        if !packet.is_key() {
            return None;
        }
        let ticks = title_ticks(packet.pts().or(packet.dts())?, self.track.time_base, self.plan.title_origin);
        let at = u64::try_from(ticks).unwrap_or(0);
        match self.state.begun {
            false => (at >= self.first || self.first == 0).then_some(self.first),
            true => {
                (at >= self.end.unwrap_or(u64::MAX) || self.plan.timeline.starts_segment(at)).then_some(at)
            }
        }
    }

    /// A player that begins at a cut has nothing of what comes before it.
    fn check_cut(&self, packet: &Packet) -> Result<()> {
        let told = |(codec, format)| nal::starts_with_idr(codec, format, packet.data());
        let is_open = self.plan.idr_cuts && self.framing.and_then(told) == Some(false);
        if !is_open {
            return Ok(());
        }
        let ticks = packet.pts().or(packet.dts()).unwrap_or(0);
        let at = title_ticks(ticks, self.track.time_base, self.plan.title_origin);
        let message = format!(
            "the key frame of {} at {:.3} s is no IDR picture, so it cannot be played as it is",
            self.plan.input.display(),
            (Rational::from_int(at) * self.track.time_base).to_f64()
        );
        Err(Error::new(ErrorKind::BadSource, "not_idr", Stage::Mux, message)
            .hint("play the stream that is encoded anew"))
    }

    fn sample(&mut self, packet: Packet) -> Sample {
        let ticks = |t: i64| title_ticks(t, self.track.time_base, self.plan.title_origin);
        let duration = packet.duration().max(1);
        // Broken sources give decode times that stand still or fall; muxers need them to rise.
        let reorder = Rational::from_int(i64::from(self.track.reorder_frames)) / self.track.frame_rate;
        let reorder_ticks = (reorder / self.track.time_base).round(Rounding::Ceil);
        let told = packet.pts().or(packet.dts()).map(ticks);
        let due =
            self.state.last_dts.map_or_else(|| told.unwrap_or(0) - reorder_ticks, |last| last + duration);
        let pts = told.unwrap_or(due);
        let dts = packet.dts().map_or(due.min(pts), ticks);
        let dts = self.state.last_dts.map_or(dts, |last| dts.max(last.saturating_add(1)));
        let pts = pts.max(dts);
        self.state.last_dts = Some(dts);
        Sample { pts, dts, duration, key: packet.is_key(), data: packet.into_bytes() }
    }
}
