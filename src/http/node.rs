//! The node itself: what it says of itself, and whether it takes work.
//!
//! What enters: a request, or a wished state. What leaves: the desk's description. Which states there
//! are and what follows from them is not decided here.

use super::Room;
use super::extract::JsonBytes;
use super::problem::{Answer, Problem};
use crate::model::document::DocumentFault;
use crate::node::desk::NodeDescription;
use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::sync::Arc;
use utoipa::ToSchema;

/// What may be wished.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "UPPERCASE")]
pub(super) enum WishedState {
    /// Running jobs finish, none is taken or started; through restarts, until `IDLE` is wished.
    Maintenance,
    /// Back to service.
    Idle,
}

/// A wish for the node's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct StateWish {
    /// The state.
    state: WishedState,
}

/// The node: identity, state, versions, capabilities, limits, load.
#[utoipa::path(
    get, path = "/node", tag = "node", operation_id = "getNode",
    responses((status = 200, description = "The node as it stands", body = NodeDescription))
)]
pub(super) async fn show(State(room): State<Arc<Room>>) -> Json<NodeDescription> {
    Json(room.desk.describe())
}

/// Drains the node, or returns it to service.
///
/// The wish is on the disk when this answers, and holds through restarts. The state that is answered
/// may be another: `BUSY` or `ERROR` follow from facts.
#[utoipa::path(
    put, path = "/node/state", tag = "node", operation_id = "setNodeState",
    request_body(content = StateWish, content_type = "application/json"),
    responses(
        (status = 200, description = "The node as it stands now", body = NodeDescription),
        (status = 422, description = "`bad_state`: `faults` lists what is wrong"),
        (status = 503, description = "`journal_failed`, `no_space`, `timeout`"),
    )
)]
pub(super) async fn set_state(
    State(room): State<Arc<Room>>,
    JsonBytes(body): JsonBytes,
) -> Answer<Json<NodeDescription>> {
    let wish = parse(&body)?;
    let drain = wish.state == WishedState::Maintenance;
    room.desk.set_maintenance(drain).await.map(Json).map_err(|e| Problem::of(&e))
}

fn parse(body: &[u8]) -> Answer<StateWish> {
    let value: Value = serde_json::from_slice(body)
        .map_err(|e| Problem::bad_request("not_json", format!("the body is not JSON: {e}")))?;
    let faults = faults(&value);
    if !faults.is_empty() {
        return Err(Problem::faulty("bad_state", "the state", faults));
    }
    // From the text: of a key that is there twice a value shows only one.
    serde_json::from_slice(body).map_err(|e| {
        let fault = DocumentFault { pointer: String::new(), message: e.to_string() };
        Problem::faulty("bad_state", "the state", vec![fault])
    })
}

fn faults(value: &Value) -> Vec<DocumentFault> {
    let fault = |pointer: String, message: &str| DocumentFault { pointer, message: message.into() };
    let Value::Object(fields) = value else {
        return vec![fault(String::new(), r#"has to be an object such as {"state": "MAINTENANCE"}"#)];
    };
    let mut found: Vec<_> = fields
        .keys()
        .filter(|key| *key != "state")
        .map(|key| fault(pointer(key), "is unknown, there is: state"))
        .collect();
    match fields.get("state") {
        None => found.push(fault("/state".into(), "is needed: MAINTENANCE or IDLE")),
        // serde would take {"IDLE": null} too.
        Some(state) if !matches!(state.as_str(), Some("MAINTENANCE" | "IDLE")) => {
            found.push(fault(
                "/state".into(),
                "has to be MAINTENANCE or IDLE; BUSY and ERROR follow from facts",
            ));
        }
        Some(_) => {}
    }
    found
}

/// RFC 6901. A long key is cut: the answer is not to be longer than it helps.
fn pointer(key: &str) -> String {
    let short: String = key.chars().take(64).collect();
    format!("/{}", short.replace('~', "~0").replace('/', "~1"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_is_one_of_two() {
        let state = |text: &str| parse(text.as_bytes()).map(|wish| wish.state).ok();
        assert_eq!(state(r#"{"state":"MAINTENANCE"}"#), Some(WishedState::Maintenance));
        assert_eq!(state(r#" {"state": "IDLE"} "#), Some(WishedState::Idle));
    }

    #[test]
    fn everything_else_is_refused_with_its_place() {
        let told = |text: &str| parse(text.as_bytes()).unwrap_err();
        for text in ["", "{", "nonsense", r#"{"state":"IDLE"} x"#, "\u{feff}{}"] {
            assert_eq!(told(text).told(), (400, "not_json"), "{text}");
        }
        for (text, pointer) in [
            ("[]", "\"\""),
            ("null", "\"\""),
            ("{}", "/state"),
            (r#"{"state":"BUSY"}"#, "/state"),
            (r#"{"state":"idle"}"#, "/state"),
            (r#"{"state":null}"#, "/state"),
            (r#"{"state":{"IDLE":null}}"#, "/state"),
            (r#"{"state":["IDLE"]}"#, "/state"),
            (r#"{"state":"IDLE","state":"IDLE"}"#, "\"\""),
            (r#"{"state":"IDLE","a/b~c":1}"#, "/a~1b~0c"),
        ] {
            let problem = told(text);
            assert_eq!(problem.told(), (422, "bad_state"), "{text}");
            assert!(
                format!("{problem:?}").contains(&format!("pointer: {}", quoted(pointer))),
                "{text}: {problem:?}"
            );
        }
    }

    fn quoted(pointer: &str) -> String {
        if pointer.starts_with('"') { pointer.into() } else { format!("\"{pointer}\"") }
    }
}
