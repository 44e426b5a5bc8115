//! Transport stream segments before independent judges: ffprobe and ffmpeg of the system.
//!
//! Real elementary streams are taken out of an MP4 file that ffmpeg encoded, put into segments by our
//! writer, each segment alone and in any order, and the segments in a row must be one stream: the same
//! times, the same pictures, nothing to complain about.

#[path = "../src/container/ts/tests/parser.rs"]
#[allow(dead_code)]
mod parser;

use bytes::Bytes;
use serde_json::Value;
use sprocket::base::time::Rational;
use sprocket::container::ts::TsMuxer;
use sprocket::model::track::{AudioCodec, AudioTrack, Colour, Sample, Tracks, VideoCodec, VideoTrack};
use std::path::{Path, PathBuf};
use std::process::Command;

const SECONDS: usize = 6;
/// Pictures between two key pictures, and so in a segment: one second.
const GOP: usize = 25;

/// Runs a program; returns what it wrote to its output and to its error output.
fn run(program: &str, args: &[&str]) -> (String, String) {
    let out = Command::new(program).args(args).output().unwrap_or_else(|e| panic!("{program}: {e}"));
    let stderr = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(out.status.success(), "{program} {args:?}: {stderr}");
    (String::from_utf8_lossy(&out.stdout).into_owned(), stderr)
}

fn ffmpeg(args: &str) -> String {
    run("ffmpeg", &["-hide_banner", "-nostdin", "-y"].into_iter().chain(args.split(' ')).collect::<Vec<_>>())
        .1
}

fn ffprobe(args: &[&str], file: &Path) -> Value {
    let file = file.to_str().unwrap();
    let args: Vec<&str> =
        ["-v", "error", "-of", "json"].into_iter().chain(args.iter().copied()).chain([file]).collect();
    serde_json::from_str(&run("ffprobe", &args).0).unwrap()
}

/// A number that ffprobe prints, with or without quotes.
fn number(value: &Value) -> i64 {
    value.as_i64().or_else(|| value.as_str()?.parse().ok()).unwrap_or_else(|| panic!("{value} is no number"))
}

fn rational(value: &Value) -> Rational {
    let (num, den) = value.as_str().unwrap().split_once('/').unwrap();
    Rational::new(num.parse().unwrap(), den.parse().unwrap())
}

/// The bytes in a hex dump: an address, eight groups of two bytes, the same as text.
fn hex_dump(dump: &str) -> Vec<u8> {
    let groups = dump.lines().filter_map(|line| line.get(10..50)).flat_map(str::split_whitespace);
    let digits: Vec<u8> =
        groups.flat_map(|g| g.chars().filter_map(|c| Some(c.to_digit(16)? as u8))).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

/// One elementary stream of an MP4 file.
struct Elementary {
    stream: Value,
    samples: Vec<Sample>,
}

impl Elementary {
    fn read(mp4: &Path, index: i64) -> Self {
        let all = ffprobe(&["-show_streams", "-show_data", "-show_packets", "-show_entries", ENTRIES], mp4);
        let file = Bytes::from(std::fs::read(mp4).unwrap());
        let packets = all["packets"].as_array().unwrap().iter().filter(|p| p["stream_index"] == index);
        let samples = packets.map(|p| sample(p, &file)).collect();
        Self { stream: all["streams"][index as usize].clone(), samples }
    }

    fn time_base(&self) -> Rational {
        rational(&self.stream["time_base"])
    }

    fn config(&self) -> Vec<u8> {
        self.stream["extradata"].as_str().map_or_else(Vec::new, hex_dump)
    }
}

const ENTRIES: &str = "stream=time_base,extradata,sample_rate,channels:\
    packet=stream_index,pts,dts,duration,size,pos,flags";

fn sample(packet: &Value, file: &Bytes) -> Sample {
    let [pos, size] = ["pos", "size"].map(|key| number(&packet[key]) as usize);
    Sample {
        pts: number(&packet["pts"]),
        dts: number(&packet["dts"]),
        duration: number(&packet["duration"]),
        key: packet["flags"].as_str().unwrap().starts_with('K'),
        data: file.slice(pos..pos + size),
    }
}

/// A title and what our writer made of it.
struct Title {
    dir: tempfile::TempDir,
    video: Elementary,
    audio: Elementary,
    segments: Vec<Vec<u8>>,
}

impl Title {
    fn new(video: (VideoCodec, &str), audio: (AudioCodec, &str)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mp4 = dir.path().join("title.mp4");
        ffmpeg(&format!(
            "-v error -f lavfi -i testsrc2=s=426x240:r=25:d={SECONDS} -f lavfi -i sine=r=48000:d={SECONDS} \
             -ac 2 {} -bf 2 -g {GOP} {} {}",
            video.1,
            audio.1,
            mp4.display()
        ));
        let (v, a) = (Elementary::read(&mp4, 0), Elementary::read(&mp4, 1));
        let muxer = TsMuxer::new(&Tracks {
            video: Some(video_track(video.0, &v)),
            audio: Some(audio_track(audio.0, &a)),
        });
        let segments = segments(&muxer.unwrap(), &v, &a);
        assert_eq!(segments.len(), SECONDS);
        let title = Self { dir, video: v, audio: a, segments };
        std::fs::write(title.path("all.ts"), title.segments.concat()).unwrap();
        title
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn shown(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }
}

fn video_track(codec: VideoCodec, stream: &Elementary) -> VideoTrack {
    VideoTrack {
        codec,
        width: 426,
        height: 240,
        sample_aspect_ratio: Rational::from_int(1),
        frame_rate: Rational::from_int(25),
        time_base: stream.time_base(),
        reorder_frames: 2,
        bit_depth: 8,
        colour: Colour { primaries: 2, transfer: 2, matrix: 2, full_range: false },
        config: stream.config(),
        profile: -99,
        level: -99,
    }
}

fn audio_track(codec: AudioCodec, stream: &Elementary) -> AudioTrack {
    AudioTrack {
        codec,
        sample_rate: number(&stream.stream["sample_rate"]) as u32,
        channels: number(&stream.stream["channels"]) as u32,
        time_base: stream.time_base(),
        packet_samples: stream.samples[0].duration as u32,
        priming_samples: 0,
        config: stream.config(),
        bitrate: 0,
    }
}

/// Cuts at key pictures; sound goes where its time lies. The last segment is made first.
fn segments(muxer: &TsMuxer, video: &Elementary, audio: &Elementary) -> Vec<Vec<u8>> {
    let gops: Vec<&[Sample]> = video.samples.chunks(GOP).collect();
    assert!(
        gops.iter().all(|gop| gop.iter().position(|s| s.key) == Some(0)),
        "closed groups of fixed length"
    );
    let seconds = |samples: &[Sample]| Rational::from_int(samples[0].pts) * video.time_base();
    let index_of = |s: &Sample| {
        gops.iter().rposition(|gop| seconds(gop) <= Rational::from_int(s.pts) * audio.time_base())
    };
    let mut made: Vec<Vec<u8>> = (0..gops.len())
        .rev()
        .map(|index| {
            let sound: Vec<Sample> =
                audio.samples.iter().filter(|s| index_of(s).unwrap_or(0) == index).cloned().collect();
            muxer.segment(index as u64, gops[index], &sound).unwrap()
        })
        .collect();
    made.reverse();
    made
}

const X264: &str = "-pix_fmt yuv420p -c:v libx264 -preset veryfast \
    -x264-params keyint=25:min-keyint=25:scenecut=0:open-gop=0";
const X265: &str = "-pix_fmt yuv420p10le -c:v libx265 -preset ultrafast -tag:v hvc1 \
    -x265-params log-level=none:keyint=25:min-keyint=25:scenecut=0:open-gop=0:bframes=2";

/// The packets that ffprobe reads from a stream of the file: PTS, DTS, key flag, size.
fn probed(file: &Path, stream: &str) -> Vec<(i64, i64, bool, i64)> {
    let args = ["-select_streams", stream, "-show_packets", "-show_entries", "packet=pts,dts,flags,size"];
    let all = ffprobe(&args, file);
    let packet = |p: &Value| {
        let key = p["flags"].as_str().unwrap().starts_with('K');
        (number(&p["pts"]), number(&p["dts"]), key, number(&p["size"]))
    };
    all["packets"].as_array().unwrap().iter().map(packet).collect()
}

/// The hash of each decoded picture, in order of presentation.
fn picture_hashes(file: &Path) -> Vec<String> {
    let args = format!("-v error -i {} -map 0:v -fps_mode passthrough -f framemd5 -", file.display());
    let (stdout, _) = run("ffmpeg", &["-nostdin"].into_iter().chain(args.split(' ')).collect::<Vec<_>>());
    let lines = stdout.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| line.rsplit(',').next().unwrap().trim().to_string()).collect()
}

fn assert_nothing_to_complain_about(title: &Title, name: &str) {
    assert_eq!(ffmpeg(&format!("-v warning -i {} -map 0 -f null -", title.shown(name))), "", "{name}");
}

/// The tick of 90 kHz nearest to a time of the title that stands at 10 s.
fn ticks(time: i64, base: Rational) -> i64 {
    900_000 + (2 * 90_000 * time * base.num() + base.den()).div_euclid(2 * base.den())
}

/// What must hold whatever the codecs: times, flags, counts, pictures, silence of the decoder.
fn assert_is_one_stream(title: &Title) {
    let all = title.path("all.ts");
    let base = title.video.time_base();
    let video: Vec<_> = probed(&all, "v").into_iter().map(|(pts, dts, key, _)| (pts, dts, key)).collect();
    let wanted = title.video.samples.iter().map(|s| (ticks(s.pts, base), ticks(s.dts, base), s.key));
    assert_eq!(video, wanted.collect::<Vec<_>>());
    let base = title.audio.time_base();
    let audio: Vec<i64> = probed(&all, "a").into_iter().map(|p| p.0).collect();
    assert_eq!(audio, title.audio.samples.iter().map(|s| ticks(s.pts, base)).collect::<Vec<_>>());
    assert_nothing_to_complain_about(title, "all.ts");
    let pictures = picture_hashes(&all);
    assert_eq!(pictures.len(), SECONDS * GOP);
    assert_eq!(pictures, picture_hashes(&title.path("title.mp4")));
    let packets = parser::parse(&title.segments.concat());
    assert_eq!(parser::continuity_errors(&packets), Vec::<String>::new());
    parser::assert_clock(&packets, 0x100, 3_600);
}

#[test]
fn h264_with_aac() {
    let title = Title::new((VideoCodec::H264, X264), (AudioCodec::Aac, "-c:a aac -b:a 128k"));
    assert_is_one_stream(&title);
    let sizes: Vec<i64> = probed(&title.path("all.ts"), "a").into_iter().map(|p| p.3).collect();
    let with_header = title.audio.samples.iter().map(|s| s.data.len() as i64 + 7);
    assert_eq!(sizes, with_header.collect::<Vec<_>>());
}

#[test]
fn adts_headers_are_those_of_libav() {
    let title = Title::new((VideoCodec::H264, X264), (AudioCodec::Aac, "-c:a aac -b:a 64k"));
    for name in ["all.ts", "title.mp4"] {
        ffmpeg(&format!(
            "-v error -i {} -map 0:a -c copy -f adts {}",
            title.shown(name),
            title.shown(&format!("{name}.aac"))
        ));
    }
    let [ours, theirs] = ["all.ts.aac", "title.mp4.aac"].map(|name| std::fs::read(title.path(name)).unwrap());
    assert!(ours.len() > 10_000);
    assert_eq!(ours, theirs);
}

#[test]
fn segments_play_alone_and_from_the_middle() {
    let title = Title::new((VideoCodec::H264, X264), (AudioCodec::Aac, "-c:a aac"));
    for index in 0..SECONDS {
        std::fs::write(title.path("one.ts"), &title.segments[index]).unwrap();
        assert_nothing_to_complain_about(&title, "one.ts");
        assert_eq!(picture_hashes(&title.path("one.ts")).len(), GOP);
    }
    std::fs::write(title.path("rest.ts"), title.segments[3..].concat()).unwrap();
    assert_nothing_to_complain_about(&title, "rest.ts");
    assert_eq!(picture_hashes(&title.path("rest.ts")), picture_hashes(&title.path("title.mp4"))[3 * GOP..]);
}

#[test]
fn hevc_with_ac3() {
    let title = Title::new((VideoCodec::Hevc, X265), (AudioCodec::Ac3, "-c:a ac3 -b:a 192k"));
    assert_is_one_stream(&title);
    assert_eq!(codecs(&title), ["hevc", "ac3"]);
}

#[test]
fn h264_with_eac3_and_with_mp3() {
    let eac3 = Title::new((VideoCodec::H264, X264), (AudioCodec::Eac3, "-c:a eac3 -b:a 192k"));
    assert_is_one_stream(&eac3);
    assert_eq!(codecs(&eac3), ["h264", "eac3"]);
    let mp3 = Title::new((VideoCodec::H264, X264), (AudioCodec::Mp3, "-c:a libmp3lame -b:a 128k"));
    assert_is_one_stream(&mp3);
    assert_eq!(codecs(&mp3), ["h264", "mp3"]);
}

/// What ffprobe takes the streams for, the picture first.
fn codecs(title: &Title) -> Vec<String> {
    let all = ffprobe(&["-show_entries", "stream=codec_name,index"], &title.path("all.ts"));
    all["streams"].as_array().unwrap().iter().map(|s| s["codec_name"].as_str().unwrap().to_string()).collect()
}

#[test]
fn the_judge_notices_a_broken_counter() {
    // Were the checks above blind, this would pass unnoticed: segment 4 without its last packet.
    let mut title = Title::new((VideoCodec::H264, X264), (AudioCodec::Aac, "-c:a aac"));
    let length = title.segments[4].len();
    title.segments[4].truncate(length - 188);
    std::fs::write(title.path("broken.ts"), title.segments.concat()).unwrap();
    let complaints = ffmpeg(&format!("-v warning -i {} -map 0 -f null -", title.shown("broken.ts")));
    assert!(complaints.contains("corrupt"), "{complaints}");
    assert_eq!(parser::continuity_errors(&parser::parse(&title.segments.concat())).len(), 1);
}
