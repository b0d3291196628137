//! A WebSocket server for tests: rooms by path, echo or relay, and a few bad manners on demand.

use std::collections::{BTreeSet, HashMap};
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use tungstenite::Message;
use tungstenite::handshake::server::{Request, Response};
use tungstenite::http::{HeaderValue, StatusCode};

/// How the server behaves.
#[derive(Clone, Copy, Default)]
pub(crate) struct Manner {
    /// Every n-th frame of a connection is not answered; 0 is never.
    pub(crate) swallow_every: u64,
    /// Every frame is answered twice.
    pub(crate) repeat: bool,
    /// No welcome event.
    pub(crate) silent: bool,
    /// Every handshake is refused.
    pub(crate) refuse: bool,
    /// After so many frames the connection is closed with this code.
    pub(crate) close_after: Option<(u64, u16)>,
    /// A client that takes nothing for a moment is dropped.
    pub(crate) close_when_blocked: bool,
    /// The counters say this much too much.
    pub(crate) overcount: u64,
}

/// Members of the rooms, by path; a member is its connection's number and its socket.
type Rooms = HashMap<String, Vec<(u64, Arc<Mutex<TcpStream>>)>>;

#[derive(Default)]
struct Shared {
    manner: Manner,
    rooms: Mutex<Rooms>,
    peers: Mutex<BTreeSet<IpAddr>>,
    open: Mutex<u64>,
    changed: Condvar,
    received: AtomicU64,
    sent: AtomicU64,
}

/// A running server; it ends with the test process.
pub(crate) struct Server {
    address: SocketAddr,
    admin: SocketAddr,
    shared: Arc<Shared>,
}

impl Server {
    /// Listens on two free ports: rooms, and `/metrics`.
    pub(crate) fn start(manner: Manner) -> Self {
        let shared = Arc::new(Shared { manner, ..Shared::default() });
        let rooms = TcpListener::bind("127.0.0.1:0").expect("loopback takes a listener");
        let admin = TcpListener::bind("127.0.0.1:0").expect("loopback takes a listener");
        let server = Self {
            address: rooms.local_addr().expect("bound"),
            admin: admin.local_addr().expect("bound"),
            shared: shared.clone(),
        };
        let counters = shared.clone();
        std::thread::spawn(move || {
            admin.incoming().flatten().for_each(|stream| answer_metrics(&counters, stream))
        });
        std::thread::spawn(move || {
            for (number, stream) in rooms.incoming().flatten().enumerate() {
                let shared = shared.clone();
                std::thread::spawn(move || serve(&shared, number as u64, stream));
            }
        });
        server
    }

    pub(crate) fn url(&self) -> String {
        format!("ws://{}", self.address)
    }

    pub(crate) fn admin(&self) -> String {
        format!("http://{}", self.admin)
    }

    /// Source addresses that connected.
    pub(crate) fn peers(&self) -> BTreeSet<IpAddr> {
        lock(&self.shared.peers).clone()
    }

    /// Returns when no connection is open.
    pub(crate) fn wait_until_empty(&self) {
        let open = lock(&self.shared.open);
        let waited = self.shared.changed.wait_timeout_while(open, Duration::from_secs(30), |open| *open > 0);
        assert_eq!(*waited.unwrap_or_else(PoisonError::into_inner).0, 0, "connections are left open");
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn answer_metrics(shared: &Shared, mut stream: TcpStream) {
    let mut request = Vec::new();
    let mut chunk = [0; 1024];
    while !request.ends_with(b"\r\n\r\n") {
        match stream.read(&mut chunk) {
            Ok(n) if n > 0 => request.extend_from_slice(&chunk[..n]),
            _ => return,
        }
    }
    let received = shared.received.load(SeqCst) + shared.manner.overcount;
    let body = format!(
        "# TYPE websocket_connections gauge\nwebsocket_connections{{shard=\"0\"}} {}\nvoxhall_frames_received_total{{shard=\"0\"}} {}\n\
         voxhall_frames_sent_total{{shard=\"0\"}} {}\n# EOF\n",
        lock(&shared.open),
        if received > shared.manner.overcount { received } else { 0 },
        shared.sent.load(SeqCst)
    );
    let _ = write!(stream, "HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
}

fn serve(shared: &Shared, number: u64, stream: TcpStream) {
    let Ok(peer) = stream.peer_addr() else { return };
    let (mut path, mut headed) = (String::new(), false);
    let refuse = shared.manner.refuse;
    #[expect(clippy::result_large_err, reason = "the signature is tungstenite's")]
    let upgrade = |request: &Request, mut response: Response| {
        path = request.uri().to_string();
        if let Some(offer) = request.headers().get("sec-websocket-protocol") {
            headed = offer == HeaderValue::from_static("voxhall.v1");
            response.headers_mut().insert("sec-websocket-protocol", offer.clone());
        }
        if refuse {
            let mut no = tungstenite::http::Response::new(None);
            *no.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            return Err(no);
        }
        Ok(response)
    };
    let Ok(writer) = stream.try_clone() else { return };
    if shared.manner.close_when_blocked {
        let _ = writer.set_write_timeout(Some(Duration::from_millis(300)));
    }
    let Ok(mut socket) = tungstenite::accept_hdr(stream, upgrade) else { return };
    lock(&shared.peers).insert(peer.ip());
    let writer = Arc::new(Mutex::new(writer));
    lock(&shared.rooms).entry(path.clone()).or_default().push((number, writer.clone()));
    *lock(&shared.open) += 1;
    if !shared.manner.silent {
        let welcome = br#"{"type":"session.created","seq":1,"session":{"id":"s"}}"#;
        write_frame(&mut lock(&writer), 1, &[welcome]);
    }
    let mut taken = 0;
    while let Ok(message) = socket.read() {
        let Message::Binary(payload) = message else { continue };
        taken += 1;
        shared.received.fetch_add(1, SeqCst);
        if shared.manner.close_after.is_some_and(|(frames, _)| frames == taken) {
            let code = shared.manner.close_after.map_or(0, |(_, code)| code);
            write_frame(&mut lock(&writer), 8, &[&code.to_be_bytes()]);
            continue;
        }
        if shared.manner.swallow_every == 0 || taken % shared.manner.swallow_every != 0 {
            for _ in 0..1 + u8::from(shared.manner.repeat) {
                pass_on(shared, number, &path, headed, &payload);
            }
        }
    }
    let _ = lock(&writer).shutdown(Shutdown::Both);
    lock(&shared.rooms).entry(path).or_default().retain(|member| member.0 != number);
    *lock(&shared.open) -= 1;
    shared.changed.notify_all();
}

fn pass_on(shared: &Shared, from: u64, path: &str, headed: bool, payload: &[u8]) {
    let relay = path.contains("engine=relay");
    let header: &[u8] = if headed { &[1, 0, 0, 0, 0, 0, 0, 0] } else { &[] };
    let members = lock(&shared.rooms).get(path).cloned().unwrap_or_default();
    for (_, member) in members.iter().filter(|(number, _)| (*number == from) != relay) {
        write_frame(&mut lock(member), 2, &[header, payload]);
        shared.sent.fetch_add(1, SeqCst);
    }
}

fn write_frame(stream: &mut TcpStream, opcode: u8, parts: &[&[u8]]) {
    let body = parts.concat();
    let mut frame = vec![0x80 | opcode];
    if body.len() < 126 {
        frame.push(body.len() as u8);
    } else {
        frame.push(126);
        frame.extend_from_slice(&(body.len() as u16).to_be_bytes());
    }
    frame.extend_from_slice(&body);
    if stream.write_all(&frame).is_err() {
        let _ = stream.shutdown(Shutdown::Both);
    }
}
