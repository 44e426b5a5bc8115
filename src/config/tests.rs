//! The whole way from files and variables to settings or faults.

use super::*;
use crate::config::settings::{Acceleration, LogFormat, SegmentType};
use proptest::prelude::*;
use std::fs;
use std::time::Duration;

const EXAMPLE: &str = include_str!("../../config/sprocket.example.yaml");

struct Machine {
    folder: tempfile::TempDir,
    host: Host,
}

impl Machine {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let host = Host {
            name: "box".into(),
            cores: 4,
            working_folder: folder.path().to_owned(),
            system_file: folder.path().join("etc.yaml"),
            data_folder: Some("/data".into()),
        };
        Self { folder, host }
    }

    /// With this as `./sprocket.yaml`.
    fn with_file(text: &str) -> Self {
        let machine = Self::new();
        fs::write(machine.folder.path().join("sprocket.yaml"), text).unwrap();
        machine
    }

    fn load(&self, env: &[(&str, &str)]) -> Result<Loaded, Vec<String>> {
        let env: Vec<(OsString, OsString)> = env.iter().map(|(k, v)| (k.into(), v.into())).collect();
        load_on(&self.host, None, &env).map_err(|faults| faults.iter().map(ToString::to_string).collect())
    }
}

fn loaded(text: &str, env: &[(&str, &str)]) -> Loaded {
    Machine::with_file(text).load(env).unwrap_or_else(|faults| panic!("{faults:#?}"))
}

fn faults(text: &str, env: &[(&str, &str)]) -> Vec<String> {
    Machine::with_file(text).load(env).expect_err("it has faults")
}

#[test]
fn nothing_at_all_is_enough() {
    let loaded = Machine::new().load(&[]).unwrap();
    assert_eq!((loaded.file, loaded.warnings), (None, vec![]));
    assert_eq!(loaded.settings.limits.max_queued_jobs, 8);
    // The public way in, on whatever machine this is.
    let here = load(Some(Path::new("/dev/null")), std::iter::empty(), Path::new("/"));
    assert!(
        here.unwrap_err()[0]
            .to_string()
            .starts_with("/dev/null: the configuration file is not a regular file")
    );
}

#[test]
fn the_environment_wins_over_the_file_and_the_file_over_the_defaults() {
    let file = "limits: { max_queued_jobs: 3, max_cpu_cores: 2 }\nhttp:\n  cors_origins: [\"http://a\", \"http://b\"]\nnode:\n  tags: { site: home, floor: 1 }\n";
    let env = [
        ("SPROCKET_LIMITS__MAX_QUEUED_JOBS", "5"),
        ("SPROCKET_HTTP__CORS_ORIGINS", "[http://c]"),
        ("SPROCKET_NODE__TAGS", "{floor: 2, room: x}"),
        ("SPROCKET_NODE__TAGS__ROOM", "attic"),
        ("SPROCKET_STREAM", "{segment_type: fmp4, read_ahead: 2}"),
        ("SPROCKET_STREAM__READ_AHEAD", "9"),
        ("SPROCKET_HARDWARE__ACCELERATION", "[nvenc, vaapi]"),
        ("SPROCKET_LIMITS__HISTORY", "2h"),
    ];
    let s = loaded(file, &env).settings;
    assert_eq!((s.limits.max_queued_jobs, s.limits.max_cpu_cores), (5, 2));
    assert_eq!(s.http.cors_origins, ["http://c"], "a list replaces");
    let tags: Vec<_> = s.node.tags.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    assert_eq!(tags, [("floor", "2"), ("room", "attic"), ("site", "home")], "a map is merged");
    assert_eq!((s.stream.segment_type, s.stream.read_ahead), (SegmentType::Fmp4, 9));
    assert!(matches!(s.hardware.acceleration, Acceleration::List(list) if list.len() == 2));
    assert_eq!(s.limits.history, Duration::from_secs(7200));
    assert_eq!((s.limits.open_timeout, s.log.format), (Duration::from_secs(15), LogFormat::Text));
}

#[test]
fn every_fault_is_told_at_once_with_its_source() {
    let file = "limits:\n  max_queued_jobs: -1\n  max_jobs: 4\n  open_timeout: 15\npaths:\n  roots:\n    - name: a\n      uri: nas://a\n      local: mnt\n    - { name: a, uri: 7:7 }\nhttp:\n  listen: 0.0.0.0:8080\n";
    let env = [
        ("SPROCKET_LIMITS__MAX_CPU_CORES", "many"),
        ("SPROCKET_LIMITS__STALL_TIMEOUT", "1ms"),
        ("SPROCKET_HTTP__LISTENS", "x"),
        ("SPROCKET_STREAM", "{segment_type: mov"),
    ];
    let found = faults(file, &env);
    let begins = [
        "limits.max_queued_jobs = -1 (sprocket.yaml:2): must be a whole number from 0 to 100000",
        "limits.max_jobs = 4 (sprocket.yaml:3): is an unknown key: those in limits are history, ",
        "limits.open_timeout = 15 (sprocket.yaml:4): must be a length of time with its unit",
        "paths.roots[0].local = mnt (sprocket.yaml:9): must be an absolute path",
        "paths.roots[1].local (sprocket.yaml:10): is missing: must be a text",
        "paths.roots[1].name = a (sprocket.yaml:10): must be unique: paths.roots[0] has this name too",
        "paths.roots[1].uri = 7:7 (sprocket.yaml:10): must be what the network calls the folder: ",
        "http.listens (SPROCKET_HTTP__LISTENS): is an unknown key: those in http are ",
        "limits.max_cpu_cores = many (SPROCKET_LIMITS__MAX_CPU_CORES): must be a whole number from 0 to 4096",
        "limits.stall_timeout = 1ms (SPROCKET_LIMITS__STALL_TIMEOUT): must be a length of time from 100ms to 1d",
        "stream (SPROCKET_STREAM): is not valid YAML: ",
        "http.control_token = \"\" (default): must be set, since http.listen (0.0.0.0:8080)",
    ];
    assert_eq!(found.len(), begins.len(), "{found:#?}");
    for (fault, begin) in found.iter().zip(begins) {
        assert!(fault.starts_with(begin), "{fault}\n{begin}");
    }
}

#[test]
fn where_a_text_belongs_numbers_are_texts() {
    let file =
        "node:\n  id: 42\n  tags: { on: yes, at: 12:30, n: 007, t: true }\nhttp:\n  control_token: 0123456\n";
    let s = loaded(file, &[("SPROCKET_HTTP__STREAM_TOKEN", "{not:yaml")]).settings;
    assert_eq!(s.node.id, "42");
    let tags: Vec<_> = s.node.tags.iter().map(|(k, v)| format!("{k}={v}")).collect();
    assert_eq!(tags, ["at=12:30", "n=007", "on=yes", "t=true"]);
    assert_eq!(s.http.control_token.unwrap().expose(), "0123456");
    assert!(matches!(s.http.stream_token, Some(token) if token.expose() == "{not:yaml"), "to the letter");
}

#[test]
fn secrets_are_never_shown() {
    let file = "http:\n  control_token: hunter2\n  control_tokn: hunter2\n  stream_token: \"hunter2 hunter2\"\norchestrator:\n  url: http://me:hunter2/x@host\n  token: [hunter2]\nlog:\n  file: { password: hunter2 }\n";
    let found = faults(file, &[("SPROCKET_HTTP__API_KEY", "hunter2"), ("SPROCKET_PATHS", "hunter2")]);
    assert!(found.len() >= 7, "{found:#?}");
    assert!(found.iter().all(|fault| !fault.contains("hunter2")), "{found:#?}");
    assert!(
        found
            .iter()
            .any(|fault| fault.starts_with("http.control_tokn = *** (sprocket.yaml:3): is an unknown key"))
    );
    let loaded = loaded("http:\n  control_token: hunter2\n", &[("SPROCKET_ORCHESTRATOR__TOKEN", "hunter2")]);
    assert!(!loaded.to_yaml().contains("hunter2") && !format!("{loaded:?}").contains("hunter2"));
    assert!(
        loaded.to_yaml().contains("  control_token: \"***\"  # sprocket.yaml:2\n"),
        "{}",
        loaded.to_yaml()
    );
}

#[test]
fn empty_sections_set_nothing_and_empty_values_are_refused() {
    let loaded =
        loaded("http:\nlimits:\n  # max_queued_jobs: 3\npaths: { output: }\n", &[("SPROCKET_STREAM", "")]);
    assert_eq!(loaded.settings.limits.max_queued_jobs, 8);
    let found =
        faults("limits:\n  max_queued_jobs:\npaths:\n  roots:\n", &[("SPROCKET_STREAM__READ_AHEAD", "")]);
    assert_eq!(
        found,
        [
            "limits.max_queued_jobs = nothing (sprocket.yaml:2): must be a whole number from 0 to 100000",
            "paths.roots = nothing (sprocket.yaml:4): must be a list ([] for an empty one)",
            "stream.read_ahead = nothing (SPROCKET_STREAM__READ_AHEAD): must be a whole number from 0 to 1000",
        ]
    );
}

#[test]
fn broken_files_are_named_with_their_line_and_hide_no_fault_elsewhere() {
    let env = [("SPROCKET_LIMITS__NO", "1")];
    let found = faults("http:\n  listen: 0.0.0.0:80\n limits: 1\n", &env);
    assert!(found.len() == 2 && found[0].starts_with("sprocket.yaml:3: is not valid YAML: "), "{found:#?}");
    assert!(found[1].starts_with("limits.no (SPROCKET_LIMITS__NO)"));
    // The token may well stand in the file.
    let found = faults("http: [\n", &[("SPROCKET_HTTP__LISTEN", "0.0.0.0:80")]);
    assert!(found.len() == 1 && found[0].starts_with("sprocket.yaml:"), "{found:#?}");
    assert_eq!(
        faults("log:\n  level: info\n  level: warn\n", &[]),
        ["log.level (sprocket.yaml:3): is given twice: the first one stands on line 2"]
    );
    assert_eq!(faults("- a\n", &[]), ["sprocket.yaml:1: is not valid YAML: the top must be a map"]);
    assert_eq!(faults("just text\n", &[]), ["sprocket.yaml:1: is not valid YAML: the top must be a map"]);
    let missing = load_on(&Machine::new().host, Some(Path::new("no.yaml")), &[]).unwrap_err();
    assert!(missing[0].to_string().starts_with("no.yaml: the configuration file cannot be read: "));
}

#[test]
fn numbers_beyond_all_bounds_are_refused_as_written() {
    let found = faults(
        "limits: { max_queued_jobs: 340282366920938463463374607431768211456, max_cpu_cores: 18446744073709551616 }\n",
        &[],
    );
    assert!(
        found[0].starts_with("limits.max_cpu_cores = 18446744073709551616 (sprocket.yaml:1): must be"),
        "{found:#?}"
    );
    assert!(
        found[1].starts_with("limits.max_queued_jobs = 340282366920938463463374607431768211456 ("),
        "{found:#?}"
    );
}

#[test]
fn what_is_printed_says_where_each_value_came_from() {
    let file =
        "node: { id: tv }\npaths:\n  roots:\n    - name: movies\n      uri: nas://m\n      local: /m\n";
    let text =
        loaded(file, &[("SPROCKET_LIMITS__MAX_QUEUED_JOBS", "3"), ("SPROCKET_NODE__TAGS__SITE", "a b")])
            .to_yaml();
    let begin = "node:\n  id: tv  # sprocket.yaml:1\n  tags:\n    site: \"a b\"  # SPROCKET_NODE__TAGS__SITE\npaths:\n  \
                 roots:\n    - name: movies  # sprocket.yaml:4\n      uri: nas://m  # sprocket.yaml:5\n      \
                 local: /m  # sprocket.yaml:6\n  output:\n    uri: file:///data/output  # default: from paths.output.local\n    \
                 local: /data/output  # default: by what may be written\n  state: /data/state  # default: by what may be \
                 written\nlimits:\n  max_concurrent_jobs: 1  # default: from the cores allowed\n  max_queued_jobs: 3  # \
                 SPROCKET_LIMITS__MAX_QUEUED_JOBS\n  max_cpu_cores: 0  # default\n";
    assert!(text.starts_with(begin), "{text}\n---\n{begin}");
    assert!(text.contains("  cors_origins:\n    - \"*\"  # default\n"), "{text}");
}

#[test]
fn the_example_equals_the_defaults_and_has_every_key() {
    let schema = Schema::new();
    let mut layers = Layers::new(&schema).unwrap();
    let defaults = layers.tree();
    assert_eq!(layers.merge_file("example", EXAMPLE), []);
    assert_eq!(layers.check(&layers.tree()).unwrap(), []);
    let raw: Raw = serde_json::from_value(layers.tree()).unwrap();
    assert_eq!((layers.tree(), raw), (defaults, Raw::default()));
    let missing: Vec<_> = render::paths(&Raw::default())
        .into_iter()
        .filter(|path| !matches!(layers.origin(path), Origin::File { line: Some(_), .. }))
        .collect();
    // A key that the example left out would come from the defaults.
    assert_eq!(missing, []);
    let roots = schema.at(&KeyPath::dotted("paths.roots").index(0)).unwrap();
    for key in roots["properties"].as_object().unwrap().keys() {
        assert!(EXAMPLE.contains(&format!("{key}: ")), "a root's {key} is explained");
    }
}

#[test]
fn every_key_of_the_example_has_a_comment_above_it() {
    let lines: Vec<_> = EXAMPLE.lines().collect();
    for (place, line) in lines.iter().enumerate() {
        let is_key =
            line.starts_with("  ") && !line.trim_start().starts_with(['#', '-']) && line.contains(':');
        assert!(!is_key || lines[place - 1].trim_start().starts_with('#'), "no comment above: {line}");
    }
}

#[test]
fn every_kind_of_value_of_the_example_section_can_come_from_the_environment() {
    // Each leaf of the defaults, given as a variable, is taken and changes nothing.
    let schema = Schema::new();
    let tree = Layers::new(&schema).unwrap().tree();
    for path in render::paths(&Raw::default()) {
        let name = format!("SPROCKET_{}", path.to_string().to_uppercase().replace('.', "__"));
        if name.contains('[') {
            continue;
        }
        let value = match layers::at(&tree, &path).unwrap() {
            Json::String(text) => text.clone(),
            other => other.to_string(),
        };
        let loaded =
            Machine::new().load(&[(&name, &value)]).unwrap_or_else(|faults| panic!("{name}: {faults:#?}"));
        let origin =
            loaded.origins.iter().find(|(other, _)| *other == path).map(|(_, origin)| origin.to_string());
        assert_eq!(origin, Some(name));
        assert_eq!(loaded.settings, Machine::new().load(&[]).unwrap().settings);
    }
}

proptest! {
    #[test]
    fn what_is_printed_loads_to_the_same(
        id in "[A-Za-z0-9_-]{1,12}",
        tags in proptest::collection::btree_map("[a-z: #\"'{}é\\n-]{1,6}", "\\PC{0,12}", 0..3),
        jobs in 0..=1024_u32,
        ttl in prop_oneof![Just("0"), Just("1s"), Just("1d2h")],
        origins in proptest::collection::vec("http://[a-z]{1,5}", 0..3),
    ) {
        let env: Vec<(OsString, OsString)> = vec![
            ("SPROCKET_NODE__ID".into(), id.into()),
            ("SPROCKET_NODE__TAGS".into(), serde_json::to_string(&tags).unwrap().into()),
            ("SPROCKET_LIMITS__MAX_CONCURRENT_JOBS".into(), jobs.to_string().into()),
            ("SPROCKET_LIMITS__OUTPUT_TTL".into(), ttl.into()),
            ("SPROCKET_HTTP__CORS_ORIGINS".into(), serde_json::to_string(&origins).unwrap().into()),
        ];
        let machine = Machine::new();
        let first = load_on(&machine.host, None, &env).unwrap();
        prop_assert_eq!(&first.settings.node.tags, &tags);
        let again = Machine::with_file(&first.to_yaml()).load(&[]).unwrap();
        prop_assert_eq!(first.settings, again.settings);
    }

    #[test]
    fn no_file_and_no_variable_panics(text in "[a-z:\\n -]{0,40}", name in "[A-Z_]{0,20}", value in "\\PC{0,20}") {
        let machine = Machine::with_file(&format!("limits: {text}\n"));
        let _ = machine.load(&[(&format!("SPROCKET_{name}"), &value)]);
    }
}
