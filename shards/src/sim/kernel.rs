//! What the kernel does with the operations of a pump: when they complete, and with how much.

use super::pipe::{Holder, SocketId};
use super::pump::{Completion, Operation, name};
use super::world::{Event, World};
use crate::core::{CloseMode, ConnKey, Ended, Gather, Input, Micros, ReceiveMode, SendOutcome};

/// Parts of one send, and bytes that it may begin a message behind.
const PARTS_MAX: usize = 64;
const SEND_BYTES_MAX: usize = 64 * 1_024;
const BATCH_HEADER_MAX: usize = 4;

impl World {
    // ---- receiving ----

    pub(super) fn change_receive(&mut self, shard: usize, key: ConnKey, mode: ReceiveMode) {
        let Some(live) = self.nodes[shard].live(key) else { return };
        live.mode = mode;
        live.head &= mode != ReceiveMode::Stream;
        if mode != ReceiveMode::Paused {
            return self.arm_receive(shard, key);
        }
        if live.receive == Operation::Armed {
            // Cancelled at once, or after some more bytes have come.
            if self.dice.permille(500) {
                live.receive = Operation::Idle;
            } else {
                self.complete_receive(shard, key, 1_000);
            }
        }
    }

    fn arm_receive(&mut self, shard: usize, key: ConnKey) {
        let Some(live) = self.nodes[shard].live(key) else { return };
        if live.receive != Operation::Idle || live.mode == ReceiveMode::Paused || live.closing.is_some() {
            return;
        }
        live.receive = Operation::Armed;
        let socket = live.socket;
        self.server_notice(socket);
    }

    fn complete_receive(&mut self, shard: usize, key: ConnKey, within_us: u64) {
        if let Some(live) = self.nodes[shard].live(key) {
            live.receive = Operation::Coming;
            let at = self.now + Micros(self.dice.range(0, within_us));
            self.schedule(at, Event::Receive(shard, key));
        }
    }

    /// Something happened to a socket: operations that waited for it complete.
    pub(super) fn server_notice(&mut self, id: SocketId) {
        let socket = &self.sockets[id.0];
        let Holder::Slot(shard, key) = socket.holder else { return };
        let readable = socket.up.readable() > 0 || socket.up.at_end() || socket.reset;
        let writable = socket.down.writable() || socket.reset;
        let Some(live) = self.nodes[shard].live(key) else { return };
        let (receive, poll) = (live.receive == Operation::Armed, live.poll == Operation::Armed);
        if receive && readable {
            self.complete_receive(shard, key, 200);
        }
        if poll && writable {
            self.complete_poll(shard, key);
        }
    }

    fn complete_poll(&mut self, shard: usize, key: ConnKey) {
        if let Some(live) = self.nodes[shard].live(key) {
            live.poll = Operation::Coming;
            let at = self.now + Micros(self.dice.range(0, 200));
            self.schedule(at, Event::Polled(shard, key));
        }
    }

    /// A receive completes with what is there now.
    pub(super) fn kernel_received(&mut self, shard: usize, key: ConnKey) {
        let most = self.scenario.faults.receive_bytes_max;
        let size = self.dice.size(1, most);
        let goes_on = self.dice.permille(750);
        let Some(live) = self.nodes[shard].live(key) else { return };
        if live.receive != Operation::Coming {
            return;
        }
        let id = live.socket;
        let socket = &mut self.sockets[id.0];
        let standing = live.mode == ReceiveMode::Stream && live.closing.is_none() && goes_on;
        live.receive = Operation::Idle;
        live.pending += 1;
        let completion = if live.closing.is_some() {
            Completion::Withdrawn(key)
        } else if socket.reset {
            Completion::Ended(key, Ended::Broken)
        } else if socket.up.readable() > 0 {
            live.receive = if standing { Operation::Armed } else { Operation::Idle };
            Completion::Received(key, socket.up.read(size))
        } else if socket.up.at_end() {
            Completion::Ended(key, Ended::Eof)
        } else {
            Completion::Withdrawn(key)
        };
        let (client, number) = (socket.client, socket.number);
        self.nodes[shard].completions.push_back(completion);
        self.wake(shard);
        if self.clients[client].number == number {
            self.client_flush(client);
        }
        self.server_notice(id);
    }

    // ---- sending ----

    /// Gathers and submits what is ready, as much as one turn may.
    pub(super) fn submit_sends(&mut self, shard: usize) {
        for _ in 0..self.scenario.faults.turn_budget {
            let Some(key) = self.nodes[shard].ready.pop_front() else { return };
            let node = &mut self.nodes[shard];
            let Some(live) = node.live(key) else { continue };
            live.queued = false;
            if live.closing.is_some() {
                self.go_on_closing(shard, key);
                self.report_closed(shard);
                continue;
            }
            let mut gather = Gather::default();
            node.shard.gather(key, &mut gather);
            if gather.is_empty() {
                // Its messages were dropped while it waited.
                continue;
            }
            self.kernel_sends(shard, key, gather);
        }
    }

    fn kernel_sends(&mut self, shard: usize, key: ConnKey, gather: Gather) {
        let now = self.now;
        let parts: Vec<&[u8]> = gather.slices().collect();
        let last = parts.last().map_or(0, |part| part.len());
        // The last message may begin a batch: then its header is a part of its own.
        let within = gather.parts() <= PARTS_MAX && gather.len() - last < SEND_BYTES_MAX + BATCH_HEADER_MAX;
        let size = (gather.parts(), gather.len());
        self.require(within, || format!("a send of {} parts and {} bytes", size.0, size.1));
        self.look_at_send(shard, key, &parts);
        let bytes = parts.concat();
        self.trace.step(now, "sends", name(shard, key), &bytes);
        let Some(live) = self.nodes[shard].live(key) else { return };
        let id = live.socket;
        let outcome = self.kernel_takes(id, &bytes);
        let delay = Micros(self.dice.range(0, self.scenario.faults.completion_delay_max.0));
        if let Some(live) = self.nodes[shard].live(key) {
            live.send = Some((gather, outcome));
        }
        self.schedule(now + delay, Event::Sent(shard, key));
    }

    /// How much of a send the socket takes.
    fn kernel_takes(&mut self, id: SocketId, bytes: &[u8]) -> SendOutcome {
        let now = self.now;
        let faults = &self.scenario.faults;
        let refused = self.dice.permille(faults.refused_send_permille);
        let short = self.dice.permille(faults.short_send_permille);
        let socket = &mut self.sockets[id.0];
        if socket.reset {
            return SendOutcome::Broken;
        }
        let mut taken = socket.down.space().min(bytes.len());
        if taken == 0 || refused {
            return SendOutcome::WouldBlock;
        }
        if short {
            taken = self.dice.size(1, taken);
        }
        let latency = socket.latency;
        let at = socket.down.write(now, latency, &bytes[..taken]);
        self.maybe_stall(id, false);
        self.schedule(at, Event::Arrived(id, false));
        SendOutcome::Sent(taken)
    }

    pub(super) fn kernel_sent(&mut self, shard: usize, key: ConnKey) {
        if self.nodes[shard].live(key).is_some() {
            self.nodes[shard].completions.push_back(Completion::Sent(key));
            self.wake(shard);
        }
    }

    pub(super) fn await_writable(&mut self, shard: usize, key: ConnKey) {
        let Some(live) = self.nodes[shard].live(key) else { return };
        if live.poll == Operation::Idle {
            live.poll = Operation::Armed;
            let socket = live.socket;
            self.server_notice(socket);
        }
    }

    pub(super) fn kernel_polled(&mut self, shard: usize, key: ConnKey) {
        let Some(live) = self.nodes[shard].live(key) else { return };
        if live.poll != Operation::Coming {
            return;
        }
        live.poll = Operation::Idle;
        live.pending += 1;
        let closing = live.closing.is_some();
        let completion = if closing { Completion::Withdrawn(key) } else { Completion::Writable(key) };
        self.nodes[shard].completions.push_back(completion);
        self.wake(shard);
    }

    // ---- completions ----

    pub(super) fn book_completions(&mut self, shard: usize) {
        for _ in 0..self.scenario.faults.turn_budget {
            let Some(completion) = self.nodes[shard].completions.pop_front() else { return };
            self.book(shard, completion);
            self.report_closed(shard);
        }
    }

    fn book(&mut self, shard: usize, completion: Completion) {
        let now = self.now;
        let (Completion::Received(key, _) | Completion::Ended(key, _) | Completion::Sent(key)) = completion
        else {
            let (Completion::Writable(key) | Completion::Withdrawn(key)) = completion else { return };
            return self.book_poll(shard, key, matches!(completion, Completion::Writable(_)));
        };
        let node = &mut self.nodes[shard];
        let Some(live) = node.live(key) else { return };
        if matches!(completion, Completion::Sent(_)) {
            // The frames are let go first, so that the core can use their blocks again.
            let Some((gather, outcome)) = live.send.take() else { return };
            let whole = outcome == SendOutcome::Sent(gather.len());
            drop(gather);
            return self.book_sent(shard, key, outcome, whole);
        }
        live.pending -= 1;
        if live.closing.is_some() {
            return self.go_on_closing(shard, key);
        }
        match completion {
            Completion::Received(_, mut bytes) => {
                live.received_at = now;
                if live.mode == ReceiveMode::Once {
                    live.mode = ReceiveMode::Paused;
                }
                node.counts.bytes_received += bytes.len() as u64;
                self.tell(shard, Input::Received { conn: key, bytes: &mut bytes });
                self.arm_receive(shard, key);
            }
            Completion::Ended(_, how) => {
                live.mode = ReceiveMode::Paused;
                self.tell(shard, Input::Ended { conn: key, how });
            }
            _ => {}
        }
    }

    fn book_poll(&mut self, shard: usize, key: ConnKey, writable: bool) {
        let Some(live) = self.nodes[shard].live(key) else { return };
        live.pending -= 1;
        if live.closing.is_some() {
            self.go_on_closing(shard, key);
        } else if writable {
            self.tell(shard, Input::Writable { conn: key });
        } else {
            self.arm_receive(shard, key);
        }
    }

    fn book_sent(&mut self, shard: usize, key: ConnKey, outcome: SendOutcome, whole: bool) {
        let now = self.now;
        let node = &mut self.nodes[shard];
        let Some(live) = node.live(key) else { return };
        if live.closing.is_some() {
            return self.go_on_closing(shard, key);
        }
        if whole {
            live.stuck_since = None;
        } else {
            live.blocked_since.get_or_insert(now);
            live.stuck_since.get_or_insert(now);
        }
        if let SendOutcome::Sent(bytes) = outcome {
            node.counts.bytes_sent += bytes as u64;
        }
        self.tell(shard, Input::Sent { conn: key, outcome });
    }

    // ---- ending ----

    /// Ends what is in flight on a closing connection, then closes it.
    pub(super) fn go_on_closing(&mut self, shard: usize, key: ConnKey) {
        let Some(live) = self.nodes[shard].live(key) else { return };
        let Some(mode) = live.closing else { return };
        if live.send.is_some() || live.queued {
            return;
        }
        let (receive, poll) = (live.receive == Operation::Armed, live.poll == Operation::Armed);
        let idle = live.receive == Operation::Idle && live.poll == Operation::Idle && live.pending == 0;
        if receive {
            self.complete_receive(shard, key, 1_000);
        }
        if poll {
            self.complete_poll(shard, key);
        }
        if idle && let Some(live) = self.nodes[shard].remove(key, &mut self.dice) {
            self.close_socket(live.socket, mode);
        }
    }

    pub(super) fn close_socket(&mut self, id: SocketId, mode: CloseMode) {
        // A socket closed with bytes unread resets its peer, which may cut off what was on its way there.
        let unread = self.sockets[id.0].up.readable() > 0 && self.dice.permille(500);
        let socket = &mut self.sockets[id.0];
        socket.holder = Holder::Closed;
        if mode == CloseMode::Reset || unread {
            socket.reset = true;
            let at = self.now + socket.latency;
            self.schedule(at, Event::Arrived(id, false));
        } else {
            self.end_down(id);
        }
    }

    /// The server's half ends behind everything sent.
    pub(super) fn end_down(&mut self, id: SocketId) {
        let now = self.now;
        let socket = &mut self.sockets[id.0];
        let latency = socket.latency;
        let at = socket.down.end(now, latency);
        self.schedule(at, Event::Arrived(id, false));
    }
}
