//! The effective configuration as YAML, in the order of the contract, each value with its origin.
//!
//! What enters: what was loaded. What leaves: text. Secrets are masked by their own type before they
//! get here.

use super::Loaded;
use super::fault::{KeyPath, Origin};
use super::raw::Raw;
use super::yaml::{self, Plain};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value as Json;
use std::fmt;

/// A tree that keeps the order of its keys, which `serde_json::Value` does not.
#[derive(Debug)]
enum Shown {
    Leaf(Json),
    List(Vec<Shown>),
    Map(Vec<(String, Shown)>),
}

/// The configuration with comments.
pub fn yaml(loaded: &Loaded) -> String {
    let mut page = Page { loaded, text: String::new() };
    page.entries(&tree(&loaded.effective), &KeyPath::root(), 0);
    page.text
}

/// The path of every value that is printed, in order.
pub fn paths(raw: &Raw) -> Vec<KeyPath> {
    let mut found = Vec::new();
    collect(&tree(raw), KeyPath::root(), &mut found);
    found
}

fn collect(shown: &Shown, path: KeyPath, found: &mut Vec<KeyPath>) {
    match shown {
        Shown::Map(entries) if !entries.is_empty() => {
            entries.iter().for_each(|(key, below)| collect(below, path.key(key), found));
        }
        Shown::List(items) if !items.is_empty() => {
            items.iter().enumerate().for_each(|(place, below)| collect(below, path.index(place), found));
        }
        _ => found.push(path),
    }
}

/// Serialised, a struct's fields keep their order; only maps of values lose it.
fn tree(raw: &Raw) -> Shown {
    let text = serde_json::to_string(raw).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or(Shown::Map(Vec::new()))
}

struct Page<'a> {
    loaded: &'a Loaded,
    text: String,
}

impl Page<'_> {
    /// The entries of a map or the items of a list, one level further in.
    fn entries(&mut self, shown: &Shown, path: &KeyPath, depth: usize) {
        match shown {
            Shown::Leaf(_) => {}
            Shown::Map(entries) => {
                for (place, (key, below)) in entries.iter().enumerate() {
                    // The first entry of an item stands on the line of its dash.
                    let after_dash = place == 0 && self.text.ends_with("- ");
                    let indent = if after_dash { 0 } else { depth };
                    self.entry(
                        &format!("{}{}:", "  ".repeat(indent), quoted(key)),
                        below,
                        &path.key(key),
                        depth,
                    );
                }
            }
            Shown::List(items) => {
                for (place, item) in items.iter().enumerate() {
                    self.entry(&format!("{}-", "  ".repeat(depth)), item, &path.index(place), depth);
                }
            }
        }
    }

    fn entry(&mut self, begin: &str, shown: &Shown, path: &KeyPath, depth: usize) {
        self.text.push_str(begin);
        match flat(shown) {
            Some(value) => {
                let comment = self.comment(path);
                self.text.push_str(&format!(" {value}  # {comment}\n"));
            }
            None if begin.ends_with('-') => {
                self.text.push(' ');
                self.entries(shown, path, depth + 1);
            }
            None => {
                self.text.push('\n');
                self.entries(shown, path, depth + 1);
            }
        }
    }

    fn comment(&self, path: &KeyPath) -> String {
        let found = self.loaded.origins.iter().find(|(other, _)| other == path);
        let origin = found.map_or(&Origin::Default, |(_, origin)| origin);
        let note = self.loaded.notes.iter().find(|note| note.path == *path);
        // A file's name may hold anything but a slash, even the end of a line.
        let origin: String =
            origin.to_string().chars().map(|c| if c.is_control() { '?' } else { c }).collect();
        note.map_or_else(|| origin.clone(), |note| format!("{origin}: {}", note.why))
    }
}

/// What fits on the line of its key.
fn flat(shown: &Shown) -> Option<String> {
    match shown {
        Shown::Map(entries) => entries.is_empty().then(|| "{}".into()),
        Shown::List(items) => items.is_empty().then(|| "[]".into()),
        Shown::Leaf(Json::String(text)) => Some(quoted(text)),
        Shown::Leaf(value) => Some(value.to_string()),
    }
}

/// The text as a YAML scalar: as it is where nobody could take it for anything else, else in quotes.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_./+-:".contains(c);
    let begins = text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '/');
    let safe = begins && text.chars().all(plain) && !text.ends_with(':');
    if safe && yaml::plain(text) == Plain::Text { text.into() } else { in_quotes(text) }
}

fn in_quotes(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            ' '..='~' | '\u{a1}'..='\u{2027}' | '\u{202a}'..='\u{d7ff}' => quoted.push(c),
            _ => quoted.push_str(&format!("\\U{:08x}", u32::from(c))),
        }
    }
    quoted + "\""
}

impl<'de> Deserialize<'de> for Shown {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ShownVisitor)
    }
}

struct ShownVisitor;

impl<'de> Visitor<'de> for ShownVisitor {
    type Value = Shown;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Shown, E> {
        Ok(Shown::Leaf(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Shown, E> {
        Ok(Shown::Leaf(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Shown, E> {
        Ok(Shown::Leaf(value.into()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Shown, E> {
        Ok(Shown::Leaf(value.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Shown, A::Error> {
        let mut found = Vec::new();
        while let Some(item) = items.next_element()? {
            found.push(item);
        }
        Ok(Shown::List(found))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Shown, A::Error> {
        let mut found = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            found.push(entry);
        }
        Ok(Shown::Map(found))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::yaml::Kind;
    use proptest::prelude::*;

    #[test]
    fn keys_come_in_the_order_of_the_contract() {
        let paths: Vec<_> = paths(&Raw::default()).iter().map(ToString::to_string).collect();
        let begin =
            ["node.id", "node.tags", "paths.roots", "paths.output.uri", "paths.output.local", "paths.state"];
        assert_eq!(paths[..6], begin);
        let end = ["stream.read_ahead", "stream.idle_timeout", "log.format", "log.level"];
        assert_eq!((paths.len(), &paths[paths.len() - 4..]), (36, &end.map(String::from)[..]));
    }

    #[test]
    fn texts_are_quoted_only_where_they_must_be() {
        for (text, expected) in [
            ("127.0.0.1:8080", "127.0.0.1:8080"),
            ("/var/lib", "/var/lib"),
            ("nas://media", "nas://media"),
            ("15s", "15s"),
            ("12", "\"12\""),
            ("true", "\"true\""),
            ("", "\"\""),
            ("*", "\"*\""),
            ("a b", "\"a b\""),
            ("a:", "\"a:\""),
            ("-", "\"-\""),
            ("\\\\h\\s", "\"\\\\\\\\h\\\\s\""),
            ("a\nb", "\"a\\U0000000ab\""),
        ] {
            assert_eq!(quoted(text), expected);
        }
    }

    proptest! {
        #[test]
        fn every_text_survives_its_quotes(text in any::<String>()) {
            let root = yaml::parse(&format!("{}: {}  # x\n", quoted("k"), quoted(&text))).unwrap();
            let Kind::Map(entries) = root.kind else { panic!() };
            let Kind::Scalar { text: read, .. } = &entries[0].1.kind else { panic!() };
            prop_assert_eq!(read, &text);
        }
    }
}
