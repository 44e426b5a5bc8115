//! Environment variables as configuration: `SPROCKET_LIMITS__MAX_CONCURRENT_JOBS=4`.
//!
//! What enters: the environment. What leaves: key paths with their text, warnings about names that
//! mean nothing here (container platforms inject such), and faults for those that were surely meant
//! for us and name no key. What the text says is not looked at here.

use super::fault::{Fault, KeyPath, Origin};
use super::schema::Schema;
use std::ffi::OsString;

const PREFIX: &str = "SPROCKET_";
/// Ours, and no keys. `SPROCKET_LOG` is the log filter of every command, so the section `log` cannot
/// be given as a whole.
const OTHERS: [&str; 3] = ["CONFIG", "LOG", "MASK_ENCODERS"];
/// Ours, whatever follows.
const OTHER_PREFIXES: [&str; 2] = ["TEST_", "BENCH_"];

/// A variable that sets a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable {
    /// Its whole name.
    pub name: String,
    /// The keys that it stands for.
    pub keys: Vec<String>,
    /// Its text.
    pub text: String,
}

impl Variable {
    /// The key that it sets.
    pub fn path(&self) -> KeyPath {
        KeyPath::of_keys(self.keys.iter().map(String::as_str))
    }
}

/// What the environment says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Variables {
    /// Keys that are set, a section before what lies in it.
    pub set: Vec<Variable>,
    /// What is wrong.
    pub faults: Vec<Fault>,
    /// What is odd, but harmless.
    pub warnings: Vec<String>,
}

/// Reads all variables that begin with `SPROCKET_`.
pub fn read(env: &[(OsString, OsString)], schema: &Schema) -> Variables {
    let mut found = Variables::default();
    let mut ours: Vec<_> =
        env.iter().filter(|(name, _)| name.to_string_lossy().starts_with(PREFIX)).collect();
    ours.sort();
    for (name, value) in ours {
        take(&mut found, &name.to_string_lossy(), value, schema);
    }
    // What is more special wins over the section that it lies in.
    found.set.sort_by_key(|variable| variable.keys.len());
    found
}

fn take(found: &mut Variables, name: &str, value: &OsString, schema: &Schema) {
    let rest = name.strip_prefix(PREFIX).unwrap_or(name);
    let keys: Vec<String> = rest.split("__").map(str::to_ascii_lowercase).collect();
    let single = keys.len() == 1;
    if single && (OTHERS.contains(&rest) || OTHER_PREFIXES.iter().any(|prefix| rest.starts_with(prefix))) {
        return;
    }
    let path = KeyPath::of_keys(keys.iter().map(String::as_str));
    let empty_key = keys.iter().any(String::is_empty);
    let fault = |expected: String| Fault {
        path: path.clone(),
        value: None,
        origin: Origin::Variable(name.into()),
        expected,
    };
    match (schema.at(&path).filter(|_| !empty_key), value.to_str()) {
        (None, _) if single => {
            found
                .warnings
                .push(format!("the environment variable {name} names no key of the configuration: ignored"));
        }
        (None, _) => found.faults.push(fault(unknown(&path, schema))),
        (Some(_), None) => found.faults.push(fault("must be UTF-8".into())),
        (Some(_), Some(text)) => found.set.push(Variable { name: name.into(), keys, text: text.into() }),
    }
}

/// The deepest part of the path that means something decides what is suggested.
fn unknown(path: &KeyPath, schema: &Schema) -> String {
    let mut parent = path.clone();
    while let Some((_, above)) = parent.split_last() {
        parent = above;
        match schema.at(&parent) {
            Some(part) if part.get("items").is_some() => {
                return format!("{parent} is a list: give the whole list, as YAML, in one variable");
            }
            Some(_) => return schema.unknown_key(&parent),
            None => {}
        }
    }
    schema.unknown_key(&KeyPath::root())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStringExt;

    fn reading(pairs: &[(&str, &str)]) -> Variables {
        let env: Vec<(OsString, OsString)> = pairs.iter().map(|(k, v)| (k.into(), v.into())).collect();
        read(&env, &Schema::new())
    }

    #[test]
    fn names_become_key_paths_and_sections_come_first() {
        let found = reading(&[
            ("SPROCKET_HTTP__LISTEN", "[::1]:1"),
            ("SPROCKET_NODE__TAGS__SITE", "home"),
            ("SPROCKET_HTTP", "{listen: x}"),
            ("HTTP__LISTEN", "not ours"),
        ]);
        let set: Vec<_> = found.set.iter().map(|v| (v.path().to_string(), v.text.as_str())).collect();
        let expected = [("http", "{listen: x}"), ("http.listen", "[::1]:1"), ("node.tags.site", "home")];
        assert_eq!(set, expected.map(|(k, v)| (k.to_string(), v)));
        assert_eq!((found.faults.len(), found.warnings.len()), (0, 0));
    }

    #[test]
    fn a_name_with_levels_that_names_no_key_is_a_fault() {
        let found = reading(&[
            ("SPROCKET_LIMITS__MAX_JOBS", "1"),
            ("SPROCKET_LIMIT__MAX_QUEUED_JOBS", "1"),
            ("SPROCKET_PATHS__ROOTS__0__URI", "x"),
            ("SPROCKET_NODE__ID__X", "x"),
            ("SPROCKET_NODE__TAGS__", "x"),
            ("SPROCKET___NODE", "x"),
        ]);
        let told: Vec<_> = found.faults.iter().map(ToString::to_string).collect();
        assert_eq!(told.len(), 6, "{told:#?}");
        for (told, expected) in told.iter().zip([
            "limits.max_jobs (SPROCKET_LIMITS__MAX_JOBS): is an unknown key: those in limits are history, ",
            "limit.max_queued_jobs (SPROCKET_LIMIT__MAX_QUEUED_JOBS): is an unknown key: those at the top are hardware, ",
            "node.id.x (SPROCKET_NODE__ID__X): is an unknown key: nothing belongs there",
            "node.tags. (SPROCKET_NODE__TAGS__): is an unknown key",
            "paths.roots.0.uri (SPROCKET_PATHS__ROOTS__0__URI): paths.roots is a list: give the whole list",
            ".node (SPROCKET___NODE): is an unknown key: those at the top",
        ]) {
            assert!(told.starts_with(expected), "{told}\n{expected}");
        }
    }

    #[test]
    fn a_name_without_levels_only_warns_and_our_own_do_not() {
        let found = reading(&[
            ("SPROCKET_PORT_8080_TCP", "tcp://10.0.0.1:8080"),
            ("SPROCKET_SERVICE_HOST", "10.0.0.1"),
            ("SPROCKET_CONFIG", "/x"),
            ("SPROCKET_LOG", "debug"),
            ("SPROCKET_MASK_ENCODERS", "x"),
            ("SPROCKET_TEST_CLIPS", "x"),
            ("SPROCKET_BENCH_ROUNDS", "x"),
        ]);
        assert_eq!((found.set.len(), found.faults.len()), (0, 0));
        assert_eq!(found.warnings.len(), 2);
        assert!(found.warnings[0].contains("SPROCKET_PORT_8080_TCP"));
    }

    #[test]
    fn bytes_that_are_no_text_are_a_fault() {
        let env = [("SPROCKET_NODE__ID".into(), OsString::from_vec(vec![0xff]))];
        let found = read(&env, &Schema::new());
        assert_eq!(found.faults[0].to_string(), "node.id (SPROCKET_NODE__ID): must be UTF-8");
    }
}
