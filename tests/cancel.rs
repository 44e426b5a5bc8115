//! Cancelling leaves nothing behind, at whatever moment it comes.

mod support;

use sprocket::av::log::RunLog;
use sprocket::base::cancel::Cancel;
use sprocket::media::inspect::inspect;
use sprocket::media::pipeline::{self, Target};
use sprocket::media::plan::{Machine, Plan};
use sprocket::media::progress::Progress;
use sprocket::model::job::{RenditionWish, SegmentType, Wish};
use sprocket::model::timeline::Window;
use sprocket::store::hls_dir::HlsDir;
use std::sync::Arc;
use std::time::{Duration, Instant};
use support::clips::{Clip, audio, h264};

fn entries(folder: &str) -> usize {
    std::fs::read_dir(folder).map_or(0, Iterator::count)
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).unwrap_or(0)
}

/// `SPROCKET_CANCEL_CYCLES` sets how many (200 by hand; fewer in every run of the tests), and
/// `SPROCKET_TEST_FILM` the source; with `SPROCKET_CANCEL_FULL` the ladder begins at the source's size.
#[test]
fn start_and_cancel_at_any_moment_leaves_no_thread_descriptor_file_or_memory() {
    let cycles: u64 = std::env::var("SPROCKET_CANCEL_CYCLES").ok().and_then(|n| n.parse().ok()).unwrap_or(40);
    // As the program does at its start.
    sprocket::av::registry::settle_allocator();
    let full = std::env::var_os("SPROCKET_CANCEL_FULL").is_some();
    let made = || {
        Clip::new()
            .video(h264().size(640, 360).seconds(8.0))
            .audio(audio("aac").seconds(8.0))
            .make("cancel.mkv")
    };
    let Some(source) = std::env::var_os("SPROCKET_TEST_FILM").map(Into::into).or_else(made) else { return };
    if support::h264_encoder().is_none() {
        return support::run::skip("no H.264 encoder");
    }
    let facts = inspect(&source, &Cancel::new(), &RunLog::new(), Duration::from_secs(10)).expect("facts");
    let rung = |height: u32| RenditionWish::new(format!("{height}p"), height);
    let height = facts.video.as_ref().expect("a picture").height;
    // For a film of 1080 lines 720, 480 and 360, as the benchmark's ladder.
    let ladder = vec![rung(height * 2 / 3), rung(height * 4 / 9), rung(height / 3)];
    let ladder = if full { vec![rung(height), rung(height * 2 / 3), rung(height * 4 / 9)] } else { ladder };
    let wish = Wish { renditions: ladder, ..Wish::default() };
    let plan = Plan::new(source, facts, &wish, Machine { cores: 2 }, &Cancel::new()).expect("a plan");
    let folder = tempfile::tempdir().expect("a folder");
    // The made clip is done soon; a film's run is shown at its start and on its way.
    let longest_ms = if std::env::var_os("SPROCKET_TEST_FILM").is_some() { 3000 } else { 400 };
    let mut before = (0, 0);
    let (mut warm_kib, mut waits_ms) = (0, Vec::new());
    for cycle in 0..cycles {
        let names = plan.renditions.iter().map(|r| r.name.clone()).collect();
        let dir =
            HlsDir::create(&folder.path().join("out"), false, SegmentType::Ts, names).expect("a folder");
        let (cancel, progress, log) = (Cancel::new(), Arc::new(Progress::new()), RunLog::new());
        // Spread over the run, the same in every run of the test.
        let moment = Duration::from_millis(cycle * 7919 % longest_ms);
        let (target, trigger) = (Target::Segments(dir.sink()), cancel.clone());
        let canceller = std::thread::spawn(move || {
            trigger.wait_timeout(moment);
            trigger.cancel();
            Instant::now()
        });
        let result = pipeline::run(&plan, Window::ALL, target, &cancel, &progress, &log);
        let ended = Instant::now();
        let signalled = canceller.join().expect("the canceller");
        assert!(result.expect_err("a cancelled run is not done").is_cancelled());
        waits_ms.push(ended.saturating_duration_since(signalled).as_millis());
        drop(dir);
        assert_eq!(entries(&folder.path().to_string_lossy()), 0, "cycle {cycle} left a file");
        if cycle == 9 {
            before = (entries("/proc/self/task"), entries("/proc/self/fd"));
            warm_kib = resident_kib();
        }
    }
    // A reader thread may still be on its way out.
    let settled = (0..50).any(|_| {
        Cancel::new().wait_timeout(Duration::from_millis(20));
        (entries("/proc/self/task"), entries("/proc/self/fd")) <= before
    });
    assert!(
        settled,
        "threads and descriptors were {before:?}, now {:?}",
        (entries("/proc/self/task"), entries("/proc/self/fd"))
    );
    let now_kib = resident_kib();
    assert!(now_kib < warm_kib + warm_kib / 10 + 4_000, "memory grew from {warm_kib} to {now_kib} KiB");
    waits_ms.sort_unstable();
    println!(
        "{cycles} cycles: signal to end, p50 {} ms, p95 {} ms, max {} ms; {warm_kib} to {now_kib} KiB",
        waits_ms[waits_ms.len() / 2],
        waits_ms[waits_ms.len() * 95 / 100],
        waits_ms[waits_ms.len() - 1]
    );
}
