//! `publish.*`: how much may be published at once from outside, for how long an answer is known, and how many dead letters
//! are kept.

use std::time::Duration;

use super::keys::Key;
use super::resolve::Resolver;
use super::rows::number;

const BATCH_MAX: Key = number(
    "publish.batch_max",
    "publications",
    1_000,
    (1, 100_000),
    "Publications in one request of the management API. Its body may have limits.message_bytes_max.",
);

const IDEMPOTENCY_S: Key = number(
    "publish.idempotency_s",
    "seconds",
    600,
    (1, 604_800),
    "For how long the same idempotency key gets the answer that it got, without another publication.",
);

const IDEMPOTENCY_KEYS_MAX: Key = number(
    "publish.idempotency_keys_max",
    "keys",
    100_000,
    (1, 1 << 24),
    "Idempotency keys whose answers are known. Past that the oldest are forgotten early, and counted.",
);

const IDEMPOTENCY_BYTES_MAX: Key = number(
    "publish.idempotency_bytes_max",
    "bytes",
    33_554_432,
    (65_536, 1 << 36),
    "Bytes of idempotency keys and their answers.",
);

const DEAD_LETTERS_MAX: Key = number(
    "publish.dead_letters_max",
    "letters",
    10_000,
    (1, 1 << 24),
    "Publications that could not be delivered and are kept for the operator. Past that the oldest goes, and is counted.",
);

const DEAD_LETTERS_BYTES_MAX: Key =
    number("publish.dead_letters_bytes_max", "bytes", 16_777_216, (65_536, 1 << 36), "Bytes of them.");

/// In the order in which they are shown.
pub(super) const KEYS: &[Key] = &[
    BATCH_MAX,
    IDEMPOTENCY_S,
    IDEMPOTENCY_KEYS_MAX,
    IDEMPOTENCY_BYTES_MAX,
    DEAD_LETTERS_MAX,
    DEAD_LETTERS_BYTES_MAX,
];

/// How much may be published, known and kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PublishConfig {
    /// Publications in one request.
    pub(crate) batch_max: usize,
    /// For how long an idempotency key is known.
    pub(crate) idempotency: Duration,
    /// How many.
    pub(crate) keys_max: usize,
    /// Their bytes.
    pub(crate) keys_bytes_max: usize,
    /// Dead letters.
    pub(crate) letters_max: usize,
    /// Their bytes.
    pub(crate) letters_bytes_max: usize,
}

impl Resolver<'_> {
    pub(super) fn publish_config(&self) -> PublishConfig {
        let count = |name| self.number(name) as usize;
        PublishConfig {
            batch_max: count("publish.batch_max"),
            idempotency: Duration::from_secs(self.number("publish.idempotency_s")),
            keys_max: count("publish.idempotency_keys_max"),
            keys_bytes_max: count("publish.idempotency_bytes_max"),
            letters_max: count("publish.dead_letters_max"),
            letters_bytes_max: count("publish.dead_letters_bytes_max"),
        }
    }
}
