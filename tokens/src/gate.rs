//! What shards and the admin API ask about a token.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::{decode, decode_header};
use shards::core::{Denied, Gate, Pass};

use super::claims::{Claims, EXPIRED};
use super::keys::KeySet;
use crate::Rules;

/// Longest token. One in a request head is shorter by `limits.head_bytes_max`; one in band could be as long as a
/// message.
pub const TOKEN_BYTES_MAX: usize = 16_384;

const MALFORMED: Denied =
    Denied::Unauthorized("the token can't be read, or it names an algorithm that is not accepted here");
const WRONG_CLAIM: Denied = Denied::Unauthorized("a claim of the token is missing or of the wrong type");

/// Checks tokens with the keys of the moment.
#[derive(Debug)]
pub struct JwtGate {
    keys: ArcSwap<KeySet>,
    leeway: Duration,
    reads: AtomicU64,
    failed_reads: AtomicU64,
}

/// The state of the keys, for metrics and stats.
#[derive(Clone, Copy, Debug)]
pub struct KeyReport {
    /// Keys in force.
    pub keys: usize,
    /// Times they were read again.
    pub reads: u64,
    /// Times that failed, which left the old ones in force.
    pub failed_reads: u64,
}

impl JwtGate {
    /// Takes tokens by these rules, with these keys to begin with.
    #[must_use]
    pub fn new(rules: &Rules, keys: KeySet) -> Self {
        Self {
            keys: ArcSwap::from_pointee(keys),
            leeway: rules.leeway,
            reads: AtomicU64::new(0),
            failed_reads: AtomicU64::new(0),
        }
    }

    /// Takes these keys from now on. Connections that are open stay.
    pub fn replace(&self, keys: KeySet) {
        self.keys.store(keys.into());
        self.reads.fetch_add(1, Ordering::Relaxed);
    }

    /// Keys could not be read: the old ones stay.
    pub fn count_failure(&self) {
        self.failed_reads.fetch_add(1, Ordering::Relaxed);
    }

    /// How the keys stand.
    #[must_use]
    pub fn report(&self) -> KeyReport {
        KeyReport {
            keys: self.keys.load().len(),
            reads: self.reads.load(Ordering::Relaxed),
            failed_reads: self.failed_reads.load(Ordering::Relaxed),
        }
    }
}

impl Gate for JwtGate {
    fn check(&self, token: &str) -> Result<Pass, Denied> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(Denied::Unauthorized("the token is longer than 16384 bytes"));
        }
        let header = decode_header(token).map_err(|_| MALFORMED)?;
        if header.crit.is_some() {
            // RFC 7515 section 4.1.11: extensions that are not understood make the token invalid.
            return Err(Denied::Unauthorized("the token demands extensions that are not known here"));
        }
        let keys = self.keys.load();
        let mut denied = Denied::Unauthorized("no key here has the token's algorithm and kid");
        for key in keys.fitting(&header) {
            match decode::<Claims>(token, &key.decoding, &key.validation) {
                Ok(token) => return token.claims.pass(since_1970(), self.leeway),
                Err(error) => denied = explain(&error),
            }
            if denied != WRONG_SIGNATURE {
                break;
            }
        }
        Err(denied)
    }
}

const WRONG_SIGNATURE: Denied =
    Denied::Unauthorized("the token was not signed with a key that is known here");

/// Why, in words that hold nothing of the token. The library's own may quote it.
fn explain(error: &Error) -> Denied {
    match error.kind() {
        ErrorKind::ExpiredSignature => EXPIRED,
        ErrorKind::ImmatureSignature => Denied::Unauthorized("the token is not valid yet"),
        ErrorKind::InvalidAudience => Denied::Unauthorized("the token is for another audience"),
        ErrorKind::InvalidIssuer => Denied::Unauthorized("the token is from another issuer"),
        ErrorKind::MissingRequiredClaim(_) | ErrorKind::InvalidClaimFormat(_) | ErrorKind::Json(_) => {
            WRONG_CLAIM
        }
        ErrorKind::InvalidSignature => WRONG_SIGNATURE,
        _ => MALFORMED,
    }
}

/// The time since 1970. Tokens are dated by the wall clock. A connection is not: it is told how long its token is still good.
#[must_use]
pub fn since_1970() -> Duration {
    #[expect(clippy::disallowed_methods, reason = "tokens are dated by the wall clock")]
    let now = SystemTime::now();
    now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}
