//! Transport packets (ISO/IEC 13818-1, 2.4.3.2): PES packets cut into pieces of 188 bytes.
//!
//! What enters: a PES packet as one piece of memory, and what its transport packets shall say of it.
//! What leaves: packets, appended to the output. Each byte is copied once, nothing is allocated.
//! What a PES packet holds, and when it comes, is decided elsewhere.
//!
//! The last PES packet of a PID in a segment is spread over up to 15 packets more than it needs, so
//! that their number becomes a multiple of 16. The payload of a transport packet counts the PES header
//! too, so 16 bytes of PES packet are always enough, and no other PES packet has to be touched. Only
//! when there are fewer than 16 bytes behind the header is the header itself torn, which is allowed
//! and which no encoder's output leads to.

/// Length of a transport packet.
pub(super) const PACKET_BYTES: usize = 188;
/// What remains behind the header of four bytes.
const BODY_BYTES: usize = PACKET_BYTES - 4;
/// Continuity counters count modulo this.
pub(super) const COUNTER_MODULUS: u64 = 16;
/// Shortest PES packet that can be spread over [`COUNTER_MODULUS`] packets of at least one byte.
pub(super) const MIN_SPREAD_BYTES: usize = 16;

const SYNC: u8 = 0x47;
const STUFFING: [u8; BODY_BYTES] = [0xFF; BODY_BYTES];
const FLAG_RANDOM_ACCESS: u8 = 0x40;
const FLAG_PCR: u8 = 0x10;

/// The clock references that one PES packet brings along: one in its first transport packet, and
/// more inside when the next PES packet is further away than clock references may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    /// Value in the first packet, ticks of 90 kHz.
    pub start_90k: i64,
    /// Distance to the first value of the next PES packet on this PID.
    pub gap_90k: i64,
    /// How many equal steps the gap is divided into.
    pub steps: i64,
    /// How many of the values in between may stand in this PES packet; at most `steps − 1`.
    pub inner: usize,
}

impl Clock {
    fn value_90k(&self, step: usize) -> i64 {
        let part = i128::from(self.gap_90k) * step as i128 / i128::from(self.steps.max(1));
        self.start_90k.saturating_add(part as i64)
    }
}

/// What the transport packets say of the PES packet in them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Marks {
    /// A decoder can start here.
    pub random_access: bool,
    /// The clock, on the PID that carries it.
    pub clock: Option<Clock>,
    /// The last PES packet of its PID in the segment: fill up to a multiple of 16.
    pub last: bool,
    /// Length of the PES header, which should not be torn.
    pub header_bytes: usize,
}

/// The content of an adaptation field (2.4.3.4) without its stuffing.
#[derive(Clone, Copy, Debug, Default)]
struct Field {
    random_access: bool,
    pcr_90k: Option<i64>,
}

impl Field {
    /// Bytes with length and flags; 0 when there is nothing to say.
    fn bytes(self) -> usize {
        match (self.pcr_90k, self.random_access) {
            (Some(_), _) => 8,
            (None, true) => 2,
            (None, false) => 0,
        }
    }
}

/// How a PES packet is cut.
struct Layout {
    packets: usize,
    /// Values of the clock behind the first.
    inner_clocks: usize,
    /// More packets than needed: distribute evenly instead of filling up.
    spread: bool,
    /// Room for payload in all the packets.
    capacity: usize,
}

/// One PID within one segment.
#[derive(Debug)]
pub(super) struct PidWriter {
    pid: u16,
    /// Packets with payload so far; the lowest four bits are the next continuity counter.
    sent: u64,
}

impl PidWriter {
    pub(super) fn new(pid: u16) -> Self {
        Self { pid, sent: 0 }
    }

    /// Appends `pes`. Returns the last value of the clock that was written, if there was one.
    pub(super) fn write(&mut self, pes: &[u8], marks: &Marks, out: &mut Vec<u8>) -> Option<i64> {
        let layout = self.layout(pes.len(), marks);
        let mut capacity = layout.capacity;
        let mut rest = pes;
        let mut clocks = 0;
        let mut last_pcr = None;
        for at in 0..layout.packets {
            let field = field_at(at, &mut clocks, &layout, marks);
            last_pcr = field.pcr_90k.or(last_pcr);
            let room = BODY_BYTES - field.bytes();
            capacity = capacity.saturating_sub(room);
            let later = layout.packets - at - 1;
            let mut take = room;
            if layout.spread {
                let even = rest.len().div_ceil(later + 1).max(rest.len().saturating_sub(capacity));
                take = if at == 0 { even.max(marks.header_bytes + 1) } else { even };
            }
            // No packet stays without payload: it would not count.
            let take = take.min(room).min(rest.len().saturating_sub(later));
            let (payload, remaining) = rest.split_at(take);
            put_packet(self.pid, at == 0, self.sent, field, payload, out);
            self.sent += 1;
            rest = remaining;
        }
        last_pcr
    }

    /// Appends a packet that carries nothing but the clock; it does not advance the counter (2.4.3.3).
    pub(super) fn write_clock(&self, pcr_90k: i64, out: &mut Vec<u8>) {
        let field = Field { random_access: false, pcr_90k: Some(pcr_90k) };
        put_packet(self.pid, false, self.sent.wrapping_sub(1), field, &[], out);
    }

    fn layout(&self, pes_bytes: usize, marks: &Marks) -> Layout {
        let first = Field { random_access: marks.random_access, pcr_90k: marks.clock.map(|c| c.start_90k) };
        let bytes = pes_bytes + first.bytes();
        // At most one value of the clock in each packet behind the first.
        let inner_clocks =
            marks.clock.map_or(0, |c| c.inner).min(bytes.div_ceil(BODY_BYTES).saturating_sub(1));
        let fields = first.bytes() + 8 * inner_clocks;
        let needed = (pes_bytes + fields).div_ceil(BODY_BYTES) as u64;
        let total = self.sent + needed;
        let padding = if marks.last { total.next_multiple_of(COUNTER_MODULUS) - total } else { 0 };
        let packets = (needed + padding) as usize;
        Layout { packets, inner_clocks, spread: padding > 0, capacity: packets * BODY_BYTES - fields }
    }
}

/// The adaptation field of packet `at`; counts in `clocks` the values behind the first that are out.
fn field_at(at: usize, clocks: &mut usize, layout: &Layout, marks: &Marks) -> Field {
    if at == 0 {
        return Field { random_access: marks.random_access, pcr_90k: marks.clock.map(|c| c.start_90k) };
    }
    let next = *clocks + 1;
    match marks.clock {
        // Evenly over the packets, as the values are over the time.
        Some(clock)
            if next <= layout.inner_clocks && at == next * layout.packets / (layout.inner_clocks + 1) =>
        {
            *clocks = next;
            Field { random_access: false, pcr_90k: Some(clock.value_90k(next)) }
        }
        _ => Field::default(),
    }
}

/// Appends one packet; what `payload` and `field` leave over becomes stuffing in the field.
fn put_packet(pid: u16, start: bool, counter: u64, field: Field, payload: &[u8], out: &mut Vec<u8>) {
    let field_bytes = BODY_BYTES.saturating_sub(payload.len());
    let control = u8::from(field_bytes > 0) << 5 | u8::from(!payload.is_empty()) << 4;
    let [pid_high, pid_low] = pid.to_be_bytes();
    let counter = (counter % COUNTER_MODULUS) as u8;
    out.extend_from_slice(&[SYNC, u8::from(start) << 6 | pid_high & 0x1F, pid_low, control | counter]);
    if field_bytes > 0 {
        put_field(field, field_bytes, out);
    }
    out.extend_from_slice(payload);
}

/// Appends an adaptation field of `total` ≥ 1 bytes.
fn put_field(field: Field, total: usize, out: &mut Vec<u8>) {
    // The length byte does not count itself and is at most 183.
    out.push((total - 1) as u8);
    if total == 1 {
        return;
    }
    let random_access = if field.random_access { FLAG_RANDOM_ACCESS } else { 0 };
    match field.pcr_90k {
        Some(pcr_90k) => {
            out.push(random_access | FLAG_PCR);
            out.extend_from_slice(&encode_pcr(pcr_90k));
        }
        None => out.push(random_access),
    }
    let written = field.bytes().max(2);
    out.extend_from_slice(STUFFING.get(..total.saturating_sub(written)).unwrap_or_default());
}

/// 33 bits of `program_clock_reference_base`, 6 reserved, 9 of extension, which is 0 (2.4.3.5).
fn encode_pcr(pcr_90k: i64) -> [u8; 6] {
    let base = (pcr_90k as u64) & ((1 << 33) - 1);
    let [.., a, b, c, d, e, f] = (base << 15 | 0x3F << 9).to_be_bytes();
    [a, b, c, d, e, f]
}
