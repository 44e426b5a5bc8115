//! AAC frames with ADTS headers (ISO/IEC 14496-3, 1.A.2.2), the form that HLS wants in a transport
//! stream.
//!
//! What enters: an AudioSpecificConfig (1.6.2.1). What leaves: the seven bytes in front of a frame.

/// Length of the header, without checksum.
pub(super) const HEADER_BYTES: usize = 7;
/// `aac_frame_length` has 13 bits and counts the header.
const MAX_FRAME_BYTES: usize = (1 << 13) - 1;

const OBJECT_LC: u32 = 2;
const OBJECT_SBR: u32 = 5;
const OBJECT_PS: u32 = 29;
const OBJECT_ESCAPE: u32 = 31;
const INDEX_EXPLICIT: u32 = 15;
/// `samplingFrequencyIndex` 13 and 14 are reserved.
const MAX_INDEX: u32 = 12;

/// Why an AudioSpecificConfig cannot become an ADTS header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AdtsError {
    /// Nothing there, or less than it takes.
    #[error("the AudioSpecificConfig is missing or truncated (was ADTS input copied without its filter?)")]
    Truncated,
    /// ADTS has two bits for it; players expect LC.
    #[error("AAC with audio object type {0} has no place in an ADTS header: encode the sound anew")]
    ObjectType(u32),
    /// ADTS has only the index into the table.
    #[error("AAC with a sampling frequency outside of the standard's table: encode the sound anew")]
    SamplingFrequency,
    /// Channels are described by a program config element.
    #[error("AAC with channel configuration {0} has no place in an ADTS header: encode the sound anew")]
    ChannelConfiguration(u32),
    /// Frames of 960 samples, which ADTS cannot say.
    #[error("AAC with frames of 960 samples has no place in an ADTS stream: encode the sound anew")]
    FrameLength,
}

/// What all the headers of a track have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AdtsConfig {
    sampling_index: u8,
    channels: u8,
}

impl AdtsConfig {
    /// Reads an AudioSpecificConfig. HE-AAC with explicit signalling is written as the LC core that it
    /// contains, with the core's frequency: decoders find SBR and PS in the payload.
    pub(super) fn parse(config: &[u8]) -> Result<Self, AdtsError> {
        let mut bits = Bits { data: config, at_bit: 0 };
        let mut object_type = read_object_type(&mut bits)?;
        let sampling_index = read_sampling_index(&mut bits)?;
        let channels = bits.read(4)?;
        if object_type == OBJECT_SBR || object_type == OBJECT_PS {
            // Frequency behind SBR; whatever it is, the core's stands in the header.
            if bits.read(4)? == INDEX_EXPLICIT {
                bits.read(24)?;
            }
            object_type = read_object_type(&mut bits)?;
        }
        if object_type != OBJECT_LC {
            return Err(AdtsError::ObjectType(object_type));
        }
        if !(1..=7).contains(&channels) {
            return Err(AdtsError::ChannelConfiguration(channels));
        }
        if bits.read(1)? == 1 {
            return Err(AdtsError::FrameLength);
        }
        Ok(Self { sampling_index: sampling_index as u8, channels: channels as u8 })
    }

    /// The header of a frame with `payload_bytes` of raw data; `None` when its length does not fit.
    pub(super) fn header(self, payload_bytes: usize) -> Option<[u8; HEADER_BYTES]> {
        let length = payload_bytes.checked_add(HEADER_BYTES).filter(|&l| l <= MAX_FRAME_BYTES)? as u16;
        let profile = (OBJECT_LC - 1) as u8;
        Some([
            0xFF,
            // MPEG-4, layer 0, no checksum.
            0xF1,
            profile << 6 | self.sampling_index << 2 | self.channels >> 2,
            self.channels << 6 | (length >> 11) as u8,
            (length >> 3) as u8,
            // Buffer fullness 0x7FF: variable rate. One raw data block.
            (length << 5) as u8 | 0x1F,
            0xFC,
        ])
    }
}

fn read_object_type(bits: &mut Bits<'_>) -> Result<u32, AdtsError> {
    match bits.read(5)? {
        OBJECT_ESCAPE => Ok(32 + bits.read(6)?),
        object_type => Ok(object_type),
    }
}

fn read_sampling_index(bits: &mut Bits<'_>) -> Result<u32, AdtsError> {
    Some(bits.read(4)?).filter(|&index| index <= MAX_INDEX).ok_or(AdtsError::SamplingFrequency)
}

struct Bits<'a> {
    data: &'a [u8],
    at_bit: usize,
}

impl Bits<'_> {
    fn read(&mut self, count: usize) -> Result<u32, AdtsError> {
        let mut value = 0;
        for _ in 0..count {
            let byte = self.data.get(self.at_bit / 8).ok_or(AdtsError::Truncated)?;
            value = value << 1 | u32::from(byte >> (7 - self.at_bit % 8) & 1);
            self.at_bit += 1;
        }
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lc_48k_stereo() {
        // 00010 0011 0010 000: what libav's encoder writes for 48 kHz stereo.
        let config = AdtsConfig::parse(&[0x11, 0x90]).unwrap();
        assert_eq!(config, AdtsConfig { sampling_index: 3, channels: 2 });
        assert_eq!(config.header(364), Some([0xFF, 0xF1, 0x4C, 0x80, 0x2E, 0x7F, 0xFC]));
        assert_eq!(config.header(8191 - 7).unwrap()[3..6], [0x83, 0xFF, 0xFF]);
        assert_eq!(config.header(8191 - 6), None);
    }

    #[test]
    fn he_aac_is_written_as_its_core() {
        // 00101 0110 0010 0011 00010 000: SBR, core 24 kHz, stereo, 48 kHz behind SBR, LC.
        let sbr = AdtsConfig::parse(&[0b0010_1011, 0b0001_0001, 0b1000_1000]).unwrap();
        assert_eq!(sbr, AdtsConfig { sampling_index: 6, channels: 2 });
        // 11101 0110 0001 0011 00010 000: PS over a mono core.
        let ps = AdtsConfig::parse(&[0b1110_1011, 0b0000_1001, 0b1000_1000]).unwrap();
        assert_eq!(ps, AdtsConfig { sampling_index: 6, channels: 1 });
    }

    #[test]
    fn what_adts_cannot_say_is_refused() {
        let refused = [
            (vec![], AdtsError::Truncated),
            (vec![0x11], AdtsError::Truncated),
            (vec![0x09, 0x90], AdtsError::ObjectType(1)),
            // 11111 000111 0011 ...: escape, object type 39 (ELD).
            (vec![0xF8, 0xE6, 0x40, 0], AdtsError::ObjectType(39)),
            (vec![0x17, 0x80, 0, 0, 0, 0], AdtsError::SamplingFrequency),
            (vec![0x16, 0x90], AdtsError::SamplingFrequency),
            (vec![0x11, 0x80], AdtsError::ChannelConfiguration(0)),
            (vec![0x11, 0xC0], AdtsError::ChannelConfiguration(8)),
            (vec![0x11, 0x94], AdtsError::FrameLength),
        ];
        for (config, error) in refused {
            assert_eq!(AdtsConfig::parse(&config), Err(error), "{config:02x?}");
        }
    }
}
