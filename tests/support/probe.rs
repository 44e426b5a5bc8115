//! The judges: the system's `ffprobe` and `ffmpeg` commands, and a reader of MPEG-TS headers.

use super::run::{Outcome, finish};
use serde_json::Value;
use std::path::Path;
use std::process::Command;

/// One packet as `ffprobe` reports it, in ticks of its stream.
#[derive(Clone, Debug)]
pub struct Packet {
    /// Presentation time.
    pub pts: i64,
    /// Decode time.
    pub dts: i64,
    /// Flagged as a key frame.
    pub key: bool,
    /// Bytes.
    pub size: u64,
}

/// One decoded block of sound.
#[derive(Clone, Copy, Debug)]
pub struct SoundFrame {
    /// Presentation time in ticks of the stream.
    pub pts: i64,
    /// Samples for each channel.
    pub samples: i64,
}

/// `ffprobe -of json` with more options, on a file.
#[track_caller]
fn ffprobe(path: &Path, options: &[&str]) -> Value {
    let mut command = Command::new("ffprobe");
    command.args(["-v", "error", "-of", "json"]).args(options).arg(path);
    let outcome = finish(command).ok();
    serde_json::from_slice(&outcome.stdout).unwrap_or_else(|e| panic!("{}: {e}", outcome.command))
}

/// Every stream.
#[track_caller]
pub fn streams(path: &Path) -> Vec<Value> {
    let found = ffprobe(path, &["-show_streams"]);
    found["streams"].as_array().cloned().unwrap_or_default()
}

/// The first stream of a kind, `video` or `audio`.
#[track_caller]
pub fn stream(path: &Path, kind: &str) -> Value {
    let found = streams(path).into_iter().find(|s| s["codec_type"] == kind);
    found.unwrap_or_else(|| panic!("{} has no {kind}", path.display()))
}

/// Whether there is a stream of this kind.
#[track_caller]
pub fn has(path: &Path, kind: &str) -> bool {
    streams(path).iter().any(|s| s["codec_type"] == kind)
}

/// `"30000/1001"` as two numbers.
#[track_caller]
pub fn fraction(value: &Value) -> (i64, i64) {
    let text = value.as_str().unwrap_or_else(|| panic!("not a fraction: {value}"));
    let (num, den) = text.split_once('/').unwrap_or((text, "1"));
    (num.parse().expect("a numerator"), den.parse().expect("a denominator"))
}

fn number(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_str()?.parse().ok())
}

/// The packets of one stream (`v:0`, `a:0`) in the order of the file.
#[track_caller]
pub fn packets(path: &Path, select: &str) -> Vec<Packet> {
    let found = ffprobe(path, &["-select_streams", select, "-show_packets"]);
    let all = found["packets"].as_array().cloned().unwrap_or_default();
    let packet = |p: &Value| Packet {
        pts: number(&p["pts"])
            .unwrap_or_else(|| panic!("a packet without a time in {}: {p}", path.display())),
        dts: number(&p["dts"]).or(number(&p["pts"])).unwrap_or(0),
        key: p["flags"].as_str().is_some_and(|f| f.starts_with('K')),
        size: number(&p["size"]).unwrap_or(0) as u64,
    };
    all.iter().map(packet).collect()
}

/// How many pictures come out of a decoder.
#[track_caller]
pub fn frame_count(path: &Path) -> u64 {
    let found =
        ffprobe(path, &["-count_frames", "-select_streams", "v:0", "-show_entries", "stream=nb_read_frames"]);
    number(&found["streams"][0]["nb_read_frames"]).unwrap_or(0) as u64
}

/// The decoded sound, block by block.
#[track_caller]
pub fn sound_frames(path: &Path) -> Vec<SoundFrame> {
    let entries = "frame=pts,pkt_dts,best_effort_timestamp,nb_samples";
    let found = ffprobe(path, &["-select_streams", "a:0", "-show_frames", "-show_entries", entries]);
    let all = found["frames"].as_array().cloned().unwrap_or_default();
    let frame = |f: &Value| SoundFrame {
        pts: number(&f["pts"]).or(number(&f["best_effort_timestamp"])).expect("a time"),
        samples: number(&f["nb_samples"]).unwrap_or(0),
    };
    all.iter().map(frame).collect()
}

/// What decoding the whole file says at the level of warnings; nothing, for a good one.
#[track_caller]
pub fn complaints(path: &Path) -> String {
    let mut command = Command::new("ffmpeg");
    command.args(["-nostdin", "-hide_banner", "-v", "warning", "-i"]).arg(path);
    // By the null muxer's own choice, times that are rounded to milliseconds would be counted in frames,
    // and two of them may round to the same one: a complaint about nothing.
    command.args(["-map", "0", "-fps_mode", "vfr", "-f", "null", "-"]);
    finish(command).ok().stderr
}

/// A checksum of each decoded picture, in the order in which they are shown.
#[track_caller]
pub fn picture_sums(path: &Path) -> Vec<String> {
    sums(path, &["-map", "0:v:0", "-fps_mode", "passthrough"])
}

/// A checksum of each audio packet without the framing that MPEG-TS adds to AAC.
#[track_caller]
pub fn sound_packet_sums(path: &Path) -> Vec<String> {
    let aac = stream(path, "audio")["codec_name"] == "aac";
    let bare: &[&str] = if aac { &["-bsf:a", "aac_adtstoasc"] } else { &[] };
    sums(path, &[&["-map", "0:a:0", "-c", "copy"], bare].concat())
}

#[track_caller]
fn sums(path: &Path, options: &[&str]) -> Vec<String> {
    let mut command = Command::new("ffmpeg");
    command.args(["-nostdin", "-v", "error", "-i"]).arg(path).args(options).args(["-f", "framemd5", "-"]);
    let text = finish(command).ok().text();
    let sum = |line: &str| line.split(',').nth(5).map(|sum| sum.trim().to_owned());
    text.lines().filter(|l| !l.starts_with('#')).filter_map(sum).collect()
}

/// The sound as interleaved 16-bit samples.
#[track_caller]
pub fn pcm(path: &Path) -> Vec<i16> {
    let mut command = Command::new("ffmpeg");
    command.args(["-nostdin", "-v", "error", "-i"]).arg(path).args(["-map", "0:a:0", "-f", "s16le", "-"]);
    let Outcome { stdout, .. } = finish(command).ok();
    stdout.chunks_exact(2).map(|pair| i16::from_le_bytes([pair[0], pair[1]])).collect()
}

/// The mean brightness of each picture in the order in which they are shown, 0 to 255.
#[track_caller]
pub fn brightness(path: &Path) -> Vec<u8> {
    let mut command = Command::new("ffmpeg");
    command.args(["-nostdin", "-v", "error", "-i"]).arg(path);
    command.args(["-map", "0:v:0", "-fps_mode", "passthrough", "-vf", "scale=1:1:flags=area,format=gray"]);
    command.args(["-f", "rawvideo", "-"]);
    finish(command).ok().stdout
}

/// The `CODECS` string of the picture, by RFC 6381 and ISO/IEC 14496-15, from what `ffprobe` reads in
/// the bitstream.
#[track_caller]
pub fn avc_codec_string(path: &Path) -> String {
    let video = stream(path, "video");
    let mut command = Command::new("ffmpeg");
    command.args(["-nostdin", "-v", "error", "-i"]).arg(path);
    command.args(["-map", "0:v:0", "-c", "copy", "-bsf:v", "h264_mp4toannexb", "-f", "h264", "-"]);
    let bytes = finish(command).ok().stdout;
    let sps = bytes.windows(7).find(|w| w[..3] == [0, 0, 1] && w[3] & 0x1f == 7);
    let sps = sps.unwrap_or_else(|| panic!("no sequence parameter set in {}", path.display()));
    assert_eq!(i64::from(sps[6]), video["level"].as_i64().unwrap_or(-1), "ffprobe reads another level");
    format!("avc1.{:02X}{:02X}{:02X}", sps[4], sps[5], sps[6])
}

/// Places where the continuity counter of a PID does not run on (ISO/IEC 13818-1, 2.4.3.3).
pub fn ts_continuity_errors(bytes: &[u8]) -> Vec<String> {
    let mut counters = std::collections::HashMap::new();
    let mut errors = Vec::new();
    if !bytes.len().is_multiple_of(188) {
        errors.push(format!("{} bytes are not whole packets", bytes.len()));
    }
    for (n, packet) in bytes.chunks_exact(188).enumerate() {
        if packet[0] != 0x47 {
            errors.push(format!("packet {n} has no sync byte"));
        }
        let pid = u16::from_be_bytes([packet[1], packet[2]]) & 0x1fff;
        let has_payload = packet[3] & 0x10 != 0;
        if pid == 0x1fff || !has_payload {
            continue;
        }
        let counter = packet[3] & 0x0f;
        if let Some(last) = counters.insert(pid, counter)
            && (last + 1) & 0x0f != counter
        {
            errors.push(format!("packet {n}, PID {pid}: {counter} follows {last}"));
        }
    }
    errors
}
