//! Direct play: whether a source's picture can be played as it is, cut at its own key frames, what becomes of
//! its sound, and what that weighs.
//!
//! What enters: facts, the index, the kind of segment and how long one should be. What leaves: the cuts
//! with upper bounds for their bytes, or the reason why not, in words. Pure: whether cuts are IDR pictures
//! was looked at before ([`direct_cuts`] names which are worth a look), and a run over a plan with
//! [`Plan::idr_cuts`](super::Plan::idr_cuts) looks at every one again.

use super::choose::{copied_audio_codec, cut_by_keys, decodable, is_adts};
use crate::base::time::{Rational, Rounding};
use crate::container::nal::{self, H264SpsInfo, HevcSpsInfo};
use crate::media::index::{Amount, Key, SourceIndex};
use crate::model::job::{Format, SegmentType};
use crate::model::source::{SourceFacts, VideoFacts};
use crate::model::timeline::Timeline;
use crate::model::track::VideoCodec;

/// Above this a segment does not fit into the buffers of televisions.
pub const MAX_SEGMENT_BYTES: u64 = 17_000_000;
/// Longer segments take too long to fetch, and to seek in.
pub const MAX_SEGMENT_SECONDS: Rational = Rational::from_int(15);
/// H.264 level 5.1, and HEVC's (in units of 1/30).
const MAX_LEVEL_H264: u8 = 51;
const MAX_LEVEL_HEVC: u8 = 153;
/// Cuts that are looked at one after another from the beginning on, and those spread over the rest.
const LOOKED_AT_FIRST: usize = 16;
const LOOKED_AT_LATER: usize = 32;
/// What encoded sound may need for a while: two channels of AAC at their usual rate, and a quarter more.
const ENCODED_SOUND_BPS: u64 = 160_000;
/// Its packets each second, at the most: 1024 samples of 48 kHz.
const ENCODED_SOUND_PACKETS: u64 = 47;

/// What becomes of the sound of a source whose picture is copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sound {
    /// There is none.
    None,
    /// Every player has its codec.
    Copied,
    /// It is made into AAC, which costs next to nothing beside a picture.
    Encoded,
}

/// A source that can be played as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Direct {
    /// The cuts: those of a plan that copies the picture with segments of the same length.
    pub timeline: Timeline,
    /// What becomes of its sound.
    pub sound: Sound,
    /// For each segment the most bytes it can have.
    pub segment_bytes: Vec<u64>,
    /// The highest rate of any segment, bits each second; never below what it will be.
    pub peak_bps: u64,
    /// The same for the whole title.
    pub average_bps: u64,
}

/// The cuts that have to be looked at: indices into the index's key frames. Of a long film not every
/// one, since each look may cost a seek of a disk: the first ones and some everywhere. An encoder that
/// makes open groups of pictures makes them from the beginning on.
pub fn direct_cuts(facts: &SourceFacts, index: &SourceIndex, segment_seconds: Rational) -> Vec<usize> {
    let Some(video) = &facts.video else { return Vec::new() };
    let timeline = timeline(facts, video, index, segment_seconds);
    let cuts = cuts(facts, video, index, &timeline);
    let later = cuts.len().saturating_sub(LOOKED_AT_FIRST).div_ceil(LOOKED_AT_LATER).max(1);
    let is_chosen = |i: usize| i < LOOKED_AT_FIRST || i.is_multiple_of(later) || i + 1 == cuts.len();
    cuts.iter().enumerate().filter(|(i, _)| is_chosen(*i)).map(|(_, key)| *key).collect()
}

/// Decides.
///
/// # Errors
/// The reason why the source cannot be played as it is.
pub fn direct(
    facts: &SourceFacts,
    index: &SourceIndex,
    kind: SegmentType,
    segment_seconds: Rational,
) -> Result<Direct, String> {
    let video = facts.video.as_ref().ok_or("there is no picture")?;
    playable_picture(video, index, kind)?;
    let sound = sound(facts, kind)?;
    let timeline = timeline(facts, video, index, segment_seconds);
    closed_cuts(facts, video, index, &timeline)?;
    let estimate = Estimate { kind, sound, config_bytes: index.config.len() as u64 };
    let mut segment_bytes = Vec::new();
    let (mut peak_bps, mut total) = (0, 0u64);
    for n in 0..timeline.segment_count() {
        let length = timeline.segment_duration(n);
        let bytes = estimate.bytes(amounts(facts, video, index, timeline.frames(n)), length);
        bounded(n, &timeline, bytes)?;
        peak_bps = peak_bps.max(rate(bytes, length));
        total = total.saturating_add(bytes);
        segment_bytes.push(bytes);
    }
    let average_bps = rate(total, timeline.duration());
    Ok(Direct { timeline, sound, segment_bytes, peak_bps, average_bps })
}

fn timeline(facts: &SourceFacts, video: &VideoFacts, index: &SourceIndex, seconds: Rational) -> Timeline {
    cut_by_keys(index, video, (facts.origin, facts.duration), seconds)
}

fn playable_picture(video: &VideoFacts, index: &SourceIndex, kind: SegmentType) -> Result<(), String> {
    let (codec, formats): (_, &[&str]) = match video.codec.as_str() {
        "h264" => (VideoCodec::H264, &["yuv420p", "yuvj420p"]),
        "hevc" if kind == SegmentType::Fmp4 => (VideoCodec::Hevc, &["yuv420p", "yuvj420p", "yuv420p10le"]),
        "hevc" => return Err("HEVC is played from fMP4 segments only".into()),
        other => return Err(format!("not every player has the picture's codec, {other}")),
    };
    if !formats.contains(&video.pixel_format.as_str()) {
        return Err(format!("not every player has the picture's format, {}", video.pixel_format));
    }
    if video.interlaced {
        return Err("the picture is interlaced".into());
    }
    if video.rotation_degrees != 0 {
        return Err(format!("the picture has to be turned by {} degrees", video.rotation_degrees));
    }
    let (level, most) = match codec {
        VideoCodec::H264 => (level(codec, &index.config), MAX_LEVEL_H264),
        _ => (level(codec, &index.config), MAX_LEVEL_HEVC),
    };
    let level = level.ok_or("the picture's parameter sets cannot be read")?;
    if level > most {
        return Err(format!("the picture's level, {level}, is above {most}"));
    }
    Ok(())
}

fn level(codec: VideoCodec, config: &[u8]) -> Option<u8> {
    let sets = nal::parse_config(codec, config).ok()?;
    let levels = sets.sps.iter().map(|sps| match codec {
        VideoCodec::H264 => H264SpsInfo::parse(sps).map(|info| info.level_idc).ok(),
        _ => HevcSpsInfo::parse(sps).map(|info| info.level_idc).ok(),
    });
    levels.collect::<Option<Vec<u8>>>()?.into_iter().max()
}

/// AAC in ADTS frames is not taken apart, and so is encoded too.
fn sound(facts: &SourceFacts, kind: SegmentType) -> Result<Sound, String> {
    let Some(audio) = &facts.audio else { return Ok(Sound::None) };
    let plays = matches!(audio.codec.as_str(), "aac" | "ac3" | "eac3" | "mp3");
    if plays && !is_adts(facts, &audio.codec) && copied_audio_codec(&audio.codec, Format::Hls(kind)).is_ok() {
        return Ok(Sound::Copied);
    }
    if decodable(facts, audio.stream) {
        return Ok(Sound::Encoded);
    }
    Err(format!("not every player has the sound's codec, {}, and this libav cannot decode it", audio.codec))
}

/// The key frames that begin a segment, as indices.
fn cuts(facts: &SourceFacts, video: &VideoFacts, index: &SourceIndex, timeline: &Timeline) -> Vec<usize> {
    let at = |pts: i64| u64::try_from(position(facts, video, pts)).ok();
    let begins = |i: usize, pts: i64| i == 0 || at(pts).is_some_and(|at| timeline.starts_segment(at));
    let keys = index.keys.iter().enumerate();
    keys.filter(|(i, key)| begins(*i, key.pts)).map(|(i, _)| i).collect()
}

/// Where a time of the picture stands on the title's grid.
fn position(facts: &SourceFacts, video: &VideoFacts, pts: i64) -> i64 {
    pts.saturating_sub((facts.origin / video.time_base).round(Rounding::Nearest))
}

fn closed_cuts(
    facts: &SourceFacts,
    video: &VideoFacts,
    index: &SourceIndex,
    timeline: &Timeline,
) -> Result<(), String> {
    let cuts = cuts(facts, video, index, timeline);
    let seconds = |pts: i64| (Rational::from_int(position(facts, video, pts)) * video.time_base).to_f64();
    let keys = || cuts.iter().filter_map(|i| index.keys.get(*i));
    if let Some(open) = keys().find(|key| key.is_idr == Some(false)) {
        let at = seconds(open.pts);
        return Err(format!("the key frame at {at:.3} s is no IDR picture: its group of pictures is open"));
    }
    if !keys().any(|key| key.is_idr == Some(true)) {
        return Err("nobody can tell whether its key frames are IDR pictures".into());
    }
    Ok(())
}

/// What begins in this part of the grid.
fn amounts(
    facts: &SourceFacts,
    video: &VideoFacts,
    index: &SourceIndex,
    part: std::ops::Range<u64>,
) -> (Amount, Amount, u64) {
    let at = |pts: i64| u64::try_from(position(facts, video, pts)).unwrap_or(0);
    let from = index.keys.partition_point(|key| at(key.pts) < part.start);
    let to = index.keys.partition_point(|key| at(key.pts) < part.end);
    let keys = index.keys.get(from..to).unwrap_or_default();
    let sum = |get: fn(&Key) -> Amount| keys.iter().map(get).fold(Amount::default(), Amount::plus);
    (sum(|key| key.video), sum(|key| key.audio), keys.len() as u64)
}

fn bounded(n: u64, timeline: &Timeline, bytes: u64) -> Result<(), String> {
    let (start, length) = (timeline.segment_time(n).to_f64(), timeline.segment_duration(n));
    if length > MAX_SEGMENT_SECONDS {
        let (length, most) = (length.to_f64(), MAX_SEGMENT_SECONDS.to_f64());
        return Err(format!("the key frames at {start:.3} s lie {length:.3} s apart, more than {most} s"));
    }
    if bytes > MAX_SEGMENT_BYTES {
        return Err(format!("the segment at {start:.3} s may have {bytes} bytes, above {MAX_SEGMENT_BYTES}"));
    }
    Ok(())
}

fn rate(bytes: u64, length: Rational) -> u64 {
    let bits = Rational::from_int(i64::try_from(bytes.saturating_mul(8)).unwrap_or(i64::MAX));
    let per_second = length.checked_recip().unwrap_or(Rational::ZERO);
    u64::try_from((bits * per_second).round(Rounding::Ceil)).unwrap_or(0)
}

/// How much a container adds, at the most.
struct Estimate {
    kind: SegmentType,
    sound: Sound,
    /// Parameter sets come before each key frame in MPEG-TS.
    config_bytes: u64,
}

impl Estimate {
    /// Packets of sound that the neighbours' cuts may move into a segment.
    const MOVED: u64 = 2;

    fn bytes(&self, (video, audio, keys): (Amount, Amount, u64), length: Rational) -> u64 {
        let audio = self.audio(audio, length);
        let moved = Self::MOVED * audio.bytes.div_ceil(audio.packets.max(1));
        let payload = video.bytes.saturating_add(audio.bytes).saturating_add(moved);
        let audio_packets = audio.packets + Self::MOVED;
        match self.kind {
            SegmentType::Ts => self.in_ts(payload, video.packets, audio_packets, keys, length),
            // `moof` with a `traf` for each track; 16 bytes of `trun` for a picture and 8 for a packet of
            // sound; a length of four bytes for a start code of three, of a few slices.
            SegmentType::Fmp4 => payload + 512 + (16 + 16) * video.packets + 8 * audio_packets,
        }
    }

    fn audio(&self, copied: Amount, length: Rational) -> Amount {
        let most = |each_second: u64| {
            let sum = Rational::from_int(i64::try_from(each_second).unwrap_or(i64::MAX)) * length;
            u64::try_from(sum.round(Rounding::Ceil)).unwrap_or(0)
        };
        match self.sound {
            Sound::None | Sound::Copied => copied,
            Sound::Encoded => {
                Amount { packets: most(ENCODED_SOUND_PACKETS), bytes: most(ENCODED_SOUND_BPS / 8) }
            }
        }
    }

    fn in_ts(&self, payload: u64, video: u64, audio: u64, keys: u64, length: Rational) -> u64 {
        const PACKET: u64 = 188;
        const BODY: u64 = 184;
        // PES header, access unit delimiter with its start code, clock references; start codes of four
        // bytes for shorter ones.
        const PICTURE: u64 = 19 + 7 + 16 + 16;
        // PES header and ADTS header.
        const SOUND: u64 = 14 + 7;
        let heads = PICTURE * video + SOUND * audio + keys * (self.config_bytes + 64);
        // Each picture and each frame of sound may leave its last packet all but empty.
        let groups = video + audio;
        let clocks = (length * Rational::from_int(25)).round(Rounding::Ceil);
        let fixed = 2 + 2 * 16 + u64::try_from(clocks).unwrap_or(0);
        (payload.saturating_add(heads).div_ceil(BODY) + groups + fixed).saturating_mul(PACKET)
    }
}

#[cfg(test)]
#[path = "direct/tests.rs"]
mod tests;
