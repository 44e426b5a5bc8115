//! A small HTTP/1.1 server on the loopback that keeps every rule, or breaks exactly one.
//!
//! Blocking, a thread for each connection, files from memory. It shares nothing with the node's own
//! server: what it does right is written here as RFC 9110 has it.

use super::stream::{Stream, change_tfdt};
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

/// What it does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    Nothing,
    /// Compresses playlists for those who ask, which is right.
    GzipPlaylists,
    /// Sends segments in chunks to those who want the whole, which is right.
    ChunkedWhole,
    Type,
    NoLengthOfPlaylist,
    NoLengthWithRange,
    RangeIgnored,
    RangeTooLong,
    RangeTotal,
    PlaylistTotal,
    NothingBeyond,
    BeyondWithoutLength,
    Multipart,
    NoTag,
    WeakTag,
    TagChanges,
    IfRangeIgnored,
    NeverModified,
    HeadWithoutLength,
    HeadRefused,
    GzipUnasked,
    GzipWithRange,
    GzipWithoutVary,
    GzipSegments,
    NoCors,
    NoCorsOnErrors,
    NothingExposed,
    NoOptions,
    Closes,
    SegmentsNeverKept,
    GrowingKept,
    Redirects,
    PlaylistChanges,
    SegmentChanges,
    /// Sends the same media with other padding.
    SegmentPadded,
    InitChanges,
    ShortBody,
}

/// A server until it is dropped.
pub struct Server {
    pub address: String,
    stop: Arc<AtomicBool>,
}

struct Shared {
    files: Stream,
    wrong: Wrong,
    /// How often each path was asked for.
    asked: Mutex<HashMap<String, u32>>,
    answers: AtomicU32,
}

struct Asked {
    method: String,
    path: String,
    headers: HashMap<String, String>,
}

struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    chunked: bool,
}

impl Server {
    pub fn start(files: Stream, wrong: Wrong) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = format!("http://{}", listener.local_addr().expect("an address"));
        let stop = Arc::new(AtomicBool::new(false));
        let shared = Arc::new(Shared { files, wrong, asked: Mutex::default(), answers: AtomicU32::new(0) });
        let stopped = Arc::clone(&stop);
        thread::spawn(move || {
            for connection in listener.incoming() {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                let shared = Arc::clone(&shared);
                thread::spawn(move || connection.map(|stream| serve(&stream, &shared)));
            }
        });
        Self { address, stop }
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}/{path}", self.address)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.address.trim_start_matches("http://"));
    }
}

fn serve(stream: &TcpStream, shared: &Shared) {
    let mut reader = BufReader::new(stream);
    while let Some(asked) = read(&mut reader) {
        let reply = shared.answer(&asked);
        if send(stream, &asked, &reply, shared.wrong).is_err()
            || matches!(shared.wrong, Wrong::Closes | Wrong::ShortBody)
        {
            return;
        }
    }
}

fn read(reader: &mut impl BufRead) -> Option<Asked> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|bytes| *bytes > 0)?;
    let mut words = line.split_whitespace();
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|bytes| *bytes > 0)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let path = target.split('?').next().unwrap_or("").trim_start_matches('/').to_owned();
    Some(Asked { method, path, headers })
}

fn send(mut stream: &TcpStream, asked: &Asked, reply: &Reply, wrong: Wrong) -> std::io::Result<()> {
    let mut head = format!("HTTP/1.1 {} Whatever\r\n", reply.status);
    for (name, value) in &reply.headers {
        head += &format!("{name}: {value}\r\n");
    }
    if reply.chunked {
        head += "Transfer-Encoding: chunked\r\n";
    }
    let mut bytes = (head + "\r\n").into_bytes();
    if asked.method != "HEAD" && reply.status != 304 && reply.status != 204 {
        if reply.chunked {
            bytes.extend(format!("{:x}\r\n", reply.body.len()).bytes());
            bytes.extend(&reply.body);
            bytes.extend(b"\r\n0\r\n\r\n");
        } else {
            let kept = if wrong == Wrong::ShortBody { reply.body.len() / 2 } else { reply.body.len() };
            bytes.extend(&reply.body[..kept]);
        }
    }
    stream.write_all(&bytes)
}

impl Shared {
    fn answer(&self, asked: &Asked) -> Reply {
        let wrong = self.wrong;
        self.answers.fetch_add(1, Ordering::SeqCst);
        let mut reply = Reply { status: 200, headers: Vec::new(), body: Vec::new(), chunked: false };
        if asked.method == "OPTIONS" {
            self.options(&mut reply);
        } else if let Some(body) = self.files.files.get(&asked.path) {
            self.file(asked, body.clone(), &mut reply);
        } else {
            reply.status = 404;
            reply.put("Content-Length", "0");
        }
        let is_error = reply.status >= 400;
        if wrong != Wrong::NoCors && !(wrong == Wrong::NoCorsOnErrors && is_error) {
            reply.put("Access-Control-Allow-Origin", "*");
        }
        if wrong != Wrong::NothingExposed {
            reply.put(
                "Access-Control-Expose-Headers",
                "Content-Length, Content-Range, Accept-Ranges, ETag, Date",
            );
        }
        if wrong == Wrong::Closes {
            reply.put("Connection", "close");
        }
        reply
    }

    fn options(&self, reply: &mut Reply) {
        if self.wrong == Wrong::NoOptions {
            reply.status = 405;
            reply.put("Content-Length", "0");
            return;
        }
        reply.status = 204;
        reply.put("Access-Control-Allow-Methods", "GET, HEAD, OPTIONS");
        reply.put("Access-Control-Allow-Headers", "Range, Content-Type, Accept-Encoding, Authorization");
    }

    fn file(&self, asked: &Asked, mut body: Vec<u8>, reply: &mut Reply) {
        let wrong = self.wrong;
        let times = {
            let mut all = self.asked.lock().expect("the counts");
            let times = all.entry(asked.path.clone()).or_default();
            *times += 1;
            *times
        };
        let is_playlist = asked.path.ends_with(".m3u8");
        let is_init = asked.path.ends_with("init.mp4");
        let changes = match wrong {
            Wrong::PlaylistChanges => is_playlist,
            Wrong::SegmentChanges | Wrong::SegmentPadded => !is_playlist && !is_init,
            Wrong::InitChanges => is_init,
            _ => false,
        };
        // After everything was read once; a segment is then asked for twice, to compare.
        if changes && times > if is_playlist || is_init { 1 } else { 2 } {
            match wrong {
                Wrong::PlaylistChanges => body.extend(b"# changed\n"),
                Wrong::SegmentChanges => change_tfdt(&mut body, |time| time + 1),
                // A free box is none of the media.
                _ => body.extend(b"\0\0\0\x08free"),
            }
        }
        if wrong == Wrong::Redirects && !is_playlist && !asked.path.starts_with("other/") {
            reply.status = 302;
            reply.put("Location", &format!("/other/{}", asked.path));
            reply.put("Content-Length", "0");
            return;
        }
        self.describe(asked, &body, times, reply);
        if self.is_known(asked, reply) {
            reply.status = 304;
            return;
        }
        self.encode(asked, is_playlist, &mut body, reply);
        self.slice(asked, is_playlist, body, reply);
    }

    fn describe(&self, asked: &Asked, body: &[u8], times: u32, reply: &mut Reply) {
        let wrong = self.wrong;
        let extension = asked.path.rsplit('.').next().unwrap_or_default();
        let kind = match extension {
            "m3u8" => "application/vnd.apple.mpegurl",
            "ts" => "video/mp2t",
            _ => "video/mp4",
        };
        reply.put("Content-Type", if wrong == Wrong::Type { "application/octet-stream" } else { kind });
        reply.put("Accept-Ranges", "bytes");
        reply.put("Date", "Sat, 28 Nov 2026 00:00:00 GMT");
        let sum = body.iter().fold(7u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte)));
        match wrong {
            Wrong::NoTag => {}
            Wrong::WeakTag => reply.put("ETag", &format!("W/\"{sum:x}\"")),
            Wrong::TagChanges => reply.put("ETag", &format!("\"{sum:x}-{times}\"")),
            _ => reply.put("ETag", &format!("\"{sum:x}\"")),
        }
        let kept = match (wrong, extension) {
            (Wrong::GrowingKept, "m3u8") => "max-age=600",
            (_, "m3u8") => "no-cache",
            (Wrong::SegmentsNeverKept, _) => "no-store",
            _ => "max-age=86400, immutable",
        };
        reply.put("Cache-Control", kept);
    }

    fn is_known(&self, asked: &Asked, reply: &Reply) -> bool {
        let tag = asked.headers.get("if-none-match");
        self.wrong != Wrong::NeverModified && tag.is_some() && tag.map(String::as_str) == reply.get("ETag")
    }

    fn encode(&self, asked: &Asked, is_playlist: bool, body: &mut Vec<u8>, reply: &mut Reply) {
        let accepted = asked.headers.get("accept-encoding").map_or("", String::as_str);
        let asks = accepted.split(',').any(|word| word.trim() == "gzip");
        let ranged = asked.headers.contains_key("range");
        let compresses = match self.wrong {
            Wrong::GzipPlaylists | Wrong::GzipWithoutVary => is_playlist && asks && !ranged,
            Wrong::GzipWithRange => is_playlist && asks,
            Wrong::GzipUnasked => is_playlist && !ranged && accepted.starts_with("identity"),
            Wrong::GzipSegments => !is_playlist && asks,
            _ => false,
        };
        if compresses {
            *body = gzip(body);
            reply.put("Content-Encoding", "gzip");
        }
        if is_playlist && self.wrong != Wrong::GzipWithoutVary {
            reply.put("Vary", "Accept-Encoding");
        }
    }

    fn slice(&self, asked: &Asked, is_playlist: bool, body: Vec<u8>, reply: &mut Reply) {
        let wrong = self.wrong;
        let condition = asked.headers.get("if-range").filter(|_| wrong != Wrong::IfRangeIgnored);
        let holds = condition.is_none_or(|tag| Some(tag.as_str()) == reply.get("ETag"));
        let range = asked.headers.get("range").filter(|_| holds && wrong != Wrong::RangeIgnored);
        let parts = range.map(|range| range.split(',').count());
        if wrong == Wrong::Multipart && parts.is_some_and(|parts| parts > 1) {
            reply.status = 206;
            reply.put("Content-Length", "4");
            reply.body = b"part".to_vec();
            return;
        }
        let total = match wrong {
            Wrong::RangeTotal => body.len() + 1,
            Wrong::PlaylistTotal if is_playlist => body.len() - 1,
            _ => body.len(),
        };
        let Some(range) = range.filter(|range| !range.contains(',')) else {
            self.whole(asked, is_playlist, body, reply);
            return;
        };
        let Some((from, to)) = bounds(range, body.len()) else {
            if wrong == Wrong::NothingBeyond {
                self.whole(asked, is_playlist, body, reply);
                return;
            }
            reply.status = 416;
            if wrong != Wrong::BeyondWithoutLength {
                reply.put("Content-Range", &format!("bytes */{}", body.len()));
            }
            reply.put("Content-Length", "0");
            return;
        };
        reply.status = 206;
        reply.put("Content-Range", &format!("bytes {from}-{}/{total}", to - 1));
        let to = if wrong == Wrong::RangeTooLong { body.len() } else { to };
        reply.body = body[from..to].to_vec();
        reply.chunked = wrong == Wrong::NoLengthWithRange;
        if !reply.chunked {
            let length = reply.body.len();
            reply.put("Content-Length", &length.to_string());
        }
    }

    fn whole(&self, asked: &Asked, is_playlist: bool, body: Vec<u8>, reply: &mut Reply) {
        let head = asked.method == "HEAD";
        reply.chunked = match self.wrong {
            Wrong::NoLengthOfPlaylist => is_playlist && !head,
            Wrong::ChunkedWhole => !is_playlist && !head && !asked.headers.contains_key("range"),
            _ => false,
        };
        if self.wrong == Wrong::HeadRefused && head {
            reply.status = 405;
        }
        let hidden = self.wrong == Wrong::HeadWithoutLength && head;
        if !reply.chunked && !hidden {
            reply.put("Content-Length", &body.len().to_string());
        }
        reply.body = body;
    }
}

impl Reply {
    fn put(&mut self, name: &str, value: &str) {
        self.headers.push((name.to_owned(), value.to_owned()));
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }
}

/// First byte and the one behind the last; `None` when it begins beyond the end.
fn bounds(range: &str, length: usize) -> Option<(usize, usize)> {
    let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
    if first.is_empty() {
        return Some((length.saturating_sub(last.parse().ok()?), length));
    }
    let first: usize = first.parse().ok()?;
    let last = last.parse::<usize>().map_or(length, |last| (last + 1).min(length));
    (first < length).then_some((first, last))
}

/// RFC 1952 around blocks that are stored as they are (RFC 1951, 3.2.4).
fn gzip(data: &[u8]) -> Vec<u8> {
    let mut out = vec![0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 0, 255];
    let mut blocks = data.chunks(0xFFFF).peekable();
    while let Some(block) = blocks.next() {
        out.push(u8::from(blocks.peek().is_none()));
        out.extend((block.len() as u16).to_le_bytes());
        out.extend((!(block.len() as u16)).to_le_bytes());
        out.extend(block);
    }
    let crc = data.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |c, _| c >> 1 ^ if c & 1 == 1 { 0xEDB8_8320 } else { 0 })
    });
    out.extend((!crc).to_le_bytes());
    out.extend((data.len() as u32).to_le_bytes());
    out
}
