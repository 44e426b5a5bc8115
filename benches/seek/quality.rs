//! How near a segment's pictures are to the film's, by the `ffmpeg` command's own measure.

use crate::Result;
use std::io::Write;
use std::path::Path;
use std::process::Command;

/// Less than a picture lasts.
const EARLIER_S: f64 = 0.005;

/// PSNR of a segment of 1280x720 that begins at `start`, in dB, the mean of its pictures.
pub fn psnr_db(film: &Path, start: f64, segment: &[u8]) -> Result<f64> {
    let mut file = tempfile::Builder::new().suffix(".ts").tempfile()?;
    file.write_all(segment)?;
    let each = file.path().with_extension("psnr");
    let compare = format!(
        "[0:v]setpts=PTS-STARTPTS[made];[1:v]scale=1280:720,setpts=PTS-STARTPTS[film];\
         [made][film]psnr=shortest=1:stats_file={}",
        each.display()
    );
    let mut command = Command::new("ffmpeg");
    command.args(["-nostdin", "-v", "error", "-i"]).arg(file.path());
    // A little sooner than the picture, whose time is rounded; later, and each would be held against the next.
    command.args(["-ss", &format!("{:.6}", (start - EARLIER_S).max(0.0)), "-i"]).arg(film);
    let done = command.args(["-lavfi", &compare, "-f", "null", "-"]).output()?;
    let text = std::fs::read_to_string(&each);
    let _ = std::fs::remove_file(&each);
    let figures: Vec<f64> = text?.lines().filter_map(average).collect();
    if !done.status.success() || figures.is_empty() {
        return Err(String::from_utf8_lossy(&done.stderr).into());
    }
    Ok(figures.iter().sum::<f64>() / figures.len() as f64)
}

fn average(line: &str) -> Option<f64> {
    line.split_whitespace().find_map(|word| word.strip_prefix("psnr_avg:"))?.parse().ok()
}
