//! The store under a real `kill -9` and on a full disk: an output is there whole or not at all, what a
//! killed process has left is gone on with or removed, and nothing hidden stays. The same of removing one.
//!
//! The children are this test itself, started again with [`FOLDER`] set; they make outputs of made-up
//! segments whose bytes are a function of generation, rendition and index. Each generation is another
//! fingerprint and replaces the one before. Stand-alone: needs no clips.

use sprocket::base::error::{ErrorKind, Result};
use sprocket::base::time::Rational;
use sprocket::model::job::SegmentType;
use sprocket::model::segment::Segment;
use sprocket::store::claim::{Claim, Gone, Identity, discard, identity, remove_output};
use sprocket::store::hls_dir::{HlsDir, VariantFacts};
use sprocket::store::output::OutputFile;
use std::collections::BTreeMap;
use std::fs;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Names the folder to work in to the child.
const FOLDER: &str = "SPROCKET_TEST_STORE_FOLDER";
/// Says to the child that removes which output is meant.
const EXPECTED: &str = "SPROCKET_TEST_STORE_EXPECTED";
const JOB: &str = "film-1";
const NAMES: [&str; 2] = ["720p", "480p"];
const SEGMENTS: u64 = 4;
const ROUNDS: u32 = 100;
/// System calls that change a file system: the moments between which a kill can make a difference.
/// What a machine does not have is passed over (`?`). Each call is counted by itself, so that two of a
/// kind stand together only where no machine uses both.
const STEPS: [&str; 11] = [
    "?mkdir,?mkdirat",
    "?rename,?renameat",
    "?renameat2",
    "?unlink",
    "unlinkat",
    "?rmdir",
    "?open,openat",
    "write",
    "fsync",
    "ftruncate",
    "flock",
];

/// Path below the folder, and the bytes; folders end in a slash.
type Tree = BTreeMap<String, Vec<u8>>;

// ---- what is made ----

fn data(generation: u64, rendition: usize, index: u64) -> Vec<u8> {
    let mark: Vec<u8> = [generation, rendition as u64, index].iter().flat_map(|n| n.to_le_bytes()).collect();
    let length = 400 + (generation * 7 + rendition as u64 * 131 + index * 29) % 500;
    mark.into_iter().cycle().take(length as usize).collect()
}

fn segment(generation: u64, rendition: usize, index: u64) -> Segment {
    let (start, end) = (Rational::new(4 * index as i64, 1), Rational::new(4 * index as i64 + 4, 1));
    let data = data(generation, rendition, index);
    Segment { rendition, index, start, end, frames: 96, audio_packets: 188, data: data.into() }
}

/// One output from create to publish; says from which segment on.
fn make(target: &Path, generation: u64) -> Result<u64> {
    let claim = Claim { job: JOB.into(), fingerprint: generation };
    let names = NAMES.map(str::to_owned).to_vec();
    let output = HlsDir::create_for(&claim, target, true, SegmentType::Fmp4, names, SEGMENTS - 1)?;
    let (sink, first) = (output.sink(), output.first_segment());
    for rendition in 0..NAMES.len() {
        sink.init(rendition, &[], &data(generation, rendition, 99))?;
    }
    for index in first..SEGMENTS {
        (0..NAMES.len()).try_for_each(|rendition| sink.segment(segment(generation, rendition, index)))?;
    }
    let facts = |height| VariantFacts {
        codecs: vec!["avc1.64001f".into()],
        resolution: Some((height * 16 / 9, height)),
        frame_rate: Some(Rational::new(24, 1)),
        video_range: None,
    };
    output.finish(&[facts(720), facts(480)])?;
    output.publish(&|| Ok(())).map(|()| first)
}

fn make_file(target: &Path, generation: u64) -> Result<u64> {
    let output = OutputFile::create_for(&Claim { job: JOB.into(), fingerprint: 0 }, target, true)?;
    let written = fs::write(output.path(), film(generation));
    written.map_err(|e| {
        sprocket::base::error::Error::io(sprocket::base::error::Stage::Mux, "write", output.path(), &e)
    })?;
    output.finish()?;
    output.publish(&|| Ok(())).map(|()| 0)
}

/// Long enough for several pages.
fn film(generation: u64) -> Vec<u8> {
    data(generation, 0, 0).repeat(40)
}

/// What is made: how, where below the folder, and what it then looks like.
#[derive(Clone, Copy)]
struct Kind {
    child: &'static str,
    child_that_makes_one: &'static str,
    target: &'static str,
    make: fn(&Path, u64) -> Result<u64>,
}

const HLS: Kind = Kind {
    child: "child_that_makes_folders",
    child_that_makes_one: "child_that_makes_one_folder",
    target: "a/b/film",
    make,
};
const FILE: Kind = Kind {
    child: "child_that_makes_files",
    child_that_makes_one: "child_that_makes_one_file",
    target: "a/b/film.mp4",
    make: make_file,
};

impl Kind {
    /// What a folder looks like in which nothing but this generation was made.
    fn alone(&self, generation: u64) -> Tree {
        let dir = tempfile::tempdir_in(memory()).unwrap();
        (self.make)(&dir.path().join(self.target), generation).unwrap();
        tree(dir.path())
    }
}

/// A folder whose syncs cost nothing where there is one: the moments that matter are then a larger
/// part of the whole.
fn memory() -> PathBuf {
    let memory = PathBuf::from("/dev/shm");
    if tempfile::tempdir_in(&memory).is_ok() { memory } else { std::env::temp_dir() }
}

fn tree(folder: &Path) -> Tree {
    let mut found = Tree::new();
    for entry in fs::read_dir(folder).into_iter().flatten().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        if entry.file_type().unwrap().is_dir() {
            let below = tree(&entry.path()).into_iter();
            found.extend(below.map(|(path, bytes)| (format!("{name}/{path}"), bytes)));
            found.insert(name + "/", Vec::new());
        } else {
            found.insert(name, fs::read(entry.path()).unwrap());
        }
    }
    found
}

/// Names that nobody but the store may see.
fn hidden(tree: &Tree) -> Vec<&String> {
    tree.keys().filter(|path| path.split('/').any(|part| part.starts_with('.'))).collect()
}

// ---- the children ----

fn go_on(kind: Kind) {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let until = Instant::now() + Duration::from_secs(30);
    for generation in 1.. {
        say(&format!("making {generation}"));
        (kind.make)(&Path::new(&folder).join(kind.target), generation).unwrap();
        say(&format!("made {generation}"));
        if Instant::now() > until {
            break;
        }
    }
}

#[test]
fn child_that_makes_folders() {
    go_on(HLS);
}

#[test]
fn child_that_makes_files() {
    go_on(FILE);
}

/// Makes generation 2 and ends.
fn make_one(kind: Kind) {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    (kind.make)(&Path::new(&folder).join(kind.target), 2).unwrap();
}

#[test]
fn child_that_makes_one_folder() {
    make_one(HLS);
}

#[test]
fn child_that_makes_one_file() {
    make_one(FILE);
}

/// Removes what was left of generation 2.
#[test]
fn child_that_discards() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    [HLS, FILE].iter().for_each(|kind| {
        discard(JOB, &Path::new(&folder).join(kind.target)).unwrap();
    });
}

#[test]
fn child_that_removes() {
    let (Ok(folder), Ok(expected)) = (std::env::var(FOLDER), std::env::var(EXPECTED)) else { return };
    let expected: Identity = serde_json::from_str(&expected).unwrap();
    [HLS, FILE].iter().for_each(|kind| {
        remove_output(&Path::new(&folder).join(kind.target), &expected).unwrap();
    });
}

/// One whole line at once.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("\n{line}\n").as_bytes()).unwrap();
    out.flush().unwrap();
}

/// The command line of one of the children; where it works is told it by [`FOLDER`].
fn this_test(child: &str) -> Vec<String> {
    let own = std::env::current_exe().unwrap().into_os_string().into_string().unwrap();
    [&own, "--exact", child, "--nocapture", "--test-threads=1"].map(str::to_owned).to_vec()
}

fn command(words: &[String]) -> Command {
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).stdin(Stdio::null()).stderr(Stdio::null());
    command
}

/// The generations that a child, killed `after` it had begun, was making and had made last.
fn killed(kind: Kind, folder: &Path, after: Duration) -> (u64, u64) {
    let child = &mut command(&this_test(kind.child));
    let mut child = child.env(FOLDER, folder).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let first = lines.by_ref().find(|line| line.starts_with("making ")).expect("the child makes something");
    let reader = std::thread::spawn(move || lines.collect::<Vec<_>>());
    let (_alive, never) = std::sync::mpsc::channel::<()>();
    let _ = never.recv_timeout(after);
    child.kill().unwrap();
    child.wait().unwrap();
    let said = reader.join().unwrap();
    let last = |what: &str| {
        let numbers = said.iter().chain([&first]).filter_map(|line| line.strip_prefix(what));
        numbers.map(|n| n.parse().unwrap()).max().unwrap_or(0)
    };
    (last("making "), last("made "))
}

fn up_to(micros: u64) -> Duration {
    Duration::from_micros(RandomState::new().build_hasher().finish() % micros)
}

// ---- what a kill leaves ----

/// Whether this generation is all there: under its name, or put aside with nothing under the name.
fn is_safe(kind: Kind, folder: &Path, generation: u64) -> bool {
    let expected = only_output(&kind.alone(generation), kind.target);
    let found = tree(folder);
    let at_target = without_log(only_output(&found, kind.target));
    if !at_target.is_empty() {
        return at_target == expected;
    }
    let aside = format!("a/b/.sprocket-tmp-old-{JOB}~");
    without_log(only_output(&found, &aside)) == expected
}

fn only_output(tree: &Tree, at: &str) -> Tree {
    let below = tree.iter().filter_map(|(path, bytes)| Some((path.strip_prefix(at)?, bytes)));
    let below = below.filter(|(rest, _)| rest.is_empty() || rest.starts_with('/'));
    below.map(|(rest, bytes)| (rest.to_owned(), bytes.clone())).collect()
}

fn without_log(mut tree: Tree) -> Tree {
    tree.remove("/.done");
    tree
}

/// Looks at what a kill has left while `making` was made and `made` was there; then does what a later
/// process of the job may do, which `then` chooses. Says from which segment on it was gone on with.
fn look_and_go_on(kind: Kind, folder: &Path, (making, made): (u64, u64), then: u32) -> u64 {
    let target = folder.join(kind.target);
    let left = tree(folder);
    if made > 0 {
        let safe = is_safe(kind, folder, made) || is_safe(kind, folder, making);
        assert!(safe, "generation {made} is lost, {making} is not there: {:?}", left.keys());
    } else if target.exists() {
        assert!(is_safe(kind, folder, making), "half an output: {:?}", left.keys());
    }
    if then == 0 {
        discard(JOB, &target).unwrap();
        assert!(!discard(JOB, &target).unwrap(), "nothing is left to remove");
        let found = tree(folder);
        assert_eq!(hidden(&found), Vec::<&String>::new(), "of {:?}", left.keys());
        let whole = [made, making].iter().any(|g| *g > 0 && found == kind.alone(*g));
        // Folders above it whose making was not noted yet stay.
        let noted = left.iter().any(|(path, bytes)| path.ends_with(".done") && bytes.contains(&b'\n'));
        let nothing = found.is_empty() || (!noted && found.keys().all(|path| path == "a/" || path == "a/b/"));
        assert!(whole || (made == 0 && nothing), "{:?} after {:?}", found.keys(), left.keys());
        return 0;
    }
    let generation = if then == 1 { making } else { making + 1 };
    let first = (kind.make)(&target, generation).unwrap();
    if then == 1 && is_all_made(&left) {
        assert_eq!(first, SEGMENTS - 1, "a whole folder was thrown away: {:?}", left.keys());
    }
    let (found, expected) = (tree(folder), kind.alone(generation));
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>(), "of {:?}", left.keys());
    assert!(found == expected, "generation {generation} is not exact");
    first
}

/// Whether all segments are there under the hidden name, and on the disk as far as their maker knew.
fn is_all_made(tree: &Tree) -> bool {
    let hidden = only_output(tree, &format!("a/b/.sprocket-tmp-job-{JOB}~"));
    let mut segments = NAMES.iter().flat_map(|name| (0..SEGMENTS).map(move |n| format!("/{name}/{n}.m4s")));
    if !segments.all(|path| hidden.contains_key(&path)) {
        return false;
    }
    let log = String::from_utf8_lossy(hidden.get("/.done").expect("no segment without the log"));
    log.lines().count() as u64 > SEGMENTS * NAMES.len() as u64 && !log.contains("kept")
}

fn survives(kind: Kind, rounds: u32) -> u32 {
    let mut resumed = 0;
    for round in 0..rounds {
        let above = if round % 4 == 3 { std::env::temp_dir() } else { memory() };
        let dir = tempfile::tempdir_in(above).unwrap();
        let generations = killed(kind, dir.path(), up_to(25_000));
        let first = look_and_go_on(kind, dir.path(), generations, round % 3);
        resumed += u32::from(first > 0);
        eprintln!("round {round}: killed at {generations:?}, then {}: from segment {first}", round % 3);
    }
    resumed
}

#[test]
fn a_folder_survives_a_kill_at_any_moment() {
    let resumed = survives(HLS, ROUNDS);
    eprintln!("{resumed} of {ROUNDS} went on where the killed process stopped");
}

#[test]
fn a_file_survives_a_kill_at_any_moment() {
    survives(FILE, ROUNDS / 2);
}

/// What is there when a child begins: the generation under the name, and before which call an earlier
/// process was killed that was to make generation 2.
#[derive(Clone, Copy, Debug)]
struct Start {
    before: u64,
    killed: Option<(&'static str, u32)>,
}

const NOTHING: Start = Start { before: 0, killed: None };
const AN_OUTPUT: Start = Start { before: 1, killed: None };
/// The old output has stepped aside, the new one has not come.
const HALF_REPLACED: Start = Start { before: 1, killed: Some((STEPS[1], 2)) };
/// Three segments of each rendition are on the disk; or all of the file is written.
const HALF_MADE: Start = Start { before: 0, killed: Some(("fsync", 9)) };
const HALF_MADE_FILE: Start = Start { before: 0, killed: Some(("fsync", 2)) };

/// Not at random moments but before each single step; of going on and of discarding as well.
#[test]
fn an_output_survives_a_kill_before_each_system_call() {
    if !has_strace() {
        return eprintln!("skipped: no strace here");
    }
    let discards = "child_that_discards";
    survives_each_step(HLS, HLS.child_that_makes_one, &[NOTHING, AN_OUTPUT, HALF_REPLACED, HALF_MADE]);
    survives_each_step(HLS, discards, &[HALF_REPLACED, HALF_MADE]);
    survives_each_step(FILE, FILE.child_that_makes_one, &[NOTHING, AN_OUTPUT, HALF_MADE_FILE]);
    survives_each_step(FILE, discards, &[HALF_MADE_FILE]);
}

fn survives_each_step(kind: Kind, child: &str, starts: &[Start]) {
    for start in starts {
        let all = STEPS.map(|calls| {
            let ends = |n: &u32| !killed_before(kind, child, *start, (calls, *n));
            (1..1000).find(ends).expect("the child ends at last") - 1
        });
        eprintln!("{child}, {start:?}: killed before each of {all:?} {STEPS:?}");
        // A single file that takes the place of another takes 28 of them, the fewest; C libraries differ.
        assert!(all.iter().sum::<u32>() > 20, "hardly anything was tried");
        let [.., opened, written, synced, _, _] = all;
        assert!(opened > 0 && written > 0 && (synced > 0 || child == "child_that_discards"), "{all:?}");
    }
}

/// Kills a child before a thread's `n`th of these calls, and goes on in each possible way. False if the
/// child was done before.
fn killed_before(kind: Kind, child: &str, start: Start, step: (&str, u32)) -> bool {
    // There are many of these, and most change nothing: one way each is enough.
    let often = ["?open,openat", "write", "fsync"].contains(&step.0);
    let ways = if often { step.1 % 3..step.1 % 3 + 1 } else { 0..3 };
    for then in ways {
        let dir = tempfile::tempdir_in(memory()).unwrap();
        if start.before > 0 {
            (kind.make)(&dir.path().join(kind.target), start.before).unwrap();
        }
        if let Some(earlier) = start.killed {
            assert!(!ends_before(kind.child_that_makes_one, dir.path(), earlier));
        }
        if ends_before(child, dir.path(), step) {
            let generation = if child == kind.child_that_makes_one { 2 } else { start.before };
            let expected = if generation > 0 { kind.alone(generation) } else { Tree::new() };
            assert_eq!(tree(dir.path()), expected);
            return false;
        }
        look_and_go_on(kind, dir.path(), (2, start.before), then);
    }
    true
}

/// Whether a child ends by itself when it is to be killed at that step.
fn ends_before(child: &str, folder: &Path, (calls, n): (&str, u32)) -> bool {
    let status = with_fault(child, folder, (calls, &format!("signal=KILL:when={n}")), None, None);
    assert!(status.success() || status.signal() == Some(9), "the child failed by itself");
    status.success()
}

/// Runs a child in which something happens to some calls, or to those of them that are on a path.
fn with_fault(
    child: &str,
    folder: &Path,
    (calls, fault): (&str, &str),
    of: Option<&Path>,
    expected: Option<&Identity>,
) -> ExitStatus {
    let (trace, inject) = (format!("trace={calls}"), format!("inject={calls}:{fault}"));
    let strace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", &trace, "-e", &inject].map(str::to_owned);
    let of = of.map(|path| ["-P".to_owned(), path.display().to_string()]);
    // Without a shell or `env` in between: their steps are not ours.
    let words = [strace.to_vec(), of.map_or(Vec::new(), Vec::from), this_test(child)].concat();
    let mut command = command(&words);
    if let Some(expected) = expected {
        command.env(EXPECTED, serde_json::to_string(expected).unwrap());
    }
    command.env(FOLDER, folder).stdout(Stdio::null()).status().unwrap()
}

// ---- removing ----

#[test]
fn a_removal_survives_a_kill_before_each_system_call() {
    if !has_strace() {
        return eprintln!("skipped: no strace here");
    }
    for kind in [HLS, FILE] {
        let all = STEPS.map(|calls| {
            let ends = |n: &u32| (0..4).all(|then| removal_ends_before(kind, (calls, *n), then));
            (1..1000).find(ends).expect("the child ends at last") - 1
        });
        eprintln!("{}: killed before each of {all:?} {STEPS:?}", kind.target);
        assert!(all[1] >= 1 && all[2] >= 1, "a kill between the steps of the removal was not tried");
    }
}

fn removal_ends_before(kind: Kind, step: (&str, u32), then: u32) -> bool {
    let dir = tempfile::tempdir_in(memory()).unwrap();
    let (target, above) = (dir.path().join(kind.target), tree_above(kind));
    (kind.make)(&target, 1).unwrap();
    let ours = identity(&target).unwrap();
    let fault = (step.0, &*format!("signal=KILL:when={}", step.1));
    let status = with_fault("child_that_removes", dir.path(), fault, None, Some(&ours));
    let left = tree(dir.path());
    if status.success() {
        assert_eq!(left, above);
        return true;
    }
    assert_eq!(status.signal(), Some(9), "the child failed by itself");
    let (one, three) = (kind.alone(1), kind.alone(3));
    let at_target = only_output(&left, kind.target);
    assert!(at_target.is_empty() || at_target == only_output(&one, kind.target), "half: {:?}", left.keys());
    match then {
        0 => {
            let again = remove_output(&target, &ours).unwrap();
            assert!(again == Gone::Removed || (again == Gone::Nothing && !target.exists()));
            assert_eq!(tree(dir.path()), above, "of {:?}", left.keys());
        }
        1 => {
            discard(JOB, &target).unwrap();
            let found = tree(dir.path());
            assert!(found == one || found == above, "{:?} of {:?}", found.keys(), left.keys());
        }
        2 => {
            (kind.make)(&target, 2).unwrap();
            assert!(tree(dir.path()) == kind.alone(2), "of {:?}", left.keys());
        }
        _ => {
            // Another comes that does not mend: from the command line.
            let elsewhere = tempfile::tempdir_in(memory()).unwrap();
            (kind.make)(&elsewhere.path().join("film.mp4"), 3).unwrap();
            let comes = !target.exists();
            if comes {
                fs::rename(elsewhere.path().join("film.mp4"), &target).unwrap();
            }
            remove_output(&target, &ours).unwrap();
            assert!(tree(dir.path()) == if comes { three } else { above }, "of {:?}", left.keys());
        }
    }
    false
}

/// The folders above an output, which its removal leaves.
fn tree_above(kind: Kind) -> Tree {
    let above = Path::new(kind.target).ancestors().skip(1).filter(|path| path.file_name().is_some());
    above.map(|path| (format!("{}/", path.display()), Vec::new())).collect()
}

// ---- a disk that fails ----

/// Each single call fails once: either that is an error and the earlier output is as it was, or the new
/// one is there and all is well.
#[test]
fn an_error_means_that_nothing_is_published_and_none_that_it_is() {
    if !has_strace() {
        return eprintln!("skipped: no strace here");
    }
    for kind in [HLS, FILE] {
        let fails = |calls, most| (1..most).map(|n| fails_once(kind, calls, n, None)).collect::<Vec<_>>();
        let parent = Path::new(kind.target).parent();
        let of_parent = (1..4).map(|n| fails_once(kind, "fsync", n, parent)).collect();
        let ends =
            [of_parent, fails("fsync", 24), fails(STEPS[1], 5), fails(STEPS[3], 5), fails(STEPS[4], 24)];
        let count = |ends: &Vec<_>, end| ends.iter().filter(|e| **e == end).count();
        let refused = ends.each_ref().map(|ends| count(ends, End::Refused));
        let stays = ends.each_ref().map(|ends| count(ends, End::PublishedAndMore));
        let (at, what) = (kind.target, "syncs of the folder, syncs, renames, removals of files, in folders");
        eprintln!("{at}: {refused:?} refused, {stays:?} published with something left ({what})");
        assert!(refused[0] == 0 && refused[1] > 0 && refused[2] > 0, "no call that matters has failed");
        let folder = [true, false, true, true, true];
        let expected = if kind.target == HLS.target { folder } else { [false, false, false, true, false] };
        assert_eq!(stays.map(|stays| stays > 0), expected);
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    Refused,
    Published,
    PublishedAndMore,
}

/// The `n`th of these calls fails while generation 2 replaces generation 1; only those on `of` count.
fn fails_once(kind: Kind, calls: &str, n: u32, of: Option<&Path>) -> End {
    let dir = tempfile::tempdir_in(memory()).unwrap();
    let target = dir.path().join(kind.target);
    (kind.make)(&target, 1).unwrap();
    let fault = (calls, &*format!("error=EIO:when={n}"));
    let of = of.map(|below| dir.path().join(below));
    let status = with_fault(kind.child_that_makes_one, dir.path(), fault, of.as_deref(), None);
    let (found, generation) = (tree(dir.path()), if status.success() { 2 } else { 1 });
    let there = without_log(only_output(&found, kind.target));
    let whole = kind.alone(generation);
    assert!(there == only_output(&whole, kind.target), "{calls} {n}: not {generation}: {:?}", found.keys());
    discard(JOB, &target).unwrap();
    assert!(tree(dir.path()) == whole, "{calls} {n}: {:?} after {:?}", tree(dir.path()).keys(), found.keys());
    match (status.success(), hidden(&found).is_empty()) {
        (false, _) => End::Refused,
        (true, true) => End::Published,
        (true, false) => End::PublishedAndMore,
    }
}

fn has_strace() -> bool {
    Command::new("strace").args(["-qq", "-e", "trace=none", "true"]).status().is_ok_and(|s| s.success())
}

// ---- the full disk ----

/// Runs a child that has a small file system of its own at its folder; `None` where that cannot be had.
fn on_a_small_disk(child: &str, options: &str) -> Option<bool> {
    let dir = tempfile::tempdir().unwrap();
    let mount = format!("mount -t tmpfs -o {options} tmpfs '{}'", dir.path().display());
    let run = |then: &[String]| {
        let script = format!("{mount} || exit 77; exec \"$@\"");
        let unshare = ["unshare", "-rm", "sh", "-c", &script, "sh"].map(str::to_owned).to_vec();
        let mut command = command(&[unshare, then.to_vec()].concat());
        command.env(FOLDER, dir.path()).stdout(Stdio::null()).stderr(Stdio::inherit()).status()
    };
    if !run(&["true".to_owned()]).is_ok_and(|status| status.success()) {
        return None;
    }
    Some(run(&this_test(child)).unwrap().success())
}

/// Tries on a disk with no page free, then one, and so on: whichever write it is that meets the end,
/// the run says so, leaves nothing, and what was there before stays.
#[test]
fn child_on_a_disk_that_is_full() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    const PAGES: usize = 128;
    const PAGE_BYTES: usize = 4096;
    let (folder, filler) = (PathBuf::from(&folder), Path::new(&folder).join("filler"));
    for kind in [HLS, FILE] {
        for before in [None, Some(1)] {
            if let Some(generation) = before {
                (kind.make)(&folder.join(kind.target), generation).unwrap();
            }
            let there = tree(&folder);
            let mut refused = 0;
            for free in 0..PAGES {
                let _ = fs::write(&filler, vec![0; PAGES * PAGE_BYTES]);
                let full = fs::metadata(&filler).unwrap().len() as usize / PAGE_BYTES;
                let filled = fs::OpenOptions::new().write(true).open(&filler).unwrap();
                filled.set_len(((full - free) * PAGE_BYTES) as u64).unwrap();
                let made = (kind.make)(&folder.join(kind.target), 2);
                fs::remove_file(&filler).unwrap();
                let Err(e) = made else { break };
                assert_eq!((e.kind(), e.code()), (ErrorKind::NoSpace, "no_space"), "{free} pages free: {e}");
                assert_eq!(tree(&folder).keys().collect::<Vec<_>>(), there.keys().collect::<Vec<_>>());
                assert!(tree(&folder) == there, "what was there is as it was");
                refused += 1;
            }
            assert_eq!(tree(&folder), kind.alone(2), "at last there is room");
            assert!(refused >= 5, "{refused}");
            say(&format!("{}: refused with 0 to {} pages free", kind.target, refused - 1));
            fs::remove_dir_all(folder.join("a")).unwrap();
        }
    }
}

/// The same with files rather than bytes running out; the parent makes room for one more each time.
#[test]
fn child_on_a_disk_that_takes_no_more_files() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    for kind in [HLS, FILE] {
        let made = (kind.make)(&Path::new(&folder).join(kind.target), 1);
        let left = tree(Path::new(&folder));
        match made {
            Err(e) => assert_eq!((e.code(), left.keys().count()), ("no_space", 0), "{:?}", left.keys()),
            Ok(_) => assert_eq!(left, kind.alone(1)),
        }
        let _ = fs::remove_dir_all(Path::new(&folder).join("a"));
    }
}

#[test]
fn a_full_disk_is_told_and_nothing_is_left_behind() {
    match on_a_small_disk("child_on_a_disk_that_is_full", "size=512k") {
        None => return eprintln!("skipped: no small file system to be had here"),
        Some(went_well) => assert!(went_well, "see above"),
    }
    for files in 2..32 {
        let options = format!("size=512k,nr_inodes={files}");
        let went_well = on_a_small_disk("child_on_a_disk_that_takes_no_more_files", &options);
        assert_eq!(went_well, Some(true), "with room for {files} files");
    }
}
