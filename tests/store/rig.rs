//! Servers with a store, and clients that come back.

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tungstenite::Message;

use crate::support::{Member, PATIENCE, Server, connect};

/// Asks again until it is so.
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < 2 * PATIENCE, "never: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// A folder with the file of a store, gone with its test.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("voxhall-stores-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.0.join("rooms.redb")
    }

    pub(crate) fn settings(&self, more: &[&str]) -> Vec<String> {
        let path = format!("store.path={}", self.file().display());
        let own = ["store.kind=file", &path, "server.shards=2", "room.history_events_max=16384"];
        let own = own.into_iter().chain(["room.history_bytes_max=8388608", "limits.messages_per_s=0"]);
        // Of a key that is set twice the last value counts.
        own.chain(more.iter().copied()).map(str::to_owned).collect()
    }

    /// A server with this store.
    pub(crate) fn serve(&self, more: &[&str]) -> Server {
        let settings = self.settings(more);
        let mut arguments = vec!["--engine", "relay"];
        arguments.extend(settings.iter().flat_map(|setting| ["--set", setting]));
        Server::start(&arguments)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What a client has to bring to come back.
#[derive(Clone)]
pub(crate) struct Past {
    room: String,
    token: String,
}

/// A client that keeps what it hears.
pub(crate) struct Client {
    member: Member,
    pub(crate) past: Past,
    pub(crate) epoch: u64,
    /// The number of the last event heard.
    pub(crate) seq: u64,
    /// The numbers of all events heard, and the data of messages.
    pub(crate) heard: Vec<(u64, Value)>,
    /// When each was heard, at the latest.
    pub(crate) seen: Vec<(Instant, u64)>,
}

impl AsRef<Past> for Client {
    fn as_ref(&self) -> &Past {
        &self.past
    }
}

impl AsRef<Past> for Past {
    fn as_ref(&self) -> &Past {
        self
    }
}

impl Client {
    pub(crate) fn join(server: &Server, room: &str) -> Self {
        Self::enter(server, room, "")
    }

    /// Comes back after the event of this number: what it is told of that.
    pub(crate) fn come_back_after(server: &Server, past: &impl AsRef<Past>, after: u64) -> (Value, Self) {
        let Past { room, token } = past.as_ref();
        let mut client = Self::enter(server, room, &format!("?resume={token}&after={after}"));
        client.seq = 0;
        let restored = client.member.event("session.restored");
        (restored, client)
    }

    fn enter(server: &Server, room: &str, query: &str) -> Self {
        let stream = connect(server.public);
        let mut member = server.join_over(stream, &format!("/ws/{room}{query}"), None).expect("a room");
        let welcome = member.event("session.created");
        let resume = &welcome["session"]["resume"];
        let token = resume["token"].as_str().expect("a token").to_owned();
        Self {
            member,
            past: Past { room: room.to_owned(), token },
            epoch: resume["epoch"].as_u64().expect("a number"),
            seq: resume["seq"].as_u64().expect("a number"),
            heard: Vec::new(),
            seen: Vec::new(),
        }
    }

    pub(crate) fn send(&mut self, event: &Value) {
        self.member.send(Message::text(event.to_string()));
    }

    /// Tells the other members something.
    pub(crate) fn tell(&mut self, data: &Value) {
        self.send(&json!({ "type": "room.send", "data": data }));
    }

    /// The next numbered event.
    pub(crate) fn next(&mut self) -> (u64, Value) {
        loop {
            let message = self.member.read().into_text().expect("an event");
            let event: Value = serde_json::from_str(&message).expect("JSON");
            assert_ne!(event["type"], "error", "{event}");
            if let Some(seq) = event["seq"].as_u64() {
                if event["type"] == "session.restored" {
                    continue;
                }
                assert!(seq > self.seq, "{event} comes behind {}", self.seq);
                self.seq = seq;
                self.seen.push((Instant::now(), seq));
                self.heard.push((seq, event["data"].clone()));
                return (seq, event["data"].clone());
            }
        }
    }

    /// Reads on to the message with this.
    pub(crate) fn hear(&mut self, data: &Value) {
        while self.next().1 != *data {}
    }

    /// Reads so many events.
    pub(crate) fn hear_all(&mut self, count: u64) {
        (0..count).for_each(|_| drop(self.next()));
    }

    /// Says goodbye for good: what it would have to bring to come back.
    pub(crate) fn leave(mut self) -> Past {
        self.member.send(Message::Close(None));
        self.member.goodbye();
        self.past
    }
}
