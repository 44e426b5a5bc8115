//! The engine against the system's `ffmpeg` command doing the same work: `make bench`.
//!
//! What enters: one 1080p clip of two minutes, as `SPROCKET_BENCH_CLIP` says or made once here. What
//! leaves: on stdout one table for each scenario with the ratios of wall time, CPU time, peak memory
//! and size, and the difference in PSNR. Both sides run in turn (A B A B), so that what slows the
//! machine slows both. A ratio never fails the run; what cannot be measured does. How to read the
//! tables: `docs/BENCHMARKS.md`.

#[path = "engine/clip.rs"]
mod clip;
#[path = "engine/judge.rs"]
mod judge;
#[path = "engine/ours.rs"]
mod ours;
#[path = "engine/process.rs"]
mod process;
#[path = "engine/scenario.rs"]
mod scenario;
#[path = "engine/settings.rs"]
mod settings;
#[path = "engine/table.rs"]
mod table;
#[path = "engine/theirs.rs"]
mod theirs;
#[path = "engine/work.rs"]
mod work;

use settings::Settings;
use std::error::Error;
use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

/// Anything that keeps a measurement from being made, in words for the person at the terminal.
type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    let done = match args.split_first() {
        Some((first, rest)) if first == ours::WORKER_FLAG => ours::work(rest),
        _ if args.iter().any(|arg| arg == "--bench") => compare(),
        _ => {
            println!("a comparison of minutes, not a test: run it by `cargo bench`");
            Ok(())
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::FAILURE
        }
    }
}

fn compare() -> Result<()> {
    let settings = Settings::from_env()?;
    print_machine()?;
    let clip = clip::find_or_make(&settings)?;
    println!("source: {clip}");
    println!("runs:   {} of each side, in turn\n", settings.runs);
    process::warm(&clip.path)?;
    let room = tempfile::tempdir_in(settings::bench_folder()?)?;
    settings.scenarios.iter().try_for_each(|name| scenario::run(name, &clip, settings.runs, room.path()))
}

fn print_machine() -> Result<()> {
    let cores = std::thread::available_parallelism()?;
    let model = first_line_with("/proc/cpuinfo", "model name").unwrap_or_default();
    let model = model.split_once(':').map_or("processor unknown", |(_, name)| name.trim());
    let load = first_line_with("/proc/loadavg", "").unwrap_or_default();
    let ffmpeg = process::text_of(process::ffmpeg().arg("-version"))?;
    let libraries = ["libavcodec", "libavformat", "libavfilter", "libswscale"];
    let libraries: Vec<String> = libraries.iter().filter_map(|name| library_version(&ffmpeg, name)).collect();
    println!("machine: {cores} cores, {model}; load average {load}");
    println!("ours:    {}", process::text_of(ours::program().arg("--version"))?.trim());
    println!("theirs:  {}", ffmpeg.lines().next().unwrap_or_default());
    println!("libav:   {}", libraries.join(", "));
    Ok(())
}

/// `libavcodec     59. 37.100 / 59. 37.100` as `libavcodec 59.37.100`.
fn library_version(ffmpeg: &str, name: &str) -> Option<String> {
    let line = ffmpeg.lines().find_map(|line| line.strip_prefix(name))?;
    let version: String = line.split('/').next()?.split_whitespace().collect();
    Some(format!("{name} {version}"))
}

fn first_line_with(file: &str, start: &str) -> Option<String> {
    let text = std::fs::read_to_string(Path::new(file)).ok()?;
    text.lines().find(|line| line.starts_with(start)).map(str::to_owned)
}
