//! One fault for each rule that the bytes can break, planted in a good stream.
//!
//! Each is a name, the row that has to be broken by it, and the damage. What else breaks is not
//! demanded: a lost packet breaks its counters too.

use super::stream::*;
use sprocket::check::Row;

pub type Damage = fn(&mut Stream);
pub type Fault = (&'static str, Row, Damage);

/// Faults in the text of any stream with a multivariant playlist, picture and sound, of three segments
/// or more.
pub const TEXT: &[Fault] = &[
    ("a byte order mark", Row::P1, |s| s.rewrite(|t| format!("\u{FEFF}{t}"))),
    ("no first line", Row::P1, |s| s.replace("#EXTM3U\n", "# a list\n#EXTM3U\n")),
    ("both kinds of line end", Row::P1, |s| s.rewrite(|t| t.replacen('\n', "\r\n", 1))),
    ("a control character", Row::P1, |s| s.rewrite(|t| format!("{t}# \u{7}\n"))),
    ("a version that is too low", Row::P2, |s| s.rewrite(|t| with_version(t, "#EXT-X-VERSION:2\n"))),
    ("the version twice", Row::P2, |s| {
        s.rewrite(|t| with_version(t, "#EXT-X-VERSION:7\n#EXT-X-VERSION:7\n"))
    }),
    ("tags of both kinds", Row::P3, |s| {
        s.rewrite(|t| {
            t.replace(
                "#EXT-X-TARGETDURATION",
                "#EXT-X-SESSION-DATA:DATA-ID=\"x\",VALUE=\"y\"\n#EXT-X-TARGETDURATION",
            )
        });
    }),
    ("a target duration that is too small", Row::P4, |s| s.rewrite(|t| with_target(t, "1"))),
    ("a target duration with decimals", Row::P4, |s| s.rewrite(|t| with_target(t, "4.0"))),
    ("no target duration", Row::P4, |s| s.rewrite(|t| lines(t, |l| !l.starts_with("#EXT-X-TARGETDURATION")))),
    ("a target duration that is too large", Row::P5, |s| s.rewrite(|t| with_target(t, "9"))),
    ("whole seconds", Row::P6, |s| s.rewrite(|t| each_extinf(t, |us| format!("{}", us / 1_000_000)))),
    ("lengths that are 10 % too long", Row::P6, |s| {
        s.rewrite(|t| with_target(&each_extinf(t, |us| decimal(us * 11 / 10)), "5"));
    }),
    ("a last length of nought", Row::P7, |s| s.rewrite(|t| last_extinf(t, |_| 0))),
    ("a last length that is half a second too long", Row::P7, |s| {
        s.rewrite(|t| last_extinf(t, |us| us + 500_000))
    }),
    ("no ENDLIST", Row::P8, |s| s.replace("#EXT-X-ENDLIST\n", "")),
    ("no VOD", Row::P8, |s| s.replace("#EXT-X-PLAYLIST-TYPE:VOD\n", "")),
    ("neither growing nor finished", Row::P9, |s| {
        s.replace("#EXT-X-ENDLIST\n", "");
        s.replace("#EXT-X-PLAYLIST-TYPE:VOD\n", "");
    }),
    ("a media sequence from 7", Row::P10, |s| {
        s.replace("#EXT-X-MEDIA-SEQUENCE:0", "#EXT-X-MEDIA-SEQUENCE:7")
    }),
    ("independent segments twice", Row::P11, |s| {
        s.rewrite(|t| {
            t.replace(
                "#EXT-X-INDEPENDENT-SEGMENTS\n",
                "#EXT-X-INDEPENDENT-SEGMENTS\n#EXT-X-INDEPENDENT-SEGMENTS\n",
            )
        });
    }),
    ("independent segments nowhere", Row::P11, |s| s.replace("#EXT-X-INDEPENDENT-SEGMENTS\n", "")),
    ("a discontinuity", Row::P12, |s| {
        s.rewrite(|t| t.replacen("#EXTINF", "#EXT-X-DISCONTINUITY\n#EXTINF", 2))
    }),
    ("a start", Row::P13, |s| s.replace("#EXTM3U\n", "#EXTM3U\n#EXT-X-START:TIME-OFFSET=0\n")),
    ("a playlist of more than a mebibyte", Row::P14, |s| {
        s.rewrite(|t| format!("{t}#{}\n", "x".repeat(1 << 20)))
    }),
    ("a segment that is not there", Row::P15, |s| {
        let name = s.segments()[1].clone();
        s.files.remove(&name);
    }),
    ("no BANDWIDTH", Row::V1, |s| s.rewrite(|t| t.replace(":BANDWIDTH=", ":X-NOTHING="))),
    ("no AVERAGE-BANDWIDTH", Row::V1, |s| s.replace(",AVERAGE-BANDWIDTH=", ",X-NOTHING=")),
    ("no CODECS", Row::V1, |s| s.replace(",CODECS=", ",X-CODECS=")),
    ("no RESOLUTION", Row::V1, |s| s.replace(",RESOLUTION=", ",X-RESOLUTION=")),
    ("no FRAME-RATE", Row::V1, |s| s.replace(",FRAME-RATE=", ",X-FRAME-RATE=")),
    ("a frame rate that is not true", Row::V1, |s| s.replace("FRAME-RATE=25.000", "FRAME-RATE=50.000")),
    ("sound that CODECS does not tell", Row::V2, |s| s.replace(",mp4a.40.2\"", "\"")),
    ("a codec that is nowhere", Row::V2, |s| s.replace(",mp4a.40.2\"", ",mp4a.40.2,ec-3\"")),
    ("two audio codecs", Row::C7, |s| s.replace(",mp4a.40.2\"", ",mp4a.40.2,ec-3\"")),
    ("a bandwidth far above", Row::V3, |s| s.rewrite(|t| t.replace(":BANDWIDTH=", ":BANDWIDTH=9"))),
    ("a bandwidth below what is needed", Row::V4, |s| s.rewrite(|t| bandwidth(t, |bps| bps * 3 / 4))),
    ("a range that is not that of the picture", Row::V5, |s| {
        s.replace(",RESOLUTION=", ",VIDEO-RANGE=PQ,RESOLUTION=")
    }),
    ("a resolution that is not true", Row::V6, |s| s.replace(",RESOLUTION=", ",RESOLUTION=1")),
    ("a group that is not there", Row::V7, |s| s.replace(",RESOLUTION=", ",AUDIO=\"none\",RESOLUTION=")),
    ("a rendition without language", Row::V7, |s| {
        with_media(s, "#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a\",NAME=\"x\",CHANNELS=\"2\"\n")
    }),
    ("two defaults", Row::V7, |s| {
        let one = "#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a\",NAME=\"x\",LANGUAGE=\"en\",CHANNELS=\"2\",DEFAULT=YES,AUTOSELECT=YES\n";
        with_media(s, &(one.to_owned() + &one.replace("\"x\"", "\"y\"")));
    }),
    ("groups with other members", Row::V8, |s| {
        let one = "#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a\",NAME=\"x\",LANGUAGE=\"en\",CHANNELS=\"2\"\n";
        with_media(s, &(one.to_owned() + &one.replace("\"a\"", "\"b\"").replace("\"x\"", "\"y\"")));
    }),
    ("an import from the multivariant playlist", Row::V14, |s| {
        s.rewrite(|t| {
            t.replace("#EXT-X-TARGETDURATION", "#EXT-X-DEFINE:IMPORT=\"x\"\n#EXT-X-TARGETDURATION")
        });
    }),
    ("the old way to write H.264", Row::C1, |s| s.rewrite(|t| codec(t, "avc1.", "avc1.100.30"))),
    ("another level", Row::C1, |s| s.rewrite(|t| codec(t, "avc1.", "avc1.64003d"))),
    ("another kind of AAC", Row::C3, |s| s.replace("mp4a.40.2", "mp4a.40.5")),
    ("no extension", Row::H2, |s| {
        for name in s.segments() {
            let bytes = s.files.remove(&name).expect("a segment");
            s.files.insert(name.rsplit_once('.').expect("an extension").0.to_owned(), bytes);
        }
        s.rewrite(|t| t.replace(".ts\n", "\n").replace(".m4s\n", "\n"));
    }),
];

/// Faults that take two variants: `high` and `low`.
pub const LADDER: &[Fault] = &[
    ("captions on no variant but one", Row::V11, |s| {
        s.rewrite(|t| t.replacen(",RESOLUTION=", ",CLOSED-CAPTIONS=NONE,RESOLUTION=", 1));
    }),
    ("another target duration", Row::P5, |s| s.rewrite_one("low/index.m3u8", |t| with_target(t, "5"))),
    ("another media sequence", Row::P10, |s| {
        s.rewrite_one("low/index.m3u8", |t| t.replace("#EXT-X-MEDIA-SEQUENCE:0", "#EXT-X-MEDIA-SEQUENCE:1"));
    }),
    ("other cuts", Row::V10, |s| {
        s.rewrite_one("low/index.m3u8", |t| {
            t.replacen("4.000000", "3.500000", 1).replacen("4.000000", "4.500000", 1)
        });
    }),
    ("another number of segments", Row::V10, |s| {
        s.rewrite_one("low/index.m3u8", |t| {
            let at = t.rfind("#EXTINF").expect("a segment");
            format!("{}#EXT-X-ENDLIST\n", &t[..at])
        });
    }),
    ("another beginning", Row::T7, |s| {
        for name in ["low/0.ts", "low/1.ts", "low/2.ts"] {
            shift(s.files.get_mut(name).expect("a segment"), 9_000, true);
        }
    }),
    ("another shape", Row::V6, |s| s.rewrite(|t| t.replace("RESOLUTION=160x90", "RESOLUTION=120x90"))),
    ("sound alone beside pictures", Row::V12, |s| {
        for name in ["low/0.ts", "low/1.ts", "low/2.ts"] {
            let segment = s.files.get_mut(name).expect("a segment");
            let video = video_pid(segment);
            *segment = kept_packets(segment, |packet| pid(packet) != video);
        }
        s.rewrite(|t| t.replace(",RESOLUTION=160x90,FRAME-RATE=25.000", ""));
    }),
    ("an enhancement that is no Dolby Vision", Row::C6, |s| {
        s.rewrite(|t| t.replacen(",RESOLUTION=", ",SUPPLEMENTAL-CODECS=\"hvc1.2\",RESOLUTION=", 1));
    }),
];

/// Faults in transport stream segments.
pub const TS: &[Fault] = &[
    ("half a packet", Row::T1, |s| s.segment(1).extend([0x47; 94])),
    ("a lost sync byte", Row::T1, |s| s.segment(1)[10 * PACKET] = 0),
    ("two programs", Row::T1, |s| {
        let segment = s.segment(1);
        let (at, _) = association(segment);
        segment[at + 2] += 4;
        segment.copy_within(at + 8..at + 12, at + 12);
        segment[at + 13] += 1;
        mend_checksum(segment, at);
    }),
    ("tables in the first segment only", Row::T2, |s| {
        s.each_segment(|index, bytes| {
            let (_, map) = association(bytes);
            if index > 0 {
                *bytes = kept_packets(bytes, |packet| pid(packet) != 0 && pid(packet) != map);
            }
        });
    }),
    ("a table with a wrong checksum", Row::T2, |s| {
        let segment = s.segment(1);
        let (at, _) = program_map(segment);
        segment[at + 3] ^= 1;
    }),
    ("no IDR at the start", Row::T3, |s| rename_nal(s.segment(1), 5, 1)),
    ("no parameter sets", Row::T3, |s| rename_nal(s.segment(1), 7, 12)),
    ("no delimiter", Row::T3, |s| rename_nal(s.segment(1), 9, 12)),
    ("no random access mark", Row::T3, |s| {
        let segment = s.segment(1);
        let video = video_pid(segment);
        let first = segment.chunks_mut(PACKET).find(|p| pid(p) == video).expect("a picture");
        assert!(first[3] & 0x20 != 0 && first[5] & 0x40 != 0);
        first[5] &= !0x40;
    }),
    ("a clock that is silent", Row::T4, |s| {
        for packet in s.segment(1).chunks_mut(PACKET).skip(20) {
            if packet[3] & 0x20 != 0 && packet[4] > 0 {
                packet[5] &= !0x10;
            }
        }
    }),
    ("a clock that is 3 s behind", Row::T4, |s| shift_clock(s.segment(1), -270_000)),
    ("a clock that is ahead of the pictures", Row::T4, |s| shift_clock(s.segment(1), 180_000)),
    ("each segment begins at the same time", Row::T5, |s| {
        let mut at = 0;
        let starts: Vec<i64> = extinfs(s)
            .iter()
            .map(|us| {
                at += us;
                (at - us) * 9 / 100
            })
            .collect();
        s.each_segment(|index, bytes| shift(bytes, -starts[index], true));
    }),
    ("half a second is skipped", Row::T5, |s| {
        s.each_segment(|index, bytes| shift(bytes, if index > 0 { 45_000 } else { 0 }, true));
    }),
    ("half a second is skipped, and the playlist does not say so", Row::P6, |s| {
        s.each_segment(|index, bytes| shift(bytes, if index > 0 { 45_000 } else { 0 }, true));
    }),
    ("one tick too late is nothing, one frame is", Row::J2, |s| {
        s.each_segment(|index, bytes| shift(bytes, if index > 0 { 3_600 } else { 0 }, true));
    }),
    ("counters begin anew", Row::T6, |s| {
        for packet in s.segment(1).chunks_mut(PACKET) {
            packet[3] = packet[3] & 0xF0 | (packet[3] + 5) & 0x0F;
        }
    }),
    ("a packet is lost", Row::T6, |s| {
        s.segment(1).drain(30 * PACKET..31 * PACKET);
    }),
    ("a discontinuity is announced", Row::T6, |s| {
        let segment = s.segment(1);
        let marked = segment.chunks_mut(PACKET).find(|p| p[3] & 0x20 != 0 && p[4] > 0).expect("a field");
        marked[5] |= 0x80;
    }),
    ("the title begins after an hour", Row::T7, |s| {
        s.each_segment(|_, bytes| shift(bytes, 3600 * 90_000, true))
    }),
    ("the title begins below nought", Row::T7, |s| {
        s.each_segment(|_, bytes| shift(bytes, -30 * 90_000, true))
    }),
    ("a stream type that nobody knows", Row::T8, |s| {
        s.each_segment(|_, bytes| {
            let (at, _) = program_map(bytes);
            let audio = find(bytes, &[0x0F, 0xE0 | (audio_pid(bytes) >> 8) as u8], at).expect("an entry");
            bytes[audio] = 0x11;
            mend_checksum(bytes, at);
        });
    }),
    ("sound without a language", Row::T8, |s| {
        s.each_segment(|_, bytes| {
            let (at, _) = program_map(bytes);
            let language = find(bytes, &[10, 4], at).expect("a descriptor");
            bytes[language] = 0x80;
            mend_checksum(bytes, at);
        });
    }),
    ("the last sound of a segment is missing", Row::T9, |s| {
        let segment = s.segment(0);
        let audio = audio_pid(segment);
        let is_start = |packet: &[u8]| pid(packet) == audio && starts_unit(packet);
        let last = segment.chunks(PACKET).rposition(is_start).expect("sound");
        let mut at = 0;
        *segment = kept_packets(segment, |packet| {
            at += 1;
            pid(packet) != audio || at <= last
        });
    }),
    ("a frame of sound is cut", Row::T9, |s| {
        let segment = s.segment(1);
        let audio = audio_pid(segment);
        let packet =
            segment.chunks_mut(PACKET).filter(|p| pid(p) == audio && starts_unit(p)).nth(1).expect("sound");
        let at = payload_at(packet);
        let frame = at + 9 + usize::from(packet[at + 8]);
        packet[frame] = 0;
    }),
    ("a segment of 21 MB", Row::T10, |s| {
        let filler = [&[0x47, 0x1F, 0xFF, 0x10][..], &[0xFF; 184]].concat();
        s.segment(1).extend(filler.repeat(21_000_000 / PACKET));
    }),
    ("another parameter set in one segment", Row::J5, |s| set_level(s.segment(1), 62)),
    ("a level that is too high", Row::C5, |s| {
        s.each_segment(|_, bytes| set_level(bytes, 62));
        s.rewrite(|t| level_in_codecs(t, "3e"));
    }),
    ("a segment without sound", Row::J6, |s| {
        let segment = s.segment(1);
        let audio = audio_pid(segment);
        *segment = kept_packets(segment, |packet| pid(packet) != audio);
    }),
    ("independent segments is a lie", Row::P11, |s| rename_nal(s.segment(1), 5, 1)),
];

/// Faults in fragmented MP4, picture and sound in one segment.
pub const FMP4: &[Fault] = &[
    ("no mvex", Row::F1, |s| {
        let init = s.init();
        let at = box_at(init, b"mvex");
        init[at - 4..at].copy_from_slice(b"free");
    }),
    ("no ftyp", Row::F1, |s| {
        let init = s.init();
        init[4..8].copy_from_slice(b"free");
    }),
    ("media in the init segment", Row::F1, |s| s.init().extend(b"\0\0\0\x08mdat")),
    ("two init segments", Row::F2, |s| {
        let list = s.media_playlist();
        let folder = list.rsplit_once('/').map_or(String::new(), |(folder, _)| format!("{folder}/"));
        let mut other = s.init().clone();
        let at = box_at(&other, b"ftyp");
        other[at + 4] ^= 1;
        s.files.insert(format!("{folder}other.mp4"), other);
        let text = s.text(&list);
        let cut = text.rfind("#EXTINF").expect("a segment");
        let new = format!("{}#EXT-X-MAP:URI=\"other.mp4\"\n{}", &text[..cut], &text[cut..]);
        s.files.insert(list, new.into_bytes());
    }),
    ("a decode time that is one tick late", Row::F4, |s| change_tfdt(s.segment(1), |time| time + 1)),
    ("sequence numbers that fall", Row::F4, |s| {
        let segment = s.segment(1);
        let at = box_at(segment, b"mfhd");
        put_word(segment, at + 4, 0);
    }),
    ("a sample beyond the end", Row::F4, |s| {
        let segment = s.segment(1);
        let length = segment.len();
        segment.truncate(length - 100);
    }),
    ("each segment begins at 0", Row::F5, |s| s.each_segment(|_, bytes| change_tfdt(bytes, |_| 0))),
    ("half a second is skipped", Row::F5, |s| {
        s.each_segment(|index, bytes| change_tfdt(bytes, |time| time + if index > 0 { time / 8 } else { 0 }));
    }),
    ("a key picture that is not marked", Row::F6, |s| mark_first(s.segment(1), 0x0101_0000)),
    ("a picture before its cut", Row::F6, |s| {
        let segment = s.segment(1);
        change_tfdt(segment, |time| time - time / 16);
    }),
    ("an index that leads nowhere", Row::F7, |s| {
        let mut index =
            [&44u32.to_be_bytes()[..], b"sidx", &[0; 8], &90_000u32.to_be_bytes(), &[0; 8]].concat();
        index.extend([0, 0, 0, 1]);
        index.extend(123u32.to_be_bytes());
        index.extend([0; 8]);
        let segment = s.segment(1);
        *segment = [index, segment.clone()].concat();
    }),
    ("a segment without fragment", Row::F4, |s| *s.segment(1) = b"\0\0\0\x08free".to_vec()),
    ("the level of the init segment is too high", Row::C5, |s| {
        let init = s.init();
        let at = box_at(init, b"avcC");
        // In the record and in the parameter set itself, behind its length.
        init[at + 3] = 62;
        init[at + 11] = 62;
        s.rewrite(|t| level_in_codecs(t, "3e"));
    }),
    ("version 3 with a map", Row::P2, |s| s.rewrite(|t| with_version(t, "#EXT-X-VERSION:3\n"))),
];

/// Faults in HEVC in fragmented MP4.
pub const HEVC: &[Fault] = &[
    ("hev1", Row::F8, |s| {
        let init = s.init();
        let at = box_at(init, b"hvc1");
        init[at - 4..at].copy_from_slice(b"hev1");
    }),
    ("another profile", Row::C2, |s| s.replace("hvc1.1.6.", "hvc1.2.4.")),
    ("a colr that the bitstream denies", Row::F9, |s| {
        let init = s.init();
        let at = box_at(init, b"nclx");
        init[at + 1] = 9;
    }),
    ("HDR without its light, and without a range", Row::F9, |s| {
        let init = s.init();
        let at = box_at(init, b"nclx");
        init[at + 3] = 16;
    }),
];

/// The variants of a multivariant playlist in the other order.
pub fn variants_turned(text: &str) -> String {
    let at = text.find("#EXT-X-STREAM-INF").expect("a variant");
    let (head, variants) = text.split_at(at);
    let next = variants[1..].find("#EXT-X-STREAM-INF").expect("a second variant") + 1;
    format!("{head}{}{}", &variants[next..], &variants[..next])
}

/// Gives the first box of a kind another kind.
pub fn rename_box(bytes: &mut [u8], from: &[u8; 4], to: &[u8; 4]) {
    let at = box_at(bytes, from);
    bytes[at - 4..at].copy_from_slice(to);
}

// ---- tools of the table ---------------------------------------------------------------------------

fn lines(text: &str, keep: impl Fn(&str) -> bool) -> String {
    text.lines().filter(|line| keep(line)).map(|line| format!("{line}\n")).collect()
}

fn with_version(text: &str, version: &str) -> String {
    let rest = lines(text, |line| !line.starts_with("#EXT-X-VERSION"));
    rest.replacen("#EXTM3U\n", &format!("#EXTM3U\n{version}"), 1)
}

fn with_target(text: &str, target: &str) -> String {
    let line = |line: &str| match line.starts_with("#EXT-X-TARGETDURATION") {
        true => format!("#EXT-X-TARGETDURATION:{target}\n"),
        false => format!("{line}\n"),
    };
    text.lines().map(line).collect()
}

fn decimal(us: i64) -> String {
    format!("{}.{:06}", us / 1_000_000, us % 1_000_000)
}

fn extinf_us(line: &str) -> Option<i64> {
    let value = line.strip_prefix("#EXTINF:")?.split(',').next()?;
    Some((value.parse::<f64>().expect("a number") * 1e6).round() as i64)
}

fn extinfs(stream: &Stream) -> Vec<i64> {
    stream.text(&stream.media_playlist()).lines().filter_map(extinf_us).collect()
}

fn each_extinf(text: &str, how: impl Fn(i64) -> String) -> String {
    let line = |line: &str| match extinf_us(line) {
        Some(us) => format!("#EXTINF:{},\n", how(us)),
        None => format!("{line}\n"),
    };
    text.lines().map(line).collect()
}

fn last_extinf(text: &str, how: impl Fn(i64) -> i64) -> String {
    let Some(at) = text.rfind("#EXTINF") else { return text.to_owned() };
    let (head, tail) = text.split_at(at);
    head.to_owned() + &each_extinf(tail, |us| decimal(how(us)))
}

fn bandwidth(text: &str, how: impl Fn(u64) -> u64) -> String {
    let line = |line: &str| {
        let Some(rest) = line.strip_prefix("#EXT-X-STREAM-INF:BANDWIDTH=") else {
            return format!("{line}\n");
        };
        let (bps, rest) = rest.split_once(',').expect("more attributes");
        format!("#EXT-X-STREAM-INF:BANDWIDTH={},{rest}\n", how(bps.parse().expect("a number")))
    };
    text.lines().map(line).collect()
}

/// Another string for the first codec that begins so.
fn codec(text: &str, prefix: &str, new: &str) -> String {
    let Some(at) = text.find(prefix) else { return text.to_owned() };
    let end = at + text[at..].find([',', '"']).expect("an end");
    format!("{}{new}{}", &text[..at], codec(&text[end..], prefix, new))
}

/// The last two digits of each H.264 string.
fn level_in_codecs(text: &str, level: &str) -> String {
    let Some(at) = text.find("avc1.") else { return text.to_owned() };
    let digits = at + "avc1.".len() + 4;
    format!("{}{level}{}", &text[..digits], level_in_codecs(&text[digits + 2..], level))
}

fn with_media(stream: &mut Stream, lines: &str) {
    let entry = stream.entry.clone();
    let text = stream.text(&entry).replacen("#EXT-X-STREAM-INF", &format!("{lines}#EXT-X-STREAM-INF"), 1);
    stream.files.insert(entry, text.into_bytes());
}

fn kept_packets(segment: &[u8], mut keep: impl FnMut(&[u8]) -> bool) -> Vec<u8> {
    segment.chunks(PACKET).filter(|packet| keep(packet)).flatten().copied().collect()
}

/// Gives the first NAL unit of a type another type.
fn rename_nal(segment: &mut [u8], from: u8, to: u8) {
    let mut at = 0;
    while let Some(code) = find(segment, &[0, 0, 1], at) {
        at = code + 3;
        // PES headers have start codes too, from 0xC0 on.
        if at < segment.len() && segment[at] & 0x9F == from {
            segment[at] = segment[at] & 0xE0 | to;
            return;
        }
    }
    panic!("no NAL unit of type {from}");
}

fn set_level(segment: &mut [u8], level: u8) {
    let mut at = 0;
    while let Some(code) = find(segment, &[0, 0, 1], at) {
        at = code + 3;
        if segment.get(at).is_some_and(|head| head & 0x9F == 7) {
            segment[at + 3] = level;
        }
    }
}

fn shift_clock(segment: &mut [u8], ticks: i64) {
    shift(segment, ticks, true);
    shift(segment, -ticks, false);
}

/// Sets the flags of the first sample of the first run.
fn mark_first(segment: &mut [u8], flags: u32) {
    let at = box_at(segment, b"trun");
    let present = word(segment, at) & 0xFF_FFFF;
    let mut field = at + 8 + if present & 1 != 0 { 4 } else { 0 };
    if present & 4 != 0 {
        put_word(segment, field, flags);
        return;
    }
    assert!(present & 0x400 != 0, "the run has flags for its first sample");
    field += if present & 0x100 != 0 { 4 } else { 0 } + if present & 0x200 != 0 { 4 } else { 0 };
    put_word(segment, field, flags);
}
