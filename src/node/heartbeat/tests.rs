use super::super::fakes::{FakeLedger, FakePost, away, error_500, pass};
use super::super::orchestrator::Scope;
use super::super::state::Watch;
use super::*;
use crate::model::node::NodeFacts;
use serde_json::json;
use std::path::PathBuf;
use std::sync::Mutex;
use tokio::task::JoinHandle;

const INTERVAL: Duration = Duration::from_secs(10);

struct Facts(Mutex<Beat>);

impl BeatSource for Facts {
    fn beat(&self) -> Beat {
        self.0.lock().unwrap().clone()
    }
}

fn beat() -> Beat {
    Beat {
        state: NodeState::Idle,
        reasons: vec![],
        cpu: Cpu { load_percent: 12.5, cores: 4 },
        memory: Memory { total_bytes: 100, used_bytes: 25, available_bytes: 75, pressure_percent: 25.0 },
        disk: vec![Disk {
            name: "output".into(),
            path: PathBuf::from("/out"),
            total_bytes: Some(1000),
            free_bytes: Some(10),
            writable: Some(true),
            answering: true,
            silent_since: None,
            error: None,
        }],
        transcodes: Transcodes { running: 1, queued: 2, sessions: 3, threads: 9 },
        capacity: Capacity { slots: 2, free: 1 },
        jobs: vec![JobLine { id: "movie-42".into(), percent: None, speed: 1.5 }],
        capabilities: json!({ "encoders": ["libx264"] }),
        uptime_s: 5,
        version: "0.1.0".into(),
    }
}

/// A heart that beats against `post` on the test's clock.
struct Running {
    facts: Arc<Facts>,
    watch: Watch,
    ledger: FakeLedger,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

fn start(post: &FakePost) -> Running {
    let facts = Arc::new(Facts(Mutex::new(beat())));
    let watch = Watch::new(NodeFacts { slots: 1, ..NodeFacts::default() });
    let (ledger, shutdown) = (FakeLedger::default(), CancellationToken::new());
    let heart =
        run(post.clone(), ledger.clone(), facts.clone(), watch.subscribe(), INTERVAL, shutdown.clone());
    Running { facts, watch, ledger, shutdown, task: tokio::spawn(heart) }
}

async fn seconds(count: u64) {
    pass(Duration::from_secs(count)).await;
}

fn with_capabilities(post: &FakePost) -> Vec<bool> {
    post.log().iter().map(|sent| sent.body.contains_key("capabilities")).collect()
}

#[tokio::test(start_paused = true)]
async fn it_beats_at_the_start_each_interval_and_at_the_end() {
    let post = FakePost::good();
    let heart = start(&post);
    seconds(35).await;
    assert_eq!(post.seconds(), [0, 10, 20, 30]);
    heart.shutdown.cancel();
    heart.task.await.unwrap();
    assert_eq!(post.seconds(), [0, 10, 20, 30, 35]);
    let numbers: Vec<u64> = post.log().iter().map(|sent| sent.sequence).collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5]);
    assert_eq!(with_capabilities(&post), [true, false, false, false, false]);
    assert_eq!(post.link().counters().beats_delivered.get(), 5);
}

#[tokio::test(start_paused = true)]
async fn the_body_is_that_of_the_contract() {
    let post = FakePost::good();
    let _heart = start(&post);
    seconds(1).await;
    let expected = json!({
        "state": "IDLE",
        "reasons": [],
        "cpu": { "load_percent": 12.5, "cores": 4 },
        "memory": { "total_bytes": 100, "used_bytes": 25, "available_bytes": 75, "pressure_percent": 25.0 },
        "disk": [{
            "name": "output", "path": "/out", "total_bytes": 1000, "free_bytes": 10, "writable": true,
            "answering": true, "silent_since": null, "error": null
        }],
        "transcodes": { "running": 1, "queued": 2, "sessions": 3, "threads": 9 },
        "capacity": { "slots": 2, "free": 1 },
        "jobs": [{ "id": "movie-42", "percent": null, "speed": 1.5 }],
        "capabilities": { "encoders": ["libx264"] },
        "uptime_s": 5,
        "version": "0.1.0"
    });
    assert_eq!(Value::Object(post.log()[0].body.clone()), expected);
}

#[tokio::test(start_paused = true)]
async fn a_change_of_state_beats_at_once_and_leaves_the_grid_alone() {
    let post = FakePost::good();
    let heart = start(&post);
    seconds(3).await;
    heart.watch.update(|facts| facts.used = 1);
    seconds(4).await;
    heart.watch.update(|facts| facts.draining = true);
    seconds(15).await;
    assert_eq!(post.seconds(), [0, 3, 7, 10, 20]);
}

#[tokio::test(start_paused = true)]
async fn changes_before_the_first_beat_and_during_a_slow_one_cost_one_beat() {
    let post = FakePost::new(|sent| {
        (Duration::from_secs(if sent.sequence == 2 { 3 } else { 0 }), Answer::Delivered)
    });
    let heart = start(&post);
    heart.watch.update(|facts| facts.used = 1);
    seconds(1).await;
    assert_eq!(post.seconds(), [0]);
    // This beat takes three seconds.
    heart.watch.update(|facts| facts.used = 0);
    for used in [1, 0, 1, 0, 1] {
        seconds(0).await;
        pass(Duration::from_millis(100)).await;
        heart.watch.update(|facts| facts.used = used);
    }
    seconds(7).await;
    assert_eq!(post.seconds(), [0, 1, 4], "one for all the changes");
}

#[tokio::test(start_paused = true)]
async fn a_slow_orchestrator_gets_fewer_beats_and_never_a_burst() {
    let post = FakePost::new(|_| (Duration::from_secs(25), away()));
    let heart = start(&post);
    seconds(99).await;
    assert_eq!(post.seconds(), [0, 25, 50, 75]);
    assert_eq!(post.most_flying(), 1);
    assert_eq!(post.link().counters().beats_failed.get(), 3);
    post.answer(|_| (Duration::ZERO, Answer::Delivered));
    seconds(30).await;
    // The beat of 75 ends at 100, a tick; from then on the grid is kept.
    assert_eq!(post.seconds(), [0, 25, 50, 75, 100, 110, 120]);
    drop(heart);
}

#[tokio::test(start_paused = true)]
async fn the_end_waits_a_second_for_an_orchestrator_that_stalls_and_no_longer() {
    let post = FakePost::new(|_| (Duration::from_secs(3600), Answer::Delivered));
    let heart = start(&post);
    seconds(5).await;
    heart.shutdown.cancel();
    let began = Instant::now();
    heart.task.await.unwrap();
    assert_eq!(began.elapsed().as_millis(), 1000);
    assert_eq!((post.seconds(), post.most_flying()), (vec![0, 5], 1), "the one under way was given up");
}

#[tokio::test(start_paused = true)]
async fn capabilities_are_told_again_when_they_change_and_after_an_outage() {
    let post = FakePost::good();
    let heart = start(&post);
    seconds(15).await;
    heart.facts.0.lock().unwrap().capabilities = json!({ "encoders": [] });
    seconds(10).await;
    post.answer(|_| (Duration::ZERO, away()));
    seconds(10).await;
    post.answer(|_| (Duration::ZERO, Answer::Delivered));
    seconds(20).await;
    // At 0, 10, 20 (changed), 30 (away), 40 (back), 50.
    assert_eq!(with_capabilities(&post), [true, false, true, false, true, false]);
    // Another message found it away between two beats: it may have been restarted.
    post.link().silent("connection refused");
    post.link().answered();
    seconds(20).await;
    assert_eq!(with_capabilities(&post)[6..], [true, false]);
}

#[tokio::test(start_paused = true)]
async fn capabilities_count_as_told_only_when_they_arrived() {
    let post = FakePost::new(|_| (Duration::ZERO, error_500()));
    let _heart = start(&post);
    seconds(15).await;
    post.answer(|_| (Duration::ZERO, Answer::Refused { status: 400 }));
    seconds(10).await;
    post.answer(|_| (Duration::ZERO, Answer::Delivered));
    seconds(20).await;
    assert_eq!(with_capabilities(&post), [true, true, true, true, false]);
    let counters = post.link().counters();
    assert_eq!((counters.beats_failed.get(), counters.beats_delivered.get()), (3, 2));
}

#[tokio::test(start_paused = true)]
async fn a_wish_for_quiet_is_granted_except_for_news() {
    let post = FakePost::new(|_| {
        let after = Some(Duration::from_secs(25));
        (Duration::ZERO, Answer::Later { why: "429".into(), after, scope: Scope::Orchestrator })
    });
    let heart = start(&post);
    seconds(12).await;
    post.answer(|_| (Duration::ZERO, Answer::Delivered));
    heart.watch.update(|facts| facts.used = 1);
    seconds(30).await;
    assert_eq!(post.seconds(), [0, 12, 30, 40]);
}

#[tokio::test(start_paused = true)]
async fn a_node_without_its_journal_still_beats() {
    let post = FakePost::good();
    let heart = start(&post);
    seconds(15).await;
    heart.ledger.fail(2);
    seconds(30).await;
    let numbers: Vec<u64> = post.log().iter().map(|sent| sent.sequence).collect();
    assert_eq!(numbers, [1, 2, 2, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn it_beats_on_when_nobody_holds_the_state_any_more() {
    let post = FakePost::good();
    let heart = start(&post);
    seconds(1).await;
    drop(heart.watch);
    seconds(20).await;
    assert_eq!(post.seconds(), [0, 10, 20]);
}
