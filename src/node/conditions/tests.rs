use super::super::disks::{Figures, Pace, Probe};
use super::*;
use crate::config::settings;
use crate::model::node::NodeState;
use std::path::Path;
use std::sync::Arc;

/// Figures that a test changes.
#[derive(Clone, Default)]
struct Fake(Arc<Mutex<HashMap<String, Result<Figures, String>>>>);

impl Fake {
    fn set(&self, place: &str, figures: Result<Figures, String>) {
        self.0.lock().unwrap().insert(place.into(), figures);
    }
}

impl Probe for Fake {
    fn look(&self, place: &Place, try_writing: bool) -> Result<Figures, String> {
        let well = Figures { total_bytes: 1 << 40, free_bytes: 1 << 39, written: None };
        let mut figures = self.0.lock().unwrap().get(&place.name).cloned().unwrap_or(Ok(well))?;
        if try_writing && figures.written.is_none() {
            figures.written = Some(Ok(()));
        }
        Ok(figures)
    }
}

fn settings(folder: &Path) -> Settings {
    let file = folder.join("sprocket.yaml");
    let text = format!(
        "paths:\n  roots: [{{name: m, uri: 'nas://m', local: '{0}/m'}}]\n  output: {{uri: 'nas://o', local: '{0}/o'}}\n  state: '{0}/state'\nlimits: {{max_concurrent_jobs: 2}}\n",
        folder.display()
    );
    std::fs::write(&file, text).unwrap();
    crate::config::load(Some(&file), std::iter::empty(), folder).unwrap().settings
}

/// Looks until what is seen is as wanted, for some seconds at most.
#[track_caller]
fn until(conditions: &Conditions, wanted: impl Fn(&Status) -> bool) {
    for _ in 0..400 {
        conditions.look();
        if wanted(&conditions.status()) {
            return;
        }
        let _ = crossbeam_channel::never::<()>().recv_timeout(Duration::from_millis(10));
    }
    panic!("{:?}", conditions.status());
}

#[test]
fn faults_come_and_go_with_the_disks() {
    let folder = tempfile::tempdir().unwrap();
    let settings: settings::Settings = settings(folder.path());
    let fake = Fake::default();
    let pace = Pace {
        every: Duration::from_millis(10),
        deadline: Duration::from_secs(5),
        write_every: Duration::ZERO,
    };
    let disks = Disks::with_probe(places(&settings), pace, Arc::new(fake.clone())).unwrap();
    let journal = Journal::open(&folder.path().join("state")).unwrap();
    let conditions = Conditions::new(&settings, disks, journal, Vec::new());
    let code = |status: &Status| status.reasons.first().map(|fault| fault.code.clone()).unwrap_or_default();

    until(&conditions, |status| status.state == NodeState::Idle);
    let few = Figures { total_bytes: 1 << 40, free_bytes: 1 << 30, written: None };
    fake.set(OUTPUT, Ok(few.clone()));
    until(&conditions, |status| status.state == NodeState::Error && code(status) == "disk_low");
    fake.set(
        OUTPUT,
        Ok(Figures { written: Some(Err("read-only".into())), free_bytes: 1 << 39, ..few.clone() }),
    );
    until(&conditions, |status| status.state == NodeState::Error && code(status) == "output_not_writable");
    fake.set(OUTPUT, Ok(Figures { free_bytes: 1 << 39, ..few }));
    until(&conditions, |status| status.state == NodeState::Idle);
    fake.set(STATE, Err("no such folder".into()));
    until(&conditions, |status| code(status) == "state_gone");
    fake.set(STATE, Ok(Figures { total_bytes: 1 << 40, free_bytes: 1 << 39, written: None }));
    until(&conditions, |status| status.state == NodeState::Idle);
    conditions.disk_full();
    assert_eq!(code(&conditions.status()), "disk_low", "before anything starts on the same disk");
    until(&conditions, |status| status.state == NodeState::Idle);
    fake.set(STATE, Err("no such folder".into()));
    conditions.set_draining(true);
    until(&conditions, |status| status.state == NodeState::Maintenance && code(status) == "state_gone");
}

#[test]
fn a_root_on_which_a_job_stood_still_is_not_trusted_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(folder.path());
    let disks = Disks::with_probe(places(&settings), Pace::default(), Arc::new(Fake::default())).unwrap();
    let journal = Journal::open(&folder.path().join("state")).unwrap();
    let conditions = Conditions::new(&settings, disks, journal, Vec::new());
    assert!(conditions.silent_roots().is_empty());
    Surroundings::stalled(&conditions, Some(RootId(0)));
    conditions.look();
    assert_eq!(conditions.silent_roots(), HashSet::from([RootId(0)]));
    let shown: Vec<_> = conditions.disks().iter().map(|disk| (disk.name.clone(), disk.answering)).collect();
    assert_eq!(shown, [("m".to_string(), false), (OUTPUT.to_string(), true)]);
}
