//! What `/metrics` says.
//!
//! What enters: what the desk, the board and the orchestrator's link say at this moment, and the
//! requests that were answered. What leaves: the Prometheus text format, version 0.0.4. Only the requests
//! are counted here: every other figure has its owner, and is read when somebody asks.
//!
//! Labels are few: routes as they stand in the table, never as they were asked for.

use crate::model::node::NodeState;
use crate::node::desk::NodeDescription;
use crate::node::link::Link;
use crate::work::board::Totals;
use crate::work::jit::Load;
use axum::http::{Method, StatusCode};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode_registry;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry};
use serde_json::Value;
use std::borrow::Cow;
use std::fmt;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

/// The media type of the text.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Upper bounds in seconds: from an answer out of memory to a handler that waits for a disk.
const BOUNDS_S: [f64; 11] = [0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1.0, 5.0, 20.0];

/// A gauge that may have a fraction.
type Share = Gauge<f64, AtomicU64>;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Route {
    method: &'static str,
    route: Cow<'static, str>,
    status: &'static str,
}

/// How long requests took until their answer began.
#[derive(Debug)]
pub(super) struct Requests(Family<Route, Histogram, fn() -> Histogram>);

impl Default for Requests {
    fn default() -> Self {
        Self(Family::new_with_constructor(|| Histogram::new(BOUNDS_S)))
    }
}

impl Requests {
    /// Notes one. `route` is `None` for a path that there is not.
    pub(super) fn note(
        &self,
        method: &Method,
        route: Option<Cow<'static, str>>,
        status: StatusCode,
        took: Duration,
    ) {
        let route = route.unwrap_or(Cow::Borrowed("none"));
        let route = Route { method: known(method), route, status: class(status) };
        self.0.get_or_create(&route).observe(took.as_secs_f64());
    }
}

/// Anybody can make up methods; they must not make up series.
fn known(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "DELETE" => "DELETE",
        _ => "other",
    }
}

fn class(status: StatusCode) -> &'static str {
    match status.as_u16() {
        ..=199 => "1xx",
        200..=299 => "2xx",
        300..=399 => "3xx",
        400..=499 => "4xx",
        _ => "5xx",
    }
}

/// Everything as text.
///
/// # Errors
/// None in fact: writing to memory does not fail.
pub(super) fn text(
    node: &NodeDescription,
    totals: &Totals,
    streams: &Load,
    link: Option<&Link>,
    requests: &Requests,
) -> Result<String, fmt::Error> {
    let mut page = Page(Registry::with_prefix("sprocket"));
    about_jobs(&mut page, totals);
    about_streams(&mut page, streams);
    about_node(&mut page, node);
    about_machine(&mut page, node);
    about_devices(&mut page, &node.capabilities);
    if let Some(link) = link {
        about_orchestrator(&mut page, link);
    }
    page.add("http_request_seconds", "Time until an answer began", requests.0.clone());
    let mut text = String::new();
    encode_registry(&mut text, &page.0)?;
    Ok(as_prometheus(&text))
}

struct Page(Registry);

impl Page {
    fn add(&mut self, name: &str, help: &str, metric: impl Metric) {
        self.0.register(name, help, metric);
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl Into<f64>) {
        self.add(name, help, ConstGauge::new(value.into()));
    }

    /// `_total` comes by itself.
    fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.add(name, help, ConstCounter::new(value));
    }

    /// One series for each value of a label.
    fn gauges(&mut self, name: &str, help: &str, label: &'static str, values: Vec<(String, f64)>) {
        let family = Family::<Vec<(&'static str, String)>, Share>::default();
        for (of, value) in values {
            family.get_or_create(&vec![(label, of)]).set(value);
        }
        self.add(name, help, family);
    }
}

fn about_jobs(page: &mut Page, totals: &Totals) {
    let sums = &totals.sums;
    page.counter("jobs_accepted", "Jobs accepted", sums.accepted);
    page.counter("jobs_refused", "Jobs refused because of the queue or the node's state", sums.refused);
    page.counter("jobs_succeeded", "Jobs that succeeded", sums.succeeded);
    page.counter("jobs_failed", "Jobs that failed", sums.failed);
    page.counter("jobs_cancelled", "Jobs that were cancelled", sums.cancelled);
    let live = vec![("queued".into(), count(totals.queued)), ("running".into(), count(totals.running))];
    page.gauges("jobs", "Jobs that wait or run", "state", live);
    page.gauge("slots", "Jobs that may run at once", totals.slots);
    page.add(
        "media_seconds",
        "Title seconds of the jobs that succeeded",
        ConstCounter::new(seconds(sums.media_ms_done)),
    );
    page.gauges("job_speed", "Title seconds made each second, by running job", "job", totals.speeds.clone());
    let encoders = totals.encoders.iter().map(|(name, n)| (name.clone(), *n as f64)).collect();
    page.gauges("encoder_renditions", "Renditions being made, by encoder", "encoder", encoders);
}

fn about_streams(page: &mut Page, streams: &Load) {
    page.gauge("streams", "Runs that make segments for viewers", count(streams.runs));
    page.gauge("streams_resting", "Those of them that are far enough ahead", count(streams.resting));
    page.gauge("stream_slots", "Runs for viewers that may be at once", count(streams.max_runs));
    page.gauge("stream_requests_waiting", "Requests that wait for a segment", count(streams.waiting));
    let fill = &streams.fill;
    let kept = vec![("memory".into(), fill.memory_bytes as f64), ("disk".into(), fill.disk_bytes as f64)];
    page.gauges("stream_cache_bytes", "Segments that are kept, by where", "place", kept);
}

fn about_node(page: &mut Page, node: &NodeDescription) {
    let build = vec![("version", node.version.clone()), ("libav", node.libav.clone())];
    let family = Family::<Vec<(&'static str, String)>, Gauge>::default();
    family.get_or_create(&build).set(1);
    page.add("build_info", "What runs here", family);
    let states = [NodeState::Idle, NodeState::Busy, NodeState::Error, NodeState::Maintenance];
    let states = states.map(|state| (state.to_string(), if node.state == state { 1.0 } else { 0.0 }));
    page.gauges("node_state", "1 for the state that the node is in", "state", states.into());
    page.gauge("uptime_seconds", "Since the process started", node.uptime_s as f64);
    page.gauge("sessions", "Viewers' runs", node.transcodes.sessions);
    page.gauge("libav_threads", "Threads alive that run code of libav", node.transcodes.threads);
}

fn about_machine(page: &mut Page, node: &NodeDescription) {
    page.gauge("cpu_load_percent", "Load of the whole machine", node.cpu.load_percent);
    page.gauge("cpu_cores", "Cores that the process may use", node.cpu.cores);
    page.gauge("memory_bytes", "Main memory that there is", node.memory.total_bytes as f64);
    page.gauge("memory_available_bytes", "Main memory that can be had", node.memory.available_bytes as f64);
    page.gauge("process_resident_bytes", "Main memory that the process holds", node.process.rss_bytes as f64);
    page.gauge("process_open_fds", "Descriptors that the process holds", node.process.open_fds as f64);
    page.gauge("process_threads", "Threads alive in the process", node.process.threads);
    let disks = || node.disk.iter();
    let of = |value: Option<u64>, name: &str| Some((name.to_owned(), value? as f64));
    let free = disks().filter_map(|disk| of(disk.free_bytes, &disk.name)).collect();
    page.gauges("disk_free_bytes", "What may still be written, by root or output", "place", free);
    let total = disks().filter_map(|disk| of(disk.total_bytes, &disk.name)).collect();
    page.gauges("disk_bytes", "Size of the file system, by root or output", "place", total);
    let answering = disks().map(|disk| (disk.name.clone(), f64::from(u8::from(disk.answering)))).collect();
    page.gauges("disk_answering", "1 where the file system answers", "place", answering);
}

/// One series for each codec on each device; none while the devices are being looked at.
fn about_devices(page: &mut Page, capabilities: &Value) {
    let hardware = &capabilities["hardware"];
    let list = |of: &Value| of.as_array().cloned().unwrap_or_default();
    let word = |of: &Value| of.as_str().unwrap_or("unknown").to_owned();
    let proven = |of: &Value| i64::from(of["state"] == "proven");
    let family = Family::<Vec<(&'static str, String)>, Gauge>::default();
    let devices = Family::<Vec<(&'static str, String)>, Gauge>::default();
    for device in list(&hardware["report"]["devices"]) {
        let kind = word(&device["kind"]);
        let rests = list(&hardware["demoted"]).iter().any(|demoted| demoted["kind"] == device["kind"]);
        let usable = if rests { 0 } else { proven(&device["verdict"]) };
        devices.get_or_create(&vec![("device", kind.clone())]).set(usable);
        for codec in list(&device["codecs"]) {
            let labels = vec![
                ("device", kind.clone()),
                ("codec", word(&codec["name"])),
                ("direction", word(&codec["direction"])),
                ("bit_depth", codec["bit_depth"].to_string()),
            ];
            family.get_or_create(&labels).set(proven(&codec["verdict"]));
        }
    }
    page.add("device_usable", "1 for a device that works and has not failed lately", devices);
    page.add("device_codec_proven", "1 for a codec on a device that was seen to work", family);
}

fn about_orchestrator(page: &mut Page, link: &Link) {
    let (reach, sent) = (link.reach(), link.counters());
    page.gauge(
        "orchestrator_reachable",
        "1 when the orchestrator answered the last request",
        u8::from(reach.reachable),
    );
    page.counter("orchestrator_outages", "How often the orchestrator went away", reach.outages);
    page.counter("heartbeats_delivered", "Heartbeats answered 2xx", sent.beats_delivered.get());
    page.counter("heartbeats_failed", "Heartbeats refused or not answered", sent.beats_failed.get());
    page.counter("progress_delivered", "Progress messages answered 2xx", sent.progress_delivered.get());
    page.counter(
        "progress_dropped",
        "Progress messages given up, being out of date",
        sent.progress_dropped.get(),
    );
    page.counter("events_delivered", "Events answered 2xx", sent.events_delivered.get());
    page.counter(
        "events_retried",
        "Attempts to deliver an event that are repeated",
        sent.events_retried.get(),
    );
    page.counter("events_set_aside", "Events refused for good", sent.events_set_aside.get());
}

fn count(number: usize) -> f64 {
    number as f64
}

fn seconds(ms: u64) -> f64 {
    ms as f64 / 1000.0
}

/// OpenMetrics, which the library writes, as the older format that every scraper reads: there the
/// comments on a counter name it as its samples do, and there are no units and no end mark.
fn as_prometheus(open_metrics: &str) -> String {
    let mut text = String::with_capacity(open_metrics.len());
    let mut help: Option<(&str, &str)> = None;
    for line in open_metrics.lines() {
        if let Some(words) = line.strip_prefix("# HELP ") {
            help = words.split_once(' ');
        } else if let Some(words) = line.strip_prefix("# TYPE ") {
            let (name, kind) = words.split_once(' ').unwrap_or((words, "untyped"));
            let suffix = if kind == "counter" { "_total" } else { "" };
            if let Some((_, told)) = help.take() {
                text.push_str(&format!("# HELP {name}{suffix} {}\n", told.trim_end_matches('.')));
            }
            text.push_str(&format!("# TYPE {name}{suffix} {kind}\n"));
        } else if !line.starts_with('#') {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_name_counters_as_their_samples_do() {
        let open = "# HELP a_b Things done.\n# TYPE a_b counter\na_b_total 3\n# HELP c Size.\n# TYPE c gauge\n\
                    # UNIT c bytes\nc{x=\"1 # HELP\"} 4\n# EOF\n";
        assert_eq!(
            as_prometheus(open),
            "# HELP a_b_total Things done\n# TYPE a_b_total counter\na_b_total 3\n# HELP c Size\n\
             # TYPE c gauge\nc{x=\"1 # HELP\"} 4\n"
        );
    }

    #[test]
    fn jobs_are_counted_and_labels_escaped() {
        let mut page = Page(Registry::with_prefix("sprocket"));
        let mut totals = Totals { queued: 2, slots: 3, ..Totals::default() };
        (totals.sums.accepted, totals.sums.media_ms_done) = (7, 1500);
        totals.speeds = vec![("a".into(), 1.5)];
        totals.encoders = vec![("x\"y".into(), 2)];
        about_jobs(&mut page, &totals);
        let mut text = String::new();
        encode_registry(&mut text, &page.0).unwrap();
        let text = as_prometheus(&text);
        for line in [
            "# TYPE sprocket_jobs_accepted_total counter",
            "# HELP sprocket_jobs_accepted_total Jobs accepted",
            "sprocket_jobs_accepted_total 7",
            "sprocket_jobs{state=\"queued\"} 2.0",
            "sprocket_jobs{state=\"running\"} 0.0",
            "sprocket_slots 3.0",
            "sprocket_media_seconds_total 1.5",
            "sprocket_job_speed{job=\"a\"} 1.5",
            "sprocket_encoder_renditions{encoder=\"x\\\"y\"} 2.0",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is missing in\n{text}");
        }
    }

    #[test]
    fn requests_fall_into_their_buckets_and_nobody_makes_up_series() {
        let requests = Requests::default();
        let ms = Duration::from_millis;
        requests.note(&Method::GET, Some("/jobs/{id}".into()), StatusCode::OK, ms(3));
        requests.note(&Method::GET, Some("/jobs/{id}".into()), StatusCode::CREATED, ms(30_000));
        for name in ["BREW", "TRACE", "get"] {
            requests.note(&name.parse().unwrap(), None, StatusCode::NOT_FOUND, ms(0));
        }
        let mut registry = Registry::default();
        registry.register("t", "T", requests.0.clone());
        let mut text = String::new();
        encode_registry(&mut text, &registry).unwrap();
        for line in [
            "t_count{method=\"GET\",route=\"/jobs/{id}\",status=\"2xx\"} 2",
            "t_bucket{le=\"0.0025\",method=\"GET\",route=\"/jobs/{id}\",status=\"2xx\"} 0",
            "t_bucket{le=\"0.005\",method=\"GET\",route=\"/jobs/{id}\",status=\"2xx\"} 1",
            "t_bucket{le=\"+Inf\",method=\"GET\",route=\"/jobs/{id}\",status=\"2xx\"} 2",
            "t_count{method=\"other\",route=\"none\",status=\"4xx\"} 3",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is missing in\n{text}");
        }
    }
}
