//! PES packet headers (ISO/IEC 13818-1, 2.4.3.6).
//!
//! What enters: times on the 90 kHz clock and the kind of stream. What leaves: header bytes.

/// `stream_id` of the picture.
pub(super) const STREAM_ID_VIDEO: u8 = 0xE0;
/// `stream_id` of AAC and MP3.
pub(super) const STREAM_ID_AUDIO: u8 = 0xC0;
/// `stream_id` of AC-3 and E-AC-3 (`private_stream_1`, ATSC A/52 annex A).
pub(super) const STREAM_ID_PRIVATE_1: u8 = 0xBD;

/// Length of a header with a PTS and no stuffing.
pub(super) const HEADER_WITH_PTS_BYTES: usize = 14;

/// Longest payload of a PES packet that states its length, behind a header with stuffing.
pub(super) const MAX_STATED_BYTES: usize = 65_000;

/// `marker_bits` 10 and `data_alignment_indicator`: the payload begins with an access unit.
const FLAGS_ALIGNED: u8 = 0x84;

/// What a PES header says.
#[derive(Clone, Copy, Debug)]
pub(super) struct PesHeader {
    pub stream_id: u8,
    /// Presentation time on the 90 kHz clock, not yet cut to 33 bits.
    pub pts_90k: i64,
    /// Decoding time likewise. Written only when it is another one.
    pub dts_90k: i64,
    /// Bytes behind the header; `None` leaves the length open, which only video may.
    pub payload_bytes: Option<usize>,
    /// Stuffing bytes at the end of the header.
    pub stuffing: u8,
}

impl PesHeader {
    /// Appends the header. Returns its length.
    pub(super) fn put(&self, out: &mut Vec<u8>) -> usize {
        let start = out.len();
        let with_dts = self.dts_90k != self.pts_90k;
        let data_bytes = if with_dts { 10 } else { 5 } + self.stuffing;
        let length = self.payload_bytes.map_or(0, |bytes| 3 + usize::from(data_bytes) + bytes);
        // Callers keep audio below MAX_STATED_BYTES.
        let [high, low] = u16::try_from(length).unwrap_or(0).to_be_bytes();
        out.extend_from_slice(&[0, 0, 1, self.stream_id, high, low, FLAGS_ALIGNED]);
        out.extend_from_slice(&[if with_dts { 0xC0 } else { 0x80 }, data_bytes]);
        out.extend_from_slice(&encode_time(if with_dts { 3 } else { 2 }, self.pts_90k));
        if with_dts {
            out.extend_from_slice(&encode_time(1, self.dts_90k));
        }
        out.extend(std::iter::repeat_n(0xFF, usize::from(self.stuffing)));
        out.len() - start
    }
}

/// 33 bits in three groups, each before a marker bit, behind a prefix of four bits.
fn encode_time(prefix: u8, time_90k: i64) -> [u8; 5] {
    let t = time_90k as u64;
    [
        prefix << 4 | (t >> 29 & 0x0E) as u8 | 1,
        (t >> 22) as u8,
        (t >> 14) as u8 | 1,
        (t >> 7) as u8,
        (t << 1) as u8 | 1,
    ]
}
