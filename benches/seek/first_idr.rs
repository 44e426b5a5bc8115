//! When the bytes of an MPEG-TS hold a whole IDR picture, and what the encoder said of itself there.
//!
//! Knows no more of MPEG-TS than that: the picture is whole where the next one of its PID begins.

const PACKET: usize = 188;

/// Looks at bytes as they come.
#[derive(Default)]
pub struct FirstIdr {
    pending: Vec<u8>,
    pid: Option<u16>,
    picture: Vec<u8>,
    whole: bool,
}

impl FirstIdr {
    /// More bytes have come. Whether a whole IDR picture has.
    pub fn feed(&mut self, bytes: &[u8]) -> bool {
        self.pending.extend_from_slice(bytes);
        let pending = std::mem::take(&mut self.pending);
        let mut packets = pending.chunks_exact(PACKET);
        for packet in packets.by_ref() {
            if !self.whole {
                self.take(packet);
            }
        }
        self.pending = packets.remainder().to_vec();
        self.whole
    }

    fn take(&mut self, packet: &[u8]) {
        let pid = u16::from(packet[1] & 0x1f) << 8 | u16::from(packet[2]);
        let payload = payload(packet);
        let begins = packet[1] & 0x40 != 0 && payload.starts_with(&[0, 0, 1]);
        let is_picture = begins && payload.get(3).is_some_and(|id| (0xe0..=0xef).contains(id));
        if is_picture && self.pid.is_none_or(|own| own == pid) {
            if self.has_idr() {
                self.whole = true;
                return;
            }
            self.pid = Some(pid);
            self.picture.clear();
        }
        if self.pid == Some(pid) {
            self.picture.extend_from_slice(payload);
        }
    }

    /// A NAL unit of type 5 (ITU-T H.264, table 7-1).
    fn has_idr(&self) -> bool {
        self.picture.windows(4).any(|w| w[..3] == [0, 0, 1] && w[3] & 0x1f == 5)
    }

    /// What x264 writes into a message of its first picture, but for the numbers of threads.
    pub fn encoder_settings(&self) -> String {
        let mark = b"options: ";
        let Some(at) = self.picture.windows(mark.len()).position(|w| w == mark) else {
            return "unknown".into();
        };
        let text = &self.picture[at + mark.len()..];
        let end =
            text.iter().position(|byte| !byte.is_ascii_graphic() && *byte != b' ').unwrap_or(text.len());
        let words = std::str::from_utf8(&text[..end]).unwrap_or_default().split_whitespace();
        words.filter(|word| !word.contains("threads=")).collect::<Vec<_>>().join(" ")
    }
}

fn payload(packet: &[u8]) -> &[u8] {
    let control = packet[3] >> 4 & 3;
    let begin = 4 + if control & 2 == 0 { 0 } else { 1 + usize::from(packet[4]) };
    if control & 1 == 0 { &[] } else { packet.get(begin..).unwrap_or_default() }
}
