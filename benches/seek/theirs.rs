//! The other side: a process of the `ffmpeg` command that makes one segment.

use crate::first_idr::FirstIdr;
use crate::{Result, Seen};
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

/// What a node's `720p` is by default, as far as it does not follow from the film.
const SETTINGS: &[&str] = &[
    "-map",
    "0:v:0",
    "-map",
    "0:a:0",
    "-vf",
    "scale=1280:720",
    "-c:v",
    "libx264",
    "-preset",
    "veryfast",
    "-x264-params",
    "stitchable=1:force-cfr=1",
    "-c:a",
    "aac",
    "-b:a",
    "128000",
    "-ac",
    "2",
    "-f",
    "mpegts",
];

/// Makes the segment that begins at `start` and is `length` seconds long, into a pipe, with the rate control
/// of `own` settings.
pub fn segment(film: &Path, start: f64, length: f64, own: &str) -> Result<Seen> {
    let set =
        |name: &str| own.split_whitespace().find_map(|word| word.strip_prefix(name)).unwrap_or_default();
    let kbit = |name: &str| format!("{}k", set(name));
    let mut command = Command::new("ffmpeg");
    command.args(["-nostdin", "-v", "error", "-ss", &format!("{start:.6}"), "-i"]).arg(film);
    command.args(["-t", &format!("{length:.6}"), "-g", &format!("{}", (length * 25.0).round())]);
    command.args(["-crf", set("crf="), "-maxrate", &kbit("vbv_maxrate="), "-bufsize", &kbit("vbv_bufsize=")]);
    command.args(SETTINGS).arg("-").stdout(Stdio::piped());
    let begin = Instant::now();
    let mut child = command.spawn()?;
    let mut pipe = child.stdout.take().ok_or("no pipe")?;
    let (mut idr, mut prefix, mut buffer) = (FirstIdr::default(), None, vec![0; 64 * 1024]);
    loop {
        let n = pipe.read(&mut buffer)?;
        if n == 0 {
            break;
        }
        if idr.feed(&buffer[..n]) && prefix.is_none() {
            prefix = Some(begin.elapsed());
        }
    }
    let whole = begin.elapsed();
    if !child.wait()?.success() {
        return Err("the ffmpeg command failed".into());
    }
    Seen::of(idr, prefix, whole, Vec::new())
}
