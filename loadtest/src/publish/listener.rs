//! A process of subscribers: each in a room of its own, subscribed to its stream, with a log of what it heard.

use std::io::stdin;
use std::os::fd::{AsFd as _, OwnedFd};

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::ledger::Heard;
use super::workers::{Command, Listened, Notice};
use super::{Audience, Plan};
use crate::clock::now_us;
use crate::frame::{OpCode, Scan, masked, scan};
use crate::host;
use crate::ipc::{Orders, STRAY, notify};
use crate::socket::{self, Poll};

/// The poll token of stdin.
const COMMANDS: u64 = u64::MAX;
const BUFFER_BYTES: usize = 64 << 10;
/// Handshakes and subscriptions on their way at a time.
const DIALLED_MAX: usize = 128;
/// How often the coordinator is told how much was heard.
const NOTICE_US: u64 = 50_000;

/// The events that subscribers understand.
#[derive(Deserialize)]
struct Line<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    offset: Option<u64>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    error: Option<Fault>,
}

#[derive(Deserialize)]
struct Fault {
    code: Option<String>,
}

/// A subscriber's side of its connection.
#[derive(Default)]
struct Subscriber {
    socket: Option<OwnedFd>,
    upgraded: bool,
    subscribed: bool,
    /// Nothing is on its way to it any more.
    through: bool,
    partial: Vec<u8>,
    out: Vec<u8>,
    heard: Heard,
}

struct Listener {
    plan: Plan,
    poll: Poll,
    subscribers: Vec<Subscriber>,
    dialled: usize,
    ready: usize,
    /// When somebody was last ready.
    ready_us: u64,
    finish_by: Option<u64>,
    listened: Listened,
    messages: u64,
    noticed: (u64, u64),
    buffer: Vec<u8>,
}

/// Runs such a process until it has told what it heard, or its stdin ends.
pub(crate) fn run() -> Result<(), String> {
    let mut orders = Orders::default();
    let Command::Plan(plan) = orders.first()? else { return Err(STRAY.into()) };
    host::raise_descriptor_limit();
    host::pin(&plan.cores)?;
    let done = Listener::new(*plan).and_then(|listener| listener.work(orders));
    if let Err(fault) = &done {
        notify(&Notice::Fault(fault.clone()));
    }
    done
}

impl Listener {
    fn new(plan: Plan) -> Result<Self, String> {
        let poll = Poll::new().map_err(|error| format!("can't make a poll set: {error}"))?;
        poll.add_pipe(stdin(), COMMANDS).map_err(|error| format!("stdin: {error}"))?;
        Ok(Self {
            subscribers: (0..plan.count).map(|_| Subscriber::default()).collect(),
            plan,
            poll,
            dialled: 0,
            ready: 0,
            ready_us: now_us(),
            finish_by: None,
            listened: Listened::default(),
            messages: 0,
            noticed: (0, 0),
            buffer: vec![0; BUFFER_BYTES],
        })
    }

    fn work(mut self, mut orders: Orders) -> Result<(), String> {
        loop {
            self.dial()?;
            let mut ready = Vec::new();
            self.poll.wait(NOTICE_US, &mut ready).map_err(|error| format!("epoll: {error}"))?;
            for (token, flags) in ready {
                if token == COMMANDS {
                    if !orders.read()? {
                        return Ok(());
                    }
                    if matches!(orders.next()?, Some(Command::Finish)) {
                        self.finish();
                    }
                    continue;
                }
                let n = token as usize;
                if flags.contains(EventFlags::OUT) {
                    self.write(n, &[]);
                }
                let ended = flags.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR);
                self.read(n, ended)?;
            }
            self.tell();
            if let Some(by) = self.finish_by
                && (now_us() >= by || self.subscribers.iter().all(|one| one.through))
            {
                return self.give();
            }
        }
    }

    /// Dials as many as may be on their way.
    fn dial(&mut self) -> Result<(), String> {
        let waited_us = now_us().saturating_sub(self.ready_us);
        if self.ready < self.subscribers.len() && waited_us > self.plan.connect_timeout_us {
            return Err(format!("{} of {} are subscribed, and no more came", self.ready, self.plan.count));
        }
        while self.dialled < self.subscribers.len() && self.dialled - self.ready < DIALLED_MAX {
            let n = self.dialled;
            self.dialled += 1;
            let client = self.plan.first + n as u32;
            let source = (self.plan.sources > 1).then(|| (client % u32::from(self.plan.sources)) as u8);
            let socket = socket::connect(self.plan.target, source, false)
                .and_then(|socket| self.poll.add(&socket, n as u64).map(|()| socket))
                .map_err(|error| format!("client {client}: {error}"))?;
            self.subscribers[n].socket = Some(socket);
            self.write(n, self.plan.request(client).as_bytes());
        }
        Ok(())
    }

    fn tell(&mut self) {
        let now = now_us();
        let (messages, at_us) = self.noticed;
        if self.messages > messages && now >= at_us + NOTICE_US {
            self.noticed = (self.messages, now);
            notify(&Notice::Heard(self.messages));
        }
    }

    /// Everything has been published: what comes before the answer to this question is all that will come.
    fn finish(&mut self) {
        self.finish_by = Some(now_us() + self.plan.drain_us);
        for n in 0..self.subscribers.len() {
            self.write(n, &masked(OpCode::Text, br#"{"type":"ping","t":0}"#));
        }
    }

    fn give(mut self) -> Result<(), String> {
        self.listened.logs = self.subscribers.iter_mut().map(|one| std::mem::take(&mut one.heard)).collect();
        for socket in self.subscribers.iter().filter_map(|one| one.socket.as_ref()) {
            // No TIME_WAIT is left for the next run.
            socket::close_by_reset(socket.as_fd());
        }
        notify(&Notice::Done(Box::new(self.listened)));
        Ok(())
    }

    /// Writes what waits and then this, as far as the socket takes it. Its end is seen by reading.
    fn write(&mut self, n: usize, bytes: &[u8]) {
        let one = &mut self.subscribers[n];
        let Some(socket) = &one.socket else { return };
        one.out.extend_from_slice(bytes);
        let mut taken = 0;
        while taken < one.out.len() {
            match socket::write(socket.as_fd(), &one.out[taken..]) {
                Ok(n) => taken += n,
                Err(Errno::INTR) => {}
                Err(_) => break,
            }
        }
        one.out.drain(..taken);
    }

    fn read(&mut self, n: usize, ended: bool) -> Result<(), String> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let done = loop {
            let one = &mut self.subscribers[n];
            let Some(socket) = &one.socket else { break Ok(()) };
            match socket::read(socket.as_fd(), &mut buffer) {
                Ok(0) => break self.closed(n, "ended"),
                Ok(len) => {
                    one.partial.extend_from_slice(&buffer[..len]);
                    let taken = self.consume(n);
                    if taken.is_err() || (len < buffer.len() && !ended) {
                        break taken;
                    }
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break Ok(()),
                Err(_) => break self.closed(n, "reset"),
            }
        };
        self.buffer = buffer;
        done
    }

    /// A connection is over. Before everybody is subscribed that ends the run.
    fn closed(&mut self, n: usize, how: &str) -> Result<(), String> {
        let one = &mut self.subscribers[n];
        (one.socket, one.through) = (None, true);
        if !one.subscribed {
            return Err(format!("client {} could not subscribe: {how}", self.plan.first + n as u32));
        }
        *self.listened.closes.entry(how.to_owned()).or_default() += 1;
        Ok(())
    }

    fn consume(&mut self, n: usize) -> Result<(), String> {
        let now = now_us();
        let mut bytes = std::mem::take(&mut self.subscribers[n].partial);
        let mut at = 0;
        if !self.subscribers[n].upgraded {
            let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
                self.subscribers[n].partial = bytes;
                return Ok(());
            };
            if !bytes.starts_with(b"HTTP/1.1 101 ") {
                let status = String::from_utf8_lossy(&bytes[9..12.min(end)]).into_owned();
                return self.closed(n, &format!("refused {status}"));
            }
            self.subscribers[n].upgraded = true;
            at = end + 4;
        }
        loop {
            match scan(&bytes[at..]) {
                Scan::Frame { opcode, payload, taken } => {
                    self.take_frame(n, opcode, payload, now)?;
                    at += taken;
                }
                Scan::More => break,
                Scan::Broken(what) => return self.closed(n, what),
            }
            if self.subscribers[n].socket.is_none() {
                return Ok(());
            }
        }
        bytes.drain(..at);
        self.subscribers[n].partial = bytes;
        Ok(())
    }

    fn take_frame(&mut self, n: usize, opcode: OpCode, payload: &[u8], now: u64) -> Result<(), String> {
        match opcode {
            OpCode::Text => payload
                .split(|&byte| byte == b'\n')
                .filter(|line| !line.is_empty())
                .try_for_each(|line| self.take_event(n, line, now)),
            OpCode::Ping => {
                self.write(n, &masked(OpCode::Pong, payload));
                Ok(())
            }
            OpCode::Close => {
                let code = payload.first_chunk().map_or(1005, |code| u16::from_be_bytes(*code));
                self.closed(n, &code.to_string())
            }
            _ => Ok(()),
        }
    }

    fn take_event(&mut self, n: usize, line: &[u8], now: u64) -> Result<(), String> {
        let Ok(line) = serde_json::from_slice::<Line<'_>>(line) else {
            self.error("unreadable");
            return Ok(());
        };
        match line.kind {
            "channel.message" => self.hear(n, &line, now),
            "session.created" => {
                let pattern = self.plan.pattern(self.plan.first + n as u32);
                let event = format!(r#"{{"type":"channel.subscribe","channel":"{pattern}"}}"#);
                self.write(n, &masked(OpCode::Text, event.as_bytes()));
            }
            "channel.subscribed" if !self.subscribers[n].subscribed => {
                let one = &mut self.subscribers[n];
                one.subscribed = true;
                one.heard = Heard::after(line.offset.unwrap_or(0));
                self.ready += 1;
                self.ready_us = now;
                if self.ready == self.subscribers.len() {
                    notify(&Notice::Ready);
                }
            }
            "pong" if self.finish_by.is_some() => self.subscribers[n].through = true,
            "error" => {
                let code = line.error.and_then(|error| error.code).unwrap_or_else(|| "error".into());
                if !self.subscribers[n].subscribed {
                    return self.closed(n, &code);
                }
                self.error(&code);
            }
            "channel.subscribed" | "channel.unsubscribed" | "outbox.dropped" => self.error(line.kind),
            _ => {}
        }
        Ok(())
    }

    fn hear(&mut self, n: usize, line: &Line<'_>, now: u64) {
        let data = line.data.and_then(|data| serde_json::from_str::<(u64, u64)>(data.get()).ok());
        let (Some(offset), Some((number, written_us))) = (line.offset, data) else {
            return self.error("foreign_message");
        };
        let of_this = match self.plan.to {
            Audience::System => true,
            Audience::Users => number % u64::from(self.plan.clients) == u64::from(self.plan.first) + n as u64,
        };
        if !of_this {
            return self.error("message_of_another_user");
        }
        self.messages += 1;
        self.listened.latency.record(now.saturating_sub(written_us));
        self.subscribers[n].heard.hear(offset, number);
    }

    fn error(&mut self, what: &str) {
        *self.listened.errors.entry(what.to_owned()).or_default() += 1;
    }
}
