//! What clients hear, and what they make of it.

use super::plan::Target;
use super::{Reading, Stage, wire};
use crate::core::Micros;
use crate::sim::pipe::Holder;
use crate::sim::world::{Event, World};

impl World {
    /// Reads what the plan reads.
    pub(in crate::sim) fn client_hear(&mut self, client: usize) {
        let me = &mut self.clients[client];
        let number = me.number;
        let Some(conn) = me.conn.as_mut() else { return };
        let id = conn.socket;
        let socket = &mut self.sockets[id.0];
        if !conn.reading && !socket.reset {
            return;
        }
        let bytes = match conn.plan.reading {
            Reading::Sipping(bytes) => bytes,
            _ => usize::MAX,
        };
        let heard = socket.down.read(bytes);
        let (more, ended, reset) = (socket.down.readable() > 0, socket.down.at_end(), socket.reset);
        conn.heard_bytes += heard.len();
        conn.heard.extend_from_slice(&heard);
        if let Reading::Stopping(after) = conn.plan.reading
            && conn.stage == Stage::Open
            && conn.heard_bytes >= after
        {
            conn.reading = false;
        }
        if more && conn.reading {
            let pause = Micros(me.dice.range(100, 20_000));
            self.schedule(self.now + pause, Event::ClientRead(client, number));
        }
        self.trace.step(self.now, "heard", client as u64, &heard);
        self.server_notice(id);
        self.client_understand(client);
        if !more && (ended || reset) && self.clients[client].number == number {
            self.client_cut_off(client, reset);
        }
    }

    /// The server ended the connection.
    fn client_cut_off(&mut self, client: usize, reset: bool) {
        let Some(conn) = &self.clients[client].conn else { return };
        let (id, over) = (conn.socket, self.sockets[conn.socket.0].up.ended());
        if !reset && !over && !conn.closed && !conn.heard.is_empty() && conn.stage != Stage::Asking {
            let rest = conn.heard.len();
            return self.fail(format!("client {client}: the stream ended {rest} bytes into a frame"));
        }
        if !conn.closed {
            self.turned_out(client, if reset { "reset" } else { "end of stream" });
        }
        if !reset && !over {
            self.end_up(id);
        }
        self.client_end(client);
    }

    /// Takes frame after frame from what was heard.
    fn client_understand(&mut self, client: usize) {
        while let Some(conn) = self.clients[client].conn.as_mut() {
            if conn.stage == Stage::Asking {
                match wire::parse_answer(&conn.heard) {
                    Ok(None) => return,
                    Ok(Some((status, len))) => self.client_answered(client, status, len),
                    Err(why) => return self.fail(format!("client {client}: {why}")),
                }
                continue;
            }
            if conn.plan.target == Target::PlainHttp {
                return conn.heard.clear();
            }
            match wire::parse(&conn.heard) {
                Ok(None) => return,
                Ok(Some((opcode, range))) => {
                    let payload = conn.heard[range.clone()].to_vec();
                    conn.heard.drain(..range.end);
                    if let Err(why) = self.client_frame_heard(client, opcode, &payload) {
                        return self.fail(format!("client {client}: {why}"));
                    }
                }
                Err(why) => return self.fail(format!("client {client}: {why}")),
            }
        }
    }

    fn client_answered(&mut self, client: usize, status: u16, len: usize) {
        let Some(conn) = self.clients[client].conn.as_mut() else { return };
        conn.heard.drain(..len);
        if status == 101 {
            conn.stage = Stage::Open;
            return self.client_wake_in(client, Micros(1));
        }
        conn.stage = Stage::Leaving;
        conn.closed = true;
        conn.heard.clear();
        // What follows is a body, not frames.
        (conn.plan.target, conn.plan.reading) = (Target::PlainHttp, Reading::Everything);
        let (proper, id) = (conn.plan.proper, conn.socket);
        if self.scenario.gentle && proper && !self.node_ends(id) {
            self.fail(format!("client {client} kept every rule and was answered {status}"));
        }
        self.client_wake_in(client, self.scenario.config.limits.close + Micros::from_s(4));
    }

    fn client_frame_heard(&mut self, client: usize, opcode: u8, payload: &[u8]) -> Result<(), String> {
        let now = self.now;
        let me = &mut self.clients[client];
        let own = (client as u16, me.number);
        let Some(conn) = me.conn.as_mut() else { return Ok(()) };
        let echo_path = conn.plan.target == Target::Echo;
        if conn.goodbye {
            return Err(format!("opcode {opcode} after a close frame"));
        }
        match opcode {
            wire::PING => {
                if conn.plan.answers_pings && conn.stage != Stage::Vanished && !conn.closed {
                    let pong = wire::frame(0x80 | wire::PONG, payload, [9, 8, 7, 6]);
                    self.client_send(client, &pong);
                }
            }
            wire::PONG if payload != b"between" => return Err(format!("a pong of {payload:?}")),
            wire::PONG => {}
            wire::CLOSE => return self.client_close_heard(client, payload),
            wire::TEXT | wire::BINARY if echo_path => conn.progress = now,
            wire::TEXT => {
                conn.progress = now;
                let text = std::str::from_utf8(payload).map_err(|_| "a text message that is not UTF-8")?;
                let whole = !conn.ledger.v1;
                for line in text.split(|at| at == '\n' && !whole) {
                    if let Some(conn) = self.clients[client].conn.as_mut() {
                        conn.ledger.event(line)?;
                    }
                    self.client_recollect(client, line)?;
                }
            }
            _ => {
                conn.progress = now;
                if conn.ledger.binary(own, payload)? {
                    conn.owed_since = now;
                }
            }
        }
        if self.scenario.gentle
            && let Some(conn) = &self.clients[client].conn
            && conn.ledger.told_of_drops()
            && conn.ledger.echoes
        {
            return Err("something was dropped though there was room for everything".into());
        }
        Ok(())
    }

    fn client_close_heard(&mut self, client: usize, payload: &[u8]) -> Result<(), String> {
        let code = match payload {
            [] => 1005,
            [high, low, reason @ ..] => {
                std::str::from_utf8(reason).map_err(|_| "a close reason that is not UTF-8")?;
                u16::from_be_bytes([*high, *low])
            }
            [_] => return Err("a close payload of one byte".into()),
        };
        if !matches!(code, 1000..=1003 | 1005 | 1007..=1013) {
            return Err(format!("close code {code}"));
        }
        self.trace.say(self.now, format_args!("client {client} is told {code}"));
        let Some(conn) = self.clients[client].conn.as_mut() else { return Ok(()) };
        conn.goodbye = true;
        if !conn.closed {
            self.turned_out(client, &format!("close {code}"));
            let vanished =
                self.clients[client].conn.as_ref().is_some_and(|conn| conn.stage == Stage::Vanished);
            if !vanished {
                self.client_send_close(client, if code == 1005 { 1000 } else { code });
            }
        }
        if let Some(conn) = self.clients[client].conn.as_mut()
            && conn.stage != Stage::Vanished
        {
            conn.stage = Stage::Leaving;
            conn.reading = true;
            let holder = self.sockets[conn.socket.0].holder;
            debug_assert!(holder != Holder::ControlPlane, "the control plane speaks no WebSocket");
        }
        self.client_wake_in(client, self.scenario.config.limits.close + Micros::from_s(4));
        Ok(())
    }
}
