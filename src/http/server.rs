//! The socket: connections, their number and their end.
//!
//! What enters: a bound listener. What leaves: nothing, until the shutdown; then every connection has
//! ended. axum's own server has none of the limits that keep slow or many clients from starving the
//! rest, so hyper is driven here. What must not live here: anything about a single request.
//!
//! - A head has to be complete within [`HEAD_TIME`]; this is also how long a connection may be idle.
//! - There are at most [`MAX_CONNECTIONS`]. While one more waits, each is asked to end with the answer
//!   that it is at, idle ones at once: a new client gets a turn.
//! - An answer that nobody reads ends its connection after [`WRITE_TIME`].

use super::door::Caller;
use super::media::passage::{Direct, Passage};
use super::socket::Patient;
use super::{Doors, front};
use crate::base::error::Result;
use axum::response::Response;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

/// Connections at once.
const MAX_CONNECTIONS: usize = 512;
/// How long a head may take, idle time before it included.
const HEAD_TIME: Duration = Duration::from_secs(30);
/// How long a write may wait for the client to read.
const WRITE_TIME: Duration = Duration::from_secs(30);
/// What the parser holds of a head: more than `guard` allows, so that it is `guard` that refuses.
const MAX_HEAD_BYTES: usize = 64 * 1024;
/// How long open answers have once the node stops.
const LAST_ANSWERS: Duration = Duration::from_secs(1);
/// A connection is left this time, however crowded it is: its first request is on the way.
const GRACE: Duration = Duration::from_secs(1);
/// Before the next try when no connection can be accepted, for lack of descriptors for instance.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Where a connection comes from.
#[derive(Clone, Copy, Debug)]
pub(super) struct PeerAddress(pub(super) SocketAddr);

/// Serves until the shutdown, and returns when the answers that were under way have ended, or a second
/// later.
///
/// # Errors
/// None today: what goes wrong with one connection is not the others' business.
pub async fn serve(listener: TcpListener, doors: Doors) -> Result<()> {
    let shutdown = doors.shutdown.clone();
    let limits =
        Limits { connections: MAX_CONNECTIONS, grace: GRACE, head_time: HEAD_TIME, write_time: WRITE_TIME };
    run(listener, front(doors), shutdown, limits).await;
    Ok(())
}

/// What answers the requests of a connection.
trait Answers:
    Service<Request<Incoming>, Response = Response, Error = Infallible, Future: Send> + Send + 'static
{
}

impl<S> Answers for S where
    S: Service<Request<Incoming>, Response = Response, Error = Infallible, Future: Send> + Send + 'static
{
}

#[derive(Clone, Copy)]
struct Limits {
    connections: usize,
    grace: Duration,
    head_time: Duration,
    write_time: Duration,
}

/// `service` makes what answers the requests of one connection.
async fn run<S: Answers>(
    listener: TcpListener,
    service: impl Fn(Caller) -> S,
    shutdown: CancellationToken,
    limits: Limits,
) {
    let places = Arc::new(Semaphore::new(limits.connections));
    let crowded = watch::Sender::new(());
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            accepted = accept(&listener, &places, &crowded) => accepted,
        };
        // Those that have ended; a panic in one was logged by the hook.
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok((stream, peer, place)) => {
                let grace_ends = Instant::now() + limits.grace;
                let ends = Ends { shutdown: shutdown.clone(), crowded: crowded.subscribe(), grace_ends };
                let passage = Passage::default();
                let stream = Direct::new(stream, passage.clone());
                let service = service(Caller { address: PeerAddress(peer), passage });
                connections.spawn(connection(stream, place, service, ends, limits));
            }
            Err(e) => {
                tracing::warn!("cannot accept a connection: {e}");
                let _ = timeout(ACCEPT_PAUSE, shutdown.cancelled()).await;
            }
        }
    }
    drop(listener);
    let all = async { while connections.join_next().await.is_some() {} };
    if timeout(LAST_ANSWERS, all).await.is_err() {
        tracing::info!("{} connections are cut off, the node stops", connections.len());
    }
    connections.shutdown().await;
}

/// The next connection, and its place. While it waits for one, those behind it wait in the system's own
/// queue.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
    crowded: &watch::Sender<()>,
) -> io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let (stream, peer) = listener.accept().await?;
    // Small answers go at once. Where this cannot be had they go a little later.
    let _ = stream.set_nodelay(true);
    let place = match places.clone().try_acquire_owned() {
        Ok(place) => place,
        Err(_) => {
            crowded.send_replace(());
            places.clone().acquire_owned().await.map_err(io::Error::other)?
        }
    };
    Ok((stream, peer, place))
}

/// What ends a connection from this side.
struct Ends {
    shutdown: CancellationToken,
    crowded: watch::Receiver<()>,
    grace_ends: Instant,
}

impl Ends {
    async fn come(&mut self) {
        tokio::select! {
            () = self.shutdown.cancelled() => return,
            _ = self.crowded.changed() => {}
        }
        let _ = timeout_at(self.grace_ends, self.shutdown.cancelled()).await;
    }
}

async fn connection<S: Answers>(
    stream: Direct,
    _place: OwnedSemaphorePermit,
    service: S,
    mut ends: Ends,
    limits: Limits,
) {
    let io = TokioIo::new(Patient::new(stream, limits.write_time));
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_time)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(io, service);
    let mut served = std::pin::pin!(served);
    let outcome = tokio::select! {
        outcome = served.as_mut() => outcome,
        () = ends.come() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(e) = outcome {
        tracing::debug!("a connection ended: {e}");
    }
}

#[cfg(test)]
mod tests;
