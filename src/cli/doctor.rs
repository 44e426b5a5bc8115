//! `sprocket doctor`: is everything in place for a node with this configuration?
//!
//! What enters: the configuration, the environment, this machine. What leaves: a line for each check on
//! stdout, and below what is not well a line that says how to mend it. Nothing is started, and nothing
//! is left behind. A network disk whose server is dead hangs whoever asks: so each check has a thread of
//! its own, and one that does not come back in time has failed. What a check looks at stands in the file
//! of its subject: `machine`, `places`, `network`.

use super::config::load;
use crate::base::cancel::Cancel;
use crate::base::error::{Error, ErrorKind, Result, Stage};
use crate::config::Loaded;
use crossbeam_channel::{Receiver, after, bounded, select};
use std::io::{self, Write};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

mod hardware;
mod machine;
mod mounts;
mod network;
mod places;

/// What a disk or a device may take to answer.
const DEADLINE: Duration = Duration::from_secs(3);

/// How a check went. The words are those that are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    Ok,
    Warn,
    Fail,
}

/// What a check has found.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Finding {
    level: Level,
    result: String,
    /// What to do about it.
    mend: Option<String>,
}

impl Finding {
    fn ok(result: impl Into<String>) -> Self {
        Self { level: Level::Ok, result: result.into(), mend: None }
    }

    fn warn(result: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { level: Level::Warn, result: result.into(), mend: Some(mend.into()) }
    }

    fn fail(result: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { level: Level::Fail, result: result.into(), mend: Some(mend.into()) }
    }
}

/// One thing to look at.
struct Check {
    what: String,
    limit: Duration,
    look: Box<dyn FnOnce() -> Finding + Send>,
}

impl Check {
    fn new(what: impl Into<String>, look: impl FnOnce() -> Finding + Send + 'static) -> Self {
        Self { what: what.into(), limit: DEADLINE, look: Box::new(look) }
    }

    fn within(self, limit: Duration) -> Self {
        Self { limit, ..self }
    }
}

/// Checks everything and prints what it finds.
///
/// # Errors
/// `bad_config` with every fault; `checks_failed` when a check has failed; `cancelled`; `io` when stdout
/// cannot be written.
pub fn run(file: Option<&Path>, cancel: &Cancel) -> Result<()> {
    let loaded = load(file)?;
    let total = examine(checks(&loaded), cancel, &mut io::stdout().lock())?;
    if total.failed == 0 {
        return Ok(());
    }
    let message = format!("{} of {} checks failed", total.failed, total.checks);
    Err(Error::new(ErrorKind::Unavailable, "checks_failed", Stage::Plan, message)
        .hint("below each stands how to mend it"))
}

/// Every check, in the order in which a start would meet what they look at.
fn checks(loaded: &Loaded) -> Vec<Check> {
    let settings = &loaded.settings;
    let mut all = vec![configuration(loaded)];
    all.extend(loaded.file.as_ref().map(|file| places::secrets(file, &loaded.to_yaml())));
    all.extend(machine::checks(settings));
    all.extend(places::checks(settings));
    all.extend(network::checks(settings));
    all
}

fn configuration(loaded: &Loaded) -> Check {
    let file = loaded.file.as_ref().map(|file| file.display().to_string());
    let from = file.unwrap_or_else(|| "no file: defaults and the environment".into());
    let warnings = loaded.warnings.join("; ");
    Check::new("configuration", move || match warnings.is_empty() {
        true => Finding::ok(from),
        false => Finding::warn(format!("{from}, legal but odd"), warnings),
    })
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Total {
    checks: usize,
    failed: usize,
}

/// Does all checks at once and prints them in their order.
fn examine(checks: Vec<Check>, cancel: &Cancel, out: &mut dyn Write) -> Result<Total> {
    let pending: Vec<Pending> = checks.into_iter().map(Pending::start).collect();
    let mut total = Total::default();
    for check in pending {
        let finding = check.wait(cancel)?;
        total.checks += 1;
        total.failed += usize::from(finding.level == Level::Fail);
        match print(out, &check.what, &finding) {
            // Somebody has read enough; the exit code still says how it went.
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => {}
            written => written.map_err(|e| Error::io(Stage::Publish, "write to", Path::new("stdout"), &e))?,
        }
    }
    Ok(total)
}

/// A check under way.
struct Pending {
    what: String,
    limit: Duration,
    until: Instant,
    found: Receiver<Finding>,
}

impl Pending {
    fn start(check: Check) -> Self {
        let Check { what, limit, look } = check;
        let (tell, found) = bounded(1);
        let refused = tell.clone();
        // Nobody listens any more when the deadline is over.
        let body = move || drop(tell.send(look()));
        if let Err(e) = thread::Builder::new().name("doctor".into()).spawn(body) {
            let mend = "raise the limit on threads of this user or container";
            let _ = refused.send(Finding::fail(format!("cannot start a thread: {e}"), mend));
        }
        Self { what, limit, until: Instant::now() + limit, found }
    }

    fn wait(&self, cancel: &Cancel) -> Result<Finding> {
        select! {
            recv(self.found) -> found => Ok(found.unwrap_or_else(|_| broken())),
            recv(after(self.until.saturating_duration_since(Instant::now()))) -> _ => Ok(self.silent()),
            recv(cancel.closed()) -> _ => Err(Error::cancelled(Stage::Plan)),
        }
    }

    fn silent(&self) -> Finding {
        // Both may have been ready.
        self.found.try_recv().unwrap_or_else(|_| {
            let limit = self.limit.as_secs_f64();
            Finding::fail(
                format!("does not answer within {limit} s"),
                "a network mount whose server is away hangs like this: look at `mount` and at that server",
            )
        })
    }
}

fn broken() -> Finding {
    Finding::fail("the check itself broke down", "please report this")
}

fn print(out: &mut dyn Write, what: &str, finding: &Finding) -> io::Result<()> {
    let level = match finding.level {
        Level::Ok => "ok",
        Level::Warn => "warn",
        Level::Fail => "fail",
    };
    writeln!(out, "{level:<4}  {}: {}", one_line(what), one_line(&finding.result))?;
    if let Some(mend) = &finding.mend {
        writeln!(out, "      {}", one_line(mend))?;
    }
    out.flush()
}

/// Names of folders and answers of servers must not be able to forge a line.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// A size for people.
fn size(bytes: u64) -> String {
    const UNITS: [(&str, u32); 3] = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let unit = UNITS.into_iter().find(|(_, shift)| bytes >> shift > 0);
    // Exact enough: it is rounded to a tenth.
    unit.map_or_else(
        || format!("{bytes} bytes"),
        |(name, shift)| format!("{:.1} {name}", bytes as f64 / (1_u64 << shift) as f64),
    )
}

#[cfg(test)]
mod tests;
