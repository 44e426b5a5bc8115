use super::super::fakes::{FakeLedger, FakePost, Reply, Sent, Server, away, error_500, pass, until};
use super::super::orchestrator::{Client, Limits};
use super::*;
use crate::model::record::{Job, JobState};
use crate::work::journal::Journal;
use proptest::prelude::*;
use serde_json::json;
use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::task::JoinHandle;

struct Running {
    ledger: FakeLedger,
    notify: Arc<Notify>,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

fn start<P: Post>(post: &P, ledger: FakeLedger) -> Running {
    let (notify, shutdown) = (Arc::new(Notify::new()), CancellationToken::new());
    let task = tokio::spawn(run(post.clone(), ledger.clone(), notify.clone(), shutdown.clone()));
    Running { ledger, notify, shutdown, task }
}

/// An outbox with `each` events for each of `jobs` jobs, dealt in turns.
fn filled(jobs: usize, each: usize) -> FakeLedger {
    let ledger = FakeLedger::default();
    for n in 0..each {
        for job in 0..jobs {
            ledger.push(&format!("job-{job}"), json!({ "n": n }));
        }
    }
    ledger
}

async fn seconds(count: u64) {
    pass(Duration::from_secs(count)).await;
}

fn sequences(post: &FakePost) -> Vec<u64> {
    post.log().iter().map(|sent| sent.sequence).collect()
}

/// Whether each job's sequences arrive in order, repeats of the newest one aside.
fn in_order<'a>(arrived: impl Iterator<Item = (&'a str, u64)>) -> Result<(), String> {
    let mut newest: HashMap<&str, u64> = HashMap::new();
    for (job, sequence) in arrived {
        let newest = newest.entry(job).or_default();
        if sequence < *newest {
            return Err(format!("{job}: {sequence} after {newest}"));
        }
        *newest = sequence;
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn several_jobs_at_once_and_each_in_order() {
    let post = FakePost::new(|_| (Duration::from_secs(1), Answer::Delivered));
    let outbox = start(&post, filled(20, 3));
    seconds(30).await;
    assert_eq!((outbox.ledger.left(), post.log().len(), post.most_flying()), (0, 60, MAX_IN_FLIGHT));
    let log = post.log();
    in_order(log.iter().map(|sent| (sent.call.as_str(), sent.sequence))).unwrap();
    assert_eq!(log.last().unwrap().at_ms / 1000, 7, "sixty events, eight at a time, a second each");
    assert_eq!(log[0].call, "events job-0");
    assert_eq!(log[0].body, *json!({ "n": 0 }).as_object().unwrap());
    assert_eq!(post.link().counters().events_delivered.get(), 60);
}

#[tokio::test(start_paused = true)]
async fn an_event_that_comes_is_sent_at_once() {
    let post = FakePost::good();
    let outbox = start(&post, FakeLedger::default());
    seconds(3).await;
    outbox.ledger.push("film", json!({}));
    outbox.notify.notify_one();
    pass(Duration::from_millis(1)).await;
    assert_eq!(post.seconds(), [3]);
    // A wake-up that was forgotten costs time, not the event.
    outbox.ledger.push("film", json!({}));
    seconds(11).await;
    assert_eq!(sequences(&post), [1, 2]);
    let looks = outbox.ledger.looks();
    seconds(100).await;
    assert!(outbox.ledger.looks() - looks <= 11, "an idle outbox leaves the journal alone");
}

#[tokio::test(start_paused = true)]
async fn a_refused_event_is_set_aside_and_blocks_nothing() {
    let refuse = |sent: &Sent| {
        let answer = if sent.sequence == 1 { Answer::Refused { status: 400 } } else { Answer::Delivered };
        (Duration::ZERO, answer)
    };
    let post = FakePost::new(refuse);
    let outbox = start(&post, filled(1, 3));
    seconds(1).await;
    assert_eq!(sequences(&post), [1, 2, 3]);
    assert_eq!(outbox.ledger.aside(), [(1, "the orchestrator answered 400".to_string())]);
    assert_eq!(outbox.ledger.left(), 0);
    let counters = post.link().counters();
    assert_eq!((counters.events_set_aside.get(), counters.events_delivered.get()), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn a_request_that_fails_makes_only_its_job_wait() {
    let post = FakePost::new(|sent| {
        (Duration::ZERO, if sent.call == "events job-1" { error_500() } else { Answer::Delivered })
    });
    let outbox = start(&post, filled(3, 2));
    seconds(1).await;
    let others: Vec<u64> =
        post.log().iter().filter(|s| s.call != "events job-1").map(|s| s.sequence).collect();
    assert_eq!(others, [1, 3, 4, 6]);
    assert_eq!(outbox.ledger.left(), 2);
    seconds(120).await;
    let tries = post.log().len() - 4;
    assert!((7..60).contains(&tries), "{tries} tries in two minutes");
    assert!(post.log().iter().all(|sent| sent.sequence != 5), "the next one waits for the one before");
    let late = outbox.ledger.push("late", json!({}));
    outbox.notify.notify_one();
    pass(Duration::from_millis(1)).await;
    assert_eq!(post.log().last().unwrap().sequence, late, "a new job is not held up by it");
    post.answer(|_| (Duration::ZERO, Answer::Delivered));
    seconds(31).await;
    assert_eq!(outbox.ledger.left(), 0);
    in_order(post.log().iter().map(|sent| (sent.call.as_str(), sent.sequence))).unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_delivered_event_leaves_no_grudge_against_the_next() {
    let post = FakePost::new(|_| (Duration::ZERO, error_500()));
    let outbox = start(&post, filled(1, 2));
    seconds(300).await;
    let tries = post.log().len();
    let left = AtomicUsize::new(1);
    post.answer(move |sent| {
        let fails = sent.sequence == 2 && left.swap(0, Ordering::Relaxed) == 1;
        (Duration::ZERO, if fails { error_500() } else { Answer::Delivered })
    });
    seconds(31).await;
    assert_eq!(outbox.ledger.left(), 0);
    let log = post.log().split_off(tries);
    assert_eq!(log.iter().map(|sent| sent.sequence).collect::<Vec<_>>(), [1, 2, 2]);
    assert!(log[2].at_ms - log[1].at_ms <= 500, "the back-off begins anew");
}

#[tokio::test(start_paused = true)]
async fn an_outage_gets_one_probe_at_a_time_and_then_everything_arrives_once() {
    let post = FakePost::new(|_| (Duration::from_millis(100), away()));
    let outbox = start(&post, filled(50, 3));
    seconds(120).await;
    let log = post.log();
    let probes = log.iter().filter(|sent| sent.at_ms >= 100).count();
    assert_eq!(log.len() - probes, MAX_IN_FLIGHT, "the first wave");
    assert!((6..40).contains(&probes), "{probes} probes in two minutes");
    let tried: HashSet<u64> = log.iter().map(|sent| sent.sequence).collect();
    assert_eq!(tried.len(), log.len(), "each probe is for another job");
    assert_eq!((outbox.ledger.left(), outbox.ledger.aside().len()), (150, 0));
    post.answer(|_| (Duration::from_millis(100), Answer::Delivered));
    seconds(35).await;
    assert_eq!(outbox.ledger.left(), 0);
    let after = &post.log()[log.len()..];
    let delivered: HashSet<u64> = after.iter().map(|sent| sent.sequence).collect();
    assert_eq!((after.len(), delivered.len()), (150, 150), "each once");
    in_order(after.iter().map(|sent| (sent.call.as_str(), sent.sequence))).unwrap();
}

#[tokio::test(start_paused = true)]
async fn word_that_the_orchestrator_is_back_ends_the_pause() {
    let post = FakePost::new(|_| (Duration::ZERO, away()));
    let outbox = start(&post, filled(3, 1));
    seconds(300).await;
    post.answer(|_| (Duration::ZERO, Answer::Delivered));
    post.link().answered();
    pass(Duration::from_millis(1)).await;
    assert_eq!(outbox.ledger.left(), 0);
}

#[tokio::test(start_paused = true)]
async fn one_event_that_never_gets_an_answer_does_not_keep_the_door_shut() {
    let post = FakePost::new(|sent| match sent.call.as_str() {
        "events job-0" => (Duration::from_secs(10), away()),
        _ => (Duration::ZERO, Answer::Delivered),
    });
    let outbox = start(&post, filled(200, 1));
    seconds(60).await;
    assert_eq!(outbox.ledger.left(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_orchestrator_that_fails_at_everything_is_probed_too() {
    let post = FakePost::new(|_| (Duration::ZERO, error_500()));
    let outbox = start(&post, filled(500, 1));
    seconds(120).await;
    let count = post.log().len();
    assert!((8..80).contains(&count), "{count} requests in two minutes for 500 events");
    assert_eq!(outbox.ledger.left(), 500);
    post.answer(|_| (Duration::ZERO, Answer::Delivered));
    seconds(61).await;
    assert_eq!(outbox.ledger.left(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_wish_for_quiet_is_granted() {
    let post = FakePost::new(|_| {
        let after = Some(Duration::from_secs(40));
        (Duration::ZERO, Answer::Later { why: "429".into(), after, scope: Scope::Orchestrator })
    });
    let outbox = start(&post, filled(20, 1));
    seconds(35).await;
    assert_eq!(post.log().len(), MAX_IN_FLIGHT);
    post.link().silent("x");
    post.link().answered();
    outbox.notify.notify_one();
    seconds(4).await;
    assert_eq!(post.log().len(), MAX_IN_FLIGHT, "neither news nor other messages shorten it");
    post.answer(|_| (Duration::ZERO, Answer::Delivered));
    seconds(2).await;
    assert_eq!(outbox.ledger.left(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_journal_that_fails_costs_time_and_sends_nothing_twice() {
    let post = FakePost::good();
    let ledger = filled(3, 2);
    ledger.fail(4);
    let outbox = start(&post, ledger);
    seconds(10).await;
    assert_eq!((outbox.ledger.left(), sequences(&post)), (0, vec![1, 2, 3, 4, 5, 6]));
    // Now while an answer is being noted.
    let ledger = outbox.ledger.clone();
    post.answer(move |_| {
        ledger.fail(5);
        (Duration::ZERO, Answer::Delivered)
    });
    outbox.ledger.push("film", json!({}));
    outbox.notify.notify_one();
    seconds(60).await;
    assert_eq!((outbox.ledger.left(), sequences(&post).len()), (0, 7));
}

#[tokio::test(start_paused = true)]
async fn a_broken_journal_is_not_asked_without_end() {
    let post = FakePost::good();
    let ledger = filled(1, 1);
    ledger.fail(u32::MAX);
    let outbox = start(&post, ledger);
    for _ in 0..120 {
        outbox.notify.notify_one();
        seconds(1).await;
    }
    let looks = outbox.ledger.looks();
    assert!((6..40).contains(&looks), "{looks} looks in two minutes");
}

#[tokio::test(start_paused = true)]
async fn the_end_waits_a_second_for_answers_and_keeps_the_rest() {
    let post = FakePost::new(|sent| {
        (Duration::from_millis(if sent.sequence == 1 { 600 } else { 5000 }), Answer::Delivered)
    });
    let outbox = start(&post, filled(2, 1));
    pass(Duration::from_millis(1)).await;
    outbox.shutdown.cancel();
    let began = Instant::now();
    outbox.task.await.unwrap();
    assert_eq!(began.elapsed().as_millis(), 1000);
    assert_eq!(outbox.ledger.left(), 1, "the first was answered in time, the other is sent again");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever the orchestrator does for a while: in order for each job, one at a time for each job,
    /// and once it behaves, all of it arrives, with nothing repeated that it had taken.
    #[test]
    fn every_event_arrives_in_order(
        script in prop::collection::vec((0u8..6, 0u64..12_000), 1..120),
        jobs in 1usize..30,
        each in 1usize..6,
    ) {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async move {
            let taken = Arc::new(Mutex::new(Vec::new()));
            let (notes, at) = (taken.clone(), AtomicUsize::new(0));
            let post = FakePost::new(move |sent| {
                let step = script.get(at.fetch_add(1, Ordering::Relaxed));
                let (kind, delay_ms) = step.copied().unwrap_or((0, 1));
                let answer = match kind {
                    0 | 1 => Answer::Delivered,
                    2 => Answer::Refused { status: 422 },
                    3 => error_500(),
                    4 => away(),
                    _ => Answer::Later { why: "429".into(), after: Some(Duration::from_secs(3)), scope: Scope::Orchestrator },
                };
                if kind <= 2 {
                    notes.lock().unwrap().push((sent.call.clone(), sent.sequence));
                }
                (Duration::from_millis(delay_ms), answer)
            });
            let outbox = start(&post, filled(jobs, each));
            seconds(3 * 3600).await;
            let log = post.log();
            prop_assert_eq!(outbox.ledger.left(), 0);
            prop_assert!(post.most_flying() <= MAX_IN_FLIGHT);
            let order = in_order(log.iter().map(|sent| (sent.call.as_str(), sent.sequence)));
            prop_assert!(order.is_ok(), "{:?}", order);
            let taken = taken.lock().unwrap();
            let different: HashSet<u64> = taken.iter().map(|(_, sequence)| *sequence).collect();
            prop_assert_eq!((taken.len(), different.len()), (jobs * each, jobs * each));
            Ok(())
        })?;
    }
}

// ---- over a real socket ------------------------------------------------------------------------------

fn short() -> Limits {
    Limits { connect: Duration::from_millis(300), whole: Duration::from_millis(300) }
}

/// What a receiver that goes by `sequence` has: each number once, in the order of arrival.
fn unique(seen: &[super::super::fakes::Seen]) -> Vec<(String, u64)> {
    let mut known = HashSet::new();
    let fresh = seen.iter().filter(|seen| known.insert(seen.sequence()));
    fresh.map(|seen| (seen.path.clone(), seen.sequence())).collect()
}

#[tokio::test]
async fn through_deaths_of_both_sides_each_event_arrives_once_and_in_order() {
    let ledger = filled(20, 3);
    // Dead at first.
    let address = Server::start(|_| Reply::status(200)).address;
    let client = Client::with_limits(&format!("http://{address}"), "t", "n", short()).unwrap();
    let first = start(&client, ledger.clone());
    until(|| !client.link().reach().reachable).await;
    // Then there, but refusing, stalling and failing in turns; what it answers 2xx it has taken.
    let count = AtomicUsize::new(0);
    let moody = Server::at(address, move |_| match count.fetch_add(1, Ordering::Relaxed) % 5 {
        0 => Reply::status(500),
        1 => Reply::Stall,
        2 => Reply::status(429),
        _ => Reply::status(204),
    });
    until(|| moody.seen().len() >= 12).await;
    // This node dies under its requests; another takes over its outbox.
    first.task.abort();
    let second = start(&client, ledger.clone());
    until(|| moody.seen().len() >= 20).await;
    // The orchestrator dies too, and comes back in good health.
    let mut arrived = moody.seen();
    drop(moody);
    pass(Duration::from_millis(300)).await;
    let healthy = Server::at(address, |_| Reply::status(200));
    // Some other message gets through, as a heartbeat would.
    until(|| {
        client.link().answered();
        ledger.left() == 0
    })
    .await;
    second.shutdown.cancel();
    second.task.await.unwrap();
    arrived.extend(healthy.seen());
    let unique = unique(&arrived);
    assert_eq!(unique.len(), 60);
    in_order(unique.iter().map(|(path, sequence)| (path.as_str(), *sequence))).unwrap();
    let taken: HashSet<u64> = healthy.seen().iter().map(|seen| seen.sequence()).collect();
    assert_eq!(taken.len(), healthy.seen().len(), "a healthy one got nothing twice");
    assert_eq!(ledger.aside(), []);
}

#[tokio::test]
async fn bad_requests_are_set_aside_over_the_wire_too() {
    let server =
        Server::start(|seen| Reply::status(if seen.path == "/jobs/job-1/events" { 400 } else { 200 }));
    let client = Client::new(&server.url(), "t", "n").unwrap();
    let outbox = start(&client, filled(3, 2));
    until(|| outbox.ledger.left() == 0).await;
    let aside: Vec<u64> = outbox.ledger.aside().into_iter().map(|(sequence, _)| sequence).collect();
    assert_eq!(aside, [2, 5]);
    assert_eq!(server.seen().len(), 6);
}

#[tokio::test]
async fn the_real_journal_keeps_events_through_an_outage_and_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let address = Server::start(|_| Reply::status(200)).address;
    let client = Client::with_limits(&format!("http://{address}"), "t", "n", short()).unwrap();
    let job = |id: &str| {
        let document = serde_json::from_value(json!({ "id": id, "input": "file:///film.mkv" })).unwrap();
        Job::accepted(document, "2026-11-24T10:00:00Z".parse().unwrap())
    };
    let journal = Journal::open(folder.path()).unwrap();
    for id in ["a", "b", "c"] {
        let mut job = job(id);
        journal.accept(job.clone(), Some(json!({ "state": "queued" }))).await.unwrap();
        job.state = JobState::Running;
        journal.change(job, Some(json!({ "state": "running" }))).await.unwrap();
    }
    let shutdown = CancellationToken::new();
    let first = tokio::spawn(run(client.clone(), journal.clone(), Arc::default(), shutdown.clone()));
    until(|| client.link().counters().events_retried.get() >= 4).await;
    shutdown.cancel();
    first.await.unwrap();
    let before = Ledger::next_sequence(&journal).await.unwrap();
    journal.close(Duration::from_secs(3));
    drop(journal);

    let journal = Journal::open(folder.path()).unwrap();
    let server = Server::at(address, |_| Reply::status(200));
    let shutdown = CancellationToken::new();
    let second = tokio::spawn(run(client.clone(), journal.clone(), Arc::default(), shutdown.clone()));
    until(|| {
        client.link().answered();
        server.seen().len() == 6
    })
    .await;
    shutdown.cancel();
    second.await.unwrap();
    assert_eq!(Ledger::due_events(&journal, 10).await.unwrap().len(), 0);
    assert!(Ledger::next_sequence(&journal).await.unwrap() > before);
    let unique = unique(&server.seen());
    assert_eq!(unique.len(), 6);
    in_order(unique.iter().map(|(path, sequence)| (path.as_str(), *sequence))).unwrap();
    let of_a: Vec<Value> =
        server.seen().into_iter().filter(|s| s.path == "/jobs/a/events").map(|s| s.body).collect();
    let states: Vec<&str> = of_a.iter().filter_map(|body| body["state"].as_str()).collect();
    assert_eq!(states, ["queued", "running"]);
}
