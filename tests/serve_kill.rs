//! `kill -9` at random moments, with jobs queued and running: what was accepted ends, each job with one
//! output that is whole, as if nothing had happened.
//!
//! `SPROCKET_KILL_ROUNDS` sets how often the node is killed (50 in `make soak`), `SPROCKET_KILL_SEED` the
//! moments, as a failed run prints them.

mod support;

use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;
use support::hls::{Hls, files_below};
use support::node::films::{film, picture};
use support::node::{Config, Node, pause, setting, until};
use support::{h264_encoder, probe};

/// What the film has: 24 s, six segments.
const FRAMES: u64 = 600;
/// Far above what all jobs take that one run submits.
const LIMIT: Duration = Duration::from_secs(600);

/// Lines of the outputs: VP9 takes much longer than H.264.
fn lines() -> u32 {
    if h264_encoder().is_some() { 180 } else { 90 }
}

/// One way to make an output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Ts,
    Fmp4,
    Mp4,
}

impl Kind {
    fn all() -> Vec<Self> {
        let ts = h264_encoder().map(|_| Self::Ts);
        ts.into_iter().chain([Self::Fmp4, Self::Mp4]).collect()
    }

    fn target(self, id: &str) -> String {
        if self == Self::Mp4 { format!("{id}.mp4") } else { id.to_owned() }
    }

    /// The place of a segment in the output.
    fn segment(self, index: usize) -> String {
        format!("{}p/{index}.{}", lines(), if self == Self::Ts { "ts" } else { "m4s" })
    }

    fn document(self, id: &str, input: &str, overwrite: bool) -> Value {
        let mut rendition = picture(lines());
        if h264_encoder() == Some("libx264") {
            // Slow enough that most kills find it in the middle, with a short look ahead, so that
            // segments come one by one.
            rendition["preset"] = "faster".into();
        }
        json!({
            "id": id, "input": format!("nas://media/{input}"), "output": format!("nas://out/{}", self.target(id)),
            "format": if self == Self::Mp4 { "mp4" } else { "hls" },
            "hls": {"segment_type": if self == Self::Ts { "ts" } else { "fmp4" }},
            "renditions": [rendition], "overwrite": overwrite,
        })
    }
}

/// The moments of the kills: the same for the same seed, so that a failed run can be done again.
struct Moments(u64);

impl Moments {
    fn seeded() -> Self {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock");
        let seed = setting("SPROCKET_KILL_SEED", u64::from(now.subsec_nanos()) + 1);
        println!("SPROCKET_KILL_SEED={seed}");
        Self(seed)
    }

    /// xorshift64*: as random as this needs.
    fn below(&mut self, most: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) % most
    }

    fn kind(&mut self) -> Kind {
        let kinds = Kind::all();
        kinds[self.below(kinds.len() as u64) as usize]
    }
}

/// What a job was asked to be.
struct Asked {
    kind: Kind,
    document: Value,
    /// It replaces an output of an earlier time.
    replaces: bool,
}

struct Run {
    node: Node,
    input: String,
    asked: BTreeMap<String, Asked>,
    /// The ids that were answered 2xx: those the node must know after each kill.
    promised: BTreeSet<String>,
    /// Segments that each job had on the disk at the last kill: one that goes on keeps them.
    kept: BTreeMap<String, Vec<Vec<u8>>>,
}

#[test]
fn nothing_is_lost_doubled_or_half_done_however_often_the_node_is_killed() {
    let Some(film) = film(180, 24) else { return };
    let node = Node::start(
        &Config::default().with("limits.max_concurrent_jobs", 2).with("limits.max_queued_jobs", 500),
    );
    let input = node.add(&film);
    let (mut run, mut moments) = (Run::new(node, input), Moments::seeded());
    let whole: BTreeMap<Kind, Facts> =
        Kind::all().into_iter().map(|kind| (kind, run.undisturbed(kind))).collect();
    let rounds = setting("SPROCKET_KILL_ROUNDS", 5);
    for round in 0..rounds {
        // One replaces what lies there; the other comes so late that it is often still in the queue.
        run.submit_one(&format!("early-{round}"), moments.kind(), round % 2 == 0);
        pause(Duration::from_millis(moments.below(2500)));
        run.submit_one(&format!("late-{round}"), moments.kind(), false);
        pause(Duration::from_millis(moments.below(100)));
        run.node.kill();
        run.note_segments();
        run.node.restart();
        run.all_are_known(round);
    }
    run.submit_again();
    for (id, asked) in &run.asked {
        let job = until(LIMIT, &format!("{id} ends"), || run.has_ended(id));
        assert_eq!(job["state"], "succeeded", "{job:#}");
        assert_eq!(&Facts::of(asked.kind, &run.place(id)), &whole[&asked.kind], "{id}: {job:#}");
    }
    let attempts = |id: &String| run.node.job(id)["attempts"].as_u64().expect("a number");
    let interruptions: u64 = run.asked.keys().map(|id| attempts(id) - 1).sum();
    let (jobs, kept) = (run.asked.len(), run.kept.values().map(Vec::len).sum::<usize>());
    println!("{rounds} kills: {jobs} jobs, {interruptions} interruptions, {kept} segments kept");
    assert!(interruptions > 0, "no kill hit a running job: this shows nothing");
    run.each_has_one_output();
    run.kept_segments_are_the_same();
}

impl Run {
    fn new(node: Node, input: String) -> Self {
        Self { node, input, asked: BTreeMap::new(), promised: BTreeSet::new(), kept: BTreeMap::new() }
    }

    fn place(&self, id: &str) -> PathBuf {
        self.node.output().join(self.asked[id].kind.target(id))
    }

    /// What an undisturbed run makes. Its output stays: later jobs replace copies of it.
    fn undisturbed(&mut self, kind: Kind) -> Facts {
        let id = format!("whole-{kind:?}");
        self.submit_one(&id, kind, false);
        self.node.succeeded(&id);
        Facts::of(kind, &self.place(&id))
    }

    fn submit_one(&mut self, id: &str, kind: Kind, replaces: bool) {
        let document = kind.document(id, &self.input, replaces);
        if replaces {
            let from = self.node.output().join(kind.target(&format!("whole-{kind:?}")));
            copy(&from, &self.node.output().join(kind.target(id)));
        }
        let answer = self.node.submit(&document);
        assert!(matches!(answer.status, 200 | 202), "{id}: {} {}", answer.status, answer.text());
        self.promised.insert(id.to_owned());
        self.asked.insert(id.to_owned(), Asked { kind, document, replaces });
    }

    /// Every promised job is there, and has not come to a bad end.
    fn all_are_known(&self, round: u64) {
        for id in &self.promised {
            let job = self.node.job(id);
            let fine = matches!(job["state"].as_str(), Some("queued" | "running" | "succeeded"));
            assert!(fine, "round {round}: {job:#}");
        }
    }

    /// Who was told of a job asks again, and learns of the same one.
    fn submit_again(&self) {
        for (id, asked) in &self.asked {
            let again = self.node.submit(&asked.document).expect(200).json();
            assert_eq!(again["id"], id.as_str());
        }
    }

    fn has_ended(&self, id: &str) -> Option<Value> {
        let job = self.node.job(id);
        matches!(job["state"].as_str(), Some("succeeded" | "failed" | "cancelled")).then_some(job)
    }

    /// Remembers the segments that are on the disk for sure. The log names them; of those that are there
    /// in one row from the first on, all but the last are kept.
    fn note_segments(&mut self) {
        for (id, asked) in self.asked.iter().filter(|(_, asked)| asked.kind != Kind::Mp4) {
            let hidden = self.node.output().join(format!(".sprocket-tmp-job-{id}~"));
            let Ok(log) = fs::read_to_string(hidden.join(".done")) else { continue };
            let named = log.lines().filter(|line| line.contains("\"index\"")).count();
            let there = (0..named).map_while(|n| fs::read(hidden.join(asked.kind.segment(n))).ok());
            let mut there: Vec<Vec<u8>> = there.collect();
            there.pop();
            let before = self.kept.insert(id.clone(), there).unwrap_or_default();
            self.are_the_same(id, before.iter().zip(&self.kept[id]));
        }
    }

    fn kept_segments_are_the_same(&self) {
        for (id, kept) in &self.kept {
            let segment = |n: usize| self.place(id).join(self.asked[id].kind.segment(n));
            let now = (0..kept.len()).map(|n| fs::read(segment(n)).expect("a segment"));
            self.are_the_same(id, kept.iter().zip(&now.collect::<Vec<_>>()));
        }
    }

    fn are_the_same<'a>(&self, id: &str, pairs: impl Iterator<Item = (&'a Vec<u8>, &'a Vec<u8>)>) {
        let other = pairs.enumerate().find(|(_, (then, now))| then != now);
        let Some((n, _)) = other else { return };
        panic!(
            "segment {n} of {id} was on the disk, and was made again\n{}",
            self.node.said_about(id).join("\n")
        );
    }

    /// The output folder holds one output for each job, and nothing else.
    fn each_has_one_output(&self) {
        assert_eq!(self.node.hidden(), BTreeSet::new(), "left over");
        let entries = fs::read_dir(self.node.output()).expect("the output");
        let found: BTreeSet<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
        let wanted: BTreeSet<PathBuf> = self.asked.keys().map(|id| self.place(id)).collect();
        assert_eq!(found, wanted, "one output for each job");
        assert!(
            self.asked.values().any(|asked| asked.replaces),
            "nothing was replaced: this shows less than it should"
        );
    }
}

/// What has to be the same, however often the node was killed.
#[derive(Debug, PartialEq, Eq)]
struct Facts {
    frames: u64,
    complaints: String,
    /// Names of the files, and the playlists word for word.
    files: BTreeMap<PathBuf, Option<String>>,
    /// The init segment, to the byte.
    init: Option<Vec<u8>>,
}

impl Facts {
    fn of(kind: Kind, place: &Path) -> Self {
        if kind == Kind::Mp4 {
            let (frames, complaints) = (probe::frame_count(place), probe::complaints(place));
            return Self { frames, complaints, files: BTreeMap::new(), init: None };
        }
        let output = Hls::open(place);
        let frames = output.only().check_all((25, 1));
        assert_eq!(frames, FRAMES, "{}", place.display());
        let text =
            |path: &PathBuf| path.extension().is_some_and(|e| e == "m3u8").then(|| fs::read_to_string(path));
        let files = files_below(place).into_iter().map(|path| {
            let words = text(&path).transpose().expect("a playlist");
            // The bit rates of the multivariant playlist are measured, and an encoder that began anew differs.
            let words = words.filter(|_| path.file_name().is_some_and(|name| name == "index.m3u8"));
            (path.strip_prefix(place).expect("below it").to_owned(), words)
        });
        let init = fs::read(place.join(format!("{}p/init.mp4", lines()))).ok();
        assert_eq!(init.is_some(), kind == Kind::Fmp4);
        Self { frames, complaints: String::new(), files: files.collect(), init }
    }
}

fn copy(from: &Path, to: &Path) {
    if from.is_file() {
        fs::copy(from, to).expect("a copy");
        return;
    }
    for file in files_below(from) {
        let place = to.join(file.strip_prefix(from).expect("below it"));
        fs::create_dir_all(place.parent().expect("a folder")).expect("a folder");
        fs::copy(&file, &place).expect("a copy");
    }
}
