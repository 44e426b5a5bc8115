//! The prober: every device and codec, tried and not believed.
//!
//! What enters: which kinds may be touched, how long it may take. What leaves: a [`Report`]. Each trial runs
//! in a child with a deadline, several at once; what is not reached in time is claimed and not proven.

use super::backend::Kind;
use super::child;
use super::listing::{self, Listing};
use super::nodes;
use super::report::{CodecReport, DeviceReport, Direction, Reason, Report, Source, Verdict};
use super::trial::{Answer, Order, Place, Subject};
use crate::config::settings::{Acceleration, Hardware};
use crate::model::track::VideoCodec;
use crossbeam_channel::unbounded;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

/// How long the whole may take.
const WHOLE: Duration = Duration::from_millis(9500);
/// How long one trial may take.
const TRIAL: Duration = Duration::from_secs(4);
/// How long it may take to say what is linked; then again for the command.
const LISTING: Duration = Duration::from_secs(3);
/// Trials at once: they wait for drivers more than they compute.
const AT_ONCE: usize = 4;
const CODECS: [VideoCodec; 4] = [VideoCodec::H264, VideoCodec::Hevc, VideoCodec::Av1, VideoCodec::Vp9];

/// What the prober works with.
#[derive(Clone, Debug)]
pub struct Prober {
    /// This binary.
    pub program: PathBuf,
    /// The command that stands in where libav cannot be asked.
    pub ffmpeg: String,
    /// The kinds that may be touched, the best first.
    pub kinds: Vec<Kind>,
    /// The render node of VA-API.
    pub vaapi_device: PathBuf,
}

impl Prober {
    /// As the configuration has it, with this process's binary.
    ///
    /// # Errors
    /// The system does not say which file this process was started from.
    pub fn new(hardware: &Hardware) -> std::io::Result<Self> {
        Ok(Self {
            program: std::env::current_exe()?,
            ffmpeg: "ffmpeg".into(),
            kinds: kinds(&hardware.acceleration),
            vaapi_device: hardware.vaapi_device.clone(),
        })
    }

    /// Whether the files are there through which a device is reached, without touching any.
    pub fn sees_a_device(&self) -> bool {
        let by_file = [Kind::Nvenc, Kind::Qsv, Kind::Vaapi];
        self.kinds.iter().any(|kind| match kind {
            Kind::Videotoolbox => cfg!(target_os = "macos"),
            kind => by_file.contains(kind) && self.why_not(*kind).is_none(),
        })
    }

    /// Tries everything. Takes ten seconds at most.
    pub fn probe(&self) -> Report {
        let begun = Instant::now();
        let listing = listing::find(&self.program, &self.ffmpeg, LISTING);
        let devices = match &listing.source {
            Source::Libav => self.try_devices(&listing, begun + WHOLE),
            Source::Command { because } => self.claimed(&listing, because),
        };
        let took_ms = millis(begun.elapsed());
        Report { libav: listing.libav, listing: listing.source, devices, took_ms }
    }

    fn try_devices(&self, listing: &Listing, end: Instant) -> Vec<DeviceReport> {
        let mut devices: Vec<DeviceReport> =
            in_parallel(&self.kinds, |kind| self.try_device(*kind, listing, end));
        let tasks: Vec<(usize, CodecReport)> = (0..)
            .zip(&devices)
            .flat_map(|(at, device)| self.candidates(device, listing).into_iter().map(move |c| (at, c)))
            .collect();
        let tried = in_parallel(&tasks, |(at, codec)| {
            let device = devices.get(*at);
            (*at, device.map_or_else(|| codec.clone(), |device| self.try_codec(device, codec, end)))
        });
        for (at, codec) in tried {
            if let Some(device) = devices.get_mut(at) {
                device.codecs.push(codec);
            }
        }
        devices
    }

    fn place(&self, kind: Kind) -> Place {
        let node = (kind == Kind::Vaapi).then(|| self.vaapi_device.to_string_lossy().into_owned());
        Place { kind, node }
    }

    /// Why the files are not there without which the device cannot work.
    fn why_not(&self, kind: Kind) -> Option<Reason> {
        let mut groups = kind.backend().node_groups();
        if kind == Kind::Vaapi {
            groups.push(vec![self.vaapi_device.clone()]);
        }
        groups.iter().find_map(|group| nodes::why_not(group, kind.backend().absent_hint()))
    }

    fn try_device(&self, kind: Kind, listing: &Listing, end: Instant) -> DeviceReport {
        let place = self.place(kind);
        let none = Reason::new("no_device", "the device does not open");
        let mut report = DeviceReport {
            kind,
            node: place.node.clone(),
            name: None,
            software: false,
            verdict: Verdict::Proven,
            scaling: Verdict::Refused(none),
            codecs: Vec::new(),
        };
        let Some(device_type) = kind.backend().device_type() else {
            // Its encoders find it themselves; what is missing is said before they are asked.
            report.verdict = self.why_not(kind).map_or(Verdict::Proven, Verdict::Refused);
            report.scaling = Verdict::Refused(Reason::new("no_filter", "this kind of device has no filters"));
            return report;
        };
        if !listing.devices.iter().any(|linked| linked == device_type) {
            report.verdict = Verdict::Refused(not_linked(kind, device_type));
            report.scaling = report.verdict.clone();
            return report;
        }
        match self.ask(&Order::Device(place), end) {
            Ok(Answer::Opened { name, software, scaling }) => {
                (report.name, report.software) = (name, software);
                report.scaling = scaling.map_or(Verdict::Proven, Verdict::Refused);
            }
            other => {
                report.verdict = self.refused(kind, other);
                report.scaling = report.verdict.clone();
            }
        }
        report
    }

    fn ask(&self, order: &Order, end: Instant) -> Result<Answer, Reason> {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(Answer::Untried(
                Reason::new("no_time", "it was not tried: other trials took all the time there is")
                    .hint("run sprocket probe on a machine at rest"),
            ));
        }
        child::ask(&self.program, order, left.min(TRIAL))
    }

    /// The verdict over what was not done. A file that is missing explains more than what libav says of it.
    fn refused(&self, kind: Kind, answer: Result<Answer, Reason>) -> Verdict {
        match answer {
            Ok(Answer::Untried(reason)) => Verdict::Claimed(reason),
            Ok(Answer::Failed(reason)) | Err(reason) => Verdict::Refused(match self.why_not(kind) {
                Some(missing) if reason.code != "crashed" && reason.code != "timed_out" => {
                    missing.libav(reason.libav.unwrap_or(reason.message))
                }
                _ => reason,
            }),
            Ok(_) => Verdict::Refused(Reason::new("no_answer", "a trial answered something else")),
        }
    }

    /// The codecs that a device may have, not tried yet.
    fn candidates(&self, device: &DeviceReport, listing: &Listing) -> Vec<CodecReport> {
        let backend = device.kind.backend();
        let mut found = Vec::new();
        for codec in CODECS {
            let encoder = backend.encoder(codec).and_then(|name| listing.encoder(name));
            let decoder = backend.device_type().and_then(|kind| decoder(listing, codec, kind));
            let ways = [(Direction::Encode, encoder.map(|e| &e.name)), (Direction::Decode, decoder)];
            for (direction, name) in ways.into_iter().filter_map(|(way, name)| Some((way, name?.clone()))) {
                found.extend(depths(device.kind, codec).iter().map(|&bit_depth| CodecReport {
                    direction,
                    codec,
                    bit_depth,
                    name: name.clone(),
                    verdict: device.verdict.clone(),
                    sessions: None,
                    took_ms: 0,
                }));
            }
        }
        found
    }

    fn try_codec(&self, device: &DeviceReport, codec: &CodecReport, end: Instant) -> CodecReport {
        let mut codec = codec.clone();
        // What does not open is not tried with each of its codecs; without a device there is only the codec.
        if !device.verdict.is_proven() && device.kind.backend().device_type().is_some() {
            return codec;
        }
        let begun = Instant::now();
        let subject = Subject { codec: codec.codec, bit_depth: codec.bit_depth };
        let order = match codec.direction {
            Direction::Encode => Order::Encode(self.place(device.kind), subject),
            Direction::Decode => Order::Decode(self.place(device.kind), subject),
        };
        codec.verdict = match self.ask(&order, end) {
            Ok(Answer::Worked { sessions }) => {
                codec.sessions = sessions;
                Verdict::Proven
            }
            other => self.refused(device.kind, other),
        };
        codec.took_ms = millis(begun.elapsed());
        codec
    }

    /// What there is when nothing could be asked: names, and the reason why no more is known.
    fn claimed(&self, listing: &Listing, because: &Reason) -> Vec<DeviceReport> {
        let claim = || Verdict::Claimed(because.clone());
        let of = |kind: &Kind| {
            let mut device = DeviceReport {
                kind: *kind,
                node: self.place(*kind).node,
                name: None,
                software: false,
                verdict: claim(),
                scaling: claim(),
                codecs: Vec::new(),
            };
            device.codecs = self.candidates(&device, listing);
            device
        };
        self.kinds.iter().map(of).filter(|device| !device.codecs.is_empty()).collect()
    }
}

/// The kinds that a configuration lets be touched, the best first.
pub fn kinds(acceleration: &Acceleration) -> Vec<Kind> {
    match acceleration {
        Acceleration::Auto => Kind::ALL.to_vec(),
        Acceleration::Off => Vec::new(),
        Acceleration::List(words) => words.iter().map(|word| Kind::from(*word)).collect(),
    }
}

fn not_linked(kind: Kind, device_type: &str) -> Reason {
    Reason::new("not_linked", format!("this libav is built without {device_type}")).hint(
        if kind == Kind::Videotoolbox {
            kind.backend().absent_hint()
        } else {
            "a fuller build of FFmpeg has it"
        },
    )
}

/// H.264 of ten bits is what no television plays, and some kinds have eight only.
fn depths(kind: Kind, codec: VideoCodec) -> &'static [u8] {
    let backend = kind.backend();
    let only_eight = codec == VideoCodec::H264 || backend.memory_format(8) == backend.memory_format(10);
    if only_eight { &[8] } else { &[8, 10] }
}

fn decoder<'a>(listing: &'a Listing, codec: VideoCodec, device_type: &str) -> Option<&'a String> {
    let format = match codec {
        VideoCodec::H264 => "h264",
        VideoCodec::Hevc => "hevc",
        VideoCodec::Av1 => "av1",
        VideoCodec::Vp9 => "vp9",
    };
    let suits = |c: &&crate::av::registry::Linked| {
        !c.encodes && c.codec == format && c.devices.iter().any(|device| device == device_type)
    };
    listing.codecs.iter().find(suits).map(|codec| &codec.name)
}

/// Each item through `work`, some at once, in their order.
fn in_parallel<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let (tasks_tx, tasks) = unbounded();
    let (done_tx, done) = unbounded();
    for task in items.iter().enumerate() {
        let _ = tasks_tx.send(task);
    }
    drop(tasks_tx);
    thread::scope(|scope| {
        for _ in 0..AT_ONCE.min(items.len()) {
            let (tasks, done_tx, work) = (tasks.clone(), done_tx.clone(), &work);
            scope.spawn(move || {
                while let Ok((n, item)) = tasks.recv() {
                    let _ = done_tx.send((n, work(item)));
                }
            });
        }
    });
    drop(done_tx);
    let mut results: Vec<(usize, R)> = done.iter().collect();
    results.sort_by_key(|(n, _)| *n);
    results.into_iter().map(|(_, result)| result).collect()
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::settings::Device as Word;

    fn prober(program: &str, ffmpeg: &str) -> Prober {
        Prober {
            program: program.into(),
            ffmpeg: ffmpeg.into(),
            kinds: Kind::ALL.to_vec(),
            vaapi_device: "/nowhere/renderD128".into(),
        }
    }

    #[test]
    fn the_configuration_says_what_may_be_touched_and_in_which_order() {
        assert_eq!(kinds(&Acceleration::Off), []);
        assert_eq!(kinds(&Acceleration::Auto).first(), Some(&Kind::Nvenc));
        let list = Acceleration::List(vec![Word::Vulkan, Word::Vaapi]);
        assert_eq!(kinds(&list), [Kind::Vulkan, Kind::Vaapi]);
    }

    #[test]
    fn results_keep_their_order() {
        let items: Vec<u64> = (0..40).collect();
        assert_eq!(in_parallel(&items, |n| n * 2), items.iter().map(|n| n * 2).collect::<Vec<_>>());
        assert!(in_parallel(&[] as &[u64], |n| *n).is_empty());
    }

    #[test]
    fn when_libav_cannot_be_asked_everything_is_claimed_and_nothing_proven() {
        let dir = tempfile::tempdir().unwrap();
        let script = dir.path().join("fake-ffmpeg");
        let text =
            " ------\n V....D h264_nvenc  NVIDIA (codec h264)\n V..... hevc_vaapi  VAAPI (codec hevc)\n";
        std::fs::write(&script, format!("#!/bin/sh\nprintf '{}'\n", text.replace('\n', "\\n"))).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&script, mode).unwrap();
        let report = prober("/bin/false", &script.to_string_lossy()).probe();
        let names: Vec<&str> =
            report.devices.iter().flat_map(|d| &d.codecs).map(|c| c.name.as_str()).collect();
        assert_eq!(names, ["h264_nvenc", "hevc_vaapi", "hevc_vaapi"]);
        assert_eq!(report.working().count(), 0);
        for codec in report.devices.iter().flat_map(|d| &d.codecs) {
            assert!(matches!(&codec.verdict, Verdict::Claimed(reason) if reason.code == "crashed"));
        }
    }
}
