//! What flows between the stages.
//!
//! ```text
//! demux --Coded--> decode --Raw--> filter --Scaled--> encode --MuxItem--> mux --Segment--> sink
//!        \-Coded--> audio --------------------------------MuxItem-------^
//! demux, copy ---------------------------------------------MuxItem-------^
//! ```
//! The capacities below are the only places where items wait, but for sound that waits for its picture (`pace.rs`), so
//! memory is bounded by them.

use crate::av::{Frame, Packet};
use crate::base::cancel::{QueueTx, Sent};
use crate::base::error::Result;
use crate::base::time::Rational;
use crate::model::track::{AudioTrack, Sample, VideoTrack};
use std::sync::Arc;

/// Coded packets for each stream: tens of kilobytes each.
pub const CODED_QUEUE: usize = 8;
/// Decoded pictures for each rendition, shared between renditions: 3 MiB each at 1080p. Three carry
/// the encoders of a ladder over a picture that is slow to decode.
pub const RAW_QUEUE: usize = 3;
/// Scaled pictures for each rendition: 1.4 MiB each at 720p.
pub const SCALED_QUEUE: usize = 2;
/// Coded samples for each rendition: kilobytes each.
pub const MUX_QUEUE: usize = 64;
/// The same where more would be a fault: bundles of copied samples have a hundred kilobytes each, and a run that
/// goes ahead of a viewer fills this up when it should rest, while others want the processor.
pub const SHORT_MUX_QUEUE: usize = 8;

/// From the demuxer to a decoder, or to what copies it.
#[derive(Debug)]
pub enum Coded {
    /// A packet of the stream.
    Packet(Packet),
    /// A packet whose picture nobody will see: it stands before the window and gives way to another there.
    /// It matters only as far as others refer to it.
    Passing(Packet),
    /// No more packets: the source ended.
    End(DataEnd),
}

/// What takes the packets of a stream: the queue to a decoder's stage, or what copies them right away, which is
/// too little work to wake another thread for.
pub trait Packets: Send {
    /// Takes the next one. After [`Sent::ConsumerGone`] nothing more is wanted.
    ///
    /// # Errors
    /// The run is cancelled; or the packet is nothing that can be copied.
    fn take(&mut self, coded: Coded) -> Result<Sent>;

    /// Nothing more is at hand for now: what was taken is to go on.
    ///
    /// # Errors
    /// The run is cancelled.
    fn flush(&mut self) -> Result<Sent>;
}

impl Packets for QueueTx<Coded> {
    fn take(&mut self, coded: Coded) -> Result<Sent> {
        self.send(coded)
    }

    fn flush(&mut self) -> Result<Sent> {
        Ok(Sent::Queued)
    }
}

/// Where the data of the source ended, in title time; `None` when there was none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataEnd {
    /// The end of the longer of picture and sound.
    pub end: Option<Rational>,
}

/// From the decoder to the filters: a picture on its slots of the grid.
#[derive(Clone, Debug)]
pub enum Raw {
    /// Show this picture in slot `n`. The same picture may come again for the next slot.
    Picture {
        /// Slot, counted from title time 0.
        n: u64,
        /// A segment begins here: the encoder has to make an IDR picture.
        key: bool,
        /// The picture, shared between the renditions.
        frame: Arc<Frame>,
    },
    /// The window is complete; the title has this many slots up to here.
    End {
        /// One past the last slot.
        end: u64,
    },
}

/// From a filter to its encoder.
#[derive(Debug)]
pub enum Scaled {
    /// A picture whose PTS is its slot.
    Picture {
        /// Slot, counted from title time 0.
        n: u64,
        /// A segment begins here.
        key: bool,
        /// The picture in the encoder's size and format.
        frame: Frame,
    },
    /// As [`Raw::End`].
    End {
        /// One past the last slot.
        end: u64,
    },
}

/// From the encoders to the muxer of one rendition.
#[derive(Clone, Debug)]
pub enum MuxItem {
    /// The picture's track, before its first sample.
    VideoTrack(Box<VideoTrack>),
    /// A coded picture.
    Video {
        /// The sample.
        sample: Sample,
        /// The grid position at which a segment begins with this sample.
        segment_start: Option<u64>,
    },
    /// The segment at work has all of its pictures; the next one begins at this position.
    SegmentEnd {
        /// Its first grid position.
        at: u64,
    },
    /// No more pictures; the title's grid ends at this position.
    VideoEnd {
        /// One past the last grid position.
        end: u64,
    },
    /// The sound's track, before its first sample.
    AudioTrack(Box<AudioTrack>),
    /// A coded piece of sound.
    Audio(Sample),
    /// Several of these, in their order.
    Several(Vec<Self>),
    /// No more sound; without pictures, the title's grid ends at this position.
    AudioEnd {
        /// One past the last grid position.
        end: u64,
    },
}
