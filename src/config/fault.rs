//! What is wrong with a configuration, where it was said, and what would be right.
//!
//! What enters: key paths, values, origins. What leaves: one line for each fault. Secrets do not get
//! this far: whoever makes a fault masks its value first.

use std::fmt;

/// Values longer than this are cut in a message.
const MAX_SHOWN_CHARS: usize = 80;

/// A step from a map or list into what it holds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// Under this key.
    Key(String),
    /// At this place in a list, from 0.
    Index(usize),
}

/// The way to a value from the root: `paths.roots[0].uri`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyPath(Vec<Step>);

impl KeyPath {
    /// The root.
    pub fn root() -> Self {
        Self::default()
    }

    /// The path with these keys.
    pub fn of_keys<'a>(keys: impl IntoIterator<Item = &'a str>) -> Self {
        Self(keys.into_iter().map(|key| Step::Key(key.into())).collect())
    }

    /// A path of keys written with dots. Not for keys that come from outside: they may hold dots.
    pub fn dotted(text: &str) -> Self {
        Self::of_keys(text.split('.'))
    }

    /// The path to `key` below this one.
    #[must_use]
    pub fn key(&self, key: impl Into<String>) -> Self {
        self.step(Step::Key(key.into()))
    }

    /// The path to the item `index` of the list here.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        self.step(Step::Index(index))
    }

    /// The path one step further.
    #[must_use]
    pub fn step(&self, step: Step) -> Self {
        let mut steps = self.0.clone();
        steps.push(step);
        Self(steps)
    }

    /// The steps from the root.
    pub fn steps(&self) -> &[Step] {
        &self.0
    }

    /// The last step and the path without it; `None` for the root.
    pub fn split_last(&self) -> Option<(&Step, Self)> {
        self.0.split_last().map(|(last, parent)| (last, Self(parent.to_vec())))
    }

    /// Whether this path is `other` or leads below it.
    pub fn starts_with(&self, other: &Self) -> bool {
        self.0.starts_with(&other.0)
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, step) in self.0.iter().enumerate() {
            match step {
                Step::Key(key) if place == 0 => write!(f, "{}", printable(key))?,
                Step::Key(key) => write!(f, ".{}", printable(key))?,
                Step::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

/// Where a value was said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nowhere.
    Default,
    /// In the file.
    File {
        /// Its path, as it was found.
        name: String,
        /// The line, from 1.
        line: Option<usize>,
    },
    /// In an environment variable.
    Variable(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { name, line: Some(line) } => write!(f, "{name}:{line}"),
            Self::File { name, line: None } => f.write_str(name),
            Self::Variable(name) => f.write_str(name),
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The key; the root where no key can be named.
    pub path: KeyPath,
    /// What stands there, fit to be shown.
    pub value: Option<String>,
    /// Who says so.
    pub origin: Origin,
    /// What would be right.
    pub expected: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, value, origin, expected } = self;
        match value {
            _ if path.steps().is_empty() => write!(f, "{origin}: {expected}"),
            None => write!(f, "{path} ({origin}): {expected}"),
            Some(value) => write!(f, "{path} = {} ({origin}): {expected}", cut(value)),
        }
    }
}

fn cut(value: &str) -> String {
    let shown: String = value.chars().take(MAX_SHOWN_CHARS).collect();
    if shown.len() < value.len() { format!("{shown}...") } else { shown }
}

/// A key from outside must not be able to forge a line of the message.
fn printable(key: &str) -> String {
    key.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_says_key_value_source_and_what_would_be_right() {
        let file = Origin::File { name: "sprocket.yaml".into(), line: Some(12) };
        let fault = Fault {
            path: KeyPath::dotted("paths.roots").index(2).key("uri"),
            value: Some("\"\"".into()),
            origin: file,
            expected: "must not be empty".into(),
        };
        assert_eq!(fault.to_string(), "paths.roots[2].uri = \"\" (sprocket.yaml:12): must not be empty");
        let whole = Fault { path: KeyPath::root(), value: None, ..fault.clone() };
        assert_eq!(whole.to_string(), "sprocket.yaml:12: must not be empty");
        let variable = Fault { value: None, origin: Origin::Variable("SPROCKET_X__Y".into()), ..fault };
        assert_eq!(variable.to_string(), "paths.roots[2].uri (SPROCKET_X__Y): must not be empty");
    }

    #[test]
    fn long_values_are_cut_and_keys_cannot_forge_lines() {
        let fault = Fault {
            path: KeyPath::root().key("a\nb"),
            value: Some("x".repeat(200)),
            origin: Origin::Default,
            expected: "e".into(),
        };
        assert_eq!(fault.to_string(), format!("a?b = {}... (default): e", "x".repeat(80)));
    }
}
