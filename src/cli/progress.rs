//! Progress for people and for programs.
//!
//! What enters: the run's shared [`Progress`], looked at a few times a second from a thread of its
//! own. What leaves: a bar on stderr or JSON lines on stdout. Writing may fail (a closed pipe): the
//! work goes on.

use super::args::ProgressWord;
use crate::base::error::Error;
use crate::media::progress::{Progress, Snapshot};
use crate::model::record::JobProgress;
use crossbeam_channel::{RecvTimeoutError, Sender, bounded};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

const JSON_INTERVAL: Duration = Duration::from_millis(500);
const BAR_INTERVAL: Duration = Duration::from_millis(200);
/// Steps of the bar.
const BAR_LENGTH: u64 = 1000;

/// The bar that is on the terminal now, for whoever else writes there.
static BAR: Mutex<Option<ProgressBar>> = Mutex::new(None);

/// Stderr, written above the bar when there is one.
#[derive(Clone, Copy, Debug)]
pub struct BesideBar;

impl Write for BesideBar {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let bar = BAR.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match bar {
            Some(bar) => bar.suspend(|| io::stderr().write(data)),
            None => io::stderr().write(data),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// Shows progress until it is ended.
#[derive(Debug)]
pub struct Display {
    style: Style,
    progress: Arc<Progress>,
    ticker: Option<(Sender<()>, JoinHandle<()>)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    Bar,
    Json,
    Nothing,
}

/// One JSON line.
#[derive(Debug, Serialize)]
struct Line<'a> {
    /// `running`, `succeeded`, `failed` or `cancelled`.
    state: &'a str,
    #[serde(flatten)]
    snapshot: Snapshot,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<ErrorLine<'a>>,
}

/// As a job's `error` (contract, section 3).
#[derive(Debug, Serialize)]
struct ErrorLine<'a> {
    code: &'a str,
    message: &'a str,
    stage: String,
    retryable: bool,
}

impl Display {
    /// Begins to show `progress`.
    pub fn start(word: ProgressWord, progress: Arc<Progress>) -> Self {
        let style = match word {
            ProgressWord::Auto if io::stderr().is_terminal() => Style::Bar,
            ProgressWord::Json => Style::Json,
            ProgressWord::Auto | ProgressWord::None => Style::Nothing,
        };
        let ticker = (style != Style::Nothing).then(|| start_ticker(style, progress.clone())).flatten();
        Self { style, progress, ticker }
    }

    /// Ends with the last word. The bar goes away; what is left is said by the caller.
    pub fn end(mut self, failure: Option<&Error>) {
        self.stop();
        if self.style == Style::Json {
            write_line(&Line::last(self.progress.snapshot(), failure));
        }
    }

    fn stop(&mut self) {
        if let Some((stop, thread)) = self.ticker.take() {
            drop(stop);
            let _ = thread.join();
        }
    }
}

impl Drop for Display {
    fn drop(&mut self) {
        self.stop();
    }
}

impl<'a> Line<'a> {
    /// While it runs. Publishing may be done a moment before the last line says so.
    fn running(snapshot: Snapshot) -> Self {
        let mut snapshot = rounded(snapshot);
        snapshot.progress.percent = snapshot.progress.percent.map(|p| p.min(99.0));
        Self { state: "running", snapshot, error: None }
    }

    fn last(snapshot: Snapshot, failure: Option<&'a Error>) -> Self {
        let state = match failure {
            None => "succeeded",
            Some(e) if e.is_cancelled() => "cancelled",
            Some(_) => "failed",
        };
        let error = failure.map(|e| ErrorLine {
            code: e.code(),
            message: e.message(),
            stage: e.stage().to_string(),
            retryable: e.kind().retryable(),
        });
        Self { state, snapshot: rounded(snapshot), error }
    }
}

fn rounded(now: Snapshot) -> Snapshot {
    Snapshot { progress: now.progress.rounded(), ..now }
}

/// `None` where no thread can be had: the work matters more.
fn start_ticker(style: Style, progress: Arc<Progress>) -> Option<(Sender<()>, JoinHandle<()>)> {
    let (stop, stopped) = bounded::<()>(0);
    let work = move || {
        let bar = (style == Style::Bar).then(show_bar);
        let interval = if bar.is_some() { BAR_INTERVAL } else { JSON_INTERVAL };
        while stopped.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
            match &bar {
                Some(bar) => update_bar(bar, &progress.snapshot().progress),
                None => write_line(&Line::running(progress.snapshot())),
            }
        }
        if let Some(bar) = bar {
            BAR.lock().unwrap_or_else(PoisonError::into_inner).take();
            bar.finish_and_clear();
        }
    };
    thread::Builder::new().name("progress".into()).spawn(work).ok().map(|thread| (stop, thread))
}

fn show_bar() -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(BAR_LENGTH), ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {msg}") {
        bar.set_style(style);
    }
    *BAR.lock().unwrap_or_else(PoisonError::into_inner) = Some(bar.clone());
    bar
}

fn update_bar(bar: &ProgressBar, now: &JobProgress) {
    bar.set_position((now.percent.unwrap_or(0.0) / 100.0 * BAR_LENGTH as f64) as u64);
    bar.set_message(describe(now));
}

/// ` 42.0 %  0:50 / 2:00  87 fps  3.6x  ETA 0:19`
fn describe(now: &JobProgress) -> String {
    let percent = now.percent.map_or("     ?".into(), |p| format!("{p:5.1} %"));
    let eta = now.eta_ms.map_or(String::new(), |ms| format!("  ETA {}", clock(ms)));
    let (at, of) = (clock(now.position_ms), clock(now.duration_ms));
    format!("{percent}  {at} / {of}  {:.0} fps  {:.1}x{eta}", now.fps, now.speed)
}

/// `m:ss` or `h:mm:ss`.
pub(super) fn clock(ms: i64) -> String {
    let seconds = ms.max(0) / 1000;
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes}:{seconds:02}") }
}

fn write_line(line: &Line<'_>) {
    if let Ok(text) = serde_json::to_string(line) {
        let mut out = io::stdout().lock();
        let _ = writeln!(out, "{text}").and_then(|()| out.flush());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::error::{ErrorKind, Stage};
    use crate::base::time::Rational;

    fn half_way() -> Progress {
        let progress = Progress::new();
        progress.set_span(Rational::ZERO, Rational::from_int(120));
        progress.decoded(Rational::from_int(60), 1500);
        progress
    }

    fn json(line: &Line<'_>) -> serde_json::Value {
        serde_json::from_str(&serde_json::to_string(line).unwrap()).unwrap()
    }

    #[test]
    fn lines_have_the_snapshots_fields_and_a_state() {
        let line = json(&Line::running(half_way().snapshot()));
        let keys: Vec<_> = line.as_object().unwrap().keys().map(String::as_str).collect();
        let mut expected =
            ["state", "percent", "position_ms", "duration_ms", "frames", "fps", "speed", "eta_ms", "damaged"];
        expected.sort_unstable();
        assert_eq!(keys, expected);
        assert_eq!((line["state"].as_str(), line["percent"].as_f64()), (Some("running"), Some(49.5)));
        assert_eq!(line["frames"], 1500);
    }

    #[test]
    fn only_the_last_line_of_a_success_says_100() {
        let progress = half_way();
        progress.published();
        assert_eq!(json(&Line::running(progress.snapshot()))["percent"], 99.0);
        let last = json(&Line::last(progress.snapshot(), None));
        assert_eq!((last["percent"].as_f64(), last["state"].as_str()), (Some(100.0), Some("succeeded")));
    }

    #[test]
    fn failures_and_cancels_say_what_and_where() {
        let full = Error::new(ErrorKind::NoSpace, "no_space", Stage::Publish, "the disk is full");
        let line = json(&Line::last(half_way().snapshot(), Some(&full)));
        assert_eq!((line["state"].as_str(), line["percent"].as_f64()), (Some("failed"), Some(49.5)));
        let expected = serde_json::json!({ "code": "no_space", "message": "the disk is full", "stage": "publish", "retryable": true });
        assert_eq!(line["error"], expected);
        let line = json(&Line::last(Progress::new().snapshot(), Some(&Error::cancelled(Stage::Decode))));
        assert_eq!((line["state"].as_str(), line["percent"].is_null()), (Some("cancelled"), true));
    }

    #[test]
    fn the_bar_says_it_in_words() {
        let now =
            JobProgress { fps: 87.4, speed: 3.64, eta_ms: Some(3_700_000), ..half_way().snapshot().progress };
        assert_eq!(describe(&now), " 49.5 %  1:00 / 2:00  87 fps  3.6x  ETA 1:01:40");
    }
}
