//! Frames: the decoder of both roles, beside tungstenite's.

use std::io::{self, Read, Write};

use shards::core::FramePool;
use shards::core::ws::{CloseCode, Decoder, Item, OpCode, Rules, Violation};
use tungstenite::protocol::frame::coding::{Control, Data};
use tungstenite::protocol::{Role, WebSocketConfig};
use tungstenite::{Error, Message, WebSocket};

use crate::pieces::{choice, pieces};

/// What is held besides a message: what a decoder has for the unfinished.
const HELD_BYTES_BESIDES: usize = 256;

/// An item, or what the connection failed with.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Got {
    Text(String),
    Binary(Vec<u8>),
    Compressed(bool, Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<(u16, String)>),
    Failed(CloseCode, &'static str),
}

/// The first byte chooses role, extension and bound, the rest is the stream.
pub(crate) fn run(bytes: &[u8]) {
    let (conditions, stream) = choice(bytes);
    let message_bytes_max = [4, 125, 300, 70_000][usize::from(conditions >> 2 & 3)];
    let rules = Rules { message_bytes_max, deflate: conditions & 2 != 0 };
    if conditions & 1 == 0 {
        let got = decode_in_every_way::<true>(stream, rules);
        compare(stream, rules, Role::Server, &got);
        round_trip(&got);
    } else {
        let got = decode_in_every_way::<false>(stream, rules);
        compare(stream, rules, Role::Client, &got);
        round_trip(&got);
    }
}

fn decode_in_every_way<const FROM_CLIENT: bool>(stream: &[u8], rules: Rules) -> Vec<Got> {
    let whole = decode::<FROM_CLIENT>([stream], rules);
    assert_eq!(decode::<FROM_CLIENT>(pieces(stream), rules), whole, "in pieces");
    assert_eq!(decode::<FROM_CLIENT>(stream.chunks(1), rules), whole, "byte by byte");
    whole
}

/// What comes out, up to a violation or a close.
fn decode<'p, const FROM_CLIENT: bool>(pieces: impl IntoIterator<Item = &'p [u8]>, rules: Rules) -> Vec<Got> {
    let mut decoder = Decoder::<FROM_CLIENT>::default();
    let mut got = Vec::new();
    for piece in pieces {
        let mut piece = piece.to_vec();
        let mut bytes = piece.as_mut_slice();
        loop {
            match decoder.next(&mut bytes, rules) {
                Ok(Some(item)) => got.push(Got::of(item)),
                Ok(None) => break,
                Err(Violation { code, reason }) => {
                    assert_eq!(decoder.held_bytes(), 0, "nothing is held after a violation");
                    got.push(Got::Failed(code, reason));
                }
            }
            if let Some(Got::Close(_) | Got::Failed(..)) = got.last() {
                return got;
            }
        }
        assert!(bytes.is_empty(), "all is consumed when more is wanted");
        let held = decoder.held_bytes();
        assert!(held <= rules.message_bytes_max + HELD_BYTES_BESIDES, "{held} bytes are held");
    }
    got
}

impl Got {
    fn of(item: Item<'_>) -> Self {
        match item {
            Item::Text(text) => Self::Text(String::from_utf8(text.to_vec()).expect("text is UTF-8")),
            Item::Binary(bytes) => Self::Binary(bytes.to_vec()),
            Item::Compressed { text, payload } => Self::Compressed(text, payload.to_vec()),
            Item::Ping(bytes) => Self::Ping(bytes.to_vec()),
            Item::Pong(bytes) => Self::Pong(bytes.to_vec()),
            Item::Close(close) => Self::Close(close.map(|(code, reason)| (code.into(), reason.to_owned()))),
        }
    }
}

/// What we take, tungstenite takes as well, as the same. It forgives more, so that our violations show nothing.
fn compare(stream: &[u8], rules: Rules, role: Role, ours: &[Got]) {
    if rules.deflate {
        return; // It knows no extension.
    }
    let config = WebSocketConfig::default()
        .read_buffer_size(1_024)
        .write_buffer_size(0)
        .max_message_size(Some(rules.message_bytes_max))
        .max_frame_size(Some(rules.message_bytes_max.max(125)));
    let mut theirs = WebSocket::from_raw_socket(Stream(stream), role, Some(config));
    for got in ours {
        let read = theirs.read();
        let same = match (got, &read) {
            (Got::Failed(..), _) => return,
            (Got::Text(ours), Ok(Message::Text(theirs))) => ours.as_str() == theirs.as_str(),
            (Got::Binary(ours), Ok(Message::Binary(theirs)))
            | (Got::Ping(ours), Ok(Message::Ping(theirs)))
            | (Got::Pong(ours), Ok(Message::Pong(theirs))) => *ours == theirs[..],
            // It takes some codes for others.
            (Got::Close(ours), Ok(Message::Close(theirs))) => ours.is_some() == theirs.is_some(),
            (Got::Close(_), Err(Error::ConnectionClosed)) => true,
            _ => false,
        };
        assert!(same, "{got:?} is {read:?} for tungstenite");
    }
}

/// A socket that brings bytes and takes everything.
struct Stream<'s>(&'s [u8]);

impl Read for Stream<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.read(into)
    }
}

impl Write for Stream<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What came in goes out as a server sends it, and a client reads the same.
fn round_trip(got: &[Got]) {
    let mut pool = FramePool::default();
    let (mut stream, mut sent) = (Vec::new(), Vec::new());
    for item in got {
        let (opcode, payload): (_, Vec<u8>) = match item {
            Got::Text(text) => (OpCode::Data(Data::Text), text.clone().into()),
            Got::Binary(bytes) => (OpCode::Data(Data::Binary), bytes.clone()),
            Got::Compressed(text, bytes) => {
                let kind = if *text { Data::Text } else { Data::Binary };
                (OpCode::Data(kind), bytes.clone())
            }
            Got::Ping(bytes) => (OpCode::Control(Control::Ping), bytes.clone()),
            Got::Pong(bytes) => (OpCode::Control(Control::Pong), bytes.clone()),
            Got::Close(None) => (OpCode::Control(Control::Close), Vec::new()),
            Got::Close(Some((code, reason))) => {
                (OpCode::Control(Control::Close), [&code.to_be_bytes(), reason.as_bytes()].concat())
            }
            Got::Failed(..) => break,
        };
        let draft = pool.copy(&payload);
        let frame = match item {
            Got::Compressed(..) => draft.seal_compressed(opcode),
            _ => draft.seal(opcode),
        };
        stream.extend_from_slice(frame.wire());
        pool.recycle(frame);
        sent.push(item.clone());
    }
    let rules = Rules { message_bytes_max: 1 << 20, deflate: true };
    assert_eq!(decode::<false>([&stream[..]], rules), sent, "sent, and received");
}
