//! What a comparison with the `ffmpeg` command is from the outside: run by `cargo bench`, and by nothing else.

use std::error::Error;
use std::process::ExitCode;

/// Anything that keeps a measurement from being made, in words for the person at the terminal.
pub type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// Compares where `cargo bench` asks for it. `cargo test` starts benches too, without their flag: then it
/// prints `otherwise`.
pub fn run(otherwise: &str, compare: fn() -> Result<()>) -> ExitCode {
    if !std::env::args().any(|arg| arg == "--bench") {
        println!("{otherwise}");
        return ExitCode::SUCCESS;
    }
    match compare() {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::FAILURE
        }
    }
}
