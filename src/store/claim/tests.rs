//! Single files of jobs, and what is removed: names, locks, leftovers.

use super::*;
use crate::store::output::OutputFile;

const TEMP: &str = ".sprocket-tmp-job-film-1~.mp4";
const LOG_NAME: &str = ".sprocket-tmp-job-film-1~.mp4.done";

fn claim() -> Claim {
    Claim { job: "film-1".into(), fingerprint: 0 }
}

fn names(folder: &Path) -> Vec<String> {
    let list = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = list.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// What a killed process leaves: files, and no lock on them.
fn leave(target: &Path) {
    let folder = target.parent().unwrap();
    drop(Parents::of(target).map(|mut parents| parents.keep()));
    fs::write(folder.join(TEMP), b"half").unwrap();
    fs::write(folder.join(LOG_NAME), "{\"fingerprint\":0,\"job\":\"film-1\",\"made_levels\":2}\n").unwrap();
}

#[test]
fn hidden_names_keep_the_extension_that_libav_chooses_by() {
    let beside = |target: &str| Claim::temp_beside("x", Path::new(target)).display().to_string();
    assert_eq!(beside("/out/a.mp4"), "/out/.sprocket-tmp-job-x~.mp4");
    assert_eq!(beside("/out/a.film"), "/out/.sprocket-tmp-job-x~");
    assert_eq!(beside("a"), ".sprocket-tmp-job-x~");
}

#[test]
fn a_file_is_one_jobs_until_it_ends() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("a/b/film.mp4");
    let output = OutputFile::create_for(&claim(), &target, false).unwrap();
    assert_eq!(names(target.parent().unwrap()), [TEMP, LOG_NAME]);
    let e = OutputFile::create_for(&claim(), &target, false).unwrap_err();
    assert_eq!((e.kind(), e.code()), (ErrorKind::Conflict, "output_in_use"));
    assert_eq!(discard("film-1", &target).unwrap_err().code(), "output_in_use");
    fs::write(output.path(), b"film").unwrap();
    output.publish(&|| Ok(())).unwrap();
    assert_eq!(names(target.parent().unwrap()), ["film.mp4"]);
    assert_eq!(discard("film-1", &target), Ok(false));
    drop(OutputFile::create_for(&claim(), &dir.path().join("c/film.mp4"), false).unwrap());
    assert_eq!(names(dir.path()), ["a"]);
}

#[test]
fn what_a_killed_process_left_of_a_file_is_replaced_or_removed_with_its_folders() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("a/b/film.mp4");
    leave(&target);
    assert_eq!(discard("film-1", &target), Ok(true));
    assert_eq!(names(dir.path()), Vec::<String>::new());
    leave(&target);
    let output = OutputFile::create_for(&claim(), &target, false).unwrap();
    assert_eq!(fs::read(output.path()).unwrap(), b"");
    drop(output);
    assert_eq!(names(dir.path()), Vec::<String>::new());
    // Killed after the rename.
    leave(&target);
    fs::rename(target.with_file_name(TEMP), &target).unwrap();
    assert_eq!(OutputFile::create_for(&claim(), &target, false).unwrap_err().code(), "output_exists");
    assert_eq!(discard("film-1", &target), Ok(true));
    assert_eq!(names(target.parent().unwrap()), ["film.mp4"]);
}

#[test]
fn a_refused_file_leaves_nothing_new() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("film.mp4"), b"old").unwrap();
    let e = OutputFile::create_for(&claim(), &dir.path().join("film.mp4"), false).unwrap_err();
    assert_eq!(e.code(), "output_exists");
    assert!(OutputFile::create_for(&claim(), &dir.path().join("film.mp4/x.mp4"), false).is_err());
    assert_eq!(names(dir.path()), ["film.mp4"]);
}

#[test]
fn a_link_under_the_hidden_name_is_removed_and_not_followed() {
    let dir = tempfile::tempdir().unwrap();
    let (target, theirs) = (dir.path().join("film.mp4"), dir.path().join("theirs"));
    fs::create_dir(&theirs).unwrap();
    fs::write(theirs.join("x"), b"mine").unwrap();
    for name in [TEMP, LOG_NAME] {
        std::os::unix::fs::symlink(&theirs, dir.path().join(name)).unwrap();
        assert_eq!(discard("film-1", &target), Ok(true));
        assert_eq!(names(dir.path()), ["theirs"], "{name}");
    }
    assert_eq!(fs::read(theirs.join("x")).unwrap(), b"mine");
}

#[test]
fn folders_above_are_never_more_than_there_are() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("a/film.mp4");
    fs::create_dir(dir.path().join("a")).unwrap();
    fs::write(dir.path().join("theirs"), b"").unwrap();
    fs::write(
        target.with_file_name(LOG_NAME),
        format!("{{\"fingerprint\":0,\"job\":\"film-1\",\"made_levels\":{}}}\n", usize::MAX),
    )
    .unwrap();
    assert_eq!(discard("film-1", &target), Ok(true));
    assert_eq!(names(dir.path()), ["theirs"]);
}
