//! Certificates, and clients that speak TLS.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion};

use super::{Server, connect};

/// A client's end of a TLS connection.
pub(crate) type Secure = StreamOwned<ClientConnection, TcpStream>;

/// A folder with a certificate and its key, removed with the test.
pub(crate) struct Files(PathBuf);

impl Files {
    /// The name tells the folders of tests apart that run at once.
    pub(crate) fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("voxhall-tls-{}-{name}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder for certificates");
        Self(folder)
    }

    /// Puts a fresh certificate for this machine and its key into the files.
    pub(crate) fn issue(&self) -> CertificateDer<'static> {
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let issued = rcgen::generate_simple_self_signed(names).expect("a certificate");
        fs::write(self.cert(), issued.cert.pem()).expect("a writable folder");
        fs::write(self.key(), issued.signing_key.serialize_pem()).expect("a writable folder");
        issued.cert.der().clone()
    }

    pub(crate) fn cert(&self) -> PathBuf {
        self.0.join("cert.pem")
    }

    pub(crate) fn key(&self) -> PathBuf {
        self.0.join("key.pem")
    }

    /// A server with these files, and these arguments besides.
    pub(crate) fn serve(&self, arguments: &[&str]) -> Server {
        let (cert, key) = self.settings("tls.cert", "tls.key");
        Server::start(&[&["--set", &cert, "--set", &key], arguments].concat())
    }

    /// What is behind `--set` for these files under these keys.
    pub(crate) fn settings(&self, cert_key: &str, key_key: &str) -> (String, String) {
        let setting = |key: &str, path: &Path| format!("{key}={}", path.display());
        (setting(cert_key, &self.cert()), setting(key_key, &self.key()))
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A client that trusts this certificate alone and offers these versions and protocols.
pub(crate) fn client(
    trusted: &CertificateDer<'static>,
    versions: &[&'static SupportedProtocolVersion],
    alpn: &[&str],
) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).expect("a certificate");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions);
    let mut config = builder.expect("known versions").with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    Arc::new(config)
}

/// A client as most are.
pub(crate) fn any_client(trusted: &CertificateDer<'static>) -> Arc<ClientConfig> {
    client(trusted, rustls::ALL_VERSIONS, &["http/1.1"])
}

/// A connection with its handshake complete.
pub(crate) fn secure(config: &Arc<ClientConfig>, address: SocketAddr) -> std::io::Result<Secure> {
    secure_over(config, connect(address))
}

/// The same over a socket that the caller has made.
pub(crate) fn secure_over(config: &Arc<ClientConfig>, socket: TcpStream) -> std::io::Result<Secure> {
    let name = ServerName::try_from("localhost").expect("a name");
    let client = ClientConnection::new(Arc::clone(config), name).expect("a client");
    let mut stream = StreamOwned::new(client, socket);
    stream.conn.complete_io(&mut stream.sock)?;
    Ok(stream)
}

/// The whole answer to a request for a page.
pub(crate) fn get(config: &Arc<ClientConfig>, address: SocketAddr, path: &str) -> String {
    let mut stream = secure(config, address).expect("a handshake");
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n")
        .expect("the server reads");
    let mut answer = String::new();
    // Ends in an error when the server closes without saying so (RFC 8446 section 6.1).
    stream.read_to_string(&mut answer).expect("an answer with a proper end");
    answer
}
