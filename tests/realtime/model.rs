//! A model server that does as a test says: each connection has its own script, in the order in which they come.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use tungstenite::protocol::frame::{CloseFrame, coding::CloseCode};
use tungstenite::{Message, WebSocket};

use crate::support::PATIENCE;

/// What becomes of one connection.
pub(crate) type Script = Box<dyn FnOnce(TcpStream, Sender<Value>) + Send>;

/// See the module.
pub(crate) struct Model {
    pub(crate) at: SocketAddr,
    /// What the scripts have to say.
    said: Receiver<Value>,
}

impl Model {
    /// Plays the scripts, each against one connection; each may report to the test.
    pub(crate) fn play(scripts: Vec<Script>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
        let at = listener.local_addr().expect("bound");
        let (tell, said) = channel();
        thread::spawn(move || {
            for script in scripts {
                let Ok((stream, _)) = listener.accept() else { return };
                stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
                let tell = tell.clone();
                thread::spawn(move || script(stream, tell));
            }
        });
        Self { at, said }
    }

    /// The setting that leads there.
    pub(crate) fn url(&self) -> String {
        format!("realtime.url=ws://{}/v1/realtime", self.at)
    }

    /// What a script reports next.
    pub(crate) fn report(&self) -> Value {
        self.said.recv_timeout(PATIENCE).expect("the model server reports")
    }
}

/// A script that speaks WebSocket.
pub(crate) fn session(what: impl FnOnce(&mut Session) + Send + 'static) -> Script {
    Box::new(move |stream, tell| {
        let socket = tungstenite::accept(stream).expect("a handshake");
        let mut session = Session { socket, tell };
        session.say(&json!({ "type": "session.created", "session": {} }));
        what(&mut session);
        // The peer says goodbye, or has gone.
        while session.socket.read().is_ok() {}
    })
}

/// A script that answers with this and nothing more.
pub(crate) fn answer(head: &'static str) -> Script {
    Box::new(move |mut stream, _| {
        let mut request = [0; 4_096];
        let _ = stream.read(&mut request);
        let _ = stream.write_all(head.as_bytes());
    })
}

/// A script that takes the connection and says nothing until it has ended.
pub(crate) fn silence() -> Script {
    Box::new(|mut stream, _| {
        let mut anything = [0; 4_096];
        while stream.read(&mut anything).is_ok_and(|len| len > 0) {}
    })
}

/// A session with one room.
pub(crate) struct Session {
    socket: WebSocket<TcpStream>,
    tell: Sender<Value>,
}

impl Session {
    pub(crate) fn say(&mut self, event: &Value) {
        self.say_text(&event.to_string());
    }

    pub(crate) fn say_text(&mut self, text: &str) {
        self.socket.send(Message::text(text)).expect("the server reads");
    }

    pub(crate) fn report(&self, what: Value) {
        let _ = self.tell.send(what);
    }

    /// Reads on to the event of this type.
    pub(crate) fn hear(&mut self, kind: &str) -> Value {
        loop {
            let Message::Text(text) = self.socket.read().expect("an event") else { continue };
            let event: Value = serde_json::from_str(&text).expect("JSON");
            if event["type"] == kind {
                return event;
            }
        }
    }

    /// Begins a response.
    pub(crate) fn begin(&mut self, response: &str) {
        self.hear("response.create");
        self.say(
            &json!({ "type": "response.created", "response": { "id": response, "status": "in_progress" } }),
        );
    }

    /// So many milliseconds of its audio, at 24 kHz.
    pub(crate) fn speak(&mut self, response: &str, ms: usize) {
        let audio = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, vec![7; ms * 48]);
        self.say(&json!({
            "type": "response.output_audio.delta", "response_id": response, "item_id": "item_a",
            "output_index": 0, "content_index": 0, "delta": audio,
        }));
    }

    /// Ends it.
    pub(crate) fn end(&mut self, response: &str) {
        self.say(&json!({ "type": "response.done", "response": { "id": response, "status": "completed", "output": [] } }));
    }

    /// A whole answer.
    pub(crate) fn respond(&mut self, response: &str, ms: usize) {
        self.begin(response);
        self.speak(response, ms);
        self.end(response);
    }

    /// Says goodbye as a vendor does to a session that is too old.
    pub(crate) fn expire(&mut self) {
        let code = CloseCode::Away;
        let frame =
            CloseFrame { code, reason: "Your session hit the maximum duration of 60 minutes.".into() };
        self.socket.close(Some(frame)).expect("a goodbye");
    }

    /// Takes no more and says no more, for as long as the connection stands.
    pub(crate) fn hang(&mut self) {
        let stream = self.socket.get_ref();
        let _ = stream.set_read_timeout(Some(Duration::from_millis(10)));
        let mut anything = [0; 4_096];
        loop {
            match self.socket.get_mut().read(&mut anything) {
                Ok(0) => return,
                Err(error) if error.kind() != std::io::ErrorKind::WouldBlock => return,
                _ => {}
            }
        }
    }
}
