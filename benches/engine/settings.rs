//! What the environment asks for.

use crate::Result;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Scenarios that run when none is named: `capped` takes as long as `ladder` and has to be asked for.
const USUAL: [&str; 3] = ["single", "ladder", "four"];
/// All there are.
const KNOWN: [&str; 4] = ["single", "ladder", "four", "capped"];

/// What to measure, and on what.
#[derive(Debug)]
pub struct Settings {
    /// `SPROCKET_BENCH_CLIP`: a source that is taken as it is.
    pub clip: Option<PathBuf>,
    /// `SPROCKET_BENCH_FILM`: a film that a source is made of.
    pub film: Option<PathBuf>,
    /// `SPROCKET_BENCH_SECONDS`: length of a source that is made.
    pub seconds: u32,
    /// `SPROCKET_BENCH_RUNS`: runs of each side.
    pub runs: u32,
    /// `SPROCKET_BENCH_ONLY`: names from [`KNOWN`], with commas between them.
    pub scenarios: Vec<String>,
}

impl Settings {
    /// Reads the environment; refuses what it cannot mean.
    pub fn from_env() -> Result<Self> {
        let path = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        Ok(Self {
            clip: path("SPROCKET_BENCH_CLIP"),
            film: path("SPROCKET_BENCH_FILM"),
            seconds: number("SPROCKET_BENCH_SECONDS", 120)?,
            runs: number("SPROCKET_BENCH_RUNS", 3)?,
            scenarios: scenarios(text("SPROCKET_BENCH_ONLY"))?,
        })
    }
}

fn text(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn number(name: &str, default: u32) -> Result<u32> {
    let Some(value) = text(name) else { return Ok(default) };
    match u32::from_str(&value) {
        Ok(number) if number > 0 => Ok(number),
        _ => Err(format!("{name} is {value:?}, but has to be a whole number above 0").into()),
    }
}

fn scenarios(asked: Option<String>) -> Result<Vec<String>> {
    let Some(asked) = asked else { return Ok(USUAL.map(str::to_owned).to_vec()) };
    let names: Vec<String> = asked.split(',').map(|name| name.trim().to_owned()).collect();
    match names.iter().find(|name| !KNOWN.contains(&name.as_str())) {
        Some(unknown) => {
            Err(format!("SPROCKET_BENCH_ONLY: {unknown:?} is none of {}", KNOWN.join(", ")).into())
        }
        None => Ok(names),
    }
}

/// Where clips are kept from run to run, and outputs while they are measured: on a real disk, in the
/// build folder, since a file system in memory would flatter the side that syncs what it writes.
pub fn bench_folder() -> Result<PathBuf> {
    let scratch = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let folder = scratch.parent().unwrap_or(scratch).join("bench");
    std::fs::create_dir_all(&folder).map_err(|e| format!("cannot make {}: {e}", folder.display()))?;
    Ok(folder)
}
