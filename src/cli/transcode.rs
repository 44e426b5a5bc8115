//! `sprocket transcode`: one transcode in this process, with the engine that a job uses.
//!
//! What enters: parsed words and the abort flag. What leaves: a published output, or an error and
//! nothing on the disk. The order is the documentation: inspect, plan, claim the place, run, verify,
//! publish.

use super::args::{ProgressWord, TranscodeArgs};
use super::progress::{Display, clock};
use super::say;
use crate::av::log::RunLog;
use crate::base::cancel::Cancel;
use crate::base::error::{Error, ErrorKind, Result, Stage};
use crate::media::demux::OPEN_LIMIT;
use crate::media::inspect::inspect;
use crate::media::mux::MadeRendition;
use crate::media::pipeline::{self, Outcome, Target};
use crate::media::plan::{Machine, Plan};
use crate::media::progress::Progress;
use crate::media::verify::{verify_file, verify_hls};
use crate::model::job::{Format, SegmentType};
use crate::model::ladder;
use crate::model::playlist::VideoRange;
use crate::model::timeline::Window;
use crate::store::hls_dir::{HlsDir, VariantFacts};
use crate::store::output::OutputFile;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What was made, for the summary.
struct Made {
    outcome: Outcome,
    bytes: u64,
}

/// Does what the words say.
///
/// # Errors
/// Whatever ended it. Warnings and the summary have been printed then; the error has not.
pub fn run(args: &TranscodeArgs, cancel: &Cancel) -> Result<()> {
    let started = Instant::now();
    let progress = Arc::new(Progress::new());
    let display = Display::start(args.progress, progress.clone());
    let run = Run { args, cancel, progress: &progress, log: RunLog::new() };
    let made = run.make();
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

struct Run<'a> {
    args: &'a TranscodeArgs,
    cancel: &'a Cancel,
    progress: &'a Arc<Progress>,
    log: RunLog,
}

impl Run<'_> {
    fn make(&self) -> Result<Made> {
        self.args.check()?;
        let facts = inspect(&self.args.input, self.cancel, &self.log, OPEN_LIMIT)?;
        let wish = self.args.wish(&facts);
        let plan = Plan::new(self.args.input.clone(), facts, &wish, Machine::here(), self.cancel)?;
        plan.warnings.iter().for_each(|warning| warn(warning));
        refuse_own_source(&self.args.input, &self.args.output)?;
        let made = match plan.format {
            Format::Hls(kind) => self.make_folder(&plan, kind),
            Format::Mp4 | Format::Mkv | Format::Ts => self.make_file(&plan),
        }?;
        self.progress.published();
        Ok(made)
    }

    fn make_folder(&self, plan: &Plan, kind: SegmentType) -> Result<Made> {
        let names = plan.renditions.iter().map(|r| r.name.clone()).collect();
        let output = HlsDir::create(&self.args.output, self.args.overwrite, kind, names)?;
        let outcome = self.run_pipeline(plan, Target::Segments(output.sink()))?;
        let variants: Vec<_> = outcome.renditions.iter().map(variant).collect();
        output.finish(&variants)?;
        verify_hls(output.folder(), plan, &outcome, self.cancel, &self.log)?;
        let bytes = output.bytes_written();
        self.cancel.check(Stage::Publish)?;
        output.publish()?;
        Ok(Made { outcome, bytes })
    }

    fn make_file(&self, plan: &Plan) -> Result<Made> {
        let output = OutputFile::create(&self.args.output, self.args.overwrite)?;
        let outcome = self.run_pipeline(plan, Target::File(output.path().to_owned()))?;
        verify_file(output.path(), plan, &outcome, self.cancel, &self.log)?;
        let bytes = fs::metadata(output.path()).map_or(0, |facts| facts.len());
        self.cancel.check(Stage::Publish)?;
        output.publish()?;
        Ok(Made { outcome, bytes })
    }

    fn run_pipeline(&self, plan: &Plan, target: Target) -> Result<Outcome> {
        pipeline::run(plan, Window::ALL, target, self.cancel, self.progress, &self.log)
    }
}

fn warn(warning: &str) {
    say(&format!("warning: {warning}"));
}

/// Replacing the source by its transcode would leave neither if somebody had second thoughts.
fn refuse_own_source(input: &Path, output: &Path) -> Result<()> {
    let (Ok(source), Ok(target)) = (fs::canonicalize(input), fs::canonicalize(output)) else { return Ok(()) };
    if !source.starts_with(&target) {
        return Ok(());
    }
    let message = format!("{} is where the source is", output.display());
    Err(Error::new(ErrorKind::Conflict, "output_is_input", Stage::Publish, message)
        .hint("choose another output"))
}

/// What the multivariant playlist says of a rendition.
fn variant(made: &MadeRendition) -> VariantFacts {
    let video = made.video.as_ref();
    VariantFacts {
        codecs: made.codecs.clone(),
        resolution: video.map(|v| ladder::display_size(v.width, v.height, v.sample_aspect_ratio)),
        frame_rate: video.map(|v| v.frame_rate),
        video_range: video.and_then(|v| VideoRange::from_transfer(v.colour.transfer)),
    }
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
    use crate::model::timeline::Timeline;

    #[test]
    fn the_source_is_never_the_output_nor_inside_it() {
        let dir = tempfile::tempdir().unwrap();
        let source = dir.path().join("film/720p/0.ts");
        fs::create_dir_all(source.parent().unwrap()).unwrap();
        fs::write(&source, b"x").unwrap();
        for output in [source.clone(), dir.path().join("film"), dir.path().join("film/../film/720p")] {
            assert_eq!(refuse_own_source(&source, &output).unwrap_err().code(), "output_is_input");
        }
        for output in ["other", "film/480p", "film/720p/1.ts"] {
            assert_eq!(refuse_own_source(&source, &dir.path().join(output)), Ok(()));
        }
    }

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
