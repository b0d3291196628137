//! Stand-ins for model servers, each on a thread of its own: good ones, and every kind of bad one.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use tungstenite::WebSocket;

/// A test that waits so long has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a server reads and writes.
pub(super) trait Stream: Read + Write + Send {}
impl<S: Read + Write + Send> Stream for S {}

/// A server that takes one connection.
pub(super) struct Model {
    pub(super) at: SocketAddr,
    thread: Option<JoinHandle<()>>,
}

impl Model {
    /// What it does with the bare connection.
    pub(super) fn bare(what: impl FnOnce(TcpStream) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
        let at = listener.local_addr().expect("bound");
        let thread = thread::spawn(move || {
            let (stream, _) = listener.accept().expect("somebody connects");
            stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
            what(stream);
        });
        Self { at, thread: Some(thread) }
    }

    /// What it does with the WebSocket, behind TLS where there is an identity.
    pub(super) fn socket(
        identity: Option<&Identity>,
        what: impl FnOnce(WebSocket<Box<dyn Stream>>) + Send + 'static,
    ) -> Self {
        let config = identity.map(|identity| Arc::clone(&identity.config));
        Self::bare(move |stream| {
            let stream: Box<dyn Stream> = match config {
                None => Box::new(stream),
                Some(config) => {
                    let session = ServerConnection::new(config).expect("a session");
                    Box::new(StreamOwned::new(session, stream))
                }
            };
            let limits = tungstenite::protocol::WebSocketConfig::default();
            what(tungstenite::accept_with_config(stream, Some(limits)).expect("a handshake"));
        })
    }

    /// It has done everything it had to.
    pub(super) fn finish(mut self) {
        self.thread.take().expect("once").join().expect("the server is content");
    }
}

/// A certificate, and the file by which clients know it.
pub(super) struct Identity {
    config: Arc<ServerConfig>,
    pub(super) ca_file: PathBuf,
    pub(super) key_file: PathBuf,
}

impl Identity {
    pub(super) fn new(name: &str) -> Self {
        let issued = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        let folder = std::env::temp_dir();
        let file =
            |what: &str| folder.join(format!("voxhall-model-{}-{name}-{what}.pem", std::process::id()));
        let (ca_file, key_file) = (file("cert"), file("key"));
        std::fs::write(&ca_file, issued.cert.pem()).expect("a file");
        std::fs::write(&key_file, issued.signing_key.serialize_pem()).expect("a file");
        let key = PrivateKeyDer::try_from(issued.signing_key.serialize_der()).expect("a key");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![issued.cert.der().clone()], key)
            .expect("a good pair");
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Self { config: Arc::new(config), ca_file, key_file }
    }
}

impl Drop for Identity {
    fn drop(&mut self) {
        // What is left lies in a folder for such things.
        let _ = std::fs::remove_file(&self.ca_file);
        let _ = std::fs::remove_file(&self.key_file);
    }
}
