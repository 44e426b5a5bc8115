//! The node, put together: every component in the order in which it needs the others, and stopped in
//! reverse. The order of [`serve`] is the documentation.
//!
//! What enters: the configuration. What leaves: nothing until a signal ends it. One shutdown token is
//! shared by all loops; whoever is asked to stop has a limit, so that the whole takes less than five
//! seconds whatever a disk or an orchestrator does.

use crate::av::registry::has_encoder;
use crate::base::error::{Error, ErrorKind, Result, Stage};
use crate::base::time::Rational;
use crate::config::paths::PathMap;
use crate::config::settings::{Acceleration, OnFailure, Settings};
use crate::hardware::inventory::Inventory;
use crate::hardware::prober::Prober;
use crate::hardware::report::Report;
use crate::http::{self, Doors};
use crate::media::index::Shelf;
use crate::media::plan::Machine;
use crate::media::{crash, libav_version};
use crate::model::node::Fault;
use crate::node::conditions::{self, Conditions};
use crate::node::desk::{Desk, Parts};
use crate::node::disks::{Disks, Pace};
use crate::node::orchestrator::Client;
use crate::node::telemetry::Telemetry;
use crate::node::{heartbeat, outbox, progress};
use crate::store::cache::{Cache, Caps};
use crate::work::board::{self, Board};
use crate::work::deaths::{self, Watch};
use crate::work::jit::floor::Rules;
use crate::work::jit::title::House;
use crate::work::jit::titles::Titles;
use crate::work::jit::{self, Setup, Studio};
use crate::work::journal::Journal;
use crossbeam_channel::bounded;
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

/// Threads that answer requests. Few: none of them ever waits for a disk or a codec.
const RUNTIME_THREADS: usize = 2;
/// Threads for what may block: looks at the output's disk, listings of roots.
const BLOCKING_THREADS: usize = 64;
/// How long the first look at the folders may hold up the start.
const FIRST_LOOK: Duration = Duration::from_secs(3);
/// How long running jobs may take to stop.
const STOP_LIMIT: Duration = Duration::from_millis(2500);
/// How long the loops may take to end after that.
const LOOPS_LIMIT: Duration = Duration::from_millis(1300);
/// How long the journal may take to close: nothing that was answered is lost by not waiting.
const CLOSE_LIMIT: Duration = Duration::from_millis(300);
/// Between two looks at the conditions.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Between two rounds of housekeeping, at most and at least.
const HOUSE_EVERY: Duration = Duration::from_secs(60);
const HOUSE_AT_MOST_EVERY: Duration = Duration::from_secs(1);
/// The folder in the state for segments made on demand.
const STREAM_CACHE: &str = "streams";
/// The folder in the state for the key frames of files without an index, and how much it may hold.
const INDEX_SHELF: &str = "index";
const MAX_SHELF_BYTES: u64 = 256 << 20;
/// Encoders of pictures, by codec, that a job may use without hardware.
const ENCODERS: [(&str, &[&str]); 4] = [
    ("h264", &["libx264", "libopenh264"]),
    ("hevc", &["libx265"]),
    ("av1", &["libsvtav1"]),
    ("vp9", &["libvpx-vp9"]),
];

/// Runs the node until `shutdown`.
///
/// # Errors
/// What keeps it from starting. Nothing that happens later ends it.
pub fn serve(settings: Settings, shutdown: &CancellationToken) -> Result<()> {
    let settings = Arc::new(settings);
    let journal = Journal::open(&settings.paths.state)?;
    make_folder(settings.paths.output.local.clone());
    let death = deaths::read(&settings.paths.state);
    let disks = Disks::start(conditions::places(&settings), Pace::default())?;
    let telemetry = Telemetry::start()?;
    let conditions = Arc::new(Conditions::new(&settings, disks, journal.clone(), lasting_faults()));
    let orchestrator = orchestrator(&settings)?;
    let outbox = orchestrator.as_ref().map(|_| Arc::new(Notify::new()));
    let paths = Arc::new(PathMap::new(&settings.paths)?);
    let inventory = inventory(&settings);
    let board = Board::new(board::Setup {
        journal: journal.clone(),
        paths: paths.clone(),
        limits: settings.limits.clone(),
        surroundings: conditions.clone(),
        inventory: inventory.clone(),
        may_fall_back: settings.hardware.on_failure == OnFailure::Software,
        outbox: outbox.clone(),
    });
    board.restore(&death)?;
    // Without these a death is held against nobody: no reason not to work, when the disk is full.
    let listens = crash::install(&deaths::crumb_path(&settings.paths.state));
    let watch = Watch::begin(&settings.paths.state);
    for e in [listens.as_ref().err(), watch.as_ref().err()].into_iter().flatten() {
        tracing::error!("a job that kills this process will not be found: {e}");
    }
    let (titles, studio) = streams(&settings, &inventory)?;
    let known = inventory.clone();
    let desk = Desk::new(Parts {
        settings: settings.clone(),
        board: board.clone(),
        studio: studio.clone(),
        conditions: conditions.clone(),
        telemetry,
        journal: journal.clone(),
        capabilities: Box::new(move || capabilities(&known)),
        libav: libav_version(),
        link: orchestrator.as_ref().map(Client::shared_link),
    })?;
    conditions.wait_for_first(FIRST_LOOK);

    let journal_kept = journal.clone();
    let node =
        Node { settings, journal, paths, board, titles, studio, conditions, desk, orchestrator, outbox };
    let runtime = runtime()?;
    let result = runtime.block_on(node.run(shutdown));
    runtime.shutdown_timeout(Duration::from_millis(100));
    journal_kept.close(CLOSE_LIMIT);
    if let Ok(watch) = watch {
        watch.end();
    }
    result
}

/// Everything that runs.
struct Node {
    settings: Arc<Settings>,
    journal: Journal,
    paths: Arc<PathMap>,
    board: Board,
    titles: Arc<Titles>,
    studio: Studio,
    conditions: Arc<Conditions>,
    desk: Desk,
    orchestrator: Option<Client>,
    outbox: Option<Arc<Notify>>,
}

impl Node {
    async fn run(&self, shutdown: &CancellationToken) -> Result<()> {
        let listener = bind(&self.settings).await?;
        // The loops outlive the jobs: the last beat and the last events tell how those stand.
        let loops_end = CancellationToken::new();
        let mut loops = JoinSet::new();
        loops.spawn(http::serve(listener, self.doors(loops_end.clone())));
        self.start_orchestration(&mut loops, &loops_end);
        self.start_upkeep(&mut loops, &loops_end);

        let result = tokio::select! {
            () = shutdown.cancelled() => Ok(()),
            ended = first_failure(&mut loops) => ended,
        };
        tracing::info!("stops: running jobs are kept as they are and go on after the next start");
        self.conditions.set_draining(true);
        self.studio.close();
        if !self.board.stop(STOP_LIMIT).await {
            tracing::warn!("some jobs did not stop in time; they go on from their last note");
        }
        loops_end.cancel();
        let all = async { while loops.join_next().await.is_some() {} };
        if timeout(LOOPS_LIMIT, all).await.is_err() {
            tracing::debug!("not everything ended in time");
        }
        result
    }

    fn doors(&self, shutdown: CancellationToken) -> Doors {
        Doors {
            board: self.board.clone(),
            desk: self.desk.clone(),
            paths: self.paths.clone(),
            settings: self.settings.clone(),
            titles: self.titles.clone(),
            studio: self.studio.clone(),
            shutdown,
        }
    }

    fn start_orchestration(&self, loops: &mut JoinSet<Result<()>>, end: &CancellationToken) {
        let (Some(client), Some(notify)) = (&self.orchestrator, &self.outbox) else { return };
        let (desk, journal) = (Arc::new(self.desk.clone()), &self.journal);
        let beats = heartbeat::run(
            client.clone(),
            journal.clone(),
            desk.clone(),
            self.conditions.subscribe(),
            self.settings.orchestrator.heartbeat_interval,
            end.clone(),
        );
        loops.spawn(endless(beats));
        let progress = progress::run(client.clone(), journal.clone(), desk, end.clone());
        loops.spawn(endless(progress));
        let events = outbox::run(client.clone(), journal.clone(), notify.clone(), end.clone());
        loops.spawn(endless(events));
    }

    /// Looks at the conditions, lets jobs start that may now, and keeps house.
    fn start_upkeep(&self, loops: &mut JoinSet<Result<()>>, end: &CancellationToken) {
        let (board, conditions, ended) = (self.board.clone(), self.conditions.clone(), end.clone());
        loops.spawn(async move {
            let mut ticks = interval(LOOK_EVERY);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            while ended.run_until_cancelled(ticks.tick()).await.is_some() {
                conditions.look();
                board.set_silent_roots(conditions.silent_roots());
                board.start_some();
            }
            Ok(())
        });
        let (studio, conditions, ended) = (self.studio.clone(), self.conditions.clone(), end.clone());
        loops.spawn(async move {
            let mut ticks = interval(jit::TICK);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            while ended.run_until_cancelled(ticks.tick()).await.is_some() {
                studio.tick();
                let load = studio.load();
                conditions.set_viewers_full(load.runs >= load.max_runs);
            }
            Ok(())
        });
        let (board, ended) = (self.board.clone(), end.clone());
        let pace = house_every(self.settings.limits.output_ttl);
        loops.spawn(async move {
            let mut ticks = interval(pace);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            while ended.run_until_cancelled(ticks.tick()).await.is_some() {
                if let Err(e) = board.keep_house().await {
                    tracing::warn!("housekeeping broke off, and is tried again: {e}");
                }
            }
            Ok(())
        });
    }
}

/// A loop that cannot fail, among those that can.
async fn endless(work: impl Future<Output = ()>) -> Result<()> {
    work.await;
    Ok(())
}

/// The error of the first loop that ends with one, or panics. None should before the shutdown.
async fn first_failure(loops: &mut JoinSet<Result<()>>) -> Result<()> {
    while let Some(ended) = loops.join_next().await {
        match ended {
            Ok(Ok(())) => {}
            Ok(Err(e)) => return Err(e),
            Err(e) => return Err(Error::internal(Stage::Plan, format!("a part of the node broke off: {e}"))),
        }
    }
    std::future::pending().await
}

async fn bind(settings: &Settings) -> Result<TcpListener> {
    let address = settings.http.listen;
    let refuse = |e: std::io::Error| {
        let message = format!("cannot listen on {address}: {e}");
        Error::new(ErrorKind::Usage, "cannot_listen", Stage::Plan, message)
            .hint("choose another address or port with http.listen")
    };
    let listener = TcpListener::bind(address).await.map_err(refuse)?;
    let bound = listener.local_addr().map_err(refuse)?;
    tracing::info!("listening on http://{bound}");
    Ok(listener)
}

fn runtime() -> Result<Runtime> {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(RUNTIME_THREADS).max_blocking_threads(BLOCKING_THREADS).thread_name("http");
    builder.enable_all().build().map_err(|e| {
        Error::new(ErrorKind::Io, "no_threads", Stage::Plan, format!("cannot start the runtime: {e}"))
            .hint("raise the limits on threads and open files of this user or container")
    })
}

/// Just-in-time streams. What an earlier process has left of them is removed.
fn streams(settings: &Settings, inventory: &Inventory) -> Result<(Arc<Titles>, Studio)> {
    let (stream, limits) = (&settings.stream, &settings.limits);
    let segment_ms = i64::try_from(stream.segment_duration.as_millis()).unwrap_or(i64::MAX);
    let house = House {
        segment_type: stream.segment_type,
        segment_seconds: Rational::new(segment_ms, 1000),
        machine: Machine::here(),
        open_limit: limits.open_timeout,
        shelf: Shelf::new(settings.paths.state.join(INDEX_SHELF), MAX_SHELF_BYTES),
    };
    let caps = Caps { memory_bytes: stream.cache_memory_bytes, disk_bytes: stream.cache_max_bytes };
    let rules = Rules {
        max_runs: usize::try_from(stream.max_sessions).unwrap_or(usize::MAX),
        read_ahead: u64::from(stream.read_ahead),
        idle: stream.idle_timeout,
    };
    let studio = Studio::new(Setup {
        cache: Cache::open(settings.paths.state.join(STREAM_CACHE), caps)?,
        rules,
        stall_timeout: limits.stall_timeout,
        max_cpu_cores: limits.max_cpu_cores,
        inventory: inventory.clone(),
        may_fall_back: settings.hardware.on_failure == OnFailure::Software,
    });
    Ok((Arc::new(Titles::new(house, settings.paths.roots.len())), studio))
}

fn orchestrator(settings: &Settings) -> Result<Option<Client>> {
    let told = &settings.orchestrator;
    let Some(url) = &told.url else { return Ok(None) };
    let token = told.token.as_ref().map_or("", |token| token.expose());
    Client::new(url, token, &settings.node.id).map(Some)
}

/// The output folder is made when it is missing, but not the disk that it should be on: only its last
/// part. On a thread, since that disk may hang.
fn make_folder(folder: PathBuf) {
    let (made, done) = bounded(1);
    let make = move || {
        let result = fs::create_dir(&folder);
        if let Err(e) = result.as_ref()
            && e.kind() != std::io::ErrorKind::AlreadyExists
        {
            tracing::warn!("cannot make the output folder {}: {e}", folder.display());
        }
        let _ = made.send(());
    };
    if thread::Builder::new().name("make-folder".into()).spawn(make).is_ok() {
        let _ = done.recv_timeout(FIRST_LOOK);
    }
}

fn lasting_faults() -> Vec<Fault> {
    if ENCODERS.iter().any(|(_, names)| names.iter().any(|name| has_encoder(name))) {
        return Vec::new();
    }
    let message = "the linked libav has no encoder for pictures (on Fedora, with RPM Fusion enabled: \
                   sudo dnf swap ffmpeg-free ffmpeg --allowerasing)";
    vec![Fault { code: "no_encoder".into(), message: message.into() }]
}

/// Who keeps outputs for a minute does not want them there for two.
fn house_every(output_ttl: Option<Duration>) -> Duration {
    output_ttl.map_or(HOUSE_EVERY, |ttl| (ttl / 10).clamp(HOUSE_AT_MOST_EVERY, HOUSE_EVERY))
}

/// The devices: looked at in a thread, unless nothing has changed since the last start.
fn inventory(settings: &Settings) -> Inventory {
    let inventory = Inventory::default();
    match Prober::new(&settings.hardware) {
        Ok(prober) => {
            let named = matches!(settings.hardware.acceleration, Acceleration::List(_));
            inventory.find_out(prober, named, &settings.paths.state);
        }
        Err(e) => {
            tracing::warn!("the devices are not looked at: this program's own file is not known: {e}");
            return Inventory::with(Report::empty());
        }
    }
    inventory
}

/// What this machine can do: the encoders of the linked libav, and what was seen of the devices.
fn capabilities(inventory: &Inventory) -> Value {
    let linked = ENCODERS.iter().flat_map(|(codec, names)| {
        names
            .iter()
            .filter(|name| has_encoder(name))
            .map(move |name| json!({ "codec": codec, "encoder": name, "device": "software" }))
    });
    json!({
        "libav": libav_version(),
        "encoders": linked.collect::<Vec<_>>(),
        "hardware": inventory.describe(),
    })
}
