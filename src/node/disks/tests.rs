use super::*;
use crate::base::cancel::Cancel;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};

const MS: Duration = Duration::from_millis(1);

fn place(name: &str, path: &Path, written: bool) -> Place {
    Place { name: name.into(), path: path.into(), written }
}

fn pace() -> Pace {
    Pace { every: 5 * MS, deadline: 100 * MS, write_every: Duration::from_secs(3600) }
}

#[track_caller]
fn until(what: impl Fn() -> bool) {
    let never = Cancel::new();
    assert!((0..5000).any(|_| what() || never.wait_timeout(MS)), "it did not happen in five seconds");
}

/// Answers by a script, hangs on request, and counts who asks.
struct Fake {
    script: Mutex<VecDeque<Result<Figures, String>>>,
    gate: Mutex<()>,
    asked: AtomicUsize,
    inside: AtomicUsize,
    most_inside: AtomicUsize,
    wrote: AtomicUsize,
}

impl Fake {
    fn new(script: impl IntoIterator<Item = Result<Figures, String>>) -> Arc<Self> {
        Arc::new(Self {
            script: Mutex::new(script.into_iter().collect()),
            gate: Mutex::default(),
            asked: AtomicUsize::new(0),
            inside: AtomicUsize::new(0),
            most_inside: AtomicUsize::new(0),
            wrote: AtomicUsize::new(0),
        })
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

impl Probe for Fake {
    fn look(&self, place: &Place, try_writing: bool) -> Result<Figures, String> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.wrote.fetch_add(usize::from(try_writing), Ordering::SeqCst);
        let inside = self.inside.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_inside.fetch_max(inside, Ordering::SeqCst);
        if place.name == "nas" {
            drop(self.gate.lock().unwrap());
        }
        self.inside.fetch_sub(1, Ordering::SeqCst);
        let written = try_writing.then_some(Ok(()));
        let usual = Ok(Figures { total_bytes: 100, free_bytes: 40, written });
        self.script.lock().unwrap().pop_front().unwrap_or(usual)
    }
}

#[test]
fn a_place_that_hangs_is_shown_so_and_gets_no_second_thread() {
    let fake = Fake::new([]);
    let gate = fake.gate.lock().unwrap();
    let here = Path::new("/x");
    let places = vec![place("nas", here, false), place("local", here, false)];
    let began = Timestamp::now();
    let disks = Disks::with_probe(places, pace(), fake.clone()).unwrap();
    assert!(!disks.wait_for_first(MS));
    assert!(disks.latest()[0].answering, "the deadline is not over");
    until(|| !disks.latest()[0].answering);
    let looks = fake.asked();
    until(|| fake.asked() > looks + 10);
    let latest = disks.latest();
    assert_eq!((latest[0].total_bytes, latest[0].free_bytes), (None, None));
    let since = latest[0].silent_since.unwrap();
    assert!(
        since >= began && Timestamp::now().duration_since(since) >= jiff::SignedDuration::from_millis(100)
    );
    assert_eq!((latest[1].answering, latest[1].free_bytes), (true, Some(40)), "the others are looked at");
    assert!(fake.most_inside.load(Ordering::SeqCst) <= 2, "one thread each");
    // The server comes back.
    drop(gate);
    assert!(disks.wait_for_first(5000 * MS) && disks.wait_for_first(MS));
    until(|| disks.latest()[0].answering);
    assert_eq!((disks.latest()[0].silent_since, disks.latest()[0].free_bytes), (None, Some(40)));
    // And hangs again: the figures of before stay, marked.
    let _gate = fake.gate.lock().unwrap();
    until(|| !disks.latest()[0].answering);
    assert_eq!(disks.latest()[0].free_bytes, Some(40));
}

#[test]
fn threads_end_with_their_owner_even_one_that_hung() {
    let fake = Fake::new([]);
    let gate = fake.gate.lock().unwrap();
    let places = vec![place("nas", Path::new("/x"), false), place("local", Path::new("/x"), false)];
    let disks = Disks::with_probe(places, pace(), fake.clone()).unwrap();
    drop(disks);
    drop(gate);
    until(|| Arc::strong_count(&fake) == 1);
}

#[test]
fn writing_is_proven_once_until_it_fails_or_somebody_asks() {
    let fails = Figures { total_bytes: 100, free_bytes: 0, written: Some(Err("no space".into())) };
    let fake = Fake::new([Ok(fails)]);
    let disks =
        Disks::with_probe(vec![place("output", Path::new("/x"), true)], pace(), fake.clone()).unwrap();
    until(|| disks.latest()[0].writable == Some(true));
    assert_eq!(disks.latest()[0].error, None);
    let looks = fake.asked();
    until(|| fake.asked() > looks + 10);
    assert_eq!(fake.wrote.load(Ordering::SeqCst), 2, "once in vain, then once for good");
    disks.refresh();
    until(|| fake.wrote.load(Ordering::SeqCst) == 3);
}

#[test]
fn what_a_place_answers_instead_is_shown_and_goes_away() {
    let fake = Fake::new([Ok(Figures { total_bytes: 9, free_bytes: 9, written: None }), Err("gone".into())]);
    let slow = Pace { every: Duration::from_secs(3600), ..pace() };
    let disks = Disks::with_probe(vec![place("output", Path::new("/x"), true)], slow, fake.clone()).unwrap();
    until(|| disks.latest()[0].free_bytes == Some(9));
    disks.refresh();
    until(|| disks.latest()[0].error.is_some());
    let latest = disks.latest().remove(0);
    assert_eq!(
        (latest.error.as_deref(), latest.free_bytes, latest.writable),
        (Some("gone"), None, Some(false))
    );
    assert!(latest.answering);
    disks.refresh();
    until(|| disks.latest()[0].error.is_none());
    assert_eq!((disks.latest()[0].free_bytes, disks.latest()[0].writable), (Some(40), Some(true)));
}

#[test]
fn real_file_systems() {
    let dir = tempfile::tempdir().unwrap();
    let figures = FileSystem.look(&place("output", dir.path(), true), true).unwrap();
    assert!(figures.total_bytes > figures.free_bytes && figures.free_bytes > 0);
    assert_eq!(figures.written, Some(Ok(())));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is left");
    assert_eq!(FileSystem.look(&place("movies", dir.path(), false), false).unwrap().written, None);

    let missing = dir.path().join("missing");
    let error = FileSystem.look(&place("output", &missing, true), true).unwrap_err();
    assert!(error.contains("cannot read the folder") && error.contains("missing"), "{error}");
    let file = dir.path().join("file");
    fs::write(&file, b"").unwrap();
    assert!(FileSystem.look(&place("movies", &file, false), false).is_err());
}

#[cfg(target_os = "linux")]
#[test]
fn a_place_that_takes_no_files_says_why() {
    let written = FileSystem.look(&place("output", Path::new("/proc"), true), true).unwrap().written;
    let why = written.unwrap().unwrap_err();
    assert!(why.starts_with("cannot create a file in /proc: "), "{why}");
}

#[test]
fn names_that_others_hold_are_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let next = TempFile::beside(&dir.path().join("proof")).unwrap();
    let name = next.path().file_name().unwrap().to_string_lossy().into_owned();
    let number: u64 = name.split('-').nth(3).unwrap().parse().unwrap();
    // Other tests take numbers too: some of these are next.
    let taken: Vec<PathBuf> = (number..number + 8)
        .map(|n| dir.path().join(name.replace(&format!("-{number}-"), &format!("-{n}-"))))
        .collect();
    taken.iter().for_each(|path| fs::write(path, b"theirs").unwrap());
    assert_eq!(prove_writing(dir.path()), Ok(()));
    assert!(taken.iter().all(|path| fs::read(path).unwrap() == b"theirs"));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 8);
}
