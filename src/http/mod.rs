//! The control API: how an orchestrator and an operator drive the node (contract, section 3).
//!
//! ```text
//!   connection --> server --> observe --> guard --> deadline --> one handler --> board, desk
//!              (limits, time)  (log,    (Host, Origin,    \
//!                              metrics)  token, size)      +--> every refusal is a problem
//! ```
//!
//! What enters: bytes of whoever reaches the socket. What leaves: JSON, Prometheus text, event
//! streams; and for everything that goes wrong an RFC 9457 problem with a stable code. The table below
//! is the whole of the API: the OpenAPI document is made from it. What must not live here: decisions
//! about jobs or about the node's state, which are the board's and the desk's; and nothing that waits
//! for a disk, except on the threads of `roots`.
//!
//! | module | what |
//! | --- | --- |
//! | `server` | the socket: how many connections, how long they may be silent, how they end |
//! | `observe` | one log line and one measurement for each request |
//! | `guard` | who may ask: `Host`, `Origin`, bearer token |
//! | `extract` | bodies, ids, query values, or the problem with them |
//! | `problem` | what a refusal looks like |
//! | `jobs`, `events`, `roots`, `node`, `ops` | the handlers |
//! | `metrics` | what `/metrics` says |
//! | `openapi` | the document: what all calls have in common |

mod events;
mod extract;
mod guard;
mod jobs;
mod metrics;
mod node;
mod observe;
mod openapi;
mod ops;
mod problem;
mod roots;
mod server;
mod socket;

use crate::config::paths::PathMap;
use crate::config::settings::Settings;
use crate::node::desk::Desk;
use crate::work::board::Board;
use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::get;
use bytes::Bytes;
use guard::Guard;
use metrics::Requests;
use roots::Threads;
use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub use server::serve;

/// Event streams at once: they may not take every connection that there is.
const MAX_STREAMS: usize = 256;

/// What the API needs of the rest of the node.
#[derive(Clone)]
pub struct Doors {
    /// The jobs.
    pub board: Board,
    /// What the node says of itself.
    pub desk: Desk,
    /// Where the roots lie.
    pub paths: Arc<PathMap>,
    /// The settings.
    pub settings: Arc<Settings>,
    /// Ends the server and every event stream.
    pub shutdown: CancellationToken,
}

/// What the handlers share.
struct Room {
    board: Board,
    desk: Desk,
    paths: Arc<PathMap>,
    settings: Arc<Settings>,
    shutdown: CancellationToken,
    guard: Guard,
    threads: Threads,
    requests: Requests,
    streams: Arc<Semaphore>,
    /// `/openapi.json`.
    document: Bytes,
}

/// Every call that there is.
fn table() -> OpenApiRouter<Arc<Room>> {
    openapi::start()
        .routes(routes!(jobs::submit, jobs::list))
        .routes(routes!(jobs::show, jobs::cancel))
        .routes(routes!(events::follow))
        .routes(routes!(jobs::remove_output))
        .routes(routes!(roots::list))
        .routes(routes!(roots::top))
        .routes(routes!(roots::inside))
        .routes(routes!(node::show))
        .routes(routes!(node::set_state))
        .routes(routes!(ops::healthz))
        .routes(routes!(ops::readyz))
        .routes(routes!(ops::metrics))
        .routes(routes!(ops::document))
}

/// The API as a service. The layers are in the order in which a request meets them, the last one first.
pub fn router(doors: Doors) -> Router {
    let (routes, api) = table().split_for_parts();
    let document = openapi::finish(api, doors.settings.http.control_token.is_some());
    let room = Arc::new(Room::new(doors, document));
    routes
        // A client that joins a base address with an empty path.
        .route("/roots/{root}/", get(roots::top))
        .fallback(problem::no_such_path)
        .method_not_allowed_fallback(problem::no_such_method)
        .layer(from_fn(observe::deadline))
        .layer(from_fn_with_state(room.clone(), guard::check))
        .layer(CatchPanicLayer::custom(problem::panicked))
        .layer(from_fn_with_state(room.clone(), observe::each))
        .with_state(room)
}

impl Room {
    fn new(doors: Doors, document: Bytes) -> Self {
        let Doors { board, desk, paths, settings, shutdown } = doors;
        Self {
            board,
            desk,
            paths,
            guard: Guard::new(&settings),
            threads: Threads::new(settings.paths.roots.len()),
            requests: Requests::default(),
            streams: Arc::new(Semaphore::new(MAX_STREAMS)),
            settings,
            shutdown,
            document,
        }
    }
}
