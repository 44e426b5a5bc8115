//! The node under test: a real `sprocket serve` in a process of its own, and a client that talks to it
//! over its socket.
//!
//! What enters: what a test wants configured. What leaves: answers as they came over the wire, what the
//! process says on stderr, what it holds (memory, threads, descriptors) and what it leaves on the disk.
//! Nothing here waits without a limit, and a test that fails shows the node's last words.

pub mod answer;
pub mod films;
pub mod orchestrator;
pub mod sse;

pub use answer::Answer;
pub use orchestrator::Orchestrator;
pub use sse::Follow;

use crate::support::run;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// Far above what anything here needs on a busy machine.
pub const LIMIT: Duration = Duration::from_secs(60);
/// The contract's limit for the end of the process after SIGTERM.
const STOP_LIMIT: Duration = Duration::from_secs(5);
/// What a restart may take: the listening socket is there by then.
const START_LIMIT: Duration = Duration::from_secs(30);
/// How often a condition is looked at that nothing tells of.
const LOOK: Duration = Duration::from_millis(20);
/// Lines of stderr that a failed test shows.
const LAST_WORDS: usize = 60;

/// The client's runtime, shared by the tests of a binary.
pub fn runtime() -> &'static Runtime {
    static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(2).enable_all().build().expect("a runtime")
    });
    &RUNTIME
}

/// Waits for something that gives no sign of its own, and looks again and again.
#[track_caller]
pub fn until<T>(limit: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begin.elapsed() < limit, "not within {limit:?}: {what}");
        pause(LOOK);
    }
}

/// Lets time pass, where that is what the test is about.
pub fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// A number from the environment, for runs that are longer than the usual one.
pub fn setting(name: &str, usual: u64) -> u64 {
    let Ok(text) = std::env::var(name) else { return usual };
    text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number"))
}

/// Whether this is the long run, which also asserts times.
pub fn soak() -> bool {
    std::env::var_os("SPROCKET_SOAK").is_some()
}

/// What a node is started with: the tests' own defaults, and what a test adds.
#[derive(Clone, Debug)]
pub struct Config {
    settings: Vec<(String, Value)>,
    roots: Vec<(String, PathBuf)>,
    wrapper: Vec<String>,
}

impl Default for Config {
    /// One slot, little disk needed, no orchestrator, a port of the system's choice.
    fn default() -> Self {
        let config = Self { settings: Vec::new(), roots: Vec::new(), wrapper: Vec::new() };
        config
            .with("node.id", "node-under-test")
            .with("limits.max_concurrent_jobs", 1)
            .with("limits.min_free_disk", "1MiB")
            .with("http.listen", "127.0.0.1:0")
            .with("log.level", "info")
            // Looking at the devices costs a second of both cores, at each start.
            .with("hardware.acceleration", "off")
    }
}

impl Config {
    /// Sets a key, `limits.max_queued_jobs`, instead of an earlier value.
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.settings.retain(|(known, _)| known != key);
        self.settings.push((key.to_owned(), value.into()));
        self
    }

    /// Tells an orchestrator, once each second.
    pub fn told_to(self, orchestrator: &Orchestrator) -> Self {
        self.with("orchestrator.url", orchestrator.url()).with("orchestrator.heartbeat_interval", "1s")
    }

    /// Another root beside `media`: `nas://NAME`.
    pub fn root(mut self, name: &str, local: &Path) -> Self {
        self.roots.push((name.to_owned(), local.to_owned()));
        self
    }

    /// Runs the node by a command line that ends in its own, such as `unshare -rm sh -c SCRIPT sh`. It has
    /// to become the node (`exec`), so that signals arrive. `{out}` stands for the output folder.
    pub fn by(mut self, wrapper: &[&str]) -> Self {
        self.wrapper = wrapper.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    /// The configuration file. YAML, since every JSON text is.
    fn render(&self, home: &Path) -> String {
        let root =
            |name: &str, local: &Path| json!({"name": name, "uri": format!("nas://{name}"), "local": local});
        let mut roots = vec![root("media", &home.join("media"))];
        roots.extend(self.roots.iter().map(|(name, local)| root(name, local)));
        let mut whole = json!({"paths": {
            "roots": roots,
            "output": {"uri": "nas://out", "local": home.join("out")},
            "state": home.join("state"),
        }});
        for (key, value) in &self.settings {
            let place = key.split('.').fold(&mut whole, |at, part| &mut at[part]);
            *place = value.clone();
        }
        serde_json::to_string_pretty(&whole).expect("JSON")
    }
}

/// What the process holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Figures {
    /// Memory in use, KiB.
    pub resident_kib: u64,
    /// Threads alive.
    pub threads: usize,
    /// Descriptors open.
    pub descriptors: usize,
}

/// A node with its folders. Dropping it kills the process.
pub struct Node {
    home: TempDir,
    config: Config,
    process: Option<Process>,
    /// What all processes have said so far, in order.
    said: Arc<Mutex<Vec<String>>>,
    address: SocketAddr,
    client: reqwest::Client,
}

struct Process {
    child: Child,
    /// Reads what it says, to the end.
    reader: JoinHandle<()>,
}

impl Node {
    /// Starts a node on folders of its own, and returns when it listens.
    #[track_caller]
    pub fn start(config: &Config) -> Self {
        let home = tempfile::tempdir().expect("a folder");
        for name in ["media", "out", "state"] {
            fs::create_dir(home.path().join(name)).expect("a folder of the node");
        }
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let (config, client) = (config.clone(), client());
        let mut node = Self { home, config, process: None, said: Arc::default(), address, client };
        node.restart();
        node
    }

    /// Starts it again on the same folders, as the same node, on another port.
    #[track_caller]
    pub fn restart(&mut self) {
        assert!(self.process.is_none(), "it still runs");
        let file = self.home.path().join("sprocket.yaml");
        fs::write(&file, self.config.render(self.home.path())).expect("the configuration");
        let mut command = self.command();
        command.arg("serve").arg("--config").arg(&file);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|e| panic!("{}: {e}", run::show(&command)));
        let (reader, listening) = listen_to(child.stderr.take().expect("a pipe"), self.said.clone());
        self.process = Some(Process { child, reader });
        match listening.recv_timeout(START_LIMIT) {
            Ok(address) => self.address = address,
            Err(e) => panic!("it does not say where it listens: {e}"),
        }
    }

    /// The program, free of whatever the caller's environment would configure.
    fn command(&self) -> Command {
        let program = run::program();
        let mut command = match self.config.wrapper.split_first() {
            None => program,
            Some((first, rest)) => {
                let out = self.output().display().to_string();
                let mut command = Command::new(first);
                command.args(rest.iter().map(|word| word.replace("{out}", &out))).arg(program.get_program());
                command
            }
        };
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("SPROCKET_") && text != "SPROCKET_MASK_ENCODERS" {
                command.env_remove(&name);
            }
        }
        command
    }

    /// Changes the configuration for the next start.
    pub fn reconfigure(&mut self, change: impl FnOnce(Config) -> Config) {
        self.config = change(self.config.clone());
    }

    /// SIGTERM: it has to end with 0 within the contract's 5 s. Says how long it took.
    #[track_caller]
    pub fn terminate(&mut self) -> Duration {
        let begin = Instant::now();
        self.signal_to_end();
        let status = self.wait(STOP_LIMIT);
        let took = begin.elapsed();
        self.process = None;
        assert_eq!(status.code(), Some(0), "after SIGTERM it ended with {status}");
        took
    }

    /// Waits for its end.
    #[track_caller]
    fn wait(&mut self, limit: Duration) -> ExitStatus {
        let child = &mut self.process.as_mut().expect("a process").child;
        until(limit, "the end of the process", || child.try_wait().expect("its own child"))
    }

    /// SIGTERM, and nothing else: for a test that looks at how it ends.
    #[track_caller]
    pub fn signal_to_end(&self) {
        let pid = rustix::process::Pid::from_raw(self.pid() as i32).expect("a process id");
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("the signal is sent");
    }

    /// SIGKILL, and waits until it is gone.
    #[track_caller]
    pub fn kill(&mut self) {
        let Some(mut process) = self.process.take() else { return };
        let _ = process.child.kill();
        until(LIMIT, "the killed process is gone", || {
            (!matches!(process.child.try_wait(), Ok(None))).then_some(())
        });
        // Its pipe has closed with it; what it said last comes before what the next one says.
        let _ = process.reader.join();
    }

    /// Whether the process is there.
    pub fn is_alive(&mut self) -> bool {
        self.process.as_mut().is_some_and(|p| matches!(p.child.try_wait(), Ok(None)))
    }

    /// Whether its main thread has ended, though the process may still wait for others.
    #[track_caller]
    pub fn is_defunct(&self) -> bool {
        let status = fs::read_to_string(self.proc("status")).expect("its status");
        status.lines().any(|line| line.starts_with("State:") && line.contains('Z'))
    }

    /// The process id.
    #[track_caller]
    pub fn pid(&self) -> u32 {
        self.process.as_ref().expect("a process").child.id()
    }

    /// What it has said on stderr, in all its lives, about something.
    pub fn said_about(&self, what: &str) -> Vec<String> {
        lock(&self.said).iter().filter(|line| line.contains(what)).cloned().collect()
    }

    /// The folder behind `nas://media`.
    pub fn media(&self) -> PathBuf {
        self.home.path().join("media")
    }

    /// The folder behind `nas://out`.
    pub fn output(&self) -> PathBuf {
        self.home.path().join("out")
    }

    /// Puts a clip into `nas://media`, under its own name.
    #[track_caller]
    pub fn add(&self, clip: &Path) -> String {
        let name = clip.file_name().expect("a name");
        let place = self.media().join(name);
        // A link is quicker, but the clips may lie on another file system.
        if !place.exists() && fs::hard_link(clip, &place).is_err() {
            fs::copy(clip, &place).expect("the clip below the root");
        }
        name.to_string_lossy().into_owned()
    }

    /// Every name below the output that a reader of folders would not see.
    pub fn hidden(&self) -> BTreeSet<PathBuf> {
        hidden_below(&self.output())
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The whole address of a path.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    // ---- calls ----

    /// `GET`.
    #[track_caller]
    pub fn get(&self, path: &str) -> Answer {
        Answer::of("GET", path, self.client.get(self.url(path)))
    }

    /// Any method without a body, with headers.
    #[track_caller]
    pub fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
        let method = reqwest::Method::from_bytes(method.as_bytes()).expect("a method");
        let request = self.client.request(method.clone(), self.url(path));
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        Answer::of(method.as_str(), path, request)
    }

    /// `POST` with a JSON body.
    #[track_caller]
    pub fn post(&self, path: &str, body: &Value) -> Answer {
        Answer::of("POST", path, self.client.post(self.url(path)).json(body))
    }

    /// `PUT` with a JSON body.
    #[track_caller]
    pub fn put(&self, path: &str, body: &Value) -> Answer {
        Answer::of("PUT", path, self.client.put(self.url(path)).json(body))
    }

    /// `DELETE`.
    #[track_caller]
    pub fn delete(&self, path: &str) -> Answer {
        Answer::of("DELETE", path, self.client.delete(self.url(path)))
    }

    /// `POST /jobs`.
    #[track_caller]
    pub fn submit(&self, document: &Value) -> Answer {
        self.post("/jobs", document)
    }

    /// `POST /jobs`, which has to be taken. Gives the job.
    #[track_caller]
    pub fn accepted(&self, document: &Value) -> Value {
        self.submit(document).expect(202).json()
    }

    /// `GET /jobs/{id}`.
    #[track_caller]
    pub fn job(&self, id: &str) -> Value {
        self.get(&format!("/jobs/{id}")).expect(200).json()
    }

    /// The job's state.
    #[track_caller]
    pub fn state_of(&self, id: &str) -> String {
        self.job(id)["state"].as_str().expect("a state").to_owned()
    }

    /// Waits until the job has ended, whatever way.
    #[track_caller]
    pub fn ended(&self, id: &str) -> Value {
        until(LIMIT, &format!("job {id} ends"), || {
            let job = self.job(id);
            matches!(job["state"].as_str(), Some("succeeded" | "failed" | "cancelled")).then_some(job)
        })
    }

    /// Waits until the job has succeeded; anything else fails the test.
    #[track_caller]
    pub fn succeeded(&self, id: &str) -> Value {
        let job = self.ended(id);
        assert_eq!(job["state"], "succeeded", "{job:#}");
        job
    }

    /// Waits until the job has failed, and gives its error.
    #[track_caller]
    pub fn failed(&self, id: &str) -> Value {
        let job = self.ended(id);
        assert_eq!(job["state"], "failed", "{job:#}");
        job["error"].clone()
    }

    /// Waits until the job works: it has a slot, and pictures were decoded.
    #[track_caller]
    pub fn working(&self, id: &str) -> Value {
        until(LIMIT, &format!("job {id} works"), || {
            let job = self.job(id);
            let running = job["state"] == "running" && job["progress"]["frames"].as_u64() > Some(0);
            assert!(running || matches!(job["state"].as_str(), Some("queued" | "running")), "{job:#}");
            running.then_some(job)
        })
    }

    /// `DELETE /jobs/{id}` on a live job, and waits until it is cancelled.
    #[track_caller]
    pub fn cancel(&self, id: &str) {
        self.delete(&format!("/jobs/{id}")).expect(202);
        assert_eq!(self.ended(id)["state"], "cancelled");
    }

    /// `GET /node`.
    #[track_caller]
    pub fn describe(&self) -> Value {
        self.get("/node").expect(200).json()
    }

    /// Waits until the node is in that state.
    #[track_caller]
    pub fn becomes(&self, state: &str) -> Value {
        until(LIMIT, &format!("the node becomes {state}"), || {
            let node = self.describe();
            (node["state"] == state).then_some(node)
        })
    }

    /// `PUT /node/state`.
    #[track_caller]
    pub fn set_state(&self, state: &str) -> Value {
        self.put("/node/state", &json!({"state": state})).expect(200).json()
    }

    /// `GET /jobs/{id}/events`, from behind the event `last`.
    #[track_caller]
    pub fn follow(&self, id: &str, last: Option<&str>) -> Follow {
        let request = self.client.get(self.url(&format!("/jobs/{id}/events")));
        Follow::start(last.map_or(request.try_clone(), |last| {
            request.try_clone().map(|request| request.header("last-event-id", last))
        }))
    }

    // ---- the process ----

    /// What it holds now.
    #[track_caller]
    pub fn figures(&self) -> Figures {
        let status = fs::read_to_string(self.proc("status")).expect("its status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
        let resident_kib = line.split_whitespace().next().and_then(|n| n.parse().ok()).expect("KiB");
        let count = |what: &str| fs::read_dir(self.proc(what)).map_or(0, Iterator::count);
        Figures { resident_kib, threads: count("task"), descriptors: count("fd") }
    }

    /// The names of its threads.
    #[track_caller]
    pub fn thread_names(&self) -> Vec<String> {
        let Ok(tasks) = fs::read_dir(self.proc("task")) else { return Vec::new() };
        // A thread may end between being listed and being asked.
        let names = tasks.flatten().filter_map(|task| fs::read_to_string(task.path().join("comm")).ok());
        names.map(|name| name.trim().to_owned()).collect()
    }

    /// The threads that do codec work.
    #[track_caller]
    pub fn codec_threads(&self) -> Vec<String> {
        self.thread_names().into_iter().filter(|name| name.starts_with("av")).collect()
    }

    /// A path below `/proc/PID`.
    #[track_caller]
    pub fn proc(&self, what: &str) -> PathBuf {
        Path::new("/proc").join(self.pid().to_string()).join(what)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return self.kill();
        }
        let said = lock(&self.said).clone();
        let from = said.len().saturating_sub(LAST_WORDS);
        eprintln!("---- the node's last words:\n{}\n----", said[from..].join("\n"));
        // Not waited for: a second panic would hide the first.
        if let Some(process) = &mut self.process {
            let _ = process.child.kill();
        }
    }
}

/// A client that keeps its connections, looks at no proxy and gives up in time.
pub fn client() -> reqwest::Client {
    // Fails when there is one already, which does as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = reqwest::Client::builder().no_proxy().tls_certs_only([]);
    builder.timeout(LIMIT).build().expect("a client")
}

/// Collects what the process says, and tells where it listens as soon as it says so.
fn listen_to(
    stderr: ChildStderr,
    said: Arc<Mutex<Vec<String>>>,
) -> (JoinHandle<()>, mpsc::Receiver<SocketAddr>) {
    let (tell, listening) = mpsc::channel();
    let reader = std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines() {
            // Not UTF-8 or a broken pipe: what came before is what there is.
            let Ok(line) = line else { break };
            if let Some(address) = listening_on(&line) {
                let _ = tell.send(address);
            }
            lock(&said).push(line);
        }
    });
    (reader, listening)
}

fn listening_on(line: &str) -> Option<SocketAddr> {
    let (_, rest) = line.split_once("listening on http://")?;
    let end = rest.find(|c: char| !(c.is_ascii_hexdigit() || ".:[]".contains(c))).unwrap_or(rest.len());
    rest[..end].parse().ok()
}

/// Everything below a folder whose name begins with a dot.
pub fn hidden_below(folder: &Path) -> BTreeSet<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return BTreeSet::new() };
    let mut found = BTreeSet::new();
    for entry in entries.flatten() {
        let path = entry.path();
        if entry.file_name().to_string_lossy().starts_with('.') {
            found.insert(path.clone());
        }
        if path.is_dir() {
            found.extend(hidden_below(&path));
        }
    }
    found
}

/// The lock, also after a test thread has panicked with it.
pub(super) fn lock<T>(held: &Mutex<T>) -> MutexGuard<'_, T> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}
