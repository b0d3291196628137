//! Who is it: where the keys come from that tokens are checked with, and tokens made for development.
//!
//! The check itself is [`tokens`]. The control plane puts other keys in place when it has read them again
//! ([`keep_fresh`]). No part of a token or of a secret
//! key is in any error, log line or debug output that comes from here.

mod mint;
mod refresh;
mod sources;

use std::sync::Arc;

pub(crate) use mint::{Wanted, mint, span};
pub(crate) use refresh::keep_fresh;
pub(crate) use tokens::{JwtGate, KeyReport};

use crate::Failure;
use crate::config::{AuthConfig, Config};

/// Reads the keys that the configuration names and makes the gate; nothing where nobody is asked.
///
/// # Errors
/// A key that can't be read or used, with the remedy.
pub(crate) fn open(config: &Config) -> Result<Option<Arc<JwtGate>>, Failure> {
    let AuthConfig::Jwt(jwt) = &config.auth else { return Ok(None) };
    let keys = sources::load(jwt, sources::fetch).map_err(|error| error.failure(config))?;
    Ok(Some(Arc::new(JwtGate::new(&jwt.rules, keys))))
}

/// Reads the key files as [`open`] does, and asks nobody over the network.
///
/// # Errors
/// As [`open`].
pub(crate) fn check_files(config: &Config) -> Result<(), Failure> {
    let AuthConfig::Jwt(jwt) = &config.auth else { return Ok(()) };
    let mut files = jwt.clone();
    if sources::is_url(&jwt.jwks) {
        files.jwks.clear();
    }
    sources::load(&files, sources::fetch).map(drop).map_err(|error| error.failure(config))
}
