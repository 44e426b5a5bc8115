//! The configuration as it is written: one field for each key of the YAML file, with its default.
//!
//! What enters: the merged tree. What leaves: the same, typed by shape only, and the JSON Schema that
//! the tree is checked against. What a value means, and whether it can be, is `resolve`'s; the order
//! of the fields is the order in which the configuration is printed (contract, section 2).

use super::values::{Secret, SizeText, TimeText};
use crate::model::job::SegmentType;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// The whole file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Raw {
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
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Node {
    /// Its name, 1 to 64 of `A-Za-z0-9._-`; empty: the host name.
    pub id: String,
    /// Told to the orchestrator as they are.
    pub tags: BTreeMap<String, String>,
}

/// Where media and state lie.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Paths {
    /// What may be read.
    pub roots: Vec<Root>,
    /// Where jobs write.
    pub output: Output,
    /// The folder of the journal and caches; empty: chosen by what may be written.
    pub state: String,
}

/// A folder that may be read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Root {
    /// Its name in `/vod/{name}/...`.
    pub name: String,
    /// What the network calls it.
    pub uri: String,
    /// What this machine calls it: an absolute path.
    pub local: String,
}

/// Where jobs write.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Output {
    /// What the network calls it; empty: `file://` and the local path.
    pub uri: String,
    /// What this machine calls it; empty: chosen by what may be written.
    pub local: String,
}

/// How much the node takes on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Jobs at once; 0: from the cores allowed.
    #[schema(minimum = 0, maximum = 1024)]
    pub max_concurrent_jobs: u32,
    /// Jobs that wait; 0: refuse as soon as every slot is in use.
    #[schema(minimum = 0, maximum = 100_000)]
    pub max_queued_jobs: u32,
    /// Cores; 0: all.
    #[schema(minimum = 0, maximum = 4096)]
    pub max_cpu_cores: u32,
    /// Free space below which no job is taken.
    pub min_free_disk: SizeText,
    /// For opening a source.
    pub open_timeout: TimeText,
    /// Without progress, while not paused by the node itself.
    pub stall_timeout: TimeText,
    /// How long outputs stay; 0: until they are deleted.
    pub output_ttl: TimeText,
    /// How long ended jobs stay in the journal.
    pub history: TimeText,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_concurrent_jobs: 0,
            max_queued_jobs: 8,
            max_cpu_cores: 0,
            min_free_disk: SizeText::new("2GiB"),
            open_timeout: TimeText::new("15s"),
            stall_timeout: TimeText::new("60s"),
            output_ttl: TimeText::new("0"),
            history: TimeText::new("30d"),
        }
    }
}

/// Encoders and decoders outside the processor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Hardware {
    /// `auto`, `off`, a kind of device, or kinds in the order of preference.
    pub acceleration: Acceleration,
    /// The render node for VA-API.
    pub vaapi_device: String,
    /// What becomes of a job whose device fails.
    pub on_failure: OnFailure,
}

impl Default for Hardware {
    fn default() -> Self {
        Self {
            acceleration: Acceleration::One(AccelerationWord::Auto),
            vaapi_device: "/dev/dri/renderD128".into(),
            on_failure: OnFailure::Software,
        }
    }
}

/// Which devices may be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum Acceleration {
    /// One word.
    One(AccelerationWord),
    /// Kinds of device, the best first.
    List(Vec<Device>),
}

/// A word for [`Acceleration`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum AccelerationWord {
    /// Whatever proves to work.
    Auto,
    /// None.
    Off,
    /// This one only.
    Vaapi,
    /// This one only.
    Nvenc,
    /// This one only.
    Videotoolbox,
    /// This one only.
    Qsv,
    /// This one only.
    Vulkan,
}

/// A kind of device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Device {
    /// VA-API: Intel and AMD on Linux.
    Vaapi,
    /// NVENC and NVDEC.
    Nvenc,
    /// Apple's.
    Videotoolbox,
    /// Intel Quick Sync.
    Qsv,
    /// Vulkan Video.
    Vulkan,
}

/// What becomes of a job whose device fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnFailure {
    /// It goes on in software.
    Software,
    /// It fails, with a code that says that another try may help.
    Fail,
}

/// The server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Http {
    /// Address and port.
    pub listen: String,
    /// What control calls must show; empty: nothing, on loopback only.
    pub control_token: Secret,
    /// The file that holds it instead.
    pub control_token_file: String,
    /// What players must show; empty: streams are open.
    pub stream_token: Secret,
    /// The file that holds it instead.
    pub stream_token_file: String,
    /// Web pages that may play streams.
    pub cors_origins: Vec<String>,
}

impl Default for Http {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:8080".into(),
            control_token: Secret::default(),
            control_token_file: String::new(),
            stream_token: Secret::default(),
            stream_token_file: String::new(),
            cors_origins: vec!["*".into()],
        }
    }
}

/// Who is told about jobs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Orchestrator {
    /// Its base address; empty: stand-alone.
    pub url: String,
    /// What it wants to be shown.
    pub token: Secret,
    /// The file that holds it instead.
    pub token_file: String,
    /// Between two heartbeats.
    pub heartbeat_interval: TimeText,
}

impl Default for Orchestrator {
    fn default() -> Self {
        Self {
            url: String::new(),
            token: Secret::default(),
            token_file: String::new(),
            heartbeat_interval: TimeText::new("10s"),
        }
    }
}

/// Streams made while somebody watches.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Stream {
    /// Length of a segment.
    pub segment_duration: TimeText,
    /// Container of a segment.
    pub segment_type: SegmentType,
    /// Segments kept on disk.
    pub cache_max_bytes: SizeText,
    /// Segments kept in memory.
    pub cache_memory_bytes: SizeText,
    /// Producers at once; 0: from the cores allowed.
    #[schema(minimum = 0, maximum = 1024)]
    pub max_sessions: u32,
    /// Segments made ahead of the viewer.
    #[schema(minimum = 0, maximum = 1000)]
    pub read_ahead: u32,
    /// After which a producer without a viewer stops.
    pub idle_timeout: TimeText,
}

impl Default for Stream {
    fn default() -> Self {
        Self {
            segment_duration: TimeText::new("4s"),
            segment_type: SegmentType::Ts,
            cache_max_bytes: SizeText::new("10GiB"),
            cache_memory_bytes: SizeText::new("256MiB"),
            max_sessions: 0,
            read_ahead: 6,
            idle_timeout: TimeText::new("30s"),
        }
    }
}

/// What is logged, and how.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// The shape of a line.
    pub format: LogFormat,
    /// The least important that is still logged.
    pub level: LogLevel,
}

impl Default for Log {
    fn default() -> Self {
        Self { format: LogFormat::Text, level: LogLevel::Info }
    }
}

/// The shape of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// How important a log line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Failures only.
    Error,
    /// What somebody should look at.
    Warn,
    /// What happens.
    Info,
    /// Why it happens.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    /// The word for it, as in the configuration and in a log filter.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}
