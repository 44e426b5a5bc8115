//! A segment is a function of (source, rendition, index): whichever run makes it.
//!
//! One continuous run, single-segment windows in another order, and two halves are compared with
//! ffprobe and by decoding. `SPROCKET_TEST_FILM` names a film to use in place of the made clip.

mod support;

use bytes::Bytes;
use sprocket::av::log::RunLog;
use sprocket::base::cancel::Cancel;
use sprocket::base::error::Result;
use sprocket::media::describe::describe;
use sprocket::media::inspect::inspect;
use sprocket::media::pipeline::{self, LeadIn, Target};
use sprocket::media::plan::{Machine, Plan};
use sprocket::media::progress::Progress;
use sprocket::media::warm::Pool;
use sprocket::model::job::{Format, RateWish, RenditionWish, SegmentType, Wish};
use sprocket::model::segment::{Segment, SegmentSink};
use sprocket::model::timeline::Window;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use support::clips::{Clip, audio, h264};
use support::probe;

/// What was made, what is shown of the segments at work, and how much was shown in all.
#[derive(Default)]
struct Kept(Mutex<Made>, Mutex<BTreeMap<u64, Vec<u8>>>, AtomicUsize);

impl SegmentSink for Kept {
    fn init(&self, _: usize, _: &[String], data: &[u8]) -> Result<()> {
        self.0.lock().unwrap().0 = data.to_vec();
        Ok(())
    }

    fn part(&self, _: usize, index: u64, data: Bytes) -> Result<()> {
        self.2.fetch_add(data.len(), Ordering::Relaxed);
        self.1.lock().unwrap().entry(index).or_default().extend_from_slice(&data);
        Ok(())
    }

    fn segment(&self, segment: Segment) -> Result<()> {
        let index = segment.index;
        let shown = self.1.lock().unwrap().remove(&index).unwrap_or_default();
        let data = segment.data.clone().joined();
        assert!(data.starts_with(&shown), "segment {index} is not what was shown of it");
        assert!(self.0.lock().unwrap().1.insert(index, segment).is_none(), "segment {index} came twice");
        Ok(())
    }
}

type Made = (Vec<u8>, BTreeMap<u64, Segment>);

fn source() -> Option<PathBuf> {
    if let Some(film) = std::env::var_os("SPROCKET_TEST_FILM") {
        return Some(film.into());
    }
    let picture = h264().size(320, 180).rate(25, 1).seconds(13.0).gop(40).bframes(2);
    Clip::new()
        .video(picture)
        .audio(audio("aac").rate(48_000).seconds(13.0).frequency(440))
        .make("windows.mkv")
}

fn plan(source: &Path, kind: SegmentType) -> Option<Plan> {
    support::h264_encoder()?;
    let (cancel, log) = (Cancel::new(), RunLog::new());
    let facts = inspect(source, &cancel, &log, Duration::from_secs(10)).expect("a readable source");
    let rendition = RenditionWish::new("t", 180);
    let wish = Wish {
        format: Format::Hls(kind),
        renditions: vec![rendition],
        rate: RateWish { crf: Some(23.0), bitrate_bps: None },
        ..Wish::default()
    };
    Some(Plan::new(source.to_owned(), facts, &wish, Machine { cores: 2 }, &cancel).expect("a plan"))
}

fn make(plan: &Plan, windows: &[Window]) -> Made {
    let mut all = Made::default();
    for window in windows {
        let sink = Arc::new(Kept::default());
        let (cancel, progress, log) = (Cancel::new(), Arc::new(Progress::new()), RunLog::new());
        pipeline::run(plan, *window, Target::Segments(sink.clone()), &cancel, &progress, &log)
            .expect("a run");
        let mut made = sink.0.lock().unwrap();
        let shown = sink.2.load(Ordering::Relaxed);
        assert_eq!(
            shown > 0,
            plan.format == Format::Hls(SegmentType::Ts),
            "{shown} bytes shown as they grew"
        );
        assert!(all.0.is_empty() || all.0 == made.0, "the init segment differs between runs");
        all.0 = std::mem::take(&mut made.0);
        all.1.append(&mut made.1);
    }
    all
}

/// The same title made three ways.
fn three_ways(plan: &Plan) -> [Made; 3] {
    let count = plan.timeline.segment_count();
    assert!(count >= 3, "the source is too short to have joins");
    let single = |n: u64| Window::segments(n..n + 1);
    let scattered: Vec<Window> =
        (0..count).rev().step_by(2).chain((0..count - 1).rev().step_by(2)).map(single).collect();
    let half = count / 2;
    let halves = [Window::segments(half..count), Window::segments(0..half)];
    [make(plan, &[Window::ALL]), make(plan, &scattered), make(plan, &halves)]
}

fn write(folder: &Path, name: &str, made: &Made, only: Option<u64>) -> PathBuf {
    let path = folder.join(name);
    let chosen = made.1.values().filter(|s| only.is_none_or(|n| s.index == n));
    let bytes: Vec<u8> = made.0.iter().copied().chain(chosen.flat_map(|s| s.data.clone().joined())).collect();
    std::fs::write(&path, bytes).expect("a writable folder");
    path
}

fn times(path: &Path, select: &str) -> Vec<(i64, i64)> {
    probe::packets(path, select).iter().map(|p| (p.pts, p.dts)).collect()
}

#[test]
fn every_way_gives_the_same_times_frames_and_init() {
    let Some(source) = source() else { return };
    for kind in [SegmentType::Ts, SegmentType::Fmp4] {
        let Some(plan) = plan(&source, kind) else { return support::run::skip("no H.264 encoder") };
        let folder = tempfile::tempdir().expect("a folder");
        let [one, scattered, halves] = three_ways(&plan);
        for other in [&scattered, &halves] {
            assert_eq!(one.0, other.0, "the init segment is the same bytes");
            assert!(one.1.keys().eq(other.1.keys()));
            for (index, segment) in &one.1 {
                let twin = &other.1[index];
                assert_eq!((segment.frames, segment.start, segment.end), (twin.frames, twin.start, twin.end));
                let ours = write(folder.path(), "a.bin", &one, Some(*index));
                let theirs = write(folder.path(), "b.bin", other, Some(*index));
                for select in ["v:0", "a:0"] {
                    assert_eq!(
                        times(&ours, select),
                        times(&theirs, select),
                        "{kind:?} segment {index} {select}"
                    );
                }
            }
        }
    }
}

/// Grey pictures of the whole file in the given size.
fn pictures(path: &Path, size: (usize, usize)) -> Vec<Vec<u8>> {
    let scale = format!("scale={}:{}:flags=bicubic,format=gray", size.0, size.1);
    let decoded = Command::new("ffmpeg")
        .args(["-v", "error", "-i"])
        .arg(path)
        .args(["-map", "0:v:0", "-vf", &scale, "-fps_mode", "passthrough", "-f", "rawvideo", "-"])
        .output()
        .expect("ffmpeg, the oracle");
    decoded.stdout.chunks_exact(size.0 * size.1).map(<[u8]>::to_vec).collect()
}

fn psnr(a: &[u8], b: &[u8]) -> f64 {
    let sum: f64 = a.iter().zip(b).map(|(x, y)| (f64::from(*x) - f64::from(*y)).powi(2)).sum();
    if sum == 0.0 { 99.0 } else { 10.0 * (255.0 * 255.0 * a.len() as f64 / sum).log10() }
}

#[test]
fn pictures_around_every_join_are_as_good_as_in_one_run() {
    let Some(source) = source() else { return };
    let Some(plan) = plan(&source, SegmentType::Ts) else { return support::run::skip("no H.264 encoder") };
    let folder = tempfile::tempdir().expect("a folder");
    let settings = plan.renditions[0].encode.as_ref().expect("an encode");
    let size = (settings.width as usize, settings.height as usize);
    let [one, scattered, halves] = three_ways(&plan);
    let truth = pictures(&source, size);
    let continuous = pictures(&write(folder.path(), "one.ts", &one, None), size);
    for (name, made) in [("scattered.ts", &scattered), ("halves.ts", &halves)] {
        let joined = pictures(&write(folder.path(), name, made, None), size);
        assert_eq!(joined.len() as u64, plan.timeline.total_frames());
        for n in 1..plan.timeline.segment_count() {
            let cut = plan.timeline.segment_start(n) as usize;
            for frame in cut - 5..(cut + 5).min(joined.len()).min(truth.len()) {
                let (was, is) =
                    (psnr(&truth[frame], &continuous[frame]), psnr(&truth[frame], &joined[frame]));
                assert!(
                    is >= was - 0.3,
                    "{name}: frame {frame} at join {n}: {is:.2} dB, in one run {was:.2} dB"
                );
            }
        }
    }
}

/// When something is shown, and when something is decoded, whichever picture it is.
fn slots(path: &Path, select: &str) -> (Vec<i64>, Vec<i64>) {
    let (mut shown, decoded): (Vec<_>, Vec<_>) = times(path, select).into_iter().unzip();
    shown.sort_unstable();
    (shown, decoded)
}

/// As for a viewer who has sought to this segment.
fn made_for_a_viewer(plan: &Plan, first: u64) -> Made {
    let plan = plan.only(0, Machine { cores: 2 }).expect("a rendition");
    let sink = Arc::new(Kept::default());
    let (cancel, progress, log) = (Cancel::new(), Arc::new(Progress::new()), RunLog::new());
    let (pool, window) = (Pool::none(), Window::segments(first..plan.timeline.segment_count()));
    let start = pipeline::Start { pool: &pool, lead_in: LeadIn::Short };
    pipeline::run_from(start, &plan, window, Target::Segments(sink.clone()), &cancel, &progress, &log)
        .expect("a run");
    std::mem::take(&mut *sink.0.lock().unwrap())
}

#[test]
fn a_run_for_a_viewer_has_the_same_times_and_pictures_as_good() {
    let Some(source) = source() else { return };
    for kind in [SegmentType::Ts, SegmentType::Fmp4] {
        let Some(plan) = plan(&source, kind) else { return support::run::skip("no H.264 encoder") };
        let folder = tempfile::tempdir().expect("a folder");
        let settings = plan.renditions[0].encode.as_ref().expect("an encode");
        let size = (settings.width as usize, settings.height as usize);
        let (one, viewed) = (make(&plan, &[Window::ALL]), made_for_a_viewer(&plan, 1));
        assert_eq!(one.0, viewed.0, "the init segment is the same bytes");
        assert_eq!(viewed.1.len() as u64, plan.timeline.segment_count() - 1);
        let truth = pictures(&source, size);
        for (index, segment) in &viewed.1 {
            let twin = &one.1[index];
            assert_eq!((segment.frames, segment.start, segment.end), (twin.frames, twin.start, twin.end));
            let ours = write(folder.path(), "a.bin", &viewed, Some(*index));
            let theirs = write(folder.path(), "b.bin", &one, Some(*index));
            for select in ["v:0", "a:0"] {
                assert_eq!(slots(&ours, select), slots(&theirs, select), "{kind:?} segment {index} {select}");
            }
            let first = plan.timeline.segment_start(*index) as usize;
            let quality = |path: &Path| {
                let pictures = pictures(path, size);
                let each = pictures.iter().zip(&truth[first..]).map(|(is, truth)| psnr(truth, is));
                each.sum::<f64>() / pictures.len() as f64
            };
            let (is, was) = (quality(&ours), quality(&theirs));
            println!(
                "{kind:?} segment {index}: {is:.2} dB, in one run {was:.2} dB, {} and {} bytes",
                segment.data.len(),
                twin.data.len()
            );
            assert!(is >= was - 0.3, "{kind:?} segment {index}: {is:.2} dB, in one run {was:.2} dB");
        }
    }
}

/// Playlist and init segment are there before anything is encoded, and x264 reorders fewer pictures where it gets only
/// one or two, or makes each second one a key picture.
#[test]
fn what_is_promised_of_the_shortest_titles_is_what_is_made() {
    for (frames, rate) in [(1, (25, 1)), (2, (25, 1)), (3, (25, 1)), (8, (1, 2))] {
        let picture = h264().size(320, 180).rate(rate.0, rate.1).frames(frames);
        let Some(source) = Clip::new().video(picture).make(&format!("short-{frames}-{}.mkv", rate.1)) else {
            return;
        };
        let Some(plan) = plan(&source, SegmentType::Fmp4) else { return };
        let promised = describe(&plan, &Pool::none(), &Cancel::new(), &RunLog::new()).expect("a promise");
        let (init, segments) = made_for_a_viewer(&plan, 0);
        assert!(init == promised[0].init, "{frames} pictures at {rate:?}: the init segment is another");
        let count: u64 = segments.values().map(|segment| segment.frames).sum();
        assert_eq!(count, u64::from(frames), "at {rate:?}");
    }
}

/// Interleaved stereo samples of a file, from title time 0 on.
fn samples(path: &Path, skip: usize) -> Vec<f64> {
    let decoded = Command::new("ffmpeg")
        .args(["-v", "error", "-i"])
        .arg(path)
        .args(["-map", "0:a:0", "-ac", "2", "-f", "f32le", "-"])
        .output()
        .expect("ffmpeg, the oracle");
    let floats =
        decoded.stdout.chunks_exact(4).map(|b| f64::from(f32::from_le_bytes([b[0], b[1], b[2], b[3]])));
    floats.skip(2 * skip).collect()
}

/// Error energy of each block of 1024 sample times.
fn errors(truth: &[f64], is: &[f64]) -> Vec<f64> {
    let blocks = truth.chunks_exact(2048).zip(is.chunks_exact(2048));
    blocks.map(|(a, b)| a.iter().zip(b).map(|(x, y)| (x - y).powi(2)).sum::<f64>() / 2048.0).collect()
}

#[test]
fn sound_joins_to_the_sample_and_without_a_click() {
    const PRIMING: usize = 1024;
    let Some(source) = source() else { return };
    let Some(plan) = plan(&source, SegmentType::Ts) else { return support::run::skip("no H.264 encoder") };
    let folder = tempfile::tempdir().expect("a folder");
    let [one, scattered, halves] = three_ways(&plan);
    let truth = samples(&source, 0);
    let continuous = samples(&write(folder.path(), "one.ts", &one, None), PRIMING);
    // The encoder's own start and end are no joins.
    let base = errors(&truth, &continuous);
    let inner = &base[4..base.len().saturating_sub(4)];
    let worst = inner.iter().copied().fold(0.0, f64::max);
    for (name, made) in [("scattered.ts", &scattered), ("halves.ts", &halves)] {
        let joined = samples(&write(folder.path(), name, made, None), PRIMING);
        let wanted = (plan.timeline.duration().to_f64() * 48_000.0).round() as i64;
        let extra = joined.len() as i64 / 2 - wanted;
        assert!((0..1024).contains(&extra), "{name}: {extra} samples more than the title has");
        let errors = errors(&truth, &joined);
        for n in 1..plan.timeline.segment_count() {
            let block = (plan.timeline.segment_time(n).to_f64() * 48_000.0 / 1024.0) as usize;
            let around =
                errors.get(block - 4..(block + 6).min(errors.len().saturating_sub(4))).unwrap_or(&[]);
            let here = around.iter().copied().fold(0.0, f64::max);
            let (here_db, worst_db) = (10.0 * here.max(1e-15).log10(), 10.0 * worst.max(1e-15).log10());
            assert!(
                here_db <= worst_db + 3.0,
                "{name}: {here_db:.1} dB at join {n}, worst of one run {worst_db:.1} dB"
            );
        }
    }
}
