//! Tokens: nothing is taken that was not signed, whatever it says of itself.

use std::collections::HashSet;
use std::sync::LazyLock;

use jsonwebtoken::{Algorithm, EncodingKey, crypto};
use serde_json::Value;
use shards::core::{Denied, Gate, Pass, Role};
use tokens::{JwtGate, Key, KeySet, Rules};

use crate::pieces::choice;

const SECRET: &str = "a secret for fuzzing, of 32 bytes or more";
/// Also the last of the seconds since 1970 that a clock here may show.
const FAR_S: f64 = 1e11;
const AUDIENCE: &str = "voxhall";
const ISSUER: &str = "https://issuer.example";

const RSA: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/auth/keys/rsa.pem"));
const EC: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/auth/keys/ec.pem"));
const ED: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/auth/keys/ed.pem"));

/// One good token of each algorithm, which has no end. No others were ever signed for 't'.
const SIGNED: [&str; 4] = [
    include_str!("../corpus/tokens/hs256"),
    include_str!("../corpus/tokens/rs256"),
    include_str!("../corpus/tokens/es256"),
    include_str!("../corpus/tokens/eddsa"),
];

/// All that a refusal may say.
const REASONS: [&str; 13] = [
    "the token is longer than 16384 bytes",
    "the token can't be read, or it names an algorithm that is not accepted here",
    "the token demands extensions that are not known here",
    "no key here has the token's algorithm and kid",
    "the token was not signed with a key that is known here",
    "a claim of the token is missing or of the wrong type",
    "the token has expired",
    "the token is not valid yet",
    "the token is for another audience",
    "the token is from another issuer",
    "the token's sub is empty or longer than 256 bytes",
    "the token is for an engine that is not served here",
    "the token is for another engine",
];

/// A gate with a key of each algorithm.
fn gate(rules: &Rules) -> JwtGate {
    let pem = |pem: &str| Key::of_pem(None, pem.as_bytes(), rules).expect("a good key");
    let keys = vec![Key::of_secret(SECRET, rules), pem(RSA), pem(EC), pem(ED)];
    JwtGate::new(rules, KeySet::new(keys))
}

static GATE: LazyLock<JwtGate> = LazyLock::new(|| {
    let gate = gate(&Rules::default());
    for token in signed() {
        assert!(gate.check(token).is_ok(), "a gate that takes nothing proves nothing: {token}");
    }
    gate
});

static STRICT: LazyLock<JwtGate> = LazyLock::new(|| {
    gate(&Rules { audience: vec![AUDIENCE.into()], issuer: vec![ISSUER.into()], ..Rules::default() })
});

/// What lies under the signatures.
static MESSAGES: LazyLock<HashSet<&str>> = LazyLock::new(|| signed().map(message).collect());

fn signed() -> impl Iterator<Item = &'static str> {
    SIGNED.iter().map(|file| file.strip_prefix('t').expect("its first byte says what it is"))
}

fn message(token: &str) -> &str {
    token.rsplit_once('.').map_or("", |(message, _)| message)
}

/// The first byte says what the rest is: `t` a token; `c` claims that are signed, `a` the same for a gate that looks at
/// audience and issuer; `h` the header of a forgery; `k` a key set; `p` a PEM file.
pub(crate) fn run(bytes: &[u8]) {
    let (kind, rest) = choice(bytes);
    match kind {
        b'c' => claims(rest, &GATE, false),
        b'a' => claims(rest, &STRICT, true),
        b'h' => forgery(rest),
        b'k' => key_set(rest),
        b'p' => pem(rest),
        _ => token(&String::from_utf8_lossy(rest)),
    }
}

fn check(gate: &JwtGate, token: &str) -> Result<Pass, Denied> {
    let checked = gate.check(token);
    if let Err(denied) = checked {
        assert!(REASONS.contains(&denied.reason()), "{denied:?}");
    }
    checked
}

fn token(token: &str) {
    if check(&GATE, token).is_ok() {
        assert!(MESSAGES.contains(message(token)), "nobody signed {token}");
    }
    assert!(check(&STRICT, token).is_err(), "no good token names an audience");
}

/// Anything at all, signed with the server's secret.
fn claims(payload: &[u8], gate: &JwtGate, strict: bool) {
    let message = format!("eyJhbGciOiJIUzI1NiJ9.{}", base64(payload));
    let token = format!("{message}.{}", sign(&message, SECRET.as_bytes()));
    let Ok(pass) = check(gate, &token) else { return };
    // Claims that nobody reads may hold numbers that are nobody's.
    let Ok(claims) = serde_json::from_slice::<Value>(payload) else { return };
    assert_eq!(claims["sub"], *pass.sub);
    assert!((1..=256).contains(&pass.sub.len()));
    assert_eq!(pass.role == Role::Admin, claims["role"] == "admin");
    assert_eq!(pass.valid_for.is_some(), claims["exp"].is_number(), "{claims}");
    let rooms = pass.rooms.map(|rooms| rooms.iter().map(|room| Value::from(&**room)).collect::<Vec<_>>());
    assert_eq!(rooms.map_or(Value::Null, Value::from), claims["rooms"]);
    assert_eq!(pass.engine.map_or(Value::Null, |engine| engine.name().into()), claims["engine"]);
    assert!(claims["exp"].as_f64().is_none_or(|exp| exp > 1.7e9), "it ended long ago: {claims}");
    assert!(claims["nbf"].as_f64().is_none_or(|nbf| nbf <= FAR_S), "it begins in the far future: {claims}");
    if strict {
        let aud = &claims["aud"];
        let named = |aud: &Value| aud == AUDIENCE;
        assert!(named(aud) || aud.as_array().is_some_and(|all| all.iter().any(named)), "{claims}");
        let iss = &claims["iss"];
        assert!(iss == ISSUER || iss.as_array().is_some_and(|all| all.iter().any(|iss| iss == ISSUER)));
    }
}

/// What an attacker can sign with: nothing, or what is public.
fn forgery(header: &[u8]) {
    let message = format!("{}.eyJzdWIiOiJhbm4ifQ", base64(header));
    assert!(check(&GATE, &format!("{message}.")).is_err(), "not signed");
    for key in ["", RSA, EC, ED] {
        let token = format!("{message}.{}", sign(&message, key.as_bytes()));
        assert!(check(&GATE, &token).is_err(), "signed with {key:?}");
    }
    for good in signed() {
        let signature = good.rsplit('.').next().expect("there is one");
        let token = format!("{message}.{signature}");
        assert!(check(&GATE, &token).is_err() || MESSAGES.contains(&*message), "signed for another: {token}");
    }
}

fn key_set(json: &[u8]) {
    let rules = Rules::default();
    let Ok(keys) = Key::of_set(json, &rules) else { return };
    assert!(!keys.is_empty());
    let gate = JwtGate::new(&rules, KeySet::new(keys));
    for good in signed() {
        let _ = check(&gate, good);
    }
    assert!(check(&gate, "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbm4ifQ.").is_err());
}

fn pem(file: &[u8]) {
    let taken = Key::of_pem(None, file, &Rules::default()).is_ok();
    let private = file.windows(16).any(|words| words == b"PRIVATE KEY-----");
    assert!(!taken || !private, "a private key has no place here");
}

fn sign(message: &str, key: &[u8]) -> String {
    let key = EncodingKey::from_secret(key);
    crypto::sign(message.as_bytes(), &key, Algorithm::HS256).expect("HMAC takes any key")
}

/// Without padding, in the alphabet of URLs (RFC 4648 section 5).
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let word =
            chunk.iter().fold(0_u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        let digits = (0..=chunk.len()).map(|at| DIGITS[(word >> (18 - 6 * at)) as usize & 63] as char);
        text.extend(digits);
    }
    text
}
