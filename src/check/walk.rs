//! The way through a stream: playlists, then segment after segment, then what can only be asked later.
//!
//! What enters: where the bytes come from, and the address. What leaves: a report. One body is held at
//! a time; what is kept of it is in [`super::joints`]. No rule lives here but "what is named is there".

use super::again;
use super::fragment;
use super::http::{self, Kind};
use super::joints::{self, Joints, Spot};
use super::m3u8::{Map, Playlist, Slice};
use super::master::{self, Found};
use super::media::Media;
use super::mp4;
use super::playlists::{self, Peer};
use super::program;
use super::report::{Findings, Report, Row};
use super::source::{Answer, Method, Request, Source, Trouble, Url};
use super::ts::{self, Counters};
use crate::base::error::{Error, ErrorKind, Result, Stage};
use std::hash::{DefaultHasher, Hash, Hasher};

/// Above any playlist that a player would take.
pub(super) const MAX_PLAYLIST: u64 = 64 << 20;
/// Where reading a segment stops; it is broken long before.
pub(super) const MAX_SEGMENT: u64 = 64 << 20;
/// Row T10, from what televisions have for a buffer.
const MAX_SEGMENT_BYTES: usize = 20_000_000;
const GOOD_SEGMENT_BYTES: usize = 17_000_000;
/// Why rows of HTTP do not apply to a folder.
const NO_HTTP: &str = "it is not read over HTTP";

/// What to look at.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// At most about so many segments of each playlist: the first, the last, and neighbours spread
    /// evenly in between. All of them without.
    pub sample: Option<usize>,
}

/// A walk under way.
pub(super) struct Walk<'a> {
    source: &'a mut dyn Source,
    entry: Url,
    options: Options,
    pub(super) findings: Findings,
    segments_read: u64,
    segments_named: u64,
    any_ts: bool,
    any_fmp4: bool,
}

/// A media playlist of the title.
pub(super) struct List {
    pub(super) url: Url,
    pub(super) uri: String,
    pub(super) playlist: Playlist,
    /// Of its bytes as they were first read.
    pub(super) print: u64,
    /// One for each of the playlist's maps.
    pub(super) inits: Vec<Option<mp4::Init>>,
    /// Of the first of them.
    pub(super) init_print: Option<u64>,
    is_text: bool,
    /// `FRAME-RATE` of its variant.
    frame_rate: Option<f64>,
    joints: Joints,
    found: Found,
    is_ts: bool,
}

impl List {
    pub(super) fn is_growing(&self) -> bool {
        !self.playlist.has("EXT-X-ENDLIST")
    }
}

/// Judges the stream at `entry`, a multivariant or a media playlist.
///
/// # Errors
/// When there is no playlist to be had at `entry`, or the check is cancelled. What is wrong with the
/// stream is in the report, not here.
pub fn check(source: &mut dyn Source, entry: &Url, options: Options) -> Result<Report> {
    let walk = Walk {
        source,
        entry: entry.clone(),
        options,
        findings: Findings::default(),
        segments_read: 0,
        segments_named: 0,
        any_ts: false,
        any_fmp4: false,
    };
    walk.run()
}

impl Walk<'_> {
    fn run(mut self) -> Result<Report> {
        let entry = self.entry.clone();
        let uri = self.label(&entry);
        let answer = self.entry_answer(&entry)?;
        let text = playlists::text(&answer.body, &uri, &mut self.findings);
        let playlist = Playlist::parse(&text);
        if self.source.is_http() {
            http::names_in_clear(&entry, &uri, &mut self.findings);
        }
        playlists::any(&playlist, &uri, &mut self.findings);
        let mut lists = Vec::new();
        if playlist.is_master() {
            self.judge_answer(Kind::Playlist { growing: false }, &entry, &uri, &answer);
            self.open_lists(&playlist, &entry, &mut lists)?;
        } else {
            lists.push(self.list(entry.clone(), uri.clone(), playlist.clone(), &answer));
        }
        for list in &mut lists {
            self.read_list(list)?;
        }
        self.judge_together(&playlist, &uri, &lists);
        if self.source.is_http() {
            let master = playlist.is_master().then_some((&entry, uri.as_str(), &answer));
            again::ask(&mut self, master, &lists)?;
        }
        self.reasons(playlist.is_master());
        Ok(Report {
            stream: shown(&entry),
            media_playlists: lists.len() as u64,
            segments_read: self.segments_read,
            segments_named: self.segments_named,
            rows: self.findings.into_rows(),
        })
    }

    // ---- fetching ---------------------------------------------------------------------------------

    /// One request; what fails breaks `row`.
    pub(super) fn ask(&mut self, request: &Request, row: Row, uri: &str) -> Result<Option<Answer>> {
        match self.source.fetch(request) {
            Ok(answer) => Ok(Some(answer)),
            Err(Trouble::Stop(error)) => Err(error),
            Err(Trouble::Failed(why)) => {
                self.findings.broken(row, uri, why);
                Ok(None)
            }
        }
    }

    /// The path below the entry's folder, without query.
    pub(super) fn label(&self, url: &Url) -> String {
        let folder = self.entry.path().rsplit_once('/').map_or("", |(folder, _)| folder);
        let place = |url: &Url| (url.scheme().to_owned(), url.host_str().map(str::to_owned), url.port());
        let same_host = place(url) == place(&self.entry);
        let below =
            url.path().strip_prefix(folder).and_then(|rest| rest.strip_prefix('/')).filter(|_| same_host);
        below.map_or_else(|| shown(url), str::to_owned)
    }

    fn entry_answer(&mut self, url: &Url) -> Result<Answer> {
        let failed = |why: &str| {
            let message = format!("no playlist at {}: {why}", shown(url));
            Error::new(ErrorKind::BadSource, "no_playlist", Stage::Open, message)
        };
        let answer = match self.source.fetch(&get(url, MAX_PLAYLIST)) {
            Ok(answer) => answer,
            Err(Trouble::Stop(error)) => return Err(error),
            Err(Trouble::Failed(why)) => return Err(failed(&why)),
        };
        if answer.status != 200 {
            let to = answer.header("location").map_or(String::new(), |to| format!(", to {to}"));
            return Err(failed(&format!("status {}{to}", answer.status)));
        }
        let text = String::from_utf8_lossy(&answer.body);
        if !text.trim_start_matches('\u{FEFF}').starts_with("#EXTM3U") && !text.contains("\n#EXT") {
            return Err(failed("what is there is no playlist"));
        }
        Ok(answer)
    }

    /// A file that a playlist names: it has to be there, without a redirect.
    fn named(&mut self, kind: Kind, url: &Url, slice: Option<Slice>, uri: &str) -> Result<Option<Answer>> {
        let max = if matches!(kind, Kind::Playlist { .. }) { MAX_PLAYLIST } else { MAX_SEGMENT };
        let mut request = get(url, max);
        if let Some((start, length)) = slice {
            request.headers.push(("range", format!("bytes={start}-{}", (start + length).saturating_sub(1))));
        }
        let Some(answer) = self.ask(&request, Row::P15, uri)? else { return Ok(None) };
        let wanted = if slice.is_some() { 206 } else { 200 };
        self.findings.check(Row::P15, answer.status == wanted, uri, || {
            let to = answer.header("location").map_or(String::new(), |_| ", a redirect".into());
            format!("status {}{to}", answer.status)
        });
        http::extension(kind, url, uri, &mut self.findings);
        Ok(Some(answer).filter(|answer| answer.status == wanted))
    }

    fn judge_answer(&mut self, kind: Kind, url: &Url, uri: &str, answer: &Answer) {
        http::extension(kind, url, uri, &mut self.findings);
        if self.source.is_http() {
            http::plain(kind, answer, uri, &mut self.findings);
        }
    }

    /// RFC 3986, 5: a query of the playlist's own is not inherited; playlists carry theirs themselves.
    pub(super) fn resolve(&mut self, base: &Url, reference: &str, uri: &str) -> Option<Url> {
        match base.join(reference) {
            Ok(url) => Some(url),
            Err(e) => {
                self.findings.broken(Row::P15, uri, format!("{reference:?} is no URI: {e}"));
                None
            }
        }
    }

    // ---- playlists --------------------------------------------------------------------------------

    fn list(&mut self, url: Url, uri: String, playlist: Playlist, answer: &Answer) -> List {
        let growing = !playlist.has("EXT-X-ENDLIST");
        self.judge_answer(Kind::Playlist { growing }, &url, &uri, answer);
        playlists::media(&playlist, &uri, &mut self.findings);
        playlists::alone(&playlist, &uri, &mut self.findings);
        self.segments_named += playlist.segments.len() as u64;
        let print = fingerprint(&answer.body);
        let found = Found { uri: uri.clone(), ..Found::default() };
        let joints = Joints::default();
        let inits = Vec::new();
        List {
            url,
            uri,
            playlist,
            print,
            inits,
            init_print: None,
            is_text: false,
            frame_rate: None,
            joints,
            found,
            is_ts: false,
        }
    }

    /// Every media playlist that the multivariant one names, once.
    fn open_lists(&mut self, master: &Playlist, base: &Url, lists: &mut Vec<List>) -> Result<()> {
        let variants =
            master.variants.iter().map(|variant| (&*variant.uri, variant.attributes.frame_rate(), false));
        let renditions = master.renditions.iter().filter_map(|rendition| {
            let is_text = matches!(rendition.get("TYPE"), Some("SUBTITLES" | "CLOSED-CAPTIONS"));
            Some((rendition.get("URI")?, None, is_text))
        });
        for (reference, frame_rate, is_text) in variants.chain(renditions) {
            let uri = self.label(base);
            let Some(url) = self.resolve(base, reference, &uri) else { continue };
            if lists.iter().any(|list| list.url == url) {
                continue;
            }
            let uri = self.label(&url);
            let kind = Kind::Playlist { growing: false };
            let Some(answer) = self.named(kind, &url, None, &uri)? else { continue };
            let text = playlists::text(&answer.body, &uri, &mut self.findings);
            let playlist = Playlist::parse(&text);
            playlists::any(&playlist, &uri, &mut self.findings);
            let list = self.list(url, uri, playlist, &answer);
            lists.push(List { is_text, frame_rate, ..list });
        }
        Ok(())
    }

    // ---- segments ---------------------------------------------------------------------------------

    fn read_list(&mut self, list: &mut List) -> Result<()> {
        if list.is_text {
            return Ok(());
        }
        list.joints = Joints::new(list.frame_rate);
        (list.inits, list.init_print) = self.inits(list)?;
        let starts = list.playlist.starts_us();
        let count = list.playlist.segments.len();
        let mut sizes = vec![None; count];
        let mut reading = Reading::default();
        for index in chosen(count, self.options.sample) {
            let Some(size) = self.segment(list, index, &starts, &mut reading)? else { continue };
            if let Some(slot) = sizes.get_mut(index) {
                *slot = Some(size);
            }
        }
        let lengths = list.playlist.segments.iter().map(|segment| segment.duration_us.unwrap_or(0));
        let measured: Vec<(Option<u64>, i64)> = sizes.into_iter().zip(lengths).collect();
        let target = list.playlist.target_duration().unwrap_or(1);
        list.found.rates = master::rates(&measured, target);
        list.found.video = list.joints.video.clone();
        list.found.audio = list.joints.audio.clone();
        list.found.measured_rate = list.joints.measured_rate;
        list.found.has_segments = self.segments_read > 0 && count > 0;
        for config in [&list.found.video, &list.found.audio].into_iter().flatten() {
            master::tags(config, &list.uri, &mut self.findings);
        }
        Ok(())
    }

    /// Each init segment of a playlist; F1 and F2.
    fn inits(&mut self, list: &List) -> Result<(Vec<Option<mp4::Init>>, Option<u64>)> {
        let mut inits: Vec<Option<mp4::Init>> = Vec::new();
        let mut first_print = None;
        for map in &list.playlist.maps {
            let Some((uri, answer)) = self.map(list, map)? else {
                inits.push(None);
                continue;
            };
            let init = mp4::read(&answer.body);
            self.findings.judged(Row::F1);
            for fault in &init.faults {
                self.findings.broken(Row::F1, &uri, fault.clone());
            }
            let print = fingerprint(&answer.body);
            let first = *first_print.get_or_insert(print);
            self.findings.check(Row::F2, first == print, &uri, || {
                "a second init segment that differs from the first".into()
            });
            inits.push(Some(init));
        }
        Ok((inits, first_print))
    }

    fn map(&mut self, list: &List, map: &Map) -> Result<Option<(String, Answer)>> {
        let Some(url) = self.resolve(&list.url, &map.uri, &list.uri) else { return Ok(None) };
        let uri = self.label(&url);
        let Some(answer) = self.named(Kind::Init, &url, map.slice, &uri)? else { return Ok(None) };
        if map.slice.is_none() {
            self.judge_answer(Kind::Init, &url, &uri, &answer);
        }
        Ok(Some((uri, answer)))
    }

    /// Reads segment `index`; how long it is, if it was there.
    fn segment(
        &mut self,
        list: &mut List,
        index: usize,
        starts: &[i64],
        reading: &mut Reading,
    ) -> Result<Option<u64>> {
        let Some(line) = list.playlist.segments.get(index).cloned() else { return Ok(None) };
        let Some(url) = self.resolve(&list.url, &line.uri, &list.uri) else { return Ok(None) };
        let uri = self.label(&url);
        let Some(answer) = self.named(Kind::Segment, &url, line.slice, &uri)? else { return Ok(None) };
        if line.slice.is_none() {
            self.judge_answer(Kind::Segment, &url, &uri, &answer);
        }
        self.segments_read += 1;
        self.size(&answer, &uri);
        let follows = reading.last.is_some_and(|last| last + 1 == index);
        reading.last = Some(index);
        let (start_us, end_us) =
            (starts.get(index).copied().unwrap_or(0), starts.get(index + 1).copied().unwrap_or(0));
        let init = line.map.and_then(|at| list.inits.get(at));
        let Some(media) = self.media(&answer.body, init, start_us, follows, reading) else {
            return Ok(Some(answer.body.len() as u64));
        };
        list.is_ts = line.map.is_none();
        let spot = Spot {
            uri: &uri,
            start_us,
            end_us,
            follows,
            is_first: index == 0,
            is_last: index + 1 == starts.len() - 1,
            is_ts: list.is_ts,
        };
        self.note(&media, &uri);
        list.joints.take(&media, &spot, &mut self.findings);
        Ok(Some(answer.body.len() as u64))
    }

    fn size(&mut self, answer: &Answer, uri: &str) {
        let bytes = answer.body.len();
        let what = || format!("{bytes} bytes{}", if answer.truncated { " and more" } else { "" });
        self.findings.check(Row::T10, bytes <= MAX_SEGMENT_BYTES && !answer.truncated, uri, what);
        if (GOOD_SEGMENT_BYTES..=MAX_SEGMENT_BYTES).contains(&bytes) {
            self.findings.advice(Row::T10, uri, what() + ": small sets have no room for that");
        }
    }

    /// `None` for what is neither a transport stream nor a fragment with its init segment.
    fn media(
        &mut self,
        body: &[u8],
        init: Option<&Option<mp4::Init>>,
        start_us: i64,
        follows: bool,
        reading: &mut Reading,
    ) -> Option<Media> {
        if let Some(init) = init {
            self.any_fmp4 = true;
            return init.as_ref().map(|init| fragment::read(body, init));
        }
        const ID3: &[u8] = b"ID3";
        if body.starts_with(ID3) || body.starts_with(b"WEBVTT") {
            return None;
        }
        self.any_ts = true;
        if !follows {
            reading.counters = Counters::default();
        }
        let segment = ts::read(body, &mut reading.counters);
        let start_90k = start_us.saturating_mul(9) / 100;
        let media = program::media(segment, reading.origin_90k.map(|origin| origin + start_90k));
        let first = media.lanes.iter().find_map(|lane| lane.first_dts());
        reading.origin_90k = reading.origin_90k.or(first.map(|first| first - start_90k));
        Some(media)
    }

    fn note(&mut self, media: &Media, uri: &str) {
        media.judged.iter().for_each(|row| self.findings.judged(*row));
        for (row, what) in &media.faults {
            self.findings.broken(*row, uri, what.clone());
        }
        for (row, what) in &media.advice {
            self.findings.advice(*row, uri, what.clone());
        }
    }

    // ---- all of it together -----------------------------------------------------------------------

    fn judge_together(&mut self, playlist: &Playlist, uri: &str, lists: &[List]) {
        let peers: Vec<Peer<'_>> = lists
            .iter()
            .map(|list| Peer { uri: &list.uri, playlist: &list.playlist, is_av: !list.is_text })
            .collect();
        playlists::together(&peers, &mut self.findings);
        let videos: Vec<(&Playlist, &str, bool)> = lists
            .iter()
            .filter_map(|list| Some((&list.playlist, list.uri.as_str(), list.joints.all_keys?)))
            .collect();
        let master = playlist.is_master().then_some((playlist, uri));
        playlists::independent(master, &videos, &mut self.findings);
        let starts: Vec<(&str, f64, bool)> = lists
            .iter()
            .filter_map(|list| Some((list.uri.as_str(), list.joints.first_s?, list.is_ts)))
            .collect();
        joints::same_start(&starts, &mut self.findings);
        if playlist.is_master() {
            self.judge_variants(playlist, uri, lists);
        }
    }

    fn judge_variants(&mut self, playlist: &Playlist, uri: &str, lists: &[List]) {
        let entry = self.entry.clone();
        let found = |reference: &str| {
            let url = entry.join(reference).ok()?;
            lists.iter().find(|list| list.url == url).map(|list| &list.found)
        };
        let mut variants = Vec::new();
        for line in &playlist.variants {
            let Some(own) = found(&line.uri) else { continue };
            let group = line.attributes.get("AUDIO");
            let in_group = playlist.renditions.iter().filter(|rendition| {
                group.is_some()
                    && rendition.get("TYPE") == Some("AUDIO")
                    && rendition.get("GROUP-ID") == group
            });
            let groups: Vec<&Found> = in_group.filter_map(|rendition| found(rendition.get("URI")?)).collect();
            if own.audio.is_none() && groups.iter().any(|group| group.audio.is_some()) {
                self.findings.advice(
                    Row::V14,
                    &own.uri,
                    "its sound is in a group: whoever skips the multivariant playlist hears none",
                );
            }
            variants.push(master::Variant { line, own, groups });
        }
        let is_made = !self.source.is_http();
        master::judge(playlist, uri, &variants, is_made, &mut self.findings);
    }

    // ---- why not ----------------------------------------------------------------------------------

    fn reasons(&mut self, is_master: bool) {
        for row in Row::ALL {
            let reason = match (row, row.id().as_bytes().first()) {
                (Row::J3 | Row::J4, _) => "it takes the source to judge that",
                (Row::F10, _) => "I-frame playlists are not read",
                (Row::J1, _) if !self.source.is_http() => NO_HTTP,
                (Row::H2, _) => continue,
                (_, Some(b'H')) if !self.source.is_http() => NO_HTTP,
                (_, Some(b'V' | b'C')) if !is_master => {
                    "a media playlist was checked, without the multivariant one"
                }
                (Row::T10, _) => continue,
                (_, Some(b'T')) if !self.any_ts => "no MPEG-TS segments",
                (_, Some(b'F')) if !self.any_fmp4 => "no fragmented MP4 segments",
                _ => continue,
            };
            self.findings.not_applicable(*row, reason);
        }
    }
}

/// What is kept while the segments of one playlist are read.
#[derive(Debug, Default)]
struct Reading {
    counters: Counters,
    /// Where the playlist's time 0 stands on the clock.
    origin_90k: Option<i64>,
    last: Option<usize>,
}

/// A plain request.
pub(super) fn get(url: &Url, max_bytes: u64) -> Request {
    Request { url: url.clone(), method: Method::Get, headers: Vec::new(), max_bytes }
}

/// Without query, which may hold a token, and without a password.
fn shown(url: &Url) -> String {
    if url.scheme() == "file" {
        return url.path().to_owned();
    }
    let port = url.port().map_or(String::new(), |port| format!(":{port}"));
    format!("{}://{}{port}{}", url.scheme(), url.host_str().unwrap_or_default(), url.path())
}

/// To tell whether bytes are the same without keeping them.
pub(super) fn fingerprint(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}

/// The segments to look at: all, or pairs of neighbours spread evenly, the first and the last of all
/// among them.
fn chosen(count: usize, sample: Option<usize>) -> Vec<usize> {
    let Some(most) = sample.map(|most| most.max(2)).filter(|most| *most < count) else {
        return (0..count).collect();
    };
    let pairs = (most / 2).max(2);
    let mut picked: Vec<usize> = (0..pairs)
        .flat_map(|n| {
            let first = n * (count - 2) / (pairs - 1);
            [first, first + 1]
        })
        .collect();
    picked.dedup();
    picked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_has_both_ends_and_neighbours() {
        assert_eq!(chosen(5, None), [0, 1, 2, 3, 4]);
        assert_eq!(chosen(3, Some(10)), [0, 1, 2]);
        assert_eq!(chosen(100, Some(6)), [0, 1, 49, 50, 98, 99]);
        assert_eq!(chosen(100, Some(1)), [0, 1, 98, 99]);
        assert_eq!(chosen(0, Some(4)), [0; 0]);
        for count in 3..40 {
            let picked = chosen(count, Some(8));
            assert!(picked.is_sorted() && picked.first() == Some(&0) && picked.last() == Some(&(count - 1)));
        }
    }

    #[test]
    fn tokens_and_passwords_are_not_shown() {
        let url = Url::parse("http://user:pass@host:81/a/b.m3u8?token=secret").unwrap();
        assert_eq!(shown(&url), "http://host:81/a/b.m3u8");
    }
}
