//! The control API, and the media that players fetch (contract, sections 3 and 4).
//!
//! ```text
//!   connection --> server --+--> observe --> guard --> deadline --> one handler --> board, desk
//!              (limits, time)|   (log,    (Host, Origin,    \
//!                            |    metrics)  token, size)     +--> every refusal is a problem
//!    /stream/.. and /vod/..  +--> door (observe, CORS, stream token, size) --> one handler --> media
//! ```
//!
//! What enters: bytes of whoever reaches the socket. What leaves: JSON, Prometheus text, event
//! streams, media; and for everything that goes wrong an RFC 9457 problem with a stable code. The tables below
//! are the whole of the API: the OpenAPI document is made from it. What must not live here: decisions
//! about jobs or about the node's state, which are the board's and the desk's; and nothing that waits
//! for a disk, except on those of `threads`.
//!
//! | module | what |
//! | --- | --- |
//! | `server` | the socket: how many connections, how long they may be silent, how they end |
//! | `door` | requests for media, from the head to the answer |
//! | `observe` | one log line and one measurement for each request |
//! | `guard` | who may ask: `Host`, `Origin`, bearer token |
//! | `extract` | bodies, ids, query values, or the problem with them |
//! | `problem` | what a refusal looks like |
//! | `jobs`, `events`, `roots`, `node`, `ops` | the handlers of the control API |
//! | `stream` | the handler for outputs of jobs |
//! | `vod` | the handlers for files that are made while they are watched |
//! | `threads` | for disks that may not answer |
//! | `media` | what all media answers have in common: ranges, validators, CORS, the stream token |
//! | `page` | the page at `/`, for people |
//! | `metrics` | what `/metrics` says |
//! | `openapi` | the document: what all calls have in common |

mod door;
mod events;
mod extract;
mod guard;
mod jobs;
mod media;
mod metrics;
mod node;
mod observe;
mod openapi;
mod ops;
mod page;
mod problem;
mod roots;
mod server;
mod socket;
mod stream;
mod threads;
mod vod;

use crate::config::paths::PathMap;
use crate::config::settings::Settings;
use crate::node::desk::Desk;
use crate::work::board::Board;
use crate::work::jit::Studio;
use crate::work::jit::titles::Titles;
use axum::Router;
use axum::body::Body;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::Response;
use axum::routing::RouterIntoService;
use axum::routing::get;
use bytes::Bytes;
use door::Caller;
use futures_util::FutureExt;
use guard::Guard;
use hyper::Request;
use hyper::body::Incoming;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use media::access::{self, CrossOrigin};
use metrics::Requests;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use threads::Threads;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa::OpenApi;
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
    /// What files can be streamed as.
    pub titles: Arc<Titles>,
    /// Who makes their segments.
    pub studio: Studio,
    /// Ends the server and every event stream.
    pub shutdown: CancellationToken,
}

/// What the handlers share.
struct Room {
    board: Board,
    desk: Desk,
    paths: Arc<PathMap>,
    settings: Arc<Settings>,
    titles: Arc<Titles>,
    studio: Studio,
    shutdown: CancellationToken,
    guard: Guard,
    threads: Threads,
    shelf: stream::Shelf,
    requests: Requests,
    cross_origin: CrossOrigin,
    streams: Arc<Semaphore>,
    /// `/openapi.json`.
    document: Bytes,
}

/// Every call of the control API.
fn control_table() -> OpenApiRouter<Arc<Room>> {
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

/// Every path that media lies at, for the document: `door` has them without a router. `HEAD` comes with each `GET`.
#[derive(OpenApi)]
#[openapi(paths(stream::file, vod::get))]
struct MediaTable;

/// All of it for one connection.
#[derive(Clone)]
struct Front {
    room: Arc<Room>,
    control: TowerToHyperService<RouterIntoService<Body>>,
    caller: Caller,
}

/// What makes the service of each connection.
fn front(doors: Doors) -> impl Fn(Caller) -> Front {
    let (control, mut api) = control_table().split_for_parts();
    api.merge(MediaTable::openapi());
    let document = openapi::finish(api, openapi::Wanted::of(&doors.settings));
    let room = Arc::new(Room::new(doors, document));
    let control = TowerToHyperService::new(control_router(control, room.clone()).into_service());
    move |caller| Front { room: room.clone(), control: control.clone(), caller }
}

impl Service<Request<Incoming>> for Front {
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        if access::is_media(request.uri().path()) {
            let (head, _) = request.into_parts();
            Box::pin(door::answer(self.room.clone(), self.caller.clone(), head).map(Ok))
        } else {
            Box::pin(self.control.call(request.map(Body::new)))
        }
    }
}

/// The layers are in the order in which a request meets them, the last one first.
fn control_router(routes: Router<Arc<Room>>, room: Arc<Room>) -> Router {
    routes
        // A client that joins a base address with an empty path.
        .route("/roots/{root}/", get(roots::top))
        .merge(page::routes())
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
        let Doors { board, desk, paths, settings, titles, studio, shutdown } = doors;
        Self {
            board,
            desk,
            paths,
            guard: Guard::new(&settings),
            threads: Threads::new(settings.paths.roots.len()),
            shelf: stream::Shelf::default(),
            requests: Requests::default(),
            cross_origin: CrossOrigin::new(&settings.http.cors_origins),
            streams: Arc::new(Semaphore::new(MAX_STREAMS)),
            settings,
            titles,
            studio,
            shutdown,
            document,
        }
    }
}
