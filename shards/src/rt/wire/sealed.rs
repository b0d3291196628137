//! TLS between the sockets and the core: what arrives is opened before the core sees it, what it sends is sealed
//! on the way, and what the sessions themselves have to say (handshakes, tickets, alerts) is sent beside.
//!
//! Ciphertext can't be taken back, so what the socket does not take of it stays with its session, and the core is
//! told that all but the last byte of its plaintext has left: its lane is blocked as by any full socket, its
//! deadlines run, and the message that was begun is finished before anything newer. That byte comes again with the
//! lane's next send, where it is passed over.
//!
//! Bounds: one session for each connection, [`SEAL_MAX`] of plaintext in each send, [`SPARE_MAX`] buffers kept.

use std::collections::VecDeque;

use socket2::SockRef;

use super::Wire;
use super::send::{SealedSend, SendSlot};
use super::slots::busy;
use crate::core::{ConnKey, Ended, Gather, ReceiveMode, SendOutcome};
use crate::rt::tls::{Broken, Link, Session};

/// Plaintext that one send seals at most: what a barge-in can't take back from a slow client.
const SEAL_MAX: usize = 64 << 10;
/// Buffers for ciphertext that are kept for the next send, and the largest that is.
const SPARE_MAX: usize = 64;
const SPARE_BYTES_MAX: usize = 32 << 10;

/// What the handshakes came to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Handshakes {
    pub(crate) done: u64,
    pub(crate) resumed: u64,
    pub(crate) failed: u64,
}

/// The sessions of a shard, and the buffers that they share.
#[derive(Default)]
pub(super) struct Sealed {
    /// By connection index.
    sessions: Vec<Option<Box<Session>>>,
    /// Connections whose sessions have something to say, each perhaps more than once.
    speaking: VecDeque<ConnKey>,
    /// Empty buffers for ciphertext.
    spare: Vec<Vec<u8>>,
    /// What was opened last.
    plain: Vec<u8>,
    /// What is sealed next, in one piece.
    joined: Vec<u8>,
    pub(super) handshakes: Handshakes,
}

/// Whether nothing more will come, and what a handshake of ours came to.
type Arrival = (Option<Ended>, Option<Result<(), Box<str>>>);

/// What a completed receive brought for the core.
pub(crate) struct Opened<'a> {
    /// Perhaps none.
    pub(crate) bytes: &'a mut [u8],
    /// Whether this was the last.
    pub(crate) ended: Option<Ended>,
    /// What the handshake of a connection of ours came to, if that is known with these bytes.
    pub(crate) secured: Option<Result<(), Box<str>>>,
}

impl Sealed {
    /// Takes the session of a connection that has got its key.
    pub(super) fn settle(&mut self, conn: ConnKey, session: Box<Session>) {
        let index = conn.index as usize;
        if self.sessions.len() <= index {
            self.sessions.resize_with(index + 1, || None);
        }
        if session.must_speak() {
            self.speaking.push_back(conn);
        }
        self.sessions[index] = Some(session);
    }

    /// The session of a connection that is found in its slot.
    pub(super) fn session(&mut self, conn: ConnKey) -> Option<&mut Session> {
        self.sessions.get_mut(conn.index as usize)?.as_deref_mut()
    }

    /// Takes the session of a connection that leaves.
    pub(super) fn leave(&mut self, conn: ConnKey) -> Option<Box<Session>> {
        self.sessions.get_mut(conn.index as usize)?.take()
    }

    /// Opens what has arrived into [`Self::plain`].
    fn open(&mut self, conn: ConnKey, arrived: &mut [u8]) -> Arrival {
        self.plain.clear();
        let Some(session) = self.sessions.get_mut(conn.index as usize).and_then(Option::as_deref_mut) else {
            return (None, None);
        };
        let was_shaking = session.is_handshaking();
        let outcome = session.receive(arrived, &mut self.plain);
        let is_done = was_shaking && !session.is_handshaking();
        if is_done && !session.is_client() {
            self.handshakes.done += 1;
            self.handshakes.resumed += u64::from(session.is_resumed());
        }
        if session.must_speak() {
            self.speaking.push_back(conn);
        }
        let secured = match outcome {
            _ if !session.is_client() => None,
            Err(Broken) if session.is_handshaking() => Some(Err(session.failure().into())),
            _ => is_done.then_some(Ok(())),
        };
        let ended = match outcome {
            Err(Broken) if session.is_handshaking() => Some(Ended::Unsecured),
            Err(Broken) => Some(Ended::Broken),
            Ok(()) => session.has_ended().then_some(Ended::Eof),
        };
        (ended, secured)
    }

    /// Fills a send: what the session has to say, and behind it what the core's lane has, if it asked.
    pub(super) fn fill(
        &mut self,
        conn: ConnKey,
        send: &mut SendSlot,
        mut gather: impl FnMut(ConnKey, &mut Gather),
    ) {
        let Some(session) = self.sessions.get_mut(conn.index as usize).and_then(Option::as_deref_mut) else {
            return;
        };
        send.sealed = session.take_unsent();
        if !std::mem::take(&mut session.asked) {
            return;
        }
        gather(conn, &mut send.gather);
        if send.gather.is_empty() {
            return;
        }
        if session.is_handshaking() {
            // Nobody could read it: the refusal of somebody who never finished a handshake.
            send.plain = Some(send.gather.len());
        } else {
            let skip = usize::from(session.owed);
            if send.sealed.capacity() == 0 {
                send.sealed = self.spare.pop().unwrap_or_default();
            }
            let sealed = join(&send.gather, skip, &mut self.joined);
            send.plain = Some(skip + self.joined.len());
            send.broken = sealed && session.seal(&self.joined, &mut send.sealed).is_err();
        }
        send.gather.clear();
    }

    /// What a send that is over means for the core; nothing when the session spoke only for itself.
    pub(super) fn outcome(&mut self, conn: ConnKey, send: SealedSend) -> Option<SendOutcome> {
        let session = self.sessions.get_mut(conn.index as usize)?.as_deref_mut()?;
        let SealedSend { bytes: mut sealed, plain, taken } = send;
        let Ok(taken) = taken else { return Some(SendOutcome::Broken) };
        if taken == sealed.len() {
            sealed.clear();
            if sealed.capacity() > 0 && sealed.capacity() <= SPARE_BYTES_MAX && self.spare.len() < SPARE_MAX {
                self.spare.push(sealed);
            }
            session.owed &= plain.is_none();
            if session.must_speak() {
                self.speaking.push_back(conn);
            }
            return plain.map(SendOutcome::Sent);
        }
        sealed.drain(..taken);
        // What was said meanwhile comes behind it.
        sealed.append(session.unsent());
        *session.unsent() = sealed;
        let plain = plain?;
        session.owed = true;
        Some(if plain > 1 { SendOutcome::Sent(plain - 1) } else { SendOutcome::WouldBlock })
    }
}

/// Copies the parts into one piece, but for the first `skip` bytes, and at most [`SEAL_MAX`]. Whether there are any.
/// A part of which only the first byte would fit is left out: were it the first byte of a message, and owed, the
/// core would take that message for one that has not begun.
fn join(gather: &Gather, skip: usize, into: &mut Vec<u8>) -> bool {
    into.clear();
    let mut skip = skip;
    for part in gather.slices() {
        let passed = skip.min(part.len());
        skip -= passed;
        let part = &part[passed..];
        let room = SEAL_MAX - into.len();
        if room <= 1 && part.len() > room {
            break;
        }
        into.extend_from_slice(&part[..part.len().min(room)]);
    }
    !into.is_empty()
}

impl Wire {
    /// The bytes of a receive as the core should see them.
    pub(crate) fn open(&mut self, conn: ConnKey, buffer: u16, len: usize) -> Opened<'_> {
        if self.slots.get(conn).is_none_or(|slot| !slot.sealed) {
            let bytes = self.memory.buffers.filled(buffer, len);
            return Opened { bytes, ended: None, secured: None };
        }
        let Self { sealed, memory, slots, .. } = self;
        let (ended, secured) = sealed.open(conn, memory.buffers.filled(buffer, len));
        if ended.is_none()
            && !sealed.plain.is_empty()
            && let Some(slot) = slots.get(conn)
            && slot.mode == ReceiveMode::Once
        {
            slot.mode = ReceiveMode::Paused;
        }
        if ended.is_some() {
            self.receive(conn, ReceiveMode::Paused);
        }
        Opened { bytes: &mut self.sealed.plain, ended, secured }
    }

    /// Gives a connection that has got its key its session.
    pub(super) fn settle(&mut self, conn: ConnKey, session: Box<Session>) {
        if let Some(slot) = self.slots.get(conn) {
            slot.sealed = true;
            self.sealed.settle(conn, session);
        }
    }

    /// Queues what sessions have to say for themselves. Where a lane's send is queued already it went along.
    pub(crate) fn speak(&mut self) {
        let sealed = &mut self.sealed;
        for _ in 0..sealed.speaking.len() {
            let Some(conn) = sealed.speaking.pop_front() else { return };
            let Some(slot) = self.slots.get(conn).filter(|slot| slot.closing.is_none()) else { continue };
            let silent = sealed.session(conn).is_none_or(|session| !session.must_speak());
            if !silent && !slot.is_busy(busy::SEND | busy::WRITABLE) {
                slot.busy |= busy::SEND;
                self.memory.sends.wait(conn);
            }
        }
    }

    /// Notes that the core asks for a send on a TLS connection; false when one is on its way that will see it.
    pub(super) fn ask(&mut self, conn: ConnKey, sending: bool) -> bool {
        if let Some(session) = self.sealed.session(conn) {
            session.asked = true;
            return !sending;
        }
        true
    }

    /// Whether a head may not be read on yet: its connection may move, and nothing may be in flight then.
    pub(super) fn must_speak_first(&mut self, conn: ConnKey) -> bool {
        let Some(slot) = self.slots.get(conn) else { return false };
        slot.is_busy(busy::SEND | busy::WRITABLE)
            || self.sealed.session(conn).is_some_and(|session| session.must_speak())
    }

    /// A session's own send is over: what could not go before it goes on.
    pub(super) fn spoke(&mut self, conn: ConnKey) {
        let Some(session) = self.sealed.session(conn) else { return };
        if session.asked {
            if let Some(slot) = self.slots.get(conn) {
                slot.busy |= busy::SEND;
                self.memory.sends.wait(conn);
            }
        } else if !session.must_speak() {
            self.arm_receive(conn);
        } else {
            self.await_writable(conn);
        }
    }

    /// The socket takes bytes again: what a session could not say is said.
    pub(super) fn may_speak(&mut self, conn: ConnKey) {
        if self.slots.get(conn).is_some_and(|slot| slot.sealed) {
            self.sealed.speaking.push_back(conn);
        }
    }

    /// Says `close_notify`, and an alert or a rest before it, as far as the socket takes it at once.
    pub(super) fn say_farewell(&mut self, conn: ConnKey) {
        let Some(slot) = self.slots.get(conn) else { return };
        let Some(session) = self.sealed.session(conn).filter(|_| slot.sealed) else { return };
        session.close();
        let farewell = session.take_unsent();
        // A courtesy: a peer that does not get it sees the socket end.
        let _ = SockRef::from(&slot.fd()).send_with_flags(&farewell, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL);
    }

    /// Forgets the session of a connection that is closed.
    pub(super) fn forget_session(&mut self, conn: ConnKey) {
        if let Some(session) = self.sealed.leave(conn) {
            self.sealed.handshakes.failed += u64::from(session.is_handshaking() && !session.is_client());
        }
    }

    /// What travels when a connection moves.
    pub(super) fn link(&mut self, conn: ConnKey) -> Option<Link> {
        let socket = self.slots.remove(conn)?;
        Some(Link { socket, tls: self.sealed.leave(conn) })
    }

    /// What the handshakes came to.
    pub(crate) fn handshakes(&self) -> Handshakes {
        self.sealed.handshakes
    }
}
