//! The source: found, or made once and kept.

use crate::Result;
use crate::process::{ffmpeg, text_of};
use crate::settings::{Settings, bench_folder};
use serde_json::Value;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A source and what both sides have to be told about it.
#[derive(Clone, Debug)]
pub struct Clip {
    /// Where it lies, absolute.
    pub path: PathBuf,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Frames each second, as a fraction.
    pub rate: (u64, u64),
    /// Pictures in it.
    pub frames: u64,
    /// Length in seconds.
    pub seconds: f64,
    codecs: String,
}

impl fmt::Display for Clip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, width, height, rate: (num, den), frames, seconds, codecs } = self;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        write!(f, "{name}, {codecs}, {width}x{height}, {num}/{den} fps, {frames} frames, {seconds:.3} s")?;
        if (*width, *height) == (1920, 1080) { Ok(()) } else { f.write_str(" (NOT the 1080p that is meant)") }
    }
}

/// The clip that the settings name, or the one that is made of what they name.
pub fn find_or_make(settings: &Settings) -> Result<Clip> {
    if let Some(path) = &settings.clip {
        return look(path);
    }
    let label = settings
        .film
        .as_deref()
        .and_then(Path::file_stem)
        .map_or("synthetic".into(), |s| s.to_string_lossy());
    let path = bench_folder()?.join(format!("{label}-1080p-{}s.mp4", settings.seconds));
    if !path.exists() {
        make(settings, &path)?;
    }
    look(&path)
}

fn make(settings: &Settings, path: &Path) -> Result<()> {
    eprintln!("making {} (once)", path.display());
    let unfinished = path.with_extension("part.mp4");
    let mut command = ffmpeg();
    match &settings.film {
        Some(film) => film_inputs(&mut command, film)?,
        None => synthetic_inputs(&mut command),
    }
    command.args(["-t", &settings.seconds.to_string(), "-c:v", "libx264", "-preset", "fast", "-crf", "16"]);
    command.args(["-pix_fmt", "yuv420p", "-c:a", "aac", "-b:a", "192k", "-ac", "2"]);
    text_of(command.arg(&unfinished))?;
    Ok(std::fs::rename(unfinished, path)?)
}

/// A film, again and again. One without sound gets pink noise: silence would be no work.
fn film_inputs(command: &mut Command, film: &Path) -> Result<()> {
    const FILL: &str =
        "scale=1920:1080:force_original_aspect_ratio=increase:flags=lanczos,crop=1920:1080,setsar=1";
    let silent = stream(&probe(film, "a:0")?).is_none();
    command.args(["-stream_loop", "-1", "-i"]).arg(film);
    if silent {
        command.args(["-f", "lavfi", "-i", "anoisesrc=color=pink:sample_rate=48000:amplitude=0.3:seed=1"]);
    }
    command.args(["-map", "0:v:0", "-map", if silent { "1:a:0" } else { "0:a:0" }, "-vf", FILL]);
    Ok(())
}

/// Half moving edges, half detail at all scales, under the noise of a camera: nearer to what an
/// encoder has to do for a film than a test pattern, but no film.
fn synthetic_inputs(command: &mut Command) {
    const PICTURE: &str = "testsrc2=size=960x1080:rate=25[edges];\
        mandelbrot=size=960x1080:rate=25:end_scale=0.02:end_pts=3000,format=yuv420p[detail];\
        [edges][detail]hstack,noise=all_seed=1:alls=8:allf=t[v]";
    const SOUND: &str = "anoisesrc=color=pink:sample_rate=48000:amplitude=0.2:seed=1[noise];\
        sine=frequency=330:sample_rate=48000[tone];[noise][tone]amix=inputs=2[a]";
    command.args(["-filter_complex", &format!("{PICTURE};{SOUND}"), "-map", "[v]", "-map", "[a]"]);
}

fn look(path: &Path) -> Result<Clip> {
    let path = path.canonicalize().map_err(|e| format!("{}: {e}", path.display()))?;
    let (video, audio) = (probe(&path, "v:0")?, probe(&path, "a:0")?);
    let refuse = |what: &str| format!("{}: {what}", path.display());
    let picture = stream(&video).ok_or_else(|| refuse("no picture"))?;
    let sound = stream(&audio).ok_or_else(|| refuse("no sound, so the two sides would not do the same"))?;
    let text =
        |value: &Value, key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let size = |key: &str| picture.get(key).and_then(Value::as_u64).and_then(|n| u32::try_from(n).ok());
    let seconds = video.pointer("/format/duration").and_then(Value::as_str).and_then(|s| s.parse().ok());
    let rate = fraction(&text(picture, "r_frame_rate")).ok_or_else(|| refuse("no frame rate"))?;
    if fraction(&text(picture, "avg_frame_rate")).is_some_and(|average| differ(average, rate)) {
        return Err(refuse(
            "a variable frame rate, which the two sides treat differently: name another clip",
        )
        .into());
    }
    Ok(Clip {
        width: size("width").filter(|n| *n > 0).ok_or_else(|| refuse("no width"))?,
        height: size("height").filter(|n| *n > 0).ok_or_else(|| refuse("no height"))?,
        rate,
        frames: text(picture, "nb_read_packets")
            .parse()
            .map_err(|_| refuse("its frames cannot be counted"))?,
        seconds: seconds.ok_or_else(|| refuse("no duration"))?,
        codecs: format!("{} and {}", text(picture, "codec_name"), text(sound, "codec_name")),
        path,
    })
}

/// What `ffprobe` says of one stream of a file, its packets counted, and of the file.
pub fn probe(path: &Path, which: &str) -> Result<Value> {
    let mut command = Command::new("ffprobe");
    command.args(["-v", "error", "-select_streams", which, "-count_packets"]);
    command.args(["-show_streams", "-show_format", "-of", "json"]).arg(path);
    Ok(serde_json::from_str(&text_of(&mut command)?)?)
}

/// The first stream in an answer of [`probe`].
pub fn stream(answer: &Value) -> Option<&Value> {
    answer.pointer("/streams/0")
}

/// By more than what the rounded times of a container make of one rate.
fn differ(average: (u64, u64), nominal: (u64, u64)) -> bool {
    let value = |(num, den): (u64, u64)| num as f64 / den as f64;
    (value(average) / value(nominal) - 1.0).abs() > 1e-3
}

fn fraction(text: &str) -> Option<(u64, u64)> {
    let (num, den) = text.split_once('/')?;
    let (num, den) = (num.parse().ok()?, den.parse().ok()?);
    (num > 0 && den > 0).then_some((num, den))
}
