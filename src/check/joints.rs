//! Where segments meet: rows T5, T7, T9, F4, F5, J2, J5, J6 and the measured half of P6 and P7.
//!
//! What enters: the tracks of each segment in the order of the playlist, with a word whether the one
//! before was read too. What leaves: findings. Kept from one segment to the next: a few numbers a track.

use super::media::{Config, Lane, Media};
use super::playlists::seconds;
use super::report::{Findings, Row};
use std::collections::BTreeMap;

/// Rounding of one clock into another, once on each side.
const CLOCK_TICKS: i64 = 2;
/// Row J6: how far the first sound may be from the first picture of a segment.
const MAX_APART_S: f64 = 0.1;
/// Row T7: "small".
const MAX_START_S: f64 = 60.0;
/// What priming and a last frame that is half empty may add to sound alone, in frames.
const SOUND_SLACK_FRAMES: f64 = 3.0;

/// What is known of a track where a segment ends.
#[derive(Clone, Debug)]
struct End {
    last_dts: i64,
    last_pts: i64,
    end_dts: Option<i64>,
    dts_gaps: Option<(i64, i64)>,
    pts_gaps: Option<(i64, i64)>,
    config: Config,
}

/// A segment's place in its playlist.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spot<'a> {
    pub(super) uri: &'a str,
    /// Where the playlist says that it begins and ends, from the beginning.
    pub(super) start_us: i64,
    pub(super) end_us: i64,
    /// The segment before it was read just before.
    pub(super) follows: bool,
    /// First and last of the playlist.
    pub(super) is_first: bool,
    pub(super) is_last: bool,
    pub(super) is_ts: bool,
}

/// One rendition, segment after segment.
#[derive(Debug, Default)]
pub(super) struct Joints {
    ends: BTreeMap<u32, End>,
    /// From `FRAME-RATE`, else measured.
    frame_s: Option<f64>,
    /// Least and greatest distance of a real cut from that of the playlist, seconds.
    off: Option<(f64, f64)>,
    /// First presentation time of the picture, else of the sound, seconds.
    pub(super) first_s: Option<f64>,
    sequence: Option<u32>,
    has_both: bool,
    pub(super) video: Option<Config>,
    pub(super) audio: Option<Config>,
    /// Every picture segment that was read begins with a key picture.
    pub(super) all_keys: Option<bool>,
    /// Frames each second, where the first segment shows a constant rate.
    pub(super) measured_rate: Option<f64>,
}

impl Joints {
    pub(super) fn new(frame_rate: Option<f64>) -> Self {
        Self { frame_s: frame_rate.map(|rate| 1.0 / rate), ..Self::default() }
    }

    /// The next segment that was read.
    pub(super) fn take(&mut self, media: &Media, spot: &Spot<'_>, findings: &mut Findings) {
        if !spot.follows {
            self.ends.clear();
            self.sequence = None;
        }
        self.note(media);
        self.sequence_numbers(media, spot, findings);
        for lane in media.lanes.iter().filter(|lane| !lane.units.is_empty()) {
            self.joint(lane, spot, findings);
        }
        self.cut(media, spot, findings);
        self.both(media, spot, findings);
        if spot.is_last {
            self.title_end(media, spot, findings);
        }
        for lane in media.lanes.iter().filter(|lane| !lane.units.is_empty()) {
            self.ends.extend(end(lane).map(|end| (lane.id, end)));
        }
    }

    /// What the rendition is, from the first segment that shows it.
    fn note(&mut self, media: &Media) {
        if let Some(lane) = media.video().filter(|lane| !lane.units.is_empty()) {
            let begins = lane.keys.first() == Some(&0);
            self.all_keys = Some(self.all_keys.unwrap_or(true) && begins);
            self.video.get_or_insert_with(|| lane.config.clone());
            if self.measured_rate.is_none() && lane.units.len() > 2 {
                let pts = lane.sorted_pts();
                let span = lane.last_pts().zip(lane.first_pts()).map_or(0, |(last, first)| last - first);
                let gaps = gaps(&pts).unwrap_or((0, 0));
                let rate = (pts.len() - 1) as f64 / lane.seconds(span).max(1e-9);
                let constant = gaps.1 - gaps.0 <= 2.max(gaps.0 / 8);
                self.measured_rate = Some(rate).filter(|_| constant);
                self.frame_s = self.frame_s.or(Some(1.0 / rate));
            }
        }
        if let Some(lane) = media.audio().filter(|lane| !lane.units.is_empty()) {
            self.audio.get_or_insert_with(|| lane.config.clone());
        }
        self.has_both |= media.video().is_some() && media.audio().is_some();
    }

    fn sequence_numbers(&mut self, media: &Media, spot: &Spot<'_>, findings: &mut Findings) {
        for number in &media.sequence {
            let before = self.sequence.replace(*number);
            findings.check(Row::F4, before.is_none_or(|before| before < *number), spot.uri, || {
                format!("sequence number {number} after {}", before.unwrap_or(0))
            });
        }
    }

    fn joint(&mut self, lane: &Lane, spot: &Spot<'_>, findings: &mut Findings) {
        if let Some(base) = lane.base_dts {
            self.decode_time(lane, base, spot, findings);
        } else if spot.is_first {
            start(lane, spot, findings);
        }
        let Some(before) = self.ends.get(&lane.id) else { return };
        let same = before.config.codec == lane.config.codec && before.config.shown == lane.config.shown;
        findings.check(Row::J5, same, spot.uri, || {
            format!("track {}: {:?} after {:?}", lane.id, lane.config.codec, before.config.codec)
        });
        if lane.is_video {
            pictures_meet(before, lane, spot, findings);
        } else {
            sound_meets(before, lane, spot, findings);
        }
    }

    /// F4 and F5.
    fn decode_time(&self, lane: &Lane, base: i64, spot: &Spot<'_>, findings: &mut Findings) {
        if let Some(end) = self.ends.get(&lane.id).and_then(|before| before.end_dts) {
            findings.check(Row::F4, base == end, spot.uri, || {
                format!("track {}: tfdt {base}, but the segment before ends at {end}", lane.id)
            });
        }
        let frame_s = match lane.is_video {
            true => self.frame_s.unwrap_or(1.0 / 24.0),
            // Sound is cut at whole packets, and may begin with its priming.
            false => 2.0 * lane.seconds(lane.frame_ticks),
        };
        let expected = spot.start_us as f64 / 1e6;
        let raw = lane.seconds(base) - expected;
        let edited = lane.first_dts().map_or(raw, |dts| lane.seconds(dts) - expected);
        let off = if edited.abs() < raw.abs() { edited } else { raw };
        findings.check(Row::F5, off.abs() <= frame_s + 1e-6, spot.uri, || {
            format!("track {}: tfdt is {off:+.6} s off the playlist's {expected:.6} s", lane.id)
        });
    }

    /// P6: the real cut, which is the first picture shown, or the first sound.
    fn cut(&mut self, media: &Media, spot: &Spot<'_>, findings: &mut Findings) {
        let lane = media.video().or_else(|| media.audio());
        let Some((lane, pts)) = lane.and_then(|lane| Some((lane, lane.first_pts()?))) else { return };
        let real = lane.seconds(pts);
        if spot.is_first {
            self.first_s = Some(real);
        }
        let frame_s =
            if lane.is_video { self.frame_s.unwrap_or(1.0 / 24.0) } else { self.sound_frame_s(lane) };
        let off = real - spot.start_us as f64 / 1e6;
        let (least, most) = self.off.map_or((off, off), |(least, most)| (least.min(off), most.max(off)));
        // Only the first of a row of equal lies is news.
        let was_wrong = self.off.is_some_and(|(least, most)| most - least > frame_s + 1e-4);
        let kept = most - least <= frame_s + 1e-4 || was_wrong;
        findings.check(Row::P6, kept, spot.uri, || {
            format!(
                "the playlist has it begin at {} s, but its cut is {:+.6} s off what other segments say (a frame is {frame_s:.6} s)",
                seconds(spot.start_us),
                if off == most { most - least } else { least - most }
            )
        });
        self.off = Some((least, most));
        if lane.is_video && lane.base_dts.is_some() {
            let shown = lane.units.first().is_some_and(|unit| unit.pts == pts);
            findings.check(Row::F6, shown, spot.uri, || {
                "a picture is shown before the key picture of its segment".into()
            });
            let off = real - spot.start_us as f64 / 1e6;
            findings.check(Row::F6, off.abs() <= frame_s + 1e-4, spot.uri, || {
                format!("the first picture is shown {off:+.6} s off its cut at {} s", seconds(spot.start_us))
            });
        }
    }

    fn sound_frame_s(&self, lane: &Lane) -> f64 {
        lane.seconds(lane.frame_ticks) + 1e-5
    }

    /// J6.
    fn both(&self, media: &Media, spot: &Spot<'_>, findings: &mut Findings) {
        if !self.has_both {
            return;
        }
        let first = |lane: Option<&Lane>| lane.and_then(|lane| Some(lane.seconds(lane.first_pts()?)));
        let (video, audio) = (first(media.video()), first(media.audio()));
        let (Some(video), Some(audio)) = (video, audio) else {
            let what = if video.is_none() { "pictures" } else { "sound" };
            return findings.broken(Row::J6, spot.uri, format!("it has no {what}, other segments have"));
        };
        findings.check(Row::J6, (audio - video).abs() <= MAX_APART_S, spot.uri, || {
            format!("sound begins {:+.1} ms after the picture", (audio - video) * 1e3)
        });
    }

    /// P7, against the end of what was found in the last segment.
    fn title_end(&mut self, media: &Media, spot: &Spot<'_>, findings: &mut Findings) {
        let Some(first_s) = self.first_s else { return };
        let said = spot.end_us as f64 / 1e6;
        let ends = media.lanes.iter().filter_map(|lane| {
            let frame_s = if lane.is_video { self.frame_s? } else { lane.seconds(lane.frame_ticks) };
            let end = lane.seconds(lane.last_pts()?) + frame_s;
            let end = match lane.is_video {
                true => end,
                // The last unit may be a packet of several frames.
                false => {
                    lane.end_dts.filter(|_| lane.base_dts.is_none()).map_or(end, |end| lane.seconds(end))
                }
            };
            Some((lane.is_video, end - first_s, frame_s))
        });
        let ends: Vec<(bool, f64, f64)> = ends.collect();
        let slack =
            |is_video: bool, frame_s: f64| if is_video { frame_s } else { SOUND_SLACK_FRAMES * frame_s };
        let kept = |(is_video, real, frame_s): &(bool, f64, f64)| {
            (said - real).abs() <= slack(*is_video, *frame_s) + 1e-4
        };
        findings.check(Row::P7, ends.is_empty() || ends.iter().any(kept), spot.uri, || {
            let real = ends.iter().map(|(_, real, _)| *real).fold(0.0, f64::max);
            format!("the EXTINF add up to {said:.6} s, but the media lasts {real:.6} s")
        });
    }
}

/// Least and greatest distance between neighbours.
fn gaps(sorted: &[i64]) -> Option<(i64, i64)> {
    let all = || sorted.windows(2).filter_map(|pair| Some(pair.last()? - pair.first()?));
    Some((all().min()?, all().max()?))
}

fn end(lane: &Lane) -> Option<End> {
    let dts: Vec<i64> = lane.units.iter().map(|unit| unit.dts).collect();
    Some(End {
        last_dts: lane.last_dts()?,
        last_pts: lane.last_pts()?,
        end_dts: lane.end_dts,
        dts_gaps: gaps(&dts),
        pts_gaps: gaps(&lane.sorted_pts()),
        config: lane.config.clone(),
    })
}

/// How far apart two neighbours may be, by what is usual on both sides of the joint. Where lengths
/// vary (by more than a container's rounding), twice the greatest may still be a frame that was long.
fn usual(before: Option<(i64, i64)>, after: Option<(i64, i64)>) -> Option<(i64, i64)> {
    let (least, most) = match (before, after) {
        (Some(a), Some(b)) => (a.0.min(b.0), a.1.max(b.1)),
        (Some(one), None) | (None, Some(one)) => one,
        (None, None) => return None,
    };
    let most = if most > least + least / 2 { 2 * most } else { most };
    Some((least - 1, most + 1))
}

fn pictures_meet(before: &End, lane: &Lane, spot: &Spot<'_>, findings: &mut Findings) {
    let dts: Vec<i64> = lane.units.iter().map(|unit| unit.dts).collect();
    let within =
        |gap: i64, usual: Option<(i64, i64)>| usual.is_none_or(|(least, most)| (least..=most).contains(&gap));
    if spot.is_ts
        && let Some(first) = lane.first_dts()
    {
        let (gap, usual) = (first - before.last_dts, usual(before.dts_gaps, gaps(&dts)));
        findings.check(Row::T5, within(gap, usual), spot.uri, || {
            format!(
                "PID {}: {gap} ticks from the last DTS before it to its first, {} are usual",
                lane.id,
                spread(usual)
            )
        });
    }
    if let Some(first) = lane.first_pts() {
        let (gap, usual) = (first - before.last_pts, usual(before.pts_gaps, gaps(&lane.sorted_pts())));
        findings.check(Row::J2, within(gap, usual), spot.uri, || {
            format!(
                "pictures: {gap} ticks from the last PTS before it to its first, {} are usual",
                spread(usual)
            )
        });
    }
}

fn spread(usual: Option<(i64, i64)>) -> String {
    usual.map_or_else(String::new, |(least, most)| format!("{} to {}", least + 1, most - 1))
}

fn sound_meets(before: &End, lane: &Lane, spot: &Spot<'_>, findings: &mut Findings) {
    let first = lane.base_dts.or(lane.first_dts());
    let (Some(first), Some(end)) = (first, before.end_dts) else { return };
    let off = first - end;
    let detail = || format!("sound: {off:+} ticks from where the segment before ends (track {})", lane.id);
    findings.check(Row::J2, off.abs() <= CLOCK_TICKS, spot.uri, detail);
    if spot.is_ts {
        findings.check(Row::T5, off.abs() <= CLOCK_TICKS, spot.uri, detail);
        findings.check(Row::T9, off.abs() <= CLOCK_TICKS, spot.uri, detail);
    }
}

/// T7, for one track of the first segment.
fn start(lane: &Lane, spot: &Spot<'_>, findings: &mut Findings) {
    let Some(dts) = lane.first_dts() else { return };
    let s = lane.seconds(dts);
    findings.check(Row::T7, (0.0..=MAX_START_S).contains(&s), spot.uri, || {
        format!("PID {}: the title begins at {s:.3} s on the clock; 10 s is usual, up to {MAX_START_S} s is small", lane.id)
    });
}

/// T7 over all renditions.
pub(super) fn same_start(starts: &[(&str, f64, bool)], findings: &mut Findings) {
    /// A frame of sound or picture.
    const SAME_S: f64 = 0.05;
    let Some((first_uri, first, _)) = starts.first() else { return };
    for (uri, start, is_ts) in starts {
        if *is_ts {
            findings.check(Row::T7, (start - first).abs() <= SAME_S, uri, || {
                format!("it begins at {start:.6} s on the clock, but {first_uri} at {first:.6} s")
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_usual_at_a_joint() {
        assert_eq!(gaps(&[0, 3600, 7200]), Some((3600, 3600)));
        assert_eq!(usual(Some((3753, 3754)), None), Some((3752, 3755)));
        assert_eq!(usual(Some((3600, 3600)), Some((3000, 9000))), Some((2999, 18001)), "a variable rate");
        assert_eq!(usual(None, None), None);
    }
}
