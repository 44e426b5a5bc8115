//! Any sequence of calls, restarts among them, against the simplest thing that could be right.

use super::tests::{all, at, ids, job, moved};
use super::*;
use proptest::prelude::*;
use serde_json::json;

#[derive(Clone, Debug)]
enum Call {
    Accept(u8, bool),
    Change(u8, JobState, i64, bool),
    Blame(u8, u32),
    Deliver,
    SetAside,
    Forget(i64),
    List(Option<JobState>, usize, Option<u8>),
    Restart,
}

fn call() -> impl Strategy<Value = Call> {
    let state = || proptest::sample::select(&JobState::ALL[..]);
    let id = || 0..6u8;
    prop_oneof![
        4 => (id(), any::<bool>()).prop_map(|(id, event)| Call::Accept(id, event)),
        8 => (id(), state(), 0..20i64, any::<bool>()).prop_map(|(id, to, ms, event)| Call::Change(id, to, ms, event)),
        1 => (id(), 0..3u32).prop_map(|(id, deaths)| Call::Blame(id, deaths)),
        3 => Just(Call::Deliver),
        1 => Just(Call::SetAside),
        1 => (0..20i64).prop_map(Call::Forget),
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

    fn forget(&mut self, before: i64) -> u64 {
        let events = &self.events;
        let goes = |live: &Live| {
            let ended = live.job.ended_at.is_some_and(|ended| ended < at(before));
            ended && !events.iter().any(|(job, _)| job == live.job.id())
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
        Call::Change(id, to, ms, event) => {
            let (changed, event) = (moved(&job(&name(id)), to, ms), model.event(event));
            let done = journal.change_blocking(changed.clone(), event.clone()).is_ok();
            let may = |live: &Live| live.job.state == to || live.job.state.may_become(to);
            let expected =
                model.find(changed.id()).filter(|live| may(live)).map(|live| live.job = changed.clone());
            if expected.is_some() {
                model.keep(changed.id(), event);
            }
            assert_eq!(done, expected.is_some());
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
        Call::Forget(before) => assert_eq!(wait(journal.forget(at(before))).unwrap(), model.forget(before)),
        Call::List(state, limit, after) => {
            let after = after.map(name);
            let found = wait(journal.list(Page { state, limit, after: after.clone() })).ok();
            assert_eq!(found.as_deref().map(ids), model.page(state, limit, after.as_deref()));
        }
        Call::Restart => {
            journal.close();
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
