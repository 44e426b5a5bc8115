//! The JSON Schema of the configuration: made from the types in `raw`, asked for what belongs where.
//!
//! What enters: the types, and trees to check. What leaves: every breach at once, as a path and a
//! sentence that says what would be right. Which file or variable a value came from is not known here.

use super::fault::{KeyPath, Step};
use super::raw::Raw;
use super::values::{SIZE_FORMAT, TIME_FORMAT};
use jsonschema::error::ValidationErrorKind;
use jsonschema::paths::{Location, LocationSegment};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use utoipa::{PartialSchema, ToSchema};

/// A breach of the schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Breach {
    /// Where.
    pub path: KeyPath,
    /// What would be right.
    pub expected: String,
    /// Nothing knows this key: its value may be anything, even a secret under a mistyped name.
    pub unknown: bool,
}

/// The schema, ready for questions.
#[derive(Clone, Debug)]
pub struct Schema {
    document: Value,
}

impl Default for Schema {
    fn default() -> Self {
        Self::new()
    }
}

impl Schema {
    /// Makes it from the types.
    pub fn new() -> Self {
        let mut parts = vec![(Raw::name().into_owned(), Raw::schema())];
        Raw::schemas(&mut parts);
        let parts: serde_json::Map<_, _> =
            parts.into_iter().map(|(name, part)| (name, json!(part))).collect();
        let document = json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "$ref": format!("#/components/schemas/{}", Raw::name()),
            "components": { "schemas": parts },
        });
        Self { document }
    }

    /// The whole document, for editors and for the docs.
    pub fn document(&self) -> &Value {
        &self.document
    }

    /// What belongs at `path`; `None` where nothing does.
    pub fn at(&self, path: &KeyPath) -> Option<&Value> {
        path.steps().iter().try_fold(self.resolve(&self.document)?, |part, step| self.below(part, step))
    }

    /// What belongs one step below `part`.
    pub fn below<'a>(&'a self, part: &'a Value, step: &Step) -> Option<&'a Value> {
        let next = match step {
            Step::Index(_) => part.get("items"),
            Step::Key(key) => {
                let named = part.get("properties").and_then(|known| known.get(key));
                named.or_else(|| part.get("additionalProperties").filter(|any| any.is_object()))
            }
        };
        self.resolve(next?)
    }

    /// Whether the value at `path` is a secret.
    pub fn is_secret(&self, path: &KeyPath) -> bool {
        self.at(path).and_then(|part| part.get("format")).and_then(Value::as_str) == Some("password")
    }

    /// Every breach in `tree`, each place once.
    ///
    /// # Errors
    /// Only when the schema itself is broken, which a test rules out.
    pub fn check(&self, tree: &Value) -> Result<Vec<Breach>, String> {
        let options = jsonschema::options().with_draft(jsonschema::Draft::Draft202012);
        let validator = options.build(&self.document).map_err(|e| e.to_string())?;
        let mut found = BTreeMap::new();
        for error in validator.iter_errors(tree) {
            let path = key_path(error.instance_path());
            for breach in self.breaches(&path, error.kind()) {
                found.entry(breach.path.clone()).or_insert(breach);
            }
        }
        Ok(found.into_values().collect())
    }

    fn breaches(&self, path: &KeyPath, kind: &ValidationErrorKind) -> Vec<Breach> {
        match kind {
            ValidationErrorKind::AdditionalProperties { unexpected } => unexpected
                .iter()
                .map(|key| Breach { path: path.key(key), expected: self.unknown_key(path), unknown: true })
                .collect(),
            ValidationErrorKind::Required { property } => {
                let path = path.key(property.as_str().unwrap_or_default());
                let expected = format!("is missing: {}", self.expected(&path));
                vec![Breach { path, expected, unknown: false }]
            }
            _ => vec![Breach { path: path.clone(), expected: self.expected(path), unknown: false }],
        }
    }

    /// The sentence for a key below `parent` that nothing knows.
    pub fn unknown_key(&self, parent: &KeyPath) -> String {
        let known = self.at(parent).and_then(|part| part.get("properties")).and_then(Value::as_object);
        let names: Vec<_> = known.into_iter().flat_map(|known| known.keys()).map(String::as_str).collect();
        match (names.is_empty(), parent.steps().is_empty()) {
            (true, _) => "is an unknown key: nothing belongs there".into(),
            (false, true) => format!("is an unknown key: those at the top are {}", names.join(", ")),
            (false, false) => format!("is an unknown key: those in {parent} are {}", names.join(", ")),
        }
    }

    /// What must stand at `path`, as a sentence.
    pub fn expected(&self, path: &KeyPath) -> String {
        format!("must be {}", self.at(path).map_or_else(|| "left out".into(), |part| self.describe(part)))
    }

    /// Something of the right shape for `part`, to stand where nothing usable was given.
    pub fn stand_in(&self, part: &Value) -> Value {
        match part.get("type").and_then(Value::as_str) {
            Some("object") => {
                let known = part.get("properties").and_then(Value::as_object).into_iter().flatten();
                let filled =
                    known.filter_map(|(key, below)| Some((key.clone(), self.stand_in(self.resolve(below)?))));
                Value::Object(filled.collect())
            }
            Some("array") => json!([]),
            Some("integer") => json!(0),
            _ => json!(""),
        }
    }

    fn describe(&self, part: &Value) -> String {
        let alternatives = ["oneOf", "anyOf"].iter().find_map(|word| part.get(word)?.as_array());
        if let Some(parts) = alternatives {
            let parts: Vec<_> = parts.iter().filter_map(|part| self.resolve(part)).collect();
            return parts.into_iter().map(|part| self.describe(part)).collect::<Vec<_>>().join(", or ");
        }
        if let Some(words) = part.get("enum").and_then(Value::as_array) {
            let words: Vec<_> = words.iter().filter_map(Value::as_str).collect();
            return format!("one of {}", words.join(", "));
        }
        match (part.get("format").and_then(Value::as_str), part.get("type").and_then(Value::as_str)) {
            (Some(TIME_FORMAT), _) => {
                "a length of time with its unit, such as 500ms, 15s, 1m30s, 2h or 30d, or 0".into()
            }
            (Some(SIZE_FORMAT), _) => "a size such as 2GiB or 500MB, or a number of bytes".into(),
            (_, Some("integer")) => integer(part),
            (_, Some("string")) => "a text (in quotes if it looks like a number)".into(),
            (_, Some("object")) => "a map of keys and values".into(),
            (_, Some("array")) => self.list(part),
            _ => "something else".into(),
        }
    }

    fn list(&self, part: &Value) -> String {
        let item = part.get("items").and_then(|items| self.resolve(items));
        match item.filter(|item| item.get("enum").is_some()) {
            Some(item) => format!("a list with each item {}", self.describe(item)),
            None => "a list ([] for an empty one)".into(),
        }
    }

    /// Follows `$ref`. The depth is bounded: a schema that refers to itself in a ring ends in `None`.
    fn resolve<'a>(&'a self, part: &'a Value) -> Option<&'a Value> {
        let mut part = part;
        for _ in 0..8 {
            match part.get("$ref").and_then(Value::as_str) {
                None => return Some(part),
                Some(target) => part = self.document.pointer(target.strip_prefix('#')?)?,
            }
        }
        None
    }
}

fn integer(part: &Value) -> String {
    let bound = |name: &str| part.get(name).and_then(Value::as_f64);
    match (bound("minimum"), bound("maximum")) {
        (Some(low), Some(high)) => format!("a whole number from {low} to {high}"),
        (Some(low), None) => format!("a whole number of at least {low}"),
        (None, Some(high)) => format!("a whole number of at most {high}"),
        (None, None) => "a whole number".into(),
    }
}

fn key_path(location: &Location) -> KeyPath {
    let step = |segment: LocationSegment<'_>| match segment {
        LocationSegment::Property(key) => Step::Key(key.into_owned()),
        LocationSegment::Index(index) => Step::Index(index),
    };
    location.segments().map(step).fold(KeyPath::root(), |path, next| path.step(next))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn breaches(tree: Value) -> Vec<String> {
        let found = Schema::new().check(&tree).unwrap();
        found.into_iter().map(|b| format!("{}: {}", b.path, b.expected)).collect()
    }

    #[test]
    fn the_defaults_keep_it_and_an_empty_tree_too() {
        assert_eq!(breaches(json!(Raw::default())), Vec::<String>::new());
        assert_eq!(breaches(json!({})), Vec::<String>::new());
    }

    #[test]
    fn every_breach_is_told_at_once_with_what_would_be_right() {
        let found = breaches(json!({
            "nodes": {},
            "limits": { "max_queued_jobs": -1, "max_cpu_cores": 1.5, "open_timeout": 15, "min_free_disk": "2G", "max_jobs": 1 },
            "paths": { "roots": [{ "name": "a", "uri": 7 }] },
            "hardware": { "acceleration": "cuda", "on_failure": true },
            "http": { "cors_origins": "*", "control_token": 1 },
            "log": [],
        }));
        let time = "must be a length of time with its unit, such as 500ms, 15s, 1m30s, 2h or 30d, or 0";
        let text = "must be a text (in quotes if it looks like a number)";
        let devices = "vaapi, nvenc, videotoolbox, qsv, vulkan";
        assert_eq!(
            found,
            [
                format!(
                    "hardware.acceleration: must be one of auto, off, {devices}, or a list with each item one of {devices}"
                ),
                "hardware.on_failure: must be one of software, fail".into(),
                format!("http.control_token: {text}"),
                "http.cors_origins: must be a list ([] for an empty one)".into(),
                "limits.max_cpu_cores: must be a whole number from 0 to 4096".into(),
                "limits.max_jobs: is an unknown key: those in limits are history, max_concurrent_jobs, \
                 max_cpu_cores, max_queued_jobs, min_free_disk, open_timeout, output_ttl, stall_timeout"
                    .into(),
                "limits.max_queued_jobs: must be a whole number from 0 to 100000".into(),
                "limits.min_free_disk: must be a size such as 2GiB or 500MB, or a number of bytes".into(),
                format!("limits.open_timeout: {time}"),
                "log: must be a map of keys and values".into(),
                "nodes: is an unknown key: those at the top are hardware, http, limits, log, node, \
                 orchestrator, paths, stream"
                    .into(),
                format!("paths.roots[0].local: is missing: {text}"),
                format!("paths.roots[0].uri: {text}"),
            ]
        );
    }

    #[test]
    fn it_knows_secrets_and_what_belongs_where() {
        let schema = Schema::new();
        for key in ["http.control_token", "http.stream_token", "orchestrator.token"] {
            assert!(schema.is_secret(&KeyPath::dotted(key)), "{key}");
        }
        assert!(!schema.is_secret(&KeyPath::dotted("http.listen")));
        assert_eq!(schema.at(&KeyPath::dotted("node.tags.site")).unwrap()["type"], "string");
        assert_eq!(schema.at(&KeyPath::dotted("paths.roots").index(0).key("uri")).unwrap()["type"], "string");
        assert_eq!(schema.at(&KeyPath::dotted("node.id.x")), None);
        assert_eq!(schema.at(&KeyPath::dotted("paths.roots.0")), None);
    }
}
