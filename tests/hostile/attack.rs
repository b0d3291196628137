//! One attack: what is sent, and what the protocol says becomes of it.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::support::PATIENCE;
use crate::wire::{self, CLOSE, PONG, TEXT};

/// A row of the table.
pub(crate) struct Case {
    pub(crate) name: String,
    at: Door,
    acts: Vec<Act>,
    meets: Outcome,
}

/// Where an attack begins.
enum Door {
    /// On a fresh connection.
    Plain,
    /// On a WebSocket of this path.
    WebSocket(&'static str),
}

/// What an attacker does.
enum Act {
    /// Sends this.
    Say(Vec<u8>),
    /// Sends this byte now and then, until the server has had enough.
    Drip(u8),
    /// Says that nothing more comes, and reads on.
    HalfClose,
    /// Resets the connection, which ends the attack.
    Reset,
}

/// What the attacker meets with.
#[derive(Clone, Copy, Debug)]
enum Outcome {
    /// One HTTP answer with this status, and the end.
    Answered(u16),
    /// A close frame with this code, and the end.
    Closed(u16),
    /// A close frame with this code that wants an answer, and then the end.
    Dismissed(u16),
    /// An `error` event with this code, and service as before.
    Corrected(&'static str),
    /// Service as before.
    Served,
    /// The end, without a word about it.
    Ended,
    /// Nobody is there to meet anything.
    Gone,
}

/// How the bytes of an attack are cut up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// What follows an upgrade is sent once it is answered.
    Patient,
    /// Upgrade and attack are sent at once.
    Pipelined,
    /// A byte at a time, or many small pieces of what is long.
    Crumbs,
}

pub(crate) const MANNERS: [Manner; 3] = [Manner::Patient, Manner::Pipelined, Manner::Crumbs];

/// Asked of a server that should serve as before; its pong says that it does.
const STILL_THERE: &[u8] = b"still there?";

/// An attack on a fresh connection.
pub(crate) fn plain(name: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Case {
    Case { name: name.into(), at: Door::Plain, acts: vec![Act::Say(bytes.into())], meets: Outcome::Ended }
}

/// An attack on an open room.
pub(crate) fn room(name: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Case {
    Case { at: Door::WebSocket("/ws/hostile"), ..plain(name, bytes) }
}

/// An attack on `/echo`.
pub(crate) fn echo(name: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Case {
    Case { at: Door::WebSocket("/echo"), ..plain(name, bytes) }
}

impl Case {
    pub(crate) fn then_say(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.acts.push(Act::Say(bytes.into()));
        self
    }

    pub(crate) fn then_drip(mut self, byte: u8) -> Self {
        self.acts.push(Act::Drip(byte));
        self
    }

    pub(crate) fn then_half_close(mut self) -> Self {
        self.acts.push(Act::HalfClose);
        self
    }

    pub(crate) fn then_reset(mut self) -> Self {
        self.acts.push(Act::Reset);
        self.meets = Outcome::Gone;
        self
    }

    pub(crate) fn answered(mut self, status: u16) -> Self {
        self.meets = Outcome::Answered(status);
        self
    }

    pub(crate) fn closed(mut self, code: u16) -> Self {
        self.meets = Outcome::Closed(code);
        self
    }

    pub(crate) fn dismissed(mut self, code: u16) -> Self {
        self.meets = Outcome::Dismissed(code);
        self
    }

    pub(crate) fn corrected(mut self, code: &'static str) -> Self {
        self.meets = Outcome::Corrected(code);
        self
    }

    pub(crate) fn served(mut self) -> Self {
        self.meets = Outcome::Served;
        self
    }

    /// Attacks.
    ///
    /// # Errors
    /// With what came instead of the outcome.
    pub(crate) fn run(&self, server: SocketAddr, manner: Manner) -> Result<(), String> {
        let stream = TcpStream::connect(server).and_then(|stream| {
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            Ok(stream)
        });
        let mut stream = stream.map_err(|error| format!("no connection: {error}"))?;
        let mut first = Vec::new();
        if let Door::WebSocket(path) = self.at {
            let head = wire::upgrade(path, "Sec-WebSocket-Protocol: voxhall.v1\r\n");
            if manner == Manner::Pipelined {
                first = head;
            } else {
                stream.write_all(&head).map_err(|error| format!("the upgrade: {error}"))?;
                opened(&mut stream)?;
            }
        }
        let (has_ended, ended) = mpsc::channel();
        thread::scope(|threads| {
            let mut writing = stream.try_clone().map_err(|error| error.to_string())?;
            // What the server no longer takes is not the attacker's business: its outcome is read.
            let _ = thread::Builder::new()
                .spawn_scoped(threads, move || self.write(&mut writing, first, manner, &ended))
                .map_err(|error| error.to_string())?;
            let met = self.meet(&mut stream, manner);
            drop(has_ended);
            let _ = stream.shutdown(Shutdown::Both);
            met
        })
    }

    fn write(
        &self,
        stream: &mut TcpStream,
        mut first: Vec<u8>,
        manner: Manner,
        ended: &mpsc::Receiver<()>,
    ) -> io::Result<()> {
        for act in &self.acts {
            match act {
                Act::Say(bytes) if manner == Manner::Crumbs => {
                    let size = if bytes.len() > 4_096 { 1_021 } else { 1 };
                    for crumb in bytes.chunks(size) {
                        stream.write_all(crumb)?;
                    }
                }
                Act::Say(bytes) => {
                    first.extend_from_slice(bytes);
                    stream.write_all(&std::mem::take(&mut first))?;
                }
                Act::Drip(byte) => loop {
                    match ended.recv_timeout(Duration::from_millis(50)) {
                        Err(RecvTimeoutError::Timeout) => stream.write_all(&[*byte])?,
                        _ => return Ok(()),
                    }
                },
                Act::HalfClose => stream.shutdown(Shutdown::Write)?,
                Act::Reset => rustix::net::sockopt::set_socket_linger(&*stream, Some(Duration::ZERO))?,
            }
        }
        if matches!(self.meets, Outcome::Corrected(_) | Outcome::Served) {
            stream.write_all(&wire::frame(wire::FIN | wire::PING, STILL_THERE))?;
        }
        Ok(())
    }

    fn meet(&self, stream: &mut TcpStream, manner: Manner) -> Result<(), String> {
        let upgraded = matches!(self.at, Door::WebSocket(_));
        match self.meets {
            Outcome::Answered(status) => answered(stream, status),
            Outcome::Gone => Ok(()),
            Outcome::Ended => match stream.read_to_end(&mut Vec::new()) {
                Err(error) if error.kind() != ErrorKind::ConnectionReset => Err(format!("no end: {error}")),
                _ => Ok(()),
            },
            outcome => {
                if upgraded && manner == Manner::Pipelined {
                    opened(stream)?;
                }
                match outcome {
                    Outcome::Closed(code) => closed(stream, code, false),
                    Outcome::Dismissed(code) => closed(stream, code, true),
                    Outcome::Corrected(code) => still_served(stream, Some(code)),
                    _ => still_served(stream, None),
                }
            }
        }
    }
}

/// Reads one refusal or answer to its end.
fn answered(stream: &mut TcpStream, status: u16) -> Result<(), String> {
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer);
    let shown = answer.chars().take(400).collect::<String>();
    read.map_err(|error| format!("{error} after {shown:?}"))?;
    // A detail may speak of HTTP/1.1; a second status line may not be there.
    let statuses = answer.match_indices("HTTP/1.").filter(|(at, _)| {
        answer[at + 8..]
            .strip_prefix(' ')
            .is_some_and(|rest| rest.starts_with(|next: char| next.is_ascii_digit()))
    });
    let one = statuses.count() == 1
        && answer.starts_with("HTTP/1.")
        && answer[8..].starts_with(&format!(" {status} "));
    let problem =
        status < 400 || answer.to_ascii_lowercase().contains("content-type: application/problem+json");
    if problem && one { Ok(()) } else { Err(format!("not one answer with {status} but {shown:?}")) }
}

/// Reads the answer to an upgrade.
fn opened(stream: &mut TcpStream) -> Result<(), String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).map_err(|error| format!("{error} after {}", head.escape_ascii()))?;
        head.push(byte[0]);
    }
    if head.starts_with(b"HTTP/1.1 101 ") {
        Ok(())
    } else {
        Err(format!("no 101 but {}", head.escape_ascii()))
    }
}

/// Reads on to the close frame, answers it if it is to be, and reads the end.
fn closed(stream: &mut TcpStream, code: u16, answer: bool) -> Result<(), String> {
    loop {
        let (opcode, payload) = wire::read_frame(stream)?;
        if opcode != CLOSE {
            continue;
        }
        let told = payload.first_chunk().map_or(1005, |code| u16::from_be_bytes(*code));
        if answer {
            stream.write_all(&wire::close(code, b"")).map_err(|error| error.to_string())?;
        }
        let mut rest = Vec::new();
        return match stream.read_to_end(&mut rest) {
            Ok(0) if told == code => Ok(()),
            Ok(_) => Err(format!("close code {told}, and {} bytes behind it", rest.len())),
            Err(error) => Err(format!("close code {told}, and no end: {error}")),
        };
    }
}

/// Reads on to the pong that says that all is well; before it there was this error, if one was due.
fn still_served(stream: &mut TcpStream, error: Option<&str>) -> Result<(), String> {
    let mut errors = Vec::new();
    loop {
        match wire::read_frame(stream)? {
            (PONG, payload) if payload == STILL_THERE => break,
            (CLOSE, payload) => return Err(format!("closed: {}", payload.escape_ascii())),
            (TEXT, payload) if payload.starts_with(b"{") => {
                for line in payload.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
                    let event: Value = serde_json::from_slice(line).map_err(|error| error.to_string())?;
                    if event["type"] == "error" {
                        errors.push(event["error"]["code"].as_str().unwrap_or_default().to_owned());
                    }
                }
            }
            _ => {}
        }
    }
    let wanted: Vec<_> = error.into_iter().collect();
    if errors == wanted { Ok(()) } else { Err(format!("errors {errors:?}, not {wanted:?}")) }
}
