//! A hundred seeks about a film, then every segment in random order: what a viewer has in the end is the
//! source, picture for picture and in step with its sound, whatever runs made the segments.
//!
//! Held against the source's own timeline, in the three ways in which a node makes segments: all encoded;
//! the picture copied and the sound encoded; both copied. The film flashes and beeps once a second.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;
use support::clips::{Clip, audio, h264};
use support::node::{Config, Node, client, runtime};
use support::{h264_encoder, probe};

const SECONDS: u32 = 61;
const RATE: u32 = 25;
const SAMPLE_RATE: usize = 48_000;
const SEEKS: u64 = 100;
/// Where segments of MPEG-TS count from, seconds.
const OFFSET: u32 = 10;

/// Numbers that look random, the same each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % most
    }

    fn shuffled<T>(&mut self, mut all: Vec<T>) -> Vec<T> {
        for at in (1..all.len()).rev() {
            let other = self.below(at + 1);
            all.swap(at, other);
        }
        all
    }
}

fn film(sound: &'static str, name: &str) -> Option<PathBuf> {
    h264_encoder()?;
    let picture = h264().size(320, 180).rate(25, 1).seconds(f64::from(SECONDS)).gop(50).bframes(2).flashing();
    let sound = audio(sound).rate(48_000).seconds(f64::from(SECONDS)).beeping().frequency(1000);
    Clip::new().video(picture).audio(sound).make(name)
}

struct Stage {
    node: Node,
    /// The addresses of all segments, in their order.
    segments: Vec<String>,
}

/// A node that keeps next to nothing: what was made for one seek is made again for another.
fn stage(film: &Path, playlist: impl Fn(&Node, &str) -> String) -> Stage {
    let config = Config::default()
        .with("stream.segment_duration", "2s")
        .with("stream.read_ahead", 1)
        .with("stream.cache_memory_bytes", "200KiB")
        .with("stream.cache_max_bytes", "400KiB")
        .with("log.level", "debug");
    let node = Node::start(&config);
    let base = format!("/vod/media/{}/", node.add(film));
    let playlist = format!("{base}{}", playlist(&node, &base));
    let text = node.get(&playlist).expect(200).text();
    let folder = playlist.rsplit_once('/').expect("a folder").0;
    let uris = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    let segments = uris.map(|uri| format!("{folder}/{uri}")).collect();
    Stage { node, segments }
}

fn lowest(node: &Node, base: &str) -> String {
    let master = node.get(&format!("{base}master.m3u8")).expect(200).text();
    master.lines().rfind(|line| !line.starts_with('#')).expect("a rendition").to_owned()
}

impl Stage {
    /// Seeks about; every fourth time the viewer goes elsewhere before anything has come.
    fn seek_about(&self, dice: &mut Dice) {
        for seek in 0..SEEKS {
            let path = &self.segments[dice.below(self.segments.len())];
            if seek % 4 == 3 {
                let patience = Duration::from_millis(5 + dice.below(60) as u64);
                let url = self.node.url(path);
                let _ = runtime()
                    .block_on(async { tokio::time::timeout(patience, client().get(url).send()).await });
            } else {
                assert!(!self.node.get(path).expect(200).body.is_empty());
            }
        }
    }

    /// All segments, fetched in any order, put together in their own.
    fn fetch_all(&self, dice: &mut Dice, folder: &Path) -> PathBuf {
        let order = dice.shuffled((0..self.segments.len()).collect());
        let fetch = |n: usize| (n, self.node.get(&self.segments[n]).expect(200).body.to_vec());
        let parts: BTreeMap<usize, Vec<u8>> = order.into_iter().map(fetch).collect();
        let path = folder.join("whole.ts");
        std::fs::write(&path, parts.into_values().flatten().collect::<Vec<u8>>()).expect("a file");
        path
    }
}

/// Every picture once, in its place.
fn check_pictures(whole: &Path) {
    let pictures = probe::packets(whole, "v:0");
    let tick = |n: u32| i64::from((n * 90_000).div_ceil(RATE) + OFFSET * 90_000);
    let times: Vec<i64> = pictures.iter().map(|p| p.pts).collect();
    assert_eq!(times.len() as u32, SECONDS * RATE);
    let (times, wanted) = (BTreeSet::from_iter(times), BTreeSet::from_iter((0..SECONDS * RATE).map(tick)));
    assert_eq!(times, wanted, "the times of the pictures");
    assert!(pictures.windows(2).all(|pair| pair[0].dts < pair[1].dts), "decode times rise");
    assert_eq!(probe::complaints(whole), "");
}

/// The decoded sound of the left channel from title time 0 on, without a hole or an overlap before.
fn left_channel(whole: &Path) -> Vec<i16> {
    let packets = probe::packets(whole, "a:0");
    let step = 90_000 * 1024 / SAMPLE_RATE as i64;
    for pair in packets.windows(2) {
        let gap = pair[1].pts - pair[0].pts;
        assert!((gap - step).abs() <= 1, "sound from {} to {}", pair[0].pts, pair[1].pts);
    }
    let early = i64::from(OFFSET) * 90_000 - packets.first().expect("sound").pts;
    let before = (early * SAMPLE_RATE as i64 + 45_000) / 90_000;
    let left: Vec<i16> = probe::pcm(whole).chunks_exact(2).map(|pair| pair[0]).collect();
    left[usize::try_from(before).expect("sound from the beginning on")..].to_vec()
}

/// The samples at which a tone begins.
fn onsets(left: &[i16]) -> Vec<usize> {
    let quiet = SAMPLE_RATE / 2;
    let (mut found, mut last_loud) = (Vec::new(), None);
    for (n, _) in left.iter().enumerate().filter(|(_, sample)| sample.unsigned_abs() > 6500) {
        if last_loud.is_none_or(|last| n - last > quiet) {
            found.push(n);
        }
        last_loud = Some(n);
    }
    found
}

/// Flashes and beeps stand at each second of the title, each within 20 ms.
fn check_in_step(whole: &Path) {
    let bright = probe::brightness(whole);
    let flashes: Vec<usize> = (0..bright.len()).filter(|n| bright[*n] > 128).collect();
    let wanted: Vec<usize> = (0..SECONDS as usize).map(|second| second * RATE as usize).collect();
    assert_eq!(flashes, wanted, "the pictures that flash");
    let beeps = onsets(&left_channel(whole));
    assert_eq!(beeps.len(), SECONDS as usize, "{beeps:?}");
    for (second, at) in beeps.into_iter().enumerate() {
        let late = at.abs_diff(second * SAMPLE_RATE);
        assert!(late <= SAMPLE_RATE / 50, "the beep of second {second} is {late} samples off");
    }
}

fn check(source: &Path, playlist: impl Fn(&Node, &str) -> String) -> (Stage, PathBuf, tempfile::TempDir) {
    let at = stage(source, playlist);
    let (mut dice, folder) = (Dice(7), tempfile::tempdir().expect("a folder"));
    at.seek_about(&mut dice);
    let whole = at.fetch_all(&mut dice, folder.path());
    check_pictures(&whole);
    check_in_step(&whole);
    let runs = at.node.said_about("starts at segment").len();
    assert!(runs > 20, "{runs} runs made this");
    (at, whole, folder)
}

#[test]
fn encoded() {
    let Some(source) = film("aac", "seeks.mkv") else { return };
    check(&source, lowest);
}

#[test]
fn picture_copied_and_sound_encoded() {
    let Some(source) = film("flac", "seeks-flac.mkv") else { return };
    let (at, whole, _folder) = check(&source, |_, _| "direct.m3u8".into());
    let info = at.node.get(&at.segments[0].replace("direct/0.ts", "info.json")).expect(200).json();
    assert_eq!(info["direct"]["audio"], "encoded", "{info:#}");
    assert_eq!(probe::picture_sums(&whole), probe::picture_sums(&source), "decoded, picture by picture");
}

#[test]
fn copied() {
    let Some(source) = film("aac", "seeks.mkv") else { return };
    let (_at, whole, _folder) = check(&source, |_, _| "direct.m3u8".into());
    assert_eq!(probe::picture_sums(&whole), probe::picture_sums(&source), "decoded, picture by picture");
    assert_eq!(probe::sound_packet_sums(&whole), probe::sound_packet_sums(&source), "packet by packet");
}
