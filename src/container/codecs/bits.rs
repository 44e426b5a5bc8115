//! A reader of bits, most significant first, for the small headers of codec configurations.
//!
//! What enters: any bytes. What leaves: numbers, or `None` behind the end. Not made for payloads:
//! it goes bit by bit.

/// Position in a slice, counted in bits.
#[derive(Clone, Debug)]
pub(crate) struct BitReader<'a> {
    data: &'a [u8],
    position_bits: usize,
}

impl<'a> BitReader<'a> {
    /// Starts at the first bit of `data`.
    pub(crate) fn new(data: &'a [u8]) -> Self {
        Self { data, position_bits: 0 }
    }

    /// The next `count` bits (32 at most) as a number; `None` if there are not so many.
    pub(crate) fn bits(&mut self, count: u32) -> Option<u32> {
        let mut value = 0u32;
        for _ in 0..count {
            value = value << 1 | u32::from(self.flag()?);
        }
        Some(value)
    }

    /// The next `count` bits (8 at most) as a byte.
    pub(crate) fn byte(&mut self, count: u32) -> Option<u8> {
        self.bits(count).and_then(|value| u8::try_from(value).ok())
    }

    /// The next bit.
    pub(crate) fn flag(&mut self) -> Option<bool> {
        let byte = self.data.get(self.position_bits / 8)?;
        let bit = byte >> (7 - self.position_bits % 8) & 1;
        self.position_bits += 1;
        Some(bit == 1)
    }

    /// Passes over `count` bits; `None` if there are not so many.
    pub(crate) fn skip(&mut self, count: usize) -> Option<()> {
        let end = self.position_bits.checked_add(count)?;
        self.position_bits = end;
        (end <= self.data.len().saturating_mul(8)).then_some(())
    }
}
