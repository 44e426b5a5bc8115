//! Playlists as they are written (RFC 8216, 4): tags, attributes, segments, variants.
//!
//! What enters: the text. What leaves: everything that the rules ask about, each with its line. Reading
//! never fails: what is odd stays odd for the rules to see. Shares nothing with `model::playlist`.

/// A tag: `#EXT-X-MAP:URI="init.mp4"` is `EXT-X-MAP` with its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tag {
    pub(super) line: usize,
    pub(super) name: String,
    pub(super) value: String,
}

/// `NAME=value,NAME="value"` (4.2).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Attributes(Vec<(String, String)>);

impl Attributes {
    pub(super) fn parse(text: &str) -> Self {
        let mut found = Vec::new();
        let mut rest = text;
        while let Some((name, after)) = rest.split_once('=') {
            let (value, behind) = match after.strip_prefix('"') {
                Some(quoted) => {
                    let (value, behind) = quoted.split_once('"').unwrap_or((quoted, ""));
                    (value, behind.trim_start().strip_prefix(',').unwrap_or(""))
                }
                None => after.split_once(',').unwrap_or((after, "")),
            };
            found.push((name.trim().to_owned(), value.trim().to_owned()));
            rest = behind;
        }
        Self(found)
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn number(&self, name: &str) -> Option<u64> {
        self.get(name)?.parse().ok()
    }

    pub(super) fn is_yes(&self, name: &str) -> bool {
        self.get(name) == Some("YES")
    }

    /// `WIDTHxHEIGHT`.
    pub(super) fn resolution(&self) -> Option<(u32, u32)> {
        let (width, height) = self.get("RESOLUTION")?.split_once('x')?;
        Some((width.parse().ok()?, height.parse().ok()?)).filter(|(w, h)| *w > 0 && *h > 0)
    }

    /// `FRAME-RATE`.
    pub(super) fn frame_rate(&self) -> Option<f64> {
        self.get("FRAME-RATE")?.parse().ok().filter(|rate: &f64| rate.is_finite() && *rate > 0.0)
    }

    /// The strings in `CODECS`.
    pub(super) fn codecs(&self) -> Vec<&str> {
        let list = self.get("CODECS").unwrap_or_default();
        list.split(',').map(str::trim).filter(|codec| !codec.is_empty()).collect()
    }

    /// All of them but those named.
    pub(super) fn without(&self, names: &[&str]) -> Vec<(String, String)> {
        let mut rest = self.0.clone();
        rest.retain(|(name, _)| !names.contains(&name.as_str()));
        rest.sort();
        rest
    }
}

/// Part of a file: first byte and length.
pub(super) type Slice = (u64, u64);

/// `EXT-X-MAP`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Map {
    pub(super) uri: String,
    pub(super) slice: Option<Slice>,
}

/// One media segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SegmentLine {
    pub(super) line: usize,
    pub(super) uri: String,
    /// `EXTINF` as written, without the title.
    pub(super) extinf: String,
    /// In microseconds; `None` when it is no decimal number.
    pub(super) duration_us: Option<i64>,
    pub(super) slice: Option<Slice>,
    /// Which of [`Playlist::maps`].
    pub(super) map: Option<usize>,
}

/// One variant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct VariantLine {
    pub(super) line: usize,
    pub(super) attributes: Attributes,
    pub(super) uri: String,
}

/// A playlist.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Playlist {
    pub(super) bytes: usize,
    pub(super) tags: Vec<Tag>,
    pub(super) segments: Vec<SegmentLine>,
    pub(super) maps: Vec<Map>,
    pub(super) variants: Vec<VariantLine>,
    /// `EXT-X-MEDIA`.
    pub(super) renditions: Vec<Attributes>,
}

/// Tags of multivariant playlists alone (4.3.4).
const MASTER_TAGS: [&str; 6] = [
    "EXT-X-MEDIA",
    "EXT-X-STREAM-INF",
    "EXT-X-I-FRAME-STREAM-INF",
    "EXT-X-SESSION-DATA",
    "EXT-X-SESSION-KEY",
    "EXT-X-CONTENT-STEERING",
];
/// Tags of media playlists alone (4.3.2, 4.3.3).
const MEDIA_TAGS: [&str; 14] = [
    "EXTINF",
    "EXT-X-BYTERANGE",
    "EXT-X-DISCONTINUITY",
    "EXT-X-KEY",
    "EXT-X-MAP",
    "EXT-X-PROGRAM-DATE-TIME",
    "EXT-X-GAP",
    "EXT-X-BITRATE",
    "EXT-X-TARGETDURATION",
    "EXT-X-MEDIA-SEQUENCE",
    "EXT-X-DISCONTINUITY-SEQUENCE",
    "EXT-X-ENDLIST",
    "EXT-X-PLAYLIST-TYPE",
    "EXT-X-I-FRAMES-ONLY",
];

impl Playlist {
    pub(super) fn parse(text: &str) -> Self {
        let mut playlist = Self { bytes: text.len(), ..Self::default() };
        let mut reading = Reading::default();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim_end_matches('\r');
            if let Some(tag) = line.strip_prefix("#EXT") {
                let (name, value) = tag.split_once(':').unwrap_or((tag, ""));
                let tag = Tag { line: index + 1, name: format!("EXT{name}"), value: value.trim().to_owned() };
                playlist.tag(&tag, &mut reading);
                playlist.tags.push(tag);
            } else if !line.is_empty() && !line.starts_with('#') {
                playlist.uri(index + 1, line, &mut reading);
            }
        }
        playlist
    }

    fn tag(&mut self, tag: &Tag, reading: &mut Reading) {
        match tag.name.as_str() {
            "EXTINF" => reading.extinf = Some(tag.value.split(',').next().unwrap_or("").trim().to_owned()),
            "EXT-X-BYTERANGE" => reading.slice = Some(tag.value.clone()),
            "EXT-X-STREAM-INF" => reading.variant = Some(Attributes::parse(&tag.value)),
            "EXT-X-MEDIA" => self.renditions.push(Attributes::parse(&tag.value)),
            "EXT-X-MAP" => {
                let attributes = Attributes::parse(&tag.value);
                let slice = attributes.get("BYTERANGE").and_then(|text| slice(text, 0));
                self.maps.push(Map { uri: attributes.get("URI").unwrap_or_default().to_owned(), slice });
            }
            _ => {}
        }
    }

    fn uri(&mut self, line: usize, uri: &str, reading: &mut Reading) {
        let uri = uri.to_owned();
        if let Some(attributes) = reading.variant.take() {
            self.variants.push(VariantLine { line, attributes, uri });
            return;
        }
        let slice = reading.slice.take().and_then(|text| slice(&text, reading.next_byte));
        reading.next_byte = slice.map_or(0, |(start, length)| start + length);
        let extinf = reading.extinf.take().unwrap_or_default();
        let duration_us = micros(&extinf);
        let map = self.maps.len().checked_sub(1);
        self.segments.push(SegmentLine { line, uri, extinf, duration_us, slice, map });
    }

    pub(super) fn is_master(&self) -> bool {
        self.tags.iter().any(|tag| MASTER_TAGS.contains(&tag.name.as_str()))
    }

    pub(super) fn is_media(&self) -> bool {
        self.tags.iter().any(|tag| MEDIA_TAGS.contains(&tag.name.as_str()))
    }

    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Tag> {
        self.tags.iter().filter(move |tag| tag.name == name)
    }

    pub(super) fn value(&self, name: &str) -> Option<&str> {
        self.tags.iter().find(|tag| tag.name == name).map(|tag| tag.value.as_str())
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.value(name).is_some()
    }

    pub(super) fn target_duration(&self) -> Option<u64> {
        self.value("EXT-X-TARGETDURATION")?.parse().ok()
    }

    pub(super) fn longest_us(&self) -> i64 {
        self.segments.iter().filter_map(|segment| segment.duration_us).max().unwrap_or(0)
    }

    /// When each segment begins, by the lengths of those before it; one more for the end.
    pub(super) fn starts_us(&self) -> Vec<i64> {
        let mut at = 0i64;
        let mut starts = vec![0];
        for segment in &self.segments {
            at = at.saturating_add(segment.duration_us.unwrap_or(0));
            starts.push(at);
        }
        starts
    }
}

/// What has been said about the URI that is to come.
#[derive(Debug, Default)]
struct Reading {
    extinf: Option<String>,
    slice: Option<String>,
    variant: Option<Attributes>,
    /// Where a byte range without an offset begins (4.3.2.2).
    next_byte: u64,
}

/// `length[@offset]`.
fn slice(text: &str, next_byte: u64) -> Option<Slice> {
    let (length, offset) = match text.split_once('@') {
        Some((length, offset)) => (length, offset.trim().parse().ok()?),
        None => (text, next_byte),
    };
    let length: u64 = length.trim().parse().ok()?;
    offset.checked_add(length).map(|_| (offset, length))
}

/// A decimal number of seconds in microseconds, what is beyond them cut off.
fn micros(text: &str) -> Option<i64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let (sign, whole) = whole.strip_prefix('-').map_or((1, whole), |rest| (-1, rest));
    let digits = |text: &str| text.chars().all(|c| c.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(fraction) {
        return None;
    }
    let six: String = fraction.chars().chain("000000".chars()).take(6).collect();
    let whole: i64 = whole.parse().ok()?;
    let micros = whole.checked_mul(1_000_000)?.checked_add(six.parse().ok()?)?;
    Some(sign * micros)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_media_playlist() {
        let text = "#EXTM3U\r\n#EXT-X-VERSION:7\r\n#EXT-X-MAP:URI=\"init.mp4\",BYTERANGE=\"100@0\"\r\n\
                    #EXTINF:4.004000,title\r\n#EXT-X-BYTERANGE:50@100\r\na.m4s\r\n#EXTINF:1,\r\n#EXT-X-BYTERANGE:7\r\na.m4s\r\n";
        let playlist = Playlist::parse(text);
        assert!(playlist.is_media() && !playlist.is_master());
        assert_eq!(playlist.maps, [Map { uri: "init.mp4".into(), slice: Some((0, 100)) }]);
        let found: Vec<_> =
            playlist.segments.iter().map(|s| (s.duration_us, s.slice, s.map, s.line)).collect();
        assert_eq!(
            found,
            [(Some(4_004_000), Some((100, 50)), Some(0), 6), (Some(1_000_000), Some((150, 7)), Some(0), 9)]
        );
        assert_eq!(playlist.starts_us(), [0, 4_004_000, 5_004_000]);
    }

    #[test]
    fn attributes_with_commas_in_quotes() {
        let found = Attributes::parse(
            "BANDWIDTH=5,CODECS=\"avc1.64001f,mp4a.40.2\",RESOLUTION=1280x720,FRAME-RATE=23.976",
        );
        assert_eq!(found.codecs(), ["avc1.64001f", "mp4a.40.2"]);
        assert_eq!((found.number("BANDWIDTH"), found.resolution()), (Some(5), Some((1280, 720))));
        assert_eq!(found.frame_rate(), Some(23.976));
    }

    #[test]
    fn seconds() {
        assert_eq!(micros("4"), Some(4_000_000));
        assert_eq!(micros("4.0000019"), Some(4_000_001));
        assert_eq!((micros(""), micros("x"), micros("1e3"), micros("nan")), (None, None, None, None));
        assert_eq!(micros("-0.5"), Some(-500_000));
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in "[#A-Z0-9:=\",.@\\-x\\n ]{0,300}") {
            let playlist = Playlist::parse(&text);
            prop_assert_eq!(playlist.starts_us().len(), playlist.segments.len() + 1);
        }
    }
}
