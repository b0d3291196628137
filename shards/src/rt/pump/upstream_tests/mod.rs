//! Upstream sessions over real sockets: a shard's pump on the test's own thread against model servers on others. The test
//! plays the room's engine.

mod faults;
mod model;
mod talk;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use self::model::Identity;
use super::Pump;
use crate::core::upstream::{Line, UpstreamOrder};
use crate::core::{Micros, ModelServer, ModelServerSettings, RoomKey, Shard, ShardConfig, ShardId};
use crate::rt::life::{Order, Roll};
use crate::rt::listen::{Listen, bind_group};
use crate::rt::mesh::{Endpoint, wire_up};
use crate::rt::wire::Wire;
use crate::rt::wire::accept::SocketCount;
use crate::rt::{ClientTls, Clock, Tls, WireConfig};

const LINE: Line = Line(1);
const PATIENCE: Micros = Micros::from_s(20);

/// A shard with one room, and its only client.
struct Rig {
    pump: Pump,
    server: Arc<ModelServer>,
    room: RoomKey,
    sockets: Arc<SocketCount>,
    _control: Endpoint,
    _client: TcpStream,
}

impl Rig {
    /// Model servers are at `at`, behind TLS where there is an identity to know them by; our own clients too where
    /// `clients` is one.
    fn new(
        at: &[SocketAddr],
        identity: Option<&Identity>,
        clients: Option<&Identity>,
        change: impl FnOnce(&mut ModelServerSettings),
    ) -> Self {
        let mut settings = ModelServerSettings::default();
        change(&mut settings);
        let server = Arc::new(ModelServer::new(settings));
        server.set_addresses(at.to_vec());
        let config =
            Arc::new(ShardConfig { model_server: Some(Arc::clone(&server)), ..ShardConfig::default() });
        let client_tls =
            identity.map(|known| ClientTls::load("localhost", Some(&known.ca_file)).expect("a file"));
        let wire_config = WireConfig {
            ring_entries: 64,
            receive_buffers: 16,
            tls: clients.map(|own| Tls::load(&own.ca_file, &own.key_file).expect("files")),
            client_tls,
            ..WireConfig::default()
        };
        let listen = Listen::Tcp("127.0.0.1:0".parse().expect("an address"));
        let (mut listeners, address) = bind_group(&listen, 1, 16).expect("a port");
        let listener = listeners.pop().expect("one");
        listener.socket.listen(16).expect("it listens");
        let mut endpoints = wire_up(1, 64).expect("doorbells");
        let control = endpoints.pop().expect("the control plane's");
        let mesh = endpoints.pop().expect("the shard's");
        let roll = Arc::new(Roll::new(vec![mesh.waker()], control.waker()));
        let sockets = SocketCount::new(100);
        let wire = Wire::new(&wire_config, listener, mesh.doorbell(), Arc::clone(&sockets)).expect("a ring");
        let shard = Shard::new(ShardId(0), config, 7);
        let pump = Pump::new(ShardId(0), shard, wire, mesh, Clock::start(), roll, &wire_config);
        let room = RoomKey { index: 0, generation: 0 };
        let client = join(address.tcp().expect("an address"), clients.map(|own| own.ca_file.clone()));
        let mut rig = Self { pump, server, room, sockets, _control: control, _client: client.0 };
        rig.until("the client has its room", |rig| client.1.try_recv().is_ok().then_some(rig.room));
        rig
    }

    /// Turns until something is so.
    fn until<T>(&mut self, what: &str, mut so: impl FnMut(&mut Self) -> Option<T>) -> T {
        let begun = self.pump.clock.now();
        loop {
            if let Some(found) = so(self) {
                return found;
            }
            assert!(self.pump.clock.now().since(begun) < PATIENCE, "not in time: {what}");
            // Other threads say nothing to a shard that sleeps: it should not sleep long.
            self.pump.roll.order(Order::Serve);
            self.pump.turn().expect("the ring works");
        }
    }

    fn order(&mut self, order: UpstreamOrder) {
        let now = self.pump.clock.now();
        self.pump.shard.order_upstream(now, self.room, order);
    }

    fn dial(&mut self, line: Line) {
        self.order(UpstreamOrder::Dial { line, target: "/v1/realtime?model=m".into() });
    }

    fn send(&mut self, text: &[u8]) {
        let now = self.pump.clock.now();
        self.pump.shard.send_upstream_text(now, self.room, LINE, text);
    }

    /// The next news of the line.
    fn heard(&mut self) -> String {
        let mut waiting = self.all_heard(1);
        waiting.remove(0)
    }

    /// So many news of the line.
    fn all_heard(&mut self, count: usize) -> Vec<String> {
        let mut heard = Vec::new();
        self.until("the engine is told", |rig| {
            heard.extend(rig.pump.shard.told_upstream().into_iter().map(|(_, news)| news));
            (heard.len() >= count).then_some(())
        });
        assert_eq!(
            heard.len(),
            count,
            "{:?}",
            heard.iter().map(|news| &news[..news.len().min(80)]).collect::<Vec<_>>()
        );
        heard
    }

    /// Only the client is left: no descriptor, no operation, no reservation of anything else.
    fn assert_nothing_left(&mut self) {
        self.until("the connection is gone", |rig| (rig.pump.shard.connections() == 1).then_some(()));
        assert_eq!(self.pump.wire.descriptors(), 1);
        assert_eq!(self.sockets.open(), 1);
        assert_eq!(self.server.sessions(), 0);
        assert!(self.pump.shard.told_upstream().is_empty(), "a line has one end");
    }
}

/// A client of the room, and who says that it is in: it stays there as long as the stream is kept.
fn join(at: SocketAddr, ca_file: Option<std::path::PathBuf>) -> (TcpStream, std::sync::mpsc::Receiver<()>) {
    let stream = TcpStream::connect(at).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    let kept = stream.try_clone().expect("a descriptor");
    let (is_in, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let request =
            b"GET /ws/room?engine=echo HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
            Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        let talk = |stream: &mut dyn ReadWrite| {
            stream.write_all(request).expect("connected");
            let mut answer = [0; 4_096];
            let mut read = 0;
            while !answer[..read].windows(15).any(|bytes| bytes == b"session.created") {
                read += stream.read(&mut answer[read..]).expect("an answer");
            }
        };
        match ca_file {
            None => talk(&mut &stream),
            Some(file) => {
                use rustls::pki_types::pem::PemObject;
                let mut roots = rustls::RootCertStore::empty();
                let cert = rustls::pki_types::CertificateDer::from_pem_file(file).expect("a file");
                roots.add(cert).expect("a certificate");
                let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
                let config = rustls::ClientConfig::builder_with_provider(provider)
                    .with_safe_default_protocol_versions()
                    .expect("versions")
                    .with_root_certificates(roots)
                    .with_no_client_auth();
                let name = "localhost".try_into().expect("a name");
                let session = rustls::ClientConnection::new(Arc::new(config), name).expect("a session");
                talk(&mut rustls::StreamOwned::new(session, stream));
            }
        }
        is_in.send(()).expect("the test listens");
    });
    (kept, told)
}

trait ReadWrite: Read + Write {}
impl<S: Read + Write> ReadWrite for S {}
