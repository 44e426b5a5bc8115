//! What the node says of itself: to the orchestrator, to whoever asks.
//!
//! What enters: the newest known figures of everything. What leaves: one description, beats, lines of
//! progress. Nothing here waits for a disk or a device, but for the note of a wish for maintenance.

use super::conditions::Conditions;
use super::disks::Disk;
use super::heartbeat::{Beat, BeatSource, Capacity, JobLine, Transcodes};
use super::link::Link;
use super::progress::ProgressSource;
use super::telemetry::{Cpu, Memory, ProcessFigures, Telemetry};
use crate::base::error::{Error, Result, Stage};
use crate::config::settings::{Limits, Settings};
use crate::model::node::{Fault, NodeState};
use crate::model::record::JobProgress;
use crate::work::board::Board;
use crate::work::jit::Studio;
use crate::work::journal::Journal;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::Mutex;
use utoipa::ToSchema;

/// The name in the journal of the wish for maintenance.
const MAINTENANCE: &str = "node.maintenance";

/// What a desk is made of.
pub struct Parts {
    /// The configuration.
    pub settings: Arc<Settings>,
    /// The jobs.
    pub board: Board,
    /// The streams made just in time.
    pub studio: Studio,
    /// The state.
    pub conditions: Arc<Conditions>,
    /// Load and memory.
    pub telemetry: Telemetry,
    /// Where the wish for maintenance is kept.
    pub journal: Journal,
    /// Says what this machine can do, as far as that is known by now. Called on the async runtime.
    pub capabilities: Box<dyn Fn() -> Value + Send + Sync>,
    /// The linked libav.
    pub libav: String,
    /// The orchestrator, if there is one.
    pub link: Option<Arc<Link>>,
}

/// Handle on the desk. Clones share it.
#[derive(Clone)]
pub struct Desk(Arc<Shared>);

struct Shared {
    parts: Parts,
    started: Instant,
    /// Held by whoever changes the wish for maintenance.
    turns: Mutex<()>,
}

/// The node, for whoever asks.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct NodeDescription {
    /// Its name.
    pub node_id: String,
    /// Words of whoever set it up.
    pub tags: BTreeMap<String, String>,
    /// How it stands.
    pub state: NodeState,
    /// What is wrong; empty when nothing is.
    pub reasons: Vec<Fault>,
    /// Since when it is in this state.
    #[schema(value_type = String, format = DateTime)]
    pub since: Timestamp,
    /// Seconds since the process started.
    pub uptime_s: u64,
    /// Version of this program.
    pub version: String,
    /// Version and licence of the linked libav.
    pub libav: String,
    /// What this machine can do.
    #[schema(value_type = Object)]
    pub capabilities: Value,
    /// How much it takes on.
    pub limits: LimitsInForce,
    /// The processor.
    pub cpu: Cpu,
    /// Main memory.
    pub memory: Memory,
    /// This process.
    pub process: ProcessFigures,
    /// Each root and the output.
    pub disk: Vec<Disk>,
    /// Work, in numbers.
    pub transcodes: Transcodes,
    /// Room for more.
    pub capacity: Capacity,
    /// The running jobs.
    pub jobs: Vec<JobLine>,
}

/// The limits of the configuration.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct LimitsInForce {
    /// Jobs at once.
    pub max_concurrent_jobs: u32,
    /// Jobs that may wait.
    pub max_queued_jobs: u32,
    /// Cores that jobs may use; 0: all.
    pub max_cpu_cores: u32,
    /// Free space below which no job is taken.
    pub min_free_disk_bytes: u64,
    /// For opening a source.
    pub open_timeout_s: f64,
    /// Without progress.
    pub stall_timeout_s: f64,
    /// How long outputs stay; null: until they are deleted.
    pub output_ttl_s: Option<f64>,
    /// How long ended jobs stay in the journal.
    pub history_s: f64,
}

impl From<&Limits> for LimitsInForce {
    fn from(limits: &Limits) -> Self {
        Self {
            max_concurrent_jobs: limits.max_concurrent_jobs,
            max_queued_jobs: limits.max_queued_jobs,
            max_cpu_cores: limits.max_cpu_cores,
            min_free_disk_bytes: limits.min_free_disk_bytes,
            open_timeout_s: limits.open_timeout.as_secs_f64(),
            stall_timeout_s: limits.stall_timeout.as_secs_f64(),
            output_ttl_s: limits.output_ttl.map(|ttl| ttl.as_secs_f64()),
            history_s: limits.history.as_secs_f64(),
        }
    }
}

impl Desk {
    /// A desk; takes up the wish for maintenance that an earlier process was told. Blocks.
    ///
    /// # Errors
    /// Those of the journal.
    pub fn new(parts: Parts) -> Result<Self> {
        let drains = parts.journal.meta_blocking(MAINTENANCE)?.is_some();
        parts.conditions.set_draining(drains);
        Ok(Self(Arc::new(Shared { parts, started: Instant::now(), turns: Mutex::default() })))
    }

    /// The node as it stands.
    pub fn describe(&self) -> NodeDescription {
        let parts = &self.0.parts;
        let (status, figures) = (parts.conditions.status(), parts.telemetry.latest());
        NodeDescription {
            node_id: parts.settings.node.id.clone(),
            tags: parts.settings.node.tags.clone(),
            state: status.state,
            reasons: status.reasons,
            since: status.since,
            uptime_s: self.0.started.elapsed().as_secs(),
            version: env!("CARGO_PKG_VERSION").into(),
            libav: parts.libav.clone(),
            capabilities: (parts.capabilities)(),
            limits: LimitsInForce::from(&parts.settings.limits),
            cpu: figures.cpu,
            memory: figures.memory,
            process: figures.process,
            disk: parts.conditions.disks(),
            transcodes: self.transcodes(figures.process.av_threads),
            capacity: self.capacity(),
            jobs: self.jobs(),
        }
    }

    /// Drains, or returns to service; it is on the disk when this returns.
    ///
    /// # Errors
    /// Those of the journal: nothing has changed.
    pub async fn set_maintenance(&self, on: bool) -> Result<NodeDescription> {
        let desk = self.clone();
        // In a task of its own: whoever asked may go away in the middle. One at a time, so that the disk and
        // the state agree.
        let change = tokio::spawn(async move {
            let _turn = desk.0.turns.lock().await;
            let parts = &desk.0.parts;
            parts.journal.set_meta(MAINTENANCE, on.then_some("1")).await?;
            parts.conditions.set_draining(on);
            parts.board.start_some();
            Ok(desk.describe())
        });
        change.await.map_err(|e| Error::internal(Stage::Plan, format!("a task broke off: {e}")))?
    }

    /// Whether a job would be taken now, as far as the node's state goes.
    ///
    /// # Errors
    /// Why not, in words.
    pub fn ready(&self) -> Result<(), String> {
        let status = self.0.parts.conditions.status();
        match status.state {
            NodeState::Idle | NodeState::Busy => Ok(()),
            NodeState::Maintenance => Err("the node is in MAINTENANCE".into()),
            NodeState::Error => {
                let reasons: Vec<_> = status.reasons.into_iter().map(|fault| fault.message).collect();
                Err(reasons.join("; "))
            }
        }
    }

    /// The orchestrator, if there is one.
    pub fn link(&self) -> Option<Arc<Link>> {
        self.0.parts.link.clone()
    }

    fn transcodes(&self, threads: u32) -> Transcodes {
        let totals = self.0.parts.board.totals();
        let small = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Transcodes {
            running: small(totals.running),
            queued: small(totals.queued),
            sessions: small(self.0.parts.studio.load().runs),
            threads,
        }
    }

    fn capacity(&self) -> Capacity {
        let totals = self.0.parts.board.totals();
        let running = u32::try_from(totals.running).unwrap_or(u32::MAX);
        Capacity { slots: totals.slots, free: totals.slots.saturating_sub(running) }
    }

    fn jobs(&self) -> Vec<JobLine> {
        let line = |(id, now): (String, JobProgress)| JobLine { id, percent: now.percent, speed: now.speed };
        self.0.parts.board.running().into_iter().map(line).collect()
    }
}

impl BeatSource for Desk {
    fn beat(&self) -> Beat {
        let now = self.describe();
        Beat {
            state: now.state,
            reasons: now.reasons,
            cpu: now.cpu,
            memory: now.memory,
            disk: now.disk,
            transcodes: now.transcodes,
            capacity: now.capacity,
            jobs: now.jobs,
            capabilities: now.capabilities,
            uptime_s: now.uptime_s,
            version: now.version,
        }
    }
}

impl ProgressSource for Desk {
    fn running(&self) -> Vec<(String, JobProgress)> {
        self.0.parts.board.running()
    }
}
