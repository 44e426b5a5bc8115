//! What a source is, exactly: opens it, looks at its two ends, says so as data.
//!
//! What enters: a path. What leaves: [`SourceFacts`], with times as exact fractions. Headers lie and
//! files are cut off, so the packets count wherever looking at them is cheap: some at the beginning
//! (frame rate, first times), some at the very end (last times). The whole file is read only when it
//! is small or of a kind that cannot be sought in.
//!
//! Nothing is decided here but which picture and which sound are meant; what is made of them is the
//! planner's (`media::plan`). Nothing is decoded here beyond what libav's own probing does.

use crate::av::input::{Input, Stream, StreamKind};
use crate::av::log::RunLog;
use crate::base::cancel::Cancel;
use crate::base::error::Result;
use crate::base::time::{Rational, Rounding};
use crate::model::source::{AudioFacts, SourceFacts, StreamFacts, VideoFacts};
use std::path::Path;
use std::time::Duration;

mod choose;
mod clusters;
mod rate;
mod scan;
mod span;
mod tail;
mod warnings;

use rate::{RateEstimate, Told};
use scan::{Clock, HEAD_PACKETS, HEAD_PACKETS_WITH_TABLES, Mark, Scan, Track};
use span::Part;
use tail::Tail;

/// Code point of ISO/IEC 23091-2 for SMPTE ST 2084 (PQ).
const TRANSFER_PQ: u8 = 16;
/// Code point of ISO/IEC 23091-2 for ARIB STD-B67 (HLG).
const TRANSFER_HLG: u8 = 18;

/// Finds the facts of the file at `path`.
///
/// The picture is the one marked as default, else the largest; the sound is the one marked as
/// default, else the first. Cover art is no picture. A picture that this libav cannot decode is no
/// error here (it may be copied): [`StreamFacts::decodable`] says so.
///
/// Title time 0 (`origin`) is the picture's start, so that the first frame stands at nought and no
/// frame has to be invented; sound that starts up to a second earlier is cut off there. Where the
/// sound leads by more than that, its lead is content and the title starts with the sound. The title
/// ends with the longer of the two; sound that outlasts the picture by less than a frame (the padding
/// of its last packet) does not lengthen it.
///
/// `open_limit` bounds the opening of the file, which may lie on a mount that does not answer.
///
/// # Errors
/// What [`Input::open`] says; `no_streams` without picture and sound; `too_large` for a picture beyond
/// the limits; `cancelled`; a failing disk.
pub fn inspect(path: &Path, cancel: &Cancel, log: &RunLog, open_limit: Duration) -> Result<SourceFacts> {
    log.enter_thread();
    let source = Source { path, cancel, open_limit };
    let facts = Input::open(path, cancel, log, open_limit).and_then(|input| facts_of(input, &source));
    facts.map_err(|e| e.with_libav_log(log.last_lines()))
}

/// What it takes to open the file again.
#[derive(Clone, Copy, Debug)]
struct Source<'a> {
    path: &'a Path,
    cancel: &'a Cancel,
    open_limit: Duration,
}

fn facts_of(mut input: Input, source: &Source<'_>) -> Result<SourceFacts> {
    let mut warnings = Vec::new();
    let chosen = choose::choose(input.streams(), source.path, &mut warnings)?;
    input.keep_only(&chosen.indices());
    let mut head = Scan::of(&chosen);
    let packets = if has_tables(&input, &chosen) { HEAD_PACKETS_WITH_TABLES } else { HEAD_PACKETS };
    head.read_head(&mut input, packets)?;
    let found_end = tail::find(&mut input, source, &chosen, &head)?;
    let is_empty = |stream| found_end.whole(stream).is_some_and(|(packets, _)| packets == 0);
    let chosen = choose::without_empty(&chosen, is_empty, source.path, &mut warnings)?;
    let kinds = Container::of(input.format());
    let look = Look { input: &input, head: &head, tail: &found_end, kinds };
    let video = chosen.video.and_then(|i| Some(look.video(input.streams().get(i)?)));
    let audio = chosen.audio.and_then(|i| Some(look.audio(input.streams().get(i)?)));
    let (origin, duration) = span::title(
        video.as_ref().map(|v| Part { start: v.start, end: v.end, unit: one_frame(v.frame_rate) }),
        audio.as_ref().map(|a| Part { start: a.start, end: a.end, unit: Rational::ZERO }),
    );
    warnings::add(&mut warnings, &look, &chosen, video.as_ref(), audio.as_ref());
    let streams = input.streams().iter().map(stream_facts).collect();
    let (container, size_bytes) = (input.format().to_owned(), input.size_bytes());
    Ok(SourceFacts { container, size_bytes, origin, duration, video, audio, streams, warnings })
}

/// Whether tables that are there as a whole tell the times of everything that is taken: an MP4 without
/// fragments.
fn has_tables(input: &Input, chosen: &choose::Chosen) -> bool {
    let is_whole = |stream: usize| {
        let told = input.streams().get(stream).and_then(|s| s.frame_count);
        // Edit lists leave out or repeat some.
        told.is_some_and(|told| told > 2 && input.index_len(stream) as u64 * 2 > told)
    };
    Container::of(input.format()).mov && chosen.indices().into_iter().all(is_whole)
}

/// What has to be known about a family of containers to read its times right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Container {
    /// ISO base media: lengths of tracks are exact, edit lists shape the times.
    pub mov: bool,
    /// Matroska and WebM.
    pub matroska: bool,
    /// Its index names the key frames of the whole file.
    pub index: bool,
    /// The length is written in a header, so it can claim more than there is.
    pub header_length: bool,
    /// That length counts from time 0, not from the first packet.
    pub zero_based: bool,
}

impl Container {
    /// By the demuxer's name.
    pub fn of(format: &str) -> Self {
        let named = |names: &[&str]| format.split(',').any(|part| names.contains(&part));
        Self {
            mov: named(&["mov"]),
            matroska: named(&["matroska"]),
            index: named(&["mov", "matroska"]),
            header_length: named(&["mov", "matroska", "avi", "flv", "asf", "wav", "w64", "mxf", "nut"]),
            zero_based: named(&["mov", "matroska", "avi", "flv", "asf"]),
        }
    }
}

/// Everything that was seen of the source.
struct Look<'a> {
    input: &'a Input,
    head: &'a Scan,
    tail: &'a Tail,
    kinds: Container,
}

impl Look<'_> {
    fn video(&self, stream: &Stream) -> VideoFacts {
        let head = self.head.track(stream.index);
        let time_base = sane_time_base(stream.time_base);
        let estimate = self.rate(stream, head, time_base);
        let (start, end) = self.video_span(stream, head, &estimate, time_base);
        let colour = stream.params.colour();
        let (pixel_format, bit_depth) = stream.params.pixel_format().unwrap_or_else(|| ("unknown".into(), 8));
        VideoFacts {
            stream: stream.index,
            codec: stream.params.codec_name(),
            width: stream.params.width(),
            height: stream.params.height(),
            sample_aspect_ratio: stream.params.sample_aspect_ratio().unwrap_or(Rational::from_int(1)),
            frame_rate: estimate.rate,
            constant_rate: estimate.constant,
            pixel_format,
            bit_depth,
            colour,
            dynamic_range: match colour.transfer {
                TRANSFER_PQ => "pq",
                TRANSFER_HLG => "hlg",
                _ => "sdr",
            },
            interlaced: stream.params.is_interlaced(),
            rotation_degrees: stream.rotation_degrees,
            time_base,
            start,
            end,
            // AVI counts empty chunks and fields too.
            frame_count: stream.frame_count.filter(|_| self.kinds.mov),
            key_frames: self.key_frames(stream),
            bitrate_bps: self.video_bitrate_bps(stream, end - start),
        }
    }

    fn audio(&self, stream: &Stream) -> AudioFacts {
        let time_base = sane_time_base(stream.time_base);
        let start = self.audio_start(stream, time_base);
        let clock = self.head.track(stream.index).map_or(Clock::Pts, |h| Clock::of(&h.head));
        let samples = i64::from(stream.params.frame_samples());
        let packet =
            Rational::checked_new(samples, i64::from(stream.params.sample_rate())).unwrap_or(Rational::ZERO);
        let seen = self.latest(stream, clock).map(|mark| span::audio_end(mark, time_base, packet));
        let end = span::end(start, seen, self.claimed_end(stream, start), self.trust(stream));
        AudioFacts {
            stream: stream.index,
            codec: stream.params.codec_name(),
            sample_rate: stream.params.sample_rate(),
            channels: stream.params.channels(),
            frame_samples: stream.params.frame_samples(),
            time_base,
            start,
            end: end.unwrap_or(start + packet),
            bitrate_bps: stream.params.bitrate_bps(),
        }
    }

    /// When the first sample is heard. libav's start leaves out the samples that a decoder throws
    /// away, which the packets do not; but for Opus in Matroska, where the decoder alone knows of
    /// them (RFC 7845, §4.2) and the times begin that much before 0.
    fn audio_start(&self, stream: &Stream, time_base: Rational) -> Rational {
        let seen = || self.head.track(stream.index).and_then(Track::smallest_pts);
        let start = Rational::from_int(stream.start_ticks.or_else(seen).unwrap_or(0)) * time_base;
        let priming = Rational::checked_new(
            i64::from(stream.params.priming_samples()),
            i64::from(stream.params.sample_rate()),
        );
        match priming {
            Some(priming) if self.kinds.matroska && stream.params.codec_name() == "opus" => {
                let heard = start + priming;
                if heard.abs() <= span::MS_SLACK { Rational::ZERO } else { heard }
            }
            _ => start,
        }
    }

    /// The packet that is shown last; of the beginning, if nothing was found at the end.
    fn latest(&self, stream: &Stream, clock: Clock) -> Option<Mark> {
        let of_head = || self.head.track(stream.index)?.latest(clock);
        self.tail.latest(stream.index, clock).or_else(of_head)
    }

    /// By the whole index where the container has one that is exact, else by the first packets.
    fn rate(&self, stream: &Stream, head: Option<&Track>, time_base: Rational) -> RateEstimate {
        let told = Told { average: stream.average_rate, finest: stream.real_rate };
        if self.kinds.mov {
            let mut times: Vec<i64> = self.input.index(stream.index).into_iter().map(|e| e.dts).collect();
            times.sort_unstable();
            if times.len() > 2 {
                return rate::estimate(&times, time_base, told);
            }
        }
        let seen = head.map_or(&[][..], |h| &h.head);
        let times = rate::times(seen, stream.params.is_interlaced(), self.head.at_end);
        rate::estimate(&times, time_base, told)
    }

    fn video_span(
        &self,
        stream: &Stream,
        head: Option<&Track>,
        estimate: &RateEstimate,
        time_base: Rational,
    ) -> (Rational, Rational) {
        let seen = head.map_or(&[][..], |h| &h.head);
        let clock = Clock::of(seen);
        let by_packets = scan::first_shown(seen, clock);
        // With an edit list the packets include some that are not shown; libav's start does not.
        let first = if self.kinds.mov {
            stream.start_ticks.or(by_packets)
        } else {
            by_packets.or(stream.start_ticks)
        };
        let start = Rational::from_int(first.unwrap_or(0)) * time_base;
        let frame = one_frame(estimate.rate);
        let seen_end = match clock {
            Clock::Count => self.tail.whole(stream.index).map(|(n, _)| start + Rational::from_int(n) * frame),
            _ => self.latest(stream, clock).map(|mark| {
                let end = span::video_end(mark, time_base, frame, estimate.constant);
                if estimate.constant { span::to_whole_frames(start, end, frame, time_base) } else { end }
            }),
        };
        let end = span::end(start, seen_end, self.claimed_end(stream, start), self.trust(stream));
        (start, end.unwrap_or(start + frame))
    }

    /// Where the container says that a stream ends.
    fn claimed_end(&self, stream: &Stream, start: Rational) -> Option<Rational> {
        let of_stream =
            stream.duration_ticks.map(|d| Rational::from_int(d) * sane_time_base(stream.time_base));
        let claimed = match (of_stream.filter(|_| self.kinds.mov), self.input.duration()) {
            (Some(length), _) => start + length,
            (None, Some(length)) if self.kinds.zero_based => length,
            (None, Some(length)) => start + length,
            (None, None) => return None,
        };
        span::sane_end(start, claimed)
    }

    fn trust(&self, stream: &Stream) -> span::Trust {
        // At the end of a long file a track that ended long before may not be found.
        let found = self.tail.at_end && self.tail.has(stream.index);
        match (self.kinds.mov && stream.frame_count.is_some(), found) {
            (true, true) => span::Trust::WhicheverIsLess,
            (false, true) => span::Trust::Data,
            (_, false) => span::Trust::Claim,
        }
    }

    fn key_frames(&self, stream: &Stream) -> Option<u64> {
        // Of a fragmented file libav may know only the fragments that it has seen.
        if !self.kinds.index || !self.tail.indexed || (self.kinds.mov && stream.frame_count.is_none()) {
            return None;
        }
        let keys = self.input.index(stream.index).iter().filter(|e| e.key).count() as u64;
        (keys > 0).then_some(keys)
    }

    /// What the container says; else what was counted; else what is left of the whole file's rate,
    /// which is a little too much (container, other streams) and so still serves as a ceiling.
    fn video_bitrate_bps(&self, stream: &Stream, length: Rational) -> Option<u64> {
        let bps = |bytes: i64| -> Option<u64> {
            let bits = Rational::from_int(bytes.checked_mul(8)?);
            u64::try_from((bits * length.checked_recip()?).round(Rounding::Nearest)).ok().filter(|b| *b > 0)
        };
        let others = || -> u64 {
            let audio = self.input.streams().iter().filter(|s| s.kind == StreamKind::Audio);
            audio.filter_map(|s| s.params.bitrate_bps()).fold(0, u64::saturating_add)
        };
        let counted = || bps(self.tail.whole(stream.index)?.1);
        let rest =
            || bps(i64::try_from(self.input.size_bytes()).ok()?)?.checked_sub(others()).filter(|b| *b > 0);
        stream.params.bitrate_bps().or_else(counted).or_else(rest)
    }
}

fn stream_facts(stream: &Stream) -> StreamFacts {
    let codec = stream.params.codec_name();
    let kind = match stream.kind {
        StreamKind::Video => "video",
        StreamKind::Cover => "cover",
        StreamKind::Audio => "audio",
        StreamKind::Subtitle => "subtitle",
        StreamKind::Other if matches!(codec.as_str(), "ttf" | "otf") => "attachment",
        StreamKind::Other => "data",
    };
    let (index, language) = (stream.index, language(stream));
    StreamFacts { index, kind, codec, language, decodable: stream.params.is_decodable() }
}

/// The language tag; `und` is how containers say that there is none. Tags come from the file, and a
/// terminal obeys control characters.
fn language(stream: &Stream) -> Option<String> {
    let tag: String = stream.language.as_ref()?.chars().filter(|c| !c.is_control()).take(35).collect();
    (!tag.is_empty() && tag != "und").then_some(tag)
}

fn one_frame(rate: Rational) -> Rational {
    rate.checked_recip().filter(|r| r.is_positive()).unwrap_or(Rational::new(1, 25))
}

/// A time base that can be divided by.
fn sane_time_base(time_base: Rational) -> Rational {
    if time_base.is_positive() { time_base } else { Rational::TB_90K }
}
