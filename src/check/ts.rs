//! A reader of MPEG transport stream segments (ISO/IEC 13818-1) that tells what breaks the rules.
//!
//! What enters: the bytes of one segment, and the continuity counters as the segment before left them.
//! What leaves: the program's tables, the PES packets of each stream, the clock, and the breaches that
//! show in one segment alone. It shares nothing with the writer in `container`.

use super::bytes::{Bytes, crc32_mpeg};
use super::report::Row;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

/// Length of a transport packet.
pub(super) const PACKET_BYTES: usize = 188;
const SYNC: u8 = 0x47;
const PID_NULL: u16 = 0x1FFF;
/// PIDs up to here carry tables that say nothing about the program (2.4.3.3, EN 300 468).
const LAST_TABLE_PID: u16 = 0x1F;
const NO_CLOCK: &str = "a PCR on PID";

/// The last continuity counter of each PID.
#[derive(Clone, Debug, Default)]
pub(super) struct Counters(BTreeMap<u16, Counter>);

#[derive(Clone, Copy, Debug)]
struct Counter {
    last: u8,
    /// Of the last payload, while one more packet with it may come: not in the next segment.
    may_repeat: Option<u64>,
}

/// A breach: which row, and what.
pub(super) type Fault = (Row, String);

/// One entry of the program map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stream {
    pub(super) pid: u16,
    pub(super) stream_type: u8,
    /// ISO_639_language_descriptor (2.6.18) there.
    pub(super) has_language: bool,
    /// `format_identifier` of a registration descriptor (2.6.8).
    pub(super) registration: Option<[u8; 4]>,
}

/// The program map (2.4.4.8).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Program {
    pub(super) pcr_pid: u16,
    pub(super) streams: Vec<Stream>,
}

/// One PES packet.
#[derive(Clone, Debug, Default)]
pub(super) struct Pes {
    /// Raw, 33 bits.
    pub(super) pts: Option<i64>,
    /// Raw, 33 bits; the PTS where none is sent.
    pub(super) dts: Option<i64>,
    /// `random_access_indicator` of its first packet.
    pub(super) random_access: bool,
    /// The transport packet that it begins in.
    pub(super) packet: usize,
    /// What follows the header.
    pub(super) data: Vec<u8>,
}

/// A clock reference.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pcr {
    /// 33 bits of 90 kHz.
    pub(super) base: i64,
    /// The transport packet that carries it.
    pub(super) packet: usize,
}

/// What a segment holds.
#[derive(Debug, Default)]
pub(super) struct Segment {
    pub(super) packets: usize,
    pub(super) program: Option<Program>,
    pub(super) pes: BTreeMap<u16, Vec<Pes>>,
    pub(super) pcrs: Vec<Pcr>,
    pub(super) faults: Vec<Fault>,
    pmt_pid: Option<u16>,
    sections: BTreeMap<u16, Vec<u8>>,
}

struct Packet<'a> {
    pid: u16,
    unit_start: bool,
    counter: u8,
    random_access: bool,
    discontinuity: bool,
    pcr: Option<i64>,
    payload: Option<&'a [u8]>,
}

/// Reads a segment. `counters` are updated.
pub(super) fn read(bytes: &[u8], counters: &mut Counters) -> Segment {
    let mut segment = Segment::default();
    counters.0.values_mut().for_each(|counter| counter.may_repeat = None);
    let (packets, rest) = bytes.as_chunks::<PACKET_BYTES>();
    if !rest.is_empty() || packets.is_empty() {
        let detail = format!("{} bytes are not a multiple of {PACKET_BYTES}", bytes.len());
        segment.faults.push((Row::T1, detail));
    }
    for (at, packet) in packets.iter().enumerate() {
        match Packet::parse(packet) {
            Ok(packet) => segment.take(at, &packet, counters),
            Err(what) => segment.fault(Row::T1, format!("packet {at}: {what}")),
        }
    }
    segment.packets = packets.len();
    if segment.program.is_none() {
        segment.fault(Row::T2, "no program association and program map tables");
    }
    segment
}

impl<'a> Packet<'a> {
    fn parse(bytes: &'a [u8; PACKET_BYTES]) -> Result<Self, String> {
        let mut bytes = Bytes(bytes);
        let head = bytes.u32().unwrap_or(0);
        if head >> 24 != u32::from(SYNC) {
            return Err(format!("begins with {:#04x} instead of {SYNC:#04x}", head >> 24));
        }
        if head & 0x0080_0000 != 0 {
            return Err("is marked as damaged (transport_error_indicator)".into());
        }
        if head & 0xC0 != 0 {
            return Err("is scrambled".into());
        }
        let mut packet = Self {
            pid: (head >> 8 & 0x1FFF) as u16,
            unit_start: head & 0x0040_0000 != 0,
            counter: (head & 0x0F) as u8,
            random_access: false,
            discontinuity: false,
            pcr: None,
            payload: None,
        };
        if head & 0x20 != 0 {
            let length = usize::from(bytes.u8().unwrap_or(0));
            let field = bytes.take(length).ok_or("its adaptation field is longer than the packet")?;
            packet.adaptation(field);
        }
        packet.payload = (head & 0x10 != 0).then_some(bytes.0);
        Ok(packet)
    }

    fn adaptation(&mut self, field: &[u8]) {
        let mut field = Bytes(field);
        let flags = field.u8().unwrap_or(0);
        self.discontinuity = flags & 0x80 != 0;
        self.random_access = flags & 0x40 != 0;
        if flags & 0x10 != 0 {
            self.pcr = field.uint(6).map(|pcr| (pcr >> 15) as i64);
        }
    }
}

impl Segment {
    fn fault(&mut self, row: Row, what: impl Into<String>) {
        /// A segment that is broken everywhere is broken; nobody reads a thousand lines about it.
        const MOST: usize = 64;
        if self.faults.len() < MOST {
            self.faults.push((row, what.into()));
        }
    }

    fn take(&mut self, at: usize, packet: &Packet<'_>, counters: &mut Counters) {
        if packet.pid == PID_NULL {
            return;
        }
        if packet.discontinuity {
            self.fault(Row::T6, format!("packet {at} on PID {} announces a discontinuity", packet.pid));
        }
        let is_double = self.count(at, packet, counters);
        if let Some(base) = packet.pcr {
            self.clock(at, packet.pid, base);
        }
        let Some(payload) = packet.payload.filter(|_| !is_double) else { return };
        if packet.pid == 0 || Some(packet.pid) == self.pmt_pid {
            self.table(packet.pid, packet.unit_start, payload);
        } else if packet.pid > LAST_TABLE_PID {
            self.media(at, packet, payload);
        }
    }

    /// 2.4.3.3: up by one with each payload; a packet may come twice. Whether this is the second.
    fn count(&mut self, at: usize, packet: &Packet<'_>, counters: &mut Counters) -> bool {
        let print = packet.payload.map(fingerprint);
        let Some(counter) = counters.0.get_mut(&packet.pid) else {
            if print.is_some() {
                counters.0.insert(packet.pid, Counter { last: packet.counter, may_repeat: print });
            }
            return false;
        };
        let expected = (counter.last + u8::from(print.is_some())) % 16;
        let is_double = print.is_some() && packet.counter == counter.last && print == counter.may_repeat;
        let right = packet.counter == expected || is_double;
        let may_repeat = if is_double { None } else { print.or(counter.may_repeat) };
        *counter = Counter { last: packet.counter, may_repeat };
        if !right {
            let what = format!(
                "packet {at}: the counter of PID {} is {} instead of {expected}",
                packet.pid, packet.counter
            );
            self.fault(Row::T6, what);
        }
        is_double
    }

    fn clock(&mut self, at: usize, pid: u16, base: i64) {
        match &self.program {
            Some(program) if program.pcr_pid == pid => self.pcrs.push(Pcr { base, packet: at }),
            Some(_) => {}
            None => self.fault(Row::T4, format!("{NO_CLOCK} {pid} stands before the program map")),
        }
    }

    /// Gathers a section (2.4.4), which may be spread over packets.
    fn table(&mut self, pid: u16, unit_start: bool, payload: &[u8]) {
        let mut payload = payload;
        let section = self.sections.entry(pid).or_default();
        if unit_start {
            let skip = 1 + usize::from(payload.first().copied().unwrap_or(0));
            payload = payload.get(skip..).unwrap_or_default();
            section.clear();
        }
        section.extend_from_slice(payload);
        let length = Bytes(section.get(1..).unwrap_or_default()).u16().map_or(0, |l| usize::from(l & 0xFFF));
        let Some(whole) = section.get(..3 + length).filter(|_| length > 0).map(<[u8]>::to_vec) else {
            return;
        };
        section.clear();
        let table = if pid == 0 { "program association table" } else { "program map table" };
        if crc32_mpeg(&whole) != 0 {
            return self.fault(Row::T2, format!("the checksum of the {table} is wrong"));
        }
        let read = if pid == 0 { self.association(&whole) } else { self.map(&whole) };
        if read.is_none() {
            self.fault(Row::T2, format!("the {table} cannot be read"));
        }
    }

    fn association(&mut self, section: &[u8]) -> Option<()> {
        let mut entries = Bytes(section.get(8..section.len().checked_sub(4)?)?);
        let mut programs = Vec::new();
        while !entries.0.is_empty() {
            let (number, pid) = (entries.u16()?, entries.u16()? & 0x1FFF);
            // Number 0 names the network table.
            programs.extend((number != 0).then_some(pid));
        }
        if programs.len() != 1 {
            self.fault(Row::T1, format!("{} programs instead of one", programs.len()));
        }
        self.pmt_pid = programs.first().copied();
        Some(())
    }

    fn map(&mut self, section: &[u8]) -> Option<()> {
        let mut bytes = Bytes(section.get(8..section.len().checked_sub(4)?)?);
        let mut program = Program { pcr_pid: bytes.u16()? & 0x1FFF, streams: Vec::new() };
        let info = bytes.u16()? & 0xFFF;
        bytes.take(usize::from(info))?;
        while !bytes.0.is_empty() {
            let stream_type = bytes.u8()?;
            let pid = bytes.u16()? & 0x1FFF;
            let length = bytes.u16()? & 0xFFF;
            let descriptors = bytes.take(usize::from(length))?;
            program.streams.push(stream(pid, stream_type, descriptors));
        }
        if self.program.as_ref().is_some_and(|before| *before != program) {
            self.fault(Row::J5, "the program map changes within the segment");
        }
        self.program = Some(program);
        Some(())
    }

    fn media(&mut self, at: usize, packet: &Packet<'_>, payload: &[u8]) {
        let pid = packet.pid;
        match &self.program {
            None => return self.fault(Row::T2, format!("packet {at} on PID {pid} stands before the tables")),
            Some(program) if program.streams.iter().all(|stream| stream.pid != pid) => {
                return self.fault(Row::T1, format!("packet {at} is on PID {pid}, which no table names"));
            }
            Some(_) => {}
        }
        if packet.unit_start {
            match pes(payload) {
                Some(mut pes) => {
                    pes.random_access = packet.random_access;
                    pes.packet = at;
                    self.pes.entry(pid).or_default().push(pes);
                }
                None => self
                    .fault(Row::T5, format!("packet {at} on PID {pid} has no PES header that can be read")),
            }
        } else if let Some(last) = self.pes.get_mut(&pid).and_then(|all| all.last_mut()) {
            last.data.extend_from_slice(payload);
        } else {
            self.fault(Row::T3, format!("packet {at}: PID {pid} begins in the middle of a PES packet"));
        }
    }
}

fn fingerprint(payload: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    payload.hash(&mut hasher);
    hasher.finish()
}

fn stream(pid: u16, stream_type: u8, descriptors: &[u8]) -> Stream {
    let mut stream = Stream { pid, stream_type, has_language: false, registration: None };
    let mut bytes = Bytes(descriptors);
    while let (Some(tag), Some(length)) = (bytes.u8(), bytes.u8()) {
        let Some(body) = bytes.take(usize::from(length)) else { break };
        match tag {
            5 => stream.registration = Bytes(body).fourcc(),
            10 => stream.has_language = body.len() >= 4,
            _ => {}
        }
    }
    stream
}

/// A PES header with its times (2.4.3.6), and the data behind it in this packet.
fn pes(payload: &[u8]) -> Option<Pes> {
    let mut bytes = Bytes(payload);
    if bytes.uint(3)? != 1 {
        return None;
    }
    bytes.take(4)?;
    let flags = bytes.u8()?;
    let length = bytes.u8()?;
    let mut fields = Bytes(bytes.take(usize::from(length))?);
    let mut time = || {
        let t = fields.uint(5)? as i64;
        Some((t >> 33 & 7) << 30 | (t >> 17 & 0x7FFF) << 15 | t >> 1 & 0x7FFF)
    };
    let pts = if flags & 0x80 != 0 { Some(time()?) } else { None };
    let dts = if flags & 0x40 != 0 { Some(time()?) } else { pts };
    Some(Pes { pts, dts, data: bytes.0.to_vec(), ..Pes::default() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn packet(pid: u16, start: bool, counter: u8, payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![SYNC, u8::from(start) << 6 | (pid >> 8) as u8, pid as u8, 0x30 | counter];
        let stuffing = PACKET_BYTES - 5 - payload.len();
        packet.push(stuffing as u8);
        packet.extend((0..stuffing).map(|n| if n == 0 { 0 } else { 0xFF }));
        packet.extend(payload);
        packet
    }

    fn section(table: u8, body: &[u8]) -> Vec<u8> {
        let length = 0xB000 | (5 + body.len() + 4) as u16;
        let mut section = vec![0, table];
        section.extend(length.to_be_bytes());
        section.extend([0, 1, 0xC1, 0, 0]);
        section.extend(body);
        let crc = crc32_mpeg(&section[1..]);
        section.extend(crc.to_be_bytes());
        section
    }

    fn tables(counter: u8) -> Vec<u8> {
        let pat = section(0, &[0, 1, 0xE1, 0]);
        let language = [10, 4, b'e', b'n', b'g', 0];
        let map = [&[0xE1, 1, 0xF0, 0, 0x0F, 0xE1, 1, 0xF0, 6][..], &language].concat();
        [packet(0, true, counter, &pat), packet(0x100, true, counter, &section(2, &map))].concat()
    }

    const PES: [u8; 16] = [0, 0, 1, 0xC0, 0, 0, 0x80, 0x80, 5, 0x21, 0x00, 0x37, 0x77, 0x41, 0xFF, 0xF1];

    fn rows(segment: &Segment) -> Vec<Row> {
        segment.faults.iter().map(|(row, _)| *row).collect()
    }

    #[test]
    fn tables_and_a_pes_packet() {
        let mut counters = Counters::default();
        let bytes = [tables(0), packet(0x101, true, 0, &PES)].concat();
        let segment = read(&bytes, &mut counters);
        assert_eq!(rows(&segment), []);
        let stream = &segment.program.as_ref().unwrap().streams[0];
        assert_eq!((stream.pid, stream.stream_type, stream.has_language), (0x101, 0x0F, true));
        let pes = &segment.pes[&0x101][0];
        assert_eq!((pes.pts, pes.dts), (Some(900_000), Some(900_000)));
        assert_eq!(pes.data, [0xFF, 0xF1]);
    }

    #[test]
    fn counters_run_on_from_segment_to_segment() {
        let mut counters = Counters::default();
        let segment = |table, media| [tables(table), packet(0x101, true, media, &PES)].concat();
        assert_eq!(rows(&read(&segment(0, 0), &mut counters)), []);
        assert_eq!(rows(&read(&segment(1, 1), &mut counters)), []);
        assert_eq!(rows(&read(&segment(2, 3), &mut counters)), [Row::T6], "one is lost");
        let double = [segment(3, 4), packet(0x101, true, 4, &PES)].concat();
        let segment_with_double = read(&double, &mut counters);
        assert_eq!(rows(&segment_with_double), [], "one packet may come twice");
        assert_eq!(segment_with_double.pes[&0x101].len(), 1);
        let triple = [segment(4, 5), packet(0x101, true, 5, &PES), packet(0x101, true, 5, &PES)].concat();
        assert_eq!(rows(&read(&triple, &mut counters)), [Row::T6]);
        assert_eq!(rows(&read(&segment(4, 6), &mut counters)), [Row::T6; 2], "not over a joint");
    }

    #[test]
    fn media_before_the_tables_and_bad_checksums() {
        let bytes = [packet(0x101, true, 0, &PES), tables(0)].concat();
        assert_eq!(rows(&read(&bytes, &mut Counters::default())), [Row::T2]);
        let mut bytes = tables(0);
        bytes[PACKET_BYTES - 1] ^= 1;
        assert!(rows(&read(&bytes, &mut Counters::default())).contains(&Row::T2));
        assert!(rows(&read(&bytes[1..], &mut Counters::default())).contains(&Row::T1));
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(data in prop::collection::vec(any::<u8>(), 0..800), spots in prop::collection::vec((0usize..564, any::<u8>()), 0..12)) {
            let mut counters = Counters::default();
            let _ = read(&data, &mut counters);
            let mut bytes = [tables(0), packet(0x101, true, 0, &PES)].concat();
            for (at, value) in spots {
                bytes[at] = value;
            }
            let _ = read(&bytes, &mut counters);
        }
    }
}
