//! The address that the node listens on, and the orchestrator that it talks to.
//!
//! What enters: the settings. What leaves: whether the address can be had, whether the orchestrator
//! answers and takes the token. It sends no heartbeat: the orchestrator must not think that a node has
//! come, so the question is a GET, which has no meaning in the contract.

use super::{Check, Finding};
use crate::config::settings::{Http, Settings};
use crate::node::orchestrator::Client;
use crate::node::orchestrator::describe;
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;
use reqwest::header::DATE;
use reqwest::{RequestBuilder, StatusCode, Url, redirect};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::time::Duration;

/// What the orchestrator may take to answer.
const ANSWER: Duration = Duration::from_secs(5);
/// What a server at our own address may take.
const NEAR_ANSWER: Duration = Duration::from_secs(2);
/// For threads and sockets around the requests.
const SLACK: Duration = Duration::from_secs(1);
/// Clocks that differ by more make logs and jobs' times hard to compare.
const MAX_SKEW_S: i64 = 30;

/// The checks of the network.
pub(super) fn checks(settings: &Settings) -> Vec<Check> {
    let http = settings.http.clone();
    let listen = Check::new("address", move || listen(&http));
    let orchestrator = &settings.orchestrator;
    let asked = match &orchestrator.url {
        None => Check::new("orchestrator", || Finding::ok("none: stand-alone")),
        Some(url) => {
            let token = orchestrator.token.as_ref().map_or(String::new(), |token| token.expose().into());
            let (url, id) = (url.clone(), settings.node.id.clone());
            Check::new("orchestrator", move || orchestrator_at(&url, &token, &id)).within(ANSWER + SLACK)
        }
    };
    vec![listen, asked]
}

// ---- the own address ------------------------------------------------------------------------------

fn listen(http: &Http) -> Finding {
    let address = http.listen;
    match TcpListener::bind(address) {
        Ok(_) => Finding::ok(format!("{address} is free; {}", openness(http))),
        Err(e) if e.kind() == ErrorKind::AddrInUse => taken(address),
        Err(e) => unbindable(address, &e),
    }
}

fn openness(http: &Http) -> &'static str {
    let local = http.listen.ip().is_loopback();
    match (&http.control_token, &http.stream_token) {
        _ if local => "this machine alone reaches it",
        (None, _) => "control calls need no token",
        (Some(_), None) => "control calls need the token, streams need none",
        (Some(_), Some(_)) => "control calls and streams need their tokens",
    }
}

/// Somebody listens there. If it speaks as a node does, that is most likely the one asked about.
fn taken(address: SocketAddr) -> Finding {
    let asked = SocketAddr::new(reachable(address.ip()), address.port());
    let healthy = Url::parse(&format!("http://{asked}/healthz"));
    let answer = healthy.map_err(|e| e.to_string()).and_then(|url| ask(url, "", NEAR_ANSWER));
    match answer {
        Ok(answer) if answer.status.is_success() => Finding::warn(
            format!("{address} is taken by a server that says it is well: a node runs already"),
            "that is well if it is the node that you ask about; a second one needs another http.listen",
        ),
        _ => Finding::fail(
            format!("{address} is taken by another program"),
            format!(
                "stop it (`ss -ltnp 'sport = :{}'` names it), or choose another port with http.listen",
                address.port()
            ),
        ),
    }
}

/// Where a server that listens on this address can be asked.
fn reachable(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    }
}

fn unbindable(address: SocketAddr, e: &io::Error) -> Finding {
    let mend = match e.kind() {
        ErrorKind::PermissionDenied => {
            "choose a port from 1024 on with http.listen, or give the service AmbientCapabilities=CAP_NET_BIND_SERVICE"
        }
        ErrorKind::AddrNotAvailable => {
            "no interface of this machine has it: mend http.listen, or use 0.0.0.0 or [::]"
        }
        _ => "mend http.listen",
    };
    Finding::fail(format!("cannot listen on {address}: {e}"), mend)
}

// ---- the orchestrator -----------------------------------------------------------------------------

struct Answer {
    status: StatusCode,
    date: Option<Timestamp>,
}

fn orchestrator_at(url: &str, token: &str, node_id: &str) -> Finding {
    // What the node itself would say to this configuration.
    if let Err(e) = Client::new(url, token, node_id) {
        return Finding::fail(e.message(), e.hint_text().unwrap_or("mend the section orchestrator"));
    }
    let asked = address(url, node_id).and_then(|address| ask(address, token, ANSWER));
    match asked {
        Ok(answer) => judge(url, &answer, !token.is_empty(), Timestamp::now()),
        Err(why) => Finding::fail(
            format!("{url} cannot be reached: {why}"),
            "look at orchestrator.url, name resolution, the firewall, and whether it runs; events wait on disk until it does",
        ),
    }
}

/// Where heartbeats go.
fn address(url: &str, node_id: &str) -> Result<Url, String> {
    let mut address = Url::parse(url).map_err(|e| e.to_string())?;
    if let Ok(mut path) = address.path_segments_mut() {
        path.pop_if_empty().extend(["nodes", node_id, "heartbeat"]);
    }
    Ok(address)
}

fn judge(url: &str, answer: &Answer, with_token: bool, now: Timestamp) -> Finding {
    let status = answer.status;
    match status.as_u16() {
        401 | 403 if with_token => Finding::fail(
            format!("{url} refuses the token ({status})"),
            "set orchestrator.token or token_file to the one that it has for this node",
        ),
        401 | 403 => Finding::fail(
            format!("{url} wants a token ({status})"),
            "set orchestrator.token or orchestrator.token_file",
        ),
        300..=399 => Finding::warn(
            format!("{url} sends elsewhere ({status}), and the node follows nobody with its token"),
            "set orchestrator.url to the address that it means",
        ),
        500.. => Finding::warn(
            format!("{url} answers {status}"),
            "is it starting, or behind a gateway? the node keeps events and tries again",
        ),
        _ => skewed(url, answer, now)
            // It need not know GET: what counts is that it speaks HTTP and does not turn us away.
            .unwrap_or_else(|| Finding::ok(format!("{url} answers (a GET gets {status})"))),
    }
}

fn skewed(url: &str, answer: &Answer, now: Timestamp) -> Option<Finding> {
    let seconds = now.as_second() - answer.date?.as_second();
    let (far, word) = (seconds.abs() > MAX_SKEW_S, if seconds > 0 { "behind" } else { "ahead of" });
    far.then(|| {
        Finding::warn(
            format!("{url} answers, but its clock is {} s {word} this one's", seconds.abs()),
            "let both keep time by NTP",
        )
    })
}

/// One GET, on a runtime of its own. Ends within the limit.
fn ask(url: Url, token: &str, limit: Duration) -> Result<Answer, String> {
    // Fails when there is one already, which does as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut client = reqwest::Client::builder()
        .user_agent(concat!("sprocket/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::none())
        .timeout(limit);
    if is_loopback(&url) {
        client = client.no_proxy();
    }
    if url.scheme() == "http" {
        // A small container may have no certificates at all, and needs none.
        client = client.tls_certs_only([]);
    }
    let request = client.build().map_err(describe)?.get(url);
    let request = if token.is_empty() { request } else { request.bearer_auth(token) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| e.to_string())?;
    let answer = runtime.block_on(send(request));
    // A name that is still being looked up has a thread, which must not be waited for.
    runtime.shutdown_background();
    answer
}

async fn send(request: RequestBuilder) -> Result<Answer, String> {
    let response = request.send().await.map_err(describe)?;
    let date = response.headers().get(DATE).and_then(|date| date.to_str().ok());
    let date = date.and_then(|date| DateTimeParser::new().parse_timestamp(date).ok());
    Ok(Answer { status: response.status(), date })
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let ip: Option<IpAddr> = host.trim_start_matches('[').trim_end_matches(']').parse().ok();
    host == "localhost" || ip.is_some_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::super::Level::{self, Fail, Ok as Well, Warn};
    use super::*;
    use crate::config::settings::Secret;
    use std::io::{Read, Write};
    use std::thread::JoinHandle;

    fn http(listen: SocketAddr) -> Http {
        Http { listen, control_token: None, stream_token: None, cors_origins: Vec::new() }
    }

    /// Answers one request, and tells what was asked.
    fn server(answer: &'static str) -> (SocketAddr, JoinHandle<String>) {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let serve = move || {
            let (mut stream, _) = socket.accept().unwrap();
            let mut asked = Vec::new();
            while !asked.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                asked.extend(byte);
            }
            stream.write_all(answer.as_bytes()).unwrap();
            String::from_utf8(asked).unwrap()
        };
        (address, std::thread::spawn(serve))
    }

    #[test]
    fn a_free_address_is_free_afterwards_too() {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert_eq!(listen(&http(free)).level, Well);
        assert_eq!(listen(&http(free)).result, format!("{free} is free; this machine alone reaches it"));
        TcpListener::bind(free).unwrap();
    }

    #[test]
    fn who_has_the_address_makes_the_difference() {
        let (node, asked) = server("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(listen(&http(node)).level, Warn);
        assert!(asked.join().unwrap().starts_with("GET /healthz HTTP/1.1\r\n"));
        let (other, asked) = server("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
        let found = listen(&http(other));
        assert!(found.level == Fail && found.mend.unwrap().contains(&format!(":{}", other.port())));
        asked.join().unwrap();
    }

    #[test]
    fn an_address_of_another_machine_cannot_be_had() {
        // RFC 5737: no machine has it.
        let found = listen(&http("192.0.2.1:8080".parse().unwrap()));
        assert_eq!(found.level, Fail, "{found:?}");
    }

    #[test]
    fn who_can_do_what_is_told() {
        let mut http = http("0.0.0.0:8080".parse().unwrap());
        http.control_token = Some(Secret::new("x"));
        assert_eq!(openness(&http), "control calls need the token, streams need none");
        http.stream_token = Some(Secret::new("y"));
        assert_eq!(openness(&http), "control calls and streams need their tokens");
        assert_eq!(reachable("0.0.0.0".parse().unwrap()), IpAddr::V4(Ipv4Addr::LOCALHOST));
        assert_eq!(reachable("::".parse().unwrap()), IpAddr::V6(Ipv6Addr::LOCALHOST));
    }

    #[test]
    fn the_orchestrator_is_asked_with_the_token_and_told_nothing() {
        let (address, asked) = server("HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\n\r\n");
        let found = orchestrator_at(&format!("http://{address}/api/"), "hunter2", "living room");
        assert_eq!(found.level, Well, "{found:?}");
        let asked = asked.join().unwrap().to_lowercase();
        assert!(asked.starts_with("get /api/nodes/living%20room/heartbeat http/1.1\r\n"), "{asked}");
        assert!(asked.contains("\r\nauthorization: bearer hunter2\r\n"), "{asked}");
    }

    #[test]
    fn an_answer_is_judged_by_its_status_and_its_clock() {
        let now: Timestamp = "2026-05-05T12:00:00Z".parse().unwrap();
        let judged = |status: u16, date: Option<&str>, with_token| -> Level {
            let date = date.map(|date| date.parse().unwrap());
            let answer = Answer { status: StatusCode::from_u16(status).unwrap(), date };
            judge("http://o", &answer, with_token, now).level
        };
        for (status, level) in
            [(200, Well), (404, Well), (405, Well), (301, Warn), (503, Warn), (401, Fail), (403, Fail)]
        {
            assert_eq!(judged(status, None, true), level, "{status}");
            assert_eq!(judged(status, None, false), level, "{status}");
        }
        assert_eq!(judged(200, Some("2026-05-05T12:00:30Z"), true), Well);
        assert_eq!(judged(200, Some("2026-05-05T12:00:31Z"), true), Warn);
        assert_eq!(judged(200, Some("2026-05-05T11:59:29Z"), true), Warn);
        let behind = Answer { status: StatusCode::OK, date: Some("2026-05-05T11:58:00Z".parse().unwrap()) };
        let said = judge("http://o", &behind, true, now).result;
        assert_eq!(said, "http://o answers, but its clock is 120 s behind this one's");
    }

    #[test]
    fn nobody_there_and_nonsense_both_fail() {
        let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert_eq!(orchestrator_at(&format!("http://{gone}"), "", "n").level, Fail);
        for url in ["ftp://x", "http://u:p@x", "http://x/?y", "nonsense"] {
            let found = orchestrator_at(url, "", "n");
            assert!(found.level == Fail && !found.result.contains("u:p"), "{found:?}");
        }
        let (address, asked) = server("nonsense\r\n\r\n");
        assert_eq!(orchestrator_at(&format!("http://{address}"), "", "n").level, Fail);
        asked.join().unwrap();
    }
}
