//! Media segments: `moof` (ISO/IEC 14496-12, 8.8.4) and `mdat`.
//!
//! What enters: the samples of one segment. What leaves: its bytes. Every byte of a stream passes
//! through here, so a segment is one buffer into which payloads are converted directly. The `trun`
//! boxes are written by hand: their sample sizes are known only after the payloads behind them have
//! been written, so they are filled in afterwards, where `mp4-atom` would need a list of entries
//! and a second pass over all NAL units.

use super::boxes::{begin, boxed, end, full_boxed, patch_u32, put_u32};
use super::{Fmp4Error, TrackKind};
use crate::container::codecs::av1::split_obu;
use crate::container::nal::{self, NalFormat};
use crate::model::track::{Sample, VideoCodec, VideoTrack};
use mp4_atom::{Encode, Mfhd, Tfdt, Tfhd};

/// `sample_depends_on` = 2: a picture (or sound) that needs no other (ISO/IEC 14496-12, 8.8.3.1).
pub(super) const SYNC_SAMPLE: u32 = 0x0200_0000;
/// `sample_depends_on` = 1 and `sample_is_non_sync_sample`.
pub(super) const NON_SYNC_SAMPLE: u32 = 0x0101_0000;

/// `data-offset-present`, `sample-duration-present`, `sample-size-present`, version 1.
const TRUN_AUDIO: u32 = 0x0100_0301;
/// Those and `sample-flags-present`, `sample-composition-time-offsets-present` (signed in version 1).
const TRUN_VIDEO: u32 = 0x0100_0F01;
/// The size is the second field of an entry.
const SIZE_FIELD_AT: usize = 4;

/// `obu_type` of temporal delimiter and padding: not to be stored (AV1 ISO BMFF binding, 2.4).
const OBU_TEMPORAL_DELIMITER: u8 = 2;
const OBU_PADDING: u8 = 15;

/// How a sample's payload becomes that of the file.
#[derive(Debug)]
pub(super) enum Payload {
    /// NAL units, to be stored behind four bytes of length.
    Nal {
        codec: VideoCodec,
        format: NalFormat,
        /// What the sample entry holds and the samples need not repeat.
        parameter_sets: Vec<Vec<u8>>,
    },
    /// AV1: a temporal unit, to be stored without its delimiter.
    Obu,
    /// As it is.
    Whole,
}

impl Payload {
    /// The conversion that a video track needs.
    pub(super) fn of(track: &VideoTrack) -> Result<Self, Fmp4Error> {
        Ok(match track.codec {
            VideoCodec::H264 | VideoCodec::Hevc => {
                let sets = nal::parse_config(track.codec, &track.config)?;
                let parameter_sets = [sets.vps, sets.sps, sets.pps].concat();
                Self::Nal { codec: track.codec, format: sets.format, parameter_sets }
            }
            VideoCodec::Av1 => Self::Obu,
            VideoCodec::Vp9 => Self::Whole,
        })
    }

    /// Appends the converted payload; `None` if it is broken.
    fn append(&self, data: &[u8], out: &mut Vec<u8>) -> Option<()> {
        match self {
            Self::Nal { codec, format, parameter_sets } => {
                append_nal(data, *codec, *format, parameter_sets, out)
            }
            Self::Obu => append_obus(data, out),
            Self::Whole => {
                out.extend_from_slice(data);
                Some(())
            }
        }
    }
}

/// Leaves out access unit delimiters, which the file's own sample borders replace, and the parameter
/// sets that the sample entry holds. Others are kept: without them the pictures could not be decoded.
fn append_nal(
    data: &[u8],
    codec: VideoCodec,
    format: NalFormat,
    parameter_sets: &[Vec<u8>],
    out: &mut Vec<u8>,
) -> Option<()> {
    for unit in nal::nal_units(data, format) {
        let known = nal::is_parameter_set(codec, unit) && parameter_sets.iter().any(|set| set == unit);
        if known || nal::is_aud(codec, unit) {
            continue;
        }
        put_u32(out, u32::try_from(unit.len()).ok()?);
        out.extend_from_slice(unit);
    }
    Some(())
}

fn append_obus(mut data: &[u8], out: &mut Vec<u8>) -> Option<()> {
    while !data.is_empty() {
        let (obu, rest) = split_obu(data)?;
        if !matches!(obu.kind, OBU_TEMPORAL_DELIMITER | OBU_PADDING) {
            out.extend_from_slice(obu.whole);
        }
        data = rest;
    }
    Some(())
}

/// What of a track all its segments share.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) kind: TrackKind,
    pub(super) track_id: u32,
    /// Ticks each second.
    pub(super) timescale: u32,
    /// Where title time 0 lies in the media, which is the `media_time` of the edit list: reorder delay (video),
    /// encoder delay (audio). By so much the samples' times are moved.
    pub(super) shift_ticks: i64,
    pub(super) payload: Payload,
}

/// The samples of one track in one segment, and where their `trun` stands in the buffer.
#[derive(Debug)]
pub(super) struct Run<'a> {
    lane: &'a Lane,
    samples: &'a [Sample],
    /// Decode time of the first sample.
    start_ticks: u64,
    data_offset_at: usize,
    entries_at: usize,
}

impl<'a> Run<'a> {
    /// Checks where the run starts.
    pub(super) fn new(lane: &'a Lane, index: u64, samples: &'a [Sample]) -> Result<Self, Fmp4Error> {
        let first = samples.first().ok_or(Fmp4Error::Empty(index))?;
        if lane.kind == TrackKind::Video && !first.key {
            return Err(Fmp4Error::NotAKeyFrame(index));
        }
        let ticks = lane.decode_ticks(first);
        let start_ticks = u64::try_from(ticks);
        let track = lane.kind;
        let start_ticks = start_ticks.map_err(|_| Fmp4Error::NegativeDecodeTime { index, track, ticks })?;
        Ok(Self { lane, samples, start_ticks, data_offset_at: 0, entries_at: 0 })
    }

    fn entry_bytes(&self) -> usize {
        match self.lane.kind {
            TrackKind::Video => 16,
            TrackKind::Audio => 8,
        }
    }

    fn write_traf(&mut self, index: u64, out: &mut Vec<u8>) -> Result<(), Fmp4Error> {
        boxed(out, b"traf", |out| {
            Tfhd { track_id: self.lane.track_id, default_base_is_moof: true, ..Tfhd::default() }
                .encode(out)?;
            Tfdt { base_media_decode_time: self.start_ticks }.encode(out)?;
            let version_flags = if self.lane.kind == TrackKind::Video { TRUN_VIDEO } else { TRUN_AUDIO };
            full_boxed(out, b"trun", version_flags, |out| self.write_trun(index, out))
        })
    }

    /// Body of `trun` (8.8.8) with zeros for data offset and sizes.
    fn write_trun(&mut self, index: u64, out: &mut Vec<u8>) -> Result<(), Fmp4Error> {
        put_u32(out, u32::try_from(self.samples.len()).map_err(|_| Fmp4Error::TooLarge)?);
        self.data_offset_at = out.len();
        put_u32(out, 0);
        self.entries_at = out.len();
        for (position, sample) in self.samples.iter().enumerate() {
            put_u32(out, self.lane.duration(sample, self.samples.get(position + 1), index, position)?);
            put_u32(out, 0);
            if self.lane.kind == TrackKind::Video {
                put_u32(out, if sample.key { SYNC_SAMPLE } else { NON_SYNC_SAMPLE });
                out.extend_from_slice(&self.lane.composition_offset(sample)?.to_be_bytes());
            }
        }
        Ok(())
    }

    /// Appends the payloads and fills in where and how large they are.
    fn write_data(&self, index: u64, out: &mut Vec<u8>) -> Result<(), Fmp4Error> {
        // The buffer begins with the `moof`, to which the offset counts. It is signed in the file.
        let offset = i32::try_from(out.len()).map_err(|_| Fmp4Error::TooLarge)?;
        patch_u32(out, self.data_offset_at, offset.cast_unsigned());
        for (position, sample) in self.samples.iter().enumerate() {
            let start = out.len();
            let converted = self.lane.payload.append(&sample.data, out);
            let size_bytes = out.len() - start;
            if converted.is_none() || size_bytes == 0 {
                return Err(Fmp4Error::Payload { index, track: self.lane.kind, sample: position });
            }
            let size_bytes = u32::try_from(size_bytes).map_err(|_| Fmp4Error::TooLarge)?;
            patch_u32(out, self.entries_at + position * self.entry_bytes() + SIZE_FIELD_AT, size_bytes);
        }
        Ok(())
    }

    /// Room for the run: its entries, its payloads, and what longer NAL framing may add (a start
    /// code of three bytes becomes a length of four; a picture rarely has more slices than this).
    fn capacity_bytes(&self) -> usize {
        const FRAMING_GROWTH: usize = 16;
        let fixed = self.samples.len() * (self.entry_bytes() + FRAMING_GROWTH);
        self.samples.iter().fold(fixed, |sum, sample| sum.saturating_add(sample.data.len()))
    }
}

impl Lane {
    /// Sound is never reordered, so its decode time is its presentation time.
    fn decode_ticks(&self, sample: &Sample) -> i64 {
        let ticks = if self.kind == TrackKind::Video { sample.dts } else { sample.pts };
        ticks.saturating_add(self.shift_ticks)
    }

    fn duration(
        &self,
        sample: &Sample,
        next: Option<&Sample>,
        index: u64,
        position: usize,
    ) -> Result<u32, Fmp4Error> {
        let Some(next) = next else {
            let range = Fmp4Error::Range { track: self.kind, field: "sample duration" };
            return u32::try_from(sample.duration).map_err(|_| range);
        };
        let ticks = self.decode_ticks(next).saturating_sub(self.decode_ticks(sample));
        match u32::try_from(ticks) {
            Ok(ticks) if ticks > 0 => Ok(ticks),
            Ok(_) => Err(Fmp4Error::Order { index, track: self.kind, sample: position + 1 }),
            Err(_) if ticks < 0 => Err(Fmp4Error::Order { index, track: self.kind, sample: position + 1 }),
            Err(_) => Err(Fmp4Error::Range { track: self.kind, field: "sample duration" }),
        }
    }

    fn composition_offset(&self, sample: &Sample) -> Result<i32, Fmp4Error> {
        let media_time = sample.pts.saturating_add(self.shift_ticks);
        let offset = media_time.saturating_sub(self.decode_ticks(sample));
        i32::try_from(offset).map_err(|_| Fmp4Error::Range { track: self.kind, field: "composition offset" })
    }
}

/// Writes the whole segment: `moof`, then the payloads of the runs in order in one `mdat`.
pub(super) fn write(index: u64, runs: &mut [Run<'_>]) -> Result<Vec<u8>, Fmp4Error> {
    /// `moof`, `mfhd`, `mdat` and, for each run, everything around its entries.
    const FIXED_BYTES: usize = 8 + 16 + 8 + 2 * 64;
    if runs.is_empty() {
        return Err(Fmp4Error::Empty(index));
    }
    let number = index.checked_add(1).and_then(|number| u32::try_from(number).ok());
    let sequence_number = number.ok_or(Fmp4Error::TooLarge)?;
    let capacity_bytes = runs.iter().fold(FIXED_BYTES, |sum, run| sum.saturating_add(run.capacity_bytes()));
    let mut out = Vec::with_capacity(capacity_bytes);
    boxed(&mut out, b"moof", |out| {
        Mfhd { sequence_number }.encode(out)?;
        runs.iter_mut().try_for_each(|run| run.write_traf(index, out))
    })?;
    let mdat = begin(&mut out, b"mdat");
    for run in runs.iter() {
        run.write_data(index, &mut out)?;
    }
    end(&mut out, mdat)?;
    Ok(out)
}
