//! What can be played of a folder while it is made.
//!
//! What enters: a path as a player asks for it, and what was known of the renditions beforehand. What
//! leaves: the playlists as they stand at this moment (`EVENT`), and where the files are that they name;
//! nothing else of the folder, whatever lies in it. Nothing is written for this: a playlist on the disk
//! would be one more thing that a killed process leaves behind.

use super::{INDEX, INIT, MASTER, Shared, VariantFacts, Written, playlists};
use crate::base::time::Rational;
use crate::model::playlist::{Bandwidth, PlaylistKind, VideoRange};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

/// What the multivariant playlist says of a rendition before it is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outlook {
    /// Display size in square pixels; `None` for sound alone.
    pub resolution: Option<(u32, u32)>,
    /// Frames each second; `None` for sound alone.
    pub frame_rate: Option<Rational>,
    /// Dynamic range, where known.
    pub video_range: Option<VideoRange>,
    /// The most that its encoders were told to need, bits each second; 0 where they were told nothing.
    pub peak_bps: u64,
}

/// A folder in the making, for whoever plays it. It may outlive the folder: files are gone then.
#[derive(Clone, Debug)]
pub struct Growing {
    shared: Arc<Shared>,
    target: PathBuf,
    outlooks: Arc<[Outlook]>,
    /// Of all playlists, from the first one on: it must not change.
    target_duration_s: u64,
}

/// What lies at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// A playlist as it stands.
    Playlist(String),
    /// A file that is whole.
    File {
        /// Where.
        path: PathBuf,
        /// How long.
        bytes: u64,
    },
}

impl super::HlsDir {
    /// Lets others play what is there already. `outlooks` are those of the plan's renditions in its
    /// order; no segment is to be longer than `longest`.
    pub fn growing(&self, outlooks: Vec<Outlook>, longest: Rational) -> Growing {
        let target_duration_s = playlists::target_duration(longest);
        let (shared, target) = (self.shared.clone(), self.target.clone());
        Growing { shared, target, outlooks: outlooks.into(), target_duration_s }
    }
}

impl Growing {
    /// What lies at `path`, which has no slash in front. `None`: nothing, or not yet.
    pub fn piece(&self, path: &str) -> Option<Piece> {
        if path == MASTER {
            return self.master().map(Piece::Playlist);
        }
        let (name, file) = path.split_once('/')?;
        let rendition = self.shared.names.iter().position(|known| known == name)?;
        let written = self.shared.renditions.get(rendition)?;
        let written = written.lock().unwrap_or_else(PoisonError::into_inner);
        if file == INDEX {
            return self.index(&written, name).map(Piece::Playlist);
        }
        let bytes = if file == INIT { written.init_bytes } else { self.segment_bytes(&written, file) };
        Some(Piece::File { path: self.folder().join(name).join(file), bytes: bytes? })
    }

    /// Where the files are: their folder gets its name in one step.
    fn folder(&self) -> &Path {
        if self.shared.published.load(Ordering::SeqCst) { &self.target } else { &self.shared.folder }
    }

    fn segment_bytes(&self, written: &Written, file: &str) -> Option<u64> {
        let index: u64 = file.split_once('.')?.0.parse().ok()?;
        let first = written.segments.first()?.index;
        let segment = written.segments.get(usize::try_from(index.checked_sub(first)?).ok()?)?;
        (segment.index == index && file == self.shared.segment_name(index)).then_some(segment.bytes)
    }

    fn index(&self, written: &Written, name: &str) -> Option<String> {
        let kind = PlaylistKind::Event { ended: false };
        let mut playlist = self.shared.media_playlist(written, name, kind).ok()?;
        playlist.target_duration_at_least = Some(self.target_duration_s);
        playlist.render().ok()
    }

    /// There once every rendition has a segment.
    fn master(&self) -> Option<String> {
        let each = self.shared.renditions.iter().zip(self.outlooks.iter());
        let (mut facts, mut bandwidths) = (Vec::new(), Vec::new());
        for (written, outlook) in each {
            let written = written.lock().unwrap_or_else(PoisonError::into_inner);
            if written.segments.is_empty() || written.codecs.is_empty() {
                return None;
            }
            let sizes = written.segments.iter().map(|s| (s.bytes, s.end - s.start));
            let so_far = Bandwidth::measure_at_target(sizes, Some(self.target_duration_s));
            bandwidths.push(Bandwidth { peak_bps: so_far.peak_bps.max(outlook.peak_bps), ..so_far });
            let Outlook { resolution, frame_rate, video_range, .. } = *outlook;
            facts.push(VariantFacts { codecs: written.codecs.clone(), resolution, frame_rate, video_range });
        }
        self.shared.master_of(&facts, bandwidths).render().ok()
    }
}
