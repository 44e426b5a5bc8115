use super::*;
use proptest::prelude::*;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::time::Duration;

/// A root with all that a folder can hold, beside a folder that is not to be seen.
fn tree() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path().canonicalize().unwrap();
    let root = base.join("root");
    fs::create_dir_all(root.join("series/one")).unwrap();
    fs::create_dir_all(root.join(".private")).unwrap();
    fs::create_dir_all(root.join("empty")).unwrap();
    fs::create_dir_all(base.join("outside/films")).unwrap();
    fs::write(root.join("b.mkv"), b"12345").unwrap();
    fs::write(root.join("a.mkv"), b"").unwrap();
    fs::write(root.join(".hidden.mkv"), b"x").unwrap();
    fs::write(root.join(".private/secret.mkv"), b"x").unwrap();
    fs::write(root.join("Ä %2e .mkv"), b"x").unwrap();
    fs::write(root.join(OsStr::from_bytes(b"\xff.mkv")), b"x").unwrap();
    fs::write(base.join("outside/films/x.mkv"), b"x").unwrap();
    symlink("b.mkv", root.join("link-in")).unwrap();
    symlink("series/one", root.join("link-folder")).unwrap();
    symlink("../outside/films/x.mkv", root.join("link-out")).unwrap();
    symlink("../outside/films", root.join("folder-out")).unwrap();
    symlink("/nowhere", root.join("link-dead")).unwrap();
    symlink("loop", root.join("loop")).unwrap();
    symlink(".private", root.join("link-hidden")).unwrap();
    symlink(".hidden.mkv", root.join("file-hidden")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        root.join("pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    (dir, root)
}

fn page(limit: usize, after: Option<&str>) -> Page {
    Page { limit, after: after.map(str::to_owned) }
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

fn names(root: &Path, path: &str) -> Result<Vec<String>, Trouble> {
    let found = read(root, &root.join(path), &page(200, None), soon())?;
    assert_eq!(found.next, None);
    Ok(found.entries.into_iter().map(|entry| entry.name).collect())
}

#[test]
fn a_folder_shows_what_can_be_asked_for_and_nothing_else() {
    let (_dir, root) = tree();
    let found = read(&root, &root, &page(200, None), soon()).unwrap();
    let shown: Vec<_> = found.entries.iter().map(|e| (e.name.as_str(), e.kind, e.size_bytes)).collect();
    use EntryKind::{File, Folder};
    assert_eq!(
        shown,
        [
            ("a.mkv", File, Some(0)),
            ("b.mkv", File, Some(5)),
            ("empty", Folder, None),
            ("link-folder", Folder, None),
            ("link-in", File, Some(5)),
            ("series", Folder, None),
            ("Ä %2e .mkv", File, Some(1)),
        ]
    );
    assert_eq!((found.skipped, found.next), (1, None));
    let written = fs::metadata(root.join("b.mkv")).unwrap().modified().unwrap();
    assert_eq!(found.entries[1].mtime, Some(Timestamp::try_from(written).unwrap()));
    assert_eq!(names(&root, "empty"), Ok(vec![]));
    assert_eq!(names(&root, "series"), Ok(vec!["one".to_owned()]));
    assert_eq!(names(&root, "link-folder"), Ok(vec![]));
}

#[test]
fn what_is_hidden_outside_or_no_folder_is_refused() {
    let (_dir, root) = tree();
    for (path, trouble) in [
        (".private", Trouble::Missing),
        ("series/.x/y", Trouble::Missing),
        ("link-hidden", Trouble::Missing),
        ("nothing", Trouble::Missing),
        ("nothing/at/all", Trouble::Missing),
        ("loop", Trouble::Missing),
        ("link-dead", Trouble::Escapes),
        ("folder-out/x.mkv", Trouble::Escapes),
        ("folder-out/none", Trouble::Escapes),
        ("folder-out/x.mkv/none", Trouble::Escapes),
        ("link-out/none", Trouble::Escapes),
        (&"x".repeat(300), Trouble::Missing),
        ("folder-out", Trouble::Escapes),
        ("link-out", Trouble::Escapes),
        ("a.mkv", Trouble::NotAFolder),
        ("a.mkv/x", Trouble::NotAFolder),
        ("pipe", Trouble::NotAFolder),
        ("../outside", Trouble::Escapes),
        ("series/../../outside", Trouble::Escapes),
    ] {
        assert_eq!(names(&root, path), Err(trouble), "{path}");
    }
    assert_eq!(names(&root, "/etc"), Err(Trouble::Escapes));
}

#[test]
fn a_root_that_is_away_or_slow_does_not_answer() {
    let (_dir, root) = tree();
    let gone = root.with_file_name("gone");
    assert!(matches!(names(&gone, ""), Err(Trouble::Silent(_))));
    let late = read(&root, &root, &page(1, None), Instant::now());
    assert!(matches!(&late, Err(Trouble::Silent(why)) if why.ends_with("takes too long")), "{late:?}");
}

#[test]
fn a_folder_that_may_not_be_read_says_so() {
    let (_dir, root) = tree();
    let shut = root.join("empty");
    fs::set_permissions(&shut, fs::Permissions::from_mode(0o000)).unwrap();
    let seen = names(&root, "empty");
    fs::set_permissions(&shut, fs::Permissions::from_mode(0o700)).unwrap();
    // The superuser may read everything.
    if !rustix::process::geteuid().is_root() {
        assert_eq!(seen, Err(Trouble::Denied));
    }
}

#[test]
fn a_root_below_a_hidden_folder_or_behind_a_link_is_a_root() {
    let (_dir, root) = tree();
    assert_eq!(names(&root.join(".private"), ""), Ok(vec!["secret.mkv".to_owned()]));
    let link = root.with_file_name("link");
    symlink(&root, &link).unwrap();
    assert_eq!(names(&link, "series"), Ok(vec!["one".to_owned()]));
    assert_eq!(names(&link, "link-in"), Err(Trouble::NotAFolder));
    assert!(names(&link, "").unwrap().contains(&"link-in".to_owned()));
}

#[test]
fn a_page_is_full_although_names_before_it_are_left_out() {
    let (_dir, root) = tree();
    let many = root.join("many");
    fs::create_dir(&many).unwrap();
    for number in 0..50 {
        symlink("/etc/passwd", many.join(format!("a{number:02}"))).unwrap();
    }
    fs::write(many.join("b"), b"").unwrap();
    fs::write(many.join("c"), b"").unwrap();
    let first = read(&root, &many, &page(1, None), soon()).unwrap();
    assert_eq!((first.entries[0].name.as_str(), first.next.as_deref()), ("b", Some("b")));
    let second = read(&root, &many, &page(1, Some("b")), soon()).unwrap();
    assert_eq!((second.entries[0].name.as_str(), second.next.as_deref()), ("c", None));
    let exact = read(&root, &many, &page(2, None), soon()).unwrap();
    assert_eq!((exact.entries.len(), exact.next), (2, None));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever the names and the length of pages: all pages together are the folder, in order, once each.
    #[test]
    fn pages_together_are_the_folder(
        wanted in proptest::collection::btree_set("[a-zA-Z0-9 _äß-][a-zA-Z0-9 ._äß-]{0,6}", 0..30),
        limit in 1_usize..12,
    ) {
        let dir = tempfile::tempdir().unwrap();
        for name in &wanted {
            fs::write(dir.path().join(name), b"").unwrap();
        }
        let mut seen = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let found = read(dir.path(), dir.path(), &page(limit, after.as_deref()), soon()).unwrap();
            prop_assert!(found.entries.len() <= limit);
            prop_assert!(found.next.is_none() || found.entries.len() == limit);
            seen.extend(found.entries.into_iter().map(|entry| entry.name));
            match found.next {
                Some(next) => after = Some(next),
                None => break,
            }
        }
        prop_assert_eq!(seen, wanted.into_iter().collect::<Vec<_>>());
    }
}
