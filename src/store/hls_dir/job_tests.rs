//! A job's folder: gone on with, locked, mended after a kill. What a kill leaves is made by hand here;
//! `tests/store_kill.rs` kills.

use super::tests::{facts, fill, segment, set, tree};
use super::*;
use crate::store::claim::{Gone, Identity, discard, identity, remove_output};
use crate::store::log::LOG;
use std::os::unix::fs::symlink;

const TEMP: &str = ".sprocket-tmp-job-film-1~";
const ASIDE: &str = ".sprocket-tmp-old-film-1~";

fn claim(fingerprint: u64) -> Claim {
    Claim { job: "film-1".into(), fingerprint }
}

fn create_for(target: &Path, fingerprint: u64, overwrite: bool) -> Result<HlsDir> {
    let names = vec!["720p".into(), "480p".into()];
    HlsDir::create_for(&claim(fingerprint), target, overwrite, SegmentType::Ts, names, 2)
}

/// The rest of three segments of each rendition.
fn complete(output: &HlsDir) {
    for rendition in 0..2 {
        for index in output.first_segment()..3 {
            output.sink().segment(segment(rendition, index, 1_000 / (rendition + 1))).unwrap();
        }
    }
    output.finish(&[facts(720), facts(480)]).unwrap();
}

fn make(target: &Path) {
    let output = create_for(target, 1, true).unwrap();
    complete(&output);
    output.publish(&|| Ok(())).unwrap();
}

/// As a process leaves it that is killed just before it would have published.
fn leave_complete(target: &Path) {
    let output = create_for(target, 1, true).unwrap();
    complete(&output);
    output.keep();
}

fn whole() -> std::collections::BTreeSet<String> {
    let dir = tempfile::tempdir().unwrap();
    make(&dir.path().join("film"));
    tree(dir.path())
}

#[test]
fn whoever_has_the_last_word_is_asked_once_and_a_no_publishes_nothing() {
    for before in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("a/film");
        if before {
            make(&target);
        }
        let (there, old) = (tree(dir.path()), identity(&target));
        let output = create_for(&target, 1, true).unwrap();
        complete(&output);
        let (asked, no) = (std::cell::Cell::new(0), Error::internal(Stage::Publish, "no"));
        let (temp, new) = (output.folder().to_owned(), identity(output.folder()));
        let said = output.publish(&|| {
            asked.set(asked.get() + 1);
            assert!(new.is_some() && identity(&temp) == new && identity(&target) == old);
            Err(no.clone())
        });
        assert_eq!((said, asked.get()), (Err(no), 1));
        assert_eq!((tree(dir.path()), identity(&target)), (there, old));
    }
}

#[test]
fn what_comes_and_goes_while_somebody_has_the_last_word() {
    let dir = tempfile::tempdir().unwrap();
    let (target, other) = (dir.path().join("film"), dir.path().join("other"));
    // What was there is removed; what was not there has come.
    for before in [true, false] {
        make(if before { &target } else { &other });
        let output = create_for(&target, 1, true).unwrap();
        complete(&output);
        let new = identity(output.folder());
        let (from, to) = if before { (&target, &other) } else { (&other, &target) };
        output.publish(&|| fs::rename(from, to).map_err(|e| io("rename", from, &e))).unwrap();
        assert_eq!((identity(&target), tree(&target).len()), (new.clone(), whole().len() - 1));
        assert_eq!(remove_output(&target, &new.unwrap()), Ok(Gone::Removed));
        let _ = fs::remove_dir_all(&other);
        assert_eq!(tree(dir.path()), set(&[]));
    }
    // Without leave nothing is replaced.
    make(&other);
    let output = create_for(&target, 1, false).unwrap();
    complete(&output);
    let theirs = identity(&other);
    let said = output.publish(&|| fs::rename(&other, &target).map_err(|e| io("rename", &other, &e)));
    assert_eq!((said.unwrap_err().code(), identity(&target)), ("output_exists", theirs));
    assert_eq!(tree(dir.path()), whole());
}

/// A job publishes while what it is to replace is removed.
#[test]
fn a_removal_and_a_job_at_the_same_place_do_each_what_they_mean() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("film");
    for round in 0..50 {
        make(&target);
        let old = identity(&target).unwrap();
        let output = create_for(&target, 1, true).unwrap();
        complete(&output);
        let new = identity(output.folder());
        let (start, started) = std::sync::mpsc::channel();
        let place = &target;
        let gone = std::thread::scope(|scope| {
            let removal = scope.spawn(move || {
                started.recv().unwrap();
                remove_output(place, &old)
            });
            output.publish(&|| start.send(()).map_err(|e| Error::internal(Stage::Publish, e.to_string())))?;
            removal.join().unwrap()
        });
        assert!(gone.is_ok(), "round {round}: {gone:?}");
        assert_eq!(identity(&target), new, "round {round}: {gone:?}");
        // It was looked at by the removal when the log was to go.
        let _ = fs::remove_file(target.join(LOG));
        assert_eq!(tree(dir.path()), whole(), "round {round}: {gone:?}");
    }
}

#[test]
fn a_whole_folder_without_its_name_is_gone_on_with() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("film");
    leave_complete(&target);
    assert!(dir.path().join(TEMP).join(LOG).is_file() && !target.exists());
    let output = create_for(&target, 1, false).unwrap();
    assert_eq!(output.first_segment(), 2, "all but the last");
    assert_eq!(output.resumed(), [Done { frames: 192, audio_packets: 376 }; 2]);
    complete(&output);
    output.publish(&|| Ok(())).unwrap();
    assert_eq!(tree(dir.path()), whole());
}

#[test]
fn another_plan_begins_anew() {
    let dir = tempfile::tempdir().unwrap();
    leave_complete(&dir.path().join("film"));
    let output = create_for(&dir.path().join("film"), 2, false).unwrap();
    assert_eq!((output.first_segment(), output.resumed()), (0, &[Done::default(); 2][..]));
    assert_eq!(tree(output.folder()), set(&[".done", "720p/", "480p/"]));
}

#[test]
fn what_came_in_between_leaves_nothing_of_ours() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("film");
    let output = create_for(&target, 1, false).unwrap();
    complete(&output);
    // What comes in between makes the rename fail.
    fs::create_dir_all(target.join("theirs")).unwrap();
    fs::write(target.join("theirs/x"), b"x").unwrap();
    assert_eq!(output.publish(&|| Ok(())).unwrap_err().code(), "output_exists");
    assert_eq!(tree(dir.path()), set(&["film/", "film/theirs/", "film/theirs/x"]));
}

#[test]
fn what_had_stepped_aside_comes_back_when_the_new_one_did_not_come() {
    for goes_on in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("film");
        make(&target);
        fs::write(target.join("480p/7.ts"), b"old").unwrap();
        let old = tree(dir.path());
        leave_complete(&target);
        fs::rename(&target, dir.path().join(ASIDE)).unwrap();
        if goes_on {
            let output = create_for(&target, 1, true).unwrap();
            assert!(target.join("480p/7.ts").exists() && !dir.path().join(ASIDE).exists());
            assert_eq!(output.first_segment(), 2);
            complete(&output);
            output.publish(&|| Ok(())).unwrap();
            assert_eq!(tree(dir.path()), whole());
        } else {
            assert_eq!(discard("film-1", &target), Ok(true));
            assert_eq!(tree(dir.path()), old);
            assert_eq!(discard("film-1", &target), Ok(false));
        }
    }
}

#[test]
fn what_had_stepped_aside_goes_when_the_new_one_has_come() {
    for goes_on in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("film");
        make(&target);
        fs::create_dir_all(dir.path().join(ASIDE).join("720p")).unwrap();
        // Its log is there still, too.
        fs::write(target.join(LOG), "{\"fingerprint\":1,\"job\":\"film-1\"}\n").unwrap();
        if goes_on {
            make(&target);
        } else {
            assert_eq!(discard("film-1", &target), Ok(true));
        }
        assert_eq!(tree(dir.path()), whole());
    }
}

#[test]
fn a_name_that_was_only_reserved_is_given_back() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join(ASIDE)).unwrap();
    assert_eq!(discard("film-1", &dir.path().join("film")), Ok(true));
    assert_eq!(tree(dir.path()), set(&[]));
}

#[test]
fn a_link_whose_end_had_stepped_aside_leads_somewhere_again() {
    let dir = tempfile::tempdir().unwrap();
    let (link, real) = (dir.path().join("link"), dir.path().join("real/film"));
    make(&real);
    symlink("real/film", &link).unwrap();
    fs::rename(&real, real.with_file_name(ASIDE)).unwrap();
    assert_eq!(discard("film-1", &link), Ok(true));
    assert!(link.join(MASTER).is_file());
}

#[test]
fn an_output_with_a_log_is_ours_and_a_log_alone_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("film");
    make(&target);
    fs::write(target.join(LOG), "{\"fingerprint\":1,\"job\":\"film-2\"}\n").unwrap();
    assert_eq!(discard("film-1", &target), Ok(false), "another job's");
    assert!(target.join(LOG).is_file());
    make(&target);
    assert_eq!(tree(dir.path()), whole());
    fs::write(target.join(LOG), b"").unwrap();
    assert_eq!(remove_output(&target, &identity(&target).unwrap()), Ok(Gone::Removed));
    assert_eq!(tree(dir.path()), set(&[]));
    fs::create_dir(&target).unwrap();
    fs::write(target.join(LOG), b"").unwrap();
    assert_eq!(identity(&target), None);
    assert_eq!(remove_output(&target, &Identity { mtime_ns: 0, size_bytes: 0 }), Ok(Gone::Another));
    assert_eq!(create_for(&target, 1, true).unwrap_err().code(), "output_not_ours");
}

#[test]
fn nobody_else_gets_the_place_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("a/film");
    let output = create_for(&target, 1, false).unwrap();
    fill(&output, SegmentType::Ts);
    let before = tree(dir.path());
    for fingerprint in [1, 2] {
        let e = create_for(&target, fingerprint, true).unwrap_err();
        assert_eq!((e.kind(), e.code()), (ErrorKind::Conflict, "output_in_use"));
        assert!(e.hint_text().is_some());
    }
    assert_eq!(discard("film-1", &target).unwrap_err().code(), "output_in_use");
    assert_eq!(tree(dir.path()), before);
    let sink = output.sink();
    drop(output);
    // A sink that outlives it locks nobody out.
    create_for(&target, 1, false).unwrap().keep();
    assert!(sink.segment(segment(0, 9, 1)).is_err());
    assert_eq!(discard("film-1", &target), Ok(true));
    assert_eq!(tree(dir.path()), set(&[]));
}

#[test]
fn folders_that_an_earlier_process_made_go_when_they_are_empty() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("a/b/film");
    for (fingerprint, end) in [(1, "discard"), (1, "drop"), (2, "drop"), (2, "keep, then discard")] {
        leave_complete(&target);
        if end != "discard" {
            let output = create_for(&target, fingerprint, false).unwrap();
            if end.starts_with("keep") { output.keep() } else { drop(output) }
        }
        let _ = discard("film-1", &target).unwrap();
        assert_eq!(tree(dir.path()), set(&[]), "fingerprint {fingerprint}, {end}");
    }
    leave_complete(&target);
    fs::write(dir.path().join("a/theirs"), b"").unwrap();
    discard("film-1", &target).unwrap();
    assert_eq!(tree(dir.path()), set(&["a/", "a/theirs"]));
    // That one was there before.
    leave_complete(&target);
    fs::remove_file(dir.path().join("a/theirs")).unwrap();
    discard("film-1", &target).unwrap();
    assert_eq!(tree(dir.path()), set(&["a/"]));
}

#[test]
fn whatever_fails_before_the_work_leaves_nothing_new() {
    let dir = tempfile::tempdir().unwrap();
    let wrong = vec!["no/such".into()];
    let made =
        HlsDir::create_for(&claim(1), &dir.path().join("a/b/film"), false, SegmentType::Ts, wrong.clone(), 2);
    assert_eq!(made.unwrap_err().code(), "not_found");
    assert_eq!(tree(dir.path()), set(&[]));
    let made = HlsDir::create(&dir.path().join("a/b/film"), false, SegmentType::Ts, wrong);
    assert_eq!(made.unwrap_err().code(), "not_found");
    assert_eq!(tree(dir.path()), set(&[]));
    let target = dir.path().join("film");
    make(&target);
    assert_eq!(create_for(&target, 1, false).unwrap_err().code(), "output_exists");
    assert_eq!(tree(dir.path()), whole());
    fs::write(dir.path().join("file"), b"x").unwrap();
    assert!(create_for(&dir.path().join("file"), 1, true).is_err());
    assert!(create_for(&dir.path().join("file/film"), 1, true).is_err());
    assert_eq!(tree(dir.path()).len(), whole().len() + 1);
}

#[test]
fn links_and_pipes_in_a_left_folder_are_neither_followed_nor_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let (target, temp, theirs) = (dir.path().join("film"), dir.path().join(TEMP), dir.path().join("theirs"));
    fs::create_dir(&theirs).unwrap();
    fs::write(theirs.join("0.ts"), b"mine").unwrap();
    let pipe = |path: &Path| {
        rustix::fs::mkfifoat(rustix::fs::CWD, path, rustix::fs::Mode::from_raw_mode(0o600)).unwrap()
    };
    let cases: [(u64, &dyn Fn()); 6] = [
        (0, &|| {
            fs::remove_dir_all(temp.join("480p")).unwrap();
            symlink(&theirs, temp.join("480p")).unwrap();
        }),
        (1, &|| {
            fs::rename(temp.join("480p/1.ts"), dir.path().join("1.ts")).unwrap();
            symlink(dir.path().join("1.ts"), temp.join("480p/1.ts")).unwrap();
        }),
        (2, &|| symlink(&theirs, temp.join("other")).unwrap()),
        (0, &|| {
            fs::remove_file(temp.join(LOG)).unwrap();
            pipe(&temp.join(LOG));
        }),
        (0, &|| {
            fs::rename(temp.join(LOG), dir.path().join("log")).unwrap();
            symlink(dir.path().join("log"), temp.join(LOG)).unwrap();
        }),
        (0, &|| {
            fs::remove_dir_all(&temp).unwrap();
            symlink(&theirs, &temp).unwrap();
        }),
    ];
    for (n, (first, tamper)) in cases.into_iter().enumerate() {
        leave_complete(&target);
        tamper();
        let output = create_for(&target, 1, true).unwrap();
        // All but the last that is known to be there.
        assert_eq!(output.first_segment(), first.saturating_sub(u64::from(n == 1)), "case {n}");
        complete(&output);
        output.publish(&|| Ok(())).unwrap();
        assert_eq!(tree(&target).len(), whole().len() - 1);
        assert_eq!((fs::read(theirs.join("0.ts")).unwrap(), temp.exists()), (b"mine".to_vec(), false));
        let _ = fs::remove_file(dir.path().join("1.ts"));
    }
}

#[test]
fn a_log_that_ends_anywhere_is_gone_on_with_as_far_as_it_says() {
    let dir = tempfile::tempdir().unwrap();
    let (target, log) = (dir.path().join("film"), dir.path().join(TEMP).join(LOG));
    leave_complete(&target);
    let text = fs::read(&log).unwrap();
    let mut reached = std::collections::BTreeSet::new();
    for length in (0..=text.len()).step_by(41).chain([text.len()]) {
        leave_complete(&target);
        fs::write(&log, &text[..length]).unwrap();
        // Twice: what the first one adds is read by the second.
        create_for(&target, 1, true).unwrap().keep();
        let output = create_for(&target, 1, true).unwrap();
        reached.insert(output.first_segment());
        complete(&output);
        output.publish(&|| Ok(())).unwrap();
        assert_eq!(tree(dir.path()), whole(), "cut at {length}");
        assert_eq!(remove_output(&target, &identity(&target).unwrap()), Ok(Gone::Removed));
    }
    assert_eq!(reached.into_iter().collect::<Vec<_>>(), [0, 1, 2]);
}

#[test]
fn going_on_again_and_again_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("film");
    leave_complete(&target);
    for _ in 0..5 {
        let output = create_for(&target, 1, false).unwrap();
        assert_eq!(output.first_segment(), 2);
        output.keep();
    }
    // Unless it is no longer there.
    fs::remove_file(dir.path().join(TEMP).join("480p/1.ts")).unwrap();
    assert_eq!(create_for(&target, 1, false).unwrap().first_segment(), 1);
}

#[test]
fn a_segment_that_was_made_again_counts_as_it_is_now() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("film");
    leave_complete(&target);
    let output = create_for(&target, 1, false).unwrap();
    assert_eq!(output.first_segment(), 2);
    for rendition in 0..2 {
        for index in 2..4 {
            // As long as before, but with other things in it.
            let again = segment(rendition, index, 1_000 / (rendition + 1));
            output.sink().segment(Segment { frames: 10, audio_packets: 20, ..again }).unwrap();
        }
    }
    output.keep();
    let names = vec!["720p".into(), "480p".into()];
    let output = HlsDir::create_for(&claim(1), &target, false, SegmentType::Ts, names, 9).unwrap();
    assert_eq!(output.first_segment(), 3);
    assert_eq!(output.resumed(), [Done { frames: 202, audio_packets: 396 }; 2]);
}
