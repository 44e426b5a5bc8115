//! Twenty viewers at once of far more than the cache may hold: it never holds more, by its own word and by
//! what lies on the disk.
//!
//! `SPROCKET_SOAK` makes the cap 1 GiB; otherwise it is 2 MiB.

mod support;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use support::clips::{Clip, audio, h264};
use support::h264_encoder;
use support::node::{Config, LIMIT, Node, client, runtime, soak};

const VIEWERS: usize = 20;
/// Films that are watched weigh so much more than the cap.
const TIMES_THE_CAP: u64 = 2;

struct Size {
    cap_bytes: u64,
    memory_bytes: u64,
    film: Option<PathBuf>,
}

/// A film with a picture that is hard to make small, so that a few copies outweigh the cap.
fn size() -> Size {
    let film = |name: &str, (width, height): (u32, u32), seconds: f64| {
        h264_encoder()?;
        let picture = h264().size(width, height).rate(25, 1).seconds(seconds).gop(50).option("crf", "1");
        Clip::new().video(picture).audio(audio("aac").rate(48_000).seconds(seconds)).make(name)
    };
    if soak() {
        let film = film("heavy.mp4", (1920, 1080), 60.0);
        Size { cap_bytes: 1 << 30, memory_bytes: 64 << 20, film }
    } else {
        let film = film("light.mp4", (320, 180), 20.0);
        Size { cap_bytes: 2 << 20, memory_bytes: 256 << 10, film }
    }
}

/// Copies are films of their own.
fn copies(node: &Node, film: &Path, wanted_bytes: u64) -> Vec<String> {
    let bytes = std::fs::metadata(film).expect("a film").len();
    let count = wanted_bytes.div_ceil(bytes);
    assert!(count <= 400, "{count} copies of a film of {bytes} bytes");
    let copy = |n: u64| {
        let name = format!("copy-{n}.mp4");
        std::fs::copy(film, node.media().join(&name)).expect("room for a copy");
        name
    };
    (0..count).map(copy).collect()
}

/// One viewer: the films one after another from the first to the last segment. Bytes of the largest one.
async fn watch(viewer: usize, address: String, films: Vec<String>) -> usize {
    let mut largest = 0;
    for film in films {
        let base = format!("{address}/vod/media/{film}/");
        let playlist = fetch(viewer, &format!("{base}direct.m3u8")).await;
        let playlist = String::from_utf8(playlist).expect("text");
        for uri in playlist.lines().filter(|line| !line.starts_with('#')) {
            largest = largest.max(fetch(viewer, &format!("{base}{uri}")).await.len());
        }
    }
    largest
}

/// Asks until it is answered: a full node refuses for a while.
async fn fetch(viewer: usize, url: &str) -> Vec<u8> {
    let client = client();
    let begin = std::time::Instant::now();
    while begin.elapsed() < 4 * LIMIT {
        let request = client.get(url).header("user-agent", format!("viewer {viewer}"));
        let answer = request.send().await.expect("an answer");
        match answer.status().as_u16() {
            200 => return answer.bytes().await.expect("the whole body").to_vec(),
            503 => tokio::time::sleep(Duration::from_millis(50)).await,
            other => panic!("{url}: {other}"),
        }
    }
    panic!("{url}: refused for too long");
}

/// The most that was seen, until `over`.
#[derive(Debug, Default)]
struct Most {
    on_disk: u64,
    told_disk: u64,
    told_memory: u64,
}

fn look_on(node: &Node, over: &AtomicBool) -> Most {
    let (folder, mut most) = (node.media().with_file_name("state").join("streams"), Most::default());
    let told = |page: &str, place: &str| {
        let name = format!("sprocket_stream_cache_bytes{{place=\"{place}\"}} ");
        let line = page.lines().find_map(|line| line.strip_prefix(&name)).expect("the figure");
        line.parse::<f64>().expect("a number") as u64
    };
    while !over.load(Ordering::SeqCst) {
        let files = std::fs::read_dir(&folder).into_iter().flatten().flatten();
        // One may be removed between being listed and being asked.
        let bytes = files.filter_map(|file| Some(file.metadata().ok()?.len())).sum();
        most.on_disk = most.on_disk.max(bytes);
        let page = node.get("/metrics").expect(200).text();
        most.told_disk = most.told_disk.max(told(&page, "disk"));
        most.told_memory = most.told_memory.max(told(&page, "memory"));
        std::thread::sleep(Duration::from_millis(5));
    }
    most
}

#[test]
fn twenty_viewers_never_take_more_than_the_cap() {
    let Size { cap_bytes, memory_bytes, film } = size();
    let Some(film) = film else { return };
    let config = Config::default()
        .with("stream.segment_duration", "2s")
        .with("stream.max_sessions", 4)
        .with("stream.read_ahead", 1)
        .with("stream.cache_memory_bytes", memory_bytes.to_string())
        .with("stream.cache_max_bytes", cap_bytes.to_string());
    let node = Node::start(&config);
    let films = copies(&node, &film, TIMES_THE_CAP * cap_bytes);
    let over = Arc::new(AtomicBool::new(false));
    let (most, largest) = std::thread::scope(|threads| {
        let looking = threads.spawn(|| look_on(&node, &over));
        let viewers: Vec<_> = (0..VIEWERS)
            .map(|viewer| {
                // Each begins elsewhere, and all films are seen by somebody.
                let own = films.iter().cycle().skip(viewer * films.len() / VIEWERS);
                let own = own.take(films.len().div_ceil(VIEWERS) + 1).cloned().collect();
                runtime().spawn(watch(viewer, node.url(""), own))
            })
            .collect();
        let watched: Vec<_> = viewers.into_iter().map(|viewer| runtime().block_on(viewer)).collect();
        over.store(true, Ordering::SeqCst);
        let largest =
            watched.into_iter().map(|bytes| bytes.expect("a viewer")).max().expect("viewers") as u64;
        (looking.join().expect("a look"), largest)
    });
    println!("{} films, {largest} bytes in the largest segment, cap {cap_bytes}: {most:?}", films.len());
    assert!(most.told_disk > cap_bytes / 2, "it was never nearly full: {most:?}");
    assert!(most.on_disk <= cap_bytes + largest, "{most:?}");
    assert!(most.told_disk <= cap_bytes + largest, "{most:?}");
    // What is kept there keeps to its cap; what is read from the disk for a viewer counts too, and is on top.
    assert!(most.told_memory <= memory_bytes + VIEWERS as u64 * largest, "{most:?}");
}
