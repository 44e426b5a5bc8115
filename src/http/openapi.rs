//! The OpenAPI document: what all calls have in common.
//!
//! What enters: the document that `utoipa` makes of the handlers, which is about what each call does by
//! itself. What leaves: the same with what stands around them answers, the shape of a problem behind
//! every status from 400 on, the headers that belong to a status, and the tokens; and for media, which is
//! described for `GET` alone, the same for `HEAD` and `OPTIONS`. What a client may get
//! and what is written here are one thing: the tests compare them, and CI asks the server at random.

use super::events::{ProgressEvent, StateEvent};
use super::guard::OPEN;
use super::media::access::is_media;
use super::problem::{PROBLEM_TYPE, ProblemBody};
use crate::config::settings::Settings;
use bytes::Bytes;
use utoipa::openapi::header::{Header, HeaderBuilder};
use utoipa::openapi::path::{Operation, Parameter, ParameterIn, PathItem};
use utoipa::openapi::response::{Response, Responses};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme,
};
use utoipa::openapi::{Components, Content, Ref, RefOr};
use utoipa::{Modify, OpenApi};
use utoipa_axum::router::OpenApiRouter;

/// The names of the tokens among the security schemes.
const TOKEN: &str = "control_token";
const STREAM_TOKEN: &str = "stream_token";
const STREAM_TOKEN_IN_QUERY: &str = "stream_token_in_query";

#[derive(OpenApi)]
#[openapi(
    info(
        title = "sprocket",
        description = "A media transcoding node: takes jobs, runs them, serves what they make. Errors are \
            problems (RFC 9457) with a stable `code`; a path that there is not answers 404, another method \
            405 with `Allow`. Media carries CORS headers, no other call does."
    ),
    tags(
        (name = "jobs", description = "Work"),
        (name = "roots", description = "What may be read"),
        (name = "node", description = "The node itself"),
        (name = "operation", description = "For tools that watch over it"),
        (name = "media", description = "For players"),
    ),
    components(schemas(ProblemBody, StateEvent, ProgressEvent)),
)]
struct Api;

/// The table's beginning.
pub(super) fn start<S: Send + Sync + Clone + 'static>() -> OpenApiRouter<S> {
    OpenApiRouter::with_openapi(Api::openapi())
}

/// Which tokens this node wants.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    pub(super) control: bool,
    pub(super) stream: bool,
}

impl Wanted {
    pub(super) fn of(settings: &Settings) -> Self {
        Self { control: settings.http.control_token.is_some(), stream: settings.http.stream_token.is_some() }
    }
}

/// The document as it is served.
pub(super) fn finish(mut api: utoipa::openapi::OpenApi, wanted: Wanted) -> Bytes {
    Common { wanted }.modify(&mut api);
    // What was made of our own types can be written.
    Bytes::from(serde_json::to_vec(&api).unwrap_or_default())
}

struct Common {
    wanted: Wanted,
}

impl Modify for Common {
    fn modify(&self, api: &mut utoipa::openapi::OpenApi) {
        if let Some(components) = api.components.as_mut() {
            self.tokens(components);
        }
        let paths = std::mem::take(&mut api.paths.paths);
        for (path, mut item) in paths {
            if is_media(&path) {
                media::describe(&mut item, self.wanted.stream);
            } else {
                let open = OPEN.contains(&path.as_str());
                operations(&mut item).for_each(|operation| self.complete(operation, open));
            }
            // The router's word for "and all that follows" is not OpenAPI's.
            api.paths.paths.insert(path.replace("{*", "{"), item);
        }
    }
}

impl Common {
    fn tokens(&self, components: &mut Components) {
        let bearer = || SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build());
        if self.wanted.control {
            components.add_security_scheme(TOKEN, bearer());
        }
        if self.wanted.stream {
            components.add_security_scheme(STREAM_TOKEN, bearer());
            let in_query = SecurityScheme::ApiKey(ApiKey::Query(ApiKeyValue::new("token")));
            components.add_security_scheme(STREAM_TOKEN_IN_QUERY, in_query);
        }
    }

    fn complete(&self, operation: &mut Operation, open: bool) {
        operation.parameters.iter_mut().flatten().for_each(as_sent);
        let responses = &mut operation.responses;
        for (status, description) in COMMON {
            add(responses, status, description);
        }
        if operation.request_body.is_some() {
            for (status, description) in WITH_BODY {
                add(responses, status, description);
            }
        }
        if self.wanted.control && !open {
            add(responses, "401", "`unauthorized`");
            operation.security = Some(vec![SecurityRequirement::new(TOKEN, Vec::<String>::new())]);
        }
        as_problems(responses);
    }
}

/// What is answered to any call before a handler sees it.
const COMMON: [(&str, &str); 6] = [
    ("400", "`bad_host`: not exactly one `Host`"),
    ("403", "`foreign_host`, `foreign_origin`: see the rules for `Host` and `Origin`"),
    ("414", "`uri_too_long`"),
    ("431", "`headers_too_large`"),
    ("500", "`internal`"),
    ("503", "`timeout`"),
];

/// What is answered to a body.
const WITH_BODY: [(&str, &str); 4] = [
    ("400", "`not_json`, `bad_body`"),
    ("408", "`body_timeout`"),
    ("413", "`body_too_large`"),
    ("415", "`unsupported_media_type`: bodies are `application/json`"),
];

/// Adds a status, or more codes to one that is there.
fn add(responses: &mut Responses, status: &str, description: &str) {
    match responses.responses.get_mut(status) {
        Some(RefOr::T(known)) if known.description.contains(description) => {}
        Some(RefOr::T(known)) => known.description = format!("{}; {description}", known.description),
        _ => {
            let response = Response::new(description);
            responses.responses.insert(status.to_owned(), RefOr::T(response));
        }
    }
}

/// Every refusal looks alike.
fn as_problems(responses: &mut Responses) {
    for (status, response) in &mut responses.responses {
        if let RefOr::T(response) = response
            && status.as_str() >= "400"
        {
            as_problem(status, response);
        }
    }
}

fn as_problem(status: &str, response: &mut Response) {
    let content = Content::new(Some(Ref::from_schema_name("Problem")));
    response.content.insert(PROBLEM_TYPE.to_owned(), RefOr::T(content));
    let headers: &[(&str, &str, bool)] = match status {
        "401" => &[("WWW-Authenticate", "`Bearer`", false)],
        "416" => &[("Content-Range", "`bytes */LENGTH`", false)],
        "429" | "503" => &[("Retry-After", "Seconds after which asking again may help", true)],
        _ => &[],
    };
    for (name, description, number) in headers {
        response.headers.insert((*name).to_owned(), RefOr::T(header(description, *number)));
    }
}

fn header(description: &str, number: bool) -> Header {
    let kind = if number { Type::Integer } else { Type::String };
    let mut schema = ObjectBuilder::new().schema_type(kind);
    if number {
        schema = schema.minimum(Some(1)).maximum(Some(3600));
    }
    HeaderBuilder::new().schema(Some(schema)).description(Some(description)).build()
}

/// What is not in the path may be left out; but if it is there it is a value, never null.
fn as_sent(parameter: &mut RefOr<Parameter>) {
    if let RefOr::T(parameter) = parameter
        && parameter.parameter_in != ParameterIn::Path
    {
        parameter.required = utoipa::openapi::Required::False;
    }
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [&mut item.get, &mut item.put, &mut item.post, &mut item.delete].into_iter().filter_map(Option::as_mut)
}

mod media;
#[cfg(test)]
mod tests;
