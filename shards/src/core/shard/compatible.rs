//! What `/v1/realtime` and the subprotocol `realtime` ask of a shard besides what all clients do.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::super::conn::Phase;
use super::super::event::{ConversationId, Passed, ServerEvent};
use super::super::http::{Handshake, Request};
use super::super::ids::{ConnKey, RoomKey, SessionId};
use super::super::route;
use super::Shard;

/// The subprotocol with which a browser asks for the beta, since it can't set a header.
const BETA_SUBPROTOCOL: &str = "openai-beta.realtime-v1";

/// Whether a client asks for the words of the beta.
pub(super) fn speaks_beta(request: &Request<'_>, handshake: &Handshake<'_>) -> bool {
    let asked = |value: &[u8]| value == b"realtime=v1";
    request.header_list("openai-beta").any(asked) || handshake.subprotocols.contains(&BETA_SUBPROTOCOL)
}

/// What the beta says of the conversation behind its welcome.
pub(super) fn conversation_created() -> ServerEvent {
    let id = ConversationId::OF_ROOM;
    let members = format!(r#""conversation":{{"id":"{id}","object":"realtime.conversation"}}"#);
    ServerEvent::Passed(Box::new(Passed { name: "conversation.created".into(), members: members.into() }))
}

impl Shard {
    /// A name for a session of which the client has said none: one that this shard owns, so that its connection stays
    /// where it is. What it shows of the stream of numbers does not give away the next.
    pub(super) fn make_up_session(&mut self) -> SessionId {
        loop {
            let (first, second) = (self.rng.next_u64(), self.rng.next_u64());
            let halves = [xxh3_64_with_seed(b"session", first), xxh3_64_with_seed(b"session", second)];
            let id = format!("rt_{:016x}{:016x}", halves[0], halves[1]);
            if route::owner(&id, self.config.shards) == self.id {
                return SessionId::parse(&id).expect("a prefix and hexadecimal digits");
            }
        }
    }

    /// Finds out anew whether all members of a room take audio in events.
    pub(super) fn look_for_binary(&mut self, key: RoomKey) {
        let Some(room) = self.rooms.find(key) else { return };
        let only_events = room.members.iter().all(|member| self.takes_only_events(member.conn));
        if let Some(room) = self.room(key) {
            room.only_events = only_events;
        }
    }

    /// Whether a connection takes audio in events.
    pub(super) fn takes_only_events(&self, key: ConnKey) -> bool {
        let conn = self.conns.find(key);
        matches!(conn.map(|conn| &conn.phase), Some(Phase::Open(open)) if open.subprotocol.only_events())
    }
}
