//! Libav's log lines, sorted by the run that they belong to and sent to `tracing`.
//!
//! A line belongs to a run if the context that logged carries the run's number in `opaque` (libav
//! copies it to the contexts of its frame threads), or else if the thread that logged is one of the
//! run's. Each run keeps its last grave lines for the error message.

use super::sys::shim;
use std::cell::Cell;
use std::collections::{HashMap, VecDeque};
use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Once, PoisonError};

/// Lines kept by those who want all, for each run.
const ALL_LINES: usize = 2000;
/// Whether anybody does.
static KEEPS_ALL: AtomicBool = AtomicBool::new(false);

/// Has libav say more, and every run keep all of it ([`RunLog::all_lines`]): for a process that is there to
/// find out why something does not work.
pub fn keep_more() {
    install();
    KEEPS_ALL.store(true, Ordering::Relaxed);
    // SAFETY: as in `install`.
    unsafe { shim::sprocket_log_install(Some(on_line), super::sys::AV_LOG_VERBOSE) }
}

/// Lines kept for each run.
const KEPT_LINES: usize = 12;

static INSTALL: Once = Once::new();
static NEXT_RUN: AtomicUsize = AtomicUsize::new(1);
static RUNS: Mutex<Option<HashMap<usize, Arc<Shared>>>> = Mutex::new(None);

thread_local! {
    static CURRENT: Cell<usize> = const { Cell::new(0) };
}

#[derive(Debug)]
struct Shared {
    span: tracing::Span,
    lines: Mutex<VecDeque<String>>,
    /// Every line, where somebody wants them.
    all: Mutex<Vec<String>>,
}

/// The log of one run: pass it to whatever opens libav contexts. Clones share the lines.
#[derive(Clone, Debug)]
pub struct RunLog(Arc<Handle>);

#[derive(Debug)]
struct Handle {
    id: usize,
    tag: Option<u32>,
    shared: Arc<Shared>,
}

impl RunLog {
    /// A new run; its lines go to `tracing` inside the span that is current now.
    pub fn new() -> Self {
        Self::of(None)
    }

    /// The same for a run that is listed in case of a crash: its threads bear the tag of its
    /// [`Registration`](super::crash::Registration), which has to outlive them.
    pub fn tagged(tag: u32) -> Self {
        Self::of(Some(tag))
    }

    fn of(tag: Option<u32>) -> Self {
        install();
        let id = NEXT_RUN.fetch_add(1, Ordering::Relaxed);
        let shared = Arc::new(Shared {
            span: tracing::Span::current(),
            lines: Mutex::default(),
            all: Mutex::default(),
        });
        with_runs(|runs| runs.insert(id, shared.clone()));
        Self(Arc::new(Handle { id, tag, shared }))
    }

    /// What to call a thread of the run in which libav works; `stage` has 8 bytes at most. The thread
    /// that plans and opens the run needs such a name too: codecs start their threads there.
    pub fn thread_name(&self, stage: &str) -> String {
        super::crash::thread_name(self.0.tag, stage)
    }

    /// Marks the calling thread as one of the run's.
    pub fn enter_thread(&self) {
        CURRENT.set(self.0.id);
    }

    /// The last grave lines, oldest first.
    pub fn last_lines(&self) -> Vec<String> {
        self.0.shared.lines.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// All lines, oldest first, where [`keep_more`] was called.
    pub fn all_lines(&self) -> Vec<String> {
        self.0.shared.all.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What to store in the `opaque` of a context. A number, never followed as a pointer.
    pub(super) fn opaque(&self) -> *mut c_void {
        std::ptr::without_provenance_mut(self.0.id)
    }
}

impl Default for RunLog {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        with_runs(|runs| runs.remove(&self.id));
    }
}

fn with_runs<T>(f: impl FnOnce(&mut HashMap<usize, Arc<Shared>>) -> T) -> T {
    f(RUNS.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_default())
}

fn install() {
    INSTALL.call_once(|| {
        // SAFETY: `on_line` lives for the program and is safe to call from any thread.
        unsafe { shim::sprocket_log_install(Some(on_line), super::sys::AV_LOG_INFO) }
    });
}

/// Called by the shim from whatever thread libav logs on. Must not unwind into C: nothing below
/// panics, and a subscriber that does ends in the abort of `extern "C"`, which is right.
unsafe extern "C" fn on_line(
    owner: *mut c_void,
    level: c_int,
    component: *const c_char,
    line: *const c_char,
) {
    // SAFETY: the shim passes two terminated strings that live for this call.
    let (component, line) = unsafe { (CStr::from_ptr(component), CStr::from_ptr(line)) };
    let (component, line) = (component.to_string_lossy(), line.to_string_lossy());
    let id = if owner.is_null() { CURRENT.get() } else { owner.addr() };
    let run = with_runs(|runs| runs.get(&id).cloned());
    if let Some(run) = &run {
        if KEEPS_ALL.load(Ordering::Relaxed) {
            let mut all = run.all.lock().unwrap_or_else(PoisonError::into_inner);
            if all.len() < ALL_LINES {
                all.push(format!("{component}: {line}"));
            }
        }
        if level <= super::sys::AV_LOG_WARNING {
            let mut lines = run.lines.lock().unwrap_or_else(PoisonError::into_inner);
            if lines.len() == KEPT_LINES {
                lines.pop_front();
            }
            lines.push_back(format!("{component}: {line}"));
        }
        run.span.in_scope(|| emit(level, &component, &line));
    } else {
        emit(level, &component, &line);
    }
}

/// Libav's errors are about data as often as not, so they are warnings to us; what matters comes
/// back as an error value too.
fn emit(level: c_int, component: &str, line: &str) {
    if level <= super::sys::AV_LOG_FATAL {
        tracing::error!(target: "libav", component, "{line}");
    } else if level <= super::sys::AV_LOG_ERROR {
        tracing::warn!(target: "libav", component, "{line}");
    } else if level <= super::sys::AV_LOG_WARNING {
        tracing::debug!(target: "libav", component, "{line}");
    } else {
        tracing::trace!(target: "libav", component, "{line}");
    }
}
