//! Which output it is, and removing it while others move things there. What a kill leaves is made by
//! hand here; `tests/store_kill.rs` kills.

use super::*;
use crate::store::claim::{Claim, discard};
use crate::store::output::OutputFile;
use std::collections::BTreeSet;
use std::fs::File;
use std::time::{Duration, SystemTime};

fn names(folder: &Path) -> BTreeSet<String> {
    fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// A folder of ours; `mark` says which, `second` when it was finished.
fn folder(path: &Path, mark: &str, second: u64) -> Identity {
    fs::create_dir_all(path.join("720p")).unwrap();
    fs::write(path.join("720p/index.m3u8"), mark).unwrap();
    file(&path.join(MASTER), "#EXTM3U", second);
    identity(path).unwrap()
}

fn file(path: &Path, text: &str, second: u64) -> Identity {
    fs::write(path, text).unwrap();
    let time = SystemTime::UNIX_EPOCH + Duration::new(second, 1);
    File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
    identity(path).unwrap()
}

type Make = fn(&Path, &str, u64) -> Identity;
const BOTH: [Make; 2] = [folder, file];

fn marked(path: &Path) -> Option<String> {
    fs::read_to_string(path.join("720p/index.m3u8")).or_else(|_| fs::read_to_string(path)).ok()
}

#[test]
fn the_same_inode_is_not_the_same_output() {
    let dir = tempfile::tempdir().unwrap();
    for make in BOTH {
        let target = dir.path().join("film");
        let ours = make(&target, "1", 1);
        let inode = |path: &Path| fs::metadata(path).unwrap().ino();
        let before = inode(&target);
        // As when the number went from one that was removed to one that came.
        let theirs = make(&target, "2", 2);
        assert_eq!(inode(&target), before);
        assert_ne!(ours, theirs);
        assert_eq!(remove_output(&target, &ours), Ok(Gone::Another));
        assert_eq!((marked(&target), names(dir.path())), (Some("2".into()), set(&["film"])));
        assert_eq!(remove_output(&target, &theirs), Ok(Gone::Removed));
        assert_eq!(remove_output(&target, &theirs), Ok(Gone::Nothing));
        assert_eq!(names(dir.path()), set(&[]));
    }
}

#[test]
fn an_identity_is_kept_by_a_rename_and_by_a_text() {
    let dir = tempfile::tempdir().unwrap();
    for make in BOTH {
        let (one, two) = (dir.path().join("one"), dir.path().join("two"));
        let ours = make(&one, "1", 7);
        fs::rename(&one, &two).unwrap();
        assert_eq!((identity(&one), identity(&two)), (None, Some(ours.clone())));
        assert_eq!(ours.mtime_ns, 7_000_000_001);
        let text = serde_json::to_string(&ours).unwrap();
        assert_eq!(text, format!("{{\"mtime_ns\":7000000001,\"size_bytes\":{}}}", ours.size_bytes));
        assert_eq!(serde_json::from_str::<Identity>(&text).unwrap(), ours);
        assert_eq!(remove_output(&two, &ours), Ok(Gone::Removed));
    }
    let early = Identity { mtime_ns: i64::MIN, size_bytes: u64::MAX };
    assert_eq!(serde_json::from_str::<Identity>(&serde_json::to_string(&early).unwrap()).unwrap(), early);
    for none in ["/dev/null", "/proc", "missing"] {
        assert_eq!(identity(Path::new(none)), None);
    }
}

#[test]
fn a_finished_output_has_a_time_that_servers_can_keep_and_publishing_changes_none() {
    let dir = tempfile::tempdir().unwrap();
    for finishes in [true, false] {
        let target = dir.path().join(format!("{finishes}.mp4"));
        let output = OutputFile::create(&target, false).unwrap();
        let written = file(output.path(), "film", 9);
        let before = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_micros();
        if finishes {
            output.finish().unwrap();
        }
        let ours = identity(output.path()).unwrap();
        output.publish(&|| Ok(())).unwrap();
        assert_eq!((identity(&target), ours.size_bytes), (Some(ours.clone()), 4));
        if finishes {
            assert!(i128::from(ours.mtime_ns / 1000) >= before as i128 && ours.mtime_ns % 1000 == 0);
        } else {
            assert_eq!(ours, written);
        }
    }
}

#[test]
fn what_cannot_be_the_output_stays() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("film");
    let ours = folder(&target, "1", 1);
    let foreign = target.join("720p/notes.txt");
    fs::write(&foreign, b"mine").unwrap();
    let e = remove_output(&target, &ours).unwrap_err();
    assert_eq!((e.kind(), e.code()), (ErrorKind::Conflict, "output_not_ours"));
    assert!(foreign.is_file());
    // Parked, it is put back to be told of under its own name.
    fs::rename(&target, parked_beside(&target)).unwrap();
    let e = remove_output(&target, &ours).unwrap_err();
    assert_eq!(e.code(), "output_not_ours");
    assert!(e.message().contains(&format!("{}/720p", target.display())), "{e}");
    assert!(foreign.is_file() && names(dir.path()) == set(&["film"]));
    fs::remove_dir_all(&target).unwrap();
    fs::create_dir(&target).unwrap();
    assert_eq!(remove_output(&target, &ours), Ok(Gone::Another), "an empty folder");
    assert_eq!(remove_output(Path::new("/dev/null"), &ours), Ok(Gone::Another));
    assert_eq!(remove_output(&dir.path().join("no/such/film"), &ours), Ok(Gone::Nothing));
    assert_eq!(names(dir.path()), set(&["film"]));
}

/// How a process goes on that finds what a killed one has parked.
type Next = fn(&Path, &Identity) -> Result<bool>;

fn next_job(target: &Path, _: &Identity) -> Result<bool> {
    OutputFile::create_for(&Claim { job: "next".into(), fingerprint: 0 }, target, true).map(|_| true)
}

fn next_folder(target: &Path, _: &Identity) -> Result<bool> {
    let claim = Claim { job: "next".into(), fingerprint: 0 };
    let kind = crate::model::job::SegmentType::Ts;
    crate::store::hls_dir::HlsDir::create_for(&claim, target, true, kind, vec!["720p".into()], 1)
        .map(|_| true)
}

#[test]
fn what_was_parked_is_put_back_and_what_was_decided_is_done() {
    let cases: [(Make, Next); 4] = [
        (folder, |target, _| discard("next", target)),
        (folder, next_folder),
        (file, |target, _| discard("next", target)),
        (file, next_job),
    ];
    for (n, (make, next)) in cases.into_iter().enumerate() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("film.mp4");
        let ours = make(&target, "1", 1);
        fs::rename(&target, parked_beside(&target)).unwrap();
        assert_eq!(next(&target, &ours), Ok(true), "case {n}");
        assert_eq!((identity(&target), names(dir.path())), (Some(ours.clone()), set(&["film.mp4"])));
        fs::rename(&target, gone_beside(&target)).unwrap();
        assert_eq!(next(&target, &ours), Ok(true));
        assert_eq!(names(dir.path()), set(&[]), "case {n}");
    }
}

#[test]
fn the_same_call_again_completes_a_removal_that_was_broken_off() {
    for make in BOTH {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("film");
        let ours = make(&target, "1", 1);
        fs::rename(&target, parked_beside(&target)).unwrap();
        assert_eq!(remove_output(&target, &ours), Ok(Gone::Removed));
        fs::create_dir_all(gone_beside(&target).join("720p")).unwrap();
        assert_eq!(remove_output(&target, &ours), Ok(Gone::Nothing));
        assert_eq!(names(dir.path()), set(&[]));
        // Another has come meanwhile, or it was another that was parked.
        make(&target, "1", 1);
        fs::rename(&target, parked_beside(&target)).unwrap();
        make(&target, "2", 2);
        assert_eq!(remove_output(&target, &ours), Ok(Gone::Removed));
        assert_eq!((marked(&target), names(dir.path())), (Some("2".into()), set(&["film"])));
        fs::rename(&target, parked_beside(&target)).unwrap();
        assert_eq!(remove_output(&target, &ours), Ok(Gone::Another));
        assert_eq!((marked(&target), names(dir.path())), (Some("2".into()), set(&["film"])));
    }
    assert_ne!(parked_beside(Path::new("a")), parked_beside(Path::new("b")));
    assert_ne!(gone_beside(Path::new("a")), gone_beside(Path::new("b")));
}

#[test]
fn what_has_lost_its_place_to_another_is_kept_under_a_name_of_its_own() {
    for make in BOTH {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("film");
        for (n, mark) in ["1", "2"].into_iter().enumerate() {
            make(&target, mark, 1);
            fs::rename(&target, parked_beside(&target)).unwrap();
            let there = make(&target, "3", 3);
            // A process that is alive may be looking at it.
            assert_eq!(discard("next", &target), Ok(false));
            assert_eq!(marked(&parked_beside(&target)), Some(mark.into()));
            assert_eq!(identity(&target), Some(there.clone()));
            assert_eq!(remove_output(&target, &there), Ok(Gone::Removed));
            let kept = format!("{TEMP_PREFIX}kept-{n}-{:016x}~", place_hash(&target));
            assert_eq!(marked(&dir.path().join(kept)), Some(mark.into()));
            assert_eq!(names(dir.path()).len(), n + 1);
        }
    }
}

#[test]
fn a_link_is_followed_and_stays() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("real")).unwrap();
    let ours = folder(&dir.path().join("real/film"), "1", 1);
    let link = dir.path().join("link");
    std::os::unix::fs::symlink("real/film", &link).unwrap();
    assert_eq!(identity(&link), Some(ours.clone()));
    assert_eq!(remove_output(&link, &ours), Ok(Gone::Removed));
    assert_eq!((names(&dir.path().join("real")), names(dir.path())), (set(&[]), set(&["link", "real"])));
    assert_eq!(remove_output(&link, &ours), Ok(Gone::Nothing));
}

/// Removals of an output that is there no more, of one that comes, and publishing, all at once.
#[test]
fn of_those_who_move_things_at_once_nobody_loses_what_is_not_to_be_removed() {
    for round in 0..200 {
        let make = BOTH[round % 2];
        let dir = tempfile::tempdir().unwrap();
        let (target, new) = (dir.path().join("film"), dir.path().join("new"));
        let old = make(&target, "1", 1);
        let theirs = make(&new, "2", 2);
        let remove = || remove_output(&target, &old);
        // Over the old one, whether or not it is there.
        let publish = || {
            while fs::rename(&new, &target).is_err() {
                let _ = fs::rename(&target, dir.path().join("old"));
            }
        };
        let gone = std::thread::scope(|scope| {
            let removals = [scope.spawn(remove), scope.spawn(remove)];
            publish();
            let mended = scope.spawn(|| discard("other", &target));
            assert!(mended.join().unwrap().is_ok());
            removals.map(|removal| removal.join().unwrap().unwrap())
        });
        let _ = fs::remove_dir_all(dir.path().join("old"));
        assert_eq!(identity(&target), Some(theirs), "round {round}: {gone:?}, {:?}", names(dir.path()));
        assert_eq!(names(dir.path()), set(&["film"]), "round {round}: {gone:?}");
    }
}
