//! Samples become segments.

use super::{Awaits, MadeRendition, MuxItem, codec_strings, next, seconds};
use crate::base::cancel::QueueRx;
use crate::base::error::{Error, Result, Stage};
use crate::base::pieces::Pieces;
use crate::base::time::Rational;
use crate::container::fmp4::Fmp4Muxer;
use crate::container::ts::{Growing, TsMuxer};
use crate::model::job::SegmentType;
use crate::model::segment::{Segment, SegmentSink};
use crate::model::timeline::Timeline;
use crate::model::track::{AudioTrack, Sample, Tracks, VideoTrack};
use bytes::Bytes;
use std::cell::OnceCell;
use std::collections::VecDeque;

/// Bytes of samples that may wait for the other track. A source whose sound lies this far from its
/// picture is not interleaved, and would need the whole film in memory.
const MAX_WAITING_BYTES: usize = 1 << 30;

/// What grows is shown as soon as nothing more is at hand, and else in pieces of this size: a copied segment
/// is there in some ten milliseconds, and to show each of its hundreds of samples costs more than to make it.
const SHOWN_AT_ONCE_BYTES: usize = 128 * 1024;

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
    fn segment(&self, index: u64, video: &[Sample], audio: &[Sample]) -> Result<Vec<u8>> {
        match self {
            Self::Ts(muxer) => muxer.segment(index, video, audio).map_err(|e| e.to_string()),
            Self::Fmp4(muxer) => muxer.segment(index, video, audio).map_err(|e| e.to_string()),
        }
        .map_err(|e| failed(index, &e))
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
    /// Pictures that have come and are not with its writer yet.
    video: VecDeque<Sample>,
}

/// What takes the samples of the first open segment.
struct Writer<'p> {
    content: Content<'p>,
    frames: u64,
    audio_packets: u64,
    /// Bytes of the samples that it was given.
    taken_bytes: usize,
    /// What the sink has been shown of the segment.
    shown: Pieces,
}

enum Content<'p> {
    /// Written while the samples come.
    Ts(Growing<'p>),
    /// The head of a fragment tells the sizes of all that follows.
    Fmp4 { muxer: &'p Packaging, video: Vec<Sample>, audio: Vec<Sample> },
}

#[derive(Default)]
struct State<'p> {
    video_track: Option<VideoTrack>,
    audio_track: Option<AudioTrack>,
    codecs: Vec<String>,
    open: VecDeque<Open>,
    /// Of the first one in `open`, once its tracks are known.
    writer: Option<Writer<'p>>,
    audio: VecDeque<Sample>,
    /// Where the sound begins that came last, in ticks of its track.
    audio_reached: Option<i64>,
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
        let packaging = OnceCell::new();
        let mut state =
            State { video_ended: !self.awaits.video, audio_ended: !self.awaits.audio, ..State::default() };
        if !self.awaits.video {
            state.open.push_back(self.opened(self.timeline.segment_start(self.first_segment), &state));
        }
        while !(state.video_ended && state.audio_ended && state.open.is_empty()) {
            self.take(next(input)?, &mut state)?;
            self.write_ahead(&packaging, &mut state, input.is_empty())?;
            self.close_complete(&packaging, &mut state)?;
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

    fn take(&self, item: MuxItem, state: &mut State<'_>) -> Result<()> {
        match item {
            MuxItem::Several(items) => items.into_iter().try_for_each(|item| self.take(item, state))?,
            MuxItem::VideoTrack(track) => state.video_track = Some(*track),
            MuxItem::AudioTrack(track) => state.audio_track = Some(*track),
            MuxItem::Video { sample, segment_start } => self.take_video(sample, segment_start, state)?,
            MuxItem::Audio(sample) => {
                state.audio_packets += 1;
                state.waiting_bytes += sample.data.len();
                state.audio_reached = Some(sample.pts);
                state.audio.push_back(sample);
            }
            MuxItem::SegmentEnd { at } => self.begin_segment(at, state),
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

    fn take_video(&self, sample: Sample, segment_start: Option<u64>, state: &mut State<'_>) -> Result<()> {
        if let Some(start) = segment_start {
            self.begin_segment(start, state);
        }
        let Some(open) = state.open.back_mut() else {
            return Err(Error::internal(Stage::Mux, "the first picture of a run begins no segment"));
        };
        state.frames += 1;
        state.waiting_bytes += sample.data.len();
        open.video.push_back(sample);
        Ok(())
    }

    /// The segment at work ends where this one begins. Nothing if that was known.
    fn begin_segment(&self, start: u64, state: &mut State<'_>) {
        if state.open.back().is_some_and(|open| open.start == start && open.video.is_empty()) {
            return;
        }
        if let Some(open) = state.open.back_mut() {
            open.end = Some(start);
        }
        let opened = self.opened(start, state);
        state.open.push_back(opened);
    }

    fn opened(&self, start: u64, state: &State<'_>) -> Open {
        let index = state.open.back().map_or(self.first_segment, |o| o.index + 1).max(state.next_index());
        Open { index, start, end: None, video: VecDeque::new() }
    }

    /// Without a picture the timeline's own cuts count, as far as the sound reaches.
    fn cut_sound(&self, end: u64, state: &mut State<'_>) {
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

    fn end_title(&self, end: u64, state: &mut State<'_>) {
        state.end = end;
        if let Some(open) = state.open.back_mut() {
            open.end = Some(end.max(open.start + 1));
        }
    }

    /// Gives what has come of the first open segment to its writer, and shows the sink what is certain: at once,
    /// or when it is worth it.
    fn write_ahead<'p>(
        &self,
        packaging: &'p OnceCell<Packaging>,
        state: &mut State<'p>,
        at_once: bool,
    ) -> Result<()> {
        let known = (state.video_track.is_some() || !self.awaits.video)
            && (state.audio_track.is_some() || !self.awaits.audio);
        if self.kind != SegmentType::Ts || !known || state.open.is_empty() {
            return Ok(());
        }
        self.give(packaging, state, Some(self.planned_end(state)))?;
        let (Some(writer), Some(open)) = (&mut state.writer, state.open.front()) else { return Ok(()) };
        let Content::Ts(growing) = &mut writer.content else { return Ok(()) };
        let fresh_bytes = growing.advance().map_err(|e| failed(open.index, &e))?;
        if fresh_bytes == 0 || !at_once && fresh_bytes < SHOWN_AT_ONCE_BYTES {
            return Ok(());
        }
        let piece = Bytes::from(growing.take());
        writer.shown.push(piece.clone());
        self.sink.part(self.rendition, open.index, piece)
    }

    /// Where the first open segment will end, as far as is known now.
    fn planned_end(&self, state: &State<'_>) -> Rational {
        let end = state
            .open
            .front()
            .map(|open| open.end.unwrap_or_else(|| self.timeline.open_start(open.index + 1)));
        self.timeline.frame_time(end.unwrap_or(0))
    }

    /// Gives the first open segment's pictures to its writer, and the sound that starts before `end`.
    fn give<'p>(
        &self,
        packaging: &'p OnceCell<Packaging>,
        state: &mut State<'p>,
        end: Option<Rational>,
    ) -> Result<()> {
        let audio = state.take_sound_before(end);
        if state.writer.is_none() {
            let muxer = self.started(packaging, audio.first(), state)?;
            let index = state.open.front().map_or(0, |open| open.index);
            state.writer = Some(Writer::new(muxer, index, self.awaits.video));
        }
        let (Some(writer), Some(open)) = (&mut state.writer, state.open.front_mut()) else { return Ok(()) };
        open.video.drain(..).for_each(|sample| writer.video(sample));
        audio.into_iter().for_each(|sample| writer.audio(sample));
        Ok(())
    }

    /// Closes every segment whose picture and sound are complete.
    fn close_complete<'p>(&self, packaging: &'p OnceCell<Packaging>, state: &mut State<'p>) -> Result<()> {
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
            self.give(packaging, state, (!last).then_some(end_time))?;
            let (Some(open), Some(writer)) = (state.open.pop_front(), state.writer.take()) else {
                return Ok(());
            };
            state.waiting_bytes -= writer.taken_bytes;
            self.finish(&open, end, writer)?;
            self.write_ahead(packaging, state, true)?;
        }
        Ok(())
    }

    fn finish(&self, open: &Open, end: u64, writer: Writer<'_>) -> Result<()> {
        let Writer { content, frames, audio_packets, shown, .. } = writer;
        let rest = match content {
            Content::Ts(growing) => growing.finish().map_err(|e| failed(open.index, &e))?,
            Content::Fmp4 { muxer, video, audio } => muxer.segment(open.index, &video, &audio)?,
        };
        let mut data = shown;
        data.extend(Pieces::from(rest));
        self.sink.segment(Segment {
            rendition: self.rendition,
            index: open.index,
            start: self.timeline.frame_time(open.start),
            end: self.timeline.frame_time(end),
            frames: if self.awaits.video { frames } else { audio_packets },
            audio_packets,
            data: data.gathered(),
        })
    }

    /// The container, made when the first segment asks for it.
    fn started<'p>(
        &self,
        packaging: &'p OnceCell<Packaging>,
        first_audio: Option<&Sample>,
        state: &mut State<'_>,
    ) -> Result<&'p Packaging> {
        if let Some(packaging) = packaging.get() {
            return Ok(packaging);
        }
        if self.awaits.audio && state.audio_track.is_none()
            || self.awaits.video && state.video_track.is_none()
        {
            return Err(Error::internal(Stage::Mux, "a track was announced and never described"));
        }
        let tracks = Tracks { video: state.video_track.clone(), audio: state.audio_track.clone() };
        let made = Packaging::new(self.kind, &tracks, first_audio.map(|s| &s.data[..]))?;
        state.codecs = codec_strings(&tracks)?;
        self.sink.init(self.rendition, &state.codecs, &made.init())?;
        Ok(packaging.get_or_init(|| made))
    }
}

impl<'p> Writer<'p> {
    fn new(muxer: &'p Packaging, index: u64, has_video: bool) -> Self {
        let content = match muxer {
            Packaging::Ts(muxer) => Content::Ts(muxer.begin(index, has_video)),
            Packaging::Fmp4(_) => Content::Fmp4 { muxer, video: Vec::new(), audio: Vec::new() },
        };
        Self { content, frames: 0, audio_packets: 0, taken_bytes: 0, shown: Pieces::default() }
    }

    fn video(&mut self, sample: Sample) {
        self.frames += 1;
        self.taken_bytes += sample.data.len();
        match &mut self.content {
            Content::Ts(growing) => growing.push_video(sample),
            Content::Fmp4 { video, .. } => video.push(sample),
        }
    }

    fn audio(&mut self, sample: Sample) {
        self.audio_packets += 1;
        self.taken_bytes += sample.data.len();
        match &mut self.content {
            Content::Ts(growing) => growing.push_audio(sample),
            Content::Fmp4 { audio, .. } => audio.push(sample),
        }
    }
}

fn failed(index: u64, e: &dyn std::fmt::Display) -> Error {
    Error::internal(Stage::Mux, format!("segment {index}: {e}"))
}

impl State<'_> {
    fn next_index(&self) -> u64 {
        self.open.back().map_or(0, |o| o.index + 1)
    }

    /// The time of the last packet of sound that has come.
    fn sound_reaches(&self) -> Option<Rational> {
        let time_base = self.audio_track.as_ref()?.time_base;
        self.audio_reached.map(|pts| seconds(pts, time_base))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::cancel::{Cancel, QueueTx, queue};
    use crate::model::track::AudioCodec;
    use std::sync::Mutex;
    use std::thread;
    use std::time::{Duration, Instant};

    const FRAME_BYTES: usize = 300;

    /// What was shown, and what was made.
    #[derive(Default)]
    struct Kept(Mutex<Vec<Vec<u8>>>, Mutex<Vec<Segment>>);

    impl SegmentSink for Kept {
        fn init(&self, _: usize, _: &[String], _: &[u8]) -> Result<()> {
            Ok(())
        }

        fn part(&self, _: usize, _: u64, data: Bytes) -> Result<()> {
            self.0.lock().unwrap().push(data.into());
            Ok(())
        }

        fn segment(&self, segment: Segment) -> Result<()> {
            self.1.lock().unwrap().push(segment);
            Ok(())
        }
    }

    fn track() -> MuxItem {
        MuxItem::AudioTrack(Box::new(AudioTrack {
            codec: AudioCodec::Aac,
            sample_rate: 48_000,
            channels: 2,
            time_base: Rational::new(1, 48_000),
            packet_samples: 1024,
            priming_samples: 0,
            config: vec![0x11, 0x90],
            bitrate: 0,
        }))
    }

    fn frame(n: i64) -> MuxItem {
        let pts = n * 1024;
        let data = vec![n as u8; FRAME_BYTES].into();
        MuxItem::Audio(Sample { pts, dts: pts, duration: 1024, key: true, data })
    }

    /// One segment of ten seconds, out of what `feed` sends.
    fn made(sink: &Kept, feed: impl FnOnce(QueueTx<MuxItem>)) -> Segment {
        let (tx, rx) = queue(1024, &Cancel::new(), Stage::Mux);
        let ten = Rational::from_int(10);
        let timeline = Timeline::new(Rational::from_int(25), ten, ten);
        let mux = SegmentMux {
            rendition: 0,
            name: String::new(),
            timeline: &timeline,
            first_segment: 0,
            awaits: Awaits { video: false, audio: true },
            kind: SegmentType::Ts,
            sink,
        };
        thread::scope(|scope| {
            let run = scope.spawn(|| mux.run(&rx).map(drop));
            feed(tx);
            run.join().unwrap().unwrap();
        });
        sink.1.lock().unwrap().pop().unwrap()
    }

    fn wait_until(done: impl Fn() -> bool) {
        let begin = Instant::now();
        while !done() {
            assert!(begin.elapsed() < Duration::from_secs(30), "nothing is shown");
            thread::yield_now();
        }
    }

    #[test]
    fn what_is_certain_is_shown_as_soon_as_nothing_more_is_at_hand() {
        let sink = Kept::default();
        let segment = made(&sink, |tx| {
            tx.send(track()).unwrap();
            for n in 0..400 {
                tx.send(frame(n)).unwrap();
                if n % 40 == 39 {
                    wait_until(|| sink.0.lock().unwrap().len() as i64 > n / 40);
                }
            }
            tx.send(MuxItem::AudioEnd { end: 250 }).unwrap();
        });
        let shown = sink.0.lock().unwrap().concat();
        let data = segment.data.joined();
        assert!(
            data.starts_with(&shown) && shown.len() * 2 > data.len(),
            "{} of {}",
            shown.len(),
            data.len()
        );
    }

    #[test]
    fn what_comes_at_once_is_shown_in_few_pieces_or_not_before_the_end() {
        let sink = Kept::default();
        let items = (0..400).map(frame).chain([MuxItem::AudioEnd { end: 250 }]);
        let several = std::iter::once(track()).chain(items).collect();
        let segment = made(&sink, |tx| assert!(tx.send(MuxItem::Several(several)).is_ok()));
        let shown = sink.0.lock().unwrap();
        assert!(shown.len() <= 1, "{} pieces", shown.len());
        assert!(segment.data.len() > 400 * FRAME_BYTES && segment.data.joined().starts_with(&shown.concat()));
    }
}
