//! A disk that is full is a state of the node, not the end of it.
//!
//! The full disk is a small tmpfs in a mount namespace of the node's own: nothing has to be cleaned up,
//! and no privilege is needed where users may have namespaces.

#![cfg(target_os = "linux")]

mod support;

use serde_json::{Value, json};
use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;
use support::node::films::{film, job, long_film, picture};
use support::node::{Config, Node, hidden_below, until};
use support::run::{finish, skip};

const MIB: u64 = 1 << 20;
/// Room for the output: less than the long film needs, much more than the short one does.
const DISK: u64 = 24 * MIB;
/// What must be free: more than the job has written when the disk is full.
const LIMIT: u64 = 12 * MIB;

fn codes(node: &Value) -> Vec<&str> {
    let reasons = node["reasons"].as_array().expect("reasons");
    reasons.iter().filter_map(|reason| reason["code"].as_str()).collect()
}

#[test]
fn below_the_limit_no_job_is_taken_and_the_node_says_why() {
    let Some(film) = film(90, 8) else { return };
    // A petabyte: no test runs on a disk with that much free.
    let mut node = Node::start(&Config::default().with("limits.min_free_disk", 1_000_000_000_000_000u64));
    let input = node.add(&film);
    let described = node.becomes("ERROR");
    assert_eq!(codes(&described), ["disk_low"], "{described:#}");
    let message = described["reasons"][0]["message"].as_str().expect("a message");
    assert!(message.len() > 20, "it says what to do: {message}");
    node.submit(&job("one", &input)).refused(503, "disk_low").retry_after_s();
    node.get("/jobs/one").expect(404);
    node.get("/readyz").expect(503);
    node.get("/healthz").expect(200);
    node.terminate();
    node.reconfigure(|config| config.with("limits.min_free_disk", "1MiB"));
    node.restart();
    node.becomes("IDLE");
    node.accepted(&job("one", &input));
    node.succeeded("one");
}

/// The node's output as this process can see it: through the node's own namespace.
fn inside(node: &Node) -> PathBuf {
    let output = node.output();
    node.proc("root").join(output.strip_prefix("/").expect("an absolute path"))
}

/// Runs the node with its output on a small disk of its own. `None`, and a line that says why, where that
/// cannot be had.
fn on_a_small_disk() -> Option<Config> {
    let script = format!("mount -t tmpfs -o size={DISK} tmpfs \"$0\" && exec \"$@\"");
    let folder = tempfile::tempdir().expect("a folder");
    let mut attempt = Command::new("unshare");
    attempt.args(["-rm", "sh", "-c", &script]).arg(folder.path()).arg("true");
    if !support::run::has_command("unshare") || finish(attempt).code != Some(0) {
        skip("no tmpfs can be mounted in a namespace of one's own here");
        return None;
    }
    let config = Config::default().by(&["unshare", "-rm", "sh", "-c", &script, "{out}"]);
    Some(config.with("limits.min_free_disk", LIMIT))
}

/// Something else on the same disk, which leaves so much free.
fn fill(node: &Node, leave: u64) {
    let folder = inside(node);
    let mut file =
        OpenOptions::new().create(true).append(true).open(folder.join("filler")).expect("a filler");
    let block = vec![0; 64 * 1024];
    while free(node) > leave {
        if file.write_all(&block).is_err() {
            break;
        }
    }
}

fn free(node: &Node) -> u64 {
    let facts = rustix::fs::statvfs(inside(node)).expect("the disk's figures");
    facts.f_bavail * facts.f_frsize
}

#[test]
fn a_disk_that_fills_up_fails_the_job_and_comes_back() {
    let (Some(long), Some(short)) = (long_film(), film(90, 8)) else { return };
    let Some(config) = on_a_small_disk() else { return };
    let node = Node::start(&config);
    assert!(free(&node) <= DISK && node.output() != inside(&node), "it has a disk of its own");
    let (long, short) = (node.add(&long), node.add(&short));
    let mut document = job("fills", &long);
    document["renditions"] = json!([picture(180)]);
    document["output"] = "nas://out/deep/er/fills".into();
    node.accepted(&document);
    node.working("fills");
    node.accepted(&job("waits", &short));
    until(support::node::LIMIT, "the disk is full, or the job noticed", || {
        fill(&node, 0);
        (node.state_of("fills") != "running").then_some(())
    });
    let error = node.failed("fills");
    assert_eq!((&error["code"], &error["retryable"]), (&"no_space".into(), &true.into()), "{error:#}");
    fill(&node, MIB);
    assert_eq!(leftovers(&node), Vec::<PathBuf>::new(), "it cleans up before it says that it has failed");
    // Less than the limit is free, so the node says so, takes nothing and starts nothing.
    let described = node.becomes("ERROR");
    assert!(codes(&described).contains(&"disk_low"), "{described:#}");
    node.submit(&job("more", &short)).expect(503).retry_after_s();
    node.get("/healthz").expect(200);
    // It was accepted: a full disk is no reason to fail it before it has begun.
    assert_eq!(node.state_of("waits"), "queued");
    std::fs::remove_file(inside(&node).join("filler")).expect("space again");
    node.becomes("IDLE");
    node.accepted(&job("after", &short));
    node.succeeded("after");
    node.succeeded("waits");
    assert!(inside(&node).join("after/master.m3u8").is_file(), "it lies on the small disk");
}

/// Whatever lies on the small disk besides what this test has put there and what was published.
fn leftovers(node: &Node) -> Vec<PathBuf> {
    let hidden = hidden_below(&inside(node)).into_iter();
    let deep = inside(node).join("deep");
    hidden.chain(deep.exists().then_some(deep)).collect()
}
