//! Cold seeks of a viewer against the `ffmpeg` command that makes the same segment: `cargo bench --bench seek`.
//!
//! What enters: a film as `SPROCKET_BENCH_SEEK_FILM` says, or a quarter of an hour of 1080p H.264 with a key
//! frame every ten seconds, made once. What leaves: a table of medians, from the request until the bytes
//! hold a whole IDR picture, and until the segment is complete, of a node (a real process, over a socket)
//! and of an `ffmpeg -ss` process, in turn; the time of a segment that the read-ahead has made; and in what
//! the encoders' settings differ, as each wrote them into its stream. A ratio never fails the run.

#[path = "support/comparison.rs"]
mod comparison;
#[path = "seek/first_idr.rs"]
mod first_idr;
#[path = "support/node.rs"]
mod node;
#[path = "seek/theirs.rs"]
mod theirs;

use comparison::Result;
use first_idr::FirstIdr;
use node::{Node, Segments};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

/// What is made ahead of the viewer must not touch what another seek finds cold.
const APART: usize = 4;
const HEIGHT: &str = "720p";

fn main() -> ExitCode {
    comparison::run("a comparison of minutes, not a test: run it by `cargo bench --bench seek`", compare)
}

/// One way to a segment, as it was timed.
struct Seen {
    /// From the request until the bytes hold a whole IDR picture.
    prefix: Duration,
    /// Until there is no more.
    whole: Duration,
    /// The encoder's settings, as it wrote them into the stream.
    settings: String,
}

impl Seen {
    fn of(idr: FirstIdr, prefix: Option<Duration>, whole: Duration) -> Result<Self> {
        let prefix = prefix.ok_or("a segment without an IDR picture")?;
        Ok(Self { prefix, whole, settings: idr.encoder_settings() })
    }
}

fn compare() -> Result<()> {
    let places: usize = std::env::var("SPROCKET_BENCH_PLACES").map_or(Ok(50), |n| n.parse())?;
    let film = film()?;
    std::fs::read(&film).map(drop)?; // in the page cache, for both
    let (folder, name) = (film.parent().ok_or("no folder")?, film.file_name().ok_or("no name")?);
    let node = Node::start(folder, "stream: { read_ahead: 1, max_sessions: 2 }")?;
    let segments = rendition(&node, &name.to_string_lossy(), HEIGHT)?;
    let (mut ours, mut others, mut hits) = (Vec::new(), Vec::new(), Vec::new());
    for (turn, n) in spread(segments.len(), places).into_iter().enumerate() {
        let own = cold(&node, &segments[n].0)?;
        node.wait_until_it_rests()?;
        if turn % 5 == 0 {
            hits.push(node.get(&segments[n + 1].0, |_, _| ())?);
            node.wait_until_it_rests()?;
        }
        others.push(theirs::segment(&film, start(&segments, n), segments[n].1, &own.settings)?);
        ours.push(own);
    }
    print(&film, &ours, &others, hits);
    Ok(())
}

/// The segments of the ladder's rendition whose name begins so.
fn rendition(node: &Node, film: &str, name: &str) -> Result<Segments> {
    let master = node.text(&format!("{}/master.m3u8", node.media(film)))?;
    let playlist = master.lines().find(|line| line.starts_with(name)).ok_or("no such rendition")?;
    node.stream(&format!("{}/{playlist}", node.media(film)))
}

/// Where a segment begins, in seconds.
fn start(segments: &Segments, n: usize) -> f64 {
    segments[..n].iter().map(|(_, length)| length).sum()
}

/// A segment that nobody has asked for before.
fn cold(node: &Node, url: &str) -> Result<Seen> {
    let (mut idr, mut prefix) = (FirstIdr::default(), None);
    let whole = node.get(url, |part, since| {
        if idr.feed(part) && prefix.is_none() {
            prefix = Some(since);
        }
    })?;
    Seen::of(idr, prefix, whole)
}

/// Places all over the film, none beside another, in no order; the same each time.
fn spread(count: usize, places: usize) -> Vec<usize> {
    let mut rest: Vec<usize> = (1..count.saturating_sub(APART)).step_by(APART).collect();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut order = Vec::new();
    while !rest.is_empty() && order.len() < places {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        order.push(rest.swap_remove((state >> 33) as usize % rest.len()));
    }
    order
}

fn print(film: &Path, ours: &[Seen], others: &[Seen], mut hits: Vec<Duration>) {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!("{}: {} places, load {}", film.display(), ours.len(), load.trim());
    println!(
        "| cold seek to {HEIGHT} | ours, ms | ffmpeg, ms | ratio | wanted |\n| --- | --- | --- | --- | --- |"
    );
    let row = |name: &str, of: fn(&Seen) -> Duration, wanted: &str| {
        let side = |all: &[Seen]| median_ms(&mut all.iter().map(of).collect::<Vec<_>>());
        let (own, other) = (side(ours), side(others));
        println!("| {name} | {own:.0} | {other:.0} | {:.2} | {wanted} |", own / other);
    };
    row("until a whole IDR picture is there", |seen| seen.prefix, "0.5");
    row("until the segment is complete", |seen| seen.whole, "0.75");
    let worst = hits.iter().max().map_or(f64::NAN, |most| most.as_secs_f64() * 1e3);
    println!(
        "\na segment that the read-ahead has made: median {:.1} ms, longest {worst:.1} ms of {} (wanted: 5)",
        median_ms(&mut hits),
        hits.len()
    );
    let (Some(own), Some(other)) = (ours.first(), others.first()) else { return };
    println!("encoder settings, ours:   {}", own.settings);
    println!("encoder settings, theirs: {}", other.settings);
    println!("they differ in: {}", differing(&own.settings, &other.settings));
    let same = ours.iter().filter(|seen| seen.settings == own.settings).count();
    println!("{same} of {} of our segments were made with the same settings", ours.len());
}

fn median_ms(times: &mut [Duration]) -> f64 {
    times.sort_unstable();
    times.get(times.len() / 2).map_or(f64::NAN, |time| time.as_secs_f64() * 1e3)
}

/// The settings that one side has and the other has not.
fn differing(own: &str, other: &str) -> String {
    let only = |a: &str, b: &str| -> Vec<String> {
        let has: Vec<&str> = b.split_whitespace().collect();
        a.split_whitespace().filter(|word| !has.contains(word)).map(str::to_owned).collect()
    };
    let (ours, theirs) = (only(own, other), only(other, own));
    if ours.is_empty() && theirs.is_empty() {
        return "nothing".into();
    }
    format!("[{}] against [{}]", ours.join(" "), theirs.join(" "))
}

fn film() -> Result<PathBuf> {
    if let Some(film) = std::env::var_os("SPROCKET_BENCH_SEEK_FILM") {
        return Ok(PathBuf::from(film).canonicalize()?);
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/bench");
    std::fs::create_dir_all(&folder)?;
    let path = folder.join("film-900s.mp4");
    if !path.exists() {
        eprintln!("making {} (once)", path.display());
        let (minute, unfinished) = (folder.join("film-60s.mp4"), folder.join("film-900s.part.mp4"));
        make_minute(&minute)?;
        ffmpeg(&["-stream_loop", "14", "-i"], &minute, &["-c", "copy"], &unfinished)?;
        std::fs::rename(&unfinished, &path)?;
        std::fs::remove_file(&minute)?;
    }
    Ok(path)
}

/// As films are encoded: B-frames that others refer to, several references, a key frame every ten seconds.
fn make_minute(path: &Path) -> Result<()> {
    let picture = "testsrc2=size=1920x1080:rate=25,noise=all_seed=1:alls=6:allf=t";
    let out = [
        "-f",
        "lavfi",
        "-i",
        "anoisesrc=color=pink:sample_rate=48000:amplitude=0.3:seed=1",
        "-t",
        "60",
        "-map",
        "0:v",
        "-map",
        "1:a",
        "-c:v",
        "libx264",
        "-preset",
        "veryfast",
        "-crf",
        "24",
        "-g",
        "250",
        "-keyint_min",
        "250",
        "-sc_threshold",
        "0",
        "-pix_fmt",
        "yuv420p",
        "-c:a",
        "aac",
        "-b:a",
        "128k",
        "-ac",
        "2",
    ];
    ffmpeg(&["-f", "lavfi", "-i"], Path::new(picture), &out, path)
}

fn ffmpeg(before: &[&str], input: &Path, after: &[&str], out: &Path) -> Result<()> {
    let mut command = Command::new("ffmpeg");
    command.args(["-nostdin", "-v", "error", "-y"]).args(before).arg(input).args(after).arg(out);
    let done = command.output()?;
    if done.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&done.stderr).into()) }
}
