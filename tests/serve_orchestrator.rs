//! What the orchestrator is told, and that nothing it does or fails to do disturbs the node.
//!
//! `SPROCKET_AWAY_S` sets for how long it is away (120 in `make soak`).

mod support;

use serde_json::Value;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use support::node::films::{film, job, long_film, slow};
use support::node::orchestrator::{Heard, Orchestrator, Reply};
use support::node::{Config, Node, pause, setting, until};

/// The beat's fields by the contract, section 5.
const FIELDS: [&str; 11] = [
    "node_id",
    "sequence",
    "state",
    "cpu",
    "memory",
    "disk",
    "transcodes",
    "capacity",
    "jobs",
    "uptime_s",
    "version",
];
/// An interval that no test waits for: what comes comes because something has changed.
const NEVER: &str = "1h";

fn states(beats: &[Heard]) -> Vec<String> {
    beats.iter().map(|beat| beat.body["state"].as_str().expect("a state").to_owned()).collect()
}

#[test]
fn beats_say_what_the_contract_says_and_keep_their_pace() {
    let orchestrator = Orchestrator::start();
    let config = Config::default().told_to(&orchestrator).with("orchestrator.token", "s3cret");
    let node = Node::start(&config);
    let beats = orchestrator.hears("five beats", |heard| {
        let beats: Vec<_> = heard.iter().filter(|heard| heard.is_beat()).cloned().collect();
        (beats.len() >= 5).then_some(beats)
    });
    for (n, beat) in beats.iter().enumerate() {
        assert_eq!(beat.call, "POST /nodes/node-under-test/heartbeat");
        assert_eq!(beat.authorization.as_deref(), Some("Bearer s3cret"));
        let missing: Vec<_> = FIELDS.iter().filter(|field| beat.body[**field].is_null()).collect();
        assert!(missing.is_empty(), "{missing:?} missing in {:#}", beat.body);
        assert_eq!(beat.body.get("capabilities").is_some(), n == 0, "beat {n}: {:#}", beat.body);
        assert_eq!(beat.body["node_id"], "node-under-test");
    }
    check_figures(&beats[4].body);
    assert!(beats.windows(2).all(|pair| pair[0].sequence() < pair[1].sequence()), "the sequence grows");
    // Four intervals of 1 s. A machine that is busy makes beats late, but never many at once; one more
    // may come because the state has changed while the node started.
    let took = beats[4].at - beats[0].at;
    assert!(took > Duration::from_millis(1900), "five beats within {took:?}");
    drop(node);
}

fn check_figures(beat: &Value) {
    let positive = [
        "/cpu/cores",
        "/memory/total_bytes",
        "/memory/used_bytes",
        "/memory/available_bytes",
        "/capacity/slots",
    ];
    for pointer in positive {
        assert!(beat.pointer(pointer).and_then(Value::as_u64) > Some(0), "{pointer} in {beat:#}");
    }
    for pointer in ["/cpu/load_percent", "/memory/pressure_percent"] {
        let percent = beat.pointer(pointer).and_then(Value::as_f64).unwrap_or(-1.0);
        assert!((0.0..=100.0).contains(&percent), "{pointer} in {beat:#}");
    }
    for pointer in
        ["/transcodes/running", "/transcodes/queued", "/transcodes/sessions", "/transcodes/threads"]
    {
        assert_eq!(beat.pointer(pointer), Some(&0.into()), "{pointer} in {beat:#}");
    }
    let disks = beat["disk"].as_array().expect("disks");
    let names: Vec<_> = disks.iter().filter_map(|disk| disk["name"].as_str()).collect();
    assert_eq!(names, ["media", "output"]);
    assert!(disks.iter().all(|disk| disk["total_bytes"].as_u64() > Some(0)), "{beat:#}");
}

#[test]
fn a_change_of_state_is_told_at_once() {
    let Some(film) = long_film() else { return };
    let orchestrator = Orchestrator::start();
    let config = Config::default().told_to(&orchestrator).with("orchestrator.heartbeat_interval", NEVER);
    let mut node = Node::start(&config);
    let input = node.add(&film);
    let last_is = |state: &'static str| {
        orchestrator.hears(&format!("the beat that says {state}"), move |heard| {
            let beats: Vec<_> = heard.iter().filter(|heard| heard.is_beat()).cloned().collect();
            (states(&beats).last().map(String::as_str) == Some(state)).then(|| beats[beats.len() - 1].clone())
        })
    };
    last_is("IDLE");
    node.accepted(&slow(job("one", &input), 180));
    let busy = last_is("BUSY");
    assert_eq!(busy.body["capacity"], serde_json::json!({"slots": 1, "free": 0}));
    assert_eq!(busy.body["transcodes"]["running"], 1);
    node.cancel("one");
    last_is("IDLE");
    node.set_state("MAINTENANCE");
    last_is("MAINTENANCE");
    node.set_state("IDLE");
    last_is("IDLE");
    node.accepted(&slow(job("two", &input), 180));
    last_is("BUSY");
    let before = orchestrator.beats().len();
    node.terminate();
    let beats = orchestrator.beats();
    assert!(beats.len() > before, "the last beat: {:?}", states(&beats));
    assert_eq!(states(&beats).last().map(String::as_str), Some("MAINTENANCE"), "it takes no more work");
}

#[test]
fn progress_comes_at_most_once_a_second_and_only_while_a_job_runs() {
    let Some(film) = long_film() else { return };
    let orchestrator = Orchestrator::start();
    let node = Node::start(&Config::default().told_to(&orchestrator));
    let input = node.add(&film);
    node.accepted(&slow(job("slow", &input), 180));
    let told = orchestrator.hears("four messages", |heard| {
        let told: Vec<_> =
            heard.iter().filter(|heard| heard.progress_of() == Some("slow")).cloned().collect();
        (told.len() >= 4).then_some(told)
    });
    // From the end of one to the beginning of the next, so the load of the machine only adds to it.
    for pair in told.windows(2) {
        assert!(pair[1].at - pair[0].at >= Duration::from_millis(950), "{:?}", pair[1].at - pair[0].at);
        assert!(pair[0].sequence() < pair[1].sequence());
        assert!(pair[0].body["position_ms"].as_i64() <= pair[1].body["position_ms"].as_i64());
        assert!(pair[0].body["percent"].as_f64() <= pair[1].body["percent"].as_f64());
    }
    assert!(told[3].body["frames"].as_u64() > Some(0), "{:#}", told[3].body);
    let beat = orchestrator.hears("a beat with the job", |heard| {
        heard.iter().rev().find(|heard| heard.is_beat() && heard.body["jobs"][0]["id"] == "slow").cloned()
    });
    assert!(beat.body["transcodes"]["threads"].as_u64() > Some(0), "threads of libav: {:#}", beat.body);
    assert!(beat.body["jobs"][0]["speed"].is_number(), "{:#}", beat.body);
    node.cancel("slow");
    let count = || orchestrator.heard().iter().filter(|heard| heard.progress_of() == Some("slow")).count();
    pause(Duration::from_millis(200));
    let then = count();
    pause(Duration::from_millis(1500));
    assert_eq!(count(), then, "nothing moves any more");
}

/// The job's events as the receiver has them: once for each sequence, and the same each time.
fn received(orchestrator: &Orchestrator, id: &str) -> BTreeMap<u64, Value> {
    let mut events: BTreeMap<u64, Value> = BTreeMap::new();
    let taken = |heard: &Heard| heard.answered.is_some_and(|status| (200..300).contains(&status));
    for heard in orchestrator.events_of(id).into_iter().filter(taken) {
        let before = events.insert(heard.sequence(), heard.body.clone());
        assert!(before.is_none_or(|before| before == heard.body), "one number, two events: {:#}", heard.body);
    }
    events
}

/// Demands the job's whole history, each change once and in order.
fn check_events(orchestrator: &Orchestrator, node: &Node, id: &str) {
    let job = node.job(id);
    let history = job["history"].as_array().expect("a history");
    until(support::node::LIMIT, &format!("every event of {id}"), || {
        (received(orchestrator, id).len() >= history.len()).then_some(())
    });
    let events: Vec<Value> = received(orchestrator, id).into_values().collect();
    assert_eq!(events.len(), history.len(), "{events:#?}");
    for (event, change) in events.iter().zip(history) {
        assert_eq!(
            (&event["type"], &event["job"], &event["node_id"]),
            (&"state".into(), &id.into(), &"node-under-test".into())
        );
        for key in ["number", "state", "at"] {
            assert_eq!(event[key], change[key], "{event:#}");
        }
        assert_eq!(
            (&event["record"]["id"], &event["record"]["state"]),
            (&id.into(), &change["state"]),
            "{event:#}"
        );
    }
    let last = events.last().expect("an event");
    assert_eq!(last["record"], job, "the last event has the job as it is");
    let arrived: Vec<u64> = orchestrator.events_of(id).iter().map(Heard::sequence).collect();
    assert!(arrived.is_sorted(), "out of order: {arrived:?}");
}

#[test]
fn events_wait_while_the_orchestrator_is_away_and_the_node_is_restarted() {
    let Some(film) = film(90, 8) else { return };
    let mut orchestrator = Orchestrator::start();
    let mut node = Node::start(&Config::default().told_to(&orchestrator));
    let input = node.add(&film);
    node.accepted(&job("before", &input));
    node.succeeded("before");
    check_events(&orchestrator, &node, "before");
    orchestrator.away();
    let left = Instant::now();
    for id in ["away-1", "away-2"] {
        node.accepted(&job(id, &input));
    }
    node.succeeded("away-2");
    node.kill();
    node.restart();
    node.accepted(&job("away-3", &input));
    node.accepted(&job("away-4", &input));
    node.delete("/jobs/away-4");
    node.succeeded("away-3");
    node.ended("away-4");
    node.terminate();
    node.restart();
    let away = Duration::from_secs(setting("SPROCKET_AWAY_S", 4));
    pause(away.saturating_sub(left.elapsed()));
    assert!(orchestrator.events_of("away-1").is_empty());
    orchestrator.back();
    node.accepted(&job("after", &input));
    node.succeeded("after");
    for id in ["before", "away-1", "away-2", "away-3", "away-4", "after"] {
        check_events(&orchestrator, &node, id);
    }
    let before = orchestrator.events_of("before").len();
    pause(Duration::from_millis(500));
    assert_eq!(orchestrator.events_of("before").len(), before, "nothing is told twice for no reason");
    let beat = orchestrator.hears("capabilities for one that may have forgotten", |heard| {
        heard.iter().rev().find(|heard| heard.is_beat() && heard.body.get("capabilities").is_some()).cloned()
    });
    assert!(beat.at - left >= Duration::from_secs(1));
}

#[test]
fn a_refused_event_is_set_aside_and_a_failed_one_comes_again() {
    let Some(film) = film(90, 8) else { return };
    let orchestrator = Orchestrator::start();
    let failed_once = std::sync::atomic::AtomicBool::new(false);
    orchestrator.answers(move |heard| match (heard.event_of(), heard.body["number"].as_u64()) {
        (Some("refused"), Some(1)) => Reply::Status(422),
        (Some("failing"), Some(2)) if !failed_once.swap(true, std::sync::atomic::Ordering::SeqCst) => {
            Reply::Status(500)
        }
        _ => Reply::Status(204),
    });
    let node = Node::start(&Config::default().told_to(&orchestrator));
    let input = node.add(&film);
    for id in ["refused", "failing", "fine"] {
        node.accepted(&job(id, &input));
        node.succeeded(id);
    }
    for id in ["failing", "fine"] {
        check_events(&orchestrator, &node, id);
    }
    orchestrator.hears("what follows the refused one", |heard| {
        heard.iter().find(|h| h.event_of() == Some("refused") && h.body["number"] == 3).map(drop)
    });
    let numbers = |id: &str| -> Vec<u64> {
        orchestrator.events_of(id).iter().filter_map(|heard| heard.body["number"].as_u64()).collect()
    };
    assert_eq!(numbers("refused"), [1, 2, 3], "once, and it blocks nothing");
    assert_eq!(numbers("failing"), [1, 2, 2, 3], "again, before what follows it");
    let loud = node.said_about("refused an event with 422");
    assert_eq!(loud.len(), 1, "one loud line: {loud:#?}");
}

/// A name, and how every request is answered in it.
type Mood = (&'static str, fn() -> Reply);

#[test]
fn an_orchestrator_that_stalls_or_talks_nonsense_disturbs_nobody() {
    let Some(film) = film(90, 8) else { return };
    let orchestrator = Orchestrator::start();
    let mut node = Node::start(&Config::default().told_to(&orchestrator));
    let input = node.add(&film);
    let moods: [Mood; 7] = [
        ("stalls", || Reply::Stall),
        ("hangs-up", || Reply::HangUp),
        ("no-http", || Reply::Raw(b"220 smtp ready\r\n")),
        ("torn", || Reply::Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{\"a\":")),
        ("elsewhere", || {
            Reply::Raw(b"HTTP/1.1 307 Away\r\nLocation: http://127.0.0.1:9/\r\nContent-Length: 0\r\n\r\n")
        }),
        ("retry", || {
            Reply::Raw(b"HTTP/1.1 429 No\r\nRetry-After: 99999999999999999999\r\nContent-Length: 0\r\n\r\n")
        }),
        ("endless", || Reply::Endless),
    ];
    for (id, mood) in moods {
        orchestrator.answers(move |_| mood());
        let before = orchestrator.heard().len();
        node.accepted(&job(id, &input));
        let begin = Instant::now();
        node.succeeded(id);
        println!("{id}: the job took {:?}", begin.elapsed());
        // The node goes on asking, and goes on working.
        orchestrator.hears("two requests more", |heard| (heard.len() >= before + 2).then_some(()));
        node.get("/healthz").expect(200);
    }
    let resident = node.figures().resident_kib;
    pause(Duration::from_millis(1500));
    let grown = node.figures().resident_kib.saturating_sub(resident);
    assert!(grown < 64 * 1024, "an endless answer took {grown} KiB");
    let took = node.terminate();
    println!("terminated within {took:?} while the orchestrator answers without an end");
    // Everything that was kept meanwhile arrives when it behaves again.
    orchestrator.answers(|_| Reply::Status(204));
    node.restart();
    for (id, _) in moods {
        check_events(&orchestrator, &node, id);
    }
}
