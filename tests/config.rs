//! `sprocket config` as an operator meets it: what wins, what is refused, what is printed.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use tempfile::TempDir;

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/config/sprocket.example.yaml");

/// A working folder and a home of the test's own.
struct Place(TempDir);

struct Said {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder"))
    }

    fn with(self, name: &str, text: &str) -> Self {
        fs::write(self.0.path().join(name), text).expect("a small file");
        self
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Runs `sprocket config` here, with no `SPROCKET_` variables but these.
    fn config(&self, arguments: &[&str], env: &[(&str, &str)]) -> Said {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sprocket"));
        for (name, _) in
            std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("SPROCKET_"))
        {
            command.env_remove(name);
        }
        command.arg("config").args(arguments).current_dir(self.path()).envs(env.iter().copied());
        command.env("HOME", self.path()).env_remove("XDG_STATE_HOME").env("NO_COLOR", "1");
        let Output { status, stdout, stderr } = command.output().expect("the program starts");
        let text = |bytes| String::from_utf8(bytes).expect("it speaks UTF-8");
        Said { code: status.code(), stdout: text(stdout), stderr: text(stderr) }
    }
}

impl Said {
    #[track_caller]
    fn fine(self) -> String {
        assert_eq!(self.code, Some(0), "{}", self.stderr);
        self.stdout
    }

    #[track_caller]
    fn refused(self, faults: usize) -> String {
        assert_eq!((self.code, self.stdout.as_str()), (Some(2), ""), "{}", self.stderr);
        let lines = self.stderr.lines().filter(|line| line.starts_with("  ")).count();
        assert_eq!(lines, faults, "{}", self.stderr);
        assert!(self.stderr.contains("bad_config"), "{}", self.stderr);
        self.stderr
    }
}

#[track_caller]
fn assert_line(text: &str, line: &str) {
    assert!(text.lines().any(|l| l == line), "no line {line:?} in:\n{text}");
}

#[test]
fn it_runs_with_nothing_at_all() {
    let said = Place::new().config(&[], &[]);
    assert_eq!(said.stderr, "");
    let text = said.fine();
    assert_line(&text, "  listen: 127.0.0.1:8080  # default");
    assert_line(&text, "  max_queued_jobs: 8  # default");
    assert_line(&text, "  roots: []  # default");
    assert_eq!(
        text.lines().filter(|line| !line.ends_with(':') && !line.contains("  # ")).count(),
        0,
        "{text}"
    );
}

#[test]
fn a_variable_wins_over_the_file_and_the_file_over_the_default() {
    let place = Place::new().with("sprocket.yaml", "limits:\n  max_queued_jobs: 3\n  max_cpu_cores: 2\n");
    let text = place.config(&[], &[("SPROCKET_LIMITS__MAX_QUEUED_JOBS", "4")]).fine();
    assert_line(&text, "  max_queued_jobs: 4  # SPROCKET_LIMITS__MAX_QUEUED_JOBS");
    assert_line(&text, "  max_cpu_cores: 2  # sprocket.yaml:3");
    assert_line(&text, "  min_free_disk: 2GiB  # default");
}

#[test]
fn the_file_is_the_one_that_was_asked_for() {
    let id = |id: &str| format!("node:\n  id: {id}\n");
    let place =
        Place::new().with("sprocket.yaml", &id("here")).with("a.yaml", &id("a")).with("b.yaml", &id("b"));
    let env = [("SPROCKET_CONFIG", "b.yaml")];
    assert_line(&place.config(&[], &[]).fine(), "  id: here  # sprocket.yaml:2");
    assert_line(&place.config(&[], &env).fine(), "  id: b  # b.yaml:2");
    assert_line(&place.config(&["--config", "a.yaml"], &env).fine(), "  id: a  # a.yaml:2");
    let stderr = place.config(&["--config", "no.yaml"], &env).refused(1);
    assert!(stderr.contains("  no.yaml: the configuration file cannot be read: "), "{stderr}");
}

#[test]
fn every_fault_is_told_at_once_with_its_source_and_line() {
    let file = "limits:\n  max_queued_jobs: -1\n  open_timeout: 15\nhtpp:\n  listen: x\nhttp:\n  listen: 0.0.0.0:8080\n";
    let place = Place::new().with("sprocket.yaml", file);
    let stderr = place
        .config(&[], &[("SPROCKET_STREAM__SEGMENT_TYPE", "mov"), ("SPROCKET_STREAM__SEGMENTS", "1")])
        .refused(6);
    for begin in [
        "  limits.max_queued_jobs = -1 (sprocket.yaml:2): must be a whole number from 0 to 100000",
        "  limits.open_timeout = 15 (sprocket.yaml:3): must be a length of time with its unit",
        "  htpp = a map (sprocket.yaml:4): is an unknown key: those at the top are ",
        "  stream.segment_type = mov (SPROCKET_STREAM__SEGMENT_TYPE): must be one of ts, fmp4",
        "  stream.segments (SPROCKET_STREAM__SEGMENTS): is an unknown key: those in stream are ",
        "  http.control_token = \"\" (default): must be set, since http.listen (0.0.0.0:8080) is reachable",
    ] {
        assert!(stderr.lines().any(|line| line.starts_with(begin)), "{stderr}\n{begin}");
    }
}

#[test]
fn broken_yaml_names_file_and_line() {
    let place = Place::new().with("sprocket.yaml", "node:\n  id: [a\nhttp: {}\n");
    let stderr = place.config(&[], &[]).refused(1);
    assert!(stderr.contains("  sprocket.yaml:3: is not valid YAML: "), "{stderr}");
}

#[test]
fn names_that_a_platform_injects_only_warn() {
    let place = Place::new();
    let said = place.config(&[], &[("SPROCKET_PORT_8080_TCP", "tcp://10.0.0.1"), ("SPROCKET_TEST_X", "1")]);
    let stderr = said.stderr.clone();
    said.fine();
    assert!(stderr.contains("SPROCKET_PORT_8080_TCP") && !stderr.contains("SPROCKET_TEST_X"), "{stderr}");
}

#[test]
fn a_section_or_a_list_in_a_variable_is_yaml() {
    let env = [
        ("SPROCKET_PATHS", "{roots: [{name: tv, uri: 'nas://tv', local: /mnt/tv}]}"),
        ("SPROCKET_HTTP__CORS_ORIGINS", "[\"https://tv.example\"]"),
    ];
    let text = Place::new().config(&[], &env).fine();
    assert_line(&text, "    - name: tv  # SPROCKET_PATHS");
    assert_line(&text, "      local: /mnt/tv  # SPROCKET_PATHS");
    assert_line(&text, "    - https://tv.example  # SPROCKET_HTTP__CORS_ORIGINS");
}

#[test]
fn secrets_stay_secret() {
    let place = Place::new().with("token", "from-a-file\n");
    let file = place.path().join("token");
    let env = [
        ("SPROCKET_HTTP__LISTEN", "0.0.0.0:8080"),
        ("SPROCKET_HTTP__CONTROL_TOKEN_FILE", file.to_str().expect("a plain path")),
        ("SPROCKET_HTTP__STREAM_TOKEN", "hunter2"),
    ];
    let text = place.config(&[], &env).fine();
    assert_line(&text, "  stream_token: \"***\"  # SPROCKET_HTTP__STREAM_TOKEN");
    assert!(!text.contains("hunter2") && !text.contains("from-a-file"), "{text}");
    let stderr = place.config(&[], &[("SPROCKET_ORCHESTRATOR__TOKEN", "hunter 2")]).refused(1);
    assert!(stderr.contains("orchestrator.token = *** (") && !stderr.contains("hunter"), "{stderr}");
}

#[test]
fn the_example_changes_nothing_and_what_is_printed_can_be_loaded() {
    let place = Place::new();
    let values = |text: &str| -> Vec<String> {
        text.lines().map(|line| line.split("  # ").next().unwrap_or_default().to_string()).collect()
    };
    let bare = place.config(&[], &[]).fine();
    let example = place.config(&["--config", EXAMPLE], &[]).fine();
    assert_eq!(values(&bare), values(&example));
    assert!(example.contains("sprocket.example.yaml:"), "{example}");
    let place = place.with("printed.yaml", &bare);
    assert_eq!(values(&place.config(&["--config", "printed.yaml"], &[]).fine()), values(&bare));
}
