//! `sprocket doctor` as an operator meets it: a line for each check, what to do, the exit code.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A folder with a root that holds a file, an output, a state folder, and a configuration of them.
struct Place {
    folder: TempDir,
    /// Lines under `http:`, and further sections.
    http: String,
    more: String,
}

struct Said {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for name in ["root", "output", "state"] {
            fs::create_dir(folder.path().join(name)).expect("a folder");
        }
        fs::write(folder.path().join("root/film.mkv"), b"film").expect("a small file");
        Self { folder, http: "  listen: 127.0.0.1:0\n".into(), more: String::new() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn config(&self) -> PathBuf {
        let [root, output, state] =
            ["root", "output", "state"].map(|name| self.path(name).display().to_string());
        let text = format!(
            "paths:\n  roots:\n    - {{ name: tv, uri: 'nas://tv', local: {root} }}\n  output: {{ local: {output} }}\n  \
             state: {state}\nlimits:\n  min_free_disk: 1MiB\nhttp:\n{}{}",
            self.http, self.more
        );
        let file = self.path("sprocket.yaml");
        fs::write(&file, text).expect("a small file");
        file
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sprocket"));
        let ours = std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("SPROCKET_"));
        for (name, _) in ours {
            command.env_remove(name);
        }
        command.args(arguments).current_dir(self.folder.path()).env("HOME", self.folder.path());
        command.env_remove("XDG_STATE_HOME").env("NO_COLOR", "1");
        command
    }

    fn doctor(&self, env: &[(&str, &str)]) -> Said {
        let config = self.config();
        let mut command = self.command(&["doctor", "--config", config.to_str().expect("a plain path")]);
        let Output { status, stdout, stderr } =
            command.envs(env.iter().copied()).output().expect("it starts");
        let text = |bytes| String::from_utf8(bytes).expect("it speaks UTF-8");
        Said { code: status.code(), stdout: text(stdout), stderr: text(stderr) }
    }

    /// Every name below the folder.
    fn names(&self) -> Vec<PathBuf> {
        let mut names = Vec::new();
        let mut folders = vec![self.folder.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry")) {
                names.push(entry.path());
                folders.extend(entry.path().is_dir().then(|| entry.path()));
            }
        }
        names.sort();
        names
    }
}

impl Said {
    /// The line about `what`, and the one below it that says what to do.
    #[track_caller]
    fn about(&self, what: &str) -> (&str, &str) {
        let mut lines = self.stdout.lines();
        let found =
            lines.find(|line| line.get(6..).is_some_and(|rest| rest.starts_with(&format!("{what}: "))));
        let line = found.unwrap_or_else(|| panic!("nothing about {what} in:\n{}", self.stdout));
        (line, lines.next().filter(|next| next.starts_with("      ")).unwrap_or_default())
    }

    /// Only `what` has failed, and it is said how to mend it.
    #[track_caller]
    fn fails(&self, what: &str) -> (&str, &str) {
        let (line, mend) = self.about(what);
        assert!(line.starts_with("fail  ") && !mend.is_empty(), "{}", self.stdout);
        let failed = self.stdout.lines().filter(|line| line.starts_with("fail  ")).count();
        assert_eq!((self.code, failed), (Some(1), 1), "{}{}", self.stdout, self.stderr);
        assert!(
            self.stderr.contains("error: 1 of ") && self.stderr.contains("[checks_failed"),
            "{}",
            self.stderr
        );
        (line, mend)
    }
}

#[test]
fn a_machine_in_order_passes_and_nothing_is_left_behind() {
    let place = Place::new();
    place.config();
    let before = place.names();
    let said = place.doctor(&[]);
    assert_eq!((said.code, said.stderr.as_str()), (Some(0), ""), "{}", said.stdout);
    assert_eq!(place.names(), before);
    for what in ["configuration", "user", "clock", "libav", "encoders", "hardware", "open files", "threads"] {
        let (line, mend) = said.about(what);
        assert_eq!(line.starts_with("ok "), mend.is_empty(), "{line}\n{mend}");
    }
    for what in ["root tv", "output", "output, free space", "state", "state, lock", "address", "orchestrator"]
    {
        assert!(said.about(what).0.starts_with("ok    "), "{}", said.stdout);
    }
    for line in said.stdout.lines() {
        assert!(["ok    ", "warn  ", "      "].iter().any(|begin| line.starts_with(begin)), "{line}");
    }
}

#[test]
fn each_failure_is_named_with_what_mends_it() {
    let place = Place::new();
    fs::remove_dir_all(place.path("root")).expect("it is there");
    let said = place.doctor(&[]);
    let (line, mend) = said.fails("root tv");
    assert!(
        line.contains(&place.path("root").display().to_string()) && mend.contains("paths.roots"),
        "{line}"
    );

    let place = Place::new();
    fs::remove_dir(place.path("output")).expect("it is empty");
    fs::write(place.path("output"), b"").expect("a small file");
    assert!(place.doctor(&[]).fails("output").1.contains("paths.output"));

    let said = Place::new().doctor(&[("SPROCKET_LIMITS__MIN_FREE_DISK", "1000000GiB")]);
    assert!(said.fails("output, free space").1.contains("min_free_disk"), "{}", said.stdout);

    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let said = Place::new().doctor(&[("SPROCKET_HTTP__LISTEN", &address)]);
    assert!(said.fails("address").0.contains(&address));

    let said = Place::new().doctor(&[("SPROCKET_MASK_ENCODERS", "aac")]);
    assert!(said.fails("encoders").0.contains("none for AAC"), "{}", said.stdout);
}

#[test]
fn an_orchestrator_that_is_away_fails_and_one_that_says_nothing_does_within_seconds() {
    let gone = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let said = Place::new().doctor(&[("SPROCKET_ORCHESTRATOR__URL", &format!("http://{gone}"))]);
    said.fails("orchestrator");
    let mute = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", mute.local_addr().expect("an address"));
    let began = Instant::now();
    let said = Place::new().doctor(&[("SPROCKET_ORCHESTRATOR__URL", &url)]);
    said.fails("orchestrator");
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
}

#[test]
fn a_configuration_that_cannot_be_loaded_is_no_report() {
    let place = Place { http: "  listen: nowhere\n  port: 1\n".into(), ..Place::new() };
    let said = place.doctor(&[]);
    assert_eq!((said.code, said.stdout.as_str()), (Some(2), ""), "{}", said.stderr);
    assert!(said.stderr.contains("bad_config") && said.stderr.contains("http.listen"), "{}", said.stderr);
    let beyond = Place::new().doctor(&[("SPROCKET_HTTP__LISTEN", "0.0.0.0:0")]);
    assert_eq!(beyond.code, Some(2));
    assert!(beyond.stderr.contains("http.control_token"), "{}", beyond.stderr);
}

#[test]
fn tokens_are_not_printed() {
    let place = Place::new();
    let env = [("SPROCKET_HTTP__CONTROL_TOKEN", "hunter2"), ("SPROCKET_ORCHESTRATOR__TOKEN", "hunter2")];
    let url = [("SPROCKET_ORCHESTRATOR__URL", "http://127.0.0.1:1"), env[0], env[1]];
    let said = place.doctor(&url);
    assert!(!said.stdout.contains("hunter2") && !said.stderr.contains("hunter2"), "{}", said.stdout);
}

#[test]
fn beside_a_node_at_work_it_warns_and_disturbs_nothing() {
    let mut place = Place::new();
    let Some(mut node) = Running::start(&place) else { return };
    place.http = format!("  listen: {}\n", node.address);
    let said = place.doctor(&[]);
    assert_eq!(said.code, Some(0), "{}{}", said.stdout, said.stderr);
    assert!(said.about("address").0.starts_with("warn  "), "{}", said.stdout);
    if Path::new("/proc/locks").exists() {
        let (line, _) = said.about("state, lock");
        assert!(line.starts_with("warn  ") && line.contains(&node.process.id().to_string()), "{line}");
    }
    assert!(node.process.try_wait().expect("it can be asked").is_none(), "the node still runs");
}

/// A node on the folders of a place, ended when this is dropped.
struct Running {
    process: Child,
    address: String,
}

impl Running {
    /// `None` where the program cannot serve.
    fn start(place: &Place) -> Option<Self> {
        let config = place.config();
        let help = place.command(&["serve", "--help"]).output().expect("it starts");
        if !help.status.success() {
            eprintln!("skipped: this program has no `serve`");
            return None;
        }
        let mut command = place.command(&["serve", "--config", config.to_str().expect("a plain path")]);
        let mut process = command.stderr(Stdio::piped()).spawn().expect("it starts");
        let log = BufReader::new(process.stderr.take().expect("a pipe"));
        let address = log.lines().map_while(Result::ok).find_map(|line| {
            let (_, rest) = line.split_once("listening on http://")?;
            rest.split_whitespace().next().map(str::to_owned)
        });
        Some(Self { process, address: address.expect("it listens") })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
