//! Jobs whose codec work kills the node: who is held to account, how the others come to their end, and
//! which deaths count.
//!
//! The deaths are real. A small library, compiled here by `cc` and put before libavcodec by `LD_PRELOAD`,
//! stands at the way into every encoder: by the height of the picture it lets a frame pass, holds its
//! thread, or makes that thread write through a null pointer. So every death finds the jobs exactly where
//! the test wants them, and no test depends on how fast anything is.
// The way in is found by the dynamic linker of Linux.
#![cfg(target_os = "linux")]

mod support;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use support::hls::{Hls, files_below};
use support::node::films::{film, job, picture};
use support::node::{Config, LIMIT, Node, Orchestrator, pause, until};
use support::run;
use tempfile::TempDir;

/// Lines of the culprit's picture, and of those of the others.
const BAD: u32 = 202;
const ONE: u32 = 90;
const TWO: u32 = 94;
const THREE: u32 = 98;
const FOUR: u32 = 102;
/// The film: 8 s, two segments.
const FRAMES: u64 = 200;
/// For how long a job has to be seen alone: others would have a slot within milliseconds.
const ALONE: Duration = Duration::from_millis(400);
/// How the node announces a suspect.
const SUSPICION: &str = "may have killed the process";

/// The gate. Its folder has a file for each height of picture, named by it, with the order in one letter:
/// `h` holds the thread (and makes the file `HEIGHT.here`), `c` crashes it, `n` first takes the thread's
/// name away, as newer FFmpeg does with its own threads. Without a file the frame passes.
const GATE: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

/* How AVFrame begins in FFmpeg 5.1 to 9. */
struct frame {
    uint8_t *data[8];
    int linesize[8];
    uint8_t **extended_data;
    int width, height;
};

static int *volatile nowhere;

/* Nobody wants the core dumps. */
__attribute__((constructor)) static void begin(void) {
    struct rlimit none = {0, 0};
    setrlimit(RLIMIT_CORE, &none);
}

static int open_file(int lines, const char *suffix, int flags) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%d%s", getenv("TEST_GATE"), lines, suffix);
    return open(path, flags | O_CLOEXEC, 0600);
}

static char order_for(int lines) {
    char order = 0;
    int file = open_file(lines, "", O_RDONLY);
    if (file >= 0) {
        (void)!read(file, &order, 1);
        close(file);
    }
    return order;
}

int avcodec_send_frame(void *context, const struct frame *frame) {
    int (*real)(void *, const struct frame *) = dlsym(RTLD_NEXT, "avcodec_send_frame");
    char order = 0;
    while (frame && frame->height > 0 && (order = order_for(frame->height)) == 'h') {
        close(open_file(frame->height, ".here", O_WRONLY | O_CREAT));
        usleep(5000);
    }
    if (order == 'n')
        prctl(PR_SET_NAME, "av:enc");
    if (order == 'n' || order == 'c')
        *nowhere = 0;
    return real(context, frame);
}
"#;

/// The library and its orders. They outlive the node.
struct Gate {
    folder: TempDir,
}

impl Gate {
    fn build() -> Self {
        // Beside the test programs, where things may be executed for sure.
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
        let source = folder.path().join("gate.c");
        fs::write(&source, GATE).expect("the source");
        let mut cc = Command::new("cc");
        cc.args(["-O1", "-shared", "-fPIC", "-o"]).arg(folder.path().join("gate.so"));
        cc.arg(&source).arg("-ldl");
        run::finish(cc).ok();
        Self { folder }
    }

    /// A node whose frames go through the gate.
    fn config(&self, slots: u32) -> Config {
        let library = format!("LD_PRELOAD={}", self.folder.path().join("gate.so").display());
        let orders = format!("TEST_GATE={}", self.folder.path().display());
        Config::default().with("limits.max_concurrent_jobs", slots).by(&["env", &library, &orders])
    }

    /// Gives an order at once and whole: a frame may be waiting for it.
    fn order(&self, lines: u32, order: &str) {
        let draft = self.folder.path().join("draft");
        fs::write(&draft, order).expect("the order");
        fs::rename(&draft, self.folder.path().join(lines.to_string())).expect("the order");
    }

    /// Pictures of these heights wait from now on.
    fn hold(&self, heights: &[u32]) {
        heights.iter().for_each(|lines| self.order(*lines, "h"));
    }

    /// They pass.
    fn release(&self, heights: &[u32]) {
        heights.iter().for_each(|lines| self.order(*lines, "-"));
    }

    /// The thread that comes with such a picture crashes.
    fn crash(&self, lines: u32) {
        self.order(lines, "c");
    }

    /// The same, and its name does not tell whose it was.
    fn crash_unnamed(&self, lines: u32) {
        self.order(lines, "n");
    }

    fn is_held(&self, lines: u32) -> bool {
        self.folder.path().join(format!("{lines}.here")).exists()
    }

    /// Waits until each of these jobs is in its encoder.
    #[track_caller]
    fn holds(&self, heights: &[u32]) {
        let missing = || heights.iter().find(|lines| !self.is_held(**lines)).copied();
        until(LIMIT, &format!("{heights:?} are at the gate"), || missing().is_none().then_some(()));
    }

    /// Starts the node again, in which nobody is at the gate yet. Gives those whom it suspects.
    #[track_caller]
    fn restart(&self, node: &mut Node) -> BTreeSet<String> {
        for lines in [BAD, ONE, TWO, THREE, FOUR] {
            let _ = fs::remove_file(self.folder.path().join(format!("{lines}.here")));
        }
        let before = node.said_about(SUSPICION).len();
        node.restart();
        node.said_about(SUSPICION).iter().skip(before).map(|line| suspect_in(line)).collect()
    }
}

/// `... job ID may have killed the process ...`
#[track_caller]
fn suspect_in(line: &str) -> String {
    let (before, _) = line.split_once(SUSPICION).expect("a line about a suspect");
    before.split_whitespace().next_back().expect("an id").to_owned()
}

/// Waits until the process has died of SIGSEGV, and gives the crumb that it left.
#[track_caller]
fn died(node: &mut Node) -> String {
    let pid = Pid::from_raw(node.pid() as i32).expect("a process id");
    // Without reaping: that is for `kill`.
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
    let end = until(LIMIT, "the node dies", || waitid(WaitId::Pid(pid), look).expect("its own child"));
    assert_eq!(end.terminating_signal(), Some(Signal::SEGV.as_raw()), "{end:?}");
    node.kill();
    crumb(node)
}

/// The line that a fatal signal left in the state folder; empty when there was none.
fn crumb(node: &Node) -> String {
    let bytes = fs::read(node.output().with_file_name("state").join("crumb")).expect("the crumb");
    String::from_utf8_lossy(&bytes).trim_end_matches(['\0', '\n']).to_owned()
}

/// Sends SIGSEGV from outside: to the process, or so that one thread of it gets it.
#[track_caller]
fn send(to: u32) {
    kill_process(Pid::from_raw(to as i32).expect("a process id"), Signal::SEGV).expect("it is sent");
}

/// A thread of the node that does codec work.
#[track_caller]
fn codec_thread(node: &Node) -> u32 {
    let tasks = fs::read_dir(node.proc("task")).expect("its threads").flatten();
    let name = |task: &Path| fs::read_to_string(task.join("comm")).unwrap_or_default();
    let mut codecs = tasks.map(|task| task.path()).filter(|task| name(task).starts_with("av-"));
    let found = codecs.next().expect("a thread of a codec");
    found.file_name().and_then(|id| id.to_str()?.parse().ok()).expect("its number")
}

fn running(node: &Node) -> BTreeSet<String> {
    let list = node.get("/jobs?state=running").expect(200).json();
    let ids = list["jobs"].as_array().expect("jobs").iter().map(|job| job["id"].as_str().expect("an id"));
    ids.map(str::to_owned).collect()
}

/// Waits until these jobs run, and no other.
#[track_caller]
fn run_at_once(node: &Node, ids: &[&str]) {
    let wanted: BTreeSet<String> = ids.iter().map(|id| (*id).to_owned()).collect();
    until(LIMIT, &format!("{ids:?} run at once"), || (running(node) == wanted).then_some(()));
}

/// The job is in its encoder, and nothing else runs for as long as one looks.
#[track_caller]
fn is_alone(gate: &Gate, node: &Node, id: &str, lines: u32, others: &[u32]) {
    gate.holds(&[lines]);
    let (begin, alone) = (Instant::now(), BTreeSet::from([id.to_owned()]));
    while begin.elapsed() < ALONE {
        assert_eq!(running(node), alone);
        pause(Duration::from_millis(20));
    }
    let beside: Vec<u32> = others.iter().copied().filter(|lines| gate.is_held(*lines)).collect();
    assert_eq!(beside, [0; 0], "these came into their encoders beside {id}");
}

fn ids<const N: usize>(ids: [&str; N]) -> BTreeSet<String> {
    ids.into_iter().map(str::to_owned).collect()
}

fn document(id: &str, input: &str, lines: u32) -> Value {
    let mut job = job(id, input);
    job["renditions"] = serde_json::json!([picture(lines)]);
    job
}

fn submit(node: &Node, input: &str, id: &str, lines: u32) {
    node.accepted(&document(id, input, lines));
}

#[track_caller]
fn is_condemned(node: &Node, id: &str, attempts: u64) {
    let job = node.job(id);
    let (state, error) = (&job["state"], &job["error"]);
    assert_eq!((state, &error["code"]), (&"failed".into(), &"poison_input".into()), "{job:#}");
    assert_eq!(error["retryable"], false, "{job:#}");
    let message = error["message"].as_str().expect("a message");
    assert!(message.contains("ended the whole node 2 times") && message.contains("SIGSEGV"), "{message}");
    assert_eq!((&job["attempts"], job["ended_at"].is_string()), (&attempts.into(), true), "{job:#}");
}

/// These jobs succeed, with so many attempts, and their outputs are whole; nothing else lies there.
#[track_caller]
fn all_succeed(node: &Node, jobs: &[(&str, u64)], others: &[&str]) {
    for (id, attempts) in jobs {
        let job = node.succeeded(id);
        assert_eq!(job["attempts"], *attempts, "{job:#}");
        assert_eq!(Hls::open(&node.output().join(id)).only().check_all((25, 1)), FRAMES, "{id}");
    }
    assert_eq!(node.hidden(), BTreeSet::new(), "left over");
    let entries = fs::read_dir(node.output()).expect("the output");
    let names = entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned());
    let wanted = jobs.iter().map(|(id, _)| *id).chain(others.iter().copied()).map(str::to_owned);
    assert_eq!(names.collect::<BTreeSet<_>>(), wanted.collect(), "one output for each job");
}

/// Every file below a folder, with its bytes.
fn contents(folder: &Path) -> BTreeSet<(String, Vec<u8>)> {
    let read = |path: std::path::PathBuf| (path.display().to_string(), fs::read(&path).expect("a file"));
    files_below(folder).into_iter().map(read).collect()
}

#[test]
fn suspects_run_alone_and_only_the_culprit_is_set_aside() {
    let Some(film) = film(BAD, 8) else { return };
    let gate = Gate::build();
    let mut node = Node::start(&gate.config(3));
    let input = node.add(&film);
    gate.hold(&[BAD, ONE, TWO, THREE, FOUR]);
    submit(&node, &input, "first", ONE);
    submit(&node, &input, "culprit", BAD);
    submit(&node, &input, "third", TWO);
    gate.holds(&[ONE, BAD, TWO]);
    submit(&node, &input, "behind-1", THREE);
    submit(&node, &input, "behind-2", FOUR);

    gate.crash_unnamed(BAD);
    let crumb = died(&mut node);
    assert!(crumb.starts_with("signal=11 codec=1 thread=av:enc job= running="), "{crumb}");
    let listed: BTreeSet<_> = crumb.rsplit(['=', ',']).take(3).map(str::to_owned).collect();
    assert_eq!(listed, ids(["first", "culprit", "third"]), "{crumb}");

    gate.hold(&[BAD]);
    assert_eq!(gate.restart(&mut node), ids(["first", "culprit", "third"]));
    is_alone(&gate, &node, "first", ONE, &[BAD, TWO, THREE, FOUR]);
    gate.release(&[ONE]);
    node.succeeded("first");
    is_alone(&gate, &node, "culprit", BAD, &[TWO, THREE, FOUR]);
    // An operator's kill is not held against it, and does not clear it either.
    node.kill();
    let suspects = gate.restart(&mut node);
    assert_eq!(suspects, ids(["culprit", "third"]), "the first has ended; those behind never ran");
    is_alone(&gate, &node, "culprit", BAD, &[TWO, THREE, FOUR]);

    gate.crash_unnamed(BAD);
    let crumb = died(&mut node);
    assert_eq!(crumb, "signal=11 codec=1 thread=av:enc job= running=culprit");
    assert_eq!(gate.restart(&mut node), ids(["third"]));
    is_condemned(&node, "culprit", 3);
    is_alone(&gate, &node, "third", TWO, &[THREE, FOUR]);
    gate.release(&[TWO]);
    // Nobody is under suspicion any more: the slots are shared again.
    gate.holds(&[THREE, FOUR]);
    run_at_once(&node, &["behind-1", "behind-2"]);
    gate.release(&[THREE, FOUR]);
    all_succeed(&node, &[("first", 2), ("third", 2), ("behind-1", 1), ("behind-2", 1)], &[]);
}

#[test]
fn a_culprit_that_is_known_draws_nobody_else_in() {
    let Some(film) = film(BAD, 8) else { return };
    let (gate, orchestrator) = (Gate::build(), Orchestrator::start());
    let mut node = Node::start(&gate.config(3).told_to(&orchestrator));
    let input = node.add(&film);
    submit(&node, &input, "earlier", BAD);
    node.succeeded("earlier");
    let before = contents(&node.output().join("earlier"));
    gate.hold(&[BAD, ONE, TWO]);
    let mut again = document("culprit", &input, BAD);
    again["output"] = "nas://out/earlier".into();
    again["overwrite"] = true.into();
    node.accepted(&again);
    submit(&node, &input, "one", ONE);
    submit(&node, &input, "two", TWO);
    gate.holds(&[BAD, ONE, TWO]);

    gate.crash(BAD);
    let crumb = died(&mut node);
    assert!(crumb.starts_with("signal=11 codec=1 thread=av-") && crumb.contains(" job=culprit "), "{crumb}");
    gate.hold(&[BAD]);
    assert_eq!(gate.restart(&mut node), ids(["culprit"]));
    is_alone(&gate, &node, "culprit", BAD, &[ONE, TWO]);

    gate.crash(BAD);
    died(&mut node);
    assert_eq!(gate.restart(&mut node), ids([]));
    is_condemned(&node, "culprit", 2);
    gate.holds(&[ONE, TWO]);
    run_at_once(&node, &["one", "two"]);
    gate.release(&[ONE, TWO]);
    all_succeed(&node, &[("one", 2), ("two", 2)], &["earlier"]);
    assert_eq!(contents(&node.output().join("earlier")), before, "it was to be replaced, and was not");

    // It is told once, and stays as it is.
    let told = || {
        let events = orchestrator.events_of("culprit").into_iter();
        let ends = events.filter(|event| event.body["record"]["error"]["code"] == "poison_input");
        ends.map(|event| event.sequence()).collect::<BTreeSet<_>>()
    };
    until(LIMIT, "the end is told", || (!told().is_empty()).then_some(()));
    node.terminate();
    assert_eq!(gate.restart(&mut node), ids([]));
    is_condemned(&node, "culprit", 2);
    assert_eq!(node.submit(&again).expect(200).json()["state"], "failed");
    assert_eq!(running(&node), ids([]));
    assert_eq!(told().len(), 1, "{:#?}", orchestrator.events_of("culprit"));
}

#[test]
fn an_operators_kill_is_held_against_nobody_however_often() {
    let Some(film) = film(BAD, 8) else { return };
    let gate = Gate::build();
    let mut node = Node::start(&gate.config(2));
    let input = node.add(&film);
    gate.hold(&[ONE, TWO]);
    submit(&node, &input, "one", ONE);
    submit(&node, &input, "two", TWO);
    for _ in 0..3 {
        gate.holds(&[ONE, TWO]);
        node.kill();
        assert_eq!(crumb(&node), "");
        assert_eq!(gate.restart(&mut node), ids([]));
        // A suspect would be alone.
        run_at_once(&node, &["one", "two"]);
    }
    gate.release(&[ONE, TWO]);
    all_succeed(&node, &[("one", 4), ("two", 4)], &[]);
}

#[test]
fn a_fatal_signal_that_somebody_sends_is_held_against_nobody() {
    let Some(film) = film(BAD, 8) else { return };
    let gate = Gate::build();
    let mut node = Node::start(&gate.config(2));
    let input = node.add(&film);
    send(node.pid());
    let idle = died(&mut node);
    assert!(idle.starts_with("signal=11 codec=0 ") && idle.ends_with(" job= running="), "{idle}");
    assert_eq!(gate.restart(&mut node), ids([]));
    gate.hold(&[ONE, TWO]);
    submit(&node, &input, "one", ONE);
    submit(&node, &input, "two", TWO);
    // Three times: suspects would be alone at the second, and condemned at the third.
    for _ in 0..3 {
        gate.holds(&[ONE, TWO]);
        run_at_once(&node, &["one", "two"]);
        send(codec_thread(&node));
        let busy = died(&mut node);
        // By its name the thread would tell whose it is.
        assert!(busy.starts_with("signal=11 codec=0 thread=av-"), "{busy}");
        assert!(busy.contains(" job= running=") && busy.contains("one") && busy.contains("two"), "{busy}");
        assert_eq!(gate.restart(&mut node), ids([]));
    }
    gate.release(&[ONE, TWO]);
    all_succeed(&node, &[("one", 4), ("two", 4)], &[]);
}
