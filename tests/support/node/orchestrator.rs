//! An orchestrator that hears everything and behaves as badly as it is told to.
//!
//! What enters: how it is to answer. What leaves: each request as it arrived, in order. Written on bare
//! sockets rather than with an HTTP library, because it has to hang up in the middle, answer what is no
//! HTTP, say nothing, and vanish from its port with all its connections.

use super::{LIMIT, lock, until};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Instant;

/// A request as it arrived.
#[derive(Clone, Debug)]
pub struct Heard {
    /// When.
    pub at: Instant,
    /// `POST /nodes/a/heartbeat`.
    pub call: String,
    /// The `Authorization` header.
    pub authorization: Option<String>,
    /// The body.
    pub body: Value,
    /// The status that it was answered with, if it was.
    pub answered: Option<u16>,
}

impl Heard {
    /// Its number.
    #[track_caller]
    pub fn sequence(&self) -> u64 {
        self.body["sequence"].as_u64().unwrap_or_else(|| panic!("no sequence: {}", self.body))
    }

    /// Whether it is a heartbeat.
    pub fn is_beat(&self) -> bool {
        self.call.ends_with("/heartbeat")
    }

    /// The job that it is an event of.
    pub fn event_of(&self) -> Option<&str> {
        self.call.strip_prefix("POST /jobs/")?.strip_suffix("/events")
    }

    /// The job that it is progress of.
    pub fn progress_of(&self) -> Option<&str> {
        self.call.strip_prefix("POST /jobs/")?.strip_suffix("/progress")
    }
}

/// How a request is answered.
#[derive(Clone, Debug)]
pub enum Reply {
    /// With this status and an empty JSON object.
    Status(u16),
    /// Not at all; the connection stays open.
    Stall,
    /// Not at all; the connection is closed.
    HangUp,
    /// With these bytes, whatever they are, and the connection is closed.
    Raw(&'static [u8]),
    /// With a status of 200 and a body that does not end.
    Endless,
}

impl Reply {
    /// The status that the other side gets to see.
    fn status(&self) -> Option<u16> {
        match self {
            Self::Status(status) => Some(*status),
            Self::Stall | Self::HangUp => None,
            Self::Raw(bytes) => {
                let text = std::str::from_utf8(bytes).ok()?.strip_prefix("HTTP/1.1 ")?;
                text.split(' ').next()?.parse().ok()
            }
            Self::Endless => Some(200),
        }
    }
}

type Judge = Box<dyn Fn(&Heard) -> Reply + Send>;

/// The orchestrator. It takes everything (204) until it is told otherwise.
pub struct Orchestrator {
    address: SocketAddr,
    inner: Arc<Inner>,
    acceptor: Option<JoinHandle<()>>,
}

struct Inner {
    here: AtomicBool,
    heard: Mutex<Vec<Heard>>,
    judge: Mutex<Judge>,
    open: Mutex<Vec<TcpStream>>,
    /// Connections that wait for an answer which does not come.
    stalled: Mutex<Vec<TcpStream>>,
}

impl Orchestrator {
    /// Listens on a port of loopback.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let inner = Inner {
            here: AtomicBool::new(true),
            heard: Mutex::default(),
            judge: Mutex::new(Box::new(|_| Reply::Status(204))),
            open: Mutex::default(),
            stalled: Mutex::default(),
        };
        let mut this = Self {
            address: listener.local_addr().expect("its address"),
            inner: Arc::new(inner),
            acceptor: None,
        };
        this.listen(listener);
        this
    }

    /// Its base address.
    pub fn url(&self) -> String {
        format!("http://{}/api", self.address)
    }

    /// From now on it answers so. Whoever it lets wait is hung up on.
    pub fn answers(&self, judge: impl Fn(&Heard) -> Reply + Send + 'static) {
        *lock(&self.inner.judge) = Box::new(judge);
        for stream in lock(&self.inner.stalled).drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// It is gone, with all its connections: whoever asks is refused by the system.
    pub fn away(&mut self) {
        self.inner.here.store(false, Ordering::SeqCst);
        // Wakes the acceptor, which then looks whether it is still here.
        let _ = TcpStream::connect(self.address);
        if let Some(acceptor) = self.acceptor.take() {
            acceptor.join().expect("the acceptor ends");
        }
        for stream in lock(&self.inner.open).drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// It is there again, at the same address, and knows what it has heard before.
    pub fn back(&mut self) {
        let listener = until(LIMIT, "its port is free", || TcpListener::bind(self.address).ok());
        self.inner.here.store(true, Ordering::SeqCst);
        self.listen(listener);
    }

    /// Everything so far, in the order of arrival.
    pub fn heard(&self) -> Vec<Heard> {
        lock(&self.inner.heard).clone()
    }

    /// The heartbeats so far.
    pub fn beats(&self) -> Vec<Heard> {
        self.heard().into_iter().filter(Heard::is_beat).collect()
    }

    /// The events of a job so far.
    pub fn events_of(&self, job: &str) -> Vec<Heard> {
        self.heard().into_iter().filter(|heard| heard.event_of() == Some(job)).collect()
    }

    /// Waits until what it has heard satisfies the test.
    #[track_caller]
    pub fn hears<T>(&self, what: &str, look: impl Fn(&[Heard]) -> Option<T>) -> T {
        until(LIMIT, what, || look(&lock(&self.inner.heard)))
    }

    fn listen(&mut self, listener: TcpListener) {
        let inner = self.inner.clone();
        self.acceptor = Some(std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if !inner.here.load(Ordering::SeqCst) {
                    return;
                }
                lock(&inner.open).extend(stream.try_clone());
                let inner = inner.clone();
                // A connection that breaks is what many of these tests are about.
                std::thread::spawn(move || drop(serve(&inner, stream)));
            }
        }));
    }
}

impl Drop for Orchestrator {
    fn drop(&mut self) {
        self.away();
    }
}

/// One connection, request after request.
fn serve(inner: &Inner, stream: TcpStream) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut stream = stream;
    while let Some(mut heard) = read(&mut reader)? {
        let reply = lock(&inner.judge)(&heard);
        heard.answered = reply.status();
        lock(&inner.heard).push(heard);
        match reply {
            Reply::Status(status) => stream.write_all(answer(status).as_bytes())?,
            Reply::Stall => {
                lock(&inner.stalled).push(stream.try_clone()?);
                return reader.read_exact(&mut [0]);
            }
            Reply::HangUp => return stream.shutdown(Shutdown::Both),
            Reply::Raw(bytes) => {
                stream.write_all(bytes)?;
                return stream.shutdown(Shutdown::Both);
            }
            Reply::Endless => endless(&mut stream)?,
        }
    }
    Ok(())
}

/// One request; `None` at the end of the connection.
fn read(reader: &mut BufReader<TcpStream>) -> std::io::Result<Option<Heard>> {
    let mut first = String::new();
    if reader.read_line(&mut first)? == 0 {
        return Ok(None);
    }
    let (mut length, mut authorization) = (0, None);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim().split_once(':') else { break };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse().unwrap_or(0),
            "authorization" => authorization = Some(value.trim().to_owned()),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let call = first.rsplit_once(' ').map_or("", |(call, _version)| call).replacen(" /api/", " /", 1);
    let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
    Ok(Some(Heard { at: Instant::now(), call, authorization, body, answered: None }))
}

fn answer(status: u16) -> String {
    let body = if status == 204 { "" } else { "Content-Type: application/json\r\nContent-Length: 2\r\n" };
    let end = if status == 204 { "" } else { "{}" };
    format!("HTTP/1.1 {status} Told\r\n{body}\r\n{end}")
}

fn endless(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
    let chunk = [b"10000\r\n".as_slice(), &[b'x'; 0x10000], b"\r\n"].concat();
    loop {
        stream.write_all(&chunk)?;
    }
}
