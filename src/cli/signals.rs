//! Signals become the run's abort flag.

use crate::base::cancel::Cancel;
use crate::base::error::{Error, Result, Stage};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level::exit;
use std::thread;
use tokio_util::sync::CancellationToken;

/// Exit code after a signal, as shells count it for SIGINT and as the contract says for both.
const EXIT_CANCELLED: i32 = 130;

/// From now on SIGINT and SIGTERM cancel the token. A second one ends the process at once.
pub(super) fn shutdown_on_signals(shutdown: &CancellationToken) -> Result<()> {
    let shutdown = shutdown.clone();
    on_signals(move || shutdown.cancel())
}

/// From now on SIGINT and SIGTERM set the flag. A second one ends the process at once, whatever it is
/// doing: somebody who asks twice does not want to wait for a disk.
pub(super) fn cancel_on_signals(cancel: &Cancel) -> Result<()> {
    let cancel = cancel.clone();
    on_signals(move || cancel.cancel())
}

fn on_signals(first: impl FnOnce() + Send + 'static) -> Result<()> {
    let cannot = |e: std::io::Error| Error::internal(Stage::Plan, format!("cannot listen for signals: {e}"));
    let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(cannot)?;
    let listen = move || {
        let mut coming = signals.forever();
        if coming.next().is_some() {
            first();
        }
        if coming.next().is_some() {
            exit(EXIT_CANCELLED);
        }
    };
    thread::Builder::new().name("signals".into()).spawn(listen).map(|_| ()).map_err(cannot)
}
