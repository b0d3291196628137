//! A running server, and clients of it, for whole-program tests.

#![allow(dead_code, reason = "each test file uses its share")]

pub(crate) mod tls;

use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde_json::Value;
use tungstenite::client::IntoClientRequest as _;
use tungstenite::http::HeaderValue;
use tungstenite::{Message, WebSocket};

/// Far longer than anything here takes; a test that needs it has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The program with an environment of its own.
pub(crate) fn voxhall(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_voxhall"));
    command.args(arguments).env_clear().stdin(Stdio::null());
    command
}

/// A server of its own on free ports; killed with the test if it has not ended by itself.
pub(crate) struct Server {
    child: Child,
    log: Option<JoinHandle<String>>,
    /// The line it printed when it was ready.
    pub(crate) ready: String,
    /// The public address; unspecified where it is a socket file.
    pub(crate) public: SocketAddr,
    /// The admin address; unspecified where it is a socket file.
    pub(crate) admin: SocketAddr,
}

impl Server {
    /// Starts `voxhall serve` with these arguments besides, and waits for its ready line.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        Self::start_in(&[], arguments)
    }

    /// As [`Self::start`], in this environment.
    pub(crate) fn start_in(environment: &[(&str, &str)], arguments: &[&str]) -> Self {
        let own = |flag: &str| arguments.contains(&flag);
        let listen: &[&str] = if own("--listen") { &[] } else { &["--listen", "127.0.0.1:0"] };
        let admin: &[&str] = if own("--admin") { &[] } else { &["--admin", "127.0.0.1:0"] };
        let mut command = voxhall(&["serve"]);
        command.args(admin).args(listen).args(arguments).envs(environment.iter().copied());
        Self::start_by(command)
    }

    /// Starts it by a command of the caller's, which ends up as the server.
    pub(crate) fn start_by(mut command: Command) -> Self {
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the server starts");
        let mut errors = child.stderr.take().expect("piped");
        let log = thread::spawn(move || {
            let mut log = String::new();
            errors.read_to_string(&mut log).expect("text");
            log
        });
        let mut ready = String::new();
        BufReader::new(child.stdout.as_mut().expect("piped")).read_line(&mut ready).expect("a line");
        let address = |part: usize| {
            let rest = ready.split("://").nth(part)?;
            let text = rest.split([' ', ')']).next()?;
            if text.starts_with("unix:/") { Some(([0; 4], 0).into()) } else { text.parse().ok() }
        };
        match (address(1), address(2)) {
            (Some(public), Some(admin)) => Self { child, log: Some(log), ready, public, admin },
            _ => panic!("no ready line but {ready:?}; {}", log.join().expect("the log")),
        }
    }

    /// Sends a signal, such as `TERM`.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status();
        assert!(sent.expect("kill runs").success());
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it ends");
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for its end: its exit status and its log.
    pub(crate) fn wait(mut self) -> (ExitStatus, String) {
        let status = self.child.wait().expect("it ends");
        (status, self.log.take().expect("waited for once").join().expect("the log"))
    }

    /// The body of an admin page.
    pub(crate) fn admin_get(&self, path: &str) -> String {
        let answer = ask(self.admin, "GET", path, "");
        answer.split_once("\r\n\r\n").map_or(String::new(), |(_, body)| body.to_owned())
    }

    /// The sum of a metric over its labels.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        self.metric_where(name, "")
    }

    /// The sum of a metric over those of its labels that contain this.
    pub(crate) fn metric_where(&self, name: &str, label: &str) -> f64 {
        let page = self.admin_get("/metrics");
        let rows = page.lines().filter(|line| {
            line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']) && rest.contains(label))
        });
        rows.filter_map(|row| row.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// Joins a room; the member has read nothing yet.
    pub(crate) fn join(&self, session: &str, subprotocol: Option<&'static str>) -> Member {
        let stream = connect(self.public);
        self.join_over(stream, &format!("/ws/{session}"), subprotocol).expect("a room")
    }

    /// Opens a WebSocket over a stream that the caller has made.
    pub(crate) fn join_over<S: Read + Write>(
        &self,
        stream: S,
        path: &str,
        subprotocol: Option<&'static str>,
    ) -> Option<Member<S>> {
        let mut request =
            format!("ws://{}{path}", self.public).into_client_request().expect("a good address");
        if let Some(subprotocol) = subprotocol {
            let value = HeaderValue::from_static(subprotocol);
            request.headers_mut().insert("sec-websocket-protocol", value);
        }
        tungstenite::client(request, stream).ok().map(|(socket, _)| Member(socket))
    }
}

impl Drop for Server {
    #[expect(clippy::print_stderr, reason = "a failed test shows what it printed")]
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(log) = self.log.take().filter(|_| thread::panicking()) {
            eprintln!("the server's log:\n{}", log.join().unwrap_or_default());
        }
    }
}

/// A client in a room.
pub(crate) struct Member<S = TcpStream>(WebSocket<S>);

impl<S: Read + Write> Member<S> {
    /// Sends a message.
    pub(crate) fn send(&mut self, message: impl Into<Message>) {
        self.0.send(message.into()).expect("the server reads");
    }

    /// The next message; pings are answered on the way.
    pub(crate) fn read(&mut self) -> Message {
        loop {
            let message = self.0.read().expect("a message");
            if !message.is_ping() {
                return message;
            }
        }
    }

    /// Reads on to the event of this type.
    pub(crate) fn event(&mut self, kind: &str) -> Value {
        loop {
            let message = self.read().into_text().expect("an event, not audio");
            for line in message.lines() {
                let event: Value = serde_json::from_str(line).expect("JSON");
                if event["type"] == kind {
                    return event;
                }
            }
        }
    }

    /// Reads on to the end of the connection: whether it came without a goodbye.
    pub(crate) fn vanishes(&mut self) -> bool {
        loop {
            match self.0.read() {
                Ok(message) if message.is_close() => return false,
                Ok(_) => {}
                Err(_) => return true,
            }
        }
    }

    /// Reads on to the server's goodbye and to the end of the connection: its close code.
    pub(crate) fn goodbye(&mut self) -> u16 {
        let code = loop {
            if let Message::Close(frame) = self.read() {
                break frame.map_or(1005, |frame| frame.code.into());
            }
        };
        while self.0.read().is_ok() {}
        code
    }
}

/// A connection that gives up when nothing comes for long.
pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket takes that");
    stream
}

/// The whole answer to requests that were sent at once on a connection of their own, the last of which ends it.
pub(crate) fn exchange(address: SocketAddr, requests: &str) -> String {
    let mut stream = connect(address);
    stream.write_all(requests.as_bytes()).expect("the server reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

/// The whole answer to a request on a connection of its own.
pub(crate) fn ask(address: SocketAddr, method: &str, path: &str, body: &str) -> String {
    let length = body.len();
    exchange(
        address,
        &format!(
            "{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
        ),
    )
}

/// A file of the repository.
pub(crate) fn repository(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A program of the workspace, built beside the server.
pub(crate) fn program(name: &str) -> Command {
    let path = PathBuf::from(env!("CARGO_BIN_EXE_voxhall")).with_file_name(name);
    assert!(path.exists(), "{} is missing: build the workspace first (`make test` does)", path.display());
    Command::new(path)
}

/// Runs a suite of a client library by the library's own script.
pub(crate) fn run_suite(script: &str, suite: &str, environment: &[(&str, String)]) {
    let status = Command::new("sh")
        .arg(repository(script))
        .arg(suite)
        .envs(environment.iter().cloned())
        .status()
        .expect("a shell");
    assert!(status.success(), "{script} {suite} failed: its report is above");
}
