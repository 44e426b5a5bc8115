//! Samples become one file.

use super::{Awaits, MadeRendition, MuxItem, codec_strings, next};
use crate::av::log::RunLog;
use crate::av::output::{FileFormat, Output, OutputStream};
use crate::av::{AvError, Packet, Parameters};
use crate::base::cancel::{Cancel, QueueRx};
use crate::base::error::{Error, Result, Stage};
use crate::model::segment::{Segment, SegmentSink};
use crate::model::track::{Sample, Tracks};
use bytes::Bytes;
use std::collections::VecDeque;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// The stage for MP4 and Matroska, through libav's muxers.
pub struct FileMux<'a> {
    /// Name of the rendition.
    pub name: String,
    /// The (temporary) file to write.
    pub path: &'a Path,
    /// The container.
    pub format: FileFormat,
    /// Which tracks to wait for.
    pub awaits: Awaits,
    /// For libav's log lines.
    pub log: &'a RunLog,
    /// The run's abort flag.
    pub cancel: &'a Cancel,
}

#[derive(Default)]
struct State {
    tracks: Option<Tracks>,
    output: Option<Output>,
    /// Samples that came before both tracks were known.
    waiting: VecDeque<(bool, Sample)>,
    video_ended: bool,
    audio_ended: bool,
    frames: u64,
    audio_packets: u64,
    end: u64,
}

impl FileMux<'_> {
    /// Runs until both tracks have ended; the file is then complete, closed and not yet synced.
    pub fn run(self, input: &QueueRx<MuxItem>) -> Result<MadeRendition> {
        let mut state = State {
            tracks: Some(Tracks { video: None, audio: None }),
            video_ended: !self.awaits.video,
            audio_ended: !self.awaits.audio,
            ..State::default()
        };
        while !(state.video_ended && state.audio_ended) {
            self.take(next(input)?, &mut state)?;
        }
        self.open_when_known(&mut state)?;
        let output = state.output.ok_or_else(|| Error::internal(Stage::Mux, "nothing came to be written"))?;
        output.finish().map_err(|e| self.failed(e))?;
        let tracks = state.tracks.unwrap_or(Tracks { video: None, audio: None });
        Ok(MadeRendition {
            codecs: codec_strings(&tracks).unwrap_or_default(),
            name: self.name,
            video: tracks.video,
            audio: tracks.audio,
            frames: state.frames,
            audio_packets: state.audio_packets,
            end: state.end,
        })
    }

    fn take(&self, item: MuxItem, state: &mut State) -> Result<()> {
        let Some(tracks) = &mut state.tracks else { return Ok(()) };
        match item {
            MuxItem::Several(items) => items.into_iter().try_for_each(|item| self.take(item, state))?,
            MuxItem::VideoTrack(track) => tracks.video = Some(*track),
            MuxItem::AudioTrack(track) => tracks.audio = Some(*track),
            MuxItem::Video { sample, .. } => {
                state.frames += 1;
                state.waiting.push_back((true, sample));
            }
            MuxItem::Audio(sample) => {
                state.audio_packets += 1;
                state.waiting.push_back((false, sample));
            }
            MuxItem::SegmentEnd { .. } => {}
            MuxItem::VideoEnd { end } => {
                state.video_ended = true;
                state.end = end;
            }
            MuxItem::AudioEnd { end } => {
                state.audio_ended = true;
                if !self.awaits.video {
                    state.end = end;
                }
            }
        }
        self.open_when_known(state)?;
        self.write_waiting(state)
    }

    fn open_when_known(&self, state: &mut State) -> Result<()> {
        let Some(tracks) = &state.tracks else { return Ok(()) };
        let known =
            (tracks.video.is_some() || !self.awaits.video) && (tracks.audio.is_some() || !self.awaits.audio);
        if known && state.output.is_none() && !state.waiting.is_empty() {
            let streams = self.streams(tracks)?;
            let output = Output::create(self.path, self.format, streams, self.log, self.cancel)
                .map_err(|e| self.failed(e))?;
            state.output = Some(output);
        }
        Ok(())
    }

    fn streams(&self, tracks: &Tracks) -> Result<Vec<OutputStream>> {
        let mut streams = Vec::new();
        if let Some(video) = &tracks.video {
            let params = Parameters::for_video(video).map_err(|e| self.failed(e))?;
            streams.push(OutputStream {
                params,
                time_base: video.time_base,
                frame_rate: Some(video.frame_rate),
            });
        }
        if let Some(audio) = &tracks.audio {
            let params = Parameters::for_audio(audio).map_err(|e| self.failed(e))?;
            streams.push(OutputStream { params, time_base: audio.time_base, frame_rate: None });
        }
        Ok(streams)
    }

    fn write_waiting(&self, state: &mut State) -> Result<()> {
        let Some(output) = &mut state.output else { return Ok(()) };
        while let Some((is_video, sample)) = state.waiting.pop_front() {
            let stream = usize::from(!is_video && self.awaits.video);
            let mut packet = Packet::from_slice(&sample.data).map_err(|e| self.failed(e))?;
            packet.set_times(stream, sample.pts, sample.dts, sample.duration, sample.key);
            output.write(packet, stream).map_err(|e| self.failed(e))?;
        }
        Ok(())
    }

    fn failed(&self, e: AvError) -> Error {
        let error = e.at(Stage::Mux, format_args!("cannot write {}", self.path.display()));
        if e.is_no_space() { error.hint("free some space or choose another output") } else { error }
    }
}

/// Puts the segments of one rendition one behind the other: a single MPEG-TS file is just that,
/// since our segments' counters and clocks run on.
pub struct AppendSink {
    path: PathBuf,
    file: Mutex<File>,
}

impl AppendSink {
    /// Creates the file.
    pub fn create(path: &Path) -> Result<Self> {
        let file = File::create(path).map_err(|e| Error::io(Stage::Publish, "create", path, &e))?;
        Ok(Self { path: path.to_owned(), file: Mutex::new(file) })
    }

    fn append(&self, data: &[u8]) -> Result<()> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.write_all(data).map_err(|e| Error::io(Stage::Publish, "write", &self.path, &e))
    }
}

impl SegmentSink for AppendSink {
    fn init(&self, _: usize, _: &[String], data: &[u8]) -> Result<()> {
        self.append(data)
    }

    /// Whole segments are appended.
    fn part(&self, _: usize, _: u64, _: Bytes) -> Result<()> {
        Ok(())
    }

    fn segment(&self, segment: Segment) -> Result<()> {
        segment.data.iter().try_for_each(|piece| self.append(piece))
    }
}
