//! Any file of a root as HLS, made while it is watched: a real node, a real client, a judge of its own.
//!
//! What is asked in any order has to be what one would have got in order: the same cuts, the same times, no
//! picture and no sample lost or doubled where two runs meet.

mod support;

use m3u8_rs::{MasterPlaylist, MediaPlaylist, Playlist};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;
use support::clips::{Clip, audio, h264};
use support::node::{Answer, Config, LIMIT, Node, runtime, until};
use support::{h264_encoder, probe};

const RATE: u32 = 25;

/// Half a minute with a tone, a key frame every ten seconds.
fn film() -> Option<PathBuf> {
    h264_encoder()?;
    let picture = h264().size(640, 360).rate(25, 1).seconds(31.0).gop(250).bframes(2);
    Clip::new().video(picture).audio(audio("aac").rate(48_000).seconds(31.0)).make("vod.mkv")
}

fn config() -> Config {
    Config::default()
        .with("stream.segment_duration", "2s")
        .with("stream.max_sessions", 2)
        .with("log.level", "debug")
}

struct Stage {
    node: Node,
    name: String,
}

fn stage(config: &Config) -> Option<Stage> {
    let film = film()?;
    let node = Node::start(config);
    let name = node.add(&film);
    Some(Stage { node, name })
}

impl Stage {
    fn path(&self, below: &str) -> String {
        format!("/vod/media/{}/{below}", self.name)
    }

    fn get(&self, below: &str) -> Answer {
        self.node.get(&self.path(below))
    }

    fn master(&self) -> MasterPlaylist {
        match m3u8_rs::parse_playlist_res(&self.get("master.m3u8").expect(200).body) {
            Ok(Playlist::MasterPlaylist(master)) => master,
            other => panic!("no master playlist: {other:?}"),
        }
    }

    fn media(&self, below: &str) -> MediaPlaylist {
        match m3u8_rs::parse_playlist_res(&self.get(below).expect(200).body) {
            Ok(Playlist::MediaPlaylist(media)) => media,
            other => panic!("no media playlist: {other:?}"),
        }
    }

    /// The lowest rung, which is made quickest.
    fn lowest(&self) -> String {
        let lowest = self.master().variants.into_iter().min_by_key(|v| v.bandwidth).expect("a variant");
        lowest.uri.strip_suffix("/index.m3u8").expect("a playlist in a folder").to_owned()
    }

    /// How often a run has begun.
    fn runs(&self) -> usize {
        self.node.said_about("starts at segment").len()
    }

    fn is_at_rest(&self) -> bool {
        self.node.codec_threads().is_empty()
    }

    /// The runs that were alive at one instant. A list of threads is read one after another, while some
    /// end and others begin: what two lists hold that follow each other was there between them.
    fn runs_alive(&self) -> BTreeSet<String> {
        let listed = || -> BTreeSet<String> {
            let names = self.node.codec_threads();
            names.iter().filter_map(|name| name.split('-').nth(1).map(str::to_owned)).collect()
        };
        let before = listed();
        before.intersection(&listed()).cloned().collect()
    }
}

/// The order of a deck that was shuffled, the same each time.
fn shuffled(count: u64) -> Vec<u64> {
    let mut order: Vec<u64> = (0..count).collect();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for at in (1..order.len()).rev() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        order.swap(at, (state >> 33) as usize % (at + 1));
    }
    order
}

#[test]
fn the_playlists_are_whole_and_true_before_anything_is_encoded() {
    let Some(at) = stage(&config()) else { return };
    let master = at.master();
    assert!(master.independent_segments);
    assert!(master.variants.len() >= 2, "a ladder: {:?}", master.variants);
    for variant in &master.variants {
        let codecs = variant.codecs.as_deref().unwrap_or_default();
        assert!(codecs.starts_with("avc1.") && codecs.ends_with(",mp4a.40.2"), "{codecs}");
        assert!(variant.average_bandwidth.is_some_and(|average| average <= variant.bandwidth));
        assert_eq!(variant.frame_rate, Some(25.0));
        let media = at.media(&variant.uri);
        assert!(media.end_list && media.media_sequence == 0);
        assert_eq!(media.segments.len(), 16, "31 s in pieces of 2 s, the last one short");
        let total: f64 = media.segments.iter().map(|s| f64::from(s.duration)).sum();
        assert!((total - 31.0).abs() < 0.05, "{total}");
    }
    assert_eq!(at.runs(), 0, "nobody has asked for a segment");
    until(LIMIT, "what opened the file has ended", || at.is_at_rest().then_some(()));
    let info = at.get("info.json").expect(200).json();
    assert_eq!(info["segments"], 16);
    assert_eq!(info["source"]["video"]["codec"], "h264");
}

/// Each segment is read as it grows, over a connection of its own that closes with its last byte, and the next is
/// asked for at that moment: one viewer, and one run.
#[test]
fn who_asks_for_the_next_segment_the_moment_one_ends_stays_with_the_run() {
    let Some(at) = stage(&config().with("stream.read_ahead", 4)) else { return };
    let lowest = at.lowest();
    for n in 0..16 {
        at.get(&format!("{lowest}/{n}.ts")).expect(200);
    }
    assert_eq!(at.runs(), 1, "{:?}", at.node.said_about("starts at segment"));
}

/// Fetches all segments of a rendition in the given order and puts them together in their own.
fn fetch(at: &Stage, rendition: &str, order: &[u64], extension: &str) -> BTreeMap<u64, Vec<u8>> {
    let fetch = |n: &u64| (*n, at.get(&format!("{rendition}/{n}.{extension}")).expect(200).body.to_vec());
    order.iter().map(fetch).collect()
}

fn written(folder: &Path, name: &str, parts: impl IntoIterator<Item = Vec<u8>>) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, parts.into_iter().flatten().collect::<Vec<u8>>()).expect("a file");
    path
}

/// What the judge sees: every picture once, in its place, and sound without a hole.
fn check_whole(path: &Path, seconds: u32, offset: f64) {
    let pictures = probe::packets(path, "v:0");
    assert_eq!(pictures.len() as u32, seconds * RATE, "pictures");
    let (num, den) = probe::fraction(&probe::stream(path, "video")["time_base"]);
    let ticks = |n: u32| ((f64::from(n) / f64::from(RATE) + offset) * den as f64 / num as f64).round() as i64;
    let times: BTreeSet<i64> = pictures.iter().map(|p| p.pts).collect();
    let wanted: BTreeSet<i64> = (0..seconds * RATE).map(ticks).collect();
    assert_eq!(times, wanted, "the times of the pictures");
    assert!(pictures.windows(2).all(|pair| pair[0].dts < pair[1].dts), "decode times rise");
    let sound = probe::packets(path, "a:0");
    let (num, den) = probe::fraction(&probe::stream(path, "audio")["time_base"]);
    let step = 1024.0 / 48_000.0 * den as f64 / num as f64;
    for pair in sound.windows(2) {
        let gap = (pair[1].pts - pair[0].pts) as f64;
        assert!((gap - step).abs() < 2.0, "sound from {} to {}", pair[0].pts, pair[1].pts);
    }
    assert_eq!(probe::complaints(path), "");
}

#[test]
fn in_any_order_the_segments_are_those_of_one_run() {
    let Some(at) = stage(&config()) else { return };
    let rendition = at.lowest();
    let parts = fetch(&at, &rendition, &shuffled(16), "ts");
    let folder = tempfile::tempdir().expect("a folder");
    let whole = written(folder.path(), "whole.ts", parts.into_values());
    check_whole(&whole, 31, 10.0);
    assert_eq!(probe::frame_count(&whole), 31 * u64::from(RATE), "decoded pictures");
    assert!(at.runs() > 1, "it did take several runs");
}

#[test]
fn in_any_order_in_fmp4_too() {
    let Some(at) = stage(&config().with("stream.segment_type", "fmp4")) else { return };
    let rendition = at.lowest();
    let init = at.get(&format!("{rendition}/init.mp4")).expect(200);
    assert_eq!(init.header("content-type"), Some("video/mp4"));
    assert_eq!(at.runs(), 0, "an init segment needs no run");
    let parts = fetch(&at, &rendition, &shuffled(16), "m4s");
    let folder = tempfile::tempdir().expect("a folder");
    let whole =
        written(folder.path(), "whole.mp4", [init.body.to_vec()].into_iter().chain(parts.into_values()));
    assert_eq!(probe::frame_count(&whole), 31 * u64::from(RATE), "decoded pictures");
    assert_eq!(probe::complaints(&whole), "");
    assert_eq!(at.get(&format!("{rendition}/init.mp4")).expect(200).body, init.body);
}

/// The same request, many times at once.
fn at_once(at: &Stage, below: &str, count: usize) -> Vec<(u16, Vec<u8>)> {
    let url = at.node.url(&at.path(below));
    runtime().block_on(async {
        let calls = (0..count).map(|_| {
            let (client, url) = (support::node::client(), url.clone());
            tokio::spawn(async move {
                let answer = client.get(url).send().await.expect("an answer");
                (answer.status().as_u16(), answer.bytes().await.expect("its body").to_vec())
            })
        });
        let calls: Vec<_> = calls.collect();
        let mut answers = Vec::new();
        for call in calls {
            answers.push(call.await.expect("a call"));
        }
        answers
    })
}

#[test]
fn ten_requests_for_one_segment_are_one_run() {
    let Some(at) = stage(&config()) else { return };
    let rendition = at.lowest();
    let answers = at_once(&at, &format!("{rendition}/5.ts"), 10);
    assert_eq!(at.runs(), 1);
    for (status, body) in &answers {
        assert_eq!(*status, 200);
        assert!(!body.is_empty() && *body == answers[0].1, "the same bytes for all");
    }
    let again = at.get(&format!("{rendition}/5.ts")).expect(200);
    assert_eq!(again.body.to_vec(), answers[0].1, "what was sent while it grew is what is kept");
    assert_eq!(again.header("content-length"), Some(again.body.len().to_string().as_str()));
}

#[test]
fn a_run_goes_ahead_of_its_viewer_rests_and_ends_when_nobody_comes() {
    let Some(at) = stage(&config().with("stream.read_ahead", 3).with("stream.idle_timeout", "2s")) else {
        return;
    };
    let rendition = at.lowest();
    at.get(&format!("{rendition}/0.ts")).expect(200);
    let resting = || at.node.get("/metrics").expect(200).text();
    until(LIMIT, "it rests", || resting().contains("sprocket_streams_resting 1").then_some(()));
    assert!(!at.is_at_rest(), "its codecs stay open");
    for n in 1..=3 {
        at.get(&format!("{rendition}/{n}.ts")).expect(200);
    }
    assert_eq!(at.runs(), 1, "the segments ahead were there, and the run goes on");
    until(LIMIT, "the viewer has gone", || at.is_at_rest().then_some(()));
}

#[test]
fn a_seek_storm_leaves_one_run_at_its_last_target() {
    let Some(at) = stage(&config().with("stream.max_sessions", 4)) else { return };
    let rendition = at.lowest();
    let targets: Vec<u64> = shuffled(16).into_iter().chain([14, 2, 11, 6]).collect();
    let (url, path) = (at.node.url(""), at.path(""));
    let most = runtime().block_on(async {
        let mut calls = Vec::new();
        let mut most = 0;
        for n in &targets {
            // As one player does it: over a connection of its own, given up when the next one begins.
            let (client, url) = (support::node::client(), format!("{url}{path}{rendition}/{n}.ts"));
            calls
                .push(tokio::spawn(async move { client.get(url).send().await.map(|a| a.status().as_u16()) }));
            for _ in 0..5 {
                tokio::time::sleep(Duration::from_millis(20)).await;
                let runs = at.runs_alive();
                most = most.max(runs.len());
            }
        }
        let last = calls.pop().expect("the last one");
        assert_eq!(last.await.expect("a call").expect("an answer"), 200, "the last target is served");
        for call in calls {
            let status = call.await.expect("a call").expect("an answer");
            assert!(status == 200 || status == 503, "{status}");
        }
        most
    });
    assert!(most <= 2, "{most} producers at once");
}

#[test]
fn what_is_not_there_is_said_so() {
    let Some(at) = stage(&config()) else { return };
    let rendition = at.lowest();
    for below in [format!("{rendition}/16.ts"), format!("{rendition}/0.m4s"), format!("{rendition}/00.ts")] {
        assert_eq!(at.get(&below).status, 404, "{below}");
    }
    at.get("900p/0.ts").refused(404, "no_such_rendition");
    at.node.get("/vod/media/no.mkv/master.m3u8").refused(404, "not_found");
    at.node.get("/vod/nowhere/vod.mkv/master.m3u8").refused(404, "root_not_found");
    at.node.get("/vod/media/..%2f..%2fetc/passwd/master.m3u8").refused(404, "path_escapes");
    assert_eq!(at.runs(), 0);
}

#[test]
fn a_replaced_file_never_plays_old_segments() {
    let Some(at) = stage(&config()) else { return };
    let rendition = at.lowest();
    let media = at.media(&format!("{rendition}/index.m3u8"));
    let old = format!("{rendition}/{}", media.segments[3].uri);
    assert!(old.contains("?v="), "{old}");
    let before = at.get(&old).expect(200);
    assert!(before.header("cache-control").is_some_and(|words| words.contains("immutable")));
    // Another film of the same name.
    let picture = h264().size(320, 180).rate(25, 1).seconds(20.0).gop(50);
    let Some(other) = Clip::new().video(picture).audio(audio("aac").seconds(20.0)).make("other.mkv") else {
        return;
    };
    let place = at.node.media().join(&at.name);
    std::fs::remove_file(&place).expect("the old one goes");
    std::fs::copy(other, &place).expect("the new one comes");
    until(LIMIT, "the new file is seen", || (at.get(&old).status == 410).then_some(()));
    at.get(&old).refused(410, "source_changed");
    let lowest = at.lowest();
    assert_eq!(at.media(&format!("{lowest}/index.m3u8")).segments.len(), 10);
    let after = at.get(&format!("{lowest}/3.ts")).expect(200);
    assert_ne!(after.body, before.body);
}

#[test]
fn ranges_and_heads_of_a_segment_that_is_made() {
    let Some(at) = stage(&config()) else { return };
    let segment = format!("{}/2.ts", at.lowest());
    let whole = at.get(&segment).expect(200);
    let client = support::node::client();
    let path = at.path(&segment);
    let part =
        Answer::of("GET", &path, client.get(at.node.url(&path)).header("range", "bytes=188-375")).expect(206);
    assert_eq!(part.body[..], whole.body[188..376]);
    let head = Answer::of("HEAD", &path, client.head(at.node.url(&path))).expect(200);
    assert_eq!(head.header("content-length"), Some(whole.body.len().to_string().as_str()));
    assert_eq!(head.header("content-type"), Some("video/mp2t"));
    let etag = head.header("etag").expect("a tag").to_owned();
    let same = Answer::of("GET", &path, client.get(at.node.url(&path)).header("if-none-match", &etag));
    assert_eq!(same.status, 304);
}

#[test]
fn a_killed_node_leaves_nothing_that_the_next_one_does_not_remove() {
    let Some(mut at) = stage(&config().with("stream.cache_memory_bytes", "1KiB")) else { return };
    let rendition = at.lowest();
    for n in 0..4 {
        at.get(&format!("{rendition}/{n}.ts")).expect(200);
    }
    let streams = at.node.media().with_file_name("state").join("streams");
    let count = || std::fs::read_dir(&streams).map_or(0, Iterator::count);
    until(LIMIT, "segments lie on the disk", || (count() > 0).then_some(()));
    std::fs::write(streams.join("notes.txt"), "mine").expect("a foreign file");
    at.node.kill();
    at.node.restart();
    assert_eq!(count(), 1, "the foreign file alone");
    at.get(&format!("{rendition}/1.ts")).expect(200);
}

#[test]
fn the_sources_own_streams_copied_are_those_of_the_source() {
    let Some(at) = stage(&config()) else { return };
    let media = at.media("direct.m3u8");
    assert!(media.end_list);
    let parts = media.segments.iter().map(|s| at.get(&s.uri).expect(200).body.to_vec());
    let folder = tempfile::tempdir().expect("a folder");
    let whole = written(folder.path(), "direct.ts", parts.collect::<Vec<_>>());
    assert_eq!(probe::frame_count(&whole), 31 * u64::from(RATE));
    assert_eq!(probe::complaints(&whole), "");
    let source = film().expect("it was there");
    assert_eq!(probe::picture_sums(&whole), probe::picture_sums(&source), "decoded, picture by picture");
}

#[test]
fn the_rules_of_televisions_are_kept() {
    for kind in ["ts", "fmp4"] {
        let Some(at) = stage(&config().with("stream.segment_type", kind)) else { return };
        support::conformance::assert_kept(&at.node.url(&at.path("master.m3u8")));
        support::conformance::assert_kept(&at.node.url(&at.path("direct.m3u8")));
    }
}

#[test]
fn a_node_with_viewers_stops_in_time() {
    let Some(mut at) = stage(&config()) else { return };
    let rendition = at.lowest();
    at.get(&format!("{rendition}/0.ts")).expect(200);
    at.get(&format!("{rendition}/9.ts")).expect(200);
    at.node.terminate();
}
