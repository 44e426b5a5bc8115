//! `sprocket inspect`: what a source is and what would be made of it, for people or as JSON.
//!
//! What enters: a path. What leaves: text on stdout, and nothing else there. Finding the facts is
//! `media::inspect`'s work; here they are only worded.

use super::progress::clock;
use crate::av::log::RunLog;
use crate::base::cancel::Cancel;
use crate::base::error::{Error, ErrorKind, Result, Stage};
use crate::base::time::Rational;
use crate::media::demux::OPEN_LIMIT;
use crate::media::inspect::inspect;
use crate::model::ladder::{self, LadderSource, Rung};
use crate::model::source::{AudioFacts, SourceFacts, StreamFacts, VideoFacts};
use crate::model::timeline::{MAX_GRID_RATE, grid_rate};
use crate::model::track::VideoCodec;
use serde::Serialize;
use std::io::{self, Write};
use std::path::Path;

/// What a transcode without further wishes makes of the source.
#[derive(Debug, Serialize)]
struct WouldDo {
    /// The shape of the output.
    format: &'static str,
    /// Frames each second of the output; `null` without a picture.
    frame_rate: Option<Rational>,
    /// The automatic ladder, largest first; empty without a picture that can be decoded.
    renditions: Vec<Rung>,
}

#[derive(Debug, Serialize)]
struct Report<'a> {
    #[serde(flatten)]
    facts: &'a SourceFacts,
    would_do: &'a WouldDo,
}

/// Prints what `path` is.
///
/// # Errors
/// Whatever keeps it from being read, and a stdout that cannot be written to; that its reader has gone
/// (`| head`) is none.
pub fn run(path: &Path, json: bool, cancel: &Cancel) -> Result<()> {
    let facts = inspect(path, cancel, &RunLog::new(), OPEN_LIMIT)?;
    let would_do = would_do(&facts);
    let text = if json { as_json(&facts, &would_do)? } else { as_text(path, &facts, &would_do) };
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => {
            Err(Error::io(Stage::Publish, "write to", Path::new("stdout"), &e))
        }
        _ => Ok(()),
    }
}

fn would_do(facts: &SourceFacts) -> WouldDo {
    let video = facts.video.as_ref().filter(|v| is_decodable(facts, v.stream));
    let frame_rate = video.map(|v| grid_rate(v.frame_rate, v.constant_rate, MAX_GRID_RATE));
    let renditions = video.zip(frame_rate).map_or(Vec::new(), |(v, rate)| ladder_of(v, rate));
    WouldDo { format: "hls", frame_rate, renditions }
}

fn is_decodable(facts: &SourceFacts, stream: usize) -> bool {
    facts.streams.iter().any(|s| s.index == stream && s.decodable)
}

fn ladder_of(video: &VideoFacts, frame_rate: Rational) -> Vec<Rung> {
    let (display_width, display_height) = shown_size(video);
    let source_codec = match video.codec.as_str() {
        "h264" => Some(VideoCodec::H264),
        "hevc" => Some(VideoCodec::Hevc),
        "av1" => Some(VideoCodec::Av1),
        "vp9" => Some(VideoCodec::Vp9),
        _ => None,
    };
    ladder::automatic(&LadderSource {
        display_width,
        display_height,
        frame_rate,
        video_bitrate_bps: video.bitrate_bps,
        source_codec,
        codec: VideoCodec::H264,
    })
}

fn shown_size(video: &VideoFacts) -> (u32, u32) {
    ladder::display_size(video.width, video.height, video.sample_aspect_ratio)
}

fn as_json(facts: &SourceFacts, would_do: &WouldDo) -> Result<String> {
    let text = serde_json::to_string_pretty(&Report { facts, would_do });
    text.map(|t| t + "\n").map_err(|e| {
        Error::new(
            ErrorKind::Internal,
            "internal",
            Stage::Publish,
            format!("the facts do not fit into JSON: {e}"),
        )
    })
}

fn as_text(path: &Path, facts: &SourceFacts, would_do: &WouldDo) -> String {
    let mut lines = vec![path.display().to_string()];
    let mut say = |label: &str, text: String| lines.push(format!("  {label:<10} {text}"));
    say("container", format!("{}, {}", facts.container, bytes_text(facts.size_bytes)));
    say("duration", format!("{} ({:.3} s)", clock(facts.duration.to_ms()), facts.duration.to_f64()));
    for stream in &facts.streams {
        say(&format!("stream {}", stream.index), stream_text(stream, facts));
    }
    if let Some(video) = &facts.video {
        say("picture", picture_text(video));
        say("", span_text(video.start, video.end, facts.origin));
        say("key frames", key_frames_text(video));
    }
    if let Some(audio) = &facts.audio {
        say("sound", sound_text(audio));
        say("", span_text(audio.start, audio.end, facts.origin));
    }
    would_do_text(facts, would_do).into_iter().for_each(|(label, text)| say(label, text));
    facts.warnings.iter().for_each(|warning| say("warning", warning.clone()));
    lines.join("\n") + "\n"
}

fn stream_text(stream: &StreamFacts, facts: &SourceFacts) -> String {
    let mut text = format!("{}, {}", stream.kind, stream.codec);
    if let Some(language) = &stream.language {
        text += &format!(", {language}");
    }
    let taken = [facts.video.as_ref().map(|v| v.stream), facts.audio.as_ref().map(|a| a.stream)];
    if taken.contains(&Some(stream.index)) {
        text += ", taken";
    }
    if !stream.decodable && matches!(stream.kind, "video" | "audio") {
        text += ", no decoder";
    }
    text
}

fn picture_text(v: &VideoFacts) -> String {
    let mut parts = vec![format!("{}, {}x{}", v.codec, v.width, v.height)];
    let shown = shown_size(v);
    if v.sample_aspect_ratio != Rational::from_int(1) {
        parts.push(format!("shown as {}x{}", shown.0, shown.1));
    }
    let kind = if v.constant_rate { "constant" } else { "variable" };
    parts.push(format!("{} frames/s ({kind})", rate_text(v.frame_rate)));
    parts.push(format!("{}, {} bits", v.pixel_format, v.bit_depth));
    parts.push(if v.dynamic_range == "sdr" { "SDR".into() } else { format!("HDR ({})", v.dynamic_range) });
    if v.interlaced {
        parts.push("interlaced".into());
    }
    if v.rotation_degrees != 0 {
        parts.push(format!("to be turned by {} degrees", v.rotation_degrees));
    }
    parts.extend(v.bitrate_bps.map(bitrate_text));
    parts.join(", ")
}

fn key_frames_text(v: &VideoFacts) -> String {
    match v.key_frames {
        Some(count) => {
            let apart = (v.end - v.start).to_f64() / count.max(1) as f64;
            format!("{count}, {apart:.1} s apart on average")
        }
        None => "the container has no index of them".into(),
    }
}

fn sound_text(a: &AudioFacts) -> String {
    let mut parts = vec![format!("{}, {} Hz, {} channels", a.codec, a.sample_rate, a.channels)];
    parts.extend(a.bitrate_bps.map(bitrate_text));
    parts.join(", ")
}

fn span_text(start: Rational, end: Rational, origin: Rational) -> String {
    let (start, end) = (start - origin, end - origin);
    format!("from {:.3} s to {:.3} s of the title", start.to_f64(), end.to_f64())
}

fn would_do_text(facts: &SourceFacts, would_do: &WouldDo) -> Vec<(&'static str, String)> {
    let mut lines = Vec::new();
    if let Some(rate) = would_do.frame_rate {
        lines.push(("would make", format!("HLS, H.264 at {} frames/s", rate_text(rate))));
    } else if facts.video.is_none() {
        lines.push(("would make", "HLS, sound alone".into()));
    } else {
        lines
            .push(("would make", "nothing without --video-codec copy: the picture cannot be decoded".into()));
    }
    for rung in &would_do.renditions {
        let most =
            rung.video.bitrate_bps.map_or(String::new(), |bps| format!(", at most {}", bitrate_text(bps)));
        lines.push(("", format!("{:<6} {}x{}{most}", rung.name, rung.width, rung.height)));
    }
    lines
}

fn rate_text(rate: Rational) -> String {
    if rate.den() == 1 { rate.to_string() } else { format!("{:.3}", rate.to_f64()) }
}

fn bitrate_text(bps: u64) -> String {
    format!("{} kbit/s", bps.div_ceil(1000))
}

fn bytes_text(bytes: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1_000_000_000, "GB"), (1_000_000, "MB"), (1000, "kB")];
    let unit = UNITS.into_iter().find(|(size, _)| bytes >= *size);
    unit.map_or(format!("{bytes} bytes"), |(size, name)| format!("{:.1} {name}", bytes as f64 / size as f64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::track::Colour;

    fn film() -> SourceFacts {
        let stream = |index, kind, codec: &str, decodable| StreamFacts {
            index,
            kind,
            codec: codec.into(),
            language: (kind == "audio").then(|| "eng".into()),
            decodable,
        };
        let r = Rational::new;
        let video = VideoFacts {
            stream: 0,
            codec: "h264".into(),
            width: 720,
            height: 576,
            sample_aspect_ratio: r(64, 45),
            frame_rate: r(24_000, 1001),
            constant_rate: true,
            pixel_format: "yuv420p".into(),
            bit_depth: 8,
            colour: Colour { primaries: 2, transfer: 2, matrix: 2, full_range: false },
            dynamic_range: "sdr",
            interlaced: true,
            rotation_degrees: 0,
            time_base: r(1, 1000),
            start: r(7, 5),
            end: r(37, 5),
            frame_count: None,
            key_frames: Some(3),
            bitrate_bps: Some(1_500_000),
        };
        let audio = AudioFacts {
            stream: 1,
            codec: "ac3".into(),
            sample_rate: 48_000,
            channels: 6,
            frame_samples: 1536,
            time_base: r(1, 1000),
            start: r(7, 5),
            end: r(37, 5),
            bitrate_bps: None,
        };
        SourceFacts {
            container: "matroska,webm".into(),
            size_bytes: 1_234_567,
            origin: r(7, 5),
            duration: r(6, 1),
            video: Some(video),
            audio: Some(audio),
            streams: vec![stream(0, "video", "h264", true), stream(1, "audio", "ac3", true)],
            warnings: vec!["odd".into()],
        }
    }

    #[test]
    fn people_read_this() {
        let facts = film();
        let expected = "\
film.mkv
  container  matroska,webm, 1.2 MB
  duration   0:06 (6.000 s)
  stream 0   video, h264, taken
  stream 1   audio, ac3, eng, taken
  picture    h264, 720x576, shown as 1024x576, 23.976 frames/s (constant), yuv420p, 8 bits, SDR, interlaced, 1500 kbit/s
             from 0.000 s to 6.000 s of the title
  key frames 3, 2.0 s apart on average
  sound      ac3, 48000 Hz, 6 channels
             from 0.000 s to 6.000 s of the title
  would make HLS, H.264 at 23.976 frames/s
             576p   1024x576, at most 1739 kbit/s
             360p   640x360, at most 692 kbit/s
             240p   426x240, at most 346 kbit/s
  warning    odd
";
        let text = as_text(Path::new("film.mkv"), &facts, &would_do(&facts));
        // The caps are the ladder's business and tested there.
        let but_caps = |text: &str| {
            text.lines().map(|l| l.split(", at most").next().unwrap_or("").to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(but_caps(&text), but_caps(expected));
    }

    #[test]
    fn programs_read_this() {
        let facts = film();
        let json: serde_json::Value =
            serde_json::from_str(&as_json(&facts, &would_do(&facts)).unwrap()).unwrap();
        assert_eq!(json["origin"], "7/5");
        assert_eq!(json["video"]["frame_rate"], "24000/1001");
        assert_eq!(json["would_do"]["frame_rate"], "24000/1001");
        assert_eq!(json["would_do"]["renditions"][0]["name"], "576p");
        assert_eq!(json["would_do"]["renditions"].as_array().map(Vec::len), Some(3));
    }

    #[test]
    fn a_picture_without_a_decoder_has_no_ladder() {
        let mut facts = film();
        facts.streams[0].decodable = false;
        let done = would_do(&facts);
        assert!(done.renditions.is_empty() && done.frame_rate.is_none());
        assert!(as_text(Path::new("x"), &facts, &done).contains("--video-codec copy"));
        facts.video = None;
        assert!(as_text(Path::new("x"), &facts, &would_do(&facts)).contains("sound alone"));
    }
}
