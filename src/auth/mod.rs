//! Who is it: JSON Web Tokens (RFC 7519), the keys they are checked with, and where those come from.
//!
//! A [`JwtGate`] is what shards ask. It lives on every thread: checking reads the keys without a lock, and the control
//! plane puts others in their place when it has read them again ([`keep_fresh`]). No part of a token or of a secret
//! key is in any error, log line or debug output that comes from here.

mod channels;
mod claims;
mod gate;
mod keys;
mod mint;
mod refresh;
mod sources;

use std::sync::Arc;

pub(crate) use channels::channel;
pub(crate) use gate::{JwtGate, KeyReport};
pub(crate) use mint::{Wanted, mint, span};
pub(crate) use refresh::keep_fresh;

use crate::Failure;
use crate::config::{AuthConfig, Config};

/// Reads the keys that the configuration names and makes the gate; nothing where nobody is asked.
///
/// # Errors
/// A key that can't be read or used, with the remedy.
pub(crate) fn open(config: &Config) -> Result<Option<Arc<JwtGate>>, Failure> {
    let AuthConfig::Jwt(jwt) = &config.auth else { return Ok(None) };
    let keys = sources::load(jwt, sources::fetch).map_err(|error| error.failure(config))?;
    Ok(Some(Arc::new(JwtGate::new(jwt, keys))))
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
