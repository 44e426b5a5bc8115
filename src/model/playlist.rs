//! HLS playlists as text, made from data.
//!
//! What enters: cut times as exact seconds, URIs, measured or promised bit rates, codec strings.
//! What leaves: the bytes of a media or a multivariant playlist that keep RFC 8216 and
//! draft-pantos-hls-rfc8216bis ("bis" below), and the bit rates that `BANDWIDTH` is defined by.
//! Must not live here: files, sockets, libav, and any decision about where to cut or what to offer.
//!
//! Text that could break a playlist (a quote, a line end, a blank in a URI) is refused with a
//! [`PlaylistError`], never repaired: a repaired URI would name a file that nobody has written.

use crate::base::time::{Rational, Rounding};
use std::fmt::Write as _;

/// `EXT-X-VERSION` for playlists of MPEG-TS segments: decimal `EXTINF` needs 3 (bis §8).
pub const VERSION_TS: u8 = 3;
/// `EXT-X-VERSION` for playlists with `EXT-X-MAP`: 6 is the least (bis §8), and 7 is what fMP4
/// packagers have always written, so it is what clients were tested with.
pub const VERSION_FMP4: u8 = 7;

const MICROS: i64 = 1_000_000;
/// The bit rate to start with where the line is unknown (HLS Authoring Specification 1.32).
const START_BPS: u64 = 2_000_000;

/// Why a playlist cannot be written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlaylistError {
    /// A URI that would end its line or its attribute early, or that clients read differently.
    #[error(
        "{uri:?} cannot stand in a playlist: a URI is printable ASCII without blanks and quotes, and does not begin with '#'; percent-encode the rest"
    )]
    BadUri {
        /// The URI as given.
        uri: String,
    },
    /// A segment that is nothing long once rounded to the microsecond.
    #[error(
        "segment {index} runs from {start} s to {end} s: it has to end at least a microsecond after it starts; join it to its neighbour"
    )]
    EmptySegment {
        /// Position in the playlist, from 0.
        index: usize,
        /// Start as given, seconds.
        start: Rational,
        /// End as given, seconds.
        end: Rational,
    },
    /// A hole or an overlap: a playlist has no way to say it, so every later time would be wrong.
    #[error(
        "segment {index} starts at {start} s but the one before it ends at {previous_end} s: segments follow each other without gap or overlap"
    )]
    NotContiguous {
        /// Position of the later of the two, from 0.
        index: usize,
        /// Its start, seconds.
        start: Rational,
        /// Where it should have started, seconds.
        previous_end: Rational,
    },
    /// A multivariant playlist with nothing to play.
    #[error("a multivariant playlist needs at least one variant")]
    NoVariants,
    /// A variant without `CODECS`: clients would have to fetch media to find out what it is.
    #[error("variant {uri}: no codec string; give one for each track in it")]
    NoCodecs {
        /// The variant.
        uri: String,
    },
    /// A codec string that would break out of the quoted list.
    #[error("variant {uri}: {codec:?} is not a codec string (RFC 6381: letters, digits, '.', '-', '_')")]
    BadCodec {
        /// The variant.
        uri: String,
        /// The string as given.
        codec: String,
    },
    /// Bit rates that no stream can have.
    #[error(
        "variant {uri}: BANDWIDTH {peak_bps} with AVERAGE-BANDWIDTH {average_bps}: the average has to be above 0 and at most the peak"
    )]
    BadBandwidth {
        /// The variant.
        uri: String,
        /// `bandwidth_bps` as given.
        peak_bps: u64,
        /// `average_bandwidth_bps` as given.
        average_bps: u64,
    },
}

/// What a client may expect of a media playlist's future (bis §4.4.3.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlaylistKind {
    /// Whole and final: `VOD` with `EXT-X-ENDLIST`.
    Vod,
    /// Lines are only ever added at the end; with `ended` the last one has been.
    Event {
        /// Whether `EXT-X-ENDLIST` is written.
        ended: bool,
    },
}

/// One line pair of a media playlist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentEntry {
    /// Relative to the playlist, percent-encoded.
    pub uri: String,
    /// Where the segment starts, seconds from title time 0, exact.
    pub start: Rational,
    /// Where it ends: the next one's start, exact.
    pub end: Rational,
}

/// A media playlist (bis §4.4.3): the segments of one rendition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaPlaylist {
    /// Finished or growing.
    pub kind: PlaylistKind,
    /// Initialisation segment, for fMP4; sets the version too.
    pub init_uri: Option<String>,
    /// In order, each starting where the one before it ends. Empty is allowed: a title has begun.
    pub segments: Vec<SegmentEntry>,
    /// Write `EXT-X-INDEPENDENT-SEGMENTS` here: only where the multivariant playlist does not.
    pub independent_segments: bool,
    /// A `TARGETDURATION` in whole seconds to stay at or above, so that all renditions of a title,
    /// and a growing playlist through its life (the value must not change, bis §4.4.3.1), share one.
    pub target_duration_at_least: Option<u64>,
}

impl MediaPlaylist {
    /// The playlist's text, lines ended by LF.
    ///
    /// # Errors
    /// [`PlaylistError::BadUri`], [`PlaylistError::EmptySegment`], [`PlaylistError::NotContiguous`].
    pub fn render(&self) -> Result<String, PlaylistError> {
        self.check()?;
        let mut out = String::with_capacity(256 + self.segments.len() * 40);
        self.write_head(&mut out);
        for segment in &self.segments {
            let _ = writeln!(out, "#EXTINF:{},\n{}", decimal(segment.extinf_us(), 6), segment.uri);
        }
        if self.is_complete() {
            out.push_str("#EXT-X-ENDLIST\n");
        }
        Ok(out)
    }

    /// `EXT-X-TARGETDURATION`: the longest `EXTINF`, rounded up to whole seconds, and at least 1 and
    /// [`MediaPlaylist::target_duration_at_least`] (bis §4.4.3.1; Apple 7.7).
    pub fn target_duration(&self) -> u64 {
        let longest = self.segments.iter().map(SegmentEntry::extinf_us).max().unwrap_or(0);
        whole_seconds(longest).max(self.target_duration_at_least.unwrap_or(1))
    }

    fn is_complete(&self) -> bool {
        self.kind != PlaylistKind::Event { ended: false }
    }

    fn write_head(&self, out: &mut String) {
        let (version, kind) = match (&self.init_uri, self.kind) {
            (None, PlaylistKind::Vod) => (VERSION_TS, "VOD"),
            (None, PlaylistKind::Event { .. }) => (VERSION_TS, "EVENT"),
            (Some(_), PlaylistKind::Vod) => (VERSION_FMP4, "VOD"),
            (Some(_), PlaylistKind::Event { .. }) => (VERSION_FMP4, "EVENT"),
        };
        write_preamble(out, version, self.independent_segments);
        let _ = writeln!(out, "#EXT-X-TARGETDURATION:{}", self.target_duration());
        let _ = writeln!(out, "#EXT-X-MEDIA-SEQUENCE:0\n#EXT-X-PLAYLIST-TYPE:{kind}");
        if let Some(uri) = &self.init_uri {
            let _ = writeln!(out, "#EXT-X-MAP:URI=\"{uri}\"");
        }
    }

    fn check(&self) -> Result<(), PlaylistError> {
        self.init_uri.iter().try_for_each(|uri| check_uri(uri))?;
        let mut previous_end = None;
        for (index, segment) in self.segments.iter().enumerate() {
            check_uri(&segment.uri)?;
            let (start, end) = (segment.start, segment.end);
            if let Some(previous_end) = previous_end.filter(|p| *p != start) {
                return Err(PlaylistError::NotContiguous { index, start, previous_end });
            }
            if segment.extinf_us() <= 0 {
                return Err(PlaylistError::EmptySegment { index, start, end });
            }
            previous_end = Some(end);
        }
        Ok(())
    }
}

impl SegmentEntry {
    /// The difference of the two *rounded* cut times, in microseconds. Rounding the cuts and not
    /// the lengths keeps every sum over a run of segments within a microsecond of the truth.
    fn extinf_us(&self) -> i64 {
        micros(self.end).saturating_sub(micros(self.start))
    }
}

/// `VIDEO-RANGE` (bis §4.4.6.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VideoRange {
    /// Standard dynamic range.
    Sdr,
    /// SMPTE ST 2084: HDR10, HDR10+, most of Dolby Vision.
    Pq,
    /// ARIB STD-B67.
    Hlg,
}

impl VideoRange {
    /// From `transfer_characteristics` (ISO/IEC 23091-2); `None` for a code that bis does not map.
    pub fn from_transfer(transfer: u8) -> Option<Self> {
        match transfer {
            1 | 6 | 13 | 14 | 15 => Some(Self::Sdr),
            16 => Some(Self::Pq),
            18 => Some(Self::Hlg),
            _ => None,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Sdr => "SDR",
            Self::Pq => "PQ",
            Self::Hlg => "HLG",
        }
    }
}

/// One `EXT-X-STREAM-INF` (bis §4.4.6.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variant {
    /// The media playlist, relative to this one, percent-encoded.
    pub uri: String,
    /// `BANDWIDTH`: no run of segments may need more (see [`Bandwidth`]), bits each second.
    pub bandwidth_bps: u64,
    /// `AVERAGE-BANDWIDTH`, bits each second; at most `bandwidth_bps`.
    pub average_bandwidth_bps: u64,
    /// RFC 6381 strings of every track in the variant; doubles are written once.
    pub codecs: Vec<String>,
    /// Display width and height in square pixels; `None` for sound alone.
    pub resolution: Option<(u32, u32)>,
    /// Frames each second; left out of the playlist unless above nought.
    pub frame_rate: Option<Rational>,
    /// Dynamic range; written once any variant of the playlist is not SDR.
    pub video_range: Option<VideoRange>,
}

/// A multivariant ("master") playlist (bis §4.4.6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MasterPlaylist {
    /// In the order in which they are written; a client starts with the first.
    pub variants: Vec<Variant>,
    /// Write `EXT-X-INDEPENDENT-SEGMENTS` here, for all variants at once.
    pub independent_segments: bool,
    /// `EXT-X-VERSION`: [`VERSION_TS`] or [`VERSION_FMP4`], the highest of the variants'.
    pub version: u8,
}

impl MasterPlaylist {
    /// The playlist's text, lines ended by LF.
    ///
    /// # Errors
    /// [`PlaylistError::NoVariants`], and for a variant [`PlaylistError::BadUri`],
    /// [`PlaylistError::NoCodecs`], [`PlaylistError::BadCodec`], [`PlaylistError::BadBandwidth`].
    pub fn render(&self) -> Result<String, PlaylistError> {
        if self.variants.is_empty() {
            return Err(PlaylistError::NoVariants);
        }
        self.variants.iter().try_for_each(Variant::check)?;
        let with_range = self.variants.iter().any(|v| !matches!(v.video_range, None | Some(VideoRange::Sdr)));
        let mut out = String::new();
        write_preamble(&mut out, self.version, self.independent_segments);
        for variant in &self.variants {
            variant.write_to(&mut out, with_range);
        }
        Ok(out)
    }

    /// Puts the variant to start with first and the others behind it by falling `BANDWIDTH`.
    ///
    /// The first is the one nearest to 2 Mbit/s from below, else the lowest of all (HLS Authoring
    /// Specification 1.32). Sound alone comes first only where there is nothing else: a client that
    /// starts without a picture may never look for one.
    pub fn put_start_variant_first(&mut self) {
        self.variants.sort_by_key(|v| std::cmp::Reverse(v.bandwidth_bps));
        let has_video = self.variants.iter().any(|v| v.resolution.is_some());
        let eligible = |v: &Variant| v.resolution.is_some() || !has_video;
        let from_below = self.variants.iter().position(|v| eligible(v) && v.bandwidth_bps <= START_BPS);
        let start = from_below.or_else(|| self.variants.iter().rposition(eligible));
        if let Some(run) = start.and_then(|at| self.variants.get_mut(..=at)) {
            run.rotate_right(1);
        }
    }
}

impl Variant {
    fn check(&self) -> Result<(), PlaylistError> {
        check_uri(&self.uri)?;
        let uri = self.uri.clone();
        let (peak_bps, average_bps) = (self.bandwidth_bps, self.average_bandwidth_bps);
        if average_bps == 0 || average_bps > peak_bps {
            return Err(PlaylistError::BadBandwidth { uri, peak_bps, average_bps });
        }
        if self.codecs.is_empty() {
            return Err(PlaylistError::NoCodecs { uri });
        }
        match self.codecs.iter().find(|codec| !is_codec_string(codec)) {
            Some(codec) => Err(PlaylistError::BadCodec { uri, codec: codec.clone() }),
            None => Ok(()),
        }
    }

    fn write_to(&self, out: &mut String, with_range: bool) {
        let (peak, average) = (self.bandwidth_bps, self.average_bandwidth_bps);
        let _ = write!(out, "#EXT-X-STREAM-INF:BANDWIDTH={peak},AVERAGE-BANDWIDTH={average}");
        let _ = write!(out, ",CODECS=\"{}\"", self.codec_list());
        if let Some((width, height)) = self.resolution {
            let _ = write!(out, ",RESOLUTION={width}x{height}");
        }
        if let Some(rate) = self.frame_rate.filter(|rate| rate.is_positive()) {
            let thousandths = (rate * Rational::from_int(1000)).round(Rounding::Nearest);
            let _ = write!(out, ",FRAME-RATE={}", decimal(thousandths, 3));
        }
        if let Some(range) = self.video_range.filter(|_| with_range) {
            let _ = write!(out, ",VIDEO-RANGE={}", range.as_str());
        }
        let _ = writeln!(out, "\n{}", self.uri);
    }

    fn codec_list(&self) -> String {
        let mut unique: Vec<&str> = Vec::new();
        for codec in &self.codecs {
            if !unique.contains(&codec.as_str()) {
                unique.push(codec);
            }
        }
        unique.join(",")
    }
}

/// The two bit rates that a media playlist has by definition (RFC 8216 §4.1, kept by bis), which
/// `BANDWIDTH` and `AVERAGE-BANDWIDTH` of its variant are measured in (bis §4.4.6.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bandwidth {
    /// Peak segment bit rate, bits each second, rounded up. Never below `average_bps`.
    pub peak_bps: u64,
    /// Average segment bit rate, bits each second, rounded up.
    pub average_bps: u64,
}

impl Bandwidth {
    /// As [`Bandwidth::measure_at_target`] with the target duration that the segments themselves ask for.
    pub fn measure(segments: impl IntoIterator<Item = (u64, Rational)>) -> Self {
        Self::measure_at_target(segments, None)
    }

    /// Bit rates of segments given in order as bytes (container included) and seconds.
    ///
    /// The peak is the highest rate of any contiguous run of segments that lasts from 0.5 to 1.5
    /// target durations: a short last segment counts together with its neighbour, not on its own.
    /// `at_least` is [`MediaPlaylist::target_duration_at_least`]. Where the runs leave the peak
    /// below the average (which the definition allows: short, heavy ends around a light middle) or
    /// undefined (less than half a target duration in all), the average stands for it. Lengths
    /// below nought count as nought; nothing at all gives zeros.
    pub fn measure_at_target(
        segments: impl IntoIterator<Item = (u64, Rational)>,
        at_least: Option<u64>,
    ) -> Self {
        let segments: Vec<(u64, Rational)> =
            segments.into_iter().map(|(bytes, span)| (bytes, span.max(Rational::ZERO))).collect();
        let longest = segments.iter().map(|(_, span)| micros(*span)).max().unwrap_or(0);
        let target = whole_seconds(longest).max(at_least.unwrap_or(1));
        let mut all = Run::default();
        segments.iter().for_each(|segment| all.add(segment));
        let average_bps = all.bits_each_second();
        Self { peak_bps: peak_bps(&segments, target).max(average_bps), average_bps }
    }
}

fn peak_bps(segments: &[(u64, Rational)], target_s: u64) -> u64 {
    let target = Rational::from_int(i64::try_from(target_s).unwrap_or(i64::MAX));
    let (least, most) = (target * Rational::new(1, 2), target * Rational::new(3, 2));
    let mut peak = 0;
    for first in 0..segments.len() {
        let mut run = Run::default();
        for segment in segments.iter().skip(first) {
            run.add(segment);
            if run.span > most {
                break;
            }
            if run.span >= least {
                peak = peak.max(run.bits_each_second());
            }
        }
    }
    peak
}

/// Neighbouring segments taken together.
struct Run {
    bytes: u128,
    span: Rational,
}

impl Default for Run {
    fn default() -> Self {
        Self { bytes: 0, span: Rational::ZERO }
    }
}

impl Run {
    fn add(&mut self, (bytes, span): &(u64, Rational)) {
        self.bytes += u128::from(*bytes);
        self.span = self.span + *span;
    }

    fn bits_each_second(&self) -> u64 {
        let seconds_num = u128::from(self.span.num().unsigned_abs());
        if seconds_num == 0 {
            return 0;
        }
        let bits = self.bytes.saturating_mul(8).saturating_mul(u128::from(self.span.den().unsigned_abs()));
        u64::try_from(bits.div_ceil(seconds_num)).unwrap_or(u64::MAX)
    }
}

fn write_preamble(out: &mut String, version: u8, independent_segments: bool) {
    let _ = writeln!(out, "#EXTM3U\n#EXT-X-VERSION:{version}");
    if independent_segments {
        out.push_str("#EXT-X-INDEPENDENT-SEGMENTS\n");
    }
}

/// Printable ASCII only: clients disagree on blanks and on letters beyond ASCII.
fn check_uri(uri: &str) -> Result<(), PlaylistError> {
    let plain = uri.bytes().all(|b| b.is_ascii_graphic() && b != b'"');
    if plain && !uri.is_empty() && !uri.starts_with('#') {
        return Ok(());
    }
    Err(PlaylistError::BadUri { uri: uri.to_owned() })
}

fn is_codec_string(codec: &str) -> bool {
    !codec.is_empty() && codec.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
}

fn micros(seconds: Rational) -> i64 {
    (seconds * Rational::from_int(MICROS)).round(Rounding::Nearest)
}

/// Rounded up; at least 1, which is the least that `TARGETDURATION` may be.
fn whole_seconds(micros: i64) -> u64 {
    u64::try_from(micros).unwrap_or(0).div_ceil(MICROS as u64).max(1)
}

/// `units` of ten to the minus `places` as a decimal number; `units` is not negative.
fn decimal(units: i64, places: u32) -> String {
    let scale = 10_i64.pow(places);
    format!("{}.{:0width$}", units / scale, units % scale, width = places as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn r(num: i64, den: i64) -> Rational {
        Rational::new(num, den)
    }

    fn cuts(times: &[Rational], ext: &str) -> Vec<SegmentEntry> {
        let pairs = times.windows(2).enumerate();
        pairs.map(|(n, w)| SegmentEntry { uri: format!("{n}.{ext}"), start: w[0], end: w[1] }).collect()
    }

    fn media(kind: PlaylistKind, times: &[Rational]) -> MediaPlaylist {
        let segments = cuts(times, "ts");
        let (init_uri, target_duration_at_least) = (None, None);
        MediaPlaylist { kind, init_uri, segments, independent_segments: false, target_duration_at_least }
    }

    fn variant(uri: &str, bandwidth_bps: u64) -> Variant {
        Variant {
            uri: uri.into(),
            bandwidth_bps,
            average_bandwidth_bps: bandwidth_bps / 2,
            codecs: vec!["avc1.64001f".into(), "mp4a.40.2".into()],
            resolution: Some((1280, 720)),
            frame_rate: Some(r(24000, 1001)),
            video_range: None,
        }
    }

    fn master(variants: Vec<Variant>) -> MasterPlaylist {
        MasterPlaylist { variants, independent_segments: true, version: VERSION_TS }
    }

    #[test]
    fn vod_of_transport_stream_segments() {
        // 96 frames of 24000/1001 last 4.004 s; the tail is 11 frames: 0.458791(6).
        let times = [Rational::ZERO, r(96 * 1001, 24000), r(192 * 1001, 24000), r(203 * 1001, 24000)];
        assert_eq!(
            media(PlaylistKind::Vod, &times).render().unwrap(),
            "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:5\n#EXT-X-MEDIA-SEQUENCE:0\n\
             #EXT-X-PLAYLIST-TYPE:VOD\n#EXTINF:4.004000,\n0.ts\n#EXTINF:4.004000,\n1.ts\n\
             #EXTINF:0.458792,\n2.ts\n#EXT-X-ENDLIST\n"
        );
    }

    #[test]
    fn event_of_fmp4_grows_then_ends() {
        let mut playlist = media(PlaylistKind::Event { ended: false }, &[r(0, 1), r(4, 1)]);
        playlist.segments = cuts(&[r(0, 1), r(4, 1)], "m4s");
        playlist.init_uri = Some("init.mp4".into());
        playlist.independent_segments = true;
        playlist.target_duration_at_least = Some(6);
        let open = "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-INDEPENDENT-SEGMENTS\n#EXT-X-TARGETDURATION:6\n\
                    #EXT-X-MEDIA-SEQUENCE:0\n#EXT-X-PLAYLIST-TYPE:EVENT\n#EXT-X-MAP:URI=\"init.mp4\"\n\
                    #EXTINF:4.000000,\n0.m4s\n";
        assert_eq!(playlist.render().unwrap(), open);
        playlist.kind = PlaylistKind::Event { ended: true };
        assert_eq!(playlist.render().unwrap(), format!("{open}#EXT-X-ENDLIST\n"));
    }

    #[test]
    fn rounding_is_of_the_cuts_and_not_of_the_lengths() {
        // Thirds of a second: each alone rounds to .333333, but three of them are one second.
        let times: Vec<_> = (0..4).map(|n| r(n, 3)).collect();
        let text = media(PlaylistKind::Vod, &times).render().unwrap();
        let lengths: Vec<_> = text.lines().filter_map(|l| l.strip_prefix("#EXTINF:")).collect();
        assert_eq!(lengths, ["0.333333,", "0.333334,", "0.333333,"]);
    }

    #[test]
    fn target_duration_is_the_longest_rounded_up() {
        let of = |end| media(PlaylistKind::Vod, &[r(0, 1), end]).target_duration();
        assert_eq!(of(r(1, 25)), 1);
        assert_eq!(of(r(6, 1)), 6);
        assert_eq!(of(r(6_000_001, 1_000_000)), 7);
        assert_eq!(of(r(60_000_001, 10_000_000)), 6); // 6.0000001 is written as 6.000000
        assert_eq!(media(PlaylistKind::Event { ended: false }, &[]).target_duration(), 1);
    }

    #[test]
    fn what_a_playlist_cannot_say_is_refused() {
        let (zero, four) = (Rational::ZERO, r(4, 1));
        let empty = media(PlaylistKind::Vod, &[zero, four, four]);
        assert_eq!(empty.render(), Err(PlaylistError::EmptySegment { index: 1, start: four, end: four }));
        let mut gap = media(PlaylistKind::Vod, &[zero, four, r(8, 1)]);
        gap.segments[1].start = r(9, 2);
        let expected = PlaylistError::NotContiguous { index: 1, start: r(9, 2), previous_end: four };
        assert_eq!(gap.render(), Err(expected));
        for bad in ["", "#0.ts", "a b.ts", "a\n.ts", "a\".ts", "ä.ts", "a\r.ts", "a\u{7f}.ts"] {
            let mut playlist = media(PlaylistKind::Vod, &[zero, four]);
            playlist.init_uri = Some(bad.into());
            assert_eq!(playlist.render(), Err(PlaylistError::BadUri { uri: bad.into() }));
        }
    }

    #[test]
    fn multivariant() {
        let mut uhd = variant("2160p/index.m3u8", 20_000_000);
        uhd.codecs = ["hvc1.2.4.L153.B0", "mp4a.40.2", "hvc1.2.4.L153.B0"].map(String::from).to_vec();
        (uhd.resolution, uhd.video_range) = (Some((3840, 2160)), Some(VideoRange::Pq));
        let mut sdr = variant("720p/index.m3u8", 3_000_001);
        (sdr.frame_rate, sdr.video_range) = (Some(r(50, 1)), Some(VideoRange::Sdr));
        assert_eq!(
            MasterPlaylist { version: VERSION_FMP4, ..master(vec![sdr, uhd]) }.render().unwrap(),
            "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-INDEPENDENT-SEGMENTS\n\
             #EXT-X-STREAM-INF:BANDWIDTH=3000001,AVERAGE-BANDWIDTH=1500000,CODECS=\"avc1.64001f,mp4a.40.2\",\
             RESOLUTION=1280x720,FRAME-RATE=50.000,VIDEO-RANGE=SDR\n720p/index.m3u8\n\
             #EXT-X-STREAM-INF:BANDWIDTH=20000000,AVERAGE-BANDWIDTH=10000000,\
             CODECS=\"hvc1.2.4.L153.B0,mp4a.40.2\",RESOLUTION=3840x2160,FRAME-RATE=23.976,VIDEO-RANGE=PQ\n\
             2160p/index.m3u8\n"
        );
    }

    #[test]
    fn range_is_left_out_where_all_is_sdr_and_picture_attributes_where_there_is_none() {
        let mut video = variant("v.m3u8", 2_000);
        (video.video_range, video.frame_rate) = (Some(VideoRange::Sdr), Some(r(30000, 1001)));
        let mut audio = variant("a.m3u8", 1_000);
        (audio.resolution, audio.frame_rate) = (None, None);
        audio.codecs.remove(0);
        let playlist = MasterPlaylist { independent_segments: false, ..master(vec![video, audio]) };
        assert_eq!(
            playlist.render().unwrap(),
            "#EXTM3U\n#EXT-X-VERSION:3\n\
             #EXT-X-STREAM-INF:BANDWIDTH=2000,AVERAGE-BANDWIDTH=1000,CODECS=\"avc1.64001f,mp4a.40.2\",\
             RESOLUTION=1280x720,FRAME-RATE=29.970\nv.m3u8\n\
             #EXT-X-STREAM-INF:BANDWIDTH=1000,AVERAGE-BANDWIDTH=500,CODECS=\"mp4a.40.2\"\na.m3u8\n"
        );
    }
}
