//! The sound when its packets are taken as they are.

use super::SourceClock;
use crate::av::Packet;
use crate::base::cancel::{QueueRx, QueueTx, Sent};
use crate::base::error::{Error, Result, Stage};
use crate::base::time::{Rational, Rounding, rescale};
use crate::media::items::{Coded, MuxItem};
use crate::media::plan::Plan;
use crate::media::progress::Progress;
use crate::model::track::{AudioTrack, Sample};

/// The stage: packets go on with times counted from title time 0.
pub struct CopyAudio<'a> {
    /// The plan.
    pub plan: &'a Plan,
    /// What the packets are; a tick of the track is a sample.
    pub track: AudioTrack,
    /// Where they belong.
    pub clock: SourceClock,
    /// The part of the title, in ticks of the track.
    pub window: PacketTicks,
    /// From the demuxer.
    pub input: QueueRx<Coded>,
    /// To the muxers.
    pub outlets: Vec<QueueTx<MuxItem>>,
    /// Progress, written when there is no picture.
    pub progress: &'a Progress,
}

/// A part of the title, in ticks.
#[derive(Clone, Copy, Debug)]
pub struct PacketTicks {
    /// First tick; packets that begin earlier belong to another run.
    pub first: Option<i64>,
    /// One past the last tick.
    pub end: Option<i64>,
}

impl CopyAudio<'_> {
    /// Runs until the window is full or the data ends.
    pub fn run(self) -> Result<()> {
        self.send(&MuxItem::AudioTrack(Box::new(self.track.clone())))?;
        let mut last = i64::MIN;
        loop {
            let packet = match self.input.recv()? {
                Some(Coded::Packet(packet) | Coded::Passing(packet)) => packet,
                Some(Coded::End(end)) => {
                    let end = self.plan.end_of_title(end.end);
                    return self.send(&MuxItem::AudioEnd { end }).map(|_| ());
                }
                None => return Err(Error::internal(Stage::Demux, "the demuxer ended without a word")),
            };
            let Some(pts) = packet.pts().or(packet.dts()) else { continue };
            let pts = self.clock.position(pts);
            // What ends before title time 0 is heard by nobody; one packet of run-up stays.
            let duration = self.samples(&packet);
            let early = self.window.first.map_or(pts + 2 * duration <= 0, |first| pts < first);
            if early || pts <= last {
                continue;
            }
            if self.window.end.is_some_and(|end| pts >= end) {
                let end = self.plan.timeline.total_frames();
                return self.send(&MuxItem::AudioEnd { end }).map(|_| ());
            }
            last = pts;
            if self.plan.video.is_none() {
                self.progress.decoded(Rational::from_int(pts + duration) * self.track.time_base, 1);
            }
            let sample = Sample { pts, dts: pts, duration, key: true, data: packet.into_bytes() };
            if !self.send(&MuxItem::Audio(sample))? {
                return Ok(());
            }
        }
    }

    /// How long a packet is.
    fn samples(&self, packet: &Packet) -> i64 {
        match self.clock.packet_samples {
            0 => rescale(packet.duration(), self.clock.time_base, self.track.time_base, Rounding::Nearest)
                .max(1),
            samples => i64::from(samples),
        }
    }

    /// Whether anybody still listens.
    fn send(&self, item: &MuxItem) -> Result<bool> {
        let mut heard = false;
        for tx in &self.outlets {
            heard |= tx.send(item.clone())? == Sent::Queued;
        }
        Ok(heard)
    }
}
