//! A Redis server of a test's own, Python workers on it, and rooms that ask them.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tungstenite::Message;

use crate::support::{Member, PATIENCE, Server, repository};

/// Asks again until it is so.
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "never: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// A Redis server that keeps its data in a folder of its own.
pub(crate) struct Redis {
    port: u16,
    folder: PathBuf,
    /// Beside the others.
    arguments: Vec<String>,
    child: Option<Child>,
}

/// A port that is free.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound").port()
}

impl Redis {
    pub(crate) fn start(name: &str) -> Self {
        Self::start_with(name, &[])
    }

    /// With these arguments besides.
    pub(crate) fn start_with(name: &str, arguments: &[&str]) -> Self {
        python();
        let port = free_port();
        let arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        let folder = std::env::temp_dir().join(format!("voxhall-workers-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let mut redis = Self { port, folder, arguments, child: None };
        redis.go_on();
        redis
    }

    /// Starts it again, with what it had.
    pub(crate) fn go_on(&mut self) {
        let child = Command::new("redis-server")
            .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1", "--save", ""])
            .args(["--appendonly", "yes", "--appendfsync", "always", "--dir"])
            .arg(&self.folder)
            .args(&self.arguments)
            .stdout(Stdio::null())
            .spawn();
        self.child = Some(child.expect("redis-server is installed: tests/packages does it"));
        until("Redis answers", || self.try_ask(&["PING"]).as_deref() == Some("PONG"));
    }

    pub(crate) fn stop(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().expect("it can be killed");
        child.wait().expect("it ends");
    }

    /// Sends it a signal, such as `STOP`, which it does not notice.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.as_ref().expect("it runs").id().to_string();
        let sent = Command::new("kill").args([&format!("-{name}"), &pid]).status();
        assert!(sent.expect("kill runs").success());
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    /// A command's answer as `redis-cli` prints it.
    pub(crate) fn ask(&self, command: &[&str]) -> String {
        self.try_ask(command).expect("Redis answers")
    }

    fn try_ask(&self, command: &[&str]) -> Option<String> {
        TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        let (last, rest) = command.split_last()?;
        let mut cli = Command::new("redis-cli");
        cli.args(["-p", &self.port.to_string()]).stdin(Stdio::piped()).stdout(Stdio::piped());
        // The last word by its standard input: it may be of any length.
        let mut cli = if rest.is_empty() { cli.arg(last).spawn() } else { cli.arg("-x").args(rest).spawn() }
            .expect("redis-cli comes with it");
        let _ = cli.stdin.take().expect("piped").write_all(last.as_bytes());
        let output = cli.wait_with_output().expect("it ends");
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
    }

    /// A server whose rooms ask workers here.
    pub(crate) fn serve(&self, settings: &[&str]) -> Server {
        let url = format!("worker.redis_url={}", self.url());
        let mut arguments = vec!["--shards", "2", "--engine", "worker", "--set", &url];
        arguments.extend(settings.iter().flat_map(|setting| ["--set", *setting]));
        Server::start(&arguments)
    }

    /// A worker with the faults of `odd.py`.
    pub(crate) fn worker(&self, arguments: &[&str]) -> Worker {
        let mut child = Command::new(python())
            .arg(repository("tests/workers/odd.py"))
            .arg(self.url())
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("Python runs");
        let lines = BufReader::new(child.stdout.take().expect("piped"));
        let mut worker = Worker { child, lines };
        worker.reaches("works");
        worker
    }

    /// The newest request of the stream.
    pub(crate) fn request(&self) -> Value {
        let mut found = Value::Null;
        until("a request stands in the stream", || {
            let shown = self.ask(&["XREVRANGE", "voxhall:requests", "+", "-", "COUNT", "1"]);
            found = shown.lines().find_map(|line| serde_json::from_str(line).ok()).unwrap_or_default();
            found.is_object()
        });
        found
    }

    /// Says something in the place of a worker: how many heard it.
    pub(crate) fn say(&self, request: &Value, members: &Value) -> String {
        let mut answer =
            json!({ "request": request["request"], "attempt": request["attempt"], "worker": "test" });
        for (key, value) in members.as_object().expect("members") {
            answer[key] = value.clone();
        }
        self.publish(request, &answer.to_string())
    }

    pub(crate) fn publish(&self, request: &Value, message: &str) -> String {
        self.ask(&["PUBLISH", request["reply_to"].as_str().expect("a channel"), message])
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// A Python worker; killed with the test.
pub(crate) struct Worker {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Worker {
    /// Reads on to where it says that it has reached this.
    pub(crate) fn reaches(&mut self, what: &str) {
        loop {
            let mut line = String::new();
            self.lines.read_line(&mut line).expect("text");
            assert!(!line.is_empty(), "the worker has ended");
            if line.starts_with(what) {
                return;
            }
        }
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The interpreter with the packages of the workers.
fn python() -> &'static str {
    static PYTHON: OnceLock<String> = OnceLock::new();
    PYTHON.get_or_init(|| {
        let made = Command::new("sh").arg(repository("tests/workers/setup.sh")).output().expect("a shell");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        String::from_utf8(made.stdout).expect("a path").trim().to_owned()
    })
}

/// A member that asks in text or audio.
pub(crate) struct Asker(pub(crate) Member);

/// What came of a question: the statuses of its responses, the words of the last, all audio, errors.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Outcome {
    pub(crate) statuses: Vec<String>,
    pub(crate) words: String,
    pub(crate) audio: Vec<u8>,
    pub(crate) errors: Vec<(String, bool)>,
    pub(crate) others: Vec<Value>,
}

impl Asker {
    pub(crate) fn join(server: &Server, room: &str) -> Self {
        let mut member = server.join(room, None);
        member.event("session.created");
        Self(member)
    }

    pub(crate) fn send(&mut self, event: &Value) {
        self.0.send(event.to_string());
    }

    pub(crate) fn ask(&mut self, text: &str) {
        let content = json!([{ "type": "input_text", "text": text }]);
        let item = json!({ "type": "message", "role": "user", "content": content });
        self.send(&json!({ "type": "conversation.item.create", "item": item }));
        self.send(&json!({ "type": "response.create" }));
    }

    /// Says something, without turn detection.
    pub(crate) fn say(&mut self, audio: &[u8]) {
        self.send(&json!({ "type": "session.update", "session": { "turn_detection": null } }));
        for frame in audio.chunks(640) {
            self.0.send(Message::binary(frame.to_vec()));
        }
        self.send(&json!({ "type": "input_audio_buffer.commit" }));
        self.send(&json!({ "type": "response.create" }));
    }

    /// Reads on to the end of the first response that is completed or does not fail for want of its worker.
    pub(crate) fn outcome(&mut self) -> Outcome {
        let mut outcome = Outcome::default();
        loop {
            let message = self.0.read();
            if message.is_binary() {
                outcome.audio.extend_from_slice(&message.into_data());
                continue;
            }
            let event: Value = serde_json::from_str(&message.into_text().expect("text")).expect("JSON");
            match event["type"].as_str().expect("a type") {
                "error" => {
                    let error = &event["error"];
                    let code = error["code"].as_str().expect("a code").to_owned();
                    outcome.errors.push((code, error["retryable"] == true));
                }
                "response.done" => {
                    let response = &event["response"];
                    outcome.statuses.push(response["status"].as_str().expect("a status").to_owned());
                    let content = &response["output"][0]["content"][0];
                    outcome.words = content["transcript"].as_str().unwrap_or_default().to_owned();
                    if response["status_details"]["error"]["code"] != "worker_lost" {
                        return outcome;
                    }
                }
                known
                    if known.starts_with("response.")
                        || known.starts_with("conversation.")
                        || known == "metrics" => {}
                _ => outcome.others.push(event),
            }
        }
    }

    /// What has come until now, besides what was read.
    pub(crate) fn rest(&mut self) -> Vec<Value> {
        self.send(&json!({ "type": "ping" }));
        let mut rest = Vec::new();
        loop {
            let message = self.0.read();
            assert!(message.is_text(), "audio that nobody asked for");
            let event: Value = serde_json::from_str(&message.into_text().expect("text")).expect("JSON");
            if event["type"] == "pong" {
                return rest;
            }
            // What a response took and gave is told of each, and has tests of its own.
            if event["type"] != "metrics" {
                rest.push(event);
            }
        }
    }
}
