//! Parameter sets of two encoders in one init segment, so that one can go on where the other has failed.
//!
//! What enters: the configuration of a device's encoder, and that of the one in software that may stand in for it,
//! which names its sets differently (`sps-id=1`). What leaves: a configuration with both, the same for both.
//! Only H.264 in fragmented MP4 needs it: MPEG-TS carries the sets in every segment.

use crate::container::nal::{parse_config, to_annex_b};
use crate::model::track::VideoCodec;
use std::fmt;
use std::sync::{Arc, OnceLock};

/// Shared by the plan for the device and the one without. Clones share it.
#[derive(Clone, Default)]
pub struct BothSets(Arc<OnceLock<Kept>>);

#[derive(Clone)]
struct Kept {
    config: Vec<u8>,
    /// It holds the sets of both.
    merged: bool,
}

impl BothSets {
    /// The configuration of the track: that of whoever began, with the stand-in's sets if there is one.
    pub fn config(&self, own: &[u8], stand_in: Option<&[u8]>) -> Vec<u8> {
        let keep = || match merged(own, stand_in) {
            Some(config) => Kept { config, merged: true },
            None => Kept { config: own.to_vec(), merged: false },
        };
        self.0.get_or_init(keep).config.clone()
    }

    /// Whether somebody has begun, with the sets of both.
    pub fn are_known(&self) -> bool {
        self.0.get().is_some_and(|kept| kept.merged)
    }
}

/// The sets are what comes of the plan, no part of it.
impl fmt::Debug for BothSets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BothSets")
    }
}

impl PartialEq for BothSets {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// `None` where one cannot be read.
fn merged(own: &[u8], stand_in: Option<&[u8]>) -> Option<Vec<u8>> {
    let own = parse_config(VideoCodec::H264, own).ok()?;
    let stand_in = parse_config(VideoCodec::H264, stand_in?).ok()?;
    let units = [&own.sps, &stand_in.sps, &own.pps, &stand_in.pps];
    let mut config = Vec::new();
    to_annex_b(units.into_iter().flatten().map(|unit| &unit[..]), &mut config);
    Some(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: &[u8] = &[0, 0, 0, 1, 0x67, 100, 0, 31, 1, 0, 0, 0, 1, 0x68, 1, 2];
    const STAND_IN: &[u8] = &[0, 0, 0, 1, 0x67, 100, 0, 31, 2, 0, 0, 0, 1, 0x68, 3, 4];

    #[test]
    fn both_have_the_same_configuration_and_it_has_the_sets_of_both() {
        let sets = BothSets::default();
        let first = sets.config(OWN, Some(STAND_IN));
        assert_eq!(sets.clone().config(STAND_IN, None), first);
        let read = parse_config(VideoCodec::H264, &first).unwrap();
        assert_eq!((read.sps.len(), read.pps.len()), (2, 2));
        assert!(sets.are_known());
    }

    #[test]
    fn who_begins_alone_stays_alone() {
        let sets = BothSets::default();
        assert!(!sets.are_known());
        assert_eq!(sets.config(OWN, None), OWN);
        assert!(!sets.are_known());
        let unreadable = BothSets::default();
        assert_eq!(unreadable.config(b"", Some(STAND_IN)), b"");
        assert!(!unreadable.are_known());
    }
}
