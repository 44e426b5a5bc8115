use super::super::fakes::{Reply, Server, until};
use super::*;
use axum::response::IntoResponse;
use serde_json::json;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;
use std::time::Instant;

fn body() -> Map<String, Value> {
    Map::from_iter([("percent".to_string(), json!(12.5))])
}

fn short() -> Limits {
    Limits { connect: Duration::from_millis(300), whole: Duration::from_millis(300) }
}

/// A server that reads a little of each request, writes `answer` and closes.
fn raw(answer: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(answer);
        }
    });
    url
}

#[tokio::test]
async fn a_request_is_as_the_contract_says() {
    let server = Server::start(|_| Reply::status(204));
    let client = Client::new(&format!("{}/api/v1/", server.url()), "s3cret", "living room/1?#%2e").unwrap();
    for call in [Call::Heartbeat, Call::Progress("movie-42"), Call::Events("a..b")] {
        assert_eq!(client.post(call, 7, body()).await, Answer::Delivered);
    }
    let seen = server.seen();
    let paths: Vec<&str> = seen.iter().map(|seen| seen.path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "/api/v1/nodes/living%20room%2F1%3F%23%252e/heartbeat",
            "/api/v1/jobs/movie-42/progress",
            "/api/v1/jobs/a..b/events"
        ]
    );
    for seen in seen {
        assert_eq!(seen.headers["authorization"], "Bearer s3cret");
        assert_eq!(seen.headers["content-type"], "application/json");
        let expected = json!({ "percent": 12.5, "node_id": "living room/1?#%2e", "sequence": 7 });
        assert_eq!(seen.body, expected);
    }
}

#[tokio::test]
async fn no_token_no_header() {
    let server = Server::start(|_| Reply::status(200));
    Client::new(&server.url(), "", "n").unwrap().post(Call::Heartbeat, 1, body()).await;
    assert_eq!(server.seen()[0].headers.get("authorization"), None);
    assert_eq!(server.seen()[0].path, "/nodes/n/heartbeat");
}

#[tokio::test]
async fn each_status_has_its_meaning() {
    let server = Server::start(|seen| Reply::status(seen.body["status"].as_u64().unwrap() as u16));
    let client = Client::new(&server.url(), "t", "n").unwrap();
    let mut answers = Vec::new();
    for status in [200, 201, 204, 400, 401, 404, 409, 422, 408, 429, 500, 501, 502, 503, 504] {
        let body = Map::from_iter([("status".to_string(), json!(status))]);
        let short = match client.post(Call::Heartbeat, 1, body).await {
            Answer::Delivered => "delivered".to_string(),
            Answer::Refused { status } => format!("refused {status}"),
            Answer::Later { scope, after: None, .. } => format!("later {scope:?}"),
            Answer::Later { .. } => "later after".to_string(),
        };
        answers.push(format!("{status} {short}, reachable {}", client.link().reach().reachable));
    }
    assert_eq!(
        answers,
        [
            "200 delivered, reachable true",
            "201 delivered, reachable true",
            "204 delivered, reachable true",
            "400 refused 400, reachable true",
            "401 refused 401, reachable true",
            "404 refused 404, reachable true",
            "409 refused 409, reachable true",
            "422 refused 422, reachable true",
            "408 later Request, reachable true",
            "429 later Orchestrator, reachable true",
            "500 later Request, reachable true",
            "501 later Request, reachable true",
            "502 later Orchestrator, reachable false",
            "503 later Orchestrator, reachable false",
            "504 later Orchestrator, reachable false",
        ]
    );
}

#[tokio::test]
async fn a_wish_for_quiet_is_no_outage() {
    let server = Server::start(|_| {
        Reply::Now((StatusCode::SERVICE_UNAVAILABLE, [("retry-after", "7")]).into_response())
    });
    let client = Client::new(&server.url(), "t", "n").unwrap();
    let answer = client.post(Call::Heartbeat, 1, body()).await;
    let Answer::Later { after, scope, .. } = answer else { panic!("{answer:?}") };
    assert_eq!((after, scope), (Some(Duration::from_secs(7)), Scope::Orchestrator));
    assert!(client.link().reach().reachable);
}

#[test]
fn a_wish_for_quiet_is_read_in_both_forms_and_has_a_bound() {
    let now: Timestamp = "2026-11-24T10:00:00Z".parse().unwrap();
    let read = |text: &str| retry_after(&HeaderValue::from_str(text).unwrap(), now).map(|d| d.as_secs());
    assert_eq!(read("0"), Some(0));
    assert_eq!(read(" 30 "), Some(30));
    assert_eq!(read("86400"), Some(60));
    assert_eq!(read("Tue, 24 Nov 2026 10:00:20 GMT"), Some(20));
    assert_eq!(read("Tue, 24 Nov 2026 09:00:00 GMT"), Some(0), "gone by");
    assert_eq!(read("Wed, 25 Nov 2026 10:00:00 GMT"), Some(60));
    for nonsense in ["", "soon", "-1", "1.5", "99999999999999999999999", "2026-11-24"] {
        assert_eq!(read(nonsense), None, "{nonsense:?}");
    }
}

#[tokio::test]
async fn the_token_follows_no_redirect() {
    let elsewhere = Server::start(|_| Reply::status(200));
    let url = elsewhere.url();
    let server = Server::start(move |_| {
        Reply::Now((StatusCode::TEMPORARY_REDIRECT, [("location", url.clone())]).into_response())
    });
    let client = Client::new(&server.url(), "t", "n").unwrap();
    let answer = client.post(Call::Heartbeat, 1, body()).await;
    let why = "it answered 307 Temporary Redirect (redirects are not followed)".into();
    assert_eq!(answer, Answer::Later { why, after: None, scope: Scope::Request });
    assert_eq!(elsewhere.seen().len(), 0);
}

#[tokio::test]
async fn stalls_garbage_and_closed_doors_end_as_later() {
    let stalling = Server::start(|_| Reply::Stall);
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for url in [
        stalling.url(),
        format!("http://{gone}"),
        raw(b""),
        raw(b"\x00\xff not HTTP at all\r\n\r\n"),
        raw(b"HTTP/1.1 2000 OK\r\n\r\n"),
        raw(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n"),
        "http://localhost:1".into(),
    ] {
        let client = Client::with_limits(&url, "t", "n", short()).unwrap();
        let began = Instant::now();
        let answer = client.post(Call::Heartbeat, 1, body()).await;
        assert!(began.elapsed() < Duration::from_secs(3), "{url}");
        let Answer::Later { why, after: None, scope: Scope::Orchestrator } = answer else {
            panic!("{url} {answer:?}")
        };
        assert!(!why.is_empty() && !why.contains("heartbeat"), "{why}");
        assert_eq!((client.link().reach().reachable, client.link().reach().outages), (false, 1), "{url}");
    }
    until(|| stalling.seen().len() == 1).await;
}

#[tokio::test]
async fn what_follows_the_status_changes_nothing() {
    for (answer, expected) in [
        (&b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n{]\xff"[..], Answer::Delivered),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 999\r\n\r\ncut off", Answer::Delivered),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", Answer::Delivered),
        (b"HTTP/1.1 410 Gone\r\ncontent-length: 999\r\n\r\n", Answer::Refused { status: 410 }),
    ] {
        let client = Client::new(&raw(answer), "t", "n").unwrap();
        assert_eq!(client.post(Call::Heartbeat, 1, body()).await, expected);
    }
}

#[tokio::test]
async fn an_endless_answer_is_cut_off() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 4096]);
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 999999999999\r\n\r\n").unwrap();
        let mut written = 0u64;
        while let Ok(n) = stream.write(&[b' '; 65536]) {
            written += n as u64;
        }
        written
    });
    let client = Client::new(&url, "t", "n").unwrap();
    assert_eq!(client.post(Call::Heartbeat, 1, body()).await, Answer::Delivered);
    // Sockets hold some, but the client did not read on, and hung up.
    let written = tokio::task::spawn_blocking(|| server.join().unwrap()).await.unwrap();
    assert!(written < 64 << 20, "{written} bytes");
}

#[test]
fn what_cannot_be_an_orchestrator_is_refused_and_no_secret_is_shown() {
    for (url, token, node, code) in [
        ("", "", "n", "bad_orchestrator_url"),
        ("orchestrator:8080", "", "n", "bad_orchestrator_url"),
        ("ftp://o", "", "n", "bad_orchestrator_url"),
        ("http://", "", "n", "bad_orchestrator_url"),
        ("http://user:hunter2@o", "", "n", "bad_orchestrator_url"),
        ("http://o/?a=hunter2", "", "n", "bad_orchestrator_url"),
        ("http://o/#x", "", "n", "bad_orchestrator_url"),
        ("http://o", "hunter2\n", "n", "bad_orchestrator_token"),
        ("http://o", "", "..", "bad_node_id"),
        ("http://o", "", "", "bad_node_id"),
    ] {
        let error = Client::new(url, token, node).unwrap_err();
        assert_eq!((error.code(), error.kind()), (code, ErrorKind::Usage), "{url}");
        assert!(!error.to_string().contains("hunter2"), "{error}");
        assert!(error.hint_text().is_some());
    }
    let client = Client::new(" http://o:1/x ", "hunter2", "n").unwrap();
    assert!(!format!("{client:?}").contains("hunter2"));
}

#[tokio::test]
async fn https_meets_a_server_without_it() {
    let server = Server::start(|_| Reply::status(200));
    match Client::with_limits(&server.url().replace("http:", "https:"), "t", "n", short()) {
        Ok(client) => {
            let answer = client.post(Call::Heartbeat, 1, body()).await;
            assert!(matches!(answer, Answer::Later { scope: Scope::Orchestrator, .. }), "{answer:?}");
        }
        // A machine without certificates.
        Err(error) => assert_eq!(error.code(), "tls_unavailable"),
    }
    assert_eq!(server.seen().len(), 0);
}

#[test]
fn loopback_is_told_from_the_rest() {
    let loopback = |url: &str| is_loopback(&Url::parse(url).unwrap());
    assert!(loopback("http://127.0.0.1:1") && loopback("http://[::1]:1") && loopback("http://localhost/x"));
    assert!(!loopback("http://127.0.0.1.example.org") && !loopback("http://10.0.0.1"));
}
