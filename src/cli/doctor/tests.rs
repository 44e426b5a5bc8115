use super::mounts::{Mount, Sort, lock_holder, mount_of};
use super::*;
use proptest::prelude::*;
use std::sync::atomic::{AtomicBool, Ordering};

const MOUNTS: &str = "\
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard
30 27 0:26 / /srv rw shared:7 master:1 - btrfs /dev/vdb rw
31 27 0:45 /share /mnt/nas rw,relatime shared:9 - nfs4 nas:/share rw,vers=4.2
32 31 0:46 / /mnt/nas/my\\040films\\134x ro - fuse.sshfs other:/ rw
33 27 0:47 / /run rw - tmpfs tmpfs rw
34 27 0:48 / /srv rw - xfs /dev/vdc rw
nonsense
35 27 nonsense / /x rw - xfs /dev/x rw
";

fn mount_kind(path: &str) -> String {
    mount_of(MOUNTS, Path::new(path)).unwrap().kind
}

fn fine(what: &str) -> Check {
    Check::new(what, || Finding::ok("well"))
}

fn report(checks: Vec<Check>) -> (Total, String) {
    let mut out = Vec::new();
    let total = examine(checks, &Cancel::new(), &mut out).unwrap();
    (total, String::from_utf8(out).unwrap())
}

#[test]
fn there_is_a_line_for_each_check_and_one_below_for_what_to_do() {
    let checks = vec![
        fine("a"),
        Check::new("b", || Finding::warn("odd", "look at it")),
        Check::new("c\nok    d", || Finding::fail("bro\u{1b}ken", "mend\nit")),
    ];
    let (total, text) = report(checks);
    assert_eq!(total, Total { checks: 3, failed: 1 });
    let lines =
        ["ok    a: well", "warn  b: odd", "      look at it", "fail  c?ok    d: bro?ken", "      mend?it"];
    assert_eq!(text.lines().collect::<Vec<_>>(), lines);
}

#[test]
fn a_check_that_hangs_fails_at_its_deadline_and_holds_up_no_other() {
    let (hold, held) = bounded::<()>(0);
    let hang = Check::new("nas", move || {
        let _ = held.recv();
        Finding::ok("too late")
    });
    let (total, text) = report(vec![hang.within(Duration::from_millis(50)), fine("after")]);
    assert_eq!(total, Total { checks: 2, failed: 1 });
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!((lines[0], lines[2]), ("fail  nas: does not answer within 0.05 s", "ok    after: well"));
    drop(hold);
}

#[test]
fn a_check_that_breaks_down_fails() {
    let (total, text) = report(vec![Check::new("x", || panic!("planted")), fine("after")]);
    assert_eq!(total, Total { checks: 2, failed: 1 });
    assert!(text.starts_with("fail  x: the check itself broke down\n"), "{text}");
}

#[test]
fn a_signal_ends_the_waiting() {
    let cancel = Cancel::new();
    cancel.cancel();
    let (_hold, held) = bounded::<()>(0);
    let hang = Check::new("nas", move || {
        let _ = held.recv();
        Finding::ok("")
    });
    let error = examine(vec![hang], &cancel, &mut Vec::new()).unwrap_err();
    assert!(error.is_cancelled());
}

#[test]
fn a_reader_who_has_seen_enough_changes_no_result() {
    struct Closed(io::ErrorKind);
    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let bad = || vec![Check::new("x", || Finding::fail("", ""))];
    let total = examine(bad(), &Cancel::new(), &mut Closed(io::ErrorKind::BrokenPipe)).unwrap();
    assert_eq!(total.failed, 1);
    let full = examine(bad(), &Cancel::new(), &mut Closed(io::ErrorKind::StorageFull)).unwrap_err();
    assert_eq!(full.code(), "no_space");
}

#[test]
fn all_checks_run_at_once() {
    static OTHER_RAN: AtomicBool = AtomicBool::new(false);
    let (tell, told) = bounded::<()>(1);
    let waits = Check::new("first", move || match told.recv() {
        Ok(()) => Finding::ok("met"),
        Err(_) => Finding::fail("alone", ""),
    });
    let meets = Check::new("second", move || {
        OTHER_RAN.store(true, Ordering::SeqCst);
        tell.send(()).map_or_else(|_| Finding::fail("", ""), |()| Finding::ok("met"))
    });
    assert_eq!(report(vec![waits, meets]).0, Total { checks: 2, failed: 0 });
    assert!(OTHER_RAN.load(Ordering::SeqCst));
}

#[test]
fn sizes_are_for_people() {
    for (bytes, text) in [
        (0, "0 bytes"),
        (1023, "1023 bytes"),
        (1024, "1.0 KiB"),
        (1 << 20, "1.0 MiB"),
        (2_684_354_560, "2.5 GiB"),
        (u64::MAX, "17179869184.0 GiB"),
    ] {
        assert_eq!(size(bytes), text);
    }
}

#[test]
fn the_mount_of_a_path_is_the_deepest_and_the_last() {
    for (path, kind) in [
        ("/etc", "ext4"),
        ("/srv/x", "xfs"),
        ("/srv2", "ext4"),
        ("/mnt/nas", "nfs4"),
        ("/mnt/nas/my films\\x/a", "fuse.sshfs"),
        ("/mnt/nas/my films", "nfs4"),
        ("/x", "ext4"),
    ] {
        assert_eq!(mount_kind(path), kind, "{path}");
    }
    let root = Mount { device: (254, 0), point: "/".into(), kind: "ext4".into() };
    assert_eq!(mount_of(MOUNTS, Path::new("/")), Some(root));
    assert_eq!(mount_of("", Path::new("/")), None);
}

#[test]
fn file_systems_are_sorted_by_what_they_promise() {
    let sort = |kind: &str| Mount { device: (0, 0), point: "/".into(), kind: kind.into() }.sort();
    for kind in ["ext4", "btrfs", "xfs", "zfs", "fuseblk", "vfat"] {
        assert_eq!(sort(kind), Sort::Local, "{kind}");
    }
    for kind in ["nfs", "nfs4", "cifs", "smb3", "9p", "fuse", "fuse.sshfs", "virtiofs"] {
        assert_eq!(sort(kind), Sort::Shared, "{kind}");
    }
    for kind in ["tmpfs", "overlay"] {
        assert_eq!(sort(kind), Sort::Passing, "{kind}");
    }
}

#[test]
fn the_lock_table_names_the_holder() {
    let table = "\
1: POSIX  ADVISORY  WRITE 7 fe:00:99 0 EOF
2: FLOCK  ADVISORY  WRITE 9465 fe:00:5308569 0 EOF
2: -> FLOCK  ADVISORY  WRITE 9 fe:00:12 0 EOF
3: FLOCK  ADVISORY  WRITE 11 00:1a:12 0 EOF
4: FLOCK
";
    let holder = |device, inode| lock_holder(table, &[(1, 1), device], inode);
    assert_eq!(holder((254, 0), 5_308_569), Some(9465));
    assert_eq!(holder((0, 26), 12), Some(11), "numbers of devices are hexadecimal, of files decimal");
    assert_eq!(holder((254, 0), 12), None, "who only waits holds nothing");
    assert_eq!(holder((254, 0), 99), None, "another sort of lock");
    assert_eq!(holder((254, 1), 5_308_569), None, "another disk");
}

proptest! {
    #[test]
    fn no_table_breaks_the_reading(text in any::<String>(), lines in "([0-9:>\\- /\\\\a-fFLOCK]{0,40}\n){0,8}") {
        for table in [&text, &lines] {
            let _ = mount_of(table, Path::new("/mnt/x"));
            let _ = lock_holder(table, &[(254, 0)], 1);
        }
    }
}
