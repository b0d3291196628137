//! How the parrot answers, so that clients can be tested with it: the rows of the table for `parrot.*`.

use shards::core::Micros;
use shards::core::config::Parrot;

use super::keys::Key;
use super::resolve::Resolver;
use super::rows::number;

/// What one packet of speech takes; a chunk is made of whole ones.
const WINDOW_MS: u64 = 20;

const DELAY_MS: Key = number(
    "parrot.delay_ms",
    "milliseconds",
    0,
    (0, 60_000),
    "How long the parrot thinks between the announcement of an answer and its first chunk.",
);

const CHUNK_MS_NAME: &str = "parrot.chunk_ms";

const CHUNK_MS: Key = number(
    CHUNK_MS_NAME,
    "milliseconds",
    0,
    (0, 1_000),
    "How much of the parrot's speech comes at once, a multiple of 20; 0: 100 where all of a room's members take audio in events, otherwise 20. Opus comes by the packet.",
);

const PACE: Key = number(
    "parrot.pace",
    "times the pace of speech",
    1,
    (0, 100),
    "How many times as fast as speech the parrot answers; 0: as fast as a client can take it.",
);

const FAIL_AFTER: Key = number(
    "parrot.fail_after",
    "answers",
    0,
    (0, 1_000_000),
    "After so many answers of a room the next one fails half-way, and counting begins anew; 0: none fails.",
);

/// In the order in which they are shown.
pub(super) const KEYS: &[Key] = &[DELAY_MS, CHUNK_MS, PACE, FAIL_AFTER];

impl Resolver<'_> {
    pub(super) fn check_parrot(&mut self) {
        let chunk = self.number(CHUNK_MS_NAME);
        if !chunk.is_multiple_of(WINDOW_MS) {
            let (below, above) = (chunk / WINDOW_MS * WINDOW_MS, chunk.next_multiple_of(WINDOW_MS));
            let remedy = if below == 0 {
                format!("set it to {above}")
            } else {
                format!("set it to {below} or {above}")
            };
            self.blame(CHUNK_MS_NAME, "must be a multiple of 20".to_owned(), remedy);
        }
    }

    pub(super) fn parrot(&self) -> Parrot {
        Parrot {
            delay: Micros::from_ms(self.number("parrot.delay_ms")),
            chunk: Micros::from_ms(self.number(CHUNK_MS_NAME)),
            pace: self.number("parrot.pace"),
            fail_after: self.number("parrot.fail_after"),
        }
    }
}
