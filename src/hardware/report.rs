//! What was seen of the devices: data for operators, the orchestrator and the planner, and for the shelf.

use super::backend::Kind;
use crate::model::track::VideoCodec;
use serde::{Deserialize, Serialize};

/// What became of one question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Verdict {
    /// It was done, and what came out was looked at.
    Proven,
    /// It was tried and does not work.
    Refused(Reason),
    /// It is linked, and nobody could try it.
    Claimed(Reason),
}

impl Verdict {
    /// Whether it was done.
    pub fn is_proven(&self) -> bool {
        *self == Self::Proven
    }

    /// Why it cannot be relied on.
    pub fn reason(&self) -> Option<&Reason> {
        match self {
            Self::Proven => None,
            Self::Refused(reason) | Self::Claimed(reason) => Some(reason),
        }
    }
}

/// Why not, for a person who can act.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// Stable, in `snake_case`; see `docs/hardware.md`.
    pub code: String,
    /// What is wrong.
    pub message: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub hint: Option<String>,
    /// libav's own words.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub libav: Option<String>,
}

impl Reason {
    /// A reason without a hint.
    pub fn new(code: &str, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into(), hint: None, libav: None }
    }

    /// The same with what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same with libav's words, if it had any.
    #[must_use]
    pub fn libav(mut self, words: impl Into<String>) -> Self {
        self.libav = Some(words.into()).filter(|words| !words.is_empty());
        self
    }
}

/// Which way a codec works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// Pictures to packets.
    Encode,
    /// Packets to pictures.
    Decode,
}

/// One codec on one device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CodecReport {
    /// Which way.
    pub direction: Direction,
    /// Which format.
    pub codec: VideoCodec,
    /// Bits of each sample.
    pub bit_depth: u8,
    /// libav's name of who does it.
    pub name: String,
    /// What was seen.
    pub verdict: Verdict,
    /// Encoders that worked at once; the trial stops at [`MOST_SESSIONS`](super::trial::MOST_SESSIONS).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub sessions: Option<u32>,
    /// How long it took.
    pub took_ms: u64,
}

/// One device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceReport {
    /// Its kind.
    pub kind: Kind,
    /// The file through which it is reached, where one was named.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub node: Option<String>,
    /// What the driver calls it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub name: Option<String>,
    /// It runs on the processor: no gain in using it.
    pub software: bool,
    /// Whether it could be opened.
    pub verdict: Verdict,
    /// Whether it scales pictures right.
    pub scaling: Verdict,
    /// Its codecs.
    pub codecs: Vec<CodecReport>,
}

impl DeviceReport {
    /// The codec, if it is proven.
    pub fn proven(&self, direction: Direction, codec: VideoCodec, bit_depth: u8) -> Option<&CodecReport> {
        self.codecs.iter().find(|c| {
            (c.direction, c.codec, c.bit_depth) == (direction, codec, bit_depth) && c.verdict.is_proven()
        })
    }
}

/// Where the names of what is linked come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "from", rename_all = "snake_case")]
pub enum Source {
    /// This binary asked its libav.
    Libav,
    /// It died or hung over that, and the `ffmpeg` command was asked.
    Command {
        /// What had become of the child that asked.
        because: Reason,
    },
}

/// Everything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Which libav.
    pub libav: String,
    /// How the codecs were found.
    pub listing: Source,
    /// The devices, in the order of `auto`.
    pub devices: Vec<DeviceReport>,
    /// How long it took.
    pub took_ms: u64,
}

impl Report {
    /// Of a machine at which nobody has looked.
    pub fn empty() -> Self {
        Self { libav: String::new(), listing: Source::Libav, devices: Vec::new(), took_ms: 0 }
    }

    /// Devices that work.
    pub fn working(&self) -> impl Iterator<Item = &DeviceReport> {
        self.devices.iter().filter(|device| device.verdict.is_proven())
    }
}
