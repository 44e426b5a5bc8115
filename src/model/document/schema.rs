//! The document against its schema, and the schema's complaints as sentences.
//!
//! What enters: a JSON value. What leaves: what is wrong with its fields one by one, and as much of a
//! document as can be had from the rest, so that whatever contradicts each other is told in the same
//! answer. What fields mean together is told by `faults`.

use super::{DocumentFault, JobDocument};
use jsonschema::error::{TypeKind, ValidationError, ValidationErrorKind as Kind};
use jsonschema::{JsonType, Validator};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::OnceLock;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{Object, ObjectBuilder, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

/// A pointer longer than this names the last field above it that fits: no field of ours is that deep, and a
/// small body could otherwise make a large answer.
const MAX_POINTER_BYTES: usize = 1024;
/// What is quoted of a value, in characters.
const MAX_QUOTED: usize = 60;

/// Fields that `faults` compares with others. If one of them is wrong already, a comparison would tell
/// of faults that are none.
const COMPARED: [&str; 15] = [
    "",
    "format",
    "hls",
    "segment_type",
    "renditions",
    "name",
    "height",
    "video_codec",
    "crf",
    "max_fps",
    "audio",
    "codec",
    "channels",
    "start",
    "end",
];

struct Compiled {
    schema: Value,
    validator: Validator,
}

/// The schema that `utoipa` makes of our types, compiled once.
fn compiled() -> &'static Compiled {
    static COMPILED: OnceLock<Compiled> = OnceLock::new();
    COMPILED.get_or_init(|| {
        let schema = whole();
        let built = jsonschema::options().offline().should_validate_formats(false).build(&schema);
        // invariant: it is made of our own types and of nothing else; the first test would fail
        let validator = built.expect("the schema of a job document");
        Compiled { schema, validator }
    })
}

/// As in `/openapi.json`, with the document at its root.
fn whole() -> Value {
    let mut parts = vec![(JobDocument::name().into_owned(), JobDocument::schema())];
    JobDocument::schemas(&mut parts);
    let parts: serde_json::Map<String, Value> =
        parts.into_iter().map(|(name, schema)| (name, json!(schema))).collect();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$ref": format!("#/components/schemas/{}", JobDocument::name()),
        "components": { "schemas": parts },
    })
}

/// The schema of `labels`: what the derive cannot say of a map.
pub(super) fn labels() -> Object {
    let name = ObjectBuilder::new().schema_type(Type::String).min_length(Some(1)).max_length(Some(64));
    let value = ObjectBuilder::new().schema_type(Type::String).max_length(Some(256));
    ObjectBuilder::new()
        .schema_type(Type::Object)
        .property_names(Some(Schema::Object(name.build())))
        .additional_properties(Some(RefOr::T(Schema::Object(value.build()))))
        .max_properties(Some(32))
        .description(Some(
            "Words of whoever asks, kept and given back: at most 32, keys of 1 to 64 and values of at most 256 characters.",
        ))
        .default(Some(json!({})))
        .build()
}

/// The schema of a document where it is part of a larger object, such as the job that is given back:
/// without the rule that there are no other fields, which would refuse the larger object.
pub fn as_returned() -> RefOr<Schema> {
    match JobDocument::schema() {
        RefOr::T(Schema::Object(mut object)) => {
            object.additional_properties = None;
            RefOr::T(Schema::Object(object))
        }
        other => other,
    }
}

/// What is wrong with the fields one by one, one fault for each place.
pub(super) fn faults(document: &Value) -> Vec<DocumentFault> {
    let compiled = compiled();
    let mut found: Vec<(u8, DocumentFault)> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    for error in compiled.validator.iter_errors(document) {
        for fault in told(&error, &compiled.schema) {
            let rank = rank(error.kind());
            let place = *places.entry(fault.pointer.clone()).or_insert(found.len());
            match found.get_mut(place) {
                Some(known) if known.0 > rank => *known = (rank, fault),
                Some(_) => {}
                None => found.push((rank, fault)),
            }
        }
    }
    found.into_iter().map(|(_, fault)| fault).collect()
}

/// Of several complaints about one value the lowest says most: a number is also no word of a list.
fn rank(kind: &Kind) -> u8 {
    match kind {
        Kind::Type { .. } => 0,
        Kind::MinLength { .. } | Kind::MaxLength { .. } => 1,
        _ => 2,
    }
}

fn told(error: &ValidationError, schema: &Value) -> Vec<DocumentFault> {
    let at = bounded(error.instance_path().as_str());
    match error.kind() {
        Kind::AdditionalProperties { unexpected } => {
            let message = unknown(error, schema);
            unexpected.iter().map(|key| DocumentFault::new(child(at, key), &message)).collect()
        }
        Kind::Required { property } => {
            let key = property.as_str().unwrap_or_default();
            vec![DocumentFault::new(child(at, key), "is needed")]
        }
        Kind::PropertyNames { error } => {
            let key = error.instance().as_str().unwrap_or_default().to_owned();
            vec![DocumentFault::new(child(at, &key), "the name of a label has 1 to 64 characters")]
        }
        _ => vec![DocumentFault::new(at, sentence(error, at))],
    }
}

/// A fault about one value.
fn sentence(error: &ValidationError, at: &str) -> String {
    let given = quoted(error.instance());
    let characters = || error.instance().as_str().map_or(0, |text| text.chars().count());
    match error.kind() {
        Kind::Type { kind } => format!("has to be {}, but is {}", kinds(kind), kind_of(error.instance())),
        Kind::Enum { options } => format!("has to be {}, but is {given}", words(options)),
        Kind::Minimum { limit } => format!("has to be at least {limit}, but is {given}"),
        Kind::Maximum { limit } => format!("has to be at most {limit}, but is {given}"),
        Kind::MinLength { .. } => "is empty".into(),
        Kind::MaxLength { limit } => format!("has {} characters: at most {limit}", characters()),
        Kind::MaxItems { limit } => {
            format!("has {} entries: at most {limit}", error.instance().as_array().map_or(0, Vec::len))
        }
        Kind::MaxProperties { limit } => {
            format!("has {} entries: at most {limit}", error.instance().as_object().map_or(0, |o| o.len()))
        }
        Kind::Pattern { .. } => format!("has to be {}, but is {given}", form(at)),
        _ => error.masked().to_string(),
    }
}

/// What a word that has a pattern may look like.
fn form(at: &str) -> &'static str {
    match at.rsplit('/').next() {
        Some("id") => "1 to 64 of A-Z a-z 0-9 . _ -, and not begin with a dot",
        Some("name") => "1 to 32 of A-Z a-z 0-9 . _ -, and not begin with a dot",
        Some("preset") => "a word of the encoder such as veryfast: 1 to 32 of A-Z a-z 0-9 _ -",
        _ => "of another form",
    }
}

fn unknown(error: &ValidationError, schema: &Value) -> String {
    let parent = error.schema_path().as_str().strip_suffix("/additionalProperties");
    let fields = parent.and_then(|p| schema.pointer(p)).and_then(|s| s.get("properties")?.as_object());
    let names: Vec<&str> = fields.into_iter().flat_map(|f| f.keys().map(String::as_str)).collect();
    match names.is_empty() {
        true => "there is no such field".into(),
        false => format!("there is no such field; here are {}", names.join(", ")),
    }
}

fn kinds(kind: &TypeKind) -> String {
    let name = |kind: JsonType| match kind {
        JsonType::Null => "null",
        JsonType::Boolean => "true or false",
        JsonType::Integer => "a whole number",
        JsonType::Number => "a number",
        JsonType::String => "a string",
        JsonType::Array => "an array",
        JsonType::Object => "an object",
    };
    let mut names: Vec<&str> = match kind {
        TypeKind::Single(kind) => vec![name(*kind)],
        TypeKind::Multiple(kinds) => kinds.iter().map(name).collect(),
    };
    // Null is the least of what is offered.
    names.reverse();
    names.join(" or ")
}

fn kind_of(value: &Value) -> String {
    match value {
        Value::Null => "null".into(),
        Value::Bool(_) | Value::Number(_) => quoted(value),
        Value::String(_) => format!("the string {}", quoted(value)),
        Value::Array(_) => "an array".into(),
        Value::Object(_) => "an object".into(),
    }
}

fn words(options: &Value) -> String {
    let words = options.as_array().into_iter().flatten().filter_map(Value::as_str);
    format!("one of {}", words.collect::<Vec<_>>().join(", "))
}

/// A value as it is written, cut where it gets long.
fn quoted(value: &Value) -> String {
    let text = match value {
        Value::Array(_) => "an array".into(),
        Value::Object(_) => "an object".into(),
        // Not written out whole first: it may be as long as the body.
        Value::String(text) => Value::from(text.chars().take(MAX_QUOTED + 1).collect::<String>()).to_string(),
        other => other.to_string(),
    };
    match text.char_indices().nth(MAX_QUOTED) {
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

/// The pointer to a field of the object (or an item of the array) at `parent`.
pub(super) fn child(parent: &str, key: &str) -> String {
    if parent.len() + key.len() >= MAX_POINTER_BYTES {
        return parent.to_owned();
    }
    format!("{parent}/{}", key.replace('~', "~0").replace('/', "~1"))
}

/// The nearest place above that is not too long to be told.
fn bounded(mut pointer: &str) -> &str {
    while pointer.len() > MAX_POINTER_BYTES {
        pointer = pointer.rsplit_once('/').map_or("", |(parent, _)| parent);
    }
    pointer
}

/// The document without what is wrong in it, if what is left can still be compared. Adds to `found` what
/// the types refuse though the schema did not.
pub(super) fn salvage(mut value: Value, found: &mut Vec<DocumentFault>) -> Option<JobDocument> {
    if found.iter().any(|fault| is_compared(&fault.pointer)) {
        return None;
    }
    for fault in found.iter() {
        remove(&mut value, &fault.pointer);
    }
    if let (false, Some(fields)) = (found.is_empty(), value.as_object_mut()) {
        fields.entry("input").or_insert_with(|| "-".into());
    }
    match serde_json::from_value(value) {
        Ok(document) => Some(document),
        Err(e) => {
            if found.is_empty() {
                found.push(DocumentFault::new("", e.to_string()));
            }
            None
        }
    }
}

fn is_compared(pointer: &str) -> bool {
    let last = pointer.rsplit('/').next().unwrap_or_default();
    COMPARED.contains(&last) || last.parse::<usize>().is_ok()
}

fn remove(value: &mut Value, pointer: &str) {
    let Some((parent, key)) = pointer.rsplit_once('/') else { return };
    let fields = value.pointer_mut(parent).and_then(Value::as_object_mut);
    fields.and_then(|fields| fields.remove(&key.replace("~1", "/").replace("~0", "~")));
}
