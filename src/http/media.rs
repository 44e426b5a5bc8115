//! The one place that answers with media: segments, playlists, single files.
//!
//! ```text
//!   handler --> Media (bytes or an open file, its validators) --> conditions --> range --> body
//!                                                  304, 412 <-+         416 <-+
//! ```
//!
//! What enters: the method and headers of a request, and what there is to send. What leaves: exactly what
//! RFC 9110 wants: `200`, `206` with the very slice, `304`, `412`, `416`, always with a `Content-Length`.
//! Playlists may be compressed, media never is. What must not live here: where media comes from, and
//! whether somebody may have it ([`access`]).
//!
//! | module | what |
//! | --- | --- |
//! | `access` | CORS and the stream token |
//! | `conditions` | `If-Match` and its kin |
//! | `range` | which bytes |
//! | `body` | a file, or pieces of memory, on their way to the socket |
//! | `passage` | parts of files that the kernel sends by itself |
//! | `disk` | bytes of files, at once or on a thread |
//! | `playlist` | gzip, and the token in a playlist's URIs |

pub(super) mod access;
mod body;
mod conditions;
pub(super) mod disk;
pub(super) mod passage;
mod playlist;
mod range;

use super::problem::Problem;
use crate::base::pieces::Pieces;
use axum::body::Body;
use axum::http::header::{
    ACCEPT_ENCODING, ACCEPT_RANGES, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE,
    CONTENT_TYPE, ETAG, LAST_MODIFIED, RANGE, VARY,
};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use conditions::{Validators, Verdict};
use passage::Passage;
use range::Wanted;
use std::fs::File;
use std::sync::Arc;
use std::time::SystemTime;

pub(super) use playlist::with_token;

/// MIME types of what is served.
pub(super) mod kinds {
    /// Playlists.
    pub(in crate::http) const PLAYLIST: &str = "application/vnd.apple.mpegurl";
    /// MPEG-TS.
    pub(in crate::http) const TS: &str = "video/mp2t";
    /// MP4: whole files, init segments, fragments.
    pub(in crate::http) const MP4: &str = "video/mp4";
    /// Matroska.
    pub(in crate::http) const MATROSKA: &str = "video/x-matroska";
    /// Subtitles.
    pub(in crate::http) const WEBVTT: &str = "text/vtt";
}

/// `Cache-Control` of what never changes under its address.
pub(super) const IMMUTABLE: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");
/// `Cache-Control` of what may change: it is kept, and asked for again each time.
pub(super) const REVALIDATE: HeaderValue = HeaderValue::from_static("no-cache");

/// More than any answer has, CORS and the like included.
const MOST_HEADERS: usize = 16;

/// What is sent.
#[derive(Debug)]
pub(super) enum Content {
    /// It is in memory.
    Bytes(Bytes),
    /// The same, in several pieces of it.
    Pieces(Pieces),
    /// It lies in a file, which has `len` bytes.
    File {
        /// Open for reading. Its position is neither used nor moved.
        file: Arc<File>,
        /// How long it is: all of that is promised to the client.
        len: u64,
        /// The connection's, where the file lies on a local disk.
        passage: Option<Passage>,
    },
}

/// For how long a client may keep it without asking again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keep {
    /// For ever: other bytes would have another address.
    Immutable,
    /// Not at all: it is asked each time whether it is still the same.
    Revalidate,
}

/// A representation (RFC 9110, section 3.2).
#[derive(Debug)]
pub(super) struct Media {
    /// The bytes.
    pub(super) content: Content,
    /// The MIME type.
    pub(super) kind: &'static str,
    /// A strong entity tag, in its quotes: other bytes, another tag.
    pub(super) etag: String,
    /// When it was last changed, where that is known.
    pub(super) modified: Option<SystemTime>,
    /// How long it may be kept.
    pub(super) keep: Keep,
    /// Whether it may be sent compressed: playlists and other text, never media.
    pub(super) compressible: bool,
}

/// Answers `GET` and `HEAD`.
pub(super) fn serve(method: &Method, headers: &HeaderMap, media: Media) -> Response {
    let now = SystemTime::now();
    let media = Outgoing::new(media, headers, now);
    let validators = Validators { etag: &media.etag, modified: media.modified, now };
    match conditions::judge(method, headers, &validators) {
        Verdict::Failed => media.failed(),
        Verdict::NotModified => media.not_modified(),
        Verdict::Send { ranged: false } => media.whole(),
        // Defined for GET alone (RFC 9110, section 14.2).
        Verdict::Send { ranged: true } => match range::wanted(headers, media.content.len()) {
            Wanted::Whole => media.whole(),
            Wanted::Part { first, last } => media.part(first, last),
            Wanted::Nothing => media.beyond(),
        },
    }
}

impl From<Bytes> for Content {
    fn from(bytes: Bytes) -> Self {
        Self::Bytes(bytes)
    }
}

impl From<Pieces> for Content {
    fn from(pieces: Pieces) -> Self {
        Self::Pieces(pieces)
    }
}

impl Content {
    fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Pieces(pieces) => pieces.len() as u64,
            Self::File { len, .. } => *len,
        }
    }

    /// The bytes from `first` up to, and without, `end`.
    fn slice(self, first: u64, end: u64) -> Body {
        let place = |at: u64| usize::try_from(at).unwrap_or(usize::MAX);
        let (from, to) = (place(first), place(end).max(place(first)));
        match self {
            Self::Bytes(bytes) => Body::from(bytes.slice(from.min(bytes.len())..to.min(bytes.len()))),
            Self::Pieces(pieces) => Body::new(body::PiecesBody::new(pieces.slice(from..to))),
            Self::File { file, passage, .. } => Body::new(body::FileBody::new(file, first, end, passage)),
        }
    }
}

/// The representation that this client gets.
struct Outgoing {
    content: Content,
    etag: String,
    modified: Option<SystemTime>,
    kind: &'static str,
    keep: Keep,
    varies: bool,
    gzip: bool,
}

impl Outgoing {
    fn new(media: Media, headers: &HeaderMap, now: SystemTime) -> Self {
        let Media { content, kind, etag, modified, keep, compressible } = media;
        // A time ahead of ours must not be told (RFC 9110, section 8.8.2.1), and one that HTTP has no
        // words for cannot be.
        let modified = modified.map(|time| time.min(now)).filter(|time| conditions::can_be_told(*time));
        let mut this = Self { content, etag, modified, kind, keep, varies: compressible, gzip: false };
        // Bytes are counted in what is stored: who asks for some of them gets it as it is.
        if compressible && !headers.contains_key(RANGE) && playlist::takes_gzip(headers) {
            this.compress();
        }
        this
    }

    fn compress(&mut self) {
        let Content::Bytes(plain) = &self.content else { return };
        if let Some(packed) = playlist::gzip(plain) {
            self.content = Content::Bytes(packed);
            self.etag = format!("{}-gzip\"", self.etag.trim_end_matches('"'));
            self.gzip = true;
        }
    }

    fn whole(self) -> Response {
        let len = self.content.len();
        let mut response = self.head(StatusCode::OK, len);
        *response.body_mut() = self.content.slice(0, len);
        response
    }

    fn part(self, first: u64, last: u64) -> Response {
        let end = last.saturating_add(1);
        let mut response = self.head(StatusCode::PARTIAL_CONTENT, end.saturating_sub(first));
        let place = format!("bytes {first}-{last}/{}", self.content.len());
        insert(response.headers_mut(), CONTENT_RANGE, place);
        *response.body_mut() = self.content.slice(first, end);
        response
    }

    fn not_modified(&self) -> Response {
        let mut response = StatusCode::NOT_MODIFIED.into_response();
        self.validators(response.headers_mut());
        response
    }

    fn failed(&self) -> Response {
        let detail = "what is here now is not what the request's If-Match or If-Unmodified-Since names";
        Problem::new(StatusCode::PRECONDITION_FAILED, "precondition_failed", detail).into_response()
    }

    fn beyond(&self) -> Response {
        let len = self.content.len();
        let detail = format!("there are {len} bytes, and none of them is in the range that was asked for");
        let mut response =
            Problem::new(StatusCode::RANGE_NOT_SATISFIABLE, "range_not_satisfiable", detail).into_response();
        let headers = response.headers_mut();
        insert(headers, CONTENT_RANGE, format!("bytes */{len}"));
        headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        response
    }

    fn head(&self, status: StatusCode, len: u64) -> Response {
        let mut response = status.into_response();
        let headers = response.headers_mut();
        headers.reserve(MOST_HEADERS);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.kind));
        headers.insert(CONTENT_LENGTH, HeaderValue::from(len));
        headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        if self.gzip {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        self.validators(headers);
        response
    }

    /// What a 304 has to repeat (RFC 9110, section 15.4.5).
    fn validators(&self, headers: &mut HeaderMap) {
        insert(headers, ETAG, self.etag.clone());
        if let Some(modified) = self.modified {
            insert(headers, LAST_MODIFIED, httpdate::fmt_http_date(modified));
        }
        if self.varies {
            headers.append(VARY, HeaderValue::from(ACCEPT_ENCODING));
        }
        let keep = if self.keep == Keep::Immutable { IMMUTABLE } else { REVALIDATE };
        headers.insert(CACHE_CONTROL, keep);
    }
}

/// Text of ours always fits a header; a tag that does not is left out.
fn insert(headers: &mut HeaderMap, name: axum::http::HeaderName, text: String) {
    if let Ok(value) = HeaderValue::try_from(text) {
        headers.insert(name, value);
    }
}

#[cfg(test)]
mod tests;
