//! What is linked: asked of libav in a child, and of the `ffmpeg` command where that child dies.
//!
//! This is the one place in the program that may run that command (a broken driver library can end a process
//! as soon as libav is loaded, and then this binary can ask nothing). What it says is claimed, never proven.

use super::child;
use super::report::{Reason, Source};
use super::trial::{Answer, Order};
use crate::av::registry::Linked;
use std::path::Path;
use std::time::Duration;

/// What was found.
pub struct Listing {
    /// Codecs of pictures.
    pub codecs: Vec<Linked>,
    /// Types of devices; unknown to the command.
    pub devices: Vec<String>,
    /// Which libav.
    pub libav: String,
    /// Who said so.
    pub source: Source,
}

impl Listing {
    /// The codec of this name, if it is linked.
    pub fn encoder(&self, name: &str) -> Option<&Linked> {
        self.codecs.iter().find(|codec| codec.encodes && codec.name == name)
    }
}

/// Asks for at most `limit`, twice where the first way fails.
pub fn find(program: &Path, command: &str, limit: Duration) -> Listing {
    let because = match child::ask(program, &Order::List, limit) {
        Ok(Answer::Listed { codecs, devices, libav }) => {
            return Listing { codecs, devices, libav, source: Source::Libav };
        }
        Ok(_) => Reason::new("no_answer", "the child that asks libav answered something else"),
        Err(reason) => reason,
    };
    tracing::warn!("libav cannot be asked what it has ({}): asking the {command} command", because.message);
    let text = child::ffmpeg_encoders(command, limit);
    let text = text.unwrap_or_else(|reason| {
        tracing::warn!("nor can the {command} command: {}", reason.message);
        String::new()
    });
    Listing {
        codecs: encoders(&text),
        devices: Vec::new(),
        libav: format!("as the {command} command says"),
        source: Source::Command { because },
    }
}

/// The encoders of pictures in the output of `ffmpeg -encoders`: flags, name, description, and the format in
/// brackets where its name is another.
fn encoders(text: &str) -> Vec<Linked> {
    let rows = text.lines().skip_while(|line| line.trim() != "------").skip(1);
    rows.filter_map(|line| {
        let mut words = line.split_whitespace();
        let (flags, name) = (words.next()?, words.next()?);
        let format = line.rsplit_once("(codec ").and_then(|(_, rest)| rest.strip_suffix(')'));
        flags.starts_with('V').then(|| Linked {
            name: name.to_owned(),
            codec: format.unwrap_or(name).to_owned(),
            encodes: true,
            devices: Vec::new(),
        })
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "Encoders:
 V..... = Video
 A..... = Audio
 ------
 V....D a64multi             Multicolor charset for Commodore 64 (codec a64_multi)
 V....D h264_nvenc           NVIDIA NVENC H.264 encoder (codec h264)
 V..... libx264rgb           libx264 H.264 (codec h264)
 V....D vp8                  VP8 (some (words))
 A....D aac                  AAC (Advanced Audio Coding)
";

    #[test]
    fn the_command_s_table_is_read() {
        let found = encoders(TEXT);
        let rows: Vec<(&str, &str)> = found.iter().map(|c| (c.name.as_str(), c.codec.as_str())).collect();
        let wanted =
            [("a64multi", "a64_multi"), ("h264_nvenc", "h264"), ("libx264rgb", "h264"), ("vp8", "vp8")];
        assert_eq!(rows, wanted);
        assert!(encoders("").is_empty() && encoders("ffmpeg: not found\n").is_empty());
    }

    #[test]
    fn a_child_that_dies_gives_way_to_the_command_and_nothing_to_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let script = dir.path().join("fake-ffmpeg");
        std::fs::write(&script, format!("#!/bin/sh\ncat <<'T'\n{TEXT}T\n")).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&script, mode).unwrap();
        let listing = find(Path::new("/bin/false"), &script.to_string_lossy(), Duration::from_secs(20));
        assert!(listing.encoder("h264_nvenc").is_some() && listing.encoder("aac").is_none());
        assert!(matches!(listing.source, Source::Command { because } if because.code == "crashed"));
        let nothing = find(Path::new("/bin/false"), "/nowhere/ffmpeg", Duration::from_secs(20));
        assert!(nothing.codecs.is_empty());
    }
}
