//! What written values mean, and which are refused.

use super::*;
use crate::config::raw::{Acceleration as RawAcceleration, Device, Root};
use crate::config::values::Secret;
use std::fs;
use std::path::{Path, PathBuf};

fn host(cores: u32) -> Host {
    Host {
        name: "box.local".into(),
        cores,
        working_folder: "/w".into(),
        system_file: "/none".into(),
        data_folder: Some("/data".into()),
    }
}

fn complaints(change: impl FnOnce(&mut Raw)) -> Vec<String> {
    let mut raw = Raw::default();
    change(&mut raw);
    let found = resolve(&raw, &host(4)).complaints;
    found.into_iter().map(|c| format!("{}: {}", c.path, c.expected)).collect()
}

#[track_caller]
fn assert_refused(change: impl FnOnce(&mut Raw), begin: &str) {
    let found = complaints(change);
    assert!(found.len() == 1 && found[0].starts_with(begin), "{found:#?}\n{begin}");
}

fn settings(change: impl FnOnce(&mut Raw)) -> Settings {
    let mut raw = Raw::default();
    change(&mut raw);
    let resolved = resolve(&raw, &host(4));
    assert_eq!(resolved.complaints, []);
    resolved.settings
}

fn root(name: &str, uri: &str, local: &str) -> Root {
    Root { name: name.into(), uri: uri.into(), local: local.into() }
}

#[test]
fn the_defaults_decide_what_is_left_open() {
    let s = settings(|_| {});
    assert_eq!((s.node.id.as_str(), s.node.tags.len()), ("box.local", 0));
    assert_eq!(s.paths.output.uri, "file:///data/output");
    assert_eq!(
        (s.paths.output.local.as_path(), s.paths.state.as_path()),
        (Path::new("/data/output"), Path::new("/data/state"))
    );
    assert_eq!(s.limits.min_free_disk_bytes, 2 << 30);
    assert_eq!(s.limits.output_ttl, None);
    assert_eq!(s.limits.history, Duration::from_secs(30 * 86_400));
    assert_eq!(s.hardware.acceleration, Acceleration::Auto);
    assert_eq!((s.http.listen.to_string().as_str(), s.http.control_token), ("127.0.0.1:8080", None));
    assert_eq!((s.orchestrator.url, s.orchestrator.token), (None, None));
    assert_eq!(s.stream.segment_duration, Duration::from_secs(4));
    assert_eq!((s.stream.cache_max_bytes, s.stream.cache_memory_bytes), (10 << 30, 256 << 20));
}

#[test]
fn slots_follow_the_cores_allowed() {
    for (cores, most, jobs, sessions) in
        [(1, 0, 1, 1), (2, 0, 1, 1), (4, 0, 1, 2), (5, 0, 2, 3), (16, 0, 4, 8), (16, 2, 1, 1), (2, 64, 1, 1)]
    {
        let mut raw = Raw::default();
        raw.limits.max_cpu_cores = most;
        let s = resolve(&raw, &host(cores)).settings;
        assert_eq!((s.limits.max_concurrent_jobs, s.stream.max_sessions), (jobs, sessions), "{cores} {most}");
        assert_eq!(s.limits.max_cpu_cores, most);
    }
    assert_eq!(settings(|raw| raw.limits.max_concurrent_jobs = 9).limits.max_concurrent_jobs, 9);
}

#[test]
fn the_effective_configuration_has_every_choice_in_it() {
    let resolved = resolve(&Raw::default(), &host(6));
    let effective = resolved.effective;
    assert_eq!((effective.node.id.as_str(), effective.limits.max_concurrent_jobs), ("box.local", 2));
    assert_eq!(
        (effective.paths.state.as_str(), effective.paths.output.uri.as_str()),
        ("/data/state", "file:///data/output")
    );
    let noted: Vec<_> = resolved.notes.iter().map(|note| note.path.to_string()).collect();
    assert_eq!(
        noted,
        [
            "node.id",
            "paths.output.local",
            "paths.output.uri",
            "paths.state",
            "limits.max_concurrent_jobs",
            "stream.max_sessions"
        ]
    );
}

#[test]
fn ranges_are_kept() {
    let time = TimeText::new;
    assert_refused(
        |r| r.orchestrator.heartbeat_interval = time("999ms"),
        "orchestrator.heartbeat_interval: must be a length of time from 1s to 1h",
    );
    assert_refused(
        |r| r.stream.segment_duration = time("499ms"),
        "stream.segment_duration: must be a length of time from 500ms to 60s",
    );
    assert_refused(|r| r.stream.segment_duration = time("61s"), "stream.segment_duration");
    assert_refused(|r| r.limits.open_timeout = time("0"), "limits.open_timeout");
    assert_refused(|r| r.limits.output_ttl = time("1ms"), "limits.output_ttl");
    assert_refused(|r| r.limits.history = time("99999999d"), "limits.history");
    assert_refused(|r| r.limits.min_free_disk = SizeText::new("99999999TiB"), "limits.min_free_disk");
    let s = settings(|r| {
        r.stream.segment_duration = time("500ms");
        r.limits.output_ttl = time("1h");
    });
    assert_eq!(s.stream.segment_duration, Duration::from_millis(500));
    assert_eq!(s.limits.output_ttl, Some(Duration::from_secs(3600)));
}

#[test]
fn acceleration_is_a_word_or_a_list() {
    use RawAcceleration::{List, One};
    let of = |a: RawAcceleration| settings(|r| r.hardware.acceleration = a).hardware.acceleration;
    assert_eq!(of(One(AccelerationWord::Off)), Acceleration::Off);
    assert_eq!(of(One(AccelerationWord::Qsv)), Acceleration::List(vec![Device::Qsv]));
    assert_eq!(
        of(List(vec![Device::Nvenc, Device::Vaapi])),
        Acceleration::List(vec![Device::Nvenc, Device::Vaapi])
    );
    let twice = List(vec![Device::Nvenc, Device::Vaapi, Device::Nvenc]);
    assert_refused(
        |r| r.hardware.acceleration = List(vec![]),
        "hardware.acceleration: must name a kind of device, or be off",
    );
    assert_refused(
        |r| r.hardware.acceleration = twice,
        "hardware.acceleration: must name each kind of device once",
    );
}

#[test]
fn names_fit_urls() {
    for bad in [".hidden", "a/b", "a b", "ü", &"x".repeat(65)] {
        assert_refused(|r| r.node.id = bad.into(), "node.id: must be 1 to 64");
        assert_refused(
            |r| r.paths.roots = vec![root(bad, "nas://m", "/m")],
            "paths.roots[0].name: must be 1 to 64",
        );
    }
    assert_refused(|r| r.paths.roots = vec![root("", "nas://m", "/m")], "paths.roots[0].name");
}

#[test]
fn roots_are_told_apart() {
    let two = |one: Root, other: Root| move |r: &mut Raw| r.paths.roots = vec![one, other];
    assert_refused(
        two(root("a", "nas://m", "/m"), root("a", "nas://n", "/n")),
        "paths.roots[1].name: must be unique: paths.roots[0]",
    );
    assert_refused(
        two(root("a", "nas://M/x/", "/m"), root("b", "NAS://m/x", "/n")),
        "paths.roots[1].uri: must be unique: paths.roots[0]",
    );
    assert_refused(two(root("a", "\\\\h\\S", "/m"), root("b", "smb://H/s", "/n")), "paths.roots[1].uri");
    assert_eq!(complaints(two(root("a", "nas://m", "/m"), root("b", "nas://m/sub", "/m/sub"))), [""; 0]);
    assert_refused(
        |r| {
            r.paths.roots = vec![root("a", "nas://m", "/m")];
            r.paths.output = raw::Output { uri: "nas://m".into(), local: "/o".into() };
        },
        "paths.roots[0].uri: must not be paths.output.uri as well, which means /o",
    );
}

#[test]
fn uris_and_local_paths_are_what_they_should_be() {
    for bad in ["", "movies", "C:\\x", "nas:/x"] {
        assert_refused(
            |r| r.paths.roots = vec![root("a", bad, "/m")],
            "paths.roots[0].uri: must be what the network calls",
        );
    }
    assert_refused(
        |r| r.paths.roots = vec![root("a", "nas://m/../x", "/m")],
        "paths.roots[0].uri: must not: it leads upwards",
    );
    assert_refused(
        |r| r.paths.roots = vec![root("a", "smb://u:p@h/s", "/m")],
        "paths.roots[0].uri: must not hold a user name",
    );
    for bad in ["", "m", "~/m", "/m/../x", "/m\0"] {
        assert_refused(
            |r| r.paths.roots = vec![root("a", "nas://m", bad)],
            "paths.roots[0].local: must be an absolute path",
        );
    }
    assert_refused(|r| r.paths.state = "state".into(), "paths.state: must be an absolute path");
    assert_refused(
        |r| r.hardware.vaapi_device = "renderD128".into(),
        "hardware.vaapi_device: must be an absolute path",
    );
    let s = settings(|r| r.paths.roots = vec![root("a", "nas://m", "//m/./x/")]);
    assert_eq!(s.paths.roots[0].local.as_os_str(), "/m/x");
}

#[test]
fn the_journal_is_not_served_and_odd_nesting_is_told() {
    let of = |output: &str, state: &str, local: &str| {
        let mut raw = Raw::default();
        raw.paths.output = raw::Output { uri: "nas://out".into(), local: output.into() };
        raw.paths.state = state.into();
        raw.paths.roots = vec![root("a", "nas://m", local)];
        resolve(&raw, &host(1))
    };
    let refused = of("/o", "/o/state", "/m").complaints;
    assert!(refused.len() == 1 && refused[0].expected.starts_with("must not lie in paths.output.local (/o)"));
    assert_eq!(of("/o", "/o", "/m").complaints.len(), 1);
    for (output, state, local, expected) in [
        ("/s/o", "/s", "/m", 0),
        ("/o", "/o2", "/m", 0),
        ("/m/o", "/s", "/m", 1),
        ("/o", "/s", "/o/m", 1),
        ("/o", "/m/s", "/m", 1),
        ("/o", "/s", "/", 2),
    ] {
        let found = of(output, state, local);
        assert_eq!(
            (found.complaints.len(), found.warnings.len()),
            (0, expected),
            "{output} {:?}",
            found.warnings
        );
    }
}

#[test]
fn an_output_without_a_place_is_chosen_or_asked_for() {
    let mut raw = Raw::default();
    raw.paths.output.uri = "nas://out".into();
    let resolved = resolve(&raw, &host(1));
    assert_eq!(resolved.warnings.len(), 1, "{:?}", resolved.warnings);
    let nowhere = Host { data_folder: None, ..host(1) };
    let found = resolve(&Raw::default(), &nowhere).complaints;
    let keys: Vec<_> = found.iter().map(|c| c.path.to_string()).collect();
    assert_eq!(keys, ["paths.output.local", "paths.state"]);
    raw.paths.output.local = "/a b/ü".into();
    raw.paths.output.uri = String::new();
    assert_eq!(resolve(&raw, &host(1)).settings.paths.output.uri, "file:///a%20b/%C3%BC");
}

#[test]
fn beyond_loopback_a_token_is_needed() {
    for listen in ["0.0.0.0:8080", "[::]:8080", "192.168.0.2:80", "[::ffff:10.0.0.1]:1"] {
        assert_refused(
            |r| r.http.listen = listen.into(),
            "http.control_token: must be set, since http.listen",
        );
        let s = settings(|r| {
            r.http.listen = listen.into();
            r.http.control_token = Secret::new("abc");
        });
        assert!(s.http.control_token.unwrap().matches(b"abc"));
    }
    for listen in ["127.0.0.1:0", "127.8.8.8:80", "[::1]:8080", "[::ffff:127.0.0.1]:1"] {
        assert_eq!(settings(|r| r.http.listen = listen.into()).http.control_token, None);
    }
    for bad in ["", "8080", ":8080", "localhost:8080", "127.0.0.1", "127.0.0.1:99999"] {
        assert_refused(|r| r.http.listen = bad.into(), "http.listen: must be an address and a port");
    }
}

#[test]
fn tokens_come_from_one_place_and_fit_a_header() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| -> String {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().into()
    };
    let (good, empty, bad) = (file("good", "  s3cret\n"), file("empty", "\n"), file("bad", "a b\n"));
    let s = settings(|r| r.http.control_token_file = good.clone());
    assert_eq!(s.http.control_token.unwrap().expose(), "s3cret");
    assert_refused(
        |r| r.http.control_token_file = empty,
        "http.control_token_file: must be a file with the token in it: this one is empty",
    );
    assert_refused(|r| r.http.stream_token_file = bad, "http.stream_token_file: must be printable ASCII");
    assert_refused(
        |r| r.orchestrator.token_file = "/none/token".into(),
        "orchestrator.token_file: must be a file with the token in it: this one cannot be read",
    );
    assert_refused(
        |r| r.http.control_token = Secret::new("a\nb"),
        "http.control_token: must be printable ASCII",
    );
    assert_refused(
        |r| {
            r.http.listen = "0.0.0.0:1".into();
            r.http.control_token = Secret::new("x");
            r.http.control_token_file = good;
        },
        "http.control_token_file: must be left out when http.control_token is set",
    );
}

#[test]
fn origins_and_addresses_are_well_formed() {
    let origins = |list: &[&str]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
    for good in
        [&["*"][..], &[], &["https://tv.example", "http://10.0.0.2:3000", "http://[::1]:80", "app://x"]]
    {
        assert_eq!(settings(|r| r.http.cors_origins = origins(good)).http.cors_origins, origins(good));
    }
    for bad in [
        "tv.example",
        "https://tv.example/",
        "https://tv.example/x",
        "HTTPS://x",
        "https://",
        "https://u@h",
        "null",
        "http://h:0",
        "http://[::1",
        "http://h:+1",
    ] {
        assert_refused(
            |r| r.http.cors_origins = origins(&["http://a", bad]),
            "http.cors_origins[1]: must be an origin",
        );
    }
    assert_refused(|r| r.http.cors_origins = origins(&["*", "http://a"]), "http.cors_origins[0]");
    for (good, expected) in
        [("http://o:9000/", "http://o:9000"), ("HTTPS://o.example/a/b", "HTTPS://o.example/a/b")]
    {
        assert_eq!(settings(|r| r.orchestrator.url = good.into()).orchestrator.url.unwrap(), expected);
    }
    for bad in [
        "o:9000",
        "ftp://o",
        "http://",
        "http://u:p@o",
        "http://o?x",
        "http://o/a b",
        "http://o/#",
        "http://o:99999",
    ] {
        assert_refused(
            |r| r.orchestrator.url = bad.into(),
            "orchestrator.url: must be an http:// or https:// address",
        );
    }
}

#[test]
fn a_token_without_an_orchestrator_is_odd() {
    let mut raw = Raw::default();
    raw.orchestrator.token = Secret::new("x");
    assert_eq!(resolve(&raw, &host(1)).warnings.len(), 1);
    assert_eq!(PathBuf::from("/data/output"), resolve(&raw, &host(1)).settings.paths.output.local);
}
