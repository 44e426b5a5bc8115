//! Broken, hostile and odd files, made from good ones or from nothing.

use super::clips::{Clip, audio, cached, png};
use std::fs;
use std::path::{Path, PathBuf};

/// What `spoil` makes of the bytes of `good`, under `name`, made once.
fn spoiled(good: &Path, name: &str, how: &str, spoil: impl FnOnce(Vec<u8>) -> Vec<u8>) -> PathBuf {
    cached(&format!("{how} of {}", good.display()), name, |path| {
        let bytes = fs::read(good).unwrap_or_else(|e| panic!("{}: {e}", good.display()));
        fs::write(path, spoil(bytes)).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    })
}

/// The first `percent` of the bytes.
pub fn cut(good: &Path, name: &str, percent: usize) -> PathBuf {
    spoiled(good, name, &format!("{percent} percent"), |mut bytes| {
        bytes.truncate(bytes.len() * percent / 100);
        bytes
    })
}

/// 4 KiB of noise in the middle.
pub fn noise_in_the_middle(good: &Path, name: &str) -> PathBuf {
    spoiled(good, name, "noise in the middle", |mut bytes| {
        let middle = bytes.len() / 2;
        let end = (middle + 4096).min(bytes.len());
        bytes[middle..end].fill(0xA5);
        bytes
    })
}

/// An MP4 whose index, written last, is not there: an interrupted recording or download.
pub fn without_index(good: &Path, name: &str) -> PathBuf {
    spoiled(good, name, "without its index", |mut bytes| {
        let (start, _) = top_box(&bytes, b"moov").expect("an MP4 has a moov");
        assert!(top_box(&bytes, b"mdat").is_some_and(|(mdat, _)| mdat < start), "the index has to come last");
        bytes.truncate(start);
        bytes
    })
}

/// A Matroska file whose H.264 track says that it is of a codec that nobody has heard of.
pub fn with_unknown_codec(good: &Path, name: &str) -> PathBuf {
    spoiled(good, name, "unknown codec", |mut bytes| {
        let at = find(&bytes, b"V_MPEG4/ISO/AVC").expect("an H.264 track in Matroska");
        bytes[at..at + 15].copy_from_slice(b"V_NOBODYHEARDOF");
        bytes
    })
}

/// An M4A, its index last, with a PNG as cover art (`covr` in the iTunes metadata).
pub fn with_cover_m4a(good: &Path, name: &str) -> PathBuf {
    spoiled(good, name, "with a cover", |mut bytes| {
        let (start, size) = top_box(&bytes, b"moov").expect("an M4A has a moov");
        assert_eq!(start + size, bytes.len(), "the index has to come last");
        let picture = png(64, 64);
        // 14: the well-known type number of PNG; then four bytes of locale.
        let data = mp4_box(b"data", &[&14u32.to_be_bytes()[..], &[0; 4], &picture].concat());
        let list = mp4_box(b"ilst", &mp4_box(b"covr", &data));
        let handler = mp4_box(b"hdlr", &[&[0; 8][..], b"mdirappl", &[0; 9]].concat());
        let meta = mp4_box(b"meta", &[&[0; 4][..], &handler, &list].concat());
        bytes.extend(mp4_box(b"udta", &meta));
        let grown = (bytes.len() - start) as u32;
        bytes[start..start + 4].copy_from_slice(&grown.to_be_bytes());
        bytes
    })
}

/// An MP3 with a PNG as cover art (an ID3v2.3 `APIC` frame), instead of any tag it had.
pub fn with_cover_mp3(good: &Path, name: &str) -> PathBuf {
    spoiled(good, name, "with a cover", |bytes| {
        let sound = if bytes.starts_with(b"ID3") {
            &bytes[10 + synchsafe_value(&bytes[6..10])..]
        } else {
            &bytes[..]
        };
        let body = [&b"\0image/png\0\x03\0"[..], &png(64, 64)].concat();
        let frame = [&b"APIC"[..], &(body.len() as u32).to_be_bytes(), &[0; 2], &body].concat();
        [&b"ID3\x03\0\0"[..], &synchsafe(frame.len()), &frame, sound].concat()
    })
}

fn synchsafe(size: usize) -> [u8; 4] {
    [21, 14, 7, 0].map(|shift| (size >> shift & 0x7f) as u8)
}

fn synchsafe_value(bytes: &[u8]) -> usize {
    bytes.iter().fold(0, |value, byte| value << 7 | usize::from(*byte))
}

fn mp4_box(kind: &[u8; 4], payload: &[u8]) -> Vec<u8> {
    [&(payload.len() as u32 + 8).to_be_bytes()[..], kind, payload].concat()
}

/// Where the first box of this kind at the top level begins, and its size.
pub fn top_box(bytes: &[u8], kind: &[u8; 4]) -> Option<(usize, usize)> {
    top_boxes(bytes).into_iter().find(|(name, ..)| name == kind).map(|(_, start, size)| (start, size))
}

/// Every box at the top level: kind, start, size.
pub fn top_boxes(bytes: &[u8]) -> Vec<([u8; 4], usize, usize)> {
    let mut boxes = Vec::new();
    let mut at = 0;
    while at + 8 <= bytes.len() {
        let size = u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]) as usize;
        let kind = [bytes[at + 4], bytes[at + 5], bytes[at + 6], bytes[at + 7]];
        let size = match size {
            0 => bytes.len() - at,
            1 => u64::from_be_bytes(std::array::from_fn(|i| bytes.get(at + 8 + i).copied().unwrap_or(0)))
                as usize,
            size => size,
        };
        boxes.push((kind, at, size));
        at += size.max(8);
    }
    boxes
}

/// Where `needle` begins.
pub fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    bytes.windows(needle.len()).position(|window| window == needle)
}

/// A Matroska file with one track of subtitles and nothing else.
pub fn subtitles_only() -> Option<PathBuf> {
    let good = Clip::new().audio(audio("pcm_s16le").seconds(1.0)).make("sound.mkv")?;
    Some(spoiled(&good, "subtitles.mkv", "sound that says it is text", |mut bytes| {
        let codec = find(&bytes, b"A_PCM/INT/LIT").expect("a PCM track in Matroska");
        bytes[codec..codec + 13].copy_from_slice(b"S_TEXT/UTF8\0\0");
        // TrackType (RFC 9559, 5.1.4.1.3): 2 is sound, 17 is subtitles.
        let kind = find(&bytes, &[0x83, 0x81, 2]).expect("a track type");
        bytes[kind + 2] = 17;
        bytes
    }))
}
