//! What operators and their tools ask: alive, ready, figures, the description of the API.
//!
//! What enters: nothing but the request. What leaves: answers from what is known already; nothing here
//! waits for a disk, a lock of the scheduler or the journal.

use super::Room;
use super::metrics;
use super::problem::{Answer, Problem};
use axum::Json;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use std::sync::Arc;
use utoipa::ToSchema;

/// When to ask again whether the node is ready.
const READY_RETRY_S: u64 = 5;

/// A short yes.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Health {
    /// `ok` or `ready`.
    status: &'static str,
}

/// Whether the process works: always 200 while it answers at all.
#[utoipa::path(
    get, path = "/healthz", tag = "operation", operation_id = "healthz",
    responses((status = 200, description = "It does", body = Health))
)]
pub(super) async fn healthz() -> Json<Health> {
    Json(Health { status: "ok" })
}

/// Whether a job would be taken, as far as the node's state goes: a full queue is no reason.
#[utoipa::path(
    get, path = "/readyz", tag = "operation", operation_id = "readyz",
    responses(
        (status = 200, description = "It would", body = Health),
        (status = 503, description = "`not_ready`: `detail` has the reason"),
    )
)]
pub(super) async fn readyz(State(room): State<Arc<Room>>) -> Answer<Json<Health>> {
    match room.desk.ready() {
        Ok(()) => Ok(Json(Health { status: "ready" })),
        Err(why) => Err(Problem::unavailable("not_ready", why, READY_RETRY_S)),
    }
}

/// Figures for Prometheus.
#[utoipa::path(
    get, path = "/metrics", tag = "operation", operation_id = "metrics",
    responses(
        (status = 200, description = "The text format, version 0.0.4", body = String,
            content_type = "text/plain"),
    )
)]
pub(super) async fn metrics(State(room): State<Arc<Room>>) -> Answer<Response> {
    let link = room.desk.link();
    let (node, totals, streams) = (room.desk.describe(), room.board.totals(), room.studio.load());
    let text = metrics::text(&node, &totals, &streams, link.as_deref(), &room.requests);
    let text = text.map_err(|_| Problem::internal("the metrics cannot be written"))?;
    Ok(([(CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response())
}

/// This description.
#[utoipa::path(
    get, path = "/openapi.json", tag = "operation", operation_id = "openapi",
    responses((status = 200, description = "OpenAPI 3.1", body = serde_json::Value))
)]
pub(super) async fn document(State(room): State<Arc<Room>>) -> Response {
    ([(CONTENT_TYPE, "application/json")], room.document.clone()).into_response()
}
