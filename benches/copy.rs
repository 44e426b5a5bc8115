//! Direct play against the `ffmpeg` command: one copied segment, and everything that a first playlist of a
//! file not seen before needs. `cargo bench --bench copy`.
//!
//! What enters: a clip as `SPROCKET_BENCH_COPY_CLIP` says, or 240 s of 720p H.264 with a key frame every
//! 10 s and AAC, about 120 MB, made once. What leaves: medians in milliseconds and their ratios to the
//! `ffmpeg` process that writes the same segment, both sides in turn. A ratio never fails the run.

#[path = "support/comparison.rs"]
mod comparison;
#[path = "support/node.rs"]
mod node;

use bytes::Bytes;
use comparison::Result;
use node::Node;
use sprocket::av::log::RunLog;
use sprocket::base::cancel::Cancel;
use sprocket::base::error::Result as EngineResult;
use sprocket::base::time::Rational;
use sprocket::media::index::{self, Sought, SourceIndex};
use sprocket::media::inspect::inspect;
use sprocket::media::pipeline::{self, LeadIn, Target};
use sprocket::media::plan::{Keys, Machine, Plan, direct, direct_cuts};
use sprocket::media::progress::Progress;
use sprocket::media::warm::Pool;
use sprocket::model::job::{AudioChoice, Format, SegmentType, VideoChoice, Wish};
use sprocket::model::segment::{Segment, SegmentSink};
use sprocket::model::source::SourceFacts;
use sprocket::model::timeline::Window;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const SEGMENT_SECONDS: i64 = 10;
const OPEN_LIMIT: Duration = Duration::from_secs(15);

fn main() -> ExitCode {
    comparison::run("a comparison, not a test: run it by `cargo bench --bench copy`", compare)
}

fn compare() -> Result<()> {
    let runs: usize = std::env::var("SPROCKET_BENCH_RUNS").map_or(Ok(31), |n| n.parse())?;
    let clip = clip()?;
    std::fs::read(&clip).map(drop)?; // in the page cache, for both
    let made = Looked::at(&clip)?;
    let count = made.plan.timeline.segment_count();
    let (pool, room) = (Pool::keeping(2), tempfile::tempdir()?);
    // Beside the clip: a name of its own for each run is a file that the node has not seen before.
    let links = tempfile::tempdir_in(clip.parent().ok_or("no folder")?)?;
    let node = Node::start(links.path(), "stream: { segment_duration: 10s, read_ahead: 0 }")?;
    let mut times = Times::default();
    for run in 0..runs {
        let name = format!("{run}.mp4");
        std::fs::hard_link(&clip, links.path().join(&name))?;
        times.playlist.push(node.get(&format!("{}/direct.m3u8", node.media(&name)), |_, _| ())?);
        let stream = node.stream(&format!("{}/direct.m3u8", node.media(&name)))?;
        times.served_cold.push(node.get(&stream[run * 7 % stream.len()].0, |_, _| ())?);
        times.served.push(node.get(&stream[(run * 7 + 5) % stream.len()].0, |_, _| ())?);
        node.wait_until_it_rests()?;
        let n = (run as u64 * 7 + 3) % count;
        times.ffmpeg.push(timed(|| ffmpeg_segment(&clip, &made.plan, n, &room.path().join("out.ts")))?);
        times.inspect.push(timed(|| facts(&clip).map(drop))?);
        times.first.push(timed(|| Looked::at(&clip).map(drop))?);
        times.cold.push(timed(|| segment(&Pool::none(), &made.plan, n))?);
        times.warm.push(timed(|| segment(&pool, &made.plan, n))?);
    }
    print(&clip, &made, &mut times)
}

#[derive(Default)]
struct Times {
    ffmpeg: Vec<Duration>,
    inspect: Vec<Duration>,
    first: Vec<Duration>,
    cold: Vec<Duration>,
    warm: Vec<Duration>,
    playlist: Vec<Duration>,
    served_cold: Vec<Duration>,
    served: Vec<Duration>,
}

fn timed(work: impl FnOnce() -> Result<()>) -> Result<Duration> {
    let start = Instant::now();
    work()?;
    Ok(start.elapsed())
}

fn print(clip: &Path, made: &Looked, times: &mut Times) -> Result<()> {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let bytes = std::fs::metadata(clip)?.len();
    println!(
        "{}: {bytes} bytes, {} segments, load {}",
        clip.display(),
        made.plan.timeline.segment_count(),
        load.trim()
    );
    println!("index from {:?}; direct play: {}", made.index.origin, made.direct);
    let base = median(&mut times.ffmpeg);
    println!("| | median ms | ratio | wanted |\n| --- | --- | --- | --- |");
    let row = |name: &str, times: &mut Vec<Duration>, wanted: &str| {
        let own = median(times);
        println!("| {name} | {:.2} | {:.3} | {wanted} |", own * 1e3, own / base);
    };
    row("ffmpeg -ss -t -c copy -f mpegts", &mut times.ffmpeg.clone(), "");
    row("inspect alone", &mut times.inspect, "");
    row("inspect, index, plan, direct play", &mut times.first, "0.3");
    row("copied segment, cold", &mut times.cold, "");
    row("copied segment, warm source", &mut times.warm, "0.12");
    row("from a node: direct.m3u8 of a file not seen before", &mut times.playlist, "0.3");
    row("from a node: the first segment that is asked for", &mut times.served_cold, "0.12");
    row("from a node: another, elsewhere", &mut times.served, "0.12");
    Ok(())
}

fn median(times: &mut [Duration]) -> f64 {
    times.sort_unstable();
    times.get(times.len() / 2).map_or(f64::NAN, Duration::as_secs_f64)
}

/// What a first playlist needs.
struct Looked {
    plan: Plan,
    index: SourceIndex,
    direct: String,
}

impl Looked {
    fn at(clip: &Path) -> Result<Self> {
        let (facts, cancel, pool) = (facts(clip)?, Cancel::new(), Pool::keeping(1));
        let sought = Sought { path: clip, facts: &facts, cancel: &cancel };
        let mut index = index::find(&sought, &pool, None)?;
        let cuts = direct_cuts(&facts, &index, Rational::from_int(SEGMENT_SECONDS));
        index::look_for_idr(&mut index, &cuts, &sought, &pool)?;
        let direct = match direct(&facts, &index, SegmentType::Ts, Rational::from_int(SEGMENT_SECONDS)) {
            Ok(direct) => format!("peak {} bit/s, average {} bit/s", direct.peak_bps, direct.average_bps),
            Err(why) => format!("no: {why}"),
        };
        let wish = Wish {
            format: Format::Hls(SegmentType::Ts),
            segment_seconds: Rational::from_int(SEGMENT_SECONDS),
            video: VideoChoice::Copy,
            audio: AudioChoice::Copy,
            ..Wish::default()
        };
        let plan = Plan::with_keys(clip.into(), facts, &wish, Machine::here(), &Keys::Known(&index))?;
        Ok(Self { plan, index, direct })
    }
}

fn facts(clip: &Path) -> Result<SourceFacts> {
    Ok(inspect(clip, &Cancel::new(), &RunLog::new(), OPEN_LIMIT)?)
}

/// Counts the bytes that it is handed.
#[derive(Default)]
struct Counted(AtomicUsize);

impl SegmentSink for Counted {
    fn init(&self, _: usize, _: &[String], _: &[u8]) -> EngineResult<()> {
        Ok(())
    }

    fn part(&self, _: usize, _: u64, _: Bytes) -> EngineResult<()> {
        Ok(())
    }

    fn segment(&self, segment: Segment) -> EngineResult<()> {
        self.0.fetch_add(black_box(segment.data).len(), Ordering::Relaxed);
        Ok(())
    }
}

fn segment(pool: &Pool, plan: &Plan, n: u64) -> Result<()> {
    let sink = Arc::new(Counted::default());
    let (cancel, progress, log) = (Cancel::new(), Arc::new(Progress::new()), RunLog::new());
    let target = Target::Segments(sink.clone());
    pipeline::run_from(
        pipeline::Start { pool, lead_in: LeadIn::Full },
        plan,
        Window::segments(n..n + 1),
        target,
        &cancel,
        &progress,
        &log,
    )?;
    if sink.0.load(Ordering::Relaxed) == 0 { Err("an empty segment".into()) } else { Ok(()) }
}

fn ffmpeg_segment(clip: &Path, plan: &Plan, n: u64, out: &Path) -> Result<()> {
    let (start, length) = (plan.timeline.segment_time(n), plan.timeline.segment_duration(n));
    let mut command = Command::new("ffmpeg");
    command.args(["-nostdin", "-hide_banner", "-v", "error", "-y"]);
    command.args(["-ss", &format!("{:.6}", start.to_f64()), "-t", &format!("{:.6}", length.to_f64()), "-i"]);
    command.arg(clip).args(["-c", "copy", "-f", "mpegts"]).arg(out);
    let done = command.output()?;
    if done.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&done.stderr).into()) }
}

fn clip() -> Result<PathBuf> {
    if let Some(clip) = std::env::var_os("SPROCKET_BENCH_COPY_CLIP") {
        return Ok(PathBuf::from(clip).canonicalize()?);
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/bench");
    std::fs::create_dir_all(&folder)?;
    let (path, unfinished) = (folder.join("copy-240s.mp4"), folder.join("copy-240s.part.mp4"));
    if !path.exists() {
        eprintln!("making {} (once)", path.display());
        make(&unfinished)?;
        std::fs::rename(&unfinished, &path)?;
    }
    Ok(path)
}

fn make(path: &Path) -> Result<()> {
    let mut command = Command::new("ffmpeg");
    command.args(["-nostdin", "-v", "error", "-y", "-f", "lavfi", "-i"]);
    command.arg("testsrc2=size=1280x720:rate=25,noise=all_seed=1:alls=24:allf=t");
    command.args(["-f", "lavfi", "-i", "anoisesrc=color=pink:sample_rate=48000:amplitude=0.3:seed=1"]);
    command.args(["-t", "240", "-map", "0:v", "-map", "1:a", "-c:v", "libx264", "-preset", "ultrafast"]);
    command.args(["-bf", "2", "-b:v", "3900k", "-maxrate", "4200k", "-bufsize", "4M", "-g", "250"]);
    command.args(["-keyint_min", "250", "-sc_threshold", "0", "-pix_fmt", "yuv420p"]);
    command.args(["-c:a", "aac", "-b:a", "128k", "-ac", "2"]).arg(path);
    let done = command.output()?;
    if done.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&done.stderr).into()) }
}
