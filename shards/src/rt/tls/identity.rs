//! The certificate in force, and how it is read from files.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys};

/// Why a certificate and its key can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The certificate file.
    #[error("{file}: {problem}")]
    Cert {
        /// Which.
        file: PathBuf,
        /// The end of a sentence.
        problem: String,
    },
    /// The key file.
    #[error("{file}: {problem}")]
    Key {
        /// Which.
        file: PathBuf,
        /// The end of a sentence.
        problem: String,
    },
    /// The library can't be set up: no randomness, say.
    #[error("TLS can't be set up: {0}")]
    Library(Error),
}

/// The certificate in force. Handshakes on any shard read it; reading takes no lock.
#[derive(Debug)]
pub(super) struct Identity(ArcSwap<CertifiedKey>);

impl Identity {
    pub(super) fn new(key: CertifiedKey) -> Self {
        Self(ArcSwap::from_pointee(key))
    }

    pub(super) fn replace(&self, key: CertifiedKey) {
        self.0.store(Arc::new(key));
    }
}

impl ResolvesServerCert for Identity {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

/// Reads a chain, the server's own certificate first, and the key that belongs to it.
pub(super) fn read(cert: &Path, key: &Path, provider: &CryptoProvider) -> Result<CertifiedKey, TlsError> {
    let bad_cert = |problem| TlsError::Cert { file: cert.to_owned(), problem };
    let bad_key = |problem| TlsError::Key { file: key.to_owned(), problem };
    let chain: Vec<_> = CertificateDer::pem_file_iter(cert)
        .and_then(Iterator::collect)
        .map_err(|error| bad_cert(unreadable(&error, "certificate")))?;
    if chain.is_empty() {
        return Err(bad_cert("it holds no certificate (PEM)".to_owned()));
    }
    let secret =
        PrivateKeyDer::from_pem_file(key).map_err(|error| bad_key(unreadable(&error, "private key")))?;
    let secret = provider
        .key_provider
        .load_private_key(secret)
        .map_err(|error| bad_key(format!("its private key can't be used: {error}")))?;
    let certified = CertifiedKey::new(chain, secret);
    match certified.keys_match() {
        // Some keys don't tell their public half: then the first handshake shows whether they fit.
        Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(certified),
        Err(Error::InconsistentKeys(_)) => {
            Err(bad_key(format!("the key does not belong to the certificate in {}", cert.display())))
        }
        Err(error) => Err(bad_cert(format!("its first certificate can't be used: {error}"))),
    }
}

fn unreadable(error: &pem::Error, what: &str) -> String {
    match error {
        pem::Error::Io(error) => format!("it can't be read: {error}"),
        pem::Error::NoItemsFound => format!("it holds no {what} (PEM)"),
        other => format!("it is not valid PEM: {other}"),
    }
}
