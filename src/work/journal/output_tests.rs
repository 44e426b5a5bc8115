//! Which jobs still have an output, and how long they stay for it.

use super::tests::{accept, at, ids, job, moved, open, with_output};
use super::*;
use crate::model::record::Outputs;
use serde_json::json;

/// An ended job with or without an output, in the journal.
fn ended(journal: &Journal, id: &str, ended_ms: i64, has_output: bool) -> Job {
    let running = moved(&accept(journal, id), JobState::Running, 0);
    journal.change_blocking(running.clone(), None).unwrap();
    let ended = moved(&running, JobState::Succeeded, ended_ms);
    let ended = if has_output { with_output(ended) } else { ended };
    journal.change_blocking(ended.clone(), None).unwrap();
    ended
}

fn found(journal: &Journal, before_ms: i64, after: Option<&str>, limit: usize) -> Vec<String> {
    let jobs = wait(journal.outputs_ended_before(at(before_ms), after, limit)).unwrap();
    ids(&jobs).into_iter().map(str::to_owned).collect()
}

#[test]
fn outputs_are_found_by_the_end_of_their_jobs_as_long_as_they_are_there() {
    let (_dir, journal) = open();
    let [_, a, ..] = [("c", 300, true), ("a", 100, true), ("b", 200, false), ("d", 400, true)]
        .map(|(id, ended_ms, has_output)| ended(&journal, id, ended_ms, has_output));
    accept(&journal, "live");
    assert_eq!(found(&journal, 300, None, 9), ["a"]);
    assert_eq!(found(&journal, 301, None, 9), ["a", "c"]);
    assert_eq!(found(&journal, 999, None, 2), ["a", "c"]);
    assert_eq!(found(&journal, 999, None, 0), [""; 0]);
    journal.change_blocking(Job { outputs: Outputs::default(), ..a }, None).unwrap();
    assert_eq!(found(&journal, 301, None, 9), ["c"], "it was removed");
}

#[test]
fn whoever_looks_on_behind_the_last_one_comes_to_all() {
    let (_dir, journal) = open();
    // Several of one end: in the order in which they were accepted.
    for (id, ended_ms) in [("d", 200), ("c", 200), ("b", 200), ("a", 100), ("e", 300)] {
        ended(&journal, id, ended_ms, true);
    }
    let mut seen: Vec<String> = Vec::new();
    for round in 0.. {
        let page = found(&journal, 999, seen.last().map(String::as_str), 2);
        if page.is_empty() {
            break;
        }
        seen.extend(page);
        assert!(round < 3, "it goes round and round: {seen:?}");
    }
    assert_eq!(seen, ["a", "d", "c", "b", "e"]);
    let c = wait(journal.get("c")).unwrap().unwrap();
    journal.change_blocking(Job { outputs: Outputs::default(), ..c }, None).unwrap();
    assert_eq!(found(&journal, 999, Some("c"), 9), ["b", "e"], "it knows where one was that has none now");
    assert_eq!(found(&journal, 300, Some("c"), 9), ["b"]);
    accept(&journal, "live");
    for nowhere in ["never there", "live"] {
        assert_eq!(found(&journal, 999, Some(nowhere), 1), ["a"], "{nowhere}");
    }
}

#[test]
fn records_that_cannot_be_read_neither_hide_the_others_nor_fail_the_look() {
    let (_dir, journal) = open();
    for (id, ended_ms) in [("a", 100), ("b", 200), ("c", 300)] {
        ended(&journal, id, ended_ms, true);
    }
    let spoil = |db: &Connection| Ok(db.execute_batch("UPDATE jobs SET record = '{' WHERE id = 'a'")?);
    wait(journal.write(spoil)).unwrap();
    assert_eq!(found(&journal, 999, None, 1), ["b"]);
    assert_eq!(found(&journal, 999, Some("a"), 9), ["b", "c"]);
}

#[test]
fn jobs_stay_for_their_outputs_where_that_is_wanted() {
    let (_dir, journal) = open();
    for (id, ended_ms, has_output) in
        [("a", 100, true), ("b", 200, false), ("c", 300, true), ("d", 400, false)]
    {
        ended(&journal, id, ended_ms, has_output);
    }
    wait(journal.accept(job("e"), Some(json!(1)))).unwrap();
    journal.change_blocking(moved(&job("e"), JobState::Failed, 100), None).unwrap();
    let left = || {
        let jobs = wait(journal.list(Page { limit: 99, ..Page::default() })).unwrap();
        ids(&jobs).into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(wait(journal.forget(at(301), true)), Ok(1), "b; e has an event that waits");
    assert_eq!(left(), ["e", "d", "c", "a"]);
    let a = wait(journal.get("a")).unwrap().unwrap();
    journal.change_blocking(Job { outputs: Outputs::default(), ..a }, None).unwrap();
    assert_eq!(wait(journal.forget(at(301), true)), Ok(1), "a, whose output was removed");
    assert_eq!(wait(journal.forget(at(301), false)), Ok(1), "c");
    assert_eq!(left(), ["e", "d"]);
}

/// How SQLite goes about it.
fn plan(journal: &Journal, sql: &'static str) -> String {
    let look = move |db: &Connection| {
        let mut plan = db.prepare(&format!("EXPLAIN QUERY PLAN {sql}"))?;
        for n in 1..=plan.parameter_count() {
            plan.raw_bind_parameter(n, 1)?;
        }
        let (mut rows, mut steps) = (plan.raw_query(), Vec::new());
        while let Some(row) = rows.next()? {
            steps.push(row.get::<_, String>(3)?);
        }
        Ok(steps.join("; "))
    };
    wait(journal.read(look)).unwrap()
}

#[test]
fn what_is_asked_each_minute_looks_at_no_more_than_it_must() {
    let (_dir, journal) = open();
    for sql in [jobs::OUTPUTS_ENDED_BEFORE, jobs::FORGET_WITHOUT_OUTPUT] {
        let plan = plan(&journal, sql);
        assert!(plan.contains("INDEX jobs_by_output (has_output=? AND ended_ms"), "{plan}");
        assert!(!plan.contains("TEMP B-TREE") && !plan.contains("SCAN jobs"), "{plan}");
    }
    let plan = plan(&journal, jobs::FORGET);
    assert!(plan.contains("jobs_by_end (ended_ms<?)") && !plan.contains("SCAN jobs"), "{plan}");
}
