//! One HTTP/1.1 connection: bounded head, bounded time, a goodbye that the client gets to read.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use bytes::{Buf, Bytes};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};

/// How long the head of a request may take.
const HEAD: Duration = Duration::from_secs(5);
/// What a client may still send after the answer, and for how long, before the socket closes.
const LINGER_BYTES: u64 = 64 * 1024;
const LINGER: Duration = Duration::from_secs(1);

/// Whether a connection serves more than one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keep {
    /// As many as come, each idle pause no longer than a head may take.
    Alive,
    /// One, and `Connection: close`.
    Closing,
}

/// Serves a connection until it ends or the time is over. Safe to drop: the socket closes.
pub(crate) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    head: Bytes,
    router: Router,
    keep: Keep,
    within: Duration,
) {
    let mut stream = Prefixed { head, stream };
    // Borrowed: the connection flushes and shuts its side down, and the socket is still ours afterwards.
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .keep_alive(keep == Keep::Alive)
        .half_close(true)
        .max_buf_size(64 * 1024)
        .serve_connection(TokioIo::new(&mut stream), TowerToHyperService::new(router));
    match tokio::time::timeout(within, connection).await {
        Ok(Ok(())) => read_the_rest(stream.stream).await,
        // Under TLS the end is said, so that nobody takes it for somebody else's doing.
        Ok(Err(_)) | Err(_) => drop(tokio::time::timeout(LINGER, stream.stream.shutdown()).await),
    }
}

/// Closing a socket with unread bytes resets it, and the reset may overtake the answer. So what the client still
/// sends is read first, within bounds.
async fn read_the_rest(stream: impl AsyncRead + Unpin) {
    let mut rest = stream.take(LINGER_BYTES);
    let _ = tokio::time::timeout(LINGER, tokio::io::copy(&mut rest, &mut tokio::io::sink())).await;
}

/// A stream whose first bytes were read by somebody else.
struct Prefixed<S> {
    head: Bytes,
    stream: S,
}

impl<S: AsyncRead + Unpin> AsyncRead for Prefixed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.head.has_remaining() {
            let take = self.head.len().min(into.remaining());
            into.put_slice(&self.head.split_to(take));
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_read(cx, into)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Prefixed<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
