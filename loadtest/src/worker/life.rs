//! The life of a connection, from the first attempt to the end of its socket.

use std::os::fd::AsFd;

use rustix::io::Errno;

use super::Worker;
use super::conn::State;
use crate::clock::{Voice, now_us};
use crate::frame::OpCode;
use crate::plan::{Scenario, Transport};
use crate::socket;

impl Worker {
    /// Opens whatever queue, pace and bound allow now, and gives up on what took too long.
    pub(super) fn open_next(&mut self) {
        let mut now = now_us();
        while let Some((index, generation)) = self.connector.expired(now) {
            let conn = &self.conns[index as usize];
            if conn.generation != generation {
                continue;
            }
            match conn.state {
                State::Connecting | State::Asked => self.refused(index, "handshake_timeout"),
                State::Open | State::Closing if self.plan.scenario == Scenario::Churn => {
                    self.tally.error("conversation_timeout");
                    self.gone(index, None);
                }
                _ => {}
            }
        }
        // A turn opens a few at most: frames that are due must not wait for ten thousand sockets.
        for _ in 0..64 {
            let Some(index) = self.connector.next(now) else { break };
            self.open(index, now);
            now = now_us();
        }
    }

    fn open(&mut self, index: u32, now: u64) {
        let client = self.plan.first + index;
        let source = (self.plan.sources > 1).then(|| (client % u32::from(self.plan.sources)) as u8);
        let conn = &mut self.conns[index as usize];
        conn.reset(State::Connecting);
        self.connector.expect_by(now, index, self.conns[index as usize].generation);
        let opened = socket::connect(self.plan.target, source, self.conns[index as usize].slow)
            .and_then(|socket| self.poll.add(&socket, self.token_of(index)).map(|()| socket));
        match opened {
            Ok(socket) => {
                let conn = &mut self.conns[index as usize];
                conn.socket = Some(socket);
                conn.asked_us = now;
                if conn.dialled_us == 0 {
                    conn.dialled_us = now;
                }
                // On loopback the connection stands by now, and asking at once saves a turn.
                self.ask(index);
            }
            Err(error) => self.refused(index, name_of(error)),
        }
    }

    /// Sends the request, if the connection stands.
    pub(super) fn ask(&mut self, index: u32) {
        let conn = &mut self.conns[index as usize];
        let Some(open) = &conn.socket else { return };
        let request =
            self.handshake.request(self.plan.room_of(self.plan.first + index), conn.resume.as_deref());
        match socket::write(open.as_fd(), request.as_bytes()) {
            Ok(n) if n == request.len() => conn.state = State::Asked,
            Ok(_) => self.refused(index, "handshake_short_write"),
            Err(Errno::AGAIN | Errno::NOTCONN | Errno::INPROGRESS) => {}
            Err(error) => self.refused(index, name_of(error)),
        }
    }

    /// The server said 101.
    pub(super) fn opened(&mut self, index: u32) {
        let now = now_us();
        let conn = &mut self.conns[index as usize];
        conn.state = State::Open;
        self.tally.handshakes_ok += 1;
        self.tally.handshake.record(now - conn.asked_us);
        self.progress.open += 1;
        self.last_landed_us = now;
        self.connector.landed();
        if self.plan.scenario == Scenario::Churn
            && let Some(run) = self.run
        {
            let conn = &mut self.conns[index as usize];
            conn.frames_left = self.plan.churn_frames;
            // The first to connect may be ready before the run begins.
            conn.voice = Some(Voice::short(&self.plan, now.saturating_sub(run.start_us)));
            self.wheel.insert(index, now);
        }
        if !self.welcomes() {
            self.welcomed(index, now);
        }
    }

    /// Whether ready means a welcome event: this server has been seen to send them.
    fn welcomes(&self) -> bool {
        !self.plan.peer && (self.away.is_none() || self.saw_welcome)
    }

    /// The client is ready; in a storm, it is back.
    pub(super) fn welcomed(&mut self, index: u32, now: u64) {
        let conn = &mut self.conns[index as usize];
        if std::mem::replace(&mut conn.ready, true) {
            return;
        }
        self.progress.ready += 1;
        if let (Some(away), Some(storm)) = (&mut self.away, &mut self.tally.storm) {
            storm.back += 1;
            storm.times.record(now.saturating_sub(conn.cut_us));
            storm.lateness.record(conn.dialled_us.saturating_sub(conn.cut_us));
            storm.beyond.record(now.saturating_sub(conn.dialled_us));
            *away -= 1;
            if *away == 0 {
                crate::ipc::notify(&crate::ipc::Notice::Over { at_us: now });
            }
        }
    }

    /// An attempt failed.
    pub(super) fn refused(&mut self, index: u32, kind: &str) {
        let now = now_us();
        let conn = &mut self.conns[index as usize];
        conn.reset(State::Closed);
        self.tally.handshakes_failed += 1;
        self.tally.error(kind);
        self.progress.failed += 1;
        self.last_landed_us = now;
        self.connector.landed();
        if let (Some(_), Some(storm)) = (self.away, &mut self.tally.storm) {
            storm.retries += 1;
            self.connector.retry(index, now);
        }
        self.conversation_over(index);
    }

    /// The socket has ended, by the server's hand or by a fault.
    pub(super) fn gone(&mut self, index: u32, error: Option<Errno>) {
        let conn = &mut self.conns[index as usize];
        let state = conn.state;
        if matches!(state, State::Connecting | State::Asked) {
            return self.refused(index, error.map_or("handshake_closed", name_of));
        }
        if conn.ready {
            self.progress.ready -= 1;
        }
        // The voice stays: what the client would have said is still offered, and lost.
        let voice = conn.voice.filter(|_| self.plan.scenario != Scenario::Churn);
        conn.reset(State::Closed);
        conn.voice = voice;
        self.progress.open -= 1;
        if state == State::Open && self.quit_by.is_none() {
            self.count_close(index, "1006");
        }
        self.conversation_over(index);
    }

    /// Sends a close frame, or what stands for one, and waits for the server to end the connection.
    pub(super) fn say_goodbye(&mut self, index: u32) {
        if self.conns[index as usize].state == State::Open {
            self.conns[index as usize].state = State::Closing;
            if self.plan.transport == Transport::Sse {
                // Who hears a stream has nothing to say: it leaves.
                self.conns[index as usize].socket.iter().for_each(|open| socket::shut_down(open.as_fd()));
                return;
            }
            self.send_control(index, OpCode::Close, &1000u16.to_be_bytes());
        }
    }

    /// Cuts every connection of this worker at once, without a word, and sends the clients back: at once too, or each at its
    /// time of the window.
    pub(super) fn cut_for_storm(&mut self) {
        let now = now_us();
        let mut dropped = 0;
        for index in 0..self.plan.count {
            let conn = &mut self.conns[index as usize];
            if let Some(open) = &conn.socket {
                socket::close_by_reset(open.as_fd());
                conn.reset(State::Idle);
                let wait_us = u64::from(index) * self.plan.over_us / u64::from(self.plan.count);
                (conn.cut_us, conn.dialled_us) = (now + wait_us, 0);
                match wait_us {
                    0 => self.connector.push(index),
                    _ => self.connector.push_at(now + wait_us, index),
                }
                dropped += 1;
            }
        }
        (self.progress.open, self.progress.ready) = (0, 0);
        self.away = Some(dropped);
        if let Some(storm) = &mut self.tally.storm {
            storm.dropped = dropped;
        }
    }

    /// The end of the worker: nobody waits for these any more.
    pub(super) fn cut_all(&mut self) {
        for conn in &mut self.conns {
            if let Some(open) = conn.socket.take() {
                socket::close_by_reset(open.as_fd());
            }
        }
    }

    /// Gives the slot of a finished conversation to the next.
    fn conversation_over(&mut self, index: u32) {
        if self.plan.scenario != Scenario::Churn || self.run.is_none() || self.quit_by.is_some() {
            return;
        }
        self.tally.conversations += 1;
        self.progress.conversations += 1;
        if self.conversations_left > 0 {
            self.conversations_left -= 1;
            self.connector.push(index);
        } else if self.progress.conversations == self.plan.churn_total {
            crate::ipc::notify(&crate::ipc::Notice::Over { at_us: now_us() });
        }
    }
}

/// The name under which a system error is counted.
pub(super) fn name_of(error: Errno) -> &'static str {
    match error {
        Errno::CONNREFUSED => "connection_refused",
        Errno::CONNRESET => "connection_reset",
        Errno::PIPE => "broken_pipe",
        Errno::TIMEDOUT => "timed_out",
        Errno::ADDRNOTAVAIL => "out_of_ports",
        Errno::MFILE | Errno::NFILE => "out_of_descriptors",
        Errno::NETUNREACH | Errno::HOSTUNREACH => "unreachable",
        _ => "socket_error",
    }
}
