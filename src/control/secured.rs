//! A TLS connection as a stream of plaintext.
//!
//! The session of one that was handed over comes from the shard that made the handshake, with what it had to say and could
//! not yet, and goes on here; that of one of the admin address begins here. What bounds it: one read and one write's worth of bytes each way.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use shards::rt::tls::Session;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::socket::Socket;

/// Ciphertext read at once.
const READ_BYTES: usize = 16 << 10;
/// Plaintext sealed at once.
const WRITE_BYTES_MAX: usize = 16 << 10;

/// See the module.
pub(crate) struct Secured {
    stream: Socket,
    session: Box<Session>,
    arrived: Vec<u8>,
    /// Opened and not yet read, from `read` on.
    plain: Vec<u8>,
    read: usize,
}

impl Secured {
    pub(crate) fn new(stream: Socket, session: Box<Session>) -> Self {
        Self { stream, session, arrived: vec![0; READ_BYTES], plain: Vec::new(), read: 0 }
    }

    /// Sends what the session has to send, until nothing is left.
    fn poll_unsent(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.session.unsent().is_empty() {
            let sent = ready!(Pin::new(&mut self.stream).poll_write(cx, self.session.unsent()))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.session.unsent().drain(..sent);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Secured {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if this.read < this.plain.len() {
                let take = into.remaining().min(this.plain.len() - this.read);
                into.put_slice(&this.plain[this.read..this.read + take]);
                this.read += take;
                return Poll::Ready(Ok(()));
            }
            if this.session.has_ended() {
                return Poll::Ready(Ok(()));
            }
            // A client in the middle of a handshake says nothing more before it has heard this.
            if this.session.must_speak()
                && let Poll::Ready(sent) = this.poll_unsent(cx)
            {
                sent?;
            }
            let mut arrived = ReadBuf::new(&mut this.arrived);
            ready!(Pin::new(&mut this.stream).poll_read(cx, &mut arrived))?;
            if arrived.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            (this.plain, this.read) = (std::mem::take(&mut this.plain), 0);
            this.plain.clear();
            let outcome = this.session.receive(arrived.filled_mut(), &mut this.plain);
            if outcome.is_err() {
                // An alert, as far as the socket takes it.
                let _ = this.poll_unsent(cx)?;
                return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
            }
        }
    }
}

impl AsyncWrite for Secured {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_unsent(cx))?;
        let part = &bytes[..bytes.len().min(WRITE_BYTES_MAX)];
        let mut sealed = std::mem::take(this.session.unsent());
        let outcome = this.session.seal(part, &mut sealed);
        *this.session.unsent() = sealed;
        if outcome.is_err() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        // It is taken, however much of it the socket takes now.
        let _ = this.poll_unsent(cx)?;
        Poll::Ready(Ok(part.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_unsent(cx))?;
        Pin::new(&mut this.stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.session.close();
        ready!(this.poll_unsent(cx))?;
        Pin::new(&mut this.stream).poll_shutdown(cx)
    }
}
