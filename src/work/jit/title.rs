//! A file, as it can be streamed: planned, described, its playlists written; nothing of it encoded.
//!
//! What enters: the file, and which of its two shapes is meant. What leaves: everything that a client can
//! ask for but the media, and the key under which the media are kept: it stands for the file as it was
//! then and for all that decides over the bytes, so that a replaced file never plays old segments.

use super::promise;
use crate::base::cancel::Cancel;
use crate::base::error::{Error, ErrorKind, Result, Stage};
use crate::base::time::Rational;
use crate::media::describe::{Described, describe};
use crate::media::index::{self, Shelf, Sought};
use crate::media::inspect::inspect;
use crate::media::plan::{AudioPlan, Keys, Machine, Plan, Sound, direct, direct_cuts};
use crate::media::warm::Pool;
use crate::media::{RunLog, made_by};
use crate::model::job::{AudioChoice, Format, SegmentType, VideoChoice, Wish};
use crate::model::source::SourceFacts;
use bytes::Bytes;
use serde_json::{Value, json};
use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

/// How a file is offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shape {
    /// Encoded, in several sizes, cut on a regular grid.
    Ladder,
    /// Its own picture, copied, cut at its key frames.
    Direct,
}

/// The folder of a file's copied segments: no rung of the ladder has this name.
pub const DIRECT: &str = "direct";
const DIRECT_PREFIX: &str = "direct/";
/// Inputs of a title that stay open while nobody reads them.
const WARM_INPUTS: usize = 2;

/// Which file it was. Another one under the same name has another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    device: u64,
    inode: u64,
    size_bytes: u64,
    modified: (i64, i64),
}

impl Identity {
    /// Of the file that lies there now. Blocks, for as long as its disk does.
    ///
    /// # Errors
    /// `not_found` and the like; `not_a_file`.
    pub fn of(path: &Path) -> Result<Self> {
        let facts = fs::metadata(path).map_err(|e| Error::io(Stage::Open, "look at", path, &e))?;
        if !facts.is_file() {
            let message = format!("{} is no file", path.display());
            return Err(Error::new(ErrorKind::NotFound, "not_a_file", Stage::Open, message));
        }
        Ok(Self {
            device: facts.dev(),
            inode: facts.ino(),
            size_bytes: facts.len(),
            modified: (facts.mtime(), facts.mtime_nsec()),
        })
    }

    /// When the file was last written to.
    pub fn modified(&self) -> Option<SystemTime> {
        let (seconds, nanos) = self.modified;
        let since = Duration::new(u64::try_from(seconds).ok()?, u32::try_from(nanos).ok()?);
        SystemTime::UNIX_EPOCH.checked_add(since)
    }
}

/// What all titles of a node have in common.
#[derive(Clone, Debug)]
pub struct House {
    /// Container of the segments.
    pub segment_type: SegmentType,
    /// Their length.
    pub segment_seconds: Rational,
    /// What one run may use.
    pub machine: Machine,
    /// How long opening a file may take.
    pub open_limit: Duration,
    /// Where the key frames of files without an index are kept.
    pub shelf: Shelf,
}

/// What a copied title weighs, container included.
#[derive(Clone, Copy, Debug)]
struct Weight {
    peak_bps: u64,
    average_bps: u64,
}

/// A title.
#[derive(Debug)]
pub struct Title {
    /// As what it is offered.
    pub shape: Shape,
    /// Which file it is of.
    pub identity: Identity,
    /// How its segments are made.
    pub plan: Plan,
    /// Stands for everything that decides over the bytes of its segments.
    pub content: u64,
    /// Its source, open for the next run.
    pub pool: Pool,
    /// The multivariant playlist; empty for a copied title, which has only one.
    pub master: String,
    /// The media playlist: the same for each rendition, since they share their cuts.
    pub playlist: String,
    version: String,
    /// Of a copied title.
    weight: Option<Weight>,
    described: Vec<Described>,
    /// Init segments, by rendition; those that only the media tell come with the first run.
    inits: Vec<OnceLock<Bytes>>,
}

impl Title {
    /// Opens the file and plans it. Blocks.
    ///
    /// # Errors
    /// What keeps it from being read, or from being offered in this shape.
    pub fn open(
        path: &Path,
        identity: Identity,
        shape: Shape,
        house: &House,
        cancel: &Cancel,
    ) -> Result<Self> {
        let (log, pool) = (RunLog::new(), Pool::keeping(WARM_INPUTS));
        let facts = inspect(path, cancel, &log, house.open_limit)?;
        let (plan, weight) = match shape {
            Shape::Ladder => {
                let wish = ladder_wish(house);
                (Plan::new(path.to_owned(), facts, &wish, house.machine, cancel)?, None)
            }
            Shape::Direct => {
                let (plan, weight) = plan_direct(path, facts, house, &pool, cancel)?;
                (plan, Some(weight))
            }
        };
        let described = describe(&plan, &pool, cancel, &log)?;
        let content = content(&plan, identity);
        // 32 bits tell a file from the one that it replaced.
        let version = format!("{:08x}", content >> 32);
        let (master, prefix) = match shape {
            Shape::Ladder => (promise::master_playlist(&plan, &described)?, ""),
            Shape::Direct => (String::new(), DIRECT_PREFIX),
        };
        Ok(Self {
            shape,
            identity,
            content,
            playlist: promise::media_playlist(&plan, prefix, &version)?,
            inits: described.iter().map(known_init).collect(),
            plan,
            pool,
            master,
            weight,
            version,
            described,
        })
    }

    /// The rendition of that name.
    pub fn rendition(&self, name: &str) -> Option<u32> {
        let at = match self.shape {
            Shape::Ladder => self.plan.renditions.iter().position(|r| r.name == name)?,
            Shape::Direct => (name == DIRECT).then_some(0)?,
        };
        u32::try_from(at).ok()
    }

    /// A short key of the file as it is, for addresses.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// How the names of its segments end.
    pub fn extension(&self) -> &'static str {
        promise::extension(self.segment_type())
    }

    /// What the file is, what is made of it, and what a client should take: `direct` is the same file in
    /// its other shape, or why it has none.
    pub fn info(&self, direct: Result<&Self, &str>) -> Value {
        let renditions = self.plan.renditions.iter().zip(&self.described).map(|(rendition, described)| {
            let size = rendition.encode.as_ref().map(|made| (made.width, made.height));
            json!({
                "name": rendition.name,
                "width": size.map(|size| size.0),
                "height": size.map(|size| size.1),
                "codecs": described.codecs,
            })
        });
        let told = match direct {
            Ok(direct) => json!({
                "available": true,
                "codecs": direct.described.first().map(|d| &d.codecs),
                "audio": direct.sound(),
                "peak_bps": direct.weight.map(|weight| weight.peak_bps),
                "average_bps": direct.weight.map(|weight| weight.average_bps),
                "segments": direct.segment_count(),
            }),
            Err(reason) => json!({ "available": false, "reason": reason }),
        };
        json!({
            "play": if direct.is_ok() { "direct" } else { "master" },
            "duration_s": self.plan.timeline.duration().to_f64(),
            "segments": self.segment_count(),
            "segment_type": self.segment_type(),
            "renditions": renditions.collect::<Vec<_>>(),
            "direct": told,
            "source": self.plan.facts,
            "warnings": self.plan.warnings,
        })
    }

    /// What becomes of the source's sound, in a word.
    fn sound(&self) -> &'static str {
        match &self.plan.audio {
            None => "none",
            Some(AudioPlan { encode: None, .. }) => "copied",
            Some(AudioPlan { encode: Some(_), .. }) => "encoded",
        }
    }

    /// How many segments each rendition has.
    pub fn segment_count(&self) -> u64 {
        self.plan.timeline.segment_count()
    }

    /// How long a segment plays, but for the last one.
    pub fn segment_duration(&self) -> Duration {
        let frames = self.plan.timeline.frames_per_segment();
        let ms = self.plan.timeline.frame_time(frames).to_ms();
        Duration::from_millis(u64::try_from(ms).unwrap_or(0))
    }

    /// Container of the segments.
    pub fn segment_type(&self) -> SegmentType {
        promise::segment_type(&self.plan)
    }

    /// The init segment of a rendition. `None` while only a run can tell it.
    pub fn init(&self, rendition: u32) -> Option<Bytes> {
        self.inits.get(rendition as usize)?.get().cloned()
    }

    /// The level that was promised of a rendition's H.264 in the High profile; `None` for anything else.
    pub(super) fn promised_level(&self, rendition: u32) -> Option<u8> {
        let codecs = &self.described.get(rendition as usize)?.codecs;
        let high = codecs.iter().find_map(|codec| codec.strip_prefix("avc1.64"))?;
        u8::from_str_radix(high.get(2..4)?, 16).ok()
    }

    /// Holds what a run makes against what was promised.
    ///
    /// # Errors
    /// `init_differs`: clients that hold the promised init segment could not decode the run's.
    pub(super) fn agree(&self, rendition: u32, codecs: &[String], init: &[u8]) -> Result<()> {
        let at = rendition as usize;
        let (Some(promised), Some(kept)) = (self.described.get(at), self.inits.get(at)) else {
            return Err(Error::internal(Stage::Mux, format!("there is no rendition {rendition}")));
        };
        let known = kept.get_or_init(|| Bytes::copy_from_slice(init));
        if keeps(&promised.codecs, codecs) && known == init {
            return Ok(());
        }
        let message = format!(
            "{}: a run makes {} where {} was promised{}",
            self.plan.input.display(),
            codecs.join(","),
            promised.codecs.join(","),
            if known == init { "" } else { ", and its init segment differs" }
        );
        Err(Error::new(ErrorKind::Internal, "init_differs", Stage::Mux, message))
    }
}

/// Whether a player that can play what was promised can play what was made. Encoders on devices may say of
/// themselves that they use less of a profile than they could (constraint flags), and keep to a lower level.
fn keeps(promised: &[String], made: &[String]) -> bool {
    let profile_and_level = |codec: &str| {
        let facts = codec.strip_prefix("avc1.")?;
        Some((facts.get(..2)?.to_owned(), u8::from_str_radix(facts.get(4..6)?, 16).ok()?))
    };
    let one =
        |(promised, made): (&String, &String)| match (profile_and_level(promised), profile_and_level(made)) {
            (Some((profile, level)), Some((made, used))) => profile == made && used <= level,
            _ => promised == made,
        };
    promised.len() == made.len() && promised.iter().zip(made).all(one)
}

/// MPEG-TS has none; and what only the packets tell (copied AC-3 in fMP4) is not known yet.
fn known_init(described: &Described) -> OnceLock<Bytes> {
    let known = OnceLock::new();
    if !described.init.is_empty() {
        let _ = known.set(Bytes::copy_from_slice(&described.init));
    }
    known
}

fn ladder_wish(house: &House) -> Wish {
    let format = Format::Hls(house.segment_type);
    Wish { format, segment_seconds: house.segment_seconds, ..Wish::default() }
}

/// The source's own picture, if every player can take it as it is, with its sound or that made into AAC.
fn plan_direct(
    path: &Path,
    facts: SourceFacts,
    house: &House,
    pool: &Pool,
    cancel: &Cancel,
) -> Result<(Plan, Weight)> {
    if facts.video.is_none() {
        return Err(no_direct_play(path, "there is no picture"));
    }
    let sought = Sought { path, facts: &facts, cancel };
    let mut index = index::find(&sought, pool, Some(&house.shelf))?;
    let cuts = direct_cuts(&facts, &index, house.segment_seconds);
    index::look_for_idr(&mut index, &cuts, &sought, pool)?;
    let direct = direct(&facts, &index, house.segment_type, house.segment_seconds)
        .map_err(|reason| no_direct_play(path, &reason))?;
    let house_wish = ladder_wish(house);
    let audio = match direct.sound {
        Sound::None => AudioChoice::None,
        Sound::Copied => AudioChoice::Copy,
        Sound::Encoded => house_wish.audio,
    };
    let wish = Wish { video: VideoChoice::Copy, audio, ..house_wish };
    let keys = Keys::Known(&index);
    let mut plan = Plan::with_keys(path.to_owned(), facts, &wish, house.machine, &keys)?;
    plan.idr_cuts = true;
    Ok((plan, Weight { peak_bps: direct.peak_bps, average_bps: direct.average_bps }))
}

fn no_direct_play(path: &Path, reason: &str) -> Error {
    let message = format!("{} is not played as it is: {reason}", path.display());
    Error::new(ErrorKind::NotFound, "no_direct_play", Stage::Plan, message).hint("take master.m3u8")
}

fn content(plan: &Plan, identity: Identity) -> u64 {
    let mut hasher = DefaultHasher::new();
    identity.hash(&mut hasher);
    (format!("{:?}", plan.without_threads()), made_by()).hash(&mut hasher);
    hasher.finish()
}
