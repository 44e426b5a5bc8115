use super::*;
use axum::Router;
use axum::body::Body;
use axum::routing::get;
use bytes::Bytes;
use futures_util::stream::unfold;
use hyper_util::service::TowerToHyperService;
use std::convert::Infallible;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Far above what any step here takes.
const PATIENCE: Duration = Duration::from_secs(30);

struct Served {
    address: SocketAddr,
    shutdown: CancellationToken,
    ended: JoinHandle<()>,
    /// Tells of each endless answer that was given up.
    given_up: mpsc::Receiver<()>,
}

struct Pouring(mpsc::Sender<()>);

impl Drop for Pouring {
    fn drop(&mut self) {
        let _ = self.0.try_send(());
    }
}

/// A server with `/` that answers at once and `/endless` that never ends: pieces of 64 KiB.
async fn serve_small(limits: Limits) -> Served {
    let (tell, given_up) = mpsc::channel(8);
    let pour = move || {
        let pouring = Pouring(tell.clone());
        async move {
            let piece = Bytes::from(vec![b'x'; 65536]);
            Body::from_stream(unfold((pouring, piece), |(pouring, piece)| async move {
                Some((Ok::<_, Infallible>(piece.clone()), (pouring, piece)))
            }))
        }
    };
    let router = Router::new().route("/", get(|| async { "here" })).route("/endless", get(pour));
    let service = TowerToHyperService::new(router.into_service());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let ended = tokio::spawn(run(listener, move |_| service.clone(), shutdown.clone(), limits));
    Served { address, shutdown, ended, given_up }
}

fn limits() -> Limits {
    Limits { connections: 8, grace: Duration::from_millis(50), head_time: PATIENCE, write_time: PATIENCE }
}

async fn within<T>(step: impl Future<Output = T>) -> T {
    timeout(PATIENCE, step).await.expect("it takes too long")
}

async fn ask(stream: &mut TcpStream, path: &str) {
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await.unwrap();
}

/// Reads until `end` was seen.
async fn read_to(stream: &mut TcpStream, end: &[u8]) -> Vec<u8> {
    let mut got = Vec::new();
    while !got.windows(end.len()).any(|window| window == end) {
        assert_ne!(within(stream.read_buf(&mut got)).await.unwrap(), 0, "{}", String::from_utf8_lossy(&got));
    }
    got
}

async fn idle(served: &Served) -> TcpStream {
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    ask(&mut stream, "/").await;
    read_to(&mut stream, b"here").await;
    stream
}

/// Whether the other side has closed the connection, without another byte.
async fn is_closed(stream: &mut TcpStream) -> bool {
    let mut byte = [0];
    matches!(within(stream.read(&mut byte)).await, Ok(0) | Err(_))
}

#[tokio::test]
async fn idle_connections_make_room_for_new_ones() {
    let served = serve_small(Limits { connections: 3, ..limits() }).await;
    let mut idlers = [idle(&served).await, idle(&served).await, idle(&served).await];
    drop(within(idle(&served)).await);
    for idler in &mut idlers {
        assert!(is_closed(idler).await);
    }
    drop(idle(&served).await);
}

#[tokio::test]
async fn a_full_house_serves_whom_it_has_while_nobody_waits() {
    let served = serve_small(Limits { connections: 1, grace: Duration::ZERO, ..limits() }).await;
    let mut only = TcpStream::connect(served.address).await.unwrap();
    for _ in 0..3 {
        ask(&mut only, "/").await;
        read_to(&mut only, b"here").await;
    }
}

#[tokio::test]
async fn a_fresh_connection_has_time_for_its_first_request() {
    let served = serve_small(Limits { connections: 1, grace: PATIENCE, ..limits() }).await;
    let mut fresh = TcpStream::connect(served.address).await.unwrap();
    let mut late = TcpStream::connect(served.address).await.unwrap();
    ask(&mut late, "/").await;
    ask(&mut fresh, "/").await;
    read_to(&mut fresh, b"here").await;
    drop(fresh);
    read_to(&mut late, b"here").await;
}

#[tokio::test]
async fn busy_connections_keep_theirs() {
    let served = serve_small(Limits { connections: 1, ..limits() }).await;
    let mut busy = TcpStream::connect(served.address).await.unwrap();
    ask(&mut busy, "/endless").await;
    read_to(&mut busy, b"xxxx").await;
    let mut late = TcpStream::connect(served.address).await.unwrap();
    ask(&mut late, "/").await;
    let mut piece = vec![0; 1 << 20];
    for _ in 0..8 {
        within(busy.read_exact(&mut piece)).await.unwrap();
    }
    drop(busy);
    read_to(&mut late, b"here").await;
}

#[tokio::test]
async fn a_head_that_never_ends_is_cut_off() {
    let served = serve_small(Limits { head_time: Duration::from_millis(100), ..limits() }).await;
    let mut slow = TcpStream::connect(served.address).await.unwrap();
    slow.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nx").await.unwrap();
    assert!(is_closed(&mut slow).await);
    let mut silent = TcpStream::connect(served.address).await.unwrap();
    assert!(is_closed(&mut silent).await);
}

#[tokio::test]
async fn an_answer_that_nobody_reads_is_given_up() {
    let mut served = serve_small(Limits { write_time: Duration::from_millis(200), ..limits() }).await;
    let mut deaf = TcpStream::connect(served.address).await.unwrap();
    ask(&mut deaf, "/endless").await;
    read_to(&mut deaf, b"xxxx").await;
    assert!(within(served.given_up.recv()).await.is_some());
    drop(deaf);
}

#[tokio::test]
async fn the_shutdown_ends_idle_connections_at_once_and_the_rest_soon() {
    let served = serve_small(limits()).await;
    let mut idler = idle(&served).await;
    let mut busy = TcpStream::connect(served.address).await.unwrap();
    ask(&mut busy, "/endless").await;
    read_to(&mut busy, b"xxxx").await;
    served.shutdown.cancel();
    assert!(is_closed(&mut idler).await);
    within(served.ended).await.unwrap();
    assert!(TcpStream::connect(served.address).await.is_err(), "nobody listens any more");
}
