//! What the fields of a document mean together.
//!
//! What enters: a document whose fields are right one by one. What leaves: every contradiction between
//! them, and what this version cannot do, each with its place. A document without any makes a `Wish`
//! that validates; a test holds the two together.

use super::convert::max_fps;
use super::{
    AudioCodecChoice, DocumentFault, JobDocument, OutputFormat, RenditionOptions, SegmentType,
    VideoCodecChoice,
};
use crate::base::time::Rational;

/// Names that HLS outputs use themselves, beside the renditions' folders.
const TAKEN: [&str; 1] = ["master.m3u8"];

/// Every fault.
pub(super) fn of(document: &JobDocument) -> Vec<DocumentFault> {
    let mut faults = Vec::new();
    paths(document, &mut faults);
    carried(document, &mut faults);
    copies(document, &mut faults);
    names(document, &mut faults);
    for (i, r) in document.renditions.iter().enumerate() {
        numbers(&format!("/renditions/{i}"), r, &mut faults);
    }
    one_grid(document, &mut faults);
    sound(document, &mut faults);
    span(document, &mut faults);
    shape(document, &mut faults);
    faults
}

fn add(faults: &mut Vec<DocumentFault>, pointer: impl Into<String>, message: impl Into<String>) {
    faults.push(DocumentFault::new(pointer, message));
}

fn paths(document: &JobDocument, faults: &mut Vec<DocumentFault>) {
    let output = document.output.as_deref().unwrap_or_default();
    for (pointer, path) in [("/input", document.input.as_str()), ("/output", output)] {
        if path.contains('\0') {
            add(faults, pointer, "a path cannot contain the character U+0000");
        }
    }
}

/// MPEG-TS has no mapping for these that players know.
fn carried(document: &JobDocument, faults: &mut Vec<DocumentFault>) {
    if !is_ts(document) {
        return;
    }
    let instead = match document.format {
        OutputFormat::Hls => "use hls.segment_type fmp4",
        _ => "use format mp4 or mkv",
    };
    for (i, r) in document.renditions.iter().enumerate() {
        let codec = match r.video_codec {
            VideoCodecChoice::Vp9 => "VP9",
            VideoCodecChoice::Av1 => "AV1",
            _ => continue,
        };
        let message = format!("MPEG-TS cannot carry {codec}: {instead}");
        add(faults, format!("/renditions/{i}/video_codec"), message);
    }
    if document.audio.codec == AudioCodecChoice::Opus {
        add(faults, "/audio/codec", format!("Opus in MPEG-TS is played by no TV: {instead}"));
    }
}

fn is_ts(document: &JobDocument) -> bool {
    match document.format {
        OutputFormat::Ts => true,
        OutputFormat::Hls => document.hls.segment_type == SegmentType::Ts,
        OutputFormat::Mp4 | OutputFormat::Mkv => false,
    }
}

/// A copied picture is as it is, and is cut at its own key frames, where no other rendition is.
fn copies(document: &JobDocument, faults: &mut Vec<DocumentFault>) {
    for (i, r) in document.renditions.iter().enumerate() {
        if r.video_codec != VideoCodecChoice::Copy {
            continue;
        }
        let at = format!("/renditions/{i}");
        if document.renditions.len() > 1 {
            add(faults, format!("{at}/video_codec"), "a copied picture has to be the only rendition");
        }
        let set = [
            ("height", r.height.is_some(), "size"),
            ("bitrate", r.bitrate.is_some(), "bits"),
            ("crf", r.crf.is_some(), "bits"),
            ("preset", r.preset.is_some(), "bits"),
            ("max_fps", r.max_fps.is_some(), "frames"),
        ];
        for (field, _, what) in set.into_iter().filter(|(_, is_set, _)| *is_set) {
            add(faults, format!("{at}/{field}"), format!("a copied picture keeps its {what}: leave it out"));
        }
    }
}

/// Names are folders, some on disks that do not tell `A` from `a`.
fn names(document: &JobDocument, faults: &mut Vec<DocumentFault>) {
    let mut seen: Vec<String> = Vec::new();
    for (i, r) in document.renditions.iter().enumerate() {
        let name = r.name.to_ascii_lowercase();
        let pointer = format!("/renditions/{i}/name");
        if TAKEN.contains(&name.as_str()) {
            add(faults, pointer, format!("{} is the name of a file of the output: choose another", r.name));
        } else if let Some(earlier) = seen.iter().position(|n| *n == name) {
            add(faults, pointer, format!("rendition {earlier} has this name already"));
        }
        seen.push(name);
    }
}

fn numbers(at: &str, r: &RenditionOptions, faults: &mut Vec<DocumentFault>) {
    if r.height.is_none() && r.video_codec != VideoCodecChoice::Copy {
        add(faults, format!("{at}/height"), "is needed, unless video_codec is copy");
    }
    let scale_ends_at_51 = matches!(r.video_codec, VideoCodecChoice::H264 | VideoCodecChoice::Hevc);
    if let Some(crf) = r.crf.filter(|crf| scale_ends_at_51 && *crf > 51.0) {
        add(faults, format!("{at}/crf"), format!("the scale of this codec ends at 51, but it is {crf}"));
    }
}

fn one_grid(document: &JobDocument, faults: &mut Vec<DocumentFault>) {
    let mut encoded =
        document.renditions.iter().enumerate().filter(|(_, r)| r.video_codec != VideoCodecChoice::Copy);
    let Some((_, first)) = encoded.next() else { return };
    for (i, _) in encoded.filter(|(_, r)| max_fps(r) != max_fps(first)) {
        let message = "all renditions share one grid of frames: give max_fps to all alike";
        add(faults, format!("/renditions/{i}/max_fps"), message);
    }
}

fn sound(document: &JobDocument, faults: &mut Vec<DocumentFault>) {
    let most = match document.audio.codec {
        AudioCodecChoice::Ac3 | AudioCodecChoice::Eac3 => 6,
        _ => 8,
    };
    if document.audio.channels > most {
        add(faults, "/audio/channels", format!("this codec has at most {most} channels"));
    }
}

fn span(document: &JobDocument, faults: &mut Vec<DocumentFault>) {
    let instant = |seconds: f64| Rational::from_f64(seconds).unwrap_or(Rational::ZERO);
    if let Some(end) = document.end.filter(|end| instant(*end) <= instant(document.start)) {
        add(faults, "/end", format!("has to lie after start, {}, but is {end}", document.start));
    }
}

fn shape(document: &JobDocument, faults: &mut Vec<DocumentFault>) {
    if document.format != OutputFormat::Hls && document.renditions.len() > 1 {
        add(faults, "/renditions", "a single file holds one rendition: use format hls for several");
    }
    if document.subtitles.burn.is_some() {
        add(faults, "/subtitles/burn", "subtitles are not drawn into the picture yet: leave it out");
    }
}
