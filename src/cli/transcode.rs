//! `sprocket transcode`: one transcode in this process, with the engine that a job uses.
//!
//! What enters: parsed words and the abort flag. What leaves: a published output, or an error and
//! nothing on the disk; on stderr what a person should know.

use super::args::{ProgressWord, TranscodeArgs};
use super::config::load;
use super::progress::{Display, clock};
use super::say;
use crate::av::log::RunLog;
use crate::base::cancel::Cancel;
use crate::base::error::{Error, Result};
use crate::config::Loaded;
use crate::hardware::inventory::Inventory;
use crate::media::demux::OPEN_LIMIT;
use crate::media::plan::{Machine, Plan};
use crate::media::progress::Progress;
use crate::model::document::HardwareUse;
use crate::store::claim::Identity;
use crate::work::transcode::{Devices, Follower, Handles, Made, Order, transcode};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Does what the words say.
///
/// # Errors
/// Whatever ended it. Warnings and the summary have been printed then; the error has not.
pub fn run(args: &TranscodeArgs, cancel: &Cancel) -> Result<()> {
    let started = Instant::now();
    let progress = Arc::new(Progress::new());
    let display = Display::start(args.progress, progress.clone());
    let made = make(args, cancel, &progress);
    display.end(made.as_ref().err());
    progress.warnings().iter().for_each(|warning| warn(warning));
    let damaged = progress.snapshot().damaged;
    if damaged > 0 {
        warn(&format!("{damaged} damaged places in the source were passed"));
    }
    let made = made?;
    if args.progress == ProgressWord::Auto {
        say(&summary(&args.output, &made, started.elapsed()));
    }
    Ok(())
}

struct Person;

impl Follower for Person {
    fn planned(&self, plan: &Plan) {
        plan.warnings.iter().for_each(|warning| warn(warning));
    }

    fn fell_back(&self, _plan: &Plan, because: &Error, _behind: bool) {
        warn(&format!("software goes on in place of the device: {because}"));
    }

    fn publishing(&self, _identity: Option<Identity>) -> Result<()> {
        Ok(())
    }

    fn goes_on_later(&self) -> bool {
        false
    }
}

fn make(args: &TranscodeArgs, cancel: &Cancel, progress: &Arc<Progress>) -> Result<Made> {
    args.check()?;
    let inventory = inventory(args.hardware());
    let order = Order {
        input: &args.input,
        output: &args.output,
        overwrite: args.overwrite,
        wish: &|facts| args.wish(facts),
        machine: Machine::here(),
        open_limit: OPEN_LIMIT,
        job: None,
        devices: Devices { inventory: &inventory, wish: args.hardware(), may_fall_back: true },
    };
    transcode(&order, &Handles { cancel, progress, log: &RunLog::new() }, &Person)
}

/// The devices, if there is any sign of one: looking at them takes seconds.
fn inventory(wish: HardwareUse) -> Inventory {
    if wish == HardwareUse::Forbid {
        return Inventory::default();
    }
    // A transcode takes no more from there than which devices may be touched, and what a node has seen of them.
    match load(None) {
        Ok(Loaded { settings, .. }) => Inventory::for_command(&settings.hardware, &settings.paths.state),
        Err(e) => {
            warn(&format!("the configuration cannot be read, and no device is used: {e}"));
            Inventory::default()
        }
    }
}

fn warn(warning: &str) {
    say(&format!("warning: {warning}"));
}

/// `film: 720p, 480p; 2:00 in 34.2 s (3.5x), 54.3 MB`
fn summary(output: &Path, made: &Made, took: Duration) -> String {
    let names: Vec<&str> = made.outcome.renditions.iter().map(|r| r.name.as_str()).collect();
    let duration = made.outcome.timeline.duration();
    let seconds = took.as_secs_f64().max(1e-3);
    format!(
        "{}: {}; {} in {seconds:.1} s ({:.1}x), {:.1} MB",
        output.display(),
        names.join(", "),
        clock(duration.to_ms()),
        duration.to_f64() / seconds,
        made.bytes as f64 / 1e6
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::time::Rational;
    use crate::media::mux::MadeRendition;
    use crate::media::pipeline::Outcome;
    use crate::model::timeline::Timeline;

    #[test]
    fn the_summary_is_one_line() {
        let rendition = |name: &str| MadeRendition {
            name: name.into(),
            codecs: Vec::new(),
            video: None,
            audio: None,
            frames: 0,
            audio_packets: 0,
            end: 3000,
        };
        let timeline = Timeline::new(Rational::from_int(25), Rational::from_int(120), Rational::from_int(4));
        let outcome = Outcome { timeline, renditions: vec![rendition("720p"), rendition("480p")] };
        let made = Made { outcome, bytes: 54_321_000 };
        let text = summary(Path::new("out/film"), &made, Duration::from_millis(34_200));
        assert_eq!(text, "out/film: 720p, 480p; 2:00 in 34.2 s (3.5x), 54.3 MB");
    }
}
