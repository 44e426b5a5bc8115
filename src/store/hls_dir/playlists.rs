//! The playlists of a folder.
//!
//! What enters: what was written of each rendition, and its facts. What leaves: playlist files.

use super::{INDEX, INIT, MASTER, Shared, VariantFacts, Written};
use crate::base::error::{Error, Result, Stage};
use crate::base::time::Rational;
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
            self.write(&self.folder.join(name).join(INDEX), [text.as_bytes()], None)?;
        }
        let master = self.master(variants, target).render().map_err(refused)?;
        self.write(&self.folder.join(MASTER), [master.as_bytes()], None)
    }

    fn media_playlists(&self) -> Result<Vec<MediaPlaylist>> {
        let with_name = self.renditions.iter().zip(&self.names);
        let playlist = |(written, name): (&std::sync::Mutex<Written>, &String)| {
            let written = written.lock().unwrap_or_else(PoisonError::into_inner);
            self.media_playlist(&written, name, PlaylistKind::Vod)
        };
        with_name.map(playlist).collect()
    }

    /// The playlist of one rendition as far as it is there.
    pub(super) fn media_playlist(
        &self,
        written: &Written,
        name: &str,
        kind: PlaylistKind,
    ) -> Result<MediaPlaylist> {
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
            kind,
            init_uri: written.init_bytes.map(|_| INIT.to_owned()),
            segments: written.segments.iter().map(entry).collect(),
            // Said once, in the multivariant playlist.
            independent_segments: false,
            target_duration_at_least: None,
        })
    }

    fn master(&self, variants: &[VariantFacts], target: Option<u64>) -> MasterPlaylist {
        let measure = |written: &std::sync::Mutex<Written>| {
            let written = written.lock().unwrap_or_else(PoisonError::into_inner);
            Bandwidth::measure_at_target(written.segments.iter().map(|s| (s.bytes, s.end - s.start)), target)
        };
        self.master_of(variants, self.renditions.iter().map(measure).collect())
    }

    /// The multivariant playlist: facts and bit rates in the order of the renditions.
    pub(super) fn master_of(&self, variants: &[VariantFacts], rates: Vec<Bandwidth>) -> MasterPlaylist {
        let variants = self.names.iter().zip(variants).zip(rates).map(|((name, facts), rates)| Variant {
            uri: format!("{name}/{INDEX}"),
            bandwidth_bps: rates.peak_bps,
            average_bandwidth_bps: rates.average_bps,
            codecs: facts.codecs.clone(),
            resolution: facts.resolution,
            frame_rate: facts.frame_rate,
            video_range: facts.video_range,
        });
        let version = if self.segment_type == SegmentType::Ts { VERSION_TS } else { VERSION_FMP4 };
        let mut master = MasterPlaylist { variants: variants.collect(), independent_segments: true, version };
        master.put_start_variant_first();
        master
    }
}

/// The `TARGETDURATION` of segments of which none is longer.
pub(super) fn target_duration(longest: Rational) -> u64 {
    let whole = SegmentEntry { uri: "0".into(), start: Rational::ZERO, end: longest };
    MediaPlaylist {
        kind: PlaylistKind::Vod,
        init_uri: None,
        segments: vec![whole],
        independent_segments: false,
        target_duration_at_least: None,
    }
    .target_duration()
}

fn refused(err: impl std::fmt::Display) -> Error {
    Error::internal(Stage::Publish, format!("the playlist cannot be written: {err}"))
}
