//! What direct play stands on: the index of key frames against a reading of every packet, sources that
//! stay open between runs, and the promise of how large a copied segment can be.

mod support;

use bytes::Bytes;
use sprocket::av::input::Input;
use sprocket::av::log::RunLog;
use sprocket::av::{Packet, Received};
use sprocket::base::cancel::Cancel;
use sprocket::base::error::Result;
use sprocket::base::time::Rational;
use sprocket::media::index::{self, Amount, Origin, Shelf, Sought, SourceIndex};
use sprocket::media::inspect::inspect;
use sprocket::media::pipeline::{self, LeadIn, Target};
use sprocket::media::plan::{Direct, Keys, Machine, Plan, direct, direct_cuts};
use sprocket::media::progress::Progress;
use sprocket::media::warm::{Lent, Pool};
use sprocket::model::job::{AudioChoice, Format, SegmentType, VideoChoice, Wish};
use sprocket::model::segment::{Segment, SegmentSink};
use sprocket::model::source::SourceFacts;
use sprocket::model::timeline::Window;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use support::clips::{Clip, Video, audio, h264, has_encoder, video};

const LIMIT: Duration = Duration::from_secs(15);
const TWO: Rational = Rational::from_int(2);

fn facts(path: &Path) -> SourceFacts {
    inspect(path, &Cancel::new(), &RunLog::new(), LIMIT).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn find(path: &Path, facts: &SourceFacts, shelf: Option<&Shelf>) -> Result<SourceIndex> {
    let cancel = Cancel::new();
    index::find(&Sought { path, facts, cancel: &cancel }, &Pool::none(), shelf)
}

/// Key frames and amounts of picture and sound, by reading every packet.
fn read_through(path: &Path, facts: &SourceFacts) -> (Vec<i64>, Amount, Amount) {
    let mut input = Input::open(path, &Cancel::new(), &RunLog::new(), LIMIT).expect("a readable file");
    let (mut packet, mut keys) = (Packet::new().expect("memory"), Vec::new());
    let (mut picture, mut sound) = (Amount::default(), Amount::default());
    let (video, audio) =
        (facts.video.as_ref().expect("a picture").stream, facts.audio.as_ref().map(|a| a.stream));
    loop {
        match input.read(&mut packet).expect("a readable file") {
            Received::Item => {
                let one = Amount { packets: 1, bytes: packet.data().len() as u64 };
                if packet.stream() == video {
                    picture = picture.plus(one);
                    if packet.is_key() {
                        keys.push(packet.pts().or(packet.dts()).expect("a time"));
                    }
                } else if Some(packet.stream()) == audio {
                    sound = sound.plus(one);
                }
            }
            Received::NeedsInput => {}
            Received::End => break,
        }
    }
    keys.sort_unstable();
    (keys, picture, sound)
}

fn total(index: &SourceIndex) -> (Amount, Amount) {
    let sum = |amounts: Vec<Amount>| amounts.into_iter().fold(Amount::default(), Amount::plus);
    let of = |get: fn(&index::Key) -> Amount| sum(index.keys.iter().map(get).collect());
    (of(|k| k.video), of(|k| k.audio))
}

fn film(picture: Video) -> Clip {
    Clip::new().video(picture.frames(300)).audio(audio("aac").seconds(12.0))
}

/// MPEG-TS frames its AAC in a way that is not copied.
fn film_as(picture: Video, name: &str) -> Option<PathBuf> {
    let sound = if name.ends_with(".ts") { "ac3" } else { "aac" };
    Clip::new().video(picture.frames(300)).audio(audio(sound).seconds(12.0)).make(name)
}

#[track_caller]
fn agrees(path: Option<PathBuf>, wanted: Origin) {
    let Some(path) = path else { return };
    let facts = facts(&path);
    let (keys, picture, sound) = read_through(&path, &facts);
    let found = find(&path, &facts, None).expect("an index");
    let name = path.display();
    assert_eq!(found.origin, wanted, "{name}");
    let times: Vec<i64> = found.keys.iter().map(|k| k.pts).collect();
    assert_eq!(times, keys, "{name}");
    assert!(keys.len() > 3, "{name} has few key frames");
    if wanted != Origin::Cues {
        assert_eq!(total(&found), (picture, sound), "{name}");
    } else {
        let told = total(&found).0.bytes;
        assert!(told >= picture.bytes + sound.bytes && told <= fs::metadata(&path).unwrap().len(), "{name}");
    }
}

#[test]
fn tables_say_what_the_packets_say() {
    let plain = h264().gop(50);
    let moved = |clip: Clip| clip.start_ms(2500);
    agrees(film(plain.clone()).make("plain.mp4"), Origin::Tables);
    agrees(film(plain.clone().bframes(3)).make("b.mp4"), Origin::Tables);
    agrees(
        film(plain.clone().bframes(3)).mux_option("movflags", "+faststart").make("fast.mp4"),
        Origin::Tables,
    );
    agrees(moved(film(plain.clone().bframes(2))).make("moved.mp4"), Origin::Tables);
    let no_edits = film(plain.clone().bframes(2)).mux_option("use_editlist", "0");
    agrees(no_edits.make("no-edits.mp4"), Origin::Tables);
    let negative = film(plain.clone().bframes(2)).mux_option("movflags", "+negative_cts_offsets");
    agrees(negative.make("negative.mp4"), Origin::Tables);
    agrees(film(plain.clone().bframes(2)).make("film.mov"), Origin::Tables);
    agrees(film(plain.clone().rate(30_000, 1001).bframes(2)).make("ntsc.mp4"), Origin::Tables);
    agrees(film(plain.bframes(2)).make("cues.mkv"), Origin::Cues);
}

#[test]
fn open_groups_are_found_too() {
    if !has_encoder("libx264") {
        return support::run::skip("only x264 is known to make open GOPs here");
    }
    agrees(film(h264().gop(50).bframes(3).open_gop()).make("open.mp4"), Origin::Tables);
    agrees(film(h264().gop(50).bframes(3).open_gop()).make("open.mkv"), Origin::Cues);
}

#[test]
fn files_without_usable_tables_are_read_through() {
    let picture = || h264().gop(50).bframes(2);
    let fragmented = film(picture()).mux_option("movflags", "frag_keyframe+empty_moov");
    agrees(fragmented.make("fragmented.mp4"), Origin::Packets);
    agrees(film(picture()).make("film.ts"), Origin::Packets);
    agrees(film(picture()).mux_option("live", "1").make("live.mkv"), Origin::Packets);
    agrees(film(video("mpeg4").gop(50)).make("old.avi"), Origin::Packets);
}

#[test]
fn what_was_read_through_is_kept_for_the_same_file() {
    let Some(good) = film(h264().gop(50)).make("kept.ts") else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("film.ts");
    fs::copy(&good, &path).expect("room for a clip");
    let (facts, shelf) = (facts(&path), Shelf::new(folder.path().join("shelf"), 1 << 20));
    let found = find(&path, &facts, Some(&shelf)).expect("an index");
    let kept = || -> Vec<PathBuf> {
        fs::read_dir(folder.path().join("shelf")).unwrap().map(|e| e.unwrap().path()).collect()
    };
    let files = kept();
    let [file] = &files[..] else { panic!("{files:?}") };
    assert_eq!(find(&path, &facts, Some(&shelf)), Ok(found.clone()));
    // What is on the shelf is what is answered: a whole file that says something else is believed only if
    // its sum fits, so damage has to lead to another reading, which puts it right.
    let good_bytes = fs::read(file).unwrap();
    for bad in [&good_bytes[..good_bytes.len() / 2], b"", &[0xA5; 4000]] {
        fs::write(file, bad).unwrap();
        assert_eq!(find(&path, &facts, Some(&shelf)), Ok(found.clone()));
        assert_eq!(fs::read(file).unwrap(), good_bytes);
    }
    // Another file under the same name has an entry of its own.
    let other = film(h264().gop(25)).make("other.ts").expect("made as the first");
    fs::copy(&other, folder.path().join("new.ts")).expect("room for a clip");
    fs::rename(folder.path().join("new.ts"), &path).expect("the same folder");
    let replaced = find(&path, &self::facts(&path), Some(&shelf)).expect("an index");
    assert!(replaced.keys.len() > found.keys.len() && kept().len() == 2);
}

#[test]
fn damaged_tables_never_panic_and_never_hang() {
    for name in ["hurt.mp4", "hurt.mkv"] {
        let Some(good) = film(h264().gop(50).bframes(2)).make(name) else { return };
        let whole = facts(&good);
        let bytes = fs::read(&good).expect("a clip");
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(name);
        let places: Vec<usize> =
            [&b"stsz"[..], b"stco", b"stsc", b"ctts", b"tkhd", b"moov", &[0x1C, 0x53, 0xBB, 0x6B]]
                .iter()
                .flat_map(|kind| {
                    bytes
                        .windows(kind.len())
                        .enumerate()
                        .filter(|w| w.1 == *kind)
                        .map(|w| w.0)
                        .collect::<Vec<_>>()
                })
                .collect();
        for (i, place) in places.iter().enumerate() {
            for k in 0..12 {
                let mut bad = bytes.clone();
                let at = (place.saturating_sub(4) + k * (1 + i % 3)).min(bad.len() - 1);
                bad[at] ^= 1 << (k % 8) | 0x80;
                fs::write(&path, &bad).expect("room for a clip");
                // An error or an index: both are answers.
                if let Ok(found) = find(&path, &whole, None) {
                    assert!(found.keys.is_sorted_by(|a, b| a.pts < b.pts));
                }
            }
        }
    }
}

// ---- direct play ------------------------------------------------------------------------------------

#[derive(Default)]
struct Kept(Mutex<Vec<Segment>>);

impl SegmentSink for Kept {
    fn init(&self, _: usize, _: &[String], _: &[u8]) -> Result<()> {
        Ok(())
    }

    fn part(&self, _: usize, _: u64, _: Bytes) -> Result<()> {
        Ok(())
    }

    fn segment(&self, segment: Segment) -> Result<()> {
        self.0.lock().unwrap().push(segment);
        Ok(())
    }
}

fn copying(path: &Path, kind: SegmentType, keys: &Keys<'_>) -> Plan {
    let wish = Wish {
        format: Format::Hls(kind),
        segment_seconds: TWO,
        video: VideoChoice::Copy,
        audio: AudioChoice::Copy,
        ..Wish::default()
    };
    Plan::with_keys(path.to_owned(), facts(path), &wish, Machine { cores: 2 }, keys).expect("a plan")
}

fn make(pool: &Pool, plan: &Plan, n: u64) -> Result<Vec<u8>> {
    let sink = Arc::new(Kept::default());
    let (cancel, progress, log) = (Cancel::new(), Arc::new(Progress::new()), RunLog::new());
    let target = Target::Segments(sink.clone());
    pipeline::run_from(
        pipeline::Start { pool, lead_in: LeadIn::Full },
        plan,
        Window::segments(n..n + 1),
        target,
        &cancel,
        &progress,
        &log,
    )?;
    let made = std::mem::take(&mut *sink.0.lock().unwrap());
    let [segment] = &made[..] else { panic!("{} segments", made.len()) };
    assert_eq!(segment.index, n);
    Ok(segment.data.clone().joined().into())
}

fn decide(path: &Path, kind: SegmentType) -> (SourceIndex, std::result::Result<Direct, String>) {
    let (facts, cancel, pool) = (facts(path), Cancel::new(), Pool::keeping(1));
    let sought = Sought { path, facts: &facts, cancel: &cancel };
    let mut found = index::find(&sought, &pool, None).expect("an index");
    let cuts = direct_cuts(&facts, &found, TWO);
    index::look_for_idr(&mut found, &cuts, &sought, &pool).expect("a readable file");
    let decided = direct(&facts, &found, kind, TWO);
    (found, decided)
}

#[test]
fn no_segment_is_larger_than_was_said_and_few_are_much_smaller() {
    for name in ["size.mp4", "size.mkv", "size.ts"] {
        let picture = h264().size(640, 360).gop(50).bframes(2).option("b", "2000000");
        let Some(path) = film_as(picture, name) else { return };
        for kind in [SegmentType::Ts, SegmentType::Fmp4] {
            let (found, decided) = decide(&path, kind);
            let decided = decided.unwrap_or_else(|why| panic!("{name}: {why}"));
            let plan = copying(&path, kind, &Keys::Known(&found));
            assert_eq!(plan.timeline, decided.timeline, "{name}");
            let mut sum = 0;
            for n in 0..plan.timeline.segment_count() {
                let bytes = make(&Pool::none(), &plan, n).expect("a run").len() as u64;
                let most = decided.segment_bytes[n as usize];
                assert!(bytes <= most, "{name} {kind:?} segment {n}: {bytes} bytes, {most} said");
                sum += bytes;
            }
            let promised: u64 = decided.segment_bytes.iter().sum();
            assert!(promised <= sum * 2, "{name} {kind:?}: {sum} bytes, {promised} said");
            assert!(decided.average_bps <= decided.peak_bps);
        }
    }
}

#[test]
fn an_open_group_of_pictures_is_no_direct_play_and_a_run_says_so_too() {
    if !has_encoder("libx264") {
        return support::run::skip("only x264 is known to make open GOPs here");
    }
    for name in ["open-direct.mp4", "open-direct.mkv", "open-direct.ts"] {
        let Some(path) = film_as(h264().gop(50).bframes(3).open_gop(), name) else { return };
        let (found, decided) = decide(&path, SegmentType::Ts);
        let why = decided.expect_err("no IDR pictures");
        assert!(why.contains("is no IDR picture"), "{name}: {why}");
        let mut plan = copying(&path, SegmentType::Ts, &Keys::Known(&found));
        make(&Pool::none(), &plan, 2).expect("a copy may be cut there");
        plan.idr_cuts = true;
        assert_eq!(make(&Pool::none(), &plan, 2).expect_err("direct play may not").code(), "not_idr");
    }
}

#[test]
fn a_job_and_a_window_have_the_same_cuts_however_they_are_found() {
    for name in ["cuts.mp4", "cuts.mkv", "cuts.ts"] {
        let Some(path) = film_as(h264().gop(20).bframes(2), name) else { return };
        let (facts, cancel) = (facts(&path), Cancel::new());
        let known = find(&path, &facts, None).expect("an index");
        let pool = Pool::keeping(1);
        let find = Keys::Find { pool: &pool, shelf: None, cancel: &cancel };
        let plans = [Keys::Known(&known), find].map(|keys| copying(&path, SegmentType::Ts, &keys));
        assert_eq!(plans[0].timeline, plans[1].timeline, "{name}");
        assert_eq!(pool.idle(), 1, "{name}: the input that looked stays open");
    }
}

// ---- warm sources -----------------------------------------------------------------------------------

#[test]
fn a_warm_source_makes_the_same_bytes_in_any_order() {
    for name in ["warm.mp4", "warm.mkv", "warm.ts"] {
        let Some(path) = film_as(h264().gop(50).bframes(2), name) else { return };
        let facts = facts(&path);
        let known = find(&path, &facts, None).expect("an index");
        let plan = copying(&path, SegmentType::Ts, &Keys::Known(&known));
        let (pool, count) = (Pool::keeping(1), plan.timeline.segment_count());
        for n in [3, 0, 1, count - 1, 2, 0, 4] {
            let warm = make(&pool, &plan, n).expect("a run");
            assert_eq!(pool.idle(), 1, "{name}");
            assert!(warm == make(&Pool::none(), &plan, n).expect("a run"), "{name} segment {n}");
        }
    }
}

/// The same packets with those of the sound standing so many packets later in the file, or earlier.
fn with_sound_moved(ts: &[u8], by: isize) -> Vec<u8> {
    let pid = |packet: &[u8]| u16::from(packet[1] & 0x1f) << 8 | u16::from(packet[2]);
    let place = |(at, packet): &(usize, &[u8])| *at as isize + if pid(packet) == SOUND_PID { by } else { 0 };
    let mut packets: Vec<_> = ts.chunks(188).enumerate().collect();
    assert!(packets.iter().any(|(_, packet)| pid(packet) == SOUND_PID));
    packets.sort_by_key(place);
    packets.into_iter().flat_map(|(_, packet)| packet).copied().collect()
}

/// The second stream of FFmpeg's muxer.
const SOUND_PID: u16 = 0x101;

#[test]
fn every_window_has_the_sound_of_the_whole_wherever_it_stands_in_the_file() {
    let room = tempfile::tempdir().expect("a folder");
    let mut films = Vec::new();
    for name in ["sound.mp4", "sound.mkv", "sound.ts"] {
        let Some(path) = film_as(h264().gop(50).bframes(2), name) else { return };
        films.push(path);
    }
    // Matroska tells no decode times, and libav forgets them when it seeks.
    let lengths: Vec<i64> = (0..300).map(|n| if n % 90 < 60 { 17 } else { 67 }).collect();
    for name in ["sound-24.mp4", "sound-24.mkv", "sound-vfr.mp4", "sound-vfr.mkv", "sound-no-b.mkv"] {
        let picture = match name {
            "sound-no-b.mkv" => h264().rate(24_000, 1001),
            name if name.contains("vfr") => h264().bframes(2).lengths_ms(&lengths),
            _ => h264().rate(24_000, 1001).bframes(2),
        };
        let Some(path) = film_as(picture.gop(50), name) else { return };
        films.push(path);
    }
    let ts = fs::read(&films[2]).expect("a film");
    for by in [-400, -60, 60, 400] {
        let path = room.path().join(format!("moved-by-{by}.ts"));
        fs::write(&path, with_sound_moved(&ts, by)).expect("room for it");
        let as_matroska = path.with_extension("mkv");
        remux_in_its_order(&path, &as_matroska);
        films.extend([path, as_matroska]);
    }
    for path in films {
        let known = find(&path, &facts(&path), None).expect("an index");
        let plan = copying(&path, SegmentType::Ts, &Keys::Known(&known));
        let whole = make_all(&plan);
        assert_eq!(whole.len() as u64, plan.timeline.segment_count());
        for segment in whole {
            let n = segment.index;
            let alone = make(&Pool::none(), &plan, n).expect("a run");
            assert!(alone == segment.data.joined(), "{} segment {n}", path.display());
        }
    }
}

fn remux_in_its_order(from: &Path, to: &Path) {
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-v", "error", "-i"]).arg(from).args(["-c", "copy", "-max_interleave_delta", "1"]).arg(to);
    assert!(ffmpeg.status().expect("ffmpeg has to be installed").success(), "{}", to.display());
}

fn make_all(plan: &Plan) -> Vec<Segment> {
    let sink = Arc::new(Kept::default());
    let (cancel, progress, log) = (Cancel::new(), Arc::new(Progress::new()), RunLog::new());
    pipeline::run(plan, Window::ALL, Target::Segments(sink.clone()), &cancel, &progress, &log)
        .expect("a run");
    std::mem::take(&mut *sink.0.lock().unwrap())
}

#[test]
fn a_cancelled_run_gives_its_source_back_and_the_next_one_reads_on() {
    let Some(path) = film(h264().gop(50)).make("cancelled.mp4") else { return };
    let known = find(&path, &facts(&path), None).expect("an index");
    let plan = copying(&path, SegmentType::Ts, &Keys::Known(&known));
    let (pool, log, progress) = (Pool::keeping(1), RunLog::new(), Arc::new(Progress::new()));
    make(&pool, &plan, 1).expect("a run");
    let cancel = Cancel::new();
    cancel.cancel();
    let target = Target::Segments(Arc::new(Kept::default()));
    let ended = pipeline::run_from(
        pipeline::Start { pool: &pool, lead_in: LeadIn::Full },
        &plan,
        Window::segments(2..4),
        target,
        &cancel,
        &progress,
        &log,
    );
    assert!(ended.expect_err("cancelled").is_cancelled());
    assert_eq!(pool.idle(), 1);
    assert!(make(&pool, &plan, 2).expect("a run") == make(&Pool::none(), &plan, 2).expect("a run"));
}

/// The file is gone by then: whoever opens it again is told so.
#[test]
fn the_source_of_a_run_that_was_stopped_is_waited_for_and_that_of_another_is_not() {
    let Some(film) = film(h264().gop(50)).make("handed-over.mp4") else { return };
    let room = tempfile::tempdir().expect("a folder");
    let path = room.path().join("film.mp4");
    fs::copy(film, &path).expect("a copy");
    // Not the node's own limit: the machine may be busy.
    let pool = Pool::keeping(1).handing_over_within(Duration::from_secs(2));
    let log = RunLog::new();
    let (stopped, next) = (Cancel::new(), Cancel::new());
    let lent = pool.take(&path, &stopped, &log).expect("a source");
    fs::remove_file(&path).expect("no file any more");
    let refused = pool.take(&path, &next, &log).expect_err("it is in use, and nobody has stopped its run");
    assert_eq!(refused.code(), "not_found");
    stopped.cancel();
    let refused = pool.take(&path, &next, &log).expect_err("it does not come back in time");
    assert_eq!(refused.code(), "not_found");
    let got = std::thread::scope(|scope| {
        let waits = scope.spawn(|| pool.take(&path, &next, &log).map(|mut lent| read_on(&mut lent)));
        std::thread::sleep(Duration::from_millis(5));
        drop(lent);
        waits.join().expect("no panic")
    });
    assert!(got.expect("the source of the stopped run"), "it reads on, with the next run's flag");
    assert_eq!(pool.idle(), 1);
}

fn read_on(lent: &mut Lent<'_>) -> bool {
    let mut packet = Packet::new().expect("a packet");
    let input = lent.get_mut().expect("an input");
    matches!(input.read(&mut packet), Ok(Received::Item))
}
