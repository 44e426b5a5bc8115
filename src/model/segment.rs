//! Finished segments and where they go.

use crate::base::error::Result;
use crate::base::pieces::Pieces;
use crate::base::time::Rational;
use bytes::Bytes;

/// One segment of one rendition, complete.
#[derive(Clone, Debug)]
pub struct Segment {
    /// Which rendition, as an index into the plan.
    pub rendition: usize,
    /// Which segment of the title, from 0.
    pub index: u64,
    /// Where it begins, seconds from title time 0, exact.
    pub start: Rational,
    /// Where it ends.
    pub end: Rational,
    /// Video frames (or, without video, audio packets) in it.
    pub frames: u64,
    /// Packets of sound in it.
    pub audio_packets: u64,
    /// The bytes of the file.
    pub data: Pieces,
}

/// Takes what the pipeline makes. Called from the mux threads of the renditions, in order within
/// each rendition; the renditions run at their own pace.
///
/// There are no default methods: a sink that silently drops an init segment would be a bug.
pub trait SegmentSink: Send + Sync {
    /// The init segment of a rendition, once, before its first segment. Empty for MPEG-TS.
    fn init(&self, rendition: usize, codecs: &[String], data: &[u8]) -> Result<()>;
    /// The next bytes of a segment that is still being made, where the container lets one know them:
    /// what the segments hold later is what was shown here, and more. An error ends the run.
    fn part(&self, rendition: usize, index: u64, data: Bytes) -> Result<()>;
    /// A finished segment. An error ends the run.
    fn segment(&self, segment: Segment) -> Result<()>;
}
