//! What both containers come down to: the tracks of one segment, with their times and their codec.
//!
//! Data only. Times are ticks of the track; in MPEG-TS they are unwrapped to where the playlist says.

use super::sps::Sps;

/// A codec, as far as the rules tell them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    H264,
    Hevc,
    Av1,
    Vp9,
    Aac,
    Mp3,
    Ac3,
    Eac3,
    Other,
}

/// What the bytes say about a track.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Config {
    pub(super) family: Family,
    /// What `CODECS` has to say.
    pub(super) codec: Option<String>,
    pub(super) sps: Option<Sps>,
    /// The kind of the sample entry, in fragmented MP4.
    pub(super) entry: Option<[u8; 4]>,
    /// As shown: after cropping, sample aspect ratio and rotation.
    pub(super) shown: Option<(u32, u32)>,
    /// Primaries, transfer, matrix of a `colr` box.
    pub(super) colr: Option<(u8, u8, u8)>,
    /// Mastering display colour volume or content light level in boxes or parameter sets.
    pub(super) has_light: bool,
    pub(super) dolby_vision: bool,
    pub(super) channels: u32,
    pub(super) sample_rate: u32,
}

impl Config {
    pub(super) fn new(family: Family) -> Self {
        Self {
            family,
            codec: None,
            sps: None,
            entry: None,
            shown: None,
            colr: None,
            has_light: false,
            dolby_vision: false,
            channels: 0,
            sample_rate: 0,
        }
    }

    /// `transfer_characteristics` of the picture, where it is told.
    pub(super) fn transfer(&self) -> Option<u8> {
        let bitstream = self.sps.as_ref().and_then(|sps| sps.colour);
        bitstream.or(self.colr).map(|(_, transfer, _)| transfer)
    }
}

/// One picture, or one packet of frames of sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unit {
    pub(super) dts: i64,
    pub(super) pts: i64,
}

/// One track in one segment.
#[derive(Clone, Debug)]
pub(super) struct Lane {
    /// PID or track number.
    pub(super) id: u32,
    pub(super) is_video: bool,
    pub(super) config: Config,
    /// Ticks each second.
    pub(super) timescale: i64,
    /// In decode order.
    pub(super) units: Vec<Unit>,
    /// Pictures, or frames of sound.
    pub(super) frames: u64,
    /// Ticks of one frame of sound, rounded down; 0 for pictures in MPEG-TS.
    pub(super) frame_ticks: i64,
    /// Decode time of what has to follow, where the container tells.
    pub(super) end_dts: Option<i64>,
    /// `tfdt`, in fragmented MP4.
    pub(super) base_dts: Option<i64>,
    /// Key pictures, by their place in `units`.
    pub(super) keys: Vec<usize>,
}

impl Lane {
    pub(super) fn first_dts(&self) -> Option<i64> {
        self.units.first().map(|unit| unit.dts)
    }

    pub(super) fn last_dts(&self) -> Option<i64> {
        self.units.last().map(|unit| unit.dts)
    }

    pub(super) fn first_pts(&self) -> Option<i64> {
        self.units.iter().map(|unit| unit.pts).min()
    }

    pub(super) fn last_pts(&self) -> Option<i64> {
        self.units.iter().map(|unit| unit.pts).max()
    }

    /// Presentation times in their order.
    pub(super) fn sorted_pts(&self) -> Vec<i64> {
        let mut all: Vec<i64> = self.units.iter().map(|unit| unit.pts).collect();
        all.sort_unstable();
        all
    }

    /// Ticks as seconds.
    pub(super) fn seconds(&self, ticks: i64) -> f64 {
        ticks as f64 / self.timescale.max(1) as f64
    }
}

/// One segment, read.
#[derive(Debug, Default)]
pub(super) struct Media {
    pub(super) lanes: Vec<Lane>,
    /// `mfhd.sequence_number` of its fragments.
    pub(super) sequence: Vec<u32>,
    pub(super) faults: Vec<super::ts::Fault>,
    pub(super) advice: Vec<super::ts::Fault>,
    /// Rows that were looked at, with or without a fault.
    pub(super) judged: Vec<super::report::Row>,
}

impl Media {
    pub(super) fn video(&self) -> Option<&Lane> {
        self.lanes.iter().find(|lane| lane.is_video)
    }

    pub(super) fn audio(&self) -> Option<&Lane> {
        self.lanes.iter().find(|lane| !lane.is_video)
    }
}

/// Width and height as shown.
pub(super) fn shown_size(size: (u32, u32), sample_aspect: (u32, u32), rotated: bool) -> (u32, u32) {
    let (across, down) = (u64::from(sample_aspect.0.max(1)), u64::from(sample_aspect.1.max(1)));
    let width = (u64::from(size.0) * across + down / 2) / down;
    let shown = (u32::try_from(width).unwrap_or(u32::MAX), size.1);
    if rotated { (shown.1, shown.0) } else { shown }
}
