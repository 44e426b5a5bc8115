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

fn proofs(folder: &Path) -> Vec<PathBuf> {
    (0..PROOF_NAMES).map(|n| folder.join(format!("{TEMP_PREFIX}proof-{n}"))).collect()
}

fn leave(name: &Path, age: Duration) {
    fs::write(name, b"theirs").unwrap();
    File::options().write(true).open(name).unwrap().set_modified(SystemTime::now() - age).unwrap();
}

#[test]
fn what_others_are_proving_is_left_alone_and_what_they_have_left_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let names = proofs(dir.path());
    for (n, name) in names.iter().enumerate() {
        leave(name, if n % 2 == 0 { PROOF_LEFT - 60_000 * MS } else { PROOF_LEFT + 1000 * MS });
    }
    assert_eq!(prove_writing(dir.path()), Ok(()));
    assert!(names.iter().enumerate().all(|(n, name)| name.exists() == (n % 2 == 0)));
    names.iter().for_each(|name| leave(name, MS));
    let why = prove_writing(dir.path()).unwrap_err();
    assert!(why.ends_with("every name is taken; remove old files named .sprocket-tmp-proof-*"), "{why}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), PROOF_NAMES);
    // A clock that was ahead.
    names.iter().for_each(|name| leave(name, PROOF_LEFT * 2));
    File::open(&names[0]).unwrap().set_modified(SystemTime::now() + PROOF_LEFT * 2).unwrap();
    assert_eq!(prove_writing(dir.path()), Ok(()));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

/// Another process that looks at the folder all the time sees no file with a byte in it.
#[cfg(target_os = "linux")]
#[test]
fn the_proof_has_no_name_any_more_when_it_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let (proving, folder) = (Cancel::new(), dir.path());
    let written = thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let long = |name: &PathBuf| fs::metadata(name).is_ok_and(|facts| facts.len() > 0);
            let names = proofs(folder);
            let mut seen = 0;
            while proving.check(Stage::Plan).is_ok() {
                seen += names.iter().filter(|name| long(name)).count();
            }
            seen
        });
        let proven = (0..300).filter(|_| prove_writing(folder).is_ok()).count();
        proving.cancel();
        (proven, watcher.join().unwrap())
    });
    assert_eq!((written, fs::read_dir(folder).unwrap().count()), ((300, 0), 0));
}
