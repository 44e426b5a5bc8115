//! What the map promises, by example and by random trees.

use super::*;
use crate::config::settings::{Output, Paths};
use proptest::prelude::*;
use std::os::unix::ffi::OsStringExt;

fn map(roots: &[(&str, &str)], output: (&str, &str)) -> PathMap {
    let root = |(n, (uri, local)): (usize, &(&str, &str))| Root {
        name: format!("r{n}"),
        uri: (*uri).into(),
        local: local.into(),
    };
    PathMap::new(&Paths {
        roots: roots.iter().enumerate().map(root).collect(),
        output: Output { uri: output.0.into(), local: output.1.into() },
        state: "/state".into(),
    })
    .unwrap()
}

const OUTPUT: (&str, &str) = ("nas://transcoded", "/out");

fn local(map: &PathMap, uri: &str) -> (Area, String) {
    let located = map.to_local(uri).unwrap_or_else(|e| panic!("{uri}: {e}"));
    (located.area, located.local.to_str().unwrap().to_owned())
}

const R0: Area = Area::Root(RootId(0));
const R1: Area = Area::Root(RootId(1));
const R2: Area = Area::Root(RootId(2));

#[test]
fn the_longest_name_wins_on_whole_components() {
    let map = map(
        &[("nas://media", "/m"), ("nas://media/movies", "/mnt/movies"), ("nas://media/movies2", "/x")],
        OUTPUT,
    );
    for (uri, area, expected) in [
        ("nas://media/a.mkv", R0, "/m/a.mkv"),
        ("nas://media/movies/a.mkv", R1, "/mnt/movies/a.mkv"),
        ("NAS://MEDIA/movies/a.mkv", R1, "/mnt/movies/a.mkv"),
        ("nas://media/movies2/a.mkv", R2, "/x/a.mkv"),
        ("nas://media/movies3/a.mkv", R0, "/m/movies3/a.mkv"),
        ("nas://media/movies", R1, "/mnt/movies"),
        ("nas://transcoded/job", Area::Output, "/out/job"),
        ("/mnt/movies/a.mkv", R1, "/mnt/movies/a.mkv"),
        ("file:///out/job%201", Area::Output, "/out/job 1"),
    ] {
        assert_eq!(local(&map, uri), (area, expected.into()), "{uri}");
    }
    for uri in
        ["/mnt/movies2/a.mkv", "nas://mediax/a", "smb://media/movies/a", "movies/a", "C:\\movies\\a", ""]
    {
        assert_eq!(map.to_local(uri).unwrap_err().code(), "path_not_mapped", "{uri}");
    }
}

#[test]
fn windows_shares_are_the_same_in_every_spelling() {
    let map = map(&[("\\\\NAS\\Media\\Films", "/films"), ("/mnt/tv", "/data/tv")], OUTPUT);
    for uri in [
        "\\\\nas\\media\\Films\\a b\\c.mkv",
        "//Nas/MEDIA/Films/a b/c.mkv",
        "smb://nas/media/Films/a%20b/c.mkv",
        "file://nas/media/Films/a%20b/c.mkv",
        "\\\\nas\\media\\Films/a b\\\\c.mkv",
    ] {
        assert_eq!(local(&map, uri), (R0, "/films/a b/c.mkv".into()), "{uri}");
    }
    assert_eq!(map.to_uri(Path::new("/films/a b/c.mkv")).unwrap(), "\\\\NAS\\Media\\Films\\a b\\c.mkv");
    assert_eq!(
        map.to_local("\\\\nas\\media\\films\\a").unwrap_err().code(),
        "path_not_mapped",
        "case counts"
    );
    // Elsewhere a backslash is a letter like any other.
    assert_eq!(local(&map, "/mnt/tv/a\\b"), (R1, "/data/tv/a\\b".into()));
    assert_eq!(map.to_uri(Path::new("/films/a\\b")), None, "a share cannot say that");
}

#[test]
fn a_name_that_is_also_a_local_path_means_what_the_network_means() {
    let map = map(&[("/mnt/x", "/data/a"), ("nas://b", "/mnt/x")], OUTPUT);
    assert_eq!(local(&map, "/mnt/x/f"), (R0, "/data/a/f".into()));
    assert_eq!(map.to_uri(Path::new("/data/a/f")).unwrap(), "/mnt/x/f");
    assert_eq!(map.to_uri(Path::new("/mnt/x/f")).unwrap(), "nas://b/f");
}

#[test]
fn a_folder_hidden_by_another_name_has_none() {
    let map = map(&[("nas://m", "/a"), ("nas://m/sub", "/b")], OUTPUT);
    assert_eq!(map.to_uri(Path::new("/a/sub/f")), None);
    assert_eq!(map.to_uri(Path::new("/a/sub2/f")).unwrap(), "nas://m/sub2/f");
    assert_eq!(map.to_uri(Path::new("/elsewhere")), None);
    assert_eq!(map.to_uri(Path::new("/a/../etc")), None);
    assert_eq!(map.to_uri(Path::new("a/f")), None);
}

#[test]
fn outputs_go_to_the_output_only() {
    let map = map(&[("nas://media", "/m"), ("nas://transcoded/in", "/out/in")], OUTPUT);
    assert_eq!(map.to_output("nas://transcoded/job-1").unwrap(), PathBuf::from("/out/job-1"));
    assert_eq!(map.to_output("/out/job-1").unwrap(), PathBuf::from("/out/job-1"));
    for uri in ["nas://media/a", "nas://transcoded/in/a", "/out/in/a"] {
        let err = map.to_output(uri).unwrap_err();
        assert_eq!((err.code(), err.kind()), ("path_not_mapped", ErrorKind::Usage), "{uri}");
    }
    assert_eq!(map.to_output("nas://transcoded/../x").unwrap_err().code(), "path_escapes");
}

#[test]
fn a_root_and_the_output_may_share_a_place() {
    let map = map(&[("nas://transcoded", "/out")], OUTPUT);
    assert_eq!(map.to_local("nas://transcoded/a").unwrap().area, Area::Output);
    assert_eq!(map.to_local("/out/a").unwrap().area, Area::Output);
}

#[test]
fn refusals_name_what_is_known_and_show_no_raw_bytes() {
    let map = map(&[("nas://media", "/m")], OUTPUT);
    let err = map.to_local("ftp://x/\ny").unwrap_err();
    assert_eq!(
        err.message(),
        "ftp://x/\\ny begins with no name that this node knows: nas://transcoded, nas://media"
    );
    assert_eq!(
        map.to_local("nas://media/a%2fb").unwrap_err().message(),
        "nas://media/a%2fb holds an encoded slash"
    );
}

#[test]
fn urls_reach_files_below_a_root_and_no_others() {
    let map = map(&[("nas://media", "/m")], OUTPUT);
    let id = map.root("r0").unwrap();
    assert_eq!(map.root("r1"), None);
    assert_eq!(map.folder(Area::Root(id)), Some(Path::new("/m")));
    assert_eq!(map.inside(R0, "a//b/./c.mkv").unwrap(), PathBuf::from("/m/a/b/c.mkv"));
    assert_eq!(map.inside(R0, "/etc/passwd").unwrap(), PathBuf::from("/m/etc/passwd"));
    for relative in ["..", "a/../b", "../m/a", "a\0b"] {
        assert_eq!(map.inside(R0, relative).unwrap_err().code(), "path_escapes", "{relative}");
    }
    assert_eq!(map.inside(R1, "a").unwrap_err().code(), "path_not_mapped");
}

// ---- random trees -----------------------------------------------------------------------------

/// A component from few letters, so that names often begin with each other; some are nasty.
fn part() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => "[ab]{1,3}",
        2 => "[ab%20é #?+:@~.-]{1,5}",
        1 => Just("%2e%2e".to_string()),
        1 => Just("...".to_string()),
        1 => Just("a\\b".to_string()),
    ]
    .prop_filter("means nothing or too much", |part| part != "." && part != "..")
}

fn parts(max: usize) -> impl Strategy<Value = Vec<String>> {
    proptest::collection::vec(part(), 0..=max)
}

/// How a root is called: one of the forms, with few letters as well.
fn root_uri() -> impl Strategy<Value = String> {
    let plain = proptest::collection::vec("[ab]{1,2}", 1..=3);
    (0..6_usize, plain).prop_map(|(form, parts)| {
        let path = parts.join("/");
        match form {
            0 => format!("nas://{path}"),
            1 => format!("smb://h/{path}"),
            2 => format!("file:///{path}"),
            3 => format!("/{path}"),
            4 => format!("\\\\h\\{}", parts.join("\\")),
            _ => format!("//h/{path}"),
        }
    })
}

fn root_local() -> impl Strategy<Value = String> {
    proptest::collection::vec("[ab]{1,2}", 1..=3).prop_map(|parts| format!("/{}", parts.join("/")))
}

fn any_map() -> impl Strategy<Value = PathMap> {
    proptest::collection::vec((root_uri(), root_local()), 1..=4).prop_map(|roots| {
        let roots: Vec<_> = roots.iter().map(|(uri, local)| (uri.as_str(), local.as_str())).collect();
        map(&roots, ("out://o", "/o"))
    })
}

/// `..` as attackers write it.
fn detour() -> impl Strategy<Value = String> {
    prop_oneof![Just(".."), Just("%2e%2e"), Just("%2E."), Just(".%2e")].prop_map(str::to_string)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100_000, max_global_rejects: 1_000_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn there_and_back_is_the_same_file(map in any_map(), which in 0..5_usize, rest in parts(3)) {
        let place = &map.places[which % map.places.len()];
        let mut file = place.local.clone();
        file.extend(&rest);
        // A file may be hidden by another root's name; but a name that is given always leads back.
        if let Some(uri) = map.to_uri(&file) {
            let located = map.to_local(&uri).unwrap();
            prop_assert_eq!(&located.local, &file);
            prop_assert!(file.starts_with(map.folder(located.area).unwrap()));
        }
    }

    #[test]
    fn a_lone_root_names_all_its_files(uri in root_uri(), local in root_local(), rest in parts(4)) {
        let map = map(&[(&uri, &local)], ("out://o", "/elsewhere"));
        let mut file = PathBuf::from(&local);
        file.extend(&rest);
        let share = uri.starts_with("smb:") || uri.starts_with("\\\\") || uri.starts_with("//");
        match map.to_uri(&file) {
            Some(name) => prop_assert_eq!(map.to_local(&name).unwrap(), Located { area: R0, local: file }),
            None => prop_assert!(share && rest.iter().any(|part| part.contains('\\')), "{:?}", file),
        }
    }

    #[test]
    fn whatever_comes_back_lies_inside_its_place(map in any_map(), text in "[ab/\\\\.%2efo:~]{0,24}") {
        for prefix in ["", "nas://", "smb://h/", "/", "\\\\h\\", "file:///"] {
            if let Ok(located) = map.to_local(&format!("{prefix}{text}")) {
                let folder = map.folder(located.area).unwrap();
                let rest = located.local.strip_prefix(folder);
                prop_assert!(rest.is_ok_and(|rest| normal_parts(rest).is_some()), "{:?}", located);
            }
        }
    }

    #[test]
    fn siblings_with_a_common_beginning_are_untouched(
        uri in root_uri(), local in root_local(), tail in "[ab2_-]{1,3}", rest in parts(2),
    ) {
        // Other letters than the names', so that no local path is by chance what the network means.
        let local = local.replace('a', "c").replace('b', "d");
        let map = map(&[(&uri, &local)], ("out://o", "/elsewhere"));
        let rest: String = rest.iter().map(|part| format!("/{}", part.replace(['%', '\\'], "x"))).collect();
        for sibling in [format!("{uri}{tail}{rest}"), format!("{local}{tail}{rest}")] {
            let refused = map.to_local(&sibling).unwrap_err();
            prop_assert_eq!(refused.code(), "path_not_mapped", "{}", sibling);
            prop_assert_eq!(map.to_uri(Path::new(&sibling)), None, "{}", sibling);
        }
    }

    #[test]
    fn every_escape_is_refused(uri in root_uri(), before in parts(2), detour in detour(), after in parts(2)) {
        let map = map(&[(&uri, "/r")], ("out://o", "/o"));
        let encoded = uri.contains("://");
        let detour = if encoded { detour } else { "..".to_string() };
        let separator = if uri.starts_with('\\') { "\\" } else { "/" };
        let plain = |parts: Vec<String>| parts.into_iter().map(|part| part.replace(['%', '\\'], "x"));
        let all: Vec<_> = std::iter::once(uri).chain(plain(before)).chain([detour]).chain(plain(after)).collect();
        let attempt = all.join(separator);
        prop_assert_eq!(map.to_local(&attempt).unwrap_err().code(), "path_escapes", "{}", attempt);
    }

    #[test]
    fn names_that_are_no_text_survive_where_the_form_can_say_them(bytes in proptest::collection::vec(1..=255_u8, 1..8)) {
        let part = OsString::from_vec(bytes.into_iter().filter(|b| *b != b'/').collect());
        prop_assume!(!part.is_empty() && part != "." && part != "..");
        let map = map(&[("nas://m", "/r"), ("/plain", "/p")], ("out://o", "/o"));
        let file = Path::new("/r").join(&part);
        prop_assert_eq!(map.to_local(&map.to_uri(&file).unwrap()).unwrap().local, file);
        let said = map.to_uri(&Path::new("/p").join(&part));
        prop_assert_eq!(said.is_some(), part.to_str().is_some());
    }
}
