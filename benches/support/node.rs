//! Our side: a node as a process, asked over a socket, a new connection for each request.

use crate::Result;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::runtime::Runtime;

const LIMIT: Duration = Duration::from_secs(60);

/// A node that runs as long as this is held.
pub struct Node {
    process: Child,
    runtime: Runtime,
    address: String,
    _room: TempDir,
}

/// The segments of one rendition: their addresses and lengths in seconds.
pub type Segments = Vec<(String, f64)>;

impl Node {
    /// A node whose one root, `films`, is the folder; with these settings besides.
    pub fn start(folder: &Path, settings: &str) -> Result<Self> {
        let room = tempfile::tempdir()?;
        let config = room.path().join("sprocket.yaml");
        std::fs::write(&config, config_of(folder, room.path(), settings)?)?;
        let mut command = Command::new(env!("CARGO_BIN_EXE_sprocket"));
        command.args(["serve", "--config"]).arg(&config).stderr(Stdio::piped()).env("NO_COLOR", "1");
        for (name, _) in
            std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("SPROCKET_"))
        {
            command.env_remove(name);
        }
        let mut process = command.spawn()?;
        let said = BufReader::new(process.stderr.take().ok_or("no stderr")?);
        let address = listening(said)?;
        // There may be one already; which one does not matter to a client that speaks plain HTTP.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Self { process, runtime, address, _room: room })
    }

    /// Where the files of the folder are played.
    pub fn media(&self, name: &str) -> String {
        format!("{}/vod/films/{name}", self.address)
    }

    /// The segments of a media playlist.
    pub fn stream(&self, playlist: &str) -> Result<Segments> {
        let folder = playlist.rsplit_once('/').ok_or("a playlist without a folder")?.0;
        let text = self.text(playlist)?;
        let lines: Vec<&str> = text.lines().collect();
        let segment = |pair: &[&str]| {
            let length = pair[0].strip_prefix("#EXTINF:")?.trim_end_matches(',').parse().ok()?;
            Some((format!("{folder}/{}", pair[1]), length))
        };
        Ok(lines.windows(2).filter_map(segment).collect())
    }

    /// Asks for a URL over a new connection and hands on what comes, each piece with the time since the
    /// request. How long it took in all.
    pub fn get(&self, url: &str, mut take: impl FnMut(&[u8], Duration)) -> Result<Duration> {
        self.runtime.block_on(async {
            let client = reqwest::Client::builder().no_proxy().build()?;
            let begin = Instant::now();
            let mut answer = client.get(url).send().await?.error_for_status()?;
            while let Some(part) = answer.chunk().await? {
                take(&part, begin.elapsed());
            }
            Ok(begin.elapsed())
        })
    }

    /// What was made ahead has been, so that the other side has the machine to itself.
    pub fn wait_until_it_rests(&self) -> Result<()> {
        let (begin, mut seen) = (Instant::now(), 0);
        while begin.elapsed() < LIMIT {
            let metrics = self.text(&format!("{}/metrics", self.address))?;
            let figure = |name: &str| {
                let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
                line.and_then(|value| value.parse::<f64>().ok())
            };
            let runs = figure("sprocket_streams").ok_or("the node tells nothing of its streams")?;
            seen = if Some(runs) == figure("sprocket_streams_resting") { seen + 1 } else { 0 };
            // Twice: between two segments a run may seem to.
            if seen == 2 {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(30));
        }
        Err("the node does not rest".into())
    }

    /// The text that lies there.
    pub fn text(&self, url: &str) -> Result<String> {
        let mut bytes = Vec::new();
        self.get(url, |part, _| bytes.extend_from_slice(part))?;
        Ok(String::from_utf8(bytes)?)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn config_of(folder: &Path, room: &Path, settings: &str) -> Result<String> {
    let mut text = String::new();
    std::fs::create_dir(room.join("output"))?;
    std::fs::create_dir(room.join("state"))?;
    writeln!(text, "paths:")?;
    writeln!(text, "  roots: [ {{ name: films, uri: 'nas://films', local: '{}' }} ]", folder.display())?;
    writeln!(text, "  output: {{ uri: 'nas://out', local: '{}' }}", room.join("output").display())?;
    writeln!(text, "  state: '{}'", room.join("state").display())?;
    writeln!(text, "http: {{ listen: '127.0.0.1:0' }}")?;
    writeln!(text, "limits: {{ min_free_disk: 1MiB }}")?;
    writeln!(text, "{settings}")?;
    Ok(text)
}

/// Where it listens, as it says; what else it says is read on and forgotten.
fn listening(mut said: BufReader<ChildStderr>) -> Result<String> {
    let mut line = String::new();
    while said.read_line(&mut line)? > 0 {
        if let Some((_, rest)) = line.split_once("http://127.0.0.1:") {
            let port: String = rest.chars().take_while(char::is_ascii_digit).collect();
            std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
            return Ok(format!("http://127.0.0.1:{port}"));
        }
        line.clear();
    }
    Err("the node did not start".into())
}
