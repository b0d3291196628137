//! The certificate of the public address: `tls.cert` and `tls.key`.

use std::path::PathBuf;

use shards::rt::Tls;
use shards::rt::tls::TlsError;

use super::resolve::Resolver;

impl Resolver<'_> {
    /// The certificate and its key, if there are any: both, and fit for use.
    pub(super) fn tls(&mut self) -> Option<Tls> {
        let path = |name| self.settings.get(name).map(|_| PathBuf::from(self.text(name)));
        let (cert, key) = match (path("tls.cert"), path("tls.key")) {
            (None, None) => return None,
            (Some(cert), Some(key)) => (cert, key),
            (cert, _) => {
                let (there, missing) =
                    if cert.is_some() { ("tls.cert", "tls.key") } else { ("tls.key", "tls.cert") };
                self.blame(there, format!("is of no use without {missing}"), format!("set {missing} too"));
                return None;
            }
        };
        if self.switch("server.proxy_protocol") {
            let remedy = "let the proxy end TLS, or name the client in a header line (server.forwarded_by)";
            self.blame("server.proxy_protocol", "is not read in front of TLS".to_owned(), remedy.to_owned());
        }
        let (name, error) = match Tls::load(&cert, &key) {
            Ok(tls) => return Some(tls),
            Err(error @ TlsError::Key { .. }) => ("tls.key", error),
            Err(error) => ("tls.cert", error),
        };
        let remedy =
            "name a PEM file with the certificate chain and one with its key, both readable by this user";
        self.blame(name, format!("can't be used: {error}"), remedy.to_owned());
        None
    }
}
