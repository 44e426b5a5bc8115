//! The picture when its packets are taken as they are: times move to title time, nothing else.

use super::demux::title_ticks;
use super::items::{Coded, MuxItem};
use super::plan::Plan;
use super::progress::Progress;
use crate::av::Packet;
use crate::base::cancel::{QueueRx, QueueTx, Sent};
use crate::base::error::{Error, ErrorKind, Result, Stage};
use crate::base::time::{Rational, Rounding};
use crate::container::nal::{self, NalFormat};
use crate::model::track::{Sample, VideoCodec, VideoTrack};

/// The stage. The timeline's grid is the stream's own time base.
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
    /// From the demuxer.
    pub input: QueueRx<Coded>,
    /// To the muxer.
    pub output: QueueTx<MuxItem>,
    /// Progress.
    pub progress: &'a Progress,
}

impl CopyVideo<'_> {
    /// Runs until the window is full or the data ends.
    pub fn run(self) -> Result<()> {
        self.output.send(MuxItem::VideoTrack(Box::new(self.track.clone())))?;
        let (mut last_dts, mut begun) = (i64::MIN, false);
        loop {
            let packet = match self.input.recv()? {
                Some(Coded::Packet(packet) | Coded::Passing(packet)) => packet,
                Some(Coded::End(end)) => {
                    let end = self.end.unwrap_or_else(|| self.plan.end_of_title(end.end));
                    return self.output.send(MuxItem::VideoEnd { end }).map(|_| ());
                }
                None => return Err(Error::internal(Stage::Demux, "the demuxer ended without a word")),
            };
            let boundary = self.boundary(&packet, begun);
            if let (Some(at), Some(end)) = (boundary, self.end)
                && at >= end
            {
                return self.output.send(MuxItem::VideoEnd { end }).map(|_| ());
            }
            if boundary.is_some() {
                self.check_cut(&packet)?;
            }
            begun |= boundary.is_some();
            // What comes before the first key frame nobody could decode.
            if !begun {
                continue;
            }
            let sample = self.sample(packet, &mut last_dts);
            self.progress.decoded(Rational::from_int(sample.pts + sample.duration) * self.track.time_base, 1);
            if self.output.send(MuxItem::Video { sample, segment_start: boundary })? == Sent::ConsumerGone {
                return Ok(());
            }
        }
    }

    /// The grid position of the segment that begins with this packet, if one does.
    fn boundary(&self, packet: &Packet, begun: bool) -> Option<u64> {
        if !packet.is_key() {
            return None;
        }
        let ticks = title_ticks(packet.pts().or(packet.dts())?, self.track.time_base, self.plan.title_origin);
        let at = u64::try_from(ticks).unwrap_or(0);
        match begun {
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

    fn sample(&self, packet: Packet, last_dts: &mut i64) -> Sample {
        let ticks = |t: i64| title_ticks(t, self.track.time_base, self.plan.title_origin);
        let duration = packet.duration().max(1);
        // Broken sources give decode times that stand still or fall; muxers need them to rise.
        let reorder = Rational::from_int(i64::from(self.track.reorder_frames)) / self.track.frame_rate;
        let reorder_ticks = (reorder / self.track.time_base).round(Rounding::Ceil);
        let told = packet.pts().or(packet.dts()).map(ticks);
        let due =
            if *last_dts == i64::MIN { told.unwrap_or(0) - reorder_ticks } else { *last_dts + duration };
        let pts = told.unwrap_or(due);
        let dts = packet.dts().map_or(due.min(pts), ticks).max(last_dts.saturating_add(1));
        let pts = pts.max(dts);
        *last_dts = dts;
        Sample { pts, dts, duration, key: packet.is_key(), data: packet.into_bytes() }
    }
}
