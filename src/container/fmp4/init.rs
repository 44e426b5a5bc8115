//! The initialisation segment: `ftyp` and `moov` (ISO/IEC 14496-12, 4.3 and 8.2).
//!
//! What enters: described tracks. What leaves: bytes that name no sample and no duration, so that
//! they are the same for every run over the title.

use super::boxes::boxed;
use super::entry::{audio_entry, video_entry};
use super::segment::{Lane, NON_SYNC_SAMPLE, SYNC_SAMPLE};
use super::{Fmp4Error, TrackKind};
use crate::base::time::{Rational, Rounding};
use crate::model::track::{AudioTrack, VideoTrack};
use mp4_atom::{
    Codec, Dinf, Dref, Edts, Elst, ElstEntry, Encode, FixedPoint, FourCC, Ftyp, Hdlr, Mdhd, Mvex, Mvhd, Smhd,
    Stbl, Stco, Stsd, Tkhd, Trex, Url, Vmhd,
};

/// Ticks of the movie header. Nothing is measured in them: durations are unknown and hence 0.
const MOVIE_TIMESCALE: u32 = 1000;

/// What `moov` says of one track.
pub(super) struct Described {
    kind: TrackKind,
    track_id: u32,
    timescale: u32,
    /// Where the presentation begins in the media; `None` writes no edit list.
    edit_media_time: Option<u64>,
    /// Display size in pixels as 16.16.
    display: (FixedPoint<u16>, FixedPoint<u16>),
    entry: Codec,
}

/// Describes a video track.
pub(super) fn describe_video(track: &VideoTrack, lane: &Lane) -> Result<Described, Fmp4Error> {
    let entry = video_entry(track)?;
    let width = Rational::from_int(i64::from(track.width)) * track.sample_aspect_ratio;
    // An unknown aspect ratio is 0; a display without width helps nobody.
    let width = if width.is_positive() { width } else { Rational::from_int(i64::from(track.width)) };
    let height = Rational::from_int(i64::from(track.height));
    Ok(Described {
        kind: TrackKind::Video,
        track_id: lane.track_id,
        timescale: lane.timescale,
        edit_media_time: edit_media_time(lane),
        display: (fixed_point(width, "display width")?, fixed_point(height, "display height")?),
        entry,
    })
}

/// Describes an audio track, with a packet of it for codecs without configuration.
pub(super) fn describe_audio(
    track: &AudioTrack,
    lane: &Lane,
    first_audio: Option<&[u8]>,
) -> Result<Described, Fmp4Error> {
    Ok(Described {
        kind: TrackKind::Audio,
        track_id: lane.track_id,
        timescale: lane.timescale,
        edit_media_time: edit_media_time(lane),
        display: (0.into(), 0.into()),
        entry: audio_entry(track, first_audio)?,
    })
}

fn edit_media_time(lane: &Lane) -> Option<u64> {
    u64::try_from(lane.shift_ticks).ok().filter(|&ticks| ticks > 0)
}

fn fixed_point(value: Rational, field: &'static str) -> Result<FixedPoint<u16>, Fmp4Error> {
    let scaled = (value * Rational::from_int(1 << 16)).round(Rounding::Nearest);
    let range = Fmp4Error::Range { track: TrackKind::Video, field };
    let [a, b, c, d] = u32::try_from(scaled).map_err(|_| range)?.to_be_bytes();
    Ok(FixedPoint::new(u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])))
}

/// Writes `ftyp` and `moov`.
pub(super) fn write(tracks: Vec<Described>) -> Result<Vec<u8>, Fmp4Error> {
    let mut out = Vec::with_capacity(2048);
    ftyp().encode(&mut out)?;
    boxed(&mut out, b"moov", |out| {
        let next_track_id = tracks.iter().map(|track| track.track_id + 1).max().unwrap_or(1);
        mvhd(next_track_id).encode(out)?;
        let trex = tracks.iter().map(trex).collect();
        tracks.into_iter().try_for_each(|track| write_trak(track, out))?;
        Ok(Mvex { mehd: None, trex }.encode(out)?)
    })?;
    Ok(out)
}

/// `iso6` for `tfdt` and version 1 of `trun`, `cmfc` for CMAF, `mp41` for old players, and `hlsf`, which
/// some television players look for.
fn ftyp() -> Ftyp {
    let brands = [b"iso6", b"cmfc", b"mp41", b"hlsf"].map(FourCC::new);
    Ftyp { major_brand: FourCC::new(b"iso6"), minor_version: 0, compatible_brands: brands.to_vec() }
}

fn mvhd(next_track_id: u32) -> Mvhd {
    // Rate and volume are 1; the crate's default of 0 would mean a frozen, silent movie.
    Mvhd { timescale: MOVIE_TIMESCALE, rate: 1.into(), volume: 1.into(), next_track_id, ..Mvhd::default() }
}

fn trex(track: &Described) -> Trex {
    let default_sample_flags = match track.kind {
        TrackKind::Video => NON_SYNC_SAMPLE,
        TrackKind::Audio => SYNC_SAMPLE,
    };
    Trex {
        track_id: track.track_id,
        default_sample_description_index: 1,
        default_sample_flags,
        ..Trex::default()
    }
}

fn write_trak(track: Described, out: &mut Vec<u8>) -> Result<(), Fmp4Error> {
    boxed(out, b"trak", |out| {
        tkhd(&track).encode(out)?;
        if let Some(media_time) = track.edit_media_time {
            edts(media_time).encode(out)?;
        }
        boxed(out, b"mdia", |out| write_mdia(track, out))
    })
}

fn tkhd(track: &Described) -> Tkhd {
    Tkhd {
        track_id: track.track_id,
        enabled: true,
        in_movie: true,
        volume: if track.kind == TrackKind::Audio { 1.into() } else { 0.into() },
        width: track.display.0,
        height: track.display.1,
        ..Tkhd::default()
    }
}

/// One edit from `media_time` on; in a fragmented file a duration of 0 means "to the end" (8.6.6).
fn edts(media_time: u64) -> Edts {
    let entry = ElstEntry { segment_duration: 0, media_time: Some(media_time), media_rate: 1.into() };
    Edts { elst: Some(Elst { entries: vec![entry] }) }
}

fn write_mdia(track: Described, out: &mut Vec<u8>) -> Result<(), Fmp4Error> {
    let (handler, name) = match track.kind {
        TrackKind::Video => (b"vide", "VideoHandler"),
        TrackKind::Audio => (b"soun", "SoundHandler"),
    };
    Mdhd { timescale: track.timescale, language: "und".to_owned(), ..Mdhd::default() }.encode(out)?;
    Hdlr { handler: FourCC::new(handler), name: name.to_owned() }.encode(out)?;
    boxed(out, b"minf", |out| {
        match track.kind {
            TrackKind::Video => Vmhd::default().encode(out)?,
            TrackKind::Audio => Smhd::default().encode(out)?,
        }
        Dinf { dref: Dref { entries: vec![Url::default().into()] } }.encode(out)?;
        let stsd = Stsd { codecs: vec![track.entry] };
        Ok(Stbl { stsd, stco: Some(Stco::default()), ..Stbl::default() }.encode(out)?)
    })
}
