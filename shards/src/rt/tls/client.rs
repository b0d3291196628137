//! TLS in client role: whom we trust, and whom we ask for.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, Error, RootCertStore};

use super::{ALPN, Session};

/// Sessions of one server that a shard remembers, to shorten the next handshakes.
const REMEMBERED: usize = 32;

/// What connections to model servers are secured with.
#[derive(Clone)]
pub struct ClientTls {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

/// Why there can be no TLS in client role.
#[derive(Debug, thiserror::Error)]
pub enum ClientTlsError {
    /// The name can't be in a certificate.
    #[error("{0} is not the name of a host")]
    Name(String),
    /// The file of authorities.
    #[error("{file}: {problem}")]
    File {
        /// Which.
        file: PathBuf,
        /// The end of a sentence.
        problem: String,
    },
    /// Nobody is trusted.
    #[error("this host has no certificates of authorities: install ca-certificates, or name a file of them")]
    NoRoots,
    /// The library can't be set up.
    #[error("TLS can't be set up: {0}")]
    Library(Error),
}

impl ClientTls {
    /// For a server of this name, with the host's authorities and those of a PEM file. Reads files: not for the data path.
    ///
    /// # Errors
    /// Says what is missing.
    pub fn load(name: &str, ca_file: Option<&Path>) -> Result<Self, ClientTlsError> {
        let name =
            ServerName::try_from(name.to_owned()).map_err(|_| ClientTlsError::Name(name.to_owned()))?;
        let mut roots = RootCertStore::empty();
        if let Some(file) = ca_file {
            let bad = |problem: String| ClientTlsError::File { file: file.to_owned(), problem };
            let certs: Vec<_> = CertificateDer::pem_file_iter(file)
                .and_then(Iterator::collect)
                .map_err(|error| bad(format!("it can't be read: {error}")))?;
            if certs.is_empty() {
                return Err(bad("it holds no certificate (PEM)".to_owned()));
            }
            for cert in certs {
                roots
                    .add(cert)
                    .map_err(|error| bad(format!("a certificate of it can't be used: {error}")))?;
            }
        }
        // Those of the host that the library can't use are of no use to anybody.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            return Err(ClientTlsError::NoRoots);
        }
        let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(ClientTlsError::Library)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.resumption = Resumption::disabled();
        Ok(Self { config: Arc::new(config), name })
    }

    /// The same with a memory of sessions of its own: that has a lock, which no two shards should share.
    pub(in crate::rt) fn of_shard(&self) -> Self {
        let mut config = ClientConfig::clone(&self.config);
        config.resumption = Resumption::in_memory_sessions(REMEMBERED);
        Self { config: Arc::new(config), name: self.name.clone() }
    }

    /// A session whose first message is to be sent.
    ///
    /// # Errors
    /// When the library can't make one.
    pub(in crate::rt) fn session(&self) -> Result<Box<Session>, Error> {
        Session::client(Arc::clone(&self.config), self.name.clone()).map(Box::new)
    }
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientTls").field("name", &self.name).finish_non_exhaustive()
    }
}
