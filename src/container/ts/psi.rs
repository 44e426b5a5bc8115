//! Program association and program map tables (ISO/IEC 13818-1, 2.4.4).
//!
//! What enters: the codecs of a rendition and the language of its sound. What leaves: two packets,
//! the same for each segment but for the continuity counter. There is no service description table:
//! HLS has no services, and one table less is one counter less.

use super::packet::{COUNTER_MODULUS, PACKET_BYTES};
use super::{AUDIO_PID, PMT_PID, VIDEO_PID};
use crate::model::track::{AudioCodec, VideoCodec};

const PROGRAM_NUMBER: u16 = 1;
const TABLE_PAT: u8 = 0;
const TABLE_PMT: u8 = 2;
const DESCRIPTOR_REGISTRATION: u8 = 5;
const DESCRIPTOR_LANGUAGE: u8 = 10;

type Packet = [u8; PACKET_BYTES];

/// The two packets that each segment starts with.
#[derive(Clone, Debug)]
pub(super) struct Tables {
    pat: Packet,
    pmt: Packet,
}

impl Default for Tables {
    fn default() -> Self {
        Self { pat: [0xFF; PACKET_BYTES], pmt: [0xFF; PACKET_BYTES] }
    }
}

impl Tables {
    pub(super) fn new(video: Option<VideoCodec>, audio: Option<AudioCodec>, language: [u8; 3]) -> Self {
        Self { pat: packet(0, &pat()), pmt: packet(PMT_PID, &pmt(video, audio, language)) }
    }

    /// Appends PAT and PMT of segment number `index`.
    pub(super) fn put(&self, index: u64, out: &mut Vec<u8>) {
        let counter = (index % COUNTER_MODULUS) as u8;
        for table in [&self.pat, &self.pmt] {
            let mut packet = *table;
            packet[3] |= counter;
            out.extend_from_slice(&packet);
        }
    }
}

/// Three lower-case letters, or "und" for what is not a code of ISO 639-2.
pub(super) fn language_code(language: &str) -> [u8; 3] {
    match *language.as_bytes() {
        [a, b, c] if [a, b, c].iter().all(u8::is_ascii_alphabetic) => {
            [a, b, c].map(|l| l.to_ascii_lowercase())
        }
        _ => *b"und",
    }
}

fn pat() -> Vec<u8> {
    let mut body = Vec::new();
    body.extend_from_slice(&PROGRAM_NUMBER.to_be_bytes());
    body.extend_from_slice(&(0xE000 | PMT_PID).to_be_bytes());
    const TRANSPORT_STREAM_ID: u16 = 1;
    section(TABLE_PAT, TRANSPORT_STREAM_ID, &body)
}

fn pmt(video: Option<VideoCodec>, audio: Option<AudioCodec>, language: [u8; 3]) -> Vec<u8> {
    let pcr_pid = if video.is_some() { VIDEO_PID } else { AUDIO_PID };
    let mut body = (0xE000 | pcr_pid).to_be_bytes().to_vec();
    // program_info_length
    body.extend_from_slice(&[0xF0, 0]);
    if let Some(codec) = video {
        let (stream_type, registration) = video_type(codec);
        put_stream(stream_type, VIDEO_PID, &registration_descriptor(registration), &mut body);
    }
    if let Some(codec) = audio {
        let (stream_type, registration) = audio_type(codec);
        let mut descriptors = registration_descriptor(registration);
        // audio_type 0: undefined
        descriptors.extend_from_slice(&[DESCRIPTOR_LANGUAGE, 4, language[0], language[1], language[2], 0]);
        put_stream(stream_type, AUDIO_PID, &descriptors, &mut body);
    }
    section(TABLE_PMT, PROGRAM_NUMBER, &body)
}

/// `stream_type` (table 2-34) and the format identifier by which other readers know it.
fn video_type(codec: VideoCodec) -> (u8, Option<[u8; 4]>) {
    match codec {
        VideoCodec::Hevc => (0x24, Some(*b"HEVC")),
        // The others were refused.
        VideoCodec::H264 | VideoCodec::Av1 | VideoCodec::Vp9 => (0x1B, None),
    }
}

/// `stream_type`: AC-3 and E-AC-3 by ATSC A/52, and the format identifier.
fn audio_type(codec: AudioCodec) -> (u8, Option<[u8; 4]>) {
    match codec {
        AudioCodec::Mp3 => (0x03, None),
        AudioCodec::Ac3 => (0x81, Some(*b"AC-3")),
        AudioCodec::Eac3 => (0x87, Some(*b"EAC3")),
        // Opus was refused.
        AudioCodec::Aac | AudioCodec::Opus => (0x0F, None),
    }
}

fn registration_descriptor(identifier: Option<[u8; 4]>) -> Vec<u8> {
    identifier.map_or_else(Vec::new, |id| [&[DESCRIPTOR_REGISTRATION, 4][..], &id[..]].concat())
}

fn put_stream(stream_type: u8, pid: u16, descriptors: &[u8], body: &mut Vec<u8>) {
    body.push(stream_type);
    body.extend_from_slice(&(0xE000 | pid).to_be_bytes());
    // Two descriptors of 6 bytes at most.
    body.extend_from_slice(&[0xF0, descriptors.len() as u8]);
    body.extend_from_slice(descriptors);
}

/// A section of version 0, the only one of its table, with its checksum.
fn section(table_id: u8, id_extension: u16, body: &[u8]) -> Vec<u8> {
    // Behind the length: five bytes of header, the body, four of checksum; far below 1021.
    let length = 0xB000 | (5 + body.len() + 4) as u16;
    let mut section = vec![table_id];
    section.extend_from_slice(&length.to_be_bytes());
    section.extend_from_slice(&id_extension.to_be_bytes());
    // version 0, current_next_indicator, section 0 of 0
    section.extend_from_slice(&[0xC1, 0, 0]);
    section.extend_from_slice(body);
    section.extend_from_slice(&crc32_mpeg(&section).to_be_bytes());
    section
}

/// A section alone in a packet, behind a `pointer_field` of 0, filled up with 0xFF.
fn packet(pid: u16, section: &[u8]) -> Packet {
    let [high, low] = pid.to_be_bytes();
    let mut packet = [0xFF; PACKET_BYTES];
    let head = [0x47, 0x40 | high, low, 0x10, 0];
    for (to, from) in packet.iter_mut().zip(head.iter().chain(section)) {
        *to = *from;
    }
    packet
}

/// CRC of annex A: polynomial 0x04C11DB7, highest bit first, starting from all ones.
fn crc32_mpeg(data: &[u8]) -> u32 {
    data.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte) << 24, |c, _| {
            if c & 0x8000_0000 != 0 { c << 1 ^ 0x04C1_1DB7 } else { c << 1 }
        })
    })
}
