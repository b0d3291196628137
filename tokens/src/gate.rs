//! What shards and the admin API ask about a token.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
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
    /// Whether there is a key set that may have got another key meanwhile.
    follows_set: bool,
    /// Whether a token has named a key that is not known since the keys were read.
    misses_key: AtomicBool,
    reads: AtomicU64,
    early_reads: AtomicU64,
    failed_reads: AtomicU64,
}

/// The state of the keys, for metrics and stats.
#[derive(Clone, Copy, Debug)]
pub struct KeyReport {
    /// Keys in force.
    pub keys: usize,
    /// Times they were read again.
    pub reads: u64,
    /// Times they were about to be read because a token named a key that was not known.
    pub early_reads: u64,
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
            follows_set: rules.follows_set,
            misses_key: AtomicBool::new(false),
            reads: AtomicU64::new(0),
            early_reads: AtomicU64::new(0),
            failed_reads: AtomicU64::new(0),
        }
    }

    /// Takes these keys from now on. Connections that are open stay.
    pub fn replace(&self, keys: KeySet) {
        self.keys.store(keys.into());
        self.reads.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether a key is missing that a key set may have by now.
    pub fn misses_key(&self) -> bool {
        self.misses_key.load(Ordering::Relaxed)
    }

    /// The keys are about to be read: what is not known afterwards is missed anew.
    pub fn begin_read(&self, early: bool) {
        self.misses_key.store(false, Ordering::Relaxed);
        self.early_reads.fetch_add(early.into(), Ordering::Relaxed);
    }

    /// An issuer may sign with a key before we have seen it. Nobody waits here: this token is refused, and whoever reads
    /// keys looks.
    fn miss(&self, keys: &KeySet, kid: Option<&str>) {
        if self.follows_set && !self.misses_key() && kid.is_some_and(|kid| !keys.knows(kid)) {
            self.misses_key.store(true, Ordering::Relaxed);
        }
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
            early_reads: self.early_reads.load(Ordering::Relaxed),
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
        self.miss(&keys, header.kid.as_deref());
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
