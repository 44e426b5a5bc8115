//! The rules of every playlist: rows P1 to P5, P7 to P14 and half of P6, as far as the text alone tells.
//!
//! What enters: the bytes of a playlist, and the playlists of a title side by side. What leaves: findings.

use super::m3u8::{Attributes, Playlist};
use super::report::{Findings, Row};

/// Playlists above this are what the reports of row P14 are about: 4 h in pieces of 3 s, each with
/// a query of some hundred bytes.
const MAX_PLAYLIST_BYTES: usize = 1 << 20;
/// Above this length of a title, segments of [`LONG_SEGMENT_S`] are asked for.
const LONG_TITLE_US: i64 = 3 * 3600 * 1_000_000;
const LONG_SEGMENT_S: u64 = 6;
const DECIMALS: usize = 6;

/// The text of a playlist, whatever its bytes are.
pub(super) fn text(body: &[u8], uri: &str, findings: &mut Findings) -> String {
    let mut fault = |kept: bool, what: &str| findings.check(Row::P1, kept, uri, || what.to_owned());
    fault(!body.starts_with(b"\xEF\xBB\xBF"), "it begins with a byte order mark");
    fault(std::str::from_utf8(body).is_ok(), "it is not UTF-8");
    let first = body.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let first = first.strip_suffix(b"\r").unwrap_or(first);
    fault(first == b"#EXTM3U" || first == b"\xEF\xBB\xBF#EXTM3U", "its first line is not exactly #EXTM3U");
    let with_cr = body.windows(2).filter(|pair| pair == b"\r\n").count();
    let ends = body.iter().filter(|byte| **byte == b'\n').count();
    let bare = body.iter().filter(|byte| **byte == b'\r').count() - with_cr;
    fault(bare == 0 && (with_cr == 0 || with_cr == ends), "its lines end in both LF and CRLF");
    let control = |byte: &u8| (*byte < 0x20 && !matches!(byte, b'\n' | b'\r')) || *byte == 0x7F;
    fault(!body.iter().any(control), "it holds control characters");
    let text = String::from_utf8_lossy(body).into_owned();
    text.strip_prefix('\u{FEFF}').map_or(text.clone(), str::to_owned)
}

/// What every playlist has to keep.
pub(super) fn any(playlist: &Playlist, uri: &str, findings: &mut Findings) {
    version(playlist, uri, findings);
    let mixed = playlist.is_master() && playlist.is_media();
    findings.check(Row::P3, !mixed, uri, || "it has tags of both kinds of playlist".into());
    let independent = playlist.all("EXT-X-INDEPENDENT-SEGMENTS").count();
    findings.check(Row::P11, independent <= 1, uri, || {
        format!("EXT-X-INDEPENDENT-SEGMENTS stands there {independent} times")
    });
    findings.check(Row::P13, !playlist.has("EXT-X-START"), uri, || "it has EXT-X-START".into());
    findings.check(Row::P14, playlist.bytes <= MAX_PLAYLIST_BYTES, uri, || {
        format!("it has {} bytes: shorter URIs or longer segments", playlist.bytes)
    });
}

/// The least version for what is used (RFC 8216, 7; bis, 8).
fn version(playlist: &Playlist, uri: &str, findings: &mut Findings) {
    let versions: Vec<&str> = playlist.all("EXT-X-VERSION").map(|tag| tag.value.as_str()).collect();
    findings.check(Row::P2, versions.len() <= 1, uri, || {
        format!("EXT-X-VERSION stands there {} times", versions.len())
    });
    let said = versions.first().map_or(Some(1), |text| text.parse::<u32>().ok());
    let Some(said) = said else {
        return findings.broken(Row::P2, uri, format!("EXT-X-VERSION {:?} is no number", versions.first()));
    };
    let fractional = playlist.segments.iter().any(|segment| segment.extinf.contains('.'));
    let map = playlist.has("EXT-X-MAP");
    let frames_only = playlist.has("EXT-X-I-FRAMES-ONLY");
    let ranges = playlist.has("EXT-X-BYTERANGE") || frames_only;
    let needs = [
        (fractional, 3, "EXTINF with a fraction"),
        (ranges, 4, "byte ranges"),
        (map, if frames_only { 5 } else { 6 }, "EXT-X-MAP"),
        (playlist.has("EXT-X-DEFINE"), 8, "EXT-X-DEFINE"),
    ];
    for (used, least, what) in needs {
        findings.check(Row::P2, !used || said >= least, uri, || {
            format!("version {said}, but {what} needs {least}")
        });
    }
}

/// What a media playlist has to keep.
pub(super) fn media(playlist: &Playlist, uri: &str, findings: &mut Findings) {
    target_duration(playlist, uri, findings);
    lengths(playlist, uri, findings);
    kind(playlist, uri, findings);
    let sequence = playlist.value("EXT-X-MEDIA-SEQUENCE");
    findings.check(Row::P10, matches!(sequence, None | Some("0")), uri, || {
        format!("EXT-X-MEDIA-SEQUENCE is {:?} instead of 0", sequence.unwrap_or_default())
    });
    for name in ["EXT-X-DISCONTINUITY", "EXT-X-DISCONTINUITY-SEQUENCE"] {
        let first = playlist.all(name).next();
        findings.check(Row::P12, first.is_none(), uri, || {
            format!("line {}: {name}", first.map_or(0, |tag| tag.line))
        });
    }
    let length_us = playlist.starts_us().last().copied().unwrap_or(0);
    let target = playlist.target_duration().unwrap_or(u64::MAX);
    if length_us > LONG_TITLE_US && target < LONG_SEGMENT_S {
        let what =
            format!("{} segments: above 3 h take segments of {LONG_SEGMENT_S} s", playlist.segments.len());
        findings.advice(Row::P14, uri, what);
    }
}

fn target_duration(playlist: &Playlist, uri: &str, findings: &mut Findings) {
    let count = playlist.all("EXT-X-TARGETDURATION").count();
    findings.check(Row::P4, count == 1, uri, || format!("EXT-X-TARGETDURATION stands there {count} times"));
    if count == 0 {
        return;
    }
    let Some(target) = playlist.target_duration().filter(|target| *target > 0) else {
        let value = playlist.value("EXT-X-TARGETDURATION").unwrap_or_default();
        return findings.broken(
            Row::P4,
            uri,
            format!("EXT-X-TARGETDURATION {value:?} is no whole number above 0"),
        );
    };
    let target_us = i64::try_from(target).unwrap_or(i64::MAX).saturating_mul(1_000_000);
    for segment in &playlist.segments {
        // Half-up rounding and Apple's half second say the same but for the half itself.
        let longest = target_us.saturating_add(500_000);
        let kept = segment.duration_us.is_none_or(|length| length < longest);
        findings.check(Row::P4, kept, uri, || {
            format!("line {}: {} s with a target duration of {target}", segment.line, segment.extinf)
        });
    }
    let longest_us = playlist.longest_us();
    if !playlist.segments.is_empty() {
        findings.check(Row::P5, target_us <= longest_us + 1_000_000, uri, || {
            format!("the target duration is {target}, the longest segment {} s", seconds(longest_us))
        });
    }
}

/// Microseconds for people.
pub(super) fn seconds(us: i64) -> String {
    format!("{:.6}", us as f64 / 1e6)
}

fn lengths(playlist: &Playlist, uri: &str, findings: &mut Findings) {
    for segment in &playlist.segments {
        let decimals = segment.extinf.split_once('.').map_or(0, |(_, fraction)| fraction.len());
        findings.check(Row::P6, decimals >= DECIMALS, uri, || {
            format!(
                "line {}: EXTINF {:?} has {decimals} decimals instead of {DECIMALS}",
                segment.line, segment.extinf
            )
        });
        findings.check(Row::P7, segment.duration_us.is_some_and(|length| length > 0), uri, || {
            format!("line {}: EXTINF {:?} is not above nought", segment.line, segment.extinf)
        });
    }
}

/// Finished or growing.
fn kind(playlist: &Playlist, uri: &str, findings: &mut Findings) {
    let kind = playlist.value("EXT-X-PLAYLIST-TYPE");
    let ended = playlist.has("EXT-X-ENDLIST");
    match (kind, ended) {
        (Some("VOD"), true) => findings.judged(Row::P8),
        (Some("EVENT"), false) => findings.judged(Row::P9),
        (Some("EVENT"), true) => {
            findings.broken(
                Row::P8,
                uri,
                "it has an EXT-X-ENDLIST but says EVENT: a finished playlist says VOD",
            );
        }
        (Some("VOD"), false) => findings.broken(Row::P8, uri, "it says VOD but has no EXT-X-ENDLIST"),
        (_, true) => findings.broken(Row::P8, uri, "it has no EXT-X-PLAYLIST-TYPE:VOD"),
        (_, false) => {
            findings.broken(Row::P9, uri, "it has neither EXT-X-ENDLIST nor EXT-X-PLAYLIST-TYPE:EVENT");
        }
    }
}

/// A growing playlist that was read twice: the first has to be the beginning of the second.
pub(super) fn grown(before: &Playlist, after: &Playlist, uri: &str, findings: &mut Findings) {
    let key = |playlist: &Playlist| -> Vec<(String, String)> {
        playlist.segments.iter().map(|segment| (segment.uri.clone(), segment.extinf.clone())).collect()
    };
    let kept = key(after).starts_with(&key(before))
        && before.target_duration() == after.target_duration()
        && before.maps == after.maps.iter().take(before.maps.len()).cloned().collect::<Vec<_>>();
    findings.check(Row::P9, kept, uri, || "what it said at first has changed when it is read again".into());
}

/// One media playlist of a title, for the rules over all of them.
pub(super) struct Peer<'a> {
    pub(super) uri: &'a str,
    pub(super) playlist: &'a Playlist,
    /// Holds pictures or sound, not text.
    pub(super) is_av: bool,
}

/// The rules over all playlists of a title: P5, P10, V10.
pub(super) fn together(peers: &[Peer<'_>], findings: &mut Findings) {
    /// Longest frame of sound or picture that still counts as "the same time".
    const SAME_US: i64 = 50_000;
    let mut av = peers.iter().filter(|peer| peer.is_av);
    let Some(first) = av.next() else { return };
    let starts = first.playlist.starts_us();
    for peer in av {
        let (ours, theirs) = (peer.playlist.target_duration(), first.playlist.target_duration());
        findings.check(Row::P5, ours == theirs, peer.uri, || {
            format!("target duration {ours:?}, but {theirs:?} in {}", first.uri)
        });
        let sequence =
            |peer: &Peer<'_>| peer.playlist.value("EXT-X-MEDIA-SEQUENCE").unwrap_or("0").to_owned();
        findings.check(Row::P10, sequence(peer) == sequence(first), peer.uri, || {
            format!("media sequence {}, but {} in {}", sequence(peer), sequence(first), first.uri)
        });
        let other = peer.playlist.starts_us();
        let growing = [peer, first].iter().any(|peer| !peer.playlist.has("EXT-X-ENDLIST"));
        let off = starts.iter().zip(&other).position(|(a, b)| (a - b).abs() > SAME_US);
        let kept = off.is_none() && (growing || starts.len() == other.len());
        findings.check(Row::V10, kept, peer.uri, || match off {
            Some(at) => format!(
                "cut {at} stands at {} s, but at {} s in {}",
                seconds(other.get(at).copied().unwrap_or(0)),
                seconds(starts.get(at).copied().unwrap_or(0)),
                first.uri
            ),
            None => format!("{} segments, but {} in {}", other.len() - 1, starts.len() - 1, first.uri),
        });
    }
}

/// P11: said where it belongs, and true. `all_keys` is `None` when no picture was looked at.
pub(super) fn independent(
    master: Option<(&Playlist, &str)>,
    videos: &[(&Playlist, &str, bool)],
    findings: &mut Findings,
) {
    const TAG: &str = "EXT-X-INDEPENDENT-SEGMENTS";
    let in_master = master.is_some_and(|(playlist, _)| playlist.has(TAG));
    let all_keys = videos.iter().all(|(.., keys)| *keys);
    for (playlist, uri, keys) in videos {
        let said = in_master || playlist.has(TAG);
        findings.check(Row::P11, !said || *keys, uri, || {
            format!("{TAG} is said, but a segment does not begin with a key picture")
        });
        // A media playlist that is checked alone may have it in a master that nobody has shown.
        let wanted = master.is_some() && all_keys && !said;
        findings.check(Row::P11, !wanted, uri, || {
            format!("{TAG} is true and stands neither here nor in the master")
        });
    }
}

/// V14: nothing in a media playlist needs the multivariant one.
pub(super) fn alone(playlist: &Playlist, uri: &str, findings: &mut Findings) {
    let imports =
        playlist.all("EXT-X-DEFINE").find(|tag| Attributes::parse(&tag.value).get("IMPORT").is_some());
    findings.check(Row::V14, imports.is_none(), uri, || {
        "it imports variables of the multivariant playlist".into()
    });
}

#[cfg(test)]
mod tests {
    use super::super::report::Verdict;
    use super::*;

    const GOOD: &str = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:4\n#EXT-X-MEDIA-SEQUENCE:0\n\
                        #EXT-X-PLAYLIST-TYPE:VOD\n#EXTINF:4.000000,\n0.ts\n#EXTINF:3.500000,\n1.ts\n#EXT-X-ENDLIST\n";

    fn broken(text: &str) -> Vec<&'static str> {
        let mut findings = Findings::default();
        let text = super::text(text.as_bytes(), "p", &mut findings);
        let playlist = Playlist::parse(&text);
        any(&playlist, "p", &mut findings);
        media(&playlist, "p", &mut findings);
        findings.into_rows().iter().filter(|r| r.verdict == Verdict::Broken).map(|r| r.id).collect()
    }

    #[test]
    fn each_fault_is_found_and_nothing_else() {
        assert_eq!(broken(GOOD), [""; 0]);
        let table = [
            ("#EXTM3U\n", "\u{FEFF}#EXTM3U\n", "P1"),
            ("#EXTM3U\n", "#EXTM3U \n", "P1"),
            ("#EXT-X-VERSION:3\n", "#EXT-X-VERSION:3\r\n", "P1"),
            ("0.ts", "0\u{1}.ts", "P1"),
            ("#EXT-X-VERSION:3\n", "#EXT-X-VERSION:2\n", "P2"),
            ("#EXT-X-VERSION:3\n", "", "P2"),
            ("#EXT-X-VERSION:3\n", "#EXT-X-VERSION:3\n#EXT-X-VERSION:3\n", "P2"),
            ("#EXT-X-VERSION:3\n", "#EXT-X-VERSION:3\n#EXT-X-MAP:URI=\"i.mp4\"\n", "P2"),
            (
                "#EXT-X-VERSION:3\n",
                "#EXT-X-VERSION:3\n#EXT-X-STREAM-INF:BANDWIDTH=1\n#EXT-X-VERSION:3\n",
                "P3",
            ),
            ("DURATION:4", "DURATION:4.0", "P4"),
            ("DURATION:4", "DURATION:3", "P4"),
            ("#EXT-X-TARGETDURATION:4\n", "", "P4"),
            ("DURATION:4", "DURATION:6", "P5"),
            ("3.500000", "3.50", "P6"),
            ("3.500000", "0.000000", "P7"),
            ("3.500000", "-1.000000", "P7"),
            ("#EXT-X-ENDLIST\n", "", "P8"),
            ("VOD", "EVENT", "P8"),
            ("#EXT-X-PLAYLIST-TYPE:VOD\n", "", "P8"),
            ("#EXT-X-MEDIA-SEQUENCE:0", "#EXT-X-MEDIA-SEQUENCE:1", "P10"),
            ("1.ts", "#EXT-X-DISCONTINUITY\n1.ts", "P12"),
            ("#EXTINF:4", "#EXT-X-START:TIME-OFFSET=0\n#EXTINF:4", "P13"),
        ];
        for (from, to, row) in table {
            let text = GOOD.replacen(from, to, 1);
            assert_ne!(text, GOOD);
            assert!(broken(&text).contains(&row), "{from:?} -> {to:?}: {:?}", broken(&text));
        }
        let long = GOOD.replace("0.ts", &"x".repeat(1 << 20));
        assert_eq!(broken(&long), ["P14"]);
    }

    #[test]
    fn a_growing_playlist_only_grows() {
        let before = Playlist::parse(GOOD);
        let longer = Playlist::parse(&GOOD.replace("#EXT-X-ENDLIST", "#EXTINF:1.000000,\n2.ts"));
        let other = Playlist::parse(&GOOD.replace("3.5", "3.6"));
        let verdict = |after: &Playlist| {
            let mut findings = Findings::default();
            grown(&before, after, "p", &mut findings);
            findings.into_rows().iter().find(|r| r.id == "P9").map(|r| r.verdict)
        };
        assert_eq!(verdict(&longer), Some(Verdict::Kept));
        assert_eq!(verdict(&other), Some(Verdict::Broken));
    }
}
