//! A client that behaves, while others don't: what it sends comes back, in order, and nothing else does.

use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use tungstenite::{Bytes, Message, WebSocket};

use crate::support::PATIENCE;

/// How often it speaks: the pace of speech, which is within every limit.
const PACE: Duration = Duration::from_millis(20);

/// So many rooms, so that each shard has some.
const ROOMS: usize = 4;

/// How many frames pass between two newcomers.
const NEWCOMER_EACH: u32 = 10;

/// What the bystanders were served.
pub(crate) struct Served {
    /// Frames that came back to each.
    pub(crate) frames: u32,
    /// Clients that came, were served, and left.
    pub(crate) newcomers: u32,
}

/// Members of rooms of their own, which last as long as the bystanders.
pub(crate) struct Bystanders {
    server: SocketAddr,
    members: Vec<WebSocket<TcpStream>>,
}

impl Bystanders {
    pub(crate) fn join(server: SocketAddr) -> Self {
        let members = (0..ROOMS).map(|number| join(server, &format!("bystander-{number}"))).collect();
        Self { server, members }
    }

    /// Speaks until told to stop. Panics when anything is lost, changed, added or out of order; a newcomer now and
    /// then has to be served too.
    pub(crate) fn speak(&mut self, stop: Receiver<()>) -> Served {
        let mut served = Served { frames: 0, newcomers: 0 };
        while stop.recv_timeout(PACE) == Err(RecvTimeoutError::Timeout) {
            for member in &mut self.members {
                exchange(member, served.frames);
            }
            served.frames += 1;
            if served.frames.is_multiple_of(NEWCOMER_EACH) {
                visit(self.server, served.frames);
                served.newcomers += 1;
            }
        }
        served
    }
}

/// Comes, is served, and leaves.
pub(crate) fn visit(server: SocketAddr, number: u32) {
    let mut newcomer = join(server, &format!("newcomer-{number}"));
    exchange(&mut newcomer, number);
    newcomer.close(None).expect("a goodbye");
    while newcomer.read().is_ok() {}
}

/// Joins a room with the engine that returns audio, and reads its welcome.
fn join(server: SocketAddr, room: &str) -> WebSocket<TcpStream> {
    let stream = TcpStream::connect(server).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket takes that");
    let (mut member, _) =
        tungstenite::client(format!("ws://{server}/ws/{room}?engine=echo"), stream).expect("a room");
    let welcome = member.read().expect("a welcome").into_text().expect("an event");
    assert!(welcome.contains("session.created"), "{welcome}");
    member
}

/// Sends a frame of 20 ms with this number in it: the next thing to come is the same frame.
fn exchange(member: &mut WebSocket<TcpStream>, number: u32) {
    let frame = Bytes::from(number.to_be_bytes().repeat(160));
    member.send(Message::Binary(frame.clone())).expect("the server reads");
    assert_eq!(next(member), Message::Binary(frame), "of frame {number}");
}

fn next(member: &mut WebSocket<TcpStream>) -> Message {
    loop {
        let message = member.read().expect("the frame comes back");
        let text = message.to_text().unwrap_or_default();
        let joined = text.contains("\"room.member_joined\"");
        if !message.is_ping() && !joined {
            return message;
        }
    }
}
