//! The command line: one file for each command (contract, section 1).
//!
//! What enters: arguments, signals. What leaves: an exit code (0 done, 1 the work failed, 2 bad usage,
//! 130 cancelled by a signal), messages on stderr, and on stdout nothing but what was asked for as
//! data. Words are parsed in [`args`]; what they mean is decided in `model` and `media`.

use crate::base::cancel::Cancel;
use crate::base::error::{Error, ErrorKind, Result};
use clap::{Parser, Subcommand};
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

pub mod args;
pub mod check;
pub mod config;
pub mod doctor;
pub mod inspect;
pub mod probe;
pub mod progress;
pub mod serve;
mod signals;
pub mod transcode;

/// Where the log level is set, in the words of `tracing_subscriber::EnvFilter`.
const LOG_VARIABLE: &str = "SPROCKET_LOG";
/// libav's complaints are data for the error message, and a run's warnings are printed by the command.
const DEFAULT_LOG: &str = "warn,libav=error,sprocket::media::progress=error";
/// Lines of libav's that are printed below an error.
const LIBAV_LINES: usize = 5;

/// A media transcoding node.
#[derive(Debug, Parser)]
#[command(name = "sprocket", version, about, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make HLS, MP4, MKV or TS of a media file
    Transcode(Box<args::TranscodeArgs>),
    /// Say what a media file is and what would be done with it
    Inspect {
        /// The media file
        input: PathBuf,
        /// As JSON on stdout
        #[arg(long)]
        json: bool,
    },
    /// Say which of the rules that televisions need an HLS stream keeps, and where it breaks one
    Check(check::CheckArgs),
    /// Run the node: take jobs over HTTP
    Serve {
        /// The configuration file [default: $SPROCKET_CONFIG, ./sprocket.yaml, /etc/sprocket/sprocket.yaml]
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Check configuration, folders, libav, hardware and orchestrator, and say how to mend what fails
    Doctor {
        /// The configuration file [default: $SPROCKET_CONFIG, ./sprocket.yaml, /etc/sprocket/sprocket.yaml]
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Try every encoder and decoder of every device, and say what works and why the rest does not
    Probe {
        /// The configuration file [default: $SPROCKET_CONFIG, ./sprocket.yaml, /etc/sprocket/sprocket.yaml]
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// As JSON on stdout
        #[arg(long)]
        json: bool,
    },
    /// One trial of the prober, in a process of its own
    #[command(hide = true, name = crate::hardware::child::WORD)]
    HardwareTrial {
        /// What to try
        order: String,
    },
    /// Print the effective configuration, and for each value where it came from
    Config {
        /// The configuration file [default: $SPROCKET_CONFIG, ./sprocket.yaml, /etc/sprocket/sprocket.yaml]
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
}

/// Parses the arguments, does as they say, and returns the exit code.
pub fn run() -> ExitCode {
    crate::av::registry::settle_allocator();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => {
            // Help goes to stdout with code 0, a refusal to stderr with code 2. A closed pipe is no news.
            let _ = e.print();
            return ExitCode::from(u8::try_from(e.exit_code()).unwrap_or(2));
        }
    };
    match dispatch(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            complain(&e);
            ExitCode::from(e.kind().exit_code())
        }
    }
}

fn dispatch(command: Command) -> Result<()> {
    // What the node logs, and how, is in its configuration; and a signal does not cancel it but stops it.
    if let Command::Serve { config } = &command {
        return serve::run(config.as_deref());
    }
    // A driver may do anything to this process, and its parent ends it.
    if let Command::HardwareTrial { order } = &command {
        return probe::trial(order);
    }
    start_logging();
    let cancel = Cancel::new();
    signals::cancel_on_signals(&cancel)?;
    match command {
        Command::Transcode(args) => transcode::run(&args, &cancel),
        Command::Inspect { input, json } => inspect::run(&input, json, &cancel),
        Command::Check(args) => check::run(&args, &cancel),
        Command::Config { config } => config::run(config.as_deref()),
        Command::Doctor { config } => doctor::run(config.as_deref(), &cancel),
        Command::Probe { config, json } => probe::run(config.as_deref(), json),
        Command::Serve { config } => serve::run(config.as_deref()),
        Command::HardwareTrial { order } => probe::trial(&order),
    }
}

fn start_logging() {
    let filter = EnvFilter::try_from_env(LOG_VARIABLE).unwrap_or_else(|_| EnvFilter::new(DEFAULT_LOG));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(|| progress::BesideBar);
    // Fails only when there is a subscriber already.
    let _ = log.with_target(false).try_init();
}

/// A line on stderr, above the progress bar if there is one.
fn say(line: &str) {
    let _ = writeln!(progress::BesideBar, "{line}");
}

fn complain(error: &Error) {
    if error.is_cancelled() {
        say("cancelled");
        return;
    }
    say(&format!("error: {error}"));
    // A full disk or a missing file explains itself.
    let libav_may_know =
        matches!(error.kind(), ErrorKind::BadSource | ErrorKind::Unsupported | ErrorKind::Internal);
    let lines = error.libav_log();
    for line in lines.iter().skip(lines.len().saturating_sub(LIBAV_LINES)).filter(|_| libav_may_know) {
        say(&format!("  {line}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;
    use clap::error::ErrorKind as ClapKind;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn bad_usage_exits_with_two_and_help_with_nought() {
        let code = |words: &[&str]| Cli::try_parse_from(words).unwrap_err().exit_code();
        assert_eq!(code(&["sprocket", "transcode", "a.mkv"]), 2, "-o is missing");
        assert_eq!(code(&["sprocket", "transcode", "a.mkv", "-o", "b", "--crf", "x"]), 2);
        assert_eq!(code(&["sprocket"]), 2);
        assert_eq!(code(&["sprocket", "--help"]), 0);
        let err = Cli::try_parse_from(["sprocket", "transcode", "a", "b", "-o", "c"]).unwrap_err();
        assert_eq!(err.kind(), ClapKind::UnknownArgument, "one input only");
    }

    #[test]
    fn inspect_takes_a_path_and_a_flag() {
        let cli = Cli::try_parse_from(["sprocket", "inspect", "a.mkv", "--json"]).unwrap();
        assert!(matches!(cli.command, Command::Inspect { json: true, .. }));
    }
}
