//! Outputs of jobs: what is published, and what a running job has made so far.
//!
//! ```text
//!   /stream/{job}/{path} --> shelf (open files) --------------------------> media::serve
//!                              \--> board: growing, published, gone --> open, on a thread --^
//! ```
//!
//! What enters: a job's id and a path in its output. What leaves: playlists as they stand, segments, init
//! segments, single files. Only what the job itself has published is there: not its log, not what lies
//! beside it or has come to lie in its place, not what a link leads to. What must not live here: how media
//! is answered (`media`), and what a job's output consists of (`store`).

mod open;
mod shelf;

use super::Room;
use super::extract::is_job_id;
use super::media::passage::Passage;
use super::media::{Content, Keep, Media, kinds, serve, with_token};
use super::problem::{Answer, Problem};
use super::threads::Stuck;
use crate::config::paths::Area;
use crate::model::record::JobState;
use crate::store::hls_dir::{Growing, Piece};
use crate::work::board::{PublishedOutput, Stream};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::Response;
use bytes::Bytes;
use open::{Opened, Trouble};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub(super) use shelf::Shelf;

/// As the table of the API has it.
pub(super) const ROUTE: &str = "/stream/{job}/{*path}";
/// How long the output's disk may take to open a file: one that sleeps needs some ten seconds.
const OPEN_TIME: Duration = Duration::from_secs(15);
/// When to ask again after that.
const RETRY_S: u64 = 10;

/// A file of a job's output.
///
/// Playlists of a running job grow (`EVENT`), and are whole once it has succeeded (`VOD`); `outputs` of the
/// job says where to begin. A single file is there once the job has succeeded.
#[utoipa::path(
    get, path = "/stream/{job}/{*path}", tag = "media", operation_id = "stream",
    params(
        ("job" = String, Path, description = "The job's id", min_length = 1, max_length = 64,
            pattern = "^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}$"),
        ("path" = String, Path, description = "The path in its output", min_length = 1, max_length = 1024),
    ),
    responses(
        (status = 200, description = "It", content(
            (String = "application/vnd.apple.mpegurl"),
            (String = "video/mp2t"),
            (String = "video/mp4"),
            (String = "video/x-matroska"),
            (String = "text/vtt"),
        )),
        (status = 403, description = "`permission_denied`: the node may not read its own output"),
        (status = 404, description = "`job_not_found`; `not_yet`: the job has nothing to show so far; \
            `not_found`: it has no such file, or not yet"),
        (status = 410, description = "`output_gone`: the job ended without an output, or that was removed or replaced"),
        (status = 503, description = "`output_not_answering`, `no_threads`, `journal_failed`"),
    )
)]
pub(super) async fn file(
    room: &Arc<Room>,
    passage: &Passage,
    head: &Parts,
    token: Option<&str>,
    (job, path): (&str, &str),
) -> Answer<Response> {
    if !is_job_id(job) {
        return Err(Problem::no_such_job(job));
    }
    let epoch = room.board.outputs_changed();
    let found = match room.shelf.file(job, path, epoch) {
        Some(found) => found,
        None => find(room, job, path, epoch).await?,
    };
    Ok(serve(&head.method, &head.headers, found.media(token, passage)))
}

/// What is served, whoever asks for it.
#[derive(Clone, Debug)]
enum Found {
    /// A playlist of a running job.
    Growing(String),
    /// A file.
    File { opened: Opened, kind: &'static str },
}

impl Found {
    fn media(self, token: Option<&str>, passage: &Passage) -> Media {
        let (content, kind, etag, modified) = match self {
            Self::Growing(text) => {
                let etag = tag_of(&text);
                (Content::Bytes(Bytes::from(text)), kinds::PLAYLIST, etag, None)
            }
            Self::File { opened, kind } => {
                let Opened { content, etag, modified } = opened;
                (content.content(passage), kind, etag, modified)
            }
        };
        let playlist = kind == kinds::PLAYLIST;
        let content = match content {
            Content::Bytes(bytes) if playlist => Content::Bytes(passed_on(bytes, token)),
            content => content,
        };
        let keep = if playlist { Keep::Revalidate } else { Keep::Immutable };
        Media { content, kind, etag, modified, keep, compressible: is_text(kind) }
    }
}

fn is_text(kind: &str) -> bool {
    kind == kinds::PLAYLIST || kind == kinds::WEBVTT
}

/// A playlist that somebody asked for with a token in the query.
fn passed_on(playlist: Bytes, token: Option<&str>) -> Bytes {
    match (token, std::str::from_utf8(&playlist)) {
        (Some(_), Ok(text)) => Bytes::from(with_token(text, token).into_owned()),
        _ => playlist,
    }
}

/// By its text: a playlist in memory has no other sign.
fn tag_of(text: &str) -> String {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    format!("\"{:x}-{:016x}\"", text.len(), hasher.finish())
}

async fn find(room: &Arc<Room>, job: &str, path: &str, epoch: u64) -> Answer<Found> {
    let stream = room.board.stream(job).await.map_err(|e| Problem::of(&e))?;
    match stream.ok_or_else(|| Problem::no_such_job(job))? {
        Stream::NotYet(state) => Err(not_yet(job, state)),
        Stream::Gone(state) => Err(gone(job, state)),
        Stream::Growing(growing) => growing_file(room, &growing, job, path).await,
        Stream::Published(output) => {
            let found = published_file(room, output, job, path).await?;
            room.shelf.keep(room, (job, path), epoch, &found);
            Ok(found)
        }
    }
}

async fn growing_file(room: &Room, growing: &Growing, job: &str, path: &str) -> Answer<Found> {
    let no_file = || Problem::not_found("not_found", no_file(job, path));
    // The folder may get its name between the look and the opening.
    for _ in 0..2 {
        let (file, bytes) = match growing.piece(path).ok_or_else(no_file)? {
            Piece::Playlist(text) => return Ok(Found::Growing(text)),
            Piece::File { path, bytes } => (path, bytes),
        };
        let kind = kind_of(path).ok_or_else(no_file)?;
        let root = output_folder(room);
        match look(room, move || open::growing(&root, &file, bytes)).await {
            Err(Trouble::Missing) => {}
            opened => return Ok(Found::File { opened: opened.map_err(|t| problem(job, path, t))?, kind }),
        }
    }
    Err(no_file())
}

async fn published_file(room: &Room, output: PublishedOutput, job: &str, path: &str) -> Answer<Found> {
    let no_file = || Problem::not_found("not_found", no_file(job, path));
    let kind = kind_of(path).ok_or_else(no_file)?;
    let (root, asked) = (output_folder(room), path.to_owned());
    let text = is_text(kind);
    let opened = look(room, move || open::published(&root, &output, &asked, text)).await;
    Ok(Found::File { opened: opened.map_err(|trouble| problem(job, path, trouble))?, kind })
}

fn output_folder(room: &Room) -> PathBuf {
    room.paths.folder(Area::Output).map(PathBuf::from).unwrap_or_default()
}

async fn look(
    room: &Room,
    work: impl FnOnce() -> Result<Opened, Trouble> + Send + 'static,
) -> Result<Opened, Trouble> {
    match room.threads.run(Area::Output, OPEN_TIME, move |_| work()).await {
        Ok(opened) => opened,
        Err(Stuck::Silent | Stuck::NoPlace) => Err(Trouble::Silent("it does not answer".into())),
        Err(Stuck::NoThread(why)) => Err(Trouble::NoThread(why)),
        Err(Stuck::Broken) => Err(Trouble::Broken),
    }
}

/// The type of a file, by its name. `None` for what is never served.
fn kind_of(path: &str) -> Option<&'static str> {
    match path.rsplit_once('.')?.1 {
        "m3u8" => Some(kinds::PLAYLIST),
        "ts" => Some(kinds::TS),
        "mp4" | "m4s" => Some(kinds::MP4),
        "mkv" => Some(kinds::MATROSKA),
        "vtt" => Some(kinds::WEBVTT),
        _ => None,
    }
}

fn no_file(job: &str, path: &str) -> String {
    format!("the output of job {job} has no file {}, or not yet", path.escape_debug())
}

fn not_yet(job: &str, state: JobState) -> Problem {
    let detail = format!("job {job} is {state} and has nothing to show yet; ask again, or follow its events");
    Problem::not_found("not_yet", detail)
}

fn gone(job: &str, state: JobState) -> Problem {
    let detail = match state {
        JobState::Succeeded => format!("the output of job {job} was removed, or another job has replaced it"),
        _ => format!("job {job} is {state}: it has no output"),
    };
    Problem::new(StatusCode::GONE, "output_gone", detail)
}

fn problem(job: &str, path: &str, trouble: Trouble) -> Problem {
    match trouble {
        Trouble::Missing => Problem::not_found("not_found", no_file(job, path)),
        Trouble::Replaced => gone(job, JobState::Succeeded),
        Trouble::Denied => {
            let detail = format!(
                "the node may not read the output of job {job}: check the owner and mode of the files"
            );
            Problem::new(StatusCode::FORBIDDEN, "permission_denied", detail)
        }
        Trouble::Silent(why) => {
            let detail = format!(
                "the output of job {job} cannot be read now: {why}; check the disk or network mount of paths.output"
            );
            Problem::unavailable("output_not_answering", detail, RETRY_S)
        }
        Trouble::NoThread(why) => {
            let detail = format!("the system grants no thread to open a file: {why}");
            Problem::unavailable("no_threads", detail, RETRY_S)
        }
        Trouble::Broken => Problem::internal("the opening of an output ended without an answer"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_trouble_has_its_code() {
        let told = |trouble| problem("a", "720p/0.ts", trouble).told();
        assert_eq!(told(Trouble::Missing), (404, "not_found"));
        assert_eq!(told(Trouble::Replaced), (410, "output_gone"));
        assert_eq!(told(Trouble::Denied), (403, "permission_denied"));
        assert_eq!(told(Trouble::Silent("x".into())), (503, "output_not_answering"));
        assert_eq!(told(Trouble::NoThread("x".into())), (503, "no_threads"));
        assert_eq!(told(Trouble::Broken), (500, "internal"));
        assert_eq!(not_yet("a", JobState::Queued).told(), (404, "not_yet"));
        assert_eq!(gone("a", JobState::Failed).told(), (410, "output_gone"));
    }

    #[test]
    fn a_growing_playlist_has_another_tag_when_it_has_grown() {
        assert_eq!(tag_of("#EXTM3U\n"), tag_of("#EXTM3U\n"));
        assert_ne!(tag_of("#EXTM3U\n"), tag_of("#EXTM3U\n#"));
    }
}
