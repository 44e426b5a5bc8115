//! What a title promises before any of it is made: its playlists.
//!
//! What enters: a plan, and its renditions described. What leaves: the text of the multivariant and of
//! the media playlists. Cuts are facts of the timeline; `BANDWIDTH` is an upper bound of what the rate
//! control lets an encoder spend (sound and container included): what is made later may need less, and
//! never more. Must not live here: files, threads, and the choice of what to offer.

use crate::base::error::{Error, Result, Stage};
use crate::base::time::{Rational, Rounding};
use crate::media::describe::Described;
use crate::media::plan::{Plan, Rendition};
use crate::model::job::{Format, SegmentType};
use crate::model::ladder;
use crate::model::playlist::{
    Bandwidth, MasterPlaylist, MediaPlaylist, PlaylistError, PlaylistKind, SegmentEntry, VERSION_FMP4,
    VERSION_TS, Variant, VideoRange,
};

/// The name of a rendition's playlist in its folder.
pub const INDEX: &str = "index.m3u8";
/// The name of its init segment.
pub const INIT: &str = "init.mp4";

/// Encoders keep to an average over seconds, not over each: their sound may need so much more for a while.
const AUDIO_PEAK_PERCENT: u64 = 125;
/// Bits of an MPEG-TS segment that do not depend on its length: tables, parameter sets, and up to 15
/// packets of filling for each of two tracks.
const TS_SEGMENT_BITS: u64 = (2 * 15 + 4) * 188 * 8;
/// The most that a coded picture costs besides itself in MPEG-TS: headers, clock, the rest of a packet.
const TS_PICTURE_BITS: u64 = 240 * 8;
/// The same for sound, each second: some ten PES packets, and a header for each frame.
const TS_AUDIO_BITS_EACH_SECOND: u64 = 10 * 220 * 8 + 50 * 7 * 8;
/// Payload of a transport packet and its whole.
const TS_PAYLOAD: (u64, u64) = (184, 188);
/// An fMP4 segment: boxes, and an entry for each picture.
const FMP4_SEGMENT_BITS: u64 = 512 * 8;
const FMP4_SAMPLE_BITS: u64 = 20 * 8;
/// How much of its cap a picture needs on average, as far as one can say before it is encoded.
const AVERAGE_PERCENT: u64 = 60;

/// The media playlist of a rendition, with URIs that begin with `prefix` and carry the file's `version`.
///
/// # Errors
/// A bug: the timeline's cuts follow each other.
pub fn media_playlist(plan: &Plan, prefix: &str, version: &str) -> Result<String> {
    playlist(plan, prefix, version).render().map_err(refused)
}

/// Of all renditions: they share their cuts.
fn playlist(plan: &Plan, prefix: &str, version: &str) -> MediaPlaylist {
    let (timeline, kind) = (&plan.timeline, segment_type(plan));
    let entry = |n: u64| SegmentEntry {
        uri: format!("{prefix}{n}.{}?v={version}", extension(kind)),
        start: timeline.frame_time(timeline.segment_start(n)),
        end: timeline.frame_time(timeline.segment_start(n + 1)),
    };
    MediaPlaylist {
        kind: PlaylistKind::Vod,
        init_uri: (kind == SegmentType::Fmp4).then(|| format!("{prefix}{INIT}?v={version}")),
        segments: (0..timeline.segment_count()).map(entry).collect(),
        // A client may be given this playlist alone.
        independent_segments: false,
        target_duration_at_least: None,
    }
}

/// The multivariant playlist.
///
/// # Errors
/// A bug: names that cannot stand in a playlist.
pub fn master_playlist(plan: &Plan, described: &[Described]) -> Result<String> {
    let media = playlist(plan, "", "");
    let line = |(rendition, described): (&Rendition, &Described)| {
        let bandwidth = promised(plan, rendition, &media);
        Variant {
            uri: format!("{}/{INDEX}", rendition.name),
            bandwidth_bps: bandwidth.peak_bps,
            average_bandwidth_bps: bandwidth.average_bps,
            codecs: described.codecs.clone(),
            resolution: resolution(plan, rendition),
            frame_rate: frame_rate(plan, rendition),
            video_range: plan.facts.video.as_ref().and_then(|v| VideoRange::from_transfer(v.colour.transfer)),
        }
    };
    let version = if segment_type(plan) == SegmentType::Ts { VERSION_TS } else { VERSION_FMP4 };
    let variants = plan.renditions.iter().zip(described).map(line).collect();
    let mut master = MasterPlaylist { variants, independent_segments: plan.video.is_some(), version };
    master.put_start_variant_first();
    master.render().map_err(refused)
}

/// The container of the title's segments.
pub fn segment_type(plan: &Plan) -> SegmentType {
    match plan.format {
        Format::Hls(kind) => kind,
        Format::Mp4 | Format::Mkv | Format::Ts => SegmentType::Ts,
    }
}

/// How the name of a segment ends.
pub fn extension(kind: SegmentType) -> &'static str {
    match kind {
        SegmentType::Ts => "ts",
        SegmentType::Fmp4 => "m4s",
    }
}

fn resolution(plan: &Plan, rendition: &Rendition) -> Option<(u32, u32)> {
    let video = plan.facts.video.as_ref().filter(|_| plan.video.is_some())?;
    let shown = || ladder::display_size(video.width, video.height, video.sample_aspect_ratio);
    Some(rendition.encode.as_ref().map_or_else(shown, |made| (made.width, made.height)))
}

fn frame_rate(plan: &Plan, rendition: &Rendition) -> Option<Rational> {
    let video = plan.facts.video.as_ref().filter(|_| plan.video.is_some())?;
    Some(if rendition.encode.is_some() { plan.timeline.frame_rate() } else { video.frame_rate })
}

/// The bit rates of a rendition: the peak is never passed, the average is a guess.
fn promised(plan: &Plan, rendition: &Rendition, media: &MediaPlaylist) -> Bandwidth {
    let cost = Cost::of(plan, rendition);
    let target = media.target_duration();
    let most = |s: &SegmentEntry| (cost.most_bytes(s.end - s.start), s.end - s.start);
    let peak_bps = Bandwidth::measure_at_target(media.segments.iter().map(most), Some(target)).peak_bps;
    let average_bps = cost.average_bps().clamp(1, peak_bps.max(1));
    Bandwidth { peak_bps: peak_bps.max(1), average_bps }
}

/// What a rendition's segments may cost.
struct Cost {
    kind: SegmentType,
    video_bps: u64,
    /// What a rate buffer lets an encoder spend on top, once for each segment.
    buffer_bits: u64,
    audio_bps: u64,
    pictures_each_second: u64,
    has_audio: bool,
}

impl Cost {
    fn of(plan: &Plan, rendition: &Rendition) -> Self {
        let made = rendition.encode.as_ref();
        let video_bps = made.map_or_else(
            || plan.facts.video.as_ref().and_then(|v| v.bitrate_bps).unwrap_or(0),
            |settings| settings.max_rate_bps.max(settings.bitrate_bps),
        );
        let encoded = plan.audio.as_ref().and_then(|audio| audio.encode.as_ref()).map(|a| a.bitrate_bps);
        let copied = plan.facts.audio.as_ref().and_then(|a| a.bitrate_bps);
        let rate = frame_rate(plan, rendition).unwrap_or(Rational::ZERO).round(Rounding::Ceil);
        Self {
            kind: segment_type(plan),
            video_bps,
            buffer_bits: made.map_or(video_bps, |settings| settings.buffer_bits.max(settings.max_rate_bps)),
            audio_bps: plan.audio.as_ref().map_or(0, |_| encoded.or(copied).unwrap_or(0)),
            pictures_each_second: u64::try_from(rate).unwrap_or(0),
            has_audio: plan.audio.is_some(),
        }
    }

    /// The most bytes of a segment of that length.
    fn most_bytes(&self, length: Rational) -> u64 {
        let span = |bits_each_second: u64| {
            let bits = Rational::from_int(i64::try_from(bits_each_second).unwrap_or(i64::MAX >> 20)) * length;
            u64::try_from(bits.round(Rounding::Ceil)).unwrap_or(0)
        };
        let audio = span(self.audio_bps * AUDIO_PEAK_PERCENT / 100);
        let media = span(self.video_bps) + self.buffer_bits + audio;
        let pictures = span(self.pictures_each_second) + 1;
        let bits = match self.kind {
            SegmentType::Ts => {
                let audio = if self.has_audio { span(TS_AUDIO_BITS_EACH_SECOND) } else { 0 };
                let (payload, whole) = TS_PAYLOAD;
                media * whole / payload + pictures * TS_PICTURE_BITS + audio + TS_SEGMENT_BITS
            }
            SegmentType::Fmp4 => media + (2 * pictures) * FMP4_SAMPLE_BITS + FMP4_SEGMENT_BITS,
        };
        bits.div_ceil(8)
    }

    fn average_bps(&self) -> u64 {
        self.video_bps * AVERAGE_PERCENT / 100 + self.audio_bps
    }
}

fn refused(e: PlaylistError) -> Error {
    Error::internal(Stage::Plan, format!("the playlist cannot be written: {e}"))
}
