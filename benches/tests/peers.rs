//! Every peer is a correct echo server; a comparison with a broken one would mean nothing.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tungstenite::protocol::frame::Frame;
use tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tungstenite::protocol::{CloseFrame, Role};
use tungstenite::{Error, Message, WebSocket};

/// Long enough never to be reached but by a server that hangs.
const HANG: Duration = Duration::from_secs(20);

struct Peer {
    child: Child,
    address: SocketAddr,
}

impl Peer {
    fn start(kind: &str) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_voxhall-peers"))
            .args([kind, "--listen", "127.0.0.1:0", "--core", "0"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
        let address = line.trim().strip_prefix("ready ").and_then(|address| address.parse().ok());
        Self { address: address.unwrap_or_else(|| panic!("not a ready line: {line:?}")), child }
    }

    fn stream(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("it listens");
        stream.set_nodelay(true).expect("an option every socket has");
        stream.set_read_timeout(Some(HANG)).expect("an option every socket has");
        stream
    }

    fn connect(&self) -> WebSocket<TcpStream> {
        let (socket, _) =
            tungstenite::client(format!("ws://{}/ws/room", self.address), self.stream()).expect("handshake");
        socket
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i * 7 + i / 256) as u8).collect()
}

fn echoes_messages_of_every_size(peer: &Peer) {
    let mut socket = peer.connect();
    for length in [0, 1, 125, 126, 640, 65_535, 70_000, 300_000] {
        let binary = Message::binary(pattern(length));
        socket.send(binary.clone()).expect("sent");
        assert_eq!(socket.read().expect("an echo"), binary, "{length} bytes");
        let text = Message::text("ä".repeat(length / 2));
        socket.send(text.clone()).expect("sent");
        assert_eq!(socket.read().expect("an echo"), text, "{length} bytes");
    }
}

fn echoes_a_pipelined_run_in_order(peer: &Peer) {
    let mut socket = peer.connect();
    for round in 0..500 {
        socket.write(Message::binary(pattern(round * 3))).expect("buffered");
    }
    socket.flush().expect("sent");
    for round in 0..500 {
        assert_eq!(socket.read().expect("an echo"), Message::binary(pattern(round * 3)));
    }
}

fn echoes_a_fragmented_message(peer: &Peer) {
    let mut socket = peer.connect();
    let parts =
        [(Data::Text, "one ", false), (Data::Continue, "two ", false), (Data::Continue, "three", true)];
    for (opcode, part, last) in parts {
        let frame = Frame::message(part.as_bytes().to_vec(), OpCode::Data(opcode), last);
        socket.send(Message::Frame(frame)).expect("sent");
    }
    assert_eq!(socket.read().expect("an echo"), Message::text("one two three"));
}

fn bears_arrival_in_crumbs(peer: &Peer) {
    let mut stream = peer.stream();
    let head = "GET /ws/slow HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    // Not byte by byte: tungstenite takes a head in more than 64 tiny reads for an attack.
    for piece in head.as_bytes().chunks(7) {
        stream.write_all(piece).expect("sent");
    }
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("an answer");
        answer.push(byte[0]);
    }
    let answer = String::from_utf8(answer).expect("ASCII").to_ascii_lowercase();
    assert!(answer.starts_with("http/1.1 101"), "{answer}");
    assert!(answer.contains("s3pplmbitxaq9kygzzhzrbk+xoo="), "{answer}");

    let mut frames = Vec::new();
    let mut writer = WebSocket::from_raw_socket(Cursor(&mut frames), Role::Client, None);
    writer.send(Message::binary(pattern(200))).expect("written to memory");
    writer.send(Message::text("slowly")).expect("written to memory");
    drop(writer);
    for byte in frames {
        stream.write_all(&[byte]).expect("sent");
    }
    let mut socket = WebSocket::from_raw_socket(stream, Role::Client, None);
    assert_eq!(socket.read().expect("an echo"), Message::binary(pattern(200)));
    assert_eq!(socket.read().expect("an echo"), Message::text("slowly"));
}

fn answers_ping_and_close(peer: &Peer) {
    let mut socket = peer.connect();
    socket.send(Message::Ping("here?".into())).expect("sent");
    assert_eq!(socket.read().expect("a pong"), Message::Pong("here?".into()));
    socket.close(Some(CloseFrame { code: CloseCode::Normal, reason: "done".into() })).expect("sent");
    let answer = socket.read().expect("a close frame");
    assert!(matches!(&answer, Message::Close(Some(frame)) if frame.code == CloseCode::Normal), "{answer:?}");
    assert!(matches!(socket.read(), Err(Error::ConnectionClosed)));
}

/// A client that writes without reading is held back before the server has taken 128 MiB from it, and loses
/// nothing.
fn holds_back_a_client_that_does_not_read(peer: &Peer) {
    const FRAME_BYTES: usize = 32 * 1024;
    let mut socket = peer.connect();
    socket.get_ref().set_write_timeout(Some(Duration::from_millis(500))).expect("an option every socket has");
    let mut sent = 0;
    let stalled = loop {
        assert!(sent * FRAME_BYTES < 128 << 20, "the server takes whatever comes");
        match socket.send(Message::binary(pattern(FRAME_BYTES + sent % 251))) {
            Ok(()) => sent += 1,
            Err(Error::Io(error)) => break error,
            Err(error) => panic!("{error}"),
        }
    };
    assert_eq!(stalled.kind(), ErrorKind::WouldBlock);
    // The frame that stalled is in the client's buffer and leaves with the next reads.
    for number in 0..=sent {
        let echo = loop {
            match socket.read() {
                Ok(message) => break message,
                Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => {
                    assert!(number == sent, "an echo is missing");
                    socket.flush().expect("there is room again");
                }
                Err(error) => panic!("{error}"),
            }
        };
        assert_eq!(echo, Message::binary(pattern(FRAME_BYTES + number % 251)), "frame {number}");
        if number + 1 == sent {
            socket.flush().expect("there is room again");
        }
    }
}

/// A [`Write`] into memory that can stand where a socket is wanted.
struct Cursor<'a>(&'a mut Vec<u8>);

impl Read for Cursor<'_> {
    fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
        Err(ErrorKind::WouldBlock.into())
    }
}

impl Write for Cursor<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn is_an_echo_server(kind: &str) {
    let peer = Peer::start(kind);
    echoes_messages_of_every_size(&peer);
    echoes_a_pipelined_run_in_order(&peer);
    echoes_a_fragmented_message(&peer);
    bears_arrival_in_crumbs(&peer);
    answers_ping_and_close(&peer);
    holds_back_a_client_that_does_not_read(&peer);
}

#[test]
fn epoll() {
    is_an_echo_server("epoll");
}

#[test]
fn fastwebsockets() {
    is_an_echo_server("fastwebsockets");
}

#[test]
fn tungstenite_tuned() {
    is_an_echo_server("tungstenite-tuned");
}

#[test]
fn tungstenite_default() {
    is_an_echo_server("tungstenite-default");
}
