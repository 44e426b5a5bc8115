//! AC-3 and E-AC-3 syncframes (ETSI TS 102 366, 4.3 and annex E) as far as the boxes `dac3` and
//! `dec3` (annex F) repeat them.
//!
//! What enters: one packet of a stream. What leaves: the box. Only what is the same in every packet
//! of a stream is read, because any packet may be the one that describes it.

use super::Fmp4Error;
use crate::container::codecs::bits::BitReader;
use crate::model::track::AudioCodec;
use mp4_atom::{Ac3SpecificBox, Ec3IndependentSubstream, Ec3SpecificBox};

const SYNC_WORD: u32 = 0x0B77;
/// `bsid` up to this is AC-3, from 11 on E-AC-3.
const AC3_BSID_MAX: u8 = 8;
const EAC3_BSID: std::ops::RangeInclusive<u8> = 11..=16;
/// `strmtyp` of a substream that belongs to the one before it.
const DEPENDENT: u8 = 1;
/// `dec3` has three bits for the number of further programmes.
const MAX_INDEPENDENT: usize = 8;

/// Reads `dac3` from an AC-3 packet.
///
/// # Errors
/// When the packet does not begin with an AC-3 frame.
pub(super) fn dac3(packet: &[u8]) -> Result<Ac3SpecificBox, Fmp4Error> {
    read_ac3(packet).ok_or(Fmp4Error::FirstAudio { codec: AudioCodec::Ac3, reason: "it is no AC-3 frame" })
}

fn read_ac3(packet: &[u8]) -> Option<Ac3SpecificBox> {
    let mut bits = BitReader::new(packet);
    if bits.bits(16)? != SYNC_WORD {
        return None;
    }
    bits.skip(16)?;
    let fscod = bits.byte(2)?;
    // The lowest bit alternates at 44.1 kHz, the code of the bit rate does not.
    let bit_rate_code = bits.byte(6)? >> 1;
    let bsid = bits.byte(5)?;
    if bsid > AC3_BSID_MAX || fscod == 3 {
        return None;
    }
    let bsmod = bits.byte(3)?;
    let acmod = bits.byte(3)?;
    let centre_mix = acmod & 1 != 0 && acmod != 1;
    let surround_mix = acmod & 4 != 0;
    let surround_mode = acmod == 2;
    bits.skip(2 * [centre_mix, surround_mix, surround_mode].into_iter().filter(|&there| there).count())?;
    let lfeon = bits.flag()?;
    Some(Ac3SpecificBox { fscod, bsid, bsmod, acmod, lfeon, bit_rate_code })
}

/// Reads `dec3` from an E-AC-3 packet; `bitrate` in bits each second is repeated in the box.
///
/// `bsmod` is written as 0 (complete main): the informational metadata that holds it need not be in
/// every frame, and the box may not depend on which packet was given.
///
/// # Errors
/// When the packet does not begin with an E-AC-3 frame, or has more programmes than the box can name.
pub(super) fn dec3(packet: &[u8], bitrate: u64) -> Result<Ec3SpecificBox, Fmp4Error> {
    let error = |reason| Fmp4Error::FirstAudio { codec: AudioCodec::Eac3, reason };
    let mut substreams: Vec<Ec3IndependentSubstream> = Vec::new();
    let mut rest = packet;
    while let Some(frame) = read_eac3(rest) {
        match substreams.last_mut() {
            Some(parent) if frame.strmtyp == DEPENDENT => add_dependent(parent, &frame),
            None if frame.strmtyp == DEPENDENT => return Err(error("it begins with a dependent substream")),
            // Substream 0 again: the next frame in time, of which a packet may hold several.
            Some(_) if frame.substreamid == 0 => break,
            _ => substreams.push(frame.independent()),
        }
        rest = rest.get(frame.size_bytes..).unwrap_or_default();
    }
    match substreams.len() {
        0 => Err(error("it is no E-AC-3 frame")),
        1..=MAX_INDEPENDENT => Ok(Ec3SpecificBox { data_rate: data_rate_kbit(bitrate), substreams }),
        _ => Err(error("it has more than eight programmes")),
    }
}

/// 13 bits of kilobits each second.
fn data_rate_kbit(bitrate: u64) -> u16 {
    const MAX: u16 = 0x1FFF;
    u16::try_from(bitrate / 1000).map_or(MAX, |rate| rate.min(MAX))
}

fn add_dependent(parent: &mut Ec3IndependentSubstream, frame: &Eac3Frame) {
    parent.num_dep_sub = parent.num_dep_sub.saturating_add(1).min(15);
    let locations = parent.chan_loc.unwrap_or(0) | frame.channel_locations();
    parent.chan_loc = Some(locations);
}

/// The head of an E-AC-3 syncframe (E.1.2.1, E.1.2.2).
struct Eac3Frame {
    strmtyp: u8,
    substreamid: u8,
    size_bytes: usize,
    fscod: u8,
    acmod: u8,
    lfeon: bool,
    bsid: u8,
    /// `chanmap`, location 0 in the highest bit.
    channel_map: u32,
}

impl Eac3Frame {
    fn independent(&self) -> Ec3IndependentSubstream {
        Ec3IndependentSubstream {
            fscod: self.fscod,
            bsid: self.bsid,
            asvc: false,
            bsmod: 0,
            acmod: self.acmod,
            lfeon: self.lfeon,
            num_dep_sub: 0,
            chan_loc: None,
        }
    }

    /// `chan_loc` (F.6.2.13, bit 0 is the lowest) from `chanmap` (E.1.3.1.8, bit 0 is the highest):
    /// bits 0 to 7 are locations 5 to 12 (Lc/Rc to Cvh), bit 8 is location 14 (LFE2).
    fn channel_locations(&self) -> u16 {
        let at = |location: u32| (self.channel_map >> (15 - location) & 1) as u16;
        (0..8).map(|bit| at(bit + 5) << bit).sum::<u16>() | at(14) << 8
    }
}

fn read_eac3(data: &[u8]) -> Option<Eac3Frame> {
    let mut bits = BitReader::new(data);
    if bits.bits(16)? != SYNC_WORD {
        return None;
    }
    let (strmtyp, substreamid) = (bits.byte(2)?, bits.byte(3)?);
    let size_bytes = (bits.bits(11)? as usize + 1) * 2;
    let fscod = bits.byte(2)?;
    // The number of blocks; at the reduced rates the rate itself.
    bits.skip(2)?;
    let (acmod, lfeon, bsid) = (bits.byte(3)?, bits.flag()?, bits.byte(5)?);
    if !EAC3_BSID.contains(&bsid) || strmtyp == 3 {
        return None;
    }
    // Dialogue level and compression, a second time for dual mono.
    for _ in 0..if acmod == 0 { 2 } else { 1 } {
        bits.skip(5)?;
        let compression = bits.flag()?;
        bits.skip(if compression { 8 } else { 0 })?;
    }
    let channel_map = if strmtyp == DEPENDENT && bits.flag()? { bits.bits(16)? } else { 0 };
    Some(Eac3Frame { strmtyp, substreamid, size_bytes, fscod, acmod, lfeon, bsid, channel_map })
}
