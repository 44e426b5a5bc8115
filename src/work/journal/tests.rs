//! What the journal promises while nothing fails.

use super::*;
use crate::base::error::ErrorKind;
use crate::model::record::Output;
use serde_json::json;
use std::time::Instant;

/// A job with this document, accepted 1000 s after the epoch.
pub(super) fn job_of(document: Value) -> Job {
    Job::accepted(serde_json::from_value(document).unwrap(), at(1_000_000))
}

pub(super) fn job(id: &str) -> Job {
    job_of(json!({"id": id, "input": "nas://media/a.mkv"}))
}

pub(super) fn at(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(ms).unwrap()
}

/// The job in that state; ended ones at that time.
pub(super) fn moved(job: &Job, state: JobState, ended_ms: i64) -> Job {
    let ended_at = state.has_ended().then(|| at(ended_ms));
    Job { state, ended_at, ..job.clone() }
}

pub(super) fn with_output(mut job: Job) -> Job {
    job.outputs.master = Some(Output { uri: "nas://o".into(), path: "/stream/o".into() });
    job
}

pub(super) fn open() -> (tempfile::TempDir, Journal) {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path()).unwrap();
    (dir, journal)
}

pub(super) fn accept(journal: &Journal, id: &str) -> Job {
    let job = job(id);
    assert_eq!(wait(journal.accept(job.clone(), None)), Ok(Accepted::New));
    job
}

pub(super) fn ids(jobs: &[Job]) -> Vec<&str> {
    jobs.iter().map(Job::id).collect()
}

pub(super) fn all(limit: usize) -> Page {
    Page { state: None, limit, after: None }
}

/// Keeps the thread of the journal busy until the sender is dropped.
pub(super) fn hold(journal: &Journal) -> crossbeam_channel::Sender<()> {
    let (gate, opened) = bounded::<()>(0);
    let (here, arrived) = bounded(1);
    let look = move |_: &Connection| {
        here.send(()).unwrap();
        let _ = opened.recv();
        Ok(())
    };
    journal.0.door.try_enter(request::read(look, |_| {})).unwrap();
    arrived.recv().unwrap();
    gate
}

/// Hands a future's request in and goes away.
pub(super) fn send_and_leave<F: Future>(future: F) {
    let mut future = Box::pin(future);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(future.as_mut().poll(&mut context).is_pending());
}

#[test]
fn an_id_is_kept_once_and_the_same_document_finds_it_as_it_stands() {
    let (_dir, journal) = open();
    let first = accept(&journal, "a");
    assert_eq!(wait(journal.get("a")), Ok(Some(first.clone())));
    let running = moved(&first, JobState::Running, 0);
    journal.change_blocking(running.clone(), None).unwrap();
    assert_eq!(wait(journal.accept(job("a"), None)), Ok(Accepted::Same(Box::new(running))));
    let other = job_of(json!({"id": "a", "input": "nas://media/b.mkv"}));
    assert_eq!(wait(journal.accept(other, None)), Ok(Accepted::Different));
    assert_eq!(wait(journal.get("b")), Ok(None));
}

#[test]
fn numbers_with_many_digits_do_not_make_it_another_document() {
    let (_dir, journal) = open();
    for (n, start) in
        ["0.30000000000000004", "1234.5678901234567", "2.638344616030823e-25"].iter().enumerate()
    {
        let text = format!(r#"{{"id": "n{n}", "input": "nas://media/a.mkv", "start": {start}}}"#);
        let asked = || job_of(serde_json::from_str(&text).unwrap());
        assert_eq!(wait(journal.accept(asked(), None)), Ok(Accepted::New));
        // As the node has it after a restart, and writes it again.
        let kept = wait(journal.get(&format!("n{n}"))).unwrap().unwrap();
        journal.change_blocking(moved(&kept, JobState::Running, 0), None).unwrap();
        assert!(matches!(wait(journal.accept(asked(), None)), Ok(Accepted::Same(_))), "{start}");
    }
}

#[test]
fn what_cannot_be_accepted_is_a_mistake_of_ours() {
    let (_dir, journal) = open();
    let nameless = job_of(json!({"input": "nas://media/a.mkv"}));
    for wrong in [nameless, moved(&job("a"), JobState::Running, 0), moved(&job("a"), JobState::Failed, 9)] {
        assert_eq!(wait(journal.accept(wrong, None)).unwrap_err().kind(), ErrorKind::Internal);
    }
    assert_eq!(wait(journal.list(all(9))), Ok(vec![]));
    assert_eq!(journal.is_healthy(), Ok(()), "a mistake of ours is no failure of the journal");
}

#[test]
fn only_legal_moves_are_kept_and_the_event_goes_with_its_change() {
    for from in JobState::ALL {
        let (_dir, journal) = open();
        for (n, to) in JobState::ALL.into_iter().enumerate() {
            let queued = accept(&journal, &format!("j{n}"));
            if from != JobState::Queued {
                journal.change_blocking(moved(&queued, JobState::Running, 0), None).unwrap();
            }
            journal.change_blocking(moved(&queued, from, 5), None).unwrap();
            let change = wait(journal.change(moved(&queued, to, 7), Some(json!(1))));
            let legal = from == to || from.may_become(to);
            assert_eq!(
                change.as_ref().map_err(|e| e.kind()),
                if legal { Ok(&()) } else { Err(ErrorKind::Internal) }
            );
            let kept = wait(journal.get(queued.id())).unwrap().unwrap().state;
            assert_eq!(kept, if legal { to } else { from }, "{from} to {to}");
            let events = wait(journal.due_events(9)).unwrap();
            let told = events.iter().any(|e| e.job == queued.id());
            assert_eq!(told, legal && from != to, "{from} to {to}");
        }
    }
}

/// A write that finds out in its middle that it must not be.
fn half_and_no_more(db: &Connection) -> Result<(), Fault> {
    meta::set(db, "half", Some("done"))?;
    Err(internal("no").into())
}

#[test]
fn a_burst_costs_one_commit_and_one_that_fails_takes_nobody_along() {
    let (_dir, journal) = open();
    journal.next_sequence().unwrap();
    let gate = hold(&journal);
    let before = journal.commits();
    let senders: Vec<_> = (0..64)
        .map(|n| {
            let journal = journal.clone();
            std::thread::spawn(move || wait(journal.accept(job(&format!("j{n}")), Some(json!(n)))))
        })
        .collect();
    let wrong = std::thread::spawn({
        let journal = journal.clone();
        move || wait(journal.write(half_and_no_more))
    });
    while journal.0.door.waiting() < 65 {
        std::thread::yield_now();
    }
    drop(gate);
    for sender in senders {
        assert_eq!(sender.join().unwrap(), Ok(Accepted::New));
    }
    assert_eq!(wrong.join().unwrap().unwrap_err().code(), "internal");
    assert_eq!(journal.commits() - before, 1, "64 accepted jobs");
    assert_eq!(wait(journal.list(all(100))).unwrap().len(), 64);
    assert_eq!(wait(journal.due_events(100)).unwrap().len(), 64);
    assert_eq!(journal.meta_blocking("half"), Ok(None));
}

#[test]
fn of_two_with_one_id_in_one_transaction_the_second_sees_the_first() {
    let (_dir, journal) = open();
    let gate = hold(&journal);
    send_and_leave(journal.accept(job("a"), None));
    let second = std::thread::spawn({
        let journal = journal.clone();
        move || wait(journal.accept(job("a"), None))
    });
    while journal.0.door.waiting() < 2 {
        std::thread::yield_now();
    }
    drop(gate);
    assert_eq!(second.join().unwrap(), Ok(Accepted::Same(Box::new(job("a")))));
}

#[test]
fn who_goes_away_while_he_waits_loses_nothing_and_blocks_nothing() {
    let (_dir, journal) = open();
    let gate = hold(&journal);
    for n in 0..50 {
        send_and_leave(journal.accept(job(&format!("j{n}")), None));
        send_and_leave(journal.list(all(1)));
    }
    drop(gate);
    accept(&journal, "last");
    assert_eq!(wait(journal.list(all(100))).unwrap().len(), 51);
}

#[test]
fn pages_are_newest_first_and_go_on_where_the_last_one_ended() {
    let (_dir, journal) = open();
    for id in ["a", "b", "c", "d", "e"] {
        accept(&journal, id);
    }
    for id in ["b", "d"] {
        journal.change_blocking(moved(&job(id), JobState::Running, 0), None).unwrap();
    }
    let page = |state, limit, after: Option<&str>| {
        let page = Page { state, limit, after: after.map(str::to_owned) };
        wait(journal.list(page)).unwrap()
    };
    assert_eq!(ids(&page(None, 2, None)), ["e", "d"]);
    assert_eq!(ids(&page(None, 2, Some("d"))), ["c", "b"]);
    assert_eq!(ids(&page(None, 9, Some("b"))), ["a"]);
    assert_eq!(ids(&page(None, 9, Some("a"))), [""; 0]);
    assert_eq!(ids(&page(None, 0, None)), [""; 0]);
    assert_eq!(ids(&page(Some(JobState::Running), 9, None)), ["d", "b"]);
    assert_eq!(ids(&page(Some(JobState::Queued), 1, Some("d"))), ["c"]);
    assert_eq!(page(None, usize::MAX, None).len(), 5);
    let e = wait(journal.list(Page { after: Some("x".into()), ..all(9) })).unwrap_err();
    assert_eq!((e.kind(), e.code()), (ErrorKind::NotFound, "not_found"));
}

#[test]
fn the_live_come_back_in_order_with_what_is_held_against_them() {
    let (_dir, journal) = open();
    for id in ["c", "a", "b", "d"] {
        accept(&journal, id);
    }
    let running = moved(&job("a"), JobState::Running, 0);
    journal.change_blocking(running.clone(), None).unwrap();
    journal.change_blocking(moved(&job("b"), JobState::Cancelled, 9), None).unwrap();
    journal.blame_blocking("a", 1, true).unwrap();
    journal.blame_blocking("d", u32::MAX, false).unwrap();
    let live = |job, deaths, suspect| Live { job, deaths, suspect };
    let expected = vec![live(job("c"), 0, false), live(running, 1, true), live(job("d"), u32::MAX, false)];
    assert_eq!(journal.live_blocking(), Ok(expected));
}

#[test]
fn each_job_has_its_oldest_event_due_and_waits_for_no_other() {
    let (_dir, journal) = open();
    let due = || -> Vec<(String, Value)> {
        let events = wait(journal.due_events(10)).unwrap();
        assert!(events.is_sorted_by(|a, b| a.sequence < b.sequence));
        events.into_iter().map(|e| (e.job, e.body)).collect()
    };
    let number =
        |job: &str| wait(journal.due_events(10)).unwrap().iter().find(|e| e.job == job).unwrap().sequence;
    let pair = |job: &str, body: Value| (job.to_owned(), body);
    for id in ["a", "b"] {
        wait(journal.accept(job(id), Some(json!("accepted")))).unwrap();
    }
    for id in ["b", "a"] {
        journal
            .change_blocking(moved(&job(id), JobState::Running, 0), Some(json!({"now": "running"})))
            .unwrap();
    }
    assert_eq!(due(), [pair("a", json!("accepted")), pair("b", json!("accepted"))]);
    assert_eq!(wait(journal.due_events(1)).unwrap().len(), 1);
    wait(journal.delivered(number("a"))).unwrap();
    assert_eq!(due(), [pair("b", json!("accepted")), pair("a", json!({"now": "running"}))]);
    wait(journal.set_aside(number("b"), "answered 400")).unwrap();
    assert_eq!(due(), [pair("b", json!({"now": "running"})), pair("a", json!({"now": "running"}))]);
    let last = number("a");
    for _ in 0..2 {
        wait(journal.delivered(last)).unwrap();
    }
    assert_eq!(due(), [pair("b", json!({"now": "running"}))]);
}

#[test]
fn the_ended_leave_when_nothing_is_left_to_tell() {
    let (_dir, journal) = open();
    for (id, ended_ms, event) in
        [("c", 300, None), ("a", 100, None), ("b", 200, Some(json!(1))), ("d", 400, None)]
    {
        let queued = accept(&journal, id);
        journal.change_blocking(moved(&queued, JobState::Failed, ended_ms), event).unwrap();
    }
    accept(&journal, "live");
    assert_eq!(wait(journal.forget(at(301), false)), Ok(2), "b has an event that waits");
    assert_eq!(ids(&wait(journal.list(all(9))).unwrap()), ["live", "d", "b"]);
    let event = wait(journal.due_events(1)).unwrap().remove(0);
    wait(journal.set_aside(event.sequence, "answered 400")).unwrap();
    assert_eq!(wait(journal.forget(at(301), false)), Ok(1));
    let aside = || {
        wait(journal.read(|db| Ok(db.query_row("SELECT count(*) FROM outbox", [], |r| r.get::<_, i64>(0))?)))
    };
    assert_eq!(aside(), Ok(1), "it was set aside just now");
    assert_eq!(wait(journal.forget(at(i64::from(u32::MAX) * 1000), false)), Ok(1), "d");
    assert_eq!(aside(), Ok(0));
    assert_eq!(ids(&wait(journal.list(all(9))).unwrap()), ["live"]);
    assert_eq!(wait(journal.accept(job("a"), None)), Ok(Accepted::New), "its id is free again");
}

#[test]
fn many_are_forgotten_in_parts() {
    let (_dir, journal) = open();
    let many = FORGET_AT_ONCE * 2;
    let fill = move |db: &Connection| {
        let sql = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1) \
                   INSERT INTO jobs (id, state, priority, created_ms, ended_ms, record) \
                   SELECT 'j' || i, 'failed', 0, 1, 2, '' FROM n";
        Ok(db.execute(sql, [many])?)
    };
    assert_eq!(wait(journal.write(fill)), Ok(many as usize));
    assert_eq!(wait(journal.forget(at(3), false)), Ok(many as u64));
}

#[test]
fn facts_are_kept_replaced_and_removed_and_ours_are_ours() {
    let (dir, journal) = open();
    assert_eq!(journal.meta_blocking("state"), Ok(None));
    journal.set_meta_blocking("state", Some("MAINTENANCE")).unwrap();
    wait(journal.set_meta("state", Some("IDLE"))).unwrap();
    wait(journal.set_meta("other", Some(""))).unwrap();
    drop(journal);
    let journal = Journal::open(dir.path()).unwrap();
    assert_eq!(journal.meta_blocking("state"), Ok(Some("IDLE".into())));
    assert_eq!(journal.meta_blocking("other"), Ok(Some(String::new())));
    journal.set_meta_blocking("state", None).unwrap();
    assert_eq!(journal.meta_blocking("state"), Ok(None));
    assert_eq!(journal.set_meta_blocking("journal.sequence", Some("1")).unwrap_err().code(), "internal");
}

#[test]
fn numbers_grow_through_threads_events_and_restarts() {
    let (dir, mut journal) = open();
    let mut last = 0;
    for round in 0..3 {
        let take = |journal: Journal| {
            move || -> Vec<u64> { (0..9_000).map(|_| journal.next_sequence().unwrap()).collect() }
        };
        let takers: Vec<_> = (0..3).map(|_| std::thread::spawn(take(journal.clone()))).collect();
        for n in 0..20 {
            wait(journal.accept(job(&format!("j{round}-{n}")), Some(json!(n)))).unwrap();
        }
        let each: Vec<Vec<u64>> = takers.into_iter().map(|t| t.join().unwrap()).collect();
        assert!(each.iter().all(|numbers| numbers.is_sorted()));
        let events = wait(journal.due_events(1000)).unwrap();
        let drawn = events.iter().map(|e| e.sequence).filter(|n| *n > last);
        let mut numbers: Vec<u64> = each.into_iter().flatten().chain(drawn).collect();
        numbers.sort_unstable();
        assert_eq!(numbers.len(), 27_020);
        assert!(numbers.is_sorted_by(|a, b| a < b), "one came twice");
        assert!(numbers[0] > last, "{} after {last}", numbers[0]);
        last = numbers[numbers.len() - 1];
        drop(journal);
        journal = Journal::open(dir.path()).unwrap();
    }
}

#[test]
fn after_the_close_everything_is_refused_and_the_folder_is_free() {
    let (dir, journal) = open();
    let other = journal.clone();
    assert_eq!(Journal::open(dir.path()).unwrap_err().code(), "state_in_use");
    let gate = hold(&journal);
    send_and_leave(journal.accept(job("a"), None));
    let closing = std::thread::spawn(move || journal.close(CLOSE_LIMIT));
    while !other.0.door.is_shut() {
        std::thread::yield_now();
    }
    assert_eq!(other.is_healthy().unwrap_err().code(), "journal_closed");
    drop(gate);
    closing.join().unwrap();
    other.close(CLOSE_LIMIT);
    assert_eq!(wait(other.accept(job("b"), None)).unwrap_err().code(), "journal_closed");
    assert_eq!(wait(other.get("a")).unwrap_err().code(), "journal_closed");
    assert_eq!(other.next_sequence().unwrap_err().code(), "journal_closed");
    let again = Journal::open(dir.path()).unwrap();
    assert_eq!(ids(&wait(again.list(all(9))).unwrap()), ["a"], "what waited was finished");
    let names = || std::fs::read_dir(dir.path()).unwrap().count();
    assert_eq!(names(), 4, "database, log, its index, lock");
    drop(again);
    assert_eq!(names(), 2, "the log is in the database");
}

#[test]
fn a_close_in_vain_is_waited_for_once_and_no_longer_than_was_asked() {
    let (dir, journal) = open();
    let gate = hold(&journal);
    let begun = Instant::now();
    journal.close(Duration::from_millis(100));
    let first = begun.elapsed();
    assert!(first >= Duration::from_millis(100) && first < Duration::from_secs(2), "{first:?}");
    journal.close(Duration::from_secs(60));
    drop(journal);
    assert!(begun.elapsed() < Duration::from_secs(2), "nobody waits again: {:?}", begun.elapsed());
    drop(gate);
    let opens = || Journal::open(dir.path()).map(|_| ()).map_err(|e| e.code());
    while opens() == Err("state_in_use") {
        assert!(begun.elapsed() < Duration::from_secs(20));
        std::thread::yield_now();
    }
    assert_eq!(opens(), Ok(()), "it is closed all the same");
}

#[test]
fn a_number_that_is_reserved_is_had_without_the_thread() {
    let (_dir, journal) = open();
    let first = journal.next_sequence().unwrap();
    let gate = hold(&journal);
    assert_eq!((journal.take_sequence(), journal.take_sequence()), (Some(first + 1), Some(first + 2)));
    let last = std::iter::from_fn(|| journal.take_sequence()).last().unwrap();
    assert_eq!(last % sequence::BLOCK, 0, "all that was reserved, and none beyond: {last}");
    assert_eq!(journal.take_sequence(), None);
    drop(gate);
    let begun = Instant::now();
    let next = loop {
        match journal.take_sequence() {
            Some(next) => break next,
            None => assert!(begun.elapsed() < Duration::from_secs(20), "the next block was asked for"),
        }
        std::thread::yield_now();
    };
    assert_eq!(next, last + 1);
    journal.close(CLOSE_LIMIT);
    assert_eq!(journal.take_sequence(), None);
}

#[tokio::test]
async fn blocking_calls_inside_a_runtime_neither_panic_nor_hang() {
    let (_dir, journal) = open();
    assert_eq!(journal.accept(job("a"), None).await, Ok(Accepted::New));
    for n in 0..300 {
        journal.set_meta_blocking("n", Some(&n.to_string())).unwrap();
    }
    assert_eq!(journal.live_blocking().unwrap().len(), 1);
    journal.next_sequence().unwrap();
}
