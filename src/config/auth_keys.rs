//! The rows of the table for `auth.*`.

use super::history;
use super::keys::{Default, Key, Kind};
use super::rows::{choice, list, number, text};

const MODES: &[&str] = &["none", "jwt"];

const MODE: Key = choice("auth.mode", MODES, "none", "Whether clients have to bring a JSON Web Token.");

const HS256_SECRET: Key = Key {
    name: "auth.hs256_secret",
    kind: Kind::Secret,
    default: Default::NoSecret,
    reason: "The secret that HS256 tokens are signed with, of 32 bytes or more. Keep it in a file or the environment: \
                 flags can be read by everybody on the host.",
};

const PUBLIC_KEYS: Key = list(
    "auth.public_keys",
    "PEM files of public keys: RSA for RS256, P-256 for ES256, Ed25519 for EdDSA. A key's kid is its file's name without ending.",
);

const JWKS: Key = text("auth.jwks", "A JSON Web Key Set: a file, or the https or http URL of the issuer's.");

const JWKS_REFRESH_S: Key = number(
    "auth.jwks_refresh_s",
    "seconds",
    300,
    (1, 86_400),
    "How often the key set and the key files are read again. SIGHUP does so at once.",
);

const AUDIENCE: Key =
    list("auth.audience", "What a token's aud has to name one of. None: it is not looked at.");

const ISSUER: Key = list("auth.issuer", "What a token's iss has to be one of. None: it is not looked at.");

const LEEWAY_S: Key = number(
    "auth.leeway_s",
    "seconds",
    30,
    (0, 3_600),
    "How far clocks may differ: a token is good so much before its nbf and after its exp.",
);

/// In the order in which they are shown.
pub(super) const KEYS: &[Key] =
    &[MODE, HS256_SECRET, PUBLIC_KEYS, JWKS, JWKS_REFRESH_S, AUDIENCE, ISSUER, LEEWAY_S, history::RESUME_KEY];
