//! The roots, and what lies in their folders.
//!
//! What enters: a root's name and a path in it. What leaves: names that can be asked for in turn, or
//! made the input of a job. Nothing outside a root, nothing hidden, nothing but folders and files. Reading
//! a folder may take for ever: it is done on `threads`.

mod listing;

use super::Room;
use super::extract::{Folder, Page, Values};
use super::problem::{Answer, Problem};
use super::threads::Stuck;
use crate::config::paths::{Area, RootId};
use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use jiff::Timestamp;
use listing::Trouble;
use serde::Serialize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use utoipa::ToSchema;

/// How long a folder may take to be read.
const LISTING_TIME: Duration = Duration::from_secs(2);
/// When to ask again after that.
const RETRY_S: u64 = 10;
/// A root.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RootLine {
    /// Its name in paths.
    name: String,
    /// What the network calls it: inputs of jobs begin with it.
    uri: String,
    /// Whether its file system answers.
    answering: bool,
}

/// The roots.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RootList {
    /// In the order of the configuration.
    roots: Vec<RootLine>,
}

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum EntryKind {
    /// A file.
    File,
    /// A folder.
    Folder,
}

/// One name in a folder.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct Entry {
    /// Its name.
    name: String,
    /// What it is, links followed.
    kind: EntryKind,
    /// A file's size; null for folders.
    size_bytes: Option<u64>,
    /// When it was last changed; null where the file system has no such time.
    #[schema(value_type = Option<String>, format = DateTime)]
    mtime: Option<Timestamp>,
}

/// A page of a folder.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Listing {
    /// The root's name.
    root: String,
    /// The folder in it; empty for the root itself.
    path: String,
    /// What the network calls the folder; null where it has no name there.
    uri: Option<String>,
    /// By name, in the order of its bytes. Hidden names, what is neither file nor folder, and links
    /// that lead out are left out.
    entries: Vec<Entry>,
    /// `after` for the next page; null on the last one.
    next: Option<String>,
    /// Names in the whole folder that are left out because they are not UTF-8: nobody could ask for them.
    skipped: u64,
}

/// The roots.
#[utoipa::path(
    get, path = "/roots", tag = "roots", operation_id = "listRoots",
    responses((status = 200, description = "All of them", body = RootList))
)]
pub(super) async fn list(State(room): State<Arc<Room>>) -> Json<RootList> {
    let disks = room.desk.describe().disk;
    let answers = |name: &str| disks.iter().find(|disk| disk.name == name).is_none_or(|disk| disk.answering);
    let roots = room.settings.paths.roots.iter().map(|root| RootLine {
        name: root.name.clone(),
        uri: root.uri.clone(),
        answering: answers(&root.name),
    });
    Json(RootList { roots: roots.collect() })
}

/// What lies at the top of a root.
#[utoipa::path(
    get, path = "/roots/{root}", tag = "roots", operation_id = "listRoot",
    params(
        ("root" = String, Path, description = "The root's name", min_length = 1, max_length = 64),
        ("limit" = u32, Query, description = "At most so many entries; 50 without it", minimum = 1, maximum = 200),
        ("after" = String, Query, description = "What `next` said", min_length = 1, max_length = 255),
    ),
    responses(
        (status = 200, description = "A page", body = Listing),
        (status = 400, description = "`bad_query`"),
        (status = 404, description = "`root_not_found`, `not_found`"),
        (status = 503, description = "`root_not_answering`, `no_threads`"),
    )
)]
pub(super) async fn top(state: State<Arc<Room>>, folder: Folder, uri: Uri) -> Answer<Json<Listing>> {
    listing(state, folder, uri).await
}

/// What lies in a folder of a root.
///
/// The path is relative to the root; its slashes may be sent as they are or as `%2F`.
#[utoipa::path(
    get, path = "/roots/{root}/{*path}", tag = "roots", operation_id = "listFolder",
    params(
        ("root" = String, Path, description = "The root's name", min_length = 1, max_length = 64),
        ("path" = String, Path, description = "The folder in it", min_length = 1, max_length = 1024),
        ("limit" = u32, Query, description = "At most so many entries; 50 without it", minimum = 1, maximum = 200),
        ("after" = String, Query, description = "What `next` said", min_length = 1, max_length = 255),
    ),
    responses(
        (status = 200, description = "A page", body = Listing),
        (status = 400, description = "`bad_query`"),
        (status = 404, description = "`root_not_found`; `not_found`: there is no such name, or it is hidden; \
            `path_escapes`: it leads out of the root; `not_a_folder`"),
        (status = 503, description = "`root_not_answering`, `no_threads`"),
    )
)]
pub(super) async fn inside(state: State<Arc<Room>>, folder: Folder, uri: Uri) -> Answer<Json<Listing>> {
    listing(state, folder, uri).await
}

async fn listing(State(room): State<Arc<Room>>, folder: Folder, uri: Uri) -> Answer<Json<Listing>> {
    let mut values = Values::of(&uri, &["limit", "after"]);
    let page = values.page();
    values.finish()?;
    let Folder { root, path } = folder;
    let id = room.paths.root(&root).ok_or_else(|| {
        Problem::not_found("root_not_found", format!("there is no root {}; see /roots", root.escape_debug()))
    })?;
    let local = room.paths.inside(Area::Root(id), &path);
    let local = local.map_err(|e| Problem::not_found("path_escapes", e.message().to_owned()))?;
    let name = room.paths.to_uri(&local);
    let found = look(&room, id, local, page).await.map_err(|trouble| problem(&root, &path, trouble))?;
    let listing::Found { entries, next, skipped } = found;
    Ok(Json(Listing { root, path, uri: name, entries, next, skipped }))
}

/// Reads the folder on a thread of its own.
async fn look(room: &Room, id: RootId, local: PathBuf, page: Page) -> Result<listing::Found, Trouble> {
    let root = room.paths.folder(Area::Root(id)).map(PathBuf::from).ok_or(Trouble::Missing)?;
    let read = move |deadline| listing::read(&root, &local, &page, deadline);
    let found = room.threads.run(Area::Root(id), LISTING_TIME, read).await;
    found.unwrap_or_else(|stuck| Err(Trouble::from(stuck)))
}

impl From<Stuck> for Trouble {
    fn from(stuck: Stuck) -> Self {
        match stuck {
            Stuck::NoPlace => Self::Missing,
            Stuck::Silent => Self::Silent(format!("it does not answer within {} s", LISTING_TIME.as_secs())),
            Stuck::NoThread(why) => Self::NoThread(why),
            Stuck::Broken => Self::Broken,
        }
    }
}

fn problem(root: &str, path: &str, trouble: Trouble) -> Problem {
    let path = path.escape_debug();
    match trouble {
        Trouble::Missing => Problem::not_found("not_found", format!("{root} has no folder {path}")),
        Trouble::Escapes => {
            Problem::not_found("path_escapes", format!("{path} leads out of {root}: it is not served"))
        }
        Trouble::NotAFolder => Problem::not_found("not_a_folder", format!("{path} in {root} is no folder")),
        Trouble::Denied => {
            let detail =
                format!("the node may not read {path} in {root}: check the owner and mode of the folder");
            Problem::new(StatusCode::FORBIDDEN, "permission_denied", detail)
        }
        Trouble::Silent(why) => {
            let detail = format!("root {root} cannot be read now: {why}; check the disk or network mount");
            Problem::unavailable("root_not_answering", detail, RETRY_S)
        }
        Trouble::NoThread(why) => {
            let detail = format!("the system grants no thread to read {root}: {why}");
            Problem::unavailable("no_threads", detail, RETRY_S)
        }
        Trouble::Broken => Problem::internal("a listing ended without an answer"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_trouble_has_its_code() {
        let told = |trouble| problem("movies", "a/b", trouble).told();
        assert_eq!(told(Trouble::Missing), (404, "not_found"));
        assert_eq!(told(Trouble::Escapes), (404, "path_escapes"));
        assert_eq!(told(Trouble::NotAFolder), (404, "not_a_folder"));
        assert_eq!(told(Trouble::Denied), (403, "permission_denied"));
        assert_eq!(told(Trouble::Silent("x".into())), (503, "root_not_answering"));
        assert_eq!(told(Trouble::NoThread("x".into())), (503, "no_threads"));
        assert_eq!(told(Trouble::Broken), (500, "internal"));
    }
}
