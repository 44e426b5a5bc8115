//! The journal under a real `kill -9`: whatever a killed process was told is there for the next one.
//!
//! The child is this test itself, started again with [`STATE`] set: it accepts jobs as fast as it can,
//! from several tasks, and prints each promise after it was given. The parent kills it somewhere in the
//! middle and looks. Stand-alone: needs no clips.

use sprocket::model::record::{Job, JobState};
use sprocket::work::journal::{Accepted, Journal};
use std::collections::BTreeSet;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

/// Names the state folder to the child.
const STATE: &str = "SPROCKET_TEST_JOURNAL_STATE";
/// Which round it is: tells the ids of one child from those of the next.
const ROUND: &str = "SPROCKET_TEST_JOURNAL_ROUND";
const ROUNDS: u32 = 10;
const TASKS: u32 = 4;

fn job(id: &str) -> Job {
    let document = serde_json::json!({"id": id, "input": "nas://media/a.mkv"});
    Job::accepted(serde_json::from_value(document).unwrap(), jiff::Timestamp::now())
}

/// One whole line for each promise, at once: a line that is there was promised.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("\n{line}\n").as_bytes()).unwrap();
    out.flush().unwrap();
}

/// The child. Ends only by being killed, or after a while, should the parent have died.
#[test]
fn child_that_accepts_until_it_is_killed() {
    let Ok(state) = std::env::var(STATE) else { return };
    let round = std::env::var(ROUND).unwrap();
    let journal = Journal::open(Path::new(&state)).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    let until = Instant::now() + Duration::from_secs(30);
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| {
            let (journal, round) = (journal.clone(), round.clone());
            runtime.spawn(async move {
                for n in 0.. {
                    let id = format!("{round}-{task}-{n}");
                    promise(&journal, &id).await;
                    if Instant::now() > until {
                        break;
                    }
                }
            })
        })
        .collect();
    tasks.into_iter().for_each(|task| runtime.block_on(task).unwrap());
}

async fn promise(journal: &Journal, id: &str) {
    let queued = job(id);
    let accepted = journal.accept(queued.clone(), Some(serde_json::json!({"of": id}))).await;
    assert_eq!(accepted, Ok(Accepted::New));
    say(&format!("accepted {id}"));
    say(&format!("number {}", journal.next_sequence().unwrap()));
    let running = Job { state: JobState::Running, ..queued };
    journal.change(running, None).await.unwrap();
    say(&format!("running {id}"));
}

fn start(state: &Path, round: u32) -> (Child, BufReader<ChildStdout>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_that_accepts_until_it_is_killed", "--nocapture", "--test-threads=1"])
        .env(STATE, state)
        .env(ROUND, round.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let out = BufReader::new(child.stdout.take().unwrap());
    (child, out)
}

/// What the child promised until it was killed, `after` its first promise.
fn promises(mut child: Child, out: BufReader<ChildStdout>, after: Duration) -> Vec<String> {
    let mut lines = out.lines().map(Result::unwrap);
    let first =
        lines.by_ref().find(|line| line.starts_with("accepted ")).expect("the child accepts something");
    // Reads on meanwhile, so that a full pipe does not stop the child.
    let reader = std::thread::spawn(move || lines.collect::<Vec<_>>());
    let (_alive, never) = std::sync::mpsc::channel::<()>();
    let _ = never.recv_timeout(after);
    child.kill().unwrap();
    child.wait().unwrap();
    let mut said = reader.join().unwrap();
    said.push(first);
    said
}

/// Up to 400 ms; the standard library's random keys are random enough.
fn any_moment() -> Duration {
    Duration::from_micros(RandomState::new().build_hasher().finish() % 400_000)
}

fn those<'a>(said: &'a [String], what: &str) -> Vec<&'a str> {
    said.iter().filter_map(|line| line.strip_prefix(what)).collect()
}

#[test]
fn what_a_killed_process_promised_is_there_for_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let (mut accepted, mut running) = (BTreeSet::new(), BTreeSet::new());
    let mut numbers: BTreeSet<u64> = BTreeSet::new();
    for round in 0..ROUNDS {
        let (child, out) = start(dir.path(), round);
        let said = promises(child, out, any_moment());
        let highest = numbers.last().copied().unwrap_or(0);
        accepted.extend(those(&said, "accepted ").into_iter().map(str::to_owned));
        running.extend(those(&said, "running ").into_iter().map(str::to_owned));
        for number in those(&said, "number ").into_iter().map(|n| n.parse::<u64>().unwrap()) {
            assert!(
                number > highest && numbers.insert(number),
                "number {number} came twice, or after {highest}"
            );
        }
        let journal = Journal::open(dir.path()).unwrap();
        let live = journal.live_blocking().unwrap();
        let found: BTreeSet<_> = live.iter().map(|live| live.job.id().to_owned()).collect();
        let lost: Vec<_> = accepted.difference(&found).collect();
        assert!(lost.is_empty(), "round {round}: lost {lost:?}");
        let ran = live.iter().filter(|live| live.job.state == JobState::Running);
        let ran: BTreeSet<_> = ran.map(|live| live.job.id().to_owned()).collect();
        assert!(running.is_subset(&ran), "round {round}: a job is queued again");
        // Each job has told of itself once, with a number of its own.
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let events = runtime.block_on(journal.due_events(usize::MAX)).unwrap();
        assert_eq!(events.iter().map(|e| e.job.clone()).collect::<BTreeSet<_>>(), found);
        assert_eq!(events.len(), found.len());
        assert!(events.iter().all(|e| !numbers.contains(&e.sequence)), "round {round}: an event's number");
        let next = journal.next_sequence().unwrap();
        assert!(events.iter().all(|e| e.sequence < next) && numbers.last().is_none_or(|n| *n < next));
        numbers.insert(next);
        eprintln!("round {round}: {} accepted and {} started in all", accepted.len(), running.len());
    }
    assert!(accepted.len() > 50, "the children did next to nothing");
}
