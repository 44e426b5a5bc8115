//! What goes into one transaction with a change of a job, and what happens when the change is made twice.

use super::tests::{accept, at, job, moved, open};
use super::*;
use crate::base::error::ErrorKind;
use serde_json::json;

/// The job after it has entered that state.
fn entered(job: &Job, state: JobState) -> Job {
    let mut job = job.clone();
    job.enter(state, at(2_000_000));
    job
}

fn note(name: &str, value: Option<&str>) -> (String, Option<String>) {
    (name.to_owned(), value.map(str::to_owned))
}

fn events(journal: &Journal) -> Vec<Value> {
    wait(journal.due_events(99)).unwrap().into_iter().map(|event| event.body).collect()
}

fn count_events(journal: &Journal) -> i64 {
    wait(journal.read(|db| Ok(db.query_row("SELECT count(*) FROM outbox", [], |row| row.get(0))?))).unwrap()
}

#[test]
fn notes_are_set_and_removed_with_the_change_in_one_transaction() {
    let (_dir, journal) = open();
    let queued = accept(&journal, "a");
    journal.set_meta_blocking("cancelled.a", Some("1")).unwrap();
    journal.next_sequence().unwrap();
    let before = journal.commits();
    let notes = vec![note("tidy.a", Some("nas://o")), note("cancelled.a", None), note("never.there", None)];
    let cancelled = entered(&queued, JobState::Cancelled);
    journal.change_noting_blocking(cancelled.clone(), Some(json!("end")), notes).unwrap();
    assert_eq!(journal.commits() - before, 1);
    assert_eq!(wait(journal.get("a")), Ok(Some(cancelled)));
    assert_eq!(events(&journal), [json!("end")]);
    assert_eq!(journal.meta_blocking("tidy.a"), Ok(Some("nas://o".into())));
    assert_eq!(journal.meta_blocking("cancelled.a"), Ok(None));
}

#[test]
fn a_change_that_is_refused_leaves_no_note_and_a_note_that_is_refused_no_change() {
    let (_dir, journal) = open();
    let queued = accept(&journal, "a");
    let succeeded = entered(&entered(&queued, JobState::Running), JobState::Succeeded);
    let noted = |job: &Job, name: &str| {
        journal.change_noting_blocking(job.clone(), Some(json!(1)), vec![note(name, Some("x"))])
    };
    assert_eq!(noted(&succeeded, "tidy.a").unwrap_err().code(), "internal", "not from queued");
    assert_eq!(noted(&job("b"), "tidy.b").unwrap_err().code(), "job_gone");
    let running = entered(&queued, JobState::Running);
    assert_eq!(noted(&running, "journal.sequence").unwrap_err().code(), "internal");
    assert_eq!(wait(journal.get("a")), Ok(Some(queued)));
    assert_eq!(journal.notes_blocking("tidy."), Ok(vec![]));
    assert_eq!(events(&journal), [] as [Value; 0]);
    noted(&running, "tidy.a").unwrap();
    assert_eq!(journal.notes_blocking("tidy."), Ok(vec![("tidy.a".into(), "x".into())]));
}

#[test]
fn a_sentence_is_noted_with_the_change_or_not_at_all() {
    let (_dir, journal) = open();
    let running = entered(&accept(&journal, "a"), JobState::Running);
    journal.change_blocking(running.clone(), None).unwrap();
    journal.next_sequence().unwrap();
    let before = journal.commits();
    let again = entered(&running, JobState::Queued);
    journal.sentence_blocking(again.clone(), Some(json!("again")), 1, true).unwrap();
    assert_eq!(journal.commits() - before, 1);
    let live = || journal.live_blocking().unwrap();
    assert_eq!(live(), [Live { job: again.clone(), deaths: 1, suspect: true }]);
    assert_eq!(events(&journal), [json!("again")]);
    let illegal = Job { state: JobState::Succeeded, ..again.clone() };
    let refused = journal.sentence_blocking(illegal, Some(json!(1)), 7, false).unwrap_err();
    assert_eq!(refused.code(), "internal");
    assert_eq!(live(), [Live { job: again.clone(), deaths: 1, suspect: true }]);
    assert_eq!(journal.sentence_blocking(job("b"), None, 1, true).unwrap_err().code(), "job_gone");
    // One that waits already is only judged.
    journal.sentence_blocking(again.clone(), Some(json!("again")), 2, false).unwrap();
    assert_eq!(live(), [Live { job: again, deaths: 2, suspect: false }]);
    assert_eq!(count_events(&journal), 1);
}

#[test]
fn a_change_that_is_there_already_puts_no_second_event_into_the_outbox() {
    let (_dir, journal) = open();
    let running = entered(&accept(&journal, "a"), JobState::Running);
    for _ in 0..2 {
        journal.change_blocking(running.clone(), Some(json!("running"))).unwrap();
    }
    assert_eq!(count_events(&journal), 1);
    let event = wait(journal.due_events(9)).unwrap().remove(0);
    wait(journal.delivered(event.sequence)).unwrap();
    let warned = Job { warnings: vec!["odd".into()], ..running.clone() };
    let notes = vec![note("tidy.a", Some("x"))];
    journal.change_noting_blocking(warned.clone(), Some(json!("running")), notes).unwrap();
    assert_eq!(count_events(&journal), 0, "not when it was delivered either");
    assert_eq!(wait(journal.get("a")), Ok(Some(warned)), "the record is replaced all the same");
    assert_eq!(journal.meta_blocking("tidy.a"), Ok(Some("x".into())), "and the notes are made");
    // Back in the state that it was in, by another change.
    let later = entered(&entered(&running, JobState::Queued), JobState::Running);
    journal.change_blocking(later, Some(json!("running again"))).unwrap();
    assert_eq!(events(&journal), [json!("running again")]);
}

#[test]
fn where_the_record_cannot_be_read_the_event_is_told() {
    let (_dir, journal) = open();
    let running = entered(&accept(&journal, "a"), JobState::Running);
    journal.change_blocking(running.clone(), None).unwrap();
    for (n, record) in ["''", "x'FF00'", "'{\"history\": 7}'"].into_iter().enumerate() {
        let spoil = format!("UPDATE jobs SET record = {record}");
        wait(journal.write(move |db| Ok(db.execute_batch(&spoil)?))).unwrap();
        journal.change_blocking(running.clone(), Some(json!(n))).unwrap();
        assert_eq!(count_events(&journal), n as i64 + 1, "{record}");
    }
    assert_eq!(wait(journal.get("a")), Ok(Some(running)));
}

#[test]
fn a_job_that_was_forgotten_meanwhile_is_told_so() {
    let (_dir, journal) = open();
    let failed = moved(&accept(&journal, "a"), JobState::Failed, 100);
    journal.change_blocking(failed.clone(), None).unwrap();
    assert_eq!(wait(journal.forget(at(101), false)), Ok(1));
    let outcomes = [
        journal.change_blocking(failed.clone(), Some(json!(1))),
        journal.sentence_blocking(failed, Some(json!(1)), 1, true),
        journal.blame_blocking("a", 1, true),
    ];
    for outcome in outcomes {
        let e = outcome.unwrap_err();
        assert_eq!((e.kind(), e.code()), (ErrorKind::NotFound, "job_gone"));
        assert!(e.message().contains("job a ") && e.hint_text().is_some(), "{e}");
    }
    assert_eq!(count_events(&journal), 0);
    assert_eq!(journal.is_healthy(), Ok(()), "the journal is not at fault");
}

#[test]
fn facts_are_found_by_how_their_names_begin() {
    let (_dir, journal) = open();
    let names = ["tidy.b", "tidy_b", "tidy.a", "tidy%", "tidy", "tidz", "tidy.ä", "tidy.\u{10FFFF}", "other"];
    for name in names {
        journal.set_meta_blocking(name, Some(&format!("of {name}"))).unwrap();
    }
    let found = |prefix: &str| -> Vec<String> {
        let notes = journal.notes_blocking(prefix).unwrap();
        assert!(
            notes.iter().all(|(name, value)| name.starts_with("journal.") || *value == format!("of {name}"))
        );
        notes.into_iter().map(|(name, _)| name).collect()
    };
    assert_eq!(found("tidy."), ["tidy.a", "tidy.b", "tidy.ä", "tidy.\u{10FFFF}"]);
    assert_eq!(found("tidy%"), ["tidy%"]);
    assert_eq!(found("tidy_"), ["tidy_b"]);
    assert_eq!(found("tidz"), ["tidz"]);
    assert_eq!(found("u"), [""; 0]);
    assert_eq!(found("tidy.\u{10FFFF}\u{10FFFF}"), [""; 0]);
    let all = found("");
    assert!(all.is_sorted() && all.iter().any(|name| name == "journal.identity"));
    assert_eq!(all.iter().filter(|name| !name.starts_with("journal.")).count(), names.len());
}

#[test]
fn what_is_noted_about_a_job_leaves_with_it_but_not_what_is_still_to_be_removed() {
    let (_dir, journal) = open();
    let queued = accept(&journal, "a");
    for name in ["published.a", "cancelled.a", "tidy.a", "published.b", "cancelled.b", "tidy.b"] {
        journal.set_meta_blocking(name, Some("x")).unwrap();
    }
    journal.change_blocking(moved(&queued, JobState::Failed, 100), None).unwrap();
    assert_eq!(wait(journal.forget(at(101), false)), Ok(1));
    let left = |prefix: &str| -> Vec<String> {
        journal.notes_blocking(prefix).unwrap().into_iter().map(|(name, _)| name).collect()
    };
    assert_eq!(left("published."), ["published.b"]);
    assert_eq!(left("cancelled."), ["cancelled.b"]);
    assert_eq!(left("tidy."), ["tidy.a", "tidy.b"]);
}
