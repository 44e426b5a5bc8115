//! Our side: the program for one job, and for several jobs in one process the library itself.

use crate::Result;
use crate::work::{AUDIO_BPS, CHANNELS, CRF, PRESET, SEGMENT_SECONDS, Work};
use sprocket::av::log::RunLog;
use sprocket::base::cancel::Cancel;
use sprocket::base::error::Result as EngineResult;
use sprocket::base::time::Rational;
use sprocket::media::inspect::inspect;
use sprocket::media::mux::MadeRendition;
use sprocket::media::pipeline::{self, Target};
use sprocket::media::plan::{Machine, Plan};
use sprocket::media::progress::Progress;
use sprocket::media::verify::verify_hls;
use sprocket::model::job::{RateWish, RenditionWish, SegmentType, Wish};
use sprocket::model::timeline::Window;
use sprocket::store::hls_dir::{HlsDir, VariantFacts};
use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// First argument of a process that [`worker`] starts.
pub const WORKER_FLAG: &str = "--worker";

/// How long a worker's source may take to open.
const OPEN_LIMIT: Duration = Duration::from_secs(15);

/// The program, as built for this comparison.
pub fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_sprocket"))
}

/// `sprocket transcode` for the work.
pub fn command(work: &Work, output: &Path) -> Command {
    let mut command = program();
    command.arg("transcode").arg(&work.clip.path).arg("-o").arg(output);
    command.args(["--format", "hls", "--segment-type", "ts"]);
    command.args(["--segment-duration", &SEGMENT_SECONDS.to_string()]);
    for rendition in &work.renditions {
        let cap = rendition.cap_bps.map(|bps| format!(":{bps}")).unwrap_or_default();
        command.args(["--rendition", &format!("{}:{}{cap}", rendition.name, rendition.height)]);
    }
    command.args(["--video-codec", "h264", "--crf", &CRF.to_string(), "--preset", PRESET]);
    command.args(["--audio-codec", "aac", "--audio-bitrate", &AUDIO_BPS.to_string()]);
    command.args(["--channels", &CHANNELS.to_string(), "--hardware", "forbid", "--progress", "none"]);
    command
}

/// This program again, as a process that does the work `jobs` times at once.
pub fn worker(work: &Work, jobs: usize, output: &Path) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(WORKER_FLAG).arg(jobs.to_string()).arg(&work.clip.path).arg(output);
    for rendition in &work.renditions {
        command.arg(format!("{}:{}", rendition.name, rendition.height));
    }
    Ok(command)
}

/// What a worker does, with the arguments that follow the flag: the number of jobs, the source, the
/// output folder, and the renditions as `NAME:HEIGHT`.
pub fn work(args: &[OsString]) -> Result<()> {
    let [jobs, input, output, renditions @ ..] = args else {
        return Err("a worker wants JOBS SOURCE OUTPUT NAME:HEIGHT...".into());
    };
    let jobs: usize = jobs.to_string_lossy().parse()?;
    let renditions = renditions.iter().map(rendition).collect::<Result<Vec<_>>>()?;
    fs::create_dir_all(output)?;
    let (input, output, wish) = (Path::new(input), Path::new(output), wish(renditions));
    thread::scope(|scope| {
        let start = |job: usize| {
            let (output, wish) = (output.join(job.to_string()), &wish);
            scope.spawn(move || transcode(input, &output, wish))
        };
        let running: Vec<_> = (0..jobs).map(start).collect();
        running.into_iter().try_for_each(|job| Ok(job.join().map_err(|_| "a job panicked")??))
    })
}

fn rendition(arg: &OsString) -> Result<RenditionWish> {
    let arg = arg.to_string_lossy();
    let (name, height) = arg.split_once(':').ok_or("a rendition is NAME:HEIGHT")?;
    Ok(RenditionWish::new(name, height.parse()?))
}

/// The same as the arguments in [`command`].
fn wish(renditions: Vec<RenditionWish>) -> Wish {
    Wish {
        segment_seconds: Rational::from_int(SEGMENT_SECONDS as i64),
        renditions,
        rate: RateWish { crf: Some(CRF as f32), bitrate_bps: None },
        preset: Some(PRESET.to_owned()),
        audio_bitrate_bps: Some(u64::from(AUDIO_BPS)),
        channels: CHANNELS,
        ..Wish::default()
    }
}

/// Everything that `sprocket transcode` does for a job: look, plan, make, check, publish.
fn transcode(input: &Path, output: &Path, wish: &Wish) -> EngineResult<()> {
    let (cancel, log, progress) = (Cancel::new(), RunLog::new(), Arc::new(Progress::new()));
    let facts = inspect(input, &cancel, &log, OPEN_LIMIT)?;
    let plan = Plan::new(input.to_owned(), facts, wish, Machine::here(), &cancel)?;
    let names = plan.renditions.iter().map(|r| r.name.clone()).collect();
    let folder = HlsDir::create(output, false, SegmentType::Ts, names)?;
    let outcome =
        pipeline::run(&plan, Window::ALL, Target::Segments(folder.sink()), &cancel, &progress, &log)?;
    let variants: Vec<VariantFacts> = outcome.renditions.iter().map(variant).collect();
    folder.finish(&variants)?;
    verify_hls(folder.folder(), &plan, &outcome, &cancel, &log)?;
    folder.publish(&|| Ok(()))
}

fn variant(made: &MadeRendition) -> VariantFacts {
    VariantFacts {
        codecs: made.codecs.clone(),
        resolution: made.video.as_ref().map(|v| (v.width, v.height)),
        frame_rate: made.video.as_ref().map(|v| v.frame_rate),
        video_range: None,
    }
}
