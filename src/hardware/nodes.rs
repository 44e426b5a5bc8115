//! The files through which devices are reached: are they there, and may this user open them?
//!
//! What enters: paths. What leaves: the reason why none of a group can be used, in words for the operator.

use super::report::Reason;
use rustix::fs::Access;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Why no file of `group` can be opened; `None` when one can, or when the group is empty.
pub fn why_not(group: &[PathBuf], absent_hint: &str) -> Option<Reason> {
    let first = group.first()?;
    let mut refused = None;
    for node in group {
        match may_open(node) {
            Ok(()) => return None,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => refused = refused.or(Some(refusal(node, &e))),
        }
    }
    let absent = || {
        let message = format!("there is no {}", first.display());
        Reason::new("no_device", message).hint(absent_hint)
    };
    Some(refused.unwrap_or_else(absent))
}

/// Whether this user may open it. It is not opened: a driver may hang over that.
pub fn may_open(node: &Path) -> io::Result<()> {
    Ok(rustix::fs::access(node, Access::READ_OK | Access::WRITE_OK)?)
}

/// What is to be done about a device node that cannot be opened.
fn refusal(node: &Path, e: &io::Error) -> Reason {
    let message = format!("{} cannot be opened: {e}", node.display());
    let gid = fs::metadata(node).ok().map(|facts| facts.gid());
    match (e.kind(), gid) {
        (io::ErrorKind::PermissionDenied, Some(gid)) => {
            Reason::new("no_permission", message).hint(join_group(gid))
        }
        _ => Reason::new("no_device", message)
            .hint("is the driver loaded, and the device given to this container?"),
    }
}

/// How a user comes into the group of a device.
fn join_group(gid: u32) -> String {
    let groups = fs::read_to_string("/etc/group").unwrap_or_default();
    let group = group_name(&groups, gid).unwrap_or_else(|| gid.to_string());
    format!(
        "this user is not in the group {group}: usermod -aG {group} USER, or SupplementaryGroups={group} \
         of the service; in a container --group-add {gid}"
    )
}

fn group_name(groups: &str, gid: u32) -> Option<String> {
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(gid)).then(|| name.to_string())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_a_group_is_enough_and_none_has_a_reason() {
        let dir = tempfile::tempdir().unwrap();
        let (there, gone) = (dir.path().join("there"), dir.path().join("gone"));
        fs::write(&there, b"").unwrap();
        assert_eq!(why_not(&[], "do this"), None);
        assert_eq!(why_not(&[gone.clone(), there], "do this"), None);
        let reason = why_not(&[gone], "do this").unwrap();
        assert_eq!((reason.code.as_str(), reason.hint.as_deref()), ("no_device", Some("do this")));
    }

    #[test]
    fn a_refusal_names_the_group() {
        let denied = io::Error::from(io::ErrorKind::PermissionDenied);
        let dir = tempfile::tempdir().unwrap();
        let node = dir.path().join("renderD128");
        fs::write(&node, b"").unwrap();
        let reason = refusal(&node, &denied);
        assert_eq!(reason.code, "no_permission");
        assert!(reason.hint.unwrap().contains("usermod -aG"), "the group is named");
        assert_eq!(group_name("root:x:0:\nrender:x:105:alice\n", 105).as_deref(), Some("render"));
        assert_eq!(group_name("broken", 105), None);
    }
}
