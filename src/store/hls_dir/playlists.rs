//! The playlists of a finished folder.
//!
//! What enters: what was written of each rendition, and its facts. What leaves: playlist files.

use super::{INDEX, INIT, MASTER, Shared, VariantFacts, Written};
use crate::base::error::{Error, Result, Stage};
use crate::model::job::SegmentType;
use crate::model::playlist::{
    Bandwidth, MasterPlaylist, MediaPlaylist, PlaylistKind, SegmentEntry, VERSION_FMP4, VERSION_TS, Variant,
};
use std::sync::PoisonError;

impl Shared {
    /// Writes all playlists, with one `TARGETDURATION` for all: clients switch between them.
    pub(super) fn write_playlists(&self, variants: &[VariantFacts]) -> Result<()> {
        if variants.len() != self.names.len() {
            let message = format!("{} renditions, but facts of {}", self.names.len(), variants.len());
            return Err(Error::internal(Stage::Publish, message));
        }
        let mut playlists = self.media_playlists()?;
        let target = playlists.iter().map(MediaPlaylist::target_duration).max();
        for (playlist, name) in playlists.iter_mut().zip(&self.names) {
            playlist.target_duration_at_least = target;
            let text = playlist.render().map_err(refused)?;
            self.write(&self.folder.join(name).join(INDEX), text.as_bytes(), None)?;
        }
        let master = self.master(variants, target).render().map_err(refused)?;
        self.write(&self.folder.join(MASTER), master.as_bytes(), None)
    }

    fn media_playlists(&self) -> Result<Vec<MediaPlaylist>> {
        let with_name = self.renditions.iter().zip(&self.names);
        let playlist = |(written, name): (&std::sync::Mutex<Written>, &String)| {
            let written = written.lock().unwrap_or_else(PoisonError::into_inner);
            self.media_playlist(&written, name)
        };
        with_name.map(playlist).collect()
    }

    fn media_playlist(&self, written: &Written, name: &str) -> Result<MediaPlaylist> {
        let first = written.segments.first().map(|s| s.index);
        let Some(first) = first else {
            return Err(Error::internal(Stage::Publish, format!("rendition {name} has no segments")));
        };
        let in_order = written.segments.iter().zip(first..).all(|(segment, n)| segment.index == n);
        if !in_order {
            return Err(Error::internal(
                Stage::Publish,
                format!("rendition {name}: segments are missing or out of order"),
            ));
        }
        if (self.segment_type == SegmentType::Fmp4) != written.init_bytes.is_some() {
            return Err(Error::internal(
                Stage::Publish,
                format!("rendition {name}: init segment and segment type disagree"),
            ));
        }
        let entry = |s: &super::WrittenSegment| SegmentEntry {
            uri: self.segment_name(s.index),
            start: s.start,
            end: s.end,
        };
        Ok(MediaPlaylist {
            kind: PlaylistKind::Vod,
            init_uri: written.init_bytes.map(|_| INIT.to_owned()),
            segments: written.segments.iter().map(entry).collect(),
            // Said once, in the multivariant playlist.
            independent_segments: false,
            target_duration_at_least: None,
        })
    }

    fn master(&self, variants: &[VariantFacts], target: Option<u64>) -> MasterPlaylist {
        let lines = self.renditions.iter().zip(&self.names).zip(variants);
        let variants = lines.map(|((written, name), facts)| {
            let written = written.lock().unwrap_or_else(PoisonError::into_inner);
            let sizes = written.segments.iter().map(|s| (s.bytes, s.end - s.start));
            let bandwidth = Bandwidth::measure_at_target(sizes, target);
            Variant {
                uri: format!("{name}/{INDEX}"),
                bandwidth_bps: bandwidth.peak_bps,
                average_bandwidth_bps: bandwidth.average_bps,
                codecs: facts.codecs.clone(),
                resolution: facts.resolution,
                frame_rate: facts.frame_rate,
                video_range: facts.video_range,
            }
        });
        let version = if self.segment_type == SegmentType::Ts { VERSION_TS } else { VERSION_FMP4 };
        let mut master = MasterPlaylist { variants: variants.collect(), independent_segments: true, version };
        master.put_start_variant_first();
        master
    }
}

fn refused(err: impl std::fmt::Display) -> Error {
    Error::internal(Stage::Publish, format!("the playlist cannot be written: {err}"))
}
