//! The sound when its packets are taken as they are. Part of the demux stage's thread.

use super::SourceClock;
use crate::av::Packet;
use crate::base::cancel::Sent;
use crate::base::error::Result;
use crate::base::time::{Rational, Rounding, rescale};
use crate::media::bundle::Bundle;
use crate::media::items::{Coded, MuxItem, Packets};
use crate::media::plan::Plan;
use crate::media::progress::Progress;
use crate::model::track::{AudioTrack, Sample};

/// Takes the packets, which go on with times counted from title time 0.
pub struct CopyAudio<'a> {
    /// The plan.
    pub plan: &'a Plan,
    /// What the packets are; a tick of the track is a sample.
    pub track: AudioTrack,
    /// Where they belong.
    pub clock: SourceClock,
    /// The part of the title, in ticks of the track.
    pub window: PacketTicks,
    /// To the muxers, which know the track.
    pub output: Bundle,
    /// Progress, written when there is no picture.
    pub progress: &'a Progress,
    /// How far it is.
    pub state: State,
}

/// How far a copy is.
#[derive(Debug, Default)]
pub struct State {
    last_pts: Option<i64>,
}

/// A part of the title, in ticks.
#[derive(Clone, Copy, Debug)]
pub struct PacketTicks {
    /// First tick; packets that begin earlier belong to another run.
    pub first: Option<i64>,
    /// One past the last tick.
    pub end: Option<i64>,
}

impl Packets for CopyAudio<'_> {
    fn take(&mut self, coded: Coded) -> Result<Sent> {
        match coded {
            Coded::Packet(packet) | Coded::Passing(packet) => self.packet(packet),
            Coded::End(data) => {
                self.output.finish(MuxItem::AudioEnd { end: self.plan.end_of_title(data.end) })
            }
        }
    }

    fn flush(&mut self) -> Result<Sent> {
        self.output.flush()
    }
}

impl CopyAudio<'_> {
    fn packet(&mut self, packet: Packet) -> Result<Sent> {
        let Some(pts) = packet.pts().or(packet.dts()) else { return Ok(Sent::Queued) };
        let pts = self.clock.position(pts);
        // What ends before title time 0 is heard by nobody; one packet of run-up stays.
        let duration = self.samples(&packet);
        let early = self.window.first.map_or(pts + 2 * duration <= 0, |first| pts < first);
        if early || self.state.last_pts.is_some_and(|last| pts <= last) {
            return Ok(Sent::Queued);
        }
        if self.window.end.is_some_and(|end| pts >= end) {
            return self.output.finish(MuxItem::AudioEnd { end: self.plan.timeline.total_frames() });
        }
        self.state.last_pts = Some(pts);
        if self.plan.video.is_none() {
            self.progress.decoded(Rational::from_int(pts + duration) * self.track.time_base, 1);
        }
        self.output.send(MuxItem::Audio(Sample {
            pts,
            dts: pts,
            duration,
            key: true,
            data: packet.into_bytes(),
        }))
    }

    /// How long a packet is.
    fn samples(&self, packet: &Packet) -> i64 {
        match self.clock.packet_samples {
            0 => rescale(packet.duration(), self.clock.time_base, self.track.time_base, Rounding::Nearest)
                .max(1),
            samples => i64::from(samples),
        }
    }
}
