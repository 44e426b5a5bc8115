//! The rows, what is found for each of them, and the report.
//!
//! What enters: "looked at", "broken here", "cannot be judged because", from the judges. What leaves:
//! one result for each row. A row that nobody has looked at is never kept: it does not apply, and the
//! reason is told. No rule lives here.

use serde::Serialize;
use std::collections::BTreeMap;

/// Most places that are kept for one row; the rest are counted.
const MAX_PLACES: usize = 16;

macro_rules! rows {
    ($($id:ident $title:literal)*) => {
        /// A row of the conformance list (docs/CHECK.md).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[allow(missing_docs)] // The title of each says it.
        pub enum Row { $($id),* }

        impl Row {
            /// Every row, in the order of the list.
            pub const ALL: &'static [Row] = &[$(Row::$id),*];

            /// Its name: a letter and a number.
            pub const fn id(self) -> &'static str {
                match self { $(Row::$id => stringify!($id)),* }
            }

            /// What it asks for.
            pub const fn title(self) -> &'static str {
                match self { $(Row::$id => $title),* }
            }
        }
    };
}

rows! {
    P1 "playlists begin with #EXTM3U: UTF-8, no BOM, one kind of line end, no control characters"
    P2 "at most one EXT-X-VERSION, high enough for what is used"
    P3 "tags of multivariant and media playlists are not mixed"
    P4 "EXT-X-TARGETDURATION once, a whole number, no segment longer"
    P5 "the target duration is at most 1 s above the longest segment, and the same in all playlists"
    P6 "EXTINF has six decimals, and any run of them is true to within one frame"
    P7 "the EXTINF add up to the duration, and none is zero"
    P8 "a finished playlist says VOD and ENDLIST, and its bytes never change"
    P9 "a growing playlist says EVENT, has no ENDLIST and only ever grows"
    P10 "media sequence numbers begin at 0, the same in every playlist"
    P11 "EXT-X-INDEPENDENT-SEGMENTS once where it belongs, and true"
    P12 "no discontinuities"
    P13 "no EXT-X-START"
    P14 "playlists stay small"
    P15 "every URI leads straight to its file: no redirects, nothing missing"
    V1 "each variant has BANDWIDTH, AVERAGE-BANDWIDTH, CODECS, RESOLUTION and a true FRAME-RATE"
    V2 "CODECS lists what the variant and its groups hold, no more and no less"
    V3 "the bit rates of a finished stream are those measured, within 10 %"
    V4 "no run of segments needs more than BANDWIDTH"
    V5 "VIDEO-RANGE is that of the picture, and an SDR variant exists"
    V6 "RESOLUTION is the size as shown, and all variants have one shape"
    V7 "groups exist, names are unique, defaults are consistent, renditions are described"
    V8 "groups of one type have the same members"
    V9 "several languages and surround sound are separate renditions beside stereo AAC"
    V10 "sound and picture are cut at the same times in all playlists"
    V11 "CLOSED-CAPTIONS=NONE on all variants or on none"
    V12 "no variant of sound alone beside pictures, and one codec where there is sound alone"
    V13 "the first variant is the one to start with"
    V14 "each media playlist plays alone"
    C1 "H.264: the codec string is that of the sequence parameter set"
    C2 "HEVC: the codec string is that of the sequence parameter set"
    C3 "AAC: the codec string names the object type of the configuration"
    C4 "other codecs: the codec string is that of the configuration"
    C5 "the level is no higher than size, rate, references and bit rate need"
    C6 "Dolby Vision: the base layer in CODECS, the enhancement in SUPPLEMENTAL-CODECS"
    C7 "at most one video and one audio codec in a variant"
    T1 "whole packets of 188 bytes with their sync byte, one program"
    T2 "PAT and PMT come first in every segment"
    T3 "each segment begins with an IDR: delimiter and parameter sets in front, random access marked"
    T4 "the clock: on a PID of the program, gaps up to 100 ms, not behind and less than 1 s ahead of DTS"
    T5 "timestamps run on from segment to segment, by one frame"
    T6 "continuity counters run on, within segments and from one to the next"
    T7 "the title begins at a constant, small, positive time"
    T8 "stream types are the usual ones, and sound has a language"
    T9 "no sound is lost or doubled"
    T10 "segments stay within 20 MB (advice: 17 MB)"
    F1 "the init segment: ftyp and moov with mvex, no samples, no shifting edits"
    F2 "one init segment for the whole rendition"
    F3 "one track in each segment; styp, moof, mdat in this order"
    F4 "decode times run on exactly, and sequence numbers rise"
    F5 "decode times are those of the playlist"
    F6 "each segment begins with a key picture that is marked so, shown at its cut"
    F7 "sidx is absent or right"
    F8 "HEVC is tagged hvc1 or dvh1"
    F9 "HDR: mastering display or light level there, colr and bitstream agree"
    F10 "I-frame segments include their moof"
    H1 "Content-Type is that of the file"
    H2 "the path ends in a media extension"
    H3 "ranges of playlists are answered with the right slice or the whole"
    H4 "206: exactly the slice that was asked for, and the true length"
    H5 "beyond the end 416 with the length; suffix and open ranges; several ranges: the whole"
    H6 "ETag is strong and stable; If-Range and If-None-Match are kept"
    H7 "Content-Length on every playlist and segment"
    H8 "HEAD answers as GET does, without a body"
    H9 "gzip only for playlists, only when asked for, with Vary, never with 206"
    H10 "segments are never compressed"
    H11 "CORS on every answer, errors too, and OPTIONS"
    H12 "HTTP/1.1 connections stay open, framing is sound"
    H13 "Cache-Control: growing playlists no-cache, finished ones no-cache or short, segments long"
    H14 "the first byte of anything within 8 s"
    H15 "no file names in URLs that are sent in the clear"
    J1 "a segment that is asked for again is the same"
    J2 "no picture and no sound is doubled or missing where segments meet"
    J3 "copied pictures are cut at their real key frames"
    J4 "a seek shows the picture that was asked for"
    J5 "codecs and tables never change within a rendition"
    J6 "sound and picture of a segment begin within 100 ms, and neither is missing"
}

/// How a row came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Looked at, nothing against it.
    Kept,
    /// At least one place breaks it.
    Broken,
    /// No rule is broken, but it could be better.
    Advice,
    /// Not looked at; [`RowResult::reason`] says why.
    NotApplicable,
}

/// Where something was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Place {
    /// The playlist or segment, without query and token.
    pub uri: String,
    /// What is wrong there, and what would be right.
    pub detail: String,
}

/// One row of the report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RowResult {
    /// `T6`.
    pub id: &'static str,
    /// What the row asks for.
    pub title: &'static str,
    /// How it came out.
    pub verdict: Verdict,
    /// Why it was not judged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Where it is broken; or, when nothing is, where advice is given.
    pub places: Vec<Place>,
    /// Places beyond those listed.
    pub more: u64,
}

/// What was found in a stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// What was asked about, without query and token.
    pub stream: String,
    /// Media playlists that were read.
    pub media_playlists: u64,
    /// Segments that were read.
    pub segments_read: u64,
    /// Segments that the playlists name.
    pub segments_named: u64,
    /// Every row, in the order of the list.
    pub rows: Vec<RowResult>,
}

impl Report {
    /// The rows that are broken.
    pub fn broken(&self) -> impl Iterator<Item = &RowResult> {
        self.rows.iter().filter(|row| row.verdict == Verdict::Broken)
    }

    /// The result of a row.
    pub fn row(&self, row: Row) -> Option<&RowResult> {
        self.rows.iter().find(|found| found.id == row.id())
    }
}

#[derive(Debug, Default)]
struct Entry {
    judged: bool,
    broken: Places,
    advice: Places,
    reason: Option<String>,
}

#[derive(Debug, Default)]
struct Places {
    first: Vec<Place>,
    more: u64,
}

impl Places {
    fn add(&mut self, uri: &str, detail: String) {
        let place = Place { uri: uri.to_owned(), detail };
        if self.first.len() < MAX_PLACES {
            self.first.push(place);
        } else {
            self.more += 1;
        }
    }
}

/// What the judges say, collected.
#[derive(Debug, Default)]
pub(super) struct Findings {
    entries: BTreeMap<Row, Entry>,
}

impl Findings {
    fn entry(&mut self, row: Row) -> &mut Entry {
        self.entries.entry(row).or_default()
    }

    /// The row was looked at.
    pub(super) fn judged(&mut self, row: Row) {
        self.entry(row).judged = true;
    }

    /// The row was looked at, and is broken unless `kept`.
    pub(super) fn check(&mut self, row: Row, kept: bool, uri: &str, detail: impl FnOnce() -> String) {
        self.judged(row);
        if !kept {
            self.broken(row, uri, detail());
        }
    }

    /// The row is broken here.
    pub(super) fn broken(&mut self, row: Row, uri: &str, detail: impl Into<String>) {
        let entry = self.entry(row);
        entry.judged = true;
        entry.broken.add(uri, detail.into());
    }

    /// Not against a rule, but worth saying.
    pub(super) fn advice(&mut self, row: Row, uri: &str, detail: impl Into<String>) {
        let entry = self.entry(row);
        entry.judged = true;
        entry.advice.add(uri, detail.into());
    }

    /// Why the row is not judged, unless something judges it after all. The first reason stays.
    pub(super) fn not_applicable(&mut self, row: Row, reason: impl Into<String>) {
        let entry = self.entry(row);
        entry.reason.get_or_insert_with(|| reason.into());
    }

    /// Every row's result.
    pub(super) fn into_rows(mut self) -> Vec<RowResult> {
        let result = |row: &Row| {
            let entry = self.entries.remove(row).unwrap_or_default();
            let (verdict, places) = match entry {
                Entry { ref broken, .. } if !broken.first.is_empty() => (Verdict::Broken, entry.broken),
                Entry { ref advice, .. } if !advice.first.is_empty() => (Verdict::Advice, entry.advice),
                Entry { judged: true, .. } => (Verdict::Kept, Places::default()),
                _ => (Verdict::NotApplicable, Places::default()),
            };
            let reason = (verdict == Verdict::NotApplicable)
                .then(|| entry.reason.unwrap_or_else(|| "the stream has nothing that it is about".into()));
            RowResult {
                id: row.id(),
                title: row.title(),
                verdict,
                reason,
                places: places.first,
                more: places.more,
            }
        };
        Row::ALL.iter().map(result).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_that_nobody_looked_at_is_never_kept() {
        let mut findings = Findings::default();
        findings.judged(Row::P1);
        findings.not_applicable(Row::P2, "why");
        findings.not_applicable(Row::P1, "ignored");
        let rows = findings.into_rows();
        assert_eq!(rows.len(), Row::ALL.len());
        assert_eq!(rows.first().map(|r| r.verdict), Some(Verdict::Kept));
        assert_eq!(rows.get(1).and_then(|r| r.reason.as_deref()), Some("why"));
        assert!(rows.iter().skip(1).all(|r| r.verdict == Verdict::NotApplicable && r.reason.is_some()));
    }

    #[test]
    fn broken_beats_advice_and_places_are_bounded() {
        let mut findings = Findings::default();
        for n in 0..20 {
            findings.advice(Row::T10, "a", "big");
            findings.check(Row::T10, n != 3, "b", || "too big".into());
            findings.broken(Row::T6, "c", n.to_string());
        }
        let rows = findings.into_rows();
        let row = |id| rows.iter().find(|r| r.id == id).map(|r| (r.verdict, r.places.len(), r.more));
        assert_eq!(row("T10"), Some((Verdict::Broken, 1, 0)));
        assert_eq!(row("T6"), Some((Verdict::Broken, 16, 4)));
    }
}
