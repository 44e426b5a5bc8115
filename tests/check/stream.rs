//! A stream in memory: what a good one is damaged in, and judged as.
//!
//! Also the few tools that damage needs: packets with their PIDs, the clock fields, checksums, boxes.

use sprocket::check::{Answer, Options, Report, Request, Row, Source, Trouble, Url, Verdict, check};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Length of a transport packet.
pub const PACKET: usize = 188;

/// Files by their path below the stream's folder.
#[derive(Clone, Debug, Default)]
pub struct Stream {
    pub files: BTreeMap<String, Vec<u8>>,
    pub entry: String,
}

impl Source for Stream {
    fn fetch(&mut self, request: &Request) -> Result<Answer, Trouble> {
        let name = request.url.path().trim_start_matches('/');
        let found = self.files.get(name).cloned();
        let status = if found.is_some() { 200 } else { 404 };
        Ok(Answer { status, body: found.unwrap_or_default(), http_1_1: true, ..Answer::default() })
    }

    fn is_http(&self) -> bool {
        false
    }
}

impl Stream {
    /// Reads a folder with everything below it.
    pub fn load(folder: &Path, entry: &str) -> Self {
        let mut stream = Self { entry: entry.into(), ..Self::default() };
        stream.add(folder, "");
        stream
    }

    fn add(&mut self, folder: &Path, prefix: &str) {
        for item in fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
            let path = item.expect("an entry").path();
            let name = format!("{prefix}{}", path.file_name().expect("a name").to_string_lossy());
            if path.is_dir() {
                self.add(&path, &format!("{name}/"));
            } else {
                self.files.insert(name, fs::read(&path).expect("a readable file"));
            }
        }
    }

    /// The whole report.
    #[track_caller]
    pub fn report(&self) -> Report {
        let entry = Url::parse(&format!("file:///{}", self.entry)).expect("an address");
        check(&mut self.clone(), &entry, Options::default()).expect("there is a playlist")
    }

    pub fn text(&self, name: &str) -> String {
        String::from_utf8(self.files[name].clone()).expect("text")
    }

    /// Replaces in every playlist, or in the first that has it; demands that there was something.
    #[track_caller]
    pub fn replace(&mut self, from: &str, to: &str) {
        self.rewrite(|text| text.replace(from, to));
    }

    /// Rewrites every playlist; demands that one of them changes.
    #[track_caller]
    pub fn rewrite(&mut self, how: impl Fn(&str) -> String) {
        let mut changed = false;
        for (_, bytes) in self.files.iter_mut().filter(|(name, _)| name.ends_with(".m3u8")) {
            let text = String::from_utf8(bytes.clone()).expect("text");
            let new = how(&text);
            changed |= new != text;
            *bytes = new.into_bytes();
        }
        assert!(changed, "the damage did nothing");
    }

    /// Rewrites one playlist.
    #[track_caller]
    pub fn rewrite_one(&mut self, name: &str, how: impl Fn(&str) -> String) {
        let text = self.text(name);
        let new = how(&text);
        assert_ne!(new, text, "the damage did nothing");
        self.files.insert(name.to_owned(), new.into_bytes());
    }

    /// The first media playlist, by name.
    pub fn media_playlist(&self) -> String {
        let is_media = |name: &&String| name.ends_with(".m3u8") && self.text(name).contains("#EXTINF");
        self.files.keys().find(is_media).expect("a media playlist").clone()
    }

    /// Paths of the segments of the first media playlist.
    pub fn segments(&self) -> Vec<String> {
        self.segments_of(&self.media_playlist())
    }

    pub fn segments_of(&self, list: &str) -> Vec<String> {
        let folder = list.rsplit_once('/').map_or(String::new(), |(folder, _)| format!("{folder}/"));
        let text = self.text(list);
        text.lines()
            .filter(|l| !l.starts_with('#') && !l.is_empty())
            .map(|l| format!("{folder}{l}"))
            .collect()
    }

    pub fn segment(&mut self, index: usize) -> &mut Vec<u8> {
        let name = self.segments()[index].clone();
        self.files.get_mut(&name).expect("a segment")
    }

    /// Every segment of the first media playlist.
    pub fn each_segment(&mut self, mut how: impl FnMut(usize, &mut Vec<u8>)) {
        for (index, name) in self.segments().into_iter().enumerate() {
            how(index, self.files.get_mut(&name).expect("a segment"));
        }
    }

    pub fn init(&mut self) -> &mut Vec<u8> {
        let name =
            self.files.keys().find(|name| name.ends_with("init.mp4")).expect("an init segment").clone();
        self.files.get_mut(&name).expect("it is there")
    }
}

/// The rows of a verdict.
pub fn with(report: &Report, verdict: Verdict) -> Vec<&'static str> {
    report.rows.iter().filter(|row| row.verdict == verdict).map(|row| row.id).collect()
}

/// Where a row is broken or advised, for messages.
pub fn places(report: &Report, row: Row) -> String {
    let row = report.row(row).expect("every row is there");
    row.places.iter().map(|place| format!("{}: {}", place.uri, place.detail)).collect::<Vec<_>>().join("\n")
}

// ---- transport packets ----------------------------------------------------------------------------

pub fn pid(packet: &[u8]) -> u16 {
    u16::from_be_bytes([packet[1] & 0x1F, packet[2]])
}

pub fn starts_unit(packet: &[u8]) -> bool {
    packet[1] & 0x40 != 0
}

/// Where the payload begins.
pub fn payload_at(packet: &[u8]) -> usize {
    if packet[3] & 0x20 != 0 { 5 + usize::from(packet[4]) } else { 4 }
}

/// PID of the first stream whose `stream_type` is one of these.
pub fn stream_pid(segment: &[u8], types: &[u8]) -> u16 {
    let (at, _) = program_map(segment);
    let section = &segment[at..];
    let mut entry = 12 + (usize::from(section[10] & 0x0F) << 8 | usize::from(section[11]));
    let end = 3 + (usize::from(section[1] & 0x0F) << 8 | usize::from(section[2])) - 4;
    while entry < end {
        let found = u16::from_be_bytes([section[entry + 1] & 0x1F, section[entry + 2]]);
        if types.contains(&section[entry]) {
            return found;
        }
        entry += 5 + (usize::from(section[entry + 3] & 0x0F) << 8 | usize::from(section[entry + 4]));
    }
    panic!("no stream of types {types:?}");
}

pub fn video_pid(segment: &[u8]) -> u16 {
    stream_pid(segment, &[0x1B, 0x24])
}

pub fn audio_pid(segment: &[u8]) -> u16 {
    stream_pid(segment, &[0x0F])
}

/// Where the program association section begins, and its PMT PID.
pub fn association(segment: &[u8]) -> (usize, u16) {
    let packet = segment.chunks(PACKET).position(|p| pid(p) == 0).expect("a PAT") * PACKET;
    let at = packet + payload_at(&segment[packet..]) + 1;
    (at, u16::from_be_bytes([segment[at + 10] & 0x1F, segment[at + 11]]))
}

/// Where the program map section begins, and its packet.
pub fn program_map(segment: &[u8]) -> (usize, usize) {
    let (_, map_pid) = association(segment);
    let packet = segment.chunks(PACKET).position(|p| pid(p) == map_pid).expect("a PMT") * PACKET;
    (packet + payload_at(&segment[packet..]) + 1, packet)
}

/// Puts the right checksum behind a section that was changed.
pub fn mend_checksum(segment: &mut [u8], at: usize) {
    let length = 3 + (usize::from(segment[at + 1] & 0x0F) << 8 | usize::from(segment[at + 2]));
    let crc = segment[at..at + length - 4].iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte) << 24, |c, _| c << 1 ^ if c >> 31 == 1 { 0x04C1_1DB7 } else { 0 })
    });
    segment[at + length - 4..at + length].copy_from_slice(&crc.to_be_bytes());
}

/// Adds ticks of 90 kHz to all PTS and DTS, and with `clock` to the PCR too.
pub fn shift(segment: &mut [u8], ticks: i64, clock: bool) {
    const MASK: i64 = (1 << 33) - 1;
    for packet in segment.chunks_mut(PACKET) {
        if clock && packet[3] & 0x20 != 0 && packet[4] > 0 && packet[5] & 0x10 != 0 {
            let raw = packet[6..12].iter().fold(0u64, |v, b| v << 8 | u64::from(*b));
            let base = ((raw >> 15) as i64 + ticks) & MASK;
            let new = (base as u64) << 15 | raw & 0x7FFF;
            packet[6..12].copy_from_slice(&new.to_be_bytes()[2..]);
        }
        let at = payload_at(packet);
        if !starts_unit(packet) || at + 19 > PACKET || packet[at..at + 3] != [0, 0, 1] {
            continue;
        }
        let flags = packet[at + 7];
        let fields = usize::from(flags >> 7) + usize::from(flags >> 6 & 1);
        for field in 0..fields {
            let at = at + 9 + 5 * field;
            let raw = packet[at..at + 5].iter().fold(0i64, |v, b| v << 8 | i64::from(*b));
            let old = (raw >> 33 & 7) << 30 | (raw >> 17 & 0x7FFF) << 15 | raw >> 1 & 0x7FFF;
            let time = (old + ticks) & MASK;
            let new = raw & 0xF0_0001_0001
                | (time >> 30) << 33
                | (time >> 15 & 0x7FFF) << 17
                | (time & 0x7FFF) << 1;
            packet[at..at + 5].copy_from_slice(&new.to_be_bytes()[3..]);
        }
    }
}

/// Where `needle` begins, from `from` on.
pub fn find(bytes: &[u8], needle: &[u8], from: usize) -> Option<usize> {
    bytes[from..].windows(needle.len()).position(|window| window == needle).map(|at| at + from)
}

// ---- boxes ----------------------------------------------------------------------------------------

/// Where the payload of the first box of a kind begins, wherever it stands.
#[track_caller]
pub fn box_at(bytes: &[u8], kind: &[u8; 4]) -> usize {
    find(bytes, kind, 0).unwrap_or_else(|| panic!("no box {}", String::from_utf8_lossy(kind))) + 4
}

pub fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

pub fn put_word(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
}

/// Adds to each `tfdt`, or sets it to 0.
pub fn change_tfdt(segment: &mut [u8], how: impl Fn(u64) -> u64) {
    let mut from = 0;
    while let Some(at) = find(segment, b"tfdt", from).map(|at| at + 4) {
        if segment[at] == 1 {
            let value = u64::from_be_bytes(segment[at + 4..at + 12].try_into().expect("eight bytes"));
            segment[at + 4..at + 12].copy_from_slice(&how(value).to_be_bytes());
        } else {
            let value = how(u64::from(word(segment, at + 4)));
            put_word(segment, at + 4, value as u32);
        }
        from = at;
    }
}
