//! Tokens as an issuer makes them, and as an attacker would.

use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};

use crate::support::repository;

/// The server's, of HS256.
pub(crate) const SECRET: &str = "kept-by-the-server-and-its-issuer-only";
pub(crate) const AUDIENCE: &str = "voxhall-tests";
pub(crate) const ISSUER: &str = "https://issuer.example";

/// The public key file of that name.
pub(crate) fn public_key(name: &str) -> String {
    repository(&format!("tests/auth/keys/{name}.pem")).display().to_string()
}

/// The key that signs with this algorithm, of that name.
pub(crate) fn private_key(algorithm: Algorithm, name: &str) -> EncodingKey {
    let pem =
        || std::fs::read(repository(&format!("tests/auth/keys/private/{name}.pem"))).expect("a key file");
    let key = match algorithm {
        Algorithm::HS256 | Algorithm::HS384 => Ok(EncodingKey::from_secret(name.as_bytes())),
        Algorithm::ES256 => EncodingKey::from_ec_pem(&pem()),
        Algorithm::EdDSA => EncodingKey::from_ed_pem(&pem()),
        _ => EncodingKey::from_rsa_pem(&pem()),
    };
    key.expect("a key of that kind")
}

/// A key set with the public halves of RSA keys under these names.
pub(crate) fn key_set(keys: &[(&str, &str)]) -> String {
    let jwk = |&(kid, name): &(&str, &str)| {
        let key = private_key(Algorithm::RS256, name);
        let mut jwk = Jwk::from_encoding_key(&key, Algorithm::RS256).expect("an RSA key");
        jwk.common.key_id = Some(kid.to_owned());
        jwk
    };
    let useless = json!({ "kty": "RSA", "use": "enc", "kid": "other", "n": "AQAB", "e": "AQAB" });
    let mut keys: Vec<Value> = keys.iter().map(jwk).map(|jwk| json!(jwk)).collect();
    keys.push(useless);
    json!({ "keys": keys }).to_string()
}

/// So many seconds from now, as tokens are dated.
pub(crate) fn in_seconds(seconds: i64) -> i64 {
    #[expect(clippy::disallowed_methods, reason = "tokens are dated by the wall clock")]
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    now.as_secs() as i64 + seconds
}

/// What a good token says, with these claims changed or added; `null` takes one away.
pub(crate) fn claims(changes: Value) -> Value {
    let mut claims = json!({ "sub": "ann", "aud": AUDIENCE, "iss": ISSUER, "exp": in_seconds(600) });
    for (name, value) in changes.as_object().expect("an object") {
        claims[name] = value.clone();
    }
    claims.as_object_mut().expect("an object").retain(|_, value| !value.is_null());
    claims
}

/// Signs claims.
pub(crate) fn sign(algorithm: Algorithm, key: &str, kid: Option<&str>, changes: Value) -> String {
    let header = Header { kid: kid.map(str::to_owned), ..Header::new(algorithm) };
    encode(&header, &claims(changes), &private_key(algorithm, key)).expect("it can be signed")
}

/// Signs claims with the server's secret.
pub(crate) fn token(changes: Value) -> String {
    sign(Algorithm::HS256, SECRET, None, changes)
}

/// A token with one of its three parts replaced.
pub(crate) fn with_part(token: &str, part: usize, by: &str) -> String {
    let mut parts: Vec<&str> = token.split('.').collect();
    parts[part] = by;
    parts.join(".")
}
