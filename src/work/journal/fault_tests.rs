//! What happens when the disk, the folder or what is in it fails.

use super::tests::{accept, all, hold, ids, job, moved, open, send_and_leave};
use super::*;
use crate::base::error::{Error, ErrorKind};
use serde_json::json;
use std::fs;
use std::time::Instant;

fn kind_and_code<T: fmt::Debug>(outcome: Result<T>) -> (ErrorKind, &'static str) {
    let e: Error = outcome.unwrap_err();
    (e.kind(), e.code())
}

/// A job that takes many pages.
fn large(id: &str) -> Job {
    Job { warnings: vec!["x".repeat(200_000)], ..job(id) }
}

/// The database may not grow by more than some pages; `None`: it may.
fn limit(journal: &Journal, pages: Option<i64>) {
    let set = move |db: &Connection| {
        let count: i64 = db.pragma_query_value(None, "page_count", |row| row.get(0))?;
        let most = pages.map_or(1_000_000, |pages| count + pages);
        let _: i64 = db.query_row(&format!("PRAGMA max_page_count = {most}"), [], |row| row.get(0))?;
        Ok(())
    };
    wait(journal.read(set)).unwrap();
}

#[test]
fn a_full_disk_fails_what_does_not_fit_and_nothing_else() {
    let (_dir, journal) = open();
    accept(&journal, "before");
    limit(&journal, Some(8));
    assert_eq!(kind_and_code(wait(journal.accept(large("a"), None))), (ErrorKind::NoSpace, "no_space"));
    assert_eq!(kind_and_code(journal.is_healthy()), (ErrorKind::NoSpace, "no_space"));
    assert_eq!(ids(&wait(journal.list(all(9))).unwrap()), ["before"]);
    let gate = hold(&journal);
    send_and_leave(journal.accept(job("small"), None));
    send_and_leave(journal.accept(large("b"), Some(json!(1))));
    send_and_leave(journal.accept(job("small too"), None));
    drop(gate);
    assert_eq!(ids(&wait(journal.list(all(9))).unwrap()), ["small too", "small", "before"]);
    assert_eq!(wait(journal.due_events(9)), Ok(vec![]), "no event of what was not kept");
    limit(&journal, None);
    assert_eq!(wait(journal.accept(large("a"), None)), Ok(Accepted::New));
    assert_eq!(journal.is_healthy(), Ok(()));
}

/// Until it is so, or some seconds have gone.
fn soon(what: impl Fn() -> bool) -> bool {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(10) {
        if what() {
            return true;
        }
        std::thread::park_timeout(Duration::from_millis(20));
    }
    false
}

#[test]
fn a_folder_that_goes_and_comes_back_is_noticed_without_being_asked() {
    let dir = tempfile::tempdir().unwrap();
    let (state, away) = (dir.path().join("state"), dir.path().join("away"));
    let journal = Journal::open(&state).unwrap();
    accept(&journal, "before");
    fs::rename(&state, &away).unwrap();
    let gone = (ErrorKind::Io, "journal_failed");
    assert_eq!(kind_and_code(wait(journal.accept(job("a"), None))), gone);
    assert_eq!(kind_and_code(journal.is_healthy()), gone);
    assert_eq!(ids(&wait(journal.list(all(9))).unwrap()), ["before"], "who reads is served");
    assert!(!state.exists(), "nothing is made in its place");
    fs::rename(&away, &state).unwrap();
    assert!(soon(|| journal.is_healthy().is_ok()));
    fs::rename(&state, &away).unwrap();
    assert!(soon(|| journal.is_healthy().is_err()));
    fs::rename(&away, &state).unwrap();
    assert_eq!(wait(journal.accept(job("a"), None)), Ok(Accepted::New));
    drop(journal);
    let journal = Journal::open(&state).unwrap();
    assert_eq!(ids(&wait(journal.list(all(9))).unwrap()), ["a", "before"]);
}

#[test]
fn the_files_of_a_restored_folder_are_opened_anew() {
    let dir = tempfile::tempdir().unwrap();
    let (state, away) = (dir.path().join("state"), dir.path().join("away"));
    let journal = Journal::open(&state).unwrap();
    accept(&journal, "before");
    fs::rename(&state, &away).unwrap();
    fs::create_dir(&state).unwrap();
    for name in ["journal.db", "journal.db-wal"] {
        fs::copy(away.join(name), state.join(name)).unwrap();
    }
    assert_eq!(wait(journal.accept(job("a"), None)), Ok(Accepted::New));
    assert_eq!(Journal::open(&state).unwrap_err().code(), "state_in_use", "the lock went along");
    drop(journal);
    let journal = Journal::open(&state).unwrap();
    assert_eq!(ids(&wait(journal.list(all(9))).unwrap()), ["a", "before"]);
}

#[test]
fn another_journal_in_its_place_is_not_written_to() {
    let dir = tempfile::tempdir().unwrap();
    let (state, away) = (dir.path().join("state"), dir.path().join("away"));
    let journal = Journal::open(&state).unwrap();
    fs::rename(&state, &away).unwrap();
    let theirs = Journal::open(&state).unwrap();
    let taken = (ErrorKind::Conflict, "state_in_use");
    assert_eq!(kind_and_code(wait(journal.accept(job("a"), None))), taken);
    drop(theirs);
    let e = wait(journal.accept(job("a"), None)).unwrap_err();
    assert!(e.code() == "journal_failed" && e.message().contains("another journal"), "{e}");
    drop(journal);
    assert_eq!(wait(Journal::open(&state).unwrap().list(all(9))), Ok(vec![]));
}

#[test]
fn a_lock_of_another_program_is_waited_for_once_and_then_told_to_all() {
    let (dir, journal) = open();
    journal.next_sequence().unwrap();
    let other = Connection::open(dir.path().join("journal.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let gate = hold(&journal);
    (0..20).for_each(|n| send_and_leave(journal.accept(job(&format!("j{n}")), None)));
    drop(gate);
    let begun = Instant::now();
    assert_eq!(kind_and_code(wait(journal.set_meta("a", Some("b")))), (ErrorKind::Io, "journal_failed"));
    assert!(begun.elapsed() < Duration::from_secs(15), "two groups at most, and not each for itself");
    other.execute_batch("ROLLBACK").unwrap();
    assert_eq!(wait(journal.accept(job("a"), None)), Ok(Accepted::New));
    assert_eq!(ids(&wait(journal.list(all(99))).unwrap()), ["a"]);
}

fn spoil(journal: &Journal, sql: &'static str) {
    wait(journal.write(move |db| Ok(db.execute_batch(sql)?))).unwrap();
}

#[test]
fn records_that_cannot_be_read_keep_nobody_from_starting() {
    let (dir, journal) = open();
    for id in ["a", "b", "c", "d", "e"] {
        accept(&journal, id);
    }
    spoil(&journal, "UPDATE jobs SET record = '{\"state\": 3' WHERE id = 'a'");
    spoil(&journal, "UPDATE jobs SET record = x'FF00' WHERE id = 'b'");
    spoil(&journal, "UPDATE jobs SET record = (SELECT record FROM jobs WHERE id = 'e') WHERE id = 'd'");
    drop(journal);
    let journal = Journal::open(dir.path()).unwrap();
    let live = journal.live_blocking().unwrap();
    assert_eq!(live.iter().map(|live| live.job.id()).collect::<Vec<_>>(), ["c", "e"]);
    assert_eq!(ids(&wait(journal.list(all(2))).unwrap()), ["e", "c"], "the page is filled up");
    assert_eq!(kind_and_code(wait(journal.get("a"))), (ErrorKind::Io, "journal_damaged"));
    assert_eq!(journal.is_healthy(), Ok(()));
    assert_eq!(wait(journal.accept(job("a"), None)), Ok(Accepted::Different));
    let rows = wait(
        journal.read(|db| Ok(db.query_row("SELECT count(*) FROM jobs", [], |row| row.get::<_, i64>(0))?)),
    );
    assert_eq!(rows, Ok(5), "none is removed");
    journal.change_blocking(moved(&job("a"), JobState::Cancelled, 5), None).unwrap();
    let state = Some(JobState::Cancelled);
    let page = wait(journal.list(Page { state, limit: 9, after: None })).unwrap();
    assert_eq!(ids(&page), ["a"], "a new record mends it");
}

#[test]
fn an_event_that_cannot_be_read_blocks_nothing() {
    let (_dir, journal) = open();
    for (id, body) in [("a", 1), ("b", 2)] {
        wait(journal.accept(job(id), Some(json!(body)))).unwrap();
    }
    journal.change_blocking(moved(&job("a"), JobState::Running, 0), Some(json!(3))).unwrap();
    spoil(&journal, "UPDATE outbox SET body = '{' WHERE body = '1'");
    let due = wait(journal.due_events(9)).unwrap();
    assert_eq!(due.iter().map(|e| e.body.clone()).collect::<Vec<_>>(), [json!(2), json!(3)]);
    let why: String = wait(
        journal.read(|db| Ok(db.query_row("SELECT why FROM outbox WHERE body = '{'", [], |row| row.get(0))?)),
    )
    .unwrap();
    assert_eq!(why, "it cannot be read");
}

#[test]
fn damage_is_told_and_left_for_somebody_to_look_at() {
    let (dir, journal) = open();
    accept(&journal, "a");
    drop(journal);
    let path = dir.path().join("journal.db");
    fs::write(&path, b"SQLite format 3\0and then nothing of the sort").unwrap();
    let e = Journal::open(dir.path()).unwrap_err();
    assert_eq!((e.kind(), e.code()), (ErrorKind::Io, "journal_damaged"));
    assert!(e.hint_text().unwrap().contains("move journal.db"), "{e}");
    assert_eq!(fs::read(&path).unwrap().len(), 44);
    assert_eq!(Journal::open(dir.path()).unwrap_err().code(), "journal_damaged", "the lock was given back");
}
