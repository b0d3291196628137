//! `voxhall token`: development tokens, signed with the configured secret.

use std::time::Duration;

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde::Serialize;
use shards::core::{Channels, Rights};
use tokens::since_1970;

use crate::config::{AuthConfig, Config};

/// What a token should say.
#[derive(Debug)]
pub(crate) struct Wanted {
    /// Whose it is.
    pub(crate) sub: String,
    /// Patterns of rooms; any if there are none.
    pub(crate) rooms: Vec<String>,
    /// How long it is good.
    pub(crate) ttl: Duration,
    /// The bearer's role.
    pub(crate) role: Option<String>,
    /// The only engine.
    pub(crate) engine: Option<String>,
    /// Rights on channels; the token says nothing of them if there are none.
    pub(crate) channels: Vec<(Box<str>, Rights)>,
    /// What the bearer is subscribed to from the beginning.
    pub(crate) subscriptions: Vec<String>,
}

#[derive(Serialize)]
struct Claims<'a> {
    sub: &'a str,
    iat: u64,
    exp: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    aud: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    iss: Option<&'a str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    rooms: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    engine: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    channels: Option<Channels>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    subscriptions: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'a str>,
}

/// Makes a token that a server with this configuration takes.
///
/// # Errors
/// A sentence with the remedy.
pub(crate) fn mint(config: &Config, wanted: &Wanted) -> Result<String, String> {
    let jwt = match &config.auth {
        AuthConfig::Jwt(jwt) if !jwt.secret.is_empty() => jwt,
        _ => {
            return Err("there is no secret to sign with; set auth.mode = \"jwt\" and auth.hs256_secret in the file that \
                        --config names, or VOXHALL_AUTH__MODE and VOXHALL_AUTH__HS256_SECRET"
                .to_owned());
        }
    };
    let now = since_1970().as_secs();
    let claims = Claims {
        sub: &wanted.sub,
        iat: now,
        exp: now + wanted.ttl.as_secs(),
        aud: jwt.rules.audience.first().map(String::as_str),
        iss: jwt.rules.issuer.first().map(String::as_str),
        rooms: &wanted.rooms,
        engine: wanted.engine.as_deref(),
        channels: tokens::claim(&wanted.channels),
        subscriptions: &wanted.subscriptions,
        role: wanted.role.as_deref(),
    };
    let key = EncodingKey::from_secret(jwt.secret.reveal().as_bytes());
    encode(&Header::new(Algorithm::HS256), &claims, &key)
        .map_err(|_| "the token could not be signed; that is a fault of this program".to_owned())
}

/// Reads a span such as `90s`, `15m`, `1h` or `7d`.
///
/// # Errors
/// What to write instead.
pub(crate) fn span(text: &str) -> Result<Duration, String> {
    let expected = || "write a number and s, m, h or d, such as 90s or 1h; at most 3650d".to_owned();
    let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(expected)?;
    let seconds: u64 = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return Err(expected()),
    };
    let total = number.parse::<u64>().ok().and_then(|number| number.checked_mul(seconds));
    total.filter(|total| (1..=3_650 * 86_400).contains(total)).map(Duration::from_secs).ok_or_else(expected)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_a_number_and_a_unit() {
        for (text, seconds) in [("90s", 90), ("15m", 900), ("1h", 3_600), ("7d", 604_800)] {
            assert_eq!(span(text), Ok(Duration::from_secs(seconds)));
        }
        for text in ["", "1", "h", "0s", "-1h", "1.5h", "1é", "9999999d"] {
            assert!(span(text).is_err(), "{text}");
        }
    }
}
