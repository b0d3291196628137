//! A member that hears a stream of events, over a plain socket or TLS: HTTP and the stream's own framing read by hand.

#![allow(dead_code, reason = "each test file uses its share")]

use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::TcpStream;

use serde_json::Value;

use super::support::{Server, connect};

/// One event of a stream.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Heard {
    pub(crate) id: Option<u64>,
    pub(crate) kind: Option<String>,
    pub(crate) data: String,
}

impl Heard {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.data).expect("JSON")
    }
}

/// A stream that is being heard.
pub(crate) struct Listener<S: Read + Write = TcpStream> {
    reader: BufReader<S>,
    pub(crate) head: String,
    chunked: bool,
    /// What is left of the chunks that have come.
    text: Vec<u8>,
    /// The id that a browser would come back with.
    pub(crate) last_id: Option<u64>,
    /// Comments heard.
    pub(crate) comments: usize,
}

impl Listener {
    /// Opens a stream and waits for its head.
    pub(crate) fn open(server: &Server, target: &str) -> Self {
        Self::over(connect(server.public), target, "")
    }
}

impl<S: Read + Write> Listener<S> {
    /// The same over a stream that the caller has made, with these lines in its head.
    pub(crate) fn over(mut stream: S, target: &str, lines: &str) -> Self {
        let request = format!("GET {target} HTTP/1.1\r\nHost: x\r\n{lines}\r\n");
        stream.write_all(request.as_bytes()).expect("the server reads");
        Self::after(stream)
    }

    /// The same when the request was sent.
    pub(crate) fn after(stream: S) -> Self {
        let mut reader = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(reader.read_line(&mut head).expect("a head") > 0, "it ends with {head:?}");
        }
        // Proxies write names their own way.
        let chunked = head.to_ascii_lowercase().contains("\r\ntransfer-encoding: chunked\r\n");
        Self { reader, head, chunked, text: Vec::new(), last_id: None, comments: 0 }
    }

    pub(crate) fn socket(&mut self) -> &mut S {
        self.reader.get_mut()
    }

    /// The next event; nothing when the body has ended as it should.
    pub(crate) fn next(&mut self) -> Option<Heard> {
        loop {
            if let Some(end) = self.text.windows(2).position(|two| two == b"\n\n") {
                let block: Vec<u8> = self.text.drain(..end + 2).collect();
                let heard = self.read_block(std::str::from_utf8(&block).expect("text"));
                if heard.is_some() {
                    return heard;
                }
            } else if !self.fill() {
                assert_eq!(self.text, b"", "no event breaks off");
                return None;
            }
        }
    }

    fn read_block(&mut self, block: &str) -> Option<Heard> {
        let mut heard = Heard::default();
        let mut any = false;
        for line in block.lines().filter(|line| !line.is_empty()) {
            match line.split_once(": ").expect("a field") {
                ("", _) => self.comments += 1,
                ("id", id) => heard.id = Some(id.parse().expect("a number")),
                ("event", kind) => heard.kind = Some(kind.to_owned()),
                ("data", data) => (heard.data, any) = (data.to_owned(), true),
                ("retry", ms) => {
                    let ms: u64 = ms.parse().expect("a number");
                    assert!((1_000..2_000).contains(&ms) || ms == 60_000, "{ms}");
                }
                other => panic!("{other:?}"),
            }
        }
        self.last_id = heard.id.or(self.last_id);
        any.then_some(heard)
    }

    /// Takes the next chunk, or what has come; whether there was more.
    fn fill(&mut self) -> bool {
        if !self.chunked {
            let more = self.reader.fill_buf().expect("bytes, or an orderly end").to_vec();
            self.reader.consume(more.len());
            self.text.extend(&more);
            return !more.is_empty();
        }
        let mut line = String::new();
        self.reader.read_line(&mut line).expect("a chunk");
        let size = line.strip_suffix("\r\n").and_then(|size| usize::from_str_radix(size, 16).ok());
        let mut chunk = vec![0; size.unwrap_or_else(|| panic!("no size but {line:?}")) + 2];
        self.reader.read_exact(&mut chunk).expect("a whole chunk");
        assert!(chunk.ends_with(b"\r\n"));
        self.text.extend(&chunk[..chunk.len() - 2]);
        if chunk.len() == 2 {
            let mut rest = Vec::new();
            self.reader.read_to_end(&mut rest).expect("an orderly end");
            assert_eq!(rest, b"", "nothing comes behind the last chunk");
        }
        chunk.len() > 2
    }

    /// Reads on to the event of this type.
    pub(crate) fn event(&mut self, kind: &str) -> Value {
        loop {
            let heard = self.next().unwrap_or_else(|| panic!("the stream ended before {kind}"));
            let event = heard.json();
            if event["type"] == kind {
                // The welcome has the room's, and what is restored tells it.
                let own = !kind.starts_with("session.");
                assert!(!own || event["seq"].as_u64() == heard.id, "the id is the event's number: {event}");
                return event;
            }
        }
    }

    /// Reads on to the last event and the end of the body: the close code.
    pub(crate) fn goodbye(&mut self) -> u64 {
        loop {
            let heard = self.next().expect("a goodbye before the end");
            if heard.kind.as_deref() == Some("close") {
                assert_eq!(self.next(), None, "the goodbye is the last event");
                return heard.json()["code"].as_u64().expect("a code");
            }
        }
    }
}

/// Sends requests one after the other over one connection.
pub(crate) struct Poster<S: Read + Write = TcpStream>(pub(crate) BufReader<S>);

impl Poster {
    pub(crate) fn new(server: &Server) -> Self {
        Self(BufReader::new(connect(server.public)))
    }
}

impl<S: Read + Write> Poster<S> {
    /// Posts a body: status and answer.
    pub(crate) fn post(&mut self, target: &str, body: &str) -> (u16, Value) {
        let length = body.len();
        self.send(&format!("POST {target} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{body}"));
        self.answer()
    }

    pub(crate) fn send(&mut self, bytes: &str) {
        self.0.get_mut().write_all(bytes.as_bytes()).expect("the server reads");
    }

    /// The next answer: status and body.
    pub(crate) fn answer(&mut self) -> (u16, Value) {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(self.0.read_line(&mut head).expect("an answer") > 0, "it ends with {head:?}");
        }
        let status = head[9..12].parse().expect("a status");
        let length = head.to_ascii_lowercase();
        let length =
            length.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next()?.parse().ok());
        let mut body = vec![0; length.unwrap_or(0)];
        self.0.read_exact(&mut body).expect("a body");
        (status, serde_json::from_slice(&body).unwrap_or_default())
    }

    /// Whether the server has closed the connection, and said no more.
    pub(crate) fn is_over(&mut self) -> bool {
        let mut rest = Vec::new();
        self.0.read_to_end(&mut rest).is_ok() && rest.is_empty()
    }
}
