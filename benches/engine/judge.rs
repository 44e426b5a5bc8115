//! What came out of a side, looked at by means that had no part in making it: `ffmpeg` and `ffprobe`.

use crate::Result;
use crate::clip::{probe, stream};
use crate::process::{bytes_of, ffmpeg, messages_of};
use crate::work::{Rendition, Work, folder_of};
use std::collections::BTreeMap;
use std::fs;
use std::hash::{DefaultHasher, Hasher};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

/// x264 options that follow from the number of threads and so may differ.
const THREAD_OPTIONS: [&str; 3] = ["threads", "lookahead_threads", "sliced_threads"];

/// One rendition of one side.
#[derive(Debug)]
pub struct Made {
    /// Bytes of all segments.
    pub bytes: u64,
    /// Number of segments.
    pub segments: usize,
    /// Pictures in them.
    pub frames: u64,
    /// What x264 wrote into the stream about itself.
    pub x264: X264,
}

/// What x264 writes into the first access unit: its version, and its options with their values.
#[derive(Debug, PartialEq, Eq)]
pub struct X264 {
    build: String,
    options: BTreeMap<String, String>,
}

/// Looks at the rendition in a side's output.
pub fn look(output: &Path, rendition: &Rendition) -> Result<Made> {
    let folder = folder_of(output, rendition);
    let segments = segments_in(&folder)?;
    let first = segments.first().ok_or_else(|| format!("{}: no segments", folder.display()))?;
    let sizes = segments.iter().map(|path| fs::metadata(path).map(|facts| facts.len()));
    let answer = probe(&folder.join("index.m3u8"), "v:0")?;
    let frames = stream(&answer).and_then(|s| s.get("nb_read_packets")?.as_str()?.parse().ok());
    Ok(Made {
        bytes: sizes.sum::<std::io::Result<u64>>()?,
        segments: segments.len(),
        frames: frames.ok_or_else(|| format!("{}: its pictures cannot be counted", folder.display()))?,
        x264: X264::of(first)?,
    })
}

/// The segments in a rendition's folder, in order.
fn segments_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let paths = entries.map(|entry| entry.map(|e| e.path())).collect::<std::io::Result<Vec<_>>>()?;
    let number = |path: &Path| path.file_stem().and_then(|stem| stem.to_str()?.parse::<u64>().ok());
    let is_segment = |path: &PathBuf| path.extension().is_some_and(|e| e == "ts");
    let mut segments: Vec<PathBuf> = paths.into_iter().filter(is_segment).collect();
    segments.sort_by_key(|path| number(path));
    Ok(segments)
}

impl X264 {
    /// From the user data message (SEI) at the beginning of a segment.
    fn of(segment: &Path) -> Result<Self> {
        let mut command = ffmpeg();
        command.arg("-i").arg(segment).args([
            "-map",
            "0:v:0",
            "-c",
            "copy",
            "-frames:v",
            "1",
            "-f",
            "h264",
            "pipe:1",
        ]);
        let unit = bytes_of(&mut command)?;
        Self::parse(&unit)
            .ok_or_else(|| format!("{}: x264 has not written its options", segment.display()).into())
    }

    fn parse(unit: &[u8]) -> Option<Self> {
        const MARK: &[u8] = b"x264 - core";
        let start = unit.windows(MARK.len()).position(|window| window == MARK)?;
        let text: Vec<u8> =
            unit.iter().skip(start).copied().take_while(u8::is_ascii_graphic_or_space).collect();
        let text = String::from_utf8(text).ok()?;
        let (build, options) = text.split_once("options:")?;
        let pair = |option: &str| {
            let (key, value) = option.split_once('=').unwrap_or((option, ""));
            (key.to_owned(), value.to_owned())
        };
        let build = build.split(" - ").take(2).collect::<Vec<_>>().join(" - ");
        Some(Self { build, options: options.split_whitespace().map(pair).collect() })
    }

    /// What differs beyond threads, as `name ours/theirs`; nothing when the two are comparable.
    pub fn differences(&self, theirs: &Self) -> Vec<String> {
        let mut found = self.compared(theirs, |name| !THREAD_OPTIONS.contains(&name));
        if self.build != theirs.build {
            found.push(format!("{:?}/{:?}", self.build, theirs.build));
        }
        found
    }

    /// The options that follow from threads, as `name ours/theirs`.
    pub fn threads(&self, theirs: &Self) -> String {
        let value = |side: &Self, name: &str| side.options.get(name).cloned().unwrap_or_else(|| "-".into());
        let pairs =
            THREAD_OPTIONS.map(|name| format!("{name} {}/{}", value(self, name), value(theirs, name)));
        pairs.join(", ")
    }

    fn compared(&self, theirs: &Self, counts: impl Fn(&str) -> bool) -> Vec<String> {
        let mut names: Vec<&String> = self.options.keys().chain(theirs.options.keys()).collect();
        names.sort();
        names.dedup();
        let value =
            |side: &Self, name: &str| side.options.get(name).map_or("absent", String::as_str).to_owned();
        let differs =
            |name: &&&String| counts(name) && self.options.get(**name) != theirs.options.get(**name);
        names
            .iter()
            .filter(differs)
            .map(|name| format!("{name} {}/{}", value(self, name), value(theirs, name)))
            .collect()
    }
}

trait Printable {
    fn is_ascii_graphic_or_space(&self) -> bool;
}

impl Printable for u8 {
    fn is_ascii_graphic_or_space(&self) -> bool {
        self.is_ascii_graphic() || *self == b' '
    }
}

/// Average PSNR in dB of both sides' rendition against the source scaled to its size by Lanczos. The
/// n-th picture is compared with the n-th, whatever the times say. Infinite for equal pictures.
pub fn psnr_db(work: &Work, rendition: &Rendition, ours: &Path, theirs: &Path) -> Result<(f64, f64)> {
    let (num, den) = work.clip.rate;
    let by_number = format!("settb=expr={den}/{num},setpts=N");
    let (width, height) = (rendition.width, rendition.height);
    let graph = format!(
        "[0:v:0]scale={width}:{height}:flags=lanczos,format=yuv420p,{by_number},split[r0][r1];\
         [1:v:0]{by_number}[a];[2:v:0]{by_number}[b];[a][r0]psnr@ours[x];[b][r1]psnr@theirs[y]"
    );
    let mut command = Command::new("ffmpeg");
    command
        .args(["-nostdin", "-hide_banner", "-nostats", "-loglevel", "info"])
        .arg("-i")
        .arg(&work.clip.path);
    for side in [ours, theirs] {
        command.arg("-i").arg(folder_of(side, rendition).join("index.m3u8"));
    }
    command.args(["-filter_complex", &graph]);
    for output in ["[x]", "[y]"] {
        command.args(["-map", output, "-fps_mode", "passthrough", "-f", "null", "-"]);
    }
    let messages = messages_of(&mut command)?;
    let average =
        |side: &str| average_in(&messages, side).ok_or_else(|| format!("no PSNR of {side} in:\n{messages}"));
    Ok((average("psnr@ours")?, average("psnr@theirs")?))
}

/// From a line like `[psnr@ours @ 0x5581] PSNR y:43.1 u:48.0 v:47.9 average:44.3 min:40.1 max:51.0`.
fn average_in(messages: &str, filter: &str) -> Option<f64> {
    let line = messages.lines().find(|line| line.contains(filter) && line.contains(" PSNR "))?;
    line.split_whitespace().find_map(|word| word.strip_prefix("average:"))?.parse().ok()
}

/// Whether the rendition's segments are the same bytes in all outputs.
pub fn are_identical(outputs: &[PathBuf], rendition: &Rendition) -> Result<bool> {
    let mut first = None;
    for output in outputs {
        let found = fingerprint(&segments_in(&folder_of(output, rendition))?)?;
        if *first.get_or_insert(found) != found {
            return Ok(false);
        }
    }
    Ok(true)
}

fn fingerprint(files: &[PathBuf]) -> Result<u64> {
    let (mut hasher, mut buffer) = (DefaultHasher::new(), vec![0; 64 * 1024]);
    for path in files {
        let mut file = fs::File::open(path)?;
        loop {
            let count = file.read(&mut buffer)?;
            if count == 0 {
                break;
            }
            hasher.write(buffer.get(..count).unwrap_or_default());
        }
    }
    Ok(hasher.finish())
}
