//! An HLS output folder, read back: the playlists by a parser of somebody else's, the segments by
//! `ffprobe`, and the rules that each output keeps whatever it was made from.

use super::fmp4;
use super::probe::{self, Packet};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// 10 s: where the first frame of every title stands in MPEG-TS, in ticks of 90 kHz.
pub const TS_ORIGIN_90K: i64 = 900_000;

/// One media segment.
#[derive(Debug)]
pub struct Segment {
    /// The file as it lies there.
    pub path: PathBuf,
    /// What the playlist says of its length, in microseconds.
    pub extinf_us: i64,
    /// What a reader can open by itself: the segment, in fMP4 with the init segment in front.
    pub readable: PathBuf,
}

/// One media playlist with its segments.
#[derive(Debug)]
pub struct Rendition {
    /// Name: the folder.
    pub name: String,
    /// `index.m3u8`.
    pub playlist: PathBuf,
    /// In the order of the playlist.
    pub segments: Vec<Segment>,
    /// Whether the segments are fragmented MP4.
    pub fmp4: bool,
    // Keeps the readable copies.
    _copies: tempfile::TempDir,
}

/// A whole output.
#[derive(Debug)]
pub struct Hls {
    /// Its folder.
    pub folder: PathBuf,
    /// The text of the master playlist.
    pub master_text: String,
    /// The variants of the master playlist.
    pub variants: Vec<m3u8_rs::VariantStream>,
    /// What the variants point to, in their order.
    pub renditions: Vec<Rendition>,
}

impl Hls {
    /// Reads everything and demands that each file which a playlist names is there, and no other.
    #[track_caller]
    pub fn open(folder: &Path) -> Self {
        let master_text = read_text(&folder.join("master.m3u8"));
        let master = m3u8_rs::parse_master_playlist_res(master_text.as_bytes());
        let master = master.unwrap_or_else(|e| panic!("{}: {e:?}\n{master_text}", folder.display()));
        assert!(!master.variants.is_empty(), "no variant in {master_text}");
        let mut known = BTreeSet::from([folder.join("master.m3u8")]);
        let renditions =
            master.variants.iter().map(|v| Rendition::open(folder, &v.uri, &mut known)).collect();
        let found: BTreeSet<PathBuf> = files_below(folder).into_iter().collect();
        assert_eq!(found, known, "the files of the output (left) are those of its playlists (right)");
        Self { folder: folder.to_owned(), master_text, variants: master.variants, renditions }
    }

    /// The only rendition.
    #[track_caller]
    pub fn only(&self) -> &Rendition {
        assert_eq!(self.renditions.len(), 1, "{}", self.master_text);
        &self.renditions[0]
    }
}

/// Every file below a folder.
pub fn files_below(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.map(|e| e.expect("a folder entry").path());
    paths.flat_map(|p| if p.is_dir() { files_below(&p) } else { vec![p] }).collect()
}

#[track_caller]
fn read_text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

#[track_caller]
fn read(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

impl Rendition {
    #[track_caller]
    fn open(folder: &Path, uri: &str, known: &mut BTreeSet<PathBuf>) -> Self {
        let playlist = folder.join(uri);
        let home = playlist.parent().expect("a playlist lies in a folder").to_owned();
        let text = read_text(&playlist);
        let parsed = m3u8_rs::parse_media_playlist_res(text.as_bytes());
        let parsed = parsed.unwrap_or_else(|e| panic!("{}: {e:?}\n{text}", playlist.display()));
        assert!(parsed.end_list, "a finished playlist says so\n{text}");
        assert_eq!(parsed.playlist_type, Some(m3u8_rs::MediaPlaylistType::Vod), "{text}");
        known.insert(playlist.clone());
        let init = parsed.segments.first().and_then(|s| s.map.as_ref()).map(|map| home.join(&map.uri));
        known.extend(init.clone());
        let init = init.map(|path| read(&path));
        let copies = tempfile::tempdir().expect("a temporary folder");
        let lengths = extinf_us(&text);
        assert_eq!(lengths.len(), parsed.segments.len(), "{text}");
        let segment = |(n, (s, extinf_us)): (usize, (&m3u8_rs::MediaSegment, i64))| {
            let path = home.join(&s.uri);
            assert_eq!(s.uri, format!("{n}.{}", if init.is_some() { "m4s" } else { "ts" }));
            known.insert(path.clone());
            let readable = readable_copy(&path, init.as_deref(), copies.path());
            Segment { path, extinf_us, readable }
        };
        let segments: Vec<Segment> = parsed.segments.iter().zip(lengths).enumerate().map(segment).collect();
        let name = home.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let this = Self { name, playlist, segments, fmp4: init.is_some(), _copies: copies };
        this.check_target_duration(&text);
        this
    }

    /// RFC 8216, 4.3.3.1: an integer, and no rounded `EXTINF` above it; and close to the longest.
    #[track_caller]
    fn check_target_duration(&self, text: &str) {
        let target = text.lines().find_map(|l| l.strip_prefix("#EXT-X-TARGETDURATION:"));
        let target: i64 = target.expect("a target duration").parse().expect("an integer target duration");
        let longest = self.segments.iter().map(|s| s.extinf_us).max().unwrap_or(0);
        assert!(longest <= target * 1_000_000, "{longest} us is above the target duration {target}\n{text}");
        assert!(longest > (target - 1) * 1_000_000, "target duration {target} is a second too long\n{text}");
    }

    /// Demands what every output keeps: pictures on the grid of the rate that the master playlist gives,
    /// nothing for a decoder to complain about, continuity counters that run on. Gives the frames.
    #[track_caller]
    pub fn check_all(&self, rate: (i64, i64)) -> u64 {
        let frames = (self.seconds() * rate.0 as f64 / rate.1 as f64).round() as u64;
        self.check_grid(rate, frames);
        assert_eq!(probe::frame_count(&self.playlist), frames, "{}", self.playlist.display());
        assert_eq!(probe::complaints(&self.playlist), "", "{}", self.playlist.display());
        if !self.fmp4 {
            assert_eq!(probe::ts_continuity_errors(&self.concatenated()), Vec::<String>::new());
        }
        frames
    }

    /// What the playlist promises in all, in seconds.
    pub fn seconds(&self) -> f64 {
        self.segments.iter().map(|s| s.extinf_us).sum::<i64>() as f64 / 1e6
    }

    /// All segments one after the other, as a client gets them.
    pub fn concatenated(&self) -> Vec<u8> {
        self.segments.iter().flat_map(|s| read(&s.path)).collect()
    }

    /// Demands that the pictures stand on the grid of `rate` exactly, `frames` of them, from title time 0
    /// and without a hole at any join; that each `EXTINF` is what is in its segment; and that each
    /// segment begins with a key frame.
    #[track_caller]
    pub fn check_grid(&self, rate: (i64, i64), frames: u64) {
        let (mut shown, mut n) = (0u64, 0);
        for segment in &self.segments {
            let (packets, time_base) = self.pictures(segment);
            let place = segment.path.display();
            assert!(packets.first().is_some_and(|p| p.key), "{place} does not begin with a key frame");
            let promised = packets.len() as i64 * 1_000_000 * rate.1 / rate.0;
            let off = (segment.extinf_us - promised).abs();
            assert!(off <= 1000, "{place}: EXTINF {} us, frames last {promised} us", segment.extinf_us);
            self.check_times(&packets, time_base, rate, shown);
            shown += packets.len() as u64;
            n += 1;
        }
        assert_eq!(shown, frames, "frames in {n} segments of {}", self.playlist.display());
    }

    /// The pictures of a segment in decode order, and the length of a tick in seconds as a fraction.
    #[track_caller]
    pub fn pictures(&self, segment: &Segment) -> (Vec<Packet>, (i64, i64)) {
        if self.fmp4 {
            return fmp4::pictures(&read(&segment.readable));
        }
        let time_base = probe::fraction(&probe::stream(&segment.readable, "video")["time_base"]);
        (probe::packets(&segment.readable, "v:0"), time_base)
    }

    /// The k-th frame of the title is shown at k / rate, within what the clock of the stream can say.
    #[track_caller]
    fn check_times(&self, packets: &[Packet], time_base: (i64, i64), rate: (i64, i64), first: u64) {
        let mut times: Vec<i64> = packets.iter().map(|p| p.pts).collect();
        times.sort_unstable();
        let origin = if self.fmp4 { 0 } else { TS_ORIGIN_90K };
        for (i, pts) in times.into_iter().enumerate() {
            let k = i128::from(first) + i as i128;
            let (num, den) = (
                k * i128::from(rate.1) * i128::from(time_base.1),
                i128::from(rate.0) * i128::from(time_base.0),
            );
            let exact = (2 * num + den) / (2 * den);
            let off = i128::from(pts - origin) - exact;
            assert!(
                off.abs() <= 1,
                "frame {k} of {} is {off} ticks of {time_base:?} off the grid",
                self.playlist.display()
            );
        }
    }

    /// Demands sound without a hole or an overlap, and gives the samples from title time 0 on.
    #[track_caller]
    pub fn sound_samples(&self) -> i64 {
        let origin = if self.fmp4 { 0 } else { TS_ORIGIN_90K };
        samples_from(&self.whole(), origin)
    }

    /// The decoded sound from title time 0 on, of the first of two channels, -1 to 1. MPEG-TS only: there
    /// nothing tells a decoder what precedes the title.
    #[track_caller]
    pub fn left_channel(&self) -> Vec<f64> {
        assert!(!self.fmp4);
        let whole = self.whole();
        let stream = probe::stream(&whole, "audio");
        let rate: i64 = stream["sample_rate"].as_str().and_then(|r| r.parse().ok()).expect("a sample rate");
        let first = probe::packets(&whole, "a:0").first().expect("a packet").pts;
        let before = ((TS_ORIGIN_90K - first) * rate + 45_000) / 90_000;
        let left =
            probe::pcm(&whole).chunks_exact(2).map(|pair| f64::from(pair[0]) / 32768.0).collect::<Vec<_>>();
        left.get(before.max(0) as usize..).unwrap_or(&[]).to_vec()
    }

    /// One file of all segments (fMP4: with the init segment), for readers that have trouble with
    /// playlists of their own.
    #[track_caller]
    pub fn whole(&self) -> PathBuf {
        let path = self._copies.path().join(if self.fmp4 { "whole.mp4" } else { "whole.ts" });
        let init = self.playlist.with_file_name("init.mp4");
        let mut bytes = if self.fmp4 { read(&init) } else { Vec::new() };
        bytes.extend(self.concatenated());
        fs::write(&path, bytes).expect("room for a copy");
        path
    }
}

/// Demands sound without a hole or an overlap in a file, and gives the samples from `origin` (in ticks
/// of the stream) on.
#[track_caller]
pub fn samples_from(path: &Path, origin: i64) -> i64 {
    let stream = probe::stream(path, "audio");
    let (num, den) = probe::fraction(&stream["time_base"]);
    let rate: i64 = stream["sample_rate"].as_str().and_then(|r| r.parse().ok()).expect("a sample rate");
    // How much a time may be off for no other reason than that the clock is coarser than the samples.
    let tick = (rate * num / den).max(1) + 1;
    let at = |pts: i64| ((pts - origin) as f64 * (rate * num) as f64 / den as f64).round() as i64;
    let frames = probe::sound_frames(path);
    let mut next = None;
    for frame in &frames {
        let start = at(frame.pts);
        let off = next.map_or(0, |next: i64| start - next);
        assert!(off.abs() <= tick, "{off} samples of hole or overlap at {start} in {}", path.display());
        next = Some(start + frame.samples);
    }
    let before = frames.first().map_or(0, |f| (-at(f.pts)).max(0));
    frames.iter().map(|f| f.samples).sum::<i64>() - before
}

/// Every `EXTINF`, exact, in microseconds.
fn extinf_us(text: &str) -> Vec<i64> {
    let values = text.lines().filter_map(|l| l.strip_prefix("#EXTINF:"));
    values
        .map(|v| (v.split(',').next().unwrap_or("").parse::<f64>().expect("a number") * 1e6).round() as i64)
        .collect()
}

#[track_caller]
fn readable_copy(path: &Path, init: Option<&[u8]>, folder: &Path) -> PathBuf {
    let Some(init) = init else { return path.to_owned() };
    let copy = folder.join(path.file_name().unwrap_or_default()).with_extension("mp4");
    fs::write(&copy, [init, &read(path)].concat()).expect("room for a copy");
    copy
}
