//! What each stage does: a source's facts and somebody's wish become one [`Plan`].
//!
//! What enters: [`SourceFacts`], a [`Wish`], the encoders that the linked libav has, the cores. What
//! leaves: a value that says everything and that the pipeline only carries out. Choosing happens
//! here and nowhere later, so that two runs over the same source make the same bytes; but for the first segment of
//! a viewer's run, whose settings follow from the plan's (`encoders.rs`).

use crate::av::encoder::{AudioSettings, VideoSettings};
use crate::base::cancel::Cancel;
use crate::base::error::Result;
use crate::base::time::Rational;
use crate::media::both_sets::BothSets;
use crate::media::index::{Shelf, SourceIndex};
use crate::media::warm::Pool;
use crate::model::job::{Format, RateWish, Wish};
use crate::model::source::SourceFacts;
use crate::model::timeline::Timeline;
use crate::model::track::VideoCodec;
use std::path::PathBuf;

mod choose;
mod device;
mod direct;
mod encoders;
#[cfg(test)]
mod tests;

pub use choose::{copied_audio_codec, copied_video_codec};
pub use device::OnDevice;
pub use direct::{Direct, MAX_SEGMENT_BYTES, MAX_SEGMENT_SECONDS, Sound, direct, direct_cuts};
pub(super) use encoders::of_first_segment;
pub use encoders::{default_preset, packet_samples};

/// A whole transcode, decided.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The file to read.
    pub input: PathBuf,
    /// The facts that the plan was made from.
    pub facts: SourceFacts,
    /// The cuts. For a copied picture the grid is the source's own time base.
    pub timeline: Timeline,
    /// Where title time 0 stands on the container's clock, in seconds.
    pub title_origin: Rational,
    /// The end was asked for (`--end`), so the title is exactly as long as the timeline says; else
    /// it ends where the data ends.
    pub fixed_end: bool,
    /// The picture.
    pub video: Option<VideoPlan>,
    /// The sound.
    pub audio: Option<AudioPlan>,
    /// Every cut has to be an IDR picture: a run over a copied picture that meets another one fails.
    pub idr_cuts: bool,
    /// The shape of the output.
    pub format: Format,
    /// What comes out: at least one. Their pictures are made in this order.
    pub renditions: Vec<Rendition>,
    /// What a device does of the picture; `None`: the processor does all of it.
    pub device: Option<OnDevice>,
    /// What the person who asked should know.
    pub warnings: Vec<String>,
}

/// What happens to the picture before the renditions part.
#[derive(Clone, Debug, PartialEq)]
pub struct VideoPlan {
    /// Stream index in the container.
    pub stream: usize,
    /// Take the packets as they are.
    pub copy: bool,
    /// Threads of the decoder.
    pub decoder_threads: u32,
}

/// What happens to the sound: made once, shared by all renditions.
#[derive(Clone, Debug, PartialEq)]
pub struct AudioPlan {
    /// Stream index in the container.
    pub stream: usize,
    /// The encoder; `None` takes the packets as they are.
    pub encode: Option<AudioSettings>,
}

/// One output picture size with its sound.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rendition {
    /// Name: the folder in HLS outputs.
    pub name: String,
    /// The encoder's settings; `None` when the picture is copied or there is none.
    pub encode: Option<VideoSettings>,
    /// What was asked of the encoder, whichever it is.
    pub asked: Option<Asked>,
    /// Where a device encodes: the settings of the encoder in software that stands in when it fails.
    pub stand_in: Option<VideoSettings>,
    /// Where both have to share an init segment: what it says. The plan without the device has it too.
    pub both_sets: Option<BothSets>,
}

/// What was asked of an encoder of pictures, in nobody's words.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    /// Format.
    pub codec: VideoCodec,
    /// Rate control.
    pub rate: RateWish,
    /// Preset, in the words of the encoder in software.
    pub preset: Option<String>,
}

/// What the machine offers to a plan.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    /// Cores that the run may use.
    pub cores: u32,
}

impl Machine {
    /// This machine, as far as this process may use it.
    pub fn here() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(1));
        Self { cores }
    }
}

/// Where the cuts of a copied picture come from. The plan is the same either way.
#[derive(Clone, Copy, Debug)]
pub enum Keys<'a> {
    /// They are found if they are needed.
    Find {
        /// Has the source open, maybe.
        pool: &'a Pool,
        /// Where indexes are kept that were dear.
        shelf: Option<&'a Shelf>,
        /// Ends the search.
        cancel: &'a Cancel,
    },
    /// They are known.
    Known(&'a SourceIndex),
}

impl Plan {
    /// Decides everything. Fails with what cannot be done and why, before any codec is opened.
    pub fn new(
        input: PathBuf,
        facts: SourceFacts,
        wish: &Wish,
        machine: Machine,
        cancel: &Cancel,
    ) -> Result<Self> {
        wish.validate()?;
        choose::plan(input, facts, wish, machine, &Keys::Find { pool: &Pool::none(), shelf: None, cancel })
    }

    /// The same, for somebody who knows where the key frames are, or has a source that is open, or a shelf.
    ///
    /// # Errors
    /// As [`Plan::new`].
    pub fn with_keys(
        input: PathBuf,
        facts: SourceFacts,
        wish: &Wish,
        machine: Machine,
        keys: &Keys<'_>,
    ) -> Result<Self> {
        wish.validate()?;
        choose::plan(input, facts, wish, machine, keys)
    }

    /// The plan without how many threads do it: what a run has begun another may go on with, on a machine
    /// that has more or fewer cores to spare at that time.
    pub fn without_threads(&self) -> Self {
        let mut plan = self.clone();
        if let Some(video) = &mut plan.video {
            video.decoder_threads = 0;
        }
        let all = plan.renditions.iter_mut().flat_map(|r| r.encode.iter_mut().chain(r.stand_in.iter_mut()));
        for settings in all {
            settings.threads = 0;
            for (_, value) in settings.options.iter_mut().filter(|(key, _)| key == "x265-params") {
                let kept: Vec<&str> = value.split(':').filter(|part| !part.starts_with("pools=")).collect();
                *value = kept.join(":");
            }
        }
        plan
    }

    /// Whether the picture's packets are taken as they are.
    pub fn copies_video(&self) -> bool {
        self.video.as_ref().is_some_and(|v| v.copy)
    }

    /// Whether all packets are taken as they are, and there is a picture.
    pub fn copies_all(&self) -> bool {
        self.copies_video() && self.audio.as_ref().is_none_or(|audio| audio.encode.is_none())
    }
}
