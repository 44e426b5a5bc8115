//! What the defaults depend on: the machine's name, its cores, the folders that may be written.
//!
//! What enters: the operating system's answers. What leaves: plain facts, so that everything after
//! this is the same on every machine, and a test can be any of them. No keys here.

use rustix::fs::{Access, access};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The folder for a service's data.
const SYSTEM_FOLDER: &str = "/var/lib/sprocket";
/// The file for all who give none of their own.
const SYSTEM_FILE: &str = "/etc/sprocket/sprocket.yaml";
/// The name of the file in the working folder.
pub const LOCAL_FILE: &str = "sprocket.yaml";

/// The facts.
#[derive(Clone, Debug)]
pub struct Host {
    /// The machine's name, as the system tells it.
    pub name: String,
    /// Cores that this process may use (affinity and control group considered), at least 1.
    pub cores: u32,
    /// Where files named by no path are looked for.
    pub working_folder: PathBuf,
    /// The system's configuration file.
    pub system_file: PathBuf,
    /// Where output and state go by default; `None` where nothing may be written.
    pub data_folder: Option<PathBuf>,
}

impl Host {
    /// This machine, this user.
    pub fn here(env: &[(OsString, OsString)], working_folder: &Path) -> Self {
        let cores =
            std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(u32::MAX));
        Self {
            name: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            cores,
            working_folder: working_folder.to_owned(),
            system_file: SYSTEM_FILE.into(),
            data_folder: data_folder(Path::new(SYSTEM_FOLDER), env),
        }
    }
}

/// The system's folder if it may be written (or made), else the user's own.
fn data_folder(system: &Path, env: &[(OsString, OsString)]) -> Option<PathBuf> {
    if may_write(system) {
        return Some(system.to_owned());
    }
    let variable =
        |name: &str| env.iter().find(|(key, _)| key == name).map(|(_, value)| PathBuf::from(value));
    // The XDG specification: a relative path there is invalid and has to be ignored.
    let own = variable("XDG_STATE_HOME").filter(|path| path.is_absolute());
    let own = own
        .or_else(|| variable("HOME").filter(|path| path.is_absolute()).map(|home| home.join(".local/state")));
    own.map(|folder| folder.join("sprocket"))
}

/// Whether `folder` may be written, or made where it is missing.
fn may_write(folder: &Path) -> bool {
    let there = folder.ancestors().find(|path| path.symlink_metadata().is_ok());
    there.is_some_and(|path| path.is_dir() && access(path, Access::WRITE_OK | Access::EXEC_OK).is_ok())
}

/// The machine's name as a node's: what may not stand in a URL becomes `-`.
pub fn node_id(host_name: &str) -> String {
    let allowed = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' };
    let id: String = host_name.trim_start_matches('.').chars().take(64).map(allowed).collect();
    if id.is_empty() { "sprocket".into() } else { id }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_name_becomes_a_node_id() {
        for (name, id) in
            [("living-room", "living-room"), ("", "sprocket"), ("..x y/ü", "x-y--"), ("a.b_c", "a.b_c")]
        {
            assert_eq!(node_id(name), id);
        }
        assert_eq!(node_id(&"x".repeat(80)).len(), 64);
    }

    #[test]
    fn an_ordinary_user_gets_a_folder_of_their_own() {
        let env = |pairs: &[(&str, &str)]| -> Vec<(OsString, OsString)> {
            pairs.iter().map(|(k, v)| (k.into(), v.into())).collect()
        };
        let dir = tempfile::tempdir().unwrap();
        // Nobody may make a folder inside a file, not even root.
        let file = dir.path().join("file");
        std::fs::write(&file, b"").unwrap();
        let system = file.join("sprocket");
        let both = env(&[("HOME", "/home/u"), ("XDG_STATE_HOME", "/s")]);
        assert_eq!(data_folder(&system, &both), Some("/s/sprocket".into()));
        let relative = env(&[("HOME", "/home/u"), ("XDG_STATE_HOME", "s")]);
        assert_eq!(data_folder(&system, &relative), Some("/home/u/.local/state/sprocket".into()));
        assert_eq!(data_folder(&system, &[]), None);
        let (there, missing) = (dir.path().to_owned(), dir.path().join("a/b"));
        assert_eq!(data_folder(&there, &both), Some(there.clone()));
        assert_eq!(data_folder(&missing, &both), Some(missing.clone()));
    }

    #[test]
    fn this_machine_has_a_core_and_a_name() {
        let host = Host::here(&[], Path::new("/w"));
        assert!(host.cores >= 1 && !host.name.is_empty());
    }
}
