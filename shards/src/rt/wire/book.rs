//! Booking completions: what has come back is no longer in flight, and means something for the core or nothing.

use super::Wire;
use super::ring::Completion;
use super::slots::busy;
use super::token::Kind;
use crate::core::{ConnKey, Ended, Micros, ReceiveMode};

/// What one completion means for the shard.
#[derive(Debug)]
pub(crate) enum Event {
    /// Nothing that the core has to know.
    Nothing,
    /// Bytes are in a buffer, to be looked at with [`Wire::open`] and given back with [`Wire::give_back`].
    Received { conn: ConnKey, buffer: u16, len: usize },
    /// No more bytes will come.
    Ended { conn: ConnKey, how: Ended },
    /// A socket takes bytes again.
    Writable { conn: ConnKey },
    /// A socket of ours is connected, and secured if it has to be; or never will be.
    Connected { conn: ConnKey, outcome: Result<(), Box<str>> },
    /// The doorbell rang.
    Doorbell,
}

impl Wire {
    /// Books a completion and says what it means.
    pub(crate) fn book(&mut self, completion: Completion, now: Micros) -> Event {
        let token = completion.token;
        match token.kind {
            Kind::Receive => self.book_receive(completion),
            Kind::Writable => self.book_writable(token.conn()),
            Kind::Connect => self.book_connect(token.conn()),
            Kind::Accept => {
                let peer = self.memory.peers[token.index as usize].read();
                let errno = -completion.result;
                self.acceptor.done(token.index, completion.accepted(), peer, errno, now);
                Event::Nothing
            }
            Kind::Doorbell => {
                self.listen_to_doorbell();
                Event::Doorbell
            }
            // A send's was noted when it was taken.
            Kind::Send | Kind::Cancel => Event::Nothing,
        }
    }

    fn book_receive(&mut self, completion: Completion) -> Event {
        let event = self.classify_receive(&completion);
        match (&event, completion.buffer()) {
            // Its bytes are read first.
            (Event::Received { .. }, _) | (_, None) => {}
            (_, Some(unused)) => self.memory.buffers.give_back(unused),
        }
        event
    }

    fn classify_receive(&mut self, completion: &Completion) -> Event {
        let conn = completion.token.conn();
        let Some(slot) = self.slots.get(conn) else { return Event::Nothing };
        if !completion.more() {
            slot.busy &= !busy::RECEIVE;
            slot.ending = false;
        }
        if slot.closing.is_some() {
            self.go_on_closing(conn);
            return Event::Nothing;
        }
        match (completion.result, completion.buffer()) {
            (len @ 1.., Some(buffer)) => {
                // Under TLS that depends on whether it brings any plaintext.
                if slot.mode == ReceiveMode::Once && !slot.sealed {
                    slot.mode = ReceiveMode::Paused;
                }
                slot.behind = self.memory.buffers.is_full(len as usize);
                Event::Received { conn, buffer, len: len as usize }
            }
            (0, _) => {
                slot.mode = ReceiveMode::Paused;
                Event::Ended { conn, how: Ended::Eof }
            }
            (error, _) => match -error {
                libc::ENOBUFS => {
                    self.buffers_exhausted += 1;
                    if slot.behind {
                        self.arm_receive(conn);
                    } else {
                        self.starved.push_back(conn);
                    }
                    Event::Nothing
                }
                libc::ECANCELED | libc::EINTR | libc::EAGAIN => {
                    self.arm_receive(conn);
                    Event::Nothing
                }
                _ => {
                    slot.mode = ReceiveMode::Paused;
                    Event::Ended { conn, how: Ended::Broken }
                }
            },
        }
    }

    fn book_writable(&mut self, conn: ConnKey) -> Event {
        let Some(slot) = self.slots.get(conn) else { return Event::Nothing };
        slot.busy &= !busy::WRITABLE;
        if slot.closing.is_some() {
            self.go_on_closing(conn);
            return Event::Nothing;
        }
        self.may_speak(conn);
        Event::Writable { conn }
    }

    /// Returns the buffer of [`Event::Received`] to the kernel.
    pub(crate) fn give_back(&mut self, buffer: u16) {
        self.memory.buffers.give_back(buffer);
    }

    /// After [`Event::Received`]: a standing receive that has ended goes on.
    pub(crate) fn read_on(&mut self, conn: ConnKey) {
        self.arm_receive(conn);
    }
}
