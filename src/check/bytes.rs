//! Bytes and bits read from the front; every read can fail, none runs over.
//!
//! What enters: data from outside. What leaves: numbers, or `None` where the data ends.

/// Bytes from the front, big endian.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bytes<'a>(pub(super) &'a [u8]);

impl<'a> Bytes<'a> {
    pub(super) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(head)
    }

    /// The next `count` ≤ 8 bytes as a number.
    pub(super) fn uint(&mut self, count: usize) -> Option<u64> {
        Some(self.take(count)?.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.uint(2).map(|value| value as u16)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.uint(4).map(|value| value as u32)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.uint(8)
    }

    pub(super) fn fourcc(&mut self) -> Option<[u8; 4]> {
        self.take(4)?.try_into().ok()
    }
}

/// Bits, from the highest of each byte down.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bits<'a> {
    data: &'a [u8],
    at: usize,
}

impl<'a> Bits<'a> {
    pub(super) fn new(data: &'a [u8]) -> Self {
        Self { data, at: 0 }
    }

    pub(super) fn flag(&mut self) -> Option<bool> {
        let byte = self.data.get(self.at / 8)?;
        let bit = byte >> (7 - self.at % 8) & 1;
        self.at += 1;
        Some(bit == 1)
    }

    /// The next `count` ≤ 32 bits.
    pub(super) fn uint(&mut self, count: u32) -> Option<u32> {
        (0..count).try_fold(0u32, |value, _| Some(value << 1 | u32::from(self.flag()?)))
    }

    pub(super) fn skip(&mut self, count: usize) -> Option<()> {
        self.at = self.at.checked_add(count)?;
        (self.at <= 8 * self.data.len()).then_some(())
    }

    /// Unsigned Exp-Golomb code (ISO/IEC 14496-10, 9.1).
    pub(super) fn ue(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while !self.flag()? {
            zeros += 1;
            if zeros > 31 {
                return None;
            }
        }
        Some(((1u64 << zeros) - 1) as u32 + self.uint(zeros)?)
    }

    /// As [`Bits::ue`], and no more than `most`.
    pub(super) fn ue_to(&mut self, most: u32) -> Option<u32> {
        self.ue().filter(|value| *value <= most)
    }

    /// Signed Exp-Golomb code (9.1.1).
    pub(super) fn se(&mut self) -> Option<i64> {
        let code = i64::from(self.ue()?);
        Some(if code % 2 == 0 { -code / 2 } else { (code + 1) / 2 })
    }
}

/// CRC of MPEG's sections (ISO/IEC 13818-1, annex A): 0 over a section with its checksum.
pub(super) fn crc32_mpeg(data: &[u8]) -> u32 {
    data.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte) << 24, |c, _| c << 1 ^ if c >> 31 == 1 { 0x04C1_1DB7 } else { 0 })
    })
}

/// A NAL unit without its emulation prevention bytes (ISO/IEC 14496-10, 7.3.1).
pub(super) fn unescaped(unit: &[u8]) -> Vec<u8> {
    let mut out: Vec<u8> = Vec::with_capacity(unit.len());
    let mut zeros = 0;
    for byte in unit {
        if zeros >= 2 && *byte == 3 {
            zeros = 0;
        } else {
            zeros = if *byte == 0 { zeros + 1 } else { 0 };
            out.push(*byte);
        }
    }
    out
}

/// The NAL units of a byte stream (annex B), without start codes and the zeros around them.
pub(super) fn annex_b(data: &[u8]) -> Vec<&[u8]> {
    let mut starts = Vec::new();
    let mut at = 0;
    while let Some([a, b, c]) = data.get(at..at + 3) {
        match (a, b, c) {
            (0, 0, 1) => {
                starts.push(at + 3);
                at += 3;
            }
            // No start code can begin before a byte above 1.
            (_, _, 2..) => at += 3,
            _ => at += 1,
        }
    }
    let ends = starts.iter().skip(1).map(|next| next - 3).chain([data.len()]);
    let unit = |(start, end): (&usize, usize)| {
        let unit = data.get(*start..end)?;
        let length = unit.iter().rposition(|byte| *byte != 0)? + 1;
        unit.get(..length)
    };
    starts.iter().zip(ends).filter_map(unit).collect()
}

/// The NAL units of a sample, each behind its length of `length_bytes`; `None` when they do not fill it.
pub(super) fn length_prefixed(sample: &[u8], length_bytes: usize) -> Option<Vec<&[u8]>> {
    let mut bytes = Bytes(sample);
    let mut units = Vec::new();
    while !bytes.0.is_empty() {
        let length = usize::try_from(bytes.uint(length_bytes)?).ok()?;
        units.push(bytes.take(length)?);
    }
    Some(units)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn units_of_a_byte_stream() {
        let stream = [0, 0, 0, 1, 9, 0xF0, 0, 0, 1, 0x65, 0, 0, 3, 1, 0, 0, 0, 1, 0x41, 2, 0, 0];
        assert_eq!(annex_b(&stream), [&[9, 0xF0][..], &[0x65, 0, 0, 3, 1], &[0x41, 2]]);
        assert_eq!(unescaped(&[0x65, 0, 0, 3, 1]), [0x65, 0, 0, 1]);
        assert!(annex_b(&[0, 0]).is_empty());
    }

    #[test]
    fn checksum_of_a_section() {
        assert_eq!(crc32_mpeg(b"123456789"), 0x0376_E6E7, "the check value of CRC-32/MPEG-2");
    }

    proptest! {
        #[test]
        fn prefixed_units_come_back(units in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..8)) {
            let mut sample = Vec::new();
            for unit in &units {
                sample.extend((unit.len() as u32).to_be_bytes());
                sample.extend(unit);
            }
            let read = length_prefixed(&sample, 4);
            prop_assert_eq!(read.map(|r| r.iter().map(|u| u.to_vec()).collect::<Vec<_>>()), Some(units));
        }

        #[test]
        fn any_bytes_are_survived(data in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = (annex_b(&data), length_prefixed(&data, 4), unescaped(&data));
            let mut bits = Bits::new(&data);
            while bits.ue().is_some() {}
        }
    }
}
