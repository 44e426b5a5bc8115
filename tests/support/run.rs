//! Running commands, `sprocket` above all, with a time limit, and saying what has to come back.
//!
//! A child that does not end in time is killed and the test fails: nothing here can hang, and nothing
//! sleeps. A command has ended when both its pipes are closed.

use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// Far above what any test needs, far below what a hung machine would take.
pub const LIMIT: Duration = Duration::from_secs(120);

/// What a command left behind.
pub struct Outcome {
    /// The command as a person would type it.
    pub command: String,
    /// Exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: String,
}

impl Outcome {
    /// Standard output as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Demands exit code 0.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(self.code, Some(0), "{}\n{}", self.command, self.stderr);
        self
    }

    /// The one line that begins with `error:`.
    #[track_caller]
    pub fn error_line(&self) -> &str {
        let lines: Vec<&str> = self.stderr.lines().filter(|l| l.starts_with("error: ")).collect();
        assert_eq!(lines.len(), 1, "one error line is promised\n{}\n{}", self.command, self.stderr);
        lines[0]
    }

    /// Demands the exit code, the code in brackets, and that the line names what it is about.
    #[track_caller]
    pub fn failed(&self, exit: i32, code: &str, names: &str) {
        assert_eq!(self.code, Some(exit), "{}\n{}", self.command, self.stderr);
        let line = self.error_line();
        assert!(
            line.contains(&format!("[{code} at ")) && line.ends_with(']'),
            "code {code} is missing in: {line}"
        );
        assert!(line.to_lowercase().contains(&names.to_lowercase()), "{names:?} is not named in: {line}");
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
    }

    /// The lines that warn.
    pub fn warnings(&self) -> Vec<&str> {
        self.stderr.lines().filter(|l| l.to_lowercase().contains("warning")).collect()
    }
}

/// The program under test.
pub fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_sprocket"))
}

/// `sprocket ARGUMENTS`.
#[track_caller]
pub fn sprocket<S: AsRef<OsStr>>(arguments: &[S]) -> Outcome {
    let mut command = program();
    command.args(arguments);
    finish(command)
}

/// `sprocket transcode INPUT -o OUT MORE`.
#[track_caller]
pub fn transcode(input: &Path, out: &Path, more: &[&str]) -> Outcome {
    let mut command = program();
    command.arg("transcode").arg(input).arg("-o").arg(out).args(more);
    finish(command)
}

/// Runs any command to its end, within [`LIMIT`].
#[track_caller]
pub fn finish(mut command: Command) -> Outcome {
    let shown = show(&command);
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let child = child.unwrap_or_else(|e| panic!("cannot start {shown}: {e}"));
    collect(child, shown)
}

/// Reads both pipes to their end, then reaps the child.
#[track_caller]
pub fn collect(mut child: Child, command: String) -> Outcome {
    let (ended, waiting) = mpsc::channel();
    let stdout = child.stdout.take().map(|pipe| drain(pipe, ended.clone()));
    let stderr = child.stderr.take().map(|pipe| drain(pipe, ended.clone()));
    for _ in 0..usize::from(stdout.is_some()) + usize::from(stderr.is_some()) {
        if waiting.recv_timeout(LIMIT).is_err() {
            let _ = child.kill();
            let _ = child.wait();
            panic!("still running after {LIMIT:?}: {command}");
        }
    }
    let status = child.wait().unwrap_or_else(|e| panic!("{command}: {e}"));
    let bytes = |pipe: Option<thread::JoinHandle<Vec<u8>>>| {
        pipe.map_or_else(Vec::new, |p| p.join().unwrap_or_default())
    };
    let mut stderr = String::from_utf8_lossy(&bytes(stderr)).into_owned();
    if let Some(signal) = status.signal() {
        stderr.push_str(&format!("\n(ended by signal {signal})"));
    }
    Outcome { command, code: status.code(), stdout: bytes(stdout), stderr }
}

fn drain(mut pipe: impl Read + Send + 'static, ended: mpsc::Sender<()>) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // A pipe that breaks has ended too; what came before it is what there is.
        let _ = pipe.read_to_end(&mut bytes);
        let _ = ended.send(());
        bytes
    })
}

/// The command line, for messages.
pub fn show(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|w| w.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

/// Whether this system has a command of that name.
pub fn has_command(name: &str) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&paths).any(|folder| folder.join(name).is_file())
}

/// Says loudly that a test did not do its work, and why.
pub fn skip(reason: &str) {
    eprintln!("skipped: {reason}");
}
