//! One connection's TLS: ciphertext in, plaintext and ciphertext out. No socket, no clock.
//!
//! Built on rustls' unbuffered connection, which keeps no buffers of its own: records are opened where they were
//! received, so that a silent session holds keys and little else. What it does keep, and what bounds it: the beginning of
//! a record or handshake message that is not whole ([`HELD_MAX`]), and what it still has to send, which is a
//! handshake's flight or one send's ciphertext.

use std::fmt;
use std::sync::Arc;

use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncryptError, InsufficientSizeError, UnbufferedStatus, WriteTraffic,
};
use rustls::{ProtocolVersion, ServerConfig};

use crate::core::http::{BadProxyHeader, proxy_header};

/// The largest record with its header (RFC 8446 section 5.2, RFC 5246 section 6.2.3). No client's first message comes near it.
const HELD_MAX: usize = 5 + (1 << 14) + 2_048;
/// Plaintext of one record at most (RFC 8446 section 5.1).
const RECORD_MAX: usize = 1 << 14;
/// What a record adds to its plaintext, at most.
const RECORD_OVERHEAD: usize = 64;

/// What somebody gets who speaks HTTP to a port that speaks TLS.
const NOT_TLS: &[u8] = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: text/plain\r\n\
    Content-Length: 45\r\n\r\nThis port speaks TLS: use https:// or wss://\n";

/// The session is of no use any more; what it still has to say, an alert, is in what it has to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the TLS session is broken")]
pub struct Broken;

/// See the module.
pub struct Session {
    tls: UnbufferedServerConnection,
    /// The beginning of a record that is not whole, or of the PROXY header before the first.
    held: Vec<u8>,
    /// The most bytes of a PROXY header that has yet to come, in clear, before anything else; zero when none has to.
    header_max: usize,
    /// What is to be sent, in order.
    unsent: Vec<u8>,
    /// Whether that is nothing but tickets.
    only_tickets: bool,
    /// Whether any bytes were received.
    begun: bool,
    /// Whether the peer has said that it sends no more.
    ended: bool,
    broken: bool,
    /// Whether the last byte of the plaintext in `unsent` was not told to the core as sent.
    pub(in crate::rt) owed: bool,
    /// Whether the core asked for a send that has not been gathered.
    pub(in crate::rt) asked: bool,
}

impl Session {
    /// A session that waits for a client's first message, behind a PROXY header where there is a bound for one; nothing
    /// when the library has no randomness for it.
    pub(super) fn new(config: Arc<ServerConfig>, header_max: Option<usize>) -> Option<Self> {
        let tls = UnbufferedServerConnection::new(config).ok()?;
        Some(Self {
            tls,
            held: Vec::new(),
            header_max: header_max.unwrap_or(0),
            unsent: Vec::new(),
            only_tickets: false,
            begun: false,
            ended: false,
            broken: false,
            owed: false,
            asked: false,
        })
    }

    /// Whether plaintext can't be sent yet.
    #[must_use]
    pub fn is_handshaking(&self) -> bool {
        self.tls.is_handshaking()
    }

    /// Whether the handshake was shortened by a ticket.
    #[must_use]
    pub fn is_resumed(&self) -> bool {
        self.tls.handshake_kind() == Some(rustls::HandshakeKind::Resumed)
    }

    /// Whether the peer has said that it sends no more (RFC 8446 section 6.1).
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// What is to be sent, in order.
    #[must_use]
    pub fn unsent(&mut self) -> &mut Vec<u8> {
        &mut self.unsent
    }

    /// Whether it has something to say that must not wait for the next answer. A ticket behind a finished handshake of
    /// TLS 1.3 goes along with that answer: alone it would cost a send, and clients have lost their first request over
    /// it that read in one thread and write in another (Python's `ssl` before 3.13).
    #[must_use]
    pub fn must_speak(&self) -> bool {
        !self.unsent.is_empty() && !self.only_tickets
    }

    /// Takes what is to be sent.
    pub(in crate::rt) fn take_unsent(&mut self) -> Vec<u8> {
        self.only_tickets = false;
        std::mem::take(&mut self.unsent)
    }

    /// Takes bytes as they arrived, and adds the plaintext of every whole record to `plain`. A PROXY header comes first in
    /// it as it is, and so does what should have been one: that is for the core to refuse.
    ///
    /// # Errors
    /// When they make no sense as TLS, or agree on nothing. The plaintext before that is in `plain`.
    pub fn receive(&mut self, arrived: &mut [u8], plain: &mut Vec<u8>) -> Result<(), Broken> {
        if self.broken || self.ended {
            // Nobody listens to what comes behind an end.
            return if self.broken { Err(Broken) } else { Ok(()) };
        }
        if self.header_max == 0 {
            return self.receive_tls(arrived, plain);
        }
        self.held.extend_from_slice(arrived);
        match proxy_header(&self.held) {
            Ok(Some(header)) => {
                let mut rest = std::mem::take(&mut self.held);
                plain.extend(rest.drain(..header.len));
                self.header_max = 0;
                if rest.is_empty() { Ok(()) } else { self.receive_tls(&mut rest, plain) }
            }
            Ok(None) if self.held.len() < self.header_max => Ok(()),
            Ok(None) | Err(BadProxyHeader) => {
                self.broken = true;
                plain.append(&mut self.held);
                Ok(())
            }
        }
    }

    fn receive_tls(&mut self, arrived: &mut [u8], plain: &mut Vec<u8>) -> Result<(), Broken> {
        if !std::mem::replace(&mut self.begun, true) && speaks_http(arrived) {
            self.broken = true;
            self.unsent.extend_from_slice(NOT_TLS);
            return Err(Broken);
        }
        let may_finish = self.is_handshaking() && self.unsent.is_empty();
        self.receive_records(arrived, plain)?;
        if may_finish && !self.is_handshaking() {
            self.only_tickets = self.tls.protocol_version() == Some(ProtocolVersion::TLSv1_3);
        }
        Ok(())
    }

    fn receive_records(&mut self, arrived: &mut [u8], plain: &mut Vec<u8>) -> Result<(), Broken> {
        if self.held.is_empty() {
            let used = self.open(arrived, plain)?;
            self.held.extend_from_slice(&arrived[used..]);
        } else {
            let mut held = std::mem::take(&mut self.held);
            held.extend_from_slice(arrived);
            let used = self.open(&mut held, plain)?;
            if used < held.len() {
                held.drain(..used);
                self.held = held;
            }
        }
        if self.ended {
            self.held = Vec::new();
        }
        if self.held.len() > HELD_MAX {
            let mut rest = std::mem::take(&mut self.held);
            return self.fail(&mut rest);
        }
        Ok(())
    }

    /// Opens what is whole; the number of bytes that were used up.
    fn open(&mut self, bytes: &mut [u8], plain: &mut Vec<u8>) -> Result<usize, Broken> {
        let mut used = 0;
        loop {
            let UnbufferedStatus { mut discard, state } = self.tls.process_tls_records(&mut bytes[used..]);
            let mut failed = false;
            let mut done = false;
            match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        match record {
                            Ok(record) => {
                                plain.extend_from_slice(record.payload);
                                discard += record.discard;
                            }
                            Err(_) => failed = true,
                        }
                    }
                }
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    failed = append(&mut self.unsent, 0, |into| data.encode(into)).is_err();
                }
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::PeerClosed) => self.ended = true,
                // Early data is never offered, so the rest means that more bytes are needed.
                Ok(_) => done = true,
                Err(_) => failed = true,
            }
            used += discard;
            if failed {
                return self.fail(&mut bytes[used..]);
            }
            if done {
                return Ok(used);
            }
        }
    }

    /// Nothing more is read; the alert that says why is added to what is to be sent. `rest` is what was not used up:
    /// the library has notes on what lies where in it, and must be shown it even to say goodbye.
    fn fail<T>(&mut self, rest: &mut [u8]) -> Result<T, Broken> {
        self.broken = true;
        self.only_tickets = false;
        self.held = Vec::new();
        while self.tls.wants_write() {
            let Ok(ConnectionState::EncodeTlsData(mut data)) = self.tls.process_tls_records(rest).state
            else {
                break;
            };
            append(&mut self.unsent, 0, |into| data.encode(into))?;
        }
        Err(Broken)
    }

    /// Adds the ciphertext of `plain` to `out`, behind which it has to be sent in this order.
    ///
    /// # Errors
    /// When there is no session to send it in: before the handshake is over, after a failure, or when the keys
    /// have been used for as long as they may.
    pub fn seal(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), Broken> {
        if self.broken {
            return Err(Broken);
        }
        let room = plain.len() + (plain.len() / RECORD_MAX + 1) * RECORD_OVERHEAD;
        let mut traffic = self.traffic()?;
        append(out, room, |into| traffic.encrypt(plain, into))
    }

    /// The session as one that can send; `receive` leaves nothing undone that would come before. What it holds is shown
    /// to the library for the reason that `fail` gives.
    fn traffic(&mut self) -> Result<WriteTraffic<'_, ServerConnectionData>, Broken> {
        let UnbufferedStatus { discard, state } = self.tls.process_tls_records(&mut self.held);
        debug_assert_eq!(discard, 0, "what is held is not whole");
        match state {
            Ok(ConnectionState::WriteTraffic(traffic)) => Ok(traffic),
            _ => Err(Broken),
        }
    }

    /// Says that we send no more: `close_notify`, once, behind what is to be sent already. Before the handshake is over
    /// there is nobody to tell.
    pub fn close(&mut self) {
        if self.broken {
            return;
        }
        let mut unsent = std::mem::take(&mut self.unsent);
        if let Ok(mut traffic) = self.traffic() {
            // With room for an alert it can't fail.
            let _ = append(&mut unsent, RECORD_OVERHEAD, |into| traffic.queue_close_notify(into));
        }
        self.unsent = unsent;
    }

    /// The ciphertext of an answer behind which nothing comes, with what was to be sent before it; only that when
    /// the handshake is not over.
    #[must_use]
    pub fn last_words(&mut self, plain: &[u8]) -> Vec<u8> {
        let mut words = std::mem::take(&mut self.unsent);
        // Before the handshake is over nobody could read it.
        let _ = self.seal(plain, &mut words);
        self.unsent = words;
        self.close();
        std::mem::take(&mut self.unsent)
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("version", &self.tls.protocol_version())
            .field("held", &self.held.len())
            .field("unsent", &self.unsent.len())
            .finish_non_exhaustive()
    }
}

/// A TLS record begins with a small number, a request with the name of a method.
fn speaks_http(bytes: &[u8]) -> bool {
    bytes.first().is_some_and(u8::is_ascii_uppercase)
}

/// Why something was not encoded, where more room would help.
trait Short {
    fn required(self) -> Option<usize>;
}

impl Short for EncodeError {
    fn required(self) -> Option<usize> {
        match self {
            Self::InsufficientSize(InsufficientSizeError { required_size }) => Some(required_size),
            Self::AlreadyEncoded => None,
        }
    }
}

impl Short for EncryptError {
    fn required(self) -> Option<usize> {
        match self {
            Self::InsufficientSize(InsufficientSizeError { required_size }) => Some(required_size),
            Self::EncryptExhausted => None,
        }
    }
}

/// Lets the library write behind what is in `out`, with as much room as it asks for.
fn append<E: Short>(
    out: &mut Vec<u8>,
    room: usize,
    mut write: impl FnMut(&mut [u8]) -> Result<usize, E>,
) -> Result<(), Broken> {
    let from = out.len();
    let mut room = room;
    // The first try may learn how much is needed, the second has it.
    for _ in 0..2 {
        out.resize(from + room, 0);
        match write(&mut out[from..]) {
            Ok(written) => {
                out.truncate(from + written);
                return Ok(());
            }
            Err(error) => match error.required() {
                Some(required) => room = required,
                None => break,
            },
        }
    }
    out.truncate(from);
    Err(Broken)
}
