//! Samples become segments.

use super::{Awaits, MadeRendition, MuxItem, codec_strings, next, seconds};
use crate::base::cancel::QueueRx;
use crate::base::error::{Error, Result, Stage};
use crate::base::time::Rational;
use crate::container::fmp4::Fmp4Muxer;
use crate::container::ts::TsMuxer;
use crate::model::job::SegmentType;
use crate::model::segment::{Segment, SegmentSink};
use crate::model::timeline::Timeline;
use crate::model::track::{AudioTrack, Sample, Tracks, VideoTrack};
use std::collections::VecDeque;

/// Bytes of samples that may wait for the other track. A source whose sound lies this far from its
/// picture is not interleaved, and would need the whole film in memory.
const MAX_WAITING_BYTES: usize = 1 << 30;

/// The container of the segments, made once both tracks are known.
pub enum Packaging {
    /// MPEG-TS.
    Ts(Box<TsMuxer>),
    /// Fragmented MP4.
    Fmp4(Box<Fmp4Muxer>),
}

impl Packaging {
    /// A muxer for these tracks. `first_audio` is any packet of the sound: AC-3 has no other
    /// configuration.
    pub fn new(kind: SegmentType, tracks: &Tracks, first_audio: Option<&[u8]>) -> Result<Self> {
        let bad = |e: &dyn std::fmt::Display| Error::internal(Stage::Mux, e.to_string());
        Ok(match kind {
            SegmentType::Ts => Self::Ts(Box::new(TsMuxer::new(tracks).map_err(|e| bad(&e))?)),
            SegmentType::Fmp4 => {
                Self::Fmp4(Box::new(Fmp4Muxer::new(tracks, first_audio).map_err(|e| bad(&e))?))
            }
        })
    }

    /// The init segment; empty for MPEG-TS.
    pub fn init(&self) -> Vec<u8> {
        match self {
            Self::Ts(_) => Vec::new(),
            Self::Fmp4(muxer) => muxer.init(),
        }
    }

    /// A segment's bytes.
    pub fn segment(&self, index: u64, video: &[Sample], audio: &[Sample]) -> Result<Vec<u8>> {
        match self {
            Self::Ts(muxer) => muxer.segment(index, video, audio).map_err(|e| e.to_string()),
            Self::Fmp4(muxer) => muxer.segment(index, video, audio).map_err(|e| e.to_string()),
        }
        .map_err(|e| Error::internal(Stage::Mux, format!("segment {index}: {e}")))
    }
}

/// The stage.
pub struct SegmentMux<'a> {
    /// Which rendition, as an index into the plan.
    pub rendition: usize,
    /// Its name.
    pub name: String,
    /// The cuts.
    pub timeline: &'a Timeline,
    /// First segment of the window.
    pub first_segment: u64,
    /// Which tracks to wait for.
    pub awaits: Awaits,
    /// The container.
    pub kind: SegmentType,
    /// Where the segments go.
    pub sink: &'a dyn SegmentSink,
}

/// A segment that is being filled. `end` is known once the next one begins or the title ends.
struct Open {
    index: u64,
    start: u64,
    end: Option<u64>,
    video: Vec<Sample>,
}

#[derive(Default)]
struct State {
    video_track: Option<VideoTrack>,
    audio_track: Option<AudioTrack>,
    packaging: Option<Packaging>,
    codecs: Vec<String>,
    open: VecDeque<Open>,
    audio: VecDeque<Sample>,
    waiting_bytes: usize,
    video_ended: bool,
    audio_ended: bool,
    frames: u64,
    audio_packets: u64,
    end: u64,
}

impl SegmentMux<'_> {
    /// Runs until both tracks have ended; every segment has then gone to the sink.
    pub fn run(self, input: &QueueRx<MuxItem>) -> Result<MadeRendition> {
        let mut state =
            State { video_ended: !self.awaits.video, audio_ended: !self.awaits.audio, ..State::default() };
        if !self.awaits.video {
            state.open.push_back(self.opened(self.timeline.segment_start(self.first_segment), &state));
        }
        while !(state.video_ended && state.audio_ended && state.open.is_empty()) {
            self.take(next(input)?, &mut state)?;
            self.close_complete(&mut state)?;
        }
        Ok(MadeRendition {
            name: self.name,
            codecs: state.codecs,
            video: state.video_track,
            audio: state.audio_track,
            frames: state.frames,
            audio_packets: state.audio_packets,
            end: state.end,
        })
    }

    fn take(&self, item: MuxItem, state: &mut State) -> Result<()> {
        match item {
            MuxItem::VideoTrack(track) => state.video_track = Some(*track),
            MuxItem::AudioTrack(track) => state.audio_track = Some(*track),
            MuxItem::Video { sample, segment_start } => self.take_video(sample, segment_start, state)?,
            MuxItem::Audio(sample) => {
                state.audio_packets += 1;
                state.waiting_bytes += sample.data.len();
                state.audio.push_back(sample);
            }
            MuxItem::VideoEnd { end } => {
                state.video_ended = true;
                self.end_title(end, state);
            }
            MuxItem::AudioEnd { end } => {
                state.audio_ended = true;
                if !self.awaits.video {
                    self.cut_sound(end, state);
                    self.end_title(end, state);
                }
            }
        }
        if state.waiting_bytes > MAX_WAITING_BYTES {
            let message = "picture and sound of the source lie too far apart to be put together";
            return Err(Error::new(
                crate::base::error::ErrorKind::BadSource,
                "not_interleaved",
                Stage::Mux,
                message,
            )
            .hint("remux the file first"));
        }
        Ok(())
    }

    fn take_video(&self, sample: Sample, segment_start: Option<u64>, state: &mut State) -> Result<()> {
        if let Some(start) = segment_start {
            if let Some(open) = state.open.back_mut() {
                open.end = Some(start);
            }
            let opened = self.opened(start, state);
            state.open.push_back(opened);
        }
        let Some(open) = state.open.back_mut() else {
            return Err(Error::internal(Stage::Mux, "the first picture of a run begins no segment"));
        };
        state.frames += 1;
        state.waiting_bytes += sample.data.len();
        open.video.push(sample);
        Ok(())
    }

    fn opened(&self, start: u64, state: &State) -> Open {
        let index = state.open.back().map_or(self.first_segment, |o| o.index + 1).max(state.next_index());
        Open { index, start, end: None, video: Vec::new() }
    }

    /// Without a picture the timeline's own cuts count, as far as the sound reaches.
    fn cut_sound(&self, end: u64, state: &mut State) {
        while let Some(open) = state.open.back_mut() {
            let next = self.timeline.open_start(open.index + 1);
            if next >= end || next <= open.start {
                break;
            }
            open.end = Some(next);
            let opened = self.opened(next, state);
            state.open.push_back(opened);
        }
    }

    fn end_title(&self, end: u64, state: &mut State) {
        state.end = end;
        if let Some(open) = state.open.back_mut() {
            open.end = Some(end.max(open.start + 1));
        }
    }

    /// Closes every segment whose picture and sound are complete.
    fn close_complete(&self, state: &mut State) -> Result<()> {
        let sound_alone = !self.awaits.video && !state.audio_ended;
        if let Some(reached) = state.sound_reaches().filter(|_| sound_alone) {
            let frame = self.timeline.slot_at_time(reached);
            self.cut_sound(u64::try_from(frame).unwrap_or(0), state);
        }
        while let Some(end) = state.open.front().and_then(|o| o.end) {
            let last = state.open.len() == 1;
            let end_time = self.timeline.frame_time(end);
            let sound_complete = state.audio_ended
                || (!last && state.sound_reaches().is_some_and(|reached| reached >= end_time));
            if !sound_complete {
                return Ok(());
            }
            let Some(open) = state.open.pop_front() else { return Ok(()) };
            let audio = state.take_sound_before((!last).then_some(end_time));
            self.finish(open, end, &audio, state)?;
        }
        Ok(())
    }

    fn finish(&self, open: Open, end: u64, audio: &[Sample], state: &mut State) -> Result<()> {
        let (start, end_time) = (self.timeline.frame_time(open.start), self.timeline.frame_time(end));
        let bytes = |samples: &[Sample]| samples.iter().map(|s| s.data.len()).sum::<usize>();
        state.waiting_bytes -= bytes(&open.video) + bytes(audio);
        let packaging = match &state.packaging {
            Some(packaging) => packaging,
            None => self.start(audio, state)?,
        };
        let data = packaging.segment(open.index, &open.video, audio)?;
        let frames = if self.awaits.video { open.video.len() } else { audio.len() } as u64;
        self.sink.segment(Segment {
            rendition: self.rendition,
            index: open.index,
            start,
            end: end_time,
            frames,
            audio_packets: audio.len() as u64,
            data,
        })
    }

    fn start<'s>(&self, audio: &[Sample], state: &'s mut State) -> Result<&'s Packaging> {
        if self.awaits.audio && state.audio_track.is_none()
            || self.awaits.video && state.video_track.is_none()
        {
            return Err(Error::internal(Stage::Mux, "a track was announced and never described"));
        }
        let tracks = Tracks { video: state.video_track.clone(), audio: state.audio_track.clone() };
        let packaging = Packaging::new(self.kind, &tracks, audio.first().map(|s| &s.data[..]))?;
        state.codecs = codec_strings(&tracks)?;
        self.sink.init(self.rendition, &state.codecs, &packaging.init())?;
        Ok(state.packaging.insert(packaging))
    }
}

impl State {
    fn next_index(&self) -> u64 {
        self.open.back().map_or(0, |o| o.index + 1)
    }

    /// The time of the last packet of sound that has come.
    fn sound_reaches(&self) -> Option<Rational> {
        let time_base = self.audio_track.as_ref()?.time_base;
        self.audio.back().map(|s| seconds(s.pts, time_base))
    }

    /// Takes the sound that starts before `end`; all of it for the last segment.
    fn take_sound_before(&mut self, end: Option<Rational>) -> Vec<Sample> {
        let Some(time_base) = self.audio_track.as_ref().map(|t| t.time_base) else { return Vec::new() };
        let count = match end {
            Some(end) => self.audio.partition_point(|s| seconds(s.pts, time_base) < end),
            None => self.audio.len(),
        };
        self.audio.drain(..count).collect()
    }
}
