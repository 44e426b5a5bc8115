//! A root whose server stops answering: a FUSE file system in this process that holds back its answers.
//!
//! What hangs is one job, with a clear code; the node stays well, other jobs run, and the root is shown as
//! not answering until it answers again. Linux only, and only where file systems may be mounted.

#![cfg(target_os = "linux")]

mod support;

use fuser::{
    BackgroundSession, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo,
    LockOwner, MountOption, OpenFlags, ReplyAttr, ReplyData, ReplyDirectory, ReplyEntry, ReplyOpen,
    ReplyStatfs, Request,
};
use serde_json::{Value, json};
use std::ffi::OsStr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, UNIX_EPOCH};
use support::node::films::{film, job, long_film, picture};
use support::node::{Config, Node, until};
use support::run::skip;
use tempfile::TempDir;

const FILE: &str = "film.mkv";
const FILE_INO: INodeNo = INodeNo(2);
/// Nothing is remembered by the kernel: each question comes here.
const TTL: Duration = Duration::ZERO;

/// What is held back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Hang {
    Nothing,
    Reads,
    Opens,
    Everything,
}

type Held = Box<dyn FnOnce() + Send>;

/// Decides which answers go, and keeps the others.
struct Gate(Mutex<(Hang, Vec<Held>)>);

impl Gate {
    fn set(&self, hang: Hang) {
        let free = {
            let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            inner.0 = hang;
            if hang == Hang::Nothing { std::mem::take(&mut inner.1) } else { Vec::new() }
        };
        free.into_iter().for_each(|answer| answer());
    }

    /// Answers now, or when the gate opens, if answers of this kind are held back.
    fn pass(&self, kind: Hang, answer: impl FnOnce() + Send + 'static) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.0 >= kind {
            return inner.1.push(Box::new(answer));
        }
        drop(inner);
        answer();
    }

    /// Answers that somebody waits for.
    fn held(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).1.len()
    }
}

/// One folder with one film.
struct Nas {
    film: Arc<Vec<u8>>,
    gate: Arc<Gate>,
}

impl Nas {
    fn attributes(&self, ino: INodeNo) -> FileAttr {
        let file = ino == FILE_INO;
        FileAttr {
            ino,
            size: if file { self.film.len() as u64 } else { 0 },
            blocks: self.film.len().div_ceil(512) as u64,
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind: if file { FileType::RegularFile } else { FileType::Directory },
            perm: if file { 0o444 } else { 0o555 },
            nlink: 1,
            uid: rustix::process::getuid().as_raw(),
            gid: rustix::process::getgid().as_raw(),
            rdev: 0,
            blksize: 4096,
            flags: 0,
        }
    }
}

impl Filesystem for Nas {
    fn lookup(&self, _: &Request, _: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let attributes = (name == FILE).then(|| self.attributes(FILE_INO));
        self.gate.pass(Hang::Everything, move || match attributes {
            Some(attributes) => reply.entry(&TTL, &attributes, Generation(0)),
            None => reply.error(Errno::ENOENT),
        });
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        let attributes = self.attributes(ino);
        self.gate.pass(Hang::Everything, move || reply.attr(&TTL, &attributes));
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        // Past the kernel's cache, so that each read comes here.
        self.gate.pass(Hang::Opens, move || reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO));
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let film = self.film.clone();
        self.gate.pass(Hang::Reads, move || {
            let from = film.len().min(offset as usize);
            reply.data(&film[from..film.len().min(from + size as usize)]);
        });
    }

    fn readdir(&self, _: &Request, _: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        self.gate.pass(Hang::Everything, move || {
            let entries = [
                (INodeNo::ROOT, FileType::Directory, "."),
                (INodeNo::ROOT, FileType::Directory, ".."),
                (FILE_INO, FileType::RegularFile, FILE),
            ];
            for (n, (ino, kind, name)) in entries.into_iter().enumerate().skip(offset as usize) {
                if reply.add(ino, n as u64 + 1, kind, name) {
                    break;
                }
            }
            reply.ok();
        });
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        self.gate
            .pass(Hang::Everything, move || reply.statfs(1 << 20, 1 << 19, 1 << 19, 10, 5, 4096, 255, 4096));
    }
}

/// The mounted file system. Dropping it lets everybody go, then unmounts.
struct Mounted {
    gate: Arc<Gate>,
    session: Option<BackgroundSession>,
    folder: TempDir,
}

impl Mounted {
    /// `None`, and a line that says why, where nothing can be mounted.
    fn with(film: &Path) -> Option<Self> {
        if !Path::new("/dev/fuse").exists() {
            skip("there is no /dev/fuse");
            return None;
        }
        let gate = Arc::new(Gate(Mutex::new((Hang::Nothing, Vec::new()))));
        let film = Arc::new(std::fs::read(film).expect("the film"));
        let folder = tempfile::tempdir().expect("a folder");
        let mut options = fuser::Config::default();
        options.mount_options = vec![MountOption::RO, MountOption::FSName("sprocket-test".into())];
        match fuser::spawn_mount(Nas { film, gate: gate.clone() }, folder.path(), &options) {
            Ok(session) => Some(Self { gate, session: Some(session), folder }),
            Err(e) => {
                skip(&format!("FUSE cannot be mounted here: {e}"));
                None
            }
        }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        self.gate.set(Hang::Nothing);
        let ended = self.session.take().map(BackgroundSession::umount_and_join);
        if let Some(Err(e)) = ended {
            eprintln!("cannot unmount {}: {e}", self.folder.path().display());
        }
    }
}

/// A job on the root that hangs: long, so that there is something left to read when it begins to.
fn on_nas(id: &str) -> Value {
    let mut job = job(id, "-");
    job["input"] = format!("nas://nas/{FILE}").into();
    job["renditions"] = json!([picture(180)]);
    job
}

/// A node with two slots and the root `nas`. A process with a request that has no answer cannot end, not
/// even by SIGKILL, so the order of these fields is that in which they have to go.
struct Stage {
    _opener: Opener,
    node: Node,
    nas: Mounted,
}

/// Lets everybody go when it is dropped.
struct Opener(Arc<Gate>);

impl Drop for Opener {
    fn drop(&mut self) {
        self.0.set(Hang::Nothing);
    }
}

impl Stage {
    fn set(film: &Path, config: Config) -> Option<Self> {
        let nas = Mounted::with(film)?;
        let config = config.root("nas", nas.path()).with("limits.max_concurrent_jobs", 2);
        Some(Self { _opener: Opener(nas.gate.clone()), node: Node::start(&config), nas })
    }

    /// From now on it hangs, and a job has noticed.
    fn hang(&self, hang: Hang) {
        self.nas.gate.set(hang);
        until(support::node::LIMIT, "somebody waits", || (self.nas.gate.held() > 0).then_some(()));
    }
}

fn answering(node: &Node) -> bool {
    let node = node.describe();
    let disks = node["disk"].as_array().expect("disks");
    let nas = disks.iter().find(|disk| disk["name"] == "nas").expect("the root");
    assert_eq!(nas["answering"] == false, !nas["silent_since"].is_null(), "{nas:#}");
    nas["answering"] == true
}

#[test]
fn a_root_that_stops_answering_fails_its_job_and_nothing_else() {
    let (Some(long), Some(short)) = (long_film(), film(90, 8)) else { return };
    let config = Config::default().with("limits.stall_timeout", "2s").with("limits.open_timeout", "2s");
    let Some(at) = Stage::set(&long, config) else { return };
    let node = &at.node;
    let short = node.add(&short);
    assert!(answering(node));
    node.accepted(&on_nas("hangs"));
    node.working("hangs");
    at.hang(Hang::Everything);
    node.accepted(&job("other", &short));
    node.succeeded("other");
    let error = node.failed("hangs");
    assert_eq!((&error["code"], &error["retryable"]), (&"stalled".into(), &true.into()), "{error:#}");
    node.get("/healthz").expect(200);
    until(support::node::LIMIT, "the root shows as not answering", || (!answering(node)).then_some(()));
    assert_eq!(node.describe()["state"], "IDLE", "the node is well");
    // One more on the dead root waits until the root answers; it does not take a slot to hang in.
    node.accepted(&on_nas("more"));
    node.accepted(&job("other-2", &short));
    node.succeeded("other-2");
    assert_eq!(node.state_of("more"), "queued");
    at.nas.gate.set(Hang::Nothing);
    until(support::node::LIMIT, "the root answers again", || answering(node).then_some(()));
    node.working("more");
    node.cancel("more");
    until(support::node::LIMIT, "what hung has gone", || node.codec_threads().is_empty().then_some(()));
    node.accepted(&on_nas("again"));
    node.working("again");
    node.cancel("again");
    assert!(node.hidden().is_empty(), "{:?}", node.hidden());
}

#[test]
fn a_source_that_cannot_be_opened_in_time_fails_its_job() {
    let (Some(long), Some(short)) = (long_film(), film(90, 8)) else { return };
    // The limit of a stall is there to be seen, should it be what ends the job.
    let config = Config::default().with("limits.open_timeout", "1s").with("limits.stall_timeout", "20s");
    for hang in [Hang::Reads, Hang::Opens, Hang::Everything] {
        let Some(at) = Stage::set(&long, config.clone()) else { return };
        let node = &at.node;
        let short = node.add(&short);
        println!("{hang:?} hang while the source is opened");
        at.nas.gate.set(hang);
        node.accepted(&on_nas("hangs"));
        node.accepted(&job("other", &short));
        node.succeeded("other");
        let error = node.failed("hangs");
        let told = (&error["code"], &error["stage"]);
        assert_eq!(told, (&"open_timeout".into(), &"open".into()), "{hang:?}: {error:#}");
    }
}

#[test]
fn a_job_whose_input_hangs_is_cancelled_at_once() {
    let Some(long) = long_film() else { return };
    let Some(at) = Stage::set(&long, Config::default()) else { return };
    let node = &at.node;
    for (id, hang) in [("reads", Hang::Reads), ("everything", Hang::Everything)] {
        at.nas.gate.set(Hang::Nothing);
        node.accepted(&on_nas(id));
        node.working(id);
        at.hang(hang);
        let begin = Instant::now();
        node.delete(&format!("/jobs/{id}")).expect(202);
        let over = || (node.state_of(id) == "cancelled").then_some(());
        until(Duration::from_secs(10), "it is cancelled", over);
        let took = begin.elapsed();
        println!("{id} hang: cancelled after {took:?}");
        // The contract's own limit, and far from what this takes.
        assert!(took < Duration::from_secs(1), "{took:?}");
        // The reads that hang cannot be ended by anybody; all other work can.
        let working = || node.codec_threads().len() <= at.nas.gate.held();
        until(Duration::from_secs(5), "only what waits for the root is left", || working().then_some(()));
        println!("what waits for the root: {:?}", node.codec_threads());
        assert!(node.hidden().is_empty(), "{:?}", node.hidden());
    }
}

#[test]
fn the_node_ends_in_time_while_a_read_hangs_and_goes_on_with_the_job() {
    let Some(long) = long_film() else { return };
    let Some(mut at) = Stage::set(&long, Config::default()) else { return };
    at.node.accepted(&on_nas("stopped"));
    at.node.working("stopped");
    at.hang(Hang::Reads);
    let begin = Instant::now();
    at.node.signal_to_end();
    // The kernel lets no process go that waits for FUSE (it would for NFS); all that is left of it is
    // that wait.
    until(Duration::from_secs(5), "the process has ended, but for its read", || {
        at.node.is_defunct().then_some(())
    });
    println!("SIGTERM while a read hangs: ended after {:?}", begin.elapsed());
    at.nas.gate.set(Hang::Nothing);
    at.node.terminate();
    at.node.restart();
    assert_eq!(at.node.working("stopped")["attempts"], 2, "it goes on");
}
