//! Dying for real: this test starts itself, the child dies in a thread of some name, and what it left
//! is looked at. The children are the only ones that install the handlers.
// Names of threads, and signals to one thread, are Linux.
#![cfg(target_os = "linux")]
// What is unsafe here is there to break a promise: that is how the child dies.
#![allow(unsafe_code, clippy::undocumented_unsafe_blocks)]

use sprocket::av::crash;
use sprocket::work::deaths::{self, Death, Watch};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Barrier;
use std::thread;

/// Names the state folder to the child.
const STATE: &str = "SPROCKET_TEST_CRASH_STATE";
/// How it is to die: the thread's name, a colon, and the way.
const HOW: &str = "SPROCKET_TEST_CRASH_HOW";

const ALL: [i32; 7] =
    [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGABRT, libc::SIGSYS, libc::SIGTRAP];

struct Died {
    status: ExitStatus,
    crumb: String,
    stderr: String,
    death: Death,
}

/// Starts a child; two runs go on in it, `movie-42` with tag 0 and `other` with tag 1.
fn die(thread: &str, way: &str) -> Died {
    let dir = tempfile::tempdir().unwrap();
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_child", "--nocapture"])
        .env(STATE, dir.path())
        .env(HOW, format!("{thread}/{way}"))
        .current_dir(dir.path())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    if way == "wait" {
        // The note is published after the handlers are installed.
        while !dir.path().join("alive").exists() {
            thread::yield_now();
        }
        let pid = i32::try_from(child.id()).unwrap();
        let tid = thread_of(pid, thread);
        assert_eq!(unsafe { libc::syscall(libc::SYS_tgkill, pid, tid, libc::SIGABRT) }, 0);
    }
    let output = child.wait_with_output().unwrap();
    let crumb = std::fs::read(deaths::crumb_path(dir.path())).unwrap();
    assert!(crumb.len() > 16 << 10, "its room is taken");
    Died {
        status: output.status,
        crumb: crumb.into_iter().take_while(|&byte| byte != 0).map(char::from).collect(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        death: deaths::read(dir.path()),
    }
}

/// The thread of that name in another process.
fn thread_of(pid: i32, name: &str) -> i32 {
    loop {
        for task in std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten() {
            let found = std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
            if found.trim_end() == name {
                return task.file_name().to_str().unwrap().parse().unwrap();
            }
        }
        thread::yield_now();
    }
}

fn codec(signal: i32, certain: Option<&str>) -> Death {
    let suspects = vec!["movie-42".to_owned(), "other".to_owned()];
    Death::Codec { signal, certain: certain.map(str::to_owned), suspects }
}

#[test]
fn the_child() {
    let (Some(state), Ok(how)) = (std::env::var_os(STATE), std::env::var(HOW)) else { return };
    let state = Path::new(&state);
    let (name, way) = how.split_once('/').unwrap();
    crash::install(&deaths::crumb_path(state)).unwrap();
    let runs = [crash::register("movie-42"), crash::register("other")];
    assert_eq!(runs.each_ref().map(crash::Registration::tag), [0, 1]);
    let _watch = Watch::begin(state).unwrap();
    let both = Barrier::new(2);
    let named = |name: &str| thread::Builder::new().name(name.to_owned());
    thread::scope(|scope| {
        if way == "together" {
            let spawned = named("av-0-mux-0").spawn_scoped(scope, || {
                both.wait();
                unsafe { null_write() }
            });
            spawned.unwrap();
        }
        named(name).spawn_scoped(scope, || end(way, &both)).unwrap();
    });
    panic!("it lives on");
}

fn end(way: &str, both: &Barrier) {
    match way.parse::<i32>() {
        Ok(signal) => unsafe {
            libc::raise(signal);
        },
        Err(_) => match way {
            "null" => unsafe { null_write() },
            "abort" => std::process::abort(),
            "overflow" => drop(Box::new(deeper(1))),
            "together" => {
                both.wait();
                unsafe { null_write() }
            }
            "c-thread" => unsafe { in_c_thread(c_null_write) },
            "c-overflow" => unsafe { in_c_thread(c_overflow) },
            "unwind" => out_of_c(),
            "wait" => loop {
                thread::park();
            },
            _ => panic!("{way}?"),
        },
    }
}

#[inline(never)]
unsafe fn null_write() {
    let nowhere = std::hint::black_box(16usize) as *mut u32;
    unsafe { nowhere.write_volatile(1) };
}

#[inline(never)]
#[allow(unconditional_recursion)]
fn deeper(n: u64) -> [u64; 64] {
    let mut room = std::hint::black_box([n; 64]);
    let below = deeper(n + 1);
    room[0] += std::hint::black_box(&below)[1];
    room
}

extern "C" fn out_of_c() {
    panic!("through C");
}

extern "C" fn c_null_write(_: *mut libc::c_void) -> *mut libc::c_void {
    unsafe { null_write() };
    std::ptr::null_mut()
}

extern "C" fn c_overflow(_: *mut libc::c_void) -> *mut libc::c_void {
    std::hint::black_box(deeper(1));
    std::ptr::null_mut()
}

/// As a codec library starts its threads: no name of its own, no alternate stack.
unsafe fn in_c_thread(body: extern "C" fn(*mut libc::c_void) -> *mut libc::c_void) {
    let mut id = std::mem::MaybeUninit::<libc::pthread_t>::uninit();
    unsafe {
        assert_eq!(libc::pthread_create(id.as_mut_ptr(), std::ptr::null(), body, std::ptr::null_mut()), 0);
        libc::pthread_join(id.assume_init(), std::ptr::null_mut());
    }
}

#[test]
fn every_signal_is_noted_and_is_what_the_process_dies_of() {
    for signal in ALL {
        let died = die("av-1-decode", &signal.to_string());
        assert_eq!(died.status.signal(), Some(signal), "{}", died.stderr);
        let crumb = format!("signal={signal} codec=1 thread=av-1-decode job=other running=movie-42,other\n");
        assert_eq!(died.crumb, crumb);
        assert_eq!(died.death, codec(signal, Some("other")));
    }
}

#[test]
fn a_bad_pointer_is_noted_whoever_owns_the_thread() {
    let died = die("av-0-enc-0", "null");
    assert_eq!(died.status.signal(), Some(libc::SIGSEGV));
    assert_eq!(died.crumb, "signal=11 codec=1 thread=av-0-enc-0 job=movie-42 running=movie-42,other\n");
    let died = die("av-1-enc-0", "c-thread");
    assert_eq!(died.status.signal(), Some(libc::SIGSEGV));
    assert_eq!(died.crumb, "signal=11 codec=1 thread=av-1-enc-0 job=other running=movie-42,other\n");
    let died = die("av:h264:df0", "null");
    assert_eq!(died.death, codec(libc::SIGSEGV, None));
    let died = die("http", "null");
    assert_eq!(died.crumb, "signal=11 codec=0 thread=http job= running=movie-42,other\n");
    assert_eq!(died.death, Death::None);
}

#[test]
fn an_abort_and_a_panic_through_c_are_noted() {
    for way in ["abort", "unwind"] {
        let died = die("av-0-decode", way);
        assert_eq!(died.status.signal(), Some(libc::SIGABRT));
        assert_eq!(died.death, codec(libc::SIGABRT, Some("movie-42")), "{way}");
    }
}

#[test]
fn the_overflow_of_a_stack_is_noted_and_rust_still_reports_it() {
    let died = die("av-0-scale-0", "overflow");
    assert_eq!(died.death, codec(libc::SIGSEGV, Some("movie-42")));
    assert!(died.stderr.contains("has overflowed its stack"), "{}", died.stderr);
    assert_eq!(died.status.signal(), Some(libc::SIGABRT), "as Rust has it");
}

/// What cannot be helped: no alternate stack, so no handler.
#[test]
fn the_overflow_of_a_stack_of_c_ends_the_process_without_a_crumb() {
    let died = die("av-0-scale-0", "c-overflow");
    assert_eq!(died.status.signal(), Some(libc::SIGSEGV));
    assert_eq!((died.crumb.as_str(), died.death), ("", Death::None));
}

#[test]
fn of_two_threads_that_crash_at_once_one_writes() {
    for _ in 0..10 {
        let died = die("av-1-mux-0", "together");
        assert_eq!(died.status.signal(), Some(libc::SIGSEGV));
        let job = if died.crumb.contains("thread=av-0") { "movie-42" } else { "other" };
        assert_eq!(died.death, codec(libc::SIGSEGV, Some(job)), "{}", died.crumb);
    }
}

#[test]
fn what_somebody_else_sends_is_nobodys_fault() {
    let died = die("av-0-decode", "wait");
    assert_eq!(died.status.signal(), Some(libc::SIGABRT));
    assert_eq!(died.crumb, "signal=6 codec=0 thread=av-0-decode job= running=movie-42,other\n");
    assert_eq!(died.death, Death::None);
}
