//! Many requests at once, cancelling at speed, and many jobs one after the other.
//!
//! `SPROCKET_SOAK` makes the runs long (10,000 POSTs instead of 1,000, 100 cancels instead of 5, 500 jobs
//! instead of 20) and asserts times, which only a machine with nothing else to do can keep.

mod support;

use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use support::node::films::{film, job, long_film, picture, slow};
use support::node::{Answer, Config, Node, client, runtime, soak, until};

const CONNECTIONS: u64 = 64;
/// More in the long run, so that the looks at its health meanwhile are enough for a 99th percentile.
fn posts() -> u64 {
    if soak() { 10_000 } else { 1000 }
}
const SLOTS: u64 = 2;
const QUEUE: u64 = 8;
/// What the issue allows for the 99th percentile of an answer.
const ANSWER_LIMIT_MS: f64 = 20.0;
/// What the issue allows for the 95th percentile of a cancel.
const CANCEL_LIMIT_MS: f64 = 200.0;

/// Times, sorted, in milliseconds.
struct Times(Vec<f64>);

impl Times {
    fn of(mut times: Vec<Duration>) -> Self {
        assert!(!times.is_empty(), "nothing was measured");
        times.sort();
        Self(times.iter().map(|time| time.as_secs_f64() * 1e3).collect())
    }

    fn at(&self, percent: usize) -> f64 {
        self.0[(self.0.len() * percent / 100).min(self.0.len() - 1)]
    }

    fn show(&self, what: &str) {
        let Self(all) = self;
        println!(
            "{what}: {} times, p50 {:.1} ms, p95 {:.1} ms, p99 {:.1} ms, most {:.1} ms",
            all.len(),
            self.at(50),
            self.at(95),
            self.at(99),
            all[all.len() - 1]
        );
    }
}

#[test]
fn a_full_node_takes_no_more_than_its_limits_and_refuses_quickly() {
    let Some(film) = long_film() else { return };
    let config =
        Config::default().with("limits.max_concurrent_jobs", SLOTS).with("limits.max_queued_jobs", QUEUE);
    let node = Node::start(&config);
    let input = node.add(&film);
    // Every core encodes before the first of the thousand comes, and the queue has room for eight.
    for n in 0..SLOTS {
        let id = format!("works-{n}");
        node.accepted(&slow(job(&id, &input), 180));
        node.working(&id);
    }
    let over = Arc::new(AtomicBool::new(false));
    let health = runtime().spawn(look_after_health(node.url("/healthz"), over.clone()));
    let (answers, times) = runtime().block_on(post_all(&node, &input));
    over.store(true, Ordering::SeqCst);
    let (health, healthy) = runtime().block_on(health).expect("the looks at its health");
    assert!(healthy, "an answer of /healthz was not 200");
    let accepted = answers.iter().filter(|answer| answer.status == 202).count() as u64;
    assert_eq!(accepted, QUEUE, "all that there is room for, and no more");
    for answer in answers.iter().filter(|answer| answer.status != 202) {
        answer.clone().refused(429, "queue_full").retry_after_s();
    }
    let waiting = node.get("/jobs?state=queued&limit=200").expect(200).json();
    assert_eq!(waiting["jobs"].as_array().map(Vec::len), Some(QUEUE as usize));
    let transcodes = &node.describe()["transcodes"];
    assert_eq!((&transcodes["running"], &transcodes["queued"]), (&SLOTS.into(), &QUEUE.into()));
    let (posts, health) = (Times::of(times), Times::of(health));
    posts.show("POST /jobs");
    health.show("GET /healthz meanwhile");
    if soak() {
        let slowest = posts.at(99).max(health.at(99));
        assert!(slowest <= ANSWER_LIMIT_MS, "99 % within {slowest:.1} ms");
    }
}

/// All POSTs over connections that are kept, each with the next as soon as it has its answer.
async fn post_all(node: &Node, input: &str) -> (Vec<Answer>, Vec<Duration>) {
    let (url, next) = (node.url("/jobs"), Arc::new(AtomicU64::new(0)));
    let connections: Vec<_> = (0..CONNECTIONS)
        .map(|_| {
            let (client, url, next, input) = (client(), url.clone(), next.clone(), input.to_owned());
            runtime().spawn(async move {
                let mut answers = Vec::new();
                loop {
                    let n = next.fetch_add(1, Ordering::SeqCst);
                    if n >= posts() {
                        return answers;
                    }
                    let document = slow(job(&format!("more-{n}"), &input), 180);
                    let begin = Instant::now();
                    let answer = Answer::get("POST /jobs".into(), client.post(&url).json(&document)).await;
                    answers.push((answer.expect("an answer"), begin.elapsed()));
                }
            })
        })
        .collect();
    let mut all = Vec::new();
    for connection in connections {
        all.extend(connection.await.expect("a connection"));
    }
    assert_eq!(all.len() as u64, posts());
    all.into_iter().unzip()
}

async fn look_after_health(url: String, over: Arc<AtomicBool>) -> (Vec<Duration>, bool) {
    let (client, mut times, mut healthy) = (client(), Vec::new(), true);
    while !over.load(Ordering::SeqCst) {
        let begin = Instant::now();
        let answer = Answer::get("GET /healthz".into(), client.get(&url)).await;
        times.push(begin.elapsed());
        healthy &= answer.is_ok_and(|answer| answer.status == 200);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    (times, healthy)
}

/// A job of 1080 lines with the encoder's settings as the node chooses them. With slower ones x264 takes
/// longer to let go: it ends the frames that it has begun.
fn usual(mut job: Value) -> Value {
    job["renditions"] = json!([picture(1080)]);
    if let Some(rendition) = job["renditions"][0].as_object_mut() {
        rendition.remove("preset");
    }
    job
}

#[test]
fn cancelling_stops_compute_at_once() {
    let Some(film) = film(1080, 8) else { return };
    let node = Node::start(&Config::default());
    let input = node.add(&film);
    let runs = if soak() { 100 } else { 5 };
    let mut times = Vec::new();
    for run in 0..runs {
        let id = format!("run-{run}");
        node.accepted(&usual(job(&id, &input)));
        node.working(&id);
        assert!(!node.codec_threads().is_empty(), "{:?}", node.thread_names());
        // Spread over the beginning of a run, the same in each run of the test.
        support::node::pause(Duration::from_millis(run * 7919 % 700));
        let begin = Instant::now();
        node.delete(&format!("/jobs/{id}")).expect(202);
        let over = || node.codec_threads().is_empty() && node.state_of(&id) == "cancelled";
        while !over() {
            assert!(begin.elapsed() < Duration::from_secs(10), "{id} is not cancelled and stopped");
            // Finer than `until` looks: what is waited for takes a hundred milliseconds.
            support::node::pause(Duration::from_millis(4));
        }
        times.push(begin.elapsed());
    }
    let times = Times::of(times);
    times.show("DELETE to no codec thread alive");
    if soak() {
        assert!(times.at(95) <= CANCEL_LIMIT_MS, "95 % within {:.1} ms", times.at(95));
    }
}

#[test]
fn many_jobs_leave_memory_threads_and_descriptors_as_they_were() {
    let Some(film) = film(90, 2) else { return };
    let node = Node::start(&Config::default());
    let input = node.add(&film);
    let jobs = if soak() { 500 } else { 20 };
    let mut early = None;
    for n in 0..jobs {
        let id = format!("short-{n}");
        node.accepted(&job(&id, &input));
        node.succeeded(&id);
        if n + 1 == jobs / 10 {
            early = Some(settled(&node));
        }
    }
    let (early, late) = (early.expect("a look at a tenth"), settled(&node));
    println!("{jobs} jobs: {early:?} after a tenth, {late:?} at the end");
    assert!(late.threads <= early.threads, "threads: {:?}", node.thread_names());
    assert!(late.descriptors <= early.descriptors + 1, "descriptors: {early:?}, {late:?}");
    // In a short run the caches of the allocator are still filling.
    let more = if soak() { early.resident_kib / 10 } else { early.resident_kib / 4 };
    assert!(late.resident_kib <= early.resident_kib + more + 4000, "memory: {early:?}, {late:?}");
    let known = node.get("/jobs?limit=200").expect(200).json();
    assert_eq!(known["jobs"].as_array().map(Vec::len), Some(jobs.min(200) as usize));
    assert!(known["jobs"].as_array().is_some_and(|jobs| jobs.iter().all(succeeded)), "{known:#}");
}

fn succeeded(job: &Value) -> bool {
    job["state"] == "succeeded"
}

/// What the node holds when nothing happens: the last reader threads have gone, connections have closed.
fn settled(node: &Node) -> support::node::Figures {
    let mut last = node.figures();
    until(Duration::from_secs(30), "the figures come to rest", || {
        support::node::pause(Duration::from_millis(200));
        let now = node.figures();
        let rest = (now.threads, now.descriptors) == (last.threads, last.descriptors)
            && node.codec_threads().is_empty();
        last = now;
        rest.then_some(now)
    })
}
