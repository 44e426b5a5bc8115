//! A segment that is written while its samples come.
//!
//! What enters: the samples of both tracks, each in decoding order, at any pace, and the word that a
//! track is complete. What leaves: the segment's bytes, piece by piece, as far as they are certain. They are
//! the same however the samples came: what is written next depends on the samples alone, and where it cannot be
//! known yet (the other track may bring something earlier, a run of audio frames may go on) it waits.

use super::audio_groups::AudioGroups;
use super::{Packetizer, TsError, TsMuxer, to_90k};
use crate::base::time::{Rational, Rounding, rescale};
use crate::model::track::Sample;
use std::collections::VecDeque;

/// So many frames behind a group tell that it is whole: a lone last frame would have joined it.
const FRAMES_BEHIND_GROUP: usize = 2;

/// So much later than by its time sound is written, well within the lead of the clock. A parser of pictures
/// gives one out when the second after it begins. Sound that came before that would be the first packet of
/// the title, and FFmpeg takes the first packet's time for the beginning of the first segment: the key frames
/// of the others, whose decode times lie before their segments by the reordering, would seem to lie in the
/// segment before, and each seek would end one segment late.
const SOUND_BEHIND_90K: i64 = 6_300;
/// Not behind a picture that stands for longer: the clock runs on to the next one while it is written, and
/// sound would come when it should have been heard already.
const MAX_PICTURE_90K: i64 = 27_000;

/// A segment at work.
#[derive(Debug)]
pub struct Growing<'m> {
    muxer: &'m TsMuxer,
    packetizer: Packetizer<'m>,
    video: Lane,
    audio: Lane,
    /// What is certain and was not taken yet.
    out: Vec<u8>,
    /// How much was taken last: the next piece will be like it.
    usual_bytes: usize,
}

/// What has come of a track and is not written yet.
#[derive(Debug, Default)]
struct Lane {
    waiting: VecDeque<Sample>,
    complete: bool,
}

impl Lane {
    /// Ticks from the sample at the front to the next one, as far as that is known already.
    fn front_length(&self) -> Option<i64> {
        let front = self.waiting.front()?;
        let next = self.waiting.get(1).map(|next| next.dts.saturating_sub(front.dts));
        next.or(self.complete.then_some(front.duration))
    }
}

/// What can be done next.
enum Step {
    Video,
    Audio,
    Wait,
}

impl<'m> Growing<'m> {
    /// Segment number `index`. `has_video` says whether pictures will come; when not, though the
    /// rendition has them, the clock goes by the sound.
    pub(super) fn new(muxer: &'m TsMuxer, index: u64, has_video: bool, capacity: usize) -> Self {
        let mut out = Vec::with_capacity(capacity);
        let packetizer = Packetizer::new(muxer, index, has_video, &mut out);
        let video = Lane { complete: !has_video, ..Lane::default() };
        let audio = Lane { complete: muxer.audio.is_none(), ..Lane::default() };
        Self { muxer, packetizer, video, audio, out, usual_bytes: 0 }
    }

    /// Takes the next coded picture.
    pub fn push_video(&mut self, sample: Sample) {
        self.video.complete = false;
        self.video.waiting.push_back(sample);
    }

    /// Takes the next audio frame.
    pub fn push_audio(&mut self, sample: Sample) {
        self.audio.complete = false;
        self.audio.waiting.push_back(sample);
    }

    /// Writes what is certain. Says how many bytes of it were not taken yet.
    ///
    /// # Errors
    /// When a sample cannot be written: empty, too long, or out of order.
    pub fn advance(&mut self) -> Result<usize, TsError> {
        loop {
            match self.next_step() {
                Step::Video => self.write_video()?,
                Step::Audio if self.write_audio()? => {}
                Step::Audio | Step::Wait => return Ok(self.out.len()),
            }
        }
    }

    /// Takes what was written since the last time.
    pub fn take(&mut self) -> Vec<u8> {
        self.usual_bytes = self.out.len();
        let mut taken = std::mem::take(&mut self.out);
        taken.shrink_to_fit();
        taken
    }

    /// No more samples come: the rest of the segment, behind what was taken.
    ///
    /// # Errors
    /// As [`Growing::advance`].
    pub fn finish(mut self) -> Result<Vec<u8>, TsError> {
        (self.video.complete, self.audio.complete) = (true, true);
        self.advance()?;
        self.packetizer.finish(&mut self.out);
        Ok(self.out)
    }

    /// By DTS, sound a little behind.
    fn next_step(&self) -> Step {
        let video_base = self.muxer.video.as_ref().map_or(Rational::TB_90K, |v| v.time_base);
        let audio_base = self.muxer.audio.as_ref().map_or(Rational::TB_90K, |a| a.time_base);
        let video = self.video.waiting.front().map(|s| to_90k(s.dts, video_base));
        let audio = self.audio.waiting.front().map(|s| to_90k(s.pts, audio_base));
        match (video, audio) {
            (Some(video), Some(audio)) if audio >= video => self.video_step(),
            (Some(video), Some(audio)) if audio.saturating_add(SOUND_BEHIND_90K) < video => Step::Audio,
            (Some(_), Some(_)) => match self.picture_length() {
                Some(length) if length <= MAX_PICTURE_90K => self.video_step(),
                Some(_) => Step::Audio,
                None => Step::Wait,
            },
            (Some(_), None) if self.audio.complete => self.video_step(),
            (None, Some(_)) if self.video.complete => Step::Audio,
            _ => Step::Wait,
        }
    }

    /// From the picture at the front to the next one, as far as that is known already.
    fn picture_length(&self) -> Option<i64> {
        let base = self.muxer.video.as_ref().map_or(Rational::TB_90K, |v| v.time_base);
        // A length, not a time: the clock's own beginning does not belong to it.
        Some(rescale(self.video.front_length()?, base, Rational::TB_90K, Rounding::Nearest))
    }

    /// A picture's clock needs to know when the next one comes.
    fn video_step(&self) -> Step {
        if self.video.front_length().is_some() { Step::Video } else { Step::Wait }
    }

    fn write_video(&mut self) -> Result<(), TsError> {
        let length = self.video.front_length();
        let Some(sample) = self.video.waiting.pop_front() else { return Ok(()) };
        let is_last = self.video.waiting.is_empty();
        if self.out.is_empty() {
            self.out.reserve(self.usual_bytes.max(super::estimate_bytes(std::slice::from_ref(&sample), &[])));
        }
        self.packetizer.video(&sample, length.unwrap_or(sample.duration), is_last, &mut self.out)
    }

    /// Writes the frames at the front that share a PES packet. Says whether it could.
    fn write_audio(&mut self) -> Result<bool, TsError> {
        let Lane { waiting, complete } = &mut self.audio;
        let (complete, frames) = (*complete, &*waiting.make_contiguous());
        let Some(group) = AudioGroups::new(self.muxer.audio.as_ref(), frames).next() else {
            return Ok(false);
        };
        let count = group.frames.len();
        if !complete && frames.len() < count + FRAMES_BEHIND_GROUP {
            return Ok(false);
        }
        self.packetizer.audio(group.frames, group.last && complete, &mut self.out)?;
        waiting.drain(..count);
        Ok(true)
    }
}
