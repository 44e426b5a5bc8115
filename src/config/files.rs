//! Reading the few small files that a configuration is made of: itself, and those that hold tokens.
//!
//! What enters: a path. What leaves: text of a bounded length, or why not. Regular files only: a pipe
//! that nobody writes to would hang the start.

use super::host::{Host, LOCAL_FILE};
use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// The variable that names the file.
pub const FILE_VARIABLE: &str = "SPROCKET_CONFIG";
/// Longer than any configuration.
const MAX_BYTES: u64 = 1 << 20;

/// The file to read (contract, section 2). Whether it can be read is seen when it is.
pub fn find(asked: Option<&Path>, env: &[(OsString, OsString)], host: &Host) -> Option<PathBuf> {
    if let Some(path) = asked {
        return Some(path.to_owned());
    }
    let variable = env.iter().find(|(key, value)| key == FILE_VARIABLE && !value.is_empty());
    if let Some((_, path)) = variable {
        return Some(path.into());
    }
    if is_there(&host.working_folder.join(LOCAL_FILE)) {
        return Some(LOCAL_FILE.into());
    }
    is_there(&host.system_file).then(|| host.system_file.clone())
}

/// What may not be looked at counts as there: to pass over a file that was meant for us would start
/// the node with other settings than its owner believes.
fn is_there(path: &Path) -> bool {
    use std::io::ErrorKind::{NotADirectory, NotFound};
    !matches!(path.symlink_metadata(), Err(e) if matches!(e.kind(), NotFound | NotADirectory))
}

/// The text of `path`, or a sentence that says why there is none.
pub fn read(path: &Path) -> Result<String, String> {
    let io = |e: std::io::Error| format!("cannot be read: {e}");
    let facts = std::fs::metadata(path).map_err(io)?;
    if !facts.is_file() {
        return Err("is not a regular file".into());
    }
    let mut bytes = Vec::new();
    File::open(path).map_err(io)?.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(io)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(format!("is longer than {MAX_BYTES} bytes"));
    }
    String::from_utf8(bytes).map_err(|e| format!("is not UTF-8 at byte {}", e.utf8_error().valid_up_to()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn the_first_of_four_places_wins() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host {
            working_folder: dir.path().join("work"),
            system_file: dir.path().join("etc.yaml"),
            ..Host::here(&[], dir.path())
        };
        let env = [(OsString::from(FILE_VARIABLE), OsString::from("/v.yaml"))];
        let empty = [(OsString::from(FILE_VARIABLE), OsString::new())];
        assert_eq!(find(None, &[], &host), None);
        fs::write(&host.system_file, "").unwrap();
        assert_eq!(find(None, &empty, &host), Some(host.system_file.clone()));
        fs::create_dir(&host.working_folder).unwrap();
        fs::write(host.working_folder.join("sprocket.yaml"), "").unwrap();
        assert_eq!(find(None, &[], &host), Some("sprocket.yaml".into()));
        assert_eq!(find(None, &env, &host), Some("/v.yaml".into()));
        let blind =
            Host { working_folder: "/none".into(), system_file: dir.path().join("link"), ..host.clone() };
        std::os::unix::fs::symlink("/nowhere", &blind.system_file).unwrap();
        assert_eq!(
            find(None, &[], &blind),
            Some(blind.system_file.clone()),
            "a broken link is told, not passed over"
        );
        assert_eq!(find(Some(Path::new("/c.yaml")), &env, &host), Some("/c.yaml".into()));
    }

    #[test]
    fn what_is_no_small_text_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        assert!(read(&path).unwrap_err().starts_with("cannot be read"));
        assert_eq!(read(dir.path()).unwrap_err(), "is not a regular file");
        assert_eq!(read(Path::new("/dev/zero")).unwrap_err(), "is not a regular file");
        fs::write(&path, b"ab\xff").unwrap();
        assert_eq!(read(&path).unwrap_err(), "is not UTF-8 at byte 2");
        fs::write(&path, vec![b'a'; (1 << 20) + 1]).unwrap();
        assert_eq!(read(&path).unwrap_err(), "is longer than 1048576 bytes");
        fs::write(&path, "text").unwrap();
        assert_eq!(read(&path).unwrap(), "text");
    }
}
