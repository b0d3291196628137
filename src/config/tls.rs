//! Certificates: `tls.cert` and `tls.key` of the public address, `tls.admin_cert` and `tls.admin_key` of the admin address.

use std::path::PathBuf;

use shards::rt::Tls;
use shards::rt::tls::TlsError;

use super::keys::Key;
use super::resolve::Resolver;
use super::rows::file;

pub(super) const CERT: Key = file(
    "tls.cert",
    "The certificate chain (PEM), the server's own first. With it the public address speaks TLS. Read again on SIGHUP.",
);

pub(super) const KEY: Key =
    file("tls.key", "The private key of the certificate (PEM). Read again on SIGHUP.");

pub(super) const ADMIN_CERT: Key = file(
    "tls.admin_cert",
    "The certificate chain (PEM) of the admin address, which speaks TLS with it. Read again on SIGHUP.",
);

pub(super) const ADMIN_KEY: Key =
    file("tls.admin_key", "The private key of the admin address's certificate (PEM). Read again on SIGHUP.");

impl Resolver<'_> {
    /// The certificate and the key that these keys name, if they do: both, and fit for use.
    pub(super) fn tls(&mut self, cert_name: &'static str, key_name: &'static str) -> Option<Tls> {
        let path = |name| self.settings.get(name).map(|_| PathBuf::from(self.text(name)));
        let (cert, key) = match (path(cert_name), path(key_name)) {
            (None, None) => return None,
            (Some(cert), Some(key)) => (cert, key),
            (cert, _) => {
                let (there, missing) =
                    if cert.is_some() { (cert_name, key_name) } else { (key_name, cert_name) };
                self.blame(there, format!("is of no use without {missing}"), format!("set {missing} too"));
                return None;
            }
        };
        let (name, error) = match Tls::load(&cert, &key) {
            Ok(tls) => return Some(tls),
            Err(error @ TlsError::Key { .. }) => (key_name, error),
            Err(error) => (cert_name, error),
        };
        let remedy =
            "name a PEM file with the certificate chain and one with its key, both readable by this user";
        self.blame(name, format!("can't be used: {error}"), remedy.to_owned());
        None
    }
}
