//! What rooms remember for members that come back (`room.history_*`), and what lets nobody else come back as them
//! (`auth.resume_key`).

use shards::core::resume_key;

use super::keys::{Default, Key, Kind};
use super::resolve::Resolver;
use super::rows::number;

/// What signs tokens has to be as long as what it makes of them.
const KEY_BYTES_MIN: usize = 32;

const RESUME_KEY_NAME: &str = "auth.resume_key";

pub(super) const EVENTS_MAX: Key = number(
    "room.history_events_max",
    "events",
    256,
    (0, 16_384),
    "Events that a room remembers for members that come back; 0: none. A room without events has no memory of any.",
);

pub(super) const BYTES_MAX: Key = number(
    "room.history_bytes_max",
    "bytes",
    65_536,
    (1_024, 1 << 26),
    "Bytes of them. What a member is told again comes beyond outbox.messages_max and outbox.bytes_max.",
);

pub(super) const RESUME_KEY: Key = Key {
    name: RESUME_KEY_NAME,
    kind: Kind::Secret,
    default: Default::NoSecret,
    reason: "Signs resume tokens: 32 bytes of text or more. Not set: a key of this start alone, or the store's where rooms \
             outlive the process. Whoever knows it can come back as any member.",
};

impl Resolver<'_> {
    pub(super) fn check_resume_key(&mut self) {
        let length = self.secret(RESUME_KEY_NAME).reveal().len();
        if (1..KEY_BYTES_MIN).contains(&length) {
            self.blame(
                RESUME_KEY_NAME,
                format!("is shorter than {KEY_BYTES_MIN} bytes"),
                "make one with `openssl rand -hex 32`".to_owned(),
            );
        }
    }

    /// What resume tokens are signed with, if the operator says so.
    pub(super) fn resume_key(&self) -> Option<[u8; 32]> {
        let secret = self.secret(RESUME_KEY_NAME);
        (!secret.is_empty()).then(|| resume_key(secret.reveal()))
    }
}
