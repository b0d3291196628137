//! Names of things: shards, connections, rooms, members, sessions.

use std::fmt;
use std::str::FromStr;

/// A shard's place in the node, `0..shards`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
pub struct ShardId(pub u16);

impl ShardId {
    /// The index for per-shard tables.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Names a connection within its shard. The pump hands them out; an index is used again only with a new
/// generation, so that a late completion can't touch its successor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnKey {
    /// The slot, below 2^24.
    pub index: u32,
    /// How many connections the slot has held before.
    pub generation: u32,
}

/// Names a room within its shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RoomKey {
    /// The slot.
    pub index: u32,
    /// How many rooms the slot has held before.
    pub generation: u32,
}

/// A member's number within its room, from 1, never used again while the room lives. Zero stands for the
/// engine or the server itself, as the `track` of the binary header does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
pub struct MemberNumber(pub u16);

/// A connection's public name: shard, slot and generation, so that any node-wide caller can find it.
/// Written `sess_` and 18 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnectionId {
    /// The shard that owns the connection.
    pub shard: ShardId,
    /// Its key there.
    pub key: ConnKey,
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sess_{:04x}{:06x}{:08x}", self.shard.0, self.key.index, self.key.generation)
    }
}

impl serde::Serialize for ConnectionId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The text is not a connection's name.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a connection id is \"sess_\" and 18 hexadecimal digits")]
pub struct BadConnectionId;

impl FromStr for ConnectionId {
    type Err = BadConnectionId;

    fn from_str(text: &str) -> Result<Self, BadConnectionId> {
        let digits = text.strip_prefix("sess_").ok_or(BadConnectionId)?;
        let hex = digits.len() == 18 && digits.bytes().all(|b| b.is_ascii_hexdigit());
        if !hex {
            return Err(BadConnectionId);
        }
        let part =
            |from: usize, to: usize| u32::from_str_radix(&digits[from..to], 16).map_err(|_| BadConnectionId);
        Ok(Self {
            shard: ShardId(part(0, 4)? as u16),
            key: ConnKey { index: part(4, 10)?, generation: part(10, 18)? },
        })
    }
}

/// What a client calls its conversation: 1 to 128 of `A-Z a-z 0-9 . _ ~ : @ -`. It alone decides which shard
/// owns the room.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize)]
pub struct SessionId(Box<str>);

/// Longest session id, in bytes: long enough for any UUID or compound key, short enough for a log line.
pub const SESSION_ID_BYTES_MAX: usize = 128;

/// The text can't be a session id.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a session id is 1 to 128 characters of A-Z a-z 0-9 . _ ~ : @ -")]
pub struct BadSessionId;

impl SessionId {
    /// Takes the text as a session id.
    ///
    /// # Errors
    /// When it is empty, too long, or has a character outside the set.
    pub fn parse(text: &str) -> Result<Self, BadSessionId> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._~:@-".contains(&b);
        if text.is_empty() || text.len() > SESSION_ID_BYTES_MAX || !text.bytes().all(allowed) {
            return Err(BadSessionId);
        }
        Ok(Self(text.into()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_id_reads_back_what_it_writes() {
        let id = ConnectionId { shard: ShardId(3), key: ConnKey { index: 0x1234, generation: 0xdead_beef } };
        assert_eq!(id.to_string(), "sess_0003001234deadbeef");
        assert_eq!(id.to_string().parse(), Ok(id));
        for bad in
            ["", "sess_", "sess_0003001234deadbee", "sess_0003001234deadbeef0", "sess_+003001234deadbeef"]
        {
            assert_eq!(bad.parse::<ConnectionId>(), Err(BadConnectionId), "{bad}");
        }
    }

    #[test]
    fn session_ids_keep_to_their_alphabet_and_length() {
        for good in ["a", "A.z_~:@-9", &"x".repeat(128)] {
            assert_eq!(SessionId::parse(good).expect("valid").as_str(), good);
        }
        for bad in ["", " ", "a/b", "a%20b", "é", "a\n", &"x".repeat(129)] {
            assert_eq!(SessionId::parse(bad), Err(BadSessionId), "{bad}");
        }
    }
}
