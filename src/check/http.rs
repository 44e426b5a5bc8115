//! The rules of HTTP: rows H1 to H15, as players need them (RFC 9110, Apple's authoring specification).
//!
//! What enters: answers as they came, and a way to ask for more. What leaves: findings. Every answer is
//! judged on its own; some files are asked for again in each of the ways that players are known to ask.

use super::report::{Findings, Row};
use super::source::{Answer, Method, Request, Url};
use super::walk::Walk;
use crate::base::error::Result;
use std::time::Duration;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Playlist { growing: bool },
    Init,
    Segment,
}

impl Kind {
    fn is_playlist(self) -> bool {
        matches!(self, Self::Playlist { .. })
    }
}

/// A page in a browser would send this.
pub(super) const ORIGIN: &str = "http://player.invalid";
/// Media3's own limit (row H14).
const FIRST_BYTE: Duration = Duration::from_secs(8);
/// A finished playlist may be kept this long without being asked about again.
const SHORT_S: u64 = 3600;
/// A segment that is kept for less than this is fetched again by whoever seeks back.
const SESSION_S: u64 = 60;
const EXPOSED: [&str; 5] = ["content-length", "content-range", "accept-ranges", "etag", "date"];
const ALLOWED: [&str; 4] = ["range", "content-type", "accept-encoding", "authorization"];
const EXTENSIONS: [&str; 12] =
    ["ts", "m2ts", "m4s", "mp4", "m4v", "m4a", "cmfv", "cmfa", "aac", "mp3", "vtt", "webvtt"];

/// H2, which a folder keeps or breaks too.
pub(super) fn extension(kind: Kind, url: &Url, uri: &str, findings: &mut Findings) {
    let name = url.path().rsplit('/').next().unwrap_or_default();
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension).to_ascii_lowercase();
    let kept = match kind {
        Kind::Playlist { .. } => extension == "m3u8",
        Kind::Init | Kind::Segment => EXTENSIONS.contains(&extension.as_str()),
    };
    findings.check(Row::H2, kept, uri, || {
        format!("the path ends in {name:?}: FFmpeg and players made of it refuse that")
    });
}

/// H15.
pub(super) fn names_in_clear(url: &Url, uri: &str, findings: &mut Findings) {
    const FILMS: [&str; 10] =
        [".mkv", ".mp4", ".m4v", ".avi", ".mov", ".webm", ".ts", ".mpg", ".wmv", ".m2ts"];
    findings.judged(Row::H15);
    let mut folders: Vec<&str> = url.path().split('/').collect();
    folders.pop();
    let film =
        folders.iter().find(|folder| FILMS.iter().any(|end| folder.to_ascii_lowercase().ends_with(end)));
    if let Some(film) = film.filter(|_| url.scheme() == "http") {
        findings.advice(Row::H15, uri, format!("{film:?} is readable for everybody on the way"));
    }
}

/// What every answer to a plain `GET` has to keep.
pub(super) fn plain(kind: Kind, answer: &Answer, uri: &str, findings: &mut Findings) {
    content_type(kind, answer, uri, findings);
    findings.check(Row::H12, answer.http_1_1 && !has_word(answer, "connection", "close"), uri, || {
        "the connection is not kept open".into()
    });
    findings.check(Row::H14, answer.first_byte < FIRST_BYTE, uri, || {
        format!("the first byte came after {:.1} s", answer.first_byte.as_secs_f64())
    });
    let encoding = answer.header("content-encoding").filter(|encoding| *encoding != "identity");
    let row = if kind.is_playlist() { Row::H9 } else { Row::H10 };
    findings.check(row, encoding.is_none(), uri, || {
        format!("compressed ({}) though nobody asked for it", encoding.unwrap_or_default())
    });
    // A segment may be sent while it is made, to those who ask for the whole of it.
    if kind.is_playlist() {
        findings
            .check(Row::H7, answer.header("content-length").is_some(), uri, || "no Content-Length".into());
    }
    length(answer, uri, findings);
    cors(answer, uri, findings);
    caching(kind, answer, uri, findings);
}

fn length(answer: &Answer, uri: &str, findings: &mut Findings) {
    let Some(said) = answer.header("content-length") else { return };
    let kept = answer.truncated || said.parse() == Ok(answer.body.len());
    findings.check(Row::H7, kept, uri, || format!("Content-Length {said}, but {} bytes", answer.body.len()));
}

fn has_word(answer: &Answer, header: &str, word: &str) -> bool {
    let all = answer.headers.iter().filter(|(name, _)| name == header);
    all.flat_map(|(_, value)| value.split(',')).any(|found| found.trim().eq_ignore_ascii_case(word))
}

fn content_type(kind: Kind, answer: &Answer, uri: &str, findings: &mut Findings) {
    let said = answer.header("content-type").unwrap_or_default();
    let essence = said.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let is_mp4 =
        answer.body.get(4..8).is_some_and(|kind| matches!(kind, b"ftyp" | b"styp" | b"moof" | b"sidx"));
    let wanted: &[&str] = match kind {
        Kind::Playlist { .. } => &["application/vnd.apple.mpegurl"],
        Kind::Init => &["video/mp4", "audio/mp4"],
        Kind::Segment if is_mp4 => &["video/iso.segment", "video/mp4", "audio/mp4"],
        Kind::Segment if answer.body.first() == Some(&0x47) => &["video/mp2t"],
        Kind::Segment => &["audio/aac", "text/vtt", "audio/mpeg"],
    };
    findings.check(Row::H1, wanted.contains(&essence.as_str()), uri, || {
        format!("Content-Type {said:?} instead of {}", wanted.join(" or "))
    });
}

/// H11.
fn cors(answer: &Answer, uri: &str, findings: &mut Findings) {
    let origin = answer.header("access-control-allow-origin");
    findings.check(Row::H11, matches!(origin, Some("*" | ORIGIN)), uri, || {
        format!("status {}: Access-Control-Allow-Origin is {}", answer.status, origin.unwrap_or("missing"))
    });
    const EXPOSE: &str = "access-control-expose-headers";
    let hidden: Vec<&str> = EXPOSED.into_iter().filter(|name| !has_word(answer, EXPOSE, name)).collect();
    findings.check(Row::H11, hidden.is_empty() || has_word(answer, EXPOSE, "*"), uri, || {
        format!("status {}: Access-Control-Expose-Headers lacks {}", answer.status, hidden.join(", "))
    });
}

/// H13.
fn caching(kind: Kind, answer: &Answer, uri: &str, findings: &mut Findings) {
    const NAME: &str = "cache-control";
    let said = answer.header(NAME).unwrap_or_default();
    let age =
        said.split(',').filter_map(|word| word.trim().strip_prefix("max-age=")?.parse::<u64>().ok()).next();
    let asks_again = has_word(answer, NAME, "no-cache") || age == Some(0);
    let never_kept = has_word(answer, NAME, "no-store");
    let (kept, wanted) = match kind {
        Kind::Playlist { growing: true } => (asks_again || never_kept, "no-cache: it can still grow"),
        Kind::Playlist { growing: false } => {
            let checked =
                asks_again && (answer.header("etag").is_some() || answer.header("last-modified").is_some());
            (
                checked || never_kept || age.is_some_and(|age| (1..=SHORT_S).contains(&age)),
                "no-cache with an ETag, or max-age up to 3600",
            )
        }
        Kind::Init | Kind::Segment => (
            !never_kept && age.is_some_and(|age| age >= SESSION_S),
            "a max-age as long as somebody may watch",
        ),
    };
    findings.check(Row::H13, kept, uri, || format!("Cache-Control {said:?} instead of {wanted}"));
}

/// A file that is asked about in all ways, and what a plain `GET` of it gave.
pub(super) struct Subject<'a> {
    pub(super) kind: Kind,
    pub(super) url: &'a Url,
    pub(super) uri: &'a str,
    pub(super) whole: &'a Answer,
}

impl Subject<'_> {
    fn request(&self, headers: &[(&'static str, &str)]) -> Request {
        let headers = headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        // One byte more than there should be shows a body that is too long.
        let max_bytes = self.whole.body.len() as u64 + 1;
        Request { url: self.url.clone(), method: Method::Get, headers, max_bytes }
    }

    fn ask(&self, walk: &mut Walk<'_>, row: Row, headers: &[(&'static str, &str)]) -> Result<Option<Answer>> {
        let answer = walk.ask(&self.request(headers), row, self.uri)?;
        if let Some(answer) = &answer {
            cors(answer, self.uri, &mut walk.findings);
        }
        Ok(answer)
    }

    fn len(&self) -> usize {
        self.whole.body.len()
    }
}

/// Asks for a file in every way.
pub(super) fn probe(walk: &mut Walk<'_>, subject: &Subject<'_>) -> Result<()> {
    if subject.whole.truncated || subject.len() < 8 {
        return Ok(());
    }
    slices(walk, subject)?;
    beyond(walk, subject)?;
    several(walk, subject)?;
    tags(walk, subject)?;
    head(walk, subject)?;
    compressed(walk, subject)?;
    options(walk, subject)
}

/// H3, H4, H5: `0-`, a slice in the middle, an open one, the end.
fn slices(walk: &mut Walk<'_>, subject: &Subject<'_>) -> Result<()> {
    let length = subject.len();
    let row = if subject.kind.is_playlist() { Row::H3 } else { Row::H4 };
    let asked = [
        ("bytes=0-".to_owned(), 0, length, row),
        ("bytes=2-5".to_owned(), 2, 6, row),
        (format!("bytes={}-", length - 3), length - 3, length, Row::H5),
        ("bytes=-3".to_owned(), length - 3, length, Row::H5),
    ];
    for (range, from, to, row) in asked {
        let Some(answer) = subject.ask(walk, row, &[("range", &range)])? else { continue };
        slice(walk, subject, &answer, (&range, from, to), row);
    }
    Ok(())
}

fn slice(walk: &mut Walk<'_>, subject: &Subject<'_>, answer: &Answer, asked: (&str, usize, usize), row: Row) {
    let (range, from, to) = asked;
    let findings = &mut walk.findings;
    let all = &subject.whole.body;
    findings.check(Row::H7, answer.header("content-length").is_some(), subject.uri, || {
        format!("{range}: no Content-Length (status {})", answer.status)
    });
    length_of(answer, subject.uri, range, findings);
    if answer.status == 200 && subject.kind.is_playlist() {
        findings
            .check(row, answer.body == *all, subject.uri, || format!("{range}: 200 with another content"));
        return;
    }
    findings.check(row, answer.status == 206, subject.uri, || {
        format!("{range}: status {} instead of 206", answer.status)
    });
    if answer.status != 206 {
        return;
    }
    let wanted = format!("bytes {from}-{}/{}", to - 1, all.len());
    let said = answer.header("content-range").unwrap_or("missing");
    findings.check(row, said == wanted, subject.uri, || {
        format!("{range}: Content-Range {said:?} instead of {wanted:?}")
    });
    findings.check(row, Some(answer.body.as_slice()) == all.get(from..to), subject.uri, || {
        format!("{range}: {} bytes that are not the slice of {} bytes", answer.body.len(), to - from)
    });
    encoded_slice(answer, range, subject.uri, findings);
}

fn length_of(answer: &Answer, uri: &str, range: &str, findings: &mut Findings) {
    let Some(said) = answer.header("content-length") else { return };
    let kept = answer.truncated || said.parse() == Ok(answer.body.len());
    findings.check(Row::H7, kept, uri, || {
        format!("{range}: Content-Length {said}, but {} bytes", answer.body.len())
    });
}

fn encoded_slice(answer: &Answer, range: &str, uri: &str, findings: &mut Findings) {
    let encoding = answer.header("content-encoding").filter(|encoding| *encoding != "identity");
    findings.check(Row::H9, encoding.is_none(), uri, || {
        format!("{range}: 206 together with Content-Encoding {}", encoding.unwrap_or_default())
    });
}

/// H5: nothing there.
fn beyond(walk: &mut Walk<'_>, subject: &Subject<'_>) -> Result<()> {
    let range = format!("bytes={}-", subject.len());
    let Some(answer) = subject.ask(walk, Row::H5, &[("range", &range)])? else { return Ok(()) };
    let findings = &mut walk.findings;
    if answer.status == 200 && subject.kind.is_playlist() {
        findings.judged(Row::H5);
        return Ok(());
    }
    findings.check(Row::H5, answer.status == 416, subject.uri, || {
        format!("{range}: status {} instead of 416", answer.status)
    });
    if answer.status == 416 {
        let wanted = format!("bytes */{}", subject.len());
        let said = answer.header("content-range").unwrap_or("missing");
        findings.check(Row::H5, said == wanted, subject.uri, || {
            format!("{range}: Content-Range {said:?} instead of {wanted:?}")
        });
    }
    Ok(())
}

fn several(walk: &mut Walk<'_>, subject: &Subject<'_>) -> Result<()> {
    let range = "bytes=0-1,4-5";
    let Some(answer) = subject.ask(walk, Row::H5, &[("range", range)])? else { return Ok(()) };
    let kept = answer.status == 200 && answer.body == subject.whole.body;
    walk.findings.check(Row::H5, kept, subject.uri, || {
        format!("{range}: status {} with {} bytes instead of 200 with all", answer.status, answer.body.len())
    });
    Ok(())
}

/// H6.
fn tags(walk: &mut Walk<'_>, subject: &Subject<'_>) -> Result<()> {
    let uri = subject.uri;
    let Some(tag) = subject.whole.header("etag").map(str::to_owned) else {
        walk.findings.broken(Row::H6, uri, "no ETag");
        return Ok(());
    };
    let strong = tag.starts_with('"') && tag.ends_with('"') && tag.len() > 2;
    walk.findings.check(Row::H6, strong, uri, || format!("ETag {tag} is not strong"));
    if let Some(again) = subject.ask(walk, Row::H6, &[])? {
        let same_tag = again.header("etag") == Some(&tag);
        let same_bytes = again.body == subject.whole.body;
        walk.findings
            .check(Row::H6, same_tag || !same_bytes, uri, || "the same bytes get another ETag".into());
        walk.findings.check(Row::H6, !same_tag || same_bytes, uri, || "other bytes keep the ETag".into());
        if !same_bytes {
            // Whether that is allowed is for others to say; what follows would judge two files.
            return Ok(());
        }
    }
    if let Some(answer) = subject.ask(walk, Row::H6, &[("if-none-match", &tag)])? {
        walk.findings.check(Row::H6, answer.status == 304 && answer.body.is_empty(), uri, || {
            format!("If-None-Match with its ETag: status {} instead of 304", answer.status)
        });
    }
    for (condition, wanted) in [(tag.as_str(), 206), ("\"another\"", 200)] {
        let Some(answer) = subject.ask(walk, Row::H6, &[("range", "bytes=2-5"), ("if-range", condition)])?
        else {
            continue;
        };
        // A playlist may always come whole.
        let kept = answer.status == wanted || subject.kind.is_playlist() && answer.status == 200;
        let whole = answer.status != 200 || answer.body == subject.whole.body;
        walk.findings.check(Row::H6, kept && whole, uri, || {
            format!(
                "If-Range {condition}: status {} with {} bytes, {wanted} is right",
                answer.status,
                answer.body.len()
            )
        });
    }
    Ok(())
}

/// H8.
fn head(walk: &mut Walk<'_>, subject: &Subject<'_>) -> Result<()> {
    let request = Request { method: Method::Head, ..subject.request(&[]) };
    let Some(answer) = walk.ask(&request, Row::H8, subject.uri)? else { return Ok(()) };
    let findings = &mut walk.findings;
    cors(&answer, subject.uri, findings);
    findings.check(Row::H8, answer.status == 200, subject.uri, || format!("HEAD: status {}", answer.status));
    findings.check(Row::H8, answer.body.is_empty(), subject.uri, || "HEAD: a body".into());
    for name in ["content-type", "content-length", "etag", "accept-ranges", "cache-control", "last-modified"]
    {
        let (ours, theirs) = (answer.header(name), subject.whole.header(name));
        // What was sent while it was made had no length to tell.
        let unknown = name == "content-length" && theirs.is_none();
        findings.check(Row::H8, ours == theirs || unknown, subject.uri, || {
            format!("{name} is {ours:?} with HEAD and {theirs:?} with GET")
        });
    }
    Ok(())
}

/// H9 and H10.
fn compressed(walk: &mut Walk<'_>, subject: &Subject<'_>) -> Result<()> {
    let row = if subject.kind.is_playlist() { Row::H9 } else { Row::H10 };
    let encoding = |answer: &Answer| {
        answer.header("content-encoding").filter(|encoding| *encoding != "identity").map(str::to_owned)
    };
    for refused in ["identity", "gzip;q=0, identity", "identity;q=1, *;q=0"] {
        let Some(answer) = subject.ask(walk, row, &[("accept-encoding", refused)])? else { continue };
        let said = encoding(&answer);
        walk.findings.check(row, said.is_none(), subject.uri, || {
            format!("Accept-Encoding {refused:?}: compressed ({})", said.unwrap_or_default())
        });
    }
    let Some(answer) = subject.ask(walk, row, &[("accept-encoding", "gzip, deflate, br, zstd")])? else {
        return Ok(());
    };
    let said = encoding(&answer);
    if !subject.kind.is_playlist() {
        walk.findings.check(row, said.is_none(), subject.uri, || {
            format!("compressed ({}) when a browser asks", said.unwrap_or_default())
        });
        return Ok(());
    }
    if said.is_some() {
        let varies = has_word(&answer, "vary", "accept-encoding");
        walk.findings.check(row, varies, subject.uri, || "compressed without Vary: Accept-Encoding".into());
        if said.as_deref() == Some("gzip") {
            let is_gzip = answer.body.starts_with(&[0x1F, 0x8B]);
            walk.findings.check(row, is_gzip, subject.uri, || "says gzip, but the body is not".into());
        }
    }
    let asked = [("accept-encoding", "gzip"), ("range", "bytes=0-3")];
    if let Some(answer) = subject.ask(walk, row, &asked)?.filter(|answer| answer.status == 206) {
        encoded_slice(&answer, "bytes=0-3", subject.uri, &mut walk.findings);
    }
    Ok(())
}

/// H11: what a browser asks first.
fn options(walk: &mut Walk<'_>, subject: &Subject<'_>) -> Result<()> {
    let asked =
        [("access-control-request-method", "GET"), ("access-control-request-headers", "range,authorization")];
    let request = Request { method: Method::Options, ..subject.request(&asked) };
    let Some(answer) = walk.ask(&request, Row::H11, subject.uri)? else { return Ok(()) };
    let findings = &mut walk.findings;
    findings.check(Row::H11, matches!(answer.status, 200 | 204), subject.uri, || {
        format!("OPTIONS: status {} instead of 204", answer.status)
    });
    let origin = answer.header("access-control-allow-origin");
    findings.check(Row::H11, matches!(origin, Some("*" | ORIGIN)), subject.uri, || {
        "OPTIONS: Access-Control-Allow-Origin is missing".into()
    });
    let lacking = |header: &str, wanted: &[&str]| -> Vec<String> {
        let lacks = |word: &&&str| !has_word(&answer, header, word);
        wanted.iter().filter(lacks).map(|word| (*word).to_owned()).collect()
    };
    let methods = lacking("access-control-allow-methods", &["GET", "HEAD"]);
    findings.check(Row::H11, methods.is_empty(), subject.uri, || {
        format!("OPTIONS: does not allow {}", methods.join(", "))
    });
    let headers = lacking("access-control-allow-headers", &ALLOWED);
    findings.check(Row::H11, headers.is_empty(), subject.uri, || {
        format!("OPTIONS: does not allow {}", headers.join(", "))
    });
    Ok(())
}

/// H11 on what is not there.
pub(super) fn missing(walk: &mut Walk<'_>, near: &Url) -> Result<()> {
    let mut url = near.clone();
    let folder = url.path().rsplit_once('/').map_or("", |(folder, _)| folder).to_owned();
    url.set_path(&format!("{folder}/no-such-file.ts"));
    let uri = walk.label(&url);
    let request = Request { url, method: Method::Get, headers: Vec::new(), max_bytes: 1 << 16 };
    let Some(answer) = walk.ask(&request, Row::H11, &uri)? else { return Ok(()) };
    cors(&answer, &uri, &mut walk.findings);
    Ok(())
}
