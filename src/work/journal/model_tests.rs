//! Any sequence of calls, restarts among them, against the simplest thing that could be right.

use super::tests::{all, at, ids, job, moved, with_output};
use super::*;
use crate::model::record::{Outputs, StateChange};
use proptest::prelude::*;
use serde_json::json;

#[derive(Clone, Debug)]
enum Call {
    Accept(u8, bool),
    /// With its event, or not; and how often the process died of it, if that is told too.
    Change(Change, bool, Option<u32>),
    Blame(u8, u32),
    Deliver,
    SetAside,
    Forget(i64, bool),
    Outputs(i64, Option<u8>, usize),
    List(Option<JobState>, usize, Option<u8>),
    Restart,
}

/// A job as it is to be: in a state, ended then, by its change of that number, with an output or not.
#[derive(Clone, Debug)]
struct Change {
    id: u8,
    to: JobState,
    ended_ms: i64,
    number: u64,
    has_output: bool,
}

impl Change {
    fn job(&self) -> Job {
        let mut job = moved(&job(&name(self.id)), self.to, self.ended_ms);
        job.history = vec![StateChange { number: self.number, state: self.to, at: at(0) }];
        if self.has_output { with_output(job) } else { job }
    }
}

fn change() -> impl Strategy<Value = Change> {
    let state = proptest::sample::select(&JobState::ALL[..]);
    (0..6u8, state, 0..20i64, 1..3u64, any::<bool>())
        .prop_map(|(id, to, ended_ms, number, has_output)| Change { id, to, ended_ms, number, has_output })
}

fn call() -> impl Strategy<Value = Call> {
    let state = || proptest::sample::select(&JobState::ALL[..]);
    let id = || 0..6u8;
    prop_oneof![
        4 => (id(), any::<bool>()).prop_map(|(id, event)| Call::Accept(id, event)),
        8 => (change(), any::<bool>(), proptest::option::weighted(0.2, 0..3u32))
            .prop_map(|(change, event, deaths)| Call::Change(change, event, deaths)),
        1 => (id(), 0..3u32).prop_map(|(id, deaths)| Call::Blame(id, deaths)),
        3 => Just(Call::Deliver),
        1 => Just(Call::SetAside),
        1 => (0..20i64, any::<bool>()).prop_map(|(before, keep)| Call::Forget(before, keep)),
        2 => (0..22i64, proptest::option::of(id()), 0..4usize)
            .prop_map(|(before, after, limit)| Call::Outputs(before, after, limit)),
        2 => (proptest::option::of(state()), 0..4usize, proptest::option::of(id()))
            .prop_map(|(state, limit, after)| Call::List(state, limit, after)),
        1 => Just(Call::Restart),
    ]
}

/// In the order of acceptance, and of the events.
#[derive(Default)]
struct Model {
    jobs: Vec<Live>,
    events: Vec<(String, Value)>,
    told: u32,
}

impl Model {
    fn find(&mut self, id: &str) -> Option<&mut Live> {
        self.jobs.iter_mut().find(|live| live.job.id() == id)
    }

    fn event(&mut self, wanted: bool) -> Option<Value> {
        self.told += 1;
        wanted.then(|| json!(self.told))
    }

    fn keep(&mut self, id: &str, event: Option<Value>) {
        self.events.extend(event.map(|body| (id.to_owned(), body)));
    }

    fn due(&self) -> Vec<(String, Value)> {
        let first = |n: usize, job: &str| !self.events.iter().take(n).any(|(other, _)| other == job);
        let due = self.events.iter().enumerate().filter(|(n, (job, _))| first(*n, job));
        due.map(|(_, event)| event.clone()).collect()
    }

    fn change(&mut self, job: &Job, event: Option<Value>, deaths: Option<u32>) -> bool {
        let may = |live: &Live| live.job.state == job.state || live.job.state.may_become(job.state);
        let Some(live) = self.find(job.id()).filter(|live| may(live)) else { return false };
        let change = |job: &Job| (job.state, job.last_change().number);
        let is_news = change(&live.job) != change(job);
        live.job = job.clone();
        if let Some(deaths) = deaths {
            (live.deaths, live.suspect) = (deaths, deaths > 1);
        }
        self.keep(job.id(), event.filter(|_| is_news));
        true
    }

    fn outputs(&self, before: i64, after: Option<&str>, limit: usize) -> Vec<&str> {
        let places = self.jobs.iter().enumerate();
        let places = places.filter_map(|(n, live)| Some((live.job.ended_at?, n, &live.job)));
        let seen = places.clone().find(|(_, _, job)| Some(job.id()) == after).map(|(ended, n, _)| (ended, n));
        let mut due: Vec<_> = places
            .filter(|(ended, n, job)| {
                let is_due = *ended < at(before) && job.outputs != Outputs::default();
                is_due && seen.is_none_or(|seen| (*ended, *n) > seen)
            })
            .collect();
        due.sort_by_key(|(ended, n, _)| (*ended, *n));
        due.into_iter().map(|(_, _, job)| job.id()).take(limit).collect()
    }

    fn forget(&mut self, before: i64, keep_outputs: bool) -> u64 {
        let events = &self.events;
        let goes = |live: &Live| {
            let ended = live.job.ended_at.is_some_and(|ended| ended < at(before));
            let stays = keep_outputs && live.job.outputs != Outputs::default();
            ended && !stays && !events.iter().any(|(job, _)| job == live.job.id())
        };
        let had = self.jobs.len();
        self.jobs.retain(|live| !goes(live));
        (had - self.jobs.len()) as u64
    }

    fn page(&self, state: Option<JobState>, limit: usize, after: Option<&str>) -> Option<Vec<&str>> {
        let end = match after {
            None => self.jobs.len(),
            Some(id) => self.jobs.iter().position(|live| live.job.id() == id)?,
        };
        let older = self.jobs[..end].iter().rev().map(|live| &live.job);
        Some(
            older
                .filter(|job| state.is_none_or(|state| job.state == state))
                .take(limit)
                .map(Job::id)
                .collect(),
        )
    }
}

fn name(id: u8) -> String {
    format!("job-{id}")
}

fn make(call: Call, journal: &mut Journal, model: &mut Model, dir: &Path) {
    match call {
        Call::Accept(id, event) => {
            let (new, event) = (job(&name(id)), model.event(event));
            let found = wait(journal.accept(new.clone(), event.clone())).unwrap();
            let expected = match model.find(new.id()) {
                Some(live) => Accepted::Same(Box::new(live.job.clone())),
                None => Accepted::New,
            };
            if expected == Accepted::New {
                model.keep(new.id(), event);
                model.jobs.push(Live { job: new, deaths: 0, suspect: false });
            }
            assert_eq!(found, expected);
        }
        Call::Change(change, event, deaths) => {
            let (job, event) = (change.job(), model.event(event));
            let done = match deaths {
                None => journal.change_blocking(job.clone(), event.clone()),
                Some(deaths) => journal.sentence_blocking(job.clone(), event.clone(), deaths, deaths > 1),
            };
            assert_eq!(done.is_ok(), model.change(&job, event, deaths));
        }
        Call::Blame(id, deaths) => {
            let done = journal.blame_blocking(&name(id), deaths, deaths > 1).is_ok();
            let found = model.find(&name(id)).map(|live| (live.deaths, live.suspect) = (deaths, deaths > 1));
            assert_eq!(done, found.is_some());
        }
        Call::Deliver | Call::SetAside => {
            // The last of those that are due, to have others before it.
            let Some(event) = wait(journal.due_events(99)).unwrap().pop() else { return };
            match call {
                Call::Deliver => wait(journal.delivered(event.sequence)).unwrap(),
                _ => wait(journal.set_aside(event.sequence, "no")).unwrap(),
            }
            model.events.retain(|(_, body)| *body != event.body);
        }
        Call::Forget(before, keep) => {
            assert_eq!(wait(journal.forget(at(before), keep)).unwrap(), model.forget(before, keep));
        }
        Call::Outputs(before, after, limit) => {
            let after = after.map(name);
            let found = wait(journal.outputs_ended_before(at(before), after.as_deref(), limit)).unwrap();
            assert_eq!(ids(&found), model.outputs(before, after.as_deref(), limit));
        }
        Call::List(state, limit, after) => {
            let after = after.map(name);
            let found = wait(journal.list(Page { state, limit, after: after.clone() })).ok();
            assert_eq!(found.as_deref().map(ids), model.page(state, limit, after.as_deref()));
        }
        Call::Restart => {
            journal.close(CLOSE_LIMIT);
            *journal = Journal::open(dir).unwrap();
        }
    }
}

fn compare(journal: &Journal, model: &Model) {
    let events = wait(journal.due_events(99)).unwrap();
    assert_eq!(events.into_iter().map(|e| (e.job, e.body)).collect::<Vec<_>>(), model.due());
    let live = model.jobs.iter().filter(|live| !live.job.state.has_ended()).cloned().collect();
    assert_eq!(journal.live_blocking(), Ok(live));
    let every = wait(journal.list(all(99))).unwrap();
    assert_eq!(every, model.jobs.iter().rev().map(|live| live.job.clone()).collect::<Vec<_>>());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_journal_is_as_its_model(calls in proptest::collection::vec(call(), 1..60)) {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(dir.path()).unwrap();
        let mut model = Model::default();
        for call in calls {
            make(call, &mut journal, &mut model, dir.path());
            compare(&journal, &model);
        }
    }
}
