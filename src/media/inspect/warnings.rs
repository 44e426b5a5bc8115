//! What a source has that is not handled yet, and what is odd about it, in words for a person.

use super::choose::Chosen;
use super::{Look, span};
use crate::av::input::{Stream, StreamKind};
use crate::base::time::{Rational, Rounding};
use crate::model::source::{AudioFacts, VideoFacts};

/// Adds what there is to say.
pub(super) fn add(
    out: &mut Vec<String>,
    look: &Look<'_>,
    chosen: &Chosen,
    video: Option<&VideoFacts>,
    audio: Option<&AudioFacts>,
) {
    let streams = look.input.streams();
    out.extend(video.into_iter().flat_map(picture));
    out.extend(chosen.indices().into_iter().filter_map(|i| undecodable(streams.get(i)?)));
    out.extend(choice(streams, StreamKind::Video, chosen.video, "picture"));
    out.extend(choice(streams, StreamKind::Audio, chosen.audio, "sound track"));
    out.extend(subtitles(streams));
    out.extend(cut_off(look, video, audio));
}

fn picture(video: &VideoFacts) -> Vec<String> {
    let mut out = Vec::new();
    if video.dynamic_range != "sdr" {
        out.push("HDR is not tone-mapped yet: colours will look washed out on an SDR screen".into());
    }
    if video.interlaced {
        out.push("interlaced pictures are not deinterlaced yet: moving edges will show comb lines".into());
    }
    if video.rotation_degrees != 0 {
        let degrees = video.rotation_degrees;
        out.push(format!(
            "the picture is not rotated yet: it should be turned by {degrees} degrees and will not be"
        ));
    }
    out
}

fn undecodable(stream: &Stream) -> Option<String> {
    let codec = stream.params.codec_name();
    let message = || {
        format!(
            "stream {} is {codec}, which the linked libav cannot decode: it can only be copied",
            stream.index
        )
    };
    (!stream.params.is_decodable()).then(message)
}

fn choice(streams: &[Stream], kind: StreamKind, taken: Option<usize>, what: &str) -> Option<String> {
    let taken = streams.get(taken?)?;
    let count = streams.iter().filter(|s| s.kind == kind).count();
    let why = if taken.is_default { "default" } else { "first or largest" };
    let language = super::language(taken).map_or(String::new(), |l| format!(", {l}"));
    let index = taken.index;
    (count > 1)
        .then(|| format!("only the {why} {what} (stream {index}{language}) of {count} is taken for now"))
}

fn subtitles(streams: &[Stream]) -> Option<String> {
    let count = streams.iter().filter(|s| s.kind == StreamKind::Subtitle).count();
    (count > 0).then(|| format!("subtitle tracks are left out for now ({count} in this file)"))
}

/// Compares what the header claims with where the packets end: for each track where the container tells
/// its length, else for the longest of what is taken.
fn cut_off(look: &Look<'_>, video: Option<&VideoFacts>, audio: Option<&AudioFacts>) -> Option<String> {
    if !look.kinds.header_length || !look.tail.at_end {
        return None;
    }
    let spans: Vec<_> = video
        .map(|v| (v.stream, v.start, v.end))
        .into_iter()
        .chain(audio.map(|a| (a.stream, a.start, a.end)))
        .collect();
    let claim = |stream: usize, start| look.claimed_end(look.input.streams().get(stream)?, start);
    let faults: Vec<(Rational, Rational)> = if look.kinds.mov {
        spans.iter().filter_map(|(stream, start, end)| Some((*end, claim(*stream, *start)?))).collect()
    } else {
        let seen = spans.iter().map(|s| s.2).max()?;
        let first = spans.first()?;
        vec![(seen, claim(first.0, first.1)?)]
    };
    let (seen, claimed) = faults.into_iter().find(|(seen, claimed)| span::is_cut_off(*seen, *claimed))?;
    let (claimed, seen) = (time_text(claimed), time_text(seen));
    Some(format!("the file ends early: its header says {claimed}, its data ends at {seen}"))
}

/// `1:02:03.4`, for people.
fn time_text(seconds: Rational) -> String {
    let tenths = (seconds * Rational::from_int(10)).round(Rounding::Nearest);
    let (sign, tenths) = (if tenths < 0 { "-" } else { "" }, tenths.unsigned_abs());
    let (s, m, h) = (tenths / 10 % 60, tenths / 600 % 60, tenths / 36_000);
    format!("{sign}{h}:{m:02}:{s:02}.{}", tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_as_people_write_them() {
        assert_eq!(time_text(Rational::new(37_234, 10)), "1:02:03.4");
        assert_eq!(time_text(Rational::new(5999, 100)), "0:01:00.0");
        assert_eq!(time_text(Rational::new(-1, 2)), "-0:00:00.5");
    }
}
