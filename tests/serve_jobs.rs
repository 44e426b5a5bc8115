//! The life of a job, driven over the socket of a real `sprocket serve`: taken or refused, followed,
//! cancelled, kept through a restart, and its result judged by `ffprobe` and a playlist parser.

mod support;

use serde_json::{Value, json};
use std::time::{Duration, Instant};
use support::hls::{Hls, files_below};
use support::node::films::{film, job, long_film, medium_film, picture, slow};
use support::node::{Config, Node, pause, until};
use support::{h264_encoder, probe};

/// 8 s at 25 frames each second.
const FRAMES: u64 = 200;

/// A node with two films: `short` of 8 s, and `long`, which [`slow`] jobs never get through.
struct Stage {
    node: Node,
    short: String,
    long: String,
}

fn stage(config: &Config) -> Option<Stage> {
    let (short, long) = (film(90, 8)?, long_film()?);
    let node = Node::start(config);
    let (short, long) = (node.add(&short), node.add(&long));
    Some(Stage { node, short, long })
}

impl Stage {
    /// Fills one slot for as long as the test takes.
    fn occupy(&self, id: &str) {
        self.node.accepted(&slow(job(id, &self.long), 180));
        self.node.working(id);
    }

    fn quick(&self, id: &str) -> Value {
        job(id, &self.short)
    }
}

fn with(mut job: Value, key: &str, value: impl Into<Value>) -> Value {
    job[key] = value.into();
    job
}

fn history(job: &Value) -> Vec<String> {
    let changes = job["history"].as_array().expect("a history");
    let numbers: Vec<_> = changes.iter().map(|change| change["number"].as_u64().unwrap_or(0)).collect();
    assert_eq!(numbers, (1..=changes.len() as u64).collect::<Vec<_>>(), "{job:#}");
    let times: Vec<_> = changes.iter().map(|change| change["at"].as_str().expect("a time")).collect();
    assert!(times.is_sorted(), "{job:#}");
    changes.iter().map(|change| change["state"].as_str().expect("a state").to_owned()).collect()
}

#[test]
fn every_format_is_made_and_is_whole() {
    let Some(Stage { node, short, .. }) = stage(&Config::default()) else { return };
    let h264 = h264_encoder().is_some();
    let hls = |kind: &str| json!({"segment_type": kind});
    let mut wanted =
        vec![("hls-fmp4", "hls", hls("fmp4")), ("an-mp4", "mp4", hls("ts")), ("an-mkv", "mkv", hls("ts"))];
    if h264 {
        wanted.extend([("hls-ts", "hls", hls("ts")), ("a-ts", "ts", hls("ts"))]);
    }
    for (id, format, hls) in wanted {
        let target = if format == "hls" { id.to_owned() } else { format!("deeper/{id}.{format}") };
        let document = with(with(job(id, &short), "format", format), "output", format!("nas://out/{target}"));
        let answer = node.submit(&with(document, "hls", hls)).expect(202);
        assert_eq!(answer.header("location"), Some(format!("/jobs/{id}").as_str()));
        assert!(matches!(answer.json()["state"].as_str(), Some("queued" | "running")), "{}", answer.text());
        let done = node.succeeded(id);
        assert_eq!(history(&done), ["queued", "running", "succeeded"]);
        check_record(&done);
        let place = node.output().join(&target);
        let (kind, name) = if format == "hls" { ("master", "/master.m3u8") } else { ("file", "") };
        assert_eq!(done["outputs"][kind]["uri"], format!("nas://out/{target}{name}"), "{done:#}");
        let path = done["outputs"][kind]["path"].as_str().expect("a URL path");
        assert!(path.starts_with(&format!("/stream/{id}/")), "{path}");
        if format == "hls" {
            let output = Hls::open(&place);
            assert_eq!(output.only().check_all((25, 1)), FRAMES);
        } else {
            assert_eq!(probe::frame_count(&place), FRAMES);
            assert_eq!(probe::complaints(&place), "");
        }
        assert!(node.hidden().is_empty(), "{:?}", node.hidden());
    }
}

/// What every job that has succeeded says of itself.
fn check_record(done: &Value) {
    assert_eq!(done["progress"]["percent"], 100.0, "{done:#}");
    assert_eq!(done["progress"]["frames"], FRAMES, "{done:#}");
    assert_eq!(done["attempts"], 1, "{done:#}");
    assert_eq!(done["error"], Value::Null, "{done:#}");
    assert_eq!(done["video_encoder"][0]["rendition"], "90p", "{done:#}");
    assert!(done["video_encoder"][0]["encoder"].as_str().is_some_and(|name| !name.is_empty()), "{done:#}");
    let time = |key: &str| done[key].as_str().unwrap_or_else(|| panic!("no {key}: {done:#}"));
    assert!([time("created_at"), time("started_at"), time("ended_at")].is_sorted(), "{done:#}");
}

#[test]
fn progress_never_falls_and_is_100_only_when_all_is_done() {
    let Some(Stage { node, .. }) = stage(&Config::default()) else { return };
    let Some(film) = medium_film() else { return };
    let input = node.add(&film);
    node.accepted(&with(job("watched", &input), "renditions", json!([picture(180), picture(90)])));
    let follow = node.follow("watched", None);
    assert_eq!((follow.status, follow.content_type.as_str()), (200, "text/event-stream"));
    let mut polled = Vec::new();
    let done = until(support::node::LIMIT, "the end", || {
        let job = node.job("watched");
        let percent = job["progress"]["percent"].as_f64();
        let succeeded = job["state"] == "succeeded";
        assert!(percent < Some(100.0) || succeeded, "{job:#}");
        polled.extend(percent);
        succeeded.then_some(job)
    });
    assert!(polled.is_sorted(), "{polled:?}");
    assert!(polled.iter().any(|percent| *percent > 0.0 && *percent < 100.0), "{polled:?}");
    let events = follow.rest();
    let (states, progress): (Vec<_>, Vec<_>) = events.iter().partition(|event| event.kind == "state");
    assert!(progress.iter().all(|event| event.kind == "progress" && event.data["job"] == "watched"));
    let told: Vec<_> = progress.iter().filter_map(|event| event.data["percent"].as_f64()).collect();
    assert!(told.is_sorted(), "{told:?}");
    assert!(told.iter().any(|percent| *percent > 0.0 && *percent < 100.0), "{told:?}");
    let last = states.last().expect("the end is told");
    assert_eq!(
        (events.last().map(|e| e.kind.as_str()), &last.data["state"]),
        (Some("state"), &"succeeded".into())
    );
    assert_eq!(last.data["record"], done, "the last event has the job as it is");
}

#[test]
fn an_event_stream_goes_on_behind_the_last_event_that_was_seen() {
    let Some(mut at) = stage(&Config::default()) else { return };
    at.node.accepted(&at.quick("told"));
    at.node.succeeded("told");
    let states = |node: &Node, last: Option<&str>| {
        let events = node.follow("told", last).rest();
        let ids = events.iter().filter(|event| event.kind == "state").map(|event| {
            let word = event.data["state"].as_str().expect("a state");
            assert_eq!(
                (&event.data["job"], event.data["number"].as_u64().map(|n| n.to_string())),
                (&"told".into(), event.id.clone())
            );
            format!("{} {word}", event.id.as_deref().unwrap_or("-"))
        });
        ids.collect::<Vec<_>>()
    };
    assert_eq!(states(&at.node, Some("1")), ["2 running", "3 succeeded"]);
    assert_eq!(states(&at.node, Some("2")), ["3 succeeded"]);
    assert_eq!(at.node.follow("told", Some("3")).status, 204, "nothing will ever come");
    assert_eq!(states(&at.node, None).last().map(String::as_str), Some("3 succeeded"));
    assert_eq!(states(&at.node, Some("nonsense")), states(&at.node, None));
    at.node.terminate();
    at.node.restart();
    assert_eq!(states(&at.node, Some("1")), ["2 running", "3 succeeded"], "after a restart");
    assert_eq!(at.node.follow("nobody", None).status, 404);
    // A job that goes on: what was missed comes first, then what happens.
    at.occupy("slow");
    let mut follow = at.node.follow("slow", Some("1"));
    assert_eq!(follow.next().map(|event| (event.kind, event.id)), Some(("state".into(), Some("2".into()))));
    at.node.delete("/jobs/slow").expect(202);
    let rest = follow.rest();
    let last = rest.last().expect("the end is told");
    assert_eq!((last.id.as_deref(), &last.data["state"]), (Some("3"), &"cancelled".into()));
}

#[test]
fn queued_and_running_jobs_are_cancelled_and_leave_nothing() {
    let Some(at) = stage(&Config::default()) else { return };
    at.occupy("running");
    at.node.accepted(&at.quick("queued"));
    assert_eq!(at.node.state_of("queued"), "queued");
    assert!(!at.node.codec_threads().is_empty(), "{:?}", at.node.thread_names());
    at.node.delete("/jobs/queued").expect(202);
    assert_eq!(at.node.ended("queued")["state"], "cancelled");
    let asked = Instant::now();
    at.node.delete("/jobs/running").expect(202);
    let stopped = until(Duration::from_secs(10), "compute has stopped", || {
        let over = at.node.state_of("running") == "cancelled" && at.node.codec_threads().is_empty();
        over.then(|| asked.elapsed())
    });
    println!("cancelled and stopped after {stopped:?}");
    for id in ["queued", "running"] {
        let again = at.node.delete(&format!("/jobs/{id}")).expect(200).json();
        assert_eq!(again["state"], "cancelled", "{again:#}");
        assert_eq!(again["error"], Value::Null, "nobody failed: {again:#}");
    }
    at.node.delete("/jobs/nobody").refused(404, "job_not_found");
    until(Duration::from_secs(10), "nothing is left", || {
        files_below(&at.node.output()).is_empty().then_some(())
    });
    assert!(at.node.hidden().is_empty(), "{:?}", at.node.hidden());
    at.node.accepted(&at.quick("after"));
    at.node.succeeded("after");
    at.node.delete("/jobs/after").expect(200);
    assert_eq!(at.node.state_of("after"), "succeeded", "what has ended stays as it is");
}

#[test]
fn a_full_node_refuses_and_says_when_to_come_again() {
    let Some(mut at) = stage(&Config::default().with("limits.max_queued_jobs", 0)) else { return };
    at.occupy("first");
    let refused = at.node.submit(&at.quick("more")).refused(429, "queue_full");
    refused.retry_after_s();
    at.node.get("/jobs/more").expect(404);
    at.node.cancel("first");
    at.node.accepted(&at.quick("now"));
    at.node.succeeded("now");
    at.node.terminate();
    at.node.reconfigure(|config| config.with("limits.max_queued_jobs", 1));
    at.node.restart();
    at.occupy("second");
    at.node.accepted(&at.quick("waits"));
    at.node.submit(&at.quick("more")).refused(429, "queue_full").retry_after_s();
    // Somebody who has been told of the job already is told again, not refused.
    at.node.submit(&at.quick("waits")).expect(200);
    at.node.cancel("waits");
    at.node.accepted(&at.quick("more"));
}

#[test]
fn a_drain_lets_running_jobs_finish_and_lasts_through_a_restart() {
    let Some(mut at) = stage(&Config::default()) else { return };
    let Some(film) = medium_film() else { return };
    let input = at.node.add(&film);
    at.node.accepted(&with(job("runs", &input), "renditions", json!([picture(180), picture(90)])));
    at.node.accepted(&at.quick("waits"));
    at.node.working("runs");
    assert_eq!(at.node.set_state("MAINTENANCE")["state"], "MAINTENANCE");
    at.node.submit(&at.quick("more")).refused(503, "maintenance").retry_after_s();
    at.node.get("/readyz").expect(503);
    at.node.get("/healthz").expect(200);
    at.node.succeeded("runs");
    // The slot is free, and still nothing leaves the queue.
    pause(Duration::from_millis(500));
    assert_eq!(at.node.state_of("waits"), "queued");
    at.node.terminate();
    at.node.restart();
    pause(Duration::from_millis(500));
    assert_eq!(
        (at.node.state_of("waits").as_str(), &at.node.describe()["state"]),
        ("queued", &"MAINTENANCE".into())
    );
    at.node.submit(&at.quick("more")).refused(503, "maintenance");
    at.node.set_state("IDLE");
    at.node.succeeded("waits");
    at.node.becomes("IDLE");
    at.node.get("/readyz").expect(200);
}

#[test]
fn the_same_job_again_is_the_same_job() {
    let Some(at) = stage(&Config::default()) else { return };
    let document = at.quick("film-1");
    let first = at.node.accepted(&document);
    let again = at.node.submit(&document).expect(200).json();
    assert_eq!(again["created_at"], first["created_at"]);
    // What is left out is what the default says, so this is the same job too.
    at.node.submit(&with(document.clone(), "priority", 5)).expect(200);
    at.node.submit(&with(document.clone(), "priority", 6)).refused(409, "id_conflict");
    at.node.succeeded("film-1");
    assert_eq!(at.node.submit(&document).expect(200).json()["state"], "succeeded");
    at.node.submit(&with(document.clone(), "overwrite", true)).refused(409, "id_conflict");
    // Without an id each is a job of its own, under a name of the node's.
    let mut anonymous = document.clone();
    anonymous.as_object_mut().expect("an object").retain(|key, _| !matches!(key.as_str(), "id" | "output"));
    let ids = [(); 2].map(|()| at.node.accepted(&anonymous)["id"].as_str().expect("an id").to_owned());
    assert_ne!(ids[0], ids[1]);
    ids.iter().for_each(|id| drop(at.node.succeeded(id)));
}

#[test]
fn one_place_has_one_job_and_one_output() {
    let Some(at) = stage(&Config::default()) else { return };
    let place = |id: &str| with(at.quick(id), "output", "nas://out/film");
    at.node.accepted(&slow(with(job("one", &at.long), "output", "nas://out/film"), 180));
    at.node.working("one");
    at.node.submit(&place("two")).refused(409, "output_in_use");
    at.node.submit(&with(place("two"), "overwrite", true)).refused(409, "output_in_use");
    at.node.submit(&with(place("two"), "output", "nas://out/film/inside")).refused(409, "output_in_use");
    at.node.delete("/jobs/one/output").expect(409);
    at.node.cancel("one");
    at.node.accepted(&place("two"));
    at.node.succeeded("two");
    at.node.submit(&place("three")).refused(409, "output_exists");
    let film = at.node.output().join("film/master.m3u8");
    let made = || std::fs::metadata(&film).and_then(|facts| facts.modified()).expect("the output");
    let before = made();
    at.node.accepted(&with(place("three"), "overwrite", true));
    at.node.succeeded("three");
    assert!(made() > before, "it was made anew");
    assert_eq!(Hls::open(&at.node.output().join("film")).only().check_all((25, 1)), FRAMES);
    // What lies there now is not what the earlier job made.
    at.node.delete("/jobs/two/output").refused(409, "output_not_ours");
    assert!(film.is_file());
    at.node.delete("/jobs/three/output").expect(204);
    assert!(!at.node.output().join("film").exists());
    at.node.delete("/jobs/three/output").expect(204);
    at.node.delete("/jobs/nobody/output").refused(404, "job_not_found");
    assert_eq!(at.node.job("three")["outputs"], json!({}), "nothing is promised any more");
    at.node.accepted(&place("four"));
    at.node.succeeded("four");
    assert!(node_is_clean(&at.node));
}

fn node_is_clean(node: &Node) -> bool {
    let hidden = node.hidden();
    assert!(hidden.is_empty(), "{hidden:?}");
    true
}

#[test]
fn the_queue_goes_by_priority_and_then_by_arrival() {
    let Some(at) = stage(&Config::default()) else { return };
    at.occupy("first");
    let waiting = [("low", 0), ("high-1", 9), ("usual", 5), ("high-2", 9), ("low-2", 0)];
    waiting
        .iter()
        .for_each(|(id, priority)| drop(at.node.accepted(&with(at.quick(id), "priority", *priority))));
    at.node.cancel("first");
    let mut started: Vec<_> = waiting
        .iter()
        .map(|(id, _)| (at.node.succeeded(id)["started_at"].as_str().expect("a time").to_owned(), *id))
        .collect();
    started.sort();
    let order: Vec<_> = started.iter().map(|(_, id)| *id).collect();
    assert_eq!(order, ["high-1", "high-2", "usual", "low", "low-2"]);
}

#[test]
fn a_restart_keeps_every_job_where_it_was() {
    let Some(mut at) = stage(&Config::default()) else { return };
    at.node.accepted(&at.quick("done"));
    let done = at.node.succeeded("done");
    at.node.accepted(&json!({"id": "wrong", "input": "nas://media/not-there.mkv"}));
    let error = at.node.failed("wrong");
    assert_eq!((&error["code"], &error["retryable"]), (&"not_found".into(), &false.into()), "{error:#}");
    at.occupy("running");
    at.node.accepted(&at.quick("queued"));
    let took = at.node.terminate();
    println!("SIGTERM to the end with a job running: {took:?}");
    at.node.restart();
    assert_eq!(at.node.job("done"), done, "a finished job reads as before");
    assert_eq!(at.node.job("wrong")["error"], error);
    assert_eq!(at.node.state_of("queued"), "queued");
    let running = at.node.working("running");
    assert_eq!(running["attempts"], 2, "{running:#}");
    assert_eq!(history(&running), ["queued", "running", "queued", "running"]);
    list_in_pages(&at.node);
    at.node.cancel("running");
    at.node.succeeded("queued");
    assert!(node_is_clean(&at.node));
}

/// Newest first, whatever the page, and by state.
fn list_in_pages(node: &Node) {
    let newest_first = ["queued", "running", "wrong", "done"];
    let ids = |answer: &Value| -> Vec<String> {
        let jobs = answer["jobs"].as_array().expect("jobs");
        jobs.iter().map(|job| job["id"].as_str().expect("an id").to_owned()).collect()
    };
    assert_eq!(ids(&node.get("/jobs").expect(200).json()), newest_first);
    let (mut seen, mut after) = (Vec::new(), String::new());
    loop {
        let page = node.get(&format!("/jobs?limit=1{after}")).expect(200).json();
        seen.extend(ids(&page));
        let Some(next) = page["next"].as_str() else { break };
        assert!(seen.len() < 10, "the pages do not end: {seen:?}");
        after = format!("&after={next}");
    }
    assert_eq!(seen, newest_first);
    assert_eq!(ids(&node.get("/jobs?state=failed").expect(200).json()), ["wrong"]);
}

#[test]
fn an_output_goes_when_its_time_is_over() {
    let Some(at) = stage(&Config::default().with("limits.output_ttl", "2s")) else { return };
    at.node.accepted(&at.quick("brief"));
    at.node.succeeded("brief");
    assert!(at.node.output().join("brief/master.m3u8").is_file());
    until(support::node::LIMIT, "the output is removed", || {
        (!at.node.output().join("brief").exists()).then_some(())
    });
    let job = until(support::node::LIMIT, "the job says so", || {
        Some(at.node.job("brief")).filter(|job| job["outputs"] == json!({}))
    });
    assert_eq!(job["state"], "succeeded", "the job itself stays");
    assert!(node_is_clean(&at.node));
}

/// What the kernel says of one thread: its name, the cores that it may use, how far it stands behind.
#[cfg(target_os = "linux")]
fn thread_facts(node: &Node) -> Vec<(String, String, i64)> {
    let facts = |task: std::path::PathBuf| {
        let read = |what: &str| std::fs::read_to_string(task.join(what)).ok();
        let (name, status, stat) = (read("comm")?, read("status")?, read("stat")?);
        let cores = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
        // Behind the name, which may hold anything: proc(5), where it is field 19 and the name is field 2.
        let nice = stat.rsplit_once(')')?.1.split_whitespace().nth(16)?.parse().ok()?;
        Some((name.trim().to_owned(), cores.trim().to_owned(), nice))
    };
    let tasks = std::fs::read_dir(node.proc("task")).expect("its threads").flatten();
    tasks.filter_map(|task| facts(task.path())).collect()
}

#[cfg(target_os = "linux")]
#[test]
fn jobs_keep_to_their_cores_and_stand_behind_the_api() {
    let Some(at) = stage(&Config::default().with("limits.max_cpu_cores", 1)) else { return };
    let all = thread_facts(&at.node);
    let everywhere = all.first().expect("the main thread").1.clone();
    at.occupy("busy");
    let (codecs, others): (Vec<_>, Vec<_>) =
        thread_facts(&at.node).into_iter().partition(|(name, ..)| name.starts_with("av"));
    assert!(codecs.len() >= 2, "{codecs:?}");
    assert!(codecs.iter().any(|(.., nice)| *nice == 15), "{codecs:?}");
    for (name, cores, nice) in &codecs {
        assert!(cores.parse::<u32>().is_ok(), "{name} may use the cores {cores}");
        // Those that decode give way to those that encode.
        assert!((15..=19).contains(nice), "{name} stands at {nice}");
    }
    let http: Vec<_> = others.iter().filter(|(name, ..)| name.starts_with("http")).collect();
    assert!(!http.is_empty(), "{others:?}");
    for (name, cores, nice) in http {
        assert_eq!((cores, *nice), (&everywhere, 0), "{name}");
    }
    at.node.cancel("busy");
}
