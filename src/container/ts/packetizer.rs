//! A segment as it grows: one PES packet after the other, in DTS order.
//!
//! What enters: coded pictures and runs of audio frames, each with the word whether it is the last of
//! its track in this segment. What leaves: transport packets, appended to the caller's buffer, which
//! may be taken away between two calls. So a segment can be sent while it is being encoded.
//!
//! Which samples belong to a segment, and how the two tracks are interleaved, is the caller's affair.

use super::packet::{Clock, MIN_SPREAD_BYTES, Marks, PidWriter};
use super::pes::{self, PesHeader};
use super::{
    AUDIO_PID, AudioStream, PCR_LEAD_90K, TsError, TsMuxer, VIDEO_PID, VideoStream, access_unit, adts, to_90k,
};
use crate::base::time::{Rational, Rounding, rescale};
use crate::model::track::{AudioCodec, Sample};

/// Clock references stand at most this far apart: 40 ms (ETSI TR 101 290; ISO/IEC 13818-1 has 100 ms).
const MAX_PCR_GAP_90K: i64 = 3_600;
/// A hole in the media that is longer than this (a minute) is not filled with clock packets.
const MAX_FILL_90K: i64 = 60 * 90_000;

/// Writes one segment.
#[derive(Debug)]
pub struct Packetizer<'m> {
    muxer: &'m TsMuxer,
    video: PidWriter,
    audio: PidWriter,
    /// The rendition has a picture, but this segment has none of it.
    clock_from_audio: bool,
    /// Last clock reference that was written.
    last_pcr_90k: Option<i64>,
    last_video_dts: Option<i64>,
    last_audio_pts: Option<i64>,
    /// Where the clock has to have arrived when the segment ends, as a DTS.
    end_90k: Option<i64>,
    /// The last picture is written: sound that follows must not drive the clock beyond `end_90k`, where
    /// the next segment takes over.
    clock_ends: bool,
    /// The PES packet at work, kept for its memory.
    pes: Vec<u8>,
}

impl<'m> Packetizer<'m> {
    /// Starts segment number `index`: appends PAT and PMT to `out`. `has_video` says whether pictures
    /// will follow in this segment; when not, though the rendition has them, the clock goes by the sound.
    pub fn new(muxer: &'m TsMuxer, index: u64, has_video: bool, out: &mut Vec<u8>) -> Self {
        muxer.tables.put(index, out);
        Self {
            muxer,
            video: PidWriter::new(VIDEO_PID),
            audio: PidWriter::new(AUDIO_PID),
            clock_from_audio: muxer.video.is_some() && !has_video,
            last_pcr_90k: None,
            last_video_dts: None,
            last_audio_pts: None,
            end_90k: None,
            clock_ends: false,
            pes: Vec::new(),
        }
    }

    /// Appends one coded picture. `gap` is the distance in ticks to the DTS of the next (that of the
    /// next segment after the last one), by which the clock references in between are placed; `last`
    /// says that no picture follows in this segment.
    ///
    /// # Errors
    /// When the rendition has no picture, the sample no NAL unit, or its times are out of order.
    pub fn video(&mut self, sample: &Sample, gap: i64, last: bool, out: &mut Vec<u8>) -> Result<(), TsError> {
        let stream = self.muxer.video.as_ref().ok_or(TsError::NoSuchTrack("video"))?;
        if sample.pts < sample.dts || self.last_video_dts.is_some_and(|before| before > sample.dts) {
            return Err(TsError::Order { track: "video", dts: sample.dts });
        }
        let header_bytes = self.build_video(stream, sample)?;
        let dts_90k = to_90k(sample.dts, stream.time_base);
        let gap_90k = span_90k(gap, stream.time_base);
        self.last_video_dts = Some(sample.dts);
        self.catch_up(dts_90k, out);
        let clock = Some(self.clock(dts_90k, gap_90k));
        let marks = Marks { random_access: sample.key, clock, last, header_bytes };
        self.clock_ends = last;
        self.last_pcr_90k = self.video.write(&self.pes, &marks, out).or(self.last_pcr_90k);
        Ok(())
    }

    /// Puts the PES packet of a picture together. Returns the length of its header.
    fn build_video(&mut self, stream: &VideoStream, sample: &Sample) -> Result<usize, TsError> {
        let header = PesHeader {
            stream_id: pes::STREAM_ID_VIDEO,
            pts_90k: to_90k(sample.pts, stream.time_base),
            dts_90k: to_90k(sample.dts, stream.time_base),
            payload_bytes: None,
            stuffing: 0,
        };
        self.pes.clear();
        let header_bytes = header.put(&mut self.pes);
        let any = access_unit::put(stream, sample, &mut self.pes);
        if any { Ok(header_bytes) } else { Err(TsError::NoNalUnits { dts: sample.dts }) }
    }

    /// Appends a run of audio frames as one PES packet with the PTS of the first; each of the others
    /// must begin where the one before ends. `last` says that no frame follows in this segment.
    ///
    /// # Errors
    /// When the rendition has no sound, the frames stand before those already written, or one of them
    /// is empty or too long.
    pub fn audio(&mut self, frames: &[Sample], last: bool, out: &mut Vec<u8>) -> Result<(), TsError> {
        let Some((first, end)) = frames.first().zip(frames.last()) else { return Ok(()) };
        let stream = self.muxer.audio.as_ref().ok_or(TsError::NoSuchTrack("audio"))?;
        if self.last_audio_pts.is_some_and(|before| before > first.pts) || first.pts > end.pts {
            return Err(TsError::Order { track: "audio", dts: first.pts });
        }
        let header_bytes = self.build_audio(stream, frames, last)?;
        let pts_90k = to_90k(first.pts, stream.time_base);
        let span = end.pts.saturating_sub(first.pts).saturating_add(end.duration);
        self.last_audio_pts = Some(end.pts);
        if self.clock_from_audio && self.last_pcr_90k.is_none() {
            self.write_clock(pts_90k.saturating_sub(PCR_LEAD_90K), out);
        }
        self.catch_up(pts_90k, out);
        let clock = self.audio_clock(pts_90k, span_90k(span, stream.time_base));
        let marks = Marks { random_access: false, clock, last, header_bytes };
        self.last_pcr_90k = self.audio.write(&self.pes, &marks, out).or(self.last_pcr_90k);
        Ok(())
    }

    /// The clock that a run of audio frames carries, in a rendition without picture.
    fn audio_clock(&mut self, pts_90k: i64, span_90k: i64) -> Option<Clock> {
        if self.clock_from_audio {
            self.end_90k = Some(pts_90k.saturating_add(span_90k));
        }
        (self.muxer.pcr_pid() == AUDIO_PID).then(|| self.clock(pts_90k, span_90k))
    }

    /// Puts the PES packet of audio frames together. Returns the length of its header.
    fn build_audio(&mut self, stream: &AudioStream, frames: &[Sample], last: bool) -> Result<usize, TsError> {
        let head_bytes = if stream.adts.is_some() { adts::HEADER_BYTES } else { 0 };
        let payload_bytes: usize = frames.iter().map(|f| head_bytes + f.data.len()).sum();
        let first = frames.first().ok_or(TsError::NoSuchTrack("audio"))?;
        if payload_bytes > pes::MAX_STATED_BYTES {
            return Err(TsError::FrameLength { pts: first.pts, bytes: payload_bytes });
        }
        // A single frame of almost nothing: make the header longer, the payload must stay what it is.
        let missing = MIN_SPREAD_BYTES.saturating_sub(pes::HEADER_WITH_PTS_BYTES + payload_bytes);
        let pts_90k = to_90k(first.pts, stream.time_base);
        let header = PesHeader {
            stream_id: audio_stream_id(stream.codec),
            pts_90k,
            dts_90k: pts_90k,
            payload_bytes: Some(payload_bytes),
            stuffing: if last { missing as u8 } else { 0 },
        };
        self.pes.clear();
        let header_bytes = header.put(&mut self.pes);
        frames.iter().try_for_each(|frame| put_frame(stream, frame, &mut self.pes))?;
        Ok(header_bytes)
    }

    /// Ends the segment: appends what the clock needs up to where the next one begins.
    pub fn finish(mut self, out: &mut Vec<u8>) {
        if let Some(end_90k) = self.end_90k {
            self.catch_up(end_90k, out);
        }
    }

    /// The clock of a PES packet with this DTS. As much of what must come before the next one as lies
    /// before the DTS goes into its own packets, where it costs 8 bytes instead of a packet.
    fn clock(&mut self, dts_90k: i64, gap_90k: i64) -> Clock {
        let from_dts = dts_90k.saturating_sub(PCR_LEAD_90K);
        // Never backwards, whatever was predicted for the packet before.
        let start_90k = self.last_pcr_90k.map_or(from_dts, |last| from_dts.max(last.saturating_add(1)));
        let gap_90k = gap_90k.clamp(0, MAX_FILL_90K);
        let steps = (gap_90k + MAX_PCR_GAP_90K - 1).div_euclid(MAX_PCR_GAP_90K).max(1);
        let step_90k = (gap_90k / steps).max(1);
        let inner = (steps - 1).min(PCR_LEAD_90K / step_90k);
        self.end_90k = Some(dts_90k.saturating_add(gap_90k));
        Clock { start_90k, gap_90k, steps, inner: inner as usize }
    }

    /// Appends clock packets until what comes next, with this DTS, is no further than it may be. All
    /// that follows has at least this DTS, so that none of them is ahead of its data.
    fn catch_up(&mut self, dts_90k: i64, out: &mut Vec<u8>) {
        let limit = self.end_90k.filter(|_| self.clock_ends).unwrap_or(i64::MAX);
        let target = dts_90k.min(limit).saturating_sub(PCR_LEAD_90K);
        let Some(mut at) = self.last_pcr_90k else { return };
        if target.saturating_sub(at) > MAX_FILL_90K {
            return;
        }
        while at.saturating_add(MAX_PCR_GAP_90K) < target {
            at += MAX_PCR_GAP_90K;
            self.write_clock(at, out);
        }
    }

    fn write_clock(&mut self, pcr_90k: i64, out: &mut Vec<u8>) {
        let writer = if self.muxer.pcr_pid() == VIDEO_PID { &self.video } else { &self.audio };
        writer.write_clock(pcr_90k, out);
        self.last_pcr_90k = Some(pcr_90k);
    }
}

fn span_90k(ticks: i64, time_base: Rational) -> i64 {
    rescale(ticks, time_base, Rational::TB_90K, Rounding::Floor)
}

fn audio_stream_id(codec: AudioCodec) -> u8 {
    match codec {
        AudioCodec::Ac3 | AudioCodec::Eac3 => pes::STREAM_ID_PRIVATE_1,
        AudioCodec::Aac | AudioCodec::Mp3 | AudioCodec::Opus => pes::STREAM_ID_AUDIO,
    }
}

fn put_frame(stream: &AudioStream, frame: &Sample, out: &mut Vec<u8>) -> Result<(), TsError> {
    let wrong = TsError::FrameLength { pts: frame.pts, bytes: frame.data.len() };
    if frame.data.is_empty() {
        return Err(wrong);
    }
    if let Some(adts) = stream.adts {
        out.extend_from_slice(&adts.header(frame.data.len()).ok_or(wrong)?);
    }
    out.extend_from_slice(&frame.data);
    Ok(())
}
