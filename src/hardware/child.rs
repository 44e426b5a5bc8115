//! A trial in a child of this binary, with a deadline.
//!
//! What enters: an order and how long it may take. What leaves: the answer, or what became of the child, as a
//! reason like any other: a driver that crashes or hangs costs that trial and nothing else. The child ends
//! with this process: its standard input closes then.

use super::report::Reason;
use super::trial::{Answer, Order};
use crossbeam_channel::{Receiver, bounded};
use std::io::{self, Read};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

/// The hidden subcommand.
pub const WORD: &str = "hardware-trial";
/// More than any answer.
const MOST_BYTES: u64 = 4 << 20;
/// How long a process that was killed may take to be gone before it is left to a thread.
const REAPING: Duration = Duration::from_millis(300);

/// Has `order` performed by a child that is `program`.
pub fn ask(program: &Path, order: &Order, limit: Duration) -> Result<Answer, Reason> {
    let text = serde_json::to_string(order).unwrap_or_default();
    let mut command = Command::new(program);
    command.args([WORD, &text]);
    let text = output(&mut command, limit)?;
    serde_json::from_str(&text)
        .map_err(|e| Reason::new("no_answer", format!("a trial gave an answer that is none: {e}")))
}

/// What the `ffmpeg` command says of its encoders: the one place where this program may run it.
pub fn ffmpeg_encoders(command: &str, limit: Duration) -> Result<String, Reason> {
    output(Command::new(command).args(["-hide_banner", "-encoders"]), limit)
}

/// What a command prints, or what became of it.
fn output(command: &mut Command, limit: Duration) -> Result<String, Reason> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let cannot = |e: io::Error| Reason::new("no_process", format!("a trial cannot be started: {e}"));
    let mut child = command.spawn().map_err(cannot)?;
    // Held open until the child is done with.
    let stdin = child.stdin.take();
    let text = printed(&mut child).map_err(cannot)?.recv_timeout(limit);
    if text.is_err() {
        // It may have ended just now: then there is nothing to kill.
        let _ = child.kill();
    }
    let status = reap(child).recv_timeout(REAPING).ok();
    drop(stdin);
    match (text, status) {
        (Ok(text), Some(status)) if status.success() => Ok(text),
        (Ok(_), status) => Err(died(status)),
        (Err(_), _) => {
            let message = format!("no answer within {} s: the driver hangs", limit.as_secs_f64());
            Err(Reason::new("timed_out", message)
                .hint("update the driver; the kernel's log (dmesg) may say more"))
        }
    }
}

/// All that it prints, once it has ended or closed its output.
fn printed(child: &mut Child) -> io::Result<Receiver<String>> {
    let (tx, rx) = bounded(1);
    let out = child.stdout.take().ok_or_else(|| io::Error::other("it has no output"))?;
    thread::Builder::new().name("trial-out".into()).spawn(move || {
        let mut text = Vec::new();
        let _ = out.take(MOST_BYTES).read_to_end(&mut text);
        let _ = tx.send(String::from_utf8_lossy(&text).into_owned());
    })?;
    Ok(rx)
}

/// Waits for it in a thread: a process that hangs in the kernel does not go even when it is killed.
fn reap(mut child: Child) -> Receiver<ExitStatus> {
    let (tx, rx) = bounded(1);
    let body = move || {
        if let Ok(status) = child.wait() {
            let _ = tx.send(status);
        }
    };
    // Without a thread to wait it stays a zombie until this process ends.
    let _ = thread::Builder::new().name("trial-reap".into()).spawn(body);
    rx
}

fn died(status: Option<ExitStatus>) -> Reason {
    let how = status.map_or_else(|| "does not end".into(), |status| status.to_string());
    Reason::new("crashed", format!("the driver ended the trial: {how}"))
        .hint("update the driver; the kernel's log (dmesg) may say more")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn what_a_child_prints_is_its_answer() {
        assert_eq!(output(&mut shell("echo yes"), Duration::from_secs(20)).unwrap(), "yes\n");
    }

    #[test]
    fn a_child_that_dies_hangs_or_cannot_start_is_a_reason() {
        let limit = Duration::from_secs(20);
        let code = |script: &str, limit| output(&mut shell(script), limit).unwrap_err().code;
        assert_eq!(code("kill -SEGV $$", limit), "crashed");
        assert_eq!(code("exit 4", limit), "crashed");
        assert_eq!(code("exec sleep 600", Duration::from_millis(100)), "timed_out");
        let none = output(&mut Command::new("/nowhere/sprocket"), limit).unwrap_err();
        assert_eq!(none.code, "no_process");
    }

    #[test]
    fn a_child_sees_its_parent_go_by_its_input() {
        // `cat` ends when its input does: that is when the answer has been read and not before.
        let held = output(&mut shell("exec cat"), Duration::from_millis(200)).unwrap_err();
        assert_eq!(held.code, "timed_out", "the input stays open as long as the parent waits");
    }
}
