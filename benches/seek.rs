//! Cold seeks of a viewer against the `ffmpeg` command that makes the same segment: `cargo bench --bench seek`.
//!
//! What enters: a film as `SPROCKET_BENCH_SEEK_FILM` says, or a quarter of an hour of 1080p H.264 with a key
//! frame every ten seconds, made once. What leaves: a table of medians, from the request until the bytes
//! hold a whole IDR picture, and until the segment is complete, of a node (a real process, over a socket)
//! and of an `ffmpeg -ss` process, in turn; the time of a segment that the read-ahead has made; in what the
//! encoders' settings differ, as each wrote them into its stream; and how much better or worse the pictures of a
//! seek's first segment are than those of the same segment from the read-ahead. A ratio never fails the run.

#[path = "support/comparison.rs"]
mod comparison;
#[path = "seek/first_idr.rs"]
mod first_idr;
#[path = "support/node.rs"]
mod node;
#[path = "seek/quality.rs"]
mod quality;
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
/// Of a segment of that rendition.
const MOST_BYTES: usize = 4 << 20;
/// So often the next segment is asked for too, and the quality is looked at.
const EVERY: usize = 5;

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
    /// The segment; only of ours.
    bytes: Vec<u8>,
}

impl Seen {
    fn of(idr: FirstIdr, prefix: Option<Duration>, whole: Duration, bytes: Vec<u8>) -> Result<Self> {
        let prefix = prefix.ok_or("a segment without an IDR picture")?;
        Ok(Self { prefix, whole, settings: idr.encoder_settings(), bytes })
    }
}

fn compare() -> Result<()> {
    let places: usize = std::env::var("SPROCKET_BENCH_PLACES").map_or(Ok(50), |n| n.parse())?;
    let film = film()?;
    std::fs::read(&film).map(drop)?; // in the page cache, for both
    let (folder, name) = (film.parent().ok_or("no folder")?, film.file_name().ok_or("no name")?);
    let node = Node::start(folder, "stream: { read_ahead: 1, max_sessions: 2 }")?;
    let segments = rendition(&node, &name.to_string_lossy(), HEIGHT)?;
    let spread = spread(segments.len(), places);
    let (mut ours, mut others, mut hits) = (Vec::new(), Vec::new(), Vec::new());
    let hit = |node: &Node, url: &str| {
        // Nothing is looked at while the time runs.
        let mut bytes = Vec::with_capacity(MOST_BYTES);
        let whole = node.get(url, |part, _| bytes.extend_from_slice(part))?;
        let mut idr = FirstIdr::default();
        idr.feed(&bytes);
        Seen::of(idr, Some(whole), whole, bytes)
    };
    for (turn, n) in spread.iter().copied().enumerate() {
        let own = ask(&node, &segments[n].0)?;
        node.wait_until_it_rests()?;
        if turn % EVERY == 0 {
            hits.push(hit(&node, &segments[n + 1].0)?);
            node.wait_until_it_rests()?;
        }
        // The settings of all but the first segment of a seek: they were wished for.
        let wished = hits.last().map_or("", |hit| hit.settings.as_str());
        others.push(theirs::segment(&film, start(&segments, n), segments[n].1, wished)?);
        ours.push(own);
    }
    drop(node);
    print(&film, &ours, &others, &hits);
    let first: Vec<_> = spread.into_iter().zip(ours).step_by(EVERY).collect();
    print_quality(&film, &first)
}

/// The same segments once more, from the read-ahead of another node, and the pictures of both held against the film.
fn print_quality(film: &Path, first: &[(usize, Seen)]) -> Result<()> {
    let node = Node::start(film.parent().ok_or("no folder")?, "stream: { read_ahead: 1, max_sessions: 2 }")?;
    let name = film.file_name().ok_or("no name")?;
    let segments = rendition(&node, &name.to_string_lossy(), HEIGHT)?;
    let (mut better_db, mut larger) = (Vec::new(), Vec::new());
    for (n, first) in first {
        ask(&node, &segments[n - 1].0)?;
        node.wait_until_it_rests()?;
        let warm = ask(&node, &segments[*n].0)?;
        let psnr = |bytes: &[u8]| quality::psnr_db(film, start(&segments, *n), bytes);
        better_db.push(psnr(&first.bytes)? - psnr(&warm.bytes)?);
        larger.push(first.bytes.len() as f64 / warm.bytes.len() as f64);
    }
    let range = |all: &mut Vec<f64>| {
        all.sort_unstable_by(f64::total_cmp);
        let at = |n: usize| all.get(n).copied().unwrap_or(f64::NAN);
        (at(all.len() / 2), at(0), at(all.len().saturating_sub(1)))
    };
    let ((db, least_db, most_db), (size, smallest, largest)) = (range(&mut better_db), range(&mut larger));
    println!(
        "the first segment of a seek against the same from the read-ahead, {} places: PSNR {db:+.2} dB \
         ({least_db:+.2} to {most_db:+.2}; wanted: -0.3 or better), bytes {size:.2} ({smallest:.2} to {largest:.2})",
        better_db.len()
    );
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

/// A segment as it comes.
fn ask(node: &Node, url: &str) -> Result<Seen> {
    let (mut idr, mut prefix, mut bytes) = (FirstIdr::default(), None, Vec::new());
    let whole = node.get(url, |part, since| {
        bytes.extend_from_slice(part);
        if idr.feed(part) && prefix.is_none() {
            prefix = Some(since);
        }
    })?;
    Seen::of(idr, prefix, whole, bytes)
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

fn print(film: &Path, ours: &[Seen], others: &[Seen], hits: &[Seen]) {
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
    let mut hit_times: Vec<_> = hits.iter().map(|hit| hit.whole).collect();
    let worst = hit_times.iter().max().map_or(f64::NAN, |most| most.as_secs_f64() * 1e3);
    println!(
        "\na segment that the read-ahead has made: median {:.1} ms, longest {worst:.1} ms of {} (wanted: 5)",
        median_ms(&mut hit_times),
        hits.len()
    );
    let (Some(own), Some(warm), Some(other)) = (ours.first(), hits.first(), others.first()) else { return };
    println!("encoder settings, ours:   {}", warm.settings);
    println!("encoder settings, theirs: {}", other.settings);
    println!("they differ in: {}", differing(&warm.settings, &other.settings));
    println!("the first segment of a seek differs in: {}", differing(&own.settings, &warm.settings));
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
