//! From what was written to what is meant: ranges, contradictions, and everything left to the node.
//!
//! What enters: the written configuration, right in its shape, and the facts of the host. What
//! leaves: settings, the written configuration with every choice filled in, and all complaints at
//! once, by key path. Where a value came from is not known here. Reads the files that hold tokens,
//! and nothing else.

mod network;
mod places;

use super::fault::KeyPath;
use super::host::{Host, node_id};
use super::raw::{self, AccelerationWord, Raw};
use super::settings::{Acceleration, Device, Hardware, Limits, Log, Node, Settings, Stream};
use super::values::{SizeText, TimeText};
use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

/// Something wrong with the meaning of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    /// The key.
    pub path: KeyPath,
    /// What would be right.
    pub expected: String,
}

/// A choice that was left to the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The key.
    pub path: KeyPath,
    /// What the choice went by.
    pub why: &'static str,
}

/// What came of it. The settings hold only if there is no complaint.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// What the program uses.
    pub settings: Settings,
    /// The written configuration with every choice filled in.
    pub effective: Raw,
    /// The choices.
    pub notes: Vec<Note>,
    /// What is wrong.
    pub complaints: Vec<Complaint>,
    /// What is odd, but legal.
    pub warnings: Vec<String>,
}

/// Works out what `raw` means on `host`.
pub fn resolve(raw: &Raw, host: &Host) -> Resolved {
    let mut desk =
        Desk { raw, host, effective: raw.clone(), notes: vec![], complaints: vec![], warnings: vec![] };
    let settings = Settings {
        node: desk.node(),
        paths: desk.paths(),
        limits: desk.limits(),
        hardware: desk.hardware(),
        http: desk.http(),
        orchestrator: desk.orchestrator(),
        stream: desk.stream(),
        log: Log { format: raw.log.format, level: raw.log.level },
    };
    let Desk { effective, notes, mut complaints, warnings, .. } = desk;
    // What follows from a fault is no second fault: the first word on a key is the nearest to it.
    let mut told = BTreeSet::new();
    complaints.retain(|complaint| told.insert(complaint.path.clone()));
    Resolved { settings, effective, notes, complaints, warnings }
}

/// The work in progress.
struct Desk<'a> {
    raw: &'a Raw,
    host: &'a Host,
    effective: Raw,
    notes: Vec<Note>,
    complaints: Vec<Complaint>,
    warnings: Vec<String>,
}

impl Desk<'_> {
    fn complain(&mut self, path: KeyPath, expected: impl Into<String>) {
        self.complaints.push(Complaint { path, expected: expected.into() });
    }

    fn note(&mut self, key: &str, why: &'static str) {
        self.notes.push(Note { path: KeyPath::dotted(key), why });
    }

    /// A length of time from `low` to `high`, both as they would be written.
    fn time(&mut self, key: &str, text: &TimeText, low: &str, high: &str) -> Duration {
        let bound = |text: &str| TimeText::new(text).duration().unwrap_or_default();
        match text.duration() {
            Some(time) if (bound(low)..=bound(high)).contains(&time) => time,
            _ => {
                self.complain(KeyPath::dotted(key), format!("must be a length of time from {low} to {high}"));
                bound(low)
            }
        }
    }

    fn size(&mut self, key: &str, text: &SizeText) -> u64 {
        let read = text.bytes();
        if read.is_none() {
            self.complain(KeyPath::dotted(key), "must be a size below 16 EiB, such as 2GiB or 500MB");
        }
        read.unwrap_or_default()
    }

    fn node(&mut self) -> Node {
        let raw::Node { id, tags } = &self.raw.node;
        if id.is_empty() {
            self.effective.node.id = node_id(&self.host.name);
            self.note("node.id", "the host name");
        } else if !is_segment(id) {
            self.complain(KeyPath::dotted("node.id"), SEGMENT);
        }
        Node { id: self.effective.node.id.clone(), tags: tags.clone() }
    }

    /// Cores that the node may use.
    fn cores(&self) -> u32 {
        match self.raw.limits.max_cpu_cores {
            0 => self.host.cores,
            most => self.host.cores.min(most),
        }
        .max(1)
    }

    fn limits(&mut self) -> Limits {
        let limits = &self.raw.limits;
        if limits.max_concurrent_jobs == 0 {
            // An encoder scales well to four cores or so; a board with fewer has one slot.
            self.effective.limits.max_concurrent_jobs = self.cores().div_ceil(4);
            self.note("limits.max_concurrent_jobs", "from the cores allowed");
        }
        let ttl = self.time_or_nought("limits.output_ttl", &limits.output_ttl);
        Limits {
            max_concurrent_jobs: self.effective.limits.max_concurrent_jobs,
            max_queued_jobs: limits.max_queued_jobs,
            max_cpu_cores: limits.max_cpu_cores,
            min_free_disk_bytes: self.size("limits.min_free_disk", &limits.min_free_disk),
            open_timeout: self.time("limits.open_timeout", &limits.open_timeout, "100ms", "1h"),
            stall_timeout: self.time("limits.stall_timeout", &limits.stall_timeout, "100ms", "1d"),
            output_ttl: (!ttl.is_zero()).then_some(ttl),
            history: self.time("limits.history", &limits.history, "1s", "3650d"),
        }
    }

    fn time_or_nought(&mut self, key: &str, text: &TimeText) -> Duration {
        match text.duration() {
            Some(Duration::ZERO) => Duration::ZERO,
            _ => self.time(key, text, "1s", "3650d"),
        }
    }

    fn hardware(&mut self) -> Hardware {
        let raw::Hardware { acceleration, vaapi_device, on_failure } = &self.raw.hardware;
        let acceleration = match acceleration {
            raw::Acceleration::One(word) => of_word(*word),
            raw::Acceleration::List(devices) => Acceleration::List(devices.clone()),
        };
        if let Acceleration::List(devices) = &acceleration {
            let key = KeyPath::dotted("hardware.acceleration");
            let kinds: HashSet<_> = devices.iter().collect();
            match (kinds.is_empty(), kinds.len() == devices.len()) {
                (true, _) => self.complain(key, "must name a kind of device, or be off"),
                (_, false) => self.complain(key, "must name each kind of device once"),
                _ => {}
            }
        }
        let vaapi_device = self.local_path(KeyPath::dotted("hardware.vaapi_device"), vaapi_device);
        Hardware { acceleration, vaapi_device, on_failure: *on_failure }
    }

    fn stream(&mut self) -> Stream {
        let stream = &self.raw.stream;
        if stream.max_sessions == 0 {
            self.effective.stream.max_sessions = self.cores().div_ceil(2);
            self.note("stream.max_sessions", "from the cores allowed");
        }
        Stream {
            segment_duration: self.time("stream.segment_duration", &stream.segment_duration, "500ms", "60s"),
            segment_type: stream.segment_type,
            cache_max_bytes: self.size("stream.cache_max_bytes", &stream.cache_max_bytes),
            cache_memory_bytes: self.size("stream.cache_memory_bytes", &stream.cache_memory_bytes),
            max_sessions: self.effective.stream.max_sessions,
            read_ahead: stream.read_ahead,
            idle_timeout: self.time("stream.idle_timeout", &stream.idle_timeout, "1s", "1d"),
        }
    }
}

fn of_word(word: AccelerationWord) -> Acceleration {
    let device = match word {
        AccelerationWord::Auto => return Acceleration::Auto,
        AccelerationWord::Off => return Acceleration::Off,
        AccelerationWord::Vaapi => Device::Vaapi,
        AccelerationWord::Nvenc => Device::Nvenc,
        AccelerationWord::Videotoolbox => Device::Videotoolbox,
        AccelerationWord::Qsv => Device::Qsv,
        AccelerationWord::Vulkan => Device::Vulkan,
    };
    Acceleration::List(vec![device])
}

const SEGMENT: &str = "must be 1 to 64 of A-Z a-z 0-9 . _ -, not beginning with a dot";

/// Fit to stand between two slashes of a URL without encoding, and no hidden file.
fn is_segment(text: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    (1..=64).contains(&text.len()) && !text.starts_with('.') && text.chars().all(fits)
}

#[cfg(test)]
mod tests;
