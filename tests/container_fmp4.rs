//! Fragmented MP4 against an independent demuxer and decoder.
//!
//! Streams are encoded with the ffmpeg command into NUT, which keeps the encoder's own configuration
//! and packets. They are written with our muxer, and the ffmpeg and ffprobe commands have to find in
//! the result the timestamps, payloads and pictures that went in, without a single warning.

use mp4_atom::{Codec, Decode, Encode, Moov};
use sprocket::base::time::Rational;
use sprocket::container::codecs::{audio_codec_string, video_codec_string};
use sprocket::container::fmp4::Fmp4Muxer;
use sprocket::model::track::{AudioCodec, AudioTrack, Colour, Sample, Tracks, VideoCodec, VideoTrack};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// Frames of a segment, which is also the key frame distance.
const SEGMENT_FRAMES: i64 = 24;
const SEGMENTS: i64 = 3;

/// Runs a command and returns what it printed; it must neither fail nor complain.
fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|e| panic!("{program} has to be installed for this test: {e}"));
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && complaints.is_empty(), "{program} {arguments:?}:\n{complaints}");
    String::from_utf8(output.stdout).unwrap()
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// What is encoded, and as what it has to come out again.
struct Case {
    video: Option<(VideoCodec, &'static str, &'static str)>,
    audio: Option<(AudioCodec, &'static str, &'static str)>,
    rate: Rational,
    timescale: i64,
    pixel_format: &'static str,
    bit_depth: u8,
    profile: i32,
    sample_rate: u32,
    channels: u32,
    packet_samples: u32,
    priming_samples: u32,
}

impl Default for Case {
    fn default() -> Self {
        Self {
            video: None,
            audio: None,
            rate: Rational::from_int(24),
            timescale: 24,
            pixel_format: "yuv420p",
            bit_depth: 8,
            profile: -99,
            sample_rate: 48_000,
            channels: 2,
            packet_samples: 1024,
            priming_samples: 0,
        }
    }
}

/// A case, encoded and read: the packets carry our own absolute times.
struct Encoded {
    folder: TempDir,
    source: PathBuf,
    tracks: Tracks,
    video: Vec<Sample>,
    audio: Vec<Sample>,
}

impl Case {
    fn encode(&self) -> Encoded {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("source.nut");
        let frames = SEGMENT_FRAMES * SEGMENTS;
        let seconds = (Rational::from_int(frames) / self.rate).to_f64();
        let picture = format!("testsrc2=s=320x180:r={},trim=end_frame={frames}", self.rate);
        let sound =
            format!("sine=frequency=440:beep_factor=4:sample_rate={}:duration={seconds}", self.sample_rate);
        let channels = self.channels.to_string();
        let mut arguments = vec!["-v", "error", "-y"];
        if self.video.is_some() {
            arguments.extend(["-f", "lavfi", "-i", &picture]);
        }
        if self.audio.is_some() {
            arguments.extend(["-f", "lavfi", "-i", &sound]);
        }
        if let Some((_, encoder, _)) = self.video {
            arguments.extend(["-pix_fmt", self.pixel_format, "-c:v"]);
            arguments.extend(encoder.split(' '));
        }
        if let Some((_, encoder, _)) = self.audio {
            arguments.extend(["-ac", &channels, "-c:a"]);
            arguments.extend(encoder.split(' '));
        }
        arguments.push(path(&source));
        let output = Command::new("ffmpeg").args(&arguments).output().expect("ffmpeg has to be installed");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        self.read(folder, source)
    }

    fn read(&self, folder: TempDir, source: PathBuf) -> Encoded {
        let video = self.video.map(|(codec, ..)| {
            let (config, packets) = probe(&source, "v:0");
            let samples = self.pictures(packets);
            let late = samples.iter().enumerate().map(|(decoded, s)| decoded as i64 - s.pts / self.ticks());
            let reorder_frames = late.max().unwrap() as u32;
            let delay = i64::from(reorder_frames) * self.ticks();
            let samples = samples.into_iter().map(|s| Sample { dts: s.dts - delay, ..s }).collect::<Vec<_>>();
            (self.video_track(codec, config, reorder_frames), samples)
        });
        let audio = self.audio.map(|(codec, ..)| {
            let (config, packets) = probe(&source, "a:0");
            (self.audio_track(codec, config), self.sounds(packets))
        });
        let (video_track, video) = video.unzip();
        let (audio_track, audio) = audio.unzip();
        let tracks = Tracks { video: video_track, audio: audio_track };
        Encoded { folder, source, tracks, video: video.unwrap_or_default(), audio: audio.unwrap_or_default() }
    }

    /// Ticks of a frame.
    fn ticks(&self) -> i64 {
        let ticks = Rational::from_int(self.timescale) / self.rate;
        assert_eq!(ticks.den(), 1);
        ticks.num()
    }

    /// Puts packets in decoding order on the frame grid: the rank of a timestamp is its frame.
    fn pictures(&self, packets: Vec<Packet>) -> Vec<Sample> {
        let mut order: Vec<i64> = packets.iter().map(|packet| packet.pts).collect();
        order.sort_unstable();
        let frame = |pts: i64| order.binary_search(&pts).unwrap() as i64;
        let sample = |(decoded, packet): (usize, Packet)| Sample {
            pts: frame(packet.pts) * self.ticks(),
            dts: decoded as i64 * self.ticks(),
            duration: self.ticks(),
            key: packet.key,
            data: packet.data.into(),
        };
        packets.into_iter().enumerate().map(sample).collect()
    }

    fn sounds(&self, packets: Vec<Packet>) -> Vec<Sample> {
        let length = i64::from(self.packet_samples);
        let sample = |(index, packet): (usize, Packet)| {
            let pts = index as i64 * length - i64::from(self.priming_samples);
            Sample { pts, dts: pts, duration: length, key: true, data: packet.data.into() }
        };
        packets.into_iter().enumerate().map(sample).collect()
    }

    fn video_track(&self, codec: VideoCodec, config: Vec<u8>, reorder_frames: u32) -> VideoTrack {
        VideoTrack {
            codec,
            width: 320,
            height: 180,
            sample_aspect_ratio: Rational::from_int(1),
            frame_rate: self.rate,
            time_base: Rational::new(1, self.timescale),
            reorder_frames,
            bit_depth: self.bit_depth,
            colour: Colour { primaries: 1, transfer: 1, matrix: 1, full_range: false },
            config,
            profile: self.profile,
            level: -99,
        }
    }

    fn audio_track(&self, codec: AudioCodec, config: Vec<u8>) -> AudioTrack {
        AudioTrack {
            codec,
            sample_rate: self.sample_rate,
            channels: self.channels,
            time_base: Rational::new(1, i64::from(self.sample_rate)),
            packet_samples: self.packet_samples,
            priming_samples: self.priming_samples,
            config,
            bitrate: 128_000,
        }
    }
}

struct Packet {
    pts: i64,
    key: bool,
    data: Vec<u8>,
}

/// Configuration and packets of one stream.
fn probe(file: &Path, stream: &str) -> (Vec<u8>, Vec<Packet>) {
    let entries = "stream=extradata:packet=pts,flags,data";
    let arguments = [
        "-v",
        "error",
        "-select_streams",
        stream,
        "-show_data",
        "-show_entries",
        entries,
        "-of",
        "json",
        path(file),
    ];
    let json: serde_json::Value = serde_json::from_str(&run("ffprobe", &arguments)).unwrap();
    let config = json["streams"][0]["extradata"].as_str().map(from_dump).unwrap_or_default();
    let packet = |value: &serde_json::Value| Packet {
        pts: value["pts"].as_i64().unwrap(),
        key: value["flags"].as_str().unwrap().starts_with('K'),
        data: from_dump(value["data"].as_str().unwrap()),
    };
    (config, json["packets"].as_array().unwrap().iter().map(packet).collect())
}

/// Bytes of `00000000: 0011 2233 …  text` lines.
fn from_dump(dump: &str) -> Vec<u8> {
    let line = |line: &str| -> Vec<u8> {
        let digits: Vec<u8> = line[10..50].bytes().filter(u8::is_ascii_hexdigit).collect();
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        digits.chunks(2).map(byte).collect()
    };
    dump.lines().filter(|text| !text.is_empty()).flat_map(line).collect()
}

impl Encoded {
    fn muxer(&self, describing: usize) -> Fmp4Muxer {
        Fmp4Muxer::new(&self.tracks, self.audio.get(describing).map(|sample| &sample.data[..])).unwrap()
    }

    /// The samples of segment `index`: whole groups of pictures, and the sound that begins in them.
    fn cut(&self, index: i64) -> (Vec<Sample>, Vec<Sample>) {
        let frames = (index * SEGMENT_FRAMES) as usize..((index + 1) * SEGMENT_FRAMES) as usize;
        let video = self.video.get(frames).unwrap_or_default().to_vec();
        let (from, to) = (self.border(index), self.border(index + 1));
        let inside = |sample: &&Sample| {
            let time = Rational::from_int(sample.pts) * self.tracks.audio.as_ref().unwrap().time_base;
            (index == 0 || time >= from) && (index == SEGMENTS - 1 || time < to)
        };
        (video, self.audio.iter().filter(inside).cloned().collect())
    }

    fn border(&self, index: i64) -> Rational {
        let rate = self.tracks.video.as_ref().map_or(Rational::from_int(24), |track| track.frame_rate);
        Rational::from_int(index * SEGMENT_FRAMES) / rate
    }

    fn segment(&self, muxer: &Fmp4Muxer, index: i64) -> Vec<u8> {
        let (video, audio) = self.cut(index);
        muxer.segment(index as u64, &video, &audio).unwrap()
    }

    /// Writes initialisation segment and `segments` into one file.
    fn write(&self, name: &str, segments: impl IntoIterator<Item = i64>) -> PathBuf {
        let muxer = self.muxer(0);
        let mut bytes = muxer.init();
        segments.into_iter().for_each(|index| bytes.extend(self.segment(&muxer, index)));
        let file = self.folder.path().join(name);
        fs::write(&file, bytes).unwrap();
        file
    }
}

/// Presentation times and key flags of a stream as the demuxer sees them.
fn packet_times(file: &Path, stream: &str) -> Vec<(i64, bool)> {
    let arguments = [
        "-v",
        "warning",
        "-select_streams",
        stream,
        "-show_entries",
        "packet=pts,flags",
        "-of",
        "json",
        path(file),
    ];
    let json: serde_json::Value = serde_json::from_str(&run("ffprobe", &arguments)).unwrap();
    let times = |packet: &serde_json::Value| {
        let key = packet["flags"].as_str().unwrap().starts_with('K');
        (packet["pts"].as_i64().unwrap(), key)
    };
    json["packets"].as_array().unwrap().iter().map(times).collect()
}

/// When a decoder shows the pictures of a file, in the order in which it does.
fn shown_times(file: &Path) -> Vec<i64> {
    let entries = ["-show_entries", "frame=pts", "-of", "csv=p=0", path(file)];
    let text = run("ffprobe", &[&["-v", "warning", "-select_streams", "v:0"], &entries[..]].concat());
    text.lines().filter_map(|line| line.trim_end_matches(',').parse().ok()).collect()
}

/// The presentation times that went in.
fn expected_times(samples: &[Sample]) -> Vec<(i64, bool)> {
    samples.iter().map(|sample| (sample.pts, sample.key)).collect()
}

/// Hashes of the decoded frames, or of the packets when `codec` is `copy`.
fn hashes(file: &Path, stream: &str, codec: &str) -> Vec<String> {
    let kind = if stream.starts_with('v') { "-c:v" } else { "-c:a" };
    let map = format!("0:{stream}");
    // Errors only: the source, which is not ours, may be warned of.
    let arguments = [
        "-v",
        "error",
        "-i",
        path(file),
        "-map",
        &map,
        kind,
        codec,
        "-fps_mode",
        "passthrough",
        "-f",
        "framemd5",
        "-",
    ];
    let text = run("ffmpeg", &arguments);
    // Stream, DTS, PTS, duration, size, hash; then side data, which the demuxers add.
    let hash = |line: &str| line.split(',').nth(5).unwrap().trim().to_owned();
    text.lines().filter(|line| !line.starts_with('#')).map(hash).collect()
}

/// Everything that has to hold for any codec.
fn check(case: &Case) -> Encoded {
    let encoded = case.encode();
    let whole = encoded.write("whole.mp4", 0..SEGMENTS);
    run("ffmpeg", &["-v", "warning", "-i", path(&whole), "-map", "0", "-f", "null", "-"]);
    if let Some((_, _, tag)) = case.video {
        assert_eq!(encoded.video.len() as i64, SEGMENT_FRAMES * SEGMENTS);
        assert_eq!(tag_of(&whole, "v:0"), tag);
        assert_eq!(packet_times(&whole, "v:0"), expected_times(&encoded.video));
        let expected = hashes(&encoded.source, "v:0", "rawvideo");
        assert_eq!(expected.len() as i64, SEGMENT_FRAMES * SEGMENTS);
        assert_eq!(hashes(&whole, "v:0", "rawvideo"), expected);
    }
    if let Some((_, _, tag)) = case.audio {
        assert!(encoded.audio.len() > 50);
        assert_eq!(tag_of(&whole, "a:0"), tag);
        assert_eq!(packet_times(&whole, "a:0"), expected_times(&encoded.audio));
        assert_eq!(hashes(&whole, "a:0", "copy"), hashes(&encoded.source, "a:0", "copy"));
    }
    check_independence(&encoded);
    check_strings(&encoded);
    encoded
}

fn tag_of(file: &Path, stream: &str) -> String {
    let entries = "stream=codec_tag_string";
    run(
        "ffprobe",
        &[
            "-v",
            "warning",
            "-select_streams",
            stream,
            "-show_entries",
            entries,
            "-of",
            "default=nw=1:nk=1",
            path(file),
        ],
    )
    .trim()
    .to_owned()
}

/// Segments made in another order by another muxer are the same, and one alone plays at its place.
fn check_independence(encoded: &Encoded) {
    let (one, other) = (encoded.muxer(0), encoded.muxer(encoded.audio.len() / 2));
    assert!(one.init() == other.init());
    let forwards: Vec<_> = (0..SEGMENTS).map(|index| encoded.segment(&one, index)).collect();
    let mut backwards: Vec<_> = (0..SEGMENTS).rev().map(|index| encoded.segment(&other, index)).collect();
    backwards.reverse();
    assert!(forwards == backwards);
    let last = encoded.write("last.mp4", [SEGMENTS - 1]);
    let (video, audio) = encoded.cut(SEGMENTS - 1);
    if encoded.tracks.video.is_some() {
        assert_eq!(packet_times(&last, "v:0"), expected_times(&video));
    }
    if encoded.tracks.audio.is_some() {
        assert_eq!(packet_times(&last, "a:0"), expected_times(&audio));
    }
}

/// The codec string, once more, from what stands in the file.
fn check_strings(encoded: &Encoded) {
    let init = encoded.muxer(0).init();
    let moov = Moov::decode(&mut &init[32..]).unwrap();
    let found = moov.trak.iter().map(|trak| string_of(&trak.mdia.minf.stbl.stsd.codecs[0]));
    let video = encoded.tracks.video.as_ref().map(|track| video_codec_string(track).unwrap());
    let audio = encoded.tracks.audio.as_ref().map(|track| audio_codec_string(track).unwrap());
    assert_eq!(found.collect::<Vec<_>>(), video.into_iter().chain(audio).collect::<Vec<_>>());
}

fn string_of(entry: &Codec) -> String {
    match entry {
        Codec::Avc1(e) => {
            let a = &e.avcc;
            format!(
                "avc1.{:02x}{:02x}{:02x}",
                a.avc_profile_indication, a.profile_compatibility, a.avc_level_indication
            )
        }
        Codec::Hvc1(e) => {
            let h = &e.hvcc;
            assert!(h.arrays.iter().all(|array| array.completeness), "no sets in the samples");
            assert_eq!(h.arrays.iter().map(|array| array.nal_unit_type).collect::<Vec<_>>(), [32, 33, 34]);
            let compatibility = u32::from_be_bytes(h.general_profile_compatibility_flags).reverse_bits();
            let tier = if h.general_tier_flag { 'H' } else { 'L' };
            let constraints = h.general_constraint_indicator_flags.map(|byte| format!("{byte:X}")).join(".");
            let constraints = constraints.trim_end_matches(".0");
            format!(
                "hvc1.{}.{compatibility:X}.{tier}{}.{constraints}",
                h.general_profile_idc, h.general_level_idc
            )
        }
        Codec::Av01(e) => {
            let mut record = Vec::new();
            e.av1c.encode(&mut record).unwrap();
            let depth = if record[10] & 0x40 != 0 { 10 } else { 8 };
            format!("av01.{}.{:02}M.{depth:02}", record[9] >> 5, record[9] & 31)
        }
        Codec::Vp09(e) => format!("vp09.{:02}.{:02}.{:02}", e.vpcc.profile, e.vpcc.level, e.vpcc.bit_depth),
        Codec::Mp4a(e) => match e.esds.es_desc.dec_config.object_type_indication {
            0x40 => format!("mp4a.40.{}", e.esds.es_desc.dec_config.dec_specific.as_ref().unwrap().profile),
            0x6B => "mp4a.40.34".to_owned(),
            other => panic!("object type {other}"),
        },
        Codec::Ac3(_) => "ac-3".to_owned(),
        Codec::Eac3(_) => "ec-3".to_owned(),
        Codec::Opus(_) => "Opus".to_owned(),
        other => panic!("{other:?}"),
    }
}

/// Samples that a decoder puts out from title time 0 on.
fn samples_from_zero(file: &Path) -> usize {
    let from_zero = ["-map", "0:a:0", "-af", "atrim=start=0", "-ac", "1", "-f", "s16le", "-"];
    let arguments = [&["-v", "error", "-copyts", "-i", path(file)][..], &from_zero].concat();
    let output = Command::new("ffmpeg").args(arguments).output().unwrap();
    assert!(output.status.success());
    output.stdout.len() / 2
}

const X264: &str =
    "libx264 -bf 2 -g 24 -keyint_min 24 -sc_threshold 0 -flags +cgop -aud 1 -bsf:v dump_extra=freq=keyframe";
/// The same parameter sets.
const X264_WITHOUT_B_FRAMES: &str = "libx264 -bf 2 -g 24 -keyint_min 24 -sc_threshold 0 -flags +cgop -aud 1 \
                                     -x264-params b-adapt=1:b-bias=-100 -bsf:v dump_extra=freq=keyframe";
const X265: &str = "libx265 -x265-params keyint=24:min-keyint=24:scenecut=0:open-gop=0:bframes=3:aud=1:repeat-headers=1:log-level=none";

#[test]
fn h264_with_b_frames_and_aac() {
    let encoded = check(&Case {
        video: Some((VideoCodec::H264, X264, "avc1")),
        audio: Some((AudioCodec::Aac, "aac -b:a 96k", "mp4a")),
        rate: Rational::from_int(24),
        timescale: 12_288,
        priming_samples: 1024,
        ..Case::default()
    });
    assert!(encoded.tracks.video.as_ref().unwrap().reorder_frames >= 1, "the test needs reordered frames");
    assert_eq!(&encoded.video[0].data[..5], [0, 0, 0, 1, 0x67], "and parameter sets to take out");
    assert_eq!(&encoded.video[1].data[..5], [0, 0, 0, 1, 9], "and delimiters");
    // The encoder's delay lies before the title.
    let whole = encoded.write("heard.mp4", 0..SEGMENTS);
    let heard = encoded.audio.len() * 1024 - 1024;
    assert_eq!(samples_from_zero(&whole), heard);
}

/// What an encoder sees decides over its B-frames, and a segment without any follows one with runs of them.
#[test]
fn segments_follow_each_other_however_far_their_pictures_are_reordered() {
    let case = |encoder| Case {
        video: Some((VideoCodec::H264, encoder, "avc1")),
        rate: Rational::from_int(24),
        timescale: 12_288,
        ..Case::default()
    };
    let (with, without) = (case(X264).encode(), case(X264_WITHOUT_B_FRAMES).encode());
    let depth = |encoded: &Encoded| encoded.tracks.video.as_ref().unwrap().reorder_frames;
    assert!(depth(&with) >= 1 && depth(&without) == 0, "the test needs one with B-frames and one without");
    assert_eq!(with.tracks.video.as_ref().unwrap().config, without.tracks.video.as_ref().unwrap().config);
    // Both are decoded at one pace.
    let delay = with.video[0].pts - with.video[0].dts;
    let (mut mixed, mut without) = (with, without);
    without.video.iter_mut().for_each(|sample| sample.dts -= delay);
    let second = SEGMENT_FRAMES as usize..2 * SEGMENT_FRAMES as usize;
    mixed.video[second.clone()].clone_from_slice(&without.video[second]);
    let whole = mixed.write("mixed.mp4", 0..SEGMENTS);
    assert_eq!(packet_times(&whole, "v:0"), expected_times(&mixed.video));
    let shown = shown_times(&whole);
    let frame = case(X264).ticks();
    assert_eq!(shown, (0..SEGMENT_FRAMES * SEGMENTS).map(|n| n * frame).collect::<Vec<_>>());
}

#[test]
fn hevc_ten_bit_at_a_fractional_rate_and_ac3() {
    let encoded = check(&Case {
        video: Some((VideoCodec::Hevc, X265, "hvc1")),
        audio: Some((AudioCodec::Ac3, "ac3 -b:a 448k", "ac-3")),
        rate: Rational::new(24_000, 1001),
        timescale: 24_000,
        pixel_format: "yuv420p10le",
        bit_depth: 10,
        channels: 6,
        packet_samples: 1536,
        priming_samples: 256,
        ..Case::default()
    });
    assert!(encoded.tracks.video.as_ref().unwrap().reorder_frames >= 2, "the test needs reordered frames");
    assert_eq!(&encoded.video[0].data[..6], [0, 0, 0, 1, 0x46, 1], "and delimiters to take out");
}

#[test]
fn av1_and_opus() {
    check(&Case {
        video: Some((VideoCodec::Av1, "libsvtav1 -preset 12 -g 24", "av01")),
        audio: Some((AudioCodec::Opus, "libopus -b:a 96k", "Opus")),
        rate: Rational::new(30_000, 1001),
        timescale: 30_000,
        packet_samples: 960,
        priming_samples: 312,
        ..Case::default()
    });
}

#[test]
fn av1_of_another_encoder_in_ten_bit() {
    check(&Case {
        video: Some((
            VideoCodec::Av1,
            "libaom-av1 -cpu-used 8 -g 24 -keyint_min 24 -lag-in-frames 8",
            "av01",
        )),
        rate: Rational::from_int(25),
        timescale: 25,
        pixel_format: "yuv420p10le",
        bit_depth: 10,
        ..Case::default()
    });
}

#[test]
fn vp9() {
    check(&Case {
        video: Some((
            VideoCodec::Vp9,
            "libvpx-vp9 -deadline realtime -cpu-used 8 -g 24 -keyint_min 24",
            "vp09",
        )),
        rate: Rational::from_int(25),
        timescale: 25,
        profile: 0,
        ..Case::default()
    });
}

#[test]
fn eac3_alone() {
    check(&Case {
        audio: Some((AudioCodec::Eac3, "eac3 -b:a 384k", "ec-3")),
        channels: 6,
        packet_samples: 1536,
        priming_samples: 256,
        ..Case::default()
    });
}

#[test]
fn ac3_at_44100_hz_alone() {
    check(&Case {
        audio: Some((AudioCodec::Ac3, "ac3 -b:a 192k", "ac-3")),
        sample_rate: 44_100,
        packet_samples: 1536,
        priming_samples: 256,
        ..Case::default()
    });
}

#[test]
fn mp3_alone() {
    check(&Case {
        audio: Some((AudioCodec::Mp3, "libmp3lame -b:a 128k", "mp4a")),
        sample_rate: 44_100,
        packet_samples: 1152,
        priming_samples: 1105,
        ..Case::default()
    });
}
