//! Where streams end and where the title begins and ends: arithmetic on exact times, nothing else.

use super::scan::Mark;
use crate::base::time::{Rational, Rounding};

/// No film is longer; headers that say so are broken.
const MAX_LENGTH: Rational = Rational::from_int(30 * 24 * 3600);
/// How much earlier than the picture the sound has to start for the title to start with it.
const LEAD_THAT_COUNTS: Rational = Rational::from_int(1);
/// What containers with milliseconds may be off, rounding included.
pub(super) const MS_SLACK: Rational = Rational::new(11, 10_000);

/// What to believe about the end of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trust {
    /// The packets: they were read to the end of the file.
    Data,
    /// The container's length: the end of the file was not reached.
    Claim,
    /// Both are exact, but the packets may run beyond what an edit list shows, and the length beyond
    /// what is left of the file.
    WhicheverIsLess,
}

/// A stream as the title sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// Seconds on the container's clock.
    pub start: Rational,
    /// Seconds on the container's clock.
    pub end: Rational,
    /// Seconds that one frame lasts.
    pub unit: Rational,
}

/// Title time 0 on the container's clock, and the title's length; both in seconds. See
/// [`inspect`](super::inspect) for the reasons.
pub(super) fn title(video: Option<Part>, audio: Option<Part>) -> (Rational, Rational) {
    match (video, audio) {
        (Some(v), Some(a)) => {
            let origin = if v.start - a.start > LEAD_THAT_COUNTS { a.start } else { v.start };
            let end = if a.end - v.end < v.unit { v.end } else { a.end };
            (origin, end - origin)
        }
        (Some(only), None) | (None, Some(only)) => (only.start, only.end - only.start),
        (None, None) => (Rational::ZERO, Rational::ZERO),
    }
}

/// `end`, if it lies after `start` and not absurdly far.
pub(super) fn sane_end(start: Rational, end: Rational) -> Option<Rational> {
    let length = end - start;
    (length.is_positive() && length <= MAX_LENGTH).then_some(end)
}

/// The end of a stream from what was seen and what is claimed; the other where one makes no sense.
pub(super) fn end(
    start: Rational,
    seen: Option<Rational>,
    claimed: Option<Rational>,
    trust: Trust,
) -> Option<Rational> {
    let sane = |end: Option<Rational>| end.and_then(|e| sane_end(start, e));
    let (seen, claimed) = (sane(seen), sane(claimed));
    match (trust, seen, claimed) {
        (Trust::WhicheverIsLess, Some(s), Some(c)) => Some(s.min(c)),
        (Trust::Claim, _, Some(c)) => Some(c),
        (_, seen, claimed) => seen.or(claimed),
    }
}

/// When the last frame ends. At a constant rate that is one frame after it begins: what containers
/// say of its length is rounded, or half of it where they count fields; only a frame that is held
/// for markedly longer keeps its own length.
pub(super) fn video_end(last: Mark, time_base: Rational, frame: Rational, constant: bool) -> Rational {
    let told = Rational::from_int(last.duration) * time_base;
    let held = told > frame * Rational::new(3, 2) && told <= MAX_LENGTH;
    let lasts = if held || (!constant && told.is_positive()) { told } else { frame };
    Rational::from_int(last.ticks) * time_base + lasts
}

/// When the last audio packet ends. `packet` is the length that the codec gives its packets, 0 if it
/// gives none; where the container's own length is that but for a tick, the exact one counts.
pub(super) fn audio_end(last: Mark, time_base: Rational, packet: Rational) -> Rational {
    let told = Rational::from_int(last.duration) * time_base;
    let same = (told - packet).abs() <= time_base.min(Rational::new(1, 500));
    let lasts = if packet.is_positive() && (same || !told.is_positive()) { packet } else { told };
    Rational::from_int(last.ticks) * time_base + lasts
}

/// The end at a whole number of frames after the start, if it is that but for the container's
/// rounding: the number of frames is a fact, the milliseconds of Matroska are not.
pub(super) fn to_whole_frames(
    start: Rational,
    end: Rational,
    frame: Rational,
    time_base: Rational,
) -> Rational {
    let frames = ((end - start) / frame).round(Rounding::Nearest);
    let exact = start + Rational::from_int(frames) * frame;
    if (exact - end).abs() <= rounding_slack(time_base) && frames > 0 { exact } else { end }
}

/// How far apart two times may be that mean the same instant.
fn rounding_slack(time_base: Rational) -> Rational {
    time_base.max(MS_SLACK).min(Rational::new(5, 1000))
}

/// Whether the data ends so long before what the header claims that something is missing: two seconds
/// and one part in a hundred. Less is how muxers round, or a subtitle after the last frame.
pub(super) fn is_cut_off(seen: Rational, claimed: Rational) -> bool {
    claimed - seen > Rational::from_int(2).max(claimed * Rational::new(1, 100))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn r(num: i64, den: i64) -> Rational {
        Rational::new(num, den)
    }

    fn part(start: Rational, end: Rational, unit: Rational) -> Option<Part> {
        Some(Part { start, end, unit })
    }

    #[test]
    fn the_title_follows_the_picture_unless_the_sound_leads_by_far() {
        let video = part(r(3, 2), r(113, 10), r(1, 25));
        let sound = |start, end| part(start, end, Rational::ZERO);
        assert_eq!(title(video, sound(r(1, 2), r(10, 1))), (r(3, 2), r(98, 10)));
        assert_eq!(title(video, sound(r(499, 1000), r(10, 1))), (r(499, 1000), r(113, 10) - r(499, 1000)));
        assert_eq!(title(video, sound(r(9, 1), r(12, 1))), (r(3, 2), r(105, 10)));
        assert_eq!(title(None, sound(r(-1, 48), r(2, 1))), (r(-1, 48), r(97, 48)));
        assert_eq!(title(video, None), (r(3, 2), r(98, 10)));
    }

    #[test]
    fn sound_that_outlasts_the_picture_by_less_than_a_frame_adds_nothing() {
        let video = part(Rational::ZERO, r(528, 100), r(1, 25));
        let with = |end| title(video, part(Rational::ZERO, end, Rational::ZERO)).1;
        assert_eq!(with(r(5312, 1000)), r(528, 100));
        assert_eq!(with(r(5320, 1000)), r(532, 100));
        assert_eq!(with(r(5, 1)), r(528, 100));
    }

    #[test]
    fn ends_that_make_no_sense_are_passed_over() {
        let (start, good, month) = (r(10, 1), Some(r(20, 1)), Some(r(31 * 86_400 + 10, 1)));
        assert_eq!(end(start, Some(r(5, 1)), good, Trust::Data), good);
        assert_eq!(end(start, good, month, Trust::Claim), good);
        assert_eq!(end(start, good, Some(r(18, 1)), Trust::WhicheverIsLess), Some(r(18, 1)));
        assert_eq!(end(start, good, Some(r(18, 1)), Trust::Data), good);
        assert_eq!(end(start, good, Some(r(18, 1)), Trust::Claim), Some(r(18, 1)));
        assert_eq!(end(start, None, None, Trust::Data), None);
    }

    #[test]
    fn the_last_frame_lasts_one_frame_unless_it_is_held() {
        let (ms, frame) = (r(1, 1000), r(1001, 24_000));
        let mark = |duration| Mark { ticks: 5000, duration };
        assert_eq!(video_end(mark(41), ms, frame, true), r(5, 1) + frame);
        assert_eq!(video_end(mark(0), ms, frame, false), r(5, 1) + frame);
        assert_eq!(video_end(mark(20), ms, frame, true), r(5, 1) + frame);
        assert_eq!(video_end(mark(20), ms, frame, false), r(502, 100));
        assert_eq!(video_end(mark(2000), ms, frame, true), r(7, 1));
        assert_eq!(video_end(mark(i64::MAX), ms, frame, true), r(5, 1) + frame);
    }

    #[test]
    fn the_last_packet_of_sound_lasts_what_its_codec_says() {
        let (ms, packet) = (r(1, 1000), r(1024, 48_000));
        let mark = |duration| Mark { ticks: 3000, duration };
        assert_eq!(audio_end(mark(21), ms, packet), r(3, 1) + packet);
        assert_eq!(audio_end(mark(0), ms, packet), r(3, 1) + packet);
        assert_eq!(audio_end(mark(10), ms, packet), r(301, 100));
        assert_eq!(audio_end(mark(0), ms, Rational::ZERO), r(3, 1));
    }

    #[test]
    fn a_cut_is_more_than_rounding() {
        assert!(is_cut_off(r(6, 1), r(10, 1)) && is_cut_off(r(3500, 1), r(7200, 1)));
        assert!(!is_cut_off(r(8, 1), r(10, 1)) && !is_cut_off(r(7150, 1), r(7200, 1)));
        assert!(!is_cut_off(r(10, 1), r(6, 1)));
    }

    proptest! {
        #[test]
        fn rounded_ends_become_whole_frames(n in 1i64..400_000, start_ms in -5000i64..1_000_000, den in prop::sample::select(vec![1001i64, 1000])) {
            let frame = r(den, 24_000);
            let start = r(start_ms, 1000);
            let last = (start + Rational::from_int(n - 1) * frame) * r(1000, 1);
            let last = Mark { ticks: last.round(Rounding::Nearest), duration: 42 };
            let end = video_end(last, r(1, 1000), frame, true);
            prop_assert_eq!(to_whole_frames(start, end, frame, r(1, 1000)), start + Rational::from_int(n) * frame);
        }

        #[test]
        fn no_input_panics(t in any::<i64>(), d in any::<i64>(), n in any::<i64>(), den in 1..i64::MAX) {
            let mark = Mark { ticks: t, duration: d.max(0) };
            let time_base = r(n.max(1), den);
            let end_v = video_end(mark, time_base, r(1, 25), true);
            let _ = to_whole_frames(Rational::ZERO, end_v, r(1, 25), time_base);
            let _ = end(audio_end(mark, time_base, r(1, 50)), Some(end_v), None, Trust::Data);
        }
    }
}
