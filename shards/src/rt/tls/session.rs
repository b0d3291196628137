//! One connection's TLS: ciphertext in, plaintext and ciphertext out. No socket, no clock.
//!
//! Built on rustls' unbuffered connection, which keeps no buffers of its own: records are opened where they were
//! received, so that a silent session holds keys and little else. What it does keep, and what bounds it: the beginning of
//! a record or handshake message that is not whole ([`HELD_MAX`]), and what it still has to send, which is a
//! handshake's flight or one send's ciphertext.

use std::fmt;
use std::sync::Arc;

use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncryptError, InsufficientSizeError, UnbufferedStatus,
};
use rustls::{ClientConfig, ProtocolVersion, ServerConfig};

use super::side::{End, Side};
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
    tls: End,
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
    /// What the library said when it broke, where we are the client.
    failure: Option<Box<str>>,
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
        Some(Self::begin(End::Server(tls), header_max.unwrap_or(0)))
    }

    /// A session of ours with a server of this name: its first message is to be sent.
    ///
    /// # Errors
    /// When the library can't make one.
    pub(super) fn client(
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> Result<Self, rustls::Error> {
        let mut session = Self::begin(End::Client(UnbufferedClientConnection::new(config, name)?), 0);
        // It fails as one that was spoken to: the reason is kept.
        let _ = session.receive_records(&mut [], &mut Vec::new());
        Ok(session)
    }

    fn begin(tls: End, header_max: usize) -> Self {
        Self {
            tls,
            held: Vec::new(),
            header_max,
            unsent: Vec::new(),
            only_tickets: false,
            begun: false,
            ended: false,
            broken: false,
            failure: None,
            owed: false,
            asked: false,
        }
    }

    /// Whether the server is the other end.
    #[must_use]
    pub fn is_client(&self) -> bool {
        matches!(self.tls, End::Client(_))
    }

    /// Why no secure channel came about, where we are the client.
    #[must_use]
    pub fn failure(&self) -> &str {
        self.failure.as_deref().unwrap_or("no secure channel came about")
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
        if !std::mem::replace(&mut self.begun, true) && speaks_http(arrived) && !self.is_client() {
            self.broken = true;
            self.unsent.extend_from_slice(NOT_TLS);
            return Err(Broken);
        }
        let may_finish = self.is_handshaking() && self.unsent.is_empty() && !self.is_client();
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
        let Self { tls, unsent, ended, failure, .. } = self;
        let (used, failed) = match tls {
            End::Server(tls) => open_records(tls, bytes, plain, unsent, ended),
            End::Client(tls) => open_records(tls, bytes, plain, unsent, ended),
        };
        let Some(why) = failed else { return Ok(used) };
        *failure = matches!(tls, End::Client(_)).then(|| why.into());
        self.fail(&mut bytes[used..])
    }

    /// Nothing more is read; the alert that says why is added to what is to be sent. `rest` is what was not used up:
    /// the library has notes on what lies where in it, and must be shown it even to say goodbye.
    fn fail<T>(&mut self, rest: &mut [u8]) -> Result<T, Broken> {
        self.broken = true;
        self.only_tickets = false;
        self.held = Vec::new();
        let encoded = match &mut self.tls {
            End::Server(tls) => encode_pending(tls, rest, &mut self.unsent),
            End::Client(tls) => encode_pending(tls, rest, &mut self.unsent),
        };
        encoded.and(Err(Broken))
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
        let into = Into { out, room, what: Some(plain) };
        self.write(into)
    }

    /// Writes traffic; `receive` leaves nothing undone that would come before. What is held is shown to the library for
    /// the reason that `fail` gives.
    fn write(&mut self, into: Into<'_>) -> Result<(), Broken> {
        match &mut self.tls {
            End::Server(tls) => write_traffic(tls, &mut self.held, into),
            End::Client(tls) => write_traffic(tls, &mut self.held, into),
        }
    }

    /// Says that we send no more: `close_notify`, once, behind what is to be sent already. Before the handshake is over
    /// there is nobody to tell.
    pub fn close(&mut self) {
        if self.broken {
            return;
        }
        let mut unsent = std::mem::take(&mut self.unsent);
        // With room for an alert it can't fail; before the handshake is over nobody could read it.
        let _ = self.write(Into { out: &mut unsent, room: RECORD_OVERHEAD, what: None });
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

/// What is written behind what is in `out`.
struct Into<'a> {
    out: &'a mut Vec<u8>,
    /// Bytes that it takes, as far as is known.
    room: usize,
    /// Plaintext; nothing for the end of the session.
    what: Option<&'a [u8]>,
}

/// Opens what is whole: how many bytes were used up, and why it went no further, if it failed.
fn open_records<S: Side>(
    tls: &mut S,
    bytes: &mut [u8],
    plain: &mut Vec<u8>,
    unsent: &mut Vec<u8>,
    ended: &mut bool,
) -> (usize, Option<String>) {
    let mut used = 0;
    loop {
        let UnbufferedStatus { mut discard, state } = tls.process(&mut bytes[used..]);
        let mut failed = None;
        let mut done = false;
        match state {
            Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                while let Some(record) = traffic.next_record() {
                    match record {
                        Ok(record) => {
                            plain.extend_from_slice(record.payload);
                            discard += record.discard;
                        }
                        Err(error) => failed = Some(error.to_string()),
                    }
                }
            }
            Ok(ConnectionState::EncodeTlsData(mut data)) => {
                let encoded = append(unsent, 0, |into| data.encode(into));
                failed = encoded.err().map(|broken| broken.to_string());
            }
            Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
            Ok(ConnectionState::PeerClosed) => *ended = true,
            // Early data is never offered, so the rest means that more bytes are needed.
            Ok(_) => done = true,
            Err(error) => failed = Some(error.to_string()),
        }
        used += discard;
        if failed.is_some() || done {
            return (used, failed);
        }
    }
}

/// Encodes what the library has yet to say.
fn encode_pending<S: Side>(tls: &mut S, rest: &mut [u8], unsent: &mut Vec<u8>) -> Result<(), Broken> {
    while tls.wants_write() {
        let Ok(ConnectionState::EncodeTlsData(mut data)) = tls.process(rest).state else { break };
        append(unsent, 0, |into| data.encode(into))?;
    }
    Ok(())
}

fn write_traffic<S: Side>(tls: &mut S, held: &mut [u8], into: Into<'_>) -> Result<(), Broken> {
    let UnbufferedStatus { discard, state } = tls.process(held);
    debug_assert_eq!(discard, 0, "what is held is not whole");
    let Ok(ConnectionState::WriteTraffic(mut traffic)) = state else { return Err(Broken) };
    let Into { out, room, what } = into;
    match what {
        Some(plain) => append(out, room, |into| traffic.encrypt(plain, into)),
        None => append(out, room, |into| traffic.queue_close_notify(into)),
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
