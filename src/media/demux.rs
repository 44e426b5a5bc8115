//! The demux stage: packets of the chosen streams from the right place on.
//!
//! What enters: a plan and a window. What leaves: the picture's packets from the last key frame that
//! the window needs (earlier groups of pictures are never decoded), the sound's packets from a
//! little before the window (codecs need a run-up), and at the end of the file where the data
//! really ended. What is copied goes on to the muxer from here. No decoding.

use super::audio::PRE_ROLL_PACKETS;
use super::inspect::Container;
use super::items::{Coded, DataEnd, Packets};
use super::plan::Plan;
use super::progress::Progress;
use super::tracks::changed;
use super::warm::Lent;
use crate::av::input::Input;
use crate::av::log::RunLog;
use crate::av::{Packet, Received};
use crate::base::cancel::{Cancel, Sent};
use crate::base::error::{Result, Stage};
use crate::base::time::{Rational, Rounding};
use std::collections::VecDeque;
use std::time::Duration;

/// How long opening may take before the storage counts as hanging.
pub const OPEN_LIMIT: Duration = Duration::from_secs(15);
/// How much sound is read before a window: the encoder's pre-roll (at most 1600 samples in a packet, at
/// 44.1 kHz) and a quarter of a second in which decoders settle (Opus asks for 80 ms, MP3 for a few
/// packets).
const AUDIO_RUN_UP: Rational = Rational::new(PRE_ROLL_PACKETS as i64 * 1600 + 11_025, 44_100);
/// How far before the wanted time a seek is tried, in seconds, until it lands on a usable key frame:
/// containers without an index land anywhere.
const BACK_OFF_S: [i64; 5] = [0, 2, 8, 32, 120];
/// How far behind a cut its sound is looked for.
const SOUND_WITHIN: Rational = Rational::from_int(1);
/// Packets looked at after a seek before it counts as useless.
const MAX_LOOKED_AT: usize = 20_000;
/// So much in memory, or as much as the largest packet had, and the next one is hardly ever waited for.
const AT_HAND_BYTES: usize = 64 * 1024;
/// Bytes of packets held back while looking for a later key frame.
const MAX_HELD_BYTES: usize = 64 << 20;

type Outlet<'a> = Box<dyn Packets + 'a>;

/// Where the packets go.
#[derive(Default)]
pub struct Outlets<'a> {
    /// The picture's.
    pub video: Option<Outlet<'a>>,
    /// The sound's.
    pub audio: Option<Outlet<'a>>,
}

/// Everything that the stage needs.
pub struct Demux<'a> {
    plan: &'a Plan,
    cancel: &'a Cancel,
    log: &'a RunLog,
    progress: &'a Progress,
    outlets: Outlets<'a>,
    /// First slot of the window; where decoding has to be.
    first_slot: i64,
    /// Sound before this title time is not needed.
    audio_from: Rational,
    input: Lent<'a>,
    /// Packets read while looking for the start.
    pending: VecDeque<Packet>,
    /// The largest packet so far, and [`AT_HAND_BYTES`] at least.
    largest_bytes: usize,
    /// The picture's packets that a later key frame may make needless.
    held: Held,
    data_end: Option<Rational>,
}

#[derive(Debug, Default)]
struct Held {
    packets: VecDeque<Packet>,
    bytes: usize,
    /// The window's own pictures have come: nothing is held any more.
    open: bool,
}

impl<'a> Demux<'a> {
    /// A stage that reads `input`, whose pictures begin with slot `first_slot` and whose sound is wanted from `sound_from`
    /// (title time) on.
    pub fn new(
        plan: &'a Plan,
        (first_slot, sound_from): (u64, Rational),
        outlets: Outlets<'a>,
        input: Lent<'a>,
        cancel: &'a Cancel,
        log: &'a RunLog,
        progress: &'a Progress,
    ) -> Self {
        Self {
            plan,
            cancel,
            log,
            progress,
            outlets,
            first_slot: i64::try_from(first_slot).unwrap_or(i64::MAX),
            audio_from: sound_from - AUDIO_RUN_UP,
            input,
            pending: VecDeque::new(),
            largest_bytes: AT_HAND_BYTES,
            held: Held::default(),
            data_end: None,
        }
    }

    /// Runs to the end of the file, or until nobody wants more. The input goes back to its pool, unless
    /// reading it failed.
    pub fn run(mut self) -> Result<()> {
        let done = self.read_window();
        if done.as_ref().is_err_and(|e| !e.is_cancelled() && e.stage() == Stage::Demux) {
            self.input.give_up();
        }
        done
    }

    fn read_window(&mut self) -> Result<()> {
        self.position()?;
        while self.outlets.video.is_some() || self.outlets.audio.is_some() {
            self.cancel.check(Stage::Demux)?;
            match self.next_packet()? {
                Some(packet) => self.route(packet)?,
                None => return self.end(),
            }
            if !self.has_more_at_hand() {
                self.flush()?;
            }
        }
        Ok(())
    }

    /// Whether the next packet can be had without waiting for the disk or for a codec, as far as one can tell.
    fn has_more_at_hand(&self) -> bool {
        let in_memory = || self.input.get().is_some_and(|input| input.bytes_at_hand() >= self.largest_bytes);
        self.plan.copies_all() && (!self.pending.is_empty() || in_memory())
    }

    fn flush(&mut self) -> Result<()> {
        hand_on(&mut self.outlets.video, |packets| packets.flush())?;
        hand_on(&mut self.outlets.audio, |packets| packets.flush())
    }

    /// Reads only what the plan wants from now on.
    fn keep_only_chosen(&mut self) -> Result<()> {
        let keep: Vec<usize> = [self.video_stream(), self.audio_stream()].into_iter().flatten().collect();
        let input = self.input.get_mut().ok_or_else(|| changed(self.plan))?;
        if keep.iter().any(|s| *s >= input.streams().len()) {
            return Err(changed(self.plan));
        }
        input.keep_only(&keep);
        Ok(())
    }

    /// Opens the source again, which every container can, while not every one can be rewound.
    fn reopen(&mut self) -> Result<()> {
        self.pending.clear();
        self.input.give_up();
        self.input.replace(Input::open(&self.plan.input, self.cancel, self.log, OPEN_LIMIT)?);
        self.keep_only_chosen()
    }

    fn video_stream(&self) -> Option<usize> {
        self.plan.video.as_ref().map(|v| v.stream)
    }

    fn audio_stream(&self) -> Option<usize> {
        self.plan.audio.as_ref().map(|a| a.stream)
    }

    /// Goes to where the window's packets begin.
    fn position(&mut self) -> Result<()> {
        self.keep_only_chosen()?;
        let video_from = Rational::from_int(self.first_slot) * self.plan.timeline.frame_duration();
        if video_from.is_positive() && self.try_cut(video_from)? {
            return Ok(());
        }
        let wanted =
            if self.video_stream().is_some() { video_from.min(self.audio_from) } else { self.audio_from };
        let source_start = self.plan.facts.origin - self.plan.title_origin;
        for back_off in BACK_OFF_S {
            let target = wanted - Rational::from_int(back_off);
            if target <= source_start {
                break;
            }
            if self.try_seek(target)? {
                return Ok(());
            }
        }
        // From the beginning: right for the first segment, and the last resort for the others.
        if self.input.get().is_some_and(Input::is_untouched) { Ok(()) } else { self.reopen() }
    }

    /// Seeks to the key frame that a copied window begins with. That is enough where the sound that comes with it
    /// reaches back to the same time: nothing that lies before has to be read. Without an index a seek leads behind
    /// the key frame; and decode times that the container does not tell are known only to who has read what lies
    /// before.
    fn try_cut(&mut self, cut: Rational) -> Result<bool> {
        let may_do = self.plan.copies_all() && Container::of(&self.plan.facts.container).index;
        let lands = may_do && self.try_seek(cut)?;
        let is_timed = self.pending.back().is_some_and(|key| key.dts().is_some());
        Ok(lands && is_timed && self.has_sound_since(cut)?)
    }

    /// Whether none of the sound from `cut` on was passed over: the first that is found began before it, or the
    /// one in front of that did.
    fn has_sound_since(&mut self, cut: Rational) -> Result<bool> {
        let Some(sound) = self.audio_stream() else { return Ok(true) };
        let mut bytes = 0;
        for seen in 0..MAX_LOOKED_AT {
            if seen == self.pending.len() {
                let Some(packet) = self.read()? else { return Ok(false) };
                self.pending.push_back(packet);
            }
            let Some(packet) = self.pending.get(seen) else { return Ok(false) };
            bytes += packet.data().len();
            if bytes > MAX_HELD_BYTES {
                return Ok(false);
            }
            let Some(time) = self.title_time(packet) else { continue };
            if packet.stream() == sound {
                // Times are rounded to ticks, as the container has them.
                let tick = self.time_base(sound).unwrap_or(Rational::ZERO);
                let before = time + tick + tick - self.length(packet);
                return Ok(time <= cut || before < cut);
            }
            if time > cut + SOUND_WITHIN {
                return Ok(false);
            }
        }
        Ok(false)
    }

    /// Seeks to a title time and looks whether what comes is early enough.
    fn try_seek(&mut self, target: Rational) -> Result<bool> {
        let Some(stream) = self.video_stream().or(self.audio_stream()) else { return Ok(false) };
        let is_video = self.video_stream().is_some();
        self.pending.clear();
        let Some(input) = self.input.get_mut() else { return Ok(false) };
        let Some(time_base) = input.streams().get(stream).map(|s| s.time_base) else { return Ok(false) };
        let ticks = ((target + self.plan.title_origin) / time_base).round(Rounding::Floor);
        match input.seek(stream, ticks) {
            Err(e) if e.is_cancelled() || e.code() == "read_failed" => return Err(e),
            Err(_) => return Ok(false),
            Ok(()) => {}
        }
        for _ in 0..MAX_LOOKED_AT {
            let Some(packet) = self.read()? else { return Ok(false) };
            let verdict = (packet.stream() == stream && (!is_video || packet.is_key()))
                .then(|| self.early_enough(&packet, is_video, target));
            self.pending.push_back(packet);
            if let Some(Some(verdict)) = verdict {
                return Ok(verdict);
            }
        }
        Ok(false)
    }

    fn early_enough(&self, packet: &Packet, is_video: bool, target: Rational) -> Option<bool> {
        let time = self.title_time(packet)?;
        if is_video {
            // Sound is interleaved near pictures of the same time, so a key frame at the target
            // brings the run-up of the sound too.
            return Some(
                self.plan.timeline.slot_at_time(time) <= self.first_slot
                    && time <= target.max(self.audio_from),
            );
        }
        Some(time <= self.audio_from)
    }

    fn next_packet(&mut self) -> Result<Option<Packet>> {
        match self.pending.pop_front() {
            Some(packet) => Ok(Some(packet)),
            None => self.read(),
        }
    }

    fn read(&mut self) -> Result<Option<Packet>> {
        let no_memory = |e: crate::av::AvError| e.at(Stage::Demux, "cannot read the source");
        let mut packet = Packet::new().map_err(no_memory)?;
        let Some(input) = self.input.get_mut() else { return Ok(None) };
        let mut skipped = 0u32;
        loop {
            match input.read(&mut packet)? {
                Received::Item => break,
                Received::End => return Ok(None),
                Received::NeedsInput => {
                    self.progress.damaged();
                    skipped += 1;
                    if skipped > 10_000 {
                        return Ok(None);
                    }
                    self.cancel.check(Stage::Demux)?;
                }
            }
        }
        self.largest_bytes = self.largest_bytes.max(packet.data().len());
        if packet.is_corrupt() {
            self.progress.damaged();
        }
        Ok(Some(packet))
    }

    /// The packet's presentation time (or the best there is) in title time.
    fn title_time(&self, packet: &Packet) -> Option<Rational> {
        let ticks = packet.pts().or(packet.dts())?;
        Some(Rational::from_int(ticks) * self.time_base(packet.stream())? - self.plan.title_origin)
    }

    fn time_base(&self, stream: usize) -> Option<Rational> {
        self.input.get()?.streams().get(stream).map(|s| s.time_base)
    }

    fn route(&mut self, packet: Packet) -> Result<()> {
        let is_video = Some(packet.stream()) == self.video_stream();
        let time = self.title_time(&packet);
        self.note_end(&packet, time);
        if is_video {
            return self.route_video(packet, time);
        }
        let needed = time.is_none_or(|t| t + self.length(&packet) >= self.audio_from);
        if Some(packet.stream()) == self.audio_stream() && needed {
            send(&mut self.outlets.audio, Coded::Packet(packet))?;
        }
        Ok(())
    }

    /// Holds the picture's packets back while a later key frame may still make them needless.
    fn route_video(&mut self, packet: Packet, time: Option<Rational>) -> Result<()> {
        if self.held.open {
            return send(&mut self.outlets.video, Coded::Packet(packet));
        }
        let slot = time.map(|t| self.plan.timeline.slot_at_time(t));
        if packet.is_key() && slot.is_none_or(|s| s <= self.first_slot) {
            self.held.packets.clear();
            self.held.bytes = 0;
        }
        // Also opens for a stream that never has a key frame (intra refresh): its decoder recovers.
        let reached = self.decode_slot(&packet).or(slot).is_none_or(|s| s >= self.first_slot);
        self.held.bytes += packet.data().len();
        self.held.packets.push_back(packet);
        if reached || self.held.bytes > MAX_HELD_BYTES {
            self.let_go()?;
        }
        Ok(())
    }

    /// Sends what was held back. All packets that come later stand behind the window's first slot, so it
    /// is known now which picture will stand there.
    fn let_go(&mut self) -> Result<()> {
        self.held.open = true;
        let first_slot = self.first_slot;
        let slots: Vec<Option<i64>> = self.held.packets.iter().map(|packet| self.slot(packet)).collect();
        let standing = slots.iter().flatten().copied().filter(|slot| *slot <= first_slot).max();
        let packets = std::mem::take(&mut self.held.packets);
        for (packet, slot) in packets.into_iter().zip(slots) {
            let passes = slot.zip(standing).is_some_and(|(slot, standing)| slot < standing);
            let coded = if passes { Coded::Passing(packet) } else { Coded::Packet(packet) };
            send(&mut self.outlets.video, coded)?;
        }
        Ok(())
    }

    fn slot(&self, packet: &Packet) -> Option<i64> {
        let ticks = packet.pts()?;
        let time = Rational::from_int(ticks) * self.time_base(packet.stream())? - self.plan.title_origin;
        Some(self.plan.timeline.slot_at_time(time))
    }

    fn decode_slot(&self, packet: &Packet) -> Option<i64> {
        let time_base = self.time_base(packet.stream())?;
        let time = Rational::from_int(packet.dts()?) * time_base - self.plan.title_origin;
        Some(self.plan.timeline.slot_at_time(time))
    }

    fn length(&self, packet: &Packet) -> Rational {
        let ticks = Rational::from_int(packet.duration());
        self.time_base(packet.stream()).map_or(Rational::ZERO, |tb| ticks * tb)
    }

    fn note_end(&mut self, packet: &Packet, time: Option<Rational>) {
        let Some(time) = time else { return };
        let is_video = Some(packet.stream()) == self.video_stream();
        let mut length = self.length(packet);
        if is_video && !length.is_positive() {
            length = self.plan.facts.video.as_ref().map_or(Rational::ZERO, |v| v.frame_rate.recip());
        }
        let end = time + length;
        self.data_end = Some(self.data_end.map_or(end, |e| e.max(end)));
    }

    fn end(&mut self) -> Result<()> {
        self.let_go()?;
        let end = DataEnd { end: self.data_end };
        send(&mut self.outlets.video, Coded::End(end))?;
        send(&mut self.outlets.audio, Coded::End(end))
    }
}

fn send(outlet: &mut Option<Outlet<'_>>, coded: Coded) -> Result<()> {
    hand_on(outlet, |packets| packets.take(coded))
}

/// Does that with an outlet which is open; it closes when its consumer wants no more.
fn hand_on<'a>(
    outlet: &mut Option<Outlet<'a>>,
    act: impl FnOnce(&mut Outlet<'a>) -> Result<Sent>,
) -> Result<()> {
    if let Some(packets) = outlet
        && act(packets)? == Sent::ConsumerGone
    {
        *outlet = None;
    }
    Ok(())
}

/// Ticks of a stream as ticks of the title, in the stream's own time base.
pub fn title_ticks(ticks: i64, time_base: Rational, title_origin: Rational) -> i64 {
    ticks - (title_origin / time_base).round(Rounding::Nearest)
}
