//! Playlists, read by lines: no code is shared with what wrote them.
//!
//! What enters: a playlist's path and the timeline. What leaves: the segments' names, or a difference.

use super::failed;
use crate::base::error::{Error, Result, Stage};
use crate::base::time::Rational;
use crate::model::job::SegmentType;
use crate::model::timeline::Timeline;
use std::path::Path;

/// How far a written time may be from the truth: 1 ms.
const TOLERANCE: Rational = Rational::new(1, 1000);

/// The multivariant playlist names each rendition's playlist once, and nothing else.
pub(super) fn check_master(path: &Path, renditions: &[&str]) -> Result<()> {
    let text = read(path)?;
    let mut named: Vec<&str> = uris(&text).collect();
    let mut expected: Vec<String> = renditions.iter().map(|name| format!("{name}/index.m3u8")).collect();
    named.sort_unstable();
    expected.sort_unstable();
    if named == expected {
        Ok(())
    } else {
        Err(failed(path, format!("it names {named:?} instead of {expected:?}")))
    }
}

/// A media playlist lists each segment of the timeline, in order, with its length. Returns the names.
pub(super) fn check_media(path: &Path, kind: SegmentType, timeline: &Timeline) -> Result<Vec<String>> {
    let text = read(path)?;
    check_text(&text, kind, timeline).map_err(|what| failed(path, what))?;
    Ok(uris(&text).map(str::to_owned).collect())
}

fn check_text(text: &str, kind: SegmentType, timeline: &Timeline) -> Result<(), String> {
    if !text.starts_with("#EXTM3U\n") || !text.ends_with("#EXT-X-ENDLIST\n") {
        return Err("it does not begin with #EXTM3U and end with #EXT-X-ENDLIST".into());
    }
    let has_map = text.contains("\n#EXT-X-MAP:URI=\"init.mp4\"\n");
    if has_map != (kind == SegmentType::Fmp4) {
        return Err("#EXT-X-MAP has to stand in fMP4 playlists and nowhere else".into());
    }
    let lengths: Option<Vec<Rational>> =
        text.lines().filter_map(|l| l.strip_prefix("#EXTINF:")).map(seconds).collect();
    let lengths = lengths.ok_or("an #EXTINF is not a number of seconds")?;
    let names: Vec<&str> = uris(text).collect();
    let count = timeline.segment_count();
    if names.len() as u64 != count || lengths.len() != names.len() {
        return Err(format!("it lists {} segments instead of {count}", names.len()));
    }
    check_entries(&names, &lengths, kind, timeline)?;
    check_target(text, &lengths)
}

fn check_entries(
    names: &[&str],
    lengths: &[Rational],
    kind: SegmentType,
    timeline: &Timeline,
) -> Result<(), String> {
    let extension = if kind == SegmentType::Ts { "ts" } else { "m4s" };
    let mut sum = Rational::ZERO;
    for (n, (name, length)) in (0..).zip(names.iter().zip(lengths)) {
        if *name != format!("{n}.{extension}") {
            return Err(format!("entry {n} is {name}"));
        }
        sum = sum + *length;
        let expected = timeline.segment_duration(n);
        if (*length - expected).abs() > TOLERANCE {
            return Err(format!("#EXTINF of {name} is {length} s instead of {expected} s"));
        }
    }
    let expected = timeline.duration();
    if (sum - expected).abs() > TOLERANCE {
        return Err(format!("the sum of all #EXTINF is {sum} s instead of {expected} s"));
    }
    Ok(())
}

/// No segment, rounded to whole seconds, is longer than the target duration (RFC 8216, 4.3.3.1).
fn check_target(text: &str, lengths: &[Rational]) -> Result<(), String> {
    let target =
        text.lines().find_map(|l| l.strip_prefix("#EXT-X-TARGETDURATION:")).and_then(|t| t.parse().ok());
    let target: i64 = target.ok_or("it has no #EXT-X-TARGETDURATION")?;
    let half = Rational::new(1, 2);
    match lengths.iter().max() {
        Some(longest) if *longest >= Rational::from_int(target) + half => {
            Err(format!("a segment of {longest} s is longer than the target duration of {target} s"))
        }
        _ => Ok(()),
    }
}

/// `4.004000,` with an optional title behind the comma.
fn seconds(text: &str) -> Option<Rational> {
    let number = text.split_once(',').map_or(text, |(number, _)| number);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    let fits = digits(whole) && digits(fraction) && fraction.len() <= 9;
    let scale = 10i64.checked_pow(u32::try_from(fraction.len()).ok().filter(|_| fits)?)?;
    let part = Rational::checked_new(fraction.parse().ok()?, scale)?;
    Some(Rational::from_int(whole.parse().ok()?) + part)
}

fn uris(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'))
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).map_err(|e| Error::io(Stage::Verify, "read", path, &e))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timeline() -> Timeline {
        // 10 s at 25/s: 4 s, 4 s, 2 s.
        Timeline::new(Rational::from_int(25), Rational::from_int(10), Rational::from_int(4))
    }

    const GOOD: &str = "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4.000000,\n0.ts\n#EXTINF:4.0,\n1.ts\n#EXTINF:2,\n2.ts\n#EXT-X-ENDLIST\n";

    #[test]
    fn the_timelines_own_playlist_passes_and_each_change_is_told() {
        assert_eq!(check_text(GOOD, SegmentType::Ts, &timeline()), Ok(()));
        for (from, to, told) in [
            ("#EXT-X-ENDLIST\n", "", "ENDLIST"),
            ("4.000000", "4.002", "EXTINF of 0.ts is 2001/500 s instead of 4 s"),
            ("1.ts", "2.ts", "entry 1 is 2.ts"),
            ("#EXTINF:2,\n2.ts\n", "", "2 segments instead of 3"),
            ("#EXTINF:2,", "#EXTINF:x,", "not a number"),
            ("TARGETDURATION:4", "TARGETDURATION:3", "target duration of 3 s"),
            ("#EXT-X-TARGETDURATION:4\n", "", "no #EXT-X-TARGETDURATION"),
            ("#EXTINF:2,", "#EXT-X-MAP:URI=\"init.mp4\"\n#EXTINF:2,", "EXT-X-MAP"),
        ] {
            let text = GOOD.replace(from, to);
            let what = check_text(&text, SegmentType::Ts, &timeline()).unwrap_err();
            assert!(what.contains(told), "{what}");
        }
        // Each within a millisecond, but all to the same side.
        let drifting = GOOD.replace("4.0,", "4.0009,").replace("4.000000", "4.0009");
        assert!(check_text(&drifting, SegmentType::Ts, &timeline()).unwrap_err().contains("sum"));
    }

    #[test]
    fn the_multivariant_playlist_has_to_name_every_rendition_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("master.m3u8");
        std::fs::write(&path, "#EXTM3U\na/index.m3u8\nb/index.m3u8\n").unwrap();
        check_master(&path, &["b", "a"]).unwrap();
        for renditions in [&["a"][..], &["a", "b", "c"], &["a", "c"]] {
            assert_eq!(check_master(&path, renditions).unwrap_err().code(), "verify_failed");
        }
    }

    #[test]
    fn seconds_are_exact() {
        assert_eq!(seconds("4.004,title"), Some(Rational::new(1001, 250)));
        for bad in ["", "-1,", "4.,", ".5", "1e3", "4.0000000001,"] {
            assert_eq!(seconds(bad), None, "{bad}");
        }
    }
}
