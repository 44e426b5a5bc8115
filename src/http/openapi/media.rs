//! What all media paths have in common in the document.
//!
//! What enters: the description of a path's `GET`. What leaves: the same with what `media::serve` and the
//! door before it answers, and the descriptions of `HEAD` and `OPTIONS`, which nobody writes by hand.

use super::{STREAM_TOKEN, STREAM_TOKEN_IN_QUERY, add, as_problems, as_sent, header};
use utoipa::openapi::RefOr;
use utoipa::openapi::path::{Operation, Parameter, ParameterBuilder, ParameterIn, PathItem};
use utoipa::openapi::response::{Response, Responses};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::security::SecurityRequirement;

/// What may be answered to any `GET`.
const COMMON: [(&str, &str); 7] = [
    ("304", "It is what the client has already: `If-None-Match`, `If-Modified-Since`"),
    ("412", "`precondition_failed`: `If-Match`, `If-Unmodified-Since`"),
    ("416", "`range_not_satisfiable`"),
    ("414", "`uri_too_long`"),
    ("431", "`headers_too_large`"),
    ("500", "`internal`"),
    ("503", "`no_threads`"),
];
/// Headers of whatever is sent.
const SENT: [(&str, &str); 5] = [
    ("ETag", "Strong; other bytes, another tag"),
    ("Last-Modified", "Where it is known"),
    ("Accept-Ranges", "`bytes`"),
    ("Cache-Control", "`no-cache` for what may change"),
    ("Vary", "`Accept-Encoding` for what may be sent as gzip"),
];
/// Headers that decide over the answer.
const ASKED: [(&str, &str); 3] = [
    ("Range", "One range of bytes; several are answered with the whole"),
    ("If-Range", "The range counts only while this is the `ETag` or `Last-Modified`"),
    ("If-None-Match", "Answered 304 while this is the `ETag`"),
];

/// Completes a path. `token`: whether this node wants one for streams.
pub(super) fn describe(item: &mut PathItem, token: bool) {
    let Some(get) = item.get.as_mut() else { return };
    get.parameters.get_or_insert_default().extend(ASKED.map(|(name, what)| asked(name, what).into()));
    get.parameters.iter_mut().flatten().for_each(as_sent);
    for (status, description) in COMMON {
        add(&mut get.responses, status, description);
    }
    sent(&mut get.responses);
    if token {
        add(&mut get.responses, "401", "`unauthorized`");
        let either = [STREAM_TOKEN, STREAM_TOKEN_IN_QUERY];
        get.security = Some(either.map(|name| SecurityRequirement::new(name, Vec::<String>::new())).into());
    }
    as_problems(&mut get.responses);
    item.head = Some(head(get));
    item.options = Some(options(get));
}

/// The part that was asked for has the type of the whole.
fn sent(responses: &mut Responses) {
    let Some(RefOr::T(whole)) = responses.responses.get_mut("200") else { return };
    for (name, description) in SENT {
        whole.headers.insert(name.to_owned(), RefOr::T(header(description, false)));
    }
    let mut part = whole.clone();
    part.description = "The bytes that `Range` asks for".into();
    part.headers.insert("Content-Range".into(), RefOr::T(header("`bytes FIRST-LAST/LENGTH`", false)));
    responses.responses.insert("206".into(), RefOr::T(part));
}

/// The same without a body, and without ranges.
fn head(get: &Operation) -> Operation {
    let mut head = get.clone();
    head.operation_id = named(get, "Head");
    let responses = &mut head.responses.responses;
    responses.retain(|status, _| status != "206" && status != "416");
    for response in responses.values_mut() {
        if let RefOr::T(response) = response {
            response.content.clear();
        }
    }
    head.parameters
        .iter_mut()
        .for_each(|all| all.retain(|p| !matches!(p, RefOr::T(p) if p.name.ends_with("ange"))));
    head
}

/// What a browser asks first.
fn options(get: &Operation) -> Operation {
    let mut options = Operation::new();
    options.operation_id = named(get, "Options");
    options.tags = get.tags.clone();
    options.summary = Some("Which pages may ask, and with which headers (CORS).".into());
    let in_path = |p: &&RefOr<Parameter>| matches!(p, RefOr::T(p) if p.parameter_in == ParameterIn::Path);
    // Whether there is anything at a path is not said to a browser that asks for leave.
    let any = |p: &Parameter| {
        let text = ObjectBuilder::new().schema_type(Type::String).min_length(Some(1));
        ParameterBuilder::from(p.clone()).schema(Some(text)).build()
    };
    let all = get.parameters.iter().flatten().filter(in_path);
    let bare = all.map(|p| match p {
        RefOr::T(p) => RefOr::T(any(p)),
        reference => reference.clone(),
    });
    options.parameters = Some(bare.collect());
    options.responses.responses.insert("204".into(), RefOr::T(Response::new("The headers say it")));
    options
}

fn named(get: &Operation, suffix: &str) -> Option<String> {
    get.operation_id.as_ref().map(|id| format!("{id}{suffix}"))
}

fn asked(name: &str, description: &str) -> Parameter {
    let text = ObjectBuilder::new().schema_type(Type::String);
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Header)
        .description(Some(description))
        .schema(Some(text))
        .build()
}
