//! Coded sound as a byte stream: ADTS (ISO/IEC 13818-7, 6.2), AC-3 and E-AC-3 (ETSI TS 102 366), MPEG
//! audio (ISO/IEC 11172-3, 2.4.1.3).
//!
//! What enters: the bytes of a stream. What leaves: its frames, each with its length, or where they end.

use super::bytes::Bits;

/// What the frames are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    Adts,
    Ac3,
    Eac3,
    Mpeg,
}

/// The header of one frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    /// With its header.
    pub(super) bytes: usize,
    pub(super) sample_rate: u32,
    /// For each channel; 0 for a part of a frame that adds channels (E-AC-3).
    pub(super) samples: u32,
    pub(super) channels: u32,
    /// ADTS: the audio object type.
    pub(super) object_type: u32,
}

/// The frames of `data` with their places; the place where no frame begins, if there is one.
pub(super) fn frames(coding: Coding, data: &[u8]) -> (Vec<(usize, Frame)>, Option<usize>) {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(rest) = data.get(at..).filter(|rest| !rest.is_empty()) {
        match frame(coding, rest) {
            Some(frame) if frame.bytes <= rest.len() => {
                found.push((at, frame));
                at += frame.bytes;
            }
            _ => return (found, Some(at)),
        }
    }
    (found, None)
}

fn frame(coding: Coding, data: &[u8]) -> Option<Frame> {
    match coding {
        Coding::Adts => adts(data),
        Coding::Ac3 | Coding::Eac3 => dolby(data),
        Coding::Mpeg => mpeg(data),
    }
    .filter(|frame| frame.bytes > 0)
}

const ADTS_RATES: [u32; 13] =
    [96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350];

fn adts(data: &[u8]) -> Option<Frame> {
    let mut bits = Bits::new(data);
    if bits.uint(12)? != 0xFFF {
        return None;
    }
    bits.skip(1)?;
    if bits.uint(2)? != 0 {
        return None;
    }
    bits.skip(1)?;
    let object_type = 1 + bits.uint(2)?;
    let sample_rate = *ADTS_RATES.get(bits.uint(4)? as usize)?;
    bits.skip(1)?;
    let channels = match bits.uint(3)? {
        7 => 8,
        count => count,
    };
    bits.skip(4)?;
    let bytes = bits.uint(13)? as usize;
    bits.skip(11)?;
    let blocks = 1 + bits.uint(2)?;
    (bytes > 7).then_some(Frame { bytes, sample_rate, samples: 1024 * blocks, channels, object_type })
}

const DOLBY_RATES: [u32; 3] = [48_000, 44_100, 32_000];
const AC3_KBPS: [usize; 19] =
    [32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640];
/// Channels by `acmod`, without the low frequency one.
const DOLBY_CHANNELS: [u32; 8] = [2, 1, 2, 3, 3, 4, 4, 5];

fn dolby(data: &[u8]) -> Option<Frame> {
    let mut bits = Bits::new(data);
    if bits.uint(16)? != 0x0B77 {
        return None;
    }
    // bsid stands at the same place in both.
    let mut ahead = Bits::new(data);
    ahead.skip(40)?;
    if ahead.uint(5)? > 10 { eac3(bits) } else { ac3(bits) }
}

fn ac3(mut bits: Bits<'_>) -> Option<Frame> {
    bits.skip(16)?;
    let (rate, size) = (bits.uint(2)? as usize, bits.uint(6)? as usize);
    let sample_rate = *DOLBY_RATES.get(rate)?;
    let kbps = *AC3_KBPS.get(size / 2)?;
    let words = match rate {
        0 => kbps * 2,
        1 => kbps * 96_000 / 44_100 + size % 2,
        _ => kbps * 3,
    };
    bits.skip(8)?;
    let mode = bits.uint(3)?;
    let mixing = 2 * usize::from(mode & 1 != 0 && mode != 1)
        + 2 * usize::from(mode & 4 != 0)
        + 2 * usize::from(mode == 2);
    bits.skip(mixing)?;
    let channels = *DOLBY_CHANNELS.get(mode as usize)? + u32::from(bits.flag()?);
    Some(Frame { bytes: 2 * words, sample_rate, samples: 1536, channels, object_type: 0 })
}

fn eac3(mut bits: Bits<'_>) -> Option<Frame> {
    let (kind, substream) = (bits.uint(2)?, bits.uint(3)?);
    let bytes = 2 * (1 + bits.uint(11)? as usize);
    let rate = bits.uint(2)? as usize;
    let half_or_blocks = bits.uint(2)? as usize;
    let (sample_rate, blocks) = match DOLBY_RATES.get(rate) {
        Some(rate) => (*rate, *[1, 2, 3, 6].get(half_or_blocks)?),
        None => (DOLBY_RATES.get(half_or_blocks)? / 2, 6),
    };
    let channels = *DOLBY_CHANNELS.get(bits.uint(3)? as usize)? + u32::from(bits.flag()?);
    // Dependent and further substreams add channels to the frame before them.
    let samples = if kind == 1 || substream > 0 { 0 } else { 256 * blocks };
    Some(Frame { bytes, sample_rate, samples, channels, object_type: 0 })
}

/// kbit/s by index: MPEG-1 layers I, II, III; MPEG-2 layer I, and layers II and III.
const MPEG_KBPS: [[usize; 15]; 5] = [
    [0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448],
    [0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384],
    [0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320],
    [0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256],
    [0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160],
];

fn mpeg(data: &[u8]) -> Option<Frame> {
    let mut bits = Bits::new(data);
    if bits.uint(11)? != 0x7FF {
        return None;
    }
    let version = bits.uint(2)?;
    let layer = 4 - bits.uint(2)?;
    if version == 1 || layer == 4 {
        return None;
    }
    bits.skip(1)?;
    let rate_index = bits.uint(4)? as usize;
    let base = *[44_100, 48_000, 32_000].get(bits.uint(2)? as usize)?;
    let padding = usize::from(bits.flag()?);
    bits.skip(1)?;
    let channels = if bits.uint(2)? == 3 { 1 } else { 2 };
    let is_first = version == 3;
    let sample_rate = match version {
        3 => base,
        2 => base / 2,
        _ => base / 4,
    };
    let table = match (is_first, layer) {
        (true, layer) => layer as usize - 1,
        (false, 1) => 3,
        (false, _) => 4,
    };
    let bits_per_s = 1000 * *MPEG_KBPS.get(table)?.get(rate_index).filter(|kbps| **kbps > 0)?;
    let samples: u32 = match (layer, is_first) {
        (1, _) => 384,
        (3, false) => 576,
        _ => 1152,
    };
    let slot = if layer == 1 { 4 } else { 1 };
    let bytes = (samples as usize / 8 * bits_per_s / sample_rate as usize / slot + padding) * slot;
    Some(Frame { bytes, sample_rate, samples, channels, object_type: 34 })
}

/// An `AudioSpecificConfig` (ISO/IEC 14496-3, 1.6.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AacConfig {
    pub(super) object_type: u32,
    pub(super) sample_rate: u32,
    /// 0 when the configuration leaves it to the stream.
    pub(super) channels: u32,
}

/// Reads it.
pub(super) fn aac_config(config: &[u8]) -> Option<AacConfig> {
    let mut bits = Bits::new(config);
    let object_type = match bits.uint(5)? {
        31 => 32 + bits.uint(6)?,
        short => short,
    };
    let sample_rate = match bits.uint(4)? {
        15 => bits.uint(24)?,
        index => *ADTS_RATES.get(index as usize)?,
    };
    let channels = match bits.uint(4)? {
        7 => 8,
        count => count,
    };
    (object_type != 0).then_some(AacConfig { object_type, sample_rate, channels })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn adts_frame(payload: usize) -> Vec<u8> {
        let bytes = payload + 7;
        let mut frame = vec![0xFF, 0xF1, 0x4C, 0x80 | (bytes >> 11) as u8, (bytes >> 3) as u8, 0, 0xFC];
        frame[5] = (bytes << 5) as u8 | 0x1F;
        frame.extend(vec![0x21; payload]);
        frame
    }

    #[test]
    fn adts_frames_follow_each_other() {
        let data = [adts_frame(200), adts_frame(9), adts_frame(4000)].concat();
        let (found, end) = frames(Coding::Adts, &data);
        assert_eq!((found.len(), end), (3, None));
        let (at, frame) = found[1];
        assert_eq!((at, frame.bytes, frame.sample_rate, frame.channels), (207, 16, 48_000, 2));
        assert_eq!((frame.samples, frame.object_type), (1024, 2));
        let (found, end) = frames(Coding::Adts, &data[..300]);
        assert_eq!((found.len(), end), (2, Some(223)), "the last is cut off");
    }

    #[test]
    fn headers_of_the_others() {
        let ac3 = frame(Coding::Ac3, &[0x0B, 0x77, 0, 0, 0x14, 0x40, 0x43, 0xE1, 0]).unwrap();
        assert_eq!((ac3.bytes, ac3.sample_rate, ac3.samples, ac3.channels), (768, 48_000, 1536, 2));
        let mp3 = frame(Coding::Mpeg, &[0xFF, 0xFB, 0x90, 0x64]).unwrap();
        assert_eq!((mp3.bytes, mp3.sample_rate, mp3.samples, mp3.channels), (417, 44_100, 1152, 2));
        let eac3 = frame(Coding::Eac3, &[0x0B, 0x77, 0x01, 0x7F, 0x34, 0x86, 0xFF]).unwrap();
        assert_eq!((eac3.bytes, eac3.sample_rate, eac3.samples, eac3.channels), (768, 48_000, 1536, 2));
    }

    #[test]
    fn aac_configurations() {
        let found = aac_config(&[0x11, 0x90]).unwrap();
        assert_eq!((found.object_type, found.sample_rate, found.channels), (2, 48_000, 2));
        assert_eq!(aac_config(&[]), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(data in prop::collection::vec(any::<u8>(), 0..300)) {
            for coding in [Coding::Adts, Coding::Ac3, Coding::Eac3, Coding::Mpeg] {
                let (found, end) = frames(coding, &data);
                prop_assert!(end.is_some() || data.is_empty() || !found.is_empty());
            }
            let _ = aac_config(&data);
        }
    }
}
