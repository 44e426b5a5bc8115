//! A small reader of transport streams for tests: it asserts the syntax and hands out the rest.
//!
//! Written from ISO/IEC 13818-1 and independent of the writer, so that both would have to be wrong in
//! the same way.

/// One transport packet.
#[derive(Clone, Debug)]
pub struct TsPacket {
    pub pid: u16,
    pub unit_start: bool,
    pub counter: u8,
    pub random_access: bool,
    /// 27 MHz.
    pub pcr: Option<i64>,
    pub payload: Option<Vec<u8>>,
}

/// Cuts `data` into packets.
pub fn parse(data: &[u8]) -> Vec<TsPacket> {
    assert_eq!(data.len() % 188, 0, "length in whole packets");
    data.chunks(188).map(parse_packet).collect()
}

fn parse_packet(p: &[u8]) -> TsPacket {
    assert_eq!(p[0], 0x47, "sync byte");
    assert_eq!(p[1] & 0x80, 0, "transport_error_indicator");
    assert_eq!(p[3] >> 6, 0, "scrambling");
    let control = p[3] >> 4 & 3;
    assert_ne!(control, 0, "reserved adaptation_field_control");
    let mut packet = TsPacket {
        pid: u16::from_be_bytes([p[1] & 0x1F, p[2]]),
        unit_start: p[1] & 0x40 != 0,
        counter: p[3] & 15,
        random_access: false,
        pcr: None,
        payload: None,
    };
    let mut body = &p[4..];
    if control & 2 != 0 {
        let length = usize::from(body[0]);
        assert!(if control == 2 { length == 183 } else { length <= 182 }, "adaptation_field_length {length}");
        parse_field(&body[1..1 + length], &mut packet);
        body = &body[1 + length..];
    }
    packet.payload = (control & 1 != 0).then(|| body.to_vec());
    packet
}

fn parse_field(field: &[u8], packet: &mut TsPacket) {
    let Some((&flags, mut rest)) = field.split_first() else { return };
    assert_eq!(flags & !0x50, 0, "only random access and PCR are used");
    packet.random_access = flags & 0x40 != 0;
    if flags & 0x10 != 0 {
        let base = (0..33).fold(0i64, |v, bit| v << 1 | i64::from(rest[bit / 8] >> (7 - bit % 8) & 1));
        let extension = i64::from(rest[4] & 1) << 8 | i64::from(rest[5]);
        assert_eq!(rest[4] & 0x7E, 0x7E, "reserved bits");
        packet.pcr = Some(base * 300 + extension);
        rest = &rest[6..];
    }
    assert!(rest.iter().all(|&b| b == 0xFF), "stuffing");
}

/// What is wrong with the continuity counters (2.4.3.3), in words.
pub fn continuity_errors(packets: &[TsPacket]) -> Vec<String> {
    let mut last = std::collections::HashMap::new();
    let mut errors = Vec::new();
    for (at, packet) in packets.iter().enumerate() {
        if let Some(&before) = last.get(&packet.pid) {
            let wanted = if packet.payload.is_some() { (before + 1) & 15 } else { before };
            if packet.counter != wanted {
                errors.push(format!("packet {at} pid {:#x}: {} after {before}", packet.pid, packet.counter));
            }
        }
        last.insert(packet.pid, packet.counter);
    }
    errors
}

/// Number of packets with payload on a PID.
pub fn payload_packets(packets: &[TsPacket], pid: u16) -> usize {
    packets.iter().filter(|p| p.pid == pid && p.payload.is_some()).count()
}

/// One PES packet.
#[derive(Clone, Debug)]
pub struct Pes {
    pub pid: u16,
    pub stream_id: u8,
    pub pts: i64,
    pub dts: Option<i64>,
    pub aligned: bool,
    /// `PES_packet_length`.
    pub stated_bytes: usize,
    pub payload: Vec<u8>,
    pub random_access: bool,
    /// Its first transport packet.
    pub at: usize,
    /// Whether that packet holds the whole header.
    pub header_whole: bool,
}

impl Pes {
    pub fn decode_time(&self) -> i64 {
        self.dts.unwrap_or(self.pts)
    }
}

/// The PES packets on the PIDs from 0x20 to 0xFFF, in the order in which they begin.
pub fn pes_packets(packets: &[TsPacket]) -> Vec<Pes> {
    let starts = packets.iter().enumerate().filter(|(_, p)| p.unit_start && (0x20..0x1000).contains(&p.pid));
    starts.map(|(at, first)| parse_pes(&collect(packets, at), first, at)).collect()
}

/// All the bytes from packet `at` to the next start on its PID.
fn collect(packets: &[TsPacket], at: usize) -> Vec<u8> {
    let mut bytes = packets[at].payload.clone().expect("a start has payload");
    for packet in packets[at + 1..].iter().filter(|p| p.pid == packets[at].pid) {
        if packet.unit_start {
            break;
        }
        bytes.extend(packet.payload.iter().flatten());
    }
    bytes
}

fn parse_pes(bytes: &[u8], first: &TsPacket, at: usize) -> Pes {
    assert_eq!(bytes[..3], [0, 0, 1], "packet_start_code_prefix");
    assert_eq!(bytes[6] & 0xFB, 0x80, "marker, no scrambling, priority, copyright");
    assert_eq!(bytes[7] & 0x3F, 0, "nothing but PTS and DTS");
    let header_bytes = 9 + usize::from(bytes[8]);
    let stated_bytes = usize::from(u16::from_be_bytes([bytes[4], bytes[5]]));
    if stated_bytes != 0 {
        assert_eq!(stated_bytes + 6, bytes.len(), "PES_packet_length");
    }
    let with_dts = bytes[7] >> 6 == 3;
    Pes {
        pid: first.pid,
        stream_id: bytes[3],
        pts: parse_time(&bytes[9..14], if with_dts { 3 } else { 2 }),
        dts: with_dts.then(|| parse_time(&bytes[14..19], 1)),
        aligned: bytes[6] & 4 != 0,
        stated_bytes,
        payload: bytes[header_bytes..].to_vec(),
        random_access: first.random_access,
        at,
        header_whole: first.payload.as_ref().is_some_and(|p| p.len() > header_bytes),
    }
}

fn parse_time(b: &[u8], prefix: u8) -> i64 {
    assert_eq!((b[0] >> 4, b[0] & 1, b[2] & 1, b[4] & 1), (prefix, 1, 1, 1), "marker bits");
    let part = |byte: u8, shift: u32| i64::from(byte) << shift;
    part(b[0] >> 1 & 7, 30) | part(b[1], 22) | part(b[2] >> 1, 15) | part(b[3], 7) | part(b[4] >> 1, 0)
}

/// What PAT and PMT say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    pub pmt_pid: u16,
    pub pcr_pid: u16,
    /// `stream_type`, PID, descriptors.
    pub streams: Vec<(u8, u16, Vec<u8>)>,
}

/// Reads the first two packets, which must be the tables.
pub fn program(packets: &[TsPacket]) -> Program {
    let pat = section(&packets[0], 0, 0);
    assert_eq!(pat.len(), 4, "one program");
    let pmt_pid = u16::from_be_bytes([pat[2] & 0x1F, pat[3]]);
    let pmt = section(&packets[1], pmt_pid, 2);
    assert_eq!(pmt[2..4], [0xF0, 0], "no program descriptors");
    let mut streams = Vec::new();
    let mut rest = &pmt[4..];
    while !rest.is_empty() {
        let length = usize::from(u16::from_be_bytes([rest[3] & 0x0F, rest[4]]));
        streams.push((rest[0], u16::from_be_bytes([rest[1] & 0x1F, rest[2]]), rest[5..5 + length].to_vec()));
        rest = &rest[5 + length..];
    }
    Program { pmt_pid, pcr_pid: u16::from_be_bytes([pmt[0] & 0x1F, pmt[1]]), streams }
}

/// The body of the section in a packet, its checksum proven.
fn section(packet: &TsPacket, pid: u16, table_id: u8) -> Vec<u8> {
    let payload = packet.payload.as_ref().expect("tables have payload");
    assert_eq!((packet.pid, packet.unit_start, payload[0], payload[1]), (pid, true, 0, table_id));
    let length = usize::from(u16::from_be_bytes([payload[2] & 0x0F, payload[3]]));
    let (section, rest) = payload[1..].split_at(3 + length);
    assert!(rest.iter().all(|&b| b == 0xFF));
    assert_eq!(crc_remainder(section), 0, "CRC_32");
    section[8..section.len() - 4].to_vec()
}

/// Long division, bit by bit; nought for a section with a right checksum.
fn crc_remainder(data: &[u8]) -> u32 {
    let mut register = u32::MAX;
    for bit in data.iter().flat_map(|byte| (0..8).rev().map(move |n| byte >> n & 1 == 1)) {
        let feedback = (register >> 31 == 1) != bit;
        register = register << 1 ^ if feedback { 0x04C1_1DB7 } else { 0 };
    }
    register
}

/// Asserts what must hold of the clock over one segment or several in a row: it never stands still or
/// goes back, its values (90 kHz) are at most `max_gap` apart, and each PES packet begins less than a
/// second before its decoding time and not after it.
pub fn assert_clock(packets: &[TsPacket], pcr_pid: u16, max_gap: i64) {
    let pes = pes_packets(packets);
    let mut pes = pes.iter().peekable();
    let mut last: Option<i64> = None;
    for (at, packet) in packets.iter().enumerate() {
        if let Some(pcr) = packet.pcr {
            assert_eq!((packet.pid, pcr % 300), (pcr_pid, 0));
            let gap = last.map_or(1, |last| pcr / 300 - last);
            assert!((1..=max_gap).contains(&gap), "packet {at}: {gap} ticks after the clock before");
            last = Some(pcr / 300);
        }
        if let Some(start) = pes.next_if(|pes| pes.at == at) {
            let ahead = start.decode_time() - last.expect("the clock comes first");
            assert!((0..90_000).contains(&ahead), "packet {at}: {ahead} ticks before decoding");
        }
    }
    assert!(last.is_some());
}
