//! The crumb: whose codec work was going on when a fatal signal ended the process.
//!
//! What enters: the path of the crumb file, and the jobs as they start and end. What leaves, only when
//! the process dies by a signal of its own making: one line in that file,
//!
//! ```text
//! signal=11 codec=1 thread=av-3-decode job=movie-42 running=movie-42,other
//! ```
//!
//! `codec=0` says that the thread was not one of libav's, or that somebody sent the signal. What must
//! not live here: who is to blame, and what for. That is judged by the next process (`work::deaths`).
//!
//! The thread's name tells the job. A run's threads are named by [`thread_name`], and those that codec
//! libraries start inherit the name of the thread that opened them. Newer FFmpeg renames some of its
//! threads to `av:...`: codec work, of a job unknown.
//!
//! The handler runs on the alternate stack that Rust gives its threads, 8 KiB and a good part of it
//! taken by the kernel's frame: so it keeps its line in a static. Threads of C libraries have no such
//! stack, and the handler runs on their own. If that one is what overflowed, the kernel cannot call the
//! handler: the process dies by SIGSEGV without a crumb, as from an unknown cause.

use crate::base::error::{Error, Result, Stage};
use crate::base::fs::sync_folder_of;
use libc::{c_int, c_void, sigaction, siginfo_t};
use std::cell::UnsafeCell;
use std::fs::{File, OpenOptions};
use std::io::{self, Seek, Write};
use std::mem::{MaybeUninit, transmute};
use std::os::fd::IntoRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::ptr::{null, null_mut};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};

/// What a fault in a codec, an assertion of its, or its breach of a sandbox ends in.
const SIGNALS: [c_int; 7] =
    [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGABRT, libc::SIGSYS, libc::SIGTRAP];
/// Runs that can be told apart at once; 72 bytes each.
const SLOTS: usize = 256;
/// The longest id of a job (contract, section 3).
const ID_BYTES: usize = 64;
/// The longest line: every slot taken, and the fields before them.
const LINE_BYTES: usize = SLOTS * (ID_BYTES + 1) + 256;
/// In the list of those that run: there are more than the table holds. No job has this name.
const UNLISTED: &[u8] = b"~";
/// How long a disk that does not answer may keep the process from dying, in seconds.
const WRITE_LIMIT_S: u32 = 5;
/// How long a second thread that crashes leaves the first the time to write and to end the process.
const WAIT_STEP_MS: c_int = 20;
const WAIT_STEPS: u32 = 500;

static TABLE: Table = Table::new();
/// The crumb's descriptor, open for the life of the process.
static CRUMB: AtomicI32 = AtomicI32::new(-1);
/// The thread that crashed first; 0 while none has.
static WRITER: AtomicUsize = AtomicUsize::new(0);
/// What handled [`SIGNALS`] before, in their order.
static PREVIOUS: OnceLock<[sigaction; SIGNALS.len()]> = OnceLock::new();
static SHEET: Sheet = Sheet(UnsafeCell::new([0; LINE_BYTES]));

/// Where the handler puts its line together.
struct Sheet(UnsafeCell<[u8; LINE_BYTES]>);

// SAFETY: only the one thread that won `WRITER`, which is never given back, touches it.
unsafe impl Sync for Sheet {}

/// Clears the crumb, which has to have been read, and from now on writes into it when the process dies
/// by a fatal signal. The process still dies of that signal, with a core dump where the system makes
/// one, and Rust still reports the overflow of a stack. Once in a process.
///
/// # Errors
/// What the file system refuses, `no_space` among it: the line's room is taken now, so that a full disk
/// does not swallow it. `internal` for a second call.
pub fn install(crumb: &Path) -> Result<()> {
    let cannot = |what: &str, e: &io::Error| Error::io(Stage::Plan, what, crumb, e);
    let file = clear(crumb).map_err(|e| cannot("make the crumb file", &e))?;
    sync_folder_of(crumb)?;
    let mut previous = [action_of(libc::SIG_DFL, 0); SIGNALS.len()];
    for (place, signal) in previous.iter_mut().zip(SIGNALS) {
        *place = exchange_action(signal, None).map_err(|e| cannot("look up a handler for", &e))?;
    }
    // Before the first handler: that may run at once.
    let twice = |_| Error::internal(Stage::Plan, "the handlers of fatal signals are installed already");
    PREVIOUS.set(previous).map_err(twice)?;
    CRUMB.store(file.into_raw_fd(), Ordering::Release);
    for signal in SIGNALS {
        let handler = on_signal as extern "C" fn(c_int, *mut siginfo_t, *mut c_void);
        let action = action_of(handler as *const () as usize, libc::SA_SIGINFO | libc::SA_ONSTACK);
        exchange_action(signal, Some(&action)).map_err(|e| cannot("set a handler for", &e))?;
    }
    Ok(())
}

/// The empty crumb, its room taken (by zeros) and its position at the beginning.
fn clear(crumb: &Path) -> io::Result<File> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(crumb)?;
    file.write_all(&[0; LINE_BYTES])?;
    file.sync_all()?;
    file.rewind()?;
    Ok(file)
}

/// Puts a run into the list of those that the crumb may name, until the [`Registration`] is dropped:
/// after the last of its threads has ended. A run that is not a job's may register under a name that no
/// job can have, such as one with `~`.
pub fn register(job: &str) -> Registration {
    TABLE.register(job)
}

/// The name of a thread in which libav runs, for the run of that tag. The system keeps 15 bytes, so
/// `stage` has 8 at most.
pub fn thread_name(tag: Option<u32>, stage: &str) -> String {
    tag.map_or_else(|| format!("{PREFIX}-{stage}"), |tag| format!("{PREFIX}-{tag}-{stage}"))
}

/// Ends this process without a word to anybody: not to destructors, nor to libraries that want to tidy up and
/// might hang over it.
pub fn exit_at_once(code: i32) -> ! {
    // SAFETY: never returns, and nothing of ours is run.
    unsafe { libc::_exit(code) }
}

/// How the names of all threads begin in which libav runs.
const PREFIX: &str = "av";

/// A run in the list.
#[derive(Debug)]
pub struct Registration {
    table: &'static Table,
    /// `SLOTS` when the table was full.
    slot: usize,
}

impl Registration {
    /// The number by which the names of the run's threads tell it.
    pub fn tag(&self) -> u32 {
        u32::try_from(self.slot).unwrap_or(u32::MAX)
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        match self.table.slots.get(self.slot) {
            Some(slot) => slot.free(),
            None => {
                self.table.unlisted.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }
}

/// The runs that go on. Read by the handler at any moment: no locks.
#[derive(Debug)]
struct Table {
    slots: [Slot; SLOTS],
    /// Where the next search begins, so that a slot is not reused at once.
    next: AtomicUsize,
    /// Runs that found no slot.
    unlisted: AtomicU32,
}

impl Table {
    const fn new() -> Self {
        Self { slots: [const { Slot::new() }; SLOTS], next: AtomicUsize::new(0), unlisted: AtomicU32::new(0) }
    }

    fn register(&'static self, job: &str) -> Registration {
        let id: Vec<u8> = job.bytes().take(ID_BYTES).map(printable).collect();
        let id = if id.is_empty() { b"_".to_vec() } else { id };
        let start = self.next.fetch_add(1, Ordering::Relaxed);
        let mut places = (0..SLOTS).map(|n| start.wrapping_add(n) % SLOTS);
        let slot = places.find(|&slot| self.slots.get(slot).is_some_and(|s| s.take(&id)));
        if slot.is_none() {
            self.unlisted.fetch_add(1, Ordering::Relaxed);
        }
        Registration { table: self, slot: slot.unwrap_or(SLOTS) }
    }
}

/// One run's id, guarded by a state that holds its length, 0 when free, and a number that grows with
/// each use, by which a reader knows that the id did not change under it.
#[derive(Debug)]
struct Slot {
    state: AtomicU32,
    id: [AtomicU64; ID_BYTES / 8],
}

const LENGTH: u32 = 0xff;

impl Slot {
    const fn new() -> Self {
        Self { state: AtomicU32::new(0), id: [const { AtomicU64::new(0) }; ID_BYTES / 8] }
    }

    /// Takes the slot for `id`, of at most [`ID_BYTES`]. False when it is taken.
    fn take(&self, id: &[u8]) -> bool {
        let seen = self.state.load(Ordering::Acquire);
        let free = seen & LENGTH == 0;
        // All bits of the length: being written, to be read by nobody.
        let won = |s| self.state.compare_exchange(s, s | LENGTH, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        if !free || !won(seen) {
            return false;
        }
        fence(Ordering::Release);
        for (word, bytes) in self.id.iter().zip(id.chunks(8)) {
            let mut whole = [0; 8];
            whole.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
            word.store(u64::from_ne_bytes(whole), Ordering::Relaxed);
        }
        let length = u32::try_from(id.len()).unwrap_or(0);
        self.state.store(seen.wrapping_add(LENGTH + 1) | length, Ordering::Release);
        true
    }

    fn free(&self) {
        self.state.fetch_and(!LENGTH, Ordering::Release);
    }

    /// Copies the id; `None` when the slot is free or changes hands at this moment.
    fn read<'a>(&self, into: &'a mut [u8; ID_BYTES]) -> Option<&'a [u8]> {
        let before = self.state.load(Ordering::Acquire);
        for (word, bytes) in self.id.iter().zip(into.chunks_mut(8)) {
            let whole = word.load(Ordering::Relaxed).to_ne_bytes();
            bytes.iter_mut().zip(whole).for_each(|(to, from)| *to = from);
        }
        fence(Ordering::Acquire);
        let same = self.state.load(Ordering::Relaxed) == before;
        let length = (before & LENGTH) as usize;
        if same && length > 0 { into.get(..length) } else { None }
    }
}

/// A byte as it may stand in the crumb: no space, no comma, no equals sign.
fn printable(byte: u8) -> u8 {
    if byte.is_ascii_alphanumeric() || b"._:~-".contains(&byte) { byte } else { b'_' }
}

/// What the name of a thread says of the work it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    /// Codec work of the run in that slot.
    Run(usize),
    /// Codec work, of a run that the name does not tell.
    Codec,
    /// Something else.
    Other,
}

/// A thread without a name may be any: codecs are what crashes.
fn tag_of_thread_name(name: &[u8]) -> Work {
    let Some(rest) = name.strip_prefix(PREFIX.as_bytes()) else {
        return if name.is_empty() { Work::Codec } else { Work::Other };
    };
    let mut fields = rest.split(|&byte| byte == b'-');
    let (Some(b""), Some(digits), Some(_stage)) = (fields.next(), fields.next(), fields.next()) else {
        return Work::Codec;
    };
    let number = |digits: &[u8]| {
        digits.iter().try_fold(0usize, |n, &digit| {
            let digit = char::from(digit).to_digit(10)? as usize;
            n.checked_mul(10)?.checked_add(digit)
        })
    };
    match number(digits) {
        Some(slot) if !digits.is_empty() && slot < SLOTS => Work::Run(slot),
        _ => Work::Codec,
    }
}

/// A line that is put together without allocating. What does not fit is left out, the end of the line
/// with it, so that its reader can tell.
struct Line<'a> {
    bytes: &'a mut [u8],
    length: usize,
}

impl Line<'_> {
    fn push(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            if let Some(place) = self.bytes.get_mut(self.length) {
                *place = byte;
                self.length += 1;
            }
        }
    }

    fn push_number(&mut self, number: u32) {
        if number >= 10 {
            self.push_number(number / 10);
        }
        self.push(&[b'0' + (number % 10) as u8]);
    }

    fn push_printable(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.push(&[printable(byte)]));
    }

    fn written(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

/// The whole line. `ours`: the process did it to itself. Safe in a signal handler.
fn describe(line: &mut Line, signal: c_int, ours: bool, thread: &[u8], table: &Table) {
    let work = if ours { tag_of_thread_name(thread) } else { Work::Other };
    let mut id = [0; ID_BYTES];
    line.push(b"signal=");
    line.push_number(signal.unsigned_abs());
    line.push(if work == Work::Other { b" codec=0 thread=" } else { b" codec=1 thread=" });
    line.push_printable(thread);
    line.push(b" job=");
    if let Work::Run(slot) = work {
        let job = table.slots.get(slot).and_then(|slot| slot.read(&mut id));
        line.push(job.unwrap_or_default());
    }
    let mut separator: &[u8] = b" running=";
    line.push(separator);
    for slot in &table.slots {
        if let Some(job) = slot.read(&mut id) {
            line.push(if separator == b"," { separator } else { b"" });
            line.push(job);
            separator = b",";
        }
    }
    if table.unlisted.load(Ordering::Relaxed) > 0 {
        line.push(if separator == b"," { separator } else { b"" });
        line.push(UNLISTED);
    }
    line.push(b"\n");
}

// ---- the handler: only what POSIX calls async-signal-safe, and atomics ------------------------------

/// Writes the crumb and lets the process die as it would have.
extern "C" fn on_signal(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: no arguments; safe in a handler.
    let me = unsafe { libc::pthread_self() } as usize;
    match WRITER.compare_exchange(0, me, Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => {
            leave_crumb(signal, info);
            hand_on(signal, info, context);
        }
        // On its way out: Rust aborts after it has reported the overflow of a stack.
        Err(writer) if writer == me => die(signal, info),
        Err(_) => {
            wait_for_the_end();
            die(signal, info);
        }
    }
}

fn leave_crumb(signal: c_int, info: *const siginfo_t) {
    let crumb = CRUMB.load(Ordering::Acquire);
    let mut name = [0; 16];
    // SAFETY: this thread won `WRITER`, so nobody else has a reference, now or later.
    let sheet = unsafe { &mut *SHEET.0.get() };
    let mut line = Line { bytes: sheet, length: 0 };
    describe(&mut line, signal, is_ours(info), name_of_this_thread(&mut name), &TABLE);
    // SAFETY: takes a number. Should the disk hang, SIGALRM ends the process instead.
    unsafe { libc::alarm(WRITE_LIMIT_S) };
    write_all(crumb, line.written());
    sync(crumb);
    // SAFETY: takes a number.
    unsafe { libc::alarm(0) };
}

fn write_all(file: c_int, mut bytes: &[u8]) {
    let mut tries = 0;
    while !bytes.is_empty() && tries < 16 {
        // SAFETY: the pointer and the length are those of one slice.
        let written = unsafe { libc::write(file, bytes.as_ptr().cast(), bytes.len()) };
        bytes = usize::try_from(written).ok().and_then(|n| bytes.get(n..)).unwrap_or(bytes);
        tries += 1;
    }
}

#[cfg(target_os = "linux")]
fn sync(file: c_int) {
    // SAFETY: takes a number; a descriptor that is not open is refused.
    unsafe { libc::fdatasync(file) };
}

#[cfg(not(target_os = "linux"))]
fn sync(file: c_int) {
    // SAFETY: takes a number; a descriptor that is not open is refused.
    unsafe { libc::fsync(file) };
}

#[cfg(target_os = "linux")]
fn name_of_this_thread(into: &mut [u8; 16]) -> &[u8] {
    // SAFETY: PR_GET_NAME writes at most 16 bytes, the last a zero. A plain system call.
    unsafe { libc::prctl(libc::PR_GET_NAME, into.as_mut_ptr()) };
    into.split(|&byte| byte == 0).next().unwrap_or_default()
}

/// Nothing that tells a name is safe in a handler here.
#[cfg(not(target_os = "linux"))]
fn name_of_this_thread(_into: &mut [u8; 16]) -> &[u8] {
    b""
}

/// Whether the process did it to itself, by a fault or by raising the signal. What others send, an
/// operator or a service manager's watchdog, says nothing about a codec.
#[cfg(target_os = "linux")]
fn is_ours(info: *const siginfo_t) -> bool {
    // SAFETY: the kernel passes a valid `info` to a handler with SA_SIGINFO; its sender is set for the
    // codes up to 0. `getpid` is a plain system call.
    unsafe { info.as_ref().is_none_or(|info| info.si_code > 0 || info.si_pid() == libc::getpid()) }
}

/// This system does not tell reliably.
#[cfg(not(target_os = "linux"))]
fn is_ours(_info: *const siginfo_t) -> bool {
    true
}

/// Whether an instruction failed, which fails again when the handler returns. Not so for what was sent
/// (codes up to 0; 0x10001 and on where BSD's numbers are used) nor for the other signals.
fn is_fault(signal: c_int, info: *const siginfo_t) -> bool {
    // SAFETY: the kernel passes a valid `info` to a handler with SA_SIGINFO.
    let code = unsafe { info.as_ref().map_or(0, |info| info.si_code) };
    let of_instructions = matches!(signal, libc::SIGSEGV | libc::SIGBUS | libc::SIGILL | libc::SIGFPE);
    of_instructions && (1..0x1_0000).contains(&code)
}

/// Calls whatever handled the signal before, and makes sure that the process dies of it.
fn hand_on(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    let mut known = SIGNALS.iter().zip(PREVIOUS.get().into_iter().flatten());
    let Some((_, previous)) = known.find(|(known, _)| **known == signal) else { return die(signal, info) };
    let handler = previous.sa_sigaction;
    if handler == libc::SIG_DFL || handler == libc::SIG_IGN {
        return die(signal, info);
    }
    if previous.sa_flags & libc::SA_SIGINFO == 0 {
        // SAFETY: without SA_SIGINFO that is the type of what `sigaction` returned as the handler.
        let call = unsafe { transmute::<usize, extern "C" fn(c_int)>(handler) };
        call(signal);
    } else {
        // SAFETY: with SA_SIGINFO that is its type, and the arguments are those that we were given.
        let call = unsafe { transmute::<usize, extern "C" fn(c_int, *mut siginfo_t, *mut c_void)>(handler) };
        call(signal, info, context);
    }
    // Rust's has reset the signal and expects the fault to come again, as it will. A handler that has
    // not is not asked a second time.
    if !is_fault(signal, info) {
        die(signal, info);
    }
}

/// The default action, once this handler has returned: in the thread and with the registers of the
/// crash, so that the core dump shows it. A fault comes again by itself, with its address.
fn die(signal: c_int, info: *const siginfo_t) {
    let _ = exchange_action(signal, Some(&action_of(libc::SIG_DFL, 0)));
    if !is_fault(signal, info) {
        // SAFETY: takes a number. The signal is blocked until the handler returns.
        unsafe { libc::raise(signal) };
    }
}

/// Another thread crashed before and ends the process in a moment. Not forever: it may hang.
fn wait_for_the_end() {
    for _ in 0..WAIT_STEPS {
        // SAFETY: no descriptors: it only waits.
        unsafe { libc::poll(null_mut(), 0, WAIT_STEP_MS) };
    }
}

/// Sets an action, or with `None` leaves it, and returns what was set before.
fn exchange_action(signal: c_int, action: Option<&sigaction>) -> io::Result<sigaction> {
    let mut before = MaybeUninit::<sigaction>::zeroed();
    let new = action.map_or(null(), |action| action as *const sigaction);
    // SAFETY: both pointers are valid or null, and `before` is written whole on success.
    let done = unsafe { libc::sigaction(signal, new, before.as_mut_ptr()) };
    if done != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: zeroed, which is a valid value of it, and then written.
    Ok(unsafe { before.assume_init() })
}

/// With no signal blocked besides the one that is handled.
fn action_of(handler: usize, flags: c_int) -> sigaction {
    // SAFETY: numbers, a set of bits and an optional function: zero is valid for all, and an all-zero
    // set is what `sigemptyset` makes on the systems that we build for.
    let mut action: sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    action.sa_sigaction = handler;
    action.sa_flags = flags;
    action
}

#[cfg(test)]
mod tests;
