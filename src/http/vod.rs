//! `/vod`: any file under a root as HLS, made while it is watched.
//!
//! What enters: the path of a file and what is wanted of it. What leaves: playlists that are whole and true
//! before anything is encoded, and segments: from the cache, or as they are made. A playlist's URIs carry a
//! short key of the file as it was (`v`): segments may be kept by clients for ever, and one who holds the
//! playlist of a file that was replaced since is told so, and never shown half of each. What must not live
//! here: who makes what (`work::jit`), and how bytes are answered (`media`).
//!
//! | below `/vod/{root}/{path of the file}/` | |
//! | --- | --- |
//! | `master.m3u8` | the ladder |
//! | `{rendition}/index.m3u8`, `/init.mp4`, `/{n}.ts`, `/{n}.m4s` | one rung |
//! | `direct.m3u8`, `direct/init.mp4`, `direct/{n}.ts`, `/{n}.m4s` | the file's own streams, copied |
//! | `info.json` | what the file is, and which of the two a client should take |

use super::Room;
use super::media::{Content, IMMUTABLE, Keep, Media, REVALIDATE, kinds, serve, with_token};
use super::problem::{Answer, Problem};
use super::server::PeerAddress;
use crate::base::error::Error;
use crate::base::pieces::Pieces;
use crate::config::paths::Area;
use crate::model::job::SegmentType;
use crate::store::cache::{Found, Key};
use crate::work::jit::floor::Peer;
use crate::work::jit::title::{DIRECT, Shape, Title};
use crate::work::jit::titles::Place;
use crate::work::jit::{Growth, Served, Wanted, feed};
use axum::body::Body;
use axum::http::header::{ACCEPT_RANGES, CACHE_CONTROL, CONTENT_TYPE, RANGE, USER_AGENT};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, Version};
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream::unfold;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// As the table of the API has it.
pub(super) const ROUTE: &str = "/vod/{root}/{*path}";
/// When to ask again where all that can be made is being made.
const FULL_RETRY_S: u64 = 4;
/// When to ask again where the same player has moved on.
const SUPERSEDED_RETRY_S: u64 = 1;

/// What is wanted of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ask<'a> {
    Master,
    DirectPlaylist,
    Info,
    Playlist(&'a str),
    Init(&'a str),
    Segment(&'a str, u64, SegmentType),
}

/// The path of the file, and what is wanted of it.
fn parse(path: &str) -> Option<(&str, Ask<'_>)> {
    let (rest, last) = path.rsplit_once('/')?;
    match last {
        "master.m3u8" => return Some((rest, Ask::Master)),
        "direct.m3u8" => return Some((rest, Ask::DirectPlaylist)),
        "info.json" => return Some((rest, Ask::Info)),
        _ => {}
    }
    let (file, rendition) = rest.rsplit_once('/')?;
    let ask = match last {
        "index.m3u8" => Ask::Playlist(rendition),
        "init.mp4" => Ask::Init(rendition),
        _ => {
            let (number, kind) = match last.rsplit_once('.')? {
                (number, "ts") => (number, SegmentType::Ts),
                (number, "m4s") => (number, SegmentType::Fmp4),
                _ => return None,
            };
            Ask::Segment(rendition, whole_number(number)?, kind)
        }
    };
    Some((file, ask))
}

/// One name for each segment: no leading zeros, no sign.
fn whole_number(text: &str) -> Option<u64> {
    let number = text.parse::<u64>().ok()?;
    (number.to_string() == text).then_some(number)
}

impl Ask<'_> {
    fn shape(self) -> Shape {
        match self {
            Self::DirectPlaylist | Self::Init(DIRECT) | Self::Segment(DIRECT, ..) => Shape::Direct,
            _ => Shape::Ladder,
        }
    }
}

/// Who asked for it, and how.
struct Request<'a> {
    room: &'a Room,
    method: &'a Method,
    version: Version,
    uri: &'a Uri,
    headers: &'a HeaderMap,
    /// Shown in the query: to be kept in the addresses that a playlist names.
    token: Option<&'a str>,
    peer: Peer,
}

/// Just-in-time HLS of a file: a playlist, a segment, or what the file is.
#[utoipa::path(
    get, path = "/vod/{root}/{*path}", tag = "media", operation_id = "getVod",
    params(
        ("root" = String, Path, description = "The root's name", min_length = 1, max_length = 64),
        ("path" = String, Path, min_length = 1, max_length = 1024,
            description = "The file's path in it, and what is wanted: `master.m3u8`, `direct.m3u8`, `info.json`, \
                `{rendition}/index.m3u8`, `{rendition}/init.mp4`, `{rendition}/{n}.ts` or `.m4s`"),
    ),
    responses(
        (status = 200, description = "The whole of it; a segment that is being made comes without a length", content(
            (String = "application/vnd.apple.mpegurl"),
            (String = "video/mp2t"),
            (String = "video/mp4"),
            (String = "application/json"),
        )),
        (status = 403, description = "`permission_denied`: the node may not read the file"),
        (status = 404, description = "`not_found`, `root_not_found`, `path_escapes`, `no_such_rendition`, \
            `no_such_segment`, `no_direct_play`"),
        (status = 410, description = "`source_changed`: another file lies there now; take the playlist again"),
        (status = 422, description = "`not_media`, `no_decoder` and the like: the file is no media, or this node cannot decode it"),
        (status = 500, description = "`not_made` and faults of the node"),
        (status = 503, description = "`streams_full`, `superseded`, `stalled`, `open_timeout` and the like"),
    )
)]
pub(super) async fn get(
    room: &Arc<Room>,
    address: PeerAddress,
    head: &Parts,
    token: Option<&str>,
    (root, path): (&str, &str),
) -> Answer<Response> {
    let request = Request {
        room,
        method: &head.method,
        version: head.version,
        uri: &head.uri,
        headers: &head.headers,
        token,
        peer: peer(address, &head.headers),
    };
    request.answer(root, path).await
}

/// As far as one viewer can be told from another.
fn peer(address: PeerAddress, headers: &HeaderMap) -> Peer {
    let mut hasher = DefaultHasher::new();
    address.0.ip().to_canonical().hash(&mut hasher);
    headers.get(USER_AGENT).map(HeaderValue::as_bytes).hash(&mut hasher);
    Peer(hasher.finish())
}

impl Request<'_> {
    async fn answer(&self, root: &str, path: &str) -> Answer<Response> {
        let Some((file, ask)) = parse(path) else {
            let detail = format!("{} is nothing that can be asked of a file", path.escape_debug());
            return Err(Problem::not_found("not_found", detail));
        };
        let place = self.place(root, file)?;
        if ask == Ask::Info {
            return self.info(place).await;
        }
        let title = self.room.titles.get(place, ask.shape()).await.map_err(|e| refused(&e))?;
        self.check_version(&title)?;
        match ask {
            Ask::Master => Ok(self.playlist(&title, &title.master)),
            Ask::DirectPlaylist => Ok(self.playlist(&title, &title.playlist)),
            Ask::Playlist(name) => rendition(&title, name).map(|_| self.playlist(&title, &title.playlist)),
            Ask::Init(name) => self.init(&title, rendition(&title, name)?).await,
            Ask::Segment(name, index, kind) => {
                self.segment(&title, rendition(&title, name)?, index, kind).await
            }
            Ask::Info => Err(Problem::internal("info is answered above")),
        }
    }

    fn place(&self, root: &str, file: &str) -> Answer<Place> {
        let id = self.room.paths.root(root).ok_or_else(|| {
            Problem::not_found("root_not_found", format!("there is no root {}", root.escape_debug()))
        })?;
        let escapes = |e: Error| Problem::not_found("path_escapes", e.message().to_owned());
        let local = self.room.paths.inside(Area::Root(id), file).map_err(escapes)?;
        let folder = self.room.paths.folder(Area::Root(id)).map(Into::into).unwrap_or_default();
        Ok(Place { root: id, folder, local })
    }

    /// The query's value of that name.
    fn query(&self, name: &str) -> Option<&str> {
        let pairs = self.uri.query()?.split('&').filter_map(|pair| pair.split_once('='));
        pairs.filter(|(key, _)| *key == name).map(|(_, value)| value).next()
    }

    /// Who holds the playlist of another file does not get this one's media.
    fn check_version(&self, title: &Title) -> Answer<()> {
        match self.query("v") {
            Some(v) if v != title.version() => {
                let detail = "another file lies there now than the one that the playlist was of: take the playlist again";
                Err(Problem::new(StatusCode::GONE, "source_changed", detail))
            }
            _ => Ok(()),
        }
    }

    /// What the file is.
    async fn info(&self, place: Place) -> Answer<Response> {
        let title = self.room.titles.get(place.clone(), Shape::Ladder).await.map_err(|e| refused(&e))?;
        let direct = self.room.titles.get(place, Shape::Direct).await;
        let text = title.info(direct.as_deref().map_err(Error::message)).to_string();
        Ok(self.text(&title, "application/json", text))
    }

    fn playlist(&self, title: &Title, text: &str) -> Response {
        self.text(title, kinds::PLAYLIST, with_token(text, self.token).into_owned())
    }

    fn text(&self, title: &Title, kind: &'static str, text: String) -> Response {
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        self.serve(title, kind, Bytes::from(text), format!("\"{:016x}\"", hasher.finish()), Keep::Revalidate)
    }

    async fn init(&self, title: &Arc<Title>, rendition: u32) -> Answer<Response> {
        if title.segment_type() != SegmentType::Fmp4 {
            return Err(Problem::not_found("not_found", "MPEG-TS segments have no init segment"));
        }
        if title.init(rendition).is_none() {
            // Only the media tell it.
            let wanted = Wanted { rendition, index: 0, peer: self.peer, growing: false };
            self.room.studio.segment(title, wanted).await.map_err(|e| refused(&e))?;
        }
        let init = title.init(rendition).ok_or_else(|| Problem::internal("a run told no init segment"))?;
        let etag = format!("\"{:016x}-{rendition}-init\"", title.content);
        Ok(self.serve(title, kinds::MP4, init, etag, self.keep(title)))
    }

    async fn segment(
        &self,
        title: &Arc<Title>,
        rendition: u32,
        index: u64,
        kind: SegmentType,
    ) -> Answer<Response> {
        if index >= title.segment_count() || kind != title.segment_type() {
            let detail = format!(
                "there are segments 0 to {} of type {}",
                title.segment_count().saturating_sub(1),
                title.extension()
            );
            return Err(Problem::not_found("no_such_segment", detail));
        }
        let wanted = Wanted { rendition, index, peer: self.peer, growing: self.takes_growing() };
        match self.room.studio.segment(title, wanted).await.map_err(|e| refused(&e))? {
            Served::Growing(growth) => Ok(growing(growth, mime(kind), self.keep(title))),
            Served::Whole(found) => {
                let key = Key { content: title.content, rendition, index };
                let tag = self.room.studio.tag(key).unwrap_or_default();
                let data = whole(found).await?;
                let etag = format!("\"{:016x}-{rendition}-{index}-{tag:x}\"", title.content);
                Ok(self.serve(title, mime(kind), data, etag, self.keep(title)))
            }
        }
    }

    /// A client that wants a part, or cannot take a body without a length, gets the segment when it is whole.
    fn takes_growing(&self) -> bool {
        self.method == Method::GET && self.version == Version::HTTP_11 && !self.headers.contains_key(RANGE)
    }

    /// For ever only where the address names the file as it is now.
    fn keep(&self, title: &Title) -> Keep {
        if self.query("v") == Some(title.version()) { Keep::Immutable } else { Keep::Revalidate }
    }

    fn serve(
        &self,
        title: &Title,
        kind: &'static str,
        data: impl Into<Content>,
        etag: String,
        keep: Keep,
    ) -> Response {
        let compressible = keep == Keep::Revalidate && kind != kinds::MP4 && kind != kinds::TS;
        let modified = title.identity.modified();
        let media = Media { content: data.into(), kind, etag, modified, keep, compressible };
        serve(self.method, self.headers, media)
    }
}

fn rendition(title: &Title, name: &str) -> Answer<u32> {
    title.rendition(name).ok_or_else(|| {
        let detail = format!("there is no rendition {}; the master playlist names them", name.escape_debug());
        Problem::not_found("no_such_rendition", detail)
    })
}

fn mime(kind: SegmentType) -> &'static str {
    match kind {
        SegmentType::Ts => kinds::TS,
        SegmentType::Fmp4 => kinds::MP4,
    }
}

async fn whole(found: Found) -> Answer<Pieces> {
    match found {
        Found::Memory(data) => Ok(data),
        Found::Disk(found) => {
            let read = tokio::task::spawn_blocking(move || found.read()).await;
            read.map_err(|e| Problem::internal(&e.to_string()))?.map_err(|e| Problem::of(&e))
        }
    }
}

/// The segment as it is made: without a length, since nobody knows it.
fn growing(growth: Growth, kind: &'static str, keep: Keep) -> Response {
    let pieces = unfold(Some(growth), |growth| async move {
        let mut growth = growth?;
        match growth.reader.next().await {
            feed::Next::Piece(piece) => Some((Ok(piece), Some(growth))),
            feed::Next::End => None,
            // So that nobody takes it for the whole.
            feed::Next::BrokenOff => {
                Some((Err(std::io::Error::other("the segment could not be made to its end")), None))
            }
        }
    });
    let mut response = Response::new(Body::from_stream(pieces));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, if keep == Keep::Immutable { IMMUTABLE } else { REVALIDATE });
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    response
}

fn refused(e: &Error) -> Problem {
    let unavailable = |seconds| Problem::unavailable(e.code(), e.message().to_owned(), seconds);
    match e.code() {
        "streams_full" => unavailable(FULL_RETRY_S),
        "superseded" => unavailable(SUPERSEDED_RETRY_S),
        // Where a link leads is nobody's business.
        "path_escapes" => Problem::not_found("path_escapes", "that leads out of the root: it is not served"),
        "no_direct_play" => Problem::not_found(e.code(), e.message().to_owned()),
        _ => Problem::of(e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wanted_is_read_from_the_end() {
        let ts = SegmentType::Ts;
        for (path, read) in [
            ("a/b.mkv/master.m3u8", Some(("a/b.mkv", Ask::Master))),
            ("b.mkv/direct.m3u8", Some(("b.mkv", Ask::DirectPlaylist))),
            ("b.mkv/info.json", Some(("b.mkv", Ask::Info))),
            ("a/b.mkv/720p/index.m3u8", Some(("a/b.mkv", Ask::Playlist("720p")))),
            ("b.mkv/720p/init.mp4", Some(("b.mkv", Ask::Init("720p")))),
            ("b.mkv/720p/0.ts", Some(("b.mkv", Ask::Segment("720p", 0, ts)))),
            ("b.mkv/direct/12.m4s", Some(("b.mkv", Ask::Segment("direct", 12, SegmentType::Fmp4)))),
            (
                "720p/index.m3u8/master.m3u8/720p/7.ts",
                Some(("720p/index.m3u8/master.m3u8", Ask::Segment("720p", 7, ts))),
            ),
            ("master.m3u8", None),
            ("720p/0.ts", None),
            ("b.mkv/720p/01.ts", None),
            ("b.mkv/720p/+1.ts", None),
            ("b.mkv/720p/1.mp4", None),
            ("b.mkv/720p/99999999999999999999.ts", None),
            ("b.mkv/720p/", None),
            ("", None),
        ] {
            assert_eq!(parse(path), read, "{path}");
        }
    }

    #[test]
    fn the_copied_shape_has_a_folder_of_its_own() {
        assert_eq!(parse("a/direct/1.ts").unwrap().1.shape(), Shape::Direct);
        assert_eq!(parse("a/direct.m3u8").unwrap().1.shape(), Shape::Direct);
        assert_eq!(parse("a/720p/1.ts").unwrap().1.shape(), Shape::Ladder);
        assert_eq!(parse("a/direct/index.m3u8").unwrap().1.shape(), Shape::Ladder);
    }
}
