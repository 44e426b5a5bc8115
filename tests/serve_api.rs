//! The control API of a real node, as bytes on a socket: what its own description promises, what it
//! refuses and how, and who may ask at all. What becomes of jobs is in `serve_jobs.rs`.

mod support;

use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::symlink;
use support::node::{Config, LIMIT, Node, until};

const METHODS: [&str; 7] = ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"];
const TOKEN: &str = "a-token-of-24-characters";

#[track_caller]
fn start() -> Node {
    Node::start(&Config::default())
}

// ---- bytes ----------------------------------------------------------------------------------------

/// An answer as it came over the wire.
#[derive(Debug)]
struct Wire {
    status: u16,
    headers: BTreeMap<String, String>,
    body: String,
}

impl Wire {
    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    /// Demands a problem with this code, and the shape that the description gives it.
    #[track_caller]
    fn refused(&self, status: u16, code: &str) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.headers.get("content-type").unwrap(), "application/problem+json", "{self:?}");
        let problem = self.json();
        assert_eq!((&problem["code"], &problem["status"]), (&json!(code), &json!(status)), "{self:?}");
        problem
    }
}

/// Sends these bytes and reads until the other side closes.
#[track_caller]
fn exchange(node: &Node, bytes: &[u8]) -> Wire {
    let mut stream = TcpStream::connect(node.address()).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    // The node may answer and close before it has read all of it.
    let _ = stream.write_all(bytes);
    let mut got = Vec::new();
    let _ = stream.read_to_end(&mut got);
    let text = String::from_utf8_lossy(&got);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok()).unwrap();
    let header = |line: &str| line.split_once(": ").map(|(n, v)| (n.to_lowercase(), v.to_owned()));
    Wire { status, headers: lines.filter_map(header).collect(), body: body.to_owned() }
}

/// A request with these header lines besides `Host`, and the target exactly as it is here.
#[track_caller]
fn ask(node: &Node, method: &str, target: &str, headers: &[&str], body: &str) -> Wire {
    let mut text = format!("{method} {target} HTTP/1.1\r\nConnection: close\r\n");
    if !headers.iter().any(|line| line.to_lowercase().starts_with("host:")) {
        text.push_str("Host: localhost\r\n");
    }
    headers.iter().for_each(|line| text.push_str(&format!("{line}\r\n")));
    if !body.is_empty() {
        text.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    exchange(node, format!("{text}\r\n{body}").as_bytes())
}

#[track_caller]
fn get(node: &Node, target: &str) -> Wire {
    ask(node, "GET", target, &[], "")
}

#[track_caller]
fn send_json(node: &Node, method: &str, target: &str, body: &str) -> Wire {
    ask(node, method, target, &["Content-Type: application/json"], body)
}

// ---- the description ------------------------------------------------------------------------------

/// Demands that the description has this answer, and that the answer keeps to it.
#[track_caller]
fn conforms(document: &Value, method: &str, path: &str, answer: &Wire) {
    let responses = &document["paths"][path][method.to_lowercase()]["responses"];
    let response = &responses[answer.status.to_string()];
    assert!(response.is_object(), "{method} {path} does not promise {}: {}", answer.status, answer.body);
    for (name, _) in response["headers"].as_object().into_iter().flatten() {
        assert!(
            answer.headers.contains_key(&name.to_lowercase()),
            "{method} {path}: no {name} in {answer:?}"
        );
    }
    let Some(content) = response["content"].as_object() else {
        return assert_eq!(answer.body, "", "{method} {path}");
    };
    let kind = answer.headers.get("content-type").unwrap().split(';').next().unwrap();
    let promised = content.get(kind).unwrap_or_else(|| panic!("{method} {path}: {kind} is not promised"));
    if kind.ends_with("json") {
        let faults = breaches(document, &promised["schema"], &answer.json());
        assert!(faults.is_empty(), "{method} {path} {}: {faults:?} in {}", answer.status, answer.body);
    }
}

fn breaches(document: &Value, schema: &Value, value: &Value) -> Vec<String> {
    let root = json!({"allOf": [schema], "components": document["components"]});
    let validator = jsonschema::validator_for(&root).unwrap();
    validator.iter_errors(value).map(|e| format!("{}: {e}", e.instance_path())).collect()
}

fn description(node: &Node) -> Value {
    let answer = get(node, "/openapi.json");
    assert_eq!(answer.headers["content-type"], "application/json");
    answer.json()
}

#[test]
fn every_described_call_is_served_and_no_other_method() {
    let node = start();
    let document = description(&node);
    assert_eq!(document["openapi"], "3.1.0");
    for (path, item) in document["paths"].as_object().unwrap() {
        let described: BTreeSet<String> =
            item.as_object().unwrap().keys().map(|m| m.to_uppercase()).collect();
        let target = path.replace("{id}", "nobody").replace("{job}", "nobody");
        let target = target.replace("{root}", "media").replace("{path}", "nowhere");
        for method in METHODS {
            let answer = ask(&node, method, &target, &[], "");
            if described.contains(method) {
                assert!(answer.status != 405, "{method} {path}");
                assert!(!answer.body.contains("no_such_path"), "{method} {path}: {answer:?}");
                conforms(&document, method, path, &answer);
            } else {
                answer.refused(405, "method_not_allowed");
                // HEAD comes with each GET, and pages ask media for leave by OPTIONS.
                let told = |m: &&str| !["HEAD", "OPTIONS"].contains(m);
                let allowed: BTreeSet<&str> = answer.headers["allow"].split(',').filter(told).collect();
                assert_eq!(
                    allowed,
                    described.iter().map(String::as_str).filter(told).collect(),
                    "{method} {path}"
                );
            }
        }
        let head = ask(&node, "HEAD", &target, &[], "");
        assert_eq!((head.status == 405, head.body.as_str()), (!described.contains("GET"), ""), "{path}");
    }
    for unknown in ["/nothing", "/jobs/", "/jobs/a/b", "/Jobs", "/node/state/", "//jobs"] {
        // The method does not matter where there is no path.
        get(&node, unknown).refused(404, "no_such_path");
        ask(&node, "DELETE", unknown, &[], "").refused(404, "no_such_path");
    }
}

#[test]
fn what_a_job_goes_through_is_as_described() {
    let node = start();
    let document = description(&node);
    let check = |method: &str, path: &str, target: &str, status: u16| {
        let answer = ask(&node, method, target, &[], "");
        assert_eq!(answer.status, status, "{method} {target}: {answer:?}");
        conforms(&document, method, path, &answer);
        answer
    };
    // There is no such file: the job is taken, and fails.
    let body = r#"{"id": "described", "input": "nas://media/none.mkv", "labels": {"a": "b"}}"#;
    let taken = send_json(&node, "POST", "/jobs", body);
    assert_eq!((taken.status, taken.headers["location"].as_str()), (202, "/jobs/described"));
    conforms(&document, "POST", "/jobs", &taken);
    until(LIMIT, "the job ends", || {
        (get(&node, "/jobs/described").json()["state"] == "failed").then_some(())
    });
    check("GET", "/jobs/{id}", "/jobs/described", 200);
    check("GET", "/jobs/{id}", "/jobs/%64escribed", 200);
    let again = send_json(&node, "POST", "/jobs", body);
    assert_eq!((again.status, again.headers.get("location")), (200, None));
    conforms(&document, "POST", "/jobs", &again);
    let other = send_json(&node, "POST", "/jobs", &body.replace("none", "other"));
    other.refused(409, "id_conflict");
    conforms(&document, "POST", "/jobs", &other);
    assert_eq!(check("DELETE", "/jobs/{id}", "/jobs/described", 200).json()["state"], "failed");
    check("DELETE", "/jobs/{id}/output", "/jobs/described/output", 204);

    let events = check("GET", "/jobs/{id}/events", "/jobs/described/events", 200);
    let told: Vec<(&str, Value)> = events.body.split("\n\n").filter_map(event).collect();
    let states: Vec<&str> = told.iter().filter_map(|(_, data)| data["state"].as_str()).collect();
    assert_eq!(states, ["queued", "running", "failed"], "{}", events.body);
    for (name, data) in &told {
        let schema = if *name == "state" { "StateEvent" } else { "ProgressEvent" };
        let schema = json!({"$ref": format!("#/components/schemas/{schema}")});
        assert_eq!(breaches(&document, &schema, data), Vec::<String>::new(), "{data:#}");
    }
    let over = ask(&node, "GET", "/jobs/described/events", &["Last-Event-ID: 3"], "");
    assert_eq!((over.status, over.body.as_str()), (204, ""));
    let rest = ask(&node, "GET", "/jobs/described/events", &["Last-Event-ID: 2"], "");
    assert!(rest.body.contains("id: 3\n") && !rest.body.contains("id: 2\n"), "{}", rest.body);
    let nonsense = ask(&node, "GET", "/jobs/described/events", &["Last-Event-ID: many"], "");
    assert!(nonsense.body.contains("id: 1\n"), "{}", nonsense.body);
}

/// Name and data of one server-sent event.
fn event(block: &str) -> Option<(&str, Value)> {
    let of = |name: &str| block.lines().find_map(|line| line.trim_end_matches('\r').strip_prefix(name));
    Some((of("event: ")?, serde_json::from_str(of("data: ")?).unwrap()))
}

#[test]
fn jobs_come_in_pages_newest_first() {
    let node = start();
    // There is no such file: each is taken, and fails.
    for n in 0..5 {
        node.accepted(&json!({"id": format!("j{n}"), "input": "nas://media/none.mkv"}));
        node.ended(&format!("j{n}"));
    }
    let document = description(&node);
    let page = |query: &str| {
        let answer = get(&node, &format!("/jobs{query}"));
        conforms(&document, "GET", "/jobs", &answer);
        let page = answer.json();
        let ids = page["jobs"].as_array().unwrap().iter().map(|job| job["id"].as_str().unwrap().to_owned());
        (ids.collect::<Vec<_>>(), page["next"].clone())
    };
    let ids = |wanted: &[&str]| wanted.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
    assert_eq!(page(""), (ids(&["j4", "j3", "j2", "j1", "j0"]), Value::Null));
    assert_eq!(page("?limit=2"), (ids(&["j4", "j3"]), json!("j3")));
    assert_eq!(page("?limit=2&after=j3"), (ids(&["j2", "j1"]), json!("j1")));
    assert_eq!(page("?after=j1&limit=2"), (ids(&["j0"]), Value::Null));
    assert_eq!(page("?state=failed&limit=5").0.len(), 5);
    assert_eq!(page("?state=queued"), (ids(&[]), Value::Null));
    get(&node, "/jobs?after=j9").refused(404, "after_not_found");
    for bad in
        ["limit=0", "limit=201", "limit=x", "limit=", "limit=%2B1", "state=sleeping", "state=", "size=1"]
    {
        let answer = get(&node, &format!("/jobs?{bad}"));
        answer.refused(400, "bad_query");
        conforms(&document, "GET", "/jobs", &answer);
    }
    get(&node, "/jobs?limit=1&limit=1").refused(400, "bad_query");
}

// ---- refusals -------------------------------------------------------------------------------------

#[test]
fn bodies_are_json_of_a_bounded_size() {
    let node = start();
    let document = description(&node);
    let body = r#"{"input": "nas://media/none.mkv"}"#;
    for (method, path) in [("POST", "/jobs"), ("PUT", "/node/state")] {
        for kind in [
            &[][..],
            &["Content-Type: text/plain"],
            &["Content-Type: application/x-www-form-urlencoded"],
            &["Content-Type: application/json", "Content-Encoding: gzip"],
        ] {
            let answer = ask(&node, method, path, kind, body);
            answer.refused(415, "unsupported_media_type");
            conforms(&document, method, path, &answer);
        }
        for text in ["{", "nonsense", "{}{}", "\u{feff}{}", "{\"a\": 1e}"] {
            let answer = send_json(&node, method, path, text);
            answer.refused(400, "not_json");
            conforms(&document, method, path, &answer);
        }
        let large = format!("{body}{}", " ".repeat(1 << 20));
        let answer = send_json(&node, method, path, &large);
        answer.refused(413, "body_too_large");
        conforms(&document, method, path, &answer);
    }
    let fits = format!("{body}{}", " ".repeat((1 << 20) - body.len()));
    assert_eq!(send_json(&node, "POST", "/jobs", &fits).status, 202);
    let announced = "POST /jobs HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n\
                     Expect: 100-continue\r\nContent-Length: 1048577\r\n\r\n";
    exchange(&node, announced.as_bytes()).refused(413, "body_too_large");
}

#[test]
fn every_fault_of_a_job_is_listed() {
    let node = start();
    let document = description(&node);
    let body = r#"{"id": "../x", "input": "ftp://elsewhere/a", "format": "ts", "inptu": 1, "priority": 99,
        "renditions": [{"name": "a", "height": 9, "video_codec": "vp9"}]}"#;
    let answer = send_json(&node, "POST", "/jobs", body);
    conforms(&document, "POST", "/jobs", &answer);
    let problem = answer.refused(422, "bad_job");
    let places: BTreeSet<&str> =
        problem["faults"].as_array().unwrap().iter().map(|f| f["pointer"].as_str().unwrap()).collect();
    for place in ["/id", "/inptu", "/priority", "/renditions/0/height"] {
        assert!(places.contains(place), "{place} is missing in {places:?}");
    }
    let unmapped = send_json(&node, "POST", "/jobs", r#"{"input": "ftp://elsewhere/a"}"#);
    assert_eq!(unmapped.refused(422, "bad_job")["faults"][0]["pointer"], "/input");
}

#[test]
fn a_body_that_does_not_come_is_not_waited_for() {
    let node = start();
    let answer =
        ask(&node, "PUT", "/node/state", &["Content-Type: application/json", "Content-Length: 20"], "");
    answer.refused(408, "body_timeout");
    conforms(&description(&node), "PUT", "/node/state", &answer);
}

#[test]
fn oversized_heads_are_refused() {
    let node = start();
    get(&node, &format!("/jobs?after={}", "a".repeat(9000))).refused(414, "uri_too_long");
    let heavy = format!("X-Heavy: {}", "a".repeat(30_000));
    ask(&node, "GET", "/jobs", &[&heavy], "").refused(431, "headers_too_large");
    // What is no HTTP gets a bare refusal, and the node goes on.
    assert_eq!(exchange(&node, b"nonsense\r\n\r\n").status, 400);
    assert_eq!(get(&node, "/healthz").status, 200);
}

// ---- who may ask ----------------------------------------------------------------------------------

#[test]
fn a_web_page_cannot_drive_the_node() {
    let node = start();
    let port = node.address().port();
    let own = format!("Origin: http://localhost:{port}");
    let host = format!("Host: localhost:{port}");
    assert_eq!(ask(&node, "GET", "/jobs", &[&host, &own], "").status, 200);
    for origin in ["http://evil.example", "null", "https://localhost", "http://localhost:1"] {
        for (method, target) in
            [("GET", "/jobs"), ("DELETE", "/jobs/a"), ("OPTIONS", "/jobs"), ("GET", "/healthz")]
        {
            let line = format!("Origin: {origin}");
            let answer = ask(&node, method, target, &[&host, &line], "");
            answer.refused(403, "foreign_origin");
            assert!(!answer.headers.keys().any(|name| name.starts_with("access-control")), "{answer:?}");
        }
    }
    for ours in ["127.0.0.1", "[::1]:8080", "LOCALHOST:1", "node-under-test:80"] {
        assert_eq!(ask(&node, "GET", "/jobs", &[&format!("Host: {ours}")], "").status, 200, "{ours}");
    }
    for theirs in ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "0.0.0.0", "192.0.2.1"]
    {
        ask(&node, "GET", "/jobs", &[&format!("Host: {theirs}")], "").refused(403, "foreign_host");
    }
    exchange(&node, b"GET /jobs HTTP/1.1\r\nConnection: close\r\n\r\n").refused(400, "bad_host");
    let absolute = ask(&node, "GET", "http://evil.example/jobs", &[], "");
    absolute.refused(403, "foreign_host");
}

#[test]
fn with_a_token_nothing_but_the_probes_and_media_is_open() {
    let node = Node::start(&Config::default().with("http.control_token", TOKEN));
    let right = format!("Authorization: Bearer {TOKEN}");
    let with = |target: &str, line: &str| ask(&node, "GET", target, &["Host: any.example", line], "");
    let document = with("/openapi.json", &right).json();
    assert_eq!(document["components"]["securitySchemes"]["control_token"]["scheme"], "bearer");
    for (path, item) in document["paths"].as_object().unwrap() {
        let target = path.replace("{id}", "a").replace("{job}", "a");
        let target = target.replace("{root}", "media").replace("{path}", "a");
        for method in item.as_object().unwrap().keys() {
            let answer = ask(&node, &method.to_uppercase(), &target, &["Host: any.example"], "");
            let media = path.starts_with("/stream/") || path.starts_with("/vod/");
            let open = media || ["/healthz", "/readyz"].contains(&path.as_str());
            assert_eq!(answer.status == 401, !open, "{method} {path}");
            conforms(&document, method, path, &answer);
        }
    }
    get(&node, "/nothing").refused(401, "unauthorized");
    assert_eq!(get(&node, "/jobs").headers["www-authenticate"], "Bearer");
    assert_eq!(with("/jobs", &right).status, 200);
    for wrong in [
        format!("Authorization: Bearer {TOKEN}x"),
        format!("Authorization: Bearer {}", &TOKEN[1..]),
        format!("Authorization: Basic {TOKEN}"),
        "Authorization: Bearer".to_owned(),
        format!("X-Token: {TOKEN}"),
    ] {
        with("/jobs", &wrong).refused(401, "unauthorized");
    }
    ask(&node, "GET", "/jobs", &[&right, "Origin: http://evil.example"], "").refused(403, "foreign_origin");
    assert_eq!(node.said_about(TOKEN), Vec::<String>::new(), "the token is in the log");
}

// ---- roots ----------------------------------------------------------------------------------------

#[test]
fn roots_show_what_they_hold_and_nothing_else() {
    let node = start();
    let media = node.media();
    fs::create_dir_all(media.join("series/one")).unwrap();
    fs::create_dir_all(media.join(".private")).unwrap();
    fs::write(media.join("b.mkv"), b"12345").unwrap();
    fs::write(media.join(".hidden.mkv"), b"x").unwrap();
    fs::write(media.join("series/a b+ü%41.mkv"), b"x").unwrap();
    symlink(node.output(), media.join("leads-out")).unwrap();
    let document = description(&node);
    let roots = get(&node, "/roots");
    conforms(&document, "GET", "/roots", &roots);
    assert_eq!(roots.json()["roots"], json!([{"name": "media", "uri": "nas://media", "answering": true}]));

    let top = get(&node, "/roots/media");
    conforms(&document, "GET", "/roots/{root}", &top);
    let names = |answer: &Wire| {
        let page = answer.json();
        page["entries"]
            .as_array()
            .unwrap()
            .iter()
            .map(|e| e["name"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&top), ["b.mkv", "series"]);
    let file = &top.json()["entries"][0];
    assert_eq!((&file["kind"], &file["size_bytes"]), (&json!("file"), &json!(5)));
    for target in
        ["/roots/media/series", "/roots/media/series/", "/roots/media/%73eries", "/roots/media/./series"]
    {
        let answer = get(&node, target);
        conforms(&document, "GET", "/roots/{root}/{path}", &answer);
        assert_eq!(names(&answer), ["a b+ü%41.mkv", "one"], "{target}");
        assert_eq!(answer.json()["uri"], "nas://media/series");
    }
    let first = get(&node, "/roots/media?limit=1").json();
    assert_eq!((&first["entries"][0]["name"], &first["next"]), (&json!("b.mkv"), &json!("b.mkv")));
    assert_eq!(names(&get(&node, "/roots/media?limit=1&after=b.mkv")), ["series"]);
    escapes(&node, &document);
}

/// Every way out, and everything that is not there.
fn escapes(node: &Node, document: &Value) {
    let out = [
        "..",
        "../out",
        "%2e%2e",
        "%2E%2e/out",
        "..%2fout",
        "series/../../out",
        "series%2F..%2F..%2Fout",
        "leads-out",
        "leads-out/x",
        "a%00b",
    ];
    for path in out {
        let answer = get(node, &format!("/roots/media/{path}"));
        answer.refused(404, "path_escapes");
        conforms(document, "GET", "/roots/{root}/{path}", &answer);
    }
    let missing = [
        "none",
        ".private",
        ".hidden.mkv",
        "%2eprivate",
        "%252e%252e",
        "..%5cout",
        "%ff",
        "...",
        "%c0%ae%c0%ae",
    ];
    for path in missing {
        get(node, &format!("/roots/media/{path}")).refused(404, "not_found");
    }
    get(node, "/roots/media/b.mkv").refused(404, "not_a_folder");
    for root in ["none", "..", "%2e%2e", "output", "MEDIA"] {
        get(node, &format!("/roots/{root}")).refused(404, "root_not_found");
    }
    get(node, "/roots/media?limit=0").refused(400, "bad_query");
}

// ---- operation ------------------------------------------------------------------------------------

#[test]
fn readiness_follows_the_state_and_health_does_not() {
    let node = start();
    let document = description(&node);
    let ready = || get(&node, "/readyz");
    assert_eq!((ready().status, ready().json()), (200, json!({"status": "ready"})));
    let set = send_json(&node, "PUT", "/node/state", r#"{"state": "MAINTENANCE"}"#);
    conforms(&document, "PUT", "/node/state", &set);
    assert_eq!(set.json()["state"], "MAINTENANCE");
    ready().refused(503, "not_ready");
    conforms(&document, "GET", "/readyz", &ready());
    assert_eq!(get(&node, "/healthz").json(), json!({"status": "ok"}));
    let refused = send_json(&node, "POST", "/jobs", r#"{"input": "nas://media/none.mkv"}"#);
    refused.refused(503, "maintenance");
    conforms(&document, "POST", "/jobs", &refused);
    assert_eq!(send_json(&node, "PUT", "/node/state", r#"{"state": "IDLE"}"#).json()["state"], "IDLE");
    assert_eq!(ready().status, 200);
    for (body, pointer) in [
        (r#"{"state": "BUSY"}"#, "/state"),
        (r#"{"state": "idle"}"#, "/state"),
        ("{}", "/state"),
        (r#"{"state": "IDLE", "why": 1}"#, "/why"),
        ("[]", ""),
    ] {
        let answer = send_json(&node, "PUT", "/node/state", body);
        assert_eq!(answer.refused(422, "bad_state")["faults"][0]["pointer"], pointer, "{body}");
        conforms(&document, "PUT", "/node/state", &answer);
    }
    assert_eq!(get(&node, "/node").json()["state"], "IDLE");
}

#[test]
fn the_metrics_are_prometheus_text() {
    let node = start();
    node.accepted(&json!({"id": "a", "input": "nas://media/none.mkv"}));
    node.ended("a");
    get(&node, "/jobs/a");
    get(&node, "/roots/media/x/y");
    get(&node, "/made/up/paths");
    let answer = get(&node, "/metrics");
    assert_eq!(answer.headers["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    let mut kinds = BTreeMap::new();
    for line in answer.body.lines() {
        if let Some(words) = line.strip_prefix("# TYPE ") {
            let (name, kind) = words.split_once(' ').unwrap();
            assert!(kinds.insert(name, kind).is_none(), "{name} is there twice");
        } else if !line.starts_with("# HELP ") {
            let (series, value) = line.rsplit_once(' ').unwrap();
            value.parse::<f64>().unwrap_or_else(|_| panic!("{line}"));
            let name = series.split('{').next().unwrap();
            let family = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|end| kinds.get_key_value(name.strip_suffix(end)?));
            assert!(
                kinds.contains_key(name) || family.is_some_and(|(_, k)| *k == "histogram"),
                "{line} has no type"
            );
        }
    }
    let value = |series: &str| {
        let line = answer.body.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{series} is missing in\n{}", answer.body)).parse::<f64>().unwrap()
    };
    assert_eq!(value("sprocket_jobs_accepted_total"), 1.0);
    assert_eq!(value("sprocket_jobs_failed_total"), 1.0);
    assert_eq!(value("sprocket_jobs{state=\"running\"}"), 0.0);
    assert_eq!(value("sprocket_slots"), 1.0);
    assert_eq!(value("sprocket_node_state{state=\"IDLE\"}"), 1.0);
    assert_eq!(value("sprocket_disk_answering{place=\"media\"}"), 1.0);
    assert!(value("sprocket_process_resident_bytes") > 1e6);
    let requests = |method: &str, route: &str, status: &str| {
        value(&format!(
            "sprocket_http_request_seconds_count{{method=\"{method}\",route=\"{route}\",status=\"{status}\"}}"
        ))
    };
    assert_eq!(requests("POST", "/jobs", "2xx"), 1.0);
    assert!(requests("GET", "/jobs/{id}", "2xx") >= 2.0);
    assert_eq!(requests("GET", "/roots/{root}/{*path}", "4xx"), 1.0);
    assert_eq!(requests("GET", "none", "4xx"), 1.0);
    assert!(!answer.body.contains("made/up"), "what is asked for makes no series");
}

#[test]
fn idle_connections_do_not_lock_anybody_out() {
    let node = start();
    let idle: Vec<TcpStream> = (0..520).map(|_| TcpStream::connect(node.address()).unwrap()).collect();
    assert_eq!(get(&node, "/healthz").status, 200);
    drop(idle);
}

#[test]
fn the_end_does_not_wait_for_clients() {
    let mut node = start();
    node.accepted(&json!({"id": "a", "input": "nas://media/none.mkv"}));
    let idle = TcpStream::connect(node.address()).unwrap();
    let mut half = TcpStream::connect(node.address()).unwrap();
    half.write_all(b"POST /jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{")
        .unwrap();
    node.terminate();
    drop((idle, half));
}
