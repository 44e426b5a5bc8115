use super::super::fakes::{FakeLedger, FakePost, away, error_500, pass};
use super::*;
use std::sync::Mutex;

#[derive(Default)]
struct Jobs(Mutex<Vec<(String, JobProgress)>>);

impl ProgressSource for Jobs {
    fn running(&self) -> Vec<(String, JobProgress)> {
        self.0.lock().unwrap().clone()
    }
}

impl Jobs {
    /// Sets how far that job is; a job that is not there begins.
    fn set(&self, job: &str, frames: u64) {
        let mut jobs = self.0.lock().unwrap();
        let progress = JobProgress { frames, percent: Some(frames as f64), ..JobProgress::default() };
        match jobs.iter_mut().find(|(id, _)| id == job) {
            Some(known) => known.1 = progress,
            None => jobs.push((job.into(), progress)),
        }
    }
}

fn start(post: &FakePost) -> (Arc<Jobs>, FakeLedger, CancellationToken) {
    let (jobs, ledger, shutdown) =
        (Arc::new(Jobs::default()), FakeLedger::default(), CancellationToken::new());
    tokio::spawn(run(post.clone(), ledger.clone(), jobs.clone(), shutdown.clone()));
    (jobs, ledger, shutdown)
}

/// What was sent, as `second job frames`.
fn sent(post: &FakePost) -> Vec<String> {
    let line = |sent: &super::super::fakes::Sent| {
        let frames = sent.body["frames"].as_u64().unwrap();
        format!("{} {} {frames}", sent.at_ms / 1000, sent.call.strip_prefix("progress ").unwrap())
    };
    post.log().iter().map(line).collect()
}

async fn millis(count: u64) {
    pass(Duration::from_millis(count)).await;
}

#[tokio::test(start_paused = true)]
async fn once_a_second_and_only_what_is_new() {
    let post = FakePost::good();
    let (jobs, _, shutdown) = start(&post);
    // 3.5 seconds of a job that moves ten times a second, beside one that stands still.
    jobs.set("still", 5);
    for frames in 0..35 {
        jobs.set("film", frames);
        millis(100).await;
    }
    assert_eq!(sent(&post), ["0 still 5", "0 film 0", "1 film 10", "2 film 20", "3 film 30"]);
    shutdown.cancel();
    millis(5000).await;
    assert_eq!(sent(&post).len(), 5);
    let body = &post.log()[2].body;
    assert_eq!((body["job"].as_str(), body["percent"].as_f64()), (Some("film"), Some(10.0)));
    assert_eq!(post.link().counters().progress_delivered.get(), 5);
}

#[tokio::test(start_paused = true)]
async fn speeds_alone_are_no_news() {
    let post = FakePost::good();
    let (jobs, ..) = start(&post);
    jobs.set("film", 7);
    millis(1500).await;
    jobs.0.lock().unwrap()[0].1.speed = 2.0;
    jobs.0.lock().unwrap()[0].1.eta_ms = Some(9);
    millis(3000).await;
    assert_eq!(sent(&post), ["0 film 7"]);
}

#[tokio::test(start_paused = true)]
async fn a_slow_orchestrator_gets_the_latest_value_and_no_queue() {
    let post = FakePost::new(|_| (Duration::from_millis(4500), Answer::Delivered));
    let (jobs, ..) = start(&post);
    for frames in 0..120 {
        jobs.set("film", frames);
        millis(100).await;
    }
    // Each takes 4.5 seconds, then the gap.
    assert_eq!(sent(&post), ["0 film 0", "5 film 55", "11 film 110"]);
    assert_eq!(post.most_flying(), 1);
}

#[tokio::test(start_paused = true)]
async fn at_most_eight_at_once_and_a_second_between_two_of_one_job() {
    let post = FakePost::new(|_| (Duration::from_millis(700), Answer::Delivered));
    let (jobs, ..) = start(&post);
    for frames in 0..100 {
        (0..20).for_each(|job| jobs.set(&format!("{job}"), frames));
        millis(100).await;
    }
    assert_eq!(post.most_flying(), 8);
    let mut last = HashMap::new();
    for sent in post.log() {
        if let Some(before) = last.insert(sent.call.clone(), sent.at_ms) {
            assert!(sent.at_ms - before >= 1000, "{} after {before}: {}", sent.at_ms, sent.call);
        }
    }
    assert_eq!(last.len(), 20);
}

#[tokio::test(start_paused = true)]
async fn a_job_that_has_ended_is_not_told_even_when_it_ends_between_the_looks() {
    /// Has the job the first time it is asked in each round, and not the second time.
    struct Ends(Mutex<bool>);
    impl ProgressSource for Ends {
        fn running(&self) -> Vec<(String, JobProgress)> {
            let mut there = self.0.lock().unwrap();
            *there = !*there;
            if *there { vec![("film".into(), JobProgress::default())] } else { vec![] }
        }
    }
    let post = FakePost::good();
    tokio::spawn(run(
        post.clone(),
        FakeLedger::default(),
        Arc::new(Ends(Mutex::new(false))),
        CancellationToken::new(),
    ));
    millis(3500).await;
    assert_eq!(sent(&post), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn while_the_orchestrator_is_away_one_request_at_a_time_asks_for_it() {
    let post = FakePost::new(|_| (Duration::ZERO, away()));
    let (jobs, ..) = start(&post);
    for frames in 0..1200 {
        (0..5).for_each(|job| jobs.set(&format!("{job}"), frames));
        millis(100).await;
    }
    // Five at first, then probes whose waits grow: two minutes hold about a dozen.
    let count = post.log().len();
    assert!((8..40).contains(&count), "{count} requests");
    let mut per_second = HashMap::new();
    post.seconds().into_iter().skip(5).for_each(|second| *per_second.entry(second).or_insert(0) += 1);
    assert!(per_second.values().all(|count| *count == 1), "{per_second:?}");
    assert!(post.link().counters().progress_dropped.get() > 100);
    // Somebody else reaches it: back to work at once, with the newest values only.
    post.answer(|_| (Duration::ZERO, Answer::Delivered));
    post.link().answered();
    millis(3000).await;
    let after: Vec<String> = sent(&post).split_off(count);
    assert_eq!(after.len(), 5, "{after:?}");
    assert!(after.iter().all(|line| line.ends_with(" 1199")), "{after:?}");
}

#[tokio::test(start_paused = true)]
async fn what_was_refused_is_not_repeated_and_what_failed_is_told_as_it_is_then() {
    let post = FakePost::new(|_| (Duration::ZERO, Answer::Refused { status: 404 }));
    let (jobs, ..) = start(&post);
    jobs.set("film", 1);
    millis(2500).await;
    assert_eq!(sent(&post), ["0 film 1"]);
    post.answer(|_| (Duration::ZERO, error_500()));
    jobs.set("film", 2);
    millis(2000).await;
    assert_eq!(sent(&post)[1..], ["3 film 2", "4 film 2"]);
    jobs.set("film", 3);
    post.answer(|_| (Duration::ZERO, Answer::Delivered));
    millis(3000).await;
    assert_eq!(sent(&post)[3..], ["5 film 3"]);
}

#[tokio::test(start_paused = true)]
async fn a_journal_without_numbers_only_makes_progress_late() {
    let post = FakePost::good();
    let (jobs, ledger, _) = start(&post);
    ledger.fail(2);
    jobs.set("film", 1);
    millis(3500).await;
    assert_eq!(sent(&post), ["2 film 1"]);
}
