//! `sprocket config`: the effective configuration, and where each value came from.
//!
//! What enters: the file, the environment. What leaves: YAML on stdout, oddities in the log; or every
//! fault at once, as one error. Nothing is changed.

use crate::base::error::{Error, ErrorKind, Result, Stage};
use crate::config::{self, Loaded, fault::Fault};
use std::io::{ErrorKind as IoKind, Write};
use std::path::Path;

/// Prints the effective configuration as YAML.
///
/// # Errors
/// `bad_config` with every fault, one a line; `io` when stdout cannot be written.
pub fn run(file: Option<&Path>) -> Result<()> {
    let loaded = load(file)?;
    log_oddities(&loaded);
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(loaded.to_yaml().as_bytes()).and_then(|()| stdout.flush()) {
        // Somebody has read enough.
        Err(e) if e.kind() == IoKind::BrokenPipe => Ok(()),
        written => written.map_err(|e| Error::io(Stage::Publish, "write to", Path::new("stdout"), &e)),
    }
}

/// Loads the configuration for a command. What is odd about it is the caller's to log
/// ([`log_oddities`]), once it knows how.
///
/// # Errors
/// `bad_config` with every fault, one a line.
pub fn load(file: Option<&Path>) -> Result<Loaded> {
    let folder = std::env::current_dir()
        .map_err(|e| Error::io(Stage::Plan, "find the working folder", Path::new("."), &e))?;
    config::load(file, std::env::vars_os(), &folder).map_err(|faults| bad_config(&faults))
}

/// Logs what is odd about a configuration.
pub fn log_oddities(loaded: &Loaded) {
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
}

fn bad_config(faults: &[Fault]) -> Error {
    let lines: Vec<_> = faults.iter().map(|fault| format!("\n  {fault}")).collect();
    let number = match faults.len() {
        1 => "1 fault".to_string(),
        n => format!("{n} faults"),
    };
    let message = format!("the configuration has {number}:{}\n", lines.concat());
    Error::new(ErrorKind::Usage, "bad_config", Stage::Plan, message)
        .hint("config/sprocket.example.yaml explains every key")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::fault::{KeyPath, Origin};

    #[test]
    fn faults_become_one_error_with_a_line_each() {
        let fault = |key: &str| Fault {
            path: KeyPath::dotted(key),
            value: Some("1".into()),
            origin: Origin::Variable("V".into()),
            expected: "must be 2".into(),
        };
        let error = bad_config(&[fault("a.b"), fault("c")]);
        assert_eq!((error.kind().exit_code(), error.code()), (2, "bad_config"));
        assert_eq!(
            error.message(),
            "the configuration has 2 faults:\n  a.b = 1 (V): must be 2\n  c = 1 (V): must be 2\n"
        );
        assert!(bad_config(&[fault("c")]).message().starts_with("the configuration has 1 fault:\n"));
    }
}
