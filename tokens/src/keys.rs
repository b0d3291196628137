//! The keys that tokens are checked with. What a key is decides what it is used for: the algorithm never comes from a
//! token.

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Header, Validation};
use serde::Deserialize;

use crate::Rules;

/// Fewest bytes of an RSA modulus: below 2048 bits signatures are not checked but refused (RFC 7518 section 3.3).
const RSA_BYTES_MIN: usize = 256;
/// Fewest bytes of a symmetric key of a set (RFC 7518 section 3.2).
const OCT_BYTES_MIN: usize = 32;

type ReadPem = fn(&[u8]) -> jsonwebtoken::errors::Result<DecodingKey>;

/// Every key in force.
#[derive(Debug)]
pub struct KeySet(Vec<Key>);

/// One key with what else makes a token good.
#[derive(Debug)]
pub struct Key {
    kid: Option<String>,
    pub(super) decoding: DecodingKey,
    pub(super) validation: Validation,
}

impl KeySet {
    /// These.
    #[must_use]
    pub fn new(keys: Vec<Key>) -> Self {
        Self(keys)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none: then no token is good.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a key has this name.
    pub(super) fn knows(&self, kid: &str) -> bool {
        self.0.iter().any(|key| key.kid.as_deref() == Some(kid))
    }

    /// The keys that may have signed a token with this header: of its algorithm and, where both name one, its `kid`.
    pub(super) fn fitting(&self, header: &Header) -> impl Iterator<Item = &Key> {
        let same_kid = |key: &Key| match (&key.kid, &header.kid) {
            (Some(ours), Some(theirs)) => ours == theirs,
            _ => true,
        };
        self.0.iter().filter(move |key| key.validation.algorithms.contains(&header.alg) && same_kid(key))
    }
}

impl Key {
    fn new(kid: Option<String>, algorithm: Algorithm, decoding: DecodingKey, rules: &Rules) -> Self {
        let mut validation = Validation::new(algorithm);
        validation.leeway = rules.leeway.as_secs();
        validation.validate_nbf = true;
        // A token without `exp` is good as long as its key. One with `exp` is held to it.
        validation.required_spec_claims.clear();
        validation.validate_aud = !rules.audience.is_empty();
        if validation.validate_aud {
            validation.set_audience(&rules.audience);
            validation.required_spec_claims.insert("aud".to_owned());
        }
        if !rules.issuer.is_empty() {
            validation.set_issuer(&rules.issuer);
            validation.required_spec_claims.insert("iss".to_owned());
        }
        Self { kid, decoding, validation }
    }

    /// A shared secret. It has no `kid` and serves for tokens with any.
    #[must_use]
    pub fn of_secret(secret: &str, rules: &Rules) -> Self {
        Self::new(None, Algorithm::HS256, DecodingKey::from_secret(secret.as_bytes()), rules)
    }

    /// The public key in a PEM file.
    ///
    /// # Errors
    /// What is wrong with it, as the end of a sentence, and the remedy.
    pub fn of_pem(
        kid: Option<String>,
        pem: &[u8],
        rules: &Rules,
    ) -> Result<Self, (&'static str, &'static str)> {
        let text = String::from_utf8_lossy(pem);
        if text.contains("PRIVATE KEY-----") {
            let remedy = "give the public half: `openssl pkey -in private.pem -pubout`";
            return Err(("is a private key", remedy));
        }
        if text.contains("CERTIFICATE-----") {
            return Err(("is a certificate", "take its key out: `openssl x509 -in cert.pem -pubkey -noout`"));
        }
        let kinds: [(Algorithm, ReadPem); 3] = [
            (Algorithm::RS256, DecodingKey::from_rsa_pem),
            (Algorithm::ES256, DecodingKey::from_ec_pem),
            (Algorithm::EdDSA, DecodingKey::from_ed_pem),
        ];
        for (algorithm, read) in kinds {
            if let Ok(decoding) = read(pem)
                && Jwk::from_decoding_key(&decoding, None)
                    .is_ok_and(|jwk| algorithm_of(&jwk) == Some(algorithm))
            {
                return Ok(Self::new(kid, algorithm, decoding, rules));
            }
        }
        Err((
            "is no public key that is known here",
            "give a PEM file (BEGIN PUBLIC KEY) of an RSA key of 2048 bits or more, a P-256 key, or an Ed25519 key",
        ))
    }

    /// The keys of a JSON Web Key Set (RFC 7517) that can be used here; others are passed over, as section 5 has it.
    ///
    /// # Errors
    /// When it is no key set, or has no such key.
    pub fn of_set(json: &[u8], rules: &Rules) -> Result<Vec<Self>, &'static str> {
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<serde_json::Value>,
        }
        let set: Set = serde_json::from_slice(json).map_err(|_| "is no JSON Web Key Set")?;
        let usable = |value| -> Option<Self> {
            let jwk: Jwk = serde_json::from_value(value).ok()?;
            let algorithm = algorithm_of(&jwk)?;
            let decoding = DecodingKey::from_jwk(&jwk).ok()?;
            Some(Self::new(jwk.common.key_id, algorithm, decoding, rules))
        };
        let keys: Vec<Self> = set.keys.into_iter().filter_map(usable).collect();
        if keys.is_empty() { Err("has no key for HS256, RS256, ES256 or EdDSA") } else { Ok(keys) }
    }
}

/// What a key is for; nothing when it is for something else, or too weak.
fn algorithm_of(jwk: &Jwk) -> Option<Algorithm> {
    if jwk.common.public_key_use.as_ref().is_some_and(|use_of| *use_of != PublicKeyUse::Signature) {
        return None;
    }
    let (algorithm, name) = match &jwk.algorithm {
        AlgorithmParameters::RSA(rsa) if decoded_len(&rsa.n) >= RSA_BYTES_MIN => {
            (Algorithm::RS256, KeyAlgorithm::RS256)
        }
        AlgorithmParameters::EllipticCurve(ec) if ec.curve == EllipticCurve::P256 => {
            (Algorithm::ES256, KeyAlgorithm::ES256)
        }
        AlgorithmParameters::OctetKeyPair(pair) if pair.curve == EllipticCurve::Ed25519 => {
            (Algorithm::EdDSA, KeyAlgorithm::EdDSA)
        }
        AlgorithmParameters::OctetKey(oct) if decoded_len(&oct.value) >= OCT_BYTES_MIN => {
            (Algorithm::HS256, KeyAlgorithm::HS256)
        }
        _ => return None,
    };
    // A key that says what it is for is for nothing else.
    jwk.common.key_algorithm.is_none_or(|named| named == name).then_some(algorithm)
}

/// How many bytes so much base64 without padding stands for.
const fn decoded_len(base64: &str) -> usize {
    base64.len() * 3 / 4
}
