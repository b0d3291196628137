//! Names of events, items and responses. Each is a number, unique within its room, written in hexadecimal.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

macro_rules! numbered {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);

        impl $name {
            /// What stands before the number.
            pub const PREFIX: &'static str = $prefix;
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{:x}"), self.0)
            }
        }
    };
}

numbered!(
    /// Names a server event: `event_<hex>`.
    EventId,
    "event_"
);
numbered!(
    /// Names an item that the server numbered: `item_<hex>`.
    ItemId,
    "item_"
);
numbered!(
    /// Names a response: `resp_<hex>`.
    ResponseId,
    "resp_"
);
numbered!(
    /// Names the conversation of a room: `conv_<hex>`.
    ConversationId,
    "conv_"
);

impl ConversationId {
    /// The conversation of a room: it has only the one.
    pub const OF_ROOM: Self = Self(1);
    /// Stands for none.
    pub const NONE: Self = Self(0);
}

/// The text is not a response's name.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a response id is \"resp_\" and a hexadecimal number")]
pub struct BadResponseId;

impl FromStr for ResponseId {
    type Err = BadResponseId;

    fn from_str(text: &str) -> Result<Self, BadResponseId> {
        let digits = text.strip_prefix(Self::PREFIX).ok_or(BadResponseId)?;
        // `from_str_radix` would take a sign as well.
        if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(BadResponseId);
        }
        u64::from_str_radix(digits, 16).map(Self).map_err(|_| BadResponseId)
    }
}

/// The name of an item: numbered by the server, or brought by the client that created it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ItemName {
    /// The server's number.
    Numbered(ItemId),
    /// The client's own name, at most [`CLIENT_NAME_BYTES_MAX`] long.
    Client(Arc<str>),
}

impl ItemName {
    /// Whether a client means it by this name.
    pub fn is(&self, name: &str) -> bool {
        match self {
            Self::Numbered(id) => id.to_string() == name,
            Self::Client(own) => **own == *name,
        }
    }
}

impl fmt::Display for ItemName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Numbered(id) => id.fmt(f),
            Self::Client(name) => f.write_str(name),
        }
    }
}

/// Longest `event_id` and item id that a client may bring: they are kept and sent back.
pub(super) const CLIENT_NAME_BYTES_MAX: usize = 512;

impl From<ItemId> for ItemName {
    fn from(id: ItemId) -> Self {
        Self::Numbered(id)
    }
}
