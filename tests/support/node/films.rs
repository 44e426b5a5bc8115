//! Sources for jobs, and job documents that ask for little work.

use crate::support::clips::{Clip, audio, h264};
use crate::support::run::skip;
use crate::support::{h264_encoder, usable};
use serde_json::{Value, json};
use std::path::PathBuf;

/// A source of `seconds` at 25 frames each second: a moving picture of so many lines (16:9) and a tone.
/// `None`, and a line that says so, where nothing can be encoded that a node could make of it.
pub fn film(lines: u32, seconds: u32) -> Option<PathBuf> {
    if h264_encoder().is_none() && !usable("libvpx-vp9") {
        skip("neither H.264 nor VP9 can be encoded here");
        return None;
    }
    let size = h264().size(lines * 16 / 9 / 2 * 2, lines).seconds(f64::from(seconds));
    // A poor picture: a long film has to be made quickly and to be small.
    let picture = if h264_encoder() == Some("libx264") { size.option("crf", "35") } else { size };
    let sound = audio("aac").seconds(f64::from(seconds));
    Clip::new().video(picture).audio(sound).make(&format!("film-{lines}-{seconds}.mkv"))
}

/// Ten minutes. With [`slow`] it keeps a slot for longer than any test takes.
pub fn long_film() -> Option<PathBuf> {
    film(180, 600)
}

/// A source that keeps a slot for a second or more, whatever the encoder.
pub fn medium_film() -> Option<PathBuf> {
    film(180, if h264_encoder().is_some() { 60 } else { 16 })
}

/// A job that is done soon: one rendition of 90 lines in HLS, at `nas://out/ID`.
pub fn job(id: &str, input: &str) -> Value {
    let mut job = json!({
        "id": id,
        "input": format!("nas://media/{input}"),
        "output": format!("nas://out/{id}"),
        "renditions": [picture(90)],
    });
    if h264_encoder().is_none() {
        // MPEG-TS does not carry VP9.
        job["hls"] = json!({"segment_type": "fmp4"});
    }
    job
}

/// One rendition of so many lines, quickly made.
pub fn picture(lines: u32) -> Value {
    let name = format!("{lines}p");
    match h264_encoder() {
        Some("libx264") => {
            json!({"name": name, "height": lines, "video_codec": "h264", "preset": "superfast"})
        }
        Some(_) => json!({"name": name, "height": lines, "video_codec": "h264"}),
        None => json!({"name": name, "height": lines, "video_codec": "vp9"}),
    }
}

/// The same job, but as slow as the encoder can be made, in the source's own size.
pub fn slow(mut job: Value, lines: u32) -> Value {
    job["renditions"] = json!([picture(lines)]);
    if h264_encoder() == Some("libx264") {
        job["renditions"][0]["preset"] = "placebo".into();
    }
    job
}
