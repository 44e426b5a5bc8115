//! What the node knows of its devices at this moment.
//!
//! What enters: reports of the prober, failures of devices in the middle of work. What leaves: which device
//! may be used now, what operators and the orchestrator are told. A device that has failed is demoted for a
//! while and then tried again; how often, and when, is decided here and nowhere else.

use super::backend::Kind;
use super::fake;
use super::prober::Prober;
use super::report::{DeviceReport, Reason, Report};
use super::shelf;
use crate::config::settings::{Acceleration, Hardware};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// How long a device that has failed is left alone: so long after the first failure, twice after the next.
const FIRST_REST: Duration = Duration::from_secs(30);
/// And no longer than this.
const LONGEST_REST: Duration = Duration::from_secs(3600);

/// Handle on it. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Inventory(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    report: Option<Arc<Report>>,
    /// The configuration names its devices.
    named: bool,
    resting: HashMap<Kind, Resting>,
    /// Encoders that are in use.
    leased: HashMap<Kind, u32>,
}

/// A device that may be used now.
#[derive(Clone, Debug)]
pub struct Usable {
    /// What was seen of it.
    pub device: DeviceReport,
    /// The configuration names it: it is used even where the gain is in doubt.
    pub named: bool,
    /// Encoders that may be opened on it besides those that are.
    pub free_sessions: u32,
}

/// Encoders that are set aside on a device. Dropping it gives them back.
#[derive(Debug)]
pub struct Lease {
    inventory: Inventory,
    kind: Kind,
    encoders: u32,
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(leased) = self.inventory.lock().leased.get_mut(&self.kind) {
            *leased = leased.saturating_sub(self.encoders);
        }
    }
}

/// A device that has failed.
#[derive(Clone, Debug)]
struct Resting {
    because: Reason,
    failures: u32,
    until: Instant,
}

impl Inventory {
    /// One with a report, for those who have it already.
    pub fn with(report: Report) -> Self {
        let inventory = Self::default();
        inventory.learn(report);
        inventory
    }

    /// For a command that is about to encode: what is known after a look at the machine, if there is any sign of a
    /// device or the configuration names one. Takes as long as the prober then, and no time else.
    ///
    /// A report that a node has kept in `state` and that still holds is taken instead.
    pub fn for_command(hardware: &Hardware, state: &Path) -> Self {
        let inventory = Self::default();
        let named = matches!(hardware.acceleration, Acceleration::List(_));
        inventory.lock().named = named;
        match Prober::new(hardware) {
            Ok(prober) if named || prober.sees_a_device() => {
                inventory.learn(shelf::read(state, &prober).unwrap_or_else(|| prober.probe()));
            }
            _ => inventory.learn(Report::empty()),
        }
        inventory
    }

    /// Has the machine probed in a thread, if `state` holds no report that still holds. Returns at once:
    /// until the report is there nothing is proven.
    pub fn find_out(&self, prober: Prober, named: bool, state: &Path) {
        self.lock().named = named;
        if prober.kinds.is_empty() {
            return self.learn(Report::empty());
        }
        let (inventory, state) = (self.clone(), state.to_owned());
        let body = move || inventory.find_out_now(&prober, &state);
        if let Err(e) = thread::Builder::new().name("prober".into()).spawn(body) {
            tracing::warn!("the devices are not looked at, encoding stays in software: {e}");
        }
    }

    fn find_out_now(&self, prober: &Prober, state: &Path) {
        if let Some(report) = shelf::read(state, prober) {
            tracing::debug!("the devices are as they were");
            return self.learn(report);
        }
        let report = prober.probe();
        for device in report.working() {
            let name = device.name.as_deref().unwrap_or("a device");
            tracing::info!("{}: {name} works", device.kind);
        }
        if let Err(e) = shelf::keep(state, prober, &report) {
            tracing::warn!("the next start has to look at the devices again: {e}");
        }
        self.learn(report);
    }

    fn learn(&self, mut report: Report) {
        if let Some(fake) = fake::report() {
            report.devices.insert(0, fake);
        }
        self.lock().report = Some(Arc::new(report));
    }

    /// The newest report; `None` while the first is being made.
    pub fn report(&self) -> Option<Arc<Report>> {
        self.lock().report.clone()
    }

    /// The devices that may be used now, the best first.
    pub fn usable(&self) -> Vec<Usable> {
        self.usable_at(Instant::now())
    }

    fn usable_at(&self, now: Instant) -> Vec<Usable> {
        let state = self.lock();
        let rests = |kind: &Kind| state.resting.get(kind).is_some_and(|resting| now < resting.until);
        let devices = state.report.iter().flat_map(|report| report.working());
        let suits = |device: &&DeviceReport| {
            !rests(&device.kind) && device.kind != Kind::V4l2m2m && (state.named || !device.software)
        };
        let usable = |device: &DeviceReport| {
            let leased = state.leased.get(&device.kind).copied().unwrap_or(0);
            let free_sessions = sessions(device).saturating_sub(leased);
            Usable { device: device.clone(), named: state.named, free_sessions }
        };
        devices.filter(suits).map(usable).collect()
    }

    /// Sets encoders aside on a device; `None` when it has not so many left.
    pub fn lease(&self, kind: Kind, encoders: u32) -> Option<Lease> {
        let mut state = self.lock();
        let devices = state.report.as_ref().map(|report| report.devices.clone()).unwrap_or_default();
        let most = devices.iter().find(|device| device.kind == kind).map_or(0, sessions);
        let leased = state.leased.entry(kind).or_default();
        if encoders > 0 && leased.saturating_add(encoders) > most {
            return None;
        }
        *leased += encoders;
        Some(Lease { inventory: self.clone(), kind, encoders })
    }

    /// A device has failed in the middle of work: it rests, longer each time.
    pub fn failed(&self, kind: Kind, because: Reason) {
        self.failed_at(kind, because, Instant::now());
    }

    fn failed_at(&self, kind: Kind, because: Reason, now: Instant) {
        let mut state = self.lock();
        // Runs that die of one incident count once.
        if state.resting.get(&kind).is_some_and(|resting| now < resting.until) {
            return;
        }
        let failures = state.resting.get(&kind).map_or(0, |resting| resting.failures) + 1;
        let rest = FIRST_REST.saturating_mul(1 << (failures - 1).min(16)).min(LONGEST_REST);
        tracing::warn!("{kind} has failed ({}): it rests for {} s", because.message, rest.as_secs());
        state.resting.insert(kind, Resting { because, failures, until: now + rest });
    }

    /// A device has done its work: earlier failures do not count any more.
    pub fn worked(&self, kind: Kind) {
        self.lock().resting.remove(&kind);
    }

    /// For people and the orchestrator.
    pub fn describe(&self) -> Value {
        let now = Instant::now();
        let state = self.lock();
        let Some(report) = &state.report else { return json!({ "state": "probing" }) };
        let resting = state.resting.iter().filter(|(_, resting)| now < resting.until);
        let demoted: Vec<Value> = resting
            .map(|(kind, resting)| json!({ "kind": kind, "because": resting.because, "failures": resting.failures }))
            .collect();
        json!({ "state": "known", "report": &**report, "demoted": demoted })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Encoders that a device has at once, by the codec that has the fewest.
fn sessions(device: &DeviceReport) -> u32 {
    let proven = device.codecs.iter().filter(|codec| codec.verdict.is_proven());
    proven.filter_map(|codec| codec.sessions).min().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::super::report::{CodecReport, Direction, Source, Verdict};
    use super::*;
    use crate::model::track::VideoCodec;

    fn inventory() -> Inventory {
        let device = |kind, verdict| DeviceReport {
            kind,
            node: None,
            name: None,
            software: false,
            verdict,
            scaling: Verdict::Proven,
            codecs: Vec::new(),
        };
        let refused = Verdict::Refused(Reason::new("no_device", "none"));
        Inventory::with(Report {
            libav: String::new(),
            listing: Source::Libav,
            devices: vec![
                device(Kind::Nvenc, refused),
                device(Kind::Vaapi, Verdict::Proven),
                device(Kind::Vulkan, Verdict::Proven),
            ],
            took_ms: 0,
        })
    }

    fn kinds(inventory: &Inventory, at: Instant) -> Vec<Kind> {
        inventory.usable_at(at).iter().map(|usable| usable.device.kind).collect()
    }

    #[test]
    fn no_more_encoders_are_set_aside_than_a_device_has() {
        let inventory = inventory();
        let report = inventory.report().unwrap();
        let mut report = (*report).clone();
        let codec = |sessions| CodecReport {
            direction: Direction::Encode,
            codec: VideoCodec::H264,
            bit_depth: 8,
            name: "x".into(),
            verdict: Verdict::Proven,
            sessions: Some(sessions),
            took_ms: 0,
        };
        report.devices[1].codecs = vec![codec(3), codec(8)];
        report.devices[2].codecs = vec![codec(8)];
        let inventory = Inventory::with(report);
        let first = inventory.lease(Kind::Vaapi, 2).unwrap();
        assert!(inventory.lease(Kind::Vaapi, 2).is_none());
        assert_eq!(inventory.usable()[0].free_sessions, 1);
        drop(first);
        assert!(inventory.lease(Kind::Vaapi, 3).is_some());
        assert!(inventory.lease(Kind::Vulkan, 9).is_none(), "more were never tried");
        assert!(inventory.lease(Kind::Qsv, 1).is_none(), "there is none");
    }

    #[test]
    fn nothing_is_usable_before_it_was_looked_at() {
        assert!(Inventory::default().usable().is_empty());
        assert_eq!(Inventory::default().describe()["state"], "probing");
    }

    #[test]
    fn a_device_that_fails_rests_longer_each_time_and_is_tried_again() {
        let (inventory, start) = (inventory(), Instant::now());
        assert_eq!(kinds(&inventory, start), [Kind::Vaapi, Kind::Vulkan]);
        let fail = |at| inventory.failed_at(Kind::Vaapi, Reason::new("hung", "it hangs"), at);
        fail(start);
        assert_eq!(kinds(&inventory, start), [Kind::Vulkan]);
        assert_eq!(inventory.describe()["demoted"][0]["because"]["code"], "hung");
        let later = start + FIRST_REST;
        assert_eq!(kinds(&inventory, later), [Kind::Vaapi, Kind::Vulkan]);
        fail(later);
        assert_eq!(kinds(&inventory, later + FIRST_REST), [Kind::Vulkan], "twice as long");
        fail(later);
        assert_eq!(kinds(&inventory, later + FIRST_REST * 2).len(), 2, "one incident counts once");
        let mut at = later;
        for _ in 0..40 {
            at += LONGEST_REST;
            fail(at);
        }
        assert_eq!(kinds(&inventory, at + LONGEST_REST).len(), 2, "never for ever");
        inventory.worked(Kind::Vaapi);
        fail(later);
        assert_eq!(kinds(&inventory, later + FIRST_REST).len(), 2, "what worked begins anew");
    }
}
