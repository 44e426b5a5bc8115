//! A job that was interrupted goes on at its first missing segment, and nobody can tell.

mod support;

use sprocket::av::log::RunLog;
use sprocket::base::cancel::Cancel;
use sprocket::base::error::Result;
use sprocket::hardware::inventory::Inventory;
use sprocket::media::plan::{Machine, Plan};
use sprocket::media::progress::Progress;
use sprocket::model::document::HardwareUse;
use sprocket::model::job::{Format, RenditionWish, SegmentType, Wish};
use sprocket::work::transcode::{Devices, Follower, Handles, Made, Order, transcode};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use support::clips::{Clip, audio, h264};
use support::hls::Hls;
use support::probe;

struct Node {
    goes_on: bool,
    asked: AtomicBool,
}

impl Follower for Node {
    fn planned(&self, _: &Plan) {}

    fn publishing(&self, identity: Option<sprocket::store::claim::Identity>) -> Result<()> {
        assert!(identity.is_some(), "there is something to publish");
        self.asked.store(true, Ordering::SeqCst);
        Ok(())
    }

    fn goes_on_later(&self) -> bool {
        self.goes_on
    }
}

struct Case {
    source: PathBuf,
    kind: SegmentType,
    heights: &'static [u32],
}

impl Case {
    fn run(&self, output: &Path, job: Option<&str>, cancel: &Cancel, goes_on: bool) -> Result<Made> {
        let wish = Wish {
            format: Format::Hls(self.kind),
            renditions: self.heights.iter().map(|h| RenditionWish::new(format!("{h}p"), *h)).collect(),
            ..Wish::default()
        };
        let order = Order {
            input: &self.source,
            output,
            overwrite: false,
            wish: &|_| wish.clone(),
            machine: Machine { cores: 2 },
            open_limit: Duration::from_secs(10),
            job,
            devices: Devices {
                inventory: &Inventory::default(),
                wish: HardwareUse::Forbid,
                may_fall_back: true,
            },
        };
        let progress = Arc::new(Progress::new());
        let node = Node { goes_on, asked: AtomicBool::new(false) };
        let made = transcode(&order, &Handles { cancel, progress: &progress, log: &RunLog::new() }, &node);
        assert_eq!(
            node.asked.load(Ordering::SeqCst),
            made.is_ok(),
            "asked before it is published, and only then"
        );
        made
    }

    /// Breaks a run off as soon as `segments` segments of the first rendition are on the disk.
    fn break_off(&self, output: &Path, segments: usize) {
        let cancel = Cancel::new();
        let temp = temp_of(output);
        let (trigger, folder) = (cancel.clone(), temp.join(format!("{}p", self.heights[0])));
        let watcher = std::thread::spawn(move || {
            for _ in 0..3000 {
                let there = fs::read_dir(&folder).map_or(0, Iterator::count);
                if there >= segments || trigger.wait_timeout(Duration::from_millis(10)) {
                    break;
                }
            }
            trigger.cancel();
        });
        let broken = self.run(output, Some("film-1"), &cancel, true);
        watcher.join().expect("the watcher");
        assert!(broken.expect_err("it was broken off").is_cancelled());
        assert!(!output.exists() && temp.join(".done").is_file(), "what there is of it is kept, hidden");
    }
}

fn temp_of(output: &Path) -> PathBuf {
    output.with_file_name(".sprocket-tmp-job-film-1~")
}

fn source(name: &str, seconds: f64) -> Option<PathBuf> {
    support::h264_encoder()?;
    let picture = h264().size(320, 180).rate(25, 1).seconds(seconds).gop(40).bframes(2);
    Clip::new().video(picture).audio(audio("aac").rate(48_000).seconds(seconds)).make(name)
}

fn names(folder: &Path) -> Vec<String> {
    let list = fs::read_dir(folder).expect("a folder");
    let mut names: Vec<_> =
        list.map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn goes_on_and_is_as_one_run(kind: SegmentType, name: &str) {
    let Some(source) = source(name, 41.0) else { return support::run::skip("no H.264 encoder") };
    let case = Case { source, kind, heights: &[180, 90] };
    let folder = tempfile::tempdir().expect("a folder");
    let (whole, resumed) = (folder.path().join("whole"), folder.path().join("resumed"));
    case.run(&whole, None, &Cancel::new(), false).expect("one run");
    case.break_off(&resumed, 4);
    // What a killed process leaves beside its last complete segment.
    fs::write(temp_of(&resumed).join("180p/99.ts"), b"torn").expect("written");
    fs::write(temp_of(&resumed).join("master.m3u8"), b"torn").expect("written");
    case.run(&resumed, Some("film-1"), &Cancel::new(), true).expect("it goes on");
    assert_eq!(names(folder.path()), ["resumed", "whole"], "nothing is left beside them");
    let (one, two) = (Hls::open(&whole), Hls::open(&resumed));
    assert_eq!(one.renditions.len(), 2);
    for rendition in one.renditions.iter().chain(&two.renditions) {
        assert_eq!(rendition.check_all((25, 1)), 1025);
    }
    for height in case.heights {
        let files = |root: &Path| names(&root.join(format!("{height}p")));
        assert_eq!(files(&whole), files(&resumed));
        let file = |root: &Path, name: &str| root.join(format!("{height}p")).join(name);
        if kind == SegmentType::Fmp4 {
            let init = |root: &Path| fs::read(file(root, "init.mp4")).expect("an init segment");
            assert_eq!(init(&whole), init(&resumed));
        }
        assert_eq!(
            fs::read_to_string(file(&whole, "index.m3u8")).expect("a playlist"),
            fs::read_to_string(file(&resumed, "index.m3u8")).expect("a playlist")
        );
        if kind == SegmentType::Ts {
            let times = |root: &Path| {
                let all = (0..11).map(|n| file(root, &format!("{n}.ts")));
                let packets = all.flat_map(|path| probe::packets(&path, "v"));
                packets.map(|p| (p.pts, p.dts)).collect::<Vec<_>>()
            };
            assert_eq!(times(&whole), times(&resumed));
        }
    }
}

#[test]
fn an_interrupted_job_goes_on_in_ts() {
    goes_on_and_is_as_one_run(SegmentType::Ts, "resume-ts.mkv");
}

#[test]
fn an_interrupted_job_goes_on_in_fmp4() {
    goes_on_and_is_as_one_run(SegmentType::Fmp4, "resume-fmp4.mkv");
}

#[test]
fn kept_segments_are_not_made_again_and_another_source_begins_anew() {
    let Some(first) = source("resume-a.mkv", 41.0) else { return support::run::skip("no H.264 encoder") };
    let folder = tempfile::tempdir().expect("a folder");
    let film = folder.path().join("film.mkv");
    fs::copy(&first, &film).expect("a copy");
    let case = Case { source: film.clone(), kind: SegmentType::Ts, heights: &[180] };
    let output = folder.path().join("out/film");
    case.break_off(&output, 4);
    let segment = temp_of(&output).join("180p/0.ts");
    let made = fs::metadata(&segment).expect("a segment").modified().expect("a time");
    case.break_off(&output, 7);
    assert_eq!(fs::metadata(&segment).expect("kept").modified().expect("a time"), made);
    fs::remove_file(&film).expect("removed");
    fs::copy(&first, &film).expect("another file of the same name and content");
    case.run(&output, Some("film-1"), &Cancel::new(), true).expect("done");
    let again = fs::metadata(output.join("180p/0.ts")).expect("published").modified().expect("a time");
    assert!(again > made, "made of another file, so made anew");
    assert_eq!(Hls::open(&output).only().check_all((25, 1)), 1025);
}

#[test]
fn a_job_that_does_not_go_on_leaves_nothing() {
    let Some(source) = source("resume-b.mkv", 21.0) else { return support::run::skip("no H.264 encoder") };
    let case = Case { source, kind: SegmentType::Ts, heights: &[180] };
    let folder = tempfile::tempdir().expect("a folder");
    let output = folder.path().join("film");
    case.break_off(&output, 2);
    let cancel = Cancel::new();
    cancel.cancel();
    assert!(case.run(&output, Some("film-1"), &cancel, false).expect_err("cancelled").is_cancelled());
    // It never got as far as its folder: removing what earlier runs left is a step of its own.
    assert!(sprocket::store::claim::discard("film-1", &output).expect("removed"));
    assert!(!sprocket::store::claim::discard("film-1", &output).expect("nothing there"));
    assert_eq!(names(folder.path()), Vec::<String>::new());
}
