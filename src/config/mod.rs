//! Configuration: defaults < YAML file < environment (contract, section 2), and path mapping.
//!
//! ```text
//!   file, environment --> layers (figment) --> tree --> schema --> raw --> resolve --> Settings
//!                                                |          \______________/
//!                                             origins ----------> faults, all at once
//! ```
//!
//! What enters: a file, the environment, facts of the host. What leaves: [`settings::Settings`], with
//! where each value came from; or every [`fault::Fault`] there is. Apart from reading those files
//! nothing is done here: no folder is made, no address is opened. Secrets leave only through
//! `Secret::expose`.

use fault::{Fault, KeyPath, Origin};
use host::Host;
use layers::Layers;
use raw::Raw;
use resolve::{Note, Resolved};
use schema::{Breach, Schema};
use serde_json::Value as Json;
use settings::Settings;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use variables::Variables;

pub mod confine;
pub mod fault;
mod files;
pub mod host;
mod layers;
mod name;
pub mod paths;
pub mod raw;
mod render;
pub mod resolve;
pub mod schema;
pub mod settings;
pub mod values;
mod variables;
mod yaml;

/// A configuration without a fault.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What the program uses.
    pub settings: Settings,
    /// The file that was read.
    pub file: Option<PathBuf>,
    /// What is odd, but legal.
    pub warnings: Vec<String>,
    effective: Raw,
    origins: Vec<(KeyPath, Origin)>,
    notes: Vec<Note>,
}

impl Loaded {
    /// The effective configuration as YAML that could be loaded again, but for secrets (`***`), each
    /// value with a comment that says where it came from.
    pub fn to_yaml(&self) -> String {
        render::yaml(self)
    }
}

/// Loads the configuration: `file` (`--config`), else the file that the contract names, under `env`.
///
/// # Errors
/// Everything that is wrong, at once.
pub fn load(
    file: Option<&Path>,
    env: impl Iterator<Item = (OsString, OsString)>,
    cwd: &Path,
) -> Result<Loaded, Vec<Fault>> {
    let env: Vec<_> = env.collect();
    let host = Host::here(&env, cwd);
    load_on(&host, file, &env)
}

/// [`load`] on a host of the caller's making.
///
/// # Errors
/// Everything that is wrong, at once.
pub fn load_on(host: &Host, file: Option<&Path>, env: &[(OsString, OsString)]) -> Result<Loaded, Vec<Fault>> {
    let schema = Schema::new();
    let mut layers = Layers::new(&schema).map_err(broken)?;
    let file = files::find(file, env, host);
    let in_file = file.as_ref().map_or_else(Vec::new, |path| merge_file(&mut layers, path, host));
    let file_is_lost = !in_file.is_empty();
    let Variables { set, faults, mut warnings } = variables::read(env, &schema);
    let mut found: Vec<Fault> = in_file.into_iter().chain(faults).collect();
    found.extend(set.iter().filter_map(|variable| layers.merge_variable(variable)));
    let tree = layers.tree();
    let breaches = layers.check(&tree).map_err(broken)?;
    let raw = sound_part(&schema, &tree, &breaches).map_err(broken)?;
    let resolved = resolve::resolve(&raw, host);
    // Without the file half of the settings are missing: what they contradict is no news.
    if !file_is_lost {
        found.extend(meant(&layers, &tree, &breaches, &resolved));
    }
    found.extend(breaches.into_iter().map(|(_, fault)| fault));
    if !found.is_empty() {
        return Err(in_order(found));
    }
    warnings.extend(resolved.warnings);
    let Resolved { settings, effective, notes, .. } = resolved;
    let origins = render::paths(&effective).into_iter().map(|path| (path.clone(), layers.origin(&path)));
    Ok(Loaded { settings, file, warnings, origins: origins.collect(), effective, notes })
}

fn merge_file(layers: &mut Layers<'_>, path: &Path, host: &Host) -> Vec<Fault> {
    let name = path.display().to_string();
    match files::read(&host.working_folder.join(path)) {
        Ok(text) => layers.merge_file(&name, &text),
        Err(why) => {
            let origin = Origin::File { name, line: None };
            let expected = format!("the configuration file {why}");
            vec![Fault { path: KeyPath::root(), value: None, origin, expected }]
        }
    }
}

/// The complaints about meaning, but for values whose very shape is wrong.
fn meant(layers: &Layers<'_>, tree: &Json, breaches: &[(Breach, Fault)], resolved: &Resolved) -> Vec<Fault> {
    let told = |path: &KeyPath| breaches.iter().any(|(breach, _)| path.starts_with(&breach.path));
    let new = resolved.complaints.iter().filter(|complaint| !told(&complaint.path));
    new.map(|complaint| layers.fault(&complaint.path, tree, &complaint.expected)).collect()
}

/// The tree as types, with whatever breaks the schema replaced, so that the rest can be looked at too.
fn sound_part(schema: &Schema, tree: &Json, breaches: &[(Breach, Fault)]) -> Result<Raw, String> {
    let defaults = serde_json::to_value(Raw::default()).map_err(|e| e.to_string())?;
    let mut tree = tree.clone();
    for (breach, _) in breaches {
        let stand_in = layers::at(&defaults, &breach.path).cloned();
        let stand_in = stand_in.or_else(|| Some(schema.stand_in(schema.at(&breach.path)?)));
        layers::put(&mut tree, &breach.path, stand_in.filter(|_| !breach.unknown));
    }
    serde_json::from_value(tree).map_err(|e| e.to_string())
}

/// The order of the file, then that of the variables' names.
fn in_order(mut faults: Vec<Fault>) -> Vec<Fault> {
    let rank = |fault: &Fault| match &fault.origin {
        Origin::File { line, .. } => (0, line.unwrap_or(0), String::new()),
        Origin::Variable(name) => (1, 0, name.clone()),
        Origin::Default => (2, 0, String::new()),
    };
    faults.sort_by_key(|fault| (rank(fault), fault.path.clone()));
    faults
}

/// The types and the schema made from them disagree: a bug, but no reason to panic.
fn broken(why: String) -> Vec<Fault> {
    let expected = format!("cannot be checked, please report this: {why}");
    vec![Fault { path: KeyPath::root(), value: None, origin: Origin::Default, expected }]
}

#[cfg(test)]
mod tests;
