//! Defaults, file and environment, one over the other, with the origin of every value kept.
//!
//! What enters: the trees of the layers. What leaves: the merged tree, faults in it, and for every
//! path who said so. Maps are merged key by key; a list from a higher layer replaces the lower one's.
//! What the values mean is not known here, but for what the schema says about their types: where a
//! text belongs, `12` is a text.

use super::fault::{Fault, KeyPath, Origin, Step};
use super::raw::Raw;
use super::schema::{Breach, Schema};
use super::values::MASK;
use super::variables::Variable;
use super::yaml::{self, Kind, Node, Plain, Problem};
use figment::value::{Dict, Empty, Map, Tag, Value};
use figment::{Figment, Metadata, Profile, Provider};
use serde_json::Value as Json;

/// How the layer of the file is called inside figment; variables go by their names.
const FILE: &str = "file";
/// And the layer of the defaults.
const DEFAULT: &str = "default";
/// Mistyped names of secrets must not give them away.
const SECRET_WORDS: [&str; 7] = ["token", "secret", "pass", "pwd", "key", "auth", "credential"];

/// The layers, merged.
#[derive(Debug)]
pub struct Layers<'a> {
    schema: &'a Schema,
    figment: Figment,
    file: Option<(String, Node)>,
}

/// One layer, as figment wants it.
struct Layer {
    name: String,
    values: Dict,
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.name.clone())
    }

    fn data(&self) -> figment::Result<Map<Profile, Dict>> {
        Ok(Profile::Default.collect(self.values.clone()))
    }
}

impl<'a> Layers<'a> {
    /// The defaults alone.
    ///
    /// # Errors
    /// Only when the defaults cannot be written as a tree, which a test rules out.
    pub fn new(schema: &'a Schema) -> Result<Self, String> {
        let defaults = Value::serialize(Raw::default()).map_err(|e| e.to_string())?;
        let values = defaults.into_dict().ok_or("the defaults are no map")?;
        let figment = Figment::from(Layer { name: DEFAULT.into(), values });
        Ok(Self { schema, figment, file: None })
    }

    /// Puts the file `name` with this text over what is there.
    pub fn merge_file(&mut self, name: &str, text: &str) -> Vec<Fault> {
        let fault = |problem: Problem| {
            let message = if problem.keys.is_empty() {
                format!("is not valid YAML: {}", problem.message)
            } else {
                problem.message
            };
            let origin = Origin::File { name: name.into(), line: Some(problem.line) };
            let path = KeyPath::of_keys(problem.keys.iter().map(String::as_str));
            Fault { path, value: None, origin, expected: message }
        };
        let root = match yaml::parse(text) {
            Ok(root) => root,
            Err(problems) => return problems.into_iter().map(fault).collect(),
        };
        match self.typed(&root, self.schema.at(&KeyPath::root())) {
            Value::Dict(_, values) => self.merge(FILE, values),
            Value::Empty(..) => {}
            _ => {
                let problem =
                    Problem { line: root.line, keys: vec![], message: "the top must be a map".into() };
                return vec![fault(problem)];
            }
        }
        self.file = Some((name.into(), root));
        Vec::new()
    }

    /// Puts a variable over what is there.
    pub fn merge_variable(&mut self, variable: &Variable) -> Option<Fault> {
        let path = variable.path();
        let part = self.schema.at(&path);
        let value = match part {
            // Whatever it looks like: a token of digits is a token.
            Some(part) if wants_text(part) => Value::from(variable.text.as_str()),
            _ => match yaml::parse(&variable.text) {
                Ok(root) => self.typed(&root, part),
                Err(problems) => {
                    let why: Vec<_> = problems.into_iter().map(|p| p.message).collect();
                    let expected = format!("is not valid YAML: {}", why.join("; "));
                    let origin = Origin::Variable(variable.name.clone());
                    return Some(Fault { path, value: None, origin, expected });
                }
            },
        };
        // A section without anything in it sets nothing.
        if !(matches!(value, Value::Empty(..)) && part.is_some_and(is_section)) {
            let nested = variable
                .keys
                .iter()
                .rev()
                .fold(value, |inner, key| Value::Dict(Tag::Default, Dict::from([(key.clone(), inner)])));
            self.merge(&variable.name, nested.into_dict().unwrap_or_default());
        }
        None
    }

    fn merge(&mut self, name: &str, values: Dict) {
        let lower = std::mem::take(&mut self.figment);
        self.figment = lower.merge(Layer { name: name.into(), values });
    }

    /// The merged tree.
    pub fn tree(&self) -> Json {
        self.values().and_then(|values| serde_json::to_value(values).ok()).unwrap_or(Json::Null)
    }

    fn values(&self) -> Option<Dict> {
        self.figment.data().ok()?.remove(&Profile::Default)
    }

    /// Every breach of the schema, with what stands there and who says so.
    ///
    /// # Errors
    /// Only when the schema itself is broken, which a test rules out.
    pub fn check(&self, tree: &Json) -> Result<Vec<(Breach, Fault)>, String> {
        let breaches = self.schema.check(tree)?;
        Ok(breaches.into_iter().map(|breach| (breach.clone(), self.fault_of(breach, tree))).collect())
    }

    fn fault_of(&self, breach: Breach, tree: &Json) -> Fault {
        let mut value = self.shown(&breach.path, tree);
        if breach.unknown && self.may_be_secret(&breach.path) {
            value = value.map(|_| MASK.into());
        }
        Fault { value, origin: self.origin(&breach.path), path: breach.path, expected: breach.expected }
    }

    /// Whether an unknown key may be a mistyped secret: by its name, or by what it lies beside.
    fn may_be_secret(&self, path: &KeyPath) -> bool {
        let beside = path.split_last().map_or_else(KeyPath::root, |(_, parent)| parent);
        let known = self.schema.at(&beside).and_then(|part| part.get("properties")).and_then(Json::as_object);
        let secret = |key: &String| self.schema.is_secret(&beside.key(key));
        has_secret_name(path) || known.is_some_and(|known| known.keys().any(secret))
    }

    /// A fault found in the meaning of the value at `path`.
    pub fn fault(&self, path: &KeyPath, tree: &Json, expected: impl Into<String>) -> Fault {
        let value = self.shown(path, tree);
        Fault { path: path.clone(), value, origin: self.origin(path), expected: expected.into() }
    }

    /// What stands at `path`, fit to be shown: secrets are masked, and so is what may hold one.
    fn shown(&self, path: &KeyPath, tree: &Json) -> Option<String> {
        let value = at(tree, path)?;
        let hidden = self.schema.is_secret(path) || self.schema.at(path).is_some_and(is_section);
        match value {
            Json::String(text) if text.is_empty() => Some("\"\"".into()),
            Json::Object(_) => Some("a map".into()),
            Json::Null => Some("nothing".into()),
            _ if hidden => Some(MASK.into()),
            Json::Array(items) if items.iter().all(|item| !item.is_object()) => Some(value.to_string()),
            Json::Array(_) => Some("a list".into()),
            Json::String(text) => Some(mask_credentials(text).escape_debug().to_string()),
            _ => Some(value.to_string()),
        }
    }

    /// Who says what stands at `path`, or, where nothing does, what it would lie in.
    pub fn origin(&self, path: &KeyPath) -> Origin {
        let values = self.values().map(|values| Value::Dict(Tag::Default, values));
        let mut tag = Tag::Default;
        let mut here = values.as_ref();
        for step in path.steps() {
            here = match (step, here) {
                (Step::Key(key), Some(Value::Dict(_, entries))) => entries.get(key),
                (Step::Index(index), Some(Value::Array(_, items))) => items.get(*index),
                _ => None,
            };
            tag = here.map_or(tag, Value::tag);
        }
        match self.figment.get_metadata(tag).map(|metadata| metadata.name.as_ref()) {
            None | Some(DEFAULT) => Origin::Default,
            Some(FILE) => self.file_origin(path),
            Some(variable) => Origin::Variable(variable.into()),
        }
    }

    fn file_origin(&self, path: &KeyPath) -> Origin {
        let Some((name, root)) = &self.file else { return Origin::Default };
        let mut here = root;
        for step in path.steps() {
            let next = match (step, &here.kind) {
                (Step::Key(key), Kind::Map(entries)) => {
                    entries.iter().find(|(k, _)| k == key).map(|(_, n)| n)
                }
                (Step::Index(index), Kind::List(items)) => items.get(*index),
                _ => None,
            };
            let Some(next) = next else { break };
            here = next;
        }
        Origin::File { name: name.clone(), line: Some(here.line) }
    }

    /// The value that a node of YAML is, where `part` of the schema belongs.
    fn typed(&self, node: &Node, part: Option<&Json>) -> Value {
        let below = |step: &Step| part.and_then(|part| self.schema.below(part, step));
        match &node.kind {
            Kind::Scalar { text, plain: false } => Value::from(text.as_str()),
            Kind::Scalar { text, plain: true } => plain_value(text, part),
            Kind::List(items) => {
                let part = Step::Index(0);
                Value::from(items.iter().map(|item| self.typed(item, below(&part))).collect::<Vec<_>>())
            }
            Kind::Map(entries) => {
                let typed = entries.iter().filter_map(|(key, node)| {
                    let part = below(&Step::Key(key.clone()));
                    let value = self.typed(node, part);
                    // `http:` with every line below it commented out.
                    let empty = matches!(value, Value::Empty(..)) && part.is_some_and(is_section);
                    (!empty).then(|| (key.clone(), value))
                });
                Value::Dict(Tag::Default, typed.collect())
            }
        }
    }
}

fn plain_value(text: &str, part: Option<&Json>) -> Value {
    match yaml::plain(text) {
        Plain::Null => Value::Empty(Tag::Default, Empty::Unit),
        _ if part.is_some_and(wants_text) => Value::from(text),
        Plain::Bool(value) => Value::from(value),
        Plain::Integer(value) => integer_value(text, value),
        Plain::Float(value) => Value::from(value),
        Plain::Text => Value::from(text),
    }
}

/// JSON has no room beyond 64 bits; a text of digits is refused with the value as it was written.
fn integer_value(text: &str, value: i128) -> Value {
    match (u64::try_from(value), i64::try_from(value)) {
        (Ok(value), _) => Value::from(value),
        (_, Ok(value)) => Value::from(value),
        _ => Value::from(text),
    }
}

fn wants_text(part: &Json) -> bool {
    part.get("type").and_then(Json::as_str) == Some("string") && part.get("enum").is_none()
}

fn is_section(part: &Json) -> bool {
    part.get("type").and_then(Json::as_str) == Some("object")
}

fn has_secret_name(path: &KeyPath) -> bool {
    let names = |step: &Step| match step {
        Step::Key(key) => SECRET_WORDS.iter().any(|word| key.to_ascii_lowercase().contains(word)),
        Step::Index(_) => false,
    };
    path.steps().iter().any(names)
}

/// `scheme://user:password@host` without what stands before the `@`.
fn mask_credentials(text: &str) -> String {
    // A password may hold a slash where somebody forgot to encode it, so all up to the last `@` goes.
    match text.split_once("://").and_then(|(scheme, rest)| Some((scheme, rest.rsplit_once('@')?.1))) {
        Some((scheme, tail)) => format!("{scheme}://{}@{tail}", MASK),
        None => text.into(),
    }
}

/// What stands at `path` in a tree of JSON.
pub fn at<'a>(tree: &'a Json, path: &KeyPath) -> Option<&'a Json> {
    path.steps().iter().try_fold(tree, |here, step| match step {
        Step::Key(key) => here.get(key),
        Step::Index(index) => here.get(*index),
    })
}

/// Puts `value` at `path` in a tree of JSON, or takes away what is there. Does nothing where the way
/// does not exist.
pub fn put(tree: &mut Json, path: &KeyPath, value: Option<Json>) {
    let Some((last, parent)) = path.split_last() else { return };
    let mut here = tree;
    for step in parent.steps() {
        let next = match step {
            Step::Key(key) => here.get_mut(key),
            Step::Index(index) => here.get_mut(*index),
        };
        let Some(next) = next else { return };
        here = next;
    }
    match (last, here, value) {
        (Step::Key(key), Json::Object(entries), Some(value)) => drop(entries.insert(key.clone(), value)),
        (Step::Key(key), Json::Object(entries), None) => drop(entries.remove(key)),
        (Step::Index(index), Json::Array(items), Some(value)) => {
            if let Some(item) = items.get_mut(*index) {
                *item = value;
            }
        }
        _ => {}
    }
}
