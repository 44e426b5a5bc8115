//! A connection that loses patience with a peer that does not read.
//!
//! What enters: a TCP stream. What leaves: the same, but a write that nobody takes for too long fails.
//! Silence in the other direction is the HTTP parser's to judge.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Interval, interval_at};

/// A stream that may have to wait for a disk before it can write.
pub(super) trait Fetches {
    /// Whether it does so now: the peer has nothing to read then.
    fn is_fetching(&self) -> bool;
}

/// The stream. Without its limit on writes, answers that nobody reads would hold connections for ever.
pub(super) struct Patient<S> {
    stream: S,
    limit: Duration,
    /// Set while a write waits.
    stalled: Option<Interval>,
}

impl<S: Fetches> Patient<S> {
    /// `limit` is how long one write may wait.
    pub(super) fn new(stream: S, limit: Duration) -> Self {
        Self { stream, limit, stalled: None }
    }

    /// What became of a write, or that it has waited for too long.
    fn judge<T>(&mut self, written: Poll<io::Result<T>>, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        if written.is_ready() || self.stream.is_fetching() {
            self.stalled = None;
            return written;
        }
        let limit = self.limit;
        let clock = self.stalled.get_or_insert_with(|| interval_at(Instant::now() + limit, limit));
        ready!(clock.poll_tick(context));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not read its answer")))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Fetches + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(cx, bytes);
        this.judge(written, cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write_vectored(cx, parts);
        this.judge(written, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(&mut this.stream).poll_flush(cx);
        this.judge(flushed, cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    impl Fetches for DuplexStream {
        fn is_fetching(&self) -> bool {
            false
        }
    }

    /// Writes nothing, and says for how long it waits for a disk.
    struct Disk {
        until: Instant,
        wakes: Interval,
    }

    impl Fetches for Disk {
        fn is_fetching(&self) -> bool {
            Instant::now() < self.until
        }
    }

    impl AsyncWrite for Disk {
        fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
            let _ = self.get_mut().wakes.poll_tick(cx);
            Poll::Pending
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_of_a_disk_is_not_the_peers() {
        let began = Instant::now();
        let until = began + Duration::from_secs(20);
        let disk = Disk { until, wakes: interval_at(until, Duration::from_secs(3600)) };
        let mut patient = Patient::new(disk, Duration::from_secs(30));
        let stalled = patient.write_all(b"1").await.unwrap_err();
        assert_eq!((stalled.kind(), began.elapsed().as_secs()), (io::ErrorKind::TimedOut, 50));
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_that_nobody_takes_fails_and_a_slow_reader_does_not() {
        let (near, _far) = duplex(4);
        let mut patient = Patient::new(near, Duration::from_secs(30));
        patient.write_all(b"1234").await.unwrap();
        let began = Instant::now();
        let stalled = patient.write_all(b"5").await.unwrap_err();
        assert_eq!((stalled.kind(), began.elapsed().as_secs()), (io::ErrorKind::TimedOut, 30));
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_reader_gets_it_all() {
        let (near, mut far) = duplex(4);
        let mut patient = Patient::new(near, Duration::from_secs(30));
        let reader = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(Duration::from_secs(20));
            let mut got = Vec::new();
            for _ in 0..12 {
                ticks.tick().await;
                got.push(far.read_u8().await.unwrap());
            }
            got
        });
        patient.write_all(b"abcdefghijkl").await.unwrap();
        assert_eq!(reader.await.unwrap(), b"abcdefghijkl");
    }
}
