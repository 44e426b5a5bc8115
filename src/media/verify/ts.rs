//! A reader of MPEG transport streams (ISO/IEC 13818-1): just enough to know that each packet, picture
//! and AAC frame is there, at a cost that does not show beside an encode.
//!
//! What enters: the bytes of segments, in order. What leaves: the times of what is in them, or the
//! first breach of the rules. Shares nothing with the writer in `container`.

use super::expected::{Found, FoundAudio, FoundVideo, TS_ORIGIN_90K, unwrap_33};
use super::{Stop, fill};
use crate::base::cancel::Cancel;
use crate::base::error::Stage;
use crate::base::time::Rational;
use std::io::Read;

const PACKET_BYTES: usize = 188;
/// Packets read at once.
const BATCH: usize = 1024;

/// `stream_type` values (table 2-34, ATSC A/52).
const VIDEO_TYPES: [u8; 2] = [0x1B, 0x24];
const AUDIO_TYPES: [u8; 5] = [0x03, 0x04, 0x0F, 0x81, 0x87];
const TYPE_ADTS: u8 = 0x0F;

/// Reads the segments of one rendition, one after the other.
#[derive(Debug, Default)]
pub(super) struct Walker {
    /// Last continuity counter of each PID (2.4.3.3), over all segments.
    counters: Vec<(u16, u8)>,
}

/// What is known within one segment.
#[derive(Debug, Default)]
struct Segment {
    near_90k: i64,
    packets: u64,
    pmt_pid: Option<u16>,
    video_pid: Option<u16>,
    audio_pid: Option<u16>,
    video_pts: Vec<i64>,
    starts_with_key: bool,
    audio_first: Option<i64>,
    adts: Option<AdtsCounter>,
}

/// One transport packet, taken apart.
struct Packet<'a> {
    pid: u16,
    unit_start: bool,
    counter: u8,
    random_access: bool,
    payload: &'a [u8],
}

impl Walker {
    /// Reads a segment (or a whole file) to its end. `near_90k` is about where it begins, to know how
    /// often the 33-bit clock has gone round.
    pub(super) fn walk(
        &mut self,
        reader: &mut impl Read,
        cancel: &Cancel,
        near_90k: i64,
    ) -> Result<Found, Stop> {
        let mut segment = Segment { near_90k, ..Segment::default() };
        let mut buffer = vec![0; BATCH * PACKET_BYTES];
        loop {
            cancel.check(Stage::Verify).map_err(|_| Stop::Cancelled)?;
            let filled = fill(reader, &mut buffer)?;
            let (packets, rest) = buffer.get(..filled).unwrap_or_default().as_chunks::<PACKET_BYTES>();
            for bytes in packets {
                let at = segment.packets;
                self.packet(bytes, &mut segment).map_err(|what| format!("transport packet {at}: {what}"))?;
            }
            if !rest.is_empty() {
                return Err(Stop::Wrong(format!("{} bytes behind the last whole packet", rest.len())));
            }
            if filled < buffer.len() {
                break;
            }
        }
        Ok(segment.found()?)
    }

    fn packet(&mut self, bytes: &[u8; PACKET_BYTES], segment: &mut Segment) -> Result<(), String> {
        let Some(packet) = Packet::parse(bytes)? else {
            return Err("it has neither payload nor clock".into());
        };
        if !packet.payload.is_empty() {
            self.count(&packet)?;
        }
        segment.take(&packet)?;
        segment.packets += 1;
        Ok(())
    }

    /// Counters run on, from segment to segment too, or receivers report lost packets.
    fn count(&mut self, packet: &Packet<'_>) -> Result<(), String> {
        let Some((pid, last)) = self.counters.iter_mut().find(|(pid, _)| *pid == packet.pid) else {
            self.counters.push((packet.pid, packet.counter));
            return Ok(());
        };
        let expected = (*last + 1) % 16;
        *last = packet.counter;
        if packet.counter == expected {
            return Ok(());
        }
        Err(format!("the continuity counter of PID {pid} is {} instead of {expected}", packet.counter))
    }
}

impl<'a> Packet<'a> {
    /// `None` for a packet that says nothing at all.
    fn parse(bytes: &'a [u8; PACKET_BYTES]) -> Result<Option<Self>, String> {
        let [sync, high, low, control, body @ ..] = bytes;
        if *sync != 0x47 {
            return Err(format!("it begins with {sync:#04x} instead of 0x47"));
        }
        if high & 0x80 != 0 {
            return Err("it is marked as damaged".into());
        }
        let (has_field, has_payload) = (control & 0x20 != 0, control & 0x10 != 0);
        if !has_field && !has_payload {
            return Ok(None);
        }
        let (length, flags) = if has_field { (body[0], body[1]) } else { (0, 0) };
        let skip = if has_field { usize::from(length) + 1 } else { 0 };
        let payload = if has_payload { body.get(skip..).unwrap_or_default() } else { &[] };
        if has_payload && payload.is_empty() {
            return Err("its adaptation field leaves no room for the payload".into());
        }
        if length > 0 && flags & 0x80 != 0 {
            return Err("it says that there is a discontinuity".into());
        }
        Ok(Some(Self {
            pid: u16::from_be_bytes([high & 0x1F, *low]),
            unit_start: high & 0x40 != 0,
            counter: control & 0x0F,
            random_access: length > 0 && flags & 0x40 != 0,
            payload,
        }))
    }
}

impl Segment {
    fn take(&mut self, packet: &Packet<'_>) -> Result<(), String> {
        let pid = Some(packet.pid);
        match self.packets {
            0 if packet.pid != 0 => return Err("a program association table has to come first".into()),
            1 if pid != self.pmt_pid => return Err("a program map table has to come second".into()),
            _ => {}
        }
        if packet.pid == 0 {
            self.pmt_pid = Some(program_map_pid(section(packet)?)?);
        } else if pid == self.pmt_pid {
            self.take_map(section(packet)?)?;
        } else if pid == self.video_pid {
            self.take_video(packet)?;
        } else if pid == self.audio_pid {
            self.take_audio(packet)?;
        } else {
            return Err(format!("PID {} is in no table", packet.pid));
        }
        Ok(())
    }

    fn take_map(&mut self, section: &[u8]) -> Result<(), String> {
        let cut = || "the program map table is cut off".to_owned();
        let info = section.get(10..12).ok_or_else(cut)?;
        let mut rest = section.get(12 + length_12(info)..).ok_or_else(cut)?;
        while let [kind, high, low, info_high, info_low, behind @ ..] = rest {
            let pid = Some(u16::from_be_bytes([high & 0x1F, *low]));
            if VIDEO_TYPES.contains(kind) {
                self.video_pid = pid;
            } else if AUDIO_TYPES.contains(kind) {
                self.audio_pid = pid;
                if *kind == TYPE_ADTS && self.adts.is_none() {
                    self.adts = Some(AdtsCounter::default());
                }
            } else {
                return Err(format!("stream type {kind:#04x} is unknown"));
            }
            rest = behind.get(length_12(&[*info_high, *info_low])..).ok_or_else(cut)?;
        }
        Ok(())
    }

    fn take_video(&mut self, packet: &Packet<'_>) -> Result<(), String> {
        if packet.unit_start {
            let (pts, _) = pes(packet.payload)?;
            if self.video_pts.is_empty() {
                self.starts_with_key = packet.random_access;
            }
            // Later ones are near the one before.
            let near = self.video_pts.last().map_or(self.near_90k, |last| last + TS_ORIGIN_90K);
            self.video_pts.push(unwrap_33(pts, near) - TS_ORIGIN_90K);
        } else if self.video_pts.is_empty() {
            return Err("the picture begins in the middle of a PES packet".into());
        }
        Ok(())
    }

    fn take_audio(&mut self, packet: &Packet<'_>) -> Result<(), String> {
        let mut data = packet.payload;
        if packet.unit_start {
            let (pts, frames) = pes(packet.payload)?;
            self.audio_first.get_or_insert(unwrap_33(pts, self.near_90k) - TS_ORIGIN_90K);
            data = frames;
        } else if self.audio_first.is_none() {
            return Err("the sound begins in the middle of a PES packet".into());
        }
        self.adts.as_mut().map_or(Ok(()), |adts| adts.take(data))
    }

    fn found(self) -> Result<Found, String> {
        if self.adts.as_ref().is_some_and(AdtsCounter::is_inside) {
            return Err("it ends inside an AAC frame".into());
        }
        let time_base = Rational::TB_90K;
        let packets = self.adts.map(|adts| adts.frames);
        let (pts, starts_with_key) = (self.video_pts, self.starts_with_key);
        Ok(Found {
            video: self.video_pid.map(|_| FoundVideo { time_base, pts, starts_with_key }),
            audio: self.audio_first.map(|first_pts| FoundAudio { time_base, first_pts, packets }),
        })
    }
}

/// Twelve bits of length at the end of two bytes.
fn length_12(bytes: &[u8]) -> usize {
    match bytes {
        [high, low, ..] => usize::from(u16::from_be_bytes([high & 0x0F, *low])),
        _ => 0,
    }
}

/// The section in a packet, without its checksum (2.4.4). Our tables fit into one packet.
fn section<'a>(packet: &Packet<'a>) -> Result<&'a [u8], String> {
    let behind_pointer = |payload: &'a [u8]| payload.get(1 + usize::from(*payload.first()?)..);
    let section =
        behind_pointer(packet.payload).filter(|_| packet.unit_start).ok_or("the table has no beginning")?;
    let whole = 3 + length_12(section.get(1..3).unwrap_or_default());
    section.get(..whole.saturating_sub(4)).ok_or_else(|| "the table goes beyond its packet".into())
}

/// Of the only program in a program association table (2.4.4.3).
fn program_map_pid(section: &[u8]) -> Result<u16, String> {
    match section.get(8..) {
        Some([_, _, high, low]) => Ok(u16::from_be_bytes([high & 0x1F, *low])),
        _ => Err("the program association table has to name one program".into()),
    }
}

/// PTS, and what follows the header of a PES packet (2.4.3.6).
fn pes(payload: &[u8]) -> Result<(i64, &[u8]), String> {
    let [0, 0, 1, _, _, _, _, flags, header_bytes, rest @ ..] = payload else {
        return Err("no PES header where one has to begin".into());
    };
    let [a, b, c, d, e, ..] = rest else { return Err("the PES header is cut off".into()) };
    if flags & 0x80 == 0 {
        return Err("the PES packet has no PTS".into());
    }
    let bits = |byte: &u8, mask: u8, shift: u32| i64::from(byte & mask) << shift;
    let pts =
        bits(a, 0x0E, 29) | bits(b, 0xFF, 22) | bits(c, 0xFE, 14) | bits(d, 0xFF, 7) | bits(e, 0xFE, 0) >> 1;
    let data = rest.get(usize::from(*header_bytes)..).ok_or("the PES header goes beyond its packet")?;
    Ok((pts, data))
}

/// Counts AAC frames by the lengths in their ADTS headers (ISO/IEC 13818-7, 6.2).
#[derive(Debug, Default)]
struct AdtsCounter {
    frames: u64,
    /// The header at work: frames begin anywhere, also across packets.
    header: [u8; 6],
    filled: usize,
    /// Bytes of the frame that are still to come.
    remaining: usize,
}

impl AdtsCounter {
    fn take(&mut self, mut data: &[u8]) -> Result<(), String> {
        loop {
            let skipped = self.remaining.min(data.len());
            self.remaining -= skipped;
            data = data.get(skipped..).unwrap_or_default();
            let room = self.header.get_mut(self.filled..).unwrap_or_default();
            let taken = room.len().min(data.len());
            let (head, rest) = data.split_at(taken);
            room.iter_mut().zip(head).for_each(|(to, from)| *to = *from);
            self.filled += taken;
            data = rest;
            if self.filled < self.header.len() {
                return Ok(());
            }
            self.begin_frame()?;
        }
    }

    fn begin_frame(&mut self) -> Result<(), String> {
        let [sync, layer, _, a, b, c] = self.header;
        if sync != 0xFF || layer & 0xF6 != 0xF0 {
            return Err(format!("AAC frame {} has no ADTS header", self.frames));
        }
        let bytes = usize::from(a & 3) << 11 | usize::from(b) << 3 | usize::from(c) >> 5;
        self.remaining =
            bytes.checked_sub(self.header.len()).ok_or("an AAC frame is shorter than its header")?;
        self.frames += 1;
        self.filled = 0;
        Ok(())
    }

    fn is_inside(&self) -> bool {
        self.remaining > 0 || self.filled > 0
    }
}
