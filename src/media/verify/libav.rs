//! An output through libav's demuxers.
//!
//! What enters: a path. What leaves: streams and packets as a player on libav would see them.

use super::expected::{Found, FoundAudio, FoundVideo, TS_ORIGIN_90K, to_ticks, unwrap_33};
use super::failed;
use crate::av::input::{Input, Stream, StreamKind};
use crate::av::log::RunLog;
use crate::av::{Packet, Received};
use crate::base::cancel::Cancel;
use crate::base::error::{Error, ErrorKind, Result, Stage};
use crate::base::fs::TempFile;
use crate::base::time::Rational;
use crate::media::mux::MadeRendition;
use crate::model::track::{AudioCodec, VideoCodec};
use std::fs::File;
use std::path::Path;
use std::time::Duration;

/// We have just written it: if the disk takes longer to open it, something is wrong.
const OPEN_LIMIT: Duration = Duration::from_secs(60);

/// What libav says of a file.
#[derive(Debug)]
pub(super) struct Read {
    video: Option<VideoStream>,
    audio: Option<AudioStream>,
    /// Streams beyond one of each.
    extra: usize,
}

#[derive(Debug)]
struct VideoStream {
    index: usize,
    codec: String,
    size: (u32, u32),
    found: FoundVideo,
}

#[derive(Debug)]
struct AudioStream {
    index: usize,
    codec: String,
    sample_rate: u32,
    found: FoundAudio,
}

/// Opens `path`; with `packets` reads it to its end.
pub(super) fn read(path: &Path, packets: bool, cancel: &Cancel, log: &RunLog) -> Result<Read> {
    let mut input = Input::open(path, cancel, log, OPEN_LIMIT).map_err(|e| unreadable(path, e))?;
    let mut read = Read::describe(input.streams());
    if packets {
        read.take_packets(&mut input).map_err(|e| unreadable(path, e))?;
    }
    Ok(read)
}

/// Opens a segment that needs its initialisation segment in front, through a temporary file with both.
pub(super) fn read_behind_init(init: &Path, segment: &Path, cancel: &Cancel, log: &RunLog) -> Result<Read> {
    let both = TempFile::beside(&segment.with_extension("mp4"))?;
    join(&[init, segment], both.path()).map_err(|e| Error::io(Stage::Verify, "write", both.path(), &e))?;
    read(both.path(), true, cancel, log)
}

fn join(parts: &[&Path], path: &Path) -> std::io::Result<()> {
    let mut out = File::create(path)?;
    parts.iter().try_for_each(|part| std::io::copy(&mut File::open(part)?, &mut out).map(|_| ()))
}

/// What libav says about our own output is not said about somebody's source.
fn unreadable(path: &Path, err: Error) -> Error {
    match err.kind() {
        ErrorKind::Cancelled => Error::cancelled(Stage::Verify),
        ErrorKind::Io | ErrorKind::Timeout | ErrorKind::NoSpace => err,
        _ => failed(path, format_args!("libav cannot read it: {}", err.message())),
    }
}

impl Read {
    fn describe(streams: &[Stream]) -> Self {
        let of_kind = |kind| streams.iter().find(|s| s.kind == kind);
        let video = of_kind(StreamKind::Video).map(|s| VideoStream {
            index: s.index,
            codec: s.params.codec_name(),
            size: (s.params.width(), s.params.height()),
            found: FoundVideo { time_base: s.time_base, pts: Vec::new(), starts_with_key: false },
        });
        let audio = of_kind(StreamKind::Audio).map(|s| AudioStream {
            index: s.index,
            codec: s.params.codec_name(),
            sample_rate: s.params.sample_rate(),
            found: FoundAudio { time_base: s.time_base, first_pts: 0, packets: Some(0) },
        });
        let known = usize::from(video.is_some()) + usize::from(audio.is_some());
        Self { video, audio, extra: streams.len() - known }
    }

    fn take_packets(&mut self, input: &mut Input) -> Result<()> {
        let mut packet = Packet::new().map_err(|e| e.at(Stage::Verify, "cannot read the output"))?;
        loop {
            match input.read(&mut packet)? {
                Received::End => return Ok(()),
                Received::NeedsInput => {
                    return Err(Error::new(
                        ErrorKind::BadSource,
                        "bad_data",
                        Stage::Verify,
                        "a packet is damaged",
                    ));
                }
                Received::Item => self.take(&packet),
            }
        }
    }

    fn take(&mut self, packet: &Packet) {
        let Some(pts) = packet.pts().or(packet.dts()) else { return };
        if let Some(video) = self.video.as_mut().filter(|v| v.index == packet.stream()) {
            if video.found.pts.is_empty() {
                video.found.starts_with_key = packet.is_key();
            }
            video.found.pts.push(pts);
        } else if let Some(audio) = self.audio.as_mut().filter(|a| a.index == packet.stream()) {
            if audio.found.packets == Some(0) {
                audio.found.first_pts = pts;
            }
            audio.found.packets = audio.found.packets.map(|n| n + 1);
        }
    }

    /// In a file whose times count from title time 0.
    pub(super) fn found(&self) -> Found {
        let audio = self.audio.as_ref().map(|a| a.found.clone());
        Found {
            video: self.video.as_ref().map(|v| v.found.clone()),
            audio: audio.filter(|a| a.packets != Some(0)),
        }
    }

    /// In a segment of MPEG-TS that begins near `near_90k`.
    pub(super) fn found_in_ts(&self, near_90k: i64) -> Found {
        let mut found = self.found();
        let title_time = |ticks: &mut i64, base: Rational| {
            let ticks_90k = to_ticks(*ticks, base, Rational::TB_90K);
            *ticks = unwrap_33(ticks_90k, near_90k) - TS_ORIGIN_90K;
        };
        if let Some(video) = &mut found.video {
            video.pts.iter_mut().for_each(|pts| title_time(pts, video.time_base));
            video.time_base = Rational::TB_90K;
        }
        if let Some(audio) = &mut found.audio {
            title_time(&mut audio.first_pts, audio.time_base);
            audio.time_base = Rational::TB_90K;
        }
        found
    }
}

/// The streams are those that were made, and no others.
pub(super) fn check_streams(read: &Read, made: &MadeRendition) -> Result<(), String> {
    let video = made.video.as_ref().map(|t| (video_name(t.codec), (t.width, t.height)));
    let found = read.video.as_ref().map(|v| (v.codec.as_str(), v.size));
    if found != video {
        return Err(format!("libav sees the picture as {found:?} instead of {video:?}"));
    }
    let audio = made.audio.as_ref().map(|t| (audio_name(t.codec), t.sample_rate));
    // A segment behind the end of the sound has a track in its tables, but nothing that tells its rate.
    let rate = |a: &AudioStream| {
        audio.filter(|_| a.sample_rate == 0 && a.found.packets == Some(0)).map_or(a.sample_rate, |t| t.1)
    };
    let found = read.audio.as_ref().map(|a| (a.codec.as_str(), rate(a)));
    if found != audio {
        return Err(format!("libav sees the sound as {found:?} instead of {audio:?}"));
    }
    if read.extra > 0 { Err(format!("libav sees {} more streams", read.extra)) } else { Ok(()) }
}

fn video_name(codec: VideoCodec) -> &'static str {
    match codec {
        VideoCodec::H264 => "h264",
        VideoCodec::Hevc => "hevc",
        VideoCodec::Av1 => "av1",
        VideoCodec::Vp9 => "vp9",
    }
}

fn audio_name(codec: AudioCodec) -> &'static str {
    match codec {
        AudioCodec::Aac => "aac",
        AudioCodec::Ac3 => "ac3",
        AudioCodec::Eac3 => "eac3",
        AudioCodec::Opus => "opus",
        AudioCodec::Mp3 => "mp3",
    }
}
