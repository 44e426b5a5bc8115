//! The configuration as the program uses it: typed, in range, every "decide for me" decided.
//!
//! What enters: what `resolve` made of the written configuration. What leaves: plain values. Nothing
//! here can be wrong any more, so nothing here returns an error; no text that still has to be parsed.

pub use super::raw::{Device, LogFormat, LogLevel, OnFailure};
pub use super::values::Secret;
pub use crate::model::job::SegmentType;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Everything.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Who the node is.
    pub node: Node,
    /// Where media and state lie.
    pub paths: Paths,
    /// How much it takes on.
    pub limits: Limits,
    /// Encoders and decoders outside the processor.
    pub hardware: Hardware,
    /// The server.
    pub http: Http,
    /// Who is told about jobs.
    pub orchestrator: Orchestrator,
    /// Streams made while somebody watches.
    pub stream: Stream,
    /// What is logged, and how.
    pub log: Log,
}

/// Who the node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Fit for a URL: 1 to 64 of `A-Za-z0-9._-`.
    pub id: String,
    /// Told to the orchestrator as they are.
    pub tags: BTreeMap<String, String>,
}

/// Where media and state lie. All local paths are absolute and without `..`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// What may be read. Names are unique, URIs too.
    pub roots: Vec<Root>,
    /// Where jobs write.
    pub output: Output,
    /// The journal and caches.
    pub state: PathBuf,
}

/// A folder that may be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root {
    /// Fit for a URL.
    pub name: String,
    /// What the network calls it.
    pub uri: String,
    /// What this machine calls it.
    pub local: PathBuf,
}

/// Where jobs write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// What the network calls it.
    pub uri: String,
    /// What this machine calls it.
    pub local: PathBuf,
}

/// How much the node takes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Jobs at once, at least 1.
    pub max_concurrent_jobs: u32,
    /// Jobs that wait; 0: refuse as soon as every slot is in use.
    pub max_queued_jobs: u32,
    /// Cores that may be used; 0: all.
    pub max_cpu_cores: u32,
    /// Free space, in bytes, below which no job is taken.
    pub min_free_disk_bytes: u64,
    /// For opening a source.
    pub open_timeout: Duration,
    /// Without progress, while not paused by the node itself.
    pub stall_timeout: Duration,
    /// How long outputs stay; `None`: until they are deleted.
    pub output_ttl: Option<Duration>,
    /// How long ended jobs stay in the journal.
    pub history: Duration,
}

/// Encoders and decoders outside the processor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hardware {
    /// Which devices may be used.
    pub acceleration: Acceleration,
    /// The render node for VA-API.
    pub vaapi_device: PathBuf,
    /// What becomes of a job whose device fails.
    pub on_failure: OnFailure,
}

/// Which devices may be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Acceleration {
    /// Whatever proves to work.
    Auto,
    /// None.
    Off,
    /// These kinds, the best first; not empty, none twice.
    List(Vec<Device>),
}

/// The server.
#[derive(Clone, Debug, PartialEq)]
pub struct Http {
    /// Where it listens. Port 0: one that is free.
    pub listen: SocketAddr,
    /// What control calls must show. `None` only where `listen` is loopback.
    pub control_token: Option<Secret>,
    /// What players must show; `None`: streams are open.
    pub stream_token: Option<Secret>,
    /// Web pages that may play streams: `*` alone, or origins such as `https://tv.example`.
    pub cors_origins: Vec<String>,
}

/// Who is told about jobs.
#[derive(Clone, Debug, PartialEq)]
pub struct Orchestrator {
    /// Its base address, http or https, without a slash at the end; `None`: stand-alone.
    pub url: Option<String>,
    /// What it wants to be shown.
    pub token: Option<Secret>,
    /// Between two heartbeats.
    pub heartbeat_interval: Duration,
}

/// Streams made while somebody watches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stream {
    /// Length of a segment.
    pub segment_duration: Duration,
    /// Container of a segment.
    pub segment_type: SegmentType,
    /// Segments kept on disk.
    pub cache_max_bytes: u64,
    /// Segments kept in memory.
    pub cache_memory_bytes: u64,
    /// Producers at once, at least 1.
    pub max_sessions: u32,
    /// Segments made ahead of the viewer.
    pub read_ahead: u32,
    /// After which a producer without a viewer stops.
    pub idle_timeout: Duration,
}

/// What is logged, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Log {
    /// The shape of a line.
    pub format: LogFormat,
    /// The least important that is still logged.
    pub level: LogLevel,
}
