//! TLS: settings that all shards share, and sessions, one for each connection.
//!
//! A [`Session`] is a state machine over bytes, without a socket: the wire feeds it what arrives and sends what it
//! has to say, and the control plane does the same with those it is handed. The core sees plaintext only. Shards share
//! a [`Tls`]: what it reads per handshake is the certificate, through an atomic pointer that [`Tls::reload`] moves.

mod client;
mod identity;
mod session;
#[cfg(test)]
mod session_tests;
mod side;

use std::fmt;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::server::NoServerSessionStorage;

use self::identity::{Identity, read};

pub use self::client::{ClientTls, ClientTlsError};
pub use self::identity::TlsError;
pub use self::session::{Broken, Session};

/// The only protocol spoken inside: a client that offers others and not this one is told so by an alert.
const ALPN: &[u8] = b"http/1.1";
/// Tickets after a handshake. A client uses one to come back, and is given the next then.
const TICKETS: usize = 1;

/// What every handshake of a node is made with.
#[derive(Clone)]
pub struct Tls {
    config: Arc<ServerConfig>,
    identity: Arc<Identity>,
    cert: PathBuf,
    key: PathBuf,
}

impl Tls {
    /// Reads a certificate chain and its key, both PEM. Reads files: not for the data path.
    ///
    /// # Errors
    /// Names the file and what is wrong with it.
    pub fn load(cert: &Path, key: &Path) -> Result<Self, TlsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let identity = Arc::new(Identity::new(read(cert, key, &provider)?));
        let builder = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Library)?;
        let mut config = builder
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&identity) as Arc<dyn rustls::server::ResolvesServerCert>);
        config.alpn_protocols = vec![ALPN.to_vec()];
        // A table of sessions would be shared and locked; a ticket leaves the state with the client.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ticketer = aws_lc_rs::Ticketer::new().map_err(TlsError::Library)?;
        config.send_tls13_tickets = TICKETS;
        Ok(Self { config: Arc::new(config), identity, cert: cert.to_owned(), key: key.to_owned() })
    }

    /// Reads the files again. Handshakes that begin from now on use what they hold; connections go on.
    ///
    /// # Errors
    /// As [`Self::load`]; the certificate in use stays.
    pub fn reload(&self) -> Result<(), TlsError> {
        self.identity.replace(read(&self.cert, &self.key, self.config.crypto_provider())?);
        Ok(())
    }

    /// A session for a connection that was just accepted; nothing when there is no randomness for it. Where a PROXY header
    /// has to come before the handshake, `proxy_header_max` is the most bytes of it.
    #[must_use]
    pub fn session(&self, proxy_header_max: Option<usize>) -> Option<Box<Session>> {
        Session::new(Arc::clone(&self.config), proxy_header_max).map(Box::new)
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("cert", &self.cert).field("key", &self.key).finish_non_exhaustive()
    }
}

/// A connection without its shard: what travels when it moves. Dropped, it closes.
#[derive(Debug)]
pub struct Link {
    /// The socket, with nothing in flight on it.
    pub socket: OwnedFd,
    /// Its TLS session, with what could not be read or sent yet; nothing on a plain connection.
    pub tls: Option<Box<Session>>,
}

impl From<OwnedFd> for Link {
    fn from(socket: OwnedFd) -> Self {
        Self { socket, tls: None }
    }
}
