//! The decode stage of the picture: packets in, pictures on the constant grid out.
//!
//! Decoded once however many renditions there are. Damage in the source is counted and passed; only
//! a source that yields no picture at all is an error.

use super::engine::PictureDecoder;
use super::items::{Coded, DataEnd, Raw};
use super::plan::Plan;
use super::progress::Progress;
use super::retime::Retimer;
use crate::av::{AvError, Frame, Packet, Received};
use crate::base::cancel::{QueueRx, QueueTx, Sent};
use crate::base::error::{Error, ErrorKind, Result, Stage};
use crate::base::time::{Rational, Rounding};
use crate::container::nal::{self, NalFormat};
use crate::model::track::VideoCodec;
use std::ops::Range;
use std::sync::Arc;

/// How far beyond the end of the title a picture may claim to be before its time counts as damage:
/// one broken timestamp must not make hours of frozen picture.
const MAX_BEYOND_END_S: i64 = 30;

/// What the stage decodes with.
pub struct Codec {
    /// Open.
    pub decoder: PictureDecoder,
    /// Seconds each tick of the packets.
    pub time_base: Rational,
    /// How the packets are made of NAL units, where they are.
    pub framing: Option<(VideoCodec, NalFormat)>,
}

/// The stage.
pub struct Decode<'a> {
    plan: &'a Plan,
    decoder: PictureDecoder,
    time_base: Rational,
    framing: Option<(VideoCodec, NalFormat)>,
    input: QueueRx<Coded>,
    outlets: Vec<Option<QueueTx<Raw>>>,
    retimer: Retimer<Arc<Frame>>,
    /// The slot at which the window ends; `None` runs to where the data ends.
    window_end: Option<u64>,
    first: u64,
    progress: &'a Progress,
    last_slot: Option<i64>,
    decoded: u64,
}

impl<'a> Decode<'a> {
    /// Opens the decoder for the window's slots.
    pub fn new(
        plan: &'a Plan,
        slots: (u64, Option<u64>),
        codec: Codec,
        input: QueueRx<Coded>,
        outlets: Vec<QueueTx<Raw>>,
        progress: &'a Progress,
    ) -> Self {
        Self {
            plan,
            decoder: codec.decoder,
            time_base: codec.time_base,
            framing: codec.framing,
            input,
            outlets: outlets.into_iter().map(Some).collect(),
            retimer: Retimer::new(slots.0),
            window_end: slots.1,
            first: slots.0,
            progress,
            last_slot: None,
            decoded: 0,
        }
    }

    /// Runs until the window is full or the data ends.
    pub fn run(mut self) -> Result<()> {
        loop {
            match self.input.recv()? {
                Some(Coded::Passing(packet)) if self.is_disposable(&packet) => {}
                Some(coded @ (Coded::Packet(_) | Coded::Passing(_))) => {
                    self.decoder.skip_unreferenced(matches!(coded, Coded::Passing(_)))?;
                    let (Coded::Packet(packet) | Coded::Passing(packet)) = coded else { continue };
                    self.decode(Some(&packet))?;
                    if self.is_done() {
                        return self.send_end(self.retimer.next_slot());
                    }
                }
                Some(Coded::End(end)) => {
                    self.decode(None)?;
                    return self.end(end);
                }
                None => return Err(Error::internal(Stage::Decode, "the demuxer ended without a word")),
            }
        }
    }

    /// Packets that the decoder would pass over are not even given to it: its threads take packets in turn,
    /// and half of them would have nothing to do.
    fn is_disposable(&self, packet: &Packet) -> bool {
        self.framing.is_some_and(|(codec, format)| nal::is_disposable(codec, format, packet.data()))
    }

    fn is_done(&self) -> bool {
        self.window_end.is_some_and(|end| self.retimer.next_slot() >= end)
            || self.outlets.iter().all(Option::is_none)
    }

    fn decode(&mut self, packet: Option<&Packet>) -> Result<()> {
        loop {
            match self.decoder.send(packet)? {
                Ok(Received::NeedsInput) => self.take_frames()?,
                Ok(_) => break,
                Err(AvError::NO_MEMORY) => return Err(AvError::NO_MEMORY.at(Stage::Decode, "cannot decode")),
                Err(_) => {
                    self.progress.damaged();
                    break;
                }
            }
            if self.is_done() {
                return Ok(());
            }
        }
        self.take_frames()
    }

    fn take_frames(&mut self) -> Result<()> {
        while !self.is_done() {
            let mut frame = Frame::new().map_err(|e| e.at(Stage::Decode, "cannot decode"))?;
            match self.decoder.receive(&mut frame)? {
                Ok(Received::Item) => self.place(frame)?,
                Ok(_) => return Ok(()),
                Err(AvError::NO_MEMORY) => return Err(AvError::NO_MEMORY.at(Stage::Decode, "cannot decode")),
                Err(_) => self.progress.damaged(),
            }
        }
        Ok(())
    }

    /// Gives a decoded picture its slot.
    fn place(&mut self, frame: Frame) -> Result<()> {
        if frame.is_damaged() {
            self.progress.damaged();
        }
        let guess = self.last_slot.map_or(0, |s| s + 1);
        let slot = frame.best_effort_pts().map_or(guess, |ticks| {
            let time = Rational::from_int(ticks) * self.time_base - self.plan.title_origin;
            self.plan.timeline.slot_at_time(time)
        });
        if slot > self.last_sensible_slot() {
            self.progress.damaged();
            return Ok(());
        }
        self.decoded += 1;
        self.last_slot = Some(slot);
        match self.retimer.push(slot, Arc::new(frame)) {
            Some((frame, slots)) => self.show(&frame, slots),
            None => Ok(()),
        }
    }

    fn last_sensible_slot(&self) -> i64 {
        let slack =
            (Rational::from_int(MAX_BEYOND_END_S) * self.plan.timeline.frame_rate()).round(Rounding::Ceil);
        i64::try_from(self.plan.timeline.total_frames()).unwrap_or(i64::MAX).saturating_add(slack)
    }

    /// Sends a picture for each of its slots inside the window.
    fn show(&mut self, frame: &Arc<Frame>, slots: Range<u64>) -> Result<()> {
        let end = self.window_end.unwrap_or(u64::MAX).min(slots.end);
        for n in slots.start..end {
            let key = n == self.first || self.plan.timeline.begins_segment(n);
            for outlet in &mut self.outlets {
                let Some(tx) = outlet else { continue };
                if tx.send(Raw::Picture { n, key, frame: frame.clone() })? == Sent::ConsumerGone {
                    *outlet = None;
                }
            }
            self.progress.decoded(self.plan.timeline.frame_time(n + 1), 1);
        }
        Ok(())
    }

    fn end(&mut self, data_end: DataEnd) -> Result<()> {
        if self.decoded == 0 {
            let message = format!("no picture of {} could be decoded", self.plan.input.display());
            return Err(Error::new(ErrorKind::BadSource, "nothing_decoded", Stage::Decode, message)
                .hint("the file may be damaged, encrypted, or of a kind this libav cannot decode"));
        }
        let end = match self.window_end {
            Some(end) => end,
            None => self.plan.end_of_title(data_end.end).max(self.retimer.next_slot()),
        };
        if let Some((frame, slots)) = self.retimer.finish(end) {
            self.show(&frame, slots)?;
        }
        self.send_end(end)
    }

    fn send_end(&self, end: u64) -> Result<()> {
        for tx in self.outlets.iter().flatten() {
            tx.send(Raw::End { end })?;
        }
        Ok(())
    }
}
