//! The sound: packets in, packets on the audio grid out. Made once for all renditions.
//!
//! ```text
//! decode -> float, channels -> splice (unbroken, to the sample) -> rate -> frames -> encode -> packets
//! ```
//! Everything stands on absolute sample positions. A run that begins in the middle starts its
//! encoder [`PRE_ROLL_PACKETS`] early and drops those packets by number, so that its first packet
//! joins the one that another run made before it with no missing and no extra sample. Two streams
//! depend on history, the encoder's and (when the rate changes) the resampler's, and both have
//! forgotten it after that.

use super::items::{Coded, DataEnd, MuxItem};
use super::pace::Paced;
use super::plan::Plan;
use super::progress::Progress;
use crate::av::decoder::Decoder;
use crate::av::encoder::{AudioSettings, Encoder, SETTLING_PACKETS};
use crate::av::graph::Graph;
use crate::av::{AvError, Frame, Packet, Received};
use crate::base::cancel::{QueueTx, Sent};
use crate::base::error::{Error, Result, Stage};
use crate::base::time::{Rational, Rounding};
use crate::model::timeline::AudioGrid;
use crate::model::track::{AudioCodec, AudioTrack, Sample};

pub mod copy;
mod fifo;
mod line;
mod splice;

use line::Line;
pub use splice::SourceClock;

/// Packets encoded before a window and dropped, so that the encoder has forgotten how it began.
pub const PRE_ROLL_PACKETS: u64 = SETTLING_PACKETS;
/// Packets that bring the delay of any encoder.
const FLUSHING_PACKETS: u64 = 16;
/// Pieces of silence are made in this size, so that an hour without sound costs no memory.
const SILENCE_PIECE: u64 = 8192;
/// Positions further than this beyond the title's end are damage, not sound.
const MAX_BEYOND_END_S: i64 = 30;

/// Which part of the audio grid a run makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PacketWindow {
    /// First packet.
    pub first: u64,
    /// One past the last packet; `None` runs to where the data ends.
    pub end: Option<u64>,
}

/// The stage.
pub struct Audio<'a> {
    plan: &'a Plan,
    window: PacketWindow,
    grid: AudioGrid,
    decoder: Decoder,
    clock: SourceClock,
    input: Paced,
    outlets: Vec<Option<QueueTx<MuxItem>>>,
    progress: &'a Progress,
    line: Line,
    sink: PacketSink,
    /// Converts decoded frames to planar float in the encoder's channels.
    to_float: Option<Graph>,
    to_float_description: String,
    guess: i64,
    reports_progress: bool,
}

/// The encoder and what it still owes.
struct PacketSink {
    encoder: Encoder,
    name: String,
    codec: AudioCodec,
    bitrate_bps: u64,
    channels: u32,
    /// From planar float to what the encoder takes.
    to_encoder: Option<Graph>,
    sample_format: String,
    /// Position of the next frame for the encoder.
    position: i64,
    /// The next packet to be passed on.
    next: u64,
    described: bool,
}

impl<'a> Audio<'a> {
    /// Sets the stage up around an open decoder and encoder.
    #[allow(clippy::too_many_arguments)] // one caller, every argument of another type
    pub fn new(
        plan: &'a Plan,
        settings: &AudioSettings,
        codec: AudioCodec,
        codecs: (Decoder, Encoder),
        clock: SourceClock,
        window: PacketWindow,
        input: Paced,
        outlets: Vec<QueueTx<MuxItem>>,
        progress: &'a Progress,
    ) -> Self {
        let (decoder, encoder) = codecs;
        let grid = grid_of(&encoder, settings);
        let first_encoded = window.first.saturating_sub(PRE_ROLL_PACKETS);
        let start = i64::try_from(first_encoded * u64::from(grid.packet_samples)).unwrap_or(i64::MAX);
        let layout = crate::av::graph::layout_for(settings.channels);
        let sample_format = encoder.sample_format_name();
        Self {
            plan,
            window,
            grid,
            decoder,
            clock,
            input,
            outlets: outlets.into_iter().map(Some).collect(),
            progress,
            line: Line::new(clock.sample_rate, settings.sample_rate, settings.channels, start),
            sink: PacketSink {
                encoder,
                name: settings.encoder.clone(),
                codec,
                bitrate_bps: settings.bitrate_bps,
                channels: settings.channels,
                to_encoder: None,
                sample_format,
                position: start,
                next: window.first,
                described: false,
            },
            to_float: None,
            to_float_description: format!("aformat=sample_fmts=fltp:channel_layouts={layout}"),
            guess: 0,
            reports_progress: plan.video.is_none(),
        }
    }

    /// Runs until the window is full or the data ends.
    pub fn run(mut self) -> Result<()> {
        loop {
            match self.input.recv()? {
                Some(Coded::Packet(packet) | Coded::Passing(packet)) => {
                    self.decode(Some(&packet))?;
                    if self.is_done() {
                        return self.send_end(self.plan.timeline.total_frames());
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

    fn is_done(&self) -> bool {
        self.window.end.is_some_and(|end| self.sink.next >= end) || self.outlets.iter().all(Option::is_none)
    }

    fn decode(&mut self, packet: Option<&Packet>) -> Result<()> {
        loop {
            match self.decoder.send(packet) {
                Ok(Received::NeedsInput) => self.take_frames()?,
                Ok(_) => break,
                Err(AvError::NO_MEMORY) => {
                    return Err(AvError::NO_MEMORY.at(Stage::Decode, "cannot decode the sound"));
                }
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
            let mut frame = Frame::new().map_err(|e| e.at(Stage::Decode, "cannot decode the sound"))?;
            match self.decoder.receive(&mut frame) {
                Ok(Received::Item) => self.place(&frame)?,
                Ok(_) => return Ok(()),
                Err(AvError::NO_MEMORY) => {
                    return Err(AvError::NO_MEMORY.at(Stage::Decode, "cannot decode the sound"));
                }
                Err(_) => self.progress.damaged(),
            }
        }
        Ok(())
    }

    /// Puts a decoded piece where it belongs on the line.
    fn place(&mut self, frame: &Frame) -> Result<()> {
        if frame.samples() == 0 {
            return Ok(());
        }
        let position = frame.best_effort_pts().map_or(self.guess, |ticks| self.clock.position(ticks));
        if position > self.last_sensible_position() {
            self.progress.damaged();
            return Ok(());
        }
        self.guess = position + i64::try_from(frame.samples()).unwrap_or(0);
        let float = self.float(frame).map_err(filter_failed)?;
        let placement = self.line.place(position, float.samples());
        self.silence(placement.silence)?;
        if placement.skip < float.samples() {
            self.line.push(&float, placement.skip).map_err(filter_failed)?;
        }
        self.encode_ready()?;
        if self.reports_progress {
            let end = Rational::new(self.line.next_position(), i64::from(self.clock.sample_rate.max(1)));
            self.progress.decoded(end, 0);
        }
        Ok(())
    }

    fn last_sensible_position(&self) -> i64 {
        let end = self.plan.timeline.duration() + Rational::from_int(MAX_BEYOND_END_S);
        (end * Rational::from_int(i64::from(self.clock.sample_rate))).round(Rounding::Ceil)
    }

    fn float(&mut self, frame: &Frame) -> Result<Frame, AvError> {
        let graph = match &mut self.to_float {
            Some(graph) if graph.fits(frame) => graph,
            stale => {
                // A change of rate inside a stream is resampled to the rate that it began with.
                let description = if frame.sample_rate() == self.clock.sample_rate {
                    self.to_float_description.clone()
                } else {
                    format!("aresample={},{}", self.clock.sample_rate, self.to_float_description)
                };
                stale.insert(Graph::audio(frame, &description)?)
            }
        };
        one_to_one(graph, frame)
    }

    fn silence(&mut self, mut samples: u64) -> Result<()> {
        while samples > 0 && !self.is_done() {
            let piece = samples.min(SILENCE_PIECE);
            self.line.push_silence(piece).map_err(filter_failed)?;
            self.encode_ready()?;
            samples -= piece;
        }
        Ok(())
    }

    fn encode_ready(&mut self) -> Result<()> {
        let size = self.grid.packet_samples;
        while let Some(mut frame) = self.line.pop(size).map_err(filter_failed)? {
            frame.set_pts(self.sink.position);
            self.sink.position += i64::from(size);
            let packets = self.sink.encode(&frame)?;
            for packet in packets {
                self.pass_on(packet)?;
            }
            if self.is_done() {
                break;
            }
        }
        Ok(())
    }

    /// Passes a packet on if the window wants it: pre-roll is dropped here, by number.
    fn pass_on(&mut self, packet: Packet) -> Result<()> {
        let size = i64::from(self.grid.packet_samples.max(1));
        let Some(pts) = packet.pts() else { return Ok(()) };
        let number = (pts + i64::from(self.grid.priming_samples)).div_euclid(size);
        let number = u64::try_from(number).unwrap_or(0);
        if number < self.window.first || self.window.end.is_some_and(|end| number >= end) {
            return Ok(());
        }
        if number != self.sink.next {
            let message = format!("{} gave packet {number} where {} was due", self.sink.name, self.sink.next);
            return Err(Error::internal(Stage::Encode, message));
        }
        if !self.sink.described {
            self.sink.described = true;
            let track = self.sink.track(&self.grid)?;
            self.send(&MuxItem::AudioTrack(Box::new(track)))?;
        }
        self.sink.next += 1;
        let pts = self.grid.packet_pts(number);
        self.send(&MuxItem::Audio(Sample {
            pts,
            dts: pts,
            duration: size,
            key: true,
            data: packet.into_bytes(),
        }))
    }

    fn send(&mut self, item: &MuxItem) -> Result<()> {
        for outlet in &mut self.outlets {
            let Some(tx) = outlet else { continue };
            if tx.send(item.clone())? == Sent::ConsumerGone {
                *outlet = None;
            }
        }
        Ok(())
    }

    /// The data has ended: silence fills the title, and pushes the encoder's delay out.
    fn end(&mut self, data_end: DataEnd) -> Result<()> {
        let end = self.plan.end_of_title(data_end.end);
        let duration = self.plan.timeline.frame_time(end);
        let last = self.window.end.unwrap_or_else(|| self.grid.packet_count(duration));
        self.window.end = Some(last);
        // The packets themselves, the pre-roll where the sound ended before the window, and the delay.
        let frames = last.saturating_sub(self.sink.next) + PRE_ROLL_PACKETS + FLUSHING_PACKETS;
        let samples = frames.saturating_mul(u64::from(self.grid.packet_samples))
            * u64::from(self.clock.sample_rate)
            / u64::from(self.grid.sample_rate.max(1));
        self.silence(samples)?;
        if self.sink.next < last {
            let message = format!("{} owes packets {} to {last}", self.sink.name, self.sink.next);
            return Err(Error::internal(Stage::Encode, message));
        }
        self.send_end(end)
    }

    fn send_end(&mut self, end: u64) -> Result<()> {
        self.send(&MuxItem::AudioEnd { end })
    }
}

impl PacketSink {
    fn encode(&mut self, frame: &Frame) -> Result<Vec<Packet>> {
        let failed = |e: AvError, name: &str| e.at(Stage::Encode, format_args!("{name} failed"));
        let converted = self.converted(frame).map_err(filter_failed)?;
        let frame = converted.as_ref().unwrap_or(frame);
        let mut out = Vec::new();
        loop {
            let sent = self.encoder.send(Some(frame)).map_err(|e| failed(e, &self.name))?;
            loop {
                let mut packet = Packet::new().map_err(|e| failed(e, &self.name))?;
                match self.encoder.receive(&mut packet).map_err(|e| failed(e, &self.name))? {
                    Received::Item => out.push(packet),
                    _ => break,
                }
            }
            if sent != Received::NeedsInput {
                return Ok(out);
            }
        }
    }

    fn converted(&mut self, frame: &Frame) -> Result<Option<Frame>, AvError> {
        if self.sample_format == "fltp" {
            return Ok(None);
        }
        let graph = match &mut self.to_encoder {
            Some(graph) => graph,
            none => none.insert(Graph::audio(frame, &format!("aformat=sample_fmts={}", self.sample_format))?),
        };
        let mut out = one_to_one(graph, frame)?;
        out.set_pts(frame.pts().unwrap_or(0));
        Ok(Some(out))
    }

    fn track(&self, grid: &AudioGrid) -> Result<AudioTrack> {
        track_of(&self.encoder, self.codec, (self.channels, self.bitrate_bps), grid)
    }
}

/// The track of what an open encoder makes.
pub(super) fn track_of(
    encoder: &Encoder,
    codec: AudioCodec,
    (channels, bitrate): (u32, u64),
    grid: &AudioGrid,
) -> Result<AudioTrack> {
    let params = encoder.parameters().map_err(|e| e.at(Stage::Encode, "cannot describe the sound"))?;
    Ok(AudioTrack {
        codec,
        sample_rate: grid.sample_rate,
        channels,
        time_base: grid.time_base(),
        packet_samples: grid.packet_samples,
        priming_samples: grid.priming_samples,
        config: params.extradata().to_vec(),
        bitrate,
    })
}

/// The grid of an open encoder.
pub fn grid_of(encoder: &Encoder, settings: &AudioSettings) -> AudioGrid {
    AudioGrid {
        sample_rate: settings.sample_rate,
        packet_samples: encoder.frame_samples().max(1),
        priming_samples: encoder.priming_samples(),
    }
}

/// For graphs that give one frame for one frame.
fn one_to_one(graph: &mut Graph, frame: &Frame) -> Result<Frame, AvError> {
    graph.push(Some(frame))?;
    let mut out = Frame::new()?;
    match graph.pull(&mut out)? {
        Received::Item => Ok(out),
        _ => Frame::new(),
    }
}

fn filter_failed(e: AvError) -> Error {
    e.at(Stage::Filter, "cannot convert the sound")
}
