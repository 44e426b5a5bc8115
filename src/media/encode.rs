//! The encode stage of one rendition: pictures on the grid in, samples on the grid out.
//!
//! Times are not taken from the encoder but from the grid: PTS is the picture's slot, DTS its place
//! in decode order less the reorder delay, both counted from title time 0. So a sample carries the
//! same times whichever run made it. What the encoder was told is checked, not believed: one packet
//! for each picture, and an IDR picture wherever a segment begins.

use super::both_sets::BothSets;
use super::codecs::open_here;
use super::engine::PictureEncoder;
use super::items::{MuxItem, Scaled};
use super::pace::Leader;
use crate::av::encoder::{VideoSettings, bit_depth_of};
use crate::av::log::RunLog;
use crate::av::{AvError, Packet, Parameters, Received};
use crate::base::cancel::{QueueRx, QueueTx, Sent};
use crate::base::error::{Error, ErrorKind, Result, Stage};
use crate::base::time::Rational;
use crate::model::track::{Sample, VideoCodec, VideoTrack};
use std::collections::HashSet;

/// The stage.
pub struct Encode<'a> {
    settings: &'a VideoSettings,
    codec: VideoCodec,
    /// First slot of the window and one past its last; pictures outside only lead in and out.
    window: (u64, Option<u64>),
    encoder: PictureEncoder,
    waiting: Waiting<'a>,
    beside: Beside,
    input: QueueRx<Scaled>,
    output: QueueTx<MuxItem>,
    clock: Option<Clock>,
    /// Slots where a segment begins and whose packet has not come yet.
    boundaries: HashSet<u64>,
    sent: u64,
    /// Packets of any kind, and those of the window.
    received: u64,
    emitted: u64,
}

/// Somebody waits for the first segment.
#[derive(Debug, Default)]
pub struct Waiting<'a> {
    /// The encoder that the stage begins with makes that segment only.
    pub opening: Option<Opening<'a>>,
    /// Who is to know how far the pictures have come.
    pub leader: Option<Leader>,
}

/// What an encoder makes that does not go on.
#[derive(Debug)]
pub struct Opening<'a> {
    /// The slot at which that segment ends, if the pictures do not.
    pub until: u64,
    /// What the run logs to.
    pub log: &'a RunLog,
}

/// What an encoder has to know of the one that goes on where it fails, or went on before.
#[derive(Debug, Default)]
pub struct Beside {
    /// Pictures are reordered by so many at least, as far as their times say: as many as was promised of the encoder
    /// before it was given any. x264 reorders fewer where it gets no more than two.
    pub least_reorder: u32,
    /// What the init segment of both says.
    pub both_sets: Option<BothSets>,
    /// Parameter sets of the one that may have to go on.
    pub sets: Option<Vec<u8>>,
}

/// Where on the grid the packets stand.
#[derive(Clone, Copy, Debug)]
struct Clock {
    /// Frames that a decoder holds back.
    reorder: i64,
    /// Ticks of the track in one frame.
    frame_ticks: i64,
}

impl<'a> Encode<'a> {
    /// A stage around an open encoder, whose pictures' times say that it reorders by so many at least.
    pub fn new(
        settings: &'a VideoSettings,
        codec: VideoCodec,
        window: (u64, Option<u64>),
        (encoder, waiting, beside): (PictureEncoder, Waiting<'a>, Beside),
        input: QueueRx<Scaled>,
        output: QueueTx<MuxItem>,
    ) -> Self {
        Self {
            settings,
            codec,
            window,
            encoder,
            waiting,
            beside,
            input,
            output,
            clock: None,
            boundaries: HashSet::new(),
            sent: 0,
            received: 0,
            emitted: 0,
        }
    }

    /// Runs until the filter ends.
    pub fn run(mut self) -> Result<()> {
        loop {
            match self.input.recv()? {
                Some(Scaled::Picture { n, key, mut frame }) => {
                    let ended = self.waiting.opening.take_if(|opening| key && n >= opening.until);
                    if let Some(opening) = ended {
                        if self.end_opening()? == Sent::ConsumerGone || !self.is_inside(n) {
                            return self.end_window();
                        }
                        self.change_encoder(n, opening.log)?;
                    }
                    self.tell_reached(n);
                    let slot = i64::try_from(n).unwrap_or(i64::MAX);
                    frame.set_pts(slot);
                    frame.set_key_wanted(key);
                    if key && self.is_inside(n) {
                        self.boundaries.insert(n);
                    }
                    self.sent += 1;
                    if self.encode(Some(&frame))? == Sent::ConsumerGone {
                        return self.end_window();
                    }
                }
                Some(Scaled::End { end }) => {
                    self.encode(None)?;
                    self.check_complete()?;
                    let end = self.window.1.unwrap_or(end);
                    self.output.send(MuxItem::VideoEnd { end })?;
                    return Ok(());
                }
                None => return Err(Error::internal(Stage::Encode, "the filter ended without a word")),
            }
        }
    }

    /// The first segment has all of its pictures: its encoder gives out what it holds, so that nobody waits for
    /// pictures of the next.
    fn end_opening(&mut self) -> Result<Sent> {
        if self.encode(None)? == Sent::ConsumerGone {
            return Ok(Sent::ConsumerGone);
        }
        self.check_complete().map(|()| Sent::Queued)
    }

    /// The encoder that goes on takes the place of the one that has ended.
    fn change_encoder(&mut self, at: u64, log: &RunLog) -> Result<()> {
        // The muxer hears that the segment is whole before the next picture comes out, which takes a while.
        self.output.send(MuxItem::SegmentEnd { at })?;
        let before = self.encoder.parameters()?;
        let next = open_here(self.settings, log)?;
        if next.parameters()?.extradata() != before.extradata() {
            let message =
                "the encoder of the first segment makes other parameter sets than the one that goes on";
            return Err(Error::internal(Stage::Encode, message));
        }
        self.encoder = next;
        Ok(())
    }

    fn tell_reached(&self, n: u64) {
        if let Some(leader) = &self.waiting.leader {
            let frames = i64::try_from(n).unwrap_or(i64::MAX).saturating_add(1);
            leader.reached(Rational::from_int(frames) / self.settings.frame_rate);
        }
    }

    fn is_inside(&self, n: u64) -> bool {
        n >= self.window.0 && self.window.1.is_none_or(|end| n < end)
    }

    /// The window is complete: what the encoder still holds is of no use.
    fn end_window(&self) -> Result<()> {
        match self.window.1 {
            Some(end) if self.boundaries.is_empty() => {
                self.output.send(MuxItem::VideoEnd { end }).map(|_| ())
            }
            _ => Ok(()),
        }
    }

    fn encode(&mut self, frame: Option<&crate::av::Frame>) -> Result<Sent> {
        loop {
            match self.encoder.send(frame)? {
                Received::NeedsInput => {
                    if self.take_packets()? == Sent::ConsumerGone {
                        return Ok(Sent::ConsumerGone);
                    }
                }
                _ => return self.take_packets(),
            }
        }
    }

    fn take_packets(&mut self) -> Result<Sent> {
        loop {
            let mut packet = Packet::new().map_err(|e| self.failed(e))?;
            match self.encoder.receive(&mut packet)? {
                Received::Item => {
                    if self.emit(packet)? == Sent::ConsumerGone {
                        return Ok(Sent::ConsumerGone);
                    }
                }
                _ => return Ok(Sent::Queued),
            }
        }
    }

    fn emit(&mut self, packet: Packet) -> Result<Sent> {
        let Some(slot) = packet.pts() else {
            return Err(Error::internal(
                Stage::Encode,
                format!("{} gave a packet without a time", self.settings.encoder),
            ));
        };
        let n = u64::try_from(slot).unwrap_or(0);
        let clock = match self.clock {
            Some(clock) => clock,
            None => self.start(slot, &packet)?,
        };
        self.received += 1;
        if n < self.window.0 {
            return Ok(Sent::Queued);
        }
        if self.window.1.is_some_and(|end| n >= end) {
            // The picture at the window's end is an IDR picture, so nothing of the window follows it.
            return Ok(Sent::ConsumerGone);
        }
        let starts = self.boundaries.remove(&n);
        if starts && !packet.is_key() {
            return Err(self.not_a_key(n));
        }
        let first = i64::try_from(self.window.0).unwrap_or(i64::MAX);
        let decode_index = first + i64::try_from(self.emitted).unwrap_or(i64::MAX) - clock.reorder;
        self.emitted += 1;
        let sample = Sample {
            pts: slot * clock.frame_ticks,
            dts: decode_index.min(slot) * clock.frame_ticks,
            duration: clock.frame_ticks,
            key: packet.is_key(),
            data: packet.into_bytes(),
        };
        self.output.send(MuxItem::Video { sample, segment_start: starts.then_some(n) })
    }

    /// The first packet tells the reorder delay; with it the track can be described.
    fn start(&mut self, first: i64, packet: &Packet) -> Result<Clock> {
        let reorder = (first - packet.dts().unwrap_or(first)).max(i64::from(self.beside.least_reorder));
        let reorder_frames = u32::try_from(reorder).unwrap_or(0);
        if self.beside.sets.is_some() && reorder_frames > self.beside.least_reorder {
            return Err(self.reorders_too_much(reorder_frames));
        }
        let params = self.encoder.parameters()?;
        let mut track = track_of(self.settings, self.codec, &params, reorder_frames);
        if let Some(both) = &self.beside.both_sets {
            track.config = both.config(&track.config, self.beside.sets.as_deref());
        }
        self.output.send(MuxItem::VideoTrack(Box::new(track)))?;
        let clock = Clock { reorder, frame_ticks: self.settings.frame_rate.den() };
        self.clock = Some(clock);
        Ok(clock)
    }

    fn check_complete(&self) -> Result<()> {
        if self.received == self.sent && self.boundaries.is_empty() {
            return Ok(());
        }
        let message = format!(
            "{} took {} pictures and gave {} packets",
            self.settings.encoder, self.sent, self.received
        );
        Err(Error::new(ErrorKind::Internal, "encoder_lost_frames", Stage::Encode, message))
    }

    /// Where software's pictures come before a device's, their times would go back.
    fn reorders_too_much(&self, frames: u32) -> Error {
        let least = self.beside.least_reorder;
        let name = &self.settings.encoder;
        let message =
            format!("{name} reorders {frames} pictures, and the encoder that stands in for it {least}");
        Error::new(ErrorKind::Unavailable, "device_failed", Stage::Encode, message)
    }

    fn not_a_key(&self, n: u64) -> Error {
        let message =
            format!("{} made no key picture at frame {n} though it was told to", self.settings.encoder);
        Error::new(ErrorKind::Internal, "encoder_ignored_key", Stage::Encode, message)
    }

    fn failed(&self, e: AvError) -> Error {
        e.at(Stage::Encode, format_args!("{} failed", self.settings.encoder))
    }
}

/// The track of what an open encoder makes.
pub(super) fn track_of(
    settings: &VideoSettings,
    codec: VideoCodec,
    params: &Parameters,
    reorder_frames: u32,
) -> VideoTrack {
    // Pictures on a device have no depth of their own.
    let told = params.pixel_format().map(|(_, depth)| depth).filter(|depth| *depth > 0);
    let depth = told.unwrap_or_else(|| bit_depth_of(&settings.pixel_format));
    VideoTrack {
        codec,
        width: settings.width,
        height: settings.height,
        sample_aspect_ratio: Rational::from_int(1),
        frame_rate: settings.frame_rate,
        time_base: Rational::new(1, settings.frame_rate.num()),
        reorder_frames,
        bit_depth: depth,
        colour: settings.colour,
        config: params.extradata().to_vec(),
        profile: profile(codec, params.profile(), depth),
        level: params.level(),
    }
}

/// libvpx does not tell its profile; for 4:2:0 it follows from the bit depth (VP9 bitstream, 7.2).
fn profile(codec: VideoCodec, told: i32, bit_depth: u8) -> i32 {
    match codec {
        VideoCodec::Vp9 if told < 0 => i32::from(bit_depth > 8) * 2,
        _ => told,
    }
}
