//! A look into fragmented MP4 (ISO/IEC 14496-12): the boxes in front of the media, not the media.
//!
//! What enters: an initialisation segment and the segments behind it. What leaves: the times that they
//! tell, or what is wrong. The boxes are read with `mp4-atom`; the writer in `container` makes the
//! ones that count (`trun`) by hand.

use super::expected::{Found, FoundAudio, FoundVideo};
use super::{Stop, fill};
use crate::base::time::Rational;
use mp4_atom::{Atom, Decode, FourCC, Moof, Moov, Traf};
use std::io::Read;

/// A `moof` is some bytes for each sample: this is far above any.
const MAX_MOOF_BYTES: u64 = 64 << 20;
/// `sample_is_non_sync_sample` (8.8.3.1).
const NON_SYNC: u32 = 0x0001_0000;
const HEADER_BYTES: u64 = 8;

/// What the initialisation segment says of the tracks.
#[derive(Debug)]
pub(super) struct Tracks(Vec<Track>);

#[derive(Debug)]
struct Track {
    id: u32,
    is_video: bool,
    /// Seconds each tick.
    time_base: Rational,
    /// Where the edit list says that the title begins.
    origin_ticks: i64,
    default_flags: u32,
}

impl Tracks {
    /// Reads `ftyp` and `moov`, behind which nothing may come.
    pub(super) fn read(init: &[u8]) -> Result<Self, String> {
        let ftyp_bytes = match init {
            [a, b, c, d, b'f', b't', b'y', b'p', ..] => u32::from_be_bytes([*a, *b, *c, *d]) as usize,
            _ => return Err("it does not begin with ftyp".into()),
        };
        let mut rest = init.get(ftyp_bytes..).ok_or("its ftyp is cut off")?;
        let moov = Moov::decode(&mut rest).map_err(|e| format!("its moov cannot be read: {e}"))?;
        if !rest.is_empty() {
            return Err(format!("{} bytes behind its moov", rest.len()));
        }
        let extends = moov.mvex.as_ref().map(|mvex| &mvex.trex[..]).unwrap_or_default();
        let flags = |id| extends.iter().find(|t| t.track_id == id).map(|t| t.default_sample_flags);
        let tracks: Result<Vec<_>, String> = moov.trak.iter().map(|trak| Track::read(trak, &flags)).collect();
        tracks.map(Self)
    }

    /// Reads segment `n` but for its media.
    pub(super) fn segment(&self, n: u64, reader: &mut impl Read) -> Result<Found, Stop> {
        let moof_bytes = box_size(reader, Moof::KIND)?.ok_or_else(|| "it is empty".to_owned())?;
        if !(HEADER_BYTES..=MAX_MOOF_BYTES).contains(&moof_bytes) {
            return Err(Stop::Wrong(format!("its moof has {moof_bytes} bytes")));
        }
        let mut body = vec![0; usize::try_from(moof_bytes - HEADER_BYTES).unwrap_or(0)];
        if fill(reader, &mut body)? < body.len() {
            return Err(Stop::Wrong("its moof is cut off".into()));
        }
        let moof = Moof::decode_body(&mut &body[..]).map_err(|e| format!("its moof cannot be read: {e}"))?;
        let mdat_bytes =
            box_size(reader, FourCC::new(b"mdat"))?.ok_or_else(|| "it has no mdat".to_owned())?;
        let media_bytes = std::io::copy(reader, &mut std::io::sink())?;
        if mdat_bytes != media_bytes + HEADER_BYTES {
            return Err(Stop::Wrong(format!("its mdat has {media_bytes} bytes and says {mdat_bytes}")));
        }
        self.check_moof(n, &moof, moof_bytes, media_bytes)?;
        Ok(self.found(&moof)?)
    }

    fn check_moof(&self, n: u64, moof: &Moof, moof_bytes: u64, media_bytes: u64) -> Result<(), String> {
        if u64::from(moof.mfhd.sequence_number) != n + 1 {
            return Err(format!("its sequence number is {} instead of {}", moof.mfhd.sequence_number, n + 1));
        }
        // The runs fill the mdat one behind the other.
        let mut at = moof_bytes + HEADER_BYTES;
        for run in moof.traf.iter().flat_map(|traf| &traf.trun) {
            if run.data_offset.and_then(|o| u64::try_from(o).ok()) != Some(at) {
                return Err(format!("a run of samples begins at {:?} instead of {at}", run.data_offset));
            }
            at += run.samples.iter().map(|s| u64::from(s.size.unwrap_or(0))).sum::<u64>();
        }
        let expected = moof_bytes + HEADER_BYTES + media_bytes;
        if at == expected {
            Ok(())
        } else {
            Err(format!("its samples end at byte {at} instead of {expected}"))
        }
    }

    fn found(&self, moof: &Moof) -> Result<Found, String> {
        let mut found = Found::default();
        for traf in &moof.traf {
            let id = traf.tfhd.track_id;
            let track =
                self.0.iter().find(|t| t.id == id).ok_or(format!("track {id} is not in the init segment"))?;
            let samples = track.samples(traf)?;
            let time_base = track.time_base;
            match samples.first() {
                None => return Err(format!("track {id} has no samples")),
                Some(first) if track.is_video => {
                    let starts_with_key = first.is_sync;
                    let pts = samples.iter().map(|s| s.pts).collect();
                    found.video = Some(FoundVideo { time_base, pts, starts_with_key });
                }
                Some(first) => {
                    let packets = Some(samples.len() as u64);
                    found.audio = Some(FoundAudio { time_base, first_pts: first.pts, packets });
                }
            }
        }
        Ok(found)
    }
}

struct Sample {
    pts: i64,
    is_sync: bool,
}

impl Track {
    fn read(trak: &mp4_atom::Trak, default_flags: &impl Fn(u32) -> Option<u32>) -> Result<Self, String> {
        let id = trak.tkhd.track_id;
        let edit = trak.edts.as_ref().and_then(|e| e.elst.as_ref()).and_then(|e| e.entries.first());
        let origin_ticks = edit.and_then(|e| e.media_time).unwrap_or(0);
        let time_base = Rational::checked_new(1, i64::from(trak.mdia.mdhd.timescale));
        Ok(Self {
            id,
            is_video: trak.mdia.hdlr.handler == FourCC::new(b"vide"),
            time_base: time_base.ok_or(format!("track {id} has no timescale"))?,
            origin_ticks: i64::try_from(origin_ticks).unwrap_or(i64::MAX),
            default_flags: default_flags(id).ok_or(format!("track {id} has no trex"))?,
        })
    }

    /// The samples of a fragment with their times from title time 0.
    fn samples(&self, traf: &Traf) -> Result<Vec<Sample>, String> {
        let tfdt = traf.tfdt.as_ref().ok_or(format!("track {} has no tfdt", self.id))?;
        let mut dts =
            i64::try_from(tfdt.base_media_decode_time).unwrap_or(i64::MAX).saturating_sub(self.origin_ticks);
        let mut samples = Vec::new();
        for entry in traf.trun.iter().flat_map(|run| run.samples.iter()) {
            let flags = entry.flags.or(traf.tfhd.default_sample_flags).unwrap_or(self.default_flags);
            let duration = entry.duration.or(traf.tfhd.default_sample_duration);
            let duration =
                duration.filter(|d| *d > 0).ok_or(format!("a sample of track {} has no length", self.id))?;
            let pts = dts.saturating_add(entry.cts.unwrap_or(0));
            samples.push(Sample { pts, is_sync: flags & NON_SYNC == 0 });
            dts = dts.saturating_add(i64::from(duration));
        }
        Ok(samples)
    }
}

/// The size that a box says, header included; `None` where the data ends.
fn box_size(reader: &mut impl Read, kind: FourCC) -> Result<Option<u64>, Stop> {
    let mut header = [0; HEADER_BYTES as usize];
    match fill(reader, &mut header)? {
        0 => return Ok(None),
        8 => {}
        n => return Err(Stop::Wrong(format!("{n} bytes where a box has to begin"))),
    }
    let [a, b, c, d, name @ ..] = header;
    if FourCC::new(&name) != kind {
        return Err(Stop::Wrong(format!("box {:?} where {kind:?} has to be", FourCC::new(&name))));
    }
    Ok(Some(u64::from(u32::from_be_bytes([a, b, c, d]))))
}
