//! Which picture and which sound of a source are meant, and the limits that they have to keep.

use crate::av::input::{MAX_PIXELS, Stream, StreamKind};
use crate::base::error::{Error, ErrorKind, Result, Stage};
use std::cmp::Reverse;
use std::path::Path;

/// The longest side of a picture that is taken, in luma samples.
const MAX_SIDE: u32 = 16_384;

/// The streams that are taken: indices in the container. At least one is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chosen {
    /// The picture.
    pub video: Option<usize>,
    /// The sound.
    pub audio: Option<usize>,
}

impl Chosen {
    /// The indices, picture first.
    pub fn indices(&self) -> Vec<usize> {
        self.video.into_iter().chain(self.audio).collect()
    }
}

/// Chooses; what was passed over because it makes no sense goes to `warnings`.
pub(super) fn choose(streams: &[Stream], path: &Path, warnings: &mut Vec<String>) -> Result<Chosen> {
    let videos = streams.iter().filter(|s| s.kind == StreamKind::Video);
    let videos: Vec<_> = videos.filter(|s| has_size(s, warnings)).map(picture).collect();
    let audios = streams.iter().filter(|s| s.kind == StreamKind::Audio);
    let audios: Vec<_> =
        audios.filter(|s| has_samples(s, warnings)).map(|s| (s.index, s.is_default)).collect();
    let video = best_picture(&videos);
    let audio = best_sound(&audios);
    if let Some(video) = video {
        check_size(video, path)?;
    }
    match (video, audio) {
        (None, None) => Err(no_streams(streams, path)),
        (video, audio) => Ok(Chosen { video: video.map(|v| v.index), audio }),
    }
}

/// The streams of `chosen` that have packets, where it is known that one has none: a file that was cut
/// off early may hold the picture and nothing of the sound.
pub(super) fn without_empty(
    chosen: &Chosen,
    is_empty: impl Fn(usize) -> bool,
    path: &Path,
    warnings: &mut Vec<String>,
) -> Result<Chosen> {
    for stream in chosen.indices().into_iter().filter(|i| is_empty(*i)) {
        warnings.push(format!("stream {stream} is left out: there is no data of it in the file"));
    }
    let full = |stream: &usize| !is_empty(*stream);
    match (chosen.video.filter(full), chosen.audio.filter(full)) {
        (None, None) => {
            let message = format!("{} has a header but no data of picture or sound", path.display());
            Err(Error::new(ErrorKind::BadSource, "no_streams", Stage::Open, message)
                .hint("the file looks cut off: compare it with the original"))
        }
        (video, audio) => Ok(Chosen { video, audio }),
    }
}

/// What decides between pictures.
#[derive(Clone, Copy, Debug)]
struct Picture {
    index: usize,
    is_default: bool,
    width: u32,
    height: u32,
}

fn picture(stream: &Stream) -> Picture {
    let (width, height) = (stream.params.width(), stream.params.height());
    Picture { index: stream.index, is_default: stream.is_default, width, height }
}

fn pixels(p: &Picture) -> u64 {
    u64::from(p.width) * u64::from(p.height)
}

/// The default one, then the largest, then the first.
fn best_picture(pictures: &[Picture]) -> Option<Picture> {
    pictures.iter().copied().max_by_key(|p| (p.is_default, pixels(p), Reverse(p.index)))
}

/// The default one, then the first.
fn best_sound(sounds: &[(usize, bool)]) -> Option<usize> {
    sounds.iter().max_by_key(|(index, is_default)| (*is_default, Reverse(*index))).map(|(index, _)| *index)
}

fn has_size(stream: &Stream, warnings: &mut Vec<String>) -> bool {
    let ok = stream.params.width() > 0 && stream.params.height() > 0;
    if !ok {
        let codec = stream.params.codec_name();
        warnings.push(format!(
            "stream {} ({codec}) is left out: the size of its picture is unknown",
            stream.index
        ));
    }
    ok
}

fn has_samples(stream: &Stream, warnings: &mut Vec<String>) -> bool {
    let ok = stream.params.sample_rate() > 0 && stream.params.channels() > 0;
    if !ok {
        let codec = stream.params.codec_name();
        warnings.push(format!(
            "stream {} ({codec}) is left out: its sample rate or channels are unknown",
            stream.index
        ));
    }
    ok
}

fn check_size(p: Picture, path: &Path) -> Result<()> {
    let too_many = pixels(&p) > u64::try_from(MAX_PIXELS).unwrap_or(u64::MAX);
    if p.width <= MAX_SIDE && p.height <= MAX_SIDE && !too_many {
        return Ok(());
    }
    let message = format!("{} has a picture of {} x {}", path.display(), p.width, p.height);
    Err(Error::new(ErrorKind::BadSource, "too_large", Stage::Open, message)
        .hint(format!("up to {MAX_SIDE} samples a side and {MAX_PIXELS} in all are taken")))
}

fn no_streams(streams: &[Stream], path: &Path) -> Error {
    let what = match streams.iter().any(|s| s.kind == StreamKind::Cover) {
        true => "holds only a still picture (cover art), which is no video, and no sound",
        false => "has neither a picture nor sound that can be taken",
    };
    Error::new(ErrorKind::BadSource, "no_streams", Stage::Open, format!("{} {what}", path.display()))
        .hint("name a file with video or audio in it")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(index: usize, is_default: bool, width: u32, height: u32) -> Picture {
        Picture { index, is_default, width, height }
    }

    fn best(pictures: &[Picture]) -> Option<usize> {
        best_picture(pictures).map(|p| p.index)
    }

    #[test]
    fn the_default_beats_the_largest_and_the_largest_beats_the_first() {
        assert_eq!(best(&[picture(0, false, 1920, 1080), picture(2, true, 640, 360)]), Some(2));
        assert_eq!(best(&[picture(0, false, 640, 360), picture(1, false, 1920, 1080)]), Some(1));
        assert_eq!(best(&[picture(3, true, 640, 360), picture(5, true, 640, 360)]), Some(3));
        assert_eq!(best(&[]), None);
        assert_eq!(best_sound(&[(1, false), (2, true), (3, true)]), Some(2));
        assert_eq!(best_sound(&[(4, false), (7, false)]), Some(4));
        assert_eq!(best_sound(&[]), None);
    }

    #[test]
    fn a_stream_without_data_is_left_out() {
        let (both, mut warnings) = (Chosen { video: Some(0), audio: Some(1) }, Vec::new());
        let kept = without_empty(&both, |i| i == 1, Path::new("x.mp4"), &mut warnings);
        assert_eq!(kept, Ok(Chosen { video: Some(0), audio: None }));
        assert_eq!(warnings, ["stream 1 is left out: there is no data of it in the file"]);
        let none = without_empty(&both, |_| true, Path::new("x.mp4"), &mut warnings);
        assert_eq!(none.map_err(|e| e.code()), Err("no_streams"));
    }

    #[test]
    fn sizes_are_bounded_by_side_and_by_area() {
        let check = |w, h| check_size(picture(0, true, w, h), Path::new("x.mkv")).map_err(|e| e.code());
        assert_eq!(check(16_384, 8_704), Ok(()));
        assert_eq!(check(16_384, 8_705), Err("too_large"));
        assert_eq!(check(16_385, 2), Err("too_large"));
        assert_eq!(check(2, 16_385), Err("too_large"));
        assert_eq!(check(u32::MAX, u32::MAX), Err("too_large"));
    }
}
