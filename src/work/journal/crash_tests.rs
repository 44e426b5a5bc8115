//! What is left on the disk when the process ends at any moment.
//!
//! Every byte that the journal has written is the system's when `write` returns, so a copy of the
//! files while the thread stands still is what a killed process leaves. A power cut may leave less of
//! what was not synced: there the log is cut at any byte behind the last answer.

use super::tests::{accept, all, at, hold, ids, job, moved, open};
use super::*;
use proptest::prelude::*;
use serde_json::json;
use std::fs;

/// The journal as a process killed now would leave it.
fn killed_now(state: &Path, journal: &Journal) -> tempfile::TempDir {
    let _gate = hold(journal);
    let copy = tempfile::tempdir().unwrap();
    for name in ["journal.db", "journal.db-wal"] {
        fs::copy(state.join(name), copy.path().join(name)).unwrap();
    }
    copy
}

#[test]
fn what_was_answered_is_there_after_a_kill() {
    let (dir, journal) = open();
    let mut given = Vec::new();
    for n in 0..12 {
        given.push(journal.next_sequence().unwrap());
        let id = format!("j{n}");
        let queued = job(&id);
        assert_eq!(wait(journal.accept(queued.clone(), Some(json!(n)))), Ok(Accepted::New));
        if n % 3 == 0 {
            journal.change_blocking(moved(&queued, JobState::Running, 0), Some(json!("running"))).unwrap();
        }
        let copy = killed_now(dir.path(), &journal);
        let after = Journal::open(copy.path()).unwrap();
        assert_eq!(after.live_blocking(), journal.live_blocking());
        assert_eq!(after.live_blocking().unwrap().len(), n + 1);
        let events = wait(journal.due_events(99)).unwrap();
        assert_eq!(wait(after.due_events(99)).unwrap(), events);
        let next = after.next_sequence().unwrap();
        assert!(given.iter().chain(events.iter().map(|e| &e.sequence)).all(|number| *number < next));
    }
}

/// Accepts some, notes how long the log is with each, and returns the files.
fn recorded() -> (Vec<u8>, Vec<u8>, Vec<usize>) {
    let (dir, journal) = open();
    journal.next_sequence().unwrap();
    let log = dir.path().join("journal.db-wal");
    let mut lengths = Vec::new();
    for n in 0..10 {
        accept(&journal, &format!("j{n}"));
        lengths.push(fs::metadata(&log).unwrap().len() as usize);
    }
    let copy = killed_now(dir.path(), &journal);
    let read = |name: &str| fs::read(copy.path().join(name)).unwrap();
    (read("journal.db"), read("journal.db-wal"), lengths)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_log_that_ends_anywhere_has_all_that_was_answered_before(cut in 0.0..1.0f64, noise in any::<u8>()) {
        let (database, log, lengths) = recorded();
        let first = lengths[0];
        let cut = first + ((log.len() - first) as f64 * cut) as usize;
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("journal.db"), &database).unwrap();
        // What was never synced may be anything.
        let torn = [&log[..cut], &vec![noise; log.len() - cut]].concat();
        fs::write(dir.path().join("journal.db-wal"), torn).unwrap();
        let journal = Journal::open(dir.path()).unwrap();
        let answered = lengths.iter().filter(|length| **length <= cut).count();
        let found = wait(journal.list(all(99))).unwrap();
        let expected: Vec<String> = (0..answered).rev().map(|n| format!("j{n}")).collect();
        // One more than was answered may be whole: its bytes beyond the cut equal the noise.
        prop_assert!(ids(&found) == expected || found.len() == answered + 1);
        prop_assert_eq!(wait(journal.forget(at(0), false)), Ok(0));
    }
}
