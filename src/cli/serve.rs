//! `sprocket serve`: the node.
//!
//! What enters: the configuration, signals. What leaves: logs on stderr, and the exit code: 0 after a
//! signal, 1 when the node cannot start, 2 for a configuration that is wrong.

use super::{LOG_VARIABLE, config, signals};
use crate::app;
use crate::base::error::Result;
use crate::config::settings::{Log, LogFormat, LogLevel};
use std::io::{self, IsTerminal};
use std::path::Path;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// Runs the node until SIGINT or SIGTERM.
///
/// # Errors
/// `bad_config` with every fault; what keeps the node from starting.
pub fn run(file: Option<&Path>) -> Result<()> {
    let loaded = config::load(file)?;
    start_logging(loaded.settings.log);
    config::log_oddities(&loaded);
    tracing::info!(
        "sprocket {} with {}, {}",
        env!("CARGO_PKG_VERSION"),
        crate::media::libav_version(),
        loaded.file.as_ref().map_or("no configuration file".into(), |file| file.display().to_string())
    );
    let shutdown = CancellationToken::new();
    signals::shutdown_on_signals(&shutdown)?;
    app::serve(loaded.settings, &shutdown)
}

fn start_logging(log: Log) {
    let level = match log.level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "info",
        LogLevel::Debug => "debug",
        LogLevel::Trace => "trace",
    };
    // libav's complaints about a source are in the job's own error; the libraries below ours are
    // talkative at the levels that help with ours.
    let usual = format!("warn,sprocket={level},libav=error,sprocket::media::progress=error");
    let filter = EnvFilter::try_from_env(LOG_VARIABLE).unwrap_or_else(|_| EnvFilter::new(usual));
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_target(false);
    let lines = lines.with_ansi(io::stderr().is_terminal());
    // Fails only when there is a subscriber already.
    let _ = match log.format {
        LogFormat::Text => lines.try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
}
