//! Whether a token is good: JSON Web Tokens (RFC 7519), the keys they are checked with, and what they say.
//!
//! A [`JwtGate`] is what shards ask. It lives on every thread: checking reads the keys without a lock, and whoever read
//! them again puts others in their place. Where keys come from is not known here; no file, socket or configuration is.
//! No part of a token or of a secret key is in any error or debug output that comes from here.

mod channels;
mod claims;
mod gate;
mod keys;

use std::time::Duration;

pub use channels::{channel, claim, subscription};
pub use gate::{JwtGate, KeyReport, TOKEN_BYTES_MAX, since_1970};
pub use keys::{Key, KeySet};

/// What makes a token good beside its signature.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// Audiences, one of which a token has to name; any if there are none.
    pub audience: Vec<String>,
    /// Issuers, one of which a token has to be from; any if there are none.
    pub issuer: Vec<String>,
    /// How far clocks may differ.
    pub leeway: Duration,
    /// Whether there is a key set that may get other keys: a token that names an unknown one is a reason to look.
    pub follows_set: bool,
}
